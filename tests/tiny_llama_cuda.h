/* A tiny Llama on the device beside the one on the host, and prompts for it. Behind test.h,
 * llm_cuda.cuh and tiny_llama.h, once in each suite: nvcc compiles a chapter as one file, a
 * namespace a suite, so there is no guard. */

enum { MOST = 3, TEXTS = 3, PAGES = 10, V = 24 };
/* The model of a family, opened from its files, and on the device. */
template <typename T> struct model {
    llm_llama cpu;
    llm_cuda_llama<T> m;
    llm_cuda_llama_layer<T> layer[2];
    llm_cuda_llama_scratch<T> s;
};
/* `count` matrices behind each other, or vectors of n, NULL where there are none. */
template <typename T> static const T *matrices(const llm_stored_matrix *w, size_t count) {
    size_t n = 0;
    for (size_t i = 0; i < count; i++) n += w[i].rows * w[i].columns;
    float *all = floats(n), *at = all;
    for (size_t i = 0; i < count; i++) {
        CHECK(w[i].type == LLM_GGUF_BLOCKS_F32);
        memcpy(at, w[i].data, w[i].rows * w[i].columns * sizeof(float));
        at += w[i].rows * w[i].columns;
    }
    return to_device_as<T>(all, n);
}
template <typename T> static const T *vectors(float *const *v, size_t n, size_t count) {
    float *all = floats(count * n);
    if (!v[0]) return NULL;
    for (size_t i = 0; i < count; i++) memcpy(all + i * n, v[i], n * sizeof(float));
    return to_device_as<T>(all, count * n);
}
/* Its config.json is text. All pages are NaN. */
template <typename T>
static void open_model(model<T> &g, const char *family, size_t head, const char *text,
                       size_t context) {
    tiny_llama tiny;
    llm_error e;
    tiny_llama_make(&tiny, family, head);
    const char *dir = tiny_llama_directory(&tiny, text, LLM_SAFETENSORS_F32);
    if (!llm_llama_open(&g.cpu, dir, context, 7, &e))
        test_fail(__FILE__, __LINE__, "%s", e.message);
    const llm_llama_file &file = g.cpu.file;
    const llm_llama_config &c = file.config;
    const size_t half = c.head / 2, D = c.head, C = c.width;
    float *cosine = floats(context * half), *sine = floats(context * half);
    int *place = (int *)test_memory(context, sizeof(int));
    for (size_t i = 0; i < context; i++) place[i] = (int)i;
    llm_yarn_table(cosine, sine, place, file.inv_freq, context, &c.rope);
    CHECK(c.layers == 2);
    for (size_t l = 0; l < 2; l++) {
        const llm_llama_file_layer &w = file.layer[l];
        float *const *v = w.vector;
        llm_cuda_llama_layer<T> &d = g.layer[l];
        d.qkv = matrices<T>(w.matrix + LLM_LLAMA_NAMES_Q, 3);
        d.bias = NULL;
        if (v[LLM_LLAMA_NAMES_Q_BIAS]) { /* q's, and k's and v's of another length */
            float *b = floats((c.heads + 2 * c.kv_heads) * D);
            memcpy(b, v[LLM_LLAMA_NAMES_Q_BIAS], c.heads * D * sizeof(float));
            for (size_t k = 0; k < 2; k++)
                memcpy(b + (c.heads + k * c.kv_heads) * D, v[LLM_LLAMA_NAMES_K_BIAS + k],
                       c.kv_heads * D * sizeof(float));
            d.bias = to_device_as<T>(b, (c.heads + 2 * c.kv_heads) * D);
        }
        d.q_norm = vectors<T>(v + LLM_LLAMA_NAMES_Q_NORM, D, 1);
        d.k_norm = vectors<T>(v + LLM_LLAMA_NAMES_K_NORM, D, 1);
        d.out = matrices<T>(w.matrix + LLM_LLAMA_NAMES_O, 1);
        d.norm1 = vectors<T>(v + LLM_LLAMA_NAMES_NORM1, C, 1);
        d.norm2 = vectors<T>(v + LLM_LLAMA_NAMES_NORM2, C, 1);
        d.out1 = vectors<T>(v + LLM_LLAMA_NAMES_OUT1, C, 1);
        d.out2 = vectors<T>(v + LLM_LLAMA_NAMES_OUT2, C, 1);
        d.ffn.gate = (T *)(uintptr_t)matrices<T>(w.matrix + LLM_LLAMA_NAMES_GATE, 1);
        d.ffn.up = (T *)(uintptr_t)matrices<T>(w.matrix + LLM_LLAMA_NAMES_UP, 1);
        d.ffn.down = (T *)(uintptr_t)matrices<T>(w.matrix + LLM_LLAMA_NAMES_DOWN, 1);
        d.ffn.up_bias = d.ffn.down_bias = NULL;
    }
    const int table[TEXTS * MOST] = {5, 2, 6, 0, 9, 1, 8, 3, 7}; /* no order, and not all */
    const size_t zero[TEXTS] = {0, 0, 0};
    g.m.config = c, g.m.layer = g.layer;
    g.m.embed = matrices<T>(&file.embed, 1), g.m.head = matrices<T>(&file.head, 1);
    float *const norm[1] = {file.norm};
    g.m.norm = vectors<T>(norm, C, 1);
    g.m.cosine = to_device(cosine, context * half), g.m.sine = to_device(sine, context * half);
    g.m.count = PAGES, g.m.page = 64, g.m.most = MOST;
    g.m.pages = to_device<T>(NULL, 2 * PAGES * 2 * c.kv_heads * 64 * D);
    g.m.table = to_device(table, TEXTS * MOST), g.m.length = to_device(zero, TEXTS);
}
/* logits (TEXTS,V) behind count[b] new tokens of each text, from position from[b] of ids[b] on. */
template <typename T>
static void feed(float *logits, model<T> &g, const int *const ids[TEXTS], const size_t *from,
                 const size_t *count) {
    size_t start[TEXTS + 1] = {0}, most = 0;
    for (size_t b = 0; b < TEXTS; b++) {
        start[b + 1] = start[b] + count[b];
        most = count[b] > most ? count[b] : most;
    }
    const size_t N = start[TEXTS];
    int *all = (int *)test_memory(3 * N, sizeof(int)), *text = all + N, *place = text + N,
        last[TEXTS];
    for (size_t b = 0; b < TEXTS; b++) {
        for (size_t t = 0; t < count[b]; t++) {
            const size_t n = start[b] + t;
            all[n] = ids[b][from[b] + t], text[n] = (int)b, place[n] = (int)(from[b] + t);
        }
        last[b] = count[b] ? (int)start[b + 1] - 1 : -1;
    }
    const llm_cuda_llama_batch b = {to_device(all, N),
                                    to_device(text, N),
                                    to_device(place, N),
                                    to_device(last, TEXTS),
                                    to_device(start, TEXTS + 1),
                                    TEXTS,
                                    N,
                                    most};
    const size_t size = llm_cuda_llama_bind(g.s, NULL, g.m.config, TEXTS, N);
    CHECK(llm_cuda_llama_bind(g.s, to_device<unsigned char>(NULL, size), g.m.config, TEXTS, N) ==
          size);
    float *d = to_device<float>(NULL, TEXTS * V);
    CHECK_CUDA(llm_cuda_llama_prefill(d, g.m, b, g.s, 0));
    from_device(logits, d, TEXTS * V);
    size_t length[TEXTS];
    from_device(length, g.m.length, TEXTS);
    for (size_t t = 0; t < TEXTS; t++) CHECK(length[t] == from[t] + count[t]);
}

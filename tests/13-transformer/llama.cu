/* @llama */
#include "../test.h"

#include "../../llm_cuda.cuh"

#include "../tiny_llama.h"

static const struct {
    const char *name;
    size_t head;
} families[6] = {{"llama", 4}, {"llama3", 4}, {"mistral", 4},
                 {"qwen2", 4}, {"qwen3", 8},  {"gemma2", 8}};

enum { MOST = 3, TEXTS = 2, PAGES = 7, V = 24 };
/* The model of a family, opened from its files, and on the device. */
template <typename T> struct model {
    llm_llama cpu;
    llm_cuda_llama<T> m;
    llm_cuda_llama_layer<T> layer[2];
    llm_cuda_llama_scratch<T> s;
};
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
template <typename T> static void open_model(model<T> &g, size_t family, size_t context) {
    tiny_llama tiny;
    llm_error e;
    size_t n;
    static char text[2000];
    const float *config = golden_n(&n, "%s/config", families[family].name);
    for (size_t i = 0; i < n; i++) text[i] = (char)config[i];
    text[n] = 0;
    tiny_llama_make(&tiny, families[family].name, families[family].head);
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
    /* text 0 has pages 5, 2, 6, text 1 the others: no order */
    const int table[TEXTS * MOST] = {5, 2, 6, 0, 4, 1};
    const size_t zero[TEXTS] = {0, 0};
    g.m.config = c, g.m.layer = g.layer;
    g.m.embed = matrices<T>(&file.embed, 1), g.m.head = matrices<T>(&file.head, 1);
    float *const norm[1] = {file.norm};
    g.m.norm = vectors<T>(norm, C, 1);
    g.m.cosine = to_device(cosine, context * half), g.m.sine = to_device(sine, context * half);
    g.m.count = PAGES, g.m.page = 64, g.m.most = MOST;
    g.m.pages = to_device_as<T>(zeros(2 * PAGES * 2 * c.kv_heads * 64 * D),
                                2 * PAGES * 2 * c.kv_heads * 64 * D);
    g.m.table = to_device(table, TEXTS * MOST), g.m.length = to_device(zero, TEXTS);
}
/* logits (TEXTS,V) behind count[b] new tokens of each text, from position from[b] of ids[b] on. */
template <typename T>
static void feed(float *logits, model<T> &g, const int *const ids[TEXTS], const size_t *from,
                 const size_t *count) {
    const size_t N = count[0] + count[1], start[TEXTS + 1] = {0, count[0], N};
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
                                    count[0] > count[1] ? count[0] : count[1]};
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

/* Transformers' logits behind tokens 5 and 11 of each family, the second in a chunk of its own,
 * while another text of the same tokens is one chunk behind. */
template <typename T> static void check_family(size_t family, bool chunks, float tol) {
    model<T> g;
    open_model(g, family, 12);
    const float *golden_ids = golden("%s/ids", families[family].name);
    const float *want = golden("%s/logits", families[family].name);
    int ids[12];
    float got[TEXTS * V];
    for (size_t i = 0; i < 12; i++) ids[i] = (int)golden_ids[i];
    const int *const both[TEXTS] = {ids, ids};
    const size_t from[2][TEXTS] = {{0, 0}, {6, 1}}, count[2][TEXTS] = {{6, 1}, {6, 5}};
    feed(got, g, both, from[0], count[0]);
    CHECK_ALL_NEAR(got, want + V, V, tol);
    CHECK_ALL_NEAR(got + V, want, V, tol); /* behind token 0 */
    if (chunks) {
        feed(got, g, both, from[1], count[1]);
        CHECK_ALL_NEAR(got, want + 2 * V, V, tol);
        CHECK_ALL_NEAR(got + V, want + V, V, tol);
    }
    llm_llama_close(&g.cpu);
}
TEST(llama, "prompts of two texts in chunks and pages: transformers' logits of six families") {
    for (size_t f = TEST_SLOW ? 5 : 0; f < 6; f++)
        check_family<float>(f, !TEST_SLOW && (f == 2 || f == 5), 1e-4f); /* those with windows */
}
TEST(llama, "bfloat16 on tensor cores follows in its rounding") {
    if (!TEST_SLOW) check_family<llm_bf16>(4, true, 0.2f);
}
TEST(llama, "a text of two pages, with a window, equals llm_llama; the other one says nothing") {
    if (TEST_SLOW) return;
    model<float> g;
    open_model(g, 2, 70);
    int ids[70];
    float got[TEXTS * V];
    llm_rng rng = llm_rng_seed(1);
    for (size_t i = 0; i < 70; i++) ids[i] = (int)llm_rng_below(&rng, V);
    const int *const both[TEXTS] = {ids, ids};
    const size_t from[TEXTS] = {0, 0}, more[TEXTS] = {66, 0}, count[2][TEXTS] = {{66, 0}, {4, 0}};
    feed(got, g, both, from, count[0]);
    llm_llama_forward(&g.cpu, ids, 66);
    CHECK_ALL_NEAR(got, g.cpu.logits, V, 1e-4f);
    feed(got, g, both, more, count[1]);
    llm_llama_forward(&g.cpu, ids + 66, 4);
    CHECK_ALL_NEAR(got, g.cpu.logits, V, 1e-4f);
    for (size_t i = 0; i < V; i++) CHECK(got[V + i] == 0.0f); /* last: -1 */

    llm_cuda_llama<float> bad[4] = {g.m, g.m, g.m, g.m};
    llm_cuda_llama_batch none;
    memset(&none, 0, sizeof none);
    bad[0].config.head = 3, bad[1].config.head = 130, bad[2].page = 32, bad[3].page = 0;
    for (size_t i = 0; i < 4; i++)
        CHECK(llm_cuda_llama_prefill(got, bad[i], none, g.s, 0) ==
              (cudaError_t)cudaErrorInvalidValue);
    CHECK_CUDA(llm_cuda_llama_prefill(got, g.m, none, g.s, 0));
    llm_llama_close(&g.cpu);
}

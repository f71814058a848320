/* @llama_step */
#include "../test.h"

#include "../../llm_cuda.cuh"

#include "../tiny_llama.h"
#include "../tiny_llama_cuda.h"

/* The settings of a family with heads and a window of this size, 0: none. */
template <typename T>
static void open_sized(model<T> &g, const char *family, size_t head, size_t window) {
    static char text[1000];
    const bool gemma = strcmp(family, "gemma2") == 0;
    snprintf(text, sizeof text,
             "{\"model_type\": \"%s\", \"head_dim\": %zu, \"hidden_size\": 16, "
             "\"intermediate_size\": 24, \"max_position_embeddings\": 256, \"vocab_size\": 24, "
             "\"num_attention_heads\": 4, \"num_hidden_layers\": 2, \"num_key_value_heads\": 2, "
             "\"rms_norm_eps\": 1e-06, \"rope_theta\": 10000.0, \"sliding_window\": %zu, %s"
             "\"tie_word_embeddings\": %s}",
             family, head, window,
             gemma ? "\"attn_logit_softcapping\": 3.0, \"final_logit_softcapping\": 5.0, "
                     "\"query_pre_attn_scalar\": 12, \"hidden_activation\": "
                     "\"gelu_pytorch_tanh\", "
                   : "\"hidden_act\": \"silu\", ",
             gemma || strcmp(family, "qwen2") == 0 ? "true" : "false");
    if (window == 0) { /* there is no such thing in the file */
        char *at = strstr(text, "\"sliding_window\": 0, ");
        memmove(at, at + 21, strlen(at + 21) + 1);
    }
    open_model(g, family, head, text, MOST * 64);
    CHECK(g.m.config.head == head && g.m.config.window == window);
}

/* Keys and values of layer l of text b up to position `end` <- NaN. */
template <typename T> static void spoil(const model<T> &g, size_t l, size_t b, size_t end) {
    const size_t Hkv = g.m.config.kv_heads, D = g.m.config.head, row = D * sizeof(T);
    int table[TEXTS * MOST];
    from_device(table, g.m.table, TEXTS * MOST);
    for (size_t t = 0; t < end; t++) {
        for (size_t i = 0; i < 2 * Hkv; i++) { /* keys, then values */
            const size_t page = l * PAGES + (size_t)table[b * MOST + t / 64];
            T *at = g.m.pages + ((page * 2 * Hkv + i) * 64 + t % 64) * D;
            CHECK_CUDA(cudaMemset(at, 0xff, row));
        }
    }
}

/* Prompts of given lengths, then `tokens` single tokens for each text, beside llm_llama on all of
 * it; text b waits for hold[b] steps first. */
template <typename T>
static void check_steps(model<T> &g, const size_t *prompt, const size_t *hold, size_t tokens,
                        size_t splits, float tol) {
    const llm_llama_config &c = g.m.config;
    int *ids[TEXTS], next[TEXTS];
    float got[TEXTS * V];
    size_t length[TEXTS], from[TEXTS] = {0, 0, 0};
    llm_rng rng = llm_rng_seed(3);
    for (size_t b = 0; b < TEXTS; b++) {
        ids[b] = (int *)test_memory(MOST * 64, sizeof(int)), length[b] = prompt[b];
        for (size_t i = 0; i < MOST * 64; i++) ids[b][i] = (int)llm_rng_below(&rng, V);
    }
    feed(got, g, ids, from, prompt);
    llm_cuda_llama_step<T> step;
    step.B = TEXTS, step.splits = splits;
    const size_t size = llm_cuda_llama_step_bind(step, NULL, g.m);
    CHECK(llm_cuda_llama_step_bind(step, to_device<unsigned char>(NULL, size), g.m) == size);
    float *d = to_device<float>(NULL, TEXTS * V);
    int *d_next = to_device<int>(NULL, TEXTS);
#ifdef __CUDACC__ /* captured once, replayed for every token */
    cudaStream_t stream;
    cudaGraph_t graph;
    cudaGraphExec_t token;
    CHECK_CUDA(cudaStreamCreate(&stream));
    CHECK_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
    CHECK_CUDA(llm_cuda_llama_step_token(d, g.m, d_next, step, stream));
    CHECK_CUDA(cudaStreamEndCapture(stream, &graph));
    CHECK_CUDA(cudaGraphInstantiateWithFlags(&token, graph, 0));
#endif
    for (size_t t = 0; t < tokens; t++) {
        for (size_t b = 0; b < TEXTS; b++) {
            next[b] = t < hold[b] ? -1 : ids[b][length[b]];
            for (size_t l = 0; l < 2; l++)
                if (llm_llama_config_windowed(&c, l) && length[b] >= c.window)
                    spoil(g, l, b, length[b] + 1 - c.window);
        }
        CHECK_CUDA(cudaMemcpy(d_next, next, sizeof next, cudaMemcpyHostToDevice));
#ifdef __CUDACC__
        CHECK_CUDA(cudaGraphLaunch(token, stream));
#else
        CHECK_CUDA(llm_cuda_llama_step_token(d, g.m, d_next, step, 0));
#endif
        from_device(got, d, TEXTS * V);
        for (size_t b = 0; b < TEXTS; b++) {
            if (next[b] < 0) continue;
            g.cpu.length = 0;
            llm_llama_forward(&g.cpu, ids[b], ++length[b]);
            CHECK_ALL_NEAR(got + b * V, g.cpu.logits, V, tol);
        }
        size_t now[TEXTS];
        from_device(now, g.m.length, TEXTS);
        for (size_t b = 0; b < TEXTS; b++) CHECK(now[b] == length[b]);
    }
    llm_llama_close(&g.cpu);
}

TEST(llama_step,
     "tokens behind prompts of different lengths, in pages of any order, as llm_llama") {
    size_t prompt[TEXTS] = {TEST_SLOW ? 65u : 130u, 62, 0}, hold[TEXTS] = {0, 0, 2};
    const size_t splits[3] = {3, 1, 0};
    const char *family[3] = {"llama", "qwen3", "qwen2"};
    for (size_t f = 0; f < (TEST_SLOW ? 1 : 3); f++) {
        model<float> g;
        open_sized(g, family[f], 4 + 4 * (f % 2), 0);
        check_steps(g, prompt, hold, 4, splits[f], 1e-4f);
        for (size_t b = 0; b < TEXTS; b++) prompt[b] = b; /* the others begin */
    }
}
TEST(llama_step, "windows, whose keys alone are read, and caps: Mistral and Gemma 2") {
    const size_t prompt[TEXTS] = {TEST_SLOW ? 40u : 70u, 30, 5}, hold[TEXTS] = {0, 1, 0};
    const size_t window[3] = {33, 7, 1};
    for (size_t f = 0; f < (TEST_SLOW ? 1 : 3); f++) {
        model<float> g;
        open_sized(g, f == 1 ? "mistral" : "gemma2", 6, window[f]);
        check_steps(g, prompt, hold, TEST_SLOW ? 1 : 3, 1 + f, 1e-4f);
    }
}
TEST(llama_step, "heads over 128, prompts and tokens") {
    const size_t hold[TEXTS] = {0, 0, 0};
    for (size_t f = 0; f < (TEST_SLOW ? 1 : 2); f++) {
        const size_t prompt[TEXTS] = {TEST_SLOW || f ? 1u : 66u, 3, 0};
        model<float> g;
        open_sized(g, f ? "llama" : "gemma2", f ? 130 : 256, f ? 0 : 50);
        check_steps(g, prompt, hold, TEST_SLOW ? 1 : 2, 2, 2e-4f);
    }
}
TEST(llama_step, "bfloat16 stays within its rounding") {
    const size_t hold[TEXTS] = {0, 0, 1};
    if (TEST_SLOW) return;
    for (size_t f = 0; f < 2; f++) {
        const size_t prompt[TEXTS] = {f ? 2u : 66u, 3, 0};
        model<llm_bf16> g;
        open_sized(g, f ? "gemma2" : "qwen3", f ? 160 : 8, f ? 40 : 0);
        check_steps(g, prompt, hold, 2, 3, 0.05f); /* seen: 0.021 */
    }
}

TEST(llama_step, "a text whose pages are full, and a slot without a token, change nothing") {
    if (TEST_SLOW) return;
    model<float> g;
    open_sized(g, "llama", 4, 0);
    const size_t n = 2 * PAGES * 2 * 2 * 64 * 4, full[TEXTS] = {MOST * 64, 5, MOST * 64 - 1};
    const int ids[TEXTS] = {3, -1, 4};
    size_t now[TEXTS];
    float *before = floats(n), *after = floats(n), logits[TEXTS * V];
    llm_rng rng = llm_rng_seed(4);
    llm_rng_normal_fill(&rng, before, n);
    g.m.pages = to_device(before, n), g.m.length = to_device(full, TEXTS);
    llm_cuda_llama_step<float> step;
    step.B = TEXTS, step.splits = 2;
    const size_t size = llm_cuda_llama_step_bind(step, NULL, g.m);
    llm_cuda_llama_step_bind(step, to_device<unsigned char>(NULL, size), g.m);
    float *d = to_device<float>(NULL, TEXTS * V);
    CHECK_CUDA(llm_cuda_llama_step_token(d, g.m, to_device(ids, TEXTS), step, 0));
    from_device(now, g.m.length, TEXTS);
    CHECK(now[0] == full[0] && now[1] == full[1] && now[2] == MOST * 64);
    from_device(after, g.m.pages, n);
    size_t changed = 0; /* page 7 is the last of text 2: its last row, in every layer and head */
    for (size_t i = 0; i < n; i++) {
        const size_t page = i / (2 * 2 * 64 * 4) % PAGES, row = i / 4 % 64;
        if (page == 7 && row == 63)
            changed += after[i] != before[i];
        else
            CHECK(after[i] == before[i]);
    }
    CHECK(changed == 2 * 2 * 2 * 4);
    from_device(logits, d, TEXTS * V);
    for (size_t i = 0; i < V; i++) CHECK(isfinite(logits[2 * V + i]));
    llm_llama_close(&g.cpu);
}

TEST(llama_step, "as many blocks share a head's keys as its room and its window allow") {
    llm_cuda_llama<float> m;
    llm_cuda_llama_step<float> step;
    memset(&m, 0, sizeof m), memset(&step, 0, sizeof step);
    m.config.family = LLM_LLAMA_CONFIG_GEMMA2, m.config.window = 4096, m.config.layers = 2;
    m.config.heads = 8, m.config.kv_heads = 4, m.config.head = 256, m.config.width = 16;
    m.page = 64, m.most = 128, m.length = (size_t *)&m, step.B = 1;
    const llm_cuda_gqa_config near = llm_cuda_llama_step_config(step, m, 0);
    const llm_cuda_gqa_config far = llm_cuda_llama_step_config(step, m, 1);
    CHECK(llm_cuda_gqa_splits(&near) == 16 && llm_cuda_gqa_splits(&far) == 32);
    step.splits = 3;
    const llm_cuda_gqa_config three = llm_cuda_llama_step_config(step, m, 1);
    CHECK(llm_cuda_gqa_splits(&three) == 3);
    const size_t with = llm_cuda_llama_step_bind(step, NULL, m);
    step.splits = 1;
    const size_t part = with - llm_cuda_llama_step_bind(step, NULL, m); /* rounded up */
    CHECK(part >= 8 * 3 * 258 * sizeof(float) && part < 8 * 3 * 258 * sizeof(float) + 256);
    m.page = 32;
    CHECK(llm_cuda_llama_step_token((float *)NULL, m, NULL, step, 0) ==
          (cudaError_t)cudaErrorInvalidValue);
    m.page = 64, step.B = 0;
    CHECK_CUDA(llm_cuda_llama_step_token((float *)NULL, m, NULL, step, 0));
}

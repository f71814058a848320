/* @gpt3 */
#include "../test.h"

#include "../../llm_cuda.cuh"

#include "../tiny_sublayer_cuda.h"

template <typename T> struct model {
    T *wte, *wpe;
    float *dwte, *dwpe, *grads;
    llm_cuda_sublayer_part<T> p[8];
    llm_cuda_sublayer_part<float> g[8];
    llm_cuda_sublayer_acts<T> a[8];
    llm_cuda_sublayer_scratch<T> s;
    llm_cuda_sublayer_view<T> v;
};
template <typename T>
static void make(model<T> &m, const llm_gpt1_config &c, float *flat, size_t B, size_t length,
                 size_t W) {
    const size_t count = llm_gpt1_count(&c);
    m.v = tiny_view<T>(B, length);
    m.grads = to_device(zeros(count), count);
    llm_cuda_gpt3_bind(m.wte, m.wpe, m.p, to_device_as<T>(flat, count), c, W);
    llm_cuda_gpt3_bind(m.dwte, m.dwpe, m.g, m.grads, c, W);
    const llm_cuda_sublayer_config stack = llm_cuda_sublayer_of(c.stack);
    const size_t n = 2 * c.stack.layers;
    const size_t size = llm_cuda_sublayer_bind(m.a, m.s, NULL, m.p, n, m.v, stack);
    llm_cuda_sublayer_bind(m.a, m.s, to_device<unsigned char>(NULL, size), m.p, n, m.v, stack);
}
/* Values at h (N,C); gradients in m.grads for dh (N,C). */
template <typename T>
static void run(model<T> &m, float *h, const llm_gpt1_config &c, const int *ids, float *dh) {
    const size_t N = m.v.N, C = c.stack.width;
    int *order = (int *)test_memory(N, sizeof(int)),
        *segment = (int *)test_memory(N + 1, sizeof(int));
    int *scratch = (int *)test_memory(c.vocab + 1, sizeof(int)), *d_ids = to_device(ids, N);
    const size_t segments = llm_cuda_embedding_sort(order, segment, ids, N, c.vocab, scratch);
    CHECK_CUDA(llm_cuda_gpt3_forward(m.a, d_ids, m.wte, m.wpe, m.p, m.v, c, m.s, 0));
    from_device_as(h, m.a[2 * c.stack.layers].y, N * C);
    T *d = to_device_as<T>(dh, N * C);
    CHECK_CUDA(llm_cuda_gpt3_backward(d, m.dwte, m.dwpe, m.g, m.a, d_ids, to_device(order, N),
                                      to_device(segment, segments + 1), segments, m.p, m.v, c, m.s,
                                      0));
}

/* Against llm_gpt3_forward and llm_gpt1_backward. */
static void check_model(size_t B, size_t length, size_t W, size_t layers, size_t width) {
    llm_gpt1_config c = llm_gpt3_config(LLM_GPT3_125M);
    c.vocab = 5, c.context = length + 1, c.classes = 2;
    c.stack.layers = layers, c.stack.width = width, c.stack.heads = 1, c.stack.hidden = width + 1;
    const size_t count = llm_gpt1_count(&c), N = B * length, n = N * width;
    float *flat = tiny_normal(1, count, 0.4f), *dh = tiny_normal(2, n, 1.0f), *grads = zeros(count);
    float *h = floats(n), *got = floats(count);
    int *ids = (int *)test_memory(N, sizeof(int));
    llm_rng rng = llm_rng_seed(3);
    for (size_t i = 0; i < N; i++) ids[i] = (int)llm_rng_below(&rng, c.vocab);
    model<float> m;
    make(m, c, flat, B, length, W);
    run(m, h, c, ids, dh);
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 1 << 22));
    llm_gpt1_weights w, dw;
    llm_gpt1_acts acts;
    llm_gpt1_bind(&w, flat, &c, &arena);
    llm_gpt1_bind(&dw, grads, &c, &arena);
    CHECK_ALL_NEAR(h, llm_gpt3_forward(&acts, ids, B, length, W, &w, &c, &arena), n, 2e-5f);
    llm_gpt1_backward(dh, &dw, &acts, &w, &c, &arena);
    CHECK_ALL_NEAR(from_device(got, m.grads, count), grads, count, 3e-5f * tiny_most(grads, count));
    llm_arena_destroy(&arena);
}

TEST(gpt3, "states equal GPT-Neo's, full and local layers in turn, and gradients") {
    enum { B = 2, T = 6, C = 4, L = 3, N = B * T, W = 2 };
    llm_gpt1_config c = llm_gpt3_config(LLM_GPT3_125M);
    size_t count;
    c.vocab = 7, c.context = T;
    c.stack.layers = L, c.stack.width = C, c.stack.heads = 2, c.stack.hidden = 4 * C;
    float *flat = golden_n(&count, "tiny/weights"), h[N * C], dh[N * C], got[792];
    const int *ids = as_ints(golden("tiny/ids"), N);
    CHECK(count == llm_gpt1_count(&c) && count == 792);
    /* the loss and its gradient in the states, by the reference: the head is its */
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 1 << 20));
    llm_gpt1_weights w, dw;
    int targets[N];
    float *grads = zeros(count), *states = golden("tiny/h");
    llm_gpt1_bind(&w, flat, &c, &arena), llm_gpt1_bind(&dw, grads, &c, &arena);
    llm_next_token_targets(targets, ids, NULL, B, T);
    memset(dh, 0, sizeof dh);
    llm_gpt1_lm(dh, dw.wte, states, targets, N, 1.0f, &w, &c, &arena);
    model<float> m;
    make(m, c, flat, B, T, W);
    CHECK_CUDA(cudaMemcpy(m.grads, grads, count * sizeof(float), cudaMemcpyHostToDevice));
    run(m, h, c, ids, dh);
    CHECK_GOLDEN(h, N * C, 1e-5f, "tiny/h");
    from_device(got, m.grads, count);
    float *want = golden("tiny/grads");
    llm_gpt1_bind(&dw, got, &c, &arena);
    for (size_t l = 0; l < L; l++) /* GPT-Neo has no such biases */
        memset(dw.stack.attn[l].mha.bq, 0, 3 * C * sizeof(float));
    CHECK_ALL_NEAR(got, want, count, 1e-5f);
    llm_arena_destroy(&arena);
}
TEST(gpt3, "a band of one, and one that crosses tiles, equal llm_gpt3") {
    check_model(1, 4, 1, 2, 3);
    if (!TEST_SLOW) check_model(1, 67, 5, 2, 2);
}
TEST(gpt3, "longer texts than there are places, other norms and dropout are refused") {
    llm_gpt1_config c = llm_gpt3_config(LLM_GPT3_125M);
    c.vocab = 3, c.context = 2, c.stack.layers = 1, c.stack.width = 2, c.stack.heads = 1;
    c.stack.hidden = 2;
    const size_t count = llm_gpt1_count(&c);
    const int ids[3] = {0, 1, 2};
    model<float> m;
    make(m, c, zeros(count), 1, 3, 1);
    llm_gpt1_config bad[3] = {c, c, c};
    bad[1].context = bad[2].context = 3;
    bad[1].stack.norm = LLM_PRENORM_POST, bad[2].stack.dropout = 0.1f;
    for (size_t i = 0; i < 3; i++)
        CHECK(llm_cuda_gpt3_forward(m.a, to_device(ids, 3), m.wte, m.wpe, m.p, m.v, bad[i], m.s,
                                    0) == (cudaError_t)cudaErrorInvalidValue);
}

/* @attn_weights */
#include "../test.h"

#include "../../llm_cuda.cuh"

template <typename T>
static void check_attn_weights(size_t Tk, bool sunk, float dropout, float temp, size_t offset) {
    llm_attn_weights_config c = llm_attn_weights_defaults(2, 2, 3, Tk);
    const size_t rows = 12, n = rows * Tk;
    c.dropout = dropout, c.temp = temp, c.seed = 11, c.offset = offset;
    float *s = floats(n), *dw = floats(n), *ds = floats(n), *p = floats(n), *w = floats(n);
    float *lse = floats(rows), *got = floats(n), *delta = floats(rows);
    float sink[2] = {0.5f, -1.0f}, dsink[2] = {0.25f, 0.5f}, got_sink[2];
    llm_rng rng = llm_rng_seed(Tk);
    llm_rng_normal_fill(&rng, s, n);
    llm_rng_normal_fill(&rng, dw, n);
    llm_rng_normal_fill(&rng, ds, n);
    llm_rng_normal_fill(&rng, delta, rows);
    for (size_t j = 0; j < n; j++) {
        if (j / Tk == 1) s[j] = -INFINITY; /* masked */
        if (j / Tk == 2) s[j] += 1e4f;
        if (llm_rng_uniform(&rng) < 0.1f) s[j] = -INFINITY;
        if (dropout > 0.0f && llm_dropout_scale(dropout, c.seed, offset + j) == 0.0f) dw[j] = NAN;
    }
    const T *d_s = to_device_as<T>(s, n), *d_dw = to_device_as<T>(dw, n);
    T *d_p = to_device<T>(NULL, n + offset) + offset, *d_ds = to_device_as<T>(ds, n);
    T *d_w = dropout > 0.0f ? to_device<T>(NULL, n) : d_p;
    float *d_lse = to_device<float>(NULL, rows);
    const float *d_sink = sunk ? to_device(sink, 2) : NULL;
    llm_arena arena;
    CHECK(llm_arena_create(&arena, (n + 64) * sizeof(float)));
    CHECK_CUDA(llm_cuda_attn_weights_forward(d_w, d_p, d_lse, d_s, d_sink, &c, 0));
    llm_attn_weights_forward(dropout > 0.0f ? w : p, p, lse, s, sunk ? sink : NULL, &c);
    CHECK_STORED(T, from_device_as(got, d_p, n), p, n, 2e-6f);
    if (dropout > 0.0f) CHECK_STORED(T, from_device_as(got, d_w, n), w, n, 2e-6f);
    from_device(got, d_lse, rows);
    for (size_t r = 0; r < rows; r++)
        CHECK_NEAR(got[r], lse[r], 2e-6 * (1.0 + fabs((double)lse[r])));

    const T *d_q = to_device_as<T>(p, n);
    float *d_dsink = sunk ? to_device(dsink, 2) : NULL, *averages = to_device<float>(NULL, rows);
    const float *d_delta = offset ? to_device(delta, rows) : NULL, *l = to_device(lse, rows);
    CHECK_CUDA(llm_cuda_attn_weights_backward(d_ds, d_dsink, d_dw, d_q, l, d_sink, d_delta, &c,
                                              averages, 0));
    llm_attn_weights_backward(ds, sunk ? dsink : NULL, dw, p, lse, sunk ? sink : NULL,
                              offset ? delta : NULL, &c, &arena);
    CHECK_STORED(T, from_device_as(got, d_ds, n), ds, n, 5e-6f);
    if (sunk) CHECK_ALL_NEAR(from_device(got_sink, d_dsink, 2), dsink, 2, 5e-6f);
    llm_arena_destroy(&arena);
}
template <typename T> static void check_attn_weights_all(void) {
    check_attn_weights<T>(1, false, 0.0f, 1.0f, 0);
    check_attn_weights<T>(3, true, 0.0f, 0.5f, 1);
    check_attn_weights<T>(17, true, 0.3f, 1.0f, 0);
    check_attn_weights<T>(64, true, 0.3f, 2.0f, 0);
    if (TEST_SLOW) return;
    check_attn_weights<T>(64, false, 0.5f, 1.0f, 3);
    check_attn_weights<T>(1040, true, 0.2f, 1.0f, 0);
    check_attn_weights<T>(1041, true, 0.2f, 1.0f, 2);
}
TEST(attn_weights,
     "softmax, sinks and dropout equal llm_attn_weights, the same numbers drawn: float") {
    check_attn_weights_all<float>();
}
TEST(attn_weights, "softmax, sinks and dropout equal llm_attn_weights: bfloat16") {
    check_attn_weights_all<llm_bf16>();
}
TEST(attn_weights, "nothing to do is no launch; one array cannot hold weights before and behind") {
    llm_attn_weights_config c = llm_attn_weights_defaults(1, 1, 0, 4);
    float *d = to_device<float>(NULL, 8);
    const float *x = d, *none = NULL;
    CHECK_CUDA(llm_cuda_attn_weights_forward(d, d, d, x, none, &c, 0));
    CHECK_CUDA(llm_cuda_attn_weights_backward(d, (float *)NULL, x, x, x, none, none, &c, d, 0));
    c.dropout = 0.5f;
    CHECK(llm_cuda_attn_weights_forward(d, d, d, x, none, &c, 0) == cudaErrorInvalidValue);
    c.dropout = 0.0f, c.temp = 0.0f;
    CHECK(llm_cuda_attn_weights_forward(d, d, d, x, none, &c, 0) == cudaErrorInvalidValue);
}

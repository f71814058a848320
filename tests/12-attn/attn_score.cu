/* @attn_score */
#include "../test.h"

#include "../../llm_cuda.cuh"

template <typename T>
static void check_attn_score(size_t heads, size_t Tq, size_t Tk, size_t D, float cap) {
    const size_t n = heads * Tq * Tk;
    float *q = floats(heads * Tq * D), *k = floats(heads * Tk * D), *want = floats(n),
          *got = floats(n);
    llm_rng rng = llm_rng_seed(D);
    llm_rng_normal_fill(&rng, q, heads * Tq * D);
    llm_rng_normal_fill(&rng, k, heads * Tk * D);
    const T *d_q = to_device_as<T>(q, heads * Tq * D), *d_k = to_device_as<T>(k, heads * Tk * D);
    T *d_s = to_device<T>(NULL, n);
    CHECK_CUDA(llm_cuda_attn_score_forward(d_s, d_q, d_k, 0.3f, cap, heads, Tq, Tk, D, 0));
    for (size_t h = 0; h < heads; h++) {
        float *s = want + h * Tq * Tk;
        llm_attn_score_dot_forward(s, q + h * Tq * D, k + h * Tk * D, Tq, Tk, D);
        for (size_t i = 0; i < Tq * Tk; i++) s[i] *= 0.3f;
        if (cap > 0.0f) llm_tanh_cap_forward(s, s, Tq * Tk, cap);
    }
    CHECK_STORED(T, from_device_as(got, d_s, n), want, n, 1e-5f); /* sums of up to 64 products */
}
template <typename T> static void check_attn_scores(void) {
    check_attn_score<T>(1, 1, 1, 1, 0.0f);
    check_attn_score<T>(2, 3, 5, 8, 2.0f);
    check_attn_score<T>(2, 17, 2, 20, 0.0f);
    check_attn_score<T>(1, 2, 17, 3, 2.0f);
    if (TEST_SLOW) return;
    check_attn_score<T>(1, 65, 132, 64, 0.0f);
    check_attn_score<T>(2, 130, 65, 64, 2.0f);
}
TEST(attn_score, "the product with scale and soft cap equals llm_attn_score: float") {
    check_attn_scores<float>();
}
TEST(attn_score, "the product with scale and soft cap equals llm_attn_score: bfloat16") {
    check_attn_scores<llm_bf16>();
}
TEST(attn_score, "nothing to do is no launch") {
    float *d = to_device<float>(NULL, 1);
    const float *x = d;
    CHECK_CUDA(llm_cuda_attn_score_forward(d, x, x, 1.0f, 0.0f, 0, 1, 1, 1, 0));
    CHECK_CUDA(llm_cuda_attn_score_forward(d, x, x, 1.0f, 0.0f, 3, 0, 1, 1, 0));
    CHECK_CUDA(llm_cuda_attn_score_forward(d, x, x, 1.0f, 0.0f, 3, 1, 0, 1, 0));
}

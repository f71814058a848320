/* @self_attn */
#include "../test.h"

#include "../../llm_cuda.cuh"

template <typename T>
static void check_self_attn(size_t heads, size_t Tq, size_t Tk, size_t D, float size) {
    const size_t nq = heads * Tq * D, nk = heads * Tk * D, np = heads * Tq * Tk;
    float *q = floats(nq), *k = floats(nk), *v = floats(nk), *p = floats(np), *o = zeros(nq);
    float *got = floats(nq), *got_p = floats(np);
    llm_rng rng = llm_rng_seed(Tk);
    llm_rng_normal_fill(&rng, q, nq);
    llm_rng_normal_fill(&rng, k, nk);
    llm_rng_normal_fill(&rng, v, nk);
    for (size_t i = 0; i < nq; i++) q[i] *= size;
    const T *d_q = to_device_as<T>(q, nq), *d_k = to_device_as<T>(k, nk),
            *d_v = to_device_as<T>(v, nk);
    T *d_o = to_device<T>(NULL, nq), *d_p = to_device<T>(NULL, np);
    CHECK_CUDA(llm_cuda_self_attn_forward(d_o, d_p, d_q, d_k, d_v, heads, Tq, Tk, D, 0));
    for (size_t h = 0; h < heads; h++) {
        float *ph = p + h * Tq * Tk;
        llm_attn_score_dot_forward(ph, q + h * Tq * D, k + h * Tk * D, Tq, Tk, D);
        for (size_t i = 0; i < Tq * Tk; i++) ph[i] /= sqrtf((float)D);
        llm_softmax_forward(ph, ph, Tq, Tk, 1.0f);
        llm_gemm(o + h * Tq * D, ph, false, v + h * Tk * D, false, Tq, D, Tk);
    }
    /* bfloat16 stores scores of up to 4, then weights: two roundings before the mean of the
     * values */
    const float tol = sizeof(T) == 4 ? 1e-5f * size : 0.03f;
    CHECK_STORED(T, from_device_as(got_p, d_p, np), p, np, tol);
    CHECK_STORED(T, from_device_as(got, d_o, nq), o, nq, tol);
}
TEST(self_attn, "scores, softmax and values equal the three products of the reference") {
    check_self_attn<float>(1, 1, 1, 1, 1.0f);
    check_self_attn<float>(2, 3, 17, 20, 1.0f);
    check_self_attn<llm_bf16>(2, 2, 3, 8, 1.0f);
    if (TEST_SLOW) return;
    check_self_attn<float>(1, 65, 65, 64, 1.0f);
    check_self_attn<float>(1, 17, 33, 8, 100.0f);
    check_self_attn<llm_bf16>(1, 65, 64, 64, 1.0f);
    check_self_attn<llm_bf16>(1, 3, 65, 20, 1.0f);
}
TEST(self_attn, "nothing to do is no launch") {
    float *d = to_device<float>(NULL, 1);
    const float *x = d;
    CHECK_CUDA(llm_cuda_self_attn_forward(d, d, x, x, x, 0, 1, 1, 1, 0));
    CHECK_CUDA(llm_cuda_self_attn_forward(d, d, x, x, x, 2, 0, 1, 1, 0));
}

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
/* Gradients from the reference's weights, for heads and lengths that differ. */
template <typename T>
static void check_self_attn_backward(size_t heads, size_t Tq, size_t Tk, size_t D) {
    const size_t nq = heads * Tq * D, nk = heads * Tk * D, np = Tq * Tk;
    float *x[4], *grad[3], *p = floats(heads * np), *dp = floats(np), *ds = floats(np);
    const size_t size[4] = {nq, nk, nk, nq};
    const T *d[4];
    T *d_grad[3];
    float *got = floats(nq + nk);
    llm_rng rng = llm_rng_seed(Tq);
    for (size_t i = 0; i < 4; i++) { /* q, k, v, dout */
        x[i] = floats(size[i]);
        llm_rng_normal_fill(&rng, x[i], size[i]);
        d[i] = to_device_as<T>(x[i], size[i]);
        if (i == 3) break;
        grad[i] = floats(size[i]);
        llm_rng_normal_fill(&rng, grad[i], size[i]);
        d_grad[i] = to_device_as<T>(grad[i], size[i]);
    }
    for (size_t h = 0; h < heads; h++) {
        float *ph = p + h * np;
        llm_attn_score_dot_forward(ph, x[0] + h * Tq * D, x[1] + h * Tk * D, Tq, Tk, D);
        llm_softmax_forward(ph, ph, Tq, Tk, sqrtf((float)D));
    }
    const T *d_p = to_device_as<T>(p, heads * np);
    for (size_t h = 0; h < heads; h++) {
        const float *ph = p + h * np, *g = x[3] + h * Tq * D;
        for (size_t i = 0; i < np; i++) dp[i] = ds[i] = 0.0f;
        llm_gemm(dp, g, false, x[2] + h * Tk * D, true, Tq, Tk, D);
        llm_gemm(grad[2] + h * Tk * D, ph, true, g, false, Tk, D, Tq);
        llm_softmax_backward(ds, dp, ph, Tq, Tk, sqrtf((float)D));
        llm_gemm(grad[0] + h * Tq * D, ds, false, x[1] + h * Tk * D, false, Tq, D, Tk);
        llm_gemm(grad[1] + h * Tk * D, ds, true, x[0] + h * Tq * D, false, Tk, D, Tq);
    }
    CHECK_CUDA(llm_cuda_self_attn_backward(d_grad[0], d_grad[1], d_grad[2], d[3], d_p, d[0], d[1],
                                           d[2], heads, Tq, Tk, D,
                                           to_device<T>(NULL, 2 * heads * np), 0));
    /* bfloat16 stores dP of up to 20 and dS */
    const float tol = sizeof(T) == 4 ? 1e-5f : 0.03f;
    for (size_t i = 0; i < 3; i++)
        CHECK_STORED(T, from_device_as(got, d_grad[i], size[i]), grad[i], size[i], tol);
}
TEST(self_attn, "backward equals the five steps of the reference") {
    check_self_attn_backward<float>(1, 1, 1, 1);
    check_self_attn_backward<float>(2, 3, 17, 20);
    check_self_attn_backward<llm_bf16>(2, 2, 3, 8);
    if (TEST_SLOW) return;
    check_self_attn_backward<float>(1, 65, 33, 64);
    check_self_attn_backward<llm_bf16>(1, 64, 64, 64);
    check_self_attn_backward<llm_bf16>(1, 65, 3, 20);
}
TEST(self_attn, "nothing to do is no launch") {
    float *d = to_device<float>(NULL, 1);
    const float *x = d;
    CHECK_CUDA(llm_cuda_self_attn_forward(d, d, x, x, x, 0, 1, 1, 1, 0));
    CHECK_CUDA(llm_cuda_self_attn_forward(d, d, x, x, x, 2, 0, 1, 1, 0));
    CHECK_CUDA(llm_cuda_self_attn_backward(d, d, d, x, x, x, x, x, 0, 1, 1, 1, d, 0));
    CHECK_CUDA(llm_cuda_self_attn_backward(d, d, d, x, x, x, x, x, 2, 0, 1, 1, d, 0));
    CHECK_CUDA(llm_cuda_self_attn_backward(d, d, d, x, x, x, x, x, 2, 1, 0, 1, d, 0));
}

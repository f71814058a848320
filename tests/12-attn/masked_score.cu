/* @masked_score */
#include "../test.h"

#include "../../llm_cuda.cuh"

static float *masked_score_normal(uint64_t seed, size_t n) {
    float *x = floats(n);
    llm_rng rng = llm_rng_seed(seed);
    llm_rng_normal_fill(&rng, x, n);
    return x;
}

/* offset 1: rows that are not aligned. Masked scores and gradients are NaN. */
template <typename T>
static void check_masked_score(const llm_masked_score_shape c, bool masked, bool biased,
                               size_t offset) {
    const size_t rows = c.B * c.H * c.Tq, n = rows * c.Tk;
    const size_t masks = c.mask_B * c.mask_H * c.mask_Tq * c.Tk;
    const size_t biases = c.bias_B * c.bias_H * c.bias_Tq * c.Tk;
    float *s = masked_score_normal(c.Tk, n), *dp = masked_score_normal(c.Tk + 1, n);
    float *bias = masked_score_normal(3, biases), *ds = masked_score_normal(4, n);
    float *dbias = masked_score_normal(5, biases), *p = floats(n), *lse = floats(rows),
          *got = floats(n);
    bool *allowed = bools(masks);
    llm_rng rng = llm_rng_seed(6);
    for (size_t i = 0; i < masks; i++)
        allowed[i] = llm_rng_uniform(&rng) < 0.6f && (c.mask_Tq == 1 || i / c.Tk % c.mask_Tq != 1);
    const bool *may = masked ? allowed : NULL;
    for (size_t r = 0; r < rows && may; r++)
        for (size_t j = 0; j < c.Tk; j++)
            if (!may[llm_masked_score_at(&c, r, c.mask_B, c.mask_H, c.mask_Tq) + j])
                s[r * c.Tk + j] = dp[r * c.Tk + j] = NAN;
    const T *d_s = to_device_as<T>(s, n), *d_dp = to_device_as<T>(dp, n);
    const T *d_bias = biased ? to_device_as<T>(bias, biases) : NULL;
    const bool *d_may = masked ? to_device(allowed, masks) : NULL;
    T *d_p = to_device<T>(NULL, n + offset) + offset;
    float *d_lse = to_device<float>(NULL, rows);
    CHECK_CUDA(llm_cuda_masked_score_softmax_forward(d_p, d_lse, d_s, d_may, d_bias, &c, 0));
    llm_masked_score_softmax_forward(p, lse, s, may, biased ? bias : NULL, &c);
    CHECK_STORED(T, from_device_as(got, d_p, n), p, n, 1e-6f);
    from_device(got, d_lse, rows);
    for (size_t r = 0; r < rows; r++)
        CHECK_NEAR(got[r], lse[r], 2e-6 * (1.0 + fabs((double)lse[r])));
    CHECK_CUDA(
        llm_cuda_masked_score_softmax_forward(d_p, (float *)NULL, d_s, d_may, d_bias, &c, 0));

    const T *d_q = to_device_as<T>(p, n); /* the weights as they are stored */
    T *d_ds = to_device_as<T>(ds, n);
    float *d_dbias = to_device(dbias, biases), *averages = to_device<float>(NULL, rows);
    CHECK_CUDA(
        llm_cuda_masked_score_softmax_backward(d_ds, d_dbias, d_dp, d_q, d_may, &c, averages, 0));
    llm_masked_score_softmax_backward(ds, dbias, dp, p, may, &c);
    CHECK_STORED(T, from_device_as(got, d_ds, n), ds, n, 2e-6f);
    CHECK_ALL_NEAR(from_device(got, d_dbias, biases), dbias, biases, 1e-5f); /* sums over rows */
    d_dbias = to_device(zeros(biases), biases);
    T *const none = NULL;
    CHECK_CUDA(
        llm_cuda_masked_score_softmax_backward(none, d_dbias, d_dp, d_q, d_may, &c, averages, 0));
    float *alone = zeros(biases);
    llm_masked_score_softmax_backward(NULL, alone, dp, p, may, &c);
    CHECK_ALL_NEAR(from_device(got, d_dbias, biases), alone, biases, 1e-5f);
}

template <typename T> static void check_masked_scores(void) {
    const size_t widths[6] = {1, 3, 17, 64, 200, 1040};
    for (size_t k = 0; k < (TEST_SLOW ? 4 : 6); k++) {
        llm_masked_score_shape c = llm_masked_score_defaults(2, 2, 3, widths[k]);
        check_masked_score<T>(c, true, true, 0); /* mask (1,1,Tq), bias (1,H,Tq) */
        c.mask_B = 2, c.mask_Tq = 1, c.bias_Tq = 1;
        check_masked_score<T>(c, true, true, 1);
        if (k > 3) continue;
        check_masked_score<T>(c, false, true, 0);
        c.mask_H = 2, c.bias_B = 2, c.bias_H = 1, c.bias_Tq = 3;
        check_masked_score<T>(c, true, true, 0);
        check_masked_score<T>(c, true, false, 0);
        c.bias_B = c.bias_Tq = 1;
        check_masked_score<T>(c, false, true, 0);
    }
}
TEST(masked_score, "the kernels equal llm_masked_score for every sharing: float") {
    check_masked_scores<float>();
}
TEST(masked_score, "the kernels equal llm_masked_score for every sharing: bfloat16") {
    check_masked_scores<llm_bf16>();
}

TEST(masked_score, "memory is read once and the caches once; nothing to do is no launch") {
    const llm_masked_score_shape c = llm_masked_score_defaults(1, 1, 5, 64);
    float *x = masked_score_normal(1, 320), *d = to_device(x, 320),
          *d_p = to_device<float>(NULL, 320);
#ifndef __CUDACC__
    emulate_count();
#endif
    CHECK_CUDA(llm_cuda_masked_score_softmax_forward(d_p, (float *)NULL, (const float *)d, NULL,
                                                     (const float *)NULL, &c, 0));
#ifndef __CUDACC__
    CHECK(emulate_counted.read == 2 * 320 * 4 && emulate_counted.written == 320 * 4);
#endif
    const llm_masked_score_shape none = llm_masked_score_defaults(0, 1, 5, 64);
    const llm_masked_score_shape keyless = llm_masked_score_defaults(1, 1, 5, 0);
    float *d_lse = to_device<float>(NULL, 5), lse[5];
    CHECK_CUDA(llm_cuda_masked_score_softmax_forward(d_p, d_lse, (const float *)d, NULL,
                                                     (const float *)NULL, &none, 0));
    CHECK_CUDA(llm_cuda_masked_score_softmax_backward(
        d_p, (float *)NULL, (const float *)d, (const float *)d, NULL, &none, (float *)NULL, 0));
    CHECK_CUDA(llm_cuda_masked_score_softmax_backward(
        d_p, (float *)NULL, (const float *)d, (const float *)d, NULL, &keyless, (float *)NULL, 0));
    CHECK_CUDA(llm_cuda_masked_score_softmax_forward(d_p, d_lse, (const float *)d, NULL,
                                                     (const float *)NULL, &keyless, 0));
    from_device(lse, d_lse, 5);
    for (int i = 0; i < 5; i++) CHECK(lse[i] == -INFINITY);
}

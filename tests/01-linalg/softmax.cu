/* @softmax */
#include "../test.h"

#include "../../llm_cuda.cuh"

/* x (rows,n): scores of many sizes; row 1 has nothing but -inf, row 2 a NaN, row 3 lies at 1e4 */
static float *scores(size_t rows, size_t n) {
    float *x = floats(rows * n);
    llm_rng rng = llm_rng_seed(n);
    for (size_t i = 0; i < rows * n; i++) {
        x[i] = 3.0f * llm_rng_normal(&rng) + (i / n == 3 ? 1e4f : 0.0f);
        if (i / n == 1 || llm_rng_uniform(&rng) < 0.05f) x[i] = -INFINITY;
    }
    if (rows > 2) x[2 * n + n / 2] = NAN;
    return x;
}

template <typename T> static void check_softmax(size_t rows, size_t n, float temp, size_t offset) {
    const size_t all = rows * n;
    float *x = scores(rows, n), *want = floats(all), *got = floats(all + offset);
    float *dp = floats(all), *dx = floats(all), *p = floats(all);
    bool *mask = bools(all);
    llm_rng rng = llm_rng_seed(rows);
    const T *d_x = to_device_as<T>(x, all);
    T *d_p = to_device<T>(NULL, all + offset);
#ifndef __CUDACC__
    emulate_count();
#endif
    CHECK_CUDA(llm_cuda_softmax_forward(d_p + offset, d_x, rows, n, temp, 0));
#ifndef __CUDACC__
    CHECK(emulate_counted.read == 2 * all * sizeof(T)); /* once from memory, once from the caches */
    CHECK(emulate_counted.written == all * sizeof(T));
#endif
    llm_softmax_forward(want, x, rows, n, temp);
    from_device_as(got, d_p + offset, all);
    for (size_t i = 0; i < n && rows > 2; i++) { /* the row with the NaN is NaN, but for the -inf */
        CHECK(isnan(got[2 * n + i]) || x[2 * n + i] == -INFINITY);
        got[2 * n + i] = want[2 * n + i] = 0.0f;
    }
    CHECK_STORED(T, got, want, all, 1e-6f);

    /* masked: the same as -inf, whatever stands there */
    for (size_t i = 0; i < all; i++) {
        mask[i] = llm_rng_uniform(&rng) < 0.6f && i / n != 4;
        if (i / n == 2 && i % n == n / 2) mask[i] = false;
        x[i] = mask[i] ? x[i] : -INFINITY;
    }
    T *d_in_place = to_device_as<T>(x, all);
    for (size_t i = 0; i < all; i++) dx[i] = mask[i] ? x[i] : NAN;
    const T *d_nan = to_device_as<T>(dx, all);
    CHECK_CUDA(llm_cuda_softmax_masked(d_p, d_nan, to_device(mask, all), rows, n, temp, 0));
    llm_softmax_forward(p, x, rows, n, temp);
    CHECK_STORED(T, from_device_as(got, d_p, all), p, all, 1e-6f);
    CHECK_CUDA(llm_cuda_softmax_forward(d_in_place, d_in_place, rows, n, temp, 0));
    CHECK_STORED(T, from_device_as(got, d_in_place, all), p, all, 1e-6f);

    llm_rng_normal_fill(&rng, dp, all);
    llm_rng_normal_fill(&rng, dx, all);
    const T *d_dp = to_device_as<T>(dp, all), *d_q = to_device_as<T>(p, all);
    T *d_dx = to_device_as<T>(dx, all);
    CHECK_CUDA(llm_cuda_softmax_backward(d_dx, d_dp, d_q, rows, n, temp, 0));
    llm_softmax_backward(dx, dp, p, rows, n, temp);
    CHECK_STORED(T, from_device_as(got, d_dx, all), dx, all, 2e-6f);
}

TEST(softmax, "rows of a warp and of a block: forward, masked, in place and backward") {
    const size_t sizes[9] = {1, 2, 31, 40, 128, 1024, 1025, 2048, 5003};
    for (size_t s = 0; s < (TEST_SLOW ? 7 : 9); s++) {
        check_softmax<float>(5, sizes[s], 1.0f, 0);
        check_softmax<float>(s % 4 + 3, sizes[s], 0.7f, 1);
        check_softmax<llm_bf16>(6, sizes[s], 1.3f, s % 2);
    }
    CHECK_CUDA(llm_cuda_softmax_forward((float *)NULL, (float *)NULL, 0, 3, 1.0f, 0));
    CHECK_CUDA(
        llm_cuda_softmax_backward((float *)NULL, (float *)NULL, (float *)NULL, 3, 0, 1.0f, 0));
}

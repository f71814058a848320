/* @rmsnorm */
#include "../test.h"

#include "../../llm_cuda.cuh"

static float *normals(uint64_t seed, size_t n) {
    float *x = floats(n);
    llm_rng rng = llm_rng_seed(seed);
    llm_rng_normal_fill(&rng, x, n);
    return x;
}

/* offset 1 takes the rows off their alignment: the path without vectors */
template <typename T> static void check_forward(size_t N, size_t C, size_t offset) {
    const size_t n = N * C;
    float *x = normals(C, n), *residual = normals(C + 1, n), *w = normals(C + 2, C);
    float *sum = floats(n), *want = floats(n), *want_rstd = floats(N), *got = floats(n);
    const T *d_x = to_device_as<T>(x, n), *d_w = to_device_as<T>(w, C);
    T *d_residual = to_device_as<T>(residual, n), *d_y = to_device<T>(NULL, n + offset);
    float *d_rstd = to_device<float>(NULL, N);
    for (size_t i = 0; i < n; i++) {
        T stored;
        test_storage<T>::store(&stored, residual[i] + x[i]);
        sum[i] = test_storage<T>::load(stored);
    }
#ifndef __CUDACC__
    emulate_count();
#endif
    CHECK_CUDA(
        llm_cuda_rmsnorm_residual(d_y + offset, d_residual, d_rstd, d_x, d_w, N, C, 1e-5f, 0));
#ifndef __CUDACC__
    /* the traffic that the banner states: 4 elements, w, and a float a row */
    CHECK(emulate_counted.read == (2 * n + n) * sizeof(T)); /* w once a row, from L2 */
    CHECK(emulate_counted.written == 2 * n * sizeof(T) + N * sizeof(float));
#endif
    llm_rmsnorm_forward(want, want_rstd, sum, w, N, C, 1e-5f);
    CHECK_ALL_NEAR(from_device_as(got, d_residual, n), sum, n, 0.0f);
    CHECK_STORED(T, from_device_as(got, d_y + offset, n), want, n,
                 1e-5f); /* another order of adding */
    CHECK_ALL_CLOSE(from_device(got, d_rstd, N), want_rstd, N, 1e-5f);

    CHECK_CUDA(llm_cuda_rmsnorm_forward(d_y + offset, (float *)NULL, d_x, d_w, N, C, 1e-6f, 0));
    llm_rmsnorm_forward(want, NULL, x, w, N, C, 1e-6f);
    CHECK_STORED(T, from_device_as(got, d_y + offset, n), want, n, 2e-5f);
}

TEST(rmsnorm, "the fused kernel equals residual + llm_rmsnorm_forward, one thread to many passes") {
    const size_t widths[9] = {1, 2, 31, 33, 40, 768, 1024, 2500, 9000};
    for (size_t s = 0; s < (TEST_SLOW ? 6 : 9); s++) {
        check_forward<float>(s % 3 + 1, widths[s], s % 2);
        check_forward<llm_bf16>(s % 3 + 1, widths[s], s % 2);
        check_forward<llm_bf16>(2, widths[s] / 8 * 8 + 8, 0);
    }
    CHECK_CUDA(llm_cuda_rmsnorm_forward((float *)NULL, (float *)NULL, (float *)NULL, (float *)NULL,
                                        0, 5, 1e-5f, 0));
    float zero[3] = {0.0f, 0.0f, 0.0f}, *d = to_device(zero, 3);
    CHECK_CUDA(llm_cuda_rmsnorm_forward(d, (float *)NULL, d, d, 1, 3, 1e-5f, 0)); /* in place */
    CHECK(from_device(zero, d, 3)[1] == 0.0f);
}

template <typename T> static void check_backward(size_t N, size_t C, size_t offset) {
    const size_t n = N * C, blocks = llm_cuda_rmsnorm_blocks<T>(N, C);
    float *x = normals(C, n), *dy = normals(C + 1, n), *w = normals(C + 2, C), *rstd = floats(N);
    float *dx = normals(C + 3, n), *dw = normals(C + 4, C), *y = floats(n), *got = floats(n);
    const T *d_x = to_device_as<T>(x, n), *d_dy = to_device_as<T>(dy, n),
            *d_w = to_device_as<T>(w, C);
    llm_rmsnorm_forward(y, rstd, x, w, N, C, 1e-5f);
    const float *d_rstd = to_device(rstd, N);
    T *d_dx = to_device_as<T>(dx, n), *d_dx2 = to_device<T>(NULL, n + offset);
    float *d_dw = to_device(dw, C), *scratch = to_device<float>(NULL, blocks * C);
    CHECK_CUDA(llm_cuda_rmsnorm_backward(d_dx, d_dw, d_dy, d_x, d_w, d_rstd, N, C, scratch, 0));
    llm_rmsnorm_backward(dx, dw, dy, x, w, rstd, N, C);
    CHECK_STORED(T, from_device_as(got, d_dx, n), dx, n, 1e-5f);
    /* a sum over N rows in another order */
    CHECK_ALL_NEAR(from_device(got, d_dw, C), dw, C, 1e-6f * (float)(N + 10));

    /* one gradient alone, off its alignment; the other may be NULL */
    CHECK_CUDA(cudaMemset(d_dx2, 0, (n + offset) * sizeof(T)));
    CHECK_CUDA(llm_cuda_rmsnorm_backward(d_dx2 + offset, (float *)NULL, d_dy, d_x, d_w, d_rstd, N,
                                         C, (float *)NULL, 0));
    memset(dx, 0, n * sizeof(float));
    memset(dw, 0, C * sizeof(float));
    llm_rmsnorm_backward(dx, dw, dy, x, w, rstd, N, C);
    CHECK_STORED(T, from_device_as(got, d_dx2 + offset, n), dx, n, 1e-5f);
    CHECK_CUDA(cudaMemset(d_dw, 0, C * sizeof(float)));
    CHECK_CUDA(
        llm_cuda_rmsnorm_backward((T *)NULL, d_dw, d_dy, d_x, d_w, d_rstd, N, C, scratch, 0));
    CHECK_ALL_NEAR(from_device(got, d_dw, C), dw, C, 1e-6f * (float)(N + 10));
}

TEST(rmsnorm, "backward accumulates what llm_rmsnorm_backward does, any gradient may be NULL") {
    const size_t widths[6] = {1, 3, 40, 129, 768, 1500};
    for (size_t s = 0; s < (TEST_SLOW ? 4 : 6); s++) {
        check_backward<float>(s + 1, widths[s], 1);
        check_backward<llm_bf16>(s + 1, widths[s], s % 2);
        check_backward<llm_bf16>(3, widths[s] / 8 * 8 + 8, 0);
    }
    float *d = to_device<float>(NULL, 1);
    CHECK_CUDA(llm_cuda_rmsnorm_backward(d, d, d, d, d, d, 0, 1, d, 0));
}

TEST(rmsnorm, "the backward's blocks share the rows when there are more rows than blocks") {
    CHECK(llm_cuda_rmsnorm_blocks<float>(5, 768) == 5);
    CHECK(llm_cuda_rmsnorm_blocks<float>(100000, 4096) == 256);     /* 1024 threads a block */
    CHECK(llm_cuda_rmsnorm_blocks<float>(100000, 128) == 8192);     /* 32 */
    CHECK(llm_cuda_rmsnorm_blocks<llm_bf16>(100000, 2048) == 1024); /* 256 */
    enum { N = 11, C = 72, BLOCKS = 3 };
    float *x = normals(1, N * C), *dy = normals(2, N * C), *w = normals(3, C), *rstd = floats(N);
    float *dx = zeros(N * C), *dw = zeros(C), *y = floats(N * C), *got = floats(N * C);
    llm_rmsnorm_forward(y, rstd, x, w, N, C, 1e-5f);
    llm_rmsnorm_backward(dx, dw, dy, x, w, rstd, N, C);
    float *d_dx = to_device(zeros(N * C), N * C), *d_dw = to_device(zeros(C), C);
    float *part = to_device<float>(NULL, BLOCKS * C);
    LLM_LAUNCH((llm_rmsnorm_backward_kernel<float, 1>), BLOCKS, 96, C * sizeof(float), 0, d_dx,
               part, to_device(dy, N * C), to_device(x, N * C), to_device(w, C), to_device(rstd, N),
               N, C);
    CHECK_CUDA(cudaGetLastError());
    CHECK_CUDA(llm_cuda_column_sum(d_dw, part, BLOCKS, C, 0));
    CHECK_ALL_NEAR(from_device(got, d_dx, N * C), dx, N * C, 1e-5f);
    CHECK_ALL_NEAR(from_device(got, d_dw, C), dw, C, 1e-5f);
    if (TEST_SLOW) return;
    check_backward<float>(8200, 1, 0);
}

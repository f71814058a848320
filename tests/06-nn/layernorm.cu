/* @layernorm */
#include "../test.h"

#include "../../llm_cuda.cuh"

static float *normals(uint64_t seed, size_t n, float mean) {
    float *x = floats(n);
    llm_rng rng = llm_rng_seed(seed);
    for (size_t i = 0; i < n; i++) x[i] = mean + llm_rng_normal(&rng);
    return x;
}

template <typename T> static void check_forward(size_t N, size_t C, size_t offset) {
    const size_t n = N * C;
    float *x = normals(C, n, 2.0f), *residual = normals(C + 1, n, -3.0f),
          *w = normals(C + 2, C, 1.0f);
    float *b = normals(C + 3, C, 0.0f), *sum = floats(n), *want = floats(n), *got = floats(n);
    float *mean = floats(N), *rstd = floats(N);
    const T *d_x = to_device_as<T>(x, n), *d_w = to_device_as<T>(w, C),
            *d_b = to_device_as<T>(b, C);
    T *d_residual = to_device_as<T>(residual, n), *d_y = to_device<T>(NULL, n + offset);
    float *d_mean = to_device<float>(NULL, N), *d_rstd = to_device<float>(NULL, N);
    for (size_t i = 0; i < n; i++) {
        T stored;
        test_storage<T>::store(&stored, residual[i] + x[i]);
        sum[i] = test_storage<T>::load(stored);
    }
#ifndef __CUDACC__
    emulate_count();
#endif
    CHECK_CUDA(llm_cuda_layernorm_residual(d_y + offset, d_residual, d_mean, d_rstd, d_x, d_w, d_b,
                                           N, C, 1e-5f, 0));
#ifndef __CUDACC__
    CHECK(emulate_counted.read == (2 * n + 2 * n) * sizeof(T)); /* w and b once a row, from L2 */
    CHECK(emulate_counted.written == 2 * n * sizeof(T) + 2 * N * sizeof(float));
#endif
    llm_layernorm_forward(want, mean, rstd, sum, w, b, N, C, 1e-5f);
    CHECK_ALL_NEAR(from_device_as(got, d_residual, n), sum, n, 0.0f);
    CHECK_STORED(T, from_device_as(got, d_y + offset, n), want, n, C == 1 ? 0.0f : 2e-5f);
    CHECK_ALL_NEAR(from_device(got, d_mean, N), mean, N, 2e-6f);
    CHECK_ALL_CLOSE(from_device(got, d_rstd, N), rstd, N, 1e-5f);

    CHECK_CUDA(llm_cuda_layernorm_forward(d_y + offset, (float *)NULL, (float *)NULL, d_x, d_w, d_b,
                                          N, C, 1e-6f, 0));
    llm_layernorm_forward(want, NULL, NULL, x, w, b, N, C, 1e-6f);
    CHECK_STORED(T, from_device_as(got, d_y + offset, n), want, n, C == 2 ? 1e-3f : 2e-5f);
}

TEST(layernorm, "the fused kernel equals residual + llm_layernorm_forward") {
    const size_t widths[8] = {1, 2, 33, 40, 768, 1024, 2500, 9000};
    for (size_t s = 0; s < (TEST_SLOW ? 5 : 8); s++) {
        check_forward<float>(s % 3 + 1, widths[s], s % 2);
        check_forward<llm_bf16>(s % 3 + 1, widths[s], s % 2);
        check_forward<llm_bf16>(2, widths[s] / 8 * 8 + 8, 0);
    }
    CHECK_CUDA(llm_cuda_layernorm_forward((float *)NULL, (float *)NULL, (float *)NULL,
                                          (float *)NULL, (float *)NULL, (float *)NULL, 0, 5, 1e-5f,
                                          0));
}

TEST(layernorm, "a mean of 1e4 costs no digits of the variance, and a constant row gives b") {
    enum { C = 768 };
    float *x = normals(1, 2 * C, 1e4f), *ones = floats(C), *zero = zeros(C), *got = floats(2 * C);
    float *want = floats(2 * C);
    for (size_t i = 0; i < C; i++) ones[i] = 1.0f, x[C + i] = 1234.5f;
    float *d_y = to_device<float>(NULL, 2 * C);
    CHECK_CUDA(llm_cuda_layernorm_forward(d_y, (float *)NULL, (float *)NULL, to_device(x, 2 * C),
                                          to_device(ones, C), to_device(zero, C), 2, C, 1e-5f, 0));
    for (size_t n = 0; n < 2; n++) {
        double mean = 0.0, var = 0.0;
        for (size_t i = 0; i < C; i++) mean += (double)x[n * C + i] / C;
        for (size_t i = 0; i < C; i++) var += pow((double)x[n * C + i] - mean, 2) / C;
        for (size_t i = 0; i < C; i++)
            want[n * C + i] = (float)(((double)x[n * C + i] - mean) / sqrt(var + 1e-5));
    }
    from_device(got, d_y, 2 * C);
    CHECK_ALL_NEAR(got, want, C, 2e-3f);         /* the mean itself is a float: steps of 1e-3 */
    CHECK_ALL_NEAR(got + C, want + C, C, 4e-2f); /* 1e-4 off the mean, over sqrt(eps) */
}

template <typename T> static void check_backward(size_t N, size_t C, size_t offset) {
    const size_t n = N * C, blocks = llm_cuda_layernorm_blocks<T>(N, C);
    float *x = normals(C, n, 1.0f), *dy = normals(C + 1, n, 0.5f), *w = normals(C + 2, C, 1.0f);
    float *dx = normals(C + 3, n, 0.0f), *dw = normals(C + 4, C, 0.0f),
          *db = normals(C + 5, C, 0.0f);
    float *y = floats(n), *b = zeros(C), *mean = floats(N), *rstd = floats(N), *got = floats(n);
    const T *d_x = to_device_as<T>(x, n), *d_dy = to_device_as<T>(dy, n),
            *d_w = to_device_as<T>(w, C);
    llm_layernorm_forward(y, mean, rstd, x, w, b, N, C, 1e-5f);
    const float *d_mean = to_device(mean, N), *d_rstd = to_device(rstd, N);
    T *d_dx = to_device_as<T>(dx, n), *d_dx2 = to_device<T>(NULL, n + offset);
    float *d_dw = to_device(dw, C), *d_db = to_device(db, C);
    float *scratch = to_device<float>(NULL, 2 * blocks * C), *none = NULL;
    CHECK_CUDA(llm_cuda_layernorm_backward(d_dx, d_dw, d_db, d_dy, d_x, d_w, d_mean, d_rstd, N, C,
                                           scratch, 0));
    llm_layernorm_backward(dx, dw, db, dy, x, w, mean, rstd, N, C);
    /* two entries 1e-3 apart have an rstd of 300 */
    const float most = C == 1 ? 400.0f : C < 5 ? 100.0f : 1.0f;
    CHECK_STORED(T, from_device_as(got, d_dx, n), dx, n, 2e-5f * most);
    CHECK_ALL_NEAR(from_device(got, d_dw, C), dw, C, 2e-6f * (float)(N + 10));
    CHECK_ALL_NEAR(from_device(got, d_db, C), db, C, 2e-6f * (float)(N + 10));

    CHECK_CUDA(cudaMemset(d_dx2, 0, (n + offset) * sizeof(T)));
    CHECK_CUDA(llm_cuda_layernorm_backward(d_dx2 + offset, none, none, d_dy, d_x, d_w, d_mean,
                                           d_rstd, N, C, none, 0));
    memset(dx, 0, n * sizeof(float));
    memset(db, 0, C * sizeof(float));
    llm_layernorm_backward(dx, NULL, db, dy, x, w, mean, rstd, N, C);
    CHECK_STORED(T, from_device_as(got, d_dx2 + offset, n), dx, n, 2e-5f * most);
    CHECK_CUDA(cudaMemset(d_db, 0, C * sizeof(float)));
    CHECK_CUDA(llm_cuda_layernorm_backward((T *)NULL, none, d_db, d_dy, d_x, d_w, d_mean, d_rstd, N,
                                           C, scratch, 0));
    CHECK_ALL_NEAR(from_device(got, d_db, C), db, C, 2e-6f * (float)(N + 10));
}

TEST(layernorm, "backward accumulates what llm_layernorm_backward does, any gradient may be NULL") {
    const size_t widths[6] = {1, 3, 40, 129, 768, 1500};
    for (size_t s = 0; s < (TEST_SLOW ? 4 : 6); s++) {
        check_backward<float>(s + 1, widths[s], 1);
        check_backward<llm_bf16>(s + 1, widths[s], s % 2);
        check_backward<llm_bf16>(3, widths[s] / 8 * 8 + 8, 0);
    }
    float *d = to_device<float>(NULL, 1);
    CHECK_CUDA(llm_cuda_layernorm_backward(d, d, d, d, d, d, d, d, 0, 1, d, 0));
}

TEST(layernorm, "the backward's blocks share the rows when there are more rows than blocks") {
    CHECK(llm_cuda_layernorm_blocks<float>(5, 768) == 5);
    CHECK(llm_cuda_layernorm_blocks<float>(100000, 4096) == 256);     /* 1024 threads a block */
    CHECK(llm_cuda_layernorm_blocks<llm_bf16>(100000, 2048) == 1024); /* 256 */
    enum { N = 11, C = 72, BLOCKS = 3 };
    float *x = normals(1, N * C, 0.0f), *dy = normals(2, N * C, 0.0f), *w = normals(3, C, 1.0f);
    float *mean = floats(N), *rstd = floats(N), *y = floats(N * C), *got = floats(N * C);
    float *dx = zeros(N * C), *dw = zeros(C), *db = zeros(C);
    llm_layernorm_forward(y, mean, rstd, x, w, db, N, C, 1e-5f);
    llm_layernorm_backward(dx, dw, db, dy, x, w, mean, rstd, N, C);
    float *d_dx = to_device(zeros(N * C), N * C), *d_dw = to_device(zeros(C), C);
    float *d_db = to_device(zeros(C), C), *part = to_device<float>(NULL, 2 * BLOCKS * C);
    LLM_LAUNCH((llm_layernorm_backward_kernel<float, 4>), BLOCKS, 96, 2 * C * sizeof(float), 0,
               d_dx, part, to_device(dy, N * C), to_device(x, N * C), to_device(w, C),
               to_device(mean, N), to_device(rstd, N), N, C);
    CHECK_CUDA(cudaGetLastError());
    CHECK_CUDA(llm_cuda_column_sum(d_dw, part, BLOCKS, C, 0));
    CHECK_CUDA(llm_cuda_column_sum(d_db, part + BLOCKS * C, BLOCKS, C, 0));
    CHECK_ALL_NEAR(from_device(got, d_dx, N * C), dx, N * C, 1e-5f);
    CHECK_ALL_NEAR(from_device(got, d_dw, C), dw, C, 1e-5f);
    CHECK_ALL_NEAR(from_device(got, d_db, C), db, C, 1e-5f);
}

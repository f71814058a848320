/* @residual */
#include "../test.h"

#include "../../llm_cuda.cuh"

static float *normals(uint64_t seed, size_t n) {
    float *x = floats(n);
    llm_rng rng = llm_rng_seed(seed);
    llm_rng_normal_fill(&rng, x, n);
    return x;
}

/* offset 1 takes the rows off their alignment: the path without vectors */
template <typename T> static void check_alpha(size_t n, size_t offset) {
    float *x = normals(n, n), *f = normals(n + 1, n), *dy = normals(n + 2, n);
    float *dx = normals(n + 3, n), *df = normals(n + 4, n), *y = floats(n), *got = floats(n);
    float dalpha = 2.0f, got_alpha;
    const T *d_x = to_device_as<T>(x, n), *d_f = to_device_as<T>(f, n);
    const T *d_dy = to_device_as<T>(dy, n);
    T *d_dx = to_device_as<T>(dx, n), *d_df = to_device<T>(NULL, n + offset);
    T *d_y = to_device<T>(NULL, n + offset), *df_from = to_device_as<T>(df, n);
    CHECK_CUDA(cudaMemcpy(d_df + offset, df_from, n * sizeof(T), cudaMemcpyDeviceToDevice));
    float *d_alpha = to_device(&dalpha, 1);
    float *scratch = to_device<float>(NULL, n * llm_cuda_residual_shares<T>(1, n));
    CHECK_CUDA(llm_cuda_residual_forward(d_y + offset, d_x, d_f, n, 0.7f, 0));
    llm_residual_forward(y, x, f, n, 0.7f);
    CHECK_STORED(T, from_device_as(got, d_y + offset, n), y, n, 1e-6f);

    CHECK_CUDA(
        llm_cuda_residual_backward(d_dx, d_df + offset, d_alpha, d_dy, d_f, n, 0.7f, scratch, 0));
    llm_residual_backward(dx, df, &dalpha, dy, f, n, 0.7f);
    CHECK_STORED(T, from_device_as(got, d_dx, n), dx, n, 1e-6f);
    CHECK_STORED(T, from_device_as(got, d_df + offset, n), df, n, 1e-6f);
    CHECK_NEAR(from_device(&got_alpha, d_alpha, 1)[0], dalpha, 1e-6 * sqrt((double)n + 16.0));
}

template <typename T> static void check_rows(size_t N, size_t C, size_t offset) {
    const size_t n = N * C;
    float *x = normals(n, n), *f = normals(n + 1, n), *dy = normals(n + 2, n);
    float *dx = normals(n + 3, n), *df = normals(n + 4, n), *dscale = normals(n + 5, C);
    float *scale = normals(n + 6, C), *y = floats(n), *got = floats(n);
    bool *keep = bools(N);
    for (size_t i = 0; i < N; i++) keep[i] = i % 3 != 1;
    const T *d_x = to_device_as<T>(x, n), *d_f = to_device_as<T>(f, n);
    const T *d_dy = to_device_as<T>(dy, n), *d_scale = to_device_as<T>(scale, C);
    T *d_dx = to_device_as<T>(dx, n), *d_df = to_device_as<T>(df, n);
    T *d_y = to_device<T>(NULL, n + offset), *none = NULL;
    float *d_dscale = to_device(dscale, C);
    const bool *d_keep = to_device(keep, N);
    float *scratch = to_device<float>(NULL, C * llm_cuda_residual_shares<T>(N, C));
    CHECK_CUDA(llm_cuda_residual_scale_forward(d_y + offset, d_x, d_f, d_scale, N, C, 0));
    llm_residual_scale_forward(y, x, f, scale, N, C);
    CHECK_STORED(T, from_device_as(got, d_y + offset, n), y, n, 2e-6f);
    CHECK_CUDA(llm_cuda_residual_scale_backward(d_dx, d_df, d_dscale, d_dy, d_f, d_scale, N, C,
                                                scratch, 0));
    llm_residual_scale_backward(dx, df, dscale, dy, f, scale, N, C);
    CHECK_STORED(T, from_device_as(got, d_dx, n), dx, n, 1e-6f);
    CHECK_STORED(T, from_device_as(got, d_df, n), df, n, 2e-6f);
    CHECK_ALL_NEAR(from_device(got, d_dscale, C), dscale, C, 1e-6f * (float)(N + 10));

    for (size_t i = 0; i < n; i++) /* what is dropped is not read */
        if (!keep[i / C]) f[i] = NAN;
    d_f = to_device_as<T>(f, n), d_df = to_device_as<T>(df, n);
    CHECK_CUDA(llm_cuda_residual_depth_forward(d_y + offset, d_x, d_f, d_keep, N, C, 0.25f, 0));
    llm_residual_depth_forward(y, x, f, keep, N, C, 0.25f);
    CHECK_STORED(T, from_device_as(got, d_y + offset, n), y, n, 2e-6f);
    CHECK_CUDA(llm_cuda_residual_depth_backward(none, d_df, d_dy, d_keep, N, C, 0.25f, 0));
    llm_residual_depth_backward(NULL, df, dy, keep, N, C, 0.25f);
    CHECK_STORED(T, from_device_as(got, d_df, n), df, n, 2e-6f);
}

TEST(residual, "the kernels equal the three forms of llm.h and their gradients") {
    const size_t widths[7] = {1, 3, 32, 257, 264, 1000, 2500};
    for (size_t s = 0; s < (TEST_SLOW ? 5 : 7); s++) {
        check_alpha<float>(widths[s], s % 2);
        check_alpha<llm_bf16>(widths[s] * 8, s % 2);
        check_rows<float>(s + 1, widths[s], s % 2);
        check_rows<llm_bf16>(7, widths[s], 0);
    }
    check_rows<llm_bf16>(3, 2056, 0); /* two blocks of vectors a row */
    if (TEST_SLOW) return;
    check_alpha<float>(100003, 0);
    check_rows<float>(1500, 3, 0); /* more rows than shares */
}

TEST(residual, "shares of the learned gain by the shape alone: 2^18 threads, at least a row") {
    CHECK(llm_cuda_residual_shares<float>(10, 768) == 10);
    CHECK(llm_cuda_residual_shares<float>(5000, 1024) == 1024); /* one block of vectors a row */
    CHECK(llm_cuda_residual_shares<float>(5000, 1028) == 512);
    CHECK(llm_cuda_residual_shares<llm_bf16>(5000, 2048) == 1024);
    CHECK(llm_cuda_residual_shares<float>(5000, 3) == 1024);
    CHECK(llm_cuda_residual_shares<float>(7, 1 << 22) == 1);
}

TEST(residual, "all gains at once, in place, and gradients one at a time") {
    enum { N = 3, C = 4 };
    float x[N * C], f[N * C], scale[C] = {1, 2, 0, -1}, got[N * C], want[N * C];
    bool keep[N] = {true, false, true};
    for (size_t i = 0; i < N * C; i++) x[i] = (float)i, f[i] = i / C == 1 ? NAN : 1.0f;
    float *d_x = to_device(x, N * C), *d_f = to_device(f, N * C), *none = NULL;
    const float *d_scale = to_device(scale, C);
    const bool *d_keep = to_device(keep, N);
    CHECK_CUDA(llm_cuda_residual_rows(d_x, d_x, d_f, d_scale, d_keep, N, C, 10.0f, 0));
    for (size_t i = 0; i < N * C; i++)
        want[i] = x[i] + (i / C == 1 ? 0.0f : 10.0f * scale[i % C]); /* by hand */
    CHECK_ALL_NEAR(from_device(got, d_x, N * C), want, N * C, 0.0f);
    CHECK_CUDA(llm_cuda_residual_backward(none, none, none, d_x, none, N * C, 1.0f, none, 0));
    float *d_df = to_device(zeros(N * C), N * C);
    CHECK_CUDA(llm_cuda_residual_backward(none, d_df, none, d_x, none, N * C, 2.0f, none, 0));
    for (size_t i = 0; i < N * C; i++) want[i] *= 2.0f;
    CHECK_ALL_NEAR(from_device(got, d_df, N * C), want, N * C, 0.0f);
    CHECK_CUDA(llm_cuda_residual_forward(none, none, none, 0, 1.0f, 0));
    CHECK_CUDA(llm_cuda_residual_backward(none, none, none, none, none, 0, 1.0f, none, 0));
}

TEST(residual, "traffic: three elements, two where the branch is dropped") {
    enum { N = 4, C = 512 };
    bool keep[N] = {true, false, false, false};
    float *d_x = to_device(zeros(N * C), N * C), *d_y = to_device<float>(NULL, N * C);
    float got = NAN;
    const bool *d_keep = to_device(keep, N);
#ifndef __CUDACC__
    emulate_count();
#endif
    CHECK_CUDA(llm_cuda_residual_depth_forward(d_y, d_x, d_x, d_keep, N, C, 0.5f, 0));
#ifndef __CUDACC__
    CHECK(emulate_counted.read == 4 * (N * C + C));
    CHECK(emulate_counted.written == 4 * N * C);
#endif
    CHECK(from_device(&got, d_y, 1)[0] == 0.0f);
}

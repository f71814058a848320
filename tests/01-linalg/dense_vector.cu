/* @dense_vector */
#include "../test.h"

#include "../../llm_cuda.cuh"

template <typename T> static void check_dot(size_t n, size_t offset) {
    float *x = floats(n + offset), *y = floats(n + offset), got = NAN, again = NAN;
    float *want = floats(n), *all = floats(n + 1), a = -1.75f;
    llm_rng rng = llm_rng_seed(n);
    llm_rng_normal_fill(&rng, x, n + offset);
    llm_rng_normal_fill(&rng, y, n + offset);
    const T *d_x = to_device_as<T>(x, n + offset) + offset;
    const T *d_y = to_device_as<T>(y, n + offset);
    float *d_dot = to_device<float>(NULL, 1);
    double *d_part = to_device<double>(NULL, LLM_CUDA_DENSE_VECTOR_BLOCKS), sum = 0.0, size = 0.0;
    for (size_t i = 0; i < n; i++) {
        sum += (double)x[offset + i] * (double)y[i];
        size += fabs((double)x[offset + i] * (double)y[i]);
        want[i] = y[i] + a * x[offset + i];
    }
    CHECK_CUDA(llm_cuda_dense_vector_dot(d_dot, d_part, d_x, d_y, n, 0));
    CHECK_NEAR(*from_device(&got, d_dot, 1), sum, 3e-7 * size + 1e-7 * fabs(sum));
    CHECK_CUDA(llm_cuda_dense_vector_dot(d_dot, d_part, d_x, d_y, n, 0));
    CHECK(memcmp(from_device(&again, d_dot, 1), &got, sizeof got) == 0);

    T *d_sum = to_device<T>(NULL, n + 1);
    CHECK_CUDA(cudaMemcpy(d_sum, d_y, n * sizeof(T), cudaMemcpyDeviceToDevice));
    CHECK_CUDA(llm_cuda_dense_vector_axpy(d_sum, a, d_x, n, 0));
    from_device_as(all, d_sum, n + 1);
    CHECK_STORED(T, all, want, n, 1e-6f);
    CHECK(isnan(all[n])); /* nothing behind the end */
}

TEST(dense_vector, "dot and axpy equal the sums in double, whatever the length and alignment") {
    const size_t sizes[9] = {0, 1, 2, 3, 5, 8, 1023, 1024, 2051};
    for (size_t s = 0; s < 9; s++) {
        for (size_t offset = 0; offset < 2; offset++) {
            check_dot<float>(sizes[s], offset);
            check_dot<llm_bf16>(sizes[s], offset);
        }
    }
}

TEST(dense_vector,
     "a thread's large term does not swallow its next; infinities that meet are NaN") {
    enum { PASS = 256 * LLM_CUDA_DENSE_VECTOR_BLOCKS, MORE = 100, N = PASS + MORE };
    const size_t n = TEST_SLOW ? 1000 : N;
    float *x = zeros(N + 1), *y = zeros(N + 1), got = NAN, *d_dot = to_device<float>(NULL, 1);
    double *d_part = to_device<double>(NULL, LLM_CUDA_DENSE_VECTOR_BLOCKS);
    x[1] = 1e8f, x[2] = -1e8f; /* without vectors; PASS entries on, their threads meet a 1 */
    for (size_t i = 0; i <= n; i++) y[i] = 1.0f;
    for (size_t i = n - MORE; i < n; i++) x[i + 1] = 1.0f;
    float *d_x = to_device(x, n + 1), *d_y = to_device(y, n + 1);
    CHECK_CUDA(llm_cuda_dense_vector_dot(d_dot, d_part, d_x + 1, d_y + 1, n, 0));
    CHECK_NEAR(*from_device(&got, d_dot, 1), MORE, 0.0);
    CHECK_CUDA(llm_cuda_dense_vector_axpy(d_y + 1, 3.0f, d_x + 1, n, 0));
    from_device(y, d_y, n + 1);
    for (size_t i = 0; i <= n; i++) CHECK(y[i] == (i > 0 ? 1.0f + 3.0f * x[i] : 1.0f));
    const float ones[3] = {1.0f, 1.0f, 1.0f};
    x[1] = INFINITY, x[2] = -INFINITY;
    CHECK_CUDA(llm_cuda_dense_vector_dot(d_dot, d_part, to_device(x, 3), to_device(ones, 3), 3, 0));
    CHECK(isnan(*from_device(&got, d_dot, 1)));
}

TEST(dense_vector, "traffic: x and y in once, y out once") {
    enum { N = 8192 };
    const float *d_x = to_device(zeros(N), N);
    float *d_y = to_device(zeros(N), N), *d_dot = to_device<float>(NULL, 1), got = NAN;
    double *d_part = to_device<double>(NULL, LLM_CUDA_DENSE_VECTOR_BLOCKS);
#ifndef __CUDACC__
    emulate_count();
#endif
    CHECK_CUDA(llm_cuda_dense_vector_dot(d_dot, d_part, d_x, d_y, N, 0));
#ifndef __CUDACC__
    CHECK(emulate_counted.read == 2 * N * sizeof(float));
    emulate_count();
#endif
    CHECK_CUDA(llm_cuda_dense_vector_axpy(d_y, 2.0f, d_x, N, 0));
#ifndef __CUDACC__
    CHECK(emulate_counted.read == 2 * N * sizeof(float));
    CHECK(emulate_counted.written == N * sizeof(float));
#endif
    CHECK(*from_device(&got, d_dot, 1) == 0.0f);
}

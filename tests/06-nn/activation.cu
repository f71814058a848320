/* @activation */
#include "../test.h"

#include "../../llm_cuda.cuh"

/* values from -6 to 6, the kinks among them, and some far out */
static float *points(size_t seed, size_t n) {
    const float special[9] = {0.0f, -3.0f, 3.0f, 1e-3f, -1e-3f, 50.0f, -50.0f, 10.0f, -10.0f};
    float *x = floats(n);
    llm_rng rng = llm_rng_seed(seed);
    for (size_t i = 0; i < n; i++)
        x[i] = llm_rng_uniform(&rng) < 0.1f ? special[i % 9] : 2.0f * llm_rng_normal(&rng);
    return x;
}

template <typename T>
static void check_activation(size_t N, size_t C, int kind, size_t offset, bool bias) {
    const size_t n = N * C, shares = llm_cuda_activation_shares<T>(N, C);
    float *x = points(C, n), *b = points(C + 1, C), *dy = points(C + 2, n), *dx = points(C + 3, n);
    float *db = points(C + 4, C), *sum = floats(n), *want = floats(n), *got = floats(n);
    float *d = zeros(n);
    const T *d_x = to_device_as<T>(x, n), *d_b = bias ? to_device_as<T>(b, C) : NULL;
    const T *d_dy = to_device_as<T>(dy, n);
    T *d_y = to_device<T>(NULL, n + offset), *d_dx = to_device_as<T>(dx, n);
    float *d_db = to_device(db, C), *scratch = to_device<float>(NULL, shares * C);
    for (size_t i = 0; i < n; i++) sum[i] = bias ? x[i] + b[i % C] : x[i];
#ifndef __CUDACC__
    emulate_count();
#endif
    CHECK_CUDA(llm_cuda_activation_forward(d_y + offset, d_x, d_b, N, C, kind, 0));
#ifndef __CUDACC__
    CHECK(emulate_counted.read == (bias ? 2 : 1) * n * sizeof(T)); /* b once a row, from L2 */
    CHECK(emulate_counted.written == n * sizeof(T));
#endif
    llm_activation_forward(want, sum, n, kind);
    from_device_as(got, d_y + offset, n);
    for (size_t i = 0; i < n; i++)
        CHECK_NEAR(got[i], want[i], (2e-6f + unit_of<T>()) * (1 + fabsf(want[i])));

    CHECK_CUDA(llm_cuda_activation_backward(d_dx, d_db, d_dy, d_x, d_b, N, C, kind, scratch, 0));
    llm_activation_backward(d, dy, sum, n, kind);
    for (size_t i = 0; i < n; i++) dx[i] += d[i], db[i % C] += d[i];
    from_device_as(got, d_dx, n);
    for (size_t i = 0; i < n; i++)
        CHECK_NEAR(got[i], dx[i], (1e-5f + unit_of<T>()) * (1 + fabsf(dx[i])));
    from_device(got, d_db, C);
    for (size_t i = 0; i < C; i++) CHECK_NEAR(got[i], db[i], 2e-5f * (1 + fabsf(db[i]) + (float)N));
}

TEST(activation, "forward with a bias and backward with its gradient, every kind") {
    for (int kind = 0; kind < LLM_ACTIVATION_COUNT; kind++) {
        check_activation<float>(3, 40, kind, 0, true);
        check_activation<llm_bf16>(2, 17, kind, 1, false);
    }
}

TEST(activation, "sizes around the vector and the block, aligned and not") {
    const size_t widths[6] = {1, 7, 256, 1024, 1028, 2056};
    for (size_t s = 0; s < (TEST_SLOW ? 4 : 6); s++) {
        check_activation<float>(s + 1, widths[s], LLM_ACTIVATION_GELU_TANH, s % 2, true);
        check_activation<llm_bf16>(s + 2, widths[s] / 8 * 8 + 8, LLM_ACTIVATION_SILU, 0, true);
        check_activation<llm_bf16>(3, widths[s], LLM_ACTIVATION_RELU, 1, false);
    }
    if (!TEST_SLOW) check_activation<float>(1100, 3, LLM_ACTIVATION_TANH, 0, true); /* rows share */
    float *d = to_device<float>(NULL, 1), *none = NULL;
    CHECK_CUDA(llm_cuda_activation_forward(d, d, none, 0, 1, 0, 0));
    CHECK_CUDA(llm_cuda_activation_backward(d, d, d, d, none, 1, 0, 0, d, 0));
    CHECK_CUDA(llm_cuda_activation_backward(none, none, d, d, none, 1, 1, 0, none, 0));
}

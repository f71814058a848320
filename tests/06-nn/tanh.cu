/* @tanh */
#include "../test.h"

#include "../../llm_cuda.cuh"

static float *points(size_t seed, size_t n) {
    const float special[6] = {0.0f, 1e-8f, -1e-3f, 50.0f, -50.0f, 9.0f};
    float *x = floats(n);
    llm_rng rng = llm_rng_seed(seed);
    for (size_t i = 0; i < n; i++)
        x[i] = llm_rng_uniform(&rng) < 0.1f ? special[i % 6] : 3.0f * llm_rng_normal(&rng);
    return x;
}

template <typename T> static void check_tanh(size_t n, float cap, int kind, size_t offset) {
    float *x = points(n, n), *dy = points(n + 1, n), *dx = points(n + 2, n);
    float *y = floats(n), *want = floats(n);
    T *d_x = to_device_as<T>(x, n), *d_y = to_device<T>(NULL, n + offset);
    T *d_dy = to_device_as<T>(dy, n), *d_dx = to_device_as<T>(dx, n);
#ifndef __CUDACC__
    emulate_count();
#endif
    CHECK_CUDA(llm_cuda_tanh_cap_forward(d_y + offset, d_x, n, cap, kind, 0));
#ifndef __CUDACC__
    CHECK(emulate_counted.read == n * sizeof(T) && emulate_counted.written == n * sizeof(T));
#endif
    llm_tanh_cap_forward(want, x, n, cap);
    from_device_as(y, d_y + offset, n);
    const float tol = kind == LLM_CUDA_TANH_HARDWARE ? 6e-4f : 1e-6f; /* 2^-10.99 */
    for (size_t i = 0; i < n; i++)
        CHECK_NEAR(y[i], want[i], (tol + unit_of<T>()) * fabsf(want[i]) + 1e-30f);
    CHECK_CUDA(llm_cuda_tanh_cap_backward(d_dx, d_dy, d_y + offset, n, cap, 0));
    llm_tanh_cap_backward(dx, dy, y, n, cap);
    from_device_as(want, d_dx, n);
    for (size_t i = 0; i < n; i++)
        CHECK_NEAR(want[i], dx[i], (2e-6f + unit_of<T>()) * (1 + fabsf(dx[i]) + fabsf(dy[i])));
}

TEST(tanh, "with a cap and without, in three ways, forward and backward, aligned and not") {
    const size_t sizes[6] = {1, 3, 8, 257, 1024, 2056};
    for (size_t s = 0; s < (TEST_SLOW ? 4 : 6); s++)
        for (int kind = 0; kind < 3; kind++) {
            check_tanh<float>(sizes[s], s % 2 ? 1.0f : 30.0f, kind, s % 2);
            check_tanh<llm_bf16>(sizes[s], s % 2 ? 2.5f : 1.0f, kind, (s + 1) % 2);
        }
    float *d = to_device<float>(NULL, 1);
    CHECK_CUDA(llm_cuda_tanh_cap_forward(d, d, 0, 1.0f, LLM_CUDA_TANH_EXACT, 0));
    CHECK_CUDA(llm_cuda_tanh_cap_backward(d, d, d, 0, 1.0f, 0));
}

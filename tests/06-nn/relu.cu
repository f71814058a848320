/* @relu */
#include "../test.h"

#include "../../llm_cuda.cuh"

template <typename T> static void check_relu(size_t n, float cap, bool with_mask) {
    const size_t words = llm_relu_words(n);
    float *x = floats(n), *dy = floats(n), *dx = floats(n), *y = floats(n), *want = floats(n);
    uint32_t *mask = (uint32_t *)test_memory(words + 1, sizeof(uint32_t));
    uint32_t *got = (uint32_t *)test_memory(words + 1, sizeof(uint32_t)), *none = NULL;
    llm_rng rng = llm_rng_seed(n);
    llm_rng_normal_fill(&rng, x, n);
    llm_rng_normal_fill(&rng, dy, n);
    llm_rng_normal_fill(&rng, dx, n);
    for (size_t i = 0; i < n; i += 5) x[i] = i % 2 ? 0.0f : 8.0f;
    got[words] = 77;
    T *d_x = to_device_as<T>(x, n), *d_dy = to_device_as<T>(dy, n), *d_dx = to_device_as<T>(dx, n);
    uint32_t *d_mask = to_device(got, words + 1);
#ifndef __CUDACC__
    emulate_count();
#endif
    CHECK_CUDA(
        llm_cuda_relu_forward(d_x, with_mask ? d_mask : none, d_x, n, cap, 0)); /* in place */
#ifndef __CUDACC__
    CHECK(emulate_counted.read == n * sizeof(T));
    CHECK(emulate_counted.written == n * sizeof(T) + (with_mask ? 4 * words : 0));
#endif
    llm_relu_forward(want, mask, x, n, cap);
    from_device_as(y, d_x, n);
    CHECK_ALL_NEAR(y, want, n, 0.0f);
    if (!with_mask) return;
    from_device(got, d_mask, words + 1);
    for (size_t k = 0; k < words; k++) CHECK(got[k] == mask[k]);
    CHECK(got[words] == 77);
    for (size_t i = 0; i < n; i++) /* what is blocked is not read */
        if (!(mask[i / 32] >> (i % 32) & 1)) dy[i] = NAN;
    d_dy = to_device_as<T>(dy, n);
    CHECK_CUDA(llm_cuda_relu_backward(d_dx, d_dy, d_mask, n, 0));
    llm_relu_backward(dx, dy, mask, n);
    from_device_as(y, d_dx, n);
    for (size_t i = 0; i < n; i++)
        CHECK_NEAR(y[i], dx[i], (1e-6f + unit_of<T>()) * (1 + fabsf(dx[i])));
}

TEST(relu, "values, the mask and the gradient from it, at sizes around warp and block") {
    const size_t sizes[8] = {1, 31, 32, 33, 127, 129, 1023, 1025};
    for (size_t s = 0; s < (TEST_SLOW ? 6 : 8); s++) {
        check_relu<float>(sizes[s], s % 2 ? 6.0f : INFINITY, s != 2);
        check_relu<llm_bf16>(sizes[s], s % 2 ? INFINITY : 6.0f, s != 3);
    }
    float *d = to_device<float>(NULL, 1);
    uint32_t *none = NULL;
    CHECK_CUDA(llm_cuda_relu_forward(d, none, d, 0, 6.0f, 0));
    CHECK_CUDA(llm_cuda_relu_backward(d, d, none, 0, 0));
}

TEST(relu, "NaN stays, and has no slope") {
    const float x[2] = {NAN, 3.0f};
    float *d = to_device(x, 2), y[2];
    uint32_t *mask = to_device<uint32_t>(NULL, 1), bits[1];
    CHECK_CUDA(llm_cuda_relu_forward(d, mask, d, 2, 6.0f, 0));
    from_device(y, d, 2);
    from_device(bits, mask, 1);
    CHECK(isnan(y[0]) && y[1] == 3.0f && bits[0] == 2);
}

/* @weight_init */
#include "../test.h"

#include "../../llm_cuda.cuh"

template <typename T> static void check_fills(size_t n, size_t offset, uint64_t seed) {
    float *want = floats(n), *got = floats(n);
    T *d_w = to_device<T>(NULL, n + offset);
    llm_rng rng = llm_rng_seed(seed);
    CHECK_CUDA(llm_cuda_weight_init_uniform(d_w + offset, n, -1.0f, 3.0f, seed, 0));
    llm_weight_init_uniform(want, n, -1.0f, 3.0f, &rng);
    CHECK_STORED(T, from_device_as(got, d_w + offset, n), want, n, 1e-6f);
    rng = llm_rng_seed(seed);
    CHECK_CUDA(llm_cuda_weight_init_normal(d_w + offset, n, 0.5f, seed, 0));
    llm_weight_init_normal(want, n, 0.5f, &rng);
    CHECK_STORED(T, from_device_as(got, d_w + offset, n), want, n, 3e-6f);
    for (int k = 0; k < 3; k++) {
        const float cut = k == 0 ? 0.3f : k == 1 ? 1.0f : 2.0f;
        CHECK_CUDA(llm_cuda_weight_init_truncated(d_w + offset, n, 2.0f, cut, seed, 0));
        llm_weight_init_truncated(want, n, 2.0f, cut, seed);
        CHECK_STORED(T, from_device_as(got, d_w + offset, n), want, n, 1e-5f);
    }
}

TEST(weight_init, "fills are the reference's numbers, for any length and alignment") {
    const size_t sizes[6] = {1, 2, 3, 4, 1023, 1030};
    for (size_t s = 0; s < (TEST_SLOW ? 5 : 6); s++) {
        check_fills<float>(sizes[s], s % 2, UINT64_C(0x123456789abcdef) + s);
        check_fills<llm_bf16>(sizes[s], 0, s);
    }
    float *none = NULL;
    CHECK_CUDA(llm_cuda_weight_init_uniform(none, 0, 0.0f, 1.0f, 1, 0));
    CHECK_CUDA(llm_cuda_weight_init_normal(none, 0, 1.0f, 1, 0));
    CHECK_CUDA(llm_cuda_weight_init_truncated(none, 0, 1.0f, 2.0f, 1, 0));
    CHECK(llm_cuda_weight_init_truncated(none, 1, 1.0f, 0.0f, 1, 0) == cudaErrorInvalidValue);
}

/* Not a kernel's work alone: a whole fill read back, so that the two ends of log(u) occur. */
TEST(weight_init, "many normals agree, near u = 0 and u = 1 too") {
    const size_t n = TEST_SLOW ? 4096 : 200000;
    float *want = floats(n), *got = floats(n), *d_w = to_device<float>(NULL, n);
    llm_rng rng = llm_rng_seed(5);
    CHECK_CUDA(llm_cuda_weight_init_normal(d_w, n, 1.0f, 5, 0));
    llm_weight_init_normal(want, n, 1.0f, &rng);
    CHECK_ALL_NEAR(from_device(got, d_w, n), want, n, 5e-6f);
}

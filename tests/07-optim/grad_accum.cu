/* @grad_accum */
#include "../test.h"

#include "../../llm_cuda.cuh"

template <typename T> static void check_add(size_t n, size_t offset) {
    float *sum = zeros(n), *got = floats(n), *d_sum = to_device(zeros(n + offset), n + offset);
    llm_grad_accum a;
    llm_rng rng = llm_rng_seed(n);
    llm_grad_accum_begin(&a, sum, n);
    for (size_t k = 1; k <= 3; k++) {
        float *g = floats(n);
        llm_rng_normal_fill(&rng, g, n);
        const T *d_g = to_device_as<T>(g, n);
#ifndef __CUDACC__
        emulate_count();
#endif
        CHECK_CUDA(llm_cuda_grad_accum_add(d_sum + offset, d_g, (float)k, n, 0));
#ifndef __CUDACC__
        CHECK(emulate_counted.read + emulate_counted.written == n * (8 + sizeof(T)));
#endif
        llm_grad_accum_add(&a, g, 0.0f, k);
    }
    CHECK_ALL_NEAR(from_device(got, d_sum + offset, n), sum, n, 5e-6f);
}

TEST(grad_accum,
     "weighted micro-batches add up as llm_grad_accum_add does, from float and bfloat16") {
    const size_t sizes[6] = {1, 3, 8, 1000, 1024, 4104};
    for (size_t s = 0; s < 6; s++) {
        check_add<float>(sizes[s], s % 2);
        check_add<llm_bf16>(sizes[s], (s + 1) % 2);
    }
}

TEST(grad_accum, "300 equal bfloat16 gradients add up; a weight of 0 reads nothing") {
    float one[8], got[8];
    for (size_t i = 0; i < 8; i++) one[i] = 1.0f;
    const llm_bf16 *d_g = to_device_as<llm_bf16>(one, 8), *d_nan = to_device<llm_bf16>(NULL, 8);
    float *d_sum = to_device(zeros(8), 8);
    for (size_t k = 0; k < 300; k++) CHECK_CUDA(llm_cuda_grad_accum_add(d_sum, d_g, 1.0f, 8, 0));
    CHECK_CUDA(llm_cuda_grad_accum_add(d_sum, d_nan, 0.0f, 8, 0));
    CHECK(from_device(got, d_sum, 8)[7] == 300.0f); /* bfloat16 would stop at 256 */
}

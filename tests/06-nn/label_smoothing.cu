/* @label_smoothing */
#include "../test.h"

#include "../../llm_cuda.cuh"

template <typename T>
static void check_in_place(size_t N, size_t K, size_t offset, int mode, bool with_prior, float e) {
    float *z = floats(N * K), *prior = floats(K), *loss = floats(N), *lse = floats(N), sum = 0.0f;
    float *dz = zeros(N * K), *got = floats(N * K), *d_loss = to_device<float>(NULL, N);
    int *target = (int *)test_memory(N, sizeof(int));
    llm_rng rng = llm_rng_seed(K);
    for (size_t i = 0; i < N * K; i++) z[i] = 4.0f * llm_rng_normal(&rng) + (i / K == 1 ? 1e3f : 0);
    for (size_t k = 0; k < K; k++) sum += prior[k] = 0.1f + llm_rng_uniform(&rng);
    for (size_t k = 0; k < K; k++) prior[k] /= sum;
    for (size_t n = 0; n < N; n++)
        target[n] = n == 2 ? LLM_CROSS_ENTROPY_IGNORE : (int)llm_rng_below(&rng, K);
    T *d_z = to_device<T>(NULL, N * K + offset), *d_from = to_device_as<T>(z, N * K);
    CHECK_CUDA(cudaMemcpy(d_z + offset, d_from, N * K * sizeof(T), cudaMemcpyDeviceToDevice));
    CHECK_CUDA(llm_cuda_label_smoothing_in_place(d_loss, d_z + offset, to_device(target, N),
                                                 with_prior ? to_device(prior, K) : NULL, N, K, e,
                                                 mode, 0.5f, 0));
    llm_label_smoothing_forward(loss, lse, z, target, with_prior ? prior : NULL, N, K, e, mode);
    llm_label_smoothing_backward(dz, z, lse, target, with_prior ? prior : NULL, N, K, e, mode,
                                 0.5f);
    /* the reference takes exp(z - lse), and lse of 1e3 has an ulp of 6e-5 */
    CHECK_STORED(T, from_device_as(got, d_z + offset, N * K), dz, N * K, 5e-5f);
    CHECK_ALL_NEAR(from_device(got, d_loss, N), loss, N, 1e-4f);
}

TEST(label_smoothing, "loss and gradient in place equal the reference, all modes and widths") {
    const size_t sizes[7] = {2, 3, 8, 31, 100, 1024, 3001};
    for (size_t s = 0; s < (TEST_SLOW ? 5 : 7); s++) {
        check_in_place<float>(4, sizes[s], 0, LLM_LABEL_SMOOTHING_ALL, false, 0.1f);
        check_in_place<float>(3, sizes[s], 1, LLM_LABEL_SMOOTHING_OTHERS, false, 0.2f);
        check_in_place<llm_bf16>(3, sizes[s], 0, LLM_LABEL_SMOOTHING_ALL, true, 0.1f);
        check_in_place<llm_bf16>(3, sizes[s], s % 2, LLM_LABEL_SMOOTHING_OTHERS, false, 0.0f);
    }
    check_in_place<float>(2, 1, 0, LLM_LABEL_SMOOTHING_ALL, false, 0.1f);
}

TEST(label_smoothing, "minus infinity with no mass, wrong targets, wrong e") {
    float z[8] = {1.0f, -INFINITY, 2.0f, 0.0f, 1.0f, 2.0f, 3.0f, 4.0f}, loss[2];
    const float prior[4] = {0.5f, 0.0f, 0.25f, 0.25f};
    int target[2] = {2, 4};
    float *d_loss = to_device<float>(NULL, 2), *d_z = to_device(z, 8), *none = NULL;
    CHECK_CUDA(llm_cuda_label_smoothing_in_place(d_loss, d_z, to_device(target, 2),
                                                 to_device(prior, 4), 2, 4, 0.1f, 0, 1.0f, 0));
    from_device(loss, d_loss, 2);
    CHECK(isfinite(loss[0]) && isnan(loss[1]));
    int *no_target = NULL;
    CHECK(llm_cuda_label_smoothing_in_place(none, none, no_target, none, 0, 4, 1.0f, 0, 1.0f, 0) ==
          cudaErrorInvalidValue);
    CHECK(llm_cuda_label_smoothing_in_place(none, none, no_target, none, 0, 1, 0.1f,
                                            LLM_LABEL_SMOOTHING_OTHERS, 1.0f,
                                            0) == cudaErrorInvalidValue);
    CHECK_CUDA(
        llm_cuda_label_smoothing_in_place(none, none, no_target, none, 0, 4, 0.1f, 0, 1.0f, 0));
}

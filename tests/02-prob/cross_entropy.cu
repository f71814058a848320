/* @cross_entropy */
#include "../test.h"

#include "../../llm_cuda.cuh"

template <typename T>
static void check_in_place(size_t N, size_t V, size_t offset, bool weighted, float z_loss) {
    float *logits = floats(N * V), *weight = floats(V), *loss = floats(N), *want_loss = floats(N);
    float *got = floats(N * V), scale = 1.0f / (float)N;
    int *target = (int *)test_memory(N, sizeof(int));
    llm_rng rng = llm_rng_seed(V);
    for (size_t i = 0; i < N * V; i++)
        logits[i] = 4.0f * llm_rng_normal(&rng) + (i / V == 1 ? 1e3f : 0.0f);
    for (size_t i = 0; i < V; i++) weight[i] = 0.5f + llm_rng_uniform(&rng);
    for (size_t n = 0; n < N; n++)
        target[n] = n == 2 ? LLM_CROSS_ENTROPY_IGNORE : (int)llm_rng_below(&rng, V);
    if (N > 2) /* not read */
        for (size_t i = 0; i < V; i++) logits[2 * V + i] = NAN;
    T *d_logits = to_device<T>(NULL, N * V + offset);
    T *d_from = to_device_as<T>(logits, N * V);
    CHECK_CUDA(cudaMemcpy(d_logits + offset, d_from, N * V * sizeof(T), cudaMemcpyDeviceToDevice));
    float *d_loss = to_device<float>(NULL, N);
    CHECK_CUDA(llm_cuda_cross_entropy_in_place(d_loss, d_logits + offset, to_device(target, N),
                                               weighted ? to_device(weight, V) : NULL, N, V, scale,
                                               z_loss, 0));
    llm_cross_entropy_in_place(want_loss, logits, target, weighted ? weight : NULL, N, V, scale,
                               z_loss);
    CHECK_STORED(T, from_device_as(got, d_logits + offset, N * V), logits, N * V, 2e-6f * scale);
    from_device(loss, d_loss, N);
    /* z-loss squares lse, 1e3 in row 1: relative */
    for (size_t n = 0; n < N; n++)
        CHECK_NEAR(loss[n], want_loss[n], 1e-5 * (1 + fabs(want_loss[n])));
}

TEST(cross_entropy, "loss and gradient in place equal the reference, ignored rows are zeros") {
    const size_t sizes[8] = {1, 2, 8, 31, 100, 1024, 3001, 8008};
    for (size_t s = 0; s < (TEST_SLOW ? 6 : 8); s++) {
        check_in_place<float>(5, sizes[s], 0, false, 0.0f);
        check_in_place<float>(4, sizes[s], 1, true, 1e-4f);
        check_in_place<llm_bf16>(3, sizes[s], 0, true, 0.0f);
        check_in_place<llm_bf16>(3, sizes[s], s % 2, false, 1e-4f);
    }
    CHECK_CUDA(llm_cuda_cross_entropy_in_place((float *)NULL, (float *)NULL, (int *)NULL,
                                               (float *)NULL, 0, 3, 1.0f, 0.0f, 0));
}

TEST(cross_entropy, "a target that does not exist has NaN as its loss and reads nothing outside") {
    float logits[3][5], loss[3];
    int target[3] = {5, -1, 4};
    for (size_t i = 0; i < 15; i++) logits[i / 5][i % 5] = (float)(i % 4);
    float *d_loss = to_device<float>(NULL, 3);
    CHECK_CUDA(llm_cuda_cross_entropy_in_place(d_loss, to_device(&logits[0][0], 15),
                                               to_device(target, 3), to_device(loss, 3), 3, 3, 1.0f,
                                               0.0f, 0));
    from_device(loss, d_loss, 3);
    CHECK(isnan(loss[0]) && isnan(loss[1]) && isnan(loss[2])); /* with 3 classes, 4 is none */
}

TEST(cross_entropy, "traffic: each logit in and out, and once more from the caches") {
    enum { N = 3, V = 4096 };
    int target[N] = {1, LLM_CROSS_ENTROPY_IGNORE, 4095};
    float *d_logits = to_device(zeros(N * V), N * V), *d_loss = to_device<float>(NULL, N), loss[N];
    const int *d_target = to_device(target, N);
#ifndef __CUDACC__
    emulate_count();
#endif
    CHECK_CUDA(llm_cuda_cross_entropy_in_place(d_loss, d_logits, d_target, (float *)NULL, N, V,
                                               1.0f, 0.0f, 0));
#ifndef __CUDACC__
    CHECK(emulate_counted.read == 2 * 2 * V * 4); /* the ignored row is not read */
    CHECK(emulate_counted.distinct_read == 2 * V * 4);
    CHECK(emulate_counted.written == N * V * 4 + N * 4);
#endif
    from_device(loss, d_loss, N);
    CHECK_NEAR(loss[0], log(4096.0), 1e-6);
    CHECK(loss[1] == 0.0f && loss[2] == loss[0]);
}

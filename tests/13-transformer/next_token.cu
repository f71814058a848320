/* @next_token */
#include "../test.h"

#include "../../llm_cuda.cuh"

template <typename T>
static void check_loss(size_t B, size_t length, size_t V, bool masked, float scale) {
    const size_t N = B * length;
    float *logits = floats(N * V), *dlogits = zeros(N * V), *got = floats(N * V);
    int *ids = (int *)test_memory(N, sizeof(int));
    bool *mask = bools(N);
    llm_rng rng = llm_rng_seed(N + V);
    llm_rng_normal_fill(&rng, logits, N * V);
    for (size_t i = 0; i < N; i++) ids[i] = (int)llm_rng_below(&rng, V);
    for (size_t i = 0; i < N; i++) mask[i] = llm_rng_uniform(&rng) < 0.6f;
    T *d_logits = to_device_as<T>(logits, N * V);
    const int *d_ids = to_device(ids, N);
    const bool *d_mask = masked ? to_device(mask, N) : NULL;
    double *d_total = to_device<double>(NULL, 2), total[2] = {3.0, 10.0};
    float *d_loss = to_device<float>(NULL, N);
    CHECK_CUDA(cudaMemcpy(d_total, total, sizeof total, cudaMemcpyHostToDevice));
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 3 * N * sizeof(float) + 1024));
    int *target = (int *)test_memory(N, sizeof(int));
    const size_t count = llm_next_token_targets(target, ids, masked ? mask : NULL, B, length);
    const float mean = llm_next_token_loss(dlogits, logits, ids, masked ? mask : NULL, B, length, V,
                                           scale, &arena);
    for (int gradient = 0; gradient < 2; gradient++) {
        CHECK_CUDA(llm_cuda_next_token_in_place(d_loss, d_logits, d_ids, d_mask, B, length, V,
                                                scale, gradient, 0));
        CHECK_CUDA(llm_cuda_next_token_add(d_total, d_loss, d_mask, B, length, 0));
    }
    CHECK_STORED(T, from_device_as(got, d_logits, N * V), dlogits, N * V, 2e-6f * scale);
    from_device(total, d_total, 2); /* the same micro-batch twice, behind another */
    CHECK(total[1] == 10.0 + 2.0 * (double)count);
    CHECK_NEAR(total[0], 3.0 + 2.0 * (double)count * (double)mean, 1e-5 * (double)(count + 1));
    from_device(got, d_loss, N);
    for (size_t i = 0; i < N; i++) CHECK((got[i] == 0.0f) == (target[i] < 0));
    llm_arena_destroy(&arena);
}

TEST(next_token, "loss, gradient and counts equal llm_next_token_loss, masked and not") {
    check_loss<float>(2, 5, 7, false, 1.0f);
    check_loss<float>(3, 4, 9, true, 0.1f);
    check_loss<float>(4, 1, 3, false, 1.0f); /* nothing to predict */
    check_loss<float>(1, 2, 2, true, 1.0f);
    check_loss<llm_bf16>(3, 7, 40, true, 0.5f);
    check_loss<llm_bf16>(2, 3, 11, false, 1.0f);
    check_loss<float>(2, 600, 2, true, 1.0f); /* more rows than the block that adds has threads */
    double *none = NULL;
    CHECK_CUDA(llm_cuda_next_token_add(none, (float *)NULL, (bool *)NULL, 0, 3, 0));
    CHECK_CUDA(llm_cuda_next_token_add(none, (float *)NULL, (bool *)NULL, 3, 0, 0));
}

TEST(next_token, "the problem for the head in one go: a product, the classifier, two products") {
    enum { B = 2, T = 4, C = 3, V = 6, N = B * T };
    int ids[N] = {1, 2, 3, 4, 5, 0, 1, 2}, target[N];
    bool mask[N] = {true, true, false, true, true, true, true, false};
    float h[N * C], w[V * C], loss[N], lse[N], logits[N * V], got[V * C];
    llm_rng rng = llm_rng_seed(1);
    llm_rng_normal_fill(&rng, h, N * C);
    llm_rng_normal_fill(&rng, w, V * C);
    CHECK(llm_next_token_targets(target, ids, mask, B, T) == 4);
    const llm_softmax_head p = llm_softmax_head_defaults(h, w, target, N, C, V);
    float *dh = zeros(N * C), *dw = zeros(V * C), *none = NULL;
    llm_softmax_head_forward(loss, lse, logits, &p);
    llm_softmax_head_backward(dh, dw, logits, lse, &p, 0.25f);
    float *d_dh = to_device(zeros(N * C), N * C), *d_dw = to_device(zeros(V * C), V * C);
    float *d_loss = to_device<float>(NULL, N), *d_z = to_device<float>(NULL, N * V);
    const llm_cuda_softmax_head d =
        llm_cuda_next_token_problem(to_device(ids, N), to_device(mask, N), B, T, C, V);
    CHECK_CUDA(llm_cuda_softmax_head_train(d_loss, none, d_dh, d_dw, d_z, to_device(h, N * C),
                                           to_device(w, V * C), d, 0.25f, none, 0));
    CHECK_ALL_NEAR(from_device(got, d_dw, V * C), dw, V * C, 2e-6f);
    CHECK_ALL_NEAR(from_device(got, d_loss, N), loss, N, 2e-6f);
    CHECK_ALL_NEAR(from_device(logits, d_dh, N * C), dh, N * C, 2e-6f);
}

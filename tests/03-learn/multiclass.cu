/* @multiclass */
#include "../test.h"

#include "../../llm_cuda.cuh"

static void check_multiclass(size_t n, size_t d, size_t K, size_t B, float spread) {
    const size_t size = K * (d + 1), all = B * size, blocks = llm_cuda_multiclass_blocks(n);
    float *W = floats(all), *x = floats(n * d), *dW = floats(all), *l2 = floats(B);
    float *got = floats(all), *want = floats(all);
    int *label = (int *)test_memory(n, sizeof(int));
    double *loss = (double *)test_memory(B, sizeof(double));
    double *again = (double *)test_memory(B, sizeof(double));
    double *W_b = (double *)test_memory(size, sizeof(double));
    double *dW_b = (double *)test_memory(size, sizeof(double));
    llm_rng rng = llm_rng_seed(n + d + K);
    llm_rng_normal_fill(&rng, W, all);
    llm_rng_normal_fill(&rng, x, n * d);
    llm_rng_normal_fill(&rng, dW, all);
    for (size_t i = 0; i < n * d; i++) x[i] *= spread / sqrtf((float)d);
    for (size_t i = 0; i < n; i++) label[i] = (int)llm_rng_below(&rng, K);
    for (size_t b = 0; b < B; b++) l2[b] = 0.1f * (float)(b + 1);

    float *d_W = to_device(W, all), *d_x = to_device(x, n * d), *d_dW = to_device(dW, all);
    float *d_l2 = to_device(l2, B), *d_part = to_device<float>(NULL, blocks * all), *none = NULL;
    int *d_label = to_device(label, n);
    double *d_loss = to_device<double>(NULL, B), *d_losses = to_device<double>(NULL, blocks * B);
    CHECK_CUDA(llm_cuda_multiclass_loss(d_loss, d_dW, d_W, d_x, d_label, n, d, K, B, d_l2, d_losses,
                                        d_part, 0));
    from_device(loss, d_loss, B);
    from_device(got, d_dW, all);
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 1 << 16));
    for (size_t b = 0; b < B; b++) {
        for (size_t k = 0; k < size; k++) W_b[k] = (double)W[b * size + k], dW_b[k] = 0.0;
        const double value =
            llm_multiclass_loss(dW_b, W_b, x, label, n, d, K, (double)l2[b], false, &arena);
        CHECK_NEAR(loss[b], value, 3e-6 * (1.0 + value)); /* float scores, the sum in double */
        for (size_t k = 0; k < size; k++) want[b * size + k] = dW[b * size + k] + (float)dW_b[k];
    }
    llm_arena_destroy(&arena);
    CHECK_ALL_NEAR(got, want, all, 3e-6f * (1.0f + spread));
    CHECK_CUDA(llm_cuda_multiclass_loss(d_loss, none, d_W, d_x, d_label, n, d, K, B, d_l2, d_losses,
                                        none, 0));
    CHECK(memcmp(from_device(again, d_loss, B), loss, B * sizeof(double)) == 0);
}

TEST(multiclass, "loss and gradient of a batch of softmax classifiers equal the reference") {
    check_multiclass(1, 1, 2, 1, 1.0f);
    check_multiclass(3, 2, 3, 2, 1.0f);
    check_multiclass(33, 31, 9, 1, 2.0f);
    check_multiclass(40, 257, 3, 1, 5.0f);
    if (TEST_SLOW) return;
    check_multiclass(40, 5, 40, 2, 1.0f);
    check_multiclass(40, 300, 17, 1, 1.0f);
}

TEST(multiclass, "one block for several tiles leaves the sums that many blocks share") {
    enum { n = 70, d = 3, K = 2, size = K * (d + 1) };
    float x[n * d], W[size], part[size], *d_part = to_device<float>(NULL, 3 * size);
    float *d_W, *d_x, many[3 * size];
    int label[n];
    double *d_losses = to_device<double>(NULL, 3), loss, losses[3];
    llm_rng rng = llm_rng_seed(1);
    llm_rng_normal_fill(&rng, x, n * d);
    llm_rng_normal_fill(&rng, W, size);
    for (size_t i = 0; i < n; i++) label[i] = (int)llm_rng_below(&rng, K);
    d_W = to_device(W, size), d_x = to_device(x, n * d);
    int *d_label = to_device(label, n);
    const size_t shared = 4 * (K * LLM_CUDA_MULTICLASS_STRIDE + size);
    CHECK(llm_cuda_multiclass_blocks(n) == 3 && llm_cuda_multiclass_blocks(100000) == 256);
    LLM_LAUNCH(llm_multiclass_kernel, 3, 256, shared, 0, d_losses, d_part, d_W, d_x, d_label, n, d,
               K);
    from_device(many, d_part, 3 * size);
    from_device(losses, d_losses, 3);
    LLM_LAUNCH(llm_multiclass_kernel, 1, 256, shared, 0, d_losses, d_part, d_W, d_x, d_label, n, d,
               K);
    from_device(part, d_part, size);
    for (size_t k = 0; k < size; k++)
        CHECK_NEAR(part[k], many[k] + many[size + k] + many[2 * size + k], 1e-5);
    CHECK_NEAR(*from_device(&loss, d_losses, 1), losses[0] + losses[1] + losses[2], 1e-10);
    LLM_LAUNCH(llm_multiclass_kernel, 1, 256, shared, 0, d_losses, (float *)NULL, d_W, d_x, d_label,
               n, d, K);
    CHECK_NEAR(*from_device(&losses[0], d_losses, 1), loss, 1e-10);
}

TEST(multiclass, "scores of 1e4 stay finite, a label out of range shows, and what is refused") {
    const float W[4] = {1e4f, 0, -1e4f, 0}, x[3] = {1, -1, 0.5f}, l2[1] = {0};
    const int label[3] = {0, 0, 1}, bad[3] = {0, 2, -1};
    float *d_W = to_device(W, 4), *d_x = to_device(x, 3), *d_dW = to_device(zeros(4), 4);
    float *d_l2 = to_device(l2, 1), *d_part = to_device<float>(NULL, 4), dW[4], *none = NULL;
    double *d_loss = to_device<double>(NULL, 1), *d_losses = to_device<double>(NULL, 1), loss;
    int *d_label = to_device(label, 3), *d_bad = to_device(bad, 3);
    CHECK_CUDA(llm_cuda_multiclass_loss(d_loss, d_dW, d_W, d_x, d_label, 3, 1, 2, 1, d_l2, d_losses,
                                        d_part, 0));
    CHECK_NEAR(*from_device(&loss, d_loss, 1), (0.0 + 2e4 + 1e4) / 3.0, 1e-2);
    const float want[4] = {(1.0f + 0.5f) / 3, (-1.0f + 1.0f) / 3, -(1.0f + 0.5f) / 3, 0};
    CHECK_ALL_NEAR(from_device(dW, d_dW, 4), want, 4, 1e-6f);
    CHECK_CUDA(llm_cuda_multiclass_loss(d_loss, none, d_W, d_x, d_bad, 3, 1, 2, 1, d_l2, d_losses,
                                        none, 0));
    CHECK(isnan(*from_device(&loss, d_loss, 1)));
    CHECK(llm_cuda_multiclass_loss(d_loss, d_dW, d_W, d_x, d_label, 3, 4096, 10, 1, d_l2, d_losses,
                                   d_part, 0) == cudaErrorInvalidValue);
    CHECK(llm_cuda_multiclass_loss(d_loss, d_dW, d_W, d_x, d_label, 0, 1, 2, 1, d_l2, d_losses,
                                   d_part, 0) == cudaErrorInvalidValue);
}

TEST(multiclass, "traffic: x is read from memory once") {
    enum { n = 64, d = 64, K = 4 };
    float *d_W = to_device(zeros(K * (d + 1)), K * (d + 1)), *d_x = to_device(zeros(n * d), n * d);
    int label[n] = {0};
    float *d_l2 = to_device(zeros(1), 1), *d_part = to_device<float>(NULL, 2 * K * (d + 1));
    float *d_dW = to_device(zeros(K * (d + 1)), K * (d + 1));
    double *d_loss = to_device<double>(NULL, 1), *d_losses = to_device<double>(NULL, 2), loss;
    int *d_label = to_device(label, n);
#ifndef __CUDACC__
    emulate_count();
#endif
    CHECK_CUDA(llm_cuda_multiclass_loss(d_loss, d_dW, d_W, d_x, d_label, n, d, K, 1, d_l2, d_losses,
                                        d_part, 0));
#ifndef __CUDACC__
    /* x; the weights for scores and penalty, the blocks' shares, and dW: sectors of 32 bytes */
    CHECK(emulate_counted.distinct_read <= n * d * 4 + 5 * K * (d + 1) * 4 + 6 * 32);
#endif
    CHECK_NEAR(*from_device(&loss, d_loss, 1), log(4.0), 1e-6);
}

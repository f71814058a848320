/* @perplexity */
#include "../test.h"

#include "../../llm_cuda.cuh"

template <typename T> static void check_nll(size_t N, size_t V, size_t offset) {
    float *logits = floats(N * V + offset), *loss = floats(N), *got = floats(N);
    int *target = (int *)test_memory(N, sizeof(int));
    double total[2], nats = 0.0;
    llm_rng rng = llm_rng_seed(V);
    for (size_t i = 0; i < N * V + offset; i++) logits[i] = 5.0f * llm_rng_normal(&rng);
    for (size_t n = 0; n < N; n++)
        target[n] = n % 4 == 2 ? LLM_CROSS_ENTROPY_IGNORE : (int)llm_rng_below(&rng, V);
    const T *d_logits = to_device_as<T>(logits, N * V + offset);
    float *d_loss = to_device<float>(NULL, N);
    double *d_total = to_device<double>(NULL, 2);
#ifndef __CUDACC__
    emulate_count();
#endif
    CHECK_CUDA(
        llm_cuda_perplexity_nll(d_total, d_loss, d_logits + offset, to_device(target, N), N, V, 0));
    const size_t kept = llm_cross_entropy_forward(loss, NULL, logits + offset, target, N, V);
#ifndef __CUDACC__
    CHECK(emulate_counted.read == kept * (V + 1) * sizeof(T) + N * sizeof(float));
    CHECK(emulate_counted.written == N * sizeof(float));
#endif
    for (size_t n = 0; n < N; n++) nats += (double)loss[n];
    CHECK_ALL_NEAR(from_device(got, d_loss, N), loss, N, 1e-5f);
    from_device(total, d_total, 2);
    CHECK(total[1] == (double)kept);
    CHECK_NEAR(total[0], nats, 1e-5 * (double)(N + 1));
}

TEST(perplexity,
     "losses of the targets and their sum equal the reference; ignored rows count nothing") {
    const size_t sizes[7] = {1, 2, 31, 40, 1024, 3001, 8008};
    for (size_t s = 0; s < (TEST_SLOW ? 5 : 7); s++) {
        check_nll<float>(7, sizes[s], 0);
        check_nll<float>(2 + s, sizes[s], 1);
        check_nll<llm_bf16>(3, sizes[s], s % 2);
    }
    check_nll<float>(TEST_SLOW ? 40 : 1500, 3, 0); /* more rows than threads add up */
    double total[2], *d = to_device<double>(NULL, 2);
    CHECK_CUDA(llm_cuda_perplexity_nll(d, (float *)NULL, (float *)NULL, (int *)NULL, 0, 5, 0));
    from_device(total, d, 2);
    CHECK(total[0] == 0.0 && total[1] == 0.0);
}

TEST(perplexity, "uniform logits have a perplexity of V, and a target outside 0..V-1 is NaN") {
    int target[3] = {0, 699, 5};
    float logits[3 * 700], loss[3], *d_loss = to_device<float>(NULL, 3);
    double total[2], *d = to_device<double>(NULL, 2);
    for (size_t i = 0; i < 3 * 700; i++) logits[i] = (float)(i / 700) * 1e3f;
    const float *d_logits = to_device(logits, 3 * 700);
    CHECK_CUDA(llm_cuda_perplexity_nll(d, d_loss, d_logits, to_device(target, 3), 3, 700, 0));
    from_device(total, d, 2);
    CHECK_NEAR(exp(total[0] / total[1]), 700.0, 1e-3);
    target[1] = 700, target[2] = -1;
    CHECK_CUDA(llm_cuda_perplexity_nll(d, d_loss, d_logits, to_device(target, 3), 3, 700, 0));
    from_device(loss, d_loss, 3);
    CHECK(!isnan(loss[0]) && isnan(loss[1]) && isnan(loss[2]));
}

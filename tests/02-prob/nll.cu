/* @nll */
#include "../test.h"

#include "../../llm_cuda.cuh"

template <typename T> static void check_nll(size_t N, size_t V, bool weighted, int reduction) {
    const int ignore = V % 2 ? -100 : 0; /* a class may be the ignored one */
    float *logp = floats(N * V), *weight = floats(V), *loss = floats(N), *want_loss = floats(N);
    float *dloss = floats(N), *dlogp = floats(N * V), *got = floats(N * V);
    int *target = (int *)test_memory(N, sizeof(int));
    llm_rng rng = llm_rng_seed(N + V);
    for (size_t i = 0; i < N * V; i++) {
        logp[i] = -8.0f * llm_rng_uniform(&rng);
        dlogp[i] = llm_rng_normal(&rng);
    }
    for (size_t i = 0; i < V; i++) weight[i] = 0.5f + llm_rng_uniform(&rng);
    for (size_t n = 0; n < N; n++) {
        target[n] = n % 4 == 2 ? ignore : (int)llm_rng_below(&rng, V);
        dloss[n] = llm_rng_normal(&rng);
    }
    const T *d_logp = to_device_as<T>(logp, N * V);
    T *d_dlogp = to_device_as<T>(dlogp, N * V);
    const int *d_target = to_device(target, N);
    const float *d_weight = weighted ? to_device(weight, V) : NULL;
    float *d_loss = to_device<float>(NULL, N), *d_reduced = to_device<float>(NULL, 1);
    double *d_total = to_device<double>(NULL, LLM_CUDA_NLL_SCRATCH), total[2], again[2];
    float reduced, only;
    CHECK_CUDA(llm_cuda_nll_forward(d_reduced, d_total, d_loss, d_logp, d_target, d_weight, ignore,
                                    reduction, N, V, 0));
    from_device(&reduced, d_reduced, 1);
    from_device(total, d_total, 2);
    from_device(loss, d_loss, N);
    const float *host_weight = weighted ? weight : NULL;
    const float want =
        llm_nll_forward(want_loss, logp, target, host_weight, ignore, reduction, N, V);
    const double kept = llm_nll_total(target, host_weight, ignore, N);
    for (size_t n = 0; n < N; n++) CHECK(loss[n] == want_loss[n]);
    CHECK_NEAR(total[1], kept, 1e-12 * (1.0 + kept));
    if (kept > 0.0 || reduction != LLM_NLL_MEAN)
        CHECK_NEAR(reduced, want, 2e-7 * (1.0 + fabs((double)want))); /* doubles, rounded once */
    else
        CHECK(isnan(reduced) && isnan(want));
    CHECK_CUDA(llm_cuda_nll_backward(d_dlogp, to_device(dloss, N), d_total, d_target, d_weight,
                                     ignore, reduction, N, V, 0));
    llm_nll_backward(dlogp, dloss, target, host_weight, ignore, reduction, N, V);
    CHECK_STORED(T, from_device_as(got, d_dlogp, N * V), dlogp, N * V, 1e-6f);
    /* without the rows' losses: the same bits */
    CHECK_CUDA(llm_cuda_nll_forward(d_reduced, d_total, (float *)NULL, d_logp, d_target, d_weight,
                                    ignore, reduction, N, V, 0));
    CHECK(memcmp(from_device(again, d_total, 2), total, sizeof total) == 0);
    from_device(&only, d_reduced, 1);
    CHECK(memcmp(&only, &reduced, sizeof only) == 0);
}

TEST(nll, "losses, every reduction and the gradient equal the reference, ignored rows left out") {
    const size_t sizes[7][2] = {{1, 1}, {2, 3}, {3, 2}, {31, 17}, {257, 5}, {1025, 8}, {2000, 101}};
    for (size_t s = 0; s < (TEST_SLOW ? 5 : 7); s++)
        for (int reduction = LLM_NLL_NONE; reduction <= LLM_NLL_SUM; reduction++) {
            check_nll<float>(sizes[s][0], sizes[s][1], s % 2 == 0, reduction);
            check_nll<llm_bf16>(sizes[s][0], sizes[s][1], s % 2 == 1, reduction);
        }
    if (!TEST_SLOW) check_nll<float>(300007, 2, true, LLM_NLL_MEAN); /* more than all blocks take */
}

TEST(nll, "a target that does not exist is NaN and touches nothing; nothing kept is 0 / 0") {
    const float up = 1.0f;
    float loss[3], reduced, dlogp[6] = {1, 2, 3, 4, 5, 6}, *d_dlogp = to_device(dlogp, 6);
    const int target[3] = {2, -1, 1}, none[3] = {-100, -100, -100};
    const float *d_logp = to_device(dlogp, 6), *d_up = to_device(&up, 1);
    float *d_loss = to_device<float>(NULL, 3), *d_reduced = to_device<float>(NULL, 1);
    double *d_total = to_device<double>(NULL, LLM_CUDA_NLL_SCRATCH);
    const int *d_target = to_device(target, 3), *d_none = to_device(none, 3);
    CHECK_CUDA(llm_cuda_nll_forward(d_reduced, d_total, d_loss, d_logp, d_target, (float *)NULL,
                                    -100, LLM_NLL_SUM, 3, 2, 0));
    from_device(loss, d_loss, 3);
    CHECK(isnan(loss[0]) && isnan(loss[1]) && loss[2] == -6.0f);
    CHECK(isnan(*from_device(&reduced, d_reduced, 1)));
    CHECK_CUDA(llm_cuda_nll_backward(d_dlogp, d_up, d_total, d_target, (float *)NULL, -100,
                                     LLM_NLL_SUM, 3, 2, 0));
    from_device(dlogp, d_dlogp, 6);
    for (size_t i = 0; i < 5; i++) CHECK(dlogp[i] == (float)(i + 1));
    CHECK(dlogp[5] == 5.0f);
    for (int reduction = LLM_NLL_MEAN; reduction <= LLM_NLL_SUM; reduction++)
        for (size_t N = 0; N <= 3; N += 3) { /* no rows, and ignored ones */
            CHECK_CUDA(llm_cuda_nll_forward(d_reduced, d_total, d_loss, d_logp, d_none,
                                            (float *)NULL, -100, reduction, N, 2, 0));
            from_device(&reduced, d_reduced, 1);
            CHECK(reduction == LLM_NLL_MEAN ? (bool)isnan(reduced) : reduced == 0.0f);
        }
}

TEST(nll, "traffic: one entry of a row, whatever its length") {
    enum { N = 300, V = 50 };
    int target[N];
    for (int n = 0; n < N; n++) target[n] = n % 3 == 0 ? -100 : n % V;
    const float *d_logp = to_device(zeros(N * V), N * V);
    const int *d_target = to_device(target, N);
    float *d_reduced = to_device<float>(NULL, 1), reduced;
    double *d_total = to_device<double>(NULL, LLM_CUDA_NLL_SCRATCH);
#ifndef __CUDACC__
    emulate_count();
#endif
    CHECK_CUDA(llm_cuda_nll_forward(d_reduced, d_total, (float *)NULL, d_logp, d_target,
                                    (float *)NULL, -100, LLM_NLL_SUM, N, V, 0));
#ifndef __CUDACC__
    CHECK(emulate_counted.read == 200 * 4 && emulate_counted.written == 0);
#endif
    CHECK(*from_device(&reduced, d_reduced, 1) == 0.0f);
}

/* @distribution_sample */
#include "../test.h"

#include "../../llm_cuda.cuh"

static const llm_distribution laws[15] = {
    {LLM_DISTRIBUTION_UNIFORM, 0, 0, -1, 3},     {LLM_DISTRIBUTION_EXPONENTIAL, 0, 0, 0, 2},
    {LLM_DISTRIBUTION_NORMAL, 0, 0, 5, 0.5},     {LLM_DISTRIBUTION_LAPLACE, 0, 0, 1, 1},
    {LLM_DISTRIBUTION_LOGISTIC, 0, 0, 0, 1},     {LLM_DISTRIBUTION_CAUCHY, 0, 0, 0, 1},
    {LLM_DISTRIBUTION_STUDENT_T, 3, 0, 0, 1},    {LLM_DISTRIBUTION_GAMMA, 0.3, 0, 0, 1},
    {LLM_DISTRIBUTION_GAMMA, 1, 0, 0, 2},        {LLM_DISTRIBUTION_GAMMA, 7.5, 0, 1, 1},
    {LLM_DISTRIBUTION_GAMMA, 1e4, 0, 0, 1},      {LLM_DISTRIBUTION_CHI_SQUARED, 1, 0, 0, 1},
    {LLM_DISTRIBUTION_CHI_SQUARED, 12, 0, 0, 1}, {LLM_DISTRIBUTION_BETA, 0.5, 2, 0, 1},
    {LLM_DISTRIBUTION_BETA, 0.001, 0.001, 0, 1}};

TEST(distribution_sample, "each draw is the reference's by the generator of its own seed") {
    const size_t sizes[3] = {1, 255, 700};
    for (size_t l = 0; l < 15; l++) {
        const size_t n = sizes[l % 3];
        const uint64_t seed = l < 8 ? 1000 * l : UINT64_C(0xffffffffffffff00) + l; /* wraps */
        float *got = floats(n + 1), *want = floats(n), *d_x = to_device<float>(NULL, n + 1);
        CHECK_CUDA(llm_cuda_distribution_sample(d_x, &laws[l], n, seed, 0));
        from_device(got, d_x, n + 1);
        for (size_t i = 0; i < n; i++) {
            llm_rng rng = llm_rng_seed(seed + i);
            want[i] = (float)llm_distribution_sample(&laws[l], &rng);
        }
        CHECK_ALL_CLOSE(got, want, n, 2e-7f); /* the C library's logarithm and the card's */
        CHECK(isnan(got[n]));                 /* nothing behind the end */
    }
    llm_distribution wrong = {LLM_DISTRIBUTION_GAMMA, -1, 0, 0, 1};
    CHECK(llm_cuda_distribution_sample((float *)NULL, &wrong, 3, 1, 0) == cudaErrorInvalidValue);
    CHECK_CUDA(llm_cuda_distribution_sample((float *)NULL, &laws[0], 0, 1, 0));
}

TEST(distribution_sample, "neighbouring seeds give a sample: Kolmogorov-Smirnov and uncorrelated") {
    enum { N = 4000 };
    const size_t some[4] = {2, 7, 9, 13};
    float *x = floats(N), *d_x = to_device<float>(NULL, N);
    llm_arena arena;
    CHECK(llm_arena_create(&arena, N * sizeof(size_t) + 256));
    for (size_t k = 0; k < (TEST_SLOW ? 1 : 4); k++) {
        const llm_distribution *d = &laws[some[k]];
        CHECK_CUDA(llm_cuda_distribution_sample(d_x, d, N, 1, 0));
        from_device(x, d_x, N);
        double D, lag = 0.0;
        CHECK(llm_distribution_sample_ks(&D, d, x, N, &arena) > 0.001);
        for (size_t i = 0; i + 1 < N; i++) /* of uniform numbers, centred: variance 1/12 */
            lag += (llm_distribution_cdf(d, (double)x[i]) - 0.5) *
                   (llm_distribution_cdf(d, (double)x[i + 1]) - 0.5) * 12.0 / N;
        CHECK_NEAR(lag, 0.0, 4.0 / sqrt((double)N)); /* four deviations */
    }
    llm_arena_destroy(&arena);
}

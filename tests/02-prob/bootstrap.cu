/* @bootstrap */
#include "../test.h"

#include "../../llm_cuda.cuh"

/* The statistic on the reference's resample, two passes in double. */
static double statistic_of(int statistic, const float *x, const float *y, const size_t *index,
                           size_t n) {
    double mx = 0.0, my = 0.0, xx = 0.0, yy = 0.0, xy = 0.0;
    const bool paired = statistic == LLM_CUDA_BOOTSTRAP_MEAN && y;
    for (size_t i = 0; i < n; i++) {
        mx += ((double)x[index[i]] - (paired ? (double)y[index[i]] : 0.0)) / (double)n;
        my += (y ? (double)y[index[i]] : 0.0) / (double)n;
    }
    for (size_t i = 0; i < n; i++) {
        const double dx = (double)x[index[i]] - mx, dy = y ? (double)y[index[i]] - my : 0.0;
        xx += dx * dx, yy += dy * dy, xy += dx * dy;
    }
    return statistic == LLM_CUDA_BOOTSTRAP_MEAN        ? mx
           : statistic == LLM_CUDA_BOOTSTRAP_RATIO     ? mx / my
           : statistic == LLM_CUDA_BOOTSTRAP_DEVIATION ? sqrt(xx / ((double)n - 1.0))
                                                       : xy / sqrt(xx * yy);
}

static void check_bootstrap(size_t n, size_t B, int statistic, bool two, uint64_t seed) {
    float *x = floats(n), *y = floats(n), *t = floats(B + 1), *d_t = to_device<float>(NULL, B + 1);
    size_t *index = (size_t *)test_memory(n, sizeof(size_t));
    llm_rng rng = llm_rng_seed(n);
    for (size_t i = 0; i < n; i++) { /* far from 0: squares about 0 would lose the deviation */
        x[i] = 1000.0f + llm_rng_normal(&rng);
        y[i] = x[i] - 990.0f + 2.0f * llm_rng_uniform(&rng);
    }
    const float *d_x = to_device(x, n), *d_y = two ? to_device(y, n) : NULL;
    CHECK_CUDA(llm_cuda_bootstrap(d_t, statistic, d_x, d_y, n, B, seed, 0));
    from_device(t, d_t, B + 1);
    for (size_t b = 0; b < B; b++) {
        rng = llm_rng_seed(seed + b);
        llm_bootstrap_indices(index, n, &rng);
        const double want = statistic_of(statistic, x, two ? y : NULL, index, n);
        CHECK_NEAR(t[b], want, 2e-7 * fabs(want));
    }
    CHECK(isnan(t[B])); /* nothing behind the end */
}

TEST(bootstrap, "every statistic equals the reference's on the resample of each seed") {
    const size_t sizes[6] = {2, 5, 31, 128, 1021, 3000};
    for (size_t s = 0; s < 6; s++) {
        check_bootstrap(sizes[s], 3, LLM_CUDA_BOOTSTRAP_MEAN, false, 10 * s);
        check_bootstrap(sizes[s], 2, LLM_CUDA_BOOTSTRAP_MEAN, true, 11);
        check_bootstrap(sizes[s], 2, LLM_CUDA_BOOTSTRAP_RATIO, true, 12);
        if (sizes[s] < 31) continue; /* a resample of few may have no spread */
        check_bootstrap(sizes[s], 3, LLM_CUDA_BOOTSTRAP_DEVIATION, false, 13);
        check_bootstrap(sizes[s], 3, LLM_CUDA_BOOTSTRAP_CORRELATION, true, 14);
    }
    check_bootstrap(1, 2, LLM_CUDA_BOOTSTRAP_MEAN, false, 5);
}

TEST(bootstrap, "words that the generator refuses are made up for") {
    const size_t n = TEST_SLOW ? 70001 : 400009;
    size_t refused = 0;
    llm_rng rng = llm_rng_seed(3);
    for (size_t i = 0; i < n; i++)
        refused += (uint32_t)((uint64_t)llm_rng_u32(&rng) * n) < (UINT64_C(1) << 32) % n;
    CHECK(TEST_SLOW || refused > 5);
    size_t *index = (size_t *)test_memory(n, sizeof(size_t));
    float *x = floats(n), t, *d_t = to_device<float>(NULL, 1);
    double want = 0.0;
    llm_rng_normal_fill(&rng, x, n);
    CHECK_CUDA(llm_cuda_bootstrap(d_t, LLM_CUDA_BOOTSTRAP_MEAN, to_device(x, n), (float *)NULL, n,
                                  1, 3, 0));
    rng = llm_rng_seed(3);
    llm_bootstrap_indices(index, n, &rng);
    for (size_t i = 0; i < n; i++) want += (double)x[index[i]] / (double)n;
    CHECK_NEAR(*from_device(&t, d_t, 1), want, 1e-9); /* one observation weighs 2.5e-6 */
}

TEST(bootstrap,
     "the standard error of a mean is s / sqrt(n), and its interval has the mean in it") {
    enum { n = 40, B = TEST_SLOW ? 200 : 3000 };
    float x[n], *t = floats(B), *d_t = to_device<float>(NULL, B);
    size_t *order = (size_t *)test_memory(B, sizeof(size_t));
    double mean = 0.0, square = 0.0, low, high;
    llm_rng rng = llm_rng_seed(1);
    llm_rng_normal_fill(&rng, x, n);
    for (size_t i = 0; i < n; i++) mean += (double)x[i] / n;
    for (size_t i = 0; i < n; i++) square += ((double)x[i] - mean) * ((double)x[i] - mean) / n;
    CHECK_CUDA(llm_cuda_bootstrap(d_t, LLM_CUDA_BOOTSTRAP_MEAN, to_device(x, n), (float *)NULL, n,
                                  B, 1, 0));
    from_device(t, d_t, B);
    const double se = sqrt(square / n); /* relative error of an estimate from B: 1 / sqrt(2 B) */
    CHECK_NEAR(llm_bootstrap_se(t, B), se, se * 4.0 / sqrt(2.0 * B));
    llm_bootstrap_interval(&low, &high, LLM_BOOTSTRAP_PERCENTILE, t, B, mean, 0.0, 0.95, order);
    CHECK(low < mean && mean < high);
    CHECK_NEAR(high - low, 2.0 * 1.96 * se, 0.25 * se * (TEST_SLOW ? 4.0 : 1.0));
}

TEST(bootstrap, "what cannot be resampled fails; a NaN reaches the replicates that drew it") {
    enum { n = 6, B = 20 };
    float x[n] = {NAN, 2, 3, 4, 5, 6}, y[n] = {1, 2, 3, 4, 5, 7}, t[B], *none = NULL;
    float *d_t = to_device<float>(NULL, B), *d_x = to_device(x, n), *d_y = to_device(y, n);
    size_t index[n];
    for (int k = 0; k < 3; k++) { /* it is in x alone; above; below the fraction bar */
        if (k == 0)
            CHECK_CUDA(llm_cuda_bootstrap(d_t, LLM_CUDA_BOOTSTRAP_MEAN, d_x, none, n, B, 2, 0));
        else
            CHECK_CUDA(llm_cuda_bootstrap(d_t, LLM_CUDA_BOOTSTRAP_RATIO, k == 1 ? d_x : d_y,
                                          k == 1 ? d_y : d_x, n, B, 2, 0));
        from_device(t, d_t, B);
        for (size_t b = 0; b < B; b++) {
            bool drew = false;
            llm_rng rng = llm_rng_seed(2 + b);
            llm_bootstrap_indices(index, n, &rng);
            for (size_t i = 0; i < n; i++) drew = drew || index[i] == 0;
            CHECK(isnan(t[b]) == drew);
        }
    }
    CHECK(llm_cuda_bootstrap(none, LLM_CUDA_BOOTSTRAP_MEAN, none, none, (size_t)1 << 32, 0, 1, 0) ==
          cudaErrorInvalidValue); /* an index has 32 bits */
    CHECK(llm_cuda_bootstrap(none, LLM_CUDA_BOOTSTRAP_MEAN, none, none, 0, 3, 1, 0) ==
          cudaErrorInvalidValue);
    CHECK(llm_cuda_bootstrap(none, LLM_CUDA_BOOTSTRAP_RATIO, x, none, 3, 3, 1, 0) ==
          cudaErrorInvalidValue);
    CHECK_CUDA(llm_cuda_bootstrap(none, LLM_CUDA_BOOTSTRAP_MEAN, none, none, 3, 0, 1, 0));
}

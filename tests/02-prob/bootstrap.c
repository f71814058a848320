/* @bootstrap */
#include "../test.h"

#include "../../llm.h"

static double bootstrap_mean(const float *x, const size_t *index, size_t n) {
    double sum = 0.0;
    for (size_t i = 0; i < n; i++) sum += (double)x[index ? index[i] : i];
    return sum / (double)n;
}

TEST(bootstrap,
     "percentile, basic and BCa intervals, standard errors equal SciPy's on its replicates") {
    const char *name[2] = {"mean", "sd"};
    for (size_t s = 0; s < 2; s++) {
        size_t B = 0, order[499];
        const float *t = golden_n(&B, "%s/t", name[s]), *jack = golden("%s/jack", name[s]);
        const double value = (double)golden("%s/value", name[s])[0];
        double acceleration, low, high;
        float got[6], se = (float)llm_bootstrap_se(t, B);
        const float jse = (float)llm_bootstrap_jackknife(&acceleration, jack, 15);
        CHECK_GOLDEN(&se, 1, 1e-6f, "%s/se", name[s]);
        CHECK_GOLDEN(&jse, 1, 1e-6f, "%s/jse", name[s]);
        CHECK((float)llm_bootstrap_jackknife(NULL, jack, 15) == jse);
        for (int m = 0; m < 3; m++) {
            llm_bootstrap_interval(&low, &high, m, t, B, value, acceleration, 0.9, order);
            got[2 * m] = (float)low, got[2 * m + 1] = (float)high;
        }
        CHECK_GOLDEN(got, 6, 2e-5f, "%s/ci",
                     name[s]); /* SciPy counts ties as we do, and rounds z0 */
    }
}

TEST(bootstrap, "the bootstrap error of a mean is s / sqrt n, by jackknife with n - 1") {
    enum { N = 40, B = 5000 };
    llm_rng rng = llm_rng_seed(1);
    float x[N], *t = floats(B), left[N];
    size_t index[N];
    double mean, square = 0.0, total = 0.0;
    llm_rng_normal_fill(&rng, x, N);
    mean = bootstrap_mean(x, NULL, N);
    for (size_t i = 0; i < N; i++)
        square += ((double)x[i] - mean) * ((double)x[i] - mean), total += (double)x[i];
    for (size_t b = 0; b < B; b++) {
        llm_bootstrap_indices(index, N, &rng);
        t[b] = (float)bootstrap_mean(x, index, N);
    }
    CHECK_NEAR(llm_bootstrap_se(t, B) / sqrt(square / N / N), 1.0, 0.03);
    for (size_t i = 0; i < N; i++) left[i] = (float)((total - (double)x[i]) / (N - 1.0));
    CHECK_NEAR(llm_bootstrap_jackknife(NULL, left, N) / sqrt(square / (N - 1.0) / N), 1.0, 1e-4);
    const float three[3] = {1.0f, 2.0f, 6.0f};
    CHECK_NEAR(llm_bootstrap_se(three, 3), sqrt(7.0), 1e-6); /* by hand */
}

TEST(bootstrap, "strata keep their sizes, clusters stay whole, blocks are runs") {
    const size_t start[4] = {0, 3, 4, 9};
    size_t index[20], seen[9] = {0};
    llm_rng rng = llm_rng_seed(2);
    for (size_t r = 0; r < 200; r++) {
        llm_bootstrap_stratified(index, start, 3, &rng);
        for (size_t i = 0; i < 9; i++) {
            const size_t s = i < 3 ? 0 : i < 4 ? 1 : 2;
            CHECK(index[i] >= start[s] && index[i] < start[s + 1]);
            seen[index[i]]++;
        }
        const size_t n = llm_bootstrap_clusters(index, start, 3, &rng);
        size_t at = 0, clusters = 0;
        for (; at < n; clusters++) {
            const size_t c = index[at] == 0 ? 0 : index[at] == 3 ? 1 : 2;
            CHECK(index[at] == start[c]);
            for (size_t i = start[c]; i < start[c + 1]; i++) CHECK(index[at++] == i);
        }
        CHECK(at == n && clusters == 3);
        llm_bootstrap_blocks(index, 9, 4, &rng);
        for (size_t i = 0; i < 9; i++) {
            CHECK(index[i] < 9);
            if (i % 4)
                CHECK(index[i] == index[i - 1] + 1);
            else
                CHECK(index[i] <= 5);
            seen[index[i]] += i == 8;
        }
    }
    for (size_t i = 0; i < 9; i++) CHECK(seen[i] > 20);
    llm_bootstrap_blocks(index, 5, 5, &rng);
    for (size_t i = 0; i < 5; i++) CHECK(index[i] == i);
    llm_bootstrap_blocks(index, 5, 1, &rng); /* single draws */
    for (size_t i = 0; i < 5; i++) CHECK(index[i] < 5);
    CHECK_ASSERTS(llm_bootstrap_blocks(index, 5, 6, &rng));
    CHECK_ASSERTS(llm_bootstrap_blocks(index, 5, 0, &rng));
}

/* Seeds 3 to 11: single draws give 0.320 to 0.341 of the truth, blocks of 25 0.838 to 0.912. */
TEST(bootstrap,
     "AR(1) with 0.8: single draws halve the standard error, blocks recover most of it") {
    enum { N = 400, B = 300, RUNS = 20 };
    llm_rng rng = llm_rng_seed(3);
    float *x = floats(N), *t = floats(B);
    size_t *index = (size_t *)test_memory(N, sizeof(size_t));
    double single = 0.0, blocks = 0.0;
    for (size_t r = 0; r < RUNS; r++) {
        float last = llm_rng_normal(&rng) / 0.6f;
        for (size_t i = 0; i < N; i++) x[i] = last = 0.8f * last + llm_rng_normal(&rng);
        for (size_t b = 0; b < B; b++)
            llm_bootstrap_indices(index, N, &rng), t[b] = (float)bootstrap_mean(x, index, N);
        single += llm_bootstrap_se(t, B) / RUNS;
        for (size_t b = 0; b < B; b++)
            llm_bootstrap_blocks(index, N, 25, &rng), t[b] = (float)bootstrap_mean(x, index, N);
        blocks += llm_bootstrap_se(t, B) / RUNS;
    }
    /* the mean of a long AR(1) series has variance 1 / (1 - 0.8)^2 / N */
    const double truth = 5.0 / sqrt((double)N);
    CHECK(single < 0.5 * truth);
    CHECK(blocks > 0.7 * truth && blocks < truth);
}

/* Seeds 5 to 12: percentile covers 0.864 to 0.880, BCa 0.68 to 1.43 points more, studentized 3.2 to
 * 4.1 points more than BCa; half of the least is asked for. */
TEST(bootstrap, "lognormal, n = 30: BCa covers more than percentile, studentized more than both") {
    enum { N = 30, B = 300, RUNS = 4000 };
    llm_rng rng = llm_rng_seed(4);
    double hit[3] = {0.0};
    for (size_t r = 0; r < RUNS; r++) {
        float x[N], t[B], se[B], left[N], ratio[B];
        size_t index[N], order[B];
        double total = 0.0, acceleration, low, high, square = 0.0;
        for (size_t i = 0; i < N; i++) x[i] = expf(llm_rng_normal(&rng)), total += (double)x[i];
        const double mean = total / N;
        for (size_t i = 0; i < N; i++) {
            left[i] = (float)((total - (double)x[i]) / (N - 1.0));
            square += ((double)x[i] - mean) * ((double)x[i] - mean);
        }
        llm_bootstrap_jackknife(&acceleration, left, N);
        for (size_t b = 0; b < B; b++) {
            double own = 0.0;
            llm_bootstrap_indices(index, N, &rng);
            t[b] = (float)bootstrap_mean(x, index, N);
            for (size_t i = 0; i < N; i++)
                own += ((double)x[index[i]] - (double)t[b]) * ((double)x[index[i]] - (double)t[b]);
            se[b] = (float)sqrt(own / N / N);
        }
        for (int m = 0; m < 3; m++) {
            if (m == 0)
                llm_bootstrap_interval(&low, &high, LLM_BOOTSTRAP_PERCENTILE, t, B, mean, 0.0, 0.95,
                                       order);
            if (m == 1)
                llm_bootstrap_interval(&low, &high, LLM_BOOTSTRAP_BCA, t, B, mean, acceleration,
                                       0.95, order);
            if (m == 2)
                llm_bootstrap_studentized(&low, &high, t, se, B, mean, sqrt(square / N / N), 0.95,
                                          ratio, order);
            hit[m] += (low <= exp(0.5) && exp(0.5) <= high) / (double)RUNS;
        }
    }
    CHECK(hit[1] > hit[0] + 0.0033);
    CHECK(hit[2] > hit[1] + 0.016);
    CHECK(hit[0] > 0.8 && hit[2] < 0.98);
}

TEST(bootstrap, "studentized, by hand: the quantiles of the ratios change sides and scale by se0") {
    const float t[5] = {13.0f, 6.0f, 11.0f, 10.0f, 12.0f}, se[5] = {1.0f, 2.0f, 2.0f, 1.0f, 0.5f};
    float ratio[5]; /* 3, -2, 0.5, 0, 4: with level 0.8 the quantiles are -1.2 and 3.6 */
    size_t order[5];
    double low, high;
    llm_bootstrap_studentized(&low, &high, t, se, 5, 10.0, 0.5, 0.8, ratio, order);
    CHECK_NEAR(low, 10.0 - 0.5 * 3.6, 1e-6);
    CHECK_NEAR(high, 10.0 + 0.5 * 1.2, 1e-6);
}

TEST(bootstrap, "the maximum of a sample: in 63 of 100 resamples it is the maximum itself") {
    enum { N = 50, B = 20000 };
    llm_rng rng = llm_rng_seed(5);
    size_t index[N];
    double same = 0.0;
    for (size_t b = 0; b < B; b++) {
        size_t found = 0;
        llm_bootstrap_indices(index, N, &rng);
        for (size_t i = 0; i < N; i++) found |= index[i] == N - 1;
        same += (double)found / B;
    }
    CHECK_NEAR(same, 1.0 - pow(1.0 - 1.0 / N, N),
               4.0 * sqrt(0.23 / B)); /* 0.636: no spread to see */
}

TEST(bootstrap,
     "permutation: exact share for tiny samples; paired comparison; degenerate replicates") {
    const float x[3] = {1.0f, 2.0f, 3.0f}, y[3] = {4.0f, 5.0f, 6.0f},
                same[4] = {2.0f, 2.0f, 2.0f, 2.0f};
    float pool[8];
    llm_rng rng = llm_rng_seed(6);
    /* of 20 ways to choose 3 of 6, 2 are as far apart */
    CHECK_NEAR(llm_bootstrap_permutation(x, 3, y, 3, 20000, &rng, pool), 0.1, 0.009);
    CHECK(llm_bootstrap_permutation(same, 4, same, 4, 50, &rng, pool) == 1.0);
    const float two[2] = {1.0f, 2.0f}, one[1] = {6.0f};
    CHECK(llm_bootstrap_permutation(one, 1, one, 1, 9, &rng, pool) == 1.0);
    const float wide[2] = {4.0f, 8.0f}; /* of 6 ways 2: the two pairs themselves */
    CHECK_NEAR(llm_bootstrap_permutation(two, 2, wide, 2, 20000, &rng, pool), 1.0 / 3.0, 0.014);
    CHECK_NEAR(llm_bootstrap_permutation(two, 2, one, 1, 20000, &rng, pool), 1.0 / 3.0, 0.014);
    CHECK_ASSERTS(llm_bootstrap_permutation(two, 0, one, 1, 9, &rng, pool));
    CHECK_ASSERTS(llm_bootstrap_permutation(two, 2, one, 0, 9, &rng, pool));
    const float a[4] = {1.0f, 1.0f, 0.0f, 1.0f}, b[4] = {0.0f, 1.0f, 0.0f, 0.0f};
    /* a - b is 1 in two of 4 items: not better with probability (1/2)^4 */
    CHECK_NEAR(llm_bootstrap_paired(a, b, 4, 20000, &rng), 1.0 / 16.0, 0.007);
    CHECK(llm_bootstrap_paired(b, b, 4, 9, &rng) == 1.0);
    CHECK_NEAR(llm_bootstrap_paired(y, x, 3, 99, &rng), 0.01, 1e-12);
    double low, high;
    size_t order[4];
    llm_bootstrap_interval(&low, &high, LLM_BOOTSTRAP_BCA, y, 3, 0.0, 0.0, 0.9, order);
    CHECK(isnan(low) && isnan(high)); /* every replicate above the value */
    llm_bootstrap_interval(&low, &high, LLM_BOOTSTRAP_PERCENTILE, same, 4, 2.0, 0.0, 0.9, order);
    CHECK(low == 2.0 && high == 2.0);
    llm_bootstrap_interval(&low, &high, LLM_BOOTSTRAP_BASIC, y, 3, 4.0, 0.0, 0.5, order);
    CHECK_NEAR(low, 8.0 - 5.5, 1e-12); /* quantiles 4.5 and 5.5, reflected at 4 */
    CHECK_NEAR(high, 8.0 - 4.5, 1e-12);
    const float tied[4] = {1.0f, 2.0f, 2.0f, 3.0f}; /* as many below as above: no bias */
    double even[2];
    llm_bootstrap_interval(&low, &high, LLM_BOOTSTRAP_PERCENTILE, tied, 4, 2.0, 0.0, 0.6, order);
    llm_bootstrap_interval(even, even + 1, LLM_BOOTSTRAP_BCA, tied, 4, 2.0, 0.0, 0.6, order);
    CHECK_NEAR(even[0], low, 1e-9);
    CHECK_NEAR(even[1], high, 1e-9);
    const size_t strata[3] = {0, 1, 3};
    size_t *drawn = (size_t *)test_memory(3, sizeof(size_t)); /* not one more is written */
    llm_bootstrap_stratified(drawn, strata, 2, &rng);
    CHECK(drawn[0] == 0 && drawn[1] >= 1 && drawn[2] >= 1 && drawn[2] < 3);
    double acceleration = 9.0;
    CHECK(llm_bootstrap_jackknife(&acceleration, same, 4) == 0.0 && acceleration == 0.0);
    CHECK_ASSERTS(llm_bootstrap_interval(&low, &high, 0, y, 1, 0.0, 0.0, 0.9, order));
    CHECK_ASSERTS(llm_bootstrap_interval(&low, &high, 0, y, 3, 0.0, 0.0, 1.0, order));
    CHECK_ASSERTS(llm_bootstrap_interval(&low, &high, 0, y, 3, 0.0, 0.0, 0.0, order));
}

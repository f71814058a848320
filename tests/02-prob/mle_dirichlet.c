/* @mle_dirichlet */
#include "../test.h"

#include "../../llm.h"

TEST(mle_dirichlet, "the maximum equals SciPy's, for 2, 3 and 5 classes, wide and tight") {
    const char *name[4] = {"two", "three", "wide", "tight"};
    for (size_t c = 0; c < 4; c++) {
        size_t size = 0, K = 0;
        const float *p = golden_n(&size, "%s/p", name[c]),
                    *want = golden_n(&K, "%s/alpha", name[c]);
        double a[5], next[5], m[5];
        const size_t steps = llm_mle_dirichlet(a, next, m, p, size / K, K);
        CHECK(steps > 0 && steps < 30);
        for (size_t k = 0; k < K; k++) CHECK_NEAR(a[k], want[k], 1e-5 * (double)want[k]);
        CHECK_NEAR(llm_mle_dirichlet_value(a, m, K), golden("%s/l", name[c])[0], 2e-6);
        double s = 0.0; /* the gradient is 0 */
        for (size_t k = 0; k < K; k++) s += a[k];
        for (size_t k = 0; k < K; k++) {
            const double g = llm_special_digamma(s) - llm_special_digamma(a[k]) + m[k];
            CHECK_NEAR(g * a[k], 0.0, 1e-6);
        }
    }
}

/* Nine sets of 500, seeds 2 to 10: 6.2 to 6.8 steps on average. */
TEST(mle_dirichlet, "500 tiny data sets: the gradient is 0 after few steps") {
    llm_rng rng = llm_rng_seed(2);
    double total = 0.0, found = 0.0;
    for (size_t round = 0; round < 500; round++) {
        float p[10 * 5];
        double a[5], next[5], m[5], alpha[5], s = 0.0;
        const size_t N = 3 + llm_rng_below(&rng, 8), K = 2 + llm_rng_below(&rng, 4);
        for (size_t k = 0; k < K; k++) alpha[k] = exp(1.5 * (double)llm_rng_normal(&rng));
        for (size_t n = 0; n < N; n++) {
            double g[5], sum = 0.0;
            for (size_t k = 0; k < K; k++) {
                g[k] = exp(llm_distribution_sample_log_gamma(alpha[k], &rng));
                sum += g[k];
            }
            for (size_t k = 0; k < K; k++) p[n * K + k] = fmaxf(1e-30f, (float)(g[k] / sum));
        }
        const size_t steps = llm_mle_dirichlet(a, next, m, p, N, K);
        if (steps == 0) continue;
        for (size_t k = 0; k < K; k++) s += a[k];
        for (size_t k = 0; k < K; k++) {
            const double g = llm_special_digamma(s) - llm_special_digamma(a[k]) + m[k];
            CHECK_NEAR(g * a[k], 0.0, 1e-5); /* the gain left is 1e-13 */
        }
        total += (double)steps, found += 1.0;
    }
    CHECK(found >= 490.0 && total / found > 6.0 && total / found < 7.0);
}

TEST(mle_dirichlet, "draws with known parameters give them back within 4 standard errors") {
    enum { N = 2000, K = 3 };
    const double alpha[K] = {0.3, 2.0, 6.0};
    llm_rng rng = llm_rng_seed(1);
    float *p = floats(N * K);
    double a[K], next[K], m[K];
    for (size_t n = 0; n < N; n++) {
        double g[K], max = -1e300, sum = 0.0;
        for (size_t k = 0; k < K; k++) {
            g[k] = llm_distribution_sample_log_gamma(alpha[k], &rng);
            max = fmax(max, g[k]);
        }
        for (size_t k = 0; k < K; k++) sum += exp(g[k] - max);
        for (size_t k = 0; k < K; k++) p[n * K + k] = fmaxf(1e-30f, (float)(exp(g[k] - max) / sum));
    }
    CHECK(llm_mle_dirichlet(a, next, m, p, N, K) > 0);
    for (size_t k = 0; k < K; k++) CHECK_NEAR(a[k] / alpha[k], 1.0, 0.12);
}

TEST(mle_dirichlet, "two classes are a beta; equal rows have no maximum; zeros are refused") {
    enum { N = 5 };
    const float x[N] = {0.2f, 0.5f, 0.35f, 0.8f, 0.1f}, same[4] = {0.25f, 0.75f, 0.25f, 0.75f};
    const float zero[4] = {0.0f, 1.0f, 0.5f, 0.5f};
    float p[2 * N];
    double a[2], next[2], m[2], theta[2] = {1.0, 1.0};
    for (size_t i = 0; i < N; i++) p[2 * i] = x[i], p[2 * i + 1] = 1.0f - x[i];
    CHECK(llm_mle_dirichlet(a, next, m, p, N, 2) > 0);
    CHECK(!isnan(llm_mle_newton(theta, NULL, LLM_MLE_BETA, x, NULL, N)));
    CHECK_NEAR(a[0], theta[0], 1e-5);
    CHECK_NEAR(a[1], theta[1], 1e-5);
    CHECK(llm_mle_dirichlet(a, next, m, same, 2, 2) == 0);
    CHECK_ASSERTS(llm_mle_dirichlet(a, next, m, zero, 2, 2));
    const float last[4] = {0.5f, 0.5f, 1.0f, 0.0f};
    CHECK_ASSERTS(llm_mle_dirichlet(a, next, m, last, 2, 2));
}

/* There is a maximum unless all rows are equal. */
TEST(mle_dirichlet, "a class that does not move, and one that is nearly all, are no obstacle") {
    const float still[6] = {0.5f, 0.3f, 0.2f, 0.5f, 0.2f, 0.3f};
    const float most[6] = {0.999999f, 1e-6f, 0.9999995f, 5e-7f, 0.9999992f, 8e-7f};
    for (size_t c = 0; c < 2; c++) {
        double a[3], next[3], m[3], s = 0.0;
        const size_t K = c ? 2 : 3;
        CHECK(llm_mle_dirichlet(a, next, m, c ? most : still, c ? 3 : 2, K) > 0);
        for (size_t k = 0; k < K; k++) s += a[k];
        for (size_t k = 0; k < K; k++) {
            const double g = llm_special_digamma(s) - llm_special_digamma(a[k]) + m[k];
            CHECK_NEAR(g, 0.0, 1e-6 * (1.0 + 1.0 / a[k]));
        }
    }
}

/* @log_likelihood */
#include "../test.h"

#include "../../llm.h"

enum { CASES = 10 };
static const llm_distribution log_likelihood_case[CASES] = {
    {LLM_DISTRIBUTION_NORMAL, 0, 0, 0.3, 1.7},      {LLM_DISTRIBUTION_LAPLACE, 0, 0, -0.2, 0.8},
    {LLM_DISTRIBUTION_LOGISTIC, 0, 0, 0.1, 1.1},    {LLM_DISTRIBUTION_CAUCHY, 0, 0, 0.5, 2},
    {LLM_DISTRIBUTION_STUDENT_T, 4.5, 0, 0.2, 1.5}, {LLM_DISTRIBUTION_EXPONENTIAL, 0, 0, -4, 2},
    {LLM_DISTRIBUTION_GAMMA, 2.5, 0, -4, 1.2},      {LLM_DISTRIBUTION_CHI_SQUARED, 3, 0, -4, 0.9},
    {LLM_DISTRIBUTION_BETA, 2, 3.5, -4, 9},         {LLM_DISTRIBUTION_UNIFORM, 0, 0, -4, 9}};

TEST(log_likelihood, "sums equal scipy.stats, with weights; weight 0 is not read") {
    size_t n = 0;
    const float *x = golden_n(&n, "x/x"), *w = golden("x/w");
    for (size_t c = 0; c < CASES; c++) {
        const llm_distribution *d = &log_likelihood_case[c];
        const double want = (double)golden("iid%zu/sum", c)[0];
        const double weighted = (double)golden("iid%zu/weighted", c)[0];
        CHECK_NEAR(llm_log_likelihood_iid(d, x, NULL, n), want, 1e-6 * fabs(want));
        CHECK_NEAR(llm_log_likelihood_iid(d, x, w, n), weighted, 1e-6 * fabs(weighted));
    }
    const llm_distribution unit = {LLM_DISTRIBUTION_UNIFORM, 0, 0, 0, 1};
    const float out[2] = {0.5f, 2.0f}, zero[2] = {1.0f, 0.0f};
    double score[4];
    CHECK(llm_log_likelihood_iid(&unit, out, NULL, 2) == -(double)INFINITY);
    CHECK_NEAR(llm_log_likelihood_iid(&unit, out, zero, 2), 0.0, 1e-15);
    CHECK(llm_log_likelihood_iid(&unit, out, NULL, 0) == 0.0);
    const llm_distribution gamma = {LLM_DISTRIBUTION_GAMMA, 2, 0, 0, 1};
    const float some[2] = {1.0f, NAN};
    llm_log_likelihood_score(score, &gamma, some, zero, 2);
    CHECK_NEAR(score[0], 0.0, 1e-15);
}

TEST(log_likelihood, "the score equals finite differences in every parameter") {
    size_t n = 0;
    const float *x = golden_n(&n, "x/x"), *w = golden("x/w");
    for (size_t c = 0; c < CASES; c++) {
        llm_distribution d = log_likelihood_case[c];
        double score[4], *parameter[4] = {&d.loc, &d.scale, &d.a, &d.b};
        llm_log_likelihood_score(score, &d, x, w, n);
        for (size_t k = 0; k < 4; k++) {
            const double kept = *parameter[k], h = 1e-6;
            *parameter[k] = kept + h;
            if (d.kind == LLM_DISTRIBUTION_UNIFORM && k == 0) *parameter[k] = kept;
            const double up = llm_log_likelihood_iid(&d, x, w, n);
            *parameter[k] = kept - h;
            if (d.kind == LLM_DISTRIBUTION_UNIFORM && k == 0) *parameter[k] = kept;
            const double down = llm_log_likelihood_iid(&d, x, w, n);
            *parameter[k] = kept;
            CHECK_NEAR(score[k], (up - down) / (2.0 * h), 1e-6 * (1.0 + fabs(score[k])));
        }
    }
}

TEST(log_likelihood, "the score averages to 0 at the truth, over 2000 data sets of 5") {
    llm_rng rng = llm_rng_seed(1);
    for (size_t c = 0; c < CASES - 1; c++) { /* uniform is not regular: its ends move */
        const llm_distribution *d = &log_likelihood_case[c];
        double sum[4] = {0.0}, sum_sq[4] = {0.0};
        for (size_t r = 0; r < 2000; r++) {
            float x[5];
            double score[4];
            for (size_t i = 0; i < 5; i++) x[i] = (float)llm_distribution_sample(d, &rng);
            llm_log_likelihood_score(score, d, x, NULL, 5);
            for (size_t k = 0; k < 4; k++) sum[k] += score[k], sum_sq[k] += score[k] * score[k];
        }
        const bool ends = d->kind == LLM_DISTRIBUTION_EXPONENTIAL; /* it moves with loc */
        for (size_t k = ends ? 1 : 0; k < 4; k++) CHECK(fabs(sum[k]) <= 4.0 * sqrt(sum_sq[k]));
    }
}

TEST(log_likelihood,
     "2000 draws: the product underflows, the sum does not; ones beside 1e16 add up") {
    llm_rng rng = llm_rng_seed(2);
    const llm_distribution d = {LLM_DISTRIBUTION_NORMAL, 0, 0, 0, 1};
    float *x = floats(2000);
    double product = 1.0, l = 0.0;
    for (size_t i = 0; i < 2000; i++) {
        x[i] = llm_rng_normal(&rng);
        product *= exp(llm_distribution_logpdf(&d, (double)x[i]));
        l -= 0.5 * ((double)x[i] * (double)x[i] + log(2.0 * acos(-1.0)));
    }
    CHECK(product == 0.0);
    CHECK_NEAR(llm_log_likelihood_iid(&d, x, NULL, 2000), l, 1e-9);
    double sum = 0.0, lost = 0.0;
    llm_log_likelihood_add(&sum, &lost, 1e16);
    for (size_t i = 0; i < 1000; i++) llm_log_likelihood_add(&sum, &lost, 1.0);
    llm_log_likelihood_add(&sum, &lost, -1e16);
    CHECK(sum + lost == 1000.0);
    sum = lost = 0.0;
    llm_log_likelihood_add(&sum, &lost, 1.0);
    llm_log_likelihood_add(&sum, &lost, 1e16); /* the new one is the larger */
    llm_log_likelihood_add(&sum, &lost, -1e16);
    CHECK(sum + lost == 1.0);
    llm_log_likelihood_add(&sum, &lost, -(double)INFINITY);
    llm_log_likelihood_add(&sum, &lost, 1.0);
    CHECK(sum + lost == -(double)INFINITY);
}

TEST(log_likelihood, "every sum keeps what is small beside what is huge; Laplace at its kink") {
    const float first[3] = {1e16f, 0, 0}, next[9] = {0, 1.0f, 0, 0, 0, -1e16f, 0, 0, 0};
    const int token[3] = {0, 1, 2};
    CHECK(llm_log_likelihood_sequence(first, next, token, 3, 3) == 1.0);
    const llm_distribution d = {LLM_DISTRIBUTION_NORMAL, 0, 0, 0, 1};
    const llm_distribution laplace = {LLM_DISTRIBUTION_LAPLACE, 0, 0, 2, 1};
    const double share = 1.0, want = -0.5 * 16384.0 * 16384.0 * 67108864.0;
    const float at[1] = {2.0f};
    float *x = zeros(1001); /* 2^27 deviations off, then 1000 in the middle: doubles are 2 apart */
    double term, score[4];
    x[0] = 134217728.0f;
    CHECK_NEAR(llm_log_likelihood_mixture(NULL, &d, &share, 1, x, 1001, &term) - want,
               -1001.0 * 0.91893853, 4.0);
    CHECK_NEAR(llm_log_likelihood_iid(&d, x, NULL, 1001) - want, -1001.0 * 0.91893853, 4.0);
    llm_log_likelihood_score(score, &laplace, at, NULL, 1);
    CHECK(score[0] == 0.0 && score[1] == -1.0);
}

TEST(log_likelihood, "a chain of tokens, and a mixture with responsibilities") {
    const float first[2] = {-1.0f, -2.0f}, next[4] = {-0.1f, -3.0f, -5.0f, -0.25f};
    const int token[4] = {1, 1, 0, 1}, bad[1] = {2}, negative[2] = {0, -1};
    CHECK_NEAR(llm_log_likelihood_sequence(first, next, token, 4, 2), -2.0 - 0.25 - 5.0 - 3.0,
               1e-6);
    CHECK(llm_log_likelihood_sequence(first, next, token, 0, 2) == 0.0);
    CHECK_ASSERTS(llm_log_likelihood_sequence(first, next, bad, 1, 2));
    CHECK_ASSERTS(llm_log_likelihood_sequence(first, next, negative, 2, 2));

    size_t n = 0;
    const float *x = golden_n(&n, "x/x");
    const llm_distribution d[3] = {{LLM_DISTRIBUTION_NORMAL, 0, 0, -1, 0.5},
                                   {LLM_DISTRIBUTION_NORMAL, 0, 0, 1, 1},
                                   {LLM_DISTRIBUTION_LAPLACE, 0, 0, 0, 1}};
    const double share[3] = {0.2, 0.5, 0.3}, none[3] = {1.0, 0.0, 0.0};
    double term[3];
    float *r = floats(3 * n);
    const double want = (double)golden("mixture/sum")[0];
    CHECK_NEAR(llm_log_likelihood_mixture(r, d, share, 3, x, n, term), want, 1e-6 * fabs(want));
    CHECK_GOLDEN(r, 3 * n, 1e-6f, "mixture/r");
    CHECK_NEAR(llm_log_likelihood_mixture(NULL, d, none, 3, x, n, term),
               llm_log_likelihood_iid(&d[0], x, NULL, n), 1e-9);
    const llm_distribution pole[2] = {{LLM_DISTRIBUTION_NORMAL, 0, 0, 0, 1},
                                      {LLM_DISTRIBUTION_GAMMA, 0.5, 0, 0, 1}}; /* infinite at 0 */
    const float zero[1] = {0.0f};
    CHECK_NEAR(llm_log_likelihood_mixture(r, pole, none, 2, zero, 1, term), -0.918938533, 1e-9);
    CHECK(r[0] == 1.0f && r[1] == 0.0f);
    const llm_distribution unit = {LLM_DISTRIBUTION_UNIFORM, 0, 0, 0, 1};
    const float far_away[2] = {5.0f, 0.5f}, far_out[1] = {1e5f};
    CHECK(llm_log_likelihood_mixture(r, &unit, none, 1, far_away, 2, term) == -(double)INFINITY);
    CHECK(r[0] == 0.0f && r[1] == 1.0f);
    llm_log_likelihood_mixture(r, d, share, 3, far_out, 1,
                               term); /* only the Laplace reaches there */
    CHECK(r[0] == 0.0f && r[1] == 0.0f && r[2] == 1.0f);
}

TEST(log_likelihood, "AIC, AICc, BIC equal statsmodels'; a true null is rejected 5% of the time") {
    const double l = (double)golden("ols/l")[0];
    CHECK_NEAR(llm_log_likelihood_aic(l, 4.0), golden("ols/aic")[0], 1e-4);
    CHECK_NEAR(llm_log_likelihood_bic(l, 4.0, 30.0), golden("ols/bic")[0], 1e-4);
    CHECK_NEAR(llm_log_likelihood_aicc(l, 4.0, 30.0), golden("ols/aicc")[0], 1e-4);
    CHECK(llm_log_likelihood_aicc(l, 4.0, 5.0) == (double)INFINITY);
    CHECK(llm_log_likelihood_aicc(l, 4.0, 4.0) == (double)INFINITY);
    CHECK(llm_log_likelihood_aicc(l, 4.0, 6.0) < (double)INFINITY);
    CHECK_NEAR(llm_log_likelihood_ratio_test(-10.0, -8.0, 2.0), exp(-2.0), 1e-15); /* chi2(2) */
    CHECK(llm_log_likelihood_ratio_test(-8.0, -8.1, 1.0) ==
          1.0); /* an optimizer that stopped early */
    CHECK_ASSERTS(llm_log_likelihood_ratio_test(-10.0, -8.0, 0.0));

    /* normal, n = 50: mean 0 against a free mean, both with a free variance. Seeds 3 and 4..11:
     * 5.0% to 6.1% */
    llm_rng rng = llm_rng_seed(3);
    double rejected = 0.0;
    for (size_t r = 0; r < 2000; r++) {
        double sum = 0.0, sum_sq = 0.0;
        for (size_t i = 0; i < 50; i++) {
            const double x = (double)llm_rng_normal(&rng);
            sum += x / 50.0, sum_sq += x * x / 50.0;
        }
        const double small = -25.0 * log(sum_sq), big = -25.0 * log(sum_sq - sum * sum);
        rejected += llm_log_likelihood_ratio_test(small, big, 1.0) < 0.05;
    }
    CHECK_NEAR(rejected / 2000.0, 0.05, 0.015);
}

TEST(log_likelihood, "the profile interval of a parabola is +-1.96, open where the grid ends") {
    enum { N = 401 };
    double *theta = doubles(N), *curve = doubles(N), low, high; /* exactly as long as they are */
    for (size_t i = 0; i < N; i++) {
        theta[i] = -5.0 + 0.025 * (double)i;
        curve[i] = 7.0 - 0.5 * (theta[i] - 1.0) * (theta[i] - 1.0) / 0.25; /* 1, sd 0.5 */
    }
    llm_log_likelihood_profile(&low, &high, theta, curve, N, 0.95);
    CHECK_NEAR(low, 1.0 - 0.5 * 1.959964, 1e-3); /* linear between points 0.025 apart */
    CHECK_NEAR(high, 1.0 + 0.5 * 1.959964, 1e-3);
    llm_log_likelihood_profile(&low, &high, theta, curve, 241, 0.95); /* ends at 1 */
    CHECK_NEAR(low, 1.0 - 0.5 * 1.959964, 1e-3);
    CHECK(high == (double)INFINITY);
    llm_log_likelihood_profile(&low, &high, theta + 240, curve + 240, 100, 0.9);
    CHECK(low == -(double)INFINITY);
    CHECK_NEAR(high, 1.0 + 0.5 * 1.644854, 1e-3);
    llm_log_likelihood_profile(&low, &high, theta + 240, curve + 240, 1, 0.9);
    CHECK(low == -(double)INFINITY && high == (double)INFINITY);
    llm_log_likelihood_profile(&low, &high, theta + N - 41, curve + N - 41, 41, 0.95);
    CHECK(low == -(double)INFINITY && isfinite(high));
    for (size_t i = 0; i < N; i++) curve[i] = theta[i]; /* rises to the last point */
    llm_log_likelihood_profile(&low, &high, theta, curve, N, 0.95);
    CHECK(isfinite(low) && high == (double)INFINITY);
    const double corner[3] = {1.0, 2.0, 4.0}, tent[3] = {0.0, 10.0, 0.0}; /* straight lines */
    llm_log_likelihood_profile(&low, &high, corner, tent, 3, 0.95);
    CHECK_NEAR(low, 2.0 - 0.19207294, 1e-7);
    CHECK_NEAR(high, 2.0 + 2.0 * 0.19207294, 1e-7);
    llm_log_likelihood_profile(&low, &high, corner, tent + 1, 2, 0.95); /* the first is the best */
    CHECK(low == -(double)INFINITY);
    CHECK_NEAR(high, 1.0 + 0.19207294, 1e-7);
}

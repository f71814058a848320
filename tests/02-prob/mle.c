/* @mle */
#include "../test.h"

#include "../../llm.h"

static const char *mle_name[4] = {"gamma", "beta", "negative", "weibull"};

TEST(mle, "Newton finds what scipy.stats and statsmodels find, Weibull with censored data") {
    for (int family = 0; family < 4; family++) {
        size_t n = 0;
        const float *x = golden_n(&n, "%s/x", mle_name[family]);
        const bool *event = family == LLM_MLE_WEIBULL ? as_bools(golden("weibull/event"), n) : NULL;
        const float *want = golden("%s/theta", mle_name[family]);
        const double starts[3][2] = {{1.0, 1.0}, {0.05, 20.0}, {5.0, 0.5}};
        for (size_t s = 0; s < 3; s++) {
            double theta[2] = {starts[s][0], starts[s][1]}, se[2];
            const double l = llm_mle_newton(theta, se, family, x, event, n);
            CHECK_NEAR(theta[0], want[0], 1e-6 * (double)want[0]);
            CHECK_NEAR(theta[1], want[1], 1e-6 * (double)want[1]);
            CHECK_NEAR(l, golden("%s/l", mle_name[family])[0], 1e-5 * fabs(l));
            if (family == LLM_MLE_NEGATIVE) {
                const double want_se = (double)golden("negative/se_mean")[0];
                CHECK_NEAR(se[1], want_se,
                           1e-3 * want_se); /* statsmodels differentiates numerically */
            }
            double again[2] = {theta[0], theta[1]};
            CHECK(llm_mle_newton(again, NULL, family, x, event, n) == l ||
                  fabs(again[0] - theta[0]) < 1e-9);
        }
    }
}

TEST(mle, "gradient and Hessian equal finite differences, the value the sum of log densities") {
    for (int family = 0; family < 4; family++) {
        size_t n = 0;
        const float *x = golden_n(&n, "%s/x", mle_name[family]);
        const bool *event = family == LLM_MLE_WEIBULL ? as_bools(golden("weibull/event"), n) : NULL;
        double u[2] = {0.3, 0.6}, g[2], h[3], up[2], down[2], trash[3], t = 1e-5;
        const double l = llm_mle_eval(g, h, u, family, x, event, n);
        for (size_t k = 0; k < 2; k++) {
            const double kept = u[k];
            u[k] = kept + t;
            const double above = llm_mle_eval(up, trash, u, family, x, event, n);
            u[k] = kept - t;
            const double below = llm_mle_eval(down, trash, u, family, x, event, n);
            u[k] = kept;
            CHECK_NEAR(g[k], (above - below) / (2.0 * t), 1e-5 * (1.0 + fabs(g[k])));
            CHECK_NEAR(h[k], (up[0] - down[0]) / (2.0 * t), 1e-5 * (1.0 + fabs(h[k])));
            CHECK_NEAR(h[k + 1], (up[1] - down[1]) / (2.0 * t), 1e-5 * (1.0 + fabs(h[k + 1])));
        }
        double sum = 0.0;
        for (size_t i = 0; i < n; i++) {
            const double a = exp(0.3), b = exp(0.6), xi = (double)x[i];
            const llm_distribution gamma = {LLM_DISTRIBUTION_GAMMA, a, 0, 0, b};
            const llm_distribution beta = {LLM_DISTRIBUTION_BETA, a, b, 0, 1};
            const llm_categorical_law law = {LLM_CATEGORICAL_NEGATIVE, a, a / (a + b)};
            if (family == LLM_MLE_GAMMA) sum += llm_distribution_logpdf(&gamma, xi);
            if (family == LLM_MLE_BETA) sum += llm_distribution_logpdf(&beta, xi);
            if (family == LLM_MLE_NEGATIVE) sum += llm_categorical_logpmf(&law, xi);
            if (family == LLM_MLE_WEIBULL)
                sum += (event[i] ? log(a / b) + (a - 1.0) * log(xi / b) : 0.0) - pow(xi / b, a);
        }
        CHECK_NEAR(l, sum, 1e-10 * fabs(sum));
    }
}

TEST(mle, "the score is 0 at the answer, and 1000 neighbours are worse") {
    llm_rng rng = llm_rng_seed(1);
    for (int family = 0; family < 4; family++) {
        size_t n = 0;
        const float *x = golden_n(&n, "%s/x", mle_name[family]);
        const bool *event = family == LLM_MLE_WEIBULL ? as_bools(golden("weibull/event"), n) : NULL;
        double theta[2] = {1.0, 1.0}, g[2], h[3];
        const double best = llm_mle_newton(theta, NULL, family, x, event, n);
        double u[2] = {log(theta[0]), log(theta[1])};
        llm_mle_eval(g, h, u, family, x, event, n);
        CHECK(fabs(g[0]) < 1e-6 && fabs(g[1]) < 1e-6);
        for (size_t k = 0; k < 1000; k++) {
            double v[2];
            for (size_t i = 0; i < 2; i++) v[i] = u[i] + 0.1 * (double)llm_rng_normal(&rng);
            CHECK(llm_mle_eval(g, h, v, family, x, event, n) < best);
        }
    }
}

/* Seeds 2 to 10: the four ratios lie between 0.94 and 1.06. */
TEST(mle, "standard errors: 500 data sets of 200 scatter by what is reported") {
    llm_rng rng = llm_rng_seed(2);
    for (int family = LLM_MLE_GAMMA; family <= LLM_MLE_WEIBULL; family += LLM_MLE_WEIBULL) {
        double sum[2] = {0.0}, sum_sq[2] = {0.0}, reported[2] = {0.0};
        for (size_t r = 0; r < 500; r++) {
            float x[200];
            for (size_t i = 0; i < 200; i++) {
                const double u = llm_distribution_sample_uniform(&rng);
                x[i] = (float)(family == LLM_MLE_GAMMA
                                   ? 1.5 * exp(llm_distribution_sample_log_gamma(3.0, &rng))
                                   : 1.5 * pow(-log(u), 1.0 / 3.0));
            }
            double theta[2] = {1.0, 1.0}, se[2];
            CHECK(!isnan(llm_mle_newton(theta, se, family, x, NULL, 200)));
            for (size_t k = 0; k < 2; k++) {
                sum[k] += theta[k] / 500.0, sum_sq[k] += theta[k] * theta[k] / 500.0;
                reported[k] += se[k] / 500.0;
            }
        }
        for (size_t k = 0; k < 2; k++) {
            const double sd = sqrt(sum_sq[k] - sum[k] * sum[k]);
            CHECK_NEAR(sd / reported[k], 1.0, 0.12);
        }
    }
}

TEST(mle, "closed forms, by hand; invariance; the median splits even samples") {
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 1024));
    const float x[4] = {1.0f, 7.0f, 2.0f, 4.0f};
    llm_distribution d;
    CHECK(llm_mle_fit(&d, LLM_DISTRIBUTION_NORMAL, x, 4, &arena));
    CHECK(d.loc == 3.5);
    CHECK_NEAR(d.scale, sqrt((6.25 + 12.25 + 2.25 + 0.25) / 4.0), 1e-15);
    CHECK(llm_mle_fit(&d, LLM_DISTRIBUTION_LAPLACE, x, 4, &arena));
    CHECK(d.loc == 3.0 && d.scale == (2.0 + 4.0 + 1.0 + 1.0) / 4.0);
    CHECK(llm_mle_fit(&d, LLM_DISTRIBUTION_LAPLACE, x, 3, &arena) && d.loc == 2.0);
    CHECK(llm_mle_fit(&d, LLM_DISTRIBUTION_EXPONENTIAL, x, 4, &arena));
    CHECK(d.loc == 0.0 && d.scale == 3.5 && d.kind == LLM_DISTRIBUTION_EXPONENTIAL);
    const float from_zero[2] = {0.0f, 1.0f};
    CHECK(llm_mle_fit(&d, LLM_DISTRIBUTION_EXPONENTIAL, from_zero, 2, &arena) && d.scale == 0.5);
    CHECK(llm_mle_fit(&d, LLM_DISTRIBUTION_UNIFORM, x, 4, &arena));
    CHECK(d.loc == 1.0 && d.scale == 6.0);
    /* exponential as a gamma of shape 1: the rate is the reciprocal of the scale, in any form */
    double u[2] = {0.0, log(3.5)}, g[2], h[3];
    llm_mle_eval(g, h, u, LLM_MLE_GAMMA, x, NULL, 4);
    CHECK_NEAR(g[1], 0.0, 1e-12);

    const float same[3] = {2.0f, 2.0f, 2.0f}, below[2] = {1.0f, -1.0f}, bad[2] = {NAN, 1.0f};
    CHECK(!llm_mle_fit(&d, LLM_DISTRIBUTION_NORMAL, same, 3, &arena));
    CHECK(!llm_mle_fit(&d, LLM_DISTRIBUTION_UNIFORM, same, 3, &arena));
    CHECK(!llm_mle_fit(&d, LLM_DISTRIBUTION_EXPONENTIAL, below, 2, &arena));
    CHECK(!llm_mle_fit(&d, LLM_DISTRIBUTION_NORMAL, bad, 2, &arena));
    CHECK(!llm_mle_fit(&d, LLM_DISTRIBUTION_NORMAL, same, 0, &arena));
    CHECK(d.scale == 0.0);
    CHECK(arena.used == 0);
    CHECK_ASSERTS(llm_mle_fit(&d, LLM_DISTRIBUTION_CAUCHY, x, 4, &arena));
    llm_arena_destroy(&arena);
}

TEST(mle, "every family converges to one point from 196 starts between 1e-300 and 1e300") {
    for (int family = 0; family < 4; family++) {
        size_t n = 0;
        const float *x = golden_n(&n, "%s/x", mle_name[family]);
        const bool *event = family == LLM_MLE_WEIBULL ? as_bools(golden("weibull/event"), n) : NULL;
        const float *want = golden("%s/theta", mle_name[family]);
        const double start[14] = {1e-300, 1e-9, 1e-6, 1e-3, 0.04, 0.2,  0.7,
                                  3.0,    30.0, 1e3,  1e4,  1e6,  1e12, 1e300};
        for (size_t k = 0; k < 14 * 14; k++) {
            double theta[2] = {start[k / 14], start[k % 14]};
            llm_mle_newton(theta, NULL, family, x, event, n);
            for (size_t i = 0; i < 2; i++) CHECK_NEAR(theta[i], want[i], 1e-6 * (double)want[i]);
        }
    }
}

/* Bisection of the equation of the shape alone, d / s + sum log x over events =
 * d sum x^s log x / sum x^s, whose two sides cross once. */
TEST(mle, "Weibull: 500 censored data sets of all scales, against bisection") {
    llm_rng rng = llm_rng_seed(5);
    for (size_t round = 0; round < 500; round++) {
        float x[20];
        bool event[20];
        const size_t n = 3 + llm_rng_below(&rng, 18);
        const double scale = exp(10.0 * (double)llm_rng_normal(&rng)), b = 4.0 * scale;
        const double shape = exp(1.5 * (double)llm_rng_normal(&rng));
        double events = 0.0, logs = 0.0, low = 1e-4, high = 1e4;
        for (size_t i = 0; i < n; i++) {
            const double v = scale * pow(-log(llm_distribution_sample_uniform(&rng)), 1.0 / shape);
            x[i] = (float)fmax(fmin(v, b), 1e-30);
            event[i] = v < b && llm_rng_below(&rng, 4) > 0;
            if (i < 2) event[i] = true;
            events += event[i];
            logs += event[i] ? log((double)x[i] / b) : 0.0;
        }
        while (high / low > 1.0 + 1e-13) {
            const double s = sqrt(low * high);
            double sum = 0.0, slope = 0.0;
            for (size_t i = 0; i < n; i++) {
                const double r = log((double)x[i] / b);
                sum += exp(s * r), slope += exp(s * r) * r;
            }
            if (events / s + logs > events * slope / sum)
                low = s;
            else
                high = s;
        }
        double power = 0.0, theta[2] = {exp(5.0 * (double)llm_rng_normal(&rng)), 1.0};
        for (size_t i = 0; i < n; i++) power += pow((double)x[i] / b, low);
        const double l = llm_mle_newton(theta, NULL, LLM_MLE_WEIBULL, x, event, n);
        if (high > 9e3) { /* all events at b: no maximum */
            CHECK(isnan(l));
            continue;
        }
        CHECK_NEAR(theta[0] / low, 1.0, 1e-6);
        CHECK_NEAR(theta[1] / (b * pow(power / events, 1.0 / low)), 1.0, 1e-5);
    }
    const float x[2] = {1.0f, 2.0f};
    const bool none[2] = {false, false};
    double theta[2] = {1.0, 1.0};
    CHECK(isnan(llm_mle_newton(theta, NULL, LLM_MLE_WEIBULL, x, none, 2)));
}

TEST(mle, "no maximum: equal values, counts less spread than Poisson") {
    const float same[5] = {0.5f, 0.5f, 0.5f, 0.5f, 0.5f}, counts[4] = {3.0f, 3.0f, 2.0f, 3.0f};
    for (int family = 0; family < 4; family++) {
        double theta[2] = {1.0, 1.0};
        const float *x = family == LLM_MLE_NEGATIVE ? counts : same;
        CHECK(isnan(
            llm_mle_newton(theta, NULL, family, x, NULL, family == LLM_MLE_NEGATIVE ? 4 : 5)));
        CHECK(theta[0] == 1.0 && theta[1] == 1.0);
    }
}

/* @confidence_interval */
#include "../test.h"

#include "../../llm.h"

static void confidence_interval_near(llm_confidence_interval got, const float *want, double tol) {
    CHECK_NEAR(got.low, want[0], tol * (1.0 + fabs((double)want[0])));
    CHECK_NEAR(got.high, want[1], tol * (1.0 + fabs((double)want[1])));
}

TEST(confidence_interval, "the other intervals and tests equal SciPy's and statsmodels'") {
    const float *x = golden("data/x"), *y = golden("data/y");
    double mean, var;
    confidence_interval_near(llm_confidence_interval_mean(x, NULL, 9, 0.95), golden("data/mean"),
                             1e-6);
    confidence_interval_near(llm_confidence_interval_mean(x, y, 9, 0.9), golden("data/paired"),
                             1e-6);
    confidence_interval_near(llm_confidence_interval_welch(x, 9, y, 13, 0.9), golden("data/welch"),
                             1e-6);
    llm_confidence_interval_moments(&mean, &var, x, NULL, 9);
    confidence_interval_near(llm_confidence_interval_variance(var, 9, 0.95),
                             golden("data/variance"), 1e-6);
    llm_confidence_interval_moments(&mean, &var, x, y, 9);
    const double p = llm_confidence_interval_tost(mean, sqrt(var / 9.0), 8.0, 3.0);
    CHECK_NEAR(p, golden("data/tost")[0], 1e-6);
    CHECK(llm_confidence_interval_tost(-mean, sqrt(var / 9.0), 8.0, 3.0) == p);
    confidence_interval_near(llm_confidence_interval_correlation((double)golden("r/r")[0], 9, 0.95),
                             golden("r/ci"), 1e-6);
    const float *rate = golden("rate/ci");
    confidence_interval_near(llm_confidence_interval_rate(0.0, 4.0, 0.95), rate, 1e-6);
    confidence_interval_near(llm_confidence_interval_rate(7.0, 4.0, 0.95), rate + 2, 1e-6);
    float adjusted[6];
    size_t order[6];
    llm_confidence_interval_holm(adjusted, order, golden("holm/p"), 6);
    CHECK_GOLDEN(adjusted, 6, 1e-6f, "holm/adjusted");
    CHECK_NEAR(llm_confidence_interval_critical(0.95, (double)INFINITY), 1.959963984540054, 1e-12);
    CHECK_NEAR(llm_confidence_interval_critical(0.95, 1e6),
               llm_confidence_interval_critical(0.95, 1e7), 1e-5);
}

TEST(confidence_interval, "proportions equal statsmodels', also 0 of n and n of n") {
    const double cases[6][2] = {{0, 10}, {10, 10}, {3, 10}, {1, 20}, {470, 1000}, {0, 1}};
    for (int m = 0; m < 4; m++)
        for (size_t c = 0; c < 6; c++)
            confidence_interval_near(
                llm_confidence_interval_proportion(cases[c][0], cases[c][1], 0.95, m),
                golden("p%d/ci", m) + 2 * c, 1e-6);
}

TEST(confidence_interval,
     "exact coverage of 20 trials: Wald fails, Wilson holds, exact never falls short") {
    CHECK(llm_confidence_interval_coverage(20.0, 0.05, 0.95, LLM_CONFIDENCE_INTERVAL_WALD) < 0.70);
    CHECK(llm_confidence_interval_coverage(20.0, 0.05, 0.95, LLM_CONFIDENCE_INTERVAL_WILSON) >
          0.90);
    for (double p = 0.005; p < 1.0; p += 0.0099) {
        CHECK(llm_confidence_interval_coverage(20.0, p, 0.95, LLM_CONFIDENCE_INTERVAL_EXACT) >=
              0.95);
        const double a =
            llm_confidence_interval_coverage(20.0, p, 0.95, LLM_CONFIDENCE_INTERVAL_WILSON);
        CHECK_NEAR(
            llm_confidence_interval_coverage(20.0, 1.0 - p, 0.95, LLM_CONFIDENCE_INTERVAL_WILSON),
            a, 1e-9);
    }
    for (int end = 0; end < 2; end++) /* ends belong to the interval */
        CHECK_NEAR(llm_confidence_interval_coverage(7.0, end, 0.95, LLM_CONFIDENCE_INTERVAL_EXACT),
                   1.0, 1e-12);
    /* by hand: one trial; Wald has width 0 and misses every p inside */
    CHECK(llm_confidence_interval_coverage(1.0, 0.3, 0.95, LLM_CONFIDENCE_INTERVAL_WALD) == 0.0);
}

/* Seeds 1 to 10: t between 0.945 and 0.956, z between 0.874 and 0.888. */
TEST(confidence_interval, "5 normal values: t covers 95%, z does not") {
    llm_rng rng = llm_rng_seed(1);
    double t = 0.0, z = 0.0;
    for (size_t r = 0; r < 4000; r++) {
        float x[5];
        double mean, var;
        for (size_t i = 0; i < 5; i++) x[i] = 3.0f + 2.0f * llm_rng_normal(&rng);
        const llm_confidence_interval a = llm_confidence_interval_mean(x, NULL, 5, 0.95);
        llm_confidence_interval_moments(&mean, &var, x, NULL, 5);
        const llm_confidence_interval b =
            llm_confidence_interval_symmetric(mean, sqrt(var / 5.0), 1e9, 0.95);
        t += a.low <= 3.0 && 3.0 <= a.high, z += b.low <= 3.0 && 3.0 <= b.high;
    }
    CHECK_NEAR(t / 4000.0, 0.95, 0.01);
    CHECK(z / 4000.0 < 0.90);
}

TEST(confidence_interval,
     "one value, no trials, levels of 0 and 1 are refused; no spread has no width") {
    const float x[3] = {2.0f, 2.0f, 2.0f};
    double mean, var;
    llm_confidence_interval_moments(&mean, &var, x, NULL, 1);
    CHECK(mean == 2.0 && isnan(var));
    const llm_confidence_interval i = llm_confidence_interval_mean(x, NULL, 3, 0.95);
    CHECK(i.low == 2.0 && i.high == 2.0);
    const llm_confidence_interval w = llm_confidence_interval_welch(x, 3, x, 2, 0.95);
    CHECK(w.low == 0.0 && w.high == 0.0);
    const llm_confidence_interval one = llm_confidence_interval_correlation(1.0, 5, 0.95);
    CHECK(one.low == 1.0 && one.high == 1.0);
    CHECK_ASSERTS(llm_confidence_interval_mean(x, NULL, 1, 0.95));
    CHECK_ASSERTS(llm_confidence_interval_welch(x, 1, x, 3, 0.95));
    CHECK_ASSERTS(llm_confidence_interval_welch(x, 3, x, 1, 0.95));
    CHECK_ASSERTS(llm_confidence_interval_variance(1.0, 1, 0.95));
    CHECK_ASSERTS(llm_confidence_interval_proportion(0.0, 0.0, 0.95, 0));
    CHECK_ASSERTS(llm_confidence_interval_proportion(3.0, 2.0, 0.95, 0));
    CHECK_ASSERTS(llm_confidence_interval_proportion(-1.0, 2.0, 0.95, 0));
    CHECK_ASSERTS(llm_confidence_interval_mean(x, NULL, 3, 1.0));
    CHECK_ASSERTS(llm_confidence_interval_mean(x, NULL, 3, 0.0));
    CHECK_NEAR(llm_confidence_interval_rate(1.0, 1.0, 0.95).low, -log(0.975), 1e-12);
    CHECK_ASSERTS(llm_confidence_interval_rate(-1.0, 1.0, 0.95));
    CHECK_ASSERTS(llm_confidence_interval_rate(1.0, 0.0, 0.95));
    CHECK_NEAR(llm_confidence_interval_correlation(0.5, 4, 0.95).high,
               tanh(atanh(0.5) + 1.959963984540054), 1e-12);
    CHECK_NEAR(llm_confidence_interval_tost(0.0, 1.0, 1.0, 0.5), 0.5 - atan(0.5) / acos(-1.0),
               1e-12); /* t of one degree of freedom is Cauchy's */
    CHECK_ASSERTS(llm_confidence_interval_correlation(0.5, 3, 0.95));
    CHECK_ASSERTS(llm_confidence_interval_correlation(1.5, 9, 0.95));
    CHECK_ASSERTS(llm_confidence_interval_tost(0.0, 1.0, 3.0, 0.0));
    CHECK_ASSERTS(llm_confidence_interval_tost(0.0, 0.0, 3.0, 1.0));
}

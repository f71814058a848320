/* @autoregression */
#include "../test.h"

#include "../../llm.h"
#include "../arena.h"

static float *as_floats(const double *x, size_t n) {
    float *y = floats(n);
    for (size_t i = 0; i < n; i++) y[i] = (float)x[i];
    return y;
}
static llm_autoregression ar_model(size_t p) {
    llm_autoregression m = {p, (double)NAN, (double)NAN, doubles(p)};
    return m;
}

/* The series of the golden file: p = 1, 2, 5. */
static const size_t orders[3] = {1, 2, 5};

TEST(autoregression, "autocovariances and Yule-Walker equal statsmodels, all orders on the way") {
    llm_arena arena = test_arena(4096);
    for (size_t i = 0; i < 3; i++) {
        size_t n;
        const size_t p = orders[i];
        const float *x = golden_n(&n, "ar%zu/x", p);
        double g[6], k[5], error[6];
        llm_autoregression m = ar_model(p);
        const float mean = (float)llm_autoregression_covariance(g, x, n, p);
        CHECK_GOLDEN(&mean, 1, 1e-6f, "ar%zu/mean", p);
        CHECK_GOLDEN(as_floats(g, p + 1), p + 1, 1e-6f, "ar%zu/cov", p);
        llm_autoregression_yule_walker(&m, k, error, x, n, &arena);
        const float variance = (float)m.variance;
        double sum = 0.0;
        for (size_t j = 0; j < p; j++) sum += m.a[j];
        CHECK_GOLDEN(as_floats(m.a, p), p, 1e-6f, "ar%zu/yw", p);
        CHECK_GOLDEN(&variance, 1, 1e-6f, "ar%zu/yw_variance", p);
        CHECK_GOLDEN(as_floats(k, p), p, 1e-6f, "ar%zu/yw_k", p);
        CHECK_GOLDEN(as_floats(error, p + 1), p + 1, 1e-6f, "ar%zu/yw_error", p);
        CHECK_NEAR(m.c / (1.0 - sum), (double)mean, 1e-5); /* the model's mean is the series' */
        CHECK(arena.used == 0);
    }
}

TEST(autoregression, "Burg's and least squares' coefficients and variances equal statsmodels") {
    llm_arena arena = test_arena(16384);
    for (size_t i = 0; i < 3; i++) {
        size_t n;
        const size_t p = orders[i];
        const float *x = golden_n(&n, "ar%zu/x", p);
        double k[5], error[6], g[1], sum = 0.0;
        llm_autoregression m = ar_model(p);
        llm_autoregression_burg(&m, k, error, x, n, &arena);
        float variance = (float)m.variance;
        for (size_t j = 0; j < p; j++) sum += m.a[j];
        CHECK_GOLDEN(as_floats(m.a, p), p, 1e-6f, "ar%zu/burg", p);
        CHECK_GOLDEN(&variance, 1, 1e-6f, "ar%zu/burg_variance", p);
        CHECK_NEAR(m.c / (1.0 - sum), llm_autoregression_covariance(g, x, n, 0), 1e-9);
        CHECK(error[0] == g[0] && error[p] == m.variance && k[p - 1] == m.a[p - 1]);
        float *small = floats(n); /* in another unit the coefficients are the same */
        double same[5];
        for (size_t t = 0; t < n; t++) small[t] = x[t] / 1024.0f;
        memcpy(same, m.a, p * sizeof *same);
        llm_autoregression_burg(&m, k, error, small, n, &arena);
        for (size_t j = 0; j < p; j++) CHECK_NEAR(m.a[j], same[j], 1e-12);

        CHECK(llm_autoregression_ols(&m, x, n, &arena));
        variance = (float)m.variance;
        const float c = (float)m.c;
        CHECK_GOLDEN(as_floats(m.a, p), p, 1e-6f, "ar%zu/ols", p);
        CHECK_GOLDEN(&c, 1, 1e-6f, "ar%zu/ols_c", p);
        CHECK_GOLDEN(&variance, 1, 1e-6f, "ar%zu/ols_variance", p);
        double mean[6], spread[6];
        llm_autoregression_forecast(mean, spread, 6, &m, x, n, &arena);
        CHECK_GOLDEN(as_floats(mean, 6), 6, 1e-6f, "ar%zu/forecast", p);
        CHECK_GOLDEN(as_floats(spread, 6), 6, 1e-6f, "ar%zu/forecast_variance", p);
        CHECK(arena.used == 0);
    }
}

TEST(autoregression,
     "Levinson's answer solves the Toeplitz equations, whatever the autocovariances") {
    llm_rng rng = llm_rng_seed(1);
    double g[9], a[8], k[8], error[9];
    for (size_t p = 1; p <= 8; p++) {
        float x[23];
        llm_rng_normal_fill(&rng, x, 23);
        llm_autoregression_covariance(g, x, 23, p);
        llm_autoregression_levinson(a, k, error, g, p);
        double left = g[0];
        for (size_t i = 1; i <= p; i++) {
            double sum = 0.0;
            for (size_t j = 1; j <= p; j++) sum += g[i > j ? i - j : j - i] * a[j - 1];
            CHECK_NEAR(sum, g[i], 1e-12);
            left -= a[i - 1] * g[i];
            CHECK(fabs(k[i - 1]) < 1.0 && error[i] <= error[i - 1]);
        }
        CHECK_NEAR(error[p], left, 1e-12);
    }
}

TEST(autoregression, "reflection coefficients stay below 1, where least squares explodes") {
    llm_arena arena = test_arena(16384);
    float x[12];
    double k[2], error[3];
    for (size_t t = 0; t < 12; t++) x[t] = (float)pow(1.5, (double)t); /* x_t = 1.5 x_{t-1} */
    llm_autoregression m = ar_model(1);
    llm_autoregression_yule_walker(&m, k, error, x, 12, &arena);
    CHECK(fabs(k[0]) < 1.0);
    llm_autoregression_burg(&m, k, error, x, 12, &arena);
    CHECK(fabs(k[0]) < 1.0);
    CHECK(llm_autoregression_ols(&m, x, 12, &arena));
    CHECK_NEAR(m.a[0], 1.5, 1e-6);
    CHECK_NEAR(m.c, 0.0, 1e-5);
}

TEST(autoregression, "a constant has coefficients 0 and no variance; order 0 is the mean") {
    llm_arena arena = test_arena(16384);
    const float x[7] = {3, 3, 3, 3, 3, 3, 3}, y[4] = {1, 2, 3, 6};
    double k[3], error[4], mean[2], spread[2];
    llm_autoregression m = ar_model(3);
    llm_autoregression_yule_walker(&m, k, error, x, 7, &arena);
    CHECK(m.a[0] == 0.0 && m.a[1] == 0.0 && m.a[2] == 0.0 && m.c == 3.0 && m.variance == 0.0);
    llm_autoregression_burg(&m, k, error, x, 7, &arena);
    CHECK(m.a[0] == 0.0 && m.a[1] == 0.0 && m.a[2] == 0.0 && m.c == 3.0 && m.variance == 0.0);
    CHECK(!llm_autoregression_ols(&m, x, 7, &arena)); /* the columns are equal */

    m.p = 0;
    llm_autoregression_yule_walker(&m, k, error, y, 4, &arena);
    CHECK(m.c == 3.0 && m.variance == 3.5);
    CHECK(llm_autoregression_ols(&m, y, 4, &arena));
    CHECK_NEAR(m.c, 3.0, 1e-12);
    CHECK_NEAR(m.variance, 3.5, 1e-12);
    llm_autoregression_forecast(mean, spread, 2, &m, y, 0, &arena);
    CHECK(mean[1] == m.c && spread[1] == m.variance);
    m.c = m.variance = (double)NAN;
    llm_autoregression_burg(&m, k, doubles(1), y, 4, &arena);
    CHECK(m.c == 3.0 && m.variance == 3.5);
    m.p = 3;
    CHECK_ASSERTS(llm_autoregression_yule_walker(&m, k, error, y, 3, &arena));
    CHECK_ASSERTS(llm_autoregression_burg(&m, k, error, y, 3, &arena));
    CHECK_ASSERTS(llm_autoregression_ols(&m, y, 3, &arena));
    CHECK_ASSERTS(llm_autoregression_forecast(mean, NULL, 2, &m, y, 2, &arena));
    CHECK_ASSERTS(llm_autoregression_rollout(mean, 2, &m, y, 4, &arena));
}

TEST(autoregression, "AIC: the least of n log s^2 + 2 p, the smaller order where two are equal") {
    const double e2 = exp(-2.0 / 10.0); /* an order more just pays for itself */
    const double flat[4] = {1.0, 1.0, 1.0, 1.0}, even[3] = {1.0, e2 * (1 + 1e-9), 1.0};
    const double third[5] = {4.0, 3.9, 3.8, 1.0, 0.99};
    CHECK(llm_autoregression_order(flat, 10, 3) == 0);
    CHECK(llm_autoregression_order(even, 10, 2) == 0);
    const double nothing[2] = {0.0, 0.0}; /* a constant: -infinity both times */
    CHECK(llm_autoregression_order(nothing, 10, 1) == 0);
    CHECK(llm_autoregression_order(even, 11, 2) == 1);
    CHECK(llm_autoregression_order(third, 10, 4) == 3);
    CHECK(llm_autoregression_order(third, 10, 2) == 0);
    CHECK(llm_autoregression_order(third, 1000, 4) == 4);

    llm_arena arena = test_arena(65536); /* a series of order 2 in itself */
    double a[2] = {1.2, -0.7}, k[8], error[9];
    const llm_autoregression truth = {2, 0.0, 1.0, a};
    llm_autoregression m = ar_model(8);
    size_t right = 0;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        llm_rng rng = llm_rng_seed(seed);
        float x[500] = {0};
        llm_autoregression_sample(x, 500, &truth, &rng);
        llm_autoregression_yule_walker(&m, k, error, x + 100, 400, &arena);
        const size_t order = llm_autoregression_order(error, 400, 8);
        CHECK(order >= 2);
        right += order == 2;
    }
    /* AIC takes too many in a third of all cases; nine sets of 20 seeds: 9 to 18 are right */
    CHECK(right >= 5);
}

TEST(autoregression,
     "an AR(1)'s free-running error is s^2 (1 - a^2h) / (1 - a^2), the first one s^2") {
    llm_arena arena = test_arena(4096);
    double a = 0.8, mse[8], spread[8], mean[8];
    const double s2 = 0.25;
    const llm_autoregression m = {1, 0.5, s2, &a};
    double sum[8] = {0}, squares[8] = {0};
    const size_t runs = 400;
    for (uint64_t seed = 1; seed <= runs; seed++) {
        llm_rng rng = llm_rng_seed(seed);
        float x[60] = {2.5f};
        llm_autoregression_sample(x, 60, &m, &rng);
        llm_autoregression_rollout(mse, 8, &m, x, 60, &arena);
        for (size_t h = 0; h < 8; h++) sum[h] += mse[h], squares[h] += mse[h] * mse[h];
    }
    const float last[1] = {1.0f};
    double *before = llm_arena_doubles(&arena, 8); /* what stands in front of scratch is not read */
    for (size_t i = 0; i < 8; i++) before[i] = (double)NAN;
    llm_autoregression_forecast(mean, spread, 8, &m, last, 1, &arena);
    for (size_t h = 0; h < 8; h++) {
        const double want = s2 * (1.0 - pow(a, 2.0 * (double)(h + 1))) / (1.0 - a * a);
        const double found = sum[h] / (double)runs;
        const double error = sqrt((squares[h] / (double)runs - found * found) / (double)(runs - 1));
        CHECK_NEAR(spread[h], want, 1e-12);
        CHECK_NEAR(found, want, 3.0 * error);
        CHECK(error < 0.05 * want);
        CHECK_NEAR(mean[h], 2.5 - 1.5 * pow(a, (double)(h + 1)), 1e-12); /* back to c / (1 - a) */
    }
}

TEST(autoregression, "rollout's errors are the means over all places, by hand") {
    llm_arena arena = test_arena(4096);
    double a[2] = {1.0, -1.0}, mse[2];
    const llm_autoregression m = {2, 0.0, 1.0, a}; /* x_t = x_{t-1} - x_{t-2} */
    const float x[5] = {1, 2, 4, 3, 1};
    /* from (1,2): 1, -1; true 4, 3. From (2,4): 2, -2; true 3, 1 */
    llm_autoregression_rollout(mse, 2, &m, x, 5, &arena);
    CHECK_NEAR(mse[0], (9.0 + 1.0) / 2.0, 1e-12);
    CHECK_NEAR(mse[1], (16.0 + 9.0) / 2.0, 1e-12);
    llm_autoregression_rollout(mse, 2, &m, x, 4, &arena); /* one place */
    CHECK(mse[0] == 9.0 && mse[1] == 16.0);
    CHECK(arena.used == 0);
}

TEST(autoregression, "drawing keeps what is given, and has the variance of the process") {
    double a[2] = {0.5, 0.2}, error[3], k[2];
    const llm_autoregression still = {2, 1.0, 0.0, a}, m = {2, 0.3, 4.0, a};
    float x[4] = {1, 2, NAN, NAN};
    llm_rng rng = llm_rng_seed(1);
    llm_autoregression_sample(x, 4, &still, &rng);
    CHECK(x[0] == 1.0f && x[1] == 2.0f);
    CHECK_NEAR(x[2], 1.0 + 1.0 + 0.2, 1e-6);
    CHECK_NEAR(x[3], 1.0 + 1.1 + 0.4, 1e-6);

    llm_rng same = rng; /* a draw is s times the generator's normal number above its mean */
    x[2] = NAN;
    llm_autoregression_sample(x, 3, &m, &rng);
    CHECK_NEAR(x[2], 0.3 + 1.0 + 0.2 + 2.0 * (double)llm_rng_normal(&same), 1e-6);

    llm_arena arena = test_arena(4096);
    llm_autoregression fit = ar_model(2);
    float *many = zeros(40000);
    many[0] = many[1] = 1.0f;
    llm_autoregression_sample(many, 40000, &m, &rng);
    llm_autoregression_yule_walker(&fit, k, error, many, 40000, &arena);
    /* standard errors: 0.005 for a, sqrt(2 / n) s^2 = 0.028 for s^2, 0.01 for c */
    CHECK_NEAR(fit.a[0], 0.5, 0.02);
    CHECK_NEAR(fit.a[1], 0.2, 0.02);
    CHECK_NEAR(fit.variance, 4.0, 0.12);
    CHECK_NEAR(fit.c, 0.3, 0.04);
}

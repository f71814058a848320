/* @generalization */
#include "../test.h"

#include "../../llm.h"
#include "../arena.h"

TEST(generalization, "least squares and scores of folds equal NumPy and scikit-learn") {
    const size_t shape[3][3] = {{7, 1, 2}, {20, 3, 5}, {23, 4, 4}};
    for (size_t k = 0; k < 3; k++) {
        const size_t n = shape[k][0], p = shape[k][1], folds = shape[k][2];
        const float *x = golden("%zu/x", k), *y = golden("%zu/y", k);
        llm_arena arena = test_arena(1 << 20);
        double w[4], score[5];
        float got[5];
        size_t order[23];
        CHECK(llm_least_squares_fit(w, x, y, NULL, n, p, false, &arena) == p && arena.used == 0);
        for (size_t i = 0; i < p; i++) got[i] = (float)w[i];
        CHECK_GOLDEN(got, p, 1e-6f, "%zu/w", k);
        got[0] = (float)llm_generalization_risk(w, x, y, n, p);
        CHECK_GOLDEN(got, 1, 1e-6f, "%zu/risk", k);
        for (size_t i = 0; i < n; i++) order[i] = i;
        CHECK(llm_generalization_cv(score, x, y, order, n, p, folds, &arena) && arena.used == 0);
        for (size_t i = 0; i < folds; i++) got[i] = (float)score[i];
        CHECK_GOLDEN(got, folds, 1e-6f, "%zu/score", k);
        /* leave one out: n explicit fits */
        double *each = doubles(n);
        CHECK(llm_generalization_cv(each, x, y, order, n, p, n, &arena));
        CHECK_ASSERTS(llm_generalization_cv(each, x, y, order, n, p, 1, &arena));
        CHECK_ASSERTS(llm_generalization_cv(each, x, y, order, n, p, n + 1, &arena));
    }
}

TEST(generalization, "columns that depend on each other are refused; large offsets are not") {
    llm_arena arena = test_arena(1 << 20);
    const float same[6] = {1, 2, 2, 4, 3, 6}, y[3] = {1, 2, 3}, none[3] = {0, 0, 0};
    double w[3];
    CHECK(llm_least_squares_fit(w, same, y, NULL, 3, 2, false, &arena) < 2);
    CHECK(llm_least_squares_fit(w, none, y, NULL, 3, 1, false, &arena) < 1);
    CHECK(llm_least_squares_fit(w, same, y, NULL, 2, 3, false, &arena) < 3);
    const float far[6] = {1, 10000, 1, 10001, 1, 10002}, line[3] = {5, 7, 9};
    CHECK(llm_least_squares_fit(w, far, line, NULL, 3, 2, false, &arena) == 2);
    CHECK_NEAR(w[1], 2.0, 1e-9);
    CHECK_NEAR(w[0], -19995.0, 1e-5);
    const size_t order[3] = {0, 1, 2};
    double score[3];
    CHECK(!llm_generalization_cv(score, same, y, order, 3, 2, 3, &arena) && arena.used == 0);
}

/* Mean train and test risk, and their lists, of R fits. */
static void ge_risks(double *train, double *test, size_t n, size_t p, float noise, size_t R,
                     uint64_t seed) {
    llm_arena arena = test_arena(1 << 20);
    llm_rng rng = llm_rng_seed(seed);
    const size_t fresh = 200;
    float *x = floats(n * p), *y = floats(n), *xt = floats(fresh * p), *yt = floats(fresh),
          *beta = floats(p);
    double w[32];
    for (size_t k = 0; k < p; k++) beta[k] = 1.0f / (float)(k + 1);
    for (size_t r = 0; r < R; r++) {
        llm_generalization_task(x, y, beta, n, p, noise, &rng);
        llm_generalization_task(xt, yt, beta, fresh, p, noise, &rng);
        CHECK(llm_least_squares_fit(w, x, y, NULL, n, p, false, &arena) == p);
        train[r] = llm_generalization_risk(w, x, y, n, p);
        test[r] = llm_generalization_risk(w, xt, yt, fresh, p);
    }
}

TEST(generalization,
     "1000 fits have the risks that theory says, and a gap within three errors of it") {
    enum { R = 1000 };
    const size_t shape[3][2] = {{40, 10}, {60, 20}, {30, 2}};
    for (size_t k = 0; k < 3; k++) {
        const double n = (double)shape[k][0], p = (double)shape[k][1], s2 = 0.49;
        double *train = doubles(R), *test = doubles(R), sum[2] = {0.0, 0.0}, gap, error;
        ge_risks(train, test, shape[k][0], shape[k][1], 0.7f, R, 1 + k);
        for (size_t r = 0; r < R; r++) sum[0] += train[r] / R, sum[1] += test[r] / R;
        const double want_train = s2 * (1.0 - p / n), want_test = s2 * (1.0 + p / (n - p - 1.0));
        CHECK_NEAR(sum[0], want_train, 0.03 * want_train); /* a mean of 1000 is good to 1% */
        CHECK_NEAR(sum[1], want_test, 0.03 * want_test);
        llm_generalization_gap(&gap, &error, train, test, R);
        CHECK_NEAR(gap, sum[1] - sum[0], 1e-12);
        CHECK_NEAR(gap, want_test - want_train, 4.0 * error);
        CHECK(error < 0.05 * gap + 0.01);
        double var = 0.0; /* and the error is that of a mean of R differences */
        for (size_t r = 0; r < R; r++) var += pow(test[r] - train[r] - gap, 2.0) / (R - 1.0);
        CHECK_NEAR(error, sqrt(var / R), 1e-12);
    }
}

TEST(generalization, "excess risk falls as 1/n: slope -1 on logarithms") {
    enum { R = 400 };
    double *train = doubles(R), *test = doubles(R), x[4], y[4], mx = 0.0, my = 0.0, up = 0.0,
           down = 0.0;
    const size_t n[4] = {40, 80, 160, 320};
    for (size_t k = 0; k < 4; k++) {
        double sum = 0.0;
        ge_risks(train, test, n[k], 5, 1.0f, R, 20 + k);
        /* train and test risk err by the same s^2, on either side of it: half of the gap */
        for (size_t r = 0; r < R; r++) sum += (test[r] - train[r]) / 2.0 / R;
        x[k] = log((double)n[k]), y[k] = log(sum);
        mx += x[k] / 4.0, my += y[k] / 4.0;
    }
    for (size_t k = 0; k < 4; k++)
        up += (x[k] - mx) * (y[k] - my), down += (x[k] - mx) * (x[k] - mx);
    CHECK_NEAR(up / down, -1.0, 0.15);
}

TEST(generalization, "optimism is 2 s^2 p / n for least squares, and 2 s^2 / k for k neighbours") {
    enum { n = 30, p = 4, R = 4000, k = 5 };
    llm_arena arena = test_arena(1 << 20);
    llm_rng rng = llm_rng_seed(9);
    float x[n * p], clean[n], beta[p] = {1, -1, 0.5f, 2}, *y = floats(R * n), *fit = floats(R * n),
                              *smooth = floats(R * n);
    double w[p];
    llm_generalization_task(x, clean, beta, n, p, 0.0f, &rng);
    for (size_t r = 0; r < R; r++) {
        for (size_t i = 0; i < n; i++) y[r * n + i] = clean[i] + 0.6f * llm_rng_normal(&rng);
        CHECK(llm_least_squares_fit(w, x, y + r * n, NULL, n, p, false, &arena) == p);
        for (size_t i = 0; i < n; i++) {
            double sum = 0.0, mean = 0.0;
            for (size_t j = 0; j < p; j++) sum += w[j] * (double)x[i * p + j];
            fit[r * n + i] = (float)sum;
            for (size_t j = 0; j < k; j++)
                mean += (double)y[r * n + (i / k * k + j)] / k; /* groups of k */
            smooth[r * n + i] = (float)mean;
        }
    }
    for (size_t i = 0; i < n; i++) /* no noise: the clean targets are x.beta */
        CHECK_NEAR(clean[i], dot(x + i * p, beta, p), 1e-5);
    const float two_fits[2] = {1.0f, 3.0f}, two_targets[2] = {1.0f, 5.0f}; /* covariance 4 */
    CHECK_NEAR(llm_generalization_optimism(two_fits, two_targets, 2, 1), 8.0, 1e-12);
    /* 4000 draws: about 2% */
    CHECK_NEAR(llm_generalization_optimism(fit, y, R, n), 2.0 * 0.36 * p / n,
               0.05 * 2.0 * 0.36 * p / n);
    CHECK_NEAR(llm_generalization_optimism(smooth, y, R, n), 2.0 * 0.36 / k, 0.05 * 2.0 * 0.36 / k);
}

TEST(generalization,
     "the naive variance of cross-validation is too small, the corrected one is not") {
    enum { n = 40, p = 3, folds = 10, R = 300 };
    llm_arena arena = test_arena(1 << 20);
    llm_rng rng = llm_rng_seed(5);
    float x[n * p], y[n], beta[p] = {1, 1, 1};
    double mean = 0.0, square = 0.0, naive = 0.0, corrected = 0.0, score[3 * folds], one;
    for (size_t r = 0; r < R; r++) {
        llm_generalization_task(x, y, beta, n, p, 1.0f, &rng);
        size_t order[n];
        double total = 0.0;
        for (size_t i = 0; i < n; i++) order[i] = i;
        for (size_t repeat = 0; repeat < 3; repeat++) {
            for (size_t i = n; i-- > 1;) {
                const size_t j = llm_rng_below(&rng, i + 1), swap = order[i];
                order[i] = order[j], order[j] = swap;
            }
            CHECK(llm_generalization_cv(score + repeat * folds, x, y, order, n, p, folds, &arena));
        }
        for (size_t j = 0; j < 3 * folds; j++) total += score[j] / (3.0 * folds);
        corrected +=
            llm_generalization_variance(&one, score, 3 * folds, n / folds, n - n / folds) / R;
        naive += one / R;
        mean += total / R, square += total * total / R;
    }
    const double truth = square - mean * mean;
    CHECK(naive < 0.6 * truth &&
          corrected > 0.8 * truth);              /* 0.23 to 0.36, 1.0 to 1.5 over nine seeds */
    const double four[4] = {1.0, 2.0, 4.0, 5.0}; /* S^2 = 10/3 */
    CHECK_NEAR(llm_generalization_variance(&one, four, 4, 1, 3), 10.0 / 12.0 + 10.0 / 9.0, 1e-12);
    CHECK_NEAR(one, 10.0 / 12.0, 1e-12);
}

/* @overfitting_adaptive */
#include "../test.h"

#include "../../llm.h"

TEST(overfitting_adaptive, "Laplace noise has mean 0, mean size b, and the right tail") {
    enum { n = 40000 };
    llm_rng rng = llm_rng_seed(1);
    double sum = 0.0, size = 0.0, tail = 0.0;
    for (size_t i = 0; i < n; i++) {
        const double x = llm_overfitting_adaptive_laplace(0.5, &rng);
        sum += x / n, size += fabs(x) / n, tail += fabs(x) > 1.0 ? 1.0 / n : 0.0;
    }
    CHECK_NEAR(sum, 0.0, 4.0 * 0.5 * sqrt(2.0 / n));
    CHECK_NEAR(size, 0.5, 4.0 * 0.5 / sqrt((double)n));
    CHECK_NEAR(tail, exp(-2.0), 4.0 * sqrt(0.135 * 0.865 / n));
    rng.used = 0, rng.word[0] = 0; /* the ends: 2^-32 of the mass on either side */
    CHECK_NEAR(llm_overfitting_adaptive_laplace(1.0, &rng), -32.0 * log(2.0), 1e-6);
    rng.used = 0, rng.word[0] = UINT32_MAX;
    CHECK_NEAR(llm_overfitting_adaptive_laplace(1.0, &rng), 32.0 * log(2.0), 1e-6);
}

TEST(overfitting_adaptive,
     "without noise: train while they agree, holdout when not, then nothing") {
    llm_overfitting_adaptive t;
    llm_rng rng = llm_rng_seed(2);
    double answer = 9.0;
    llm_overfitting_adaptive_init(&t, 0.1, 0.0, 2, &rng);
    CHECK(llm_overfitting_adaptive_query(&answer, &t, 0.5, 0.55, &rng) && answer == 0.5);
    CHECK(t.budget == 2);
    CHECK(llm_overfitting_adaptive_query(&answer, &t, 0.5, 0.7, &rng) && answer == 0.7);
    CHECK(llm_overfitting_adaptive_query(&answer, &t, 0.5, 0.3, &rng) && answer == 0.3 &&
          t.budget == 0);
    CHECK(!llm_overfitting_adaptive_query(&answer, &t, 0.5, 0.5, &rng) && answer == 0.3);

    /* with noise: at a gap of the threshold about half of the answers use the holdout */
    size_t used = 0;
    double spread = 0.0;
    llm_overfitting_adaptive_init(&t, 0.1, 0.01, 100000, &rng);
    for (size_t r = 0; r < 4000; r++) {
        CHECK(llm_overfitting_adaptive_query(&answer, &t, 0.5, 0.6, &rng));
        if (answer != 0.5) used++, spread += fabs(answer - 0.6);
    }
    CHECK(used == 100000 - t.budget && used > 1200 && used < 2800);
    CHECK_NEAR(spread / (double)used, 0.01, 0.001);
    /* the threshold's own noise: 2 sigma */
    double size = 0.0;
    for (size_t r = 0; r < 4000; r++) {
        llm_overfitting_adaptive_init(&t, 0.1, 0.01, 1, &rng);
        size += fabs(t.noisy - 0.1) / 4000.0;
    }
    CHECK_NEAR(size, 0.02, 0.0015);
}

TEST(overfitting_adaptive, "moments, screen and accuracy by hand") {
    const float x[6] = {1, 2, -1, 0.5f, 3, -4}, y[3] = {1, -1, 1}; /* (3,2) */
    double m[2];
    llm_overfitting_adaptive_moments(m, x, y, 3, 2);
    CHECK_NEAR(m[0], (1.0 + 1.0 + 3.0) / 3.0, 1e-7);
    CHECK_NEAR(m[1], (2.0 - 0.5 - 4.0) / 3.0, 1e-7);
    const double train[5] = {0.5, -0.5, 0.5, 0.1, 0.3}, hold[5] = {0.4, -0.3, -0.4, 0.5, 0.3};
    const float want[5] = {1, -1, 0, 0, 1};
    float w[5];
    CHECK(llm_overfitting_adaptive_screen(w, train, hold, 5, 0.3) == 3);
    CHECK_ALL_NEAR(w, want, 5, 0.0f);
    const float first[2] = {1, 0}, none[2] = {0, 0};
    CHECK(llm_overfitting_adaptive_accuracy(first, x, y, 3, 2) == 1.0);
    CHECK(llm_overfitting_adaptive_accuracy(none, x, y, 3, 2) == 0.0);
}

/* Screens d features of pure noise on two halves of n; accuracy on holdout as the analyst sees it,
 * and on fresh data. */
static void oa_run(double *seen, double *truth, bool careful, uint64_t seed) {
    enum { n = 500, d = 500, fresh = 500 };
    llm_rng rng = llm_rng_seed(seed);
    float *x = floats((2 * n + fresh) * d), *y = floats(2 * n + fresh), w[d];
    double train[d], hold[d];
    llm_rng_normal_fill(&rng, x, (2 * n + fresh) * d);
    for (size_t i = 0; i < 2 * n + fresh; i++) y[i] = llm_rng_below(&rng, 2) ? 1.0f : -1.0f;
    llm_overfitting_adaptive_moments(train, x, y, n, d);
    llm_overfitting_adaptive_moments(hold, x + n * d, y + n, n, d);
    llm_overfitting_adaptive t;
    llm_overfitting_adaptive_init(&t, 0.15, 0.01, 2000, &rng);
    for (size_t j = 0; j < d && careful; j++) {
        double answer;
        CHECK(llm_overfitting_adaptive_query(&answer, &t, train[j], hold[j], &rng));
        hold[j] = answer;
    }
    llm_overfitting_adaptive_screen(w, train, hold, d, 1.0 / sqrt((double)n));
    const double on_train = llm_overfitting_adaptive_accuracy(w, x, y, n, d);
    *seen = llm_overfitting_adaptive_accuracy(w, x + n * d, y + n, n, d);
    *truth = llm_overfitting_adaptive_accuracy(w, x + 2 * n * d, y + 2 * n, fresh, d);
    if (careful) CHECK(llm_overfitting_adaptive_query(seen, &t, on_train, *seen, &rng));
}

static int oa_ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

TEST(overfitting_adaptive, "reusing the holdout confirms noise; Thresholdout does not") {
    double naive[5], careful[5], truth[2] = {0.0, 0.0}, real;
    for (size_t k = 0; k < 5; k++) {
        oa_run(&naive[k], &real, false, k + 1);
        truth[0] += real / 5.0;
        oa_run(&careful[k], &real, true, k + 1);
        truth[1] += real / 5.0;
    }
    qsort(naive, 5, sizeof(double), oa_ascending);
    qsort(careful, 5, sizeof(double),
          oa_ascending); /* once in ten runs the answer is train's 0.8 */
    /* medians of eight other sets of five seeds: 0.62 to 0.64, and 0.51 to 0.55 */
    CHECK(naive[2] > 0.555);
    CHECK_NEAR(careful[2], 0.5, 0.055);
    CHECK_NEAR(truth[0], 0.5, 0.03);
    CHECK_NEAR(truth[1], 0.5, 0.03);
}

TEST(overfitting_adaptive, "noise of 2 sigma at the threshold, 4 at a question, 1 on an answer") {
    llm_overfitting_adaptive t;
    llm_rng rng = llm_rng_seed(9), same = rng;
    const double sigma = 0.01;
    double answer;
    llm_overfitting_adaptive_init(&t, 0.1, sigma, 5, &rng);
    CHECK(t.noisy == 0.1 + llm_overfitting_adaptive_laplace(2.0 * sigma, &same));
    for (size_t k = 0; k < 5; k++) { /* apart by far: the draws of the paper, in its order */
        llm_overfitting_adaptive_laplace(4.0 * sigma, &same);
        CHECK(llm_overfitting_adaptive_query(&answer, &t, 0.1, 0.9, &rng));
        CHECK(answer == 0.9 + llm_overfitting_adaptive_laplace(sigma, &same));
        CHECK(t.noisy == 0.1 + llm_overfitting_adaptive_laplace(2.0 * sigma, &same));
    }
    /* at the edge: the same answer as the rule with the noise drawn beside it */
    size_t differ = 0;
    llm_overfitting_adaptive_init(&t, 0.1, sigma, 1000, &rng);
    for (size_t k = 0; k < 200; k++) {
        same = rng;
        const double limit = t.noisy + llm_overfitting_adaptive_laplace(4.0 * sigma, &same);
        CHECK(llm_overfitting_adaptive_query(&answer, &t, 0.5, 0.62, &rng));
        CHECK((answer == 0.5) == (0.62 - 0.5 <= limit));
        differ += answer == 0.5;
    }
    CHECK(differ > 20 && differ < 180);
}

TEST(overfitting_adaptive, "moments of one example; a feature of no correlation is not kept") {
    const float x[2] = {3.0f, -2.0f}, y[1] = {-1.0f};
    double m[2] = {(double)NAN, (double)NAN};
    float w[2];
    llm_overfitting_adaptive_moments(m, x, y, 1, 2);
    CHECK(m[0] == -3.0 && m[1] == 2.0);
    const double train[2] = {0.0, 0.2}, holdout[2] = {0.5, 0.1}, zero[2] = {0.5, 0.0};
    CHECK(llm_overfitting_adaptive_screen(w, train, zero, 2, 0.0) == 0);
    CHECK(llm_overfitting_adaptive_screen(w, train, holdout, 2, 0.0) == 1);
    CHECK(w[0] == 0.0f && w[1] == 1.0f);
}

TEST(overfitting_adaptive, "accuracy by hand") {
    const float w[2] = {1, 1}, x[4] = {3, -1, 1, -3}, y[2] = {1, 1};
    CHECK(llm_overfitting_adaptive_accuracy(w, x, y, 2, 2) == 0.5);
}

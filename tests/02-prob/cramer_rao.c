/* @cramer_rao */
#include "../test.h"

#include "../../llm.h"

TEST(cramer_rao,
     "matrix bounds: a function of the parameters, nuisance, bias and a prior, by hand") {
    /* n = 10 normal values with sd 2: information diag(n/s^2, 2n/s^2) about (mean, sd) */
    const double F[4] = {2.5, 0.0, 0.0, 5.0}, J[4] = {1.0, 0.0, 0.5, 2.0}, ratio[2] = {1.0, 3.0};
    double bound[4], L[4], W[4];
    CHECK(llm_cramer_rao_bound(bound, F, NULL, 2, 2, L, W));
    CHECK_NEAR(bound[0], 0.4, 1e-15);
    CHECK_NEAR(bound[3], 0.2, 1e-15);
    CHECK(bound[1] == 0.0 && bound[2] == 0.0);
    CHECK(llm_cramer_rao_bound(bound, F, J, 2, 2, L, W));
    CHECK_NEAR(bound[0], 0.4, 1e-15);
    CHECK_NEAR(bound[1], 0.2, 1e-15);
    CHECK_NEAR(bound[2], 0.2, 1e-15);
    CHECK_NEAR(bound[3], 0.1 + 0.8, 1e-15);
    CHECK(llm_cramer_rao_bound(bound, F, ratio, 1, 2, L, W));
    CHECK_NEAR(bound[0], 0.4 + 9.0 * 0.2, 1e-15);
    const double rank1[4] = {1.0, 2.0, 2.0, 4.0};
    CHECK(!llm_cramer_rao_bound(bound, rank1, NULL, 2, 2, L, W));
    CHECK_ASSERTS(llm_cramer_rao_bound(bound, F, NULL, 1, 2, L, W));
    CHECK_NEAR(llm_cramer_rao_biased(4.0, 0.5, -0.5), 0.25 / 4.0 + 0.25, 1e-15);
    CHECK_NEAR(llm_cramer_rao_biased(4.0, 0.0, 0.0), 0.25, 1e-15);
    CHECK_NEAR(llm_cramer_rao_biased(0.5, 0.0, 0.0), 2.0, 1e-15);
    CHECK_ASSERTS(llm_cramer_rao_biased(0.0, 0.0, 0.0));
    /* normal prior variance 2, one observation of variance 0.5: the posterior variance */
    CHECK_NEAR(llm_cramer_rao_bayes(2.0, 0.5), 0.4, 1e-15);
}

TEST(cramer_rao,
     "nuisance parameters cost: the block of the inverse, never below the inverse block") {
    llm_rng rng = llm_rng_seed(1);
    double M[16], F[16] = {0.0}, S[4], L[16], W[16], inverse[16], want[4], Lw[4];
    for (size_t i = 0; i < 16; i++) M[i] = (double)llm_rng_normal(&rng);
    for (size_t i = 0; i < 16; i++)
        for (size_t k = 0; k < 4; k++) F[i] += M[i / 4 * 4 + k] * M[i % 4 * 4 + k];
    for (size_t a = 1; a <= 2; a++) {
        CHECK(llm_cramer_rao_nuisance(S, F, a, 4, L, W));
        memcpy(L, F, (size_t)4 * 4 * sizeof *L);
        CHECK(llm_cholesky_factor(L, 4, NULL));
        llm_cholesky_inverse(inverse, L, 4);
        memcpy(Lw, S, (size_t)a * a * sizeof *Lw);
        CHECK(llm_cholesky_factor(Lw, a, NULL));
        llm_cholesky_inverse(want, Lw, a);
        for (size_t i = 0; i < a; i++) {
            for (size_t j = 0; j < a; j++)
                CHECK_NEAR(want[i * a + j], inverse[i * 4 + j], 1e-9 * fabs(inverse[0]));
            CHECK(S[i * a + i] <= F[i * 4 + i]);
        }
    }
    CHECK(llm_cramer_rao_nuisance(inverse, F, 4, 4, L, W)); /* nothing unknown */
    for (size_t i = 0; i < 16; i++) CHECK(inverse[i] == F[i]);
    const double singular[9] = {1.0, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0};
    CHECK(!llm_cramer_rao_nuisance(S, singular, 1, 3, L, W));
    CHECK_ASSERTS(llm_cramer_rao_nuisance(S, F, 5, 4, L, W));
}

enum { RUNS = 4000, N = 50 };

static int cramer_rao_order(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* A sample variance of 4000 normals is good to sqrt(2 / 4000) = 2.2%; four of these are allowed.
 * The variances of the medians of 50, 1.5277 and 1.2172 over the bound, are double integrals over
 * the two middle order statistics, by SciPy. Seeds 3 to 10: mean 0.97 to 1.09, median 1.46 to 1.61,
 * mean of Laplace 1.93 to 2.03, its ratio to the median 1.58 to 1.67. */
TEST(cramer_rao,
     "4000 runs of 50: the mean attains the bound, the median of a normal needs pi/2 of it") {
    llm_rng rng = llm_rng_seed(2);
    double *mean = doubles(RUNS), *median = doubles(RUNS), *lmean = doubles(RUNS),
           *lmedian = doubles(RUNS);
    const llm_distribution laplace = {LLM_DISTRIBUTION_LAPLACE, 0, 0, 0, 1};
    for (size_t r = 0; r < RUNS; r++)
        for (int heavy = 0; heavy < 2; heavy++) {
            double x[N], sum = 0.0;
            for (size_t i = 0; i < N; i++) {
                x[i] =
                    heavy ? llm_distribution_sample(&laplace, &rng) : (double)llm_rng_normal(&rng);
                sum += x[i] / N;
            }
            qsort(x, N, sizeof *x, cramer_rao_order);
            (heavy ? lmean : mean)[r] = sum;
            (heavy ? lmedian : median)[r] = 0.5 * (x[N / 2 - 1] + x[N / 2]);
        }
    const llm_cramer_rao_report a = llm_cramer_rao_efficiency(mean, RUNS, 0.0, 1.0 / N);
    const llm_cramer_rao_report b = llm_cramer_rao_efficiency(median, RUNS, 0.0, 1.0 / N);
    const double four = 4.0 * sqrt(2.0 / RUNS);
    CHECK_NEAR(a.ratio, 1.0, four);
    CHECK_NEAR(b.ratio, 1.5277, 1.5277 * four);
    CHECK_NEAR(a.ratio_error, sqrt(2.0 / RUNS), 0.004);
    CHECK_NEAR(a.bias, 0.0, 4.0 * sqrt(1.0 / N / RUNS));
    CHECK_NEAR(a.mse, a.var, 1e-4);
    const llm_cramer_rao_report c = llm_cramer_rao_efficiency(lmean, RUNS, 0.0, 1.0 / N);
    const llm_cramer_rao_report d = llm_cramer_rao_efficiency(lmedian, RUNS, 0.0, 1.0 / N);
    CHECK_NEAR(c.ratio, 2.0, 2.0 * four);
    CHECK_NEAR(d.ratio, 1.2172, 1.2172 * four);
    CHECK(c.ratio / d.ratio > 1.29); /* half of the least effect above 1; it tends to 2 with n */
    const double two[2] = {1.0, 4.0};
    const llm_cramer_rao_report hand = llm_cramer_rao_efficiency(two, 2, 2.0, 9.0);
    CHECK_NEAR(hand.bias, 0.5, 1e-15);
    CHECK_NEAR(hand.var, 4.5, 1e-15);
    CHECK_NEAR(hand.mse, 2.5, 1e-15);
    CHECK_NEAR(hand.ratio, 0.5, 1e-15);
    CHECK_NEAR(hand.ratio_error, 0.0, 1e-12);
    CHECK_ASSERTS(llm_cramer_rao_efficiency(two, 1, 2.0, 9.0));
    CHECK_ASSERTS(llm_cramer_rao_efficiency(two, 2, 2.0, 0.0));
}

TEST(cramer_rao, "beaten: the maximum of a uniform shrinks as 1/n^2, James-Stein by its bias") {
    llm_rng rng = llm_rng_seed(3);
    double mse[2];
    for (size_t k = 0; k < 2; k++) {
        const size_t n = k ? 400 : 25;
        double *top = doubles(2000);
        for (size_t r = 0; r < 2000; r++) {
            top[r] = 0.0;
            for (size_t i = 0; i < n; i++)
                top[r] = fmax(top[r], llm_distribution_sample_uniform(&rng));
        }
        mse[k] = llm_cramer_rao_efficiency(top, 2000, 1.0, 1.0).mse;
        const double m = (double)n; /* 2 / ((n+1) (n+2)) */
        CHECK_NEAR(mse[k] * (m + 1.0) * (m + 2.0) / 2.0, 1.0, 0.25);
    }
    CHECK_NEAR(log(mse[1] / mse[0]) / log(16.0), -2.0, 0.15);
    enum { D = 10 };
    double shrunk = 0.0, plain = 0.0;
    for (size_t r = 0; r < 4000; r++) {
        double x[D], y[D];
        for (size_t i = 0; i < D; i++) x[i] = 2.0 * (double)llm_rng_normal(&rng);
        llm_cramer_rao_james_stein(y, x, 4.0, D);
        for (size_t i = 0; i < D; i++)
            plain += x[i] * x[i] / 4000.0, shrunk += y[i] * y[i] / 4000.0;
    }
    CHECK_NEAR(plain, 40.0, 2.0);
    CHECK(shrunk / plain < 0.2); /* 2 / d without the cut at 0 */
    const double far[3] = {3.0, 4.0, 0.0}, near[3] = {0.1, 0.0, 0.1}, zero[3] = {0.0, 0.0, 0.0};
    double y[3];
    llm_cramer_rao_james_stein(y, far, 1.0, 3);
    CHECK_NEAR(y[0], 3.0 * 0.96, 1e-12);
    llm_cramer_rao_james_stein(y, near, 1.0, 3);
    CHECK(y[0] == 0.0);
    llm_cramer_rao_james_stein(y, far, 1.0, 1);
    CHECK(y[0] == far[0]);
    llm_cramer_rao_james_stein(y, far, 1.0, 2); /* two dimensions: no gain, nothing done */
    CHECK(y[0] == 3.0 && y[1] == 4.0);
    llm_cramer_rao_james_stein(y, zero, 1.0, 3);
    CHECK(y[0] == 0.0);
}

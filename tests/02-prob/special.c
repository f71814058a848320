/* @special */
#include "../test.h"

#include "../../llm.h"

/* A golden array of doubles, stored as the sum of two floats: good to 2^-48, 4e-15. */
static double *special_golden(size_t *n, const char *name) {
    const float *hi = golden_n(n, "%s/hi", name), *lo = golden_n(n, "%s/lo", name);
    double *sum = doubles(*n);
    for (size_t i = 0; i < *n; i++) sum[i] = (double)hi[i] + (double)lo[i];
    return sum;
}

/* Within tol * max(1, |want|): relative where a function is large, absolute near its zeros. */
static void special_near(double got, double want, double tol) {
    CHECK_NEAR(got, want, tol * fmax(1.0, fabs(want)));
}

TEST(special, "log gamma, digamma and trigamma equal mpmath to 2e-14") {
    size_t n = 0;
    const double *lgamma_want = special_golden(&n, "lgamma"), *want = special_golden(&n, "digamma");
    const float *x = golden("lgamma/x");
    for (size_t i = 0; i < n; i++) {
        special_near(llm_special_lgamma((double)x[i]), lgamma_want[i], 2e-14);
        special_near(llm_special_digamma((double)x[i]), want[i], 2e-14);
    }
    want = special_golden(&n, "trigamma");
    for (size_t i = 0; i < n; i++) {
        const double got = llm_special_trigamma((double)golden("trigamma/x")[i]);
        CHECK_NEAR(got / want[i], 1.0, 2e-14);
    }
}

TEST(special, "the three gamma functions are right at 0, denormals, infinity and below 0") {
    CHECK(llm_special_lgamma(0.0) == (double)INFINITY);
    CHECK(llm_special_lgamma((double)INFINITY) == (double)INFINITY);
    CHECK_NEAR(llm_special_lgamma(4.9406564584124654e-324), 744.44007192138126, 1e-11);
    CHECK_NEAR(llm_special_lgamma(1e-310), 713.80137882, 1e-7);
    CHECK_NEAR(llm_special_lgamma(1e300) / 6.897755278982137e302, 1.0, 1e-14);
    CHECK(isnan(llm_special_lgamma(-0.5)) && isnan(llm_special_lgamma((double)NAN)));
    CHECK(llm_special_digamma(0.0) == -(double)INFINITY && isnan(llm_special_digamma(-1.0)));
    CHECK(llm_special_trigamma(0.0) == (double)INFINITY && isnan(llm_special_trigamma(-1.0)));
    CHECK(llm_special_lgamma(1.0) < 1e-15 && llm_special_lgamma(2.0) < 2e-15);
    double factorial = 1.0; /* Gamma(n+1) = n!, psi(n+1) = psi(n) + 1/n */
    for (int k = 1; k < 23; k++) {
        factorial *= (double)k;
        special_near(llm_special_lgamma((double)k + 1.0), log(factorial), 1e-14);
        CHECK_NEAR(llm_special_digamma((double)k + 1.0),
                   llm_special_digamma((double)k) + 1.0 / (double)k, 2e-15);
    }
    /* the switch from the climb to the series: digits agree on both sides of 16 */
    CHECK_NEAR(llm_special_stirling(15.999999999), llm_special_stirling(16.000000001), 1e-12);
}

TEST(special, "the deviance keeps its digits where its arguments meet, and at 0") {
    size_t n = 0;
    const double *want = special_golden(&n, "deviance");
    const float *x = golden("deviance/x"), *m = golden("deviance/m");
    for (size_t i = 0; i < n; i++) {
        const double got = llm_special_deviance((double)x[i], (double)m[i]);
        CHECK_NEAR(got, want[i], 1e-14 * want[i]);
    }
    CHECK(llm_special_deviance(0.0, 3.5) == 3.5 && llm_special_deviance(0.0, 0.0) == 0.0);
    CHECK(llm_special_deviance(2.0, 0.0) == (double)INFINITY);
    CHECK_NEAR(llm_special_deviance(1e-310, 5.0), 5.0, 1e-14); /* x/m is no normal number */
    CHECK_NEAR(llm_special_deviance(1.0, 1e-310), 310.0 * log(10.0) - 1.0, 1e-10);
}

TEST(special, "log tails of the incomplete gamma function equal mpmath to 1e-13") {
    size_t n = 0;
    const double *want_p = special_golden(&n, "gamma_p"), *want_q = special_golden(&n, "gamma_q");
    const float *a = golden("gamma_p/a"), *x = golden("gamma_p/x");
    for (size_t i = 0; i < n; i++) {
        double p, q;
        llm_special_gamma_tails(&p, &q, (double)a[i], (double)x[i]);
        special_near(p, want_p[i], 1e-13);
        special_near(q, want_q[i], 1e-13);
    }
}

TEST(special, "log tails of the incomplete beta function equal mpmath to 2e-13") {
    size_t n = 0;
    const double *want_i = special_golden(&n, "beta_i"), *want_c = special_golden(&n, "beta_c");
    const float *a = golden("beta_i/a"), *b = golden("beta_i/b"), *x = golden("beta_i/x");
    for (size_t i = 0; i < n; i++) {
        double p, q;
        llm_special_beta_tails(&p, &q, (double)a[i], (double)b[i], (double)x[i],
                               1.0 - (double)x[i]);
        special_near(p, want_i[i], 2e-13);
        special_near(q, want_c[i], 2e-13);
    }
}

TEST(special, "Student's t with 10^4 to 10^38 degrees of freedom equals mpmath to 1e-13") {
    size_t n = 0;
    const double *want = special_golden(&n, "student");
    const float *v = golden("student/v"), *z = golden("student/z");
    for (size_t i = 0; i < n; i++) {
        const double a = (double)v[i], square = (double)z[i] * (double)z[i];
        double p, q;
        llm_special_beta_tails(&p, &q, 0.5 * a, 0.5, a / (a + square), square / (a + square));
        special_near(p, want[i], 1e-13);
        llm_special_beta_tails(&q, &p, 0.5, 0.5 * a, square / (a + square), a / (a + square));
        special_near(p, want[i], 1e-13);
    }
}

TEST(special, "the normal distribution function: 38 and 200 deviations out, both sides") {
    size_t n = 0;
    const double *want = special_golden(&n, "normal");
    const float *z = golden("normal/z");
    for (size_t i = 0; i < n; i++) {
        const double got = llm_special_normal_logcdf((double)z[i]);
        CHECK_NEAR(got, want[i], 2e-13 * fmax(1e-3, fabs(want[i])));
        CHECK_NEAR(exp(got) + exp(llm_special_normal_logcdf(-(double)z[i])), 1.0, 1e-15);
    }
    CHECK(llm_special_normal_logcdf(-(double)INFINITY) == -(double)INFINITY);
    CHECK(llm_special_normal_logcdf((double)INFINITY) == 0.0);
    CHECK(isnan(llm_special_normal_logcdf((double)NAN)));
}

TEST(special, "tails at the ends: x of 0, below 0, infinite, and a uniform and an exponential") {
    double p, q;
    const double ends[3] = {0.0, -1.0, (double)INFINITY};
    for (size_t k = 0; k < 3; k++) {
        llm_special_gamma_tails(&p, &q, 2.0, ends[k]);
        CHECK(p == (k < 2 ? -(double)INFINITY : 0.0) && q == (k < 2 ? 0.0 : -(double)INFINITY));
    }
    llm_special_beta_tails(&p, &q, 2.0, 3.0, 0.0, 1.0);
    CHECK(p == -(double)INFINITY && q == 0.0);
    llm_special_beta_tails(&p, &q, 2.0, 3.0, 1.0, 0.0);
    CHECK(q == -(double)INFINITY && p == 0.0);
    llm_special_beta_tails(&p, &q, 1.0, 1.0, 1.0 - 1e-30, 1e-30); /* y says what 1 - x cannot */
    CHECK_NEAR(q, log(1e-30), 1e-13 * 69.0);
    for (double x = 1e-300; x < 700.0; x *= 77.0) { /* a = 1: Q = e^-x exactly */
        llm_special_gamma_tails(&p, &q, 1.0, x);
        special_near(q, -x, 2e-14);
        special_near(p, log(-expm1(-x)), 2e-14);
    }
    for (double a = 1e-30; a < 1e-3; a *= 7.0) /* x^a is 1 to the last digit, or nearly */
        for (double x = 1e-3 * a; x > 1e-300; x *= 1e-20) {
            llm_special_beta_tails(&p, &q, a, 1.0, x, 1.0 - x);
            CHECK(p <= 0.0 && q <= 0.0);
            CHECK_NEAR(p, a * log(x), 1e-13);
        }
    for (double a = 1e-30; a < 1e-3; a *= 3.0) /* P(a,x) is 1 - a E1(x), about */
        for (double x = 1e-3; x < 1.0; x *= 1.7) {
            llm_special_gamma_tails(&p, &q, a, x);
            CHECK(p <= 0.0 && q <= 0.0 && p > -10.0 * a - 1e-13);
        }
    CHECK_NEAR(llm_special_log1mexp(-1e-20), log(1e-20), 1e-13);
    CHECK_NEAR(llm_special_log1mexp(-50.0), -exp(-50.0), 1e-37);
    CHECK(llm_special_log1mexp(-(double)INFINITY) == 0.0);
}

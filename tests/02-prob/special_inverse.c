/* @special_inverse */
#include "../test.h"

#include "../../llm.h"

/* A golden array of doubles, stored as the sum of two floats. */
static double *special_inverse_golden(size_t *n, const char *name) {
    const float *hi = golden_n(n, "%s/hi", name), *lo = golden_n(n, "%s/lo", name);
    double *sum = doubles(*n);
    for (size_t i = 0; i < *n; i++) sum[i] = (double)hi[i] + (double)lo[i];
    return sum;
}

TEST(special_inverse, "normal quantiles equal SciPy's to 2e-14, far tails included") {
    size_t n = 0;
    const double *want = special_inverse_golden(&n, "normal");
    const float *p = golden("normal/p");
    for (size_t i = 0; i < n; i++) {
        const double z = llm_special_inverse_normal((double)p[i]);
        CHECK_NEAR(z, want[i], 2e-14 * fmax(1.0, fabs(want[i])));
        CHECK_NEAR(exp(llm_special_normal_logcdf(z)) / (double)p[i], 1.0, 1e-13);
    }
    for (double p1 = 1e-300; p1 < 0.5; p1 *= 3.7) { /* and the way back, far below */
        const double z = llm_special_inverse_normal(p1);
        CHECK_NEAR(llm_special_normal_logcdf(z) / log(p1), 1.0, 1e-14);
    }
    CHECK(llm_special_inverse_normal(0.0) == -(double)INFINITY);
    CHECK(llm_special_inverse_normal(1.0) == (double)INFINITY);
    CHECK(isnan(llm_special_inverse_normal(-0.1)) && isnan(llm_special_inverse_normal(1.1)));
    CHECK(isnan(llm_special_inverse_normal((double)NAN)));
    CHECK(llm_special_inverse_normal(0.5) == 0.0);
}

TEST(special_inverse, "gamma quantiles equal SciPy's to 2e-13") {
    size_t n = 0;
    const double *want = special_inverse_golden(&n, "gamma");
    const float *a = golden("gamma/a"), *p = golden("gamma/p");
    for (size_t i = 0; i < n; i++) {
        const double x = llm_special_inverse_gamma((double)a[i], (double)p[i]);
        /* the golden value is the sum of two floats, and a denormal one has few digits */
        if (want[i] > 1e-28) CHECK_NEAR(x / want[i], 1.0, 2e-13);
    }
    CHECK(llm_special_inverse_gamma(2.0, 0.0) == 0.0);
    CHECK(llm_special_inverse_gamma(0.001, 0.1) == 0.0); /* 1e-1000 */
    CHECK(llm_special_inverse_gamma(2.0, 1.0) == (double)INFINITY);
    CHECK(isnan(llm_special_inverse_gamma(2.0, -0.1)) &&
          isnan(llm_special_inverse_gamma(2.0, 2.0)));
    for (double p1 = 1e-300; p1 < 1.0; p1 *= 5.3) { /* exponential: -log(1 - p) */
        const double x = llm_special_inverse_gamma(1.0, p1);
        CHECK_NEAR(x / -log1p(-p1), 1.0, 1e-12);
    }
    for (size_t k = 0; k < 4; k++) { /* tails of 1e-300 of other shapes, there and back */
        const double shape[4] = {1.3, 7.0, 100.0, 5000.0};
        double log_p, log_q;
        llm_special_gamma_tails(&log_p, &log_q, shape[k],
                                llm_special_inverse_gamma(shape[k], 1e-300));
        CHECK_NEAR(log_p / log(1e-300), 1.0, 1e-12);
    }
}

TEST(special_inverse, "beta quantiles equal SciPy's to 2e-13, near both ends") {
    size_t n = 0;
    const double *want = special_inverse_golden(&n, "beta");
    const float *a = golden("beta/a"), *b = golden("beta/b"), *p = golden("beta/p");
    for (size_t i = 0; i < n; i++) {
        double y = (double)NAN;
        const double x = llm_special_inverse_beta(&y, (double)a[i], (double)b[i], (double)p[i]);
        if (want[i] > 1e-28) CHECK_NEAR(x / want[i], 1.0, 2e-13);
        CHECK_NEAR(x + y, 1.0, 3e-16);
        const double mirror = llm_special_inverse_beta(NULL, (double)b[i], (double)a[i], 0.25);
        llm_special_inverse_beta(&y, (double)a[i], (double)b[i], 0.75);
        CHECK_NEAR(y / mirror, 1.0, 1e-12);
    }
    double y;
    CHECK(llm_special_inverse_beta(&y, 0.001, 1.0, 0.1) == 0.0 && y == 1.0); /* 1e-1000 */
    CHECK(llm_special_inverse_beta(&y, 2.0, 3.0, 0.0) == 0.0 && y == 1.0);
    CHECK(llm_special_inverse_beta(&y, 2.0, 3.0, 1.0) == 1.0 && y == 0.0);
    CHECK(isnan(llm_special_inverse_beta(NULL, 2.0, 3.0, 1.5)));
    CHECK(isnan(llm_special_inverse_beta(NULL, 2.0, 3.0, -0.5)));
    for (double p1 = 1e-250; p1 < 1.0; p1 *= 7.9) { /* a = 2, b = 1: sqrt(p) */
        CHECK_NEAR(llm_special_inverse_beta(NULL, 2.0, 1.0, p1) / sqrt(p1), 1.0, 1e-12);
    }
}

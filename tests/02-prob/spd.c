/* @spd */
#include "../test.h"

#include "../../llm.h"

static double *spd_doubles(const float *x, size_t n) {
    double *d = doubles(n);
    for (size_t i = 0; i < n; i++) d[i] = (double)x[i];
    return d;
}

static float *spd_floats(const double *x, size_t n) {
    float *f = floats(n);
    for (size_t i = 0; i < n; i++) f[i] = (float)x[i];
    return f;
}

TEST(spd, "factor, solution, inverse, determinant and length equal NumPy's") {
    const size_t sizes[] = {1, 2, 3, 7};
    for (size_t s = 0; s < 4; s++) {
        const size_t n = sizes[s];
        double *a = spd_doubles(golden("%zu/a", n), n * n);
        const double *b = spd_doubles(golden("%zu/b", n), n);
        double *L = doubles(n * n), *x = doubles(n), *inverse = doubles(n * n);
        CHECK(llm_spd_factor(L, a, n));
        llm_spd_solve(x, L, b, n);
        llm_spd_inverse(inverse, L, n);
        /* the golden values are printed with 9 digits */
        CHECK_GOLDEN(spd_floats(L, n * n), n * n, 1e-7, "%zu/factor", n);
        CHECK_GOLDEN(spd_floats(x, n), n, 1e-6, "%zu/x", n);
        CHECK_GOLDEN(spd_floats(inverse, n * n), n * n, 1e-6, "%zu/inverse", n);
        CHECK_NEAR(llm_spd_logdet(L, n), golden("%zu/logdet", n)[0], 1e-5);
        const double want = (double)golden("%zu/quadratic", n)[0];
        CHECK_NEAR(llm_spd_quadratic(x, L, b, n), want, 1e-6 * want);
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < n; j++) { /* A A^-1 = I, and the inverse is symmetric exactly */
                double sum = 0.0;
                for (size_t k = 0; k < n; k++) sum += a[i * n + k] * inverse[k * n + j];
                CHECK_NEAR(sum, i == j, 1e-10);
                CHECK(inverse[i * n + j] == inverse[j * n + i]);
            }
        CHECK(llm_spd_factor(a, a, n)); /* in place */
        for (size_t i = 0; i < n * n; i++) CHECK(a[i] == L[i]);
    }
}

TEST(spd, "only the lower triangle is read, and what is not positive definite is refused") {
    double L[9], x[2] = {2.0, 5.0};
    const double lower[4] = {4.0, (double)NAN, 2.0, 5.0};
    CHECK(llm_spd_factor(L, lower, 2));
    CHECK(L[0] == 2.0 && L[1] == 0.0 && L[2] == 1.0 && L[3] == 2.0);
    llm_spd_forward(x, L, x, 2);
    CHECK(x[0] == 1.0 && x[1] == 2.0);
    CHECK_NEAR(llm_spd_logdet(L, 2), log(16.0), 1e-15);

    const double negative[4] = {1.0, 0.0, 2.0, 1.0}, zero[1] = {0.0}, bad[1] = {(double)NAN};
    const double singular[9] = {1.0, 0.1, 0.0, 0.1, 0.01, 0.0, 0.0, 0.0, 1.0}; /* rank 2 */
    CHECK(!llm_spd_factor(L, negative, 2));
    CHECK(!llm_spd_factor(L, zero, 1));
    CHECK(!llm_spd_factor(L, bad, 1));
    CHECK(!llm_spd_factor(L, singular, 3));
    CHECK(llm_spd_factor(L, zero, 0) && llm_spd_logdet(L, 0) == 0.0);
    const double tiny[4] = {1e-200, 0.0, 0.0, 1e200}; /* scale does not matter */
    CHECK(llm_spd_factor(L, tiny, 2));
    CHECK_NEAR(llm_spd_logdet(L, 2), 0.0, 1e-9);
}

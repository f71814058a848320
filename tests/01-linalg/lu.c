/* @lu */
#include "../test.h"

#include "../../llm.h"

static double *lu_doubles(const float *x, size_t n) {
    double *y = doubles(n);
    for (size_t i = 0; i < n; i++) y[i] = (double)x[i];
    return y;
}
static float *lu_floats(const double *x, size_t n) {
    float *y = floats(n);
    for (size_t i = 0; i < n; i++) y[i] = (float)x[i];
    return y;
}

TEST(lu, "factors, order of rows, solutions and determinant equal LAPACK's") {
    const size_t shapes[5][2] = {{1, 1}, {2, 2}, {3, 1}, {7, 3}, {12, 1}};
    for (size_t s = 0; s < 5; s++) {
        const size_t n = shapes[s][0], K = shapes[s][1];
        double *lu = lu_doubles(golden("%zux%zu/a", n, K), n * n), *x = doubles(n * K), sign;
        const double *b = lu_doubles(golden("%zux%zu/b", n, K), n * K);
        size_t *order = as_sizes(zeros(n), n);
        float det[2], *place = floats(n);
        CHECK(llm_lu_factor(lu, order, n, NULL));
        CHECK_GOLDEN(lu_floats(lu, n * n), n * n, 1e-7f, "%zux%zu/lu", n, K);
        for (size_t i = 0; i < n; i++) place[i] = (float)order[i];
        CHECK_GOLDEN(place, n, 0.0f, "%zux%zu/order", n, K);
        llm_lu_solve(x, lu, order, b, n, K);
        CHECK_GOLDEN(lu_floats(x, n * K), n * K, 1e-7f, "%zux%zu/x", n, K);
        det[1] = (float)llm_lu_logdet(&sign, lu, order, n);
        det[0] = (float)sign;
        CHECK_GOLDEN(det, 2, 1e-7f, "%zux%zu/det", n, K);
    }
}

TEST(lu, "backward error |P A - L U| below n eps |L||U|, entry by entry; rows and columns scaled") {
    llm_rng rng = llm_rng_seed(1);
    for (size_t round = 0; round < 80; round++) {
        const size_t n = 1 + round % 21;
        double *a = doubles(n * n), *lu = doubles(n * n);
        for (size_t i = 0; i < n * n; i++) a[i] = (double)llm_rng_normal(&rng);
        for (size_t i = 0; i < n && round % 2; i++) {
            const double row = pow(10.0, (double)llm_rng_below(&rng, 81) - 40.0);
            const double column = pow(10.0, (double)llm_rng_below(&rng, 81) - 40.0);
            for (size_t j = 0; j < n; j++) a[i * n + j] *= row, a[j * n + i] *= column;
        }
        memcpy(lu, a, n * n * sizeof(double));
        size_t *order = as_sizes(zeros(n), n);
        CHECK(llm_lu_factor(lu, order, n, NULL)); /* scales do not make a matrix singular */
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < n; j++) {
                double sum = 0.0, size = 0.0;
                for (size_t k = 0; k <= i && k <= j; k++) {
                    const double term = (k == i ? 1.0 : lu[i * n + k]) * lu[k * n + j];
                    sum += term, size += fabs(term);
                }
                CHECK_NEAR(sum, a[order[i] * n + j], 2.0 * (double)n * DBL_EPSILON * size);
                CHECK(round % 2 || j >= i || fabs(lu[i * n + j]) <= 1.0);
            }
    }
}

TEST(lu, "singular matrices are named with their pivot; regular ones with tiny entries are not") {
    llm_error error;
    size_t order[3];
    double nine[9] = {1, 2, 3, 4, 5, 6, 7, 8, 9}, twice[4] = {1, 2, 2, 4}, zero[1] = {0};
    CHECK_FAILS(llm_lu_factor(nine, order, 3, &error), error, "singular matrix: pivot 2 of 3");
    CHECK_FAILS(llm_lu_factor(twice, order, 2, &error), error, "pivot 1 of 2 is 0");
    CHECK_FAILS(llm_lu_factor(zero, order, 1, &error), error, "pivot 0 of 1 is 0");
    double nan[4] = {1, 2, (double)NAN, 4}, inf[4] = {1, 2, (double)INFINITY, 4};
    CHECK(!llm_lu_factor(nan, order, 2, NULL));
    CHECK_FAILS(llm_lu_factor(inf, order, 2, &error), error, "pivot 0 of 2 is inf");
    double tiny[4] = {1e-300, 0, 0, 1}, mixed[4] = {1, 1, 1e-20, 2e-20}, swapped[4] = {0, 1, 1, 0};
    CHECK(llm_lu_factor(tiny, order, 2, &error) && llm_lu_factor(mixed, order, 2, &error));
    CHECK(llm_lu_factor(swapped, order, 2, &error) && order[0] == 1 && order[1] == 0);
    double sign, x[2], equal[4] = {1, 2, -1, 3};
    size_t kept[2];
    CHECK(llm_lu_factor(equal, kept, 2, &error) && kept[0] == 0); /* of equal pivots the first */
    const double b[2] = {3, 5};
    CHECK(llm_lu_logdet(&sign, swapped, order, 2) == 0.0 && sign == -1.0);
    llm_lu_solve(x, swapped, order, b, 2, 1);
    CHECK(x[0] == 5.0 && x[1] == 3.0);
    double rounding[4] = {0.1, 0.7, 0.3, 2.1}, flipped[4] = {1, 0, 0, -1};
    CHECK_FAILS(llm_lu_factor(rounding, order, 2, &error), error, "pivot 1 of 2");
    CHECK(llm_lu_factor(flipped, order, 2, &error));
    CHECK(llm_lu_logdet(&sign, flipped, order, 2) == 0.0 && sign == -1.0);
    CHECK(llm_lu_factor(NULL, NULL, 0, &error) && llm_lu_logdet(&sign, NULL, NULL, 0) == 0.0);
    CHECK(sign == 1.0);

    llm_rng rng = llm_rng_seed(2); /* products of rank n - 1: noise is no pivot */
    size_t passed = 0;
    for (size_t round = 0; round < 300; round++) {
        const size_t n = 2 + round % 20;
        double *a = doubles(n * n), *left = doubles(n * n), *right = doubles(n * n);
        size_t *rows = as_sizes(zeros(n), n);
        for (size_t i = 0; i < n * n; i++) left[i] = (double)llm_rng_normal(&rng);
        for (size_t i = 0; i < n * n; i++) right[i] = (double)llm_rng_normal(&rng);
        for (size_t i = 0; i < n * n; i++) {
            a[i] = 0.0;
            for (size_t k = 0; k + 1 < n; k++) a[i] += left[i / n * n + k] * right[k * n + i % n];
        }
        passed += llm_lu_factor(a, rows, n, NULL);
    }
    CHECK(passed <= 38); /* 8 other seeds: 8 to 19 of 300 pass */
}

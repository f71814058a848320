/* @least_squares */
#include "../test.h"

#include "../../llm.h"
#include "../arena.h"

/* How many digits of the worst coefficient are right. */
static double ls_digits(const double *got, const float *parts, size_t p) {
    double worst = 0.0;
    for (size_t j = 0; j < p; j++) {
        const double want =
            (double)parts[3 * j] + (double)parts[3 * j + 1] + (double)parts[3 * j + 2];
        const double off = fabs(got[j] - want) / fabs(want);
        worst = off <= worst ? worst : off;
    }
    return -log10(worst + 1e-16);
}

/* X'X w = X'y by Cholesky, in double. */
static void ls_normal_double(double *w, const float *x, const float *y, size_t n, size_t p) {
    double *a = doubles(p * p);
    for (size_t j = 0; j < p; j++) {
        w[j] = 0.0;
        for (size_t i = 0; i < n; i++) w[j] += (double)x[i * p + j] * (double)y[i];
        for (size_t k = 0; k < p; k++) {
            a[j * p + k] = 0.0;
            for (size_t i = 0; i < n; i++)
                a[j * p + k] += (double)x[i * p + j] * (double)x[i * p + k];
        }
    }
    for (size_t j = 0; j < p; j++) { /* plain Cholesky, no guard */
        for (size_t k = 0; k <= j; k++) {
            double sum = a[j * p + k];
            for (size_t m = 0; m < k; m++) sum -= a[j * p + m] * a[k * p + m];
            a[j * p + k] = j == k ? sqrt(fabs(sum)) : sum / a[k * p + k];
        }
    }
    llm_cholesky_solve(w, a, p, 1);
}

/* The same in float. */
static void ls_normal_float(double *w, const float *x, const float *y, size_t n, size_t p) {
    float *a = zeros(p * p), *b = zeros(p);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < p; j++) {
            b[j] += x[i * p + j] * y[i];
            for (size_t k = 0; k < p; k++) a[j * p + k] += x[i * p + j] * x[i * p + k];
        }
    for (size_t k = 0; k < p; k++) /* Gauss, with row exchanges */
        for (size_t i = k + 1, best = k; i <= p; i++) {
            if (i < p) {
                best = fabsf(a[i * p + k]) > fabsf(a[best * p + k]) ? i : best;
                continue;
            }
            for (size_t j = 0; j < p; j++) {
                const float kept = a[k * p + j];
                a[k * p + j] = a[best * p + j], a[best * p + j] = kept;
            }
            const float kept = b[k];
            b[k] = b[best], b[best] = kept;
            for (size_t r = k + 1; r < p; r++) {
                const float f = a[r * p + k] / a[k * p + k];
                for (size_t j = k; j < p; j++) a[r * p + j] -= f * a[k * p + j];
                b[r] -= f * b[k];
            }
        }
    for (size_t k = p; k-- > 0;) {
        w[k] = (double)b[k];
        for (size_t j = k + 1; j < p; j++) w[k] -= (double)a[k * p + j] * w[j];
        w[k] /= (double)a[k * p + k];
    }
}

TEST(least_squares, "hard problems keep digits that normal equations lose") {
    const char *name[4] = {"longley", "powers", "collinear", "scales"};
    const size_t n[4] = {16, 25, 20, 20}, p[4] = {7, 11, 4, 4};
    llm_arena arena = test_arena(1 << 16);
    for (size_t k = 0; k < 4; k++) {
        const float *x = golden("%s/x", name[k]), *y = golden("%s/y", name[k]);
        const float *want = golden("%s/w", name[k]);
        double w[11], digits[3];
        CHECK(llm_least_squares_fit(w, x, y, NULL, n[k], p[k], false, &arena) == p[k]);
        digits[0] = ls_digits(w, want, p[k]);
        ls_normal_double(w, x, y, n[k], p[k]);
        digits[1] = ls_digits(w, want, p[k]);
        ls_normal_float(w, x, y, n[k], p[k]);
        digits[2] = ls_digits(w, want, p[k]);
        /* Seen: 11.2 7.6 0, 7.9 0 0, 10.1 3.9 0, 14.4 14.4 5.6. Columns of different units are no
         * trouble for Cholesky in double: it does not see them. */
        const double least[4] = {10.5, 7.0, 9.5, 13.5}, normal[4] = {8.5, 1.0, 5.0, 16.5};
        const double single[4] = {0.5, 0.5, 0.5, 6.5};
        CHECK(digits[0] > least[k] && digits[1] < normal[k] && digits[2] < single[k]);
    }
    CHECK(arena.used == 0);
}

TEST(least_squares, "coefficients rounded to float lose what the fit had found") {
    enum { N = 25, P = 11 };
    const float *x = golden("powers/x"), *y = golden("powers/y");
    llm_arena arena = test_arena(1 << 16);
    double w[P], rounded[P], best = 0.0, worse = 0.0;
    float fit[N], off[N];
    CHECK(llm_least_squares_fit(w, x, y, NULL, N, P, false, &arena) == P);
    for (size_t j = 0; j < P; j++) rounded[j] = (double)(float)w[j];
    llm_least_squares_predict(fit, x, w, N, P, false);
    llm_least_squares_predict(off, x, rounded, N, P, false);
    for (size_t i = 0; i < N; i++) {
        best += pow((double)(fit[i] - y[i]), 2.0);
        worse += pow((double)(off[i] - y[i]), 2.0);
    }
    CHECK(sqrt(best / N) < 3e-7); /* 1.3e-7: the rounding of y and of the prediction */
    CHECK(sqrt(worse / N) > 2.0 * sqrt(best / N)); /* 5.2e-7 */
}

TEST(least_squares, "weights equal mpmath; weight 0 is absence, weight 2 is twice") {
    enum { N = 13, P = 3 };
    const float *x = golden("weighted/x"), *y = golden("weighted/y"),
                *v = golden("weighted/weight");
    llm_arena arena = test_arena(1 << 16);
    double weight[N], w[P], plain[P];
    for (size_t i = 0; i < N; i++) weight[i] = (double)v[i];
    CHECK(llm_least_squares_fit(w, x, y, weight, N, P, false, &arena) == P);
    CHECK(ls_digits(w, golden("weighted/w"), P) > 13.0);
    CHECK(llm_least_squares_fit(plain, golden("plain/x"), golden("plain/y"), NULL, 1, 1, false,
                                &arena) == 1);
    CHECK(ls_digits(plain, golden("plain/w"), 1) > 15.0);

    float bare[N * 2], twice[(N + 1) * 2], y_twice[N + 1]; /* without the column of ones */
    double other[P];
    for (size_t i = 0; i <= N; i++) {
        const size_t from = i < N ? i : 4;
        if (i < N) memcpy(bare + 2 * i, x + 3 * i, 2 * sizeof *x);
        memcpy(twice + 2 * i, x + 3 * from, 2 * sizeof *x);
        y_twice[i] = y[from];
        if (i < N) weight[i] = i == 4 ? 2.0 : 1.0;
    }
    llm_least_squares_fit(w, bare, y, weight, N, 2, true, &arena);
    llm_least_squares_fit(other, twice, y_twice, NULL, N + 1, 2, true, &arena);
    for (size_t j = 0; j < P; j++) CHECK_NEAR(w[j], other[j], 1e-13);
    weight[4] = 0.0;
    bare[8] = 1e30f; /* an absent example may hold anything finite */
    llm_least_squares_fit(w, bare, y, weight, N, 2, true, &arena);
    memmove(twice + 8, twice + 10, 8 * 2 * sizeof *twice);
    memmove(y_twice + 4, y_twice + 5, 8 * sizeof *y_twice);
    llm_least_squares_fit(other, twice, y_twice, NULL, N - 1, 2, true, &arena);
    for (size_t j = 0; j < P; j++) CHECK_NEAR(w[j], other[j], 1e-13);
}

TEST(least_squares,
     "dependent columns: the rank, equal shares, the same predictions; none at all") {
    const float x[8] = {1, 2, 2, 4, 3, 6, 5, 10}, y[4] = {1, 2, 2, 5}, dead[4] = {0, 0, 0, 0};
    llm_arena arena = test_arena(1 << 16);
    double w[3], one[2];
    float with_both[4], with_one[4];
    CHECK(llm_least_squares_fit(w, x, y, NULL, 4, 2, true, &arena) == 2);
    CHECK_NEAR(w[0], 2.0 * w[1], 1e-12); /* the same share in units of the columns' lengths */
    const float first[4] = {1, 2, 3, 5};
    CHECK(llm_least_squares_fit(one, first, y, NULL, 4, 1, true, &arena) == 2);
    llm_least_squares_predict(with_both, x, w, 4, 2, true);
    llm_least_squares_predict(with_one, first, one, 4, 1, true);
    CHECK_ALL_NEAR(with_both, with_one, 4, 1e-6);
    CHECK(llm_least_squares_fit(w, dead, y, NULL, 4, 1, false, &arena) == 0 && w[0] == 0.0);
    CHECK(llm_least_squares_fit(w, x, y, NULL, 1, 2, true, &arena) ==
          1); /* more columns than rows */
    CHECK_NEAR(w[0] + 2.0 * w[1] + w[2], 1.0, 1e-12);
    CHECK(llm_least_squares_fit(w, x, y, NULL, 0, 2, true, &arena) == 0 && w[2] == 0.0);
    const float mean[3] = {1, 2, 6};
    CHECK(llm_least_squares_fit(w, NULL, mean, NULL, 3, 0, true, &arena) == 1);
    CHECK_NEAR(w[0], 3.0, 1e-15);
    CHECK(arena.used == 0);
}

TEST(least_squares, "a column of 1e-25 counts as much as any other") {
    llm_arena arena = {(unsigned char *)test_memory(1 << 12, 1), 1 << 12, 0, 0};
    memset(arena.memory, 255, arena.size); /* NaN */
    const float x[8] = {1, 1e-25f, 2, -1e-25f, 3, 1e-25f, 5, 2e-25f}, y[4] = {3, 0, 5, 9};
    double w[2]; /* y = x + 2 (second / 1e-25) */
    CHECK(llm_least_squares_fit(w, x, y, NULL, 4, 2, false, &arena) == 2);
    CHECK_NEAR(w[0], 1.0, 1e-6);
    CHECK_NEAR(w[1] * (double)1e-25f, 2.0, 1e-6);
}

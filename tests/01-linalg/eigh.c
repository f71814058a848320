/* @eigh */
#include "../test.h"

#include "../../llm.h"
#include "../arena.h"

/* The golden doubles of that name: high + low. */
static double *eigh_golden(const char *name, const char *part, size_t *n) {
    const float *high = golden_n(n, "%s/%s/high", name, part),
                *low = golden("%s/%s/low", name, part);
    double *x = doubles(*n);
    for (size_t i = 0; i < *n; i++) x[i] = (double)high[i] + (double)low[i];
    return x;
}
static double *eigh_matrix(const char *name, size_t *n) {
    size_t count = 0;
    const float *a = golden_n(&count, "%s/a", name);
    double *x = doubles(count);
    for (size_t i = 0; i < count; i++) x[i] = (double)a[i];
    *n = (size_t)(sqrt((double)count) + 0.5);
    return x;
}

/* Everything that must hold for any symmetric matrix, up to c n eps: residual and orthogonality in
 * the Frobenius norm, order, signs; the values alone are the same. Returns the largest c. */
static double eigh_check(double *w, double *v, const double *a, size_t n, llm_arena *arena) {
    double norm = 0.0, residual = 0.0, skew = 0.0, *alone = doubles(n);
    CHECK(llm_eigh(w, v, a, n, arena) && llm_eigh(alone, NULL, a, n, arena) && arena->used == 0);
    for (size_t i = 0; i < n; i++) CHECK(alone[i] == w[i] && (i == 0 || w[i] >= w[i - 1]));
    for (size_t i = 0; i < n * n; i++) norm = fmax(norm, fabs(a[i]));
    if (norm == 0.0) norm = 1.0; /* |A|_F without overflow */
    double squares = 0.0;
    for (size_t i = 0; i < n * n; i++) squares += a[i] / norm * (a[i] / norm);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++) {
            double sum = -a[i * n + j] / norm, one = i == j ? -1.0 : 0.0;
            for (size_t p = 0; p < n; p++) {
                sum += w[p] / norm * v[p * n + i] * v[p * n + j];
                one += v[i * n + p] * v[j * n + p];
            }
            residual += sum * sum, skew += one * one;
        }
    for (size_t p = 0; p < n; p++) {
        double most = 0.0, top = 0.0;
        for (size_t i = 0; i < n; i++) most = fmax(most, fabs(v[p * n + i]));
        for (size_t i = 0; i < n; i++) top = fmax(top, v[p * n + i]);
        CHECK(top >= most * (1.0 - 2e-6));
    }
    const double unit = (double)n * DBL_EPSILON;
    return fmax(sqrt(skew), squares > 0.0 ? sqrt(residual / squares) : 0.0) / unit;
}

TEST(eigh, "values and vectors equal SciPy's, which come from another algorithm") {
    static const char *const name[7] = {"1", "2", "3", "5", "8", "13", "low"};
    llm_arena arena = test_arena(1 << 17);
    for (size_t c = 0; c < 7; c++) {
        size_t n = 0, count = 0;
        const double *a = eigh_matrix(name[c], &n), *want = eigh_golden(name[c], "w", &count);
        double *w = doubles(n), *v = doubles(n * n);
        CHECK(count == n && eigh_check(w, v, a, n, &arena) < 4.0);
        const double size = fmax(fabs(w[0]), fabs(w[n - 1]));
        for (size_t i = 0; i < n; i++) CHECK_NEAR(w[i], want[i], 2e-14 * size);
        if (c == 6) {
            for (size_t i = 0; i < 6; i++) CHECK(fabs(w[i]) < 1e-14 * size); /* rank 3 of 9 */
            continue;
        }
        want = eigh_golden(name[c], "v", &count);
        for (size_t i = 0; i < n * n; i++) CHECK_NEAR(v[i], want[i], 1e-13);
    }
}

TEST(eigh, "Hilbert's matrix and Wilkinson's pairs, against 60 digits: off by eps |A| at most") {
    llm_arena arena = test_arena(1 << 17);
    for (int c = 0; c < 2; c++) {
        size_t n = 0, count = 0;
        const char *name = c ? "wilkinson" : "hilbert";
        const double *a = eigh_matrix(name, &n), *want = eigh_golden(name, "w", &count);
        double *w = doubles(n), *v = doubles(n * n);
        CHECK(eigh_check(w, v, a, n, &arena) < 4.0);
        for (size_t i = 0; i < n; i++) CHECK_NEAR(w[i], want[i], 20.0 * DBL_EPSILON * w[n - 1]);
        if (c) CHECK(w[20] - w[19] < 1e-13 && w[20] - w[18] > 1.0); /* 10.746194182903 twice */
    }
}

TEST(eigh, "closed forms: a chain, ones, diagonals, two by two, a matrix of one number, of none") {
    llm_arena arena = test_arena(1 << 17);
    for (size_t n = 1; n <= 40; n += n < 5 ? 1 : 7) {
        double *a = doubles(n * n), *w = doubles(n), *v = doubles(n * n);
        const double angle = acos(-1.0) / (double)(n + 1);
        for (size_t i = 0; i < n * n; i++) {
            const size_t r = i / n, k = i % n;
            a[i] = r == k ? 2.0 : r == k + 1 || k == r + 1 ? -1.0 : 0.0;
        }
        CHECK(eigh_check(w, v, a, n, &arena) < 4.0); /* -1, 2, -1: 2 - 2 cos, sines */
        for (size_t p = 0; p < n; p++) {
            CHECK_NEAR(w[p], 2.0 - 2.0 * cos(angle * (double)(p + 1)), 1e-14);
            const double sign = v[p * n] < 0.0 ? -1.0 : 1.0, scale = sqrt(2.0 / (double)(n + 1));
            for (size_t i = 0; i < n; i++)
                CHECK_NEAR(sign * v[p * n + i], scale * sin(angle * (double)((i + 1) * (p + 1))),
                           1e-13);
        }
        for (size_t i = 0; i < n * n; i++) a[i] = 3.0; /* n - 1 zeros and 3 n */
        CHECK(eigh_check(w, v, a, n, &arena) < 4.0);
        CHECK_NEAR(w[n - 1], 3.0 * (double)n, 1e-14 * (double)n);
        for (size_t p = 0; p + 1 < n; p++) CHECK_NEAR(w[p], 0.0, 1e-14 * (double)n);
        for (size_t i = 0; i < n; i++) CHECK_NEAR(v[n * n - n + i], 1.0 / sqrt((double)n), 1e-14);
        for (size_t i = 0; i < n * n; i++) /* descending diagonal: nothing to do but sort */
            a[i] = i / n == i % n ? 5.0 - (double)(i % n) : 0.0;
        CHECK(eigh_check(w, v, a, n, &arena) == 0.0);
        for (size_t p = 0; p < n; p++)
            CHECK(w[p] == 6.0 - (double)n + (double)p && v[p * n + n - 1 - p] == 1.0);
        for (size_t i = 0; i < n * n; i++) a[i] = i / n == i % n ? -7.0 : 0.0; /* equal ones */
        CHECK(eigh_check(w, v, a, n, &arena) == 0.0 && w[0] == -7.0 && w[n - 1] == -7.0);
        for (size_t i = 0; i < n * n; i++) a[i] = 0.0;
        CHECK(eigh_check(w, v, a, n, &arena) == 0.0 && w[0] == 0.0 && w[n - 1] == 0.0);
        for (size_t i = 0; i < n * n; i++) a[i] = i / n + i % n == n - 1 ? 1.0 : 0.0; /* +-1 */
        CHECK(eigh_check(w, v, a, n, &arena) < 4.0);
        for (size_t p = 0; p < n; p++) CHECK_NEAR(w[p], p < n / 2 ? -1.0 : 1.0, 1e-14);
    }
    const double two[4] = {2.0, 1.5, 1.5, -2.0}; /* +-2.5, along (3, 1) and (-1, 3) */
    double w[2], v[4];
    CHECK(llm_eigh(w, v, two, 2, &arena));
    CHECK_NEAR(w[0], -2.5, 1e-15);
    CHECK_NEAR(w[1], 2.5, 1e-15);
    CHECK_NEAR(v[0], -1.0 / sqrt(10.0), 1e-15);
    CHECK_NEAR(v[1], 3.0 / sqrt(10.0), 1e-15);
    CHECK_NEAR(v[2], 3.0 / sqrt(10.0), 1e-15);
    const double swap[4] = {0.0, 1.0, 1.0, 0.0}; /* (1, -1), (1, 1): of equal entries the first */
    CHECK(llm_eigh(w, v, swap, 2, &arena) && v[0] > 0.0 && v[1] < 0.0 && v[2] > 0.0 && v[3] > 0.0);
    double arrow[36] = {0}, w6[6], v6[36]; /* 2 along the shaft, its reflection's factor is 1 */
    for (size_t i = 2; i < 6; i++) arrow[i] = arrow[6 * i] = 1.0;
    CHECK(eigh_check(w6, v6, arrow, 6, &arena) < 4.0);
    CHECK_NEAR(w6[5], 2.0, 1e-15);
    double t[9] = {1, 3, 4, 3, 0, 0, 4, 0, 0}, d[3], beside[3]; /* 3, 4 become -5 */
    llm_eigh_tridiagonal(d, beside, NULL, t, 3);
    CHECK(d[0] == 1.0 && beside[0] == -5.0 && beside[2] == 0.0);
    const double largest[1] = {DBL_MAX};
    CHECK(llm_eigh(w, v, largest, 1, &arena) && w[0] == DBL_MAX && v[0] == 1.0);
    CHECK(llm_eigh(NULL, NULL, NULL, 0, &arena)); /* no numbers, no eigenvalues */
    llm_eigh_compose(NULL, NULL, NULL, 0);
}

/* a = sum w_p q_p q_p' for random orthogonal q and the w given. */
static void eigh_make(double *a, double *w, size_t n, llm_rng *rng, llm_arena *arena) {
    float *q = floats(n * n);
    double *v = doubles(n * n);
    llm_rng_normal_fill(rng, q, n * n);
    llm_qr_orthonormalize(q, n, n, arena);
    for (size_t i = 0; i < n * n; i++) v[i] = (double)q[i];
    llm_eigh_compose(a, w, v, n);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < i; j++) a[i * n + j] = a[j * n + i];
}

TEST(eigh, "residual and orthogonality within 7 n eps: any scales, low ranks, equal eigenvalues") {
    llm_rng rng = llm_rng_seed(1);
    llm_arena arena = test_arena(1 << 17);
    double worst = 0.0; /* eight other seeds: 1.8 to 3.4 */
    for (size_t round = 0; round < 1280; round++) {
        const size_t n = 1 + llm_rng_below(&rng, 30);
        double *a = doubles(n * n), *w = doubles(n), *v = doubles(n * n), *scale = doubles(n);
        for (size_t i = 0; i < n; i++) {
            w[i] = round % 8 == 1   ? (double)(i % 3)
                   : round % 8 == 2 ? (i < 2 ? 1.0 : 0.0)
                   : round % 8 == 3 ? pow(10.0, -(double)i)
                                    : (double)llm_rng_normal(&rng);
            scale[i] = pow(10.0, (double)llm_rng_below(&rng, 201) - 100.0);
        }
        eigh_make(a, w, n, &rng, &arena);
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < n; j++) {
                double *x = &a[i * n + j];
                if (round % 8 == 4) *x *= scale[i] * scale[j]; /* 1e-200 to 1e200 in one matrix */
                if (round % 8 == 5) *x *= 1e307;
                if (round % 8 == 6) *x *= 1e-310; /* denormals */
                if (round % 8 == 7 && (i + j) % 3 != 0) *x = 0.0;
            }
        worst = fmax(worst, round % 8 == 6 ? 0.0 : eigh_check(w, v, a, n, &arena));
        if (round % 8 == 6) CHECK(eigh_check(w, v, a, n, &arena) < 1e6); /* of 10 bits */
    }
    CHECK(worst > 0.1 && worst < 7.0);
}

TEST(eigh, "a tiny part of a large matrix: reflections from 1e-160 do not lose the right angle") {
    llm_arena arena = test_arena(1 << 17);
    const double tiny[5] = {1e-140, 3e-155, 1e-160, 3e-162, 1e-170};
    for (size_t c = 0; c < 25; c++) { /* (1 a b b; ..): squares of a and b are denormal or 0 */
        const double x = tiny[c % 5], y = tiny[c / 5];
        double a[25] = {0}, w[5], v[25];
        for (size_t i = 1; i < 5; i++) a[i] = a[5 * i] = i == 1 ? x : y;
        for (size_t i = 0; i < 5; i++) a[6 * i] = i == 4 ? 1.0 : 0.0;
        CHECK(eigh_check(w, v, a, 5, &arena) < 4.0);
        CHECK_NEAR(w[4], 1.0, 1e-15);
    }
}

TEST(eigh, "functions of a matrix: its root squared, its inverse, its exponential's series") {
    enum { n = 6 };
    llm_rng rng = llm_rng_seed(2);
    llm_arena arena = test_arena(1 << 17);
    double given[n] = {0.0, 0.25, 0.25, 1.0, 1.5, 2.0}, a[n * n], w[n], v[n * n], f[n], b[n * n],
           sum[n * n], term[n * n], next[n * n];
    eigh_make(a, given, n, &rng, &arena);
    CHECK(llm_eigh(w, v, a, n, &arena));
    for (size_t p = 0; p < n; p++) f[p] = sqrt(fmax(w[p], 0.0));
    llm_eigh_compose(b, f, v, n);
    for (size_t i = 0; i < n * n; i++) {
        double square = 0.0;
        for (size_t k = 0; k < n; k++) square += b[i / n * n + k] * b[k * n + i % n];
        CHECK_NEAR(square, a[i],
                   1e-7); /* given[0] is 0 up to float, and its root 1e-4 up to that */
    }
    for (size_t p = 0; p < n; p++) f[p] = exp(w[p]);
    llm_eigh_compose(b, f, v, n);
    for (size_t i = 0; i < n * n; i++) sum[i] = term[i] = i / n == i % n ? 1.0 : 0.0;
    for (int k = 1; k < 40; k++) {
        for (size_t i = 0; i < n * n; i++) {
            next[i] = 0.0;
            for (size_t j = 0; j < n; j++) next[i] += term[i / n * n + j] * a[j * n + i % n] / k;
        }
        for (size_t i = 0; i < n * n; i++) sum[i] += term[i] = next[i];
    }
    for (size_t i = 0; i < n * n; i++) CHECK_NEAR(b[i], sum[i], 1e-13);
    for (size_t p = 0; p < n; p++) f[p] = 1.0 / (w[p] + 1.0); /* (A + I)^-1 */
    llm_eigh_compose(b, f, v, n);
    for (size_t i = 0; i < n * n; i++) {
        double one = b[i];
        for (size_t k = 0; k < n; k++) one += b[i / n * n + k] * a[k * n + i % n];
        CHECK_NEAR(one, i / n == i % n ? 1.0 : 0.0, 1e-14);
    }
}

TEST(eigh, "NaN, infinity and what is not symmetric are refused; float's rounding is averaged") {
    llm_arena arena = test_arena(1 << 17);
    double a[9] = {1, 2, 3, 2, 5, 6, 3, 6, 9}, w[3], v[9];
    const double bad[3] = {(double)NAN, (double)INFINITY, -(double)INFINITY};
    CHECK(llm_eigh(w, v, a, 3, &arena));
    for (size_t i = 0; i < 9; i++)
        for (size_t k = 0; k < 3; k++) {
            const double kept = a[i];
            a[i] = bad[k];
            CHECK(!llm_eigh(w, v, a, 3, &arena) && arena.used == 0);
            a[i] = kept;
        }
    for (size_t i = 1; i < 8; i++) {
        if (i == 4) continue;
        a[i] += 1e-5;
        CHECK(!llm_eigh(w, v, a, 3, &arena));
        a[i] -= 1e-5 - 8e-6;
        CHECK(llm_eigh(w, v, a, 3, &arena));
        a[i] -= 8e-6;
    }
    double b[4] = {0.0, 1.0 + 6e-7, 1.0, 0.0}, u[2];
    CHECK(llm_eigh(u, NULL, b, 2, &arena));
    CHECK_NEAR(u[1], 1.0 + 3e-7, 1e-15);
    b[1] = -1.0;
    CHECK(!llm_eigh(u, NULL, b, 2, &arena));
    b[1] = b[2] = 1e308;
    b[3] = -1e308;
    CHECK(llm_eigh(u, NULL, b, 2, &arena));
    CHECK_NEAR(u[1] / 1e308, 0.5 * (sqrt(5.0) - 1.0), 1e-15);
    b[2] = -1e308;
    CHECK(!llm_eigh(u, NULL, b, 2, &arena));
}

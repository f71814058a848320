/* @qr */
#include "../test.h"

#include "../../llm.h"
#include "../arena.h"

static double *qr_doubles(const float *x, size_t n) {
    double *y = doubles(n);
    for (size_t i = 0; i < n; i++) y[i] = (double)x[i];
    return y;
}
static float *qr_normal(llm_rng *rng, size_t n) {
    float *x = floats(n);
    llm_rng_normal_fill(rng, x, n);
    return x;
}

enum { QR_CASES = 11 };
static const size_t qr_cases[QR_CASES][4] = {
    {1, 1, 1, 1}, {2, 1, 2, 1}, {5, 3, 2, 3}, {3, 5, 1, 3},  {7, 7, 1, 7}, {11, 4, 3, 4},
    {6, 4, 2, 2}, {4, 7, 2, 2}, {5, 5, 1, 4}, {13, 6, 1, 1}, {3, 2, 1, 0}}; /* m, n, K, rank */

TEST(qr, "least squares equal LAPACK's by SVD: tall, wide, square, of every rank") {
    llm_arena arena = test_arena(1 << 20);
    for (size_t s = 0; s < QR_CASES; s++) {
        const size_t m = qr_cases[s][0], n = qr_cases[s][1], K = qr_cases[s][2], r = qr_cases[s][3];
        const float *a = golden("%zux%zux%zu/a", m, n, K), *b = golden("%zux%zux%zu/b", m, n, K);
        float *x = floats(n * K), *residual = floats(K);
        CHECK(llm_qr_lstsq(x, a, b, m, n, K, -1.0, &arena) == r);
        CHECK(arena.used == 0);
        CHECK_GOLDEN(x, n * K, 2e-7f, "%zux%zux%zu/x", m, n, K); /* rounded to float once */

        double *xd = doubles(n * K), *bd = qr_doubles(b, m * K);
        CHECK(llm_qr_solve(xd, qr_doubles(a, m * n), bd, m, n, K, 1e-6, &arena) == r);
        for (size_t i = 0; i < n * K; i++) CHECK(x[i] == (float)xd[i]);
        for (size_t c = 0; c < K; c++) {
            double sum = 0.0;
            for (size_t i = r; i < m; i++) sum += bd[i * K + c] * bd[i * K + c];
            residual[c] = (float)sum;
        }
        CHECK_GOLDEN(residual, K, 1e-7f, "%zux%zux%zu/residual", m, n, K);
    }
}

TEST(qr, "pivots and diagonal equal LAPACK's; the orthonormal columns are unique") {
    llm_arena arena = test_arena(1 << 20);
    for (size_t s = 0; s < QR_CASES; s++) {
        const size_t m = qr_cases[s][0], n = qr_cases[s][1], K = qr_cases[s][2], r = qr_cases[s][3];
        const size_t k = m < n ? m : n;
        float *diagonal = floats(k), *place = floats(n), *a = golden("%zux%zux%zu/a", m, n, K);
        double *qr = qr_doubles(a, m * n), *tau = doubles(k);
        size_t *pivot = as_sizes(zeros(n), n);
        llm_qr_factor(qr, tau, pivot, m, n, &arena);
        CHECK(llm_qr_rank(qr, m, n, 1e-12) == r);
        for (size_t i = 0; i < k; i++) diagonal[i] = (float)fabs(qr[i * n + i]);
        for (size_t j = 0; j < n; j++) place[j] = (float)pivot[j];
        CHECK_GOLDEN(diagonal, k, 1e-7f, "%zux%zux%zu/diagonal", m, n, K);
        if (r == k) CHECK_GOLDEN(place, n, 0.0f, "%zux%zux%zu/pivot", m, n, K);
        if (r < n || m < n) continue;
        llm_qr_orthonormalize(a, m, n, &arena);
        CHECK(arena.used == 0);
        CHECK_GOLDEN(a, m * n, 1e-7f, "%zux%zux%zu/q", m, n, K);
    }
}

/* Q as a matrix (m,m). */
static double *qr_explicit(const double *qr, const double *tau, size_t m, size_t n) {
    double *q = doubles(m * m);
    for (size_t i = 0; i < m * m; i++) q[i] = i / m == i % m ? 1.0 : 0.0;
    llm_qr_apply(q, false, qr, tau, m, n, m);
    return q;
}

TEST(qr, "Q'Q - I and (A P - Q R) / |A| below 4 m eps: any shape, columns and rows badly scaled") {
    llm_rng rng = llm_rng_seed(1);
    llm_arena arena = test_arena(1 << 20);
    for (size_t round = 0; round < 120; round++) {
        const size_t m = 1 + llm_rng_below(&rng, 19), n = 1 + llm_rng_below(&rng, 19);
        double *a = qr_doubles(qr_normal(&rng, m * n), m * n), *qr = doubles(m * n), norm = 0.0;
        for (size_t j = 0; j < n && round % 4 == 1; j++) { /* columns over 200 decades */
            const double scale = pow(10.0, (double)llm_rng_below(&rng, 201) - 100.0);
            for (size_t i = 0; i < m; i++) a[i * n + j] *= scale;
        }
        for (size_t i = 0; i < m && round % 4 == 2; i++) { /* rows over 20 */
            const double scale = pow(10.0, (double)llm_rng_below(&rng, 21) - 10.0);
            for (size_t j = 0; j < n; j++) a[i * n + j] *= scale;
        }
        for (size_t i = 0; i < m * n && round % 4 == 3; i++) /* Hilbert: dependent to rounding */
            a[i] = 1.0 / (double)(i / n + i % n + 1);
        for (size_t i = 0; i < m * n; i++) norm += a[i] * a[i];
        memcpy(qr, a, m * n * sizeof(double));
        double *tau = doubles(m < n ? m : n);
        size_t *pivot = as_sizes(zeros(n), n);
        llm_qr_factor(qr, tau, round % 3 ? pivot : NULL, m, n, &arena);
        for (size_t j = 0; j < n && round % 3 == 0; j++) pivot[j] = j;
        const double *q = qr_explicit(qr, tau, m, n);

        double off = 0.0, back = 0.0;
        for (size_t i = 0; i < m; i++)
            for (size_t j = 0; j < m; j++) {
                double sum = i == j ? -1.0 : 0.0;
                for (size_t k = 0; k < m; k++) sum += q[k * m + i] * q[k * m + j];
                off += sum * sum;
            }
        for (size_t i = 0; i < m; i++)
            for (size_t j = 0; j < n; j++) {
                double sum = -a[i * n + pivot[j]];
                for (size_t k = 0; k <= j && k < m; k++) sum += q[i * m + k] * qr[k * n + j];
                back += sum * sum;
            }
        CHECK_NEAR(sqrt(off), 0.0, 4.0 * (double)m * DBL_EPSILON);
        CHECK_NEAR(sqrt(back), 0.0, 4.0 * (double)m * DBL_EPSILON * sqrt(norm));
        double *b = qr_doubles(qr_normal(&rng, m * 2), m * 2), *c = doubles(m * 2);
        memcpy(c, b, m * 2 * sizeof(double)); /* Q Q' b = b, and Q'b by the matrix */
        llm_qr_apply(c, true, qr, tau, m, n, 2);
        for (size_t i = 0; i < m; i++) {
            double sum = 0.0;
            for (size_t k = 0; k < m; k++) sum += q[k * m + i] * b[k * 2 + 1];
            CHECK_NEAR(c[i * 2 + 1], sum, 1e-14);
        }
        llm_qr_apply(c, false, qr, tau, m, n, 2);
        for (size_t i = 0; i < m * 2; i++) CHECK_NEAR(c[i], b[i], 1e-14);
        for (size_t i = 1; round % 3 && i < m && i < n; i++) /* up to rounding of the longest */
            CHECK(fabs(qr[i * n + i]) <= fabs(qr[(i - 1) * n + i - 1]) + 1e-15 * sqrt(norm));
    }
}

/* Lauchli: a row of ones over e I. A'A = ones + e^2 I is singular in double once e < 1e-8. */
TEST(qr, "solves where the normal equations have nothing left") {
    const size_t n = 3, m = 4;
    const double e = 1e-9, want[3] = {1.0, -2.0, 3.0};
    double a[12], b[4], gram[9], x[3];
    for (size_t i = 0; i < m; i++) {
        b[i] = 0.0;
        for (size_t j = 0; j < n; j++) {
            a[i * n + j] = i == 0 ? 1.0 : i == j + 1 ? e : 0.0;
            b[i] += a[i * n + j] * want[j];
        }
    }
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++) {
            gram[i * n + j] = 0.0;
            for (size_t k = 0; k < m; k++) gram[i * n + j] += a[k * n + i] * a[k * n + j];
        }
    llm_error error;
    llm_arena arena = test_arena(1 << 20);
    CHECK_FAILS(llm_cholesky_factor(gram, n, &error), error, "not positive definite");
    CHECK(llm_qr_solve(x, a, b, m, n, 1, 0.0, &arena) == 3);
    /* condition 1.7e9 times 2e-16 */
    for (size_t j = 0; j < n; j++) CHECK_NEAR(x[j], want[j], 4e-6);
}

TEST(qr, "deficient: the residual is orthogonal to A, the solution to A's null space") {
    llm_rng rng = llm_rng_seed(2);
    llm_arena arena = test_arena(1 << 20);
    for (size_t round = 0; round < 80; round++) {
        const size_t m = 2 + round % 13, n = 2 + round % 11, most = m < n ? m : n;
        const size_t rank = llm_rng_below(&rng, most) + (round % 2);
        const float *left = qr_normal(&rng, m * rank), *right = qr_normal(&rng, rank * n);
        double *a = doubles(m * n), *x = doubles(n);
        const double *b = qr_doubles(qr_normal(&rng, m), m);
        for (size_t i = 0; i < m * n; i++) {
            a[i] = 0.0;
            for (size_t k = 0; k < rank; k++)
                a[i] += (double)left[i / n * rank + k] * (double)right[k * n + i % n];
        }
        double *copy = doubles(m * n), *bb = doubles(m), largest = 0.0, size = 0.0;
        memcpy(copy, a, m * n * sizeof(double)), memcpy(bb, b, m * sizeof(double));
        CHECK(llm_qr_solve(x, copy, bb, m, n, 1, 1e-10, &arena) == rank);
        for (size_t i = 0; i < n; i++) largest = fmax(largest, fabs(x[i]));
        for (size_t j = 0; j < n; j++) {
            double sum = 0.0;
            for (size_t i = 0; i < m; i++) {
                double r = b[i];
                for (size_t k = 0; k < n; k++) r -= a[i * n + k] * x[k];
                sum += a[i * n + j] * r;
            }
            CHECK_NEAR(sum, 0.0, 1e-10 * (1.0 + largest));
        }
        /* x = A'c for some c: in A's row space nothing of x is lost by fitting A' c = x */
        double *turned = doubles(n * m), *c = doubles(m), *rest = doubles(n);
        for (size_t i = 0; i < m * n; i++) turned[i % n * m + i / n] = a[i];
        memcpy(rest, x, n * sizeof(double));
        CHECK(llm_qr_solve(c, turned, rest, n, m, 1, 1e-10, &arena) == rank);
        for (size_t i = rank; i < n; i++) size += rest[i] * rest[i];
        CHECK_NEAR(sqrt(size), 0.0, 1e-10 * (1.0 + largest));
    }
}

TEST(qr,
     "1 x 1, zeros, no columns, no rows, NaN, rcond; dependent columns still become orthonormal") {
    llm_arena arena = test_arena(1 << 20);
    double unit[9] = {1, 0, 0, 0, 1, 0, 0, 0, 1}, tau[3];
    size_t pivot[3];
    llm_qr_factor(unit, tau, pivot, 3, 3,
                  &arena); /* of equal columns the first; nothing to clear */
    for (size_t j = 0; j < 3; j++) CHECK(pivot[j] == j && tau[j] == 0.0 && unit[4 * j] == 1.0);
    float x[3];
    const float minus[1] = {-4.0f}, two[1] = {2.0f}, zero[6] = {0.0f};
    CHECK(llm_qr_lstsq(x, minus, two, 1, 1, 1, -1.0, &arena) == 1 && x[0] == -0.5f);
    CHECK(llm_qr_lstsq(x, zero, two, 1, 1, 1, -1.0, &arena) == 0 && x[0] == 0.0f);
    CHECK(llm_qr_lstsq(x, zero, zero, 2, 3, 1, 0.0, &arena) == 0 && x[2] == 0.0f);
    CHECK(llm_qr_lstsq(x, NULL, two, 1, 0, 1, -1.0, &arena) == 0);
    x[0] = x[1] = 7.0f;
    CHECK(llm_qr_lstsq(x, NULL, NULL, 0, 2, 1, -1.0, &arena) == 0 && x[0] == 0.0f && x[1] == 0.0f);
    const float nan[4] = {NAN, 1.0f, 2.0f, 3.0f}, b[2] = {1.0f, 1.0f};
    llm_qr_lstsq(x, nan, b, 2, 2, 1, -1.0, &arena);
    CHECK(isnan(x[0]) && isnan(x[1]));

    const float near[4] = {1.0f, 1.0f, 1.0f, 1.0000005f}; /* second pivot 2.4e-7 of the first */
    CHECK(llm_qr_lstsq(x, near, b, 2, 2, 1, 2.3e-7, &arena) == 2);
    CHECK(llm_qr_lstsq(x, near, b, 2, 2, 1, 2.5e-7, &arena) == 1);
    CHECK(llm_qr_lstsq(x, near, b, 2, 2, 1, 0.0, &arena) == 2);
    const float line[3] = {1.0f, 0.0f, 3e-7f}; /* by default 3 times 1.2e-7 is the least of 3 x 2 */
    const float tall[6] = {1.0f, 0.0f, 0.0f, line[2], 0.0f, 0.0f};
    const float taller[6] = {1.0f, 0.0f, 0.0f, 4e-7f, 0.0f, 0.0f};
    CHECK(llm_qr_lstsq(x, tall, line, 3, 2, 1, -1.0, &arena) == 1);
    CHECK(llm_qr_lstsq(x, taller, line, 3, 2, 1, -1.0, &arena) == 2);
    CHECK(llm_qr_lstsq(x, tall, line, 2, 3, 1, -1.0, &arena) == 1);

    float same[12] = {1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2, 5}; /* (4,3): column 1 is twice column 0 */
    llm_qr_orthonormalize(same, 4, 3, &arena);
    for (size_t p = 0; p < 3; p++)
        for (size_t q = 0; q < 3; q++) {
            double sum = p == q ? -1.0 : 0.0;
            for (size_t i = 0; i < 4; i++) sum += (double)same[i * 3 + p] * (double)same[i * 3 + q];
            CHECK_NEAR(sum, 0.0, 3e-7);
        }
    for (size_t i = 0; i < 4; i++) CHECK_NEAR(same[i * 3], 0.5, 1e-7);
    CHECK_ASSERTS(llm_qr_orthonormalize(same, 3, 4, &arena));
    float half[1] = {0.5f}; /* R's diagonal is not negative, however small */
    llm_qr_orthonormalize(half, 1, 1, &arena);
    CHECK(half[0] == 1.0f);
    double small[2] = {1e-10, 2e-10}, zeta[1];
    size_t moved[2];
    llm_qr_factor(small, zeta, moved, 1, 2, &arena);
    CHECK(moved[0] == 1 && moved[1] == 0 && small[0] == 2e-10);
    const float wide[12] = {1, 2, 0, 1, 0, 1, 3, -1, 2, 0, 1, 1}, sides[6] = {1, 2, -1, 0, 3, 1};
    float both[8], alone[4], side[3]; /* rank 3 of 4 columns: two right sides as one by one */
    CHECK(llm_qr_lstsq(both, wide, sides, 3, 4, 2, -1.0, &arena) == 3);
    for (size_t c = 0; c < 2; c++) {
        for (size_t i = 0; i < 3; i++) side[i] = sides[2 * i + c];
        llm_qr_lstsq(alone, wide, side, 3, 4, 1, -1.0, &arena);
        for (size_t i = 0; i < 4; i++) CHECK_NEAR(both[2 * i + c], alone[i], 1e-6);
    }
}

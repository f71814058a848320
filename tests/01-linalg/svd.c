/* @svd */
#include "../test.h"

#include "../../llm.h"
#include "../arena.h"

static float *svd_normal(llm_rng *rng, size_t n) {
    float *x = floats(n);
    llm_rng_normal_fill(rng, x, n);
    return x;
}

/* The largest entry of |X'X - I|, X (m,k). */
static double svd_defect(const float *x, size_t m, size_t k) {
    double worst = 0.0;
    for (size_t p = 0; p < k; p++)
        for (size_t q = 0; q < k; q++) {
            double sum = p == q ? -1.0 : 0.0;
            for (size_t i = 0; i < m; i++) sum += (double)x[i * k + p] * (double)x[i * k + q];
            if (!(fabs(sum) <= worst)) worst = fabs(sum);
        }
    return worst;
}

/* |A - B| in the Frobenius norm, and |A| for B = NULL. */
static double svd_distance(const float *a, const float *b, size_t n) {
    double sum = 0.0;
    for (size_t i = 0; i < n; i++) {
        const double d = (double)a[i] - (b ? (double)b[i] : 0.0);
        sum += d * d;
    }
    return sqrt(sum);
}

/* Everything that must hold for any finite matrix, with float rounding of the results. */
static void svd_check(const float *a, size_t m, size_t n, llm_arena *arena) {
    const size_t k = m < n ? m : n;
    float *u = floats(m * k), *s = floats(k), *v = floats(n * k), *back = floats(m * n);
    llm_svd(u, s, v, a, m, n, arena);
    CHECK(arena->used == 0);
    CHECK_NEAR(svd_defect(u, m, k), 0.0, 3e-7);
    CHECK_NEAR(svd_defect(v, n, k), 0.0, 3e-7);
    llm_svd_lowrank(back, u, s, v, m, n, k, k);
    CHECK_NEAR(svd_distance(a, back, m * n), 0.0, 3e-7 * svd_distance(a, NULL, m * n));
    for (size_t p = 0; p < k; p++) {
        CHECK(s[p] >= 0.0f && (p == 0 || s[p] <= s[p - 1]));
        float most = 0.0f, top = 0.0f;
        for (size_t i = 0; i < m; i++) most = fmaxf(most, fabsf(u[i * k + p]));
        for (size_t i = 0; i < m; i++) top = fmaxf(top, u[i * k + p]);
        CHECK(top >= most * (1.0f - 2e-6f));
    }
    float *alone = floats(k);
    llm_svd(NULL, alone, NULL, a, m, n, arena);
    CHECK_ALL_NEAR(alone, s, k, 0.0f);
}

TEST(svd, "values, vectors and pseudoinverse equal LAPACK's: tall, wide, square, 1 x 1") {
    const size_t shapes[8][2] = {{1, 1}, {1, 5}, {4, 1}, {2, 2}, {5, 3}, {3, 7}, {13, 13}, {11, 6}};
    llm_arena arena = test_arena(1 << 21);
    for (size_t c = 0; c < 8; c++) {
        const size_t m = shapes[c][0], n = shapes[c][1], k = m < n ? m : n;
        const float *a = golden("%zux%zu/a", m, n);
        float *u = floats(m * k), *s = floats(k), *v = floats(n * k), *x = floats(n * m);
        llm_svd(u, s, v, a, m, n, &arena);
        CHECK_GOLDEN(s, k, 1e-7f, "%zux%zu/s", m, n);
        CHECK_GOLDEN(u, m * k, 1e-7f, "%zux%zu/u", m, n);
        CHECK_GOLDEN(v, n * k, 1e-7f, "%zux%zu/v", m, n);
        llm_svd_pinv(x, a, m, n, &arena); /* float u, s, v: rounding times the condition */
        CHECK(arena.used == 0);
        CHECK_GOLDEN(x, n * m, 1e-6f * llm_svd_condition(s, k), "%zux%zu/pinv", m, n);
        svd_check(a, m, n, &arena);
    }
}

TEST(svd,
     "Hilbert 8 x 8 and graded columns: small values to 1e-5, where LAPACK has no digit left") {
    llm_arena arena = test_arena(1 << 21);
    float s[8];
    llm_svd(NULL, s, NULL, golden("hilbert/a"), 8, 8, &arena);
    CHECK_ALL_CLOSE(s, golden("hilbert/s"), 8, 1e-5f);
    svd_check(golden("hilbert/a"), 8, 8, &arena);
    CHECK(llm_svd_rank(s, 8, 8) == 5); /* s_5 / s_0 is 7e-7, the cutoff 9.5e-7 */

    const float *want = golden("graded/s"), *lapack = golden("graded/lapack");
    llm_svd(NULL, s, NULL, golden("graded/a"), 9, 6, &arena); /* s from 3 down to 1e-25 */
    CHECK_ALL_CLOSE(s, want, 6, 1e-6f);
    CHECK(fabsf(lapack[5] - want[5]) > want[5]);
}

TEST(svd, "backward error and orthogonality of the double core below 20 n eps, any scales") {
    llm_rng rng = llm_rng_seed(1);
    size_t most = 0;
    for (size_t round = 0; round < 90; round++) {
        const size_t k = 1 + llm_rng_below(&rng, 23), n = k + llm_rng_below(&rng, 12);
        double *a = doubles(k * n), *g = doubles(k * n), *s = doubles(k), *j = doubles(k * k);
        double norm = 0.0, back = 0.0, turned = 0.0, kept = 0.0;
        for (size_t i = 0; i < k; i++) {
            const double scale =
                round % 3 ? pow(10.0, (double)llm_rng_below(&rng, 201) - 100.0) : 1.0;
            for (size_t c = 0; c < n; c++) a[i * n + c] = scale * (double)llm_rng_normal(&rng);
        }
        for (size_t i = 0; i < n && round % 3 == 2 && k > 2; i++) a[2 * n + i] = 3.0 * a[i];
        memcpy(g, a, k * n * sizeof(double));
        const size_t sweeps = llm_svd_jacobi(g, s, j, k, n);
        most = sweeps > most ? sweeps : most;
        for (size_t i = 0; i < k; i++)
            for (size_t c = 0; c < n; c++) {
                double sum = -a[i * n + c];
                for (size_t p = 0; p < k; p++) sum += j[p * k + i] * s[p] * g[p * n + c];
                norm += a[i * n + c] * a[i * n + c], back += sum * sum;
            }
        for (size_t p = 0; p < k; p++)
            for (size_t q = 0; q < k; q++) {
                double x = p == q ? -1.0 : 0.0, y = x;
                for (size_t i = 0; i < k; i++) x += j[p * k + i] * j[q * k + i];
                for (size_t i = 0; i < n; i++) y += g[p * n + i] * g[q * n + i];
                turned += x * x, kept += y * y;
            }
        const double unit = 20.0 * (double)n * DBL_EPSILON;
        CHECK_NEAR(sqrt(back), 0.0, unit * sqrt(norm));
        CHECK_NEAR(sqrt(turned), 0.0, unit);
        CHECK_NEAR(sqrt(kept), 0.0, unit);
    }
    CHECK(most >= 3 && most <= 15); /* far from the 60 it gives up at */
}

TEST(svd, "Eckart and Young: rank r loses sqrt(s_r^2 + ...), and no other matrix of rank r less") {
    const size_t m = 9, n = 7, k = 7;
    llm_rng rng = llm_rng_seed(2);
    llm_arena arena = test_arena(1 << 21);
    float *a = svd_normal(&rng, m * n), *u = floats(m * k), *s = floats(k), *v = floats(n * k);
    float *low = floats(m * n), *other = floats(m * n), *x = floats(m * k), *z = floats(n * k);
    llm_svd(u, s, v, a, m, n, &arena);
    for (size_t r = 0; r <= k; r++) {
        double tail = 0.0;
        for (size_t i = r; i < k; i++) tail += (double)s[i] * (double)s[i];
        llm_svd_lowrank(low, u, s, v, m, n, k, r);
        CHECK_NEAR(svd_distance(a, low, m * n), sqrt(tail), 2e-6);
        for (int trial = 0; trial < 200 && r > 0; trial++) { /* neighbours of rank r */
            for (size_t i = 0; i < m * k; i++) x[i] = u[i] + 0.02f * llm_rng_normal(&rng);
            for (size_t i = 0; i < n * k; i++) z[i] = v[i] + 0.02f * llm_rng_normal(&rng);
            llm_svd_lowrank(other, x, s, z, m, n, k, r);
            CHECK(svd_distance(a, other, m * n) > sqrt(tail) - 2e-6);
        }
    }
    CHECK_ASSERTS(llm_svd_lowrank(low, u, s, v, m, n, k, k + 1));
}

TEST(svd, "the four identities of Moore and Penrose; rank and golden pseudoinverse of a low rank") {
    llm_rng rng = llm_rng_seed(3);
    llm_arena arena = test_arena(1 << 21);
    for (size_t round = 0; round < 60; round++) {
        const size_t m = 1 + round % 7, n = 1 + round % 5, r = 1 + round % 3;
        float *left = svd_normal(&rng, m * r), *right = svd_normal(&rng, n * r), *one = floats(r);
        float *a = floats(m * n), *x = floats(n * m), *s = floats(m < n ? m : n);
        for (size_t i = 0; i < r; i++) one[i] = 1.0f;
        llm_svd_lowrank(a, left, one, right, m, n, r, r);
        llm_svd(NULL, s, NULL, a, m, n, &arena);
        const size_t rank = r < m && r < n ? r : m < n ? m : n;
        CHECK(llm_svd_rank(s, m, n) == rank);
        llm_svd_pinv(x, a, m, n, &arena);
        const double cond = (double)(s[0] / s[rank - 1]);
        for (size_t i = 0; i < m; i++)
            for (size_t j = 0; j < n; j++) {
                double axa = 0.0, xax = 0.0;
                for (size_t p = 0; p < n; p++)
                    for (size_t q = 0; q < m; q++) {
                        axa += (double)a[i * n + p] * (double)x[p * m + q] * (double)a[q * n + j];
                        xax += (double)x[j * m + q] * (double)a[q * n + p] * (double)x[p * m + i];
                    }
                CHECK_NEAR(axa, a[i * n + j], 1e-6 * cond * (double)s[0]);
                CHECK_NEAR(xax, x[j * m + i], 1e-6 * cond / (double)s[rank - 1]);
            }
        for (size_t i = 0; i < m; i++) /* a x and x a are symmetric */
            for (size_t j = 0; j < i; j++) {
                double skew = 0.0;
                for (size_t p = 0; p < n; p++)
                    skew += (double)a[i * n + p] * (double)x[p * m + j] -
                            (double)a[j * n + p] * (double)x[p * m + i];
                CHECK_NEAR(skew, 0.0, 1e-6 * cond);
            }
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < i; j++) {
                double skew = 0.0;
                for (size_t p = 0; p < m; p++)
                    skew += (double)x[i * m + p] * (double)a[p * n + j] -
                            (double)x[j * m + p] * (double)a[p * n + i];
                CHECK_NEAR(skew, 0.0, 1e-6 * cond);
            }
    }
    float s[4], x[24];
    llm_svd(NULL, s, NULL, golden("low/a"), 6, 4, &arena);
    CHECK_GOLDEN(s, 4, 1e-6f, "low/s");
    CHECK(llm_svd_rank(s, 6, 4) == 2 && llm_svd_effective_rank(s, 4) < 2.0f);
    llm_svd_pinv(x, golden("low/a"), 6, 4, &arena);
    CHECK_GOLDEN(x, 24, 1e-6f, "low/pinv");
    svd_check(golden("low/a"), 6, 4, &arena);
}

TEST(svd, "zeros, equal singular values, one entry, the ends of float, NaN, no entries") {
    llm_rng rng = llm_rng_seed(4);
    llm_arena arena = test_arena(1 << 21);
    const size_t shapes[6][2] = {{1, 1}, {3, 3}, {6, 2}, {2, 6}, {7, 7}, {12, 5}};
    for (size_t c = 0; c < 6; c++) {
        const size_t m = shapes[c][0], n = shapes[c][1], k = m < n ? m : n;
        float *a = zeros(m * n), *s = floats(k), *x = floats(m * n);
        svd_check(a, m, n, &arena);
        llm_svd(NULL, s, NULL, a, m, n, &arena);
        CHECK(llm_svd_rank(s, m, n) == 0 && llm_svd_effective_rank(s, k) == 0.0f);
        CHECK(s[0] == 0.0f && isinf(llm_svd_condition(s, k)));
        llm_svd_pinv(x, a, m, n, &arena);
        for (size_t i = 0; i < m * n; i++) CHECK(x[i] == 0.0f);
        a[m * n - 1] = -2.5f; /* one entry: rank 1, the rest of the vectors are made up */
        svd_check(a, m, n, &arena);
        llm_svd(NULL, s, NULL, a, m, n, &arena);
        CHECK(s[0] == 2.5f && llm_svd_rank(s, m, n) == 1);
        CHECK_NEAR(llm_svd_effective_rank(s, k), 1.0, 1e-6);
        for (size_t i = 0; i < m * n; i++) a[i] = i / n == i % n ? -3.0f : 0.0f;
        svd_check(a, m, n, &arena);
        llm_svd(NULL, s, NULL, a, m, n, &arena);
        for (size_t p = 0; p < k; p++) CHECK(s[p] == 3.0f);
        CHECK(llm_svd_condition(s, k) == 1.0f && llm_svd_rank(s, m, n) == k);
        CHECK_NEAR(llm_svd_effective_rank(s, k), k, 1e-5);
        for (size_t i = 0; i < m * n; i++) /* 3e38 and denormals in one matrix */
            a[i] = (i % 2 ? 3e38f : 1e-42f) * (llm_rng_uniform(&rng) - 0.5f);
        if (m * n < 30) svd_check(a, m, n, &arena);
        a[m * n / 2] = NAN;
        llm_svd(NULL, s, NULL, a, m, n, &arena);
        bool bad = false;
        for (size_t p = 0; p < k; p++) bad = bad || isnan(s[p]);
        CHECK(bad);
    }
    const float spread[3] = {4.0f, 2.0f, 0.5f};
    CHECK(llm_svd_condition(spread, 3) == 8.0f && llm_svd_condition(NULL, 0) == 1.0f);
    const double h = -(8.0 * log(8.0 / 13.0) + 4.0 * log(4.0 / 13.0) + log(1.0 / 13.0)) / 13.0;
    CHECK_NEAR(llm_svd_effective_rank(spread, 3), exp(h), 1e-6);
    llm_svd(NULL, NULL, NULL, NULL, 0, 3, &arena);
    llm_svd(NULL, NULL, NULL, NULL, 3, 0, &arena);
    CHECK(llm_svd_rank(NULL, 0, 3) == 0);
    double two[2] = {1.0, 1.0}, one[4], unit[4] = {0.0, 1.0, 1.0, 0.0};
    CHECK(llm_svd_jacobi(unit, two, one, 2, 2) == 1); /* one sweep sees that nothing is to do */
    CHECK_ASSERTS(llm_svd_jacobi(two, one, one, 2, 1));
    CHECK_ASSERTS(llm_svd_complete(two, 1, 1, 0)); /* there is no second direction */
    const float apart[2] = {1.0f, -1.0f}, near[2] = {1.0f, 1e-6f}, small[2] = {0.25f, 0.25f};
    float u[2], s[1], v[1];
    llm_svd(u, s, v, apart, 2, 1, &arena); /* of equal entries the first is positive */
    CHECK(u[0] > 0.0f && u[1] < 0.0f && v[0] == 1.0f);
    CHECK(llm_svd_rank(near, 2, 100) == 1 && llm_svd_rank(near, 100, 2) == 1);
    CHECK(llm_svd_rank(near, 2, 2) == 2);
    CHECK_NEAR(llm_svd_effective_rank(small, 2), 2.0, 1e-6);
}

/* @cholesky */
#include "../test.h"

#include "../../llm.h"
#include "../arena.h"

static double *cholesky_doubles(const float *x, size_t n) {
    double *y = doubles(n);
    for (size_t i = 0; i < n; i++) y[i] = (double)x[i];
    return y;
}
static float *cholesky_floats(const double *x, size_t n) {
    float *y = floats(n);
    for (size_t i = 0; i < n; i++) y[i] = (float)x[i];
    return y;
}

/* X X' / n + ridge on the diagonal, X (n,p) normal: rank min(n,p) without the ridge. */
static double *cholesky_gram(llm_rng *rng, size_t n, size_t p, double ridge) {
    double *x = doubles(n * p), *a = doubles(n * n);
    for (size_t i = 0; i < n * p; i++) x[i] = (double)llm_rng_normal(rng);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++) {
            a[i * n + j] = i == j ? ridge : 0.0;
            for (size_t k = 0; k < p; k++) a[i * n + j] += x[i * p + k] * x[j * p + k] / (double)n;
        }
    return a;
}

TEST(cholesky, "factor, solution, log det and gradient equal LAPACK's and torch's") {
    const size_t shapes[][2] = {{1, 1}, {2, 3}, {3, 1}, {7, 2}, {13, 5}};
    llm_arena arena = test_arena(1 << 20);
    for (size_t s = 0; s < 5; s++) {
        const size_t n = shapes[s][0], K = shapes[s][1];
        double *l = cholesky_doubles(golden("%zux%zu/a", n, K), n * n);
        double *x = cholesky_doubles(golden("%zux%zu/b", n, K), n * K);
        double *dl = cholesky_doubles(golden("%zux%zu/dl", n, K), n * n), *da = doubles(n * n);
        for (size_t i = 0; i < n; i++)
            for (size_t j = i + 1; j < n; j++) l[i * n + j] = dl[i * n + j] = (double)NAN;
        llm_error error; /* the upper triangles were not read */
        CHECK(llm_cholesky_factor(l, n, &error));
        CHECK_GOLDEN(cholesky_floats(l, n * n), n * n, 1e-7f, "%zux%zu/l", n, K);
        llm_cholesky_solve(x, l, n, K);
        CHECK_GOLDEN(cholesky_floats(x, n * K), n * K, 1e-7f, "%zux%zu/x", n, K);
        const float logdet = (float)llm_cholesky_logdet(l, n);
        CHECK_GOLDEN(&logdet, 1, 1e-7f, "%zux%zu/logdet", n, K);
        for (size_t i = 0; i < n * n; i++) da[i] = 1.0;
        llm_cholesky_backward(da, dl, l, n, &arena);
        CHECK(arena.used == 0);
        for (size_t i = 0; i < n * n; i++) da[i] -= 1.0; /* it adds */
        CHECK_GOLDEN(cholesky_floats(da, n * n), n * n, 1e-7f, "%zux%zu/da", n, K);
    }
}

TEST(cholesky, "backward error below (n + 1) eps sqrt(a_ii a_jj), scales from 1e-120 to 1e120") {
    llm_rng rng = llm_rng_seed(1);
    for (size_t round = 0; round < 60; round++) {
        const size_t n = 1 + round % 23;
        double *a = cholesky_gram(&rng, n, n + 1, 1e-6), *l = doubles(n * n);
        for (size_t i = 0; i < n && round % 2; i++) { /* D A D, D by powers of ten */
            const double scale = pow(10.0, (double)llm_rng_below(&rng, 241) - 120.0);
            for (size_t j = 0; j < n; j++) a[i * n + j] *= scale;
            for (size_t j = 0; j < n; j++) a[j * n + i] *= scale;
        }
        memcpy(l, a, n * n * sizeof(double));
        CHECK(llm_cholesky_factor(l, n, NULL));
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < n; j++) {
                if (j > i) CHECK(l[i * n + j] == 0.0);
                double sum = 0.0;
                for (size_t k = 0; k < n; k++) sum += l[i * n + k] * l[j * n + k];
                /* Higham's theorem 10.3; as much again for the sum here */
                const double unit = sqrt(a[i * n + i]) * sqrt(a[j * n + j]) * DBL_EPSILON;
                CHECK_NEAR(sum, a[i * n + j], 2.0 * (double)(n + 1) * unit);
            }
    }
}

TEST(cholesky, "solves to the condition number: A x = b with a known x, five right sides") {
    llm_rng rng = llm_rng_seed(2);
    const size_t n = 19, K = 5;
    double *a = cholesky_gram(&rng, n, 30, 0.1), *x = doubles(n * K), *b = doubles(n * K);
    for (size_t i = 0; i < n * K; i++) x[i] = (double)llm_rng_normal(&rng), b[i] = 0.0;
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++)
            for (size_t k = 0; k < K; k++) b[i * K + k] += a[i * n + j] * x[j * K + k];
    CHECK(llm_cholesky_factor(a, n, NULL));
    double *one = doubles(n), *half = doubles(n * K);
    for (size_t i = 0; i < n; i++) one[i] = b[i * K + 3];
    memcpy(half, b, n * K * sizeof(double));
    llm_cholesky_solve(b, a, n, K);
    for (size_t i = 0; i < n * K; i++) CHECK_NEAR(b[i], x[i], 1e-13); /* condition about 20 */
    llm_cholesky_solve(one, a, n, 1);
    for (size_t i = 0; i < n; i++) CHECK(one[i] == b[i * K + 3]); /* columns do not meet */
    llm_cholesky_lower(half, a, n, K); /* L (L' x) = b: what is left is L' x */
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < K; k++) {
            double sum = 0.0;
            for (size_t j = i; j < n; j++) sum += a[j * n + i] * x[j * K + k];
            CHECK_NEAR(half[i * K + k], sum, 1e-13);
        }
}

TEST(cholesky, "matrices without full rank fail as a rule, at any scale; a tiny ridge mends them") {
    size_t passed = 0;
    llm_rng rng = llm_rng_seed(3);
    for (size_t round = 0; round < 300; round++) {
        const size_t n = 2 + round % 20, rank = 1 + llm_rng_below(&rng, n - 1);
        double *a = cholesky_gram(&rng, n, rank, 0.0), *mended = doubles(n * n);
        const double scale = pow(10.0, (double)llm_rng_below(&rng, 200) - 100.0);
        for (size_t i = 0; i < n * n; i++) a[i] *= scale;
        memcpy(mended, a, n * n * sizeof(double));
        llm_error error;
        passed += llm_cholesky_factor(a, n, &error);
        for (size_t i = 0; i < n; i++) mended[i * n + i] *= 1.0 + 1e-9;
        CHECK(llm_cholesky_factor(mended, n, &error));
    }
    CHECK(passed <= 15); /* 8 other seeds: 2 to 10; with a bound of 0 instead, 24 to 34 */
}

TEST(cholesky, "says which pivot is not positive; NaN, infinity, 0 and 1 x 1") {
    llm_error error;
    double indefinite[9] = {4, 0, 0, 2, 1, 0, 2, 3, 5}; /* pivots 4, 0 */
    CHECK_FAILS(llm_cholesky_factor(indefinite, 3, &error), error, "pivot 1 of 3 is 0");
    double negative[9] = {4, 0, 0, 2, 2, 0, 2, 3, 2}; /* pivots 4, 1, 2 - 1 - 4 */
    CHECK_FAILS(llm_cholesky_factor(negative, 3, &error), error, "pivot 2 of 3 is -3");
    const double bad[5] = {0.0, -1.0, (double)NAN, (double)INFINITY, -(double)INFINITY};
    for (size_t k = 0; k < 5; k++) {
        double one[1] = {bad[k]}, below[4] = {1, 0, bad[k], 2}, last[4] = {1, 0, 0, bad[k]};
        CHECK_FAILS(llm_cholesky_factor(one, 1, &error), error, "pivot 0 of 1");
        CHECK(!llm_cholesky_factor(last, 2, NULL));
        if (k >= 2) CHECK_FAILS(llm_cholesky_factor(below, 2, &error), error, "pivot 1 of 2");
    }
    double one[1] = {6.25}, x[1] = {5.0};
    CHECK(llm_cholesky_factor(one, 1, &error) && one[0] == 2.5);
    llm_cholesky_solve(x, one, 1, 1);
    CHECK(x[0] == 0.8);
    CHECK_NEAR(llm_cholesky_logdet(one, 1), log(6.25), 1e-15);
    double largest[1] = {DBL_MAX};
    CHECK(llm_cholesky_factor(largest, 1, &error) && largest[0] == sqrt(DBL_MAX));
    CHECK(llm_cholesky_factor(NULL, 0, &error) && llm_cholesky_logdet(NULL, 0) == 0.0);
    double *two =
        doubles(900); /* det 2^-30 2000 times over would underflow; its logarithm does not */
    for (size_t i = 0; i < 900; i++) two[i] = i / 30 == i % 30 ? 1e-200 : 0.0;
    CHECK(llm_cholesky_factor(two, 30, &error));
    CHECK_NEAR(llm_cholesky_logdet(two, 30), -6000.0 * log(10.0), 1e-9);
}

/* sum of dl L for the symmetric matrix with lower triangle x */
static double cholesky_loss(const float *x, const float *dl, size_t n) {
    double *a = cholesky_doubles(x, n * n), sum = 0.0;
    CHECK(llm_cholesky_factor(a, n, NULL));
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j <= i; j++) sum += a[i * n + j] * (double)dl[i * n + j];
    return sum;
}

TEST(cholesky, "the gradient by differences; an entry below the diagonal stands for two") {
    enum { N = 5 };
    llm_rng rng = llm_rng_seed(4);
    llm_arena arena = test_arena(1 << 20);
    double *a = cholesky_gram(&rng, N, 9, 0.5);
    float *x = cholesky_floats(a, N * N), dl[N * N], got[N * N];
    llm_rng_normal_fill(&rng, dl, N * N);
    double *l = cholesky_doubles(x, N * N), *da = doubles(N * N);
    CHECK(llm_cholesky_factor(l, N, NULL));
    for (size_t i = 0; i < N * N; i++) da[i] = 0.0;
    llm_cholesky_backward(da, cholesky_doubles(dl, N * N), l, N, &arena);
    for (size_t i = 0; i < N; i++)
        for (size_t j = 0; j < N; j++) {
            CHECK_NEAR(da[i * N + j], da[j * N + i], 1e-15);
            got[i * N + j] = j > i ? 0.0f : (float)(i == j ? da[i * N + j] : 2.0 * da[i * N + j]);
        }
    CHECK_GRAD(got, x, N * N, 1e-3f, 1e-4f, cholesky_loss(x, dl, N)); /* third derivative, step^2 */
}

TEST(cholesky, "A A^-1 = I with a symmetric inverse; b' A^-1 b, and b white afterwards") {
    const size_t sizes[] = {1, 2, 3, 7, 19};
    llm_rng rng = llm_rng_seed(5);
    for (size_t s = 0; s < 5; s++) {
        const size_t n = sizes[s];
        double *a = doubles(n * n), *l = doubles(n * n), *inverse = doubles(n * n);
        double *b = doubles(n), *white = doubles(n), want = 0.0;
        float *g = floats(n * n);
        llm_rng_normal_fill(&rng, g, n * n);
        for (size_t i = 0; i < n; i++) b[i] = (double)llm_rng_normal(&rng);
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < n; j++)
                a[i * n + j] = dot(g + i * n, g + j * n, n) + (i == j ? 0.5 : 0.0);
        memcpy(l, a, n * n * sizeof *l);
        memcpy(white, b, n * sizeof *b);
        CHECK(llm_cholesky_factor(l, n, NULL));
        llm_cholesky_inverse(inverse, l, n);
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < n; j++) {
                double sum = 0.0;
                for (size_t k = 0; k < n; k++) sum += a[i * n + k] * inverse[k * n + j];
                CHECK_NEAR(sum, i == j, 1e-12 * (double)(n * n)); /* condition up to 100 */
                CHECK(inverse[i * n + j] == inverse[j * n + i]);
                want += b[i] * inverse[i * n + j] * b[j];
            }
        CHECK_NEAR(llm_cholesky_length_sq(white, l, n), want, 1e-11 * want);
        llm_cholesky_upper(white, l, n, 1); /* L'^-1 L^-1 b = A^-1 b */
        for (size_t i = 0; i < n; i++) {
            double sum = 0.0;
            for (size_t k = 0; k < n; k++) sum += a[i * n + k] * white[k];
            CHECK_NEAR(sum, b[i], 1e-11);
        }
    }
}

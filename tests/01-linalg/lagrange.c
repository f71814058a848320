/* @lagrange */
#include "../test.h"

#include "../../llm.h"
#include "../arena.h"

static double *lagrange_doubles(const float *x, size_t n) {
    double *y = doubles(n);
    for (size_t i = 0; i < n; i++) y[i] = (double)x[i];
    return y;
}
static float *lagrange_floats(const double *x, size_t n) {
    float *y = floats(n);
    for (size_t i = 0; i < n; i++) y[i] = (float)x[i];
    return y;
}
static double lagrange_value(const double *q, const double *c, const double *x, size_t n) {
    double sum = 0.0;
    for (size_t i = 0; i < n; i++) {
        sum += c[i] * x[i];
        for (size_t j = 0; j < n; j++) sum += 0.5 * x[i] * q[i * n + j] * x[j];
    }
    return sum;
}

TEST(lagrange, "quadratic programs with equalities and inequalities equal SLSQP's minima") {
    const size_t shapes[5][3] = {{1, 1, 0}, {2, 3, 0}, {3, 4, 1}, {5, 8, 2}, {6, 12, 0}};
    llm_arena arena = test_arena(1 << 18);
    for (size_t s = 0; s < 5; s++) {
        const size_t n = shapes[s][0], k = shapes[s][1], e = shapes[s][2];
        const double *q = lagrange_doubles(golden("%zux%zu/q", n, k), n * n);
        const double *c = lagrange_doubles(golden("%zux%zu/c", n, k), n);
        const double *g = lagrange_doubles(golden("%zux%zu/g", n, k), k * n);
        double *x = lagrange_doubles(golden("%zux%zu/start", n, k), n), *mu = doubles(k);
        double *h = lagrange_doubles(golden("%zux%zu/h_room", n, k), k);
        for (size_t i = 0; i < k; i++)
            for (size_t j = 0; j < n; j++) h[i] += g[i * n + j] * x[j];
        llm_error error;
        CHECK(llm_lagrange_active_set(x, mu, q, c, g, h, n, k, e, &arena, &error) &&
              arena.used == 0);
        CHECK_GOLDEN(lagrange_floats(x, n), n, 1e-6f, "%zux%zu/x", n,
                     k); /* h is rounded to float */
        CHECK_GOLDEN(lagrange_floats(mu, k), k, 2e-6f, "%zux%zu/mu", n, k);
        const llm_lagrange_residuals r = llm_lagrange_residual(x, mu, q, c, g, h, n, k, e);
        CHECK(r.stationarity < 1e-10 && r.feasibility < 1e-10 && r.complementarity < 1e-10);
        /* duality gap: the dual value -1/2 (c + G'mu)' Q^-1 (c + G'mu) - h'mu equals the minimum */
        double dual = 0.0, *slope = doubles(n), *y = doubles(n), *l = doubles(n * n);
        for (size_t i = 0; i < n; i++) {
            slope[i] = c[i];
            for (size_t j = 0; j < k; j++) slope[i] += g[j * n + i] * mu[j];
            y[i] = slope[i];
        }
        memcpy(l, q, n * n * sizeof(double));
        CHECK(llm_cholesky_factor(l, n, &error));
        llm_cholesky_solve(y, l, n, 1);
        for (size_t i = 0; i < n; i++) dual -= 0.5 * slope[i] * y[i];
        for (size_t i = 0; i < k; i++) dual -= h[i] * mu[i];
        CHECK_NEAR(dual, lagrange_value(q, c, x, n), 1e-10 * (1.0 + fabs(dual)));
    }
}

TEST(lagrange, "random programs: residuals are 0, and no feasible neighbour is lower") {
    llm_rng rng = llm_rng_seed(1);
    llm_arena arena = test_arena(1 << 18);
    for (size_t round = 0; round < 60; round++) {
        const size_t n = 1 + round % 8, k = round % 19, e = n > 2 && k > 2 ? round % 2 : 0;
        double *q = doubles(n * n), *c = doubles(n), *g = doubles(k * n), *h = doubles(k),
               *x = doubles(n);
        double *mu = doubles(k), *z = doubles(n), *m = doubles(n * n);
        for (size_t i = 0; i < n * n; i++) m[i] = (double)llm_rng_normal(&rng);
        for (size_t i = 0; i < n * n; i++) {
            q[i] = i / n == i % n ? 0.1 : 0.0;
            for (size_t p = 0; p < n; p++) q[i] += m[i / n * n + p] * m[i % n * n + p];
        }
        for (size_t i = 0; i < n; i++) c[i] = 5.0 * (double)llm_rng_normal(&rng), x[i] = 0.0;
        for (size_t i = 0; i < k * n; i++) g[i] = (double)llm_rng_normal(&rng);
        for (size_t i = 0; i < k; i++)
            h[i] = i < e ? 0.0 : (double)(round % 3) * (double)llm_rng_uniform(&rng);
        llm_error error;
        CHECK(llm_lagrange_active_set(x, mu, q, c, g, h, n, k, e, &arena, &error));
        const llm_lagrange_residuals r = llm_lagrange_residual(x, mu, q, c, g, h, n, k, e);
        CHECK(r.stationarity < 1e-8 && r.feasibility < 1e-9 && r.complementarity < 1e-8);
        const double value = lagrange_value(q, c, x, n);
        for (int trial = 0; trial < 200; trial++) {
            bool feasible = true;
            for (size_t j = 0; j < n; j++)
                z[j] = x[j] + (trial % 2 ? 0.1 : 1e-3) * (double)llm_rng_normal(&rng);
            for (size_t i = 0; i < k; i++) {
                double at = -h[i];
                for (size_t j = 0; j < n; j++) at += g[i * n + j] * z[j];
                feasible = feasible && (i < e ? fabs(at) < 1e-12 : at <= 0.0);
            }
            if (feasible) CHECK(lagrange_value(q, c, z, n) >= value - 1e-9);
        }
    }
}

TEST(lagrange, "closed forms: shortest solution, projection onto the simplex, the price of b") {
    llm_arena arena = test_arena(1 << 18);
    llm_rng rng = llm_rng_seed(2);
    llm_error error;
    enum { N = 5, K = 2 };
    double q[N * N] = {0.0}, c[N] = {0.0}, a[K * N], b[K] = {1.0, -2.0}, x[N], lambda[K];
    float af[K * N], pinv[N * K];
    llm_rng_normal_fill(&rng, af, K * N);
    for (size_t i = 0; i < N; i++) q[i * N + i] = 1.0;
    for (size_t i = 0; i < K * N; i++) a[i] = (double)af[i];
    CHECK(llm_lagrange_equality(x, lambda, q, c, a, b, N, K, &arena, &error) && arena.used == 0);
    llm_svd_pinv(pinv, af, K, N, &arena); /* min 1/2 |x|^2 with A x = b is A+ b */
    for (size_t i = 0; i < N; i++)
        CHECK_NEAR(x[i], (double)pinv[i * K] * b[0] + (double)pinv[i * K + 1] * b[1], 2e-6);
    /* lambda is the price: dmin/db = -lambda, here exactly, as the minimum is quadratic in b */
    for (size_t k = 0; k < K; k++) {
        double value[2], y[N], other[K];
        for (int side = 0; side < 2; side++) {
            double moved[K] = {b[0], b[1]};
            moved[k] += side ? 0.01 : -0.01;
            CHECK(llm_lagrange_equality(y, other, q, c, a, moved, N, K, &arena, &error));
            value[side] = lagrange_value(q, c, y, N);
        }
        CHECK_NEAR((value[1] - value[0]) / 0.02, -lambda[k], 1e-9);
    }

    for (int round = 0; round < 20; round++) { /* min 1/2 |x - t|^2 on the simplex is sparsemax */
        float t[N], p[N];
        double g[(1 + N) * N] = {0.0}, h[1 + N] = {1.0}, mu[1 + N];
        llm_rng_normal_fill(&rng, t, N);
        llm_sparsemax_forward(p, t, 1, N);
        for (size_t i = 0; i < N; i++) {
            c[i] = -(double)t[i], x[i] = 1.0 / N;
            g[i] = 1.0;                /* sum x = 1 */
            g[(1 + i) * N + i] = -1.0; /* -x_i <= 0 */
        }
        CHECK(llm_lagrange_active_set(x, mu, q, c, g, h, N, 1 + N, 1, &arena, &error));
        for (size_t i = 0; i < N; i++) CHECK_NEAR(x[i], p[i], 1e-6);
    }
    /* maximum of x'Mx on the sphere, M = A'A: stationary with multiplier s^2: the top singular
     * pair */
    float u[K * K], s[K], v[N * K];
    llm_svd(u, s, v, af, K, N, &arena);
    for (size_t i = 0; i < N; i++) {
        double mv = 0.0;
        for (size_t k = 0; k < K; k++)
            for (size_t j = 0; j < N; j++) mv += a[k * N + i] * a[k * N + j] * (double)v[j * K];
        CHECK_NEAR(mv, (double)(s[0] * s[0] * v[i * K]), 1e-5);
    }
}

TEST(lagrange, "contradictions, repeated rows and a bad start are reported; no constraints") {
    llm_arena arena = test_arena(1 << 18);
    llm_error error;
    const double q[4] = {2, 0, 0, 4}, c[2] = {-2, -8}, twice[4] = {1, 1, 1, 1}, b[2] = {1, 2};
    double x[2], mu[2];
    CHECK(llm_lagrange_equality(x, mu, q, c, NULL, NULL, 2, 0, &arena, &error));
    CHECK(x[0] == 1.0 && x[1] == 2.0);
    CHECK_FAILS(llm_lagrange_equality(x, mu, q, c, twice, b, 2, 2, &arena, &error), error,
                "singular");
    CHECK(arena.used == 0);
    x[0] = x[1] = 0.6;
    CHECK_FAILS(llm_lagrange_active_set(x, mu, q, c, twice, b, 2, 2, 0, &arena, &error), error,
                "the start violates constraint 0 by 0.2");
    x[0] = 0.5, x[1] = 0.4;
    CHECK_FAILS(llm_lagrange_active_set(x, mu, q, c, twice, b, 2, 1, 1, &arena, &error), error,
                "the start violates constraint 0 by -0.1");
    x[0] = 0.5, x[1] = 0.5; /* the same inequality twice: one of them is enough */
    const double one[2] = {1, 1};
    CHECK(llm_lagrange_active_set(x, mu, q, c, twice, one, 2, 2, 0, &arena, &error));
    CHECK_NEAR(x[0], -1.0 / 3.0, 1e-12); /* 2x - 2 = 4y - 8 = -mu, x + y = 1 */
    CHECK_NEAR(x[1], 4.0 / 3.0, 1e-12);
    CHECK_NEAR(mu[0] + mu[1], 8.0 / 3.0, 1e-12);
    CHECK(arena.used == 0);
    const double g[2] = {1, 1}, far[1] = {100};
    x[0] = x[1] = 0.0; /* a constraint that is not reached costs nothing */
    CHECK(llm_lagrange_active_set(x, mu, q, c, g, far, 2, 1, 0, &arena, &error));
    CHECK(x[0] == 1.0 && x[1] == 2.0 && mu[0] == 0.0);
    const llm_lagrange_residuals r =
        llm_lagrange_residual(b, mu, q, c, g, one, 2, 1, 0); /* b = (1,2) */
    CHECK(r.stationarity == 0.0 && r.feasibility == 2.0 && r.complementarity == 0.0);
    const double off[2] = {0.0, 2.0};
    CHECK(llm_lagrange_residual(off, mu, q, c, g, far, 2, 1, 0).stationarity == 2.0);
    /* 0.1 + 0.2 - 0.3 is rounding; 1% of a small bound is not */
    const double unit[9] = {1, 0, 0, 0, 1, 0, 0, 0, 1}, none[3] = {0, 0, 0};
    const double plane[6] = {0, 0, 0, 1, 1, -1}, bound[2] = {1, 0}, small[1] = {1e-6};
    double start[3] = {0.1, 0.2, 0.3}, price[2], beyond[1] = {1.01e-6};
    CHECK(llm_lagrange_active_set(start, price, unit, none, plane, bound, 3, 2, 0, &arena, &error));
    CHECK_FAILS(
        llm_lagrange_active_set(beyond, price, unit, none, unit, small, 1, 1, 0, &arena, &error),
        error, "violates constraint 0 by 1e-08");
    double nothing[1];
    CHECK(
        llm_lagrange_active_set(nothing, nothing, unit, none, unit, none, 0, 0, 0, &arena, &error));
    CHECK(
        llm_lagrange_active_set(nothing, price, unit, none, unit, bound, 0, 2, 0, &arena, &error));
    CHECK(price[0] == 0.0 && price[1] == 0.0 && arena.used == 0); /* no unknowns: 0 <= h */
    const double minus[1] = {-3.0};
    const llm_lagrange_residuals bad = llm_lagrange_residual(b, minus, q, c, g, far, 2, 1, 0);
    CHECK(bad.stationarity == 3.0 && bad.feasibility == 0.0 && bad.complementarity == 291.0);
}

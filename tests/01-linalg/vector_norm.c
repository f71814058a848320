/* @vector_norm */
#include "../test.h"

#include "../../llm.h"

static float *vector_norm_normal(llm_rng *rng, size_t n) {
    float *x = floats(n);
    llm_rng_normal_fill(rng, x, n);
    return x;
}

TEST(vector_norm, "norms equal NumPy's, with entries of 1e30 and 1e-30; matrix norms") {
    const char *const name[5] = {"one", "seven", "large", "small", "both"};
    for (size_t k = 0; k < 5; k++) {
        size_t n;
        const float *x = golden_n(&n, "%s/x", name[k]);
        const float got[3] = {llm_vector_norm_l1(x, n), llm_vector_norm_l2(x, n),
                              llm_vector_norm_linf(x, n)};
        CHECK_ALL_CLOSE(got, golden("%s/norms", name[k]), 3, 1e-7f);
        const double p[5] = {1.0, 1.5, 2.0, 3.0, 40.0};
        float lp[5];
        for (size_t i = 0; i < 5; i++) lp[i] = llm_vector_norm_lp(x, n, p[i]);
        CHECK_ALL_CLOSE(lp, golden("%s/lp", name[k]), 5, 1e-7f);
    }
    const float *a = golden("matrix/a");
    const float got[3] = {llm_vector_norm_matrix_1(a, 4, 7), llm_vector_norm_matrix_inf(a, 4, 7),
                          llm_vector_norm_l2(a, 28)};
    CHECK_GOLDEN(got, 3, 1e-7f, "matrix/norms");
}

TEST(vector_norm, "nothing, zeros, infinity, NaN") {
    const float zero[3] = {0.0f, -0.0f, 0.0f}, inf[3] = {1.0f, -INFINITY, 2.0f};
    const float nan[3] = {1.0f, NAN, INFINITY};
    CHECK(llm_vector_norm_l1(NULL, 0) == 0.0f && llm_vector_norm_l2(NULL, 0) == 0.0f);
    CHECK(llm_vector_norm_linf(NULL, 0) == 0.0f && llm_vector_norm_lp(NULL, 0, 3.0) == 0.0f);
    CHECK(llm_vector_norm_l1(zero, 3) == 0.0f && llm_vector_norm_lp(zero, 3, 1.5) == 0.0f);
    CHECK(isinf(llm_vector_norm_l2(inf, 3)) && isinf(llm_vector_norm_linf(inf, 3)));
    CHECK(isinf(llm_vector_norm_lp(inf, 3, 3.0)) && llm_vector_norm_lp(inf, 1, INFINITY) == 1.0f);
    CHECK(isnan(llm_vector_norm_l1(nan, 3)) && isnan(llm_vector_norm_l2(nan, 3)));
    const float small[4] = {0.25f, -0.125f, 0.0f, 0.125f};
    CHECK(llm_vector_norm_matrix_inf(small, 2, 2) == 0.375f);
    CHECK(llm_vector_norm_matrix_1(small, 2, 2) == 0.25f);
    CHECK(isnan(llm_vector_norm_linf(nan, 2)) && isnan(llm_vector_norm_lp(nan, 2, 3.0)));
    CHECK(isnan(llm_vector_norm_matrix_1(nan, 1, 2)) &&
          isnan(llm_vector_norm_matrix_inf(nan, 2, 1)));
    CHECK_ASSERTS(llm_vector_norm_lp(zero, 3, 0.5));
    float y[3];
    llm_vector_norm_prox_l1(y, nan, 2, 1.0f);
    CHECK(isnan(y[1]) && y[0] == 0.0f);
    llm_vector_norm_prox_l2(y, zero, 3, 0.0f);
    CHECK(y[0] == 0.0f && y[2] == 0.0f);
    y[0] = NAN;
    llm_vector_norm_project_l2(y, zero, 3, 0.0f);
    CHECK(y[0] == 0.0f && y[2] == 0.0f);
}

TEST(vector_norm, "triangle and Holder hold, with equality where they should") {
    llm_rng rng = llm_rng_seed(1);
    const double p[4] = {1.0, 1.25, 2.0, 7.0}; /* duals: inf, 5, 2, 7/6 */
    const double q[4] = {(double)INFINITY, 5.0, 2.0, 7.0 / 6.0};
    for (size_t round = 0; round < 400; round++) {
        const size_t n = 1 + round % 13, k = round % 4;
        float *x = vector_norm_normal(&rng, n), *y = vector_norm_normal(&rng, n), sum[13], best[13];
        for (size_t i = 0; i < n; i++) sum[i] = x[i] + y[i];
        const double xp = (double)llm_vector_norm_lp(x, n, p[k]);
        CHECK(llm_vector_norm_lp(sum, n, p[k]) <=
              (xp + (double)llm_vector_norm_lp(y, n, p[k])) * (1.0 + 1e-6));
        CHECK(fabs(dot(x, y, n)) <= xp * (double)llm_vector_norm_lp(y, n, q[k]) * (1.0 + 1e-6));
        for (size_t i = 0; i < n; i++) /* the y that reaches |x|_p with |y|_q = 1 */
            best[i] = copysignf((float)pow(fabs((double)x[i]) / xp, p[k] - 1.0), x[i]);
        CHECK_NEAR(dot(x, best, n), xp, 1e-5 * xp);
        CHECK_NEAR(llm_vector_norm_lp(best, n, q[k]), 1.0, 1e-5);
    }
    /* induced norms: no x is lengthened more, and some x as much */
    for (size_t round = 0; round < 50; round++) {
        enum { M = 4, N = 3 };
        float *a = vector_norm_normal(&rng, M * N), *x = vector_norm_normal(&rng, N), y[M];
        const float one = llm_vector_norm_matrix_1(a, M, N),
                    inf = llm_vector_norm_matrix_inf(a, M, N);
        llm_linear_map_apply(y, a, x, M, N);
        CHECK(llm_vector_norm_l1(y, M) <= one * llm_vector_norm_l1(x, N) * 1.000001f);
        CHECK(llm_vector_norm_linf(y, M) <= inf * llm_vector_norm_linf(x, N) * 1.000001f);
        float reach_1 = 0.0f, reach_inf = 0.0f;
        for (size_t code = 0; code < 8; code++) { /* corners of the cube, unit vectors */
            for (size_t j = 0; j < N; j++) x[j] = code >> j & 1 ? 1.0f : -1.0f;
            llm_linear_map_apply(y, a, x, M, N);
            reach_inf = fmaxf(reach_inf, llm_vector_norm_linf(y, M));
            for (size_t j = 0; j < N; j++) x[j] = j == code ? 1.0f : 0.0f;
            llm_linear_map_apply(y, a, x, M, N);
            reach_1 = fmaxf(reach_1, llm_vector_norm_l1(y, M));
        }
        CHECK_NEAR(reach_1, one, 1e-6 * (double)one);
        CHECK_NEAR(reach_inf, inf, 1e-6 * (double)inf);
    }
}

TEST(vector_norm, "unit vectors and their gradient equal torch's, and differences") {
    const size_t shapes[3][2] = {{1, 1}, {2, 3}, {3, 11}};
    for (size_t s = 0; s < 3; s++) {
        const size_t rows = shapes[s][0], n = shapes[s][1], size = rows * n;
        float *x = golden("unit%zux%zu/x", rows, n), *u = floats(size), *length = floats(rows);
        const float *du = golden("unit%zux%zu/du", rows, n);
        llm_vector_norm_unit(u, length, x, rows, n, 1e-12f);
        CHECK_GOLDEN(u, size, 1e-7f, "unit%zux%zu/u", rows, n);
        CHECK_GOLDEN(length, rows, 1e-7f, "unit%zux%zu/length", rows, n);
        float *dx = floats(size), *again = floats(size);
        for (size_t i = 0; i < size; i++) dx[i] = 1.0f;
        llm_vector_norm_unit_backward(dx, du, u, length, rows, n, 1e-12f);
        for (size_t i = 0; i < size; i++) dx[i] -= 1.0f;
        CHECK_GOLDEN(dx, size, 1e-6f, "unit%zux%zu/dx", rows, n);
        CHECK_GRAD(dx, x, size, 1e-2f, 2e-3f,
                   (llm_vector_norm_unit(again, NULL, x, rows, n, 1e-12f), dot(again, du, size)));
        llm_vector_norm_unit(x, NULL, x, rows, n, 0.0f); /* in place */
        CHECK_ALL_NEAR(x, u, size, 0.0f);
    }
    const float x[6] = {0.0f, 0.0f, 3e-9f, 4e-9f, 3e-8f, 4e-8f}, du[6] = {1, 2, 1, 2, 1, 2};
    float u[6], length[3], dx[6] = {0.0f}, zero[2] = {0.0f, 0.0f};
    llm_vector_norm_unit(u, length, x, 3, 2, 1e-8f); /* below eps there is no direction */
    CHECK(u[0] == 0.0f && u[2] == 0.0f && u[3] == 0.0f);
    CHECK_NEAR(u[5], 0.8, 1e-7);
    llm_vector_norm_unit_backward(dx, du, u, length, 3, 2, 1e-8f);
    for (size_t i = 0; i < 4; i++) CHECK(dx[i] == 0.0f);
    CHECK_NEAR(dx[4], (1.0 - 0.6 * 2.2) / 5e-8, 10.0);
    const float edge[2] = {3.0f, 4.0f}, across[2] = {4.0f, -3.0f};
    float turned[2] = {0.0f, 0.0f};
    llm_vector_norm_unit(u, length, edge, 1, 2, 5.0f); /* as long as eps is not below it */
    llm_vector_norm_unit_backward(turned, across, u, length, 1, 2, 5.0f);
    CHECK_NEAR(u[0], 0.6, 1e-7);
    CHECK_NEAR(turned[0], 0.8, 1e-6);
    llm_vector_norm_unit(zero, length, zero, 1, 2, 0.0f);
    CHECK(zero[0] == 0.0f && length[0] == 0.0f);
    float still[2] = {0.0f, 0.0f}, moved[2] = {0.0f, 0.0f};
    llm_vector_norm_unit_backward(still, across, zero, length, 1, 2, 0.0f);
    CHECK(still[0] == 0.0f && still[1] == 0.0f);
    const float unit[2] = {1.0f, 0.0f};
    length[0] = 1.0f;
    llm_vector_norm_unit_backward(moved, across, unit, length, 1, 2, 0.0f);
    CHECK(moved[0] == 0.0f && moved[1] == -3.0f);
}

TEST(vector_norm, "subgradient of L1: slopes of |x + t| bound it") {
    const float x[4] = {2.0f, -3.0f, 0.0f, NAN};
    float dx[4] = {1.0f, 1.0f, 1.0f, 1.0f};
    llm_vector_norm_l1_backward(dx, 0.5f, x, 4);
    CHECK(dx[0] == 1.5f && dx[1] == 0.5f && dx[2] == 1.0f && isnan(dx[3]));
    const float small[2] = {0.25f, -0.25f};
    llm_vector_norm_l1_backward(dx, 0.5f, small, 2);
    CHECK(dx[0] == 2.0f && dx[1] == 0.0f);
}

/* The value that the proximal map minimises. */
static double vector_norm_objective(const float *y, const float *a, size_t n, double lam, int p) {
    double sum = 0.0;
    for (size_t i = 0; i < n; i++)
        sum += 0.5 * ((double)y[i] - (double)a[i]) * ((double)y[i] - (double)a[i]);
    return sum + lam * (double)(p == 1 ? llm_vector_norm_l1(y, n) : llm_vector_norm_l2(y, n));
}

TEST(vector_norm, "both proximal maps beat a grid and random neighbours") {
    llm_rng rng = llm_rng_seed(2);
    for (int k = -40; k <= 40; k++) { /* one dimension: both are the soft threshold */
        const float a[1] = {0.1f * (float)k};
        float y[1], z[1], best = 0.0f;
        llm_vector_norm_prox_l1(y, a, 1, 1.0f);
        llm_vector_norm_prox_l2(z, a, 1, 1.0f);
        CHECK_NEAR(y[0], z[0], 1e-6);
        for (int g = -5000; g <= 5000; g++) {
            const float at[1] = {0.001f * (float)g};
            if (vector_norm_objective(at, a, 1, 1.0, 1) <
                vector_norm_objective(&best, a, 1, 1.0, 1))
                best = at[0];
        }
        CHECK_NEAR(y[0], best, 1.1e-3);
    }
    for (size_t round = 0; round < 40; round++) {
        const size_t n = 2 + round % 6;
        float *a = vector_norm_normal(&rng, n), y[2][8], z[8];
        const float lam = 0.2f + 0.05f * (float)round;
        llm_vector_norm_prox_l1(y[0], a, n, lam);
        llm_vector_norm_prox_l2(y[1], a, n, lam);
        for (int p = 1; p <= 2; p++) {
            const double value = vector_norm_objective(y[p - 1], a, n, (double)lam, p);
            for (int trial = 0; trial < 100; trial++) {
                const float step = trial % 2 ? 0.3f : 0.01f;
                for (size_t i = 0; i < n; i++) z[i] = y[p - 1][i] + step * llm_rng_normal(&rng);
                CHECK(vector_norm_objective(z, a, n, (double)lam, p) >= value - 1e-6);
            }
        }
    }
}

TEST(vector_norm, "L1 empties most of a Gaussian vector at lambda = 1, L2 nothing") {
    const size_t n = 10000;
    llm_rng rng = llm_rng_seed(3);
    float *a = vector_norm_normal(&rng, n), *y = floats(n);
    double zeros_1 = 0.0, zeros_2 = 0.0;
    llm_vector_norm_prox_l1(y, a, n, 1.0f);
    for (size_t i = 0; i < n; i++) zeros_1 += y[i] == 0.0f;
    llm_vector_norm_prox_l2(y, a, n, 1.0f);
    for (size_t i = 0; i < n; i++) zeros_2 += y[i] == 0.0f;
    CHECK_NEAR(zeros_1 / (double)n, erf(sqrt(0.5)), 0.02); /* 0.6827; a deviation is 0.005 */
    CHECK(zeros_2 == 0.0);
    llm_vector_norm_prox_l2(y, a, n, 101.5f); /* |a| is about 100: now everything, together */
    for (size_t i = 0; i < n; i++) CHECK(y[i] == 0.0f);
}

TEST(vector_norm, "projections: the threshold by bisection, nearer than random points, KKT") {
    const size_t ns[6] = {1, 2, 7, 20, 20, 9};
    const float radii[6] = {0.5f, 1.0f, 1.0f, 3.0f, 100.0f, 0.0f};
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 4096));
    llm_rng rng = llm_rng_seed(4);
    for (size_t k = 0; k < 6; k++) {
        const size_t n = ns[k];
        const float r = radii[k], *a = golden("ball%zur%g/a", n, (double)r);
        float y[20], z[20];
        llm_vector_norm_project_l1(y, a, n, r, &arena);
        CHECK_GOLDEN(y, n, 1e-6f, "ball%zur%g/y", n, (double)r);
        double nearest = 0.0;
        for (size_t i = 0; i < n; i++) nearest += pow((double)(y[i] - a[i]), 2.0);
        for (int trial = 0; trial < 10000; trial++) { /* other points of the ball */
            float size = 0.0f;
            double d = 0.0;
            for (size_t i = 0; i < n; i++)
                z[i] = y[i] + (trial % 2 ? 0.1f : 1.0f) * llm_rng_normal(&rng);
            for (size_t i = 0; i < n; i++) size += fabsf(z[i]);
            for (size_t i = 0; i < n; i++)
                d += pow((double)((size > r ? r / size : 1.0f) * z[i] - a[i]), 2.0);
            CHECK(d >= nearest - 1e-5);
        }
        /* KKT: a - y is theta sign(y) on the support, at most theta elsewhere; sum is the radius */
        if (llm_vector_norm_l1(a, n) <= r) continue;
        float theta = 0.0f;
        for (size_t i = 0; i < n; i++) theta = fmaxf(theta, fabsf(a[i] - y[i]));
        for (size_t i = 0; i < n; i++)
            if (y[i] != 0.0f) CHECK_NEAR(a[i] - y[i], copysignf(theta, y[i]), 1e-6);
        CHECK_NEAR(llm_vector_norm_l1(y, n), r, 2e-6);
    }
    float y[3];
    const float a[3] = {2.0f, -3.0f, 6.0f};
    llm_vector_norm_project_l2(y, a, 3, 3.5f);
    CHECK(y[0] == 1.0f && y[1] == -1.5f && y[2] == 3.0f);
    llm_vector_norm_project_l2(y, a, 3, 7.0f);
    CHECK(y[0] == 2.0f && y[1] == -3.0f && y[2] == 6.0f);
    llm_vector_norm_project_l2(y, a, 3, 0.0f);
    CHECK(y[0] == 0.0f && y[2] == 0.0f);
    CHECK(arena.used == 0);
    llm_arena_destroy(&arena);
}

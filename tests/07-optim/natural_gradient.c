/* @natural_gradient */
#include "../test.h"

#include "../../llm.h"
#include "../arena.h"

static double *ng_doubles(const float *x, size_t n) {
    double *d = doubles(n);
    for (size_t i = 0; i < n; i++) d[i] = (double)x[i];
    return d;
}
static float *ng_floats(const double *x, size_t n) {
    float *f = floats(n);
    for (size_t i = 0; i < n; i++) f[i] = (float)x[i];
    return f;
}

TEST(natural_gradient, "direct solves and conjugate gradients equal NumPy") {
    const size_t sizes[3] = {1, 4, 7};
    llm_arena arena = test_arena(1 << 18);
    for (size_t k = 0; k < 3; k++) {
        const size_t n = sizes[k];
        const double *F = ng_doubles(golden("solve%zu/F", n), n * n);
        const double *g = ng_doubles(golden("solve%zu/g", n), n);
        const double damping = (double)golden("solve%zu/damping", n)[0];
        double *x = doubles(n), *Fp = doubles(n), left = 1.0;
        CHECK(llm_natural_gradient_solve(x, F, g, n, damping, &arena) && arena.used == 0);
        CHECK_GOLDEN(ng_floats(x, n), n, 1e-5f, "solve%zu/x", n);
        llm_natural_gradient_cg c = llm_natural_gradient_begin(g, n, damping, &arena);
        for (size_t round = 0; round < 3 * n && left > 1e-12; round++) {
            for (size_t i = 0; i < n; i++) {
                Fp[i] = 0.0;
                for (size_t j = 0; j < n; j++) Fp[i] += F[i * n + j] * c.p[j];
            }
            left = llm_natural_gradient_advance(&c, Fp);
        }
        CHECK(left < 1e-8);
        CHECK_GOLDEN(ng_floats(c.x, n), n, 1e-5f, "solve%zu/x", n);
        arena.used = 0;
    }
    const double flat[4] = {0.0, 0.0, 0.0, 0.0}, g[2] = {3.0, 4.0};
    double x[2];
    CHECK(!llm_natural_gradient_solve(x, flat, g, 2, 0.0, &arena) && arena.used == 0);
    llm_natural_gradient_cg c = llm_natural_gradient_begin(g, 2, 0.0, &arena);
    CHECK(llm_natural_gradient_advance(&c, flat) == 0.0 && c.x[0] == 0.0 && c.x[1] == 0.0);
    const double two[2] = {2.0, 2.0}, Fp[2] = {2.0, 6.0}; /* F = diag(1, 3): a step of 1/2 */
    c = llm_natural_gradient_begin(two, 2, 0.0, &arena);
    CHECK_NEAR(llm_natural_gradient_advance(&c, Fp), 0.5, 1e-15); /* (1, -1) is left */
    c = llm_natural_gradient_begin(g, 2, 0.5, &arena); /* damping alone: a step of 1 / 0.5 */
    CHECK(llm_natural_gradient_advance(&c, flat) == 0.0);
    CHECK(c.x[0] == 6.0 && c.x[1] == 8.0);
    CHECK(llm_natural_gradient_trust(0.0, 1.0) == 0.0);
    CHECK(llm_natural_gradient_trust(8.0, 1.0) == 0.5);
}

TEST(natural_gradient, "Gauss-Newton, Levenberg and Marquardt equal NumPy") {
    llm_arena arena = test_arena(1 << 18);
    const double *J = ng_doubles(golden("squares/J"), 27), *r = ng_doubles(golden("squares/r"), 9);
    double x[3];
    CHECK(llm_natural_gradient_least_squares(x, r, J, 9, 3, 0.0, false, &arena));
    CHECK_GOLDEN(ng_floats(x, 3), 3, 1e-6f, "squares/gauss");
    CHECK(llm_natural_gradient_least_squares(x, r, J, 9, 3, (double)0.3f, false, &arena));
    CHECK_GOLDEN(ng_floats(x, 3), 3, 1e-6f, "squares/levenberg");
    CHECK(llm_natural_gradient_least_squares(x, r, J, 9, 3, (double)0.3f, true, &arena));
    CHECK_GOLDEN(ng_floats(x, 3), 3, 1e-6f, "squares/marquardt");
    CHECK(!llm_natural_gradient_least_squares(x, r, J, 2, 3, 0.0, false, &arena)); /* 2 rows */
    CHECK(arena.used == 0);
}

TEST(natural_gradient, "geodesics equal SciPy's boundary values, and their speed is constant") {
    const float *ends = golden("geodesic/ends"), *t = golden("geodesic/t");
    float path[5 * 5 * 2];
    for (size_t k = 0; k < 5; k++) {
        const double m0 = (double)ends[4 * k], s0 = (double)ends[4 * k + 1];
        const double m1 = (double)ends[4 * k + 2], s1 = (double)ends[4 * k + 3];
        const double all = llm_fisher_info_rao(m0, s0, m1, s1);
        double m, s;
        for (size_t i = 0; i < 5; i++) {
            llm_natural_gradient_geodesic(&m, &s, m0, s0, m1, s1, (double)t[i]);
            path[(k * 5 + i) * 2] = (float)m, path[(k * 5 + i) * 2 + 1] = (float)s;
            CHECK_NEAR(llm_fisher_info_rao(m0, s0, m, s), (double)t[i] * all, 1e-7 * all);
            CHECK_NEAR(llm_fisher_info_rao(m, s, m1, s1), (1.0 - (double)t[i]) * all, 1e-7 * all);
        }
    }
    CHECK_GOLDEN(path, 50, 2e-6f, "geodesic/path");
    double m, s, near_m, near_s; /* a little beside the vertical line */
    llm_natural_gradient_geodesic(&m, &s, 0.0, 1.0, 0.0, 2.0, 0.5);
    llm_natural_gradient_geodesic(&near_m, &near_s, 0.0, 1.0, 1e-5, 2.0, 0.5);
    CHECK_NEAR(s, sqrt(2.0), 1e-12);
    CHECK_NEAR(near_s, s, 1e-8);
    CHECK(near_m > 0.0 && near_m < 1e-5);
    llm_natural_gradient_geodesic(&m, &s, 1.0, 1.0, 1.0 + 1e-9, 2.0, 0.5); /* nearly on it */
    CHECK_NEAR(m - 1.0, 0.5e-9, 1e-13);
    llm_natural_gradient_geodesic(&m, &s, 1.5, 0.7, 1.5, 0.7, 0.3);
    CHECK(m == 1.5 && s == 0.7);
    CHECK_ASSERTS(llm_natural_gradient_geodesic(&m, &s, 0.0, 0.0, 1.0, 1.0, 0.5));
    CHECK_ASSERTS(llm_natural_gradient_geodesic(&m, &s, 0.0, 1.0, 1.0, 0.0, 0.5));
}

TEST(natural_gradient,
     "the simplex: exponentiated gradient is the logits' natural gradient; angles") {
    enum { N = 5 };
    llm_arena arena = test_arena(1 << 18);
    const float *p0 = golden("simplex/p"), *h = golden("simplex/g"), *q0 = golden("simplex/q");
    double *p = ng_doubles(p0, N), *g = ng_doubles(h, N), *q = ng_doubles(q0, N);
    double F[N * N], grad[N] = {0.0}, x[N], mean = 0.0;
    float angle[1];
    angle[0] = (float)llm_natural_gradient_angle(p, q, N);
    CHECK_GOLDEN(angle, 1, 1e-6f, "simplex/angle");
    for (size_t i = 0; i < N; i++) /* logits: F = diag p - p p', dL/dlogit = F g */
        for (size_t j = 0; j < N; j++) {
            F[i * N + j] = (i == j ? p[i] : 0.0) - p[i] * p[j];
            grad[i] += F[i * N + j] * g[j];
        }
    CHECK(llm_natural_gradient_solve(x, F, grad, N, 1e-9, &arena));
    for (size_t i = 0; i < N; i++) mean += (g[i] - x[i]) / N; /* all logits may shift */
    for (size_t i = 0; i < N; i++) CHECK_NEAR(x[i] + mean, g[i], 1e-5);
    llm_natural_gradient_simplex(p, g, N, 0.7);
    CHECK_GOLDEN(ng_floats(p, N), N, 1e-6f, "simplex/after");

    double apart[2][2] = {{1.0, 0.0}, {0.0, 1.0}}, huge[3] = {0.5, 0.0, 0.5};
    const double far[3] = {5000.0, -9000.0, 4999.0};
    double sure[2] = {0.5, 0.5};
    const double steep[2] = {-5000.0, 0.0}; /* e^5000 is no double */
    llm_natural_gradient_simplex(sure, steep, 2, 1.0);
    CHECK(sure[0] == 1.0 && sure[1] == 0.0);
    CHECK_NEAR(llm_natural_gradient_angle(apart[0], apart[1], 2), 3.14159265358979, 1e-12);
    CHECK(llm_natural_gradient_angle(apart[0], apart[0], 2) == 0.0);
    llm_natural_gradient_simplex(huge, far, 3, 1.0);
    CHECK_NEAR(huge[2], 1.0 / (1.0 + exp(-1.0)), 1e-12);
    CHECK(huge[1] == 0.0);
    const double near[2] = {0.5 + 1e-9, 0.5 - 1e-9}, half[2] = {0.5, 0.5}; /* F = 1/p: 2e-9 */
    CHECK_NEAR(llm_natural_gradient_angle(near, half, 2), 2e-9, 1e-15);
}

TEST(natural_gradient, "sigma or log sigma: steps differ by O(lr^2), gradients' by O(lr)") {
    const double m = 0.5, s = 2.0, mean = 3.0, square = 20.0; /* the data's first moments */
    llm_arena arena = test_arena(1 << 18);
    double plain[2], natural[2];
    for (int k = 0; k < 2; k++) {
        const double lr = k ? 0.005 : 0.01;
        const double dm = (m - mean) / (s * s);
        const double ds = 1.0 / s - (square - 2.0 * m * mean + m * m) / (s * s * s);
        const double F[4] = {1.0 / (s * s), 0.0, 0.0, 2.0 / (s * s)}, J[4] = {1.0, 0.0, 0.0, s};
        const double g[2] = {dm, ds}, g_log[2] = {dm, ds * s};
        double F_log[4], x[2], x_log[2];
        llm_fisher_info_transform(F_log, F, J, 2, 2);
        CHECK(llm_natural_gradient_solve(x, F, g, 2, 0.0, &arena));
        CHECK(llm_natural_gradient_solve(x_log, F_log, g_log, 2, 0.0, &arena));
        CHECK_NEAR(x[0], x_log[0], 1e-12);
        natural[k] = fabs((s - lr * x[1]) - s * exp(-lr * x_log[1]));
        plain[k] = fabs((s - lr * g[1]) - s * exp(-lr * g_log[1]));
        CHECK_NEAR(plain[k], 3.0 * lr * fabs(ds), 0.1 * plain[k]); /* s^2 - 1 = 3 times the slope */
    }
    CHECK(natural[0] < 0.02 * plain[0]);
    CHECK_NEAR(natural[0] / natural[1], 4.0, 0.1);
    CHECK_NEAR(plain[0] / plain[1], 2.0, 0.1);
}

TEST(natural_gradient,
     "in mean coordinates one step of rate 1 is the maximum likelihood estimate") {
    llm_arena arena = test_arena(1 << 18);
    const double mu[3] = {0.3, 2.5, -1.0}, statistic[3] = {0.8, 4.0, 2.0};
    const double variance[3] = {0.3 * 0.7, 2.5, 4.0}; /* Bernoulli, Poisson, normal */
    for (size_t k = 0; k < 3; k++) {
        const double F = 1.0 / variance[k], g = (mu[k] - statistic[k]) / variance[k];
        double x;
        CHECK(llm_natural_gradient_solve(&x, &F, &g, 1, 0.0, &arena));
        CHECK_NEAR(mu[k] - x, statistic[k], 1e-12);
    }
}

enum { LR_N = 60, LR_D = 3 };
static void ng_task(float *x, int *label, size_t K, llm_rng *rng) {
    llm_rng_normal_fill(rng, x, LR_N * LR_D);
    for (size_t n = 0; n < LR_N; n++) {
        x[n * LR_D] = 1.0f;
        label[n] = x[n * LR_D + 1] + llm_rng_normal(rng) > 0.0f ? 1 : 0;
        if (K > 2 && x[n * LR_D + 2] > 0.5f) label[n] = 2;
    }
}

TEST(natural_gradient, "logistic regression: a step is a step of IRLS") {
    llm_rng rng = llm_rng_seed(1);
    llm_arena arena = test_arena(1 << 18);
    float x[LR_N * LR_D], W[2 * LR_D], p[LR_N * 2];
    int label[LR_N];
    double w[LR_D] = {0.0, 0.0, 0.0};
    ng_task(x, label, 2, &rng);
    memset(W, 0, sizeof W);
    for (size_t step = 0; step < 4; step++) {
        double F[LR_D * LR_D] = {0.0}, g[LR_D] = {0.0}, u[LR_D];
        for (size_t n = 0; n < LR_N; n++) { /* weighted least squares, written out */
            double z = 0.0;
            for (size_t d = 0; d < LR_D; d++) z += w[d] * (double)x[n * LR_D + d];
            const double q = 1.0 / (1.0 + exp(-z));
            for (size_t d = 0; d < LR_D; d++) {
                g[d] += (q - label[n]) * (double)x[n * LR_D + d];
                for (size_t e = 0; e < LR_D; e++)
                    F[d * LR_D + e] +=
                        q * (1.0 - q) * (double)x[n * LR_D + d] * (double)x[n * LR_D + e];
            }
        }
        CHECK(llm_natural_gradient_solve(u, F, g, LR_D, 0.0, &arena));
        for (size_t d = 0; d < LR_D; d++) w[d] -= u[d];

        llm_matmul_forward(p, x, W, NULL, LR_N, LR_D, 2);
        llm_softmax_forward(p, p, LR_N, 2, 1.0f);
        llm_natural_gradient_softmax(W, p, x, label, LR_N, 2, LR_D, 1.0, 0.0, 0.0, 1e-12, 50,
                                     &arena);
        CHECK(arena.used == 0);
        for (size_t d = 0; d < LR_D; d++) CHECK_NEAR(W[LR_D + d] - W[d], w[d], 1e-5);
    }
}

TEST(natural_gradient, "a step of the trust region moves the distribution by the KL it was given") {
    enum { K = 3 };
    llm_rng rng = llm_rng_seed(2);
    llm_arena arena = test_arena(1 << 18);
    float x[LR_N * LR_D], W[K * LR_D], p[LR_N * K], q[LR_N * K];
    int label[LR_N];
    ng_task(x, label, K, &rng);
    for (size_t trial = 0; trial < 5; trial++) {
        const double delta = 1e-3;
        double kl = 0.0;
        llm_rng_normal_fill(&rng, W, K * LR_D);
        llm_matmul_forward(p, x, W, NULL, LR_N, LR_D, K);
        llm_softmax_forward(p, p, LR_N, K, 1.0f);
        const double expected = llm_natural_gradient_softmax(W, p, x, label, LR_N, K, LR_D, 1e9,
                                                             delta, 1e-4, 1e-3, 30, &arena);
        CHECK_NEAR(expected, delta, 1e-9);
        llm_matmul_forward(q, x, W, NULL, LR_N, LR_D, K);
        llm_softmax_forward(q, q, LR_N, K, 1.0f);
        for (size_t i = 0; i < LR_N * K; i++)
            kl += (double)p[i] * log((double)p[i] / (double)q[i]) / LR_N;
        CHECK_NEAR(kl, delta, 0.1 * delta);
    }
    /* few rounds and a small rate stay within the region */
    llm_matmul_forward(p, x, W, NULL, LR_N, LR_D, K);
    llm_softmax_forward(p, p, LR_N, K, 1.0f);
    float before[K * LR_D];
    memcpy(before, W, sizeof W);
    CHECK(llm_natural_gradient_softmax(W, p, x, label, LR_N, K, LR_D, 1e-3, 1.0, 0.1, 0.5, 1,
                                       &arena) < 1e-4);
    CHECK(W[0] != before[0]);
    memcpy(before, W, sizeof W);
    CHECK(llm_natural_gradient_softmax(W, p, x, label, LR_N, K, LR_D, 1.0, 1.0, 0.1, 0.5, 0,
                                       &arena) == 0.0);
    CHECK_ALL_NEAR(W, before, K * LR_D, 0.0f);
}

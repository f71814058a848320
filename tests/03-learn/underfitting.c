/* @underfitting */
#include "../test.h"

#include "../../llm.h"

static const float *uf_floats(const double *x, size_t n) {
    float *y = floats(n);
    for (size_t i = 0; i < n; i++) y[i] = (float)x[i];
    return y;
}

TEST(underfitting, "quadrature nodes equal NumPy's, and integrate every power exactly") {
    const size_t sizes[4] = {1, 2, 5, 20};
    for (size_t s = 0; s < 4; s++) {
        const size_t n = sizes[s];
        double x[20], w[20];
        llm_underfitting_nodes(x, w, n);
        CHECK_GOLDEN(uf_floats(x, n), n, 1e-7f, "gauss%zu/x", n);
        CHECK_GOLDEN(uf_floats(w, n), n, 1e-7f, "gauss%zu/w", n);
        for (size_t power = 0; power < 2 * n; power++) {
            double mean = 0.0;
            for (size_t i = 0; i < n; i++) mean += w[i] * pow(x[i], (double)power);
            CHECK_NEAR(mean, power % 2 ? 0.0 : 1.0 / (double)(power + 1), 1e-14);
        }
    }
}

TEST(underfitting, "a line leaves 4/45 of x^2, a parabola nothing; Parseval ties the rest") {
    double x[20], w[20], f[20], floor[11], c[11], whole = 0.0, sum = 0.0;
    llm_underfitting_nodes(x, w, 20);
    for (size_t i = 0; i < 20; i++) f[i] = x[i] * x[i];
    memset(c, 0xff, sizeof c); /* NaN: all that is returned is written */
    llm_underfitting_floor(floor, c, f, x, w, 20, 4);
    CHECK_NEAR(c[4], 0.0, 1e-14);
    CHECK_NEAR(floor[0], 4.0 / 45.0, 1e-14); /* 1/5 - (1/3)^2; the slope of a line does not help */
    CHECK_NEAR(floor[1], 4.0 / 45.0, 1e-14);
    CHECK_NEAR(floor[2], 0.0, 1e-14);
    CHECK_NEAR(floor[4], 0.0, 1e-14);
    CHECK_NEAR(c[0], 1.0 / 3.0, 1e-14);
    CHECK_NEAR(c[2], 2.0 / 15.0 * sqrt(5.0), 1e-14);
    llm_underfitting_floor(floor, c, f, x, w, 20, 2); /* the last degree counts */
    CHECK_NEAR(floor[2], 0.0, 1e-14);

    for (size_t i = 0; i < 20; i++) f[i] = exp(x[i]), whole += w[i] * f[i] * f[i];
    CHECK_NEAR(whole, sinh(2.0) / 2.0, 1e-13);
    llm_underfitting_floor(floor, c, f, x, w, 20, 10);
    for (size_t k = 0; k <= 10; k++) {
        sum += c[k] * c[k];
        CHECK_NEAR(floor[k] + sum, whole, 1e-13);
        CHECK(k == 0 || floor[k] <= floor[k - 1]);
    }
    CHECK(floor[1] > 0.01 && floor[10] < 1e-13);
}

TEST(underfitting, "100 times the data do not move the floor of a line, a parabola does") {
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 1 << 24));
    double risk[2], test[3];
    llm_rng rng = llm_rng_seed(1);
    const size_t m = 2000;
    float *xt = floats(m), *yt = floats(m);
    for (size_t i = 0; i < m; i++) { /* an even grid, no noise */
        xt[i] = -1.0f + (2.0f * (float)i + 1.0f) / (float)m;
        yt[i] = xt[i] * xt[i];
    }
    for (size_t k = 0; k < 2; k++) {
        const size_t n = k ? 40000 : 400;
        float *x = floats(n), *y = floats(n);
        double train[3];
        for (size_t i = 0; i < n; i++) {
            x[i] = 2.0f * llm_rng_uniform(&rng) - 1.0f;
            y[i] = x[i] * x[i] + 0.1f * llm_rng_normal(&rng);
        }
        CHECK(llm_overfitting_poly(train, test, x, y, n, xt, yt, m, 2, &arena));
        risk[k] = test[1];
        CHECK(test[2] < 1e-3);
    }
    CHECK_NEAR(risk[0], 4.0 / 45.0, 0.02 * 4.0 / 45.0);
    CHECK_NEAR(risk[1], risk[0], 0.02 * risk[0]);
    llm_arena_destroy(&arena);
}

TEST(underfitting,
     "the tail of F equals SciPy's; lack of fit finds the line and passes the parabola") {
    const int pairs[6][2] = {{1, 1}, {2, 7}, {5, 3}, {10, 40}, {1, 200}, {30, 2}};
    for (size_t k = 0; k < 6; k++) {
        const float *f = golden("f%d_%d/f", pairs[k][0], pairs[k][1]);
        float p[8];
        for (size_t i = 0; i < 8; i++)
            p[i] = (float)llm_underfitting_f_tail((double)f[i], pairs[k][0], pairs[k][1]);
        CHECK_ALL_CLOSE(p, golden("f%d_%d/p", pairs[k][0], pairs[k][1]), 8, 2e-6f);
    }
    CHECK(llm_underfitting_f_tail(0.0, 2, 3) == 1.0 &&
          isnan(llm_underfitting_f_tail((double)NAN, 2, 3)));
    CHECK(llm_underfitting_f_tail(-1.0, 2, 3) == 1.0);

    size_t group[30];
    double mean[6], F, p[3];
    for (size_t i = 0; i < 30; i++) group[i] = i / 5;
    for (size_t d = 1; d <= 2; d++) {
        const float *y = golden("lack%zu/y", d), *fit = golden("lack%zu/fit", d);
        p[d] = llm_underfitting_lack(&F, y, fit, group, mean, 30, 6, d + 1);
        const float got[2] = {(float)F, (float)p[d]};
        CHECK_GOLDEN(got, 1, 1e-5f, "lack%zu/F", d);
        CHECK_ALL_CLOSE(got + 1, golden("lack%zu/p", d), 1, 1e-4f);
    }
    CHECK(p[1] < 0.001 && p[2] > 0.05);
    CHECK_ASSERTS(
        llm_underfitting_lack(&F, golden("lack1/y"), golden("lack1/fit"), group, mean, 30, 6, 6));
    CHECK_ASSERTS(
        llm_underfitting_lack(&F, golden("lack1/y"), golden("lack1/fit"), group, mean, 6, 6, 2));
}

/* Gradient descent on polynomials: errors over T steps. degree, samples and steps decide what ails
 * it; the truth is a cubic with noise 0.05. */
static int uf_run(size_t degree, size_t n, size_t T, float lr, uint64_t seed) {
    enum { m = 500, MOST = 16 };
    llm_rng rng = llm_rng_seed(seed);
    float *x = floats(n), *y = floats(n), xt[m], yt[m], *phi = floats(n * (degree + 1)),
          phit[m * MOST];
    float *train = floats(T), *test = floats(T);
    double w[MOST] = {0.0};
    for (size_t i = 0; i < n + m; i++) {
        const float at = 2.0f * llm_rng_uniform(&rng) - 1.0f;
        const float value = 4.0f * at * at * at - 2.0f * at + 0.224f * llm_rng_normal(&rng);
        if (i < n)
            x[i] = at, y[i] = value;
        else
            xt[i - n] = at, yt[i - n] = value;
    }
    llm_overfitting_legendre(phi, x, n, degree);
    llm_overfitting_legendre(phit, xt, m, degree);
    for (size_t t = 0; t < T; t++) {
        for (size_t inner = 0; inner < 10; inner++) {
            double g[MOST] = {0.0};
            for (size_t i = 0; i < n; i++) {
                double off = -(double)y[i];
                for (size_t k = 0; k <= degree; k++)
                    off += w[k] * (double)phi[i * (degree + 1) + k];
                for (size_t k = 0; k <= degree; k++)
                    g[k] += 2.0 * off * (double)phi[i * (degree + 1) + k] / (double)n;
            }
            for (size_t k = 0; k <= degree; k++) w[k] -= (double)lr * g[k];
        }
        train[t] = (float)llm_generalization_risk(w, phi, y, n, degree + 1);
        test[t] = (float)llm_generalization_risk(w, phit, yt, m, degree + 1);
    }
    return llm_underfitting_diagnose(train, test, T, 0.05f);
}

TEST(underfitting, "the diagnosis is right on 40 runs, ten of each kind") {
    size_t right[4] = {0};
    for (uint64_t seed = 1; seed <= 10; seed++) {
        right[0] += uf_run(3, 300, 200, 0.3f, seed) == LLM_UNDERFITTING_NONE;
        right[1] += uf_run(1, 300, 200, 0.3f, seed) == LLM_UNDERFITTING_CAPACITY;
        right[2] += uf_run(3, 300, 20, 0.006f, seed) == LLM_UNDERFITTING_TRAINING;
        right[3] += uf_run(12, 14, 1500, 0.3f, seed) == LLM_UNDERFITTING_DATA;
    }
    for (size_t k = 0; k < 4; k++) CHECK(right[k] >= 9); /* 10 of each */
    const float flat[4] = {1, 1, 1, 1}, rising[4] = {1, 1, 1, 2};
    CHECK(llm_underfitting_diagnose(flat, flat, 4, 0.9f) == LLM_UNDERFITTING_NONE);
    CHECK(llm_underfitting_diagnose(flat, flat, 4, 0.5f) == LLM_UNDERFITTING_CAPACITY);
    CHECK(llm_underfitting_diagnose(flat, rising, 4, 0.9f) == LLM_UNDERFITTING_DATA);
    const float falling[4] = {9, 9, 2, 1}; /* the third of four is three quarters of the way */
    CHECK(llm_underfitting_diagnose(falling, falling, 4, 0.8f) == LLM_UNDERFITTING_TRAINING);
    CHECK(llm_underfitting_diagnose(falling, falling, 4, 0.9f) == LLM_UNDERFITTING_NONE);
    const float settled[4] = {9, 9, 1, 1}, slow[4] = {2, 2, 1.075f, 1};
    CHECK(llm_underfitting_diagnose(settled, settled, 4, 0.5f) == LLM_UNDERFITTING_CAPACITY);
    CHECK(llm_underfitting_diagnose(slow, slow, 4, 0.5f) == LLM_UNDERFITTING_TRAINING); /* 7% */
    /* just on a bound is not beyond it */
    const float edge[4] = {9, 9, 2, 1.2f}, high[4] = {1.5f, 1.5f, 1.5f, 1.5f};
    CHECK(llm_underfitting_diagnose(edge, edge, 4, 1.0f) == LLM_UNDERFITTING_NONE);
    CHECK(llm_underfitting_diagnose(flat, rising, 4, 1.0f) == LLM_UNDERFITTING_NONE);
    CHECK(llm_underfitting_diagnose(high, high, 4, 1.0f) == LLM_UNDERFITTING_NONE);
    CHECK_ASSERTS(llm_underfitting_diagnose(flat, flat, 3, 0.9f));
}

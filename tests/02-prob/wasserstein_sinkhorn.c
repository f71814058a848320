/* @wasserstein_sinkhorn */
#include "../test.h"

#include "../../llm.h"
#include "../arena.h"

static llm_wasserstein_measure sk_measure(const float *x, const float *mass, size_t n) {
    llm_wasserstein_measure m;
    m.x = x, m.mass = mass, m.n = n;
    return m;
}
static double *sk_zeros(size_t n) {
    double *x = doubles(n);
    for (size_t i = 0; i < n; i++) x[i] = 0.0;
    return x;
}
static double sk_divergence(const llm_wasserstein_measure *a, const llm_wasserstein_measure *b,
                            size_t d, double eps) {
    llm_arena arena = test_arena(1 << 19);
    llm_error e;
    double value = (double)NAN;
    CHECK(llm_wasserstein_sinkhorn_divergence(&value, NULL, a, b, d, eps, &arena, &e));
    CHECK(arena.used == 0);
    return value;
}

TEST(wasserstein_sinkhorn, "plans, costs, values and divergences equal POT's") {
    const size_t shapes[5][3] = {{1, 1, 1}, {2, 3, 1}, {5, 5, 2}, {7, 4, 3}, {9, 11, 2}};
    llm_arena arena = test_arena(1 << 19);
    llm_error e;
    for (size_t s = 0; s < 5; s++) {
        const size_t n = shapes[s][0], m = shapes[s][1], d = shapes[s][2];
        const llm_wasserstein_measure a =
            sk_measure(golden("%zux%zu/x", n, m), golden("%zux%zu/a", n, m), n);
        const llm_wasserstein_measure b =
            sk_measure(golden("%zux%zu/y", n, m), golden("%zux%zu/b", n, m), m);
        const double eps = (double)golden("%zux%zu/eps", n, m)[0];
        double *cost = doubles(n * m), *f = sk_zeros(n), *g = doubles(m), *plan = doubles(n * m),
               value = 0.0;
        float *got = floats(n * m), values[3];
        size_t rounds = 100000;
        llm_wasserstein_cost(cost, &a, &b, d, 2.0);
        CHECK(llm_wasserstein_sinkhorn(f, g, &rounds, cost, &a, &b, eps, 1e-12, &arena, &e) &&
              arena.used == 0);
        CHECK(rounds > 0 && rounds < 20000);
        values[0] = (float)llm_wasserstein_sinkhorn_plan(plan, f, g, cost, &a, &b, eps);
        CHECK((float)llm_wasserstein_sinkhorn_plan(NULL, f, g, cost, &a, &b, eps) == values[0]);
        for (size_t i = 0; i < n * m; i++) got[i] = (float)plan[i];
        CHECK_GOLDEN(got, n * m, 1e-7f, "%zux%zu/plan", n, m);
        CHECK(llm_wasserstein_sinkhorn_term(&value, NULL, 1.0, &a, &b, d, eps, &arena, &e));
        values[1] = (float)value;
        values[2] = (float)sk_divergence(&a, &b, d, eps);
        CHECK_GOLDEN(values, 3, 1e-6f, "%zux%zu/values", n, m);
    }
}

TEST(wasserstein_sinkhorn,
     "columns exact, rows within tol; as eps falls the cost falls to the exact one") {
    enum { n = 30, m = 25, d = 2 };
    llm_rng rng = llm_rng_seed(1);
    llm_arena arena = test_arena(1 << 19);
    llm_error e;
    float x[n * d], y[m * d];
    double cost[n * m], plan[n * m], u[n], v[m], g[m], exact, mean = 0.0, before = HUGE_VAL;
    double *f = sk_zeros(n);
    llm_rng_normal_fill(&rng, x, n * d);
    llm_rng_normal_fill(&rng, y, m * d);
    const llm_wasserstein_measure a = sk_measure(x, NULL, n), b = sk_measure(y, NULL, m);
    llm_wasserstein_cost(cost, &a, &b, d, 2.0);
    for (size_t i = 0; i < n * m; i++) mean += cost[i] / (n * m);
    CHECK(llm_wasserstein_exact(&exact, plan, u, v, cost, &a, &b, &arena, &e));
    size_t warm = 0;
    for (double share = 1.28; share > 0.009; share *= 0.5) { /* 1.28 to 0.01 of the mean cost */
        size_t rounds = 100000;
        CHECK(
            llm_wasserstein_sinkhorn(f, g, &rounds, cost, &a, &b, share * mean, 1e-5, &arena, &e));
        const double got = llm_wasserstein_sinkhorn_plan(plan, f, g, cost, &a, &b, share * mean);
        double off = 0.0;
        for (size_t i = 0; i < n; i++) {
            double sum = -1.0 / n;
            for (size_t j = 0; j < m; j++) sum += plan[i * m + j];
            off += fabs(sum);
        }
        CHECK(off < 1.0001e-5);
        for (size_t j = 0; j < m; j++) {
            double sum = -1.0 / m;
            for (size_t i = 0; i < n; i++) sum += plan[i * m + j];
            CHECK_NEAR(sum, 0.0, 1e-15);
        }
        CHECK(got < before && got > exact - 1e-4 * mean);
        before = got;
        warm = rounds;
    }
    CHECK(before < 1.03 * exact); /* eight other seeds: 1.005 to 1.015 */
    size_t cold = 100000;
    f = sk_zeros(n);
    CHECK(llm_wasserstein_sinkhorn(f, g, &cold, cost, &a, &b, 0.01 * mean, 1e-5, &arena, &e));
    CHECK(cold > warm); /* starting from the potentials of a larger eps pays */

    size_t few = 3; /* and with too few rounds it says so, and f and g are the last ones */
    f = sk_zeros(n);
    CHECK_FAILS(llm_wasserstein_sinkhorn(f, g, &few, cost, &a, &b, 0.01 * mean, 1e-5, &arena, &e),
                e, "wasserstein: marginals off by 0.");
    CHECK(few == 3 && strstr(e.message, "after 3 rounds") && f[0] != 0.0 && arena.used == 0);
}

TEST(wasserstein_sinkhorn,
     "e^(-C/eps) may underflow by thousands of decades: two points, by hand") {
    const float x[2] = {0.0f, 3.0f}, y[2] = {1.0f, 2.0f}, mass[2] = {0.25f, 0.75f};
    llm_arena arena = test_arena(1 << 19);
    llm_error e;
    double cost[4], plan[4], *f = sk_zeros(2), g[2];
    const llm_wasserstein_measure a = sk_measure(x, mass, 2), b = sk_measure(y, mass, 2);
    llm_wasserstein_cost(cost, &a, &b, 1, 2.0);
    size_t rounds = 1000;
    CHECK(llm_wasserstein_sinkhorn(f, g, &rounds, cost, &a, &b, 1e-4, 1e-12, &arena, &e));
    CHECK_NEAR(llm_wasserstein_sinkhorn_plan(plan, f, g, cost, &a, &b, 1e-4), 1.0, 1e-10);
    CHECK_NEAR(plan[0], 0.25, 1e-10);
    CHECK(plan[1] < 1e-300 && plan[2] < 1e-300);
    /* eps so large that a plan is a b': nothing is to be gained */
    f = sk_zeros(2);
    CHECK(llm_wasserstein_sinkhorn(f, g, &rounds, cost, &a, &b, 1e9, 1e-12, &arena, &e));
    llm_wasserstein_sinkhorn_plan(plan, f, g, cost, &a, &b, 1e9);
    for (size_t i = 0; i < 4; i++)
        CHECK_NEAR(plan[i], (i < 2 ? 0.25 : 0.75) * (i % 2 ? 0.75 : 0.25), 1e-8);
}

TEST(wasserstein_sinkhorn, "a mass of 0 is not there, and its potential is where it would pay") {
    const float x[3] = {0.0f, 5.0f, 1.0f}, mass[3] = {0.5f, 0.0f, 0.5f}, less[2] = {0.0f, 1.0f};
    const llm_wasserstein_measure a = sk_measure(x, mass, 3), b = sk_measure(less, NULL, 2);
    const llm_wasserstein_measure same = sk_measure(less, NULL, 2);
    llm_arena arena = test_arena(1 << 19);
    llm_error e;
    double cost[6], plan[6], *f = sk_zeros(3), g[2];
    size_t rounds = 10000;
    CHECK_NEAR(sk_divergence(&a, &b, 1, 0.3), 0.0, 1e-9);
    CHECK_NEAR(sk_divergence(&b, &a, 1, 0.3), sk_divergence(&b, &same, 1, 0.3), 1e-9);
    llm_wasserstein_cost(cost, &a, &b, 1, 2.0);
    CHECK(llm_wasserstein_sinkhorn(f, g, &rounds, cost, &a, &b, 0.3, 1e-12, &arena, &e));
    llm_wasserstein_sinkhorn_plan(plan, f, g, cost, &a, &b, 0.3);
    CHECK(plan[2] == 0.0 && plan[3] == 0.0 && isfinite(f[1]));

    const float never[2] = {0.0f, 1.0f}, far[2] = {0.0f, 100.0f}, first[2] = {1.0f, 0.0f};
    const double ways[2] = {0.0, 25.0}, zero[2] = {0.0, 0.0};
    const llm_wasserstein_measure c = sk_measure(NULL, never, 2);
    llm_wasserstein_sinkhorn_half(f, zero, &c, 1.0, ways, 2, 1, 1, 0.01);
    CHECK(f[0] == 25.0); /* however near a mass of 0 is */
    const llm_wasserstein_measure p = sk_measure(far, first, 2), q = sk_measure(far, first, 2);
    f[0] = f[1] = 0.0;
    llm_wasserstein_cost(cost, &p, &q, 1, 2.0);
    CHECK(llm_wasserstein_sinkhorn(f, g, &rounds, cost, &p, &q, 0.1, 1e-12, &arena, &e));
    CHECK(llm_wasserstein_sinkhorn_plan(plan, f, g, cost, &p, &q, 0.1) == 0.0 && plan[0] == 1.0);
}

TEST(wasserstein_sinkhorn,
     "the divergence: 0 at a = b, never negative, W_2^2 for small eps, means for large") {
    llm_rng rng = llm_rng_seed(2);
    for (size_t round = 0; round < 20; round++) {
        const size_t n = 1 + llm_rng_below(&rng, 8), m = 1 + llm_rng_below(&rng, 8),
                     d = 1 + round % 3;
        float *x = floats(n * d), *y = floats(m * d), *z = floats(n * d);
        llm_rng_normal_fill(&rng, x, n * d);
        llm_rng_normal_fill(&rng, y, m * d);
        memcpy(z, x, n * d * sizeof(float));
        const llm_wasserstein_measure a = sk_measure(x, NULL, n), b = sk_measure(y, NULL, m),
                                      c = sk_measure(z, NULL, n);
        const double eps = pow(10.0, -(double)(round % 4)); /* 1 to 0.001 */
        CHECK_NEAR(sk_divergence(&a, &c, d, fmax(eps, 0.1)), 0.0, 1e-7);
        CHECK(sk_divergence(&a, &b, d, fmax(eps, 0.1)) > -1e-8);
        double apart = 0.0;
        for (size_t k = 0; k < d; k++) {
            double shift = 0.0;
            for (size_t i = 0; i < n; i++) shift += (double)x[i * d + k] / (double)n;
            for (size_t j = 0; j < m; j++) shift -= (double)y[j * d + k] / (double)m;
            apart += shift * shift;
        }
        CHECK_NEAR(sk_divergence(&a, &b, d, 1e5), apart, 1e-3 * (1.0 + apart));
        /* points a step of 2 apart, moved by 0.3: no other pairing is near, and S is W_2^2 */
        for (size_t i = 0; i < n * d; i++) x[i] = (float)(2 * (i / d)), z[i] = x[i] + 0.3f;
        CHECK_NEAR(sk_divergence(&a, &c, d, 0.01), 0.09 * (double)d, 1e-6);
    }
}

TEST(wasserstein_sinkhorn,
     "gradient in the points; OT_eps alone makes points shrink, the divergence not") {
    enum { n = 5, m = 4, d = 2 };
    llm_rng rng = llm_rng_seed(3);
    llm_arena arena = test_arena(1 << 19);
    llm_error e;
    float x[n * d], y[m * d], *dx = zeros(n * d), *again = zeros(n * d);
    const float mass[n] = {0.1f, 0.2f, 0.3f, 0.15f, 0.25f};
    llm_rng_normal_fill(&rng, x, n * d);
    llm_rng_normal_fill(&rng, y, m * d);
    const llm_wasserstein_measure a = sk_measure(x, mass, n), b = sk_measure(y, NULL, m);
    double value;
    for (int k = 0; k < 2; k++)
        CHECK(llm_wasserstein_sinkhorn_divergence(&value, k ? again : dx, &a, &b, d, 0.5, &arena,
                                                  &e));
    CHECK_GRAD(dx, x, n * d, 1e-3f, 1e-4f, sk_divergence(&a, &b, d, 0.5));
    CHECK(llm_wasserstein_sinkhorn_divergence(&value, again, &a, &b, d, 0.5, &arena, &e)); /* += */
    for (size_t i = 0; i < n * d; i++) CHECK_NEAR(again[i], 2.0f * dx[i], 1e-6);

    float z[n * d], *alone = zeros(n * d), *both = zeros(n * d);
    memcpy(z, x, sizeof z);
    const llm_wasserstein_measure same = sk_measure(z, mass, n);
    CHECK(llm_wasserstein_sinkhorn_term(&value, alone, 1.0, &a, &same, d, 0.5, &arena, &e));
    CHECK(llm_wasserstein_sinkhorn_divergence(&value, both, &a, &same, d, 0.5, &arena, &e));
    double towards = 0.0, mean[d] = {0, 0};
    for (size_t i = 0; i < n * d; i++) mean[i % d] += (double)mass[i / d] * (double)x[i];
    for (size_t i = 0; i < n * d; i++) {
        CHECK_NEAR(both[i], 0.0f, 1e-6);
        towards += (double)alone[i] * ((double)x[i] - mean[i % d]);
    }
    CHECK(towards > 0.1); /* against the gradient is towards the mean */
}

TEST(wasserstein_sinkhorn, "bad masses, points and costs are refused, eps must be positive") {
    const float x[2] = {0.0f, 1.0f}, bad[2] = {0.0f, NAN}, more[2] = {1.0f, 1.0f};
    const llm_wasserstein_measure a = sk_measure(x, NULL, 2), b = sk_measure(bad, NULL, 2),
                                  c = sk_measure(x, more, 2);
    llm_arena arena = test_arena(1 << 19);
    llm_error e;
    double value, cost[4] = {0, 1, (double)NAN, 0}, f[2] = {0, 0}, g[2];
    size_t rounds = 10;
    CHECK_FAILS(llm_wasserstein_sinkhorn_divergence(&value, NULL, &a, &b, 1, 1.0, &arena, &e), e,
                "point 1 is not finite");
    CHECK_FAILS(llm_wasserstein_sinkhorn_divergence(&value, NULL, &a, &c, 1, 1.0, &arena, &e), e,
                "masses 1 and 2");
    CHECK_FAILS(llm_wasserstein_sinkhorn(f, g, &rounds, cost, &a, &a, 1.0, 1e-6, &arena, &e), e,
                "the cost from 1 to 0 is not finite");
    CHECK_FAILS(llm_wasserstein_sinkhorn(f, g, &rounds, cost, &a, &c, 1.0, 1e-6, &arena, &e), e,
                "masses 1 and 2");
    CHECK(isnan(llm_wasserstein_sinkhorn_plan(NULL, f, g, cost, &a, &c, 1.0)) && arena.used == 0);
    cost[2] = 1.0;
    CHECK(isnan(llm_wasserstein_sinkhorn_plan(NULL, f, g, cost, &a, &c, 1.0)));
    CHECK_ASSERTS(llm_wasserstein_sinkhorn_divergence(&value, NULL, &a, &a, 1, 0.0, &arena, &e));
    const llm_wasserstein_measure p = sk_measure(NULL, NULL, 2), q = sk_measure(NULL, NULL, 2);
    rounds = 1, f[0] = f[1] = 0.0; /* points are not read; one round may be enough */
    CHECK(llm_wasserstein_sinkhorn(f, g, &rounds, cost, &p, &q, 1.0, 10.0, &arena, &e));
    CHECK(rounds == 1 && isfinite(llm_wasserstein_sinkhorn_plan(NULL, f, g, cost, &p, &q, 1.0)));
}

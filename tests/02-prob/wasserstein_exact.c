/* @wasserstein_exact */
#include "../test.h"

#include "../../llm.h"

static llm_arena we_arena(void) {
    llm_arena arena;
    memset(&arena, 0, sizeof arena);
    arena.size = 1 << 20;
    arena.memory = (unsigned char *)test_memory(arena.size, 1);
    return arena;
}
static double *we_doubles(const float *x, size_t n) {
    double *d = doubles(n);
    for (size_t i = 0; i < n; i++) d[i] = (double)x[i];
    return d;
}
static llm_wasserstein_measure we_masses(const float *mass, size_t n) {
    llm_wasserstein_measure m;
    m.x = NULL, m.mass = mass, m.n = n;
    return m;
}

/* Solves, and holds the answer against its own proof: the plan is one, the prices undercut nothing,
 * and both sides of the program have the same value. */
static double we_solve(double *plan, const double *cost, const float *a, const float *b, size_t n,
                       size_t m) {
    llm_arena arena = we_arena();
    llm_error e;
    const llm_wasserstein_measure from = we_masses(a, n), to = we_masses(b, m);
    double *u = doubles(n), *v = doubles(m), total, dual = 0.0, size = 1.0, sum_a = 0.0,
           sum_b = 0.0;
    for (size_t i = 0; i < n; i++) u[i] = -HUGE_VAL; /* not read */
    CHECK(llm_wasserstein_exact(&total, plan, u, v, cost, &from, &to, &arena, &e));
    CHECK(arena.used == 0);
    for (size_t i = 0; i < n * m; i++) size = fmax(size, fabs(cost[i]));
    for (size_t i = 0; i < n; i++) sum_a += a ? (double)a[i] : 1.0;
    for (size_t j = 0; j < m; j++) sum_b += b ? (double)b[j] : 1.0;
    for (size_t i = 0; i < n; i++) {
        double sum = 0.0;
        const double share = (a ? (double)a[i] : 1.0) / sum_a;
        for (size_t j = 0; j < m; j++) {
            const double slack = cost[i * m + j] - u[i] - v[j];
            CHECK(plan[i * m + j] >= 0.0 && slack > -1e-13 * size);
            if (plan[i * m + j] > 0.0) CHECK(slack < 1e-13 * size);
            sum += plan[i * m + j];
        }
        CHECK_NEAR(sum, share, 2e-14);
        dual += share * u[i];
    }
    for (size_t j = 0; j < m; j++) {
        double sum = 0.0;
        const double share = (b ? (double)b[j] : 1.0) / sum_b;
        for (size_t i = 0; i < n; i++) sum += plan[i * m + j];
        CHECK_NEAR(sum, share, 2e-14 * (double)n);
        dual += share * v[j];
    }
    CHECK_NEAR(dual, total, 1e-12 * size); /* no gap */
    return total;
}

TEST(wasserstein_exact, "costs and plans equal those of POT's network simplex, any shapes") {
    const size_t shapes[8][2] = {{1, 1}, {1, 3}, {4, 1}, {2, 2}, {3, 5}, {7, 7}, {11, 6}, {13, 17}};
    for (size_t s = 0; s < 8; s++) {
        const size_t n = shapes[s][0], m = shapes[s][1];
        llm_wasserstein_measure a = we_masses(NULL, n), b = we_masses(NULL, m);
        a.x = golden("%zux%zu/x", n, m), b.x = golden("%zux%zu/y", n, m);
        double *cost = doubles(n * m), *plan = doubles(n * m);
        float *got = floats(n * m);
        llm_wasserstein_cost(cost, &a, &b, 2, 2.0);
        for (size_t i = 0; i < n * m; i++) got[i] = (float)cost[i];
        CHECK_GOLDEN(got, n * m, 1e-6f, "%zux%zu/cost", n, m);
        const float plain = (float)we_solve(plan, cost, NULL, NULL, n, m);
        CHECK_GOLDEN(&plain, 1, 1e-6f, "%zux%zu/plain", n, m);
        const float weighted =
            (float)we_solve(plan, cost, golden("%zux%zu/a", n, m), golden("%zux%zu/b", n, m), n, m);
        CHECK_GOLDEN(&weighted, 1, 1e-6f, "%zux%zu/weighted", n, m);
        for (size_t i = 0; i < n * m; i++) got[i] = (float)plan[i];
        CHECK_GOLDEN(got, n * m, 1e-6f, "%zux%zu/plan", n, m); /* unique for such costs */
        llm_wasserstein_cost(cost, &a, &b, 2, 1.0);
        for (size_t i = 0; i < n * m; i++)
            CHECK_NEAR(cost[i] * cost[i], golden("%zux%zu/cost", n, m)[i], 1e-5);
    }
}

TEST(wasserstein_exact,
     "the plan proves itself optimal: ties, masses of 0, grids, large and small costs") {
    llm_rng rng = llm_rng_seed(1);
    for (size_t round = 0; round < 300; round++) {
        const size_t n = 1 + llm_rng_below(&rng, 12), m = 1 + llm_rng_below(&rng, 12);
        double *cost = doubles(n * m), *plan = doubles(n * m), scale = 0.0;
        float *a = floats(n), *b = floats(m), left = 0.0f, right = 0.0f;
        for (size_t i = 0; i < n * m; i++) {
            const double z = (double)llm_rng_normal(&rng);
            cost[i] = round % 4 == 0   ? floor(2.0 * z)
                      : round % 4 == 1 ? 1e200 * z
                      : round % 4 == 2 ? 1e-3 * z
                                       : 5.0;
            scale = fmax(scale, fabs(cost[i]));
        }
        for (size_t i = 0; i < n; i++) left += a[i] = (float)llm_rng_below(&rng, 4);
        for (size_t j = 0; j < m; j++) right += b[j] = (float)llm_rng_below(&rng, 4);
        a[0] += right + 1.0f, b[0] += left + 1.0f;
        we_solve(plan, cost, a, b, n, m);
    }
}

TEST(wasserstein_exact, "on a line it is the plan that keeps the order, for every convex cost") {
    llm_rng rng = llm_rng_seed(2);
    llm_arena arena = we_arena();
    llm_error e;
    for (int round = 0; round < 60; round++) {
        const size_t n = 1 + llm_rng_below(&rng, 9), m = 1 + llm_rng_below(&rng, 9);
        float *x = floats(n), *y = floats(m), *mass = floats(n), *other = floats(m), sum = 0.0f;
        llm_rng_normal_fill(&rng, x, n);
        llm_rng_normal_fill(&rng, y, m);
        for (size_t i = 0; i < n; i++) sum += mass[i] = (float)(1 + llm_rng_below(&rng, 5));
        for (size_t j = 0; j < m; j++) other[j] = sum / (float)m;
        llm_wasserstein_measure a = we_masses(mass, n), b = we_masses(other, m);
        a.x = x, b.x = y;
        double *cost = doubles(n * m), *plan = doubles(n * m), want = 0.0;
        const double p = round % 3 == 0 ? 1.0 : round % 3 == 1 ? 2.0 : 1.5;
        llm_wasserstein_cost(cost, &a, &b, 1, p);
        CHECK(llm_wasserstein_1d(&want, NULL, &a, &b, p, &arena, &e));
        CHECK_NEAR(we_solve(plan, cost, mass, other, n, m), want, 1e-6); /* float masses m times */
    }
}

TEST(wasserstein_exact,
     "assignments: SciPy's, and the best of all by brute force, also of few rows") {
    const size_t shapes[5][2] = {{1, 1}, {1, 4}, {3, 3}, {5, 9}, {12, 12}};
    llm_arena arena = we_arena();
    llm_error e;
    for (size_t s = 0; s < 5; s++) {
        const size_t n = shapes[s][0], m = shapes[s][1];
        size_t count = 0, to[12];
        const float *cost = golden_n(&count, "assign%zux%zu/cost", n, m),
                    *want = golden("assign%zux%zu/to", n, m);
        double total = 0.0;
        CHECK(llm_wasserstein_assign(&total, to, we_doubles(cost, count), n, m, &arena, &e) &&
              arena.used == 0);
        for (size_t i = 0; i < n; i++) CHECK(to[i] == (size_t)want[i]);
        const float got = (float)total;
        CHECK_GOLDEN(&got, 1, 1e-6f, "assign%zux%zu/total", n, m);
    }
    llm_rng rng = llm_rng_seed(3);
    for (int round = 0; round < 200; round++) { /* integers: many ties */
        const size_t n = 1 + llm_rng_below(&rng, 3), m = 3 + llm_rng_below(&rng, 2);
        double cost[12], best = HUGE_VAL, total = 0.0, sum = 0.0;
        size_t to[3], all = 1;
        for (size_t i = 0; i < n * m; i++) cost[i] = (double)llm_rng_below(&rng, 6) - 3.0;
        for (size_t i = 0; i < n; i++) all *= m;
        for (size_t code = 0; code < all; code++) {
            size_t k[3], rest = code;
            double one = 0.0;
            bool apart = true;
            for (size_t i = 0; i < n; i++) {
                k[i] = rest % m, rest /= m, one += cost[i * m + k[i]];
                for (size_t j = 0; j < i; j++) apart = apart && k[i] != k[j];
            }
            if (apart) best = fmin(best, one);
        }
        CHECK(llm_wasserstein_assign(&total, to, cost, n, m, &arena, &e) && total == best);
        for (size_t i = 0; i < n; i++) {
            CHECK(to[i] < m);
            sum += cost[i * m + to[i]];
            for (size_t j = 0; j < i; j++) CHECK(to[i] != to[j]);
        }
        CHECK(sum == best);
    }
    const float at[2] = {0.0f, 2.0f};
    llm_wasserstein_measure a = we_masses(NULL, 1), b = a;
    a.x = at, b.x = at + 1;
    double fourth = 0.0, plan, u, v, left = 1.0, room = 2.0, largest = DBL_MAX;
    llm_wasserstein_cost(&fourth, &a, &b, 1, 4.0);
    CHECK(fourth == 16.0);
    llm_wasserstein_exact_ship(&plan, &u, &v, &left, &room, &fourth, 1, 1, &arena);
    CHECK(plan == 1.0 && left == 0.0 && room == 1.0 && u == 16.0 && v == 0.0 && arena.used == 0);
    CHECK(llm_wasserstein_exact_finite(&largest, 1, 1, &e));
    double total = 5.0, none = 0.0;
    CHECK(llm_wasserstein_assign(&total, NULL, &none, 0, 1, &arena, &e) && total == 0.0);
    CHECK_ASSERTS(llm_wasserstein_assign(&total, NULL, &none, 2, 1, &arena, &e));
}

TEST(wasserstein_exact, "costs that are no numbers and masses that differ are refused") {
    llm_arena arena = we_arena();
    llm_error e;
    double cost[6] = {1, 2, 3, 4, 5, 6}, plan[6], u[2], v[3], total;
    size_t to[2];
    const float a[2] = {1, 2}, b[3] = {1, 1, 2}, minus[2] = {-1, 4};
    const llm_wasserstein_measure two = we_masses(a, 2), three = we_masses(b, 3),
                                  even = we_masses(NULL, 3), bad = we_masses(minus, 2),
                                  plain = we_masses(NULL, 2);
    CHECK_FAILS(llm_wasserstein_exact(&total, plan, u, v, cost, &two, &three, &arena, &e), e,
                "wasserstein: masses 3 and 4, expected the same");
    CHECK_FAILS(llm_wasserstein_exact(&total, plan, u, v, cost, &bad, &even, &arena, &e), e,
                "total mass nan");
    for (size_t i = 0; i < 6; i++) {
        const double kept = cost[i];
        char text[64];
        snprintf(text, sizeof text, "wasserstein: the cost from %zu to %zu is not finite", i / 3,
                 i % 3);
        for (int k = 0; k < 2; k++) {
            cost[i] = k ? (double)NAN : -HUGE_VAL;
            CHECK_FAILS(llm_wasserstein_exact(&total, plan, u, v, cost, &plain, &even, &arena, &e),
                        e, text);
            CHECK_FAILS(llm_wasserstein_assign(&total, to, cost, 2, 3, &arena, &e), e, text);
        }
        cost[i] = kept;
    }
    CHECK(arena.used == 0);
    CHECK(llm_wasserstein_exact(&total, plan, u, v, cost, &plain, &even, &arena, &e));
    CHECK_NEAR(total, 3.5, 1e-14); /* c_ij = 3 i + j + 1: every plan costs the same */
}

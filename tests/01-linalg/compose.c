/* @compose */
#include "../test.h"

#include "../../llm.h"

static void compose_sin(double *y, const double *x, void *n) {
    for (size_t i = 0; i < *(size_t *)n; i++) y[i] = sin(x[i]);
}
static void compose_sin_jacobian(double *j, const double *x, void *n) {
    const size_t m = *(size_t *)n;
    for (size_t i = 0; i < m * m; i++) j[i] = i / m == i % m ? cos(x[i % m]) : 0.0;
}
static void compose_exp(double *y, const double *x, void *n) {
    for (size_t i = 0; i < *(size_t *)n; i++) y[i] = exp(0.3 * x[i]);
}
static void compose_exp_jacobian(double *j, const double *x, void *n) {
    const size_t m = *(size_t *)n;
    for (size_t i = 0; i < m * m; i++) j[i] = i / m == i % m ? 0.3 * exp(0.3 * x[i % m]) : 0.0;
}
typedef struct {
    double w[20], b[5];
    size_t m, n;
} compose_matrix;
static void compose_affine(double *y, const double *x, void *context) {
    const compose_matrix *a = (const compose_matrix *)context;
    for (size_t i = 0; i < a->m; i++) {
        y[i] = a->b[i];
        for (size_t j = 0; j < a->n; j++) y[i] += a->w[i * a->n + j] * x[j];
    }
}
static void compose_affine_jacobian(double *j, const double *x, void *context) {
    const compose_matrix *a = (const compose_matrix *)context;
    (void)x;
    memcpy(j, a->w, a->m * a->n * sizeof(double));
}
static compose_matrix compose_random(size_t m, size_t n, llm_rng *rng) {
    compose_matrix a;
    a.m = m, a.n = n;
    for (size_t i = 0; i < 20; i++) a.w[i] = (double)llm_rng_normal(rng);
    for (size_t i = 0; i < 5; i++) a.b[i] = (double)llm_rng_normal(rng);
    return a;
}
static llm_compose_stage compose_stage(void (*value)(double *, const double *, void *),
                                       void (*jacobian)(double *, const double *, void *),
                                       void *context, size_t n_in, size_t n_out) {
    llm_compose_stage s;
    s.value = value, s.jacobian = jacobian, s.context = context, s.n_in = n_in, s.n_out = n_out;
    return s;
}

/* A whole chain as one stage. */
typedef struct {
    const llm_compose_stage *stage;
    size_t K;
    llm_arena *arena;
} compose_chain;
static void compose_chain_value(double *y, const double *x, void *context) {
    const compose_chain *c = (const compose_chain *)context;
    CHECK(llm_compose_eval(y, x, c->stage, c->K, c->arena, NULL));
}
static void compose_chain_jacobian(double *j, const double *x, void *context) {
    const compose_chain *c = (const compose_chain *)context;
    CHECK(llm_compose_jacobian(j, x, c->stage, c->K, c->arena, NULL));
}

TEST(compose,
     "values by hand; Jacobians equal differences; chains of chains bracket as one likes") {
    llm_rng rng = llm_rng_seed(1);
    llm_arena arena;
    llm_error error;
    CHECK(llm_arena_create(&arena, 1 << 14));
    for (int round = 0; round < 10; round++) {
        size_t five = 5, four = 4;
        compose_matrix a = compose_random(5, 4, &rng), b = compose_random(4, 5, &rng),
                       c = compose_random(2, 4, &rng);
        const llm_compose_stage stage[5] = {
            compose_stage(compose_affine, compose_affine_jacobian, &a, 4, 5),
            compose_stage(compose_sin, compose_sin_jacobian, &five, 5, 5),
            compose_stage(compose_affine, compose_affine_jacobian, &b, 5, 4),
            compose_stage(compose_exp, compose_exp_jacobian, &four, 4, 4),
            compose_stage(compose_affine, compose_affine_jacobian, &c, 4, 2)};
        double x[4], want[5], t[5];
        for (size_t i = 0; i < 4; i++) x[i] = (double)llm_rng_normal(&rng);
        compose_affine(want, x, &a), compose_sin(t, want, &five), compose_affine(want, t, &b);
        compose_exp(t, want, &four), compose_affine(want, t, &c);
        for (size_t K = 1; K <= 5; K++) {
            double y[5], j[20], near[20];
            const size_t out = stage[K - 1].n_out;
            CHECK(llm_compose_eval(y, x, stage, K, &arena, &error) && arena.used == 0);
            if (K == 5) CHECK(y[0] == want[0] && y[1] == want[1]);
            compose_chain chain = {stage, K, &arena};
            const llm_compose_stage whole =
                compose_stage(compose_chain_value, compose_chain_jacobian, &chain, 4, out);
            CHECK(llm_compose_jacobian(j, x, stage, K, &arena, &error) && arena.used == 0);
            const double kept = x[2];
            llm_compose_numjac(near, x, &whole, &arena);
            CHECK(x[2] == kept && arena.used == 0);
            for (size_t i = 0; i < out * 4; i++)
                CHECK_NEAR(j[i], near[i], 1e-7 * (1.0 + fabs(near[i])));
        }
        for (size_t cut = 1; cut < 5; cut++) { /* (rest) . (first cut) */
            compose_chain first = {stage, cut, &arena}, rest = {stage + cut, 5 - cut, &arena};
            const llm_compose_stage two[2] = {
                compose_stage(compose_chain_value, compose_chain_jacobian, &first, 4,
                              stage[cut].n_in),
                compose_stage(compose_chain_value, compose_chain_jacobian, &rest, stage[cut].n_in,
                              2)};
            double y[2], j[8], all[8];
            CHECK(llm_compose_eval(y, x, two, 2, &arena, &error) && y[0] == want[0] &&
                  y[1] == want[1]);
            CHECK(llm_compose_jacobian(j, x, two, 2, &arena, &error));
            CHECK(llm_compose_jacobian(all, x, stage, 5, &arena, &error));
            for (size_t i = 0; i < 8; i++) CHECK_NEAR(j[i], all[i], 1e-12 * (1.0 + fabs(all[i])));
        }
    }
    llm_arena_destroy(&arena);
}

/* The fewest multiplications by trying all brackets. */
static double compose_brute(const size_t *dim, size_t i, size_t j) {
    double best = i == j ? 0.0 : (double)INFINITY;
    for (size_t s = i; s < j; s++)
        best = fmin(best, compose_brute(dim, i, s) + compose_brute(dim, s + 1, j) +
                              (double)(dim[i] * dim[s + 1] * dim[j + 1]));
    return best;
}
static double compose_cost(const size_t *split, const size_t *dim, size_t i, size_t j, size_t K) {
    if (i == j) return 0.0;
    const size_t s = split[i * K + j];
    CHECK(s >= i && s < j);
    return compose_cost(split, dim, i, s, K) + compose_cost(split, dim, s + 1, j, K) +
           (double)(dim[i] * dim[s + 1] * dim[j + 1]);
}

TEST(compose, "the best order of a product: 15125 for the textbook's six, and all brackets tried") {
    const size_t book[7] = {30, 35, 15, 5, 10, 20, 25};
    size_t split[64];
    double cost[64];
    CHECK(llm_compose_order(split, cost, book, 6) == 15125.0);
    CHECK(split[5] == 2 && split[2] == 0 &&
          split[3 * 6 + 5] == 4); /* ((A0 (A1 A2)) ((A3 A4) A5)) */
    llm_rng rng = llm_rng_seed(2);
    for (size_t round = 0; round < 60; round++) {
        size_t dim[9];
        const size_t K = 1 + round % 8;
        for (size_t k = 0; k <= K; k++) dim[k] = 1 + llm_rng_below(&rng, 9);
        double *exact = doubles(K * K);
        const double best = llm_compose_order(split, exact, dim, K);
        CHECK(best == compose_brute(dim, 0, K - 1) &&
              compose_cost(split, dim, 0, K - 1, K) == best);
    }
}

static void compose_cos(double *y, const double *x, void *nothing) {
    (void)nothing;
    y[0] = cos(x[0]);
}

TEST(compose,
     "cos goes to 0.739085 by its slope there, faster by Aitken; affine maps contract by W") {
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 1 << 10));
    const llm_compose_stage cosine = compose_stage(compose_cos, NULL, NULL, 1, 1);
    double x[1] = {1.0}, three[3];
    const double factor = llm_compose_iterate(x, &cosine, 60, &arena), limit = 0.73908513321516064;
    CHECK_NEAR(x[0], limit, 1e-9);
    CHECK_NEAR(factor, sin(limit), 1e-4); /* |cos'| at the fixed point, 0.6736 */
    x[0] = 1.0;
    for (size_t k = 0; k < 3; k++) {
        llm_compose_iterate(x, &cosine, k == 0 ? 8 : 1, &arena);
        three[k] = x[0];
    }
    const double better = llm_compose_aitken(three[0], three[1], three[2]);
    CHECK(fabs(better - limit) < 0.05 * fabs(three[2] - limit));
    CHECK_NEAR(llm_compose_aitken(7.0 + 8.0, 7.0 + 4.0, 7.0 + 2.0), 7.0,
               1e-12); /* geometric: exact */
    CHECK(llm_compose_aitken(2.0, 2.0, 2.0) == 2.0);

    compose_matrix a = {{0.5, 0.0, 0.0, 0.25}, {1.0, 3.0}, 2, 2}; /* fixed point (2, 4) */
    const llm_compose_stage affine =
        compose_stage(compose_affine, compose_affine_jacobian, &a, 2, 2);
    double y[2] = {10.0, -10.0};
    CHECK_NEAR(llm_compose_iterate(y, &affine, 40, &arena), 0.5, 1e-9);
    CHECK_NEAR(y[0], 2.0, 1e-10);
    CHECK_NEAR(y[1], 4.0, 1e-10);
    double still[2] = {2.0, 4.0}, once[2] = {0.0, 0.0}, twice[2] = {10.0, 4.0};
    CHECK(llm_compose_iterate(twice, &affine, 2, &arena) == 0.5 && twice[0] == 4.0);
    CHECK(llm_compose_iterate(still, &affine, 5, &arena) == 0.0);
    CHECK(isnan(llm_compose_iterate(once, &affine, 1, &arena)) && once[0] == 1.0 && once[1] == 3.0);
    CHECK(isnan(llm_compose_iterate(once, &affine, 0, &arena)) && once[0] == 1.0);
    CHECK(arena.used == 0);
    llm_arena_destroy(&arena);
}

TEST(compose, "stages that do not fit are named; differences keep 10 digits") {
    llm_arena arena;
    llm_error error;
    CHECK(llm_arena_create(&arena, 1 << 10));
    size_t four = 4, three = 3;
    const llm_compose_stage stage[2] = {
        compose_stage(compose_sin, compose_sin_jacobian, &four, 4, 4),
        compose_stage(compose_exp, compose_exp_jacobian, &three, 3, 3)};
    double x[4] = {0.0}, y[4], j[16];
    CHECK_FAILS(llm_compose_eval(y, x, stage, 2, &arena, &error), error,
                "stage 1 takes 3 numbers, stage 0 gives 4");
    CHECK_FAILS(llm_compose_jacobian(j, x, stage, 2, &arena, &error), error, "stage 1 takes 3");
    CHECK_ASSERTS(llm_compose_eval(y, x, stage, 0, &arena, &error));
    double far[3] = {1e4, -30.0, 1e-8}, near[9];
    compose_matrix a = {{1, 2, 3, 4, 5, 6, 7, 8, 9}, {0, 0, 0}, 3, 3};
    const llm_compose_stage affine =
        compose_stage(compose_affine, compose_affine_jacobian, &a, 3, 3);
    llm_compose_numjac(near, far, &affine, &arena);
    for (size_t i = 0; i < 9; i++)
        CHECK_NEAR(near[i], a.w[i], 1e-5); /* y of 1e5 with 16 digits over 6e-6 */
    double at[3] = {0.5, -2.0, 1.0}, got[9], want[9];
    llm_compose_numjac(got, at, &stage[1], &arena);
    compose_exp_jacobian(want, at, &three);
    for (size_t i = 0; i < 9; i++) CHECK_NEAR(got[i], want[i], 2e-11);
    size_t widest = 9, split[1];
    double cost[1];
    CHECK(llm_compose_check(&widest, stage, 0, NULL) && widest == 0);
    const llm_compose_stage narrow[3] = {compose_stage(NULL, NULL, NULL, 4, 2),
                                         compose_stage(NULL, NULL, NULL, 2, 5),
                                         compose_stage(NULL, NULL, NULL, 5, 3)};
    CHECK(llm_compose_check(&widest, narrow, 1, NULL) && widest == 4);
    CHECK(llm_compose_check(&widest, narrow, 2, NULL) && widest == 5);
    CHECK_ASSERTS(llm_compose_iterate(at, narrow, 1, &arena));
    CHECK_ASSERTS(llm_compose_jacobian(got, at, stage, 0, &arena, NULL));
    CHECK_ASSERTS(llm_compose_order(split, cost, &widest, 0));
    llm_arena_destroy(&arena);
}

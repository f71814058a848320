/* @overfitting */
#include "../test.h"

#include "../../llm.h"

static int of_ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

TEST(overfitting, "Legendre polynomials take their known values and stand at right angles") {
    const float x[4] = {-1.0f, 0.0f, 0.5f, 1.0f};
    float phi[20];
    llm_overfitting_legendre(phi, x, 4, 4);
    const float half[5] = {1.0f, 0.5f, -0.125f, -0.4375f, -0.2890625f},
                zero[5] = {1, 0, -0.5f, 0, 0.375f};
    CHECK_ALL_NEAR(phi + 10, half, 5, 1e-7f);
    CHECK_ALL_NEAR(phi + 5, zero, 5, 1e-7f);
    for (size_t k = 0; k < 5; k++) CHECK(phi[15 + k] == 1.0f && phi[k] == (k % 2 ? -1.0f : 1.0f));
    double node[12], weight[12];
    float at[12], table[12 * 8];
    llm_underfitting_nodes(node, weight, 12);
    for (size_t i = 0; i < 12; i++) at[i] = (float)node[i];
    llm_overfitting_legendre(table, at, 12, 7);
    for (size_t j = 0; j < 8; j++)
        for (size_t k = 0; k <= j; k++) {
            double sum = 0.0;
            for (size_t i = 0; i < 12; i++)
                sum += weight[i] * (double)table[i * 8 + j] * (double)table[i * 8 + k];
            CHECK_NEAR(sum, j == k ? 1.0 / (double)(2 * j + 1) : 0.0, 1e-6);
        }
}

enum { DEGREES = 16 };
/* Medians over seeds of the curves through 20 points of a noisy sine. */
static void of_curves(double *train, double *test, uint64_t first, size_t seeds) {
    enum { n = 20, m = 400 };
    double all[2][DEGREES][16];
    llm_arena arena = {(unsigned char *)test_memory(1 << 18, 1), 1 << 18, 0, 0};
    memset(arena.memory, 255, arena.size); /* NaN */
    for (size_t s = 0; s < seeds; s++) {
        llm_rng rng = llm_rng_seed(first + s);
        float x[n], y[n], xt[m], yt[m];
        for (size_t i = 0; i < n; i++) {
            x[i] = 2.0f * llm_rng_uniform(&rng) - 1.0f;
            y[i] = sinf(LLM_PI * x[i]) + 0.3f * llm_rng_normal(&rng);
        }
        for (size_t i = 0; i < m; i++) {
            xt[i] = 2.0f * llm_rng_uniform(&rng) - 1.0f;
            yt[i] = sinf(LLM_PI * xt[i]) + 0.3f * llm_rng_normal(&rng);
        }
        double a[DEGREES], b[DEGREES];
        CHECK(llm_overfitting_poly(a, b, x, y, n, xt, yt, m, DEGREES - 1, &arena) &&
              arena.used == 0);
        for (size_t d = 0; d < DEGREES; d++) {
            CHECK(d == 0 || a[d] <= a[d - 1] + 1e-12); /* each class holds the one before it */
            all[0][d][s] = a[d], all[1][d][s] = b[d];
        }
    }
    for (size_t d = 0; d < DEGREES; d++) {
        qsort(all[0][d], seeds, sizeof(double), of_ascending);
        qsort(all[1][d], seeds, sizeof(double), of_ascending);
        train[d] = all[0][d][seeds / 2], test[d] = all[1][d][seeds / 2];
    }
}

TEST(overfitting, "train error only falls; test error at degree 15 is far above its minimum") {
    double train[DEGREES], test[DEGREES], least = INFINITY;
    size_t best = 0;
    of_curves(train, test, 1, 11);
    for (size_t d = 0; d < DEGREES; d++)
        if (test[d] < least) least = test[d], best = d;
    /* medians of 11; eight other sets of seeds: 18000 to 4e8 times (a polynomial
     * of degree 15 leaves the paper beyond the outermost points), 0.15 to 0.27, 2.4 to 3.1 times */
    CHECK(test[15] > 1000.0 * least);
    CHECK(best == 3);
    CHECK(train[15] < 0.5 * train[3] && test[1] > 1.5 * least);
}

TEST(overfitting, "fits that are not determined are refused") {
    const float x[3] = {-0.5f, 0.1f, 0.7f}, twice[3] = {0.2f, 0.2f, 0.7f}, y[3] = {1, 2, 3};
    double train[4], test[4];
    llm_arena arena = {(unsigned char *)test_memory(1 << 14, 1), 1 << 14, 0, 0};
    memset(arena.memory, 255, arena.size); /* NaN */
    CHECK(llm_overfitting_poly(train, test, x, y, 3, x, y, 3, 2, &arena));
    CHECK_NEAR(train[2], 0.0, 1e-12); /* three points, a parabola */
    CHECK_NEAR(train[0], 2.0 / 3.0, 1e-12);
    CHECK(test[1] == train[1]);
    CHECK(!llm_overfitting_poly(train, test, x, y, 3, x, y, 3, 3, &arena) && arena.used == 0);
    CHECK(!llm_overfitting_poly(train, test, twice, y, 3, x, y, 3, 2, &arena));
}

TEST(overfitting,
     "a wide network learns labels drawn by lot, all of them, and knows nothing else") {
    enum { N = 60, M = 1000, d = 10 };
    const size_t size[3] = {d, 128, 2};
    const llm_backprop net = {size, 2, LLM_BACKPROP_RELU, LLM_BACKPROP_XENT};
    const size_t P = llm_backprop_weights(&net);
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 1 << 23));
    float *w = floats(P), *x = floats((N + M) * d), *y = zeros((N + M) * 2);
    double fresh = 0.0;
    for (uint64_t seed = 1; seed <= 3; seed++) {
        llm_rng rng = llm_rng_seed(seed);
        llm_rng_normal_fill(&rng, x, (N + M) * d);
        for (size_t i = 0; i < N + M; i++) {
            const size_t label = llm_rng_below(&rng, 2);
            y[2 * i] = label == 0 ? 1.0f : 0.0f, y[2 * i + 1] = 1.0f - y[2 * i];
        }
        llm_backprop_init(w, &net, 1.0f, &rng);
        const size_t steps = llm_overfitting_memorize(w, &net, x, y, N, 1500, 0.1f, 0.9f, &arena);
        CHECK(steps > 5 && steps < 1500 && arena.used == 0);
        CHECK(llm_overfitting_accuracy(&net, w, x, y, N, &arena) == 1.0);
        fresh += llm_overfitting_accuracy(&net, w, x + N * d, y + 2 * N, M, &arena) / 3.0;
    }
    CHECK_NEAR(fresh, 0.5, 0.05); /* 5 standard errors of 3000 coins */
    /* one step by hand, in memory with something in it */
    llm_arena dirty = {(unsigned char *)test_memory(1 << 20, 1), 1 << 20, 0, 0};
    memset(dirty.memory, 255, dirty.size);
    llm_rng start = llm_rng_seed(5);
    float *once = floats(P), *g = zeros(P), *act = floats(N * llm_backprop_activations(&net));
    llm_backprop_init(w, &net, 1.0f, &start);
    memcpy(once, w, P * sizeof(float));
    CHECK(llm_overfitting_memorize(once, &net, x, y, N, 1, 0.1f, 0.9f, &dirty) == 1);
    llm_backprop_forward(act, &net, w, x, y, N);
    llm_backprop_backward(g, NULL, act, &net, w, x, y, N, &arena);
    for (size_t k = 0; k < P; k++) w[k] -= 0.1f * g[k];
    CHECK_ALL_NEAR(once, w, P, 1e-6f);
    float *nothing = zeros(P);
    CHECK(llm_overfitting_memorize(nothing, &net, x, y, N, 0, 0.1f, 0.9f, &arena) == 0);
    size_t zeros_ = 0; /* all outputs equal: the first class is the guess */
    for (size_t i = 0; i < N; i++) zeros_ += y[2 * i] == 1.0f;
    CHECK_NEAR(llm_overfitting_accuracy(&net, nothing, x, y, N, &arena), (double)zeros_ / N, 1e-12);
    for (size_t i = 0; i < 2 * N; i++) y[i] = 0.5f; /* and of equal targets it is the truth */
    CHECK(llm_overfitting_accuracy(&net, nothing, x, y, N, &arena) == 1.0);
    llm_arena_destroy(&arena);
}

TEST(overfitting, "the gap test is a standard normal without a gap, and counts errors with one") {
    const float a[3] = {1, 2, 3}, b[2] = {4, 7}; /* variances 1 and 4.5: 1/3 + 9/4 */
    CHECK_NEAR(llm_overfitting_detect(a, 3, b, 2), 3.5 / sqrt(1.0 / 3.0 + 9.0 / 4.0), 1e-12);
    double sum = 0.0, square = 0.0;
    llm_rng rng = llm_rng_seed(8);
    for (size_t r = 0; r < 500; r++) {
        float train[60], test[90];
        for (size_t i = 0; i < 60; i++) train[i] = llm_rng_uniform(&rng);
        for (size_t i = 0; i < 90; i++) test[i] = llm_rng_uniform(&rng);
        const double z = llm_overfitting_detect(train, 60, test, 90);
        sum += z / 500.0, square += z * z / 500.0;
    }
    CHECK_NEAR(sum, 0.0, 4.0 / sqrt(500.0));
    CHECK_NEAR(square, 1.0, 4.0 * sqrt(2.0 / 500.0));
    const float same[2] = {1, 1};
    CHECK(isnan(llm_overfitting_detect(same, 2, same, 2)));
}

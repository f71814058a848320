/* @kan_grid */
#include "../test.h"

#include "../../llm.h"

static llm_arena arena_of(size_t bytes) {
    llm_arena a = {(unsigned char *)test_memory(bytes, 1), bytes, 0, 0};
    return a;
}

TEST(kan_grid, "the grid has the data's quantiles, the ends outside go on evenly, constants fail") {
    const llm_kan k = {2, 1, 4};
    const size_t N = 9;
    float x[18], t[22];
    llm_arena a = arena_of(4096);
    for (size_t n = 0; n < N; n++) {
        x[2 * n] = (float)((n * 5) % 9) * (float)((n * 5) % 9); /* squares, mixed */
        x[2 * n + 1] = (float)n;
    }
    CHECK(llm_kan_grid_data(t, &k, x, N, 0.0, &a));
    const float want[11] = {-48.0f, -32.0f, -16.0f, 0.0f,  4.0f,  16.0f,
                            36.0f,  64.0f,  80.0f,  96.0f, 112.0f};
    CHECK_ALL_NEAR(t, want, 11, 1e-4f);
    for (size_t m = 0; m < 11; m++) CHECK_NEAR(t[11 + m], 2.0 * ((double)m - 3.0), 1e-5);
    CHECK(llm_kan_grid_data(t, &k, x, N, 0.25, &a));
    CHECK_NEAR(t[4], 0.25 * 16.0 + 0.75 * 4.0, 1e-4);
    CHECK_NEAR(t[7], 64.0, 1e-4);
    CHECK(!llm_kan_grid_data(t, &k, x, 0, 0.5, &a));
    const float bad[3] = {INFINITY, -INFINITY, NAN};
    for (size_t c = 0; c < 3; c++) {
        x[4] = bad[c];
        CHECK(!llm_kan_grid_data(t, &k, x, N, 0.5, &a));
    }
    for (size_t n = 0; n < N; n++) x[2 * n] = 1.0f;
    CHECK(!llm_kan_grid_data(t, &k, x, N, 0.5, &a));
    for (size_t n = 0; n < N; n++) x[2 * n] = n < 7 ? 1.0f : (float)n; /* four equal quantiles */
    CHECK(!llm_kan_grid_data(t, &k, x, N, 0.0, &a));
    CHECK(llm_kan_grid_data(t, &k, x, N, 0.1, &a));
    CHECK(a.used == 0);
    for (size_t n = 0; n < 6; n++) x[2 * n] = (float)(n * n), x[2 * n + 1] = (float)n;
    CHECK(llm_kan_grid_data(t, &k, x, 6, 0.0, &a));
    for (size_t m = 0; m < 5; m++) { /* as numpy's "lower": entry floor(5 m / 4) */
        const float at = m < 4 ? (float)m : 5.0f;
        CHECK(t[3 + m] == at * at && t[14 + m] == at);
    }
}

TEST(kan_grid, "refitted to its own grid a curve stays, also where rows lie outside") {
    const llm_kan k = {1, 2, 3}, wide = {2, 2, 3}, tall = {1, 3, 3};
    llm_rng rng = llm_rng_seed(5);
    llm_arena a = arena_of(1 << 16);
    float t[10], w[16], v[16], x[60], y[120], z[120];
    llm_kan_grid(t, &k, -1.0f, 1.0f);
    llm_kan_init(w, &k, &rng);
    for (size_t i = 0; i < 60; i++) x[i] = -4.0f + (float)i / 7.5f; /* the first ones on no knot */
    llm_kan_refit(v, &k, t, w, &k, t, x, 60, &a);
    llm_kan_forward(y, &k, w, t, x, 60);
    llm_kan_forward(z, &k, v, t, x, 60);
    CHECK_ALL_NEAR(z, y, 120, 1e-5f);
    llm_kan_refit(v, &k, t, w, &k, t, x + 11, 49,
                  &a); /* row 0 reaches functions that are not there */
    llm_kan_forward(z, &k, v, t, x, 60);
    CHECK_ALL_NEAR(z, y, 120, 1e-5f);
    CHECK_ASSERTS(llm_kan_refit(v, &wide, t, w, &k, t, x, 30, &a));
    CHECK_ASSERTS(llm_kan_refit(v, &tall, t, w, &k, t, x, 60, &a));
}

TEST(kan_grid, "refined to twice and to ten thirds of the intervals, the function stays") {
    enum { IN = 2, OUT = 3, N = 300, NEW = 97 };
    const llm_kan k = {IN, OUT, 3};
    const size_t finer[3] = {6, 30, 10};
    const float off[3] = {1e-5f, 1e-5f, 0.05f}; /* the knots of the last do not contain the old */
    llm_rng rng = llm_rng_seed(3);
    llm_arena a = arena_of(1 << 20);
    float t[IN * 10], *w = floats(llm_kan_param_count(&k)), *x = floats(N * IN);
    float *fresh = floats(NEW * IN), *y = floats(NEW * OUT), *z = floats(NEW * OUT);
    llm_kan_grid(t, &k, -1.0f, 1.0f);
    llm_kan_init(w, &k, &rng);
    for (size_t i = 0; i < N * IN; i++) x[i] = 2.0f * llm_rng_uniform(&rng) - 1.0f;
    for (size_t i = 0; i < NEW * IN; i++) fresh[i] = 1.9f * llm_rng_uniform(&rng) - 0.95f;
    llm_kan_forward(y, &k, w, t, fresh, NEW);
    for (size_t c = 0; c < 3; c++) {
        const llm_kan to = {IN, OUT, finer[c]};
        float *tt = floats(IN * (finer[c] + 7)), *v = floats(llm_kan_param_count(&to));
        llm_kan_grid(tt, &to, -1.0f, 1.0f);
        llm_kan_refit(v, &to, tt, w, &k, t, x, N, &a);
        llm_kan_forward(z, &to, v, tt, fresh, NEW);
        CHECK_ALL_NEAR(z, y, NEW * OUT, off[c]);
        CHECK(a.used == 0);
    }
}

TEST(kan_grid, "the size of an edge is the mean length of what it alone puts out") {
    const llm_kan k = {3, 2, 4}, one = {1, 1, 4};
    enum { N = 6 };
    llm_rng rng = llm_rng_seed(4);
    float t[33], w[54], v[9], x[3 * N], column[N], y[N], norm[6];
    llm_kan_grid(t, &k, -2.0f, 2.0f);
    llm_kan_init(w, &k, &rng);
    llm_rng_normal_fill(&rng, x, 3 * N);
    for (size_t m = 0; m < 11; m++) t[11 + m] *= 1.5f, t[22 + m] *= 2.0f; /* each input its own */
    llm_kan_edges(norm, &k, w, t, x, N);
    for (size_t j = 0; j < 2; j++)
        for (size_t i = 0; i < 3; i++) {
            double sum = 0.0;
            memcpy(v, w + llm_kan_coefs(&k, j, i), 7 * sizeof(float));
            v[7] = w[llm_kan_base(&k, j, i)], v[8] = w[llm_kan_base(&k, j, i) + 6];
            for (size_t n = 0; n < N; n++) column[n] = x[3 * n + i];
            llm_kan_forward(y, &one, v, t + 11 * i, column, N);
            for (size_t n = 0; n < N; n++) sum += fabs((double)y[n]);
            CHECK_NEAR(norm[j * 3 + i], sum / N, 1e-6);
        }
}

/* [2,H,1] on exp(sin(pi x) + y^2). */
enum { H = 5, ROWS = 700 };
typedef struct {
    llm_kan a, b;
    float *w, *g, *m, *v, *ta, *tb; /* w: a's weights, then b's */
    size_t P, Q, steps;
} net;

static double target(double x, double y) { return exp(sin(acos(-1.0) * x) + y * y); }

static net build(size_t units, size_t grid) {
    net k;
    k.a.in = 2, k.a.out = k.b.in = units, k.b.out = 1, k.a.grid = k.b.grid = grid;
    k.P = llm_kan_param_count(&k.a), k.Q = llm_kan_param_count(&k.b), k.steps = 0;
    k.w = zeros(k.P + k.Q), k.g = zeros(k.P + k.Q);
    k.m = zeros(k.P + k.Q), k.v = zeros(k.P + k.Q);
    k.ta = zeros(2 * (grid + 7)), k.tb = zeros(units * (grid + 7));
    llm_kan_grid(k.ta, &k.a, -1.0f, 1.0f);
    llm_kan_grid(k.tb, &k.b, -2.0f, 2.0f);
    return k;
}

static double rmse(const net *k, const float *x, size_t rows) {
    float *h = floats(rows * k->a.out), *y = floats(rows);
    double sum = 0.0;
    llm_kan_forward(h, &k->a, k->w, k->ta, x, rows);
    llm_kan_forward(y, &k->b, k->w + k->P, k->tb, h, rows);
    for (size_t n = 0; n < rows; n++) {
        const double e = (double)y[n] - target((double)x[2 * n], (double)x[2 * n + 1]);
        sum += e * e;
    }
    return sqrt(sum / (double)rows);
}

/* The same curves on grids of so many intervals, the second where its inputs now are. */
static net refined(const net *k, size_t grid, const float *x) {
    net to = build(k->a.out, grid);
    llm_arena arena = arena_of(1 << 22);
    float *h = floats(ROWS * k->a.out);
    llm_kan_forward(h, &k->a, k->w, k->ta, x, ROWS);
    CHECK(llm_kan_grid_data(to.tb, &to.b, h, ROWS, 0.5, &arena));
    llm_kan_refit(to.w, &to.a, to.ta, k->w, &k->a, k->ta, x, ROWS, &arena);
    llm_kan_refit(to.w + to.P, &to.b, to.tb, k->w + k->P, &k->b, k->tb, h, ROWS, &arena);
    return to;
}

static void train(net *k, const float *x, size_t steps, float lr, float l1) {
    llm_adamw_config c = llm_adamw_defaults();
    static float h[ROWS * H], y[ROWS], dy[ROWS], dh[ROWS * H];
    c.weight_decay = 0.0f;
    for (size_t step = 0; step < steps; step++) {
        memset(k->g, 0, (k->P + k->Q) * sizeof(float));
        memset(dh, 0, sizeof dh);
        llm_kan_forward(h, &k->a, k->w, k->ta, x, ROWS);
        llm_kan_forward(y, &k->b, k->w + k->P, k->tb, h, ROWS);
        for (size_t n = 0; n < ROWS; n++)
            dy[n] = 2.0f / ROWS * (y[n] - (float)target((double)x[2 * n], (double)x[2 * n + 1]));
        llm_kan_backward(dh, k->g + k->P, dy, &k->b, k->w + k->P, k->tb, h, ROWS, l1);
        llm_kan_backward(NULL, k->g, dh, &k->a, k->w, k->ta, x, ROWS, l1);
        c.lr = llm_cosine_lr(step, steps, 0, lr, 0.0f);
        llm_adamw_step(k->w, k->m, k->v, k->g, k->P + k->Q, &c, ++k->steps);
    }
}

static float *square(size_t rows, llm_rng *rng) { /* points of [-1,1]^2 */
    float *x = floats(2 * rows);
    for (size_t i = 0; i < 2 * rows; i++) x[i] = 2.0f * llm_rng_uniform(rng) - 1.0f;
    return x;
}

static net start(size_t grid, llm_rng *rng) {
    net k = build(H, grid);
    llm_kan_init(k.w, &k.a, rng);
    llm_kan_init(k.w + k.P, &k.b, rng);
    return k;
}

TEST(kan_grid, "fits exp(sin(pi x) + y^2); from 3 to 10 intervals the error goes down further") {
    double gain = 1.0;
    for (uint64_t seed = 1; seed <= 2; seed++) {
        llm_rng rng = llm_rng_seed(seed);
        float *x = square(ROWS, &rng), *fresh = square(1000, &rng);
        net k = start(3, &rng);
        train(&k, x, 200, 0.03f, 0.0f);
        k = refined(&k, 3, x); /* the second grid follows its inputs */
        train(&k, x, 500, 0.03f, 0.0f);
        const double coarse = rmse(&k, fresh, 1000);
        net fine = refined(&k, 10, x);
        CHECK_NEAR(rmse(&fine, fresh, 1000) / coarse, 1.0, 0.1);
        train(&fine, x, 500, 0.01f, 0.0f);
        const double last = rmse(&fine, fresh, 1000);
        CHECK(last < 0.02); /* of values from 0.37 to 7.4; seeds 1 to 10: 0.0006 to 0.011 */
        gain *= coarse / last;
    }
    /* the mean of two seeds, in logarithms; seeds 3 and 4, 5 and 6, .. 10: 4.5, 7.2, 2.8, 7.5 */
    CHECK(sqrt(gain) > 1.6);
}

TEST(kan_grid, "with a price on edges one hidden unit of five remains, and it is enough") {
    {
        llm_rng rng = llm_rng_seed(1);
        float *x = square(ROWS, &rng), norm[2 * H];
        net k = start(5, &rng);
        train(&k, x, 200, 0.03f, 0.03f);
        k = refined(&k, 5, x);
        train(&k, x, 500, 0.03f, 0.03f);
        llm_kan_edges(norm, &k.a, k.w, k.ta, x, ROWS);
        size_t best = 0;
        for (size_t u = 0; u < H; u++) {
            norm[u] = fmaxf(norm[2 * u], norm[2 * u + 1]); /* in place: 2 u is not behind u */
            if (norm[u] > norm[best]) best = u;
        }
        float next = 0.0f;
        for (size_t u = 0; u < H; u++)
            if (u != best) next = fmaxf(next, norm[u]);

        net one = build(1, 5); /* only that unit's edges */
        memcpy(one.ta, k.ta, 24 * sizeof(float));
        memcpy(one.tb, k.tb + best * 12, 12 * sizeof(float));
        for (size_t i = 0; i < 2; i++)
            memcpy(one.w + llm_kan_coefs(&one.a, 0, i), k.w + llm_kan_coefs(&k.a, best, i), 32);
        for (size_t i = 0; i < 2; i++)
            for (size_t s = 0; s < 2; s++)
                one.w[llm_kan_base(&one.a, 0, i) + s * 2] =
                    k.w[llm_kan_base(&k.a, best, i) + s * 2 * H];
        const float *w = k.w + k.P;
        memcpy(one.w + one.P, w + llm_kan_coefs(&k.b, 0, best), 32);
        for (size_t s = 0; s < 2; s++)
            one.w[one.P + 8 + s] = w[llm_kan_base(&k.b, 0, best) + s * H];
        train(&one, x, 400, 0.02f, 0.0f);
        CHECK(norm[best] > 1.7f * next);   /* seeds 1 to 10: 3.4 to 14 times */
        CHECK(rmse(&one, x, ROWS) < 0.16); /* 0.029 to 0.081, where values deviate by 1.4 */
    }
}

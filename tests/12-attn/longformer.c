/* @longformer */
#include "../test.h"

#include "../../llm.h"

#include "../arena.h"

enum { ARRAYS = 6 };

static llm_longformer_arrays arrays(float **x) {
    const llm_longformer_arrays a = {x[0], x[1], x[2], x[3], x[4], x[5]};
    return a;
}

/* Scratch exactly as the comments have it. */
static llm_arena scratch(const llm_longformer_config *c) {
    const size_t n = c->B * c->H * c->T;
    return test_arena((n + 15) / 16 * 64 + (2 * n * sizeof(size_t) + 63) / 64 * 64);
}

static void forward(float *out, float *lse, float **x, const llm_longformer_config *c) {
    const llm_longformer_arrays a = arrays(x);
    llm_arena arena = scratch(c);
    llm_longformer_forward(out, lse, &a, c, &arena);
    CHECK(arena.used == 0);
}
static void backward(float **dx, const float *dout, const float *out, const float *lse, float **x,
                     const llm_longformer_config *c) {
    const llm_longformer_arrays da = arrays(dx), a = arrays(x);
    llm_arena arena = scratch(c);
    llm_longformer_backward(&da, dout, out, lse, &a, c, &arena);
    CHECK(arena.used == 0);
}

TEST(longformer, "equals transformers' LongformerSelfAttention with global tokens and padding") {
    const size_t shapes[][5] = {{1, 1, 4, 1, 2}, {2, 2, 12, 2, 2}, {1, 2, 16, 2, 4}};
    const char *names[ARRAYS] = {"q", "k", "v", "global_q", "global_k", "global_v"};
    for (size_t s = 0; s < 3; s++) {
        const size_t *z = shapes[s], n = z[0] * z[1] * z[2] * z[3], T = z[2], D = z[3];
        llm_longformer_config c = llm_longformer_defaults(z[0], z[1], T, D, z[4]);
        char name[64];
        snprintf(name, sizeof name, "%zux%zux%zux%zux%zu", z[0], z[1], T, D, z[4]);
        float *x[ARRAYS], *dx[ARRAYS], *out = floats(n), *lse = floats(n / D);
        float *dout = golden("%s/dout", name);
        for (size_t a = 0; a < ARRAYS; a++) {
            x[a] = golden("%s/%s", name, names[a]);
            dx[a] = zeros(n);
        }
        c.is_global = as_bools(golden("%s/is_global", name), z[0] * T);
        c.hidden = as_bools(golden("%s/hidden", name), z[0] * T);
        for (size_t i = 0; i < n; i++) /* padding is not read */
            if (c.hidden[i / D / T / z[1] * T + i / D % T])
                for (size_t a = 0; a < ARRAYS; a++) x[a][i] = NAN;
        forward(out, lse, x, &c);
        CHECK_GOLDEN(out, n, 1e-6f, "%s/out", name);
        for (size_t i = 0; i < n; i++)
            if (c.hidden[i / D / T / z[1] * T + i / D % T]) {
                CHECK(lse[i / D] == -INFINITY);
                dout[i] = NAN;
            }
        backward(dx, dout, out, lse, x, &c);
        for (size_t a = 0; a < ARRAYS; a++) CHECK_GOLDEN(dx[a], n, 4e-6f, "%s/d%s", name, names[a]);
        for (size_t a = 0; a < ARRAYS; a++) /* they accumulate */
            for (size_t i = 0; i < n; i++) dx[a][i] += 1.0f;
        backward(dx, dout, out, lse, x, &c);
        for (size_t a = 0; a < ARRAYS; a++)
            for (size_t i = 0; i < n; i++)
                CHECK_NEAR(dx[a][i], 1.0f + 2.0f * golden("%s/d%s", name, names[a])[i], 2e-5);
    }
}

/* The rule, pair by pair. */
static bool sees(size_t b, size_t h, size_t i, size_t j, const llm_longformer_config *c) {
    const size_t step = c->dilation ? c->dilation[h] : 1, far = i > j ? i - j : j - i;
    if (c->hidden && (c->hidden[b * c->T + i] || c->hidden[b * c->T + j])) return false;
    if (c->is_global && (c->is_global[b * c->T + i] || c->is_global[b * c->T + j])) return true;
    return far % step == 0 && far / step <= c->side;
}

TEST(longformer,
     "keys are those of the rule, once each and ascending: dilation, globals, padding") {
    llm_rng rng = llm_rng_seed(1);
    for (size_t trial = 0; trial < 300; trial++) {
        const size_t T = 1 + llm_rng_below(&rng, 13);
        const size_t dilation[2] = {1 + llm_rng_below(&rng, 3), 1 + llm_rng_below(&rng, 20)};
        llm_longformer_config c = llm_longformer_defaults(2, 2, T, 1, llm_rng_below(&rng, 5));
        bool *global = bools(2 * T), *hidden = bools(2 * T);
        size_t *index = as_sizes(zeros(T), T), *list = as_sizes(zeros(T), T);
        for (size_t t = 0; t < 2 * T; t++) {
            global[t] = llm_rng_below(&rng, 4) == 0;
            hidden[t] = llm_rng_below(&rng, 5) == 0;
        }
        c.dilation = trial % 3 ? dilation : NULL;
        c.is_global = trial % 2 ? global : NULL;
        c.hidden = trial % 5 < 2 ? hidden : NULL;
        for (size_t b = 0; b < 2; b++) {
            const size_t globals = llm_longformer_list(list, b, &c);
            for (size_t h = 0; h < 2; h++)
                for (size_t i = 0; i < T; i++) {
                    const size_t n = llm_longformer_keys(index, b, h, i, list, globals, &c);
                    size_t at = 0;
                    for (size_t j = 0; j < T; j++) {
                        if (!sees(b, h, i, j, &c)) continue;
                        CHECK(at < n && index[at] == j);
                        at++;
                    }
                    CHECK(at == n);
                }
        }
    }
}

TEST(longformer, "a window alone is @sliding_window for encoders; gradients too") {
    enum { B = 2, H = 2, T = 21, D = 3, SIDE = 4, N = B * H * T * D };
    float *x[ARRAYS], *dx[ARRAYS], *out = floats(N), *want = floats(N), *dout = floats(N);
    float lse[N / D], want_lse[N / D], *dq = zeros(N), *dk = zeros(N), *dv = zeros(N);
    llm_rng rng = llm_rng_seed(2);
    for (size_t a = 0; a < ARRAYS; a++) {
        x[a] = a < 3 ? floats(N) : NULL;
        dx[a] = a < 3 ? zeros(N) : NULL;
        if (x[a]) llm_rng_normal_fill(&rng, x[a], N);
    }
    llm_rng_normal_fill(&rng, dout, N);
    const llm_longformer_config c = llm_longformer_defaults(B, H, T, D, SIDE);
    llm_sliding_window_config w = llm_sliding_window_defaults(B, H, H, T, D, SIDE + 1);
    llm_arena arena = test_arena(1 << 16);
    w.both = true;
    forward(out, lse, x, &c);
    llm_sliding_window_forward(want, want_lse, x[0], x[1], x[2], &w, &arena);
    CHECK_ALL_NEAR(out, want, N, 1e-6f);
    CHECK_ALL_NEAR(lse, want_lse, N / D, 1e-6f);
    backward(dx, dout, out, lse, x, &c);
    llm_sliding_window_backward(dq, dk, dv, dout, want, want_lse, x[0], x[1], x[2], &w, &arena);
    CHECK_ALL_NEAR(dx[0], dq, N, 4e-6f);
    CHECK_ALL_NEAR(dx[1], dk, N, 4e-6f);
    CHECK_ALL_NEAR(dx[2], dv, N, 4e-6f);
}

static double loss(float **x, const float *dout, const llm_longformer_config *c) {
    const size_t n = c->B * c->H * c->T * c->D;
    float *out = floats(n), *lse = floats(n / c->D);
    forward(out, lse, x, c);
    return dot(out, dout, n);
}

TEST(longformer, "gradients with dilated heads by finite differences") {
    enum { H = 2, T = 8, D = 2, N = H * T * D };
    const size_t dilation[H] = {2, 3};
    const bool global[T] = {false, true, false, false, false, false, true, false};
    const bool hidden[T] = {false, false, false, false, false, false, false, true};
    llm_longformer_config c = llm_longformer_defaults(1, H, T, D, 2);
    c.dilation = dilation, c.is_global = global, c.hidden = hidden;
    float *x[ARRAYS], *dx[ARRAYS], out[N], lse[H * T], dout[N];
    llm_rng rng = llm_rng_seed(3);
    for (size_t a = 0; a < ARRAYS; a++) {
        x[a] = floats(N);
        dx[a] = zeros(N);
        llm_rng_normal_fill(&rng, x[a], N);
    }
    llm_rng_normal_fill(&rng, dout, N);
    forward(out, lse, x, &c);
    backward(dx, dout, out, lse, x, &c);
    for (size_t a = 0; a < ARRAYS; a++) CHECK_GRAD(dx[a], x[a], N, 1e-2f, 2e-3f, loss(x, dout, &c));
}

TEST(longformer, "one token is its own value; a text of padding is 0") {
    float x[6][2] = {{1, 2}, {3, 4}, {5, 6}, {7, 8}, {9, 10}, {11, 12}}, out[2], lse;
    float *all[ARRAYS] = {x[0], x[1], x[2], x[3], x[4], x[5]};
    bool yes = true;
    llm_longformer_config c = llm_longformer_defaults(1, 1, 1, 2, 3);
    c.scale = 1.0f;
    forward(out, &lse, all, &c);
    CHECK(out[0] == 5 && out[1] == 6 && lse == 11);
    c.is_global = &yes;
    forward(out, &lse, all, &c);
    CHECK(out[0] == 11 && out[1] == 12 && lse == 7 * 9 + 8 * 10);
    c.hidden = &yes;
    forward(out, &lse, all, &c);
    CHECK(out[0] == 0 && out[1] == 0 && lse == -INFINITY);
}

/* How many steps from token 0 to the farthest one, along who sees whom. */
static size_t diameter_from_0(const llm_longformer_config *c) {
    const size_t T = c->T;
    size_t *index = as_sizes(zeros(T), T), *list = as_sizes(zeros(T), T);
    size_t *steps = as_sizes(zeros(T), T), *queue = as_sizes(zeros(T), T), n = 1;
    bool *reached = bools(T);
    const size_t globals = llm_longformer_list(list, 0, c);
    reached[0] = true;
    for (size_t at = 0; at < n; at++) {
        const size_t count = llm_longformer_keys(index, 0, 0, queue[at], list, globals, c);
        for (size_t j = 0; j < count; j++)
            if (!reached[index[j]]) {
                reached[index[j]] = true;
                steps[index[j]] = steps[queue[at]] + 1;
                queue[n++] = index[j];
            }
    }
    CHECK(n == T);
    return steps[queue[n - 1]];
}

TEST(longformer, "scores grow with T alone; one global token makes every way two steps long") {
    size_t scores[2];
    for (size_t big = 0; big < 2; big++) {
        const size_t T = big ? 2048 : 1024, side = 16;
        llm_longformer_config c = llm_longformer_defaults(1, 1, T, 1, side);
        CHECK(diameter_from_0(&c) == (T - 1 + side - 1) / side);
        bool *global = bools(T);
        global[T / 3] = true;
        c.is_global = global;
        CHECK(diameter_from_0(&c) == 2);
        size_t *index = as_sizes(zeros(T), T), *list = as_sizes(zeros(T), T);
        const size_t globals = llm_longformer_list(list, 0, &c);
        scores[big] = 0;
        for (size_t i = 0; i < T; i++)
            scores[big] += llm_longformer_keys(index, 0, 0, i, list, globals, &c);
        /* the windows, less what the two ends lack; the global column and row, less their window */
        CHECK(scores[big] == T * (2 * side + 1) - side * (side + 1) + 2 * (T - 2 * side - 1));
    }
    CHECK_NEAR((double)scores[1] / (double)scores[0], 2.0, 0.05);
}

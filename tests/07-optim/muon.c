/* @muon */
#include "../test.h"

#include "../../llm.h"
#include "../arena.h"

static llm_muon_config mu_config(const float *f) {
    llm_muon_config c;
    c.lr = f[0], c.momentum = f[1], c.weight_decay = f[2], c.a = f[3], c.b = f[4], c.c = f[5];
    c.eps = f[6], c.rounds = (size_t)f[7], c.scale = (int)f[8], c.nesterov = f[9] != 0.0f;
    return c;
}

TEST(muon, "50 steps equal torch.optim.Muon: tall, wide, all scales, with and without Nesterov") {
    const char *names[] = {"wide", "tall", "adamw", "spectral", "cubic", "one"};
    llm_arena arena = test_arena(1 << 19);
    for (size_t k = 0; k < 6; k++) {
        const llm_muon_config c = mu_config(golden("%s/config", names[k]));
        const size_t *shape = as_sizes(golden("%s/shape", names[k]), 2);
        const size_t rows = shape[0], cols = shape[1], n = rows * cols;
        const float *g = golden("%s/g", names[k]), *w0 = golden("%s/w0", names[k]);
        float *w = floats(n), *m = zeros(n), *path = floats(4 * n), *at = path;
        memcpy(w, w0, n * sizeof(float));
        for (size_t t = 1; t <= 50; t++) {
            llm_muon_step(w, m, g + (t - 1) % 5 * n, rows, cols, &c, &arena);
            if (t != 1 && t != 2 && t != 10 && t != 50) continue;
            memcpy(at, w, n * sizeof(float));
            at += n;
        }
        /* five rounds multiply small singular values, and their rounding, by up to 3.44^5 = 485 */
        CHECK_GOLDEN(path, 4 * n, 2e-5f, "%s/w", names[k]);
        CHECK_GOLDEN(m, n, 1e-6f, "%s/m", names[k]);
        CHECK(arena.used == 0);
    }
    const llm_muon_config c = llm_muon_defaults(), d = mu_config(golden("wide/config"));
    CHECK(c.lr == d.lr && c.momentum == d.momentum && c.weight_decay == d.weight_decay);
    CHECK(c.a == d.a && c.b == d.b && c.c == d.c && c.eps == d.eps && c.rounds == d.rounds);
    CHECK(c.scale == d.scale && c.nesterov == d.nesterov);
}

TEST(muon, "the orthogonalized matrix equals optax.contrib.muon's, also in place") {
    const size_t shapes[4][2] = {{4, 9}, {9, 4}, {1, 3}, {5, 5}};
    const llm_muon_config c = llm_muon_defaults();
    llm_arena arena = test_arena(1 << 19);
    for (size_t s = 0; s < 4; s++) {
        const size_t rows = shapes[s][0], cols = shapes[s][1];
        float *u = golden("%zux%zu/u", rows, cols), *x = floats(rows * cols);
        llm_muon_orthogonalize(x, u, rows, cols, &c, &arena);
        CHECK_GOLDEN(x, rows * cols, 1e-5f, "%zux%zu/x", rows, cols);
        llm_muon_orthogonalize(u, u, rows, cols, &c, &arena);
        CHECK_ALL_NEAR(u, x, rows * cols, 0.0f);
    }
}

TEST(muon, "five rounds put every singular value from 0.01 up between 0.68 and 1.14") {
    const llm_muon_config c = llm_muon_defaults();
    llm_arena arena = test_arena(1 << 19);
    float least = INFINITY, most = 0.0f;
    for (size_t k = 0; k <= 2000; k++) { /* diag(cos, sin) has Frobenius norm 1 */
        const float small = 0.01f * powf(100.0f / sqrtf(2.0f), (float)k / 2000.0f);
        const float u[4] = {sqrtf(1.0f - small * small), 0.0f, 0.0f, small};
        float x[4];
        llm_muon_orthogonalize(x, u, 2, 2, &c, &arena);
        CHECK(x[1] == 0.0f && x[2] == 0.0f);
        least = fminf(least, fminf(x[0], x[3]));
        most = fmaxf(most, fmaxf(x[0], x[3]));
    }
    CHECK(least > 0.68f && least < 0.69f);
    CHECK(most > 1.13f && most < 1.14f);
}

/* q (n,n) orthogonal: the left vectors of noise. */
static void mu_rotation(float *q, size_t n, llm_rng *rng, llm_arena *arena) {
    float *g = floats(n * n), *s = floats(n);
    llm_rng_normal_fill(rng, g, n * n);
    llm_svd(q, s, NULL, g, n, n, arena);
}

TEST(muon, "singular vectors stay; 20 cubic rounds give the polar factor; rotations commute") {
    enum { R = 5, C = 7 };
    llm_rng rng = llm_rng_seed(4);
    llm_arena arena = test_arena(1 << 19);
    llm_muon_config c = llm_muon_defaults();
    for (size_t trial = 0; trial < 5; trial++) {
        float g[R * C], u[R * R], s[R], v[C * R], x[R * C], polar[R * C], left[R * R], right[C * C];
        float turned[R * C] = {0.0f}, want[R * C] = {0.0f}, half[R * C] = {0.0f},
                         core[R * R] = {0.0f};
        llm_rng_normal_fill(&rng, g, R * C);
        llm_svd(u, s, v, g, R, C, &arena);

        c = llm_muon_defaults();
        llm_muon_orthogonalize(x, g, R, C, &c, &arena);
        for (size_t i = 0; i < R; i++) /* core = U' X V */
            for (size_t j = 0; j < R; j++)
                for (size_t a = 0; a < R; a++)
                    for (size_t b = 0; b < C; b++)
                        core[i * R + j] += u[a * R + i] * x[a * C + b] * v[b * R + j];
        for (size_t k = 0; k < R * R; k++)
            if (k / R != k % R) CHECK_NEAR(core[k], 0.0f, 1e-5f);

        mu_rotation(left, R, &rng, &arena);
        mu_rotation(right, C, &rng, &arena);
        llm_gemm(half, left, false, g, false, R, C, R);
        llm_gemm(turned, half, false, right, false, R, C, C);
        memset(half, 0, sizeof half);
        llm_gemm(half, left, false, x, false, R, C, R);
        llm_gemm(want, half, false, right, false, R, C, C);
        llm_muon_orthogonalize(turned, turned, R, C, &c, &arena);
        CHECK_ALL_NEAR(turned, want, R * C, 2e-5f);

        c.a = 1.5f, c.b = -0.5f, c.c = 0.0f, c.rounds = 20;
        llm_muon_orthogonalize(x, g, R, C, &c, &arena);
        llm_muon_polar(polar, g, R, C, &arena);
        CHECK_ALL_NEAR(x, polar, R * C, 1e-5f);
        CHECK(arena.used == 0);
    }
}

TEST(muon, "of all 2 x 2 matrices that stretch by at most 1, the polar factor descends most") {
    llm_rng rng = llm_rng_seed(5);
    llm_arena arena = test_arena(1 << 19);
    for (size_t trial = 0; trial < 20; trial++) {
        float g[4], x[4];
        double best = 0.0;
        llm_rng_normal_fill(&rng, g, 4);
        llm_muon_polar(x, g, 2, 2, &arena);
        for (size_t k = 0; k < 20000; k++) { /* turns and mirrors: the corners of the set */
            const double angle = 2.0 * (double)LLM_PI * (double)(k / 2) / 10000.0;
            const double sign = k % 2 ? -1.0 : 1.0, co = cos(angle), si = sin(angle);
            best = fmax(best, (double)g[0] * co - (double)g[1] * sign * si + (double)g[2] * si +
                                  (double)g[3] * sign * co);
        }
        CHECK_NEAR(dot(g, x, 4), best, 1e-6 * best);
    }
    float g[6] = {3.0f, 0.0f, 0.0f, 4.0f, 0.0f, 0.0f}, x[6], want[6] = {0.6f, 0, 0, 0.8f, 0, 0};
    llm_muon_polar(x, g, 2, 3, &arena); /* rank 1: the other direction stays 0 */
    CHECK_ALL_NEAR(x, want, 6, 1e-6f);
    llm_muon_polar(x, g, 3, 2, &arena); /* rows (3,0), (0,4), (0,0): already apart */
    const float apart[6] = {1.0f, 0.0f, 0.0f, 1.0f, 0.0f, 0.0f};
    CHECK_ALL_NEAR(x, apart, 6, 1e-6f);
}

TEST(muon, "no gradient, no step but the decay; the classical momentum is the same step") {
    enum { R = 3, C = 4, N = R * C };
    llm_arena arena = test_arena(1 << 19);
    llm_rng rng = llm_rng_seed(6);
    llm_muon_config c = llm_muon_defaults();
    float w[N], m[N] = {0.0f}, zero[N] = {0.0f}, other[N], classic[N] = {0.0f}, g[N];
    for (size_t k = 0; k < N; k++) w[k] = 1.0f;
    c.lr = 0.5f, c.weight_decay = 0.2f;
    llm_muon_step(w, m, zero, R, C, &c, &arena);
    for (size_t k = 0; k < N; k++) CHECK(w[k] == 0.9f && m[k] == 0.0f);
    llm_muon_step(NULL, NULL, NULL, 0, 3, &c, &arena);

    c.weight_decay = 0.0f;
    memcpy(other, w, sizeof w);
    for (size_t t = 0; t < 10; t++) { /* m <- mu m + g, u = g + mu m */
        float u[N];
        llm_rng_normal_fill(&rng, g, N);
        llm_muon_step(w, m, g, R, C, &c, &arena);
        for (size_t k = 0; k < N; k++) {
            classic[k] = c.momentum * classic[k] + g[k];
            u[k] = g[k] + c.momentum * classic[k];
        }
        llm_muon_orthogonalize(u, u, R, C, &c, &arena);
        for (size_t k = 0; k < N; k++) other[k] -= c.lr * u[k];
        CHECK_ALL_NEAR(w, other, N, 2e-4f);
    }
}

TEST(muon, "matrices inside get Muon, the rest AdamW, each in its place") {
    const llm_muon_part part[4] = {{1, 3, false}, {3, 2, true}, {2, 2, false}, {1, 4, true}};
    enum { N = 3 + 6 + 4 + 4 };
    llm_arena arena = test_arena(1 << 19);
    llm_rng rng = llm_rng_seed(7);
    const llm_muon_config c = llm_muon_defaults();
    const llm_adamw_config a = llm_adamw_defaults();
    float w[N], want[N], m[N] = {0.0f}, v[N], wm[N] = {0.0f}, wv[N] = {0.0f}, g[N];
    llm_rng_normal_fill(&rng, w, N);
    memcpy(want, w, sizeof w);
    for (size_t k = 0; k < N; k++) v[k] = (k >= 3 && k < 9) || k >= 13 ? NAN : 0.0f;
    for (size_t t = 1; t <= 3; t++) {
        llm_rng_normal_fill(&rng, g, N);
        llm_muon_step_parts(w, m, v, g, part, 4, &c, &a, t, &arena);
        llm_adamw_step(want, wm, wv, g, 3, &a, t);
        llm_muon_step(want + 3, wm + 3, g + 3, 3, 2, &c, &arena);
        llm_adamw_step(want + 9, wm + 9, wv + 9, g + 9, 4, &a, t);
        llm_muon_step(want + 13, wm + 13, g + 13, 1, 4, &c, &arena);
        CHECK_ALL_NEAR(w, want, N, 0.0f);
        CHECK_ALL_NEAR(m, wm, N, 0.0f);
    }
}

/* Steps on batches of 64 glyphs until the loss on 300 others is below 0.8; 300 at most. A net of
 * 64-32-32-10; Muon for the two hidden matrices, AdamW (lr 0.003) for the rest. */
static size_t mu_steps(bool muon, float lr, uint64_t seed) {
    enum { B = 64, TEST = 300, MOST = 300 };
    static const size_t size[4] = {64, 32, 32, 10};
    const llm_muon_part part[6] = {{32, 64, true}, {1, 32, false},  {32, 32, true},
                                   {1, 32, false}, {10, 32, false}, {1, 10, false}};
    const llm_mlp net = {size, 3, LLM_ACTIVATION_RELU, LLM_OUTPUT_LAYER_SOFTMAX};
    const size_t P = llm_mlp_param_count(&net);
    float *w = floats(P), *m = zeros(P), *v = zeros(P), *g = floats(P);
    float *x = floats(B * 64), *x_test = floats(TEST * 64);
    int label[B], label_test[TEST];
    llm_rng rng = llm_rng_seed(seed);
    llm_arena arena = test_arena(1 << 19);
    llm_muon_config c = llm_muon_defaults();
    llm_adamw_config a = llm_adamw_defaults();
    c.lr = lr, a.lr = muon ? 0.003f : lr, c.weight_decay = a.weight_decay = 0.0f;
    llm_mlp_init(w, &net, &rng);
    llm_glyphs(x_test, label_test, TEST, 1.0f, 0.3f, &rng);
    for (size_t t = 1; t <= MOST; t++) {
        llm_glyphs(x, label, B, 1.0f, 0.3f, &rng);
        memset(g, 0, P * sizeof(float));
        llm_mlp_gradient(g, &net, w, x, label, NULL, B, &arena);
        if (muon)
            llm_muon_step_parts(w, m, v, g, part, 6, &c, &a, t, &arena);
        else
            llm_adamw_step(w, m, v, g, P, &a, t);
        if (t % 5 == 0 &&
            llm_mlp_gradient(NULL, &net, w, x_test, label_test, NULL, TEST, &arena) < 0.8)
            return t;
    }
    return MOST;
}

TEST(muon, "glyphs: Muon needs fewer steps than the better of two AdamW's, for each of 5 seeds") {
    /* AdamW's rates are the best of 0.001 to 0.03 on other seeds, Muon's of 0.01 to 0.1. On 80
     * further seeds in sets of 10 it won 80 times, with 0.47 to 0.58 of the steps in the mean of a
     * set. */
    double share = 0.0;
    for (uint64_t seed = 1; seed <= 5; seed++) {
        const size_t slow = mu_steps(false, 0.01f, seed), fast = mu_steps(false, 0.03f, seed);
        const size_t best = slow < fast ? slow : fast, muon = mu_steps(true, 0.05f, seed);
        CHECK(muon < best);
        share += (double)muon / (double)best / 5.0;
    }
    CHECK(share < 0.78);
}

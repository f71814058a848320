/* @attn_weights */
#include "../test.h"

#include "../../llm.h"

static const size_t attn_weights_shapes[3][4] = {{1, 1, 1, 1}, {2, 2, 3, 5}, {1, 3, 2, 17}};
static const float attn_weights_temps[3] = {1.0f, 0.5f, 2.0f};
static const char *attn_weights_names[3] = {"plain", "sink", "one"};

TEST(attn_weights,
     "weights, outputs and gradients equal PyTorch: plain, learned sink, off by one") {
    enum { D = 3 };
    for (size_t k = 0; k < 9; k++) {
        const size_t *shape = attn_weights_shapes[k / 3], H = shape[1], Tk = shape[3];
        const size_t rows = shape[0] * H * shape[2], n = rows * Tk;
        llm_attn_weights_config c = llm_attn_weights_defaults(shape[0], H, shape[2], Tk);
        c.temp = attn_weights_temps[k / 3];
        char at[32], name[64];
        snprintf(at, sizeof at, "%zux%zux%zux%zu", shape[0], H, shape[2], Tk);
        snprintf(name, sizeof name, "%s/%s", at, attn_weights_names[k % 3]);
        const float *s = golden("%s/s", at), *v = golden("%s/v", at), *go = golden("%s/do", at);
        const float *sink = k % 3 == 0 ? NULL : k % 3 == 1 ? golden("%s/sink", at) : zeros(H);
        float *p = floats(n), *lse = floats(rows), *out = zeros(rows * D), *dw = zeros(n);
        float *ds = zeros(n), *again = zeros(n), *delta = floats(rows), *dsink = zeros(H);
        llm_arena none = {0};

        llm_attn_weights_forward(p, p, lse, s, sink, &c);
        CHECK_GOLDEN(p, n, 1e-6f, "%s/p", name);
        CHECK_GOLDEN(lse, rows, 1e-6f, "%s/lse", name);
        for (size_t r = 0; r < rows; r += c.Tq) {
            const float *vr = v + r / c.Tq * Tk * D;
            llm_gemm(out + r * D, p + r * Tk, false, vr, false, c.Tq, D, Tk);
            llm_gemm(dw + r * Tk, go + r * D, false, vr, true, c.Tq, Tk, D);
        }
        CHECK_GOLDEN(out, rows * D, 1e-6f, "%s/out", name);
        llm_attn_weights_delta(delta, go, out, rows, D);
        for (size_t r = 0; r < rows; r++)
            CHECK_NEAR(delta[r], dot(p + r * Tk, dw + r * Tk, Tk), 2e-6);
        llm_attn_weights_backward(ds, k % 3 == 1 ? dsink : NULL, dw, p, lse, sink, NULL, &c, &none);
        CHECK_GOLDEN(ds, n, 2e-6f, "%s/ds", name);
        if (k % 3 == 1) CHECK_GOLDEN(dsink, H, 2e-6f, "%s/dsink", name);
        for (size_t i = 0; i < n; i++) again[i] = 1.0f; /* the second way, and += */
        for (size_t h = 0; h < H; h++) dsink[h] = 1.0f - dsink[h];
        llm_attn_weights_backward(again, k % 3 == 1 ? dsink : NULL, dw, p, lse, sink, delta, &c,
                                  &none);
        for (size_t i = 0; i < n; i++) again[i] -= 1.0f;
        CHECK_GOLDEN(again, n, 2e-6f, "%s/ds", name);
        for (size_t h = 0; h < H && k % 3 == 1; h++) CHECK_NEAR(dsink[h], 1.0, 3e-6);
        if (k % 3 == 0) memcpy(p, s, n * sizeof(float));
        if (k % 3 == 0) llm_attn_weights_forward(p, p, lse, p, sink, &c); /* in place */
        CHECK_GOLDEN(p, n, 1e-6f, "%s/p", name);
        if (k % 3 != 2) continue;
        llm_attn_weights_stats stats[3];
        float entropy[3], keys[3], span[3];
        llm_attn_weights_measure(stats, p, 2, &c);
        for (size_t h = 0; h < H; h++) {
            entropy[h] = (float)stats[h].entropy, keys[h] = (float)stats[h].keys;
            span[h] = (float)stats[h].span;
        }
        CHECK_GOLDEN(entropy, H, 1e-6f, "%s/entropy", at);
        CHECK_GOLDEN(keys, H, 1e-6f, "%s/keys", at);
        CHECK_GOLDEN(span, H, 1e-6f, "%s/span", at);
    }
}

static double attn_weights_loss(const float *s, const float *sink, const float *dw,
                                const llm_attn_weights_config *c) {
    double loss = 0.0;
    for (size_t r = 0; r < c->B * c->H * c->Tq; r++) {
        double sum = exp((double)sink[r / c->Tq % c->H]), paid = 0.0;
        for (size_t j = r * c->Tk; j < (r + 1) * c->Tk; j++) {
            const double e = exp((double)s[j] / (double)c->temp);
            sum += e;
            const float scale = llm_dropout_scale(c->dropout, c->seed, c->offset + j);
            if (scale != 0.0f) paid += e * (double)scale * (double)dw[j];
        }
        loss += paid / sum;
    }
    return loss;
}

TEST(attn_weights, "with dropout: backward equals finite differences of the same mask") {
    llm_attn_weights_config c = llm_attn_weights_defaults(2, 2, 3, 5);
    enum { N = 60, ROWS = 12, D = 4 };
    c.temp = 0.7f, c.dropout = 0.4f, c.seed = 9, c.offset = 3;
    float s[N], sink[2], dw[N], w[N], p[N], lse[ROWS], ds[N] = {0}, dsink[2] = {0};
    llm_rng rng = llm_rng_seed(5);
    llm_rng_normal_fill(&rng, s, N);
    llm_rng_normal_fill(&rng, sink, 2);
    llm_rng_normal_fill(&rng, dw, N);
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 64 * 4));
    llm_attn_weights_forward(w, p, lse, s, sink, &c);
    size_t dropped = 0;
    for (size_t i = 0; i < N; i++) {
        const float scale = llm_dropout_scale(c.dropout, c.seed, c.offset + i);
        CHECK_NEAR(w[i], scale * p[i], 1e-7);
        if (scale == 0.0f) dw[i] = NAN, dropped++; /* not read */
    }
    CHECK(dropped > 10 && dropped < 40);
    llm_attn_weights_backward(ds, dsink, dw, p, lse, sink, NULL, &c, &arena);
    CHECK(arena.used == 0 && arena.peak == arena.size);
    CHECK_GRAD(ds, s, N, 1e-2f, 2e-4f, attn_weights_loss(s, sink, dw, &c));
    CHECK_GRAD(dsink, sink, 2, 1e-2f, 2e-4f, attn_weights_loss(s, sink, dw, &c));
    llm_arena_destroy(&arena);

    /* delta from the output is the same number, dropout or not */
    float v[5 * D], go[ROWS * D], out[ROWS * D] = {0}, grad[N] = {0}, delta[ROWS];
    llm_rng_normal_fill(&rng, v, 5 * D);
    llm_rng_normal_fill(&rng, go, ROWS * D);
    llm_gemm(out, w, false, v, false, ROWS, D, 5);
    llm_gemm(grad, go, false, v, true, ROWS, 5, D);
    llm_attn_weights_delta(delta, go, out, ROWS, D);
    for (size_t r = 0; r < ROWS; r++) {
        double sum = 0.0;
        for (size_t j = r * 5; j < r * 5 + 5; j++)
            sum += (double)(p[j] * llm_dropout_scale(c.dropout, c.seed, c.offset + j)) *
                   (double)grad[j];
        CHECK_NEAR(delta[r], sum, 2e-6);
    }
}

TEST(attn_weights,
     "dropout keeps the mean of every weight; a constant changes only rows with a sink") {
    enum { N = 7, ROUNDS = 4000 };
    llm_attn_weights_config c = llm_attn_weights_defaults(1, 1, 1, N);
    float s[N], moved[N], w[N], p[N], q[N], lse, sink[1] = {0.0f};
    double mean[N] = {0};
    llm_rng rng = llm_rng_seed(2);
    llm_rng_normal_fill(&rng, s, N);
    c.dropout = 0.3f, c.seed = 77;
    for (size_t r = 0; r < ROUNDS; r++) {
        c.offset = r * N;
        llm_attn_weights_forward(w, p, &lse, s, NULL, &c);
        for (size_t j = 0; j < N; j++) mean[j] += (double)w[j] / ROUNDS;
    }
    for (size_t j = 0; j < N; j++) { /* variance of a weight: p^2 0.3/0.7 */
        CHECK_NEAR(mean[j], p[j], 3.0 * (double)p[j] * sqrt(0.3 / 0.7 / ROUNDS));
        moved[j] = s[j] + 2.0f;
    }
    c.dropout = 0.0f;
    llm_attn_weights_forward(q, q, &lse, moved, NULL, &c);
    CHECK_ALL_NEAR(q, p, N, 1e-6f);
    llm_attn_weights_forward(p, p, &lse, s, sink, &c);
    llm_attn_weights_forward(q, q, &lse, moved, sink, &c);
    double before = 0.0, after = 0.0;
    for (size_t j = 0; j < N; j++) before += (double)p[j], after += (double)q[j];
    CHECK(before < 0.99 && after > before + 0.01 && after < 1.0);
    CHECK_NEAR(1.0 - after, exp(-(double)lse), 1e-6); /* the rest is the sink's */
}

TEST(attn_weights, "logits of 1e4, sinks far above or below, masked rows") {
    const float s[9] = {1e4f,      -1e4f,     9999.0f,   -INFINITY, 0.0f,
                        -INFINITY, -INFINITY, -INFINITY, -INFINITY};
    llm_attn_weights_config c = llm_attn_weights_defaults(1, 1, 3, 3);
    float p[9], lse[3], ds[9] = {0}, dsink[1] = {0.0f};
    const float dw[9] = {1, 2, 3, 4, 5, 6, 7, 8, 9};
    llm_arena none = {0};
    llm_attn_weights_forward(p, p, lse, s, NULL, &c);
    CHECK_NEAR(p[0], 1.0 / (1.0 + exp(-1.0)), 1e-6);
    CHECK(p[1] == 0.0f && p[3] == 0.0f && p[4] == 1.0f && p[6] == 0.0f && p[8] == 0.0f);
    CHECK(lse[1] == 0.0f && lse[2] == -INFINITY);
    llm_attn_weights_backward(ds, NULL, dw, p, lse, NULL, NULL, &c, &none);
    CHECK_NEAR(ds[0], -2.0 * (double)p[0] * (double)p[2], 1e-6);
    for (size_t j = 3; j < 9; j++) CHECK(ds[j] == 0.0f);
    for (int far = 0; far < 2; far++) {
        const float sink[1] = {far ? 1e4f : -1e4f};
        llm_attn_weights_forward(p, p, lse, s, sink, &c);
        CHECK_NEAR(p[4], far ? 0.0 : 1.0, 0.0);
        CHECK(p[6] == 0.0f && lse[2] == sink[0]); /* a masked row belongs to the sink */
        if (far) CHECK_NEAR(p[0], 1.0 / (2.0 + exp(-1.0)), 1e-6);
        llm_attn_weights_backward(ds, dsink, dw, p, lse, sink, NULL, &c, &none);
        CHECK(isfinite(dsink[0]));
    }
    llm_attn_weights_stats stats;
    llm_attn_weights_forward(p, p, lse, s, NULL, &c);
    llm_attn_weights_measure(&stats, p, 0, &c); /* the masked third row is left out */
    const double q = (double)p[0], h = -q * log(q) - (1.0 - q) * log(1.0 - q);
    CHECK_NEAR(stats.entropy, h / 2.0, 1e-6);
    CHECK_NEAR(stats.keys, (exp(h) + 1.0) / 2.0, 1e-6);
    CHECK_NEAR(stats.span, (2.0 * (1.0 - q) + 0.0) / 2.0, 1e-6);
    llm_attn_weights_measure(&stats, zeros(9), 0, &c);
    CHECK(stats.entropy == 0.0 && stats.keys == 0.0 && stats.span == 0.0);

    c.temp = 0.3f; /* gaps are divided, not logits: 1e4/0.3 has no digits left for 1/64 */
    const float near[9] = {1e4f, 1e4f + 1.0f / 64.0f, 1e4f - 1.0f};
    llm_attn_weights_forward(p, p, lse, near, NULL, &c);
    CHECK_NEAR(log((double)p[1] / (double)p[0]), 1.0 / 64.0 / 0.3, 1e-6);
    CHECK_NEAR(log((double)p[0] / (double)p[2]), 1.0 / 0.3, 1e-6);

    float w[9];
    c.dropout = 0.5f;
    CHECK_ASSERTS(llm_attn_weights_forward(p, p, lse, s, NULL, &c));
    llm_attn_weights_forward(w, p, lse, s, NULL, &c);
    c.dropout = 0.0f, c.temp = FLT_MIN; /* the least that is allowed: the largest takes all */
    const float small[9] = {0.5f, 1.0f, -1.0f};
    llm_attn_weights_forward(p, p, lse, small, NULL, &c);
    CHECK(p[0] == 0.0f && p[1] == 1.0f && p[2] == 0.0f);
    c.temp = 0.0f;
    CHECK_ASSERTS(llm_attn_weights_forward(p, p, lse, s, NULL, &c));
    const llm_attn_weights_config d = llm_attn_weights_defaults(4, 3, 2, 1);
    CHECK(d.B == 4 && d.H == 3 && d.Tq == 2 && d.Tk == 1 && d.temp == 1.0f && d.dropout == 0.0f);
    CHECK(d.seed == 0 && d.offset == 0);
}

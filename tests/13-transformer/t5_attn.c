/* @t5_attn */
#include "../test.h"

#include "../../llm.h"

#include "../arena.h"

enum { B = 2, T = 3, S = 4, C = 5, H = 2, D = 3, HD = H * D, MOST = 4 };

/* norm, q, k, v, o in one vector. */
enum { COUNT = C + 4 * HD * C };
static llm_t5_attn_weights bound(float *w) {
    const llm_t5_attn_weights p = {w, w + C, w + C + HD * C, w + C + 2 * HD * C,
                                   w + C + 3 * HD * C};
    return p;
}
static const llm_t5_attn_config config = {C, H, D, 1e-6f};
static const bool hidden_mem[B * S] = {false, true, false, false, false, false, true, true};
static const bool hidden_self[B * T] = {false, false, true, false, false, false};

static float *draw(size_t n, float std, llm_rng *rng) {
    float *x = floats(n);
    llm_rng_normal_fill(rng, x, n);
    for (size_t i = 0; i < n; i++) x[i] *= std;
    return x;
}

TEST(t5_attn,
     "without a bias it is multi-head attention with queries times sqrt(D), behind a norm") {
    llm_rng rng = llm_rng_seed(1);
    for (size_t k = 0; k < 4; k++) { /* with a memory or not, causal or not */
        const bool cross = k % 2, causal = k / 2;
        const size_t keys = cross ? S : T;
        const bool *hidden = cross ? hidden_mem : hidden_self;
        float *w = draw(COUNT, 0.6f, &rng), *g = zeros(COUNT), *x = draw(B * T * C, 1.0f, &rng);
        float *mem = draw(B * S * C, 1.0f, &rng), *dy = draw(B * T * C, 1.0f, &rng);
        const llm_t5_attn_weights p = bound(w), dp = bound(g);
        llm_arena arena = test_arena(1 << 16);
        llm_t5_attn_acts a;
        const float *y = llm_t5_attn_forward(&a, x, cross ? mem : NULL, NULL, hidden, causal, B, T,
                                             keys, &p, &config, &arena);
        float d[B * T * C], *dmem = zeros(B * S * C);
        memcpy(d, dy, sizeof d);
        const size_t used = arena.used;
        llm_t5_attn_backward(d, cross ? dmem : NULL, NULL, &dp, &a, &p, &arena);
        CHECK(arena.used == used);

        /* the same by @rmsnorm and @mha */
        float in[B * T * C], rstd[B * T], *q = floats(HD * C), *want = floats(B * T * C);
        bool blocked[T * MOST];
        for (size_t i = 0; i < T * keys; i++) blocked[i] = causal && i % keys > i / keys;
        for (size_t i = 0; i < HD * C; i++) q[i] = sqrtf((float)D) * p.q[i];
        llm_mha_config m = llm_mha_defaults(B, T, HD, H);
        m.C = m.Ck = m.Cv = C, m.S = keys;
        float *gw = zeros(4 * HD * C), *norm = zeros(C), *din = zeros(B * T * C),
              *dm = zeros(B * S * C);
        const llm_mha_params mp = {q, p.k, p.v, p.o, NULL, NULL, NULL, NULL};
        const llm_mha_params mg = {gw,   gw + HD * C, gw + 2 * HD * C, gw + 3 * HD * C, NULL, NULL,
                                   NULL, NULL};
        llm_mha_saved saved = llm_mha_take(&m, &arena);
        llm_rmsnorm_forward(in, rstd, x, p.norm, B * T, C, 1e-6f);
        const float *from = cross ? mem : in;
        llm_mha_forward(want, &saved, in, from, from, &mp, hidden, blocked, &m, &arena);
        for (size_t i = 0; i < B * T * C; i++) want[i] += x[i];
        CHECK_ALL_NEAR(y, want, B * T * C, 5e-6f);
        float *dfrom = cross ? dm : din;
        llm_mha_backward(din, dfrom, dfrom, &mg, dy, &saved, &mp, &m, &arena);
        for (size_t i = 0; i < HD * C; i++) gw[i] *= sqrtf((float)D);
        memcpy(want, dy, sizeof d);
        llm_rmsnorm_backward(want, norm, din, x, p.norm, rstd, B * T, C);
        CHECK_ALL_NEAR(d, want, B * T * C, 2e-5f);
        CHECK_ALL_NEAR(dmem, dm, B * S * C, 1e-5f);
        CHECK_ALL_NEAR(g, norm, C, 2e-5f);
        CHECK_ALL_NEAR(g + C, gw, 4 * HD * C, 2e-5f);
    }
}

static double loss_of(const float *x, const llm_t5_attn_weights *p, const float *bias,
                      const float *r) {
    llm_arena arena = test_arena(1 << 14);
    llm_t5_attn_acts a;
    return dot(
        llm_t5_attn_forward(&a, x, NULL, bias, hidden_self, false, B, T, T, p, &config, &arena), r,
        B * T * C);
}

TEST(t5_attn, "finite differences with a bias: of it, the input and all weights") {
    llm_rng rng = llm_rng_seed(2);
    float *w = draw(COUNT, 0.6f, &rng), *g = zeros(COUNT), *x = draw(B * T * C, 1.0f, &rng);
    float *bias = draw(H * T * T, 1.0f, &rng), *dbias = zeros(H * T * T);
    float *r = draw(B * T * C, 1.0f, &rng), *d = floats(B * T * C);
    const llm_t5_attn_weights p = bound(w), dp = bound(g);
    llm_arena arena = test_arena(1 << 16);
    llm_t5_attn_acts a;
    llm_t5_attn_forward(&a, x, NULL, bias, hidden_self, false, B, T, T, &p, &config, &arena);
    memcpy(d, r, B * T * C * sizeof(float));
    llm_t5_attn_backward(d, NULL, dbias, &dp, &a, &p, &arena);
    CHECK_GRAD(d, x, (size_t)(B * T * C), 1e-2f, 5e-3f, loss_of(x, &p, bias, r));
    CHECK_GRAD(dbias, bias, (size_t)(H * T * T), 1e-2f, 3e-3f, loss_of(x, &p, bias, r));
    CHECK_GRAD(g, w, (size_t)COUNT, 1e-2f, 5e-3f, loss_of(x, &p, bias, r));
    /* adding one number to all of a query's scores changes nothing */
    float *moved = floats(H * T * T);
    for (size_t i = 0; i < H * T * T; i++) moved[i] = bias[i] + (float)(i / T);
    CHECK_NEAR(loss_of(x, &p, moved, r), loss_of(x, &p, bias, r), 1e-4);
}

TEST(t5_attn, "what is left in the arena is what is named") {
    enum { LONG = 40 };
    llm_rng rng = llm_rng_seed(3);
    const llm_t5_attn_weights p = bound(draw(COUNT, 0.6f, &rng));
    float *x = draw(B * LONG * C, 1.0f, &rng), *d = draw(B * LONG * C, 1.0f, &rng);
    const llm_t5_attn_weights dp = bound(zeros(COUNT));
    llm_arena arena = test_arena(1 << 18);
    llm_t5_attn_acts a;
    arena.peak = 0;
    llm_t5_attn_forward(&a, x, NULL, NULL, NULL, true, B, LONG, LONG, &p, &config, &arena);
    const size_t heads = B * LONG * HD, scores = B * H * LONG * LONG;
    const size_t left = B * LONG * LONG + 2 * arena_room(B * LONG * C) + arena_room(B * LONG) +
                        4 * arena_room(heads) + arena_room(scores);
    CHECK(arena.used == left && arena.peak == left + arena_room(heads));
    llm_t5_attn_backward(d, NULL, NULL, &dp, &a, &p, &arena);
    CHECK(arena.used == left);
    CHECK(arena.peak == left + arena_room(5 * heads) + arena_room(2 * scores) +
                            arena_room(B * LONG * C) + arena_room(heads));
}

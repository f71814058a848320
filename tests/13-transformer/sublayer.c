/* @sublayer */
#include "../test.h"

#include "../../llm.h"

#include "../arena.h"

enum { B = 2, T = 3, S = 4, C = 6, H = 3, F = 5, N = B * T };
static const char *const name[4] = {"post", "pre", "sandwich", "deepnorm"};

static llm_sublayer_config config(llm_prenorm_kind kind) {
    llm_sublayer_config c = llm_sublayer_defaults(2, C, H);
    c.hidden = F;
    c.norm = kind;
    return c;
}

/* Weights in flat and gradients of the same layout, of both kinds of sublayers. */
typedef struct {
    llm_sublayer_attn attn, dattn;
    llm_sublayer_mlp mlp, dmlp;
    float *w, *g;
    size_t count;
} layer;

static layer bound(float *w, const llm_sublayer_config *c, bool attn) {
    const size_t matrices = attn ? 4 * C * C : 2 * C * F;
    const size_t norms = (size_t)llm_sublayer_norm_in(c) + llm_sublayer_norm_out(c);
    layer s;
    s.count = matrices + (attn ? 4 * C : F + C) + 2 * norms * C;
    s.w = w ? w : floats(s.count), s.g = zeros(s.count);
    for (size_t k = 0; k < 2; k++) {
        float *matrix = k ? s.g : s.w, *vector = matrix + matrices;
        if (attn) llm_encoder_bind_attn(k ? &s.dattn : &s.attn, &matrix, &vector, c);
        if (!attn) llm_encoder_bind_mlp(k ? &s.dmlp : &s.mlp, &matrix, &vector, c);
        CHECK(matrix == (k ? s.g : s.w) + matrices && vector == (k ? s.g : s.w) + s.count);
    }
    return s;
}

TEST(sublayer,
     "values and gradients equal PyTorch: attention to a memory and an MLP, post and pre") {
    llm_sublayer_view v = llm_sublayer_look(B, T);
    v.S = S, v.mem = golden("in/mem");
    v.hidden = as_bools(golden("in/hidden"), B * S);
    v.blocked = as_bools(golden("in/blocked"), T * S);
    const float *x = golden("in/x");
    for (size_t k = 0; k < 4; k++) {
        const llm_sublayer_config c = config((llm_prenorm_kind)(k / 2));
        const bool attn = k % 2 == 0;
        const char *kind = name[k / 2], *f = attn ? "attn" : "mlp";
        layer s = bound(golden("%s_%s/weights", kind, f), &c, attn);
        float *d = golden("in/dy"), *dmem = zeros(B * S * C);
        llm_arena arena = test_arena(1 << 16);
        llm_sublayer_acts a;
        const float *y = attn ? llm_sublayer_attn_forward(&a, x, &v, &s.attn, &c, &arena)
                              : llm_sublayer_mlp_forward(&a, x, &v, &s.mlp, &c, &arena);
        CHECK_GOLDEN(y, N * C, 3e-6f, "%s_%s/y", kind, f);
        const size_t used = arena.used;
        if (attn) llm_sublayer_attn_backward(d, dmem, &s.dattn, &a, &s.attn, &c, &arena);
        if (!attn) llm_sublayer_mlp_backward(d, &s.dmlp, &a, &s.mlp, &c, &arena);
        CHECK(arena.used == used);
        /* sums of some 20 terms near 10 behind a norm */
        CHECK_GOLDEN(d, N * C, 1e-5f, "%s_%s/dx", kind, f);
        CHECK_GOLDEN(s.g, s.count, 1e-5f, "%s_%s/grads", kind, f);
        if (attn) CHECK_GOLDEN(dmem, B * S * C, 1e-5f, "%s_%s/dmem", kind, f);
    }
}

/* The loss of finite differences: r.y with self-attention, then an MLP. */
static double loss_of(const float *x, const layer *a, const layer *m, const llm_sublayer_config *c,
                      const float *r) {
    llm_arena arena = test_arena(1 << 15);
    llm_sublayer_view v = llm_sublayer_look(B, T);
    llm_sublayer_acts s1, s2;
    v.number = 3;
    const float *y = llm_sublayer_attn_forward(&s1, x, &v, &a->attn, c, &arena);
    v.number = 4;
    y = llm_sublayer_mlp_forward(&s2, y, &v, &m->mlp, c, &arena);
    return dot(y, r, N * C);
}

TEST(sublayer, "finite differences of all four frames with dropout, self-attention behind an MLP") {
    llm_rng rng = llm_rng_seed(7);
    for (size_t k = 0; k < 4; k++) {
        llm_sublayer_config c = config((llm_prenorm_kind)k);
        c.dropout = 0.3f, c.seed = 11, c.act = LLM_ACTIVATION_SILU;
        layer a = bound(NULL, &c, true), m = bound(NULL, &c, false);
        float *x = floats(N * C), *r = floats(N * C), *d = floats(N * C);
        llm_rng_normal_fill(&rng, x, N * C);
        llm_rng_normal_fill(&rng, r, N * C);
        llm_rng_normal_fill(&rng, a.w, a.count);
        llm_rng_normal_fill(&rng, m.w, m.count);
        for (size_t i = 0; i < a.count; i++) a.w[i] *= 0.5f;
        llm_arena arena = test_arena(1 << 16);
        llm_sublayer_view v = llm_sublayer_look(B, T);
        llm_sublayer_acts s1, s2;
        v.number = 3;
        const float *y = llm_sublayer_attn_forward(&s1, x, &v, &a.attn, &c, &arena);
        v.number = 4;
        llm_sublayer_mlp_forward(&s2, y, &v, &m.mlp, &c, &arena);
        memcpy(d, r, N * C * sizeof(float));
        llm_sublayer_mlp_backward(d, &m.dmlp, &s2, &m.mlp, &c, &arena);
        llm_sublayer_attn_backward(d, NULL, &a.dattn, &s1, &a.attn, &c, &arena);
        CHECK_GRAD(d, x, N * C, 1e-2f, 6e-3f, loss_of(x, &a, &m, &c, r));
        CHECK_GRAD(a.g, a.w, a.count, 1e-2f, 6e-3f, loss_of(x, &a, &m, &c, r));
        CHECK_GRAD(m.g, m.w, m.count, 1e-2f, 6e-3f, loss_of(x, &a, &m, &c, r));
    }
}

TEST(sublayer, "dropout: each number of f's output is gone or doubled, by number and seed; without "
               "it nothing is drawn") {
    llm_sublayer_config c = config(LLM_PRENORM_PRE);
    llm_rng rng = llm_rng_seed(5);
    layer m = bound(NULL, &c, false);
    float x[N * C], kept[3][N * C];
    llm_rng_normal_fill(&rng, x, N * C);
    llm_rng_normal_fill(&rng, m.w, m.count);
    llm_arena arena = test_arena(1 << 16);
    llm_sublayer_view v = llm_sublayer_look(B, T);
    llm_sublayer_acts s;
    const float *plain = llm_sublayer_mlp_forward(&s, x, &v, &m.mlp, &c, &arena);
    size_t dropped = 0;
    for (size_t k = 0; k < 3; k++) {
        v.number = k == 1, c.dropout = 0.5f, c.seed = k == 2;
        const float *y = llm_sublayer_mlp_forward(&s, x, &v, &m.mlp, &c, &arena);
        for (size_t i = 0; i < N * C; i++) {
            kept[k][i] = llm_dropout_scale(0.5f, c.seed, v.number * N * C + i);
            CHECK_NEAR(y[i] - x[i], kept[k][i] * (plain[i] - x[i]), 1e-5f);
            dropped += y[i] == x[i];
        }
    }
    CHECK(memcmp(kept[0], kept[1], sizeof kept[0]) != 0);
    CHECK(memcmp(kept[0], kept[2], sizeof kept[0]) != 0);
    CHECK(dropped > 27 && dropped < 81); /* of 108, half: five standard errors */
}

TEST(sublayer, "what is left in the arena is what is named") {
    enum { LONG = 30, M = B * LONG };
    const llm_sublayer_config c = config(LLM_PRENORM_SANDWICH);
    const layer a = bound(NULL, &c, true), m = bound(NULL, &c, false);
    llm_sublayer_view v = llm_sublayer_look(B, LONG);
    CHECK(v.B == B && v.T == LONG && v.S == LONG && v.number == 0);
    CHECK(!v.mem && !v.hidden && !v.blocked);
    v.S = S, v.mem = golden("in/mem");
    float *x = zeros(M * C);
    memset(a.w, 0, a.count * sizeof(float));
    memset(m.w, 0, m.count * sizeof(float));
    for (size_t k = 0; k < 2; k++) {
        llm_arena arena = test_arena(1 << 17);
        llm_sublayer_acts s;
        const size_t own =
            k ? 2 * arena_room(M * F)
              : arena_room(B * H * LONG * S) + 2 * arena_room(M * C) + 2 * arena_room(B * S * C);
        if (k == 0) llm_sublayer_attn_forward(&s, x, &v, &a.attn, &c, &arena);
        if (k == 1) llm_sublayer_mlp_forward(&s, x, &v, &m.mlp, &c, &arena);
        CHECK(arena.used == 3 * arena_room(M * C) + 4 * arena_room(M) + own);
    }
}

TEST(sublayer,
     "a query attends to its own text without a memory, and a norm stands where it should") {
    for (size_t k = 0; k < 4; k++) {
        const llm_sublayer_config c = config((llm_prenorm_kind)k);
        CHECK(llm_sublayer_norm_in(&c) == (k == 1 || k == 2));
        CHECK(llm_sublayer_norm_out(&c) == (k != 1));
        /* weights 0, gains 1: f is 0, and what is left is the frame */
        layer a = bound(NULL, &c, true);
        memset(a.w, 0, a.count * sizeof(float));
        llm_encoder_init_norm(&a.attn.norm, C);
        float x[C] = {3.0f, 5.0f, 5.0f, 3.0f, 3.0f, 5.0f}, want[C];
        llm_arena arena = test_arena(1 << 14);
        const llm_sublayer_view v = llm_sublayer_look(1, 1);
        llm_sublayer_acts s;
        const float *y = llm_sublayer_attn_forward(&s, x, &v, &a.attn, &c, &arena);
        for (size_t i = 0; i < C; i++) want[i] = k == 1 || k == 2 ? x[i] : x[i] - 4.0f;
        CHECK_ALL_NEAR(y, want, C, 1e-4f);
        CHECK(s.attn.key == s.in && s.x == x);
    }
    const llm_sublayer_config c = llm_sublayer_defaults(6, 512, 8);
    CHECK(c.layers == 6 && c.width == 512 && c.heads == 8 && c.hidden == 2048);
    CHECK(c.norm == LLM_PRENORM_POST && c.act == LLM_ACTIVATION_RELU && c.eps == 1e-5f);
    CHECK(c.dropout == 0.0f && c.seed == 0);
}

/* @transformer_attention */
#include "../test.h"

#include "../../llm.h"

#include "../arena.h"

enum { B = 2, T = 3, S = 4, C = 6, H = 4, D = 2, K = 2, HD = H * D };

typedef struct {
    llm_transformer_config c;
    llm_transformer_weights_attn w, g;
    float *flat, *grad, *x, *mem, *dy;
    size_t count;
} layer;

static float *draw(size_t n, float std, llm_rng *rng) {
    float *x = floats(n);
    llm_rng_normal_fill(rng, x, n);
    for (size_t i = 0; i < n; i++) x[i] *= std;
    return x;
}
static layer layer_of(size_t kv_heads, bool biases, bool rms, bool pre, uint64_t seed) {
    llm_rng rng = llm_rng_seed(seed);
    layer l;
    l.c = llm_transformer_preset(LLM_TRANSFORMER_GPT2);
    l.c.width = C, l.c.heads = H, l.c.kv_heads = kv_heads, l.c.head_size = D;
    l.c.biases = biases, l.c.rms = rms, l.c.last_norm = pre;
    l.count = llm_transformer_attn(&l.c, true) + llm_transformer_norm(&l.c);
    l.flat = draw(l.count, 0.6f, &rng), l.grad = zeros(l.count);
    l.x = draw(B * T * C, 1.0f, &rng), l.mem = draw(B * S * C, 1.0f, &rng);
    l.dy = draw(B * T * C, 1.0f, &rng);
    float *p = l.flat, *q = l.grad;
    llm_transformer_weights_bind_attn(&l.w.mha, &p, &l.c);
    llm_transformer_weights_bind_norm(&l.w.norm, &p, &l.c);
    llm_transformer_weights_bind_attn(&l.g.mha, &q, &l.c);
    llm_transformer_weights_bind_norm(&l.g.norm, &q, &l.c);
    return l;
}
static llm_transformer_sublayer_view look(const float *mem, const bool *hidden, bool causal) {
    llm_transformer_sublayer_view v;
    memset(&v, 0, sizeof v);
    v.B = B, v.T = T, v.S = mem ? S : T, v.mem = mem, v.hidden = hidden, v.causal = causal;
    return v;
}
static const bool hidden_mem[B * S] = {false, true, false, false, false, false, true, true};
static const bool hidden_own[B * T] = {false, false, true, false, false, false};

TEST(transformer_attention,
     "with as many heads of keys it is @sublayer's, before and behind norms") {
    for (size_t k = 0; k < 8; k++) {
        const bool cross = k & 1, causal = (k & 2) && !cross, pre = k & 4;
        layer l = layer_of(H, true, false, pre, k);
        l.c.head_size = C / 2, l.c.heads = l.c.kv_heads = 2; /* @sublayer wants H D = C */
        l.count = llm_transformer_attn(&l.c, true) + llm_transformer_norm(&l.c);
        llm_rng rng = llm_rng_seed(k + 10);
        l.flat = draw(l.count, 0.6f, &rng), l.grad = zeros(l.count);
        float *p = l.flat, *q = l.grad;
        llm_transformer_weights_bind_attn(&l.w.mha, &p, &l.c);
        llm_transformer_weights_bind_norm(&l.w.norm, &p, &l.c);
        llm_transformer_weights_bind_attn(&l.g.mha, &q, &l.c);
        llm_transformer_weights_bind_norm(&l.g.norm, &q, &l.c);
        llm_arena arena = test_arena(1 << 16);
        const bool *hidden = cross ? hidden_mem : hidden_own;
        const llm_transformer_sublayer_view v = look(cross ? l.mem : NULL, hidden, causal);
        llm_transformer_sublayer_acts a;
        const float *y = llm_transformer_attention_forward(&a, l.x, &v, &l.w, &l.c, &arena);
        float d[B * T * C], *dmem = zeros(B * S * C);
        memcpy(d, l.dy, sizeof d);
        const size_t used = arena.used;
        llm_transformer_attention_backward(d, dmem, NULL, &l.g, &a, &l.w, &l.c, &arena);
        CHECK(arena.used == used);

        llm_sublayer_config sc = llm_sublayer_defaults(1, C, 2);
        sc.norm = pre ? LLM_PRENORM_PRE : LLM_PRENORM_POST;
        llm_sublayer_view sv = llm_sublayer_look(B, T);
        bool blocked[T * T];
        for (size_t i = 0; i < T * T; i++) blocked[i] = i % T > i / T;
        sv.S = cross ? S : T, sv.mem = cross ? l.mem : NULL, sv.hidden = hidden;
        sv.blocked = causal ? blocked : NULL;
        llm_sublayer_attn sw, sg;
        float *g = zeros(l.count);
        memset(&sw, 0, sizeof sw);
        memset(&sg, 0, sizeof sg);
        sw.mha = l.w.mha, sg.mha = l.g.mha;
        float **grads[8] = {&sg.mha.wq, &sg.mha.wk, &sg.mha.wv, &sg.mha.wo,
                            &sg.mha.bq, &sg.mha.bk, &sg.mha.bv, &sg.mha.bo};
        for (size_t i = 0; i < 8; i++) *grads[i] = g + (*grads[i] - l.grad);
        sw.norm.in_w = sw.norm.out_w = l.w.norm.w, sw.norm.in_b = sw.norm.out_b = l.w.norm.b;
        sg.norm.in_w = sg.norm.out_w = g + (l.g.norm.w - l.grad);
        sg.norm.in_b = sg.norm.out_b = g + (l.g.norm.b - l.grad);
        llm_sublayer_acts sa;
        const float *want = llm_sublayer_attn_forward(&sa, l.x, &sv, &sw, &sc, &arena);
        CHECK_ALL_NEAR(y, want, B * T * C, 1e-5f);
        float e[B * T * C], *em = zeros(B * S * C);
        memcpy(e, l.dy, sizeof e);
        llm_sublayer_attn_backward(e, em, &sg, &sa, &sw, &sc, &arena);
        CHECK_ALL_NEAR(d, e, B * T * C, 2e-5f);
        CHECK_ALL_NEAR(dmem, em, B * S * C, 2e-5f);
        CHECK_ALL_NEAR(l.grad, g, l.count, 3e-5f);
    }
}

static double weighed(const layer *l, const float *bias, const float *cosine, const float *sine,
                      bool cross, bool causal) {
    static llm_arena arena;
    if (!arena.memory) arena = test_arena(1 << 15);
    arena.used = 0;
    llm_transformer_sublayer_view v =
        look(cross ? l->mem : NULL, cross ? hidden_mem : hidden_own, causal);
    v.bias = bias, v.cosine = cosine, v.sine = sine;
    llm_transformer_sublayer_acts a;
    return dot(llm_transformer_attention_forward(&a, l->x, &v, &l->w, &l->c, &arena), l->dy,
               B * T * C);
}

TEST(transformer_attention, "gradients equal finite differences: groups, bias, rotation, memory") {
    float cosine[T], sine[T], inv_freq[1];
    llm_rope_inv_freq(inv_freq, D, 100.0f);
    llm_rope_table(cosine, sine, NULL, inv_freq, T, D);
    for (size_t k = 0; k < 8; k++) {
        const bool cross = k & 1, turned = !cross && (k & 2), biased = k & 4;
        layer l = layer_of(k % 3 == 0 ? 1 : K, k % 3 == 1, k & 2, k & 4, k);
        llm_rng rng = llm_rng_seed(k);
        float *bias = biased && !cross ? draw(H * T * T, 1.0f, &rng) : NULL,
              *dbias = zeros(H * T * T);
        if (bias) l.c.position = LLM_TRANSFORMER_DISTANCES;
        const float *cos = turned ? cosine : NULL, *sin = turned ? sine : NULL;
        llm_arena arena = test_arena(1 << 16);
        llm_transformer_sublayer_view v =
            look(cross ? l.mem : NULL, cross ? hidden_mem : hidden_own, !cross);
        v.bias = bias, v.cosine = cos, v.sine = sin;
        llm_transformer_sublayer_acts a;
        llm_transformer_attention_forward(&a, l.x, &v, &l.w, &l.c, &arena);
        float d[B * T * C], *dmem = zeros(B * S * C);
        memcpy(d, l.dy, sizeof d);
        llm_transformer_attention_backward(d, dmem, bias ? dbias : NULL, &l.g, &a, &l.w, &l.c,
                                           &arena);
        CHECK_GRAD(d, l.x, B * T * C, 4e-3f, 3e-3f, weighed(&l, bias, cos, sin, cross, !cross));
        CHECK_GRAD(l.grad, l.flat, l.count, 4e-3f, 3e-3f,
                   weighed(&l, bias, cos, sin, cross, !cross));
        if (cross)
            CHECK_GRAD(dmem, l.mem, B * S * C, 4e-3f, 3e-3f,
                       weighed(&l, bias, cos, sin, cross, !cross));
        if (bias)
            CHECK_GRAD(dbias, bias, H * T * T, 1e-2f, 3e-3f,
                       weighed(&l, bias, cos, sin, cross, !cross));
    }
}

TEST(transformer_attention, "what stays in the arena, and the scratch of both passes") {
    float cosine[T], sine[T], inv_freq[1];
    llm_rope_inv_freq(inv_freq, D, 100.0f);
    llm_rope_table(cosine, sine, NULL, inv_freq, T, D);
    layer l = layer_of(K, false, true, true, 1);
    llm_arena arena = test_arena(1 << 16);
    llm_transformer_sublayer_view v = look(NULL, NULL, true);
    v.cosine = cosine, v.sine = sine;
    llm_transformer_sublayer_acts a;
    const size_t nq = B * T * HD, nk = B * T * K * D, ns = B * H * T * T;
    const size_t stays = 2 * arena_room(B * T) + 2 * arena_room(B * T * C) +
                         (B * T * T + 63) / 64 * 64 + 2 * arena_room(nq) + 2 * arena_room(nk) +
                         arena_room(ns);
    arena.peak = 0;
    llm_transformer_attention_forward(&a, l.x, &v, &l.w, &l.c, &arena);
    CHECK(arena.used == stays && arena.peak == stays + arena_room(nq));
    arena.peak = 0;
    llm_transformer_attention_backward(l.dy, NULL, NULL, &l.g, &a, &l.w, &l.c, &arena);
    CHECK(arena.used == stays);
    CHECK(arena.peak == stays + arena_room(3 * nq + 2 * nk) + arena_room(2 * ns) +
                            arena_room(B * T * C) + arena_room(nq));
}

TEST(transformer_attention, "a head of keys for two of queries is the same head written twice") {
    layer few = layer_of(K, true, true, true, 3), many = layer_of(H, true, true, true, 3);
    llm_arena arena = test_arena(1 << 16);
    const llm_transformer_sublayer_view v = look(NULL, NULL, true);
    llm_transformer_sublayer_acts a, b;
    memcpy(many.w.mha.wq, few.w.mha.wq, HD * C * sizeof(float));
    memcpy(many.w.mha.bq, few.w.mha.bq, HD * sizeof(float));
    memcpy(many.w.mha.wo, few.w.mha.wo, HD * C * sizeof(float));
    memcpy(many.w.mha.bo, few.w.mha.bo, C * sizeof(float));
    memcpy(many.w.norm.w, few.w.norm.w, C * sizeof(float));
    for (size_t h = 0; h < H; h++) {
        for (size_t i = 0; i < D * C; i++) {
            many.w.mha.wk[h * D * C + i] = few.w.mha.wk[h / 2 * D * C + i];
            many.w.mha.wv[h * D * C + i] = few.w.mha.wv[h / 2 * D * C + i];
        }
        for (size_t i = 0; i < D; i++) {
            many.w.mha.bk[h * D + i] = few.w.mha.bk[h / 2 * D + i];
            many.w.mha.bv[h * D + i] = few.w.mha.bv[h / 2 * D + i];
        }
    }
    const float *y = llm_transformer_attention_forward(&a, few.x, &v, &few.w, &few.c, &arena);
    const float *want = llm_transformer_attention_forward(&b, few.x, &v, &many.w, &many.c, &arena);
    CHECK_ALL_NEAR(y, want, B * T * C, 1e-6f);
}

/* A small language and a model of one attention layer for it, with a scheme of positions to choose:
 * what @alibi, @yarn and @positional_encoding measure on texts longer than those of the training.
 * Include it behind llm.h.
 *
 *     tiny_position m;
 *     tiny_position_train(&m, seed, TINY_POSITION_ALIBI, 32, 200);
 *     const double rise =
 *         tiny_position_loss(&m, seed, 128, 128) - tiny_position_loss(&m, seed, 128, 32);
 *
 * The language: 9 times in 10 a token is one of those before it, 1, 2, 3, ... back with
 * probability 1/2, 1/4, 1/8, ...; else any of the 12. */
#ifndef TINY_POSITION_H
#define TINY_POSITION_H

typedef enum {
    TINY_POSITION_NONE,
    TINY_POSITION_ALIBI,
    TINY_POSITION_ROPE,
    TINY_POSITION_SINUSOIDAL
} tiny_position_scheme;

enum { TINY_POSITION_V = 12, TINY_POSITION_C = 16, TINY_POSITION_HEADS = 2, TINY_POSITION_D = 8 };
enum {
    TINY_POSITION_E = TINY_POSITION_V * TINY_POSITION_C,
    TINY_POSITION_W = 2 * TINY_POSITION_E + 4 * TINY_POSITION_C * TINY_POSITION_C,
    TINY_POSITION_MOST = 160, /* positions */
    TINY_POSITION_TEXTS = 8
};

/* w: tokens (V,C), W_QKV (3C,C), W_O (C,C), read-out (V,C). inv_freq and factor may be replaced
 * after the training, to run the model with other rotations. */
typedef struct {
    tiny_position_scheme scheme;
    float w[TINY_POSITION_W], slope[TINY_POSITION_HEADS], inv_freq[TINY_POSITION_D / 2], factor;
    float table[TINY_POSITION_MOST * TINY_POSITION_C];
} tiny_position;

TEST_UNUSED static void tiny_position_text(int *ids, size_t n, llm_rng *rng) {
    for (size_t t = 0; t < n; t++) {
        size_t back = 1;
        while (llm_rng_below(rng, 2)) back++;
        const bool new_one = llm_rng_below(rng, 10) == 0 || back > t;
        ids[t] = new_one ? (int)llm_rng_below(rng, TINY_POSITION_V) : ids[t - back];
    }
}

/* The mean loss of next-token prediction in ids (B,T+1), positions from..T-1; g += its gradient
 * unless NULL. */
TEST_UNUSED static double tiny_position_pass(float *g, const tiny_position *m, const int *ids,
                                             size_t B, size_t T, size_t from, llm_arena *arena) {
    enum { V = TINY_POSITION_V, C = TINY_POSITION_C, H = TINY_POSITION_HEADS, D = TINY_POSITION_D };
    const size_t mark = arena->used, n = B * T * C;
    const float *wqkv = m->w + TINY_POSITION_E, *wo = wqkv + 3 * C * C, *read = wo + C * C;
    float *x = llm_arena_floats(arena, 14 * n + 2 * B * T * V), *q = x + n, *k = q + n, *v = k + n;
    float *out = v + n, *rows = out + n, *y = rows + n, *dy = y + n, *drows = dy + n;
    float *dout = drows + n, *dq = dout + n, *dk = dq + n, *dv = dk + n, *dx = dv + n;
    float *logit = dx + n, *lse = llm_arena_floats(arena, B * H * T);
    float *c = llm_arena_floats(arena, T * D), *s = c + T * D / 2;
    const llm_qkv_config qkv = llm_qkv_defaults(B, T, C, H);
    llm_alibi_config a;
    a.B = B, a.H = H, a.T = a.S = T, a.D = D, a.causal = true;
    llm_rope_table(c, s, NULL, m->inv_freq, T, D);
    for (size_t i = 0; i < T * D; i++) c[i] *= m->factor;

    for (size_t b = 0; b < B; b++)
        for (size_t t = 0; t < T; t++)
            for (size_t i = 0; i < C; i++) {
                float *to = x + (b * T + t) * C + i;
                *to = m->w[(size_t)ids[b * (T + 1) + t] * C + i];
                if (m->scheme == TINY_POSITION_SINUSOIDAL) *to += m->table[t * C + i];
            }
    llm_qkv_forward(q, k, v, x, wqkv, NULL, &qkv, arena);
    if (m->scheme == TINY_POSITION_ROPE) {
        llm_rope_forward(q, q, c, s, 1, B * H, T, D, D, LLM_ROPE_HALVES);
        llm_rope_forward(k, k, c, s, 1, B * H, T, D, D, LLM_ROPE_HALVES);
    }
    llm_alibi_forward(out, lse, q, k, v, m->slope, &a, arena);
    for (size_t b = 0; b < B; b++) llm_qkv_swap(rows + b * T * C, out + b * T * C, H, T, D);
    llm_matmul_forward(y, rows, wo, NULL, B * T, C, C);
    for (size_t i = 0; i < n; i++) y[i] += x[i];
    llm_matmul_forward(logit, y, read, NULL, B * T, C, V);

    double loss = 0.0;
    const float each = 1.0f / (float)(B * (T - from));
    for (size_t r = 0; r < B * T; r++) {
        float *z = logit + r * V;
        const size_t want = (size_t)ids[r / T * (T + 1) + r % T + 1];
        const float all = llm_logsumexp(z, V), share = r % T >= from ? each : 0.0f;
        loss += (double)share * (double)(all - z[want]);
        for (size_t i = 0; i < V; i++)
            z[i] = share * (llm_expf(z[i] - all) - (i == want ? 1.0f : 0.0f));
    }
    if (g) {
        for (size_t i = 0; i < 7 * n; i++) dy[i] = 0.0f;
        float *gqkv = g + TINY_POSITION_E, *go = gqkv + 3 * C * C, *gread = go + C * C;
        llm_matmul_backward(dy, gread, NULL, logit, y, read, B * T, C, V);
        llm_matmul_backward(drows, go, NULL, dy, rows, wo, B * T, C, C);
        for (size_t b = 0; b < B; b++) llm_qkv_swap(dout + b * T * C, drows + b * T * C, T, H, D);
        llm_alibi_backward(dq, dk, dv, NULL, dout, out, lse, q, k, v, m->slope, &a, arena);
        if (m->scheme == TINY_POSITION_ROPE) {
            float *turned = drows;
            for (size_t which = 0; which < 2; which++) {
                float *d = which ? dk : dq;
                memcpy(turned, d, n * sizeof(float));
                for (size_t i = 0; i < n; i++) d[i] = 0.0f;
                llm_rope_backward(d, turned, c, s, 1, B * H, T, D, D, LLM_ROPE_HALVES);
            }
        }
        for (size_t i = 0; i < n; i++) dx[i] = dy[i];
        llm_qkv_backward(dx, gqkv, NULL, dq, dk, dv, x, wqkv, &qkv, arena);
        for (size_t r = 0; r < B * T; r++)
            for (size_t i = 0; i < C; i++)
                g[(size_t)ids[r / T * (T + 1) + r % T] * C + i] += dx[r * C + i];
    }
    arena->used = mark;
    return loss;
}

TEST_UNUSED static llm_arena tiny_position_arena(void) {
    llm_arena a;
    a.memory = (unsigned char *)test_memory(1 << 23, 1);
    a.size = 1 << 23, a.used = a.peak = 0;
    return a;
}

/* m: trained on `steps` batches of 8 texts of T positions. */
TEST_UNUSED static void tiny_position_train(tiny_position *m, uint64_t seed,
                                            tiny_position_scheme scheme, size_t T, size_t steps) {
    enum { N = TINY_POSITION_W };
    float *g = zeros(N), *m1 = zeros(N), *m2 = zeros(N);
    int ids[TINY_POSITION_TEXTS * (TINY_POSITION_MOST + 1)];
    llm_arena arena = tiny_position_arena();
    llm_rng rng = llm_rng_seed(seed);
    llm_adamw_config c = llm_adamw_defaults();
    m->scheme = scheme, m->factor = 1.0f;
    llm_rng_normal_fill(&rng, m->w, N);
    for (size_t i = 0; i < N; i++) m->w[i] *= i < TINY_POSITION_E ? 1.0f : 0.25f;
    for (size_t h = 0; h < TINY_POSITION_HEADS; h++) m->slope[h] = 0.0f;
    if (scheme == TINY_POSITION_ALIBI) llm_alibi_slopes(m->slope, TINY_POSITION_HEADS);
    llm_rope_inv_freq(m->inv_freq, TINY_POSITION_D, 100.0f);
    llm_sinusoidal_table(m->table, NULL, TINY_POSITION_MOST, TINY_POSITION_C, 0,
                         LLM_SINUSOIDAL_NEIGHBOURS);
    c.lr = 0.01f;
    for (size_t t = 1; t <= steps; t++) {
        for (size_t i = 0; i < N; i++) g[i] = 0.0f;
        for (size_t b = 0; b < TINY_POSITION_TEXTS; b++)
            tiny_position_text(ids + b * (T + 1), T + 1, &rng);
        tiny_position_pass(g, m, ids, TINY_POSITION_TEXTS, T, 0, &arena);
        llm_adamw_step(m->w, m1, m2, g, N, &c, t);
    }
}

/* The loss on the last 16 tokens of 32 new texts of T tokens, of which the model sees the last
 * `shown` only: the same predictions for every `shown`, so that differences are the model's and not
 * the texts'. */
TEST_UNUSED static double tiny_position_loss(const tiny_position *m, uint64_t seed, size_t T,
                                             size_t shown) {
    int ids[TINY_POSITION_TEXTS * (TINY_POSITION_MOST + 1)], text[TINY_POSITION_MOST + 1];
    llm_arena arena = tiny_position_arena();
    llm_rng rng = llm_rng_seed(seed + 1000);
    double loss = 0.0;
    for (size_t batch = 0; batch < 4; batch++) {
        for (size_t b = 0; b < TINY_POSITION_TEXTS; b++) {
            tiny_position_text(text, T + 1, &rng);
            memcpy(ids + b * (shown + 1), text + T - shown, (shown + 1) * sizeof(int));
        }
        loss += tiny_position_pass(NULL, m, ids, TINY_POSITION_TEXTS, shown, shown - 16, &arena);
    }
    return loss / 4.0;
}

#endif

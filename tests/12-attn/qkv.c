/* @qkv */
#include "../test.h"

#include "../../llm.h"

static llm_qkv_config qkv_config(size_t B, size_t T, size_t C, size_t H, size_t Hkv, size_t D) {
    llm_qkv_config c = llm_qkv_defaults(B, T, C, 1);
    c.H = H, c.Hkv = Hkv, c.D = D;
    return c;
}

TEST(qkv, "equals three torch linears split into heads, and their gradients") {
    const size_t shapes[][6] = {{1, 1, 1, 1, 1, 1}, {2, 3, 5, 2, 1, 3}, {1, 4, 6, 4, 2, 2}};
    for (size_t s = 0; s < 3; s++) {
        const size_t *z = shapes[s], B = z[0], T = z[1], C = z[2], H = z[3], Hkv = z[4], D = z[5];
        const size_t O = (H + 2 * Hkv) * D, nq = B * H * T * D, nk = B * Hkv * T * D;
        const llm_qkv_config c = qkv_config(B, T, C, H, Hkv, D);
        char name[64];
        snprintf(name, sizeof name, "%zux%zux%zux%zux%zux%zu", B, T, C, H, Hkv, D);
        const float *x = golden("%s/x", name), *w = golden("%s/w", name);
        const float *b = golden("%s/b", name), *dq = golden("%s/dq", name);
        const float *dk = golden("%s/dk", name), *dv = golden("%s/dv", name);
        float *q = floats(nq), *k = floats(nk), *v = floats(nk), *want = golden("%s/dx", name);
        float *dx = floats(B * T * C), *dw = zeros(O * C), *db = zeros(O);
        llm_arena arena;
        CHECK(llm_arena_create(&arena, (B * T * O * sizeof(float) + 63) / 64 * 64));

        llm_qkv_forward(q, k, v, x, w, b, &c, &arena);
        /* sums of at most 16 products of size 1 to 5 */
        CHECK_GOLDEN(q, nq, 1e-6f, "%s/q", name);
        CHECK_GOLDEN(k, nk, 1e-6f, "%s/k", name);
        CHECK_GOLDEN(v, nk, 1e-6f, "%s/v", name);
        for (size_t i = 0; i < B * T * C; i++) dx[i] = x[i], want[i] += x[i]; /* accumulates */
        llm_qkv_backward(dx, dw, db, dq, dk, dv, x, w, &c, &arena);
        CHECK_ALL_NEAR(dx, want, B * T * C, 1e-5f);
        CHECK_GOLDEN(dw, O * C, 2e-6f, "%s/dw", name);
        CHECK_GOLDEN(db, O, 2e-6f, "%s/db", name);
        llm_qkv_backward(NULL, NULL, NULL, dq, dk, dv, x, w, &c, &arena);
        llm_qkv_forward(q, k, v, x, w, NULL, &c, &arena); /* no bias: the bias less */
        for (size_t i = 0; i < nq; i++) q[i] += b[i / (T * D) % H * D + i % D];
        CHECK_GOLDEN(q, nq, 2e-6f, "%s/q", name);
        CHECK(arena.used == 0 && arena.peak == arena.size);
        llm_arena_destroy(&arena);
    }
}

/* A causal attention layer: projection, normalised heads (norm not NULL), rotation of rot
 * dimensions, attention, output projection. */
static void qkv_layer(float *y, const float *x, const float *w, const float *b, const float *wo,
                      const float *bo, const float *q_norm, const float *k_norm, size_t rot,
                      const llm_qkv_config *c) {
    const size_t H = c->H, Hkv = c->Hkv, T = c->T, D = c->D;
    float *q = floats(H * T * D), *k = floats(Hkv * T * D), *v = floats(Hkv * T * D);
    float *out = floats(H * T * D), *merged = floats(H * T * D);
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 1 << 16));
    llm_qkv_forward(q, k, v, x, w, b, c, &arena);
    if (q_norm) llm_qkv_norm_forward(q, k, NULL, NULL, q_norm, k_norm, c, 1e-6f);
    float *f = floats(rot / 2), *cosine = floats(T * rot / 2), *sine = floats(T * rot / 2);
    llm_rope_inv_freq(f, rot, 10000.0f);
    llm_rope_table(cosine, sine, NULL, f, T, rot);
    llm_rope_forward(q, q, cosine, sine, 1, H, T, D, rot, LLM_ROPE_HALVES);
    llm_rope_forward(k, k, cosine, sine, 1, Hkv, T, D, rot, LLM_ROPE_HALVES);
    const llm_gqa_config gqa = llm_gqa_defaults(1, H, Hkv, T, D);
    llm_gqa_forward(out, NULL, q, k, v, &gqa, &arena);
    llm_qkv_swap(merged, out, H, T, D);
    llm_matmul_forward(y, merged, wo, bo, T, H * D, c->C);
    llm_arena_destroy(&arena);
}

static float *qkv_join(size_t n, const char *module, const char *kind) { /* q, k, v in a row */
    float *w = floats(n), *to = w;
    const char *part[3] = {"q", "k", "v"};
    for (size_t i = 0; i < 3; i++) {
        size_t size = 0;
        const float *from = golden_n(&size, "%s/%s_proj_%s", module, part[i], kind);
        memcpy(to, from, size * sizeof(float));
        to += size;
    }
    CHECK(to == w + n);
    return w;
}

TEST(qkv, "GPT-2's, GPT-NeoX's, Llama's and Qwen 3's weights give the output of their modules") {
    enum { T = 4, C = 8 };
    float y[T * C], w[3 * C * C], b[3 * C], wo[C * C], back[3 * C * C];
    llm_qkv_config c = llm_qkv_defaults(1, T, C, 2);

    const float *conv = golden("gpt2/c_attn_weight");
    llm_qkv_swap(w, conv, C, 3 * C, 1);
    llm_qkv_swap(back, w, 3 * C, C, 1);
    CHECK_ALL_NEAR(back, conv, 3 * C * C, 0.0f);
    llm_qkv_swap(wo, golden("gpt2/c_proj_weight"), C, C, 1);
    qkv_layer(y, golden("gpt2/x"), w, golden("gpt2/c_attn_bias"), wo, golden("gpt2/c_proj_bias"),
              NULL, NULL, 0, &c);
    CHECK_GOLDEN(y, T * C, 2e-5f, "gpt2/out"); /* scores reach tens: rounding in exp */

    const float *inter = golden("neox/query_key_value_weight");
    llm_qkv_swap(w, inter, 2, 3, 4 * C);
    llm_qkv_swap(back, w, 3, 2, 4 * C);
    CHECK_ALL_NEAR(back, inter, 3 * C * C, 0.0f);
    llm_qkv_swap(b, golden("neox/query_key_value_bias"), 2, 3, 4);
    qkv_layer(y, golden("neox/x"), w, b, golden("neox/dense_weight"), golden("neox/dense_bias"),
              NULL, NULL, 2, &c);
    CHECK_GOLDEN(y, T * C, 2e-5f, "neox/out");

    c = qkv_config(1, T, C, 4, 2, 2);
    qkv_layer(y, golden("llama/x"), qkv_join(16 * C, "llama", "weight"), NULL,
              golden("llama/o_proj_weight"), NULL, NULL, NULL, 2, &c);
    CHECK_GOLDEN(y, T * C, 2e-5f, "llama/out");
    qkv_layer(y, golden("qwen3/x"), qkv_join(16 * C, "qwen3", "weight"), NULL,
              golden("qwen3/o_proj_weight"), NULL, golden("qwen3/q_norm_weight"),
              golden("qwen3/k_norm_weight"), 2, &c);
    CHECK_GOLDEN(y, T * C, 2e-5f, "qwen3/out");
}

TEST(qkv, "split and merge are inverse, for more value heads than one and for none") {
    const size_t shapes[][5] = {{1, 1, 1, 1, 1}, {2, 3, 4, 2, 3}, {3, 5, 3, 3, 1}, {2, 2, 2, 0, 3}};
    for (size_t s = 0; s < 4; s++) {
        const size_t *z = shapes[s], B = z[0], T = z[1], H = z[2], Hkv = z[3], D = z[4];
        const size_t heads = H + 2 * Hkv, n = B * T * heads * D;
        const llm_qkv_config c = qkv_config(B, T, 1, H, Hkv, D);
        float *qkv = floats(n), *back = floats(n);
        float *q = floats(B * H * T * D), *k = floats(B * Hkv * T * D),
              *v = floats(B * Hkv * T * D);
        for (size_t i = 0; i < n; i++) qkv[i] = (float)i;
        llm_qkv_split(q, k, v, qkv, &c);
        for (size_t b = 0; b < B; b++)
            for (size_t t = 0; t < T; t++)
                for (size_t h = 0; h < heads; h++)
                    for (size_t d = 0; d < D; d++) {
                        const float got = h < H ? q[((b * H + h) * T + t) * D + d]
                                          : h < H + Hkv
                                              ? k[((b * Hkv + h - H) * T + t) * D + d]
                                              : v[((b * Hkv + h - H - Hkv) * T + t) * D + d];
                        CHECK(got == qkv[((b * T + t) * heads + h) * D + d]);
                    }
        llm_qkv_merge(back, q, k, v, &c);
        CHECK_ALL_NEAR(back, qkv, n, 0.0f);
    }
    CHECK_ASSERTS(llm_qkv_defaults(1, 1, 5, 2));
    CHECK_ASSERTS(llm_qkv_defaults(1, 1, 5, 0));
    const llm_qkv_config c = llm_qkv_defaults(2, 3, 12, 4);
    CHECK(c.B == 2 && c.T == 3 && c.C == 12 && c.H == 4 && c.Hkv == 4 && c.D == 3);
}

TEST(qkv, "with W_Q = W_K scores are symmetric, otherwise not") {
    enum { T = 5, C = 4 };
    float x[T * C], w[3 * C * C], q[T * C], k[T * C], v[T * C];
    llm_rng rng = llm_rng_seed(4);
    llm_rng_normal_fill(&rng, x, T * C);
    llm_rng_normal_fill(&rng, w, 3 * C * C);
    const llm_qkv_config c = llm_qkv_defaults(1, T, C, 1);
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 4096));
    for (size_t same = 0; same < 2; same++) {
        if (same) memcpy(w, w + C * C, C * C * sizeof(float));
        llm_qkv_forward(q, k, v, x, w, NULL, &c, &arena);
        double asymmetry = 0.0;
        for (size_t i = 0; i < T; i++)
            for (size_t j = 0; j < T; j++)
                asymmetry = fmax(asymmetry,
                                 fabs(dot(q + i * C, k + j * C, C) - dot(q + j * C, k + i * C, C)));
        CHECK(same ? asymmetry < 1e-5 : asymmetry > 1.0);
    }
    llm_arena_destroy(&arena);
}

static double qkv_norm_loss(const float *x, const float *gain, const float *dy, size_t rows,
                            size_t D, double eps) {
    double loss = 0.0;
    for (size_t r = 0; r < rows; r++) {
        const double root = sqrt(dot(x + r * D, x + r * D, D) / (double)D + eps);
        for (size_t d = 0; d < D; d++)
            loss += (double)x[r * D + d] / root * (double)gain[d] * (double)dy[r * D + d];
    }
    return loss;
}

TEST(qkv, "normalised heads: gradients equal finite differences, scores are bounded by the gains") {
    enum { B = 2, T = 3, H = 4, HKV = 2, D = 5, NQ = B * H * T * D, NK = B * HKV * T * D };
    llm_qkv_config c = llm_qkv_defaults(B, T, H * D, H);
    c.Hkv = HKV;
    float q_in[NQ], k_in[NK], q[NQ], k[NK], gq[D], gk[D], dq[NQ], dk[NK], rq[NQ / D], rk[NK / D];
    float dq_in[NQ] = {0}, dk_in[NK] = {0}, dgq[D] = {0}, dgk[D] = {0};
    llm_rng rng = llm_rng_seed(21);
    llm_rng_normal_fill(&rng, q_in, NQ);
    llm_rng_normal_fill(&rng, k_in, NK);
    llm_rng_normal_fill(&rng, gq, D);
    llm_rng_normal_fill(&rng, gk, D);
    llm_rng_normal_fill(&rng, dq, NQ);
    llm_rng_normal_fill(&rng, dk, NK);
    memcpy(q, q_in, sizeof q);
    memcpy(k, k_in, sizeof k);
    llm_qkv_norm_forward(q, k, rq, rk, gq, gk, &c, 0.1f);
    for (size_t i = 0; i < NQ; i++) {
        const float *row = q_in + i / D * D;
        CHECK_NEAR(q[i], (double)q_in[i] / sqrt(dot(row, row, D) / D + 0.1) * (double)gq[i % D],
                   1e-6);
    }
    for (size_t i = 0; i < NK; i++) {
        const float *row = k_in + i / D * D;
        CHECK_NEAR(k[i], (double)k_in[i] / sqrt(dot(row, row, D) / D + 0.1) * (double)gk[i % D],
                   1e-6);
    }
    llm_qkv_norm_backward(dq_in, dk_in, dgq, dgk, dq, dk, q_in, k_in, rq, rk, gq, gk, &c);
    CHECK_GRAD(dq_in, q_in, NQ, 1e-2f, 5e-4f, qkv_norm_loss(q_in, gq, dq, NQ / D, D, 0.1));
    CHECK_GRAD(dk_in, k_in, NK, 1e-2f, 5e-4f, qkv_norm_loss(k_in, gk, dk, NK / D, D, 0.1));
    CHECK_GRAD(dgq, gq, D, 1e-2f, 5e-4f, qkv_norm_loss(q_in, gq, dq, NQ / D, D, 0.1));
    CHECK_GRAD(dgk, gk, D, 1e-2f, 5e-4f, qkv_norm_loss(k_in, gk, dk, NK / D, D, 0.1));
    for (size_t i = 0; i < NQ; i++) q_in[i] *= 1e4f; /* however large the inputs are */
    memcpy(q, q_in, sizeof q);
    llm_qkv_norm_forward(q, k, NULL, NULL, gq, gk, &c, 1e-6f);
    float most = 0.0f;
    for (size_t d = 0; d < D; d++)
        for (size_t e = 0; e < D; e++) most = fmaxf(most, fabsf(gq[d] * gk[e]));
    for (size_t i = 0; i < NQ / D; i++)
        for (size_t j = 0; j < NK / D; j++)
            CHECK(fabs(dot(q + i * D, k + j * D, D)) <= 1.00001 * D * (double)most);
}

/* @attn_projection */
#include "../test.h"

#include "../../llm.h"

static float *attn_projection_normal(llm_rng *rng, size_t n) {
    float *x = floats(n);
    llm_rng_normal_fill(rng, x, n);
    return x;
}

TEST(attn_projection, "merging, output, single heads and gradients equal PyTorch") {
    const size_t shapes[3][5] = {{1, 1, 1, 1, 1}, {2, 3, 2, 4, 5}, {1, 17, 3, 2, 4}};
    for (size_t k = 0; k < 3; k++) {
        const size_t *d = shapes[k], B = d[0], T = d[1], H = d[2], D = d[3], C = d[4];
        const size_t n = B * T * H * D;
        char at[32];
        snprintf(at, sizeof at, "%zux%zux%zux%zu", B, T, H, D);
        const float *o = golden("%s/o", at), *w = golden("%s/w", at), *b = golden("%s/b", at);
        const float *dy = golden("%s/dy", at);
        float *merged = floats(n), *back = floats(n), *y = floats(B * T * C),
              *sum = zeros(B * T * C);
        float *go = zeros(n), *dw = zeros(C * H * D), *db = zeros(C), *alone = zeros(H * B * T * C);
        llm_arena arena;
        CHECK(llm_arena_create(&arena, 1 << 14));
        llm_attn_projection_forward(y, merged, o, w, b, B, T, H, D, C);
        CHECK_GOLDEN(merged, n, 1e-8f, "%s/merged", at);
        CHECK_GOLDEN(y, B * T * C, 2e-6f, "%s/y", at);
        llm_attn_projection_unmerge(back, merged, B, T, H, D);
        CHECK(memcmp(back, o, n * sizeof(float)) == 0);
        for (size_t h = 0; h < H; h++) {
            llm_attn_projection_per_head(alone + h * B * T * C, o, w, h, B, T, H, D, C, &arena);
            llm_attn_projection_per_head(sum, o, w, h, B, T, H, D, C, &arena);
        }
        CHECK_GOLDEN(alone, H * B * T * C, 2e-6f, "%s/heads", at);
        for (size_t i = 0; i < B * T * C; i++) CHECK_NEAR(sum[i] + b[i % C], y[i], 1e-5);
        llm_attn_projection_backward(go, dw, NULL, dy, merged, w, B, T, H, D, C, &arena);
        llm_attn_projection_backward(NULL, NULL, db, dy, merged, w, B, T, H, D, C, &arena);
        CHECK_GOLDEN(go, n, 3e-6f, "%s/do", at);
        CHECK_GOLDEN(dw, C * H * D, 5e-6f, "%s/dw", at);
        CHECK_GOLDEN(db, C, 3e-6f, "%s/db", at);
        llm_attn_projection_backward(go, dw, db, dy, merged, w, B, T, H, D, C, &arena);
        for (size_t i = 0; i < n; i++) go[i] *= 0.5f;
        for (size_t i = 0; i < C * H * D; i++) dw[i] *= 0.5f;
        for (size_t i = 0; i < C; i++) db[i] *= 0.5f;
        CHECK_GOLDEN(go, n, 3e-6f, "%s/do", at);
        CHECK_GOLDEN(dw, C * H * D, 5e-6f, "%s/dw", at);
        CHECK_GOLDEN(db, C, 3e-6f, "%s/db", at);
        llm_attn_projection_forward(y, merged, o, w, NULL, B, T, H, D, C);
        for (size_t i = 0; i < B * T * C; i++) CHECK_NEAR(sum[i], y[i], 1e-5);
        CHECK(arena.used == 0);
        llm_arena_destroy(&arena);
    }
}

TEST(attn_projection, "the two products of a head say where it looks and what it writes") {
    enum { C = 12, H = 3, D = 4, N = H * D * C };
    llm_rng rng = llm_rng_seed(5);
    float *wq = attn_projection_normal(&rng, N), *wk = attn_projection_normal(&rng, N);
    float *wv = attn_projection_normal(&rng, N), *wo = attn_projection_normal(&rng, N);
    float *x = attn_projection_normal(&rng, 2 * C), qk[C * C], ov[C * C], s[C];
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 1 << 14));
    for (size_t h = 0; h < H; h++) {
        llm_attn_projection_compose(qk, ov, wq, wk, wv, wo, h, H, D, C, &arena);
        double score = 0.0, want = 0.0;
        for (size_t i = 0; i < C; i++) score += (double)x[i] * dot(qk + i * C, x + C, C);
        for (size_t d = h * D; d < h * D + D; d++)
            want += dot(wq + d * C, x, C) * dot(wk + d * C, x + C, C);
        CHECK_NEAR(score, want, 1e-4);
        for (size_t c = 0; c < C; c++) {
            double written = 0.0;
            for (size_t d = h * D; d < h * D + D; d++)
                written += (double)wo[c * H * D + d] * dot(wv + d * C, x, C);
            CHECK_NEAR(dot(ov + c * C, x, C), written, 1e-4);
        }
        float *both[2] = {qk, ov};
        for (int m = 0; m < 2; m++) { /* rank D: the other singular values are rounding */
            llm_svd(NULL, s, NULL, both[m], C, C, &arena);
            CHECK(s[D - 1] > 0.1f && s[D] < 1e-4f);
        }
    }
    float only[C * C];
    llm_attn_projection_compose(only, NULL, wq, wk, NULL, NULL, H - 1, H, D, C, &arena);
    CHECK_ALL_NEAR(only, qk, C * C, 0.0f);
    llm_attn_projection_compose(NULL, only, NULL, NULL, wv, wo, H - 1, H, D, C, &arena);
    CHECK_ALL_NEAR(only, ov, C * C, 0.0f);

    /* A W_Q and A^-T W_K: the same product, so the same attention. A = 1 + e u u^T has an inverse
     * in closed form, 1 - e / (1 + e |u|^2) u u^T, and is symmetric */
    float u[D] = {1.0f, -2.0f, 0.5f, 3.0f}, wq2[N], wk2[N];
    const double e = 0.3, f = e / (1.0 + e * dot(u, u, D));
    for (size_t c = 0; c < C; c++) {
        double along_q = 0.0, along_k = 0.0;
        for (size_t d = 0; d < D; d++) {
            along_q += (double)u[d] * (double)wq[d * C + c];
            along_k += (double)u[d] * (double)wk[d * C + c];
        }
        for (size_t d = 0; d < D; d++) {
            wq2[d * C + c] = (float)((double)wq[d * C + c] + e * (double)u[d] * along_q);
            wk2[d * C + c] = (float)((double)wk[d * C + c] - f * (double)u[d] * along_k);
        }
    }
    llm_attn_projection_compose(qk, NULL, wq, wk, NULL, NULL, 0, H, D, C, &arena);
    llm_attn_projection_compose(only, NULL, wq2, wk2, NULL, NULL, 0, H, D, C, &arena);
    CHECK_ALL_NEAR(only, qk, C * C, 2e-5f);
    CHECK(fabsf(wq2[0] - wq[0]) > 0.1f);
    CHECK_ASSERTS(llm_attn_projection_compose(qk, ov, wq, wk, wv, wo, H, H, D, C, &arena));
    CHECK_ASSERTS(llm_attn_projection_per_head(x, x, wo, H, 1, 1, H, D, C, &arena));
    llm_arena_destroy(&arena);
}

TEST(attn_projection, "factors of rank r are balanced and as near as the singular values allow") {
    enum { C = 6 };
    llm_rng rng = llm_rng_seed(6);
    float *m = attn_projection_normal(&rng, C * C), s[C], a[C * C], b[C * C];
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 1 << 14));
    llm_svd(NULL, s, NULL, m, C, C, &arena);
    for (size_t r = 0; r <= C; r++) {
        llm_attn_projection_factor(a, b, m, C, r, &arena);
        CHECK(arena.used == 0);
        double error = 0.0, rest = 0.0;
        for (size_t i = 0; i < C; i++)
            for (size_t j = 0; j < C; j++) {
                double sum = 0.0;
                for (size_t k = 0; k < r; k++) sum += (double)a[k * C + i] * (double)b[k * C + j];
                error += pow(sum - (double)m[i * C + j], 2.0);
            }
        for (size_t k = r; k < C; k++) rest += (double)s[k] * (double)s[k];
        CHECK_NEAR(error, rest, 1e-5); /* Eckart and Young */
        for (size_t k = 0; k < r; k++)
            for (size_t l = 0; l < r; l++) {
                CHECK_NEAR(dot(a + k * C, a + l * C, C), k == l ? (double)s[k] : 0.0, 1e-5);
                CHECK_NEAR(dot(b + k * C, b + l * C, C), k == l ? (double)s[k] : 0.0, 1e-5);
            }
    }
    CHECK_ASSERTS(llm_attn_projection_factor(a, b, m, C, C + 1, &arena));
    llm_arena_destroy(&arena);
}

TEST(attn_projection,
     "a value bias folded into the output's changes nothing; the scratch is as told") {
    enum { T = 16, H = 2, D = 8, C = 16 };
    llm_rng rng = llm_rng_seed(7);
    float *s = attn_projection_normal(&rng, H * T * T),
          *v = attn_projection_normal(&rng, H * T * D);
    float *bv = attn_projection_normal(&rng, H * D), *wo = attn_projection_normal(&rng, C * H * D);
    float *b = attn_projection_normal(&rng, C), *o = zeros(H * T * D), *y = floats(T * C),
          *y2 = floats(T * C);
    float *merged = floats(T * H * D);
    llm_softmax_forward(s, s, H * T, T, 1.0f);
    for (size_t h = 0; h < H; h++)
        llm_gemm(o + h * T * D, s + h * T * T, false, v + h * T * D, false, T, D, T);
    float *folded = floats(C), *biased = floats(H * T * D);
    memcpy(folded, b, C * sizeof(float));
    llm_attn_projection_fold_bias(folded, wo, bv, H * D, C);
    llm_attn_projection_forward(y, merged, o, wo, folded, 1, T, H, D, C);
    for (size_t i = 0; i < H * T * D; i++) { /* with the bias in every value, the long way */
        const size_t h = i / T / D, t = i / D % T, d = i % D;
        double sum = 0.0;
        for (size_t j = 0; j < T; j++)
            sum += (double)s[(h * T + t) * T + j] *
                   ((double)v[(h * T + j) * D + d] + (double)bv[h * D + d]);
        biased[i] = (float)sum;
    }
    llm_attn_projection_forward(y2, merged, biased, wo, b, 1, T, H, D, C);
    CHECK_ALL_NEAR(y, y2, T * C, 1e-5f);

    float *m = zeros(C * C), *a = floats(C * C);
    for (int form = 0; form < 3; form++) {
        const size_t want[3] = {T * H * D, C * D + T * C, C * D};
        llm_arena arena;
        CHECK(llm_arena_create(&arena, want[form] * sizeof(float)));
        if (form == 0)
            llm_attn_projection_backward(biased, NULL, NULL, y, merged, wo, 1, T, H, D, C, &arena);
        if (form == 1) llm_attn_projection_per_head(y, o, wo, 1, 1, T, H, D, C, &arena);
        if (form == 2) llm_attn_projection_compose(m, a, wo, wo, wo, wo, 1, H, D, C, &arena);
        CHECK(arena.used == 0 && arena.peak == arena.size);
        llm_arena_destroy(&arena);
    }
}

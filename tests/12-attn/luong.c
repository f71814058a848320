/* @luong */
#include "../test.h"

#include "../../llm.h"

static const char *luong_names[3] = {"dot", "general", "concat"};

static float *luong_normal(llm_rng *rng, size_t n) {
    float *x = floats(n);
    llm_rng_normal_fill(rng, x, n);
    return x;
}

TEST(luong, "scores, contexts, h~ and all gradients equal PyTorch for dot, general, concat") {
    const size_t shapes[3][6] = {{1, 1, 2, 2, 1, 1}, {3, 5, 2, 3, 4, 5}, {2, 17, 3, 3, 2, 9}};
    for (size_t n = 0; n < 9; n++) {
        const size_t *d = shapes[n / 3], T = d[0], S = d[1], Cs = d[2], Ch = d[3], A = d[4];
        const llm_luong_config z = {(int)(n % 3), T, S, Cs, Ch, A};
        if (z.form == LLM_LUONG_DOT && Cs != Ch) continue;
        char at[32];
        snprintf(at, sizeof at, "%s%zux%zu", luong_names[n % 3], T, S);
        const size_t W = z.form == LLM_LUONG_DOT       ? 0
                         : z.form == LLM_LUONG_GENERAL ? Cs * Ch
                                                       : A * (Cs + Ch);
        const llm_luong_params p = {golden("%s/w", at), golden("%s/v", at), golden("%s/wc", at)};
        const llm_luong_params g = {zeros(W), zeros(A), zeros(Cs * (Ch + Cs))},
                               none = {NULL, NULL, NULL};
        const float *s = golden("%s/s", at), *h = golden("%s/h", at), *dy = golden("%s/dy", at);
        float *e = floats(T * S), *a = floats(T * S), *c = floats(T * Ch), *y = floats(T * Cs);
        float *ds = zeros(T * Cs), *dh = zeros(S * Ch);
        llm_arena arena;
        CHECK(llm_arena_create(&arena, 1 << 12));
        llm_luong_score_forward(e, s, h, &p, &z, &arena);
        CHECK_GOLDEN(e, T * S, 2e-6f, "%s/e", at);
        llm_luong_global_forward(y, a, c, s, h, d[5], &p, &z, &arena);
        CHECK_GOLDEN(c, T * Ch, 2e-6f, "%s/c", at);
        CHECK_GOLDEN(y, T * Cs, 2e-6f, "%s/y", at);
        for (int round = 0; round < 2; round++) { /* all at once; then in pieces on top of it */
            if (round == 0)
                llm_luong_global_backward(ds, dh, &g, dy, y, a, c, s, h, d[5], &p, &z, &arena);
            if (round == 1) {
                llm_luong_global_backward(ds, NULL, &none, dy, y, a, c, s, h, d[5], &p, &z, &arena);
                llm_luong_global_backward(NULL, dh, &none, dy, y, a, c, s, h, d[5], &p, &z, &arena);
                llm_luong_global_backward(NULL, NULL, &g, dy, y, a, c, s, h, d[5], &p, &z, &arena);
                for (size_t i = 0; i < T * Cs; i++) ds[i] *= 0.5f;
                for (size_t i = 0; i < S * Ch; i++) dh[i] *= 0.5f;
                for (size_t i = 0; i < W; i++) g.w[i] *= 0.5f;
                for (size_t i = 0; i < A; i++) g.v[i] *= 0.5f;
                for (size_t i = 0; i < Cs * (Ch + Cs); i++) g.wc[i] *= 0.5f;
            }
            CHECK_GOLDEN(ds, T * Cs, 5e-6f, "%s/ds", at);
            CHECK_GOLDEN(dh, S * Ch, 5e-6f, "%s/dh", at);
            CHECK_GOLDEN(g.w, W, 5e-6f, "%s/dw", at);
            CHECK_GOLDEN(g.v, A, 5e-6f, "%s/dv", at);
            CHECK_GOLDEN(g.wc, Cs * (Ch + Cs), 5e-6f, "%s/dwc", at);
        }
        CHECK(arena.used == 0);
        llm_arena_destroy(&arena);
    }
}

static double luong_loss(const float *s, const float *h, const llm_luong_params *p, const float *dy,
                         const llm_luong_config *z) {
    const size_t n = z->Cs + z->Ch;
    double loss = 0.0;
    for (size_t i = 0; i < z->T; i++) {
        double c[8] = {0}, sum = 0.0;
        const float *si = s + i * z->Cs;
        for (size_t j = 0; j < z->S; j++) {
            const float *hj = h + j * z->Ch;
            double e = 0.0;
            if (z->form == LLM_LUONG_DOT) e = dot(si, hj, z->Cs);
            for (size_t o = 0; z->form == LLM_LUONG_GENERAL && o < z->Cs; o++)
                e += (double)si[o] * dot(p->w + o * z->Ch, hj, z->Ch);
            for (size_t o = 0; z->form == LLM_LUONG_CONCAT && o < z->A; o++)
                e += (double)p->v[o] *
                     tanh(dot(p->w + o * n, si, z->Cs) + dot(p->w + o * n + z->Cs, hj, z->Ch));
            sum += exp(e);
            for (size_t m = 0; m < z->Ch; m++) c[m] += exp(e) * (double)hj[m];
        }
        for (size_t o = 0; o < z->Cs; o++) {
            double inner = dot(p->wc + o * n + z->Ch, si, z->Cs);
            for (size_t m = 0; m < z->Ch; m++) inner += (double)p->wc[o * n + m] * c[m] / sum;
            loss += (double)dy[i * z->Cs + o] * tanh(inner);
        }
    }
    return loss;
}

TEST(luong, "gradients equal finite differences of the definition; the scratch is as told") {
    for (int form = LLM_LUONG_DOT; form <= LLM_LUONG_CONCAT; form++) {
        const size_t Ch = form == LLM_LUONG_DOT ? 4 : 8;
        const llm_luong_config z = {form, 4, 16, 4, Ch, 8};
        llm_rng rng = llm_rng_seed((uint64_t)form);
        float *s = luong_normal(&rng, 16), *h = luong_normal(&rng, 16 * Ch),
              *dy = luong_normal(&rng, 16);
        const size_t W = form == LLM_LUONG_GENERAL ? 4 * Ch : 8 * (4 + Ch);
        const llm_luong_params p = {luong_normal(&rng, W), luong_normal(&rng, 8),
                                    luong_normal(&rng, 4 * (4 + Ch))};
        const llm_luong_params g = {zeros(W), zeros(8), zeros(4 * (4 + Ch))};
        for (size_t i = 0; i < W; i++) p.w[i] *= 0.5f;
        for (size_t i = 0; i < 4 * (4 + Ch); i++) p.wc[i] *= 0.3f;
        float a[64], c[32], y[16], *ds = zeros(16), *dh = zeros(16 * Ch);
        const size_t forward = form == LLM_LUONG_DOT       ? 0
                               : form == LLM_LUONG_GENERAL ? 64
                                                           : 32 + 128;
        llm_arena arena;
        CHECK(llm_arena_create(&arena, (2 * forward + 64 + 4 * Ch) * sizeof(float)));
        llm_luong_global_forward(y, a, c, s, h, 16, &p, &z, &arena);
        CHECK(arena.used == 0 && arena.peak == forward * sizeof(float));
        llm_luong_global_backward(ds, dh, &g, dy, y, a, c, s, h, 16, &p, &z, &arena);
        CHECK(arena.used == 0 && arena.peak == arena.size);
        float de[64] = {0};
        llm_luong_score_backward(NULL, NULL, &g, de, s, h, &p, &z, &arena);
        CHECK(arena.used == 0);
        CHECK_GRAD(ds, s, 16, 1e-2f, 5e-4f, luong_loss(s, h, &p, dy, &z));
        CHECK_GRAD(dh, h, 16 * Ch, 1e-2f, 5e-4f, luong_loss(s, h, &p, dy, &z));
        CHECK_GRAD(g.wc, p.wc, 4 * (4 + Ch), 1e-2f, 5e-4f, luong_loss(s, h, &p, dy, &z));
        if (form != LLM_LUONG_DOT)
            CHECK_GRAD(g.w, p.w, W, 1e-2f, 5e-4f, luong_loss(s, h, &p, dy, &z));
        if (form == LLM_LUONG_CONCAT)
            CHECK_GRAD(g.v, p.v, 8, 1e-2f, 5e-4f, luong_loss(s, h, &p, dy, &z));
        llm_arena_destroy(&arena);
    }
}

TEST(luong, "general with W = 1 is dot; concat is @attention's score; widths of dot must agree") {
    enum { T = 3, S = 65, C = 20, A = 8 };
    llm_rng rng = llm_rng_seed(9);
    float *s = luong_normal(&rng, T * C), *h = luong_normal(&rng, S * C), *w = zeros(C * C);
    float *e = floats(T * S), *e2 = floats(T * S), *both = luong_normal(&rng, A * 2 * C);
    float *v = luong_normal(&rng, A), *ws = floats(A * C), *wh = floats(A * C), *q = floats(T * A),
          *k = floats(S * A);
    for (size_t i = 0; i < C; i++) w[i * C + i] = 1.0f;
    llm_luong_config z = {LLM_LUONG_DOT, T, S, C, C, A};
    const llm_luong_params p = {w, v, NULL}, joined = {both, v, NULL};
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 1 << 14));
    llm_luong_score_forward(e, s, h, &p, &z, &arena);
    z.form = LLM_LUONG_GENERAL;
    llm_luong_score_forward(e2, s, h, &p, &z, &arena);
    CHECK_ALL_NEAR(e2, e, T * S, 1e-5f);
    z.form = LLM_LUONG_CONCAT;
    llm_luong_score_forward(e, s, h, &joined, &z, &arena);
    for (size_t a = 0; a < A; a++) {
        memcpy(ws + a * C, both + a * 2 * C, C * sizeof(float));
        memcpy(wh + a * C, both + a * 2 * C + C, C * sizeof(float));
    }
    llm_matmul_naive(q, s, ws, NULL, T, C, A);
    llm_matmul_naive(k, h, wh, NULL, S, C, A);
    llm_attention_score_forward(e2, q, k, v, T, S, A);
    CHECK_ALL_NEAR(e2, e, T * S, 1e-5f);
    z.form = LLM_LUONG_DOT, z.Ch = C - 1;
    CHECK_ASSERTS(llm_luong_score_forward(e, s, h, &p, &z, &arena));
    z.T = 0, z.Ch = C;
    llm_luong_score_forward(e, s, h, &p, &z, &arena);
    llm_arena_destroy(&arena);
}

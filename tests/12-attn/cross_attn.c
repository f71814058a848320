/* @cross_attn */
#include "../test.h"

#include "../../llm.h"

static llm_arena cross_arena(void) {
    llm_arena a;
    CHECK(llm_arena_create(&a, 1 << 16));
    return a;
}

TEST(cross_attn, "equals torch with a memory of its own width, gated, with every gradient") {
    const size_t shapes[2][6] = {{2, 3, 5, 6, 4, 3}, {1, 2, 1, 2, 3, 1}}; /* B T S C Cm H */
    for (size_t i = 0; i < 2; i++) {
        const char *name = i ? "one" : "plain";
        const size_t B = shapes[i][0], T = shapes[i][1], S = shapes[i][2], C = shapes[i][3];
        const size_t Cm = shapes[i][4], n = B * T * C, m = B * S * Cm;
        const llm_mha_config c = llm_cross_attn_defaults(B, T, S, C, Cm, shapes[i][5]);
        llm_mha_params p, g;
        p.wq = golden("%s/wq", name), p.wk = golden("%s/wk", name);
        p.wv = golden("%s/wv", name), p.wo = golden("%s/wo", name);
        p.bq = i ? NULL : golden("%s/b", name), p.bk = i ? NULL : p.bq + C;
        p.bv = i ? NULL : p.bk + C, p.bo = i ? NULL : golden("%s/bo", name);
        g.wq = zeros(C * C), g.wk = zeros(C * Cm), g.wv = zeros(C * Cm), g.wo = zeros(C * C);
        g.bq = i ? NULL : zeros(3 * C), g.bk = i ? NULL : g.bq + C, g.bv = i ? NULL : g.bk + C;
        g.bo = i ? NULL : zeros(C);
        const float *x = golden("%s/x", name), *mem = golden("%s/mem", name);
        const float *dy = golden("%s/dy", name);
        const bool *hidden = as_bools(golden("%s/hidden", name), B * S);
        llm_arena arena = cross_arena();
        llm_mha_saved s = llm_mha_take(&c, &arena);
        float *a = floats(n), *y = floats(n), *dx = floats(n), *da = zeros(n), *dmem = floats(m);
        float dalpha = 4.0f;
        llm_cross_attn_forward(a, &s, x, mem, &p, hidden, &c, &arena);
        llm_cross_attn_gated_forward(y, x, a, 0.7f, n);
        CHECK_GOLDEN(a, n, 5e-6, "%s/a", name);
        llm_cross_attn_precompute(&s, mem, &p, &c, &arena); /* the same keys and values again */
        CHECK_GOLDEN(y, n, 5e-6, "%s/y", name);
        for (size_t k = 0; k < n; k++) dx[k] = 1.0f;
        for (size_t k = 0; k < m; k++) dmem[k] = 1.0f;
        llm_cross_attn_gated_backward(dx, da, &dalpha, dy, a, 0.7f, n);
        llm_cross_attn_backward(dx, dmem, &g, da, &s, &p, &c, &arena);
        for (size_t k = 0; k < n; k++) dx[k] -= 1.0f; /* added */
        for (size_t k = 0; k < m; k++) dmem[k] -= 1.0f;
        dalpha -= 4.0f;
        CHECK_GOLDEN(dx, n, 1e-5, "%s/dx", name);
        CHECK_GOLDEN(dmem, m, 1e-5, "%s/dmem", name);
        CHECK_GOLDEN(&dalpha, 1, 1e-5, "%s/dalpha", name);
        CHECK_GOLDEN(g.wq, C * C, 1e-5, "%s/dwq", name);
        CHECK_GOLDEN(g.wk, C * Cm, 1e-5, "%s/dwk", name);
        CHECK_GOLDEN(g.wv, C * Cm, 1e-5, "%s/dwv", name);
        CHECK_GOLDEN(g.wo, C * C, 1e-5, "%s/dwo", name);
        if (!i) CHECK_GOLDEN(g.bq, 3 * C, 1e-5, "%s/db", name);
        if (!i) CHECK_GOLDEN(g.bo, C, 1e-5, "%s/dbo", name);
        for (size_t k = 0; k < m; k++) /* what is hidden learns nothing */
            CHECK(!hidden[k / Cm] || dmem[k] == 0.0f);
        llm_arena_destroy(&arena);
    }
}

enum { B = 2, T = 4, S = 5, C = 6, CM = 3, HEADS = 2 };

static llm_mha_params cross_draw(llm_rng *rng) {
    float *w = floats(2 * C * C + 2 * C * CM + 4 * C);
    llm_mha_params p;
    llm_rng_normal_fill(rng, w, 2 * C * C + 2 * C * CM + 4 * C);
    p.wq = w, p.wo = w + C * C, p.wk = p.wo + C * C, p.wv = p.wk + C * CM;
    p.bq = p.wv + C * CM, p.bk = p.bq + C, p.bv = p.bk + C, p.bo = p.bv + C;
    return p;
}

TEST(cross_attn, "query by query against keys computed once equals the whole; order is no matter") {
    llm_rng rng = llm_rng_seed(1);
    const llm_mha_params p = cross_draw(&rng);
    const llm_mha_config c = llm_cross_attn_defaults(B, T, S, C, CM, HEADS);
    float x[B * T * C], mem[B * S * CM], turned[B * S * CM], a[B * T * C], step[B * C], one[B * C];
    bool hidden[B * S] = {false, true, false, false, false, true, true, true, true, true};
    bool moved[B * S];
    const size_t to[S] = {4, 2, 0, 1, 3};
    llm_rng_normal_fill(&rng, x, B * T * C);
    llm_rng_normal_fill(&rng, mem, B * S * CM);
    llm_arena arena = cross_arena();
    llm_mha_saved whole = llm_mha_take(&c, &arena), s = llm_mha_take(&c, &arena);
    const size_t mark = arena.used;
    for (int all = 0; all < 3; all++) { /* 0: the second text's memory is all hidden */
        if (all == 1) hidden[7] = false;
        const bool *mask = all == 2 ? NULL : hidden;
        llm_cross_attn_forward(a, &whole, x, mem, &p, mask, &c, &arena);
        llm_cross_attn_precompute(&s, mem, &p, &c, &arena);
        CHECK(arena.used == mark);
        for (size_t t = 0; t < T; t++) {
            for (size_t b = 0; b < B; b++)
                memcpy(one + b * C, x + (b * T + t) * C, C * sizeof(float));
            llm_cross_attn_step(step, one, &s, &p, mask, &c, &arena);
            for (size_t b = 0; b < B; b++) {
                CHECK_ALL_NEAR(step + b * C, a + (b * T + t) * C, C, 2e-5);
                if (all == 0 && b == 1) CHECK_ALL_NEAR(step + C, p.bo, C, 0.0f);
            }
            CHECK(arena.used == mark);
        }
        for (size_t n = 0; n < B * S; n++) {
            const size_t there = n / S * S + to[n % S];
            moved[there] = hidden[n];
            memcpy(turned + there * CM, mem + n * CM, CM * sizeof(float));
        }
        float again[B * T * C];
        llm_cross_attn_forward(again, &whole, x, turned, &p, all == 2 ? NULL : moved, &c, &arena);
        CHECK_ALL_NEAR(again, a, B * T * C, 2e-5);
    }
    llm_arena_destroy(&arena);
}

TEST(cross_attn, "a closed gate is the identity, lets its own gradient through and no other") {
    enum { N = 5 };
    const float x[N] = {1, -2, 3, 0, 5}, a[N] = {2, 1, -1, 4, 0}, dy[N] = {1, 1, 2, -1, 3};
    float y[N], dx[N] = {0}, da[N] = {0}, dalpha = 0.0f;
    llm_cross_attn_gated_forward(y, x, a, 0.0f, N);
    llm_cross_attn_gated_backward(dx, da, &dalpha, dy, a, 0.0f, N);
    for (size_t i = 0; i < N; i++) CHECK(y[i] == x[i] && dx[i] == dy[i] && da[i] == 0.0f);
    CHECK(dalpha == 2.0f + 1.0f - 2.0f - 4.0f);
    llm_cross_attn_gated_forward(y, x, a, 100.0f, N); /* wide open, and stuck */
    dalpha = 0.0f;
    llm_cross_attn_gated_backward(dx, da, &dalpha, dy, a, 100.0f, N);
    for (size_t i = 0; i < N; i++) CHECK(y[i] == x[i] + a[i] && da[i] == dy[i]);
    CHECK(dalpha == 0.0f);
}

TEST(cross_attn, "no memory is refused, and so are keys and values of two widths") {
    llm_rng rng = llm_rng_seed(2);
    const llm_mha_params p = cross_draw(&rng);
    llm_arena arena = cross_arena();
    float x[B * T * C] = {0};
    CHECK_ASSERTS(llm_cross_attn_defaults(1, 1, 0, 2, 2, 1));
    llm_mha_config c = llm_cross_attn_defaults(B, T, S, C, CM, HEADS);
    llm_mha_saved s = llm_mha_take(&c, &arena);
    c.S = 0;
    CHECK_ASSERTS(llm_cross_attn_forward(x, &s, x, x, &p, NULL, &c, &arena));
    CHECK_ASSERTS(llm_cross_attn_precompute(&s, x, &p, &c, &arena));
    c.S = S, c.Cv = CM - 1;
    CHECK_ASSERTS(llm_cross_attn_forward(x, &s, x, x, &p, NULL, &c, &arena));
    CHECK_ASSERTS(llm_cross_attn_precompute(&s, x, &p, &c, &arena));
    llm_arena_destroy(&arena);
}

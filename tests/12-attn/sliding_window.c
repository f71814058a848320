/* @sliding_window */
#include "../test.h"

#include "../../llm.h"

/* forward and backward on exactly the scratch that their comments ask for. */
static void window_forward(float *out, float *lse, const float *q, const float *k, const float *v,
                           const llm_sliding_window_config *c) {
    const size_t span = 2 * c->W < c->T ? 2 * c->W : c->T;
    llm_arena arena;
    CHECK(llm_arena_create(&arena, (c->B * c->H * span + 15) / 16 * 64));
    llm_sliding_window_forward(out, lse, q, k, v, c, &arena);
    CHECK(arena.used == 0 && arena.peak == arena.size);
    llm_arena_destroy(&arena);
}
static void window_backward(float *dq, float *dk, float *dv, const float *dout, const float *out,
                            const float *lse, const float *q, const float *k, const float *v,
                            const llm_sliding_window_config *c) {
    const size_t span = 2 * c->W < c->T ? 2 * c->W : c->T;
    llm_arena arena;
    CHECK(llm_arena_create(&arena, (c->B * c->H * span + 15) / 16 * 64));
    llm_sliding_window_backward(dq, dk, dv, dout, out, lse, q, k, v, c, &arena);
    CHECK(arena.used == 0 && arena.peak == arena.size);
    llm_arena_destroy(&arena);
}

TEST(sliding_window,
     "equals torch under the masks of Mistral and ModernBERT, gradients and cap too") {
    const size_t shapes[][7] = {{1, 1, 1, 1, 1, 1, 0},
                                {2, 4, 2, 7, 3, 3, 0},
                                {1, 2, 1, 9, 2, 4, 0}, /* cap 0.75 */
                                {1, 2, 2, 6, 3, 3, 1},
                                {1, 2, 1, 5, 2, 9, 0}};
    for (size_t s = 0; s < 5; s++) {
        const size_t *z = shapes[s], B = z[0], H = z[1], Hkv = z[2], T = z[3], D = z[4];
        const size_t nq = B * H * T * D, nk = B * Hkv * T * D;
        llm_sliding_window_config c = llm_sliding_window_defaults(B, H, Hkv, T, D, z[5]);
        c.both = z[6] != 0, c.cap = s == 2 ? 0.75f : 0.0f;
        char name[64];
        snprintf(name, sizeof name, "%zux%zux%zux%zux%zux%zux%zu", B, H, Hkv, T, D, z[5], z[6]);
        const float *q = golden("%s/q", name), *k = golden("%s/k", name);
        const float *v = golden("%s/v", name), *dout = golden("%s/dout", name);
        float *out = floats(nq), *lse = floats(B * H * T);
        float *dq = zeros(nq), *dk = zeros(nk), *dv = zeros(nk);
        window_forward(out, lse, q, k, v, &c);
        CHECK_GOLDEN(out, nq, 1e-6f, "%s/out", name);
        CHECK_GOLDEN(lse, B * H * T, 1e-6f, "%s/lse", name);
        window_backward(dq, dk, dv, dout, out, lse, q, k, v, &c);
        CHECK_GOLDEN(dq, nq, 2e-6f, "%s/dq", name);
        CHECK_GOLDEN(dk, nk, 4e-6f, "%s/dk", name); /* sums over a group and a window */
        CHECK_GOLDEN(dv, nk, 4e-6f, "%s/dv", name);
    }
}

TEST(sliding_window, "a window over everything is @gqa, and gradients accumulate") {
    enum { B = 2, H = 4, HKV = 2, T = 70, D = 20 };
    const size_t nq = B * H * T * D, nk = B * HKV * T * D;
    float *q = floats(nq), *k = floats(nk), *v = floats(nk), *dout = floats(nq);
    float *out = floats(nq), *lse = floats(B * H * T), *want = floats(nq);
    float *want_lse = floats(B * H * T), *grad = zeros(nq + 2 * nk),
          *want_grad = zeros(nq + 2 * nk);
    llm_rng rng = llm_rng_seed(2);
    llm_rng_normal_fill(&rng, q, nq);
    llm_rng_normal_fill(&rng, k, nk);
    llm_rng_normal_fill(&rng, v, nk);
    llm_rng_normal_fill(&rng, dout, nq);
    const llm_gqa_config plain = llm_gqa_defaults(B, H, HKV, T, D);
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 64 * B * H * T * sizeof(float)));
    llm_gqa_forward(want, want_lse, q, k, v, &plain, &arena);
    llm_arena_destroy(&arena);
    llm_gqa_backward(want_grad, want_grad + nq, want_grad + nq + nk, dout, want, want_lse, q, k, v,
                     &plain);
    for (size_t w = 0; w < 3; w++) {
        const size_t windows[] = {T, T + 1, SIZE_MAX};
        const llm_sliding_window_config c =
            llm_sliding_window_defaults(B, H, HKV, T, D, windows[w]);
        window_forward(out, lse, q, k, v, &c);
        CHECK_ALL_NEAR(out, want, nq, 2e-6f);
        CHECK_ALL_NEAR(lse, want_lse, B * H * T, 2e-6f);
        for (size_t i = 0; i < nq + 2 * nk; i++) grad[i] = (float)w;
        window_backward(grad, grad + nq, grad + nq + nk, dout, out, lse, q, k, v, &c);
        for (size_t i = 0; i < nq + 2 * nk; i++) CHECK_NEAR(grad[i], want_grad[i] + (float)w, 2e-5);
    }
}

TEST(sliding_window, "keys outside the window are not read, in either direction") {
    enum { T = 9, D = 2, W = 3 };
    float q[T * D], k[T * D], v[T * D], out[T * D], lse[T];
    llm_rng rng = llm_rng_seed(3);
    for (int both = 0; both < 2; both++) {
        llm_sliding_window_config c = llm_sliding_window_defaults(1, 1, 1, T, D, W);
        c.both = both;
        for (size_t t = 0; t < T; t++) {
            llm_rng_normal_fill(&rng, q, T * D);
            llm_rng_normal_fill(&rng, k, T * D);
            llm_rng_normal_fill(&rng, v, T * D);
            for (size_t j = 0; j < T; j++)
                for (size_t d = 0; d < D; d++)
                    if (j + W <= t || (both ? j >= t + W : j > t))
                        k[j * D + d] = v[j * D + d] = NAN;
            window_forward(out, lse, q, k, v, &c);
            CHECK(isfinite(out[t * D]) && isfinite(out[t * D + 1]) && isfinite(lse[t]));
            CHECK(t < W || isnan(out[(t - W) * D])); /* somebody else does see them */
        }
    }
}

TEST(sliding_window, "token by token from the rolling cache, several times around") {
    enum { H = 4, HKV = 2, T = 23, D = 5, W = 4 };
    float *q = floats(H * T * D), *k = floats(HKV * T * D), *v = floats(HKV * T * D);
    float *want = floats(H * T * D), lse[H * T], keys[HKV * W * D], values[HKV * W * D];
    llm_rng rng = llm_rng_seed(4);
    llm_rng_normal_fill(&rng, q, H * T * D);
    llm_rng_normal_fill(&rng, k, HKV * T * D);
    llm_rng_normal_fill(&rng, v, HKV * T * D);
    for (int capped = 0; capped < 2; capped++) {
        llm_sliding_window_config c = llm_sliding_window_defaults(1, H, HKV, T, D, W);
        c.cap = capped ? 2.0f : 0.0f;
        window_forward(want, lse, q, k, v, &c);
        for (size_t i = 0; i < HKV * W * D; i++) keys[i] = values[i] = NAN;
        llm_arena arena;
        CHECK(llm_arena_create(&arena, 64));
        for (size_t t = 0; t < T; t++) {
            float qt[H * D], kt[HKV * D], vt[HKV * D], out[H * D];
            for (size_t i = 0; i < H * D; i++) qt[i] = q[(i / D * T + t) * D + i % D];
            for (size_t i = 0; i < HKV * D; i++) {
                kt[i] = k[(i / D * T + t) * D + i % D];
                vt[i] = v[(i / D * T + t) * D + i % D];
            }
            llm_sliding_window_ring_write(keys, values, kt, vt, t, &c);
            llm_sliding_window_step(out, qt, keys, values, t, &c, &arena);
            for (size_t i = 0; i < H * D; i++)
                CHECK_NEAR(out[i], want[(i / D * T + t) * D + i % D], 1e-6);
        }
        CHECK(arena.used == 0);
        llm_arena_destroy(&arena);
    }
}

TEST(sliding_window, "through L layers a token hears of exactly L (W - 1) + 1 positions") {
    enum { T = 24, D = 2 };
    for (size_t W = 1; W <= 5; W++) {
        for (size_t L = 1; L <= 4; L++) {
            const llm_sliding_window_config c = llm_sliding_window_defaults(1, 1, 1, T, D, W);
            float q[T * D], x[2][T * D], lse[T];
            llm_rng rng = llm_rng_seed(L);
            size_t heard = 0;
            llm_rng_normal_fill(&rng, q, T * D);
            for (size_t at = 0; at < T; at++) { /* a NaN in one value, and who has it in the end */
                for (size_t i = 0; i < T * D; i++) x[0][i] = i / D == at ? NAN : 1.0f;
                for (size_t l = 0; l < L; l++)
                    window_forward(x[(l + 1) % 2], lse, q, q, x[l % 2], &c);
                heard += isnan(x[L % 2][(T - 1) * D]) != 0;
            }
            CHECK(heard == llm_sliding_window_reach(L, W));
        }
    }
}

TEST(sliding_window, "counts, the layers that see everything, and what is refused") {
    for (size_t T = 0; T < 9; T++)
        for (size_t W = 1; W < 11; W++) {
            const llm_sliding_window_config c = llm_sliding_window_defaults(1, 1, 1, T, 1, W);
            size_t count = 0, first, end;
            for (size_t t = 0; t < T; t++) {
                llm_sliding_window_range(&first, &end, t, &c);
                count += end - first;
            }
            CHECK(count == llm_sliding_window_count(T, W));
        }
    for (size_t l = 0; l < 12; l++) {
        CHECK(!llm_sliding_window_global(l, 0));
        CHECK(llm_sliding_window_global(l, 1));
        CHECK(llm_sliding_window_global(l, 2) == (l % 2 == 1)); /* Gemma 2 begins with a window */
        CHECK(llm_sliding_window_global(l, 6) == (l % 6 == 5)); /* Gemma 3 */
    }
    float x[4] = {1, 2, 3, 4}, out[4] = {0}, lse[4] = {0};
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 64));
    llm_sliding_window_config bad = llm_sliding_window_defaults(1, 1, 1, 2, 2, 0);
    CHECK_ASSERTS(llm_sliding_window_forward(out, lse, x, x, x, &bad, &arena));
    CHECK_ASSERTS(llm_sliding_window_backward(out, out, out, x, x, lse, x, x, x, &bad, &arena));
    bad = llm_sliding_window_defaults(1, 3, 2, 1, 1, 1);
    CHECK_ASSERTS(llm_sliding_window_forward(out, lse, x, x, x, &bad, &arena));
    CHECK_ASSERTS(llm_sliding_window_backward(out, out, out, x, x, lse, x, x, x, &bad, &arena));
    bad.Hkv = 0;
    CHECK_ASSERTS(llm_sliding_window_forward(out, lse, x, x, x, &bad, &arena));
    CHECK_ASSERTS(llm_sliding_window_backward(out, out, out, x, x, lse, x, x, x, &bad, &arena));

    /* scores of 1e4: one key wins, none overflows */
    const llm_sliding_window_config c = llm_sliding_window_defaults(1, 1, 1, 2, 2, 2);
    const float q[4] = {100, 0, 100, 0}, k[4] = {100, 0, 141.42f, 0};
    llm_sliding_window_forward(out, lse, q, k, x, &c, &arena);
    CHECK(out[0] == 1 && out[1] == 2 && out[2] == 3 && out[3] == 4);
    llm_arena_destroy(&arena);
}

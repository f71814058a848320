/* @alibi */
#include "../test.h"

#include "../../llm.h"
#include "../tiny_position.h"

static llm_alibi_config alibi_config(size_t B, size_t H, size_t T, size_t S, size_t D, int causal) {
    llm_alibi_config c;
    c.B = B, c.H = H, c.T = T, c.S = S, c.D = D, c.causal = causal != 0;
    return c;
}
static llm_arena alibi_arena(void) {
    llm_arena a;
    CHECK(llm_arena_create(&a, 1 << 14));
    return a;
}

TEST(alibi, "slopes and BLOOM's bias equal transformers, for powers of two and others") {
    const size_t heads[12] = {1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 25, 33};
    float m[64], bias[3 * 3 * 4], whole[3 * 3 * 4];
    for (size_t i = 0; i < 12; i++) {
        llm_alibi_slopes(m, heads[i]);
        test_all(__FILE__, __LINE__, "slopes", m, golden("slopes%zu/m", heads[i]), heads[i], 1e-6,
                 0.0, 1.0); /* transformers takes powers of a float */
    }
    llm_alibi_slopes(m, 3);
    llm_alibi_bias(bias, m, as_bools(golden("bloom/real"), 3 * 4), 3, 3, 4);
    CHECK_GOLDEN(bias, 3 * 3 * 4, 1e-7, "bloom/bias");
    llm_alibi_bias(whole, m, NULL, 3, 3, 4); /* the first text has no padding */
    for (size_t i = 0; i < 3 * 3 * 4; i++) CHECK(whole[i] == bias[i % 12]);
}

TEST(alibi, "equals torch with the matrix of distances as a mask, slopes' gradient included") {
    const size_t shapes[4][5] = {
        {1, 1, 1, 1, 1}, {2, 2, 4, 4, 3}, {1, 2, 3, 5, 5}, {1, 1, 5, 5, 9}};
    llm_arena arena = alibi_arena();
    for (size_t s = 0; s < 4; s++)
        for (int causal = 0; causal < 2; causal++) {
            const size_t B = shapes[s][0], H = shapes[s][1], T = shapes[s][2], S = shapes[s][3];
            const size_t D = shapes[s][4], nq = B * H * T * D, nk = B * H * S * D;
            const llm_alibi_config c = alibi_config(B, H, T, S, D, causal);
            char name[32];
            snprintf(name, sizeof name, "%zux%zux%zu-%d", T, S, D, causal);
            const float *q = golden("%s/q", name), *k = golden("%s/k", name);
            const float *v = golden("%s/v", name), *m = golden("%s/m", name);
            float *out = floats(nq), *lse = floats(B * H * T), *d = floats(nq + 2 * nk + H);
            float *dk = d + nq, *dv = dk + nk, *dm = dv + nk;
            llm_alibi_forward(out, lse, q, k, v, m, &c, &arena);
            CHECK_GOLDEN(out, nq, 1e-6, "%s/out", name);
            CHECK_GOLDEN(lse, B * H * T, 1e-6, "%s/lse", name);
            for (size_t i = 0; i < nq + 2 * nk + H; i++) d[i] = 3.0f;
            llm_alibi_backward(d, dk, dv, dm, golden("%s/dout", name), out, lse, q, k, v, m, &c,
                               &arena);
            for (size_t i = 0; i < nq + 2 * nk + H; i++) d[i] -= 3.0f; /* added to what was there */
            CHECK_GOLDEN(d, nq, 2e-6, "%s/dq", name);
            CHECK_GOLDEN(dk, nk, 2e-6, "%s/dk", name);
            CHECK_GOLDEN(dv, nk, 2e-6, "%s/dv", name);
            CHECK_GOLDEN(dm, H, 5e-6, "%s/dm", name);
            llm_alibi_backward(d, dk, dv, NULL, golden("%s/dout", name), out, lse, q, k, v, m, &c,
                               &arena);
            CHECK(arena.used == 0 && arena.peak <= 4 * B * H * S + 64);
            arena.peak = 0;
        }
    llm_arena_destroy(&arena);
}

TEST(alibi, "equal keys: weights fall by exp(-m) a token; the row m j gives the same weights") {
    enum { T = 40, D = 5, H = 3 };
    float *q = floats(H * T * D), *k = floats(H * T * D), m[H], bias[H * T];
    llm_rng rng = llm_rng_seed(1);
    llm_alibi_slopes(m, H);
    llm_alibi_bias(bias, m, NULL, 1, H, T);
    llm_rng_normal_fill(&rng, q, H * T * D);
    for (int equal = 1; equal >= 0; equal--) {
        llm_rng_normal_fill(&rng, k, H * T * D);
        for (size_t i = 0; equal && i < H * T * D; i++) k[i] = (float)(i % D);
        llm_alibi_config c = alibi_config(1, H, T, T, D, 1);
        for (size_t h = 0; h < H; h++)
            for (size_t i = 0; i < T; i++) {
                float s[T], row[T];
                const size_t seen =
                    llm_alibi_scores(s, q + (h * T + i) * D, k + h * T * D, m[h], i, &c);
                CHECK(seen == i + 1);
                for (size_t j = 0; j <= i; j++)
                    row[j] = (float)(dot(q + (h * T + i) * D, k + (h * T + j) * D, D) / sqrt(5.0)) +
                             bias[h * T + j];
                const float a = llm_logsumexp(s, seen), b = llm_logsumexp(row, seen);
                for (size_t j = 0; j <= i; j++) {
                    CHECK_NEAR(expf(s[j] - a), expf(row[j] - b), 3e-6);
                    if (equal && j > 0)
                        CHECK_NEAR(exp((double)s[j - 1] - (double)s[j]), exp(-(double)m[h]), 1e-5);
                }
            }
    }
}

TEST(alibi, "the last query alone, against a cache, equals its row; what comes later is not read") {
    const size_t B = 2, H = 2, S = 9, D = 3;
    float *q = floats(B * H * S * D), *k = floats(B * H * S * D), *v = floats(B * H * S * D), m[2];
    float *out = floats(B * H * S * D), *lse = floats(B * H * S), one[12], lse1[4], last[12];
    llm_rng rng = llm_rng_seed(2);
    llm_arena arena = alibi_arena();
    llm_alibi_slopes(m, H);
    llm_rng_normal_fill(&rng, q, B * H * S * D);
    llm_rng_normal_fill(&rng, k, B * H * S * D);
    llm_rng_normal_fill(&rng, v, B * H * S * D);
    const llm_alibi_config all = alibi_config(B, H, S, S, D, 1),
                           step = alibi_config(B, H, 1, S, D, 1);
    llm_alibi_forward(out, lse, q, k, v, m, &all, &arena);
    for (size_t bh = 0; bh < B * H; bh++)
        memcpy(last + bh * D, q + (bh * S + S - 1) * D, D * sizeof(float));
    llm_alibi_forward(one, lse1, last, k, v, m, &step, &arena);
    for (size_t bh = 0; bh < B * H; bh++) {
        CHECK_ALL_NEAR(one + bh * D, out + (bh * S + S - 1) * D, D, 0.0f);
        CHECK(lse1[bh] == lse[bh * S + S - 1]);
        for (size_t i = 0; i < D; i++)
            k[(bh * S + S - 1) * D + i] = v[(bh * S + S - 1) * D + i] = NAN;
    }
    float *again = floats(B * H * S * D);
    llm_alibi_forward(again, lse, q, k, v, m, &all, &arena);
    for (size_t r = 0; r < B * H * S; r++)
        for (size_t i = 0; i < D; i++)
            CHECK(r % S == S - 1 ? isnan(again[r * D + i]) : again[r * D + i] == out[r * D + i]);
    const llm_alibi_config more = alibi_config(1, 1, 3, 2, 1, 1);
    CHECK_ASSERTS(llm_alibi_forward(out, lse, q, k, v, m, &more, &arena));
    CHECK_ASSERTS(llm_alibi_backward(out, out, out, NULL, q, q, lse, q, k, v, m, &more, &arena));
    llm_arena_destroy(&arena);
}

TEST(alibi, "trained on 32 tokens it keeps its loss at 128, where sinusoids lose theirs") {
    double rise[2] = {0.0, 0.0};
    for (size_t s = 0; s < 2; s++)
        for (uint64_t seed = 1; seed <= 3; seed++) {
            tiny_position m;
            tiny_position_train(&m, seed, s ? TINY_POSITION_SINUSOIDAL : TINY_POSITION_ALIBI, 32,
                                200);
            rise[s] += tiny_position_loss(&m, seed, 128, 128) / 3.0;
            rise[s] -= tiny_position_loss(&m, seed, 128, 32) / 3.0;
        }
    CHECK(rise[0] < 0.12); /* 0.048 to 0.076 over 8 further sets of 3 seeds */
    CHECK(rise[1] > 0.18); /* 0.37 to 0.56 */
}

/* @causal_attn_step */
#include "../test.h"

#include "../../llm.h"

TEST(causal_attn_step,
     "the Jacobian equals torch's, entry by entry; above the diagonal it is zero") {
    const size_t shapes[3][3] = {{1, 1, 2}, {3, 2, 2}, {4, 1, 3}};
    for (size_t s = 0; s < 3; s++) {
        const size_t T = shapes[s][0], H = shapes[s][1], D = shapes[s][2], C = H * D, S = 3 * C;
        const float *qkv = golden("%zux%zux%zu/qkv", T, H, D);
        float *out = floats(T * C), *att = floats(H * T * T), *jacobian = floats(T * C * T * S);
        llm_causal_attn_forward(out, att, qkv, 1, T, C, H);
        CHECK_GOLDEN(out, T * C, 1e-6f, "%zux%zux%zu/out", T, H, D);
        llm_causal_attn_jacobian(jacobian, out, att, qkv, T, C, H);
        CHECK_GOLDEN(jacobian, T * C * T * S, 2e-6f, "%zux%zux%zu/jacobian", T, H, D);
        for (size_t i = 0; i < T; i++)
            for (size_t j = 0; j < T; j++) {
                size_t nonzero = 0;
                for (size_t c = 0; c < C; c++)
                    for (size_t e = 0; e < S; e++)
                        nonzero += jacobian[((i * C + c) * T + j) * S + e] != 0.0f;
                CHECK((nonzero > 0) == (j <= i));
            }
    }
}

TEST(causal_attn_step, "a row of it is what backward gives for one output") {
    enum { T = 5, C = 6, H = 3, S = 3 * C };
    float qkv[T * S], out[T * C], att[H * T * T], *jacobian = floats(T * C * T * S);
    llm_rng rng = llm_rng_seed(4);
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 64 * H * T * sizeof(float)));
    llm_rng_normal_fill(&rng, qkv, T * S);
    llm_causal_attn_forward(out, att, qkv, 1, T, C, H);
    llm_causal_attn_jacobian(jacobian, out, att, qkv, T, C, H);
    for (size_t c = 0; c < T * C; c++) {
        float dout[T * C] = {0}, dqkv[T * S] = {0};
        dout[c] = 1.0f;
        llm_causal_attn_backward(dqkv, dout, att, qkv, 1, T, C, H, &arena);
        CHECK_ALL_NEAR(jacobian + c * T * S, dqkv, T * S, 2e-6f);
    }
    llm_arena_destroy(&arena);
}

TEST(causal_attn_step, "step by step equals the parallel pass, whatever stands in later rows") {
    const size_t shapes[5][4] = {
        {1, 1, 1, 1}, {2, 2, 2, 8}, {1, 3, 1, 20}, {2, 17, 2, 3}, {1, 65, 1, 64}};
    for (size_t s = 0; s < 5; s++) {
        const size_t B = shapes[s][0], T = shapes[s][1], H = shapes[s][2], C = H * shapes[s][3];
        float *qkv = floats(B * T * 3 * C), *out = floats(B * T * C), *att = floats(B * H * T * T);
        float *cache = floats(B * T * 3 * C), *row = floats(B * C);
        llm_rng rng = llm_rng_seed(s);
        llm_arena arena;
        CHECK(llm_arena_create(&arena, (T * sizeof(float) + 63) / 64 * 64));
        llm_rng_normal_fill(&rng, qkv, B * T * 3 * C);
        for (size_t i = 0; s == 3 && i < B * T * 3 * C; i++) qkv[i] *= 100.0f; /* scores of 1e4 */
        llm_causal_attn_forward(out, att, qkv, B, T, C, H);
        for (size_t t = 0; t < T; t++) {
            for (size_t b = 0; b < B; b++) /* the new row; those behind it are still NaN */
                memcpy(cache + (b * T + t) * 3 * C, qkv + (b * T + t) * 3 * C,
                       3 * C * sizeof(float));
            llm_causal_attn_step(row, cache, t, B, T, C, H, &arena);
            CHECK(arena.used == 0);
            const float tol = s == 3 ? 1e-1f : 2e-6f; /* a score of 1e4 rounds by 5e-4, v is 100 */
            for (size_t b = 0; b < B; b++)
                CHECK_ALL_NEAR(row + b * C, out + (b * T + t) * C, C, tol);
        }
        CHECK(arena.peak == arena.size);
        llm_arena_destroy(&arena);
    }
    llm_arena arena;
    float x[6] = {0};
    CHECK(llm_arena_create(&arena, 64));
    CHECK_ASSERTS(llm_causal_attn_step(x, x, 1, 1, 1, 2, 1, &arena));
    CHECK_ASSERTS(llm_causal_attn_step(x, x, 0, 1, 1, 2, 0, &arena));
    CHECK_ASSERTS(llm_causal_attn_step(x, x, 0, 1, 1, 1, 2, &arena));
    CHECK_ASSERTS(llm_causal_attn_jacobian(x, x, x, x, 1, 1, 2));
    CHECK_ASSERTS(llm_causal_attn_jacobian(x, x, x, x, 1, 1, 0));
    llm_arena_destroy(&arena);
}

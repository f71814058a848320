/* @seq2seq_gru */
#include "../test.h"

#include "../../llm.h"

#include "../arena.h"

enum { T = 5, C = 3, H = 4, COUNT = 3 * H * (C + H) + 6 * H };

static llm_seq2seq_gru_weights bound(float *w) {
    const llm_seq2seq_gru_weights p = {w, w + 3 * H * C, w + 3 * H * (C + H),
                                       w + 3 * H * (C + H) + 3 * H};
    return p;
}

TEST(seq2seq_gru, "states and gradients equal torch.nn.GRU") {
    size_t n;
    float *w = golden_n(&n, "gru/weights"), *g = zeros(COUNT), *dx = zeros(T * C), dh0[H] = {0};
    CHECK(n == COUNT);
    const llm_seq2seq_gru_weights p = bound(w), dp = bound(g);
    llm_arena arena = test_arena(1 << 14);
    llm_seq2seq_gru_acts a;
    const float *x = golden("gru/x"), *h0 = golden("gru/h0");
    const float *h = llm_seq2seq_gru_forward(&a, x, h0, &p, T, C, H, &arena);
    CHECK_GOLDEN(h, T * H, 2e-6f, "gru/h");
    float *dh = golden("gru/dh");
    llm_seq2seq_gru_backward(dx, dh0, &dp, dh, &a, &p, C, H, &arena);
    CHECK_GOLDEN(dx, T * C, 5e-6f, "gru/dx");
    CHECK_GOLDEN(dh0, H, 5e-6f, "gru/dh0");
    CHECK_GOLDEN(g, COUNT, 5e-6f, "gru/grads");
    dh = golden("gru/dh"); /* gradients accumulate; of the input none is asked */
    for (size_t i = 0; i < H; i++) dh0[i] = 3.0f;
    llm_seq2seq_gru_backward(NULL, dh0, &dp, dh, &a, &p, C, H, &arena);
    for (size_t i = 0; i < COUNT; i++) g[i] /= 2.0f;
    for (size_t i = 0; i < H; i++) dh0[i] -= 3.0f;
    CHECK_GOLDEN(g, COUNT, 5e-6f, "gru/grads");
    CHECK_GOLDEN(dh0, H, 5e-6f, "gru/dh0");
}

TEST(seq2seq_gru, "a step at a time is the same; no first state is 0; z near 1 keeps the state") {
    float *w = golden("gru/weights"), state[H] = {0};
    const llm_seq2seq_gru_weights p = bound(w);
    llm_arena arena = test_arena(1 << 14);
    llm_seq2seq_gru_acts a, one;
    const float *x = golden("gru/x");
    const float *h = llm_seq2seq_gru_forward(&a, x, NULL, &p, T, C, H, &arena);
    for (size_t t = 0; t < T; t++) {
        const float *next = llm_seq2seq_gru_forward(&one, x + t * C, state, &p, 1, C, H, &arena);
        memcpy(state, next, sizeof state);
        CHECK_ALL_NEAR(state, h + t * H, H, 1e-6f);
    }
    for (size_t i = 0; i < H; i++) p.bi[H + i] = 40.0f;
    h = llm_seq2seq_gru_forward(&a, x, state, &p, T, C, H, &arena);
    CHECK_ALL_NEAR(h + (T - 1) * H, state, H, 1e-6f);
}

TEST(seq2seq_gru, "states stay, and the scratch is what is named") {
    const size_t times = 3, wide = 16;
    llm_arena arena = test_arena(1 << 14);
    llm_seq2seq_gru_acts a;
    float *x = zeros(times), *flat = zeros(3 * wide * (wide + 3)),
          *dflat = zeros(3 * wide * (wide + 3));
    float *dh = zeros(times * wide), *dh0 = zeros(wide);
    const llm_seq2seq_gru_weights w = {flat, flat + 3 * wide, flat + 3 * wide * (wide + 1),
                                       flat + 3 * wide * (wide + 2)};
    const llm_seq2seq_gru_weights dw = {dflat, dflat + 3 * wide, dflat + 3 * wide * (wide + 1),
                                        dflat + 3 * wide * (wide + 2)};
    arena.peak = 0;
    llm_seq2seq_gru_forward(&a, x, NULL, &w, times, 1, wide, &arena);
    const size_t stays =
        arena_room((times + 1) * wide) + arena_room(times * 3 * wide) + arena_room(times * wide);
    CHECK(arena.used == stays && arena.peak == stays + arena_room(3 * wide));
    arena.peak = 0;
    llm_seq2seq_gru_backward(NULL, dh0, &dw, dh, &a, &w, 1, wide, &arena);
    CHECK(arena.used == stays && arena.peak == stays + 2 * arena_room(times * 3 * wide));
}

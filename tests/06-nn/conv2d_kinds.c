/* @conv2d_kinds */
#include "../test.h"

#include "../../llm.h"

TEST(conv2d_kinds, "transposed: outputs and all gradients equal torch's conv_transpose2d") {
    for (size_t k = 0; k < 5; k++) {
        const float *s = golden("%zu/shape", k), *x = golden("%zu/x", k), *w = golden("%zu/w", k);
        const float *b = golden("%zu/b", k), *dy = golden("%zu/dy", k);
        const size_t N = (size_t)s[0];
        llm_conv2d c = llm_conv2d_make((size_t)s[1], (size_t)s[2], (size_t)s[3], (size_t)s[4],
                                       (size_t)s[5], (size_t)s[6], (size_t)s[7]);
        c.dilation[0] = c.dilation[1] = (size_t)s[8], c.groups = (size_t)s[9];
        const size_t n = N * c.O * llm_conv2d_size(&c, 0) * llm_conv2d_size(&c, 1);
        const size_t out = N * c.C * c.H * c.W, weights = llm_conv2d_weights(&c);
        float *y = floats(out), *dx = zeros(n), *dw = zeros(weights), *db = zeros(c.C);
        llm_arena arena;
        CHECK(llm_arena_create(&arena, llm_conv2d_workspace(&c) + n * sizeof(float) + 64));
        llm_conv2d_transposed_forward(y, x, w, b, N, &c, &arena);
        CHECK_GOLDEN(y, out, 2e-6f, "%zu/y", k);
        llm_conv2d_transposed_backward(dx, dw, db, dy, x, w, N, &c, &arena);
        llm_conv2d_transposed_backward(dx, NULL, NULL, dy, x, w, N, &c, &arena); /* adds */
        llm_conv2d_transposed_backward(NULL, dw, NULL, dy, x, w, N, &c, &arena);
        llm_conv2d_transposed_backward(NULL, NULL, db, dy, x, w, N, &c, &arena);
        for (size_t i = 0; i < n; i++) dx[i] *= 0.5f;
        for (size_t i = 0; i < weights; i++) dw[i] *= 0.5f;
        for (size_t i = 0; i < c.C; i++) db[i] *= 0.5f;
        CHECK_GOLDEN(dx, n, 3e-6f, "%zu/dx", k);
        CHECK_GOLDEN(dw, weights, 3e-6f, "%zu/dw", k);
        CHECK_GOLDEN(db, c.C, 3e-6f, "%zu/db", k);
        CHECK(arena.used == 0);
        for (size_t i = 0; i < out; i++) y[i] -= b[i / (c.H * c.W) % c.C];
        float *plain = floats(out);
        llm_conv2d_transposed_forward(plain, x, w, NULL, N, &c, &arena);
        CHECK_ALL_NEAR(plain, y, out, 4e-6f);
        llm_arena_destroy(&arena);
    }
}

TEST(conv2d_kinds, "causal equals torch's padded conv1d, and nothing depends on the future") {
    enum { N = 2, C = 3, T = 11, O = 4 };
    const llm_conv2d c = llm_conv2d_causal(C, T, O, 3, 2);
    float x[N * C * T], y[N * O * T], z[N * O * T];
    llm_arena arena;
    CHECK(llm_conv2d_size(&c, 0) == 1 && llm_conv2d_size(&c, 1) == T);
    CHECK(llm_arena_create(&arena, llm_conv2d_workspace(&c)));
    memcpy(x, golden("causal/x"), sizeof x);
    llm_conv2d_forward(y, x, golden("causal/w"), golden("causal/b"), N, &c, &arena);
    CHECK_GOLDEN(y, N * O * T, 2e-6f, "causal/y");
    for (size_t t = 0; t < T; t++) {
        for (size_t k = 0; k < N * C; k++) x[k * T + t] += 100.0f;
        llm_conv2d_forward(z, x, golden("causal/w"), golden("causal/b"), N, &c, &arena);
        for (size_t k = 0; k < N * O; k++) {
            CHECK_ALL_NEAR(z + k * T, y + k * T, t, 0.0f);
            CHECK(fabsf(z[k * T + t] - y[k * T + t]) > 1.0f);
        }
        for (size_t k = 0; k < N * C; k++) x[k * T + t] = golden("causal/x")[k * T + t];
    }
    llm_arena_destroy(&arena);
}

TEST(conv2d_kinds, "depthwise equals the definition, also with several outputs a channel") {
    llm_rng rng = llm_rng_seed(4);
    for (size_t draw = 0; draw < 60; draw++) {
        const size_t C = 1 + llm_rng_below(&rng, 4), m = 1 + llm_rng_below(&rng, 2);
        llm_conv2d c = llm_conv2d_make(C, 1 + llm_rng_below(&rng, 9), 1 + llm_rng_below(&rng, 9),
                                       C * m, 1, 1, 0);
        c.groups = C;
        for (size_t axis = 0; axis < 2; axis++) {
            c.kernel[axis] = 1 + llm_rng_below(&rng, 4),
            c.stride[axis] = 1 + llm_rng_below(&rng, 3);
            c.dilation[axis] = 1 + llm_rng_below(&rng, 2);
            c.pad[axis] = llm_rng_below(&rng, 3), c.pad_end[axis] = llm_rng_below(&rng, 3);
            const size_t extent = c.dilation[axis] * (c.kernel[axis] - 1) + 1;
            if (extent > (axis ? c.W : c.H) + c.pad[axis] + c.pad_end[axis]) c.kernel[axis] = 1;
        }
        const size_t N = llm_rng_below(&rng, 4),
                     P = llm_conv2d_size(&c, 0) * llm_conv2d_size(&c, 1);
        const size_t n = N * C * c.H * c.W, out = N * c.O * P, weights = llm_conv2d_weights(&c);
        float *x = floats(n), *w = floats(weights), *b = floats(c.O), *dy = floats(out);
        float *y = floats(out), *dx = zeros(n), *dw = zeros(weights), *db = zeros(c.O);
        float *want = floats(out), *want_x = zeros(n), *want_w = zeros(weights);
        float *want_b = zeros(c.O);
        llm_rng_normal_fill(&rng, x, n);
        llm_rng_normal_fill(&rng, w, weights);
        llm_rng_normal_fill(&rng, b, c.O);
        llm_rng_normal_fill(&rng, dy, out);
        llm_conv2d_depthwise_forward(y, x, w, b, N, &c);
        llm_conv2d_naive(want, x, w, b, N, &c);
        CHECK_ALL_NEAR(y, want, out, 1e-5f);
        llm_conv2d_depthwise_forward(y, x, w, NULL, N, &c);
        llm_conv2d_naive(want, x, w, NULL, N, &c);
        CHECK_ALL_NEAR(y, want, out, 1e-5f);
        llm_conv2d_depthwise_backward(dx, dw, db, dy, x, w, N, &c);
        llm_conv2d_depthwise_backward(dx, NULL, NULL, dy, x, w, N, &c);
        llm_conv2d_depthwise_backward(NULL, dw, NULL, dy, x, w, N, &c);
        llm_conv2d_depthwise_backward(NULL, NULL, db, dy, x, w, N, &c);
        for (int turn = 0; turn < 2; turn++)
            llm_conv2d_naive_backward(want_x, want_w, want_b, dy, x, w, N, &c);
        CHECK_ALL_NEAR(dx, want_x, n, 3e-5f);
        CHECK_ALL_NEAR(dw, want_w, weights, 1e-4f);
        CHECK_ALL_NEAR(db, want_b, c.O, 1e-4f);
    }
    llm_conv2d c = llm_conv2d_make(4, 3, 3, 4, 1, 1, 0);
    c.groups = 2;
    float one[36] = {0.0f};
    CHECK_ASSERTS(llm_conv2d_depthwise_forward(one, one, one, NULL, 1, &c));
    CHECK_ASSERTS(llm_conv2d_depthwise_backward(one, NULL, NULL, one, one, one, 1, &c));
}

/* @self_attn */
#include "../test.h"

#include "../../llm.h"

#include "../tape.h"

static llm_self_attn_params self_attn_weights(float *w, size_t C) {
    const llm_self_attn_params p = {w, w + C * C, w + 2 * C * C, w + 3 * C * C};
    return p;
}

TEST(self_attn, "output, gradients and directional derivative equal torch") {
    const size_t shapes[4][3] = {{1, 1, 1}, {2, 3, 8}, {1, 17, 4}, {1, 2, 5}};
    for (size_t s = 0; s < 4; s++) {
        const size_t B = shapes[s][0], T = shapes[s][1], C = shapes[s][2], n = B * T * C;
        char at[32];
        snprintf(at, sizeof at, "%zux%zux%zu", B, T, C);
        const float *x = golden("%s/x", at), *dy = golden("%s/dy", at),
                    *xdot = golden("%s/xdot", at);
        const llm_self_attn_params w = self_attn_weights(golden("%s/w", at), C);
        float *y = floats(n), *dx = zeros(n), *dw = zeros(4 * C * C), *ydot = floats(n);
        const llm_self_attn_params g = self_attn_weights(dw, C), none = {NULL, NULL, NULL, NULL};
        llm_arena arena;
        CHECK(llm_arena_create(&arena, 1 << 16));
        const llm_self_attn_saved a = llm_self_attn_take(B, T, C, &arena);
        const size_t used = arena.used;
        llm_self_attn_forward(y, &a, x, &w, B, T, C);
        CHECK_GOLDEN(y, n, 2e-6f, "%s/y", at);
        llm_self_attn_backward(dx, &g, dy, &a, x, &w, B, T, C, &arena);
        CHECK_GOLDEN(dx, n, 5e-6f, "%s/dx", at);
        CHECK_GOLDEN(dw, 4 * C * C, 5e-6f, "%s/dw", at);
        llm_self_attn_jvp(ydot, xdot, &a, &w, B, T, C, &arena);
        CHECK_GOLDEN(ydot, n, 5e-6f, "%s/ydot", at);
        CHECK(arena.used == used);
        llm_self_attn_backward(dx, &none, dy, &a, x, &w, B, T, C, &arena); /* accumulates */
        llm_self_attn_backward(NULL, &g, dy, &a, x, &w, B, T, C, &arena);
        for (size_t i = 0; i < n; i++) dx[i] *= 0.5f;
        for (size_t i = 0; i < 4 * C * C; i++) dw[i] *= 0.5f;
        CHECK_GOLDEN(dx, n, 5e-6f, "%s/dx", at);
        CHECK_GOLDEN(dw, 4 * C * C, 5e-6f, "%s/dw", at);
        llm_arena_destroy(&arena);
    }
}

TEST(self_attn, "output and gradients are what @autodiff_array makes of the definition, T to 65") {
    const size_t shapes[3][2] = {{65, 8}, {3, 64}, {17, 20}};
    for (size_t s = 0; s < 3; s++) {
        const size_t T = shapes[s][0], C = shapes[s][1];
        tape_open(70 + s);
        const size_t x = tape_draw(T, C), dy = tape_draw(T, C);
        size_t w[4];
        float *flat = floats(4 * C * C), *y = floats(T * C), *dx = zeros(T * C),
              *dw = zeros(4 * C * C);
        for (size_t i = 0; i < 4; i++) {
            w[i] = tape_normal(C, C, 1.0f / sqrtf((float)C));
            memcpy(flat + i * C * C, tape_floats(w[i]), C * C * sizeof(float));
        }
        const size_t score = tape_scale(tape_linear(tape_linear(x, w[0]), tape_linear(x, w[1])),
                                        1.0 / sqrt((double)C));
        const size_t e = tape_exp(score), p = tape_div(e, tape_row_sums(e));
        const size_t out = tape_linear(tape_matmul(p, tape_linear(x, w[2])), w[3]);
        tape_back(out, tape_floats(dy));
        llm_arena arena;
        CHECK(llm_arena_create(&arena, 1 << 20));
        const llm_self_attn_params params = self_attn_weights(flat, C),
                                   g = self_attn_weights(dw, C);
        const llm_self_attn_saved a = llm_self_attn_take(1, T, C, &arena);
        llm_self_attn_forward(y, &a, tape_floats(x), &params, 1, T, C);
        llm_self_attn_backward(dx, &g, tape_floats(dy), &a, tape_floats(x), &params, 1, T, C,
                               &arena);
        TAPE_CHECK(y, out, 3e-6);
        TAPE_CHECK(a.p, p, 2e-6);
        TAPE_CHECK_GRAD(dx, x, 1e-5);
        for (size_t i = 0; i < 4; i++) TAPE_CHECK_GRAD(dw + i * C * C, w[i], 2e-5);
        llm_arena_destroy(&arena);
    }
}

TEST(self_attn, "permuted tokens give permuted outputs; equal tokens, or one alone, V W_O") {
    enum { T = 7, C = 5 };
    float x[T * C], w[4 * C * C], y[T * C], y2[T * C], moved[T * C], v[T * C], want[T * C];
    const size_t order[T] = {3, 0, 6, 1, 5, 2, 4};
    llm_rng rng = llm_rng_seed(3);
    llm_rng_normal_fill(&rng, x, T * C);
    llm_rng_normal_fill(&rng, w, 4 * C * C);
    const llm_self_attn_params p = self_attn_weights(w, C);
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 1 << 14));
    const llm_self_attn_saved a = llm_self_attn_take(1, T, C, &arena);
    llm_self_attn_forward(y, &a, x, &p, 1, T, C);
    for (size_t i = 0; i < T; i++) memcpy(moved + i * C, x + order[i] * C, C * sizeof(float));
    llm_self_attn_forward(y2, &a, moved, &p, 1, T, C);
    for (size_t i = 0; i < T; i++) CHECK_ALL_NEAR(y2 + i * C, y + order[i] * C, C, 1e-5f);

    for (size_t i = 1; i < T; i++) memcpy(x + i * C, x, C * sizeof(float));
    llm_matmul_naive(v, x, p.wv, NULL, T, C, C);
    llm_matmul_naive(want, v, p.wo, NULL, T, C, C);
    llm_self_attn_forward(y, &a, x, &p, 1, T, C);
    CHECK_ALL_NEAR(y, want, T * C, 1e-5f);
    llm_self_attn_forward(y, &a, x, &p, 1, 1, C);
    CHECK_ALL_NEAR(y, want, C, 1e-6f);
    CHECK(a.p[0] == 1.0f);

    for (size_t i = 0; i < 2 * C * C; i++) w[i] *= 100.0f; /* scores beyond 1e4 */
    llm_rng_normal_fill(&rng, x, T * C);
    llm_self_attn_forward(y, &a, x, &p, 1, T, C);
    for (size_t i = 0; i < T; i++) {
        double sum = 0.0;
        for (size_t j = 0; j < T; j++) sum += (double)a.p[i * T + j];
        CHECK_NEAR(sum, 1.0, 1e-6);
    }
    for (size_t i = 0; i < T * C; i++) CHECK(isfinite(y[i]));
    llm_self_attn_forward(y, &a, x, &p, 0, T, C);
    llm_arena_destroy(&arena);
}

TEST(self_attn,
     "the transposed Jacobian is the gradient: u.(J r) = (J^T u).r; the scratch is as told") {
    enum { B = 2, T = 16, C = 8, N = B * T * C };
    float *x = floats(N), *u = floats(N), *r = floats(N), *w = floats(4 * C * C), *y = floats(N);
    float *forward = floats(N), *back = zeros(N);
    llm_rng rng = llm_rng_seed(4);
    llm_rng_normal_fill(&rng, x, N);
    llm_rng_normal_fill(&rng, u, N);
    llm_rng_normal_fill(&rng, r, N);
    llm_rng_normal_fill(&rng, w, 4 * C * C);
    const llm_self_attn_params p = self_attn_weights(w, C), none = {NULL, NULL, NULL, NULL};
    llm_arena keep, arena;
    CHECK(llm_arena_create(&keep, (4 * N + B * T * T) * sizeof(float)));
    const llm_self_attn_saved a = llm_self_attn_take(B, T, C, &keep);
    CHECK(keep.used == keep.size);
    llm_self_attn_forward(y, &a, x, &p, B, T, C);
    CHECK(llm_arena_create(&arena, (4 * N + T * T) * sizeof(float)));
    llm_self_attn_jvp(forward, r, &a, &p, B, T, C, &arena);
    CHECK(arena.used == 0 && arena.peak == arena.size);
    llm_arena_destroy(&arena);
    CHECK(llm_arena_create(&arena, (4 * N + 2 * T * T) * sizeof(float)));
    llm_self_attn_backward(back, &none, u, &a, x, &p, B, T, C, &arena);
    CHECK(arena.used == 0 && arena.peak == arena.size);
    llm_arena_destroy(&arena);
    llm_arena_destroy(&keep);
    double size = 0.0;
    for (size_t i = 0; i < N; i++) size += fabs((double)u[i] * (double)forward[i]);
    CHECK_NEAR(dot(u, forward, N), dot(back, r, N), 1e-6 * size);
    CHECK(size > 1.0);
}

TEST(self_attn,
     "the counted work is that of the six products; scores overtake weights at T = 2 C") {
    const size_t shapes[3][3] = {{1, 1, 1}, {2, 3, 5}, {1, 7, 2}};
    for (size_t s = 0; s < 3; s++) {
        const size_t B = shapes[s][0], T = shapes[s][1], C = shapes[s][2];
        size_t flops = 0;
        for (size_t b = 0; b < B; b++)
            for (size_t t = 0; t < T; t++) {
                for (size_t i = 0; i < 4 * C * C; i++) flops += 2; /* q, k, v, y */
                for (size_t i = 0; i < 2 * T * C; i++) flops += 2; /* S, O */
            }
        CHECK_NEAR(llm_self_attn_flops(B, T, C), (double)flops, 0.0);
    }
    const double c = 768.0;
    CHECK_NEAR(llm_self_attn_flops(1, 1536, 768), 2.0 * 8.0 * 1536.0 * c * c, 0.0);
}

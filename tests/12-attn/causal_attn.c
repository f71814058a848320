/* @causal_attn */
#include "../test.h"

#include "../../llm.h"

#include "../tape.h"

/* llm_causal_attn_backward on exactly the scratch that its comment asks for. */
static void causal_attn_backward(float *dqkv, const float *dout, const float *att, const float *qkv,
                                 size_t B, size_t T, size_t C, size_t H) {
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 64 * B * H * T * sizeof(float)));
    llm_causal_attn_backward(dqkv, dout, att, qkv, B, T, C, H, &arena);
    CHECK(arena.used == 0 && arena.peak == arena.size);
    llm_arena_destroy(&arena);
}

TEST(causal_attn, "forward and backward equal torch's scaled_dot_product_attention") {
    const size_t shapes[][4] = {{1, 1, 1, 1}, {1, 2, 2, 3}, {2, 5, 3, 2}, {1, 11, 1, 4}};
    for (size_t s = 0; s < 4; s++) {
        const size_t B = shapes[s][0], T = shapes[s][1], H = shapes[s][2], D = shapes[s][3];
        const size_t C = H * D;
        const float *qkv = golden("%zux%zux%zux%zu/qkv", B, T, H, D);
        const float *dout = golden("%zux%zux%zux%zu/dout", B, T, H, D);
        float *out = floats(B * T * C), *att = floats(B * H * T * T), *dqkv = zeros(B * T * 3 * C);

        llm_causal_attn_forward(out, att, qkv, B, T, C, H);
        causal_attn_backward(dqkv, dout, att, qkv, B, T, C, H);
        /* a dozen terms of size 1, each with the rounding of exp */
        CHECK_GOLDEN(out, B * T * C, 1e-6f, "%zux%zux%zux%zu/out", B, T, H, D);
        CHECK_GOLDEN(dqkv, B * T * 3 * C, 2e-6f, "%zux%zux%zux%zu/dqkv", B, T, H, D);
    }
}

/* The definition in doubles, entry by entry: o and p of all heads, and the gradients by summing
 * every path of the chain rule. dqkv may be NULL. */
static void causal_attn_plain(double *out, double *att, double *dqkv, const float *dout,
                              const float *qkv, size_t B, size_t T, size_t C, size_t H) {
    const size_t D = C / H;
    for (size_t b = 0; b < B; b++)
        for (size_t h = 0; h < H; h++)
            for (size_t i = 0; i < T; i++) {
                const float *q = qkv + (b * T + i) * 3 * C + h * D;
                const float *k = qkv + b * T * 3 * C + C + h * D, *v = k + C;
                double *p = att + ((b * H + h) * T + i) * T, *o = out + (b * T + i) * C + h * D;
                double total = 0.0, along = 0.0;
                for (size_t j = 0; j <= i; j++) {
                    p[j] = exp(dot(q, k + j * 3 * C, D) / sqrt((double)D));
                    total += p[j];
                }
                for (size_t d = 0; d < D; d++) o[d] = 0.0;
                for (size_t j = 0; j <= i; j++) {
                    p[j] /= total;
                    for (size_t d = 0; d < D; d++) o[d] += p[j] * (double)v[j * 3 * C + d];
                }
                if (!dqkv) continue;
                const float *g = dout + (b * T + i) * C + h * D;
                double *dq = dqkv + (q - qkv), *dk = dqkv + (k - qkv), *dv = dqkv + (v - qkv);
                for (size_t j = 0; j <= i; j++) along += p[j] * dot(g, v + j * 3 * C, D);
                for (size_t j = 0; j <= i; j++) {
                    const double ds = p[j] * (dot(g, v + j * 3 * C, D) - along) / sqrt((double)D);
                    for (size_t d = 0; d < D; d++) {
                        dv[j * 3 * C + d] += p[j] * (double)g[d];
                        dq[d] += ds * (double)k[j * 3 * C + d];
                        dk[j * 3 * C + d] += ds * (double)q[d];
                    }
                }
            }
}

TEST(causal_attn, "equals the definition in doubles around a tile's edges; the rest is untouched") {
    const size_t shapes[][4] = {{1, 3, 1, 33},  {2, 7, 2, 32},   {1, 63, 2, 5},  {1, 64, 1, 64},
                                {1, 65, 1, 65}, {2, 130, 2, 37}, {1, 283, 1, 3}, {1, 67, 2, 131}};
    for (size_t s = 0; s < 8; s++) {
        const size_t B = shapes[s][0], T = shapes[s][1], H = shapes[s][2], C = H * shapes[s][3];
        const size_t n = B * T * C, A = B * H * T * T;
        float *qkv = floats(3 * n), *dout = floats(n), *out = floats(n), *att = floats(A);
        float *dqkv = floats(3 * n), *start = floats(3 * n), *want = floats(3 * n);
        double *out64 = doubles(n), *att64 = doubles(A), *dqkv64 = doubles(3 * n);
        llm_rng rng = llm_rng_seed(s);
        llm_rng_normal_fill(&rng, qkv, 3 * n);
        llm_rng_normal_fill(&rng, dout, n);
        llm_rng_normal_fill(&rng, start, 3 * n);
        for (size_t i = 0; i < 3 * n; i++) dqkv64[i] = (double)start[i];
        causal_attn_plain(out64, att64, dqkv64, dout, qkv, B, T, C, H);

        llm_causal_attn_forward(out, att, qkv, B, T, C, H);
        for (size_t i = 0; i < n; i++) want[i] = (float)out64[i];
        CHECK_ALL_NEAR(out, want, n, 2e-6f); /* a weighted mean of values up to 4 */
        for (size_t r = 0; r < B * H * T; r++) {
            for (size_t j = 0; j < T; j++) {
                if (j <= r % T) CHECK_NEAR(att[r * T + j], att64[r * T + j], 2e-6);
                if (j > r % T) CHECK(isnan(att[r * T + j])); /* not written, and not read below */
            }
        }
        memcpy(dqkv, start, 3 * n * sizeof(float)); /* gradients accumulate */
        causal_attn_backward(dqkv, dout, att, qkv, B, T, C, H);
        for (size_t i = 0; i < 3 * n; i++) want[i] = (float)dqkv64[i];
        CHECK_ALL_NEAR(dqkv, want, 3 * n, 1e-5f); /* sums of up to 197 products of size 1 */
    }
}

TEST(causal_attn, "its three products equal sums in doubles for every size, stride and diagonal") {
    const size_t sizes[][4] = {
        {1, 1, 1, 0},     {2, 3, 2, 0},     {3, 2, 33, 1},     {4, 64, 32, 0},
        {5, 7, 31, 4},    {6, 9, 300, 3},   {64, 64, 1, 0},    {63, 60, 130, 9},
        {8, 64, 256, 57}, {9, 5, 64, 99},   {70, 140, 66, 60}, {130, 70, 3, 0},
        {3, 130, 4, 2},   {131, 65, 2, 64}, {2, 129, 2, 63}}; /* R, N, D, ahead */
    llm_rng rng = llm_rng_seed(3);
    for (size_t s = 0; s < 15; s++) {
        const size_t R = sizes[s][0], N = sizes[s][1], D = sizes[s][2], ahead = sizes[s][3];
        const size_t ws = N + 1, xs = D + 2, ys = D + 3; /* the gaps stay NaN and are not read */
        float *w = floats(R * ws), *x = floats(R * xs), *z = floats(N * xs);
        float *y = floats(R * ys), *u = floats(N * ys);
        double *want_y = doubles(R * ys), *want_u = doubles(N * ys);
        double *size_y = doubles(R * ys), *size_u = doubles(N * ys); /* sums of magnitudes */
        for (size_t r = 0; r < R; r++) llm_rng_normal_fill(&rng, x + r * xs, D);
        for (size_t n = 0; n < N; n++) llm_rng_normal_fill(&rng, z + n * xs, D);

        llm_causal_attn_scores(w, ws, x, xs, z, xs, 0.7f, ahead, R, N, D);
        for (size_t r = 0; r < R; r++) {
            for (size_t n = 0; n < ws; n++) {
                if (n < N && n <= r + ahead) { /* up to 300 products of size 1 */
                    const double want = 0.7 * dot(x + r * xs, z + n * xs, D);
                    CHECK_NEAR(w[r * ws + n], want, 1e-6 * (10.0 + fabs(want)));
                } else
                    CHECK(isnan(w[r * ws + n]));
            }
        }
        for (size_t i = 0; i < R * ys; i++) y[i] = (float)(want_y[i] = size_y[i] = 0.25);
        for (size_t i = 0; i < N * ys; i++) u[i] = (float)(want_u[i] = size_u[i] = 0.5);
        for (size_t r = 0; r < R; r++)
            for (size_t n = 0; n < N && n <= r + ahead; n++)
                for (size_t d = 0; d < D; d++) {
                    const double add_y = (double)w[r * ws + n] * (double)z[n * xs + d];
                    const double add_u = (double)w[r * ws + n] * (double)x[r * xs + d];
                    want_y[r * ys + d] += add_y, size_y[r * ys + d] += fabs(add_y);
                    want_u[n * ys + d] += add_u, size_u[n * ys + d] += fabs(add_u);
                }
        llm_causal_attn_gather(y, ys, w, ws, z, xs, ahead, R, N, D);
        llm_causal_attn_scatter(u, ys, w, ws, x, xs, ahead, R, N, D);
        for (size_t i = 0; i < R * ys; i++)
            CHECK_NEAR(y[i], want_y[i], 5e-7 * size_y[i]); /* 4 rounding errors of float */
        for (size_t i = 0; i < N * ys; i++) CHECK_NEAR(u[i], want_u[i], 5e-7 * size_u[i]);
    }
}

TEST(causal_attn, "the future is not seen: no NaN, no gradient, no change when text is appended") {
    const size_t T = 70, C = 6, H = 2, D = 3;
    float *qkv = floats(T * 3 * C), *out = floats(T * C), *att = floats(H * T * T);
    float *changed = floats(T * 3 * C), *out2 = floats(T * C);
    llm_rng rng = llm_rng_seed(1);
    llm_rng_normal_fill(&rng, qkv, T * 3 * C);
    llm_causal_attn_forward(out, att, qkv, 1, T, C, H);
    for (size_t i = 0; i < T; i += 23) {
        memcpy(changed, qkv, T * 3 * C * sizeof(float));
        for (size_t n = (i + 1) * 3 * C; n < T * 3 * C; n++) changed[n] = NAN;
        llm_causal_attn_forward(out2, att, changed, 1, T, C, H);
        CHECK(memcmp(out2, out, (i + 1) * C * sizeof(float)) == 0);
        llm_causal_attn_forward(out2, att, qkv, 1, i + 1, C, H); /* another shape, other tiles */
        CHECK_ALL_NEAR(out2, out, (i + 1) * C, 1e-6f);

        /* one output's gradient: 0 at every later input, and a path to every earlier one */
        float *dout = zeros(T * C), *dqkv = zeros(T * 3 * C);
        llm_causal_attn_forward(out2, att, changed, 1, T, C, H);
        dout[i * C + 1] = 1.0f;
        memcpy(changed, qkv, T * 3 * C * sizeof(float));
        llm_causal_attn_forward(out2, att, qkv, 1, T, C, H);
        causal_attn_backward(dqkv, dout, att, qkv, 1, T, C, H);
        for (size_t j = 0; j < T; j++) {
            const float *dk = dqkv + j * 3 * C + C, *dv = dk + C;
            for (size_t d = 0; d < D; d++) {
                CHECK((dqkv[j * 3 * C + d] != 0.0f) == (j == i && i > 0)); /* alone, p is 1 */
                CHECK((dk[d] != 0.0f) == (j <= i && i > 0));
                CHECK((dv[d] != 0.0f) == (j <= i && d == 1));
                CHECK(dk[D + d] == 0.0f && dv[D + d] == 0.0f); /* the other head */
            }
        }
    }
}

static double causal_attn_loss(const float *qkv, const float *dout, size_t T, size_t C, size_t H) {
    double out[64], att[64];
    causal_attn_plain(out, att, NULL, NULL, qkv, 1, T, C, H);
    double loss = 0.0;
    for (size_t i = 0; i < T * C; i++) loss += out[i] * (double)dout[i];
    return loss;
}

TEST(causal_attn, "backward equals finite differences") {
    enum { T = 5, C = 6, H = 2 };
    float qkv[T * 3 * C], dout[T * C], out[T * C], att[H * T * T], dqkv[T * 3 * C] = {0};
    llm_rng rng = llm_rng_seed(7);
    llm_rng_normal_fill(&rng, qkv, T * 3 * C);
    llm_rng_normal_fill(&rng, dout, T * C);
    llm_causal_attn_forward(out, att, qkv, 1, T, C, H);
    causal_attn_backward(dqkv, dout, att, qkv, 1, T, C, H);
    CHECK_GRAD(dqkv, qkv, T * 3 * C, 1e-3f, 1e-5f, causal_attn_loss(qkv, dout, T, C, H));
}

TEST(causal_attn, "scores: a scale of 0 or another; nothing is written beside what is seen") {
    const size_t R = 130, N = 70, D = 3, W = N + 2;
    llm_rng rng = llm_rng_seed(12);
    float *x = floats(R * D), *z = floats(N * D), *w = floats(R * W);
    llm_rng_normal_fill(&rng, x, R * D);
    llm_rng_normal_fill(&rng, z, N * D);
    for (int half = 0; half < 2; half++) {
        for (size_t i = 0; i < R * W; i++) w[i] = 7.0f;
        llm_causal_attn_scores(w, W, x, D, z, D, half ? 0.5f : 0.0f, 1, R, N, D);
        for (size_t r = 0; r < R; r++)
            for (size_t n = 0; n < W; n++) {
                double sum = 0.0;
                for (size_t d = 0; d < D && n < N; d++)
                    sum += (double)x[r * D + d] * (double)z[n * D + d];
                CHECK_NEAR(w[r * W + n], n < N && n <= r + 1 ? 0.5 * half * sum : 7.0, 1e-6);
            }
    }
}

TEST(causal_attn, "scores of 1e5 pick one value, equal tokens give it back, T = 0 is empty") {
    enum { T = 3, C = 2 };
    float qkv[T * 3 * C] = {300, 0, 0,    0, 1, 2, /* k = 0 */
                            300, 0, 500,  0, 3, 4, /* 500 * 300 / sqrt(2): beats 0 by 1e5 */
                            300, 0, -500, 0, 5, 6},
                      out[T * C], att[2 * T * T];
    llm_causal_attn_forward(out, att, qkv, 1, T, C, 1);
    const float want[T * C] = {1, 2, 3, 4, 3, 4};
    CHECK_ALL_NEAR(out, want, T * C, 0.0f);

    for (size_t t = 0; t < T; t++)
        for (size_t c = 0; c < 3 * C; c++) qkv[t * 3 * C + c] = (float)c;
    llm_causal_attn_forward(out, att, qkv, 1, T, C, 2);
    for (size_t t = 0; t < T; t++) CHECK_ALL_NEAR(out + t * C, qkv + 2 * C, C, 1e-6f);

    llm_causal_attn_forward(out, att, qkv, 1, 0, C, 1);
    llm_causal_attn_forward(out, att, qkv, 0, T, C, 1);
    llm_arena small;
    CHECK(llm_arena_create(&small, 64 * 4 * sizeof(float)));
    CHECK_ASSERTS(llm_causal_attn_forward(out, att, qkv, 1, T, C, 0));
    CHECK_ASSERTS(llm_causal_attn_forward(out, att, qkv, 1, 1, 3, 2));
    CHECK_ASSERTS(llm_causal_attn_backward(qkv, out, att, qkv, 1, 1, C, 0, &small));
    CHECK_ASSERTS(llm_causal_attn_backward(qkv, out, att, qkv, 1, 1, 3, 2, &small));
    CHECK_ASSERTS(llm_causal_attn_backward(qkv, out, att, qkv, 1, 5, C, 1, &small)); /* too small */
    llm_arena_destroy(&small);
}

TEST(causal_attn,
     "two heads: output and gradient are what @autodiff_array makes of the definition") {
    enum { T = 5, C = 6, H = 2, D = C / H };
    tape_open(100);
    const size_t qkv = tape_draw(T, 3 * C), dy = tape_draw(T, C);
    size_t y = tape_input(zeros(T * C), T, C);
    for (size_t h = 0; h < H; h++) {
        const size_t q = tape_columns(qkv, h * D, D), k = tape_columns(qkv, C + h * D, D);
        const size_t v = tape_columns(qkv, 2 * C + h * D, D);
        y = tape_add(y, tape_placed(tape_causal_attn(q, k, v), h * D, C));
    }
    float out[T * C], att[H * T * T], *dqkv = zeros(T * 3 * C);
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 1 << 16));
    tape_back(y, tape_floats(dy));
    llm_causal_attn_forward(out, att, tape_floats(qkv), 1, T, C, H);
    llm_causal_attn_backward(dqkv, tape_floats(dy), att, tape_floats(qkv), 1, T, C, H, &arena);
    TAPE_CHECK(out, y, 2e-6);
    TAPE_CHECK_GRAD(dqkv, qkv, 5e-6);
    llm_arena_destroy(&arena);
}

/* @prenorm */
#include "../test.h"

#include "../../llm.h"

enum { N = 3, C = 5 };
static const char *const name[4] = {"post", "pre", "sandwich", "deepnorm"};

static bool has_in(size_t kind) { return kind == LLM_PRENORM_PRE || kind == LLM_PRENORM_SANDWICH; }

static llm_prenorm_acts acts_of(size_t rows, size_t width) {
    llm_prenorm_acts a;
    a.in_mean = floats(rows), a.in_rstd = floats(rows);
    a.out_mean = floats(rows), a.out_rstd = floats(rows);
    a.sum = floats(rows * width);
    return a;
}

TEST(prenorm, "values and gradients equal PyTorch around a sublayer, in all four places") {
    const float *x = golden("in/x"), *dy = golden("in/dy"), *fw = golden("in/f_w");
    const llm_prenorm_weights w = {golden("in/in_w"), golden("in/in_b"), golden("in/out_w"),
                                   golden("in/out_b")};
    for (size_t k = 0; k < 4; k++) {
        const llm_prenorm_kind kind = (llm_prenorm_kind)k;
        const float alpha = llm_prenorm_alpha(kind, 6);
        const llm_prenorm_acts a = acts_of(N, C);
        const llm_prenorm_weights dw = {zeros(C), zeros(C), zeros(C), zeros(C)};
        float h[N * C], f[N * C], y[N * C], *dx = zeros(N * C), *df = zeros(N * C),
                                            *dh = zeros(N * C);
        llm_arena arena;
        CHECK(llm_arena_create(&arena, 256));
        llm_prenorm_in_forward(h, &a, x, &w, N, C, kind, 1e-5f);
        for (size_t n = 0; n < N; n++) {
            for (size_t j = 0; j < C; j++) {
                double sum = 0.0;
                for (size_t i = 0; i < C; i++) sum += (double)h[n * C + i] * (double)fw[i * C + j];
                f[n * C + j] = (float)tanh(sum);
            }
        }
        llm_prenorm_out_forward(y, &a, x, f, &w, N, C, kind, alpha, 1e-5f);
        CHECK_GOLDEN(y, N * C, 2e-6f, "%s/y", name[k]);

        llm_prenorm_out_backward(dx, df, &dw, dy, &a, &w, N, C, kind, alpha, &arena);
        for (size_t n = 0; n < N; n++)
            for (size_t j = 0; j < C; j++)
                for (size_t i = 0; i < C; i++)
                    dh[n * C + i] +=
                        df[n * C + j] * (1.0f - f[n * C + j] * f[n * C + j]) * fw[i * C + j];
        llm_prenorm_in_backward(dx, &dw, dh, &a, x, &w, N, C, kind);
        /* two norms over five channels behind each other: sums of terms around 30 */
        CHECK_GOLDEN(dx, N * C, 1e-5f, "%s/dx", name[k]);
        if (has_in(k)) CHECK_GOLDEN(dw.in_w, C, 1e-5f, "%s/din_w", name[k]);
        if (has_in(k)) CHECK_GOLDEN(dw.in_b, C, 1e-5f, "%s/din_b", name[k]);
        if (kind != LLM_PRENORM_PRE) CHECK_GOLDEN(dw.out_w, C, 1e-5f, "%s/dout_w", name[k]);
        if (kind != LLM_PRENORM_PRE) CHECK_GOLDEN(dw.out_b, C, 1e-5f, "%s/dout_b", name[k]);
        CHECK(arena.used == 0);
        llm_arena_destroy(&arena);
    }
}

TEST(prenorm,
     "a sublayer that returns 0: pre is the identity, for values and gradients; all accumulate") {
    const float x[C] = {1.0f, -2.0f, 3.0f, 0.5f, 4.0f}, f[C] = {0},
                dy[C] = {1.0f, 2.0f, 3.0f, 4.0f, 5.0f};
    float y[C], dx[C], df[C], dh[C] = {0};
    const llm_prenorm_weights w = {zeros(C), zeros(C), NULL, NULL},
                              dw = {zeros(C), zeros(C), NULL, NULL};
    const llm_prenorm_acts a = acts_of(1, C);
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 64));
    for (size_t i = 0; i < C; i++) dx[i] = 10.0f, df[i] = 20.0f;
    llm_prenorm_in_forward(y, &a, x, &w, 1, C, LLM_PRENORM_PRE, 1e-5f);
    llm_prenorm_out_forward(y, &a, x, f, &w, 1, C, LLM_PRENORM_PRE, 1.0f, 1e-5f);
    CHECK(memcmp(y, x, sizeof x) == 0);
    llm_prenorm_out_backward(dx, df, &dw, dy, &a, &w, 1, C, LLM_PRENORM_PRE, 1.0f, &arena);
    llm_prenorm_in_backward(dx, &dw, dh, &a, x, &w, 1, C, LLM_PRENORM_PRE);
    for (size_t i = 0; i < C; i++) CHECK(dx[i] == 10.0f + dy[i] && df[i] == 20.0f + dy[i]);
    llm_arena_destroy(&arena);
}

TEST(prenorm, "alpha is 1 but for deepnorm, where it is the fourth root of 2 L") {
    for (size_t k = 0; k < 3; k++) CHECK(llm_prenorm_alpha((llm_prenorm_kind)k, 8) == 1.0f);
    CHECK_NEAR(llm_prenorm_alpha(LLM_PRENORM_DEEPNORM, 8), 2.0f, 1e-6f);
    CHECK_NEAR(llm_prenorm_alpha(LLM_PRENORM_DEEPNORM, 50), 3.16227766f, 1e-6f);
}

/* A stack of L sublayers f(h) = h W_l^T, W random with variance 1/width, and a final norm
 * for pre. variance (L+1): of the stream before each layer. Returns the length of the gradient of
 * W_L when the loss is a random linear function of the output. */
enum { ROWS = 64, WIDTH = 48, DEEP = 64 };
static double probe(double *variance, llm_prenorm_kind kind, size_t L, uint64_t seed) {
    llm_rng rng = llm_rng_seed(seed);
    const size_t n = ROWS * WIDTH;
    float *x = floats(n), *y = floats(n), *h = floats(n), *f = floats(n),
          *W = floats(WIDTH * WIDTH);
    float *one = floats(WIDTH), *zero = zeros(WIDTH), *dy = floats(n), *df = zeros(n),
          *dx = zeros(n);
    float *dW = zeros(WIDTH * WIDTH);
    const llm_prenorm_weights w = {one, zero, one, zero};
    const llm_prenorm_weights dw = {zeros(WIDTH), zeros(WIDTH), zeros(WIDTH), zeros(WIDTH)};
    const llm_prenorm_acts a = acts_of(ROWS, WIDTH);
    llm_arena arena;
    CHECK(llm_arena_create(&arena, n * sizeof(float) + 64));
    for (size_t i = 0; i < WIDTH; i++) one[i] = 1.0f;
    llm_rng_normal_fill(&rng, x, n);
    llm_rng_normal_fill(&rng, dy, n);
    for (size_t i = 0; i < n; i++) dy[i] /= sqrtf((float)n);
    for (size_t l = 0; l <= L; l++) {
        variance[l] = dot(x, x, n) / (double)n;
        if (l == L) break;
        llm_rng_normal_fill(&rng, W, WIDTH * WIDTH);
        for (size_t i = 0; i < WIDTH * WIDTH; i++) W[i] /= sqrtf((float)WIDTH);
        llm_prenorm_in_forward(h, &a, x, &w, ROWS, WIDTH, kind, 1e-5f);
        llm_matmul_forward(f, h, W, NULL, ROWS, WIDTH, WIDTH);
        llm_prenorm_out_forward(y, &a, x, f, &w, ROWS, WIDTH, kind, llm_prenorm_alpha(kind, L),
                                1e-5f);
        memcpy(x, y, n * sizeof(float));
    }
    if (kind == LLM_PRENORM_PRE) { /* the norm before the head */
        float *mean = floats(ROWS), *rstd = floats(ROWS), *d = zeros(n);
        llm_layernorm_forward(y, mean, rstd, x, one, zero, ROWS, WIDTH, 1e-5f);
        llm_layernorm_backward(d, NULL, NULL, dy, x, one, mean, rstd, ROWS, WIDTH);
        dy = d;
    }
    llm_prenorm_out_backward(dx, df, &dw, dy, &a, &w, ROWS, WIDTH, kind, llm_prenorm_alpha(kind, L),
                             &arena);
    llm_matmul_backward(NULL, dW, NULL, df, h, W, ROWS, WIDTH, WIDTH);
    llm_arena_destroy(&arena);
    return sqrt(dot(dW, dW, WIDTH * WIDTH));
}

TEST(prenorm, "at the start: pre's stream grows linearly with depth, post's stays; last gradients "
              "1/sqrt(L) and constant") {
    double variance[DEEP + 1], length[2][3];
    for (size_t i = 0; i < 3; i++) { /* L = 4, 16, 64 */
        const size_t L = (size_t)4 << (2 * i);
        for (size_t k = 0; k < 2; k++) {
            length[k][i] = 0.0;
            for (uint64_t seed = 1; seed <= 3; seed++)
                length[k][i] += probe(variance, (llm_prenorm_kind)k, L, seed) / 3.0;
            for (size_t l = 1; k == LLM_PRENORM_POST && l <= L; l++)
                CHECK_NEAR(variance[l], 1.0, 1e-3);
        }
    }
    /* each layer of pre adds a variance of 1, whatever came before: a straight line of slope 1 */
    double mean_l = DEEP / 2.0, mean_v = 0.0, lv = 0.0, ll = 0.0, vv = 0.0;
    for (size_t l = 0; l <= DEEP; l++) mean_v += variance[l] / (DEEP + 1);
    for (size_t l = 0; l <= DEEP; l++) {
        const double a = (double)l - mean_l, b = variance[l] - mean_v;
        lv += a * b, ll += a * a, vv += b * b;
    }
    CHECK(lv * lv / (ll * vv) > 0.99);
    CHECK_NEAR(lv / ll, 1.0, 0.15);
    for (size_t i = 0; i < 2; i++) {
        /* four times the depth: half the gradient, or the same. The theorem is for L -> inf,
         * 1/sqrt(L + 1) for a stream that starts at 1: 0.54 and 0.51 */
        CHECK_NEAR(length[LLM_PRENORM_PRE][i + 1] / length[LLM_PRENORM_PRE][i], 0.5, 0.1);
        CHECK_NEAR(length[LLM_PRENORM_POST][i + 1] / length[LLM_PRENORM_POST][i], 1.0, 0.1);
    }
}

/* @absolute_position */
#include "../test.h"

#include "../../llm.h"

enum { B = 4, T = 5, C = 3, M = 9, N = B * T };

TEST(absolute_position, "equals the embeddings of GPT-2, OPT and RoBERTa on padded batches") {
    const char *const models[3] = {"gpt2", "opt", "roberta"};
    const int first[3] = {0, 2, 2}, filler[3] = {0, 1, 1}, idle[3] = {-1, -1, 1};
    const bool *real = as_bools(golden("mask/real"), N);
    for (size_t m = 0; m < 3; m++) {
        int pos[N];
        float y[N * C], dx[N * C], *dw = zeros(M * C);
        const float *x = golden("%s/x", models[m]), *w = golden("%s/w", models[m]);
        const float *dy = golden("%s/dy", models[m]), *want = golden("%s/pos", models[m]);
        llm_absolute_position_ids(pos, real, NULL, first[m], filler[m], B, T);
        for (size_t n = 0; n < N; n++) CHECK(pos[n] == (int)want[n]);
        llm_absolute_position_forward(y, x, w, pos, N, M, C);
        CHECK_GOLDEN(y, N * C, 1e-7, "%s/y", models[m]);
        for (size_t i = 0; i < N * C; i++) dx[i] = 1.0f;
        llm_absolute_position_backward(dx, dw, dy, pos, idle[m], N, M, C);
        for (size_t i = 0; i < N * C; i++) CHECK(dx[i] == 1.0f + dy[i]); /* added */
        CHECK_GOLDEN(dw, M * C, 1e-6, "%s/dw", models[m]); /* sums of at most 8 numbers */
        llm_absolute_position_backward(NULL, dw, dy, pos, idle[m], N, M, C);
        for (size_t i = 0; i < M * C; i++) dw[i] /= 2.0f;
        CHECK_GOLDEN(dw, M * C, 1e-6, "%s/dw", models[m]);
        llm_absolute_position_backward(dx, NULL, dy, pos, idle[m], N, M, C);
    }
}

TEST(absolute_position, "a cache moves the count on, and packed texts begin anew") {
    const bool *real = as_bools(golden("mask/real"), N);
    const int past[B] = {3, 3, 3, 3}, uneven[B] = {0, 7, 1, 2};
    const float *want = golden("cached/pos");
    int pos[N], alone[N];
    llm_absolute_position_ids(pos, real, past, 2, 1, B, T);
    for (size_t n = 0; n < N; n++) CHECK(pos[n] == (int)want[n]);
    llm_absolute_position_ids(pos, real, uneven, 0, -1, B, T);
    llm_absolute_position_ids(alone, real, NULL, 0, -1, B, T);
    for (size_t n = 0; n < N; n++) CHECK(pos[n] == (real[n] ? alone[n] + uneven[n / T] : -1));

    const size_t start[6] = {0, 1, 1, 4, 9, 11}; /* texts of 1, 0, 3, 5, 2 tokens */
    const int counted[11] = {0, 0, 1, 2, 0, 1, 2, 3, 4, 0, 1};
    for (size_t n = 0; n < N; n++) pos[n] = -5;
    llm_absolute_position_packed(pos, start, 5);
    CHECK(memcmp(pos, counted, sizeof counted) == 0 && pos[11] == -5);
    pos[0] = 77;
    llm_absolute_position_packed(pos, start, 0);
    CHECK(pos[0] == 77);
    const size_t backwards[3] = {0, 2, 1};
    CHECK_ASSERTS(llm_absolute_position_packed(pos, backwards, 2));
}

TEST(absolute_position,
     "y = x + w[pos]: gradients by differences, rows counted from 0 without pos") {
    enum { SMALL = 4 };
    float x[SMALL * C], w[M * C], dy[SMALL * C], y[SMALL * C], given[SMALL * C];
    float *dx = zeros(SMALL * C), *dw = zeros(M * C);
    const int pos[SMALL] = {8, 0, 8, 3}, count[SMALL] = {0, 1, 2, 3};
    llm_rng rng = llm_rng_seed(1);
    llm_rng_normal_fill(&rng, x, SMALL * C);
    llm_rng_normal_fill(&rng, w, M * C);
    llm_rng_normal_fill(&rng, dy, SMALL * C);
    llm_absolute_position_backward(dx, dw, dy, pos, -1, SMALL, M, C);
#define LOSS (llm_absolute_position_forward(y, x, w, pos, SMALL, M, C), dot(y, dy, SMALL * C))
    CHECK_GRAD(dx, x, SMALL * C, 0.125f, 1e-5f, LOSS); /* linear: any step will do */
    CHECK_GRAD(dw, w, M * C, 0.125f, 1e-5f, LOSS);
    llm_absolute_position_forward(given, x, w, count, SMALL, M, C);
    memcpy(y, x, sizeof y);
    llm_absolute_position_forward(y, y, w, NULL, SMALL, M, C); /* in place */
    CHECK(memcmp(y, given, sizeof y) == 0);
    float *counted = zeros(M * C), *named = zeros(M * C);
    llm_absolute_position_backward(NULL, counted, dy, NULL, -1, SMALL, M, C);
    llm_absolute_position_backward(NULL, named, dy, count, -1, SMALL, M, C);
    CHECK(memcmp(counted, named, M * C * sizeof(float)) == 0);
    llm_absolute_position_backward(NULL, counted, dy, NULL, 0, SMALL, M, C); /* row 0 stays */
    for (size_t i = 0; i < M * C; i++) CHECK(counted[i] == (i < C ? 1.0f : 2.0f) * named[i]);
}

TEST(absolute_position, "a position without a row is refused") {
    float x[4] = {0};
    const int high[1] = {2}, low[1] = {-1};
    CHECK_ASSERTS(llm_absolute_position_forward(x, x, x, high, 1, 2, 2));
    CHECK_ASSERTS(llm_absolute_position_forward(x, x, x, low, 1, 2, 2));
    CHECK_ASSERTS(llm_absolute_position_forward(x, x, x, NULL, 2, 1, 2));
    CHECK_ASSERTS(llm_absolute_position_backward(x, x, x, high, -1, 1, 2, 2));
    CHECK_ASSERTS(llm_absolute_position_backward(x, x, x, low, -1, 1, 2, 2));
    llm_absolute_position_forward(x, x, x, NULL, 0, 0, 2);
    llm_absolute_position_backward(x, x, x, NULL, -1, 0, 0, 2);
    CHECK(x[0] == 0.0f && x[3] == 0.0f);
}

/* Rows 0 .. seen-1 of a table are trained to name their position's remainder by 4; the mean loss
 * over the rows from .. to-1 of the table, in nats. */
static void absolute_train(uint64_t seed, float *w, float *start, double *inside, double *outside) {
    enum { ROWS = 32, SEEN = 16, WIDE = 8, CLASSES = 4 };
    enum { TABLE = ROWS * WIDE, ALL = TABLE + CLASSES * WIDE };
    float g[ALL], m[ALL] = {0}, v[ALL] = {0}, x[ROWS * WIDE] = {0};
    float y[ROWS * WIDE], logit[ROWS * CLASSES], dy[ROWS * WIDE];
    llm_rng rng = llm_rng_seed(seed);
    llm_rng_normal_fill(&rng, w, ALL);
    for (size_t i = 0; i < ALL; i++) start[i] = w[i] *= i < TABLE ? 0.02f : 0.3f;
    llm_adamw_config c = llm_adamw_defaults();
    c.lr = 0.02f, c.weight_decay = 0.0f;
    for (size_t t = 1; t <= 201; t++) {
        const size_t rows = t > 200 ? ROWS : SEEN;
        double loss[2] = {0.0, 0.0};
        llm_absolute_position_forward(y, x, w, NULL, rows, ROWS, WIDE);
        llm_matmul_forward(logit, y, w + TABLE, NULL, rows, WIDE, CLASSES);
        for (size_t n = 0; n < rows; n++) {
            float *z = logit + n * CLASSES;
            const float all = llm_logsumexp(z, CLASSES);
            loss[n >= SEEN] += (double)(all - z[n % CLASSES]);
            for (size_t k = 0; k < CLASSES; k++)
                z[k] = expf(z[k] - all) - (k == n % CLASSES ? 1.0f : 0.0f);
        }
        *inside = loss[0] / SEEN, *outside = loss[1] / (ROWS - SEEN);
        if (t > 200) return;
        for (size_t i = 0; i < ALL; i++) g[i] = 0.0f;
        for (size_t i = 0; i < ROWS * WIDE; i++) dy[i] = 0.0f;
        llm_matmul_backward(dy, g + TABLE, NULL, logit, y, w + TABLE, rows, WIDE, CLASSES);
        llm_absolute_position_backward(NULL, g, dy, NULL, -1, rows, ROWS, WIDE);
        llm_adamw_step(w, m, v, g, ALL, &c, t);
    }
}

TEST(absolute_position, "rows that no text reached keep their start, and the model is lost there") {
    for (uint64_t seed = 1; seed <= 4; seed++) {
        float w[32 * 8 + 32], start[32 * 8 + 32];
        double inside, outside;
        absolute_train(seed, w, start, &inside, &outside);
        CHECK(memcmp(w + 16 * 8, start + 16 * 8, 16 * 8 * sizeof(float)) == 0);
        for (size_t i = 0; i < 16 * 8; i++) CHECK(w[i] != start[i]);
        CHECK(inside < 0.01);
        CHECK(outside - inside > 0.65); /* 1.35 to 1.43 over seeds 11 to 42: ln 4 is 1.39 */
    }
}

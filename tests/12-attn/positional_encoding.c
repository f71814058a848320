/* @positional_encoding */
#include "../test.h"

#include "../../llm.h"

static llm_arena pe_arena(void) {
    llm_arena a;
    a.memory = (unsigned char *)test_memory(1 << 21, 1);
    a.size = 1 << 21, a.used = a.peak = 0;
    return a;
}

TEST(positional_encoding, "each scheme is what its name says, and no two places are alike") {
    llm_rng rng = llm_rng_seed(1);
    for (int scheme = LLM_POSITIONAL_ENCODING_RAMP; scheme <= LLM_POSITIONAL_ENCODING_FOURIER;
         scheme++)
        for (size_t T = 1; T <= 16; T += 5) {
            const size_t C = 16;
            float *table = floats(T * C);
            llm_positional_encoding_table(table, (llm_positional_encoding_scheme)scheme, T, C, 2.0f,
                                          &rng);
            for (size_t t = 0; t < T; t++) {
                double number = 0.0, sum = 0.0, square = 0.0;
                for (size_t c = 0; c < C; c++) {
                    const double e = (double)table[t * C + c];
                    sum += e, square += e * e;
                    number += scheme == LLM_POSITIONAL_ENCODING_BINARY
                                  ? (e + 1.0) * pow(2.0, (double)c) / 2.0
                                  : e * (double)c;
                }
                if (scheme == LLM_POSITIONAL_ENCODING_RAMP)
                    CHECK_NEAR(sum, (double)t / (double)T, 1e-7);
                if (scheme == LLM_POSITIONAL_ENCODING_BINARY) {
                    CHECK(square == 16.0 && number == (double)t);
                }
                if (scheme == LLM_POSITIONAL_ENCODING_ONE_HOT)
                    CHECK(sum == 1.0 && square == 1.0 && number == (double)t);
                if (scheme == LLM_POSITIONAL_ENCODING_FOURIER) CHECK_NEAR(square, 8.0, 1e-5);
                for (size_t s = 0; s < t; s++) {
                    double apart = 0.0;
                    for (size_t c = 0; c < C; c++)
                        apart += fabs((double)table[t * C + c] - (double)table[s * C + c]);
                    CHECK(apart > 1e-2);
                }
            }
        }
    float *none = floats(6), ramp[3];
    llm_positional_encoding_table(ramp, LLM_POSITIONAL_ENCODING_RAMP, 3, 1, 0.0f, NULL);
    for (size_t t = 0; t < 3; t++) CHECK(ramp[t] == (float)t / 3.0f);
    llm_positional_encoding_table(none, LLM_POSITIONAL_ENCODING_NONE, 3, 2, 0.0f, NULL);
    for (size_t i = 0; i < 6; i++) CHECK(none[i] == 0.0f);
    float *wide = floats(3 * 40);
    llm_positional_encoding_table(wide, LLM_POSITIONAL_ENCODING_BINARY, 3, 40, 0.0f, NULL);
    for (size_t i = 0; i < 3 * 40; i++)
        CHECK(wide[i] == (i == 40 || i == 81 ? 1.0f : -1.0f)); /* bit 0 of 1, bit 1 of 2 */
}

TEST(positional_encoding,
     "Fourier features turn spread times in a text, at N(0, spread^2) speeds") {
    enum { T = 64, C = 2000 };
    float *table = floats(T * C), spread = 3.0f;
    llm_rng rng = llm_rng_seed(2);
    llm_positional_encoding_table(table, LLM_POSITIONAL_ENCODING_FOURIER, T, C, spread, &rng);
    double square = 0.0, mean = 0.0;
    for (size_t c = 0; c < C; c += 2) { /* the angle of one step, from the first one */
        const double turns =
            atan2((double)table[C + c], (double)table[C + c + 1]) * T / 2.0 / LLM_PI;
        square += turns * turns / (C / 2.0), mean += turns / (C / 2.0);
        CHECK_NEAR(table[c], 0.0, 0.0);
        CHECK_NEAR(table[5 * C + c], sin(2.0 * LLM_PI * turns * 5.0 / T), 2e-6);
        CHECK_NEAR(table[5 * C + c + 1], cos(2.0 * LLM_PI * turns * 5.0 / T), 2e-6);
    }
    CHECK_NEAR(square, 9.0, 3.0 * 9.0 * sqrt(2.0 / 1000.0)); /* 3 standard errors */
    CHECK_NEAR(mean, 0.0, 3.0 * 3.0 / sqrt(1000.0));
}

TEST(positional_encoding, "a cell of a grid has its row's and its column's encoding: all differ") {
    enum { R = 3, W = 5, CA = 2, CB = 3 };
    float rows[R * CA], columns[W * CB], grid[R * W * (CA + CB)];
    llm_positional_encoding_table(rows, LLM_POSITIONAL_ENCODING_BINARY, R, CA, 0.0f, NULL);
    llm_positional_encoding_table(columns, LLM_POSITIONAL_ENCODING_BINARY, W, CB, 0.0f, NULL);
    llm_positional_encoding_grid(grid, rows, columns, R, W, CA, CB);
    for (size_t n = 0; n < R * W; n++) {
        const float *e = grid + n * (CA + CB);
        CHECK(memcmp(e, rows + n / W * CA, sizeof(float) * CA) == 0);
        CHECK(memcmp(e + CA, columns + n % W * CB, sizeof(float) * CB) == 0);
        for (size_t m = 0; m < n; m++)
            CHECK(memcmp(e, grid + m * (CA + CB), sizeof(float) * (CA + CB)) != 0);
    }
}

TEST(positional_encoding, "added and appended, with gradients by differences") {
    enum { B = 2, T = 3, C = 2, P = 4, N = B * T * C, M = B * T * (C + P) };
    float x[N], table[T * P], y[M], dy[M], *dx = zeros(N), *dt = zeros(T * P);
    llm_rng rng = llm_rng_seed(3);
    llm_rng_normal_fill(&rng, x, N);
    llm_rng_normal_fill(&rng, table, T * P);
    llm_rng_normal_fill(&rng, dy, M);
#define ADDED (llm_positional_encoding_add(y, x, table, B, T, C), dot(y, dy, N))
#define APPENDED (llm_positional_encoding_concat(y, x, table, B, T, C, P), dot(y, dy, M))
    llm_positional_encoding_add_backward(dx, dt, dy, B, T, C);
    CHECK_GRAD(dx, x, N, 0.25f, 1e-5f, ADDED); /* linear */
    CHECK_GRAD(dt, table, T * C, 0.25f, 1e-5f, ADDED);
    float *beside = zeros(T * C + 1);
    llm_positional_encoding_add_backward(NULL, beside, dy, B, T, C);
    CHECK(beside[T * C] == 0.0f && beside[0] == dt[0]);
    for (size_t i = 0; i < N; i++) dx[i] = 1.0f;
    for (size_t i = 0; i < T * P; i++) dt[i] = 1.0f;
    llm_positional_encoding_concat_backward(dx, dt, dy, B, T, C, P);
    for (size_t i = 0; i < N; i++) dx[i] -= 1.0f;
    for (size_t i = 0; i < T * P; i++) dt[i] -= 1.0f;
    CHECK_GRAD(dx, x, N, 0.25f, 1e-5f, APPENDED);
    CHECK_GRAD(dt, table, T * P, 0.25f, 1e-5f, APPENDED);
    llm_positional_encoding_add_backward(NULL, NULL, dy, B, T, C);
    llm_positional_encoding_concat_backward(NULL, NULL, dy, B, T, C, P);
    float kept[N];
    memcpy(kept, x, sizeof x);
    llm_positional_encoding_add(y, x, table, B, T, C);
    llm_positional_encoding_add(kept, kept, table, B, T, C); /* in place */
    CHECK(memcmp(kept, y, sizeof kept) == 0);
}

TEST(positional_encoding,
     "the order task: each text with its twin, every place used, labels right") {
    enum { B = 400, T = 5, V = 4 };
    int ids[B * T];
    bool first[B];
    size_t used[2][T] = {{0}}, yes = 0, others[2] = {0, 0};
    llm_rng rng = llm_rng_seed(4);
    llm_positional_encoding_order_task(ids, first, B, T, V, &rng);
    for (size_t b = 0; b < B; b++) {
        size_t at[2] = {T, T};
        for (size_t t = 0; t < T; t++) {
            const int id = ids[b * T + t], twin = ids[(b ^ 1) * T + t];
            CHECK(id >= 0 && id < V && twin == (id < 2 ? 1 - id : id));
            if (id < 2) CHECK(at[id] == T);
            if (id >= 2) others[id - 2]++;
            if (id < 2) at[id] = t, used[id][t]++;
        }
        CHECK(at[0] < T && at[1] < T && first[b] == (at[0] < at[1]));
        yes += first[b];
    }
    CHECK(yes == B / 2);
    /* of 600 drawn, each twice: 300 expected, 4 standard deviations */
    for (size_t i = 0; i < 2; i++) CHECK(fabs((double)others[i] / 2.0 - 300.0) < 4.0 * sqrt(150.0));
    llm_positional_encoding_order_task(ids, first, 2, 5, 3, &rng); /* one other token is enough */
    for (size_t i = 0; i < 2 * T; i++) /* 80 expected, 3 standard deviations of pairs */
        CHECK(fabs((double)used[i / T][i % T] - 80.0) < 3.0 * sqrt(2.0 * 80.0));
    CHECK_ASSERTS(llm_positional_encoding_order_task(ids, first, 3, 5, 4, &rng));
    CHECK_ASSERTS(llm_positional_encoding_order_task(ids, first, 2, 1, 4, &rng));
    CHECK_ASSERTS(llm_positional_encoding_order_task(ids, first, 2, 5, 2, &rng));
}

TEST(positional_encoding, "a table too small for its places is refused") {
    float e[16];
    CHECK_ASSERTS(llm_positional_encoding_table(e, LLM_POSITIONAL_ENCODING_RAMP, 3, 0, 0.0f, NULL));
    CHECK_ASSERTS(
        llm_positional_encoding_table(e, LLM_POSITIONAL_ENCODING_BINARY, 5, 2, 0.0f, NULL));
    CHECK_ASSERTS(
        llm_positional_encoding_table(e, LLM_POSITIONAL_ENCODING_ONE_HOT, 4, 3, 0.0f, NULL));
    CHECK_ASSERTS(
        llm_positional_encoding_table(e, LLM_POSITIONAL_ENCODING_FOURIER, 4, 3, 0.0f, NULL));
    llm_positional_encoding_table(e, LLM_POSITIONAL_ENCODING_BINARY, 4, 2, 0.0f, NULL);
    llm_positional_encoding_table(e, LLM_POSITIONAL_ENCODING_ONE_HOT, 4, 4, 0.0f, NULL);
}

/* One attention layer (two heads, C channels) over B texts of T tokens, its outputs averaged over
 * the text and read by one vector. All weights in w: tokens (V,C), the layer's four matrices (C,C),
 * the vector. The layer's input gets the table's encoding; causal hides what is ahead. */
enum { V = 4, C = 16, T = 8, B = 32, E = V * C, W = E + 4 * C * C + C };

static llm_mha_params order_params(float *w) {
    llm_mha_params p;
    p.wq = w + E, p.wk = p.wq + C * C, p.wv = p.wk + C * C, p.wo = p.wv + C * C;
    p.bq = p.bk = p.bv = p.bo = NULL;
    return p;
}

/* right: texts whose order is said correctly. g += gradient of the mean loss, unless NULL. */
static double order_pass(size_t *right, float *g, float *w, const float *table, const int *ids,
                         const bool *first, bool causal, llm_arena *arena) {
    const size_t mark = arena->used, n = B * T * C;
    const llm_mha_config c = llm_mha_defaults(B, T, C, 2);
    const llm_mha_params p = order_params(w);
    llm_mha_saved s = llm_mha_take(&c, arena);
    float *x = llm_arena_floats(arena, 4 * n), *y = x + n, *dy = y + n, *dx = dy + n;
    bool blocked[T * T];
    for (size_t i = 0; i < T * T; i++) blocked[i] = i % T > i / T;
    for (size_t r = 0; r < B * T; r++) memcpy(x + r * C, w + ids[r] * C, C * sizeof(float));
    llm_positional_encoding_add(x, x, table, B, T, C);
    llm_mha_forward(y, &s, x, x, x, &p, NULL, causal ? blocked : NULL, &c, arena);
    double loss = 0.0;
    const float *read = w + W - C;
    *right = 0;
    for (size_t b = 0; b < B; b++) {
        float z = 0.0f;
        for (size_t i = 0; i < T * C; i++) z += y[b * T * C + i] * read[i % C] / (float)T;
        const float sign = first[b] ? 1.0f : -1.0f;
        *right += z * sign > 0.0f;
        loss += log1p(exp(-(double)(sign * z))) / B;
        const float dz = -sign / (1.0f + expf(sign * z)) / (float)B;
        for (size_t i = 0; i < T * C; i++) {
            dy[b * T * C + i] = dz * read[i % C] / (float)T;
            if (g) g[W - C + i % C] += dz * y[b * T * C + i] / (float)T;
        }
    }
    if (g) {
        const llm_mha_params gp = order_params(g);
        for (size_t i = 0; i < n; i++) dx[i] = 0.0f;
        llm_mha_backward(dx, dx, dx, &gp, dy, &s, &p, &c, arena);
        for (size_t r = 0; r < B * T; r++)
            for (size_t i = 0; i < C; i++) g[ids[r] * C + (int)i] += dx[r * C + i];
    }
    arena->used = mark;
    return loss;
}

/* The share of 320 new texts whose order the trained layer knows. */
static double order_accuracy(llm_positional_encoding_scheme scheme, bool causal, uint64_t seed) {
    float *w = floats(W), *g = zeros(W), *m1 = zeros(W), *m2 = zeros(W), table[T * C];
    int ids[B * T];
    bool first[B];
    llm_arena arena = pe_arena();
    llm_rng rng = llm_rng_seed(seed);
    llm_positional_encoding_table(table, scheme, T, C, 1.0f, &rng);
    llm_rng_normal_fill(&rng, w, W);
    for (size_t i = E; i < W; i++) w[i] *= 0.25f;
    llm_adamw_config c = llm_adamw_defaults();
    c.lr = 0.01f;
    size_t right, sum = 0;
    for (size_t t = 1; t <= 310; t++) {
        for (size_t i = 0; i < W; i++) g[i] = 0.0f;
        llm_positional_encoding_order_task(ids, first, B, T, V, &rng);
        order_pass(&right, t <= 300 ? g : NULL, w, table, ids, first, causal, &arena);
        if (t <= 300) llm_adamw_step(w, m1, m2, g, W, &c, t);
        if (t > 300) sum += right;
    }
    return (double)sum / (10.0 * B);
}

TEST(positional_encoding, "without encoding and mask, permuted tokens give permuted outputs") {
    float *w = floats(W), *x = floats(T * C), *turned = floats(T * C), *y = floats(T * C),
          *z = floats(T * C);
    const size_t to[T] = {3, 0, 7, 1, 6, 2, 5, 4};
    llm_rng rng = llm_rng_seed(5);
    llm_arena arena = pe_arena();
    llm_rng_normal_fill(&rng, w, W);
    llm_rng_normal_fill(&rng, x, T * C);
    const llm_mha_config c = llm_mha_defaults(1, T, C, 2);
    const llm_mha_params p = order_params(w);
    llm_mha_saved s = llm_mha_take(&c, &arena);
    float table[T * C];
    llm_positional_encoding_table(table, LLM_POSITIONAL_ENCODING_FOURIER, T, C, 1.0f, &rng);
    for (int with = 0; with < 2; with++) {
        for (size_t t = 0; t < T; t++) memcpy(turned + to[t] * C, x + t * C, C * sizeof(float));
        if (with) llm_positional_encoding_add(x, x, table, 1, T, C);
        if (with) llm_positional_encoding_add(turned, turned, table, 1, T, C);
        llm_mha_forward(y, &s, x, x, x, &p, NULL, NULL, &c, &arena);
        llm_mha_forward(z, &s, turned, turned, turned, &p, NULL, NULL, &c, &arena);
        double worst = 0.0;
        for (size_t i = 0; i < T * C; i++)
            worst = fmax(worst, fabs((double)y[i] - (double)z[to[i / C] * C + i % C]));
        CHECK(with ? worst > 0.1 : worst < 2e-4); /* outputs up to 100 */
    }
}

/* Over seeds 2 to 10: none exactly 1/2, ramp 0.98 to 1, binary 0.93 to 1, one-hot 0.97 to 1,
 * Fourier 1, causal 1. */
TEST(positional_encoding, "order is learned from any encoding or from a causal mask, else never") {
    for (int scheme = 0; scheme <= LLM_POSITIONAL_ENCODING_FOURIER; scheme++) {
        const double right = order_accuracy((llm_positional_encoding_scheme)scheme, false, 1);
        CHECK(scheme == LLM_POSITIONAL_ENCODING_NONE ? right == 0.5 : right > 0.72);
    }
    CHECK(order_accuracy(LLM_POSITIONAL_ENCODING_NONE, true, 1) > 0.72);
}

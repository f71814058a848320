/* @llama_mlp */
#include "../test.h"

#include "../../llm.h"

#include "../arena.h"
#include "../tiny_rounded.h"

enum { C = 5, F = 7, MOST = 9 };

static float *lm_draw(size_t n, llm_rng *rng) {
    float *x = floats(n);
    for (size_t i = 0; i < n; i++) x[i] = llm_rng_normal(rng);
    return x;
}
static llm_stored_matrix lm_matrix(size_t rows, size_t columns, llm_rng *rng) {
    const llm_stored_matrix w = {(const unsigned char *)lm_draw(rows * columns, rng),
                                 LLM_GGUF_BLOCKS_F32, rows, columns};
    return w;
}

/* The definition, for one row, in doubles. */
static void lm_norm(double *out, const double *x, const float *w, const float *bias, double eps) {
    double mean = 0.0, square = 0.0;
    for (size_t i = 0; i < C; i++) mean += bias ? x[i] / C : 0.0;
    for (size_t i = 0; i < C; i++) square += (x[i] - mean) * (x[i] - mean) / C;
    for (size_t i = 0; i < C; i++)
        out[i] = (x[i] - mean) / sqrt(square + eps) * (double)w[i] + (bias ? (double)bias[i] : 0.0);
}
static double lm_row(const llm_stored_matrix *w, size_t r, const double *x) {
    const float *row = (const float *)(const void *)w->data + r * w->columns;
    double sum = 0.0;
    for (size_t i = 0; i < w->columns; i++) sum += (double)row[i] * x[i];
    return sum;
}
static void lm_want(double *want, const float *x, const llm_llama_file_layer *w,
                    const llm_llama_config *c) {
    double in[C], h[C], g[F], out[C], behind[C];
    float *const *b = w->vector;
    for (size_t i = 0; i < C; i++) in[i] = (double)x[i];
    lm_norm(h, in, b[LLM_LLAMA_NAMES_NORM2], b[LLM_LLAMA_NAMES_NORM2_BIAS], (double)c->eps);
    for (size_t j = 0; j < c->hidden; j++) {
        const double z =
            lm_row(&w->matrix[LLM_LLAMA_NAMES_GATE], j, h) +
            (b[LLM_LLAMA_NAMES_GATE_BIAS] ? (double)b[LLM_LLAMA_NAMES_GATE_BIAS][j] : 0.0);
        const double cube = 0.7978845608028654 * (z + 0.044715 * z * z * z);
        g[j] = c->family >= LLM_LLAMA_CONFIG_GEMMA2 ? 0.5 * z * (1.0 + tanh(cube))
                                                    : z / (1.0 + exp(-z));
        if (w->matrix[LLM_LLAMA_NAMES_UP].rows)
            g[j] *= lm_row(&w->matrix[LLM_LLAMA_NAMES_UP], j, h);
    }
    for (size_t i = 0; i < C; i++)
        out[i] = lm_row(&w->matrix[LLM_LLAMA_NAMES_DOWN], i, g) +
                 (b[LLM_LLAMA_NAMES_DOWN_BIAS] ? (double)b[LLM_LLAMA_NAMES_DOWN_BIAS][i] : 0.0);
    if (b[LLM_LLAMA_NAMES_OUT2])
        lm_norm(behind, out, b[LLM_LLAMA_NAMES_OUT2], NULL, (double)c->eps);
    for (size_t i = 0; i < C; i++) want[i] = in[i] + (b[LLM_LLAMA_NAMES_OUT2] ? behind : out)[i];
}

/* A layer's MLP as a family has it. */
static void lm_layer(llm_llama_file_layer *w, llm_llama_config *c, llm_llama_config_family family,
                     size_t hidden, llm_rng *rng) {
    memset(c, 0, sizeof *c);
    memset(w, 0, sizeof *w);
    c->family = family, c->width = C, c->hidden = hidden, c->eps = 0.25f;
    const bool gpt2 = family == LLM_LLAMA_CONFIG_GPT2;
    w->matrix[LLM_LLAMA_NAMES_GATE] = lm_matrix(hidden, C, rng);
    if (!gpt2) w->matrix[LLM_LLAMA_NAMES_UP] = lm_matrix(hidden, C, rng);
    w->matrix[LLM_LLAMA_NAMES_DOWN] = lm_matrix(C, hidden, rng);
    w->vector[LLM_LLAMA_NAMES_NORM2] = lm_draw(C, rng);
    if (family == LLM_LLAMA_CONFIG_GEMMA2) w->vector[LLM_LLAMA_NAMES_OUT2] = lm_draw(C, rng);
    if (!gpt2) return;
    w->vector[LLM_LLAMA_NAMES_NORM2_BIAS] = lm_draw(C, rng);
    w->vector[LLM_LLAMA_NAMES_GATE_BIAS] = lm_draw(hidden, rng);
    w->vector[LLM_LLAMA_NAMES_DOWN_BIAS] = lm_draw(C, rng);
}

TEST(llama_mlp, "every family's MLP is its formula in doubles, for few rows and many") {
    static const size_t count[] = {1, 2, 3, MOST};
    llm_rng rng = llm_rng_seed(2);
    for (int family = 0; family < LLM_LLAMA_CONFIG_FAMILIES; family++) {
        for (size_t k = 0; k < 8; k++) { /* of one hidden number, then of more */
            llm_llama_file_layer w;
            llm_llama_config c;
            double want[MOST * C];
            const size_t n = count[k % 4], hidden = k < 4 ? 1 : F;
            lm_layer(&w, &c, (llm_llama_config_family)family, hidden, &rng);
            float *x = lm_draw(n * C, &rng);
            for (size_t i = 0; i < n; i++) lm_want(want + i * C, x + i * C, &w, &c);
            llm_arena a = test_arena((n * (C + 2 * hidden) + 3 * 16) * sizeof(float));
            llm_llama_mlp(x, &w, &c, n, &a);
            CHECK(a.used == 0);
            for (size_t i = 0; i < n * C; i++) CHECK_NEAR(x[i], want[i], 2e-5);
        }
    }
}

TEST(llama_mlp, "norms with a bias and without, in place; a sum goes through its norm or not") {
    llm_rng rng = llm_rng_seed(3);
    llm_llama_config c;
    memset(&c, 0, sizeof c);
    c.width = C, c.eps = 0.125f;
    float *w = lm_draw(C, &rng), *bias = lm_draw(C, &rng);
    for (int way = 0; way < 2; way++) {
        const float *b = way ? bias : NULL;
        float *x = lm_draw(3 * C, &rng), *out = floats(3 * C), *f = lm_draw(3 * C, &rng);
        double want[3 * C], sum[3 * C], normed[3 * C];
        for (size_t i = 0; i < 3 * C; i++) sum[i] = (double)x[i], normed[i] = (double)f[i];
        for (size_t i = 0; i < 3; i++) lm_norm(want + i * C, sum + i * C, w, b, (double)c.eps);
        llm_llama_mlp_norm(out, x, w, b, 3, &c);
        for (size_t i = 0; i < 3 * C; i++) CHECK_NEAR(out[i], want[i], 1e-6);
        for (size_t i = 0; i < 3 && way; i++)
            lm_norm(normed + i * C, normed + i * C, w, NULL, (double)c.eps);
        for (size_t i = 0; i < 3 * C; i++) sum[i] += normed[i];
        float *total = floats(3 * C);
        memcpy(total, x, 3 * C * sizeof *x);
        llm_llama_mlp_add(total, f, way ? w : NULL, 3, &c);
        for (size_t i = 0; i < 3 * C; i++) CHECK_NEAR(total[i], sum[i], 1e-6);
        llm_llama_mlp_norm(x, x, w, b, 3, &c);
        for (size_t i = 0; i < 3 * C; i++) CHECK_NEAR(x[i], want[i], 1e-6);
    }
}

TEST(llama_mlp, "each of its products rounds what it gets if the settings say so") {
    enum { WIDE = 64, HIDDEN = 96 };
    static const int part[4] = {LLM_LLAMA_NAMES_GATE, LLM_LLAMA_NAMES_UP, LLM_LLAMA_NAMES_DOWN,
                                LLM_LLAMA_NAMES_Q}; /* the last one is not read */
    llm_rng rng = llm_rng_seed(7);
    llm_llama_config c;
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 65536));
    memset(&c, 0, sizeof c);
    c.family = LLM_LLAMA_CONFIG_LLAMA, c.width = WIDE, c.hidden = HIDDEN, c.eps = 1e-5f;
    for (int k = 0; k < 4; k++) {
        llm_llama_file_layer w;
        llm_stored_matrix coded[3], plain[3];
        float x[WIDE], y[WIDE], norm[WIDE];
        memset(&w, 0, sizeof w);
        for (int i = 0; i < WIDE; i++) norm[i] = 1.0f;
        w.vector[LLM_LLAMA_NAMES_NORM2] = norm;
        for (int i = 0; i < 3; i++) {
            tiny_rounded_matrix(&coded[i], &plain[i], i < 2 ? HIDDEN : WIDE, i < 2 ? WIDE : HIDDEN,
                                &rng);
            w.matrix[part[i]] = i == k ? coded[i] : plain[i];
        }
        llm_rng_normal_fill(&rng, x, WIDE);
        memcpy(y, x, sizeof y);
        c.rounded = false, llm_llama_mlp(x, &w, &c, 1, &arena);
        c.rounded = true, llm_llama_mlp(y, &w, &c, 1, &arena);
        tiny_rounded_check(y, x, WIDE, k < 3);
    }
    llm_arena_destroy(&arena);
}

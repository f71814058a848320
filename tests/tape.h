/* A second opinion on hand-written backward passes: the layer's forward pass in a few lines on the
 * tape of @autodiff_array, in double, and the gradients that follow. Include it behind llm.h.
 *
 *     tape_open();
 *     const size_t x = tape_draw(rows, cols), w = tape_draw(1, cols), y = tape_rmsnorm(x, w, 1e-5);
 *     tape_back(y, dy);                            then the layer on tape_floats(x), tape_floats(w)
 *     TAPE_CHECK(got_y, y, 1e-6);                  its output against the tape's
 *     TAPE_CHECK_GRAD(got_dx, x, 1e-6);            its gradient
 */
#ifndef TAPE_H
#define TAPE_H

static llm_autodiff_array tape;
static llm_arena tape_arena;
static llm_rng tape_rng;

/* An empty tape; what was on the last one is freed with the process. */
TEST_UNUSED static void tape_open(uint64_t seed) {
    tape_arena.memory = (unsigned char *)test_memory(1 << 24, 1);
    tape_arena.size = 1 << 24, tape_arena.used = 0, tape_arena.peak = 0;
    tape_rng = llm_rng_seed(seed);
    llm_autodiff_array_create(&tape, 1000, &tape_arena);
}

TEST_UNUSED static size_t tape_number(double x) { return llm_autodiff_array_number(&tape, x); }
TEST_UNUSED static size_t tape_input(const float *x, size_t rows, size_t cols) {
    return llm_autodiff_array_input(&tape, x, rows, cols);
}
/* rows x cols floats from N(0, std^2), and from N(0, 1). */
TEST_UNUSED static size_t tape_normal(size_t rows, size_t cols, float std) {
    float *x = floats(rows * cols);
    llm_rng_normal_fill(&tape_rng, x, rows * cols);
    for (size_t i = 0; i < rows * cols; i++) x[i] *= std;
    return tape_input(x, rows, cols);
}
TEST_UNUSED static size_t tape_draw(size_t rows, size_t cols) {
    return tape_normal(rows, cols, 1.0f);
}

#define TAPE_OP(name, OP)                                                                          \
    TEST_UNUSED static size_t tape_##name(size_t a, size_t b) {                                    \
        return llm_autodiff_array_op(&tape, LLM_AUTODIFF_ARRAY_##OP, a, b);                        \
    }
#define TAPE_MAP(name, OP)                                                                         \
    TEST_UNUSED static size_t tape_##name(size_t a) {                                              \
        return llm_autodiff_array_map(&tape, LLM_AUTODIFF_ARRAY_##OP, a, 0.0);                     \
    }
TAPE_OP(add, ADD)
TAPE_OP(sub, SUB)
TAPE_OP(mul, MUL)
TAPE_OP(div, DIV)
TAPE_OP(matmul, MATMUL)
TAPE_MAP(turn, TRANSPOSE)
TAPE_MAP(exp, EXP)
TAPE_MAP(log, LOG)
TAPE_MAP(tanh, TANH)
TAPE_MAP(relu, RELU)

TEST_UNUSED static size_t tape_pow(size_t a, double p) {
    return llm_autodiff_array_map(&tape, LLM_AUTODIFF_ARRAY_POW, a, p);
}
TEST_UNUSED static size_t tape_scale(size_t a, double s) { return tape_mul(a, tape_number(s)); }
TEST_UNUSED static size_t tape_row_sums(size_t a) { /* (rows,1) */
    return llm_autodiff_array_sum(&tape, a, tape.node[a].rows, 1);
}
TEST_UNUSED static size_t tape_row_means(size_t a) {
    return tape_scale(tape_row_sums(a), 1.0 / (double)tape.node[a].cols);
}

/* ---- layers, from their definitions ---- */

TEST_UNUSED static size_t tape_linear(size_t x, size_t w) { return tape_matmul(x, tape_turn(w)); }
TEST_UNUSED static size_t tape_sigmoid(size_t x) {
    return tape_scale(tape_add(tape_tanh(tape_scale(x, 0.5)), tape_number(1.0)), 0.5);
}
TEST_UNUSED static size_t tape_silu(size_t x) { return tape_mul(x, tape_sigmoid(x)); }
TEST_UNUSED static size_t tape_gelu_tanh(size_t x) {
    const size_t inside = tape_add(x, tape_scale(tape_mul(x, tape_mul(x, x)), 0.044715));
    const size_t t = tape_tanh(tape_scale(inside, sqrt(2.0 / acos(-1.0))));
    return tape_scale(tape_mul(x, tape_add(t, tape_number(1.0))), 0.5);
}
TEST_UNUSED static size_t tape_rmsnorm(size_t x, size_t w, double eps) {
    const size_t square = tape_add(tape_row_means(tape_mul(x, x)), tape_number(eps));
    return tape_mul(tape_mul(x, tape_pow(square, -0.5)), w);
}
TEST_UNUSED static size_t tape_layernorm(size_t x, size_t w, size_t b, double eps) {
    const size_t none = tape_number(1.0);
    return tape_add(tape_mul(tape_rmsnorm(tape_sub(x, tape_row_means(x)), none, eps), w), b);
}
/* Columns first to first + n of a, by a matrix of zeros and ones. */
TEST_UNUSED static size_t tape_columns(size_t a, size_t first, size_t n) {
    float *pick = zeros(tape.node[a].cols * n);
    for (size_t i = 0; i < n; i++) pick[(first + i) * n + i] = 1.0f;
    return tape_matmul(a, tape_input(pick, tape.node[a].cols, n));
}
/* The same n columns back in their place among cols, zeros around. */
TEST_UNUSED static size_t tape_placed(size_t a, size_t first, size_t cols) {
    const size_t n = tape.node[a].cols;
    float *place = zeros(n * cols);
    for (size_t i = 0; i < n; i++) place[i * cols + first + i] = 1.0f;
    return tape_matmul(a, tape_input(place, n, cols));
}
/* softmax of (q k^T / sqrt(D)) over the keys up to each query, times v: T rows each. */
TEST_UNUSED static size_t tape_causal_attn(size_t q, size_t k, size_t v) {
    const size_t T = tape.node[q].rows, D = tape.node[q].cols;
    float *seen = zeros(T * T);
    for (size_t t = 0; t < T; t++)
        for (size_t s = 0; s <= t; s++) seen[t * T + s] = 1.0f;
    const size_t score = tape_scale(tape_linear(q, k), 1.0 / sqrt((double)D));
    const size_t e = tape_mul(tape_exp(score), tape_input(seen, T, T));
    return tape_matmul(tape_div(e, tape_row_sums(e)), v);
}

/* ---- comparing ---- */

TEST_UNUSED static float *tape_copy(const double *from, size_t i) {
    const size_t n = tape.node[i].rows * tape.node[i].cols;
    float *x = floats(n);
    for (size_t k = 0; k < n; k++) x[k] = (float)from[k];
    return x;
}
TEST_UNUSED static float *tape_floats(size_t i) { return tape_copy(tape.node[i].value, i); }
TEST_UNUSED static void tape_back(size_t y, const float *dy) {
    llm_autodiff_array_grad(&tape, y, dy);
}
#define TAPE_CHECK(got, i, tol) TAPE_COMPARE(got, tape.node[i].value, i, tol)
#define TAPE_CHECK_GRAD(got, i, tol) TAPE_COMPARE(got, tape.node[i].gradient, i, tol)
#define TAPE_COMPARE(got, want, i, tol)                                                            \
    test_all(__FILE__, __LINE__, #got, got, tape_copy(want, i),                                    \
             tape.node[i].rows *tape.node[i].cols, (double)(tol), 1.0, 1.0)

#endif

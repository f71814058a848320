/* @sublayer */
#include "../test.h"

#include "../../llm_cuda.cuh"

#include "../tiny_sublayer_cuda.h"

/* Attention and MLP beside llm_encoder, where no text is padded: every order of the norms, with
 * dropout, whose numbers are the reference's. Matrices are small, biases and gains random. */
template <typename T>
static void check_stack(llm_sublayer_config c, size_t B, size_t length, float tol, float grad_tol) {
    const size_t n = B * length * c.width, matrices = llm_encoder_matrices(&c);
    const size_t count = matrices + llm_encoder_vectors(&c);
    float *flat = tiny_normal(1, count, 0.4f), *x = tiny_normal(2, n, 1.0f);
    float *dy = tiny_normal(3, n, 1.0f), *grads = tiny_normal(4, count, 0.1f);
    float *dx = floats(n), *got = floats(count > n ? count : n);
    tiny_stack<T> k;
    k.c = llm_cuda_sublayer_of(c);
    k.v = tiny_view<T>(B, length);
    k.v.number = 3;
    tiny_stack_make(k, flat, grads, matrices, count, false);
    const T *d_y = tiny_stack_forward(k, x);
    const T *d_dx = tiny_stack_backward(k, dy);

    llm_arena arena;
    CHECK(llm_arena_create(&arena, 1 << 20));
    float *matrix = flat, *vector = flat + matrices, *dmatrix = grads, *dvector = grads + matrices;
    llm_encoder_weights w, dw;
    llm_encoder_acts a;
    llm_encoder_bind(&w, &matrix, &vector, &c, &arena);
    llm_encoder_bind(&dw, &dmatrix, &dvector, &c, &arena);
    llm_sublayer_view v = llm_sublayer_look(B, length);
    v.number = 3;
    const float *y = llm_encoder_forward(&a, x, &v, &w, &c, &arena);
    memcpy(dx, dy, n * sizeof *dx);
    llm_encoder_backward(dx, &dw, &a, B, length, &w, &c, &arena);
    CHECK_ALL_NEAR(from_device_as(got, d_y, n), y, n, tol * tiny_most(y, n));
    CHECK_ALL_NEAR(from_device_as(got, d_dx, n), dx, n, grad_tol * tiny_most(dx, n));
    CHECK_ALL_NEAR(from_device(got, k.grads, count), grads, count,
                   grad_tol * tiny_most(grads, count));
    llm_arena_destroy(&arena);
}
static llm_sublayer_config stack(size_t layers, size_t width, size_t heads, llm_prenorm_kind norm,
                                 float dropout) {
    llm_sublayer_config c = llm_sublayer_defaults(layers, width, heads);
    c.hidden = width + 3, c.norm = norm, c.dropout = dropout, c.seed = 5;
    c.act = LLM_ACTIVATION_GELU;
    return c;
}
TEST(sublayer, "a stack equals llm_encoder, norms behind, in front and scaled, with dropout") {
    check_stack<float>(stack(1, 6, 2, LLM_PRENORM_PRE, 0.0f), 1, 3, 1e-5f, 3e-5f);
    if (TEST_SLOW) return;
    check_stack<float>(stack(2, 4, 1, LLM_PRENORM_PRE, 0.3f), 2, 3, 1e-5f, 3e-5f);
    check_stack<float>(stack(1, 4, 2, LLM_PRENORM_POST, 0.2f), 2, 5, 1e-5f, 3e-5f);
    check_stack<float>(stack(2, 3, 1, LLM_PRENORM_DEEPNORM, 0.0f), 1, 4, 1e-5f, 3e-5f);
}
TEST(sublayer, "bfloat16 follows in its rounding, on tensor cores and off them") {
    llm_sublayer_config c = stack(1, 16, 2, LLM_PRENORM_POST, 0.0f);
    c.hidden = 24;
    check_stack<llm_bf16>(c, TEST_SLOW ? 1 : 2, 3, 0.03f, 0.06f);
    if (!TEST_SLOW)
        check_stack<llm_bf16>(stack(1, 6, 2, LLM_PRENORM_PRE, 0.1f), 1, 4, 0.03f, 0.06f);
}

TEST(sublayer, "heads that are too wide are refused; no tokens are no work") {
    llm_sublayer_config c = stack(1, TEST_SLOW ? 4 : 130, 1, LLM_PRENORM_POST, 0.0f);
    const size_t matrices = llm_encoder_matrices(&c), count = matrices + llm_encoder_vectors(&c);
    tiny_stack<float> k;
    k.c = llm_cuda_sublayer_of(c);
    k.v = tiny_view<float>(1, 1);
    tiny_stack_make(k, zeros(count), zeros(count), matrices, count, false);
    if (!TEST_SLOW) {
        CHECK(llm_cuda_sublayer_forward(k.a, k.p, k.n, k.v, k.c, k.s, 0) ==
              (cudaError_t)cudaErrorInvalidValue);
        CHECK(llm_cuda_sublayer_backward(k.s.f, k.g, k.a, k.p, k.n, k.v, k.c, k.s, 0) ==
              (cudaError_t)cudaErrorInvalidValue);
    }
    c = stack(1, 4, 1, LLM_PRENORM_PRE, 0.1f);
    k.c = llm_cuda_sublayer_of(c);
    k.v = tiny_view<float>(2, 0);
    CHECK_CUDA(llm_cuda_sublayer_forward(k.a, k.p, k.n, k.v, k.c, k.s, 0));
    CHECK_CUDA(llm_cuda_sublayer_backward(k.s.f, k.g, k.a, k.p, k.n, k.v, k.c, k.s, 0));
}

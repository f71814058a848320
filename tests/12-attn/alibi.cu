/* @alibi */
#include "../test.h"

#include "../../llm_cuda.cuh"

static float *alibi_normal(uint64_t seed, size_t n) {
    float *x = floats(n);
    llm_rng rng = llm_rng_seed(seed);
    llm_rng_normal_fill(&rng, x, n);
    return x;
}

/* Forward and, with the reference's out and lse, backward. */
template <typename T> static void check_alibi(const llm_alibi_config *c) {
    const size_t rows = c->B * c->H * c->T, nq = rows * c->D, nk = c->B * c->H * c->S * c->D;
    float *q = alibi_normal(1, nq), *k = alibi_normal(2, nk), *v = alibi_normal(3, nk);
    float *dout = alibi_normal(4, nq), *dq = alibi_normal(5, nq), *dk = alibi_normal(6, nk);
    float *dv = alibi_normal(7, nk), *out = floats(nq), *lse = floats(rows), *m = floats(c->H);
    float *got = floats(nq + nk);
    llm_alibi_slopes(m, c->H);
    const T *d_q = to_device_as<T>(q, nq), *d_k = to_device_as<T>(k, nk);
    const T *d_v = to_device_as<T>(v, nk), *d_dout = to_device_as<T>(dout, nq);
    const float *d_m = to_device(m, c->H);
    T *d_out = to_device<T>(NULL, nq);
    float *d_lse = to_device<float>(NULL, rows);
    llm_arena arena;
    CHECK(llm_arena_create(&arena, c->B * c->H * c->S * sizeof(float) + 64));
    llm_alibi_forward(out, lse, q, k, v, m, c, &arena);
    CHECK_CUDA(llm_cuda_alibi_forward(d_out, d_lse, d_q, d_k, d_v, d_m, c, 0));
    CHECK_STORED(T, from_device_as(got, d_out, nq), out, nq, 3e-6f);
    CHECK_ALL_NEAR(from_device(got, d_lse, rows), lse, rows, 1e-5f);
    const T *d_stored = to_device_as<T>(out, nq);
    T *d_dq = to_device_as<T>(dq, nq), *d_dk = to_device_as<T>(dk, nk);
    T *d_dv = to_device_as<T>(dv, nk);
    llm_alibi_backward(dq, dk, dv, NULL, dout, out, lse, q, k, v, m, c, &arena);
    llm_arena_destroy(&arena);
    CHECK_CUDA(llm_cuda_alibi_backward(d_dq, d_dk, d_dv, d_dout, d_stored, to_device(lse, rows),
                                       d_q, d_k, d_v, d_m, c, to_device<float>(NULL, rows), 0));
    CHECK_STORED(T, from_device_as(got, d_dq, nq), dq, nq, 1e-5f);
    CHECK_STORED(T, from_device_as(got, d_dk, nk), dk, nk, 4e-5f);
    CHECK_STORED(T, from_device_as(got, d_dv, nk), dv, nk, 1e-5f);
}

TEST(alibi, "the kernels equal llm_alibi: causal and both ways, queries at the end of the keys") {
    const size_t shapes[5][6] = {/* B, H, T, S, D, causal */
                                 {1, 1, 1, 1, 1, 1},
                                 {2, 3, 5, 70, 4, 1},
                                 {1, 4, 67, 67, 5, 0},
                                 {1, 2, 66, 131, 3, 0},
                                 {1, 2, 130, 130, 65, 1}};
    for (size_t s = 0; s < (TEST_SLOW ? 1 : 5); s++) {
        const size_t *z = shapes[s];
        const llm_alibi_config c = {z[0], z[1], z[2], z[3], z[4], z[5] != 0};
        check_alibi<float>(&c);
        if (s == 1) check_alibi<llm_bf16>(&c);
    }
}

TEST(alibi, "with equal content weights fall by exp(-m) a token; more queries than keys: refused") {
    enum { T = 70 };
    float *q = zeros(T), *v = zeros(T), got[1];
    v[T - 4] = 1.0f; /* three tokens before the query */
    const float m[1] = {0.25f};
    llm_alibi_config c = {1, 1, 1, T, 1, true};
    float *d_out = to_device<float>(NULL, 1), *d_lse = to_device<float>(NULL, 1);
    const float *d_q = to_device(q, T), *d_v = to_device(v, T), *d_m = to_device(m, 1);
    CHECK_CUDA(llm_cuda_alibi_forward(d_out, d_lse, d_q, d_q, d_v, d_m, &c, 0));
    const double sum = (1.0 - exp(-0.25 * T)) / (1.0 - exp(-0.25));
    CHECK_NEAR(from_device(got, d_out, 1)[0], exp(-0.75) / sum, 1e-7);
    CHECK_NEAR(from_device(got, d_lse, 1)[0], log(sum), 1e-6);
    c.T = T + 1;
    CHECK(llm_cuda_alibi_forward(d_out, d_lse, d_q, d_q, d_v, d_m, &c, 0) == cudaErrorInvalidValue);
    CHECK(llm_cuda_alibi_backward(d_out, d_out, d_out, d_q, d_q, d_lse, d_q, d_q, d_v, d_m, &c,
                                  d_lse, 0) == cudaErrorInvalidValue);
    c.B = 0, c.T = 1;
    CHECK_CUDA(llm_cuda_alibi_forward(d_out, d_lse, d_q, d_q, d_v, d_m, &c, 0));
}

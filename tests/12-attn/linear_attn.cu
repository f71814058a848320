/* @linear_attn */
#include "../test.h"

#include "../../llm_cuda.cuh"

static float *linear_normal(uint64_t seed, size_t n, bool features) {
    float *x = floats(n);
    llm_rng rng = llm_rng_seed(seed);
    llm_rng_normal_fill(&rng, x, n);
    if (features) llm_linear_attn_phi(x, x, n);
    return x;
}

/* Forward and, with the reference's out and den, backward, each gradient alone. */
template <typename T> static void check_linear(size_t N, size_t length, size_t D, size_t E) {
    const size_t nq = N * length * D, nv = N * length * E, rows = N * length;
    float *q = linear_normal(1, nq, true), *k = linear_normal(2, nq, true);
    float *v = linear_normal(3, nv, false), *g = linear_normal(4, nv, false);
    float *dq = linear_normal(5, nq, false), *dk = linear_normal(6, nq, false);
    float *dv = linear_normal(7, nv, false), *out = floats(nv), *den = floats(rows);
    float *got = floats(nq + nv);
    for (size_t d = 0; d < D; d++) q[d] = 0.0f;       /* a query that no key answers */
    for (size_t i = 0; i < nv; i++) g[i] *= (float)D; /* gradients of q and k of size 1 */
    const T *d_q = to_device_as<T>(q, nq), *d_k = to_device_as<T>(k, nq);
    const T *d_v = to_device_as<T>(v, nv), *d_g = to_device_as<T>(g, nv);
    T *d_out = to_device<T>(NULL, nv), *none = NULL;
    float *d_den = to_device<float>(NULL, rows), *scratch = to_device<float>(NULL, rows);
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 1 << 22));
    llm_linear_attn_forward(out, den, q, k, v, N, length, D, E, 7, &arena);
    CHECK_CUDA(llm_cuda_linear_attn_forward(d_out, d_den, d_q, d_k, d_v, N, length, D, E, 0));
    CHECK_STORED(T, from_device_as(got, d_out, nv), out, nv, 4e-6f);
    CHECK_ALL_CLOSE(from_device(got, d_den, rows), den, rows, 4e-6f);
    const T *d_stored = to_device_as<T>(out, nv);
    d_den = to_device(den, rows);
    T *d_dq = to_device_as<T>(dq, nq), *d_dk = to_device_as<T>(dk, nq);
    T *d_dv = to_device_as<T>(dv, nv);
    llm_linear_attn_backward(dq, dk, dv, g, out, den, q, k, v, N, length, D, E, 9, &arena);
    llm_arena_destroy(&arena);
    CHECK_CUDA(llm_cuda_linear_attn_backward(d_dq, none, none, d_g, d_stored, d_den, d_q, d_k, d_v,
                                             N, length, D, E, scratch, 0));
    CHECK_CUDA(llm_cuda_linear_attn_backward(none, d_dk, none, d_g, d_stored, d_den, d_q, d_k, d_v,
                                             N, length, D, E, scratch, 0));
    CHECK_CUDA(llm_cuda_linear_attn_backward(none, none, d_dv, d_g, d_stored, d_den, d_q, d_k, d_v,
                                             N, length, D, E, scratch, 0));
    /* bfloat16 with more than 64 columns rounds dq and dk, of up to 30, twice */
    const float twice = sizeof(T) == 2 && E > 64 ? 0.15f : 0.0f;
    CHECK_STORED(T, from_device_as(got, d_dq, nq), dq, nq, 2e-5f + twice);
    CHECK_STORED(T, from_device_as(got, d_dk, nq), dk, nq, 5e-5f + twice);
    CHECK_STORED(T, from_device_as(got, d_dv, nv), dv, nv, 2e-5f + 1e-6f * (float)D);
}

TEST(linear_attn, "the kernels equal llm_linear_attn: ragged chunks, features and values") {
    check_linear<float>(1, 1, 1, 1);
    check_linear<float>(2, 130, 5, 3);
    check_linear<llm_bf16>(1, 66, 17, 8);
    if (TEST_SLOW) return;
    check_linear<float>(1, 64, 64, 64);
    check_linear<float>(1, 200, 3, 70); /* two launches of columns */
    check_linear<float>(1, 67, 100, 20);
    check_linear<llm_bf16>(2, 65, 128, 65);
}

TEST(linear_attn, "the state goes through a thousand positions: the mean of equal values is one") {
    enum { T = 1000 };
    if (TEST_SLOW) return;
    float *q = linear_normal(1, T, true), *k = linear_normal(2, T, true), *v = floats(T);
    float *got = floats(T), *d_out = to_device<float>(NULL, T), *d_den = to_device<float>(NULL, T);
    for (size_t t = 0; t < T; t++) v[t] = 3.0f;
    const float *d_q = to_device(q, T), *d_k = to_device(k, T), *d_v = to_device(v, T);
    CHECK_CUDA(llm_cuda_linear_attn_forward(d_out, d_den, d_q, d_k, d_v, 1, T, 1, 1, 0));
    from_device(got, d_out, T);
    double keys = 0.0;
    for (size_t t = 0; t < T; t++) CHECK_NEAR(got[t], 3.0, 1e-5);
    from_device(got, d_den, T);
    for (size_t t = 0; t < T; t++) {
        keys += (double)k[t];
        CHECK_NEAR(got[t] / ((double)q[t] * keys), 1.0, 2e-6);
    }
}

TEST(linear_attn, "nothing to do, shapes that are refused") {
    float *d = to_device<float>(NULL, 1);
    CHECK_CUDA(llm_cuda_linear_attn_forward(d, d, d, d, d, 0, 1, 1, 1, 0));
    CHECK_CUDA(llm_cuda_linear_attn_backward(d, d, d, d, d, d, d, d, d, 1, 0, 1, 1, d, 0));
    CHECK(llm_cuda_linear_attn_forward(d, d, d, d, d, 1, 1, 129, 1, 0) == cudaErrorInvalidValue);
    CHECK(llm_cuda_linear_attn_backward(d, d, d, d, d, d, d, d, d, 1, 1, 129, 1, d, 0) ==
          cudaErrorInvalidValue);
}

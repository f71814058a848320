/* @attention */
#include "../test.h"

#include "../../llm_cuda.cuh"

static float *attention_normal(llm_rng *rng, size_t n) {
    float *x = floats(n);
    llm_rng_normal_fill(rng, x, n);
    return x;
}

template <typename T>
static void check_attention(size_t N, size_t S, size_t A, size_t C, size_t length) {
    llm_rng rng = llm_rng_seed(A);
    float *q = attention_normal(&rng, N * A), *k = attention_normal(&rng, S * A),
          *v = attention_normal(&rng, A);
    float *h = attention_normal(&rng, S * C), *dc = attention_normal(&rng, N * C),
          *a = floats(N * S);
    float *c = floats(N * C), *de = zeros(N * S), *dq = attention_normal(&rng, N * A),
          *dv = attention_normal(&rng, A);
    float *dk = attention_normal(&rng, S * A), *dh = attention_normal(&rng, S * C),
          *got = floats(S * (A + C + N) + N * (A + C));
    for (size_t i = length * C; i < S * C; i++) h[i] = NAN; /* padding */
    for (size_t i = length * A; i < S * A; i++) k[i] = NAN;
    const T *d_q = to_device_as<T>(q, N * A), *d_k = to_device_as<T>(k, S * A),
            *d_v = to_device_as<T>(v, A);
    const T *d_h = to_device_as<T>(h, S * C), *d_dc = to_device_as<T>(dc, N * C);
    T *d_c = to_device<T>(NULL, N * C), *d_dq = to_device_as<T>(dq, N * A),
      *d_dk = to_device_as<T>(dk, S * A);
    T *d_dh = to_device_as<T>(dh, S * C);
    float *d_a = to_device<float>(NULL, N * S), *d_dv = to_device(dv, A),
          *scratch = to_device<float>(NULL, S * (N + A));
    CHECK_CUDA(llm_cuda_attention_forward(d_c, d_a, d_q, d_k, d_v, d_h, length, N, S, A, C, 0));
    llm_attention_score_forward(a, q, k, v, N, S, A);
    llm_attention_pool_forward(a, c, a, h, length, N, S, C);
    CHECK_ALL_NEAR(from_device(got, d_a, N * S), a, N * S, 3e-6f); /* scores of up to 64 terms */
    CHECK_STORED(T, from_device_as(got, d_c, N * C), c, N * C, 1e-5f);

    const T *d_mean = to_device_as<T>(c, N * C); /* the context as it is stored */
    const float *d_weights = to_device(a, N * S);
    CHECK_CUDA(llm_cuda_attention_backward(d_dq, d_dk, d_dv, d_dh, d_dc, d_mean, d_weights, d_q,
                                           d_k, d_v, d_h, length, N, S, A, C, scratch, 0));
    llm_attention_pool_backward(de, dh, dc, a, c, h, length, N, S, C);
    for (size_t i = 0; i < N; i++)
        llm_attention_score_backward(dq + i * A, dk, dv, de + i * S, q + i * A, k, v, 1, length, A);
    CHECK_STORED(T, from_device_as(got, d_dq, N * A), dq, N * A, 2e-5f);
    CHECK_STORED(T, from_device_as(got, d_dk, S * A), dk, S * A, 2e-5f);
    CHECK_STORED(T, from_device_as(got, d_dh, S * C), dh, S * C, 2e-5f);
    CHECK_ALL_NEAR(from_device(got, d_dv, A), dv, A, 3e-5f);
}
template <typename T> static void check_attentions(void) {
    check_attention<T>(1, 1, 1, 1, 1);
    check_attention<T>(2, 5, 3, 4, 4);
    check_attention<T>(3, 17, 33, 2, 17);
    check_attention<T>(2, 3, 4, 5, 0); /* nothing to read */
    if (TEST_SLOW) return;
    check_attention<T>(3, 65, 64, 20, 65);
    check_attention<T>(2, 40, 8, 140, 33);
}
TEST(attention, "the kernels equal llm_attention: float") { check_attentions<float>(); }
TEST(attention, "the kernels equal llm_attention: bfloat16") { check_attentions<llm_bf16>(); }
TEST(attention, "nothing to do is no launch, more than there is is refused") {
    float *d = to_device<float>(NULL, 4);
    const float *x = d;
    CHECK_CUDA(llm_cuda_attention_forward(d, d, x, x, x, x, 1, 0, 1, 1, 1, 0));
    CHECK_CUDA(llm_cuda_attention_backward(d, d, d, d, x, x, x, x, x, x, x, 1, 0, 1, 1, 1, d, 0));
    CHECK(llm_cuda_attention_forward(d, d, x, x, x, x, 2, 1, 1, 1, 1, 0) == cudaErrorInvalidValue);
    CHECK(llm_cuda_attention_forward(d, d, x, x, x, x, 2, 1, 50001, 1, 1, 0) ==
          cudaErrorInvalidValue);
    CHECK(llm_cuda_attention_backward(d, d, d, d, x, x, x, x, x, x, x, 2, 1, 1, 1, 1, d, 0) ==
          cudaErrorInvalidValue);
}

/* @causal_attn */
#include "../test.h"

#include "../../llm_cuda.cuh"

static float *causal_attn_normal(uint64_t seed, size_t n) {
    float *x = floats(n);
    llm_rng rng = llm_rng_seed(seed);
    llm_rng_normal_fill(&rng, x, n);
    return x;
}

static void check_causal_attn(size_t B, size_t T, size_t H, size_t D) {
    const size_t C = H * D, n = B * T * C, squares = B * H * T * T;
    const float *qkv = causal_attn_normal(T, 3 * n), *dout = causal_attn_normal(D + 100, n);
    float *out = floats(n), *att = floats(squares), *dqkv = causal_attn_normal(7, 3 * n);
    float *got = floats(3 * n), *got_att = floats(squares);
    float *d_out = to_device<float>(NULL, n), *d_att = to_device<float>(NULL, squares);
    float *d_dqkv = to_device(dqkv, 3 * n), *scratch = to_device<float>(NULL, squares);
    const float *d_qkv = to_device(qkv, 3 * n), *d_dout = to_device(dout, n);
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 64 * B * H * T * sizeof(float)));
    llm_causal_attn_forward(out, att, qkv, B, T, C, H);
    llm_causal_attn_backward(dqkv, dout, att, qkv, B, T, C, H, &arena);
    llm_arena_destroy(&arena);

    CHECK_CUDA(llm_cuda_causal_attn_forward(d_out, d_att, d_qkv, B, T, C, H, 0));
    /* dot products of D terms and averages, in another order */
    CHECK_ALL_NEAR(from_device(got, d_out, n), out, n, 4e-6f);
    from_device(got_att, d_att, squares);
    for (size_t i = 0; i < squares; i++) {
        const bool above = i % T > i / T % T;
        if (above) CHECK(got_att[i] != got_att[i]); /* not written: the NaN is still there */
        if (above) got_att[i] = att[i] = 0.0f;
    }
    CHECK_ALL_NEAR(got_att, att, squares, 2e-6f);
    CHECK_CUDA(llm_cuda_causal_attn_backward(d_dqkv, d_dout, d_att, d_qkv, B, T, C, H, scratch, 0));
    CHECK_ALL_NEAR(from_device(got, d_dqkv, 3 * n), dqkv, 3 * n, 3e-5f); /* sums of T terms */
}

TEST(causal_attn, "the kernels equal llm_causal_attn, T and D around 4 rows and 32 lanes") {
    check_causal_attn(1, 1, 1, 1);
    check_causal_attn(2, 3, 2, 2);
    check_causal_attn(1, 5, 3, 33);
    check_causal_attn(1, 31, 1, 3);
    check_causal_attn(1, 33, 1, 32);
    if (TEST_SLOW) return;
    check_causal_attn(2, 32, 1, 7);
    check_causal_attn(1, 67, 2, 40);
    check_causal_attn(1, 64, 1, 64);
}

TEST(causal_attn, "scores of 1e4 overflow nothing; a NaN of the future reaches no one before it") {
    enum { T = 40, D = 4, C = D };
    float *qkv = causal_attn_normal(1, T * 3 * C), *out = floats(T * C), *first = floats(T * C);
    for (size_t i = 0; i < T; i++)
        for (size_t d = 0; d < 2 * C; d++) qkv[i * 3 * C + d] *= 100.0f;
    float *d_out = to_device<float>(NULL, T * C), *d_att = to_device<float>(NULL, T * T);
    CHECK_CUDA(
        llm_cuda_causal_attn_forward(d_out, d_att, to_device(qkv, T * 3 * C), 1, T, C, 1, 0));
    from_device(first, d_out, T * C);
    for (size_t i = 0; i < T * C; i++) CHECK(isfinite(first[i]));
    for (size_t i = 35 * 3 * C; i < T * 3 * C; i++) qkv[i] = NAN;
    CHECK_CUDA(
        llm_cuda_causal_attn_forward(d_out, d_att, to_device(qkv, T * 3 * C), 1, T, C, 1, 0));
    CHECK_ALL_NEAR(from_device(out, d_out, 35 * C), first, 35 * C, 0.0f);
}

TEST(causal_attn, "nothing to do is no launch; heads must divide the channels") {
    float *d = to_device<float>(NULL, 1);
    CHECK_CUDA(llm_cuda_causal_attn_forward(d, d, d, 0, 3, 4, 2, 0));
    CHECK_CUDA(llm_cuda_causal_attn_backward(d, d, d, d, 1, 0, 4, 2, d, 0));
    CHECK(llm_cuda_causal_attn_forward(d, d, d, 1, 1, 4, 3, 0) == cudaErrorInvalidValue);
    CHECK(llm_cuda_causal_attn_backward(d, d, d, d, 1, 1, 4, 0, d, 0) == cudaErrorInvalidValue);
}

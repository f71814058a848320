/* @decoder_block */
#include "../test.h"

#include "../../llm_cuda.cuh"

/* Points w into p, one tensor behind the other; returns their entries. */
template <typename W, typename P> static size_t point(W &w, P *p, size_t C, size_t F) {
    P *const first = p;
    w.ffn.gate = NULL;
    w.qkv_w = p, p += 3 * C * C; /* the matrices first: aligned like p where C is */
    w.out_w = p, p += C * C;
    w.ffn.up = p, p += F * C;
    w.ffn.down = p, p += C * F;
    w.norm1_w = p, p += C;
    w.norm1_b = p, p += C;
    w.qkv_b = p, p += 3 * C;
    w.out_b = p, p += C;
    w.norm2_w = p, p += C;
    w.norm2_b = p, p += C;
    w.ffn.up_bias = p, p += F;
    w.ffn.down_bias = p, p += C;
    return (size_t)(p - first);
}
static float *normals(uint64_t seed, size_t n, float size) {
    float *x = floats(n);
    llm_rng rng = llm_rng_seed(seed);
    llm_rng_normal_fill(&rng, x, n);
    for (size_t i = 0; i < n; i++) x[i] *= size;
    return x;
}

/* The block between two norms: norm1 before it, `next` behind it unless it is alone. */
template <typename T>
static void check_block(size_t B, size_t length, size_t C, size_t H, size_t F, bool parallel,
                        bool alone) {
    /* bfloat16: a dozen roundings of 1 part in 256 of values near 1, and sums of them */
    const float tol = sizeof(T) == 4 ? 1e-5f : 20.0f / 256;
    const size_t N = B * length, count = 4 * C * C + 2 * C * F + 9 * C + F;
    const llm_decoder_block_config c = {C, H, F, parallel, 1e-5f};
    const llm_cuda_decoder_block_config d_c = llm_cuda_decoder_block_gpt2(c);
    float *flat = normals(1, count, 1.0f / sqrtf((float)C)), *x = normals(2, N * C, 1.0f);
    float *dy = normals(3, N * C, 1.0f / sqrtf((float)C)), *grads = normals(4, count, 0.1f);
    float *next_w = normals(5, C, 1.0f), *next_b = normals(6, C, 1.0f);
    float *got = floats(count + N * C), *y = floats(N * C), *z = floats(N * C);
    float *mean = floats(N), *rstd = floats(N);
    T *d_flat = to_device_as<T>(flat, count), *d_x = to_device_as<T>(x, N * C);
    T *d_d = to_device_as<T>(dy, N * C), *d_y = to_device<T>(NULL, N * C);
    float *d_grads = to_device(grads, count);
    llm_decoder_block_weights w, dw;
    llm_cuda_decoder_block_weights<T> d_w;
    llm_cuda_decoder_block_weights<float> d_dw;
    CHECK(point(w, flat, C, F) == count && point(d_w, d_flat, C, F) == count);
    point(dw, grads, C, F), point(d_dw, d_grads, C, F);

    llm_cuda_decoder_block_acts<T> d_a;
    llm_cuda_decoder_block_scratch<T> s;
    const size_t size = llm_cuda_decoder_block_bind(d_a, NULL, d_c, B, length);
    const size_t scratch = llm_cuda_decoder_block_bind(s, NULL, d_c, B, length);
    CHECK(llm_cuda_decoder_block_bind(d_a, to_device<unsigned char>(NULL, size), d_c, B, length) ==
          size);
    llm_cuda_decoder_block_bind(s, to_device<unsigned char>(NULL, scratch), d_c, B, length);
    llm_cuda_decoder_block_next<T> next = {to_device_as<T>(next_w, C), to_device_as<T>(next_b, C),
                                           to_device<T>(NULL, N * C), to_device<float>(NULL, N),
                                           to_device<float>(NULL, N)};
    CHECK_CUDA(llm_cuda_layernorm_forward(d_a.norm1, d_a.mean1, d_a.rstd1, d_x, d_w.norm1_w,
                                          d_w.norm1_b, N, C, c.eps, 0));
    CHECK_CUDA(llm_cuda_decoder_block_forward(d_y, alone ? NULL : &next, d_a, d_x, d_w, B, length,
                                              d_c, s, 0));
    llm_decoder_block_acts a;
    llm_decoder_block_bind(&a, floats(llm_decoder_block_acts_size(&c, B, length)), &c, B, length);
    llm_decoder_block_forward(y, &a, x, &w, B, length, &c);
    CHECK_STORED(T, from_device_as(got, d_y, N * C), y, N * C, tol);
    CHECK_STORED(T, from_device_as(got, d_a.mid, N * C), a.mid, N * C, tol);
    if (!alone) {
        llm_layernorm_forward(z, mean, rstd, y, next_w, next_b, N, C, c.eps);
        CHECK_STORED(T, from_device_as(got, next.y, N * C), z, N * C, 2 * tol);
        CHECK_ALL_NEAR(from_device(got, next.rstd, N), rstd, N, tol);
        CHECK_ALL_NEAR(from_device(got, next.mean, N), mean, N, tol);
    }

    llm_arena arena;
    CHECK(llm_arena_create(&arena, llm_decoder_block_scratch_size(&c, B, length) * sizeof(float)));
    CHECK_CUDA(llm_cuda_decoder_block_backward(d_d, d_dw, d_a, d_x, d_w, B, length, d_c, s, 0));
    llm_decoder_block_backward(dy, &dw, &a, x, &w, B, length, &c, &arena);
    CHECK_STORED(T, from_device_as(got, d_d, N * C), dy, N * C, 2 * tol);
    from_device(got, d_grads, count);
    /* sums over N tokens; in the parallel form nothing was added to the second norm */
    CHECK_ALL_NEAR(got, grads, count, 2 * tol * sqrtf((float)N));
    llm_arena_destroy(&arena);
}

TEST(decoder_block, "values and all gradients equal llm_decoder_block, alone and before a norm") {
    check_block<float>(2, 3, 4, 2, 5, false, true);
    check_block<float>(1, 1, 2, 1, 3, false, false);
    check_block<float>(2, 5, 16, 2, 32, false, false);
    check_block<llm_bf16>(2, 4, 16, 2, 32, false, false);
}

TEST(decoder_block, "the parallel form, which has no second norm") {
    check_block<float>(2, 3, 4, 2, 5, true, false);
    check_block<llm_bf16>(1, 3, 8, 1, 16, true, true);
}

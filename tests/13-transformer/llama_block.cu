/* @llama_block */
#include "../test.h"

#include "../../llm_cuda.cuh"

static float *normals(uint64_t seed, size_t n, float size) {
    float *x = floats(n);
    llm_rng rng = llm_rng_seed(seed);
    llm_rng_normal_fill(&rng, x, n);
    for (size_t i = 0; i < n; i++) x[i] *= size;
    return x;
}
/* The seven tensors in a flat vector, gains last. */
static llm_llama_block_weights point(float *p, const llm_llama_block_config &c) {
    const size_t C = c.width, F = c.hidden, Q = c.heads * c.head_size;
    llm_llama_block_weights w;
    w.qkv = p, p += (Q + 2 * c.kv_heads * c.head_size) * C;
    w.out = p, p += C * Q;
    w.ffn.gate = p, p += F * C;
    w.ffn.up = p, p += F * C;
    w.ffn.down = p, p += C * F;
    w.norm1 = p, p += C;
    w.norm2 = p;
    w.ffn.up_bias = w.ffn.down_bias = NULL;
    return w;
}

/* The block and the norm behind it. bfloat16: a dozen roundings of 1 part in 256 of values near 1,
 * and sums of them. */
template <typename T>
static void check_block(size_t B, size_t length, const llm_llama_block_config &c) {
    const float tol = sizeof(T) == 4 ? 1e-5f : 20.0f / 256;
    const size_t N = B * length, C = c.width, D = c.head_size;
    float inv_freq[64], *cosine = floats(length * D / 2), *sine = floats(length * D / 2);
    llm_rope_inv_freq(inv_freq, D, 50.0f);
    llm_rope_table(cosine, sine, NULL, inv_freq, length, D);
    const llm_cuda_decoder_block_config d_c = llm_cuda_llama_block_config(
        c, to_device(cosine, length * D / 2), to_device(sine, length * D / 2));
    const size_t matrices = llm_cuda_llama_block_matrices(d_c);
    const size_t count = matrices + llm_cuda_llama_block_vectors(d_c);
    CHECK(count == matrices + 2 * C);
    float *flat = normals(1, count, 1.0f / sqrtf((float)C)), *x = normals(2, N * C, 1.0f);
    float *dy = normals(3, N * C, 1.0f / sqrtf((float)C)), *grads = normals(4, count, 0.1f);
    float *gain = normals(5, C, 1.0f), *got = floats(count + N * C), *y = floats(N * C);
    float *z = floats(N * C), *rstd = floats(N);
    T *d_flat = to_device_as<T>(flat, count), *d_x = to_device_as<T>(x, N * C);
    T *d_d = to_device_as<T>(dy, N * C), *d_y = to_device<T>(NULL, N * C);
    float *d_grads = to_device(grads, count);
    const llm_llama_block_weights w = point(flat, c), dw = point(grads, c);
    const llm_cuda_decoder_block_weights<T> d_w =
        llm_cuda_llama_block_bind(d_flat, d_flat + matrices, d_c);
    const llm_cuda_decoder_block_weights<float> d_dw =
        llm_cuda_llama_block_bind(d_grads, d_grads + matrices, d_c);
    CHECK(d_w.ffn.down - d_flat == w.ffn.down - flat && d_w.norm2_w - d_flat == w.norm2 - flat);
    CHECK(!d_w.qkv_b && !d_w.out_b && !d_w.norm1_b && !d_w.norm2_b && !d_w.ffn.up_bias);

    llm_cuda_decoder_block_acts<T> a;
    llm_cuda_decoder_block_scratch<T> s;
    const size_t size = llm_cuda_decoder_block_bind(a, NULL, d_c, B, length);
    const size_t scratch = llm_cuda_decoder_block_bind(s, NULL, d_c, B, length);
    llm_cuda_decoder_block_bind(a, to_device<unsigned char>(NULL, size), d_c, B, length);
    llm_cuda_decoder_block_bind(s, to_device<unsigned char>(NULL, scratch), d_c, B, length);
    const llm_cuda_decoder_block_next<T> next = {
        to_device_as<T>(gain, C), NULL, to_device<T>(NULL, N * C), NULL, to_device<float>(NULL, N)};
    CHECK_CUDA(llm_cuda_rmsnorm_forward(a.norm1, a.rstd1, d_x, d_w.norm1_w, N, C, c.eps, 0));
    CHECK_CUDA(llm_cuda_decoder_block_forward(d_y, &next, a, d_x, d_w, B, length, d_c, s, 0));
    llm_arena arena;
    llm_llama_block_acts cpu;
    CHECK(llm_arena_create(&arena, llm_llama_block_scratch_size(&c, B, length) * sizeof(float)));
    llm_llama_block_bind(&cpu, floats(llm_llama_block_acts_size(&c, B, length)), &c, B, length);
    llm_llama_block_forward(y, &cpu, x, &w, cosine, sine, B, length, &c, &arena);
    llm_rmsnorm_forward(z, rstd, y, gain, N, C, c.eps);
    CHECK_STORED(T, from_device_as(got, d_y, N * C), y, N * C, tol);
    CHECK_STORED(T, from_device_as(got, next.y, N * C), z, N * C, 2 * tol);
    CHECK_ALL_NEAR(from_device(got, next.rstd, N), rstd, N, tol);

    CHECK_CUDA(llm_cuda_decoder_block_backward(d_d, d_dw, a, d_x, d_w, B, length, d_c, s, 0));
    llm_llama_block_backward(dy, &dw, &cpu, x, &w, cosine, sine, B, length, &c, &arena);
    CHECK_STORED(T, from_device_as(got, d_d, N * C), dy, N * C, 2 * tol);
    CHECK_ALL_NEAR(from_device(got, d_grads, count), grads, count, 2 * tol * sqrtf((float)N));
    llm_arena_destroy(&arena);
}

TEST(llama_block, "values and all gradients equal llm_llama_block, grouped heads, both pairings") {
    /* C, H, Hkv, D, F */
    const llm_llama_block_config small = {4, 4, 2, 2, 5, 1e-5f, LLM_ROPE_NEIGHBOURS};
    const llm_llama_block_config one = {3, 1, 1, 4, 2, 1e-5f, LLM_ROPE_HALVES};
    const llm_llama_block_config whole = {16, 4, 1, 8, 24, 1e-5f, LLM_ROPE_HALVES};
    check_block<float>(2, 3, small);
    check_block<float>(1, 1, one);
    check_block<llm_bf16>(2, 5, whole);
    if (!TEST_SLOW) check_block<float>(1, 6, whole);
}

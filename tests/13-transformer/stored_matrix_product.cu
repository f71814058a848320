/* @stored_matrix_product */
#include "../test.h"

#include "../../llm_cuda.cuh"

#include "../tiny_stored_matrix_cuda.h"

static float *normals(uint64_t seed, size_t n) {
    float *x = floats(n);
    llm_rng rng = llm_rng_seed(seed);
    llm_rng_normal_fill(&rng, x, n);
    return x;
}
/* Rows of float or bfloat16 around 0, or of blocks with such scales. */
static llm_stored_matrix random_matrix(llm_gguf_blocks_type type, size_t rows, size_t C,
                                       uint64_t seed) {
    llm_stored_matrix w = {NULL, type, rows, C};
    const size_t bytes = rows * llm_stored_matrix_stride(&w);
    size_t weights = 1, block = 1;
    llm_gguf_blocks_name(&weights, &block, (uint32_t)type);
    unsigned char *data = (unsigned char *)test_memory(bytes, 1);
    const float *x = normals(seed, rows * C);
    llm_rng rng = llm_rng_seed(seed);
    if (type == LLM_GGUF_BLOCKS_F32) {
        memcpy(data, x, bytes);
    } else if (type == LLM_GGUF_BLOCKS_BF16) {
        for (size_t i = 0; i < rows * C; i++) {
            const uint16_t bits = test_bf16_bits(x[i]);
            memcpy(data + 2 * i, &bits, 2);
        }
    } else {
        for (size_t i = 0; i < bytes; i++) data[i] = (unsigned char)llm_rng_below(&rng, 256);
        tiny_stored_matrix_scales(data, bytes, block, type);
    }
    w.data = data;
    return w;
}

/* y <- products of N rows with and without norm, bias and addition, beside llm_rmsnorm_forward and
 * llm_stored_matrix_forward; sums of C terms in another order. */
template <typename X>
static void check_product(llm_gguf_blocks_type type, size_t rows, size_t C, size_t N) {
    const llm_stored_matrix w = random_matrix(type, rows, C, 1),
                            d = tiny_stored_matrix_on_device(w);
    float *x = normals(2, N * C), *gain = normals(3, C), *bias = normals(4, rows);
    float *old = normals(5, N * rows), *normed = floats(N * C), *rstd = floats(N);
    float *want = floats(N * rows), *got = floats(N * rows);
    X *d_x = to_device_as<X>(x, N * C);
    llm_rmsnorm_forward(normed, rstd, x, gain, N, C, 1e-2f);
    for (int turn = 0; turn < 4; turn++) {
        const bool norm = turn % 2, add = turn / 2;
        float *y = to_device(old, N * rows);
        llm_stored_matrix_forward(want, norm ? normed : x, &w, add ? NULL : bias, N);
        for (size_t i = 0; i < N * rows && add; i++) want[i] += old[i];
        CHECK_CUDA(llm_cuda_stored_matrix_product(y, d_x, d, add ? NULL : to_device(bias, rows),
                                                  norm ? to_device(gain, C) : NULL, 1e-2f, N, add,
                                                  0));
        CHECK_ALL_NEAR(from_device(got, y, N * rows), want, N * rows, 2e-5f * sqrtf((float)C));
    }
}

TEST(stored_matrix_product,
     "a token and eight times matrices of every form, normed, added, shifted") {
    check_product<float>(LLM_GGUF_BLOCKS_F32, 3, 8, 1);
    if (TEST_SLOW) return;
    check_product<float>(LLM_GGUF_BLOCKS_F32, 17, 40, 8);
    check_product<llm_bf16>(LLM_GGUF_BLOCKS_BF16, 19, 264, 1);
    check_product<float>(LLM_GGUF_BLOCKS_BF16, 2, 24, 5);
    check_product<float>(LLM_GGUF_BLOCKS_Q8_0, 18, 288, 1);
    check_product<llm_bf16>(LLM_GGUF_BLOCKS_Q8_0, 1, 32, 2);
    check_product<float>(LLM_GGUF_BLOCKS_Q4_0, 5, 64, 3);
    check_product<float>(LLM_GGUF_BLOCKS_Q4_K, 5, 512, 1);
    check_product<float>(LLM_GGUF_BLOCKS_Q6_K, 5, 256, 2);
}

TEST(stored_matrix_product, "gate and up of SwiGLU meet in registers") {
    const size_t F = 11, C = 32, N = 2;
    const llm_stored_matrix gate = random_matrix(LLM_GGUF_BLOCKS_Q8_0, F, C, 1);
    const llm_stored_matrix up = random_matrix(LLM_GGUF_BLOCKS_Q8_0, F, C, 2);
    float *x = normals(3, N * C), *gain = normals(4, C), *normed = floats(N * C);
    float *rstd = floats(N), *g = floats(N * F), *want = floats(N * F), *got = floats(N * F);
    llm_rmsnorm_forward(normed, rstd, x, gain, N, C, 1e-5f);
    llm_stored_matrix_forward(g, normed, &gate, NULL, N);
    llm_stored_matrix_forward(want, normed, &up, NULL, N);
    for (size_t i = 0; i < N * F; i++) want[i] *= g[i] / (1.0f + expf(-g[i]));
    float *y = to_device<float>(NULL, N * F);
    CHECK_CUDA(llm_cuda_stored_matrix_product_glu(
        y, to_device(x, N * C), tiny_stored_matrix_on_device(gate),
        tiny_stored_matrix_on_device(up), to_device(gain, C), 1e-5f, LLM_ACTIVATION_SILU, N, 0));
    CHECK_ALL_NEAR(from_device(got, y, N * F), want, N * F, 1e-5f);
}

TEST(stored_matrix_product, "each weight is read once, whatever the number of tokens") {
#ifndef __CUDACC__
    const size_t rows = 16, C = 512;
    const llm_stored_matrix d =
        tiny_stored_matrix_on_device(random_matrix(LLM_GGUF_BLOCKS_BF16, rows, C, 1));
    float *y = to_device<float>(NULL, 8 * rows), *x = to_device(normals(1, 8 * C), 8 * C);
    for (size_t N = 1; N <= 8; N += 7) {
        emulate_count();
        CHECK_CUDA(llm_cuda_stored_matrix_product(y, x, d, (const float *)NULL, (const float *)NULL,
                                                  0.0f, N, false, 0));
        const size_t weights = 2 * rows * C, again = 4 * N * C * rows / 2; /* x: for each pair */
        CHECK(emulate_counted.read == weights + again);
        CHECK(emulate_counted.written == 4 * N * rows);
    }
#endif
}

TEST(stored_matrix_product, "more than eight tokens and matrices that differ are refused") {
    const llm_stored_matrix a =
        tiny_stored_matrix_on_device(random_matrix(LLM_GGUF_BLOCKS_F32, 4, 8, 1));
    const llm_stored_matrix b =
        tiny_stored_matrix_on_device(random_matrix(LLM_GGUF_BLOCKS_F32, 3, 8, 1));
    const llm_stored_matrix c =
        tiny_stored_matrix_on_device(random_matrix(LLM_GGUF_BLOCKS_BF16, 4, 8, 1));
    const llm_stored_matrix e =
        tiny_stored_matrix_on_device(random_matrix(LLM_GGUF_BLOCKS_F32, 4, 16, 1));
    const float *none = NULL;
    float *y = to_device<float>(NULL, 36), *x = to_device(normals(1, 80), 80);
    const int silu = LLM_ACTIVATION_SILU;
    CHECK_CUDA(llm_cuda_stored_matrix_product(y, x, a, none, none, 0.0f, 0, false, 0));
    CHECK(llm_cuda_stored_matrix_product(y, x, a, none, none, 0.0f, 9, false, 0) != cudaSuccess);
    CHECK(llm_cuda_stored_matrix_product(y, x + 1, a, none, none, 0.0f, 1, false, 0) !=
          cudaSuccess);
    CHECK(llm_cuda_stored_matrix_product(y, x, a, none, x + 1, 0.0f, 1, false, 0) != cudaSuccess);
    CHECK(llm_cuda_stored_matrix_product_glu(y, x, a, b, none, 0.0f, silu, 1, 0) != cudaSuccess);
    CHECK(llm_cuda_stored_matrix_product_glu(y, x, a, c, none, 0.0f, silu, 1, 0) != cudaSuccess);
    CHECK(llm_cuda_stored_matrix_product_glu(y, x, a, e, none, 0.0f, silu, 1, 0) != cudaSuccess);
    CHECK_CUDA(llm_cuda_stored_matrix_product_glu(y, x, a, a, none, 0.0f, silu, 1, 0));
}

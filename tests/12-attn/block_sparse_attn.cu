/* @block_sparse_attn */
#include "../test.h"

#include "../../llm_cuda.cuh"

template <typename T>
static void check_block(size_t B, size_t H, size_t N, size_t D, size_t block, size_t patterns,
                        bool causal) {
    const size_t rows = (N + block - 1) / block, n = B * H * N * D;
    size_t *start = (size_t *)test_memory(patterns * (rows + 1), sizeof(size_t));
    size_t *column = (size_t *)test_memory(patterns * rows * rows, sizeof(size_t)), count = 0;
    llm_block_sparse_attn_pattern p[4];
    llm_rng rng = llm_rng_seed(N + D);
    for (size_t h = 0; h < patterns; h++) {
        p[h].rows = rows, p[h].start = start + h * (rows + 1), p[h].column = column;
        for (size_t i = 0; i < rows; i++) { /* a row of the first pattern sees nothing */
            p[h].start[i] = count;
            for (size_t j = 0; j < rows && (h > 0 || i != 1); j++)
                if (llm_rng_below(&rng, 3) > 0) column[count++] = j;
        }
        p[h].start[rows] = count;
    }
    float *q = floats(n), *k = floats(n), *v = floats(n), *want = floats(n), *got = floats(n);
    float *lse = floats(n / D), *got_lse = floats(n / D);
    llm_rng_normal_fill(&rng, q, n);
    llm_rng_normal_fill(&rng, k, n);
    llm_rng_normal_fill(&rng, v, n);
    const T *d_q = to_device_as<T>(q, n), *d_k = to_device_as<T>(k, n);
    const T *d_v = to_device_as<T>(v, n);
    T *d_out = to_device<T>(NULL, n);
    float *d_lse = to_device<float>(NULL, n / D);
    llm_block_sparse_attn_config c = llm_block_sparse_attn_defaults(p, B, H, N, D, block);
    c.patterns = patterns, c.causal = causal;
    llm_block_sparse_attn_forward(want, lse, q, k, v, &c);
    const llm_cuda_block_sparse_attn_config z = {B,
                                                 H,
                                                 N,
                                                 D,
                                                 block,
                                                 patterns,
                                                 rows,
                                                 to_device(start, patterns * (rows + 1)),
                                                 to_device(column, count),
                                                 causal,
                                                 c.scale};
    CHECK_CUDA(llm_cuda_block_sparse_attn_forward(d_out, d_lse, d_q, d_k, d_v, &z, 0));
    CHECK_STORED(T, from_device_as(got, d_out, n), want, n, 1e-5f);
    CHECK_ALL_NEAR(from_device(got_lse, d_lse, n / D), lse, n / D, 1e-5f);
}

TEST(block_sparse_attn, "equals llm_block_sparse_attn_forward: ragged ends, patterns, causal") {
    check_block<float>(1, 1, 1, 1, 1, 1, false);
    check_block<float>(2, 3, 13, 5, 3, 2, true);
    check_block<llm_bf16>(1, 2, 70, 33, 20, 1, false);
    if (TEST_SLOW) return;
    check_block<float>(1, 1, 130, 64, 64, 1, true);
    check_block<float>(1, 2, 100, 7, 33, 2, false);
}

TEST(block_sparse_attn, "shapes that are refused, and nothing to do") {
    float *d = to_device<float>(NULL, 1);
    llm_cuda_block_sparse_attn_config c = {0, 1, 4, 2, 2, 1, 2, NULL, NULL, false, 1.0f};
    CHECK_CUDA(llm_cuda_block_sparse_attn_forward(d, d, d, d, d, &c, 0));
    c.rows = 3;
    CHECK(llm_cuda_block_sparse_attn_forward(d, d, d, d, d, &c, 0) == cudaErrorInvalidValue);
    c.rows = 2, c.patterns = 0;
    CHECK(llm_cuda_block_sparse_attn_forward(d, d, d, d, d, &c, 0) == cudaErrorInvalidValue);
    c.patterns = 1, c.D = 257;
    CHECK(llm_cuda_block_sparse_attn_forward(d, d, d, d, d, &c, 0) == cudaErrorInvalidValue);
    c.D = 2, c.block = 65;
    CHECK(llm_cuda_block_sparse_attn_forward(d, d, d, d, d, &c, 0) == cudaErrorInvalidValue);
    c.block = 0;
    CHECK(llm_cuda_block_sparse_attn_forward(d, d, d, d, d, &c, 0) == cudaErrorInvalidValue);
}

/* @csa_compress */
#include "../test.h"

#include "../../llm_cuda.cuh"

template <typename T>
static void check_compress(size_t B, size_t N, size_t D, size_t m, size_t rot) {
    const size_t windows = N / m, n = B * N * 2 * D, half = windows * (rot / 2);
    float *x = floats(n), *gate = floats(n), *bias = floats(m * 2 * D), *weight = floats(D);
    float *table = floats(2 * half), *want = floats(B * windows * D),
          *got = floats(B * windows * D);
    float *pooled = floats(B * windows * D), *rstd = floats(B * windows);
    llm_rng rng = llm_rng_seed(N);
    llm_rng_normal_fill(&rng, x, n);
    llm_rng_normal_fill(&rng, gate, n);
    llm_rng_normal_fill(&rng, bias, m * 2 * D);
    llm_rng_normal_fill(&rng, weight, D);
    llm_rng_normal_fill(&rng, table, 2 * half); /* any numbers will do */
    const T *d_x = to_device_as<T>(x, n), *d_gate = to_device_as<T>(gate, n);
    T *d_entry = to_device<T>(NULL, B * windows * D);
    llm_csa_compress_config c = {B, N, D, m, rot, 1e-6f, table, table + half};
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 4096));
    llm_csa_compress_forward(want, pooled, rstd, x, gate, bias, weight, &c, &arena);
    llm_arena_destroy(&arena);
    c.cosine = to_device(table, 2 * half), c.sine = c.cosine + half;
    CHECK_CUDA(llm_cuda_csa_compress_forward(d_entry, d_x, d_gate, to_device(bias, m * 2 * D),
                                             to_device(weight, D), &c, 0));
    CHECK_STORED(T, from_device_as(got, d_entry, B * windows * D), want, B * windows * D, 1e-5f);
}

TEST(csa_compress, "equals llm_csa_compress_forward: windows, odd channels, tails, no turning") {
    check_compress<float>(1, 1, 1, 1, 0);
    check_compress<float>(2, 14, 7, 3, 4);
    check_compress<llm_bf16>(2, 9, 64, 4, 16);
    if (TEST_SLOW) return;
    check_compress<float>(1, 8, 300, 4, 300);
    check_compress<float>(1, 3, 8, 4, 2); /* no whole window */
}

TEST(csa_compress, "shapes that are refused") {
    float *d = to_device<float>(NULL, 1);
    llm_csa_compress_config c = {1, 4, 1025, 2, 0, 0.0f, d, d};
    CHECK(llm_cuda_csa_compress_forward(d, d, d, d, d, &c, 0) == cudaErrorInvalidValue);
    c.D = 4, c.rot = 3;
    CHECK(llm_cuda_csa_compress_forward(d, d, d, d, d, &c, 0) == cudaErrorInvalidValue);
    c.rot = 6;
    CHECK(llm_cuda_csa_compress_forward(d, d, d, d, d, &c, 0) == cudaErrorInvalidValue);
    c.rot = 0, c.m = 0;
    CHECK(llm_cuda_csa_compress_forward(d, d, d, d, d, &c, 0) == cudaErrorInvalidValue);
}

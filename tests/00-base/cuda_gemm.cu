/* @cuda_gemm */
#include "../test.h"

#include "../../llm_cuda.cuh"

/* c (slices,M,N) <- v */
struct gemm_store {
    float *c;
    size_t M, N;
    LLM_DEVICE_METHOD void operator()(size_t row, size_t column, const float (&v)[4]) const {
        for (size_t k = 0; k < 4 && column + k < N; k++)
            llm_store(c, (blockIdx.z * M + row) * N + column + k, v[k]);
    }
};

template <bool a_turned, bool b_turned, typename T>
static void check_product(size_t M, size_t N, size_t K, size_t slices, size_t offset) {
    float *a = floats(M * K + offset), *b = floats(N * K + offset), *c = floats(slices * M * N);
    llm_rng rng = llm_rng_seed(M + N);
    llm_rng_normal_fill(&rng, a, M * K + offset);
    llm_rng_normal_fill(&rng, b, N * K + offset);
    const T *d_a = to_device_as<T>(a, M * K + offset), *d_b = to_device_as<T>(b, N * K + offset);
    gemm_store store;
    store.c = to_device<float>(NULL, slices * M * N), store.M = M, store.N = N;
    const size_t slice = slices == 1 ? K : (K / slices + 8) / 8 * 8;
    LLM_LAUNCH((llm_gemm_kernel<a_turned, b_turned, T, gemm_store>),
               dim3(llm_cuda_gemm_blocks(M, N), 1, (unsigned)slices), 256, 0, 0, store,
               d_a + offset, d_b + offset, M, N, K, slice);
    CHECK_CUDA(cudaGetLastError());
    from_device(c, store.c, slices * M * N);
    for (size_t m = 0; m < M; m++) {
        for (size_t n = 0; n < N; n++) {
            double sum = 0.0, size = 0.0, got = 0.0;
            for (size_t k = 0; k < K; k++) {
                const double term = (double)a[offset + (a_turned ? k * M + m : m * K + k)] *
                                    (double)b[offset + (b_turned ? k * N + n : n * K + k)];
                sum += term, size += fabs(term);
            }
            for (size_t s = 0; s < slices; s++) got += (double)c[(s * M + m) * N + n];
            CHECK_NEAR(got, sum, 1e-6 * size + 1e-30); /* up to 83 roundings of 6e-8 */
        }
    }
}

template <bool a_turned, bool b_turned, typename T> static void check_layout(void) {
    const size_t shapes[7][3] = {{1, 1, 1},   {3, 5, 7},     {50, 37, 83}, {128, 128, 8},
                                 {130, 4, 9}, {12, 140, 16}, {5, 3, 0}};
    for (size_t s = 0; s < 7; s++)
        check_product<a_turned, b_turned, T>(shapes[s][0], shapes[s][1], shapes[s][2], 1, s % 2);
    check_product<a_turned, b_turned, T>(9, 20, 44, 3, 0);
}

TEST(cuda_gemm, "every layout, float and bfloat16, sizes around the tile, slices of K") {
    check_layout<false, false, float>();
    check_layout<false, true, float>();
    check_layout<true, false, float>();
    check_layout<true, true, float>();
    check_layout<true, true, llm_bf16>();
    check_layout<false, false, llm_bf16>();
}

LLM_KERNEL void where_tiles_go(int *visits, size_t M, size_t N) {
    size_t row, column;
    llm_cuda_gemm_tile(row, column, M, N);
    if (threadIdx.x == 0 && row < M && column < N)
        atomicAdd(
            &visits[row / LLM_CUDA_GEMM_TILE * ((N + 127) / 128) + column / LLM_CUDA_GEMM_TILE], 1);
}

TEST(cuda_gemm, "the bands of tiles visit each tile once") {
    const size_t shapes[5][2] = {
        {1, 1}, {128 * 8, 128 * 3}, {128 * 19 + 5, 128 * 2 + 1}, {1000, 70}, {90, 5000}};
    for (size_t s = 0; s < 5; s++) {
        const size_t M = shapes[s][0], N = shapes[s][1], tiles = llm_cuda_gemm_blocks(M, N);
        int *visits = (int *)test_memory(tiles, sizeof(int)), *d = to_device(visits, tiles);
        CHECK(tiles == (M + 127) / 128 * ((N + 127) / 128));
        LLM_LAUNCH(where_tiles_go, (unsigned)tiles, 32, 0, 0, d, M, N);
        CHECK_CUDA(cudaGetLastError());
        from_device(visits, d, tiles);
        for (size_t i = 0; i < tiles; i++) CHECK(visits[i] == 1);
    }
}

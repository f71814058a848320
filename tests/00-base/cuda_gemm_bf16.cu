/* @cuda_gemm_bf16 */
#include "../test.h"

#include "../../llm_cuda.cuh"

/* c (slices,M,N) <- v */
struct gemm_bf16_store {
    float *c;
    size_t M, N;
    LLM_DEVICE_METHOD void operator()(size_t row, size_t column, const float (&v)[4]) const {
        for (size_t k = 0; k < 4 && column + k < N; k++)
            llm_store(c, (blockIdx.z * M + row) * N + column + k, v[k]);
    }
};

template <bool a_turned, bool b_turned>
static void check_product(size_t M, size_t N, size_t K, size_t slices) {
    float *a = floats(M * K), *b = floats(N * K), *c = floats(slices * M * N);
    llm_rng rng = llm_rng_seed(M + N);
    llm_rng_normal_fill(&rng, a, M * K);
    llm_rng_normal_fill(&rng, b, N * K);
    const llm_bf16 *d_a = to_device_as<llm_bf16>(a, M * K), *d_b = to_device_as<llm_bf16>(b, N * K);
    CHECK(llm_cuda_gemm_bf16_fits(d_a, a_turned, M, K) &&
          llm_cuda_gemm_bf16_fits(d_b, b_turned, N, K));
    gemm_bf16_store store;
    store.c = to_device<float>(NULL, slices * M * N), store.M = M, store.N = N;
    const size_t slice = slices == 1 ? K : (K / slices + 32) / 32 * 32;
#ifndef __CUDACC__
    emulate_count();
#endif
    LLM_LAUNCH((llm_gemm_bf16_kernel<a_turned, b_turned, gemm_bf16_store>),
               dim3(llm_cuda_gemm_blocks(M, N), 1, (unsigned)slices), 256,
               LLM_CUDA_GEMM_BF16_SHARED, 0, store, d_a, d_b, M, N, K, slice);
    CHECK_CUDA(cudaGetLastError());
#ifndef __CUDACC__
    CHECK(emulate_counted.matrix_conflicts == 0);
#endif
    from_device(c, store.c, slices * M * N);
    for (size_t m = 0; m < M; m++) {
        for (size_t n = 0; n < N; n++) {
            double sum = 0.0, size = 0.0, got = 0.0;
            for (size_t k = 0; k < K; k++) {
                const double term = (double)a[a_turned ? k * M + m : m * K + k] *
                                    (double)b[b_turned ? k * N + n : n * K + k];
                sum += term, size += fabs(term);
            }
            for (size_t s = 0; s < slices; s++) got += (double)c[(s * M + m) * N + n];
            CHECK_NEAR(got, sum, 1e-6 * size + 1e-30); /* the card truncates its sums */
        }
    }
}

/* rows and columns must be multiples of 8 where they are contiguous; the other sizes are any */
template <bool a_turned, bool b_turned> static void check_layout(void) {
    const size_t m = a_turned ? 8 : 1, n = b_turned ? 8 : 1, k = a_turned && b_turned ? 1 : 8;
    check_product<a_turned, b_turned>(m, n, k, 1);
    check_product<a_turned, b_turned>(13 * m, 7 * n, 5 * k, 1);
    check_product<a_turned, b_turned>(16 * m, 24 * n, 13 * k, 1); /* 104 = 3 stages and a quarter */
    check_product<a_turned, b_turned>(m == 8 ? 136 : 129, n == 8 ? 8 : 3, 8 * k, 1);
    check_product<a_turned, b_turned>(m == 8 ? 8 : 5, n == 8 ? 136 : 131, 33 * k, 1);
    check_product<a_turned, b_turned>(2 * m, 3 * n, 25 * k, 3);
    check_product<a_turned, b_turned>(2 * m, 3 * n, 0, 1);
}

TEST(cuda_gemm_bf16, "every layout, sizes around tile and stage, slices; no two rows in one bank") {
    check_layout<false, false>();
    check_layout<false, true>();
    if (TEST_SLOW) return;
    check_layout<true, false>();
    check_layout<true, true>();
}

TEST(cuda_gemm_bf16, "operands whose rows are no multiples of 16 bytes do not fit") {
    const llm_bf16 *p = (const llm_bf16 *)(uintptr_t)0x1000;
    CHECK(llm_cuda_gemm_bf16_fits(p, false, 3, 16) && llm_cuda_gemm_bf16_fits(p, true, 24, 5));
    CHECK(!llm_cuda_gemm_bf16_fits(p, false, 16, 12) && !llm_cuda_gemm_bf16_fits(p, true, 12, 16));
    CHECK(!llm_cuda_gemm_bf16_fits(p + 4, false, 16, 16));
}

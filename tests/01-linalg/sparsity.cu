/* @sparsity */
#include "../test.h"

#include "../../llm_cuda.cuh"

/* Packed by the reference, multiplied by the kernel, compared with the unpacked matrix in double.
 * Entries of x that no row of W keeps are NaN in the last row of x. */
template <typename T> static void check_24(size_t B, size_t m, size_t n) {
    float *w = floats(m * n), *dense = floats(m * n), *value = floats(m * n / 2),
          *x = floats(B * n);
    float *want = floats(B * m), *got = floats(B * m + 1);
    unsigned char *place = (unsigned char *)test_memory(m * n / 8 + 1, 1);
    llm_rng rng = llm_rng_seed(B + m + n);
    llm_rng_normal_fill(&rng, w, m * n);
    llm_rng_normal_fill(&rng, x, B * n);
    for (size_t j = 0; j < n; j += 8) /* a column that every row loses */
        for (size_t i = 0; i < m; i++) w[i * n + j + j / 8 % 4] = 0.0f;
    llm_sparsity_24_pack(value, place, w, m * n);
    for (size_t j = 0; j < n; j += 8) x[(B - 1) * n + j + j / 8 % 4] = NAN;
    const T *d_value = to_device_as<T>(value, m * n / 2), *d_x = to_device_as<T>(x, B * n);
    llm_sparsity_24_unpack(dense, value, place, m * n);
    for (size_t r = 0; r < B; r++)
        for (size_t i = 0; i < m; i++) {
            double sum = 0.0;
            for (size_t j = 0; j < n; j++)
                if (dense[i * n + j] != 0.0f)
                    sum += (double)dense[i * n + j] * (double)x[r * n + j];
            want[r * m + i] = (float)sum;
        }
    T *d_y = to_device<T>(NULL, B * m + 1);
    CHECK_CUDA(
        llm_cuda_sparsity_24_apply(d_y, d_value, to_device(place, m * n / 8), d_x, B, m, n, 0));
    from_device_as(got, d_y, B * m + 1);
    CHECK_STORED(T, got, want, B * m, 1e-6f * (2.0f + sqrtf((float)n)));
    CHECK(isnan(got[B * m])); /* nothing behind the end */
}

TEST(sparsity, "2:4 by a warp a row equals the unpacked matrix; what W left out may be NaN") {
    const size_t sizes[7][3] = {{1, 1, 8},    {2, 3, 16},   {4, 9, 40}, {5, 8, 256},
                                {1, 17, 264}, {7, 5, 1000}, {3, 2, 0}};
    for (size_t s = 0; s < 7; s++) {
        check_24<float>(sizes[s][0], sizes[s][1], sizes[s][2]);
        check_24<llm_bf16>(sizes[s][0], sizes[s][1], sizes[s][2]);
    }
    const unsigned char *place = NULL;
    const float *none = NULL;
    CHECK_CUDA(llm_cuda_sparsity_24_apply((float *)NULL, none, place, none, 0, 3, 8, 0));
    CHECK(llm_cuda_sparsity_24_apply((float *)NULL, none, place, none, 1, 3, 12, 0) ==
          cudaErrorInvalidValue); /* rows of places would begin within a byte */
    CHECK(llm_cuda_sparsity_24_apply((float *)NULL, none, place, none + 1, 1, 3, 8, 0) ==
          cudaErrorInvalidValue);
}

TEST(sparsity, "traffic: half of the weights, and x once for each row of W") {
    enum { M = 64, N = 512 };
    const float *d_value = to_device(zeros(M * N / 2), M * N / 2), *d_x = to_device(zeros(N), N);
    const unsigned char *place = (unsigned char *)test_memory(M * N / 8, 1);
    float *d_y = to_device<float>(NULL, M), y[M];
    const unsigned char *d_place = to_device(place, M * N / 8);
#ifndef __CUDACC__
    emulate_count();
#endif
    CHECK_CUDA(llm_cuda_sparsity_24_apply(d_y, d_value, d_place, d_x, 1, M, N, 0));
#ifndef __CUDACC__
    CHECK(emulate_counted.read == (M * N / 2 + M * N) * sizeof(float)); /* places not counted */
#endif
    CHECK(*from_device(y, d_y, M) == 0.0f);
}

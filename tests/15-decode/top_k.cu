/* @top_k */
#include "../test.h"

#include "../../llm_cuda.cuh"

/* x (rows,n): normals, numbers with many ties, extremes, in turn; row 1 is all -inf but one */
static float *top_k_rows(size_t rows, size_t n, size_t offset) {
    const float special[6] = {-INFINITY, 1e30f, 0.0f, -0.0f, 1e-42f, -1e-42f};
    float *x = floats(rows * n + offset);
    llm_rng rng = llm_rng_seed(n + rows);
    for (size_t i = 0; i < rows * n + offset; i++) {
        const size_t row = i < offset ? 0 : (i - offset) / n;
        x[i] = 4.0f * llm_rng_normal(&rng);
        if (row % 4 == 2) x[i] = (float)llm_rng_below(&rng, 5) - 2.0f;
        if (row % 4 == 3) x[i] = special[llm_rng_below(&rng, 6)];
        if (row == 1) x[i] = (i - offset) % n == n / 2 ? -7.0f : -INFINITY;
    }
    return x;
}

template <typename T> static void check_top_k(size_t rows, size_t n, size_t k, size_t offset) {
    const size_t all = rows * n;
    float *x = top_k_rows(rows, n, offset), *got = floats(all), *want = floats(all);
    int *token = (int *)test_memory(rows, sizeof(int)), *d_token = to_device<int>(NULL, rows);
    uint64_t *seed = (uint64_t *)test_memory(rows, sizeof(uint64_t));
    for (size_t row = 0; row < rows; row++) seed[row] = (uint64_t)row << 40 | (n * 31 + k);
    T *d_x = to_device_as<T>(x, all + offset) + offset;
    const uint64_t *d_seed = to_device(seed, rows);
    memcpy(want, x + offset, all * sizeof(float));
    for (size_t row = 0; row < rows; row++) llm_top_k_filter(want + row * n, n, k);

    CHECK_CUDA(llm_cuda_top_k_sample(d_token, d_x, d_seed, rows, n, k, 0));
    from_device(token, d_token, rows);
    for (size_t row = 0; row < rows; row++) {
        llm_rng rng = llm_rng_seed(seed[row]);
        CHECK(token[row] == llm_sampling_draw(want + row * n, n, &rng));
    }
#ifndef __CUDACC__
    emulate_count();
#endif
    CHECK_CUDA(llm_cuda_top_k_filter(d_x, rows, n, k, 0));
#ifndef __CUDACC__
    if (k > 0 && k < n) CHECK(emulate_counted.read == 5 * all * sizeof(T)); /* four bytes, a mask */
#endif
    CHECK_ALL_NEAR(from_device_as(got, d_x, all), want, all, 0.0f);
}

TEST(top_k, "kept sets and draws equal the reference's, ties and extremes included") {
    const size_t sizes[6] = {1, 2, 31, 40, 1025, 2100};
    for (size_t s = 0; s < (TEST_SLOW ? 5 : 6); s++)
        for (size_t k = 0; k < (s > 3 ? 2 : 5); k++) {
            const size_t n = sizes[s], ks[5] = {n / 2, 50, 1, n - 1, n};
            check_top_k<float>(s > 3 ? 4 : 8, n, ks[k], 0);
            check_top_k<float>(s > 3 ? 2 : 5, n, ks[k], 1);
            check_top_k<llm_bf16>(s > 3 ? 2 : 4, n, ks[k], s % 2);
        }
    check_top_k<float>(6, 40, 0, 0);
    CHECK_CUDA(llm_cuda_top_k_filter((float *)NULL, 0, 9, 3, 0));
    CHECK_CUDA(llm_cuda_top_k_sample((int *)NULL, (float *)NULL, (uint64_t *)NULL, 0, 9, 3, 0));
    CHECK(llm_cuda_top_k_sample((int *)NULL, (float *)NULL, (uint64_t *)NULL, 1, 0, 3, 0) !=
          cudaSuccess);
}

TEST(top_k, "a row with a NaN, or with nothing to draw, gives -1") {
    enum { V = 100 };
    float x[3 * V];
    uint64_t seed[3] = {1, 2, 3};
    int token[3];
    for (size_t i = 0; i < 3 * V; i++) x[i] = i / V == 1 ? -INFINITY : 0.0f;
    x[2 * V + 77] = NAN;
    int *d_token = to_device<int>(NULL, 3);
    CHECK_CUDA(llm_cuda_top_k_sample(d_token, to_device(x, 3 * V), to_device(seed, 3), 3, V, 7, 0));
    from_device(token, d_token, 3);
    CHECK(token[0] >= 0 && token[0] < V && token[1] == -1 && token[2] == -1);
}

TEST(top_k, "one row, many seeds: every draw equals the reference's") {
    enum { V = 600, N = TEST_SLOW ? 10 : 100 };
    const size_t k = 40;
    float *x = floats(N * V);
    uint64_t *seed = (uint64_t *)test_memory(N, sizeof(uint64_t));
    int *token = (int *)test_memory(N, sizeof(int)), *d_token = to_device<int>(NULL, N);
    llm_rng rng = llm_rng_seed(5);
    llm_rng_normal_fill(&rng, x, V);
    for (size_t i = V; i < N * V; i++) x[i] = x[i - V];
    for (size_t i = 0; i < N; i++) seed[i] = i * i;
    CHECK_CUDA(llm_cuda_top_k_sample(d_token, to_device(x, N * V), to_device(seed, N), N, V, k, 0));
    from_device(token, d_token, N);
    llm_top_k_filter(x, V, k);
    for (size_t i = 0; i < N; i++) {
        rng = llm_rng_seed(seed[i]);
        CHECK(token[i] == llm_sampling_draw(x, V, &rng));
    }
}

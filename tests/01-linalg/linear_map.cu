/* @linear_map */
#include "../test.h"

#include "../../llm_cuda.cuh"

/* offset 1 takes x and w off their alignment: the path without vectors */
template <typename T> static void check_map(size_t B, size_t m, size_t n, size_t offset) {
    float *x = floats(B * n + offset), *w = floats(m * n + offset), *want = floats(B * m);
    float *got = floats(B * m + 1);
    llm_rng rng = llm_rng_seed(B + 10 * m + n);
    llm_rng_normal_fill(&rng, x, B * n + offset);
    llm_rng_normal_fill(&rng, w, m * n + offset);
    const T *d_x = to_device_as<T>(x, B * n + offset) + offset;
    const T *d_w = to_device_as<T>(w, m * n + offset) + offset;
    T *d_y = to_device<T>(NULL, B * m + 1);
    CHECK_CUDA(llm_cuda_linear_map_batch(d_y, d_x, d_w, B, m, n, 0));
    for (size_t i = 0; i < B; i++)
        llm_linear_map_apply(want + i * m, w + offset, x + offset + i * n, m, n);
    from_device_as(got, d_y, B * m + 1);
    CHECK_STORED(T, got, want, B * m, 1e-6f * (2.0f + sqrtf((float)n)));
    CHECK(isnan(got[B * m])); /* nothing behind the end */
}

TEST(linear_map,
     "a few vectors by a warp a row equal llm_linear_map_apply of each, float and bf16") {
    const size_t sizes[8][3] = {{1, 1, 1},    {2, 3, 2},   {3, 7, 31},  {4, 8, 33},
                                {1, 9, 1000}, {5, 17, 64}, {9, 64, 40}, {6, 1, 2048}};
    for (size_t s = 0; s < 8; s++) {
        const size_t B = sizes[s][0], m = sizes[s][1], n = sizes[s][2];
        for (size_t offset = 0; offset < 2; offset++) {
            check_map<float>(B, m, n, offset);
            check_map<llm_bf16>(B, m, n, offset);
        }
        check_map<float>(B, m, (n + 7) / 8 * 8, 0);
        check_map<llm_bf16>(B, m, (n + 7) / 8 * 8, 0);
    }
    check_map<float>(3, 2, 0, 0); /* a sum without terms */
    const float *none = NULL;
    CHECK_CUDA(llm_cuda_linear_map_batch((float *)NULL, none, none, 0, 5, 5, 0));
    CHECK_CUDA(llm_cuda_linear_map_batch((float *)NULL, none, none, 5, 0, 5, 0));
}

TEST(linear_map, "the adjoint identity <W x, y> = <x, W'y>, with W' by the reference") {
    const size_t m = 37, n = 53;
    float *w = floats(m * n), *x = floats(n), *y = floats(m), *wx = floats(m), *wty = floats(n);
    float *d_wx = to_device<float>(NULL, m);
    llm_rng rng = llm_rng_seed(4);
    llm_rng_normal_fill(&rng, w, m * n);
    llm_rng_normal_fill(&rng, x, n);
    llm_rng_normal_fill(&rng, y, m);
    CHECK_CUDA(llm_cuda_linear_map_batch(d_wx, to_device(x, n), to_device(w, m * n), 1, m, n, 0));
    from_device(wx, d_wx, m);
    llm_linear_map_apply_t(wty, w, y, m, n);
    double left = 0.0, right = 0.0;
    for (size_t i = 0; i < m; i++) left += (double)wx[i] * (double)y[i];
    for (size_t j = 0; j < n; j++) right += (double)x[j] * (double)wty[j];
    CHECK_NEAR(left, right, 2e-4); /* of about 44, the product's deviation: sqrt(m n) */
}

TEST(linear_map, "traffic: four vectors share one reading of W; x is read by each warp, from L1") {
    enum { B = 4, M = 64, N = 256 };
    const float *d_x = to_device(zeros(B * N), B * N), *d_w = to_device(zeros(M * N), M * N);
    float *d_y = to_device<float>(NULL, B * M), y[B * M];
#ifndef __CUDACC__
    emulate_count();
#endif
    CHECK_CUDA(llm_cuda_linear_map_batch(d_y, d_x, d_w, B, M, N, 0));
#ifndef __CUDACC__
    CHECK(emulate_counted.read == (M * N + M * B * N) * sizeof(float));
    CHECK(emulate_counted.written == B * M * sizeof(float));
#endif
    CHECK_NEAR(*from_device(y, d_y, B * M), 0.0, 0.0);
}

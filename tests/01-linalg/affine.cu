/* @affine */
#include "../test.h"

#include "../../llm_cuda.cuh"

/* The few-rows kernel and dense's tiles against W x + b in double. */
template <typename T> static void check_affine(size_t B, size_t m, size_t n) {
    float *x = floats(B * n), *w = floats(m * n), *b = floats(m), *want = floats(B * m);
    float *got = floats(B * m);
    llm_rng rng = llm_rng_seed(100 * B + m + n);
    llm_rng_normal_fill(&rng, x, B * n);
    llm_rng_normal_fill(&rng, w, m * n);
    llm_rng_normal_fill(&rng, b, m);
    const T *d_x = to_device_as<T>(x, B * n), *d_w = to_device_as<T>(w, m * n);
    const T *d_b = to_device_as<T>(b, m);
    T *d_y = to_device<T>(NULL, B * m), *d_dense = to_device<T>(NULL, B * m);
    for (size_t i = 0; i < B; i++)
        for (size_t j = 0; j < m; j++) {
            double sum = (double)b[j];
            for (size_t k = 0; k < n; k++) sum += (double)w[j * n + k] * (double)x[i * n + k];
            want[i * m + j] = (float)sum;
        }
    CHECK_CUDA(llm_cuda_affine_apply(d_y, d_x, d_w, d_b, B, m, n, 0));
    const float tol = 1e-6f * (2.0f + sqrtf((float)n));
    CHECK_STORED(T, from_device_as(got, d_y, B * m), want, B * m, tol);
    CHECK_CUDA(llm_cuda_dense_forward(d_dense, (T *)NULL, d_x, d_w, d_b, B, n, m,
                                      LLM_ACTIVATION_IDENTITY, 0));
    CHECK_STORED(T, from_device_as(got, d_dense, B * m), want, B * m, 2.0f * tol);
}

TEST(affine, "W x + b by a warp a row and by dense's tiles equal the sum in double") {
    const size_t sizes[6][3] = {{1, 1, 1},   {2, 5, 3},    {4, 33, 40},
                                {7, 16, 64}, {33, 31, 17}, {3, 9, 0}};
    for (size_t s = 0; s < 6; s++) {
        check_affine<float>(sizes[s][0], sizes[s][1], sizes[s][2]);
        check_affine<llm_bf16>(sizes[s][0], sizes[s][1], sizes[s][2]);
    }
    const float *none = NULL;
    CHECK_CUDA(llm_cuda_affine_apply((float *)NULL, none, none, none, 0, 3, 3, 0));
}

TEST(affine, "a scale and a shift folded into W and b: one launch is both maps") {
    const size_t B = 3, m = 6, n = 5;
    float x[15], w[30], b[6], scale[6], shift[6], want[18], got[18];
    llm_rng rng = llm_rng_seed(8);
    llm_rng_normal_fill(&rng, x, B * n);
    llm_rng_normal_fill(&rng, w, m * n);
    llm_rng_normal_fill(&rng, b, m);
    llm_rng_normal_fill(&rng, scale, m);
    llm_rng_normal_fill(&rng, shift, m);
    llm_affine_apply(want, x, w, b, B, m, n);
    for (size_t i = 0; i < B * m; i++) want[i] = scale[i % m] * want[i] + shift[i % m];
    llm_affine_fold(w, b, scale, shift, m, n);
    float *d_y = to_device<float>(NULL, B * m);
    CHECK_CUDA(llm_cuda_affine_apply(d_y, to_device(x, B * n), to_device(w, m * n), to_device(b, m),
                                     B, m, n, 0));
    CHECK_ALL_NEAR(from_device(got, d_y, B * m), want, B * m, 1e-5f);
}

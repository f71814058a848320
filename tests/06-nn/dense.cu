/* @dense */
#include "../test.h"

#include "../../llm_cuda.cuh"

static float *normals(uint64_t seed, size_t n) {
    float *x = floats(n);
    llm_rng rng = llm_rng_seed(seed);
    llm_rng_normal_fill(&rng, x, n);
    return x;
}

template <typename T>
static void check_dense(size_t N, size_t C, size_t O, int kind, bool bias, size_t offset) {
    const size_t slices = llm_cuda_dense_slices(N, C, O);
    float *x = normals(N, N * C), *w = normals(C, O * C), *b = normals(O, O),
          *dy = normals(7, N * O);
    float *dx = normals(8, N * C), *dw = normals(9, O * C), *db = normals(10, O),
          *z = floats(N * O);
    float *want = floats(N * O), *got = floats(N * C + N * O + O * C);
    const T *d_x = to_device_as<T>(x, N * C), *d_w = to_device_as<T>(w, O * C);
    const T *d_b = bias ? to_device_as<T>(b, O) : NULL, *d_dy = to_device_as<T>(dy, N * O);
    T *d_y = to_device<T>(NULL, N * O + offset), *d_z = to_device<T>(NULL, N * O);
    T *d_dx = to_device_as<T>(dx, N * C);
    float *d_dw = to_device(dw, O * C), *d_db = to_device(db, O);
    /* sums of K products of normal numbers, in another order */
    const float tol = 2e-6f * sqrtf((float)(C + N + O + 10));
    CHECK_CUDA(llm_cuda_dense_forward(d_y + offset, d_z, d_x, d_w, d_b, N, C, O, kind, 0));
    llm_dense_forward(z, x, w, bias ? b : NULL, N, C, O);
    llm_activation_forward(want, z, N * O, kind);
    CHECK_STORED(T, from_device_as(got, d_z, N * O), z, N * O, tol);
    CHECK_STORED(T, from_device_as(got, d_y + offset, N * O), want, N * O, 2 * tol);

    float *scratch = slices > 1 ? to_device<float>(NULL, slices * O * C) : NULL;
    CHECK_CUDA(llm_cuda_dense_backward(d_dx, d_dw, d_db, d_dy, d_x, d_w, N, C, O, scratch, 0));
    llm_dense_backward(dx, dw, db, dy, x, w, N, C, O);
    CHECK_STORED(T, from_device_as(got, d_dx, N * C), dx, N * C, tol);
    CHECK_ALL_NEAR(from_device(got, d_dw, O * C), dw, O * C, 4 * tol);
    CHECK_ALL_NEAR(from_device(got, d_db, O), db, O, 4 * tol);
}

TEST(dense, "forward with bias and activation, and all gradients, equal the reference") {
    const size_t shapes[7][3] = {{1, 1, 1},    {2, 3, 5},      {3, 64, 32},  {17, 40, 24},
                                 {7, 33, 130}, {130, 16, 136}, {129, 131, 9}};
    const int kinds[3] = {LLM_ACTIVATION_IDENTITY, LLM_ACTIVATION_GELU_TANH, LLM_ACTIVATION_SILU};
    for (size_t s = 0; s < (TEST_SLOW ? 4 : 7); s++) {
        const size_t N = shapes[s][0], C = shapes[s][1], O = shapes[s][2];
        check_dense<float>(N, C, O, kinds[s % 3], s % 2 == 0, 0);
        check_dense<float>(N, C, O, kinds[(s + 1) % 3], s % 2 == 1, 1); /* y off its alignment */
        check_dense<llm_bf16>(N, C, O, kinds[(s + 2) % 3], true, 0);
    }
}

TEST(dense, "a long sum over the tokens is cut into slices and added in order") {
    CHECK(llm_cuda_dense_slices(512, 8, 8) == 2 && llm_cuda_dense_slices(255, 8, 8) == 1);
    CHECK(llm_cuda_dense_slices(16384, 768, 768) == 8); /* 36 tiles: 8 fill a card of 264 blocks */
    CHECK(llm_cuda_dense_slices(1 << 20, 8192, 8192) == 1);
    check_dense<float>(517, 5, 7, LLM_ACTIVATION_IDENTITY, true, 0);
    check_dense<llm_bf16>(600, 16, 8, LLM_ACTIVATION_IDENTITY, true, 0);
}

TEST(dense, "any gradient may be NULL, and nothing is nothing") {
    float x[6] = {1, 2, 3, 4, 5, 6}, w[6] = {1, 0, 2, 0, 1, 1}, dy[4] = {1, 2, 3, 4}, got[6];
    float *d_x = to_device(x, 6), *d_w = to_device(w, 6), *d_dy = to_device(dy, 4), *none = NULL;
    float *d_db = to_device(zeros(2), 2), *d_dx = to_device(zeros(6), 6);
    CHECK_CUDA(llm_cuda_dense_backward(none, none, d_db, d_dy, d_x, d_w, 2, 3, 2, none, 0));
    CHECK(from_device(got, d_db, 2)[0] == 4.0f && got[1] == 6.0f);
    CHECK_CUDA(llm_cuda_dense_backward(d_dx, none, none, d_dy, d_x, d_w, 2, 3, 2, none, 0));
    const float want[6] = {1, 2, 4, 3, 4, 10}; /* dy w by hand */
    CHECK_ALL_NEAR(from_device(got, d_dx, 6), want, 6, 0.0f);
    CHECK_CUDA(llm_cuda_dense_forward(none, none, none, none, none, 0, 3, 2, 0, 0));
    CHECK_CUDA(llm_cuda_dense_backward(none, none, none, d_dy, d_x, d_w, 0, 3, 2, none, 0));
}

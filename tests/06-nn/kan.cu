/* @kan */
#include "../test.h"

#include "../../llm_cuda.cuh"

static float *normals(uint64_t seed, size_t n) {
    float *x = floats(n);
    llm_rng rng = llm_rng_seed(seed);
    llm_rng_normal_fill(&rng, x, n);
    return x;
}

/* Inputs spread over the grid, its outer knots and beyond; some on a knot. Knots not
 * equidistant. */
template <typename T>
static void check_kan(size_t N, size_t in, size_t out, size_t grid, float l1, float tol) {
    const llm_kan k = {in, out, grid};
    const size_t P = llm_kan_param_count(&k), knots = grid + 7;
    float *x = normals(N + grid, N * in), *dy = normals(N + 1, N * out), *w = normals(P, P);
    float *dx = normals(N + 2, N * in), *dw = normals(P + 1, P), *t = floats(in * knots);
    float *y = floats(N * out), *got = floats(N * (in + out)), *got_dw = floats(P);
    llm_rng rng = llm_rng_seed(P);
    llm_kan_grid(t, &k, -1.0f, 1.5f);
    for (size_t i = 0; i < in * knots; i++)
        t[i] += 0.6f / (float)grid * (llm_rng_uniform(&rng) - 0.5f);
    T *d_dx = to_device_as<T>(dx, N * in), *d_y = to_device<T>(NULL, N * out);
    const T *d_dy = to_device_as<T>(dy, N * out), *d_w = to_device_as<T>(w, P);
    if (sizeof(T) == 4 && N > 2) x[0] = t[3], x[in] = t[0], x[2 * in] = t[grid + 6];
    const T *d_x = to_device_as<T>(x, N * in);
    const float *d_t = to_device(t, in * knots);
    float *d_dw = to_device(dw, P);

    CHECK_CUDA(llm_cuda_kan_forward(d_y, &k, d_w, d_t, d_x, N, 0));
    llm_kan_forward(y, &k, w, t, x, N);
    CHECK_STORED(T, from_device_as(got, d_y, N * out), y, N * out, tol);
    CHECK_CUDA(llm_cuda_kan_backward(d_dx, d_dw, d_dy, &k, d_w, d_t, d_x, N, l1, 0));
    llm_kan_backward(dx, dw, dy, &k, w, t, x, N, l1);
    CHECK_STORED(T, from_device_as(got, d_dx, N * in), dx, N * in, tol * (float)grid);
    CHECK_ALL_NEAR(from_device(got_dw, d_dw, P), dw, P, tol);
    T *no_dx = NULL;
    float *no_dw = NULL;
    CHECK_CUDA(llm_cuda_kan_backward(no_dx, d_dw, d_dy, &k, d_w, d_t, d_x, N, l1, 0));
    CHECK_CUDA(llm_cuda_kan_backward(d_dx, no_dw, d_dy, &k, d_w, d_t, d_x, N, l1, 0));
    llm_kan_backward(dx, dw, dy, &k, w, t, x, N, l1);
    CHECK_ALL_NEAR(from_device(got_dw, d_dw, P), dw, P, 2.0f * tol);
    if (sizeof(T) == 4)
        CHECK_STORED(T, from_device_as(got, d_dx, N * in), dx, N * in, 2.0f * tol * (float)grid);
}

TEST(kan, "curves, their slopes and their coefficients' gradients equal the reference's") {
    check_kan<float>(1, 1, 1, 1, 0.0f, 1e-4f);
    check_kan<float>(3, 2, 5, 2, 0.0f, 1e-4f);
    check_kan<float>(37, 9, 33, 5, 0.0f, 1e-4f);
    check_kan<float>(70, 3, 7, 3, 0.5f, 1e-4f);
    check_kan<float>(300, 2, 3, 4, 0.1f, 1e-4f); /* more rows than a block has lanes */
    check_kan<float>(33, 1, 2, 90, 0.1f, 3e-4f); /* fewer warps */
    check_kan<float>(33, 1, 2, 800, 0.0f, 3e-3f);
    check_kan<llm_bf16>(35, 8, 36, 5, 0.0f, 1e-4f);
    check_kan<llm_bf16>(5, 17, 2, 8, 0.0f, 1e-4f);
}

TEST(kan, "nothing to do; too large") {
    float *none = NULL;
    const llm_kan k = {3, 2, 5}, fine = {3, 2, 801}, wide = {3, (1 << 18) + 1, 5};
    CHECK_CUDA(llm_cuda_kan_forward(none, &k, none, none, none, 0, 0));
    CHECK_CUDA(llm_cuda_kan_backward(none, none, none, &k, none, none, none, 0, 0.0f, 0));
    CHECK(llm_cuda_kan_forward(none, &wide, none, none, none, 1, 0) != cudaSuccess);
    CHECK(llm_cuda_kan_backward(none, none, none, &wide, none, none, none, 1, 0.0f, 0) !=
          cudaSuccess);
    CHECK(llm_cuda_kan_backward(none, (float *)&none, none, &fine, none, none, none, 1, 0.0f, 0) !=
          cudaSuccess);
}

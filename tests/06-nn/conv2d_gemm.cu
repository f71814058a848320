/* @conv2d_gemm */
#include "../test.h"

#include "../../llm_cuda.cuh"

static float *normals(uint64_t seed, size_t n) {
    float *x = floats(n);
    llm_rng rng = llm_rng_seed(seed);
    llm_rng_normal_fill(&rng, x, n);
    return x;
}

template <typename T> static void check_conv2d(const llm_conv2d *c, size_t N, bool bias) {
    const size_t P = llm_conv2d_size(c, 0) * llm_conv2d_size(c, 1), weights = llm_conv2d_weights(c);
    const size_t n = N * c->C * c->H * c->W, out = N * c->O * P,
                 slices = llm_cuda_conv2d_slices(N, c);
    float *x = normals(1, n), *w = normals(2, weights), *b = normals(3, c->O),
          *dy = normals(4, out);
    float *dx = normals(5, n), *dw = normals(6, weights), *db = normals(7, c->O),
          *want = floats(out);
    float *got = floats(n + out + weights + c->O);
    const T *d_x = to_device_as<T>(x, n), *d_w = to_device_as<T>(w, weights);
    const T *d_b = bias ? to_device_as<T>(b, c->O) : NULL, *d_dy = to_device_as<T>(dy, out);
    T *d_y = to_device<T>(NULL, out), *d_dx = to_device_as<T>(dx, n);
    float *d_dw = to_device(dw, weights), *d_db = to_device(db, c->O);
    const float tol = 4e-6f * sqrtf((float)(llm_conv2d_sum(c) + c->O * 9 + 10));
    const float long_tol = 1e-5f * sqrtf((float)(N * P + 10));
    CHECK_CUDA(llm_cuda_conv2d_forward(d_y, d_x, d_w, d_b, N, c, 0));
    llm_conv2d_naive(want, x, w, bias ? b : NULL, N, c);
    CHECK_STORED(T, from_device_as(got, d_y, out), want, out, tol);
    float *scratch = slices > 1 ? to_device<float>(NULL, slices * weights) : NULL;
    CHECK_CUDA(llm_cuda_conv2d_backward(d_dx, d_dw, d_db, d_dy, d_x, d_w, N, c, scratch, 0));
    llm_conv2d_naive_backward(dx, dw, db, dy, x, w, N, c);
    CHECK_STORED(T, from_device_as(got, d_dx, n), dx, n, tol);
    CHECK_ALL_NEAR(from_device(got, d_dw, weights), dw, weights, long_tol);
    CHECK_ALL_NEAR(from_device(got, d_db, c->O), db, c->O, long_tol);
}

TEST(conv2d_gemm, "forward and all gradients equal the definition, by stride, padding, groups") {
    const size_t shapes[8][8] = {/* N C H W O kernel stride pad */
                                 {1, 1, 1, 1, 1, 1, 1, 0},   {2, 3, 5, 4, 2, 3, 1, 1},
                                 {1, 2, 7, 6, 5, 3, 2, 1},   {2, 4, 6, 5, 6, 2, 3, 0},
                                 {1, 5, 4, 4, 3, 1, 1, 0},   {1, 1, 9, 17, 130, 3, 1, 1},
                                 {1, 129, 3, 3, 2, 3, 1, 1}, {3, 2, 8, 8, 3, 5, 2, 2}};
    for (size_t s = 0; s < (TEST_SLOW ? 4 : 8); s++) {
        llm_conv2d c = llm_conv2d_make(shapes[s][1], shapes[s][2], shapes[s][3], shapes[s][4],
                                       shapes[s][5], shapes[s][6], shapes[s][7]);
        if (s == 2) c.dilation[1] = 2, c.pad_end[0] = 2;
        if (s == 3) c.groups = 2, c.stride[1] = 1;
        check_conv2d<float>(&c, shapes[s][0], s % 2 == 0);
        check_conv2d<llm_bf16>(&c, shapes[s][0], s % 2 == 1);
    }
}

TEST(conv2d_gemm, "many pixels are cut into slices for dw; nothing to do, and too much") {
    llm_conv2d c = llm_conv2d_make(2, 18, 20, 3, 3, 1, 1);
    CHECK(llm_cuda_conv2d_slices(1, &c) == 1 && llm_cuda_conv2d_slices(2, &c) == 2);
    check_conv2d<float>(&c, 2, true);
    float *none = NULL;
    CHECK_CUDA(llm_cuda_conv2d_forward(none, none, none, none, 0, &c, 0));
    CHECK_CUDA(llm_cuda_conv2d_backward(none, none, none, none, none, none, 0, &c, none, 0));
    CHECK(llm_cuda_conv2d_forward(none, none, none, none, (size_t)1 << 30, &c, 0) ==
          cudaErrorInvalidValue);
    CHECK(llm_cuda_conv2d_backward(none, none, none, none, none, none, (size_t)1 << 30, &c, none,
                                   0) == cudaErrorInvalidValue);
}

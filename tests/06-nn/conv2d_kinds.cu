/* @conv2d_kinds */
#include "../test.h"

#include "../../llm_cuda.cuh"

static float *conv2d_kinds_normals(uint64_t seed, size_t n) {
    float *x = floats(n);
    llm_rng rng = llm_rng_seed(seed);
    llm_rng_normal_fill(&rng, x, n);
    return x;
}

template <typename T> static void check_depthwise(const llm_conv2d *c, size_t N, bool bias) {
    const size_t P = llm_conv2d_size(c, 0) * llm_conv2d_size(c, 1), weights = llm_conv2d_weights(c);
    const size_t n = N * c->C * c->H * c->W, out = N * c->O * P;
    float *x = conv2d_kinds_normals(1, n), *w = conv2d_kinds_normals(2, weights);
    float *b = conv2d_kinds_normals(3, c->O), *dy = conv2d_kinds_normals(4, out);
    float *dx = conv2d_kinds_normals(5, n), *dw = conv2d_kinds_normals(6, weights);
    float *db = conv2d_kinds_normals(7, c->O), *want = floats(out);
    float *got = floats(n + out + weights + c->O);
    const T *d_x = to_device_as<T>(x, n), *d_w = to_device_as<T>(w, weights);
    const T *d_b = bias ? to_device_as<T>(b, c->O) : NULL, *d_dy = to_device_as<T>(dy, out);
    T *d_y = to_device<T>(NULL, out), *d_dx = to_device_as<T>(dx, n), *none = NULL;
    float *d_dw = to_device(dw, weights), *d_db = to_device(db, c->O), *no_float = NULL;
    float *scratch = to_device<float>(NULL, llm_cuda_conv2d_kinds_shares(N, c) * (weights + c->O));
    const float long_tol = 1e-5f * sqrtf((float)(N * P + 10)); /* sums of N P terms */
    CHECK_CUDA(llm_cuda_conv2d_kinds_forward(d_y, d_x, d_w, d_b, N, c, 0));
    llm_conv2d_naive(want, x, w, bias ? b : NULL, N, c);
    CHECK_STORED(T, from_device_as(got, d_y, out), want, out, 1e-5f);
    CHECK_CUDA(llm_cuda_conv2d_kinds_backward(d_dx, no_float, no_float, d_dy, d_x, d_w, N, c,
                                              no_float, 0));
    CHECK_CUDA(
        llm_cuda_conv2d_kinds_backward(none, d_dw, no_float, d_dy, d_x, d_w, N, c, scratch, 0));
    CHECK_CUDA(
        llm_cuda_conv2d_kinds_backward(none, no_float, d_db, d_dy, d_x, d_w, N, c, scratch, 0));
    llm_conv2d_naive_backward(dx, dw, db, dy, x, w, N, c);
    CHECK_STORED(T, from_device_as(got, d_dx, n), dx, n, 1e-5f);
    CHECK_ALL_NEAR(from_device(got, d_dw, weights), dw, weights, long_tol);
    CHECK_ALL_NEAR(from_device(got, d_db, c->O), db, c->O, long_tol);
}

static llm_conv2d depthwise(size_t C, size_t H, size_t W, size_t m, size_t kernel, size_t stride,
                            size_t pad) {
    llm_conv2d c = llm_conv2d_make(C, H, W, C * m, kernel, stride, pad);
    c.groups = C;
    return c;
}

TEST(conv2d_kinds,
     "depthwise 3 x 3 and its gradients equal the definition, by stride and padding") {
    for (size_t stride = 1; stride <= (TEST_SLOW ? 2 : 3); stride++)
        for (size_t pad = 0; pad < (TEST_SLOW ? 2 : 4); pad++) {
            const llm_conv2d c = depthwise(3, 9 + pad, 7, 1, 3, stride, pad);
            check_depthwise<float>(&c, 2, pad % 2 == 0);
            if (pad == 1) check_depthwise<llm_bf16>(&c, 1, true);
        }
    llm_conv2d one = depthwise(1, 1, 1, 1, 3, 1, 1), many = depthwise(2, 4, 33, 3, 3, 1, 1);
    check_depthwise<float>(&one, 1, true);
    check_depthwise<float>(&many, 3, false);
    many.stride[1] = 2, many.pad[0] = 2, many.pad_end[1] = 0; /* one stride each */
    check_depthwise<float>(&many, 1, true);
    many.stride[0] = 2, many.stride[1] = 1;
    check_depthwise<float>(&many, 1, true);
}

TEST(conv2d_kinds, "other kernels, dilation; more shares of the pictures than one") {
    llm_conv2d five = depthwise(2, 8, 9, 2, 5, 2, 2), spread = depthwise(2, 9, 8, 1, 3, 1, 2);
    llm_conv2d one = depthwise(2, 3, 4, 1, 1, 1, 0), flat = depthwise(2, 5, 12, 1, 3, 1, 1);
    check_depthwise<float>(&five, 3, true);
    check_depthwise<float>(&one, 2, true);
    if (TEST_SLOW) return;
    spread.dilation[0] = 2;
    check_depthwise<float>(&spread, 2, true);
    spread.dilation[0] = 1, spread.dilation[1] = 2;
    check_depthwise<float>(&spread, 2, true);
    flat.kernel[0] = 1, flat.kernel[1] = 9, flat.pad[0] = flat.pad_end[0] = 0, flat.pad[1] = 4;
    check_depthwise<float>(&flat, 2, true); /* nine pixels, and not 3 x 3 */
    flat = depthwise(2, 6, 12, 1, 3, 1, 1), flat.kernel[0] = 2;
    check_depthwise<float>(&flat, 2, true);
    flat = depthwise(2, 6, 12, 1, 3, 1, 1), flat.kernel[1] = 2;
    check_depthwise<float>(&flat, 2, true);
    const llm_conv2d wide = depthwise(2, 20, 21, 1, 3, 1, 1); /* more pixels than threads */
    CHECK(llm_cuda_conv2d_kinds_shares(5, &wide) == 5 &&
          llm_cuda_conv2d_kinds_shares(500, &wide) == 132);
    check_depthwise<float>(&wide, 2, true);
}

TEST(conv2d_kinds, "nothing to do, and what is not depthwise") {
    llm_conv2d c = depthwise(2, 4, 4, 1, 3, 1, 1);
    float *none = NULL;
    CHECK_CUDA(llm_cuda_conv2d_kinds_forward(none, none, none, none, 0, &c, 0));
    CHECK_CUDA(llm_cuda_conv2d_kinds_backward(none, none, none, none, none, none, 0, &c, none, 0));
    CHECK_CUDA(llm_cuda_conv2d_kinds_backward(none, none, none, none, none, none, 1, &c, none, 0));
    const size_t huge = (size_t)1 << 30;
    CHECK(llm_cuda_conv2d_kinds_forward(none, none, none, none, huge, &c, 0) ==
          cudaErrorInvalidValue);
    CHECK(llm_cuda_conv2d_kinds_backward(none, none, none, none, none, none, huge, &c, none, 0) ==
          cudaErrorInvalidValue);
    c.groups = 1;
    CHECK(llm_cuda_conv2d_kinds_forward(none, none, none, none, 1, &c, 0) == cudaErrorInvalidValue);
    CHECK(llm_cuda_conv2d_kinds_backward(none, none, none, none, none, none, 1, &c, none, 0) ==
          cudaErrorInvalidValue);
}

TEST(conv2d_kinds, "traffic: every byte of x and y once from memory, 18 loads for four outputs") {
    const llm_conv2d c = depthwise(1, 64, 32, 1, 3, 1, 1);
    float *x = zeros(64 * 32), *w = zeros(9), *none = NULL;
    float *d_x = to_device(x, 64 * 32), *d_w = to_device(w, 9), *d_y = to_device(x, 64 * 32);
#ifndef __CUDACC__
    emulate_count();
#endif
    CHECK_CUDA(llm_cuda_conv2d_kinds_forward(d_y, d_x, d_w, none, 1, &c, 0));
#ifndef __CUDACC__
    CHECK(emulate_counted.distinct_written == 64 * 32 * 4);
    CHECK(emulate_counted.distinct_read == 64 * 32 * 4 + 64); /* and the weights */
    CHECK(emulate_counted.read <= 64 * 32 / 4 * (18 + 9) * 4);
#else
    CHECK_CUDA(cudaDeviceSynchronize());
#endif
}

/* @equivariance */
#include "../test.h"

#include "../../llm_cuda.cuh"

static float *equivariance_normals(uint64_t seed, size_t n) {
    float *x = floats(n);
    llm_rng rng = llm_rng_seed(seed);
    llm_rng_normal_fill(&rng, x, n);
    return x;
}

template <typename T>
static void check_p4(size_t N, size_t O, size_t C, size_t turns, size_t S, size_t k, size_t pad) {
    const llm_conv2d c = llm_conv2d_make(C * turns, S, S, 4 * O, k, 1, pad);
    const size_t n = N * C * turns * S * S, weights = O * C * turns * k * k;
    const size_t side = S + 2 * pad - k + 1, out = N * 4 * O * side * side, bytes = 1 << 22;
    const size_t slices = llm_cuda_conv2d_slices(N, &c);
    llm_arena arena = {(unsigned char *)test_memory(bytes, 1), bytes, 0, 0};
    float *x = equivariance_normals(1, n), *w = equivariance_normals(2, weights);
    float *dy = equivariance_normals(3, out), *dx = equivariance_normals(4, n);
    float *dw = equivariance_normals(5, weights), *want = floats(out);
    float *got = floats(n + out + 4 * weights), *bank = floats(4 * weights);
    const T *d_x = to_device_as<T>(x, n), *d_w = to_device_as<T>(w, weights);
    const T *d_dy = to_device_as<T>(dy, out);
    T *d_y = to_device<T>(NULL, out), *d_dx = to_device_as<T>(dx, n), *none = NULL;
    T *d_bank = to_device<T>(NULL, 4 * weights);
    float *d_dw = to_device(dw, weights), *no_float = NULL;
    float *scratch = to_device<float>(NULL, (1 + slices) * 4 * weights);
    const float tol = 4e-6f * sqrtf((float)(C * turns * k * k + 4 * O * k * k + 10));
    CHECK_CUDA(
        llm_cuda_equivariance_p4conv_forward(d_y, d_x, d_w, N, O, C, turns, S, k, pad, d_bank, 0));
    llm_equivariance_p4_bank(bank, w, O, C, turns, k);
    CHECK_ALL_NEAR(from_device_as(got, d_bank, 4 * weights), bank, 4 * weights, 0.0f);
    llm_equivariance_p4conv_forward(want, x, w, N, O, C, turns, S, k, pad, &arena);
    CHECK_STORED(T, from_device_as(got, d_y, out), want, out, tol);
    CHECK_CUDA(llm_cuda_equivariance_p4conv_backward(d_dx, no_float, d_dy, d_x, d_w, N, O, C, turns,
                                                     S, k, pad, d_bank, scratch, 0));
    CHECK_CUDA(llm_cuda_equivariance_p4conv_backward(none, d_dw, d_dy, d_x, d_w, N, O, C, turns, S,
                                                     k, pad, d_bank, scratch, 0));
    llm_equivariance_p4conv_backward(dx, dw, dy, x, w, N, O, C, turns, S, k, pad, &arena);
    CHECK_STORED(T, from_device_as(got, d_dx, n), dx, n, tol);
    CHECK_ALL_NEAR(from_device(got, d_dw, weights), dw, weights,
                   2e-5f * sqrtf((float)(N * side * side)));
}

TEST(equivariance, "bank, forward and both gradients equal the reference, lifting and inside") {
    check_p4<float>(2, 2, 3, 1, 5, 3, 1);
    check_p4<float>(1, 2, 2, 4, 4, 3, 0);
    if (TEST_SLOW) return;
    check_p4<llm_bf16>(1, 2, 3, 4, 5, 3, 1);
    check_p4<float>(1, 1, 1, 1, 1, 1, 0);
    check_p4<float>(1, 3, 1, 4, 6, 2, 1);  /* an even kernel */
    check_p4<float>(2, 1, 1, 4, 17, 5, 2); /* dw in slices */
}

TEST(equivariance, "turning the picture turns the answers and exchanges them in a circle") {
    const size_t C = 2, O = 2, S = 5, k = 3, n = C * S * S, out = 4 * O * S * S;
    float *x = equivariance_normals(1, n), *w = equivariance_normals(2, O * C * k * k);
    float *turned = floats(n), *y = floats(out), *z = floats(out), *want = floats(S * S);
    llm_equivariance_turn(turned, x, C, S, 1);
    const float *d_w = to_device(w, O * C * k * k);
    float *bank = to_device<float>(NULL, 4 * O * C * k * k), *d_y = to_device<float>(NULL, out);
    CHECK_CUDA(llm_cuda_equivariance_p4conv_forward(d_y, (const float *)to_device(x, n), d_w, 1, O,
                                                    C, 1, S, k, 1, bank, 0));
    from_device(y, d_y, out);
    CHECK_CUDA(llm_cuda_equivariance_p4conv_forward(d_y, (const float *)to_device(turned, n), d_w,
                                                    1, O, C, 1, S, k, 1, bank, 0));
    from_device(z, d_y, out);
    for (size_t i = 0; i < 4 * O; i++) {
        const size_t r = i % 4;
        llm_equivariance_turn(want, y + (i - r + (r + 3) % 4) * S * S, 1, S, 1);
        CHECK_ALL_NEAR(z + i * S * S, want, S * S, 1e-5f);
    }
    float *none = NULL;
    CHECK_CUDA(llm_cuda_equivariance_p4_bank(none, none, none, 0, 3, 4, 3, 0));
    CHECK(llm_cuda_equivariance_p4_bank(none, none, none, 1, 3, 2, 3, 0) == cudaErrorInvalidValue);
    CHECK_CUDA(llm_cuda_equivariance_p4conv_backward(none, none, none, none, none, 1, 0, 1, 1, 4, 3,
                                                     1, none, none, 0));
}

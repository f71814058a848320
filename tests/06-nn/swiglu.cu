/* @swiglu */
#include "../test.h"

#include "../../llm_cuda.cuh"

static float *normals(uint64_t seed, size_t n) {
    float *x = floats(n);
    llm_rng rng = llm_rng_seed(seed);
    for (size_t i = 0; i < n; i++) x[i] = 3.0f * llm_rng_normal(&rng);
    return x;
}

template <typename T> static void check_packed(size_t N, size_t H, size_t offset) {
    const size_t n = N * H;
    float *x = normals(H, 2 * n), *dy = normals(H + 1, n), *dx = normals(H + 2, 2 * n);
    float *want = floats(n), *got = floats(2 * n);
    const T *d_x = to_device_as<T>(x, 2 * n), *d_dy = to_device_as<T>(dy, n);
    T *d_y = to_device<T>(NULL, n + offset), *d_dx = to_device_as<T>(dx, 2 * n);
#ifndef __CUDACC__
    emulate_count();
#endif
    CHECK_CUDA(llm_cuda_swiglu_packed_forward(d_y + offset, d_x, N, H, 0));
#ifndef __CUDACC__
    CHECK(emulate_counted.read + emulate_counted.written == 3 * n * sizeof(T));
    emulate_count();
#endif
    CHECK_CUDA(llm_cuda_swiglu_packed_backward(d_dx, d_dy, d_x, N, H, 0));
#ifndef __CUDACC__
    CHECK(emulate_counted.read + emulate_counted.written == 7 * n * sizeof(T));
#endif
    llm_swiglu_packed_forward(want, x, N, H, false);
    CHECK_STORED(T, from_device_as(got, d_y + offset, n), want, n, 1e-5f);
    llm_swiglu_packed_backward(dx, dy, x, N, H, false);
    CHECK_STORED(T, from_device_as(got, d_dx, 2 * n), dx, 2 * n, 2e-5f);
}
template <typename T> static void check_flat(size_t n) {
    float *gate = normals(n, n), *up = normals(n + 1, n), *dy = normals(n + 2, n);
    float *dgate = zeros(n), *dup = zeros(n), *want = floats(n), *got = floats(n);
    const T *d_gate = to_device_as<T>(gate, n), *d_up = to_device_as<T>(up, n);
    const T *d_dy = to_device_as<T>(dy, n);
    T *d_y = to_device<T>(NULL, n), *d_dgate = to_device_as<T>(dgate, n), *none = NULL;
    T *d_dup = to_device_as<T>(dup, n);
    CHECK_CUDA(llm_cuda_swiglu_forward(d_y, d_gate, d_up, n, 0));
    CHECK_CUDA(llm_cuda_swiglu_backward(d_dgate, none, d_dy, d_gate, d_up, n, 0));
    CHECK_CUDA(llm_cuda_swiglu_backward(none, d_dup, d_dy, d_gate, d_up, n, 0));
    llm_swiglu_forward(want, gate, up, n);
    llm_swiglu_backward(dgate, dup, dy, gate, up, n);
    CHECK_STORED(T, from_device_as(got, d_y, n), want, n, 1e-5f);
    CHECK_STORED(T, from_device_as(got, d_dgate, n), dgate, n, 2e-5f);
    CHECK_STORED(T, from_device_as(got, d_dup, n), dup, n, 2e-5f);
}

TEST(swiglu, "packed and flat, forward and backward, equal the reference") {
    const size_t widths[6] = {1, 7, 40, 256, 1028, 2056};
    for (size_t s = 0; s < 6; s++) {
        check_packed<float>(s % 3 + 1, widths[s], s % 2);
        check_packed<llm_bf16>(2, widths[s] / 8 * 8 + 8, 0);
        check_flat<float>(widths[s]);
        check_flat<llm_bf16>(widths[s]);
    }
    float *none = NULL;
    CHECK_CUDA(llm_cuda_swiglu_forward(none, none, none, 0, 0));
}

/* @dropout */
#include "../test.h"

#include "../../llm_cuda.cuh"

static float *normals(uint64_t seed, size_t n) {
    float *x = floats(n);
    llm_rng rng = llm_rng_seed(seed);
    llm_rng_normal_fill(&rng, x, n);
    return x;
}

/* shift takes y off its alignment; offset is the stream's */
template <typename T>
static void check_dropout(size_t N, size_t C, float p, uint64_t offset, size_t shift) {
    const uint64_t seed = UINT64_C(0x123456789abcdef);
    const size_t n = N * C;
    float *x = normals(C, n), *b = normals(C + 1, C), *r = normals(C + 2, n), *sum = floats(n);
    float *dy = normals(C + 3, n), *dx = normals(C + 4, n), *want = floats(n), *got = floats(n);
    const T *d_x = to_device_as<T>(x, n), *d_b = to_device_as<T>(b, C),
            *d_r = to_device_as<T>(r, n);
    const T *d_dy = to_device_as<T>(dy, n);
    T *d_y = to_device<T>(NULL, n + shift), *d_dx = to_device_as<T>(dx, n);
    for (size_t i = 0; i < n; i++) sum[i] = x[i] + b[i % C];
    llm_dropout_forward(want, sum, n, p, seed, offset);
    for (size_t i = 0; i < n; i++) want[i] += r[i];
    CHECK_CUDA(llm_cuda_dropout_residual(d_y + shift, d_x, d_b, d_r, N, C, p, seed, offset, 0));
    CHECK_STORED(T, from_device_as(got, d_y + shift, n), want, n, 1e-5f);
    CHECK_CUDA(llm_cuda_dropout_forward(d_y + shift, d_x, n, p, seed, offset, 0));
    llm_dropout_forward(want, x, n, p, seed, offset);
    CHECK_STORED(T, from_device_as(got, d_y + shift, n), want, n, 1e-5f);
    for (size_t i = 0; i < n; i++) CHECK((got[i] == 0.0f) == (want[i] == 0.0f)); /* the same mask */
    CHECK_CUDA(llm_cuda_dropout_backward(d_dx, d_dy, n, p, seed, offset, 0));
    llm_dropout_backward(dx, dy, n, p, seed, offset);
    CHECK_STORED(T, from_device_as(got, d_dx, n), dx, n, 1e-5f);
}

TEST(dropout, "the mask is the reference's, wherever the stream begins and the rows lie") {
    const size_t widths[5] = {1, 7, 40, 1028, 2056};
    const uint64_t offsets[4] = {0, 3, 8, (UINT64_C(1) << 34) - 4}; /* across 2^32 blocks */
    for (size_t s = 0; s < 5; s++) {
        check_dropout<float>(s % 3 + 1, widths[s], 0.3f, offsets[s % 4], s % 2);
        check_dropout<llm_bf16>(2, widths[s] / 8 * 8 + 8, 0.1f, offsets[(s + 1) % 4], 0);
    }
    check_dropout<float>(2, 40, 0.0f, 0, 0);
    check_dropout<float>(2, 40, 1.0f, 0, 0);
    float *none = NULL;
    CHECK_CUDA(llm_cuda_dropout_forward(none, none, 0, 0.5f, 1, 0, 0));
    CHECK_CUDA(llm_cuda_dropout_backward(none, none, 0, 0.5f, 1, 0, 0));
}

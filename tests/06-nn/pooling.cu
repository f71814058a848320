/* @pooling */
#include "../test.h"

#include "../../llm_cuda.cuh"

/* Quantized, so that windows hold equal maxima; of six numbers one is NaN when wanted. */
static float *pixels(uint64_t seed, size_t n, bool broken) {
    float *x = floats(n);
    llm_rng rng = llm_rng_seed(seed);
    for (size_t i = 0; i < n; i++)
        x[i] = broken && llm_rng_below(&rng, 6) == 0
                   ? NAN
                   : 0.25f * ((float)llm_rng_below(&rng, 33) - 16);
    return x;
}

template <typename T> static void check_pooling(const llm_pooling *c, size_t planes, bool broken) {
    const size_t m = planes * c->H * c->W;
    const size_t n = planes * llm_pooling_size(c, 0) * llm_pooling_size(c, 1);
    float *x = pixels(n, m, broken), *dy = pixels(n + 1, n, false), *dx = pixels(n + 2, m, false);
    float *y = floats(n), *got = floats(n), *got_dx = floats(m), *dx2 = floats(m);
    uint32_t *from = (uint32_t *)test_memory(n, 4), *got_from = (uint32_t *)test_memory(n, 4);
    const T *d_x = to_device_as<T>(x, m), *d_dy = to_device_as<T>(dy, n);
    T *d_y = to_device<T>(NULL, n), *d_dx = to_device_as<T>(dx, m), *d_dx2 = to_device_as<T>(dx, m);
    uint32_t *d_from = to_device<uint32_t>(NULL, n);
    memcpy(dx2, dx, m * sizeof *dx);

    CHECK_CUDA(llm_cuda_pooling_max_forward(d_y, d_from, d_x, planes, c, 0));
    CHECK_CUDA(llm_cuda_pooling_max_backward(d_dx, d_dy, d_from, planes, c, 0));
    llm_pooling_max_forward(y, from, x, planes, c);
    llm_pooling_max_backward(dx, dy, from, planes, c);
    from_device(got_from, d_from, n);
    from_device_as(got, d_y, n);
    for (size_t i = 0; i < n; i++) {
        CHECK(got_from[i] == from[i]);
        CHECK(got[i] == y[i] || (got[i] != got[i] && y[i] != y[i]));
    }
    CHECK_STORED(T, from_device_as(got_dx, d_dx, m), dx, m, 0.0f);
    if (broken) return;

    CHECK_CUDA(llm_cuda_pooling_average_forward(d_y, d_x, planes, c, 0));
    CHECK_CUDA(llm_cuda_pooling_average_backward(d_dx2, d_dy, planes, c, 0));
    llm_pooling_average_forward(y, x, planes, c);
    llm_pooling_average_backward(dx2, dy, planes, c);
    CHECK_STORED(T, from_device_as(got, d_y, n), y, n, 1e-6f);
    CHECK_STORED(T, from_device_as(got_dx, d_dx2, m), dx2, m, 1e-6f);
}

TEST(pooling, "windows that overlap, hang over, skip pixels: the reference's places and sums") {
    /* H, W, kernel, stride and pad of each axis, ceil, without_pad */
    const size_t shapes[9][10] = {
        {4, 6, 2, 2, 2, 2, 0, 0, 0, 0},    {7, 5, 3, 3, 2, 2, 1, 1, 0, 0},
        {7, 5, 3, 3, 2, 2, 1, 1, 1, 0},    {7, 11, 3, 2, 1, 3, 1, 0, 1, 1},
        {1, 1, 1, 1, 1, 1, 0, 0, 0, 0},    {5, 13, 2, 3, 3, 5, 1, 0, 0, 1},
        {9, 8, 5, 4, 1, 2, 2, 2, 1, 0},    {2, 3, 2, 3, 1, 1, 1, 1, 1, 1},
        {13, 17, 13, 17, 1, 1, 0, 0, 0, 0}};
    for (size_t i = 0; i < 9; i++) {
        const size_t *s = shapes[i];
        const llm_pooling c = {s[0],         s[1],      {s[2], s[3]}, {s[4], s[5]},
                               {s[6], s[7]}, s[8] != 0, s[9] != 0};
        for (size_t planes = 1; planes < 8; planes += 3) {
            check_pooling<float>(&c, planes, planes == 4);
            check_pooling<llm_bf16>(&c, planes, false);
        }
    }
}

template <typename T> static void check_global(size_t planes, size_t S, size_t shift) {
    const size_t n = planes * S;
    float *x = pixels(S, n + shift, false), *dx = pixels(S + 1, n + shift, false);
    float *dy = pixels(S + 2, planes, false), *y = floats(planes), *got = floats(n);
    const T *d_x = to_device_as<T>(x, n + shift), *d_dy = to_device_as<T>(dy, planes);
    T *d_dx = to_device_as<T>(dx, n + shift), *d_y = to_device<T>(NULL, planes);
    CHECK_CUDA(llm_cuda_pooling_global_forward(d_y, d_x + shift, planes, S, 0));
    CHECK_CUDA(llm_cuda_pooling_global_backward(d_dx + shift, d_dy, planes, S, 0));
    llm_pooling_global_forward(y, x + shift, planes, S);
    llm_pooling_global_backward(dx + shift, dy, planes, S);
    CHECK_STORED(T, from_device_as(got, d_y, planes), y, planes, 1e-5f);
    CHECK_STORED(T, from_device_as(got, d_dx + shift, n), dx + shift, n, 1e-6f);
}
TEST(pooling, "the mean over a picture, a warp and a block each") {
    const size_t sizes[6] = {1, 7, 49, 64, 1025, 2056};
    for (size_t s = 0; s < (TEST_SLOW ? 5 : 6); s++) {
        check_global<float>(s % 3 + 1, sizes[s], 0);
        check_global<float>(5, sizes[s], 1);
        check_global<llm_bf16>(2, sizes[s], s % 2);
    }
}

TEST(pooling, "bytes are the minimum; nothing to do; too large") {
#ifndef __CUDACC__
    const llm_pooling c = llm_pooling_make(4, 6, 2);
    float x[72];
    for (int i = 0; i < 72; i++) x[i] = (float)(i % 5);
    float *d_x = to_device(x, 72), *d_y = to_device<float>(NULL, 18);
    uint32_t *d_from = to_device<uint32_t>(NULL, 18);
    emulate_count();
    CHECK_CUDA(llm_cuda_pooling_max_forward(d_y, d_from, d_x, 3, &c, 0));
    CHECK(emulate_counted.distinct_read == 72 * 4 && emulate_counted.written == 18 * 4);
    emulate_count();
    CHECK_CUDA(llm_cuda_pooling_max_backward(d_x, d_y, d_from, 3, &c, 0));
    CHECK(emulate_counted.read == (72 + 18) * 4 && emulate_counted.written == 72 * 4);
#endif
    float *none = NULL;
    const llm_pooling one = llm_pooling_make(2, 2, 2), huge = llm_pooling_make(1 << 16, 1 << 16, 2);
    CHECK_CUDA(llm_cuda_pooling_max_forward(none, (uint32_t *)NULL, none, 0, &one, 0));
    CHECK_CUDA(llm_cuda_pooling_average_backward(none, none, 0, &one, 0));
    CHECK_CUDA(llm_cuda_pooling_global_forward(none, none, 0, 4, 0));
    CHECK_CUDA(llm_cuda_pooling_global_backward(none, none, 0, 4, 0));
    CHECK(llm_cuda_pooling_max_forward(none, (uint32_t *)NULL, none, 1, &huge, 0) != cudaSuccess);
    CHECK(llm_cuda_pooling_average_backward(none, none, 1, &huge, 0) != cudaSuccess);
}

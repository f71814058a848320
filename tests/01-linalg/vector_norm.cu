/* @vector_norm */
#include "../test.h"

#include "../../llm_cuda.cuh"

/* offset 1 takes the rows off their alignment: the path without vectors */
template <typename T> static void check_unit(size_t rows, size_t n, size_t offset, float scale) {
    const size_t size = rows * n;
    float *x = floats(size), *want = floats(size), *want_length = floats(rows), *got = floats(size);
    llm_rng rng = llm_rng_seed(n);
    llm_rng_normal_fill(&rng, x, size);
    for (size_t i = 0; i < size; i++) x[i] = i < n && rows > 1 ? 0.0f : x[i] * scale;
    const T *d_x = to_device_as<T>(x, size);
    T *d_u = to_device<T>(NULL, size + offset);
    float *d_length = to_device<float>(NULL, rows);
    for (size_t i = 0; i < size; i++) { /* what was stored */
        T stored;
        test_storage<T>::store(&stored, x[i]);
        x[i] = test_storage<T>::load(stored);
    }
    CHECK_CUDA(llm_cuda_vector_norm_unit(d_u + offset, d_length, d_x, rows, n, 1e-38f, 0));
    llm_vector_norm_unit(want, want_length, x, rows, n, 1e-38f);
    CHECK_STORED(T, from_device_as(got, d_u + offset, size), want, size, 1e-6f);
    CHECK_ALL_CLOSE(from_device(got, d_length, rows), want_length, rows, 1e-6f);
}

TEST(vector_norm,
     "the kernel's unit rows equal the reference's, from 1e-30 to 1e30, rows of zeros") {
    const size_t widths[9] = {1, 2, 31, 33, 40, 768, 1024, 2500, 9000};
    const float scales[3] = {1.0f, 1e30f, 1e-30f};
    for (size_t s = 0; s < (TEST_SLOW ? 6 : 9); s++) {
        check_unit<float>(s % 3 + 1, widths[s], s % 2, scales[s % 3]);
        check_unit<llm_bf16>(s % 3 + 1, widths[s], s % 2, scales[s % 3]);
        check_unit<llm_bf16>(2, widths[s] / 8 * 8 + 8, 0, 1.0f);
        check_unit<float>(2, widths[s] / 8 * 8 + 8, 0, 1.0f);
    }
    CHECK_CUDA(
        llm_cuda_vector_norm_unit((float *)NULL, (float *)NULL, (float *)NULL, 0, 5, 0.0f, 0));
    float x[4] = {3.0f, 4.0f, 0.0f, 0.0f}, *d = to_device(x, 4); /* in place, no lengths */
    CHECK_CUDA(llm_cuda_vector_norm_unit(d, (float *)NULL, d, 1, 4, 0.0f, 0));
    CHECK_NEAR(from_device(x, d, 4)[0], 0.6, 1e-7);
    CHECK_NEAR(x[1], 0.8, 1e-7);
}

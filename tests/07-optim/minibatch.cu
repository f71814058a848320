/* @minibatch */
#include "../test.h"

#include "../../llm_cuda.cuh"

template <typename T, typename S> static void check_gather(size_t d, size_t offset) {
    enum { n = 9, B = 7 };
    const int index[B] = {8, 0, 3, 3, -1, 9, 5};
    float *x = floats(n * d), *got = floats(B * d), *want = floats(B * d);
    llm_rng rng = llm_rng_seed(1);
    llm_rng_normal_fill(&rng, x, n * d);
    S *stored = to_device_as<S>(x, n * d), *moved = to_device<S>(NULL, n * d + offset) + offset;
    if (d) CHECK_CUDA(cudaMemcpy(moved, stored, n * d * sizeof(S), cudaMemcpyDeviceToDevice));
    T *out = to_device<T>(NULL, B * d);
    CHECK_CUDA(
        llm_cuda_minibatch_gather(out, moved, to_device(index, B), (size_t)B, (size_t)n, d, 0));
    from_device_as(got, out, B * d);
    for (size_t k = 0; k < B * d; k++) {
        const int row = index[k / d];
        if (row < 0 || row >= n) {
            CHECK(isnan(got[k]));
            got[k] = want[k] = 0.0f;
        } else {
            want[k] = x[(size_t)row * d + k % d];
        }
    }
    CHECK_STORED(T, got, want, B * d, 0.0f);
}

TEST(minibatch, "rows are gathered and converted, off alignment too; rows that are not are NaN") {
    const size_t widths[5] = {1, 5, 8, 40, 259};
    for (size_t k = 0; k < (TEST_SLOW ? 3 : 5); k++)
        for (size_t offset = 0; offset < 2; offset++) {
            check_gather<float, float>(widths[k], offset);
            check_gather<float, llm_bf16>(widths[k], offset);
            check_gather<llm_bf16, float>(widths[k], offset);
            check_gather<llm_bf16, llm_bf16>(widths[k], offset);
        }
    check_gather<float, float>(0, 0);
}

TEST(minibatch, "traffic: an element in and one out") {
    enum { n = 64, d = 256 };
    int index[n];
    float *x = zeros(n * d);
    for (size_t i = 0; i < n; i++) index[i] = (int)(n - 1 - i);
    float *out = to_device(x, n * d);
    llm_bf16 *from = to_device_as<llm_bf16>(x, n * d);
    const int *where = to_device(index, n);
#ifndef __CUDACC__
    emulate_count();
#endif
    CHECK_CUDA(llm_cuda_minibatch_gather(out, from, where, (size_t)n, (size_t)n, (size_t)d, 0));
#ifndef __CUDACC__
    CHECK(emulate_counted.read + emulate_counted.written == 6 * n * d);
#endif
}

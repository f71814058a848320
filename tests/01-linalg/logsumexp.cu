/* @logsumexp */
#include "../test.h"

#include "../../llm_cuda.cuh"

template <typename T> static void check_logsumexp(size_t rows, size_t n, size_t offset) {
    float *x = floats(rows * n + offset), *want = floats(rows), *got = floats(rows);
    llm_rng rng = llm_rng_seed(n);
    for (size_t i = 0; i < rows * n + offset; i++) {
        const float u = llm_rng_uniform(&rng);
        x[i] = u < 0.1f ? -INFINITY : 8.0f * llm_rng_normal(&rng) + 1e3f * (float)(i / n % 3);
    }
    for (size_t i = 0; i < n; i++) x[offset + n + i] = -INFINITY; /* row 1: nothing else */
    x[offset + 3 * n - 1] = INFINITY;
    x[offset + 3 * n] = NAN; /* row 3 */
    const T *d_x = to_device_as<T>(x, rows * n + offset);
    float *d_lse = to_device<float>(NULL, rows);
#ifndef __CUDACC__
    emulate_count();
#endif
    CHECK_CUDA(llm_cuda_logsumexp(d_lse, d_x + offset, rows, n, 0));
#ifndef __CUDACC__
    CHECK(emulate_counted.read == rows * n * sizeof(T) && emulate_counted.written == rows * 4);
#endif
    from_device(got, d_lse, rows);
    for (size_t r = 0; r < rows; r++) want[r] = llm_logsumexp(x + offset + r * n, n);
    CHECK(isnan(got[3]));
    got[3] = want[3] = 0.0f;
    /* lse is near 2000, where a float has steps of 1.2e-4; the sum adds 1e-6 */
    CHECK_ALL_CLOSE(got, want, rows, 1e-6f);
}

TEST(logsumexp, "rows of a warp and of a block equal llm_logsumexp, with infinities and NaN") {
    const size_t sizes[9] = {1, 2, 31, 33, 128, 1024, 1025, 2048, 5003};
    for (size_t s = 0; s < (TEST_SLOW ? 7 : 9); s++) {
        check_logsumexp<float>(5, sizes[s], 0);
        check_logsumexp<float>(4, sizes[s], 1);
        check_logsumexp<llm_bf16>(6, sizes[s], s % 2);
    }
    CHECK_CUDA(llm_cuda_logsumexp((float *)NULL, (float *)NULL, 0, 3, 0));
    float empty = 0.0f, *d = to_device<float>(NULL, 1);
    CHECK_CUDA(llm_cuda_logsumexp(d, d, 1, 0, 0));
    CHECK(*from_device(&empty, d, 1) == -INFINITY);
}

/* y[0] <- the pairs of x merged one by one, y[1] <- from the last to the first */
LLM_KERNEL void merge_both_ways(float *y, const float *x, int n) {
    for (int way = 0; way < 2; way++) {
        llm_logsumexp_pair a = {-INFINITY, 0.0f};
        for (int i = 0; i < n; i++) {
            const llm_logsumexp_pair one = {x[way ? n - 1 - i : i], 1.0f};
            a = llm_cuda_logsumexp_merge(a, one, 0.5f);
        }
        y[way] = 0.5f * a.max + logf(a.sum);
    }
}

TEST(logsumexp, "merging in either order gives the log-sum-exp at temperature 2") {
    float x[100], half[100], got[2];
    llm_rng rng = llm_rng_seed(1);
    for (size_t i = 0; i < 100; i++) x[i] = 20.0f * llm_rng_normal(&rng), half[i] = 0.5f * x[i];
    float *d = to_device<float>(NULL, 2);
    LLM_LAUNCH(merge_both_ways, 1, 1, 0, 0, d, to_device(x, 100), 100);
    CHECK_CUDA(cudaGetLastError());
    from_device(got, d, 2);
    CHECK_NEAR(got[0], llm_logsumexp(half, 100), 5e-6f);
    CHECK_NEAR(got[1], llm_logsumexp(half, 100), 5e-6f);
}

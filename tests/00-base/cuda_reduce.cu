/* @cuda_reduce */
#include "../test.h"

#include "../../llm_cuda.cuh"

/* One of the block's reductions for each row of x (gridDim.x, blockDim.x); every thread stores what
 * it was given, so y says whether all of them agree. */
LLM_KERNEL void sums(float *y, const float *x) {
    const size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    llm_store(y, i, llm_block_sum(llm_load(x, i)));
}
LLM_KERNEL void maxima(float *y, const float *x) {
    const size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    llm_store(y, i, llm_block_max(llm_load(x, i)));
}
LLM_KERNEL void warp_sums(float *y, const float *x) {
    const size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    llm_store(y, i, llm_warp_sum(llm_load(x, i)));
}
LLM_KERNEL void warp_maxima(float *y, const float *x) {
    const size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    llm_store(y, i, llm_warp_max(llm_load(x, i)));
}
LLM_KERNEL void many_in_a_row(float *y,
                              const float *x) { /* sum, two sums, max, sum: no barrier between */
    const size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    float v = llm_load(x, i), a = v, b = 2.0f * v;
    const float first = llm_block_sum(v);
    llm_block_sum2(a, b);
    const float top = llm_block_max(v), last = llm_block_sum(1.0f);
    llm_store(y, i, first == a && b == 2.0f * a && top >= v ? a + last : NAN);
}

TEST(cuda_reduce, "sums and maxima of a warp and of 1 to 32 warps, the same bits in every thread") {
    const unsigned sizes[6] = {32, 64, 96, 544, 992, 1024};
    for (size_t s = 0; s < 6; s++) {
        const size_t n = sizes[s], rows = 3, all = rows * n;
        float *x = floats(all), *got = floats(all), *want = floats(all), *d_y = to_device(x, all);
        llm_rng rng = llm_rng_seed(s);
        llm_rng_normal_fill(&rng, x, all);
        x[n / 2] = -INFINITY;
        x[n - 1] = x[n / 2]; /* row 0 sums to -inf and still has a maximum */
        const float *d_x = to_device(x, all);
        for (size_t width = 32; width <= n; width += n - 32 ? n - 32 : 32) {
            for (size_t i = 0; i < all; i += width) { /* a group: a warp, then a block */
                double sum = 0.0, top = -INFINITY;
                for (size_t k = i; k < i + width; k++) sum += x[k], top = fmax(top, x[k]);
                for (size_t k = i; k < i + width; k++) want[k] = (float)sum, got[k] = (float)top;
            }
            float *top = got, *result = floats(all);
            if (width == n)
                LLM_LAUNCH(maxima, rows, (unsigned)n, 0, 0, d_y, d_x);
            else
                LLM_LAUNCH(warp_maxima, rows, (unsigned)n, 0, 0, d_y, d_x);
            CHECK_CUDA(cudaGetLastError());
            CHECK_ALL_NEAR(from_device(result, d_y, all), top, all, 0.0f);
            if (width == n)
                LLM_LAUNCH(sums, rows, (unsigned)n, 0, 0, d_y, d_x);
            else
                LLM_LAUNCH(warp_sums, rows, (unsigned)n, 0, 0, d_y, d_x);
            CHECK_CUDA(cudaGetLastError());
            /* up to 1024 normals: partial sums near 32, ten additions deep, 6e-8 each */
            CHECK_ALL_NEAR(from_device(result, d_y, all), want, all, 2e-5f);
            for (size_t k = 0; k < all; k++) {
                CHECK(memcmp(&result[k], &result[k / width * width], sizeof(float)) == 0);
            }
        }
        LLM_LAUNCH(many_in_a_row, rows, (unsigned)n, 0, 0, d_y, d_x);
        CHECK_CUDA(cudaGetLastError());
        from_device(got, d_y, all);
        for (size_t k = n; k < all; k++) {
            double sum = (double)n;
            for (size_t i = k / n * n; i < k / n * n + n; i++) sum += x[i];
            CHECK_NEAR(got[k], sum, 1e-4f); /* n is added to it: a rounding of up to 1024 */
        }
    }
}

TEST(cuda_reduce, "a maximum passes over NaN, a sum does not") {
    float x[64], got[64];
    for (int i = 0; i < 64; i++) x[i] = i == 40 ? NAN : (float)-i;
    float *d_y = to_device<float>(NULL, 64);
    const float *d_x = to_device(x, 64);
    LLM_LAUNCH(maxima, 1, 64, 0, 0, d_y, d_x);
    CHECK(from_device(got, d_y, 64)[40] == 0.0f);
    LLM_LAUNCH(sums, 1, 64, 0, 0, d_y, d_x);
    CHECK(isnan(from_device(got, d_y, 64)[3]));
}

/* @cuda_launch */
#include "../test.h"

#include "../../llm_cuda.cuh"

LLM_KERNEL void where(int *x) {
    const unsigned block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
    const unsigned thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
    const unsigned threads = blockDim.x * blockDim.y * blockDim.z;
    x[block * threads + thread] =
        (int)(blockIdx.x + 10 * blockIdx.y + 100 * blockIdx.z + 1000 * threadIdx.x +
              10000 * threadIdx.y + 100000 * threadIdx.z);
}

TEST(cuda_launch, "blocks and threads of three dimensions") {
    enum { BLOCKS = 2 * 3 * 2, THREADS = 3 * 2 * 4 };
    int got[BLOCKS * THREADS], *d = to_device<int>(NULL, BLOCKS * THREADS), i = 0;
    LLM_LAUNCH(where, dim3(2, 3, 2), dim3(3, 2, 4), 0, 0, d);
    CHECK_CUDA(cudaGetLastError());
    from_device(got, d, BLOCKS * THREADS);
    for (int b = 0; b < BLOCKS; b++) {
        for (int t = 0; t < THREADS; t++, i++) {
            const int block = b % 2 + 10 * (b / 2 % 3) + 100 * (b / 6);
            CHECK(got[i] == block + 1000 * (t % 3) + 10000 * (t / 3 % 2) + 100000 * (t / 6));
        }
    }
}

/* y <- the bytes of dynamic shared memory, handed through it from one end to the other */
template <typename T, int scale>
LLM_KERNEL void through_shared(float *y, const float *nothing, size_t n, T factor) {
    LLM_DYNAMIC_SHARED(T, s);
    for (size_t i = threadIdx.x; i < n; i += blockDim.x) s[i] = (T)i * factor;
    __syncthreads();
    for (size_t i = threadIdx.x; i < n; i += blockDim.x)
        y[i] = nothing ? 0.0f : (float)s[n - 1 - i] * scale;
}

TEST(cuda_launch, "dynamic shared memory to 100 KB, kernels with commas, converted arguments") {
    const size_t sizes[4] = {1, 1000, 12289, 25000}; /* 12288 floats are 48 KB */
    for (size_t s = 0; s < 4; s++) {
        const size_t n = sizes[s];
        float *got = floats(n), *want = floats(n), *d = to_device<float>(NULL, n);
        LLM_LAUNCH((through_shared<float, 2>), 1, 96, n * sizeof(float), 0, d, NULL, n, 3);
        CHECK_CUDA(cudaGetLastError());
        for (size_t i = 0; i < n; i++) want[i] = 6.0f * (float)(n - 1 - i);
        CHECK_ALL_NEAR(from_device(got, d, n), want, n, 0.0f);
    }
    int once = 0;
    LLM_LAUNCH((through_shared<double, 1>), 1, 64, 8, 0, to_device<float>(NULL, 1), NULL, ++once,
               1);
    CHECK_CUDA(cudaGetLastError());
    CHECK(once == 1);
    LLM_LAUNCH((through_shared<float, 2>), 1, 32, 1 << 20, 0, to_device<float>(NULL, 1), NULL, 1,
               1);
    CHECK(cudaGetLastError() != cudaSuccess);
}

LLM_KERNEL void dot_of_a_grid(float *sum, float *part, const float *a, const float *b, size_t n) {
    __shared__ float mine; /* lives across the grid's barrier */
    float v = 0.0f;
    for (size_t i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x)
        v += a[i] * b[i];
    v = llm_block_sum(v);
    if (threadIdx.x == 0) mine = part[blockIdx.x] = v;
    LLM_GRID_SYNC();
    if (blockIdx.x == 0 && threadIdx.x == 0) {
        float all = 0.0f;
        for (unsigned i = 0; i < gridDim.x; i++) all += part[i];
        *sum = all;
    }
    LLM_GRID_SYNC();
    v = llm_block_sum(1.0f); /* every block writes shared memory behind the barrier too */
    if (threadIdx.x == 1) part[blockIdx.x] = mine / *sum * (v / (float)blockDim.x);
}

TEST(cuda_launch, "of launches in order the first error counts") {
    const cudaError_t none[3] = {cudaSuccess, cudaSuccess, cudaSuccess};
    const cudaError_t two[3] = {cudaSuccess, cudaErrorInvalidValue, cudaErrorMemoryAllocation};
    CHECK(llm_cuda_first_error(none) == cudaSuccess);
    CHECK(llm_cuda_first_error(two) == cudaErrorInvalidValue);
}

TEST(cuda_launch, "a cooperative launch meets at grid barriers and keeps its shared memory") {
    enum { N = 5000, BLOCKS = 4 };
    float *a = floats(N), *b = floats(N), sum = 0.0f, part[BLOCKS];
    for (size_t i = 0; i < N; i++) a[i] = (float)(i % 7), b[i] = (float)(i % 3);
    float *d_sum = to_device<float>(NULL, 1), *d_part = to_device<float>(NULL, BLOCKS);
    LLM_LAUNCH_COOPERATIVE(dot_of_a_grid, BLOCKS, 64, 0, 0, d_sum, d_part, to_device(a, N),
                           to_device(b, N), N);
    CHECK_CUDA(cudaGetLastError());
    from_device(&sum, d_sum, 1);
    from_device(part, d_part, BLOCKS);
    CHECK_NEAR(sum, dot(a, b, N), 0); /* sums of small integers are exact */
    CHECK_NEAR(part[0] + part[1] + part[2] + part[3], 1.0f, 1e-6f);
    CHECK(llm_multiprocessors() >= 1);
}

/* @cuda_memory */
#include "../test.h"

#include "../../llm_cuda.cuh"

LLM_KERNEL void to_bf16(llm_bf16 *y, const float *x, size_t n) {
    for (size_t i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x)
        llm_store(y, i, llm_load(x, i));
}
LLM_KERNEL void to_bf16_in_pairs(uint32_t *y, const float *x, size_t n) {
    for (size_t i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x)
        y[i] = llm_pack(llm_load(x, 2 * i), llm_load(x, 2 * i + 1));
}
LLM_KERNEL void from_bf16(float *y, const llm_bf16 *x, size_t n) {
    for (size_t i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x)
        llm_store(y, i, llm_load(x, i));
}

TEST(cuda_memory,
     "bfloat16 rounds to nearest even, keeps NaN and infinity, on the host and the device") {
    /* every upper half, with lower halves around the tie */
    const uint32_t low[6] = {0, 1, 0x7fff, 0x8000, 0x8001, 0xffff};
    const size_t n = 6 * 65536;
    float *x = floats(n), *back = floats(65536);
    llm_bf16 *got = (llm_bf16 *)test_memory(n, sizeof(llm_bf16));
    uint32_t *pairs = (uint32_t *)test_memory(n / 2, sizeof(uint32_t));
    for (size_t i = 0; i < n; i++) {
        const uint32_t bits = (uint32_t)(i / 6) << 16 | low[i % 6];
        memcpy(&x[i], &bits, sizeof bits);
        CHECK(llm_to_bf16(x[i]).bits == test_bf16_bits(x[i]));
    }
    const float *d_x = to_device(x, n);
    llm_bf16 *d_got = to_device<llm_bf16>(NULL, n);
    uint32_t *d_pairs = to_device<uint32_t>(NULL, n / 2);
    LLM_LAUNCH(to_bf16, 16, 256, 0, 0, d_got, d_x, n);
    LLM_LAUNCH(to_bf16_in_pairs, 16, 256, 0, 0, d_pairs, d_x, n / 2);
    CHECK_CUDA(cudaGetLastError());
    from_device(got, d_got, n);
    from_device(pairs, d_pairs, n / 2);
    for (size_t i = 0; i < n; i++) {
        CHECK(got[i].bits == test_bf16_bits(x[i]));
        CHECK((pairs[i / 2] >> (i % 2 * 16) & 0xffffu) == test_bf16_bits(x[i]));
    }
    llm_bf16 *codes = (llm_bf16 *)test_memory(65536, sizeof(llm_bf16));
    float *d_back = to_device<float>(NULL, 65536);
    for (unsigned i = 0; i < 65536; i++) codes[i].bits = (uint16_t)i;
    LLM_LAUNCH(from_bf16, 16, 256, 0, 0, d_back, to_device(codes, 65536), 65536);
    CHECK_CUDA(cudaGetLastError());
    from_device(back, d_back, 65536);
    for (unsigned i = 0; i < 65536;
         i++) { /* the code and sixteen zeros; the bits decide, also of NaN */
        uint32_t bits;
        memcpy(&bits, &back[i], sizeof bits);
        CHECK(bits == i << 16);
        CHECK(isnan(back[i]) || llm_to_float(codes[i]) == back[i]);
    }
    CHECK(llm_to_bf16(3.4e38f).bits == 0x7f80); /* past the largest: infinity */
    CHECK(llm_to_bf16(NAN).bits == 0x7fff);
}

/* y <- 2 x, V at a time, the thread's own place in the row */
template <int V, typename T> LLM_KERNEL void doubled(T *y, const T *x, size_t n) {
    float v[V];
    for (size_t i = (size_t)threadIdx.x * V; i < n; i += (size_t)blockDim.x * V) {
        llm_load_vector(v, x, i);
        for (int k = 0; k < V; k++) v[k] *= 2.0f;
        llm_store_vector(y, i, v);
    }
}
template <int V, typename T> static void check_vectors(void) {
    const size_t n = 200;
    float *x = floats(n), *want = floats(n), *got = floats(n);
    for (size_t i = 0; i < n; i++) x[i] = (float)i - 50.5f;
    const T *d_x = to_device_as<T>(x, n);
    T *d_y = to_device<T>(NULL, n);
    for (size_t i = 0; i < n; i++) want[i] = 2.0f * x[i];
#ifndef __CUDACC__
    emulate_count();
#endif
    LLM_LAUNCH((doubled<V, T>), 1, 32, 0, 0, d_y, d_x, n);
    CHECK_CUDA(cudaGetLastError());
#ifndef __CUDACC__
    CHECK(emulate_counted.read == n * sizeof(T) && emulate_counted.written == n * sizeof(T));
#endif
    CHECK_ALL_NEAR(from_device_as(got, d_y, n), want, n, 0.0f);
}

TEST(cuda_memory, "vectors of 1, 4 and 8, of float and of bfloat16") {
    check_vectors<1, float>();
    check_vectors<4, float>();
    check_vectors<8, float>();
    check_vectors<1, llm_bf16>();
    check_vectors<4, llm_bf16>();
    check_vectors<8, llm_bf16>();
    float *p = (float *)(uintptr_t)0x1000;
    llm_bf16 *q = (llm_bf16 *)(uintptr_t)0x1000;
    CHECK(llm_aligned(p, 4) && !llm_aligned(p, 6) && !llm_aligned(p + 2, 4) &&
          llm_aligned(p + 4, 8));
    CHECK(llm_aligned(q, 8) && !llm_aligned(q, 4) && !llm_aligned(q + 4, 8) &&
          llm_aligned(q + 8, 8));
    CHECK(llm_aligned((float *)NULL, 4));
}

/* y (tiles) <- the sum over each tile of x, tile + 1 on its way while tile is added; what lies
 * behind n must come as zeros and is not read. */
LLM_KERNEL void tile_sums(float *y, const float *x, size_t n, size_t tiles) {
    __shared__ __align__(16) float s[2][128];
    const size_t t = threadIdx.x;
    llm_copy_async(&s[0][4 * t], x + 4 * t, 4 * t < n);
    llm_copy_commit();
    for (size_t tile = 0; tile < tiles; tile++) {
        const size_t next = (tile + 1) * 128 + 4 * t;
        llm_copy_async(&s[(tile + 1) % 2][4 * t], x + (next < n ? next : 0), next < n);
        llm_copy_commit();
        llm_copy_wait<1>();
        __syncthreads();
        const float *mine = s[tile % 2];
        const float sum = mine[t] + mine[t + 32] + mine[t + 64] + mine[t + 96];
        const float all = llm_warp_sum(sum);
        if (t == 0) llm_store(y, tile, all);
        __syncthreads(); /* before the next turn but one writes here */
    }
    llm_copy_wait<0>();
}

TEST(cuda_memory, "asynchronous copies: two tiles in turn, zeros behind the end") {
    const size_t sizes[4] = {4, 128, 132, 1000};
    for (size_t s = 0; s < 4; s++) {
        const size_t n = sizes[s], tiles = n / 128 + 2;
        float *x = floats(n), *want = zeros(tiles), *got = floats(tiles);
        for (size_t i = 0; i < n; i++) want[i / 128] += x[i] = (float)(i % 11);
        float *d_y = to_device<float>(NULL, tiles);
        LLM_LAUNCH(tile_sums, 1, 32, 0, 0, d_y, to_device(x, n), n, tiles);
        CHECK_CUDA(cudaGetLastError());
        CHECK_ALL_NEAR(from_device(got, d_y, tiles), want, tiles, 0.0f);
    }
}

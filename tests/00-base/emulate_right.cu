/* @emulate: kernels that are right and must not be reported, in any build or schedule. The expected
 * values are the definitions in CUDA's manual, so the same file runs on a GPU. */
#include "../test.h"

#include "../../llm_cuda.cuh"

/* got (n ints) of one block of `threads` against an expression in t, the thread, and l, its lane. */
#define CHECK_THREADS(kernel, threads, expression)                                                 \
    do {                                                                                           \
        enum { n_ = threads };                                                                     \
        int got_[n_], *d_ = to_device<int>(NULL, n_);                                              \
        LLM_LAUNCH(kernel, 1, n_, 0, 0, d_);                                                       \
        CHECK_CUDA(cudaGetLastError());                                                            \
        from_device(got_, d_, n_);                                                                 \
        for (int t = 0; t < n_; t++) {                                                             \
            const int l = t % 32;                                                                  \
            (void)l;                                                                               \
            CHECK_NEAR(got_[t], expression, 0);                                                    \
        }                                                                                          \
    } while (0)

/* ---- warps ---- */

LLM_KERNEL void shuffle_xor(int *x) {
    x[threadIdx.x] = __shfl_xor_sync(0xffffffffu, (int)threadIdx.x, 5);
}
LLM_KERNEL void shuffle_xor_8(int *x) { /* 8 and beyond leave the segment: the own value */
    x[threadIdx.x] = __shfl_xor_sync(0xffffffffu, (int)threadIdx.x, 3, 8);
}
LLM_KERNEL void shuffle_down(int *x) {
    x[threadIdx.x] = __shfl_down_sync(0xffffffffu, (int)threadIdx.x, 3u);
}
LLM_KERNEL void shuffle_down_16(int *x) {
    x[threadIdx.x] = __shfl_down_sync(0xffffffffu, (int)threadIdx.x, 3u, 16);
}
LLM_KERNEL void shuffle_up_16(int *x) {
    x[threadIdx.x] = __shfl_up_sync(0xffffffffu, (int)threadIdx.x, 5u, 16);
}
LLM_KERNEL void shuffle_from(int *x) {
    x[threadIdx.x] = __shfl_sync(0xffffffffu, (int)threadIdx.x, 35); /* 35 is lane 3 */
}
LLM_KERNEL void shuffle_from_8(int *x) {
    x[threadIdx.x] = __shfl_sync(0xffffffffu, (int)threadIdx.x, 2, 8);
}
LLM_KERNEL void shuffle_double(int *x) {
    x[threadIdx.x] = (int)__shfl_xor_sync(0xffffffffu, 1e9 + threadIdx.x, 1);
}
LLM_KERNEL void shuffle_halves(int *x) { /* each half of the warp in a branch of its own */
    const int t = (int)threadIdx.x;
    int v;
    if (t % 32 < 16)
        v = __shfl_xor_sync(0x0000ffffu, t, 1);
    else
        v = __shfl_xor_sync(0xffff0000u, t, 2);
    x[t] = v;
}
LLM_KERNEL void shuffle_partial_warp(int *x) { /* 17 threads name the 17 lanes that exist */
    x[threadIdx.x] = __shfl_sync(0x1ffffu, (int)threadIdx.x, 16);
}
LLM_KERNEL void votes(int *x) {
    const int t = (int)threadIdx.x;
    const int low = (int)__ballot_sync(0xffffffffu, t % 32 < 3);
    x[t] = low + 100 * __any_sync(0xffffffffu, t == 40) + 1000 * __all_sync(0xffffffffu, t < 32);
}
LLM_KERNEL void warp_exchange(int *x) {
    __shared__ int s[64];
    const int t = (int)threadIdx.x;
    for (int turn = 0; turn < 3; turn++) {
        s[t] = t + turn;
        __syncwarp();
        x[t] = s[t ^ 1];
        __syncwarp();
    }
}

TEST(emulate, "shuffles, votes and __syncwarp mean what the manual says") {
    CHECK_THREADS(shuffle_xor, 64, t ^ 5);
    CHECK_THREADS(shuffle_xor_8, 64, t ^ 3);
    CHECK_THREADS(shuffle_down, 64, l + 3 < 32 ? t + 3 : t);
    CHECK_THREADS(shuffle_down_16, 64, l % 16 + 3 < 16 ? t + 3 : t);
    CHECK_THREADS(shuffle_up_16, 64, l % 16 >= 5 ? t - 5 : t);
    CHECK_THREADS(shuffle_from, 64, t - l + 3);
    CHECK_THREADS(shuffle_from_8, 64, t - t % 8 + 2);
    CHECK_THREADS(shuffle_double, 64, 1000000000 + (t ^ 1));
    CHECK_THREADS(shuffle_halves, 64, l < 16 ? t ^ 1 : t ^ 2);
    CHECK_THREADS(shuffle_partial_warp, 17, 16);
    CHECK_THREADS(votes, 64, 7 + (t < 32 ? 1000 : 100));
    CHECK_THREADS(warp_exchange, 64, (t ^ 1) + 2);
}

/* ---- blocks ---- */

LLM_KERNEL void reverse_in_turns(int *x) { /* barriers on both sides of the exchange */
    __shared__ int s[96];
    const unsigned t = threadIdx.x, n = blockDim.x;
    int v = (int)t;
    for (int turn = 0; turn < 3; turn++) {
        s[t] = v;
        __syncthreads();
        v = s[n - 1 - t];
        __syncthreads();
    }
    x[t] = v;
}
LLM_KERNEL void double_buffer(int *x) { /* two tiles in turn need one barrier a turn, not two */
    __shared__ int s[2][96];
    const unsigned t = threadIdx.x, n = blockDim.x;
    int v = (int)t;
    for (int turn = 0; turn < 4; turn++) {
        s[turn % 2][t] = v;
        __syncthreads();
        v = s[turn % 2][(t + 1) % n];
    }
    x[t] = v;
}
LLM_KERNEL void counts(int *x) {
    const int t = (int)threadIdx.x;
    int v = __syncthreads_count(t % 3 == 0);
    v += 100 * __syncthreads_or(t == 7) + 1000 * __syncthreads_and(t >= 0);
    v += 10000 * __syncthreads_count(t < 2);
    x[t] = v + 100000 * __syncthreads_and(t != 5);
}
LLM_KERNEL void atomics(int *x) {
    __shared__ int sum, top, bottom, bits;
    if (threadIdx.x == 0) sum = 0, top = -1, bottom = 1000, bits = 0;
    __syncthreads();
    const int t = (int)threadIdx.x;
    atomicAdd(&sum, t);
    atomicMax(&top, t);
    atomicMin(&bottom, t);
    atomicOr(&bits, 1 << (t % 4));
    __syncthreads();
    x[t] = sum + top + bottom + bits;
}

TEST(emulate, "barriers, double buffers, votes of a block and atomics of a block") {
    CHECK_THREADS(reverse_in_turns, 96, 95 - t);
    CHECK_THREADS(double_buffer, 96, (t + 4) % 96);
    CHECK_THREADS(counts, 50, 17 + 100 + 1000 + 20000);
    CHECK_THREADS(atomics, 96, 95 * 96 / 2 + 95 + 15);
}

/* ---- grids ---- */

LLM_KERNEL void last_block(float *sum, float *part, unsigned *done, const float *x) {
    __shared__ bool last;
    const float mine = llm_block_sum(llm_load(x, blockIdx.x * blockDim.x + threadIdx.x));
    if (threadIdx.x == 0) {
        llm_store(part, blockIdx.x, mine);
        __threadfence(); /* the part is visible before the count */
        last =
            atomicInc(done, gridDim.x - 1) == gridDim.x - 1; /* and back to 0 for the next launch */
        __threadfence(); /* the count is read before the parts */
    }
    __syncthreads();
    if (!last) return;
    float all = 0.0f;
    for (unsigned i = threadIdx.x; i < gridDim.x; i += blockDim.x) all += llm_load(part, i);
    all = llm_block_sum(all);
    if (threadIdx.x == 0) llm_store(sum, 0, all);
}
LLM_KERNEL void histogram(int *count, const int *x, int n) {
    const int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (i < n) atomicAdd(&count[x[i]], 1);
}
LLM_KERNEL void transpose(float *y, const float *x, int rows, int columns) {
    __shared__ float tile[16][17];
    const int c = (int)(blockIdx.x * 16 + threadIdx.x), r = (int)(blockIdx.y * 16 + threadIdx.y);
    if (r < rows && c < columns) tile[threadIdx.y][threadIdx.x] = x[r * columns + c];
    __syncthreads();
    const int to_c = (int)(blockIdx.y * 16 + threadIdx.x);
    const int to_r = (int)(blockIdx.x * 16 + threadIdx.y);
    if (to_r < columns && to_c < rows) y[to_r * rows + to_c] = tile[threadIdx.x][threadIdx.y];
}

TEST(emulate, "blocks that add up behind fences, count with atomics, and transpose") {
    enum { BLOCKS = 7, THREADS = 64, ROWS = 19, COLUMNS = 35 };
    float x[BLOCKS * THREADS], sum = 0.0f;
    for (int i = 0; i < BLOCKS * THREADS; i++) x[i] = (float)(i % 10);
    float *d_x = to_device(x, BLOCKS * THREADS), *part = to_device<float>(NULL, BLOCKS);
    float *d_sum = to_device<float>(NULL, 1);
    unsigned zero = 0, *done = to_device(&zero, 1);
    for (int again = 0; again < 2; again++) {
        LLM_LAUNCH(last_block, BLOCKS, THREADS, 0, 0, d_sum, part, done, d_x);
        CHECK_CUDA(cudaGetLastError());
        CHECK(*from_device(&sum, d_sum, 1) == 44 * 45 + 28); /* 448 numbers: 44 times 0..9, 0..7 */
    }

    int ids[300], count[16] = {0};
    for (int i = 0; i < 300; i++) ids[i] = i * 7 % 16;
    int *d_count = to_device(count, 16);
    LLM_LAUNCH(histogram, 5, 64, 0, 0, d_count, to_device(ids, 300), 300);
    CHECK_CUDA(cudaGetLastError());
    from_device(count, d_count, 16);
    for (int i = 0; i < 16; i++) CHECK(count[i] == 18 + (i * 7 % 16 < 12)); /* 7 * 7 = 1 mod 16 */

    float a[ROWS * COLUMNS], b[ROWS * COLUMNS];
    for (int i = 0; i < ROWS * COLUMNS; i++) a[i] = (float)i;
    float *d_b = to_device<float>(NULL, ROWS * COLUMNS);
    LLM_LAUNCH(transpose, dim3(3, 2), dim3(16, 16), 0, 0, d_b, to_device(a, ROWS * COLUMNS), ROWS,
               COLUMNS);
    CHECK_CUDA(cudaGetLastError());
    from_device(b, d_b, ROWS * COLUMNS);
    for (int i = 0; i < ROWS * COLUMNS; i++) CHECK(b[i % COLUMNS * ROWS + i / COLUMNS] == (float)i);
}

/* ---- what is counted ---- */

LLM_KERNEL void read_twice_write_half(float *y, const float *x) {
    const unsigned t = threadIdx.x;
    const float v = llm_load(x, t) + llm_load(x, t);
    if (t < 32) llm_store(y, t, v);
}

TEST(emulate, "traffic: bytes asked for, and the distinct sectors among them") {
    float *x = to_device<float>(NULL, 64), *y = to_device<float>(NULL, 64);
#ifndef __CUDACC__
    emulate_count();
    LLM_LAUNCH(read_twice_write_half, 1, 64, 0, 0, y, x);
    CHECK(emulate_counted.read == 2 * 64 * 4 && emulate_counted.distinct_read == 64 * 4);
    CHECK(emulate_counted.written == 32 * 4 && emulate_counted.distinct_written == 32 * 4);
    LLM_LAUNCH(read_twice_write_half, 1, 64, 0, 0, x, y);
    CHECK(emulate_counted.written == 2 * 32 * 4 && emulate_counted.distinct_written == 2 * 32 * 4);
    /* half of y was written here before: that half needs no memory */
    CHECK(emulate_counted.distinct_read == 64 * 4 + 32 * 4);
#else
    LLM_LAUNCH(read_twice_write_half, 1, 64, 0, 0, y, x);
    CHECK_CUDA(cudaDeviceSynchronize());
#endif
}

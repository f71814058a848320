/* @emulate: first kernels that are wrong on purpose. Each has to be reported, by the right
 * detector, in each schedule; what only a sanitizer can see is asked for in its build alone. Then
 * kernels that are right and must not be reported; what they compute is compared with the
 * definitions in CUDA's manual, so that part runs on a GPU too. */
#include "../test.h"

#include "../../llm_cuda.cuh"

enum { N = 64 }; /* threads, and floats, of each kernel unless said */

#define WRONG(kernel) LLM_LAUNCH(kernel, 1, N, 0, 0, to_device<float>(NULL, N))
#ifdef EMULATE_ASAN
#define CHECK_ASAN(text, statement) CHECK_REPORTS(text, statement)
#else
#define CHECK_ASAN(text, statement)                                                                \
    if (!(text)) statement
#endif
#ifdef EMULATE_TSAN
#define CHECK_RACE(statement) CHECK_REPORTS("data race", statement)
#else
#define CHECK_RACE(statement)                                                                      \
    if (N == 0) statement
#endif

/* ---- barriers ---- */

LLM_KERNEL void wrong_barrier_for_some(float *x) {
    if (threadIdx.x < 17) __syncthreads();
    llm_store(x, threadIdx.x, 1.0f);
}
LLM_KERNEL void wrong_two_barriers(float *x) {
    if (threadIdx.x % 2)
        __syncthreads();
    else
        __syncthreads();
    llm_store(x, threadIdx.x, 1.0f);
}
LLM_KERNEL void wrong_barrier_in_a_loop(float *x) {
    for (unsigned i = 0; i < threadIdx.x / 32 + 1; i++) __syncthreads();
    __syncthreads();
    llm_store(x, threadIdx.x, 1.0f);
}
LLM_KERNEL void wrong_early_return(float *x) {
    if (threadIdx.x == 3) return;
    __syncthreads();
    llm_store(x, threadIdx.x, 1.0f);
}
LLM_KERNEL void wrong_barrier_against_shuffle(float *x) {
    if (threadIdx.x < 16)
        __syncthreads();
    else
        llm_store(x, threadIdx.x, __shfl_xor_sync(0xffffffffu, 1.0f, 1));
}
LLM_KERNEL void wrong_grid_barrier_launch(float *x) {
    LLM_GRID_SYNC();
    llm_store(x, threadIdx.x, 1.0f);
}
LLM_KERNEL void wrong_grid_barrier_for_some(float *x) {
    if (blockIdx.x != 2) LLM_GRID_SYNC();
    llm_store(x, blockIdx.x, 1.0f);
}

TEST(emulate, "barriers that not all threads reach together") {
    float *x = to_device<float>(NULL, N);
    CHECK_REPORTS("divergent barrier", WRONG(wrong_barrier_for_some));
    CHECK_REPORTS("wait at different __syncthreads", WRONG(wrong_two_barriers));
    CHECK_REPORTS("wait at different __syncthreads", WRONG(wrong_barrier_in_a_loop));
    CHECK_REPORTS("divergent barrier: a thread return", WRONG(wrong_early_return));
    CHECK_REPORTS("in kernel wrong_early_return, block (0,0,0), thread (",
                  WRONG(wrong_early_return));
    CHECK_REPORTS("never arrive", LLM_LAUNCH(wrong_barrier_against_shuffle, 1, 32, 0, 0, x));
    CHECK_REPORTS("not launched cooperatively", WRONG(wrong_grid_barrier_launch));
    CHECK_REPORTS("some threads of the grid never reach",
                  LLM_LAUNCH_COOPERATIVE(wrong_grid_barrier_for_some, 4, 1, 0, 0, x));
}

/* ---- warp collectives ---- */

LLM_KERNEL void wrong_shuffle_of_the_returned(float *x) {
    if (threadIdx.x % 32 >= 16) return;
    llm_store(x, threadIdx.x, __shfl_down_sync(0xffffffffu, 1.0f, 8));
}
LLM_KERNEL void wrong_not_in_its_mask(float *x) {
    llm_store(x, threadIdx.x, __shfl_xor_sync(0xffffu, 1.0f, 1));
}
LLM_KERNEL void wrong_masks_differ(float *x) {
    const unsigned mask = threadIdx.x % 2 ? 0xffffffffu : 0x55555555u;
    llm_store(x, threadIdx.x, __shfl_xor_sync(mask, 1.0f, 2));
}
LLM_KERNEL void wrong_collectives_differ(float *x) {
    float v = 1.0f;
    if (threadIdx.x % 32 < 16)
        v = __shfl_xor_sync(0xffffffffu, v, 1);
    else
        v = (float)__ballot_sync(0xffffffffu, v > 0.0f);
    llm_store(x, threadIdx.x, v);
}
LLM_KERNEL void wrong_shuffle_in_branches(float *x) {
    float v = 1.0f;
    if (threadIdx.x % 32 < 16)
        v = __shfl_xor_sync(0xffffffffu, v, 1);
    else
        v = __shfl_xor_sync(0xffffffffu, v, 2);
    llm_store(x, threadIdx.x, v);
}
LLM_KERNEL void wrong_shuffle_from_outside(float *x) {
    if (threadIdx.x % 32 < 16)
        llm_store(x, threadIdx.x, __shfl_sync(0xffffu, 1.0f, (int)threadIdx.x + 8));
}
LLM_KERNEL void wrong_partial_warp(float *x) { /* lanes 40 to 63 do not exist */
    llm_store(x, threadIdx.x, llm_warp_sum(1.0f));
}
LLM_KERNEL void wrong_mma_without_a_lane(float *x) {
    float c[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    const uint32_t a[4] = {0, 0, 0, 0}, b[2] = {0, 0};
    if (threadIdx.x % 32 == 5) return;
    llm_mma_m16n8k16_bf16(c, a, b);
    llm_store(x, threadIdx.x, c[0]);
}

TEST(emulate, "warp collectives that the lanes of the mask do not share") {
    /* who comes first differs by schedule, and with it which end of the mistake is seen */
    CHECK_REPORTS("warp collective: ", WRONG(wrong_shuffle_of_the_returned));
    CHECK_REPORTS("warp collective: ", WRONG(wrong_mma_without_a_lane));
    CHECK_REPORTS("the lane is not in its own mask", WRONG(wrong_not_in_its_mask));
    CHECK_REPORTS("lanes name different masks", WRONG(wrong_masks_differ));
    CHECK_REPORTS("wait at different collectives", WRONG(wrong_collectives_differ));
    CHECK_REPORTS("wait at different collectives", WRONG(wrong_shuffle_in_branches));
    CHECK_REPORTS("a shuffle from a lane outside the mask", WRONG(wrong_shuffle_from_outside));
    CHECK_REPORTS("a shuffle from a lane outside the mask",
                  LLM_LAUNCH(wrong_partial_warp, 1, 40, 0, 0, to_device<float>(NULL, N)));
}

/* ---- global memory and the stack ---- */

LLM_KERNEL void wrong_behind(float *x) { llm_store(x, threadIdx.x + 1, 1.0f); }
LLM_KERNEL void wrong_behind_plain(float *x) { x[threadIdx.x + 1] = 1.0f; }
LLM_KERNEL void wrong_before(float *x) { llm_store(x - 1, threadIdx.x, 1.0f); }
LLM_KERNEL void wrong_before_plain(float *x) { x[(int)threadIdx.x - 1] = 1.0f; }
LLM_KERNEL void wrong_last_bytes(float *x) { /* 63 floats: the guard page is one float further */
    x[threadIdx.x] = 1.0f;
}
LLM_KERNEL void wrong_alignment(float *x) {
    const float v[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    if (threadIdx.x < 4) llm_store_vector(x, 4 * threadIdx.x + 1, v);
}
struct pointers {
    float *x;
};
LLM_KERNEL void wrong_pointer_inside(pointers p) { llm_store(p.x, threadIdx.x, 1.0f); }
LLM_KERNEL void wrong_stack(float *x) {
    volatile float big[100000];
    for (int i = 0; i < 100000; i++) big[i] = (float)i;
    llm_store(x, threadIdx.x, big[threadIdx.x]);
}
LLM_KERNEL void wrong_local(float *x) {
    float a[4], *volatile p = a; /* volatile: what the compiler knows, UBSan reports first */
    for (int i = 0; i < 4; i++) p[i] = (float)i;
    llm_store(x, threadIdx.x, p[threadIdx.x % 5]);
}
LLM_KERNEL void wrong_overflow(float *x) {
    int top = 0x7fffffff - 3;
    top += (int)threadIdx.x;
    llm_store(x, threadIdx.x, (float)top);
}

TEST(emulate, "accesses outside global memory, and pointers of the host") {
    static float on_host[N];
    float *x = to_device<float>(NULL, N);
    pointers p;
    p.x = on_host;
    CHECK_REPORTS("global memory out of bounds, byte 256 of", WRONG(wrong_behind));
    CHECK_REPORTS("global memory out of bounds, byte -4 of", WRONG(wrong_before));
#ifdef EMULATE_ASAN
    CHECK_REPORTS("AddressSanitizer", WRONG(wrong_behind_plain));
#else
    CHECK_REPORTS("global memory out of bounds, byte 256 of", WRONG(wrong_behind_plain));
#endif
    CHECK_ASAN("use-after-poison", WRONG(wrong_before_plain));
    CHECK_ASAN("use-after-poison",
               LLM_LAUNCH(wrong_last_bytes, 1, N, 0, 0, to_device<float>(NULL, N - 1)));
    CHECK_ASAN("stack-buffer-overflow", WRONG(wrong_local));
    CHECK_ASAN("signed integer overflow", WRONG(wrong_overflow));
    CHECK_REPORTS("misaligned vector access", WRONG(wrong_alignment));
    CHECK_REPORTS("argument 1 of kernel wrong_behind is host memory",
                  LLM_LAUNCH(wrong_behind, 1, N, 0, 0, on_host));
    CHECK_REPORTS("a global access outside device memory",
                  LLM_LAUNCH(wrong_pointer_inside, 1, N, 0, 0, p));
    CHECK_REPORTS("the host touches device memory in host code", x[0] = 1.0f);
    CHECK_REPORTS("the stack of", WRONG(wrong_stack));
    (void)x, (void)p;
}

/* ---- shared memory ---- */

template <int size> LLM_KERNEL void wrong_shared_behind(float *x) {
    __shared__ float s[size];
    float *volatile p = s;
    p[threadIdx.x + 1] = 1.0f;
    __syncthreads();
    llm_store(x, threadIdx.x, s[threadIdx.x]);
}
LLM_KERNEL void wrong_dynamic_behind(float *x) {
    LLM_DYNAMIC_SHARED(float, s);
    s[threadIdx.x + 1] = 1.0f;
    __syncthreads();
    llm_store(x, threadIdx.x, s[threadIdx.x]);
}
template <int size> LLM_KERNEL void wrong_unwritten(float *x) {
    __shared__ float s[size];
    if (threadIdx.x != 7) s[threadIdx.x] = 1.0f;
    __syncthreads();
    llm_store(x, blockIdx.x * N + threadIdx.x, s[threadIdx.x]);
}
LLM_KERNEL void wrong_unwritten_dynamic(float *x) {
    LLM_DYNAMIC_SHARED(float, s);
    if (threadIdx.x != 7) s[threadIdx.x] = 1.0f;
    __syncthreads();
    llm_store(x, threadIdx.x, s[threadIdx.x]);
}
LLM_KERNEL void wrong_no_wait(float *x, const float *y) {
    __shared__ __align__(16) float s[4 * N];
    llm_copy_async(&s[4 * threadIdx.x], y + 4 * threadIdx.x, true);
    llm_copy_commit();
    llm_store(x, threadIdx.x, s[4 * threadIdx.x]);
    llm_copy_wait<0>();
}
LLM_KERNEL void wrong_wait_for_the_older(float *x, const float *y) {
    __shared__ __align__(16) float s[2][4 * N];
    llm_copy_async(&s[0][4 * threadIdx.x], y + 4 * threadIdx.x, true);
    llm_copy_commit();
    llm_copy_async(&s[1][4 * threadIdx.x], y + 4 * threadIdx.x, true);
    llm_copy_commit();
    llm_copy_wait<1>();
    llm_store(x, threadIdx.x, s[1][4 * threadIdx.x]);
    llm_copy_wait<0>();
}

TEST(emulate, "shared memory: bounds, and what nobody wrote is NaN") {
    CHECK_ASAN("global-buffer-overflow", WRONG(wrong_shared_behind<N>));
    CHECK_ASAN("use-after-poison", LLM_LAUNCH(wrong_dynamic_behind, 1, N, N * sizeof(float), 0,
                                              to_device<float>(NULL, N)));
#ifndef __CUDACC__
    for (emulate_order = 0; emulate_order < 3; emulate_order++) {
        float got[N], *x = to_device<float>(NULL, 2 * N), y[4 * N] = {0};
        const float *d_y = to_device(y, 4 * N);
        LLM_LAUNCH(wrong_unwritten<N>, 2, N, 0, 0, x);
        CHECK(isnan(from_device(got, x, N)[7]) && got[6] == 1.0f);
        LLM_LAUNCH(wrong_unwritten_dynamic, 1, N, N * sizeof(float), 0, x);
        CHECK(isnan(from_device(got, x, N)[7]) && got[6] == 1.0f);
        LLM_LAUNCH(wrong_no_wait, 1, N, 0, 0, x, d_y);
        CHECK(isnan(from_device(got, x, N)[7]));
        LLM_LAUNCH(wrong_wait_for_the_older, 1, N, 0, 0, x, d_y);
        CHECK(isnan(from_device(got, x, N)[7]));
    }
#endif
}

/* ---- races ---- */

LLM_KERNEL void race_shared(float *x) {
    __shared__ float s[N];
    s[threadIdx.x] = 1.0f; /* a barrier is missing */
    llm_store(x, threadIdx.x, s[N - 1 - threadIdx.x]);
}
template <int size> LLM_KERNEL void race_between_two_barriers(float *x) {
    __shared__ float s[size];
    __syncthreads();
    s[threadIdx.x] = 1.0f;
    const float v = s[N - 1 - threadIdx.x];
    __syncthreads();
    llm_store(x, threadIdx.x, v);
}
LLM_KERNEL void race_next_turn(float *x) { /* the tile is written again while others still read */
    __shared__ float s[N];
    float sum = 0.0f;
    for (unsigned turn = 0; turn < 3; turn++) {
        s[threadIdx.x] = (float)turn;
        __syncthreads();
        sum += s[(threadIdx.x + 1) % N];
    }
    llm_store(x, threadIdx.x, sum);
}
LLM_KERNEL void race_shuffle_orders_nothing(float *x) {
    __shared__ float s[N];
    s[threadIdx.x] = 1.0f;
    const float v = __shfl_xor_sync(0xffffffffu, s[threadIdx.x], 1);
    llm_store(x, threadIdx.x, v + s[threadIdx.x ^ 1u]);
}
LLM_KERNEL void race_warp_barrier_between_warps(float *x) {
    __shared__ float s[N];
    s[threadIdx.x] = 1.0f;
    __syncwarp();
    llm_store(x, threadIdx.x, s[threadIdx.x ^ 32u]);
}
LLM_KERNEL void race_between_warp_barriers(float *x) {
    __shared__ float s[N];
    __syncwarp();
    s[threadIdx.x] = 1.0f;
    const float v = s[threadIdx.x ^ 1u];
    __syncwarp();
    llm_store(x, threadIdx.x, v);
}
LLM_KERNEL void race_sum(float *x) { x[0] += 1.0f; }
LLM_KERNEL void race_blocks(float *x) {
    if (threadIdx.x == 0) x[0] = (float)blockIdx.x;
}
LLM_KERNEL void race_block_reads_another(float *x) {
    x[blockIdx.x] = x[(blockIdx.x + 1) % gridDim.x];
}
LLM_KERNEL void race_grid_barrier_missing(float *x) {
    if (threadIdx.x == 0) x[blockIdx.x] = 1.0f;
    __syncthreads();
    if (threadIdx.x == 0) x[gridDim.x + blockIdx.x] = x[(blockIdx.x + 1) % gridDim.x];
    LLM_GRID_SYNC();
}
LLM_KERNEL void race_copy_without_barrier(float *x, const float *y) {
    __shared__ __align__(16) float s[4 * N];
    llm_copy_async(&s[4 * threadIdx.x], y + 4 * threadIdx.x, true);
    llm_copy_commit();
    llm_copy_wait<0>(); /* the thread's own copies only */
    llm_store(x, threadIdx.x, s[4 * (blockDim.x - 1 - threadIdx.x)]);
}
LLM_KERNEL void race_copy_over_what_is_read(float *x, const float *y) {
    __shared__ __align__(16) float s[4 * N];
    float sum = 0.0f;
    for (unsigned turn = 0; turn < 3; turn++) {
        llm_copy_async(&s[4 * threadIdx.x], y + 4 * threadIdx.x, true);
        llm_copy_commit();
        llm_copy_wait<0>();
        __syncthreads();
        sum += s[4 * (blockDim.x - 1 - threadIdx.x)];
    }
    llm_store(x, threadIdx.x, sum);
}
/* The last block to finish adds up what the others left. before, after: are the fences there? */
template <bool before, bool after>
LLM_KERNEL void race_last_block(float *x, float *part, unsigned *done) {
    if (threadIdx.x != 0) return;
    part[blockIdx.x] = 1.0f;
    if (before) __threadfence();
    const unsigned count = atomicAdd(done, 1u);
    if (count != gridDim.x - 1) return;
    if (after) __threadfence();
    float sum = 0.0f;
    for (unsigned i = 0; i < gridDim.x; i++) sum += part[i];
    x[0] = sum;
}

TEST(emulate, "races between the threads of a block and between blocks") {
    float *x = to_device<float>(NULL, 4 * N);
    unsigned zero = 0, *done = to_device(&zero, 1);
    const float *y = x + 2 * N;
    CHECK_RACE(WRONG(race_shared));
    CHECK_RACE(WRONG(race_between_two_barriers<N>));
    CHECK_RACE(WRONG(race_next_turn));
    CHECK_RACE(WRONG(race_shuffle_orders_nothing));
    CHECK_RACE(WRONG(race_warp_barrier_between_warps));
    CHECK_RACE(WRONG(race_between_warp_barriers));
    CHECK_RACE(WRONG(race_sum));
    CHECK_RACE(LLM_LAUNCH(race_blocks, 2, N, 0, 0, x));
    CHECK_RACE(LLM_LAUNCH(race_block_reads_another, 3, 1, 0, 0, x));
    CHECK_RACE(LLM_LAUNCH_COOPERATIVE(race_grid_barrier_missing, 3, N, 0, 0, x));
    CHECK_RACE(LLM_LAUNCH(race_copy_without_barrier, 1, N / 2, 0, 0, x, y));
    CHECK_RACE(LLM_LAUNCH(race_copy_over_what_is_read, 1, N / 2, 0, 0, x, y));
    CHECK_RACE(LLM_LAUNCH((race_last_block<false, true>), 3, 1, 0, 0, x, x + 1, done));
    CHECK_RACE(LLM_LAUNCH((race_last_block<true, false>), 3, 1, 0, 0, x, x + 1, done));
    (void)x, (void)y, (void)done;
}

/* ---- launches ---- */

LLM_KERNEL void nothing(float *x) {
    if (x) x[0] = 1.0f;
}

TEST(emulate, "a launch that no card accepts returns CUDA's error") {
    LLM_LAUNCH(nothing, 1, 1025, 0, 0, NULL);
    CHECK(cudaGetLastError() == cudaErrorInvalidConfiguration);
    LLM_LAUNCH(nothing, 0, 32, 0, 0, NULL);
    CHECK(cudaGetLastError() == cudaErrorInvalidConfiguration);
    LLM_LAUNCH(nothing, 1, 0, 0, 0, NULL);
    CHECK(cudaGetLastError() == cudaErrorInvalidConfiguration);
    LLM_LAUNCH(nothing, dim3(1, 65536), 32, 0, 0, NULL);
    CHECK(cudaGetLastError() == cudaErrorInvalidConfiguration);
    LLM_LAUNCH(nothing, 1, dim3(1, 1, 65), 0, 0, NULL);
    CHECK(cudaGetLastError() == cudaErrorInvalidConfiguration);
    LLM_LAUNCH_COOPERATIVE(nothing, 1 << 20, 1024, 0, 0, NULL);
    CHECK(cudaGetLastError() == cudaErrorCooperativeLaunchTooLarge);
    LLM_LAUNCH(nothing, 1, 32, 0, 0, NULL);
    CHECK(cudaGetLastError() == cudaSuccess);
}

/* ==== right kernels ==== */

/* got (n ints) of one block of `threads` against an expression in t, the thread, and l, its lane.
 * */
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

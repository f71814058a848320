/* llm_cuda.cuh: the fused kernels of llm.h, the same chapters and slugs in the same order.
 *
 * What     Each section holds host launchers llm_cuda_SLUG_VERB(..., cudaStream_t stream) and the
 *          kernels they launch. A launcher takes device pointers in the order of the reference's
 *          arguments and returns cudaError_t; it allocates nothing and waits for nothing, scratch
 *          is an argument. Storage is float or llm_bf16, arithmetic float.
 * Use      #include "llm_cuda.cuh" in a .cu file: nvcc -std=c++17 -arch=sm_90 (sm_80 and later).
 * Tested   against llm.h, by the same file on a GPU and, with tests/emulate.h, on any CPU.
 *
 * Licence  MIT, at the end of llm.h.
 */
#ifndef LLM_CUDA_CUH
#define LLM_CUDA_CUH

#include "llm.h"

#if defined(__CUDACC__)
#include <cooperative_groups.h>
#include <cuda_runtime.h>
#elif !defined(EMULATE_H)
#error "llm_cuda.cuh: compile with nvcc, or include tests/emulate.h first"
#endif

/* @00-base ================================================== COMMON GROUND */

/* @cuda_launch ---------------------------------------------- Kernels and how they are launched
 *
 * One spelling for two compilers. Under nvcc these are CUDA's own words; elsewhere tests/emulate.h
 * supplies them. A kernel whose name holds a comma, k<float, 4>, is put in parentheses.
 *
 * source  -
 * needs   -
 * see     cuda_memory, cuda_reduce
 * topics  -
 */
#define LLM_KERNEL static __global__
#define LLM_DEVICE static __device__ __forceinline__
#define LLM_HOST_DEVICE static __host__ __device__ __forceinline__
#define LLM_DEVICE_METHOD __device__ __forceinline__

#ifdef __CUDACC__
#define LLM_UNROLL _Pragma("unroll")
/* The block's dynamic shared memory as an array `name` of T, aligned to 16 bytes. */
#define LLM_DYNAMIC_SHARED(T, name)                                                                \
    extern __shared__ __align__(16) unsigned char llm_dynamic_shared[];                            \
    T *name = (T *)llm_dynamic_shared
/* grid and block: dim3 or a number; shared: bytes of dynamic shared memory. */
#define LLM_LAUNCH(kernel, grid, block, shared, stream, ...)                                       \
    do {                                                                                           \
        llm_allow_shared((const void *)kernel, shared);                                            \
        kernel<<<grid, block, shared, stream>>>(__VA_ARGS__);                                      \
    } while (0)
/* All blocks run at once and may meet at LLM_GRID_SYNC(). */
#define LLM_LAUNCH_COOPERATIVE(kernel, grid, block, shared, stream, ...)                           \
    llm_launch_cooperative(kernel, grid, block, shared, stream, __VA_ARGS__)
#define LLM_GRID_SYNC() cooperative_groups::this_grid().sync()

template <typename T> struct llm_as_is { typedef T type; };

/* More than 48 KB of shared memory have to be asked for, and the arrays a kernel declares count: up
 * to 40 KB of those are safe below this bound. */
static inline void llm_allow_shared(const void *kernel, size_t shared) {
    if (shared > 8 * 1024)
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared);
}
/* A launch whose blocks may wait for each other: all of them are on the card at once. Arguments are
 * converted to the kernel's own types P; llm_as_is keeps them from deciding P. */
template <typename... P>
static inline void llm_launch_cooperative(void (*kernel)(P...), dim3 grid, dim3 block,
                                          size_t shared, cudaStream_t stream,
                                          typename llm_as_is<P>::type... arguments) {
    void *pointers[] = {(void *)&arguments...};
    llm_allow_shared((const void *)kernel, shared);
    cudaLaunchCooperativeKernel((const void *)kernel, grid, block, pointers, shared, stream);
}
#else
#define LLM_UNROLL
#define LLM_DYNAMIC_SHARED(T, name) T *name = (T *)(void *)emulate_dynamic
#define LLM_LAUNCH(kernel, grid, block, shared, stream, ...)                                       \
    ((void)(stream), emulate_bind(#kernel, kernel).launch(grid, block, shared, false, __VA_ARGS__))
#define LLM_LAUNCH_COOPERATIVE(kernel, grid, block, shared, stream, ...)                           \
    ((void)(stream), emulate_bind(#kernel, kernel).launch(grid, block, shared, true, __VA_ARGS__))
#define LLM_GRID_SYNC() emulate_grid_barrier(__LINE__)
#endif

/* For grids that should just fill the card. 1 when there is none: the launch then says so. */
static inline __attribute__((unused)) unsigned llm_multiprocessors(void) {
    int device = 0, count = 1;
    if (cudaGetDevice(&device) != cudaSuccess) return 1;
    cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device);
    return count < 1 ? 1 : (unsigned)count;
}

/* The first error of work queued in order, `const cudaError_t done[] = {launch, launch, ...}`. What
 * stands behind a failed launch was queued all the same, on what that one left. */
template <size_t n> static inline cudaError_t llm_cuda_first_error(const cudaError_t (&done)[n]) {
    for (size_t i = 0; i < n; i++)
        if (done[i] != cudaSuccess) return done[i];
    return cudaSuccess;
}

/* Threads for a row of n items, an item each as far as they go: whole warps, at most 1024. */
static inline __attribute__((unused)) unsigned llm_row_threads(size_t n) {
    return n >= 1024 ? 1024 : n == 0 ? 32 : (unsigned)(n + 31) / 32 * 32;
}

/* @cuda_memory ---------------------------------------------- Numbers in memory, loads and copies
 *
 * Kernels compute in float and are templates over how numbers are stored: llm_load and llm_store
 * convert. bfloat16 is the upper half of a float; rounding to nearest, ties to even, is an addition
 * that carries. NaN must not go that way: a payload of ones would carry into infinity or zero.
 *
 * A thread moves at most 16 bytes with one instruction. llm_load_vector and llm_store_vector do,
 * for a register array of 4 or 8 floats, when the address is a multiple of the bytes moved; an
 * array of one is the plain access for rows that are not. llm_aligned says which of the two a
 * launcher may use.
 *
 * llm_copy_async (cp.async) moves 16 bytes from global to shared memory without passing through
 * registers, while the thread goes on. Copies are committed in groups; llm_copy_wait<n> returns
 * when at most n groups are still on their way. It speaks for the thread's own copies: for those of
 * others a __syncthreads has to follow.
 *
 * source  NVIDIA, PTX ISA, "cp.async", "cvt"
 * needs   cuda_launch
 * see     cuda_reduce
 * topics  -
 */
struct llm_bf16 {
    uint16_t bits;
};

/* Exact: a bfloat16 is a float whose lower half is zero. */
LLM_HOST_DEVICE float llm_to_float(llm_bf16 x) {
#ifdef __CUDA_ARCH__
    return __uint_as_float((unsigned)x.bits << 16);
#else
    const uint32_t bits = (uint32_t)x.bits << 16;
    float y;
    memcpy(&y, &bits, sizeof y);
    return y;
#endif
}
/* NaN becomes 0x7fff, as in hardware. */
LLM_HOST_DEVICE llm_bf16 llm_to_bf16(float x) {
    llm_bf16 y;
#ifdef __CUDA_ARCH__
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(y.bits) : "f"(x));
#else
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    y.bits = (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
    if (x != x) y.bits = 0x7fffu;
#endif
    return y;
}

/* What is left of x in storage of type T: for results that are computed from what was stored. */
template <typename T> LLM_DEVICE float llm_rounded(float x) { return llm_to_float(llm_to_bf16(x)); }
template <> __device__ __forceinline__ float llm_rounded<float>(float x) { return x; }

#ifdef __CUDACC__
#define LLM_TOUCH(p, bytes, write)
#else
#define LLM_TOUCH(p, bytes, write) emulate_touch(p, bytes, write)
#endif

/* p[i] as float, and back. */
LLM_DEVICE float llm_load(const float *p, size_t i) {
    LLM_TOUCH(p + i, sizeof *p, false);
    return p[i];
}
LLM_DEVICE float llm_load(const llm_bf16 *p, size_t i) {
    LLM_TOUCH(p + i, sizeof *p, false);
    return llm_to_float(p[i]);
}
LLM_DEVICE void llm_store(float *p, size_t i, float x) {
    LLM_TOUCH(p + i, sizeof *p, true);
    p[i] = x;
}
LLM_DEVICE void llm_store(llm_bf16 *p, size_t i, float x) {
    LLM_TOUCH(p + i, sizeof *p, true);
    p[i] = llm_to_bf16(x);
}

/* W is float4, uint2 or uint4: one access of 8 or 16 bytes, whatever *p is. */
template <typename W> LLM_DEVICE W llm_load_words(const void *p) {
    W words;
    LLM_TOUCH(p, sizeof words, false);
#ifdef __CUDACC__
    words = *(const W *)p; /* memcpy would fetch single bytes */
#else
    memcpy(&words, p, sizeof words);
#endif
    return words;
}
template <typename W> LLM_DEVICE void llm_store_words(void *p, W words) {
    LLM_TOUCH(p, sizeof words, true);
#ifdef __CUDACC__
    *(W *)p = words;
#else
    memcpy(p, &words, sizeof words);
#endif
}
LLM_DEVICE uint32_t llm_pack(float low, float high) { /* two bfloat16 in a word */
    uint32_t word;
#ifdef __CUDA_ARCH__
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
#else
    word = llm_to_bf16(low).bits | (uint32_t)llm_to_bf16(high).bits << 16;
#endif
    return word;
}
LLM_DEVICE void llm_unpack(float *low_high, uint32_t word) {
    low_high[0] = __uint_as_float(word << 16);
    low_high[1] = __uint_as_float(word & 0xffff0000u);
}

/* v <- p[i], p[i + 1], ... */
template <typename T> LLM_DEVICE void llm_load_vector(float (&v)[1], const T *p, size_t i) {
    v[0] = llm_load(p, i);
}
LLM_DEVICE void llm_load_vector(float (&v)[4], const float *p, size_t i) {
    const float4 q = llm_load_words<float4>(p + i);
    v[0] = q.x, v[1] = q.y, v[2] = q.z, v[3] = q.w;
}
LLM_DEVICE void llm_load_vector(float (&v)[8], const float *p, size_t i) {
    const float4 q = llm_load_words<float4>(p + i), r = llm_load_words<float4>(p + i + 4);
    v[0] = q.x, v[1] = q.y, v[2] = q.z, v[3] = q.w;
    v[4] = r.x, v[5] = r.y, v[6] = r.z, v[7] = r.w;
}
LLM_DEVICE void llm_load_vector(float (&v)[4], const llm_bf16 *p, size_t i) {
    const uint2 q = llm_load_words<uint2>(p + i);
    llm_unpack(v, q.x), llm_unpack(v + 2, q.y);
}
LLM_DEVICE void llm_load_vector(float (&v)[8], const llm_bf16 *p, size_t i) {
    const uint4 q = llm_load_words<uint4>(p + i);
    llm_unpack(v, q.x), llm_unpack(v + 2, q.y), llm_unpack(v + 4, q.z), llm_unpack(v + 6, q.w);
}
template <typename T> LLM_DEVICE void llm_store_vector(T *p, size_t i, const float (&v)[1]) {
    llm_store(p, i, v[0]);
}
LLM_DEVICE void llm_store_vector(float *p, size_t i, const float (&v)[4]) {
    const float4 q = {v[0], v[1], v[2], v[3]};
    llm_store_words(p + i, q);
}
LLM_DEVICE void llm_store_vector(float *p, size_t i, const float (&v)[8]) {
    const float4 q = {v[0], v[1], v[2], v[3]}, r = {v[4], v[5], v[6], v[7]};
    llm_store_words(p + i, q);
    llm_store_words(p + i + 4, r);
}
LLM_DEVICE void llm_store_vector(llm_bf16 *p, size_t i, const float (&v)[4]) {
    const uint2 q = {llm_pack(v[0], v[1]), llm_pack(v[2], v[3])};
    llm_store_words(p + i, q);
}
LLM_DEVICE void llm_store_vector(llm_bf16 *p, size_t i, const float (&v)[8]) {
    const uint4 q = {llm_pack(v[0], v[1]), llm_pack(v[2], v[3]), llm_pack(v[4], v[5]),
                     llm_pack(v[6], v[7])};
    llm_store_words(p + i, q);
}
/* Can rows of C entries at p be moved 16 bytes at a time? NULL can. */
template <typename T> static inline bool llm_aligned(const T *p, size_t C) {
    return (uintptr_t)p % 16 == 0 && C * sizeof(T) % 16 == 0;
}

/* shared[0..15] <- global[0..15], both multiples of 16; zeros where inside is false, and then
 * global is not read. */
LLM_DEVICE void llm_copy_async(void *shared, const void *global, bool inside) {
#ifdef __CUDACC__
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                 :
                 : "r"((unsigned)__cvta_generic_to_shared(shared)), "l"(global),
                   "r"(inside ? 16 : 0)
                 : "memory");
#else
    emulate_copy_async(shared, global, 16, inside ? 16 : 0);
#endif
}
LLM_DEVICE void llm_copy_commit(void) {
#ifdef __CUDACC__
    asm volatile("cp.async.commit_group;" ::: "memory");
#else
    emulate_copy_commit();
#endif
}
template <int pending> LLM_DEVICE void llm_copy_wait(void) {
#ifdef __CUDACC__
    asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
#else
    emulate_copy_wait(pending);
#endif
}

/* @cuda_rng ------------------------------------------------- Philox on the device
 *
 * llm_rng_philox for kernels: the same four words for the same counter and key, so that a mask or a
 * noise drawn on the card equals the one drawn by the reference, and backward can draw it again
 * instead of reading it. 20 multiplications for 4 words cost less than reading them. A normal costs
 * more: half of a logarithm, a root, a sine and a cosine in double, which is what limits a fill.
 *
 * source  Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"
 * needs   cuda_launch, cuda_memory
 * see     rng
 * topics  -
 */
/* out (4) <- the counter (block, high): high is 0 in the stream of a generator. */
LLM_DEVICE void llm_cuda_philox(uint32_t out[4], uint64_t block, uint64_t key, uint64_t high = 0) {
    uint32_t c0 = (uint32_t)block, c1 = (uint32_t)(block >> 32);
    uint32_t c2 = (uint32_t)high, c3 = (uint32_t)(high >> 32);
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    LLM_UNROLL
    for (int round = 0; round < 10; round++) {
        const uint32_t high_a = __umulhi(0xD2511F53u, c0), high_b = __umulhi(0xCD9E8D57u, c2);
        const uint32_t low_a = 0xD2511F53u * c0, low_b = 0xCD9E8D57u * c2;
        c0 = high_b ^ c1 ^ k0, c1 = low_b, c2 = high_a ^ c3 ^ k1, c3 = low_a;
        k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
    }
    out[0] = c0, out[1] = c1, out[2] = c2, out[3] = c3;
}
LLM_DEVICE float llm_cuda_uniform(uint32_t word) { /* [0, 1) on the grid of llm_rng_uniform */
    return (float)(word >> 8) * (1.0f / 16777216.0f);
}
/* z (2) <- two words: llm_rng_normal_pair, in double as there. */
LLM_DEVICE void llm_cuda_normal_pair(float z[2], uint32_t first, uint32_t second) {
    const double u = ((double)first + 0.5) / 4294967296.0;
    const double turns = (double)second / 4294967296.0;
    const double radius = sqrt(-2.0 * log(u)), angle = 2.0 * 3.14159265358979323846 * turns;
    z[0] = (float)(radius * cos(angle));
    z[1] = (float)(radius * sin(angle));
}
LLM_KERNEL void llm_rng_normal_kernel(float *x, size_t n, uint64_t seed, bool wide) {
    const size_t block = (size_t)blockIdx.x * blockDim.x + threadIdx.x, i = 4 * block;
    if (i >= n) return;
    uint32_t word[4];
    float z[4];
    llm_cuda_philox(word, block, seed);
    llm_cuda_normal_pair(z, word[0], word[1]);
    llm_cuda_normal_pair(z + 2, word[2], word[3]);
    if (wide && i + 4 <= n)
        llm_store_vector(x, i, z);
    else
        for (size_t k = 0; k < 4 && i + k < n; k++) llm_store(x, i + k, z[k]);
}

/* x (n) <- llm_rng_normal_fill of llm_rng_seed(seed), a thread a block of four words; the logarithm
 * and the cosine may differ from the C library's in the last bit. */
static inline __attribute__((unused)) cudaError_t
llm_cuda_rng_normal_fill(float *x, size_t n, uint64_t seed, cudaStream_t stream) {
    if (n == 0) return cudaSuccess;
    LLM_LAUNCH(llm_rng_normal_kernel, (unsigned)((n + 1023) / 1024), 256, 0, stream, x, n, seed,
               llm_aligned(x, 4));
    return cudaGetLastError();
}

/* @cuda_reduce ---------------------------------------------- Sums over a warp and a block
 *
 * A warp adds in five exchanges: after the one at distance 16, 8, 4, 2, 1 each lane holds the sum
 * of twice as many. The exchange is symmetric and a + b = b + a, so all lanes end with the same
 * bits. A block adds the sums of its warps, left in shared memory; every warp does that last step
 * itself, so the result needs no second trip. The order is fixed: same input, same bits.
 *
 * All threads have to take part (out of bounds: bring 0), blockDim.x is a multiple of 32 and the
 * block has one dimension. Any number of calls may follow each other.
 *
 * source  -
 * needs   cuda_launch, cuda_memory
 * see     cuda_memory
 * topics  -
 */
LLM_DEVICE float llm_warp_sum(float x) {
    LLM_UNROLL
    for (int distance = 16; distance > 0; distance /= 2)
        x += __shfl_xor_sync(0xffffffffu, x, distance);
    return x;
}
/* NaN counts as absent, as in fmaxf. */
LLM_DEVICE float llm_warp_max(float x) {
    LLM_UNROLL
    for (int distance = 16; distance > 0; distance /= 2)
        x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, distance));
    return x;
}
/* The sums of a and of b, for the barriers of one. */
LLM_DEVICE void llm_block_sum2(float &a, float &b) {
    __shared__ float part[2][32];
    const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    a = llm_warp_sum(a);
    b = llm_warp_sum(b);
    if (warps == 1) return;
    __syncthreads(); /* until the readers of the call before are done */
    if (lane == 0) part[0][warp] = a, part[1][warp] = b;
    __syncthreads();
    a = llm_warp_sum(lane < warps ? part[0][lane] : 0.0f);
    b = llm_warp_sum(lane < warps ? part[1][lane] : 0.0f);
}
LLM_DEVICE float llm_block_sum(float x) {
    __shared__ float part[32];
    const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    x = llm_warp_sum(x);
    if (warps == 1) return x;
    __syncthreads();
    if (lane == 0) part[warp] = x;
    __syncthreads();
    return llm_warp_sum(lane < warps ? part[lane] : 0.0f);
}
/* In double, for long sums and wide ranges. */
LLM_DEVICE double llm_block_sum(double x) {
    __shared__ double part[32];
    const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    for (int distance = 16; distance > 0; distance /= 2)
        x += __shfl_xor_sync(0xffffffffu, x, distance);
    if (warps == 1) return x;
    __syncthreads();
    if (lane == 0) part[warp] = x;
    __syncthreads();
    x = lane < warps ? part[lane] : 0.0;
    for (int distance = 16; distance > 0; distance /= 2)
        x += __shfl_xor_sync(0xffffffffu, x, distance);
    return x;
}
LLM_DEVICE float llm_block_max(float x) {
    __shared__ float part[32];
    const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    x = llm_warp_max(x);
    if (warps == 1) return x;
    __syncthreads();
    if (lane == 0) part[warp] = x;
    __syncthreads();
    return llm_warp_max(part[lane < warps ? lane : 0]);
}

/* Rows of n items: up to 1024 a warp takes one, four to a block, and nothing waits at a barrier;
 * longer ones take a block each. The same code does both. */
struct llm_row_place {
    size_t row;
    unsigned lane, width; /* of the threads that share the row */
};
/* The row of this thread, and its place in it. */
template <bool warp> LLM_DEVICE llm_row_place llm_my_row(void) {
    llm_row_place p = {blockIdx.x, threadIdx.x, blockDim.x};
    if (warp) p.row = p.row * 4 + threadIdx.x / 32, p.lane = threadIdx.x % 32, p.width = 32;
    return p;
}
template <bool warp> LLM_DEVICE float llm_row_sum(float x) {
    return warp ? llm_warp_sum(x) : llm_block_sum(x);
}
static inline __attribute__((unused)) unsigned llm_row_blocks(size_t rows, bool warp) {
    return (unsigned)(warp ? (rows + 3) / 4 : rows);
}

/* Elementwise work on a table: a block takes 256 threads' worth of one row, V entries a thread, so
 * that a thread knows its column without dividing for it. A flat array is one row. */
struct llm_place {
    size_t row, column;
};
/* The first of this thread's V entries; from `columns` on there is nothing to do. */
template <int V> LLM_DEVICE llm_place llm_my_place(size_t columns) {
    const size_t pieces = (columns + 256 * V - 1) / (256 * V); /* blocks a row: one division each */
    const llm_place p = {blockIdx.x / pieces,
                         (blockIdx.x % pieces * 256 + threadIdx.x) * (size_t)V};
    return p;
}
static inline __attribute__((unused)) unsigned llm_place_blocks(size_t rows, size_t columns,
                                                                size_t V) {
    return (unsigned)(rows * ((columns + 256 * V - 1) / (256 * V)));
}

/* Sums over the rows of a table, a tile of 32 columns a block: each warp adds every 32nd row, a
 * lane a column, then the 32 sums of a column meet in one warp. */
template <typename T>
LLM_KERNEL void llm_column_sum_kernel(float *y, const T *x, size_t rows, size_t columns) {
    __shared__ float part[32][33]; /* [warp][column]; 33 keep a column in different banks */
    const size_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const size_t column = (size_t)blockIdx.x * 32 + lane;
    float sum = 0.0f;
    for (size_t row = warp; row < rows && column < columns; row += 32)
        sum += llm_load(x, row * columns + column);
    part[warp][lane] = sum;
    __syncthreads();
    sum = llm_warp_sum(part[lane][warp]);
    const size_t mine = (size_t)blockIdx.x * 32 + warp;
    if (lane == 0 && mine < columns) llm_store(y, mine, llm_load(y, mine) + sum);
}
/* y (columns) += the sums over the rows of x (rows, columns): the second stage of a gradient that
 * every block has a share in. Without atomics, so that the order is fixed. */
template <typename T>
static inline cudaError_t llm_cuda_column_sum(float *y, const T *x, size_t rows, size_t columns,
                                              cudaStream_t stream) {
    if (columns == 0) return cudaSuccess;
    LLM_LAUNCH(llm_column_sum_kernel<T>, (unsigned)((columns + 31) / 32), 1024, 0, stream, y, x,
               rows, columns);
    return cudaGetLastError();
}

/* @cuda_select ---------------------------------------------- The largest entries of a row
 *
 * Common ground of the samplers, a block a row. An entry is a pair (key, index) in one integer of
 * 64 bits: the key's bits order as the floats do, so one integer comparison decides between any two
 * entries, equal ones too, and what a filter keeps is "all pairs from this one on": a cut. Each
 * warp owns a stretch of the row, so that a running sum can be had from the sums of the stretches.
 *
 * All threads have to take part, blockDim.x is a multiple of 32 and the block has one dimension.
 *
 * source  -
 * needs   cuda_launch, cuda_memory
 * see     cuda_cut, cuda_draw, greedy
 * topics  -
 */

/* Orders as x does, -0 as 0, and any NaN above infinity. */
LLM_DEVICE uint32_t llm_select_order(float x) {
    const uint32_t bits = __float_as_uint(x);
    if (x != x) return 0xffffffffu;
    if (x == 0.0f) return 0x80000000u;
    return bits >> 31 ? ~bits : bits | 0x80000000u;
}
/* Orders entries by value, equal ones by index; the cut of a filter is one such number. */
LLM_DEVICE unsigned long long llm_select_pair(float x, size_t i) {
    return (unsigned long long)llm_select_order(x) << 32 | i;
}
/* The float of a pair; a NaN for any NaN. */
LLM_DEVICE float llm_select_value(unsigned long long pair) {
    const uint32_t order = (uint32_t)(pair >> 32);
    return __uint_as_float(order >> 31 ? order & 0x7fffffffu : ~order);
}

/* In every lane, the largest key of the warp. */
LLM_DEVICE unsigned long long llm_select_warp_max(unsigned long long key) {
    LLM_UNROLL
    for (int distance = 16; distance > 0; distance /= 2) {
        const unsigned long long other = __shfl_xor_sync(0xffffffffu, key, distance);
        key = other > key ? other : key;
    }
    return key;
}
/* In every thread, the largest key of the block. */
LLM_DEVICE unsigned long long llm_select_block_max(unsigned long long key) {
    __shared__ unsigned long long part[32];
    const unsigned lane = threadIdx.x % 32, warps = blockDim.x / 32;
    key = llm_select_warp_max(key);
    if (warps == 1) return key;
    __syncthreads(); /* until the readers of the call before are done */
    if (lane == 0) part[threadIdx.x / 32] = key;
    __syncthreads();
    return llm_select_warp_max(part[lane < warps ? lane : 0]);
}

/* The columns of a thread: W from begin on, 32 W further the next, up to end. A warp owns a
 * stretch of the row. */
struct llm_select_span {
    size_t begin, end;
};
/* That of this thread, in a row of V entries. */
template <int W> LLM_DEVICE llm_select_span llm_select_my_span(size_t V) {
    const size_t round = (size_t)blockDim.x * W, stretch = (V + round - 1) / round * (32 * W);
    const size_t begin = threadIdx.x / 32 * stretch, end = begin + stretch;
    const llm_select_span span = {begin + threadIdx.x % 32 * W, end < V ? end : V};
    return span;
}

/* The pair of the largest of row x, in every thread: a NaN's if there is one. */
template <typename T, int W> LLM_DEVICE unsigned long long llm_select_max(const T *x, size_t V) {
    const llm_select_span span = llm_select_my_span<W>(V);
    unsigned long long best = 0;
    for (size_t i = span.begin; i < span.end; i += 32 * W) {
        float v[W];
        llm_load_vector(v, x, i);
        LLM_UNROLL
        for (int k = 0; k < W; k++) {
            const unsigned long long pair = llm_select_pair(v[k], i + (size_t)k);
            best = pair > best ? pair : best;
        }
    }
    return llm_select_block_max(best);
}
/* Can a row with this largest pair be drawn from? Not when it is NaN or -inf. */
LLM_DEVICE bool llm_select_drawable(unsigned long long max) {
    return max >> 32 != 0xffffffffu && llm_select_value(max) != -INFINITY;
}

/* x (V) in place: what is not kept becomes -inf. */
template <typename T, int W>
LLM_DEVICE void llm_select_keep(T *x, size_t V, unsigned long long kept) {
    const llm_select_span span = llm_select_my_span<W>(V);
    for (size_t i = span.begin; i < span.end; i += 32 * W) {
        float v[W];
        llm_load_vector(v, x, i);
        LLM_UNROLL
        for (int k = 0; k < W; k++)
            if (llm_select_pair(v[k], i + (size_t)k) < kept) v[k] = -INFINITY;
        llm_store_vector(x, i, v);
    }
}

/* @cuda_cut ------------------------------------------------- Where a filter cuts a row
 *
 * The cut of cuda_select that keeps so many entries, for top_k, or so much mass, for top_p, is
 * found by radix select: a pass over the row counts the bytes of the keys, highest first, among the
 * entries that agree with the bytes found so far; four passes for the key, and where equal entries
 * have to be told apart as many as the index needs. Masses are added as integers, whose sum does
 * not depend on the order. The logits of a row lie close together and most have the same first
 * byte: a thread adds up a run of equal bytes before it goes to the counters in shared memory, or
 * all would queue for one.
 *
 * All threads have to take part, blockDim.x is a multiple of 32 and the block has one dimension.
 *
 * source  -
 * needs   cuda_launch, cuda_memory, cuda_select
 * see     cuda_draw, top_k, top_p, sampling
 * topics  -
 */

/* What an entry weighs: 1 in counts (unsigned), exp(x - max) 2^40 in masses (unsigned long long):
 * sums of integers do not depend on the order. 2^23 entries can be added. */
template <typename N> LLM_DEVICE N llm_select_weight(float x, float max) {
    if (sizeof(N) == 4) return 1;
    return (N)((x == max ? 1.0f : expf(x - max)) * 1099511627776.0f);
}

/* The sum over this lane and those below it. */
template <typename N> LLM_DEVICE N llm_select_scan(N x) {
    LLM_UNROLL
    for (unsigned step = 1; step < 32; step *= 2) {
        const N before = __shfl_up_sync(0xffffffffu, x, step);
        if (threadIdx.x % 32 >= step) x += before;
    }
    return x;
}
/* The mass of what is kept of row x; *before and *mine get those of the stretches of the warps
 * before this one, and of its own. */
template <typename T, int W>
LLM_DEVICE unsigned long long llm_select_mass(const T *x, size_t V, unsigned long long kept,
                                              float max, unsigned long long *before,
                                              unsigned long long *mine) {
    __shared__ unsigned long long part[32];
    const llm_select_span span = llm_select_my_span<W>(V);
    const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    unsigned long long mass = 0;
    for (size_t i = span.begin; i < span.end; i += 32 * W) {
        float v[W];
        llm_load_vector(v, x, i);
        LLM_UNROLL
        for (int k = 0; k < W; k++)
            if (llm_select_pair(v[k], i + (size_t)k) >= kept)
                mass += llm_select_weight<unsigned long long>(v[k], max);
    }
    mass = __shfl_sync(0xffffffffu, llm_select_scan(mass), 31);
    __syncthreads(); /* until the readers of the call before are done */
    if (lane == 0) part[warp] = mass;
    __syncthreads();
    const unsigned long long upto = llm_select_scan(lane < blockDim.x / 32 ? part[lane] : 0ull);
    *mine = mass;
    *before = __shfl_sync(0xffffffffu, upto, (int)warp) - mass;
    return __shfl_sync(0xffffffffu, upto, 31);
}

/* The bin at which the sum from bin 255 downwards reaches rest; 256 when none does. rest loses what
 * lies above it. Every warp finds the same. */
template <typename N> LLM_DEVICE unsigned llm_select_bin(const N *bins, N &rest) {
    const unsigned lane = threadIdx.x % 32, top = 255 - 8 * lane;
    N own = 0;
    LLM_UNROLL
    for (unsigned k = 0; k < 8; k++) own += bins[top - k];
    const N upto = llm_select_scan(own);
    const unsigned reached = __ballot_sync(0xffffffffu, upto >= rest);
    if (reached == 0) return 256;
    const int found = __ffs((int)reached) - 1;
    unsigned bin = top;
    N above = upto - own;
    if ((int)lane == found)
        for (; above + bins[bin] < rest; bin--) above += bins[bin];
    rest -= __shfl_sync(0xffffffffu, above, found);
    return __shfl_sync(0xffffffffu, bin, found);
}

/* The cut after which row x keeps as few as possible of its largest entries, those whose pairs are
 * at least `kept`, for a weight of at least target > 0; `kept` when all do not reach it. ties: all
 * that equal the least of them stay, else of equal ones those of higher index. */
template <typename N, typename T, int W>
LLM_DEVICE unsigned long long llm_select_cut(const T *x, size_t V, unsigned long long kept,
                                             N target, float max, bool ties) {
    __shared__ N bins[256];
    const llm_select_span span = llm_select_my_span<W>(V);
    unsigned long long found = 0, known = 0; /* the bits of the cut, and which are settled */
    for (int shift = 56; shift >= 0; shift -= 8) {
        const unsigned long long digit = (unsigned long long)255 << shift;
        known |= digit;
        if (shift < 32 && (V - 1) >> shift == 0) continue; /* no index is that large */
        __syncthreads();
        for (unsigned b = threadIdx.x; b < 256; b += blockDim.x) bins[b] = 0;
        __syncthreads();
        unsigned bin = 0;
        N run = 0;
        for (size_t i = span.begin; i < span.end; i += 32 * W) {
            float v[W];
            llm_load_vector(v, x, i);
            LLM_UNROLL
            for (int k = 0; k < W; k++) {
                const unsigned long long pair = llm_select_pair(v[k], i + (size_t)k);
                if (pair < kept || (pair & known & ~digit) != found) continue;
                const unsigned mine = (unsigned)(pair >> shift) & 255;
                if (mine != bin && run > 0) atomicAdd(&bins[bin], run), run = 0;
                bin = mine;
                run += llm_select_weight<N>(v[k], max);
            }
        }
        if (run > 0) atomicAdd(&bins[bin], run);
        __syncthreads();
        bin = llm_select_bin(bins, target);
        if (bin == 256) return kept;
        found |= (unsigned long long)bin << shift;
        if (shift != 32) continue;
        const N one = llm_select_weight<N>(llm_select_value(found), max);
        if (ties || bins[bin] - one < target) break; /* all of the equal ones are needed */
    }
    return found > kept ? found : kept;
}

/* @cuda_draw ------------------------------------------------ Drawing an entry of a row
 *
 * llm_sampling_draw by a block: the first entry at which the sum of exp(z - max), over what a cut
 * of cuda_select keeps, exceeds u times the whole. Each warp owns a stretch of the row and adds it
 * up; the warp in whose stretch u falls walks it, 32 vectors a step. The sums are in double, as in
 * the reference, so that both draw the same entry; only what is kept costs a double exp.
 *
 * All threads have to take part, blockDim.x is a multiple of 32 and the block has one dimension.
 *
 * source  -
 * needs   cuda_launch, cuda_memory, cuda_rng, cuda_select, cuda_cut
 * see     top_k, top_p, sampling
 * topics  -
 */

/* exp(x - max) in double where the pair is kept, else 0. */
LLM_DEVICE double llm_draw_mass(float x, size_t i, unsigned long long kept, float max) {
    if (llm_select_pair(x, i) < kept) return 0.0;
    return x == max ? 1.0 : exp((double)x - (double)max);
}
/* token <- llm_sampling_draw of what is kept of row x, max its largest, u in [0, 1). */
template <typename T, int W>
LLM_DEVICE void llm_draw_entry(int *token, const T *x, size_t V, unsigned long long kept, float max,
                               float u) {
    __shared__ double part[32];
    const llm_select_span span = llm_select_my_span<W>(V);
    const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    float v[W];
    double mass = 0.0;
    for (size_t i = span.begin; i < span.end; i += 32 * W) {
        llm_load_vector(v, x, i);
        LLM_UNROLL
        for (int k = 0; k < W; k++) mass += llm_draw_mass(v[k], i + (size_t)k, kept, max);
    }
    mass = __shfl_sync(0xffffffffu, llm_select_scan(mass), 31);
    __syncthreads(); /* until the readers of the draw before are done */
    if (lane == 0) part[warp] = mass;
    __syncthreads();
    mass = lane < blockDim.x / 32 ? part[lane] : 0.0;
    const double upto = llm_select_scan(mass);
    const double goal = (double)u * __shfl_sync(0xffffffffu, upto, 31);
    const unsigned beyond = __ballot_sync(0xffffffffu, goal < upto && mass > 0.0);
    const unsigned some = __ballot_sync(0xffffffffu, mass > 0.0);
    /* goal may round up to the whole: then it is the last stretch that has any */
    if (warp != (unsigned)(beyond ? __ffs((int)beyond) - 1 : 31 - __clz((int)some))) return;

    double below = __shfl_sync(0xffffffffu, upto - mass, (int)warp);
    int last = -1; /* of the entries that have any mass: where rounding lets goal escape */
    for (size_t from = span.begin - lane * W; from < span.end; from += 32 * W) {
        const size_t i = from + lane * W;
        double own[W], sum = 0.0;
        LLM_UNROLL
        for (int k = 0; k < W; k++) own[k] = 0.0;
        if (i < span.end) {
            llm_load_vector(v, x, i);
            LLM_UNROLL
            for (int k = 0; k < W; k++) {
                own[k] = llm_draw_mass(v[k], i + (size_t)k, kept, max);
                sum += own[k];
                if (own[k] > 0.0) last = (int)(i + (size_t)k);
            }
        }
        const double whole = llm_select_scan(sum);
        const unsigned past = __ballot_sync(0xffffffffu, goal < below + whole && sum > 0.0);
        if (past) {
            if ((int)lane != __ffs((int)past) - 1) return;
            below += whole - sum;
            int pick = -1;
            bool there = false;
            LLM_UNROLL
            for (int k = 0; k < W; k++) {
                below += own[k];
                if (there || own[k] == 0.0) continue;
                pick = k;
                there = goal < below;
            }
            *token = (int)(i + (size_t)pick);
            return;
        }
        below += __shfl_sync(0xffffffffu, whole, 31);
    }
    for (int distance = 16; distance > 0; distance /= 2) {
        const int other = __shfl_xor_sync(0xffffffffu, last, distance);
        last = other > last ? other : last;
    }
    if (lane == 0) *token = last;
}

/* The first number of the generator of a seed, as llm_rng_uniform. */
LLM_DEVICE float llm_draw_uniform(uint64_t seed) {
    uint32_t word[4];
    llm_cuda_philox(word, 0, seed);
    return llm_cuda_uniform(word[0]);
}

/* @cuda_mma ------------------------------------------------- Tensor-core instructions
 *
 * mma.m16n8k16: one warp multiplies a 16 x 16 by a 16 x 8 matrix of bfloat16 and adds it to a
 * 16 x 8 one of floats. The matrices live in the registers of the lanes. With g = lane / 4 and
 * t = lane % 4:
 *
 *     a, 4 words    (g, 2t) (g+8, 2t) (g, 2t+8) (g+8, 2t+8)     each with the column behind it
 *     b, 2 words    (2t, g) (2t+8, g)                           each with the row behind it
 *     c, 4 floats   (g, 2t) (g, 2t+1) (g+8, 2t) (g+8, 2t+1)
 *
 * ldmatrix fills such registers from shared memory: the lanes of eight name the 8 rows, 16 bytes
 * each, of one 8 x 8 matrix, and lane (g, t) gets entries (g, 2t) and (g, 2t+1) of it, or with
 * _trans (2t, g) and (2t+1, g). Rows of a stride that is a multiple of 128 bytes would all lie in
 * the same banks.
 *
 * source  NVIDIA, PTX ISA, "mma.m16n8k16", "ldmatrix"
 * needs   cuda_launch
 * see     dense
 * topics  -
 */
LLM_DEVICE void llm_mma_m16n8k16_bf16(float (&c)[4], const uint32_t (&a)[4],
                                      const uint32_t (&b)[2]) {
#ifdef __CUDACC__
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                 "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
    emulate_mma_m16n8k16_bf16(c, a, b);
#endif
}
/* row: lanes 8 m to 8 m + 7 name the rows of matrix m, in shared memory, multiples of 16 bytes. */
LLM_DEVICE void llm_ldmatrix_x4(uint32_t (&out)[4], const void *row) {
#ifdef __CUDACC__
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                 : "r"((unsigned)__cvta_generic_to_shared(row))
                 : "memory");
#else
    emulate_ldmatrix_x4(out, row, false);
#endif
}
LLM_DEVICE void llm_ldmatrix_x4_trans(uint32_t (&out)[4], const void *row) {
#ifdef __CUDACC__
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                 : "r"((unsigned)__cvta_generic_to_shared(row))
                 : "memory");
#else
    emulate_ldmatrix_x4(out, row, true);
#endif
}

/* @cuda_gemm ------------------------------------------------ Matrix product in registers
 *
 *     c (M,N) = a (M,K) b (N,K)^T
 *
 * Either operand may be stored turned, a as (K,M), b as (K,N): forward takes x and w as they are,
 * dx needs w turned, dw both. A block makes a tile of 128 x 128, a thread 8 x 8 of it: 64
 * multiply-adds for 16 floats from shared memory, so that arithmetic and not shared memory is the
 * limit. 8 columns of K at a time, in two buffers in turn: while one is multiplied the next is
 * fetched into registers, and a step needs one barrier. What lies outside a and b is fetched as 0.
 *
 * Blocks go through c in bands of 8 tiles: those that run together share rows of a and b in L2.
 * blockIdx.z takes a slice of K: where c has fewer tiles than the card has multiprocessors, several
 * blocks share one, and their sums are added afterwards. What becomes of c is the epilogue's
 *     affair: epilogue(row, column, v)        v: c's entries (row, column .. column + 3)
 *
 * Traffic: a and b once for each 128 columns or rows of c. Limit: float multiply-adds.
 *
 * source  -
 * needs   cuda_launch, cuda_memory
 * see     cuda_gemm_bf16, dense
 * topics  -
 */
enum { LLM_CUDA_GEMM_TILE = 128 };

/* The tile of this block: row and column of its first entry. */
LLM_DEVICE void llm_cuda_gemm_tile(size_t &row, size_t &column, size_t M, size_t N) {
    const size_t down = (M + LLM_CUDA_GEMM_TILE - 1) / LLM_CUDA_GEMM_TILE;
    const size_t across = (N + LLM_CUDA_GEMM_TILE - 1) / LLM_CUDA_GEMM_TILE;
    const size_t band = blockIdx.x / (8 * across), in_band = blockIdx.x % (8 * across);
    const size_t height = down - 8 * band < 8 ? down - 8 * band : 8;
    row = (8 * band + in_band % height) * LLM_CUDA_GEMM_TILE;
    column = in_band / height * LLM_CUDA_GEMM_TILE;
}
static inline __attribute__((unused)) unsigned llm_cuda_gemm_blocks(size_t M, size_t N) {
    return (unsigned)((M + LLM_CUDA_GEMM_TILE - 1) / LLM_CUDA_GEMM_TILE *
                      ((N + LLM_CUDA_GEMM_TILE - 1) / LLM_CUDA_GEMM_TILE));
}

/* v <- p[row][column .. column + 3] of a table with `width` columns; 0 from row `rows` and from
 * column `columns` on. wide: the rows are aligned for vectors. */
template <typename T>
LLM_DEVICE void llm_cuda_gemm_fetch(float (&v)[4], const T *p, size_t row, size_t column,
                                    size_t rows, size_t columns, size_t width, bool wide) {
    if (wide && row < rows && column + 4 <= columns) {
        llm_load_vector(v, p, row * width + column);
        return;
    }
    LLM_UNROLL
    for (size_t k = 0; k < 4; k++)
        v[k] = row < rows && column + k < columns ? llm_load(p, row * width + column + k) : 0.0f;
}
/* This thread's four entries of the next tile: of rows `first` to first + 127, and 8 steps from k.
 * */
template <bool turned, typename T>
LLM_DEVICE void llm_cuda_gemm_take(float (&v)[4], const T *p, size_t first, size_t k, size_t rows,
                                   size_t k_end, size_t K, bool wide) {
    const size_t t = threadIdx.x;
    if (turned)
        llm_cuda_gemm_fetch(v, p, k + t / 32, first + t % 32 * 4, k_end, rows, rows, wide);
    else
        llm_cuda_gemm_fetch(v, p, first + t / 2, k + t % 2 * 4, rows, k_end, K, wide);
}
/* Puts them down as tile[k][row]: rows of 132 floats, so that the scattered ones do not collide. */
template <bool turned>
LLM_DEVICE void llm_cuda_gemm_put(float (*tile)[LLM_CUDA_GEMM_TILE + 4], const float (&v)[4]) {
    const unsigned t = threadIdx.x;
    LLM_UNROLL
    for (unsigned k = 0; k < 4; k++) {
        if (turned)
            tile[t / 32][t % 32 * 4 + k] = v[k];
        else
            tile[t % 2 * 4 + k][t / 2] = v[k];
    }
}

/* The tile from (row, column) on, summed from k to k_end: all 256 threads of the block. */
template <bool a_turned, bool b_turned, typename T, typename E>
LLM_DEVICE void llm_cuda_gemm_product(const E &epilogue, const T *a, const T *b, size_t row,
                                      size_t column, size_t k, size_t k_end, size_t M, size_t N,
                                      size_t K) {
    __shared__ __align__(16) float a_tile[2][8][LLM_CUDA_GEMM_TILE + 4],
        b_tile[2][8][LLM_CUDA_GEMM_TILE + 4];
    const unsigned x = threadIdx.x % 16 * 4, y = threadIdx.x / 16 * 4; /* of 64; and 64 further */
    const bool a_wide = (uintptr_t)a % (4 * sizeof(T)) == 0 && (a_turned ? M : K) % 4 == 0;
    const bool b_wide = (uintptr_t)b % (4 * sizeof(T)) == 0 && (b_turned ? N : K) % 4 == 0;

    float c[8][8] = {}, a_next[4], b_next[4];
    llm_cuda_gemm_take<a_turned>(a_next, a, row, k, M, k_end, K, a_wide);
    llm_cuda_gemm_take<b_turned>(b_next, b, column, k, N, k_end, K, b_wide);
    llm_cuda_gemm_put<a_turned>(a_tile[0], a_next);
    llm_cuda_gemm_put<b_turned>(b_tile[0], b_next);
    __syncthreads();
    for (unsigned now = 0; k < k_end; k += 8, now ^= 1) {
        const bool more = k + 8 < k_end;
        if (more) llm_cuda_gemm_take<a_turned>(a_next, a, row, k + 8, M, k_end, K, a_wide);
        if (more) llm_cuda_gemm_take<b_turned>(b_next, b, column, k + 8, N, k_end, K, b_wide);
        LLM_UNROLL
        for (unsigned step = 0; step < 8; step++) {
            const float *a_row = a_tile[now][step], *b_row = b_tile[now][step];
            float a_v[8], b_v[8];
            LLM_UNROLL
            for (unsigned i = 0; i < 8; i++) {
                a_v[i] = a_row[i / 4 * 64 + y + i % 4];
                b_v[i] = b_row[i / 4 * 64 + x + i % 4];
            }
            LLM_UNROLL
            for (unsigned i = 0; i < 8; i++) {
                LLM_UNROLL
                for (unsigned j = 0; j < 8; j++) c[i][j] += a_v[i] * b_v[j];
            }
        }
        if (more) llm_cuda_gemm_put<a_turned>(a_tile[now ^ 1], a_next);
        if (more) llm_cuda_gemm_put<b_turned>(b_tile[now ^ 1], b_next);
        __syncthreads();
    }
    LLM_UNROLL
    for (unsigned i = 0; i < 8; i++) {
        LLM_UNROLL
        for (unsigned half = 0; half < 2; half++) {
            const float v[4] = {c[i][4 * half], c[i][4 * half + 1], c[i][4 * half + 2],
                                c[i][4 * half + 3]};
            const size_t r = row + i / 4 * 64 + y + i % 4, q = column + half * 64 + x;
            if (r < M && q < N) epilogue(r, q, v);
        }
    }
}
template <bool a_turned, bool b_turned, typename T, typename E>
LLM_KERNEL void __launch_bounds__(256) llm_gemm_kernel(E epilogue, const T *a, const T *b, size_t M,
                                                       size_t N, size_t K, size_t slice) {
    const size_t k = blockIdx.z * slice;
    size_t row, column;
    llm_cuda_gemm_tile(row, column, M, N);
    llm_cuda_gemm_product<a_turned, b_turned>(epilogue, a, b, row, column, k,
                                              k + slice < K ? k + slice : K, M, N, K);
}

/* @cuda_gemm_bf16 ------------------------------------------- Matrix product on tensor cores
 *
 * The same product for bfloat16 operands, with mma.m16n8k16 and sums in float. A block of 8 warps
 * makes 128 x 128 of c, a warp 64 x 32: 16 instructions for 6 ldmatrix a step of 16. Four stages of
 * 32 columns of K wait in shared memory, filled by cp.async three steps ahead, so that arithmetic
 * does not wait for memory; a step needs one barrier, which says both that its stage has arrived
 * and that everybody has left the stage that is filled next.
 *
 * ldmatrix reads 8 rows of 16 bytes at once, and they have to lie in different banks. Piece j of
 * row r is therefore kept at place j ^ (r / 2 % 4) of rows of 64 bytes, or j ^ (r % 8) of the
 * turned operand's rows of 256. At the end c goes through shared memory once, so that it leaves in
 * rows.
 *
 * The operands' rows must be multiples of 16 bytes (llm_cuda_gemm_bf16_fits). Limit: tensor cores;
 * on Hopper mma.sync itself, which reaches only part of what wgmma does there.
 *
 * source  NVIDIA, PTX ISA, "mma.m16n8k16"
 * needs   cuda_launch, cuda_memory, cuda_mma, cuda_gemm
 * see     dense
 * topics  -
 */
enum {
    LLM_CUDA_GEMM_STAGES = 4,
    LLM_CUDA_GEMM_DEPTH = 32,                                       /* of K in a stage */
    LLM_CUDA_GEMM_STAGE = LLM_CUDA_GEMM_TILE * LLM_CUDA_GEMM_DEPTH, /* entries of one operand */
    LLM_CUDA_GEMM_C_ROW = LLM_CUDA_GEMM_TILE + 8, /* floats; keeps the lanes of c apart */
    LLM_CUDA_GEMM_BF16_SHARED =
        LLM_CUDA_GEMM_TILE * LLM_CUDA_GEMM_C_ROW * 4 /* the stages take 64 KB of these 68 */
};

/* Is an operand of `rows` and K (turned: its rows are K) aligned for 16 bytes at a time? */
static inline __attribute__((unused)) bool llm_cuda_gemm_bf16_fits(const llm_bf16 *p, bool turned,
                                                                   size_t rows, size_t K) {
    return llm_aligned(p, turned ? rows : K);
}
/* Where a stage keeps 8 entries: of row r from column 8 piece; turned, of step r from row 8 piece.
 * */
template <bool turned> LLM_DEVICE unsigned llm_cuda_gemm_place(unsigned r, unsigned piece) {
    return turned ? r * 128 + (piece ^ r % 8) * 8 : r * 32 + (piece ^ r / 2 % 4) * 8;
}
/* Where an operand has entries (row, column .. column + 7) of what is stored: a table has them in
 * rows of `width`, an operand that is a rule says so itself, and may say that all are 0: inside. */
LLM_DEVICE const llm_bf16 *llm_cuda_gemm_from(const llm_bf16 *p, size_t row, size_t column,
                                              size_t width, bool &inside) {
    return inside ? p + row * width + column : p;
}
template <typename P>
LLM_DEVICE const llm_bf16 *llm_cuda_gemm_from(const P &p, size_t row, size_t column, size_t width,
                                              bool &inside) {
    return p.at(row, column, width, inside);
}
/* Sends rows first .. first + 127, steps k .. k + 31 of an operand on their way to a stage. */
template <bool turned, typename P>
LLM_DEVICE void llm_cuda_gemm_send(llm_bf16 *stage, const P &p, size_t first, size_t k, size_t rows,
                                   size_t k_end, size_t K) {
    LLM_UNROLL
    for (unsigned i = 0; i < 2; i++) {
        const unsigned t = threadIdx.x + 256 * i, r = turned ? t / 16 : t / 4;
        const unsigned piece = turned ? t % 16 : t % 4;
        const size_t row = (turned ? k : first) + r, column = (turned ? first : k) + 8 * piece;
        bool inside = row < (turned ? k_end : rows) && column < (turned ? rows : k_end);
        const llm_bf16 *from = llm_cuda_gemm_from(p, row, column, turned ? rows : K, inside);
        llm_copy_async(stage + llm_cuda_gemm_place<turned>(r, piece), from, inside);
    }
}
/* Fragments of a 16 x 16 part of a stage, rows from `row`, steps from `step`: for a the four words
 * of mma; for b, whose matrices lie the other way, the two words of rows 0-7 and of rows 8-15. */
template <bool turned, bool is_a>
LLM_DEVICE void llm_cuda_gemm_fragment(uint32_t (&out)[4], const llm_bf16 *stage, unsigned row,
                                       unsigned step) {
    const unsigned lane = threadIdx.x % 32, m = lane / 8; /* the lane's matrix */
    const unsigned r = row + (is_a ? m % 2 : m / 2) * 8, s = step + (is_a ? m / 2 : m % 2) * 8;
    if (turned)
        llm_ldmatrix_x4_trans(out, stage + llm_cuda_gemm_place<turned>(s + lane % 8, r / 8));
    else
        llm_ldmatrix_x4(out, stage + llm_cuda_gemm_place<turned>(r + lane % 8, s / 8));
}

template <bool a_turned, bool b_turned, typename E, typename A = const llm_bf16 *,
          typename B = const llm_bf16 *>
LLM_KERNEL void __launch_bounds__(256)
    llm_gemm_bf16_kernel(E epilogue, A a, B b, size_t M, size_t N, size_t K, size_t slice) {
    LLM_DYNAMIC_SHARED(llm_bf16, stages);
    const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const unsigned y = warp / 4 * 64, x = warp % 4 * 32; /* the warp's place in the tile */
    size_t row, column, k = blockIdx.z * slice;
    const size_t k_end = k + slice < K ? k + slice : K;
    llm_cuda_gemm_tile(row, column, M, N);

    float c[4][4][4] = {}; /* [16 rows][8 columns][as mma keeps them] */
    size_t sent = k;
    for (unsigned s = 0; s < LLM_CUDA_GEMM_STAGES - 1; s++, sent += LLM_CUDA_GEMM_DEPTH) {
        llm_bf16 *stage = stages + s * 2 * LLM_CUDA_GEMM_STAGE;
        llm_cuda_gemm_send<a_turned>(stage, a, row, sent, M, k_end, K);
        llm_cuda_gemm_send<b_turned>(stage + LLM_CUDA_GEMM_STAGE, b, column, sent, N, k_end, K);
        llm_copy_commit();
    }
    for (unsigned now = 0; k < k_end;
         k += LLM_CUDA_GEMM_DEPTH, now = (now + 1) % LLM_CUDA_GEMM_STAGES) {
        llm_copy_wait<LLM_CUDA_GEMM_STAGES - 2>();
        __syncthreads();
        llm_bf16 *next = stages + (now + LLM_CUDA_GEMM_STAGES - 1) % LLM_CUDA_GEMM_STAGES * 2 *
                                      LLM_CUDA_GEMM_STAGE;
        if (sent < k_end) {
            llm_cuda_gemm_send<a_turned>(next, a, row, sent, M, k_end, K);
            llm_cuda_gemm_send<b_turned>(next + LLM_CUDA_GEMM_STAGE, b, column, sent, N, k_end, K);
        }
        llm_copy_commit(); /* an empty group too: the count of groups is the count of steps */
        sent += LLM_CUDA_GEMM_DEPTH;

        const llm_bf16 *stage = stages + now * 2 * LLM_CUDA_GEMM_STAGE;
        LLM_UNROLL
        for (unsigned step = 0; step < LLM_CUDA_GEMM_DEPTH; step += 16) {
            uint32_t a_v[4][4], b_v[2][4];
            LLM_UNROLL
            for (unsigned i = 0; i < 4; i++)
                llm_cuda_gemm_fragment<a_turned, true>(a_v[i], stage, y + 16 * i, step);
            LLM_UNROLL
            for (unsigned j = 0; j < 2; j++)
                llm_cuda_gemm_fragment<b_turned, false>(b_v[j], stage + LLM_CUDA_GEMM_STAGE,
                                                        x + 16 * j, step);
            LLM_UNROLL
            for (unsigned i = 0; i < 4; i++) {
                LLM_UNROLL
                for (unsigned j = 0; j < 4; j++) {
                    const uint32_t pair[2] = {b_v[j / 2][j % 2 * 2], b_v[j / 2][j % 2 * 2 + 1]};
                    llm_mma_m16n8k16_bf16(c[i][j], a_v[i], pair);
                }
            }
        }
    }
    llm_copy_wait<0>();
    __syncthreads(); /* nobody reads a stage any more: c takes their place */
    float *c_tile = (float *)(void *)stages;
    LLM_UNROLL
    for (unsigned i = 0; i < 64; i++) {
        const unsigned e = i % 4, r = y + i / 16 * 16 + e / 2 * 8 + lane / 4;
        c_tile[r * LLM_CUDA_GEMM_C_ROW + x + i / 4 % 4 * 8 + lane % 4 * 2 + e % 2] =
            c[i / 16][i / 4 % 4][e];
    }
    __syncthreads();
    for (unsigned i = threadIdx.x; i < LLM_CUDA_GEMM_TILE * LLM_CUDA_GEMM_TILE / 4; i += 256) {
        const unsigned r = i / 32, q = i % 32 * 4;
        const float *from = c_tile + r * LLM_CUDA_GEMM_C_ROW + q,
                    v[4] = {from[0], from[1], from[2], from[3]};
        if (row + r < M && column + q < N) epilogue(row + r, column + q, v);
    }
}

/* @cuda_pairs ----------------------------------------------- A tile of all pairs of rows
 *
 *     c_ij = sum_k step(a_ik, b_jk)       step: a b for products, (a - b)^2 for distances
 *
 * For kernels that want a table of all pairs and keep only a part of it: the largest of each row,
 * or the extremes. A block makes 64 x 64 pairs, a thread 4 x 4 of them: 16 steps for 8 floats from
 * shared memory. 16 columns of a and b at a time, in two buffers in turn, as in cuda_gemm: what is
 * multiplied next is fetched into registers first, and a step needs one barrier. Smaller tiles than
 * cuda_gemm's leave registers and shared memory to what the kernel does with them.
 *
 * The threads that fetch a row have all of it in their hands once: its square length costs one
 * multiply-add an entry, where another kernel would read the table again.
 *
 * source  -
 * needs   cuda_launch, cuda_gemm
 * see     cosine_similarity, curse_of_dim
 * topics  -
 */
enum { LLM_PAIRS_TILE = 64, LLM_PAIRS_DEPTH = 16, LLM_PAIRS_ROW = LLM_PAIRS_TILE + 4 };

struct llm_pairs_product {
    static const bool squares = true;
    static LLM_DEVICE_METHOD float step(float sum, float a, float b) { return sum + a * b; }
};
struct llm_pairs_distance {
    static const bool squares = false;
    static LLM_DEVICE_METHOD float step(float sum, float a, float b) {
        return sum + (a - b) * (a - b);
    }
};

/* A thread's four entries of a row, put down as tile[column][row]; returns their squares' sum. */
template <bool squares>
LLM_DEVICE float llm_pairs_put(float (*tile)[LLM_PAIRS_ROW], const float (&v)[4]) {
    const unsigned t = threadIdx.x;
    float sum = 0.0f;
    LLM_UNROLL
    for (unsigned k = 0; k < 4; k++) {
        tile[t % 4 * 4 + k][t / 4] = v[k];
        if (squares) sum += v[k] * v[k];
    }
    return sum;
}

/* c <- the pairs of rows row + 4 (t / 16) + i of a (rows,n) and column + 4 (t % 16) + j of b
 * (columns,n), for thread t of 256; rows and columns outside count as zeros. With F::squares, a_sq
 * and b_sq <- the square lengths of rows row + t / 4 of a and column + t / 4 of b, the same in the
 * four threads that have t / 4 in common. All threads have to take part. */
template <typename F, typename T>
LLM_DEVICE void llm_pairs_tile(float (&c)[4][4], float &a_sq, float &b_sq, const T *a, size_t row,
                               size_t rows, const T *b, size_t column, size_t columns, size_t n) {
    __shared__ __align__(16) float a_tile[2][LLM_PAIRS_DEPTH][LLM_PAIRS_ROW],
        b_tile[2][LLM_PAIRS_DEPTH][LLM_PAIRS_ROW];
    const unsigned t = threadIdx.x, y = t / 16 * 4, x = t % 16 * 4;
    const bool a_wide = (uintptr_t)a % (4 * sizeof(T)) == 0 && n % 4 == 0;
    const bool b_wide = (uintptr_t)b % (4 * sizeof(T)) == 0 && n % 4 == 0;
    float a_next[4], b_next[4];
    a_sq = b_sq = 0.0f;
    LLM_UNROLL
    for (unsigned i = 0; i < 16; i++) c[i / 4][i % 4] = 0.0f;
    llm_cuda_gemm_fetch(a_next, a, row + t / 4, t % 4 * 4, rows, n, n, a_wide);
    llm_cuda_gemm_fetch(b_next, b, column + t / 4, t % 4 * 4, columns, n, n, b_wide);
    a_sq += llm_pairs_put<F::squares>(a_tile[0], a_next);
    b_sq += llm_pairs_put<F::squares>(b_tile[0], b_next);
    __syncthreads();
    unsigned now = 0;
    for (size_t k = 0; k < n; k += LLM_PAIRS_DEPTH, now ^= 1) {
        const size_t next = k + LLM_PAIRS_DEPTH, mine = next + t % 4 * 4;
        if (next < n) llm_cuda_gemm_fetch(a_next, a, row + t / 4, mine, rows, n, n, a_wide);
        if (next < n) llm_cuda_gemm_fetch(b_next, b, column + t / 4, mine, columns, n, n, b_wide);
        LLM_UNROLL
        for (unsigned step = 0; step < LLM_PAIRS_DEPTH; step++) {
            const float *a_row = a_tile[now][step] + y, *b_row = b_tile[now][step] + x;
            LLM_UNROLL
            for (unsigned i = 0; i < 16; i++)
                c[i / 4][i % 4] = F::step(c[i / 4][i % 4], a_row[i / 4], b_row[i % 4]);
        }
        if (next < n) a_sq += llm_pairs_put<F::squares>(a_tile[now ^ 1], a_next);
        if (next < n) b_sq += llm_pairs_put<F::squares>(b_tile[now ^ 1], b_next);
        __syncthreads(); /* the last one: the next tile may be put down */
    }
    LLM_UNROLL
    for (int distance = 2; distance > 0 && F::squares; distance /= 2) {
        a_sq += __shfl_xor_sync(0xffffffffu, a_sq, distance);
        b_sq += __shfl_xor_sync(0xffffffffu, b_sq, distance);
    }
}

/* @01-linalg ================================================ FUNCTIONS, VECTORS AND MATRICES */

/* @linear_map ----------------------------------------------- Linear function
 *
 * W applied to a few vectors at a time, as decoding does: a warp takes a row of W, 16 bytes a lane,
 * and multiplies it with up to four rows of x at once, so that what it has fetched is used four
 * times; five exchanges a sum add up the lanes. More rows of x are taken four by four by blocks
 * that run side by side, so that W comes from L2 for all but the first four. x is small and comes
 * from L1. The bias, where there is one, is added to what is in registers.
 *
 * Reads W once, B up to 4: the minimum, beside which x and y are nothing. 2 B m n operations.
 * Limit: memory bandwidth for B up to 4, L2's above. Many rows are for the tiles of dense, which
 * use an entry of W 128 times.
 *
 * source  -
 * needs   cuda_launch, cuda_memory, cuda_reduce
 * see     affine, dense
 * topics  -
 */
template <typename T, int V, int R>
LLM_KERNEL void llm_linear_map_kernel(T *y, const T *x, const T *w, const T *b, size_t B, size_t m,
                                      size_t n) {
    const size_t groups = (B + R - 1) / R, first = blockIdx.x % groups * R;
    const size_t row = blockIdx.x / groups * 8 + threadIdx.x / 32;
    const unsigned lane = threadIdx.x % 32;
    if (row >= m) return; /* a whole warp, and no barrier follows */
    float sum[R], w_v[V], x_v[V];
    LLM_UNROLL
    for (int r = 0; r < R; r++) sum[r] = 0.0f;
    for (size_t i = (size_t)lane * V; i < n; i += 32 * V) {
        llm_load_vector(w_v, w, row * n + i);
        LLM_UNROLL
        for (int r = 0; r < R; r++) {
            if (first + (size_t)r >= B) break;
            llm_load_vector(x_v, x, (first + (size_t)r) * n + i);
            LLM_UNROLL
            for (int k = 0; k < V; k++) sum[r] += w_v[k] * x_v[k];
        }
    }
    LLM_UNROLL
    for (int r = 0; r < R; r++) {
        if (first + (size_t)r >= B) break;
        const float v = llm_warp_sum(sum[r]) + (b ? llm_load(b, row) : 0.0f);
        if (lane == (unsigned)r) llm_store(y, (first + (size_t)r) * m + row, v);
    }
}

/* y (B,m) <- x (B,n), w (m,n), and b (m) or NULL: what linear_map and affine launch. */
template <typename T>
static inline cudaError_t llm_cuda_linear_map_rows(T *y, const T *x, const T *w, const T *b,
                                                   size_t B, size_t m, size_t n,
                                                   cudaStream_t stream) {
    enum { V = 16 / sizeof(T) };
    if (B == 0 || m == 0) return cudaSuccess;
    const bool wide = llm_aligned(x, n) && llm_aligned(w, n);
    const auto linear_map =
        wide     ? B == 1 ? llm_linear_map_kernel<T, V, 1> : llm_linear_map_kernel<T, V, 4>
            : B == 1 ? llm_linear_map_kernel<T, 1, 1>
                 : llm_linear_map_kernel<T, 1, 4>;
    LLM_LAUNCH(linear_map, (unsigned)((m + 7) / 8 * ((B + 3) / 4)), 256, 0, stream, y, x, w, b, B,
               m, n);
    return cudaGetLastError();
}
/* y (B,m) <- x (B,n), w (m,n): arguments as llm_linear_map_batch; T is float or llm_bf16, sums are
 * float. */
template <typename T>
static inline cudaError_t llm_cuda_linear_map_batch(T *y, const T *x, const T *w, size_t B,
                                                    size_t m, size_t n, cudaStream_t stream) {
    return llm_cuda_linear_map_rows(y, x, w, (const T *)NULL, B, m, n, stream);
}

/* @affine --------------------------------------------------- Affine transformation
 *
 * For a few rows the kernel of linear_map, with the bias added before y is written: a kernel of its
 * own would read and write y again and wait for another launch. For many rows, the batches of
 * training, the same function is llm_cuda_dense_forward with LLM_ACTIVATION_IDENTITY: tiles of W
 * are used 128 times there, on tensor cores for bfloat16. A scale and a shift behind the map cost
 * nothing in either: llm_affine_fold puts them into W and b beforehand.
 *
 * Traffic and limit as linear_map's, and b once.
 *
 * source  -
 * needs   linear_map
 * see     dense
 * topics  -
 */

/* y (B,m) <- x (B,n), w (m,n), b (m): arguments as llm_affine_apply; T is float or llm_bf16. */
template <typename T>
static inline cudaError_t llm_cuda_affine_apply(T *y, const T *x, const T *w, const T *b, size_t B,
                                                size_t m, size_t n, cudaStream_t stream) {
    return llm_cuda_linear_map_rows(y, x, w, b, B, m, n, stream);
}

/* @vector_norm ---------------------------------------------- L1 and L2 norms
 *
 * Rows made unit: a block a row. Each thread squares its entries, the block adds them in double, so
 * that rows of 1e30 or 1e-30 have the length that the reference gives them, and each thread reads
 * its entries again, from cache, to divide them. Moves 2 elements for each element of the row, the
 * minimum, and a float a row. One multiply-add in double an element. Limit: memory bandwidth where
 * the card has many units for double (data-centre cards), double arithmetic elsewhere.
 *
 * source  -
 * needs   cuda_launch, cuda_memory, cuda_reduce
 * see     rmsnorm
 * topics  -
 */
template <typename T, int V>
LLM_KERNEL void llm_vector_norm_unit_kernel(T *u, float *length, const T *x, size_t n, float eps) {
    const size_t first = (size_t)blockIdx.x * n, step = (size_t)blockDim.x * V;
    float v[V];
    double sum = 0.0;
    for (size_t i = (size_t)threadIdx.x * V; i < n; i += step) {
        llm_load_vector(v, x, first + i);
        LLM_UNROLL
        for (int k = 0; k < V; k++) sum += (double)v[k] * (double)v[k];
    }
    const double norm = sqrt(llm_block_sum(sum));
    const double scale = norm < (double)eps || norm == 0.0 ? 0.0 : 1.0 / norm;
    for (size_t i = (size_t)threadIdx.x * V; i < n; i += step) {
        llm_load_vector(v, x, first + i);
        LLM_UNROLL
        for (int k = 0; k < V; k++) v[k] = (float)((double)v[k] * scale);
        llm_store_vector(u, first + i, v);
    }
    if (threadIdx.x == 0 && length) llm_store(length, blockIdx.x, (float)norm);
}

/* u (rows,n), length (rows) or NULL <- x (rows,n): device pointers, arguments as those of
 * llm_vector_norm_unit; T is float or llm_bf16. u may be x. */
template <typename T>
static inline cudaError_t llm_cuda_vector_norm_unit(T *u, float *length, const T *x, size_t rows,
                                                    size_t n, float eps, cudaStream_t stream) {
    enum { V = 16 / sizeof(T) };
    if (rows == 0) return cudaSuccess;
    const bool wide = llm_aligned(u, n) && llm_aligned(x, n);
    const unsigned threads = llm_row_threads(wide ? n / V : n);
    if (wide)
        LLM_LAUNCH((llm_vector_norm_unit_kernel<T, V>), (unsigned)rows, threads, 0, stream, u,
                   length, x, n, eps);
    else
        LLM_LAUNCH((llm_vector_norm_unit_kernel<T, 1>), (unsigned)rows, threads, 0, stream, u,
                   length, x, n, eps);
    return cudaGetLastError();
}

/* @dense_vector --------------------------------------------- Dense vector
 *
 * Dot product: a grid that strides over both vectors; a thread adds what it fetched at once in
 * float, at most 8 products, and those sums in double, where 2^24 ones would not stop growing. Each
 * block leaves the sum of its threads, and one block adds those. How many blocks there are depends
 * on n and the alignment alone and nothing is atomic: the same bits in every run and on every card.
 * axpy is one pass.
 *
 * Reads x and y once, 8 bytes an entry of float; axpy writes y as well, 12: the minimum. Limit:
 * memory bandwidth; below a million entries the launches, two for a dot product.
 *
 * source  -
 * needs   cuda_launch, cuda_memory, cuda_reduce
 * see     nll, grad_clip
 * topics  -
 */
enum { LLM_CUDA_DENSE_VECTOR_BLOCKS = 1024 };

/* Blocks for n entries, V a thread. */
static inline __attribute__((unused)) unsigned llm_cuda_dense_vector_blocks(size_t n, size_t V) {
    const size_t most = LLM_CUDA_DENSE_VECTOR_BLOCKS, blocks = (n + 256 * V - 1) / (256 * V);
    return (unsigned)(blocks < most ? blocks : most);
}
template <typename T, int V>
LLM_KERNEL void llm_dense_vector_dot_kernel(double *part, const T *x, const T *y, size_t n) {
    const size_t whole = n - n % V, step = (size_t)gridDim.x * 256 * V;
    double sum = 0.0;
    size_t i = ((size_t)blockIdx.x * 256 + threadIdx.x) * V;
    for (; i < whole; i += step) {
        float x_v[V], y_v[V], near = 0.0f;
        llm_load_vector(x_v, x, i);
        llm_load_vector(y_v, y, i);
        LLM_UNROLL
        for (int k = 0; k < V; k++) near += x_v[k] * y_v[k];
        sum += (double)near;
    }
    for (size_t k = i; k < n; k++) /* the rest: one thread stands before it */
        sum += (double)(llm_load(x, k) * llm_load(y, k));
    sum = llm_block_sum(sum);
    if (threadIdx.x == 0) part[blockIdx.x] = sum;
}
LLM_KERNEL void llm_dense_vector_total_kernel(float *dot, const double *part, unsigned parts) {
    const double sum = llm_block_sum(threadIdx.x < parts ? part[threadIdx.x] : 0.0);
    if (threadIdx.x == 0) *dot = (float)sum;
}

/* dot (1) <- x.y (n), on the device. part (LLM_CUDA_DENSE_VECTOR_BLOCKS) is scratch; T is float or
 * llm_bf16. */
template <typename T>
static inline cudaError_t llm_cuda_dense_vector_dot(float *dot, double *part, const T *x,
                                                    const T *y, size_t n, cudaStream_t stream) {
    enum { V = 16 / sizeof(T) };
    const bool wide = llm_aligned(x, V) && llm_aligned(y, V);
    const unsigned blocks = llm_cuda_dense_vector_blocks(n + 1, wide ? V : 1); /* one for n = 0 */
    const auto dense_vector_dot =
        wide ? llm_dense_vector_dot_kernel<T, V> : llm_dense_vector_dot_kernel<T, 1>;
    LLM_LAUNCH(dense_vector_dot, blocks, 256, 0, stream, part, x, y, n);
    LLM_LAUNCH(llm_dense_vector_total_kernel, 1, LLM_CUDA_DENSE_VECTOR_BLOCKS, 0, stream, dot, part,
               blocks);
    return cudaGetLastError();
}

template <typename T, int V>
LLM_KERNEL void llm_dense_vector_axpy_kernel(T *y, float a, const T *x, size_t n) {
    const size_t whole = n - n % V, step = (size_t)gridDim.x * 256 * V;
    size_t i = ((size_t)blockIdx.x * 256 + threadIdx.x) * V;
    for (; i < whole; i += step) {
        float x_v[V], y_v[V];
        llm_load_vector(x_v, x, i);
        llm_load_vector(y_v, y, i);
        LLM_UNROLL
        for (int k = 0; k < V; k++) y_v[k] += a * x_v[k];
        llm_store_vector(y, i, y_v);
    }
    for (size_t k = i; k < n; k++) llm_store(y, k, llm_load(y, k) + a * llm_load(x, k));
}
/* y (n) += a x (n): as llm_dense_vector_axpy; T is float or llm_bf16. */
template <typename T>
static inline cudaError_t llm_cuda_dense_vector_axpy(T *y, float a, const T *x, size_t n,
                                                     cudaStream_t stream) {
    enum { V = 16 / sizeof(T) };
    if (n == 0) return cudaSuccess;
    const bool wide = llm_aligned(x, V) && llm_aligned(y, V);
    const auto dense_vector_axpy =
        wide ? llm_dense_vector_axpy_kernel<T, V> : llm_dense_vector_axpy_kernel<T, 1>;
    LLM_LAUNCH(dense_vector_axpy, llm_cuda_dense_vector_blocks(n, wide ? V : 1), 256, 0, stream, y,
               a, x, n);
    return cudaGetLastError();
}

/* @csr ------------------------------------------------------ Compressed sparse rows
 *
 * y = A x, a warp a row, eight rows a block: neighbouring lanes read neighbouring entries, and five
 * exchanges add the lanes' sums. Moves 8 bytes an entry and 12 a row, the minimum; x is gathered,
 * 32 bytes from L2 or memory for each 4 that are used in the worst case. Limit: memory bandwidth
 * for rows of 32 entries and more; shorter rows leave lanes idle, and one very long row keeps a
 * single warp busy when all others are done.
 *
 * Y = A X for K columns: the lanes of a warp are columns, and an entry is worth a row of X, read in
 * order. The warp fetches 32 entries at once and hands them round. Moves A and Y once and 4 K bytes
 * of X an entry, from L2 where a row of X is used again. Limit: L2 and memory bandwidth; below 32
 * columns lanes are idle.
 *
 * source  Bell & Garland 2009, "Implementing sparse matrix-vector multiplication on
 *         throughput-oriented processors", section 4.3
 * needs   cuda_launch, cuda_memory, cuda_reduce
 * see     vector_norm
 * topics  -
 */
LLM_KERNEL void llm_csr_apply_kernel(float *y, const size_t *start, const uint32_t *index,
                                     const float *value, const float *x, size_t rows) {
    const size_t row = (size_t)blockIdx.x * 8 + threadIdx.x / 32;
    if (row >= rows) return; /* a whole warp */
    float sum = 0.0f;
    for (size_t k = start[row] + threadIdx.x % 32; k < start[row + 1]; k += 32)
        sum += llm_load(value, k) * llm_load(x, index[k]);
    sum = llm_warp_sum(sum);
    if (threadIdx.x % 32 == 0) llm_store(y, row, sum);
}

/* y (rows) <- the arrays of an llm_csr with so many rows, x (cols): device pointers. */
static inline __attribute__((unused)) cudaError_t
llm_cuda_csr_apply(float *y, const size_t *start, const uint32_t *index, const float *value,
                   const float *x, size_t rows, cudaStream_t stream) {
    if (rows == 0) return cudaSuccess;
    LLM_LAUNCH(llm_csr_apply_kernel, (unsigned)((rows + 7) / 8), 256, 0, stream, y, start, index,
               value, x, rows);
    return cudaGetLastError();
}

template <int V>
LLM_KERNEL void llm_csr_matmul_kernel(float *y, const size_t *start, const uint32_t *index,
                                      const float *value, const float *x, size_t rows, size_t K) {
    const size_t pieces = (K + 32 * V - 1) / (32 * V); /* of a row of X: blocks side by side */
    const size_t row = blockIdx.x / pieces * 8 + threadIdx.x / 32;
    const unsigned lane = threadIdx.x % 32;
    const size_t column = (blockIdx.x % pieces * 32 + lane) * V;
    if (row >= rows) return; /* a whole warp */
    const size_t end = start[row + 1];
    float sum[V], x_v[V];
    LLM_UNROLL
    for (int v = 0; v < V; v++) sum[v] = 0.0f;
    for (size_t k = start[row]; k < end; k += 32) {
        const bool mine = k + lane < end;
        const float a = mine ? llm_load(value, k + lane) : 0.0f;
        const uint32_t j = mine ? index[k + lane] : 0;
        const int count = end - k < 32 ? (int)(end - k) : 32;
        for (int e = 0; e < count; e++) {
            const float a_e = __shfl_sync(0xffffffffu, a, e);
            const size_t from = __shfl_sync(0xffffffffu, j, e);
            if (column >= K) continue;
            llm_load_vector(x_v, x, from * K + column);
            LLM_UNROLL
            for (int v = 0; v < V; v++) sum[v] += a_e * x_v[v];
        }
    }
    if (column < K) llm_store_vector(y, row * K + column, sum);
}

/* y (rows,K) <- the same arrays, x (cols,K): what llm_csr_matmul writes. */
static inline __attribute__((unused)) cudaError_t
llm_cuda_csr_matmul(float *y, const size_t *start, const uint32_t *index, const float *value,
                    const float *x, size_t rows, size_t K, cudaStream_t stream) {
    if (rows == 0 || K == 0) return cudaSuccess;
    const bool wide = K >= 128 && llm_aligned(y, K) && llm_aligned(x, K);
    const size_t width = wide ? 128 : 32, pieces = (K + width - 1) / width;
    const auto csr_matmul = wide ? llm_csr_matmul_kernel<4> : llm_csr_matmul_kernel<1>;
    LLM_LAUNCH(csr_matmul, (unsigned)((rows + 7) / 8 * pieces), 256, 0, stream, y, start, index,
               value, x, rows, K);
    return cudaGetLastError();
}

/* @sparsity ------------------------------------------------- Sparsity
 *
 * The 2:4 format unpacked in registers and multiplied: a warp a row of W, a lane eight columns at a
 * time, which are four values and one byte of places. Each value picks its factor of four entries
 * of x by two choices; the entries that the format left out are not multiplied, so they may be
 * anything. Up to four rows of x share one reading of W, as in linear_map.
 *
 * Reads 17 bytes for eight weights of float where dense needs 32, and 9 for 16 of bfloat16. Limit:
 * memory bandwidth for a few rows of x. For many the tensor cores' own instructions, which want the
 * places in another layout, would do half of dense's work; without them dense's tiles are faster.
 *
 * source  Mishra et al. 2021, "Accelerating sparse deep neural networks"
 * needs   cuda_launch, cuda_memory, cuda_reduce
 * see     linear_map, csr
 * topics  -
 */

/* x[place], place < 4: without an index, which registers do not have. */
LLM_DEVICE float llm_cuda_sparsity_pick(const float *x, unsigned place) {
    const float low = place & 1 ? x[1] : x[0], high = place & 1 ? x[3] : x[2];
    return place & 2 ? high : low;
}
template <typename T, int R>
LLM_KERNEL void llm_sparsity_24_kernel(T *y, const T *value, const unsigned char *place, const T *x,
                                       size_t B, size_t m, size_t n) {
    const size_t groups = (B + R - 1) / R, first = blockIdx.x % groups * R;
    const size_t row = blockIdx.x / groups * 8 + threadIdx.x / 32;
    const unsigned lane = threadIdx.x % 32;
    if (row >= m) return; /* a whole warp */
    float sum[R], w_v[4], x_v[8];
    LLM_UNROLL
    for (int r = 0; r < R; r++) sum[r] = 0.0f;
    for (size_t i = (size_t)lane * 8; i < n; i += 256) {
        const unsigned places = place[(row * n + i) / 8];
        llm_load_vector(w_v, value, (row * n + i) / 2);
        LLM_UNROLL
        for (int r = 0; r < R; r++) {
            if (first + (size_t)r >= B) break;
            llm_load_vector(x_v, x, (first + (size_t)r) * n + i);
            LLM_UNROLL
            for (int k = 0; k < 4; k++)
                sum[r] += w_v[k] * llm_cuda_sparsity_pick(x_v + k / 2 * 4, places >> 2 * k);
        }
    }
    LLM_UNROLL
    for (int r = 0; r < R; r++) {
        if (first + (size_t)r >= B) break;
        const float v = llm_warp_sum(sum[r]);
        if (lane == (unsigned)r) llm_store(y, (first + (size_t)r) * m + row, v);
    }
}

/* y (B,m) <- x (B,n) W^T, W (m,n) packed as value (m,n/2), place (m,n/8): llm_sparsity_24_apply for
 * each row of x. n is a multiple of 8, and value and x of 16 bytes; T is float or llm_bf16. */
template <typename T>
static inline cudaError_t
llm_cuda_sparsity_24_apply(T *y, const T *value, const unsigned char *place, const T *x, size_t B,
                           size_t m, size_t n, cudaStream_t stream) {
    if (n % 8 != 0 || !llm_aligned(value, 8) || !llm_aligned(x, 8))
        return (cudaError_t)cudaErrorInvalidValue;
    if (B == 0 || m == 0) return cudaSuccess;
    const auto sparsity_24 = B == 1 ? llm_sparsity_24_kernel<T, 1> : llm_sparsity_24_kernel<T, 4>;
    LLM_LAUNCH(sparsity_24, (unsigned)((m + 7) / 8 * ((B + 3) / 4)), 256, 0, stream, y, value,
               place, x, B, m, n);
    return cudaGetLastError();
}

/* @cosine_similarity ---------------------------------------- Cosine similarity
 *
 * The k rows of b most similar to each row of a, without the table of similarities: a block makes a
 * tile of 64 x 64 products, knows the square lengths of both sides by then, and hands the cosines
 * to its warps, each of which keeps the lists of eight rows of a in shared memory. An entry is a
 * (cosine, index) pair in one integer, as in greedy: equal ones come in order of their index, and
 * the k largest of a set of integers do not depend on how it was cut. So b is cut into pieces that
 * fill the card, and a second kernel, a warp a row, merges their lists. Most entries are worse than
 * the k-th so far and cost a comparison; about k ln(M / k) of M are put into the list.
 *
 * Reads b once for each 64 rows of a and writes k pairs a row, where the table would be written and
 * read, 8 bytes a pair of rows. 2 N M n operations, and a thirtieth of that for lengths. Limit:
 * float multiply-adds, at 16 for 8 floats of shared memory; fewer than 64 rows of a waste the rest.
 *
 * source  -
 * needs   cuda_launch, cuda_memory, cuda_select, cuda_pairs
 * see     greedy, curse_of_dim
 * topics  -
 */
enum { LLM_CUDA_COSINE_SIMILARITY_PIECES = 32, LLM_CUDA_COSINE_SIMILARITY_MOST = 128 };

/* Orders by similarity, NaN below all, and of equal ones puts the first on top; never 0, which is
 * the pair of nothing. */
LLM_DEVICE unsigned long long llm_cuda_cosine_similarity_key(float s, size_t i) {
    const uint32_t order = s == s ? llm_select_order(s) : 1;
    return (unsigned long long)order << 32 | (0xffffffffu - (uint32_t)i);
}
/* 1 over the length, or 0 for a row that is shorter than eps. */
LLM_DEVICE float llm_cuda_cosine_similarity_scale(float square, float eps) {
    const float length = sqrtf(square);
    return length < eps || length == 0.0f ? 0.0f : 1.0f / length;
}
/* By a warp: pair takes its place in list (k), which falls; the last of it gives way. */
LLM_DEVICE void llm_cuda_cosine_similarity_insert(unsigned long long *list, unsigned k,
                                                  unsigned long long pair) {
    for (unsigned first = (k - 1) / 32 * 32 + 32; first > 0; first -= 32) { /* from the end */
        const unsigned e = first - 32 + threadIdx.x % 32;
        const unsigned long long own = e < k ? list[e] : 0;
        const unsigned long long above = e > 0 && e < k ? list[e - 1] : ~0ull;
        __syncwarp();
        if (e < k && own < pair) list[e] = above < pair ? above : pair;
        __syncwarp();
    }
}
/* By a warp: every lane's pair, those that are better than the last of list (k). */
LLM_DEVICE void llm_cuda_cosine_similarity_offer(unsigned long long *list, unsigned k,
                                                 unsigned long long pair) {
    unsigned better = __ballot_sync(0xffffffffu, pair > list[k - 1]);
    for (; better; better &= better - 1) {
        const unsigned long long next = __shfl_sync(0xffffffffu, pair, __ffs((int)better) - 1);
        if (next > list[k - 1]) llm_cuda_cosine_similarity_insert(list, k, next);
    }
}

template <typename T>
LLM_KERNEL void __launch_bounds__(256, 3)
    llm_cosine_similarity_kernel(unsigned long long *part, const T *a, const T *b, size_t N,
                                 size_t M, size_t n, unsigned k, float eps, unsigned pieces) {
    enum { TILE = LLM_PAIRS_TILE };
    LLM_DYNAMIC_SHARED(unsigned long long, list); /* [64][k], each that of one warp */
    __shared__ float scale[2][TILE], cosine[TILE][TILE + 1];
    const unsigned t = threadIdx.x, lane = t % 32, warp = t / 32, piece = blockIdx.x % pieces;
    const size_t row = blockIdx.x / pieces * TILE;
    for (unsigned i = lane; i < 8 * k; i += 32) list[warp * 8 * k + i] = 0;
    __syncwarp();
    for (size_t column = (size_t)piece * TILE; column < M; column += (size_t)pieces * TILE) {
        float c[4][4], a_sq, b_sq;
        llm_pairs_tile<llm_pairs_product>(c, a_sq, b_sq, a, row, N, b, column, M, n);
        if (t % 4 == 0) scale[0][t / 4] = llm_cuda_cosine_similarity_scale(a_sq, eps);
        if (t % 4 == 0) scale[1][t / 4] = llm_cuda_cosine_similarity_scale(b_sq, eps);
        __syncthreads(); /* and the readers of cosine are done */
        LLM_UNROLL
        for (unsigned i = 0; i < 16; i++) {
            const unsigned y = t / 16 * 4 + i / 4, x = t % 16 * 4 + i % 4;
            cosine[y][x] = c[i / 4][i % 4] * scale[0][y] * scale[1][x];
        }
        __syncthreads();
        for (unsigned y = 8 * warp; y < 8 * warp + 8; y++) {
            for (unsigned x = lane; x < TILE; x += 32) {
                const bool inside = row + y < N && column + x < M;
                const float s = cosine[y][x];
                llm_cuda_cosine_similarity_offer(
                    list + y * k, k, inside ? llm_cuda_cosine_similarity_key(s, column + x) : 0);
            }
        }
    }
    for (unsigned i = lane; i < 8 * k; i += 32) {
        const size_t r = row + 8 * warp + i / k;
        if (r < N) part[(r * pieces + piece) * k + i % k] = list[warp * 8 * k + i];
    }
}
LLM_KERNEL void llm_cosine_similarity_merge_kernel(int *top, float *score,
                                                   const unsigned long long *part, size_t N,
                                                   unsigned k, unsigned pieces) {
    LLM_DYNAMIC_SHARED(unsigned long long, lists);
    const unsigned lane = threadIdx.x % 32;
    const size_t row = (size_t)blockIdx.x * 4 + threadIdx.x / 32;
    unsigned long long *list = lists + threadIdx.x / 32 * k;
    if (row >= N) return; /* a whole warp */
    for (unsigned i = lane; i < k; i += 32) list[i] = part[row * pieces * k + i];
    __syncwarp();
    for (unsigned i = k; i < pieces * k; i += 32)
        llm_cuda_cosine_similarity_offer(
            list, k, i + lane < pieces * k ? part[row * pieces * k + i + lane] : 0);
    for (unsigned i = lane; i < k; i += 32) {
        top[row * k + i] = (int)(0xffffffffu - (uint32_t)list[i]);
        if (score) llm_store(score, row * k + i, llm_select_value(list[i]));
    }
}

/* Pieces that b is cut into: enough for two blocks a multiprocessor. */
static inline __attribute__((unused)) unsigned llm_cuda_cosine_similarity_pieces(size_t N,
                                                                                 size_t M) {
    const size_t tiles = (N + LLM_PAIRS_TILE - 1) / LLM_PAIRS_TILE,
                 most = LLM_CUDA_COSINE_SIMILARITY_PIECES;
    const size_t fill = (2 * llm_multiprocessors() + tiles - 1) / tiles;
    const size_t full = (M + LLM_PAIRS_TILE - 1) / LLM_PAIRS_TILE,
                 pieces = fill < full ? fill : full;
    return (unsigned)(pieces < most ? pieces : most);
}
/* top (N,k), score (N,k) or NULL <- a (N,n), b (M,n): for each row of a the k rows of b with the
 * largest cosine, best first, as llm_cosine_similarity_matrix and _topk find them, sums in float; k
 * at most M and LLM_CUDA_COSINE_SIMILARITY_MOST. part: N k LLM_CUDA_COSINE_SIMILARITY_PIECES
 * numbers of scratch. T is float or llm_bf16. */
template <typename T>
static inline cudaError_t
llm_cuda_cosine_similarity_topk(int *top, float *score, unsigned long long *part, const T *a,
                                const T *b, size_t N, size_t M, size_t n, size_t k, float eps,
                                cudaStream_t stream) {
    if (k > M || k > LLM_CUDA_COSINE_SIMILARITY_MOST || M > 0x7fffffff)
        return (cudaError_t)cudaErrorInvalidValue;
    if (N == 0 || k == 0) return cudaSuccess;
    const unsigned pieces = llm_cuda_cosine_similarity_pieces(N, M);
    const unsigned tiles = (unsigned)((N + LLM_PAIRS_TILE - 1) / LLM_PAIRS_TILE);
    LLM_LAUNCH(llm_cosine_similarity_kernel<T>, tiles * pieces, 256,
               LLM_PAIRS_TILE * k * sizeof *part, stream, part, a, b, N, M, n, (unsigned)k, eps,
               pieces);
    LLM_LAUNCH(llm_cosine_similarity_merge_kernel, (unsigned)((N + 3) / 4), 128,
               4 * k * sizeof *part, stream, top, score, part, N, (unsigned)k, pieces);
    return cudaGetLastError();
}

/* @svd ------------------------------------------------------ Singular value decomposition
 *
 * Many small matrices at once, a block each: the rows of G = A or A' and of the rotations J lie in
 * shared memory from the first sweep to the last. In the order of a round-robin tournament k / 2
 * pairs have no row in common, and a warp takes a pair: three sums, an angle, two rows turned. A
 * barrier a round, k - 1 rounds a sweep; the sweep in which nobody turned is the last.
 *
 * Rows are kept as floats and divided by a power of two first, so that no square overflows. As in
 * the reference a pair is orthogonal when its angle is at rounding, whatever the lengths: where
 * short columns make singular values small, they keep their digits in float too.
 *
 * Reads A, writes U, s, V once, the minimum. 3 k^2 (2 longer side + k) operations a sweep, some 5
 * to 10 sweeps. Limit: shared memory, 6 accesses for 12 operations, and the barriers of small k.
 *
 * source  Brent & Luk 1985, "The solution of singular-value and symmetric eigenvalue problems on
 *         multiprocessor arrays" (the order)
 * needs   cuda_launch, cuda_memory, cuda_reduce
 * see     svd_randomized
 * topics  -
 */
enum { LLM_CUDA_SVD_SHARED = 160 * 1024, LLM_CUDA_SVD_SWEEPS = 30 };

/* The places in shared memory: g (k,longer), j (k,k), length (k). */
struct llm_cuda_svd_rows {
    float *g, *j, *length;
    unsigned k, longer;
};
/* By a warp: x, y (n) <- c x + s y, c y - s x. */
LLM_DEVICE void llm_cuda_svd_rotate(float *x, float *y, unsigned n, float c, float s) {
    for (unsigned i = threadIdx.x % 32; i < n; i += 32) {
        const float x_i = x[i];
        x[i] = c * x_i + s * y[i];
        y[i] = c * y[i] - s * x_i;
    }
}
/* In every lane of a warp, x.y (n). */
LLM_DEVICE float llm_cuda_svd_dot(const float *x, const float *y, unsigned n) {
    float sum = 0.0f;
    for (unsigned i = threadIdx.x % 32; i < n; i += 32) sum += x[i] * y[i];
    return llm_warp_sum(sum);
}
/* By a warp: rows p and q become orthogonal by the smaller of the two turns that do it; the other
 * one, which also sorts them, needs more sweeps in this order. Were they not before? */
LLM_DEVICE bool llm_cuda_svd_pair(llm_cuda_svd_rows r, unsigned p, unsigned q) {
    float *gp = r.g + p * r.longer, *gq = r.g + q * r.longer;
    float pp = 0.0f, qq = 0.0f, pq = 0.0f;
    for (unsigned i = threadIdx.x % 32; i < r.longer; i += 32) {
        pp += gp[i] * gp[i];
        qq += gq[i] * gq[i];
        pq += gp[i] * gq[i];
    }
    pp = llm_warp_sum(pp), qq = llm_warp_sum(qq), pq = llm_warp_sum(pq);
    const float rounding = 2.0f * sqrtf((float)r.longer) * FLT_EPSILON;
    if (!(fabsf(pq) > rounding * sqrtf(pp) * sqrtf(qq))) return false;
    const float angle = 0.5f * atanf(2.0f * pq / (pp - qq)), c = cosf(angle), s = sinf(angle);
    llm_cuda_svd_rotate(gp, gq, r.longer, c, s);
    llm_cuda_svd_rotate(r.j + p * r.k, r.j + q * r.k, r.k, c, s);
    return true;
}
/* By a warp: llm_svd_complete for each row of length 0, when all others are unit vectors. */
LLM_DEVICE void llm_cuda_svd_complete(llm_cuda_svd_rows r) {
    const unsigned lane = threadIdx.x % 32, n = r.longer;
    for (unsigned p = 0, e = 0; p < r.k; p++) {
        if (r.length[p] != 0.0f) continue;
        float *gp = r.g + p * n, left = 0.0f;
        for (; left * 2.0f * (float)n < 1.0f && e < n; e++) {
            for (unsigned i = lane; i < n; i += 32) gp[i] = i == e ? 1.0f : 0.0f;
            for (unsigned q = 0; q < 2 * r.k; q++) {
                const float *gq = r.g + q % r.k * n;
                if (r.length[q % r.k] == 0.0f && q % r.k >= p) continue;
                const float along = llm_cuda_svd_dot(gp, gq, n);
                for (unsigned i = lane; i < n; i += 32) gp[i] -= along * gq[i];
            }
            left = llm_cuda_svd_dot(gp, gp, n);
        }
        for (unsigned i = lane; i < n; i += 32) gp[i] /= sqrtf(left);
    }
}

LLM_KERNEL void __launch_bounds__(512)
    llm_svd_kernel(float *u, float *s, float *v, int *sweeps, const float *a, size_t m, size_t n) {
    LLM_DYNAMIC_SHARED(float, g);
    const bool wide = m < n;
    const unsigned k = (unsigned)(wide ? m : n), longer = (unsigned)(wide ? n : m);
    const llm_cuda_svd_rows r = {g, g + k * longer, g + k * longer + k * k, k, longer};
    const unsigned t = threadIdx.x, lane = t % 32, warp = t / 32, warps = blockDim.x / 32;
    const size_t matrix = blockIdx.x;
    a += matrix * m * n;

    float largest = 0.0f;
    bool bad = false;
    for (unsigned i = t; i < k * longer; i += blockDim.x) {
        const float x = llm_load(a, i);
        largest = fmaxf(largest, fabsf(x));
        bad = bad || !(fabsf(x) <= FLT_MAX);
        g[wide ? i : i % k * longer + i / k] = x;
    }
    for (unsigned i = t; i < k * k; i += blockDim.x) r.j[i] = i / k == i % k ? 1.0f : 0.0f;
    bad = __syncthreads_or(bad);
    largest = llm_block_max(largest);
    int exponent = 0;
    if (!bad) frexpf(largest, &exponent);
    for (unsigned i = t; i < k * longer; i += blockDim.x)
        g[wide ? i : i % k * longer + i / k] =
            ldexpf(g[wide ? i : i % k * longer + i / k], -exponent);
    __syncthreads();

    const unsigned even = (k + 1) / 2 * 2; /* an odd k leaves one row out in every round */
    int sweep = 0;
    for (bool turned = !bad; turned && sweep < LLM_CUDA_SVD_SWEEPS; sweep++) {
        turned = false;
        for (unsigned round = 0; round + 1 < even; round++) {
            for (unsigned i = warp; i < even / 2;
                 i += warps) { /* the last stays, others go round */
                const unsigned x = (round + i) % (even - 1);
                const unsigned y = i == 0 ? even - 1 : (round + even - 1 - i) % (even - 1);
                if (x < k && y < k && llm_cuda_svd_pair(r, x, y)) turned = true;
            }
            __syncthreads();
        }
        turned = __syncthreads_or(turned);
    }

    for (unsigned p = warp; p < k; p += warps) {
        float *gp = g + p * longer;
        const float length = sqrtf(llm_cuda_svd_dot(gp, gp, longer));
        if (lane == 0) r.length[p] = length;
        for (unsigned i = lane; i < longer && length != 0.0f; i += 32) gp[i] /= length;
    }
    __syncthreads();
    if (warp == 0 && !bad) llm_cuda_svd_complete(r);
    __syncthreads();
    for (unsigned p = warp; p < k; p += warps) {
        const float *up = wide ? r.j + p * k : g + p * longer,
                    *vp = wide ? g + p * longer : r.j + p * k;
        unsigned place = 0; /* among the lengths, which fall; equal ones in order */
        for (unsigned q = 0; q < k; q++)
            place += r.length[q] > r.length[p] || (r.length[q] == r.length[p] && q < p);
        if (bad) place = p;
        float most = 0.0f;
        for (unsigned i = lane; i < m; i += 32) most = fmaxf(most, fabsf(up[i]));
        most = llm_warp_max(most) * (1.0f - 1e-5f);
        unsigned first = 0; /* the first of those that are equal up to rounding decides the sign */
        while (first + 1 < m && fabsf(up[first]) < most) first++;
        const float sign = bad ? NAN : up[first] < 0.0f ? -1.0f : 1.0f;
        if (lane == 0) llm_store(s, matrix * k + place, bad ? NAN : ldexpf(r.length[p], exponent));
        for (unsigned i = lane; u && i < m; i += 32)
            llm_store(u, (matrix * m + i) * k + place, sign * up[i]);
        for (unsigned i = lane; v && i < n; i += 32)
            llm_store(v, (matrix * n + i) * k + place, sign * vp[i]);
    }
    if (t == 0 && sweeps) sweeps[matrix] = sweep;
}

/* Bytes of shared memory for matrices (m,n). */
static inline __attribute__((unused)) size_t llm_cuda_svd_shared(size_t m, size_t n) {
    const size_t k = m < n ? m : n;
    return (m * n + k * k + k) * sizeof(float);
}
/* u (N,m,k), s (N,k), v (N,n,k), sweeps (N) <- a (N,m,n), k = min(m,n) > 0: llm_svd of each matrix,
 * in float. u, v, sweeps may be NULL. A matrix with an entry that is not finite gives NaN. Fails
 * where llm_cuda_svd_shared exceeds LLM_CUDA_SVD_SHARED: up to 142 x 142, or 64 x 570. */
static inline __attribute__((unused)) cudaError_t llm_cuda_svd(float *u, float *s, float *v,
                                                               int *sweeps, const float *a,
                                                               size_t N, size_t m, size_t n,
                                                               cudaStream_t stream) {
    const size_t k = m < n ? m : n, shared = llm_cuda_svd_shared(m, n);
    if (k == 0 || shared > LLM_CUDA_SVD_SHARED) return (cudaError_t)cudaErrorInvalidValue;
    if (N == 0) return cudaSuccess;
    LLM_LAUNCH(llm_svd_kernel, (unsigned)N, k < 32 ? (unsigned)(k + 1) / 2 * 32 : 512, shared,
               stream, u, s, v, sweeps, a, m, n);
    return cudaGetLastError();
}

/* @svd_randomized ------------------------------------------- The first singular values, sketched
 *
 *     y = A G,  G (n,l) normal          and the products of the power steps: A z and A'y
 *
 * The sketch is two launches: the numbers of G, those that the reference draws from the same seed,
 * and the product of cuda_gemm. What is left of the algorithm is small: a QR of l columns, and the
 * SVD of (l,n), on the host or, when n allows it, by svd.
 *
 * Reads A once and writes y. A tile has 128 columns, so l up to 128 costs what 128 would: 2 m n 128
 * operations. Limit: float multiply-adds.
 *
 * source  Halko, Martinsson & Tropp 2011, "Finding structure with randomness", algorithm 4.1
 * needs   cuda_launch, cuda_memory, cuda_rng, cuda_gemm
 * see     svd, linear_map
 * topics  -
 */

/* Stores four entries of the product. */
struct llm_cuda_svd_randomized_end {
    float *y;
    size_t columns;
    LLM_DEVICE_METHOD void operator()(size_t r, size_t c, const float (&v)[4]) const {
        LLM_UNROLL
        for (size_t k = 0; k < 4; k++)
            if (c + k < columns) llm_store(y, r * columns + c + k, v[k]);
    }
};
/* y (m,l) <- a (m,n), z (n,l): A z; turned, y (n,l) <- a (m,n), z (m,l): A'z. */
static inline __attribute__((unused)) cudaError_t
llm_cuda_svd_randomized_product(float *y, const float *a, bool turned, const float *z, size_t m,
                                size_t n, size_t l, cudaStream_t stream) {
    const size_t rows = turned ? n : m, K = turned ? m : n;
    if (rows == 0 || l == 0) return cudaSuccess;
    const llm_cuda_svd_randomized_end end = {y, l};
    const auto product = turned ? llm_gemm_kernel<true, true, float, llm_cuda_svd_randomized_end>
                                : llm_gemm_kernel<false, true, float, llm_cuda_svd_randomized_end>;
    LLM_LAUNCH(product, llm_cuda_gemm_blocks(rows, l), 256, 0, stream, end, a, z, rows, l, K, K);
    return cudaGetLastError();
}
/* y (m,l) <- a (m,n): the first product of llm_svd_randomized with llm_rng_seed(seed). g (n,l) gets
 * the random matrix. */
static inline __attribute__((unused)) cudaError_t
llm_cuda_svd_randomized_sketch(float *y, float *g, const float *a, size_t m, size_t n, size_t l,
                               uint64_t seed, cudaStream_t stream) {
    const cudaError_t done[] = {llm_cuda_rng_normal_fill(g, n * l, seed, stream),
                                llm_cuda_svd_randomized_product(y, a, false, g, m, n, l, stream)};
    return llm_cuda_first_error(done);
}

/* @curse_of_dim --------------------------------------------- Curse of dimensionality
 *
 * Squared distances of all pairs, and the least and the largest of each row: a block makes tiles of
 * 64 x 64, sums of squared differences and not lengths minus twice a product, which would lose the
 * digits of near points. A thread keeps the extremes of its four rows through all its tiles,
 * sixteen threads share a row at the end, and blocks that share it meet in an atomic minimum and
 * maximum: of non-negative floats the bits order as the numbers do, and extremes do not depend on
 * the order.
 *
 * Reads x once for each 64 queries. The table is written only where it is wanted, 4 bytes a pair;
 * for the contrast 8 bytes a query are all. 3 Q N d operations. Limit: float arithmetic, two
 * instructions a step.
 *
 * source  -
 * needs   cuda_launch, cuda_memory, cuda_pairs
 * see     cosine_similarity
 * topics  -
 */
LLM_KERNEL void llm_curse_of_dim_start_kernel(float *least, float *most, size_t Q) {
    const size_t q = (size_t)blockIdx.x * 256 + threadIdx.x;
    if (q < Q && least) llm_store(least, q, INFINITY);
    if (q < Q && most) llm_store(most, q, 0.0f);
}
LLM_KERNEL void __launch_bounds__(256)
    llm_curse_of_dim_kernel(float *dist, float *least, float *most, const float *query,
                            const float *x, size_t Q, size_t N, size_t d, unsigned pieces) {
    const unsigned t = threadIdx.x, piece = blockIdx.x % pieces;
    const size_t row = blockIdx.x / pieces * LLM_PAIRS_TILE, first = row + t / 16 * 4;
    float low[4], high[4];
    LLM_UNROLL
    for (int i = 0; i < 4; i++) low[i] = INFINITY, high[i] = 0.0f;
    for (size_t column = (size_t)piece * LLM_PAIRS_TILE; column < N;
         column += (size_t)pieces * LLM_PAIRS_TILE) {
        float c[4][4], unused_a, unused_b;
        llm_pairs_tile<llm_pairs_distance>(c, unused_a, unused_b, query, row, Q, x, column, N, d);
        LLM_UNROLL
        for (unsigned i = 0; i < 16; i++) {
            const size_t q = first + i / 4, p = column + t % 16 * 4 + i % 4;
            if (q >= Q || p >= N) continue;
            const bool self = query == x && q == p;
            const float v = c[i / 4][i % 4];
            if (dist) llm_store(dist, q * N + p, self ? INFINITY : v);
            low[i / 4] = self ? low[i / 4] : fminf(low[i / 4], v); /* NaN counts as absent */
            high[i / 4] = self ? high[i / 4] : fmaxf(high[i / 4], v);
        }
    }
    LLM_UNROLL
    for (unsigned i = 0; i < 4; i++) {
        LLM_UNROLL
        for (int distance = 8; distance > 0; distance /= 2) {
            low[i] = fminf(low[i], __shfl_xor_sync(0xffffffffu, low[i], distance));
            high[i] = fmaxf(high[i], __shfl_xor_sync(0xffffffffu, high[i], distance));
        }
        if (t % 16 != 0 || first + i >= Q) continue;
        if (least) atomicMin((unsigned *)(void *)(least + first + i), __float_as_uint(low[i]));
        if (most) atomicMax((unsigned *)(void *)(most + first + i), __float_as_uint(high[i]));
    }
}

/* dist (Q,N), least (Q), most (Q) <- query (Q,d), x (N,d): squared distances and the extremes of
 * each row; each of the three may be NULL. Where query is x itself, a point is infinitely far from
 * itself, as in llm_curse_of_dim_distances, and not counted in the extremes; sums are floats.
 * sqrt(most / least) - 1 is llm_curse_of_dim_contrast. Of no points: infinity and 0. */
static inline __attribute__((unused)) cudaError_t
llm_cuda_curse_of_dim_distances(float *dist, float *least, float *most, const float *query,
                                const float *x, size_t Q, size_t N, size_t d, cudaStream_t stream) {
    const size_t tiles = (Q + LLM_PAIRS_TILE - 1) / LLM_PAIRS_TILE;
    if (Q == 0) return cudaSuccess;
    LLM_LAUNCH(llm_curse_of_dim_start_kernel, (unsigned)((Q + 255) / 256), 256, 0, stream, least,
               most, Q);
    if (N == 0) return cudaGetLastError();
    const size_t fill = (2 * (size_t)llm_multiprocessors() + tiles - 1) / tiles;
    const size_t full = (N + LLM_PAIRS_TILE - 1) / LLM_PAIRS_TILE;
    const unsigned pieces = (unsigned)(fill < full ? fill : full);
    LLM_LAUNCH(llm_curse_of_dim_kernel, (unsigned)tiles * pieces, 256, 0, stream, dist, least, most,
               query, x, Q, N, d, pieces);
    return cudaGetLastError();
}

/* @logsumexp ------------------------------------------------ Log-sum-exp
 *
 * One pass over the row. Each thread keeps a pair (max, sum) of what it has seen and rescales the
 * sum when the max grows; the pairs of a row are merged in a tree of shuffles. Merging is
 * associative, so rows may be cut anywhere.
 *
 * Reads each entry once and writes a float a row, the minimum. Limit: memory bandwidth.
 *
 * source  -
 * needs   cuda_launch, cuda_memory, cuda_reduce
 * see     softmax, cross_entropy
 * topics  -
 */

/* llm_logsumexp_merge on the device. gain is 1 / temperature: it multiplies differences, which are
 * small, and not the entries, whose last digits it would cost. */
LLM_DEVICE llm_logsumexp_pair llm_cuda_logsumexp_merge(llm_logsumexp_pair a, llm_logsumexp_pair b,
                                                       float gain) {
    if (!(a.max >= b.max)) {
        const llm_logsumexp_pair swap = a;
        a = b;
        b = swap;
    }
    a.sum += b.max == a.max ? b.sum : b.sum * expf((b.max - a.max) * gain);
    return a;
}
/* a with the entries v: one exp each, and one for the sum so far. Equal to the max is 1 without an
 * exp, which for two infinities would be NaN. */
template <int V>
LLM_DEVICE void llm_cuda_logsumexp_add(llm_logsumexp_pair &a, const float (&v)[V], float gain) {
    float max = a.max;
    LLM_UNROLL
    for (int k = 0; k < V; k++) max = fmaxf(max, v[k]);
    if (a.max != max) a.sum *= expf((a.max - max) * gain);
    LLM_UNROLL
    for (int k = 0; k < V; k++) a.sum += v[k] == max ? 1.0f : expf((v[k] - max) * gain);
    a.max = max;
}
/* The pair of the row, in every thread of it. */
template <bool warp>
LLM_DEVICE llm_logsumexp_pair llm_cuda_logsumexp_row(llm_logsumexp_pair a, float gain) {
    LLM_UNROLL
    for (int distance = 16; distance > 0; distance /= 2) {
        const llm_logsumexp_pair other = {__shfl_xor_sync(0xffffffffu, a.max, distance),
                                          __shfl_xor_sync(0xffffffffu, a.sum, distance)};
        a = llm_cuda_logsumexp_merge(a, other, gain);
    }
    if (warp || blockDim.x == 32) return a;
    __shared__ llm_logsumexp_pair part[32];
    const unsigned lane = threadIdx.x % 32;
    __syncthreads(); /* until the readers of a call before are done */
    if (lane == 0) part[threadIdx.x / 32] = a;
    __syncthreads();
    const llm_logsumexp_pair nothing = {-INFINITY, 0.0f};
    return llm_cuda_logsumexp_row<true>(lane < blockDim.x / 32 ? part[lane] : nothing, gain);
}

template <typename T, int V, bool warp>
LLM_KERNEL void llm_logsumexp_kernel(float *lse, const T *x, size_t rows, size_t n) {
    const llm_row_place p = llm_my_row<warp>();
    if (p.row >= rows) return; /* a whole warp, and no barrier follows */
    llm_logsumexp_pair a = {-INFINITY, 0.0f};
    for (size_t i = (size_t)p.lane * V; i < n; i += (size_t)p.width * V) {
        float v[V];
        llm_load_vector(v, x, p.row * n + i);
        llm_cuda_logsumexp_add(a, v, 1.0f);
    }
    a = llm_cuda_logsumexp_row<warp>(a, 1.0f);
    if (p.lane == 0) llm_store(lse, p.row, a.max + logf(a.sum));
}

/* lse (rows) <- x (rows,n), llm_logsumexp of each row; T is float or llm_bf16. */
template <typename T>
static inline cudaError_t llm_cuda_logsumexp(float *lse, const T *x, size_t rows, size_t n,
                                             cudaStream_t stream) {
    enum { V = 16 / sizeof(T) };
    if (rows == 0) return cudaSuccess;
    const bool wide = llm_aligned(x, n), warp = n <= 1024;
    const auto logsumexp =
        wide   ? warp ? llm_logsumexp_kernel<T, V, true> : llm_logsumexp_kernel<T, V, false>
          : warp ? llm_logsumexp_kernel<T, 1, true>
               : llm_logsumexp_kernel<T, 1, false>;
    LLM_LAUNCH(logsumexp, llm_row_blocks(rows, warp),
               warp ? 128 : llm_row_threads(wide ? n / V : n), 0, stream, lse, x, rows, n);
    return cudaGetLastError();
}

/* @softmax -------------------------------------------------- Softmax
 *
 * Forward: one pass for the pair (max, sum) of the row, as in logsumexp, one that divides. The
 * second starts at the end of the row, where the first has just been: what L1 still holds is read
 * before it is pushed out. Backward: one pass for sum_i p_i dp_i, one for the result.
 *
 * Moves 2 elements (x in, p out) for each element forwards and 4 backwards (p, dp, dx in; dx out),
 * the minimum, as long as the second reading is served by the caches: rows to 1024 from L1, long
 * rows from L2 (132 rows of 50257 floats are 27 MB). Limit: memory bandwidth; for bfloat16 the two
 * exps an element come close to it.
 *
 * source  -
 * needs   cuda_launch, cuda_memory, cuda_reduce, logsumexp
 * see     cross_entropy
 * topics  -
 */
/* v <- x[i], ...; -inf where the mask is false. */
template <typename T, int V>
LLM_DEVICE void llm_cuda_softmax_load(float (&v)[V], const T *x, const bool *mask, size_t i) {
    llm_load_vector(v, x, i);
    if (!mask) return;
    LLM_UNROLL
    for (int k = 0; k < V; k++) v[k] = mask[i + k] ? v[k] : -INFINITY;
}
template <typename T, int V, bool warp>
LLM_KERNEL void llm_softmax_forward_kernel(T *p, const T *x, const bool *mask, size_t rows,
                                           size_t n, float gain) {
    const llm_row_place at = llm_my_row<warp>();
    if (at.row >= rows) return;
    const size_t first = at.row * n, begin = (size_t)at.lane * V, step = (size_t)at.width * V;
    llm_logsumexp_pair a = {-INFINITY, 0.0f};
    float v[V];
    size_t i = begin;
    for (; i < n; i += step) {
        llm_cuda_softmax_load(v, x, mask, first + i);
        llm_cuda_logsumexp_add(a, v, gain);
    }
    a = llm_cuda_logsumexp_row<warp>(a, gain);
    const float scale = 1.0f / a.sum;
    while (i > begin) {
        i -= step;
        llm_cuda_softmax_load(v, x, mask, first + i);
        LLM_UNROLL
        for (int k = 0; k < V; k++) {
            const float z = (v[k] - a.max) * gain;
            v[k] = v[k] == -INFINITY ? 0.0f : expf(z) * scale; /* -inf - -inf is no 0 */
        }
        llm_store_vector(p, first + i, v);
    }
}

/* p (rows,n) <- x (rows,n): as llm_softmax_forward. mask (rows,n) or NULL: an entry where it is
 * false gets 0, whatever x holds there, and a row without any other becomes zeros. p may be x. */
template <typename T>
static inline cudaError_t llm_cuda_softmax_masked(T *p, const T *x, const bool *mask, size_t rows,
                                                  size_t n, float temp, cudaStream_t stream) {
    enum { V = 16 / sizeof(T) };
    if (rows == 0 || n == 0) return cudaSuccess;
    const bool wide = llm_aligned(p, n) && llm_aligned(x, n), warp = n <= 1024;
    const auto softmax_forward = wide   ? warp ? llm_softmax_forward_kernel<T, V, true>
                                               : llm_softmax_forward_kernel<T, V, false>
                                   : warp ? llm_softmax_forward_kernel<T, 1, true>
                                        : llm_softmax_forward_kernel<T, 1, false>;
    LLM_LAUNCH(softmax_forward, llm_row_blocks(rows, warp),
               warp ? 128 : llm_row_threads(wide ? n / V : n), 0, stream, p, x, mask, rows, n,
               1.0f / temp);
    return cudaGetLastError();
}
/* Arguments as llm_softmax_forward; T is float or llm_bf16. */
template <typename T>
static inline cudaError_t llm_cuda_softmax_forward(T *p, const T *x, size_t rows, size_t n,
                                                   float temp, cudaStream_t stream) {
    return llm_cuda_softmax_masked(p, x, (const bool *)NULL, rows, n, temp, stream);
}

template <typename T, int V, bool warp>
LLM_KERNEL void llm_softmax_backward_kernel(T *dx, const T *dp, const T *p, size_t rows, size_t n,
                                            float gain) {
    const llm_row_place at = llm_my_row<warp>();
    if (at.row >= rows) return;
    const size_t first = at.row * n, begin = (size_t)at.lane * V, step = (size_t)at.width * V;
    float p_v[V], dp_v[V], dx_v[V], average = 0.0f;
    size_t i = begin;
    for (; i < n; i += step) {
        llm_load_vector(p_v, p, first + i);
        llm_load_vector(dp_v, dp, first + i);
        LLM_UNROLL
        for (int k = 0; k < V; k++) average += p_v[k] * dp_v[k];
    }
    average = llm_row_sum<warp>(average);
    while (i > begin) {
        i -= step;
        llm_load_vector(p_v, p, first + i);
        llm_load_vector(dp_v, dp, first + i);
        llm_load_vector(dx_v, dx, first + i);
        LLM_UNROLL
        for (int k = 0; k < V; k++) dx_v[k] += p_v[k] * (dp_v[k] - average) * gain;
        llm_store_vector(dx, first + i, dx_v);
    }
}

/* dx (rows,n) +=: arguments as llm_softmax_backward; T is float or llm_bf16. A mask needs nothing
 * here: its entries have p = 0. */
template <typename T>
static inline cudaError_t llm_cuda_softmax_backward(T *dx, const T *dp, const T *p, size_t rows,
                                                    size_t n, float temp, cudaStream_t stream) {
    enum { V = 16 / sizeof(T) };
    if (rows == 0 || n == 0) return cudaSuccess;
    const bool wide = llm_aligned(dx, n) && llm_aligned(dp, n) && llm_aligned(p, n);
    const bool warp = n <= 1024;
    const auto softmax_backward = wide   ? warp ? llm_softmax_backward_kernel<T, V, true>
                                                : llm_softmax_backward_kernel<T, V, false>
                                    : warp ? llm_softmax_backward_kernel<T, 1, true>
                                         : llm_softmax_backward_kernel<T, 1, false>;
    LLM_LAUNCH(softmax_backward, llm_row_blocks(rows, warp),
               warp ? 128 : llm_row_threads(wide ? n / V : n), 0, stream, dx, dp, p, rows, n,
               1.0f / temp);
    return cudaGetLastError();
}

/* @02-prob ============================================= PROBABILITY, STATISTICS AND INFORMATION */

/* @distribution_sample -------------------------- Drawing from a distribution, and testing a sample
 *
 * n draws, a thread each, and each with a generator of its own: entry i is what llm_distribution_
 * sample draws with llm_rng_seed(seed + i). So the rejection of gamma, which takes as many numbers
 * as it needs, changes nothing for its neighbours, the draws do not depend on how the grid is cut,
 * and entry i can be drawn again alone. A state is a key and a counter, in registers: nothing is
 * set up and nothing is read. The arithmetic is in double, as in the reference, so that both accept
 * the same candidates and tails reach 8 deviations; normals in quantity and in float are cheaper
 * from llm_cuda_rng_normal_fill.
 *
 * Writes 4 bytes a draw, the minimum. Limit: double arithmetic, an inverse normal and three
 * logarithms for a gamma variable; fewer than 5 of 100 lanes wait for a second candidate.
 *
 * source  Marsaglia & Tsang 2000, "A simple method for generating gamma variables"
 * needs   special_inverse, distribution, cuda_launch, cuda_memory, cuda_rng
 * see     temperature (Gumbel), bootstrap
 * topics  -
 */

/* llm_rng for llm_distribution_sample_uniform alone: two words a draw. */
struct llm_cuda_distribution_sample_stream {
    uint64_t key, drawn;
    uint32_t word[4];
};
/* Uniform in (0,1) on 53 bits. */
LLM_DEVICE double
llm_cuda_distribution_sample_uniform(llm_cuda_distribution_sample_stream &stream) {
    const bool second = stream.drawn % 2 == 1; /* of the block */
    if (!second) llm_cuda_philox(stream.word, stream.drawn / 2, stream.key);
    stream.drawn++;
    const uint32_t a = second ? stream.word[2] : stream.word[0];
    const uint32_t b = second ? stream.word[3] : stream.word[1];
    return ((double)(a >> 5) * 67108864.0 + (double)(b >> 6) + 0.5) / 9007199254740992.0;
}
/* The quantile of the standard normal: under nvcc CUDA's, elsewhere the book's. */
LLM_DEVICE double llm_cuda_distribution_sample_inverse_normal(double p) {
#ifdef __CUDACC__
    return normcdfinv(p);
#else
    return llm_special_inverse_normal(p);
#endif
}
/* llm_distribution_sample_log_gamma. */
LLM_DEVICE double
llm_cuda_distribution_sample_log_gamma(double a, llm_cuda_distribution_sample_stream &stream) {
    double boost = 0.0;
    if (a < 1.0) boost = log(llm_cuda_distribution_sample_uniform(stream)) / a, a += 1.0;
    const double d = a - 1.0 / 3.0;
    for (;;) {
        const double z = llm_cuda_distribution_sample_inverse_normal(
            llm_cuda_distribution_sample_uniform(stream));
        const double root = 1.0 + z / sqrt(9.0 * d), v = root * root * root;
        if (root <= 0.0) continue;
        const double u = llm_cuda_distribution_sample_uniform(stream);
        if (log(u) < 0.5 * z * z + d * (1.0 - v + log(v))) return log(d * v) + boost;
    }
}
/* The standard form of a kind whose quantile is a formula, at u in (0,1): from the smaller tail. */
LLM_DEVICE double llm_cuda_distribution_sample_inverse(int kind, double u) {
    const double tail = fmin(u, 1.0 - u);
    const double z =
        kind == LLM_DISTRIBUTION_NORMAL     ? llm_cuda_distribution_sample_inverse_normal(tail)
        : kind == LLM_DISTRIBUTION_LAPLACE  ? log(2.0 * tail)
        : kind == LLM_DISTRIBUTION_LOGISTIC ? log(tail) - log1p(-tail)
                                            : -1.0 / tan(3.14159265358979323846 * tail);
    return u > 0.5 ? -z : z;
}
LLM_KERNEL void llm_distribution_sample_kernel(float *x, llm_distribution d, size_t n,
                                               uint64_t seed) {
    const size_t i = (size_t)blockIdx.x * 256 + threadIdx.x;
    if (i >= n) return;
    llm_cuda_distribution_sample_stream stream = {seed + i, 0, {0, 0, 0, 0}};
    double z = 0.0, log_g = 0.0;
    switch (d.kind) {
    case LLM_DISTRIBUTION_GAMMA:
        z = exp(llm_cuda_distribution_sample_log_gamma(d.a, stream));
        break;
    case LLM_DISTRIBUTION_CHI_SQUARED:
        z = 2.0 * exp(llm_cuda_distribution_sample_log_gamma(0.5 * d.a, stream));
        break;
    case LLM_DISTRIBUTION_BETA:
        log_g = llm_cuda_distribution_sample_log_gamma(d.a, stream);
        z = 1.0 / (1.0 + exp(llm_cuda_distribution_sample_log_gamma(d.b, stream) - log_g));
        break;
    case LLM_DISTRIBUTION_STUDENT_T:
        log_g = llm_cuda_distribution_sample_log_gamma(0.5 * d.a, stream);
        z = llm_cuda_distribution_sample_inverse_normal(
                llm_cuda_distribution_sample_uniform(stream)) *
            exp(0.5 * (log(0.5 * d.a) - log_g));
        break;
    case LLM_DISTRIBUTION_UNIFORM:
        z = llm_cuda_distribution_sample_uniform(stream);
        break;
    case LLM_DISTRIBUTION_EXPONENTIAL:
        z = -log(llm_cuda_distribution_sample_uniform(stream));
        break;
    default:
        z = llm_cuda_distribution_sample_inverse(d.kind,
                                                 llm_cuda_distribution_sample_uniform(stream));
    }
    llm_store(x, i, (float)(d.loc + d.scale * z));
}

/* x (n) <- draws from d, entry i by llm_rng_seed(seed + i). Two calls want seeds that are further
 * apart than their n. Fails for a d that is not llm_distribution_valid. */
static inline __attribute__((unused)) cudaError_t
llm_cuda_distribution_sample(float *x, const llm_distribution *d, size_t n, uint64_t seed,
                             cudaStream_t stream) {
    if (!llm_distribution_valid(d)) return (cudaError_t)cudaErrorInvalidValue;
    if (n == 0) return cudaSuccess;
    LLM_LAUNCH(llm_distribution_sample_kernel, (unsigned)((n + 255) / 256), 256, 0, stream, x, *d,
               n, seed);
    return cudaGetLastError();
}

/* @log_likelihood ------------------------------------------- Log-likelihood
 *
 * The log-likelihood of each of many sequences that lie one behind the other, of any lengths: a
 * block a sequence gathers the log-probability of each token and adds in double and in a fixed
 * order, so that -1e5 of a long document keeps its digits and a run can be repeated to the bit.
 *
 * Reads a token and one entry of its row, of which memory brings a sector of 32 bytes, and writes a
 * double a sequence: the minimum. Limit: the latency of single sectors, and the longest sequence
 * where it is longer than the others.
 *
 * source  -
 * needs   cuda_launch, cuda_memory, cuda_reduce
 * see     nll, perplexity
 * topics  -
 */
template <typename T>
LLM_KERNEL void llm_log_likelihood_kernel(double *l, const T *logp, const int *token,
                                          const size_t *start, int ignore, size_t V) {
    const size_t end = start[blockIdx.x + 1];
    double sum = 0.0;
    for (size_t n = start[blockIdx.x] + threadIdx.x; n < end; n += blockDim.x) {
        const int y = token[n];
        if (y == ignore) continue;
        const bool known = y >= 0 && (size_t)y < V;
        sum += known ? (double)llm_load(logp, n * V + (size_t)y) : (double)NAN;
    }
    sum = llm_block_sum(sum);
    if (threadIdx.x == 0) l[blockIdx.x] = sum;
}

/* l (B) <- the sum of logp[n,token[n]] over start[b] <= n < start[b+1], for B sequences. logp
 * (start[B],V), token (start[B]); tokens equal to `ignore` count nothing, other ones outside 0..V-1
 * make their sequence NaN. start (B + 1) rises. T is float or llm_bf16. */
template <typename T>
static inline cudaError_t
llm_cuda_log_likelihood_segments(double *l, const T *logp, const int *token, const size_t *start,
                                 int ignore, size_t B, size_t V, cudaStream_t stream) {
    if (B == 0) return cudaSuccess;
    LLM_LAUNCH(llm_log_likelihood_kernel<T>, (unsigned)B, 256, 0, stream, l, logp, token, start,
               ignore, V);
    return cudaGetLastError();
}

/* @nll ------------------------------------------------------ Negative log-likelihood
 *
 * Gathers the target's entry of each row of log-probabilities and adds the losses and the weights
 * in one pass: each block leaves a pair of doubles, and one block adds the pairs. How many blocks
 * there are depends on N alone, and no atomics are used, so the sum has the same bits in every run
 * and on every card. Backward touches one entry a row.
 *
 * Reads a target and a sector of 32 bytes a row: the minimum, when the log-probabilities exist
 * already. Where they do not, cross_entropy or perplexity save writing them. Limit: the latency of
 * single sectors.
 *
 * source  -
 * needs   cuda_launch, cuda_memory, cuda_reduce
 * see     cross_entropy, perplexity, log_likelihood
 * topics  -
 */
enum { LLM_CUDA_NLL_BLOCKS = 1024, LLM_CUDA_NLL_SCRATCH = 2 + 2 * LLM_CUDA_NLL_BLOCKS };

/* The weight of target y; a target that does not exist is NaN. */
LLM_DEVICE float llm_cuda_nll_weight(const float *weight, int y, size_t V) {
    if (y < 0 || (size_t)y >= V) return NAN;
    return weight ? llm_load(weight, (size_t)y) : 1.0f;
}
template <typename T>
LLM_KERNEL void llm_nll_kernel(double *total, float *loss, const T *logp, const int *target,
                               const float *weight, int ignore, size_t N, size_t V) {
    double sum = 0.0, kept = 0.0;
    for (size_t n = (size_t)blockIdx.x * 256 + threadIdx.x; n < N; n += (size_t)gridDim.x * 256) {
        const int y = target[n];
        float l = 0.0f;
        if (y != ignore) {
            const float w = llm_cuda_nll_weight(weight, y, V);
            l = w != w ? w : -w * llm_load(logp, n * V + (size_t)y);
            sum += (double)l, kept += (double)w;
        }
        if (loss) llm_store(loss, n, l);
    }
    sum = llm_block_sum(sum);
    kept = llm_block_sum(kept);
    if (threadIdx.x == 0) total[2 + 2 * blockIdx.x] = sum, total[3 + 2 * blockIdx.x] = kept;
}
LLM_KERNEL void llm_nll_total_kernel(float *reduced, double *total, unsigned parts, int reduction) {
    double sum = threadIdx.x < parts ? total[2 + 2 * threadIdx.x] : 0.0;
    double kept = threadIdx.x < parts ? total[3 + 2 * threadIdx.x] : 0.0;
    sum = llm_block_sum(sum);
    kept = llm_block_sum(kept);
    if (threadIdx.x != 0) return;
    total[0] = sum, total[1] = kept;
    *reduced = (float)(reduction == LLM_NLL_NONE  ? 0.0
                       : reduction == LLM_NLL_SUM ? sum
                                                  : sum / kept);
}

/* reduced (1), loss (N) or NULL <- logp (N,V), target (N), weight (V) or NULL: what llm_nll_forward
 * returns and writes. total (LLM_CUDA_NLL_SCRATCH): scratch, but its first two are the sum of the
 * losses and that of the weights. A target outside 0..V-1 has NaN as its loss. T is float or
 * llm_bf16. */
template <typename T>
static inline cudaError_t llm_cuda_nll_forward(float *reduced, double *total, float *loss,
                                               const T *logp, const int *target,
                                               const float *weight, int ignore, int reduction,
                                               size_t N, size_t V, cudaStream_t stream) {
    const size_t blocks =
        N < 256 * (size_t)LLM_CUDA_NLL_BLOCKS ? (N + 255) / 256 : (size_t)LLM_CUDA_NLL_BLOCKS;
    if (N > 0)
        LLM_LAUNCH(llm_nll_kernel<T>, (unsigned)blocks, 256, 0, stream, total, loss, logp, target,
                   weight, ignore, N, V);
    LLM_LAUNCH(llm_nll_total_kernel, 1, LLM_CUDA_NLL_BLOCKS, 0, stream, reduced, total,
               (unsigned)blocks, reduction);
    return cudaGetLastError();
}

template <typename T>
LLM_KERNEL void llm_nll_backward_kernel(T *dlogp, const float *dloss, const double *total,
                                        const int *target, const float *weight, int ignore,
                                        int reduction, size_t N, size_t V) {
    const size_t n = (size_t)blockIdx.x * 256 + threadIdx.x;
    if (n >= N || target[n] == ignore) return;
    const float w = llm_cuda_nll_weight(weight, target[n], V);
    if (w != w) return; /* nowhere to write; the loss has said it */
    const size_t at = n * V + (size_t)target[n];
    const float up = llm_load(dloss, reduction == LLM_NLL_NONE ? n : 0);
    const double share = reduction == LLM_NLL_MEAN ? (double)w / total[1] : (double)w;
    llm_store(dlogp, at, llm_load(dlogp, at) - (float)(share * (double)up));
}
/* dlogp (N,V) +=: as llm_nll_backward. total is forward's, and read for the mean only. */
template <typename T>
static inline cudaError_t llm_cuda_nll_backward(T *dlogp, const float *dloss, const double *total,
                                                const int *target, const float *weight, int ignore,
                                                int reduction, size_t N, size_t V,
                                                cudaStream_t stream) {
    if (N == 0) return cudaSuccess;
    LLM_LAUNCH(llm_nll_backward_kernel<T>, (unsigned)((N + 255) / 256), 256, 0, stream, dlogp,
               dloss, total, target, weight, ignore, reduction, N, V);
    return cudaGetLastError();
}

/* @entropy -------------------------------------------------- Shannon entropy
 *
 * Row entropies from logits in one pass: beside the pair (max, sum) of logsumexp each thread keeps
 * the sum of e (z - max), e = exp(z - max). When the max grows by d, what has been summed shrinks
 * by exp(-d) and each of its terms was d too near to the max:
 *     sum' = exp(-d) sum        moment' = exp(-d) (moment - d sum)
 * and H = log sum - moment / sum. Triples are merged by the same rule in any order.
 *
 * Forward reads each logit once and writes two floats a row, the minimum; backward moves 3 elements
 * (z and dz in, dz out), the minimum of a gradient that is added. Limit: memory bandwidth.
 *
 * source  -
 * needs   cuda_launch, cuda_memory, cuda_reduce
 * see     cross_entropy, logsumexp
 * topics  -
 */
struct llm_cuda_entropy_triple {
    float max, sum, moment;
};

/* a seen from a max that is not below its own. A sum of 0 stays one, also at a max of -inf. */
LLM_DEVICE void llm_cuda_entropy_raise(llm_cuda_entropy_triple &a, float max) {
    const float d = a.max - max;
    if (a.sum != 0.0f && d != 0.0f) {
        const float e = expf(d);
        a.moment = e == 0.0f ? 0.0f : e * (a.moment + d * a.sum);
        a.sum *= e;
    }
    a.max = max;
}
LLM_DEVICE llm_cuda_entropy_triple llm_cuda_entropy_merge(llm_cuda_entropy_triple a,
                                                          llm_cuda_entropy_triple b) {
    const float max = fmaxf(a.max, b.max);
    llm_cuda_entropy_raise(a, max);
    llm_cuda_entropy_raise(b, max);
    a.sum += b.sum, a.moment += b.moment;
    return a;
}
template <bool warp>
LLM_DEVICE llm_cuda_entropy_triple llm_cuda_entropy_row(llm_cuda_entropy_triple a) {
    LLM_UNROLL
    for (int distance = 16; distance > 0; distance /= 2) {
        const llm_cuda_entropy_triple other = {__shfl_xor_sync(0xffffffffu, a.max, distance),
                                               __shfl_xor_sync(0xffffffffu, a.sum, distance),
                                               __shfl_xor_sync(0xffffffffu, a.moment, distance)};
        a = llm_cuda_entropy_merge(a, other);
    }
    if (warp || blockDim.x == 32) return a;
    __shared__ llm_cuda_entropy_triple part[32];
    const unsigned lane = threadIdx.x % 32;
    if (lane == 0) part[threadIdx.x / 32] = a; /* called once in a kernel: nobody reads yet */
    __syncthreads();
    const llm_cuda_entropy_triple nothing = {-INFINITY, 0.0f, 0.0f};
    return llm_cuda_entropy_row<true>(lane < blockDim.x / 32 ? part[lane] : nothing);
}

template <typename T, int V, bool warp>
LLM_KERNEL void llm_entropy_forward_kernel(float *h, float *lse, const T *z, size_t rows,
                                           size_t n) {
    const llm_row_place at = llm_my_row<warp>();
    if (at.row >= rows) return; /* a whole warp, and no barrier follows */
    llm_cuda_entropy_triple a = {-INFINITY, 0.0f, 0.0f};
    for (size_t i = (size_t)at.lane * V; i < n; i += (size_t)at.width * V) {
        float v[V], max = a.max;
        llm_load_vector(v, z, at.row * n + i);
        LLM_UNROLL
        for (int k = 0; k < V; k++) max = fmaxf(max, v[k]);
        llm_cuda_entropy_raise(a, max);
        LLM_UNROLL
        for (int k = 0; k < V; k++) {
            if (v[k] == -INFINITY) continue; /* 0 times -inf */
            const float d = v[k] - max, e = expf(d);
            a.sum += e;
            a.moment += e * d;
        }
    }
    a = llm_cuda_entropy_row<warp>(a);
    if (at.lane != 0) return;
    const float log_sum = logf(a.sum), entropy = a.sum == 0.0f ? 0.0f : log_sum - a.moment / a.sum;
    llm_store(h, at.row, entropy < 0.0f ? 0.0f : entropy);
    if (lse) llm_store(lse, at.row, a.max + log_sum);
}

/* h (N), lse (N) or NULL <- z (N,V): as llm_entropy_logits_forward; a row with a NaN has NaN. T is
 * float or llm_bf16. */
template <typename T>
static inline cudaError_t llm_cuda_entropy_logits_forward(float *h, float *lse, const T *z,
                                                          size_t N, size_t V, cudaStream_t stream) {
    enum { W = 16 / sizeof(T) };
    if (N == 0) return cudaSuccess;
    const bool wide = llm_aligned(z, V), warp = V <= 1024;
    const auto entropy_forward = wide   ? warp ? llm_entropy_forward_kernel<T, W, true>
                                               : llm_entropy_forward_kernel<T, W, false>
                                   : warp ? llm_entropy_forward_kernel<T, 1, true>
                                        : llm_entropy_forward_kernel<T, 1, false>;
    LLM_LAUNCH(entropy_forward, llm_row_blocks(N, warp),
               warp ? 128 : llm_row_threads(wide ? V / W : V), 0, stream, h, lse, z, N, V);
    return cudaGetLastError();
}

template <typename T, int V>
LLM_KERNEL void llm_entropy_backward_kernel(T *dz, const float *dh, const T *z, const float *h,
                                            const float *lse, size_t n) {
    const llm_place at = llm_my_place<V>(n);
    if (at.column >= n) return;
    const float up = llm_load(dh, at.row), entropy = llm_load(h, at.row);
    const float base = llm_load(lse, at.row);
    float v[V], d[V];
    llm_load_vector(v, z, at.row * n + at.column);
    llm_load_vector(d, dz, at.row * n + at.column);
    LLM_UNROLL
    for (int k = 0; k < V; k++) {
        const float log_p = v[k] - base;
        if (v[k] != -INFINITY) d[k] -= up * expf(log_p) * (log_p + entropy);
    }
    llm_store_vector(dz, at.row * n + at.column, d);
}

/* dz (N,V) +=: as llm_entropy_logits_backward; T is float or llm_bf16. */
template <typename T>
static inline cudaError_t
llm_cuda_entropy_logits_backward(T *dz, const float *dh, const T *z, const float *h,
                                 const float *lse, size_t N, size_t V, cudaStream_t stream) {
    enum { W = 16 / sizeof(T) };
    if (N == 0 || V == 0) return cudaSuccess;
    const bool wide = llm_aligned(dz, V) && llm_aligned(z, V);
    const auto entropy_backward =
        wide ? llm_entropy_backward_kernel<T, W> : llm_entropy_backward_kernel<T, 1>;
    LLM_LAUNCH(entropy_backward, llm_place_blocks(N, V, wide ? (size_t)W : 1), 256, 0, stream, dz,
               dh, z, h, lse, V);
    return cudaGetLastError();
}

/* @cross_entropy -------------------------------------------- Cross-entropy
 *
 * Loss and gradient at once, in place: the logits of a language model are the largest array of a
 * training step, and softmax, loss and gradient as three kernels would move them six times. One
 * block a row: one pass for the pair (max, sum), one backwards over the row that writes the
 * gradient where the logit stood. The thread that meets the target's logit there writes the loss.
 *
 * Moves 2 elements (logit in, gradient out) for each logit, the minimum, where L1 and L2 serve the
 * second reading; rows whose target is ignored are only written. Limit: memory bandwidth.
 *
 * source  -
 * needs   cuda_launch, cuda_memory, logsumexp
 * see     softmax, perplexity
 * topics  -
 */
template <typename T, int V>
LLM_KERNEL void llm_cross_entropy_kernel(float *loss, T *logits, const int *target,
                                         const float *weight, size_t classes, float scale,
                                         float z_loss) {
    const size_t first = blockIdx.x * classes, begin = (size_t)threadIdx.x * V;
    const size_t step = (size_t)blockDim.x * V;
    const int y = target[blockIdx.x];
    float v[V];
    if (y == LLM_CROSS_ENTROPY_IGNORE) {
        for (int k = 0; k < V; k++) v[k] = 0.0f;
        for (size_t i = begin; i < classes; i += step) llm_store_vector(logits, first + i, v);
        if (threadIdx.x == 0) llm_store(loss, blockIdx.x, 0.0f);
        return; /* the whole block */
    }
    const bool known = y >= 0 && (size_t)y < classes;
    const float w = weight && known ? llm_load(weight, (size_t)y) : 1.0f;
    if (threadIdx.x == 0 && !known) llm_store(loss, blockIdx.x, NAN);

    llm_logsumexp_pair a = {-INFINITY, 0.0f};
    size_t i = begin;
    for (; i < classes; i += step) {
        llm_load_vector(v, logits, first + i);
        llm_cuda_logsumexp_add(a, v, 1.0f);
    }
    a = llm_cuda_logsumexp_row<false>(a, 1.0f);
    const float log_sum = logf(a.sum), lse = a.max + log_sum;
    const float gain = scale * (w + 2.0f * z_loss * lse) / a.sum;
    while (i > begin) {
        i -= step;
        llm_load_vector(v, logits, first + i);
        LLM_UNROLL
        for (int k = 0; k < V; k++) {
            const float z = v[k];
            v[k] = gain * expf(z - a.max);
            if ((size_t)y == i + k) { /* one thread of the block */
                v[k] -= scale * w;
                llm_store(loss, blockIdx.x, w * ((a.max - z) + log_sum) + z_loss * lse * lse);
            }
        }
        llm_store_vector(logits, first + i, v);
    }
}

/* loss (N), logits (N,V) <- logits, target (N), weight (V) or NULL: as llm_cross_entropy_in_place;
 * T is float or llm_bf16. A target outside 0..V-1 has NaN as its loss. */
template <typename T>
static inline cudaError_t llm_cuda_cross_entropy_in_place(float *loss, T *logits, const int *target,
                                                          const float *weight, size_t N, size_t V,
                                                          float scale, float z_loss,
                                                          cudaStream_t stream) {
    enum { wide = 16 / sizeof(T) };
    if (N == 0 || V == 0) return cudaSuccess;
    const bool aligned = llm_aligned(logits, V);
    const auto cross_entropy =
        aligned ? llm_cross_entropy_kernel<T, wide> : llm_cross_entropy_kernel<T, 1>;
    LLM_LAUNCH(cross_entropy, (unsigned)N, llm_row_threads(aligned ? V / wide : V), 0, stream, loss,
               logits, target, weight, V, scale, z_loss);
    return cudaGetLastError();
}

/* @bce ------------------------------------------------------ Binary cross-entropy
 *
 * Loss, gradient and the sum of the losses in one pass over the logits, for BCE with logits and for
 * focal loss: both need e^-|z|, and as forward, backward and reduction they would read the logits
 * twice, the targets twice and the losses once. Each block leaves the sum of its losses, a second
 * kernel adds those in double. The number of blocks depends on the number of entries alone, and
 * nothing is atomic: the same bits in every run.
 *
 * Moves the logit, its float target and the gradient, 12 bytes an entry for float and 8 for
 * bfloat16, the minimum; 4 more for weights and for losses where they are wanted. An exp, a
 * log1p and a division an entry, and a pow for focal loss. Limit: memory bandwidth; the arithmetic
 * of pow for focal loss in bfloat16.
 *
 * source  -
 * needs   cuda_launch, cuda_memory, cuda_reduce
 * see     cross_entropy, nll
 * topics  -
 */
enum { LLM_CUDA_BCE_BLOCKS = 1024 };

struct llm_cuda_bce_form { /* which loss, and its settings */
    const float *weight, *pos_weight;
    float alpha, gamma;
};
struct llm_cuda_bce_logit {
    float plus, minus, yes, no; /* softplus(z), softplus(-z), sigmoid(z), sigmoid(-z) */
};
/* Both softplus and both sigmoids of z, from e^-|z|. */
LLM_DEVICE llm_cuda_bce_logit llm_cuda_bce_parts(float z) {
    const float e = expf(-fabsf(z)), log = log1pf(e), near = 1.0f / (1.0f + e), far = e * near;
    const llm_cuda_bce_logit q = {fmaxf(z, 0.0f) + log, fmaxf(-z, 0.0f) + log,
                                  z >= 0.0f ? near : far, z >= 0.0f ? far : near};
    return q;
}
/* Returns the loss of (z, y), *slope its derivative. One of two losses is not touched at y = 0 and
 * y = 1: there it may be infinite. */
template <bool focal>
LLM_DEVICE float llm_cuda_bce_entry(float *slope, float z, float y, float positive,
                                    const llm_cuda_bce_form &form) {
    const llm_cuda_bce_logit q = llm_cuda_bce_parts(z);
    const float n = 1.0f - y, wy = positive * y;
    const float loss = y == 0.0f ? q.plus : y == 1.0f ? wy * q.minus : n * q.plus + wy * q.minus;
    *slope = n * q.yes - wy * q.no;
    if (!(y >= 0.0f && y <= 1.0f)) return *slope = NAN;
    if (!focal) return loss;
    const float a = form.alpha >= 0.0f ? form.alpha * y + (1.0f - form.alpha) * n : 1.0f;
    const float miss = y * q.no + n * q.yes, power = a * powf(miss, form.gamma);
    const float turn = miss > 0.0f ? q.yes * q.no / miss : 0.0f;
    *slope = power * (form.gamma * turn * (n - y) * loss + *slope);
    return power * loss;
}
template <typename T, int V, bool focal>
LLM_KERNEL void llm_bce_kernel(double *part, float *loss, T *dz, const T *z, const float *y,
                               llm_cuda_bce_form form, size_t n, size_t L, float scale) {
    const size_t step = (size_t)gridDim.x * 256 * V, jump = form.pos_weight ? step % L : 0;
    size_t i = ((size_t)blockIdx.x * 256 + threadIdx.x) * V;
    size_t label = form.pos_weight ? i % L : 0; /* two divisions a thread */
    double sum = 0.0;
    for (; i < n; i += step) {
        float z_v[V], y_v[V], w_v[V], l_v[V], d_v[V], near = 0.0f;
        llm_load_vector(z_v, z, i);
        llm_load_vector(y_v, y, i);
        if (form.weight) llm_load_vector(w_v, form.weight, i);
        size_t column = label;
        LLM_UNROLL
        for (int k = 0; k < V; k++) {
            const float w = form.weight ? w_v[k] : 1.0f;
            const float positive = form.pos_weight ? llm_load(form.pos_weight, column) : 1.0f;
            column = column + 1 < L ? column + 1 : 0;
            l_v[k] = w * llm_cuda_bce_entry<focal>(&d_v[k], z_v[k], y_v[k], positive, form);
            d_v[k] *= scale * w;
            near += l_v[k];
        }
        sum += (double)near;
        if (loss) llm_store_vector(loss, i, l_v);
        if (dz) llm_store_vector(dz, i, d_v);
        label = label + jump < L ? label + jump : label + jump - L;
    }
    sum = llm_block_sum(sum);
    if (threadIdx.x == 0) part[blockIdx.x] = sum;
}
LLM_KERNEL void llm_bce_total_kernel(double *total, const double *part, unsigned parts) {
    const double sum = llm_block_sum(threadIdx.x < parts ? part[threadIdx.x] : 0.0);
    if (threadIdx.x == 0) *total = sum;
}
template <typename T, bool focal>
static inline cudaError_t llm_cuda_bce(double *total, double *part, float *loss, T *dz, const T *z,
                                       const float *y, llm_cuda_bce_form form, size_t n, size_t L,
                                       float scale, cudaStream_t stream) {
    enum { W = 16 / sizeof(T) };
    const bool wide = n % W == 0 && llm_aligned(loss, W) && llm_aligned(dz, W) &&
                      llm_aligned(z, W) && llm_aligned(y, W) && llm_aligned(form.weight, W);
    const size_t each = 256 * (wide ? (size_t)W : 1), most = LLM_CUDA_BCE_BLOCKS;
    const size_t blocks = (n + each - 1) / each < most ? (n + each - 1) / each : most;
    const auto bce = wide ? llm_bce_kernel<T, W, focal> : llm_bce_kernel<T, 1, focal>;
    if (n > 0)
        LLM_LAUNCH(bce, (unsigned)blocks, 256, 0, stream, part, loss, dz, z, y, form, n, L, scale);
    LLM_LAUNCH(llm_bce_total_kernel, 1, LLM_CUDA_BCE_BLOCKS, 0, stream, total, part,
               (unsigned)blocks);
    return cudaGetLastError();
}

/* *total <- the sum of the losses; loss (N,L) or NULL; dz (N,L) or NULL <- scale times the gradient
 * of that sum, scale 1 / (N L) for the mean. z, y (N,L), weight (N,L) or NULL, pos_weight (L) or
 * NULL: as llm_bce_logits_forward and _backward. dz may be z. A target outside [0,1] has NaN. part
 * (LLM_CUDA_BCE_BLOCKS) is scratch; T is float or llm_bf16. */
template <typename T>
static inline cudaError_t llm_cuda_bce_logits(double *total, double *part, float *loss, T *dz,
                                              const T *z, const float *y, const float *weight,
                                              const float *pos_weight, size_t N, size_t L,
                                              float scale, cudaStream_t stream) {
    const llm_cuda_bce_form form = {weight, pos_weight, -1.0f, 0.0f};
    return llm_cuda_bce<T, false>(total, part, loss, dz, z, y, form, N * L, L, scale, stream);
}
/* The same of focal loss for z, y (n): as llm_bce_focal_forward and _backward. */
template <typename T>
static inline cudaError_t llm_cuda_bce_focal(double *total, double *part, float *loss, T *dz,
                                             const T *z, const float *y, size_t n, float alpha,
                                             float gamma, float scale, cudaStream_t stream) {
    const llm_cuda_bce_form form = {NULL, NULL, alpha, gamma};
    return llm_cuda_bce<T, true>(total, part, loss, dz, z, y, form, n, 1, scale, stream);
}

/* @f_divergence --------------------------------------------- f-divergences
 *
 * KL, reverse KL or Jensen-Shannon between the rows of two logit matrices, and its gradient in the
 * second: a student against its teacher. One look for both pairs (max, sum) of the row, one
 * backwards over it for the divergence; the gradient of KL, q - p, is written on that way, the
 * other two need the row's mean slope first and go over it once more.
 *
 * Every term is that of an f with slope 0 at 1, so none is negative and nothing cancels where the
 * rows are close: KL is summed as p (e^r - 1 - r), r = log q/p. Probabilities that are 0 in float
 * still have a logarithm here, so a finite divergence stays finite.
 *
 * Moves 4 elements for each logit (x, z, dz in; dz out), 2 without a gradient, the minimum, as long
 * as L1 and L2 serve the second and third reading. Limit: memory bandwidth for float; for bfloat16
 * the exps, 4 an entry for KL, 6 for reverse KL, 8 and 4 logarithms for Jensen-Shannon.
 *
 * source  -
 * needs   cuda_launch, cuda_memory, cuda_reduce, logsumexp
 * see     softmax, cross_entropy, entropy
 * topics  -
 */
struct llm_cuda_f_divergence_point {
    float p, q, value, slope; /* the gradient is q (slope - mean slope) */
};

/* Of one outcome, from its two log probabilities. */
LLM_DEVICE llm_cuda_f_divergence_point llm_cuda_f_divergence_at(int kind, float log_p,
                                                                float log_q) {
    const float r = log_q - log_p, a = fabsf(r), log_2 = 0.69314718f;
    llm_cuda_f_divergence_point f = {expf(log_p), expf(log_q), 0.0f, 0.0f};
    if (kind == LLM_F_DIVERGENCE_JS) {
        const float e = expf(-a), log = log1pf(e), away = (1.0f - e) / (1.0f + e);
        const float t = r < 0.0f ? -away : away; /* (q - p) / (q + p) */
        const float near = log1pf(-t * t) + away * a;
        const float far = 2.0f * (log_2 - log - (e > 0.0f ? a * e / (1.0f + e) : 0.0f));
        f.value = 0.25f * (f.p + f.q) * (a < 1.0f ? near : far);
        f.slope = 0.5f * (a < 1.0f ? log1pf(t) : log_2 - log + fminf(r, 0.0f));
    } else {
        const bool reverse = kind == LLM_F_DIVERGENCE_REVERSE_KL;
        const float own = reverse ? f.q : f.p, other = reverse ? f.p : f.q, s = reverse ? -r : r;
        float rest = 1.0f; /* e^s - 1 - s = s^2/2 (1 + s/3 (1 + s/4 (...))) */
        LLM_UNROLL
        for (int k = 8; k > 2; k--) rest = 1.0f + s / (float)k * rest;
        f.value = a < 0.5f ? own * (0.5f * s * s * rest) : (other - own) - own * s;
        if (own == 0.0f) f.value = other;
        f.slope = r;
    }
    if (f.q == 0.0f) f.slope = 0.0f; /* nothing is left to push with */
    if (f.p == 0.0f && f.q == 0.0f) f.value = 0.0f;
    return f;
}

template <typename T, int V, bool warp>
LLM_KERNEL void llm_f_divergence_kernel(float *d, T *dz, const float *dd, const T *x, const T *z,
                                        size_t rows, size_t n, int kind, float gain) {
    const llm_row_place at = llm_my_row<warp>();
    if (at.row >= rows) return; /* a whole warp */
    const size_t first = at.row * n, begin = (size_t)at.lane * V, step = (size_t)at.width * V;
    const bool at_once = kind == LLM_F_DIVERGENCE_KL;
    llm_logsumexp_pair p = {-INFINITY, 0.0f}, q = {-INFINITY, 0.0f};
    float x_v[V], z_v[V], dz_v[V], sum = 0.0f, mean = 0.0f;
    size_t i = begin;
    for (; i < n; i += step) {
        llm_load_vector(x_v, x, first + i);
        llm_load_vector(z_v, z, first + i);
        llm_cuda_logsumexp_add(p, x_v, gain);
        llm_cuda_logsumexp_add(q, z_v, gain);
    }
    p = llm_cuda_logsumexp_row<warp>(p, gain);
    q = llm_cuda_logsumexp_row<warp>(q, gain);
    const float log_p = logf(p.sum), log_q = logf(q.sum);
    const float up = dz ? gain * llm_load(dd, at.row) : 0.0f;
    for (bool again = false;; again = true) {
        while (again ? i < n : i > begin) { /* backwards, then forwards */
            if (!again) i -= step;
            llm_load_vector(x_v, x, first + i);
            llm_load_vector(z_v, z, first + i);
            const bool write = dz && (again || at_once);
            if (write) llm_load_vector(dz_v, dz, first + i);
            LLM_UNROLL
            for (int k = 0; k < V; k++) {
                const llm_cuda_f_divergence_point f = llm_cuda_f_divergence_at(
                    kind, (x_v[k] - p.max) * gain - log_p, (z_v[k] - q.max) * gain - log_q);
                if (!again) sum += f.value, mean += f.q * f.slope;
                if (write) dz_v[k] += up * (at_once ? f.q - f.p : f.q * (f.slope - mean));
            }
            if (write) llm_store_vector(dz, first + i, dz_v);
            if (again) i += step;
        }
        if (again) return;
        sum = llm_row_sum<warp>(sum);
        if (at.lane == 0) llm_store(d, at.row, sum);
        if (!dz || at_once) return;
        mean = llm_row_sum<warp>(mean);
    }
}

/* d (N) <- D(p || q) of each row, p = softmax(x / temp), q = softmax(z / temp), x and z (N,V); dz
 * (N,V), unless NULL, += dd (N) times its gradient in z. kind: LLM_F_DIVERGENCE_KL, _REVERSE_KL or
 * _JS, as llm_f_divergence_logits, and cudaErrorInvalidValue for others. A logit of -inf is an
 * outcome that never happens; where only one row has it, KL or reverse KL is infinite. T is float
 * or llm_bf16. */
template <typename T>
static inline cudaError_t llm_cuda_f_divergence_logits(float *d, T *dz, const float *dd, const T *x,
                                                       const T *z, size_t N, size_t V, int kind,
                                                       float temp, cudaStream_t stream) {
    enum { W = 16 / sizeof(T) };
    if (kind < LLM_F_DIVERGENCE_KL || kind > LLM_F_DIVERGENCE_JS) return cudaErrorInvalidValue;
    if (N == 0 || V == 0) return cudaSuccess;
    const bool wide = llm_aligned(x, V) && llm_aligned(z, V) && llm_aligned(dz, V);
    const bool warp = V <= 1024;
    const auto f_divergence =
        wide   ? warp ? llm_f_divergence_kernel<T, W, true> : llm_f_divergence_kernel<T, W, false>
          : warp ? llm_f_divergence_kernel<T, 1, true>
               : llm_f_divergence_kernel<T, 1, false>;
    LLM_LAUNCH(f_divergence, llm_row_blocks(N, warp),
               warp ? 128 : llm_row_threads(wide ? V / W : V), 0, stream, d, dz, dd, x, z, N, V,
               kind, 1.0f / temp);
    return cudaGetLastError();
}

/* @wasserstein_sinkhorn ------------------------------------- Optimal transport, smoothed
 *
 * Sinkhorn's steps in the log domain between clouds of points, the cost |x - y|^2 made where it is
 * needed: a matrix of costs would be n m numbers to read at every step. A block takes 64 points and
 * goes through the others 64 at a time; a thread makes 4 x 4 costs in registers and adds them to
 * four pairs (max, sum), as in @logsumexp, which 16 lanes merge at the end. Where there are few
 * points on one side, slices of the other run side by side and a second kernel merges their pairs.
 * Nothing waits for the host: all rounds are queued at once.
 *
 * A step is n m times 2 d operations and 5/4 exps, and reads 4 (n + m) d bytes, each point of the
 * other side once for 64. Limit: the exps up to some ten columns, the multiply-adds above.
 *
 * source  Feydy et al. 2019 (geomloss: costs on the fly)
 * needs   cuda_launch, cuda_memory, cuda_reduce, logsumexp
 * see     supervised (the same tiles)
 * topics  -
 */
enum { LLM_CUDA_WASSERSTEIN_SINKHORN_TILE = 64 };

/* part (slices,n) <- pairs of log b_j + (g_j - |x_i - y_j|^2) / eps over a slice of y. */
LLM_KERNEL void __launch_bounds__(256)
    llm_wasserstein_sinkhorn_kernel(llm_logsumexp_pair *part, const float *g, const float *x,
                                    const float *y, const float *b, size_t n, size_t m, size_t d,
                                    size_t slice, float eps) {
    enum { side = LLM_CUDA_WASSERSTEIN_SINKHORN_TILE };
    __shared__ float x_tile[16][side + 1], y_tile[16][side + 1], g_tile[side], log_b[side];
    const size_t first = (size_t)blockIdx.x * side, begin = blockIdx.y * slice;
    const size_t end = begin + slice < m ? begin + slice : m;
    const unsigned t = threadIdx.x, across = t % 16, down = t / 16;
    const float per = 1.0f / eps;
    llm_logsumexp_pair seen[4];
    LLM_UNROLL
    for (unsigned u = 0; u < 4; u++) seen[u].max = -INFINITY, seen[u].sum = 0.0f;
    for (size_t from = begin; from < end; from += side) {
        float cost[4][4] = {};
        if (t < side) {
            const size_t j = from + t;
            const float share = j >= end ? 0.0f : b ? llm_load(b, j) : 1.0f / (float)m;
            g_tile[t] = share > 0.0f ? llm_load(g, j) : 0.0f; /* without mass it is not read */
            log_b[t] = share > 0.0f ? logf(share) : -INFINITY;
        }
        for (size_t column = 0; column < d; column += 16) {
            const unsigned deep = d - column < 16 ? (unsigned)(d - column) : 16;
            LLM_UNROLL
            for (unsigned u = 0; u < 4; u++) {
                const size_t row = down + 16 * u, c = column + across;
                const bool x_in = first + row < n && c < d, y_in = from + row < end && c < d;
                x_tile[across][row] = x_in ? llm_load(x, (first + row) * d + c) : 0.0f;
                y_tile[across][row] = y_in ? llm_load(y, (from + row) * d + c) : 0.0f;
            }
            __syncthreads();
            for (unsigned c = 0; c < deep; c++) {
                LLM_UNROLL
                for (unsigned u = 0; u < 4; u++) {
                    LLM_UNROLL
                    for (unsigned v = 0; v < 4; v++) {
                        const float way = x_tile[c][down + 16 * u] - y_tile[c][across + 16 * v];
                        cost[u][v] += way * way;
                    }
                }
            }
            __syncthreads();
        }
        LLM_UNROLL
        for (unsigned u = 0; u < 4; u++) {
            float s[4];
            LLM_UNROLL
            for (unsigned v = 0; v < 4; v++)
                s[v] = (g_tile[across + 16 * v] - cost[u][v]) * per + log_b[across + 16 * v];
            llm_cuda_logsumexp_add(seen[u], s, 1.0f);
        }
        __syncthreads(); /* until all have read g */
    }
    LLM_UNROLL
    for (unsigned u = 0; u < 4; u++) {
        LLM_UNROLL
        for (int distance = 8; distance > 0; distance /= 2) {
            const llm_logsumexp_pair other = {__shfl_xor_sync(0xffffffffu, seen[u].max, distance),
                                              __shfl_xor_sync(0xffffffffu, seen[u].sum, distance)};
            seen[u] = llm_cuda_logsumexp_merge(seen[u], other, 1.0f);
        }
        const size_t row = first + down + 16 * u;
        if (across == 0 && row < n) part[blockIdx.y * n + row] = seen[u];
    }
}
/* f (n) <- -eps times the log-sum-exp, or half way there; off (n), or NULL, <- how much the sum of
 * row i of the plan was off before, a_i |e^((f_i - new) / eps) - 1|. */
LLM_KERNEL void llm_wasserstein_sinkhorn_step_kernel(float *f, double *off,
                                                     const llm_logsumexp_pair *part, const float *a,
                                                     size_t n, size_t slices, float eps,
                                                     bool half_way) {
    const size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    llm_logsumexp_pair all = part[i];
    for (size_t s = 1; s < slices; s++) all = llm_cuda_logsumexp_merge(all, part[s * n + i], 1.0f);
    const float next = -eps * (all.max + logf(all.sum));
    if (off) {
        const double share = a ? (double)llm_load(a, i) : 1.0 / (double)n;
        off[i] = share * fabs(expm1(((double)llm_load(f, i) - (double)next) / (double)eps));
    }
    llm_store(f, i, half_way ? 0.5f * (llm_load(f, i) + next) : next);
}
LLM_KERNEL void llm_wasserstein_sinkhorn_off_kernel(double *total, const double *off, size_t n) {
    double sum = 0.0;
    for (size_t i = threadIdx.x; i < n; i += blockDim.x) sum += off[i];
    sum = llm_block_sum(sum);
    if (threadIdx.x == 0) *total = sum;
}

/* Slices of m points for n others: so many that a large card is filled, none under 1024. */
static inline __attribute__((unused)) size_t llm_cuda_wasserstein_sinkhorn_slices(size_t n,
                                                                                  size_t m) {
    const size_t side = LLM_CUDA_WASSERSTEIN_SINKHORN_TILE, tiles = (n + side - 1) / side;
    const size_t wanted = tiles ? (263 + tiles) / tiles : 1, most = m / 1024 ? m / 1024 : 1;
    return wanted < most ? wanted : most;
}
/* f (n of a) <- llm_wasserstein_sinkhorn_half of g (m of b) for the cost |x - y|^2 of points in d
 * columns, d > 0. The arrays of a and b are on the device, masses are shares, which sum to 1. part:
 * n llm_cuda_wasserstein_sinkhorn_slices(n, m) pairs. half_way and off: as the kernel above;
 * without them f is not read. */
static inline __attribute__((unused)) cudaError_t
llm_cuda_wasserstein_sinkhorn_half(float *f, const float *g, const llm_wasserstein_measure *a,
                                   const llm_wasserstein_measure *b, size_t d, float eps,
                                   bool half_way, double *off, llm_logsumexp_pair *part,
                                   cudaStream_t stream) {
    const size_t side = LLM_CUDA_WASSERSTEIN_SINKHORN_TILE;
    const size_t slices = llm_cuda_wasserstein_sinkhorn_slices(a->n, b->n);
    const size_t slice = ((b->n + slices - 1) / slices + side - 1) / side * side;
    if (a->n == 0 || b->n == 0 || d == 0) return cudaErrorInvalidValue;
    LLM_LAUNCH(llm_wasserstein_sinkhorn_kernel,
               dim3((unsigned)((a->n + side - 1) / side), (unsigned)slices), 256, 0, stream, part,
               g, a->x, b->x, b->mass, a->n, b->n, d, slice, eps);
    LLM_LAUNCH(llm_wasserstein_sinkhorn_step_kernel, (unsigned)((a->n + 255) / 256), 256, 0, stream,
               f, off, part, a->mass, a->n, slices, eps, half_way);
    return cudaGetLastError();
}
/* f (n), g (m) <- so many rounds, more than none, from f: zeros, or the potentials of a larger eps.
 * Each makes g from f, then f from g, as llm_wasserstein_sinkhorn; where a and b are the same
 * pointer g is f as it was, and f goes half way. *off <- how much the sums of the plan's rows were
 * off in all before the last step of f, which, gone all the way, makes the rows exact and leaves
 * the columns off by no more. scratch: n doubles; part: pairs for (n,m) or (m,n), whichever are
 * more. */
static inline __attribute__((unused)) cudaError_t
llm_cuda_wasserstein_sinkhorn(float *f, float *g, double *off, const llm_wasserstein_measure *a,
                              const llm_wasserstein_measure *b, size_t d, float eps, size_t rounds,
                              double *scratch, llm_logsumexp_pair *part, cudaStream_t stream) {
    for (size_t round = 0; round < rounds; round++) {
        cudaError_t error = cudaSuccess;
        if (a == b)
            error = cudaMemcpyAsync(g, f, a->n * sizeof *g, cudaMemcpyDeviceToDevice, stream);
        else
            error =
                llm_cuda_wasserstein_sinkhorn_half(g, f, b, a, d, eps, false, NULL, part, stream);
        if (error == cudaSuccess)
            error = llm_cuda_wasserstein_sinkhorn_half(
                f, g, a, b, d, eps, a == b, round + 1 == rounds ? scratch : NULL, part, stream);
        if (error != cudaSuccess) return error;
    }
    if (rounds > 0)
        LLM_LAUNCH(llm_wasserstein_sinkhorn_off_kernel, 1, 1024, 0, stream, off, scratch, a->n);
    return cudaGetLastError();
}

/* @fisher_info ---------------------------------------------- Fisher information
 *
 * A sum of outer products of scores s = (onehot(y) - p) (x) x is, for each pair of classes (k,j), a
 * weighted Gram matrix of the inputs:  F_kj = sum_i h_i x_i x_i^T,  with h = p_k ([k = j] - p_j)
 * for the expectation over labels and h = e_k e_j, e = onehot - p, for labels that are given. So
 * the scores, n K D numbers, never exist, and the sum over labels costs nothing.
 *
 * F is symmetric in its classes and in its inputs: a quarter of it is computed. A block makes a
 * tile of 16, 32 or 64 columns squared of one pair, a thread a square of it in registers, 16
 * examples at a time through shared memory. Where there are few tiles the examples are cut into
 * slices that run side by side; a second kernel adds those in order and fills the four quarters.
 *
 * n (K D)^2 / 2 operations against n K D for reading the scores: with D of some tens the limit is
 * the multiply-adds.
 *
 * source  -
 * needs   cuda_launch, cuda_memory
 * see     cuda_gemm, unsupervised
 * topics  -
 */

/* `matrices` Gram matrices of n examples and so many columns: tiles of `tile` columns squared on
 * and above the diagonal, slices of `slice` examples. */
typedef struct {
    size_t n, columns, matrices, tile, tiles, slices, slice;
} llm_cuda_fisher_info_shape;

/* Slices so many that a large card is filled, none under 256 examples. */
static inline __attribute__((unused)) llm_cuda_fisher_info_shape
llm_cuda_fisher_info_grams(size_t n, size_t columns, size_t matrices) {
    llm_cuda_fisher_info_shape g = {n, columns, matrices, 64, 0, 1, n};
    g.tile = columns <= 16 ? 16 : columns <= 32 ? 32 : 64;
    const size_t across = (columns + g.tile - 1) / g.tile;
    g.tiles = across * (across + 1) / 2;
    const size_t blocks = g.tiles * matrices, most = n / 256 ? n / 256 : 1;
    if (blocks > 0) g.slices = (263 + blocks) / blocks < most ? (263 + blocks) / blocks : most;
    g.slice = (n + g.slices - 1) / g.slices;
    return g;
}
/* How many floats the slices' sums take. */
static inline __attribute__((unused)) size_t
llm_cuda_fisher_info_parts(const llm_cuda_fisher_info_shape &g) {
    return g.slices * g.matrices * g.tiles * g.tile * g.tile;
}

/* (row, column) of entry t of a triangle, rows of `side`, side - 1, ... entries; and back. */
LLM_HOST_DEVICE void llm_cuda_fisher_info_pair(size_t &row, size_t &column, size_t t, size_t side) {
    for (row = 0; t >= side - row; row++) t -= side - row;
    column = row + t;
}
LLM_HOST_DEVICE size_t llm_cuda_fisher_info_place(size_t row, size_t column, size_t side) {
    return row * (2 * side - row + 1) / 2 + (column - row);
}

/* part <- the tiles of a slice. M says what is summed: choose(matrix), then weight(i) and value(i,
 * column) of example i. */
template <int S, typename M>
LLM_KERNEL void __launch_bounds__(256, 4)
    llm_fisher_info_gram_kernel(float *part, M model, llm_cuda_fisher_info_shape g) {
    enum { side = 16 * S };
    __shared__ float left[16][side], right[16][side];
    const size_t across = (g.columns + side - 1) / side;
    const size_t begin = blockIdx.y * g.slice, end = begin + g.slice < g.n ? begin + g.slice : g.n;
    const unsigned x = threadIdx.x % 16, y = threadIdx.x / 16;
    size_t row, column;
    llm_cuda_fisher_info_pair(row, column, blockIdx.x % g.tiles, across);
    model.choose(blockIdx.x / g.tiles);
    float sum[S][S] = {};
    for (size_t i = begin; i < end; i += 16) {
        for (unsigned t = threadIdx.x; t < 16 * side; t += 256) {
            const size_t from = i + t / side, j = t % side;
            const size_t l = row * side + j, r = column * side + j;
            const bool l_in = from < end && l < g.columns, r_in = from < end && r < g.columns;
            left[t / side][j] = l_in ? model.weight(from) * model.value(from, l) : 0.0f;
            right[t / side][j] = r_in ? model.value(from, r) : 0.0f;
        }
        __syncthreads();
        LLM_UNROLL
        for (unsigned k = 0; k < 16; k++) {
            float l[S], r[S];
            LLM_UNROLL
            for (unsigned u = 0; u < S; u++)
                l[u] = left[k][y + 16 * u], r[u] = right[k][x + 16 * u];
            LLM_UNROLL
            for (unsigned u = 0; u < S; u++) {
                LLM_UNROLL
                for (unsigned v = 0; v < S; v++) sum[u][v] += l[u] * r[v];
            }
        }
        __syncthreads();
    }
    part += (blockIdx.y * (size_t)gridDim.x + blockIdx.x) * side * side;
    LLM_UNROLL
    for (unsigned u = 0; u < S; u++) {
        LLM_UNROLL
        for (unsigned v = 0; v < S; v++)
            llm_store(part, (y + 16 * u) * side + x + 16 * v, sum[u][v]);
    }
}
template <typename M>
static inline cudaError_t llm_cuda_fisher_info_gram(float *part, const M &model,
                                                    const llm_cuda_fisher_info_shape &g,
                                                    cudaStream_t stream) {
    const dim3 grid((unsigned)(g.matrices * g.tiles), (unsigned)g.slices);
    const auto gram = g.tile == 16   ? llm_fisher_info_gram_kernel<1, M>
                      : g.tile == 32 ? llm_fisher_info_gram_kernel<2, M>
                                     : llm_fisher_info_gram_kernel<4, M>;
    LLM_LAUNCH(gram, grid, 256, 0, stream, part, model, g);
    return cudaGetLastError();
}
/* Entry (a,b) of a matrix: the sum of the slices, in their order. */
LLM_DEVICE float llm_cuda_fisher_info_entry(const float *part, const llm_cuda_fisher_info_shape &g,
                                            size_t matrix, size_t a, size_t b) {
    const size_t low = a < b ? a : b, high = a < b ? b : a;
    const size_t across = (g.columns + g.tile - 1) / g.tile, square = g.tile * g.tile;
    const size_t tile = llm_cuda_fisher_info_place(low / g.tile, high / g.tile, across);
    const size_t at = (matrix * g.tiles + tile) * square + low % g.tile * g.tile + high % g.tile;
    float sum = 0.0f;
    for (size_t s = 0; s < g.slices; s++)
        sum += llm_load(part, s * g.matrices * g.tiles * square + at);
    return sum;
}

/* What is summed for a pair of classes. */
struct llm_cuda_fisher_info_softmax {
    const float *p, *x;
    const int *label;
    size_t K, D, k, j;
    LLM_DEVICE_METHOD void choose(size_t pair) { llm_cuda_fisher_info_pair(k, j, pair, K); }
    LLM_DEVICE_METHOD float weight(size_t i) const {
        const float p_k = llm_load(p, i * K + k), p_j = llm_load(p, i * K + j);
        if (!label) return p_k * ((k == j ? 1.0f : 0.0f) - p_j);
        const size_t y = (size_t)label[i];
        return ((y == k ? 1.0f : 0.0f) - p_k) * ((y == j ? 1.0f : 0.0f) - p_j);
    }
    LLM_DEVICE_METHOD float value(size_t i, size_t d) const { return llm_load(x, i * D + d); }
};
LLM_KERNEL void llm_fisher_info_add_kernel(float *F, const float *part,
                                           llm_cuda_fisher_info_shape g, size_t K, float scale) {
    const size_t D = g.columns, at = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= K * D * K * D) return;
    const size_t a = at / (K * D), b = at % (K * D), k = a / D, j = b / D;
    const size_t pair = llm_cuda_fisher_info_place(k < j ? k : j, k < j ? j : k, K);
    const float sum = llm_cuda_fisher_info_entry(part, g, pair, a % D, b % D);
    llm_store(F, at, llm_load(F, at) + scale * sum);
}

/* Scratch for n examples, K classes and D columns, in floats. */
static inline __attribute__((unused)) size_t llm_cuda_fisher_info_scratch(size_t n, size_t K,
                                                                          size_t D) {
    return llm_cuda_fisher_info_parts(llm_cuda_fisher_info_grams(n, D, K * (K + 1) / 2));
}
/* F (KD,KD) += scale times the sum of s s^T over p (n,K), x (n,D): in expectation over the labels,
 * llm_fisher_info_exact for scale 1/n; with label (n) at those, each below K: drawn from the model
 * the Monte Carlo Fisher, the data's the empirical one. scratch: llm_cuda_fisher_info_scratch. */
static inline __attribute__((unused)) cudaError_t
llm_cuda_fisher_info(float *F, const float *p, const float *x, const int *label, size_t n, size_t K,
                     size_t D, float scale, float *scratch, cudaStream_t stream) {
    if (n == 0 || K == 0 || D == 0) return cudaSuccess;
    const llm_cuda_fisher_info_shape g = llm_cuda_fisher_info_grams(n, D, K * (K + 1) / 2);
    const llm_cuda_fisher_info_softmax model = {p, x, label, K, D, 0, 0};
    const cudaError_t error = llm_cuda_fisher_info_gram(scratch, model, g, stream);
    if (error != cudaSuccess) return error;
    LLM_LAUNCH(llm_fisher_info_add_kernel, (unsigned)((K * D * K * D + 255) / 256), 256, 0, stream,
               F, scratch, g, K, scale);
    return cudaGetLastError();
}

/* @bootstrap ------------------------------------------------ Bootstrap resampling
 *
 * A block a replicate: its threads draw the indices of llm_bootstrap_indices, a counter of Philox
 * each for four of them, gather the observations and add up what the statistic needs; no resample
 * is stored and no index written. Replicate b is that of llm_rng_seed(seed + b), whatever B is.
 *
 * llm_rng_below draws a word again when it falls into the part of 2^32 that n does not divide, so
 * the words of a stream are not numbered by observation. But a statistic does not ask for the
 * order: the first n words are taken, those refused are counted, and as many further words are
 * taken, until none is refused. The sums are in double, about the first observation, and in a fixed
 * order.
 *
 * Reads n scattered floats a replicate, from L1 or L2, and writes one. Limit: five multiplications
 * a draw for samples that fit into L1, else L2's latency.
 *
 * source  Efron 1979, "Bootstrap methods: another look at the jackknife"
 * needs   cuda_launch, cuda_memory, cuda_rng, cuda_reduce
 * see     distribution_sample
 * topics  -
 */
enum {
    LLM_CUDA_BOOTSTRAP_MEAN,       /* of x, or of x - y where y is given */
    LLM_CUDA_BOOTSTRAP_RATIO,      /* sum x / sum y: accuracy over items of different weight */
    LLM_CUDA_BOOTSTRAP_DEVIATION,  /* of x, with n - 1 */
    LLM_CUDA_BOOTSTRAP_CORRELATION /* of x and y */
};

/* Sums over a resample: of x, y, x^2, y^2, x y. */
struct llm_cuda_bootstrap_sums {
    double x, y, xx, yy, xy;
};
/* The statistic of n observations from sums about x0 and y0. */
LLM_DEVICE double llm_cuda_bootstrap_value(int statistic, llm_cuda_bootstrap_sums s, double n,
                                           double x0, double y0) {
    const double xx = s.xx - s.x * s.x / n, yy = s.yy - s.y * s.y / n, xy = s.xy - s.x * s.y / n;
    switch (statistic) {
    case LLM_CUDA_BOOTSTRAP_MEAN:
        return s.x / n + x0;
    case LLM_CUDA_BOOTSTRAP_RATIO:
        return (s.x + n * x0) / (s.y + n * y0);
    case LLM_CUDA_BOOTSTRAP_DEVIATION:
        return sqrt(fmax(xx, 0.0) / (n - 1.0));
    default:
        return xy / sqrt(xx * yy);
    }
}
LLM_KERNEL void llm_bootstrap_kernel(float *t, int statistic, const float *x, const float *y,
                                     size_t n, uint64_t seed) {
    const uint64_t key = seed + blockIdx.x;
    const uint32_t uneven = (uint32_t)((UINT64_C(1) << 32) % n);
    const bool paired = statistic == LLM_CUDA_BOOTSTRAP_MEAN && y;
    double x0 = (double)x[0] - (paired ? (double)y[0] : 0.0), y0 = y ? (double)y[0] : 0.0;
    if (!(fabs(x0) <= DBL_MAX)) x0 = 0.0; /* it concerns those who draw it only */
    if (!(fabs(y0) <= DBL_MAX)) y0 = 0.0;
    llm_cuda_bootstrap_sums s = {0.0, 0.0, 0.0, 0.0, 0.0};
    for (size_t begin = 0, end = n; begin < end;) { /* words of the stream */
        double refused = 0.0;
        for (size_t block = begin / 4 + threadIdx.x; 4 * block < end; block += blockDim.x) {
            uint32_t word[4];
            llm_cuda_philox(word, block, key);
            LLM_UNROLL
            for (size_t w = 0; w < 4; w++) {
                if (4 * block + w < begin || 4 * block + w >= end) continue;
                const uint64_t product = (uint64_t)word[w] * n;
                if ((uint32_t)product < uneven) {
                    refused += 1.0;
                    continue;
                }
                const size_t i = (size_t)(product >> 32);
                const double y_i = y ? (double)llm_load(y, i) : 0.0;
                const double dx = (double)llm_load(x, i) - (paired ? y_i : 0.0) - x0, dy = y_i - y0;
                s.x += dx, s.y += dy;
                s.xx += dx * dx, s.yy += dy * dy, s.xy += dx * dy;
            }
        }
        begin = end;
        end += (size_t)llm_block_sum(refused);
    }
    s.x = llm_block_sum(s.x), s.y = llm_block_sum(s.y);
    s.xx = llm_block_sum(s.xx), s.yy = llm_block_sum(s.yy), s.xy = llm_block_sum(s.xy);
    if (threadIdx.x == 0)
        llm_store(t, blockIdx.x, (float)llm_cuda_bootstrap_value(statistic, s, (double)n, x0, y0));
}

/* t (B) <- the statistic (LLM_CUDA_BOOTSTRAP_...) on B resamples of x, y (n); y may be NULL where
 * the statistic does without. llm_bootstrap_se and _interval do the rest on the host. 0 < n < 2^32.
 */
static inline __attribute__((unused)) cudaError_t
llm_cuda_bootstrap(float *t, int statistic, const float *x, const float *y, size_t n, size_t B,
                   uint64_t seed, cudaStream_t stream) {
    const bool two =
        statistic == LLM_CUDA_BOOTSTRAP_RATIO || statistic == LLM_CUDA_BOOTSTRAP_CORRELATION;
    if (n == 0 || (uint64_t)n >> 32 != 0 || (two && !y)) return (cudaError_t)cudaErrorInvalidValue;
    if (B == 0) return cudaSuccess;
    const unsigned threads = llm_row_threads((n + 3) / 4);
    LLM_LAUNCH(llm_bootstrap_kernel, (unsigned)B, threads < 256 ? threads : 256, 0, stream, t,
               statistic, x, y, n, seed);
    return cudaGetLastError();
}

/* @03-learn ============================================= LEARNING AND AUTOMATIC DIFFERENTIATION */

/* @supervised ----------------------------------------------- Supervised learning
 *
 * The k nearest of n examples for each of m queries, by looking at all. A block takes 64 queries
 * and goes through its examples 64 at a time: a thread makes 4 x 4 squared distances in registers,
 * as differences, since |x|^2 - 2 x.q + |q|^2 would cancel for near ones. A warp then looks after 8
 * of the queries. Their lists stand sorted across its lanes, 32 entries a register; a new entry
 * moves the worse ones one lane up, and what falls out of one register enters the next. Few come
 * that far: of n examples in random order about k log(n/k) ever enter, the others fail one
 * comparison with the worst of the list, 32 at once.
 *
 * An entry is distance and index in one integer (cuda_select), so of equal distances the lower
 * index wins in any order of work. Where there are few queries the examples are cut into slices,
 * whose lists a second kernel merges.
 *
 * Two instructions a pair and column, 2 n m d in all; reads x once for 64 queries. Limit: the
 * arithmetic.
 *
 * source  -
 * needs   cuda_launch, cuda_memory, cuda_reduce, cuda_select
 * see     top_k
 * topics  -
 */
enum { LLM_CUDA_SUPERVISED_MOST = 128, LLM_CUDA_SUPERVISED_TILE = 64 };

/* Puts an entry into a list sorted across a warp, 32 R long; the worst falls out. */
template <int R>
LLM_DEVICE void llm_cuda_supervised_insert(unsigned long long (&list)[R],
                                           unsigned long long added) {
    LLM_UNROLL
    for (int s = 0; s < R; s++) {
        const unsigned long long before = __shfl_up_sync(0xffffffffu, list[s], 1);
        const unsigned long long last = __shfl_sync(0xffffffffu, list[s], 31);
        const bool moved = threadIdx.x % 32 > 0 && before > added;
        if (list[s] > added) list[s] = moved ? before : added;
        added = last > added ? last : added;
    }
}
/* The same for an entry of each lane, those not better than the k-th left out. */
template <int R>
LLM_DEVICE void llm_cuda_supervised_offer(unsigned long long (&list)[R], unsigned long long entry,
                                          size_t k) {
    unsigned long long worst = list[0];
    LLM_UNROLL
    for (int s = 1; s < R; s++) worst = (k - 1) / 32 == (size_t)s ? list[s] : worst;
    worst = __shfl_sync(0xffffffffu, worst, (int)((k - 1) % 32));
    unsigned better = __ballot_sync(0xffffffffu, entry < worst);
    for (; better; better &= better - 1) {
        const unsigned long long added = __shfl_sync(0xffffffffu, entry, __ffs((int)better) - 1);
        llm_cuda_supervised_insert(list, added);
    }
}

/* part (slices,m,k) <- the sorted lists of each slice of the examples. */
template <int R>
LLM_KERNEL void __launch_bounds__(256)
    llm_supervised_nearest_kernel(unsigned long long *part, const float *q, size_t m,
                                  const float *x, size_t n, size_t d, size_t k, size_t slice) {
    enum { side = LLM_CUDA_SUPERVISED_TILE };
    __shared__ float q_tile[16][side + 1], x_tile[16][side + 1], distance[side][side + 1];
    const size_t first = (size_t)blockIdx.x * side, begin = blockIdx.y * slice;
    const size_t end = begin + slice < n ? begin + slice : n;
    const unsigned t = threadIdx.x, a = t % 16, b = t / 16, lane = t % 32, warp = t / 32;
    unsigned long long list[8][R];
    LLM_UNROLL
    for (unsigned u = 0; u < 8; u++) {
        LLM_UNROLL
        for (int s = 0; s < R; s++) list[u][s] = ~0ull;
    }
    for (size_t from = begin; from < end; from += side) {
        float sum[4][4] = {};
        size_t column = 0;
        do {
            LLM_UNROLL
            for (unsigned u = 0; u < 4; u++) { /* rows b + 16 u, column a of the 16 */
                const size_t row = b + 16 * u, j = column + a;
                const bool q_in = first + row < m && j < d, x_in = from + row < end && j < d;
                q_tile[a][row] = q_in ? llm_load(q, (first + row) * d + j) : 0.0f;
                x_tile[a][row] = x_in ? llm_load(x, (from + row) * d + j) : 0.0f;
            }
            __syncthreads();
            LLM_UNROLL
            for (unsigned j = 0; j < 16; j++) {
                LLM_UNROLL
                for (unsigned u = 0; u < 4; u++) {
                    LLM_UNROLL
                    for (unsigned v = 0; v < 4; v++) {
                        const float off = q_tile[j][b + 16 * u] - x_tile[j][a + 16 * v];
                        sum[u][v] += off * off;
                    }
                }
            }
            __syncthreads();
            column += 16;
        } while (column < d);
        LLM_UNROLL
        for (unsigned u = 0; u < 4; u++) {
            LLM_UNROLL
            for (unsigned v = 0; v < 4; v++) distance[b + 16 * u][a + 16 * v] = sum[u][v];
        }
        __syncthreads(); /* the next tile's first barrier keeps its distances away */
        LLM_UNROLL
        for (unsigned u = 0; u < 8; u++) {
            if (first + warp * 8 + u >= m) break;
            LLM_UNROLL
            for (unsigned half = 0; half < side; half += 32) {
                const size_t i = from + half + lane;
                llm_cuda_supervised_offer(
                    list[u],
                    i < end ? llm_select_pair(distance[warp * 8 + u][half + lane], i) : ~0ull, k);
            }
        }
    }
    LLM_UNROLL
    for (unsigned u = 0; u < 8; u++) {
        LLM_UNROLL
        for (int s = 0; s < R; s++) {
            const size_t row = first + warp * 8 + u, rank = 32 * (size_t)s + lane;
            if (row < m && rank < k) part[(blockIdx.y * m + row) * k + rank] = list[u][s];
        }
    }
}

/* A warp a query: merges the lists of the slices, and turns distances into weights. */
template <int R>
LLM_KERNEL void llm_supervised_merge_kernel(size_t *index, float *weight,
                                            const unsigned long long *part, size_t m, size_t k,
                                            size_t slices, bool by_distance) {
    const llm_row_place at = llm_my_row<true>();
    if (at.row >= m) return;
    unsigned long long list[R];
    LLM_UNROLL
    for (int s = 0; s < R; s++) list[s] = ~0ull;
    for (size_t slice = 0; slice < slices; slice++)
        for (size_t rank = 0; rank < k; rank += 32)
            llm_cuda_supervised_offer(
                list, rank + at.lane < k ? part[(slice * m + at.row) * k + rank + at.lane] : ~0ull,
                k);
    const bool hit = __shfl_sync(0xffffffffu, llm_select_value(list[0]), 0) == 0.0f;
    float own[R], sum = 0.0f;
    LLM_UNROLL
    for (int s = 0; s < R; s++) {
        const float square = llm_select_value(list[s]);
        own[s] = by_distance ? hit ? (square == 0.0f ? 1.0f : 0.0f) : 1.0f / sqrtf(square) : 1.0f;
        if (32 * (size_t)s + at.lane < k) sum += own[s];
    }
    sum = llm_warp_sum(sum);
    LLM_UNROLL
    for (int s = 0; s < R; s++) {
        const size_t rank = 32 * (size_t)s + at.lane;
        if (rank >= k) break;
        index[at.row * k + rank] = (size_t)(list[s] & 0xffffffffu);
        llm_store(weight, at.row * k + rank, own[s] / sum);
    }
}

/* Slices of the examples: so many that a large card is filled, none under 1024. */
static inline __attribute__((unused)) size_t llm_cuda_supervised_slices(size_t m, size_t n) {
    const size_t tiles = (m + LLM_CUDA_SUPERVISED_TILE - 1) / LLM_CUDA_SUPERVISED_TILE;
    const size_t wanted = tiles ? (263 + tiles) / tiles : 1, most = n / 1024 ? n / 1024 : 1;
    return wanted < most ? wanted : most;
}
/* index, weight (m,k) <- llm_supervised_nearest of each row of q (m,d) in x (n,d), n < 2^32, the
 * distances in float; a NaN is farther than infinity. scratch: m k llm_cuda_supervised_slices(m, n)
 * words of 64 bits. cudaErrorInvalidValue for k = 0, k > n or k > LLM_CUDA_SUPERVISED_MOST. */
static inline __attribute__((unused)) cudaError_t
llm_cuda_supervised_nearest(size_t *index, float *weight, const float *q, size_t m, const float *x,
                            size_t n, size_t d, size_t k, bool by_distance,
                            unsigned long long *scratch, cudaStream_t stream) {
    const size_t most = LLM_CUDA_SUPERVISED_MOST, side = LLM_CUDA_SUPERVISED_TILE;
    if (k == 0 || k > n || k > most || n >> 32) return cudaErrorInvalidValue;
    if (m == 0) return cudaSuccess;
    const size_t slices = llm_cuda_supervised_slices(m, n);
    const size_t slice = ((n + slices - 1) / slices + side - 1) / side * side;
    const dim3 grid((unsigned)((m + side - 1) / side), (unsigned)slices);
    const bool small = k <= 32;
    const auto nearest =
        small ? llm_supervised_nearest_kernel<1> : llm_supervised_nearest_kernel<4>;
    const auto merge = small ? llm_supervised_merge_kernel<1> : llm_supervised_merge_kernel<4>;
    LLM_LAUNCH(nearest, grid, 256, 0, stream, scratch, q, m, x, n, d, k, slice);
    LLM_LAUNCH(merge, llm_row_blocks(m, true), 128, 0, stream, index, weight, scratch, m, k, slices,
               by_distance);
    return cudaGetLastError();
}

/* @unsupervised --------------------------------------------- Unsupervised learning
 *
 * The E step of a Gaussian mixture. A block takes 32 points, a lane each, a warp every eighth
 * component: z = L^-1 (x - m) by forward substitution, four rows of L at a time, so that an entry
 * of z that is fetched serves four multiply-adds; log density, log-sum-exp over the components and
 * responsibilities follow while the scores lie in shared memory.
 *
 * The sufficient statistics are the weighted Gram matrices of @fisher_info, of the rows (x - m, 1)
 * with the responsibilities as weights: the column of ones gives counts and means on the way. They
 * are taken about the present means, so nothing cancels where the data lie far from 0.
 *
 * Reads x twice and r once and writes r: 4 n (2 d + 2 K) bytes where one kernel for both might save
 * half; but a point costs K d^2 operations in each, so from d = 8 or so the multiply-adds are the
 * limit.
 *
 * source  -
 * needs   cuda_launch, cuda_memory, cuda_reduce, fisher_info
 * see     logsumexp
 * topics  -
 */

/* Shared: x (d,33), scores (K,33), and for each warp z (d,32). */
LLM_KERNEL void llm_unsupervised_expect_kernel(double *part, float *r, float *log_p,
                                               const float *weight, const float *mean,
                                               const float *L, const float *x, size_t n, size_t K,
                                               size_t d) {
    LLM_DYNAMIC_SHARED(float, x_tile);
    const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    const size_t first = (size_t)blockIdx.x * 32;
    float *score = x_tile + d * 33, *z = score + K * 33 + warp * d * 32;
    for (size_t t = threadIdx.x; t < 32 * d; t += blockDim.x)
        x_tile[t % d * 33 + t / d] = first + t / d < n ? llm_load(x, first * d + t) : 0.0f;
    __syncthreads();
    for (size_t k = warp; k < K; k += warps) {
        const float *m = mean + k * d, *l = L + k * d * d;
        float square = 0.0f, log_det = 0.0f;
        for (size_t j = lane; j < d; j += 32) log_det += logf(llm_load(l, j * d + j));
        for (size_t j = 0; j < d; j += 4) {
            float v[4];
            size_t row[4]; /* rows behind the last repeat it, and are not used */
            LLM_UNROLL
            for (unsigned u = 0; u < 4; u++) {
                row[u] = j + u < d ? j + u : d - 1;
                v[u] = x_tile[row[u] * 33 + lane] - llm_load(m, row[u]);
            }
            for (size_t i = 0; i < j; i++) {
                const float z_i = z[i * 32 + lane];
                LLM_UNROLL
                for (unsigned u = 0; u < 4; u++) v[u] -= llm_load(l, row[u] * d + i) * z_i;
            }
            LLM_UNROLL
            for (unsigned u = 0; u < 4; u++) {
                if (j + u >= d) break;
                LLM_UNROLL
                for (unsigned w = 0; w < u; w++) v[u] -= llm_load(l, row[u] * d + j + w) * v[w];
                v[u] /= llm_load(l, row[u] * d + row[u]);
                z[row[u] * 32 + lane] = v[u]; /* this lane's own: no barrier */
                square += v[u] * v[u];
            }
        }
        const float log_2_pi = 1.83787707f, constant = logf(llm_load(weight, k));
        score[k * 33 + lane] =
            constant - llm_warp_sum(log_det) - 0.5f * ((float)d * log_2_pi + square);
    }
    __syncthreads();
    double total = 0.0;
    for (size_t p = warp; p < 32 && first + p < n; p += warps) {
        float most = -INFINITY, sum = 0.0f;
        for (size_t k = lane; k < K; k += 32) most = fmaxf(most, score[k * 33 + p]);
        most = llm_warp_max(most);
        for (size_t k = lane; k < K; k += 32) sum += expf(score[k * 33 + p] - most);
        const float log_sum = most + logf(llm_warp_sum(sum));
        for (size_t k = lane; r && k < K; k += 32)
            llm_store(r, (first + p) * K + k, expf(score[k * 33 + p] - log_sum));
        if (log_p && lane == 0) llm_store(log_p, first + p, log_sum);
        if (lane == 0) total += (double)log_sum;
    }
    total = llm_block_sum(total);
    if (threadIdx.x == 0) part[blockIdx.x] = total;
}
LLM_KERNEL void llm_unsupervised_mean_kernel(double *mean, const double *part, size_t parts,
                                             size_t n) {
    double sum = 0.0;
    for (size_t i = threadIdx.x; i < parts; i += blockDim.x) sum += part[i];
    sum = llm_block_sum(sum);
    if (threadIdx.x == 0) *mean = sum / (double)n;
}

/* *mean_log_density <- the mean log density of x (n,d) in nats, n > 0; r (n,K) and log_p (n), or
 * NULL: as llm_unsupervised_gmm_expect for weight (K), mean (K,d) and Cholesky factors L (K,d,d).
 * scratch: a double for each 32 points. K and d are limited by 160 KB of shared memory
 * (cudaErrorInvalidValue): d = 128 with K = 96. */
static inline __attribute__((unused)) cudaError_t
llm_cuda_unsupervised_gmm_expect(double *mean_log_density, float *r, float *log_p,
                                 const float *weight, const float *mean, const float *L,
                                 const float *x, size_t n, size_t K, size_t d, double *scratch,
                                 cudaStream_t stream) {
    const size_t warps = K < 8 ? K : 8, shared = 4 * (33 * (d + K) + 32 * d * warps);
    const size_t blocks = (n + 31) / 32;
    if (n == 0 || K == 0 || d == 0 || shared > 160 * 1024) return cudaErrorInvalidValue;
    LLM_LAUNCH(llm_unsupervised_expect_kernel, (unsigned)blocks, (unsigned)(32 * warps), shared,
               stream, scratch, r, log_p, weight, mean, L, x, n, K, d);
    LLM_LAUNCH(llm_unsupervised_mean_kernel, 1, 256, 0, stream, mean_log_density, scratch, blocks,
               n);
    return cudaGetLastError();
}

/* What is summed for a component: the rows (x - m, 1), weighted by r. */
struct llm_cuda_unsupervised_rows {
    const float *r, *mean, *x;
    size_t K, d, k;
    LLM_DEVICE_METHOD void choose(size_t component) { k = component; }
    LLM_DEVICE_METHOD float weight(size_t i) const { return llm_load(r, i * K + k); }
    LLM_DEVICE_METHOD float value(size_t i, size_t j) const {
        return j == d ? 1.0f : llm_load(x, i * d + j) - llm_load(mean, k * d + j);
    }
};
LLM_KERNEL void llm_unsupervised_add_kernel(float *count, float *sum, float *square,
                                            const float *part, llm_cuda_fisher_info_shape g) {
    const size_t d = g.columns - 1, each = (d + 1) * (d + 1);
    const size_t at = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= g.matrices * each) return;
    const size_t k = at / each, a = at % each / (d + 1), b = at % (d + 1);
    if (a == d && b < d) return; /* the same as (b,d) */
    float *to = a == d ? count + k : b == d ? sum + k * d + a : square + (k * d + a) * d + b;
    llm_store(to, 0, llm_load(to, 0) + llm_cuda_fisher_info_entry(part, g, k, a, b));
}

/* count (K), sum (K,d), square (K,d,d) += over x (n,d): r, r (x - m), r (x - m)(x - m)^T, for r
 * (n,K) of the E step and its mean (K,d). From the totals the M step makes
 *     w = count / n    m' = m + sum / count    S = square / count - (m' - m)(m' - m)^T
 * scratch: llm_cuda_fisher_info_parts(llm_cuda_fisher_info_grams(n, d + 1, K)) floats. */
static inline __attribute__((unused)) cudaError_t
llm_cuda_unsupervised_gmm_statistics(float *count, float *sum, float *square, const float *r,
                                     const float *mean, const float *x, size_t n, size_t K,
                                     size_t d, float *scratch, cudaStream_t stream) {
    if (n == 0 || K == 0) return cudaSuccess;
    const llm_cuda_fisher_info_shape g = llm_cuda_fisher_info_grams(n, d + 1, K);
    const llm_cuda_unsupervised_rows model = {r, mean, x, K, d, 0};
    const cudaError_t error = llm_cuda_fisher_info_gram(scratch, model, g, stream);
    if (error != cudaSuccess) return error;
    LLM_LAUNCH(llm_unsupervised_add_kernel, (unsigned)((K * (d + 1) * (d + 1) + 255) / 256), 256, 0,
               stream, count, sum, square, scratch, g);
    return cudaGetLastError();
}

/* @multiclass ----------------------------------------------- Multiclass classification
 *
 * Softmax regression: scores, loss and the gradient of the weights in one kernel, for a batch of
 * classifiers on the same examples (penalties to choose from, probes of one representation). A
 * block takes 32 examples at a time. A warp makes the scores of four of them, eight classes at a
 * time, its lanes across the columns; 31 exchanges turn the lanes' 32 shares into 32 scores, a lane
 * each. Softmax, loss and residuals stay in shared memory, and so does the block's share of the
 * gradient, to which each thread adds its columns. A second kernel adds the shares of the blocks in
 * order.
 *
 * Reads x from memory once, 4 n d bytes, the minimum; the second reading is served by L1 and L2,
 * where gradient and score kernels apart would read it twice. 4 n d K operations: above some five
 * classes the limit is the multiply-adds, below it memory bandwidth.
 *
 * source  -
 * needs   cuda_launch, cuda_memory, cuda_reduce
 * see     softmax_head (classes by the thousand), cross_entropy
 * topics  -
 */
enum { LLM_CUDA_MULTICLASS_ROWS = 32, LLM_CUDA_MULTICLASS_STRIDE = 36 };

/* The sum over the lanes of v[i], in lane i: each exchange halves what a lane is in charge of. */
LLM_DEVICE float llm_cuda_multiclass_gather(float (&v)[32]) {
    LLM_UNROLL
    for (unsigned step = 16; step > 0; step /= 2) {
        const bool high = (threadIdx.x & step) != 0;
        LLM_UNROLL
        for (unsigned i = 0; i < step; i++) {
            const float give = high ? v[i] : v[i + step], keep = high ? v[i + step] : v[i];
            v[i] = keep + __shfl_xor_sync(0xffffffffu, give, (int)step);
        }
    }
    return v[0];
}
/* score[k][r] <- the scores of this warp's rows, r = 4 warp ... 4 warp + 3 behind `first`. */
LLM_DEVICE void llm_cuda_multiclass_scores(float *score, const float *W, const float *x,
                                           size_t first, size_t n, size_t d, size_t K) {
    const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    for (size_t k = 0; k < K; k += 8) {
        const float *row[4], *weight[8];
        float v[32];
        LLM_UNROLL
        for (unsigned u = 0; u < 4; u++) { /* rows and classes behind the last repeat it */
            const size_t r = first + warp * 4 + u;
            row[u] = x + (r < n ? r : n - 1) * d;
        }
        LLM_UNROLL
        for (unsigned c = 0; c < 8; c++) weight[c] = W + (k + c < K ? k + c : K - 1) * (d + 1);
        LLM_UNROLL
        for (unsigned i = 0; i < 32; i++) v[i] = 0.0f;
        for (size_t j = lane; j < d; j += 32) {
            float x_v[4];
            LLM_UNROLL
            for (unsigned u = 0; u < 4; u++) x_v[u] = llm_load(row[u], j);
            LLM_UNROLL
            for (unsigned c = 0; c < 8; c++) {
                const float w = llm_load(weight[c], j);
                LLM_UNROLL
                for (unsigned u = 0; u < 4; u++) v[u * 8 + c] += x_v[u] * w;
            }
        }
        const float sum = llm_cuda_multiclass_gather(v);
        const size_t own = k + lane % 8;
        if (own < K)
            score[own * LLM_CUDA_MULTICLASS_STRIDE + warp * 4 + lane / 8] =
                sum + llm_load(W, own * (d + 1) + d);
    }
}
/* Returns the loss of row r of the block, in lane 0 alone; its scores become p - onehot. */
LLM_DEVICE double llm_cuda_multiclass_residual(float *score, unsigned r, int y, size_t K) {
    const unsigned lane = threadIdx.x % 32;
    float most = -INFINITY, sum = 0.0f;
    for (size_t k = lane; k < K; k += 32)
        most = fmaxf(most, score[k * LLM_CUDA_MULTICLASS_STRIDE + r]);
    most = llm_warp_max(most);
    for (size_t k = lane; k < K; k += 32)
        sum += expf(score[k * LLM_CUDA_MULTICLASS_STRIDE + r] - most);
    sum = llm_warp_sum(sum);
    const bool known = y >= 0 && (size_t)y < K;
    const float hit = known ? score[(size_t)y * LLM_CUDA_MULTICLASS_STRIDE + r] : NAN;
    __syncwarp(); /* the score of the label is read before it is overwritten */
    for (size_t k = lane; k < K; k += 32) {
        float *z = score + k * LLM_CUDA_MULTICLASS_STRIDE + r;
        *z = expf(*z - most) / sum - (k == (size_t)y ? 1.0f : 0.0f);
    }
    return lane == 0 ? (double)((most - hit) + logf(sum)) : 0.0;
}

/* Shared: scores (K,36), then the block's gradient (K,d+1) unless part is NULL. */
LLM_KERNEL void __launch_bounds__(256)
    llm_multiclass_kernel(double *losses, float *part, const float *W, const float *x,
                          const int *label, size_t n, size_t d, size_t K) {
    enum { rows = LLM_CUDA_MULTICLASS_ROWS };
    LLM_DYNAMIC_SHARED(float, score);
    float *gradient = score + K * LLM_CUDA_MULTICLASS_STRIDE;
    const unsigned warp = threadIdx.x / 32;
    const size_t size = K * (d + 1), place = blockIdx.y * (size_t)gridDim.x + blockIdx.x;
    double loss = 0.0;
    W += blockIdx.y * size;
    for (size_t t = threadIdx.x; part && t <= d; t += 256)
        for (size_t k = 0; k < K; k++) gradient[k * (d + 1) + t] = 0.0f;
    for (size_t first = (size_t)blockIdx.x * rows; first < n; first += (size_t)gridDim.x * rows) {
        llm_cuda_multiclass_scores(score, W, x, first, n, d, K);
        __syncwarp();
        for (unsigned r = warp * 4; r < warp * 4 + 4 && first + r < n; r++)
            loss += llm_cuda_multiclass_residual(score, r, label[first + r], K);
        __syncwarp();
        if (!part) continue; /* a warp meets nobody's scores but its own */
        __syncthreads();
        for (size_t j = threadIdx.x; j <= d; j += 256) {
            float x_v[rows];
            LLM_UNROLL
            for (unsigned r = 0; r < rows; r++) {
                x_v[r] = j < d && first + r < n ? llm_load(x, (first + r) * d + j) : 1.0f;
                if (first + r >= n) x_v[r] = 0.0f;
            }
            for (size_t k = 0; k < K; k++) {
                const float *g = score + k * LLM_CUDA_MULTICLASS_STRIDE;
                float sum = 0.0f;
                LLM_UNROLL
                for (unsigned r = 0; r < rows; r += 4) {
                    const float4 v = *(const float4 *)(const void *)(g + r);
                    sum += v.x * x_v[r] + v.y * x_v[r + 1] + v.z * x_v[r + 2] + v.w * x_v[r + 3];
                }
                gradient[k * (d + 1) + j] += sum; /* no other thread has this column */
            }
        }
        __syncthreads();
    }
    loss = llm_block_sum(loss);
    if (threadIdx.x == 0) losses[place] = loss;
    for (size_t t = threadIdx.x; part && t <= d; t += 256)
        for (size_t k = 0; k < K; k++)
            llm_store(part, place * size + k * (d + 1) + t, gradient[k * (d + 1) + t]);
}
/* The last block sums up the loss, the others the gradient. */
LLM_KERNEL void llm_multiclass_total_kernel(double *loss, float *dW, const double *losses,
                                            const float *part, const float *W, const float *l2,
                                            size_t n, size_t d, size_t K, size_t blocks) {
    const size_t size = K * (d + 1), b = blockIdx.y, first = b * size;
    const float penalty = llm_load(l2, b);
    if (blockIdx.x + 1 == gridDim.x) {
        double sum = 0.0;
        for (size_t t = threadIdx.x; t < blocks; t += 256)
            sum += losses[b * blocks + t] / (double)n;
        for (size_t t = threadIdx.x; t < size; t += 256) {
            const double w = t % (d + 1) == d ? 0.0 : (double)llm_load(W, first + t);
            sum += 0.5 * (double)penalty * w * w;
        }
        sum = llm_block_sum(sum);
        if (threadIdx.x == 0) loss[b] = sum;
        return;
    }
    const size_t t = (size_t)blockIdx.x * 256 + threadIdx.x;
    if (t >= size) return;
    float sum = 0.0f;
    for (size_t i = 0; i < blocks; i++) sum += llm_load(part, (b * blocks + i) * size + t);
    sum = sum / (float)n + (t % (d + 1) == d ? 0.0f : penalty * llm_load(W, first + t));
    llm_store(dW, first + t, llm_load(dW, first + t) + sum);
}

/* How many blocks n examples are shared out to: on any card the same, so that sums are. */
static inline __attribute__((unused)) size_t llm_cuda_multiclass_blocks(size_t n) {
    const size_t tiles = (n + LLM_CUDA_MULTICLASS_ROWS - 1) / LLM_CUDA_MULTICLASS_ROWS;
    return tiles < 256 ? tiles : 256;
}
/* loss (B) <- and dW (B,K,d+1), unless NULL, +=: llm_multiclass_loss (softmax) of each W
 * (B,K,d+1), penalty l2 (B), on x (n,d), label (n), n > 0. A label outside 0..K-1 has NaN. Scratch:
 * losses, B llm_cuda_multiclass_blocks(n) doubles; with dW part, as many times K (d+1) floats.
 * cudaErrorInvalidValue where the gradient does not fit 160 KB of shared memory. */
static inline __attribute__((unused)) cudaError_t
llm_cuda_multiclass_loss(double *loss, float *dW, const float *W, const float *x, const int *label,
                         size_t n, size_t d, size_t K, size_t B, const float *l2, double *losses,
                         float *part, cudaStream_t stream) {
    const size_t blocks = llm_cuda_multiclass_blocks(n), size = K * (d + 1);
    const size_t shared = 4 * (K * LLM_CUDA_MULTICLASS_STRIDE + (dW ? size : 0));
    if (n == 0 || K == 0 || shared > 160 * 1024) return cudaErrorInvalidValue;
    if (B == 0) return cudaSuccess;
    LLM_LAUNCH(llm_multiclass_kernel, dim3((unsigned)blocks, (unsigned)B), 256, shared, stream,
               losses, dW ? part : NULL, W, x, label, n, d, K);
    const unsigned pieces = dW ? (unsigned)((size + 255) / 256) : 0;
    LLM_LAUNCH(llm_multiclass_total_kernel, dim3(pieces + 1, (unsigned)B), 256, 0, stream, loss, dW,
               losses, part, W, l2, n, d, K, blocks);
    return cudaGetLastError();
}

/* @loss_function -------------------------------------------- Loss functions
 *
 * Loss, gradient and sum in one pass, a template for each row of the table: which loss it is costs
 * nothing at run time. A block sums a fixed share of the entries in double and a second kernel adds
 * the blocks' sums; how many blocks there are depends on n alone, so two runs on any card add in
 * the same order.
 *
 * Moves 8 bytes an entry (z, t in), 4 for a weight, 4 for a loss, 8 to add to a gradient: the
 * minimum. Where z and t were read again for the gradient it would be 8 more. Limit: bandwidth.
 *
 * source  -
 * needs   cuda_launch, cuda_memory, cuda_reduce
 * see     mse, grad_clip
 * topics  -
 */
enum { LLM_CUDA_LOSS_FUNCTION_BLOCKS = 1024 };

typedef struct {
    float value, slope;
} llm_cuda_loss_function_point;

/* llm_loss_function_at in float. log cosh a is a + log((1 + e^-2a) / 2), written around 1. */
template <int kind>
LLM_DEVICE llm_cuda_loss_function_point llm_cuda_loss_function_at(float c, float z, float t) {
    const bool residual = kind < LLM_LOSS_FUNCTION_POISSON;
    const float r = residual ? z - t : t * z, a = fabsf(r); /* r, or the margin */
    const float sign = r > 0.0f ? 1.0f : r < 0.0f ? -1.0f : 0.0f;
    const float gap = r < 1.0f ? 1.0f - r : 0.0f, inside = r < 1.0f ? 1.0f : 0.0f;
    llm_cuda_loss_function_point f = {r * r, 2.0f * r};
    if (kind == LLM_LOSS_FUNCTION_ABSOLUTE) f.value = a, f.slope = sign;
    if (kind == LLM_LOSS_FUNCTION_HUBER || kind == LLM_LOSS_FUNCTION_SMOOTH_L1) {
        const float scale = kind == LLM_LOSS_FUNCTION_HUBER ? 1.0f : 1.0f / c;
        f.value = scale * (a < c ? 0.5f * r * r : c * (a - 0.5f * c));
        f.slope = scale * (a < c ? r : c * sign);
    }
    if (kind == LLM_LOSS_FUNCTION_LOG_COSH) {
        f.value = a + log1pf(0.5f * expm1f(-2.0f * a));
        f.slope = tanhf(r);
    }
    if (kind == LLM_LOSS_FUNCTION_PINBALL) {
        f.slope = r > 0.0f ? 1.0f - c : r < 0.0f ? -c : 0.0f;
        f.value = f.slope * r;
    }
    if (kind == LLM_LOSS_FUNCTION_CHARBONNIER) {
        f.value = sqrtf(r * r + c * c);
        f.slope = r / f.value;
    }
    if (kind == LLM_LOSS_FUNCTION_POISSON) {
        const float rate = expf(z);
        f.value = rate - r;
        f.slope = rate - t;
        return f;
    }
    if (kind == LLM_LOSS_FUNCTION_HINGE) f.value = gap, f.slope = -inside;
    if (kind == LLM_LOSS_FUNCTION_SQUARED_HINGE) f.value = gap * gap, f.slope = -2.0f * gap;
    if (kind == LLM_LOSS_FUNCTION_EXPONENTIAL) f.value = expf(-r), f.slope = -f.value;
    if (kind == LLM_LOSS_FUNCTION_LOGISTIC) {
        const float e = expf(-a);
        f.value = log1pf(e) + (r < 0.0f ? -r : 0.0f);
        f.slope = -(r > 0.0f ? e : 1.0f) / (1.0f + e);
    }
    if (kind == LLM_LOSS_FUNCTION_RAMP) {
        f.value = gap < c ? gap : c;
        f.slope = gap < c ? -inside : 0.0f;
    }
    if (r != r) f.value = f.slope = r;
    if (!residual) f.slope *= t;
    return f;
}

template <int kind>
LLM_KERNEL void llm_loss_function_kernel(double *part, float *loss, float *dz, const float *z,
                                         const float *t, const float *weight, size_t n, float c,
                                         float scale) {
    const size_t step = (size_t)gridDim.x * blockDim.x;
    double sum = 0.0;
    for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += step) {
        const llm_cuda_loss_function_point f =
            llm_cuda_loss_function_at<kind>(c, llm_load(z, i), llm_load(t, i));
        const float w = weight ? llm_load(weight, i) : 1.0f;
        sum += (double)w * (double)f.value;
        if (loss) llm_store(loss, i, w * f.value);
        if (dz) llm_store(dz, i, llm_load(dz, i) + scale * w * f.slope);
    }
    sum = llm_block_sum(sum);
    if (threadIdx.x == 0) part[blockIdx.x] = sum;
}
LLM_KERNEL void llm_loss_function_total_kernel(double *total, const double *part, unsigned parts) {
    double sum = 0.0;
    for (unsigned i = threadIdx.x; i < parts; i += blockDim.x) sum += part[i];
    sum = llm_block_sum(sum);
    if (threadIdx.x == 0) *total = sum;
}

/* total (1) <- the sum of the losses of z, t (n), loss (n) or NULL <- each of them, dz (n) or NULL
 * += scale * weight * slope: llm_loss_function_forward and _backward at once. weight (n) or NULL.
 * scratch: LLM_CUDA_LOSS_FUNCTION_BLOCKS doubles. Device pointers. */
static inline __attribute__((unused)) cudaError_t
llm_cuda_loss_function(double *total, float *loss, float *dz, const float *z, const float *t,
                       const float *weight, size_t n, llm_loss_function kind, float c, float scale,
                       double *scratch, cudaStream_t stream) {
    void (*const table[])(double *, float *, float *, const float *, const float *, const float *,
                          size_t, float,
                          float) = {llm_loss_function_kernel<LLM_LOSS_FUNCTION_SQUARED>,
                                    llm_loss_function_kernel<LLM_LOSS_FUNCTION_ABSOLUTE>,
                                    llm_loss_function_kernel<LLM_LOSS_FUNCTION_HUBER>,
                                    llm_loss_function_kernel<LLM_LOSS_FUNCTION_SMOOTH_L1>,
                                    llm_loss_function_kernel<LLM_LOSS_FUNCTION_LOG_COSH>,
                                    llm_loss_function_kernel<LLM_LOSS_FUNCTION_PINBALL>,
                                    llm_loss_function_kernel<LLM_LOSS_FUNCTION_CHARBONNIER>,
                                    llm_loss_function_kernel<LLM_LOSS_FUNCTION_POISSON>,
                                    llm_loss_function_kernel<LLM_LOSS_FUNCTION_HINGE>,
                                    llm_loss_function_kernel<LLM_LOSS_FUNCTION_SQUARED_HINGE>,
                                    llm_loss_function_kernel<LLM_LOSS_FUNCTION_EXPONENTIAL>,
                                    llm_loss_function_kernel<LLM_LOSS_FUNCTION_LOGISTIC>,
                                    llm_loss_function_kernel<LLM_LOSS_FUNCTION_RAMP>};
    if ((size_t)kind >= sizeof table / sizeof *table) return cudaErrorInvalidValue;
    const size_t need = (n + 255) / 256, most = LLM_CUDA_LOSS_FUNCTION_BLOCKS;
    const unsigned blocks = (unsigned)(need < most ? need : most);
    const auto loss_function = table[kind];
    if (n > 0)
        LLM_LAUNCH(loss_function, blocks, 256, 0, stream, scratch, loss, dz, z, t, weight, n, c,
                   scale);
    LLM_LAUNCH(llm_loss_function_total_kernel, 1, 256, 0, stream, total, scratch, blocks);
    return cudaGetLastError();
}

/* @mse ------------------------------------------------------ Mean squared error
 *
 * Residual, loss, gradient and mean over what the mask leaves, in one pass over p and t. The
 * gradient of a mean needs the divisor before the first entry: it is summed ahead from mask and
 * weights alone, or is n where there is neither, and every block adds the partial sums again in the
 * same order. What is masked is not read. Blocks and order depend on n alone: same input, same
 * bits.
 *
 * Moves 8 bytes an entry (p, t in), 4 for a loss, 8 to add to a gradient, the minimum, and the mask
 * (1) and the weights (4) twice, where waiting for the divisor with p and t would move those twice.
 * Limit: memory bandwidth.
 *
 * source  -
 * needs   cuda_launch, cuda_memory, cuda_reduce
 * see     loss_function
 * topics  -
 */
enum { LLM_CUDA_MSE_BLOCKS = 1024 };

/* part (gridDim.x) <- shares of sum w over the mask. */
LLM_KERNEL void llm_mse_kept_kernel(double *part, const float *weight, const bool *mask, size_t n) {
    const size_t step = (size_t)gridDim.x * blockDim.x;
    double kept = 0.0;
    for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += step)
        if (!mask || mask[i]) kept += weight ? (double)llm_load(weight, i) : 1.0;
    kept = llm_block_sum(kept);
    if (threadIdx.x == 0) part[blockIdx.x] = kept;
}

/* The sum of part, in every thread of the block; n where nothing is masked or weighted. */
LLM_DEVICE double llm_mse_kept(const double *part, unsigned parts, bool plain, size_t n) {
    double kept = 0.0;
    if (plain) return (double)n;
    for (unsigned i = threadIdx.x; i < parts; i += blockDim.x) kept += part[i];
    return llm_block_sum(kept);
}

/* part (2,gridDim.x): the shares of sum w, and <- those of sum w r^2. */
LLM_KERNEL void llm_mse_kernel(double *part, float *loss, float *dp, const float *p, const float *t,
                               const float *weight, const bool *mask, size_t n, float scale) {
    const double kept = llm_mse_kept(part, gridDim.x, !weight && !mask, n);
    const float gain = (float)(2.0 * (double)scale / kept); /* not used where nothing is kept */
    const size_t step = (size_t)gridDim.x * blockDim.x;
    double sum = 0.0;
    for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += step) {
        const bool counts = !mask || mask[i];
        if (!counts) {
            if (loss) llm_store(loss, i, 0.0f);
            continue;
        }
        const float r = llm_load(p, i) - llm_load(t, i), w = weight ? llm_load(weight, i) : 1.0f;
        sum += (double)w * (double)r * (double)r;
        if (loss) llm_store(loss, i, w * r * r);
        if (dp && kept > 0.0) llm_store(dp, i, llm_load(dp, i) + gain * w * r);
    }
    sum = llm_block_sum(sum);
    if (threadIdx.x == 0) part[gridDim.x + blockIdx.x] = sum;
}

LLM_KERNEL void llm_mse_mean_kernel(float *mean, const double *part, unsigned parts, bool plain,
                                    size_t n) {
    const double kept = llm_mse_kept(part, parts, plain, n);
    double sum = 0.0;
    for (unsigned i = threadIdx.x; i < parts; i += blockDim.x) sum += part[parts + i];
    sum = llm_block_sum(sum);
    if (threadIdx.x == 0) llm_store(mean, 0, kept > 0.0 ? (float)(sum / kept) : NAN);
}

/* mean (1) <- sum w (p - t)^2 / sum w over mask (n), NaN where no weight is left; loss (n) or NULL
 * <- the terms, 0 where masked; dp (n) or NULL += scale * the gradient of the mean, nothing where
 * there is none: llm_mse_mean, _forward and _backward at once. weight and mask may be NULL.
 * scratch: 2 LLM_CUDA_MSE_BLOCKS doubles. Device pointers. */
static inline __attribute__((unused)) cudaError_t
llm_cuda_mse(float *mean, float *loss, float *dp, const float *p, const float *t,
             const float *weight, const bool *mask, size_t n, float scale, double *scratch,
             cudaStream_t stream) {
    const size_t need = (n + 255) / 256, most = LLM_CUDA_MSE_BLOCKS;
    const unsigned blocks = (unsigned)(need < most ? need : most);
    const bool plain = !weight && !mask;
    if (n > 0 && !plain)
        LLM_LAUNCH(llm_mse_kept_kernel, blocks, 256, 0, stream, scratch, weight, mask, n);
    if (n > 0)
        LLM_LAUNCH(llm_mse_kernel, blocks, 256, 0, stream, scratch, loss, dp, p, t, weight, mask, n,
                   scale);
    LLM_LAUNCH(llm_mse_mean_kernel, 1, 256, 0, stream, mean, scratch, blocks, plain, n);
    return cudaGetLastError();
}

/* @forward_pass_chain ----------------------------------- Forward pass: a chain of operations fused
 *
 * The interpreter of llm_forward_pass_chain_run, a thread an entry. Reads each leaf once and writes
 * the result once: 4 (leaves + 1) bytes an entry, the minimum, where node by node it would be 8 to
 * 12 bytes a step. The program is a kernel argument: every thread reads the same step from constant
 * memory. A thread's 16 registers are indexed at run time, so they are a column of shared memory
 * (16 KB a block of 256), where 32 lanes never meet in a bank. Limit: bandwidth for short chains,
 * about ten instructions a step for long ones.
 *
 * source  -
 * needs   cuda_launch, cuda_memory
 * see     activation, backward_pass
 * topics  -
 */
struct llm_forward_pass_chain_leaves {
    const float *x[LLM_FORWARD_PASS_CHAIN_MOST];
};

/* llm_forward_pass_chain_step on the device. */
LLM_DEVICE float llm_forward_pass_chain_do(int op, float a, float b) {
    switch (op) {
    case LLM_COMP_GRAPH_ADD:
        return a + b;
    case LLM_COMP_GRAPH_SUB:
        return a - b;
    case LLM_COMP_GRAPH_MUL:
        return a * b;
    case LLM_COMP_GRAPH_DIV:
        return a / b;
    case LLM_COMP_GRAPH_RELU:
        return a < 0.0f ? 0.0f : a;
    case LLM_COMP_GRAPH_TANH:
        return tanhf(a);
    case LLM_COMP_GRAPH_EXP:
        return expf(a);
    default:
        return logf(a);
    }
}

LLM_KERNEL void llm_forward_pass_chain_kernel(float *y, llm_forward_pass_chain chain,
                                              llm_forward_pass_chain_leaves leaves) {
    __shared__ float reg[LLM_FORWARD_PASS_CHAIN_MOST][256];
    const size_t size = chain.rows * chain.cols, step = (size_t)gridDim.x * blockDim.x;
    const unsigned t = threadIdx.x;
    for (size_t k = (size_t)blockIdx.x * blockDim.x + t; k < size; k += step) {
        const size_t r = k / chain.cols, c = k % chain.cols;
        for (unsigned l = 0; l < chain.leaves;
             l++) /* a thread reads only its own column: no barrier */
            reg[l][t] = llm_load(leaves.x[l], r % chain.leaf[l].rows * chain.leaf[l].cols +
                                                  c % chain.leaf[l].cols);
        for (unsigned s = 0; s < chain.steps; s++)
            reg[chain.leaves + s][t] = llm_forward_pass_chain_do(
                chain.step[s].op, reg[chain.step[s].a][t], reg[chain.step[s].b][t]);
        llm_store(y, k, reg[chain.leaves + chain.steps - 1][t]);
    }
}

/* y (rows,cols) <- x: a host array of device pointers, the numbers of each leaf. */
static inline __attribute__((unused)) cudaError_t
llm_cuda_forward_pass_chain_run(float *y, const llm_forward_pass_chain *chain,
                                const float *const *x, cudaStream_t stream) {
    const size_t size = chain->rows * chain->cols, most = 8 * (size_t)llm_multiprocessors();
    if (size == 0) return cudaSuccess;
    llm_forward_pass_chain_leaves leaves;
    for (unsigned l = 0; l < LLM_FORWARD_PASS_CHAIN_MOST; l++)
        leaves.x[l] = l < chain->leaves ? x[l] : NULL;
    const size_t blocks = (size + 255) / 256;
    LLM_LAUNCH(llm_forward_pass_chain_kernel, (unsigned)(blocks < most ? blocks : most), 256, 0,
               stream, y, *chain, leaves);
    return cudaGetLastError();
}

/* @backward_pass -------------------------------------------- Backward pass
 *
 * The cotangent of a row that was repeated (a bias): out[c] += sum_r dy[r][c], in a fixed order, so
 * that two runs agree to the last bit; atomic additions would not.
 *
 * Two stages. A block owns 32 columns and a chunk of rows; its 8 warps take every eighth row, so a
 * warp reads 32 neighbouring floats, and their sums meet in shared memory. One partial sum for each
 * chunk and column is written; the second kernel adds those of a column in order. Reads dy once,
 * 4 R C bytes, the minimum, and writes and reads 1/256 of it again. Limit: bandwidth, once the
 * R C / 8192 blocks fill the card.
 *
 * source  -
 * needs   cuda_launch, cuda_memory
 * see     cuda_reduce (the same sums in one launch), dense
 * topics  -
 */
enum { LLM_CUDA_BACKWARD_PASS_CHUNK = 256 };

LLM_KERNEL void llm_backward_pass_columns_kernel(float *partial, const float *dy, size_t R,
                                                 size_t C) {
    __shared__ float sums[8][32];
    const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const size_t c = (size_t)blockIdx.x * 32 + lane;
    const size_t start = (size_t)blockIdx.y * LLM_CUDA_BACKWARD_PASS_CHUNK;
    const size_t end =
        start + LLM_CUDA_BACKWARD_PASS_CHUNK < R ? start + LLM_CUDA_BACKWARD_PASS_CHUNK : R;
    float sum = 0.0f;
    for (size_t r = start + warp; r < end && c < C; r += 8) sum += llm_load(dy, r * C + c);
    sums[warp][lane] = sum;
    __syncthreads();
    if (warp == 0 && c < C) {
        for (unsigned w = 1; w < 8; w++) sum += sums[w][lane];
        llm_store(partial, blockIdx.y * C + c, sum);
    }
}

LLM_KERNEL void llm_backward_pass_chunks_kernel(float *out, const float *partial, size_t chunks,
                                                size_t C) {
    const size_t c = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (c >= C) return;
    float sum = 0.0f;
    for (size_t k = 0; k < chunks; k++) sum += llm_load(partial, k * C + c);
    llm_store(out, c, llm_load(out, c) + sum);
}

/* out (C) += the column sums of dy (R,C); partial: scratch of ceil(R / 256) C floats. Device
 * pointers. At most 65535 chunks of rows. */
static inline __attribute__((unused)) cudaError_t
llm_cuda_backward_pass_columns(float *out, float *partial, const float *dy, size_t R, size_t C,
                               cudaStream_t stream) {
    const size_t chunks = (R + LLM_CUDA_BACKWARD_PASS_CHUNK - 1) / LLM_CUDA_BACKWARD_PASS_CHUNK;
    if (R == 0 || C == 0) return cudaSuccess;
    if (chunks > 65535) return (cudaError_t)cudaErrorInvalidValue;
    LLM_LAUNCH(llm_backward_pass_columns_kernel, dim3((unsigned)((C + 31) / 32), (unsigned)chunks),
               256, 0, stream, partial, dy, R, C);
    LLM_LAUNCH(llm_backward_pass_chunks_kernel, (unsigned)((C + 255) / 256), 256, 0, stream, out,
               partial, chunks, C);
    return cudaGetLastError();
}

/* @backprop ------------------------------------------------- Backpropagation
 *
 * The backward pass of a layered network. delta_{l-1} = (delta_l W_l) phi'(a_{l-1}) is one product
 * of cuda_gemm: what it has just summed is multiplied by the slope before it is written, where a
 * kernel of its own would read and write delta again. dW_l += delta_l^T a_{l-1} and db_l, a column
 * sum, are those of a dense layer (@dense), added straight into the flat gradient. The lengths of
 * the examples' own gradients are a pass over delta_l and a_{l-1}, a warp an example.
 *
 * 4 N C O operations a layer of C inputs and O units, none for the inputs of the first. Moves delta
 * and a twice each beyond what the products' tiles read. Limit: float multiply-adds; for layers
 * under a hundred units, launches and tiles of 128 x 128 that are mostly empty.
 *
 * source  -
 * needs   cuda_launch, cuda_memory, cuda_reduce, cuda_gemm, dense
 * see     backward_pass
 * topics  -
 */

/* Of @dense, which stands further down. */
template <typename T>
static inline cudaError_t llm_cuda_dense_backward(T *dx, float *dw, float *db, const T *dy,
                                                  const T *x, const T *w, size_t N, size_t C,
                                                  size_t O, float *scratch, cudaStream_t stream);
static inline size_t llm_cuda_dense_slices(size_t N, size_t C, size_t O);

/* llm_backprop_slope on the device. */
LLM_DEVICE float llm_cuda_backprop_slope(float a, int phi) {
    if (phi == LLM_BACKPROP_TANH) return 1.0f - a * a;
    if (phi == LLM_BACKPROP_SIGMOID) return a * (1.0f - a);
    return a > 0.0f ? 1.0f : 0.0f;
}

/* What becomes of four entries of delta W: times the slope, delta of the layer below. */
struct llm_cuda_backprop_below {
    float *delta;
    const float *a;
    size_t columns;
    int phi;
    LLM_DEVICE_METHOD void operator()(size_t row, size_t column, const float (&v)[4]) const {
        LLM_UNROLL
        for (size_t k = 0; k < 4; k++) {
            const size_t at = row * columns + column + k;
            if (column + k >= columns) break;
            llm_store(delta, at, v[k] * llm_cuda_backprop_slope(llm_load(a, at), phi));
        }
    }
};

/* delta of the last layer, n entries. */
LLM_KERNEL void llm_backprop_last_kernel(float *delta, const float *a, const float *y, size_t n,
                                         float scale, bool linear, int phi) {
    const size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    const float value = llm_load(a, i), slope = linear ? 1.0f : llm_cuda_backprop_slope(value, phi);
    llm_store(delta, i, scale * (value - llm_load(y, i)) * slope);
}
/* square (N) <- or, more, += N^2 |delta|^2 (|a|^2 + 1) of each row. */
LLM_KERNEL void llm_backprop_square_kernel(float *square, const float *delta, const float *a,
                                           size_t N, size_t in, size_t out, bool more) {
    const llm_row_place at = llm_my_row<true>();
    if (at.row >= N) return;
    float blame = 0.0f, given = 0.0f;
    for (size_t i = at.lane; i < out; i += 32) {
        const float v = (float)N * llm_load(delta, at.row * out + i);
        blame += v * v;
    }
    for (size_t i = at.lane; i < in; i += 32) {
        const float v = llm_load(a, at.row * in + i);
        given += v * v;
    }
    blame = llm_warp_sum(blame);
    given = llm_warp_sum(given) + 1.0f; /* 1: what the bias was given */
    if (at.lane == 0)
        llm_store(square, at.row, (more ? llm_load(square, at.row) : 0.0f) + blame * given);
}

/* Floats of scratch: two deltas of the widest layer, then the slices of the largest dW. */
static inline __attribute__((unused)) size_t llm_cuda_backprop_scratch(const llm_backprop *net,
                                                                       size_t N) {
    size_t widest = 0, slices = 0;
    for (size_t l = 1; l <= net->layers; l++) {
        const size_t in = net->size[l - 1], out = net->size[l];
        const size_t need = in * out * llm_cuda_dense_slices(N, in, out);
        widest = out > widest ? out : widest;
        slices = need > slices ? need : slices;
    }
    return 2 * N * widest + slices;
}
/* dw += , square (N) <-: as llm_backprop_backward, either may be NULL; a, w, x, y are device
 * pointers, net and its sizes the host's. scratch: llm_cuda_backprop_scratch. */
static inline __attribute__((unused)) cudaError_t
llm_cuda_backprop_backward(float *dw, float *square, const float *a, const llm_backprop *net,
                           const float *w, const float *x, const float *y, size_t N, float *scratch,
                           cudaStream_t stream) {
    const size_t L = net->layers;
    size_t widest = 0, end_a = N * llm_backprop_activations(net), end_w = llm_backprop_weights(net);
    for (size_t l = 1; l <= L; l++) widest = net->size[l] > widest ? net->size[l] : widest;
    float *delta = scratch, *below = scratch + N * widest, *slices = below + N * widest;
    if (N == 0) return cudaSuccess;
    for (size_t l = L; l > 0; l--) {
        const size_t in = net->size[l - 1], out = net->size[l];
        const float *a_l = a + (end_a -= N * out);
        const float *a_in = l > 1 ? a_l - N * in : x, *w_l = w + (end_w -= out * (in + 1));
        const bool linear = l == L && net->loss == LLM_BACKPROP_XENT;
        if (l == L)
            LLM_LAUNCH(llm_backprop_last_kernel, (unsigned)((N * out + 255) / 256), 256, 0, stream,
                       delta, a_l, y, N * out, (linear ? 1.0f : 2.0f) / (float)N, linear, net->phi);
        if (square)
            LLM_LAUNCH(llm_backprop_square_kernel, llm_row_blocks(N, true), 128, 0, stream, square,
                       delta, a_in, N, in, out, l < L);
        cudaError_t error = cudaGetLastError();
        if (dw && error == cudaSuccess)
            error = llm_cuda_dense_backward((float *)NULL, dw + end_w, dw + end_w + out * in, delta,
                                            a_in, w_l, N, in, out, slices, stream);
        if (l > 1 && error == cudaSuccess) {
            const llm_cuda_backprop_below end = {below, a_in, in, net->phi};
            LLM_LAUNCH((llm_gemm_kernel<false, true, float, llm_cuda_backprop_below>),
                       llm_cuda_gemm_blocks(N, in), 256, 0, stream, end, delta, w_l, N, in, out,
                       out);
            error = cudaGetLastError();
        }
        if (error != cudaSuccess) return error;
        float *swap = delta;
        delta = below, below = swap;
    }
    return cudaSuccess;
}

/* @lasso ---------------------------------------------------- L1 regularization
 *
 * Many lasso problems on one design, one block each: the penalties of a path, the folds' targets,
 * sparse codes of many signals in one dictionary. All steps of FISTA run in one launch: w, the
 * point ahead of it and the residual never leave shared memory, the soft threshold is applied to
 * the slope where it was summed, and X is kept in shared memory too where it fits, else L2 serves
 * it to all blocks. Columns of X are stored as rows, so the residual (a thread an example) and the
 * slopes (a warp a column) both read neighbours; columns whose coefficient is 0 cost the residual
 * nothing. In float: the fixed point is as exact as one slope is.
 *
 * Reads X, y and w once where X fits, 4 (n d + n + d) bytes; a step is at most 6 n d operations and
 * eight barriers. Limit: shared memory, a load for each multiply-add; launches would be, if every
 * step were a few kernels.
 *
 * source  Beck & Teboulle 2009; O'Donoghue & Candes 2015, "Adaptive restart" (gradient scheme)
 * needs   cuda_launch, cuda_memory, cuda_reduce
 * see     ridge
 * topics  -
 */

LLM_DEVICE float llm_cuda_lasso_soft(float z, float by) {
    return fabsf(z) <= by ? 0.0f : z - copysignf(by, z); /* NaN stays */
}
/* Entry i of X (v - minus), for x (d,n); minus may be NULL. */
LLM_DEVICE float llm_cuda_lasso_entry(const float *x, const float *v, const float *minus, size_t i,
                                      size_t n, size_t d) {
    float sum = 0.0f;
    for (size_t j = 0; j < d; j++) {
        const float by = v[j] - (minus ? minus[j] : 0.0f);
        if (by != 0.0f) sum += x[j * n + i] * by; /* the same j in all threads */
    }
    return sum;
}
/* slope (d) <- X' e / n, or the mean squares of the columns where e is NULL: a warp a column. */
LLM_DEVICE void llm_cuda_lasso_slopes(float *slope, const float *x, const float *e, size_t n,
                                      size_t d) {
    const unsigned lane = threadIdx.x % 32;
    for (size_t j = threadIdx.x / 32; j < d; j += 8) {
        float sum = 0.0f;
        for (size_t i = lane; i < n; i += 32) sum += x[j * n + i] * (e ? e[i] : x[j * n + i]);
        sum = llm_warp_sum(sum);
        if (lane == 0) slope[j] = sum / (float)n;
    }
}

/* Shared: w, ahead, next, slope (d), residual (n), and x (d,n) where `keep`. */
template <bool keep>
LLM_KERNEL void __launch_bounds__(256, 4)
    llm_lasso_kernel(float *w_all, const float *x_all, const float *y, const float *lam, size_t n,
                     size_t d, size_t y_step, size_t steps) {
    LLM_DYNAMIC_SHARED(float, w);
    float *ahead = w + d, *next = ahead + d, *slope = next + d, *e = slope + d;
    const float *x = keep ? e + n : x_all;
    const float penalty = llm_load(lam, blockIdx.x);
    y += blockIdx.x * y_step, w_all += blockIdx.x * d;
    for (size_t i = threadIdx.x; keep && i < n * d; i += 256) e[n + i] = llm_load(x_all, i);
    for (size_t j = threadIdx.x; j < d; j += 256) w[j] = ahead[j] = llm_load(w_all, j);
    __syncthreads();
    llm_cuda_lasso_slopes(slope, x, (const float *)NULL, n, d);
    __syncthreads();
    float L = 0.0f, pace = 1.0f;
    for (size_t j = threadIdx.x; j < d; j += 256) L = fmaxf(L, slope[j]);
    L = llm_block_max(L);
    for (size_t step = 0; L > 0.0f && step < steps; step++) {
        for (size_t i = threadIdx.x; i < n; i += 256)
            e[i] = llm_load(y, i) - llm_cuda_lasso_entry(x, ahead, (const float *)NULL, i, n, d);
        __syncthreads();
        llm_cuda_lasso_slopes(slope, x, e, n, d);
        __syncthreads();
        for (bool above = false; !above;) {
            float length = 0.0f, curve = 0.0f; /* L |step|^2 against |X step|^2 / n */
            for (size_t j = threadIdx.x; j < d; j += 256) {
                next[j] = llm_cuda_lasso_soft(ahead[j] + slope[j] / L, penalty / L);
                length += L * (next[j] - ahead[j]) * (next[j] - ahead[j]);
            }
            __syncthreads();
            for (size_t i = threadIdx.x; i < n; i += 256) {
                const float move = llm_cuda_lasso_entry(x, next, ahead, i, n, d);
                curve += move * move / (float)n;
            }
            llm_block_sum2(length, curve);         /* the same bits in all threads, */
            above = !(curve > length * 1.000001f); /* who so decide alike; NaN ends it */
            if (!above) L *= 2.0f;
        }
        float uphill = 0.0f;
        for (size_t j = threadIdx.x; j < d; j += 256)
            uphill += (ahead[j] - next[j]) * (next[j] - w[j]);
        uphill = llm_block_sum(uphill);
        if (uphill > 0.0f) pace = 1.0f;
        const float pace_next = 0.5f * (1.0f + sqrtf(1.0f + 4.0f * pace * pace));
        const float momentum = uphill > 0.0f ? 0.0f : (pace - 1.0f) / pace_next;
        for (size_t j = threadIdx.x; j < d; j += 256) {
            ahead[j] = next[j] + momentum * (next[j] - w[j]);
            w[j] = next[j];
        }
        pace = pace_next;
        __syncthreads();
    }
    for (size_t j = threadIdx.x; j < d; j += 256) llm_store(w_all, j, w[j]);
}

/* w (B,d) from where it stands <- llm_lasso_fista of x (d,n), a row a column of the centred design,
 * y (B,n) or, with one_y, (n) for all, lam (B): so many steps each. cudaErrorInvalidValue where 4 d
 * + n floats exceed 160 KB of shared memory. */
static inline __attribute__((unused)) cudaError_t
llm_cuda_lasso_fista(float *w, const float *x, const float *y, bool one_y, const float *lam,
                     size_t B, size_t n, size_t d, size_t steps, cudaStream_t stream) {
    const size_t most = 160 * 1024, least = 4 * (4 * d + n), all = least + 4 * n * d;
    if (least > most) return cudaErrorInvalidValue;
    if (B == 0 || n == 0 || d == 0) return cudaSuccess;
    const auto fista = all <= most ? llm_lasso_kernel<true> : llm_lasso_kernel<false>;
    LLM_LAUNCH(fista, (unsigned)B, 256, all <= most ? all : least, stream, w, x, y, lam, n, d,
               one_y ? 0 : n, steps);
    return cudaGetLastError();
}

/* @ridge ---------------------------------------------------- L2 regularization
 *
 * Many small ridge regressions, one block each: a matrix factorisation solves one for each user and
 * item, a grid of penalties one for each lam. Normal equations, Cholesky factor and both triangular
 * solves stay in shared memory; the right side stands as one row more below the matrix, so that
 * factoring makes the forward solve on the way. In double, as the reference: X'X squares the
 * condition number, and float has no digits for that.
 *
 * Reads x and y once, 4 n (d + 1) bytes a system, the minimum, and writes d floats. n k^2 / 2
 * operations for the products, k^3 / 6 for the factor, k = min(n,d). Limit: those in double, half
 * the rate of float on data-centre cards (a sixty-fourth on others); for small k the 3 k barriers.
 *
 * source  -
 * needs   cuda_launch, cuda_memory
 * see     fisher_info (one large Gram matrix)
 * topics  -
 */
enum { LLM_CUDA_RIDGE_MOST = 128 };

/* Shared: a, rows of k + 1, row k the right side; the diagonal before factoring (k); 8 rows of
 * k + 1. */
LLM_KERNEL void __launch_bounds__(256)
    llm_ridge_kernel(float *w, bool *solved, const float *x, const float *y, size_t n, size_t d,
                     size_t x_step, const double *lam) {
    LLM_DYNAMIC_SHARED(double, a);
    const size_t k = n < d ? n : d, across = n < d ? d : n, width = k + 1;
    const unsigned t = threadIdx.x, column = t % 16, row = t / 16;
    double *diagonal = a + width * width, *part = diagonal + width;
    const double penalty = lam[blockIdx.x];
    x += blockIdx.x * x_step, y += blockIdx.x * n, w += blockIdx.x * d;
    for (size_t i = t; i < width * width; i += 256)
        a[i] = n < d && i / width == k && i % width < k ? (double)llm_load(y, i % width) : 0.0;

    /* X'X over X'y, or XX' over y: eight rows, or columns, of x at a time, y as one more */
    for (size_t from = 0; from < across; from += 8) {
        __syncthreads();
        for (size_t i = t; i < 8 * width; i += 256) {
            const size_t j = n < d ? i / 8 : i % width, r = from + (n < d ? i % 8 : i / width);
            double v = 0.0;
            if (r < across && j < k) v = (double)llm_load(x, n < d ? j * d + r : r * d + j);
            if (r < across && j == k && n >= d) v = (double)llm_load(y, r);
            part[(n < d ? i % 8 : i / width) * width + j] = v;
        }
        __syncthreads();
        for (size_t i = row; i < width; i += 16)
            for (size_t j = column; j <= i && j < k; j += 16) {
                double sum = a[i * width + j];
                LLM_UNROLL
                for (unsigned r = 0; r < 8; r++) sum += part[r * width + i] * part[r * width + j];
                a[i * width + j] = sum;
            }
    }
    __syncthreads();
    for (size_t i = t; i < k; i += 256) diagonal[i] = a[i * width + i] += penalty;
    bool good = penalty >= 0.0;
    for (size_t p = 0; p < k; p++) {
        __syncthreads();
        const double pivot = a[p * width + p], least = (double)k * DBL_EPSILON;
        if (!(pivot > least * diagonal[p] && pivot <= DBL_MAX)) good = false; /* in all threads */
        const double root = sqrt(pivot);
        for (size_t i = p + 1 + t; i < width; i += 256) a[i * width + p] /= root;
        __syncthreads();
        if (t == 0) diagonal[p] = root;
        for (size_t i = p + 1 + row; i < width; i += 16)
            for (size_t j = p + 1 + column; j <= i && j < k; j += 16)
                a[i * width + j] -= a[i * width + p] * a[j * width + p];
    }
    for (size_t p = k; p-- > 0;) { /* L' z = what the right side has become */
        __syncthreads();
        const double z = a[k * width + p] / diagonal[p];
        for (size_t j = t; j < p; j += 256) a[k * width + j] -= a[p * width + j] * z;
        if (t == 0) part[p] = z;
    }
    __syncthreads();
    if (t == 0) solved[blockIdx.x] = good;
    for (size_t j = t; good && j < d; j += 256) {
        double sum = n < d ? 0.0 : part[j];
        for (size_t i = 0; n < d && i < n; i++) sum += (double)llm_load(x, i * d + j) * part[i];
        llm_store(w, j, (float)sum);
    }
}

/* w (B,d), solved (B) <- llm_ridge_fit of x (B,n,d), y (B,n), lam (B). Where it says false, lam is
 * negative or NaN or the matrix singular to working precision, w stays as it is. shared_x: all
 * systems have one x (n,d). cudaErrorInvalidValue where min(n,d) exceeds LLM_CUDA_RIDGE_MOST. */
static inline __attribute__((unused)) cudaError_t
llm_cuda_ridge_fit(float *w, bool *solved, const float *x, const float *y, size_t B, size_t n,
                   size_t d, const double *lam, bool shared_x, cudaStream_t stream) {
    const size_t k = n < d ? n : d, width = k + 1;
    if (k > LLM_CUDA_RIDGE_MOST) return cudaErrorInvalidValue;
    if (B == 0) return cudaSuccess;
    LLM_LAUNCH(llm_ridge_kernel, (unsigned)B, 256,
               (width * width + width + 8 * width) * sizeof(double), stream, w, solved, x, y, n, d,
               shared_x ? 0 : n * d, lam);
    return cudaGetLastError();
}

/* @04-classic =============================================== CLASSICAL MACHINE LEARNING */

/* @05-infer ============================================== PROBABILISTIC INFERENCE AND CAUSALITY */

/* @06-nn ==================================================== NEURONS, LAYERS AND NORMALIZATION */

/* @activation ----------------------------------------------- Activation functions
 *
 * y = phi(x + b) in one kernel: the bias has to be added somewhere, and alone it would move as much
 * as the activation does. Backward takes forward's input and bias again. There a block takes 256
 * threads' worth of columns and every gridDim.y-th row, so that a thread keeps its columns: its
 * share of db stays in registers, and a second kernel adds the shares in a fixed order.
 *
 * Moves 2 elements (x in, y out) forwards and 4 backwards (x, dy, dx in; dx out), the minimum.
 * Limit: memory bandwidth.
 *
 * source  -
 * needs   cuda_launch, cuda_memory, cuda_reduce
 * see     dense, swiglu
 * topics  -
 */
LLM_DEVICE float llm_cuda_activation_sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }
LLM_DEVICE float llm_cuda_activation_softplus(float x) {
    return fmaxf(x, 0.0f) + log1pf(expf(-fabsf(x)));
}
/* llm_activation_value on the device; every thread has the same kind, so the switch does not part
 * the warp. */
LLM_DEVICE float llm_cuda_activation_value(float x, int kind) {
    switch (kind) {
    case LLM_ACTIVATION_IDENTITY:
        return x;
    case LLM_ACTIVATION_RELU:
        return x < 0.0f ? 0.0f : x;
    case LLM_ACTIVATION_GELU:
        return 0.5f * x * erfcf(-0.70710678f * x);
    case LLM_ACTIVATION_GELU_TANH:
        return x * llm_cuda_activation_sigmoid(1.5957691f * (x + 0.044715f * x * x * x));
    case LLM_ACTIVATION_SILU:
        return x * llm_cuda_activation_sigmoid(x);
    case LLM_ACTIVATION_SIGMOID:
        return llm_cuda_activation_sigmoid(x);
    case LLM_ACTIVATION_TANH:
        return tanhf(x);
    case LLM_ACTIVATION_LEAKY_RELU:
        return x < 0.0f ? 0.01f * x : x;
    case LLM_ACTIVATION_RELU_SQUARED:
        return x < 0.0f ? 0.0f : x * x;
    case LLM_ACTIVATION_ELU:
        return x < 0.0f ? expm1f(x) : x;
    case LLM_ACTIVATION_SELU:
        return x < 0.0f ? 1.0507010f * 1.6732632f * expm1f(x) : 1.0507010f * x;
    case LLM_ACTIVATION_SOFTPLUS:
        return llm_cuda_activation_softplus(x);
    case LLM_ACTIVATION_MISH:
        return x * tanhf(llm_cuda_activation_softplus(x));
    case LLM_ACTIVATION_HARD_SIGMOID:
        return x < -3.0f ? 0.0f : x > 3.0f ? 1.0f : x / 6.0f + 0.5f;
    case LLM_ACTIVATION_HARD_SWISH:
        return x < -3.0f ? 0.0f : x > 3.0f ? x : x * (x / 6.0f + 0.5f);
    case LLM_ACTIVATION_SOFTSIGN:
        return x / (1.0f + fabsf(x));
    }
    return NAN;
}
/* llm_activation_slope on the device. */
LLM_DEVICE float llm_cuda_activation_slope(float x, int kind) {
    float t = llm_cuda_activation_sigmoid(x);
    switch (kind) {
    case LLM_ACTIVATION_IDENTITY:
        return 1.0f;
    case LLM_ACTIVATION_RELU:
        return x > 0.0f ? 1.0f : 0.0f;
    case LLM_ACTIVATION_GELU:
        return 0.5f * erfcf(-0.70710678f * x) + 0.39894228f * x * expf(-0.5f * x * x);
    case LLM_ACTIVATION_GELU_TANH:
        t = llm_cuda_activation_sigmoid(1.5957691f * (x + 0.044715f * x * x * x));
        return t + x * t * (1.0f - t) * 1.5957691f * (1.0f + 3.0f * 0.044715f * x * x);
    case LLM_ACTIVATION_SILU:
        return t * (1.0f + x * (1.0f - t));
    case LLM_ACTIVATION_SIGMOID:
        return t * (1.0f - t);
    case LLM_ACTIVATION_TANH:
        t = tanhf(x);
        return 1.0f - t * t;
    case LLM_ACTIVATION_LEAKY_RELU:
        return x > 0.0f ? 1.0f : 0.01f;
    case LLM_ACTIVATION_RELU_SQUARED:
        return x > 0.0f ? 2.0f * x : 0.0f;
    case LLM_ACTIVATION_ELU:
        return x > 0.0f ? 1.0f : expf(x);
    case LLM_ACTIVATION_SELU:
        return x > 0.0f ? 1.0507010f : 1.0507010f * 1.6732632f * expf(x);
    case LLM_ACTIVATION_SOFTPLUS:
        return t;
    case LLM_ACTIVATION_MISH: {
        const float h = tanhf(llm_cuda_activation_softplus(x));
        return h + x * (1.0f - h * h) * t;
    }
    case LLM_ACTIVATION_HARD_SIGMOID:
        return x > -3.0f && x < 3.0f ? 1.0f / 6.0f : 0.0f;
    case LLM_ACTIVATION_HARD_SWISH:
        return x <= -3.0f ? 0.0f : x < 3.0f ? x / 3.0f + 0.5f : 1.0f;
    case LLM_ACTIVATION_SOFTSIGN:
        t = 1.0f + fabsf(x);
        return 1.0f / (t * t);
    }
    return NAN;
}

template <typename T, int V>
LLM_KERNEL void llm_activation_forward_kernel(T *y, const T *x, const T *b, size_t C, int kind) {
    const llm_place p = llm_my_place<V>(C);
    if (p.column >= C) return;
    float v[V];
    llm_load_vector(v, x, p.row * C + p.column);
    if (b) {
        float b_v[V];
        llm_load_vector(b_v, b, p.column);
        LLM_UNROLL
        for (int k = 0; k < V; k++) v[k] += b_v[k];
    }
    LLM_UNROLL
    for (int k = 0; k < V; k++) v[k] = llm_cuda_activation_value(v[k], kind);
    llm_store_vector(y, p.row * C + p.column, v);
}

/* y (N,C) <- phi(x (N,C) + b (C)), b may be NULL; y may be x. T is float or llm_bf16. A flat array
 * is N = 1. */
template <typename T>
static inline cudaError_t llm_cuda_activation_forward(T *y, const T *x, const T *b, size_t N,
                                                      size_t C, int kind, cudaStream_t stream) {
    enum { V = 16 / sizeof(T) };
    if (N == 0 || C == 0) return cudaSuccess;
    const bool wide = llm_aligned(y, C) && llm_aligned(x, C) && llm_aligned(b, C);
    const auto activation_forward =
        wide ? llm_activation_forward_kernel<T, V> : llm_activation_forward_kernel<T, 1>;
    LLM_LAUNCH(activation_forward, llm_place_blocks(N, C, wide ? (size_t)V : 1), 256, 0, stream, y,
               x, b, C, kind);
    return cudaGetLastError();
}

template <typename T, int V>
LLM_KERNEL void llm_activation_backward_kernel(T *dx, float *part, const T *dy, const T *x,
                                               const T *b, size_t N, size_t C, int kind) {
    const size_t column = ((size_t)blockIdx.x * 256 + threadIdx.x) * V;
    if (column >= C) return;
    float db[V], b_v[V], dy_v[V], x_v[V], dx_v[V];
    LLM_UNROLL
    for (int k = 0; k < V; k++) db[k] = b_v[k] = 0.0f;
    if (b) llm_load_vector(b_v, b, column);
    for (size_t n = blockIdx.y; n < N; n += gridDim.y) {
        llm_load_vector(dy_v, dy, n * C + column);
        llm_load_vector(x_v, x, n * C + column);
        if (dx) llm_load_vector(dx_v, dx, n * C + column);
        LLM_UNROLL
        for (int k = 0; k < V; k++) {
            const float d = dy_v[k] * llm_cuda_activation_slope(x_v[k] + b_v[k], kind);
            db[k] += d;
            if (dx) dx_v[k] += d;
        }
        if (dx) llm_store_vector(dx, n * C + column, dx_v);
    }
    if (part) llm_store_vector(part, blockIdx.y * C + column, db);
}

/* Shares of db, each of C floats: by the shape alone, 2^18 threads in all where there are so many.
 * */
template <typename T> static inline size_t llm_cuda_activation_shares(size_t N, size_t C) {
    const size_t pieces = (C * sizeof(T) / 16 + 255) / 256, most = 1024 / (pieces ? pieces : 1);
    return N < most ? N : most ? most : 1;
}

/* dx (N,C) +=, db (C) += <- dy (N,C), forward's x, b (NULL if it had none). dx, db may be NULL.
 * scratch: C llm_cuda_activation_shares<T>(N, C) floats, not read, or NULL without db. */
template <typename T>
static inline cudaError_t llm_cuda_activation_backward(T *dx, float *db, const T *dy, const T *x,
                                                       const T *b, size_t N, size_t C, int kind,
                                                       float *scratch, cudaStream_t stream) {
    enum { V = 16 / sizeof(T) };
    if (N == 0 || C == 0) return cudaSuccess;
    const bool wide =
        llm_aligned(dx, C) && llm_aligned(dy, C) && llm_aligned(x, C) && llm_aligned(b, C);
    const size_t shares = llm_cuda_activation_shares<T>(N, C), rows = db ? shares : N;
    const size_t width = wide ? 256 * V : 256;
    const auto activation_backward =
        wide ? llm_activation_backward_kernel<T, V> : llm_activation_backward_kernel<T, 1>;
    const dim3 grid((unsigned)((C + width - 1) / width), (unsigned)(rows < 65535 ? rows : 65535));
    LLM_LAUNCH(activation_backward, grid, 256, 0, stream, dx, db ? scratch : NULL, dy, x, b, N, C,
               kind);
    const cudaError_t error = cudaGetLastError();
    return db && error == cudaSuccess ? llm_cuda_column_sum(db, scratch, shares, C, stream) : error;
}

/* @sigmoid -------------------------------------------------- Sigmoid
 *
 * The sigmoid with its temperature, and the gate y = s a + (1 - s) b in one kernel, which leaves s
 * for backward; the three gradients of the gate are one kernel too. Apart they would read s twice
 * more and write two products that nobody keeps.
 *
 * Moves 2 elements forwards (x in, y out) and 4 backwards (y, dy, dx in; dx out); the gate 5 (z, a,
 * b in; y, s out) and 10 (dy, s, a, b and three gradients in; those out): the minimum. Limit:
 * memory bandwidth.
 *
 * source  -
 * needs   cuda_launch, cuda_memory, cuda_reduce
 * see     activation, tanh
 * topics  -
 */
LLM_DEVICE float llm_cuda_sigmoid_value(float x) { /* llm_sigmoid_value: e^-|x| cannot overflow */
    const float e = expf(-fabsf(x)), s = 1.0f / (1.0f + e);
    return x < 0.0f ? e * s : s;
}

template <typename T, int V>
LLM_KERNEL void llm_sigmoid_forward_kernel(T *y, const T *x, size_t n, float temp) {
    const size_t i = llm_my_place<V>(n).column;
    if (i >= n) return;
    float v[V];
    llm_load_vector(v, x, i);
    LLM_UNROLL
    for (int k = 0; k < V; k++) v[k] = llm_cuda_sigmoid_value(v[k] / temp);
    llm_store_vector(y, i, v);
}
template <typename T, int V>
LLM_KERNEL void llm_sigmoid_backward_kernel(T *dx, const T *dy, const T *y, size_t n, float temp) {
    const size_t i = llm_my_place<V>(n).column;
    if (i >= n) return;
    float d[V], dy_v[V], y_v[V];
    llm_load_vector(d, dx, i);
    llm_load_vector(dy_v, dy, i);
    llm_load_vector(y_v, y, i);
    LLM_UNROLL
    for (int k = 0; k < V; k++) d[k] += dy_v[k] * y_v[k] * (1.0f - y_v[k]) / temp;
    llm_store_vector(dx, i, d);
}

/* Arguments as llm_sigmoid_forward; T is float or llm_bf16. */
template <typename T>
static inline cudaError_t llm_cuda_sigmoid_forward(T *y, const T *x, size_t n, float temp,
                                                   cudaStream_t stream) {
    enum { V = 16 / sizeof(T) };
    if (n == 0) return cudaSuccess;
    const bool wide = llm_aligned(y, n) && llm_aligned(x, n);
    const auto sigmoid_forward =
        wide ? llm_sigmoid_forward_kernel<T, V> : llm_sigmoid_forward_kernel<T, 1>;
    LLM_LAUNCH(sigmoid_forward, llm_place_blocks(1, n, wide ? (size_t)V : 1), 256, 0, stream, y, x,
               n, temp);
    return cudaGetLastError();
}
/* dx (n) +=: arguments as llm_sigmoid_backward. */
template <typename T>
static inline cudaError_t llm_cuda_sigmoid_backward(T *dx, const T *dy, const T *y, size_t n,
                                                    float temp, cudaStream_t stream) {
    enum { V = 16 / sizeof(T) };
    if (n == 0) return cudaSuccess;
    const bool wide = llm_aligned(dx, n) && llm_aligned(dy, n) && llm_aligned(y, n);
    const auto sigmoid_backward =
        wide ? llm_sigmoid_backward_kernel<T, V> : llm_sigmoid_backward_kernel<T, 1>;
    LLM_LAUNCH(sigmoid_backward, llm_place_blocks(1, n, wide ? (size_t)V : 1), 256, 0, stream, dx,
               dy, y, n, temp);
    return cudaGetLastError();
}

template <typename T, int V>
LLM_KERNEL void llm_sigmoid_gate_forward_kernel(T *y, T *s, const T *z, const T *a, const T *b,
                                                size_t n) {
    const size_t i = llm_my_place<V>(n).column;
    if (i >= n) return;
    float z_v[V], a_v[V], b_v[V];
    llm_load_vector(z_v, z, i);
    llm_load_vector(a_v, a, i);
    llm_load_vector(b_v, b, i);
    LLM_UNROLL
    for (int k = 0; k < V; k++) {
        z_v[k] = llm_cuda_sigmoid_value(z_v[k]);
        a_v[k] = z_v[k] * a_v[k] + (1.0f - z_v[k]) * b_v[k];
    }
    llm_store_vector(y, i, a_v);
    llm_store_vector(s, i, z_v);
}
template <typename T, int V>
LLM_KERNEL void llm_sigmoid_gate_backward_kernel(T *dz, T *da, T *db, const T *dy, const T *s,
                                                 const T *a, const T *b, size_t n) {
    const size_t i = llm_my_place<V>(n).column;
    if (i >= n) return;
    float dy_v[V], s_v[V], a_v[V], b_v[V], d[V];
    llm_load_vector(dy_v, dy, i);
    llm_load_vector(s_v, s, i);
    if (dz) {
        llm_load_vector(a_v, a, i);
        llm_load_vector(b_v, b, i);
        llm_load_vector(d, dz, i);
        LLM_UNROLL
        for (int k = 0; k < V; k++) d[k] += dy_v[k] * (a_v[k] - b_v[k]) * s_v[k] * (1.0f - s_v[k]);
        llm_store_vector(dz, i, d);
    }
    if (da) {
        llm_load_vector(d, da, i);
        LLM_UNROLL
        for (int k = 0; k < V; k++) d[k] += dy_v[k] * s_v[k];
        llm_store_vector(da, i, d);
    }
    if (db) {
        llm_load_vector(d, db, i);
        LLM_UNROLL
        for (int k = 0; k < V; k++) d[k] += dy_v[k] * (1.0f - s_v[k]);
        llm_store_vector(db, i, d);
    }
}

/* Arguments as llm_sigmoid_gate_forward; T is float or llm_bf16. */
template <typename T>
static inline cudaError_t llm_cuda_sigmoid_gate_forward(T *y, T *s, const T *z, const T *a,
                                                        const T *b, size_t n, cudaStream_t stream) {
    enum { V = 16 / sizeof(T) };
    if (n == 0) return cudaSuccess;
    const bool wide = llm_aligned(y, n) && llm_aligned(s, n) && llm_aligned(z, n) &&
                      llm_aligned(a, n) && llm_aligned(b, n);
    const auto gate_forward =
        wide ? llm_sigmoid_gate_forward_kernel<T, V> : llm_sigmoid_gate_forward_kernel<T, 1>;
    LLM_LAUNCH(gate_forward, llm_place_blocks(1, n, wide ? (size_t)V : 1), 256, 0, stream, y, s, z,
               a, b, n);
    return cudaGetLastError();
}
/* dz, da, db (n) +=: arguments as llm_sigmoid_gate_backward; each may be NULL. */
template <typename T>
static inline cudaError_t llm_cuda_sigmoid_gate_backward(T *dz, T *da, T *db, const T *dy,
                                                         const T *s, const T *a, const T *b,
                                                         size_t n, cudaStream_t stream) {
    enum { V = 16 / sizeof(T) };
    if (n == 0) return cudaSuccess;
    const bool wide = llm_aligned(dz, n) && llm_aligned(da, n) && llm_aligned(db, n) &&
                      llm_aligned(dy, n) && llm_aligned(s, n) && llm_aligned(a, n) &&
                      llm_aligned(b, n);
    const auto gate_backward =
        wide ? llm_sigmoid_gate_backward_kernel<T, V> : llm_sigmoid_gate_backward_kernel<T, 1>;
    LLM_LAUNCH(gate_backward, llm_place_blocks(1, n, wide ? (size_t)V : 1), 256, 0, stream, dz, da,
               db, dy, s, a, b, n);
    return cudaGetLastError();
}

/* @tanh ----------------------------------------------------- Tanh
 *
 * cap tanh(x / cap), which is tanh for a cap of 1, three ways: CUDA's tanhf; the quotient of
 * llm_tanh_fast, a dozen multiply-adds and a division; and the card's own instruction, right to 11
 * bits, for bfloat16 as good as the others. Backward needs the output only.
 *
 * Moves 2 elements forwards and 4 backwards, the minimum. Limit: memory bandwidth, for all three.
 *
 * source  NVIDIA, PTX ISA, "tanh.approx"
 * needs   cuda_launch, cuda_memory, cuda_reduce
 * see     sigmoid
 * topics  -
 */
enum { LLM_CUDA_TANH_EXACT, LLM_CUDA_TANH_QUOTIENT, LLM_CUDA_TANH_HARDWARE };

/* llm_tanh_fast, the card's instruction, and the choice. */
LLM_DEVICE float llm_cuda_tanh_quotient(float x) {
    const float most = 7.90531111f, u = x < -most ? -most : x > most ? most : x, q = u * u;
    float top = 2.00018790e-13f + q * -2.76076848e-16f;
    top = -8.60467152e-11f + q * top;
    top = 5.12229709e-08f + q * top;
    top = 1.48572236e-05f + q * top;
    top = 6.37261929e-04f + q * top;
    top = 4.89352456e-03f + q * top;
    const float bottom =
        4.89352519e-03f + q * (2.26843463e-03f + q * (1.18534706e-04f + q * 1.19825839e-06f));
    return u * top / bottom;
}
LLM_DEVICE float llm_cuda_tanh_hardware(float x) {
#ifdef __CUDA_ARCH__
    float y;
    asm("tanh.approx.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
#else
    return tanhf(x);
#endif
}
template <int kind> LLM_DEVICE float llm_cuda_tanh_value(float x) {
    return kind == LLM_CUDA_TANH_QUOTIENT   ? llm_cuda_tanh_quotient(x)
           : kind == LLM_CUDA_TANH_HARDWARE ? llm_cuda_tanh_hardware(x)
                                            : tanhf(x);
}

template <typename T, int V, int kind>
LLM_KERNEL void llm_tanh_forward_kernel(T *y, const T *x, size_t n, float cap) {
    const size_t i = llm_my_place<V>(n).column;
    if (i >= n) return;
    float v[V];
    llm_load_vector(v, x, i);
    LLM_UNROLL
    for (int k = 0; k < V; k++) v[k] = cap * llm_cuda_tanh_value<kind>(v[k] / cap);
    llm_store_vector(y, i, v);
}
template <typename T, int V>
LLM_KERNEL void llm_tanh_backward_kernel(T *dx, const T *dy, const T *y, size_t n, float cap) {
    const size_t i = llm_my_place<V>(n).column;
    if (i >= n) return;
    float d[V], dy_v[V], y_v[V];
    llm_load_vector(d, dx, i);
    llm_load_vector(dy_v, dy, i);
    llm_load_vector(y_v, y, i);
    LLM_UNROLL
    for (int k = 0; k < V; k++) {
        const float t = y_v[k] / cap;
        d[k] += dy_v[k] * (1.0f - t * t);
    }
    llm_store_vector(dx, i, d);
}

/* y (n) <- x (n): cap tanh(x / cap), computed in one of the three ways; T is float or llm_bf16. y
 * may be x. */
template <typename T>
static inline cudaError_t llm_cuda_tanh_cap_forward(T *y, const T *x, size_t n, float cap, int kind,
                                                    cudaStream_t stream) {
    enum { V = 16 / sizeof(T) };
    if (n == 0) return cudaSuccess;
    const bool wide = llm_aligned(y, n) && llm_aligned(x, n);
    const auto tanh_forward = kind == LLM_CUDA_TANH_QUOTIENT
                                  ? wide ? llm_tanh_forward_kernel<T, V, LLM_CUDA_TANH_QUOTIENT>
                                         : llm_tanh_forward_kernel<T, 1, LLM_CUDA_TANH_QUOTIENT>
                              : kind == LLM_CUDA_TANH_HARDWARE
                                  ? wide ? llm_tanh_forward_kernel<T, V, LLM_CUDA_TANH_HARDWARE>
                                         : llm_tanh_forward_kernel<T, 1, LLM_CUDA_TANH_HARDWARE>
                              : wide ? llm_tanh_forward_kernel<T, V, LLM_CUDA_TANH_EXACT>
                                     : llm_tanh_forward_kernel<T, 1, LLM_CUDA_TANH_EXACT>;
    LLM_LAUNCH(tanh_forward, llm_place_blocks(1, n, wide ? (size_t)V : 1), 256, 0, stream, y, x, n,
               cap);
    return cudaGetLastError();
}
/* dx (n) +=: arguments as llm_tanh_cap_backward. */
template <typename T>
static inline cudaError_t llm_cuda_tanh_cap_backward(T *dx, const T *dy, const T *y, size_t n,
                                                     float cap, cudaStream_t stream) {
    enum { V = 16 / sizeof(T) };
    if (n == 0) return cudaSuccess;
    const bool wide = llm_aligned(dx, n) && llm_aligned(dy, n) && llm_aligned(y, n);
    const auto tanh_backward =
        wide ? llm_tanh_backward_kernel<T, V> : llm_tanh_backward_kernel<T, 1>;
    LLM_LAUNCH(tanh_backward, llm_place_blocks(1, n, wide ? (size_t)V : 1), 256, 0, stream, dx, dy,
               y, n, cap);
    return cudaGetLastError();
}

/* @relu ----------------------------------------------------- ReLU
 *
 * A warp takes 32 neighbours at a time: each thread compares its own, and one ballot gathers the 32
 * answers into the word of the mask. Four such groups a warp keep four loads on their way.
 * Backward reads the mask instead of x, and of dy and dx only what passes.
 *
 * Moves 2 elements and a bit forwards (x in, y and mask out); backwards a bit and, of what passed,
 * 3 (dy, dx in; dx out): the minimum, but for lines of memory of which only a part passes. Limit:
 * memory bandwidth.
 *
 * source  -
 * needs   cuda_launch, cuda_memory
 * see     activation
 * topics  -
 */
enum { LLM_CUDA_RELU_GROUPS = 4 }; /* of 32 elements, a warp */

template <typename T>
LLM_KERNEL void llm_relu_forward_kernel(T *y, uint32_t *mask, const T *x, size_t n, float cap) {
    const size_t lane = threadIdx.x % 32;
    const size_t warp = ((size_t)blockIdx.x * blockDim.x + threadIdx.x) / 32;
    float v[LLM_CUDA_RELU_GROUPS];
    LLM_UNROLL
    for (int k = 0; k < LLM_CUDA_RELU_GROUPS; k++) {
        const size_t i = (warp * LLM_CUDA_RELU_GROUPS + (size_t)k) * 32 + lane;
        v[k] = i < n ? llm_load(x, i) : 0.0f;
    }
    LLM_UNROLL
    for (int k = 0; k < LLM_CUDA_RELU_GROUPS; k++) {
        const size_t word = warp * LLM_CUDA_RELU_GROUPS + (size_t)k, i = word * 32 + lane;
        const unsigned bits = __ballot_sync(0xffffffffu, v[k] > 0.0f && v[k] < cap);
        if (i < n) llm_store(y, i, v[k] < 0.0f ? 0.0f : v[k] > cap ? cap : v[k]);
        if (mask && lane == 0 && i < n) {
            LLM_TOUCH(mask + word, sizeof *mask, true);
            mask[word] = bits;
        }
    }
}
template <typename T>
LLM_KERNEL void llm_relu_backward_kernel(T *dx, const T *dy, const uint32_t *mask, size_t n) {
    const size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    if (i % 32 == 0) LLM_TOUCH(mask + i / 32, sizeof *mask, false); /* one word for the warp */
    if (mask[i / 32] >> (i % 32) & 1u) llm_store(dx, i, llm_load(dx, i) + llm_load(dy, i));
}

/* Arguments as llm_relu_forward; mask may be NULL. T is float or llm_bf16. */
template <typename T>
static inline cudaError_t llm_cuda_relu_forward(T *y, uint32_t *mask, const T *x, size_t n,
                                                float cap, cudaStream_t stream) {
    const size_t a_block = 256 * LLM_CUDA_RELU_GROUPS;
    if (n == 0) return cudaSuccess;
    LLM_LAUNCH((llm_relu_forward_kernel<T>), (unsigned)((n + a_block - 1) / a_block), 256, 0,
               stream, y, mask, x, n, cap);
    return cudaGetLastError();
}
/* dx (n) +=: arguments as llm_relu_backward. */
template <typename T>
static inline cudaError_t llm_cuda_relu_backward(T *dx, const T *dy, const uint32_t *mask, size_t n,
                                                 cudaStream_t stream) {
    if (n == 0) return cudaSuccess;
    LLM_LAUNCH((llm_relu_backward_kernel<T>), (unsigned)((n + 255) / 256), 256, 0, stream, dx, dy,
               mask, n);
    return cudaGetLastError();
}

/* @swiglu --------------------------------------------------- SwiGLU
 *
 * The gate and the value in one kernel, from two arrays or from the rows [gate | up] that one
 * product with both matrices leaves: the same kernel with a longer step from row to row. Backward
 * computes the sigmoid again, which is cheaper than reading it.
 *
 * Moves 3 elements for each result forwards (gate, up in; y out) and 7 backwards (dy, gate, up,
 * dgate, dup in; dgate, dup out), the minimum. Limit: memory bandwidth.
 *
 * source  -
 * needs   cuda_launch, cuda_memory, cuda_reduce, activation
 * see     dense
 * topics  -
 */
template <typename T, int V>
LLM_KERNEL void llm_swiglu_forward_kernel(T *y, const T *gate, const T *up, size_t H, size_t step) {
    const llm_place p = llm_my_place<V>(H);
    if (p.column >= H) return;
    float g[V], u[V];
    llm_load_vector(g, gate, p.row * step + p.column);
    llm_load_vector(u, up, p.row * step + p.column);
    LLM_UNROLL
    for (int k = 0; k < V; k++) u[k] *= g[k] * llm_cuda_activation_sigmoid(g[k]);
    llm_store_vector(y, p.row * H + p.column, u);
}
/* y (N,H) from gate and up, whose rows are `step` entries apart. */
template <typename T>
static inline cudaError_t llm_cuda_swiglu_rows(T *y, const T *gate, const T *up, size_t N, size_t H,
                                               size_t step, cudaStream_t stream) {
    enum { V = 16 / sizeof(T) };
    if (N == 0 || H == 0) return cudaSuccess;
    const bool wide = llm_aligned(y, H) && llm_aligned(gate, step) && llm_aligned(up, step);
    const auto swiglu_forward =
        wide ? llm_swiglu_forward_kernel<T, V> : llm_swiglu_forward_kernel<T, 1>;
    LLM_LAUNCH(swiglu_forward, llm_place_blocks(N, H, wide ? (size_t)V : 1), 256, 0, stream, y,
               gate, up, H, step);
    return cudaGetLastError();
}
/* Arguments as llm_swiglu_forward; T is float or llm_bf16. y may be gate or up. */
template <typename T>
static inline cudaError_t llm_cuda_swiglu_forward(T *y, const T *gate, const T *up, size_t n,
                                                  cudaStream_t stream) {
    return llm_cuda_swiglu_rows(y, gate, up, 1, n, n, stream);
}
/* As llm_swiglu_packed_forward, rows [gate | up]. */
template <typename T>
static inline cudaError_t llm_cuda_swiglu_packed_forward(T *y, const T *x, size_t N, size_t H,
                                                         cudaStream_t stream) {
    return llm_cuda_swiglu_rows(y, x, x + H, N, H, 2 * H, stream);
}

template <typename T, int V>
LLM_KERNEL void llm_swiglu_backward_kernel(T *dgate, T *dup, const T *dy, const T *gate,
                                           const T *up, size_t H, size_t step) {
    const llm_place p = llm_my_place<V>(H);
    if (p.column >= H) return;
    const size_t i = p.row * step + p.column;
    float dy_v[V], g[V], u[V], d[V];
    llm_load_vector(dy_v, dy, p.row * H + p.column);
    llm_load_vector(g, gate, i);
    if (dgate) {
        llm_load_vector(u, up, i);
        llm_load_vector(d, dgate, i);
        LLM_UNROLL
        for (int k = 0; k < V; k++) {
            const float s = llm_cuda_activation_sigmoid(g[k]);
            d[k] += dy_v[k] * u[k] * (s * (1.0f + g[k] * (1.0f - s)));
        }
        llm_store_vector(dgate, i, d);
    }
    if (dup) {
        llm_load_vector(d, dup, i);
        LLM_UNROLL
        for (int k = 0; k < V; k++) d[k] += dy_v[k] * (g[k] * llm_cuda_activation_sigmoid(g[k]));
        llm_store_vector(dup, i, d);
    }
}
/* dgate, dup += with rows `step` entries apart. */
template <typename T>
static inline cudaError_t
llm_cuda_swiglu_rows_backward(T *dgate, T *dup, const T *dy, const T *gate, const T *up, size_t N,
                              size_t H, size_t step, cudaStream_t stream) {
    enum { V = 16 / sizeof(T) };
    if (N == 0 || H == 0) return cudaSuccess;
    const bool wide = llm_aligned(dgate, step) && llm_aligned(dup, step) && llm_aligned(dy, H) &&
                      llm_aligned(gate, step) && llm_aligned(up, step);
    const auto swiglu_backward =
        wide ? llm_swiglu_backward_kernel<T, V> : llm_swiglu_backward_kernel<T, 1>;
    LLM_LAUNCH(swiglu_backward, llm_place_blocks(N, H, wide ? (size_t)V : 1), 256, 0, stream, dgate,
               dup, dy, gate, up, H, step);
    return cudaGetLastError();
}
/* dgate, dup (n) +=: arguments as llm_swiglu_backward; either may be NULL. */
template <typename T>
static inline cudaError_t llm_cuda_swiglu_backward(T *dgate, T *dup, const T *dy, const T *gate,
                                                   const T *up, size_t n, cudaStream_t stream) {
    return llm_cuda_swiglu_rows_backward(dgate, dup, dy, gate, up, 1, n, n, stream);
}
/* dx (N,2H) +=: as llm_swiglu_packed_backward, rows [gate | up]. */
template <typename T>
static inline cudaError_t llm_cuda_swiglu_packed_backward(T *dx, const T *dy, const T *x, size_t N,
                                                          size_t H, cudaStream_t stream) {
    return llm_cuda_swiglu_rows_backward(dx, dx + H, dy, x, x + H, N, H, 2 * H, stream);
}

/* @input_layer ---------------------------------------------- Input layer
 *
 * Bytes to normalised floats, and channels from last to first, in one pass. A thread takes a pixel:
 * neighbours read neighbouring bytes and write neighbouring floats of each channel, so both sides
 * are whole lines; apart from its first use a byte comes from L1.
 *
 * Moves 1 byte in and 4 out for each value, the minimum; apart, the conversion and the transpose
 * would move 13. Limit: memory bandwidth, for what is written.
 *
 * source  -
 * needs   cuda_launch, cuda_memory
 * see     -
 * topics  -
 */
template <typename T>
LLM_KERNEL void llm_input_layer_image_kernel(T *y, const unsigned char *x, const float *mean,
                                             const float *deviation, size_t pixels, size_t HW,
                                             size_t C) {
    const size_t pixel = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (pixel >= pixels) return;
    const size_t n = pixel / HW, p = pixel % HW;
    for (size_t c = 0; c < C; c++) {
        LLM_TOUCH(x + pixel * C + c, 1, false);
        const float v = (float)x[pixel * C + c] / 255.0f;
        llm_store(y, (n * C + c) * HW + p, (v - mean[c]) / deviation[c]);
    }
}

/* y (N,C,H,W) <- bytes x (N,H,W,C), mean and deviation (C), all on the device; T is float or
 * llm_bf16. */
template <typename T>
static inline cudaError_t
llm_cuda_input_layer_image(T *y, const unsigned char *x, const float *mean, const float *deviation,
                           size_t N, size_t H, size_t W, size_t C, cudaStream_t stream) {
    const size_t pixels = N * H * W;
    if (pixels == 0 || C == 0) return cudaSuccess;
    LLM_LAUNCH((llm_input_layer_image_kernel<T>), (unsigned)((pixels + 255) / 256), 256, 0, stream,
               y, x, mean, deviation, pixels, H * W, C);
    return cudaGetLastError();
}

/* @dense ---------------------------------------------------- Fully connected layer
 *
 * Forward: y = phi(x w^T + b) with the product, bias and activation in one kernel: what the product
 * has just summed is in registers, and a kernel of its own would read and write y again. Where
 * there is an activation, its backward wants x w^T + b: z takes it on the way.
 *
 * Backward: dx += dy w and dw += dy^T x are the same product with operands turned. dw has few tiles
 * and a long sum over the tokens, so K is cut into slices that run side by side; their sums go to
 * scratch and are added in order, so that the result does not depend on which block was first. db
 * is a column sum.
 *
 * bfloat16 takes the tensor cores where its rows are multiples of 16 bytes, else the registers.
 * 2 N C O operations forwards, 4 N C O backwards. Limit: tensor cores or float multiply-adds; for
 * few rows (decoding), reading w.
 *
 * source  -
 * needs   cuda_launch, cuda_memory, cuda_reduce, cuda_gemm, cuda_gemm_bf16, activation
 * see     activation
 * topics  -
 */

/* What becomes of four entries v of the product: z <- v + b, y <- phi of that. */
template <typename T> struct llm_cuda_dense_forward_end {
    T *y, *z;
    const T *b;
    size_t O;
    int kind;
    bool wide;
    LLM_DEVICE_METHOD void operator()(size_t n, size_t o, const float (&v)[4]) const {
        float u[4];
        if (wide) {
            float b_v[4] = {0.0f, 0.0f, 0.0f, 0.0f};
            if (b) llm_load_vector(b_v, b, o);
            LLM_UNROLL
            for (int k = 0; k < 4; k++) u[k] = v[k] + b_v[k];
            if (z) llm_store_vector(z, n * O + o, u);
            for (int k = 0; k < 4; k++) u[k] = llm_cuda_activation_value(u[k], kind);
            llm_store_vector(y, n * O + o, u);
            return;
        }
        LLM_UNROLL
        for (size_t k = 0; k < 4; k++) {
            if (o + k >= O) break;
            const float sum = v[k] + (b ? llm_load(b, o + k) : 0.0f);
            if (z) llm_store(z, n * O + o + k, sum);
            llm_store(y, n * O + o + k, llm_cuda_activation_value(sum, kind));
        }
    }
};
/* out += v, or with slices: slice blockIdx.z of out <- v. */
template <typename T> struct llm_cuda_dense_add_end {
    T *out;
    size_t rows, columns;
    bool slices;
    LLM_DEVICE_METHOD void operator()(size_t r, size_t c, const float (&v)[4]) const {
        const size_t first = ((slices ? blockIdx.z * rows : 0) + r) * columns + c;
        LLM_UNROLL
        for (size_t k = 0; k < 4; k++) {
            if (c + k >= columns) break;
            llm_store(out, first + k, v[k] + (slices ? 0.0f : llm_load(out, first + k)));
        }
    }
};

/* The product of a and b (cuda_gemm) on tensor cores where the operands fit them. */
template <bool a_turned, bool b_turned, typename T> struct llm_cuda_dense_product {
    template <typename E>
    static cudaError_t launch(E end, const T *a, const T *b, size_t M, size_t N, size_t K,
                              size_t slices, size_t slice, cudaStream_t stream) {
        LLM_LAUNCH((llm_gemm_kernel<a_turned, b_turned, T, E>),
                   dim3(llm_cuda_gemm_blocks(M, N), 1, (unsigned)slices), 256, 0, stream, end, a, b,
                   M, N, K, slice);
        return cudaGetLastError();
    }
};
template <bool a_turned, bool b_turned>
struct llm_cuda_dense_product<a_turned, b_turned, llm_bf16> {
    template <typename E>
    static cudaError_t launch(E end, const llm_bf16 *a, const llm_bf16 *b, size_t M, size_t N,
                              size_t K, size_t slices, size_t slice, cudaStream_t stream) {
        const dim3 grid(llm_cuda_gemm_blocks(M, N), 1, (unsigned)slices);
        if (llm_cuda_gemm_bf16_fits(a, a_turned, M, K) &&
            llm_cuda_gemm_bf16_fits(b, b_turned, N, K))
            LLM_LAUNCH((llm_gemm_bf16_kernel<a_turned, b_turned, E>), grid, 256,
                       LLM_CUDA_GEMM_BF16_SHARED, stream, end, a, b, M, N, K, slice);
        else
            LLM_LAUNCH((llm_gemm_kernel<a_turned, b_turned, llm_bf16, E>), grid, 256, 0, stream,
                       end, a, b, M, N, K, slice);
        return cudaGetLastError();
    }
};

/* y (N,O) <- phi(x (N,C) w (O,C)^T + b (O)), kind of @activation (LLM_ACTIVATION_IDENTITY for the
 * layer alone); z (N,O) <- what phi is taken of, or NULL; b may be NULL. T is float or llm_bf16. */
template <typename T>
static inline cudaError_t llm_cuda_dense_forward(T *y, T *z, const T *x, const T *w, const T *b,
                                                 size_t N, size_t C, size_t O, int kind,
                                                 cudaStream_t stream) {
    if (N == 0 || O == 0) return cudaSuccess;
    const bool wide = llm_aligned(y, 16) && llm_aligned(z, 16) && llm_aligned(b, 16) && O % 4 == 0;
    const llm_cuda_dense_forward_end<T> end = {y, z, b, O, kind, wide};
    return llm_cuda_dense_product<false, false, T>::launch(end, x, w, N, O, C, 1, C, stream);
}

/* Slices of the N tokens for dw: so many that their tiles fill a large card, none under 256. */
static inline __attribute__((unused)) size_t llm_cuda_dense_slices(size_t N, size_t C, size_t O) {
    const size_t tiles = llm_cuda_gemm_blocks(O, C), wanted = tiles ? (263 + tiles) / tiles : 1;
    const size_t most = N / 256 ? N / 256 : 1;
    return wanted < most ? wanted : most;
}
LLM_KERNEL void llm_dense_add_slices_kernel(float *dw, const float *part, size_t slices, size_t n) {
    const size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    float sum = 0.0f;
    for (size_t s = 0; s < slices; s++) sum += llm_load(part, s * n + i);
    llm_store(dw, i, llm_load(dw, i) + sum);
}

/* dx (N,C), dw (O,C), db (O) +=: arguments as llm_dense_backward, T is float or llm_bf16; any of
 * the three may be NULL. scratch: O C llm_cuda_dense_slices(N, C, O) floats, or NULL where that is
 * 1. */
template <typename T>
static inline cudaError_t llm_cuda_dense_backward(T *dx, float *dw, float *db, const T *dy,
                                                  const T *x, const T *w, size_t N, size_t C,
                                                  size_t O, float *scratch, cudaStream_t stream) {
    if (N == 0 || O == 0) return cudaSuccess;
    cudaError_t error = cudaSuccess;
    if (dx && C > 0) {
        const llm_cuda_dense_add_end<T> end = {dx, N, C, false};
        error = llm_cuda_dense_product<false, true, T>::launch(end, dy, w, N, C, O, 1, O, stream);
    }
    if (dw && C > 0 && error == cudaSuccess) {
        const size_t slices = llm_cuda_dense_slices(N, C, O);
        const size_t slice = ((N + slices - 1) / slices + 31) / 32 * 32;
        const llm_cuda_dense_add_end<float> end = {slices > 1 ? scratch : dw, O, C, slices > 1};
        error = llm_cuda_dense_product<true, true, T>::launch(end, dy, x, O, C, N, slices, slice,
                                                              stream);
        if (slices > 1 && error == cudaSuccess) {
            LLM_LAUNCH(llm_dense_add_slices_kernel, (unsigned)((O * C + 255) / 256), 256, 0, stream,
                       dw, scratch, slices, O * C);
            error = cudaGetLastError();
        }
    }
    if (db && error == cudaSuccess) error = llm_cuda_column_sum(db, dy, N, O, stream);
    return error;
}

/* @output_layer_density ------------------------------------- Output layer: ordered, spread, mixed
 *
 * The loss of a mixture and its gradient in one kernel. A warp takes a row, a thread every 32nd
 * component: one pass keeps two online log-sum-exps, of the logits and of the logits with their
 * densities, a tree of shuffles merges them, and a second pass, whose inputs the first left in L1,
 * writes the gradient. The losses stay one a row, in a fixed place each: their mean is the
 * caller's.
 *
 * Moves M (2 + D) floats in and as many out, D in and one out for each row, the minimum. Limit:
 * memory bandwidth while D is large; for D = 1 the four exps a component.
 *
 * source  -
 * needs   cuda_launch, cuda_memory, cuda_reduce, logsumexp
 * see     logsumexp
 * topics  -
 */

/* log pi_m N_m of component m, up to the norm of pi; *square <- |t - mu|^2. */
LLM_DEVICE float llm_cuda_output_layer_density_part(float *square, const float *z, const float *t,
                                                    size_t m, size_t M, size_t D) {
    float sum = 0.0f;
    for (size_t d = 0; d < D; d++) {
        const float e = llm_load(z, 2 * M + m * D + d) - llm_load(t, d);
        sum += e * e;
    }
    const float s = llm_load(z, M + m);
    *square = sum;
    return llm_load(z, m) - (float)D * (s + 0.91893853f) - 0.5f * sum * expf(-2.0f * s);
}

LLM_KERNEL void llm_output_layer_density_kernel(float *loss, float *dz, const float *z,
                                                const float *t, size_t N, size_t D, size_t M) {
    const llm_row_place at = llm_my_row<true>();
    if (at.row >= N) return; /* a whole warp, and no barrier follows */
    const float *zn = z + at.row * M * (2 + D), *tn = t + at.row * D;
    float *dn = dz ? dz + at.row * M * (2 + D) : NULL, v[1], square;
    llm_logsumexp_pair norm = {-INFINITY, 0.0f}, all = {-INFINITY, 0.0f};
    for (size_t m = at.lane; m < M; m += 32) {
        v[0] = llm_load(zn, m);
        llm_cuda_logsumexp_add(norm, v, 1.0f);
        v[0] = llm_cuda_output_layer_density_part(&square, zn, tn, m, M, D);
        llm_cuda_logsumexp_add(all, v, 1.0f);
    }
    norm = llm_cuda_logsumexp_row<true>(norm, 1.0f);
    all = llm_cuda_logsumexp_row<true>(all, 1.0f);
    const float log_norm = norm.max + logf(norm.sum), log_all = all.max + logf(all.sum);
    if (at.lane == 0) llm_store(loss, at.row, log_norm - log_all);
    for (size_t m = at.lane; dn && m < M; m += 32) {
        const float part = llm_cuda_output_layer_density_part(&square, zn, tn, m, M, D);
        const float share = expf(part - log_all) / (float)N;
        const float pi = expf(llm_load(zn, m) - log_norm) / (float)N;
        const float precision = expf(-2.0f * llm_load(zn, M + m));
        llm_store(dn, m, pi - share);
        llm_store(dn, M + m, share * ((float)D - square * precision));
        for (size_t d = 0; d < D; d++) {
            const float e = llm_load(zn, 2 * M + m * D + d) - llm_load(tn, d);
            llm_store(dn, 2 * M + m * D + d, share * e * precision);
        }
    }
}

/* loss (N), one a row, dz (N,M(2+D)) or NULL <- z (N,M(2+D)), t (N,D):
 * llm_output_layer_mixture_loss returns the mean of loss; dz is the gradient of that mean. M >
 * 0. */
static inline __attribute__((unused)) cudaError_t
llm_cuda_output_layer_density_mixture(float *loss, float *dz, const float *z, const float *t,
                                      size_t N, size_t D, size_t M, cudaStream_t stream) {
    if (N == 0) return cudaSuccess;
    LLM_LAUNCH(llm_output_layer_density_kernel, llm_row_blocks(N, true), 128, 0, stream, loss, dz,
               z, t, N, D, M);
    return cudaGetLastError();
}

/* @mlp ------------------------------------------------------ Multilayer perceptron
 *
 * Loss and gradient of a small net in one kernel: the weights lie in shared memory, and so does the
 * block's share of their gradient; an example goes up through all layers and down again without
 * leaving the block. As a chain of matrix products a net of this size is a dozen launches, each of
 * them shorter than its launch. Blocks take every gridDim.x-th row; a second kernel adds their
 * shares in a fixed order, so the result does not depend on who was first.
 *
 * Moves the inputs once, the weights once a block, and two gradients a block: for the few hundred
 * rows of a batch far less than the activations of a layerwise path. Limit: the additions of one
 * example, whose layers wait for each other; shared memory bounds the net, 2 P floats and its
 * units.
 *
 * source  -
 * needs   cuda_launch, cuda_memory, cuda_reduce, activation
 * see     dense (layer by layer, for nets that are larger)
 * topics  -
 */
enum { LLM_CUDA_MLP_LAYERS = 8 }; /* at most */

/* An llm_mlp by value. */
struct llm_cuda_mlp {
    unsigned size[LLM_CUDA_MLP_LAYERS + 1];
    int layers, act, head;
};

/* The link of one unit, and the loss of a row at it, for all heads but SOFTMAX. */
LLM_DEVICE float llm_cuda_mlp_link(float z, int head) {
    return head == LLM_OUTPUT_LAYER_MSE       ? z
           : head == LLM_OUTPUT_LAYER_BCE     ? llm_cuda_activation_sigmoid(z)
           : head == LLM_OUTPUT_LAYER_POISSON ? expf(z)
                                              : llm_cuda_activation_softplus(z);
}
LLM_DEVICE float llm_cuda_mlp_cost(float z, float t, int head) {
    const float p = llm_cuda_mlp_link(z, head);
    return head == LLM_OUTPUT_LAYER_BCE
               ? t * llm_cuda_activation_softplus(-z) + (1.0f - t) * llm_cuda_activation_softplus(z)
           : head == LLM_OUTPUT_LAYER_POISSON ? p - t * z
                                              : 0.5f * (p - t) * (p - t);
}

/* The loss of a row in thread 0, and dz, its gradient over N, in z's place <- z (K), t (K) or the
 * label. */
LLM_DEVICE void llm_cuda_mlp_head(float *loss, float *z, float *lse, int label, const float *t,
                                  unsigned K, float N, int head) {
    if (threadIdx.x == 0) {
        float sum = 0.0f, max = -INFINITY;
        if (head == LLM_OUTPUT_LAYER_SOFTMAX) {
            for (unsigned k = 0; k < K; k++) max = fmaxf(max, z[k]);
            for (unsigned k = 0; k < K; k++) sum += expf(z[k] - max);
            *lse = max + logf(sum);
            sum = 0.0f;
        }
        for (unsigned k = 0; k < K; k++) {
            const float tk = t ? llm_load(t, k) : (int)k == label ? 1.0f : 0.0f;
            if (head != LLM_OUTPUT_LAYER_SOFTMAX)
                sum += llm_cuda_mlp_cost(z[k], tk, head);
            else if (tk != 0.0f)
                sum += tk * (*lse - z[k]);
        }
        llm_store(loss, 0, sum);
    }
    __syncthreads();
    for (unsigned k = threadIdx.x; k < K; k += blockDim.x) {
        const float tk = t ? llm_load(t, k) : (int)k == label ? 1.0f : 0.0f;
        const float p =
            head == LLM_OUTPUT_LAYER_SOFTMAX ? expf(z[k] - *lse) : llm_cuda_mlp_link(z[k], head);
        const float slope =
            head == LLM_OUTPUT_LAYER_POSITIVE ? llm_cuda_activation_sigmoid(z[k]) : 1.0f;
        z[k] = (p - tk) * slope / N;
    }
    __syncthreads();
}

LLM_KERNEL void llm_mlp_gradient_kernel(float *loss, float *part, const float *w, const float *x,
                                        const int *label, const float *target, llm_cuda_mlp net,
                                        size_t N, unsigned P, unsigned units) {
    LLM_DYNAMIC_SHARED(float, sw);
    float *g = sw + P, *a = g + P, *z = a + units, *lse = z + units; /* a, z of x and every layer */
    for (unsigned i = threadIdx.x; i < P; i += blockDim.x) {
        sw[i] = llm_load(w, i);
        g[i] = 0.0f;
    }
    __syncthreads();
    for (size_t row = blockIdx.x; row < N; row += gridDim.x) {
        unsigned at = 0, weight = 0; /* where layer l begins in a and z, and in sw */
        for (unsigned c = threadIdx.x; c < net.size[0]; c += blockDim.x)
            a[c] = llm_load(x, row * net.size[0] + c);
        __syncthreads();
        for (int l = 1; l <= net.layers; l++) {
            const unsigned in = net.size[l - 1], out = net.size[l], next = at + in;
            for (unsigned o = threadIdx.x; o < out; o += blockDim.x) {
                float sum = sw[weight + in * out + o];
                for (unsigned c = 0; c < in; c++) sum += sw[weight + o * in + c] * a[at + c];
                z[next + o] = sum;
                a[next + o] = llm_cuda_activation_value(sum, net.act);
            }
            at = next;
            weight += out * (in + 1);
            __syncthreads();
        }
        const unsigned K = net.size[net.layers];
        llm_cuda_mlp_head(loss + row, z + at, lse, label ? label[row] : 0,
                          target ? target + row * K : NULL, K, (float)N, net.head);
        for (int l = net.layers; l > 0; l--) { /* z of layer l holds dz */
            const unsigned in = net.size[l - 1], out = net.size[l], below = at - in;
            weight -= out * (in + 1);
            for (unsigned i = threadIdx.x; i < out * in; i += blockDim.x)
                g[weight + i] += z[at + i / in] * a[below + i % in];
            for (unsigned o = threadIdx.x; o < out; o += blockDim.x)
                g[weight + in * out + o] += z[at + o];
            for (unsigned c = threadIdx.x; l > 1 && c < in; c += blockDim.x) {
                float sum = 0.0f;
                for (unsigned o = 0; o < out; o++) sum += z[at + o] * sw[weight + o * in + c];
                z[below + c] = sum * llm_cuda_activation_slope(z[below + c], net.act);
            }
            at = below;
            __syncthreads();
        }
    }
    for (unsigned i = threadIdx.x; i < P; i += blockDim.x)
        llm_store(part, (size_t)blockIdx.x * P + i, g[i]);
}

/* Blocks for N rows: the shares of the gradient that scratch must have room for. */
static inline __attribute__((unused)) size_t llm_cuda_mlp_shares(size_t N) {
    return N < 64 ? N : 64;
}

/* loss (N), one a row, dw += the gradient of their mean <- w, x (N,size[0]) and label (N) or target
 * (N,size[layers]), the other NULL: llm_mlp_gradient, for nets of at most 8 layers whose weights,
 * twice, fit into a block's shared memory (227 KB: 28000 weights). scratch: llm_cuda_mlp_shares(N)
 * times the number of weights. */
static inline __attribute__((unused)) cudaError_t
llm_cuda_mlp_gradient(float *loss, float *dw, const llm_mlp *m, const float *w, const float *x,
                      const int *label, const float *target, size_t N, float *scratch,
                      cudaStream_t stream) {
    LLM_ASSERT(m->layers <= LLM_CUDA_MLP_LAYERS);
    if (N == 0) return cudaSuccess;
    const size_t P = llm_mlp_param_count(m), shares = llm_cuda_mlp_shares(N);
    llm_cuda_mlp net;
    unsigned units = 0;
    net.layers = (int)m->layers, net.act = m->act, net.head = m->head;
    for (size_t l = 0; l <= m->layers; l++) units += net.size[l] = (unsigned)m->size[l];
    const size_t shared = (2 * P + 2 * units + 1) * sizeof(float);
    LLM_LAUNCH(llm_mlp_gradient_kernel, (unsigned)shares, 256, shared, stream, loss, scratch, w, x,
               label, target, net, N, (unsigned)P, units);
    const cudaError_t error = cudaGetLastError();
    return error == cudaSuccess ? llm_cuda_column_sum(dw, scratch, shares, P, stream) : error;
}

/* @weight_init ---------------------------------------------- Weight initialization
 *
 * Uniform, normal and truncated normal numbers, the same ones that the reference draws: entry i of
 * a fill comes from its own counters, so a thread draws a Philox block of four and stores 16 bytes.
 * Normals are Box and Muller's, here in float: log1p where u is near 1, so that they agree with the
 * reference's doubles to some units in the last place. Truncated ones try again, each for itself.
 *
 * Moves n elements, the minimum. Limit: the logarithm, root, sine and cosine of two numbers, above
 * the store; truncated, a block of ten rounds for each number.
 *
 * source  -
 * needs   cuda_launch, cuda_memory, cuda_rng
 * see     dropout
 * topics  -
 */

/* z (2) <- two words, as llm_rng_normal_pair: log(u) with u = (word + 0.5) / 2^32. */
LLM_DEVICE void llm_cuda_weight_init_pair(float *z, uint32_t word, uint32_t turns) {
    const float scale = 1.0f / 4294967296.0f;
    const float log_u =
        word >> 31 ? log1pf(-((float)~word + 0.5f) * scale) : logf(((float)word + 0.5f) * scale);
    const float radius = sqrtf(-2.0f * log_u);
    const float angle = 2.0f * LLM_PI * scale * (float)(int32_t)turns; /* of half a turn at most */
    z[0] = radius * cosf(angle);
    z[1] = radius * sinf(angle);
}

enum { LLM_CUDA_WEIGHT_INIT_UNIFORM, LLM_CUDA_WEIGHT_INIT_NORMAL, LLM_CUDA_WEIGHT_INIT_TRUNCATED };

/* w (n): a + b u, or a z; truncated at |z| <= b. An odd last normal is the first of its pair. */
template <typename T, int kind>
LLM_KERNEL void llm_weight_init_kernel(T *w, size_t n, float a, float b, uint64_t seed) {
    const size_t block = (size_t)blockIdx.x * blockDim.x + threadIdx.x, first = 4 * block;
    if (first >= n) return;
    uint32_t word[4];
    float v[4];
    if (kind != LLM_CUDA_WEIGHT_INIT_TRUNCATED) llm_cuda_philox(word, block, seed);
    if (kind == LLM_CUDA_WEIGHT_INIT_NORMAL) {
        llm_cuda_weight_init_pair(v, word[0], word[1]);
        llm_cuda_weight_init_pair(v + 2, word[2], word[3]);
    }
    LLM_UNROLL
    for (int k = 0; k < 4; k++) {
        if (kind == LLM_CUDA_WEIGHT_INIT_UNIFORM) v[k] = a + b * llm_cuda_uniform(word[k]);
        if (kind == LLM_CUDA_WEIGHT_INIT_NORMAL) v[k] *= a;
        float z[4];
        int tried = 4;
        for (uint64_t attempt = 0; kind == LLM_CUDA_WEIGHT_INIT_TRUNCATED && tried == 4;
             attempt++) {
            llm_cuda_philox(word, first + (uint64_t)k, seed, attempt << 32 | 1);
            llm_cuda_weight_init_pair(z, word[0], word[1]);
            llm_cuda_weight_init_pair(z + 2, word[2], word[3]);
            for (int i = 3; i >= 0; i--)
                if (fabsf(z[i]) <= b) tried = i, v[k] = a * z[i]; /* the first one within wins */
        }
    }
    if (first + 4 <= n && (uintptr_t)w % (4 * sizeof(T)) == 0) {
        llm_store_vector(w, first, v);
        return;
    }
    for (size_t k = 0; k < 4 && first + k < n; k++) llm_store(w, first + k, v[k]);
}

/* w (n) <- U(low, high), N(0, std^2), or that cut at |z| <= cut: what the references write with
 * llm_rng_seed(seed), and llm_weight_init_truncated with seed. T is float or llm_bf16. */
template <typename T>
static inline cudaError_t llm_cuda_weight_init_uniform(T *w, size_t n, float low, float high,
                                                       uint64_t seed, cudaStream_t stream) {
    if (n == 0) return cudaSuccess;
    LLM_LAUNCH((llm_weight_init_kernel<T, LLM_CUDA_WEIGHT_INIT_UNIFORM>),
               (unsigned)((n + 1023) / 1024), 256, 0, stream, w, n, low, high - low, seed);
    return cudaGetLastError();
}
template <typename T>
static inline cudaError_t llm_cuda_weight_init_normal(T *w, size_t n, float std, uint64_t seed,
                                                      cudaStream_t stream) {
    if (n == 0) return cudaSuccess;
    LLM_LAUNCH((llm_weight_init_kernel<T, LLM_CUDA_WEIGHT_INIT_NORMAL>),
               (unsigned)((n + 1023) / 1024), 256, 0, stream, w, n, std, 0.0f, seed);
    return cudaGetLastError();
}
template <typename T>
static inline cudaError_t llm_cuda_weight_init_truncated(T *w, size_t n, float std, float cut,
                                                         uint64_t seed, cudaStream_t stream) {
    if (!(cut >= 0.01f)) return cudaErrorInvalidValue;
    if (n == 0) return cudaSuccess;
    LLM_LAUNCH((llm_weight_init_kernel<T, LLM_CUDA_WEIGHT_INIT_TRUNCATED>),
               (unsigned)((n + 1023) / 1024), 256, 0, stream, w, n, std, cut, seed);
    return cudaGetLastError();
}

/* @residual ------------------------------------------------- Residual connection
 *
 * y = x + gain f, where gain is alpha, one number for each channel (LayerScale), 0 or 1 / (1 - p)
 * for each row (stochastic depth), or all of them at once: a thread knows its row and its column,
 * so one kernel does for the three forms of llm.h. A dropped row of f is not read.
 *
 * Backward: a block takes 256 threads' worth of columns and every gridDim.y-th row, so that a
 * thread keeps its columns and its share of dscale stays in registers. For dalpha the block adds
 * its shares. A second kernel adds what the blocks left, in a fixed order.
 *
 * Moves 3 elements (x, f in; y out) forwards, 2 where f is dropped; backwards 1 for dy, 2 for each
 * of dx and df, 1 for f where a gain learns: the minimum. A backward pass that keeps one gradient
 * for the whole stream passes dx = NULL. Limit: memory bandwidth. With the norm that follows in the
 * same kernel: @prenorm.
 *
 * source  -
 * needs   cuda_launch, cuda_memory, cuda_reduce
 * see     dropout
 * topics  -
 */
template <typename T, int V>
LLM_KERNEL void llm_residual_forward_kernel(T *y, const T *x, const T *f, const T *scale,
                                            const bool *keep, size_t C, float alpha) {
    const llm_place p = llm_my_place<V>(C);
    if (p.column >= C) return;
    const size_t i = p.row * C + p.column;
    float v[V], f_v[V], gain[V];
    llm_load_vector(v, x, i);
    if (!keep || keep[p.row]) {
        LLM_UNROLL
        for (int k = 0; k < V; k++) gain[k] = 1.0f;
        llm_load_vector(f_v, f, i);
        if (scale) llm_load_vector(gain, scale, p.column);
        LLM_UNROLL
        for (int k = 0; k < V; k++) v[k] += alpha * gain[k] * f_v[k];
    }
    llm_store_vector(y, i, v);
}

/* y (N,C) <- x (N,C) + alpha scale (C) f (N,C), x alone in rows where keep (N) is false; scale and
 * keep may be NULL, y may be x or f. T is float or llm_bf16. */
template <typename T>
static inline cudaError_t llm_cuda_residual_rows(T *y, const T *x, const T *f, const T *scale,
                                                 const bool *keep, size_t N, size_t C, float alpha,
                                                 cudaStream_t stream) {
    enum { V = 16 / sizeof(T) };
    if (N == 0 || C == 0) return cudaSuccess;
    const bool wide =
        llm_aligned(y, C) && llm_aligned(x, C) && llm_aligned(f, C) && llm_aligned(scale, C);
    const auto residual_forward =
        wide ? llm_residual_forward_kernel<T, V> : llm_residual_forward_kernel<T, 1>;
    LLM_LAUNCH(residual_forward, llm_place_blocks(N, C, wide ? (size_t)V : 1), 256, 0, stream, y, x,
               f, scale, keep, C, alpha);
    return cudaGetLastError();
}
/* Arguments as llm_residual_forward, llm_residual_scale_forward, llm_residual_depth_forward. */
template <typename T>
static inline cudaError_t llm_cuda_residual_forward(T *y, const T *x, const T *f, size_t n,
                                                    float alpha, cudaStream_t stream) {
    return llm_cuda_residual_rows(y, x, f, (const T *)NULL, (const bool *)NULL, 1, n, alpha,
                                  stream);
}
template <typename T>
static inline cudaError_t llm_cuda_residual_scale_forward(T *y, const T *x, const T *f,
                                                          const T *scale, size_t N, size_t C,
                                                          cudaStream_t stream) {
    return llm_cuda_residual_rows(y, x, f, scale, (const bool *)NULL, N, C, 1.0f, stream);
}
template <typename T>
static inline cudaError_t llm_cuda_residual_depth_forward(T *y, const T *x, const T *f,
                                                          const bool *keep, size_t N, size_t C,
                                                          float p, cudaStream_t stream) {
    return llm_cuda_residual_rows(y, x, f, (const T *)NULL, keep, N, C, 1.0f / (1.0f - p), stream);
}

template <typename T, int V>
LLM_KERNEL void llm_residual_backward_kernel(T *dx, T *df, float *part, const T *dy, const T *f,
                                             const T *scale, const bool *keep, size_t N, size_t C,
                                             float alpha, bool one_sum) {
    const size_t column = ((size_t)blockIdx.x * 256 + threadIdx.x) * V;
    float sum[V], gain[V], dy_v[V], v[V];
    LLM_UNROLL
    for (int k = 0; k < V; k++) sum[k] = 0.0f, gain[k] = 1.0f;
    if (scale && column < C) llm_load_vector(gain, scale, column);
    for (size_t n = blockIdx.y; n < N && column < C; n += gridDim.y) {
        const size_t i = n * C + column;
        llm_load_vector(dy_v, dy, i);
        if (dx) {
            llm_load_vector(v, dx, i);
            LLM_UNROLL
            for (int k = 0; k < V; k++) v[k] += dy_v[k];
            llm_store_vector(dx, i, v);
        }
        if (df && (!keep || keep[n])) {
            llm_load_vector(v, df, i);
            LLM_UNROLL
            for (int k = 0; k < V; k++) v[k] += alpha * gain[k] * dy_v[k];
            llm_store_vector(df, i, v);
        }
        if (part) {
            llm_load_vector(v, f, i);
            LLM_UNROLL
            for (int k = 0; k < V; k++) sum[k] += dy_v[k] * v[k];
        }
    }
    if (part && one_sum) { /* threads behind the last column bring 0 */
        LLM_UNROLL
        for (int k = 1; k < V; k++) sum[0] += sum[k];
        const float all = llm_block_sum(sum[0]);
        if (threadIdx.x == 0) llm_store(part, blockIdx.y * gridDim.x + blockIdx.x, all);
    } else if (part && column < C) {
        llm_store_vector(part, blockIdx.y * C + column, sum);
    }
}

/* Rows of blocks of the backward pass where a gain learns: by the shape alone, so that every card
 * adds in the same order. */
template <typename T> static inline size_t llm_cuda_residual_shares(size_t N, size_t C) {
    const size_t pieces = (C * sizeof(T) / 16 + 255) / 256, most = 1024 / (pieces ? pieces : 1);
    return N < most ? N : most ? most : 1;
}
/* dx, df (N,C), dgain += <- dy (N,C) and forward's f, scale, keep, alpha. dgain is dscale (C), or
 * with one_sum dalpha (1). Any gradient may be NULL, and f without dgain. scratch, without dgain
 * NULL: C llm_cuda_residual_shares<T>(N, C) floats, not read. */
template <typename T>
static inline cudaError_t
llm_cuda_residual_rows_backward(T *dx, T *df, float *dgain, const T *dy, const T *f, const T *scale,
                                const bool *keep, size_t N, size_t C, float alpha, bool one_sum,
                                float *scratch, cudaStream_t stream) {
    enum { V = 16 / sizeof(T) };
    if (N == 0 || C == 0) return cudaSuccess;
    const bool wide = llm_aligned(dx, C) && llm_aligned(df, C) && llm_aligned(dy, C) &&
                      llm_aligned(f, C) && llm_aligned(scale, C);
    const size_t rows = dgain ? llm_cuda_residual_shares<T>(N, C) : N;
    const size_t width = wide ? 256 * V : 256, pieces = (C + width - 1) / width;
    const dim3 grid((unsigned)pieces, (unsigned)(rows < 65535 ? rows : 65535));
    const auto residual_backward =
        wide ? llm_residual_backward_kernel<T, V> : llm_residual_backward_kernel<T, 1>;
    LLM_LAUNCH(residual_backward, grid, 256, 0, stream, dx, df, dgain ? scratch : NULL, dy, f,
               scale, keep, N, C, alpha, one_sum);
    const cudaError_t error = cudaGetLastError();
    if (!dgain || error != cudaSuccess) return error;
    return one_sum ? llm_cuda_column_sum(dgain, scratch, rows * pieces, 1, stream)
                   : llm_cuda_column_sum(dgain, scratch, rows, C, stream);
}
/* Arguments as llm_residual_backward, llm_residual_scale_backward, llm_residual_depth_backward;
 * scratch as above, N = 1 and C = n for the first. */
template <typename T>
static inline cudaError_t llm_cuda_residual_backward(T *dx, T *df, float *dalpha, const T *dy,
                                                     const T *f, size_t n, float alpha,
                                                     float *scratch, cudaStream_t stream) {
    return llm_cuda_residual_rows_backward(dx, df, dalpha, dy, f, (const T *)NULL,
                                           (const bool *)NULL, 1, n, alpha, true, scratch, stream);
}
template <typename T>
static inline cudaError_t llm_cuda_residual_scale_backward(T *dx, T *df, float *dscale, const T *dy,
                                                           const T *f, const T *scale, size_t N,
                                                           size_t C, float *scratch,
                                                           cudaStream_t stream) {
    return llm_cuda_residual_rows_backward(dx, df, dscale, dy, f, scale, (const bool *)NULL, N, C,
                                           1.0f, false, scratch, stream);
}
template <typename T>
static inline cudaError_t llm_cuda_residual_depth_backward(T *dx, T *df, const T *dy,
                                                           const bool *keep, size_t N, size_t C,
                                                           float p, cudaStream_t stream) {
    return llm_cuda_residual_rows_backward(dx, df, (float *)NULL, dy, (const T *)NULL,
                                           (const T *)NULL, keep, N, C, 1.0f / (1.0f - p), false,
                                           (float *)NULL, stream);
}

/* @dropout -------------------------------------------------- Dropout
 *
 * y = residual + dropout(x + b) in one kernel, the end of a block with dropout. No mask is stored:
 * entry i takes word (offset + i) of a Philox stream, forwards and backwards, and the reference
 * takes the same one. Four entries share a Philox block; where a thread's four do not begin a
 * block, each draws its own.
 *
 * Moves 3 elements (x, residual in; y out) forwards, 3 backwards (dy, dx in; dx out), the minimum.
 * Limit: memory bandwidth.
 *
 * source  -
 * needs   cuda_launch, cuda_memory, cuda_rng, cuda_reduce
 * see     residual
 * topics  -
 */

/* scale[k] <- 1 / (1 - p) or 0 for entries index to index + V - 1, as llm_dropout_scale. */
template <int V>
LLM_DEVICE void llm_cuda_dropout_scales(float (&scale)[V], float p, uint64_t seed, uint64_t index) {
    const bool together = V % 4 == 0 && index % 4 == 0;
    uint32_t word[4];
    LLM_UNROLL
    for (int k = 0; k < V; k++) {
        if (!together || k % 4 == 0) llm_cuda_philox(word, (index + (uint64_t)k) / 4, seed);
        const float u = llm_cuda_uniform(word[together ? k % 4 : (int)((index + (uint64_t)k) % 4)]);
        scale[k] = u < p ? 0.0f : 1.0f / (1.0f - p);
    }
}
template <typename T, int V>
LLM_KERNEL void llm_dropout_forward_kernel(T *y, const T *x, const T *b, const T *residual,
                                           size_t C, float p, uint64_t seed, uint64_t offset) {
    const llm_place at = llm_my_place<V>(C);
    if (at.column >= C) return;
    const size_t i = at.row * C + at.column;
    float v[V], b_v[V], r[V], scale[V];
    llm_load_vector(v, x, i);
    LLM_UNROLL
    for (int k = 0; k < V; k++) b_v[k] = r[k] = 0.0f;
    if (b) llm_load_vector(b_v, b, at.column);
    if (residual) llm_load_vector(r, residual, i);
    llm_cuda_dropout_scales(scale, p, seed, offset + i);
    LLM_UNROLL
    for (int k = 0; k < V; k++) v[k] = scale[k] == 0.0f ? r[k] : r[k] + scale[k] * (v[k] + b_v[k]);
    llm_store_vector(y, i, v);
}

/* y (N,C) <- residual (N,C) + dropout(x (N,C) + b (C)); b and residual may be NULL, y may be x or
 * residual. Entry i is number offset + i of the stream seed. T is float or llm_bf16. */
template <typename T>
static inline cudaError_t llm_cuda_dropout_residual(T *y, const T *x, const T *b, const T *residual,
                                                    size_t N, size_t C, float p, uint64_t seed,
                                                    uint64_t offset, cudaStream_t stream) {
    enum { V = 16 / sizeof(T) };
    if (N == 0 || C == 0) return cudaSuccess;
    const bool wide =
        llm_aligned(y, C) && llm_aligned(x, C) && llm_aligned(b, C) && llm_aligned(residual, C);
    const auto dropout_forward =
        wide ? llm_dropout_forward_kernel<T, V> : llm_dropout_forward_kernel<T, 1>;
    LLM_LAUNCH(dropout_forward, llm_place_blocks(N, C, wide ? (size_t)V : 1), 256, 0, stream, y, x,
               b, residual, C, p, seed, offset);
    return cudaGetLastError();
}
/* Arguments as llm_dropout_forward. */
template <typename T>
static inline cudaError_t llm_cuda_dropout_forward(T *y, const T *x, size_t n, float p,
                                                   uint64_t seed, uint64_t offset,
                                                   cudaStream_t stream) {
    return llm_cuda_dropout_residual(y, x, (const T *)NULL, (const T *)NULL, 1, n, p, seed, offset,
                                     stream);
}

template <typename T, int V>
LLM_KERNEL void llm_dropout_backward_kernel(T *dx, const T *dy, size_t n, float p, uint64_t seed,
                                            uint64_t offset) {
    const size_t i = llm_my_place<V>(n).column;
    if (i >= n) return;
    float v[V], d[V], scale[V];
    llm_load_vector(v, dy, i);
    llm_load_vector(d, dx, i);
    llm_cuda_dropout_scales(scale, p, seed, offset + i);
    LLM_UNROLL
    for (int k = 0; k < V; k++) d[k] = scale[k] == 0.0f ? d[k] : d[k] + scale[k] * v[k];
    llm_store_vector(dx, i, d);
}
/* dx (n) +=: arguments as llm_dropout_backward. */
template <typename T>
static inline cudaError_t llm_cuda_dropout_backward(T *dx, const T *dy, size_t n, float p,
                                                    uint64_t seed, uint64_t offset,
                                                    cudaStream_t stream) {
    enum { V = 16 / sizeof(T) };
    if (n == 0) return cudaSuccess;
    const bool wide = llm_aligned(dx, n) && llm_aligned(dy, n);
    const auto dropout_backward =
        wide ? llm_dropout_backward_kernel<T, V> : llm_dropout_backward_kernel<T, 1>;
    LLM_LAUNCH(dropout_backward, llm_place_blocks(1, n, wide ? (size_t)V : 1), 256, 0, stream, dx,
               dy, n, p, seed, offset);
    return cudaGetLastError();
}

/* @batchnorm ------------------------------------------------ Batch normalization
 *
 * Each pass is two trips through memory, since the first number cannot be normalized before the
 * last one is read. The reduction: a block takes a channel (S > 1: a warp a plane, lanes along the
 * pixels), or 32 channels (S = 1, or pictures with the channel last, N H W rows: a lane a channel),
 * and a slice of the samples. Means and squares are Welford's in each thread and Chan's from there
 * on, so a large mean costs no digits. Slices are fixed by the shape and merged in order.
 *
 * Forward moves 3 elements for each one of x (x in twice, y out) where 2 would do if x stayed in
 * cache. Limit: memory bandwidth.
 *
 * source  -
 * needs   cuda_launch, cuda_memory
 * see     batchnorm_backward, layernorm
 * topics  -
 */

/* v: count, mean, squares about the mean. One more number; and those of another thread. */
template <typename T> struct llm_cuda_batchnorm_welford {
    const T *x;
    LLM_DEVICE_METHOD void add(float (&v)[3], size_t i, size_t c) const {
        (void)c;
        const float number = llm_load(x, i), d = number - v[1];
        v[0] += 1.0f;
        v[1] += d / v[0];
        v[2] += d * (number - v[1]);
    }
    LLM_DEVICE_METHOD void merge(float (&v)[3], const float (&w)[3]) const {
        if (w[0] == 0.0f) return;
        const float n = v[0] + w[0], d = w[1] - v[1], share = w[0] / n;
        v[2] += w[2] + d * d * share * v[0];
        v[1] += d * share;
        v[0] = n;
    }
};
/* part (slices,C,3): the reduction of slice blockIdx.y, of channel blockIdx.x or 32 of them. */
template <bool planes, typename F>
LLM_KERNEL void llm_batchnorm_reduce_kernel(float *part, F f, size_t N, size_t C, size_t S,
                                            size_t slice) {
    __shared__ float shared[8][3][32];
    const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const size_t c = planes ? blockIdx.x : (size_t)blockIdx.x * 32 + lane;
    const size_t first = blockIdx.y * slice, end = first + slice < N ? first + slice : N;
    float v[3] = {0.0f, 0.0f, 0.0f}, other[3];
    for (size_t n = first + warp; n < end && c < C; n += 8)
        for (size_t s = planes ? lane : 0; s < S; s += 32) f.add(v, (n * C + c) * S + s, c);
    for (int distance = 16; planes && distance > 0; distance /= 2) {
        LLM_UNROLL
        for (int k = 0; k < 3; k++) other[k] = __shfl_xor_sync(0xffffffffu, v[k], distance);
        f.merge(v, other);
    }
    LLM_UNROLL
    for (int k = 0; k < 3; k++) shared[warp][k][lane] = v[k];
    __syncthreads();
    if (warp > 0 || c >= C || (planes && lane > 0)) return;
    for (int w = 1; w < 8; w++) {
        LLM_UNROLL
        for (int k = 0; k < 3; k++) other[k] = shared[w][k][lane];
        f.merge(v, other);
    }
    for (size_t k = 0; k < 3; k++) llm_store(part, (blockIdx.y * C + c) * 3 + k, v[k]);
}

/* mean, rstd (C) and the running averages <- the parts, a thread a channel. */
LLM_KERNEL void llm_batchnorm_finish_kernel(float *mean, float *rstd, llm_batchnorm layer,
                                            const float *part, size_t slices) {
    const size_t c = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (c >= layer.C) return;
    const llm_cuda_batchnorm_welford<float> f = {NULL};
    float v[3] = {0.0f, 0.0f, 0.0f}, other[3];
    for (size_t s = 0; s < slices; s++) {
        for (size_t k = 0; k < 3; k++) other[k] = llm_load(part, (s * layer.C + c) * 3 + k);
        f.merge(v, other);
    }
    const float m = llm_load(layer.running_mean, c), var = llm_load(layer.running_var, c);
    llm_store(layer.running_mean, c, m + layer.momentum * (v[1] - m));
    llm_store(layer.running_var, c, var + layer.momentum * (v[2] / (v[0] - 1.0f) - var));
    llm_store(mean, c, v[1]);
    llm_store(rstd, c, rsqrtf(v[2] / v[0] + layer.eps));
}
/* y <- w (x - mean) rstd + b, V entries a thread: all of one channel, or of V neighbours (S =
 * 1). */
template <typename T, int V>
LLM_KERNEL void llm_batchnorm_apply_kernel(T *y, const T *x, const float *mean, const float *rstd,
                                           llm_batchnorm layer, size_t n, size_t S) {
    const size_t i = ((size_t)blockIdx.x * blockDim.x + threadIdx.x) * V;
    if (i >= n) return;
    float v[V];
    llm_load_vector(v, x, i);
    LLM_UNROLL
    for (size_t k = 0; k < V; k++) {
        const size_t c = S == 1 ? (i + k) % layer.C : i / S % layer.C;
        const float scale = llm_load(rstd, c) * (layer.w ? llm_load(layer.w, c) : 1.0f);
        v[k] = (v[k] - llm_load(mean, c)) * scale + (layer.b ? llm_load(layer.b, c) : 0.0f);
    }
    llm_store_vector(y, i, v);
}
/* Slices of the samples: so many that their blocks fill a large card. Scratch of both passes in
 * floats. */
static inline __attribute__((unused)) size_t llm_cuda_batchnorm_slices(size_t N, size_t C,
                                                                       size_t S) {
    const size_t blocks = S > 1 ? C : (C + 31) / 32, wanted = blocks ? (263 + blocks) / blocks : 1;
    const size_t most = (N + 7) / 8; /* a sample for each warp */
    return wanted < most ? wanted : most;
}
static inline __attribute__((unused)) size_t llm_cuda_batchnorm_scratch(size_t N, size_t C,
                                                                        size_t S) {
    return (3 * llm_cuda_batchnorm_slices(N, C, S) + 2) * C;
}
template <typename F>
static inline cudaError_t llm_cuda_batchnorm_reduce(float *part, F f, size_t N, size_t C, size_t S,
                                                    cudaStream_t stream) {
    const size_t slices = llm_cuda_batchnorm_slices(N, C, S), slice = (N + slices - 1) / slices;
    const dim3 grid((unsigned)(S > 1 ? C : (C + 31) / 32), (unsigned)slices);
    const auto batchnorm_reduce =
        S > 1 ? llm_batchnorm_reduce_kernel<true, F> : llm_batchnorm_reduce_kernel<false, F>;
    LLM_LAUNCH(batchnorm_reduce, grid, 256, 0, stream, part, f, N, C, S, slice);
    return cudaGetLastError();
}
/* y (N,C,S) <- x: as llm_batchnorm_apply; mean and rstd may be the running ones. y may be x. */
template <typename T>
static inline cudaError_t llm_cuda_batchnorm_apply(T *y, const T *x, const float *mean,
                                                   const float *rstd, const llm_batchnorm *layer,
                                                   size_t N, size_t S, cudaStream_t stream) {
    enum { V = 16 / sizeof(T) };
    const size_t n = N * layer->C * S;
    if (n == 0) return cudaSuccess;
    const bool wide = llm_aligned(y, S == 1 ? n : S) && llm_aligned(x, S == 1 ? n : S);
    const auto batchnorm_apply =
        wide ? llm_batchnorm_apply_kernel<T, V> : llm_batchnorm_apply_kernel<T, 1>;
    LLM_LAUNCH(batchnorm_apply, (unsigned)((n / (wide ? (size_t)V : 1) + 255) / 256), 256, 0,
               stream, y, x, mean, rstd, *layer, n, S);
    return cudaGetLastError();
}
/* y (N,C,S), mean, rstd (C) <- x: as llm_batchnorm_forward_train, the layer's arrays on the device.
 * N S > 1, else an invalid value. T is float or llm_bf16. scratch: llm_cuda_batchnorm_scratch
 * floats. */
template <typename T>
static inline cudaError_t llm_cuda_batchnorm_forward_train(T *y, float *mean, float *rstd,
                                                           const T *x, const llm_batchnorm *layer,
                                                           size_t N, size_t S, float *scratch,
                                                           cudaStream_t stream) {
    if (N * S <= 1) return cudaErrorInvalidValue;
    if (layer->C == 0) return cudaSuccess;
    const llm_cuda_batchnorm_welford<T> f = {x};
    const cudaError_t reduced = llm_cuda_batchnorm_reduce(scratch, f, N, layer->C, S, stream);
    LLM_LAUNCH(llm_batchnorm_finish_kernel, (unsigned)((layer->C + 255) / 256), 256, 0, stream,
               mean, rstd, *layer, scratch, llm_cuda_batchnorm_slices(N, layer->C, S));
    const cudaError_t done[] = {reduced, cudaGetLastError(),
                                llm_cuda_batchnorm_apply(y, x, mean, rstd, layer, N, S, stream)};
    return llm_cuda_first_error(done);
}

/* @batchnorm_backward --------------------------------------- Batch normalization, the way back
 *
 * The same reduction with other numbers, the sums of dy and of dy (x - mean), which are the
 * gradients of b and w; then dx. Machines that share a batch would add the sums in between.
 *
 * Moves 6 elements for each one of x (dy, x in twice; dx in, out) where 4 would do if dy and x
 * stayed in cache. Limit: memory bandwidth.
 *
 * source  -
 * needs   cuda_launch, cuda_memory, batchnorm
 * see     batchnorm
 * topics  -
 */

/* v: sums of dy and of dy (x - mean). */
template <typename T> struct llm_cuda_batchnorm_products {
    const T *dy, *x;
    const float *mean;
    LLM_DEVICE_METHOD void add(float (&v)[3], size_t i, size_t c) const {
        const float d = llm_load(dy, i);
        v[0] += d;
        v[1] += d * (llm_load(x, i) - llm_load(mean, c));
    }
    LLM_DEVICE_METHOD void merge(float (&v)[3], const float (&w)[3]) const {
        v[0] += w[0], v[1] += w[1];
    }
};

/* sum, along (C) <- the parts; dw, db (C) +=, or NULL. */
LLM_KERNEL void llm_batchnorm_sums_kernel(float *sum, float *along, float *dw, float *db,
                                          const float *rstd, const float *part, size_t C,
                                          size_t slices) {
    const size_t c = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (c >= C) return;
    float plain = 0.0f, times = 0.0f;
    for (size_t s = 0; s < slices; s++) {
        plain += llm_load(part, (s * C + c) * 3);
        times += llm_load(part, (s * C + c) * 3 + 1);
    }
    times *= llm_load(rstd, c);
    llm_store(sum, c, plain);
    llm_store(along, c, times);
    if (dw) llm_store(dw, c, llm_load(dw, c) + times);
    if (db) llm_store(db, c, llm_load(db, c) + plain);
}

/* dx += w rstd (dy - sum share - (x - mean) rstd along share); share is 1 / M, 0 at inference. */
template <typename T, int V>
LLM_KERNEL void llm_batchnorm_dx_kernel(T *dx, const T *dy, const T *x, const float *mean,
                                        const float *rstd, const float *sum, const float *along,
                                        llm_batchnorm layer, size_t n, size_t S, float share) {
    const size_t i = ((size_t)blockIdx.x * blockDim.x + threadIdx.x) * V;
    if (i >= n) return;
    float d[V], v[V], g[V];
    llm_load_vector(d, dx, i);
    llm_load_vector(v, x, i);
    llm_load_vector(g, dy, i);
    LLM_UNROLL
    for (size_t k = 0; k < V; k++) {
        const size_t c = S == 1 ? (i + k) % layer.C : i / S % layer.C;
        const float r = llm_load(rstd, c), scale = r * (layer.w ? llm_load(layer.w, c) : 1.0f);
        const float tilt = (v[k] - llm_load(mean, c)) * r * llm_load(along, c);
        d[k] += scale * (g[k] - share * (llm_load(sum, c) + tilt));
    }
    llm_store_vector(dx, i, d);
}

/* dx (N,C,S), dw, db (C) +=: as llm_batchnorm_backward. Any of the three may be NULL. */
template <typename T>
static inline cudaError_t
llm_cuda_batchnorm_backward(T *dx, float *dw, float *db, const T *dy, const T *x, const float *mean,
                            const float *rstd, const llm_batchnorm *layer, size_t N, size_t S,
                            bool training, float *scratch, cudaStream_t stream) {
    enum { V = 16 / sizeof(T) };
    const size_t C = layer->C, n = N * C * S, slices = llm_cuda_batchnorm_slices(N, C, S);
    if (n == 0) return cudaSuccess;
    float *sum = scratch + 3 * slices * C, *along = sum + C;
    const llm_cuda_batchnorm_products<T> f = {dy, x, mean};
    const cudaError_t reduced = llm_cuda_batchnorm_reduce(scratch, f, N, C, S, stream);
    LLM_LAUNCH(llm_batchnorm_sums_kernel, (unsigned)((C + 255) / 256), 256, 0, stream, sum, along,
               dw, db, rstd, scratch, C, slices);
    const cudaError_t summed = cudaGetLastError();
    if (dx) {
        const size_t row = S == 1 ? n : S;
        const bool wide = llm_aligned(dx, row) && llm_aligned(dy, row) && llm_aligned(x, row);
        const auto batchnorm_dx =
            wide ? llm_batchnorm_dx_kernel<T, V> : llm_batchnorm_dx_kernel<T, 1>;
        LLM_LAUNCH(batchnorm_dx, (unsigned)((n / (wide ? (size_t)V : 1) + 255) / 256), 256, 0,
                   stream, dx, dy, x, mean, rstd, sum, along, *layer, n, S,
                   training ? 1.0f / (float)(N * S) : 0.0f);
    }
    const cudaError_t done[] = {reduced, summed, cudaGetLastError()};
    return llm_cuda_first_error(done);
}

/* @layernorm ------------------------------------------------ Layer normalization
 *
 * Forward: residual += x, then y = layernorm(residual), in one kernel as in @rmsnorm. The row waits
 * in shared memory while the block takes its mean and then its variance about that mean: two
 * reductions, because E x^2 - (E x)^2 cancels where the mean is large. Moves 4 elements for each
 * element of the row (x, residual in; residual, y out), 2 without a residual, the minimum.
 *
 * Backward: a block takes every gridDim.x-th row, needs both sums of a row at once (the barriers of
 * one), and keeps its shares of dw and db in shared memory; a second kernel adds the shares in a
 * fixed order. Moves 4 elements (x, dy, dx in; dx out), the minimum for an accumulating dx, and 2 C
 * floats a block.
 *
 * Limit: memory bandwidth. A row has to fit: C floats of shared memory forwards, 2 C backwards, of
 * 58112 on Hopper.
 *
 * source  -
 * needs   cuda_launch, cuda_memory, cuda_reduce
 * see     rmsnorm
 * topics  -
 */
template <typename T, int V>
LLM_KERNEL void llm_layernorm_forward_kernel(T *y, T *residual, float *mean, float *rstd,
                                             const T *x, const T *w, const T *b, size_t C,
                                             float eps) {
    LLM_DYNAMIC_SHARED(float,
                       row); /* entry i + k of the row at k * (C / V) + i / V: no conflicts */
    const size_t first = (size_t)blockIdx.x * C, begin = (size_t)threadIdx.x * V;
    const size_t step = (size_t)blockDim.x * V;

    float v[V], sum = 0.0f, square = 0.0f;
    for (size_t i = begin; i < C; i += step) {
        llm_load_vector(v, x, first + i);
        if (residual) {
            float r[V];
            llm_load_vector(r, residual, first + i);
            LLM_UNROLL
            for (int k = 0; k < V; k++) v[k] = llm_rounded<T>(v[k] + r[k]);
            llm_store_vector(residual, first + i, v);
        }
        LLM_UNROLL
        for (int k = 0; k < V; k++) {
            row[k * (C / V) + i / V] = v[k]; /* only this thread reads it again: no barrier */
            sum += v[k];
        }
    }
    const float m = llm_block_sum(sum) / (float)C;
    for (size_t i = begin; i < C; i += step) {
        LLM_UNROLL
        for (int k = 0; k < V; k++) {
            const float d = row[k * (C / V) + i / V] - m;
            square += d * d;
        }
    }
    const float r = rsqrtf(llm_block_sum(square) / (float)C + eps);

    for (size_t i = begin; i < C; i += step) {
        float w_v[V];
        llm_load_vector(w_v, w, i);
        llm_load_vector(v, b, i);
        LLM_UNROLL
        for (int k = 0; k < V; k++) v[k] += w_v[k] * ((row[k * (C / V) + i / V] - m) * r);
        llm_store_vector(y, first + i, v);
    }
    if (threadIdx.x == 0 && mean) llm_store(mean, blockIdx.x, m);
    if (threadIdx.x == 0 && rstd) llm_store(rstd, blockIdx.x, r);
}

/* y, residual (N,C), mean, rstd (N) <- x (N,C), w, b (C): device pointers, T is float or llm_bf16.
 * residual is updated in place, or NULL: then y = layernorm(x). mean and rstd may be NULL; y may be
 * x. */
template <typename T>
static inline cudaError_t llm_cuda_layernorm_residual(T *y, T *residual, float *mean, float *rstd,
                                                      const T *x, const T *w, const T *b, size_t N,
                                                      size_t C, float eps, cudaStream_t stream) {
    enum { V = 16 / sizeof(T) };
    if (N == 0) return cudaSuccess;
    const bool wide = llm_aligned(y, C) && llm_aligned(residual, C) && llm_aligned(x, C) &&
                      llm_aligned(w, C) && llm_aligned(b, C);
    const auto layernorm_forward =
        wide ? llm_layernorm_forward_kernel<T, V> : llm_layernorm_forward_kernel<T, 1>;
    LLM_LAUNCH(layernorm_forward, (unsigned)N, llm_row_threads(wide ? C / V : C), C * sizeof(float),
               stream, y, residual, mean, rstd, x, w, b, C, eps);
    return cudaGetLastError();
}
/* Arguments as llm_layernorm_forward. */
template <typename T>
static inline cudaError_t llm_cuda_layernorm_forward(T *y, float *mean, float *rstd, const T *x,
                                                     const T *w, const T *b, size_t N, size_t C,
                                                     float eps, cudaStream_t stream) {
    return llm_cuda_layernorm_residual(y, (T *)NULL, mean, rstd, x, w, b, N, C, eps, stream);
}

template <typename T, int V>
LLM_KERNEL void llm_layernorm_backward_kernel(T *dx, float *part, const T *dy, const T *x,
                                              const T *w, const float *mean, const float *rstd,
                                              size_t N, size_t C) {
    LLM_DYNAMIC_SHARED(float, dw); /* this block's shares, each laid out as the forward's row */
    float *db = dw + C;
    const size_t begin = (size_t)threadIdx.x * V, step = (size_t)blockDim.x * V;
    for (size_t i = begin; i < C; i += step) {
        for (int k = 0; k < V; k++) dw[k * (C / V) + i / V] = db[k * (C / V) + i / V] = 0.0f;
    }
    float dy_v[V], x_v[V], w_v[V], dx_v[V];
    for (size_t n = blockIdx.x; n < N; n += gridDim.x) {
        const float m = llm_load(mean, n), r = llm_load(rstd, n);
        float flat = 0.0f, along = 0.0f; /* the parts of w dy that a shift and a scale of x undo */
        for (size_t i = begin; i < C; i += step) {
            llm_load_vector(dy_v, dy, n * C + i);
            llm_load_vector(x_v, x, n * C + i);
            llm_load_vector(w_v, w, i);
            LLM_UNROLL
            for (int k = 0; k < V; k++) {
                flat += w_v[k] * dy_v[k];
                along += w_v[k] * dy_v[k] * ((x_v[k] - m) * r);
            }
        }
        llm_block_sum2(flat, along);
        flat /= (float)C;
        along /= (float)C;

        for (size_t i = begin; i < C; i += step) {
            llm_load_vector(dy_v, dy, n * C + i);
            llm_load_vector(x_v, x, n * C + i);
            llm_load_vector(w_v, w, i);
            if (dx) llm_load_vector(dx_v, dx, n * C + i);
            LLM_UNROLL
            for (int k = 0; k < V; k++) {
                const float xhat = (x_v[k] - m) * r;
                dw[k * (C / V) + i / V] += dy_v[k] * xhat;
                db[k * (C / V) + i / V] += dy_v[k];
                if (dx) dx_v[k] += r * (w_v[k] * dy_v[k] - flat - xhat * along);
            }
            if (dx) llm_store_vector(dx, n * C + i, dx_v);
        }
    }
    for (size_t i = begin; i < C && part; i += step) {
        for (int k = 0; k < V; k++)
            w_v[k] = dw[k * (C / V) + i / V], x_v[k] = db[k * (C / V) + i / V];
        llm_store_vector(part, blockIdx.x * C + i, w_v);
        llm_store_vector(part, (gridDim.x + blockIdx.x) * C + i, x_v);
    }
}

/* Blocks of the backward pass: as many as fill a card of 2^18 threads. Fixed by the shape alone, so
 * that every card adds in the same order. */
template <typename T> static inline size_t llm_cuda_layernorm_blocks(size_t N, size_t C) {
    const size_t blocks = (1 << 18) / llm_row_threads(C * sizeof(T) / 16);
    return N < blocks ? N : blocks;
}

/* dx (N,C), dw, db (C) +=: arguments as llm_layernorm_backward, T is float or llm_bf16; any of the
 * three may be NULL. scratch: 2 C llm_cuda_layernorm_blocks<T>(N, C) floats, or NULL without dw and
 * db. */
template <typename T>
static inline cudaError_t llm_cuda_layernorm_backward(T *dx, float *dw, float *db, const T *dy,
                                                      const T *x, const T *w, const float *mean,
                                                      const float *rstd, size_t N, size_t C,
                                                      float *scratch, cudaStream_t stream) {
    enum { V = 16 / sizeof(T) };
    if (N == 0 || C == 0) return cudaSuccess;
    const bool wide =
        llm_aligned(dx, C) && llm_aligned(dy, C) && llm_aligned(x, C) && llm_aligned(w, C);
    const size_t blocks = llm_cuda_layernorm_blocks<T>(N, C);
    const auto layernorm_backward =
        wide ? llm_layernorm_backward_kernel<T, V> : llm_layernorm_backward_kernel<T, 1>;
    LLM_LAUNCH(layernorm_backward, (unsigned)blocks, llm_row_threads(wide ? C / V : C),
               2 * C * sizeof(float), stream, dx, dw || db ? scratch : NULL, dy, x, w, mean, rstd,
               N, C);
    cudaError_t error = cudaGetLastError();
    if (dw && error == cudaSuccess) error = llm_cuda_column_sum(dw, scratch, blocks, C, stream);
    if (db && error == cudaSuccess)
        error = llm_cuda_column_sum(db, scratch + blocks * C, blocks, C, stream);
    return error;
}

/* @rmsnorm -------------------------------------------------- Root mean square normalization
 *
 * Forward: residual += x, then y = rmsnorm(residual): the two always meet in a pre-norm block, and
 * apart they would read and write the residual stream twice. One block a row. Each thread adds,
 * stores, squares its entries and keeps them in shared memory while the block sums the squares: a
 * row just written would come back from L2, whose bandwidth is little above the memory's. Moves 4
 * elements for each element of the row (x, residual in; residual, y out), the minimum; w comes from
 * L2. Without a residual 2.
 *
 * Backward: a block takes every gridDim.x-th row. It reads x and dy twice, the second time from L1,
 * and keeps its share of dw in shared memory; a second kernel adds the shares in a fixed order.
 * Moves 4 elements (x, dy, dx in; dx out), the minimum for an accumulating dx, and C floats a
 * block.
 *
 * Limit: memory bandwidth. A row has to fit: C floats of shared memory, 58112 on Hopper.
 *
 * source  -
 * needs   cuda_launch, cuda_memory, cuda_reduce
 * see     layernorm
 * topics  -
 */
template <typename T, int V>
LLM_KERNEL void llm_rmsnorm_forward_kernel(T *y, T *residual, float *rstd, const T *x, const T *w,
                                           size_t C, float eps) {
    LLM_DYNAMIC_SHARED(float,
                       row); /* entry i + k of the row at k * (C / V) + i / V: no conflicts */
    const size_t first = (size_t)blockIdx.x * C, step = (size_t)blockDim.x * V;

    float v[V], sum_sq = 0.0f;
    for (size_t i = (size_t)threadIdx.x * V; i < C; i += step) {
        llm_load_vector(v, x, first + i);
        if (residual) {
            float r[V];
            llm_load_vector(r, residual, first + i);
            LLM_UNROLL
            for (int k = 0; k < V; k++) v[k] = llm_rounded<T>(v[k] + r[k]);
            llm_store_vector(residual, first + i, v);
        }
        LLM_UNROLL
        for (int k = 0; k < V; k++) {
            row[k * (C / V) + i / V] = v[k]; /* only this thread reads it again: no barrier */
            sum_sq += v[k] * v[k];
        }
    }
    const float r = rsqrtf(llm_block_sum(sum_sq) / (float)C + eps);

    for (size_t i = (size_t)threadIdx.x * V; i < C; i += step) {
        llm_load_vector(v, w, i);
        LLM_UNROLL
        for (int k = 0; k < V; k++) v[k] *= row[k * (C / V) + i / V] * r;
        llm_store_vector(y, first + i, v);
    }
    if (threadIdx.x == 0 && rstd) llm_store(rstd, blockIdx.x, r);
}

/* y, residual (N,C), rstd (N) <- x (N,C), w (C): device pointers, T is float or llm_bf16. residual
 * is updated in place, or NULL: then y = rmsnorm(x). rstd may be NULL. y may be x. */
template <typename T>
static inline cudaError_t llm_cuda_rmsnorm_residual(T *y, T *residual, float *rstd, const T *x,
                                                    const T *w, size_t N, size_t C, float eps,
                                                    cudaStream_t stream) {
    enum { V = 16 / sizeof(T) };
    if (N == 0) return cudaSuccess;
    const bool wide =
        llm_aligned(y, C) && llm_aligned(residual, C) && llm_aligned(x, C) && llm_aligned(w, C);
    const unsigned threads = llm_row_threads(wide ? C / V : C);
    if (wide)
        LLM_LAUNCH((llm_rmsnorm_forward_kernel<T, V>), (unsigned)N, threads, C * sizeof(float),
                   stream, y, residual, rstd, x, w, C, eps);
    else
        LLM_LAUNCH((llm_rmsnorm_forward_kernel<T, 1>), (unsigned)N, threads, C * sizeof(float),
                   stream, y, residual, rstd, x, w, C, eps);
    return cudaGetLastError();
}
/* Arguments as llm_rmsnorm_forward. */
template <typename T>
static inline cudaError_t llm_cuda_rmsnorm_forward(T *y, float *rstd, const T *x, const T *w,
                                                   size_t N, size_t C, float eps,
                                                   cudaStream_t stream) {
    return llm_cuda_rmsnorm_residual(y, (T *)NULL, rstd, x, w, N, C, eps, stream);
}

template <typename T, int V>
LLM_KERNEL void llm_rmsnorm_backward_kernel(T *dx, float *part, const T *dy, const T *x, const T *w,
                                            const float *rstd, size_t N, size_t C) {
    LLM_DYNAMIC_SHARED(float, dw); /* this block's share, laid out as the forward's row */
    const size_t begin = (size_t)threadIdx.x * V, step = (size_t)blockDim.x * V;
    for (size_t i = begin; i < C; i += step) {
        for (int k = 0; k < V; k++) dw[k * (C / V) + i / V] = 0.0f;
    }
    float dy_v[V], x_v[V], w_v[V], dx_v[V];
    for (size_t n = blockIdx.x; n < N; n += gridDim.x) {
        const float r = llm_load(rstd, n);
        float along = 0.0f; /* sum of w dy xhat: the part of the gradient along x */
        for (size_t i = begin; i < C; i += step) {
            llm_load_vector(dy_v, dy, n * C + i);
            llm_load_vector(x_v, x, n * C + i);
            llm_load_vector(w_v, w, i);
            LLM_UNROLL
            for (int k = 0; k < V; k++) along += w_v[k] * dy_v[k] * (x_v[k] * r);
        }
        along = llm_block_sum(along) / (float)C;

        for (size_t i = begin; i < C; i += step) {
            llm_load_vector(dy_v, dy, n * C + i);
            llm_load_vector(x_v, x, n * C + i);
            llm_load_vector(w_v, w, i);
            if (dx) llm_load_vector(dx_v, dx, n * C + i);
            LLM_UNROLL
            for (int k = 0; k < V; k++) {
                const float xhat = x_v[k] * r;
                dw[k * (C / V) + i / V] += dy_v[k] * xhat;
                if (dx) dx_v[k] += r * (w_v[k] * dy_v[k] - xhat * along);
            }
            if (dx) llm_store_vector(dx, n * C + i, dx_v);
        }
    }
    for (size_t i = begin; i < C && part; i += step) {
        float share[V];
        for (int k = 0; k < V; k++) share[k] = dw[k * (C / V) + i / V];
        llm_store_vector(part, blockIdx.x * C + i, share);
    }
}

/* Blocks of the backward pass: as many as fill a card of 2^18 threads. Fixed by the shape alone, so
 * that every card adds in the same order. */
template <typename T> static inline size_t llm_cuda_rmsnorm_blocks(size_t N, size_t C) {
    const size_t blocks = (1 << 18) / llm_row_threads(C * sizeof(T) / 16);
    return N < blocks ? N : blocks;
}

/* dx (N,C) +=, dw (C) +=: arguments as llm_rmsnorm_backward, T is float or llm_bf16; dx and dw may
 * be NULL. scratch: llm_cuda_rmsnorm_blocks<T>(N, C) * C floats, not read, or NULL without dw. */
template <typename T>
static inline cudaError_t llm_cuda_rmsnorm_backward(T *dx, float *dw, const T *dy, const T *x,
                                                    const T *w, const float *rstd, size_t N,
                                                    size_t C, float *scratch, cudaStream_t stream) {
    enum { V = 16 / sizeof(T) };
    if (N == 0 || C == 0) return cudaSuccess;
    const bool wide =
        llm_aligned(dx, C) && llm_aligned(dy, C) && llm_aligned(x, C) && llm_aligned(w, C);
    const unsigned threads = llm_row_threads(wide ? C / V : C);
    const size_t blocks = llm_cuda_rmsnorm_blocks<T>(N, C);
    float *part = dw ? scratch : NULL;
    if (wide)
        LLM_LAUNCH((llm_rmsnorm_backward_kernel<T, V>), (unsigned)blocks, threads,
                   C * sizeof(float), stream, dx, part, dy, x, w, rstd, N, C);
    else
        LLM_LAUNCH((llm_rmsnorm_backward_kernel<T, 1>), (unsigned)blocks, threads,
                   C * sizeof(float), stream, dx, part, dy, x, w, rstd, N, C);
    const cudaError_t error = cudaGetLastError();
    return dw && error == cudaSuccess ? llm_cuda_column_sum(dw, scratch, blocks, C, stream) : error;
}

/* @label_smoothing ------------------------------------------ Label smoothing
 *
 * Loss and gradient at once, in place, as @cross_entropy: one block a row, one pass for the pair
 * (max, sum), one backwards over the row that writes the gradient where the logit stood and sums
 * mass times (max - logit), the other half of the loss. The target row is never built.
 *
 * Moves 2 elements for each logit, the minimum, where L1 and L2 serve the second reading; a prior
 * adds a read of its row, from cache. Limit: memory bandwidth.
 *
 * source  -
 * needs   cuda_launch, cuda_memory, cuda_reduce, logsumexp
 * see     cross_entropy
 * topics  -
 */
template <typename T, int V>
LLM_KERNEL void llm_label_smoothing_kernel(float *loss, T *logits, const int *target,
                                           const float *prior, size_t classes, float own,
                                           float even, float e, float scale) {
    const size_t first = blockIdx.x * classes, begin = (size_t)threadIdx.x * V;
    const size_t step = (size_t)blockDim.x * V;
    const int y = target[blockIdx.x];
    float v[V];
    if (y == LLM_CROSS_ENTROPY_IGNORE) {
        for (int k = 0; k < V; k++) v[k] = 0.0f;
        for (size_t i = begin; i < classes; i += step) llm_store_vector(logits, first + i, v);
        if (threadIdx.x == 0) llm_store(loss, blockIdx.x, 0.0f);
        return; /* the whole block */
    }
    llm_logsumexp_pair a = {-INFINITY, 0.0f};
    size_t i = begin;
    for (; i < classes; i += step) {
        llm_load_vector(v, logits, first + i);
        llm_cuda_logsumexp_add(a, v, 1.0f);
    }
    a = llm_cuda_logsumexp_row<false>(a, 1.0f);
    float part = 0.0f, total = 0.0f; /* sum of mass (max - z), and of the masses */
    while (i > begin) {
        i -= step;
        llm_load_vector(v, logits, first + i);
        LLM_UNROLL
        for (int k = 0; k < V; k++) {
            float mass = prior ? e * llm_load(prior, i + (size_t)k) : even;
            if ((size_t)y == i + (size_t)k) mass += own;
            if (mass != 0.0f) part += mass * (a.max - v[k]);
            total += mass;
            v[k] = scale * (expf(v[k] - a.max) / a.sum - mass);
        }
        llm_store_vector(logits, first + i, v);
    }
    llm_block_sum2(part, total);
    if (threadIdx.x == 0)
        llm_store(loss, blockIdx.x,
                  y >= 0 && (size_t)y < classes ? part + total * logf(a.sum) : NAN);
}

/* loss (N), logits (N,K) <- logits, target (N), prior (K) or NULL, e in 0..1, mode: the loss of
 * llm_label_smoothing_forward, and scale times its gradient where the logits stood (0 in ignored
 * rows). T is float or llm_bf16. A target outside 0..K-1 has NaN as its loss. */
template <typename T>
static inline cudaError_t llm_cuda_label_smoothing_in_place(float *loss, T *logits,
                                                            const int *target, const float *prior,
                                                            size_t N, size_t K, float e, int mode,
                                                            float scale, cudaStream_t stream) {
    enum { V = 16 / sizeof(T) };
    if (!(e >= 0.0f && e < 1.0f) || (mode == LLM_LABEL_SMOOTHING_OTHERS && K == 1))
        return cudaErrorInvalidValue;
    if (N == 0 || K == 0) return cudaSuccess;
    const bool all = mode == LLM_LABEL_SMOOTHING_ALL;
    const float even = e / (float)(all ? K : K - 1);
    const float own = prior || all ? 1.0f - e : 1.0f - e - even;
    const bool wide = llm_aligned(logits, K);
    const auto label_smoothing =
        wide ? llm_label_smoothing_kernel<T, V> : llm_label_smoothing_kernel<T, 1>;
    LLM_LAUNCH(label_smoothing, (unsigned)N, llm_row_threads(wide ? K / V : K), 0, stream, loss,
               logits, target, prior, K, own, even, e, scale);
    return cudaGetLastError();
}

/* @augmentation --------------------------------------------- Data augmentation
 *
 *     y(q) = (x(M q + t) or the square's colour - mean) / deviation
 *
 * A batch of pictures turned, moved, cut and normalised in one pass. A thread a picture draws the
 * map and the square first, from the generator llm_rng_seed(seed + n) as a loop of the reference
 * would, so that an epoch can be repeated on either side. Then a thread a pixel works out once
 * where it comes from and reads four neighbours in every channel; neighbouring pixels have most of
 * them in common, and L1 has them. What the square covers is not read.
 *
 * Moves x in, y out and 32 bytes a picture, the minimum; apart, warp, square and normalization
 * would move six times x. Limit: memory bandwidth; loads from L1 for float pictures with many
 * channels.
 *
 * source  Simard, Steinkraus & Platt 2003, "Best practices for convolutional neural networks
 *         applied to visual document analysis"
 * needs   cuda_launch, cuda_memory, cuda_rng
 * see     input_layer
 * topics  -
 */

/* A turn of up to `angle` to either side, a zoom of 1 - zoom to 1 + zoom, moves of up to `shift` of
 * the picture, and a square of side x side. */
typedef struct {
    float angle, zoom, shift;
    size_t side;
} llm_cuda_augmentation_config;

/* llm_rng_below on the words from number `drawn` on. */
LLM_DEVICE size_t llm_cuda_augmentation_below(uint64_t &drawn, uint64_t key, size_t n) {
    const uint64_t range = n, words = (uint64_t)1 << 32;
    uint64_t x;
    do {
        uint32_t word[4];
        llm_cuda_philox(word, drawn / 4, key);
        const uint64_t k = drawn++ % 4;
        x = (k == 0 ? word[0] : k == 1 ? word[1] : k == 2 ? word[2] : word[3]) * range;
    } while ((uint32_t)x < range && (uint32_t)x < words % range);
    return (size_t)(x >> 32);
}
LLM_KERNEL void llm_augmentation_draw_kernel(llm_augmentation_map *map, int *square, uint64_t seed,
                                             size_t N, size_t H, size_t W,
                                             llm_cuda_augmentation_config c) {
    const size_t n = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (n >= N) return;
    uint32_t word[4];
    llm_cuda_philox(word, 0, seed + n);
    const float angle = c.angle * (2.0f * llm_cuda_uniform(word[0]) - 1.0f);
    const float zoom = 1.0f + c.zoom * (2.0f * llm_cuda_uniform(word[1]) - 1.0f);
    const float dy = c.shift * (float)H * (2.0f * llm_cuda_uniform(word[2]) - 1.0f);
    const float dx = c.shift * (float)W * (2.0f * llm_cuda_uniform(word[3]) - 1.0f);
    const float cosine = cosf(angle) / zoom, sine = sinf(angle) / zoom; /* as the reference's map */
    const float row = 0.5f * ((float)H - 1.0f), column = 0.5f * ((float)W - 1.0f);
    float *m = map[n].m;
    llm_store(m, 0, cosine), llm_store(m, 1, sine), llm_store(m, 3, -sine), llm_store(m, 4, cosine);
    llm_store(m, 2, row - cosine * (row + dy) - sine * (column + dx));
    llm_store(m, 5, column + sine * (row + dy) - cosine * (column + dx));
    uint64_t drawn = 4;
    for (size_t axis = 0; axis < 2; axis++) /* llm_augmentation_cutout */
        square[2 * n + axis] =
            (int)llm_cuda_augmentation_below(drawn, seed + n, axis ? W : H) - (int)(c.side / 2);
}
/* map (N) and square (N,2), the square's first row and column, <- draws for pictures (H,W), which
 * have pixels; in the order angle, zoom, down, right, row, column. */
static inline __attribute__((unused)) cudaError_t
llm_cuda_augmentation_draw(llm_augmentation_map *map, int *square, uint64_t seed, size_t N,
                           size_t H, size_t W, const llm_cuda_augmentation_config *c,
                           cudaStream_t stream) {
    if (N == 0) return cudaSuccess;
    LLM_LAUNCH(llm_augmentation_draw_kernel, (unsigned)((N + 255) / 256), 256, 0, stream, map,
               square, seed, N, H, W, *c);
    return cudaGetLastError();
}

/* What becomes of a picture beside its map; square, mean and deviation may be NULL. */
struct llm_cuda_augmentation_warp {
    const int *square; /* (N,2), and its side and colour */
    int side;
    float fill, outside;           /* outside: beyond the picture's pixels */
    const float *mean, *deviation; /* (C) */
};
template <typename T, typename S>
LLM_KERNEL void llm_augmentation_warp_kernel(T *y, const S *x, const llm_augmentation_map *map,
                                             llm_cuda_augmentation_warp c, size_t C, int H, int W) {
    const int pixels = H * W, blocks = (pixels + 255) / 256;
    const size_t n = blockIdx.x / (unsigned)blocks;
    const int at = (int)(blockIdx.x % (unsigned)blocks) * 256 + (int)threadIdx.x;
    if (at >= pixels) return;
    const float *m = map[n].m, i = (float)(at / W), j = (float)(at % W);
    const float row = llm_load(m, 0) * i + llm_load(m, 1) * j + llm_load(m, 2);
    const float column = llm_load(m, 3) * i + llm_load(m, 4) * j + llm_load(m, 5);
    const float top = floorf(row), left = floorf(column), a = row - top, b = column - left;
    bool covered = false;
    if (c.square) {
        const int down = at / W - c.square[2 * n], right = at % W - c.square[2 * n + 1];
        covered = down >= 0 && down < c.side && right >= 0 && right < c.side;
    }
    float share[4];
    int from[4]; /* of the four neighbours; -1: outside */
    LLM_UNROLL
    for (int k = 0; k < 4; k++) {
        const float r = top + (float)(k / 2), q = left + (float)(k % 2);
        share[k] = (k / 2 ? a : 1.0f - a) * (k % 2 ? b : 1.0f - b);
        const bool inside = r >= 0.0f && q >= 0.0f && r < (float)H && q < (float)W;
        from[k] = inside && share[k] != 0.0f ? (int)r * W + (int)q : -1;
    }
    for (size_t channel = 0; channel < C; channel++) {
        const size_t plane = (n * C + channel) * (size_t)pixels;
        float sum = covered ? c.fill : 0.0f;
        LLM_UNROLL
        for (int k = 0; k < 4; k++)
            if (!covered)
                sum += share[k] * (from[k] < 0 ? c.outside : llm_load(x, plane + (size_t)from[k]));
        if (c.mean) sum = (sum - llm_load(c.mean, channel)) / llm_load(c.deviation, channel);
        llm_store(y, plane + (size_t)at, sum);
    }
}
/* y (N,C,H,W) <- x (N,C,H,W) by map (N): llm_augmentation_warp, then a square as
 * llm_augmentation_cutout's, then the normalization. y may not be x; T and S are float or llm_bf16,
 * a picture has less than 2^31 pixels. */
template <typename T, typename S>
static inline cudaError_t
llm_cuda_augmentation_apply(T *y, const S *x, const llm_augmentation_map *map,
                            const llm_cuda_augmentation_warp *c, size_t N, size_t C, size_t H,
                            size_t W, cudaStream_t stream) {
    if (N * C * H * W == 0) return cudaSuccess;
    LLM_LAUNCH((llm_augmentation_warp_kernel<T, S>), (unsigned)(N * ((H * W + 255) / 256)), 256, 0,
               stream, y, x, map, *c, C, (int)H, (int)W);
    return cudaGetLastError();
}

/* @conv2d --------------------------------------------------- Convolution: where its numbers lie
 *
 * All three passes of a convolution are products whose operands are not matrices in memory but
 * rules. An entry of an operand is the number at place + step, and each of the two adds an offset,
 * a row and a column; what lies outside the picture, or between the pixels of a stride on the way
 * back, is 0. So the columns of the reference are never written (implicit GEMM):
 *
 *     forward  M = O, N = pixels of y, K = C u v      a = w     b = x at (n,i,j) + (c,u,v)
 *     dx       M = C, N = pixels of x, K = O u v      a = w     b = dy at (n,r,q) - (o,u,v)
 *     dw       M = O, N = C u v,  K = pixels of y     a = dy    b = x as in forward
 *
 * source  Chetlur et al. 2014, "cuDNN: efficient primitives for deep learning", section 3
 * needs   cuda_launch, cuda_memory
 * see     conv2d_gemm, conv2d_bf16
 * topics  -
 */
struct llm_cuda_conv2d {
    int N, C, H, W, O, I, J; /* C and O of a group */
    int kernel[2], stride[2], pad[2], dilation[2], groups;
};
/* The same with N pictures, in numbers that kernels compute with. */
static inline __attribute__((unused)) llm_cuda_conv2d llm_cuda_conv2d_of(const llm_conv2d *c,
                                                                         size_t N) {
    llm_cuda_conv2d s = {(int)N,
                         (int)(c->C / c->groups),
                         (int)c->H,
                         (int)c->W,
                         (int)(c->O / c->groups),
                         (int)llm_conv2d_size(c, 0),
                         (int)llm_conv2d_size(c, 1),
                         {(int)c->kernel[0], (int)c->kernel[1]},
                         {(int)c->stride[0], (int)c->stride[1]},
                         {(int)c->pad[0], (int)c->pad[1]},
                         {(int)c->dilation[0], (int)c->dilation[1]},
                         (int)c->groups};
    return s;
}

enum { LLM_CUDA_CONV2D_FORWARD, LLM_CUDA_CONV2D_DX, LLM_CUDA_CONV2D_DW };
struct llm_cuda_conv2d_at {
    size_t offset;
    int row, column;
};

/* Index i along M (of a), N (of b) or K of a pass: what it adds. */
template <int pass>
LLM_DEVICE llm_cuda_conv2d_at llm_cuda_conv2d_a_place(const llm_cuda_conv2d &s, int i) {
    const int area = s.kernel[0] * s.kernel[1];
    const int each = pass == LLM_CUDA_CONV2D_FORWARD ? s.C * area /* row of w */
                     : pass == LLM_CUDA_CONV2D_DX    ? area       /* its column */
                                                     : s.I * s.J;    /* plane of dy */
    const llm_cuda_conv2d_at at = {(size_t)i * (size_t)each, 0, 0};
    return at;
}
template <int pass>
LLM_DEVICE llm_cuda_conv2d_at llm_cuda_conv2d_a_step(const llm_cuda_conv2d &s, int i) {
    const int area = s.kernel[0] * s.kernel[1], P = s.I * s.J;
    llm_cuda_conv2d_at at = {(size_t)i, 0, 0};
    if (pass == LLM_CUDA_CONV2D_DX) at.offset += (size_t)(i / area) * (size_t)((s.C - 1) * area);
    if (pass == LLM_CUDA_CONV2D_DW)
        at.offset = (size_t)(i / P) * (size_t)(s.groups * s.O) * (size_t)P + (size_t)(i % P);
    return at;
}
/* A pixel of y as it looks at x; for dx a pixel of x as it looks at dy, in units of x. */
template <int pass>
LLM_DEVICE llm_cuda_conv2d_at llm_cuda_conv2d_pixel(const llm_cuda_conv2d &s, int i) {
    const bool back = pass == LLM_CUDA_CONV2D_DX;
    const int height = back ? s.H : s.I, width = back ? s.W : s.J, p = i % (height * width);
    const int n = i / (height * width), row = p / width, column = p % width;
    const size_t picture = (size_t)s.groups * (back ? (size_t)s.O * (size_t)(s.I * s.J)
                                                    : (size_t)s.C * (size_t)(s.H * s.W));
    const llm_cuda_conv2d_at at = {(size_t)n * picture,
                                   back ? row + s.pad[0] : row * s.stride[0] - s.pad[0],
                                   back ? column + s.pad[1] : column * s.stride[1] - s.pad[1]};
    return at;
}
/* A kernel pixel, channel included. */
template <int pass>
LLM_DEVICE llm_cuda_conv2d_at llm_cuda_conv2d_tap(const llm_cuda_conv2d &s, int k) {
    const bool back = pass == LLM_CUDA_CONV2D_DX;
    const int area = s.kernel[0] * s.kernel[1], channel = k / area, uv = k % area;
    const int u = uv / s.kernel[1] * s.dilation[0], v = uv % s.kernel[1] * s.dilation[1];
    const llm_cuda_conv2d_at at = {(size_t)channel * (size_t)(back ? s.I * s.J : s.H * s.W),
                                   back ? -u : u, back ? -v : v};
    return at;
}
/* The entry of x, or of dy on the way back, where the two meet. */
template <int pass, typename T>
LLM_DEVICE float llm_cuda_conv2d_load(const llm_cuda_conv2d &s, const T *x,
                                      const llm_cuda_conv2d_at &a, const llm_cuda_conv2d_at &b) {
    const bool back = pass == LLM_CUDA_CONV2D_DX;
    int row = a.row + b.row, column = a.column + b.column;
    if (back && (s.stride[0] > 1 || s.stride[1] > 1)) {
        if (row % s.stride[0] != 0 || column % s.stride[1] != 0) return 0.0f;
        row /= s.stride[0], column /= s.stride[1];
    }
    const int height = back ? s.I : s.H, width = back ? s.J : s.W;
    if (row < 0 || column < 0 || row >= height || column >= width) return 0.0f;
    return llm_load(x, a.offset + b.offset + (size_t)(row * width + column));
}

/* What becomes of the sum at channel r of a group and pixel q of all pictures, P a picture: out <-
 * v + bias, or out += v; of dw's at (r, q): a slice of scratch, or dw += v. */
template <typename T> struct llm_cuda_conv2d_forward_end {
    T *y;
    const T *b;
    LLM_DEVICE_METHOD void operator()(const llm_cuda_conv2d &s, size_t g, size_t r, size_t q,
                                      float v) const {
        const size_t P = (size_t)(s.I * s.J), o = g * (size_t)s.O + r;
        const size_t at = (q / P * (size_t)(s.groups * s.O) + o) * P + q % P;
        llm_store(y, at, v + (b ? llm_load(b, o) : 0.0f));
    }
};
template <typename T> struct llm_cuda_conv2d_dx_end {
    T *dx;
    LLM_DEVICE_METHOD void operator()(const llm_cuda_conv2d &s, size_t g, size_t r, size_t q,
                                      float v) const {
        const size_t P = (size_t)(s.H * s.W), c = g * (size_t)s.C + r;
        const size_t at = (q / P * (size_t)(s.groups * s.C) + c) * P + q % P;
        llm_store(dx, at, llm_load(dx, at) + v);
    }
};
struct llm_cuda_conv2d_dw_end {
    float *out;
    bool slices;
    LLM_DEVICE_METHOD void operator()(const llm_cuda_conv2d &s, size_t g, size_t r, size_t q,
                                      float v) const {
        const size_t K = (size_t)(s.C * s.kernel[0] * s.kernel[1]),
                     all = (size_t)(s.groups * s.O) * K;
        const size_t at = (slices ? blockIdx.z * all : 0) + (g * (size_t)s.O + r) * K + q;
        llm_store(out, at, v + (slices ? 0.0f : llm_load(out, at)));
    }
};

/* @conv2d_gemm ---------------------------------------------- Convolution as a matrix product
 *
 * Forward, dx and dw with the tile and the registers of @cuda_gemm, on the operands of @conv2d. The
 * side that does not change along K is taken apart into picture, row and column once; the other at
 * each step, which costs divisions: one set for four numbers forwards and for dx, four sets for dw.
 * dw has few tiles and a long sum, so its pixels are cut into slices, added in order: the result
 * does not depend on which block was first. With a stride s, dx multiplies s^2 times as often, most
 * of it by zeros.
 *
 * 2 N P O K operations forwards, twice that backwards. x is read from cache once for each kernel
 * pixel and each 128 outputs, and once from memory. Limit: float multiply-adds and the address
 * arithmetic beside them.
 *
 * source  -
 * needs   cuda_launch, cuda_memory, cuda_reduce, cuda_gemm, dense, conv2d
 * see     dense, conv2d_bf16
 * topics  -
 */
/* The product of a pass for group blockIdx.y, slice blockIdx.z; as llm_gemm_kernel but for where
 * numbers come from. a is turned in no pass; b (pixels along its rows) but for dw. */
template <int pass, typename T, typename E>
LLM_KERNEL void __launch_bounds__(256)
    llm_conv2d_gemm_kernel(E epilogue, const T *a, const T *b, llm_cuda_conv2d s, int M, int N,
                           int K, int slice) {
    enum { turned = pass != LLM_CUDA_CONV2D_DW, PLACES = turned ? 4 : 1 };
    __shared__ __align__(16) float a_tile[2][8][LLM_CUDA_GEMM_TILE + 4],
        b_tile[2][8][LLM_CUDA_GEMM_TILE + 4];
    const unsigned t = threadIdx.x, x = t % 16 * 4, y = t / 16 * 4;
    const size_t group = blockIdx.y;
    const size_t of_w = (size_t)(s.O * s.C * s.kernel[0] * s.kernel[1]);
    const size_t of_x = (size_t)s.C * (size_t)(s.H * s.W), of_y = (size_t)s.O * (size_t)(s.I * s.J);
    a += group * (pass == LLM_CUDA_CONV2D_DW ? of_y : of_w);
    b += group * (pass == LLM_CUDA_CONV2D_DX ? of_y : of_x);
    size_t row, column;
    llm_cuda_gemm_tile(row, column, (size_t)M, (size_t)N);
    const int first = (int)blockIdx.z * slice, end = first + slice < K ? first + slice : K;

    /* this thread's places: one row of a; of b four pixels, or one row */
    const int a_row = (int)row + (int)t / 2,
              b_row = (int)column + (turned ? (int)t % 32 * 4 : (int)t / 2);
    const llm_cuda_conv2d_at a_at = llm_cuda_conv2d_a_place<pass>(s, a_row);
    llm_cuda_conv2d_at b_at[PLACES];
    LLM_UNROLL
    for (int i = 0; i < PLACES; i++)
        b_at[i] = turned ? llm_cuda_conv2d_pixel<pass>(s, b_row + i)
                         : llm_cuda_conv2d_tap<pass>(s, b_row);

    float c[8][8] = {};
    for (int k = first, now = 0; k < end; k += 8, now ^= 1) {
        float a_next[4], b_next[4];
        LLM_UNROLL
        for (int i = 0; i < 4; i++) {
            const int step = k + (int)t % 2 * 4 + i;
            a_next[i] = 0.0f;
            if (a_row < M && step < end)
                a_next[i] = llm_load(a, a_at.offset + llm_cuda_conv2d_a_step<pass>(s, step).offset);
        }
        if (turned) {
            const int step = k + (int)t / 32;
            const llm_cuda_conv2d_at tap = llm_cuda_conv2d_tap<pass>(s, step);
            LLM_UNROLL
            for (int i = 0; i < PLACES; i++)
                b_next[i] = step < end && b_row + i < N
                                ? llm_cuda_conv2d_load<pass>(s, b, b_at[i], tap)
                                : 0.0f;
        } else {
            LLM_UNROLL
            for (int i = 0; i < 4; i++) {
                const int step = k + (int)t % 2 * 4 + i;
                b_next[i] = 0.0f;
                if (step < end && b_row < N)
                    b_next[i] = llm_cuda_conv2d_load<pass>(
                        s, b, llm_cuda_conv2d_pixel<pass>(s, step), b_at[0]);
            }
        }
        llm_cuda_gemm_put<false>(a_tile[now], a_next);
        llm_cuda_gemm_put<turned>(b_tile[now], b_next);
        __syncthreads(); /* the other buffer was read before the last one */
        LLM_UNROLL
        for (unsigned step = 0; step < 8; step++) {
            float a_v[8], b_v[8];
            LLM_UNROLL
            for (unsigned i = 0; i < 8; i++) {
                a_v[i] = a_tile[now][step][i / 4 * 64 + y + i % 4];
                b_v[i] = b_tile[now][step][i / 4 * 64 + x + i % 4];
            }
            LLM_UNROLL
            for (unsigned i = 0; i < 8; i++) {
                LLM_UNROLL
                for (unsigned j = 0; j < 8; j++) c[i][j] += a_v[i] * b_v[j];
            }
        }
    }
    LLM_UNROLL
    for (unsigned i = 0; i < 8; i++) {
        LLM_UNROLL
        for (unsigned j = 0; j < 8; j++) {
            const size_t r = row + i / 4 * 64 + y + i % 4, q = column + j / 4 * 64 + x + j % 4;
            if (r < (size_t)M && q < (size_t)N) epilogue(s, group, r, q, c[i][j]);
        }
    }
}

/* The kernel on all groups and slices. */
template <int pass, typename T, typename E>
static inline cudaError_t
llm_cuda_conv2d_launch(E end, const T *a, const T *b, const llm_cuda_conv2d &s, size_t M, size_t N,
                       size_t K, size_t slices, size_t slice, cudaStream_t stream) {
    if (M == 0 || N == 0) return cudaSuccess;
    LLM_LAUNCH((llm_conv2d_gemm_kernel<pass, T, E>),
               dim3(llm_cuda_gemm_blocks(M, N), (unsigned)s.groups, (unsigned)slices), 256, 0,
               stream, end, a, b, s, (int)M, (int)N, (int)K, (int)slice);
    return cudaGetLastError();
}

/* Can every index be an int? */
static inline __attribute__((unused)) bool llm_cuda_conv2d_fits(const llm_conv2d *c, size_t N) {
    const size_t most = (size_t)1 << 30, P = llm_conv2d_size(c, 0) * llm_conv2d_size(c, 1);
    const size_t pixels = P > c->H * c->W ? P : c->H * c->W;
    return pixels < most && N < most / pixels && c->C < most / pixels && c->O < most / pixels &&
           llm_conv2d_weights(c) < most;
}

/* y (N,O,.,.) <- x (N,C,H,W), w, b (O) or NULL: arguments as llm_conv2d_forward, T is float or
 * llm_bf16. Sizes beyond 2^30 pixels are an invalid value. */
template <typename T>
static inline cudaError_t llm_cuda_conv2d_forward(T *y, const T *x, const T *w, const T *b,
                                                  size_t N, const llm_conv2d *c,
                                                  cudaStream_t stream) {
    if (!llm_cuda_conv2d_fits(c, N)) return cudaErrorInvalidValue;
    const llm_cuda_conv2d s = llm_cuda_conv2d_of(c, N);
    const size_t K = llm_conv2d_sum(c), pixels = N * (size_t)(s.I * s.J);
    const llm_cuda_conv2d_forward_end<T> end = {y, b};
    return llm_cuda_conv2d_launch<LLM_CUDA_CONV2D_FORWARD, T>(end, w, x, s, (size_t)s.O, pixels, K,
                                                              1, K, stream);
}

/* db (O) += the sums of dy's planes: a block a channel. */
template <typename T>
LLM_KERNEL void llm_conv2d_db_kernel(float *db, const T *dy, size_t N, size_t O, size_t P) {
    float sum = 0.0f;
    for (size_t i = threadIdx.x; i < N * P; i += blockDim.x)
        sum += llm_load(dy, (i / P * O + blockIdx.x) * P + i % P);
    sum = llm_block_sum(sum);
    if (threadIdx.x == 0) llm_store(db, blockIdx.x, llm_load(db, blockIdx.x) + sum);
}

/* Slices of the pixels for dw: so many that their tiles fill a large card, none under 256. */
static inline __attribute__((unused)) size_t llm_cuda_conv2d_slices(size_t N, const llm_conv2d *c) {
    const size_t P = llm_conv2d_size(c, 0) * llm_conv2d_size(c, 1);
    return llm_cuda_dense_slices(N * P, llm_conv2d_sum(c), c->O / c->groups);
}

/* dx (N,C,H,W), dw, db (O) +=: arguments as llm_conv2d_backward, any of the three may be NULL; T is
 * float or llm_bf16. scratch: llm_cuda_conv2d_slices times the floats of w, or NULL where that is
 * 1. */
template <typename T>
static inline cudaError_t
llm_cuda_conv2d_backward(T *dx, float *dw, float *db, const T *dy, const T *x, const T *w, size_t N,
                         const llm_conv2d *c, float *scratch, cudaStream_t stream) {
    if (!llm_cuda_conv2d_fits(c, N)) return cudaErrorInvalidValue;
    if (N == 0) return cudaSuccess;
    const llm_cuda_conv2d s = llm_cuda_conv2d_of(c, N);
    const size_t P = (size_t)(s.I * s.J), K = llm_conv2d_sum(c), area = c->kernel[0] * c->kernel[1];
    const size_t weights = llm_conv2d_weights(c), of_dx = (size_t)s.O * area;
    cudaError_t error = cudaSuccess;
    if (dx) {
        const llm_cuda_conv2d_dx_end<T> end = {dx};
        error = llm_cuda_conv2d_launch<LLM_CUDA_CONV2D_DX, T>(
            end, w, dy, s, (size_t)s.C, N * (size_t)(s.H * s.W), of_dx, 1, of_dx, stream);
    }
    if (dw && error == cudaSuccess) {
        const size_t slices = llm_cuda_conv2d_slices(N, c);
        const size_t slice = ((N * P + slices - 1) / slices + 7) / 8 * 8;
        const llm_cuda_conv2d_dw_end end = {slices > 1 ? scratch : dw, slices > 1};
        error = llm_cuda_conv2d_launch<LLM_CUDA_CONV2D_DW, T>(end, dy, x, s, (size_t)s.O, K, N * P,
                                                              slices, slice, stream);
        if (slices > 1 && error == cudaSuccess) {
            LLM_LAUNCH(llm_dense_add_slices_kernel, (unsigned)((weights + 255) / 256), 256, 0,
                       stream, dw, scratch, slices, weights);
            error = cudaGetLastError();
        }
    }
    if (db && error == cudaSuccess) {
        LLM_LAUNCH(llm_conv2d_db_kernel<T>, (unsigned)c->O, 256, 0, stream, db, dy, N, c->O, P);
        error = cudaGetLastError();
    }
    return error;
}

/* @conv2d_bf16 ---------------------------------------------- Convolution on tensor cores
 *
 * The product of @cuda_gemm_bf16 on pictures with the channels last, x (N,H,W,C) and w (O,u,v,C):
 * eight channels of a pixel are 16 bytes that lie together, so that cp.async brings them to their
 * stage as it brings the rows of a matrix; padding is a copy of no bytes. Only the places come from
 * a rule, @conv2d's with the channel innermost, and its divisions by sizes that are not known to
 * the compiler are multiplications by their inverse:
 *
 *     forward  y (NIJ,O) = X (NIJ,uvC) w^T         X: the pixels that an output looks at
 *     dx       dx (NHW,C) += D (NHW,uvO) w         D: the outputs that look at a pixel
 *     dw       dw (O,uvC) += dy^T X                slices of the pixels, added in order
 *
 * So bias, activation and what backward wants are @dense's epilogues. Channels have to be multiples
 * of 8, in one group: the first layer of a net, with three, is @conv2d_gemm's. With a stride s, dx
 * multiplies s^2 times as often, most of it by zeros.
 *
 * 2 NIJ O uvC operations forwards, twice that backwards, the minimum for stride 1. x comes from L2
 * once for each kernel pixel and each 128 outputs, from memory once. Limit: tensor cores, for less
 * than 128 channels L2.
 *
 * source  Chetlur et al. 2014, "cuDNN: efficient primitives for deep learning", section 3; Granlund
 *         & Montgomery 1994, "Division by invariant integers using multiplication", figure 4.1
 * needs   cuda_launch, cuda_memory, cuda_reduce, cuda_gemm, cuda_gemm_bf16, dense, conv2d,
 *         conv2d_gemm
 * see     activation
 * topics  -
 */
struct llm_cuda_conv2d_bf16_divisor {
    unsigned by, magic, shift;
};
/* shift = ceil(log2 by), magic = floor(2^32 (2^shift - by) / by) + 1. */
static inline __attribute__((unused)) llm_cuda_conv2d_bf16_divisor
llm_cuda_conv2d_bf16_divide_by(size_t by) {
    unsigned shift = 0;
    while (((size_t)1 << shift) < by) shift++;
    const uint64_t above = ((uint64_t)1 << shift) - (uint64_t)by;
    const llm_cuda_conv2d_bf16_divisor d = {(unsigned)by, (unsigned)((above << 32) / by + 1),
                                            shift};
    return d;
}
/* Returns n / by, n becomes n % by; n < 2^31. */
LLM_HOST_DEVICE unsigned llm_cuda_conv2d_bf16_divide(unsigned &n,
                                                     const llm_cuda_conv2d_bf16_divisor &d) {
    const unsigned q = ((unsigned)((uint64_t)n * d.magic >> 32) + n) >> d.shift;
    n -= q * d.by;
    return q;
}

/* X (pixels of y, uvC) of x, or back D (pixels of x, uvO) of dy: a matrix that is not written. */
template <bool back> struct llm_cuda_conv2d_bf16_view {
    const llm_bf16 *p;
    llm_cuda_conv2d s;
    llm_cuda_conv2d_bf16_divisor channels, across, plane, width, stride[2];
    LLM_DEVICE_METHOD const llm_bf16 *at(size_t row, size_t column, size_t, bool &inside) const {
        unsigned j = (unsigned)row, c = (unsigned)column;
        const unsigned n = llm_cuda_conv2d_bf16_divide(j, plane);
        const unsigned i = llm_cuda_conv2d_bf16_divide(j, width);
        unsigned v = llm_cuda_conv2d_bf16_divide(c, channels);
        const unsigned u = llm_cuda_conv2d_bf16_divide(v, across);
        const int down = (int)u * s.dilation[0] - s.pad[0];
        const int right = (int)v * s.dilation[1] - s.pad[1];
        int h = back ? (int)i - down : (int)i * s.stride[0] + down;
        int w = back ? (int)j - right : (int)j * s.stride[1] + right;
        inside = inside && h >= 0 && w >= 0;
        if (back && inside) {
            unsigned rest_h = (unsigned)h, rest_w = (unsigned)w; /* 0 where y has a pixel */
            h = (int)llm_cuda_conv2d_bf16_divide(rest_h, stride[0]);
            w = (int)llm_cuda_conv2d_bf16_divide(rest_w, stride[1]);
            inside = rest_h == 0 && rest_w == 0;
        }
        const int high = back ? s.I : s.H, wide = back ? s.J : s.W;
        inside = inside && h < high && w < wide;
        const size_t pixel = ((size_t)n * (size_t)high + (size_t)h) * (size_t)wide + (size_t)w;
        return inside ? p + pixel * channels.by + c : p;
    }
};
/* The same with its sizes, for N pictures. */
template <bool back>
static inline llm_cuda_conv2d_bf16_view<back>
llm_cuda_conv2d_bf16_view_of(const llm_bf16 *p, const llm_conv2d *c, size_t N) {
    llm_cuda_conv2d_bf16_view<back> x;
    x.p = p, x.s = llm_cuda_conv2d_of(c, N);
    const size_t height = back ? c->H : (size_t)x.s.I, width = back ? c->W : (size_t)x.s.J;
    x.channels = llm_cuda_conv2d_bf16_divide_by(back ? c->O : c->C);
    x.across = llm_cuda_conv2d_bf16_divide_by(c->kernel[1]);
    x.plane = llm_cuda_conv2d_bf16_divide_by(height * width);
    x.width = llm_cuda_conv2d_bf16_divide_by(width);
    for (size_t a = 0; a < 2; a++) x.stride[a] = llm_cuda_conv2d_bf16_divide_by(c->stride[a]);
    return x;
}
/* w (O,uv,C) as dx wants it, (uvO,C). */
struct llm_cuda_conv2d_bf16_weights {
    const llm_bf16 *p;
    unsigned area;
    llm_cuda_conv2d_bf16_divisor outputs;
    LLM_DEVICE_METHOD const llm_bf16 *at(size_t row, size_t c, size_t C, bool &inside) const {
        unsigned o = (unsigned)row;
        const unsigned tap = llm_cuda_conv2d_bf16_divide(o, outputs);
        return inside ? p + ((size_t)o * area + tap) * C + c : p;
    }
};

/* y (N,columns,rows) <- x (N,rows,columns): from channels first, rows = C, to channels last, or
 * back with rows and columns exchanged; weights (O,C,uv) too. S and T are float or llm_bf16. */
template <typename T, typename S>
LLM_KERNEL void llm_conv2d_bf16_turn_kernel(T *y, const S *x, size_t rows, size_t columns) {
    __shared__ float tile[32][33];
    const size_t across = (columns + 31) / 32, tiles = (rows + 31) / 32 * across;
    const size_t n = blockIdx.x / tiles * rows * columns, t = blockIdx.x % tiles;
    const size_t row = t / across * 32, column = t % across * 32, lane = threadIdx.x % 32;
    for (size_t i = threadIdx.x / 32; i < 32 && row + i < rows && column + lane < columns; i += 8)
        tile[i][lane] = llm_load(x, n + (row + i) * columns + column + lane);
    __syncthreads();
    for (size_t i = threadIdx.x / 32; i < 32 && column + i < columns && row + lane < rows; i += 8)
        llm_store(y, n + (column + i) * rows + row + lane, tile[lane][i]);
}
template <typename T, typename S>
static inline cudaError_t llm_cuda_conv2d_bf16_turn(T *y, const S *x, size_t N, size_t rows,
                                                    size_t columns, cudaStream_t stream) {
    const size_t blocks = N * ((rows + 31) / 32) * ((columns + 31) / 32);
    if (blocks == 0) return cudaSuccess;
    LLM_LAUNCH((llm_conv2d_bf16_turn_kernel<T, S>), (unsigned)blocks, 256, 0, stream, y, x, rows,
               columns);
    return cudaGetLastError();
}

/* Can this convolution take the tensor cores? */
static inline __attribute__((unused)) bool llm_cuda_conv2d_bf16_fits(const llm_conv2d *c,
                                                                     size_t N) {
    return c->groups == 1 && c->C % 8 == 0 && c->O % 8 == 0 && llm_cuda_conv2d_fits(c, N);
}
/* y (N,I,J,O) <- phi(convolution of x (N,H,W,C) with w (O,u,v,C), plus b (O) or NULL), z as y <-
 * what phi is taken of, or NULL; kind: of @activation, as in llm_cuda_dense_forward. Pointers are
 * multiples of 16 bytes; what does not fit is an invalid value. */
static inline __attribute__((unused)) cudaError_t
llm_cuda_conv2d_bf16_forward(llm_bf16 *y, llm_bf16 *z, const llm_bf16 *x, const llm_bf16 *w,
                             const llm_bf16 *b, size_t N, const llm_conv2d *c, int kind,
                             cudaStream_t stream) {
    if (!llm_cuda_conv2d_bf16_fits(c, N)) return (cudaError_t)cudaErrorInvalidValue;
    typedef llm_cuda_dense_forward_end<llm_bf16> E;
    const llm_cuda_conv2d_bf16_view<false> X = llm_cuda_conv2d_bf16_view_of<false>(x, c, N);
    const size_t pixels = N * (size_t)(X.s.I * X.s.J), K = llm_conv2d_sum(c);
    const E end = {y, z, b, c->O, kind, true};
    if (pixels == 0 || c->O == 0) return cudaSuccess;
    LLM_LAUNCH((llm_gemm_bf16_kernel<false, false, E, llm_cuda_conv2d_bf16_view<false>>),
               llm_cuda_gemm_blocks(pixels, c->O), 256, LLM_CUDA_GEMM_BF16_SHARED, stream, end, X,
               w, pixels, c->O, K, K);
    return cudaGetLastError();
}

/* dx (N,H,W,C), dw (O,u,v,C), db (O) += <- dy (N,I,J,O), x, w; any of the three may be NULL.
 * scratch: llm_cuda_conv2d_slices times the floats of w, or NULL where that is 1. */
static inline __attribute__((unused)) cudaError_t
llm_cuda_conv2d_bf16_backward(llm_bf16 *dx, float *dw, float *db, const llm_bf16 *dy,
                              const llm_bf16 *x, const llm_bf16 *w, size_t N, const llm_conv2d *c,
                              float *scratch, cudaStream_t stream) {
    if (!llm_cuda_conv2d_bf16_fits(c, N)) return (cudaError_t)cudaErrorInvalidValue;
    typedef llm_cuda_dense_add_end<llm_bf16> to_dx;
    typedef llm_cuda_dense_add_end<float> to_dw;
    const size_t area = c->kernel[0] * c->kernel[1], K = area * c->C, O = c->O;
    const size_t from = N * c->H * c->W, to = N * llm_conv2d_size(c, 0) * llm_conv2d_size(c, 1);
    if (N == 0 || K == 0 || O == 0) return cudaSuccess;
    if (dx) {
        const llm_cuda_conv2d_bf16_view<true> D = llm_cuda_conv2d_bf16_view_of<true>(dy, c, N);
        const llm_cuda_conv2d_bf16_weights W = {w, (unsigned)area,
                                                llm_cuda_conv2d_bf16_divide_by(O)};
        const to_dx end = {dx, from, c->C, false};
        LLM_LAUNCH((llm_gemm_bf16_kernel<false, true, to_dx, llm_cuda_conv2d_bf16_view<true>,
                                         llm_cuda_conv2d_bf16_weights>),
                   llm_cuda_gemm_blocks(from, c->C), 256, LLM_CUDA_GEMM_BF16_SHARED, stream, end, D,
                   W, from, c->C, area * O, area * O);
    }
    if (dw) {
        const llm_cuda_conv2d_bf16_view<false> X = llm_cuda_conv2d_bf16_view_of<false>(x, c, N);
        const size_t slices = llm_cuda_conv2d_slices(N, c);
        const size_t slice = ((to + slices - 1) / slices + 31) / 32 * 32;
        const to_dw end = {slices > 1 ? scratch : dw, O, K, slices > 1};
        LLM_LAUNCH((llm_gemm_bf16_kernel<true, true, to_dw, const llm_bf16 *,
                                         llm_cuda_conv2d_bf16_view<false>>),
                   dim3(llm_cuda_gemm_blocks(O, K), 1, (unsigned)slices), 256,
                   LLM_CUDA_GEMM_BF16_SHARED, stream, end, dy, X, O, K, to, slice);
        if (slices > 1)
            LLM_LAUNCH(llm_dense_add_slices_kernel, (unsigned)((O * K + 255) / 256), 256, 0, stream,
                       dw, scratch, slices, O * K);
    }
    const cudaError_t error = cudaGetLastError();
    return db && error == cudaSuccess ? llm_cuda_column_sum(db, dy, to, O, stream) : error;
}

/* @conv2d_kinds --------------------------------------------- Depthwise convolution
 *
 * Each channel by itself: 9 multiply-adds for a number that comes in and one that goes out, so
 * memory is what counts, and after it the loads from L1. A thread of the 3 x 3 kernel takes 4 rows
 * of a column with the nine weights in registers and walks down: three loads a row serve up to
 * three outputs, 4.5 an output instead of 9. Every other size, stride and dilation takes a loop
 * over the kernel's pixels. (A transposed convolution is llm_cuda_conv2d_backward's dx, a causal
 * one a padding in front.)
 *
 * Moves x and y, the minimum. Limit: memory bandwidth; of larger kernels L1.
 *
 * source  Chollet 2017, "Xception" (depthwise)
 * needs   cuda_launch, cuda_memory, conv2d, conv2d_gemm
 * see     conv2d_gemm
 * topics  -
 */

/* What a walk needs to know: in (H,W) and out (I,J), and the kernel. */
struct llm_cuda_conv2d_kinds_plane {
    int H, W, I, J, kernel[2], stride[2], pad[2], dilation[2];
};
/* The same from a convolution. */
static inline __attribute__((unused)) llm_cuda_conv2d_kinds_plane
llm_cuda_conv2d_kinds_plane_of(const llm_conv2d *c) {
    const llm_cuda_conv2d s = llm_cuda_conv2d_of(c, 1);
    const llm_cuda_conv2d_kinds_plane p = {s.H,
                                           s.W,
                                           s.I,
                                           s.J,
                                           {s.kernel[0], s.kernel[1]},
                                           {s.stride[0], s.stride[1]},
                                           {s.pad[0], s.pad[1]},
                                           {s.dilation[0], s.dilation[1]}};
    return p;
}

/* y (4) += outputs (i .. i + 3, j) of plane x, in the order of the kernel; of any kernel. */
template <typename T>
LLM_DEVICE void llm_cuda_conv2d_kinds_any(float (&y)[4], const T *x, const T *w,
                                          const llm_cuda_conv2d_kinds_plane &p, int i, int j) {
    const int area = p.kernel[0] * p.kernel[1];
    for (int r = 0; r < 4 && i + r < p.I; r++)
        for (int k = 0; k < area; k++) {
            const int u = k / p.kernel[1] * p.dilation[0], v = k % p.kernel[1] * p.dilation[1];
            const int row = (i + r) * p.stride[0] - p.pad[0] + u;
            const int column = j * p.stride[1] - p.pad[1] + v;
            if (row < 0 || column < 0 || row >= p.H || column >= p.W) continue;
            y[r] += llm_load(w, (size_t)k) * llm_load(x, (size_t)(row * p.W + column));
        }
}
/* The same of 3 x 3 with stride S along both axes. flip: the weights are taken in reverse. */
template <int S, bool flip, typename T>
LLM_DEVICE void llm_cuda_conv2d_kinds_walk(float (&y)[4], const T *x, const T *w,
                                           const llm_cuda_conv2d_kinds_plane &p, int i, int j) {
    const int top = i * S - p.pad[0], left = j * S - p.pad[1];
    float weight[9];
    LLM_UNROLL
    for (int k = 0; k < 9; k++) weight[k] = llm_load(w, (size_t)(flip ? 8 - k : k));
    LLM_UNROLL
    for (int r = 0; r < 3 * S + 3; r++) { /* the rows of x that the four see */
        const int row = top + r;
        if (row < 0 || row >= p.H) continue;
        float v[3];
        LLM_UNROLL
        for (int k = 0; k < 3; k++) {
            const int column = left + k;
            v[k] = column >= 0 && column < p.W ? llm_load(x, (size_t)(row * p.W + column)) : 0.0f;
        }
        LLM_UNROLL
        for (int u = 0; u < 3; u++) {
            if (r - u < 0 || (r - u) % S != 0 || (r - u) / S > 3) continue;
            LLM_UNROLL
            for (int k = 0; k < 3; k++) y[(r - u) / S] += weight[3 * u + k] * v[k];
        }
    }
}

/* This thread's column j, first row i of four, and plane, of N pictures in `planes` planes
 * (I,J). */
LLM_DEVICE bool llm_cuda_conv2d_kinds_place(size_t &plane, int &i, int &j, size_t planes, int I,
                                            int J) {
    const unsigned at = blockIdx.x * 256 + threadIdx.x, strips = ((unsigned)I + 3) / 4;
    j = (int)(at % (unsigned)J), i = (int)(at / (unsigned)J % strips * 4);
    plane = at / ((unsigned)J * strips);
    return plane < planes;
}
template <typename T, int S>
LLM_KERNEL void llm_conv2d_kinds_forward_kernel(T *y, const T *x, const T *w, const T *b,
                                                size_t planes, size_t O, size_t m,
                                                llm_cuda_conv2d_kinds_plane p) {
    size_t plane;
    int i, j;
    if (!llm_cuda_conv2d_kinds_place(plane, i, j, planes, p.I, p.J)) return;
    const size_t o = plane % O, area = (size_t)(p.kernel[0] * p.kernel[1]);
    const float bias = b ? llm_load(b, o) : 0.0f;
    float sum[4] = {bias, bias, bias, bias};
    const T *plane_x = x + plane / m * (size_t)(p.H * p.W), *plane_w = w + o * area;
    if (S == 0)
        llm_cuda_conv2d_kinds_any(sum, plane_x, plane_w, p, i, j);
    else
        llm_cuda_conv2d_kinds_walk<S ? S : 1, false>(sum, plane_x, plane_w, p, i, j);
    for (int r = 0; r < 4 && i + r < p.I; r++)
        llm_store(y, plane * (size_t)(p.I * p.J) + (size_t)((i + r) * p.J + j), sum[r]);
}

/* y (N,O,.,.) <- x (N,C,H,W), w (O,1,k,k), b (O) or NULL: llm_conv2d_depthwise_forward, T is float
 * or llm_bf16. */
template <typename T>
static inline cudaError_t llm_cuda_conv2d_kinds_forward(T *y, const T *x, const T *w, const T *b,
                                                        size_t N, const llm_conv2d *c,
                                                        cudaStream_t stream) {
    if (c->groups != c->C || !llm_cuda_conv2d_fits(c, N)) return (cudaError_t)cudaErrorInvalidValue;
    const llm_cuda_conv2d_kinds_plane p = llm_cuda_conv2d_kinds_plane_of(c);
    const bool three = c->kernel[0] == 3 && c->kernel[1] == 3 && c->dilation[0] == 1 &&
                       c->dilation[1] == 1 && c->stride[0] == c->stride[1] && c->stride[0] <= 2;
    const auto forward = !three              ? llm_conv2d_kinds_forward_kernel<T, 0>
                         : c->stride[0] == 1 ? llm_conv2d_kinds_forward_kernel<T, 1>
                                             : llm_conv2d_kinds_forward_kernel<T, 2>;
    const size_t threads = N * c->O * (((size_t)p.I + 3) / 4) * (size_t)p.J;
    if (threads == 0) return cudaSuccess;
    LLM_LAUNCH(forward, (unsigned)((threads + 255) / 256), 256, 0, stream, y, x, w, b, N * c->O,
               c->O, c->O / c->C, p);
    return cudaGetLastError();
}

/* @conv2d_kinds_backward ------------------------------------ Depthwise convolution, the way back
 *
 * dx of a 3 x 3 kernel with stride 1 is the walk of @conv2d_kinds over dy with the weights in
 * reverse, added up over the outputs of a channel; otherwise a thread a pixel of x looks for the
 * outputs that see it. For dw a block takes a share of a channel's pixels and keeps nine sums and
 * db's in registers; shares are added in order. Other sizes than nine take a block a pixel of the
 * kernel.
 *
 * Moves dy and dx twice for dx, x and dy once for dw and db: the minimum. Limit: memory bandwidth;
 * of kernels other than 3 x 3 L1.
 *
 * source  -
 * needs   cuda_launch, cuda_memory, cuda_reduce, conv2d, conv2d_gemm, conv2d_kinds
 * see     -
 * topics  -
 */

/* dx of a 3 x 3 kernel with stride 1: p as seen from dx, with dy in x's place. */
template <typename T>
LLM_KERNEL void llm_conv2d_kinds_dx_kernel(T *dx, const T *dy, const T *w, size_t planes, size_t C,
                                           size_t m, llm_cuda_conv2d_kinds_plane p) {
    size_t plane;
    int i, j;
    if (!llm_cuda_conv2d_kinds_place(plane, i, j, planes, p.I, p.J)) return;
    T *to = dx + plane * (size_t)(p.I * p.J) + (size_t)(i * p.J + j);
    float sum[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    for (size_t q = 0; q < m; q++)
        llm_cuda_conv2d_kinds_walk<1, true>(sum, dy + (plane * m + q) * (size_t)(p.H * p.W),
                                            w + (plane % C * m + q) * 9, p, i, j);
    for (int r = 0; r < 4 && i + r < p.I; r++) {
        const size_t at = (size_t)(r * p.J);
        llm_store(to, at, llm_load(to, at) + sum[r]);
    }
}
/* dx in general: a thread a pixel of x looks for the outputs that see it. */
template <typename T>
LLM_KERNEL void llm_conv2d_kinds_dx_any_kernel(T *dx, const T *dy, const T *w, size_t n, size_t C,
                                               size_t m, llm_cuda_conv2d_kinds_plane p) {
    const size_t at = (size_t)blockIdx.x * 256 + threadIdx.x, plane = at / (size_t)(p.H * p.W);
    if (at >= n) return;
    const int row = (int)(at % (size_t)(p.H * p.W)) / p.W, column = (int)(at % (size_t)p.W);
    const int area = p.kernel[0] * p.kernel[1];
    float sum = llm_load(dx, at);
    for (size_t q = 0; q < m; q++)
        for (int k = 0; k < area; k++) {
            const int i = row + p.pad[0] - k / p.kernel[1] * p.dilation[0];
            const int j = column + p.pad[1] - k % p.kernel[1] * p.dilation[1];
            if (i < 0 || j < 0 || i % p.stride[0] != 0 || j % p.stride[1] != 0) continue;
            if (i / p.stride[0] >= p.I || j / p.stride[1] >= p.J) continue;
            const size_t out = (plane * m + q) * (size_t)(p.I * p.J) +
                               (size_t)(i / p.stride[0] * p.J + j / p.stride[1]);
            sum += llm_load(dy, out) * llm_load(w, (plane % C * m + q) * (size_t)area + (size_t)k);
        }
    llm_store(dx, at, sum);
}

/* part (gridDim.y,O,A + 1) <- sums over a share of the pictures, for channel blockIdx.x: of each of
 * A pixels of the kernel from `first` on, then of dy. A = 9 for all of 3 x 3 at once, or 1. */
template <typename T, int A>
LLM_KERNEL void llm_conv2d_kinds_dw_kernel(float *part, const T *dy, const T *x, size_t N, size_t O,
                                           size_t m, llm_cuda_conv2d_kinds_plane p) {
    const size_t o = blockIdx.x, P = (size_t)(p.I * p.J), HW = (size_t)(p.H * p.W);
    const int first = (int)blockIdx.z * A;
    float sum[A + 1] = {};
    for (size_t n = blockIdx.y; n < N; n += gridDim.y) {
        const T *xn = x + (n * (O / m) + o / m) * HW, *dyn = dy + (n * O + o) * P;
        for (size_t q = threadIdx.x; q < P; q += blockDim.x) {
            const int i = (int)q / p.J * p.stride[0] - p.pad[0];
            const int j = (int)q % p.J * p.stride[1] - p.pad[1];
            const float d = llm_load(dyn, q);
            sum[A] += d;
            LLM_UNROLL
            for (int k = 0; k < A; k++) {
                const int u = (first + k) / p.kernel[1], v = (first + k) % p.kernel[1];
                const int row = i + u * p.dilation[0], column = j + v * p.dilation[1];
                if (row >= 0 && column >= 0 && row < p.H && column < p.W)
                    sum[k] += d * llm_load(xn, (size_t)(row * p.W + column));
            }
        }
    }
    const size_t area = (size_t)(p.kernel[0] * p.kernel[1]);
    float *to = part + (blockIdx.y * O + o) * (area + 1);
    LLM_UNROLL
    for (int k = 0; k <= A; k++) {
        const float all = llm_block_sum(sum[k]);
        if (threadIdx.x == 0 && k < A) llm_store(to, (size_t)(first + k), all);
        if (threadIdx.x == 0 && k == A && first == 0) llm_store(to, area, all);
    }
}
LLM_KERNEL void llm_conv2d_kinds_dw_end_kernel(float *dw, float *db, const float *part,
                                               size_t shares, size_t O, size_t area) {
    const size_t i = (size_t)blockIdx.x * 256 + threadIdx.x, o = i / (area + 1), k = i % (area + 1);
    float *to = k < area ? dw : db;
    if (o >= O || !to) return;
    const size_t at = k < area ? o * area + k : o;
    float sum = 0.0f;
    for (size_t s = 0; s < shares; s++) sum += llm_load(part, s * O * (area + 1) + i);
    llm_store(to, at, llm_load(to, at) + sum);
}
/* Shares of the pictures for dw; scratch has this many times O (k k + 1) floats. */
static inline __attribute__((unused)) size_t llm_cuda_conv2d_kinds_shares(size_t N,
                                                                          const llm_conv2d *c) {
    const size_t wanted = c->O ? (263 + c->O) / c->O : 1;
    return wanted < N ? wanted : N;
}

/* dx (N,C,H,W), dw (O,1,k,k), db (O) += <- dy (N,O,.,.), x, w; any of the three may be NULL.
 * scratch: llm_cuda_conv2d_kinds_shares times O (k k + 1) floats, for dw and db. */
template <typename T>
static inline cudaError_t
llm_cuda_conv2d_kinds_backward(T *dx, float *dw, float *db, const T *dy, const T *x, const T *w,
                               size_t N, const llm_conv2d *c, float *scratch, cudaStream_t stream) {
    if (c->groups != c->C || !llm_cuda_conv2d_fits(c, N)) return (cudaError_t)cudaErrorInvalidValue;
    const llm_cuda_conv2d_kinds_plane p = llm_cuda_conv2d_kinds_plane_of(c);
    const size_t m = c->O / c->C, area = c->kernel[0] * c->kernel[1], n = N * c->C * c->H * c->W;
    const bool three =
        c->kernel[0] == 3 && c->kernel[1] == 3 && c->dilation[0] == 1 && c->dilation[1] == 1;
    if (n == 0 || c->O == 0) return cudaSuccess;
    if (dx && three && c->stride[0] == 1 && c->stride[1] == 1) {
        const llm_cuda_conv2d_kinds_plane back = {
            p.I, p.J, p.H, p.W, {3, 3}, {1, 1}, {2 - p.pad[0], 2 - p.pad[1]}, {1, 1}};
        const size_t threads = N * c->C * ((c->H + 3) / 4) * c->W;
        LLM_LAUNCH(llm_conv2d_kinds_dx_kernel<T>, (unsigned)((threads + 255) / 256), 256, 0, stream,
                   dx, dy, w, N * c->C, c->C, m, back);
    } else if (dx) {
        LLM_LAUNCH(llm_conv2d_kinds_dx_any_kernel<T>, (unsigned)((n + 255) / 256), 256, 0, stream,
                   dx, dy, w, n, c->C, m, p);
    }
    if (dw || db) {
        const size_t shares = llm_cuda_conv2d_kinds_shares(N, c);
        const auto kernel =
            area == 9 ? llm_conv2d_kinds_dw_kernel<T, 9> : llm_conv2d_kinds_dw_kernel<T, 1>;
        LLM_LAUNCH(kernel, dim3((unsigned)c->O, (unsigned)shares, area == 9 ? 1 : (unsigned)area),
                   256, 0, stream, scratch, dy, x, N, c->O, m, p);
        LLM_LAUNCH(llm_conv2d_kinds_dw_end_kernel, (unsigned)((c->O * (area + 1) + 255) / 256), 256,
                   0, stream, dw, db, (const float *)scratch, shares, c->O, area);
    }
    return cudaGetLastError();
}

/* @pooling -------------------------------------------------- Pooling
 *
 * A thread a pixel, forwards of y and backwards of x. There it looks through the windows that hold
 * its pixel, in the reference's order: sums are owned by one thread, so that windows that overlap
 * need no atomics, and dx is read and written once. Nothing is stored but the place of a maximum,
 * and an average's count is computed again.
 *
 * Moves x and y forwards (a maximum: and its place), dy and dx twice backwards (and the places),
 * the minimum: pixels that several windows share come from L1. Limit: memory bandwidth.
 *
 * source  -
 * needs   cuda_launch, cuda_memory, cuda_reduce
 * see     conv2d
 * topics  -
 */
struct llm_cuda_pooling {
    unsigned plane[2], size[2], kernel[2], stride[2], pad[2]; /* pixels of x, of y */
    bool without_pad;
};
/* The same, with its sizes. False where a number does not fit in 31 bits. */
static inline __attribute__((unused)) bool
llm_cuda_pooling_of(llm_cuda_pooling *s, const llm_pooling *c, size_t planes) {
    const size_t L[2] = {c->H, c->W};
    size_t in = planes, out = planes;
    if (planes > 0x7fffffff) return false;
    for (int a = 0; a < 2; a++) {
        const size_t size = llm_pooling_size(c, (size_t)a);
        if (L[a] + c->pad[a] + c->stride[a] > 0x3fffffff || c->kernel[a] > 0x3fffffff) return false;
        s->plane[a] = (unsigned)L[a], s->size[a] = (unsigned)size;
        s->kernel[a] = (unsigned)c->kernel[a], s->stride[a] = (unsigned)c->stride[a];
        s->pad[a] = (unsigned)c->pad[a];
        in *= L[a], out *= size; /* factors below 2^30 each: no overflow is missed */
        if (in > 0x7fffffff || out > 0x7fffffff) return false;
    }
    s->without_pad = c->without_pad;
    return true;
}

struct llm_cuda_pooling_window {
    unsigned from, to, length;
};
/* llm_pooling_window on the device. */
LLM_DEVICE llm_cuda_pooling_window llm_cuda_pooling_at(const llm_cuda_pooling &s, int axis,
                                                       unsigned i) {
    const unsigned L = s.plane[axis], pad = s.pad[axis], begin = i * s.stride[axis];
    const unsigned end = begin + s.kernel[axis];
    const llm_cuda_pooling_window w = {begin > pad ? begin - pad : 0, end < L + pad ? end - pad : L,
                                       (end < L + 2 * pad ? end : L + 2 * pad) - begin};
    return w;
}
LLM_DEVICE float llm_cuda_pooling_count(const llm_cuda_pooling &s, unsigned i, unsigned j) {
    const llm_cuda_pooling_window r = llm_cuda_pooling_at(s, 0, i),
                                  q = llm_cuda_pooling_at(s, 1, j);
    return (float)(s.without_pad ? (r.to - r.from) * (q.to - q.from) : r.length * q.length);
}

/* y (n): the largest of each window, and its place, or with from = NULL the mean. */
template <typename T>
LLM_KERNEL void llm_pooling_forward_kernel(T *y, uint32_t *from, const T *x, unsigned n,
                                           llm_cuda_pooling s) {
    const unsigned at = blockIdx.x * 256 + threadIdx.x, row = at / s.size[1];
    if (at >= n) return;
    const unsigned i = row % s.size[0], j = at % s.size[1], width = s.plane[1];
    const size_t plane = (size_t)(row / s.size[0]) * s.plane[0] * width;
    const llm_cuda_pooling_window r = llm_cuda_pooling_at(s, 0, i),
                                  q = llm_cuda_pooling_at(s, 1, j);
    unsigned best = r.from * width + q.from;
    float most = llm_load(x, plane + best), sum = 0.0f;
    for (unsigned a = r.from; a < r.to; a++)
        for (unsigned b = a * width + q.from; b < a * width + q.to; b++) {
            const float v = llm_load(x, plane + b);
            sum += v;
            if (v > most || v != v) most = v, best = b;
        }
    if (from) from[at] = best;
    llm_store(y, at, from ? most : sum / llm_cuda_pooling_count(s, i, j));
}
template <typename T>
LLM_KERNEL void llm_pooling_backward_kernel(T *dx, const T *dy, const uint32_t *from, unsigned n,
                                            llm_cuda_pooling s) {
    const unsigned at = blockIdx.x * 256 + threadIdx.x, row = at / s.plane[1];
    if (at >= n) return;
    const unsigned pixel[2] = {row % s.plane[0], at % s.plane[1]};
    const unsigned place = pixel[0] * s.plane[1] + pixel[1];
    unsigned low[2], high[2]; /* the windows that hold the pixel: low .. high - 1 */
    LLM_UNROLL
    for (int a = 0; a < 2; a++) {
        const unsigned p = pixel[a] + s.pad[a], last = p / s.stride[a] + 1;
        low[a] = p < s.kernel[a] ? 0 : (p - s.kernel[a]) / s.stride[a] + 1;
        high[a] = last < s.size[a] ? last : s.size[a];
    }
    float sum = llm_load(dx, at);
    for (unsigned i = low[0]; i < high[0]; i++)
        for (unsigned j = low[1]; j < high[1]; j++) {
            const size_t w = ((size_t)(row / s.plane[0]) * s.size[0] + i) * s.size[1] + j;
            if (!from)
                sum += llm_load(dy, w) / llm_cuda_pooling_count(s, i, j);
            else if (from[w] == place)
                sum += llm_load(dy, w);
        }
    llm_store(dx, at, sum);
}

/* Arguments as the references; planes times the pixels of a plane, of x and of y, below 2^31. T is
 * float or llm_bf16. The average is the maximum's kernel without places. */
template <typename T>
static inline cudaError_t llm_cuda_pooling_max_forward(T *y, uint32_t *from, const T *x,
                                                       size_t planes, const llm_pooling *c,
                                                       cudaStream_t stream) {
    llm_cuda_pooling s;
    if (!llm_cuda_pooling_of(&s, c, planes)) return (cudaError_t)cudaErrorInvalidValue;
    const unsigned n = (unsigned)planes * s.size[0] * s.size[1];
    if (n == 0) return cudaSuccess;
    LLM_LAUNCH(llm_pooling_forward_kernel<T>, (n + 255) / 256, 256, 0, stream, y, from, x, n, s);
    return cudaGetLastError();
}
template <typename T>
static inline cudaError_t llm_cuda_pooling_average_forward(T *y, const T *x, size_t planes,
                                                           const llm_pooling *c,
                                                           cudaStream_t stream) {
    return llm_cuda_pooling_max_forward(y, (uint32_t *)NULL, x, planes, c, stream);
}
/* dx +=. */
template <typename T>
static inline cudaError_t llm_cuda_pooling_max_backward(T *dx, const T *dy, const uint32_t *from,
                                                        size_t planes, const llm_pooling *c,
                                                        cudaStream_t stream) {
    llm_cuda_pooling s;
    if (!llm_cuda_pooling_of(&s, c, planes)) return (cudaError_t)cudaErrorInvalidValue;
    const unsigned n = (unsigned)planes * s.plane[0] * s.plane[1];
    if (n == 0) return cudaSuccess;
    LLM_LAUNCH(llm_pooling_backward_kernel<T>, (n + 255) / 256, 256, 0, stream, dx, dy, from, n, s);
    return cudaGetLastError();
}
template <typename T>
static inline cudaError_t llm_cuda_pooling_average_backward(T *dx, const T *dy, size_t planes,
                                                            const llm_pooling *c,
                                                            cudaStream_t stream) {
    return llm_cuda_pooling_max_backward(dx, dy, (const uint32_t *)NULL, planes, c, stream);
}

template <typename T, int V, bool warp>
LLM_KERNEL void llm_pooling_global_forward_kernel(T *y, const T *x, size_t planes, size_t S) {
    const llm_row_place at = llm_my_row<warp>();
    if (at.row >= planes) return; /* a whole warp */
    float v[V], sum = 0.0f;
    for (size_t i = (size_t)at.lane * V; i < S; i += (size_t)at.width * V) {
        llm_load_vector(v, x, at.row * S + i);
        LLM_UNROLL
        for (int k = 0; k < V; k++) sum += v[k];
    }
    sum = llm_row_sum<warp>(sum);
    if (at.lane == 0) llm_store(y, at.row, sum / (float)S);
}
template <typename T, int V>
LLM_KERNEL void llm_pooling_global_backward_kernel(T *dx, const T *dy, size_t S) {
    const llm_place at = llm_my_place<V>(S);
    if (at.column >= S) return;
    const float share = llm_load(dy, at.row) / (float)S;
    float v[V];
    llm_load_vector(v, dx, at.row * S + at.column);
    LLM_UNROLL
    for (int k = 0; k < V; k++) v[k] += share;
    llm_store_vector(dx, at.row * S + at.column, v);
}

/* y (planes) <- x (planes,S); dx (planes,S) += <- dy (planes). S > 0. */
template <typename T>
static inline cudaError_t llm_cuda_pooling_global_forward(T *y, const T *x, size_t planes, size_t S,
                                                          cudaStream_t stream) {
    enum { V = 16 / sizeof(T) };
    if (planes == 0) return cudaSuccess;
    const bool wide = llm_aligned(x, S), warp = S <= 1024;
    const auto global_forward = wide   ? warp ? llm_pooling_global_forward_kernel<T, V, true>
                                              : llm_pooling_global_forward_kernel<T, V, false>
                                  : warp ? llm_pooling_global_forward_kernel<T, 1, true>
                                       : llm_pooling_global_forward_kernel<T, 1, false>;
    LLM_LAUNCH(global_forward, llm_row_blocks(planes, warp),
               warp ? 128 : llm_row_threads(wide ? S / V : S), 0, stream, y, x, planes, S);
    return cudaGetLastError();
}
template <typename T>
static inline cudaError_t llm_cuda_pooling_global_backward(T *dx, const T *dy, size_t planes,
                                                           size_t S, cudaStream_t stream) {
    enum { V = 16 / sizeof(T) };
    if (planes == 0) return cudaSuccess;
    const bool wide = llm_aligned(dx, S);
    const auto global_backward =
        wide ? llm_pooling_global_backward_kernel<T, V> : llm_pooling_global_backward_kernel<T, 1>;
    LLM_LAUNCH(global_backward, llm_place_blocks(planes, S, wide ? (size_t)V : 1), 256, 0, stream,
               dx, dy, S);
    return cudaGetLastError();
}

/* @equivariance --------------------------------------------- Invariance and equivariance
 *
 * The group convolution of the four quarter turns is an ordinary one with a bank of turned kernels:
 * one kernel writes the bank, a thread an entry, and @conv2d_gemm does the rest. On the way back
 * the gradient of the bank is folded into that of w: a thread a weight adds the four places where
 * it stands, in order, so no atomics are needed.
 *
 * Moves 5 times w for the bank, against the pictures next to nothing. Limit: that of @conv2d_gemm.
 * (With the channels last @conv2d_bf16 takes the bank of bfloat16 weights as it is, turned once.)
 *
 * source  Cohen & Welling 2016, "Group equivariant convolutional networks", eq. 10 to 12
 * needs   cuda_launch, cuda_memory, conv2d, conv2d_gemm
 * see     conv2d_bf16
 * topics  -
 */

/* The kernel pixel that a turn by r quarters brings to pixel at (k,k), or with back = true the one
 * that it brings pixel `at` to. */
LLM_DEVICE size_t llm_cuda_equivariance_turned(size_t at, size_t k, size_t r, bool back) {
    size_t row = at / k, column = at % k;
    for (size_t q = 0; q < r; q++) {
        const size_t old = row;
        row = back ? k - 1 - column : column;
        column = back ? old : k - 1 - old;
    }
    return row * k + column;
}
/* bank, an entry a thread; zero, as large, <- 0, or NULL. */
template <typename T>
LLM_KERNEL void llm_equivariance_bank_kernel(T *bank, float *zero, const T *w, size_t n,
                                             size_t channels, size_t turns, size_t k) {
    const size_t at = (size_t)blockIdx.x * blockDim.x + threadIdx.x, area = k * k;
    if (at >= n) return;
    const size_t i = at / area % channels, r = at / (area * channels) % 4;
    const size_t o = at / (area * channels * 4), s = i % turns;
    const size_t from = i - s + (s + turns - r % turns) % turns;
    const size_t pixel = llm_cuda_equivariance_turned(at % area, k, r, false);
    llm_store(bank, at, llm_load(w, (o * channels + from) * area + pixel));
    if (zero) llm_store(zero, at, 0.0f);
}
LLM_KERNEL void llm_equivariance_fold_kernel(float *dw, const float *dbank, size_t n,
                                             size_t channels, size_t turns, size_t k) {
    const size_t at = (size_t)blockIdx.x * blockDim.x + threadIdx.x, area = k * k;
    if (at >= n) return;
    const size_t from = at / area % channels, o = at / (area * channels), s = from % turns;
    float sum = llm_load(dw, at);
    for (size_t r = 0; r < 4; r++) {
        const size_t i = from - s + (s + r) % turns;
        const size_t pixel = llm_cuda_equivariance_turned(at % area, k, r, true);
        sum += llm_load(dbank, ((o * 4 + r) * channels + i) * area + pixel);
    }
    llm_store(dw, at, sum);
}

/* bank (O,4,C turns,k,k) <- w (O,C,turns,k,k): llm_equivariance_p4_bank; zero, as large, <- 0, or
 * NULL. T is float or llm_bf16. */
template <typename T>
static inline cudaError_t llm_cuda_equivariance_p4_bank(T *bank, float *zero, const T *w, size_t O,
                                                        size_t C, size_t turns, size_t k,
                                                        cudaStream_t stream) {
    const size_t n = 4 * O * C * turns * k * k;
    if (turns != 1 && turns != 4) return (cudaError_t)cudaErrorInvalidValue;
    if (n == 0) return cudaSuccess;
    LLM_LAUNCH(llm_equivariance_bank_kernel<T>, (unsigned)((n + 255) / 256), 256, 0, stream, bank,
               zero, w, n, C * turns, turns, k);
    return cudaGetLastError();
}
/* y (N,O,4,S',S') <- x (N,C,turns,S,S), w: llm_equivariance_p4conv_forward. bank: 4 times w. */
template <typename T>
static inline cudaError_t
llm_cuda_equivariance_p4conv_forward(T *y, const T *x, const T *w, size_t N, size_t O, size_t C,
                                     size_t turns, size_t S, size_t k, size_t pad, T *bank,
                                     cudaStream_t stream) {
    const llm_conv2d c = llm_conv2d_make(C * turns, S, S, 4 * O, k, 1, pad);
    const cudaError_t error =
        llm_cuda_equivariance_p4_bank(bank, (float *)NULL, w, O, C, turns, k, stream);
    if (error != cudaSuccess) return error;
    return llm_cuda_conv2d_forward(y, x, (const T *)bank, (const T *)NULL, N, &c, stream);
}
/* dx, dw += <- dy, x, w: llm_equivariance_p4conv_backward; either may be NULL. bank: 4 times w;
 * scratch: 1 + llm_cuda_conv2d_slices times 4 w of floats. */
template <typename T>
static inline cudaError_t llm_cuda_equivariance_p4conv_backward(
    T *dx, float *dw, const T *dy, const T *x, const T *w, size_t N, size_t O, size_t C,
    size_t turns, size_t S, size_t k, size_t pad, T *bank, float *scratch, cudaStream_t stream) {
    const llm_conv2d c = llm_conv2d_make(C * turns, S, S, 4 * O, k, 1, pad);
    const size_t n = O * C * turns * k * k;
    float *dbank = scratch, *no_db = NULL;
    if (n == 0) return cudaSuccess;
    const cudaError_t done[] = {
        llm_cuda_equivariance_p4_bank(bank, dw ? dbank : no_db, w, O, C, turns, k, stream),
        llm_cuda_conv2d_backward(dx, dw ? dbank : no_db, no_db, dy, x, (const T *)bank, N, &c,
                                 scratch + 4 * n, stream)};
    if (dw && llm_cuda_first_error(done) == cudaSuccess) {
        LLM_LAUNCH(llm_equivariance_fold_kernel, (unsigned)((n + 255) / 256), 256, 0, stream, dw,
                   (const float *)dbank, n, C * turns, turns, k);
        return cudaGetLastError();
    }
    return llm_cuda_first_error(done);
}

/* @classification_head -------------------------------------- Classification head
 *
 *     f = pool(x_1 .. x_T)        z = W f + b                    pool: mean, max, first, last
 *
 * Pooling and projection in one kernel, a block an example: 16 warps share the tokens that are not
 * padding, 128 channels at a time, and meet in shared memory; then each warp takes classes, with f
 * still there. Padding is not read. f goes out because dW wants it, and for the maximum the token
 * of each channel. Backward, the gradient of f is W' dz, K multiply-adds a channel: each block
 * computes it for its 128 channels and hands it on to the tokens, so it is never stored. dW and db
 * are @dense's.
 *
 * Moves x once forwards and dx twice backwards (of a maximum one number a channel); W comes from
 * cache. Limit: memory bandwidth; with fewer examples than multiprocessors latency.
 *
 * source  Devlin et al. 2019, "BERT"
 * needs   cuda_launch, cuda_memory, cuda_reduce, dense
 * see     pooling, dense
 * topics  -
 */
enum { LLM_CUDA_CLASSIFICATION_HEAD_CHANNELS = 128, LLM_CUDA_CLASSIFICATION_HEAD_WARPS = 16 };

struct llm_cuda_classification_head_span {
    unsigned first, last, count;
};
/* The first and the last token of mask (T) or NULL, and how many there are, in every thread. */
LLM_DEVICE llm_cuda_classification_head_span llm_cuda_classification_head_kept(const bool *mask,
                                                                               unsigned T) {
    float first = (float)T, last = 0.0f, count = 0.0f; /* exact below 2^24 */
    for (unsigned t = threadIdx.x; t < T; t += blockDim.x)
        if (!mask || mask[t])
            first = fminf(first, (float)t), last = fmaxf(last, (float)t), count += 1.0f;
    const llm_cuda_classification_head_span span = {(unsigned)-llm_block_max(-first),
                                                    (unsigned)llm_block_max(last),
                                                    (unsigned)llm_block_sum(count)};
    return span;
}
/* Is token t part of the pool? */
LLM_DEVICE bool llm_cuda_classification_head_takes(const llm_cuda_classification_head_span &span,
                                                   const bool *mask, unsigned t, int pool) {
    return pool == LLM_CLASSIFICATION_HEAD_FIRST  ? t == span.first
           : pool == LLM_CLASSIFICATION_HEAD_LAST ? t == span.last
                                                  : !mask || mask[t];
}

/* v beats best, at another place: larger, or equal and further in front; a NaN beats all, the last
 * one of several. */
LLM_DEVICE bool llm_cuda_classification_head_beats(float v, unsigned at, float best,
                                                   unsigned best_at) {
    if (v != v || best != best) return v != v && (best == best || at > best_at);
    return v > best || (v == best && at < best_at);
}
template <typename T>
LLM_KERNEL void llm_classification_head_forward_kernel(T *z, T *f, unsigned *from, const T *x,
                                                       const bool *mask, const T *w, size_t D,
                                                       size_t K, unsigned tokens, int pool) {
    enum { C = LLM_CUDA_CLASSIFICATION_HEAD_CHANNELS, R = LLM_CUDA_CLASSIFICATION_HEAD_WARPS };
    __shared__ float part[R][C];
    __shared__ unsigned place[R][C];
    LLM_DYNAMIC_SHARED(float, pooled); /* (D) */
    const size_t b = blockIdx.x;
    const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const bool max = pool == LLM_CLASSIFICATION_HEAD_MAX;
    const bool *mine = mask ? mask + b * tokens : NULL;
    const llm_cuda_classification_head_span span = llm_cuda_classification_head_kept(mine, tokens);
    for (size_t c = 0; c < D; c += C) {
        float sum[4] = {0.0f, 0.0f, 0.0f, 0.0f};
        unsigned at[4] = {tokens, tokens, tokens, tokens};
        LLM_UNROLL
        for (int k = 0; max && k < 4; k++) sum[k] = -INFINITY;
        for (unsigned t = span.first + warp; t <= span.last; t += R) {
            if (!llm_cuda_classification_head_takes(span, mine, t, pool)) continue;
            LLM_UNROLL
            for (unsigned k = 0; k < 4; k++) {
                if (c + 32 * k + lane >= D) continue;
                const float v = llm_load(x, (b * tokens + t) * D + c + 32 * k + lane);
                const bool wins = max && llm_cuda_classification_head_beats(v, t, sum[k], at[k]);
                if (wins) at[k] = t;
                sum[k] = !max ? sum[k] + v : wins ? v : sum[k];
            }
        }
        __syncthreads(); /* until the channels before are done */
        LLM_UNROLL
        for (unsigned k = 0; k < 4; k++)
            part[warp][32 * k + lane] = sum[k], place[warp][32 * k + lane] = at[k];
        __syncthreads();
        const unsigned i = threadIdx.x;
        if (i < C && c + i < D) {
            float all = part[0][i];
            unsigned best = place[0][i];
            for (int r = 1; r < R; r++) {
                const float v = part[r][i];
                const bool wins =
                    max && llm_cuda_classification_head_beats(v, place[r][i], all, best);
                if (wins) best = place[r][i];
                all = !max ? all + v : wins ? v : all;
            }
            if (pool == LLM_CLASSIFICATION_HEAD_MEAN) all /= (float)span.count;
            pooled[c + i] = all;
            llm_store(f, b * D + c + i, all);
            if (max && from) from[b * D + c + i] = best;
        }
    }
    __syncthreads();
    for (size_t k = warp; k < K; k += R) {
        float sum = 0.0f;
        for (size_t i = lane; i < D; i += 32) sum += pooled[i] * llm_load(w, k * D + i);
        sum = llm_warp_sum(sum);
        if (lane == 0) llm_store(z, b * K + k, sum + llm_load(w, K * D + k));
    }
}
template <typename T>
LLM_KERNEL void llm_classification_head_dx_kernel(T *dx, const T *dz, const unsigned *from,
                                                  const bool *mask, const T *w, size_t D, size_t K,
                                                  unsigned tokens, int pool) {
    enum { C = LLM_CUDA_CLASSIFICATION_HEAD_CHANNELS };
    const size_t b = blockIdx.x, c = (size_t)blockIdx.y * C + threadIdx.x % C;
    const bool *mine = mask ? mask + b * tokens : NULL;
    const llm_cuda_classification_head_span span = llm_cuda_classification_head_kept(mine, tokens);
    if (c >= D) return;
    float df = 0.0f;
    for (size_t k = 0; k < K; k++) df += llm_load(dz, b * K + k) * llm_load(w, k * D + c);
    if (pool == LLM_CLASSIFICATION_HEAD_MEAN) df /= (float)span.count;
    const unsigned step = blockDim.x / C, best = from ? from[b * D + c] : 0;
    for (unsigned t = span.first + threadIdx.x / C; t <= span.last; t += step) {
        if (pool == LLM_CLASSIFICATION_HEAD_MAX
                ? t != best
                : !llm_cuda_classification_head_takes(span, mine, t, pool))
            continue;
        const size_t at = (b * tokens + t) * D + c;
        llm_store(dx, at, llm_load(dx, at) + df);
    }
}

/* Is this a head for these kernels: no attention, no tanh layer, no dropout, at least a class and a
 * channel? */
static inline __attribute__((unused)) bool
llm_cuda_classification_head_fits(const llm_classification_head *h, size_t tokens) {
    return h->pool != LLM_CLASSIFICATION_HEAD_ATTN && !h->tanh && h->dropout == 0.0f && h->D > 0 &&
           h->D <= 50000 && tokens > 0 && tokens < (size_t)1 << 24;
}
/* z (B,K), f (B,D) and, for MAX alone, from (B,D), the token of each <- x (B,tokens,D), mask
 * (B,tokens) with a token in each row, or NULL, and w, the reference's: W (K,D), b (K).
 * llm_classification_head_forward; T is float or llm_bf16. Other heads are an invalid value. */
template <typename T>
static inline cudaError_t
llm_cuda_classification_head_forward(T *z, T *f, unsigned *from, const llm_classification_head *h,
                                     const T *w, const T *x, const bool *mask, size_t B,
                                     size_t tokens, cudaStream_t stream) {
    if (!llm_cuda_classification_head_fits(h, tokens)) return (cudaError_t)cudaErrorInvalidValue;
    if (B == 0) return cudaSuccess;
    LLM_LAUNCH(llm_classification_head_forward_kernel<T>, (unsigned)B,
               32 * LLM_CUDA_CLASSIFICATION_HEAD_WARPS, h->D * sizeof(float), stream, z, f, from, x,
               mask, w, h->D, h->K, (unsigned)tokens, h->pool);
    return cudaGetLastError();
}
/* dx (B,tokens,D), dw += <- dz (B,K), forward's f and from, x's mask, w: either may be NULL.
 * scratch: K D llm_cuda_dense_slices(B, D, K) floats, or NULL where that is 1. */
template <typename T>
static inline cudaError_t
llm_cuda_classification_head_backward(T *dx, float *dw, const T *dz, const T *f,
                                      const unsigned *from, const llm_classification_head *h,
                                      const T *w, const bool *mask, size_t B, size_t tokens,
                                      float *scratch, cudaStream_t stream) {
    if (!llm_cuda_classification_head_fits(h, tokens)) return (cudaError_t)cudaErrorInvalidValue;
    if (B == 0) return cudaSuccess;
    const size_t slabs =
        (h->D + LLM_CUDA_CLASSIFICATION_HEAD_CHANNELS - 1) / LLM_CUDA_CLASSIFICATION_HEAD_CHANNELS;
    const bool max = h->pool == LLM_CLASSIFICATION_HEAD_MAX;
    if (dx)
        LLM_LAUNCH(llm_classification_head_dx_kernel<T>, dim3((unsigned)B, (unsigned)slabs), 256, 0,
                   stream, dx, dz, max ? from : NULL, mask, w, h->D, h->K, (unsigned)tokens,
                   h->pool);
    const cudaError_t error = cudaGetLastError();
    if (!dw || error != cudaSuccess) return error;
    return llm_cuda_dense_backward((T *)NULL, dw, dw + h->K * h->D, dz, f, w, B, h->D, h->K,
                                   scratch, stream);
}

/* @sparse_rep ----------------------------------------------- Sparse activations
 *
 * Winners: a block a row. Four passes of cuda_select find the least winner, one counts what is
 * above it and equal to it in the stretch of each warp, one writes the row and the places of the
 * winners, in the order of the row; of equal numbers the first pass, as many as are still wanted.
 * Of a row that is read six times the first comes from memory and the others from L1 or L2.
 *
 * Product: the next layer over the winners only. A block takes 32 vectors of 16 bytes of columns,
 * each of its eight warps every eighth winner, and the eight sums meet in shared memory in a fixed
 * order. Reads k of the C rows of w_t, and of x the winners. Limit: memory bandwidth; for many rows
 * of x, which share no reading here, dense's tiles are faster until k is far below C.
 *
 * source  -
 * needs   cuda_launch, cuda_memory, cuda_reduce, cuda_select, cuda_cut
 * see     sparsity, top_k
 * topics  -
 */
template <typename T, int W>
LLM_KERNEL void __launch_bounds__(1024)
    llm_sparse_rep_winners_kernel(T *y, uint32_t *winner, const T *x, size_t U, unsigned k) {
    __shared__ unsigned long long part[32];
    x += blockIdx.x * U, y += blockIdx.x * U, winner += (size_t)blockIdx.x * k;
    const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const uint32_t least =
        k ? (uint32_t)(llm_select_cut<unsigned, T, W>(x, U, 0, k, 0.0f, true) >> 32) : 0xffffffffu;
    const llm_select_span span = llm_select_my_span<W>(U);
    unsigned long long stretch = 0; /* entries above the least winner << 32 | equal to it */
    float v[W];
    for (size_t i = span.begin; i < span.end; i += 32 * W) {
        llm_load_vector(v, x, i);
        LLM_UNROLL
        for (int c = 0; c < W; c++) {
            const uint32_t order = llm_select_order(v[c]);
            stretch += (unsigned long long)(order > least) << 32 | (order == least);
        }
    }
    stretch = __shfl_sync(0xffffffffu, llm_select_scan(stretch), 31);
    if (lane == 0) part[warp] = stretch;
    __syncthreads();
    const unsigned long long upto = llm_select_scan(lane < blockDim.x / 32 ? part[lane] : 0ull);
    const unsigned wanted = k - (unsigned)(__shfl_sync(0xffffffffu, upto, 31) >> 32);
    unsigned long long before = __shfl_sync(0xffffffffu, upto, (int)warp) - stretch;
    for (size_t i = span.begin; i - lane * W < span.end; i += 32 * W) { /* whole warps */
        unsigned long long own = 0;
        if (i < span.end) llm_load_vector(v, x, i);
        LLM_UNROLL
        for (int c = 0; c < W && i < span.end; c++) {
            const uint32_t order = llm_select_order(v[c]);
            own += (unsigned long long)(order > least) << 32 | (order == least);
        }
        const unsigned long long through = llm_select_scan(own);
        unsigned above = (unsigned)((before + through - own) >> 32);
        unsigned equal = (unsigned)(before + through - own);
        before += __shfl_sync(0xffffffffu, through, 31);
        if (i >= span.end) continue;
        LLM_UNROLL
        for (int c = 0; c < W; c++) {
            const uint32_t order = llm_select_order(v[c]);
            const bool tie = order == least, wins = order > least || (tie && equal < wanted);
            if (wins) winner[above + (equal < wanted ? equal : wanted)] = (uint32_t)(i + (size_t)c);
            if (!wins) v[c] = 0.0f;
            above += order > least, equal += tie;
        }
        llm_store_vector(y, i, v);
    }
}
/* y (N,U), winner (N,k) <- x (N,U) without NaN, k <= U < 2^31: llm_sparse_rep_winners_forward with
 * the winners in the order of the row. y may be x. T is float or llm_bf16. */
template <typename T>
static inline cudaError_t llm_cuda_sparse_rep_winners_forward(T *y, uint32_t *winner, const T *x,
                                                              size_t N, size_t U, size_t k,
                                                              cudaStream_t stream) {
    enum { W = 16 / sizeof(T) };
    if (k > U || U > 0x7fffffff) return (cudaError_t)cudaErrorInvalidValue;
    if (N == 0 || U == 0) return cudaSuccess;
    const bool wide = llm_aligned(x, U) && llm_aligned(y, U);
    const auto winners =
        wide ? llm_sparse_rep_winners_kernel<T, W> : llm_sparse_rep_winners_kernel<T, 1>;
    LLM_LAUNCH(winners, (unsigned)N, llm_row_threads(wide ? U / W : U), 0, stream, y, winner, x, U,
               (unsigned)k);
    return cudaGetLastError();
}

template <typename T>
LLM_KERNEL void llm_sparse_rep_backward_kernel(T *dx, const T *dy, const uint32_t *winner, size_t U,
                                               size_t k) {
    const llm_place p = llm_my_place<1>(k);
    if (p.column >= k) return;
    const size_t at = p.row * U + winner[p.row * k + p.column];
    llm_store(dx, at, llm_load(dx, at) + llm_load(dy, at));
}
/* dx (N,U) +=: a thread a winner, nothing else of dx and dy is touched. */
template <typename T>
static inline cudaError_t
llm_cuda_sparse_rep_winners_backward(T *dx, const T *dy, const uint32_t *winner, size_t N, size_t U,
                                     size_t k, cudaStream_t stream) {
    if (N == 0 || k == 0) return cudaSuccess;
    LLM_LAUNCH(llm_sparse_rep_backward_kernel<T>, llm_place_blocks(N, k, 1), 256, 0, stream, dx, dy,
               winner, U, k);
    return cudaGetLastError();
}

template <typename T, int V>
LLM_KERNEL void llm_sparse_rep_product_kernel(T *y, const T *x, const uint32_t *winner,
                                              const T *w_t, size_t C, size_t O, size_t k) {
    __shared__ float part[8][32][V + 1]; /* V + 1: lanes in different banks */
    const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const size_t tiles = (O + 32 * V - 1) / (32 * V), n = blockIdx.x / tiles;
    const size_t o = (blockIdx.x % tiles * 32 + lane) * V;
    float sum[V], v[V];
    LLM_UNROLL
    for (int c = 0; c < V; c++) sum[c] = 0.0f;
    for (size_t r = warp; r < k && o < O; r += 8) {
        const size_t from = winner[n * k + r];
        const float a = llm_load(x, n * C + from);
        if (a == 0.0f) continue; /* a winner among silent ones; the same for the warp */
        llm_load_vector(v, w_t, from * O + o);
        LLM_UNROLL
        for (int c = 0; c < V; c++) sum[c] += a * v[c];
    }
    LLM_UNROLL
    for (int c = 0; c < V; c++) part[warp][lane][c] = sum[c];
    __syncthreads();
    for (unsigned c = threadIdx.x; c < 32 * V; c += 256) {
        const size_t column = blockIdx.x % tiles * 32 * V + c;
        float total = 0.0f;
        LLM_UNROLL
        for (int p = 0; p < 8; p++) total += part[p][c / V][c % V];
        if (column < O) llm_store(y, n * O + column, total);
    }
}
/* y (N,O) <- x (N,C) w_t (C,O), where x is 0 but at winner (N,k), in any order, each place once:
 * llm_sparse_rep_product without the search for what is not 0. T is float or llm_bf16. */
template <typename T>
static inline cudaError_t llm_cuda_sparse_rep_product(T *y, const T *x, const uint32_t *winner,
                                                      const T *w_t, size_t N, size_t C, size_t O,
                                                      size_t k, cudaStream_t stream) {
    enum { V = 16 / sizeof(T) };
    if (N == 0 || O == 0) return cudaSuccess;
    const bool wide = llm_aligned(w_t, O);
    const size_t width = wide ? 32 * V : 32;
    const auto product =
        wide ? llm_sparse_rep_product_kernel<T, V> : llm_sparse_rep_product_kernel<T, 1>;
    LLM_LAUNCH(product, (unsigned)(N * ((O + width - 1) / width)), 256, 0, stream, y, x, winner,
               w_t, C, O, k);
    return cudaGetLastError();
}

/* @kan ------------------------------------------------------ Kolmogorov-Arnold network
 *
 * Only four basis functions are not 0 at an x; a thread works them out in registers, and nothing of
 * them goes through memory. A lane takes a row of x and a warp four outputs, eight inputs at a
 * time, whose bases a block's 32 outputs share through shared memory.
 *
 * Reads x once for 32 outputs and w once for 32 rows, from L2. An edge and row costs six
 * multiply-adds and as many loads, the coefficients from four addresses of L1 that differ by lane.
 * Limit: those loads; tensor cores have nothing to do here.
 *
 * source  -
 * needs   cuda_launch, cuda_memory, activation
 * see     dense
 * topics  -
 */

/* b, slope (4) <- llm_kan_basis, moved so that all four functions from the returned one on
 * exist. */
LLM_DEVICE int llm_cuda_kan_basis(float b[4], float slope[4], const float *t, int grid, float x) {
    const int last = grid + 6;
    LLM_UNROLL
    for (int a = 0; a < 4; a++) b[a] = slope[a] = 0.0f;
    if (!(x >= llm_load(t, 0) && x < llm_load(t, (size_t)last))) return 0;
    int at = 0, above = last; /* t_at <= x < t_above */
    while (above - at > 1) {
        const int middle = (at + above) / 2;
        if (x >= llm_load(t, (size_t)middle))
            at = middle;
        else
            above = middle;
    }
    float u[8], square[5]; /* knots around x, at equal distances beyond the ends */
    LLM_UNROLL
    for (int r = 0; r < 8; r++) {
        const int k = at - 3 + r, end = k < 0 ? 0 : k > last ? last : k;
        u[r] = llm_load(t, (size_t)end);
        if (k < 0) u[r] += (float)k * (llm_load(t, 1) - u[r]);
        if (k > last) u[r] += (float)(k - last) * (u[r] - llm_load(t, (size_t)last - 1));
    }
    b[0] = 1.0f;
    LLM_UNROLL
    for (int d = 1; d <= 3; d++) { /* from degree d - 1 to d: each function gives to two */
        float from_left = 0.0f;
        if (d == 3)
            square[0] = square[4] = 0.0f, square[1] = b[0], square[2] = b[1], square[3] = b[2];
        LLM_UNROLL
        for (int r = 0; r < d; r++) {
            const float left = x - u[4 - d + r], right = u[4 + r] - x,
                        share = b[r] / (left + right);
            b[r] = from_left + right * share;
            from_left = left * share;
        }
        b[d] = from_left;
    }
    LLM_UNROLL
    for (int a = 0; a < 4; a++)
        slope[a] = 3.0f * (square[a] / (u[a + 3] - u[a]) - square[a + 1] / (u[a + 4] - u[a + 1]));
    int first = at - 3;
    for (; first < 0; first++) { /* what does not exist falls out at the end */
        LLM_UNROLL
        for (int a = 0; a < 4; a++)
            b[a] = a < 3 ? b[a + 1] : 0.0f, slope[a] = a < 3 ? slope[a + 1] : 0.0f;
    }
    for (; first > grid - 1; first--) {
        LLM_UNROLL
        for (int a = 3; a >= 0; a--)
            b[a] = a > 0 ? b[a - 1] : 0.0f, slope[a] = a > 0 ? slope[a - 1] : 0.0f;
    }
    return first;
}
/* sum_k c_k v_k of four. */
template <typename T> LLM_DEVICE float llm_cuda_kan_spline(const T *c, const float v[4]) {
    return llm_load(c, 0) * v[0] + llm_load(c, 1) * v[1] + llm_load(c, 2) * v[2] +
           llm_load(c, 3) * v[3];
}

template <typename T>
LLM_KERNEL void llm_kan_forward_kernel(T *y, const T *w, const float *t, const T *x, size_t N,
                                       llm_kan k) {
    __shared__ float basis[8][5][32]; /* [input][B and silu][row] */
    __shared__ int place[8][32];
    const size_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const size_t n = (size_t)blockIdx.x * 32 + lane, j = (size_t)blockIdx.y * 32 + warp * 4;
    const size_t coefs = k.grid + 3, edges = k.out * k.in;
    float sum[4] = {0.0f, 0.0f, 0.0f, 0.0f}, b[4], slope[4];
    for (size_t i = 0; i < k.in; i += 8) {
        __syncthreads(); /* until the bases before are used */
        if (n < N && i + warp < k.in) {
            const float v = llm_load(x, n * k.in + i + warp);
            place[warp][lane] =
                llm_cuda_kan_basis(b, slope, t + (i + warp) * (k.grid + 7), (int)k.grid, v);
            LLM_UNROLL
            for (int a = 0; a < 4; a++) basis[warp][a][lane] = b[a];
            basis[warp][4][lane] = llm_cuda_activation_value(v, LLM_ACTIVATION_SILU);
        }
        __syncthreads();
        for (size_t q = 0; q < 8 && i + q < k.in && n < N; q++) {
            LLM_UNROLL
            for (int a = 0; a < 4; a++) b[a] = basis[q][a][lane];
            LLM_UNROLL
            for (int r = 0; r < 4; r++) {
                if (j + (size_t)r >= k.out) break;
                const size_t edge = (j + (size_t)r) * k.in + i + q, base = edges * coefs + edge;
                const T *c = w + edge * coefs + place[q][lane];
                sum[r] += llm_load(w, base) * basis[q][4][lane] +
                          llm_load(w, base + edges) * llm_cuda_kan_spline(c, b);
            }
        }
    }
    LLM_UNROLL
    for (int r = 0; r < 4; r++)
        if (n < N && j + (size_t)r < k.out) llm_store(y, n * k.out + j + (size_t)r, sum[r]);
}
/* Arguments as llm_kan_forward, in and out to 2^18; T is float or llm_bf16, the knots are float. */
template <typename T>
static inline cudaError_t llm_cuda_kan_forward(T *y, const llm_kan *k, const T *w, const float *t,
                                               const T *x, size_t N, cudaStream_t stream) {
    if (k->out > 1 << 18 || k->in > 1 << 18) return (cudaError_t)cudaErrorInvalidValue;
    if (N == 0 || k->out == 0) return cudaSuccess;
    const dim3 grid((unsigned)((N + 31) / 32), (unsigned)((k->out + 31) / 32));
    LLM_LAUNCH(llm_kan_forward_kernel<T>, grid, 256, 0, stream, y, w, t, x, N, *k);
    return cudaGetLastError();
}

/* @kan_backward ------------------------------------------- Kolmogorov-Arnold network, the way back
 *
 * dx: a lane a row, a warp an input, whose basis stays in registers for all outputs; a tile of dy
 * passes through shared memory. dw: a lane an output, a block an input, a warp every eighth 32 rows
 * of x. All lanes then look at the same x, so that each adds its g B_k at the same k, to sums q_k
 * of its own in shared memory: no two meet. The warps' sums are added in a fixed order, without
 * atomics, and give two gradients at once: dc = s q and ds = sum_k c_k q_k.
 *
 * dx reads w once for 32 rows and dy once for eight inputs, dw reads dy once for each input, all
 * from L2. Limit: for dx the loads of coefficients, as forwards; for dw four additions in shared
 * memory an edge and row.
 *
 * source  -
 * needs   cuda_launch, cuda_memory, activation, kan
 * see     kan
 * topics  -
 */

/* The price's part of g: l1 sign(phi) / N. */
LLM_DEVICE float llm_cuda_kan_pull(float phi, float price) {
    return phi > 0.0f ? price : phi < 0.0f ? -price : 0.0f;
}
template <typename T>
LLM_KERNEL void llm_kan_dx_kernel(T *dx, const T *dy, const T *w, const float *t, const T *x,
                                  size_t N, llm_kan k, float price) {
    __shared__ float tile[32][33]; /* dy [row][output] */
    const size_t lane = threadIdx.x % 32, warp = threadIdx.x / 32, row = (size_t)blockIdx.x * 32;
    const size_t n = row + lane, i = (size_t)blockIdx.y * 8 + warp;
    const size_t coefs = k.grid + 3, edges = k.out * k.in;
    const bool mine = n < N && i < k.in;
    float sum = 0.0f, b[4], slope[4], silu = 0.0f, dsilu = 0.0f;
    int first = 0;
    if (mine) {
        const float v = llm_load(x, n * k.in + i);
        first = llm_cuda_kan_basis(b, slope, t + i * (k.grid + 7), (int)k.grid, v);
        silu = llm_cuda_activation_value(v, LLM_ACTIVATION_SILU);
        dsilu = llm_cuda_activation_slope(v, LLM_ACTIVATION_SILU);
    }
    for (size_t j = 0; j < k.out; j += 32) {
        __syncthreads();
        for (size_t r = warp; r < 32; r += 8)
            if (row + r < N && j + lane < k.out)
                tile[r][lane] = llm_load(dy, (row + r) * k.out + j + lane);
        __syncthreads();
        for (size_t q = 0; mine && q < 32 && j + q < k.out; q++) {
            const size_t edge = (j + q) * k.in + i;
            const T *c = w + edge * coefs + first;
            const float base = llm_load(w, edges * coefs + edge);
            const float scale = llm_load(w, edges * coefs + edges + edge);
            float g = tile[lane][q];
            if (price != 0.0f)
                g += llm_cuda_kan_pull(base * silu + scale * llm_cuda_kan_spline(c, b), price);
            sum += g * (base * dsilu + scale * llm_cuda_kan_spline(c, slope));
        }
    }
    if (mine) llm_store(dx, n * k.in + i, llm_load(dx, n * k.in + i) + sum);
}

/* Shared: c of the block's edges and q of each warp, (grid+3,32) each, then db of each warp
 * (32). */
template <typename T>
LLM_KERNEL void llm_kan_dw_kernel(float *dw, const T *dy, const T *w, const float *t, const T *x,
                                  size_t N, llm_kan k, float price) {
    LLM_DYNAMIC_SHARED(float, shared);
    const size_t lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    const size_t i = blockIdx.x, j = (size_t)blockIdx.y * 32 + lane, coefs = k.grid + 3;
    const size_t edges = k.out * k.in, edge = j * k.in + i, at = edges * coefs + edge;
    const bool mine = j < k.out;
    float *c = shared + lane, *q = c + (1 + warp) * coefs * 32;
    float *ends = shared + (1 + warps) * coefs * 32; /* sums of g silu, [warp][lane] */
    for (size_t a = warp; a < coefs; a += warps)
        c[a * 32] = mine ? llm_load(w, edge * coefs + a) : 0.0f;
    for (size_t a = 0; a < coefs; a++) q[a * 32] = 0.0f;
    const float base = mine ? llm_load(w, at) : 0.0f, scale = mine ? llm_load(w, at + edges) : 0.0f;
    float db = 0.0f, b[4], slope[4];
    __syncthreads();
    for (size_t row = warp * 32; row < N; row += warps * 32) {
        float silu = 0.0f;
        int first = 0;
        LLM_UNROLL
        for (int a = 0; a < 4; a++) b[a] = 0.0f;
        if (row + lane < N) { /* each lane the basis of a row, then all look at one after another */
            const float v = llm_load(x, (row + lane) * k.in + i);
            first = llm_cuda_kan_basis(b, slope, t + i * (k.grid + 7), (int)k.grid, v);
            silu = llm_cuda_activation_value(v, LLM_ACTIVATION_SILU);
        }
        for (int r = 0; r < 32 && row + (size_t)r < N; r++) {
            const float s = __shfl_sync(0xffffffffu, silu, r);
            const size_t from = (size_t)__shfl_sync(0xffffffffu, first, r) * 32;
            float v[4], phi = base * s;
            LLM_UNROLL
            for (int a = 0; a < 4; a++) {
                v[a] = __shfl_sync(0xffffffffu, b[a], r);
                if (price != 0.0f) phi += scale * c[from + (size_t)a * 32] * v[a];
            }
            float g = mine ? llm_load(dy, (row + (size_t)r) * k.out + j) : 0.0f;
            if (price != 0.0f) g += llm_cuda_kan_pull(phi, price);
            db += g * s;
            LLM_UNROLL
            for (int a = 0; a < 4; a++) q[from + (size_t)a * 32] += g * v[a];
        }
    }
    ends[warp * 32 + lane] = db;
    __syncthreads();
    if (warp > 0 || !mine) return;
    float ds = 0.0f;
    db = 0.0f;
    for (size_t p = 0; p < warps; p++) db += ends[p * 32 + lane];
    for (size_t a = 0; a < coefs; a++) {
        float all = 0.0f;
        for (size_t p = 1; p <= warps; p++) all += c[(p * coefs + a) * 32];
        ds += c[a * 32] * all;
        llm_store(dw, edge * coefs + a, llm_load(dw, edge * coefs + a) + scale * all);
    }
    llm_store(dw, at, llm_load(dw, at) + db);
    llm_store(dw, at + edges, llm_load(dw, at + edges) + ds);
}

/* dx (N,in) +=, dw +=, in float: arguments as llm_kan_backward, either may be NULL. With dw, grids
 * to 800; of those above 82 a block has fewer warps. */
template <typename T>
static inline cudaError_t llm_cuda_kan_backward(T *dx, float *dw, const T *dy, const llm_kan *k,
                                                const T *w, const float *t, const T *x, size_t N,
                                                float l1, cudaStream_t stream) {
    if (k->out > 1 << 18 || k->in > 1 << 18 || (dw && k->grid > 800))
        return (cudaError_t)cudaErrorInvalidValue;
    if (N == 0 || k->out == 0 || k->in == 0) return cudaSuccess;
    const unsigned outs = (unsigned)((k->out + 31) / 32);
    const float price = l1 / (float)N;
    const dim3 tiles((unsigned)((N + 31) / 32), (unsigned)((k->in + 7) / 8));
    if (dx) LLM_LAUNCH(llm_kan_dx_kernel<T>, tiles, 256, 0, stream, dx, dy, w, t, x, N, *k, price);
    const cudaError_t error = cudaGetLastError();
    if (!dw || error != cudaSuccess) return error;
    size_t warps = 8;
    while (warps > 1 && (warps + 1) * (k->grid + 3) > 768) warps /= 2; /* 96 KB: two blocks */
    const size_t bytes = ((warps + 1) * (k->grid + 3) + warps) * 32 * sizeof(float);
    LLM_LAUNCH(llm_kan_dw_kernel<T>, dim3((unsigned)k->in, outs), (unsigned)warps * 32, bytes,
               stream, dw, dy, w, t, x, N, *k, price);
    return cudaGetLastError();
}

/* @07-optim ================================================= OPTIMIZATION */

/* @gradient_descent ----------------------------------------- All weights of a model in one launch
 *
 * A step of an optimizer is a few operations on each weight, and all memory traffic. A transformer
 * has hundreds of tensors, most of them small, and a launch each would cost more than the update:
 * 48 go into one, their list in the kernel's arguments, and a block takes 4096 entries of one
 * tensor. The loop is the same for every optimizer that works weight by weight; what differs is a
 * rule, a struct with the rates and an operator, which the compiler puts in place: @momentum,
 * @rmsprop, @adam, @adamw, @lion. The factor that clips gradients or takes a loss scale off is read
 * on the device, so that nobody waits for the norm; one that is not finite skips the step.
 *
 * A bfloat16 weight loses every step smaller than 1/512 of itself. Either a float master takes the
 * steps and w is its rounding, or w is rounded at random, up with the probability that makes the
 * expectation right: 16 random bits are added below the last one kept, and what is below cut off.
 *
 * Moves 12 bytes a float weight (w in and out, g in) and twice each state, the minimum. Limit:
 * memory bandwidth.
 *
 * source  -
 * needs   cuda_launch, cuda_memory, cuda_rng
 * see     grad_clip
 * topics  -
 */
enum { LLM_CUDA_GRADIENT_DESCENT_TENSORS = 48, LLM_CUDA_GRADIENT_DESCENT_CHUNK = 4096 };

/* w, master, m, v, g (n): device pointers. master: NULL, or T is llm_bf16 and it holds the weights
 * of which w is the rounding. m, v: state, NULL where the rule has none. decay: false for biases
 * and gains. */
template <typename T, typename M = float> struct llm_cuda_gradient_descent_tensor {
    T *w;
    float *master;
    M *m;
    float *v;
    const float *g;
    size_t n;
    bool decay;
};
template <typename T, typename M> struct llm_cuda_gradient_descent_list {
    llm_cuda_gradient_descent_tensor<T, M> tensor[LLM_CUDA_GRADIENT_DESCENT_TENSORS];
    unsigned first_block[LLM_CUDA_GRADIENT_DESCENT_TENSORS + 1]; /* and how many there are */
};

/* x rounded at random to bfloat16: the neighbour below or above, in the mean x. */
LLM_HOST_DEVICE float llm_cuda_gradient_descent_round(float x, uint32_t random) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    const bool finite = (bits & 0x7f800000u) != 0x7f800000u;
    bits = finite ? (bits + (random & 0xffffu)) & 0xffff0000u : bits;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* The step for entries i to i + V - 1; four share a Philox block. */
template <int V, typename T, typename M, typename R>
LLM_DEVICE void llm_cuda_gradient_descent_entries(const llm_cuda_gradient_descent_tensor<T, M> &t,
                                                  size_t i, const R &rule, float gain,
                                                  uint64_t block, uint64_t seed) {
    float w[V], m[V], v[V], g[V];
    LLM_UNROLL
    for (int k = 0; k < V; k++) m[k] = v[k] = 0.0f;
    llm_load_vector(g, t.g, i);
    if (t.m) llm_load_vector(m, t.m, i);
    if (t.v) llm_load_vector(v, t.v, i);
    if (t.master)
        llm_load_vector(w, t.master, i);
    else
        llm_load_vector(w, t.w, i);
    LLM_UNROLL
    for (int k = 0; k < V; k++) rule(w[k], m[k], v[k], gain * g[k], t.decay);
    if (t.m) llm_store_vector(t.m, i, m);
    if (t.v) llm_store_vector(t.v, i, v);
    if (t.master) {
        llm_store_vector(t.master, i, w);
    } else if (sizeof(T) == 2) {
        uint32_t word[4];
        llm_cuda_philox(word, block, seed);
        LLM_UNROLL
        for (int k = 0; k < V; k++) w[k] = llm_cuda_gradient_descent_round(w[k], word[(i + k) % 4]);
    }
    llm_store_vector(t.w, i, w);
}

template <typename T, typename M, typename R>
LLM_KERNEL void llm_gradient_descent_kernel(llm_cuda_gradient_descent_list<T, M> list, R rule,
                                            const float *factor, uint64_t seed, uint64_t counter) {
    const float gain = factor ? llm_load(factor, 0) : 1.0f;
    if (!(fabsf(gain) < INFINITY)) return;
    unsigned at = 0; /* this block's tensor */
    while (list.first_block[at + 1] <= blockIdx.x) at++;
    const llm_cuda_gradient_descent_tensor<T, M> &t = list.tensor[at];
    const size_t begin =
        (size_t)(blockIdx.x - list.first_block[at]) * LLM_CUDA_GRADIENT_DESCENT_CHUNK;
    const size_t end = begin + LLM_CUDA_GRADIENT_DESCENT_CHUNK < t.n
                           ? begin + LLM_CUDA_GRADIENT_DESCENT_CHUNK
                           : t.n;
    const uintptr_t where =
        (uintptr_t)t.w | (uintptr_t)t.master | (uintptr_t)t.m | (uintptr_t)t.v | (uintptr_t)t.g;
    const size_t whole = where % 16 == 0 ? end - (end - begin) % 4 : begin;
    counter += (uint64_t)blockIdx.x * (LLM_CUDA_GRADIENT_DESCENT_CHUNK / 4);

    for (size_t i = begin + 4 * threadIdx.x; i < whole; i += 4 * blockDim.x)
        llm_cuda_gradient_descent_entries<4>(t, i, rule, gain, counter + (i - begin) / 4, seed);
    for (size_t i = whole + threadIdx.x; i < end; i += blockDim.x)
        llm_cuda_gradient_descent_entries<1>(t, i, rule, gain, counter + (i - begin) / 4, seed);
}

/* The rule's step t = 1, 2, .. for `count` tensors (a host array). factor: a float on the device
 * that multiplies the gradients (@grad_clip), or NULL. seed draws the rounding. */
template <typename T, typename M, typename R>
static inline cudaError_t
llm_cuda_gradient_descent_each(const llm_cuda_gradient_descent_tensor<T, M> *tensor, size_t count,
                               const R &rule, size_t t, const float *factor, uint64_t seed,
                               cudaStream_t stream) {
    enum { most = LLM_CUDA_GRADIENT_DESCENT_TENSORS, chunk = LLM_CUDA_GRADIENT_DESCENT_CHUNK };
    const auto kernel = llm_gradient_descent_kernel<T, M, R>;
    /* Philox blocks: steps do not share any, nor do tensors */
    uint64_t counter = (uint64_t)t << 40;
    llm_cuda_gradient_descent_list<T, M> list;
    for (size_t first = 0; first < count; first += most) {
        unsigned blocks = 0;
        for (size_t i = 0; i < most; i++) {
            list.first_block[i] = blocks;
            if (first + i >= count) continue;
            list.tensor[i] = tensor[first + i];
            blocks += (unsigned)((list.tensor[i].n + chunk - 1) / chunk);
        }
        list.first_block[most] = blocks;
        if (blocks == 0) continue;
        LLM_LAUNCH(kernel, blocks, 256, 0, stream, list, rule, factor, seed, counter);
        const cudaError_t error = cudaGetLastError();
        if (error != cudaSuccess) return error;
        counter += (uint64_t)blocks * (chunk / 4);
    }
    return cudaSuccess;
}

struct llm_cuda_gradient_descent_rule {
    float lr;
    LLM_DEVICE_METHOD void operator()(float &w, float &, float &, float g, bool) const {
        w -= lr * g;
    }
};
/* w -= lr g, llm_gradient_descent_step of every tensor; m and v are NULL. */
template <typename T>
static inline cudaError_t
llm_cuda_gradient_descent_step(const llm_cuda_gradient_descent_tensor<T> *tensor, size_t count,
                               float lr, size_t t, const float *factor, uint64_t seed,
                               cudaStream_t stream) {
    const llm_cuda_gradient_descent_rule rule = {lr};
    return llm_cuda_gradient_descent_each(tensor, count, rule, t, factor, seed, stream);
}

/* @minibatch ------------------------------------------------ The rows of a batch, gathered
 *
 * A warp copies a row and converts it on the way: data stored in bfloat16 become the floats a model
 * wants, or the other way round, without a pass of their own.
 *
 * Moves an element in and one out for each, the minimum. Limit: memory bandwidth; rows shorter than
 * a sector of 32 bytes waste the rest of it.
 *
 * source  -
 * needs   cuda_launch, cuda_memory, cuda_reduce
 * see     embedding
 * topics  -
 */
template <typename T, typename S, int V>
LLM_KERNEL void llm_minibatch_gather_kernel(T *out, const S *x, const int *index, size_t B,
                                            size_t n, size_t d) {
    const llm_row_place p = llm_my_row<true>();
    if (p.row >= B) return;
    const int row = index[p.row];
    for (size_t i = (size_t)p.lane * V; i < d; i += (size_t)p.width * V) {
        float v[V];
        LLM_UNROLL
        for (int k = 0; k < V; k++) v[k] = NAN;
        if (row >= 0 && (size_t)row < n) llm_load_vector(v, x, (size_t)row * d + i);
        llm_store_vector(out, p.row * d + i, v);
    }
}
/* out (B,d) <- the rows index (B) of x (n,d); T and S are float or llm_bf16. A row that does not
 * exist is NaN. */
template <typename T, typename S>
static inline cudaError_t llm_cuda_minibatch_gather(T *out, const S *x, const int *index, size_t B,
                                                    size_t n, size_t d, cudaStream_t stream) {
    if (B == 0 || d == 0) return cudaSuccess;
    const auto gather = d % 8 == 0 && llm_aligned(out, d) && llm_aligned(x, d)
                            ? llm_minibatch_gather_kernel<T, S, 4>
                            : llm_minibatch_gather_kernel<T, S, 1>;
    LLM_LAUNCH(gather, llm_row_blocks(B, true), 128, 0, stream, out, x, index, B, n, d);
    return cudaGetLastError();
}

/* @momentum ------------------------------------------------- Momentum
 *
 * The rule of torch.optim.SGD in the loop of @gradient_descent, with a float master or random
 * rounding for bfloat16 weights. Moves 20 bytes a float weight (w, m in and out, g in), the
 * minimum. Limit: memory bandwidth.
 *
 * source  -
 * needs   gradient_descent
 * see     adamw
 * topics  -
 */
struct llm_cuda_momentum_rule {
    llm_momentum_config c;
    bool first;
    LLM_DEVICE_METHOD void operator()(float &w, float &m, float &, float g, bool decay) const {
        const float d = (c.maximize ? -g : g) + (decay ? c.weight_decay * w : 0.0f);
        m = first ? d : c.momentum * m + (1.0f - c.dampening) * d;
        w -= c.lr * (c.nesterov ? d + c.momentum * m : m);
    }
};
/* llm_momentum_step of every tensor, its velocity in m; at t = 1 that is not used. */
template <typename T>
static inline cudaError_t llm_cuda_momentum_step(const llm_cuda_gradient_descent_tensor<T> *tensor,
                                                 size_t count, const llm_momentum_config *c,
                                                 size_t t, const float *factor, uint64_t seed,
                                                 cudaStream_t stream) {
    const llm_cuda_momentum_rule rule = {*c, t == 1};
    return llm_cuda_gradient_descent_each(tensor, count, rule, t, factor, seed, stream);
}

/* @adagrad -------------------------------------------------- AdaGrad on sparse rows
 *
 * Only the rows of a table that have a gradient are read and written, a warp each. The rows are
 * named once (sorted and added up before, as @embedding's backward pass leaves them), so no two
 * warps meet. Moves 20 bytes an entry of these rows (w, s in and out, g in) and 4 for the name, the
 * minimum. Limit: memory bandwidth; for short rows, the sectors they do not fill.
 *
 * source  -
 * needs   cuda_launch, cuda_memory, cuda_reduce
 * see     embedding
 * topics  -
 */
template <int V>
LLM_KERNEL void llm_adagrad_sparse_kernel(float *w, float *s, const float *g, const int *index,
                                          size_t m, size_t rows, size_t d, float lr, float eps,
                                          bool maximize) {
    const llm_row_place p = llm_my_row<true>();
    if (p.row >= m) return;
    const int row = index[p.row];
    if (row < 0 || (size_t)row >= rows) return;
    for (size_t i = (size_t)p.lane * V; i < d; i += (size_t)p.width * V) {
        float wv[V], sv[V], gv[V];
        llm_load_vector(wv, w, (size_t)row * d + i);
        llm_load_vector(sv, s, (size_t)row * d + i);
        llm_load_vector(gv, g, p.row * d + i);
        LLM_UNROLL
        for (int k = 0; k < V; k++) {
            const float grad = maximize ? -gv[k] : gv[k];
            sv[k] += grad * grad;
            if (grad != 0.0f) wv[k] -= lr * grad / (sqrtf(sv[k]) + eps);
        }
        llm_store_vector(w, (size_t)row * d + i, wv);
        llm_store_vector(s, (size_t)row * d + i, sv);
    }
}
/* llm_adagrad_sparse: w, s (rows,d) at the rows index (m) <- g (m,d), step t = 1, 2, .. Names out
 * of range are skipped. An L2 penalty, which would touch all rows, is an invalid value. */
static inline __attribute__((unused)) cudaError_t
llm_cuda_adagrad_sparse(float *w, float *s, const float *g, const int *index, size_t m, size_t rows,
                        size_t d, const llm_adagrad_config *c, size_t t, cudaStream_t stream) {
    if (c->weight_decay != 0.0f || t == 0) return cudaErrorInvalidValue;
    if (m == 0 || d == 0) return cudaSuccess;
    const float lr = (float)((double)c->lr / (1.0 + (double)(t - 1) * (double)c->lr_decay));
    const auto sparse = llm_aligned(w, d) && llm_aligned(s, d) && llm_aligned(g, d)
                            ? llm_adagrad_sparse_kernel<4>
                            : llm_adagrad_sparse_kernel<1>;
    LLM_LAUNCH(sparse, llm_row_blocks(m, true), 128, 0, stream, w, s, g, index, m, rows, d, lr,
               c->eps, c->maximize);
    return cudaGetLastError();
}

/* @rmsprop -------------------------------------------------- RMSProp
 *
 * The rule in the loop of @gradient_descent: v holds the mean square, m the velocity or, centred,
 * the mean; both at once would need a third array and are not offered. Moves 20 bytes a float
 * weight (w, v in and out, g in), 28 with m, the minimum. Limit: memory bandwidth.
 *
 * source  -
 * needs   gradient_descent
 * see     adamw
 * topics  -
 */
struct llm_cuda_rmsprop_rule {
    llm_rmsprop_config c;
    LLM_DEVICE_METHOD void operator()(float &w, float &m, float &v, float g, bool decay) const {
        const float d = (c.maximize ? -g : g) + (decay ? c.weight_decay * w : 0.0f);
        float variance = v = c.alpha * v + (1.0f - c.alpha) * d * d;
        if (c.centered) {
            m = c.alpha * m + (1.0f - c.alpha) * d;
            variance = fmaxf(variance - m * m, 0.0f);
        }
        float step = d / (c.eps_inside ? sqrtf(variance + c.eps) : sqrtf(variance) + c.eps);
        if (c.momentum != 0.0f) step = m = c.momentum * m + step;
        w -= c.lr * step;
    }
};
/* llm_rmsprop_step of every tensor; t only numbers the draws of the rounding. */
template <typename T>
static inline cudaError_t llm_cuda_rmsprop_step(const llm_cuda_gradient_descent_tensor<T> *tensor,
                                                size_t count, const llm_rmsprop_config *c, size_t t,
                                                const float *factor, uint64_t seed,
                                                cudaStream_t stream) {
    if (c->centered && c->momentum != 0.0f) return cudaErrorInvalidValue;
    const llm_cuda_rmsprop_rule rule = {*c};
    return llm_cuda_gradient_descent_each(tensor, count, rule, t, factor, seed, stream);
}

/* @adam ----------------------------------------------------- Adam, Adamax, NAdam, RAdam
 *
 * Four rules with the same two moments in the loop of @gradient_descent; the host computes what
 * depends on t alone. AMSGrad, which needs a third array, is not here. Moves 28 bytes a float
 * weight (w, m, v in and out, g in), the minimum. Limit: memory bandwidth.
 *
 * source  -
 * needs   gradient_descent
 * see     adamw
 * topics  -
 */
enum { LLM_CUDA_ADAM, LLM_CUDA_ADAM_MAX, LLM_CUDA_ADAM_NESTEROV, LLM_CUDA_ADAM_RECTIFIED };

struct llm_cuda_adam_rule {
    llm_adam_config c;
    int kind;
    float of_m, of_g; /* Adam's, Adamax's rate; NAdam's two; RAdam's plain and divided one */
    float scale;      /* 1/sqrt(1 - b2^t) */
    LLM_DEVICE_METHOD void operator()(float &w, float &m, float &v, float g, bool decay) const {
        const float d = (c.maximize ? -g : g) + (decay ? c.weight_decay * w : 0.0f);
        m = c.beta1 * m + (1.0f - c.beta1) * d;
        if (kind == LLM_CUDA_ADAM_MAX) {
            v = fmaxf(c.beta2 * v, fabsf(d) + c.eps);
            w -= of_m * m / v;
            return;
        }
        v = c.beta2 * v + (1.0f - c.beta2) * d * d;
        if (kind == LLM_CUDA_ADAM_RECTIFIED) {
            w -= m * (of_g > 0.0f ? of_g / (sqrtf(v) + c.eps) : of_m);
            return;
        }
        const float root =
            c.eps_root > 0.0f ? sqrtf(v * scale * scale + c.eps_root) : sqrtf(v) * scale;
        w -= (of_m * m + (kind == LLM_CUDA_ADAM_NESTEROV ? of_g * d : 0.0f)) / (root + c.eps);
    }
};
/* llm_adam_step, .._max_step, .._nesterov_step or .._rectified_step of every tensor, as kind says;
 * t counts from 1. product: NAdam's, on the host, else NULL. */
template <typename T>
static inline cudaError_t llm_cuda_adam_step(const llm_cuda_gradient_descent_tensor<T> *tensor,
                                             size_t count, int kind, const llm_adam_config *c,
                                             size_t t, double *product, const float *factor,
                                             uint64_t seed, cudaStream_t stream) {
    if (t == 0 || (kind == LLM_CUDA_ADAM_NESTEROV && !product)) return cudaErrorInvalidValue;
    const double b1 = (double)c->beta1, correct2 = 1.0 - pow((double)c->beta2, (double)t);
    const double step = (double)c->lr / (1.0 - pow(b1, (double)t));
    llm_cuda_adam_rule rule = {*c, kind, (float)step, 0.0f, (float)(1.0 / sqrt(correct2))};
    if (kind != LLM_CUDA_ADAM) rule.c.eps_root = 0.0f;
    if (kind == LLM_CUDA_ADAM_RECTIFIED)
        rule.of_g = (float)(step * llm_adam_trust((double)c->beta2, t) * sqrt(correct2));
    if (kind == LLM_CUDA_ADAM_NESTEROV) {
        const double decay = (double)c->momentum_decay;
        const double now = b1 * (1.0 - 0.5 * pow(0.96, (double)t * decay));
        const double next = b1 * (1.0 - 0.5 * pow(0.96, (double)(t + 1) * decay));
        *product *= now;
        rule.of_g = (float)((double)c->lr * (1.0 - now) / (1.0 - *product));
        rule.of_m = (float)((double)c->lr * next / (1.0 - *product * next));
    }
    return llm_cuda_gradient_descent_each(tensor, count, rule, t, factor, seed, stream);
}

/* @adamw ---------------------------------------------------- Adam with decoupled weight decay
 *
 * The rule in the loop of @gradient_descent: all parameters of a model at once, bfloat16 weights
 * with a float master or rounded at random, the factor that clips gradients read on the device.
 *
 * Moves 28 bytes a float weight (w, m, v in and out, g in), 30 for bfloat16 with a master, 24
 * without: the minimum. Limit: memory bandwidth.
 *
 * source  -
 * needs   gradient_descent
 * see     grad_clip
 * topics  -
 */
template <typename T> using llm_cuda_adamw_tensor = llm_cuda_gradient_descent_tensor<T>;

struct llm_cuda_adamw_rule {
    llm_adamw_config c;
    float keep, step, v_scale; /* 1 - lr decay; the corrections of the averages */
    LLM_DEVICE_METHOD void operator()(float &w, float &m, float &v, float g, bool decay) const {
        m = c.beta1 * m + (1.0f - c.beta1) * g;
        v = c.beta2 * v + (1.0f - c.beta2) * g * g;
        w = (decay ? keep : 1.0f) * w - step * m / (sqrtf(v) * v_scale + c.eps);
    }
};
/* The step llm_adamw_step for `count` tensors (a host array); t counts from 1. factor: a float on
 * the device that multiplies the gradients (@grad_clip), or NULL. seed draws the rounding. */
template <typename T>
static inline cudaError_t
llm_cuda_adamw_step(const llm_cuda_adamw_tensor<T> *tensor, size_t count, const llm_adamw_config *c,
                    size_t t, const float *factor, uint64_t seed, cudaStream_t stream) {
    const double correct1 = 1.0 - pow((double)c->beta1, (double)t);
    const double correct2 = 1.0 - pow((double)c->beta2, (double)t);
    const llm_cuda_adamw_rule rule = {*c, 1.0f - c->lr * c->weight_decay,
                                      (float)((double)c->lr / correct1),
                                      (float)(1.0 / sqrt(correct2))};
    return llm_cuda_gradient_descent_each(tensor, count, rule, t, factor, seed, stream);
}

/* @lion ----------------------------------------------------- Lion
 *
 * The rule in the loop of @gradient_descent, its momentum in float or bfloat16: a sign hardly cares
 * for the eighth bit, but a momentum that changes by less than 1/256 of itself stands still there.
 * The cautious mask needs a sum over all weights first and is not here. Moves 20 bytes a float
 * weight (w, m in and out, g in), 16 with a bfloat16 momentum, the minimum. Limit: memory
 * bandwidth.
 *
 * source  -
 * needs   gradient_descent
 * see     adamw
 * topics  -
 */
struct llm_cuda_lion_rule {
    llm_lion_config c;
    LLM_DEVICE_METHOD void operator()(float &w, float &m, float &, float g, bool decay) const {
        const float u = c.beta1 * m + (1.0f - c.beta1) * g;
        const float sign = u > 0.0f ? 1.0f : u < 0.0f ? -1.0f : 0.0f;
        w = (decay ? 1.0f - c.lr * c.weight_decay : 1.0f) * w - c.lr * sign;
        m = c.beta2 * m + (1.0f - c.beta2) * g;
    }
};
/* llm_lion_step of every tensor; t only numbers the draws of the rounding. */
template <typename T, typename M>
static inline cudaError_t llm_cuda_lion_step(const llm_cuda_gradient_descent_tensor<T, M> *tensor,
                                             size_t count, const llm_lion_config *c, size_t t,
                                             const float *factor, uint64_t seed,
                                             cudaStream_t stream) {
    if (c->cautious) return cudaErrorInvalidValue;
    const llm_cuda_lion_rule rule = {*c};
    return llm_cuda_gradient_descent_each(tensor, count, rule, t, factor, seed, stream);
}

/* @adafactor ------------------------------------------------ Adafactor
 *
 * Nothing as large as the matrix is stored beside it: every pass computes the squares, and later
 * the update, again from g. The first reads g and w by tiles of 32 rows and 256 columns: a thread
 * owns a column and adds its squares, warps add along the rows, and each tile leaves 32 + 256 sums.
 * Those are added in a fixed order, so that two runs agree to the bit. The second pass sums the
 * squares of the update, the third takes the step: the length of the whole update has to be known
 * before one weight moves, and R and C before the length. Rates and clipping never leave the
 * device.
 *
 * Moves 24 bytes a weight (g three times, w twice in and once out), 32 with momentum, where Adam
 * moves 28; a matrix of some tens of megabytes is read from L2 the second and third time. Limit:
 * memory bandwidth.
 *
 * source  -
 * needs   cuda_launch, cuda_memory, cuda_reduce
 * see     adamw
 * topics  -
 */
enum { LLM_CUDA_ADAFACTOR_ROWS = 32, LLM_CUDA_ADAFACTOR_PARTS = 256 };

/* row_part[tile][row], col_part[band][column] <- sums of g^2 + eps1 over the columns of a tile and
 * the rows of a band; w_part[band][tile] <- sums of w^2. */
LLM_KERNEL void llm_adafactor_squares_kernel(float *row_part, float *col_part, float *w_part,
                                             const float *g, const float *w, size_t rows,
                                             size_t cols, float eps1) {
    __shared__ float along[LLM_CUDA_ADAFACTOR_ROWS][8]; /* [row][warp] */
    const size_t tile = blockIdx.x, band = blockIdx.y, first = band * LLM_CUDA_ADAFACTOR_ROWS;
    const size_t column = tile * 256 + threadIdx.x, lane = threadIdx.x % 32;
    float down = 0.0f, size = 0.0f;
    for (size_t i = 0; i < LLM_CUDA_ADAFACTOR_ROWS; i++) {
        float square = 0.0f;
        if (first + i < rows && column < cols) {
            const float v = llm_load(g, (first + i) * cols + column);
            const float u = llm_load(w, (first + i) * cols + column);
            square = v * v + eps1;
            size += u * u;
        }
        down += square;
        const float sum = llm_warp_sum(square);
        if (lane == 0) along[i][threadIdx.x / 32] = sum;
    }
    size = llm_block_sum(size); /* its barrier also completes `along` */
    if (threadIdx.x == 0) llm_store(w_part, band * gridDim.x + tile, size);
    if (column < cols) llm_store(col_part, band * cols + column, down);
    if (threadIdx.x < LLM_CUDA_ADAFACTOR_ROWS && first + threadIdx.x < rows) {
        float sum = 0.0f;
        for (size_t k = 0; k < 8; k++) sum += along[threadIdx.x][k];
        llm_store(row_part, tile * rows + first + threadIdx.x, sum);
    }
}

/* r (rows), unless NULL, and c (cols): averages, b of the old. */
LLM_KERNEL void llm_adafactor_average_kernel(float *r, float *c, const float *row_part,
                                             const float *col_part, size_t rows, size_t cols,
                                             size_t tiles, size_t bands, float b) {
    const size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    float sum = 0.0f;
    if (i < cols) {
        for (size_t band = 0; band < bands; band++) sum += llm_load(col_part, band * cols + i);
        llm_store(c, i, b * llm_load(c, i) + (1.0f - b) * (sum / (float)rows));
    } else if (r && i - cols < rows) {
        const size_t k = i - cols;
        for (size_t tile = 0; tile < tiles; tile++) sum += llm_load(row_part, tile * rows + k);
        llm_store(r, k, b * llm_load(r, k) + (1.0f - b) * (sum / (float)cols));
    }
}
/* info <- the mean of r (1 without), and the size of w: one block. */
LLM_KERNEL void llm_adafactor_info_kernel(float *info, const float *r, const float *w_part,
                                          size_t rows, size_t parts, size_t n) {
    float mean = 0.0f, size = 0.0f;
    for (size_t i = threadIdx.x; r && i < rows; i += blockDim.x) mean += llm_load(r, i);
    for (size_t i = threadIdx.x; i < parts; i += blockDim.x) size += llm_load(w_part, i);
    llm_block_sum2(mean, size);
    if (threadIdx.x != 0) return;
    llm_store(info, 0, r ? mean / (float)rows : 1.0f);
    llm_store(info, 1, sqrtf(size / (float)n));
}

/* u_ij = g / sqrt(V_ij) */
LLM_DEVICE float llm_cuda_adafactor_entry(const float *g, const float *r, const float *c, size_t k,
                                          size_t cols, float mean) {
    const float row = r ? 1.0f / sqrtf(llm_load(r, k / cols) / mean) : 1.0f;
    return llm_load(g, k) * (row / sqrtf(llm_load(c, k % cols)));
}
LLM_KERNEL void llm_adafactor_length_kernel(float *part, const float *g, const float *r,
                                            const float *c, const float *info, size_t n,
                                            size_t cols) {
    const float mean = llm_load(info, 0);
    float sum = 0.0f;
    for (size_t k = (size_t)blockIdx.x * blockDim.x + threadIdx.x; k < n;
         k += (size_t)gridDim.x * blockDim.x) {
        const float u = llm_cuda_adafactor_entry(g, r, c, k, cols, mean);
        sum += u * u;
    }
    sum = llm_block_sum(sum);
    if (threadIdx.x == 0) llm_store(part, blockIdx.x, sum);
}
LLM_KERNEL void llm_adafactor_step_kernel(float *w, float *m, const float *g, const float *r,
                                          const float *c, const float *info, const float *part,
                                          unsigned parts, size_t n, size_t cols,
                                          llm_adafactor_config config, float rate) {
    const float mean = llm_load(info, 0), size = llm_load(info, 1);
    const float rms =
        sqrtf(llm_block_sum(threadIdx.x < parts ? llm_load(part, threadIdx.x) : 0.0f) / (float)n);
    if (config.scale) rate *= size > config.eps2 || size != size ? size : config.eps2;
    const float over = rms / config.clip, step = rate / (over <= 1.0f ? 1.0f : over);
    const float keep = 1.0f - rate * config.weight_decay, b1 = config.beta1;
    for (size_t k = (size_t)blockIdx.x * blockDim.x + threadIdx.x; k < n;
         k += (size_t)gridDim.x * blockDim.x) {
        float u = step * llm_cuda_adafactor_entry(g, r, c, k, cols, mean);
        if (m) {
            u = b1 * llm_load(m, k) + (1.0f - b1) * u;
            llm_store(m, k, u);
        }
        llm_store(w, k, keep * llm_load(w, k) - u);
    }
}

/* How many floats of scratch llm_cuda_adafactor_step needs. */
static inline __attribute__((unused)) size_t llm_cuda_adafactor_scratch(size_t rows, size_t cols) {
    const bool vector = rows == 1 || cols == 1;
    const size_t n = rows * cols, down = vector ? 1 : rows, across = vector ? n : cols;
    const size_t tiles = (across + 255) / 256, bands = (down + 31) / 32;
    return tiles * down + bands * across + tiles * bands + LLM_CUDA_ADAFACTOR_PARTS + 2;
}

/* The step llm_adafactor_step; device pointers, state laid out alike. */
static inline __attribute__((unused)) cudaError_t
llm_cuda_adafactor_step(float *w, float *state, const float *g, size_t rows, size_t cols,
                        const llm_adafactor_config *c, size_t t, float *scratch,
                        cudaStream_t stream) {
    const bool vector = rows == 1 || cols == 1;
    const size_t n = rows * cols, down = vector ? 1 : rows, across = vector ? n : cols;
    const size_t tiles = (across + 255) / 256, bands = (down + 31) / 32;
    if (n == 0) return cudaSuccess;
    float *r = vector ? NULL : state, *col = vector ? state : state + rows;
    float *m = c->beta1 > 0.0f ? col + across : NULL;
    float *row_part = scratch, *col_part = row_part + tiles * down;
    float *w_part = col_part + bands * across, *part = w_part + tiles * bands;
    float *info = part + LLM_CUDA_ADAFACTOR_PARTS;
    const float b = (float)(1.0 - pow((double)t, -(double)c->decay));
    const size_t blocks = (n + 1023) / 1024;
    const unsigned parts =
        (unsigned)(blocks < LLM_CUDA_ADAFACTOR_PARTS ? blocks : (size_t)LLM_CUDA_ADAFACTOR_PARTS);
    double rate = (double)c->lr;
    if (c->relative) rate = fmin(c->warmup ? 1e-6 * (double)t : 1e-2, 1.0 / sqrt((double)t));
    LLM_LAUNCH(llm_adafactor_squares_kernel, dim3((unsigned)tiles, (unsigned)bands), 256, 0, stream,
               row_part, col_part, w_part, g, (const float *)w, down, across, c->eps1);
    LLM_LAUNCH(llm_adafactor_average_kernel, (unsigned)((across + down + 255) / 256), 256, 0,
               stream, r, col, (const float *)row_part, (const float *)col_part, down, across,
               tiles, bands, b);
    LLM_LAUNCH(llm_adafactor_info_kernel, 1, 256, 0, stream, info, (const float *)r,
               (const float *)w_part, down, tiles * bands, n);
    LLM_LAUNCH(llm_adafactor_length_kernel, parts, 256, 0, stream, part, g, (const float *)r,
               (const float *)col, (const float *)info, n, across);
    LLM_LAUNCH(llm_adafactor_step_kernel, parts, LLM_CUDA_ADAFACTOR_PARTS, 0, stream, w, m, g,
               (const float *)r, (const float *)col, (const float *)info, (const float *)part,
               parts, n, across, *c, (float)rate);
    return cudaGetLastError();
}

/* @muon ----------------------------------------------------- Muon
 *
 *     A = X X'      P = b A + c A A      X <- a X + P X             tall: A = X'X, X <- a X + X P
 *
 * One kernel averages the momentum, writes u in the storage of the products and sums the squares of
 * its share; the next adds the sums, 256 at most, in a fixed order and divides. Then three products
 * a round, with the polynomial in their epilogues: P is made where A A leaves the registers, and a
 * X is added where P X does, so nothing is read only to be scaled. A and P are symmetric, so no
 * operand has to be turned for them, and a tall matrix takes its Gram matrix from the other side
 * instead of being transposed. Products run on the tensor cores for bfloat16 rows of whole 16
 * bytes; five rounds in bfloat16 are what the reference does.
 *
 * Operations: 2 k^2 (2 n + k) a round, k the shorter side; half of A and of A A are computed twice,
 * as their symmetry is not used. Limit: tensor cores. The two kernels beside: memory bandwidth.
 *
 * source  -
 * needs   cuda_launch, cuda_memory, cuda_reduce, dense
 * see     cuda_gemm_bf16, adamw (what is not a matrix)
 * topics  -
 */
enum { LLM_CUDA_MUON_PARTS = 256 };

/* out <- by * v + add_by * add (add may be NULL), all (rows,columns). */
template <typename T> struct llm_cuda_muon_end {
    T *out;
    const T *add;
    float by, add_by;
    size_t columns;
    LLM_DEVICE_METHOD void operator()(size_t r, size_t c, const float (&v)[4]) const {
        LLM_UNROLL
        for (size_t k = 0; k < 4; k++) {
            if (c + k >= columns) break;
            const size_t i = r * columns + c + k;
            llm_store(out, i, by * v[k] + (add ? add_by * llm_load(add, i) : 0.0f));
        }
    }
};

/* m <- mu m + (1 - mu) g; x <- u; part <- the sum of squares of each block's entries of u. */
template <typename T>
LLM_KERNEL void llm_muon_momentum_kernel(T *x, float *m, float *part, const float *g, size_t n,
                                         float mu, bool nesterov) {
    float sum = 0.0f;
    for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < n;
         i += (size_t)gridDim.x * blockDim.x) {
        const float g_i = llm_load(g, i), m_i = mu * llm_load(m, i) + (1.0f - mu) * g_i;
        const float u = nesterov ? mu * m_i + (1.0f - mu) * g_i : m_i;
        llm_store(m, i, m_i);
        llm_store(x, i, u);
        sum += u * u;
    }
    sum = llm_block_sum(sum);
    if (threadIdx.x == 0) llm_store(part, blockIdx.x, sum);
}
/* x /= max(|u|, eps). */
template <typename T>
LLM_KERNEL void llm_muon_normalize_kernel(T *x, const float *part, unsigned parts, size_t n,
                                          float eps) {
    const float norm =
        sqrtf(llm_block_sum(threadIdx.x < parts ? llm_load(part, threadIdx.x) : 0.0f));
    const float shrink = 1.0f / fmaxf(norm, eps);
    for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < n;
         i += (size_t)gridDim.x * blockDim.x)
        llm_store(x, i, shrink * llm_load(x, i));
}
template <typename T>
LLM_KERNEL void llm_muon_update_kernel(float *w, const T *x, size_t n, float keep, float step) {
    for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < n;
         i += (size_t)gridDim.x * blockDim.x)
        llm_store(w, i, keep * llm_load(w, i) - step * llm_load(x, i));
}

/* How many T of scratch llm_cuda_muon_step needs. */
static inline __attribute__((unused)) size_t llm_cuda_muon_scratch(size_t rows, size_t cols) {
    const size_t k = rows < cols ? rows : cols;
    return 2 * ((rows * cols + 7) / 8 * 8 + (k * k + 7) / 8 * 8);
}

/* The step llm_muon_step: w, m (rows,cols) in place <- g, device pointers. T, float or llm_bf16, is
 * the storage of the products. scratch: llm_cuda_muon_scratch of T; part: LLM_CUDA_MUON_PARTS
 * floats. */
template <typename T>
static inline cudaError_t llm_cuda_muon_step(float *w, float *m, const float *g, size_t rows,
                                             size_t cols, const llm_muon_config *c, T *scratch,
                                             float *part, cudaStream_t stream) {
    const size_t n = rows * cols, k = rows < cols ? rows : cols, whole = (n + 7) / 8 * 8;
    const double high = (double)rows, wide = (double)cols;
    const size_t blocks = (n + 1023) / 1024;
    const unsigned parts =
        (unsigned)(blocks < LLM_CUDA_MUON_PARTS ? blocks : (size_t)LLM_CUDA_MUON_PARTS);
    double scale = sqrt(fmax(1.0, high / wide));
    if (n == 0) return cudaSuccess;
    if (c->scale == LLM_MUON_MATCH_ADAMW) scale = 0.2 * sqrt(fmax(high, wide));
    if (c->scale == LLM_MUON_SPECTRAL) scale = sqrt(high / wide);
    T *x = scratch, *next = x + whole, *gram = next + whole, *poly = gram + (k * k + 7) / 8 * 8;
    LLM_LAUNCH(llm_muon_momentum_kernel<T>, parts, 256, 0, stream, x, m, part, g, n, c->momentum,
               c->nesterov);
    LLM_LAUNCH(llm_muon_normalize_kernel<T>, parts, LLM_CUDA_MUON_PARTS, 0, stream, x,
               (const float *)part, parts, n, c->eps);
    for (size_t round = 0; round < c->rounds; round++) {
        const llm_cuda_muon_end<T> to_gram = {gram, NULL, 1.0f, 0.0f, k};
        const llm_cuda_muon_end<T> to_poly = {poly, gram, c->c, c->b, k};
        const llm_cuda_muon_end<T> to_next = {next, x, 1.0f, c->a, cols};
        const bool tall = rows > cols;
        const cudaError_t done[] = {
            tall ? llm_cuda_dense_product<true, true, T>::launch(to_gram, x, x, k, k, rows, 1, rows,
                                                                 stream)
                 : llm_cuda_dense_product<false, false, T>::launch(to_gram, x, x, k, k, cols, 1,
                                                                   cols, stream),
            llm_cuda_dense_product<false, false, T>::launch(to_poly, gram, gram, k, k, k, 1, k,
                                                            stream),
            tall ? llm_cuda_dense_product<false, false, T>::launch(to_next, x, poly, rows, cols, k,
                                                                   1, k, stream)
                 : llm_cuda_dense_product<false, true, T>::launch(to_next, poly, x, rows, cols, k,
                                                                  1, k, stream)};
        const cudaError_t error = llm_cuda_first_error(done);
        if (error != cudaSuccess) return error;
        T *swap = x;
        x = next, next = swap;
    }
    LLM_LAUNCH(llm_muon_update_kernel<T>, parts, 256, 0, stream, w, (const T *)x, n,
               (float)(1.0 - (double)c->lr * (double)c->weight_decay),
               (float)((double)c->lr * scale));
    return cudaGetLastError();
}

/* @shampoo -------------------------------------------------- Shampoo
 *
 *     l <- keep l + add g g'     r <- keep r + add g'g          u = l^-1/4 g r^-1/4
 *
 * The statistics are symmetric: blocks take the tiles on and below the diagonal, and write each a
 * second time mirrored, half the multiply-adds of a product. The roots come from products alone
 * (coupled Newton), so that nothing goes to the host: X and M = X^4 A start as multiples of I and
 * A, and a round multiplies both by a polynomial that takes M to I; it is formed where M leaves the
 * registers. In float an eigenvalue below 1e-6 of the largest is rounding: ridge has to be above
 * that, where the reference goes on in double. The step is two products, and what grafting needs,
 * the lengths of u and of the other method's step, are summed on the way of a kernel that updates
 * Adam's squares.
 *
 * Operations: k^2 n for a side k of the statistics (half of a product's 2 k^2 n), 8 k^3 a round of
 * the root, 2 m n (m + n) for the step. Limit: float multiply-adds; the kernels beside: memory
 * bandwidth.
 *
 * source  Anil et al. 2020, "Scalable Second Order Optimization for Deep Learning" (coupled Newton)
 * needs   cuda_launch, cuda_memory, cuda_reduce, cuda_gemm, dense
 * see     muon
 * topics  -
 */
enum { LLM_CUDA_SHAMPOO_PARTS = 256, LLM_CUDA_SHAMPOO_ROUNDS = 25 };

/* c (n,n) <- keep c + add v, and, off the diagonal's tiles, the same on its other side. */
struct llm_cuda_shampoo_sum {
    float *c;
    float keep, add;
    size_t n;
    bool mirror;
    LLM_DEVICE_METHOD void operator()(size_t row, size_t column, const float (&v)[4]) const {
        for (size_t k = 0; k < 4 && column + k < n; k++) {
            const size_t at = row * n + column + k;
            const float sum = keep * llm_load(c, at) + add * v[k];
            llm_store(c, at, sum);
            if (mirror) llm_store(c, (column + k) * n + row, sum);
        }
    }
};
/* turned: of g' instead of g. */
template <bool turned>
LLM_KERNEL void __launch_bounds__(256)
    llm_shampoo_statistics_kernel(float *c, const float *g, size_t n, size_t K, float keep,
                                  float add) {
    const size_t t = blockIdx.x; /* tile rows of 1, 2, 3 .. tiles: 0, 1, 3, 6 .. begin them */
    size_t row = (size_t)((sqrt(8.0 * (double)t + 1.0) - 1.0) / 2.0);
    while (row * (row + 1) / 2 > t) row--;
    while ((row + 1) * (row + 2) / 2 <= t) row++;
    const size_t column = t - row * (row + 1) / 2;
    const llm_cuda_shampoo_sum sum = {c, keep, add, n, row != column};
    llm_cuda_gemm_product<turned, turned>(sum, g, g, row * LLM_CUDA_GEMM_TILE,
                                          column * LLM_CUDA_GEMM_TILE, 0, K, n, n, K);
}
/* l (rows,rows), r (cols,cols) in place, symmetric <- g (rows,cols), which has to be finite: a NaN
 * would stay in them. keep as in llm_shampoo_config: 1 sums, below 1 averages. */
static inline __attribute__((unused)) cudaError_t
llm_cuda_shampoo_statistics(float *l, float *r, const float *g, size_t rows, size_t cols,
                            float keep, cudaStream_t stream) {
    const size_t down = (rows + LLM_CUDA_GEMM_TILE - 1) / LLM_CUDA_GEMM_TILE;
    const size_t across = (cols + LLM_CUDA_GEMM_TILE - 1) / LLM_CUDA_GEMM_TILE;
    const float add = keep < 1.0f ? 1.0f - keep : 1.0f;
    if (rows == 0 || cols == 0) return cudaSuccess;
    LLM_LAUNCH(llm_shampoo_statistics_kernel<false>, (unsigned)(down * (down + 1) / 2), 256, 0,
               stream, l, g, rows, cols, keep, add);
    LLM_LAUNCH(llm_shampoo_statistics_kernel<true>, (unsigned)(across * (across + 1) / 2), 256, 0,
               stream, r, g, cols, rows, keep, add);
    return cudaGetLastError();
}

/* out (n,n) <- v; t (n,n), unless NULL, <- the round's polynomial (5 I - v) / 4. */
struct llm_cuda_shampoo_newton {
    float *out, *t;
    size_t n;
    LLM_DEVICE_METHOD void operator()(size_t row, size_t column, const float (&v)[4]) const {
        for (size_t k = 0; k < 4 && column + k < n; k++) {
            llm_store(out, row * n + column + k, v[k]);
            const float one = row == column + k ? 5.0f : 0.0f;
            if (t) llm_store(t, row * n + column + k, 0.25f * (one - v[k]));
        }
    }
};
/* bound (n) <- the rows' sums of absolute values, the largest of which no eigenvalue exceeds. */
LLM_KERNEL void llm_shampoo_bound_kernel(float *bound, const float *a, size_t n) {
    float sum = 0.0f;
    for (size_t i = threadIdx.x; i < n; i += blockDim.x)
        sum += fabsf(llm_load(a, blockIdx.x * n + i));
    sum = llm_block_sum(sum);
    if (threadIdx.x == 0) llm_store(bound, blockIdx.x, sum);
}
LLM_KERNEL void llm_shampoo_begin_kernel(float *x, float *m, float *t, const float *bound,
                                         const float *a, size_t n, float ridge) {
    float most = 0.0f;
    for (size_t i = threadIdx.x; i < n; i += blockDim.x) most = fmaxf(most, llm_load(bound, i));
    const float z = 2.5f / (llm_block_max(most) + ridge);
    for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < n * n;
         i += (size_t)gridDim.x * blockDim.x) {
        const float one = i / n == i % n ? 1.0f : 0.0f, m_i = z * (llm_load(a, i) + ridge * one);
        llm_store(m, i, m_i);
        llm_store(x, i, one * sqrtf(sqrtf(z)));
        llm_store(t, i, 0.25f * (5.0f * one - m_i));
    }
}
LLM_KERNEL void llm_shampoo_off_kernel(float *off, const float *m, size_t n) {
    float most = 0.0f;
    for (size_t i = threadIdx.x; i < n * n; i += blockDim.x) {
        const float by = fabsf(llm_load(m, i) - (i / n == i % n ? 1.0f : 0.0f));
        most = by >= 0.0f ? fmaxf(most, by) : INFINITY; /* NaN too is far off */
    }
    most = llm_block_max(most);
    if (threadIdx.x == 0) llm_store(off, 0, most);
}
/* x (n,n) <- (a + ridge I)^-1/4, a (n,n) symmetric, in so many rounds (LLM_CUDA_SHAMPOO_ROUNDS for
 * a condition of 1e6). off (1), or NULL, <- how far M is from I: near 1e-5, or it did not work out.
 * scratch: 6 n n floats. */
static inline __attribute__((unused)) cudaError_t
llm_cuda_shampoo_root(float *x, float *off, const float *a, size_t n, size_t rounds, float ridge,
                      float *scratch, cudaStream_t stream) {
    float *t = scratch, *square = t + n * n, *fourth = square + n * n, *m = fourth + n * n;
    float *m_next = m + n * n, *other = m_next + n * n;
    float *now = rounds % 2 ? other : x, *next = rounds % 2 ? x : other; /* ends in x */
    if (n == 0) return cudaSuccess;
    LLM_LAUNCH(llm_shampoo_bound_kernel, (unsigned)n, 256, 0, stream, square, a, n);
    LLM_LAUNCH(llm_shampoo_begin_kernel, (unsigned)((n * n + 4095) / 4096), 256, 0, stream, now, m,
               t, (const float *)square, a, n, ridge);
    for (size_t round = 0; round < rounds; round++) {
        const llm_cuda_shampoo_newton to[4] = {
            {next, NULL, n}, {square, NULL, n}, {fourth, NULL, n}, {m_next, t, n}};
        const float *left[4] = {now, t, square, fourth}, *right[4] = {t, t, square, m};
        for (size_t i = 0; i < 4; i++) { /* all symmetric, and all commute */
            const cudaError_t error = llm_cuda_dense_product<false, false, float>::launch(
                to[i], left[i], right[i], n, n, n, 1, n, stream);
            if (error != cudaSuccess) return error;
        }
        float *swap = now;
        now = next, next = swap;
        swap = m, m = m_next, m_next = swap;
    }
    if (off) LLM_LAUNCH(llm_shampoo_off_kernel, 1, 1024, 0, stream, off, (const float *)m, n);
    return cudaGetLastError();
}

/* @shampoo_step --------------------------------------------- Shampoo: the step
 *
 *     u = pl g pr       m <- momentum m + scale u       w <- (1 - lr decay) w - lr m
 *
 * Two products, the left one first. Then one kernel updates Adam's squares v, which grafting takes
 * the length from, and leaves the squares of both steps summed in a fixed order; the last reads the
 * sums, and with them the scale, on the device.
 *
 * 2 m n (m + n) operations. Moves 44 bytes a weight beside the products (v in and out, g, u twice,
 * m and w in and out): two trips for u, whose length has to be known first. Limit: float
 * multiply-adds.
 *
 * source  Anil et al. 2020, "Scalable Second Order Optimization for Deep Learning" (grafting)
 * needs   cuda_launch, cuda_memory, cuda_reduce, dense, shampoo
 * see     muon
 * topics  -
 */

/* out (rows,columns) <- v. */
struct llm_cuda_shampoo_step_end {
    float *out;
    size_t columns;
    LLM_DEVICE_METHOD void operator()(size_t row, size_t column, const float (&v)[4]) const {
        for (size_t k = 0; k < 4 && column + k < columns; k++)
            llm_store(out, row * columns + column + k, v[k]);
    }
};
/* part (2,gridDim.x) <- each block's shares of |u|^2 and of the other step's; v, Adam's, in
 * place. */
LLM_KERNEL void llm_shampoo_step_length_kernel(float *part, float *v, const float *u,
                                               const float *g, size_t n, float beta2, float correct,
                                               bool adam) {
    float own = 0.0f, other = 0.0f;
    for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < n;
         i += (size_t)gridDim.x * blockDim.x) {
        const float u_i = llm_load(u, i), g_i = llm_load(g, i);
        const float v_i = beta2 * llm_load(v, i) + (1.0f - beta2) * g_i * g_i;
        const float to = adam ? g_i / (sqrtf(v_i / correct) + 1e-8f) : g_i;
        llm_store(v, i, v_i);
        own += u_i * u_i;
        other += to * to;
    }
    llm_block_sum2(own, other);
    if (threadIdx.x != 0) return;
    llm_store(part, blockIdx.x, own);
    llm_store(part, gridDim.x + blockIdx.x, other);
}
LLM_KERNEL void llm_shampoo_step_kernel(float *w, float *m, const float *u, const float *part,
                                        unsigned parts, size_t n, float momentum, float keep,
                                        float lr, bool graft) {
    float own = threadIdx.x < parts ? llm_load(part, threadIdx.x) : 0.0f;
    float other = threadIdx.x < parts ? llm_load(part, parts + threadIdx.x) : 0.0f;
    llm_block_sum2(own, other);
    if (!(own + other < INFINITY)) return;
    const float scale = graft && own > 0.0f ? sqrtf(other / own) : 1.0f;
    for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < n;
         i += (size_t)gridDim.x * blockDim.x) {
        const float m_i = momentum * llm_load(m, i) + scale * llm_load(u, i);
        llm_store(m, i, m_i);
        llm_store(w, i, keep * llm_load(w, i) - lr * m_i);
    }
}

/* w, m, v (rows,cols) in place <- g, and the roots pl (rows,rows), pr (cols,cols) of
 * llm_cuda_shampoo_root: what llm_shampoo_step does with them at step t = 1, 2, .. A gradient that
 * is not finite leaves w and m. scratch: 2 rows cols floats; part: 2 LLM_CUDA_SHAMPOO_PARTS. */
static inline __attribute__((unused)) cudaError_t
llm_cuda_shampoo_step(float *w, float *m, float *v, const float *g, const float *pl,
                      const float *pr, size_t rows, size_t cols, const llm_shampoo_config *c,
                      size_t t, float *scratch, float *part, cudaStream_t stream) {
    const size_t n = rows * cols, blocks = (n + 1023) / 1024;
    const unsigned parts =
        (unsigned)(blocks < LLM_CUDA_SHAMPOO_PARTS ? blocks : (size_t)LLM_CUDA_SHAMPOO_PARTS);
    float *left = scratch, *u = scratch + n;
    if (n == 0) return cudaSuccess;
    const llm_cuda_shampoo_step_end to_left = {left, cols}, to_u = {u, cols};
    const cudaError_t done[] = {
        llm_cuda_dense_product<false, true, float>::launch(to_left, pl, g, rows, cols, rows, 1,
                                                           rows, stream),
        llm_cuda_dense_product<false, false, float>::launch(to_u, (const float *)left, pr, rows,
                                                            cols, cols, 1, cols, stream)};
    if (llm_cuda_first_error(done) != cudaSuccess) return llm_cuda_first_error(done);
    const double correct = 1.0 - pow((double)c->beta2, (double)t);
    LLM_LAUNCH(llm_shampoo_step_length_kernel, parts, 256, 0, stream, part, v, (const float *)u, g,
               n, c->beta2, (float)correct, c->graft == LLM_SHAMPOO_ADAM);
    LLM_LAUNCH(llm_shampoo_step_kernel, parts, LLM_CUDA_SHAMPOO_PARTS, 0, stream, w, m,
               (const float *)u, (const float *)part, parts, n, c->momentum,
               (float)(1.0 - (double)c->lr * (double)c->weight_decay), c->lr,
               c->graft != LLM_SHAMPOO_OWN);
    return cudaGetLastError();
}

/* @sam ------------------------------------------------------ Sharpness-aware minimization
 *
 *     w <- w + rho g / |g|       |g| over all tensors            saved <- w, and back
 *
 * Up to the worst neighbour and down again, all tensors of a model in one launch each as in
 * @gradient_descent. The norm of all gradients is summed in two stages without atomics and stays on
 * the device, where every block of the walk reads it: nothing waits for the host between the two
 * gradients of a step. For ASAM the sum reads the weights too. Coming back is a copy: adding and
 * subtracting e would not bring back every bit.
 *
 * Squares are summed in double: 1e20 squared is no float. Moves 4 bytes a weight for the norm (g
 * in; adaptive 8), 16 up (w in and out, g in, saved out), 8 down, the minimum in place: 28. Limit:
 * memory bandwidth on cards with full double arithmetic.
 *
 * source  Foret et al. 2021, "Sharpness-Aware Minimization for Efficiently Improving
 *         Generalization", eq. 2; Kwon et al. 2021, "ASAM", eq. 4
 * needs   cuda_launch, cuda_memory, cuda_reduce
 * see     gradient_descent, grad_clip
 * topics  -
 */
enum { LLM_CUDA_SAM_BLOCKS = 1024, LLM_CUDA_SAM_TENSORS = 48, LLM_CUDA_SAM_CHUNK = 4096 };

/* w, saved, g (n): device pointers, saved is written on the way up. */
typedef struct {
    float *w, *saved;
    const float *g;
    size_t n;
} llm_cuda_sam_tensor;
typedef struct {
    llm_cuda_sam_tensor tensor[LLM_CUDA_SAM_TENSORS];
    unsigned first_block[LLM_CUDA_SAM_TENSORS + 1]; /* and how many there are */
} llm_cuda_sam_list;

/* The squares of entries i .. i + V - 1 of g, adaptive of T g. */
template <int V>
LLM_DEVICE double llm_cuda_sam_square(const llm_cuda_sam_tensor &t, size_t i, bool adaptive,
                                      float eta) {
    float w[V], g[V];
    double sum = 0.0;
    llm_load_vector(g, t.g, i);
    if (adaptive) llm_load_vector(w, t.w, i);
    LLM_UNROLL
    for (int k = 0; k < V; k++) {
        const double v = (double)g[k] * (adaptive ? (double)(fabsf(w[k]) + eta) : 1.0);
        sum += v * v;
    }
    return sum;
}
/* part (gridDim.x) <- or += each block's share of all the squares. */
LLM_KERNEL void llm_sam_squares_kernel(double *part, llm_cuda_sam_list list, bool adaptive,
                                       float eta, bool again) {
    const size_t begin = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    const size_t step = (size_t)gridDim.x * blockDim.x;
    double sum = 0.0;
    for (size_t at = 0; at < LLM_CUDA_SAM_TENSORS; at++) {
        const llm_cuda_sam_tensor &t = list.tensor[at];
        const bool wide = ((uintptr_t)t.g | (adaptive ? (uintptr_t)t.w : 0)) % 16 == 0;
        const size_t whole = wide ? t.n / 4 * 4 : 0;
        for (size_t i = 4 * begin; i < whole; i += 4 * step)
            sum += llm_cuda_sam_square<4>(t, i, adaptive, eta);
        for (size_t i = whole + begin; i < t.n; i += step)
            sum += llm_cuda_sam_square<1>(t, i, adaptive, eta);
    }
    sum = llm_block_sum(sum);
    if (threadIdx.x == 0) part[blockIdx.x] = again ? part[blockIdx.x] + sum : sum;
}
LLM_KERNEL void llm_sam_norm_kernel(float *norm_scale, const double *part, unsigned parts,
                                    float rho) {
    const double norm = sqrt(llm_block_sum(threadIdx.x < parts ? part[threadIdx.x] : 0.0));
    if (threadIdx.x != 0) return;
    llm_store(norm_scale, 0, (float)norm);
    llm_store(norm_scale, 1, (float)((double)rho / (norm + 1e-12)));
}

/* Entries i .. i + V - 1: up by scale, or with g = NULL back. */
template <int V>
LLM_DEVICE void llm_cuda_sam_entries(const llm_cuda_sam_tensor &t, size_t i, float scale,
                                     bool adaptive, float eta, bool up) {
    float w[V], g[V];
    if (!up) {
        llm_load_vector(w, t.saved, i);
        llm_store_vector(t.w, i, w);
        return;
    }
    llm_load_vector(w, t.w, i);
    llm_load_vector(g, t.g, i);
    llm_store_vector(t.saved, i, w);
    LLM_UNROLL
    for (int k = 0; k < V; k++) {
        const float stretch = adaptive ? fabsf(w[k]) + eta : 1.0f;
        w[k] += scale * stretch * (stretch * g[k]);
    }
    llm_store_vector(t.w, i, w);
}
LLM_KERNEL void llm_sam_walk_kernel(llm_cuda_sam_list list, const float *norm_scale, bool adaptive,
                                    float eta, bool up) {
    const float scale = up ? llm_load(norm_scale, 1) : 0.0f;
    unsigned at = 0; /* this block's tensor */
    while (list.first_block[at + 1] <= blockIdx.x) at++;
    const llm_cuda_sam_tensor &t = list.tensor[at];
    const size_t begin = (size_t)(blockIdx.x - list.first_block[at]) * LLM_CUDA_SAM_CHUNK;
    const size_t end = begin + LLM_CUDA_SAM_CHUNK < t.n ? begin + LLM_CUDA_SAM_CHUNK : t.n;
    const uintptr_t where = (uintptr_t)t.w | (uintptr_t)t.saved | (up ? (uintptr_t)t.g : 0);
    const size_t whole = where % 16 == 0 ? end - (end - begin) % 4 : begin;
    for (size_t i = begin + 4 * threadIdx.x; i < whole; i += 4 * blockDim.x)
        llm_cuda_sam_entries<4>(t, i, scale, adaptive, eta, up);
    for (size_t i = whole + threadIdx.x; i < end; i += blockDim.x)
        llm_cuda_sam_entries<1>(t, i, scale, adaptive, eta, up);
}

/* list <- up to 48 of the tensors from `first` on. Returns the blocks of a walk over them. */
static inline __attribute__((unused)) unsigned llm_cuda_sam_take(llm_cuda_sam_list *list,
                                                                 const llm_cuda_sam_tensor *tensor,
                                                                 size_t first, size_t count) {
    unsigned blocks = 0;
    for (size_t i = 0; i < LLM_CUDA_SAM_TENSORS; i++) {
        const llm_cuda_sam_tensor none = {NULL, NULL, NULL, 0};
        list->first_block[i] = blocks;
        list->tensor[i] = first + i < count ? tensor[first + i] : none;
        blocks += (unsigned)((list->tensor[i].n + LLM_CUDA_SAM_CHUNK - 1) / LLM_CUDA_SAM_CHUNK);
    }
    list->first_block[LLM_CUDA_SAM_TENSORS] = blocks;
    return blocks;
}
/* Up, or back. */
static inline __attribute__((unused)) cudaError_t
llm_cuda_sam_walk(const llm_cuda_sam_tensor *tensor, size_t count, const llm_sam_config *c,
                  const float *norm_scale, bool up, cudaStream_t stream) {
    llm_cuda_sam_list list;
    for (size_t first = 0; first < count; first += LLM_CUDA_SAM_TENSORS) {
        const unsigned blocks = llm_cuda_sam_take(&list, tensor, first, count);
        if (blocks == 0) continue;
        LLM_LAUNCH(llm_sam_walk_kernel, blocks, 256, 0, stream, list, norm_scale, c->adaptive,
                   c->eta, up);
        const cudaError_t error = cudaGetLastError();
        if (error != cudaSuccess) return error;
    }
    return cudaSuccess;
}

/* llm_sam_perturb for all tensors of a model (a host array): saved <- w, w += e with one norm over
 * all g. norm_scale (2) <- |g| (adaptive |T g|) and rho / |g|, on the device. scratch:
 * LLM_CUDA_SAM_BLOCKS doubles. */
static inline __attribute__((unused)) cudaError_t
llm_cuda_sam_perturb(const llm_cuda_sam_tensor *tensor, size_t count, const llm_sam_config *c,
                     float *norm_scale, double *scratch, cudaStream_t stream) {
    llm_cuda_sam_list list;
    size_t first = 0, parts = 0; /* as many as there are chunks, whatever the card */
    for (size_t i = 0; i < count; i++)
        parts += (tensor[i].n + LLM_CUDA_SAM_CHUNK - 1) / LLM_CUDA_SAM_CHUNK;
    parts = parts == 0 ? 1 : parts < LLM_CUDA_SAM_BLOCKS ? parts : (size_t)LLM_CUDA_SAM_BLOCKS;
    do {
        llm_cuda_sam_take(&list, tensor, first, count);
        LLM_LAUNCH(llm_sam_squares_kernel, (unsigned)parts, 256, 0, stream, scratch, list,
                   c->adaptive, c->eta, first > 0);
        first += LLM_CUDA_SAM_TENSORS;
    } while (first < count && cudaPeekAtLastError() == cudaSuccess);
    LLM_LAUNCH(llm_sam_norm_kernel, 1, LLM_CUDA_SAM_BLOCKS, 0, stream, norm_scale,
               (const double *)scratch, (unsigned)parts, c->rho);
    const cudaError_t error = cudaGetLastError();
    return error == cudaSuccess
               ? llm_cuda_sam_walk(tensor, count, c, (const float *)norm_scale, true, stream)
               : error;
}
/* w <- saved, of every tensor. */
static inline __attribute__((unused)) cudaError_t
llm_cuda_sam_restore(const llm_cuda_sam_tensor *tensor, size_t count, cudaStream_t stream) {
    const llm_sam_config c = llm_sam_defaults();
    return llm_cuda_sam_walk(tensor, count, &c, NULL, false, stream);
}

/* @grad_clip ------------------------------------------------ Gradient clipping
 *
 * The norm of all gradients of a model, in two stages without atomics: 1024 blocks each sum the
 * squares of a fixed share of every tensor, then one block adds the 1024 sums. The order does not
 * depend on the card, so two runs clip alike. The norm and the factor that clips stay on the
 * device: copying them to the host to decide there would stop the queue at every step. AdamW reads
 * the factor while it reads the gradients, so clipping costs no memory traffic of its own.
 *
 * Squares are summed in double: a gradient of 1e20 squared is not a float. A norm that is not
 * finite gives a factor that is not either, and the optimizer then skips the step.
 *
 * Moves 4 bytes an entry (g in), the minimum. Limit: memory bandwidth on cards with full double
 * arithmetic (A100, H100, H200), its double units elsewhere.
 *
 * source  -
 * needs   cuda_launch, cuda_memory, cuda_reduce
 * see     adamw
 * topics  -
 */
enum { LLM_CUDA_GRAD_CLIP_BLOCKS = 1024, LLM_CUDA_GRAD_CLIP_TENSORS = 128 };

typedef struct {
    const float *g[LLM_CUDA_GRAD_CLIP_TENSORS];
    size_t n[LLM_CUDA_GRAD_CLIP_TENSORS];
    size_t count;
} llm_cuda_grad_clip_list;

LLM_KERNEL void llm_grad_clip_squares_kernel(double *part, llm_cuda_grad_clip_list list,
                                             bool again) {
    const size_t begin = blockIdx.x * blockDim.x + threadIdx.x, step = gridDim.x * blockDim.x;
    double sum = 0.0;
    for (size_t t = 0; t < list.count; t++) {
        const float *g = list.g[t];
        const size_t whole = (uintptr_t)g % 16 == 0 ? list.n[t] / 4 * 4 : 0;
        for (size_t i = 4 * begin; i < whole; i += 4 * step) {
            float v[4];
            llm_load_vector(v, g, i);
            LLM_UNROLL
            for (int k = 0; k < 4; k++) sum += (double)v[k] * (double)v[k];
        }
        for (size_t i = whole + begin; i < list.n[t]; i += step) {
            const double v = (double)llm_load(g, i);
            sum += v * v;
        }
    }
    sum = llm_block_sum(sum);
    if (threadIdx.x == 0) part[blockIdx.x] = again ? part[blockIdx.x] + sum : sum;
}
LLM_KERNEL void llm_grad_clip_factor_kernel(float *norm_factor, const double *part,
                                            float max_norm) {
    const double sum = llm_block_sum(part[threadIdx.x]);
    if (threadIdx.x != 0) return;
    const float norm = (float)sqrt(sum), factor = max_norm / (norm + 1e-6f);
    llm_store(norm_factor, 0, norm);
    llm_store(norm_factor, 1, !(norm < INFINITY) ? NAN : factor < 1.0f ? factor : 1.0f);
}

/* norm_factor (2) <- the norm of the `count` gradients g[i] (n[i]) together, and what clips them to
 * max_norm: at most 1, NaN if the norm is not finite. g and n are host arrays, g[i] and the rest on
 * the device. scratch: LLM_CUDA_GRAD_CLIP_BLOCKS doubles. */
static inline __attribute__((unused)) cudaError_t
llm_cuda_grad_clip_norm(float *norm_factor, const float *const *g, const size_t *n, size_t count,
                        float max_norm, double *scratch, cudaStream_t stream) {
    llm_cuda_grad_clip_list list;
    size_t first = 0;
    do {
        list.count = 0;
        for (; first + list.count < count && list.count < LLM_CUDA_GRAD_CLIP_TENSORS;
             list.count++) {
            list.g[list.count] = g[first + list.count];
            list.n[list.count] = n[first + list.count];
        }
        LLM_LAUNCH(llm_grad_clip_squares_kernel, LLM_CUDA_GRAD_CLIP_BLOCKS, 256, 0, stream, scratch,
                   list, first > 0);
        first += list.count;
    } while (first < count && cudaPeekAtLastError() == cudaSuccess);
    LLM_LAUNCH(llm_grad_clip_factor_kernel, 1, LLM_CUDA_GRAD_CLIP_BLOCKS, 0, stream, norm_factor,
               scratch, max_norm);
    return cudaGetLastError();
}

LLM_KERNEL void llm_grad_clip_scale_kernel(float *g, size_t n, const float *factor) {
    const float by = llm_load(factor, 0);
    const size_t begin = blockIdx.x * blockDim.x + threadIdx.x, step = gridDim.x * blockDim.x;
    for (size_t i = begin; i < n; i += step) llm_store(g, i, by * llm_load(g, i));
}
/* g (n) *= the factor on the device, for an optimizer that does not read it itself. */
static inline __attribute__((unused)) cudaError_t
llm_cuda_grad_clip_scale(float *g, size_t n, const float *factor, cudaStream_t stream) {
    if (n == 0) return cudaSuccess;
    const size_t blocks = (n + 255) / 256, most = 16 * (size_t)llm_multiprocessors();
    LLM_LAUNCH(llm_grad_clip_scale_kernel, (unsigned)(blocks < most ? blocks : most), 256, 0,
               stream, g, n, factor);
    return cudaGetLastError();
}

/* @agc ------------------------------------------------------ Adaptive gradient clipping
 *
 * A warp a unit (a row of weights): it sums the squares of both rows, and where the gradient is too
 * long it reads it a second time, from cache, and writes it back shorter. Units within their bound
 * write nothing. A row of a large layer is a few kilobytes, so 8 units a block share nothing and
 * need no barrier.
 *
 * Squares are summed in double: 1e25 squared is no float. Moves 8 bytes a weight (w and g in), and
 * 4 more for units that are clipped, the minimum. Limit: memory bandwidth on cards with full double
 * arithmetic.
 *
 * source  -
 * needs   cuda_launch, cuda_memory
 * see     grad_clip (one norm for all)
 * topics  -
 */
LLM_KERNEL void llm_agc_kernel(float *g, const float *w, unsigned *clipped, size_t units,
                               size_t size, float lambda, float eps) {
    const size_t unit = (size_t)blockIdx.x * 8 + threadIdx.x / 32, lane = threadIdx.x % 32;
    if (unit >= units) return; /* the whole warp leaves */
    double g_sq = 0.0, w_sq = 0.0;
    for (size_t i = lane; i < size; i += 32) {
        const double a = (double)llm_load(g, unit * size + i);
        const double b = (double)llm_load(w, unit * size + i);
        g_sq += a * a;
        w_sq += b * b;
    }
    LLM_UNROLL
    for (int distance = 16; distance > 0; distance /= 2) {
        g_sq += __shfl_xor_sync(0xffffffffu, g_sq, distance);
        w_sq += __shfl_xor_sync(0xffffffffu, w_sq, distance);
    }
    const double length = sqrt(g_sq), most = (double)lambda * fmax((double)eps, sqrt(w_sq));
    const bool within = length <= most; /* NaN is not */
    if (clipped && lane == 0) clipped[unit] = within ? 0 : 1;
    if (within) return;
    const float factor = (float)(most / length);
    for (size_t i = lane; i < size; i += 32)
        llm_store(g, unit * size + i, factor * llm_load(g, unit * size + i));
}

/* g (units,size) in place <- w (units,size), device pointers: LLM_AGC_ROWS of the reference.
 * clipped (units) <- 1 for each unit that was too long, or NULL. */
static inline __attribute__((unused)) cudaError_t
llm_cuda_agc_clip(float *g, const float *w, unsigned *clipped, size_t units, size_t size,
                  const llm_agc_config *c, cudaStream_t stream) {
    if (units == 0) return cudaSuccess;
    LLM_LAUNCH(llm_agc_kernel, (unsigned)((units + 7) / 8), 256, 0, stream, g, w, clipped, units,
               size, c->lambda, c->eps);
    return cudaGetLastError();
}

/* @grad_accum ----------------------------------------------- Gradient accumulation
 *
 * sum += weight g, from gradients stored as float or bfloat16 into a float sum: 8 bits of
 * significand stop growing after 256 equal terms. The weight is the number of kept targets of the
 * micro-batch, or that over the total when it is known beforehand, which saves the pass that
 * divides.
 *
 * Moves 12 bytes an entry for float (sum in and out, g in), 10 for bfloat16, the minimum. Limit:
 * memory bandwidth.
 *
 * source  -
 * needs   cuda_launch, cuda_memory, cuda_reduce
 * see     grad_clip, adamw
 * topics  -
 */
template <typename T, int V>
LLM_KERNEL void llm_grad_accum_kernel(float *sum, const T *g, float weight, size_t n) {
    const size_t i = llm_my_place<V>(n).column;
    if (i >= n) return;
    float v[V], s[V];
    llm_load_vector(v, g, i);
    llm_load_vector(s, sum, i);
    LLM_UNROLL
    for (int k = 0; k < V; k++) s[k] += weight * v[k];
    llm_store_vector(sum, i, s);
}
/* sum (n) += weight g (n); T is float or llm_bf16. With weight 0, g is not read. */
template <typename T>
static inline cudaError_t llm_cuda_grad_accum_add(float *sum, const T *g, float weight, size_t n,
                                                  cudaStream_t stream) {
    enum { V = 16 / sizeof(T) };
    if (n == 0 || weight == 0.0f) return cudaSuccess;
    const bool wide = llm_aligned(sum, n) && llm_aligned(g, n);
    const auto grad_accum = wide ? llm_grad_accum_kernel<T, V> : llm_grad_accum_kernel<T, 1>;
    LLM_LAUNCH(grad_accum, llm_place_blocks(1, n, wide ? (size_t)V : 1), 256, 0, stream, sum, g,
               weight, n);
    return cudaGetLastError();
}

/* @grad_noise_scale ----------------------------------------- Gradient noise scale
 *
 *     dense     |dW_n|^2 = |dy_n|^2 (|x_n|^2 + 1)                          a token an example
 *     tokens    |dW_n|^2 = sum_ts (dy_t.dy_s) (x_t.x_s + 1)                a sequence of them
 *
 * The squared length of each example's gradient of a linear layer, from what backward has in its
 * hands anyway, without the O C numbers of the gradient itself. One row an example: a warp sums the
 * squares of both rows in double. A sequence: the gradient is a sum of outer products, and its
 * square all pairs of them. A block makes the tile of pairs (t, s) twice with @cuda_pairs, of dy
 * and of x, multiplies them where they are, in registers, and adds up; of the tiles above the
 * diagonal only one side is made and counted twice. The sums of the tiles are added in order.
 *
 * dense moves O + C numbers a row, the minimum; limit: memory bandwidth. tokens: T^2 (O + C)
 * operations an example, less than the 2 T O C of the gradient while T < 2 O C / (O + C): limit:
 * float multiply-adds.
 *
 * source  Goodfellow 2015, "Efficient per-example gradient computations"; Li et al. 2022, "Large
 *         language models can be strong differentially private learners" (ghost norm)
 * needs   cuda_launch, cuda_memory, cuda_reduce, cuda_pairs
 * see     grad_clip, grad_accum
 * topics  -
 */
template <typename T, int V>
LLM_DEVICE double llm_cuda_grad_noise_scale_square(const T *row, size_t n) {
    double sum = 0.0;
    for (size_t i = (size_t)(threadIdx.x % 32) * V; i < n; i += 32 * V) {
        float v[V];
        llm_load_vector(v, row, i);
        LLM_UNROLL
        for (int k = 0; k < V; k++) sum += (double)v[k] * (double)v[k];
    }
    for (int distance = 16; distance > 0; distance /= 2)
        sum += __shfl_xor_sync(0xffffffffu, sum, distance);
    return sum;
}
template <typename T, int V>
LLM_KERNEL void llm_grad_noise_scale_dense_kernel(double *square, const T *dy, const T *x, size_t N,
                                                  size_t C, size_t O, bool bias) {
    const size_t n = llm_my_row<true>().row;
    if (n >= N) return; /* a whole warp */
    const double blame = llm_cuda_grad_noise_scale_square<T, V>(dy + n * O, O);
    const double given = llm_cuda_grad_noise_scale_square<T, V>(x + n * C, C) + (bias ? 1.0 : 0.0);
    if (threadIdx.x % 32 == 0) square[n] += blame * given;
}
/* square (N) += the squared length of each example's gradient: llm_grad_noise_scale_dense; dy
 * (N,O), x (N,C) of type T, float or llm_bf16. */
template <typename T>
static inline cudaError_t llm_cuda_grad_noise_scale_dense(double *square, const T *dy, const T *x,
                                                          size_t N, size_t C, size_t O, bool bias,
                                                          cudaStream_t stream) {
    enum { V = 16 / sizeof(T) };
    if (N == 0) return cudaSuccess;
    const auto dense = llm_aligned(dy, O) && llm_aligned(x, C)
                           ? llm_grad_noise_scale_dense_kernel<T, V>
                           : llm_grad_noise_scale_dense_kernel<T, 1>;
    LLM_LAUNCH(dense, llm_row_blocks(N, true), 128, 0, stream, square, dy, x, N, C, O, bias);
    return cudaGetLastError();
}

/* Tiles along a sequence of T tokens, and pairs of them with the second not behind the first. */
LLM_HOST_DEVICE size_t llm_cuda_grad_noise_scale_tiles(size_t T) {
    const size_t tiles = (T + LLM_PAIRS_TILE - 1) / LLM_PAIRS_TILE;
    return tiles * (tiles + 1) / 2;
}
/* part (N,tiles) <- the sum over a tile of pairs of the tokens of example blockIdx.x / tiles. */
template <typename S>
LLM_KERNEL void __launch_bounds__(256)
    llm_grad_noise_scale_tokens_kernel(double *part, const S *dy, const S *x, size_t T, size_t C,
                                       size_t O, bool bias) {
    const size_t tiles = llm_cuda_grad_noise_scale_tiles(T), n = blockIdx.x / tiles;
    size_t row = 0, column = blockIdx.x % tiles; /* tile rows of 1, 2, 3 .. tiles */
    while (column > row) column -= ++row;
    float blame[4][4], given[4][4], a_sq, b_sq;
    const size_t t = row * LLM_PAIRS_TILE, s = column * LLM_PAIRS_TILE;
    dy += n * T * O, x += n * T * C;
    llm_pairs_tile<llm_pairs_product>(blame, a_sq, b_sq, dy, t, T, dy, s, T, O);
    llm_pairs_tile<llm_pairs_product>(given, a_sq, b_sq, x, t, T, x, s, T, C);
    double sum = 0.0; /* rows outside count as zeros in blame */
    LLM_UNROLL
    for (unsigned i = 0; i < 16; i++)
        sum += (double)blame[i / 4][i % 4] * (double)(given[i / 4][i % 4] + (bias ? 1.0f : 0.0f));
    sum = llm_block_sum(sum);
    if (threadIdx.x == 0) part[blockIdx.x] = row == column ? sum : 2.0 * sum;
}
LLM_KERNEL void llm_grad_noise_scale_add_kernel(double *square, const double *part, size_t N,
                                                size_t tiles) {
    const size_t n = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (n >= N) return;
    double sum = 0.0;
    for (size_t i = 0; i < tiles; i++) sum += part[n * tiles + i];
    square[n] += sum;
}
/* square (N) += the same where an example has T tokens, dy (N,T,O), x (N,T,C). scratch: N
 * llm_cuda_grad_noise_scale_tiles(T) doubles. */
template <typename S>
static inline cudaError_t llm_cuda_grad_noise_scale_tokens(double *square, const S *dy, const S *x,
                                                           size_t N, size_t T, size_t C, size_t O,
                                                           bool bias, double *scratch,
                                                           cudaStream_t stream) {
    const size_t tiles = llm_cuda_grad_noise_scale_tiles(T);
    if (N == 0 || T == 0) return cudaSuccess;
    LLM_LAUNCH(llm_grad_noise_scale_tokens_kernel<S>, (unsigned)(N * tiles), 256, 0, stream,
               scratch, dy, x, T, C, O, bias);
    LLM_LAUNCH(llm_grad_noise_scale_add_kernel, (unsigned)((N + 255) / 256), 256, 0, stream, square,
               (const double *)scratch, N, tiles);
    return cudaGetLastError();
}

/* @pcgrad --------------------------------------------------- Gradient surgery for several tasks
 *
 *     gram = g g'  (T,T)        weight <- PCGrad's from gram       out <- sum_i weight_i g_i
 *
 * The gradients of T tasks are read twice, however many of them conflict, and nothing comes to the
 * host in between. First their inner products: a block takes a stretch of all of them, a thread
 * keeps the products of up to 8 by 8 tasks in registers, in double as the reference; more tasks go
 * by pairs of eights. Then the sum, whose blocks each compute the weights on their own: task i is
 * thread i's, its coefficients lie in shared memory, and a projection is T multiply-adds, less than
 * another launch and another wait.
 *
 * Moves 8 bytes an entry and task and 4 out, the minimum, for up to 8 tasks; the products read
 * (ceil(T/8) + 1) T / 8 times as much beyond. Limit: memory bandwidth on cards with full double
 * arithmetic, their double units elsewhere.
 *
 * source  Yu et al. 2020, "Gradient Surgery for Multi-Task Learning", algorithm 1
 * needs   cuda_launch, cuda_memory, cuda_reduce
 * see     grad_clip
 * topics  -
 */
enum { LLM_CUDA_PCGRAD_TASKS = 32, LLM_CUDA_PCGRAD_BLOCKS = 256 };

/* part (gridDim.y,64,gridDim.x) <- sums of g_i g_j over this block's entries, for i and j of the
 * eights of pair blockIdx.y. G: tasks of an eight that there are at most; one: a single eight,
 * whose products are symmetric. */
template <int G, bool one>
LLM_KERNEL void llm_pcgrad_gram_kernel(double *part, const float *g, size_t T, size_t n) {
    size_t row = 0, column = blockIdx.y; /* which eights */
    while (column > row) column -= ++row;
    double sum[G][G];
    LLM_UNROLL
    for (int k = 0; k < G * G; k++) sum[k / G][k % G] = 0.0;
    for (size_t at = (size_t)blockIdx.x * blockDim.x + threadIdx.x; at < n;
         at += (size_t)gridDim.x * blockDim.x) {
        float a[G], b[G];
        LLM_UNROLL
        for (int k = 0; k < G; k++) {
            const size_t i = 8 * row + (size_t)k, j = 8 * column + (size_t)k;
            a[k] = i < T ? llm_load(g, i * n + at) : 0.0f;
            b[k] = one ? a[k] : j < T ? llm_load(g, j * n + at) : 0.0f;
        }
        LLM_UNROLL
        for (int k = 0; k < G * G; k++)
            if (!one || k % G <= k / G) sum[k / G][k % G] += (double)a[k / G] * (double)b[k % G];
    }
    LLM_UNROLL
    for (int k = 0; k < G * G; k++) {
        if (one && k % G > k / G) continue;
        const double all = llm_block_sum(sum[k / G][k % G]);
        const size_t pair = blockIdx.y * 64 + (size_t)(k / G * 8 + k % G);
        if (threadIdx.x == 0) part[pair * gridDim.x + blockIdx.x] = all;
    }
}
LLM_KERNEL void llm_pcgrad_gram_add_kernel(double *gram, const double *part, unsigned parts,
                                           size_t T) {
    const size_t i = blockIdx.x / T, j = blockIdx.x % T;
    if (j > i) return; /* a whole block */
    const size_t pair = (i / 8 * (i / 8 + 1) / 2 + j / 8) * 64 + i % 8 * 8 + j % 8;
    const double sum = llm_block_sum(threadIdx.x < parts ? part[pair * parts + threadIdx.x] : 0.0);
    if (threadIdx.x == 0) gram[i * T + j] = gram[j * T + i] = sum;
}
/* How many doubles of scratch the products of T tasks need. */
static inline __attribute__((unused)) size_t llm_cuda_pcgrad_scratch(size_t T) {
    const size_t eights = (T + 7) / 8;
    return eights * (eights + 1) / 2 * 64 * LLM_CUDA_PCGRAD_BLOCKS;
}
/* gram (T,T) <- the inner products of the rows of g (T,n): llm_pcgrad_gram. scratch:
 * llm_cuda_pcgrad_scratch(T) doubles. */
static inline __attribute__((unused)) cudaError_t llm_cuda_pcgrad_gram(double *gram, const float *g,
                                                                       size_t T, size_t n,
                                                                       double *scratch,
                                                                       cudaStream_t stream) {
    const size_t eights = (T + 7) / 8, most = LLM_CUDA_PCGRAD_BLOCKS, blocks = (n + 2047) / 2048;
    const unsigned parts = (unsigned)(blocks == 0 ? 1 : blocks < most ? blocks : most);
    const auto products = T <= 2   ? llm_pcgrad_gram_kernel<2, true>
                          : T <= 4 ? llm_pcgrad_gram_kernel<4, true>
                          : T <= 8 ? llm_pcgrad_gram_kernel<8, true>
                                   : llm_pcgrad_gram_kernel<8, false>;
    if (T == 0) return cudaSuccess;
    LLM_LAUNCH(products, dim3(parts, (unsigned)(eights * (eights + 1) / 2)), 256, 0, stream,
               scratch, g, T, n);
    LLM_LAUNCH(llm_pcgrad_gram_add_kernel, (unsigned)(T * T), LLM_CUDA_PCGRAD_BLOCKS, 0, stream,
               gram, (const double *)scratch, parts, T);
    return cudaGetLastError();
}

/* The coefficients of task i after its visits, in c (T) of its own. */
LLM_DEVICE void llm_cuda_pcgrad_visit(double *c, const double *gram, const int *order, size_t i,
                                      size_t T) {
    for (size_t j = 0; j < T; j++) c[j] = i == j ? 1.0 : 0.0;
    for (size_t visit = 0; visit < T; visit++) {
        const size_t j = (size_t)order[i * T + visit];
        double along = 0.0;
        for (size_t k = 0; k < T; k++) along += c[k] * gram[j * T + k];
        if (j != i && along < 0.0 && gram[j * T + j] > 0.0) c[j] -= along / gram[j * T + j];
    }
}
LLM_KERNEL void llm_pcgrad_combine_kernel(float *out, double *weight, const double *gram,
                                          const int *order, const float *g, size_t T, size_t n) {
    __shared__ double c[LLM_CUDA_PCGRAD_TASKS][LLM_CUDA_PCGRAD_TASKS];
    __shared__ double w[LLM_CUDA_PCGRAD_TASKS];
    const size_t i = threadIdx.x;
    if (i < T) llm_cuda_pcgrad_visit(c[i], gram, order, i, T);
    __syncthreads();
    if (i < T) {
        w[i] = 0.0;
        for (size_t task = 0; task < T; task++) w[i] += c[task][i];
        if (weight && blockIdx.x == 0) weight[i] = w[i];
    }
    __syncthreads();
    for (size_t at = (size_t)blockIdx.x * blockDim.x + i; at < n;
         at += (size_t)gridDim.x * blockDim.x) {
        double sum = 0.0;
        for (size_t task = 0; task < T; task++) sum += w[task] * (double)llm_load(g, task * n + at);
        llm_store(out, at, (float)sum);
    }
}
/* out (n) <- the sum of the gradients g (T,n) after surgery, weight (T), or NULL, <- what each was
 * multiplied by: llm_pcgrad_project and llm_pcgrad_combine. gram (T,T) is theirs, order (T,T) how
 * each task visits the others (llm_pcgrad_order), all on the device. At most
 * LLM_CUDA_PCGRAD_TASKS. */
static inline __attribute__((unused)) cudaError_t
llm_cuda_pcgrad_combine(float *out, double *weight, const double *gram, const int *order,
                        const float *g, size_t T, size_t n, cudaStream_t stream) {
    if (T > LLM_CUDA_PCGRAD_TASKS) return (cudaError_t)cudaErrorInvalidValue;
    const size_t blocks = (n + 1023) / 1024, most = 8 * (size_t)llm_multiprocessors();
    if (n == 0 && !weight) return cudaSuccess;
    LLM_LAUNCH(llm_pcgrad_combine_kernel,
               (unsigned)(blocks == 0     ? 1
                          : blocks < most ? blocks
                                          : most),
               256, 0, stream, out, weight, gram, order, g, T, n);
    return cudaGetLastError();
}

/* @maml ----------------------------------------------------- Meta-learning: MAML and Reptile
 *
 *     adapt    w_t+1 = w_t - a grad L_support(w_t)     FOMAML  dw += sum over tasks, grad L_query
 *
 * Dozens of small nets that each take a few steps on a few examples: as matrix products they are
 * hundreds of launches, here a block is a task. Its weights lie in shared memory, are adapted there
 * and leave it once, and so do the activations of all its examples: a thread takes an output of one
 * of them on the way up, a weight on the way down, where it adds up the examples in a fixed order.
 * Barriers separate the layers, nothing else. The gradients of the tasks are added by a second
 * kernel, so the result does not depend on who was first.
 *
 * Moves w and rates in once a task and phi out, the examples as often as there are steps, from
 * cache: the minimum. Limit: the additions of a layer, which have to wait for each other, and
 * shared memory, 2 P floats and the units of all examples twice.
 *
 * source  Finn, Abbeel & Levine 2017, "Model-Agnostic Meta-Learning" (first order)
 * needs   cuda_launch, cuda_memory, cuda_reduce, activation, mlp
 * see     adamw (the outer step)
 * topics  -
 */

/* z (K) of a row becomes the gradient of its loss over N; returns the loss <- t (K) or the
 * label. */
LLM_DEVICE float llm_cuda_maml_head(float *z, int label, const float *t, unsigned K, float N,
                                    int head) {
    const bool softmax = head == LLM_OUTPUT_LAYER_SOFTMAX;
    float max = -INFINITY, sum = 0.0f, loss = 0.0f;
    for (unsigned k = 0; softmax && k < K; k++) max = fmaxf(max, z[k]);
    for (unsigned k = 0; softmax && k < K; k++) sum += expf(z[k] - max);
    const float lse = max + logf(sum);
    for (unsigned k = 0; k < K; k++) {
        const float tk = t ? llm_load(t, k) : (int)k == label ? 1.0f : 0.0f;
        if (softmax && tk != 0.0f) loss += tk * (lse - z[k]);
        if (!softmax) loss += llm_cuda_mlp_cost(z[k], tk, head);
        const float slope =
            head == LLM_OUTPUT_LAYER_POSITIVE ? llm_cuda_activation_sigmoid(z[k]) : 1.0f;
        z[k] = ((softmax ? expf(z[k] - lse) : llm_cuda_mlp_link(z[k], head)) - tk) * slope / N;
    }
    return loss;
}

/* g (P) <- the gradient of the mean loss at w (P) over N rows x with label or target, in every
 * thread returned the loss. w, g, a, z: shared; a and z have N rows of each layer in turn. */
LLM_DEVICE float llm_cuda_maml_row_gradient(float *g, float *a, float *z, const float *w,
                                            const float *x, const int *label, const float *target,
                                            unsigned N, const llm_cuda_mlp &net) {
    const unsigned K = net.size[net.layers];
    unsigned at = 0, weight = 0; /* where layer l begins in a and z, and in w */
    for (unsigned i = threadIdx.x; i < N * net.size[0]; i += blockDim.x) a[i] = llm_load(x, i);
    __syncthreads();
    for (int l = 1; l <= net.layers; l++) {
        const unsigned in = net.size[l - 1], out = net.size[l], next = at + N * in;
        for (unsigned i = threadIdx.x; i < N * out; i += blockDim.x) {
            const unsigned n = i / out, o = i % out;
            float sum = w[weight + in * out + o];
            for (unsigned c = 0; c < in; c++) sum += w[weight + o * in + c] * a[at + n * in + c];
            z[next + i] = sum;
            a[next + i] = llm_cuda_activation_value(sum, net.act);
        }
        at = next;
        weight += out * (in + 1);
        __syncthreads();
    }
    float loss = 0.0f;
    for (unsigned n = threadIdx.x; n < N; n += blockDim.x)
        loss += llm_cuda_maml_head(z + at + n * K, label ? label[n] : 0,
                                   target ? target + n * K : NULL, K, (float)N, net.head);
    loss = llm_block_sum(loss) / (float)N; /* its barriers are the ones that z needs */
    for (int l = net.layers; l > 0; l--) { /* z of layer l holds dz */
        const unsigned in = net.size[l - 1], out = net.size[l], below = at - N * in;
        weight -= out * (in + 1);
        for (unsigned i = threadIdx.x; i < out * (in + 1); i += blockDim.x) {
            const bool bias = i >= out * in;
            const unsigned o = bias ? i - out * in : i / in, c = bias ? 0 : i % in;
            float sum = 0.0f;
            for (unsigned n = 0; n < N; n++)
                sum += z[at + n * out + o] * (bias ? 1.0f : a[below + n * in + c]);
            g[weight + i] = sum;
        }
        for (unsigned i = threadIdx.x; l > 1 && i < N * in; i += blockDim.x) {
            const unsigned n = i / in, c = i % in;
            float sum = 0.0f;
            for (unsigned o = 0; o < out; o++) sum += z[at + n * out + o] * w[weight + o * in + c];
            z[below + i] = sum * llm_cuda_activation_slope(z[below + i], net.act);
        }
        at = below;
        __syncthreads();
    }
    return loss;
}

/* phi (gridDim.x,P) <- w adapted to task blockIdx.x; with a query set loss and part instead. */
LLM_KERNEL void llm_maml_kernel(float *phi, float *loss, float *part, const float *w,
                                const float *rate, llm_maml_batch support, llm_maml_batch query,
                                size_t steps, llm_cuda_mlp net, unsigned P) {
    LLM_DYNAMIC_SHARED(float, sw);
    const size_t task = blockIdx.x, in = net.size[0], K = net.size[net.layers];
    const unsigned rows = (unsigned)(support.N > query.N ? support.N : query.N);
    unsigned units = 0;
    for (int l = 0; l <= net.layers; l++) units += net.size[l];
    float *g = sw + P, *a = g + P, *z = a + rows * units;
    for (unsigned i = threadIdx.x; i < P; i += blockDim.x) sw[i] = llm_load(w, i);
    for (size_t t = 0; t < steps; t++) { /* a barrier stands in front of what reads sw */
        llm_cuda_maml_row_gradient(g, a, z, sw, support.x + task * support.N * in,
                                   support.label ? support.label + task * support.N : NULL,
                                   support.target ? support.target + task * support.N * K : NULL,
                                   (unsigned)support.N, net);
        for (unsigned i = threadIdx.x; i < P; i += blockDim.x) sw[i] -= llm_load(rate, i) * g[i];
    }
    for (unsigned i = threadIdx.x; phi && i < P; i += blockDim.x)
        llm_store(phi, task * P + i, sw[i]);
    if (!part) return;
    const float cost = llm_cuda_maml_row_gradient(
        g, a, z, sw, query.x + task * query.N * in,
        query.label ? query.label + task * query.N : NULL,
        query.target ? query.target + task * query.N * K : NULL, (unsigned)query.N, net);
    for (unsigned i = threadIdx.x; i < P; i += blockDim.x) llm_store(part, task * P + i, g[i]);
    if (threadIdx.x == 0) llm_store(loss, task, cost);
}

/* Adapts, and where part is not NULL takes the query's gradients. */
static inline __attribute__((unused)) cudaError_t
llm_cuda_maml_launch(float *phi, float *loss, float *part, const llm_mlp *m, const float *w,
                     const float *rate, llm_maml_batch support, llm_maml_batch query, size_t tasks,
                     size_t steps, cudaStream_t stream) {
    const size_t P = llm_mlp_param_count(m), rows = support.N > query.N ? support.N : query.N;
    llm_cuda_mlp net;
    size_t units = 0;
    if (m->layers > LLM_CUDA_MLP_LAYERS) return (cudaError_t)cudaErrorInvalidValue;
    net.layers = (int)m->layers, net.act = m->act, net.head = m->head;
    for (size_t l = 0; l <= m->layers; l++) units += net.size[l] = (unsigned)m->size[l];
    const size_t shared = 2 * (P + rows * units) * sizeof(float);
    if (shared > 227 * 1024) return (cudaError_t)cudaErrorInvalidValue;
    LLM_LAUNCH(llm_maml_kernel, (unsigned)tasks, 256, shared, stream, phi, loss, part, w, rate,
               support, query, steps, net, (unsigned)P);
    return cudaGetLastError();
}
/* phi (tasks,P) <- w (P) after so many steps with rates (P) on each task's support set:
 * llm_maml_adapt; their mean minus w is Reptile's direction. A batch holds the examples of all
 * tasks, x (tasks,N,size[0]) and label (tasks,N) or target, with N those of one, on the device. A
 * net of more than 8 layers, or what does not fit into 227 KB, is an invalid value. */
static inline __attribute__((unused)) cudaError_t
llm_cuda_maml_adapt(float *phi, const llm_mlp *m, const float *w, const float *rate,
                    llm_maml_batch support, size_t tasks, size_t steps, cudaStream_t stream) {
    if (tasks == 0) return cudaSuccess;
    return llm_cuda_maml_launch(phi, NULL, NULL, m, w, rate, support, support, tasks, steps,
                                stream);
}
/* loss (tasks) <- each task's query loss after its steps, dw (P) += the sum of its gradients at the
 * adapted weights: llm_maml_gradient with first_order. scratch: tasks times P floats. */
static inline __attribute__((unused)) cudaError_t
llm_cuda_maml_gradient(float *loss, float *dw, const llm_mlp *m, const float *w, const float *rate,
                       llm_maml_batch support, llm_maml_batch query, size_t tasks, size_t steps,
                       float *scratch, cudaStream_t stream) {
    if (tasks == 0) return cudaSuccess;
    const cudaError_t error =
        llm_cuda_maml_launch(NULL, loss, scratch, m, w, rate, support, query, tasks, steps, stream);
    if (error != cudaSuccess) return error;
    return llm_cuda_column_sum(dw, (const float *)scratch, tasks, llm_mlp_param_count(m), stream);
}

/* @08-recurrent =============================== RECURRENT, MEMORY, GRAPH AND CONTINUOUS NETWORKS */

/* @09-theory ================================================ LEARNING THEORY */

/* @10-text ================================================== TEXT, COUNTS AND EMBEDDINGS */

/* @perplexity ----------------------------------------------- Perplexity and bits per byte
 *
 * What scoring a text needs of its logits: the negative log probability of each target, and their
 * sum over those that count. A block takes a row, in one pass and without writing a probability
 * (logsumexp); one block adds the losses, in double and in a fixed order.
 *
 * Reads each logit once, the minimum, and writes a float a row; ignored rows are not read. Limit:
 * memory bandwidth.
 *
 * source  -
 * needs   cuda_launch, cuda_memory, cuda_reduce, logsumexp, cross_entropy
 * see     cross_entropy
 * topics  -
 */
template <typename T, int V>
LLM_KERNEL void llm_perplexity_nll_kernel(float *loss, const T *logits, const int *target,
                                          size_t classes) {
    const size_t first = blockIdx.x * classes;
    const int y = target[blockIdx.x];
    if (y == LLM_CROSS_ENTROPY_IGNORE) {
        if (threadIdx.x == 0) llm_store(loss, blockIdx.x, 0.0f);
        return;
    }
    llm_logsumexp_pair a = {-INFINITY, 0.0f};
    for (size_t i = (size_t)threadIdx.x * V; i < classes; i += (size_t)blockDim.x * V) {
        float v[V];
        llm_load_vector(v, logits, first + i);
        llm_cuda_logsumexp_add(a, v, 1.0f);
    }
    a = llm_cuda_logsumexp_row<false>(a, 1.0f);
    if (threadIdx.x != 0) return;
    const bool known = y >= 0 && (size_t)y < classes;
    const float z = known ? llm_load(logits, first + (size_t)y) : NAN;
    llm_store(loss, blockIdx.x, (a.max - z) + logf(a.sum)); /* lse - z would round as lse does */
}
LLM_KERNEL void llm_perplexity_total_kernel(double *total, const float *loss, const int *target,
                                            size_t N) {
    double nats = 0.0, kept = 0.0;
    for (size_t n = threadIdx.x; n < N; n += blockDim.x) {
        nats += (double)llm_load(loss, n);
        kept += target[n] != LLM_CROSS_ENTROPY_IGNORE;
    }
    nats = llm_block_sum(nats);
    kept = llm_block_sum(kept);
    if (threadIdx.x == 0) total[0] = nats, total[1] = kept;
}

/* total (2) <- the nats of all targets that are not ignored, and how many those are; loss (N), 0
 * where ignored, NaN where the target is no class. From logits (N,V), target (N); T is float or
 * llm_bf16. The perplexity is exp(total[0] / total[1]). */
template <typename T>
static inline cudaError_t llm_cuda_perplexity_nll(double *total, float *loss, const T *logits,
                                                  const int *target, size_t N, size_t V,
                                                  cudaStream_t stream) {
    enum { wide = 16 / sizeof(T) };
    if (N > 0) {
        const bool aligned = llm_aligned(logits, V);
        const auto perplexity_nll =
            aligned ? llm_perplexity_nll_kernel<T, wide> : llm_perplexity_nll_kernel<T, 1>;
        LLM_LAUNCH(perplexity_nll, (unsigned)N, llm_row_threads(aligned ? V / wide : V), 0, stream,
                   loss, logits, target, V);
    }
    LLM_LAUNCH(llm_perplexity_total_kernel, 1, 1024, 0, stream, total, loss, target, N);
    return cudaGetLastError();
}

/* @embedding ------------------------------------------------ Embedding layer forward and backward
 *
 * Forward: a warp copies a row, 16 bytes a lane. Moves 2 elements for each one copied, the minimum.
 *
 * Backward: atomics would add the rows of a frequent token in whatever order they came. Instead the
 * positions are sorted by id, and a block adds the rows of one id, for 32 vectors of its columns:
 * eight warps take every eighth row, then the eight sums are added in order. The host sorts, while
 * the device is busy with the forward pass: it made the ids. Moves dy once and each touched row of
 * dw in and out, the minimum.
 *
 * Limit: memory bandwidth; one very frequent id, its chain of rows / 8 dependent loads.
 *
 * source  -
 * needs   cuda_launch, cuda_memory, cuda_reduce
 * see     softmax_head
 * topics  -
 */
template <typename T, int V>
LLM_KERNEL void llm_embedding_forward_kernel(T *y, const int *ids, const T *w, size_t N,
                                             size_t rows, size_t C) {
    const llm_row_place p = llm_my_row<true>();
    if (p.row >= N) return;
    const int id = ids[p.row];
    const bool known = id >= 0 && (size_t)id < rows;
    for (size_t i = (size_t)p.lane * V; i < C; i += (size_t)p.width * V) {
        float v[V];
        LLM_UNROLL
        for (int k = 0; k < V; k++) v[k] = NAN;
        if (known) llm_load_vector(v, w, (size_t)id * C + i);
        llm_store_vector(y, p.row * C + i, v);
    }
}

/* y (N,C) <- ids (N), w (V,C): as llm_embedding_forward, T is float or llm_bf16. An id outside the
 * table gives a row of NaN. */
template <typename T>
static inline cudaError_t llm_cuda_embedding_forward(T *y, const int *ids, const T *w, size_t N,
                                                     size_t V, size_t C, cudaStream_t stream) {
    enum { wide = 16 / sizeof(T) };
    if (N == 0) return cudaSuccess;
    const auto embedding_forward = llm_aligned(y, C) && llm_aligned(w, C)
                                       ? llm_embedding_forward_kernel<T, wide>
                                       : llm_embedding_forward_kernel<T, 1>;
    LLM_LAUNCH(embedding_forward, llm_row_blocks(N, true), 128, 0, stream, y, ids, w, N, V, C);
    return cudaGetLastError();
}

/* On the host. order (N) <- the positions of ids (N) sorted by id, in order where ids are equal;
 * segment (S + 1) <- where in order each of the S ids that occur begins, and N. Returns S, at most
 * min(N, V). Ids outside 0..V-1 come in no segment. scratch: V + 1 ints. */
static inline __attribute__((unused)) size_t llm_cuda_embedding_sort(int *order, int *segment,
                                                                     const int *ids, size_t N,
                                                                     size_t V, int *scratch) {
    size_t segments = 0, kept = 0;
    for (size_t v = 0; v <= V; v++) scratch[v] = 0;
    for (size_t n = 0; n < N; n++) {
        if (ids[n] >= 0 && (size_t)ids[n] < V) scratch[ids[n]]++;
    }
    for (size_t v = 0; v < V; v++) {
        const size_t count = (size_t)scratch[v];
        if (count) segment[segments++] = (int)kept;
        scratch[v] = (int)kept; /* from counts to places */
        kept += count;
    }
    segment[segments] = (int)kept;
    for (size_t n = 0; n < N; n++) {
        if (ids[n] >= 0 && (size_t)ids[n] < V) order[scratch[ids[n]]++] = (int)n;
    }
    return segments;
}

template <typename T, int V>
LLM_KERNEL void llm_embedding_backward_kernel(float *dw, const T *dy, const int *ids,
                                              const int *order, const int *segment, size_t C) {
    __shared__ float part[8][32 * V];
    const size_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const size_t column = ((size_t)blockIdx.y * 32 + lane) * V;
    const int begin = segment[blockIdx.x], end = segment[blockIdx.x + 1];
    if (begin == end) return; /* lists of a fixed length end in places without an id */
    float sum[V], v[V];
    LLM_UNROLL
    for (int k = 0; k < V; k++) sum[k] = 0.0f;
    for (int i = begin + (int)warp; i < end && column < C; i += 8) {
        llm_load_vector(v, dy, (size_t)order[i] * C + column);
        LLM_UNROLL
        for (int k = 0; k < V; k++) sum[k] += v[k];
    }
    LLM_UNROLL
    for (int k = 0; k < V; k++) part[warp][k * 32 + lane] = sum[k];
    __syncthreads();

    const size_t mine = threadIdx.x; /* a column of the 32 V, in the order of part */
    const size_t at = ((size_t)blockIdx.y * 32 + mine % 32) * V + mine / 32;
    if (mine >= 32 * V || at >= C) return;
    float all = 0.0f;
    LLM_UNROLL
    for (int w = 0; w < 8; w++) all += part[w][mine];
    const size_t entry = (size_t)ids[order[begin]] * C + at;
    llm_store(dw, entry, llm_load(dw, entry) + all);
}

/* dw (V,C) += <- dy (N,C), ids (N), order (N) and segment (segments + 1) of
 * llm_cuda_embedding_sort, copied to the device; T is float or llm_bf16. */
template <typename T>
static inline cudaError_t
llm_cuda_embedding_backward(float *dw, const T *dy, const int *ids, const int *order,
                            const int *segment, size_t segments, size_t C, cudaStream_t stream) {
    enum { wide = 16 / sizeof(T) };
    if (segments == 0 || C == 0) return cudaSuccess;
    const bool aligned = llm_aligned(dy, C);
    const auto embedding_backward =
        aligned ? llm_embedding_backward_kernel<T, wide> : llm_embedding_backward_kernel<T, 1>;
    const size_t width = aligned ? 32 * wide : 32;
    LLM_LAUNCH(embedding_backward, dim3((unsigned)segments, (unsigned)((C + width - 1) / width)),
               256, 0, stream, dw, dy, ids, order, segment, C);
    return cudaGetLastError();
}

/* @11-token ================================================= TOKENIZATION */

/* @bpe ------------------------------------------------------ Byte pair encoding: encode
 *
 * A warp takes a pre-token. Up to 32 bytes, nearly all there are in text, a lane holds a token and
 * the rank of the pair that begins with it, in registers. A merge is an argmin over the lanes (five
 * shuffles for the lowest rank, a ballot for the leftmost lane that has it), one shuffle that moves
 * everything behind it to the left, and two look-ups for the pairs that are new. No list and no
 * heap: 32 lanes look at all pairs at once. Longer ones do the same with ids and ranks in memory,
 * 32 at a time, n^2 / 32 steps: what is cut off nowhere, a line of a million letters, is the heap's
 * case (llm_bpe_encode).
 *
 * The ids of a pre-token stand first where its bytes stood, since it has no more of them; a prefix
 * sum over the counts says where they belong, and a warp moves them there.
 *
 * Traffic: the bytes once, 4 bytes an id out, in and out. Limit: the latency of the table's look-
 * ups, from L2 (GPT-2: 50000 merges, 1.1 MB), two in a row a merge; many warps hide it.
 *
 * source  -
 * needs   cuda_launch
 * see     -
 * topics  -
 */

/* The arrays of an llm_bpe, copied to the device: byte_id (256), merge, slot (slots). */
typedef struct {
    const int *byte_id;
    const llm_bpe_merge *merge;
    const uint32_t *slot;
    size_t slots;
} llm_cuda_bpe;

/* llm_bpe_rank on the device. */
LLM_DEVICE uint32_t llm_cuda_bpe_rank(const llm_cuda_bpe &bpe, int left, int right) {
    const uint64_t pair = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    if (bpe.slots == 0) return UINT32_MAX;
    size_t s = (size_t)(pair * 0x9E3779B97F4A7C15u >> 32) & (bpe.slots - 1);
    for (; bpe.slot[s] > 0; s = (s + 1) & (bpe.slots - 1)) {
        const llm_bpe_merge m = bpe.merge[bpe.slot[s] - 1];
        if (m.left == left && m.right == right) return bpe.slot[s] - 1;
    }
    return UINT32_MAX;
}
/* The least x of the warp, in every lane. */
LLM_DEVICE uint32_t llm_cuda_bpe_min(uint32_t x) {
    LLM_UNROLL
    for (int distance = 16; distance > 0; distance /= 2) {
        const uint32_t other = __shfl_xor_sync(0xffffffffu, x, distance);
        x = other < x ? other : x;
    }
    return x;
}

/* n <= 32 ids, a lane each: merged, and how many are left. */
LLM_DEVICE unsigned llm_cuda_bpe_short(int &id, unsigned n, const llm_cuda_bpe &bpe) {
    const unsigned lane = threadIdx.x % 32;
    int next = __shfl_down_sync(0xffffffffu, id, 1);
    uint32_t rank = lane + 1 < n ? llm_cuda_bpe_rank(bpe, id, next) : UINT32_MAX;
    for (;;) {
        const uint32_t best = llm_cuda_bpe_min(rank);
        if (best == UINT32_MAX) return n;
        const unsigned at = (unsigned)__ffs((int)__ballot_sync(0xffffffffu, rank == best)) - 1;
        const int next_id = __shfl_down_sync(0xffffffffu, id, 1);
        const uint32_t next_rank = __shfl_down_sync(0xffffffffu, rank, 1);
        n--;
        if (lane > at) id = next_id, rank = lane < n ? next_rank : UINT32_MAX;
        if (lane == at) id = bpe.merge[best].result;
        next = __shfl_down_sync(0xffffffffu, id, 1);
        if (lane == at || lane + 1 == at)
            rank = lane + 1 < n ? llm_cuda_bpe_rank(bpe, id, next) : UINT32_MAX;
    }
}
/* The same for id (n) in memory, with room for their ranks. Entry i belongs to lane i % 32, which
 * alone writes it. */
LLM_DEVICE unsigned llm_cuda_bpe_long(int *id, uint32_t *rank, unsigned n,
                                      const llm_cuda_bpe &bpe) {
    const unsigned lane = threadIdx.x % 32;
    __syncwarp();
    for (unsigned i = lane; i < n; i += 32)
        rank[i] = i + 1 < n ? llm_cuda_bpe_rank(bpe, id[i], id[i + 1]) : UINT32_MAX;
    for (;;) {
        uint32_t low = UINT32_MAX, at = UINT32_MAX;
        for (unsigned i = lane; i < n; i += 32)
            if (rank[i] < low) low = rank[i], at = i;
        const uint32_t best = llm_cuda_bpe_min(low);
        if (best == UINT32_MAX) return n;
        at = llm_cuda_bpe_min(low == best ? at : UINT32_MAX);
        __syncwarp();
        for (unsigned begin = (at + 1) / 32 * 32; begin < n; begin += 32) { /* one to the left */
            const unsigned i = begin + lane;
            const bool moves = i > at && i + 1 < n;
            const int next_id = moves ? id[i + 1] : 0;
            const uint32_t next_rank = moves ? rank[i + 1] : 0;
            __syncwarp();
            if (moves) id[i] = next_id, rank[i] = next_rank;
            __syncwarp();
        }
        n--;
        if (lane == at % 32) id[at] = bpe.merge[best].result;
        __syncwarp();
        for (unsigned i = at > 0 ? at - 1 : 0; i <= at; i++)
            if (lane == i % 32)
                rank[i] = i + 1 < n ? llm_cuda_bpe_rank(bpe, id[i], id[i + 1]) : UINT32_MAX;
    }
}

LLM_KERNEL void llm_bpe_encode_kernel(int *ids, int *count, uint32_t *rank, llm_cuda_bpe bpe,
                                      const char *text, const size_t *start, size_t words) {
    const size_t word = (size_t)blockIdx.x * 4 + threadIdx.x / 32;
    if (word >= words) return;
    const unsigned lane = threadIdx.x % 32;
    const size_t begin = start[word];
    unsigned n = (unsigned)(start[word + 1] - begin);
    if (n <= 32) {
        int id = lane < n ? bpe.byte_id[(unsigned char)text[begin + lane]] : -1;
        n = llm_cuda_bpe_short(id, n, bpe);
        if (lane < n) ids[begin + lane] = id;
    } else {
        for (unsigned i = lane; i < n; i += 32)
            ids[begin + i] = bpe.byte_id[(unsigned char)text[begin + i]];
        n = llm_cuda_bpe_long(ids + begin, rank + begin, n, bpe);
    }
    if (lane == 0) count[word] = (int)n;
}
/* ids, rank (bytes of text), count (words) <- text, start (words + 1): pre-token w is text[start[w]
 * .. start[w+1]), below 2^32 bytes, and has the ids[start[w] ..] (count[w]) of llm_bpe_encode.
 * rank is scratch, not read where no pre-token is longer than 32: NULL then. */
static inline __attribute__((unused)) cudaError_t
llm_cuda_bpe_encode(int *ids, int *count, uint32_t *rank, const llm_cuda_bpe &bpe, const char *text,
                    const size_t *start, size_t words, cudaStream_t stream) {
    if (words == 0) return cudaSuccess;
    LLM_LAUNCH(llm_bpe_encode_kernel, (unsigned)((words + 3) / 4), 128, 0, stream, ids, count, rank,
               bpe, text, start, words);
    return cudaGetLastError();
}

/* first (words + 1): a thread adds a share of the words, the block scans the sums of the shares. */
LLM_KERNEL void llm_bpe_first_kernel(size_t *first, const int *count, size_t words) {
    __shared__ size_t part[1024];
    const size_t t = threadIdx.x, share = (words + 1023) / 1024;
    const size_t begin = t * share < words ? t * share : words;
    const size_t end = begin + share < words ? begin + share : words;
    size_t sum = 0;
    for (size_t w = begin; w < end; w++) sum += (size_t)count[w];
    part[t] = sum;
    __syncthreads();
    for (size_t step = 1; step < 1024; step *= 2) {
        const size_t before = t >= step ? part[t - step] : 0;
        __syncthreads();
        part[t] += before;
        __syncthreads();
    }
    sum = part[t] - sum;
    for (size_t w = begin; w < end; w++) first[w] = sum, sum += (size_t)count[w];
    if (t == 1023) first[words] = part[t];
}
LLM_KERNEL void llm_bpe_pack_kernel(int *out, const size_t *first, const int *ids,
                                    const size_t *start, size_t words) {
    const size_t word = (size_t)blockIdx.x * 4 + threadIdx.x / 32;
    if (word >= words) return;
    for (size_t i = threadIdx.x % 32; i < first[word + 1] - first[word]; i += 32)
        out[first[word] + i] = ids[start[word] + i];
}
/* out <- the ids of all pre-tokens without gaps, first (words + 1) <- where each one's begin, and
 * how many there are. ids, count, start as above. */
static inline __attribute__((unused)) cudaError_t
llm_cuda_bpe_pack(int *out, size_t *first, const int *ids, const int *count, const size_t *start,
                  size_t words, cudaStream_t stream) {
    LLM_LAUNCH(llm_bpe_first_kernel, 1, 1024, 0, stream, first, count, words);
    const cudaError_t error = cudaGetLastError();
    if (words == 0 || error != cudaSuccess) return error;
    LLM_LAUNCH(llm_bpe_pack_kernel, (unsigned)((words + 3) / 4), 128, 0, stream, out, first, ids,
               start, words);
    return cudaGetLastError();
}

/* @pad ------------------------------------------------------ Padding: leave it out, put it back
 *
 * llm_cuda_pad_varlen finds where each token goes, in three launches over the mask: a warp counts
 * the tokens of a row by ballots, one block turns the counts into cu_seqlens by a prefix sum, and
 * the warps number the tokens of their rows, a ballot again giving each lane its rank. Reads the
 * mask twice and writes 4 bytes a token and 4 a place. One block for the sum is enough: it has B
 * numbers, not B T.
 *
 * llm_cuda_pad_move copies rows by that index, a warp a row, 16 bytes a lane: unpad, repad, and
 * with `add` their gradients. No row is written twice, so there are no atomics. Moves 2 elements
 * for each one copied (3 with add), the minimum, and 4 bytes a row. Limit: memory bandwidth.
 *
 * source  -
 * needs   cuda_launch, cuda_memory, cuda_reduce
 * see     embedding (the same copy), causal_attn
 * topics  -
 */

/* In a warp's row of the mask: how many of the 32 places from t on are tokens, and how many of
 * those stand before this lane. */
LLM_DEVICE int llm_pad_rank(int *before, bool *mine, const bool *mask, size_t t, size_t T,
                            unsigned lane) {
    *mine = t + lane < T && mask[t + lane];
    const unsigned ballot = __ballot_sync(0xffffffffu, *mine);
    *before = __popc(ballot & ((1u << lane) - 1u));
    return __popc(ballot);
}

LLM_KERNEL void llm_pad_count_kernel(int *cu, const bool *mask, size_t B, size_t T) {
    const llm_row_place p = llm_my_row<true>();
    if (p.row >= B) return; /* a whole warp */
    int count = 0, before;
    bool mine;
    for (size_t t = 0; t < T; t += 32)
        count += llm_pad_rank(&before, &mine, mask + p.row * T, t, T, p.lane);
    if (p.lane == 0) cu[p.row + 1] = count;
}

/* cu[b] <- cu[1] + .. + cu[b], cu[0] <- 0: by one warp, 32 numbers at a time. */
LLM_KERNEL void llm_pad_sum_kernel(int *cu, size_t B) {
    const unsigned lane = threadIdx.x;
    int carry = 0;
    for (size_t b = 0; b < B; b += 32) {
        int sum = b + lane < B ? cu[b + lane + 1] : 0;
        LLM_UNROLL
        for (int distance = 1; distance < 32; distance *= 2) {
            const int other = __shfl_up_sync(0xffffffffu, sum, distance);
            if ((int)lane >= distance) sum += other;
        }
        if (b + lane < B) cu[b + lane + 1] = carry + sum;
        carry += __shfl_sync(0xffffffffu, sum, 31);
    }
    if (lane == 0) cu[0] = 0;
}

LLM_KERNEL void llm_pad_index_kernel(const int *cu, int *index, int *place, const bool *mask,
                                     size_t B, size_t T) {
    const llm_row_place p = llm_my_row<true>();
    if (p.row >= B) return;
    int next = cu[p.row], before;
    bool mine;
    for (size_t t = 0; t < T; t += 32) {
        const size_t at = p.row * T + t + p.lane;
        const int count = llm_pad_rank(&before, &mine, mask + p.row * T, t, T, p.lane);
        if (mine) index[next + before] = (int)at;
        if (t + p.lane < T) place[at] = mine ? next + before : -1;
        next += count;
    }
}

/* cu (B + 1), index and place (B T each), mask (B,T) on the device: as llm_pad_varlen. How many
 * tokens there are is cu[B]. */
static inline __attribute__((unused)) cudaError_t llm_cuda_pad_varlen(int *cu, int *index,
                                                                      int *place, const bool *mask,
                                                                      size_t B, size_t T,
                                                                      cudaStream_t stream) {
    if (B > 0)
        LLM_LAUNCH(llm_pad_count_kernel, llm_row_blocks(B, true), 128, 0, stream, cu, mask, B, T);
    LLM_LAUNCH(llm_pad_sum_kernel, 1, 32, 0, stream, cu, B);
    if (B > 0 && T > 0)
        LLM_LAUNCH(llm_pad_index_kernel, llm_row_blocks(B, true), 128, 0, stream, cu, index, place,
                   mask, B, T);
    return cudaGetLastError();
}

template <typename T, int V, bool add>
LLM_KERNEL void llm_pad_move_kernel(T *y, const T *x, const int *from, size_t rows, size_t C) {
    const llm_row_place p = llm_my_row<true>();
    if (p.row >= rows) return;
    const int row = from[p.row];
    if (add && row < 0) return;
    for (size_t i = (size_t)p.lane * V; i < C; i += (size_t)p.width * V) {
        float v[V], was[V];
        LLM_UNROLL
        for (int k = 0; k < V; k++) v[k] = 0.0f;
        if (row >= 0) llm_load_vector(v, x, (size_t)row * C + i);
        if (add) {
            llm_load_vector(was, y, p.row * C + i);
            LLM_UNROLL
            for (int k = 0; k < V; k++) v[k] += was[k];
        }
        llm_store_vector(y, p.row * C + i, v);
    }
}

/* y (rows,C) <- rows of x by from (rows), zeros where that is -1; with `add`, y +=: as
 * llm_pad_move. T is float or llm_bf16. */
template <typename T>
static inline cudaError_t llm_cuda_pad_move(T *y, const T *x, const int *from, size_t rows,
                                            size_t C, bool add, cudaStream_t stream) {
    enum { wide = 16 / sizeof(T) };
    if (rows == 0 || C == 0) return cudaSuccess;
    const bool aligned = llm_aligned(y, C) && llm_aligned(x, C);
    const auto pad_move =
        aligned ? (add ? llm_pad_move_kernel<T, wide, true> : llm_pad_move_kernel<T, wide, false>)
                : (add ? llm_pad_move_kernel<T, 1, true> : llm_pad_move_kernel<T, 1, false>);
    LLM_LAUNCH(pad_move, llm_row_blocks(rows, true), 128, 0, stream, y, x, from, rows, C);
    return cudaGetLastError();
}

/* @12-attn ================================================== ATTENTION AND POSITION */

/* @attention ------------------------------------------------ Additive attention
 *
 * A block a query does all three steps: warps take keys in turn, the lanes stand along the A hidden
 * units and add v tanh(q + k); the scores wait in shared memory for the block's softmax; then the
 * threads stand along the C columns of h and take the mean. Scores and weights go to memory once,
 * as weights. Backward a block a query makes de and dq, a block a key makes dk, dh and its share of
 * dv: who gathers owns what he writes. The tanh are computed again in both, rather than T S A of
 * them kept.
 *
 * T S A tanh forwards, twice that backwards. Limit: the tanh, of which a multiprocessor does 16 a
 * clock (tanhf is several instructions more), and h and k from L2, which every query reads.
 *
 * source  -
 * needs   cuda_launch, cuda_memory, cuda_reduce
 * see     attn_score, softmax
 * topics  -
 */
enum { LLM_CUDA_ATTENTION_THREADS = 128 };

template <typename T>
LLM_KERNEL void llm_attention_forward_kernel(T *c, float *a, const T *q, const T *k, const T *v,
                                             const T *h, size_t length, size_t S, size_t A,
                                             size_t C) {
    LLM_DYNAMIC_SHARED(float, weight);
    const size_t i = blockIdx.x, lane = threadIdx.x % 32;
    float max = -INFINITY, sum = 0.0f;
    for (size_t j = threadIdx.x / 32; j < length; j += LLM_CUDA_ATTENTION_THREADS / 32) {
        float e = 0.0f;
        for (size_t n = lane; n < A; n += 32)
            e += llm_load(v, n) * tanhf(llm_load(q, i * A + n) + llm_load(k, j * A + n));
        e = llm_warp_sum(e);
        if (lane == 0) weight[j] = e;
        max = fmaxf(max, e);
    }
    max = llm_block_max(max);
    __syncthreads(); /* the scores are complete */
    for (size_t j = threadIdx.x; j < length; j += LLM_CUDA_ATTENTION_THREADS) {
        weight[j] = expf(weight[j] - max);
        sum += weight[j];
    }
    sum = llm_block_sum(sum);
    for (size_t j = threadIdx.x; j < S; j += LLM_CUDA_ATTENTION_THREADS) {
        if (j < length) weight[j] /= sum;
        llm_store(a, i * S + j, j < length ? weight[j] : 0.0f);
    }
    __syncthreads();
    for (size_t n = threadIdx.x; n < C; n += LLM_CUDA_ATTENTION_THREADS) {
        float mean = 0.0f;
        for (size_t j = 0; j < length; j++) mean += weight[j] * llm_load(h, j * C + n);
        llm_store(c, i * C + n, mean);
    }
}

/* c (N,C), a (N,S) <- q (N,A), k (S,A), v (A), h (S,C), of which the first `length` exist: scores
 * and read-out of llm_attention_forward. S floats of shared memory: 50000 at most. T is float or
 * llm_bf16. */
template <typename T>
static inline cudaError_t llm_cuda_attention_forward(T *c, float *a, const T *q, const T *k,
                                                     const T *v, const T *h, size_t length,
                                                     size_t N, size_t S, size_t A, size_t C,
                                                     cudaStream_t stream) {
    if (length > S || S > 50000) return (cudaError_t)cudaErrorInvalidValue;
    if (N == 0) return cudaSuccess;
    LLM_LAUNCH(llm_attention_forward_kernel<T>, (unsigned)N, LLM_CUDA_ATTENTION_THREADS,
               (length ? length : 1) * sizeof(float), stream, c, a, q, k, v, h, length, S, A, C);
    return cudaGetLastError();
}

/* A query: de_j = a_j dc.(h_j - c), and dq_n += v_n sum_j de_j (1 - t^2). */
template <typename T>
LLM_KERNEL void llm_attention_queries_kernel(T *dq, float *de, const T *dc, const T *c,
                                             const float *a, const T *q, const T *k, const T *v,
                                             const T *h, size_t length, size_t S, size_t A,
                                             size_t C) {
    const size_t i = blockIdx.x, lane = threadIdx.x % 32;
    for (size_t j = threadIdx.x / 32; j < length; j += LLM_CUDA_ATTENTION_THREADS / 32) {
        float along = 0.0f;
        for (size_t n = lane; n < C; n += 32)
            along += llm_load(dc, i * C + n) * (llm_load(h, j * C + n) - llm_load(c, i * C + n));
        along = llm_warp_sum(along);
        if (lane == 0) llm_store(de, i * S + j, llm_load(a, i * S + j) * along);
    }
    __syncthreads();
    for (size_t n = threadIdx.x; n < A; n += LLM_CUDA_ATTENTION_THREADS) {
        const float mine = llm_load(q, i * A + n);
        float sum = 0.0f;
        for (size_t j = 0; j < length; j++) {
            const float t = tanhf(mine + llm_load(k, j * A + n));
            sum += llm_load(de, i * S + j) * (1.0f - t * t);
        }
        llm_store(dq, i * A + n, llm_load(dq, i * A + n) + llm_load(v, n) * sum);
    }
}
/* A key: dk_n += v_n sum_i de_i (1 - t^2), its share of dv_n = sum_i de_i t, dh += sum_i a_i
 * dc_i. */
template <typename T>
LLM_KERNEL void llm_attention_keys_kernel(T *dk, float *dv_part, T *dh, const float *de,
                                          const T *dc, const float *a, const T *q, const T *k,
                                          const T *v, size_t N, size_t S, size_t A, size_t C) {
    const size_t j = blockIdx.x;
    for (size_t n = threadIdx.x; n < A; n += LLM_CUDA_ATTENTION_THREADS) {
        const float mine = llm_load(k, j * A + n);
        float inner = 0.0f, outer = 0.0f;
        for (size_t i = 0; i < N; i++) {
            const float t = tanhf(llm_load(q, i * A + n) + mine), g = llm_load(de, i * S + j);
            inner += g * (1.0f - t * t);
            outer += g * t;
        }
        llm_store(dk, j * A + n, llm_load(dk, j * A + n) + llm_load(v, n) * inner);
        llm_store(dv_part, j * A + n, outer);
    }
    for (size_t n = threadIdx.x; n < C; n += LLM_CUDA_ATTENTION_THREADS) {
        float sum = 0.0f;
        for (size_t i = 0; i < N; i++) sum += llm_load(a, i * S + j) * llm_load(dc, i * C + n);
        llm_store(dh, j * C + n, llm_load(dh, j * C + n) + sum);
    }
}

/* dq (N,A), dk (S,A), dh (S,C) and dv (A) in float += <- dc (N,C) and forward's results and
 * arguments: the backward passes of the read-out and of the score. scratch: S (N + A) floats. */
template <typename T>
static inline cudaError_t
llm_cuda_attention_backward(T *dq, T *dk, float *dv, T *dh, const T *dc, const T *c, const float *a,
                            const T *q, const T *k, const T *v, const T *h, size_t length, size_t N,
                            size_t S, size_t A, size_t C, float *scratch, cudaStream_t stream) {
    if (length > S) return (cudaError_t)cudaErrorInvalidValue;
    if (N == 0 || length == 0) return cudaSuccess;
    float *de = scratch, *dv_part = scratch + N * S;
    LLM_LAUNCH(llm_attention_queries_kernel<T>, (unsigned)N, LLM_CUDA_ATTENTION_THREADS, 0, stream,
               dq, de, dc, c, a, q, k, v, h, length, S, A, C);
    cudaError_t error = cudaGetLastError();
    if (error != cudaSuccess) return error;
    LLM_LAUNCH(llm_attention_keys_kernel<T>, (unsigned)length, LLM_CUDA_ATTENTION_THREADS, 0,
               stream, dk, dv_part, dh, de, dc, a, q, k, v, N, S, A, C);
    error = cudaGetLastError();
    if (error != cudaSuccess) return error;
    return llm_cuda_column_sum(dv, dv_part, length, A, stream);
}

/* @qkv ------------------------------------------------------ Query, key and value projections
 *
 * The product of @dense with an epilogue that knows heads: bias, the split into q, k and v of
 * (B,H,T,D), and for models that normalise q and k (Qwen 3, Gemma 3) the RMS of each head, while
 * the numbers are still in registers. Apart, the split would read and write all of them once more,
 * the norm q and k another time. A tile of the product is 128 columns wide and leaves by rows, a
 * warp a row: where D divides 128 a head lies with D / 4 neighbouring lanes, and its sum of squares
 * is a few shuffles among these. Other head sizes and float are normalised by a kernel of @rmsnorm,
 * in place.
 *
 * Backward puts dq, dk and dv together in rows, one pass of 2 elements for each element, and goes
 * on as @dense. The norm's backward pass wants what it was given: training calls
 * llm_cuda_qkv_forward and @rmsnorm.
 *
 * Traffic and limit: those of the product, which writes q, k, v in place of y. A warp writes one
 * head's row, 2 D bytes at least, in one piece.
 *
 * source  -
 * needs   cuda_launch, cuda_memory, cuda_reduce, cuda_gemm_bf16, dense, rmsnorm
 * see     rope, flash
 * topics  -
 */

/* What becomes of four entries of the product: v + b, normalised with the weights q_norm, k_norm
 * (D) or NULL, go to q (B,H,N,D) or k, v (B,Hkv,N,D). wide: D and b allow vectors. */
template <typename T> struct llm_cuda_qkv_end {
    T *q, *k, *v;
    const T *b, *q_norm, *k_norm;
    size_t N, H, Hkv, D;
    float eps;
    bool wide;
    /* Where entry `column` of row `row` goes. */
    LLM_DEVICE_METHOD T *place(size_t row, size_t column) const {
        const size_t head = column / D, h = head < H ? head : (head - H) % Hkv;
        T *const part = head < H ? q : head < H + Hkv ? k : v;
        return part + ((row / N * (head < H ? H : Hkv) + h) * N + row % N) * D + column % D;
    }
    LLM_DEVICE_METHOD void operator()(size_t row, size_t column, const float (&x)[4]) const {
        if (!wide) {
            for (size_t e = 0; e < 4 && column + e < (H + 2 * Hkv) * D; e++)
                llm_store(place(row, column + e), 0, x[e] + (b ? llm_load(b, column + e) : 0.0f));
            return;
        }
        const size_t head = column / D;
        const T *norm = head < H ? q_norm : head < H + Hkv ? k_norm : NULL;
        float u[4], b_v[4] = {0.0f, 0.0f, 0.0f, 0.0f};
        if (b) llm_load_vector(b_v, b, column);
        LLM_UNROLL
        for (int e = 0; e < 4; e++) u[e] = x[e] + b_v[e];
        if (norm) {
            const unsigned lanes = (unsigned)D / 4, lane = threadIdx.x % 32;
            const unsigned mask = (lanes == 32 ? 0xffffffffu : (1u << lanes) - 1u)
                                  << lane / lanes * lanes;
            float sum_sq = u[0] * u[0] + u[1] * u[1] + u[2] * u[2] + u[3] * u[3];
            for (unsigned distance = lanes / 2; distance > 0; distance /= 2)
                sum_sq += __shfl_xor_sync(mask, sum_sq, (int)distance);
            const float r = rsqrtf(sum_sq / (float)D + eps);
            llm_load_vector(b_v, norm, column % D);
            LLM_UNROLL
            for (int e = 0; e < 4; e++) u[e] *= r * b_v[e];
        }
        llm_store_vector(place(row, column), 0, u);
    }
};

/* q, k, v <- x (B T,C) w (O,C)^T + b, O = (H+2Hkv)D; with w turned, (C,O), x w. */
template <bool w_turned, typename T>
static inline cudaError_t llm_cuda_qkv_product(llm_cuda_qkv_end<T> end, const T *x, const T *w,
                                               const llm_qkv_config *c, cudaStream_t stream) {
    const size_t O = (c->H + 2 * c->Hkv) * c->D;
    end.N = c->T, end.H = c->H, end.Hkv = c->Hkv, end.D = c->D;
    end.wide = c->D % (16 / sizeof(T)) == 0 && llm_aligned(end.q, 16) && llm_aligned(end.k, 16) &&
               llm_aligned(end.v, 16) && llm_aligned(end.b, 16);
    if (c->B * c->T * O == 0) return cudaSuccess;
    return llm_cuda_dense_product<false, w_turned, T>::launch(end, x, w, c->B * c->T, O, c->C, 1,
                                                              c->C, stream);
}
/* Arguments as llm_qkv_forward; T is float or llm_bf16. */
template <typename T>
static inline cudaError_t llm_cuda_qkv_forward(T *q, T *k, T *v, const T *x, const T *w, const T *b,
                                               const llm_qkv_config *c, cudaStream_t stream) {
    const llm_cuda_qkv_end<T> end = {q, k, v, b, NULL, NULL, 0, 0, 0, 0, 0.0f, false};
    return llm_cuda_qkv_product<false>(end, x, w, c, stream);
}
/* Can the epilogue normalise? Tensor cores, whole heads in a row of the tile, vectors. */
static inline __attribute__((unused)) bool llm_cuda_qkv_fused(const float *x, const float *w,
                                                              const llm_qkv_config *c) {
    (void)x, (void)w, (void)c;
    return false;
}
static inline __attribute__((unused)) bool llm_cuda_qkv_fused(const llm_bf16 *x, const llm_bf16 *w,
                                                              const llm_qkv_config *c) {
    return c->D >= 8 && 128 % c->D == 0 && llm_cuda_gemm_bf16_fits(x, false, 0, c->C) &&
           llm_cuda_gemm_bf16_fits(w, false, 0, c->C);
}
/* The same, then q and k normalised head by head with the weights q_norm, k_norm (D), as
 * llm_rmsnorm_forward; for inference. */
template <typename T>
static inline cudaError_t llm_cuda_qkv_norm(T *q, T *k, T *v, const T *x, const T *w, const T *b,
                                            const T *q_norm, const T *k_norm, float eps,
                                            const llm_qkv_config *c, cudaStream_t stream) {
    llm_cuda_qkv_end<T> end = {q, k, v, b, q_norm, k_norm, 0, 0, 0, 0, eps, false};
    const bool aligned = llm_aligned(q, 16) && llm_aligned(k, 16) && llm_aligned(v, 16) &&
                         llm_aligned(b, 16) && llm_aligned(q_norm, 16) && llm_aligned(k_norm, 16);
    if (aligned && llm_cuda_qkv_fused(x, w, c))
        return llm_cuda_qkv_product<false>(end, x, w, c, stream);
    cudaError_t error = llm_cuda_qkv_forward(q, k, v, x, w, b, c, stream);
    if (error == cudaSuccess)
        error = llm_cuda_rmsnorm_forward(q, (float *)NULL, q, q_norm, c->B * c->H * c->T, c->D, eps,
                                         stream);
    if (error == cudaSuccess)
        error = llm_cuda_rmsnorm_forward(k, (float *)NULL, k, k_norm, c->B * c->Hkv * c->T, c->D,
                                         eps, stream);
    return error;
}

template <typename T, int V>
LLM_KERNEL void llm_qkv_merge_kernel(T *qkv, llm_cuda_qkv_end<T> parts) {
    const size_t columns = (parts.H + 2 * parts.Hkv) * parts.D;
    const llm_place at = llm_my_place<V>(columns);
    if (at.column >= columns) return;
    float x[V];
    llm_load_vector(x, (const T *)parts.place(at.row, at.column), 0);
    llm_store_vector(qkv, at.row * columns + at.column, x);
}
/* qkv (B,T,(H+2Hkv)D) <- q, k, v: as llm_qkv_merge. Hkv 0: the heads of q side by side, k and v are
 * not read. */
template <typename T>
static inline cudaError_t llm_cuda_qkv_merge(T *qkv, T *q, T *k, T *v, const llm_qkv_config *c,
                                             cudaStream_t stream) {
    enum { V = 16 / sizeof(T) };
    const size_t columns = (c->H + 2 * c->Hkv) * c->D;
    const llm_cuda_qkv_end<T> parts = {q,    k,    v,      NULL, NULL, NULL,
                                       c->T, c->H, c->Hkv, c->D, 0,    false};
    if (c->B * c->T * columns == 0) return cudaSuccess;
    const bool wide = c->D % V == 0 && llm_aligned(qkv, 16) && llm_aligned(q, 16) &&
                      llm_aligned(k, 16) && llm_aligned(v, 16);
    const auto merge = wide ? llm_qkv_merge_kernel<T, V> : llm_qkv_merge_kernel<T, 1>;
    LLM_LAUNCH(merge, llm_place_blocks(c->B * c->T, columns, wide ? V : 1), 256, 0, stream, qkv,
               parts);
    return cudaGetLastError();
}
/* dx, dw, db += : as llm_qkv_backward, any of the three may be NULL. rows: B T (H+2Hkv) D entries;
 * scratch as llm_cuda_dense_backward with that many columns. */
template <typename T>
static inline cudaError_t llm_cuda_qkv_backward(T *dx, float *dw, float *db, T *dq, T *dk, T *dv,
                                                const T *x, const T *w, const llm_qkv_config *c,
                                                T *rows, float *scratch, cudaStream_t stream) {
    const cudaError_t error = llm_cuda_qkv_merge(rows, dq, dk, dv, c, stream);
    if (error != cudaSuccess) return error;
    return llm_cuda_dense_backward(dx, dw, db, rows, x, w, c->B * c->T, c->C,
                                   (c->H + 2 * c->Hkv) * c->D, scratch, stream);
}

/* @attn_projection ------------------------------------------ Projection matrices and head merging
 *
 * The heads are put side by side while the product reads them: entries (row, column .. column + 7)
 * of the merged rows are 16 bytes of one head, so where D is a multiple of 8 cp.async fetches them
 * from (B,H,T,D) itself, as @conv2d_bf16 fetches pixels. The tile that leaves gets the bias and
 * what the layer's residual stream held: y = r + o W_O^T + b is one kernel. Apart, merging would
 * read and write B T H D elements more, the sum read y and r and write y. Float, and heads of other
 * sizes, are merged first, by @qkv's kernel.
 *
 * Backward reads the heads in the same way for dW_O, and the gradient of the heads leaves its
 * product in (B,H,T,D).
 *
 * Traffic and limit: the product's, o once for each 128 columns of y; r and y once, the minimum.
 * 2 B T H D C operations forwards, twice that backwards.
 *
 * source  -
 * needs   cuda_launch, cuda_memory, cuda_reduce, cuda_gemm, cuda_gemm_bf16, qkv, dense
 * see     mha, residual
 * topics  -
 */

/* Rows of heads side by side, (B T,H D), that lie as (B,H,T,D). */
struct llm_cuda_attn_projection_heads {
    const llm_bf16 *o;
    size_t T, H, D;
    LLM_DEVICE_METHOD const llm_bf16 *at(size_t row, size_t column, size_t, bool &inside) const {
        return inside ? o + ((row / T * H + column / D) * T + row % T) * D + column % D : o;
    }
};
/* What becomes of four entries of the product: y <- r + v + b. */
template <typename T> struct llm_cuda_attn_projection_end {
    T *y;
    const T *b, *r;
    size_t C;
    LLM_DEVICE_METHOD void operator()(size_t row, size_t column, const float (&v)[4]) const {
        const size_t at = row * C;
        LLM_UNROLL
        for (size_t e = column; e < column + 4; e++) {
            if (e >= C) break;
            const float sum = v[e - column] + (b ? llm_load(b, e) : 0.0f);
            llm_store(y, at + e, sum + (r ? llm_load(r, at + e) : 0.0f));
        }
    }
};
/* Four entries of a merged row are added to the heads. */
template <typename T> struct llm_cuda_attn_projection_back {
    T *dheads;
    size_t length, H, D;
    LLM_DEVICE_METHOD void operator()(size_t row, size_t column, const float (&v)[4]) const {
        LLM_UNROLL
        for (size_t e = column; e < column + 4; e++) {
            if (e >= H * D) break;
            const size_t at = ((row / length * H + e / D) * length + row % length) * D + e % D;
            llm_store(dheads, at, llm_load(dheads, at) + v[e - column]);
        }
    }
};

/* Can the product read heads where they lie? */
static inline __attribute__((unused)) bool
llm_cuda_attn_projection_fused(const float *o, const float *other, size_t D, size_t C) {
    (void)o, (void)other, (void)D, (void)C;
    return false;
}
static inline __attribute__((unused)) bool
llm_cuda_attn_projection_fused(const llm_bf16 *o, const llm_bf16 *other, size_t D, size_t C) {
    return D % 8 == 0 && C % 8 == 0 && llm_aligned(o, 8) && llm_aligned(other, 8);
}
/* The product of merged rows with w (C,H D), or with turned, of dy (N,C) with them, dw's. */
template <bool turned, typename E>
static inline cudaError_t
llm_cuda_attn_projection_product(E end, const llm_bf16 *o, const llm_bf16 *other, size_t B,
                                 size_t T, size_t H, size_t D, size_t C, size_t slices,
                                 size_t slice, cudaStream_t stream) {
    const llm_cuda_attn_projection_heads heads = {o, T, H, D};
    const size_t N = B * T, HD = H * D;
    if (turned)
        LLM_LAUNCH(
            (llm_gemm_bf16_kernel<true, true, E, const llm_bf16 *, llm_cuda_attn_projection_heads>),
            dim3(llm_cuda_gemm_blocks(C, HD), 1, (unsigned)slices), 256, LLM_CUDA_GEMM_BF16_SHARED,
            stream, end, other, heads, C, HD, N, slice);
    else
        LLM_LAUNCH((llm_gemm_bf16_kernel<false, false, E, llm_cuda_attn_projection_heads>),
                   dim3(llm_cuda_gemm_blocks(N, C)), 256, LLM_CUDA_GEMM_BF16_SHARED, stream, end,
                   heads, other, N, C, HD, slice);
    return cudaGetLastError();
}
/* Floats never ask for it. */
template <bool turned, typename E>
static inline cudaError_t
llm_cuda_attn_projection_product(E end, const float *o, const float *other, size_t B, size_t T,
                                 size_t H, size_t D, size_t C, size_t slices, size_t slice,
                                 cudaStream_t stream) {
    (void)end, (void)o, (void)other, (void)B, (void)T, (void)H, (void)D, (void)C;
    (void)slices, (void)slice, (void)stream;
    return (cudaError_t)cudaErrorInvalidValue;
}
/* merged (B,T,H D) <- o (B,H,T,D). */
template <typename T>
static inline cudaError_t llm_cuda_attn_projection_merge(T *merged, const T *o, size_t B,
                                                         size_t length, size_t H, size_t D,
                                                         cudaStream_t stream) {
    llm_qkv_config c;
    T *none = NULL;
    c.B = B, c.T = length, c.C = 0, c.H = H, c.Hkv = 0, c.D = D;
    return llm_cuda_qkv_merge(merged, const_cast<T *>(o), none, none, &c, stream);
}

/* y (B,T,C) <- r (B,T,C) + merged rows of o (B,H,T,D) times w (C,H D)^T + b (C): r and b may be
 * NULL, y may be r. merged: B T H D entries of scratch, not touched where the product reads o
 * itself. T is float or llm_bf16. */
template <typename T>
static inline cudaError_t llm_cuda_attn_projection_forward(T *y, T *merged, const T *o, const T *w,
                                                           const T *b, const T *r, size_t B,
                                                           size_t length, size_t H, size_t D,
                                                           size_t C, cudaStream_t stream) {
    const llm_cuda_attn_projection_end<T> end = {y, b, r, C};
    const size_t N = B * length, HD = H * D;
    if (N * C == 0) return cudaSuccess;
    if (llm_cuda_attn_projection_fused(o, w, D, 8))
        return llm_cuda_attn_projection_product<false>(end, o, w, B, length, H, D, C, 1, HD,
                                                       stream);
    const cudaError_t done[] = {llm_cuda_attn_projection_merge(merged, o, B, length, H, D, stream),
                                llm_cuda_dense_product<false, false, T>::launch(
                                    end, (const T *)merged, w, N, C, HD, 1, HD, stream)};
    return llm_cuda_first_error(done);
}

/* dheads (B,H,T,D), dw (C,H D), db (C) += : as llm_attn_projection_backward, any of the three may
 * be NULL; the residual's gradient is dy. merged as above; scratch: C H D
 * llm_cuda_dense_slices(B T, H D, C) floats, or NULL where that is 1. */
template <typename T>
static inline cudaError_t
llm_cuda_attn_projection_backward(T *dheads, float *dw, float *db, const T *dy, const T *o,
                                  const T *w, size_t B, size_t length, size_t H, size_t D, size_t C,
                                  T *merged, float *scratch, cudaStream_t stream) {
    const size_t N = B * length, HD = H * D;
    cudaError_t error = cudaSuccess;
    if (N * C == 0) return error;
    if (dheads && HD > 0) {
        const llm_cuda_attn_projection_back<T> end = {dheads, length, H, D};
        error = llm_cuda_dense_product<false, true, T>::launch(end, dy, w, N, HD, C, 1, C, stream);
    }
    const bool fused = llm_cuda_attn_projection_fused(o, dy, D, C);
    if (dw && HD > 0 && fused && error == cudaSuccess) {
        const size_t slices = llm_cuda_dense_slices(N, HD, C);
        const size_t slice = ((N + slices - 1) / slices + 31) / 32 * 32;
        const llm_cuda_dense_add_end<float> end = {slices > 1 ? scratch : dw, C, HD, slices > 1};
        error = llm_cuda_attn_projection_product<true>(end, o, dy, B, length, H, D, C, slices,
                                                       slice, stream);
        if (slices > 1 && error == cudaSuccess) {
            LLM_LAUNCH(llm_dense_add_slices_kernel, (unsigned)((C * HD + 255) / 256), 256, 0,
                       stream, dw, scratch, slices, C * HD);
            error = cudaGetLastError();
        }
    }
    if (dw && HD > 0 && !fused && error == cudaSuccess) {
        T *none = NULL;
        error = llm_cuda_attn_projection_merge(merged, o, B, length, H, D, stream);
        if (error == cudaSuccess)
            error = llm_cuda_dense_backward(none, dw, (float *)NULL, dy, (const T *)merged, w, N,
                                            HD, C, scratch, stream);
    }
    if (db && error == cudaSuccess) error = llm_cuda_column_sum(db, dy, N, C, stream);
    return error;
}

/* @attn_score ----------------------------------------------- Score functions
 *
 * Scores of all heads, s = gain q k^T with an optional soft cap, as the product of @dense with
 * another end: what a tile of sums leaves through multiplies, caps and stores it. Apart, these
 * would read and write all scores once more. Keys lie as weights do, so nothing is turned.
 *
 * A launch a head: for long texts each fills the card; many short ones are @flash's. Moves the
 * scores once, 2 Tq Tk D operations a head. Limit: for D = 64 and bfloat16 writing the scores (64
 * multiply-adds for 2 bytes), which is what @flash does away with.
 *
 * source  -
 * needs   cuda_launch, cuda_memory, dense
 * see     self_attn, flash
 * topics  -
 */

/* What becomes of four sums: s <- cap tanh(gain x / cap), or gain x where cap is 0. */
template <typename T> struct llm_cuda_attn_score_end {
    T *s;
    size_t columns;
    float gain, cap;
    bool wide;
    LLM_DEVICE_METHOD void operator()(size_t row, size_t column, const float (&x)[4]) const {
        float v[4];
        LLM_UNROLL
        for (int e = 0; e < 4; e++) {
            v[e] = gain * x[e];
            if (cap > 0.0f) v[e] = cap * tanhf(v[e] / cap);
        }
        T *to = s + row * columns + column;
        if (wide) {
            llm_store_vector(to, 0, v);
            return;
        }
        for (size_t e = 0; e < 4 && column + e < columns; e++) llm_store(to, e, v[e]);
    }
};

/* s (heads,Tq,Tk) <- q (heads,Tq,D), k (heads,Tk,D); cap 0 is none. As
 * llm_attn_score_capped_forward for each head. T is float or llm_bf16. */
template <typename T>
static inline cudaError_t llm_cuda_attn_score_forward(T *s, const T *q, const T *k, float gain,
                                                      float cap, size_t heads, size_t Tq, size_t Tk,
                                                      size_t D, cudaStream_t stream) {
    cudaError_t error = cudaSuccess;
    if (Tq == 0 || Tk == 0) return error;
    for (size_t h = 0; h < heads && error == cudaSuccess; h++) {
        T *sh = s + h * Tq * Tk;
        const bool wide = llm_aligned(sh, 16) && Tk % 4 == 0;
        const llm_cuda_attn_score_end<T> end = {sh, Tk, gain, cap, wide};
        error = llm_cuda_dense_product<false, false, T>::launch(end, q + h * Tq * D, k + h * Tk * D,
                                                                Tq, Tk, D, 1, D, stream);
    }
    return error;
}

/* @attn_mask ------------------------------------------------ Attention masks
 *
 * The rule becomes lists of tiles on the card, as llm_attn_mask_blocks makes them: for each row of
 * 64 queries the tiles of 64 keys that are not empty, and which of them need no test inside; and
 * the same by columns, for the kernel that owns keys. A mask of 8192 x 8192 pairs is 64 MB as bytes
 * and 16 thousand tiles as a list. @flash_mask reads the lists.
 *
 * A rule of parts is a tree of pointers on the host. For the card it is flattened into at most 16
 * steps in the order in which they are asked, a stack of bits holding what the parts said. A warp
 * takes a tile, 32 pairs at a time, and stops when it has seen both answers. Then a warp a row
 * counts tiles, and another pass writes them where the counts before it end; order and result are
 * fixed.
 *
 * Traffic: a byte a tile three times, the lists once; arrays of the rule from cache. T S steps of
 * the rule at most, and far fewer where most tiles are partial after a few pairs. Limit: integer
 * arithmetic. It is done once for all heads and layers.
 *
 * source  Dong et al. 2024, "Flex Attention", section 4.2 (block masks)
 * needs   cuda_launch
 * see     flash_mask
 * topics  -
 */
enum { LLM_CUDA_ATTN_MASK_STEPS = 16, LLM_CUDA_ATTN_MASK_TILE = 64 };

/* The rule in reverse Polish notation: a step AND or OR takes the answers of two before it. */
struct llm_cuda_attn_mask {
    llm_attn_mask step[LLM_CUDA_ATTN_MASK_STEPS];
    unsigned count;
    LLM_DEVICE_METHOD bool allowed(size_t i, size_t j) const {
        unsigned answers = 0; /* the last one is bit 0 */
        for (unsigned n = 0; n < count; n++) {
            const llm_attn_mask &m = step[n];
            const size_t at = i + m.first;
            bool yes = true;
            switch (m.kind) {
            case LLM_ATTN_MASK_CAUSAL:
                yes = j <= at;
                break;
            case LLM_ATTN_MASK_WINDOW:
                yes = (at > j ? at - j : j - at) < m.size;
                break;
            case LLM_ATTN_MASK_PREFIX:
                yes = j < m.size;
                break;
            case LLM_ATTN_MASK_DOCUMENT:
                yes = m.document[at] == m.document[j];
                break;
            case LLM_ATTN_MASK_KEYS:
                yes = m.present[j];
                break;
            case LLM_ATTN_MASK_AND:
                yes = (answers & 3u) == 3u;
                answers >>= 2;
                break;
            case LLM_ATTN_MASK_OR:
                yes = (answers & 3u) != 0u;
                answers >>= 2;
                break;
            default:
                break;
            }
            answers = answers << 1 | yes;
        }
        return answers & 1u;
    }
};
/* flat <- the rule, whose arrays are on the device; count is 0 at first. False: too many parts. */
static inline __attribute__((unused)) bool llm_cuda_attn_mask_flatten(llm_cuda_attn_mask *flat,
                                                                      const llm_attn_mask *m) {
    if (m->a && m->b &&
        !(llm_cuda_attn_mask_flatten(flat, m->a) && llm_cuda_attn_mask_flatten(flat, m->b)))
        return false;
    if (flat->count == LLM_CUDA_ATTN_MASK_STEPS) return false;
    flat->step[flat->count++] = *m;
    return true;
}

/* The tiles of row r are entries first[r] .. first[r+1]-1 of column and full: arrays as of
 * llm_attn_mask_blocks, on the device. */
struct llm_cuda_attn_mask_list {
    size_t *first, *column;
    bool *full;
};

/* kind (rows,columns): LLM_ATTN_MASK_EMPTY, FULL or PARTIAL; a warp a tile. */
LLM_KERNEL void llm_attn_mask_kind_kernel(uint8_t *kind, llm_cuda_attn_mask mask, size_t Tq,
                                          size_t Tk, size_t columns, size_t tiles) {
    enum { TILE = LLM_CUDA_ATTN_MASK_TILE };
    const size_t tile = (size_t)blockIdx.x * 8 + threadIdx.x / 32, lane = threadIdx.x % 32;
    if (tile >= tiles) return;
    const size_t i = tile / columns * TILE, j = tile % columns * TILE;
    bool some = false, all = true;
    for (size_t n = lane; n < TILE * TILE && (all || !some); n += 32) {
        const size_t r = i + n / TILE, c = j + n % TILE;
        const bool inside = r < Tq && c < Tk, yes = inside && mask.allowed(r, c);
        some = __any_sync(0xffffffffu, some || yes);
        all = __all_sync(0xffffffffu, all && (yes || !inside));
    }
    if (lane == 0)
        kind[tile] = (uint8_t)(!some ? LLM_ATTN_MASK_EMPTY
                               : all ? LLM_ATTN_MASK_FULL
                                     : LLM_ATTN_MASK_PARTIAL);
}
/* The kind of entry n of line `line`, a row of tiles or, turned, a column; empty beyond the end. */
LLM_DEVICE int llm_cuda_attn_mask_kind(const uint8_t *kind, size_t line, size_t n, size_t rows,
                                       size_t columns, bool turned) {
    if (n >= (turned ? rows : columns)) return LLM_ATTN_MASK_EMPTY;
    return turned ? kind[n * columns + line] : kind[line * columns + n];
}
/* count (lines) <- how many tiles are not empty; a warp a line. */
LLM_KERNEL void llm_attn_mask_count_kernel(size_t *count, const uint8_t *kind, size_t rows,
                                           size_t columns, bool turned) {
    const size_t line = blockIdx.x, length = turned ? rows : columns;
    size_t found = 0;
    for (size_t n = threadIdx.x; n < (length + 31) / 32 * 32; n += 32) {
        const int is = llm_cuda_attn_mask_kind(kind, line, n, rows, columns, turned);
        found += (size_t)__popc(__ballot_sync(0xffffffffu, is != LLM_ATTN_MASK_EMPTY));
    }
    if (threadIdx.x == 0) count[line] = found;
}
LLM_KERNEL void llm_attn_mask_list_kernel(llm_cuda_attn_mask_list list, const size_t *count,
                                          const uint8_t *kind, size_t rows, size_t columns,
                                          bool turned) {
    const size_t line = blockIdx.x, length = turned ? rows : columns, lane = threadIdx.x;
    unsigned long long before = 0; /* tiles of the lines before */
    for (size_t l = lane; l < line; l += 32) before += count[l];
    for (int distance = 16; distance > 0; distance /= 2)
        before += __shfl_xor_sync(0xffffffffu, before, distance);
    if (lane == 0) list.first[line] = before;
    if (lane == 0 && line + 1 == gridDim.x) list.first[line + 1] = before + count[line];
    for (size_t n = lane; n < (length + 31) / 32 * 32; n += 32) {
        const int is = llm_cuda_attn_mask_kind(kind, line, n, rows, columns, turned);
        const unsigned found = __ballot_sync(0xffffffffu, is != LLM_ATTN_MASK_EMPTY);
        const size_t to = before + (size_t)__popc(found & ((1u << lane) - 1u));
        if (is != LLM_ATTN_MASK_EMPTY) {
            list.column[to] = n;
            list.full[to] = is == LLM_ATTN_MASK_FULL;
        }
        before += (unsigned long long)__popc(found);
    }
}

/* by_rows, by_columns <- the tiles of Tq x Tk pairs, 64 x 64 each: by_rows as llm_attn_mask_blocks,
 * by_columns the same of the mask turned. For as many tiles as there are, R = ceil(Tq/64) times C =
 * ceil(Tk/64) at most. The arrays of m are on the device. kind: R C bytes; count: the larger of R
 * and C. More than 16 parts are an invalid value. */
static inline __attribute__((unused)) cudaError_t
llm_cuda_attn_mask_blocks(const llm_cuda_attn_mask_list *by_rows,
                          const llm_cuda_attn_mask_list *by_columns, const llm_attn_mask *m,
                          size_t Tq, size_t Tk, uint8_t *kind, size_t *count, cudaStream_t stream) {
    const size_t rows = (Tq + 63) / 64, columns = (Tk + 63) / 64, tiles = rows * columns;
    llm_cuda_attn_mask flat;
    flat.count = 0;
    if (!llm_cuda_attn_mask_flatten(&flat, m)) return (cudaError_t)cudaErrorInvalidValue;
    if (tiles == 0) return cudaSuccess;
    LLM_LAUNCH(llm_attn_mask_kind_kernel, (unsigned)((tiles + 7) / 8), 256, 0, stream, kind, flat,
               Tq, Tk, columns, tiles);
    cudaError_t error = cudaGetLastError();
    for (int turned = 0; turned < 2 && error == cudaSuccess; turned++) {
        const unsigned lines = (unsigned)(turned ? columns : rows);
        LLM_LAUNCH(llm_attn_mask_count_kernel, lines, 32, 0, stream, count, kind, rows, columns,
                   turned != 0);
        LLM_LAUNCH(llm_attn_mask_list_kernel, lines, 32, 0, stream, turned ? *by_columns : *by_rows,
                   count, kind, rows, columns, turned != 0);
        error = cudaGetLastError();
    }
    return error;
}

/* @masked_score --------------------------------------------- Masked scores and safe softmax
 *
 * The row kernel of @softmax with what attention puts in front of it: a mask and a bias that may be
 * one for all texts, heads or queries, read where they stand and never made as large as the scores,
 * and the row's lse for those who compute weights again. Rows to 1024 take a warp, longer ones a
 * block; the pair (max, sum) is carried along, so memory is read once and the caches once.
 *
 * Backward, a row: sum_j p_ij dp_ij, then ds. Where a bias was shared its gradient is a sum over
 * the rows that shared it: a second kernel takes a thread a key and goes down those rows, with the
 * sums that the first one left, so that the order is fixed and nothing is added atomically.
 *
 * Moves 2 elements a score forwards, 4 backwards, the minimum, and a mask byte and a bias element
 * where these are not shared; with dbias 2 more. Limit: memory bandwidth. A bias that all rows
 * share has only Tk threads for its gradient.
 *
 * source  -
 * needs   cuda_launch, cuda_memory, cuda_reduce, logsumexp
 * see     softmax, flash
 * topics  -
 */

/* The first entry that row of the scores reads in an array of extents B, H, Tq: as
 * llm_masked_score_at. */
LLM_DEVICE size_t llm_cuda_masked_score_at(const llm_masked_score_shape &c, size_t row, size_t B,
                                           size_t H, size_t Tq) {
    const size_t i = row % c.Tq, h = row / c.Tq % c.H, b = row / c.Tq / c.H;
    return (((B == 1 ? 0 : b) * H + (H == 1 ? 0 : h)) * Tq + (Tq == 1 ? 0 : i)) * c.Tk;
}
LLM_DEVICE const bool *llm_cuda_masked_score_may(const bool *allowed, size_t row,
                                                 const llm_masked_score_shape &c) {
    return allowed ? allowed + llm_cuda_masked_score_at(c, row, c.mask_B, c.mask_H, c.mask_Tq)
                   : NULL;
}
/* v <- s + bias from column i of a row on; -inf where may is false, whatever stands there. */
template <typename T, int V>
LLM_DEVICE void llm_cuda_masked_score_load(float (&v)[V], const T *s, const bool *may, const T *add,
                                           size_t i) {
    float b[V];
    llm_load_vector(v, s, i);
    if (add) {
        llm_load_vector(b, add, i);
        LLM_UNROLL
        for (int k = 0; k < V; k++) v[k] += b[k];
    }
    LLM_UNROLL
    for (int k = 0; may && k < V; k++) v[k] = may[i + k] ? v[k] : -INFINITY;
}

template <typename T, int V, bool warp>
LLM_KERNEL void llm_masked_score_forward_kernel(T *p, float *lse, const T *s, const bool *allowed,
                                                const T *bias, llm_masked_score_shape c) {
    const llm_row_place at = llm_my_row<warp>();
    if (at.row >= c.B * c.H * c.Tq) return;
    const size_t n = c.Tk, begin = (size_t)at.lane * V, step = (size_t)at.width * V;
    const T *from = s + at.row * n;
    const bool *may = llm_cuda_masked_score_may(allowed, at.row, c);
    const T *add =
        bias ? bias + llm_cuda_masked_score_at(c, at.row, c.bias_B, c.bias_H, c.bias_Tq) : NULL;
    llm_logsumexp_pair a = {-INFINITY, 0.0f};
    float v[V];
    size_t i = begin;
    for (; i < n; i += step) {
        llm_cuda_masked_score_load(v, from, may, add, i);
        llm_cuda_logsumexp_add(a, v, 1.0f);
    }
    a = llm_cuda_logsumexp_row<warp>(a, 1.0f);
    if (lse && at.lane == 0) llm_store(lse, at.row, a.max + logf(a.sum));
    const float gain = 1.0f / a.sum;
    while (i > begin) {
        i -= step;
        llm_cuda_masked_score_load(v, from, may, add, i);
        LLM_UNROLL
        for (int k = 0; k < V; k++) v[k] = v[k] == -INFINITY ? 0.0f : expf(v[k] - a.max) * gain;
        llm_store_vector(p, at.row * n + i, v);
    }
}

/* p (B,H,Tq,Tk), lse (B,H,Tq) or NULL <- s, allowed, bias: arguments as
 * llm_masked_score_softmax_forward; T is float or llm_bf16. p may be s. */
template <typename T>
static inline cudaError_t llm_cuda_masked_score_softmax_forward(T *p, float *lse, const T *s,
                                                                const bool *allowed, const T *bias,
                                                                const llm_masked_score_shape *c,
                                                                cudaStream_t stream) {
    enum { V = 16 / sizeof(T) };
    const size_t rows = c->B * c->H * c->Tq, n = c->Tk;
    if (rows == 0) return cudaSuccess;
    const bool wide = llm_aligned(p, n) && llm_aligned(s, n) && llm_aligned(bias, n);
    const bool warp = n <= 1024;
    const auto forward = wide   ? warp ? llm_masked_score_forward_kernel<T, V, true>
                                       : llm_masked_score_forward_kernel<T, V, false>
                           : warp ? llm_masked_score_forward_kernel<T, 1, true>
                                : llm_masked_score_forward_kernel<T, 1, false>;
    LLM_LAUNCH(forward, llm_row_blocks(rows, warp), warp ? 128 : llm_row_threads(wide ? n / V : n),
               0, stream, p, lse, s, allowed, bias, *c);
    return cudaGetLastError();
}

template <typename T, int V, bool warp>
LLM_KERNEL void llm_masked_score_backward_kernel(T *ds, float *averages, const T *dp, const T *p,
                                                 const bool *allowed, llm_masked_score_shape c) {
    const llm_row_place at = llm_my_row<warp>();
    if (at.row >= c.B * c.H * c.Tq) return;
    const size_t n = c.Tk, first = at.row * n;
    const size_t begin = (size_t)at.lane * V, step = (size_t)at.width * V;
    const bool *may = llm_cuda_masked_score_may(allowed, at.row, c);
    float p_v[V], dp_v[V], ds_v[V], average = 0.0f;
    size_t i = begin;
    for (; i < n; i += step) {
        llm_load_vector(p_v, p, first + i);
        llm_load_vector(dp_v, dp, first + i);
        LLM_UNROLL
        for (int k = 0; k < V; k++)
            average += may && !may[i + k] ? 0.0f : p_v[k] * dp_v[k]; /* dp may be NaN there */
    }
    average = llm_row_sum<warp>(average);
    if (averages && at.lane == 0) llm_store(averages, at.row, average);
    while (ds && i > begin) {
        i -= step;
        llm_load_vector(p_v, p, first + i);
        llm_load_vector(dp_v, dp, first + i);
        llm_load_vector(ds_v, ds, first + i);
        LLM_UNROLL
        for (int k = 0; k < V; k++)
            ds_v[k] += may && !may[i + k] ? 0.0f : p_v[k] * (dp_v[k] - average);
        llm_store_vector(ds, first + i, ds_v);
    }
}
/* A key of a row of dbias: the sum of ds over the rows of scores that read it. */
template <typename T>
LLM_KERNEL void llm_masked_score_bias_kernel(float *dbias, const float *averages, const T *dp,
                                             const T *p, const bool *allowed,
                                             llm_masked_score_shape c) {
    const llm_place at = llm_my_place<1>(c.Tk);
    if (at.column >= c.Tk) return;
    const size_t i0 = at.row % c.bias_Tq, h0 = at.row / c.bias_Tq % c.bias_H;
    const size_t b0 = at.row / c.bias_Tq / c.bias_H;
    float sum = 0.0f;
    for (size_t b = b0; b < (c.bias_B == 1 ? c.B : b0 + 1); b++)
        for (size_t h = h0; h < (c.bias_H == 1 ? c.H : h0 + 1); h++)
            for (size_t i = i0; i < (c.bias_Tq == 1 ? c.Tq : i0 + 1); i++) {
                const size_t row = (b * c.H + h) * c.Tq + i, j = row * c.Tk + at.column;
                const bool *may = llm_cuda_masked_score_may(allowed, row, c);
                if (may && !may[at.column]) continue;
                sum += llm_load(p, j) * (llm_load(dp, j) - llm_load(averages, row));
            }
    const size_t to = at.row * c.Tk + at.column;
    llm_store(dbias, to, llm_load(dbias, to) + sum);
}

/* ds (B,H,Tq,Tk), dbias (its extents, float) += : arguments as llm_masked_score_softmax_backward;
 * T is float or llm_bf16, ds or dbias may be NULL. averages: B H Tq floats of scratch, where dbias
 * is asked for. */
template <typename T>
static inline cudaError_t
llm_cuda_masked_score_softmax_backward(T *ds, float *dbias, const T *dp, const T *p,
                                       const bool *allowed, const llm_masked_score_shape *c,
                                       float *averages, cudaStream_t stream) {
    enum { V = 16 / sizeof(T) };
    const size_t rows = c->B * c->H * c->Tq, n = c->Tk;
    if (rows == 0 || n == 0) return cudaSuccess;
    const bool wide = llm_aligned(ds, n) && llm_aligned(dp, n) && llm_aligned(p, n);
    const bool warp = n <= 1024;
    const auto backward = wide   ? warp ? llm_masked_score_backward_kernel<T, V, true>
                                        : llm_masked_score_backward_kernel<T, V, false>
                            : warp ? llm_masked_score_backward_kernel<T, 1, true>
                                 : llm_masked_score_backward_kernel<T, 1, false>;
    LLM_LAUNCH(backward, llm_row_blocks(rows, warp), warp ? 128 : llm_row_threads(wide ? n / V : n),
               0, stream, ds, dbias ? averages : NULL, dp, p, allowed, *c);
    const cudaError_t error = cudaGetLastError();
    if (!dbias || error != cudaSuccess) return error;
    LLM_LAUNCH(llm_masked_score_bias_kernel<T>,
               llm_place_blocks(c->bias_B * c->bias_H * c->bias_Tq, n, 1), 256, 0, stream, dbias,
               averages, dp, p, allowed, *c);
    return cudaGetLastError();
}

/* @attn_weights --------------------------------------------- Attention weights
 *
 * Softmax, sink and dropout in one reading of the scores: the row kernel of @softmax, the sink
 * joined to the row's pair (max, sum) as one more entry, and the mask drawn from Philox where the
 * weight is still in a register. Backward draws the same numbers: a mask is never stored. Rows to
 * 1024 take a warp, longer ones a block.
 *
 * Moves 2 elements a score forwards (3 with dropout: the weights before and behind it), 4 backwards
 * (p, dw, ds in; ds out), the minimum. delta, one number a row, saves backward's first look at dw
 * and p. Limit: memory bandwidth; with dropout the ten rounds of Philox for four entries.
 *
 * source  -
 * needs   cuda_launch, cuda_memory, cuda_reduce, logsumexp, dropout
 * see     masked_score, flash
 * topics  -
 */
template <typename T, int V, bool warp>
LLM_KERNEL void llm_attn_weights_forward_kernel(T *w, T *p, float *lse, const T *s,
                                                const float *sink, llm_attn_weights_config c) {
    const llm_row_place at = llm_my_row<warp>();
    if (at.row >= c.B * c.H * c.Tq) return;
    const size_t n = c.Tk, first = at.row * n;
    const size_t begin = (size_t)at.lane * V, step = (size_t)at.width * V;
    const float gain = 1.0f / c.temp;
    llm_logsumexp_pair a = {-INFINITY, 0.0f};
    float v[V], scale[V];
    size_t i = begin;
    for (; i < n; i += step) {
        llm_load_vector(v, s, first + i);
        llm_cuda_logsumexp_add(a, v, gain);
    }
    a = llm_cuda_logsumexp_row<warp>(a, gain);
    const float top = a.max == -INFINITY ? 0.0f : a.max; /* of the scores, before temp */
    llm_logsumexp_pair all = {gain * a.max, a.max == -INFINITY ? 0.0f : a.sum};
    if (sink) {
        const llm_logsumexp_pair rest = {llm_load(sink, at.row / c.Tq % c.H), 1.0f};
        all = llm_cuda_logsumexp_merge(all, rest, 1.0f);
    }
    const float shift = all.max == -INFINITY ? 0.0f : all.max, below = gain * top - shift;
    const float share = all.sum == 0.0f ? 0.0f : 1.0f / all.sum;
    if (at.lane == 0) llm_store(lse, at.row, shift + logf(all.sum));
    while (i > begin) {
        i -= step;
        llm_load_vector(v, s, first + i);
        LLM_UNROLL
        for (int k = 0; k < V; k++) v[k] = share * expf(gain * (v[k] - top) + below);
        llm_store_vector(p, first + i, v);
        if (w == p) continue;
        llm_cuda_dropout_scales(scale, c.dropout, c.seed, c.offset + first + i);
        LLM_UNROLL
        for (int k = 0; k < V; k++) v[k] = scale[k] * v[k];
        llm_store_vector(w, first + i, v);
    }
}

/* w, p (B,H,Tq,Tk), lse (B,H,Tq) <- s, sink: arguments as llm_attn_weights_forward; T is float or
 * llm_bf16. w and p may be one array without dropout, and p may be s. */
template <typename T>
static inline cudaError_t
llm_cuda_attn_weights_forward(T *w, T *p, float *lse, const T *s, const float *sink,
                              const llm_attn_weights_config *c, cudaStream_t stream) {
    enum { V = 16 / sizeof(T) };
    const size_t rows = c->B * c->H * c->Tq, n = c->Tk;
    if (!(c->temp > 0.0f) || (w == p && c->dropout > 0.0f))
        return (cudaError_t)cudaErrorInvalidValue;
    if (rows == 0) return cudaSuccess;
    const bool wide = llm_aligned(w, n) && llm_aligned(p, n) && llm_aligned(s, n);
    const bool warp = n <= 1024;
    const auto forward = wide   ? warp ? llm_attn_weights_forward_kernel<T, V, true>
                                       : llm_attn_weights_forward_kernel<T, V, false>
                           : warp ? llm_attn_weights_forward_kernel<T, 1, true>
                                : llm_attn_weights_forward_kernel<T, 1, false>;
    LLM_LAUNCH(forward, llm_row_blocks(rows, warp), warp ? 128 : llm_row_threads(wide ? n / V : n),
               0, stream, w, p, lse, s, sink, *c);
    return cudaGetLastError();
}

/* dp <- dw as dropout lets it through; what was dropped may be NaN. */
template <typename T, int V>
LLM_DEVICE void llm_cuda_attn_weights_load(float (&dp)[V], const T *dw,
                                           const llm_attn_weights_config &c, size_t i) {
    float scale[V];
    llm_load_vector(dp, dw, i);
    if (c.dropout == 0.0f) return;
    llm_cuda_dropout_scales(scale, c.dropout, c.seed, c.offset + i);
    LLM_UNROLL
    for (int k = 0; k < V; k++) dp[k] = scale[k] == 0.0f ? 0.0f : scale[k] * dp[k];
}
template <typename T, int V, bool warp>
LLM_KERNEL void llm_attn_weights_backward_kernel(T *ds, float *averages, const T *dw, const T *p,
                                                 const float *delta, llm_attn_weights_config c) {
    const llm_row_place at = llm_my_row<warp>();
    if (at.row >= c.B * c.H * c.Tq) return;
    const size_t n = c.Tk, first = at.row * n;
    const size_t begin = (size_t)at.lane * V, step = (size_t)at.width * V;
    float p_v[V], dp_v[V], ds_v[V], average = 0.0f;
    for (size_t i = begin; i < n && !delta; i += step) {
        llm_load_vector(p_v, p, first + i);
        llm_cuda_attn_weights_load(dp_v, dw, c, first + i);
        LLM_UNROLL
        for (int k = 0; k < V; k++) average += p_v[k] * dp_v[k];
    }
    average = delta ? llm_load(delta, at.row) : llm_row_sum<warp>(average);
    if (averages && at.lane == 0) llm_store(averages, at.row, average);
    for (size_t i = begin; i < n; i += step) {
        llm_load_vector(p_v, p, first + i);
        llm_cuda_attn_weights_load(dp_v, dw, c, first + i);
        llm_load_vector(ds_v, ds, first + i);
        LLM_UNROLL
        for (int k = 0; k < V; k++) ds_v[k] += p_v[k] * (dp_v[k] - average) / c.temp;
        llm_store_vector(ds, first + i, ds_v);
    }
}
/* A block a head: dsink -= sum of e^(sink - lse) times the rows' averages. */
LLM_KERNEL void llm_attn_weights_sink_kernel(float *dsink, const float *averages, const float *lse,
                                             const float *sink, llm_attn_weights_config c) {
    const size_t h = blockIdx.x;
    const float mine = llm_load(sink, h);
    float sum = 0.0f;
    for (size_t bi = threadIdx.x; bi < c.B * c.Tq; bi += blockDim.x) {
        const size_t row = (bi / c.Tq * c.H + h) * c.Tq + bi % c.Tq;
        sum += expf(mine - llm_load(lse, row)) * llm_load(averages, row);
    }
    sum = llm_block_sum(sum);
    if (threadIdx.x == 0) llm_store(dsink, h, llm_load(dsink, h) - sum);
}

/* ds (B,H,Tq,Tk), dsink (H) or NULL += <- dw, p, lse, sink, delta or NULL: arguments as
 * llm_attn_weights_backward; T is float or llm_bf16. averages: B H Tq floats of scratch where dsink
 * is asked for. */
template <typename T>
static inline cudaError_t llm_cuda_attn_weights_backward(T *ds, float *dsink, const T *dw,
                                                         const T *p, const float *lse,
                                                         const float *sink, const float *delta,
                                                         const llm_attn_weights_config *c,
                                                         float *averages, cudaStream_t stream) {
    enum { V = 16 / sizeof(T) };
    const size_t rows = c->B * c->H * c->Tq, n = c->Tk;
    if (rows == 0 || n == 0) return cudaSuccess;
    const bool wide = llm_aligned(ds, n) && llm_aligned(dw, n) && llm_aligned(p, n);
    const bool warp = n <= 1024;
    const auto backward = wide   ? warp ? llm_attn_weights_backward_kernel<T, V, true>
                                        : llm_attn_weights_backward_kernel<T, V, false>
                            : warp ? llm_attn_weights_backward_kernel<T, 1, true>
                                 : llm_attn_weights_backward_kernel<T, 1, false>;
    LLM_LAUNCH(backward, llm_row_blocks(rows, warp), warp ? 128 : llm_row_threads(wide ? n / V : n),
               0, stream, ds, dsink ? averages : NULL, dw, p, delta, *c);
    const cudaError_t error = cudaGetLastError();
    if (!dsink || error != cudaSuccess) return error;
    LLM_LAUNCH(llm_attn_weights_sink_kernel, (unsigned)c->H, 256, 0, stream, dsink, averages, lse,
               sink, *c);
    return cudaGetLastError();
}

/* @self_attn ------------------------------------------------ Self-attention
 *
 * Attention in three steps, each a kernel that exists: scores (@attn_score), softmax of their rows
 * in place (@softmax), weights times values (@dense's product, the values turned). It is what
 * @flash is measured against: the table P of T T numbers a head goes to memory and back twice.
 * Backward in five: dP = dO V^T, the softmax's backward pass, dV = P^T dO, dQ = dS K, dK = dS^T Q.
 *
 * Moves 4 T T elements a head for P and 4 T D for the rest; the minimum, without P, is 4 T D. For
 * D = 64 and T = 1024 that is 17 times as much. Backward 10 T T for P, dP and dS, 11 T D beside
 * them. 4 T T D operations a head, twice that backwards. Limit: memory bandwidth.
 *
 * source  -
 * needs   cuda_launch, cuda_memory, attn_score, softmax, dense
 * see     flash, causal_attn
 * topics  -
 */
/* o (heads,Tq,D), p (heads,Tq,Tk) <- q (heads,Tq,D), k, v (heads,Tk,D): softmax of q k^T / sqrt(D),
 * times v, all positions seen. T is float or llm_bf16. */
template <typename T>
static inline cudaError_t llm_cuda_self_attn_forward(T *o, T *p, const T *q, const T *k, const T *v,
                                                     size_t heads, size_t Tq, size_t Tk, size_t D,
                                                     cudaStream_t stream) {
    if (D == 0 || Tq == 0) return cudaSuccess;
    cudaError_t error = llm_cuda_attn_score_forward(p, q, k, 1.0f / sqrtf((float)D), 0.0f, heads,
                                                    Tq, Tk, D, stream);
    if (error == cudaSuccess)
        error = llm_cuda_softmax_forward(p, (const T *)p, heads * Tq, Tk, 1.0f, stream);
    for (size_t h = 0; h < heads && error == cudaSuccess; h++) {
        T *oh = o + h * Tq * D;
        const bool wide = llm_aligned(oh, 16) && D % 4 == 0;
        const llm_cuda_attn_score_end<T> end = {oh, D, 1.0f, 0.0f, wide};
        error = llm_cuda_dense_product<false, true, T>::launch(
            end, (const T *)(p + h * Tq * Tk), v + h * Tk * D, Tq, D, Tk, 1, Tk, stream);
    }
    return error;
}

/* dq (heads,Tq,D), dk, dv (heads,Tk,D) += <- dout and forward's p, q, k, v: the four products of
 * llm_self_attn_backward and the softmax between them. None may be NULL. scratch: 2 heads Tq Tk
 * entries. */
template <typename T>
static inline cudaError_t
llm_cuda_self_attn_backward(T *dq, T *dk, T *dv, const T *dout, const T *p, const T *q, const T *k,
                            const T *v, size_t heads, size_t Tq, size_t Tk, size_t D, T *scratch,
                            cudaStream_t stream) {
    if (D == 0 || Tq == 0 || Tk == 0 || heads == 0) return cudaSuccess;
    const size_t table = Tq * Tk;
    T *dp = scratch, *ds = scratch + heads * table;
    cudaError_t error =
        llm_cuda_attn_score_forward(dp, dout, v, 1.0f, 0.0f, heads, Tq, Tk, D, stream);
    if (error == cudaSuccess) error = cudaMemsetAsync(ds, 0, heads * table * sizeof(T), stream);
    if (error == cudaSuccess) /* with the scale, 1 / sqrt(D), as a temperature */
        error = llm_cuda_softmax_backward(ds, (const T *)dp, p, heads * Tq, Tk, sqrtf((float)D),
                                          stream);
    for (size_t h = 0; h < heads && error == cudaSuccess; h++) {
        const T *ph = p + h * table, *dsh = ds + h * table, *g = dout + h * Tq * D;
        const llm_cuda_dense_add_end<T> to_q = {dq + h * Tq * D, Tq, D, false};
        const llm_cuda_dense_add_end<T> to_k = {dk + h * Tk * D, Tk, D, false};
        const llm_cuda_dense_add_end<T> to_v = {dv + h * Tk * D, Tk, D, false};
        const cudaError_t done[] = {
            llm_cuda_dense_product<true, true, T>::launch(to_v, ph, g, Tk, D, Tq, 1, Tq, stream),
            llm_cuda_dense_product<false, true, T>::launch(to_q, dsh, k + h * Tk * D, Tq, D, Tk, 1,
                                                           Tk, stream),
            llm_cuda_dense_product<true, true, T>::launch(to_k, dsh, q + h * Tq * D, Tk, D, Tq, 1,
                                                          Tq, stream)};
        error = llm_cuda_first_error(done);
    }
    return error;
}

/* @causal_attn ---------------------------------------------- Causal self-attention
 *
 * The kernel to read before @flash: a warp a row, float only, the loops of the definition.
 *
 * Forward, row i: the 32 lanes stand side by side along D. A key is a coalesced read, a product a
 * lane and five shuffles; lane l keeps every 32nd score and the (max, sum) of those, so that the
 * scores are written in rows and a softmax needs one more reading of them. Then the lanes gather
 * the values. Backward: queries gather dq from their past in one kernel, which leaves ds behind;
 * keys gather dk and dv from their future in another, down the columns. Who gathers owns what he
 * writes: no atomics, and the order is fixed. Rows are of unequal length, so the longest ones are
 * started first, and the short ones fill the gaps at the end.
 *
 * att and ds are 2 B H T^2 bytes each (half a square of floats), written once and read once or
 * twice: what @flash saves. 2 T^2 D operations a head forwards, 4 T^2 D backwards. Limit: L1, since
 * each multiply-add reads a key or a value from it and no row shares one with another; for small D
 * the shuffles.
 *
 * source  -
 * needs   cuda_launch, cuda_memory, cuda_reduce, logsumexp
 * see     flash, gqa
 * topics  -
 */
enum { LLM_CUDA_CAUSAL_ATTN_WARPS = 4 }; /* rows a block: neighbours, which find keys in L1 */

/* The warp's head and its number among that head's T rows; false: there is none. */
LLM_DEVICE bool llm_cuda_causal_attn_row(size_t &bh, size_t &row, size_t T) {
    bh = blockIdx.x;
    row = (size_t)blockIdx.y * LLM_CUDA_CAUSAL_ATTN_WARPS + threadIdx.x / 32;
    return row < T;
}
static inline __attribute__((unused)) dim3 llm_cuda_causal_attn_grid(size_t BH, size_t T) {
    return dim3((unsigned)BH,
                (unsigned)((T + LLM_CUDA_CAUSAL_ATTN_WARPS - 1) / LLM_CUDA_CAUSAL_ATTN_WARPS));
}
/* The dot product of two rows, in every lane. */
LLM_DEVICE float llm_cuda_causal_attn_dot(const float *a, const float *b, size_t D) {
    float sum = 0.0f;
    for (size_t d = threadIdx.x % 32; d < D; d += 32) sum += llm_load(a, d) * llm_load(b, d);
    return llm_warp_sum(sum);
}
/* y_d += scale sum_j w_j x_jd over j < n, the lanes along D; w and x with strides ws and xs. */
LLM_DEVICE void llm_cuda_causal_attn_gather(float *y, const float *w, size_t ws, const float *x,
                                            size_t xs, float scale, size_t n, size_t D) {
    for (size_t d = threadIdx.x % 32; d < D; d += 32) {
        float sum = 0.0f;
        for (size_t j = 0; j < n; j++) sum += llm_load(w, j * ws) * llm_load(x, j * xs + d);
        llm_store(y, d, llm_load(y, d) + scale * sum);
    }
}

LLM_KERNEL void llm_causal_attn_forward_kernel(float *out, float *att, const float *qkv, size_t T,
                                               size_t C, size_t H) {
    const size_t D = C / H, S = 3 * C, lane = threadIdx.x % 32;
    const float scale = 1.0f / sqrtf((float)D);
    size_t bh, i;
    if (!llm_cuda_causal_attn_row(bh, i, T)) return;
    i = T - 1 - i; /* the longest first */
    const float *k = qkv + bh / H * T * S + bh % H * D + C, *v = k + C, *q = k - C + i * S;
    float *p = att + (bh * T + i) * T, *o = out + (bh / H * T + i) * C + bh % H * D;

    llm_logsumexp_pair a = {-INFINITY, 0.0f}; /* of this lane's scores */
    for (size_t j = 0; j <= i; j += 32) {
        float mine[1] = {-INFINITY};
        for (size_t n = 0; n < 32 && j + n <= i; n++) {
            const float s = scale * llm_cuda_causal_attn_dot(q, k + (j + n) * S, D);
            if (n == lane) mine[0] = s;
        }
        if (j + lane <= i) {
            llm_cuda_logsumexp_add(a, mine, 1.0f);
            llm_store(p, j + lane, mine[0]);
        }
    }
    a = llm_cuda_logsumexp_row<true>(a, 1.0f);
    for (size_t j = lane; j <= i; j += 32) llm_store(p, j, expf(llm_load(p, j) - a.max) / a.sum);
    for (size_t d = lane; d < D; d += 32) llm_store(o, d, 0.0f);
    __syncwarp(); /* p is complete before other lanes read it */
    llm_cuda_causal_attn_gather(o, p, 1, v, S, 1.0f, i + 1, D);
}

/* out (B,T,C), att (B,H,T,T) <- qkv (B,T,3C): arguments as llm_causal_attn_forward. Above the
 * diagonal att is not written. */
static inline __attribute__((unused)) cudaError_t
llm_cuda_causal_attn_forward(float *out, float *att, const float *qkv, size_t B, size_t T, size_t C,
                             size_t H, cudaStream_t stream) {
    if (H == 0 || C % H != 0) return (cudaError_t)cudaErrorInvalidValue;
    if (B == 0 || T == 0 || C == 0) return cudaSuccess;
    LLM_LAUNCH(llm_causal_attn_forward_kernel, llm_cuda_causal_attn_grid(B * H, T),
               32 * LLM_CUDA_CAUSAL_ATTN_WARPS, 0, stream, out, att, qkv, T, C, H);
    return cudaGetLastError();
}

/* Row i of ds and of dq: ds_ij = p_ij (do_i.v_j - sum_l p_il do_i.v_l). */
LLM_KERNEL void llm_causal_attn_queries_kernel(float *dqkv, float *ds, const float *dout,
                                               const float *att, const float *qkv, size_t T,
                                               size_t C, size_t H) {
    const size_t D = C / H, S = 3 * C, lane = threadIdx.x % 32;
    size_t bh, i;
    if (!llm_cuda_causal_attn_row(bh, i, T)) return;
    i = T - 1 - i;
    const size_t first = bh / H * T * S + bh % H * D; /* the head's q of position 0 */
    const float *k = qkv + first + C, *v = k + C, *p = att + (bh * T + i) * T;
    const float *g = dout + (bh / H * T + i) * C + bh % H * D;
    float *ds_i = ds + (bh * T + i) * T, along = 0.0f;

    for (size_t j = 0; j <= i; j++) {
        const float dp = llm_cuda_causal_attn_dot(g, v + j * S, D);
        along += llm_load(p, j) * dp;
        if (lane == j % 32) llm_store(ds_i, j, dp);
    }
    for (size_t j = lane; j <= i; j += 32)
        llm_store(ds_i, j, llm_load(p, j) * (llm_load(ds_i, j) - along));
    __syncwarp();
    llm_cuda_causal_attn_gather(dqkv + first + i * S, ds_i, 1, k, S, 1.0f / sqrtf((float)D), i + 1,
                                D);
}
/* Row j of dk and dv: the columns j of ds and p, from the diagonal down. */
LLM_KERNEL void llm_causal_attn_keys_kernel(float *dqkv, const float *ds, const float *dout,
                                            const float *att, const float *qkv, size_t T, size_t C,
                                            size_t H) {
    const size_t D = C / H, S = 3 * C;
    size_t bh, j; /* key 0 has the longest column and comes first */
    if (!llm_cuda_causal_attn_row(bh, j, T)) return;
    const size_t q = (bh / H * T + j) * S + bh % H * D, diagonal = (bh * T + j) * T + j;
    llm_cuda_causal_attn_gather(dqkv + q + C, ds + diagonal, T, qkv + q, S, 1.0f / sqrtf((float)D),
                                T - j, D);
    llm_cuda_causal_attn_gather(dqkv + q + 2 * C, att + diagonal, T,
                                dout + (bh / H * T + j) * C + bh % H * D, C, 1.0f, T - j, D);
}

/* dqkv (B,T,3C) += : arguments as llm_causal_attn_backward. scratch: B H T T floats for ds, of
 * which the lower triangles are used. */
static inline __attribute__((unused)) cudaError_t
llm_cuda_causal_attn_backward(float *dqkv, const float *dout, const float *att, const float *qkv,
                              size_t B, size_t T, size_t C, size_t H, float *scratch,
                              cudaStream_t stream) {
    if (H == 0 || C % H != 0) return (cudaError_t)cudaErrorInvalidValue;
    if (B == 0 || T == 0 || C == 0) return cudaSuccess;
    const dim3 grid = llm_cuda_causal_attn_grid(B * H, T);
    const unsigned threads = 32 * LLM_CUDA_CAUSAL_ATTN_WARPS;
    LLM_LAUNCH(llm_causal_attn_queries_kernel, grid, threads, 0, stream, dqkv, scratch, dout, att,
               qkv, T, C, H);
    const cudaError_t error = cudaGetLastError();
    if (error != cudaSuccess) return error;
    LLM_LAUNCH(llm_causal_attn_keys_kernel, grid, threads, 0, stream, dqkv, scratch, dout, att, qkv,
               T, C, H);
    return cudaGetLastError();
}

/* @mha ------------------------------------------------------ Multi-head attention
 *
 * The layer as four launches: the product of @qkv, which leaves q, k and v in heads, @flash, heads
 * put side by side, the product of @dense with W_O. Backward the gradient of the heads comes out of
 * its product in (B,H,T,D) at once, by the same epilogue. Self-attention with the mask, dropout and
 * grouped heads of llm_flash_config; the weights p are never stored.
 *
 * Traffic beside the products': q, k, v and out once from each side, and 2 elements for each
 * element where heads are put side by side. 2 B T C (2 H + 2 Hkv) D operations in the products, 4 B
 * H T^2 D in attention (half of that causal), backwards twice and 3.5 times as many. Limit: the
 * products, by count; from T = 2 C on (causal: 4 C) attention.
 *
 * source  -
 * needs   qkv, dense, activation, flash
 * see     flash_backward, causal_attn
 * topics  -
 */

/* Written below, at @flash and @flash_backward. */
template <typename T>
static inline cudaError_t llm_cuda_flash_forward(T *out, float *lse, const T *q, const T *k,
                                                 const T *v, const llm_flash_config *c,
                                                 cudaStream_t stream);
template <typename T>
static inline cudaError_t llm_cuda_flash_backward(T *dq, T *dk, T *dv, const T *dout, const T *out,
                                                  const float *lse, const T *q, const T *k,
                                                  const T *v, const llm_flash_config *c,
                                                  float *scratch, cudaStream_t stream);

/* w ((H+2Hkv)D,C), torch's in_proj_weight where Hkv = H; wo (C,H D); b ((H+2Hkv)D), bo (C), or
 * NULL. */
template <typename T> struct llm_cuda_mha_params { const T *w, *b, *wo, *bo; };
/* Their gradients, each of which may be NULL. */
struct llm_cuda_mha_grads {
    float *w, *b, *wo, *bo;
};
/* What forward leaves for backward: q, out (B,H,T,D), k, v (B,Hkv,T,D), merged (B,T,H D), lse
 * (B,H,T). */
template <typename T> struct llm_cuda_mha_saved {
    T *q, *k, *v, *out, *merged;
    float *lse;
};

/* Shapes of the two products: q, k, v from C channels; heads alone, as wo takes them. */
static inline __attribute__((unused)) llm_qkv_config llm_cuda_mha_shape(const llm_flash_config *a,
                                                                        size_t C, bool heads) {
    llm_qkv_config c;
    c.B = a->B, c.T = a->T, c.C = C, c.H = a->H, c.Hkv = heads ? 0 : a->Hkv, c.D = a->D;
    return c;
}

/* y (B,T,C), *s <- x (B,T,C), p: llm_mha_forward of x with itself, masked, dropped and grouped as a
 * says, of which S is T. T is float or llm_bf16. */
template <typename T>
static inline cudaError_t llm_cuda_mha_forward(T *y, const llm_cuda_mha_saved<T> *s, const T *x,
                                               const llm_cuda_mha_params<T> *p, size_t C,
                                               const llm_flash_config *a, cudaStream_t stream) {
    if (a->S != a->T) return (cudaError_t)cudaErrorInvalidValue;
    const llm_qkv_config qkv = llm_cuda_mha_shape(a, C, false);
    const llm_qkv_config heads = llm_cuda_mha_shape(a, C, true);
    T *none = NULL;
    cudaError_t error = llm_cuda_qkv_forward(s->q, s->k, s->v, x, p->w, p->b, &qkv, stream);
    if (error == cudaSuccess)
        error = llm_cuda_flash_forward(s->out, s->lse, (const T *)s->q, (const T *)s->k,
                                       (const T *)s->v, a, stream);
    if (error == cudaSuccess)
        error = llm_cuda_qkv_merge(s->merged, s->out, none, none, &heads, stream);
    if (error == cudaSuccess)
        error = llm_cuda_dense_forward(y, none, (const T *)s->merged, p->wo, p->bo, a->B * a->T,
                                       a->H * a->D, C, LLM_ACTIVATION_IDENTITY, stream);
    return error;
}

/* Entries of scratch for backward: of T, and floats. */
static inline __attribute__((unused)) size_t llm_cuda_mha_scratch(const llm_flash_config *a) {
    return a->B * a->T * a->D * (3 * a->H + 4 * a->Hkv);
}
static inline __attribute__((unused)) size_t llm_cuda_mha_sums(size_t C,
                                                               const llm_flash_config *a) {
    const size_t N = a->B * a->T, O = (a->H + 2 * a->Hkv) * a->D, HD = a->H * a->D;
    size_t most = N * a->H;
    const size_t w = O * C * llm_cuda_dense_slices(N, C, O);
    const size_t wo = HD * C * llm_cuda_dense_slices(N, HD, C);
    if (most < w) most = w;
    return most < wo ? wo : most;
}

/* dx (B,T,C), g's arrays += <- dy (B,T,C) and forward's s, x, p: as llm_mha_backward. dx may be
 * NULL. scratch: llm_cuda_mha_scratch entries; sums: llm_cuda_mha_sums floats. */
template <typename T>
static inline cudaError_t llm_cuda_mha_backward(T *dx, const llm_cuda_mha_grads *g, const T *dy,
                                                const llm_cuda_mha_saved<T> *s, const T *x,
                                                const llm_cuda_mha_params<T> *p, size_t C,
                                                const llm_flash_config *a, T *scratch, float *sums,
                                                cudaStream_t stream) {
    if (a->S != a->T) return (cudaError_t)cudaErrorInvalidValue;
    const size_t N = a->B * a->T, nq = N * a->H * a->D, nk = N * a->Hkv * a->D;
    if (nq == 0) return cudaSuccess;
    const llm_qkv_config qkv = llm_cuda_mha_shape(a, C, false);
    llm_qkv_config heads = llm_cuda_mha_shape(a, C, true);
    T *dout = scratch, *dq = dout + nq, *dk = dq + nq, *dv = dk + nk, *rows = dv + nk, *none = NULL;
    const llm_cuda_qkv_end<T> end = {dout, none, none, NULL, NULL, NULL, 0, 0, 0, 0, 0.0f, false};

    cudaError_t error = llm_cuda_dense_backward(none, g->wo, g->bo, dy, (const T *)s->merged, p->wo,
                                                N, a->H * a->D, C, sums, stream);
    if (error == cudaSuccess) /* dout = dy wo, in heads */
        error = llm_cuda_qkv_product<true>(end, dy, p->wo, &heads, stream);
    if (error == cudaSuccess) error = cudaMemsetAsync(dq, 0, (nq + 2 * nk) * sizeof(T), stream);
    if (error == cudaSuccess)
        error = llm_cuda_flash_backward(dq, dk, dv, (const T *)dout, (const T *)s->out, s->lse,
                                        (const T *)s->q, (const T *)s->k, (const T *)s->v, a, sums,
                                        stream);
    if (error == cudaSuccess)
        error =
            llm_cuda_qkv_backward(dx, g->w, g->b, dq, dk, dv, x, p->w, &qkv, rows, sums, stream);
    return error;
}

/* @cross_attn ----------------------------------------------- Cross-attention
 *
 * Queries of B texts of T tokens against memories of B different lengths, which lie behind each
 * other without padding (@pad): the rule of @flash23 with no limit to either side. What a product
 * writes, rows of H D numbers, is the layout (N,H,D) that the rule reads, so that nothing is split
 * into heads or put together again: three products, attention, one product. Padded rows of memory
 * are neither projected nor read, where a mask (@flash's hidden) would have had them computed.
 *
 * The memory's two products are a launch of their own, done once for a source; decoding then calls
 * the other half with T = 1.
 *
 * Traffic beside the products': q, k, v and out once from each side. 2 (2 B T C + 2 M Cm) H D
 * operations in the products, 4 T M H D in attention for M rows of memory in all, backwards twice
 * and 3.5 times as many. Limit: the products, by count, as long as memories are shorter than 2 C.
 *
 * source  -
 * needs   cuda_launch, dense, activation, flash23
 * see     mha, flash23, pad
 * topics  -
 */

/* Written below, at @flash23. */
template <typename T>
static inline cudaError_t
llm_cuda_flash23_forward(T *out, float *lse, const T *q, const T *k, const T *v, size_t Tq,
                         size_t Tk, const llm_flash23_config *c, cudaStream_t stream);
template <typename T>
static inline cudaError_t
llm_cuda_flash23_backward(T *dq, T *dk, T *dv, const T *dout, const T *out, const float *lse,
                          const T *q, const T *k, const T *v, size_t Tq, size_t Tk,
                          const llm_flash23_config *c, float *scratch, cudaStream_t stream);

/* x (B,T,C); memory of text b is rows start[b] .. start[b+1]-1 of mem (M,Cm), at most S of them.
 * start (B+1) is on the device; NULL: each has S, and M = B S. */
typedef struct {
    size_t B, T, C, H, D, M, S, Cm;
    const size_t *start;
} llm_cuda_cross_attn_config;
/* wq (H D,C), wk, wv (H D,Cm), wo (C,H D), biases or NULL: as in llm_mha_params. */
template <typename T> struct llm_cuda_cross_attn_params {
    const T *wq, *wk, *wv, *wo, *bq, *bk, *bv, *bo;
};
/* What forward leaves for backward: q, out (B T,H,D), k, v (M,H,D), lse (B T,H). */
template <typename T> struct llm_cuda_cross_attn_saved {
    T *q, *k, *v, *out;
    float *lse;
};

/* The attention in the middle. */
static inline __attribute__((unused)) llm_flash23_config
llm_cuda_cross_attn_flash(const llm_cuda_cross_attn_config *c) {
    const llm_flash23_config a = {
        c->B, c->H, c->H, c->D, NULL, c->start, SIZE_MAX, SIZE_MAX, 1.0f / sqrtf((float)c->D),
        0.0f, NULL};
    return a;
}
/* s->k, s->v <- mem: llm_cross_attn_precompute, once for a source. */
template <typename T>
static inline cudaError_t
llm_cuda_cross_attn_memory(const llm_cuda_cross_attn_saved<T> *s, const T *mem,
                           const llm_cuda_cross_attn_params<T> *p,
                           const llm_cuda_cross_attn_config *c, cudaStream_t stream) {
    T *none = NULL;
    const cudaError_t done[] = {
        llm_cuda_dense_forward(s->k, none, mem, p->wk, p->bk, c->M, c->Cm, c->H * c->D,
                               LLM_ACTIVATION_IDENTITY, stream),
        llm_cuda_dense_forward(s->v, none, mem, p->wv, p->bv, c->M, c->Cm, c->H * c->D,
                               LLM_ACTIVATION_IDENTITY, stream)};
    return llm_cuda_first_error(done);
}
/* a (B,T,C), s->q, s->out, s->lse <- x (B,T,C), s->k, s->v: with the launch above as
 * llm_cross_attn_forward. A text without memory gets bo. */
template <typename T>
static inline cudaError_t
llm_cuda_cross_attn_forward(T *a, const llm_cuda_cross_attn_saved<T> *s, const T *x,
                            const llm_cuda_cross_attn_params<T> *p,
                            const llm_cuda_cross_attn_config *c, cudaStream_t stream) {
    const size_t N = c->B * c->T, HD = c->H * c->D;
    const llm_flash23_config flash = llm_cuda_cross_attn_flash(c);
    T *none = NULL;
    const cudaError_t done[] = {llm_cuda_dense_forward(s->q, none, x, p->wq, p->bq, N, c->C, HD,
                                                       LLM_ACTIVATION_IDENTITY, stream),
                                llm_cuda_flash23_forward(s->out, s->lse, (const T *)s->q,
                                                         (const T *)s->k, (const T *)s->v, c->T,
                                                         c->S, &flash, stream),
                                llm_cuda_dense_forward(a, none, (const T *)s->out, p->wo, p->bo, N,
                                                       HD, c->C, LLM_ACTIVATION_IDENTITY, stream)};
    return llm_cuda_first_error(done);
}

/* Entries of scratch for backward: of T, and floats. */
static inline __attribute__((unused)) size_t
llm_cuda_cross_attn_scratch(const llm_cuda_cross_attn_config *c) {
    return 2 * (c->B * c->T + c->M) * c->H * c->D;
}
static inline __attribute__((unused)) size_t
llm_cuda_cross_attn_sums(const llm_cuda_cross_attn_config *c) {
    const size_t N = c->B * c->T, HD = c->H * c->D;
    const size_t wants[4] = {N * c->H, HD * c->C * llm_cuda_dense_slices(N, c->C, HD),
                             HD * c->C * llm_cuda_dense_slices(N, HD, c->C),
                             HD * c->Cm * llm_cuda_dense_slices(c->M, c->Cm, HD)};
    size_t most = 0;
    for (size_t i = 0; i < 4; i++) most = wants[i] > most ? wants[i] : most;
    return most;
}
/* dx (B,T,C), dmem (M,Cm), g's arrays (floats, in p's order) += <- da (B,T,C) and forward's s, x,
 * mem, p: as llm_cross_attn_backward. dx, dmem and each array of g may be NULL. scratch:
 * llm_cuda_cross_attn_scratch entries; sums: llm_cuda_cross_attn_sums floats. */
template <typename T>
static inline cudaError_t llm_cuda_cross_attn_backward(
    T *dx, T *dmem, const llm_mha_params *g, const T *da, const llm_cuda_cross_attn_saved<T> *s,
    const T *x, const T *mem, const llm_cuda_cross_attn_params<T> *p,
    const llm_cuda_cross_attn_config *c, T *scratch, float *sums, cudaStream_t stream) {
    const size_t N = c->B * c->T, HD = c->H * c->D, M = c->M;
    const llm_flash23_config flash = llm_cuda_cross_attn_flash(c);
    T *dout = scratch, *dq = dout + N * HD, *dk = dq + N * HD, *dv = dk + M * HD;
    if (N * HD == 0) return cudaSuccess;
    const cudaError_t done[] = {
        cudaMemsetAsync(scratch, 0, llm_cuda_cross_attn_scratch(c) * sizeof(T), stream),
        llm_cuda_dense_backward(dout, g->wo, g->bo, da, (const T *)s->out, p->wo, N, HD, c->C, sums,
                                stream),
        llm_cuda_flash23_backward(dq, dk, dv, (const T *)dout, (const T *)s->out, s->lse,
                                  (const T *)s->q, (const T *)s->k, (const T *)s->v, c->T, c->S,
                                  &flash, sums, stream),
        llm_cuda_dense_backward(dx, g->wq, g->bq, (const T *)dq, x, p->wq, N, c->C, HD, sums,
                                stream),
        llm_cuda_dense_backward(dmem, g->wk, g->bk, (const T *)dk, mem, p->wk, M, c->Cm, HD, sums,
                                stream),
        llm_cuda_dense_backward(dmem, g->wv, g->bv, (const T *)dv, mem, p->wv, M, c->Cm, HD, sums,
                                stream)};
    return llm_cuda_first_error(done);
}

/* @absolute_position ---------------------------------------- Learned absolute position table
 *
 * A token's row and its place's row are read, added and written: the first layer of GPT-2 as one
 * kernel, where a gather of tokens and an addition of places would move 5 elements for each. A warp
 * takes a row, 16 bytes a lane. Traffic: 3 elements for each one written, of which the places' come
 * from L2 after the first text of a batch. Limit: memory bandwidth.
 *
 * Backward needs no kernel of its own: the table of places is a table of ids that happen to be
 * numbers of places, and llm_cuda_embedding_backward adds the rows of each in a fixed order.
 *
 * source  -
 * needs   cuda_launch, cuda_memory, cuda_reduce
 * see     embedding, sinusoidal
 * topics  -
 */
template <typename T, int V>
LLM_KERNEL void llm_absolute_position_kernel(T *y, const int *ids, const int *pos, const T *wte,
                                             const T *wpe, size_t N, size_t rows, size_t M,
                                             size_t period, size_t C) {
    const llm_row_place p = llm_my_row<true>();
    if (p.row >= N) return;
    const int id = ids[p.row], at = pos ? pos[p.row] : (int)(p.row % period);
    const bool known = id >= 0 && (size_t)id < rows && at >= 0 && (size_t)at < M;
    for (size_t i = (size_t)p.lane * V; i < C; i += (size_t)p.width * V) {
        float v[V], w[V];
        LLM_UNROLL
        for (int k = 0; k < V; k++) v[k] = w[k] = NAN;
        if (known) {
            llm_load_vector(v, wte, (size_t)id * C + i);
            llm_load_vector(w, wpe, (size_t)at * C + i);
        }
        LLM_UNROLL
        for (int k = 0; k < V; k++) v[k] += w[k];
        llm_store_vector(y, p.row * C + i, v);
    }
}

/* y (N,C) <- wte (V,C) at ids (N) + wpe (M,C) at pos (N), or at n mod `period` where pos is NULL
 * (texts of that length). T is float or llm_bf16. An id or a place outside its table gives a row of
 * NaN. */
template <typename T>
static inline cudaError_t llm_cuda_absolute_position_embed(T *y, const int *ids, const int *pos,
                                                           const T *wte, const T *wpe, size_t N,
                                                           size_t V, size_t M, size_t period,
                                                           size_t C, cudaStream_t stream) {
    enum { wide = 16 / sizeof(T) };
    if (N == 0) return cudaSuccess;
    const auto absolute_position = llm_aligned(y, C) && llm_aligned(wte, C) && llm_aligned(wpe, C)
                                       ? llm_absolute_position_kernel<T, wide>
                                       : llm_absolute_position_kernel<T, 1>;
    LLM_LAUNCH(absolute_position, llm_row_blocks(N, true), 128, 0, stream, y, ids, pos, wte, wpe, N,
               V, M, period, C);
    return cudaGetLastError();
}

/* @sinusoidal ----------------------------------------------- Sinusoidal encoding
 *
 * The encoding is made where it is added: no table is read, and the longest text is not known
 * beforehand. A warp takes a row, a lane a pair of channels. The angle is a product in double,
 * brought back into one turn before it becomes a float: two double operations and a rounding for a
 * pair, then sine and cosine in float. Traffic: 2 elements for each one written, and C/2 doubles of
 * frequencies from L2. Limit: memory bandwidth for C of hundreds; the sines on a card whose doubles
 * are slow (64 times slower than floats on consumer cards), where a table is better.
 *
 * source  -
 * needs   cuda_launch, cuda_memory, cuda_reduce
 * see     absolute_position, rope
 * topics  -
 */
template <typename T>
LLM_KERNEL void llm_sinusoidal_kernel(T *y, const T *x, const int *pos, const double *frequency,
                                      size_t N, size_t period, size_t C, float scale,
                                      llm_sinusoidal_order order) {
    const llm_row_place p = llm_my_row<true>();
    if (p.row >= N) return;
    const double turn = 6.283185307179586476925;
    const double t = pos ? (double)pos[p.row] : (double)(p.row % period);
    for (size_t i = p.lane; i < C / 2; i += p.width) {
        const double angle = t * frequency[i];
        const float rest = (float)(angle - turn * rint(angle / turn));
        const bool neighbours = order == LLM_SINUSOIDAL_NEIGHBOURS;
        const size_t first = p.row * C + (neighbours ? 2 * i : i);
        const size_t second = neighbours ? first + 1 : first + C / 2;
        const bool swapped = order == LLM_SINUSOIDAL_COSINE_FIRST;
        const float s = sinf(rest), c = cosf(rest);
        const float v = scale * llm_load(x, first) + (swapped ? c : s);
        const float w = scale * llm_load(x, second) + (swapped ? s : c);
        llm_store(y, first, v);
        llm_store(y, second, w);
    }
}

/* y (N,C) <- scale x (N,C) + PE(pos); pos (N), or NULL for n mod `period`. frequency (C/2) are
 * llm_sinusoidal_frequency's, made on the host. T is float or llm_bf16; y may be x. */
template <typename T>
static inline cudaError_t
llm_cuda_sinusoidal_forward(T *y, const T *x, const int *pos, const double *frequency, size_t N,
                            size_t period, size_t C, float scale, llm_sinusoidal_order order,
                            cudaStream_t stream) {
    if (C % 2 != 0) return cudaErrorInvalidValue;
    if (N == 0) return cudaSuccess;
    LLM_LAUNCH(llm_sinusoidal_kernel<T>, llm_row_blocks(N, true), 128, 0, stream, y, x, pos,
               frequency, N, period, C, scale, order);
    return cudaGetLastError();
}

/* @relative_position_t5 ------------------------------------- Relative position: T5's buckets
 *
 * Forward: a block adds the bias to one row of scores. The bucket of each diagonal is made once, on
 * the host (llm_relative_position_t5_diagonals), where the logarithm is the reference's; a head's
 * column of w waits in shared memory. Traffic: each score in and out, the minimum for a bias that
 * is not inside the product's kernel, and T + S - 1 numbers of buckets from L2.
 *
 * Backward, without atomics: a thread owns a diagonal of a head and adds it up over texts and rows.
 * Neighbouring threads read neighbouring keys, so the reads are whole lines; the sums are doubles,
 * as in the reference. Then a block for each head: a thread a bucket, which adds its diagonals in
 * order. Reads ds once, the minimum. Limit: memory bandwidth; with few heads and short texts the B
 * T dependent additions of one thread.
 *
 * source  -
 * needs   cuda_launch, cuda_memory
 * see     flash
 * topics  -
 */
enum { LLM_CUDA_RELATIVE_POSITION_T5_BUCKETS = 128 }; /* the most */

template <typename U>
LLM_KERNEL void llm_relative_position_t5_forward_kernel(U *s, const float *w, const int *bucket,
                                                        size_t H, size_t T, size_t S,
                                                        size_t buckets) {
    __shared__ float mine[LLM_CUDA_RELATIVE_POSITION_T5_BUCKETS];
    const size_t row = blockIdx.x, h = row / T % H;
    for (size_t n = threadIdx.x; n < buckets; n += blockDim.x) mine[n] = w[n * H + h];
    __syncthreads();
    const int *at = bucket + T - 1 - row % T;
    for (size_t j = threadIdx.x; j < S; j += blockDim.x)
        llm_store(s, row * S + j, llm_load(s, row * S + j) + mine[at[j]]);
}

/* s (B,H,T,S) += w (buckets,H); bucket (T+S-1) on the device; U is float or llm_bf16. */
template <typename U>
static inline cudaError_t
llm_cuda_relative_position_t5_forward(U *s, const float *w, const int *bucket, size_t B, size_t H,
                                      size_t T, size_t S, size_t buckets, cudaStream_t stream) {
    if (buckets > LLM_CUDA_RELATIVE_POSITION_T5_BUCKETS) return cudaErrorInvalidValue;
    if (B * H * T * S == 0) return cudaSuccess;
    LLM_LAUNCH(llm_relative_position_t5_forward_kernel<U>, (unsigned)(B * H * T), 128, 0, stream, s,
               w, bucket, H, T, S, buckets);
    return cudaGetLastError();
}

template <typename U>
LLM_KERNEL void llm_relative_position_t5_sum_kernel(double *sum, const U *ds, size_t B, size_t H,
                                                    size_t T, size_t S) {
    const size_t n = (size_t)blockIdx.x * blockDim.x + threadIdx.x, h = blockIdx.y;
    if (n >= T + S - 1) return;
    double mine = 0.0;
    for (size_t b = 0; b < B; b++)
        for (size_t i = 0; i < T; i++) {
            const size_t j = n + i; /* and T - 1 less */
            if (j + 1 < T || j - (T - 1) >= S) continue;
            mine += (double)llm_load(ds, ((b * H + h) * T + i) * S + j - (T - 1));
        }
    sum[h * (T + S - 1) + n] = mine;
}

LLM_KERNEL void llm_relative_position_t5_bucket_kernel(float *dw, const double *sum,
                                                       const int *bucket, size_t H,
                                                       size_t diagonals) {
    const size_t h = blockIdx.x, mine = threadIdx.x;
    double all = 0.0;
    for (size_t n = 0; n < diagonals; n++)
        if ((size_t)bucket[n] == mine) all += sum[h * diagonals + n];
    llm_store(dw, mine * H + h, llm_load(dw, mine * H + h) + (float)all);
}

/* dw (buckets,H) += <- ds (B,H,T,S), bucket (T+S-1); scratch: H (T+S-1) doubles. */
template <typename U>
static inline cudaError_t
llm_cuda_relative_position_t5_backward(float *dw, const U *ds, const int *bucket, double *scratch,
                                       size_t B, size_t H, size_t T, size_t S, size_t buckets,
                                       cudaStream_t stream) {
    if (buckets > LLM_CUDA_RELATIVE_POSITION_T5_BUCKETS) return cudaErrorInvalidValue;
    if (B * H * T * S == 0) return cudaSuccess;
    const size_t diagonals = T + S - 1;
    LLM_LAUNCH(llm_relative_position_t5_sum_kernel<U>,
               dim3((unsigned)((diagonals + 127) / 128), (unsigned)H), 128, 0, stream, scratch, ds,
               B, H, T, S);
    LLM_LAUNCH(llm_relative_position_t5_bucket_kernel, (unsigned)H, (unsigned)buckets, 0, stream,
               dw, scratch, bucket, H, diagonals);
    return cudaGetLastError();
}

/* @rope ----------------------------------------------------- Rotary position embedding
 *
 * Between the QKV product and attention three things happen to q, k and v: heads are split off, q
 * and k are turned, k and v go to their places in the cache. All are copies with at most two
 * multiplications a number, so they are one kernel: it reads the rows of the product once and
 * writes each number where it will be read. The way back turns by the opposite angle and puts the
 * gradients together into rows.
 *
 * A thread moves 2 V entries of one head, 16 bytes at a time: V pairs, which are two vectors half a
 * rotation apart, or for neighbours two vectors in a row. Angles come as tables of llm_rope_table,
 * computed once for all layers (in doubles, which a kernel should not be asked for); any other
 * frequencies (@yarn) or axes are only another table.
 *
 * Traffic: 2 elements for each element, the minimum, where three kernels move 6 for q and k; the
 * tables come from L2. Limit: memory bandwidth.
 *
 * source  -
 * needs   cuda_launch, cuda_memory, cuda_reduce
 * see     qkv, gqa, flash
 * topics  -
 */

/* T new positions of B texts; the first rot of D dimensions turn. k and v have room for so many
 * positions a head; text b's new ones stand from length[b] on (a device array, or NULL: from 0 on).
 * one_table: the tables are (T,rot/2) for all texts, else (B,T,rot/2). */
typedef struct {
    size_t B, T, H, Hkv, D, rot, room;
    const size_t *length;
    bool one_table;
    llm_rope_pairing pairing;
} llm_cuda_rope_config;

/* A whole text from position 0 on, without spare room, all dimensions turned. */
static inline __attribute__((unused)) llm_cuda_rope_config
llm_cuda_rope_defaults(size_t B, size_t T, size_t H, size_t Hkv, size_t D) {
    const llm_cuda_rope_config c = {B, T, H, Hkv, D, D, T, NULL, true, LLM_ROPE_HALVES};
    return c;
}

/* Unit u of a head, 2 V entries: y <- x turned by the angles c, s (sign -1: back), or y += that. */
template <typename T, int V>
LLM_DEVICE void llm_cuda_rope_turn(T *y, const T *x, const float *c, const float *s, float sign,
                                   size_t u, size_t rot, llm_rope_pairing pairing, bool turns,
                                   bool add) {
    turns = turns && u * 2 * V < rot;
    const bool halves = turns && pairing == LLM_ROPE_HALVES;
    const size_t at[2] = {halves ? u * V : u * 2 * V, halves ? u * V + rot / 2 : u * 2 * V + V};
    float w[2][V], turned[2][V], cosine[V], sine[V];
    LLM_UNROLL
    for (int n = 0; n < 2; n++) llm_load_vector(w[n], x, at[n]);
    if (turns) {
        llm_load_vector(cosine, c, u * V);
        llm_load_vector(sine, s, u * V);
        LLM_UNROLL
        for (int k = 0; k < V; k++) { /* pair u V + k: entries k of both, or 2 k and 2 k + 1 */
            const float a = halves ? w[0][k] : w[2 * k / V][2 * k % V];
            const float b = halves ? w[1][k] : w[(2 * k + 1) / V][(2 * k + 1) % V];
            const float a_turned = a * cosine[k] - b * (sign * sine[k]);
            const float b_turned = a * (sign * sine[k]) + b * cosine[k];
            if (halves)
                turned[0][k] = a_turned, turned[1][k] = b_turned;
            else
                turned[2 * k / V][2 * k % V] = a_turned,
                                          turned[(2 * k + 1) / V][(2 * k + 1) % V] = b_turned;
        }
    }
    LLM_UNROLL
    for (int n = 0; n < 2; n++) {
        float old[V];
        if (add) llm_load_vector(old, y, at[n]);
        LLM_UNROLL
        for (int k = 0; k < V; k++)
            w[n][k] = (turns ? turned[n][k] : w[n][k]) + (add ? old[k] : 0.0f);
        llm_store_vector(y, at[n], w[n]);
    }
}

/* Where a unit of a row of qkv belongs: its number in the head, and where that head's D entries
 * stand in q (part 0), k or v. */
struct llm_cuda_rope_place {
    size_t unit, part, at;
};
/* The place of what stands in that column of the row, with so many units to a head. */
LLM_DEVICE llm_cuda_rope_place llm_cuda_rope_find(size_t row, size_t column, size_t units,
                                                  const llm_cuda_rope_config &c) {
    const size_t b = row / c.T, t = row % c.T, head = column / units;
    const size_t part = head < c.H ? 0 : head < c.H + c.Hkv ? 1 : 2;
    const size_t h = part == 0 ? head : head - c.H - (part - 1) * c.Hkv;
    const size_t position = part != 0 && c.length ? c.length[b] + t : t;
    const size_t heads = part == 0 ? c.H : c.Hkv, room = part == 0 ? c.T : c.room;
    const llm_cuda_rope_place p = {column % units, part, ((b * heads + h) * room + position) * c.D};
    return p;
}

template <typename T, int V>
LLM_KERNEL void llm_rope_split_kernel(T *q, T *k, T *v, const T *qkv, const float *cosine,
                                      const float *sine, llm_cuda_rope_config c) {
    const size_t units = c.D / (2 * V), columns = (c.H + 2 * c.Hkv) * units;
    const llm_place at = llm_my_place<1>(columns);
    if (at.column >= columns) return;
    const llm_cuda_rope_place p = llm_cuda_rope_find(at.row, at.column, units, c);
    const size_t angle = (c.one_table ? at.row % c.T : at.row) * (c.rot / 2);
    T *to = p.part == 0 ? q : p.part == 1 ? k : v;
    llm_cuda_rope_turn<T, V>(to + p.at, qkv + (at.row * columns + at.column - p.unit) * 2 * V,
                             cosine + angle, sine + angle, 1.0f, p.unit, c.rot, c.pairing,
                             p.part < 2, false);
}
template <typename T, int V>
LLM_KERNEL void llm_rope_merge_kernel(T *dqkv, const T *dq, const T *dk, const T *dv,
                                      const float *cosine, const float *sine,
                                      llm_cuda_rope_config c) {
    const size_t units = c.D / (2 * V), columns = (c.H + 2 * c.Hkv) * units;
    const llm_place at = llm_my_place<1>(columns);
    if (at.column >= columns) return;
    const llm_cuda_rope_place p = llm_cuda_rope_find(at.row, at.column, units, c);
    const size_t angle = (c.one_table ? at.row % c.T : at.row) * (c.rot / 2);
    const T *from = p.part == 0 ? dq : p.part == 1 ? dk : dv;
    llm_cuda_rope_turn<T, V>(dqkv + (at.row * columns + at.column - p.unit) * 2 * V, from + p.at,
                             cosine + angle, sine + angle, -1.0f, p.unit, c.rot, c.pairing,
                             p.part < 2, false);
}

/* Can all of this be moved 16 bytes at a time, whole pairs of vectors? */
template <typename T>
static inline bool llm_cuda_rope_wide(const T *a, const T *b, const T *c, const T *d,
                                      const float *cosine, const float *sine, size_t D,
                                      size_t rot) {
    const size_t pair = 32 / sizeof(T);
    return D % pair == 0 && rot % pair == 0 && llm_aligned(a, D) && llm_aligned(b, D) &&
           llm_aligned(c, D) && llm_aligned(d, D) && llm_aligned(cosine, rot / 2) &&
           llm_aligned(sine, rot / 2);
}
static inline __attribute__((unused)) bool llm_cuda_rope_valid(const llm_cuda_rope_config *c) {
    return c->D % 2 == 0 && c->rot % 2 == 0 && c->rot <= c->D && (c->length || c->T <= c->room);
}

/* q (B,H,T,D), k, v (B,Hkv,room,D) <- qkv (B,T,(H+2Hkv)D): llm_qkv_split, llm_rope_forward of q and
 * k, llm_kv_cache_append. Of k and v only the new positions are written. D is even; T is float or
 * llm_bf16. */
template <typename T>
static inline cudaError_t llm_cuda_rope_split(T *q, T *k, T *v, const T *qkv, const float *cosine,
                                              const float *sine, const llm_cuda_rope_config *c,
                                              cudaStream_t stream) {
    enum { V = 16 / sizeof(T) };
    if (!llm_cuda_rope_valid(c)) return (cudaError_t)cudaErrorInvalidValue;
    const size_t rows = c->B * c->T, columns = (c->H + 2 * c->Hkv) * c->D / 2;
    if (rows * columns == 0) return cudaSuccess;
    const bool wide = llm_cuda_rope_wide<T>(q, k, v, qkv, cosine, sine, c->D, c->rot);
    const auto split = wide ? llm_rope_split_kernel<T, V> : llm_rope_split_kernel<T, 1>;
    LLM_LAUNCH(split, llm_place_blocks(rows, wide ? columns / V : columns, 1), 256, 0, stream, q, k,
               v, qkv, cosine, sine, *c);
    return cudaGetLastError();
}
/* dqkv (B,T,(H+2Hkv)D) <- dq (B,H,T,D), dk, dv (B,Hkv,room,D): the backward pass of the above; all
 * of dqkv is overwritten. */
template <typename T>
static inline cudaError_t llm_cuda_rope_merge(T *dqkv, const T *dq, const T *dk, const T *dv,
                                              const float *cosine, const float *sine,
                                              const llm_cuda_rope_config *c, cudaStream_t stream) {
    enum { V = 16 / sizeof(T) };
    if (!llm_cuda_rope_valid(c)) return (cudaError_t)cudaErrorInvalidValue;
    const size_t rows = c->B * c->T, columns = (c->H + 2 * c->Hkv) * c->D / 2;
    if (rows * columns == 0) return cudaSuccess;
    const bool wide = llm_cuda_rope_wide<T>(dqkv, dq, dk, dv, cosine, sine, c->D, c->rot);
    const auto merge = wide ? llm_rope_merge_kernel<T, V> : llm_rope_merge_kernel<T, 1>;
    LLM_LAUNCH(merge, llm_place_blocks(rows, wide ? columns / V : columns, 1), 256, 0, stream, dqkv,
               dq, dk, dv, cosine, sine, *c);
    return cudaGetLastError();
}

template <typename T, int V>
LLM_KERNEL void llm_rope_rows_kernel(T *y, const T *x, const float *cosine, const float *sine,
                                     size_t H, size_t rows, size_t D, size_t rot,
                                     llm_rope_pairing pairing, float sign) {
    const llm_place at = llm_my_place<1>(D / (2 * V));
    const size_t angle = (at.row / (H * rows) * rows + at.row % rows) * (rot / 2);
    if (at.column < D / (2 * V))
        llm_cuda_rope_turn<T, V>(y + at.row * D, x + at.row * D, cosine + angle, sine + angle, sign,
                                 at.column, rot, pairing, true, sign < 0.0f);
}
/* y (B,H,T,D) <- x: as llm_rope_forward, for models that normalise heads between split and turn; y
 * may be x. With sign -1 dx += dy turned back, as llm_rope_backward. */
template <typename T>
static inline cudaError_t llm_cuda_rope_rows(T *y, const T *x, const float *cosine,
                                             const float *sine, size_t B, size_t H, size_t rows,
                                             size_t D, size_t rot, llm_rope_pairing pairing,
                                             float sign, cudaStream_t stream) {
    enum { V = 16 / sizeof(T) };
    if (D % 2 != 0 || rot % 2 != 0 || rot > D) return (cudaError_t)cudaErrorInvalidValue;
    if (B * H * rows * D == 0) return cudaSuccess;
    const bool wide = llm_cuda_rope_wide<T>(y, x, y, x, cosine, sine, D, rot);
    const auto turn = wide ? llm_rope_rows_kernel<T, V> : llm_rope_rows_kernel<T, 1>;
    LLM_LAUNCH(turn, llm_place_blocks(B * H * rows, wide ? D / 2 / V : D / 2, 1), 256, 0, stream, y,
               x, cosine, sine, H, rows, D, rot, pairing, sign);
    return cudaGetLastError();
}

/* @alibi ---------------------------------------------------- ALiBi
 *
 * The kernels of @flash23 with the head's slope as an argument: a score loses slope times distance
 * in the register it stands in. A bias of (H,T,S) floats, or BLOOM's (B,H,S), is never made.
 *
 * Traffic and limit: @flash's; two operations a score more. The slopes are fixed, as in all models
 * that use them; gradients for them are the reference's.
 *
 * source  Press, Smith & Lewis 2022, "Train Short, Test Long", section 3
 * needs   flash23
 * see     flash23, sliding_window
 * topics  -
 */

/* Written below, at @flash23. */
template <typename T>
static inline cudaError_t llm_cuda_flash23_heads(T *out, float *lse, const T *q, const T *k,
                                                 const T *v, size_t Tq, size_t Tk,
                                                 llm_flash23_config c, cudaStream_t stream);
template <typename T>
static inline cudaError_t
llm_cuda_flash23_heads_backward(T *dq, T *dk, T *dv, const T *dout, const T *out, const float *lse,
                                const T *q, const T *k, const T *v, size_t Tq, size_t Tk,
                                llm_flash23_config c, float *scratch, cudaStream_t stream);

/* The rule: slopes m (H), one side or both. */
static inline __attribute__((unused)) llm_flash23_config
llm_cuda_alibi_flash(const float *m, const llm_alibi_config *c) {
    llm_flash23_config a = llm_flash23_defaults(NULL, c->B, c->H, c->H, c->D);
    a.right = c->causal ? 0 : SIZE_MAX, a.slope = m;
    return a;
}
/* out (B,H,T,D), lse (B,H,T) <- q (B,H,T,D), k, v (B,H,S,D), m (H), all on the device: as
 * llm_alibi_forward, for D <= 128. T is float or llm_bf16. */
template <typename T>
static inline cudaError_t llm_cuda_alibi_forward(T *out, float *lse, const T *q, const T *k,
                                                 const T *v, const float *m,
                                                 const llm_alibi_config *c, cudaStream_t stream) {
    if (c->T > c->S) return (cudaError_t)cudaErrorInvalidValue;
    return llm_cuda_flash23_heads(out, lse, q, k, v, c->T, c->S, llm_cuda_alibi_flash(m, c),
                                  stream);
}
/* dq, dk, dv += : as llm_alibi_backward without dm; any of the three may be NULL. scratch: B H T
 * floats. */
template <typename T>
static inline cudaError_t
llm_cuda_alibi_backward(T *dq, T *dk, T *dv, const T *dout, const T *out, const float *lse,
                        const T *q, const T *k, const T *v, const float *m,
                        const llm_alibi_config *c, float *scratch, cudaStream_t stream) {
    if (c->T > c->S) return (cudaError_t)cudaErrorInvalidValue;
    return llm_cuda_flash23_heads_backward(dq, dk, dv, dout, out, lse, q, k, v, c->T, c->S,
                                           llm_cuda_alibi_flash(m, c), scratch, stream);
}

/* @gqa ------------------------------------------------------ Grouped-query attention
 *
 * Decoding: one new token of each text against its cache. The query heads of a group are packed, up
 * to 8 together (4 for D over 128), so that each key and each value is read once for all of them; a
 * group of 16 reads them twice, the second time mostly from L2. Training and prompts: @flash.
 *
 * A warp takes 32 keys at a time. For the scores a lane is a key: it reads its row 16 bytes at a
 * time and exchanges nothing, since the queries stand in shared memory. For the values a lane is a
 * few dimensions: rows are read by neighbours, and the weight of each key comes from its lane by a
 * shuffle. Maximum and sum run along as in @flash. Four warps and, where a batch has too few heads
 * to fill the card, several blocks share a head's keys; what they found is merged in shared memory
 * and in a second kernel, by the rule of @logsumexp and in a fixed order.
 *
 * Traffic: 2 S D elements a head of keys and values, the minimum, and D + 2 floats a split, each of
 * at least 256 keys. 4 S D operations a query head. Limit: memory bandwidth; for 8 heads of
 * bfloat16 the multiply-adds come within a factor of two of it.
 *
 * source  Dao, Haziza, Massa & Sizov 2023, "Flash-Decoding for long-context inference"
 * needs   cuda_launch, cuda_memory, cuda_reduce
 * see     flash, kv_cache
 * topics  -
 */

/* B texts, H query heads on Hkv of D <= 256 dimensions. Text b sees its first S keys, or with a
 * device array length (B) its first length[b] + S; a head of the cache has room for so many.
 * splits: blocks that share a head's keys, 0 to have them chosen. */
typedef struct {
    size_t B, H, Hkv, S, room, D, splits;
    const size_t *length;
    float scale;
} llm_cuda_gqa_config;

/* No spare room. For an llm_kv_cache that has just appended: S = 1, room = T, its lengths. */
static inline __attribute__((unused)) llm_cuda_gqa_config
llm_cuda_gqa_defaults(size_t B, size_t H, size_t Hkv, size_t S, size_t D) {
    const llm_cuda_gqa_config c = {B, H, Hkv, S, S, D, 0, NULL, 1.0f / sqrtf((float)D)};
    return c;
}
/* Heads of a group that one block takes: what the registers hold, larger groups divided evenly. */
LLM_HOST_DEVICE size_t llm_cuda_gqa_heads(const llm_cuda_gqa_config *c) {
    const size_t group = c->H / c->Hkv, most = c->D > 128 ? 4 : 8;
    const size_t blocks = (group + most - 1) / most;
    return (group + blocks - 1) / blocks;
}
/* Enough for 8 blocks on each of 132 multiprocessors, none of them under 256 keys. */
static inline __attribute__((unused)) size_t llm_cuda_gqa_splits(const llm_cuda_gqa_config *c) {
    if (c->splits) return c->splits;
    const size_t heads = llm_cuda_gqa_heads(c), group = c->H / c->Hkv;
    const size_t blocks = c->B * c->Hkv * ((group + heads - 1) / heads);
    const size_t wanted = blocks ? (1055 + blocks) / blocks : 1;
    const size_t keys = c->length ? c->room : c->S, most = keys < 512 ? 1 : keys / 256;
    return wanted < most ? wanted : most;
}
/* Floats of scratch for a launch. */
static inline __attribute__((unused)) size_t llm_cuda_gqa_scratch(const llm_cuda_gqa_config *c) {
    const size_t splits = llm_cuda_gqa_splits(c);
    return splits > 1 ? c->B * c->H * splits * (c->D + 2) : 0;
}

/* s_g += q_g.k of one key; q (D,HEADS) in shared memory. */
template <int V, typename T, int HEADS>
LLM_DEVICE void llm_cuda_gqa_dot(float (&s)[HEADS], const float *q, const T *k, size_t D) {
    for (size_t d = 0; d < D; d += 4 * V) { /* four loads on their way at once */
        float x[4][V];
        for (size_t i = 0; i < 4; i++)
            if (d + i * V < D) llm_load_vector(x[i], k, d + i * V);
        LLM_UNROLL
        for (size_t i = 0; i < 4 * V; i++) {
            if (d + i >= D) break;
            LLM_UNROLL
            for (size_t g = 0; g < HEADS; g++) s[g] += q[(d + i) * HEADS + g] * x[i / V][i % V];
        }
    }
}

/* A state is D sums of values, the maximum of the scores and the sum of the weights. Those of n
 * workers, `stride` floats apart, become one: its sum d is returned. */
LLM_DEVICE float llm_cuda_gqa_merge(float &max, float &total, const float *state, size_t n,
                                    size_t stride, size_t d, size_t D) {
    float sum = total = 0.0f;
    max = -INFINITY;
    for (size_t s = 0; s < n; s++) max = fmaxf(max, state[s * stride + D]);
    for (const float *end = state + n * stride; state < end; state += stride) {
        const float weight = state[D] == max ? 1.0f : expf(state[D] - max);
        sum += weight * state[d], total += weight * state[D + 1];
    }
    return sum;
}

/* HEADS at least those of a block, D at most 32 DIMS. part: the splits' results, or NULL. */
template <typename T, int HEADS, int DIMS>
LLM_KERNEL void __launch_bounds__(128, 3)
    llm_gqa_decode_kernel(T *out, float *part, const T *q, const T *k, const T *v,
                          llm_cuda_gqa_config c, bool wide) {
    LLM_DYNAMIC_SHARED(float, shared); /* q (D,HEADS); at the end states (4,HEADS,D+2) */
    const size_t D = c.D, lane = threadIdx.x % 32, warp = threadIdx.x / 32, bh = blockIdx.x;
    const size_t group = c.H / c.Hkv, most = llm_cuda_gqa_heads(&c), skip = blockIdx.z * most;
    const size_t count = most < group - skip ? most : group - skip, head = bh * group + skip;
    const size_t S = c.S + (c.length ? c.length[bh / c.Hkv] : 0);
    const size_t share = ((S + gridDim.y - 1) / gridDim.y + 31) / 32 * 32;
    const size_t begin = blockIdx.y * share, end = begin + share < S ? begin + share : S;
    k += bh * c.room * D, v += bh * c.room * D;

    for (size_t i = threadIdx.x; i < D * HEADS; i += 128) {
        const size_t g = i % HEADS;
        shared[i] = g < count ? c.scale * llm_load(q, (head + g) * D + i / HEADS) : 0.0f;
    }
    __syncthreads();

    float m[HEADS], l[HEADS] = {}, o[HEADS][DIMS] = {}; /* l: this lane's share of the sum */
    for (int g = 0; g < HEADS; g++) m[g] = -INFINITY;
    for (size_t j = begin + 32 * warp; j < end; j += 128) {
        const size_t keys = end - j < 32 ? end - j : 32, row = (j + lane) * D;
        float s[HEADS];
        for (int g = 0; g < HEADS; g++) s[g] = lane < keys ? 0.0f : -INFINITY;
        if (lane < keys && wide) llm_cuda_gqa_dot<16 / sizeof(T)>(s, shared, k + row, D);
        if (lane < keys && !wide) llm_cuda_gqa_dot<1>(s, shared, k + row, D);
        LLM_UNROLL
        for (int g = 0; g < HEADS; g++) {
            const float max = fmaxf(m[g], llm_warp_max(s[g]));
            const float old = m[g] == max ? 1.0f : expf(m[g] - max);
            s[g] = expf(s[g] - max); /* the weight; 0 behind the last key */
            l[g] = l[g] * old + s[g];
            m[g] = max;
            LLM_UNROLL
            for (int i = 0; i < DIMS; i++) o[g][i] *= old;
        }
        for (size_t n = 0; n < keys; n += 4) { /* and four rows of v */
            float x[4][DIMS];
            LLM_UNROLL
            for (size_t i = 0; i < 4 * DIMS; i++) {
                const size_t a = i % 4, d = lane + i / 4 * 32;
                x[a][i / 4] = n + a < keys && d < D ? llm_load(v, (j + n + a) * D + d) : 0.0f;
            }
            LLM_UNROLL
            for (size_t i = 0; i < 4 * HEADS; i++) {
                const float p = __shfl_sync(0xffffffffu, s[i / 4], (int)(n + i % 4));
                LLM_UNROLL
                for (int e = 0; e < DIMS; e++) o[i / 4][e] += p * x[i % 4][e];
            }
        }
    }
    __syncthreads(); /* nobody reads q any more */
    LLM_UNROLL
    for (size_t g = 0; g < HEADS; g++) {
        float *mine = shared + (warp * HEADS + g) * (D + 2);
        const float sum = llm_warp_sum(l[g]);
        if (lane == 0) mine[D] = m[g], mine[D + 1] = sum;
        LLM_UNROLL
        for (size_t i = 0; i < DIMS; i++)
            if (lane + 32 * i < D) mine[lane + 32 * i] = o[g][i];
    }
    __syncthreads();
    for (size_t i = threadIdx.x; i < count * D; i += 128) {
        float max, total;
        const float sum =
            llm_cuda_gqa_merge(max, total, shared + i / D * (D + 2), 4, HEADS * (D + 2), i % D, D);
        const size_t to = ((head + i / D) * gridDim.y + blockIdx.y) * (D + 2);
        if (part) part[to + i % D] = sum;
        if (part && i % D == 0) part[to + D] = max, part[to + D + 1] = total;
        if (!part) llm_store(out, head * D + i, total > 0.0f ? sum / total : total);
    }
}

/* A block a head: the splits' states (B,H,splits,D+2) become out (B,H,D). */
template <typename T>
LLM_KERNEL void llm_gqa_combine_kernel(T *out, const float *part, size_t splits, size_t D) {
    for (size_t d = threadIdx.x; d < D; d += blockDim.x) {
        float max, total;
        const float sum = llm_cuda_gqa_merge(max, total, part + blockIdx.x * splits * (D + 2),
                                             splits, D + 2, d, D);
        llm_store(out, blockIdx.x * D + d, total > 0.0f ? sum / total : total);
    }
}

/* out (B,H,D) <- q (B,H,D), k, v (B,Hkv,room,D): llm_gqa_decode for every group; a text without
 * keys gets 0. scratch: llm_cuda_gqa_scratch(c) floats. T is float or llm_bf16. */
template <typename T>
static inline cudaError_t llm_cuda_gqa_decode(T *out, const T *q, const T *k, const T *v,
                                              const llm_cuda_gqa_config *c, float *scratch,
                                              cudaStream_t stream) {
    if (c->Hkv == 0 || c->H % c->Hkv != 0 || c->D > 256) return (cudaError_t)cudaErrorInvalidValue;
    if (c->B == 0 || c->H == 0 || c->D == 0) return cudaSuccess;
    const size_t heads = llm_cuda_gqa_heads(c), splits = llm_cuda_gqa_splits(c), D = c->D;
    const size_t HEADS = heads > 4 ? 8 : heads > 1 || D > 128 ? 4 : 1, group = c->H / c->Hkv;
    const auto decode = D > 128      ? llm_gqa_decode_kernel<T, 4, 8>
                        : HEADS == 1 ? llm_gqa_decode_kernel<T, 1, 4>
                        : HEADS == 4 ? llm_gqa_decode_kernel<T, 4, 4>
                                     : llm_gqa_decode_kernel<T, 8, 4>;
    const dim3 grid((unsigned)(c->B * c->Hkv), (unsigned)splits,
                    (unsigned)((group + heads - 1) / heads));
    LLM_LAUNCH(decode, grid, 128, 4 * HEADS * (D + 2) * sizeof(float), stream, out,
               splits > 1 ? scratch : NULL, q, k, v, *c, llm_aligned(k, D));
    const cudaError_t error = cudaGetLastError();
    if (splits == 1 || error != cudaSuccess) return error;
    LLM_LAUNCH(llm_gqa_combine_kernel<T>, (unsigned)(c->B * c->H), llm_row_threads(D), 0, stream,
               out, scratch, splits, D);
    return cudaGetLastError();
}

/* @mla_decode ----------------------------------------------- Latent attention from its latents
 *
 * One new token of each text against its cache of latents, for bfloat16 and tensor cores. All heads
 * read the same row [c_j, s_j] of R + Dr numbers, and its first R are the value as well: a row in
 * shared memory serves 64 queries twice. That is what makes decoding a matrix product: 64 heads by
 * 32 keys by 576 numbers for the scores, 64 by 512 by 32 for the means. A row of @gqa's cache meets
 * 8 queries, here 64, and 242 operations for each byte read (128 heads, which two blocks share) is
 * about what a card has to offer.
 *
 * A block keeps its queries in shared memory, and in registers the means: 64 columns of them a
 * warp, 128 registers a thread. Keys come by in tiles of 32, the next one on its way by cp.async
 * while one is worked off. Scores pass through shared memory once, since a row of them belongs to
 * two warps; four neighbouring lanes take its maximum and leave weights in bfloat16, whose sum is
 * what the mean is divided by, so that weights add up to 1 as they are used. Several blocks share a
 * text where batches are small; they are joined as in @gqa.
 *
 * Traffic: S (R + Dr) elements a text for each 64 heads, from the second on out of L2; the minimum
 * is one reading. 2 S H (2 R + Dr) operations. Limit: shared memory: the scores' product loads two
 * fragments (ldmatrix) for two multiplications (mma), which take less time than the loads.
 *
 * source  DeepSeek-AI 2024, "DeepSeek-V2", section 2.1.2; DeepSeek-AI 2025, FlashMLA (its shape)
 * needs   cuda_launch, cuda_memory, cuda_mma, gqa
 * see     gqa, flash
 * topics  -
 */
enum {
    LLM_CUDA_MLA_HEADS = 64,
    LLM_CUDA_MLA_KEYS = 32,
    LLM_CUDA_MLA_S_ROW = 36, /* floats, and bfloat16 of weights: rows in different banks */
    LLM_CUDA_MLA_P_ROW = 40
};

/* B texts, H heads, latents of R <= 512 and Dr rotated numbers, both multiples of 8, R + Dr <= 832.
 * Text b sees its first S rows, or with a device array length (B) its first length[b] + S; a text
 * has room for so many. splits: blocks that share a text's keys, 0 to have them chosen. */
typedef struct {
    size_t B, H, R, Dr, S, room, splits;
    const size_t *length;
    float scale;
} llm_cuda_mla_decode_config;

/* All of S rows, without spare room. */
static inline __attribute__((unused)) llm_cuda_mla_decode_config
llm_cuda_mla_decode_defaults(size_t B, size_t S, const llm_mla_config *m) {
    const llm_cuda_mla_decode_config c = {B, m->H, m->R, m->Dr, S, S, 0, NULL, m->scale};
    return c;
}
/* Enough for a block on each of 132 multiprocessors, none of them under 128 keys. */
static inline __attribute__((unused)) size_t
llm_cuda_mla_decode_splits(const llm_cuda_mla_decode_config *c) {
    if (c->splits) return c->splits;
    const size_t blocks = c->B * ((c->H + LLM_CUDA_MLA_HEADS - 1) / LLM_CUDA_MLA_HEADS);
    const size_t wanted = blocks ? (131 + blocks) / blocks : 1;
    const size_t keys = c->length ? c->room : c->S, most = keys < 256 ? 1 : keys / 128;
    return wanted < most ? wanted : most;
}
/* Floats of scratch for a launch. */
static inline __attribute__((unused)) size_t
llm_cuda_mla_decode_scratch(const llm_cuda_mla_decode_config *c) {
    const size_t splits = llm_cuda_mla_decode_splits(c);
    return splits > 1 ? c->B * c->H * splits * (c->R + 2) : 0;
}

/* tile (rows,row), row = width + 8 or more <- `count` rows of width numbers, zeros around them. */
LLM_DEVICE void llm_cuda_mla_decode_send(llm_bf16 *tile, const llm_bf16 *from, size_t rows,
                                         size_t count, size_t width, size_t row) {
    const size_t pieces = row / 8;
    for (size_t i = threadIdx.x; i < rows * pieces; i += 256) {
        const size_t r = i / pieces, d = i % pieces * 8;
        const bool inside = r < count && d < width;
        llm_copy_async(tile + r * row + d, inside ? from + r * width + d : from, inside);
    }
}

/* TILES: columns of the mean that a warp keeps, by 8; R is at most 64 TILES. */
template <int TILES>
LLM_KERNEL void __launch_bounds__(256, 1)
    llm_mla_decode_kernel(llm_bf16 *out, float *part, const llm_bf16 *q, const llm_bf16 *cache,
                          llm_cuda_mla_decode_config c) {
    enum { KEYS = LLM_CUDA_MLA_KEYS };
    const size_t HEADS = LLM_CUDA_MLA_HEADS;
    LLM_DYNAMIC_SHARED(llm_bf16, q_tile);
    __shared__ __align__(16) llm_bf16 p_tile[LLM_CUDA_MLA_HEADS * LLM_CUDA_MLA_P_ROW];
    __shared__ float s_tile[LLM_CUDA_MLA_HEADS * LLM_CUDA_MLA_S_ROW], old[LLM_CUDA_MLA_HEADS],
        total[LLM_CUDA_MLA_HEADS];
    const size_t width = c.R + c.Dr, deep = (width + 15) / 16 * 16, row = deep + 8;
    const size_t blocks = (c.H + HEADS - 1) / HEADS, b = blockIdx.x / blocks;
    const size_t head = blockIdx.x % blocks * HEADS,
                 heads = c.H - head < HEADS ? c.H - head : HEADS;
    const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32, m8 = lane / 8, in8 = lane % 8;
    llm_bf16 *tiles = q_tile + HEADS * row;

    const size_t S = c.S + (c.length ? c.length[b] : 0);
    const size_t share = ((S + gridDim.y - 1) / gridDim.y + KEYS - 1) / KEYS * KEYS;
    const size_t begin = blockIdx.y * share, end = begin + share < S ? begin + share : S;
    cache += b * c.room * width, q += (b * c.H + head) * width;

    llm_cuda_mla_decode_send(q_tile, q, HEADS, heads, width, row);
    if (begin < end)
        llm_cuda_mla_decode_send(tiles, cache + begin * width, KEYS, end - begin, width, row);
    llm_copy_commit();
    float o[4][TILES][4] = {}, max = -INFINITY, sum = 0.0f; /* of row threadIdx.x / 4 */
    unsigned now = 0;
    for (size_t j = begin; j < end; j += KEYS, now ^= 1) {
        const llm_bf16 *tile = tiles + now * KEYS * row;
        llm_copy_wait<0>();
        __syncthreads(); /* the tile is there, and the one before is worked off */
        if (j + KEYS < end)
            llm_cuda_mla_decode_send(tiles + (now ^ 1) * KEYS * row, cache + (j + KEYS) * width,
                                     KEYS, end - j - KEYS, width, row);
        llm_copy_commit();

        /* scores of 16 heads and 16 keys a warp */
        const unsigned y = warp / 2 * 16, x = warp % 2 * 16;
        float s[2][4] = {};
        for (size_t k = 0; k < deep; k += 16) {
            uint32_t a[4], w[4];
            llm_ldmatrix_x4(a, q_tile + (y + m8 % 2 * 8 + in8) * row + k + m8 / 2 * 8);
            llm_ldmatrix_x4(w, tile + (x + m8 / 2 * 8 + in8) * row + k + m8 % 2 * 8);
            const uint32_t low[2] = {w[0], w[1]}, high[2] = {w[2], w[3]};
            llm_mma_m16n8k16_bf16(s[0], a, low);
            llm_mma_m16n8k16_bf16(s[1], a, high);
        }
        LLM_UNROLL
        for (unsigned e = 0; e < 8; e++) {
            const unsigned r = y + e / 2 % 2 * 8 + lane / 4,
                           n = x + e / 4 * 8 + lane % 4 * 2 + e % 2;
            s_tile[r * LLM_CUDA_MLA_S_ROW + n] =
                j + n < end ? c.scale * s[e / 4][e % 4] : -INFINITY;
        }
        __syncthreads();

        /* weights: four lanes a row, every fourth key */
        const unsigned mine = threadIdx.x / 4, first = threadIdx.x % 4;
        float before = max, weights = 0.0f;
        LLM_UNROLL
        for (unsigned n = 0; n < KEYS / 4; n++)
            max = fmaxf(max, s_tile[mine * LLM_CUDA_MLA_S_ROW + first + 4 * n]);
        max = fmaxf(max, __shfl_xor_sync(0xffffffffu, max, 1));
        max = fmaxf(max, __shfl_xor_sync(0xffffffffu, max, 2));
        LLM_UNROLL
        for (unsigned n = 0; n < KEYS / 4; n++) {
            const llm_bf16 weight =
                llm_to_bf16(expf(s_tile[mine * LLM_CUDA_MLA_S_ROW + first + 4 * n] - max));
            weights += llm_to_float(weight);
            p_tile[mine * LLM_CUDA_MLA_P_ROW + first + 4 * n] = weight;
        }
        before = expf(before - max);
        sum = sum * before + weights;
        if (first == 0) old[mine] = before;
        __syncthreads();

        /* means: 64 heads and 8 TILES columns a warp */
        LLM_UNROLL
        for (unsigned e = 0; e < 8; e++) {
            const float shrink = old[e * 8 + lane / 4];
            LLM_UNROLL
            for (unsigned n = 0; n < TILES; n++)
                o[e / 2][n][e % 2 * 2] *= shrink, o[e / 2][n][e % 2 * 2 + 1] *= shrink;
        }
        LLM_UNROLL
        for (unsigned k = 0; k < KEYS; k += 16) {
            uint32_t a[4][4];
            LLM_UNROLL
            for (unsigned i = 0; i < 4; i++)
                llm_ldmatrix_x4(a[i], p_tile + (16 * i + m8 % 2 * 8 + in8) * LLM_CUDA_MLA_P_ROW +
                                          k + m8 / 2 * 8);
            LLM_UNROLL
            for (unsigned n = 0; n < TILES; n += 2) {
                const size_t column = (warp * TILES + n) * 8;
                if (column >= c.R) break;
                uint32_t w[4];
                llm_ldmatrix_x4_trans(w, tile + (k + m8 % 2 * 8 + in8) * row + column + m8 / 2 * 8);
                const uint32_t low[2] = {w[0], w[1]}, high[2] = {w[2], w[3]};
                LLM_UNROLL
                for (unsigned i = 0; i < 4; i++) {
                    llm_mma_m16n8k16_bf16(o[i][n], a[i], low);
                    llm_mma_m16n8k16_bf16(o[i][n + 1], a[i], high);
                }
            }
        }
    }
    llm_copy_wait<0>();
    sum += __shfl_xor_sync(0xffffffffu, sum, 1);
    sum += __shfl_xor_sync(0xffffffffu, sum, 2);
    if (threadIdx.x % 4 == 0) total[threadIdx.x / 4] = sum;
    if (part && threadIdx.x % 4 == 0 && threadIdx.x / 4 < heads) {
        const size_t to = ((b * c.H + head + threadIdx.x / 4) * gridDim.y + blockIdx.y) * (c.R + 2);
        llm_store(part, to + c.R, max), llm_store(part, to + c.R + 1, sum);
    }
    __syncthreads();
    LLM_UNROLL
    for (unsigned e = 0; e < 16 * TILES; e++) {
        const unsigned i = e / 4 / TILES, n = e / 4 % TILES;
        const size_t h = i * 16 + e / 2 % 2 * 8 + lane / 4;
        const size_t column = (warp * TILES + n) * 8 + lane % 4 * 2 + e % 2;
        if (h >= heads || column >= c.R) continue;
        const float mean = o[i][n][e % 4], all = total[h];
        if (part)
            llm_store(part, ((b * c.H + head + h) * gridDim.y + blockIdx.y) * (c.R + 2) + column,
                      mean);
        else
            llm_store(out, (b * c.H + head + h) * c.R + column, all > 0.0f ? mean / all : 0.0f);
    }
}

/* out (B,H,R) <- q (B,H,R+Dr), absorbed as in llm_mla_decode: [q W_UK, rotated part]; cache
 * (B,room,R+Dr). The means of latents, which W_UV unfolds; a text without keys gets 0. cache and q
 * begin at multiples of 16 bytes. scratch: llm_cuda_mla_decode_scratch floats. */
static inline __attribute__((unused)) cudaError_t
llm_cuda_mla_decode(llm_bf16 *out, const llm_bf16 *q, const llm_bf16 *cache,
                    const llm_cuda_mla_decode_config *c, float *scratch, cudaStream_t stream) {
    const size_t width = c->R + c->Dr, splits = llm_cuda_mla_decode_splits(c);
    if (c->R % 8 != 0 || c->Dr % 8 != 0 || c->R > 512 || width > 832 || !llm_aligned(q, 8) ||
        !llm_aligned(cache, 8))
        return (cudaError_t)cudaErrorInvalidValue;
    if (c->B * c->H * c->R == 0) return cudaSuccess;
    const size_t blocks = (c->H + LLM_CUDA_MLA_HEADS - 1) / LLM_CUDA_MLA_HEADS;
    const size_t row = (width + 15) / 16 * 16 + 8;
    const size_t shared = (LLM_CUDA_MLA_HEADS + 2 * LLM_CUDA_MLA_KEYS) * row * sizeof(llm_bf16);
    const auto decode = c->R <= 128 ? llm_mla_decode_kernel<2> : llm_mla_decode_kernel<8>;
    LLM_LAUNCH(decode, dim3((unsigned)(c->B * blocks), (unsigned)splits), 256, shared, stream, out,
               splits > 1 ? scratch : NULL, q, cache, *c);
    const cudaError_t error = cudaGetLastError();
    if (splits == 1 || error != cudaSuccess) return error;
    LLM_LAUNCH(llm_gqa_combine_kernel<llm_bf16>, (unsigned)(c->B * c->H), llm_row_threads(c->R), 0,
               stream, out, scratch, splits, c->R);
    return cudaGetLastError();
}

/* @sliding_window ------------------------------------------- Sliding-window attention
 *
 * The kernels of @flash23 with a band of W - 1 keys to the left, or to both sides, and the soft cap
 * of Gemma 2: tiles outside the band are skipped, those inside are whole, and only the tiles that
 * its edges cross are asked about. Backward, the keys' kernel sees the same band from the other
 * side. Decoding from the rolling cache needs no mask and no order: it is @gqa's kernel with the
 * ring as a cache of W rows, for models without the cap.
 *
 * Traffic: Q and O once, W + 64 to W + 127 keys and values for each 64 queries, W + 63 at least. 4
 * T W D operations a head are wanted and, where 64 divides W, 4 T (W + 64) D done: for W = 4096 2 %
 * more.
 * Limit: as @flash.
 *
 * source  -
 * needs   flash23
 * see     flash23, gqa
 * topics  -
 */
/* The rule: W counts the token itself, left and right do not. */
static inline __attribute__((unused)) llm_flash23_config
llm_cuda_sliding_window_flash(const llm_sliding_window_config *c) {
    llm_flash23_config a = llm_flash23_defaults(NULL, c->B, c->H, c->Hkv, c->D);
    a.left = c->W - 1, a.right = c->both ? c->W - 1 : 0;
    a.scale = c->scale, a.cap = c->cap;
    return a;
}
/* out (B,H,T,D), lse (B,H,T) <- q (B,H,T,D), k, v (B,Hkv,T,D): as llm_sliding_window_forward, for D
 * <= 128. T is float or llm_bf16. */
template <typename T>
static inline cudaError_t
llm_cuda_sliding_window_forward(T *out, float *lse, const T *q, const T *k, const T *v,
                                const llm_sliding_window_config *c, cudaStream_t stream) {
    if (c->W == 0) return (cudaError_t)cudaErrorInvalidValue;
    return llm_cuda_flash23_heads(out, lse, q, k, v, c->T, c->T, llm_cuda_sliding_window_flash(c),
                                  stream);
}
/* dq (B,H,T,D), dk, dv (B,Hkv,T,D) += : as llm_sliding_window_backward; any of the three may be
 * NULL. scratch: B H T floats. */
template <typename T>
static inline cudaError_t llm_cuda_sliding_window_backward(T *dq, T *dk, T *dv, const T *dout,
                                                           const T *out, const float *lse,
                                                           const T *q, const T *k, const T *v,
                                                           const llm_sliding_window_config *c,
                                                           float *scratch, cudaStream_t stream) {
    if (c->W == 0) return (cudaError_t)cudaErrorInvalidValue;
    return llm_cuda_flash23_heads_backward(dq, dk, dv, dout, out, lse, q, k, v, c->T, c->T,
                                           llm_cuda_sliding_window_flash(c), scratch, stream);
}

/* @linear_attn ---------------------------------------------- Linear attention
 *
 * The chunked form: a block owns a head and walks through its text 64 positions at a time, with the
 * state S in registers and, for the products that read it, in shared memory; it never goes to
 * memory. Inside a chunk there are the products of @flash without its softmax: scores of 64 x 64,
 * half of which the mask sets to 0, times values, plus queries times S. A block takes 64 columns of
 * values, which do not know of each other; only the scores are computed again for the next 64.
 *
 * Backward twice in the same way: forwards for dq, with S summed a second time, and backwards for
 * dk and dv, with Z, the sum of q dn^T over what comes later. dn are the gradients of numerator and
 * denominator, g / den and -(g.out) / den. In dq and dk the columns of values do meet: 64 of them
 * are a launch, and launches add in order.
 *
 * Operands that a product reads along positions are kept turned, rows of positions for each
 * feature, so that all products read shared memory as @flash's do.
 *
 * Traffic: q, k, v, out once for each 64 columns of values, the minimum for E <= 64. 2 T (64 D + 64
 * E + 2 D E) operations a head, 2.5 to 3 times as many backwards. Limit: float multiply-adds; with
 * few heads the number of blocks, B H E / 64. Shared memory: 87 KB for D <= 64, 138 KB for D <=
 * 128, backwards 104 and 156 KB.
 *
 * source  Katharopoulos et al. 2020, "Transformers are RNNs", eq. 16 to 20; Hua et al. 2022,
 *         "Transformer Quality in Linear Time", section 3.2 (chunks)
 * needs   cuda_launch, cuda_memory, cuda_reduce, flash
 * see     flash
 * topics  -
 */

/* Written below, at @flash: tiles of 64 positions, rows of weights, a load, a product. */
enum { LLM_CUDA_LINEAR_ROW = 68 };
template <int W, typename T>
LLM_DEVICE void llm_cuda_flash_load(float *tile, const T *from, size_t rows, size_t D,
                                    size_t apart);
template <int AI, int BN, int BJ, int N, int C>
LLM_DEVICE void llm_cuda_flash_product(float (&c)[4][C], const float *a, const float *b);

/* tile (W,64) in rows of 68 <- rows of D features, turned, zeros around them. */
template <int W, typename T>
LLM_DEVICE void llm_cuda_linear_attn_turn(float *tile, const T *from, size_t rows, size_t D) {
    for (size_t i = threadIdx.x; i < 64 * W; i += 256) {
        const size_t r = i / W, d = i % W;
        tile[d * LLM_CUDA_LINEAR_ROW + r] = r < rows && d < D ? llm_load(from, r * D + d) : 0.0f;
    }
}
/* tile (64,64) in rows of 68 <- at most 64 columns of (rows,E), from column e on; times gain (64),
 * which may be NULL. */
template <typename T>
LLM_DEVICE void llm_cuda_linear_attn_values(float *tile, const T *from, const float *gain,
                                            size_t rows, size_t E, size_t e) {
    for (size_t i = threadIdx.x; i < 64 * 64; i += 256) {
        const size_t r = i / 64, n = i % 64;
        const float x = r < rows && e + n < E ? llm_load(from, r * E + e + n) : 0.0f;
        tile[r * LLM_CUDA_LINEAR_ROW + n] = gain ? x * gain[r] : x;
    }
}
/* The weights of a chunk, this thread's: those with their column up to their row, or from it on,
 * and 0 for the others. */
LLM_DEVICE void llm_cuda_linear_attn_half(float *p_tile, const float (&s)[4][4], bool upper) {
    LLM_UNROLL
    for (unsigned e = 0; e < 16; e++) {
        const unsigned i = threadIdx.x / 16 + e / 4 * 16, j = threadIdx.x % 16 + e % 4 * 16;
        p_tile[i * LLM_CUDA_LINEAR_ROW + j] = (upper ? j >= i : j <= i) ? s[e / 4][e % 4] : 0.0f;
    }
}
/* state (W,64) <- this thread's sums. */
template <int W>
LLM_DEVICE void llm_cuda_linear_attn_keep(float *state, const float (&sum)[W / 64][4][4]) {
    LLM_UNROLL
    for (unsigned e = 0; e < W / 4; e++) {
        const unsigned d = threadIdx.x / 16 + e / 4 * 16, n = threadIdx.x % 16 + e % 4 * 16;
        state[d * LLM_CUDA_LINEAR_ROW + n] = sum[e / 16][e / 4 % 4][e % 4];
    }
}

template <typename T, int W>
LLM_KERNEL void __launch_bounds__(256)
    llm_linear_attn_forward_kernel(T *out, float *den, const T *q, const T *k, const T *v,
                                   size_t length, size_t D, size_t E) {
    enum { ROW = LLM_CUDA_LINEAR_ROW };
    LLM_DYNAMIC_SHARED(float, q_tile);
    __shared__ float z[W];
    float *k_turned = q_tile + 64 * (W + 4), *v_tile = k_turned + W * ROW;
    float *p_tile = v_tile + 64 * ROW, *state = p_tile + 64 * ROW, sum[W / 64][4][4] = {};
    const size_t head = blockIdx.x * length, column = (size_t)blockIdx.y * 64;
    const unsigned x = threadIdx.x % 16, y = threadIdx.x / 16;
    llm_cuda_linear_attn_keep<W>(state, sum);
    for (unsigned d = threadIdx.x; d < W; d += 256) z[d] = 0.0f;
    for (size_t t = 0; t < length; t += 64) {
        const size_t rows = length - t, at = head + t;
        llm_cuda_flash_load<W>(q_tile, q + at * D, rows, D, D);
        llm_cuda_linear_attn_turn<W>(k_turned, k + at * D, rows, D);
        llm_cuda_linear_attn_values(v_tile, v + at * E, (const float *)NULL, rows, E, column);
        __syncthreads();
        float s[4][4] = {}, o[4][4] = {};
        llm_cuda_flash_product<W + 4, ROW, 1, W>(s, q_tile, k_turned);
        llm_cuda_linear_attn_half(p_tile, s, false);
        __syncwarp(); /* rows y of the weights are this warp's own */
        llm_cuda_flash_product<W + 4, ROW, 1, W>(o, q_tile, state);
        llm_cuda_flash_product<ROW, ROW, 1, 64>(o, p_tile, v_tile);
        LLM_UNROLL
        for (unsigned r = 0; r < 4; r++) {
            const unsigned i = y + 16 * r;
            float total = 0.0f;
            for (unsigned d = x; d < W; d += 16) total += q_tile[i * (W + 4) + d] * z[d];
            for (unsigned j = x; j < 64; j += 16) total += p_tile[i * ROW + j];
            for (int distance = 8; distance > 0; distance /= 2)
                total += __shfl_xor_sync(0xffffffffu, total, distance);
            if (i >= rows) continue;
            if (x == 0 && column == 0) llm_store(den, at + i, total);
            for (unsigned e = 0; e < 4; e++)
                if (column + x + 16 * e < E)
                    llm_store(out, (at + i) * E + column + x + 16 * e,
                              total > 0.0f ? o[r][e] / total : 0.0f);
        }
        LLM_UNROLL
        for (unsigned half = 0; half < W / 64; half++)
            llm_cuda_flash_product<ROW, ROW, 1, 64>(sum[half], k_turned + half * 64 * ROW, v_tile);
        float keys = 0.0f; /* of feature threadIdx.x */
        for (unsigned r = 0; r < 64 && threadIdx.x < W; r++)
            keys += k_turned[threadIdx.x * ROW + r];
        __syncthreads(); /* nobody reads the state, nobody reads the tiles */
        llm_cuda_linear_attn_keep<W>(state, sum);
        if (threadIdx.x < W) z[threadIdx.x] += keys;
    }
}

/* along (rows) <- the sums of g out: a warp a row. */
template <typename T>
LLM_KERNEL void llm_linear_attn_along_kernel(float *along, const T *g, const T *out, size_t rows,
                                             size_t E) {
    const llm_row_place p = llm_my_row<true>();
    if (p.row >= rows) return;
    float sum = 0.0f;
    for (size_t e = p.lane; e < E; e += 32)
        sum += llm_load(g, p.row * E + e) * llm_load(out, p.row * E + e);
    sum = llm_warp_sum(sum);
    if (p.lane == 0) llm_store(along, p.row, sum);
}
/* gain (64) <- 1 / den, ones (64) <- the gradient of den, of the chunk at `at`; 0 outside, where
 * nothing was divided, and ones 0 but for the first columns of values. */
LLM_DEVICE void llm_cuda_linear_attn_gains(float *gain, float *ones, const float *den,
                                           const float *along, size_t at, size_t rows, bool first) {
    if (threadIdx.x >= 64) return;
    const float total = threadIdx.x < rows ? llm_load(den, at + threadIdx.x) : 0.0f;
    const float one = total > 0.0f ? 1.0f / total : 0.0f;
    gain[threadIdx.x] = one;
    ones[threadIdx.x] = one > 0.0f && first ? -one * llm_load(along, at + threadIdx.x) : 0.0f;
}
/* y (rows,columns) += this thread's entries from column `from` on. */
template <typename T, int C>
LLM_DEVICE void llm_cuda_linear_attn_add(T *y, const float (&v)[4][C], size_t rows, size_t columns,
                                         size_t from) {
    LLM_UNROLL
    for (unsigned n = 0; n < 4 * C; n++) {
        const size_t row = threadIdx.x / 16 + n / C * 16;
        const size_t column = from + threadIdx.x % 16 + n % C * 16, i = row * columns + column;
        if (row < rows && column < columns) llm_store(y, i, llm_load(y, i) + v[n / C][n % C]);
    }
}

/* dq += sum_j w'_ij k_j + S dn_i, j <= i in the chunk, w'_ij = dn_i.[v_j,1], S of the chunks
 * before. */
template <typename T, int W>
LLM_KERNEL void __launch_bounds__(256)
    llm_linear_attn_queries_kernel(T *dq, const T *g, const float *den, const float *along,
                                   const T *k, const T *v, size_t length, size_t D, size_t E,
                                   size_t column) {
    enum { ROW = LLM_CUDA_LINEAR_ROW };
    LLM_DYNAMIC_SHARED(float, dn_tile);
    __shared__ float z[W], gain[64], ones[64];
    float *k_turned = dn_tile + 64 * ROW, *v_tile = k_turned + W * ROW;
    float *p_tile = v_tile + 64 * ROW, *state = p_tile + 64 * ROW, sum[W / 64][4][4] = {};
    const size_t head = blockIdx.x * length;
    const unsigned x = threadIdx.x % 16, y = threadIdx.x / 16;
    llm_cuda_linear_attn_keep<W>(state, sum);
    for (unsigned d = threadIdx.x; d < W; d += 256) z[d] = 0.0f;
    for (size_t t = 0; t < length; t += 64) {
        const size_t rows = length - t, at = head + t;
        llm_cuda_linear_attn_gains(gain, ones, den, along, at, rows, column == 0);
        __syncthreads();
        llm_cuda_linear_attn_values(dn_tile, g + at * E, gain, rows, E, column);
        llm_cuda_linear_attn_values(v_tile, v + at * E, (const float *)NULL, rows, E, column);
        llm_cuda_linear_attn_turn<W>(k_turned, k + at * D, rows, D);
        __syncthreads();
        float s[4][4], dq_sum[4][W / 16] = {};
        LLM_UNROLL
        for (unsigned e = 0; e < 16; e++) s[e / 4][e % 4] = ones[y + e / 4 * 16];
        llm_cuda_flash_product<ROW, 1, ROW, 64>(s, dn_tile, v_tile);
        llm_cuda_linear_attn_half(p_tile, s, false);
        __syncwarp();
        llm_cuda_flash_product<ROW, 1, ROW, 64>(dq_sum, p_tile, k_turned);
        llm_cuda_flash_product<ROW, 1, ROW, 64>(dq_sum, dn_tile, state);
        LLM_UNROLL
        for (unsigned n = 0; n < W / 4; n++)
            dq_sum[n / (W / 16)][n % (W / 16)] +=
                ones[y + n / (W / 16) * 16] * z[x + n % (W / 16) * 16];
        llm_cuda_linear_attn_add(dq + at * D, dq_sum, rows, D, 0);
        LLM_UNROLL
        for (unsigned half = 0; half < W / 64; half++)
            llm_cuda_flash_product<ROW, ROW, 1, 64>(sum[half], k_turned + half * 64 * ROW, v_tile);
        float keys = 0.0f;
        for (unsigned r = 0; r < 64 && threadIdx.x < W; r++)
            keys += k_turned[threadIdx.x * ROW + r];
        __syncthreads();
        llm_cuda_linear_attn_keep<W>(state, sum);
        if (threadIdx.x < W) z[threadIdx.x] += keys;
    }
}

/* dk += sum_i w'_ij q_i + Z [v_j,1], dv += sum_i w_ij dn_i + k_j Z, i >= j in the chunk, Z = sum
 * q_i dn_i^T of the chunks behind it. */
template <typename T, int W>
LLM_KERNEL void __launch_bounds__(256)
    llm_linear_attn_keys_kernel(T *dk, T *dv, const T *g, const float *den, const float *along,
                                const T *q, const T *k, const T *v, size_t length, size_t D,
                                size_t E, size_t column) {
    enum { ROW = LLM_CUDA_LINEAR_ROW };
    LLM_DYNAMIC_SHARED(float, k_tile);
    __shared__ float z[W], gain[64], ones[64];
    float *q_turned = k_tile + 64 * (W + 4), *v_tile = q_turned + W * ROW;
    float *dn_tile = v_tile + 64 * ROW, *p_tile = dn_tile + 64 * ROW, *state = p_tile + 64 * ROW;
    float sum[W / 64][4][4] = {};
    const size_t head = blockIdx.x * length;
    const unsigned x = threadIdx.x % 16;
    llm_cuda_linear_attn_keep<W>(state, sum);
    for (unsigned d = threadIdx.x; d < W; d += 256) z[d] = 0.0f;
    for (size_t t = (length - 1) / 64 * 64 + 64; t > 0;) {
        t -= 64;
        const size_t rows = length - t, at = head + t;
        llm_cuda_linear_attn_gains(gain, ones, den, along, at, rows, column == 0);
        __syncthreads();
        llm_cuda_linear_attn_values(dn_tile, g + at * E, gain, rows, E, column);
        llm_cuda_linear_attn_values(v_tile, v + at * E, (const float *)NULL, rows, E, column);
        llm_cuda_linear_attn_turn<W>(q_turned, q + at * D, rows, D);
        llm_cuda_flash_load<W>(k_tile, k + at * D, rows, D, D);
        __syncthreads();
        float s[4][4] = {}, dv_sum[4][4] = {}, dk_sum[4][W / 16];
        llm_cuda_flash_product<W + 4, ROW, 1, W>(s, k_tile, q_turned); /* w, rows j */
        llm_cuda_linear_attn_half(p_tile, s, true);
        __syncwarp();
        llm_cuda_flash_product<ROW, ROW, 1, 64>(dv_sum, p_tile, dn_tile);
        llm_cuda_flash_product<W + 4, ROW, 1, W>(dv_sum, k_tile, state);
        if (dv) llm_cuda_linear_attn_add(dv + at * E, dv_sum, rows, E, column);
        __syncwarp();
        LLM_UNROLL
        for (unsigned e = 0; e < 16; e++) s[e / 4][e % 4] = ones[x + e % 4 * 16];
        llm_cuda_flash_product<ROW, 1, ROW, 64>(s, v_tile, dn_tile); /* w', rows j */
        llm_cuda_linear_attn_half(p_tile, s, true);
        __syncwarp();
        LLM_UNROLL
        for (unsigned n = 0; n < W / 4; n++)
            dk_sum[n / (W / 16)][n % (W / 16)] = z[x + n % (W / 16) * 16];
        llm_cuda_flash_product<ROW, 1, ROW, 64>(dk_sum, p_tile, q_turned);
        llm_cuda_flash_product<ROW, 1, ROW, 64>(dk_sum, v_tile, state);
        if (dk) llm_cuda_linear_attn_add(dk + at * D, dk_sum, rows, D, 0);
        LLM_UNROLL
        for (unsigned half = 0; half < W / 64; half++)
            llm_cuda_flash_product<ROW, ROW, 1, 64>(sum[half], q_turned + half * 64 * ROW, dn_tile);
        float queries = 0.0f;
        for (unsigned r = 0; r < 64 && threadIdx.x < W; r++)
            queries += q_turned[threadIdx.x * ROW + r] * ones[r];
        __syncthreads();
        llm_cuda_linear_attn_keep<W>(state, sum);
        if (threadIdx.x < W) z[threadIdx.x] += queries;
    }
}

/* out (N,T,E), den (N,T) <- features q, k (N,T,D), v (N,T,E): as llm_linear_attn_forward, in chunks
 * of 64, for D <= 128. T is float or llm_bf16. */
template <typename T>
static inline cudaError_t llm_cuda_linear_attn_forward(T *out, float *den, const T *q, const T *k,
                                                       const T *v, size_t N, size_t length,
                                                       size_t D, size_t E, cudaStream_t stream) {
    if (D > 128) return (cudaError_t)cudaErrorInvalidValue;
    if (N * length * D * E == 0) return cudaSuccess;
    const size_t W = D <= 64 ? 64 : 128, ROW = LLM_CUDA_LINEAR_ROW;
    const auto forward =
        W == 64 ? llm_linear_attn_forward_kernel<T, 64> : llm_linear_attn_forward_kernel<T, 128>;
    LLM_LAUNCH(forward, dim3((unsigned)N, (unsigned)((E + 63) / 64)), 256,
               (64 * (W + 4) + 2 * W * ROW + 2 * 64 * ROW) * sizeof(float), stream, out, den, q, k,
               v, length, D, E);
    return cudaGetLastError();
}

/* dq, dk (N,T,D), dv (N,T,E) += : arguments as llm_linear_attn_backward; any of the three may be
 * NULL. scratch: N T floats. */
template <typename T>
static inline cudaError_t
llm_cuda_linear_attn_backward(T *dq, T *dk, T *dv, const T *g, const T *out, const float *den,
                              const T *q, const T *k, const T *v, size_t N, size_t length, size_t D,
                              size_t E, float *scratch, cudaStream_t stream) {
    if (D > 128) return (cudaError_t)cudaErrorInvalidValue;
    if (N * length * D * E == 0) return cudaSuccess;
    const size_t W = D <= 64 ? 64 : 128, ROW = LLM_CUDA_LINEAR_ROW;
    const auto queries =
        W == 64 ? llm_linear_attn_queries_kernel<T, 64> : llm_linear_attn_queries_kernel<T, 128>;
    const auto keys =
        W == 64 ? llm_linear_attn_keys_kernel<T, 64> : llm_linear_attn_keys_kernel<T, 128>;
    LLM_LAUNCH(llm_linear_attn_along_kernel<T>, llm_row_blocks(N * length, true), 128, 0, stream,
               scratch, g, out, N * length, E);
    cudaError_t error = cudaGetLastError();
    for (size_t column = 0; column < E && error == cudaSuccess; column += 64) {
        if (dq) {
            LLM_LAUNCH(queries, (unsigned)N, 256, (2 * W * ROW + 3 * 64 * ROW) * sizeof(float),
                       stream, dq, g, den, scratch, k, v, length, D, E, column);
            error = cudaGetLastError();
        }
        if ((dk || dv) && error == cudaSuccess) {
            LLM_LAUNCH(keys, (unsigned)N, 256,
                       (64 * (W + 4) + 2 * W * ROW + 3 * 64 * ROW) * sizeof(float), stream, dk, dv,
                       g, den, scratch, q, k, v, length, D, E, column);
            error = cudaGetLastError();
        }
    }
    return error;
}

/* @block_sparse_attn ---------------------------------------- Block-sparse attention
 *
 * A block of threads has a row of the pattern: its queries and their sums stay in shared memory,
 * and the listed blocks of keys and values come by, through one buffer after each other. A warp has
 * 16 of the 64 queries; a lane scores two keys a query and then, for the values, has every 32nd
 * dimension. Written for reading, in float arithmetic: @flash is the form on tensor cores.
 *
 * Traffic: 2 block D elements a listed block and 2 T D a head for queries and results; dense
 * attention reads 2 T D elements for each row of blocks. Operations: 4 block^2 D a listed block.
 * Limit: shared memory, which the scores read 1.06 words a multiply-add from.
 *
 * source  as in llm.h
 * needs   cuda_launch, cuda_memory, cuda_reduce
 * see     flash
 * topics  -
 */

/* rows, start and column are device arrays: (patterns) patterns one after another, each of `rows` +
 * 1 starts, which count from the beginning of column. */
typedef struct {
    size_t B, H, T, D, block, patterns, rows;
    const size_t *start, *column;
    bool causal;
    float scale;
} llm_cuda_block_sparse_attn_config;

/* to (64,D+1) in shared memory <- rows 0 .. n-1 of from (n,D), zeros behind them. */
template <typename T>
LLM_DEVICE void llm_cuda_block_sparse_attn_fetch(float *to, const T *from, size_t n, size_t D) {
    for (size_t i = threadIdx.x; i < 64 * D; i += 128)
        to[i / D * (D + 1) + i % D] = i / D < n ? llm_load(from, i) : 0.0f;
}

template <typename T>
LLM_KERNEL void __launch_bounds__(128)
    llm_block_sparse_attn_kernel(T *out, float *lse, const T *q, const T *k, const T *v,
                                 llm_cuda_block_sparse_attn_config c) {
    enum { ROWS = 16 };                /* of a warp: ROWS warp .. */
    LLM_DYNAMIC_SHARED(float, shared); /* q and keys or values (64,D+1), o (64,D) */
    const size_t D = c.D, lane = threadIdx.x % 32, warp = threadIdx.x / 32,
                 i = blockIdx.x * c.block;
    const size_t bh = blockIdx.y, R = c.T - i < c.block ? c.T - i : c.block;
    const size_t *start = c.start + bh % c.H % c.patterns * (c.rows + 1);
    float *const rows = shared, *const keys = rows + 64 * (D + 1), *const o = keys + 64 * (D + 1);
    float m[ROWS], l[ROWS], s[ROWS][2];
    llm_cuda_block_sparse_attn_fetch(rows, q + (bh * c.T + i) * D, R, D);
    for (size_t n = threadIdx.x; n < 64 * D; n += 128) o[n] = 0.0f;
    LLM_UNROLL
    for (int r = 0; r < ROWS; r++) m[r] = -INFINITY, l[r] = 0.0f;
    for (size_t x = start[blockIdx.x]; x < start[blockIdx.x + 1]; x++) {
        const size_t j = c.column[x] * c.block, N = c.T - j < c.block ? c.T - j : c.block;
        if (c.causal && j > i) break; /* columns ascend */
        __syncthreads();              /* until the values of the block before were read */
        llm_cuda_block_sparse_attn_fetch(keys, k + (bh * c.T + j) * D, N, D);
        __syncthreads();
        LLM_UNROLL
        for (int r = 0; r < ROWS; r++) {
            const size_t row = ROWS * warp + r;
            LLM_UNROLL
            for (int half = 0; half < 2; half++) {
                const size_t n = lane + 32 * half;
                float sum = 0.0f;
                for (size_t d = 0; d < D; d++)
                    sum += rows[row * (D + 1) + d] * keys[n * (D + 1) + d];
                s[r][half] = n < N && (!c.causal || j + n <= i + row) ? c.scale * sum : -INFINITY;
            }
            const float max = fmaxf(m[r], llm_warp_max(fmaxf(s[r][0], s[r][1])));
            const float old = max == -INFINITY ? 1.0f : expf(m[r] - max);
            LLM_UNROLL
            for (int half = 0; half < 2; half++)
                s[r][half] = s[r][half] == -INFINITY ? 0.0f : expf(s[r][half] - max);
            l[r] = l[r] * old + llm_warp_sum(s[r][0] + s[r][1]), m[r] = max;
            for (size_t d = lane; d < D; d += 32) o[row * D + d] *= old;
        }
        __syncthreads();
        llm_cuda_block_sparse_attn_fetch(keys, v + (bh * c.T + j) * D, N, D);
        __syncthreads();
        LLM_UNROLL
        for (int r = 0; r < ROWS; r++) {
            float *mine = o + (ROWS * warp + r) * D;
            for (size_t n = 0; n < N; n++) { /* the weight of key n is in lane n % 32 */
                const float p = __shfl_sync(0xffffffffu, s[r][n < 32 ? 0 : 1], (int)(n % 32));
                for (size_t d = lane; d < D; d += 32) mine[d] += p * keys[n * (D + 1) + d];
            }
        }
    }
    LLM_UNROLL
    for (int r = 0; r < ROWS; r++) {
        const size_t row = ROWS * warp + r, at = bh * c.T + i + row;
        if (row >= R) break;
        for (size_t d = lane; d < D; d += 32)
            llm_store(out, at * D + d, l[r] > 0.0f ? o[row * D + d] / l[r] : 0.0f);
        if (lane == 0) llm_store(lse, at, m[r] + logf(l[r]));
    }
}

/* out (B,H,T,D), lse (B,H,T) <- q, k, v (B,H,T,D): llm_block_sparse_attn_forward. Blocks of 1 to
 * 64, D at most 256. T is float or llm_bf16. */
template <typename T>
static inline cudaError_t
llm_cuda_block_sparse_attn_forward(T *out, float *lse, const T *q, const T *k, const T *v,
                                   const llm_cuda_block_sparse_attn_config *c,
                                   cudaStream_t stream) {
    if (c->block == 0 || c->block > 64 || c->D == 0 || c->D > 256 || c->patterns == 0 ||
        c->rows != (c->T + c->block - 1) / c->block)
        return (cudaError_t)cudaErrorInvalidValue;
    if (c->B == 0 || c->H == 0 || c->T == 0) return cudaSuccess;
    const dim3 grid((unsigned)c->rows, (unsigned)(c->B * c->H));
    LLM_LAUNCH(llm_block_sparse_attn_kernel<T>, grid, 128, (192 * c->D + 128) * sizeof(float),
               stream, out, lse, q, k, v, *c);
    return cudaGetLastError();
}

/* @sinks ---------------------------------------------------- Attention over sinks and a ring
 *
 * One new token against a cache whose keys are turned when they are read. A block has up to 8 query
 * heads of one key head, turned to the newest position and put into shared memory once. Each of
 * four warps takes every fourth slot: a lane reads pairs of the key, turns them in registers, and
 * has its part of all the heads' scores; the values follow, every 32nd dimension a lane. The warps'
 * maxima and sums meet at the end, by @gqa's rule.
 *
 * Traffic: 2 (first + last) D elements a key head for 8 query heads, the minimum, and rot floats of
 * table a key, which stay in the L2 cache. Operations: 4 D a key and query head, 3 rot a key for
 * the turning. Limit: memory; and, with few key heads, that a head has one block.
 *
 * source  as in llm.h
 * needs   cuda_launch, cuda_memory, cuda_reduce, gqa
 * see     gqa, csa
 * topics  -
 */

/* One key's scores s, in all lanes, and this lane's dimensions of its value join what the warp has
 * seen: maximum m, sum l, mean's numerator o. */
template <int HEADS, int DIMS>
LLM_DEVICE void llm_cuda_sinks_meet(float (&m)[HEADS], float (&l)[HEADS], float (&o)[HEADS][DIMS],
                                    const float (&s)[HEADS], const float (&v)[DIMS]) {
    LLM_UNROLL
    for (int g = 0; g < HEADS; g++) {
        const float max = fmaxf(m[g], s[g]), old = expf(m[g] - max), p = expf(s[g] - max);
        m[g] = max, l[g] = l[g] * old + p;
        LLM_UNROLL
        for (int i = 0; i < DIMS; i++) o[g][i] = o[g][i] * old + p * v[i];
    }
}

/* states (4,HEADS,D+2) in shared memory <- what each warp has seen. */
template <int HEADS, int DIMS>
LLM_DEVICE void llm_cuda_sinks_leave(float *states, const float (&m)[HEADS],
                                     const float (&l)[HEADS], const float (&o)[HEADS][DIMS],
                                     size_t D) {
    const size_t lane = threadIdx.x % 32;
    LLM_UNROLL
    for (int g = 0; g < HEADS; g++) {
        float *mine = states + (threadIdx.x / 32 * HEADS + (size_t)g) * (D + 2);
        if (lane == 0) mine[D] = m[g], mine[D + 1] = l[g];
        LLM_UNROLL
        for (int i = 0; i < DIMS; i++)
            if (lane + 32 * i < D) mine[lane + 32 * i] = o[g][i];
    }
}

/* The dimensions of pair i. */
LLM_DEVICE void llm_cuda_sinks_pair(size_t &a, size_t &b, size_t i, const llm_sinks_config &c) {
    a = c.pairing == LLM_ROPE_HALVES ? i : 2 * i;
    b = c.pairing == LLM_ROPE_HALVES ? i + c.rot / 2 : 2 * i + 1;
}

template <typename T, int HEADS, int DIMS>
LLM_KERNEL void __launch_bounds__(128)
    llm_sinks_step_kernel(T *out, const T *q, const T *keys, const T *values, size_t t,
                          llm_sinks_config c) {
    LLM_DYNAMIC_SHARED(float, shared); /* turned q (D,HEADS); behind it the states */
    const size_t D = c.D, half = c.rot / 2, lane = threadIdx.x % 32, size = c.first + c.last;
    const size_t n = t < size ? t + 1 : size, group = c.H / c.Hkv, skip = blockIdx.y * HEADS;
    const size_t count = group - skip < HEADS ? group - skip : HEADS;
    const size_t head = blockIdx.x * group + skip;
    const size_t oldest = t < size ? c.first : c.first + (t + 1 - c.first) % c.last;
    float *const states = shared + D * HEADS;
    keys += blockIdx.x * size * D, values += blockIdx.x * size * D;

    for (size_t i = threadIdx.x; i < (half + D - c.rot) * HEADS; i += 128) {
        const size_t g = i % HEADS, p = i / HEADS, from = (head + g) * D;
        if (p >= half) { /* dimensions that are not turned */
            const size_t d = p - half + c.rot;
            shared[d * HEADS + g] = g < count ? llm_load(q, from + d) : 0.0f;
            continue;
        }
        size_t a, b;
        llm_cuda_sinks_pair(a, b, p, c);
        const float cosine = llm_load(c.cosine, (n - 1) * half + p);
        const float sine = llm_load(c.sine, (n - 1) * half + p);
        const float x = g < count ? llm_load(q, from + a) : 0.0f;
        const float y = g < count ? llm_load(q, from + b) : 0.0f;
        shared[a * HEADS + g] = x * cosine - y * sine;
        shared[b * HEADS + g] = x * sine + y * cosine;
    }
    __syncthreads();

    float m[HEADS], l[HEADS] = {}, o[HEADS][DIMS] = {};
    for (int g = 0; g < HEADS; g++) m[g] = -INFINITY;
    for (size_t slot = threadIdx.x / 32; slot < n; slot += 4) {
        const size_t age = slot >= oldest ? slot - oldest : slot + c.last - oldest;
        const size_t position = slot < c.first ? slot : c.first + age;
        float s[HEADS] = {}, v[DIMS];
        for (size_t i = lane; i < half; i += 32) {
            size_t a, b;
            llm_cuda_sinks_pair(a, b, i, c);
            const float cosine = llm_load(c.cosine, position * half + i);
            const float sine = llm_load(c.sine, position * half + i);
            const float x = llm_load(keys, slot * D + a), y = llm_load(keys, slot * D + b);
            const float ka = x * cosine - y * sine, kb = x * sine + y * cosine;
            LLM_UNROLL
            for (int g = 0; g < HEADS; g++)
                s[g] += shared[a * HEADS + g] * ka + shared[b * HEADS + g] * kb;
        }
        for (size_t d = c.rot + lane; d < D; d += 32) {
            const float x = llm_load(keys, slot * D + d);
            LLM_UNROLL
            for (int g = 0; g < HEADS; g++) s[g] += shared[d * HEADS + g] * x;
        }
        LLM_UNROLL
        for (int g = 0; g < HEADS; g++) s[g] = c.scale * llm_warp_sum(s[g]);
        LLM_UNROLL
        for (int i = 0; i < DIMS; i++)
            v[i] = lane + 32 * i < D ? llm_load(values, slot * D + lane + 32 * i) : 0.0f;
        llm_cuda_sinks_meet(m, l, o, s, v);
    }
    llm_cuda_sinks_leave(states, m, l, o, D);
    __syncthreads();
    for (size_t i = threadIdx.x; i < count * D; i += 128) {
        float max, total;
        const float sum =
            llm_cuda_gqa_merge(max, total, states + i / D * (D + 2), 4, HEADS * (D + 2), i % D, D);
        llm_store(out, head * D + i, sum / total);
    }
}

/* out (H,D) <- q (H,D), keys, values (Hkv,first + last,D), c's tables on the device:
 * llm_sinks_step. D at most 256. T is float or llm_bf16. */
template <typename T>
static inline cudaError_t llm_cuda_sinks_step(T *out, const T *q, const T *keys, const T *values,
                                              size_t t, const llm_sinks_config *c,
                                              cudaStream_t stream) {
    if (c->last == 0 || c->Hkv == 0 || c->H % c->Hkv != 0 || c->D == 0 || c->D > 256 ||
        c->rot > c->D || c->rot % 2 != 0)
        return (cudaError_t)cudaErrorInvalidValue;
    if (c->H == 0) return cudaSuccess;
    const size_t group = c->H / c->Hkv, HEADS = c->D > 128 ? 4 : group > 1 ? 8 : 1;
    const auto step = c->D > 128   ? llm_sinks_step_kernel<T, 4, 8>
                      : HEADS == 1 ? llm_sinks_step_kernel<T, 1, 4>
                                   : llm_sinks_step_kernel<T, 8, 4>;
    const dim3 grid((unsigned)c->Hkv, (unsigned)((group + HEADS - 1) / HEADS));
    LLM_LAUNCH(step, grid, 128, HEADS * (5 * c->D + 8) * sizeof(float), stream, out, q, keys,
               values, t, *c);
    return cudaGetLastError();
}

/* @flash ---------------------------------------------------- FlashAttention
 *
 * The tiled kernel to read: float arithmetic, 64 queries against 64 keys, 256 threads. Blocks
 * cannot share O, so the loops are turned around: a block owns a tile of queries, O stays in its
 * registers, keys and values come by, and O is divided once (as in @flash23).
 *
 * Thread (x, y) of 16 x 16 has rows y, y + 16, .. and columns x, x + 16, .. of every product, in
 * registers. A row is shared by 16 neighbouring lanes: its maximum and sum are four shuffles, and
 * weights pass from the softmax to the next product within a warp, without a barrier of the block.
 * In shared memory rows 4 floats longer than a power of two begin in different banks, and the
 * factors of Q K^T are read four floats at a time. Under a causal mask tiles that nobody sees are
 * skipped, and the rows of tiles with most keys start first. Which pairs are seen, where rows lie
 * and what becomes of a score is a rule the kernels are compiled for: @flash23 and @attn_mask have
 * others.
 *
 * Traffic: Q and O once, K and V once for each 64 queries, mostly from L2; the T x S weights never.
 * 4 T S D operations a head, half of that causal. Limit: float multiply-adds, closely followed by
 * shared memory, which is busy 12 to 20 of 16 cycles. Shared memory: 70 KB for D <= 64, 119 KB for
 * D <= 128.
 *
 * source  Dao 2023, "FlashAttention-2: Faster Attention with Better Parallelism and Work
 *         Partitioning", algorithms 1 and 2
 * needs   cuda_launch, cuda_memory, dropout
 * see     flash_backward, flash23, causal_attn, gqa
 * topics  -
 */
enum { LLM_CUDA_FLASH_TILE = 64, LLM_CUDA_FLASH_ROW = 68 }; /* a row of weights, in floats */

/* The rule of @flash. A kernel enters head bh = b H + h, then asks: entries of q and out before row
 * i, of k and v before row j, and from row to row; numbers of lse; the tiles of keys that queries i
 * .. i + 63 see, first to end - 1 of a list, and the other way; scores and their slope. */
struct llm_cuda_flash_rule {
    llm_flash_config c;
    size_t T, S, bh;
    LLM_DEVICE_METHOD void enter(size_t head) { bh = head, T = c.T, S = c.S; }
    LLM_DEVICE_METHOD size_t q_at(size_t i) const { return (bh * T + i) * c.D; }
    LLM_DEVICE_METHOD size_t k_at(size_t j) const { return (bh / (c.H / c.Hkv) * S + j) * c.D; }
    LLM_DEVICE_METHOD size_t q_row() const { return c.D; }
    LLM_DEVICE_METHOD size_t k_row() const { return c.D; }
    LLM_DEVICE_METHOD size_t lse_at(size_t i) const { return bh * T + i; }
    LLM_DEVICE_METHOD void keys(size_t &first, size_t &end, size_t i) const {
        const size_t last = i + 64, past = last + S > T ? last + S - T : 0;
        first = 0, end = ((c.causal && last < T ? past : S) + 63) / 64;
    }
    LLM_DEVICE_METHOD void queries(size_t &first, size_t &end, size_t j) const {
        first = c.causal && j + T > S ? (j + T - S) / 64 : 0, end = (T + 63) / 64;
    }
    LLM_DEVICE_METHOD size_t key_tile(size_t n) const { return n * 64; }
    LLM_DEVICE_METHOD size_t query_tile(size_t n) const { return n * 64; }
    LLM_DEVICE_METHOD bool seen(size_t i, size_t j) const {
        return i < T && j < S && (!c.causal || j + T <= i + S) &&
               !(c.hidden && c.hidden[bh / c.H * S + j]);
    }
    /* Is the tile at (i, j) seen whole? The first query sees fewest keys. */
    LLM_DEVICE_METHOD bool whole(size_t i, size_t j, bool, size_t) const {
        return !c.hidden && i + 64 <= T && seen(i, j + 63);
    }
    LLM_DEVICE_METHOD float score(float &slope, float dot, size_t, size_t) const {
        slope = c.scale;
        return c.scale * dot;
    }
    /* What dropout multiplies a weight by. */
    LLM_DEVICE_METHOD float keep(size_t i, size_t j) const {
        float keep[1] = {1.0f};
        if (c.dropout > 0.0f)
            llm_cuda_dropout_scales(keep, c.dropout, c.seed, c.offset + (bh * T + i) * S + j);
        return keep[0];
    }
};

/* tile (64,W) in rows of W + 4 <- rows of D numbers, `apart` entries apart, zeros around them. */
template <int W, typename T>
LLM_DEVICE void llm_cuda_flash_load(float *tile, const T *from, size_t rows, size_t D,
                                    size_t apart) {
    for (size_t i = threadIdx.x; i < LLM_CUDA_FLASH_TILE * W; i += 256) {
        const size_t r = i / W, d = i % W;
        tile[r * (W + 4) + d] = r < rows && d < D ? llm_load(from, r * apart + d) : 0.0f;
    }
}
/* c += a b, this thread's entries. a_in stands at i AI + n, b_nj at n BN + j BJ, n < N. */
template <int AI, int BN, int BJ, int N, int C>
LLM_DEVICE void llm_cuda_flash_product(float (&c)[4][C], const float *a, const float *b) {
    a += threadIdx.x / 16 * AI, b += threadIdx.x % 16 * BJ;
    for (unsigned n = 0; n < N; n += 4) {
        float a_v[4][4], b_v[4][C];
        LLM_UNROLL
        for (unsigned r = 0; r < 4; r++) {
            LLM_UNROLL
            for (unsigned e = 0; e < 4; e++) a_v[r][e] = a[16 * r * AI + n + e];
        }
        LLM_UNROLL
        for (unsigned j = 0; j < C; j++) {
            LLM_UNROLL
            for (unsigned e = 0; e < 4; e++) b_v[e][j] = b[16 * j * BJ + (n + e) * BN];
        }
        LLM_UNROLL
        for (unsigned i = 0; i < 16 * C; i++)
            c[i / C % 4][i % C] += a_v[i / C % 4][i / C / 4] * b_v[i / C / 4][i % C];
    }
}

template <typename T, int W, typename R>
LLM_KERNEL void __launch_bounds__(256)
    llm_flash_forward_kernel(T *out, float *lse, const T *q, const T *k, const T *v, R rule) {
    LLM_DYNAMIC_SHARED(float, q_tile);
    float *k_tile = q_tile + 64 * (W + 4), *v_tile = k_tile + 64 * (W + 4),
          *p_tile = v_tile + 64 * (W + 4);
    const unsigned x = threadIdx.x % 16, y = threadIdx.x / 16;
    const size_t i = (size_t)(gridDim.y - 1 - blockIdx.y) * 64, D = rule.c.D;
    size_t n, end;
    rule.enter(blockIdx.x);
    if (i >= rule.T) return; /* other texts are longer */
    rule.keys(n, end, i);
    float m[4], l[4] = {}, o[4][W / 16] = {}; /* l: this thread's share of the sum */
    for (int r = 0; r < 4; r++) m[r] = -INFINITY;
    llm_cuda_flash_load<W>(q_tile, q + rule.q_at(i), rule.T - i, D, rule.q_row());
    for (; n < end; n++) {
        const size_t j = rule.key_tile(n), at = rule.k_at(j);
        __syncthreads(); /* the tile before is worked off */
        llm_cuda_flash_load<W>(k_tile, k + at, rule.S - j, D, rule.k_row());
        llm_cuda_flash_load<W>(v_tile, v + at, rule.S - j, D, rule.k_row());
        __syncthreads();
        const bool whole = rule.whole(i, j, true, n);
        float s[4][4] = {};
        llm_cuda_flash_product<W + 4, 1, W + 4, W>(s, q_tile, k_tile);
        LLM_UNROLL
        for (unsigned r = 0; r < 4; r++) {
            const size_t row = y + 16 * r;
            float max = m[r], slope;
            LLM_UNROLL
            for (unsigned e = 0; e < 4; e++) {
                const bool seen = whole || rule.seen(i + row, j + x + 16 * e);
                s[r][e] = seen ? rule.score(slope, s[r][e], i + row, j + x + 16 * e) : -INFINITY;
                max = fmaxf(max, s[r][e]);
            }
            for (int distance = 8; distance > 0; distance /= 2)
                max = fmaxf(max, __shfl_xor_sync(0xffffffffu, max, distance));
            const float shift = max == -INFINITY ? 0.0f : max, old = expf(m[r] - shift);
            m[r] = max, l[r] *= old;
            LLM_UNROLL
            for (unsigned e = 0; e < 4; e++) {
                const float w = expf(s[r][e] - shift);
                l[r] += w;
                p_tile[row * LLM_CUDA_FLASH_ROW + x + 16 * e] =
                    w * rule.keep(i + row, j + x + 16 * e);
            }
            LLM_UNROLL
            for (unsigned d = 0; d < W / 16; d++) o[r][d] *= old;
        }
        __syncwarp(); /* rows y of the weights are this warp's own */
        llm_cuda_flash_product<LLM_CUDA_FLASH_ROW, W + 4, 1, 64>(o, p_tile, v_tile);
    }
    LLM_UNROLL
    for (unsigned r = 0; r < 4; r++) {
        const size_t row = i + y + 16 * r;
        for (int distance = 8; distance > 0; distance /= 2)
            l[r] += __shfl_xor_sync(0xffffffffu, l[r], distance);
        if (row >= rule.T) continue;
        if (x == 0) llm_store(lse, rule.lse_at(row), m[r] + logf(l[r]));
        LLM_UNROLL
        for (unsigned d = 0; d < W / 16; d++)
            if (x + 16 * d < D)
                llm_store(out, rule.q_at(row) + x + 16 * d, l[r] == 0.0f ? 0.0f : o[r][d] / l[r]);
    }
}

/* The kernel for any rule: texts of at most T queries. */
template <typename T, typename R>
static inline cudaError_t llm_cuda_flash_run(T *out, float *lse, const T *q, const T *k, const T *v,
                                             const R &rule, size_t Tq, cudaStream_t stream) {
    const size_t heads = rule.c.B * rule.c.H, D = rule.c.D;
    if (rule.c.Hkv == 0 || rule.c.H % rule.c.Hkv != 0 || D > 128)
        return (cudaError_t)cudaErrorInvalidValue;
    if (heads * Tq * D == 0) return cudaSuccess;
    const dim3 grid((unsigned)heads, (unsigned)((Tq + 63) / 64));
    const auto flash =
        D <= 64 ? llm_flash_forward_kernel<T, 64, R> : llm_flash_forward_kernel<T, 128, R>;
    const size_t row = D <= 64 ? 68 : 132, floats = 64 * (3 * row + LLM_CUDA_FLASH_ROW);
    LLM_LAUNCH(flash, grid, 256, floats * sizeof(float), stream, out, lse, q, k, v, rule);
    return cudaGetLastError();
}
/* out (B,H,T,D), lse (B,H,T) <- q (B,H,T,D), k, v (B,Hkv,S,D): as llm_flash_forward, but the tiles
 * are 64 x 64 whatever c says, and keys and values behind a mask must be finite: a weight of 0
 * multiplies them. D <= 128; c.hidden is on the device. T is float or llm_bf16. */
template <typename T>
static inline cudaError_t llm_cuda_flash_forward(T *out, float *lse, const T *q, const T *k,
                                                 const T *v, const llm_flash_config *c,
                                                 cudaStream_t stream) {
    const llm_cuda_flash_rule rule = {*c, 0, 0, 0};
    return llm_cuda_flash_run(out, lse, q, k, v, rule, c->T, stream);
}

/* @flash_backward ------------------------------------------- FlashAttention, the way back
 *
 *     P = exp(S - lse)     dS = P * (drop(dO V^T) - rowsum(dO * O)) * scale
 *     dQ += dS K           dK += dS^T Q          dV += drop(P)^T dO
 *
 * Two kernels in place of one with atomics: nobody writes what another one owns, and the order of
 * the sums is fixed. The first owns 64 queries and gathers dQ while keys and values come by; the
 * second owns 64 keys and gathers dK and dV from the queries of all heads of its group. Both
 * compute the weights again, 7 products for the 5 that one kernel needs. rowsum(dO * O) is computed
 * once, by a small kernel before them. All of them ask the rule of @flash.
 *
 * The weights are left in shared memory so that the next product reads them along its sum: by rows
 * of queries for dQ, turned for dK and dV, which take turns in one place.
 *
 * Traffic: like @flash, with Q, dO, dQ in the place of Q and O, or K, V, dK, dV in that of K and V.
 * 14 T S D operations a head, half of that causal. Limit: as @flash. Shared memory: 87 KB for D <=
 * 64, 153 KB for D <= 128, which a card has from sm_80 on, its small brothers (sm_86, sm_89) not.
 *
 * source  Dao 2023, "FlashAttention-2: Faster Attention with Better Parallelism and Work
 *         Partitioning", algorithm 2
 * needs   cuda_launch, cuda_memory, cuda_reduce, flash
 * see     flash, flash23, causal_attn
 * topics  -
 */

/* along, in the order of lse <- rowsum(dO * O): a warp a row, 64 rows a block. */
template <typename T, typename R>
LLM_KERNEL void llm_flash_backward_along_kernel(float *along, const T *dout, const T *out, R rule) {
    const size_t lane = threadIdx.x % 32;
    rule.enter(blockIdx.x);
    for (size_t r = threadIdx.x / 32; r < 64; r += 8) {
        const size_t i = (size_t)blockIdx.y * 64 + r;
        if (i >= rule.T) return;
        float sum = 0.0f;
        for (size_t d = lane; d < rule.c.D; d += 32)
            sum += llm_load(dout, rule.q_at(i) + d) * llm_load(out, rule.q_at(i) + d);
        sum = llm_warp_sum(sum);
        if (lane == 0) llm_store(along, rule.lse_at(i), sum);
    }
}

/* This thread's weights of the tiles at i and j after dropout, and dS, from Q, dO, K, V in shared
 * memory. */
template <int W, typename R>
LLM_DEVICE void llm_cuda_flash_backward_weights(float (&p)[4][4], float (&ds)[4][4], const float *q,
                                                const float *g, const float *k, const float *v,
                                                const float *lse, const float *along, bool whole,
                                                size_t i, size_t j, const R &rule) {
    LLM_UNROLL
    for (unsigned n = 0; n < 16; n++) p[n / 4][n % 4] = ds[n / 4][n % 4] = 0.0f;
    llm_cuda_flash_product<W + 4, 1, W + 4, W>(p, q, k);
    llm_cuda_flash_product<W + 4, 1, W + 4, W>(ds, g, v);
    LLM_UNROLL
    for (unsigned r = 0; r < 4; r++) {
        const size_t query = i + threadIdx.x / 16 + 16 * r, row = rule.lse_at(query);
        const float lse_r = query < rule.T ? llm_load(lse, row) : 0.0f;
        const float along_r = query < rule.T ? llm_load(along, row) : 0.0f;
        LLM_UNROLL
        for (unsigned e = 0; e < 4; e++) {
            const size_t key = j + threadIdx.x % 16 + 16 * e;
            const bool seen = whole || rule.seen(query, key);
            const float keep = rule.keep(query, key);
            float slope;
            const float score = rule.score(slope, p[r][e], query, key);
            const float weight = seen ? expf(score - lse_r) : 0.0f;
            ds[r][e] = seen ? slope * weight * (keep * ds[r][e] - along_r) : 0.0f;
            p[r][e] = weight * keep;
        }
    }
}
/* Rows of y, `apart` entries apart, += this thread's entries of them. */
template <typename T, int C>
LLM_DEVICE void llm_cuda_flash_backward_add(T *y, const float (&v)[4][C], size_t rows, size_t D,
                                            size_t apart) {
    LLM_UNROLL
    for (unsigned n = 0; n < 4 * C; n++) {
        const size_t row = threadIdx.x / 16 + n / C * 16, d = threadIdx.x % 16 + n % C * 16;
        if (row < rows && d < D)
            llm_store(y, row * apart + d, llm_load(y, row * apart + d) + v[n / C][n % C]);
    }
}

template <typename T, int W, typename R>
LLM_KERNEL void __launch_bounds__(256)
    llm_flash_backward_queries_kernel(T *dq, const T *dout, const float *lse, const float *along,
                                      const T *q, const T *k, const T *v, R rule) {
    enum { ROW = LLM_CUDA_FLASH_ROW, TILE = 64 * (W + 4) };
    LLM_DYNAMIC_SHARED(float, q_tile);
    float *g_tile = q_tile + TILE, *k_tile = g_tile + TILE, *v_tile = k_tile + TILE;
    float *ds_tile = v_tile + TILE, p[4][4], ds[4][4], sum[4][W / 16] = {};
    const size_t i = (size_t)(gridDim.y - 1 - blockIdx.y) * 64, D = rule.c.D;
    const size_t x = threadIdx.x % 16, y = threadIdx.x / 16;
    size_t n, end;
    rule.enter(blockIdx.x);
    if (i >= rule.T) return;
    rule.keys(n, end, i);
    llm_cuda_flash_load<W>(q_tile, q + rule.q_at(i), rule.T - i, D, rule.q_row());
    llm_cuda_flash_load<W>(g_tile, dout + rule.q_at(i), rule.T - i, D, rule.q_row());
    for (; n < end; n++) {
        const size_t j = rule.key_tile(n), at = rule.k_at(j);
        __syncthreads(); /* the tile before is worked off */
        llm_cuda_flash_load<W>(k_tile, k + at, rule.S - j, D, rule.k_row());
        llm_cuda_flash_load<W>(v_tile, v + at, rule.S - j, D, rule.k_row());
        __syncthreads();
        llm_cuda_flash_backward_weights<W>(p, ds, q_tile, g_tile, k_tile, v_tile, lse, along,
                                           rule.whole(i, j, true, n), i, j, rule);
        LLM_UNROLL
        for (unsigned e = 0; e < 16; e++)
            ds_tile[(y + e / 4 * 16) * ROW + x + e % 4 * 16] = ds[e / 4][e % 4];
        __syncwarp(); /* rows y are this warp's own */
        llm_cuda_flash_product<ROW, W + 4, 1, 64>(sum, ds_tile, k_tile);
    }
    llm_cuda_flash_backward_add(dq + rule.q_at(i), sum, rule.T - i, D, rule.q_row());
}

template <typename T, int W, typename R>
LLM_KERNEL void __launch_bounds__(256, W == 64 ? 2 : 1)
    llm_flash_backward_keys_kernel(T *dk, T *dv, const T *dout, const float *lse,
                                   const float *along, const T *q, const T *k, const T *v, R rule) {
    enum { ROW = LLM_CUDA_FLASH_ROW, TILE = 64 * (W + 4) };
    LLM_DYNAMIC_SHARED(float, q_tile);
    float *g_tile = q_tile + TILE, *k_tile = g_tile + TILE, *v_tile = k_tile + TILE;
    float *turned = v_tile + TILE, p[4][4], ds[4][4], dk_sum[4][W / 16] = {},
          dv_sum[4][W / 16] = {};
    const size_t group = rule.c.H / rule.c.Hkv, j = (size_t)blockIdx.y * 64, D = rule.c.D;
    const size_t x = threadIdx.x % 16, y = threadIdx.x / 16;
    rule.enter(blockIdx.x * group);
    if (j >= rule.S) return;
    const size_t own = rule.k_at(j), rows = rule.S - j;
    llm_cuda_flash_load<W>(k_tile, k + own, rows, D, rule.k_row());
    llm_cuda_flash_load<W>(v_tile, v + own, rows, D, rule.k_row());
    for (size_t head = 0; head < group; head++) {
        size_t n, end;
        rule.enter(blockIdx.x * group + head);
        for (rule.queries(n, end, j); n < end; n++) {
            const size_t i = rule.query_tile(n), at = rule.q_at(i);
            __syncthreads(); /* the tile before is worked off */
            llm_cuda_flash_load<W>(q_tile, q + at, rule.T - i, D, rule.q_row());
            llm_cuda_flash_load<W>(g_tile, dout + at, rule.T - i, D, rule.q_row());
            __syncthreads();
            llm_cuda_flash_backward_weights<W>(p, ds, q_tile, g_tile, k_tile, v_tile, lse, along,
                                               rule.whole(i, j, false, n), i, j, rule);
            LLM_UNROLL
            for (unsigned e = 0; e < 16; e++)
                turned[(x + e % 4 * 16) * ROW + y + e / 4 * 16] = p[e / 4][e % 4];
            __syncthreads();
            llm_cuda_flash_product<ROW, W + 4, 1, 64>(dv_sum, turned, g_tile);
            __syncthreads();
            LLM_UNROLL
            for (unsigned e = 0; e < 16; e++)
                turned[(x + e % 4 * 16) * ROW + y + e / 4 * 16] = ds[e / 4][e % 4];
            __syncthreads();
            llm_cuda_flash_product<ROW, W + 4, 1, 64>(dk_sum, turned, q_tile);
        }
    }
    if (dk) llm_cuda_flash_backward_add(dk + own, dk_sum, rows, D, rule.k_row());
    if (dv) llm_cuda_flash_backward_add(dv + own, dv_sum, rows, D, rule.k_row());
}

/* The kernels for any rule: texts of at most Tq queries and Tk keys. */
template <typename T, typename R>
static inline cudaError_t
llm_cuda_flash_run_backward(T *dq, T *dk, T *dv, const T *dout, const T *out, const float *lse,
                            const T *q, const T *k, const T *v, const R &rule, size_t Tq, size_t Tk,
                            float *scratch, cudaStream_t stream) {
    const size_t B = rule.c.B, H = rule.c.H, Hkv = rule.c.Hkv, D = rule.c.D;
    if (Hkv == 0 || H % Hkv != 0 || D > 128) return (cudaError_t)cudaErrorInvalidValue;
    const size_t row = D <= 64 ? 68 : 132;
    const size_t shared = 64 * (4 * row + LLM_CUDA_FLASH_ROW) * sizeof(float);
    if (B * H * Tq * Tk * D == 0) return cudaSuccess;
    const dim3 own_q((unsigned)(B * H), (unsigned)((Tq + 63) / 64));
    const dim3 own_k((unsigned)(B * Hkv), (unsigned)((Tk + 63) / 64));
    LLM_LAUNCH((llm_flash_backward_along_kernel<T, R>), own_q, 256, 0, stream, scratch, dout, out,
               rule);
    cudaError_t error = cudaGetLastError();
    if (dq && error == cudaSuccess) {
        const auto queries = row == 68 ? llm_flash_backward_queries_kernel<T, 64, R>
                                       : llm_flash_backward_queries_kernel<T, 128, R>;
        LLM_LAUNCH(queries, own_q, 256, shared, stream, dq, dout, lse, scratch, q, k, v, rule);
        error = cudaGetLastError();
    }
    if ((dk || dv) && error == cudaSuccess) {
        const auto keys = row == 68 ? llm_flash_backward_keys_kernel<T, 64, R>
                                    : llm_flash_backward_keys_kernel<T, 128, R>;
        LLM_LAUNCH(keys, own_k, 256, shared, stream, dk, dv, dout, lse, scratch, q, k, v, rule);
        error = cudaGetLastError();
    }
    return error;
}
/* dq (B,H,T,D) += , dk, dv (B,Hkv,S,D) += : arguments as llm_flash_backward, with the conditions of
 * llm_cuda_flash_forward. Any of the three may be NULL. scratch: B H T floats. */
template <typename T>
static inline cudaError_t llm_cuda_flash_backward(T *dq, T *dk, T *dv, const T *dout, const T *out,
                                                  const float *lse, const T *q, const T *k,
                                                  const T *v, const llm_flash_config *c,
                                                  float *scratch, cudaStream_t stream) {
    const llm_cuda_flash_rule rule = {*c, 0, 0, 0};
    return llm_cuda_flash_run_backward(dq, dk, dv, dout, out, lse, q, k, v, rule, c->T, c->S,
                                       scratch, stream);
}

/* @flash23 -------------------------------------------------- FlashAttention-2
 *
 * The kernels of @flash and @flash_backward for llm_flash23_config: texts of different lengths
 * behind each other, a window, a soft cap, ALiBi's slopes, each only a rule. A grid of tiles for
 * the longest text is launched for all of them, and blocks beyond the end of a shorter one return
 * at once; where lengths differ much, one text of that length costs the others nothing but those.
 * A window is a band along the diagonal. A block begins with the first tile its first query sees
 * and ends with the last one its last query sees, so that tiles outside the band are neither
 * loaded nor counted, and only those which the band's edges cross ask which pairs are seen. The
 * bias of ALiBi is a distance times a number of the head, made in registers.
 *
 * Rows lie as in (N,H,D), or where all texts are equally long also as in (B,H,T,D), for the layers
 * that have their heads outside.
 *
 * Traffic and limit: @flash's, of the tiles that are visited; with a window W those are about W /
 * 64 + 2 for each 64 queries, two of them partial. The cap costs a tanh a score.
 *
 * source  Dao 2023, "FlashAttention-2: Faster Attention with Better Parallelism and Work
 *         Partitioning", algorithms 1 and 2
 * needs   cuda_launch, flash, flash_backward
 * see     sliding_window, alibi, cross_attn, attn_mask
 * topics  -
 */

/* Tq, Tk: of the longest text; of every text where start_q, start_k are NULL. heads: (B,H,T,D). */
struct llm_cuda_flash23_rule {
    llm_flash23_config c;
    size_t Tq, Tk;
    bool heads;
    size_t T, S, q0, k0, h;
    float slope;
    LLM_DEVICE_METHOD void enter(size_t bh) {
        const size_t b = bh / c.H;
        h = bh % c.H;
        q0 = c.start_q ? c.start_q[b] : b * Tq, T = c.start_q ? c.start_q[b + 1] - q0 : Tq;
        k0 = c.start_k ? c.start_k[b] : b * Tk, S = c.start_k ? c.start_k[b + 1] - k0 : Tk;
        slope = c.slope ? c.slope[h] : 0.0f;
    }
    LLM_DEVICE_METHOD size_t lse_at(size_t i) const {
        return heads ? q0 * c.H + h * T + i : (q0 + i) * c.H + h;
    }
    LLM_DEVICE_METHOD size_t q_at(size_t i) const { return lse_at(i) * c.D; }
    LLM_DEVICE_METHOD size_t k_at(size_t j) const {
        const size_t g = h / (c.H / c.Hkv);
        return (heads ? k0 * c.Hkv + g * S + j : (k0 + j) * c.Hkv + g) * c.D;
    }
    LLM_DEVICE_METHOD size_t q_row() const { return heads ? c.D : c.H * c.D; }
    LLM_DEVICE_METHOD size_t k_row() const { return heads ? c.D : c.Hkv * c.D; }
    /* Tiles first .. end-1 hold what rows from at to at + 63 see. Row r stands opposite r + there -
     * here and sees `before` in front of that and `behind` behind it. */
    static LLM_DEVICE_METHOD void band(size_t &first, size_t &end, size_t at, size_t here,
                                       size_t there, size_t before, size_t behind) {
        const size_t last = (at + 64 < here ? at + 64 : here) + there, low = at + there;
        const size_t least = before < low && low - before > here ? low - before - here : 0;
        const size_t past = behind >= here + there ? there
                            : last + behind > here ? last + behind - here
                                                   : 0;
        first = least / 64, end = ((past < there ? past : there) + 63) / 64;
    }
    LLM_DEVICE_METHOD void keys(size_t &first, size_t &end, size_t i) const {
        band(first, end, i, T, S, c.left, c.right);
    }
    LLM_DEVICE_METHOD void queries(size_t &first, size_t &end, size_t j) const {
        band(first, end, j, S, T, c.right, c.left);
    }
    LLM_DEVICE_METHOD size_t key_tile(size_t n) const { return n * 64; }
    LLM_DEVICE_METHOD size_t query_tile(size_t n) const { return n * 64; }
    LLM_DEVICE_METHOD bool seen(size_t i, size_t j) const {
        const size_t query = i + S, key = j + T;
        return i < T && j < S && (key > query ? key - query <= c.right : query - key <= c.left);
    }
    /* Two corners of the tile lie farthest from the diagonal. */
    LLM_DEVICE_METHOD bool whole(size_t i, size_t j, bool, size_t) const {
        return seen(i, j + 63) && seen(i + 63, j);
    }
    LLM_DEVICE_METHOD float score(float &gain, float dot, size_t i, size_t j) const {
        float s = c.scale * dot;
        gain = c.scale;
        if (c.cap > 0.0f) {
            const float t = tanhf(s / c.cap);
            s = c.cap * t, gain *= 1.0f - t * t;
        }
        const size_t query = i + S, key = j + T;
        return s - slope * (float)(query > key ? query - key : key - query);
    }
    LLM_DEVICE_METHOD float keep(size_t, size_t) const { return 1.0f; }
};
/* The rule for a launch; a kernel fills in the rest. */
static inline __attribute__((unused)) llm_cuda_flash23_rule
llm_cuda_flash23_make(const llm_flash23_config *c, size_t Tq, size_t Tk, bool heads) {
    const llm_cuda_flash23_rule rule = {*c, Tq, Tk, heads, 0, 0, 0, 0, 0, 0.0f};
    return rule;
}

/* out (N,H,D), lse (N,H) <- q (N,H,D), k, v (M,Hkv,D): as llm_flash23_forward, with the conditions
 * of llm_cuda_flash_forward. start_q, start_k, slope are on the device; Tq, Tk: no text has more
 * queries, more keys. */
template <typename T>
static inline cudaError_t
llm_cuda_flash23_forward(T *out, float *lse, const T *q, const T *k, const T *v, size_t Tq,
                         size_t Tk, const llm_flash23_config *c, cudaStream_t stream) {
    return llm_cuda_flash_run(out, lse, q, k, v, llm_cuda_flash23_make(c, Tq, Tk, false), Tq,
                              stream);
}
/* dq (N,H,D), dk, dv (M,Hkv,D) += : as llm_flash23_backward; any of the three may be NULL. scratch:
 * N H floats. */
template <typename T>
static inline cudaError_t
llm_cuda_flash23_backward(T *dq, T *dk, T *dv, const T *dout, const T *out, const float *lse,
                          const T *q, const T *k, const T *v, size_t Tq, size_t Tk,
                          const llm_flash23_config *c, float *scratch, cudaStream_t stream) {
    return llm_cuda_flash_run_backward(dq, dk, dv, dout, out, lse, q, k, v,
                                       llm_cuda_flash23_make(c, Tq, Tk, false), Tq, Tk, scratch,
                                       stream);
}
/* The same for B texts of Tq queries and Tk keys in heads: out, q (B,H,Tq,D), lse (B,H,Tq), k, v
 * (B,Hkv,Tk,D); c's start_q and start_k are not read. scratch: B H Tq floats. */
template <typename T>
static inline cudaError_t llm_cuda_flash23_heads(T *out, float *lse, const T *q, const T *k,
                                                 const T *v, size_t Tq, size_t Tk,
                                                 llm_flash23_config c, cudaStream_t stream) {
    c.start_q = c.start_k = NULL;
    return llm_cuda_flash_run(out, lse, q, k, v, llm_cuda_flash23_make(&c, Tq, Tk, true), Tq,
                              stream);
}
template <typename T>
static inline cudaError_t
llm_cuda_flash23_heads_backward(T *dq, T *dk, T *dv, const T *dout, const T *out, const float *lse,
                                const T *q, const T *k, const T *v, size_t Tq, size_t Tk,
                                llm_flash23_config c, float *scratch, cudaStream_t stream) {
    c.start_q = c.start_k = NULL;
    return llm_cuda_flash_run_backward(dq, dk, dv, dout, out, lse, q, k, v,
                                       llm_cuda_flash23_make(&c, Tq, Tk, true), Tq, Tk, scratch,
                                       stream);
}

/* @flash23_bf16 --------------------------------------------- FlashAttention-2 on tensor cores
 *
 * The forward pass of @flash23 for bfloat16, with mma.m16n8k16 and cp.async. A warp has 16 queries
 * of the block's 64, and their rows are its own from the scores to the output: nothing passes
 * between warps. The queries' fragments stay in registers. What mma leaves of the scores, two tiles
 * of 8 keys, lies in the lanes as mma wants the left factor of the next product to lie: weights go
 * from one product to the next without leaving their registers, rounded to bfloat16 on the way. A
 * row is shared by four lanes, so that maximum and sum are two shuffles each.
 *
 * Keys and values of the next tile are on their way while one is worked off, and a step needs one
 * barrier. Rows in shared memory are 16 bytes longer than a power of two, which keeps the 8 rows of
 * an ldmatrix in different banks. The rule is @flash's: windows, caps, texts of different lengths
 * and lists of tiles go the same way.
 *
 * Traffic: as @flash, in elements of 2 bytes. 4 T S D operations a head, half of that causal.
 * Limit: tensor cores and shared memory alike, one ldmatrix for two mma; on Hopper mma.sync itself,
 * which reaches only part of what wgmma does there. Shared memory: 45 KB for D <= 64, 85 KB for D
 * <= 128.
 *
 * source  Dao 2023, "FlashAttention-2", algorithm 1, section 3.3; NVIDIA, PTX ISA, "mma.m16n8k16"
 * needs   cuda_launch, cuda_memory, cuda_mma, flash, flash23
 * see     flash23, mla_decode
 * topics  -
 */

/* tile (64,W) in rows of W + 8 <- rows of D numbers, `apart` entries apart, zeros around them. */
template <int W>
LLM_DEVICE void llm_cuda_flash23_bf16_send(llm_bf16 *tile, const llm_bf16 *from, size_t rows,
                                           size_t D, size_t apart) {
    for (size_t i = threadIdx.x; i < 64 * W / 8; i += 128) {
        const size_t r = i / (W / 8), d = i % (W / 8) * 8;
        const bool inside = r < rows && d < D;
        llm_copy_async(tile + r * (W + 8) + d, inside ? from + r * apart + d : from, inside);
    }
}

/* o += weights p of 16 rows and 8 E columns, as mma leaves them, times b (8 E,W). */
template <int W, int E>
LLM_DEVICE void llm_cuda_flash23_bf16_gather(float (&o)[W / 8][4], const float (&p)[E][4],
                                             const llm_bf16 *b) {
    enum { ROW = W + 8 };
    const unsigned lane = threadIdx.x % 32, m8 = lane / 8, in8 = lane % 8;
    LLM_UNROLL
    for (unsigned e = 0; e < E; e += 2) {
        const uint32_t a_v[4] = {llm_pack(p[e][0], p[e][1]), llm_pack(p[e][2], p[e][3]),
                                 llm_pack(p[e + 1][0], p[e + 1][1]),
                                 llm_pack(p[e + 1][2], p[e + 1][3])};
        LLM_UNROLL
        for (unsigned d = 0; d < W; d += 16) {
            uint32_t w[4];
            llm_ldmatrix_x4_trans(w, b + (8 * e + m8 % 2 * 8 + in8) * ROW + d + m8 / 2 * 8);
            const uint32_t low[2] = {w[0], w[1]}, high[2] = {w[2], w[3]};
            llm_mma_m16n8k16_bf16(o[d / 8], a_v, low);
            llm_mma_m16n8k16_bf16(o[d / 8 + 1], a_v, high);
        }
    }
}
template <int W, typename R>
LLM_KERNEL void __launch_bounds__(128)
    llm_flash23_bf16_kernel(llm_bf16 *out, float *lse, const llm_bf16 *q, const llm_bf16 *k,
                            const llm_bf16 *v, R rule) {
    enum { ROW = W + 8, TILE = 64 * ROW };
    LLM_DYNAMIC_SHARED(llm_bf16, q_tile);
    llm_bf16 *k_tiles = q_tile + TILE, *v_tiles = k_tiles + 2 * TILE;
    const unsigned lane = threadIdx.x % 32, m8 = lane / 8, in8 = lane % 8;
    const unsigned y = threadIdx.x / 32 * 16; /* the warp's first row */
    const size_t i = (size_t)(gridDim.y - 1 - blockIdx.y) * 64, D = rule.c.D;
    size_t n, end;
    rule.enter(blockIdx.x);
    if (i >= rule.T) return;
    rule.keys(n, end, i);
    llm_cuda_flash23_bf16_send<W>(q_tile, q + rule.q_at(i), rule.T - i, D, rule.q_row());
    if (n < end) {
        const size_t j = rule.key_tile(n), at = rule.k_at(j);
        llm_cuda_flash23_bf16_send<W>(k_tiles, k + at, rule.S - j, D, rule.k_row());
        llm_cuda_flash23_bf16_send<W>(v_tiles, v + at, rule.S - j, D, rule.k_row());
    }
    llm_copy_commit();
    llm_copy_wait<0>();
    __syncthreads();
    uint32_t q_v[W / 16][4];
    LLM_UNROLL
    for (unsigned d = 0; d < W / 16; d++)
        llm_ldmatrix_x4(q_v[d], q_tile + (y + m8 % 2 * 8 + in8) * ROW + 16 * d + m8 / 2 * 8);

    /* rows lane / 4 and lane / 4 + 8 of the warp's; l: this lane's share of the sum */
    float m[2] = {-INFINITY, -INFINITY}, l[2] = {0.0f, 0.0f}, o[W / 8][4] = {};
    for (unsigned now = 0; n < end; n++, now ^= 1) {
        const size_t j = rule.key_tile(n);
        const llm_bf16 *k_tile = k_tiles + now * TILE, *v_tile = v_tiles + now * TILE;
        llm_copy_wait<0>();
        __syncthreads(); /* the tile is there, and the one before is worked off */
        if (n + 1 < end) {
            const size_t next = rule.key_tile(n + 1), at = rule.k_at(next), rows = rule.S - next;
            llm_cuda_flash23_bf16_send<W>(k_tiles + (now ^ 1) * TILE, k + at, rows, D,
                                          rule.k_row());
            llm_cuda_flash23_bf16_send<W>(v_tiles + (now ^ 1) * TILE, v + at, rows, D,
                                          rule.k_row());
        }
        llm_copy_commit();

        float s[8][4] = {};
        LLM_UNROLL
        for (unsigned d = 0; d < W / 16; d++) {
            LLM_UNROLL
            for (unsigned e = 0; e < 8; e += 2) {
                uint32_t w[4];
                llm_ldmatrix_x4(w, k_tile + (8 * e + m8 / 2 * 8 + in8) * ROW + 16 * d + m8 % 2 * 8);
                const uint32_t low[2] = {w[0], w[1]}, high[2] = {w[2], w[3]};
                llm_mma_m16n8k16_bf16(s[e], q_v[d], low);
                llm_mma_m16n8k16_bf16(s[e + 1], q_v[d], high);
            }
        }
        const bool whole = rule.whole(i, j, true, n);
        LLM_UNROLL
        for (unsigned r = 0; r < 2; r++) {
            const size_t row = i + y + lane / 4 + 8 * r, column = j + lane % 4 * 2;
            float max = m[r], slope;
            LLM_UNROLL
            for (unsigned e = 0; e < 16; e++) {
                float &at = s[e / 2][2 * r + e % 2];
                const size_t key = column + e / 2 * 8 + e % 2;
                at = whole || rule.seen(row, key) ? rule.score(slope, at, row, key) : -INFINITY;
                max = fmaxf(max, at);
            }
            max = fmaxf(max, __shfl_xor_sync(0xffffffffu, max, 1));
            max = fmaxf(max, __shfl_xor_sync(0xffffffffu, max, 2));
            const float shift = max == -INFINITY ? 0.0f : max, old = expf(m[r] - shift);
            m[r] = max, l[r] *= old;
            LLM_UNROLL
            for (unsigned e = 0; e < 16; e++) {
                float &at = s[e / 2][2 * r + e % 2];
                at = expf(at - shift);
                l[r] += at;
                at *= rule.keep(row, column + e / 2 * 8 + e % 2);
            }
            LLM_UNROLL
            for (unsigned d = 0; d < W / 8; d++) o[d][2 * r] *= old, o[d][2 * r + 1] *= old;
        }
        llm_cuda_flash23_bf16_gather<W>(o, s, v_tile);
    }
    llm_copy_wait<0>();
    LLM_UNROLL
    for (unsigned r = 0; r < 2; r++) {
        const size_t row = i + y + lane / 4 + 8 * r;
        l[r] += __shfl_xor_sync(0xffffffffu, l[r], 1);
        l[r] += __shfl_xor_sync(0xffffffffu, l[r], 2);
        if (row >= rule.T) continue;
        const float gain = l[r] == 0.0f ? 0.0f : 1.0f / l[r];
        if (lane % 4 == 0) llm_store(lse, rule.lse_at(row), m[r] + logf(l[r]));
        LLM_UNROLL
        for (unsigned d = 0; d < W / 8; d++)
            if (8 * d < D)
                llm_store_words(out + rule.q_at(row) + 8 * d + lane % 4 * 2,
                                llm_pack(gain * o[d][2 * r], gain * o[d][2 * r + 1]));
    }
}

/* The kernel for any rule: texts of at most Tq queries. D <= 128 is a multiple of 8; q, k, v and
 * out begin at multiples of 16 bytes. */
template <typename R>
static inline cudaError_t llm_cuda_flash23_bf16_run(llm_bf16 *out, float *lse, const llm_bf16 *q,
                                                    const llm_bf16 *k, const llm_bf16 *v,
                                                    const R &rule, size_t Tq, cudaStream_t stream) {
    const size_t heads = rule.c.B * rule.c.H, D = rule.c.D;
    if (rule.c.Hkv == 0 || rule.c.H % rule.c.Hkv != 0 || D > 128 || D % 8 != 0 ||
        !llm_aligned(q, 8) || !llm_aligned(k, 8) || !llm_aligned(v, 8) || !llm_aligned(out, 8))
        return (cudaError_t)cudaErrorInvalidValue;
    if (heads * Tq * D == 0) return cudaSuccess;
    const auto flash = D <= 64 ? llm_flash23_bf16_kernel<64, R> : llm_flash23_bf16_kernel<128, R>;
    const size_t shared = 5 * 64 * (D <= 64 ? 72 : 136) * sizeof(llm_bf16);
    LLM_LAUNCH(flash, dim3((unsigned)heads, (unsigned)((Tq + 63) / 64)), 128, shared, stream, out,
               lse, q, k, v, rule);
    return cudaGetLastError();
}
/* Arguments as llm_cuda_flash23_forward. */
static inline __attribute__((unused)) cudaError_t
llm_cuda_flash23_bf16_forward(llm_bf16 *out, float *lse, const llm_bf16 *q, const llm_bf16 *k,
                              const llm_bf16 *v, size_t Tq, size_t Tk, const llm_flash23_config *c,
                              cudaStream_t stream) {
    return llm_cuda_flash23_bf16_run(out, lse, q, k, v, llm_cuda_flash23_make(c, Tq, Tk, false), Tq,
                                     stream);
}
/* Arguments as llm_cuda_flash_forward. */
static inline __attribute__((unused)) cudaError_t
llm_cuda_flash23_bf16_heads(llm_bf16 *out, float *lse, const llm_bf16 *q, const llm_bf16 *k,
                            const llm_bf16 *v, const llm_flash_config *c, cudaStream_t stream) {
    const llm_cuda_flash_rule rule = {*c, 0, 0, 0};
    return llm_cuda_flash23_bf16_run(out, lse, q, k, v, rule, c->T, stream);
}

/* @flash23_bf16_backward ------------------------------------ The way back on tensor cores
 *
 * The two kernels of @flash_backward with the products of @flash23_bf16. A warp of the queries'
 * kernel has 16 queries, one of the keys' kernel 16 keys, and works on scores turned, K Q^T and V
 * dO^T: what belongs to its rows is again its own, and weights and dS go from the registers that
 * one product leaves them in to the left side of the next. Both are rounded to bfloat16 there. Own
 * rows stay in shared memory and are read from it as fragments, since gradients fill the registers;
 * keys come by a tile ahead, queries without, where several blocks on a multiprocessor do as well.
 *
 * Traffic and operations: as @flash_backward, in elements of 2 bytes. Limit: shared memory, five
 * ldmatrix for eight mma of the scores and one for two of the rest, and tensor cores. Shared
 * memory: 54 and 36 KB for D <= 64, 102 and 68 KB for D <= 128.
 *
 * source  Dao 2023, "FlashAttention-2", algorithm 2
 * needs   cuda_launch, cuda_memory, cuda_mma, flash, flash_backward, flash23, flash23_bf16
 * see     flash_backward, flash23_bf16
 * topics  -
 */

/* s <- this warp's 16 rows of a times 8 E rows of b; both W numbers wide. */
template <int W, int E>
LLM_DEVICE void llm_cuda_flash23_bf16_scores(float (&s)[E][4], const llm_bf16 *a,
                                             const llm_bf16 *b) {
    enum { ROW = W + 8 };
    const unsigned lane = threadIdx.x % 32, m8 = lane / 8, in8 = lane % 8;
    a += threadIdx.x / 32 * 16 * ROW;
    LLM_UNROLL
    for (unsigned e = 0; e < 4 * E; e++) s[e / 4][e % 4] = 0.0f;
    LLM_UNROLL
    for (unsigned d = 0; d < W; d += 16) {
        uint32_t a_v[4], w[4];
        llm_ldmatrix_x4(a_v, a + (m8 % 2 * 8 + in8) * ROW + d + m8 / 2 * 8);
        LLM_UNROLL
        for (unsigned e = 0; e < E; e += 2) {
            llm_ldmatrix_x4(w, b + (8 * e + m8 / 2 * 8 + in8) * ROW + d + m8 % 2 * 8);
            const uint32_t low[2] = {w[0], w[1]}, high[2] = {w[2], w[3]};
            llm_mma_m16n8k16_bf16(s[e], a_v, low);
            llm_mma_m16n8k16_bf16(s[e + 1], a_v, high);
        }
    }
}
/* p, ds: scores and dO V^T of one pair become the weight after dropout and dS. */
template <typename R>
LLM_DEVICE void llm_cuda_flash23_bf16_weight(float &p, float &ds, size_t query, size_t key,
                                             float lse, float along, bool whole, const R &rule) {
    float slope;
    const bool seen = whole || rule.seen(query, key);
    const float score = rule.score(slope, p, query, key), keep = rule.keep(query, key);
    const float weight = seen ? expf(score - lse) : 0.0f;
    ds = seen ? slope * weight * (keep * ds - along) : 0.0f;
    p = weight * keep;
}
/* Rows of y, `apart` entries apart, += this lane's entries of them. */
template <int W>
LLM_DEVICE void llm_cuda_flash23_bf16_add(llm_bf16 *y, const float (&v)[W / 8][4], size_t rows,
                                          size_t D, size_t apart) {
    LLM_UNROLL
    for (unsigned e = 0; e < W / 4; e++) {
        const size_t row = threadIdx.x / 32 * 16 + e % 2 * 8 + threadIdx.x % 32 / 4;
        const size_t d = e / 2 * 8 + threadIdx.x % 4 * 2;
        if (row >= rows || d >= D) continue;
        float old[2];
        llm_unpack(old, llm_load_words<uint32_t>(y + row * apart + d));
        llm_store_words(y + row * apart + d,
                        llm_pack(old[0] + v[e / 2][e % 2 * 2], old[1] + v[e / 2][e % 2 * 2 + 1]));
    }
}

template <int W, typename R>
LLM_KERNEL void __launch_bounds__(128)
    llm_flash23_bf16_queries_kernel(llm_bf16 *dq, const llm_bf16 *dout, const float *lse,
                                    const float *along, const llm_bf16 *q, const llm_bf16 *k,
                                    const llm_bf16 *v, R rule) {
    enum { TILE = 64 * (W + 8) };
    LLM_DYNAMIC_SHARED(llm_bf16, q_tile);
    llm_bf16 *g_tile = q_tile + TILE, *k_tiles = g_tile + TILE, *v_tiles = k_tiles + 2 * TILE;
    const size_t i = (size_t)(gridDim.y - 1 - blockIdx.y) * 64, D = rule.c.D;
    const size_t lane = threadIdx.x % 32, mine = i + threadIdx.x / 32 * 16 + lane / 4;
    size_t n, end;
    rule.enter(blockIdx.x);
    if (i >= rule.T) return;
    rule.keys(n, end, i);
    llm_cuda_flash23_bf16_send<W>(q_tile, q + rule.q_at(i), rule.T - i, D, rule.q_row());
    llm_cuda_flash23_bf16_send<W>(g_tile, dout + rule.q_at(i), rule.T - i, D, rule.q_row());
    float sum[W / 8][4] = {}, lse_v[2], along_v[2];
    LLM_UNROLL
    for (unsigned r = 0; r < 2; r++) {
        const bool is = mine + 8 * r < rule.T;
        lse_v[r] = is ? llm_load(lse, rule.lse_at(mine + 8 * r)) : 0.0f;
        along_v[r] = is ? llm_load(along, rule.lse_at(mine + 8 * r)) : 0.0f;
    }
    size_t sent = n; /* keys and values up to here are on their way */
    for (unsigned now = 0; n < end; n++, now ^= 1) {
        for (; sent < end && sent < n + 2; sent++) { /* the first two, then one ahead */
            const unsigned to = sent == n ? now : now ^ 1u;
            const size_t j = rule.key_tile(sent), at = rule.k_at(j), rows = rule.S - j;
            llm_cuda_flash23_bf16_send<W>(k_tiles + to * TILE, k + at, rows, D, rule.k_row());
            llm_cuda_flash23_bf16_send<W>(v_tiles + to * TILE, v + at, rows, D, rule.k_row());
            llm_copy_commit();
        }
        if (n + 1 < end)
            llm_copy_wait<1>();
        else
            llm_copy_wait<0>();
        __syncthreads();
        const size_t j = rule.key_tile(n);
        const bool whole = rule.whole(i, j, true, n);
        float p[8][4], ds[8][4];
        llm_cuda_flash23_bf16_scores<W>(p, q_tile, k_tiles + now * TILE);
        llm_cuda_flash23_bf16_scores<W>(ds, g_tile, v_tiles + now * TILE);
        LLM_UNROLL
        for (unsigned e = 0; e < 32; e++)
            llm_cuda_flash23_bf16_weight(p[e / 4][e % 4], ds[e / 4][e % 4], mine + e / 2 % 2 * 8,
                                         j + e / 4 * 8 + lane % 4 * 2 + e % 2, lse_v[e / 2 % 2],
                                         along_v[e / 2 % 2], whole, rule);
        llm_cuda_flash23_bf16_gather<W>(sum, ds, k_tiles + now * TILE);
        __syncthreads(); /* the tile is worked off */
    }
    llm_copy_wait<0>();
    llm_cuda_flash23_bf16_add<W>(dq + rule.q_at(i), sum, rule.T - i, D, rule.q_row());
}

template <int W, typename R>
LLM_KERNEL void __launch_bounds__(128)
    llm_flash23_bf16_keys_kernel(llm_bf16 *dk, llm_bf16 *dv, const llm_bf16 *dout, const float *lse,
                                 const float *along, const llm_bf16 *q, const llm_bf16 *k,
                                 const llm_bf16 *v, R rule) {
    enum { TILE = 64 * (W + 8) };
    LLM_DYNAMIC_SHARED(llm_bf16, k_tile);
    __shared__ float lse_tile[64], along_tile[64];
    llm_bf16 *v_tile = k_tile + TILE, *q_tile = v_tile + TILE, *g_tile = q_tile + TILE;
    const size_t group = rule.c.H / rule.c.Hkv, j = (size_t)blockIdx.y * 64, D = rule.c.D;
    const size_t lane = threadIdx.x % 32, mine = j + threadIdx.x / 32 * 16 + lane / 4;
    rule.enter(blockIdx.x * group);
    if (j >= rule.S) return;
    const size_t own = rule.k_at(j), rows = rule.S - j;
    llm_cuda_flash23_bf16_send<W>(k_tile, k + own, rows, D, rule.k_row());
    llm_cuda_flash23_bf16_send<W>(v_tile, v + own, rows, D, rule.k_row());
    float dk_sum[W / 8][4] = {}, dv_sum[W / 8][4] = {};
    for (size_t head = 0; head < group; head++) {
        size_t n, end;
        rule.enter(blockIdx.x * group + head);
        for (rule.queries(n, end, j); n < end; n++) {
            const size_t i = rule.query_tile(n), at = rule.q_at(i);
            __syncthreads(); /* the tile before is worked off */
            llm_cuda_flash23_bf16_send<W>(q_tile, q + at, rule.T - i, D, rule.q_row());
            llm_cuda_flash23_bf16_send<W>(g_tile, dout + at, rule.T - i, D, rule.q_row());
            llm_copy_commit();
            if (threadIdx.x < 64) {
                const bool is = i + threadIdx.x < rule.T;
                const size_t row = rule.lse_at(i + threadIdx.x);
                lse_tile[threadIdx.x] = is ? llm_load(lse, row) : 0.0f;
                along_tile[threadIdx.x] = is ? llm_load(along, row) : 0.0f;
            }
            llm_copy_wait<0>();
            __syncthreads();
            const bool whole = rule.whole(i, j, false, n);
            LLM_UNROLL
            for (unsigned half = 0; half < 64;
                 half += 32) { /* 64 queries would not fit registers */
                const llm_bf16 *q_half = q_tile + half * (W + 8), *g_half = g_tile + half * (W + 8);
                float p[4][4], ds[4][4];
                llm_cuda_flash23_bf16_scores<W>(p, k_tile, q_half);
                llm_cuda_flash23_bf16_scores<W>(ds, v_tile, g_half);
                LLM_UNROLL
                for (unsigned e = 0; e < 16; e++) {
                    const size_t column = half + e / 4 * 8 + lane % 4 * 2 + e % 2;
                    llm_cuda_flash23_bf16_weight(p[e / 4][e % 4], ds[e / 4][e % 4], i + column,
                                                 mine + e / 2 % 2 * 8, lse_tile[column],
                                                 along_tile[column], whole, rule);
                }
                llm_cuda_flash23_bf16_gather<W>(dv_sum, p, g_half);
                llm_cuda_flash23_bf16_gather<W>(dk_sum, ds, q_half);
            }
        }
    }
    llm_copy_wait<0>();
    if (dk) llm_cuda_flash23_bf16_add<W>(dk + own, dk_sum, rows, D, rule.k_row());
    if (dv) llm_cuda_flash23_bf16_add<W>(dv + own, dv_sum, rows, D, rule.k_row());
}

/* The kernels for any rule: texts of at most Tq queries and Tk keys; conditions as of
 * llm_cuda_flash23_bf16_run, for gradients and dout too. */
template <typename R>
static inline cudaError_t
llm_cuda_flash23_bf16_run_backward(llm_bf16 *dq, llm_bf16 *dk, llm_bf16 *dv, const llm_bf16 *dout,
                                   const llm_bf16 *out, const float *lse, const llm_bf16 *q,
                                   const llm_bf16 *k, const llm_bf16 *v, const R &rule, size_t Tq,
                                   size_t Tk, float *scratch, cudaStream_t stream) {
    const size_t B = rule.c.B, H = rule.c.H, Hkv = rule.c.Hkv, D = rule.c.D;
    const llm_bf16 *all[8] = {dq, dk, dv, dout, out, q, k, v};
    if (Hkv == 0 || H % Hkv != 0 || D > 128 || D % 8 != 0)
        return (cudaError_t)cudaErrorInvalidValue;
    for (size_t i = 0; i < 8; i++)
        if (!llm_aligned(all[i], 8)) return (cudaError_t)cudaErrorInvalidValue;
    if (B * H * Tq * Tk * D == 0) return cudaSuccess;
    const size_t tile = 64 * (D <= 64 ? 72 : 136) * sizeof(llm_bf16);
    const dim3 own_q((unsigned)(B * H), (unsigned)((Tq + 63) / 64));
    const dim3 own_k((unsigned)(B * Hkv), (unsigned)((Tk + 63) / 64));
    LLM_LAUNCH((llm_flash_backward_along_kernel<llm_bf16, R>), own_q, 256, 0, stream, scratch, dout,
               out, rule);
    cudaError_t error = cudaGetLastError();
    if (dq && error == cudaSuccess) {
        const auto queries = D <= 64 ? llm_flash23_bf16_queries_kernel<64, R>
                                     : llm_flash23_bf16_queries_kernel<128, R>;
        LLM_LAUNCH(queries, own_q, 128, 6 * tile, stream, dq, dout, lse, scratch, q, k, v, rule);
        error = cudaGetLastError();
    }
    if ((dk || dv) && error == cudaSuccess) {
        const auto keys =
            D <= 64 ? llm_flash23_bf16_keys_kernel<64, R> : llm_flash23_bf16_keys_kernel<128, R>;
        LLM_LAUNCH(keys, own_k, 128, 4 * tile, stream, dk, dv, dout, lse, scratch, q, k, v, rule);
        error = cudaGetLastError();
    }
    return error;
}
/* Arguments as llm_cuda_flash23_backward. */
static inline __attribute__((unused)) cudaError_t
llm_cuda_flash23_bf16_backward(llm_bf16 *dq, llm_bf16 *dk, llm_bf16 *dv, const llm_bf16 *dout,
                               const llm_bf16 *out, const float *lse, const llm_bf16 *q,
                               const llm_bf16 *k, const llm_bf16 *v, size_t Tq, size_t Tk,
                               const llm_flash23_config *c, float *scratch, cudaStream_t stream) {
    return llm_cuda_flash23_bf16_run_backward(dq, dk, dv, dout, out, lse, q, k, v,
                                              llm_cuda_flash23_make(c, Tq, Tk, false), Tq, Tk,
                                              scratch, stream);
}
/* Arguments as llm_cuda_flash_backward. */
static inline __attribute__((unused)) cudaError_t llm_cuda_flash23_bf16_heads_backward(
    llm_bf16 *dq, llm_bf16 *dk, llm_bf16 *dv, const llm_bf16 *dout, const llm_bf16 *out,
    const float *lse, const llm_bf16 *q, const llm_bf16 *k, const llm_bf16 *v,
    const llm_flash_config *c, float *scratch, cudaStream_t stream) {
    const llm_cuda_flash_rule rule = {*c, 0, 0, 0};
    return llm_cuda_flash23_bf16_run_backward(dq, dk, dv, dout, out, lse, q, k, v, rule, c->T, c->S,
                                              scratch, stream);
}

/* @flash_mask ----------------------------------------------- FlashAttention under a list of tiles
 *
 * The kernels of @flash with the lists of @attn_mask for a rule: a block walks along its list of
 * tiles, and only partial ones ask the mask which pairs are seen. Forward and dq go by rows, dk and
 * dv by columns of tiles. Documents packed into one row, prefixes, windows and whatever joins them
 * cost what their tiles cost.
 *
 * Traffic and limit: @flash's, of the tiles in the list, 9 bytes a tile for the list itself.
 *
 * source  Dao, Fu, Ermon, Rudra & Re 2022, "FlashAttention", algorithm 5 (block-sparse)
 * needs   cuda_launch, attn_mask, flash, flash_backward
 * see     attn_mask, flash23
 * topics  -
 */
struct llm_cuda_flash_mask_rule : llm_cuda_flash_rule {
    llm_cuda_attn_mask mask;
    llm_cuda_attn_mask_list by_rows, by_columns;
    LLM_DEVICE_METHOD void keys(size_t &first, size_t &end, size_t i) const {
        first = by_rows.first[i / 64], end = by_rows.first[i / 64 + 1];
    }
    LLM_DEVICE_METHOD void queries(size_t &first, size_t &end, size_t j) const {
        first = by_columns.first[j / 64], end = by_columns.first[j / 64 + 1];
    }
    LLM_DEVICE_METHOD size_t key_tile(size_t n) const { return by_rows.column[n] * 64; }
    LLM_DEVICE_METHOD size_t query_tile(size_t n) const { return by_columns.column[n] * 64; }
    LLM_DEVICE_METHOD bool seen(size_t i, size_t j) const {
        return i < T && j < S && mask.allowed(i, j);
    }
    /* What lies beyond the end of the text is no part of a full tile. */
    LLM_DEVICE_METHOD bool whole(size_t i, size_t j, bool rows, size_t n) const {
        return i + 64 <= T && j + 64 <= S && (rows ? by_rows.full[n] : by_columns.full[n]);
    }
};
/* rule <- m, whose lists llm_cuda_attn_mask_blocks has made for Tq = c.T, Tk = c.S; of c B, H, Hkv,
 * T, S, D, scale and dropout count. False: too many parts. */
static inline __attribute__((unused)) bool
llm_cuda_flash_mask_make(llm_cuda_flash_mask_rule *rule, const llm_attn_mask *m,
                         const llm_cuda_attn_mask_list *by_rows,
                         const llm_cuda_attn_mask_list *by_columns, const llm_flash_config *c) {
    rule->c = *c, rule->T = rule->S = rule->bh = 0;
    rule->mask.count = 0, rule->by_rows = *by_rows, rule->by_columns = *by_columns;
    return llm_cuda_attn_mask_flatten(&rule->mask, m);
}
/* As llm_cuda_flash_forward, under the rule's mask in the place of c's. */
template <typename T>
static inline cudaError_t
llm_cuda_flash_mask_forward(T *out, float *lse, const T *q, const T *k, const T *v,
                            const llm_cuda_flash_mask_rule *rule, cudaStream_t stream) {
    return llm_cuda_flash_run(out, lse, q, k, v, *rule, rule->c.T, stream);
}
/* As llm_cuda_flash_backward. */
template <typename T>
static inline cudaError_t llm_cuda_flash_mask_backward(T *dq, T *dk, T *dv, const T *dout,
                                                       const T *out, const float *lse, const T *q,
                                                       const T *k, const T *v,
                                                       const llm_cuda_flash_mask_rule *rule,
                                                       float *scratch, cudaStream_t stream) {
    return llm_cuda_flash_run_backward(dq, dk, dv, dout, out, lse, q, k, v, *rule, rule->c.T,
                                       rule->c.S, scratch, stream);
}

/* @csa_compress --------------------------------------------- Windows of tokens pooled to entries
 *
 * A block has a window, a thread a channel: the softmax over its 2 m slots runs along as the slots
 * come in, neighbours read neighbours, and the mean never leaves the chip before it is normalized
 * and its last dimensions are turned.
 *
 * Traffic: x and gate are read once by each of the two windows that use a row's halves, that is
 * once in all: 4 m D elements a window, and D written, the minimum. Limit: memory bandwidth.
 *
 * source  as in llm.h
 * needs   cuda_launch, cuda_memory, cuda_reduce
 * see     csa
 * topics  -
 */
template <typename T>
LLM_KERNEL void llm_csa_compress_kernel(T *entry, const T *x, const T *gate, const float *bias,
                                        const float *weight, llm_csa_compress_config c) {
    __shared__ float row[1024];
    const size_t D = c.D, m = c.m, d = threadIdx.x, windows = c.T / m, w = blockIdx.x % windows;
    const size_t text = blockIdx.x / windows * c.T, rest = D - c.rot;
    float max = -INFINITY, sum = 0.0f, mean = 0.0f;
    for (size_t s = w == 0 ? m : 0; s < 2 * m && d < D; s++) {
        const size_t column = s < m ? d : D + d, at = (text + w * m + s - m) * 2 * D + column;
        const float z = llm_load(gate, at) + llm_load(bias, s % m * 2 * D + column);
        const float top = fmaxf(max, z), old = expf(max - top), p = expf(z - top);
        sum = sum * old + p, mean = mean * old + p * llm_load(x, at), max = top;
    }
    mean = d < D ? mean / sum : 0.0f;
    const float rstd = 1.0f / sqrtf(llm_block_sum(mean * mean) / (float)D + c.eps);
    if (d < D) row[d] = llm_load(weight, d) * (mean * rstd);
    __syncthreads();
    if (d >= D) return;
    float y = row[d];
    if (d >= rest) {
        const size_t i = w * (c.rot / 2) + (d - rest) / 2, first = d - (d - rest) % 2;
        const float cosine = llm_load(c.cosine, i), sine = llm_load(c.sine, i);
        y = d == first ? row[first] * cosine - row[first + 1] * sine
                       : row[first] * sine + row[first + 1] * cosine;
    }
    llm_store(entry, blockIdx.x * D + d, y);
}

/* entry (B,T / m,D) <- x, gate (B,T,2D), bias (m,2D), weight (D), c's tables on the device:
 * llm_csa_compress_forward. D at most 1024. T is float or llm_bf16. */
template <typename T>
static inline cudaError_t llm_cuda_csa_compress_forward(T *entry, const T *x, const T *gate,
                                                        const float *bias, const float *weight,
                                                        const llm_csa_compress_config *c,
                                                        cudaStream_t stream) {
    if (c->m == 0 || c->D > 1024 || c->rot > c->D || c->rot % 2 != 0)
        return (cudaError_t)cudaErrorInvalidValue;
    if (c->B * (c->T / c->m) * c->D == 0) return cudaSuccess;
    LLM_LAUNCH(llm_csa_compress_kernel<T>, (unsigned)(c->B * (c->T / c->m)), llm_row_threads(c->D),
               0, stream, entry, x, gate, bias, weight, *c);
    return cudaGetLastError();
}

/* @csa ------------------------------------------------------ Compressed sparse attention
 *
 * A block has one token and up to four of its heads; each of four warps takes every fourth of the
 * rows on the token's list, near ones first. A lane holds every 32nd number of a row, which is key
 * and value at once and so is read once; a score is a sum over the warp, and the row joins the
 * heads' means as @sinks has it. Each head's sink is added when the warps meet.
 *
 * Traffic: (W + k) D elements a token and four heads; the rows of all heads come from L2 after the
 * first. Operations: 4 D a row and head, and 5 exchanges. Limit: with 64 heads a row is fetched 16
 * times from L2; FlashMLA's form, 64 heads to a tile on tensor cores, fetches it once.
 *
 * source  as in llm.h
 * needs   cuda_launch, cuda_memory, cuda_reduce, gqa, sinks
 * see     csa_compress
 * topics  -
 */
template <typename T, int HEADS, int DIMS>
LLM_KERNEL void __launch_bounds__(128)
    llm_csa_kernel(T *out, float *lse, const T *q, const T *rows, const T *entries,
                   const int *index, const float *sink, llm_csa_config c) {
    LLM_DYNAMIC_SHARED(float, shared); /* q (D,HEADS); behind it the states (4,HEADS,D+2) */
    const size_t D = c.D, lane = threadIdx.x % 32, bt = blockIdx.x, b = bt / c.T, t = bt % c.T;
    const size_t near = t + 1 < c.W ? t + 1 : c.W, skip = blockIdx.y * HEADS;
    const size_t count = c.H - skip < HEADS ? c.H - skip : HEADS, head = bt * c.H + skip;
    float *const states = shared + D * HEADS;
    for (size_t i = threadIdx.x; i < D * HEADS; i += 128) {
        const size_t g = i % HEADS;
        shared[i] = g < count ? c.scale * llm_load(q, (head + g) * D + i / HEADS) : 0.0f;
    }
    __syncthreads();

    float m[HEADS], l[HEADS] = {}, o[HEADS][DIMS] = {};
    for (int g = 0; g < HEADS; g++) m[g] = -INFINITY;
    for (size_t j = threadIdx.x / 32; j < near + c.k; j += 4) {
        const int chosen = j < near ? 0 : index[bt * c.k + j - near];
        if (chosen < 0) break; /* and so are those behind it */
        const T *row =
            j < near ? rows + (bt + 1 - near + j) * D : entries + (b * c.S + (size_t)chosen) * D;
        float s[HEADS] = {}, v[DIMS];
        LLM_UNROLL
        for (int i = 0; i < DIMS; i++) {
            const size_t d = lane + 32 * i;
            v[i] = d < D ? llm_load(row, d) : 0.0f;
            LLM_UNROLL
            for (int g = 0; g < HEADS; g++) s[g] += d < D ? shared[d * HEADS + g] * v[i] : 0.0f;
        }
        LLM_UNROLL
        for (int g = 0; g < HEADS; g++) s[g] = llm_warp_sum(s[g]);
        llm_cuda_sinks_meet(m, l, o, s, v);
    }
    llm_cuda_sinks_leave(states, m, l, o, D);
    __syncthreads();
    for (size_t i = threadIdx.x; i < count * D; i += 128) {
        float max, total;
        const float sum =
            llm_cuda_gqa_merge(max, total, states + i / D * (D + 2), 4, HEADS * (D + 2), i % D, D);
        const float nothing = sink ? llm_load(sink, skip + i / D) : -INFINITY;
        const float top = fmaxf(max, nothing), keep = expf(max - top);
        const float all = total * keep + expf(nothing - top);
        llm_store(out, head * D + i, sum * keep / all);
        if (i % D == 0) llm_store(lse, head + i / D, top + logf(all));
    }
}

/* out (B,T,H,D), lse (B,T,H) <- q (B,T,H,D), rows (B,T,D), entries (B,S,D), index (B,T,k), sink (H)
 * or NULL: llm_csa_forward. Behind a -1 index has -1 only, as llm_csa_index_select leaves it. D at
 * most 512. T is float or llm_bf16. */
template <typename T>
static inline cudaError_t llm_cuda_csa_forward(T *out, float *lse, const T *q, const T *rows,
                                               const T *entries, const int *index,
                                               const float *sink, const llm_csa_config *c,
                                               cudaStream_t stream) {
    if (c->W == 0 || c->D == 0 || c->D > 512) return (cudaError_t)cudaErrorInvalidValue;
    if (c->B == 0 || c->T == 0 || c->H == 0) return cudaSuccess;
    const auto kernel = c->D > 128 ? llm_csa_kernel<T, 4, 16> : llm_csa_kernel<T, 4, 4>;
    const dim3 grid((unsigned)(c->B * c->T), (unsigned)((c->H + 3) / 4));
    LLM_LAUNCH(kernel, grid, 128, 4 * (5 * c->D + 8) * sizeof(float), stream, out, lse, q, rows,
               entries, index, sink, *c);
    return cudaGetLastError();
}

/* @13-transformer =========================================== TRANSFORMERS AND LANGUAGE MODELS */

/* @ffn ------------------------------------------------------ Position-wise MLP
 *
 * Nothing but matrix products: what stands between them is done in their epilogues, on sums that
 * are still in registers. Forward, plain: the product with W_up leaves up and act(up + b). Gated:
 * the product with W_gate leaves gate, the one with W_up reads it and leaves up and
 * act(gate) * up. Backward: the product dy W_down is never stored; its epilogue turns it into dup,
 * and dgate, and if forward's hidden was not kept it computes that again from the pre-activations,
 * just in time for dW_down.
 *
 * Moves between the products, in elements of (N,H): forwards 2 (up, hidden out), gated 4 (gate out
 * and in, up, hidden out); backwards 2 (up in, dup out), gated 4, and 1 more with recompute. With
 * kernels of their own for the activation it would be 3 and 5, backwards 4 and 6 at least. Both
 * gradients of x are added by the products themselves. Limit: tensor cores or float multiply-adds.
 *
 * source  -
 * needs   cuda_launch, cuda_memory, cuda_gemm, activation, dense
 * see     swiglu, decoder_block
 * topics  -
 */

/* As llm_ffn_weights and llm_ffn_acts; weights are stored as T, their gradients as float. */
template <typename T> struct llm_cuda_ffn_weights { T *gate, *up, *up_bias, *down, *down_bias; };
template <typename T> struct llm_cuda_ffn_acts { T *gate, *up, *hidden; };

/* p[n][h .. h + 3] <- v, in a table of H columns. */
template <typename T>
LLM_DEVICE void llm_cuda_ffn_put(T *p, size_t n, size_t h, size_t H, const float (&v)[4],
                                 bool wide) {
    if (wide) {
        llm_store_vector(p, n * H + h, v);
        return;
    }
    LLM_UNROLL
    for (size_t k = 0; k < 4; k++)
        if (h + k < H) llm_store(p, n * H + h + k, v[k]);
}

/* v is x W_up^T: up <- v + b, hidden <- act(gate) up. */
template <typename T> struct llm_cuda_ffn_gated_end {
    T *up, *hidden;
    const T *gate, *b;
    size_t H;
    int kind;
    bool wide;
    LLM_DEVICE_METHOD void operator()(size_t n, size_t h, const float (&v)[4]) const {
        float u[4], g[4], b_v[4] = {0.0f, 0.0f, 0.0f, 0.0f};
        llm_cuda_gemm_fetch(g, gate, n, h, n + 1, H, H, wide);
        if (b) llm_cuda_gemm_fetch(b_v, b, 0, h, 1, H, H, wide);
        LLM_UNROLL
        for (int k = 0; k < 4; k++) {
            u[k] = llm_rounded<T>(v[k] + b_v[k]); /* what backward will read */
            g[k] = u[k] * llm_cuda_activation_value(g[k], kind);
        }
        llm_cuda_ffn_put(up, n, h, H, u, wide);
        llm_cuda_ffn_put(hidden, n, h, H, g, wide);
    }
};

/* v is dy W_down, the gradient of hidden: dup, dgate <- what the activation makes of it; hidden,
 * unless NULL, <- forward's. gate and dgate are NULL in the plain form. */
template <typename T> struct llm_cuda_ffn_backward_end {
    T *dgate, *dup, *hidden;
    const T *gate, *up;
    size_t H;
    int kind;
    bool wide;
    LLM_DEVICE_METHOD void operator()(size_t n, size_t h, const float (&v)[4]) const {
        float u[4], g[4], du[4], dg[4], out[4];
        llm_cuda_gemm_fetch(u, up, n, h, n + 1, H, H, wide);
        if (gate) llm_cuda_gemm_fetch(g, gate, n, h, n + 1, H, H, wide);
        LLM_UNROLL
        for (int k = 0; k < 4; k++) {
            const float in = gate ? g[k] : u[k], a = llm_cuda_activation_value(in, kind);
            const float slope = v[k] * llm_cuda_activation_slope(in, kind);
            du[k] = gate ? v[k] * a : slope;
            dg[k] = slope * u[k];
            out[k] = gate ? a * u[k] : a;
        }
        llm_cuda_ffn_put(dup, n, h, H, du, wide);
        if (gate) llm_cuda_ffn_put(dgate, n, h, H, dg, wide);
        if (hidden) llm_cuda_ffn_put(hidden, n, h, H, out, wide);
    }
};

/* Can four neighbours of each array be moved at once? */
template <typename T>
static inline bool llm_cuda_ffn_wide(const llm_cuda_ffn_acts<T> &a, const T *b, size_t H) {
    return H % 4 == 0 && llm_aligned(a.gate, 16) && llm_aligned(a.up, 16) &&
           llm_aligned(a.hidden, 16) && llm_aligned(b, 16);
}

/* y (N,C), a (N,H) <- x (N,C): as llm_ffn_forward, T is float or llm_bf16. */
template <typename T>
static inline cudaError_t llm_cuda_ffn_forward(T *y, const llm_cuda_ffn_acts<T> &a, const T *x,
                                               const llm_cuda_ffn_weights<T> &w, size_t N, size_t C,
                                               size_t H, int kind, cudaStream_t stream) {
    T *const none = NULL;
    if (N == 0) return cudaSuccess;
    cudaError_t error;
    if (w.gate) {
        const bool wide = llm_cuda_ffn_wide(a, w.up_bias, H);
        const llm_cuda_ffn_gated_end<T> end = {a.up, a.hidden, a.gate, w.up_bias, H, kind, wide};
        error = llm_cuda_dense_forward(a.gate, none, x, w.gate, none, N, C, H,
                                       LLM_ACTIVATION_IDENTITY, stream);
        if (error == cudaSuccess)
            error = llm_cuda_dense_product<false, false, T>::launch(end, x, w.up, N, H, C, 1, C,
                                                                    stream);
    } else {
        error = llm_cuda_dense_forward(a.hidden, a.up, x, w.up, w.up_bias, N, C, H, kind, stream);
    }
    if (error != cudaSuccess) return error;
    return llm_cuda_dense_forward(y, none, a.hidden, w.down, w.down_bias, N, H, C,
                                  LLM_ACTIVATION_IDENTITY, stream);
}

/* Floats of scratch that backward needs for its sums over the tokens. */
static inline __attribute__((unused)) size_t llm_cuda_ffn_scratch(size_t N, size_t C, size_t H) {
    const size_t slices = llm_cuda_dense_slices(N, C, H);
    return slices > 1 ? slices * C * H : 0;
}

/* dx (N,C), dw += <- dy (N,C) and forward's a, x, w: as llm_ffn_backward. dx and any of dw may be
 * NULL. d.up and d.gate (N,H) get the gradients of the pre-activations, d.hidden is not used.
 * recompute: a.hidden is written before it is read. scratch: llm_cuda_ffn_scratch floats. */
template <typename T>
static inline cudaError_t
llm_cuda_ffn_backward(T *dx, const llm_cuda_ffn_weights<float> &dw, const T *dy,
                      const llm_cuda_ffn_acts<T> &a, const T *x, const llm_cuda_ffn_weights<T> &w,
                      size_t N, size_t C, size_t H, int kind, bool recompute,
                      const llm_cuda_ffn_acts<T> &d, float *scratch, cudaStream_t stream) {
    T *const none = NULL;
    float *const no_bias = NULL;
    if (N == 0) return cudaSuccess;
    const bool wide = llm_cuda_ffn_wide(a, none, H) && llm_cuda_ffn_wide(d, none, H);
    const llm_cuda_ffn_backward_end<T> end = {
        d.gate, d.up, recompute ? a.hidden : none, w.gate ? a.gate : none, a.up, H, kind, wide};
    const cudaError_t done[] = {
        llm_cuda_dense_product<false, true, T>::launch(end, dy, w.down, N, H, C, 1, C, stream),
        llm_cuda_dense_backward(none, dw.down, dw.down_bias, dy, a.hidden, w.down, N, H, C, scratch,
                                stream),
        llm_cuda_dense_backward(dx, dw.up, dw.up_bias, d.up, x, w.up, N, C, H, scratch, stream),
        w.gate ? llm_cuda_dense_backward(dx, dw.gate, no_bias, d.gate, x, w.gate, N, C, H, scratch,
                                         stream)
               : cudaSuccess};
    return llm_cuda_first_error(done);
}

/* @prenorm -------------------------------------------------- Where the norm stands
 *
 * The addition and the norm behind it in one kernel, for every place where the two meet:
 *
 *     sum = alpha x + f    y = N(sum)      post and deepnorm: y is the layer's output
 *                                          pre: sum is the stream, y what the next sublayer reads
 *     y = x + N(f)                         sandwich
 *
 * N is LayerNorm, or RMSNorm where there is no bias. Unlike the kernels of @layernorm and @rmsnorm,
 * which update the stream in place, this one leaves x alone: backward wants the input of every
 * norm. One block a row; the row waits in shared memory between the passes.
 *
 * Backward in the pre form: the gradient of the stream is one array, which belongs to x and to f
 * alike, and the norm adds its share to it: the kernel of @layernorm or @rmsnorm as it is. The
 * other forms need one pass more, because there x and f get different gradients.
 *
 * Moves 4 elements for each element of the row (x, f in; sum, y out), sandwich 3; backward 4 in the
 * pre form (y's gradient, sum, stream in; stream out), the minimum, 8 in the others, where 5 would
 * do. Limit: memory bandwidth. C floats of shared memory.
 *
 * source  -
 * needs   cuda_launch, cuda_memory, cuda_reduce, residual, layernorm, rmsnorm
 * see     decoder_block
 * topics  -
 */
template <typename T, int V, bool centred>
LLM_KERNEL void llm_prenorm_forward_kernel(T *y, T *sum, float *mean, float *rstd, const T *x,
                                           const T *f, const T *w, const T *b, size_t C,
                                           float alpha, float eps) {
    LLM_DYNAMIC_SHARED(float,
                       row); /* entry i + k of the row at k * (C / V) + i / V: no conflicts */
    const size_t first = (size_t)blockIdx.x * C, begin = (size_t)threadIdx.x * V;
    const size_t step = (size_t)blockDim.x * V;

    float v[V], x_v[V], total = 0.0f, square = 0.0f, m = 0.0f;
    for (size_t i = begin; i < C; i += step) {
        llm_load_vector(v, f, first + i);
        if (sum) {
            llm_load_vector(x_v, x, first + i);
            LLM_UNROLL
            for (int k = 0; k < V; k++) v[k] = llm_rounded<T>(alpha * x_v[k] + v[k]);
            llm_store_vector(sum, first + i, v);
        }
        LLM_UNROLL
        for (int k = 0; k < V; k++) {
            row[k * (C / V) + i / V] = v[k]; /* only this thread reads it again: no barrier */
            total += v[k];
        }
    }
    if (centred) m = llm_block_sum(total) / (float)C;
    for (size_t i = begin; i < C; i += step) {
        LLM_UNROLL
        for (int k = 0; k < V; k++) {
            const float d = row[k * (C / V) + i / V] - m;
            square += d * d;
        }
    }
    const float r = rsqrtf(llm_block_sum(square) / (float)C + eps);

    for (size_t i = begin; i < C; i += step) {
        llm_load_vector(v, w, i);
        LLM_UNROLL
        for (int k = 0; k < V; k++) v[k] *= (row[k * (C / V) + i / V] - m) * r, x_v[k] = 0.0f;
        if (centred) llm_load_vector(x_v, b, i);
        LLM_UNROLL
        for (int k = 0; k < V; k++) v[k] += x_v[k];
        if (!sum) {
            llm_load_vector(x_v, x, first + i);
            LLM_UNROLL
            for (int k = 0; k < V; k++) v[k] += x_v[k];
        }
        llm_store_vector(y, first + i, v);
    }
    if (threadIdx.x == 0 && mean) llm_store(mean, blockIdx.x, m);
    if (threadIdx.x == 0 && rstd) llm_store(rstd, blockIdx.x, r);
}

/* sum (N,C) <- alpha x (N,C) + f (N,C), y (N,C) <- N(sum), mean, rstd (N); sum may be x or f. Or
 * with sum NULL: y <- x + N(f). w, b (C); b NULL: RMSNorm, which has no mean. mean and rstd may be
 * NULL. T is float or llm_bf16. */
template <typename T>
static inline cudaError_t llm_cuda_prenorm_forward(T *y, T *sum, float *mean, float *rstd,
                                                   const T *x, const T *f, const T *w, const T *b,
                                                   size_t N, size_t C, float alpha, float eps,
                                                   cudaStream_t stream) {
    enum { V = 16 / sizeof(T) };
    if (N == 0 || C == 0) return cudaSuccess;
    const bool wide = llm_aligned(y, C) && llm_aligned(sum, C) && llm_aligned(x, C) &&
                      llm_aligned(f, C) && llm_aligned(w, C) && llm_aligned(b, C);
    const auto forward =
        wide ? b ? llm_prenorm_forward_kernel<T, V, true> : llm_prenorm_forward_kernel<T, V, false>
        : b ? llm_prenorm_forward_kernel<T, 1, true>
             : llm_prenorm_forward_kernel<T, 1, false>;
    LLM_LAUNCH(forward, (unsigned)N, llm_row_threads(wide ? C / V : C), C * sizeof(float), stream,
               y, sum, mean, rstd, x, f, w, b, C, alpha, eps);
    return cudaGetLastError();
}

/* Floats of scratch for backward, where dw is wanted. */
template <typename T> static inline size_t llm_cuda_prenorm_scratch(size_t N, size_t C) {
    return 2 * C * llm_cuda_layernorm_blocks<T>(N, C);
}

/* The pre form: d (N,C), the gradient of the stream behind the addition, += what the norm sends
 * back for dy (N,C); it then is the gradient of x and of f. dw, db (C) += , either may be NULL;
 * forward's sum, w, mean (NULL: RMSNorm), rstd. */
template <typename T>
static inline cudaError_t llm_cuda_prenorm_backward(T *d, float *dw, float *db, const T *dy,
                                                    const T *sum, const T *w, const float *mean,
                                                    const float *rstd, size_t N, size_t C,
                                                    float *scratch, cudaStream_t stream) {
    return mean ? llm_cuda_layernorm_backward(d, dw, db, dy, sum, w, mean, rstd, N, C, scratch,
                                              stream)
                : llm_cuda_rmsnorm_backward(d, dw, dy, sum, w, rstd, N, C, scratch, stream);
}
/* The other forms: dx (N,C), dw, db += , df (N,C) overwritten, as llm_prenorm_out_backward for dy.
 * The input of the sandwich's norm is f. dx may not be dy. */
template <typename T>
static inline cudaError_t
llm_cuda_prenorm_out_backward(T *dx, T *df, float *dw, float *db, const T *dy, const T *sum,
                              const T *w, const float *mean, const float *rstd, size_t N, size_t C,
                              llm_prenorm_kind kind, float alpha, float *scratch,
                              cudaStream_t stream) {
    const bool sandwich = kind == LLM_PRENORM_SANDWICH;
    const cudaError_t done[] = {
        cudaMemsetAsync(df, 0, N * C * sizeof(T), stream),
        llm_cuda_prenorm_backward(df, dw, db, dy, sum, w, mean, rstd, N, C, scratch, stream),
        llm_cuda_residual_forward(dx, dx, sandwich ? dy : (const T *)df, N * C,
                                  sandwich ? 1.0f : alpha, stream)};
    return llm_cuda_first_error(done);
}

/* @decoder_block_attend ------------------------------------- Attention of a block, by its storage
 *
 * bfloat16 heads take the tensor cores of @flash23_bf16 where their rows are multiples of 16 bytes
 * and at most 128 numbers, else the registers of @flash, as float does. The arguments are those of
 * @flash both ways.
 *
 * source  -
 * needs   flash, flash_backward, flash23_bf16, flash23_bf16_backward
 * see     decoder_block
 * topics  -
 */

/* Arguments of llm_cuda_flash_forward. */
template <typename T>
static inline cudaError_t llm_cuda_decoder_block_attend(T *out, float *lse, const T *q, const T *k,
                                                        const T *v, const llm_flash_config *c,
                                                        cudaStream_t stream) {
    return llm_cuda_flash_forward(out, lse, q, k, v, c, stream);
}
static inline __attribute__((unused)) cudaError_t
llm_cuda_decoder_block_attend(llm_bf16 *out, float *lse, const llm_bf16 *q, const llm_bf16 *k,
                              const llm_bf16 *v, const llm_flash_config *c, cudaStream_t stream) {
    return c->D % 8 == 0 && c->D <= 128 ? llm_cuda_flash23_bf16_heads(out, lse, q, k, v, c, stream)
                                        : llm_cuda_flash_forward(out, lse, q, k, v, c, stream);
}
/* Arguments of llm_cuda_flash_backward. */
template <typename T>
static inline cudaError_t llm_cuda_decoder_block_attend_backward(
    T *dq, T *dk, T *dv, const T *dout, const T *out, const float *lse, const T *q, const T *k,
    const T *v, const llm_flash_config *c, float *scratch, cudaStream_t stream) {
    return llm_cuda_flash_backward(dq, dk, dv, dout, out, lse, q, k, v, c, scratch, stream);
}
static inline __attribute__((unused)) cudaError_t llm_cuda_decoder_block_attend_backward(
    llm_bf16 *dq, llm_bf16 *dk, llm_bf16 *dv, const llm_bf16 *dout, const llm_bf16 *out,
    const float *lse, const llm_bf16 *q, const llm_bf16 *k, const llm_bf16 *v,
    const llm_flash_config *c, float *scratch, cudaStream_t stream) {
    return c->D % 8 == 0 && c->D <= 128
               ? llm_cuda_flash23_bf16_heads_backward(dq, dk, dv, dout, out, lse, q, k, v, c,
                                                      scratch, stream)
               : llm_cuda_flash_backward(dq, dk, dv, dout, out, lse, q, k, v, c, scratch, stream);
}

/* @decoder_block -------------------------------------------- Decoder block
 *
 * A block of GPT-2 or of Llama put together from the kernels above; what stands here is their order
 * and their buffers:
 *
 *     forward    norm1 -> QKV product -> rope -> flash -> output product
 *                      -> add + norm2 -> ffn -> add + the norm of the next block
 *     backward   the same from right to left, two products for each; the stream's gradient in place
 *
 * Each addition is fused with the norm behind it (@prenorm), so a block ends with the next one's
 * norm and begins with its own already there. 9 launches forwards, 10 gated; nothing is read back,
 * nothing waits. Of attention's weights only lse is kept: memory grows with T, not with its square.
 *
 * Traffic between the kernels forwards, for GPT-2: 28 elements of (N,C), 3 of (N,F). Limit: the
 * products, at long T attention.
 *
 * source  -
 * needs   cuda_launch, activation, residual, dense, rope, flash, ffn, prenorm,
 *         decoder_block_attend
 * see     llama_block, gpt2
 * topics  -
 */

/* The form of a block. D is even and at most 128. rms: RMSNorm, whose biases are NULL. kind: of the
 * activation. cosine, sine (T,D/2): on the device, or NULL: no rotation. */
typedef struct {
    size_t width, heads, kv_heads, head_size, hidden; /* C, H, Hkv, D, F */
    bool parallel, gated, rms;
    int kind;
    float eps;
    const float *cosine, *sine;
    llm_rope_pairing pairing;
} llm_cuda_decoder_block_config;

/* GPT-2's. */
static inline __attribute__((unused)) llm_cuda_decoder_block_config
llm_cuda_decoder_block_gpt2(const llm_decoder_block_config &c) {
    llm_cuda_decoder_block_config d;
    memset(&d, 0, sizeof d);
    d.width = c.width, d.heads = d.kv_heads = c.heads, d.head_size = c.width / c.heads;
    d.hidden = c.hidden, d.parallel = c.parallel, d.eps = c.eps;
    d.kind = LLM_ACTIVATION_GELU_TANH;
    return d;
}
/* How rows become heads: all of them rotated, or (Hkv = 0) those of one kind as they are. */
static inline __attribute__((unused)) llm_cuda_rope_config
llm_cuda_decoder_block_heads(const llm_cuda_decoder_block_config &c, size_t B, size_t T,
                             size_t Hkv) {
    llm_cuda_rope_config r = llm_cuda_rope_defaults(B, T, c.heads, Hkv, c.head_size);
    r.pairing = c.pairing;
    if (Hkv == 0 || !c.cosine) r.rot = 0;
    return r;
}

/* As llm_decoder_block_weights; for gradients T is float. */
template <typename T> struct llm_cuda_decoder_block_weights {
    T *norm1_w, *norm1_b, *qkv_w, *qkv_b, *out_w, *out_b, *norm2_w, *norm2_b;
    llm_cuda_ffn_weights<T> ffn;
};
/* What forward leaves, N = B T: means (N), NULL where rms, inverse deviations (N), lse (B,H,T); q,
 * k, v, heads (B,H,T,D) or (B,Hkv,T,D); mixed (N,H D); the others (N,C). */
template <typename T> struct llm_cuda_decoder_block_acts {
    float *mean1, *rstd1, *mean2, *rstd2, *lse;
    T *norm1, *q, *k, *v, *heads, *mixed, *mid, *norm2;
    llm_cuda_ffn_acts<T> ffn;
};
/* What all blocks share: a sublayer's output, rows of all heads, gradients, sums of blocks. */
template <typename T> struct llm_cuda_decoder_block_scratch {
    T *out, *rows, *dnorm, *dheads, *dqkv;
    llm_cuda_ffn_acts<T> dffn;
    float *along, *part;
};
/* The norm behind a block: its weights (C), and where its results go: y (N,C), mean, rstd (N). */
template <typename T> struct llm_cuda_decoder_block_next {
    const T *w, *b;
    T *y;
    float *mean, *rstd;
};

/* n entries behind the first `used` bytes of base; base may be NULL, to count only. */
template <typename T>
static inline T *llm_cuda_decoder_block_take(unsigned char *base, size_t &used, size_t n) {
    unsigned char *p = base && n ? base + used : NULL;
    used += (n * sizeof(T) + 255) / 256 * 256;
    return (T *)(void *)p;
}
/* Points a, s into base. Both return the bytes that takes. */
template <typename T>
static inline size_t
llm_cuda_decoder_block_bind(llm_cuda_decoder_block_acts<T> &a, unsigned char *base,
                            const llm_cuda_decoder_block_config &c, size_t B, size_t length) {
    const size_t N = B * length, C = c.width, F = c.hidden;
    const size_t Q = c.heads * c.head_size, K = c.kv_heads * c.head_size, mean = c.rms ? 0 : 1;
    T **const part[11] = {&a.norm1, &a.mid, &a.norm2,    &a.q,      &a.heads,     &a.mixed,
                          &a.k,     &a.v,   &a.ffn.gate, &a.ffn.up, &a.ffn.hidden};
    const size_t wide[11] = {C, C, C, Q, Q, Q, K, K, c.gated ? F : 0, F, F};
    float **const number[5] = {&a.mean1, &a.mean2, &a.rstd1, &a.rstd2, &a.lse};
    const size_t numbers[5] = {mean, mean, 1, 1, c.heads};
    size_t used = 0;
    for (size_t i = 0; i < 11; i++)
        *part[i] = llm_cuda_decoder_block_take<T>(base, used, N * wide[i]);
    for (size_t i = 0; i < 5; i++)
        *number[i] = llm_cuda_decoder_block_take<float>(base, used, N * numbers[i]);
    return used;
}
template <typename T>
static inline size_t
llm_cuda_decoder_block_bind(llm_cuda_decoder_block_scratch<T> &s, unsigned char *base,
                            const llm_cuda_decoder_block_config &c, size_t B, size_t length) {
    const size_t N = B * length, C = c.width, F = c.hidden, Q = c.heads * c.head_size;
    const size_t K = c.kv_heads * c.head_size, O = Q + 2 * K;
    T **const part[7] = {&s.out, &s.dnorm, &s.rows, &s.dheads, &s.dqkv, &s.dffn.gate, &s.dffn.up};
    const size_t wide[7] = {C, C, O, Q, O, c.gated ? F : 0, F};
    const size_t sums[4] = {llm_cuda_prenorm_scratch<T>(N, C),
                            llm_cuda_dense_slices(N, C, O) * O * C,
                            llm_cuda_dense_slices(N, Q, C) * Q * C, llm_cuda_ffn_scratch(N, C, F)};
    size_t used = 0, most = 0;
    for (size_t n : sums) most = n > most ? n : most;
    for (size_t i = 0; i < 7; i++)
        *part[i] = llm_cuda_decoder_block_take<T>(base, used, N * wide[i]);
    s.dffn.hidden = NULL;
    s.along = llm_cuda_decoder_block_take<float>(base, used, N * c.heads);
    s.part = llm_cuda_decoder_block_take<float>(base, used, most);
    return used;
}

/* y (N,C), a <- x (N,C), a.norm1 with mean1, rstd1 (the norm of x, of the block before or a launch
 * of its own); next may be NULL. y may not be x. */
template <typename T>
static inline cudaError_t
llm_cuda_decoder_block_forward(T *y, const llm_cuda_decoder_block_next<T> *next,
                               const llm_cuda_decoder_block_acts<T> &a, const T *x,
                               const llm_cuda_decoder_block_weights<T> &w, size_t B, size_t length,
                               const llm_cuda_decoder_block_config &c,
                               const llm_cuda_decoder_block_scratch<T> &s, cudaStream_t stream) {
    const size_t N = B * length, C = c.width, Q = c.heads * c.head_size;
    const size_t O = Q + 2 * c.kv_heads * c.head_size;
    const int linear = LLM_ACTIVATION_IDENTITY;
    const llm_cuda_rope_config all = llm_cuda_decoder_block_heads(c, B, length, c.kv_heads);
    const llm_cuda_rope_config one = llm_cuda_decoder_block_heads(c, B, length, 0);
    const llm_flash_config f = llm_flash_defaults(B, c.heads, c.kv_heads, length, c.head_size);
    T *const none = NULL;
    const cudaError_t done[] = {
        llm_cuda_dense_forward(s.rows, none, a.norm1, w.qkv_w, w.qkv_b, N, C, O, linear, stream),
        llm_cuda_rope_split(a.q, a.k, a.v, s.rows, c.cosine, c.sine, &all, stream),
        llm_cuda_decoder_block_attend(a.heads, a.lse, a.q, a.k, a.v, &f, stream),
        llm_cuda_rope_merge(a.mixed, a.heads, none, none, NULL, NULL, &one, stream),
        llm_cuda_dense_forward(s.out, none, a.mixed, w.out_w, w.out_b, N, Q, C, linear, stream),
        c.parallel ? llm_cuda_residual_forward(a.mid, x, s.out, N * C, 1.0f, stream)
                   : llm_cuda_prenorm_forward(a.norm2, a.mid, a.mean2, a.rstd2, x, s.out, w.norm2_w,
                                              w.norm2_b, N, C, 1.0f, c.eps, stream),
        llm_cuda_ffn_forward(s.out, a.ffn, c.parallel ? a.norm1 : a.norm2, w.ffn, N, C, c.hidden,
                             c.kind, stream),
        next ? llm_cuda_prenorm_forward(next->y, y, next->mean, next->rstd, a.mid, s.out, next->w,
                                        next->b, N, C, 1.0f, c.eps, stream)
             : llm_cuda_residual_forward(y, a.mid, s.out, N * C, 1.0f, stream)};
    return llm_cuda_first_error(done);
}

/* d (N,C) in place: the gradient of y becomes that of x; dw += . The rest as in forward. */
template <typename T>
static inline cudaError_t
llm_cuda_decoder_block_backward(T *d, const llm_cuda_decoder_block_weights<float> &dw,
                                const llm_cuda_decoder_block_acts<T> &a, const T *x,
                                const llm_cuda_decoder_block_weights<T> &w, size_t B, size_t length,
                                const llm_cuda_decoder_block_config &c,
                                const llm_cuda_decoder_block_scratch<T> &s, cudaStream_t stream) {
    const size_t N = B * length, C = c.width, Q = c.heads * c.head_size, row = N * sizeof(T);
    const size_t O = Q + 2 * c.kv_heads * c.head_size;
    const llm_cuda_rope_config all = llm_cuda_decoder_block_heads(c, B, length, c.kv_heads);
    const llm_cuda_rope_config one = llm_cuda_decoder_block_heads(c, B, length, 0);
    const llm_flash_config f = llm_flash_defaults(B, c.heads, c.kv_heads, length, c.head_size);
    T *const none = NULL, *const dq = s.dqkv, *const dk = dq + N * Q;
    T *const dv = dk + N * c.kv_heads * c.head_size;
    const cudaError_t done[] = {
        cudaMemsetAsync(s.dnorm, 0, row * C, stream),
        cudaMemsetAsync(s.rows, 0, row * Q, stream), /* the gradient of mixed, for now */
        cudaMemsetAsync(dq, 0, row * O, stream),
        llm_cuda_ffn_backward(s.dnorm, dw.ffn, d, a.ffn, c.parallel ? a.norm1 : a.norm2, w.ffn, N,
                              C, c.hidden, c.kind, false, s.dffn, s.part, stream),
        c.parallel ? cudaSuccess
                   : llm_cuda_prenorm_backward(d, dw.norm2_w, dw.norm2_b, s.dnorm, a.mid, w.norm2_w,
                                               a.mean2, a.rstd2, N, C, s.part, stream),
        c.parallel ? cudaSuccess : cudaMemsetAsync(s.dnorm, 0, row * C, stream),
        llm_cuda_dense_backward(s.rows, dw.out_w, dw.out_b, d, a.mixed, w.out_w, N, Q, C, s.part,
                                stream),
        llm_cuda_rope_split(s.dheads, none, none, s.rows, NULL, NULL, &one, stream),
        llm_cuda_decoder_block_attend_backward(dq, dk, dv, s.dheads, a.heads, a.lse, a.q, a.k, a.v,
                                               &f, s.along, stream),
        llm_cuda_rope_merge(s.rows, dq, dk, dv, c.cosine, c.sine, &all, stream),
        llm_cuda_dense_backward(s.dnorm, dw.qkv_w, dw.qkv_b, s.rows, a.norm1, w.qkv_w, N, C, O,
                                s.part, stream),
        llm_cuda_prenorm_backward(d, dw.norm1_w, dw.norm1_b, s.dnorm, x, w.norm1_w, a.mean1,
                                  a.rstd1, N, C, s.part, stream)};
    return llm_cuda_first_error(done);
}

/* @softmax_head --------------------------------------------- Softmax head: logits, loss, gradient
 *
 * The classifier, fused: logits become their own gradient in place, and the loss and lse fall out
 * on the way. A block takes a row. It looks once, keeping a pair (max, sum) a thread as in
 * @logsumexp, and turns once, backwards over the row, what was seen last first: that is still in
 * L1 and L2. The thread that meets the target's logit writes the loss. Smoothing, z-loss, soft cap
 * and padding cost no pass of their own.
 *
 * In chunks: the (N,V) logits never exist. For each block of the vocabulary a product and a look,
 * which merges the block's pair with what the row has so far; then for each block the product
 * again, a turn, and the gradients of h and of that block of W. The same kernel: it looks, turns,
 * or does both. N times block logits that fit in L2 (8192 x 2048 of bfloat16 are 32 MB) do not
 * reach memory between product and kernel.
 *
 * Moves 2 elements for each logit (in, gradient out), the minimum for logits in memory, as long as
 * L1 and L2 serve the second reading; rows that are ignored are only written. Products: 6 N C V
 * operations, in chunks 8. Limit: the products; the kernel alone, memory bandwidth.
 *
 * source  -
 * needs   cuda_launch, cuda_memory, cuda_reduce, logsumexp, activation, dense
 * see     cross_entropy, weight_tying, next_token
 * topics  -
 */

/* As llm_softmax_head, the arrays on the device. T > 0: target holds ids (N/T,T) and each place's
 * target is the id behind it, unless it is the row's last or mask (N), or NULL, is false there
 * (@next_token). */
typedef struct {
    const int *target;
    const bool *mask;
    size_t N, C, V, rows, T;
    float smoothing, z_loss, soft_cap;
} llm_cuda_softmax_head;

/* Without options, padding and shift. */
static inline __attribute__((unused)) llm_cuda_softmax_head
llm_cuda_softmax_head_defaults(const int *target, size_t N, size_t C, size_t V) {
    const llm_cuda_softmax_head p = {target, NULL, N, C, V, V, 0, 0.0f, 0.0f, 0.0f};
    return p;
}

/* What row n has to predict. */
LLM_DEVICE int llm_cuda_softmax_head_target(const llm_cuda_softmax_head &p, size_t n) {
    if (p.T == 0) return p.target[n];
    const bool asked = n % p.T + 1 < p.T && (!p.mask || p.mask[n + 1]);
    return asked ? p.target[n + 1] : LLM_CROSS_ENTROPY_IGNORE;
}

/* What a row keeps between blocks of the vocabulary. */
typedef struct {
    llm_logsumexp_pair seen;
    float at_target, sum; /* the target's logit; of all logits */
} llm_cuda_softmax_head_state;

/* z (N,columns): logits of the classes `first` on, of which `classes` are no padding. The whole row
 * at once where state is NULL. */
template <typename T, int V>
LLM_KERNEL void llm_softmax_head_kernel(float *loss, float *lse, T *z,
                                        llm_cuda_softmax_head_state *state, llm_cuda_softmax_head p,
                                        size_t first, size_t columns, size_t classes, float scale,
                                        bool look, bool turn) {
    const size_t n = blockIdx.x, row = n * columns, begin = (size_t)threadIdx.x * V;
    const size_t step = (size_t)blockDim.x * V;
    const int y = llm_cuda_softmax_head_target(p, n);
    const bool ignored = y == LLM_CROSS_ENTROPY_IGNORE, known = y >= 0 && (size_t)y < p.V;
    const size_t hit = (size_t)y - first; /* not below classes where the target is elsewhere */
    const bool writer = threadIdx.x == (hit < classes ? hit / V % blockDim.x : 0);
    const float cap = p.soft_cap;
    llm_cuda_softmax_head_state s = {{-INFINITY, 0.0f}, known ? 0.0f : NAN, 0.0f};
    float v[V];
    if (look) {
        for (size_t i = begin; i < classes && !ignored; i += step) {
            llm_load_vector(v, z, row + i);
            LLM_UNROLL
            for (int k = 0; k < V; k++) {
                if (cap > 0.0f) v[k] = cap * tanhf(v[k] / cap);
                if (i + k >= classes) v[k] = -INFINITY;
                if (i + k < classes) s.sum += v[k];
                if (i + k == hit) s.at_target = v[k];
            }
            llm_cuda_logsumexp_add(s.seen, v, 1.0f);
        }
        s.seen = llm_cuda_logsumexp_row<false>(s.seen, 1.0f);
        if (p.smoothing > 0.0f) s.sum = llm_block_sum(s.sum);
        if (writer) {
            if (first > 0) {
                s.seen = llm_cuda_logsumexp_merge(state[n].seen, s.seen, 1.0f);
                s.sum += state[n].sum;
                if (hit >= classes) s.at_target = state[n].at_target;
            }
            if (state) state[n] = s;
            const float log_sum = logf(s.seen.sum), all = s.seen.max + log_sum;
            const float mean = p.smoothing > 0.0f ? s.sum / (float)p.V : 0.0f;
            const float nll = (s.seen.max - s.at_target) + log_sum; /* lse - z would round */
            const float cost = (1.0f - p.smoothing) * nll + p.z_loss * all * all +
                               p.smoothing * ((s.seen.max - mean) + log_sum);
            if (first + classes == p.V) {
                if (lse) llm_store(lse, n, ignored ? 0.0f : all);
                llm_store(loss, n, ignored ? 0.0f : cost);
            }
        }
    } else {
        s = state[n];
    }
    if (!turn) return;

    const float all = s.seen.max + logf(s.seen.sum);
    const float gain = scale * (1.0f + 2.0f * p.z_loss * all) / s.seen.sum;
    const float each = scale * p.smoothing / (float)p.V, one = scale * (1.0f - p.smoothing);
    for (size_t round = (columns + step - 1) / step; round-- > 0;) {
        const size_t i = begin + round * step;
        if (i >= columns) continue;
        LLM_UNROLL
        for (int k = 0; k < V; k++) v[k] = 0.0f;
        if (!ignored) llm_load_vector(v, z, row + i);
        LLM_UNROLL
        for (int k = 0; k < V; k++) {
            float slope = 1.0f;
            if (cap > 0.0f) {
                slope = tanhf(v[k] / cap);
                v[k] = cap * slope;
                slope = 1.0f - slope * slope;
            }
            v[k] = gain * expf(v[k] - s.seen.max) - each - (i + k == hit ? one : 0.0f);
            v[k] = ignored || i + k >= classes ? 0.0f : v[k] * slope;
        }
        llm_store_vector(z, row + i, v);
    }
}
template <typename T>
static inline cudaError_t
llm_cuda_softmax_head_rows(float *loss, float *lse, T *z, llm_cuda_softmax_head_state *state,
                           const llm_cuda_softmax_head &p, size_t first, size_t columns,
                           float scale, bool look, bool turn, cudaStream_t stream) {
    enum { V = 16 / sizeof(T) };
    const bool wide = llm_aligned(z, columns);
    const size_t classes = p.V - first < columns ? p.V - first : columns;
    const auto softmax_head = wide ? llm_softmax_head_kernel<T, V> : llm_softmax_head_kernel<T, 1>;
    LLM_LAUNCH(softmax_head, (unsigned)p.N, llm_row_threads(wide ? columns / V : columns), 0,
               stream, loss, lse, z, state, p, first, columns, classes, scale, look, turn);
    return cudaGetLastError();
}

/* loss (N), lse (N) or NULL, 0 where ignored <- logits (N,rows) before the cap, which become, if
 * gradient, scale times the gradient of the summed loss. A target outside 0..V-1 costs NaN. */
template <typename T>
static inline cudaError_t
llm_cuda_softmax_head_in_place(float *loss, float *lse, T *logits, const llm_cuda_softmax_head &p,
                               float scale, bool gradient, cudaStream_t stream) {
    if (p.N == 0 || p.V == 0) return cudaSuccess;
    return llm_cuda_softmax_head_rows(loss, lse, logits, (llm_cuda_softmax_head_state *)NULL, p, 0,
                                      p.rows, scale, true, gradient, stream);
}

/* The head and its gradients: loss (N), lse (N) or NULL <- h (N,C), w (rows,C); dh (N,C), dw
 * (rows,C) += scale times the gradient of the summed loss, either may be NULL. logits (N,rows) is
 * written. scratch: as llm_cuda_dense_backward for N, C, rows. */
template <typename T>
static inline cudaError_t llm_cuda_softmax_head_train(float *loss, float *lse, T *dh, float *dw,
                                                      T *logits, const T *h, const T *w,
                                                      const llm_cuda_softmax_head &p, float scale,
                                                      float *scratch, cudaStream_t stream) {
    T *const none = NULL;
    const cudaError_t done[] = {
        llm_cuda_dense_forward(logits, none, h, w, none, p.N, p.C, p.rows, LLM_ACTIVATION_IDENTITY,
                               stream),
        llm_cuda_softmax_head_in_place(loss, lse, logits, p, scale, true, stream),
        llm_cuda_dense_backward(dh, dw, (float *)NULL, logits, h, w, p.N, p.C, p.rows, scratch,
                                stream)};
    return llm_cuda_first_error(done);
}

/* The same in blocks of so many columns: z (N,block) and state (N) are written. scratch: as for N,
 * C, block. dh and dw NULL: the loss only. */
template <typename T>
static inline cudaError_t
llm_cuda_softmax_head_chunked(float *loss, float *lse, T *dh, float *dw, T *z,
                              llm_cuda_softmax_head_state *state, const T *h, const T *w,
                              const llm_cuda_softmax_head &p, float scale, size_t block,
                              float *scratch, cudaStream_t stream) {
    T *const none = NULL;
    if (block == 0) return (cudaError_t)cudaErrorInvalidValue;
    for (size_t pass = 0; pass < (dh || dw ? 2 : 1); pass++) {
        for (size_t first = 0; p.N > 0 && first < p.V; first += block) {
            const size_t size = p.rows - first < block ? p.rows - first : block;
            const T *wb = w + first * p.C;
            const cudaError_t done[] = {
                llm_cuda_dense_forward(z, none, h, wb, none, p.N, p.C, size,
                                       LLM_ACTIVATION_IDENTITY, stream),
                llm_cuda_softmax_head_rows(loss, lse, z, state, p, first, size, scale, pass == 0,
                                           pass == 1, stream),
                pass == 0 ? cudaSuccess
                          : llm_cuda_dense_backward(dh, dw ? dw + first * p.C : NULL, (float *)NULL,
                                                    z, h, wb, p.N, p.C, size, scratch, stream)};
            const cudaError_t error = llm_cuda_first_error(done);
            if (error != cudaSuccess) return error;
        }
    }
    return cudaSuccess;
}

/* @weight_tying --------------------------------------------- Weight tying
 *
 * One gradient for both ends, without a second buffer: the product that makes the head's dW adds
 * its sums to what is there (beta = 1), and the kernel of @embedding adds the rows that were looked
 * up when backward reaches the other end. The stream puts the two in order; there are no atomics,
 * and the sum is the same at each run.
 *
 * The scales cost next to nothing, because they are applied to the (N,C) side of the product and
 * never to the (N,V) logits: z = (s h) E^T, and backward dE += dz^T (s h), dh += s (dz E).
 *
 * Against a head gradient of its own that is added afterwards: 3 V C floats less are moved, and V C
 * less are held, 154 MB of the smallest GPT-2. Limit: the products'.
 *
 * source  -
 * needs   cuda_launch, cuda_memory, cuda_reduce, activation, residual, dense, embedding
 * see     softmax_head, gpt2
 * topics  -
 */

/* As llm_weight_tying: weights stored as T, gradients as float. When tied, head is embed and dhead
 * is dembed. */
template <typename T> struct llm_cuda_weight_tying {
    T *embed, *head;
    float *dembed, *dhead;
    float scale_in, scale_out;
};

template <typename T, int V>
LLM_KERNEL void llm_weight_tying_scale_kernel(T *y, const T *x, size_t n, float scale) {
    const size_t i = llm_my_place<V>(n).column;
    if (i >= n) return;
    float v[V];
    llm_load_vector(v, x, i);
    LLM_UNROLL
    for (int k = 0; k < V; k++) v[k] *= scale;
    llm_store_vector(y, i, v);
}
/* y (n) <- scale x (n); y may be x. */
template <typename T>
static inline cudaError_t llm_cuda_weight_tying_scale(T *y, const T *x, size_t n, float scale,
                                                      cudaStream_t stream) {
    enum { V = 16 / sizeof(T) };
    if (n == 0 || (y == x && scale == 1.0f)) return cudaSuccess;
    const bool wide = llm_aligned(y, n) && llm_aligned(x, n);
    const auto scale_kernel =
        wide ? llm_weight_tying_scale_kernel<T, V> : llm_weight_tying_scale_kernel<T, 1>;
    LLM_LAUNCH(scale_kernel, llm_place_blocks(1, n, wide ? (size_t)V : 1), 256, 0, stream, y, x, n,
               scale);
    return cudaGetLastError();
}

/* x (N,C) <- ids (N): arguments as llm_weight_tying_embed. */
template <typename T>
static inline cudaError_t llm_cuda_weight_tying_embed(T *x, const llm_cuda_weight_tying<T> &t,
                                                      const int *ids, size_t N, size_t V, size_t C,
                                                      cudaStream_t stream) {
    const cudaError_t done[] = {llm_cuda_embedding_forward(x, ids, t.embed, N, V, C, stream),
                                llm_cuda_weight_tying_scale(x, x, N * C, t.scale_in, stream)};
    return llm_cuda_first_error(done);
}
/* t.dembed += <- dx (N,C), which is overwritten by scale_in dx; order, segment of
 * llm_cuda_embedding_sort. */
template <typename T>
static inline cudaError_t
llm_cuda_weight_tying_embed_backward(const llm_cuda_weight_tying<T> &t, T *dx, const int *ids,
                                     const int *order, const int *segment, size_t segments,
                                     size_t N, size_t C, cudaStream_t stream) {
    const cudaError_t done[] = {
        llm_cuda_weight_tying_scale(dx, dx, N * C, t.scale_in, stream),
        llm_cuda_embedding_backward(t.dembed, dx, ids, order, segment, segments, C, stream)};
    return llm_cuda_first_error(done);
}

/* logits (N,V) <- h (N,C). scaled (N,C) <- scale_out h, which backward wants; where the scale is 1
 * it may be h. */
template <typename T>
static inline cudaError_t
llm_cuda_weight_tying_logits(T *logits, T *scaled, const llm_cuda_weight_tying<T> &t, const T *h,
                             size_t N, size_t V, size_t C, cudaStream_t stream) {
    T *const none = NULL;
    const cudaError_t done[] = {llm_cuda_weight_tying_scale(scaled, h, N * C, t.scale_out, stream),
                                llm_cuda_dense_forward(logits, none, scaled, t.head, none, N, C, V,
                                                       LLM_ACTIVATION_IDENTITY, stream)};
    return llm_cuda_first_error(done);
}
/* dh (N,C) += , t.dhead += <- dlogits (N,V) and forward's scaled. dscaled (N,C) is written; where
 * the scale is 1 it may be dh. scratch as for llm_cuda_dense_backward(N, C, V). dlogits is left as
 * it is. */
template <typename T>
static inline cudaError_t
llm_cuda_weight_tying_logits_backward(T *dh, T *dscaled, const llm_cuda_weight_tying<T> &t,
                                      const T *dlogits, const T *scaled, size_t N, size_t V,
                                      size_t C, float *scratch, cudaStream_t stream) {
    const bool same = dscaled == dh;
    if (same && t.scale_out != 1.0f) return (cudaError_t)cudaErrorInvalidValue;
    const cudaError_t done[] = {
        same ? cudaSuccess : cudaMemsetAsync(dscaled, 0, N * C * sizeof(T), stream),
        llm_cuda_dense_backward(dscaled, t.dhead, (float *)NULL, dlogits, scaled, t.head, N, C, V,
                                scratch, stream),
        same ? cudaSuccess
             : llm_cuda_residual_forward(dh, dh, dscaled, N * C, t.scale_out, stream)};
    return llm_cuda_first_error(done);
}

/* @next_token ----------------------------------------------- Next-token prediction
 *
 * No array of targets: the classifier of @softmax_head reads the id behind its own place, and the
 * row's last place and masked ones count as ignored. So the shift is made once, where the target is
 * read. The mean is taken at the end of a step: nats and counted tokens of its micro-batches are
 * added up on the device, in double and in a fixed order, and the host reads them when it likes;
 * the gradient's scale, 1 / tokens of the whole step, it knows beforehand from the masks.
 *
 * Adding the losses moves 4 bytes a token, 1 more with a mask: the minimum. Limit: latency of one
 * block; everything else as in @softmax_head.
 *
 * source  -
 * needs   cuda_launch, cuda_memory, cuda_reduce, softmax_head
 * see     cross_entropy, perplexity
 * topics  -
 */

/* The problem of @softmax_head for ids (B,T): each place's target is the next id. mask (B,T) or
 * NULL, as in llm_next_token_targets. */
static inline __attribute__((unused)) llm_cuda_softmax_head
llm_cuda_next_token_problem(const int *ids, const bool *mask, size_t B, size_t T, size_t C,
                            size_t V) {
    llm_cuda_softmax_head p = llm_cuda_softmax_head_defaults(ids, B * T, C, V);
    p.mask = mask;
    p.T = T;
    return p;
}

/* loss (B,T), 0 where nothing is asked <- logits (B,T,V), which become, if gradient, scale times
 * the gradient of the summed loss: as llm_next_token_loss with dlogits in place. */
template <typename T>
static inline cudaError_t llm_cuda_next_token_in_place(float *loss, T *logits, const int *ids,
                                                       const bool *mask, size_t B, size_t length,
                                                       size_t V, float scale, bool gradient,
                                                       cudaStream_t stream) {
    return llm_cuda_softmax_head_in_place(loss, (float *)NULL, logits,
                                          llm_cuda_next_token_problem(ids, mask, B, length, 0, V),
                                          scale, gradient, stream);
}

LLM_KERNEL void llm_next_token_add_kernel(double *total, const float *loss, const bool *mask,
                                          size_t N, size_t T) {
    double nats = 0.0, tokens = 0.0;
    for (size_t n = threadIdx.x; n < N; n += blockDim.x) {
        nats += (double)llm_load(loss, n);
        tokens += n % T + 1 < T && (!mask || mask[n + 1]);
    }
    nats = llm_block_sum(nats);
    tokens = llm_block_sum(tokens);
    if (threadIdx.x == 0) total[0] += nats, total[1] += tokens;
}
/* total (2) += the nats of a micro-batch, loss (B,T), and its counted tokens: llm_next_token_sum on
 * the device. The step's mean is total[0] / total[1]. */
static inline __attribute__((unused)) cudaError_t
llm_cuda_next_token_add(double *total, const float *loss, const bool *mask, size_t B, size_t T,
                        cudaStream_t stream) {
    if (B == 0 || T == 0) return cudaSuccess;
    LLM_LAUNCH(llm_next_token_add_kernel, 1, 1024, 0, stream, total, loss, mask, B * T, T);
    return cudaGetLastError();
}

/* @llama_block ---------------------------------------------- Decoder block, the form of Llama
 *
 * The kernels and the order of @decoder_block; RMSNorm, rotations, grouped heads, SwiGLU and no
 * biases are settings of it. What is particular to the form costs little: the rotation is done
 * where the heads are cut apart, RMSNorm is LayerNorm without the first reduction, gate and up are
 * two products of which the second one's epilogue multiplies, and attention reads each key and
 * value head for its whole group.
 *
 * Limit: the products.
 *
 * source  -
 * needs   decoder_block
 * see     decoder_only
 * topics  -
 */

/* Llama's form. cosine, sine (T,D/2) of llm_rope_table, on the device. */
static inline __attribute__((unused)) llm_cuda_decoder_block_config
llm_cuda_llama_block_config(const llm_llama_block_config &c, const float *cosine,
                            const float *sine) {
    llm_cuda_decoder_block_config d;
    memset(&d, 0, sizeof d);
    d.width = c.width, d.heads = c.heads, d.kv_heads = c.kv_heads, d.head_size = c.head_size;
    d.hidden = c.hidden, d.eps = c.eps, d.kind = LLM_ACTIVATION_SILU;
    d.gated = d.rms = true;
    d.cosine = cosine, d.sine = sine, d.pairing = c.pairing;
    return d;
}

/* Weights in the matrices of a block, which decay, and in its vectors. */
static inline __attribute__((unused)) size_t
llm_cuda_llama_block_matrices(const llm_cuda_decoder_block_config &c) {
    const size_t heads = 2 * (c.heads + c.kv_heads) * c.head_size;
    return (heads + (c.gated ? 3 : 2) * c.hidden) * c.width;
}
static inline __attribute__((unused)) size_t
llm_cuda_llama_block_vectors(const llm_cuda_decoder_block_config &c) {
    const size_t O = (c.heads + 2 * c.kv_heads) * c.head_size;
    return c.rms ? 2 * c.width : 6 * c.width + O + c.hidden;
}
/* A block of either form in a flat vector, the order of llm_decoder_only_bind and llm_gpt2_bind:
 * matrices (qkv, out, gate, up, down) and vectors (norm1, norm2, or with biases norm1_w, norm1_b,
 * qkv_b, out_b, norm2_w, norm2_b, up_bias, down_bias). What the form does not have is NULL. */
template <typename T>
static inline llm_cuda_decoder_block_weights<T>
llm_cuda_llama_block_bind(T *matrices, T *vectors, const llm_cuda_decoder_block_config &c) {
    const size_t C = c.width, F = c.hidden, Q = c.heads * c.head_size;
    const size_t O = Q + 2 * c.kv_heads * c.head_size, bias = c.rms ? 0 : 1;
    llm_cuda_decoder_block_weights<T> w;
    T **const matrix[5] = {&w.qkv_w, &w.out_w, &w.ffn.gate, &w.ffn.up, &w.ffn.down};
    const size_t m[5] = {O * C, C * Q, c.gated ? F * C : 0, F * C, C * F};
    T **const vector[8] = {&w.norm1_w, &w.norm1_b, &w.qkv_b,       &w.out_b,
                           &w.norm2_w, &w.norm2_b, &w.ffn.up_bias, &w.ffn.down_bias};
    const size_t v[8] = {C, bias * C, bias * O, bias * C, C, bias * C, bias * F, bias * C};
    for (size_t i = 0; i < 5; i++) *matrix[i] = m[i] ? matrices : NULL, matrices += m[i];
    for (size_t i = 0; i < 8; i++) *vector[i] = v[i] ? vectors : NULL, vectors += v[i];
    return w;
}

/* @decoder_only --------------------------------------------- Decoder-only Transformer: training
 *
 * Forward, backward, clipping and AdamW as one queue of launches, for every model that is an
 * embedding, blocks of one form, a norm and a head: Llama's here, GPT-2's in @gpt2. The host makes
 * the batch (ids, targets, the sorted places for the embedding's gradient, how many targets count)
 * while the card works on the step before, and reads the loss when it likes: nothing waits for it.
 *
 * Weights are float, or bfloat16 with a float master that AdamW updates; gradients, moments and
 * loss are float. They stand in flat vectors in the order of llm_decoder_only_bind, so a model is
 * copied as it is. For tensor cores the logits' rows are filled up to a multiple of 8 with what
 * stands behind the head's matrix; the classifier masks these columns, and their gradient is 0.
 *
 * Operations: 6 for each weight and token, and 7 L T H D a token for the lower triangles of
 * attention, whose weights are computed twice. Limit: the products; for small batches the launches,
 * some 30 a block.
 *
 * source  -
 * needs   cuda_launch, cuda_reduce, activation, dense, layernorm, rmsnorm, adamw,
 *         grad_clip, perplexity, embedding, prenorm, decoder_block, softmax_head, llama_block
 * see     weight_tying, gpt2
 * topics  -
 */

/* context: rows of a table of positions behind the embedding (GPT-2), 0 without one. */
typedef struct {
    size_t vocab, context, layers;
    bool tied;
    llm_cuda_decoder_block_config block;
} llm_cuda_decoder_only_config;

/* Device memory: count weights w, their float master (NULL where T is float), gradients and
 * moments, the last three cleared at the start. llm_cuda_decoder_only_bind sets the rest. */
template <typename T> struct llm_cuda_decoder_only {
    llm_cuda_decoder_only_config config;
    T *w;
    float *master, *g, *m, *v;

    size_t count, matrices, head, last; /* weights; those that decay; places of head, last norm */
    size_t rows, block_bytes;           /* of the logits; of a block's activations */
    T *x, *norm, *logits, *d;           /* (L+1,N,C), (N,C), (N,rows), (N,C) */
    float *mean, *rstd, *loss, *norm_factor, *part;
    double *total, *squares; /* nats and targets of the last forward; for the norm of g */
    unsigned char *blocks;
    llm_cuda_decoder_block_scratch<T> scratch;
};
/* A batch on the device: ids, targets (B,T), order and segment of llm_cuda_embedding_sort; scale is
 * 1 / (targets that count), of all micro-batches of the step. */
typedef struct {
    const int *ids, *targets, *order, *segment;
    size_t B, T, segments;
    float scale;
} llm_cuda_decoder_only_batch;

/* Block l's weights, or gradients, in a flat vector. */
template <typename T>
static inline llm_cuda_decoder_block_weights<T>
llm_cuda_decoder_only_block(T *flat, const llm_cuda_decoder_only_config &c, size_t l) {
    const size_t tables = (c.vocab * (c.tied ? 1 : 2) + c.context) * c.block.width;
    const size_t each = llm_cuda_llama_block_matrices(c.block);
    const size_t vectors = llm_cuda_llama_block_vectors(c.block);
    return llm_cuda_llama_block_bind(flat + tables + l * each,
                                     flat + tables + c.layers * each + l * vectors, c.block);
}
/* Its activations of the last forward. */
template <typename T>
static inline llm_cuda_decoder_block_acts<T>
llm_cuda_decoder_only_acts(const llm_cuda_decoder_only<T> &g, size_t l, size_t B, size_t length) {
    llm_cuda_decoder_block_acts<T> a;
    llm_cuda_decoder_block_bind(a, g.blocks + l * g.block_bytes, g.config.block, B, length);
    return a;
}

/* Points g into memory for batches of B rows of T tokens; returns the bytes that takes. memory may
 * be NULL to count only. */
template <typename T>
static inline size_t llm_cuda_decoder_only_bind(llm_cuda_decoder_only<T> &g, unsigned char *memory,
                                                size_t B, size_t length) {
    const llm_cuda_decoder_only_config &c = g.config;
    const size_t N = B * length, C = c.block.width, L = c.layers, up = (c.vocab + 7) / 8 * 8;
    llm_cuda_decoder_block_acts<T> a;
    size_t used = 0;
    g.head = c.tied ? 0 : (c.vocab + c.context) * C;
    g.matrices =
        (c.vocab * (c.tied ? 1 : 2) + c.context) * C + L * llm_cuda_llama_block_matrices(c.block);
    g.last = g.matrices + L * llm_cuda_llama_block_vectors(c.block);
    g.count = g.last + (c.block.rms ? 1 : 2) * C;
    g.rows = g.head + up * C <= g.count ? up : c.vocab;
    g.x = llm_cuda_decoder_block_take<T>(memory, used, (L + 1) * N * C);
    g.norm = llm_cuda_decoder_block_take<T>(memory, used, N * C);
    g.logits = llm_cuda_decoder_block_take<T>(memory, used, N * g.rows);
    g.d = llm_cuda_decoder_block_take<T>(memory, used, N * C);
    float **const number[3] = {&g.mean, &g.rstd, &g.loss};
    for (float **p : number) *p = llm_cuda_decoder_block_take<float>(memory, used, N);
    if (c.block.rms) g.mean = NULL;
    g.norm_factor = llm_cuda_decoder_block_take<float>(memory, used, 2);
    g.total = llm_cuda_decoder_block_take<double>(memory, used, 2);
    g.squares = llm_cuda_decoder_block_take<double>(memory, used, LLM_CUDA_GRAD_CLIP_BLOCKS);
    g.part = llm_cuda_decoder_block_take<float>(memory, used,
                                                llm_cuda_dense_slices(N, C, g.rows) * g.rows * C);
    g.block_bytes = llm_cuda_decoder_block_bind(a, NULL, c.block, B, length);
    g.blocks = llm_cuda_decoder_block_take<unsigned char>(memory, used, L * g.block_bytes);
    unsigned char *const scratch = memory ? memory + used : NULL;
    return used + llm_cuda_decoder_block_bind(g.scratch, scratch, c.block, B, length);
}

/* Logits of the batch and, where it has targets, the loss of each, g.total, and the logits'
 * gradient in their place. */
template <typename T>
static inline cudaError_t llm_cuda_decoder_only_forward(const llm_cuda_decoder_only<T> &g,
                                                        const llm_cuda_decoder_only_batch &b,
                                                        cudaStream_t stream) {
    const llm_cuda_decoder_only_config &c = g.config;
    const size_t N = b.B * b.T, C = c.block.width, L = c.layers;
    const float eps = c.block.eps;
    T *const none = NULL;
    if (N == 0 || (c.context && b.T > c.context)) return (cudaError_t)cudaErrorInvalidValue;
    cudaError_t error = llm_cuda_embedding_forward(g.x, b.ids, g.w, N, c.vocab, C, stream);
    if (error == cudaSuccess && c.context) /* the places are a bias of T C entries */
        error = llm_cuda_activation_forward(g.x, g.x, g.w + c.vocab * C, b.B, b.T * C,
                                            LLM_ACTIVATION_IDENTITY, stream);
    for (size_t l = 0; l <= L && error == cudaSuccess; l++) { /* block l - 1, and the norm behind */
        T *const w = g.w + g.last, *const x = g.x + l * N * C;
        llm_cuda_decoder_block_next<T> next = {w, c.block.rms ? NULL : w + C, g.norm, g.mean,
                                               g.rstd};
        if (l < L) {
            const llm_cuda_decoder_block_weights<T> wl = llm_cuda_decoder_only_block(g.w, c, l);
            const llm_cuda_decoder_block_acts<T> a = llm_cuda_decoder_only_acts(g, l, b.B, b.T);
            next = {wl.norm1_w, wl.norm1_b, a.norm1, a.mean1, a.rstd1};
        }
        if (l > 0)
            error = llm_cuda_decoder_block_forward(
                x, &next, llm_cuda_decoder_only_acts(g, l - 1, b.B, b.T), x - N * C,
                llm_cuda_decoder_only_block(g.w, c, l - 1), b.B, b.T, c.block, g.scratch, stream);
        else if (c.block.rms)
            error = llm_cuda_rmsnorm_forward(next.y, next.rstd, x, next.w, N, C, eps, stream);
        else
            error = llm_cuda_layernorm_forward(next.y, next.mean, next.rstd, x, next.w, next.b, N,
                                               C, eps, stream);
    }
    llm_cuda_softmax_head p = llm_cuda_softmax_head_defaults(b.targets, N, C, c.vocab);
    p.rows = g.rows;
    if (error == cudaSuccess)
        error = llm_cuda_dense_forward(g.logits, none, g.norm, g.w + g.head, none, N, C, g.rows,
                                       LLM_ACTIVATION_IDENTITY, stream);
    if (error != cudaSuccess || !b.targets) return error;
    error =
        llm_cuda_softmax_head_in_place(g.loss, (float *)NULL, g.logits, p, b.scale, true, stream);
    LLM_LAUNCH(llm_perplexity_total_kernel, 1, 1024, 0, stream, g.total, g.loss, b.targets, N);
    return error == cudaSuccess ? cudaGetLastError() : error;
}

/* g.g += the gradient, scale times that of the summed loss of the last forward. */
template <typename T>
static inline cudaError_t llm_cuda_decoder_only_backward(const llm_cuda_decoder_only<T> &g,
                                                         const llm_cuda_decoder_only_batch &b,
                                                         cudaStream_t stream) {
    const llm_cuda_decoder_only_config &c = g.config;
    const size_t N = b.B * b.T, C = c.block.width, L = c.layers;
    const cudaError_t head[] = {
        cudaMemsetAsync(g.scratch.dnorm, 0, N * C * sizeof(T), stream),
        cudaMemsetAsync(g.d, 0, N * C * sizeof(T), stream),
        llm_cuda_dense_backward(g.scratch.dnorm, g.g + g.head, (float *)NULL, g.logits, g.norm,
                                g.w + g.head, N, C, g.rows, g.part, stream),
        llm_cuda_prenorm_backward(g.d, g.g + g.last, c.block.rms ? NULL : g.g + g.last + C,
                                  g.scratch.dnorm, g.x + L * N * C, g.w + g.last, g.mean, g.rstd, N,
                                  C, g.scratch.part, stream)};
    cudaError_t error = llm_cuda_first_error(head);
    for (size_t l = L; l-- > 0 && error == cudaSuccess;)
        error = llm_cuda_decoder_block_backward(
            g.d, llm_cuda_decoder_only_block(g.g, c, l), llm_cuda_decoder_only_acts(g, l, b.B, b.T),
            g.x + l * N * C, llm_cuda_decoder_only_block(g.w, c, l), b.B, b.T, c.block, g.scratch,
            stream);
    const cudaError_t done[] = {
        error,
        llm_cuda_embedding_backward(g.g, g.d, b.ids, b.order, b.segment, b.segments, C, stream),
        c.context ? llm_cuda_column_sum(g.g + c.vocab * C, g.d, b.B, b.T * C, stream)
                  : cudaSuccess};
    return llm_cuda_first_error(done);
}

/* Clips g.g to max_norm, takes AdamW's step t (from 1; only matrices decay) and clears g.g.
 * g.norm_factor[0] is the norm; one that is not finite leaves the weights alone. */
template <typename T>
static inline cudaError_t
llm_cuda_decoder_only_step(const llm_cuda_decoder_only<T> &g, const llm_adamw_config *adamw,
                           size_t t, float max_norm, uint64_t seed, cudaStream_t stream) {
    const size_t n = g.matrices;
    const llm_cuda_adamw_tensor<T> tensor[2] = {
        {g.w, g.master, g.m, g.v, g.g, n, true},
        {g.w + n, g.master ? g.master + n : NULL, g.m + n, g.v + n, g.g + n, g.count - n, false}};
    const float *const all[1] = {g.g};
    const cudaError_t done[] = {
        llm_cuda_grad_clip_norm(g.norm_factor, all, &g.count, 1, max_norm, g.squares, stream),
        llm_cuda_adamw_step(tensor, 2, adamw, t, g.norm_factor + 1, seed, stream),
        cudaMemsetAsync(g.g, 0, g.count * sizeof(float), stream)};
    return llm_cuda_first_error(done);
}

/* @decoder_only_graph --------------------------------------- A training step without the host
 *
 * The launches of @decoder_only know their step: rate and Adam's corrections are arguments, so is
 * the number of targets that divides the loss, and the grid of the embedding's gradient has as many
 * blocks as the batch has different ids. Captured as a graph they would repeat one step for ever.
 * Here all of it stands on the device, and every step is the same launches with the same arguments:
 *
 *     feed    add    ... feed    add    update        or, captured once:   feed    graph
 *
 * add is forward and backward of a micro-batch, for the sum of its losses; nats and targets are
 * added up beside it. update divides by the targets of all of them: one thread works out loss,
 * norm, rate and corrections, and the division goes into the factor that clips, which AdamW reads
 * anyway, so that the mean costs no launch and no pass. bfloat16 does not mind sums: it rounds in
 * proportion. The loss is written behind those of the steps before, for a host that looks once in a
 * thousand steps. Places without an id at the end of a batch's list make the grid's size constant.
 *
 * One piece of memory holds everything; nothing is allocated and nothing waits. feed, the only copy
 * from the host, stays outside of the graph, so that the host can write the next batch elsewhere.
 *
 * Moves what @decoder_only moves, and 16 bytes a token of the batch. Limit: the same; a graph's
 * launches take about a microsecond each instead of several.
 *
 * source  NVIDIA, CUDA C++ Programming Guide, "CUDA Graphs"
 * needs   cuda_launch, gradient_descent, adamw, grad_clip, embedding, decoder_block, decoder_only
 * see     gpt2, lr_schedule, warmup, decoding_step
 * topics  -
 */

/* adamw.lr is the highest rate: it is reached at step `warmup` in a straight line, and falls along
 * half a cosine to `least` at step `steps`, where it stays. */
typedef struct {
    llm_adamw_config adamw;
    float max_norm, least;
    size_t warmup, steps;
} llm_cuda_decoder_only_graph_config;

/* What one step leaves for the next and for whoever looks; loss, norm (before clipping) and rate
 * are the last step's. */
typedef struct {
    double nats, targets; /* of the micro-batches since the last update */
    size_t step, skipped; /* steps so far; those that changed no weight */
    float loss, norm, rate;
    float factor, keep, gain, v_scale; /* what AdamW reads */
} llm_cuda_decoder_only_graph_state;

/* Given: model.config, config. llm_cuda_decoder_only_graph_bind sets the rest. */
template <typename T> struct llm_cuda_decoder_only_graph {
    llm_cuda_decoder_only<T> model;
    llm_cuda_decoder_only_graph_config config;
    llm_cuda_decoder_only_graph_state *state;
    float *log; /* (config.steps): the losses */
    int *batch; /* ids, targets, order (N each), segment (segments + 1) */
    size_t B, length, segments;
};

/* Points g into memory for micro-batches of B rows of T tokens, weights and all; returns the bytes
 * that takes. memory may be NULL to count only. */
template <typename T>
static inline size_t llm_cuda_decoder_only_graph_bind(llm_cuda_decoder_only_graph<T> &g,
                                                      unsigned char *memory, size_t B,
                                                      size_t length) {
    llm_cuda_decoder_only<T> &m = g.model;
    const size_t N = B * length, V = m.config.vocab;
    size_t used = 0;
    llm_cuda_decoder_only_bind(m, NULL, B, length); /* counts the weights */
    g.B = B, g.length = length, g.segments = N < V ? N : V;
    m.w = llm_cuda_decoder_block_take<T>(memory, used, m.count);
    m.master = llm_cuda_decoder_block_take<float>(memory, used, sizeof(T) == 4 ? 0 : m.count);
    float **const each[3] = {&m.g, &m.m, &m.v};
    for (float **p : each) *p = llm_cuda_decoder_block_take<float>(memory, used, m.count);
    g.state = llm_cuda_decoder_block_take<llm_cuda_decoder_only_graph_state>(memory, used, 1);
    g.log = llm_cuda_decoder_block_take<float>(memory, used, g.config.steps);
    g.batch = llm_cuda_decoder_block_take<int>(memory, used, 3 * N + g.segments + 1);
    unsigned char *const rest = memory ? memory + used : NULL;
    return used + llm_cuda_decoder_only_bind(m, rest, B, length);
}

/* Weights <- w (model.count) on the host, which may be written again when the stream has come by;
 * gradients, moments and state are cleared. */
template <typename T>
static inline cudaError_t llm_cuda_decoder_only_graph_begin(const llm_cuda_decoder_only_graph<T> &g,
                                                            const float *w, cudaStream_t stream) {
    const llm_cuda_decoder_only<T> &m = g.model;
    const size_t bytes = m.count * sizeof(float);
    void *const to = m.master ? (void *)m.master : (void *)m.w;
    const llm_cuda_gradient_descent_tensor<T> all = {m.w, m.master, NULL, NULL,
                                                     m.g, m.count,  false};
    const cudaError_t done[] = {
        cudaMemcpyAsync(to, w, bytes, cudaMemcpyHostToDevice, stream),
        cudaMemsetAsync(m.g, 0, bytes, stream),
        cudaMemsetAsync(m.m, 0, bytes, stream),
        cudaMemsetAsync(m.v, 0, bytes, stream),
        cudaMemsetAsync(g.state, 0, sizeof *g.state, stream),
        m.master ? llm_cuda_gradient_descent_step(&all, 1, 0.0f, 0, (const float *)NULL, 0, stream)
                 : cudaSuccess}; /* a step of length 0 rounds the master */
    return llm_cuda_first_error(done);
}

/* Ints of a micro-batch on the host. */
template <typename T>
static inline size_t llm_cuda_decoder_only_graph_ints(const llm_cuda_decoder_only_graph<T> &g) {
    return 3 * g.B * g.length + g.segments + 1;
}
/* On the host: batch (llm_cuda_decoder_only_graph_ints) <- ids, targets (B,T) and the places of
 * each id. scratch: V + 1 ints. */
template <typename T>
static inline void
llm_cuda_decoder_only_graph_batch(int *batch, const llm_cuda_decoder_only_graph<T> &g,
                                  const int *ids, const int *targets, int *scratch) {
    const size_t N = g.B * g.length;
    int *const order = batch + 2 * N, *const segment = order + N;
    memcpy(batch, ids, N * sizeof *ids);
    memcpy(batch + N, targets, N * sizeof *targets);
    memset(order, 0, N * sizeof *order); /* ids outside the table have no place */
    size_t found = llm_cuda_embedding_sort(order, segment, ids, N, g.model.config.vocab, scratch);
    for (; found < g.segments; found++) segment[found + 1] = segment[found];
}
/* The device's batch <- one on the host, pinned if the host is not to wait. */
template <typename T>
static inline cudaError_t llm_cuda_decoder_only_graph_feed(const llm_cuda_decoder_only_graph<T> &g,
                                                           const int *batch, cudaStream_t stream) {
    return cudaMemcpyAsync(g.batch, batch, llm_cuda_decoder_only_graph_ints(g) * sizeof(int),
                           cudaMemcpyHostToDevice, stream);
}

LLM_KERNEL void llm_decoder_only_graph_add_kernel(llm_cuda_decoder_only_graph_state *s,
                                                  const double *total) {
    if (threadIdx.x == 0) s->nats += total[0], s->targets += total[1];
}
/* Gradients += those of the summed losses of the batch, nats and targets too. */
template <typename T>
static inline cudaError_t llm_cuda_decoder_only_graph_add(const llm_cuda_decoder_only_graph<T> &g,
                                                          cudaStream_t stream) {
    const int *const ids = g.batch, *const order = ids + 2 * g.B * g.length;
    const llm_cuda_decoder_only_batch b = {
        ids, ids + g.B * g.length, order, order + g.B * g.length, g.B, g.length, g.segments, 1.0f};
    const cudaError_t done[] = {llm_cuda_decoder_only_forward(g.model, b, stream),
                                llm_cuda_decoder_only_backward(g.model, b, stream)};
    LLM_LAUNCH(llm_decoder_only_graph_add_kernel, 1, 32, 0, stream, g.state, g.model.total);
    const cudaError_t error = llm_cuda_first_error(done);
    return error == cudaSuccess ? cudaGetLastError() : error;
}

/* norm (1): of the summed gradient. No targets make a factor that is not finite. */
LLM_KERNEL void llm_decoder_only_graph_turn_kernel(llm_cuda_decoder_only_graph_state *s, float *log,
                                                   const float *norm,
                                                   llm_cuda_decoder_only_graph_config c) {
    if (threadIdx.x != 0) return;
    const size_t step = ++s->step;
    const double t = (double)step, peak = (double)c.adamw.lr, least = (double)c.least;
    const double way = ((double)step - (double)c.warmup) / ((double)c.steps - (double)c.warmup);
    double rate = least;
    if (step <= c.warmup)
        rate = peak * t / (double)c.warmup;
    else if (step < c.steps)
        rate = least + 0.5 * (peak - least) * (1.0 + cos(3.14159265358979323846 * way));
    s->loss = (float)(s->nats / s->targets);
    s->norm = (float)((double)norm[0] / s->targets);
    s->rate = (float)rate;
    const float clip = c.max_norm / (s->norm + 1e-6f);
    const bool finite = s->norm < INFINITY && s->loss < INFINITY; /* NaN is not */
    s->factor = finite ? (float)((clip < 1.0f ? (double)clip : 1.0) / s->targets) : NAN;
    s->skipped += !finite;
    s->keep = 1.0f - s->rate * c.adamw.weight_decay;
    s->gain = (float)(rate / (1.0 - pow((double)c.adamw.beta1, t)));
    s->v_scale = (float)(1.0 / sqrt(1.0 - pow((double)c.adamw.beta2, t)));
    if (step <= c.steps) log[step - 1] = s->loss;
    s->nats = s->targets = 0.0;
}
struct llm_cuda_decoder_only_graph_rule {
    llm_adamw_config c;
    const llm_cuda_decoder_only_graph_state *s;
    LLM_DEVICE_METHOD void operator()(float &w, float &m, float &v, float g, bool decay) const {
        const llm_cuda_adamw_rule now = {c, s->keep, s->gain, s->v_scale};
        now(w, m, v, g, decay);
    }
};
/* Takes AdamW's step with the mean gradient of the batches added, clipped; matrices decay. Clears
 * gradients, nats and targets. A loss or gradient that is not finite changes no weight. */
template <typename T>
static inline cudaError_t
llm_cuda_decoder_only_graph_update(const llm_cuda_decoder_only_graph<T> &g, cudaStream_t stream) {
    const llm_cuda_decoder_only<T> &m = g.model;
    const size_t n = m.matrices;
    const llm_cuda_adamw_tensor<T> tensor[2] = {
        {m.w, m.master, m.m, m.v, m.g, n, true},
        {m.w + n, m.master ? m.master + n : NULL, m.m + n, m.v + n, m.g + n, m.count - n, false}};
    const llm_cuda_decoder_only_graph_rule rule = {g.config.adamw, g.state};
    const float *const all[1] = {m.g};
    cudaError_t error =
        llm_cuda_grad_clip_norm(m.norm_factor, all, &m.count, 1, INFINITY, m.squares, stream);
    LLM_LAUNCH(llm_decoder_only_graph_turn_kernel, 1, 32, 0, stream, g.state, g.log, m.norm_factor,
               g.config);
    if (error == cudaSuccess) error = cudaGetLastError();
    const cudaError_t done[] = {
        error, llm_cuda_gradient_descent_each(tensor, 2, rule, 0, &g.state->factor, 0, stream),
        cudaMemsetAsync(m.g, 0, m.count * sizeof(float), stream)};
    return llm_cuda_first_error(done);
}

/* @stored_matrix -------------------------------------------- Matrices in their file's own numbers
 *
 * Weights as they stand in the file, taken apart in registers. A warp takes 256 weights of a row at
 * a time, a lane 8 of them: four that lie together in the row, and four more. In the forms with
 * half a byte a weight those are the two halves of the lane's four bytes, so that nothing is
 * loaded twice and nothing passes between lanes. Blocks of 34, 18 or 210 bytes begin at even
 * addresses only, and are read two bytes at a time.
 *
 * rows writes chosen rows as float or bfloat16: the embedding of tokens, or a whole matrix for the
 * tensor cores. Moves each weight once in the small form and once in the large one, the minimum.
 * Limit: memory bandwidth.
 *
 * source  Gerganov and others, ggml (the formats)
 * needs   cuda_launch, cuda_memory, cuda_reduce, gguf_blocks
 * see     stored_matrix_product
 * topics  -
 */
LLM_DEVICE uint32_t llm_cuda_stored_matrix_word(const unsigned char *p) { /* 2 bytes */
    return llm_load_words<uint16_t>(p);
}
LLM_DEVICE uint32_t llm_cuda_stored_matrix_four(const unsigned char *p) { /* 4 bytes */
    return llm_cuda_stored_matrix_word(p) | llm_cuda_stored_matrix_word(p + 2) << 16;
}
/* A half-precision number: its exponent moved into a float's place is 112 too small, also where it
 * is 0, and one product mends both. */
LLM_DEVICE float llm_cuda_stored_matrix_half(uint32_t word) {
    const uint32_t size = word & 0x7fffu, sign = (word & 0x8000u) << 16;
    const float value = __uint_as_float(size << 13) * 5192296858534827628530496329220096.0f;
    const uint32_t special = size << 13 | 0x7f800000u; /* infinity, NaN */
    return __uint_as_float((size >= 0x7c00u ? special : __float_as_uint(value)) | sign);
}
/* byte i of a word, as it is and with its sign */
LLM_DEVICE float llm_cuda_stored_matrix_byte(uint32_t word, int i) {
    return (float)(int)(word >> 8 * i & 255u);
}
LLM_DEVICE float llm_cuda_stored_matrix_signed(uint32_t word, int i) {
    return (float)(int)(signed char)(word >> 8 * i & 255u);
}

/* Bytes of 256 weights. */
template <int type> LLM_HOST_DEVICE constexpr size_t llm_cuda_stored_matrix_piece(void) {
    return type == LLM_GGUF_BLOCKS_F32    ? 1024
           : type == LLM_GGUF_BLOCKS_Q8_0 ? 8 * 34
           : type == LLM_GGUF_BLOCKS_Q4_0 ? 8 * 18
           : type == LLM_GGUF_BLOCKS_Q4_K ? 144
           : type == LLM_GGUF_BLOCKS_Q6_K ? 210
                                          : 512;
}
/* Where a lane's first four of 256 weights stand; the other four stand `apart` further on. */
template <int type> LLM_DEVICE unsigned llm_cuda_stored_matrix_first(unsigned lane) {
    return type == LLM_GGUF_BLOCKS_Q4_0   ? lane / 4 * 32 + lane % 4 * 4
           : type == LLM_GGUF_BLOCKS_Q4_K ? lane / 8 * 64 + lane % 8 * 4
           : type == LLM_GGUF_BLOCKS_Q6_K ? lane / 16 * 128 + lane % 16 * 4
                                          : lane * 8;
}
template <int type> LLM_HOST_DEVICE constexpr unsigned llm_cuda_stored_matrix_apart(void) {
    return type == LLM_GGUF_BLOCKS_Q4_0   ? 16
           : type == LLM_GGUF_BLOCKS_Q4_K ? 32
           : type == LLM_GGUF_BLOCKS_Q6_K ? 64
                                          : 4;
}
/* w <- the lane's weights of the 256 at p. What lies behind the end of a row is not asked for. */
template <int type>
LLM_DEVICE void llm_cuda_stored_matrix_take(float (&w)[8], const unsigned char *p, unsigned lane) {
    if (type == LLM_GGUF_BLOCKS_F32) {
        llm_load_vector(w, (const float *)(const void *)p, lane * 8);
    } else if (type == LLM_GGUF_BLOCKS_BF16) {
        llm_load_vector(w, (const llm_bf16 *)(const void *)p, lane * 8);
    } else if (type == LLM_GGUF_BLOCKS_F16) {
        const uint4 q = llm_load_words<uint4>(p + lane * 16);
        const uint32_t word[4] = {q.x, q.y, q.z, q.w};
        LLM_UNROLL
        for (int k = 0; k < 8; k++)
            w[k] = llm_cuda_stored_matrix_half(word[k / 2] >> k % 2 * 16 & 0xffffu);
    } else if (type == LLM_GGUF_BLOCKS_Q8_0) {
        p += lane / 4 * 34;
        const float d = llm_cuda_stored_matrix_half(llm_cuda_stored_matrix_word(p));
        const uint32_t low = llm_cuda_stored_matrix_four(p + 2 + lane % 4 * 8);
        const uint32_t high = llm_cuda_stored_matrix_four(p + 6 + lane % 4 * 8);
        LLM_UNROLL
        for (int k = 0; k < 8; k++)
            w[k] = d * llm_cuda_stored_matrix_signed(k < 4 ? low : high, k % 4);
    } else if (type == LLM_GGUF_BLOCKS_Q4_0) {
        p += lane / 4 * 18;
        const float d = llm_cuda_stored_matrix_half(llm_cuda_stored_matrix_word(p));
        const uint32_t q = llm_cuda_stored_matrix_four(p + 2 + lane % 4 * 4);
        LLM_UNROLL
        for (int k = 0; k < 8; k++)
            w[k] =
                d * (llm_cuda_stored_matrix_byte((k < 4 ? q : q >> 4) & 0x0f0f0f0fu, k % 4) - 8.0f);
    } else if (type == LLM_GGUF_BLOCKS_Q4_K) { /* groups g and g + 1 of 32, g even */
        const unsigned g = lane / 8 * 2;
        const float d = llm_cuda_stored_matrix_half(llm_cuda_stored_matrix_word(p));
        const float e = llm_cuda_stored_matrix_half(llm_cuda_stored_matrix_word(p + 2));
        const uint32_t q = llm_cuda_stored_matrix_four(p + 16 + lane * 4);
        uint32_t s = llm_cuda_stored_matrix_word(p + 4 + g % 4); /* of both groups, a byte each */
        uint32_t m = llm_cuda_stored_matrix_word(p + 8 + g % 4);
        if (g >= 4) {
            const uint32_t low = llm_cuda_stored_matrix_word(p + 8 + g);
            s = (low & 0x0f0fu) | (s >> 6 & 0x0303u) << 4;
            m = (low >> 4 & 0x0f0fu) | (m >> 6 & 0x0303u) << 4;
        }
        LLM_UNROLL
        for (int k = 0; k < 8; k++)
            w[k] = d * llm_cuda_stored_matrix_byte(s & 0x3f3fu, k / 4) *
                       llm_cuda_stored_matrix_byte((k < 4 ? q : q >> 4) & 0x0f0f0f0fu, k % 4) -
                   e * llm_cuda_stored_matrix_byte(m & 0x3f3fu, k / 4);
    } else { /* Q6_K: runs r and r + 2 of 32 in a half of 128 */
        const unsigned half = lane / 16, r = lane % 16 / 8, at = lane % 8 * 4;
        const float d = llm_cuda_stored_matrix_half(llm_cuda_stored_matrix_word(p + 208));
        const uint32_t low = llm_cuda_stored_matrix_four(p + half * 64 + r * 32 + at);
        const uint32_t high = llm_cuda_stored_matrix_four(p + 128 + half * 32 + at);
        const unsigned char *scale = p + 192 + half * 8 + r * 2; /* one for 16 weights */
        const uint32_t s[2] = {llm_cuda_stored_matrix_word(scale),
                               llm_cuda_stored_matrix_word(scale + 4)};
        LLM_UNROLL
        for (unsigned k = 0; k < 8; k++) {
            const unsigned run = r + k / 4 * 2;
            const uint32_t q = (low >> k / 4 * 4 & 0x0f0f0f0fu) | (high >> run * 2 & 0x03030303u)
                                                                      << 4;
            w[k] = d * llm_cuda_stored_matrix_signed(s[k / 4], (int)at / 16) *
                   (llm_cuda_stored_matrix_byte(q, (int)k % 4) - 32.0f);
        }
    }
}

/* Is this a matrix the kernels can read: a form they know, whole blocks, columns by eights, data
 * and rows that begin at the addresses their loads want? */
static inline __attribute__((unused)) bool llm_cuda_stored_matrix_fits(const llm_stored_matrix &w) {
    size_t weights = 1, bytes = 1;
    switch (w.type) {
    case LLM_GGUF_BLOCKS_F32:
    case LLM_GGUF_BLOCKS_F16:
    case LLM_GGUF_BLOCKS_BF16:
    case LLM_GGUF_BLOCKS_Q8_0:
    case LLM_GGUF_BLOCKS_Q4_0:
    case LLM_GGUF_BLOCKS_Q4_K:
    case LLM_GGUF_BLOCKS_Q6_K:
        llm_gguf_blocks_name(&weights, &bytes, (uint32_t)w.type);
        return w.columns % weights == 0 && w.columns % 8 == 0 &&
               (uintptr_t)w.data % (weights == 1 ? 16 : 2) == 0;
    default:
        return false;
    }
}
/* launch.run<type>() for the type of w: kernels are compiled for each form. */
template <typename L> static inline cudaError_t llm_cuda_stored_matrix_each(int type, const L &l) {
    switch (type) {
    case LLM_GGUF_BLOCKS_F32:
        return l.template run<LLM_GGUF_BLOCKS_F32>();
    case LLM_GGUF_BLOCKS_F16:
        return l.template run<LLM_GGUF_BLOCKS_F16>();
    case LLM_GGUF_BLOCKS_BF16:
        return l.template run<LLM_GGUF_BLOCKS_BF16>();
    case LLM_GGUF_BLOCKS_Q8_0:
        return l.template run<LLM_GGUF_BLOCKS_Q8_0>();
    case LLM_GGUF_BLOCKS_Q4_0:
        return l.template run<LLM_GGUF_BLOCKS_Q4_0>();
    case LLM_GGUF_BLOCKS_Q4_K:
        return l.template run<LLM_GGUF_BLOCKS_Q4_K>();
    default:
        return l.template run<LLM_GGUF_BLOCKS_Q6_K>();
    }
}

/* A warp a row. Row n is that of id ids[n apart + place[n]], or number n where ids is NULL. */
template <int type, typename T>
LLM_KERNEL void llm_stored_matrix_rows_kernel(T *y, const unsigned char *data, size_t stride,
                                              size_t rows, size_t C, const int *ids, size_t apart,
                                              const size_t *place, size_t N) {
    const llm_row_place p = llm_my_row<true>();
    if (p.row >= N) return;
    const size_t n = p.row;
    const int id = ids ? ids[n * apart + (place ? place[n] : 0)] : 0;
    const size_t row = ids ? (size_t)id : n;
    const bool known = id >= 0 && row < rows;
    const unsigned first = llm_cuda_stored_matrix_first<type>(p.lane);
    const unsigned second = first + llm_cuda_stored_matrix_apart<type>();
    data += known ? row * stride : 0;
    for (size_t i = first; i < C; i += 256, data += llm_cuda_stored_matrix_piece<type>()) {
        float w[8] = {NAN, NAN, NAN, NAN, NAN, NAN, NAN, NAN};
        if (known) llm_cuda_stored_matrix_take<type>(w, data, p.lane);
        const float a[4] = {w[0], w[1], w[2], w[3]}, b[4] = {w[4], w[5], w[6], w[7]};
        llm_store_vector(y, n * C + i, a);
        llm_store_vector(y, n * C + i + second - first, b);
    }
}
template <typename T> struct llm_cuda_stored_matrix_rows_launch {
    T *y;
    const llm_stored_matrix &w;
    const int *ids;
    size_t apart;
    const size_t *place;
    size_t N;
    cudaStream_t stream;
    /* With the kernel of one form. */
    template <int type> cudaError_t run(void) const {
        LLM_LAUNCH((llm_stored_matrix_rows_kernel<type, T>), llm_row_blocks(N, true), 128, 0,
                   stream, y, w.data, llm_stored_matrix_stride(&w), w.rows, w.columns, ids, apart,
                   place, N);
        return cudaGetLastError();
    }
};
/* y (N,columns) <- row ids[n apart + place[n]] of w for each n; place may be NULL, and ids too: row
 * n then. NaN where w has no such row. w.data, which llm_cuda_stored_matrix_fits, is on the device;
 * y begins at a multiple of 16 bytes. T is float or llm_bf16. */
template <typename T>
static inline cudaError_t
llm_cuda_stored_matrix_rows(T *y, const llm_stored_matrix &w, const int *ids, size_t apart,
                            const size_t *place, size_t N, cudaStream_t stream) {
    if (!llm_cuda_stored_matrix_fits(w) || !llm_aligned(y, 8)) return cudaErrorInvalidValue;
    if (N == 0 || w.columns == 0) return cudaSuccess;
    const llm_cuda_stored_matrix_rows_launch<T> launch = {y, w, ids, apart, place, N, stream};
    return llm_cuda_stored_matrix_each((int)w.type, launch);
}

/* @stored_matrix_product ------------------------------------ A few rows times a stored matrix
 *
 * One token reads every weight and does two operations with it: the time is the weights' bytes over
 * the memory's speed, and what else a layer does should not cost a trip or a launch of its own. A
 * warp takes two rows of W at a time; what two rows make is the epilogue's affair:
 *
 *     end(pair, n, a, b)      a, b: what the pair's first and second row gave for token n
 *
 * so that gate and up meet in registers, and the two halves of a rotation (@decoding_step). The
 * RMSNorm in front is done on the way: each block finds the root mean square of x itself, from L2,
 * the gains go into the product and the root to its end. Sums of 8 tokens share what is read.
 *
 * Moves the weights once for up to 8 tokens, the minimum; x and the gains come from L1 and L2, 8
 * bytes for each pair of weights. Limit: memory bandwidth; for 8 tokens also multiply-adds.
 *
 * source  -
 * needs   cuda_launch, cuda_memory, cuda_reduce, activation, stored_matrix
 * see     dense, decoding_step
 * topics  -
 */
enum { LLM_CUDA_STORED_MATRIX_PRODUCT_TOKENS = 8 };

/* y (N,rows) <- , or += with add, the products and bias (rows) or NULL. Rows 2 pair, 2 pair + 1. */
struct llm_cuda_stored_matrix_product_end {
    float *y;
    const float *bias;
    size_t rows;
    bool add;
    LLM_DEVICE_METHOD size_t row(size_t pair, size_t which) const { return 2 * pair + which; }
    LLM_DEVICE_METHOD void put(size_t row, size_t n, float v) const {
        if (row >= rows) return;
        if (bias) v += llm_load(bias, row);
        llm_store(y, n * rows + row, add ? llm_load(y, n * rows + row) + v : v);
    }
    LLM_DEVICE_METHOD void operator()(size_t pair, size_t n, float a, float b) const {
        put(2 * pair, n, a);
        put(2 * pair + 1, n, b);
    }
};
/* y (N,rows) <- act(gate) up: a and b are the same row of two matrices. */
struct llm_cuda_stored_matrix_product_gated {
    float *y;
    size_t rows;
    int kind;
    LLM_DEVICE_METHOD size_t row(size_t pair, size_t) const { return pair; }
    LLM_DEVICE_METHOD void operator()(size_t pair, size_t n, float a, float b) const {
        llm_store(y, n * rows + pair, llm_cuda_activation_value(a, kind) * b);
    }
};

/* first, second: the matrices of a pair's two rows, `rows` of C weights each; x (tokens,C) of at
 * most N tokens; gain (C) or NULL. Eight warps a block. */
template <int type, int N, typename X, typename E>
LLM_KERNEL void __launch_bounds__(256)
    llm_stored_matrix_product_kernel(E end, const unsigned char *first, const unsigned char *second,
                                     size_t stride, size_t rows, size_t pairs, const X *x,
                                     const float *gain, float eps, size_t tokens, size_t C) {
    const unsigned lane = threadIdx.x % 32;
    const unsigned at = llm_cuda_stored_matrix_first<type>(lane);
    const unsigned apart = llm_cuda_stored_matrix_apart<type>();
    float root[N];
    LLM_UNROLL
    for (size_t n = 0; n < N; n++) {
        root[n] = 1.0f;
        if (!gain || n >= tokens) continue;
        float square = 0.0f, v[4];
        for (size_t i = 4 * threadIdx.x; i < C; i += 4 * blockDim.x) {
            llm_load_vector(v, x, n * C + i);
            square += v[0] * v[0] + v[1] * v[1] + v[2] * v[2] + v[3] * v[3];
        }
        root[n] = rsqrtf(llm_block_sum(square) / (float)C + eps);
    }
    for (size_t pair = blockIdx.x * 8 + threadIdx.x / 32; pair < pairs; pair += gridDim.x * 8) {
        const size_t row[2] = {end.row(pair, 0), end.row(pair, 1)};
        const unsigned char *w[2] = {first + row[0] * stride, second + row[1] * stride};
        float sum[2][N] = {};
        for (size_t i = at; i < C; i += 256) {
            float w_v[2][8] = {}, g[8], v[8];
            LLM_UNROLL
            for (int r = 0; r < 2; r++) {
                if (row[r] < rows) llm_cuda_stored_matrix_take<type>(w_v[r], w[r], lane);
                w[r] += llm_cuda_stored_matrix_piece<type>();
            }
            float part[4];
            LLM_UNROLL
            for (int k = 0; k < 8 && gain; k++) {
                if (k % 4 == 0) llm_load_vector(part, gain, i + (size_t)(k / 4) * apart);
                g[k] = part[k % 4];
                w_v[0][k] *= g[k], w_v[1][k] *= g[k];
            }
            LLM_UNROLL
            for (size_t n = 0; n < N; n++) {
                if (n >= tokens) continue;
                LLM_UNROLL
                for (int k = 0; k < 8; k++) {
                    if (k % 4 == 0) llm_load_vector(part, x, n * C + i + (size_t)(k / 4) * apart);
                    v[k] = part[k % 4];
                    sum[0][n] += w_v[0][k] * v[k], sum[1][n] += w_v[1][k] * v[k];
                }
            }
        }
        LLM_UNROLL
        for (size_t n = 0; n < N; n++) { /* lane n writes token n */
            if (n >= tokens) continue;
            const float a = root[n] * llm_warp_sum(sum[0][n]);
            const float b = root[n] * llm_warp_sum(sum[1][n]);
            if (lane == n) end(pair, n, a, b);
        }
    }
}
template <typename X, typename E> struct llm_cuda_stored_matrix_product_launch {
    E end;
    const llm_stored_matrix &first, &second;
    size_t pairs;
    const X *x;
    const float *gain;
    float eps;
    size_t N;
    cudaStream_t stream;
    /* With the kernel of one form: as many blocks as there are pairs for, 16 a multiprocessor. */
    template <int type> cudaError_t run(void) const {
        enum { most = LLM_CUDA_STORED_MATRIX_PRODUCT_TOKENS };
        const size_t blocks = (pairs + 7) / 8, fill = 16 * (size_t)llm_multiprocessors();
        const auto product = N == 1 ? llm_stored_matrix_product_kernel<type, 1, X, E>
                                    : llm_stored_matrix_product_kernel<type, most, X, E>;
        LLM_LAUNCH(product, (unsigned)(blocks < fill ? blocks : fill), 256, 0, stream, end,
                   first.data, second.data, llm_stored_matrix_stride(&first), first.rows, pairs, x,
                   gain, eps, N, first.columns);
        return cudaGetLastError();
    }
};
/* end <- the products of x (N,columns) with pairs of rows of two matrices of one form and shape
 * (they may be the same), data on the device; N <= 8. gain (columns), not NULL: x goes through
 * RMSNorm first. X is float or llm_bf16. */
template <typename X, typename E>
static inline cudaError_t
llm_cuda_stored_matrix_product_run(const E &end, const llm_stored_matrix &first,
                                   const llm_stored_matrix &second, size_t pairs, const X *x,
                                   const float *gain, float eps, size_t N, cudaStream_t stream) {
    if (!llm_cuda_stored_matrix_fits(first) || !llm_cuda_stored_matrix_fits(second) ||
        first.type != second.type || first.rows != second.rows || first.columns != second.columns ||
        !llm_aligned(x, 8) || !llm_aligned(gain, 8) || N > LLM_CUDA_STORED_MATRIX_PRODUCT_TOKENS)
        return cudaErrorInvalidValue;
    if (N == 0 || pairs == 0) return cudaSuccess;
    const llm_cuda_stored_matrix_product_launch<X, E> launch = {end,  first, second, pairs, x,
                                                                gain, eps,   N,      stream};
    return llm_cuda_stored_matrix_each((int)first.type, launch);
}
/* y (N,rows) <- , or += with add, N(x) (N,columns) W^T + bias (rows), which may be NULL; N is
 * RMSNorm with gain, or nothing where that is NULL. */
template <typename X>
static inline cudaError_t
llm_cuda_stored_matrix_product(float *y, const X *x, const llm_stored_matrix &w, const float *bias,
                               const float *gain, float eps, size_t N, bool add,
                               cudaStream_t stream) {
    const llm_cuda_stored_matrix_product_end end = {y, bias, w.rows, add};
    return llm_cuda_stored_matrix_product_run(end, w, w, (w.rows + 1) / 2, x, gain, eps, N, stream);
}
/* y (N,rows) <- act(N(x) gate^T) (N(x) up^T), kind of @activation: the first half of SwiGLU. */
static inline __attribute__((unused)) cudaError_t
llm_cuda_stored_matrix_product_glu(float *y, const float *x, const llm_stored_matrix &gate,
                                   const llm_stored_matrix &up, const float *gain, float eps,
                                   int kind, size_t N, cudaStream_t stream) {
    const llm_cuda_stored_matrix_product_gated end = {y, gate.rows, kind};
    return llm_cuda_stored_matrix_product_run(end, gate, up, gate.rows, x, gain, eps, N, stream);
}

/* @gpt2 ----------------------------------------------------- GPT-2: a training step
 *
 * The step of @decoder_only with GPT-2's settings: LayerNorm, biases, GELU, no rotations but a
 * table of positions, which is added like a bias of T C entries and gets its gradient as a sum over
 * the batch. The head is the embedding, so both its ends add to one gradient (@weight_tying). The
 * flat vectors are those of llm_gpt2_bind: w, m, v of an llm_gpt2 are copied as they are.
 *
 * 50257 tokens are no multiple of 8. The 7 rows that the logits' product wants more are the first
 * of wpe, which stand behind wte.
 *
 * source  -
 * needs   gpt2_weights, decoder_block, decoder_only
 * see     softmax_head
 * topics  -
 */
static inline __attribute__((unused)) llm_cuda_decoder_only_config
llm_cuda_gpt2_config(const llm_gpt2_config &c) {
    llm_cuda_decoder_only_config d;
    d.vocab = c.vocab, d.context = c.context, d.layers = c.layers;
    d.tied = true;
    d.block = llm_cuda_decoder_block_gpt2(llm_gpt2_block_config(&c));
    return d;
}

/* @14-arch ================================================== BEYOND THE DENSE TRANSFORMER */

/* @15-decode ================================================ DECODING */

/* @kv_cache ------------------------------------------------- Key-value cache
 *
 * Append: one kernel turns the new queries and keys by their positions (@rope) and stores keys and
 * values where they belong. Lengths live on the device and positions follow from them, so a launch
 * does not depend on how long the rows are, and the same launches serve for every token. Apart,
 * rotation and copy would move q and k twice. Attend: gqa's decoding kernel on the cache, with the
 * keys of a row split over blocks.
 *
 * Reorder: rows become copies of others, in place; a second cache would double what is most of the
 * memory. A thread owns one vector of 16 bytes of all rows: it stages those that others need in
 * shared memory and then writes them, without a barrier, since nobody else comes near. Rows that
 * stay are not touched.
 *
 * Append moves 2 elements for each of q, k and v, the minimum, attend each key and value once,
 * reorder 2 elements for each one that changes its row. Limit: for a token, attend is bound by
 * memory bandwidth and append by its launch; reorder by bandwidth.
 *
 * source  -
 * needs   cuda_launch, cuda_memory, gqa
 * see     decoding
 * topics  -
 */

/* As llm_kv_cache, on the device: memory (L,2,B,H,room,D), length (B). */
template <typename T> struct llm_cuda_kv_cache {
    T *memory;
    size_t *length, L, B, H, room, D;
};
/* The keys (B,H,room,D) of layer l; the values stand B H room D elements further on. */
template <typename T>
LLM_HOST_DEVICE T *llm_cuda_kv_cache_keys(const llm_cuda_kv_cache<T> &c, size_t l) {
    return c.memory + 2 * l * c.B * c.H * c.room * c.D;
}

/* A block: one of n positions of one head of a row; first the query heads, then keys, then values.
 * half = 0: nothing is turned. */
template <typename T>
LLM_KERNEL void llm_kv_cache_append_kernel(llm_cuda_kv_cache<T> c, size_t l, T *q, const T *k,
                                           const T *v, const float *cosine, const float *sine,
                                           size_t Hq, size_t n, size_t half, bool neighbours,
                                           const size_t *depth, size_t apart) {
    const size_t heads = Hq + 2 * c.H, i = blockIdx.x % n, b = blockIdx.x / n / heads;
    const size_t h = blockIdx.x / n % heads, slot = c.length[b] + i, D = c.D;
    const size_t position = depth ? c.length[b] + depth[b * apart + i] : slot;
    if (slot >= c.room) return;
    const bool query = h < Hq, value = h >= Hq + c.H;
    const size_t head = query ? b * Hq + h : b * c.H + (h - Hq) % c.H;
    const T *from = (query ? q : value ? v : k) + (head * n + i) * D;
    T *to = q + (head * n + i) * D;
    if (!query) {
        to = llm_cuda_kv_cache_keys(c, l) + (head * c.room + slot) * D;
        if (value) to += c.B * c.H * c.room * D;
    }
    const size_t pairs = value ? 0 : half;
    for (size_t d = threadIdx.x; d < pairs; d += blockDim.x) {
        const size_t first = neighbours ? 2 * d : d, second = neighbours ? 2 * d + 1 : d + half;
        const float x = llm_load(from, first), y = llm_load(from, second);
        const float cos_t = cosine[position * half + d], sin_t = sine[position * half + d];
        llm_store(to, first, x * cos_t - y * sin_t);
        llm_store(to, second, x * sin_t + y * cos_t);
    }
    for (size_t d = 2 * pairs + threadIdx.x; d < D && !query; d += blockDim.x)
        llm_store(to, d, llm_load(from, d));
}
/* Layer l <- k, v (B,H,n,D), n positions behind each row; k and q (B,Hq,n,D) are turned, q in
 * place, by the rows of cosine and sine (room,rot/2), tables of llm_rope_table for positions 0 ..
 * room-1. rot = 0 turns nothing; q may then be NULL, with Hq = 0. What does not fit in the room is
 * not stored. depth, not NULL: the n are nodes of a tree, and node i of row b is turned as position
 * depth[b apart + i] <= i behind the row. T is float or llm_bf16. */
template <typename T>
static inline cudaError_t
llm_cuda_kv_cache_append(const llm_cuda_kv_cache<T> *c, size_t l, T *q, const T *k, const T *v,
                         const float *cosine, const float *sine, size_t Hq, size_t n, size_t rot,
                         llm_rope_pairing pairing, cudaStream_t stream, const size_t *depth = NULL,
                         size_t apart = 0) {
    const size_t blocks = c->B * (Hq + 2 * c->H) * n;
    if (l >= c->L || rot % 2 != 0 || rot > c->D) return (cudaError_t)cudaErrorInvalidValue;
    if (blocks == 0 || c->D == 0) return cudaSuccess;
    const size_t threads = c->D < 256 ? c->D : 256;
    LLM_LAUNCH(llm_kv_cache_append_kernel<T>, (unsigned)blocks, llm_row_threads(threads), 0, stream,
               *c, l, q, k, v, cosine, sine, Hq, n, rot / 2, pairing == LLM_ROPE_NEIGHBOURS, depth,
               apart);
    return cudaGetLastError();
}

/* What llm_cuda_kv_cache_attend asks of gqa. */
template <typename T>
static inline llm_cuda_gqa_config llm_cuda_kv_cache_config(const llm_cuda_kv_cache<T> *c,
                                                           size_t Hq) {
    llm_cuda_gqa_config g = llm_cuda_gqa_defaults(c->B, Hq, c->H, 1, c->D);
    g.room = c->room;
    g.length = c->length;
    return g;
}
/* out (B,Hq,D) <- q (B,Hq,D): the query of the token that layer l has just appended to each row, as
 * llm_kv_cache_attend with n = 1. scratch: llm_cuda_gqa_scratch of llm_cuda_kv_cache_config. */
template <typename T>
static inline cudaError_t llm_cuda_kv_cache_attend(T *out, const llm_cuda_kv_cache<T> *c, size_t l,
                                                   const T *q, size_t Hq, float *scratch,
                                                   cudaStream_t stream) {
    if (l >= c->L) return (cudaError_t)cudaErrorInvalidValue;
    const llm_cuda_gqa_config g = llm_cuda_kv_cache_config(c, Hq);
    const T *k = llm_cuda_kv_cache_keys(*c, l);
    return llm_cuda_gqa_decode(out, q, k, k + c->B * c->H * c->room * c->D, &g, scratch, stream);
}

LLM_KERNEL void llm_kv_cache_advance_kernel(size_t *length, const size_t *count, size_t n, size_t B,
                                            size_t room) {
    for (size_t b = threadIdx.x; b < B; b += blockDim.x) {
        const size_t more = count ? count[b] : n, left = room - length[b];
        length[b] += more < left ? more : left;
    }
}
/* Row b becomes count[b] positions longer, or n with count NULL, and at most as long as the
 * room. */
template <typename T>
static inline cudaError_t llm_cuda_kv_cache_advance(const llm_cuda_kv_cache<T> *c,
                                                    const size_t *count, size_t n,
                                                    cudaStream_t stream) {
    if (c->B == 0) return cudaSuccess;
    LLM_LAUNCH(llm_kv_cache_advance_kernel, 1, llm_row_threads(c->B), 0, stream, c->length, count,
               n, c->B, c->room);
    return cudaGetLastError();
}

/* A block: 32 vectors of the same head, (layer, keys or values, head), of all rows. */
template <typename T, int W>
LLM_KERNEL void llm_kv_cache_reorder_kernel(llm_cuda_kv_cache<T> c, const size_t *parent) {
    LLM_DYNAMIC_SHARED(float, staged); /* [row][W][32]: lanes in different banks */
    const size_t row = c.room * c.D, lane = threadIdx.x, i = (blockIdx.x * 32 + lane) * W;
    const size_t half = blockIdx.y / c.H, h = blockIdx.y % c.H;
    T *head = c.memory + (half * c.B * c.H + h) * row;
    for (size_t b = 0; b < c.B; b++) {
        if (parent[b] == b || i >= c.length[parent[b]] * c.D) continue;
        float v[W];
        llm_load_vector(v, head, parent[b] * c.H * row + i);
        LLM_UNROLL
        for (size_t k = 0; k < W; k++) staged[(b * W + k) * 32 + lane] = v[k];
    }
    for (size_t b = 0; b < c.B; b++) {
        if (parent[b] == b || i >= c.length[parent[b]] * c.D) continue;
        float v[W];
        LLM_UNROLL
        for (size_t k = 0; k < W; k++) v[k] = staged[(b * W + k) * 32 + lane];
        llm_store_vector(head, b * c.H * row + i, v);
    }
}
LLM_KERNEL void llm_kv_cache_follow_kernel(size_t *length, const size_t *parent, size_t B) {
    const size_t b = threadIdx.x, mine = b < B ? length[parent[b]] : 0;
    __syncthreads();
    if (b < B) length[b] = mine;
}
/* Row b <- what row parent[b] was, for all rows at once, as llm_kv_cache_reorder: parent (B) on the
 * device, every parent[b] < B, B <= 224. */
template <typename T>
static inline cudaError_t llm_cuda_kv_cache_reorder(const llm_cuda_kv_cache<T> *c,
                                                    const size_t *parent, cudaStream_t stream) {
    enum { W = 16 / sizeof(T) };
    const size_t row = c->room * c->D;
    const bool wide = llm_aligned(c->memory, c->D);
    const unsigned width = 32 * (wide ? W : 1), heads = (unsigned)(2 * c->L * c->H);
    if (c->B > 224 || heads > 65535) return (cudaError_t)cudaErrorInvalidValue;
    if (c->B == 0 || row == 0 || heads == 0) return cudaSuccess;
    const auto reorder =
        wide ? llm_kv_cache_reorder_kernel<T, W> : llm_kv_cache_reorder_kernel<T, 1>;
    LLM_LAUNCH(reorder, dim3((unsigned)((row + width - 1) / width), heads), 32,
               c->B * width * sizeof(float), stream, *c, parent);
    const cudaError_t error = cudaGetLastError();
    if (error != cudaSuccess) return error;
    LLM_LAUNCH(llm_kv_cache_follow_kernel, 1, 256, 0, stream, c->length, parent, c->B);
    return cudaGetLastError();
}

/* @decoding ------------------------------------------------- The generation loop
 *
 * The loop without the host. What llm_decoding_run keeps in its rows stands on the device; behind
 * the model and a sampler one small kernel appends the tokens, sets the ends, and leaves what the
 * next turn needs: the last token of each row, whether it goes on, and the key of its next random
 * numbers. A turn is the same launches with the same arguments whatever the rows do, so hundreds
 * can be queued at once, or captured as a graph and replayed; the host looks at the number of open
 * rows every so many turns. Turns too many change nothing: a row that has ended is left alone.
 *
 *     begin     repeat:  model(next) -> logits    forbid    sample(logits, seed) -> token    take
 *
 * Moves a few dozen bytes a row. Limit: its launch, a few microseconds, which a copy to the host
 * and back, and a wait in between, would be many times.
 *
 * source  -
 * needs   cuda_launch, cuda_memory, cuda_rng
 * see     temperature, sampling, kv_cache
 * topics  -
 */

/* B rows on the device. Given: ids (B,capacity) with the prompts, length (B) and prompt (B), both
 * the lengths of the prompts; stream (B) or NULL for the row's number; stop (stops). Kept: end (B),
 * of llm_decoding_end; next (B), the last token of a row; count (B), 1 where the row goes on and 0
 * where not, for llm_cuda_kv_cache_advance; seed (B) for the sampler; open (1), the rows that go
 * on. logprob (B,capacity) or NULL. */
typedef struct {
    int *ids, *end, *next, *open;
    size_t *length, *count;
    const size_t *prompt;
    const uint64_t *stream;
    uint64_t *seed;
    float *logprob;
    const int *stop;
    size_t stops, B, capacity, max_new, min_new;
    uint64_t key;
} llm_cuda_decoding_rows;

/* What holds a row of so many tokens up, as llm_decoding_open. */
LLM_DEVICE int llm_cuda_decoding_end(const llm_cuda_decoding_rows &r, size_t b, size_t length) {
    if (length == 0) return LLM_DECODING_FAILED;
    if (length - r.prompt[b] >= r.max_new) return LLM_DECODING_BUDGET;
    return length >= r.capacity ? LLM_DECODING_FULL : LLM_DECODING_RUNNING;
}
/* token NULL: the rows begin. Else count[b] of token (B,apart), 1 with count NULL, and logprob (B)
 * or NULL of the first. */
LLM_KERNEL void llm_decoding_take_kernel(llm_cuda_decoding_rows r, const int *token,
                                         const float *logprob, const size_t *count, size_t apart) {
    int open = 0;
    for (size_t first = 0; first < r.B; first += blockDim.x) {
        const size_t b = first + threadIdx.x;
        bool running = false;
        if (b < r.B) {
            size_t length = r.length[b];
            int end = token ? r.end[b] : LLM_DECODING_RUNNING;
            const size_t many = !token ? 0 : count ? count[b] : 1;
            if (!token) end = llm_cuda_decoding_end(r, b, length);
            for (size_t k = 0; k < many && end == LLM_DECODING_RUNNING; k++) {
                const int y = token[b * apart + k];
                if (y < 0) {
                    end = LLM_DECODING_FAILED;
                    break;
                }
                if (r.logprob && logprob) r.logprob[b * r.capacity + length] = logprob[b];
                r.ids[b * r.capacity + length++] = y;
                end = llm_cuda_decoding_end(r, b, length);
                for (size_t s = 0; s < r.stops; s++)
                    if (y == r.stop[s]) end = LLM_DECODING_STOP;
            }
            r.length[b] = length;
            const size_t step = length - r.prompt[b];
            running = end == LLM_DECODING_RUNNING;
            r.end[b] = end;
            r.count[b] = running;
            r.next[b] = length > 0 ? r.ids[b * r.capacity + length - 1] : 0;
            uint32_t word[4]; /* llm_decoding_rng */
            llm_cuda_philox(word, r.stream ? r.stream[b] : b, r.key, step);
            r.seed[b] = (uint64_t)word[1] << 32 | word[0];
        }
        open += __syncthreads_count(running);
    }
    if (threadIdx.x == 0) *r.open = open;
}
/* The rows are at their prompts: sets what is kept. */
static inline __attribute__((unused)) cudaError_t
llm_cuda_decoding_begin(const llm_cuda_decoding_rows *r, cudaStream_t stream) {
    LLM_LAUNCH(llm_decoding_take_kernel, 1, r->B < 1024 ? llm_row_threads(r->B) : 1024, 0, stream,
               *r, NULL, NULL, NULL, 1);
    return cudaGetLastError();
}
/* Appends token (B), and logprob (B) or NULL, to the rows that go on; -1 ends a row as FAILED. */
static inline __attribute__((unused)) cudaError_t
llm_cuda_decoding_take(const llm_cuda_decoding_rows *r, const int *token, const float *logprob,
                       cudaStream_t stream) {
    LLM_LAUNCH(llm_decoding_take_kernel, 1, r->B < 1024 ? llm_row_threads(r->B) : 1024, 0, stream,
               *r, token, logprob, NULL, 1);
    return cudaGetLastError();
}
/* Appends count[b] of token (B,apart) to each row b that goes on, one after the other until it
 * ends: what a turn of @speculative, @medusa_tree or @lookahead has accepted. */
static inline __attribute__((unused)) cudaError_t
llm_cuda_decoding_take_many(const llm_cuda_decoding_rows *r, const int *token, const size_t *count,
                            size_t apart, cudaStream_t stream) {
    LLM_LAUNCH(llm_decoding_take_kernel, 1, r->B < 1024 ? llm_row_threads(r->B) : 1024, 0, stream,
               *r, token, NULL, count, apart);
    return cudaGetLastError();
}

template <typename T>
LLM_KERNEL void llm_decoding_forbid_kernel(llm_cuda_decoding_rows r, T *logits, size_t V) {
    const size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x, b = i / r.stops;
    if (b >= r.B || r.length[b] - r.prompt[b] >= r.min_new) return;
    const int y = r.stop[i % r.stops];
    if (y >= 0 && (size_t)y < V) llm_store(logits, b * V + (size_t)y, -INFINITY);
}
/* logits (B,V): stop tokens cannot be chosen before a row has min_new tokens. */
template <typename T>
static inline cudaError_t llm_cuda_decoding_forbid(const llm_cuda_decoding_rows *r, T *logits,
                                                   size_t V, cudaStream_t stream) {
    const size_t all = r->B * r->stops;
    if (all == 0 || r->min_new == 0) return cudaSuccess;
    LLM_LAUNCH(llm_decoding_forbid_kernel<T>, (unsigned)((all + 127) / 128), 128, 0, stream, *r,
               logits, V);
    return cudaGetLastError();
}

/* @greedy --------------------------------------------------- Greedy decoding
 *
 * The argmax of each row. Value and index in one integer of 64 bits make ties a matter of
 * comparing: the value's bits on top, turned so that they order as the values do, below them the
 * index, turned round, so that the largest integer is the lowest index of the largest value. The
 * maximum of integers is the same in any order, so a row may be cut into pieces, and the result
 * has the same bits for any number of them. NaN stands above infinity and is found by the way.
 *
 * A few rows do not fill the card: up to 32 blocks share one, and a second launch, a warp a row,
 * takes the largest of theirs. Reads each logit once, the minimum. Limit: memory bandwidth; for a
 * few rows the two launches.
 *
 * source  -
 * needs   cuda_launch, cuda_memory, cuda_reduce, cuda_select
 * see     temperature, top_k
 * topics  -
 */
enum { LLM_CUDA_GREEDY_PIECES = 32 }; /* at most, of a row: the lanes that merge them */

/* Never 0, which is the key of nothing. */
LLM_DEVICE unsigned long long llm_cuda_greedy_key(float x, size_t i) {
    return (unsigned long long)llm_select_order(x) << 32 | (0xffffffffu - (uint32_t)i);
}
/* The index in a key, -1 when the key is that of a NaN or of nothing. */
LLM_DEVICE int llm_cuda_greedy_token(unsigned long long key) {
    return key == 0 || key >> 32 == 0xffffffffu ? -1 : (int)(0xffffffffu - (uint32_t)key);
}
/* Blocks for each of `rows` rows of V entries: enough for two a multiprocessor, none idle. */
static inline __attribute__((unused)) unsigned llm_cuda_greedy_pieces(size_t rows, size_t V) {
    const size_t fill = (2 * llm_multiprocessors() + rows - 1) / rows, full = (V + 4095) / 4096;
    const size_t most = LLM_CUDA_GREEDY_PIECES, pieces = fill < full ? fill : full;
    return (unsigned)(pieces < most ? pieces : most);
}

template <typename T, int W>
LLM_KERNEL void __launch_bounds__(1024)
    llm_greedy_pick_kernel(int *token, unsigned long long *part, const T *logits, size_t V,
                           unsigned pieces) {
    const size_t row = blockIdx.x / pieces, piece = blockIdx.x % pieces;
    unsigned long long key = 0;
    float best = -INFINITY; /* that of key: most entries cost one comparison */
    for (size_t i = (piece * blockDim.x + threadIdx.x) * W; i < V;
         i += (size_t)pieces * blockDim.x * W) {
        float v[W];
        llm_load_vector(v, logits, row * V + i);
        LLM_UNROLL
        for (int k = 0; k < W; k++) {
            if (v[k] <= best && key != 0) continue; /* a NaN goes on, and so does the first */
            if (best == best) key = llm_cuda_greedy_key(v[k], i + (size_t)k), best = v[k];
        }
    }
    key = llm_select_block_max(key);
    if (threadIdx.x != 0) return;
    if (pieces == 1)
        token[row] = llm_cuda_greedy_token(key);
    else
        part[row * pieces + piece] = key;
}
LLM_KERNEL void llm_greedy_merge_kernel(int *token, const unsigned long long *part, size_t rows,
                                        unsigned pieces) {
    const llm_row_place p = llm_my_row<true>();
    if (p.row >= rows) return;
    const unsigned long long key =
        llm_select_warp_max(p.lane < pieces ? part[p.row * pieces + p.lane] : 0);
    if (p.lane == 0) token[p.row] = llm_cuda_greedy_token(key);
}

/* token (rows) <- llm_greedy_pick of each row of logits (rows,V): -1 where one is NaN. T is float
 * or llm_bf16. part (rows, LLM_CUDA_GREEDY_PIECES) is scratch. */
template <typename T>
static inline cudaError_t llm_cuda_greedy_pick(int *token, unsigned long long *part,
                                               const T *logits, size_t rows, size_t V,
                                               cudaStream_t stream) {
    enum { W = 16 / sizeof(T) };
    if (V == 0 || V > 0x7fffffff) return (cudaError_t)cudaErrorInvalidValue;
    if (rows == 0) return cudaSuccess;
    const bool wide = llm_aligned(logits, V);
    const unsigned pieces = llm_cuda_greedy_pieces(rows, V);
    const auto greedy_pick = wide ? llm_greedy_pick_kernel<T, W> : llm_greedy_pick_kernel<T, 1>;
    LLM_LAUNCH(greedy_pick, (unsigned)rows * pieces, llm_row_threads(wide ? V / W : V), 0, stream,
               token, part, logits, V, pieces);
    if (pieces > 1)
        LLM_LAUNCH(llm_greedy_merge_kernel, llm_row_blocks(rows, true), 128, 0, stream, token, part,
                   rows, pieces);
    return cudaGetLastError();
}

/* @greedy_head ---------------------------------------------- The argmax of a head, without logits
 *
 * The product of the head with up to 8 hidden states, of which only the largest logit's place is
 * wanted: a lane keeps the best key (@greedy) of one token over all rows that its warp multiplies,
 * the warps of a block meet in shared memory, the blocks in a second launch. No logit is written.
 * The norm in front of the head is half done: its gains go into the product, its root is a positive
 * factor of all logits of a token, changes no argmax, and is not computed. Weights stay in their
 * file's form (@stored_matrix); a warp takes two rows at a time, as @stored_matrix_product.
 *
 * Moves the weights once, the minimum, and 8 bytes a token and block instead of 8 a logit: 1 byte
 * in a thousand of the weights for 4096 channels, so what is saved is a launch and the room of the
 * logits. 2 V C operations a token. Limit: memory bandwidth.
 *
 * source  -
 * needs   cuda_launch, cuda_memory, cuda_reduce, cuda_select, stored_matrix, stored_matrix_product,
 *         greedy
 * see     decoding_step, medusa_tree
 * topics  -
 */
enum { LLM_CUDA_GREEDY_HEAD_BLOCKS = 4096 }; /* at most, a key of each token in scratch */

/* w: V rows of C weights; x (tokens,C) of at most N tokens; gain (C) or NULL. Eight warps a block. */
template <int type, int N, typename X>
LLM_KERNEL void __launch_bounds__(256)
    llm_greedy_head_kernel(unsigned long long *part, const unsigned char *data, size_t stride,
                           size_t V, const X *x, const float *gain, size_t tokens, size_t C) {
    __shared__ unsigned long long found[8][N];
    const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const unsigned at = llm_cuda_stored_matrix_first<type>(lane);
    const unsigned apart = llm_cuda_stored_matrix_apart<type>();
    unsigned long long best = 0; /* of token `lane` */
    for (size_t row = 2 * (blockIdx.x * 8 + warp); row < V; row += 16 * (size_t)gridDim.x) {
        const unsigned char *w[2] = {data + row * stride, data + (row + 1) * stride};
        float sum[2][N] = {};
        for (size_t i = at; i < C; i += 256) {
            float w_v[2][8] = {}, part_v[4];
            LLM_UNROLL
            for (size_t r = 0; r < 2; r++) {
                if (row + r < V) llm_cuda_stored_matrix_take<type>(w_v[r], w[r], lane);
                w[r] += llm_cuda_stored_matrix_piece<type>();
            }
            LLM_UNROLL
            for (int k = 0; k < 8 && gain; k++) {
                if (k % 4 == 0) llm_load_vector(part_v, gain, i + (size_t)(k / 4) * apart);
                w_v[0][k] *= part_v[k % 4], w_v[1][k] *= part_v[k % 4];
            }
            LLM_UNROLL
            for (size_t n = 0; n < N; n++) {
                if (n >= tokens) continue;
                LLM_UNROLL
                for (int k = 0; k < 8; k++) {
                    if (k % 4 == 0) llm_load_vector(part_v, x, n * C + i + (size_t)(k / 4) * apart);
                    sum[0][n] += w_v[0][k] * part_v[k % 4], sum[1][n] += w_v[1][k] * part_v[k % 4];
                }
            }
        }
        LLM_UNROLL
        for (size_t n = 0; n < N; n++) {
            if (n >= tokens) continue;
            LLM_UNROLL
            for (size_t r = 0; r < 2; r++) {
                const float z = llm_warp_sum(sum[r][n]);
                const unsigned long long key = llm_cuda_greedy_key(z, row + r);
                if (lane == n && row + r < V && key > best) best = key;
            }
        }
    }
    if (lane < N) found[warp][lane] = best;
    __syncthreads();
    if (threadIdx.x >= tokens) return;
    for (unsigned i = 0; i < 8; i++)
        best = found[i][threadIdx.x] > best ? found[i][threadIdx.x] : best;
    part[threadIdx.x * gridDim.x + blockIdx.x] = best;
}
/* A block a token: the best of the blocks' keys. */
LLM_KERNEL void llm_greedy_head_merge_kernel(int *token, const unsigned long long *part,
                                             size_t blocks) {
    unsigned long long key = 0;
    for (size_t i = threadIdx.x; i < blocks; i += blockDim.x) {
        const unsigned long long other = part[blockIdx.x * blocks + i];
        key = other > key ? other : key;
    }
    key = llm_select_block_max(key);
    if (threadIdx.x == 0) token[blockIdx.x] = llm_cuda_greedy_token(key);
}
template <typename X> struct llm_cuda_greedy_head_launch {
    int *token;
    unsigned long long *part;
    const X *x;
    const llm_stored_matrix &w;
    const float *gain;
    size_t N;
    cudaStream_t stream;
    /* With the kernel of one form. */
    template <int type> cudaError_t run(void) const {
        enum { most = LLM_CUDA_STORED_MATRIX_PRODUCT_TOKENS };
        const size_t all = (w.rows + 15) / 16, fill = 16 * (size_t)llm_multiprocessors();
        const size_t room = LLM_CUDA_GREEDY_HEAD_BLOCKS, bound = fill < room ? fill : room;
        const unsigned blocks = (unsigned)(all < bound ? all : bound);
        const auto head =
            N == 1 ? llm_greedy_head_kernel<type, 1, X> : llm_greedy_head_kernel<type, most, X>;
        LLM_LAUNCH(head, blocks, 256, 0, stream, part, w.data, llm_stored_matrix_stride(&w), w.rows,
                   x, gain, N, w.columns);
        LLM_LAUNCH(llm_greedy_head_merge_kernel, (unsigned)N, 256, 0, stream, token, part, blocks);
        return cudaGetLastError();
    }
};
/* token (N) <- llm_greedy_pick of the logits N(x) w^T for x (N,columns), N <= 8: -1 where one is
 * NaN. N is RMSNorm with gain (columns), or nothing where that is NULL. part: scratch of N
 * LLM_CUDA_GREEDY_HEAD_BLOCKS keys. w.data is on the device; X is float or llm_bf16. */
template <typename X>
static inline cudaError_t llm_cuda_greedy_head_pick(int *token, unsigned long long *part,
                                                    const X *x, const llm_stored_matrix &w,
                                                    const float *gain, size_t N,
                                                    cudaStream_t stream) {
    if (!llm_cuda_stored_matrix_fits(w) || !llm_aligned(x, 8) || !llm_aligned(gain, 8) ||
        N > LLM_CUDA_STORED_MATRIX_PRODUCT_TOKENS || w.rows == 0 || w.rows > 0x7fffffff)
        return cudaErrorInvalidValue;
    if (N == 0) return cudaSuccess;
    const llm_cuda_greedy_head_launch<X> launch = {token, part, x, w, gain, N, stream};
    return llm_cuda_stored_matrix_each((int)w.type, launch);
}

/* @temperature ---------------------------------------------- Softmax temperature
 *
 * A token drawn from softmax(logits / temp) in one pass: the largest of z_i / temp + g_i, where the
 * Gumbel noise g_i is made from word i of the row's Philox stream, the word that the reference
 * takes. No probability is needed for that; the pair (max, sum) of logsumexp comes along, for the
 * log-probability of what was drawn. Rows are cut into pieces and merged as in greedy.
 *
 * The noise is what costs: 5 multiplications of Philox and two logarithms an entry. It is at most
 * 16.64, u being at most 1 - 2^-24, so an entry that lies further than that below the best score so
 * far has lost before it drew, and its number need not be made: in a peaked distribution, most.
 *
 * Reads each logit once, the minimum. Limit: memory bandwidth where most entries are skipped, else
 * the arithmetic of the noise; for a few rows the two launches.
 *
 * source  -
 * needs   cuda_launch, cuda_memory, cuda_rng, cuda_reduce, cuda_select, logsumexp, greedy
 * see     top_p, sampling
 * topics  -
 */
struct llm_cuda_temperature_part {
    unsigned long long key; /* of the best score */
    llm_logsumexp_pair pair;
};

/* The noise that llm_temperature_gumbel makes of a word. */
LLM_DEVICE float llm_cuda_temperature_noise(uint32_t word) {
    const float u = ((float)(word >> 9) + 0.5f) * (1.0f / 8388608.0f);
    return -logf(-logf(u));
}
/* part with entries v from column i on, i a multiple of W, drawn from the stream of seed. */
template <int W>
LLM_DEVICE void llm_cuda_temperature_add(llm_cuda_temperature_part &part, float &best,
                                         const float (&v)[W], size_t i, uint64_t seed) {
    uint32_t word[4];
    size_t drawn = (size_t)-1; /* the block of four words that `word` holds */
    llm_cuda_logsumexp_add(part.pair, v, 1.0f);
    LLM_UNROLL
    for (int k = 0; k < W; k++) {
        const size_t column = i + (size_t)k;
        if (v[k] + 16.7f <= best) continue; /* a NaN goes on */
        if (column / 4 != drawn) llm_cuda_philox(word, drawn = column / 4, seed);
        const unsigned place = W == 1 ? (unsigned)(column % 4) : (unsigned)k % 4;
        const uint32_t low = place & 1 ? word[1] : word[0], high = place & 1 ? word[3] : word[2];
        const float score = v[k] + llm_cuda_temperature_noise(place & 2 ? high : low);
        if (!(score <= best) && best == best)
            part.key = llm_cuda_greedy_key(score, column), best = score;
    }
}
/* The merged part of a row; logits are those of the row. */
template <typename T>
LLM_DEVICE void llm_cuda_temperature_finish(int *token, float *logprob, size_t row,
                                            llm_cuda_temperature_part part, const T *logits,
                                            size_t V, float temp) {
    const int found = llm_cuda_greedy_token(part.key);
    token[row] = found;
    if (!logprob) return;
    const float z = found < 0 ? NAN : llm_load(logits, row * V + (size_t)found) / temp;
    logprob[row] = (z - part.pair.max) - logf(part.pair.sum);
}

template <typename T, int W>
LLM_KERNEL void __launch_bounds__(1024)
    llm_temperature_gumbel_kernel(int *token, float *logprob, llm_cuda_temperature_part *parts,
                                  const T *logits, const uint64_t *seed, size_t V, float temp,
                                  unsigned pieces) {
    const size_t row = blockIdx.x / pieces, piece = blockIdx.x % pieces;
    llm_cuda_temperature_part part = {0, {-INFINITY, 0.0f}};
    float best = -INFINITY;
    for (size_t i = (piece * blockDim.x + threadIdx.x) * W; i < V;
         i += (size_t)pieces * blockDim.x * W) {
        float v[W];
        llm_load_vector(v, logits, row * V + i);
        LLM_UNROLL
        for (int k = 0; k < W; k++) v[k] /= temp;
        llm_cuda_temperature_add(part, best, v, i, seed[row]);
    }
    part.key = llm_select_block_max(part.key);
    part.pair = llm_cuda_logsumexp_row<false>(part.pair, 1.0f);
    if (threadIdx.x != 0) return;
    if (pieces == 1)
        llm_cuda_temperature_finish(token, logprob, row, part, logits, V, temp);
    else
        parts[row * pieces + piece] = part;
}
template <typename T>
LLM_KERNEL void
llm_temperature_merge_kernel(int *token, float *logprob, const llm_cuda_temperature_part *parts,
                             const T *logits, size_t rows, size_t V, float temp, unsigned pieces) {
    const llm_row_place p = llm_my_row<true>();
    if (p.row >= rows) return;
    llm_cuda_temperature_part part = {0, {-INFINITY, 0.0f}};
    if (p.lane < pieces) part = parts[p.row * pieces + p.lane];
    part.key = llm_select_warp_max(part.key);
    part.pair = llm_cuda_logsumexp_row<true>(part.pair, 1.0f);
    if (p.lane == 0) llm_cuda_temperature_finish(token, logprob, p.row, part, logits, V, temp);
}

/* token (rows) <- llm_temperature_gumbel of each row of logits (rows,V) with a generator of
 * llm_rng_seed(seed[row]): the same token, but where two scores differ in the last digits of a
 * logarithm only. logprob (rows) or NULL: log softmax(logits / temp) of it. A row with a NaN, or
 * with nothing but -inf, gives -1 and NaN. temp > 0; T is float or llm_bf16. parts (rows,
 * LLM_CUDA_GREEDY_PIECES) is scratch. */
template <typename T>
static inline cudaError_t
llm_cuda_temperature_gumbel(int *token, float *logprob, llm_cuda_temperature_part *parts,
                            const T *logits, const uint64_t *seed, size_t rows, size_t V,
                            float temp, cudaStream_t stream) {
    enum { W = 16 / sizeof(T) };
    if (V == 0 || V > 0x7fffffff || !(temp > 0.0f)) return (cudaError_t)cudaErrorInvalidValue;
    if (rows == 0) return cudaSuccess;
    const bool wide = llm_aligned(logits, V);
    const unsigned pieces = llm_cuda_greedy_pieces(rows, V);
    const auto gumbel =
        wide ? llm_temperature_gumbel_kernel<T, W> : llm_temperature_gumbel_kernel<T, 1>;
    LLM_LAUNCH(gumbel, (unsigned)rows * pieces, llm_row_threads(wide ? V / W : V), 0, stream, token,
               logprob, parts, logits, seed, V, temp, pieces);
    if (pieces > 1)
        LLM_LAUNCH(llm_temperature_merge_kernel<T>, llm_row_blocks(rows, true), 128, 0, stream,
                   token, logprob, parts, logits, rows, V, temp, pieces);
    return cudaGetLastError();
}

/* @top_k ---------------------------------------------------- Top-k sampling
 *
 * Filter: four passes of cuda_select find the cut, one writes. Sampling: one for the largest, four,
 * and one for the sum of what is kept; the row itself is not written. Of a row that is read n times
 * the first comes from memory and the others from L2 (50257 floats are 200 KB), where the minimum
 * is one reading. Limit: what one multiprocessor takes from L2; with few rows most of the card is
 * idle.
 *
 * source  -
 * needs   cuda_launch, cuda_memory, cuda_select, cuda_cut, cuda_draw
 * see     top_p, min_p, sampling
 * topics  -
 */
template <typename T, int W>
LLM_KERNEL void __launch_bounds__(1024)
    llm_top_k_filter_kernel(T *logits, size_t V, unsigned count) {
    T *x = logits + blockIdx.x * V;
    llm_select_keep<T, W>(x, V, llm_select_cut<unsigned, T, W>(x, V, 0, count, 0.0f, true));
}
/* logits (rows,V) in place: llm_top_k_filter of each row; T is float or llm_bf16. */
template <typename T>
static inline cudaError_t llm_cuda_top_k_filter(T *logits, size_t rows, size_t V, size_t k,
                                                cudaStream_t stream) {
    enum { W = 16 / sizeof(T) };
    if (V > 0x7fffffff) return (cudaError_t)cudaErrorInvalidValue;
    if (rows == 0 || k == 0 || k >= V) return cudaSuccess;
    const bool wide = llm_aligned(logits, V);
    const auto top_k_filter = wide ? llm_top_k_filter_kernel<T, W> : llm_top_k_filter_kernel<T, 1>;
    LLM_LAUNCH(top_k_filter, (unsigned)rows, llm_row_threads(wide ? V / W : V), 0, stream, logits,
               V, (unsigned)k);
    return cudaGetLastError();
}

template <typename T, int W>
LLM_KERNEL void __launch_bounds__(1024, 1)
    llm_top_k_sample_kernel(int *token, const T *logits, const uint64_t *seed, size_t V,
                            unsigned count) {
    const T *x = logits + blockIdx.x * V;
    const unsigned long long max = llm_select_max<T, W>(x, V);
    if (!llm_select_drawable(max)) {
        if (threadIdx.x == 0) token[blockIdx.x] = -1;
        return;
    }
    unsigned long long kept = 0;
    if (count > 0) kept = llm_select_cut<unsigned, T, W>(x, V, kept, count, 0.0f, true);
    llm_draw_entry<T, W>(token + blockIdx.x, x, V, kept, llm_select_value(max),
                         llm_draw_uniform(seed[blockIdx.x]));
}
/* token (rows) <- of each row of logits (rows,V) what llm_top_k_filter and llm_sampling_draw with a
 * generator of llm_rng_seed(seed[row]) would choose: -1 where one is NaN or all are -inf. k = 0 and
 * k >= V draw from all. T is float or llm_bf16. */
template <typename T>
static inline cudaError_t llm_cuda_top_k_sample(int *token, const T *logits, const uint64_t *seed,
                                                size_t rows, size_t V, size_t k,
                                                cudaStream_t stream) {
    enum { W = 16 / sizeof(T) };
    if (V == 0 || V > 0x7fffffff) return (cudaError_t)cudaErrorInvalidValue;
    if (rows == 0) return cudaSuccess;
    const bool wide = llm_aligned(logits, V);
    const auto top_k_sample = wide ? llm_top_k_sample_kernel<T, W> : llm_top_k_sample_kernel<T, 1>;
    LLM_LAUNCH(top_k_sample, (unsigned)rows, llm_row_threads(wide ? V / W : V), 0, stream, token,
               logits, seed, V, (unsigned)(k < V ? k : 0));
    return cudaGetLastError();
}

/* @top_p ---------------------------------------------------- Top-p (nucleus) sampling
 *
 * Filter: the cut of cuda_select at a mass instead of a count, equal logits told apart by index.
 *
 * Sampling needs no cut. Draw from all; the drawn token belongs to the nucleus when the tokens
 * above it have less mass than p, and one pass says so. If they have p or more, the nucleus lies
 * among them: draw again, from those above only. What is accepted has the distribution of the
 * nucleus, as in any rejection. The place of a draw in the order of probabilities, measured in
 * mass, is uniform, so the first is accepted with probability p or more, and the expected number of
 * rounds is 1 + ln(1 / p) at most: 1.1 for p = 0.9. Masses are sums of integers, so filter and
 * sampler agree on every token.
 *
 * Reads the row 1 (largest) + 1 (whole mass) + 1 a round times, and a warp's stretch again for each
 * draw; the minimum is one reading; all but the first come from L2. The filter: 7 and a write.
 * Limit: what one multiprocessor takes from L2.
 *
 * source  Ye et al. 2024, "Sorting-Free GPU Kernels for LLM Sampling" (FlashInfer)
 * needs   cuda_launch, cuda_memory, cuda_rng, cuda_select, cuda_cut
 * see     top_k, min_p, sampling
 * topics  -
 */

/* The mass that has to be reached: an integer above 0, so that something is kept. */
LLM_DEVICE unsigned long long llm_cuda_top_p_target(float p, unsigned long long whole) {
    const double target = ceil((double)p * (double)whole);
    return target < 1.0 ? 1 : target < (double)whole ? (unsigned long long)target : whole;
}
/* The cut of the nucleus of what is kept of row x, max its largest pair. */
template <typename T, int W>
LLM_DEVICE unsigned long long llm_cuda_top_p_cut(const T *x, size_t V, unsigned long long kept,
                                                 float p, float max) {
    unsigned long long before, mine;
    const unsigned long long whole = llm_select_mass<T, W>(x, V, kept, max, &before, &mine);
    return llm_select_cut<unsigned long long, T, W>(x, V, kept, llm_cuda_top_p_target(p, whole),
                                                    max, false);
}
template <typename T, int W>
LLM_KERNEL void __launch_bounds__(1024) llm_top_p_filter_kernel(T *logits, size_t V, float p) {
    T *x = logits + blockIdx.x * V;
    const unsigned long long max = llm_select_max<T, W>(x, V);
    if (!llm_select_drawable(max)) return;
    llm_select_keep<T, W>(x, V, llm_cuda_top_p_cut<T, W>(x, V, 0, p, llm_select_value(max)));
}
/* logits (rows,V) in place: llm_top_p_filter of each row with min_keep = 1, up to 2^23 entries;
 * p >= 1 changes nothing. A row with a NaN, or with nothing but -inf, stays. T is float or
 * llm_bf16. */
template <typename T>
static inline cudaError_t llm_cuda_top_p_filter(T *logits, size_t rows, size_t V, float p,
                                                cudaStream_t stream) {
    enum { W = 16 / sizeof(T) };
    if (!(p >= 0.0f) || V > 1u << 23) return (cudaError_t)cudaErrorInvalidValue;
    if (rows == 0 || V == 0 || p >= 1.0f) return cudaSuccess;
    const bool wide = llm_aligned(logits, V);
    const auto top_p_filter = wide ? llm_top_p_filter_kernel<T, W> : llm_top_p_filter_kernel<T, 1>;
    LLM_LAUNCH(top_p_filter, (unsigned)rows, llm_row_threads(wide ? V / W : V), 0, stream, logits,
               V, p);
    return cudaGetLastError();
}

/* The pair of the entry of this warp's stretch of x at which the mass of what is kept exceeds goal,
 * of which the stretches before have `before`; in one lane, 0 in the others. */
template <typename T, int W>
LLM_DEVICE unsigned long long llm_cuda_top_p_walk(const T *x, size_t V, unsigned long long kept,
                                                  float max, unsigned long long before,
                                                  unsigned long long goal) {
    const llm_select_span span = llm_select_my_span<W>(V);
    const unsigned lane = threadIdx.x % 32;
    for (size_t from = span.begin - lane * W; from < span.end; from += 32 * W) {
        const size_t i = from + lane * W;
        unsigned long long pair[W], own[W], sum = 0;
        float v[W];
        if (i < span.end) llm_load_vector(v, x, i);
        LLM_UNROLL
        for (int k = 0; k < W; k++) {
            pair[k] = i < span.end ? llm_select_pair(v[k], i + (size_t)k) : 0;
            own[k] = 0;
            if (i < span.end && pair[k] >= kept)
                own[k] = llm_select_weight<unsigned long long>(v[k], max);
            sum += own[k];
        }
        const unsigned long long upto = llm_select_scan(sum);
        unsigned long long below = before + upto - sum, found = 0;
        LLM_UNROLL
        for (int k = 0; k < W; k++) { /* integers: goal lies in exactly one of all intervals */
            if (goal >= below && goal < below + own[k]) found = pair[k];
            below += own[k];
        }
        if (__any_sync(0xffffffffu, found != 0)) return found;
        before += __shfl_sync(0xffffffffu, upto, 31);
    }
    return 0;
}
template <typename T, int W>
LLM_KERNEL void __launch_bounds__(1024)
    llm_top_p_sample_kernel(int *token, const T *logits, const uint64_t *seed, size_t V, float p) {
    __shared__ unsigned long long drawn;
    const T *x = logits + blockIdx.x * V;
    const unsigned long long largest = llm_select_max<T, W>(x, V);
    const float max = llm_select_value(largest);
    unsigned long long kept = 0, target = 0, before, mine;
    for (unsigned round = 0; llm_select_drawable(largest); round++) {
        const unsigned long long mass = llm_select_mass<T, W>(x, V, kept, max, &before, &mine);
        if (round == 0) target = llm_cuda_top_p_target(p, mass);
        if (round > 0 && mass < target) break; /* too little lies above what was drawn: it stays */
        uint32_t word[4];
        llm_cuda_philox(word, round / 4, seed[blockIdx.x]);
        const uint32_t low = round & 1 ? word[1] : word[0], high = round & 1 ? word[3] : word[2];
        const unsigned long long u = (round & 2 ? high : low) >> 8; /* floor(u / 2^24 mass) */
        const unsigned long long goal = u * (mass >> 24) + (u * (mass & 0xffffff) >> 24);
        if (goal >= before && goal < before + mine) {
            const unsigned long long found =
                llm_cuda_top_p_walk<T, W>(x, V, kept, max, before, goal);
            if (found != 0) drawn = found;
        }
        __syncthreads();
        kept = drawn + 1; /* read again behind the barriers of the next sum */
    }
    if (threadIdx.x == 0) token[blockIdx.x] = kept == 0 ? -1 : (int)((kept - 1) & 0xffffffffu);
}
/* token (rows) <- drawn from the nucleus of each row of logits (rows,V), the tokens that
 * llm_cuda_top_p_filter keeps; -1 where one is NaN or all are -inf. Round r takes number r of the
 * generator of llm_rng_seed(seed[row]). T is float or llm_bf16. */
template <typename T>
static inline cudaError_t llm_cuda_top_p_sample(int *token, const T *logits, const uint64_t *seed,
                                                size_t rows, size_t V, float p,
                                                cudaStream_t stream) {
    enum { W = 4 }; /* 8 would take more registers than 1024 threads have */
    if (!(p >= 0.0f) || V == 0 || V > 1u << 23) return (cudaError_t)cudaErrorInvalidValue;
    if (rows == 0) return cudaSuccess;
    const bool wide = llm_aligned(logits, V);
    const auto top_p_sample = wide ? llm_top_p_sample_kernel<T, W> : llm_top_p_sample_kernel<T, 1>;
    LLM_LAUNCH(top_p_sample, (unsigned)rows, llm_row_threads(wide ? V / W : V), 0, stream, token,
               logits, seed, V, p);
    return cudaGetLastError();
}

/* @min_p ---------------------------------------------------- Min-p, epsilon, eta, n-sigma
 *
 * Rules that keep a token for its probability alone are thresholds on its logit, found without
 * making probabilities: p_v >= a max p is z_v >= max z + log a, and with S = sum exp(z - max z)
 * p_v >= e is z_v >= max z + log(e S). Min-p needs the largest logit and nothing else; the others
 * one pass of sums more. (Typical sampling keeps tokens from both ends and is not here.)
 *
 * A block takes a row: 2 readings for min-p, 3 for the others, and a write, where the minimum is
 * one of each; the later readings come from L2. Limit: what one multiprocessor takes from L2.
 *
 * source  -
 * needs   cuda_launch, cuda_memory, cuda_reduce, cuda_select
 * see     top_k, top_p, sampling
 * topics  -
 */

/* Do llm_cuda_min_p_cut and llm_cuda_min_p_filter know this rule? */
LLM_HOST_DEVICE bool llm_cuda_min_p_known(llm_sampling_kind kind) {
    return kind == LLM_SAMPLING_MIN_P || kind == LLM_SAMPLING_EPSILON || kind == LLM_SAMPLING_ETA ||
           kind == LLM_SAMPLING_TOP_N_SIGMA;
}
/* The cut of a rule with its value, of what is kept of row x, max its largest. */
template <typename T, int W>
LLM_DEVICE unsigned long long llm_cuda_min_p_cut(const T *x, size_t V, unsigned long long kept,
                                                 float max, llm_sampling_kind kind, float value) {
    double least = (double)max + log((double)value);
    if (kind != LLM_SAMPLING_MIN_P) {
        const llm_select_span span = llm_select_my_span<W>(V);
        const bool sigma = kind == LLM_SAMPLING_TOP_N_SIGMA;
        double sum = 0.0, first = 0.0, second = 0.0; /* of weights, and of weight d, d^2 */
        for (size_t i = span.begin; i < span.end; i += 32 * W) {
            float v[W];
            llm_load_vector(v, x, i);
            LLM_UNROLL
            for (int k = 0; k < W; k++) {
                if (v[k] == -INFINITY || llm_select_pair(v[k], i + (size_t)k) < kept) continue;
                const double d = (double)v[k] - (double)max;
                const double weight = sigma ? 1.0 : (double)expf((float)d);
                sum += weight;
                first += weight * d;
                second += weight * d * d;
            }
        }
        sum = llm_block_sum(sum);
        first = llm_block_sum(first) / sum;
        second = llm_block_sum(second) / sum;
        if (sigma) {
            least = (double)max - (double)value * sqrt(fmax(second - first * first, 0.0));
        } else { /* H = log S - E d */
            const double entropy = log(sum) - first, epsilon = (double)value;
            const double scaled = sqrt(epsilon) * exp(-entropy);
            const bool eta = kind == LLM_SAMPLING_ETA;
            least = (double)max + log((eta ? fmin(epsilon, scaled) : epsilon) * sum);
        }
    }
    const float edge = least < (double)max ? (float)least : max; /* the largest stays */
    const unsigned long long cut = (unsigned long long)llm_select_order(edge) << 32;
    return cut > kept ? cut : kept;
}
template <typename T, int W>
LLM_KERNEL void __launch_bounds__(1024)
    llm_min_p_filter_kernel(T *logits, size_t V, llm_sampling_kind kind, float value) {
    T *x = logits + blockIdx.x * V;
    const unsigned long long max = llm_select_max<T, W>(x, V);
    if (!llm_select_drawable(max)) return;
    llm_select_keep<T, W>(x, V,
                          llm_cuda_min_p_cut<T, W>(x, V, 0, llm_select_value(max), kind, value));
}
/* logits (rows,V) in place: each row as by llm_min_p_filter, _epsilon, _eta or _top_n_sigma with
 * min_keep = 1, where no entry lies on the threshold but for rounding. The largest and its equals
 * stay. A row with a NaN, or with nothing but -inf, stays. T is float or llm_bf16. */
template <typename T>
static inline cudaError_t llm_cuda_min_p_filter(T *logits, size_t rows, size_t V,
                                                llm_sampling_kind kind, float value,
                                                cudaStream_t stream) {
    enum { W = 16 / sizeof(T) };
    if (!llm_cuda_min_p_known(kind) || !(value >= 0.0f) || V > 0x7fffffff)
        return (cudaError_t)cudaErrorInvalidValue;
    if (rows == 0 || V == 0) return cudaSuccess;
    const bool wide = llm_aligned(logits, V);
    const auto min_p_filter = wide ? llm_min_p_filter_kernel<T, W> : llm_min_p_filter_kernel<T, 1>;
    LLM_LAUNCH(min_p_filter, (unsigned)rows, llm_row_threads(wide ? V / W : V), 0, stream, logits,
               V, kind, value);
    return cudaGetLastError();
}

/* @frequency_penalty ---------------------------------------- Penalties of tokens that were said
 *
 * Repetition, frequency and presence at once, charged to the tokens of a window and to no others.
 * Nothing is kept from one token of the text to the next: the counts are made anew, in a table of
 * zeros, a place of the text a thread. Behind a barrier every place asks for the count of its token
 * and puts back 0 with the same atomic: whoever comes first gets the count and charges the token,
 * the others find 0, and the table is clean for the next launch. So a text may be taken back as far
 * as one likes (@speculative), a window is a bound of a loop, and which place wins changes no bit.
 *
 * Moves 2 atomics a place of the window, and each charged logit in and out: 64 places are 128
 * atomics where reading the counts of all V tokens would be V. Limit: latency; where the window is
 * longer than the vocabulary, counts that are kept (@sampling) read less.
 *
 * source  Keskar et al. 2019, "CTRL", section 4.1 (repetition); OpenAI API reference (frequency,
 *         presence)
 * needs   cuda_launch, cuda_memory
 * see     dry, sampling, sampling_text, decoding
 * topics  -
 */

/* The texts of B rows on the device, as llm_cuda_decoding_rows has them: ids (B,capacity) below V,
 * length (B), prompt (B). table (B,V): zeros, and zeros again behind each launch. */
typedef struct {
    const int *ids;
    const size_t *length, *prompt;
    size_t capacity;
    unsigned *table;
} llm_cuda_frequency_penalty_text;

/* The factor (1: off), then count times frequency and presence (0: off), of the last last_n tokens,
 * 0 for all. output: prompts count for the factor only, as in the API; prompt may be NULL without.
 */
typedef struct {
    float factor, frequency, presence;
    size_t last_n;
    bool output;
} llm_cuda_frequency_penalty_config;

/* Everything off. */
static inline __attribute__((unused)) llm_cuda_frequency_penalty_config
llm_cuda_frequency_penalty_defaults(void) {
    const llm_cuda_frequency_penalty_config c = {1.0f, 0.0f, 0.0f, 0, false};
    return c;
}
/* Would c change anything? */
LLM_HOST_DEVICE bool llm_cuda_frequency_penalty_on(const llm_cuda_frequency_penalty_config &c) {
    return c.factor != 1.0f || c.frequency != 0.0f || c.presence != 0.0f;
}

/* x (V) of row b, by a block; the logits are there for all of it. */
template <typename T>
LLM_DEVICE void llm_cuda_frequency_penalty_charge(T *x, size_t V, size_t b,
                                                  const llm_cuda_frequency_penalty_text &t,
                                                  const llm_cuda_frequency_penalty_config &c) {
    const unsigned said = 0x80000000u; /* in the prompt; below it the count */
    const int *ids = t.ids + b * t.capacity;
    unsigned *table = t.table + b * V;
    const size_t n = t.length[b], first = c.last_n > 0 && n > c.last_n ? n - c.last_n : 0;
    const size_t counted = c.output ? t.prompt[b] : 0;
    for (size_t i = first + threadIdx.x; i < n; i += blockDim.x) {
        if (i < counted)
            atomicOr(table + ids[i], said);
        else
            atomicAdd(table + ids[i], 1u);
    }
    __syncthreads();
    for (size_t i = first + threadIdx.x; i < n; i += blockDim.x) {
        const unsigned word = atomicExch(table + ids[i], 0u), count = word & ~said;
        if (word == 0) continue; /* another place of this token was first */
        float z = llm_load(x, (size_t)ids[i]);
        z = z > 0.0f ? z / c.factor : z * c.factor;
        if (count > 0) z -= (float)count * c.frequency + c.presence;
        llm_store(x, (size_t)ids[i], z);
    }
    __syncthreads();
}

template <typename T>
LLM_KERNEL void llm_frequency_penalty_kernel(T *logits, size_t V, llm_cuda_frequency_penalty_text t,
                                             llm_cuda_frequency_penalty_config c) {
    llm_cuda_frequency_penalty_charge(logits + blockIdx.x * V, V, blockIdx.x, t, c);
}
/* logits (B,V) in place: llm_repetition_penalty_three of each row's window, or with output
 * llm_repetition_penalty_apply of the whole text and llm_presence_penalty_combined of what stands
 * behind the prompt. T is float or llm_bf16. */
template <typename T>
static inline cudaError_t
llm_cuda_frequency_penalty_apply(T *logits, size_t B, size_t V,
                                 const llm_cuda_frequency_penalty_text *t,
                                 const llm_cuda_frequency_penalty_config *c, cudaStream_t stream) {
    if (!(c->factor > 0.0f) || (c->output && !t->prompt)) return cudaErrorInvalidValue;
    if (B == 0 || V == 0 || !llm_cuda_frequency_penalty_on(*c)) return cudaSuccess;
    const size_t most = c->last_n > 0 && c->last_n < t->capacity ? c->last_n : t->capacity;
    LLM_LAUNCH(llm_frequency_penalty_kernel<T>, (unsigned)B, llm_row_threads(most), 0, stream,
               logits, V, *t, *c);
    return cudaGetLastError();
}

/* @presence_penalty ----------------------------------------- Topics that were said
 *
 * A price for groups of tokens of which any was said. Which groups those are is a set of bits in
 * shared memory, filled by the places of the text, read once for each token of the vocabulary: a
 * block makes the set for its own piece of the row, so that pieces need not wait for each other.
 * (The plain penalty is @frequency_penalty's.)
 *
 * Moves the group of each token in, 4 bytes, and each charged logit in and out: the minimum, but
 * for the text, which every piece reads. Limit: memory bandwidth.
 *
 * source  OpenAI API reference (presence_penalty)
 * needs   cuda_launch, cuda_memory, frequency_penalty
 * see     frequency_penalty
 * topics  -
 */
enum { LLM_CUDA_PRESENCE_PENALTY_GROUPS = 65536 }; /* at most: 8 KB of bits */

template <typename T>
LLM_KERNEL void llm_presence_penalty_topics_kernel(T *logits, size_t V,
                                                   llm_cuda_frequency_penalty_text t, size_t last_n,
                                                   const int *group, size_t groups, float alpha) {
    LLM_DYNAMIC_SHARED(unsigned, said);
    const size_t b = blockIdx.y, n = t.length[b], from = t.prompt ? t.prompt[b] : 0;
    const size_t first = last_n > 0 && n > from + last_n ? n - last_n : from;
    for (size_t g = threadIdx.x; g < (groups + 31) / 32; g += blockDim.x) said[g] = 0;
    __syncthreads();
    for (size_t i = first + threadIdx.x; i < n; i += blockDim.x) {
        const int g = group[t.ids[b * t.capacity + i]];
        if (g >= 0 && (size_t)g < groups) atomicOr(said + g / 32, 1u << g % 32);
    }
    __syncthreads();
    const size_t v = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (v >= V) return;
    const int g = group[v];
    if (g >= 0 && (size_t)g < groups && said[g / 32] >> g % 32 & 1)
        llm_store(logits, b * V + v, llm_load(logits, b * V + v) - alpha);
}
/* logits (B,V) in place: llm_presence_penalty_topics of each row, of its last last_n tokens (0:
 * all) behind the prompt (NULL: all count). group (V) is on the device, t's table is not used;
 * groups <= 65536, B <= 65535. T is float or llm_bf16. */
template <typename T>
static inline cudaError_t llm_cuda_presence_penalty_topics(T *logits, size_t B, size_t V,
                                                           const llm_cuda_frequency_penalty_text *t,
                                                           size_t last_n, const int *group,
                                                           size_t groups, float alpha,
                                                           cudaStream_t stream) {
    if (groups > LLM_CUDA_PRESENCE_PENALTY_GROUPS || B > 65535) return cudaErrorInvalidValue;
    if (B == 0 || V == 0 || groups == 0) return cudaSuccess;
    const size_t bytes = (groups + 31) / 32 * sizeof(unsigned);
    const unsigned pieces = (unsigned)((V + 1023) / 1024);
    LLM_LAUNCH(llm_presence_penalty_topics_kernel<T>, dim3(pieces, (unsigned)B), llm_row_threads(V),
               bytes, stream, logits, V, *t, last_n, group, groups, alpha);
    return cudaGetLastError();
}

/* @dry ------------------------------------------------------ N-gram blocking and DRY
 *
 * How long a repetition every place of the text would go on, all places at once: a thread compares
 * what stands before its place with the end of the text, token by token, until they differ. Nearly
 * all differ at once. What can be long is known to be of no use beyond a bound, up to the last
 * breaker, to the power that a float can hold, or to the n of an n-gram, so that a text caught in a
 * loop costs a block 100 comparisons a place and not T. (The reference's Z-function is O(T) in all,
 * and one comparison behind the other.) A table by token gathers the longest, as the counts of
 * @frequency_penalty: filled by atomicMax, and claimed and cleared behind a barrier.
 *
 * Moves the text once, from L1 what agrees, and 2 atomics a place that is charged. Limit: latency.
 *
 * source  Paulus, Xiong & Socher 2018, "A Deep Reinforced Model for Abstractive Summarization",
 *         section 2.5 (blocking); llama.cpp (DRY)
 * needs   cuda_launch, cuda_memory, cuda_select, frequency_penalty
 * see     frequency_penalty, sampling_text
 * topics  -
 */

/* What is charged: repetitions of at least `least` tokens, of which `most` count, at places from
 * first on; with ban by -inf, else as by llm_dry_apply. */
typedef struct {
    llm_dry_config dry;
    size_t least, most, first;
    bool ban;
} llm_cuda_dry_rule;

/* The rule of llm_dry_apply; c's breakers are on the device. */
static inline __attribute__((unused)) llm_cuda_dry_rule
llm_cuda_dry_penalty(const llm_dry_config *c) {
    /* base^power is the largest that a float can hold */
    const double b = (double)c->base, power = b > 1.000001 ? floor(88.7228391 / log(b)) : 0.0;
    const size_t most = power > 0.0 ? c->allowed + (size_t)power : (size_t)-1;
    const llm_cuda_dry_rule rule = {*c, c->allowed, most, 1, false};
    return rule;
}
/* The rule of llm_dry_no_ngram, n > 0. */
static inline __attribute__((unused)) llm_cuda_dry_rule llm_cuda_dry_blocking(size_t n) {
    const llm_cuda_dry_rule rule = {llm_dry_defaults(), n - 1, n - 1, 0, true};
    return rule;
}
/* Would the rule change anything? */
LLM_HOST_DEVICE bool llm_cuda_dry_on(const llm_cuda_dry_rule &rule) {
    return rule.ban || (rule.dry.multiplier != 0.0f && rule.dry.base >= 1.0f);
}
LLM_DEVICE bool llm_cuda_dry_breaks(int token, const llm_dry_config &c) {
    for (size_t i = 0; i < c.breakers; i++)
        if (token == c.breaker[i]) return true;
    return false;
}
/* l_j of ids (n), up to most. */
LLM_DEVICE size_t llm_cuda_dry_length(const int *ids, size_t n, size_t j, size_t most) {
    size_t same = 0;
    while (same < most && same < j && ids[j - 1 - same] == ids[n - 1 - same]) same++;
    return same;
}

/* x (V) of row b, by a block; the logits are there for all of it. */
template <typename T>
LLM_DEVICE void llm_cuda_dry_charge(T *x, size_t V, size_t b,
                                    const llm_cuda_frequency_penalty_text &t,
                                    const llm_cuda_dry_rule &rule) {
    const llm_dry_config &c = rule.dry;
    const int *ids = t.ids + b * t.capacity;
    unsigned *table = t.table + b * V;
    size_t n = t.length[b], most = rule.most;
    if (!rule.ban && c.last_n > 0 && n > c.last_n) ids += n - c.last_n, n = c.last_n;
    if (!rule.ban && n <= rule.least) return;
    if (!rule.ban && c.breakers > 0) { /* no repetition reaches over the last breaker */
        size_t end = n < most ? n : most, d = threadIdx.x;
        while (d < end && !llm_cuda_dry_breaks(ids[n - 1 - d], c)) d += blockDim.x;
        most = (size_t)~llm_select_block_max(~(unsigned long long)(d < end ? d : end));
    }
    for (size_t j = rule.first + threadIdx.x; j < n; j += blockDim.x) {
        const size_t same = llm_cuda_dry_length(ids, n, j, most);
        if (same >= rule.least) atomicMax(table + ids[j], (unsigned)same + 1);
    }
    __syncthreads();
    for (size_t j = rule.first + threadIdx.x; j < n; j += blockDim.x) {
        if (rule.least > 0 && (j == 0 || ids[j - 1] != ids[n - 1])) continue; /* not charged */
        const unsigned longest = atomicExch(table + ids[j], 0u);
        if (longest == 0) continue; /* or by another place */
        const size_t v = (size_t)ids[j];
        if (rule.ban) {
            llm_store(x, v, -INFINITY);
        } else if (!llm_cuda_dry_breaks(ids[j], c)) {
            const double over = (double)(longest - 1 - (unsigned)rule.least);
            llm_store(x, v, llm_load(x, v) - c.multiplier * (float)pow((double)c.base, over));
        }
    }
    __syncthreads();
}

template <typename T>
LLM_KERNEL void __launch_bounds__(1024)
    llm_dry_kernel(T *logits, size_t V, llm_cuda_frequency_penalty_text t, llm_cuda_dry_rule rule) {
    llm_cuda_dry_charge(logits + blockIdx.x * V, V, blockIdx.x, t, rule);
}
template <typename T>
static inline cudaError_t llm_cuda_dry_run(T *logits, size_t B, size_t V,
                                           const llm_cuda_frequency_penalty_text *t,
                                           const llm_cuda_dry_rule &rule, cudaStream_t stream) {
    if (B == 0 || V == 0 || !llm_cuda_dry_on(rule)) return cudaSuccess;
    LLM_LAUNCH(llm_dry_kernel<T>, (unsigned)B, llm_row_threads(t->capacity), 0, stream, logits, V,
               *t, rule);
    return cudaGetLastError();
}
/* logits (B,V) in place: llm_dry_apply with each row's text; c's breakers, and t, are on the
 * device, prompts do not matter. T is float or llm_bf16. */
template <typename T>
static inline cudaError_t llm_cuda_dry_apply(T *logits, size_t B, size_t V,
                                             const llm_cuda_frequency_penalty_text *t,
                                             const llm_dry_config *c, cudaStream_t stream) {
    return llm_cuda_dry_run(logits, B, V, t, llm_cuda_dry_penalty(c), stream);
}
/* logits (B,V) in place: llm_dry_no_ngram with each row's text, n > 0. */
template <typename T>
static inline cudaError_t llm_cuda_dry_no_ngram(T *logits, size_t B, size_t V,
                                                const llm_cuda_frequency_penalty_text *t, size_t n,
                                                cudaStream_t stream) {
    if (n == 0) return cudaErrorInvalidValue;
    return llm_cuda_dry_run(logits, B, V, t, llm_cuda_dry_blocking(n), stream);
}

/* @logit_bias ----------------------------------------------- Logit bias, masks, guidance
 *
 * Guidance, bias and a grammar's mask on one row in one kernel. Guidance combines two rows that the
 * model has made in the same batch, with a prompt and without it: their two log-sum-exps run along
 * in one pass, and the second writes u + s (c - u). The mask is a bit a token, 32 to a word, as
 * grammars make it (V / 8 bytes a row, also from a host, while the model computes): what it forbids
 * becomes -inf on the way. The list of biases is scattered over the row behind a barrier.
 *
 * Guidance reads two rows, the second time from L2, and writes one, where apart two log-softmaxes
 * and a combination move nine. The mask costs 1/32 of a row more; without guidance the row is read
 * and written once. Limit: memory bandwidth; a block a row, so for few rows what one multiprocessor
 * takes.
 *
 * source  Sanchez et al. 2023, "Stay on topic with Classifier-Free Guidance", eq. 7; Dong et al.
 *         2024, "XGrammar" (masks of bits)
 * needs   cuda_launch, cuda_memory, cuda_select, logsumexp
 * see     sampling_text, frequency_penalty
 * topics  -
 */

/* Words of a row's mask. */
LLM_HOST_DEVICE size_t llm_cuda_logit_bias_words(size_t V) { return (V + 31) / 32; }

/* What is done to row b of B, in this order; NULL for what is not. */
template <typename T> struct llm_cuda_logit_bias_config {
    const T *unconditional; /* (B,V) and the strength s */
    float strength;
    const uint32_t *mask; /* (B,words): bit v % 32 of word v / 32 is 1 where v is allowed */
    const int *token;     /* (biases), below V, no two the same */
    const float *bias;    /* (biases); -INFINITY bans */
    size_t biases;
};
/* Nothing. */
template <typename T> static inline llm_cuda_logit_bias_config<T> llm_cuda_logit_bias_defaults() {
    const llm_cuda_logit_bias_config<T> c = {NULL, 1.0f, NULL, NULL, NULL, 0};
    return c;
}

/* x (V), row b, in place, by a block; the logits are there for all of it. */
template <typename T, int W>
LLM_DEVICE void llm_cuda_logit_bias_row(T *x, size_t V, size_t b,
                                        const llm_cuda_logit_bias_config<T> &c) {
    const llm_select_span span = llm_select_my_span<W>(V);
    const T *other = c.unconditional ? c.unconditional + b * V : x;
    float lse_c = 0.0f, lse_u = 0.0f;
    if (c.unconditional) {
        llm_logsumexp_pair sum_c = {-INFINITY, 0.0f}, sum_u = sum_c;
        for (size_t i = span.begin; i < span.end; i += 32 * W) {
            float v[W], u[W];
            llm_load_vector(v, x, i);
            llm_load_vector(u, other, i);
            llm_cuda_logsumexp_add(sum_c, v, 1.0f);
            llm_cuda_logsumexp_add(sum_u, u, 1.0f);
        }
        sum_c = llm_cuda_logsumexp_row<false>(sum_c, 1.0f);
        sum_u = llm_cuda_logsumexp_row<false>(sum_u, 1.0f);
        lse_c = sum_c.max + logf(sum_c.sum), lse_u = sum_u.max + logf(sum_u.sum);
    }
    for (size_t i = span.begin; i < span.end && (c.unconditional || c.mask); i += 32 * W) {
        float v[W], u[W] = {};
        llm_load_vector(v, x, i);
        if (c.unconditional) llm_load_vector(u, other, i);
        const uint32_t word = c.mask ? c.mask[b * llm_cuda_logit_bias_words(V) + i / 32] : ~0u;
        LLM_UNROLL
        for (unsigned k = 0; k < W; k++) {
            if (c.unconditional) {
                v[k] -= lse_c, u[k] -= lse_u;
                if (v[k] != -INFINITY && u[k] != -INFINITY)
                    v[k] = u[k] + c.strength * (v[k] - u[k]);
            }
            if (!(word >> (i % 32 + k) & 1)) v[k] = -INFINITY;
        }
        llm_store_vector(x, i, v);
    }
    __syncthreads();
    for (size_t i = threadIdx.x; i < c.biases; i += blockDim.x) {
        const size_t v = (size_t)c.token[i];
        llm_store(x, v, llm_load(x, v) + c.bias[i]);
    }
    __syncthreads();
}

template <typename T, int W>
LLM_KERNEL void __launch_bounds__(1024)
    llm_logit_bias_kernel(T *logits, size_t V, llm_cuda_logit_bias_config<T> c) {
    llm_cuda_logit_bias_row<T, W>(logits + blockIdx.x * V, V, blockIdx.x, c);
}
/* logits (B,V) in place: llm_logit_bias_guidance with the unconditional rows, then the mask, then
 * llm_logit_bias_apply; a mask wins over a bias. T is float or llm_bf16. */
template <typename T>
static inline cudaError_t llm_cuda_logit_bias_apply(T *logits, size_t B, size_t V,
                                                    const llm_cuda_logit_bias_config<T> *c,
                                                    cudaStream_t stream) {
    enum { W = 16 / sizeof(T) };
    if (B == 0 || V == 0) return cudaSuccess;
    const bool wide = llm_aligned(logits, V) && llm_aligned(c->unconditional, V);
    const auto bias = wide ? llm_logit_bias_kernel<T, W> : llm_logit_bias_kernel<T, 1>;
    LLM_LAUNCH(bias, (unsigned)B, llm_row_threads(wide ? V / W : V), 0, stream, logits, V, *c);
    return cudaGetLastError();
}

/* @sampling ------------------------------------------------- The sampler chain
 *
 * From logits to a token in one kernel, a block a row: penalties, the steps of a chain in their
 * order, the draw. All steps but one keep the largest of what there is, so the state of a chain is
 * a single cut (cuda_select), and a step raises it; a temperature writes what is kept, divided, and
 * -inf elsewhere. Sums and quotients are the reference's, and so are the tokens that come out. The
 * counts of the penalties live on the device and are kept up to date here: from one token to the
 * next the host has nothing to do.
 *
 * The row is read once from memory and then from L2: once for the penalties and the largest each,
 * 4 for top_k, 5 for top_p, 0 or 1 for a threshold, 1 for a temperature, 1 for the draw. Apart each
 * step would be a launch with two more trips through memory. Limit: what one multiprocessor takes
 * from L2; with few rows most of the card is idle.
 *
 * source  Keskar et al. 2019, "CTRL", section 4.1 (repetition); OpenAI API reference (frequency,
 *         presence)
 * needs   cuda_launch, cuda_memory, cuda_select, cuda_cut, cuda_draw, top_p, min_p
 * see     temperature (Gumbel), decoding
 * topics  -
 */

/* Penalties of tokens that occurred c > 0 times, then a chain. repetition divides a logit above 0
 * and multiplies one below (1: off); then c frequency + presence is subtracted (0: off). */
struct llm_cuda_sampling_config {
    float repetition, frequency, presence;
    unsigned steps;
    llm_sampling_step chain[8];
};
/* No penalties, and the n <= 8 steps of a chain. */
static inline __attribute__((unused)) llm_cuda_sampling_config
llm_cuda_sampling_defaults(const llm_sampling_step *chain, size_t n) {
    llm_cuda_sampling_config c;
    memset(&c, 0, sizeof c);
    LLM_ASSERT(n <= 8);
    c.repetition = 1.0f;
    c.steps = (unsigned)n;
    for (size_t i = 0; i < n; i++) c.chain[i] = chain[i];
    return c;
}

/* x (V) in place with the counts of its tokens. */
template <int W>
LLM_DEVICE void llm_cuda_sampling_penalize(float *x, const int *count, size_t V,
                                           const llm_cuda_sampling_config &c) {
    const llm_select_span span = llm_select_my_span<W>(V);
    for (size_t i = span.begin; i < span.end; i += 32 * W) {
        float v[W];
        llm_load_vector(v, x, i);
        LLM_UNROLL
        for (int k = 0; k < W; k++) {
            const int n = count[i + (size_t)k];
            if (n == 0) continue;
            v[k] = v[k] > 0.0f ? v[k] / c.repetition : v[k] * c.repetition;
            v[k] -= (float)n * c.frequency + c.presence;
        }
        llm_store_vector(x, i, v);
    }
}
/* x (V) in place: what is kept divided by temp, the rest -inf; temp = 0 keeps the first of the
 * largest. */
template <int W>
LLM_DEVICE void llm_cuda_sampling_heat(float *x, size_t V, unsigned long long kept, float temp) {
    const llm_select_span span = llm_select_my_span<W>(V);
    unsigned long long best = 0; /* of pairs with the index turned round */
    float v[W];
    for (size_t i = span.begin; i < span.end && temp == 0.0f; i += 32 * W) {
        llm_load_vector(v, x, i);
        LLM_UNROLL
        for (int k = 0; k < W; k++) {
            const unsigned long long pair = llm_select_pair(v[k], i + (size_t)k);
            if (pair >= kept && (pair ^ 0xffffffffu) > best) best = pair ^ 0xffffffffu;
        }
    }
    if (temp == 0.0f) best = llm_select_block_max(best) ^ 0xffffffffu;
    for (size_t i = span.begin; i < span.end; i += 32 * W) {
        llm_load_vector(v, x, i);
        LLM_UNROLL
        for (int k = 0; k < W; k++) {
            const unsigned long long pair = llm_select_pair(v[k], i + (size_t)k);
            const bool stays = temp == 0.0f ? pair == best : pair >= kept;
            v[k] = !stays ? -INFINITY : temp == 0.0f ? v[k] : v[k] / temp;
        }
        llm_store_vector(x, i, v);
    }
}

/* The cut of what is kept of x (V) behind the steps of a chain, from `kept` on. A temperature writes
 * x; max is its largest. */
template <int W>
LLM_DEVICE unsigned long long llm_cuda_sampling_steps(float *x, size_t V,
                                                      const llm_sampling_step *chain, unsigned n,
                                                      unsigned long long kept, float &max) {
    for (unsigned s = 0; s < n; s++) {
        const float value = chain[s].value;
        const llm_sampling_kind kind = chain[s].kind;
        if (kind == LLM_SAMPLING_TEMPERATURE) {
            llm_cuda_sampling_heat<W>(x, V, kept, value);
            max = value == 0.0f ? max : max / value;
            kept = 0;
        } else if (kind == LLM_SAMPLING_TOP_K) {
            const unsigned k = value < (float)V ? (unsigned)value : 0;
            if (k > 0) kept = llm_select_cut<unsigned, float, W>(x, V, kept, k, max, true);
        } else if (kind == LLM_SAMPLING_TOP_P) {
            if (value < 1.0f) kept = llm_cuda_top_p_cut<float, W>(x, V, kept, value, max);
        } else {
            kept = llm_cuda_min_p_cut<float, W>(x, V, kept, max, kind, value);
        }
    }
    return kept;
}
/* Are these steps of a chain that the kernels know? */
static inline __attribute__((unused)) bool llm_cuda_sampling_known(const llm_sampling_step *chain,
                                                                   unsigned n) {
    if (n > 8) return false;
    for (unsigned s = 0; s < n; s++) {
        const llm_sampling_kind kind = chain[s].kind;
        if (!(chain[s].value >= 0.0f) ||
            (kind != LLM_SAMPLING_TEMPERATURE && kind != LLM_SAMPLING_TOP_K &&
             kind != LLM_SAMPLING_TOP_P && !llm_cuda_min_p_known(kind)))
            return false;
    }
    return true;
}

template <int W>
LLM_KERNEL void __launch_bounds__(1024)
    llm_sampling_chain_kernel(int *token, float *logits, int *count, const uint64_t *seed, size_t V,
                              llm_cuda_sampling_config c) {
    const size_t row = blockIdx.x;
    float *x = logits + row * V;
    if (count) llm_cuda_sampling_penalize<W>(x, count + row * V, V, c);
    const unsigned long long largest = llm_select_max<float, W>(x, V);
    if (!llm_select_drawable(largest)) {
        if (threadIdx.x == 0) token[row] = -1;
        return;
    }
    float max = llm_select_value(largest);
    const unsigned long long kept = llm_cuda_sampling_steps<W>(x, V, c.chain, c.steps, 0, max);
    llm_draw_entry<float, W>(token + row, x, V, kept, max, llm_draw_uniform(seed[row]));
    __syncthreads(); /* one lane has written the token */
    if (threadIdx.x == 0 && count) count[row * V + (size_t)token[row]]++;
}

/* token (rows) <- what llm_sampling_chain and llm_sampling_draw with a generator of
 * llm_rng_seed(seed[row]) choose from each row of logits (rows,V), which is changed; -1 where one
 * is NaN or all are -inf. count (rows,V) or NULL: how often each token occurred, for the penalties;
 * that of the token drawn grows by one. The chain has no LLM_SAMPLING_TYPICAL; up to 2^23 entries.
 */
static inline __attribute__((unused)) cudaError_t
llm_cuda_sampling_chain(int *token, float *logits, int *count, const uint64_t *seed, size_t rows,
                        size_t V, const llm_cuda_sampling_config *c, cudaStream_t stream) {
    if (V == 0 || V > 1u << 23 || !llm_cuda_sampling_known(c->chain, c->steps))
        return (cudaError_t)cudaErrorInvalidValue;
    if (rows == 0) return cudaSuccess;
    const bool wide = llm_aligned(logits, V);
    const auto chain = wide ? llm_sampling_chain_kernel<4> : llm_sampling_chain_kernel<1>;
    LLM_LAUNCH(chain, (unsigned)rows, llm_row_threads(wide ? V / 4 : V), 0, stream, token, logits,
               count, seed, V, *c);
    return cudaGetLastError();
}

/* @sampling_control ----------------------------------------- XTC and Mirostat
 *
 * Two draws that feed back or cut the head. XTC looks for the least of the tokens that reach the
 * threshold, a key (probability, index) as the others (@cuda_select), and writes -inf over those
 * above it. Mirostat's bound is a bound of the probability, 2^-mu, and so a cut of the row that
 * @min_p finds; the row is not written. Its mu stays on the device, one number a row, moved by the
 * surprise of what was drawn: no token waits for the host.
 *
 * XTC reads the row once from memory and then twice from L2, and writes it where it cuts. Mirostat
 * reads it 6 times: largest, sum, draw (2) and the mass of what is kept, of which one comes from
 * memory, the minimum. Limit: what one multiprocessor takes from L2.
 *
 * source  llama.cpp (XTC); Basu et al. 2021, "Mirostat", algorithm 2
 * needs   cuda_launch, cuda_memory, cuda_rng, cuda_reduce, cuda_select, cuda_draw, min_p
 * see     sampling, sampling_text
 * topics  -
 */

/* Number i of the generator of a seed, as llm_rng_uniform. */
LLM_DEVICE float llm_cuda_sampling_control_uniform(uint64_t seed, unsigned i) {
    uint32_t word[4];
    llm_cuda_philox(word, i / 4, seed);
    const uint32_t low = i & 1 ? word[1] : word[0], high = i & 1 ? word[3] : word[2];
    return llm_cuda_uniform(i & 2 ? high : low);
}

/* The sum of exp(x - max) over what is kept of x (V), in every thread. */
template <int W>
LLM_DEVICE double llm_cuda_sampling_control_mass(const float *x, size_t V, unsigned long long kept,
                                                 float max) {
    const llm_select_span span = llm_select_my_span<W>(V);
    double sum = 0.0;
    for (size_t i = span.begin; i < span.end; i += 32 * W) {
        float v[W];
        llm_load_vector(v, x, i);
        LLM_UNROLL
        for (int k = 0; k < W; k++) sum += llm_draw_mass(v[k], i + (size_t)k, kept, max);
    }
    return llm_block_sum(sum);
}
/* XTC on what is kept of x (V), max its largest, which may become smaller. */
template <int W>
LLM_DEVICE void llm_cuda_sampling_control_cut(float *x, size_t V, unsigned long long kept,
                                              float threshold, float &max) {
    const llm_select_span span = llm_select_my_span<W>(V);
    const double sum = llm_cuda_sampling_control_mass<W>(x, V, kept, max);
    unsigned long long least = 0; /* of pairs, all bits turned: the largest is the least */
    float v[W];
    for (size_t i = span.begin; i < span.end; i += 32 * W) {
        llm_load_vector(v, x, i);
        LLM_UNROLL
        for (int k = 0; k < W; k++) {
            const float p = (float)(llm_draw_mass(v[k], i + (size_t)k, kept, max) / sum);
            const unsigned long long pair = ~llm_select_pair(p, i + (size_t)k);
            if (p >= threshold && pair > least) least = pair;
        }
    }
    least = ~llm_select_block_max(least);
    if (least == ~0ull) return; /* none reaches it */
    const size_t stays = (size_t)(least & 0xffffffffu);
    const float top = max;
    max = llm_load(x, stays);
    __syncthreads(); /* nobody writes the row before all have read that */
    for (size_t i = span.begin; i < span.end; i += 32 * W) {
        llm_load_vector(v, x, i);
        LLM_UNROLL
        for (int k = 0; k < W; k++) {
            const float p = (float)(llm_draw_mass(v[k], i + (size_t)k, kept, top) / sum);
            if (p >= threshold && i + (size_t)k != stays) v[k] = -INFINITY;
        }
        llm_store_vector(x, i, v);
    }
    __syncthreads();
}

template <int W>
LLM_KERNEL void __launch_bounds__(1024)
    llm_sampling_control_xtc_kernel(float *logits, const uint64_t *seed, size_t V, float threshold,
                                    float chance) {
    if (llm_cuda_sampling_control_uniform(seed[blockIdx.x], 0) >= chance) return;
    float *x = logits + blockIdx.x * V;
    const unsigned long long largest = llm_select_max<float, W>(x, V);
    float max = llm_select_value(largest);
    if (llm_select_drawable(largest)) llm_cuda_sampling_control_cut<W>(x, V, 0, threshold, max);
}
/* logits (B,V) in place: llm_sampling_control_xtc with a generator of llm_rng_seed(seed[row]), of
 * which it takes the first number; threshold > 0. Rows that nothing can be drawn from stay. */
static inline __attribute__((unused)) cudaError_t
llm_cuda_sampling_control_xtc(float *logits, const uint64_t *seed, size_t B, size_t V,
                              float threshold, float chance, cudaStream_t stream) {
    if (!(threshold > 0.0f) || V > 0x7fffffff) return cudaErrorInvalidValue;
    if (B == 0 || V == 0) return cudaSuccess;
    const bool wide = llm_aligned(logits, V);
    const auto xtc = wide ? llm_sampling_control_xtc_kernel<4> : llm_sampling_control_xtc_kernel<1>;
    LLM_LAUNCH(xtc, (unsigned)B, llm_row_threads(wide ? V / 4 : V), 0, stream, logits, seed, V,
               threshold, chance);
    return cudaGetLastError();
}

template <int W>
LLM_KERNEL void __launch_bounds__(1024)
    llm_sampling_control_mirostat_kernel(int *token, float *mu, const float *logits,
                                         const uint64_t *seed, size_t V, float tau, float eta) {
    const size_t b = blockIdx.x;
    const float *x = logits + b * V;
    const unsigned long long largest = llm_select_max<float, W>(x, V);
    if (!llm_select_drawable(largest)) {
        if (threadIdx.x == 0) token[b] = -1;
        return;
    }
    const float max = llm_select_value(largest);
    const unsigned long long kept =
        llm_cuda_min_p_cut<float, W>(x, V, 0, max, LLM_SAMPLING_EPSILON, exp2f(-mu[b]));
    llm_draw_entry<float, W>(token + b, x, V, kept, max, llm_draw_uniform(seed[b]));
    const double mass = llm_cuda_sampling_control_mass<W>(x, V, kept, max);
    __syncthreads(); /* one lane has written the token, and all have read mu */
    if (threadIdx.x != 0) return;
    const double p = exp((double)llm_load(x, (size_t)token[b]) - (double)max) / mass;
    mu[b] -= eta * (-log2f((float)p) - tau);
}
/* token (B) and mu (B), 2 tau at first, as llm_sampling_control_mirostat of each row of logits
 * (B,V) with a generator of llm_rng_seed(seed[row]); equals of the largest stay with it, and the
 * logits as they are. */
static inline __attribute__((unused)) cudaError_t
llm_cuda_sampling_control_mirostat(int *token, float *mu, const float *logits, const uint64_t *seed,
                                   size_t B, size_t V, float tau, float eta, cudaStream_t stream) {
    if (V == 0 || V > 0x7fffffff) return cudaErrorInvalidValue;
    if (B == 0) return cudaSuccess;
    const bool wide = llm_aligned(logits, V);
    const auto mirostat =
        wide ? llm_sampling_control_mirostat_kernel<4> : llm_sampling_control_mirostat_kernel<1>;
    LLM_LAUNCH(mirostat, (unsigned)B, llm_row_threads(wide ? V / 4 : V), 0, stream, token, mu,
               logits, seed, V, tau, eta);
    return cudaGetLastError();
}

/* @sampling_text -------------------------------------------- From logits to a token, with the text
 *
 * The whole sampler of three libraries in one kernel, a block a row: guidance, bias and mask, stop
 * tokens banned for a while, the three penalties, n-grams or DRY, the filters in the library's
 * order, XTC, the draw. Apart these are eight launches; here the row goes through them from L2, and
 * what concerns the text touches only the tokens that were said. Lengths, texts and numbers are
 * read on the device, so the launch is the same for every token and may be captured.
 *
 * The row is read once from memory; guidance reads a second one. All else is L2: once for bias or
 * mask, twice for guidance, then as @sampling. Limit: what one multiprocessor takes from L2.
 *
 * source  transformers 5 (generation/utils.py, _get_logits_processor); llama.cpp (common/sampling);
 *         vLLM (v1/sample/sampler.py)
 * needs   cuda_launch, cuda_memory, cuda_select, cuda_draw, frequency_penalty, dry, logit_bias,
 *         sampling, sampling_control
 * see     decoding
 * topics  -
 */
struct llm_cuda_sampling_text_config {
    llm_cuda_logit_bias_config<float> bias;
    llm_cuda_frequency_penalty_config penalty;
    llm_cuda_dry_rule dry; /* or the n-grams that are blocked */
    const int *stop;
    size_t stops, min_new;
    float xtc_threshold, xtc_chance;
    bool hot; /* the last step is a temperature, behind XTC */
    unsigned steps;
    llm_sampling_step chain[8];
};

/* The settings c, whose lists are on the device. Guidance and masks are set by hand afterwards. */
static inline __attribute__((unused)) llm_cuda_sampling_text_config
llm_cuda_sampling_text_make(const llm_sampling_text_config *c) {
    const bool llama = c->order == LLM_SAMPLING_TEXT_LLAMA_CPP;
    const bool api = c->order == LLM_SAMPLING_TEXT_API;
    llm_cuda_sampling_text_config d;
    memset(&d, 0, sizeof d);
    d.bias = llm_cuda_logit_bias_defaults<float>();
    d.bias.token = c->bias_token, d.bias.bias = c->bias, d.bias.biases = c->biases;
    d.penalty = llm_cuda_frequency_penalty_defaults();
    d.penalty.factor = c->repetition;
    if (llama || api) d.penalty.frequency = c->frequency, d.penalty.presence = c->presence;
    d.penalty.last_n = llama ? c->last_n : 0, d.penalty.output = api;
    d.dry = llm_cuda_dry_penalty(&c->dry);
    if (!llama) d.dry.dry.multiplier = 0.0f;
    if (!llama && !api && c->no_ngram > 0) d.dry = llm_cuda_dry_blocking(c->no_ngram);
    d.stop = c->stop, d.stops = c->stops, d.min_new = c->min_new;
    d.xtc_threshold = c->xtc_threshold, d.xtc_chance = llama ? c->xtc_chance : 0.0f;
    d.steps = (unsigned)llm_sampling_preset(d.chain, &c->filter, llama);
    for (unsigned i = 0; i < d.steps && api; i++) { /* min-p stands behind the temperature */
        const llm_sampling_step min_p = d.chain[i];
        if (min_p.kind != LLM_SAMPLING_MIN_P) continue;
        const unsigned to = d.chain[0].kind == LLM_SAMPLING_TEMPERATURE ? 1 : 0;
        for (; i > to; i--) d.chain[i] = d.chain[i - 1];
        d.chain[to] = min_p;
        break;
    }
    d.hot = llama && d.steps > 0 && d.chain[d.steps - 1].kind == LLM_SAMPLING_TEMPERATURE;
    return d;
}

template <int W>
LLM_KERNEL void __launch_bounds__(1024)
    llm_sampling_text_kernel(int *token, float *logits, const uint64_t *seed, size_t V,
                             llm_cuda_frequency_penalty_text t, llm_cuda_sampling_text_config c) {
    const size_t b = blockIdx.x;
    float *x = logits + b * V;
    llm_cuda_logit_bias_row<float, W>(x, V, b, c.bias);
    if (c.min_new > 0 && t.length[b] < t.prompt[b] + c.min_new) {
        for (size_t i = threadIdx.x; i < c.stops; i += blockDim.x)
            llm_store(x, (size_t)c.stop[i], -INFINITY);
        __syncthreads();
    }
    if (llm_cuda_frequency_penalty_on(c.penalty))
        llm_cuda_frequency_penalty_charge(x, V, b, t, c.penalty);
    if (llm_cuda_dry_on(c.dry)) llm_cuda_dry_charge(x, V, b, t, c.dry);

    const unsigned long long largest = llm_select_max<float, W>(x, V);
    if (!llm_select_drawable(largest)) {
        if (threadIdx.x == 0) token[b] = -1;
        return;
    }
    float max = llm_select_value(largest);
    unsigned used = 0; /* random numbers */
    const unsigned before = c.hot ? c.steps - 1 : c.steps;
    unsigned long long kept = llm_cuda_sampling_steps<W>(x, V, c.chain, before, 0, max);
    if (c.xtc_chance > 0.0f && llm_cuda_sampling_control_uniform(seed[b], used++) < c.xtc_chance)
        llm_cuda_sampling_control_cut<W>(x, V, kept, c.xtc_threshold, max);
    if (c.hot) kept = llm_cuda_sampling_steps<W>(x, V, c.chain + before, 1, kept, max);
    llm_draw_entry<float, W>(token + b, x, V, kept, max,
                             llm_cuda_sampling_control_uniform(seed[b], used));
}
/* token (B) <- what llm_sampling_text_pick with a generator of llm_rng_seed(seed[row]) chooses from
 * each row of logits (B,V), which is changed, with the row's text in t; -1 where one is NaN or all
 * are -inf. Typical sampling is refused; up to 2^23 entries. */
static inline __attribute__((unused)) cudaError_t
llm_cuda_sampling_text_pick(int *token, float *logits, const uint64_t *seed, size_t B, size_t V,
                            const llm_cuda_frequency_penalty_text *t,
                            const llm_cuda_sampling_text_config *c, cudaStream_t stream) {
    if (V == 0 || V > 1u << 23 || !llm_cuda_sampling_known(c->chain, c->steps) ||
        !(c->penalty.factor > 0.0f) || (c->xtc_chance > 0.0f && !(c->xtc_threshold > 0.0f)) ||
        ((c->penalty.output || c->min_new > 0) && !t->prompt))
        return cudaErrorInvalidValue;
    if (B == 0) return cudaSuccess;
    const bool wide = llm_aligned(logits, V) && llm_aligned(c->bias.unconditional, V);
    const auto pick = wide ? llm_sampling_text_kernel<4> : llm_sampling_text_kernel<1>;
    LLM_LAUNCH(pick, (unsigned)B, llm_row_threads(wide ? V / 4 : V), 0, stream, token, logits, seed,
               V, *t, *c);
    return cudaGetLastError();
}

/* @beam_search ---------------------------------------------- Beam search
 *
 * A generation of many searches at once, without the host, in two launches. A block a row takes
 * log-softmax and keeps the K best of its V continuations: each thread remembers the two best it
 * met, a round gives the best of the block away, and only a thread that has given both looks
 * through its entries again. Then a block a search puts the B K candidates in order by counting who
 * is better, one thread does the bookkeeping of the reference on indices, and all of them move the
 * texts. Rank and index share an integer of 64 bits, so that ties go to the lower continuation.
 *
 * What a generation leaves is what the next one and the model need: the last token of each text,
 * and whose cache its row takes (llm_cuda_kv_cache_reorder). Searches that are done change nothing.
 *
 * Moves each logit once from memory and once from L2, where reading it once would do, and 24 bytes
 * a candidate; texts cost T ints a row and generation. Limit: memory bandwidth; for few rows the K
 * rounds, each two barriers.
 *
 * source  Wu et al. 2016, "Google's Neural Machine Translation System", eq. 14
 * needs   cuda_launch, cuda_memory, cuda_select, logsumexp
 * see     kv_cache, top_k
 * topics  -
 */
enum { LLM_CUDA_BEAM_SEARCH_BEAMS = 32, LLM_CUDA_BEAM_SEARCH_CANDIDATES = 128 };

/* A continuation: log p of the whole text, its rank as in the reference, the token. */
typedef struct {
    double total;
    float rank;
    int token;
} llm_cuda_beam_search_candidate;

/* One search. order: the places of the ended texts, best score first. */
typedef struct {
    size_t live, length, ended, open;
    int order[LLM_CUDA_BEAM_SEARCH_BEAMS];
} llm_cuda_beam_search_state;

/* S searches on the device: state (S); ids, spare, end_ids (S,B,T); sum, end_sum, end_score,
 * end_length (S,B); candidate (S,B,K). For the model: token, parent (S B), rows counted through all
 * searches; a row that is not used takes the first one's state. config.stop is on the device. */
typedef struct {
    llm_beam_search_config config;
    size_t searches, K;
    llm_cuda_beam_search_state *state;
    llm_cuda_beam_search_candidate *candidate;
    int *ids, *spare, *end_ids, *token;
    double *sum, *end_sum, *end_score;
    size_t *end_length, *parent;
} llm_cuda_beam_search;

/* How many candidates a search with these settings wants of each row. */
static inline __attribute__((unused)) size_t
llm_cuda_beam_search_wanted(const llm_beam_search_config *c) {
    return (c->stops > 1 ? 1 + c->stops : 2) * c->beams;
}

LLM_KERNEL void llm_beam_search_begin_kernel(llm_cuda_beam_search s) {
    if (threadIdx.x != 0) return;
    llm_cuda_beam_search_state &now = s.state[blockIdx.x];
    now.live = 1, now.length = now.ended = 0, now.open = 1;
    s.sum[blockIdx.x * s.config.beams] = 0.0;
}
/* One empty text for each search, whose model has seen the prompt in the first of its rows. */
static inline __attribute__((unused)) cudaError_t
llm_cuda_beam_search_begin(const llm_cuda_beam_search *s, cudaStream_t stream) {
    if (s->searches == 0) return cudaSuccess;
    LLM_LAUNCH(llm_beam_search_begin_kernel, (unsigned)s->searches, 32, 0, stream, *s);
    return cudaGetLastError();
}

/* Larger for a larger rank, and for the lower of equal ones; never 0. */
LLM_DEVICE unsigned long long llm_cuda_beam_search_key(float rank, size_t i) {
    return llm_select_pair(rank, 0xffffffffu - i);
}
template <typename T>
LLM_KERNEL void __launch_bounds__(1024)
    llm_beam_search_rows_kernel(llm_cuda_beam_search s, const T *logits, size_t V) {
    const size_t row = blockIdx.x, b = row % s.config.beams;
    const llm_cuda_beam_search_state &now = s.state[row / s.config.beams];
    if (!now.open || b >= now.live) return;
    const T *x = logits + row * V;
    llm_logsumexp_pair all = {-INFINITY, 0.0f};
    for (size_t v = threadIdx.x; v < V; v += blockDim.x) {
        const float one[1] = {llm_load(x, v)};
        llm_cuda_logsumexp_add(all, one, 1.0f);
    }
    all = llm_cuda_logsumexp_row<false>(all, 1.0f);
    const float shift = all.max == -INFINITY ? 0.0f : all.max, log_sum = logf(all.sum);
    const double sum = s.sum[row];

    unsigned long long best[2] = {0, 0}, below = ~0ull; /* this thread's, below what it gave away */
    for (size_t r = 0; r < s.K; r++) {
        if (best[0] == 0 && below != 0) {
            for (size_t v = threadIdx.x; v < V; v += blockDim.x) {
                const float logp = (llm_load(x, v) - shift) - log_sum;
                const unsigned long long key =
                    llm_cuda_beam_search_key((float)(sum + (double)logp), v);
                if (key >= below || key <= best[1]) continue;
                best[1] = key > best[0] ? best[0] : key;
                best[0] = key > best[0] ? key : best[0];
            }
            if (best[0] == 0) below = 0; /* nothing is left */
        }
        const unsigned long long first = llm_select_block_max(best[0]);
        llm_cuda_beam_search_candidate &to = s.candidate[row * s.K + r];
        if (first == 0) {
            if (threadIdx.x == 0) to.token = -1; /* fewer continuations than candidates */
        } else if (best[0] == first) {
            const size_t v = 0xffffffffu - (first & 0xffffffffu);
            to.token = (int)v;
            to.total = sum + (double)((llm_load(x, v) - shift) - log_sum);
            to.rank = (float)to.total;
            below = first, best[0] = best[1], best[1] = 0;
        }
    }
}

/* The bookkeeping of llm_beam_search_advance: rank r has candidate best[r], n in all. Writes for
 * each new text its row and token, and for each ended one that is kept the candidate. */
LLM_DEVICE void llm_cuda_beam_search_book(const llm_cuda_beam_search &s, size_t search,
                                          const int *best, size_t n, int *ended) {
    const llm_beam_search_config &c = s.config;
    const size_t B = c.beams, first = search * B;
    llm_cuda_beam_search_state &now = s.state[search];
    size_t next = 0;
    double ahead = (double)-INFINITY;
    now.length++;
    const double power =
        pow(c.gnmt ? (5.0 + (double)now.length) / 6.0 : (double)now.length, (double)c.alpha);
    for (size_t r = 0; r < n; r++) {
        const llm_cuda_beam_search_candidate &got = s.candidate[first * s.K + (size_t)best[r]];
        bool ends = now.length == c.max_new;
        for (size_t i = 0; i < c.stops; i++) ends = ends || got.token == c.stop[i];
        if (!(got.total > (double)-INFINITY)) continue; /* banned */
        if (ends && r < B) {
            const double score = got.total / power;
            size_t at = now.ended;
            while (at > 0 && score > s.end_score[first + (size_t)now.order[at - 1]]) at--;
            if (at == B) continue;
            const int slot = now.ended < B ? (int)now.ended++ : now.order[B - 1];
            for (size_t i = now.ended - 1; i > at; i--) now.order[i] = now.order[i - 1];
            now.order[at] = slot;
            s.end_score[first + (size_t)slot] = score;
            s.end_sum[first + (size_t)slot] = got.total;
            s.end_length[first + (size_t)slot] = now.length;
            ended[slot] = best[r];
        }
        if (ends || next == B) continue;
        s.parent[first + next] = first + (size_t)best[r] / s.K;
        s.token[first + next] = got.token;
        s.sum[first + next] = got.total; /* the candidates hold what their parents had */
        ahead = got.total > ahead ? got.total : ahead;
        next++;
    }
    now.live = next;
    for (; next < B; next++) s.parent[first + next] = first, s.token[first + next] = 0;
    const bool full = now.ended == B;
    const double l =
        (double)(c.early == LLM_BEAM_SEARCH_NEVER && c.alpha > 0.0f ? c.max_new : now.length);
    const double hope = ahead / pow(c.gnmt ? (5.0 + l) / 6.0 : l, (double)c.alpha);
    now.open = now.live > 0 && !(full && c.early == LLM_BEAM_SEARCH_FULL) &&
               !(full && !(hope > s.end_score[first + (size_t)now.order[B - 1]]));
}
LLM_KERNEL void __launch_bounds__(256) llm_beam_search_merge_kernel(llm_cuda_beam_search s) {
    __shared__ int best[LLM_CUDA_BEAM_SEARCH_CANDIDATES], ended[LLM_CUDA_BEAM_SEARCH_BEAMS];
    const size_t B = s.config.beams, T = s.config.max_new, K = s.K, first = blockIdx.x * B;
    const llm_cuda_beam_search_state &now = s.state[blockIdx.x];
    const size_t all = now.live * K;
    const llm_cuda_beam_search_candidate *of = s.candidate + first * K;
    if (!now.open) { /* rows stay where they are */
        for (size_t b = threadIdx.x; b < B; b += blockDim.x) s.parent[first + b] = first + b;
        return;
    }
    if (threadIdx.x < B) ended[threadIdx.x] = -1;
    int count = 0; /* candidates that exist */
    for (size_t from = 0; from < all; from += blockDim.x)
        count += __syncthreads_count(from + threadIdx.x < all && of[from + threadIdx.x].token >= 0);
    const size_t n = (size_t)count < K ? (size_t)count : K;
    for (size_t i = threadIdx.x; i < all; i += blockDim.x) {
        size_t place = 0; /* a row's candidates are in order, and lower rows come first */
        for (size_t j = 0; j < all; j++)
            place += of[j].token >= 0 && llm_cuda_beam_search_key(of[j].rank, j) >
                                             llm_cuda_beam_search_key(of[i].rank, i);
        if (of[i].token >= 0 && place < n) best[place] = (int)i;
    }
    __syncthreads();
    if (threadIdx.x == 0) llm_cuda_beam_search_book(s, blockIdx.x, best, n, ended);
    __syncthreads();
    const size_t old = now.length - 1; /* tokens of the texts as they lie */
    for (size_t i = threadIdx.x; i < B * now.length; i += blockDim.x) {
        const size_t b = i / now.length, t = i % now.length;
        if (ended[b] >= 0) {
            const size_t from = (first + (size_t)ended[b] / K) * T + t;
            s.end_ids[(first + b) * T + t] = t < old ? s.ids[from] : of[ended[b]].token;
        }
        if (b < now.live)
            s.spare[(first + b) * T + t] =
                t < old ? s.ids[s.parent[first + b] * T + t] : s.token[first + b];
    }
    __syncthreads();
    for (size_t i = threadIdx.x; i < now.live * now.length; i += blockDim.x) {
        const size_t at = (first + i / now.length) * T + i % now.length;
        s.ids[at] = s.spare[at];
    }
}

/* One generation of every search that is open: logits (S B,V), in the order of the rows, of the
 * texts under way. As llm_beam_search_advance without a charge, but that log p is a float's
 * rounding off. At most 32 beams and 128 candidates. T is float or llm_bf16. */
template <typename T>
static inline cudaError_t llm_cuda_beam_search_advance(const llm_cuda_beam_search *s,
                                                       const T *logits, size_t V,
                                                       cudaStream_t stream) {
    const size_t rows = s->searches * s->config.beams;
    if (s->config.beams > LLM_CUDA_BEAM_SEARCH_BEAMS || V == 0 || V > 0x7fffffff ||
        s->K > LLM_CUDA_BEAM_SEARCH_CANDIDATES || s->K != llm_cuda_beam_search_wanted(&s->config))
        return cudaErrorInvalidValue;
    if (rows == 0) return cudaSuccess;
    LLM_LAUNCH(llm_beam_search_rows_kernel<T>, (unsigned)rows, llm_row_threads(V), 0, stream, *s,
               logits, V);
    const cudaError_t error = cudaGetLastError();
    if (error != cudaSuccess) return error;
    LLM_LAUNCH(llm_beam_search_merge_kernel, (unsigned)s->searches, 256, 0, stream, *s);
    return cudaGetLastError();
}

/* @decoding_step -------------------------------------------- A token of a Llama without the host
 *
 * From the ids on the device to the next id on the device, five launches a layer and a few around
 * them (attend takes two where the keys of a row are split):
 *
 *     embed    norm + QKV + rope + cache    attend    out + add    norm + gate, up    down + add
 *     ...      norm + head    forbid    sample    take    follow
 *
 * The products are those of @stored_matrix_product: weights stay in their file's form, the norms
 * and additions ride along. In the QKV product a warp makes the two rows that a rotation mixes, so
 * it turns them in registers and puts queries where attend reads them, keys and values into the
 * cache. Lengths, ids, ends, seeds and penalties' counts stand on the device and no argument
 * depends on them: a token is the same launches as the one before, to be queued by the hundred or
 * captured as a graph.
 *
 * Which token a row feeds follows from the cache: behind L positions comes ids[L]. So prompts of
 * different lengths go through the same layers without padding, and without head and sampler; a row
 * that is further than the others repeats its last token, which writes the same numbers again.
 *
 * Moves each weight once for up to 8 rows, and the keys and values: the minimum. Limit: memory
 * bandwidth; for small models the launches, 5 L + 6.
 *
 * source  Pope et al. 2022, "Efficiently Scaling Transformer Inference"
 * needs   cuda_launch, cuda_memory, decoder_block, stored_matrix, stored_matrix_product, kv_cache,
 *         decoding, sampling, gqa
 * see     decoder_only_graph, llama
 * topics  -
 */

/* A layer: matrices in their form, data on the device; gains (C), and qkv's bias or NULL. */
struct llm_cuda_decoding_step_layer {
    llm_stored_matrix qkv, out, gate, up, down;
    const float *norm1, *norm2, *bias;
};

/* Given: everything up to logits; layer (layers) is an array of the host. rows: of @decoding, their
 * cache has as much room as they have capacity. count (B,V) or NULL: for the sampler's penalties.
 * llm_cuda_decoding_step_bind sets the rest. Up to 8 rows. */
template <typename T> struct llm_cuda_decoding_step {
    size_t width, heads, head_size, hidden, layers; /* C, H, D, F, L */
    float eps;
    llm_rope_pairing pairing;
    const float *cosine, *sine; /* (room,D/2) */
    const llm_cuda_decoding_step_layer *layer;
    llm_stored_matrix embed, head; /* (V,C) */
    const float *norm;             /* (C) */
    llm_cuda_kv_cache<T> cache;
    llm_cuda_decoding_rows rows;
    llm_cuda_sampling_config sampling;
    int *count;

    float *x, *wide, *logits, *part; /* (B,C), (B,F), (B,V); attend's scratch */
    T *q, *mixed;                    /* (B,H,D) */
    int *token;                      /* (B) */
};

/* Points s into memory; returns the bytes that takes. memory may be NULL to count only. */
template <typename T>
static inline size_t llm_cuda_decoding_step_bind(llm_cuda_decoding_step<T> &s,
                                                 unsigned char *memory) {
    const llm_cuda_gqa_config g = llm_cuda_kv_cache_config(&s.cache, s.heads);
    const size_t B = s.rows.B, Q = s.heads * s.head_size;
    float **const number[4] = {&s.x, &s.wide, &s.logits, &s.part};
    const size_t size[4] = {B * s.width, B * s.hidden, B * s.head.rows, llm_cuda_gqa_scratch(&g)};
    size_t used = 0;
    for (size_t i = 0; i < 4; i++)
        *number[i] = llm_cuda_decoder_block_take<float>(memory, used, size[i]);
    s.q = llm_cuda_decoder_block_take<T>(memory, used, B * Q);
    s.mixed = llm_cuda_decoder_block_take<T>(memory, used, B * Q);
    s.token = llm_cuda_decoder_block_take<int>(memory, used, B);
    return used;
}

/* What becomes of two rows of the QKV product: dimensions that turn together, of one head. */
template <typename T> struct llm_cuda_decoding_step_end {
    T *q;
    llm_cuda_kv_cache<T> cache;
    const float *cosine, *sine, *bias;
    size_t l, heads, half;
    bool neighbours;
    LLM_DEVICE_METHOD size_t row(size_t pair, size_t which) const {
        const size_t d = pair % half;
        return pair / half * 2 * half + (neighbours ? 2 * d + which : d + which * half);
    }
    LLM_DEVICE_METHOD void operator()(size_t pair, size_t n, float a, float b) const {
        const size_t h = pair / half, d = pair % half, D = 2 * half, position = cache.length[n];
        const size_t first = neighbours ? 2 * d : d, second = neighbours ? 2 * d + 1 : d + half;
        const bool query = h < heads, value = h >= heads + cache.H;
        if (position >= cache.room) return;
        if (bias) a += llm_load(bias, row(pair, 0)), b += llm_load(bias, row(pair, 1));
        T *to = q + (n * heads + h) * D;
        if (!query) {
            const size_t head = n * cache.H + (h - heads) % cache.H;
            to = llm_cuda_kv_cache_keys(cache, l) + (head * cache.room + position) * D;
            if (value) to += cache.B * cache.H * cache.room * D;
        }
        const float cos_t = value ? 1.0f : llm_load(cosine, position * half + d);
        const float sin_t = value ? 0.0f : llm_load(sine, position * half + d);
        llm_store(to, first, a * cos_t - b * sin_t);
        llm_store(to, second, a * sin_t + b * cos_t);
    }
};

/* Each row's next token through all layers: keys and values behind those of the cache, x (B,C) of
 * the last layer. The cache does not grow yet. */
template <typename T>
static inline cudaError_t llm_cuda_decoding_step_layers(const llm_cuda_decoding_step<T> &s,
                                                        cudaStream_t stream) {
    const size_t B = s.rows.B, half = s.head_size / 2, H = s.heads + 2 * s.cache.H;
    const float *const none = NULL;
    if (s.head_size % 2 != 0 || s.cache.room < s.rows.capacity || s.cache.B != B)
        return cudaErrorInvalidValue;
    cudaError_t error = llm_cuda_stored_matrix_rows(s.x, s.embed, s.rows.ids, s.rows.capacity,
                                                    s.cache.length, B, stream);
    for (size_t l = 0; l < s.layers && error == cudaSuccess; l++) {
        const llm_cuda_decoding_step_layer &w = s.layer[l];
        const llm_cuda_decoding_step_end<T> end = {
            s.q,     s.cache, s.cosine,
            s.sine,  w.bias,  l,
            s.heads, half,    s.pairing == LLM_ROPE_NEIGHBOURS};
        const cudaError_t done[] = {
            llm_cuda_stored_matrix_product_run(end, w.qkv, w.qkv, H * half, s.x, w.norm1, s.eps, B,
                                               stream),
            llm_cuda_kv_cache_attend(s.mixed, &s.cache, l, s.q, s.heads, s.part, stream),
            llm_cuda_stored_matrix_product(s.x, s.mixed, w.out, none, none, 0.0f, B, true, stream),
            llm_cuda_stored_matrix_product_glu(s.wide, s.x, w.gate, w.up, w.norm2, s.eps,
                                               LLM_ACTIVATION_SILU, B, stream),
            llm_cuda_stored_matrix_product(s.x, s.wide, w.down, none, none, 0.0f, B, true, stream)};
        error = llm_cuda_first_error(done);
    }
    return error;
}
LLM_KERNEL void llm_decoding_step_follow_kernel(size_t *length, const size_t *text, size_t B) {
    if (threadIdx.x < B && length[threadIdx.x] + 1 < text[threadIdx.x]) length[threadIdx.x]++;
}
/* The cache grows by the token fed, in rows that have another one to feed. */
template <typename T>
static inline cudaError_t llm_cuda_decoding_step_follow(const llm_cuda_decoding_step<T> &s,
                                                        cudaStream_t stream) {
    LLM_LAUNCH(llm_decoding_step_follow_kernel, 1, 32, 0, stream, s.cache.length, s.rows.length,
               s.rows.B);
    return cudaGetLastError();
}
/* A token of every row's prompt but its last one: to be queued until the longest prompt, less one,
 * is in the cache. */
template <typename T>
static inline cudaError_t llm_cuda_decoding_step_prompt(const llm_cuda_decoding_step<T> &s,
                                                        cudaStream_t stream) {
    const cudaError_t done[] = {llm_cuda_decoding_step_layers(s, stream),
                                llm_cuda_decoding_step_follow(s, stream)};
    return llm_cuda_first_error(done);
}
/* A new token for every row that goes on, by the chain s.sampling; prompts are in the cache but for
 * their last tokens. */
template <typename T>
static inline cudaError_t llm_cuda_decoding_step_token(const llm_cuda_decoding_step<T> &s,
                                                       cudaStream_t stream) {
    const size_t B = s.rows.B, V = s.head.rows;
    const float *const none = NULL;
    const cudaError_t done[] = {
        llm_cuda_decoding_step_layers(s, stream),
        llm_cuda_stored_matrix_product(s.logits, s.x, s.head, none, s.norm, s.eps, B, false,
                                       stream),
        llm_cuda_decoding_forbid(&s.rows, s.logits, V, stream),
        llm_cuda_sampling_chain(s.token, s.logits, s.count, s.rows.seed, B, V, &s.sampling, stream),
        llm_cuda_decoding_take(&s.rows, s.token, none, stream),
        llm_cuda_decoding_step_follow(s, stream)};
    return llm_cuda_first_error(done);
}

/* @speculative ---------------------------------------------- Speculative decoding
 *
 * The verdict on a turn's drafts for all rows of a batch, a block a row, without the host: how many
 * are accepted, the token behind them, and the length of the cache taken back. The question at each
 * draft is two numbers and a draw, so every warp asks it for all drafts at once, a lane a draft,
 * and the first refusal is the lowest bit of a ballot: no shared memory and no barrier. Then what
 * is left of p at that place is written as a logarithm over it, which is what the block that draws
 * an entry (@cuda_draw) reads. The draws are the reference's, number for number.
 *
 * Moves one row of p and of q in, one out, and reads that twice more, from L2: of g + 1 rows the
 * others are touched at one place. Limit: latency; the passes of the models are what costs.
 *
 * source  Leviathan, Kalman & Matias 2023, "Fast Inference from Transformers via Speculative
 *         Decoding", algorithm 1
 * needs   cuda_launch, cuda_memory, cuda_reduce, cuda_select, cuda_draw, sampling_control
 * see     kv_cache, decoding
 * topics  -
 */

LLM_KERNEL void __launch_bounds__(1024)
    llm_speculative_verify_kernel(int *next, int *taken, size_t *length, const int *draft,
                                  const float *q, float *p, const uint64_t *seed, size_t g,
                                  size_t V) {
    const size_t b = blockIdx.x, lane = threadIdx.x % 32;
    bool refused = lane == g; /* the place behind the last draft */
    if (lane < g) {
        const size_t x = (size_t)draft[b * g + lane];
        const float u = llm_cuda_sampling_control_uniform(seed[b], (unsigned)lane);
        const float drafted = q ? llm_load(q, (b * g + lane) * V + x) : 1.0f;
        refused = !(u * drafted < llm_load(p, (b * (g + 1) + lane) * V + x));
    }
    const size_t i = (size_t)__ffs((int)__ballot_sync(0xffffffffu, refused)) - 1;
    float *const mine = p + (b * (g + 1) + i) * V;
    const float *const other = q && i < g ? q + (b * g + i) * V : NULL;
    const size_t without = i < g && !q ? (size_t)draft[b * g + i] : V;

    double left = 0.0; /* the mass of max(0, p - q); where there is none, p stays */
    for (size_t v = threadIdx.x; v < V; v += blockDim.x) {
        const float over = llm_load(mine, v) - (other ? llm_load(other, v) : 0.0f);
        left += v == without ? 0.0 : (double)fmaxf(over, 0.0f);
    }
    const bool residual = llm_block_sum(left) > 0.0;
    __syncthreads(); /* everybody has read what is written now */
    for (size_t v = threadIdx.x; v < V; v += blockDim.x) {
        float over = llm_load(mine, v);
        if (residual) over = v == without ? 0.0f : over - (other ? llm_load(other, v) : 0.0f);
        llm_store(mine, v, over > 0.0f ? logf(over) : -INFINITY);
    }
    __syncthreads();
    const unsigned long long largest = llm_select_max<float, 1>(mine, V);
    if (!llm_select_drawable(largest)) {
        if (threadIdx.x == 0) next[b] = -1;
    } else {
        const float u = llm_cuda_sampling_control_uniform(seed[b], (unsigned)(i < g ? i + 1 : g));
        llm_draw_entry<float, 1>(next + b, mine, V, 0, llm_select_value(largest), u);
    }
    if (threadIdx.x != 0) return;
    taken[b] = (int)i;
    if (length) length[b] -= g - i;
}

/* taken (B) <- how many of draft (B,g) are accepted, next (B) <- the token behind them: for each
 * row as llm_speculative_verify with a generator of llm_rng_seed(seed[b]). q (B,g,V) or NULL, p
 * (B,g+1,V), of which a row is overwritten. length (B) or NULL: of a cache that holds the g drafts,
 * less those refused. Drafts are ids; -1 where p has no mass. g <= 31. */
static inline __attribute__((unused)) cudaError_t
llm_cuda_speculative_verify(int *next, int *taken, size_t *length, const int *draft, const float *q,
                            float *p, const uint64_t *seed, size_t B, size_t g, size_t V,
                            cudaStream_t stream) {
    if (g > 31 || V == 0 || V > 0x7fffffff) return cudaErrorInvalidValue;
    if (B == 0) return cudaSuccess;
    LLM_LAUNCH(llm_speculative_verify_kernel, (unsigned)B, llm_row_threads(V), 0, stream, next,
               taken, length, draft, q, p, seed, g, V);
    return cudaGetLastError();
}

/* @speculative_attend_bf16 ---------------------------------- Few queries on tensor cores
 *
 * @flash23_bf16's products for the few rows of @speculative_attend: what differs is that one text
 * does not fill the card, so several blocks share the keys of a head, as in @gqa, each with its own
 * maximum, sum and values, in float, and a second launch merges them by the rule of @logsumexp in a
 * fixed order. With one split the block writes the result itself. The next tile of keys and values
 * is on its way while one is worked off, and a step needs one barrier.
 *
 * Traffic: keys and values once, the minimum, and D + 2 floats a row and split. 4 S D operations a
 * row. Limit: memory bandwidth, also with all 64 rows: 64 operations a byte are less than a third
 * of what the tensor cores need. Shared memory: 45 KB for D <= 64, 85 KB for D <= 128.
 *
 * source  Dao, Haziza, Massa & Sizov 2023, "Flash-Decoding for long-context inference"
 * needs   cuda_launch, cuda_memory, cuda_mma, gqa, flash23_bf16
 * see     speculative_attend, flash23_bf16
 * topics  -
 */

/* A block: 64 rows of a head against a split of its keys; part (B H T,splits,D+2) or NULL. */
template <int W, typename R>
LLM_KERNEL void __launch_bounds__(128)
    llm_speculative_attend_bf16_kernel(llm_bf16 *out, float *part, const llm_bf16 *q,
                                       const llm_bf16 *k, const llm_bf16 *v, R rule) {
    enum { ROW = W + 8, TILE = 64 * ROW };
    LLM_DYNAMIC_SHARED(llm_bf16, q_tile);
    llm_bf16 *k_tiles = q_tile + TILE, *v_tiles = k_tiles + 2 * TILE;
    const unsigned lane = threadIdx.x % 32, m8 = lane / 8, in8 = lane % 8;
    const unsigned y = threadIdx.x / 32 * 16; /* the warp's first row */
    const size_t i = (size_t)blockIdx.z * 64, D = rule.c.D;
    rule.enter(blockIdx.x);
    const size_t tiles = (rule.S + 63) / 64, each = (tiles + rule.splits - 1) / rule.splits;
    size_t t = blockIdx.y * each, end = t + each < tiles ? t + each : tiles;
    llm_cuda_flash23_bf16_send<W>(q_tile, q + rule.q_at(i), rule.T - i, D, D);
    if (t < end) {
        llm_cuda_flash23_bf16_send<W>(k_tiles, k + rule.k_at(64 * t), rule.S - 64 * t, D, D);
        llm_cuda_flash23_bf16_send<W>(v_tiles, v + rule.k_at(64 * t), rule.S - 64 * t, D, D);
    }
    llm_copy_commit();
    llm_copy_wait<0>();
    __syncthreads();
    uint32_t q_v[W / 16][4];
    LLM_UNROLL
    for (unsigned d = 0; d < W / 16; d++)
        llm_ldmatrix_x4(q_v[d], q_tile + (y + m8 % 2 * 8 + in8) * ROW + 16 * d + m8 / 2 * 8);

    /* rows lane / 4 and lane / 4 + 8 of the warp's; l: this lane's share of the sum */
    float m[2] = {-INFINITY, -INFINITY}, l[2] = {0.0f, 0.0f}, o[W / 8][4] = {};
    for (unsigned now = 0; t < end; t++, now ^= 1) {
        const llm_bf16 *k_tile = k_tiles + now * TILE, *v_tile = v_tiles + now * TILE;
        const size_t j = 64 * t, next = j + 64;
        llm_copy_wait<0>();
        __syncthreads(); /* the tile is there, and the one before is worked off */
        if (t + 1 < end) {
            llm_bf16 *k_next = k_tiles + (now ^ 1) * TILE, *v_next = v_tiles + (now ^ 1) * TILE;
            llm_cuda_flash23_bf16_send<W>(k_next, k + rule.k_at(next), rule.S - next, D, D);
            llm_cuda_flash23_bf16_send<W>(v_next, v + rule.k_at(next), rule.S - next, D, D);
        }
        llm_copy_commit();
        float s[8][4] = {};
        LLM_UNROLL
        for (unsigned e = 0; e < W / 2; e += 2) { /* 8 keys by 16 dimensions at a time */
            const unsigned d = e / 8, at = e % 8;
            uint32_t w[4];
            llm_ldmatrix_x4(w, k_tile + (8 * at + m8 / 2 * 8 + in8) * ROW + 16 * d + m8 % 2 * 8);
            const uint32_t low[2] = {w[0], w[1]}, high[2] = {w[2], w[3]};
            llm_mma_m16n8k16_bf16(s[at], q_v[d], low);
            llm_mma_m16n8k16_bf16(s[at + 1], q_v[d], high);
        }
        const bool whole = rule.whole(i, j, true, t);
        LLM_UNROLL
        for (unsigned r = 0; r < 2; r++) {
            const size_t row = i + y + lane / 4 + 8 * r, column = j + lane % 4 * 2;
            float max = m[r], slope;
            LLM_UNROLL
            for (unsigned e = 0; e < 16; e++) {
                float &at = s[e / 2][2 * r + e % 2];
                const size_t key = column + e / 2 * 8 + e % 2;
                at = whole || rule.seen(row, key) ? rule.score(slope, at, row, key) : -INFINITY;
                max = fmaxf(max, at);
            }
            max = fmaxf(max, __shfl_xor_sync(0xffffffffu, max, 1));
            max = fmaxf(max, __shfl_xor_sync(0xffffffffu, max, 2));
            const float shift = max == -INFINITY ? 0.0f : max, old = expf(m[r] - shift);
            m[r] = max, l[r] *= old;
            LLM_UNROLL
            for (unsigned e = 0; e < 16; e++) {
                float &at = s[e / 2][2 * r + e % 2];
                at = expf(at - shift);
                l[r] += at;
            }
            LLM_UNROLL
            for (unsigned d = 0; d < W / 8; d++) o[d][2 * r] *= old, o[d][2 * r + 1] *= old;
        }
        llm_cuda_flash23_bf16_gather<W>(o, s, v_tile);
    }
    llm_copy_wait<0>();
    LLM_UNROLL
    for (unsigned r = 0; r < 2; r++) {
        const size_t row = i + y + lane / 4 + 8 * r, d0 = lane % 4 * 2;
        l[r] += __shfl_xor_sync(0xffffffffu, l[r], 1);
        l[r] += __shfl_xor_sync(0xffffffffu, l[r], 2);
        if (row >= rule.T) continue;
        const size_t at = (rule.lse_at(row) * rule.splits + blockIdx.y) * (D + 2);
        if (part && lane % 4 == 0) part[at + D] = m[r], part[at + D + 1] = l[r];
        const float gain = part || l[r] == 0.0f ? 1.0f : 1.0f / l[r];
        LLM_UNROLL
        for (unsigned d = 0; d < W / 8; d++) {
            if (8 * d >= D) continue;
            const float a = gain * o[d][2 * r], b = gain * o[d][2 * r + 1];
            if (part)
                part[at + 8 * d + d0] = a, part[at + 8 * d + d0 + 1] = b;
            else
                llm_store_words(out + rule.q_at(row) + 8 * d + d0, llm_pack(a, b));
        }
    }
}

/* out <- q, k, v as the rule has them, its keys in rule.splits parts; scratch: B H T splits (D + 2)
 * floats where there is more than one. D <= 128 is a multiple of 8; q, k, v and out begin at
 * multiples of 16 bytes. */
template <typename R>
static inline cudaError_t llm_cuda_speculative_attend_bf16_run(llm_bf16 *out, const llm_bf16 *q,
                                                               const llm_bf16 *k, const llm_bf16 *v,
                                                               const R &rule, float *scratch,
                                                               cudaStream_t stream) {
    const size_t D = rule.c.D, heads = rule.c.B * rule.c.H;
    if (D > 128 || D % 8 != 0 || !llm_aligned(q, 8) || !llm_aligned(k, 8) || !llm_aligned(v, 8) ||
        !llm_aligned(out, 8))
        return cudaErrorInvalidValue;
    const auto attend = D <= 64 ? llm_speculative_attend_bf16_kernel<64, R>
                                : llm_speculative_attend_bf16_kernel<128, R>;
    const dim3 grid((unsigned)heads, (unsigned)rule.splits, (unsigned)((rule.c.T + 63) / 64));
    LLM_LAUNCH(attend, grid, 128, 5 * 64 * (D <= 64 ? 72 : 136) * sizeof(llm_bf16), stream, out,
               rule.splits > 1 ? scratch : NULL, q, k, v, rule);
    const cudaError_t error = cudaGetLastError();
    if (rule.splits == 1 || error != cudaSuccess) return error;
    LLM_LAUNCH(llm_gqa_combine_kernel<llm_bf16>, (unsigned)(heads * rule.c.T), llm_row_threads(D),
               0, stream, out, scratch, rule.splits, D);
    return cudaGetLastError();
}

/* @speculative_attend --------------------------------------- Attention of tokens to be verified
 *
 * A few new tokens of each text against its cache: drafts behind each other (@speculative), or the
 * nodes of a tree (@medusa_tree, @lookahead), which see the text and what their mask says of each
 * other. All query heads of a group and all tokens are rows of one tile, up to 64, so keys and
 * values are read once for all of them, where a launch of @gqa for each token would read them n
 * times; only the last tiles, where the tokens themselves stand, ask the mask. A tile of 64 has
 * idle rows where n times the group is less: arithmetic that nobody misses while the keys are on
 * their way. bfloat16 goes by @speculative_attend_bf16; float by @flash, one block a head.
 *
 * Traffic: keys and values once for 64 rows, the minimum. Limit: memory bandwidth.
 *
 * source  Leviathan, Kalman & Matias 2023, "Fast Inference from Transformers via Speculative
 *         Decoding", algorithm 1
 * needs   cuda_launch, cuda_memory, flash, kv_cache, speculative_attend_bf16
 * see     medusa_tree, lookahead
 * topics  -
 */

/* Token i sees what stands in front of it, and itself: node j for node i of row b. */
struct llm_cuda_speculative_attend_chain {
    LLM_DEVICE_METHOD bool sees(size_t, size_t i, size_t j) const { return j <= i; }
};

/* A rule (@flash) whose heads are those of the keys and whose rows are (head of the group, token):
 * T = n times the group; text keys stand in front of the n tokens. */
template <typename M> struct llm_cuda_speculative_attend_rule {
    llm_flash_config c;
    const size_t *length;
    size_t n, room, splits;
    M mask;
    size_t T, S, bh, text;
    LLM_DEVICE_METHOD void enter(size_t head) {
        bh = head, text = length[bh / c.H], T = c.T, S = text + n;
    }
    LLM_DEVICE_METHOD size_t q_at(size_t i) const { return (bh * T + i) * c.D; }
    LLM_DEVICE_METHOD size_t k_at(size_t j) const { return (bh * room + j) * c.D; }
    LLM_DEVICE_METHOD size_t q_row() const { return c.D; }
    LLM_DEVICE_METHOD size_t k_row() const { return c.D; }
    LLM_DEVICE_METHOD size_t lse_at(size_t i) const { return bh * T + i; }
    LLM_DEVICE_METHOD void keys(size_t &first, size_t &end, size_t) const {
        first = 0, end = (S + 63) / 64;
    }
    LLM_DEVICE_METHOD size_t key_tile(size_t t) const { return t * 64; }
    LLM_DEVICE_METHOD bool seen(size_t i, size_t j) const {
        return i < T && j < S && (j < text || mask.sees(bh / c.H, i % n, j - text));
    }
    LLM_DEVICE_METHOD bool whole(size_t i, size_t j, bool, size_t) const {
        return i + 64 <= T && j + 64 <= text;
    }
    LLM_DEVICE_METHOD float score(float &slope, float dot, size_t, size_t) const {
        slope = c.scale;
        return c.scale * dot;
    }
    LLM_DEVICE_METHOD float keep(size_t, size_t) const { return 1.0f; }
};

/* In bfloat16, on tensor cores. */
template <typename R>
static inline cudaError_t llm_cuda_speculative_attend_run(llm_bf16 *out, const llm_bf16 *q,
                                                          const llm_bf16 *k, const llm_bf16 *v,
                                                          const R &rule, float *scratch,
                                                          cudaStream_t stream) {
    return llm_cuda_speculative_attend_bf16_run(out, q, k, v, rule, scratch, stream);
}
/* In float, by @flash: scratch is the log-sum-exps, B H T floats. */
template <typename R>
static inline cudaError_t
llm_cuda_speculative_attend_run(float *out, const float *q, const float *k, const float *v,
                                const R &rule, float *scratch, cudaStream_t stream) {
    return llm_cuda_flash_run(out, scratch, q, k, v, rule, rule.c.T, stream);
}

/* Blocks that share a head's keys: two a multiprocessor, none with less than 256 keys. */
template <typename T>
static inline size_t llm_cuda_speculative_attend_splits(const llm_cuda_kv_cache<T> *c, size_t Hq,
                                                        size_t n) {
    const size_t tiles = c->H ? (Hq / c->H * n + 63) / 64 : 0, blocks = c->B * c->H * tiles;
    const size_t fill = blocks ? (2 * llm_multiprocessors() + blocks - 1) / blocks : 1;
    const size_t most = sizeof(T) == 2 && c->room > 512 ? c->room / 256 : 1;
    return fill < most ? fill : most;
}
/* Floats of scratch for so many splits. */
template <typename T>
static inline size_t llm_cuda_speculative_attend_scratch(const llm_cuda_kv_cache<T> *c, size_t Hq,
                                                         size_t n, size_t splits) {
    return c->B * Hq * n * (sizeof(T) == 4 ? 1 : splits > 1 ? splits * (c->D + 2) : 0);
}
/* out (B,Hq,n,D) <- q (B,Hq,n,D): the queries of n tokens that layer l has just appended behind the
 * length of each row, under a mask: with the chain as llm_kv_cache_attend. They fit in the room.
 * splits: of _splits, 1 for float; scratch: of _scratch. D <= 128, for bfloat16 a multiple of 8. */
template <typename T, typename M>
static inline cudaError_t llm_cuda_speculative_attend(T *out, const llm_cuda_kv_cache<T> *c,
                                                      size_t l, const T *q, size_t Hq, size_t n,
                                                      const M &mask, size_t splits, float *scratch,
                                                      cudaStream_t stream) {
    const size_t H = c->H;
    if (l >= c->L || H == 0 || Hq % H != 0 || n > c->room || splits == 0)
        return cudaErrorInvalidValue;
    if (c->B == 0 || Hq == 0 || n == 0 || c->D == 0) return cudaSuccess;
    const llm_cuda_speculative_attend_rule<M> rule = {
        llm_flash_defaults(c->B, H, H, Hq / H * n, c->D),
        c->length,
        n,
        c->room,
        splits,
        mask,
        0,
        0,
        0,
        0};
    const T *k = llm_cuda_kv_cache_keys(*c, l);
    return llm_cuda_speculative_attend_run(out, q, k, k + c->B * H * c->room * c->D, rule, scratch,
                                           stream);
}

/* @medusa_tree ---------------------------------------------- The tree of Medusa, on the device
 *
 * A turn of tree decoding around the model's pass, without the host: the nodes' tokens from the
 * heads' guesses, the mask for @speculative_attend, acceptance, and the cache moved together. Who
 * sees whom is a bit a pair, made once for a tree. Acceptance is a walk: a warp a row, which looks
 * for the child that says what its parent picks, 32 nodes a step; the picks of all nodes are made
 * before, at once (@greedy, or @greedy_head without logits).
 *
 * Compaction: a thread owns 16 bytes of a head and moves them for one accepted node after the
 * other, always to a lower place, so that it takes no copy and no barrier.
 *
 * Moves a few bytes a node, and each accepted key and value that is not in its place in and out,
 * the minimum. Limit: bandwidth for the cache, launches for the rest.
 *
 * source  Cai et al. 2024, "Medusa", sections 2.1.2, 2.3.1 and 2.3.3
 * needs   cuda_launch, cuda_memory, cuda_reduce, kv_cache
 * see     speculative_attend, greedy, decoding, speculative_tree (exact draws)
 * topics  -
 */

/* Bit j % 32 of word j / 32 of node i of row b: i sees j. apart: words from row to row, 0 where all
 * rows have one tree. */
struct llm_cuda_medusa_tree_mask {
    const uint32_t *bits; /* (trees,n,words) */
    size_t words, apart;
    LLM_DEVICE_METHOD bool sees(size_t b, size_t i, size_t j) const {
        return bits[b * apart + i * words + j / 32] >> j % 32 & 1;
    }
};
LLM_KERNEL void llm_medusa_tree_see_kernel(uint32_t *bits, size_t *depth, const int *parent,
                                           size_t trees, size_t n) {
    const size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x, words = (n + 31) / 32;
    if (i >= trees * n) return;
    size_t up = 0;
    for (size_t w = 0; w < words; w++) bits[i * words + w] = 0;
    for (int at = (int)(i % n); at >= 0; at = parent[i - i % n + (size_t)at], up++)
        bits[i * words + (size_t)at / 32] |= 1u << at % 32;
    depth[i] = up - 1;
}
/* bits (trees,n,(n+31)/32), depth (trees,n) <- parent (trees,n), -1 for the root, which is node 0,
 * and below the node's own number for the others. */
static inline __attribute__((unused)) cudaError_t
llm_cuda_medusa_tree_see(uint32_t *bits, size_t *depth, const int *parent, size_t trees, size_t n,
                         cudaStream_t stream) {
    if (trees * n == 0) return cudaSuccess;
    LLM_LAUNCH(llm_medusa_tree_see_kernel, (unsigned)((trees * n + 127) / 128), 128, 0, stream,
               bits, depth, parent, trees, n);
    return cudaGetLastError();
}

LLM_KERNEL void llm_medusa_tree_fill_kernel(int *ids, const int *newest, const int *top,
                                            const size_t *depth, const int *rank, size_t B,
                                            size_t n, size_t K, size_t S) {
    const size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x, b = i / n, node = i % n;
    if (i >= B * n) return;
    ids[i] = node == 0 ? newest[b] : top[(b * K + depth[node] - 1) * S + (size_t)rank[node]];
}
/* ids (B,n) <- the tokens of the nodes of one tree, depth, rank (n), for every row: newest (B) at
 * the root, the guesses top (B,K,S) of K heads, best first, below. */
static inline __attribute__((unused)) cudaError_t
llm_cuda_medusa_tree_fill(int *ids, const int *newest, const int *top, const size_t *depth,
                          const int *rank, size_t B, size_t n, size_t K, size_t S,
                          cudaStream_t stream) {
    if (B * n == 0) return cudaSuccess;
    LLM_LAUNCH(llm_medusa_tree_fill_kernel, (unsigned)((B * n + 127) / 128), 128, 0, stream, ids,
               newest, top, depth, rank, B, n, K, S);
    return cudaGetLastError();
}

/* A warp a row. parent: `apart` numbers from row to row. */
LLM_KERNEL void llm_medusa_tree_walk_kernel(size_t *path, size_t *taken, int *token, const int *ids,
                                            const int *parent, size_t apart, const int *pick,
                                            const size_t *nodes, const size_t *count, size_t B,
                                            size_t n) {
    const llm_row_place p = llm_my_row<true>();
    if (p.row >= B) return;
    const size_t row = p.row * n, end = nodes ? nodes[p.row] : n;
    size_t length = 0;
    for (size_t at = count && count[p.row] == 0 ? end : 0; at < end; length++) {
        const int says = pick[row + at], up = (int)at;
        if (p.lane == 0) path[row + length] = at, token[row + length] = says;
        unsigned found = 0;
        for (at++; at < end; at += 32) {
            const size_t i = at + p.lane;
            found = __ballot_sync(0xffffffffu, i < end && parent[p.row * apart + i] == up &&
                                                   ids[row + i] == says);
            if (found) break;
        }
        if (found) at += (size_t)__ffs((int)found) - 1;
    }
    if (p.lane == 0) taken[p.row] = length;
}
/* From node 0 down to the first child that is what its parent picks, as long as there is one: path,
 * token (B,n) <- the nodes, and what each of them picks, of which the last is no node of the tree;
 * taken (B) <- how many. ids, pick (B,n), pick -1 for a NaN; parent (n), or (B,n) with apart = n.
 * nodes (B) or NULL: only the first nodes[b] count. count (B) or NULL: 0 where nothing is taken. */
static inline __attribute__((unused)) cudaError_t
llm_cuda_medusa_tree_walk(size_t *path, size_t *taken, int *token, const int *ids,
                          const int *parent, size_t apart, const int *pick, const size_t *nodes,
                          const size_t *count, size_t B, size_t n, cudaStream_t stream) {
    if (B * n == 0) return cudaSuccess;
    LLM_LAUNCH(llm_medusa_tree_walk_kernel, llm_row_blocks(B, true), 128, 0, stream, path, taken,
               token, ids, parent, apart, pick, nodes, count, B, n);
    return cudaGetLastError();
}

/* A block: 128 vectors of W entries, (layer, keys or values, head, dimensions), of one row. */
template <typename T, int W>
LLM_KERNEL void llm_medusa_tree_keep_kernel(llm_cuda_kv_cache<T> c, const size_t *path,
                                            const size_t *taken, size_t n) {
    const size_t i = ((size_t)blockIdx.x * blockDim.x + threadIdx.x) * W, b = blockIdx.y;
    const size_t half = i / c.D / c.H, h = i / c.D % c.H;
    if (half >= 2 * c.L) return;
    T *head = c.memory + ((half * c.B + b) * c.H + h) * c.room * c.D + c.length[b] * c.D + i % c.D;
    for (size_t k = 0; k < taken[b]; k++) {
        float v[W];
        if (path[b * n + k] == k) continue;
        llm_load_vector(v, head, path[b * n + k] * c.D);
        llm_store_vector(head, k * c.D, v);
    }
}
/* Of n nodes that every layer has appended behind each row, the taken[b] first of path (B,n) move
 * together and become part of it, as with llm_kv_cache_keep. */
template <typename T>
static inline cudaError_t llm_cuda_medusa_tree_keep(const llm_cuda_kv_cache<T> *c,
                                                    const size_t *path, const size_t *taken,
                                                    size_t n, cudaStream_t stream) {
    enum { W = 16 / sizeof(T) };
    const bool wide = llm_aligned(c->memory, c->D);
    const size_t vectors = 2 * c->L * c->H * c->D / (wide ? W : 1);
    if (c->B > 65535) return cudaErrorInvalidValue;
    if (c->B == 0 || vectors == 0) return cudaSuccess;
    const auto keep = wide ? llm_medusa_tree_keep_kernel<T, W> : llm_medusa_tree_keep_kernel<T, 1>;
    LLM_LAUNCH(keep, dim3((unsigned)((vectors + 127) / 128), (unsigned)c->B), 128, 0, stream, *c,
               path, taken, n);
    const cudaError_t error = cudaGetLastError();
    return error != cudaSuccess ? error : llm_cuda_kv_cache_advance(c, taken, 0, stream);
}

/* @medusa_tree_typical -------------------------------------- The longest typical line of a tree
 *
 * Typical acceptance without a walk. A block takes a node that has children, finds the entropy of
 * what the model says there, and marks the children that are improbable beyond it. Then a warp a
 * row asks every node at once: none of the bits of its line (@medusa_tree) is marked; the longest
 * line is the one with most bits, and its bits in order are the path.
 *
 * Moves the logits of the nodes with children, once from memory and once from L2, where reading
 * them once would do; leaves are not touched. Limit: memory bandwidth.
 *
 * source  Cai et al. 2024, "Medusa", section 2.3.1
 * needs   cuda_launch, cuda_memory, cuda_reduce, cuda_select, medusa_tree
 * see     medusa_tree, min_p (entropy)
 * topics  -
 */

/* A block: node blockIdx.x % n of row blockIdx.x / n. */
template <typename T>
LLM_KERNEL void __launch_bounds__(1024)
    llm_medusa_tree_typical_mark_kernel(int *refused, const int *ids, const int *parent,
                                        size_t apart, const T *logits, size_t n, size_t V,
                                        float eps, float delta) {
    const size_t b = blockIdx.x / n, node = blockIdx.x % n;
    const int *up = parent + b * apart;
    bool any = false;
    for (size_t i = node + 1 + threadIdx.x; i < n; i += blockDim.x) any |= up[i] == (int)node;
    if (node == 0 && threadIdx.x == 0) refused[b * n] = 0;
    if (__syncthreads_count(any) == 0) return;
    const T *x = logits + blockIdx.x * V;
    const float max = llm_select_value(llm_select_max<T, 1>(x, V));
    double sum = 0.0, first = 0.0; /* of weights, and of weight d */
    for (size_t v = threadIdx.x; v < V; v += blockDim.x) {
        const float z = llm_load(x, v);
        const double d = (double)z - (double)max, weight = z == -INFINITY ? 0.0 : exp(d);
        sum += weight;
        if (weight > 0.0) first += weight * d;
    }
    sum = llm_block_sum(sum);
    first = llm_block_sum(first);
    const double entropy = log(sum) - first / sum; /* H = log S - E d */
    const double least = fmin((double)eps, (double)delta * exp(-entropy));
    for (size_t i = node + 1 + threadIdx.x; i < n; i += blockDim.x) {
        if (up[i] != (int)node) continue;
        const double d = (double)llm_load(x, (size_t)ids[b * n + i]) - (double)max;
        refused[b * n + i] = !(exp(d) / sum > least); /* a NaN is refused */
    }
}
/* A warp a row. */
LLM_KERNEL void llm_medusa_tree_typical_line_kernel(size_t *path, size_t *taken, const int *refused,
                                                    llm_cuda_medusa_tree_mask mask, size_t B,
                                                    size_t n) {
    const llm_row_place p = llm_my_row<true>();
    if (p.row >= B) return;
    unsigned long long best = 0;
    for (size_t i = p.lane; i < n; i += 32) {
        unsigned length = 0;
        for (size_t j = 0; j <= i; j++) {
            if (!mask.sees(p.row, i, j)) continue;
            length++;
            if (refused[p.row * n + j]) break;
            if (j < i) continue;
            const unsigned long long key = (unsigned long long)length << 32 | (0xffffffffu - i);
            best = key > best ? key : best;
        }
    }
    best = llm_select_warp_max(best);
    if (p.lane != 0) return;
    const size_t last = 0xffffffffu - (best & 0xffffffffu);
    size_t length = 0;
    for (size_t j = 0; j <= last; j++)
        if (mask.sees(p.row, last, j)) path[p.row * n + length++] = j;
    taken[p.row] = length;
}
/* path (B,n), taken (B) <- llm_medusa_tree_typical of each row, from logits (B,n,V) instead of
 * probabilities; parent as for llm_cuda_medusa_tree_walk, mask made of it. refused (B,n) is scratch.
 * T is float or llm_bf16. */
template <typename T>
static inline cudaError_t
llm_cuda_medusa_tree_typical(size_t *path, size_t *taken, int *refused, const int *ids,
                             const int *parent, size_t apart, const llm_cuda_medusa_tree_mask &mask,
                             const T *logits, size_t B, size_t n, size_t V, float eps, float delta,
                             cudaStream_t stream) {
    if (V == 0 || V > 0x7fffffff) return cudaErrorInvalidValue;
    if (B * n == 0) return cudaSuccess;
    LLM_LAUNCH(llm_medusa_tree_typical_mark_kernel<T>, (unsigned)(B * n), llm_row_threads(V), 0,
               stream, refused, ids, parent, apart, logits, n, V, eps, delta);
    LLM_LAUNCH(llm_medusa_tree_typical_line_kernel, llm_row_blocks(B, true), 128, 0, stream, path,
               taken, refused, mask, B, n);
    return cudaGetLastError();
}

/* @16-gpu =================================================== GPUS AND NUMBER FORMATS */

/* @17-compress ============================================== COMPRESSION */

/* @18-dist ================================================== DISTRIBUTED TRAINING */

/* @19-serve ================================================= INFERENCE AND SERVING */

/* @20-ops =================================================== OPERATING MACHINE-LEARNING SYSTEMS */

/* @21-pretrain ============================================== PRETRAINING, DATA AND SCALE */

/* @22-finetune ============================================== FINE-TUNING AND MERGING */

/* @23-rl ==================================================== REINFORCEMENT LEARNING */

/* @24-align ================================================= PREFERENCE ALIGNMENT */

/* @25-reason ================================================ PROMPTING, REASONING AND AGENTS */

/* @26-retrieval ============================================= RETRIEVAL AND GROUNDING */

/* @27-eval ================================================== EVALUATION AND UNCERTAINTY */

/* @28-interp ================================================ INTERPRETABILITY */

/* @29-safety ================================================ SAFETY AND SECURITY */

/* @30-repr ================================================== REPRESENTATION LEARNING */

/* @31-gen =================================================== GENERATIVE MODELS */

/* @32-multi ================================================ VISION, AUDIO AND MULTIMODAL MODELS */

#endif

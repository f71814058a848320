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

/* More than 48 KB of dynamic shared memory have to be asked for. */
static inline void llm_allow_shared(const void *kernel, size_t shared) {
    if (shared > 48 * 1024)
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
 * instead of reading it. 20 multiplications for 4 words cost less than reading them.
 *
 * source  Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"
 * needs   cuda_launch
 * see     rng
 * topics  -
 */
LLM_DEVICE void llm_cuda_philox(uint32_t out[4], uint64_t block, uint64_t key) {
    uint32_t c0 = (uint32_t)block, c1 = (uint32_t)(block >> 32), c2 = 0, c3 = 0;
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

template <bool a_turned, bool b_turned, typename T, typename E>
LLM_KERNEL void __launch_bounds__(256) llm_gemm_kernel(E epilogue, const T *a, const T *b, size_t M,
                                                       size_t N, size_t K, size_t slice) {
    __shared__ __align__(16) float a_tile[2][8][LLM_CUDA_GEMM_TILE + 4],
        b_tile[2][8][LLM_CUDA_GEMM_TILE + 4];
    const unsigned x = threadIdx.x % 16 * 4, y = threadIdx.x / 16 * 4; /* of 64; and 64 further */
    const bool a_wide = (uintptr_t)a % (4 * sizeof(T)) == 0 && (a_turned ? M : K) % 4 == 0;
    const bool b_wide = (uintptr_t)b % (4 * sizeof(T)) == 0 && (b_turned ? N : K) % 4 == 0;
    size_t row, column, k = blockIdx.z * slice;
    const size_t k_end = k + slice < K ? k + slice : K;
    llm_cuda_gemm_tile(row, column, M, N);

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
/* Sends rows first .. first + 127, steps k .. k + 31 of an operand on their way to a stage. */
template <bool turned>
LLM_DEVICE void llm_cuda_gemm_send(llm_bf16 *stage, const llm_bf16 *p, size_t first, size_t k,
                                   size_t rows, size_t k_end, size_t K) {
    LLM_UNROLL
    for (unsigned i = 0; i < 2; i++) {
        const unsigned t = threadIdx.x + 256 * i, r = turned ? t / 16 : t / 4;
        const unsigned piece = turned ? t % 16 : t % 4;
        const size_t row = (turned ? k : first) + r, column = (turned ? first : k) + 8 * piece;
        const bool inside = row < (turned ? k_end : rows) && column < (turned ? rows : k_end);
        const llm_bf16 *from = p + row * (turned ? rows : K) + column;
        llm_copy_async(stage + llm_cuda_gemm_place<turned>(r, piece), inside ? from : p, inside);
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

template <bool a_turned, bool b_turned, typename E>
LLM_KERNEL void __launch_bounds__(256)
    llm_gemm_bf16_kernel(E epilogue, const llm_bf16 *a, const llm_bf16 *b, size_t M, size_t N,
                         size_t K, size_t slice) {
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

/* @01-linalg ================================================ FUNCTIONS, VECTORS AND MATRICES */

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

/* @csr ------------------------------------------------------ Compressed sparse rows
 *
 * y = A x, a warp a row, eight rows a block: neighbouring lanes read neighbouring entries, and five
 * exchanges add the lanes' sums. Moves 8 bytes an entry and 12 a row, the minimum; x is gathered,
 * 32 bytes from L2 or memory for each 4 that are used in the worst case. Limit: memory bandwidth
 * for rows of 32 entries and more; shorter rows leave lanes idle, and one very long row keeps a
 * single warp busy when all others are done.
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

/* @03-learn ============================================= LEARNING AND AUTOMATIC DIFFERENTIATION */

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

/* @07-optim ================================================= OPTIMIZATION */

/* @adamw ---------------------------------------------------- Adam with decoupled weight decay
 *
 * All parameters of a model at once, 48 tensors a launch: a transformer has hundreds, most of them
 * small, and a launch each would cost more than the update. The list travels in the kernel's
 * arguments; a block takes 4096 entries of one tensor. The factor that clips gradients is read on
 * the device, so that nobody waits for the norm; one that is not finite skips the step.
 *
 * A bfloat16 weight loses every step smaller than 1/512 of itself. Either a float master takes the
 * steps and w is its rounding, or w is rounded at random, up with the probability that makes the
 * expectation right: 16 random bits are added below the last one kept, and what is below cut off.
 *
 * Moves 28 bytes a float weight (w, m, v in and out, g in), 30 for bfloat16 with a master, 24
 * without: the minimum. Limit: memory bandwidth.
 *
 * source  -
 * needs   cuda_launch, cuda_memory, cuda_rng
 * see     grad_clip
 * topics  -
 */
enum { LLM_CUDA_ADAMW_TENSORS = 48, LLM_CUDA_ADAMW_CHUNK = 4096 };

/* w, master, m, v, g (n): device pointers. master: NULL, or T is llm_bf16 and it holds the weights
 * of which w is the rounding. decay: false for biases and gains. */
template <typename T> struct llm_cuda_adamw_tensor {
    T *w;
    float *master, *m, *v;
    const float *g;
    size_t n;
    bool decay;
};
template <typename T> struct llm_cuda_adamw_list {
    llm_cuda_adamw_tensor<T> tensor[LLM_CUDA_ADAMW_TENSORS];
    unsigned first_block[LLM_CUDA_ADAMW_TENSORS + 1]; /* and how many there are */
};

/* x rounded at random to bfloat16: the neighbour below or above, in the mean x. */
LLM_HOST_DEVICE float llm_cuda_adamw_round(float x, uint32_t random) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    const bool finite = (bits & 0x7f800000u) != 0x7f800000u;
    bits = finite ? (bits + (random & 0xffffu)) & 0xffff0000u : bits;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* The step for entries i to i + V - 1. keep = 1 - lr * decay; step, v_scale carry the corrections
 * of the averages. Four entries share a Philox block. */
template <int V, typename T>
LLM_DEVICE void llm_cuda_adamw_entries(const llm_cuda_adamw_tensor<T> &t, size_t i,
                                       const llm_adamw_config &c, float keep, float step,
                                       float v_scale, float gain, uint64_t block, uint64_t seed) {
    float w[V], m[V], v[V], g[V];
    llm_load_vector(g, t.g, i);
    llm_load_vector(m, t.m, i);
    llm_load_vector(v, t.v, i);
    if (t.master)
        llm_load_vector(w, t.master, i);
    else
        llm_load_vector(w, t.w, i);
    LLM_UNROLL
    for (int k = 0; k < V; k++) {
        g[k] *= gain;
        m[k] = c.beta1 * m[k] + (1.0f - c.beta1) * g[k];
        v[k] = c.beta2 * v[k] + (1.0f - c.beta2) * g[k] * g[k];
        w[k] = keep * w[k] - step * m[k] / (sqrtf(v[k]) * v_scale + c.eps);
    }
    llm_store_vector(t.m, i, m);
    llm_store_vector(t.v, i, v);
    if (t.master) {
        llm_store_vector(t.master, i, w);
    } else if (sizeof(T) == 2) {
        uint32_t word[4];
        llm_cuda_philox(word, block, seed);
        LLM_UNROLL
        for (int k = 0; k < V; k++) w[k] = llm_cuda_adamw_round(w[k], word[(i + k) % 4]);
    }
    llm_store_vector(t.w, i, w);
}

template <typename T>
LLM_KERNEL void llm_adamw_kernel(llm_cuda_adamw_list<T> list, llm_adamw_config c, float step,
                                 float v_scale, const float *factor, uint64_t seed,
                                 uint64_t counter) {
    const float gain = factor ? llm_load(factor, 0) : 1.0f;
    if (!(fabsf(gain) < INFINITY)) return;
    unsigned at = 0; /* this block's tensor */
    while (list.first_block[at + 1] <= blockIdx.x) at++;
    const llm_cuda_adamw_tensor<T> &t = list.tensor[at];
    const size_t begin = (size_t)(blockIdx.x - list.first_block[at]) * LLM_CUDA_ADAMW_CHUNK;
    const size_t end = begin + LLM_CUDA_ADAMW_CHUNK < t.n ? begin + LLM_CUDA_ADAMW_CHUNK : t.n;
    const float keep = t.decay ? 1.0f - c.lr * c.weight_decay : 1.0f;
    const uintptr_t where =
        (uintptr_t)t.w | (uintptr_t)t.master | (uintptr_t)t.m | (uintptr_t)t.v | (uintptr_t)t.g;
    const size_t whole = where % 16 == 0 ? end - (end - begin) % 4 : begin;
    counter += (uint64_t)blockIdx.x * (LLM_CUDA_ADAMW_CHUNK / 4);

    for (size_t i = begin + 4 * threadIdx.x; i < whole; i += 4 * blockDim.x)
        llm_cuda_adamw_entries<4>(t, i, c, keep, step, v_scale, gain, counter + (i - begin) / 4,
                                  seed);
    for (size_t i = whole + threadIdx.x; i < end; i += blockDim.x)
        llm_cuda_adamw_entries<1>(t, i, c, keep, step, v_scale, gain, counter + (i - begin) / 4,
                                  seed);
}

/* The step llm_adamw_step for `count` tensors (a host array); t counts from 1. factor: a float on
 * the device that multiplies the gradients (@grad_clip), or NULL. seed draws the rounding. */
template <typename T>
static inline cudaError_t
llm_cuda_adamw_step(const llm_cuda_adamw_tensor<T> *tensor, size_t count, const llm_adamw_config *c,
                    size_t t, const float *factor, uint64_t seed, cudaStream_t stream) {
    const double correct1 = 1.0 - pow((double)c->beta1, (double)t);
    const double correct2 = 1.0 - pow((double)c->beta2, (double)t);
    const float step = (float)((double)c->lr / correct1), v_scale = (float)(1.0 / sqrt(correct2));
    uint64_t counter = (uint64_t)t
                       << 40; /* Philox blocks: steps do not share any, nor do tensors */
    llm_cuda_adamw_list<T> list;
    for (size_t first = 0; first < count; first += LLM_CUDA_ADAMW_TENSORS) {
        unsigned blocks = 0;
        for (size_t i = 0; i < LLM_CUDA_ADAMW_TENSORS; i++) {
            list.first_block[i] = blocks;
            if (first + i >= count) continue;
            list.tensor[i] = tensor[first + i];
            blocks +=
                (unsigned)((list.tensor[i].n + LLM_CUDA_ADAMW_CHUNK - 1) / LLM_CUDA_ADAMW_CHUNK);
        }
        list.first_block[LLM_CUDA_ADAMW_TENSORS] = blocks;
        if (blocks == 0) continue;
        LLM_LAUNCH(llm_adamw_kernel<T>, blocks, 256, 0, stream, list, *c, step, v_scale, factor,
                   seed, counter);
        const cudaError_t error = cudaGetLastError();
        if (error != cudaSuccess) return error;
        counter += (uint64_t)blocks * (LLM_CUDA_ADAMW_CHUNK / 4);
    }
    return cudaSuccess;
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

/* @12-attn ================================================== ATTENTION AND POSITION */

/* @13-transformer =========================================== TRANSFORMERS AND LANGUAGE MODELS */

/* @14-arch ================================================== BEYOND THE DENSE TRANSFORMER */

/* @15-decode ================================================ DECODING */

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

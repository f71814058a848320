/* llm_cuda.cuh: the fused kernels of llm.h, the same chapters and slugs in the same order.
 *
 * What     Each section holds host launchers llm_cuda_SLUG_VERB(..., cudaStream_t stream), which take
 *          device pointers in the order of the reference's arguments and return cudaError_t, and the
 *          kernels they launch. Storage is float or llm_bf16, arithmetic float. A launcher allocates
 *          nothing and waits for nothing; scratch is an argument.
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

/* More than 48 KB of dynamic shared memory have to be asked for. */
static inline void llm_allow_shared(const void *kernel, size_t shared) {
    if (shared > 48 * 1024)
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared);
}
template <typename T> struct llm_as_is { /* keeps the arguments out of the deduction of P */
    typedef T type;
};
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

/* @cuda_memory ---------------------------------------------- bfloat16 storage, loads, stores, copies
 *
 * Kernels compute in float and are templates over how numbers are stored: llm_load and llm_store
 * convert. bfloat16 is the upper half of a float; rounding to nearest, ties to even, is an addition
 * that carries. NaN must not go that way: a payload of ones would carry into infinity or zero.
 *
 * A thread moves at most 16 bytes with one instruction. llm_load_vector and llm_store_vector do, for
 * a register array of 4 or 8 floats, when the address is a multiple of the bytes moved; an array of
 * one is the plain access for rows that are not. llm_aligned says which of the two a launcher may use.
 *
 * llm_copy_async (cp.async) moves 16 bytes from global to shared memory without passing through
 * registers, while the thread goes on. Copies are committed in groups; llm_copy_wait<n> returns when at
 * most n groups are still on their way. It speaks for the thread's own copies: for those of others a
 * __syncthreads has to follow.
 *
 * source  NVIDIA, PTX ISA, "cp.async", "cvt"
 * needs   cuda_launch
 * see     cuda_reduce
 * topics  -
 */
struct llm_bf16 {
    uint16_t bits;
};

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

#ifdef __CUDACC__
#define LLM_TOUCH(p, bytes, write)
#else
#define LLM_TOUCH(p, bytes, write) emulate_touch(p, bytes, write)
#endif

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

/* W is uint2 or uint4: one access of 8 or 16 bytes, through memcpy because *p is of another type. */
template <typename W> LLM_DEVICE W llm_load_words(const void *p) {
    W words;
    LLM_TOUCH(p, sizeof words, false);
    memcpy(&words, __builtin_assume_aligned(p, sizeof words), sizeof words);
    return words;
}
template <typename W> LLM_DEVICE void llm_store_words(void *p, W words) {
    LLM_TOUCH(p, sizeof words, true);
    memcpy(__builtin_assume_aligned(p, sizeof words), &words, sizeof words);
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

/* shared[0..15] <- global[0..15], both multiples of 16; zeros where inside is false, and then global
 * is not read. */
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
 * A warp adds in five exchanges: after the one at distance 16, 8, 4, 2, 1 each lane holds the sum of
 * twice as many. The exchange is symmetric and a + b = b + a, so all lanes end with the same bits.
 * A block adds the sums of its warps, left in shared memory; every warp does that last step itself,
 * so the result needs no second trip. The order is fixed: same input, same bits.
 *
 * All threads have to take part (out of bounds: bring 0), blockDim.x is a multiple of 32 and the
 * block has one dimension. Any number of calls may follow each other.
 *
 * source  -
 * needs   cuda_launch
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

/* @cuda_mma ------------------------------------------------- Tensor-core instructions
 *
 * mma.m16n8k16: one warp multiplies a 16 x 16 by a 16 x 8 matrix of bfloat16 and adds it to a 16 x 8
 * one of floats. The matrices live in the registers of the lanes. With g = lane / 4, t = lane % 4:
 *
 *     a, 4 words    (g, 2t) (g+8, 2t) (g, 2t+8) (g+8, 2t+8)     each with the column behind it
 *     b, 2 words    (2t, g) (2t+8, g)                           each with the row behind it
 *     c, 4 floats   (g, 2t) (g, 2t+1) (g+8, 2t) (g+8, 2t+1)
 *
 * ldmatrix fills such registers from shared memory: the lanes of eight name the 8 rows, 16 bytes each, of
 * one 8 x 8 matrix, and lane (g, t) gets entries (g, 2t) and (g, 2t+1) of it, or with _trans (2t, g)
 * and (2t+1, g). Rows of a stride that is a multiple of 128 bytes would all lie in the same banks.
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

/* @01-linalg ================================================ FUNCTIONS, VECTORS AND MATRICES */

/* @02-prob ============================================= PROBABILITY, STATISTICS AND INFORMATION */

/* @03-learn ============================================= LEARNING AND AUTOMATIC DIFFERENTIATION */

/* @04-classic =============================================== CLASSICAL MACHINE LEARNING */

/* @05-infer ============================================== PROBABILISTIC INFERENCE AND CAUSALITY */

/* @06-nn ==================================================== NEURONS, LAYERS AND NORMALIZATION */

/* @07-optim ================================================= OPTIMIZATION */

/* @08-recurrent =============================== RECURRENT, MEMORY, GRAPH AND CONTINUOUS NETWORKS */

/* @09-theory ================================================ LEARNING THEORY */

/* @10-text ================================================== TEXT, COUNTS AND EMBEDDINGS */

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

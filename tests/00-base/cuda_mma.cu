/* @cuda_mma: the expected values are matrix products by the definition; which lane holds what is
 * said here once more, from the manual's figures, for the kernels that fill and empty the
 * registers. */
#include "../test.h"

#include "../../llm_cuda.cuh"

/* c (16,8) += a (16,16) b (16,8), registers filled entry by entry */
LLM_KERNEL void one_mma(float *c, const llm_bf16 *a, const llm_bf16 *b) {
    const unsigned g = threadIdx.x / 4, t = threadIdx.x % 4;
    uint32_t ra[4], rb[2];
    float rc[4];
    for (unsigned i = 0; i < 4; i++) {
        const unsigned row = i % 2 ? g + 8 : g, column = i < 2 ? 2 * t : 2 * t + 8;
        ra[i] = a[row * 16 + column].bits | (uint32_t)a[row * 16 + column + 1].bits << 16;
        rc[i] = c[(i < 2 ? g : g + 8) * 8 + 2 * t + i % 2];
    }
    for (unsigned i = 0; i < 2; i++) {
        const unsigned row = i ? 2 * t + 8 : 2 * t;
        rb[i] = b[row * 8 + g].bits | (uint32_t)b[(row + 1) * 8 + g].bits << 16;
    }
    llm_mma_m16n8k16_bf16(rc, ra, rb);
    for (unsigned i = 0; i < 4; i++) c[(i < 2 ? g : g + 8) * 8 + 2 * t + i % 2] = rc[i];
}
/* The same, a and b through shared memory and ldmatrix; b lies as (16,8) and is transposed on the
 * way, two of its 8 x 8 halves by four: the lanes 16 to 31 name rows again. */
LLM_KERNEL void one_mma_ldmatrix(float *c, const llm_bf16 *a, const llm_bf16 *b) {
    __shared__ __align__(16) llm_bf16 sa[16][16], sb[16][8];
    const unsigned lane = threadIdx.x, g = lane / 4, t = lane % 4;
    for (unsigned i = lane; i < 256; i += 32) sa[i / 16][i % 16] = a[i];
    for (unsigned i = lane; i < 128; i += 32) sb[i / 8][i % 8] = b[i];
    __syncwarp();
    uint32_t ra[4], four[4], rb[2];
    float rc[4];
    llm_ldmatrix_x4(ra, &sa[lane % 16][lane / 16 * 8]); /* rows 0-7, 8-15, then the right half */
    llm_ldmatrix_x4_trans(four, &sb[lane % 16][0]);
    rb[0] = four[0], rb[1] = four[1];
    for (unsigned i = 0; i < 4; i++) rc[i] = c[(i < 2 ? g : g + 8) * 8 + 2 * t + i % 2];
    llm_mma_m16n8k16_bf16(rc, ra, rb);
    for (unsigned i = 0; i < 4; i++) c[(i < 2 ? g : g + 8) * 8 + 2 * t + i % 2] = rc[i];
}

TEST(cuda_mma, "a tile product equals the definition, registers filled by hand and by ldmatrix") {
    for (size_t seed = 0; seed < 3; seed++) {
        float a[256], b[128], c[128], want[128], got[128];
        llm_rng rng = llm_rng_seed(seed);
        llm_rng_normal_fill(&rng, a, 256);
        llm_rng_normal_fill(&rng, b, 128);
        llm_rng_normal_fill(&rng, c, 128);
        const llm_bf16 *d_a = to_device_as<llm_bf16>(a, 256), *d_b = to_device_as<llm_bf16>(b, 128);
        for (size_t m = 0; m < 16; m++) {
            for (size_t n = 0; n < 8; n++) {
                double sum = c[m * 8 + n];
                for (size_t k = 0; k < 16; k++) sum += (double)a[m * 16 + k] * b[k * 8 + n];
                want[m * 8 + n] = (float)sum;
            }
        }
        float *d_c = to_device(c, 128);
        LLM_LAUNCH(one_mma, 1, 32, 0, 0, d_c, d_a, d_b);
        CHECK_CUDA(cudaGetLastError());
        /* products are exact, 16 additions of terms near 1; the card truncates where the twin
         * rounds */
        CHECK_ALL_NEAR(from_device(got, d_c, 128), want, 128, 1e-5f);
        d_c = to_device(c, 128);
        LLM_LAUNCH(one_mma_ldmatrix, 1, 32, 0, 0, d_c, d_a, d_b);
        CHECK_CUDA(cudaGetLastError());
        CHECK_ALL_NEAR(from_device(got, d_c, 128), want, 128, 1e-5f);
    }
}

/* out: word m of lane l of four 8 x 8 matrices, whose entry (r, c) is 64 m + 8 r + c; rows `stride`
 * entries apart */
template <int stride, bool transposed> LLM_KERNEL void load_matrices(uint32_t *out) {
    __shared__ __align__(16) uint16_t s[32 * stride];
    for (unsigned i = 0; i < 8; i++) s[threadIdx.x * stride + i] = (uint16_t)(threadIdx.x * 8 + i);
    __syncwarp();
    uint32_t four[4];
    if (transposed)
        llm_ldmatrix_x4_trans(four, &s[threadIdx.x * stride]);
    else
        llm_ldmatrix_x4(four, &s[threadIdx.x * stride]);
    for (unsigned m = 0; m < 4; m++) out[threadIdx.x * 4 + m] = four[m];
}
template <int stride, bool transposed> static size_t check_matrices(void) {
    uint32_t got[128], *d = to_device<uint32_t>(NULL, 128);
    size_t conflicts = 0;
#ifndef __CUDACC__
    emulate_count();
#endif
    LLM_LAUNCH((load_matrices<stride, transposed>), 1, 32, 0, 0, d);
    CHECK_CUDA(cudaGetLastError());
#ifndef __CUDACC__
    conflicts = emulate_counted.matrix_conflicts;
#endif
    from_device(got, d, 128);
    for (uint32_t l = 0; l < 32; l++) {
        for (uint32_t m = 0; m < 4; m++) {
            const uint32_t g = l / 4, t = l % 4;
            const uint32_t low = transposed ? 16 * t + g : 8 * g + 2 * t, step = transposed ? 8 : 1;
            const uint32_t first = 64 * m + low;
            CHECK(got[4 * l + m] == (first | (first + step) << 16));
        }
    }
    return conflicts;
}

TEST(cuda_mma,
     "ldmatrix gives each lane its two entries; rows of 128 bytes meet in the same banks") {
    const size_t dense = check_matrices<8, false>(), wide = check_matrices<64, false>();
    const size_t padded = check_matrices<72, true>(), half = check_matrices<32, true>();
#ifndef __CUDACC__
    CHECK(dense == 0 && padded == 0);
    CHECK(wide == 4 * 7);     /* eight rows in one place */
    CHECK(half == 4 * 2 * 3); /* two places */
#else
    (void)dense, (void)wide, (void)padded, (void)half;
#endif
}

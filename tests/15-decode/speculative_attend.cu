/* @speculative_attend @speculative_attend_bf16 */
#include "../test.h"

#include "../../llm_cuda.cuh"

static float *normals(llm_rng *rng, size_t n) {
    float *x = floats(n);
    llm_rng_normal_fill(rng, x, n);
    return x;
}

/* A mask without a formula: bits of a hash; every token sees itself. */
struct odd_mask {
    __host__ __device__ bool sees(size_t b, size_t i, size_t j) const {
        return i == j || ((i * 7 + j * 13 + b * 5) % 3 == 0);
    }
};
/* What the row must be: a softmax over the keys seen, in double. */
static void attend(float *out, const float *q, const float *k, const float *v, size_t text,
                   size_t n, size_t D, size_t i, size_t b, bool chain) {
    double *w = (double *)test_memory(text + n, sizeof(double)), max = -1e30, sum = 0.0;
    for (size_t j = 0; j < text + n; j++) {
        const bool seen = j < text || (chain ? j - text <= i : odd_mask().sees(b, i, j - text));
        w[j] = 0.0;
        for (size_t d = 0; d < D; d++) w[j] += (double)q[d] * (double)k[j * D + d];
        w[j] = seen ? w[j] / sqrt((double)D) : -1e300;
        max = w[j] > max ? w[j] : max;
    }
    for (size_t j = 0; j < text + n; j++) sum += w[j] = exp(w[j] - max);
    for (size_t d = 0; d < D; d++) {
        double o = 0.0;
        for (size_t j = 0; j < text + n; j++)
            if (w[j] > 0.0) o += w[j] * (double)v[j * D + d];
        out[d] = (float)(o / sum);
    }
}

/* The second layer of a cache whose rows have different lengths; behind them NaN. */
template <typename T>
static void check_attend(size_t H, size_t group, size_t n, size_t D, size_t longest, size_t splits,
                         bool chain, uint64_t seed) {
    const size_t B = 2, L = 2, Hq = H * group, room = longest + n + 3, half = B * H * room * D;
    llm_rng rng = llm_rng_seed(seed);
    float *memory = normals(&rng, 2 * L * half), *q = normals(&rng, B * Hq * n * D);
    float *want = floats(B * Hq * n * D), *got = floats(B * Hq * n * D);
    size_t length[2] = {longest, longest / 3};
    for (size_t i = 0; i < B * Hq * n * D; i++) q[i] *= 1.5f;
    for (size_t i = 0; i < 2 * L * half; i++) {
        const size_t b = i / (room * D) / H % B, at = i / D % room;
        if (at >= length[b] + n || i < 2 * half) memory[i] = NAN;
    }
    const llm_cuda_kv_cache<T> c = {
        to_device_as<T>(memory, 2 * L * half), to_device(length, B), L, B, H, room, D};
    const T *d_q = to_device_as<T>(q, B * Hq * n * D);
    T *d_out = to_device<T>(NULL, B * Hq * n * D);
    float *scratch = to_device<float>(NULL, llm_cuda_speculative_attend_scratch(&c, Hq, n, splits));
    const llm_cuda_speculative_attend_chain behind = llm_cuda_speculative_attend_chain();
    if (chain)
        CHECK_CUDA(
            llm_cuda_speculative_attend(d_out, &c, 1, d_q, Hq, n, behind, splits, scratch, 0));
    else
        CHECK_CUDA(
            llm_cuda_speculative_attend(d_out, &c, 1, d_q, Hq, n, odd_mask(), splits, scratch, 0));
    from_device_as(got, d_out, B * Hq * n * D);
    const float *k = memory + 2 * half, *v = k + half;
    for (size_t r = 0; r < B * Hq * n; r++) {
        const size_t b = r / n / Hq, at = r / n / group * room * D;
        attend(want + r * D, q + r * D, k + at, v + at, length[b], n, D, r % n, b, chain);
    }
    CHECK_STORED(T, got, want, B * Hq * n * D, sizeof(T) == 4 ? 1e-5f : 6e-3f);
}

TEST(speculative_attend, "drafts in a chain and under a mask, for groups of heads and odd sizes") {
    check_attend<float>(2, 2, 5, 6, 70, 1, true, 1);
    check_attend<float>(1, 3, 7, 72, 0, 1, false, 2);
    check_attend<llm_bf16>(2, 2, 5, 16, 70, 1, true, 3);
    check_attend<llm_bf16>(1, 4, 6, 64, 130, 1, false, 4);
    if (TEST_SLOW) return;
    check_attend<llm_bf16>(1, 1, 1, 8, 0, 1, true, 5);    /* the first token sees itself alone */
    check_attend<llm_bf16>(1, 8, 9, 40, 63, 1, false, 6); /* 72 rows: a second tile */
    check_attend<llm_bf16>(1, 2, 3, 128, 61, 1, true, 7); /* tokens on both sides of a tile's end */
    check_attend<llm_bf16>(1, 2, 70, 72, 10, 1, false, 8); /* more tokens than a tile has keys */
}
TEST(speculative_attend, "splits of the keys are merged: even, uneven, and more than there are") {
    check_attend<llm_bf16>(1, 2, 5, 16, 190, 2, true, 20);
    if (TEST_SLOW) return;
    check_attend<llm_bf16>(2, 4, 4, 64, 200, 3, false, 21);
    check_attend<llm_bf16>(1, 1, 3, 128, 140, 7, true, 22);
}

TEST(speculative_attend, "how many splits, how much scratch; what is refused") {
    llm_cuda_kv_cache<llm_bf16> c = {NULL, NULL, 1, 1, 8, 4096, 128};
    const llm_cuda_speculative_attend_chain chain = llm_cuda_speculative_attend_chain();
    size_t splits = llm_cuda_speculative_attend_splits(&c, 32, 16);
    CHECK(splits >= 1 && splits <= 16);
    CHECK(llm_cuda_speculative_attend_scratch(&c, 32, 16, 4) == 32 * 16 * 4 * 130);
    CHECK(llm_cuda_speculative_attend_scratch(&c, 32, 16, 1) == 0);
    c.room = 512; /* too few keys to share */
    CHECK(llm_cuda_speculative_attend_splits(&c, 32, 16) == 1);
    c.room = 4096, c.B = 1000;
    CHECK(llm_cuda_speculative_attend_splits(&c, 32, 16) == 1);
    const llm_cuda_kv_cache<float> f = {NULL, NULL, 1, 1, 8, 4096, 128};
    CHECK(llm_cuda_speculative_attend_splits(&f, 32, 16) == 1);
    CHECK(llm_cuda_speculative_attend_scratch(&f, 32, 16, 1) == 32 * 16);
    llm_bf16 *none = NULL;
    c.B = 0;
    CHECK_CUDA(llm_cuda_speculative_attend(none, &c, 0, none, 32, 4, chain, 1, NULL, 0));
    c.B = 1;
    CHECK_CUDA(llm_cuda_speculative_attend(none, &c, 0, none, 32, 0, chain, 1, NULL, 0));
    CHECK(llm_cuda_speculative_attend(none, &c, 1, none, 32, 4, chain, 1, NULL, 0) != cudaSuccess);
    CHECK(llm_cuda_speculative_attend(none, &c, 0, none, 33, 4, chain, 1, NULL, 0) != cudaSuccess);
    CHECK(llm_cuda_speculative_attend(none, &c, 0, none, 32, 4097, chain, 1, NULL, 0) !=
          cudaSuccess);
    CHECK(llm_cuda_speculative_attend(none, &c, 0, none, 32, 4, chain, 0, NULL, 0) != cudaSuccess);
    for (int i = 0; i < 3; i++) {
        c.H = i == 0 ? 0 : 8, c.D = i == 1 ? 136 : i == 2 ? 12 : 128;
        CHECK(llm_cuda_speculative_attend(none, &c, 0, none, 32, 4, chain, 1, NULL, 0) !=
              cudaSuccess);
    }
    c.D = 16; /* an address that is no multiple of 16 bytes */
    llm_bf16 *odd = to_device<llm_bf16>(NULL, 64) + 1;
    CHECK(llm_cuda_speculative_attend(odd, &c, 0, odd, 32, 4, chain, 1, NULL, 0) != cudaSuccess);
}

/* @gqa */
#include "../test.h"

#include "../../llm_cuda.cuh"

static float *gqa_normal(uint64_t seed, size_t n) {
    float *x = floats(n);
    llm_rng rng = llm_rng_seed(seed);
    llm_rng_normal_fill(&rng, x, n);
    return x;
}

/* Text b sees lengths[b] keys of a cache whose other rows are NaN. splits 0: as the launcher
 * chooses; plain: all texts see S, without an array of lengths. */
template <typename T>
static void check_gqa(size_t B, size_t H, size_t Hkv, size_t room, size_t D, size_t splits,
                      bool plain) {
    const size_t G = H / Hkv, nq = B * H * D, nk = B * Hkv * room * D;
    float *q = gqa_normal(H, nq), *k = gqa_normal(room, nk), *v = gqa_normal(D + 9, nk);
    float *want = zeros(nq), *got = floats(nq), *w = floats(H * (room + 1));
    size_t *length = (size_t *)test_memory(B, sizeof(size_t)), seen = 0;
    for (size_t b = 0; b < B; b++) { /* one text is full, the next one shorter by a third of that */
        length[b] = plain ? room : room - b * (room / 3);
        seen += length[b];
        for (size_t i = b * Hkv * room * D; i < (b + 1) * Hkv * room * D; i++)
            if (i / D % room >= length[b]) k[i] = v[i] = NAN;
    }
    const T *d_q = to_device_as<T>(q, nq), *d_k = to_device_as<T>(k, nk);
    const T *d_v = to_device_as<T>(v, nk);
    T *d_out = to_device<T>(NULL, nq);
    for (size_t bh = 0; bh < B * Hkv; bh++)
        llm_gqa_decode(want + bh * G * D, w, q + bh * G * D, k + bh * room * D, v + bh * room * D,
                       G, length[bh / Hkv], D, 0.3f);
    llm_cuda_gqa_config c = llm_cuda_gqa_defaults(B, H, Hkv, room, D);
    c.scale = 0.3f, c.splits = splits;
    if (!plain) {
        for (size_t b = 0; b < B; b++) length[b]--; /* the newest key is not counted yet */
        c.S = 1, c.length = to_device(length, B);
    }
    const size_t n = llm_cuda_gqa_scratch(&c);
    CHECK(n == (llm_cuda_gqa_splits(&c) == 1 ? 0 : B * H * llm_cuda_gqa_splits(&c) * (D + 2)));
#ifndef __CUDACC__
    emulate_count();
#endif
    CHECK_CUDA(llm_cuda_gqa_decode(d_out, d_q, d_k, d_v, &c, to_device<float>(NULL, n), 0));
#ifndef __CUDACC__
    /* for a group of 8 heads, or 4, one reading of keys and values; the queries in every split */
    if (G <= (D > 128 ? 4 : 8) && n == 0)
        CHECK(emulate_counted.read == (2 * seen * Hkv * D + nq) * sizeof(T) &&
              emulate_counted.written == nq * sizeof(T));
#endif
    /* averages of up to 700 values; scores to 15, whose rounding the exponential passes on */
    CHECK_STORED(T, from_device_as(got, d_out, nq), want, nq, 1e-5f);
}

TEST(gqa, "decoding equals llm_gqa_decode: groups, lengths around 32 and 128, rows off alignment") {
    check_gqa<float>(1, 1, 1, 1, 1, 0, true);
    check_gqa<llm_bf16>(1, 3, 1, 2, 3, 0, true);
    check_gqa<float>(2, 4, 2, 33, 64, 0, false);
    check_gqa<llm_bf16>(3, 8, 2, 31, 128, 0, false);
    if (TEST_SLOW) return;
    check_gqa<float>(2, 7, 1, 160, 80, 0, false);
    check_gqa<llm_bf16>(2, 8, 1, 129, 256, 0, false);
    check_gqa<float>(1, 2, 2, 97, 200, 0, true);
    check_gqa<float>(1, 4, 1, 40, 129, 0, true);
    check_gqa<llm_bf16>(1, 24, 2, 65, 40, 0, true); /* 12 heads to a group: 6 and 6 */
    check_gqa<float>(1, 17, 1, 34, 5, 0, true);     /* 6, 6 and 5 */
}

TEST(gqa, "splits of the keys, some of them empty, are combined to the same result") {
    check_gqa<float>(2, 4, 1, 70, 8, 2, false);
    check_gqa<llm_bf16>(2, 2, 2, 40, 33, 5, false);
    if (TEST_SLOW) return;
    check_gqa<float>(1, 4, 2, 700, 16, 0, true); /* 2, as chosen */
    check_gqa<float>(1, 9, 1, 300, 130, 3, true);
}

TEST(gqa, "as many splits as a card needs, none under 256 keys") {
    llm_cuda_gqa_config c = llm_cuda_gqa_defaults(1, 32, 8, 8192, 128);
    CHECK(llm_cuda_gqa_splits(&c) == 32); /* 8 heads: 132 splits would fill a card, keys for 32 */
    c.B = 64;
    CHECK(llm_cuda_gqa_splits(&c) == 3); /* 512 blocks */
    c.B = 1, c.H = 128;                  /* 16 heads to a group: 16 blocks */
    CHECK(llm_cuda_gqa_splits(&c) == 32);
    c.S = 1 << 20;
    CHECK(llm_cuda_gqa_splits(&c) == 66);
    c.S = 511;
    CHECK(llm_cuda_gqa_splits(&c) == 1 && llm_cuda_gqa_scratch(&c) == 0);
    c.length = (const size_t *)&c, c.room = 1024; /* of the lengths only the bound is known */
    CHECK(llm_cuda_gqa_splits(&c) == 4 && llm_cuda_gqa_scratch(&c) == 128 * 4 * 130);
}

TEST(gqa, "large scores, texts without keys, nothing to do, shapes that are refused") {
    const float q[2] = {1e4f, -1e4f}, k[3] = {-1.0f, 1.0f, 0.5f}, v[3] = {1.0f, 2.0f, 3.0f};
    const size_t length[2] = {0, 3};
    float got[4], *d_out = to_device<float>(NULL, 4), both[6], queries[4];
    for (int i = 0; i < 6; i++) both[i] = i < 3 ? NAN : k[i - 3];
    for (int i = 0; i < 4; i++) queries[i] = q[i % 2];
    llm_cuda_gqa_config c = llm_cuda_gqa_defaults(2, 2, 1, 0, 1);
    c.room = 3, c.length = to_device(length, 2);
    float values[6] = {NAN, NAN, NAN, v[0], v[1], v[2]};
    for (c.splits = 1; c.splits < 4; c.splits += 2) {
        CHECK_CUDA(llm_cuda_gqa_decode(d_out, to_device(queries, 4), to_device(both, 6),
                                       to_device(values, 6), &c, to_device<float>(NULL, 64), 0));
        from_device(got, d_out, 4);
        CHECK(got[0] == 0.0f && got[1] == 0.0f && got[2] == 2.0f && got[3] == 1.0f);
    }
    c.B = 0;
    CHECK_CUDA(llm_cuda_gqa_decode(d_out, d_out, d_out, d_out, &c, d_out, 0));
    c.B = 1, c.H = 3, c.Hkv = 2;
    CHECK(llm_cuda_gqa_decode(d_out, d_out, d_out, d_out, &c, d_out, 0) == cudaErrorInvalidValue);
    c.H = 2, c.D = 257;
    CHECK(llm_cuda_gqa_decode(d_out, d_out, d_out, d_out, &c, d_out, 0) == cudaErrorInvalidValue);
}

/* @mla_decode */
#include "../test.h"

#include "../../llm_cuda.cuh"

#include "../tiny_normal.h"

/* Text b sees lengths[b] rows of a cache whose other rows are NaN. plain: all see S. */
static void check_mla(size_t B, size_t H, size_t R, size_t Dr, size_t room, size_t splits,
                      bool plain) {
    const size_t W = R + Dr, nq = B * H * W, nc = B * room * W, nr = B * H * R;
    float *q = tiny_normal(H, nq, 1.0f), *cache = tiny_normal(room, nc, 1.0f), *got = floats(nr);
    float *mean = floats(nq), *p = floats(H * room), *want = zeros(nr);
    size_t *length = (size_t *)test_memory(B, sizeof(size_t));
    for (size_t b = 0; b < B; b++) {
        length[b] = plain ? room : room - b * (room / 3);
        for (size_t i = length[b] * W; i < room * W; i++) cache[b * room * W + i] = NAN;
    }
    const llm_bf16 *d_q = to_device_as<llm_bf16>(q, nq), *d_c = to_device_as<llm_bf16>(cache, nc);
    llm_bf16 *d_out = to_device<llm_bf16>(NULL, nr);
    llm_cuda_mla_decode_config c = {B, H, R, Dr, room, room, splits, NULL, 0.2f};
    for (size_t b = 0; b < B; b++) {
        llm_gqa_decode(mean, p, q + b * H * W, cache + b * room * W, cache + b * room * W, H,
                       length[b], W, c.scale);
        for (size_t i = 0; i < H * R; i++) want[b * H * R + i] = mean[i / R * W + i % R];
    }
    if (!plain) {
        for (size_t b = 0; b < B; b++) length[b]--; /* the newest row is not counted yet */
        c.S = 1, c.length = to_device(length, B);
    }
    const size_t n = llm_cuda_mla_decode_scratch(&c);
    CHECK(n == (llm_cuda_mla_decode_splits(&c) == 1
                    ? 0
                    : B * H * llm_cuda_mla_decode_splits(&c) * (R + 2)));
    CHECK_CUDA(llm_cuda_mla_decode(d_out, d_q, d_c, &c, to_device<float>(NULL, n), 0));
    /* weights are rounded to 8 bits, values are below 5. Seen: 0.0017 */
    CHECK_STORED(llm_bf16, from_device_as(got, d_out, nr), want, nr, 0.004f);
}

TEST(mla_decode,
     "attention over latents equals llm_gqa_decode of one head of keys, heads past 64") {
    check_mla(1, 1, 8, 0, 1, 0, true);
    check_mla(2, 5, 24, 8, 33, 0, false);
    check_mla(1, 66, 16, 8, 70, 0, true);
    if (TEST_SLOW) return;
    check_mla(1, 64, 128, 16, 64, 0, true);
    check_mla(2, 3, 136, 24, 40, 0, false);
    check_mla(1, 17, 512, 64, 45, 0, true); /* DeepSeek's */
}

TEST(mla_decode, "splits of the keys, some of them empty, are combined to the same result") {
    check_mla(1, 3, 16, 8, 70, 2, true);
    check_mla(2, 2, 8, 8, 40, 5, false);
    if (TEST_SLOW) return;
    check_mla(1, 65, 200, 0, 260, 0, true); /* 2, as chosen */
}

TEST(mla_decode, "as many splits as a card needs, none under 128 keys") {
    const llm_mla_config m = {1, 1, 7168, 128, 1536, 512, 128, 64, 128, 1e-6f, 0.07f};
    llm_cuda_mla_decode_config c = llm_cuda_mla_decode_defaults(1, 16384, &m);
    CHECK(c.H == 128 && c.R == 512 && c.Dr == 64 && c.room == 16384 && c.scale == 0.07f);
    CHECK(llm_cuda_mla_decode_splits(&c) == 66); /* two blocks a text */
    CHECK(llm_cuda_mla_decode_scratch(&c) == 128 * 66 * 514);
    c.B = 64;
    CHECK(llm_cuda_mla_decode_splits(&c) == 2);
    c.B = 132;
    CHECK(llm_cuda_mla_decode_splits(&c) == 1 && llm_cuda_mla_decode_scratch(&c) == 0);
    c.B = 1, c.S = 1024;
    CHECK(llm_cuda_mla_decode_splits(&c) == 8);
    c.S = 255;
    CHECK(llm_cuda_mla_decode_splits(&c) == 1);
    c.S = 1, c.length = (const size_t *)&c,
    c.room = 256; /* of the lengths only the bound is known */
    CHECK(llm_cuda_mla_decode_splits(&c) == 2);
}

/* The whole step, with the products before and after as the reference has them. */
TEST(mla_decode, "between the absorbed matrices it gives llm_mla_decode") {
    enum { C = 12, H = 3, RQ = 5, R = 16, DN = 4, DR = 8, DV = 5, T = 6, W = R + DR, E = DN + DV };
    const llm_mla_config m = {1, T, C, H, RQ, R, DN, DR, DV, 1e-6f, 0.3f};
    llm_mla_weights w;
    w.dq = tiny_normal(1, RQ * C, 0.3f), w.q_norm = tiny_normal(2, RQ, 1.0f);
    w.uq = tiny_normal(3, H * (DN + DR) * RQ, 0.5f), w.dkv = tiny_normal(4, W * C, 0.3f);
    w.kv_norm = tiny_normal(5, R, 1.0f), w.ukv = tiny_normal(6, H * E * R, 0.3f);
    w.out = tiny_normal(7, C * H * DV, 0.3f);
    float *x = tiny_normal(8, T * C, 1.0f), *cache = floats(T * W), y[C], inv_freq[DR / 2];
    float cosine[T * DR / 2], sine[T * DR / 2], q[H * W], mean[H * R], o[H * DV], got[C];
    llm_rope_inv_freq(inv_freq, DR, 50.0f);
    llm_rope_table(cosine, sine, NULL, inv_freq, T, DR);
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 1 << 16));
    for (size_t t = 0; t < T; t++) {
        const float *ct = cosine + t * DR / 2, *st = sine + t * DR / 2;
        llm_mla_decode(y, cache, x + t * C, &w, ct, st, t, &m, &arena);
        const size_t mark = arena.used;
        llm_mla_config one = m;
        one.T = 1;
        llm_mla_saved s = llm_mla_take(&one, &arena);
        llm_mla_project(&s, x + t * C, &w, ct, st, 1, &m, &arena);
        for (size_t h = 0; h < H; h++) {
            llm_linear_map_apply_t(q + h * W, w.ukv + h * E * R, s.q + h * (DN + DR), DN, R);
            memcpy(q + h * W + R, s.q + h * (DN + DR) + DN, DR * sizeof(float));
        }
        arena.used = mark;
        float *rows = floats(T * W); /* what lies behind row t nobody reads */
        memcpy(rows, cache, (t + 1) * W * sizeof(float));
        llm_bf16 *d_out = to_device<llm_bf16>(NULL, H * R);
        const llm_bf16 *d_q = to_device_as<llm_bf16>(q, H * W);
        const llm_bf16 *d_cache = to_device_as<llm_bf16>(rows, T * W);
        llm_cuda_mla_decode_config c = llm_cuda_mla_decode_defaults(1, t + 1, &m);
        c.room = T;
        CHECK_CUDA(llm_cuda_mla_decode(d_out, d_q, d_cache, &c, (float *)NULL, 0));
        from_device_as(mean, d_out, H * R);
        for (size_t h = 0; h < H; h++)
            llm_linear_map_apply(o + h * DV, w.ukv + (h * E + DN) * R, mean + h * R, DV, R);
        llm_matmul_forward(got, o, w.out, NULL, 1, H * DV, C);
        CHECK_ALL_NEAR(got, y, C, 0.016f); /* of size 1; the cache holds 8 bits. Seen: 0.0071 */
    }
    llm_arena_destroy(&arena);
}

TEST(mla_decode,
     "equal latents are their own mean; large scores; no keys; shapes that are refused") {
    enum { R = 8, S = 50 };
    float *q = tiny_normal(1, 16 * R, 1.0f), *cache = floats(2 * S * R), *got = floats(2 * 16 * R);
    for (size_t i = 0; i < 2 * S * R; i++) cache[i] = (float)(i % R) + 1.0f;
    const llm_bf16 *d_c = to_device_as<llm_bf16>(cache, 2 * S * R);
    const llm_bf16 *d_q = to_device_as<llm_bf16>(q, 16 * R);
    llm_bf16 *d_out = to_device<llm_bf16>(NULL, 2 * 16 * R);
    llm_cuda_mla_decode_config c = {1, 16, R, 0, S, S, 1, NULL, 1.0f};
    CHECK_CUDA(llm_cuda_mla_decode(d_out, d_q, d_c, &c, (float *)NULL, 0));
    from_device_as(got, d_out, 16 * R); /* weights add up to 1 as they are used */
    for (size_t i = 0; i < 16 * R; i++) CHECK(got[i] == (float)(i % R) + 1.0f);
    for (size_t i = 0; i < R; i++) cache[(S - 1) * R + i] = -2000.0f;
    for (size_t i = 0; i < R; i++) cache[(S + S - 1) * R + i] = 2000.0f;
    for (size_t i = 0; i < 16 * R; i++) q[i] = 1.0f;
    d_c = to_device_as<llm_bf16>(cache, 2 * S * R), d_q = to_device_as<llm_bf16>(q, 16 * R);
    c.B = 2, c.H = 8, c.room = S;
    CHECK_CUDA(llm_cuda_mla_decode(d_out, d_q, d_c, &c, (float *)NULL, 0));
    from_device_as(got, d_out, 2 * 8 * R);
    CHECK(got[3] == 4.0f && got[8 * R + 3] == 2000.0f);
    const size_t length[2] = {0, S};
    for (c.splits = 1; c.splits < 4; c.splits += 2) {
        c.S = 0, c.length = to_device(length, 2);
        CHECK_CUDA(llm_cuda_mla_decode(d_out, d_q, d_c, &c, to_device<float>(NULL, 512), 0));
        from_device_as(got, d_out, 2 * 8 * R);
        CHECK(got[3] == 0.0f && got[8 * R + 3] == 2000.0f);
    }
    c.B = 0;
    CHECK_CUDA(llm_cuda_mla_decode(d_out, d_q, d_c, &c, (float *)NULL, 0));
    c.B = 1;
    const size_t bad[5][2] = {{12, 8}, {8, 12}, {520, 8}, {512, 328}, {8, 8}};
    for (size_t i = 0; i < 5; i++) {
        c.R = bad[i][0], c.Dr = bad[i][1];
        CHECK(llm_cuda_mla_decode(d_out, i == 4 ? d_q + 1 : d_q, d_c, &c, (float *)NULL, 0) ==
              cudaErrorInvalidValue);
    }
    CHECK(llm_cuda_mla_decode(d_out, d_q, d_c + 1, &c, (float *)NULL, 0) == cudaErrorInvalidValue);
}

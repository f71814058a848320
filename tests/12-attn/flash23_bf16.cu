/* @flash23_bf16 */
#include "../test.h"

#include "../../llm_cuda.cuh"

#include "../tiny_flash23_cuda.h"

/* Against llm_flash23_forward. Weights are rounded to 8 bits before they meet values of size 1 to
 * 4: seen up to 0.0024. */
static void check_bf16(const llm_flash23_config *c) {
    const size_t N = c->start_q[c->B], M = c->start_k[c->B], rows = N * c->H;
    const size_t nq = rows * c->D, nk = M * c->Hkv * c->D;
    float *q = tiny_flash23_normal(N, nq), *k = tiny_flash23_normal(M + 1, nk),
          *v = tiny_flash23_normal(3, nk);
    float *out = floats(nq), *lse = floats(rows), *got = floats(nq), *got_lse = floats(rows);
    size_t Tq, Tk;
    const llm_flash23_config device = tiny_flash23_device(&Tq, &Tk, c);
    const llm_bf16 *d_q = to_device_as<llm_bf16>(q, nq), *d_k = to_device_as<llm_bf16>(k, nk);
    const llm_bf16 *d_v = to_device_as<llm_bf16>(v, nk);
    llm_bf16 *d_out = to_device<llm_bf16>(NULL, nq);
    float *d_lse = to_device<float>(NULL, rows);
    llm_flash23_forward(out, lse, q, k, v, c);
    CHECK_CUDA(llm_cuda_flash23_bf16_forward(d_out, d_lse, d_q, d_k, d_v, Tq, Tk, &device, 0));
    CHECK_STORED(llm_bf16, from_device_as(got, d_out, nq), out, nq, 0.005f);
    from_device(got_lse, d_lse, rows);
    for (size_t i = 0; i < rows; i++) { /* no rounding here: sums of weights, in another order */
        if (lse[i] == -INFINITY)
            CHECK(got_lse[i] == -INFINITY);
        else
            CHECK_NEAR(got_lse[i], lse[i], 2e-6f * (4.0f + fabsf(lse[i])));
    }
}

TEST(flash23_bf16, "equals llm_flash23: lengths, groups, windows, the cap, slopes, head sizes") {
    const size_t one[2] = {0, 1}, few[5] = {0, 3, 3, 70, 71}, more[5] = {0, 65, 70, 72, 80};
    const size_t long_q[3] = {0, 130, 131}, long_k[3] = {0, 140, 200};
    const float slope[4] = {0.5f, 0.25f, 0.125f, 1.0f};
    llm_flash23_config c = llm_flash23_defaults(one, 1, 1, 1, 8);
    check_bf16(&c);
    c = llm_flash23_defaults(few, 4, 2, 1, 24), c.start_k = more;
    check_bf16(&c);
    if (TEST_SLOW) return;
    c.right = SIZE_MAX;
    check_bf16(&c);
    c = llm_flash23_defaults(long_q, 2, 4, 2, 64), c.start_k = long_k, c.left = 70, c.right = 3;
    check_bf16(&c);
    c.cap = 1.5f, c.scale = 0.3f, c.slope = slope;
    check_bf16(&c);
    c = llm_flash23_defaults(long_q, 2, 1, 1, 72);
    check_bf16(&c);
    c.D = 128, c.left = 64;
    check_bf16(&c);
}

TEST(flash23_bf16, "under @flash's rule: heads outside, hidden keys, dropout") {
    enum {
        B = 2,
        H = 2,
        T = 67,
        S = 70,
        D = 16,
        NQ = B * H * T * D,
        NK = B * S * D,
        ROWS = B * H * T
    };
    float *q = tiny_flash23_normal(1, NQ), *k = tiny_flash23_normal(2, NK),
          *v = tiny_flash23_normal(3, NK);
    float *want = floats(NQ), *lse = floats(ROWS), *got = floats(NQ);
    bool *hidden = bools(B * S);
    for (size_t i = 0; i < B * S; i++) hidden[i] = i % 3 == 1;
    llm_flash_config c = llm_flash_defaults(B, H, 1, T, D);
    c.S = S, c.hidden = hidden, c.dropout = 0.3f, c.seed = 11, c.offset = 5;
    const llm_bf16 *d_q = to_device_as<llm_bf16>(q, NQ), *d_k = to_device_as<llm_bf16>(k, NK);
    const llm_bf16 *d_v = to_device_as<llm_bf16>(v, NK);
    llm_bf16 *d_out = to_device<llm_bf16>(NULL, NQ);
    llm_arena arena;
    CHECK(llm_arena_create(&arena, ROWS * sizeof(float) + 64));
    llm_flash_forward(want, lse, q, k, v, &c, &arena);
    llm_arena_destroy(&arena);
    c.hidden = to_device(hidden, B * S);
    CHECK_CUDA(
        llm_cuda_flash23_bf16_heads(d_out, to_device<float>(NULL, ROWS), d_q, d_k, d_v, &c, 0));
    CHECK_STORED(llm_bf16, from_device_as(got, d_out, NQ), want, NQ, 0.004f); /* seen: 0.0020 */
}

/* Causal attention of one head in double precision, and as a program in bfloat16 does it, which
 * rounds every array that it keeps. */
static double bf16_round(double x, bool rounded) {
    return rounded ? (double)llm_to_float(llm_to_bf16((float)x)) : x;
}
static void bf16_plain(double *o, const float *q, const float *k, const float *v, size_t T,
                       size_t D, bool rounded) {
    double *p = doubles(T);
    for (size_t i = 0; i < T; i++) {
        double max = -1e300, sum = 0.0;
        for (size_t j = 0; j <= i; j++) {
            double s = 0.0;
            for (size_t e = 0; e < D; e++) s += (double)q[i * D + e] * (double)k[j * D + e];
            p[j] = bf16_round(bf16_round(s, rounded) / sqrt((double)D), rounded);
            max = fmax(max, p[j]);
        }
        for (size_t j = 0; j <= i; j++) sum += exp(p[j] - max);
        for (size_t e = 0; e < D; e++) {
            double mean = 0.0;
            for (size_t j = 0; j <= i; j++)
                mean += bf16_round(exp(p[j] - max) / sum, rounded) * (double)v[j * D + e];
            o[i * D + e] = bf16_round(mean, rounded);
        }
    }
}

TEST(flash23_bf16, "no entry is further from float64 than twice a plain bfloat16 program") {
    enum { T = 150, D = 64, N = T * D };
    const size_t start[2] = {0, T}, seeds = TEST_SLOW ? 1 : 4;
    for (uint64_t seed = 1; seed <= seeds; seed++) {
        float *q = tiny_flash23_normal(10 * seed, N), *k = tiny_flash23_normal(10 * seed + 1, N),
              *got = floats(N);
        float *v = tiny_flash23_normal(10 * seed + 2, N);
        const llm_bf16 *d_q = to_device_as<llm_bf16>(q, N), *d_k = to_device_as<llm_bf16>(k, N);
        const llm_bf16 *d_v = to_device_as<llm_bf16>(v, N);
        llm_bf16 *d_out = to_device<llm_bf16>(NULL, N);
        double *exact = doubles(N), *plain = doubles(N), worst[2] = {0.0, 0.0};
        bf16_plain(exact, q, k, v, T, D, false);
        bf16_plain(plain, q, k, v, T, D, true);
        const llm_flash23_config c = llm_flash23_defaults(to_device(start, 2), 1, 1, 1, D);
        CHECK_CUDA(llm_cuda_flash23_bf16_forward(d_out, to_device<float>(NULL, T), d_q, d_k, d_v, T,
                                                 T, &c, 0));
        from_device_as(got, d_out, N);
        for (size_t i = 0; i < N; i++) {
            worst[0] = fmax(worst[0], fabs((double)got[i] - exact[i]));
            worst[1] = fmax(worst[1], fabs(plain[i] - exact[i]));
        }
        CHECK(worst[0] <= 2.0 * worst[1]); /* 0.44 to 0.65 of it, seeds 1 to 4 */
    }
}

TEST(flash23_bf16, "scores of 1e4, no keys, nothing to do, shapes that are refused") {
    enum { T = 66, D = 8 };
    float *q = tiny_flash23_normal(1, T * D), *out = floats(T * D), *lse = floats(T);
    for (size_t i = 0; i < T * D; i++) q[i] *= 100.0f;
    const llm_bf16 *d_q = to_device_as<llm_bf16>(q, T * D);
    llm_bf16 *d_out = to_device<llm_bf16>(NULL, T * D);
    float *d_lse = to_device<float>(NULL, T);
    llm_flash_config c = llm_flash_defaults(1, 1, 1, T, D);
    CHECK_CUDA(llm_cuda_flash23_bf16_heads(d_out, d_lse, d_q, d_q, d_q, &c, 0));
    from_device_as(out, d_out, T * D);
    for (size_t i = 0; i < T * D; i++) CHECK(isfinite(out[i]));
    CHECK_ALL_NEAR(out, q, D, 0.0f); /* the first query sees one key */
    c.S = 0;
    CHECK_CUDA(llm_cuda_flash23_bf16_heads(d_out, d_lse, d_q, d_q, d_q, &c, 0));
    CHECK(from_device_as(out, d_out, T * D)[5] == 0.0f &&
          from_device(lse, d_lse, T)[65] == -INFINITY);
    c.B = 0;
    CHECK_CUDA(llm_cuda_flash23_bf16_heads(d_out, d_lse, d_q, d_q, d_q, &c, 0));
    c.B = 1, c.S = T;
    const llm_bf16 *off = d_q + 1;
    CHECK(llm_cuda_flash23_bf16_heads(d_out, d_lse, off, d_q, d_q, &c, 0) == cudaErrorInvalidValue);
    CHECK(llm_cuda_flash23_bf16_heads(d_out, d_lse, d_q, off, d_q, &c, 0) == cudaErrorInvalidValue);
    CHECK(llm_cuda_flash23_bf16_heads(d_out, d_lse, d_q, d_q, off, &c, 0) == cudaErrorInvalidValue);
    CHECK(llm_cuda_flash23_bf16_heads(d_out + 1, d_lse, d_q, d_q, d_q, &c, 0) ==
          cudaErrorInvalidValue);
    const size_t bad[4][3] = {{12, 1, 1}, {136, 1, 1}, {8, 1, 0}, {8, 3, 2}};
    for (size_t i = 0; i < 4; i++) {
        c.D = bad[i][0], c.H = bad[i][1], c.Hkv = bad[i][2];
        CHECK(llm_cuda_flash23_bf16_heads(d_out, d_lse, d_q, d_q, d_q, &c, 0) ==
              cudaErrorInvalidValue);
    }
}

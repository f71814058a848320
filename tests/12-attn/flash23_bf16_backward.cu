/* @flash23_bf16_backward */
#include "../test.h"

#include "../../llm_cuda.cuh"

#include "../tiny_flash23_cuda.h"

/* Each gradient alone, or all at once, with the reference's out and lse. Weights and dS are rounded
 * to 8 bits before they are multiplied and added, up to T of them: seen up to 0.0047, 0.011 and
 * 0.018. */
static void check_bf16_back(const llm_flash23_config *c, bool alone) {
    const size_t N = c->start_q[c->B], M = c->start_k[c->B], rows = N * c->H;
    const size_t nq = rows * c->D, nk = M * c->Hkv * c->D;
    float *q = tiny_flash23_normal(N, nq), *k = tiny_flash23_normal(M + 1, nk);
    float *v = tiny_flash23_normal(3, nk), *dout = tiny_flash23_normal(4, nq),
          *got = floats(nq + nk);
    float *dq = tiny_flash23_normal(5, nq), *dk = tiny_flash23_normal(6, nk);
    float *dv = tiny_flash23_normal(7, nk), *out = floats(nq), *lse = floats(rows);
    size_t Tq, Tk;
    const llm_flash23_config device = tiny_flash23_device(&Tq, &Tk, c);
    const llm_bf16 *d_q = to_device_as<llm_bf16>(q, nq), *d_k = to_device_as<llm_bf16>(k, nk);
    const llm_bf16 *d_v = to_device_as<llm_bf16>(v, nk), *d_g = to_device_as<llm_bf16>(dout, nq);
    llm_bf16 *d_dq = to_device_as<llm_bf16>(dq, nq), *d_dk = to_device_as<llm_bf16>(dk, nk);
    llm_bf16 *d_dv = to_device_as<llm_bf16>(dv, nk), *none = NULL;
    llm_flash23_forward(out, lse, q, k, v, c);
    const llm_bf16 *d_out = to_device_as<llm_bf16>(out, nq);
    const float *d_lse = to_device(lse, rows);
    float *scratch = to_device<float>(NULL, rows);
    llm_flash23_backward(dq, dk, dv, dout, out, lse, q, k, v, c);
    for (size_t n = 0; n < (alone ? 3 : 1); n++)
        CHECK_CUDA(llm_cuda_flash23_bf16_backward(
            n == 0 ? d_dq : none, n == 1 || !alone ? d_dk : none, n == 2 || !alone ? d_dv : none,
            d_g, d_out, d_lse, d_q, d_k, d_v, Tq, Tk, &device, scratch, 0));
    CHECK_STORED(llm_bf16, from_device_as(got, d_dq, nq), dq, nq, 0.01f);
    CHECK_STORED(llm_bf16, from_device_as(got, d_dk, nk), dk, nk, 0.02f);
    CHECK_STORED(llm_bf16, from_device_as(got, d_dv, nk), dv, nk, 0.036f);
}

TEST(flash23_bf16_backward,
     "gradients equal llm_flash23's: lengths, groups, windows, cap, slopes") {
    const size_t one[2] = {0, 1}, few[5] = {0, 3, 3, 70, 71}, more[5] = {0, 65, 70, 72, 80};
    const size_t long_q[3] = {0, 200, 201}, long_k[3] = {0, 140, 200};
    const float slope[4] = {0.5f, 0.25f, 0.125f, 1.0f};
    llm_flash23_config c = llm_flash23_defaults(one, 1, 1, 1, 8);
    check_bf16_back(&c, true);
    c = llm_flash23_defaults(few, 4, 2, 1, 24), c.start_k = more;
    check_bf16_back(&c, !TEST_SLOW);
    if (TEST_SLOW) return;
    c.right = SIZE_MAX;
    check_bf16_back(&c, false);
    c = llm_flash23_defaults(long_q, 2, 4, 2, 64), c.start_k = long_k, c.left = 70, c.right = 3;
    check_bf16_back(&c, false);
    c.cap = 1.5f, c.scale = 0.3f, c.slope = slope;
    check_bf16_back(&c, false);
    c = llm_flash23_defaults(long_k, 2, 1, 1, 72);
    check_bf16_back(&c, false);
    c.D = 128, c.left = 64;
    check_bf16_back(&c, true);
}

TEST(flash23_bf16_backward, "under @flash's rule: heads outside, hidden keys, dropout") {
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
    float *q = tiny_flash23_normal(1, NQ), *k = tiny_flash23_normal(2, NK), *got = floats(NQ);
    float *v = tiny_flash23_normal(3, NK), *dout = tiny_flash23_normal(4, NQ), *out = floats(NQ);
    float *lse = floats(ROWS), *dq = zeros(NQ), *dk = zeros(NK), *dv = zeros(NK);
    bool *hidden = bools(B * S);
    for (size_t i = 0; i < B * S; i++) hidden[i] = i % 3 == 1;
    llm_flash_config c = llm_flash_defaults(B, H, 1, T, D);
    c.S = S, c.hidden = hidden, c.dropout = 0.3f, c.seed = 11, c.offset = 5;
    const llm_bf16 *d_q = to_device_as<llm_bf16>(q, NQ), *d_k = to_device_as<llm_bf16>(k, NK);
    const llm_bf16 *d_v = to_device_as<llm_bf16>(v, NK), *d_g = to_device_as<llm_bf16>(dout, NQ);
    llm_bf16 *d_dq = to_device_as<llm_bf16>(dq, NQ), *d_dk = to_device_as<llm_bf16>(dk, NK);
    llm_bf16 *d_dv = to_device_as<llm_bf16>(dv, NK);
    llm_arena arena;
    CHECK(llm_arena_create(&arena, ROWS * sizeof(float) + 64));
    llm_flash_forward(out, lse, q, k, v, &c, &arena);
    llm_arena_destroy(&arena);
    const llm_bf16 *d_out = to_device_as<llm_bf16>(out, NQ);
    const float *d_lse = to_device(lse, ROWS);
    llm_flash_backward(dq, dk, dv, dout, out, lse, q, k, v, &c);
    c.hidden = to_device(hidden, B * S);
    CHECK_CUDA(llm_cuda_flash23_bf16_heads_backward(d_dq, d_dk, d_dv, d_g, d_out, d_lse, d_q, d_k,
                                                    d_v, &c, to_device<float>(NULL, ROWS), 0));
    CHECK_STORED(llm_bf16, from_device_as(got, d_dq, NQ), dq, NQ, 0.01f);
    CHECK_STORED(llm_bf16, from_device_as(got, d_dk, NK), dk, NK, 0.01f);
    CHECK_STORED(llm_bf16, from_device_as(got, d_dv, NK), dv, NK, 0.015f);
}

/* Gradients of causal attention of one head in double precision, and as a program in bfloat16 does
 * it, which rounds every array that it keeps. res: dq, dk, dv (3,T,D). */
static double bf16_back_round(double x, bool rounded) {
    return rounded ? (double)llm_to_float(llm_to_bf16((float)x)) : x;
}
static void bf16_back_plain(double *res, const float *q, const float *k, const float *v,
                            const float *g, size_t T, size_t D, bool rounded) {
    double *p = doubles(T), *dp = doubles(T), *dk = res + T * D, *dv = dk + T * D;
    const double scale = 1.0 / sqrt((double)D);
    for (size_t i = 0; i < 3 * T * D; i++) res[i] = 0.0;
    for (size_t i = 0; i < T; i++) {
        double max = -1e300, sum = 0.0, along = 0.0;
        for (size_t j = 0; j <= i; j++) {
            double s = 0.0, d = 0.0;
            for (size_t e = 0; e < D; e++) {
                s += (double)q[i * D + e] * (double)k[j * D + e];
                d += (double)g[i * D + e] * (double)v[j * D + e];
            }
            p[j] = bf16_back_round(scale * bf16_back_round(s, rounded), rounded);
            dp[j] = bf16_back_round(d, rounded);
            max = fmax(max, p[j]);
        }
        for (size_t j = 0; j <= i; j++) sum += exp(p[j] - max);
        for (size_t j = 0; j <= i; j++) {
            p[j] = bf16_back_round(exp(p[j] - max) / sum, rounded);
            along += p[j] * dp[j];
        }
        for (size_t j = 0; j <= i; j++) {
            const double ds = scale * bf16_back_round(p[j] * (dp[j] - along), rounded);
            for (size_t e = 0; e < D; e++) {
                res[i * D + e] += ds * (double)k[j * D + e];
                dk[j * D + e] += ds * (double)q[i * D + e];
                dv[j * D + e] += p[j] * (double)g[i * D + e];
            }
        }
    }
    for (size_t i = 0; i < 3 * T * D; i++) res[i] = bf16_back_round(res[i], rounded);
}

TEST(flash23_bf16_backward,
     "no gradient is further from float64 than twice a plain bfloat16 program") {
    enum { T = 150, D = 32, N = T * D };
    const size_t start[2] = {0, T};
    for (uint64_t seed = 1; seed <= 4 && !TEST_SLOW; seed++) { /* figures, the same when slow */
        float *x[4], *got = floats(N), *d_lse = to_device<float>(NULL, T);
        const llm_bf16 *d[4];
        llm_bf16 *res[3], *d_out = to_device<llm_bf16>(NULL, N);
        for (uint64_t n = 0; n < 4; n++) {
            x[n] = tiny_flash23_normal(10 * seed + n, N);
            d[n] = to_device_as<llm_bf16>(x[n], N);
        }
        for (size_t n = 0; n < 3; n++) res[n] = to_device_as<llm_bf16>(zeros(N), N);
        double *exact = doubles(3 * N), *plain = doubles(3 * N);
        bf16_back_plain(exact, x[0], x[1], x[2], x[3], T, D, false);
        bf16_back_plain(plain, x[0], x[1], x[2], x[3], T, D, true);
        const llm_flash23_config c = llm_flash23_defaults(to_device(start, 2), 1, 1, 1, D);
        CHECK_CUDA(llm_cuda_flash23_bf16_forward(d_out, d_lse, d[0], d[1], d[2], T, T, &c, 0));
        const llm_bf16 *stored = d_out;
        CHECK_CUDA(llm_cuda_flash23_bf16_backward(res[0], res[1], res[2], d[3], stored, d_lse, d[0],
                                                  d[1], d[2], T, T, &c, to_device<float>(NULL, T),
                                                  0));
        for (size_t n = 0; n < 3; n++) {
            double worst[2] = {0.0, 0.0};
            from_device_as(got, res[n], N);
            for (size_t i = 0; i < N; i++) {
                worst[0] = fmax(worst[0], fabs((double)got[i] - exact[n * N + i]));
                worst[1] = fmax(worst[1], fabs(plain[n * N + i] - exact[n * N + i]));
            }
            CHECK(worst[0] <= 2.0 * worst[1]); /* 0.42 to 1.15 of it */
        }
    }
}

TEST(flash23_bf16_backward, "nothing to do, shapes and rows that are refused") {
    llm_bf16 *d = to_device<llm_bf16>(NULL, 8);
    float *f = to_device<float>(NULL, 1);
    llm_flash_config c = llm_flash_defaults(1, 1, 1, 0, 8);
    CHECK_CUDA(llm_cuda_flash23_bf16_heads_backward(d, d, d, d, d, f, d, d, d, &c, f, 0));
    c.T = c.S = 1;
    for (size_t i = 0; i < 8; i++) {
        llm_bf16 *at[8];
        for (size_t n = 0; n < 8; n++) at[n] = n == i ? d + 1 : d;
        CHECK(llm_cuda_flash23_bf16_heads_backward(at[0], at[1], at[2], at[3], at[4], f, at[5],
                                                   at[6], at[7], &c, f,
                                                   0) == cudaErrorInvalidValue);
    }
    const size_t bad[4][3] = {{12, 1, 1}, {136, 1, 1}, {8, 1, 0}, {8, 3, 2}};
    for (size_t i = 0; i < 4; i++) {
        c.D = bad[i][0], c.H = bad[i][1], c.Hkv = bad[i][2];
        CHECK(llm_cuda_flash23_bf16_heads_backward(d, d, d, d, d, f, d, d, d, &c, f, 0) ==
              cudaErrorInvalidValue);
    }
}

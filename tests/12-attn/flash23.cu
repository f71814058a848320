/* @flash23 */
#include "../test.h"

#include "../../llm_cuda.cuh"

#include "../tiny_flash23_cuda.h"

/* Forward and, with the reference's out and lse, backward, each gradient alone. */
template <typename T> static void check_flash23(const llm_flash23_config *c) {
    const size_t N = c->start_q[c->B], M = c->start_k[c->B], rows = N * c->H;
    const size_t nq = rows * c->D, nk = M * c->Hkv * c->D;
    float *q = tiny_flash23_normal(N, nq), *k = tiny_flash23_normal(M + 1, nk),
          *v = tiny_flash23_normal(3, nk);
    float *dout = tiny_flash23_normal(4, nq), *dq = tiny_flash23_normal(5, nq),
          *dk = tiny_flash23_normal(6, nk);
    float *dv = tiny_flash23_normal(7, nk), *out = floats(nq), *lse = floats(rows);
    float *got = floats(nq + nk), *got_lse = floats(rows);
    size_t Tq, Tk;
    const llm_flash23_config device = tiny_flash23_device(&Tq, &Tk, c);
    const T *d_q = to_device_as<T>(q, nq), *d_k = to_device_as<T>(k, nk);
    const T *d_v = to_device_as<T>(v, nk), *d_dout = to_device_as<T>(dout, nq);
    T *d_out = to_device<T>(NULL, nq), *none = NULL;
    float *d_lse = to_device<float>(NULL, rows), *scratch = to_device<float>(NULL, rows);
    llm_flash23_forward(out, lse, q, k, v, c);
    CHECK_CUDA(llm_cuda_flash23_forward(d_out, d_lse, d_q, d_k, d_v, Tq, Tk, &device, 0));
    /* dot products of D terms, averages of S values, in another order */
    CHECK_STORED(T, from_device_as(got, d_out, nq), out, nq, 3e-6f);
    from_device(got_lse, d_lse, rows);
    for (size_t i = 0; i < rows; i++) {
        if (lse[i] == -INFINITY)
            CHECK(got_lse[i] == -INFINITY);
        else
            CHECK_NEAR(got_lse[i], lse[i], 2e-6f * (4.0f + fabsf(lse[i])));
    }
    const T *d_stored = to_device_as<T>(out, nq);
    d_lse = to_device(lse, rows);
    T *d_dq = to_device_as<T>(dq, nq), *d_dk = to_device_as<T>(dk, nk);
    T *d_dv = to_device_as<T>(dv, nk);
    llm_flash23_backward(dq, dk, dv, dout, out, lse, q, k, v, c);
    CHECK_CUDA(llm_cuda_flash23_backward(d_dq, none, none, d_dout, d_stored, d_lse, d_q, d_k, d_v,
                                         Tq, Tk, &device, scratch, 0));
    CHECK_CUDA(llm_cuda_flash23_backward(none, d_dk, none, d_dout, d_stored, d_lse, d_q, d_k, d_v,
                                         Tq, Tk, &device, scratch, 0));
    CHECK_CUDA(llm_cuda_flash23_backward(none, none, d_dv, d_dout, d_stored, d_lse, d_q, d_k, d_v,
                                         Tq, Tk, &device, scratch, 0));
    CHECK_STORED(T, from_device_as(got, d_dq, nq), dq, nq, 1e-5f);
    CHECK_STORED(T, from_device_as(got, d_dk, nk), dk, nk, 4e-5f);
    CHECK_STORED(T, from_device_as(got, d_dv, nk), dv, nk, 1e-5f);
}
static llm_flash23_config flash23_shape(const size_t *start_q, const size_t *start_k, size_t B,
                                        size_t H, size_t Hkv, size_t D, size_t left, size_t right) {
    llm_flash23_config c = llm_flash23_defaults(start_q, B, H, Hkv, D);
    c.start_k = start_k, c.left = left, c.right = right;
    return c;
}

TEST(flash23, "texts of different lengths, causal and not, equal llm_flash23, forward and back") {
    const size_t one[2] = {0, 1}, few[5] = {0, 3, 3, 70, 71}, more[5] = {0, 65, 70, 72, 80};
    const size_t long_q[3] = {0, 130, 131}, long_k[3] = {0, 66, 200};
    llm_flash23_config c = flash23_shape(one, one, 1, 1, 1, 1, SIZE_MAX, 0);
    check_flash23<float>(&c);
    c = flash23_shape(few, few, 4, 2, 1, 5, SIZE_MAX, 0);
    check_flash23<float>(&c);
    if (TEST_SLOW) return;
    c = flash23_shape(few, more, 4, 2, 2, 17, SIZE_MAX, 0); /* rows that see nothing in text 2 */
    check_flash23<llm_bf16>(&c);
    c = flash23_shape(few, more, 4, 2, 2, 3, SIZE_MAX, SIZE_MAX);
    check_flash23<float>(&c);
    c = flash23_shape(long_q, long_k, 2, 3, 1, 65, SIZE_MAX, 0);
    check_flash23<float>(&c);
}

TEST(flash23, "windows to either side, across tiles and beyond the text") {
    const size_t q[3] = {0, 140, 150}, k[3] = {0, 140, 280},
                 windows[6][2] = {{0, 0}, {1, 2}, {70, 0}, {5, 100}, {64, 63}, {SIZE_MAX, 3}};
    for (size_t n = 0; n < (TEST_SLOW ? 1 : 6); n++) {
        llm_flash23_config c =
            flash23_shape(q, n % 2 ? k : q, 2, 1, 1, 4, windows[n][0], windows[n][1]);
        check_flash23<float>(&c);
    }
}

TEST(flash23, "soft cap and slopes, alone and together") {
    const size_t q[3] = {0, 66, 70}, k[3] = {0, 70, 77};
    const float slope[4] = {0.5f, 0.25f, 0.125f, 1.0f};
    llm_flash23_config c = flash23_shape(q, k, 2, 4, 2, 6, 40, 3);
    c.cap = 1.5f, c.scale = 0.9f; /* most scores are bent */
    if (!TEST_SLOW) check_flash23<float>(&c);
    c.slope = slope;
    check_flash23<float>(&c);
    if (TEST_SLOW) return;
    c.cap = 0.0f;
    check_flash23<llm_bf16>(&c);
}

#ifndef __CUDACC__
TEST(flash23, "tiles outside a window are not read, tiles of a short text not either") {
    enum { T = 640, D = 8 };
    if (TEST_SLOW) return;
    const size_t start[3] = {0, T, T + 10};
    float *x = tiny_flash23_normal(1, (T + 10) * D), *d_out = to_device<float>(NULL, (T + 10) * D);
    float *d_lse = to_device<float>(NULL, T + 10);
    llm_flash23_config c = llm_flash23_defaults(start, 2, 1, 1, D);
    const float *d_x = to_device(x, (T + 10) * D);
    c.start_q = c.start_k = to_device(start, 3);
    const size_t lefts[4] = {SIZE_MAX, 0, 64, 65}; /* 65 reaches back over two tiles */
    const size_t tiles[4] = {55, 10, 1 + 9 * 2, 1 + 2 + 8 * 3};
    for (size_t n = 0; n < 4; n++) {
        c.left = lefts[n];
        emulate_count();
        CHECK_CUDA(llm_cuda_flash23_forward(d_out, d_lse, d_x, d_x, d_x, T, T, &c, 0));
        const size_t keys = (tiles[n] * 64 + 10) * 2, queries = T + 10;
        CHECK(emulate_counted.read == (keys + queries) * D * sizeof(float));
        CHECK(emulate_counted.written == (T + 10) * (D + 1) * sizeof(float));
    }
}
#endif

/* Attention of one head in double precision, and as a program in bfloat16 does it: every array that
 * it keeps is rounded. q, k, v, g = dout (T,D), causal; res: out, dq, dk, dv (4,T,D). */
static double flash23_round(double x, bool rounded) {
    return rounded ? (double)llm_to_float(llm_to_bf16((float)x)) : x;
}
static void flash23_plain(double *res, const float *q, const float *k, const float *v,
                          const float *g, size_t T, size_t D, bool rounded) {
    double *p = doubles(T * T), *dp = doubles(T * T), *o = res, *dq = res + T * D;
    double *dk = dq + T * D, *dv = dk + T * D;
    const double scale = 1.0 / sqrt((double)D);
    for (size_t i = 0; i < 4 * T * D; i++) res[i] = 0.0;
    for (size_t i = 0; i < T; i++) {
        double max = -1e300, sum = 0.0, along = 0.0;
        for (size_t j = 0; j <= i; j++) {
            double s = 0.0, d = 0.0;
            for (size_t e = 0; e < D; e++) {
                s += (double)q[i * D + e] * (double)k[j * D + e];
                d += (double)g[i * D + e] * (double)v[j * D + e];
            }
            p[i * T + j] = flash23_round(scale * flash23_round(s, rounded), rounded);
            dp[i * T + j] = flash23_round(d, rounded);
            max = fmax(max, p[i * T + j]);
        }
        for (size_t j = 0; j <= i; j++) sum += exp(p[i * T + j] - max);
        for (size_t j = 0; j <= i; j++)
            p[i * T + j] = flash23_round(exp(p[i * T + j] - max) / sum, rounded);
        for (size_t j = 0; j <= i; j++) along += p[i * T + j] * dp[i * T + j];
        for (size_t j = 0; j <= i; j++) {
            const double ds = flash23_round(p[i * T + j] * (dp[i * T + j] - along), rounded);
            for (size_t e = 0; e < D; e++) {
                o[i * D + e] += p[i * T + j] * (double)v[j * D + e];
                dv[j * D + e] += p[i * T + j] * (double)g[i * D + e];
                dq[i * D + e] += scale * ds * (double)k[j * D + e];
                dk[j * D + e] += scale * ds * (double)q[i * D + e];
            }
        }
    }
    for (size_t i = 0; i < 4 * T * D; i++) res[i] = flash23_round(res[i], rounded);
}

TEST(flash23, "bfloat16: no gradient is further from float64 than twice a plain bfloat16 program") {
    enum { T = 100, D = 32, N = T * D };
    const size_t start[2] = {0, T};
    const size_t seeds = TEST_SLOW ? 1 : 3;
    for (uint64_t seed = 1; seed <= seeds; seed++) {
        float *x[4], *got = floats(N);
        llm_bf16 *d[4];
        for (uint64_t n = 0; n < 4; n++) {
            x[n] = tiny_flash23_normal(10 * seed + n, N);
            d[n] = to_device_as<llm_bf16>(x[n], N);
        }
        double *exact = doubles(4 * N), *plain = doubles(4 * N);
        flash23_plain(exact, x[0], x[1], x[2], x[3], T, D, false);
        flash23_plain(plain, x[0], x[1], x[2], x[3], T, D, true);
        llm_bf16 *res[4];
        for (size_t n = 0; n < 4; n++) res[n] = to_device_as<llm_bf16>(zeros(N), N);
        float *d_lse = to_device<float>(NULL, T);
        llm_flash23_config c = llm_flash23_defaults(to_device(start, 2), 1, 1, 1, D);
        const llm_bf16 *q = d[0], *k = d[1], *v = d[2], *g = d[3], *out = res[0];
        CHECK_CUDA(llm_cuda_flash23_forward(res[0], d_lse, q, k, v, T, T, &c, 0));
        CHECK_CUDA(llm_cuda_flash23_backward(res[1], res[2], res[3], g, out, d_lse, q, k, v, T, T,
                                             &c, to_device<float>(NULL, T), 0));
        for (size_t n = 0; n < 4;
             n++) { /* 0.4 to 1.0 of the plain program's errors, seeds 1 to 3 */
            double worst[2] = {0.0, 0.0};
            from_device_as(got, res[n], N);
            for (size_t i = 0; i < N; i++) {
                worst[0] = fmax(worst[0], fabs((double)got[i] - exact[n * N + i]));
                worst[1] = fmax(worst[1], fabs(plain[n * N + i] - exact[n * N + i]));
            }
            CHECK(worst[0] <= 2.0 * worst[1]);
        }
    }
}

TEST(flash23, "nothing to do, shapes that are refused") {
    float *d = to_device<float>(NULL, 1);
    const size_t start[2] = {0, 1};
    llm_flash23_config c = llm_flash23_defaults(start, 0, 1, 1, 4);
    CHECK_CUDA(llm_cuda_flash23_forward(d, d, d, d, d, 1, 1, &c, 0));
    CHECK_CUDA(llm_cuda_flash23_backward(d, d, d, d, d, d, d, d, d, 1, 1, &c, d, 0));
    c.B = 1, c.D = 129;
    CHECK(llm_cuda_flash23_forward(d, d, d, d, d, 1, 1, &c, 0) == cudaErrorInvalidValue);
    CHECK(llm_cuda_flash23_backward(d, d, d, d, d, d, d, d, d, 1, 1, &c, d, 0) ==
          cudaErrorInvalidValue);
    c.D = 4, c.H = 3, c.Hkv = 2;
    CHECK(llm_cuda_flash23_forward(d, d, d, d, d, 1, 1, &c, 0) == cudaErrorInvalidValue);
    CHECK(llm_cuda_flash23_backward(d, d, d, d, d, d, d, d, d, 1, 1, &c, d, 0) ==
          cudaErrorInvalidValue);
}

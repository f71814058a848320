/* @flash_wide */
#include "../test.h"

#include "../../llm_cuda.cuh"

#include "../tiny_flash23_cuda.h"

/* Against llm_flash23_forward. bfloat16: weights are rounded to 8 bits before they meet values of
 * size 1 to 4, as in @flash23_bf16; rows off alignment stay in float. */
template <typename T> static void check_wide(const llm_flash23_config *c, size_t off) {
    const size_t N = c->start_q[c->B], M = c->start_k[c->B], rows = N * c->H;
    const size_t nq = rows * c->D, nk = M * c->Hkv * c->D;
    float *q = tiny_flash23_normal(N, nq + off), *k = tiny_flash23_normal(M + 1, nk),
          *v = tiny_flash23_normal(3, nk);
    float *out = floats(nq), *lse = floats(rows), *got = floats(nq), *got_lse = floats(rows);
    size_t Tq, Tk;
    const llm_flash23_config device = tiny_flash23_device(&Tq, &Tk, c);
    const T *d_q = to_device_as<T>(q, nq + off) + off, *d_k = to_device_as<T>(k, nk);
    const T *d_v = to_device_as<T>(v, nk);
    T *d_out = to_device<T>(NULL, nq);
    float *d_lse = to_device<float>(NULL, rows);
    llm_flash23_forward(out, lse, q + off, k, v, c);
    CHECK_CUDA(llm_cuda_flash_wide_run(d_out, d_lse, d_q, d_k, d_v,
                                       llm_cuda_flash23_make(&device, Tq, Tk, false), Tq, 0));
    const bool tensor = sizeof(T) == 2 && c->D % 8 == 0 && off == 0;
    CHECK_STORED(T, from_device_as(got, d_out, nq), out, nq, tensor ? 0.005f : 1e-5f);
    from_device(got_lse, d_lse, rows);
    for (size_t i = 0; i < rows; i++) { /* no rounding here: sums in another order */
        if (lse[i] == -INFINITY)
            CHECK(got_lse[i] == -INFINITY);
        else
            CHECK_NEAR(got_lse[i], lse[i], 2e-6f * (4.0f + fabsf(lse[i])));
    }
}

TEST(flash_wide, "heads of 129 to 256: lengths, groups, windows, the cap, slopes as llm_flash23") {
    const size_t one[2] = {0, 1}, few[5] = {0, 3, 3, 70, 71}, more[5] = {0, 65, 70, 72, 80};
    const size_t long_q[3] = {0, 66, 67}, long_k[3] = {0, 140, 200};
    const float slope[4] = {0.5f, 0.25f, 0.125f, 1.0f};
    llm_flash23_config c = llm_flash23_defaults(one, 1, 1, 1, 129);
    check_wide<float>(&c, 0);
    c.D = 136;
    check_wide<llm_bf16>(&c, 0);
    if (TEST_SLOW) c = llm_flash23_defaults(long_q, 1, 1, 1, 256), check_wide<llm_bf16>(&c, 0);
    if (TEST_SLOW) check_wide<float>(&c, 0);
    if (TEST_SLOW) return;
    c = llm_flash23_defaults(few, 4, 2, 1, 200), c.start_k = more;
    check_wide<float>(&c, 0);
    check_wide<llm_bf16>(&c, 0);
    c = llm_flash23_defaults(long_q, 2, 4, 2, 256), c.start_k = long_k, c.left = 70, c.right = 3;
    check_wide<float>(&c, 0);
    check_wide<llm_bf16>(&c, 0);
    c.cap = 1.5f, c.scale = 0.3f, c.slope = slope;
    check_wide<float>(&c, 0);
    check_wide<llm_bf16>(&c, 0);
    c.D = 144;
    check_wide<llm_bf16>(&c, 3);
    c.D = 130;
    check_wide<llm_bf16>(&c, 0);
}

/* A cache whose rows behind the text, and in front of the window's tiles, are NaN. */
template <typename T> static void check_nan(void) {
    enum { S = 130, D = 192 };
    const size_t start_q[2] = {0, 1}, start_k[2] = {0, S};
    llm_flash23_config c = llm_flash23_defaults(start_q, 1, 1, 1, D);
    c.start_k = start_k, c.left = 1; /* the last query sees keys 128 and 129 */
    float *q = tiny_flash23_normal(1, D), *k = tiny_flash23_normal(2, (S + 60) * D);
    float *v = tiny_flash23_normal(3, (S + 60) * D), want[D], lse[1], got[D];
    T *d_out = to_device<T>(NULL, D);
    size_t Tq, Tk;
    for (size_t i = 0; i < (S + 60) * D; i++)
        if (i < 128 * D || i >= S * D) k[i] = v[i] = NAN;
    const llm_flash23_config device = tiny_flash23_device(&Tq, &Tk, &c);
    const T *d_q = to_device_as<T>(q, D), *d_k = to_device_as<T>(k, (S + 60) * D);
    const T *d_v = to_device_as<T>(v, (S + 60) * D);
    llm_flash23_forward(want, lse, q, k, v, &c);
    CHECK_CUDA(llm_cuda_flash_wide_run(d_out, to_device<float>(NULL, 1), d_q, d_k, d_v,
                                       llm_cuda_flash23_make(&device, Tq, Tk, false), Tq, 0));
    CHECK_STORED(T, from_device_as(got, d_out, D), want, D, sizeof(T) == 2 ? 0.01f : 1e-5f);
}
/* Dropped weights, by @flash's rule, against llm_flash_forward, which draws the same. */
template <typename T> static void check_dropped(float tol) {
    enum { N = 70, S = 75, D = 136 };
    llm_flash_config c = llm_flash_defaults(1, 2, 1, N, D);
    c.S = S, c.causal = true, c.dropout = 0.3f, c.seed = 11, c.offset = 5;
    const size_t nq = 2 * N * D, nk = S * D;
    float *q = tiny_flash23_normal(1, nq), *k = tiny_flash23_normal(2, nk);
    float *v = tiny_flash23_normal(3, nk), *want = floats(nq), *lse = floats(2 * N);
    float *got = floats(nq);
    const T *d_q = to_device_as<T>(q, nq), *d_k = to_device_as<T>(k, nk);
    const T *d_v = to_device_as<T>(v, nk);
    T *d_out = to_device<T>(NULL, nq);
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 1 << 22));
    llm_flash_forward(want, lse, q, k, v, &c, &arena);
    llm_arena_destroy(&arena);
    const llm_cuda_flash_rule rule = {c, 0, 0, 0};
    CHECK_CUDA(
        llm_cuda_flash_wide_run(d_out, to_device<float>(NULL, 2 * N), d_q, d_k, d_v, rule, N, 0));
    CHECK_STORED(T, from_device_as(got, d_out, nq), want, nq, tol);
}
TEST(flash_wide, "dropout draws what the reference draws, each weight its own") {
    check_dropped<float>(1e-5f);
    check_dropped<llm_bf16>(0.01f);
}

TEST(flash_wide, "what lies behind a text or in front of its window is not read") {
    check_nan<float>();
    check_nan<llm_bf16>();
}

TEST(flash_wide, "no keys give 0, nothing to do is done, heads that fit elsewhere are refused") {
    enum { D = 160 };
    const size_t start_q[2] = {0, 2}, start_k[2] = {0, 0};
    const size_t *d_q = to_device(start_q, 2), *d_k = to_device(start_k, 2);
    llm_flash23_config c = llm_flash23_defaults(d_q, 1, 1, 1, D);
    c.start_k = d_k;
    float out[2 * D], lse[2], *d_lse = to_device<float>(NULL, 2);
    llm_bf16 *d = to_device<llm_bf16>(NULL, 2 * D), *q = to_device<llm_bf16>(NULL, 2 * D);
    float *f = to_device<float>(NULL, 2 * D), *qf = to_device<float>(NULL, 2 * D);
    CHECK_CUDA(
        llm_cuda_flash_wide_run(d, d_lse, q, q, q, llm_cuda_flash23_make(&c, 2, 0, false), 2, 0));
    CHECK(from_device(lse, d_lse, 2)[1] == -INFINITY);
    from_device_as(out, d, 2 * D);
    for (size_t i = 0; i < 2 * D; i++) CHECK(out[i] == 0.0f);
    CHECK_CUDA(llm_cuda_flash_wide_run(f, d_lse, qf, qf, qf, llm_cuda_flash23_make(&c, 2, 0, false),
                                       2, 0));
    from_device(out, f, 2 * D);
    for (size_t i = 0; i < 2 * D; i++) CHECK(out[i] == 0.0f);
    const size_t bad[4][3] = {{128, 1, 1}, {264, 1, 1}, {136, 1, 0}, {136, 3, 2}};
    for (size_t i = 0; i < 4; i++) {
        c.D = bad[i][0], c.H = bad[i][1], c.Hkv = bad[i][2];
        const llm_cuda_flash23_rule rule = llm_cuda_flash23_make(&c, 2, 0, false);
        CHECK(llm_cuda_flash_wide_run(d, d_lse, q, q, q, rule, 2, 0) == cudaErrorInvalidValue);
        CHECK(llm_cuda_flash_wide_run(f, d_lse, qf, qf, qf, rule, 2, 0) == cudaErrorInvalidValue);
    }
    c = llm_flash23_defaults(d_q, 0, 1, 1, D);
    const llm_cuda_flash23_rule none = llm_cuda_flash23_make(&c, 0, 0, false);
    CHECK_CUDA(llm_cuda_flash_wide_run(d, d_lse, q, q, q, none, 0, 0));
    CHECK_CUDA(llm_cuda_flash_wide_run(f, d_lse, qf, qf, qf, none, 0, 0));
}

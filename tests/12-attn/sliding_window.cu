/* @sliding_window */
#include "../test.h"

#include "../../llm_cuda.cuh"

static float *window_normal(uint64_t seed, size_t n) {
    float *x = floats(n);
    llm_rng rng = llm_rng_seed(seed);
    llm_rng_normal_fill(&rng, x, n);
    return x;
}

/* Forward and, with the reference's out and lse, backward. */
template <typename T> static void check_window(const llm_sliding_window_config *c) {
    const size_t rows = c->B * c->H * c->T, nq = rows * c->D, nk = c->B * c->Hkv * c->T * c->D;
    float *q = window_normal(1, nq), *k = window_normal(2, nk), *v = window_normal(3, nk);
    float *dout = window_normal(4, nq), *dq = window_normal(5, nq), *dk = window_normal(6, nk);
    float *dv = window_normal(7, nk), *out = floats(nq), *lse = floats(rows), *got = floats(nq);
    const T *d_q = to_device_as<T>(q, nq), *d_k = to_device_as<T>(k, nk);
    const T *d_v = to_device_as<T>(v, nk), *d_dout = to_device_as<T>(dout, nq);
    T *d_out = to_device<T>(NULL, nq);
    float *d_lse = to_device<float>(NULL, rows);
    llm_arena arena;
    CHECK(llm_arena_create(&arena, c->B * c->H * c->T * sizeof(float) + 64));
    llm_sliding_window_forward(out, lse, q, k, v, c, &arena);
    CHECK_CUDA(llm_cuda_sliding_window_forward(d_out, d_lse, d_q, d_k, d_v, c, 0));
    /* dot products of D terms, averages of W values, in another order */
    CHECK_STORED(T, from_device_as(got, d_out, nq), out, nq, 3e-6f);
    CHECK_ALL_NEAR(from_device(got, d_lse, rows), lse, rows, 1e-5f);
    const T *d_stored = to_device_as<T>(out, nq);
    T *d_dq = to_device_as<T>(dq, nq), *d_dk = to_device_as<T>(dk, nk);
    T *d_dv = to_device_as<T>(dv, nk);
    llm_sliding_window_backward(dq, dk, dv, dout, out, lse, q, k, v, c, &arena);
    llm_arena_destroy(&arena);
    CHECK_CUDA(llm_cuda_sliding_window_backward(d_dq, d_dk, d_dv, d_dout, d_stored,
                                                to_device(lse, rows), d_q, d_k, d_v, c,
                                                to_device<float>(NULL, rows), 0));
    CHECK_STORED(T, from_device_as(got, d_dq, nq), dq, nq, 1e-5f);
    CHECK_STORED(T, from_device_as(got, d_dk, nk), dk, nk, 4e-5f);
    CHECK_STORED(T, from_device_as(got, d_dv, nk), dv, nk, 1e-5f);
}

TEST(sliding_window, "the kernels equal llm_sliding_window: windows, both sides, groups, the cap") {
    const size_t shapes[7][7] = {/* B, H, Hkv, T, D, W, both */
                                 {1, 1, 1, 1, 1, 1, 0},    {2, 2, 1, 70, 3, 5, 0},
                                 {1, 2, 2, 131, 5, 64, 0}, {1, 1, 1, 150, 2, 65, 1},
                                 {1, 1, 1, 66, 66, 1, 0},  {1, 2, 1, 67, 4, 200, 1},
                                 {1, 1, 1, 200, 3, 70, 0}};
    for (size_t s = 0; s < (TEST_SLOW ? 1 : 7); s++) {
        const size_t *z = shapes[s];
        llm_sliding_window_config c =
            llm_sliding_window_defaults(z[0], z[1], z[2], z[3], z[4], z[5]);
        c.both = z[6] != 0;
        if (s % 2) c.cap = 1.5f, c.scale = 0.8f;
        check_window<float>(&c);
        if (s == 1) check_window<llm_bf16>(&c);
    }
}

#ifndef __CUDACC__
TEST(sliding_window, "what is read grows with T W and not with T T") {
    enum { T = 640, D = 4 };
    if (TEST_SLOW) return;
    float *x = window_normal(1, T * D), *d_out = to_device<float>(NULL, T * D);
    float *d_lse = to_device<float>(NULL, T);
    const float *d_x = to_device(x, T * D);
    const size_t W[3] = {1, 65, 66}, tiles[3] = {10, 1 + 9 * 2, 1 + 2 + 8 * 3};
    for (size_t n = 0; n < 3; n++) {
        const llm_sliding_window_config c = llm_sliding_window_defaults(1, 1, 1, T, D, W[n]);
        emulate_count();
        CHECK_CUDA(llm_cuda_sliding_window_forward(d_out, d_lse, d_x, d_x, d_x, &c, 0));
        CHECK(emulate_counted.read == (T + tiles[n] * 64 * 2) * D * sizeof(float));
        CHECK(emulate_counted.written == T * (D + 1) * sizeof(float));
    }
}
#endif

TEST(sliding_window, "decoding from the ring is @gqa's kernel, at every token") {
    enum { H = 4, HKV = 2, D = 3, W = 5, T = 13 };
    float ring_k[HKV * W * D], ring_v[HKV * W * D], want[H * D], got[H * D];
    for (size_t i = 0; i < HKV * W * D; i++) ring_k[i] = ring_v[i] = NAN;
    const llm_sliding_window_config c = llm_sliding_window_defaults(1, H, HKV, T, D, W);
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 1024));
    for (size_t t = 0; t < T; t++) {
        float *q = window_normal(3 * t, H * D), *k = window_normal(3 * t + 1, HKV * D);
        float *v = window_normal(3 * t + 2, HKV * D), *d_out = to_device<float>(NULL, H * D);
        llm_sliding_window_ring_write(ring_k, ring_v, k, v, t, &c);
        llm_sliding_window_step(want, q, ring_k, ring_v, t, &c, &arena);
        llm_cuda_gqa_config g = llm_cuda_gqa_defaults(1, H, HKV, t < W ? t + 1 : c.W, D);
        g.room = W;
        float *none = NULL;
        CHECK_CUDA(llm_cuda_gqa_decode(d_out, (const float *)to_device(q, H * D),
                                       (const float *)to_device(ring_k, HKV * W * D),
                                       (const float *)to_device(ring_v, HKV * W * D), &g, none, 0));
        CHECK_ALL_NEAR(from_device(got, d_out, H * D), want, H * D, 2e-6f);
    }
    llm_arena_destroy(&arena);
}

TEST(sliding_window, "nothing to do, shapes that are refused") {
    float *d = to_device<float>(NULL, 1);
    llm_sliding_window_config c = llm_sliding_window_defaults(0, 1, 1, 3, 4, 2);
    CHECK_CUDA(llm_cuda_sliding_window_forward(d, d, d, d, d, &c, 0));
    CHECK_CUDA(llm_cuda_sliding_window_backward(d, d, d, d, d, d, d, d, d, &c, d, 0));
    c.B = 1, c.W = 0;
    CHECK(llm_cuda_sliding_window_forward(d, d, d, d, d, &c, 0) == cudaErrorInvalidValue);
    CHECK(llm_cuda_sliding_window_backward(d, d, d, d, d, d, d, d, d, &c, d, 0) ==
          cudaErrorInvalidValue);
    c.W = 2, c.D = 129;
    CHECK(llm_cuda_sliding_window_forward(d, d, d, d, d, &c, 0) == cudaErrorInvalidValue);
}

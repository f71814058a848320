/* @flash_backward */
#include "../test.h"

#include "../../llm_cuda.cuh"

static float *flash_backward_normal(uint64_t seed, size_t n) {
    float *x = floats(n);
    llm_rng rng = llm_rng_seed(seed);
    llm_rng_normal_fill(&rng, x, n);
    return x;
}

/* out and lse are the reference's, so that only the backward pass is tested. */
template <typename T> static void check_flash_backward(const llm_flash_config *c, bool padded) {
    const size_t nq = c->B * c->H * c->T * c->D, nk = c->B * c->Hkv * c->S * c->D;
    const size_t rows = c->B * c->H * c->T;
    float *q = flash_backward_normal(c->T, nq), *k = flash_backward_normal(c->S + 1, nk);
    float *v = flash_backward_normal(3, nk), *dout = flash_backward_normal(4, nq);
    float *dq = flash_backward_normal(5, nq), *dk = flash_backward_normal(6, nk);
    float *dv = flash_backward_normal(7, nk), *out = floats(nq), *lse = floats(rows);
    float *got = floats(nq + nk);
    bool *hidden = bools(c->B * c->S);
    for (size_t i = 0; i < c->B * c->S; i++) hidden[i] = i % 3 == 1 || i < 2;
    llm_flash_config host = *c, device = *c;
    if (padded) host.hidden = hidden, device.hidden = to_device(hidden, c->B * c->S);
    const T *d_q = to_device_as<T>(q, nq), *d_k = to_device_as<T>(k, nk);
    const T *d_v = to_device_as<T>(v, nk), *d_dout = to_device_as<T>(dout, nq);
    llm_arena arena;
    CHECK(llm_arena_create(&arena, (rows * sizeof(float) + 63) / 64 * 64));
    llm_flash_forward(out, lse, q, k, v, &host, &arena);
    llm_arena_destroy(&arena);
    const T *d_out = to_device_as<T>(out, nq);
    const float *d_lse = to_device(lse, rows);
    T *d_dq = to_device_as<T>(dq, nq), *d_dk = to_device_as<T>(dk, nk);
    T *d_dv = to_device_as<T>(dv, nk);
    float *scratch = to_device<float>(NULL, rows);
    llm_flash_backward(dq, dk, dv, dout, out, lse, q, k, v, &host);
    CHECK_CUDA(llm_cuda_flash_backward(d_dq, (T *)NULL, (T *)NULL, d_dout, d_out, d_lse, d_q, d_k,
                                       d_v, &device, scratch, 0));
    CHECK_CUDA(llm_cuda_flash_backward((T *)NULL, d_dk, (T *)NULL, d_dout, d_out, d_lse, d_q, d_k,
                                       d_v, &device, scratch, 0));
    CHECK_CUDA(llm_cuda_flash_backward((T *)NULL, (T *)NULL, d_dv, d_dout, d_out, d_lse, d_q, d_k,
                                       d_v, &device, scratch, 0));
    /* sums of D, S, or of T products for each head of a group, in another order */
    CHECK_STORED(T, from_device_as(got, d_dq, nq), dq, nq, 1e-5f);
    CHECK_STORED(T, from_device_as(got, d_dk, nk), dk, nk, 4e-5f);
    CHECK_STORED(T, from_device_as(got, d_dv, nk), dv, nk, 1e-5f);
}

TEST(flash_backward,
     "the kernels equal llm_flash_backward, each gradient alone: ragged tiles, groups, masks") {
    const size_t shapes[8][7] = {{1, 1, 1, 1, 1, 1, 1},      {1, 2, 1, 65, 65, 3, 1},
                                 {2, 2, 2, 3, 70, 16, 1},    {1, 1, 1, 70, 5, 65, 1},
                                 {1, 3, 1, 64, 64, 64, 1},   {1, 2, 2, 66, 129, 33, 0},
                                 {1, 2, 2, 131, 131, 17, 1}, {1, 1, 1, 200, 67, 128, 1}};
    for (size_t s = 0; s < (TEST_SLOW ? 3 : 8); s++) {
        const size_t *z = shapes[s];
        llm_flash_config c = llm_flash_defaults(z[0], z[1], z[2], z[3], z[5]);
        c.S = z[4], c.causal = z[6] != 0;
        check_flash_backward<float>(&c, s % 2);
        if (s % 3 == 1) check_flash_backward<llm_bf16>(&c, false);
    }
}

TEST(flash_backward, "dropout hits what the reference's hits; a scale of its own") {
    llm_flash_config c = llm_flash_defaults(1, 2, 1, 10, 5);
    c.S = 67, c.dropout = 0.3f, c.seed = 11, c.offset = 5, c.scale = 0.7f;
    check_flash_backward<float>(&c, true);
}

TEST(flash_backward,
     "forward and backward kernels together: the gradient of a loss by differences") {
    enum { T = 5, D = 3, N = T * D };
    float *x[3], *dout = flash_backward_normal(9, N), *out = floats(N), *grad = floats(N);
    float *d[3], *g[3], *d_out = to_device<float>(NULL, N), *d_lse = to_device<float>(NULL, T);
    const llm_flash_config c = llm_flash_defaults(1, 1, 1, T, D);
    for (uint64_t n = 0; n < 3; n++) {
        x[n] = flash_backward_normal(n + 1, N);
        d[n] = to_device(x[n], N), g[n] = to_device(zeros(N), N);
    }
    CHECK_CUDA(llm_cuda_flash_forward(d_out, d_lse, d[0], d[1], d[2], &c, 0));
    CHECK_CUDA(llm_cuda_flash_backward(g[0], g[1], g[2], to_device(dout, N), d_out, d_lse, d[0],
                                       d[1], d[2], &c, to_device<float>(NULL, T), 0));
    for (size_t n = 0; n < 3; n++) {
        from_device(grad, g[n], N);
        for (size_t i = 0; i < N; i++) {
            double loss[2] = {0.0, 0.0};
            const float at = x[n][i];
            for (size_t side = 0; side < 2; side++) {
                x[n][i] = at + (side ? 0.01f : -0.01f);
                const float *there = to_device(x[n], N);
                CHECK_CUDA(llm_cuda_flash_forward(d_out, d_lse, n == 0 ? there : d[0],
                                                  n == 1 ? there : d[1], n == 2 ? there : d[2], &c,
                                                  0));
                from_device(out, d_out, N);
                for (size_t e = 0; e < N; e++) loss[side] += (double)out[e] * (double)dout[e];
            }
            x[n][i] = at;
            /* curvature 1e-4 and the rounding of out, 1e-7 / 0.02 */
            CHECK_NEAR(grad[i], (loss[1] - loss[0]) / 0.02, 5e-4);
        }
    }
}

TEST(flash_backward, "nothing to do, shapes that are refused") {
    float *d = to_device<float>(NULL, 1);
    llm_flash_config c = llm_flash_defaults(1, 1, 1, 0, 4);
    CHECK_CUDA(llm_cuda_flash_backward(d, d, d, d, d, d, d, d, d, &c, d, 0));
    c.T = c.S = 1, c.D = 129;
    CHECK(llm_cuda_flash_backward(d, d, d, d, d, d, d, d, d, &c, d, 0) == cudaErrorInvalidValue);
    c.D = 4, c.H = 3, c.Hkv = 2;
    CHECK(llm_cuda_flash_backward(d, d, d, d, d, d, d, d, d, &c, d, 0) == cudaErrorInvalidValue);
}

/* @mha */
#include "../test.h"

#include "../../llm_cuda.cuh"

#include "../tiny_normal.h"

/* Against llm_mha, whose blocked mask says causal; options: 1 for padding, 2 for biases. */
template <typename T>
static void check_mha(size_t B, size_t N, size_t C, size_t H, size_t D, bool causal, int options) {
    const size_t HD = H * D, n = B * N * C, nq = B * N * HD;
    const float small = 1.0f / sqrtf((float)C);
    float *x = tiny_normal(1, n, 1.0f), *dy = tiny_normal(2, n, 1.0f), *y = floats(n);
    float *w = tiny_normal(3, 3 * HD * C, small), *b = tiny_normal(4, 3 * HD, 0.1f);
    float *wo = tiny_normal(5, C * HD, small), *bo = tiny_normal(6, C, 0.1f), *dx = floats(n);
    float *dw = tiny_normal(7, 3 * HD * C, 1.0f), *db = tiny_normal(8, 3 * HD, 1.0f);
    float *dwo = tiny_normal(9, C * HD, 1.0f), *dbo = tiny_normal(10, C, 1.0f);
    bool *hidden = bools(B * N), *blocked = bools(N * N);
    for (size_t i = 0; i < B * N; i++) hidden[i] = i % 5 == 3;
    for (size_t i = 0; i < N * N; i++) blocked[i] = causal && i % N > i / N;
    const bool biased = options & 2, padded = options & 1;

    llm_cuda_mha_params<T> p;
    const T *d_x = to_device_as<T>(x, n), *d_dy = to_device_as<T>(dy, n);
    p.w = to_device_as<T>(w, 3 * HD * C), p.wo = to_device_as<T>(wo, C * HD);
    p.b = biased ? to_device_as<T>(b, 3 * HD) : NULL, p.bo = biased ? to_device_as<T>(bo, C) : NULL;
    llm_cuda_mha_saved<T> s;
    s.q = to_device<T>(NULL, nq), s.k = to_device<T>(NULL, nq), s.v = to_device<T>(NULL, nq);
    s.out = to_device<T>(NULL, nq), s.merged = to_device<T>(NULL, nq);
    s.lse = to_device<float>(NULL, B * H * N);
    llm_cuda_mha_grads g;
    g.w = to_device(dw, 3 * HD * C), g.wo = to_device(dwo, C * HD);
    g.b = biased ? to_device(db, 3 * HD) : NULL, g.bo = biased ? to_device(dbo, C) : NULL;
    llm_flash_config a = llm_flash_defaults(B, H, H, N, D);
    a.causal = causal, a.hidden = padded ? to_device(hidden, B * N) : NULL;
    for (size_t i = 0; i < n; i++) dx[i] = 0.5f;
    T *d_y = to_device<T>(NULL, n), *d_dx = to_device_as<T>(dx, n);

    const llm_mha_params host = {w,
                                 w + HD * C,
                                 w + 2 * HD * C,
                                 wo,
                                 biased ? b : NULL,
                                 biased ? b + HD : NULL,
                                 biased ? b + 2 * HD : NULL,
                                 biased ? bo : NULL};
    const llm_mha_params grads = {dw,
                                  dw + HD * C,
                                  dw + 2 * HD * C,
                                  dwo,
                                  biased ? db : NULL,
                                  biased ? db + HD : NULL,
                                  biased ? db + 2 * HD : NULL,
                                  biased ? dbo : NULL};
    llm_mha_config c = llm_mha_defaults(B, N, C, 1);
    c.H = H, c.D = D;
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 1 << 22));
    llm_mha_saved kept = llm_mha_take(&c, &arena);
    llm_mha_forward(y, &kept, x, x, x, &host, padded ? hidden : NULL, blocked, &c, &arena);
    llm_mha_backward(dx, dx, dx, &grads, dy, &kept, &host, &c, &arena);
    llm_arena_destroy(&arena);

    float *got = floats(n + 3 * HD * C);
    T *scratch = to_device<T>(NULL, llm_cuda_mha_scratch(&a));
    float *sums = to_device<float>(NULL, llm_cuda_mha_sums(C, &a));
    CHECK_CUDA(llm_cuda_mha_forward(d_y, &s, d_x, &p, C, &a, 0));
    CHECK_CUDA(llm_cuda_mha_backward(d_dx, &g, d_dy, &s, d_x, &p, C, &a, scratch, sums, 0));
    /* bfloat16: q, k, v, out, their gradients and rows are each rounded on the way, and sums of up
     * to B N or 3 H D such terms follow. Seen: 0.010, 0.017, 0.032, 0.030, 0.036; 4e-6 in float. */
    const bool half = sizeof(T) == 2;
    CHECK_ALL_NEAR(from_device_as(got, d_y, n), y, n, half ? 0.02f : 4e-6f);
    CHECK_ALL_NEAR(from_device_as(got, d_dx, n), dx, n, half ? 0.035f : 1e-5f);
    CHECK_ALL_NEAR(from_device(got, g.w, 3 * HD * C), dw, 3 * HD * C, half ? 0.07f : 1e-5f);
    CHECK_ALL_NEAR(from_device(got, g.wo, C * HD), dwo, C * HD, half ? 0.06f : 1e-5f);
    if (!biased) return;
    CHECK_ALL_NEAR(from_device(got, g.b, 3 * HD), db, 3 * HD, half ? 0.075f : 1e-5f);
    CHECK_ALL_NEAR(from_device(got, g.bo, C), dbo, C, 1e-5f);
}

TEST(mha, "forward and backward equal llm_mha: causal or not, padding, biases, both storages") {
    check_mha<float>(1, 1, 1, 1, 1, true, 2);
    check_mha<float>(2, 5, 6, 2, 3, false, 3);
    check_mha<llm_bf16>(2, 7, 16, 2, 8, true, 2);
    if (TEST_SLOW) return;
    check_mha<float>(1, 70, 12, 3, 4, true, 1);
    check_mha<float>(2, 9, 7, 1, 65, true, 0);
    check_mha<llm_bf16>(1, 67, 24, 3, 16, false, 3);
    check_mha<llm_bf16>(1, 6, 10, 2, 5, true, 0);
}

TEST(mha, "scratch of the backward pass; cross-attention is refused, nothing is nothing") {
    llm_flash_config a = llm_flash_defaults(2, 4, 2, 512, 8);
    CHECK(llm_cuda_mha_scratch(&a) == 2 * 512 * 8 * (3 * 4 + 4 * 2));
    CHECK(llm_cuda_mha_sums(16, &a) == 4 * 64 * 16); /* 1024 tokens make 4 slices of dw */
    a.T = a.S = 64;
    CHECK(llm_cuda_mha_sums(16, &a) == 64 * 16);
    CHECK(llm_cuda_mha_sums(1, &a) == 2 * 4 * 64); /* a float for each row of attention */
    llm_cuda_mha_saved<float> s = {};
    llm_cuda_mha_params<float> p = {};
    llm_cuda_mha_grads g = {};
    float *d = to_device<float>(NULL, 1);
    a.S = 63;
    CHECK(llm_cuda_mha_forward(d, &s, d, &p, 4, &a, 0) == cudaErrorInvalidValue);
    CHECK(llm_cuda_mha_backward(d, &g, d, &s, d, &p, 4, &a, d, d, 0) == cudaErrorInvalidValue);
    a.T = a.S = 0;
    CHECK_CUDA(llm_cuda_mha_forward(d, &s, d, &p, 4, &a, 0));
    CHECK_CUDA(llm_cuda_mha_backward(d, &g, d, &s, d, &p, 4, &a, d, d, 0));
}

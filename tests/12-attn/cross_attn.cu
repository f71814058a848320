/* @cross_attn */
#include "../test.h"

#include "../../llm_cuda.cuh"

#include "../tiny_normal.h"

enum { PARAMS = 8 };
/* Against llm_cross_attn, a text at a time: its memory is S[b] rows. Every length alike: start
 * NULL. */
template <typename T>
static void check_cross(size_t B, size_t Tq, size_t C, size_t Cm, size_t H, size_t D,
                        const size_t *S, bool alike) {
    size_t start[8] = {0}, most = 0;
    for (size_t b = 0; b < B; b++) start[b + 1] = start[b] + S[b], most = S[b] > most ? S[b] : most;
    const size_t M = start[B], HD = H * D, n = B * Tq * C, nm = M * Cm, nq = B * Tq * HD;
    const size_t size[PARAMS] = {HD * C, HD * Cm, HD * Cm, C * HD, HD, HD, HD, C};
    const float small = 1.0f / sqrtf((float)C);
    float *x = tiny_normal(1, n, 1.0f), *mem = tiny_normal(2, nm, 1.0f), *a = floats(n);
    float *da = tiny_normal(3, n, 1.0f), *dx = tiny_normal(4, n, 1.0f);
    float *dmem = tiny_normal(5, nm, 1.0f), *w[PARAMS], *dw[PARAMS], *d_dw[PARAMS], *got;
    const T *d_w[PARAMS];
    const T *d_x = to_device_as<T>(x, n), *d_mem = to_device_as<T>(mem, nm);
    const T *d_da = to_device_as<T>(da, n);
    T *d_dx = to_device_as<T>(dx, n), *d_dmem = to_device_as<T>(dmem, nm);
    T *d_a = to_device<T>(NULL, n);
    size_t largest = n > nm ? n : nm;
    for (size_t i = 0; i < PARAMS; i++) {
        w[i] = tiny_normal(6 + i, size[i], i < 4 ? small : 0.1f);
        dw[i] = tiny_normal(20 + i, size[i], 1.0f);
        d_w[i] = to_device_as<T>(w[i], size[i]), d_dw[i] = to_device(dw[i], size[i]);
        largest = size[i] > largest ? size[i] : largest;
    }
    got = floats(largest);
    const llm_mha_params p = {w[0], w[1], w[2], w[3], w[4], w[5], w[6], w[7]};
    const llm_mha_params g = {dw[0], dw[1], dw[2], dw[3], dw[4], dw[5], dw[6], dw[7]};
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 1 << 22));
    for (size_t b = 0; b < B; b++) {
        const size_t at = b * Tq * C, m = start[b] * Cm;
        llm_mha_config c = llm_cross_attn_defaults(1, Tq, S[b], C, Cm, 1);
        c.H = H, c.D = D;
        llm_mha_saved s = llm_mha_take(&c, &arena);
        llm_cross_attn_forward(a + at, &s, x + at, mem + m, &p, NULL, &c, &arena);
        llm_cross_attn_backward(dx + at, dmem + m, &g, da + at, &s, &p, &c, &arena);
    }
    llm_arena_destroy(&arena);

    const llm_cuda_cross_attn_params<T> d_p = {d_w[0], d_w[1], d_w[2], d_w[3],
                                               d_w[4], d_w[5], d_w[6], d_w[7]};
    const llm_mha_params d_g = {d_dw[0], d_dw[1], d_dw[2], d_dw[3],
                                d_dw[4], d_dw[5], d_dw[6], d_dw[7]};
    const llm_cuda_cross_attn_saved<T> s = {to_device<T>(NULL, nq), to_device<T>(NULL, M * HD),
                                            to_device<T>(NULL, M * HD), to_device<T>(NULL, nq),
                                            to_device<float>(NULL, B * Tq * H)};
    const llm_cuda_cross_attn_config c = {
        B, Tq, C, H, D, M, most, Cm, alike ? NULL : to_device(start, B + 1)};
    T *scratch = to_device<T>(NULL, llm_cuda_cross_attn_scratch(&c));
    float *sums = to_device<float>(NULL, llm_cuda_cross_attn_sums(&c));
    CHECK_CUDA(llm_cuda_cross_attn_memory(&s, d_mem, &d_p, &c, 0));
    CHECK_CUDA(llm_cuda_cross_attn_forward(d_a, &s, d_x, &d_p, &c, 0));
    CHECK_CUDA(llm_cuda_cross_attn_backward(d_dx, d_dmem, &d_g, d_da, &s, d_x, d_mem, &d_p, &c,
                                            scratch, sums, 0));
    /* bfloat16: q, k, v, out and their gradients are rounded on the way, as in @mha's test */
    const bool half = sizeof(T) == 2;
    CHECK_ALL_NEAR(from_device_as(got, d_a, n), a, n, half ? 0.03f : 4e-6f);
    CHECK_ALL_NEAR(from_device_as(got, d_dx, n), dx, n, half ? 0.05f : 1e-5f);
    CHECK_ALL_NEAR(from_device_as(got, d_dmem, nm), dmem, nm, half ? 0.08f : 1e-5f);
    for (size_t i = 0; i < PARAMS; i++)
        CHECK_ALL_NEAR(from_device(got, d_dw[i], size[i]), dw[i], size[i], half ? 0.09f : 2e-5f);
}

TEST(cross_attn, "forward and backward equal llm_cross_attn of each text with its own memory") {
    const size_t one[1] = {1}, few[3] = {3, 70, 1}, same[2] = {5, 5}, many[2] = {66, 129};
    check_cross<float>(1, 1, 1, 1, 1, 1, one, false);
    check_cross<float>(3, 4, 6, 5, 2, 3, few, false);
    check_cross<llm_bf16>(2, 3, 16, 24, 2, 8, same, true);
    if (TEST_SLOW) return;
    check_cross<float>(2, 67, 7, 9, 1, 5, many, false);
    check_cross<float>(2, 5, 8, 6, 2, 4, same, true);
    check_cross<llm_bf16>(2, 5, 10, 12, 2, 5, many, false);
}

TEST(cross_attn, "a text without memory gets the output's bias; scratch; nothing to do") {
    enum { C = 2 };
    const size_t start[3] = {0, 0, 1};
    const float w[4] = {1.0f, 0.0f, 0.0f, 1.0f}, bo[2] = {3.0f, 4.0f}, x[4] = {1, 2, 3, 4};
    const float mem[2] = {10.0f, 20.0f};
    float got[4];
    const float *d = to_device(w, 4), *none = NULL;
    const llm_cuda_cross_attn_params<float> p = {d, d, d, d, none, none, none, to_device(bo, 2)};
    const llm_cuda_cross_attn_saved<float> s = {
        to_device<float>(NULL, 4), to_device<float>(NULL, 2), to_device<float>(NULL, 2),
        to_device<float>(NULL, 4), to_device<float>(NULL, 2)};
    llm_cuda_cross_attn_config c = {2, 1, C, 1, 2, 1, 1, C, to_device(start, 3)};
    const float *d_mem = to_device(mem, 2), *d_x = to_device(x, 4);
    float *d_a = to_device<float>(NULL, 4);
    CHECK_CUDA(llm_cuda_cross_attn_memory(&s, d_mem, &p, &c, 0));
    CHECK_CUDA(llm_cuda_cross_attn_forward(d_a, &s, d_x, &p, &c, 0));
    from_device(got, d_a, 4);
    CHECK(got[0] == 3.0f && got[1] == 4.0f && got[2] == 13.0f && got[3] == 24.0f);
    CHECK(llm_cuda_cross_attn_scratch(&c) == 2 * 3 * 2 && llm_cuda_cross_attn_sums(&c) == 4);
    c.B = 16, c.T = 64; /* 1024 tokens: a float a row, or four slices of wq's gradient */
    CHECK(llm_cuda_cross_attn_sums(&c) == 1024);
    c.C = 300;
    CHECK(llm_cuda_cross_attn_sums(&c) == 2 * 300 * 4);
    c.M = 2048, c.Cm = 500; /* eight of the memory's */
    CHECK(llm_cuda_cross_attn_sums(&c) == 2 * 500 * 8);
    c.B = 0, c.M = 0;
    const llm_mha_params g = {NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL};
    CHECK_CUDA(llm_cuda_cross_attn_memory(&s, d_mem, &p, &c, 0));
    CHECK_CUDA(llm_cuda_cross_attn_forward(d_a, &s, d_x, &p, &c, 0));
    CHECK_CUDA(
        llm_cuda_cross_attn_backward(d_a, d_a, &g, d_x, &s, d_x, d_mem, &p, &c, d_a, d_a, 0));
}

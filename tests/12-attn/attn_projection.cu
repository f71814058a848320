/* @attn_projection */
#include "../test.h"

#include "../../llm_cuda.cuh"

#include "../tiny_normal.h"

/* Against llm_attn_projection; with a residual and b, or without. Where the product reads the heads
 * itself, merged is NULL. */
template <typename T>
static void check_projection(size_t B, size_t length, size_t H, size_t D, size_t C, bool all) {
    const size_t N = B * length, HD = H * D, n = N * HD, ny = N * C;
    float *o = tiny_normal(1, n, 1.0f), *w = tiny_normal(2, C * HD, 0.3f);
    float *b = tiny_normal(3, C, 1.0f), *r = tiny_normal(4, ny, 1.0f);
    float *dy = tiny_normal(5, ny, 1.0f), *y = floats(ny), *merged = floats(n);
    float *dheads = tiny_normal(6, n, 1.0f), *dw = tiny_normal(7, C * HD, 1.0f);
    float *db = tiny_normal(8, C, 1.0f), *got = floats(n + ny + C * HD);
    const T *d_o = to_device_as<T>(o, n), *d_w = to_device_as<T>(w, C * HD);
    const T *d_b = to_device_as<T>(b, C), *d_r = to_device_as<T>(r, ny);
    const T *d_dy = to_device_as<T>(dy, ny);
    T *d_y = to_device<T>(NULL, ny), *d_dheads = to_device_as<T>(dheads, n), *none = NULL;
    T *d_merged = to_device<T>(NULL, n);
    const bool fused = sizeof(T) == 2 && D % 8 == 0;
    float *d_dw = to_device(dw, C * HD), *d_db = to_device(db, C);
    llm_arena arena;
    CHECK(llm_arena_create(&arena, n * sizeof(float) + 64));
    llm_attn_projection_forward(y, merged, o, w, all ? b : NULL, B, length, H, D, C);
    for (size_t i = 0; i < ny && all; i++) y[i] += r[i];
    CHECK_CUDA(llm_cuda_attn_projection_forward(d_y, fused ? none : d_merged, d_o, d_w,
                                                all ? d_b : NULL, all ? d_r : NULL, B, length, H, D,
                                                C, 0));
    /* sums of H D products, in another order */
    CHECK_STORED(T, from_device_as(got, d_y, ny), y, ny, 1e-5f);
    llm_attn_projection_backward(dheads, dw, db, dy, merged, w, B, length, H, D, C, &arena);
    llm_arena_destroy(&arena);
    float *nothing = NULL;
    const size_t slices = llm_cuda_dense_slices(N, HD, C);
    float *scratch = slices > 1 ? to_device<float>(NULL, slices * C * HD) : nothing;
    CHECK_CUDA(llm_cuda_attn_projection_backward(d_dheads, nothing, nothing, d_dy, d_o, d_w, B,
                                                 length, H, D, C, none, scratch, 0));
    CHECK_CUDA(llm_cuda_attn_projection_backward(none, d_dw, d_db, d_dy, d_o, d_w, B, length, H, D,
                                                 C, fused && C % 8 == 0 ? none : d_merged, scratch,
                                                 0));
    CHECK_STORED(T, from_device_as(got, d_dheads, n), dheads, n, 1e-5f);
    CHECK_ALL_NEAR(from_device(got, d_dw, C * HD), dw, C * HD, 1e-4f);
    CHECK_ALL_NEAR(from_device(got, d_db, C), db, C, 1e-4f);
}

TEST(attn_projection, "the products equal llm_attn_projection: merged or read in heads, residual") {
    check_projection<float>(1, 1, 1, 1, 1, true);
    check_projection<float>(2, 3, 2, 5, 7, true);
    check_projection<llm_bf16>(2, 3, 2, 8, 16, true);
    check_projection<llm_bf16>(1, 5, 3, 16, 6, false); /* rows of dy are not aligned */
    if (TEST_SLOW) return;
    check_projection<float>(1, 7, 3, 4, 12, false);
    check_projection<llm_bf16>(1, 5, 2, 5, 8, true); /* nor are heads of 5 */
    check_projection<llm_bf16>(2, 67, 3, 48, 24, true);
    check_projection<llm_bf16>(3, 171, 1, 8, 8, true); /* two slices of dw */
}

TEST(attn_projection, "y may be the residual itself; nothing to do") {
    float r[8] = {1, 2, 3, 4, 5, 6, 7, 8}, w[64], o[8] = {1, 0, 2, 0, 0, 0, 0, 3}, got[8];
    for (size_t i = 0; i < 64; i++) w[i] = i / 8 == i % 8 ? 10.0f : 0.0f;
    llm_bf16 *d_r = to_device_as<llm_bf16>(r, 8), *none = NULL;
    const llm_bf16 *d_o = to_device_as<llm_bf16>(o, 8), *d_w = to_device_as<llm_bf16>(w, 64);
    const llm_bf16 *old = d_r;
    CHECK_CUDA(llm_cuda_attn_projection_forward(d_r, none, d_o, d_w, (const llm_bf16 *)NULL, old, 1,
                                                1, 1, 8, 8, 0));
    from_device_as(got, d_r, 8);
    for (size_t i = 0; i < 8; i++) CHECK(got[i] == r[i] + 10.0f * o[i]);
    CHECK(llm_cuda_attn_projection_fused(d_o, d_w, 8, 8));
    CHECK(!llm_cuda_attn_projection_fused(d_o + 1, d_w, 8, 8));
    CHECK(!llm_cuda_attn_projection_fused(d_o, d_w + 1, 8, 8));
    CHECK(!llm_cuda_attn_projection_fused(d_o, d_w, 12, 8));
    CHECK(!llm_cuda_attn_projection_fused(d_o, d_w, 8, 12));
    CHECK_CUDA(llm_cuda_attn_projection_forward(none, none, old, old, old, old, 0, 1, 1, 8, 8, 0));
    float *nothing = NULL;
    CHECK_CUDA(llm_cuda_attn_projection_backward(none, nothing, nothing, old, old, old, 1, 0, 1, 8,
                                                 8, none, nothing, 0));
}

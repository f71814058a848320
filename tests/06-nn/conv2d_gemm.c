/* @conv2d_gemm */
#include "../test.h"

#define LLM_GEMM_THREADS 3 /* the shares of three threads, one after the other without OpenMP */

#include "../../llm.h"

#include "../arena.h"

static float *conv2d_gemm_normals(llm_rng *rng, size_t n) {
    float *x = floats(n);
    llm_rng_normal_fill(rng, x, n);
    return x;
}

/* Forward and all gradients against the definition. */
static void conv2d_gemm_check(const llm_conv2d *c, size_t N, llm_rng *rng) {
    const size_t P = llm_conv2d_size(c, 0) * llm_conv2d_size(c, 1), n = N * c->C * c->H * c->W;
    const size_t out = N * c->O * P, weights = llm_conv2d_weights(c);
    float *x = conv2d_gemm_normals(rng, n), *w = conv2d_gemm_normals(rng, weights);
    float *b = conv2d_gemm_normals(rng, c->O), *dy = conv2d_gemm_normals(rng, out);
    float *y = floats(out), *dx = zeros(n), *dw = zeros(weights), *db = zeros(c->O);
    float *want = floats(out), *want_x = zeros(n), *want_w = zeros(weights), *want_b = zeros(c->O);
    llm_arena arena;
    CHECK(llm_arena_create(&arena, llm_conv2d_workspace(c)));
    const float tol = 1e-5f * sqrtf((float)llm_conv2d_sum(c)); /* sums in another order */
    const float long_tol = 1e-5f * sqrtf((float)(N * P));
    llm_conv2d_forward(y, x, w, b, N, c, &arena);
    llm_conv2d_naive(want, x, w, b, N, c);
    CHECK_ALL_NEAR(y, want, out, tol);
    llm_conv2d_forward(y, x, w, NULL, N, c, &arena);
    llm_conv2d_naive(want, x, w, NULL, N, c);
    CHECK_ALL_NEAR(y, want, out, tol);
    llm_conv2d_backward(dx, dw, db, dy, x, w, N, c, &arena);
    llm_conv2d_naive_backward(want_x, want_w, want_b, dy, x, w, N, c);
    CHECK_ALL_NEAR(dx, want_x, n, 1e-5f * sqrtf((float)(weights / c->C * c->groups)));
    CHECK_ALL_NEAR(dw, want_w, weights, long_tol);
    CHECK_ALL_NEAR(db, want_b, c->O, long_tol);
    llm_conv2d_backward(dx, NULL, NULL, dy, x, w, N, c, &arena); /* accumulates; each alone */
    llm_conv2d_backward(NULL, dw, NULL, dy, x, w, N, c, &arena);
    llm_conv2d_backward(NULL, NULL, db, dy, x, w, N, c, &arena);
    for (size_t i = 0; i < n; i++) dx[i] *= 0.5f;
    for (size_t i = 0; i < weights; i++) dw[i] *= 0.5f;
    for (size_t i = 0; i < c->O; i++) db[i] *= 0.5f;
    CHECK_ALL_NEAR(dx, want_x, n, 1e-5f * sqrtf((float)(weights / c->C * c->groups)));
    CHECK_ALL_NEAR(dw, want_w, weights, long_tol);
    CHECK_ALL_NEAR(db, want_b, c->O, long_tol);
    CHECK(arena.used == 0);
    llm_arena_destroy(&arena);
}

TEST(conv2d_gemm, "equals the definition over kernels, strides, paddings, dilations and groups") {
    llm_rng rng = llm_rng_seed(1);
    for (size_t draw = 0; draw < 150; draw++) {
        const size_t groups = 1 + llm_rng_below(&rng, 3);
        llm_conv2d c = llm_conv2d_make(groups * (1 + llm_rng_below(&rng, 3)),
                                       1 + llm_rng_below(&rng, 12), 1 + llm_rng_below(&rng, 12),
                                       groups * (1 + llm_rng_below(&rng, 8)), 1, 1, 0);
        c.groups = groups;
        for (size_t axis = 0; axis < 2; axis++) {
            c.kernel[axis] = 1 + llm_rng_below(&rng, 4);
            c.stride[axis] = 1 + llm_rng_below(&rng, 3);
            c.dilation[axis] = 1 + llm_rng_below(&rng, 2);
            c.pad[axis] = llm_rng_below(&rng, 4), c.pad_end[axis] = llm_rng_below(&rng, 4);
            const size_t extent = c.dilation[axis] * (c.kernel[axis] - 1) + 1;
            const size_t length = (axis ? c.W : c.H) + c.pad[axis] + c.pad_end[axis];
            if (extent > length) c.kernel[axis] = 1;
        }
        conv2d_gemm_check(&c, llm_rng_below(&rng, 4), &rng);
    }
}

TEST(conv2d_gemm, "equals the definition where pictures and sums take several blocks") {
    llm_rng rng = llm_rng_seed(2);
    llm_conv2d c = llm_conv2d_make(3, 50, 37, 7, 3, 1, 1); /* more than one chunk of pixels */
    conv2d_gemm_check(&c, 2, &rng);
    c = llm_conv2d_make(100, 9, 15, 70, 3, 1, 1); /* 900 products: more than one depth of @gemm */
    conv2d_gemm_check(&c, 1, &rng);
    c = llm_conv2d_make(40, 20, 20, 9, 1, 1, 0); /* one pixel: no columns */
    conv2d_gemm_check(&c, 2, &rng);
    c = llm_conv2d_make(6, 33, 29, 4, 5, 2, 2);
    c.groups = 2;
    conv2d_gemm_check(&c, 1, &rng);
    c = llm_conv2d_make(1, 140, 141, 2, 7, 1, 0);
    conv2d_gemm_check(&c, 1, &rng);
    c = llm_conv2d_make(2300, 3, 70, 1, 1, 1, 1); /* so long a sum that a chunk is one panel */
    conv2d_gemm_check(&c, 1, &rng);
}

TEST(conv2d_gemm, "columns fill at most 2^17 numbers in whole panels, or one panel") {
    size_t wide;
    llm_conv2d c = llm_conv2d_make(64, 56, 56, 64, 3, 1, 1);
    CHECK(llm_conv2d_chunk(&wide, &c) == 56 * 56);
    CHECK(wide % LLM_GEMM_PANEL == 0 && wide * 576 <= 1 << 17);
    CHECK((wide + LLM_GEMM_PANEL) * 576 > 1 << 17);
    CHECK(llm_conv2d_workspace(&c) == (3 * 576 * wide + 64 * 576) * sizeof(float) + 2 * 64);
    c = llm_conv2d_make(4000, 10, 30, 1, 3, 1, 1);
    CHECK(llm_conv2d_chunk(&wide, &c) == 300 && wide == LLM_GEMM_PANEL);
    c = llm_conv2d_make(1, 3, 5, 1, 3, 1, 0); /* never more than there are */
    CHECK(llm_conv2d_chunk(&wide, &c) == 3 && wide == 3);
    c = llm_conv2d_make(2, 6, 1, 3, 1, 1, 0);
    c.kernel[0] = 3; /* one column, three rows: no plain product */
    CHECK(!llm_conv2d_plain(&c));
    llm_rng rng = llm_rng_seed(4);
    conv2d_gemm_check(&c, 2, &rng);
}

TEST(conv2d_gemm, "only one pixel, stride 1, no padding: then the picture itself is the columns") {
    const llm_conv2d plain = llm_conv2d_make(3, 5, 7, 2, 1, 1, 0);
    CHECK(llm_conv2d_plain(&plain));
    for (size_t k = 0; k < 8; k++) {
        llm_conv2d c = plain;
        if (k / 2 == 0) c.kernel[k % 2] = 2;
        if (k / 2 == 1) c.stride[k % 2] = 2;
        if (k / 2 == 2) c.pad[k % 2] = 1;
        if (k / 2 == 3) c.pad_end[k % 2] = 1;
        CHECK(!llm_conv2d_plain(&c));
    }
}

/* How many of the first n numbers of an arena that was full of NaN have been written. */
static size_t conv2d_gemm_written(llm_arena *arena, size_t n) {
    const float *x = llm_arena_floats(arena, n);
    size_t count = 0;
    for (size_t i = 0; i < n; i++) count += !isnan(x[i]);
    arena->used = 0;
    return count;
}

TEST(conv2d_gemm, "the three shares of the work have a table of columns each") {
    enum { N = 3, C = 4, H = 4, W = 6, O = 2, K = C * 9 };
    const llm_conv2d c = llm_conv2d_make(C, H, W, O, 3, 1, 1);
    llm_rng rng = llm_rng_seed(5);
    float *x = conv2d_gemm_normals(&rng, N * C * H * W), *w = conv2d_gemm_normals(&rng, O * K);
    float *y = floats(N * O * H * W), *dx = zeros(N * C * H * W);
    llm_arena arena = test_arena(llm_conv2d_workspace(&c));
    llm_conv2d_forward(y, x, w, NULL, N, &c, &arena); /* each share makes one picture */
    CHECK(conv2d_gemm_written(&arena, 3 * K * H * W) == 3 * K * H * W);
    arena = test_arena(llm_conv2d_workspace(&c));
    llm_conv2d_backward(dx, NULL, NULL, y, x, w, N, &c, &arena); /* 1, 1 and 2 channels */
    CHECK(conv2d_gemm_written(&arena, 3 * 2 * 9 * H * W) == 4 * 9 * H * W);
}

TEST(conv2d_gemm, "summing back is the transpose of taking columns: <col(x), z> = <x, back(z)>") {
    llm_rng rng = llm_rng_seed(3);
    llm_conv2d c = llm_conv2d_make(3, 7, 9, 1, 3, 2, 2);
    c.dilation[1] = 2;
    c.pad_end[0] = 0;
    const size_t P = llm_conv2d_size(&c, 0) * llm_conv2d_size(&c, 1), K = llm_conv2d_sum(&c);
    float *x = conv2d_gemm_normals(&rng, 3 * 63), *z = conv2d_gemm_normals(&rng, K * P);
    for (size_t p = 0; p < P; p++)
        for (size_t wide = 1; p + wide <= P; wide++) { /* any part of the pixels */
            float *col = floats(K * wide), *back = zeros(3 * 63);
            llm_conv2d_im2col(col, x, K, &c, p, wide);
            llm_conv2d_col2im(back, z, K, &c, p, wide);
            CHECK_NEAR(dot(col, z, K * wide), dot(x, back, 3 * 63), 1e-4);
        }
}

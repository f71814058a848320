/* @conv2d */
#include "../test.h"

#include "../../llm.h"

enum { CASES = 9 };
static llm_conv2d conv2d_case(size_t *N, size_t k) {
    const float *s = golden("%zu/shape", k);
    llm_conv2d c = llm_conv2d_make((size_t)s[1], (size_t)s[2], (size_t)s[3], (size_t)s[4], 1, 1, 0);
    *N = (size_t)s[0];
    for (size_t axis = 0; axis < 2; axis++) {
        c.kernel[axis] = (size_t)s[5 + axis], c.stride[axis] = (size_t)s[7 + axis];
        c.pad[axis] = (size_t)s[9 + axis], c.pad_end[axis] = (size_t)s[11 + axis];
        c.dilation[axis] = (size_t)s[13 + axis];
    }
    c.groups = (size_t)s[15];
    return c;
}

TEST(conv2d,
     "sizes, outputs and all gradients equal torch's, by stride, padding, dilation, group") {
    for (size_t k = 0; k < CASES; k++) {
        size_t N;
        const llm_conv2d c = conv2d_case(&N, k);
        const float size[2] = {(float)llm_conv2d_size(&c, 0), (float)llm_conv2d_size(&c, 1)};
        CHECK_GOLDEN(size, 2, 0.0f, "%zu/size", k);
        const size_t n = N * c.C * c.H * c.W, weights = llm_conv2d_weights(&c);
        const size_t out = N * c.O * (size_t)size[0] * (size_t)size[1];
        const float *x = golden("%zu/x", k), *w = golden("%zu/w", k), *b = golden("%zu/b", k);
        const float *dy = golden("%zu/dy", k);
        float *y = floats(out), *dx = zeros(n), *dw = zeros(weights), *db = zeros(c.O);
        llm_conv2d_naive(y, x, w, b, N, &c);
        llm_conv2d_naive_backward(dx, dw, db, dy, x, w, N, &c);
        /* sums of at most some dozens of products */
        CHECK_GOLDEN(y, out, 2e-6f, "%zu/y", k);
        CHECK_GOLDEN(dx, n, 2e-6f, "%zu/dx", k);
        CHECK_GOLDEN(dw, weights, 3e-6f, "%zu/dw", k);
        CHECK_GOLDEN(db, c.O, 3e-6f, "%zu/db", k);
        llm_conv2d_naive_backward(dx, NULL, NULL, dy, x, w, N,
                                  &c); /* accumulates, any may be NULL */
        llm_conv2d_naive_backward(NULL, dw, NULL, dy, x, w, N, &c);
        llm_conv2d_naive_backward(NULL, NULL, db, dy, x, w, N, &c);
        for (size_t i = 0; i < n; i++) dx[i] *= 0.5f;
        for (size_t i = 0; i < weights; i++) dw[i] *= 0.5f;
        for (size_t i = 0; i < c.O; i++) db[i] *= 0.5f;
        CHECK_GOLDEN(dx, n, 3e-6f, "%zu/dx", k);
        CHECK_GOLDEN(dw, weights, 5e-6f, "%zu/dw", k);
        CHECK_GOLDEN(db, c.O, 5e-6f, "%zu/db", k);
        float *bias = floats(c.O);
        memcpy(bias, b, c.O * sizeof(float));
        llm_conv2d_naive(dx = floats(out), x, w, NULL, N, &c);
        for (size_t i = 0; i < out; i++) dx[i] += bias[i / (out / N / c.O) % c.O];
        CHECK_ALL_NEAR(dx, y, out, 5e-6f);
    }
}

TEST(conv2d, "a kernel of one at its middle copies, of an edge finds edges, padding is zeros") {
    const float x[9] = {1, 2, 3, 4, 5, 6, 7, 8, 9};
    const float copy[9] = {0, 0, 0, 0, 1, 0, 0, 0, 0}, ones[9] = {1, 1, 1, 1, 1, 1, 1, 1, 1};
    const float sums[9] = {12, 21, 16, 27, 45, 33, 24, 39, 28},
                right[9] = {0, 0, 0, 0, 0, 1, 0, 0, 0};
    const float shifted[9] = {2, 3, 0, 5, 6, 0, 8, 9, 0};
    const llm_conv2d c = llm_conv2d_make(1, 3, 3, 1, 3, 1, 1);
    float y[9];
    llm_conv2d_naive(y, x, copy, NULL, 1, &c);
    CHECK_ALL_NEAR(y, x, 9, 0.0f);
    llm_conv2d_naive(y, x, ones, NULL, 1, &c);
    CHECK_ALL_NEAR(y, sums, 9, 0.0f);
    llm_conv2d_naive(y, x, right, NULL, 1, &c); /* not mirrored: it looks to the right */
    CHECK_ALL_NEAR(y, shifted, 9, 0.0f);
}

TEST(conv2d, "the size counts how often the kernel fits; one that does not fit is refused") {
    for (size_t L = 1; L < 9; L++)
        for (size_t kernel = 1; kernel < 5; kernel++)
            for (size_t stride = 1; stride < 4; stride++)
                for (size_t dilation = 1; dilation < 3; dilation++)
                    for (size_t pad = 0; pad < 3; pad++) {
                        llm_conv2d c = llm_conv2d_make(1, L, L + 1, 1, kernel, stride, pad);
                        c.dilation[0] = c.dilation[1] = dilation;
                        c.pad_end[1] = 0;
                        for (size_t axis = 0; axis < 2; axis++) {
                            const size_t length = L + axis + pad + (axis ? 0 : pad);
                            size_t fits = 0;
                            for (size_t at = 0; at + dilation * (kernel - 1) < length; at += stride)
                                fits++;
                            if (fits)
                                CHECK(llm_conv2d_size(&c, axis) == fits);
                            else if (kernel == 4 && stride == 1)
                                CHECK_ASSERTS(llm_conv2d_size(&c, axis));
                        }
                    }
    llm_conv2d c = llm_conv2d_make(4, 3, 3, 6, 1, 1, 0);
    c.groups = 2;
    CHECK(llm_conv2d_weights(&c) == 12);
    c.groups = 3; /* does not divide 4 */
    CHECK_ASSERTS(llm_conv2d_size(&c, 0));
    c.groups = 4; /* does not divide 6 */
    CHECK_ASSERTS(llm_conv2d_size(&c, 0));
    c.groups = 0;
    CHECK_ASSERTS(llm_conv2d_size(&c, 0));
    c = llm_conv2d_make(1, 3, 3, 1, 0, 1, 0);
    CHECK_ASSERTS(llm_conv2d_size(&c, 0));
    c = llm_conv2d_make(1, 3, 3, 1, 1, 0, 0);
    CHECK_ASSERTS(llm_conv2d_size(&c, 1));
    c = llm_conv2d_make(1, 3, 3, 1, 1, 1, 0);
    c.dilation[1] = 0;
    CHECK_ASSERTS(llm_conv2d_size(&c, 1));
}

/* @conv2d_winograd */
#include "../test.h"

#include "../../llm.h"

static float *conv2d_winograd_normals(llm_rng *rng, size_t n) {
    float *x = floats(n);
    llm_rng_normal_fill(rng, x, n);
    return x;
}

TEST(conv2d_winograd, "equals the definition to 1e-4, for even and odd sizes and any padding") {
    const size_t shapes[8][5] = {{1, 1, 3, 3, 1}, {2, 3, 4, 5, 2}, {1, 2, 5, 4, 7},
                                 {2, 5, 8, 8, 3}, {1, 1, 1, 1, 1}, {1, 4, 2, 9, 3},
                                 {0, 2, 5, 5, 2}, {1, 70, 6, 7, 9}};
    llm_rng rng = llm_rng_seed(1);
    for (size_t s = 0; s < 8; s++)
        for (size_t pad = 0; pad < 3; pad++)
            for (size_t end = 0; end < 3; end++) {
                const size_t N = shapes[s][0], C = shapes[s][1], O = shapes[s][4];
                llm_conv2d c = llm_conv2d_make(C, shapes[s][2], shapes[s][3], O, 3, 1, pad);
                c.pad_end[0] = end, c.pad[1] = (pad + 1) % 3;
                if (c.H + pad + end < 3 || c.W + c.pad[1] + c.pad_end[1] < 3) continue;
                const size_t I = llm_conv2d_size(&c, 0), J = llm_conv2d_size(&c, 1);
                const size_t tiles = (I + 1) / 2 * ((J + 1) / 2), out = N * O * I * J;
                float *x = conv2d_winograd_normals(&rng, N * C * c.H * c.W);
                float *w = conv2d_winograd_normals(&rng, O * C * 9);
                float *b = conv2d_winograd_normals(&rng, O), *y = floats(out), *want = floats(out);
                llm_arena arena; /* as the comment says: a multiple of 64 each */
                CHECK(llm_arena_create(&arena, 16 * (O * C + (O + C) * tiles) * sizeof(float)));
                llm_conv2d_winograd_forward(y, x, w, b, N, &c, &arena);
                llm_conv2d_naive(want, x, w, b, N, &c);
                CHECK_ALL_NEAR(y, want, out, 1e-4f);
                llm_conv2d_winograd_forward(y, x, w, NULL, N, &c, &arena);
                llm_conv2d_naive(want, x, w, NULL, N, &c);
                CHECK_ALL_NEAR(y, want, out, 1e-4f);
                CHECK(arena.used == 0);
                llm_arena_destroy(&arena);
            }
}

TEST(conv2d_winograd, "the three transforms are B'dB, G g G' and A'm A of the paper") {
    const double B[16] = {1,  0, 0, 0, 0, 1, -1, 1,
                          -1, 1, 1, 0, 0, 0, 0,  -1}; /* eq. 7, transposed */
    const double G[12] = {1, 0, 0, 0.5, 0.5, 0.5, 0.5, -0.5, 0.5, 0, 0, 1};
    const double A[8] = {1, 0, 1, 1, 1, -1, 0, -1};
    llm_rng rng = llm_rng_seed(2);
    float d[16], g[9], got[16];
    llm_rng_normal_fill(&rng, d, 16);
    llm_rng_normal_fill(&rng, g, 9);
    llm_conv2d_winograd_input(got, d);
    for (size_t i = 0; i < 16; i++) {
        double sum = 0.0;
        for (size_t k = 0; k < 16; k++)
            sum += B[k / 4 * 4 + i / 4] * (double)d[k] * B[k % 4 * 4 + i % 4];
        CHECK_NEAR(got[i], sum, 1e-6);
    }
    llm_conv2d_winograd_kernel(got, g);
    for (size_t i = 0; i < 16; i++) {
        double sum = 0.0;
        for (size_t k = 0; k < 9; k++)
            sum += G[i / 4 * 3 + k / 3] * (double)g[k] * G[i % 4 * 3 + k % 3];
        CHECK_NEAR(got[i], sum, 1e-6);
    }
    llm_conv2d_winograd_output(got, d);
    for (size_t i = 0; i < 4; i++) {
        double sum = 0.0;
        for (size_t k = 0; k < 16; k++)
            sum += A[k / 4 * 2 + i / 2] * (double)d[k] * A[k % 4 * 2 + i % 2];
        CHECK_NEAR(got[i], sum, 1e-6);
    }
}

TEST(conv2d_winograd, "other kernels, strides, dilations and groups are refused") {
    float x[64] = {0.0f}, w[64] = {0.0f}, y[64];
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 1 << 14));
    llm_conv2d c = llm_conv2d_make(2, 5, 5, 2, 2, 1, 0);
    CHECK_ASSERTS(llm_conv2d_winograd_forward(y, x, w, NULL, 1, &c, &arena));
    c = llm_conv2d_make(2, 5, 5, 2, 3, 2, 0);
    CHECK_ASSERTS(llm_conv2d_winograd_forward(y, x, w, NULL, 1, &c, &arena));
    c = llm_conv2d_make(2, 5, 5, 2, 3, 1, 0);
    c.dilation[1] = 2;
    CHECK_ASSERTS(llm_conv2d_winograd_forward(y, x, w, NULL, 1, &c, &arena));
    c = llm_conv2d_make(2, 5, 5, 2, 3, 1, 0);
    c.stride[0] = 2; /* along the height alone */
    CHECK_ASSERTS(llm_conv2d_winograd_forward(y, x, w, NULL, 1, &c, &arena));
    c = llm_conv2d_make(2, 5, 5, 2, 3, 1, 0);
    c.groups = 2;
    CHECK_ASSERTS(llm_conv2d_winograd_forward(y, x, w, NULL, 1, &c, &arena));
    c.groups = 1;
    llm_conv2d_winograd_forward(y, x, w, NULL, 1, &c, &arena);
    CHECK(y[0] == 0.0f);
    llm_arena_destroy(&arena);
}

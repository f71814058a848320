/* @affine */
#include "../test.h"

#include "../../llm.h"
#include "../arena.h"

static float *affine_normal(llm_rng *rng, size_t n) {
    float *x = floats(n);
    llm_rng_normal_fill(rng, x, n);
    return x;
}

TEST(affine, "apply, compose and inverse equal NumPy's") {
    const size_t shapes[3][4] = {{1, 1, 1, 1}, {3, 2, 5, 4}, {4, 7, 3, 6}}; /* B, m, k, n */
    for (size_t s = 0; s < 3; s++) {
        const size_t B = shapes[s][0], m = shapes[s][1], k = shapes[s][2], n = shapes[s][3];
        const float *w1 = golden("%zux%zux%zu/w1", m, k, n),
                    *b1 = golden("%zux%zux%zu/b1", m, k, n);
        const float *w2 = golden("%zux%zux%zu/w2", m, k, n),
                    *b2 = golden("%zux%zux%zu/b2", m, k, n);
        float *y = floats(B * k), *w = floats(m * n), *b = floats(m);
        llm_affine_apply(y, golden("%zux%zux%zu/x", m, k, n), w1, b1, B, k, n);
        CHECK_GOLDEN(y, B * k, 1e-6f, "%zux%zux%zu/y1", m, k, n);
        llm_affine_compose(w, b, w2, b2, w1, b1, m, k, n);
        CHECK_GOLDEN(w, m * n, 1e-7f, "%zux%zux%zu/w", m, k, n);
        CHECK_GOLDEN(b, m, 1e-7f, "%zux%zux%zu/b", m, k, n);
    }
    llm_arena arena = test_arena(1 << 16);
    const size_t sizes[3] = {1, 2, 6};
    for (size_t s = 0; s < 3; s++) {
        const size_t n = sizes[s];
        float *w = floats(n * n), *b = floats(n), *x = floats(3 * n), *y = floats(3 * n),
              *back = floats(3 * n);
        const float *w1 = golden("inverse%zu/w", n), *b1 = golden("inverse%zu/b", n);
        llm_error error;
        CHECK(llm_affine_inverse(w, b, w1, b1, n, &arena, &error) && arena.used == 0);
        CHECK_GOLDEN(w, n * n, 2e-7f, "inverse%zu/iw", n); /* rounded once, twice near a tie */
        CHECK_GOLDEN(b, n, 2e-7f, "inverse%zu/ib", n);
        llm_rng rng = llm_rng_seed(1); /* there and back */
        llm_rng_normal_fill(&rng, x, 3 * n);
        llm_affine_apply(y, x, w1, b1, 3, n, n);
        llm_affine_apply(back, y, w, b, 3, n, n);
        CHECK_ALL_NEAR(back, x, 3 * n, 2e-5f); /* float rounding of y times the condition */
    }
}

TEST(affine, "three maps in turn, their composition, and the product of their matrices are one") {
    enum { N = 3, H = N + 1 };
    llm_rng rng = llm_rng_seed(2);
    for (int round = 0; round < 20; round++) {
        float *w[3], *b[3], h[3][H * H], product[2][H * H], w_all[2][N * N], b_all[2][N];
        float *x = affine_normal(&rng, N), y[N], z[N], t[N];
        for (int k = 0; k < 3; k++) {
            w[k] = affine_normal(&rng, N * N), b[k] = affine_normal(&rng, N);
            llm_affine_to_homog(h[k], w[k], b[k], N, N);
        }
        llm_affine_apply(y, x, w[0], b[0], 1, N, N);
        llm_affine_apply(z, y, w[1], b[1], 1, N, N);
        llm_affine_apply(y, z, w[2], b[2], 1, N, N);
        llm_affine_compose(w_all[0], b_all[0], w[1], b[1], w[0], b[0], N, N, N);
        llm_affine_compose(w_all[1], b_all[1], w[2], b[2], w_all[0], b_all[0], N, N, N);
        llm_affine_apply(t, x, w_all[1], b_all[1], 1, N, N);
        CHECK_ALL_NEAR(t, y, N, 2e-5f);
        for (size_t i = 0; i < H * H; i++) { /* h2 h1 h0 */
            product[0][i] = product[1][i] = 0.0f;
            for (size_t k = 0; k < H; k++)
                product[0][i] += h[1][i / H * H + k] * h[0][k * H + i % H];
        }
        for (size_t i = 0; i < H * H; i++)
            for (size_t k = 0; k < H; k++)
                product[1][i] += h[2][i / H * H + k] * product[0][k * H + i % H];
        float w_back[N * N], b_back[N];
        llm_affine_from_homog(w_back, b_back, product[1], N, N);
        CHECK_ALL_NEAR(w_back, w_all[1], N * N, 2e-5f);
        CHECK_ALL_NEAR(b_back, b_all[1], N, 2e-5f);
        for (size_t j = 0; j < H; j++) CHECK(product[1][N * H + j] == (j == N ? 1.0f : 0.0f));
    }
    const float w[6] = {1, 2, 3, 4, 5, 6}, b[2] = {7, 8};
    const float want[12] = {1, 2, 3, 7, 4, 5, 6, 8, 0, 0, 0, 1};
    float h[12], w_back[6], b_back[2];
    llm_affine_to_homog(h, w, b, 2, 3);
    CHECK_ALL_NEAR(h, want, 12, 0.0f);
    llm_affine_from_homog(w_back, b_back, h, 2, 3);
    CHECK_ALL_NEAR(w_back, w, 6, 0.0f);
    CHECK_ALL_NEAR(b_back, b, 2, 0.0f);
}

TEST(affine, "means with weights that sum to 1 pass through, other sums do not") {
    enum { N = 4, M = 3, K = 5 };
    llm_rng rng = llm_rng_seed(3);
    float *w = affine_normal(&rng, M * N), *b = affine_normal(&rng, M);
    float *x = affine_normal(&rng, K * N), y[K * M], mix[N], of_mix[M], mix_of[M];
    llm_affine_apply(y, x, w, b, K, M, N);
    for (int kind = 0; kind < 2; kind++) {
        const float weight[2][K] = {{0.5f, -1.0f, 2.0f, 0.25f, -0.75f},
                                    {0.5f, 0.5f, 0.5f, 0.5f, 0.5f}};
        for (size_t j = 0; j < N; j++) {
            mix[j] = 0.0f;
            for (size_t k = 0; k < K; k++) mix[j] += weight[kind][k] * x[k * N + j];
        }
        llm_affine_apply(of_mix, mix, w, b, 1, M, N);
        for (size_t i = 0; i < M; i++) {
            mix_of[i] = 0.0f;
            for (size_t k = 0; k < K; k++) mix_of[i] += weight[kind][k] * y[k * M + i];
            if (kind == 0) CHECK_NEAR(of_mix[i], mix_of[i], 1e-5);
            if (kind == 1) CHECK_NEAR(mix_of[i] - of_mix[i], 1.5f * b[i], 1e-5); /* sum 2.5 */
        }
    }
}

TEST(affine, "standardize equals scikit-learn's StandardScaler, undoes itself, keeps constants") {
    const size_t B = 17, n = 4;
    const float *x = golden("standard/x"), *want = golden("standard/y");
    float scale[4], shift[4];
    llm_affine_standardize(scale, shift, x, B, n);
    CHECK_ALL_CLOSE(scale, golden("standard/scale"), 4, 1e-6f);
    CHECK_ALL_CLOSE(shift, golden("standard/shift"), 4, 1e-6f);
    CHECK(scale[3] == 1.0f); /* 17 times 0.1f has a mean that is off by rounding */
    for (size_t i = 0; i < B * n; i++) {
        const double y = (double)scale[i % n] * (double)x[i] + (double)shift[i % n];
        CHECK_NEAR(y, want[i], i % n == 1 || i % n == 2 ? 1e-3 : 1e-6); /* shifts of 100 and 5000 */
        CHECK_NEAR((y - (double)shift[i % n]) / (double)scale[i % n], x[i],
                   1e-12 * fabs((double)x[i]));
    }
    const float one[2] = {3.0f, -4.0f};
    llm_affine_standardize(scale, shift, one, 1, 2);
    CHECK(scale[0] == 1.0f && shift[0] == -3.0f && scale[1] == 1.0f && shift[1] == 4.0f);
    llm_affine_standardize(scale, shift, NULL, 0, 2);
    CHECK(scale[0] == 1.0f && shift[0] == 0.0f);
    const float two[2] = {1.0f, 3.0f};
    llm_affine_standardize(scale, shift, two, 2, 1);
    CHECK(scale[0] == 1.0f && shift[0] == -2.0f);
}

TEST(affine, "folding equals torch's fusion of a batch normalization into a linear layer") {
    float *w = golden("fold/w"), *b = golden("fold/b");
    llm_affine_fold(w, b, golden("fold/scale"), golden("fold/shift"), 3, 5);
    CHECK_GOLDEN(w, 15, 2e-7f, "fold/fw");
    CHECK_GOLDEN(b, 3, 2e-7f, "fold/fb");
}

TEST(affine, "the plane: a quarter turn, a shear, a shift; a singular map has no inverse") {
    float h[9], w[4], b[2], y[2];
    const float x[2] = {2.0f, 1.0f};
    llm_affine_rotation(h, LLM_PI / 2.0f);
    llm_affine_from_homog(w, b, h, 2, 2);
    llm_affine_apply(y, x, w, b, 1, 2, 2);
    CHECK_NEAR(y[0], -1.0, 1e-6);
    CHECK_NEAR(y[1], 2.0, 1e-6);
    llm_affine_shear(h, 0.5f, 3.0f);
    llm_affine_from_homog(w, b, h, 2, 2);
    llm_affine_apply(y, x, w, b, 1, 2, 2);
    CHECK(y[0] == 2.5f && y[1] == 7.0f);
    llm_affine_translation(h, -1.0f, 4.0f);
    llm_affine_from_homog(w, b, h, 2, 2);
    llm_affine_apply(y, x, w, b, 1, 2, 2);
    CHECK(y[0] == 1.0f && y[1] == 5.0f);
    llm_arena arena = test_arena(1 << 16);
    llm_error error;
    const float singular[4] = {1, 2, 2, 4};
    CHECK_FAILS(llm_affine_inverse(w, b, singular, x, 2, &arena, &error), error, "singular matrix");
    CHECK(arena.used == 0);
}

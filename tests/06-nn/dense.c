/* @dense */
#include "../test.h"

#include "../../llm.h"

TEST(dense, "equals torch's linear, with and without GELU, and all gradients") {
    const size_t shapes[][3] = {{1, 1, 1},  {2, 3, 5},  {7, 5, 3},
                                {3, 13, 7}, {4, 8, 16}, {1, 33, 2}};
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 4096));
    for (size_t s = 0; s < 6; s++) {
        const size_t N = shapes[s][0], C = shapes[s][1], O = shapes[s][2];
        const float *x = golden("%zux%zux%zu/x", N, C, O), *w = golden("%zux%zux%zu/w", N, C, O);
        const float *b = golden("%zux%zux%zu/b", N, C, O), *dy = golden("%zux%zux%zu/dy", N, C, O);
        float *y = floats(N * O), *z = floats(N * O), *dx = zeros(N * C), *dw = zeros(O * C);
        float *db = zeros(O), *norms = floats(2 * N);
        /* sums of at most 34 products of size 1: a few 1e-7 each */
        llm_dense_forward(y, x, w, NULL, N, C, O);
        CHECK_GOLDEN(y, N * O, 2e-6f, "%zux%zux%zu/plain", N, C, O);
        llm_dense_forward(y, x, w, b, N, C, O);
        CHECK_GOLDEN(y, N * O, 2e-6f, "%zux%zux%zu/y", N, C, O);
        llm_dense_backward(dx, dw, db, dy, x, w, N, C, O);
        CHECK_GOLDEN(dx, N * C, 2e-6f, "%zux%zux%zu/dx", N, C, O);
        CHECK_GOLDEN(dw, O * C, 2e-6f, "%zux%zux%zu/dw", N, C, O);
        CHECK_GOLDEN(db, O, 2e-6f, "%zux%zux%zu/db", N, C, O);

        const int kind = LLM_ACTIVATION_GELU_TANH;
        dx = zeros(N * C), dw = zeros(O * C), db = zeros(O);
        llm_dense_act_forward(y, z, x, w, b, N, C, O, kind);
        CHECK_GOLDEN(z, N * O, 2e-6f, "%zux%zux%zu/y", N, C, O);
        CHECK_GOLDEN(y, N * O, 2e-6f, "%zux%zux%zu/act", N, C, O);
        llm_dense_act_backward(dx, dw, db, dy, z, x, w, N, C, O, kind, &arena);
        CHECK_GOLDEN(dx, N * C, 5e-6f, "%zux%zux%zu/act_dx", N, C, O);
        CHECK_GOLDEN(dw, O * C, 5e-6f, "%zux%zux%zu/act_dw", N, C, O);
        CHECK_GOLDEN(db, O, 5e-6f, "%zux%zux%zu/act_db", N, C, O);
        CHECK(arena.used == 0);
        llm_dense_act_forward(z, z, x, w, b, N, C, O, kind);
        CHECK_ALL_NEAR(z, y, N * O, 0.0f);

        llm_dense_sample_norms(norms, dy, x, N, C, O, false);
        llm_dense_sample_norms(norms + N, dy, x, N, C, O, true);
        CHECK_GOLDEN(norms, 2 * N, 2e-6f, "%zux%zux%zu/norms", N, C, O);
    }
    llm_arena_destroy(&arena);
}

TEST(dense,
     "gradients of x, w and b agree with differences through tanh, and add to what is there") {
    enum { N = 3, C = 4, O = 5 };
    llm_rng rng = llm_rng_seed(1);
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 4096));
    float x[N * C], w[O * C], b[O], dy[N * O], y[N * O], z[N * O];
    float dx[N * C] = {0.0f}, dw[O * C] = {0.0f}, db[O] = {0.0f};
    llm_rng_normal_fill(&rng, x, N * C);
    llm_rng_normal_fill(&rng, w, O * C);
    llm_rng_normal_fill(&rng, b, O);
    llm_rng_normal_fill(&rng, dy, N * O);
    llm_dense_act_forward(y, z, x, w, b, N, C, O, LLM_ACTIVATION_TANH);
    for (size_t k = 0; k < 2; k++)
        llm_dense_act_backward(dx, dw, db, dy, z, x, w, N, C, O, LLM_ACTIVATION_TANH, &arena);
    for (size_t i = 0; i < N * C; i++) dx[i] *= 0.5f;
    for (size_t i = 0; i < O * C; i++) dw[i] *= 0.5f;
    for (size_t i = 0; i < O; i++) db[i] *= 0.5f;
        /* y is float: 1e-7 of a loss of 5 over a step of 0.01, and the curvature of the step */
#define DENSE_LOSS                                                                                 \
    (llm_dense_act_forward(y, z, x, w, b, N, C, O, LLM_ACTIVATION_TANH), dot(y, dy, N * O))
    CHECK_GRAD(dx, x, N * C, 1e-2f, 1e-3f, DENSE_LOSS);
    CHECK_GRAD(dw, w, O * C, 1e-2f, 1e-3f, DENSE_LOSS);
    CHECK_GRAD(db, b, O, 1e-2f, 1e-3f, DENSE_LOSS);
    float alone[O * C] = {0.0f}; /* any gradient may be missing */
    llm_dense_act_forward(y, z, x, w, b, N, C, O, LLM_ACTIVATION_TANH);
    llm_dense_act_backward(NULL, alone, NULL, dy, z, x, w, N, C, O, LLM_ACTIVATION_TANH, &arena);
    CHECK_ALL_NEAR(alone, dw, O * C, 1e-6f);
    llm_dense_backward(NULL, NULL, NULL, dy, x, w, N, C, O);
    llm_arena_destroy(&arena);
}

TEST(dense,
     "is linear in x and in w, equals the plain triple loop, and takes N = 0 and sizes of 1") {
    const size_t shapes[][3] = {{0, 3, 2}, {1, 1, 1}, {3, 0, 2}, {13, 67, 31}, {65, 129, 70}};
    for (size_t s = 0; s < 5; s++) {
        const size_t N = shapes[s][0], C = shapes[s][1], O = shapes[s][2];
        llm_rng rng = llm_rng_seed(2);
        float *x = floats(N * C), *x2 = floats(N * C), *w = floats(O * C), *b = floats(O);
        float *y = floats(N * O), *y2 = floats(N * O), *want = floats(N * O), *dw = zeros(O * C);
        llm_rng_normal_fill(&rng, x, N * C);
        llm_rng_normal_fill(&rng, x2, N * C);
        llm_rng_normal_fill(&rng, w, O * C);
        llm_rng_normal_fill(&rng, b, O);
        llm_dense_forward(y, x, w, b, N, C, O);
        for (size_t n = 0; n < N; n++)
            for (size_t o = 0; o < O; o++) {
                double sum = (double)b[o];
                for (size_t c = 0; c < C; c++) sum += (double)x[n * C + c] * (double)w[o * C + c];
                want[n * O + o] = (float)sum;
            }
        CHECK_ALL_NEAR(y, want, N * O,
                       2e-5f); /* 129 products: entries of about 11, errors of some ulp */
        llm_dense_forward(y2, x2, w, NULL, N, C, O);
        for (size_t i = 0; i < N * O; i++) want[i] = y[i] - 2.0f * y2[i];
        for (size_t i = 0; i < N * C; i++) x[i] -= 2.0f * x2[i];
        llm_dense_forward(y, x, w, b, N, C, O);
        CHECK_ALL_NEAR(y, want, N * O, 5e-5f);
        llm_dense_backward(NULL, dw, NULL, y, x, w, N, C, O);
        for (size_t i = 0; i < O * C; i++) CHECK(N > 0 || dw[i] == 0.0f);
    }
}

TEST(dense, "low rank: full rank is the layer, less is off by the singular values left out") {
    enum { C = 7, O = 6 };
    const float *w = golden("svd/w"), *s = golden("svd/s"), *u = golden("svd/u");
    const float *v = golden("svd/v");
    float eye[C * C], y[C * O], h[C * O], want[C * O], ur[O * O];
    for (size_t i = 0; i < C * C; i++) eye[i] = i / C == i % C ? 1.0f : 0.0f;
    llm_dense_forward(want, eye, w, NULL, C, C, O); /* the transpose of w */
    for (size_t R = 1; R <= O; R++) {
        for (size_t i = 0; i < O * R; i++) ur[i] = u[i / R * O + i % R]; /* the first R columns */
        llm_dense_low_rank_forward(y, h, eye, v, ur, NULL, C, C, O, R);
        double error = 0.0, left = 0.0;
        for (size_t i = 0; i < C * O; i++)
            error += (double)(y[i] - want[i]) * (double)(y[i] - want[i]);
        for (size_t i = R; i < O; i++) left += (double)s[i] * (double)s[i];
        CHECK_NEAR(error, left, 1e-5);
        if (R == O) CHECK_ALL_NEAR(y, want, C * O, 2e-6f);
    }
}

TEST(dense, "the factors of rank R are off by the singular values left out, for wide and tall w") {
    const float *w = golden("svd/w"), *s = golden("svd/s"); /* (6,7) */
    float tall[42], u[42], v[42], product[42];
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 1 << 14));
    for (size_t i = 0; i < 42; i++) tall[i % 7 * 6 + i / 7] = w[i];
    for (size_t R = 0; R <= 6; R++)
        for (size_t turned = 0; turned < 2; turned++) {
            const size_t O = turned ? 7 : 6, C = turned ? 6 : 7;
            const float *a = turned ? tall : w;
            llm_dense_low_rank_factor(u, v, a, C, O, R, &arena);
            double error = 0.0, left = 0.0;
            for (size_t i = 0; i < 42; i++) {
                product[i] = 0.0f;
                for (size_t r = 0; r < R; r++) product[i] += u[i / C * R + r] * v[r * C + i % C];
                error += (double)(product[i] - a[i]) * (double)(product[i] - a[i]);
            }
            for (size_t i = R; i < 6; i++) left += (double)s[i] * (double)s[i];
            CHECK_NEAR(error, left, 1e-5);
            for (size_t r = 0; r < R; r++) { /* both factors have the same share */
                double uu = 0.0, vv = 0.0;
                for (size_t o = 0; o < O; o++) uu += (double)u[o * R + r] * (double)u[o * R + r];
                for (size_t c = 0; c < C; c++) vv += (double)v[r * C + c] * (double)v[r * C + c];
                CHECK_NEAR(uu, (double)s[r], 1e-5);
                CHECK_NEAR(vv, (double)s[r], 1e-5);
            }
        }
    CHECK(arena.used == 0);
    CHECK_ASSERTS(llm_dense_low_rank_factor(u, v, w, 7, 6, 7, &arena));
    llm_arena_destroy(&arena);
}

TEST(dense, "low rank equals torch's linear with the product of the factors, and its gradients") {
    enum { N = 4, C = 6, O = 5, R = 2 };
    const float *x = golden("low/x"), *v = golden("low/v"), *u = golden("low/u"),
                *b = golden("low/b");
    const float *dy = golden("low/dy");
    float y[N * O], h[N * R], dx[N * C] = {0}, dv[R * C] = {0}, du[O * R] = {0}, db[O] = {0};
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 4096));
    llm_dense_low_rank_forward(y, h, x, v, u, b, N, C, O, R);
    llm_dense_low_rank_backward(dx, dv, du, db, dy, h, x, v, u, N, C, O, R, &arena);
    CHECK_GOLDEN(y, N * O, 2e-6f, "low/y");
    CHECK_GOLDEN(dx, N * C, 2e-6f, "low/dx");
    CHECK_GOLDEN(dv, R * C, 2e-6f, "low/dv");
    CHECK_GOLDEN(du, O * R, 2e-6f, "low/du");
    CHECK_GOLDEN(db, O, 2e-6f, "low/db");
    CHECK(arena.used == 0);
    llm_dense_low_rank_backward(NULL, NULL, NULL, NULL, dy, h, x, v, u, N, C, O, R, &arena);
    llm_arena_destroy(&arena);
}

/* @matmul */
#include "../test.h"

#include "../../llm.h"

TEST(matmul, "forward and backward equal torch.nn.functional.linear and autograd") {
    const size_t shapes[][3] = {{1, 1, 1}, {1, 19, 11}, {5, 9, 2}, {25, 8, 9}, {26, 7, 3}};
    for (size_t s = 0; s < 5; s++) {
        const size_t N = shapes[s][0], C = shapes[s][1], O = shapes[s][2];
        const float *x = golden("%zux%zux%zu/x", N, C, O), *w = golden("%zux%zux%zu/w", N, C, O);
        const float *b = golden("%zux%zux%zu/b", N, C, O), *dy = golden("%zux%zux%zu/dy", N, C, O);
        for (int naive = 0; naive < 2; naive++) {
            float *y = floats(N * O), *dx = zeros(N * C), *dw = zeros(O * C), *db = zeros(O);
            (naive ? llm_matmul_naive : llm_matmul_forward)(y, x, w, b, N, C, O);
            (naive ? llm_matmul_naive_backward : llm_matmul_backward)(dx, dw, db, dy, x, w, N, C,
                                                                      O);
            /* float rounding over sums of at most 26 terms of size 1 */
            CHECK_GOLDEN(y, N * O, 2e-6f, "%zux%zux%zu/y", N, C, O);
            CHECK_GOLDEN(dx, N * C, 2e-6f, "%zux%zux%zu/dx", N, C, O);
            CHECK_GOLDEN(dw, O * C, 2e-6f, "%zux%zux%zu/dw", N, C, O);
            CHECK_GOLDEN(db, O, 2e-6f, "%zux%zux%zu/db", N, C, O);
        }
    }
}

/* Small integers: sums are exact in any order. */
static float *integers(size_t n, llm_rng *rng) {
    float *x = floats(n);
    for (size_t i = 0; i < n; i++) x[i] = (float)llm_rng_below(rng, 17) - 8.0f;
    return x;
}

TEST(matmul, "equals the definition exactly on integers, from one row to many, and accumulates") {
    const size_t rows[] = {0, 1, 2, 3, 7, 22, 23, 24, 25, 61}, outs[] = {0, 1, 3, 7, 8, 9, 70, 131};
    const size_t depth[] = {0, 1, 5, 15, 16, 17, 33, 400};
    llm_rng rng = llm_rng_seed(1);
    for (size_t n = 0; n < 10; n++) {
        for (size_t o = 0; o < 8; o++) {
            for (size_t c = 0; c < 8; c++) {
                const size_t N = rows[n], O = outs[o], C = depth[c];
                const float *x = integers(N * C, &rng), *w = integers(O * C, &rng);
                const float *b = (n + o + c) % 2 ? integers(O, &rng) : NULL;
                const float *dy = integers(N * O, &rng);
                float *y = floats(N * O), *want = floats(N * O);
                llm_matmul_forward(y, x, w, b, N, C, O);
                llm_matmul_naive(want, x, w, b, N, C, O);
                CHECK_ALL_NEAR(y, want, N * O, 0.0);

                float *dx = integers(N * C, &rng), *dx_want = floats(N * C);
                float *dw = integers(O * C, &rng), *dw_want = floats(O * C);
                float *db = integers(O, &rng), *db_want = floats(O);
                for (size_t i = 0; i < N * C; i++) dx_want[i] = dx[i];
                for (size_t i = 0; i < O * C; i++) dw_want[i] = dw[i];
                for (size_t i = 0; i < O; i++) db_want[i] = db[i];
                llm_matmul_backward(dx, NULL, NULL, dy, x, w, N, C, O); /* one at a time */
                llm_matmul_backward(NULL, dw, NULL, dy, x, w, N, C, O);
                llm_matmul_backward(NULL, NULL, db, dy, x, w, N, C, O);
                llm_matmul_naive_backward(dx_want, NULL, NULL, dy, x, w, N, C, O);
                llm_matmul_naive_backward(NULL, dw_want, NULL, dy, x, w, N, C, O);
                llm_matmul_naive_backward(NULL, NULL, db_want, dy, x, w, N, C, O);
                CHECK_ALL_NEAR(dx, dx_want, N * C, 0.0);
                CHECK_ALL_NEAR(dw, dw_want, O * C, 0.0);
                CHECK_ALL_NEAR(db, db_want, O, 0.0);
            }
        }
    }
}

static double loss(const float *x, const float *w, const float *b, const float *dy, size_t N,
                   size_t C, size_t O) { /* sum of y dy, in double */
    double sum = 0.0;
    for (size_t n = 0; n < N; n++) {
        for (size_t o = 0; o < O; o++) {
            double y = (double)b[o];
            for (size_t c = 0; c < C; c++) y += (double)x[n * C + c] * (double)w[o * C + c];
            sum += y * (double)dy[n * O + o];
        }
    }
    return sum;
}

TEST(matmul, "gradients equal central differences") {
    const size_t N = 4, C = 5, O = 3;
    llm_rng rng = llm_rng_seed(2);
    float *x = floats(N * C), *w = floats(O * C), *b = floats(O), *dy = floats(N * O);
    llm_rng_normal_fill(&rng, x, N * C);
    llm_rng_normal_fill(&rng, w, O * C);
    llm_rng_normal_fill(&rng, b, O);
    llm_rng_normal_fill(&rng, dy, N * O);
    float *dx = zeros(N * C), *dw = zeros(O * C), *db = zeros(O);
    llm_matmul_backward(dx, dw, db, dy, x, w, N, C, O);
    /* the loss is linear in each: only rounding is left */
    CHECK_GRAD(dx, x, N * C, 1e-2, 1e-4, loss(x, w, b, dy, N, C, O));
    CHECK_GRAD(dw, w, O * C, 1e-2, 1e-4, loss(x, w, b, dy, N, C, O));
    CHECK_GRAD(db, b, O, 1e-2, 1e-4, loss(x, w, b, dy, N, C, O));
}

TEST(matmul, "few rows: long sums stay within float rounding of double, and rows are independent") {
    const size_t M = 9, F = 5, C = 3001;
    llm_rng rng = llm_rng_seed(3);
    float *many = floats(M * C), *few = floats(F * C), *y = zeros(M * F), *one = zeros(M);
    llm_rng_normal_fill(&rng, many, M * C);
    llm_rng_normal_fill(&rng, few, F * C);
    llm_matmul_few(y, F, 1, many, few, M, F, C);
    for (size_t m = 0; m < M; m++) {
        for (size_t f = 0; f < F; f++) {
            double size = 0.0;
            for (size_t c = 0; c < C; c++) size += fabs((double)many[m * C + c] * few[f * C + c]);
            CHECK_NEAR(y[m * F + f], dot(many + m * C, few + f * C, C), 1e-6 * size);
        }
    }
    llm_matmul_few(one, 1, M, many, few + 2 * C, M, 1, C); /* one row: the same bits */
    for (size_t m = 0; m < M; m++) CHECK(one[m] == y[m * F + 2]);
}

TEST(matmul, "NaN stays in its row and its output, on every path") {
    const size_t rows[] = {1, 5, 30, 30}, outs[] = {20, 20, 20, 3}, C = 37;
    llm_rng rng = llm_rng_seed(4);
    for (size_t s = 0; s < 4; s++) {
        const size_t N = rows[s], O = outs[s];
        float *x = integers(N * C, &rng), *w = integers(O * C, &rng), *y = floats(N * O);
        x[(N - 1) * C + 36] = NAN;
        w[1 * C + 2] = NAN;
        llm_matmul_forward(y, x, w, NULL, N, C, O);
        for (size_t n = 0; n < N; n++)
            for (size_t o = 0; o < O; o++) CHECK(isnan(y[n * O + o]) == (n == N - 1 || o == 1));
    }
}

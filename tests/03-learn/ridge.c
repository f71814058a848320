/* @ridge */
#include "../test.h"

#include "../../llm.h"
#include "../arena.h"

TEST(ridge, "primal, dual and the path equal scikit-learn, and so do leave-one-out errors") {
    const size_t shapes[3][2] = {{5, 1}, {13, 4}, {7, 20}};
    const double lams[3] = {0.01, 1, 30};
    const char *names[3] = {"0.01", "1", "30"};
    llm_arena arena = test_arena(1 << 18);
    for (size_t s = 0; s < 3; s++) {
        const size_t n = shapes[s][0], d = shapes[s][1], mark = arena.used;
        const float *x = golden("%zu/x", n), *y = golden("%zu/y", n);
        const llm_ridge_path path = llm_ridge_path_init(x, y, n, d, true, &arena);
        const llm_ridge_path bare = llm_ridge_path_init(x, y, n, d, false, &arena);
        double norm = 1e300;
        for (size_t k = 0; k < 3; k++) {
            float w[20], got[20], b;
            double wd[20], bd, sum = 0.0;
            CHECK(llm_ridge_fit(w, x, y, n, d, lams[k], &arena));
            CHECK_GOLDEN(w, d, 1e-6f, "%zu/%s/bare", n, names[k]);
            llm_ridge_path_at(wd, &bd, &bare, lams[k]);
            for (size_t j = 0; j < d; j++) CHECK_NEAR(wd[j], w[j], 1e-6);
            CHECK(bd == 0.0);
            const llm_ridge_point point = llm_ridge_path_at(wd, &bd, &path, lams[k]);
            for (size_t j = 0; j < d; j++) {
                got[j] = (float)wd[j];
                sum += wd[j] * wd[j];
                CHECK(wd[j] != 0.0);
            }
            CHECK_GOLDEN(got, d, 1e-6f, "%zu/%s/w", n, names[k]);
            b = (float)bd;
            CHECK_GOLDEN(&b, 1, 1e-6f, "%zu/%s/b", n, names[k]);
            b = (float)point.left_out;
            CHECK_GOLDEN(&b, 1, 1e-5f, "%zu/%s/left_out", n, names[k]);
            CHECK(sum < norm);
            norm = sum;

            double train = 0.0;
            for (size_t i = 0; i < n; i++) {
                double e = (double)y[i] - bd;
                for (size_t j = 0; j < d; j++) e -= (double)x[i * d + j] * wd[j];
                train += e * e / (double)n;
            }
            CHECK_NEAR(point.train, train, 1e-9);
            CHECK_NEAR(point.gcv, train / pow(1.0 - point.df / (double)n, 2.0), 1e-9);
            const llm_ridge_point same = llm_ridge_path_at(NULL, NULL, &path, lams[k]);
            CHECK(same.left_out == point.left_out);
        }
        arena.used = mark;
    }
}

TEST(ridge, "rows sqrt(lam) I below the data make least squares of it; lam = 0 is least squares") {
    enum { N = 13, D = 4 };
    const float *x = golden("13/x"), *y = golden("13/y");
    float rows[(N + D) * D], more[N + D], w[D];
    double ols[D], b;
    llm_arena arena = test_arena(1 << 18);
    for (size_t i = 0; i < (N + D) * D; i++)
        rows[i] = i < N * D ? x[i] : i / D - N == i % D ? 2.0f : 0.0f;
    for (size_t i = 0; i < N + D; i++) more[i] = i < N ? y[i] : 0.0f;
    llm_least_squares_fit(ols, rows, more, NULL, N + D, D, false, &arena);
    CHECK(llm_ridge_fit(w, x, y, N, D, 4.0, &arena));
    for (size_t j = 0; j < D; j++) CHECK_NEAR(w[j], ols[j], 1e-6);
    llm_least_squares_fit(ols, x, y, NULL, N, D, false, &arena);
    CHECK(llm_ridge_fit(w, x, y, N, D, 0.0, &arena));
    for (size_t j = 0; j < D; j++) CHECK_NEAR(w[j], ols[j], 1e-6);
    const llm_ridge_path path = llm_ridge_path_init(x, y, N, D, false, &arena);
    const llm_ridge_point point = llm_ridge_path_at(ols, &b, &path, 0.0);
    for (size_t j = 0; j < D; j++) CHECK_NEAR(w[j], ols[j], 1e-6);
    CHECK_NEAR(point.df, 4.0, 1e-9);
    const llm_ridge_path square = llm_ridge_path_init(x, y, D, D, false, &arena);
    llm_ridge_path_at(ols, &b, &square, 0.5);
    CHECK(llm_ridge_fit(w, x, y, D, D, 0.5, &arena));
    for (size_t j = 0; j < D; j++) CHECK_NEAR(w[j], ols[j], 1e-6);
    double kept = 7.0;
    llm_ridge_path_at(NULL, &kept, &square, 0.5); /* without w there is no intercept */
    llm_ridge_path_at(ols, NULL, &square, 0.5);
    CHECK(kept == 7.0);
}

TEST(ridge, "what is refused; dead columns; more columns than examples without a penalty") {
    const float x[6] = {1, 0, 2, 0, 3, 0}, y[3] = {2, 4, 6};
    float w[2];
    double wd[3], b;
    llm_arena arena = test_arena(1 << 18);
    CHECK(!llm_ridge_fit(w, x, y, 3, 2, -1.0, &arena) &&
          !llm_ridge_fit(w, x, y, 3, 2, (double)NAN, &arena));
    CHECK(!llm_ridge_fit(w, y, y, 3, 1, -1.0, &arena)); /* however regular the matrix */
    CHECK(!llm_ridge_fit(w, x, y, 3, 2, 0.0, &arena));  /* a column of zeros */
    CHECK(llm_ridge_fit(w, x, y, 3, 2, 14.0, &arena));
    CHECK_NEAR(w[0], 1.0f, 1e-6);
    CHECK(w[1] == 0.0f && arena.used == 0);
    llm_ridge_path path = llm_ridge_path_init(x, y, 3, 2, false, &arena);
    llm_ridge_point point = llm_ridge_path_at(wd, &b, &path, 0.0);
    CHECK_NEAR(point.df, 1.0, 1e-12);
    CHECK_NEAR(point.train, 0.0, 1e-12);
    CHECK_NEAR(wd[0], 2.0, 1e-12);
    CHECK(wd[1] == 0.0);
    const float small[3] = {1e-10f, 2e-10f, 3e-10f}; /* small is not singular */
    path = llm_ridge_path_init(small, y, 3, 1, false, &arena);
    CHECK_NEAR(llm_ridge_path_at(wd, &b, &path, 0.0).df, 1.0, 1e-12);
    CHECK_NEAR(wd[0], 2e10, 1e4);
    float eight[64], target[8], direct[8];
    double along[8];
    llm_rng rng = llm_rng_seed(9);
    llm_rng_normal_fill(&rng, eight, 64);
    llm_rng_normal_fill(&rng, target, 8);
    for (int sign = 0; sign < 2; sign++) { /* eight fill their place to the last byte */
        for (size_t i = 0; i < 8; i++) target[i] = -target[i];
        path = llm_ridge_path_init(eight, target, 8, 8, false, &arena);
        point = llm_ridge_path_at(along, &b, &path, 0.5);
        CHECK(llm_ridge_fit(direct, eight, target, 8, 8, 0.5, &arena) && point.df < 8.0);
        for (size_t j = 0; j < 8; j++) CHECK_NEAR(along[j], direct[j], 1e-5);
        double train = 0.0;
        for (size_t i = 0; i < 8; i++) {
            double e = (double)target[i];
            for (size_t j = 0; j < 8; j++) e -= (double)eight[8 * i + j] * along[j];
            train += e * e / 8.0;
        }
        CHECK_NEAR(point.train, train, 1e-9);
    }
    CHECK_ASSERTS(llm_ridge_path_at(wd, &b, &path, -1.0));
    path = llm_ridge_path_init(x, y, 2, 3, true, &arena); /* rows (1,0,2) and (0,3,0) */
    llm_ridge_path_at(wd, &b, &path, 0.0);
    CHECK_NEAR(wd[0] + 2.0 * wd[2] + b, 2.0, 1e-12);
    CHECK_NEAR(3.0 * wd[1] + b, 4.0, 1e-12);
}

TEST(ridge, "nearly equal columns: the variance of their coefficients falls more than 50 times") {
    enum { N = 50, R = 200 };
    llm_rng rng = llm_rng_seed(3);
    llm_arena arena = test_arena(1 << 18);
    float x[N * 2], y[N], w[2];
    double sum[2] = {0, 0}, sum_sq[2] = {0, 0};
    for (size_t i = 0; i < N; i++) {
        x[2 * i] = llm_rng_normal(&rng);
        x[2 * i + 1] = x[2 * i] + 0.0447f * llm_rng_normal(&rng); /* correlation 0.999 */
    }
    for (size_t r = 0; r < R; r++) {
        for (size_t i = 0; i < N; i++) y[i] = x[2 * i] + x[2 * i + 1] + llm_rng_normal(&rng);
        for (int ridge = 0; ridge < 2; ridge++) {
            CHECK(llm_ridge_fit(w, x, y, N, 2, ridge ? 2.0 : 0.0, &arena));
            sum[ridge] += (double)w[0] / R;
            sum_sq[ridge] += (double)w[0] * (double)w[0] / R;
        }
    }
    CHECK(sum_sq[0] - sum[0] * sum[0] > 50.0 * (sum_sq[1] - sum[1] * sum[1]));
}

TEST(ridge, "decay in SGD is the penalty's gradient") {
    float w[2] = {1, -2};
    const float g[2] = {0.5f, 0.25f},
                want[2] = {1 - 0.1f * (0.5f + 0.3f), -2 - 0.1f * (0.25f - 0.6f)};
    llm_ridge_decay_sgd(w, g, 2, 0.1f, 0.3f);
    CHECK_ALL_NEAR(w, want, 2, 1e-6);
}

/* @lasso */
#include "../test.h"

#include "../../llm.h"
#include "../arena.h"

static const float *lasso_floats(const double *x, size_t n) {
    float *out = floats(n);
    for (size_t i = 0; i < n; i++) out[i] = (float)x[i];
    return out;
}

TEST(lasso, "paths equal scikit-learn's Lasso and the corners of its LARS; FISTA agrees") {
    const size_t shapes[3][2] = {{5, 2}, {13, 5}, {20, 40}};
    llm_arena arena = test_arena(1 << 20);
    for (size_t s = 0; s < 3; s++) {
        const size_t n = shapes[s][0], d = shapes[s][1], mark = arena.used;
        const llm_regularization_data p =
            llm_regularization_center(golden("%zu/x", n), golden("%zu/y", n), n, d, true, &arena);
        const float top = (float)llm_lasso_max(&p);
        CHECK_GOLDEN(&top, 1, 1e-6f, "%zu/top", n);
        for (int corners = 0; corners < 2; corners++) {
            size_t L = 0;
            const char *name = corners ? "/lars" : "";
            const float *lam_floats = golden_n(&L, "%zu%s/lam", n, name);
            double *lam = doubles(L), *w = doubles(L * d), *corr = doubles(d), *f = doubles(d);
            for (size_t l = 0; l < L; l++) lam[l] = (double)lam_floats[l];
            const size_t before = arena.used;
            llm_lasso_path(w, &p, lam, L, NULL, 1e-14, &arena);
            CHECK_GOLDEN(lasso_floats(w, L * d), L * d, 1e-5f, "%zu%s/w", n, name);
            for (size_t l = 0; l < L; l++) {
                CHECK(llm_lasso_kkt(corr, w + l * d, &p, lam[l], &arena) < 1e-10);
                for (size_t j = 0; j < d; j++) f[j] = 0.3;
                llm_lasso_fista(f, &p, lam[l], 1000, &arena);
                for (size_t j = 0; j < d; j++) CHECK_NEAR(f[j], w[l * d + j], 1e-6);
            }
            CHECK(arena.used == before);
        }
        arena.used = mark;
    }
}

TEST(lasso,
     "all are 0 at lam_max, one is not a little below; orthonormal columns: soft threshold") {
    enum { N = 16, D = 6 };
    llm_rng rng = llm_rng_seed(2);
    llm_arena arena = test_arena(1 << 20);
    float x[N * D], y[N];
    llm_rng_normal_fill(&rng, x, N * D);
    llm_rng_normal_fill(&rng, y, N);
    llm_regularization_data p = llm_regularization_center(x, y, N, D, true, &arena);
    const double top = llm_lasso_max(&p), lam[3] = {2.0 * top, top, 0.99 * top};
    double w[3 * D], corr[D];
    llm_lasso_path(w, &p, lam, 3, NULL, 1e-14, &arena);
    size_t used = 0;
    for (size_t j = 0; j < 2 * D; j++) CHECK(w[j] == 0.0);
    for (size_t j = 0; j < D; j++) used += w[2 * D + j] != 0.0;
    CHECK(used == 1);
    for (size_t j = 0; j < D; j++)
        w[j] = j == 0 ? 1e-3 : 0.0; /* not optimal, and told by how much */
    CHECK(llm_lasso_kkt(corr, w, &p, 10.0, &arena) > 9.0);
    w[0] = -1e-3;
    CHECK(llm_lasso_kkt(corr, w, &p, 10.0, &arena) > 9.0);

    llm_qr_orthonormalize(x, N, D, &arena);
    for (size_t i = 0; i < N * D; i++) x[i] *= 4.0f; /* X'X / n = I */
    p = llm_regularization_center(x, y, N, D, false, &arena);
    const double one[1] = {0.1};
    llm_lasso_path(w, &p, one, 1, NULL, 1e-15, &arena);
    for (size_t j = 0; j < D; j++) {
        double ols = 0.0;
        for (size_t i = 0; i < N; i++) ols += (double)(x[i * D + j] * y[i]) / N;
        CHECK_NEAR(w[j], ols > 0.1 ? ols - 0.1 : ols < -0.1 ? ols + 0.1 : 0.0, 1e-6);
    }
    const double level[2] = {0.1, 0.1};
    llm_lasso_path(w + D, &p, level, 2, NULL, 1e-15, &arena);
    for (size_t j = 0; j < 2 * D; j++) CHECK_NEAR(w[D + j], w[j % D], 1e-12);
    const double rising[2] = {0.1, 0.2}, none[1] = {0.0};
    CHECK_ASSERTS(llm_lasso_path(w, &p, rising, 2, NULL, 1e-14, &arena));
    CHECK_ASSERTS(llm_lasso_path(w, &p, none, 1, NULL, 1e-14, &arena));
}

TEST(lasso, "5 true columns of 200, 100 examples: the path contains exactly these") {
    enum { N = 100, D = 200, L = 40 };
    size_t found = 0;
    for (size_t seed = 1; seed <= 3; seed++) {
        llm_rng rng = llm_rng_seed(seed);
        llm_arena arena = test_arena(1 << 20);
        float *x = floats(N * D), y[N];
        double *w = doubles(L * D), lam[L];
        llm_rng_normal_fill(&rng, x, N * D);
        for (size_t i = 0; i < N; i++) {
            y[i] = 0.5f * llm_rng_normal(&rng);
            for (size_t j = 0; j < 5; j++) y[i] += (j % 2 ? -3.0f : 3.0f) * x[i * D + j];
        }
        const llm_regularization_data p = llm_regularization_center(x, y, N, D, true, &arena);
        lam[0] = llm_lasso_max(&p);
        for (size_t l = 1; l < L; l++) lam[l] = 0.9 * lam[l - 1];
        CHECK(llm_lasso_path(w, &p, lam, L, NULL, 1e-10, &arena) == 0); /* the rule never errs */
        bool exact = false;
        for (size_t l = 0; l < L; l++) {
            size_t right = 0, wrong = 0;
            for (size_t j = 0; j < D; j++)
                right += j < 5 && w[l * D + j] != 0.0, wrong += j >= 5 && w[l * D + j] != 0.0;
            exact = exact || (right == 5 && wrong == 0);
        }
        found += exact;
        /* without the strong rule, from scratch: the same */
        double corr[D], *direct = doubles(D);
        for (size_t j = 0; j < D; j++) direct[j] = 0.0;
        llm_regularization_elasticnet(direct, &p, lam[L - 1], 1.0, NULL, 1e-14, 100000, &arena);
        for (size_t j = 0; j < D; j++) CHECK_NEAR(direct[j], w[(L - 1) * D + j], 1e-5);
        CHECK(llm_lasso_kkt(corr, w + (L - 1) * D, &p, lam[L - 1], &arena) < 1e-8);
    }
    /* 20 of 20 seeds; with 10 true columns 12 of 20: 2 k log(d - k) examples are needed, 105
     * then. */
    CHECK(found == 3);
}

TEST(lasso,
     "a jump in lam makes the strong rule err, and what it left out comes back; adaptive scales") {
    enum { N = 12, D = 18, L = 6 };
    size_t back = 0;
    for (size_t seed = 1; seed <= 60; seed++) {
        llm_rng rng = llm_rng_seed(seed);
        llm_arena arena = test_arena(1 << 20);
        float x[N * D], y[N];
        for (size_t i = 0; i < N; i++) { /* correlated columns, some of them large */
            const float common = 2.0f * llm_rng_normal(&rng);
            for (size_t j = 0; j < D; j++)
                x[i * D + j] = common + llm_rng_normal(&rng) * (j % 3 == 0 ? 3.0f : 0.5f);
            y[i] = llm_rng_normal(&rng);
        }
        const llm_regularization_data p = llm_regularization_center(x, y, N, D, false, &arena);
        double w[L * D], half[L * D], lam[L], twice[L], corr[D], scale[D];
        for (size_t l = 0; l < L; l++) {
            lam[l] = llm_lasso_max(&p) * pow(0.6, (double)l);
            twice[l] = 2.0 * lam[l];
        }
        back += llm_lasso_path(w, &p, lam, L, NULL, 1e-14, &arena);
        for (size_t l = 0; l < L; l++)
            CHECK(llm_lasso_kkt(corr, w + l * D, &p, lam[l], &arena) < 1e-8);
        for (size_t j = 0; j < D; j++) scale[j] = 2.0; /* twice the penalty everywhere */
        half[3 * D] = 7.0;
        llm_lasso_path(half, &p, lam, 3, scale, 1e-14, &arena);
        CHECK(half[3 * D] == 7.0); /* not one more */
        llm_lasso_path(w, &p, twice, 3, NULL, 1e-14, &arena);
        for (size_t j = 0; j < 3 * D; j++) CHECK_NEAR(half[j], w[j], 1e-7);
        for (size_t j = 0; j < D; j++)
            scale[j] = 0.5 + 0.1 * (double)j; /* each its own condition */
        llm_lasso_path(w, &p, lam, 3, scale, 1e-14, &arena);
        for (size_t l = 0; l < 3; l++) {
            llm_lasso_kkt(corr, w + l * D, &p, 0.0, &arena);
            for (size_t j = 0; j < D; j++) {
                const double v = w[l * D + j], most = lam[l] * scale[j];
                CHECK(fabs(corr[j]) <= most * (1.0 + 1e-7));
                if (v != 0.0) CHECK_NEAR(corr[j], v > 0.0 ? most : -most, 1e-7);
            }
        }
        for (size_t j = 0; j < D; j++) scale[j] = j == 4 ? 1e-3 : 1.0; /* one nearly free */
        llm_lasso_path(w, &p, lam, 1, scale, 1e-14, &arena);
        CHECK(w[4] != 0.0);
    }
    CHECK(back > 0); /* in 300 seeds it happened 61 times */
}

TEST(lasso, "FISTA finds the curvature that one row makes, in twice the largest column") {
    llm_arena arena = test_arena(1 << 20);
    for (size_t row = 0; row < 2; row++) {
        float x[4] = {0.1f, -0.1f, 0.1f, -0.1f}, y[2] = {1, 1};
        double w[2], f[2] = {3, -3}, lam[1] = {0.01};
        x[2 * row] = x[2 * row + 1] = 10.0f;
        const llm_regularization_data p = llm_regularization_center(x, y, 2, 2, false, &arena);
        llm_lasso_path(w, &p, lam, 1, NULL, 1e-15, &arena);
        llm_lasso_fista(f, &p, lam[0], 20000, &arena);
        for (size_t j = 0; j < 2; j++) CHECK_NEAR(f[j], w[j], 1e-6);
    }
    const float three[3] = {10, 10, 10}, target[1] = {1}; /* three times that of a column */
    double f[3] = {0.03, 0.02, -0.01}, corr[3];
    const llm_regularization_data p = llm_regularization_center(three, target, 1, 3, false, &arena);
    llm_lasso_fista(f, &p, 0.01, 2000, &arena);
    CHECK(llm_lasso_kkt(corr, f, &p, 0.01, &arena) < 1e-9);
}

TEST(lasso, "one step of FISTA by hand, from a coefficient of 1; a path from below the top") {
    llm_arena arena = test_arena(1 << 20);
    const float one[1] = {1}, zero[1] = {0};
    double w[1] = {1};
    const llm_regularization_data p = llm_regularization_center(one, zero, 1, 1, false, &arena);
    double corr[1];
    llm_lasso_kkt(corr, w, &p, 0.25, &arena);
    CHECK(corr[0] == -1.0);
    llm_lasso_fista(w, &p, 0.25, 0, &arena); /* no step */
    CHECK(w[0] == 1.0);
    llm_lasso_fista(w, &p, 0.25, 1, &arena);
    CHECK(w[0] == 0.0);
    const llm_regularization_data flat = llm_regularization_center(zero, one, 1, 1, false, &arena);
    llm_lasso_fista(w, &flat, 0.25, 1, &arena); /* nothing to divide by */
    CHECK(w[0] == 0.0);

    enum { N = 30, D = 10 };
    llm_rng rng = llm_rng_seed(3);
    float x[N * D], y[N];
    double path[D];
    llm_rng_normal_fill(&rng, x, N * D);
    for (size_t i = 0; i < N; i++) y[i] = 3.0f * x[i * D] - 2.0f * x[i * D + 1];
    const llm_regularization_data q = llm_regularization_center(x, y, N, D, false, &arena);
    const double lam[1] = {0.8 * llm_lasso_max(&q)};
    CHECK(llm_lasso_path(path, &q, lam, 1, NULL, 1e-14, &arena) == 0); /* nothing comes back */
    CHECK(path[0] != 0.0);
}

TEST(lasso, "a NaN in the data is an answer of NaN, and no endless search for a step") {
    llm_arena arena = test_arena(1 << 20);
    const float x[4] = {1, 2, NAN, 4}, y[2] = {1, 2};
    double w[2] = {0, 0};
    const llm_regularization_data p = llm_regularization_center(x, y, 2, 2, false, &arena);
    llm_lasso_fista(w, &p, 0.1, 5, &arena);
    CHECK(isnan(w[0]));
}

/* @conditional_gaussian */
#include "../test.h"

#include "../../llm.h"

TEST(conditional_gaussian, "mean and covariance equal NumPy's Schur complement, any split") {
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 1 << 13));
    for (size_t c = 0; c < 4; c++) {
        size_t D = 0;
        const float *mean_f = golden_n(&D, "%zu/mean", c), *cov_f = golden("%zu/cov", c);
        const size_t A = (size_t)golden("%zu/A", c)[0];
        const size_t *order = as_sizes(golden("%zu/order", c), D);
        double *mean = doubles(D), *cov = doubles(D * D), *x = doubles(D);
        double *mean_a = doubles(A), *cov_a = doubles(A * A);
        float *got_mean = floats(A), *got_cov = floats(A * A);
        for (size_t i = 0; i < D; i++) mean[i] = (double)mean_f[i];
        for (size_t i = 0; i < D * D; i++) cov[i] = (double)cov_f[i];
        for (size_t i = 0; i < D - A; i++) x[i] = (double)golden("%zu/x", c)[i];
        CHECK(llm_conditional_gaussian(mean_a, cov_a, mean, cov, x, order, A, D, &arena));
        CHECK(arena.used == 0);
        for (size_t i = 0; i < A; i++) got_mean[i] = (float)mean_a[i];
        for (size_t i = 0; i < A * A; i++) {
            got_cov[i] = (float)cov_a[i];
            CHECK(cov_a[i] == cov_a[i % A * A + i / A]);
        }
        CHECK_GOLDEN(got_mean, A, 2e-6f, "%zu/mean_a", c);
        CHECK_GOLDEN(got_cov, A * A, 2e-6f, "%zu/cov_a", c);
    }
    llm_arena_destroy(&arena);
}

TEST(conditional_gaussian, "a joint density is marginal times conditional; draws near x_b agree") {
    enum { D = 3 };
    const double cov[9] = {2.0, 1.2, 0.4, 1.2, 1.5, -0.3, 0.4, -0.3, 1.0};
    const double mean[3] = {1.0, -1.0, 0.5}, seen[2] = {-0.4, 1.1};
    const size_t order[3] = {0, 1, 2};
    double mean_a[1], cov_a[1], L[9], Lb[4], scratch[3];
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 4096));
    CHECK(llm_conditional_gaussian(mean_a, cov_a, mean, cov, seen, order, 1, D, &arena));
    const double cov_b[4] = {1.5, -0.3, -0.3, 1.0};
    memcpy(L, cov, 9 * sizeof *L);
    memcpy(Lb, cov_b, 4 * sizeof *Lb);
    CHECK(llm_cholesky_factor(L, 3, NULL) && llm_cholesky_factor(Lb, 2, NULL));
    for (double x = -3.0; x < 4.0; x += 0.7) {
        const double point[3] = {x, seen[0], seen[1]}, z = x - mean_a[0];
        const double joint = llm_distribution_sample_mvn_logpdf(scratch, point, mean, L, 3);
        const double known = llm_distribution_sample_mvn_logpdf(scratch, seen, mean + 1, Lb, 2);
        const double given = -0.5 * (z * z / cov_a[0] + log(2.0 * acos(-1.0) * cov_a[0]));
        CHECK_NEAR(joint, known + given, 1e-12);
    }
    /* rejection: of 400000 draws those with x_b within 0.15 of what was seen */
    enum { N = 400000 };
    llm_rng rng = llm_rng_seed(1);
    double *x = doubles(N * D), sum = 0.0, sum_sq = 0.0, n = 0.0;
    llm_distribution_sample_mvn(x, mean, L, N, D, &rng);
    for (size_t i = 0; i < N; i++) {
        const double *xi = x + i * D;
        if (fabs(xi[1] - seen[0]) > 0.15 || fabs(xi[2] - seen[1]) > 0.15) continue;
        sum += xi[0], sum_sq += xi[0] * xi[0], n += 1.0;
    }
    CHECK(n > 3000.0);
    CHECK_NEAR(sum / n, mean_a[0], 4.0 * sqrt(cov_a[0] / n) + 0.01); /* the window is not a point */
    CHECK_NEAR(sum_sq / n - sum / n * sum / n, cov_a[0], 4.0 * cov_a[0] * sqrt(2.0 / n) + 0.02);
    llm_arena_destroy(&arena);
}

TEST(conditional_gaussian, "nothing known, nothing asked, and a singular S_bb") {
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 4096));
    const double cov[4] = {2.0, 0.5, 0.5, 1.0}, mean[2] = {3.0, 4.0}, seen[2] = {1.0, 2.0};
    const double flat[9] = {1.0, 0.5, 0.5, 0.5, 1.0, 1.0, 0.5, 1.0, 1.0},
                 mean3[3] = {0.0, 0.0, 0.0};
    const size_t order[3] = {1, 0, 2}, order3[3] = {0, 1, 2};
    double mean_a[2], cov_a[4];
    CHECK(llm_conditional_gaussian(mean_a, cov_a, mean, cov, NULL, order, 2, 2, &arena));
    CHECK(mean_a[0] == 4.0 && mean_a[1] == 3.0 && cov_a[0] == 1.0 && cov_a[3] == 2.0);
    CHECK(llm_conditional_gaussian(NULL, NULL, mean, cov, seen, order, 0, 2, &arena));
    CHECK(!llm_conditional_gaussian(mean_a, cov_a, mean3, flat, seen, order3, 1, 3, &arena));
    CHECK(arena.used == 0);
    CHECK_ASSERTS(llm_conditional_gaussian(mean_a, cov_a, mean, cov, seen, order, 3, 2, &arena));
    llm_arena_destroy(&arena);
}

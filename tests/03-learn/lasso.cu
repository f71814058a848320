/* @lasso */
#include "../test.h"

#include "../../llm_cuda.cuh"

/* B problems on one design: targets of their own or one for all, penalties falling from lam_max. */
static void check_fista(size_t B, size_t n, size_t d, size_t steps, bool one_y, double tol) {
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 1 << 20));
    float *x = floats(n * d), *turned = floats(n * d), *y = floats(B * n), *w = floats(B * d);
    float *lam = floats(B), *got = floats(B * d);
    double *f = (double *)test_memory(d, sizeof(double));
    double *corr = (double *)test_memory(d, sizeof(double));
    llm_rng rng = llm_rng_seed(n + d);
    llm_rng_normal_fill(&rng, x, n * d);
    llm_rng_normal_fill(&rng, w, B * d);
    for (size_t i = 0; i < n * d; i++) turned[i % d * n + i / d] = x[i];
    for (size_t b = 0; b < B; b++) /* three columns matter */
        for (size_t i = 0; i < n; i++) {
            y[b * n + i] = llm_rng_normal(&rng);
            for (size_t j = 0; j < 3 && j < d; j++)
                y[b * n + i] += (float)(b + 2 + j) * x[i * d + j];
        }
    for (size_t b = 0; b < B; b++) {
        const llm_regularization_data p =
            llm_regularization_center(x, y + (one_y ? 0 : b * n), n, d, false, &arena);
        lam[b] = (float)llm_lasso_max(&p) * (b == 0 ? 1.01f : 0.3f / (float)b);
    }
    float *d_w = to_device(w, B * d);
    CHECK_CUDA(llm_cuda_lasso_fista(d_w, to_device(turned, n * d), to_device(y, B * n), one_y,
                                    to_device(lam, B), B, n, d, steps, 0));
    from_device(got, d_w, B * d);
    for (size_t b = 0; b < B; b++) {
        const llm_regularization_data p =
            llm_regularization_center(x, y + (one_y ? 0 : b * n), n, d, false, &arena);
        for (size_t j = 0; j < d; j++) f[j] = (double)w[b * d + j];
        llm_lasso_fista(f, &p, (double)lam[b], steps, &arena);
        for (size_t j = 0; j < d; j++) {
            CHECK_NEAR(got[b * d + j], f[j], tol);
            /* at the end exact zeros are zeros in float too */
            CHECK(steps < 50 || (got[b * d + j] == 0.0f) == (f[j] == 0.0));
        }
        for (size_t j = 0; j < d; j++) f[j] = (double)got[b * d + j];
        if (steps >= 50) CHECK(llm_lasso_kkt(corr, f, &p, (double)lam[b], &arena) < 10.0 * tol);
    }
    llm_arena_destroy(&arena);
}

TEST(lasso, "each step equals llm_lasso_fista's, backtracking and restarts included") {
    check_fista(1, 1, 1, 3, false, 1e-5);
    check_fista(2, 7, 3, 1, true, 1e-5);
    check_fista(3, 20, 5, 12, false, 1e-5);
    check_fista(2, 33, 70, 4, true, 3e-5);
    if (!TEST_SLOW) check_fista(1, 150, 300, 2, true, 3e-5); /* X stays in global memory */
}

TEST(lasso, "many steps reach the optimum, with its zeros") {
    if (TEST_SLOW) return;
    check_fista(2, 40, 10, 50, true, 1e-5);
    check_fista(1, 30, 20, 120, false, 1e-5);
}

TEST(lasso, "no steps and empty columns leave w alone; NaN ends; what is refused") {
    const float x[4] = {0, 0, NAN, 1}, y[2] = {1, 2}, lam[1] = {0.1f}, w[2] = {3, 4};
    float *d_w = to_device(w, 2), *d_x = to_device(x, 4), *d_y = to_device(y, 2), got[2];
    float *d_lam = to_device(lam, 1), *none = NULL;
    CHECK_CUDA(llm_cuda_lasso_fista(d_w, d_x + 2, d_y, true, d_lam, 1, 1, 2, 0, 0));
    CHECK_ALL_NEAR(from_device(got, d_w, 2), w, 2, 0.0f);
    CHECK_CUDA(llm_cuda_lasso_fista(d_w, d_x, d_y, true, d_lam, 1, 2, 1, 5, 0));
    CHECK(from_device(got, d_w, 1)[0] == 3.0f);
    CHECK_CUDA(llm_cuda_lasso_fista(d_w, d_x + 2, d_y, true, d_lam, 1, 1, 2, 5, 0));
    CHECK(isnan(from_device(got, d_w, 2)[0]));
    CHECK(llm_cuda_lasso_fista(none, none, none, true, none, 1, 3, 10240, 5, 0) ==
          cudaErrorInvalidValue);
    CHECK_CUDA(llm_cuda_lasso_fista(none, none, none, true, none, 0, 3, 2, 5, 0));
}

/* @ridge */
#include "../test.h"

#include "../../llm_cuda.cuh"

static void check_ridge(size_t B, size_t n, size_t d, bool shared_x) {
    const size_t systems = shared_x ? 1 : B;
    float *x = floats(systems * n * d), *y = floats(B * n), *w = floats(B * d), *want = floats(d);
    double *lam = (double *)test_memory(B, sizeof(double));
    bool *solved = (bool *)test_memory(B, sizeof(bool));
    llm_rng rng = llm_rng_seed(n + d);
    llm_rng_normal_fill(&rng, x, systems * n * d);
    llm_rng_normal_fill(&rng, y, B * n);
    llm_rng_normal_fill(&rng, w, B * d);
    for (size_t b = 0; b < B; b++) lam[b] = 0.01 * pow(10.0, (double)(b % 4));
    if (B > 2) lam[2] = -1e-3;
    if (B > 3) lam[3] = (double)NAN;

    float *d_w = to_device(w, B * d), *got = floats(B * d);
    bool *d_solved = to_device<bool>(NULL, B);
    CHECK_CUDA(llm_cuda_ridge_fit(d_w, d_solved, to_device(x, systems * n * d), to_device(y, B * n),
                                  B, n, d, to_device(lam, B), shared_x, 0));
    from_device(got, d_w, B * d);
    from_device(solved, d_solved, B);
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 1 << 18));
    for (size_t b = 0; b < B; b++) {
        memcpy(want, w + b * d, d * sizeof *want);
        const bool fit =
            llm_ridge_fit(want, x + (shared_x ? 0 : b * n * d), y + b * n, n, d, lam[b], &arena);
        CHECK(fit == solved[b] && fit == (b != 2 && b != 3));
        CHECK_ALL_NEAR(got + b * d, want, d, 1e-5f); /* both in double, in another order */
    }
    llm_arena_destroy(&arena);
}

TEST(ridge, "a batch of systems equals llm_ridge_fit, more rows than columns or fewer") {
    const size_t shapes[8][2] = {{1, 1},  {3, 2},   {2, 3},   {20, 7},
                                 {7, 20}, {40, 17}, {33, 40}, {9, 150}};
    for (size_t s = 0; s < (TEST_SLOW ? 5 : 8); s++)
        check_ridge(1 + s % 5, shapes[s][0], shapes[s][1], s % 2 == 1);
    if (!TEST_SLOW) check_ridge(1, 130, LLM_CUDA_RIDGE_MOST, false);
}

TEST(ridge, "by hand; singular without a penalty; lam = 0; what is refused") {
    const float x[16] = {1, 2, 3, 4, 1, 0, 1, 0, 1, 2, 3, 4, 1, 0, 0, 1},
                y[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    const double lam[4] = {0, 0, 0.5, 0};
    float w[8] = {9, 9, 9, 9, 9, 9, 9, 9}, *d_w = to_device(w, 8), *none = NULL;
    bool *d_solved = to_device<bool>(NULL, 4), solved[4], *no_flags = NULL;
    double *d_lam = to_device(lam, 4), *no_lam = NULL;
    float *d_x = to_device(x, 16), *d_y = to_device(y, 8);
    CHECK_CUDA(llm_cuda_ridge_fit(d_w, d_solved, d_x, d_y, 4, 2, 2, d_lam, false, 0));
    from_device(w, d_w, 8);
    from_device(solved, d_solved, 4);
    CHECK(solved[0] && !solved[1] && solved[2] && solved[3]);
    CHECK_NEAR(w[0], 0.0, 1e-5); /* 1 a + 2 b = 1, 3 a + 4 b = 2 */
    CHECK_NEAR(w[1], 0.5, 1e-5);
    CHECK(w[2] == 9.0f && w[3] == 9.0f);
    CHECK_NEAR(w[6], 7.0, 1e-6);
    CHECK_NEAR(w[7], 8.0, 1e-6);
    /* X'X + I/2 = (10.5 14; 14 20.5), X'y = (23; 34): determinant 19.25 */
    CHECK_NEAR(w[4], (23.0 * 20.5 - 14.0 * 34.0) / 19.25, 1e-5);
    CHECK_NEAR(w[5], (10.5 * 34.0 - 14.0 * 23.0) / 19.25, 1e-5);
    CHECK(llm_cuda_ridge_fit(none, no_flags, none, none, 1, 129, 129, no_lam, false, 0) ==
          cudaErrorInvalidValue);
    CHECK_CUDA(llm_cuda_ridge_fit(none, no_flags, none, none, 0, 2, 2, no_lam, false, 0));
}

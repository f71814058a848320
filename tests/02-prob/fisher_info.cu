/* @fisher_info */
#include "../test.h"

#include "../../llm_cuda.cuh"

static void check_fisher(size_t n, size_t K, size_t D, bool labels, float scale) {
    const size_t P = K * D;
    float *z = floats(n * K), *p = floats(n * K), *x = floats(n * D), *s = floats(P);
    float *F = floats(P * P), *got = floats(P * P), *want = floats(P * P);
    double *exact = (double *)test_memory(P * P, sizeof(double));
    int *label = (int *)test_memory(n, sizeof(int));
    llm_rng rng = llm_rng_seed(n + K + D);
    llm_rng_normal_fill(&rng, z, n * K);
    llm_rng_normal_fill(&rng, x, n * D);
    llm_rng_normal_fill(&rng, F, P * P);
    llm_softmax_forward(p, z, n, K, 1.0f);
    for (size_t i = 0; i < n; i++) label[i] = (int)llm_rng_below(&rng, K);
    if (labels)
        llm_fisher_info_empirical(exact, p, x, label, n, K, D, s);
    else
        llm_fisher_info_exact(exact, p, x, n, K, D, s);
    for (size_t a = 0; a < P * P; a++) want[a] = F[a] + scale * (float)((double)n * exact[a]);

    const size_t scratch = llm_cuda_fisher_info_scratch(n, K, D);
    float *d_F = to_device(F, P * P), *d_scratch = to_device<float>(NULL, scratch);
    CHECK_CUDA(llm_cuda_fisher_info(d_F, to_device(p, n * K), to_device(x, n * D),
                                    labels ? to_device(label, n) : NULL, n, K, D, scale, d_scratch,
                                    0));
    from_device(got, d_F, P * P);
    /* sums of n products, up to n large, and one rounding of what was there */
    CHECK_ALL_NEAR(got, want, P * P, 2e-7f * scale * (float)n + 2e-6f);
    for (size_t a = 0; a < P; a++)
        for (size_t b = 0; b < a; b++) /* what was added is symmetric, F need not be */
            CHECK_NEAR(got[a * P + b] - F[a * P + b], got[b * P + a] - F[b * P + a], 1e-6);
}

TEST(fisher_info,
     "exact and empirical equal the reference: tiles of 16, 32, 64 columns and slices") {
    const size_t shapes[8][3] = {{1, 1, 1},   {5, 2, 3},   {17, 3, 16}, {33, 2, 17},
                                 {16, 4, 32}, {40, 2, 33}, {19, 2, 65}, {700, 2, 5}};
    for (size_t s = 0; s < 8; s++) {
        if (TEST_SLOW && s % 2 == 0) continue;
        check_fisher(shapes[s][0], shapes[s][1], shapes[s][2], false, 1.0f);
        check_fisher(shapes[s][0], shapes[s][1], shapes[s][2], true, 0.5f);
    }
}

TEST(fisher_info, "as many slices as fill a card, and nothing is nothing") {
    CHECK(llm_cuda_fisher_info_grams(700, 5, 3).slices == 2);
    CHECK(llm_cuda_fisher_info_grams(255, 5, 3).slices == 1);
    CHECK(llm_cuda_fisher_info_grams(1 << 20, 64, 1).slices == 264);
    CHECK(llm_cuda_fisher_info_grams(1 << 20, 65, 300).slices == 1);
    CHECK(llm_cuda_fisher_info_scratch(1000, 2, 20) == 3 * 32 * 32 * 3);
    float *none = NULL;
    CHECK_CUDA(llm_cuda_fisher_info(none, none, none, (int *)NULL, 0, 3, 4, 1.0f, none, 0));
    for (size_t t = 0, row, column; t < 15; t++) {
        llm_cuda_fisher_info_pair(row, column, t, 5);
        CHECK(row <= column && column < 5 && llm_cuda_fisher_info_place(row, column, 5) == t);
    }
}

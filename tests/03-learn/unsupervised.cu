/* @unsupervised */
#include "../test.h"

#include "../../llm_cuda.cuh"

/* A mixture whose parameters are floats, so that kernel and reference have the same. */
static llm_unsupervised_gmm mixture(float *weight, float *mean, float *L, size_t K, size_t d,
                                    float offset, llm_rng *rng, llm_arena *arena) {
    llm_unsupervised_gmm g = llm_unsupervised_gmm_init(K, d, LLM_UNSUPERVISED_FULL, 0.0, arena);
    for (size_t k = 0; k < K; k++) {
        weight[k] = (0.5f + llm_rng_uniform(rng)) / (float)K;
        g.weight[k] = (double)weight[k];
        for (size_t j = 0; j < d; j++) {
            const size_t at = k * d + j;
            mean[at] = offset + 2.0f * llm_rng_normal(rng);
            g.mean[at] = (double)mean[at];
            for (size_t i = 0; i < d; i++) {
                float l = i < j ? llm_rng_normal(rng) / sqrtf((float)d) : 0.0f;
                if (i == j) l = 0.5f + llm_rng_uniform(rng);
                L[at * d + i] = l;
                g.L[at * d + i] = (double)l;
            }
        }
    }
    return g;
}

static void check_mixture(size_t n, size_t K, size_t d, float offset) {
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 1 << 20));
    llm_rng rng = llm_rng_seed(n + K + d);
    float *weight = floats(K), *mean = floats(K * d), *L = floats(K * d * d), *x = floats(n * d);
    llm_unsupervised_gmm g = mixture(weight, mean, L, K, d, offset, &rng, &arena);
    for (size_t i = 0; i < n; i++) llm_unsupervised_gmm_sample(x + i * d, &g, &rng);
    double *r = (double *)test_memory(n * K, sizeof(double)), got_density;
    float *want_r = floats(n * K), *want_p = floats(n), *got_r = floats(n * K), *got_p = floats(n);
    const double density = llm_unsupervised_gmm_expect(r, want_p, &g, x, n, &arena);
    for (size_t i = 0; i < n * K; i++) want_r[i] = (float)r[i];

    float *d_mean = to_device(mean, K * d), *d_x = to_device(x, n * d);
    float *d_r = to_device<float>(NULL, n * K), *d_p = to_device<float>(NULL, n), *none = NULL;
    float *d_weight = to_device(weight, K), *d_L = to_device(L, K * d * d);
    double *d_density = to_device<double>(NULL, 1);
    double *d_part = to_device<double>(NULL, (n + 31) / 32);
    CHECK_CUDA(llm_cuda_unsupervised_gmm_expect(d_density, d_r, d_p, d_weight, d_mean, d_L, d_x, n,
                                                K, d, d_part, 0));
    /* log densities of some tens, whose squares are sums of d floats */
    CHECK_ALL_CLOSE(from_device(got_p, d_p, n), want_p, n, 1e-5f);
    CHECK_ALL_NEAR(from_device(got_r, d_r, n * K), want_r, n * K, 5e-5f);
    CHECK_NEAR(*from_device(&got_density, d_density, 1), density, 1e-5 * (1.0 + fabs(density)));
    if (n < 50) {
        CHECK_CUDA(llm_cuda_unsupervised_gmm_expect(d_density, none, none, d_weight, d_mean, d_L,
                                                    d_x, n, K, d, d_part, 0));
        CHECK_NEAR(*from_device(&got_density, d_density, 1), density, 1e-5 * (1.0 + fabs(density)));
    }

    /* the M step from the sums, and llm_unsupervised_gmm_maximize from the same responsibilities */
    const llm_cuda_fisher_info_shape shape = llm_cuda_fisher_info_grams(n, d + 1, K);
    float *d_scratch = to_device<float>(NULL, llm_cuda_fisher_info_parts(shape));
    float *d_count = to_device(zeros(K), K), *d_sum = to_device(zeros(K * d), K * d);
    float *d_square = to_device(zeros(K * d * d), K * d * d), *count = floats(K);
    float *sum = floats(K * d), *square = floats(K * d * d);
    CHECK_CUDA(llm_cuda_unsupervised_gmm_statistics(d_count, d_sum, d_square, d_r, d_mean, d_x, n,
                                                    K, d, d_scratch, 0));
    from_device(count, d_count, K);
    from_device(sum, d_sum, K * d);
    from_device(square, d_square, K * d * d);
    for (size_t i = 0; i < n * K; i++) r[i] = (double)got_r[i];
    llm_unsupervised_gmm_maximize(&g, x, r, n); /* singular where a component has few points */
    for (size_t k = 0; k < K; k++) {
        CHECK_NEAR(count[k] / (float)n, g.weight[k], 1e-5);
        if (count[k] < 0.5f) continue; /* ratios of roundings */
        for (size_t a = 0; a < d; a++) {
            const double step = (double)sum[k * d + a] / (double)count[k];
            CHECK_NEAR((double)mean[k * d + a] + step, g.mean[k * d + a], 1e-5);
            for (size_t b = 0; b < d; b++) {
                const double other = (double)sum[k * d + b] / (double)count[k];
                const double S = (double)square[(k * d + a) * d + b] / (double)count[k];
                CHECK_NEAR(S - step * other, g.S[(k * d + a) * d + b], 3e-5);
            }
        }
    }
    llm_arena_destroy(&arena);
}

TEST(unsupervised, "densities, responsibilities and what the M step needs equal the reference") {
    check_mixture(1, 1, 1, 0.0f);
    check_mixture(5, 2, 3, 0.0f);
    check_mixture(33, 3, 2, 1000.0f); /* far from 0: sums about 0 would have no digits left */
    check_mixture(70, 9, 5, 0.0f);
    check_mixture(64, 2, 17, -50.0f);
    check_mixture(40, 35, 4, 0.0f);
    if (TEST_SLOW) return;
    check_mixture(45, 2, 33, 0.0f);
    check_mixture(600, 2, 6, 0.0f); /* slices */
}

TEST(unsupervised, "statistics add up over batches; far points do not underflow; limits") {
    const float x[4] = {0, 1, 1e4f, -1e4f}, weight[2] = {0.25f, 0.75f}, mean[2] = {0, 1};
    const float L[2] = {1, 2};
    float *d_weight = to_device(weight, 2), *d_mean = to_device(mean, 2), *d_L = to_device(L, 2);
    float *d_x = to_device(x, 4), *d_r = to_device<float>(NULL, 8), *d_p = to_device(x, 4);
    double *d_density = to_device<double>(NULL, 1), *d_part = to_device<double>(NULL, 1);
    CHECK_CUDA(llm_cuda_unsupervised_gmm_expect(d_density, d_r, d_p, d_weight, d_mean, d_L, d_x, 4,
                                                2, 1, d_part, 0));
    float r[8], p[4];
    from_device(r, d_r, 8);
    from_device(p, d_p, 4);
    const double near = log(0.25 + 0.375 * exp(-0.125)) - 0.5 * log(2.0 * (double)LLM_PI);
    CHECK_NEAR(p[0], near, 1e-6);
    CHECK(r[5] == 1.0f && r[7] == 1.0f && p[2] < -1e7f && p[3] < -1e7f);

    const size_t parts = llm_cuda_fisher_info_parts(llm_cuda_fisher_info_grams(4, 2, 2));
    float *d_scratch = to_device<float>(NULL, parts), got[2];
    float *d_count = to_device(zeros(2), 2), *d_sum = to_device(zeros(2), 2);
    float *d_square = to_device(zeros(2), 2);
    for (size_t half = 0; half < 2; half++)
        CHECK_CUDA(llm_cuda_unsupervised_gmm_statistics(d_count, d_sum, d_square, d_r + half * 4,
                                                        d_mean, d_x + half * 2, 2, 2, 1, d_scratch,
                                                        0));
    from_device(got, d_count, 2);
    CHECK_NEAR(got[0], r[0] + r[2], 1e-6);
    CHECK_NEAR(got[1], r[1] + r[3] + 2.0f, 1e-6);
    from_device(got, d_sum, 2);
    CHECK_NEAR(got[0], r[2], 1e-6);
    CHECK_NEAR(got[1], -r[1] - 2.0f, 2e-3); /* 9999 and -10001 were added on the way */
    float *none = NULL;
    CHECK(llm_cuda_unsupervised_gmm_expect(d_density, none, none, none, none, none, none, 1, 8, 200,
                                           d_part, 0) == cudaErrorInvalidValue);
    CHECK(llm_cuda_unsupervised_gmm_expect(d_density, none, none, none, none, none, none, 0, 1, 1,
                                           d_part, 0) == cudaErrorInvalidValue);
    CHECK_CUDA(
        llm_cuda_unsupervised_gmm_statistics(none, none, none, none, none, none, 0, 2, 3, none, 0));
}

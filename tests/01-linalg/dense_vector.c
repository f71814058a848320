/* @dense_vector */
#include "../test.h"

#include "../../llm.h"

TEST(dense_vector, "dot, sums in three ways and argmax equal NumPy's") {
    const size_t ns[5] = {1, 7, 8, 17, 130};
    for (size_t k = 0; k < 5; k++) {
        const size_t n = ns[k];
        const float *x = golden("%zu/x", n), *y = golden("%zu/y", n);
        const float d = llm_dense_vector_dot(x, y, n), at = (float)llm_dense_vector_argmax(x, n);
        CHECK_GOLDEN(&d, 1, 2e-6f, "%zu/dot", n); /* 130 terms of size 1 */
        CHECK_GOLDEN(&at, 1, 0.0f, "%zu/argmax", n);
        for (int mode = LLM_DENSE_VECTOR_NAIVE; mode <= LLM_DENSE_VECTOR_NEUMAIER; mode++) {
            const float sum = llm_dense_vector_sum(x, n, mode);
            CHECK_GOLDEN(&sum, 1, mode == LLM_DENSE_VECTOR_NEUMAIER ? 1e-7f : 2e-6f, "%zu/sum", n);
        }
    }
    CHECK_ASSERTS(llm_dense_vector_sum(NULL, 0, 3));
    CHECK_ASSERTS(llm_dense_vector_sum(NULL, 0, -1));
    const float there[3] = {FLT_MAX, 1.0f, -FLT_MAX}; /* as far as floats reach */
    CHECK(llm_dense_vector_sum_neumaier(there, 3) == 1.0f);
}

TEST(dense_vector, "whole numbers add up exactly at every length; axpy, scal, nothing") {
    float x[300], y[300];
    for (size_t i = 0; i < 300; i++) x[i] = (float)(i % 7), y[i] = (float)(i % 5) - 2.0f;
    double sum = 0.0, product = 0.0;
    for (size_t n = 0; n <= 300; n++) {
        for (int mode = LLM_DENSE_VECTOR_NAIVE; mode <= LLM_DENSE_VECTOR_NEUMAIER; mode++)
            CHECK((double)llm_dense_vector_sum(x, n, mode) == sum);
        CHECK((double)llm_dense_vector_dot(x, y, n) == product);
        if (n < 300) sum += (double)x[n], product += (double)x[n] * (double)y[n];
    }
    llm_dense_vector_axpy(y, 2.0f, x, 3); /* -2 -1 0, plus twice 0 1 2 */
    CHECK(y[0] == -2.0f && y[1] == 1.0f && y[2] == 4.0f && y[3] == 1.0f);
    llm_dense_vector_axpy(y, 1.0f, y, 1); /* the first as well */
    CHECK(y[0] == -4.0f && y[1] == 1.0f);
    y[0] = -2.0f;
    llm_dense_vector_scal(y, -0.5f, 2);
    CHECK(y[0] == 1.0f && y[1] == -0.5f && y[2] == 4.0f);
}

TEST(dense_vector, "argmax: the first of equals, NaN before all, -inf") {
    const float tie[4] = {1, 3, 3, 2}, nan[4] = {1, NAN, NAN, INFINITY},
                low[2] = {-INFINITY, -INFINITY};
    const float first[2] = {NAN, 1.0f};
    CHECK(llm_dense_vector_argmax(tie, 4) == 1 && llm_dense_vector_argmax(nan, 4) == 1);
    CHECK(llm_dense_vector_argmax(low, 2) == 0 && llm_dense_vector_argmax(first, 2) == 0);
    CHECK_ASSERTS(llm_dense_vector_argmax(tie, 0));
}

TEST(dense_vector,
     "2^20 terms: errors of the three sums are apart by orders; 0.1 drifts as NumPy's") {
    const size_t n = (size_t)1 << 20;
    float *x = floats(n);
    for (uint64_t seed = 1; seed <= 5; seed++) {
        llm_rng rng = llm_rng_seed(seed);
        double exact = 0.0, off[3];
        for (size_t i = 0; i < n; i++) x[i] = 0.5f + llm_rng_uniform(&rng), exact += (double)x[i];
        for (int mode = 0; mode < 3; mode++)
            off[mode] = fabs((double)llm_dense_vector_sum(x, n, mode) - exact) / exact;
        /* seeds 1 to 13: naive 2.8e-6 to 2.6e-5, pairwise at most 9.2e-8, Neumaier 3.5e-8 */
        CHECK(off[LLM_DENSE_VECTOR_NAIVE] > 1.4e-6);
        CHECK(off[LLM_DENSE_VECTOR_PAIRWISE] < 2e-7);
        CHECK(off[LLM_DENSE_VECTOR_NEUMAIER] <= 6e-8); /* half a unit in the last place */
    }
    for (size_t i = 0; i < n; i++) x[i] = 0.1f;
    const float naive = llm_dense_vector_sum(x, n, LLM_DENSE_VECTOR_NAIVE);
    CHECK_GOLDEN(&naive, 1, 0.0f, "drift/naive");
    const double exact = (double)golden("drift/exact")[0];
    CHECK(fabs((double)naive - exact) > 0.008 * exact); /* 105892 where it should be 104858 */
    CHECK_NEAR(llm_dense_vector_sum(x, n, LLM_DENSE_VECTOR_PAIRWISE), exact, 4e-2);
    /* all errors go one way, and a float collects them: (n eps)^2 = 4e-3 bounds it, 7e-5 is
     * found */
    const double off = fabs((double)llm_dense_vector_sum(x, n, LLM_DENSE_VECTOR_NEUMAIER) - exact);
    CHECK(off < 2e-4 * exact && off > 1e-6 * exact);
}

TEST(dense_vector, "what cancels: Neumaier keeps the small term; infinity and NaN come through") {
    const float cancel[4] = {1.0f, 1e30f, 1.0f, -1e30f};
    CHECK(llm_dense_vector_sum(cancel, 4, LLM_DENSE_VECTOR_NAIVE) == 0.0f);
    CHECK(llm_dense_vector_sum(cancel, 4, LLM_DENSE_VECTOR_NEUMAIER) == 2.0f);
    const float inf[3] = {1.0f, INFINITY, 2.0f}, nan[2] = {1.0f, NAN}, big[2] = {3e38f, 3e38f};
    const float both[2] = {INFINITY, -INFINITY};
    for (int mode = 0; mode < 3; mode++) {
        CHECK(llm_dense_vector_sum(inf, 3, mode) == INFINITY);
        CHECK(isnan(llm_dense_vector_sum(nan, 2, mode)) &&
              isnan(llm_dense_vector_sum(both, 2, mode)));
        CHECK(llm_dense_vector_sum(big, 2, mode) == INFINITY);
    }
}

static double square(float x) { return (double)x * (double)x; }

TEST(dense_vector, "a random map to 600 numbers keeps the 1225 distances of 50 points of 2000") {
    const size_t N = 50, n = 2000, k = 600;
    float *x = zeros(N * n), *y = floats(N * k);
    llm_arena arena;
    CHECK(llm_arena_create(&arena, n * sizeof(float)));
    for (int sparse = 0; sparse < 2; sparse++) {
        llm_rng rng = llm_rng_seed(1);
        for (size_t p = 0; p < N; p++) /* 100 random entries each */
            for (size_t j = 0; j < 100; j++)
                x[p * n + llm_rng_below(&rng, n)] = llm_rng_normal(&rng);
        llm_dense_vector_jl(y, x, N, n, k, sparse == 1, &rng, &arena);
        CHECK(arena.used == 0);
        double mean = 0.0;
        for (size_t p = 0; p < N; p++)
            for (size_t q = 0; q < p; q++) {
                double before = 0.0, after = 0.0;
                for (size_t i = 0; i < n; i++) before += square(x[p * n + i] - x[q * n + i]);
                for (size_t j = 0; j < k; j++) after += square(y[p * k + j] - y[q * k + j]);
                CHECK_NEAR(after / before, 1.0, 0.25); /* 4.3 deviations of sqrt(2/600) */
                mean += after / before / 1225.0;
            }
        CHECK_NEAR(mean, 1.0, 0.03);
    }
    /* linear, the same seed the same map, and the sparse one's entries are -1, 0, 1 times
     * sqrt(3/k) */
    float unit[30] = {0.0f}, image[5], again[5];
    size_t zeros_seen = 0, plus = 0;
    for (size_t i = 0; i < 30; i++) {
        memset(unit, 0, sizeof unit);
        unit[i] = 1.0f;
        llm_rng rng = llm_rng_seed(7);
        llm_dense_vector_jl(image, unit, 1, 30, 5, true, &rng, &arena);
        rng = llm_rng_seed(7);
        llm_dense_vector_jl(again, unit, 1, 30, 5, true, &rng, &arena);
        CHECK_ALL_NEAR(image, again, 5, 0.0f);
        for (size_t j = 0; j < 5; j++) {
            CHECK(image[j] == 0.0f || fabs(fabs((double)image[j]) - sqrt(0.6)) < 1e-6);
            zeros_seen += image[j] == 0.0f, plus += image[j] > 0.0f;
        }
    }
    CHECK(zeros_seen > 80 && zeros_seen < 120 && plus > 10 && plus < 40); /* 100 and 25 of 150 */
    llm_arena_destroy(&arena);
}

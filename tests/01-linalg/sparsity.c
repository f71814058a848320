/* @sparsity */
#include "../test.h"

#include "../../llm.h"

TEST(sparsity, "Hoyer: 0 for equal entries, 1 for one; in between by hand; scale does not matter") {
    const float same[4] = {-2, 2, 2, -2}, one[4] = {0, 0, -7, 0}, mixed[4] = {3, 4, 0, 0},
                zero[2] = {0, 0};
    CHECK_NEAR(llm_sparsity_hoyer(same, 4), 0.0, 1e-7);
    CHECK_NEAR(llm_sparsity_hoyer(one, 4), 1.0, 1e-7);
    CHECK_NEAR(llm_sparsity_hoyer(mixed, 4), 2.0 - 7.0 / 5.0, 1e-7);
    CHECK(isnan(llm_sparsity_hoyer(zero, 2)));
    CHECK_ASSERTS(llm_sparsity_hoyer(one, 1));
    CHECK(llm_sparsity_zeros(mixed, 4, 0.0f) == 0.5f &&
          llm_sparsity_zeros(mixed, 4, 3.0f) == 0.75f);
    CHECK(llm_sparsity_zeros(NULL, 0, 0.0f) == 0.0f);
    CHECK(llm_sparsity_zeros(zero, 1, 0.0f) == 1.0f &&
          llm_sparsity_zeros(one + 2, 1, 0.0f) == 0.0f);
}

TEST(sparsity, "Gini equals the mean difference of all pairs, and 1 - 1/n for a single entry") {
    llm_rng rng = llm_rng_seed(1);
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 1 << 12));
    for (size_t n = 1; n <= 40; n++) {
        float x[40];
        double pairs = 0.0, sum = 0.0;
        llm_rng_normal_fill(&rng, x, n);
        for (size_t i = 0; i < n; i++) sum += fabs((double)x[i]);
        for (size_t i = 0; i < n * n; i++)
            pairs += fabs(fabs((double)x[i / n]) - fabs((double)x[i % n]));
        CHECK_NEAR(llm_sparsity_gini(x, n, &arena), pairs / (2.0 * (double)n * sum), 1e-6);
        for (size_t i = 0; i < n; i++) x[i] = i == n / 2 ? -3.0f : 0.0f;
        CHECK_NEAR(llm_sparsity_gini(x, n, &arena), 1.0 - 1.0 / (double)n, 1e-7);
        for (size_t i = 0; i < n; i++) x[i] = i % 2 ? -0.5f : 0.5f;
        CHECK_NEAR(llm_sparsity_gini(x, n, &arena), 0.0, 1e-6);
    }
    CHECK(arena.used == 0);
    CHECK_ASSERTS(llm_sparsity_gini(NULL, 0, &arena));
    llm_arena_destroy(&arena);
}

TEST(sparsity,
     "2:4 keeps two of four with the largest sum, of all six choices; product as unpacked") {
    llm_rng rng = llm_rng_seed(2);
    for (size_t round = 0; round < 50; round++) {
        enum { M = 3, MOST = 40 };
        const size_t n = 8 * (1 + round % 5), total = M * n;
        float w[M * MOST], back[M * MOST], value[M * MOST / 2], x[MOST], y[M], want[M];
        unsigned char place[M * MOST / 8];
        llm_rng_normal_fill(&rng, w, total);
        if (round % 2)
            for (size_t i = 0; i < total; i++) w[i] = rintf(w[i]); /* ties and zeros */
        llm_sparsity_24_pack(value, place, w, total);
        llm_sparsity_24_unpack(back, value, place, total);
        for (size_t g = 0; g < total; g += 4) {
            float best = 0.0f, kept = 0.0f;
            size_t differ = 0, nonzero = 0;
            for (unsigned mask = 0; mask < 16; mask++) {
                float sum = 0.0f;
                size_t size = 0;
                for (size_t k = 0; k < 4; k++)
                    if (mask >> k & 1) sum += fabsf(w[g + k]), size++;
                if (size == 2) best = fmaxf(best, sum);
            }
            for (size_t k = 0; k < 4; k++) {
                kept += fabsf(back[g + k]);
                nonzero += back[g + k] != 0.0f;
                differ += back[g + k] != 0.0f && back[g + k] != w[g + k];
            }
            CHECK_NEAR(kept, best, 1e-6);
            CHECK(differ == 0 && nonzero <= 2);
        }
        llm_rng_normal_fill(&rng, x, n);
        llm_sparsity_24_apply(y, value, place, x, M, n);
        for (size_t i = 0; i < M; i++) want[i] = (float)dot(back + i * n, x, n);
        CHECK_ALL_NEAR(y, want, M, 1e-6f);
    }
    const float four[4] = {1.0f, -5.0f, 2.0f, 5.0f}, tie[4] = {1, 1, 1, 1};
    float value[2];
    unsigned char place[1];
    llm_sparsity_24_pack(value, place, four, 4);
    CHECK(value[0] == -5.0f && value[1] == 5.0f && place[0] == (1 | 3 << 2));
    llm_sparsity_24_pack(value, place, tie, 4);
    CHECK(place[0] == (0 | 1 << 2));
    const float nan[4] = {NAN, NAN, NAN, NAN};
    llm_sparsity_24_pack(value, place, nan, 4);
    CHECK(place[0] == (0 | 1 << 2) && isnan(value[0]) && isnan(value[1]));
    CHECK_ASSERTS(llm_sparsity_24_pack(value, place, four, 3));
    CHECK_ASSERTS(llm_sparsity_24_apply(value, value, place, four, 1, 4));
}

TEST(sparsity, "memory breaks even just under one half") {
    const double at = llm_sparsity_break_even(1000, 1000, 8);
    CHECK_NEAR(at, 0.5 - 8.0 * 1001.0 / 8e6, 1e-12);
    CHECK_NEAR(llm_sparsity_bytes_csr(1000, at * 1e6, 8), llm_sparsity_bytes_dense(1000, 1000),
               1e-6);
    CHECK(llm_sparsity_bytes_dense(3, 5) == 60.0 && llm_sparsity_bytes_csr(3, 5.0, 4) == 56.0);
    CHECK(llm_sparsity_break_even(2, 2, 5) == 1.0 / 32.0); /* one byte is left */
    CHECK(llm_sparsity_break_even(10, 1, 8) == 0.0); /* the starts alone are more than the matrix */
}

TEST(sparsity, "Hoyer's measure by hand, nine entries") {
    float x[9] = {0.0f};
    x[2] = 2.0f, x[5] = -2.0f; /* (3 - sqrt 2) / 2 */
    CHECK_NEAR(llm_sparsity_hoyer(x, 9), (3.0 - sqrt(2.0)) / 2.0, 1e-6);
}

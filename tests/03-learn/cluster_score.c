/* @cluster_score */
#include "../test.h"

#include "../../llm.h"
#include "../arena.h"

TEST(cluster_score, "ARI, NMI and silhouette equal scikit-learn") {
    const size_t shapes[3][3] = {{5, 2, 3}, {17, 3, 3}, {60, 4, 7}};
    llm_arena arena = test_arena(4096);
    for (size_t s = 0; s < 3; s++) {
        const size_t n = shapes[s][0], A = shapes[s][1], B = shapes[s][2];
        const int *a = as_ints(golden("%zu/a", n), n), *b = as_ints(golden("%zu/b", n), n);
        double table[28];
        llm_cluster_score_table(table, a, b, n, A, B);
        const float got[3] = {
            (float)llm_cluster_score_ari(table, A, B), (float)llm_cluster_score_nmi(table, A, B),
            (float)llm_cluster_score_silhouette(golden("%zu/x", n), a, n, 2, A, &arena)};
        CHECK_GOLDEN(got, 3, 1e-6f, "%zu/scores", n);
    }
    CHECK(arena.used == 0);
}

TEST(cluster_score, "names do not matter; groupings that say nothing; chance is 0") {
    enum { N = 500 };
    const int a[4] = {0, 0, 1, 1}, b[4] = {2, 2, 0, 0}, one[4] = {0, 0, 0, 0},
              bad[4] = {0, 0, 3, 0};
    const int low[4] = {0, -1, 0, 0};
    double table[60];
    llm_arena arena = test_arena(4096);
    llm_cluster_score_table(table, a, b, 4, 2, 3);
    CHECK(llm_cluster_score_ari(table, 2, 3) == 1.0);
    CHECK_NEAR(llm_cluster_score_nmi(table, 2, 3), 1.0, 1e-12);
    llm_cluster_score_table(table, one, one, 4, 1, 1);
    CHECK(llm_cluster_score_ari(table, 1, 1) == 1.0 && llm_cluster_score_nmi(table, 1, 1) == 1.0);
    llm_cluster_score_table(table, a, one, 4, 2, 1);
    CHECK(llm_cluster_score_ari(table, 2, 1) == 0.0 && llm_cluster_score_nmi(table, 2, 1) == 0.0);
    CHECK_ASSERTS(llm_cluster_score_table(table, bad, a, 4, 3, 2));
    CHECK_ASSERTS(llm_cluster_score_table(table, a, bad, 4, 2, 3));
    CHECK_ASSERTS(llm_cluster_score_table(table, low, a, 4, 3, 2));
    CHECK_ASSERTS(llm_cluster_score_table(table, a, low, 4, 2, 3));
    for (size_t seed = 1; seed <= 5; seed++) {
        llm_rng rng = llm_rng_seed(seed);
        int u[N], v[N];
        for (size_t i = 0; i < N; i++)
            u[i] = (int)llm_rng_below(&rng, 5), v[i] = (int)llm_rng_below(&rng, 5);
        llm_cluster_score_table(table, u, v, N, 5, 5);
        CHECK_NEAR(llm_cluster_score_ari(table, 5, 5), 0.0, 0.02);
    }
    const double single[1] = {1.0}, row[4] = {2.0, 3.0, 0.0, 0.0}, column[4] = {2.0, 0.0, 3.0, 0.0};
    CHECK(llm_cluster_score_ari(single, 1, 1) == 1.0); /* one point, and groups without a member */
    CHECK_NEAR(llm_cluster_score_nmi(row, 2, 2), 0.0, 1e-15);
    CHECK_NEAR(llm_cluster_score_nmi(column, 2, 2), 0.0, 1e-15);
    const float x[4] = {0, 1, 10, 10}, near[4] = {0, 0.03125f, 0.3125f, 0.3125f};
    const float equal[4] = {1, 1, 1, 1};
    const int alone[4] = {0, 0, 1, 2};
    /* 0: a 1, b 10; 1: a 1, b 9; the two others are alone */
    CHECK_NEAR(llm_cluster_score_silhouette(x, alone, 4, 1, 3, &arena), (0.9 + 8.0 / 9.0) / 4.0,
               1e-12);
    CHECK_NEAR(llm_cluster_score_silhouette(near, alone, 4, 1, 3, &arena), (0.9 + 8.0 / 9.0) / 4.0,
               1e-12); /* the unit does not matter */
    CHECK(llm_cluster_score_silhouette(equal, a, 4, 1, 2, &arena) == 0.0);
    CHECK_ASSERTS(llm_cluster_score_silhouette(x, one, 4, 1, 1, &arena));
    CHECK_ASSERTS(llm_cluster_score_silhouette(x, bad, 4, 1, 3, &arena));
    CHECK_ASSERTS(llm_cluster_score_silhouette(x, low, 4, 1, 3, &arena));
}

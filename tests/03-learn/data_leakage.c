/* @data_leakage */
#include "../test.h"

#include "../../llm.h"
#include "../arena.h"

TEST(data_leakage,
     "columns chosen outside of the folds predict pure noise; chosen inside they do not") {
    enum { N = 50, D = 5000, K = 100, FOLDS = 5 };
    llm_arena arena = test_arena(1 << 18);
    float *x = floats(N * D), *near = floats(N * K), y[N];
    double error[2] = {0, 0};
    for (size_t seed = 1; seed <= 3; seed++) {
        llm_rng rng = llm_rng_seed(seed);
        int label[N], fold[N];
        bool use[N];
        size_t chosen[K];
        llm_rng_normal_fill(&rng, x, N * D);
        for (size_t i = 0; i < N; i++) label[i] = (int)(i % 2), y[i] = (float)label[i];
        llm_split_kfold_stratified(fold, label, N, 2, FOLDS, &rng, &arena);
        for (int inside = 0; inside < 2; inside++)
            for (int f = 0; f < FOLDS; f++) {
                size_t rows[N];
                for (size_t i = 0; i < N; i++) use[i] = !inside || fold[i] != f;
                llm_data_leakage_select(chosen, K, x, y, use, N, D, &arena);
                for (size_t i = 0; i < N; i++)
                    for (size_t j = 0; j < K; j++) near[i * K + j] = x[i * D + chosen[j]];
                const size_t n = llm_split_rows(rows, fold, N, f, true);
                float *train = floats(n * K);
                int train_label[N];
                llm_split_gather(train, near, rows, n, K);
                for (size_t i = 0; i < n; i++) train_label[i] = label[rows[i]];
                for (size_t i = 0; i < N; i++) { /* one nearest neighbour, as in the book */
                    float share[2];
                    int guess;
                    if (fold[i] != f) continue;
                    llm_supervised_knn_share(share, near + i * K, 1, train, train_label, n, K, 2, 1,
                                             false, &arena);
                    llm_supervised_guess(&guess, share, 1, 2);
                    error[inside] += guess != label[i] ? 1.0 / (3.0 * N) : 0.0;
                }
            }
    }
    CHECK(error[0] < 0.1); /* 8 other sets of three seeds: 0.007 to 0.04, and 0.39 to 0.54 inside */
    CHECK_NEAR(error[1], 0.5, 0.16);
    CHECK(arena.used == 0);
}

TEST(data_leakage, "planted duplicates are found, all of them and nothing else") {
    enum { N = 300, M = 100, D = 3 };
    llm_rng rng = llm_rng_seed(1);
    llm_arena arena = test_arena(1 << 18);
    float train[N * D], test[M * D];
    bool found[M];
    llm_rng_normal_fill(&rng, train, N * D);
    llm_rng_normal_fill(&rng, test, M * D);
    for (size_t i = 0; i < M; i += 7)
        memcpy(test + i * D, train + (2 * i + 1) * D, D * sizeof *test);
    for (size_t i = 3; i < M; i += 7) { /* all but the last bit of one entry */
        memcpy(test + i * D, train + i * D, D * sizeof *test);
        test[i * D + 2] = nextafterf(test[i * D + 2], 9.0f);
    }
    const size_t count = llm_data_leakage_overlap(found, test, M, train, N, D, &arena);
    CHECK(count == 15);
    for (size_t i = 0; i < M; i++) CHECK(found[i] == (i % 7 == 0));
    const float a[4] = {0.0f, NAN, 1, 1}, b[4] = {-0.0f, NAN, 1, 2};
    CHECK(llm_data_leakage_overlap(found, b, 2, a, 2, 2, &arena) == 1 && found[0] && !found[1]);
    CHECK(llm_data_leakage_overlap(found, b, 2, a, 0, 2, &arena) == 0 && !found[0]);
    CHECK(llm_data_leakage_overlap(found, b, 0, a, 2, 2, &arena) == 0);

    const int corpus[8] = {1, 2, 3, 4, 5, 1, 2, 9}, text[6] = {7, 2, 3, 4, 5, 6};
    CHECK_NEAR(llm_data_leakage_ngrams(text, 6, corpus, 8, 3, &arena), 2.0f / 4.0f, 1e-7);
    CHECK_NEAR(llm_data_leakage_ngrams(text, 6, corpus, 8, 1, &arena), 4.0f / 6.0f, 1e-7);
    CHECK(llm_data_leakage_ngrams(corpus, 8, corpus, 8, 8, &arena) == 1.0f);
    CHECK(llm_data_leakage_ngrams(text, 2, corpus, 8, 3, &arena) == 0.0f);
    CHECK(llm_data_leakage_ngrams(text, 6, corpus, 2, 3, &arena) == 0.0f);
    CHECK_ASSERTS(llm_data_leakage_ngrams(text, 6, corpus, 8, 0, &arena));
    CHECK(arena.used == 0);
}

TEST(data_leakage, "tables of every size: what is in them is found, what is not is not") {
    llm_rng rng = llm_rng_seed(3);
    for (size_t n = 1; n <= 120; n++) {
        float train[120], test[240];
        bool found[240];
        int corpus[120], text[120];
        llm_arena arena = test_arena(4096);
        for (size_t i = 0; i < n; i++) {
            train[i] = test[i] = llm_rng_normal(&rng);
            test[n + i] = train[i] + 10.0f;
            corpus[i] = (int)llm_rng_below(&rng, 1 << 20), text[i] = corpus[i] + (1 << 20);
        }
        CHECK(llm_data_leakage_overlap(found, test, 2 * n, train, n, 1, &arena) == n);
        for (size_t i = 0; i < 2 * n; i++) CHECK(found[i] == (i < n));
        for (size_t N = 1; N <= 3 && N <= n; N++) {
            arena = test_arena(4096);
            CHECK(llm_data_leakage_ngrams(corpus, n, corpus, n, N, &arena) == 1.0f);
            CHECK(llm_data_leakage_ngrams(text, n, corpus, n, N, &arena) == 0.0f);
        }
    }
}

TEST(data_leakage, "60000 rows and windows cost no more than linear time") {
    enum { N = 60000 };
    llm_arena arena;
    float *x = floats(N);
    bool *found = bools(N);
    int *text = (int *)test_memory(N, sizeof(int));
    CHECK(llm_arena_create(&arena, 1 << 21));
    for (size_t i = 0; i < N; i++) x[i] = (float)i, text[i] = (int)i;
    CHECK(llm_data_leakage_overlap(found, x, N, x, N, 1, &arena) == N);
    CHECK(llm_data_leakage_ngrams(text, N, text, N, 1, &arena) == 1.0f);
    CHECK(llm_data_leakage_ngrams(text, N, text, N, 2, &arena) == 1.0f);
    llm_arena_destroy(&arena);
}

TEST(data_leakage, "the AUC of one column equals counting pairs; times; NaN") {
    llm_rng rng = llm_rng_seed(2);
    llm_arena arena = test_arena(1 << 18);
    for (size_t round = 0; round < 50; round++) {
        float x[20];
        bool y[20];
        double wins = 0.0, pairs = 0.0;
        const size_t n = 1 + llm_rng_below(&rng, 20);
        for (size_t i = 0; i < n; i++)
            x[i] = (float)llm_rng_below(&rng, 5), y[i] = llm_rng_below(&rng, 2) == 0;
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < n; j++) {
                if (!y[i] || y[j]) continue;
                pairs += 1.0;
                wins += x[i] > x[j] ? 1.0 : x[i] == x[j] ? 0.5 : 0.0;
            }
        CHECK_NEAR(llm_data_leakage_auc(x, y, n, &arena), pairs > 0.0 ? wins / pairs : 0.5, 1e-12);
    }
    const float bad[2] = {NAN, 1};
    const bool y[2] = {true, false};
    CHECK_ASSERTS(llm_data_leakage_auc(bad, y, 2, &arena));
    const double known[4] = {3, 2, 1, (double)NAN}, predicted[4] = {2, 2, 2, 2};
    bool late[4] = {false, true, true, false};
    CHECK(llm_data_leakage_time(late, known, predicted, 4) == 2);
    CHECK(late[0] && !late[1] && !late[2] && late[3]);
}

TEST(data_leakage, "target encoding: by hand, and of a category without meaning") {
    const int category[5] = {0, 0, 1, -1, 0}, fold[5] = {0, 1, 0, 1, 1};
    const float y[5] = {1, 0, 1, 0, 0.5f};
    float x[5];
    llm_arena arena = test_arena(1 << 18);
    llm_data_leakage_target_encode(x, category, y, fold, 5, 2, 1.0, &arena);
    /* fold 0 sees rows 1, 3, 4: mean 1/6; category 0: (0.5 + 1/6) / 3. Fold 1 sees 0 and 2: mean
     * 1 */
    const float want[5] = {(0.5f + 1.0f / 6.0f) / 3.0f, 1.0f, 1.0f / 6.0f, 1.0f, 1.0f};
    CHECK_ALL_NEAR(x, want, 5, 1e-6);
    llm_data_leakage_target_encode(x, category, y, NULL, 5, 2, 0.0, &arena);
    const float all[5] = {0.5f, 0.5f, 1.0f, 0.5f, 0.5f};
    CHECK_ALL_NEAR(x, all, 5, 1e-6);
    llm_data_leakage_target_encode(x, category, y, category, 1, 2, 1.0, &arena);
    CHECK(x[0] == 0.0f); /* no row of another fold */
    /* row 0 sees the others: mean 1/4, (0 + 2/4) / 3; they see row 0 alone: mean 1 */
    const int two[3] = {0, 0, 1}, late[3] = {1, 0, 0};
    const float y3[3] = {1, 0, 0.5f}, want3[3] = {1.0f / 6.0f, 1, 1};
    llm_data_leakage_target_encode(x, two, y3, late, 3, 2, 2.0, &arena);
    CHECK_ALL_NEAR(x, want3, 3, 1e-6);
    CHECK_ASSERTS(llm_data_leakage_target_encode(x, two, y3, NULL, 1, 0, 0.0, &arena));
    const int high[1] = {2}, low[1] = {-2};
    CHECK_ASSERTS(llm_data_leakage_target_encode(x, high, y, NULL, 1, 2, 0.0, &arena));
    CHECK_ASSERTS(llm_data_leakage_target_encode(x, low, y, NULL, 1, 2, 0.0, &arena));

    enum { N = 1000, C = 200 };
    double mean = 0.0;
    for (size_t seed = 1; seed <= 5; seed++) {
        llm_rng rng = llm_rng_seed(seed);
        int random[N], part[N];
        float t[N], code[N];
        bool truth[N];
        for (size_t i = 0; i < N; i++) {
            random[i] = (int)llm_rng_below(&rng, C);
            truth[i] = llm_rng_below(&rng, 2) == 0;
            t[i] = truth[i] ? 1.0f : 0.0f;
        }
        llm_split_kfold(part, N, 5, &rng, &arena);
        llm_data_leakage_target_encode(code, random, t, NULL, N, C, 1.0, &arena);
        CHECK(llm_data_leakage_auc(code, truth, N, &arena) > 0.7);
        llm_data_leakage_target_encode(code, random, t, part, N, C, 1.0, &arena);
        mean += llm_data_leakage_auc(code, truth, N, &arena) / 5.0;
    }
    CHECK_NEAR(mean, 0.5, 0.06);
    CHECK(arena.used == 0);
}

TEST(data_leakage, "selection by hand: the sign does not matter, constant columns come last") {
    const float x[12] = {1, 5, 0, 2, 5, 1, 3, 5, 0, 4, 5, -9}, y[4] = {4, 3, 2, 1};
    const bool all[4] = {true, true, true, true}, three[4] = {true, true, true, false};
    size_t chosen[3];
    llm_arena arena = test_arena(1 << 18);
    llm_data_leakage_select(chosen, 3, x, y, all, 4, 3, &arena);
    CHECK(chosen[0] == 0 && chosen[1] == 2 && chosen[2] == 1);
    const float z[4] = {0, 1, 0, 5};
    llm_data_leakage_select(chosen, 1, x, z, three, 4, 3,
                            &arena); /* the last row is not looked at */
    CHECK(chosen[0] == 2);
    CHECK_ASSERTS(llm_data_leakage_select(chosen, 4, x, y, all, 4, 3, &arena));
    const float still[8] = {7, 1, 7, -1, 7, 1, 7, -1}, pairs[4] = {1, 1, 2, 2}; /* correlation 0 */
    llm_data_leakage_select(chosen, 2, still, pairs, all, 4, 2, &arena);
    CHECK(chosen[0] == 1 && chosen[1] == 0);
    CHECK(llm_data_leakage_compare(x, x + 3, 3) == -llm_data_leakage_compare(x + 3, x, 3));
}

TEST(data_leakage, "selection equals the correlations of the rows in use, one by one") {
    enum { N = 9, D = 12 };
    llm_rng rng = llm_rng_seed(4);
    llm_arena arena = test_arena(1 << 18);
    for (size_t round = 0; round < 20; round++) {
        float x[N * D], y[N], key[D];
        bool use[N];
        size_t chosen[D], want[D], rows = 0;
        double mean_y = 0.0;
        for (size_t i = 0; i < N; i++) {
            use[i] = i < 3 || llm_rng_below(&rng, 2) == 0;
            y[i] = (use[i] ? 5.0f : -90.0f) + llm_rng_normal(&rng);
            for (size_t j = 0; j < D; j++) x[i * D + j] = (float)j + llm_rng_normal(&rng);
            if (use[i]) mean_y += (double)y[i], rows++;
        }
        mean_y /= (double)rows;
        for (size_t j = 0; j < D; j++) {
            double mean = 0.0, xy = 0.0, xx = 0.0;
            for (size_t i = 0; i < N; i++)
                mean += use[i] ? (double)x[i * D + j] / (double)rows : 0.0;
            for (size_t i = 0; i < N; i++) {
                const double dx = use[i] ? (double)x[i * D + j] - mean : 0.0;
                xy += dx * ((double)y[i] - mean_y), xx += dx * dx;
            }
            key[j] = -(float)(fabs(xy) / sqrt(xx));
        }
        llm_argsort(want, key, D);
        llm_data_leakage_select(chosen, D, x, y, use, N, D, &arena);
        for (size_t j = 0; j < D; j++) CHECK(chosen[j] == want[j]);
    }
    CHECK(arena.used == 0);
}

/* @split */
#include "../test.h"

#include "../../llm.h"

static llm_arena split_arena(void) {
    llm_arena arena;
    memset(&arena, 0, sizeof arena);
    arena.size = 1 << 16;
    arena.memory = (unsigned char *)test_memory(arena.size, 1);
    memset(arena.memory, 255, arena.size); /* NaN */
    return arena;
}

static void split_check(const int *got, const float *want, size_t n) {
    float *as_float = floats(n);
    for (size_t i = 0; i < n; i++) as_float[i] = (float)got[i];
    CHECK_ALL_NEAR(as_float, want, n, 0.0f);
}

TEST(split, "folds in order equal scikit-learn: plain, stratified, groups, series") {
    const size_t shapes[4][2] = {{3, 3}, {7, 2}, {13, 5}, {20, 4}};
    const size_t series[3][3] = {{7, 2, 0}, {13, 5, 1}, {20, 3, 4}};
    llm_arena arena = split_arena();
    int fold[31];
    for (size_t s = 0; s < 4; s++) {
        const size_t n = shapes[s][0], k = shapes[s][1];
        const int *label = as_ints(golden("%zu/%zu/label", n, k), n);
        llm_split_kfold(fold, n, k, NULL, &arena);
        split_check(fold, golden("%zu/%zu/plain", n, k), n);
        if (s == 0) continue;
        llm_split_kfold_stratified(fold, label, n, 3, k, NULL, &arena);
        split_check(fold, golden("%zu/%zu/stratified", n, k), n);
    }
    for (size_t s = 0; s < 3; s++) {
        const size_t n = series[s][0], k = series[s][1], gap = series[s][2];
        const float *ends = golden("series/%zu/%zu/%zu/ends", n, k, gap);
        for (size_t f = 0; f < k; f++) {
            size_t train_end, begin, end;
            llm_split_series(&train_end, &begin, &end, n, k, f, gap);
            CHECK(train_end == (size_t)ends[3 * f] && begin == (size_t)ends[3 * f + 1]);
            CHECK(end == (size_t)ends[3 * f + 2]);
        }
    }
    const float equal[3] = {2, 2, 2};
    llm_split_groups(fold, as_ints(golden("group/group"), 31), 31, 7, equal, 3, &arena);
    split_check(fold, golden("group/fold"), 31);
    CHECK(arena.used == 0 && arena.peak > 0);
}

TEST(split,
     "shuffled stratified folds: a partition, class counts within one, another one each time") {
    enum { N = 101, K = 4 };
    llm_arena arena = split_arena();
    llm_rng rng = llm_rng_seed(5);
    int label[N], fold[N], before[N];
    for (size_t i = 0; i < N; i++)
        label[i] = i % 10 < 7 ? 3 : (int)(i % 3); /* class sizes differ */
    memset(before, 0, sizeof before);
    for (size_t k = 1; k <= 101; k += 20) {
        size_t count[N][K], size[N], most = 0, least = N, same = 0;
        memset(count, 0, sizeof count);
        memset(size, 0, sizeof size);
        llm_split_kfold_stratified(fold, label, N, K, k, &rng, &arena);
        for (size_t i = 0; i < N; i++) {
            CHECK(fold[i] >= 0 && (size_t)fold[i] < k);
            count[fold[i]][label[i]]++;
            size[fold[i]]++;
            same += fold[i] == before[i];
            before[i] = fold[i];
        }
        for (size_t f = 0; f < k; f++) {
            most = size[f] > most ? size[f] : most;
            least = size[f] < least ? size[f] : least;
            for (size_t c = 0; c < K; c++)
                for (size_t h = 0; h < f; h++)
                    CHECK(count[f][c] <= count[h][c] + 1 && count[h][c] <= count[f][c] + 1);
        }
        CHECK(most - least <= 1);
        CHECK(k == 1 || same < N / 2);
    }
    CHECK_ASSERTS(llm_split_kfold_stratified(fold, label, N, K, 0, &rng, &arena));
    CHECK_ASSERTS(llm_split_kfold_stratified(fold, label, N, K, N + 1, &rng, &arena));
    CHECK_ASSERTS(llm_split_kfold_stratified(fold, label, N, 3, 2, &rng, &arena));
    label[0] = -1;
    CHECK_ASSERTS(llm_split_kfold_stratified(fold, label, N, K, 2, &rng, &arena));
    llm_split_kfold(fold, N, 5, &rng, &arena);
    size_t size[5] = {0}, moved = 0;
    for (size_t i = 0; i < N; i++) size[fold[i]]++, moved += (size_t)fold[i] != i / 21;
    CHECK(size[0] == 21 && size[1] == 20 && size[4] == 20 && moved > N / 2);
    CHECK_ASSERTS(llm_split_kfold(fold, N, 0, &rng, &arena));
    CHECK_ASSERTS(llm_split_kfold(fold, N, N + 1, &rng, &arena));
}

TEST(split,
     "parts: the shares, of every class too, and every example equally likely in each part") {
    enum { N = 50 };
    llm_arena arena = split_arena();
    int part[N], label[N];
    const float share[3] = {8, 1, 1}, odd[3] = {0.5f, 0, 0.25f};
    llm_split_parts(part, NULL, N, 0, share, 3, NULL, &arena);
    for (size_t i = 0; i < 10; i++) /* at i = 3 lack 0.2, 0.4, 0.4; at i = 6 0.6, -0.3, 0.7 */
        CHECK(part[i] == (i == 3 ? 1 : i == 6 ? 2 : 0));
    size_t where[N] = {0};
    llm_rng rng = llm_rng_seed(6);
    for (size_t round = 0; round < 4000; round++) {
        size_t count[3] = {0};
        llm_split_parts(part, NULL, N, 0, share, 3, &rng, &arena);
        for (size_t i = 0; i < N; i++) count[part[i]]++, where[i] += part[i] == 2;
        CHECK(count[0] == 40 && count[1] == 5 && count[2] == 5);
    }
    double chi = 0.0; /* 400 each; 49 degrees of freedom, p = 0.001 at 85.4; less variance here */
    for (size_t i = 0; i < N; i++)
        chi += ((double)where[i] - 400.0) * ((double)where[i] - 400.0) / 400.0;
    CHECK(chi < 85.4);

    for (size_t i = 0; i < N; i++) label[i] = i < 30 ? 1 : i < 42 ? 0 : 2; /* 12, 30, 8 */
    llm_split_parts(part, label, N, 3, odd, 3, &rng, &arena);
    size_t count[3][3] = {{0}};
    for (size_t i = 0; i < N; i++) count[label[i]][part[i]]++;
    const size_t size[3] = {12, 30, 8};
    for (size_t c = 0; c < 3; c++) {
        CHECK(count[c][1] == 0);
        CHECK(3 * count[c][0] <= 2 * size[c] + 3 && 3 * count[c][0] + 3 >= 2 * size[c]);
    }
    llm_split_parts(part, label, 0, 3, odd, 3, &rng, &arena);
    CHECK_ASSERTS(llm_split_parts(part, label, N, 2, odd, 3, &rng, &arena));
    label[0] = -1;
    CHECK_ASSERTS(llm_split_parts(part, label, N, 3, odd, 3, &rng, &arena));
    CHECK_ASSERTS(llm_split_parts(part, NULL, N, 3, odd, 0, &rng, &arena));
    CHECK(arena.used == 0);
}

TEST(split, "groups: none straddles, and unequal shares are met") {
    enum { N = 200, G = 40 };
    llm_arena arena = split_arena();
    llm_rng rng = llm_rng_seed(7);
    int group[N], part[N], home[G];
    for (size_t i = 0; i < N; i++)
        group[i] = (int)llm_rng_below(&rng, G - 1); /* the last is empty */
    for (size_t g = 0; g < G; g++) home[g] = -1;
    const float share[2] = {3, 1};
    size_t test = 0;
    llm_split_groups(part, group, N, G, share, 2, &arena);
    for (size_t i = 0; i < N; i++) {
        CHECK(home[group[i]] == -1 || home[group[i]] == part[i]);
        home[group[i]] = part[i];
        test += part[i] == 1;
    }
    CHECK(test >= 48 && test <= 52);
    llm_split_groups(part, group, N, G, share, 1, &arena); /* one part of everything */
    for (size_t i = 0; i < N; i++) CHECK(part[i] == 0);
    llm_split_parts(part, NULL, N, 0, share, 1, &rng, &arena);
    for (size_t i = 0; i < N; i++) CHECK(part[i] == 0);
    llm_split_kfold(part, N, 1, &rng, &arena);
    for (size_t i = 0; i < N; i++) CHECK(part[i] == 0);
    CHECK_ASSERTS(llm_split_groups(part, group, N, G, share, 0, &arena));
    CHECK_ASSERTS(llm_split_groups(part, group, N, 3, share, 2, &arena));
    group[0] = G;
    CHECK_ASSERTS(llm_split_groups(part, group, N, G, share, 2, &arena));
    group[0] = -1;
    CHECK_ASSERTS(llm_split_groups(part, group, N, G, share, 2, &arena));
}

TEST(split, "rows of a part and of the others, gathered; series that do not fit") {
    const int part[5] = {0, 1, 0, 2, 1};
    const float x[10] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9};
    size_t index[5], train_end, begin, end;
    float out[10];
    CHECK(llm_split_rows(index, part, 5, 1, false) == 2 && index[0] == 1 && index[1] == 4);
    llm_split_gather(out, x, index, 2, 2);
    CHECK(out[0] == 2 && out[1] == 3 && out[2] == 8 && out[3] == 9);
    CHECK(llm_split_rows(index, part, 5, 1, true) == 3 && index[1] == 2 && index[2] == 3);
    CHECK(llm_split_rows(index, part, 5, 7, false) == 0);
    llm_split_series(&train_end, &begin, &end, 2, 1, 0, 0);
    CHECK(train_end == 1 && begin == 1 && end == 2);
    CHECK_ASSERTS(llm_split_series(&train_end, &begin, &end, 4, 4, 0, 0));
    CHECK_ASSERTS(llm_split_series(&train_end, &begin, &end, 4, 0, 0, 0));
    CHECK_ASSERTS(llm_split_series(&train_end, &begin, &end, 4, 2, 2, 0));
    CHECK_ASSERTS(llm_split_series(&train_end, &begin, &end, 4, 3, 0, 1));
}

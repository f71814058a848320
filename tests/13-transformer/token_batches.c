/* @token_batches */
#include "../test.h"

#include "../../llm.h"

#include "../arena.h"

enum { MOST = 600 };

/* Lengths as texts have them: many short, few long. */
static void lengths(size_t *source, size_t *target, size_t n, llm_rng *rng) {
    for (size_t i = 0; i < n; i++) {
        const float tail = -logf(1.0f - llm_rng_uniform(rng));
        source[i] = 1 + (size_t)fminf(90.0f, 20.0f * tail);
        target[i] = source[i] + llm_rng_below(rng, 5);
    }
}

TEST(token_batches, "each pair stands in one batch, none is above the budget on either side, and a "
                    "batch is closed only when it is full") {
    static size_t source[MOST], target[MOST], order[MOST], start[MOST + 1];
    llm_rng rng = llm_rng_seed(1);
    for (size_t k = 0; k < 60; k++) {
        const size_t N = k < 4 ? k : 1 + llm_rng_below(&rng, MOST), pool = k % 3 ? 1 + 37 * k : 0;
        const size_t budget = 95 + llm_rng_below(&rng, 400);
        bool seen[MOST] = {false};
        size_t batches = 99;
        llm_arena arena = test_arena(1 << 16);
        lengths(source, target, N, &rng);
        memset(start, 0xff, sizeof start);
        const size_t *other = k % 2 ? target : NULL;
        CHECK(llm_token_batches_make(order, start, &batches, source, other, N, budget, pool, &rng,
                                     &arena, NULL));
        CHECK(arena.used == 0);
        CHECK(start[0] == 0 && start[batches] == N && (N > 0) == (batches > 0));
        for (size_t i = 0; i < N; i++) {
            CHECK(order[i] < N && !seen[order[i]]);
            seen[order[i]] = true;
        }
        size_t most[2]; /* the longest of each side */
        for (size_t b = 0; b < batches; b++) {
            most[0] = most[1] = 0;
            CHECK(start[b + 1] > start[b]);
            for (size_t i = start[b]; i < start[b + 1]; i++) {
                const size_t s = source[order[i]], t = other ? other[order[i]] : 0;
                most[0] = s > most[0] ? s : most[0], most[1] = t > most[1] ? t : most[1];
            }
            CHECK((start[b + 1] - start[b]) * most[0] <= budget);
            CHECK((start[b + 1] - start[b]) * most[1] <= budget);
        }
        if (pool) continue;
        size_t many[100] = {0}, rows = 0,
               want = N > 0; /* by counting: as few as a greedy cut needs */
        for (size_t i = 0; i < N; i++) many[other && other[i] > source[i] ? other[i] : source[i]]++;
        for (size_t w = 1; w < 100; w++)
            for (; many[w] > 0; many[w]--, rows++)
                if ((rows + 1) * w > budget) want++, rows = 0;
        CHECK(batches == want);
    }
}

TEST(token_batches, "texts of one length: full batches and no padding; sorted ones are cut as by "
                    "hand") {
    static size_t source[MOST], order[MOST], start[MOST + 1];
    size_t batches;
    llm_rng rng = llm_rng_seed(2);
    llm_arena arena = test_arena(1 << 16);
    for (size_t i = 0; i < 25; i++) source[i] = 7;
    CHECK(llm_token_batches_make(order, start, &batches, source, NULL, 25, 30, 0, &rng, &arena,
                                 NULL));
    CHECK(batches == 7); /* 4 rows each, the last one 1 */
    CHECK(llm_token_batches_padding(order, start, batches, source) == 0.0);
    size_t ones = 0;
    for (size_t b = 0; b < 7; b++) ones += start[b + 1] - start[b] == 1;
    CHECK(ones == 1);

    /* 1 1 2 | 3 3 | 4 | 6 with a budget of 6: rows of 3, 2, 1, 1; 8 is too long */
    const size_t mixed[7] = {3, 6, 1, 2, 4, 3, 1}, target[7] = {1, 1, 1, 1, 1, 2, 1};
    CHECK(
        llm_token_batches_make(order, start, &batches, mixed, target, 7, 6, 0, &rng, &arena, NULL));
    CHECK(batches == 4);
    size_t rows[4] = {0};
    for (size_t b = 0; b < 4; b++) rows[start[b + 1] - start[b]]++;
    CHECK(rows[1] == 2 && rows[2] == 1 && rows[3] == 1);
    CHECK_NEAR(llm_token_batches_padding(order, start, 4, mixed), 1.0 - 20.0 / 22.0, 1e-12);
    CHECK_NEAR(llm_token_batches_padding(order, start, 4, target), 1.0 - 8.0 / 9.0, 1e-12);
    CHECK(llm_token_batches_padding(order, start, 0, mixed) == 0.0);
    /* pools of 3 are sorted up, then down, so that the long ones meet at their border: by counting
     * the six places, no padding in 4 of 5 orders, and in 1 of 5 if both were sorted up */
    const size_t two[6] = {1, 6, 1, 1, 6, 1};
    size_t none = 0;
    for (size_t i = 0; i < 400; i++) {
        CHECK(llm_token_batches_make(order, start, &batches, two, NULL, 6, 12, 3, &rng, &arena,
                                     NULL));
        none += llm_token_batches_padding(order, start, batches, two) == 0.0;
    }
    CHECK(none > 288 && none < 352);   /* four standard errors of 320 */
    const size_t empty[3] = {0, 0, 0}; /* a text of nothing still is a row */
    CHECK(llm_token_batches_make(order, start, &batches, empty, NULL, 3, 2, 0, &rng, &arena, NULL));
    CHECK(batches == 2 && llm_token_batches_padding(order, start, 2, empty) == 0.0);
}

TEST(token_batches,
     "one seed, one epoch; orders of equal pairs and of batches are equally likely") {
    static size_t source[MOST], target[MOST], order[MOST], again[MOST], start[MOST + 1];
    size_t batches, other;
    llm_arena arena = test_arena(1 << 16);
    llm_rng rng = llm_rng_seed(3);
    lengths(source, target, MOST, &rng);
    for (size_t pool = 0; pool < 200; pool += 100) {
        llm_rng first = llm_rng_seed(7), second = llm_rng_seed(7), third = llm_rng_seed(8);
        llm_token_batches_make(order, start, &batches, source, target, MOST, 300, pool, &first,
                               &arena, NULL);
        llm_token_batches_make(again, start, &other, source, target, MOST, 300, pool, &second,
                               &arena, NULL);
        CHECK(batches == other && memcmp(order, again, sizeof order) == 0);
        llm_token_batches_make(again, start, &other, source, target, MOST, 300, pool, &third,
                               &arena, NULL);
        CHECK(memcmp(order, again, sizeof order) != 0);
    }
    /* three lengths that stand alone: 6 orders of batches; three equal ones in one batch: 6
     * orders */
    const size_t alone[3] = {4, 5, 6}, equal[3] = {2, 2, 2};
    for (size_t k = 0; k < 2; k++) {
        size_t seen[27] = {0};
        double chi = 0.0;
        for (size_t i = 0; i < 6000; i++) {
            CHECK(llm_token_batches_make(order, start, &batches, k ? equal : alone, NULL, 3, 6, 0,
                                         &rng, &arena, NULL));
            CHECK(batches == (k ? 1 : 3));
            seen[order[0] * 9 + order[1] * 3 + order[2]]++;
        }
        for (size_t i = 0; i < 27; i++)
            if (seen[i] > 0)
                chi += ((double)seen[i] - 1000.0) * ((double)seen[i] - 1000.0) / 1000.0;
        CHECK(chi < 20.5); /* 5 degrees of freedom: 0.001 */
    }
}

TEST(token_batches, "sorting leaves little padding; pools leave more, and no sorting most of it") {
    static size_t source[MOST], target[MOST], order[MOST], start[MOST + 1];
    double share[3];
    llm_arena arena = test_arena(1 << 16);
    for (uint64_t seed = 1; seed <= 1; seed++) {
        const size_t pool[3] = {0, 100, 1};
        size_t batches[3];
        llm_rng rng = llm_rng_seed(seed);
        lengths(source, target, MOST, &rng);
        for (size_t k = 0; k < 3; k++) {
            llm_token_batches_make(order, start, &batches[k], source, target, MOST, 400, pool[k],
                                   &rng, &arena, NULL);
            share[k] = llm_token_batches_padding(order, start, batches[k], source);
        }
        /* 9 seeds: 0.102 to 0.123, 0.187 to 0.226, 0.546 to 0.585; 35 to 39 batches, 82 to 90 */
        CHECK(share[0] < share[1] - 0.04 && share[1] < share[2] - 0.17);
        CHECK(batches[0] < batches[2] - 20);
    }
}

TEST(token_batches, "a pair above the budget is named, whichever side it is") {
    size_t order[3], start[4], batches;
    const size_t source[3] = {4, 9, 3}, target[3] = {2, 1, 11};
    llm_rng rng = llm_rng_seed(1);
    llm_arena arena = test_arena(1 << 12);
    llm_error e;
    batches = 99;
    CHECK_FAILS(
        llm_token_batches_make(order, start, &batches, source, target, 3, 8, 0, &rng, &arena, &e),
        e, "pair 1 has 9 tokens on one side, the budget is 8");
    CHECK(batches == 0 && arena.used == 0);
    CHECK_FAILS(
        llm_token_batches_make(order, start, &batches, source, target, 3, 10, 0, &rng, &arena, &e),
        e, "pair 2 has 11 tokens on one side, the budget is 10");
    CHECK(
        llm_token_batches_make(order, start, &batches, source, target, 3, 11, 0, &rng, &arena, &e));
    CHECK_FAILS(
        llm_token_batches_make(order, start, &batches, source, target, 3, 3, 0, &rng, &arena, &e),
        e, "pair 0 has 4 tokens on one side, the budget is 3");
    /* what a float cannot count is refused */
    size_t longest[1] = {(1 << 24) - 1};
    CHECK(llm_token_batches_make(order, start, &batches, longest, NULL, 1, SIZE_MAX, 0, &rng,
                                 &arena, &e));
    longest[0]++;
    CHECK_ASSERTS(llm_token_batches_make(order, start, &batches, longest, NULL, 1, SIZE_MAX, 0,
                                         &rng, &arena, &e));
}

TEST(token_batches, "pools are sorted up and down in turn; a shuffle of n takes n - 1 draws") {
    enum { N = 14, POOL = 3 }; /* the last one of two */
    const size_t source[N] = {9, 4, 1, 7, 2, 13, 5, 11, 3, 8, 14, 6, 10, 12};
    size_t order[N], start[N + 1], batches;
    llm_rng rng = llm_rng_seed(5);
    llm_arena arena = test_arena(64 + 2 * 128 + 128); /* what the comment asks for */
    for (size_t round = 0; round < 20; round++) {
        CHECK(llm_token_batches_make(order, start, &batches, source, NULL, N, 1000, POOL, &rng,
                                     &arena, NULL));
        CHECK(batches == 1); /* as it was sorted */
        for (size_t i = 1; i < N; i++)
            if (i % POOL) CHECK((source[order[i]] > source[order[i - 1]]) == (i / POOL % 2 == 0));
    }
    for (size_t n = 0; n < 5; n++) {
        llm_rng same = rng;
        llm_token_batches_shuffle(order, n, &rng);
        for (size_t i = n; i > 1; i--) llm_rng_below(&same, i);
        CHECK(llm_rng_u32(&rng) == llm_rng_u32(&same));
    }
}

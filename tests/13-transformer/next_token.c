/* @next_token */
#include "../test.h"

#include "../../llm.h"

TEST(next_token, "loss and gradient equal those of transformers' causal models with labels") {
    enum { B = 3, T = 6, V = 5 };
    const int *ids = as_ints(golden("loss/ids"), B * T);
    const bool *mask = as_bools(golden("loss/mask"), B * T);
    const float *logits = golden("loss/logits");
    float *dlogits = zeros(B * T * V);
    int chosen[B * T];
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 3 * 128));
    const size_t count = llm_next_token_targets(chosen, ids, mask, B, T);
    const float scale = 1.0f / (float)count;
    const float loss = llm_next_token_loss(dlogits, logits, ids, mask, B, T, V, scale, &arena);
    CHECK_GOLDEN(&loss, 1, 1e-6f, "loss/loss");
    CHECK_GOLDEN(dlogits, B * T * V, 1e-6f, "loss/dlogits");
    CHECK(llm_next_token_loss(NULL, logits, ids, mask, B, T, V, scale, &arena) == loss);
    CHECK(arena.used == 0);
    llm_arena_destroy(&arena);
}

TEST(next_token,
     "the target is one further, never across the end of a row, never where it is masked") {
    const int ids[8] = {10, 11, 12, 13, 20, 21, 22, 23};
    const bool mask[8] = {false, true, false, true, true, false, false, true};
    int target[8];
    const int no = LLM_CROSS_ENTROPY_IGNORE;
    const int all[8] = {11, 12, 13, no, 21, 22, 23, no}, some[8] = {11, no, 13, no, no, no, 23, no};
    CHECK(llm_next_token_targets(target, ids, NULL, 2, 4) == 6);
    CHECK(memcmp(target, all, sizeof all) == 0);
    CHECK(llm_next_token_targets(target, ids, mask, 2, 4) == 3);
    CHECK(memcmp(target, some, sizeof some) == 0);
    CHECK(llm_next_token_targets(target, ids, NULL, 8, 1) == 0);
}

TEST(next_token, "nothing to predict is a loss of 0, not NaN; equal logits cost ln V") {
    enum { T = 4, V = 9 };
    const int ids[T] = {1, 2, 3, 4};
    const bool none[T] = {true, false, false, false};
    float logits[T * V], dlogits[T * V] = {0};
    llm_arena arena;
    for (size_t i = 0; i < T * V; i++) logits[i] = 3.0f;
    CHECK(llm_arena_create(&arena, 1024));
    CHECK(llm_next_token_loss(dlogits, logits, ids, none, 1, T, V, 1.0f, &arena) == 0.0f);
    for (size_t i = 0; i < T * V; i++) CHECK(dlogits[i] == 0.0f);
    CHECK_NEAR(llm_next_token_loss(NULL, logits, ids, NULL, 1, T, V, 1.0f, &arena), logf(9.0f),
               1e-6f);
    llm_arena_destroy(&arena);
}

TEST(next_token, "micro-batches weighted by their tokens give the loss and gradient of the whole; "
                 "plain means do not") {
    enum { T = 8, V = 5, B = 2 };
    llm_rng rng = llm_rng_seed(1);
    float logits[B * T * V], whole[B * T * V] = {0}, parts[B * T * V] = {0}, plain[B * T * V] = {0};
    int ids[B * T], target[B * T];
    bool mask[B * T];
    llm_arena arena;
    llm_next_token_sum sum = {0.0, 0};
    llm_rng_normal_fill(&rng, logits, B * T * V);
    for (size_t i = 0; i < B * T; i++) {
        ids[i] = (int)llm_rng_below(&rng, V);
        mask[i] = i < T ? i < 2 : true; /* 1 counted token in the first row, 7 in the second */
    }
    CHECK(llm_arena_create(&arena, 4096));
    const size_t all = llm_next_token_targets(target, ids, mask, B, T);
    CHECK(all == 8 && llm_next_token_mean(&sum) == 0.0f);
    const float loss =
        llm_next_token_loss(whole, logits, ids, mask, B, T, V, 1.0f / (float)all, &arena);
    double mean_of_means = 0.0;
    for (size_t b = 0; b < B; b++) {
        const size_t at = b * T, n = llm_next_token_targets(target, ids + at, mask + at, 1, T);
        const float scale = llm_next_token_weight(n, all) / (float)n;
        const float mean = llm_next_token_loss(parts + at * V, logits + at * V, ids + at, mask + at,
                                               1, T, V, scale, &arena);
        llm_next_token_loss(plain + at * V, logits + at * V, ids + at, mask + at, 1, T, V,
                            1.0f / (float)n / B, &arena);
        llm_next_token_accumulate(&sum, mean, n);
        mean_of_means += (double)mean / B;
    }
    CHECK(sum.tokens == all);
    CHECK_NEAR(llm_next_token_mean(&sum), loss, 1e-6f);
    CHECK_ALL_NEAR(parts, whole, B * T * V, 1e-6f);
    float worst = 0.0f;
    for (size_t i = 0; i < B * T * V; i++) worst = fmaxf(worst, fabsf(plain[i] - whole[i]));
    CHECK(worst > 0.1f && fabs(mean_of_means - (double)loss) > 0.05);
    CHECK(llm_next_token_weight(3, 0) == 0.0f);
    llm_arena_destroy(&arena);
}

static const int text[10] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10};
static const size_t start[5] = {0, 3, 4, 8, 10}; /* lengths 3, 1, 4, 2 */

TEST(next_token, "texts one behind the other fill every row, cut at its end") {
    enum { T = 5, MOST = 4 };
    int tokens[MOST * T], doc[MOST * T], pos[MOST * T];
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 4096));
    const size_t rows =
        llm_next_token_pack(tokens, doc, pos, text, start, 4, T, 99, -7, false, MOST, &arena);
    const int want[15] = {1, 2, 3, 99, 4, 99, 5, 6, 7, 8, 99, 9, 10, 99, -7};
    const int docs[15] = {0, 0, 0, 0, 1, 1, 2, 2, 2, 2, 2, 3, 3, 3, -1};
    const int place[15] = {0, 1, 2, 3, 0, 0, 0, 1, 2, 3, 0, 0, 1, 2, 0};
    CHECK(rows == 3 && arena.used == 0);
    CHECK(memcmp(tokens, want, sizeof want) == 0);
    CHECK(memcmp(doc, docs, sizeof docs) == 0);
    CHECK(memcmp(pos, place, sizeof place) == 0);
    CHECK_ASSERTS(
        llm_next_token_pack(tokens, doc, pos, text, start, 4, T, 99, -7, false, 2, &arena));
    llm_arena_destroy(&arena);
}

TEST(next_token,
     "best fit cuts no text that fits a row, and puts each into the fullest row with room") {
    enum { T = 6, MOST = 4 };
    int tokens[MOST * T], doc[MOST * T], pos[MOST * T];
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 4096));
    /* 4+1 opens row 0, 3+1 row 1, 2+1 row 2; 1+1 fits rows 1 and 2, of which row 1 is fuller */
    size_t rows =
        llm_next_token_pack(tokens, doc, pos, text, start, 4, T, 99, -7, true, MOST, &arena);
    const int want[18] = {5, 6, 7, 8, 99, -7, 1, 2, 3, 99, 4, 99, 9, 10, 99, -7, -7, -7};
    CHECK(rows == 3);
    CHECK(memcmp(tokens, want, sizeof want) == 0);
    CHECK(doc[4] == 2 && doc[5] == -1 && doc[9] == 0 && doc[10] == 1 && pos[11] == 1 &&
          pos[14] == 2);
    /* a text longer than a row is cut to T - 1 and its eos */
    rows = llm_next_token_pack(tokens, doc, pos, text, start, 4, 4, 99, -7, true, MOST, &arena);
    CHECK(rows == 4);
    CHECK(tokens[0] == 5 && tokens[2] == 7 && tokens[3] == 99);
    llm_arena_destroy(&arena);
}

TEST(next_token, "a row that was opened later is taken when it has become the fuller one") {
    enum { T = 20, MOST = 3 };
    /* 14+1 opens row 0, 12+1 row 1; 5+1 fits only row 1, which then has 19; 0+1 fits both */
    const size_t begin[5] = {0, 14, 26, 31, 31};
    int ids[31] = {0}, tokens[MOST * T], doc[MOST * T], pos[MOST * T];
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 4096));
    CHECK(llm_next_token_pack(tokens, doc, pos, ids, begin, 4, T, 9, 8, true, MOST, &arena) == 2);
    CHECK(doc[T + 12] == 1 && doc[T + 18] == 2 && doc[T + 19] == 3 && doc[15] == -1);
    llm_arena_destroy(&arena);
}

TEST(next_token,
     "one token is a mean and a whole weight; no text is padding alone; two share a row") {
    enum { T = 10 };
    const size_t begin[3] = {0, 1, 2};
    const int ids[2] = {5, 6};
    int tokens[T], doc[T], pos[T];
    llm_arena arena;
    llm_next_token_sum sum = {0.0, 0};
    llm_next_token_accumulate(&sum, 2.5f, 1);
    CHECK(llm_next_token_mean(&sum) == 2.5f && llm_next_token_weight(1, 1) == 1.0f);
    CHECK(llm_arena_create(&arena, 1024));
    CHECK(llm_next_token_pack(tokens, doc, pos, ids, begin, 0, T, 9, 8, true, 1, &arena) == 0);
    for (size_t i = 0; i < T; i++) CHECK(tokens[i] == 8 && doc[i] == -1 && pos[i] == 0);
    CHECK(llm_next_token_pack(tokens, doc, pos, ids, begin, 2, T, 9, 8, true, 1, &arena) == 1);
    CHECK(tokens[0] == 5 && tokens[1] == 9 && tokens[2] == 6 && tokens[3] == 9 && doc[4] == -1);
    llm_arena_destroy(&arena);
}

TEST(next_token, "random texts: every token stands once and in order, in both ways of packing") {
    enum { N = 40, MOST = 80, LONGEST = 31 };
    llm_rng rng = llm_rng_seed(5);
    size_t begin[N + 1] = {0};
    int ids[N * LONGEST], tokens[MOST * LONGEST], doc[MOST * LONGEST], pos[MOST * LONGEST];
    for (size_t i = 0; i < N * LONGEST; i++) ids[i] = (int)i;
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 1 << 16));
    for (size_t run = 0; run < 6; run++) {
        const size_t best_fit = run % 2, T = 9 + 11 * (run / 2); /* 9, 20, 31 */
        size_t at[N], padded = 0;
        for (size_t i = 0; i < N; i++) begin[i + 1] = begin[i] + llm_rng_below(&rng, T);
        const size_t rows =
            llm_next_token_pack(tokens, doc, pos, ids, begin, N, T, -1, -2, best_fit, MOST, &arena);
        memcpy(at, begin, sizeof at);
        for (size_t i = 0; i < rows * T; i++) {
            padded += doc[i] < 0;
            if (doc[i] < 0) CHECK(tokens[i] == -2);
            if (doc[i] < 0) continue;
            const size_t d = (size_t)doc[i];
            if (at[d] < begin[d + 1])
                CHECK(tokens[i] == ids[at[d]]);
            else
                CHECK(tokens[i] == -1 && at[d] == begin[d + 1]);
            at[d]++;
            if (i % T > 0)
                CHECK(pos[i] == (doc[i - 1] == doc[i] ? pos[i - 1] + 1 : 0));
            else
                CHECK(pos[i] == 0);
        }
        for (size_t d = 0; d < N; d++) CHECK(at[d] == begin[d + 1] + 1);
        CHECK(rows * T == begin[N] + N + padded);
        if (!best_fit) CHECK(padded < T);
        if (best_fit) { /* in order of length: no row with room is fuller than the one taken */
            size_t used[MOST] = {0}, row_of[N] = {0};
            for (size_t i = 0; i < rows * T; i++)
                if (doc[i] >= 0) row_of[doc[i]] = i / T;
            for (size_t length = T; length-- > 0;) {
                for (size_t d = 0; d < N; d++) {
                    if (begin[d + 1] - begin[d] != length) continue;
                    const size_t taken = used[row_of[d]];
                    for (size_t r = 0; r < rows; r++)
                        CHECK(used[r] + length + 1 > T || used[r] <= taken);
                    used[row_of[d]] += length + 1;
                }
            }
        }
        if (best_fit) CHECK(rows <= (begin[N] + N) / T + 6);
    }
    llm_arena_destroy(&arena);
}

TEST(next_token, "with the mask of its documents a packed row costs what its texts cost alone") {
    /* A model of one layer without weights: a token sees the mean of its past, its logits are a
     * function of that; causality and the mask decide who is in the mean. */
    enum { T = 6, V = 11 };
    int tokens[3 * T], doc[3 * T], pos[3 * T];
    bool mask[3 * T * T], asked[3 * T];
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 8192));
    const size_t rows =
        llm_next_token_pack(tokens, doc, pos, text, start, 4, T, 0, 0, true, 3, &arena);
    llm_next_token_pack_mask(mask, asked, doc, rows, T);
    for (size_t leak = 0; leak < 2; leak++) {
        double packed = 0.0, alone = 0.0;
        for (size_t i = 0; i < rows * T; i++) {
            const size_t t = i % T;
            if (t + 1 == T || !asked[i + 1]) continue;
            double mean = 0.0, n = 0.0, z = 0.0;
            for (size_t u = 0; u <= t; u++) {
                if (!leak && !mask[i * T + u]) continue;
                mean += tokens[i - t + u], n += 1.0;
            }
            for (int v = 0; v < V; v++) z += exp(sin(v * mean / n));
            packed += log(z) - sin(tokens[i + 1] * mean / n);
        }
        for (size_t d = 0; d < 4; d++) {
            double mean = 0.0;
            for (size_t k = start[d]; k < start[d + 1]; k++) {
                double z = 0.0;
                mean += text[k];
                const double m = mean / (double)(k - start[d] + 1);
                for (int v = 0; v < V; v++) z += exp(sin(v * m));
                alone += log(z) - sin((k + 1 < start[d + 1] ? text[k + 1] : 0) * m);
            }
        }
        if (leak)
            CHECK(fabs(packed - alone) > 1e-3);
        else
            CHECK_NEAR(packed, alone, 1e-12);
    }
    for (size_t i = 0; i < rows * T; i++) CHECK(mask[i * T + i % T]); /* padding sees itself */
    llm_arena_destroy(&arena);
}

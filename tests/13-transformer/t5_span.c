/* @t5_span */
#include "../test.h"

#include "../../llm.h"

enum { MOST = 200, SENTINEL = 999, EOS = 1 };

TEST(t5_span, "tokens and spans to go, rounded as in seqio: 15 in 100, 3 a span") {
    /* n, noise, spans by Python's round: 0.15 * 10 = 1.5 -> 2, 0.15 * 30 = 4.5 -> 4 (to even) */
    const size_t want[][3] = {{2, 1, 1},  {3, 1, 1},    {6, 1, 1},     {10, 2, 1},   {30, 4, 1},
                              {50, 8, 3}, {100, 15, 5}, {568, 85, 28}, {569, 85, 28}};
    for (size_t i = 0; i < 9; i++) {
        size_t noise, spans;
        llm_t5_span_counts(&noise, &spans, want[i][0], 0.15, 3.0);
        CHECK(noise == want[i][1] && spans == want[i][2]);
    }
    size_t noise, spans;
    llm_t5_span_counts(&noise, &spans, 4, 0.99, 1.0); /* not all, and one left for each span */
    CHECK(noise == 3 && spans == 1);
    llm_t5_span_counts(&noise, &spans, 10, 0.5, 1.0);
    CHECK(noise == 5 && spans == 5);
    CHECK_ASSERTS(llm_t5_span_counts(&noise, &spans, 1, 0.15, 3.0));
    CHECK_ASSERTS(llm_t5_span_counts(&noise, &spans, 9, 1.0, 3.0));
    CHECK_ASSERTS(llm_t5_span_counts(&noise, &spans, 9, 0.0, 3.0));
    CHECK_ASSERTS(llm_t5_span_counts(&noise, &spans, 9, 0.15, 0.9));
}

TEST(t5_span, "a mask has exactly as many tokens and spans, begins outside and ends inside one") {
    llm_rng rng = llm_rng_seed(1);
    for (size_t n = 2; n < MOST; n++) {
        bool mask[MOST];
        size_t noise, spans, tokens = 0, runs = 0;
        const double density = n % 3 ? 0.15 : 0.5, mean = n % 2 ? 3.0 : 1.0;
        llm_t5_span_counts(&noise, &spans, n, density, mean);
        llm_t5_span_mask(mask, n, density, mean, &rng);
        for (size_t i = 0; i < n; i++) {
            tokens += mask[i];
            runs += mask[i] && !mask[i - 1];
        }
        CHECK(!mask[0] && mask[n - 1] && tokens == noise && runs == spans);
    }
}

TEST(t5_span, "all masks of a length are equally likely") {
    /* 9 tokens, 4 to go in 2 spans: 3 ways to cut 4, 4 ways to cut the 5 that stay */
    enum { DRAWS = 12000 };
    size_t seen[512] = {0}, kinds = 0;
    double chi = 0.0;
    llm_rng rng = llm_rng_seed(2);
    for (size_t k = 0; k < DRAWS; k++) {
        bool mask[9];
        size_t code = 0;
        llm_t5_span_mask(mask, 9, 0.45, 2.0, &rng);
        for (size_t i = 0; i < 9; i++) code |= (size_t)mask[i] << i;
        seen[code]++;
    }
    for (size_t i = 0; i < 512; i++) {
        kinds += seen[i] > 0;
        if (seen[i]) chi += ((double)seen[i] - 1000.0) * ((double)seen[i] - 1000.0) / 1000.0;
    }
    CHECK(kinds == 12 && chi < 31.3); /* 11 degrees of freedom, one in a thousand */
}

TEST(t5_span, "the example of the banner, in numbers, and back") {
    const int ids[8] = {10, 11, 12, 13, 14, 15, 16, 17};
    const bool mask[8] = {false, true, true, false, false, false, true, false};
    const int want_source[8] = {10, 999, 13, 14, 15, 998, 17, 1};
    const int want_target[9] = {999, 11, 12, 998, 16, 1};
    /* the middle parts of a text that begins outside a span; what stays becomes sentinels there */
    int source[10], target[10], back[10];
    size_t S = 0, T = 0;
    llm_t5_span_corrupt(source, &S, target, &T, ids, mask, 8, SENTINEL, EOS);
    CHECK(S == 8 && memcmp(source, want_source, sizeof want_source) == 0);
    /* the text's last part stays, so a last sentinel ends the target, as in the paper's figure */
    const int with_last[7] = {999, 11, 12, 998, 16, 997, 1};
    CHECK(T == 7 && memcmp(target, with_last, sizeof with_last) == 0);
    for (size_t k = 0; k < 2; k++) {
        const size_t n = llm_t5_span_restore(back, 10, source, S, k ? want_target : target,
                                             k ? 6 : T, SENTINEL, 100, EOS);
        CHECK(n == 8 && memcmp(back, ids, sizeof ids) == 0);
    }
    llm_t5_span_corrupt(source, &S, target, &T, ids, mask, 8, SENTINEL, -1);
    CHECK(S == 7 && T == 6);
    llm_t5_span_corrupt(source, &S, target, &T, ids, mask, 8, SENTINEL, 0); /* an end may be 0 */
    CHECK(S == 8 && source[7] == 0 && T == 7 && target[6] == 0);
}

TEST(t5_span, "corrupting and restoring any text is the identity; lengths are as planned") {
    llm_rng rng = llm_rng_seed(3);
    for (size_t n = 2; n < MOST; n++) {
        bool mask[MOST];
        int ids[MOST], source[MOST + 2], target[MOST + 2], back[MOST];
        size_t noise, spans, S, T;
        for (size_t i = 0; i < n; i++) ids[i] = 2 + (int)llm_rng_below(&rng, 500);
        llm_t5_span_counts(&noise, &spans, n, 0.15, 3.0);
        llm_t5_span_mask(mask, n, 0.15, 3.0, &rng);
        llm_t5_span_corrupt(source, &S, target, &T, ids, mask, n, SENTINEL, EOS);
        CHECK(S == n - noise + spans + 1 && T == noise + spans + 1);
        CHECK(target[0] == SENTINEL && source[S - 1] == EOS && target[T - 1] == EOS);
        CHECK(source[S - 2] == SENTINEL - (int)(spans - 1));
        const size_t size = llm_t5_span_restore(back, n, source, S, target, T, SENTINEL, 100, EOS);
        CHECK(size == n && memcmp(back, ids, n * sizeof(int)) == 0);
    }
}

TEST(t5_span, "a target that a model has written badly is read as far as it goes") {
    const int source[5] = {7, 999, 8, 998, 1}, good[5] = {999, 3, 998, 4, 1};
    const int noise_before[6] = {5, 6, 999, 3, 1, 998}, swapped[4] = {998, 4, 999, 3};
    int ids[8];
    CHECK(llm_t5_span_restore(ids, 8, source, 5, good, 5, 999, 2, 1) == 4);
    CHECK(ids[0] == 7 && ids[1] == 3 && ids[2] == 8 && ids[3] == 4);
    CHECK(llm_t5_span_restore(ids, 8, source, 5, noise_before, 6, 999, 2, 1) == 3);
    CHECK(ids[0] == 7 && ids[1] == 3 && ids[2] == 8);
    CHECK(llm_t5_span_restore(ids, 8, source, 5, swapped, 4, 999, 2, 1) == 4);
    CHECK(ids[1] == 3 && ids[3] == 4);
    CHECK(llm_t5_span_restore(ids, 8, source, 5, good, 0, 999, 2, 1) == 2);
    CHECK(ids[0] == 7 && ids[1] == 8);
    for (size_t most = 0; most < 4; most++)
        CHECK(llm_t5_span_restore(ids, most, source, 5, good, 5, 999, 2, 1) == most);
    /* neither has an end, in memory of exactly that size, and 998 is missing; 1000 is a token */
    int *from = as_ints(zeros(3), 3), *to = as_ints(zeros(2), 2);
    from[0] = 1000, from[1] = 999, from[2] = 998, to[0] = 999, to[1] = 3;
    CHECK(llm_t5_span_restore(ids, 8, from, 3, to, 2, 999, 2, 1) == 2);
    CHECK(ids[0] == 1000 && ids[1] == 3);
    /* with one sentinel only, 998 is a token */
    CHECK(llm_t5_span_restore(ids, 8, source, 5, good, 5, 999, 1, 1) == 6);
    CHECK(ids[1] == 3 && ids[2] == 998 && ids[3] == 4 && ids[4] == 8 && ids[5] == 998);
}

TEST(t5_span, "568 tokens make a source of 512 and a target of 114") {
    size_t T;
    CHECK(llm_t5_span_length(&T, 512, 0.15, 3.0) == 568 && T == 114);
    CHECK(llm_t5_span_length(&T, 3, 0.15, 3.0) == 2 && T == 3);
    CHECK(llm_t5_span_length(&T, 2, 0.15, 3.0) == 0 && T == 0);
    for (size_t S = 3; S < 100; S++) { /* one token more would not fit */
        size_t noise, spans;
        const size_t n = llm_t5_span_length(&T, S, 0.15, 3.0);
        llm_t5_span_counts(&noise, &spans, n, 0.15, 3.0);
        CHECK(n - noise + spans + 1 <= S && T == noise + spans + 1);
        llm_t5_span_counts(&noise, &spans, n + 1, 0.15, 3.0);
        CHECK(n + 1 - noise + spans + 1 > S);
    }
}

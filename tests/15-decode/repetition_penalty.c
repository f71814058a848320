/* @repetition_penalty */
#include "../test.h"

#include "../../llm.h"

#include "../arena.h"
#include "../tiny_loop.h"

static llm_frequency_penalty_table repetition_table(size_t V, size_t capacity, size_t last_n) {
    llm_frequency_penalty_table t;
    llm_arena arena = test_arena(20 * V + 4 * capacity + 4 * 64);
    llm_frequency_penalty_create(&t, V, capacity, last_n, 0, &arena);
    return t;
}

TEST(repetition_penalty, "logits equal transformers' processor and llama.cpp's three penalties") {
    for (size_t i = 0; i < 5; i++) {
        const size_t V = (size_t)golden("%zu/V", i)[0];
        const float theta = golden("%zu/theta", i)[0];
        size_t n = 0;
        const float *text = golden_n(&n, "%zu/text", i);
        float *z = golden("%zu/z", i), *three = golden("%zu/z", i);
        llm_frequency_penalty_table all = repetition_table(V, n, 0),
                                    last = repetition_table(V, n, 8);
        llm_frequency_penalty_follow(&all, as_ints(text, n), n);
        llm_frequency_penalty_follow(&last, as_ints(text, n), n);
        llm_repetition_penalty_apply(z, &all, theta);
        CHECK_GOLDEN(z, V, 1e-6f, "%zu/hf", i);
        llm_repetition_penalty_three(three, &last, theta, 0.25f, 0.75f);
        CHECK_GOLDEN(three, V, 1e-6f, "%zu/three", i);
    }
}

TEST(repetition_penalty, "rep-n equals sets of n-grams, on random texts and constant ones") {
    llm_arena arena = test_arena(256 * sizeof(size_t)); /* the most for 100 tokens */
    for (size_t i = 0; i < 5; i++) {
        size_t T = 0;
        const float *text = golden_n(&T, "%zu/text", i);
        float rate[5];
        for (size_t n = 0; n < 5; n++)
            rate[n] = (float)llm_repetition_penalty_rate(as_ints(text, T), T, n + 1, &arena);
        CHECK_GOLDEN(rate, 5, 1e-6f, "%zu/rate", i);
    }
    llm_rng rng = llm_rng_seed(4);
    for (size_t round = 0; round < 200; round++) {
        int ids[64];
        const size_t T = llm_rng_below(&rng, 65), n = 1 + llm_rng_below(&rng, 5);
        for (size_t t = 0; t < T; t++)
            ids[t] = (int)llm_rng_below(&rng, 2 + round % 5) << (round % 3) * 9;
        const double got = llm_repetition_penalty_rate(ids, T, n, &arena);
        CHECK_NEAR(got, T < n ? 0.0 : tiny_loop_repeats(ids, T, n), 1e-12);
    }
    int same[100] = {0};
    CHECK_NEAR(llm_repetition_penalty_rate(same, 100, 3, &arena), 97.0 / 98.0, 1e-12);
    CHECK_NEAR(llm_repetition_penalty_rate(same, 0, 1, &arena), 0.0, 0.0);
    CHECK_NEAR(llm_repetition_penalty_rate(same, 2, 3, &arena), 0.0, 0.0);
    CHECK(arena.used == 0);
    CHECK_ASSERTS(llm_repetition_penalty_rate(same, 5, 0, &arena));
}

TEST(repetition_penalty, "FNV-1a: published values, every byte of every token counts") {
    const int abcd = 0x64636261; /* the bytes "abcd", lowest first */
    CHECK(llm_repetition_penalty_hash(&abcd, 0) == 0xcbf29ce484222325u);
    CHECK(llm_repetition_penalty_hash(&abcd, 1) == 0xfc179f83ee0724ddu);
    const int two[2] = {0x64636261, 0x68676665}, swapped[2] = {0x68676665, 0x64636261};
    CHECK(llm_repetition_penalty_hash(two, 2) != llm_repetition_penalty_hash(swapped, 2));
}

TEST(repetition_penalty, "once for each token; both signs go down; a shift of all logits matters") {
    llm_frequency_penalty_table t = repetition_table(4, 9, 0);
    for (size_t i = 0; i < 6; i++) llm_frequency_penalty_push(&t, (int)(i % 3));
    float z[4] = {2.0f, -2.0f, 0.0f, 1.0f};
    llm_repetition_penalty_apply(z, &t, 1.25f);
    CHECK(z[0] == 1.6f && z[1] == -2.5f && z[2] == 0.0f && z[3] == 1.0f);
    float low[4] = {2.0f, 1.5f, 0.0f, 1.0f}, high[4], p[4], q[4];
    for (size_t v = 0; v < 4; v++) high[v] = low[v] + 20.0f;
    llm_softmax_forward(p, low, 1, 4, 1.0f);
    llm_softmax_forward(q, high, 1, 4, 1.0f);
    CHECK_ALL_NEAR(q, p, 4, 1e-6f); /* one and the same distribution ... */
    llm_repetition_penalty_apply(low, &t, 1.25f);
    llm_repetition_penalty_apply(high, &t, 1.25f);
    llm_softmax_forward(p, low, 1, 4, 1.0f);
    llm_softmax_forward(q, high, 1, 4, 1.0f);
    CHECK(q[3] > 0.9f && p[3] < 0.5f); /* ... until it is penalised */
    float first[2] = {2.0f, -2.0f};    /* three = one after the other */
    t = repetition_table(2, 3, 0);
    for (size_t i = 0; i < 3; i++) llm_frequency_penalty_push(&t, 0);
    llm_repetition_penalty_three(first, &t, 2.0f, 0.5f, 0.125f);
    CHECK(first[0] == 1.0f - 1.625f && first[1] == -2.0f);
    CHECK_ASSERTS(llm_repetition_penalty_apply(first, &t, 0.0f));
}

/* rep-4 of 200 greedy tokens. */
static double repetition_repeats(uint64_t seed, float theta) {
    const tiny_loop *m = tiny_loop_model(seed);
    llm_frequency_penalty_table t = repetition_table(TINY_LOOP_V, TINY_LOOP_T, 0);
    llm_arena arena = test_arena(4 * TINY_LOOP_T * sizeof(size_t));
    float z[TINY_LOOP_V];
    for (int u = 0; t.length < TINY_LOOP_T; llm_frequency_penalty_push(&t, u)) {
        tiny_loop_logits(z, m, u);
        llm_repetition_penalty_apply(z, &t, theta);
        u = llm_greedy_pick(z, TINY_LOOP_V);
    }
    return llm_repetition_penalty_rate(t.text, TINY_LOOP_T, 4, &arena);
}

TEST(repetition_penalty, "theta = 1.3 takes most of the repetition out of greedy text") {
    const double off = tiny_loop_median(repetition_repeats, 0, 1.0f);
    const double on = tiny_loop_median(repetition_repeats, 0, 1.3f);
    /* medians of nine seeds; eight further sets gave 0.93 to 0.97 and 0.09 to 0.35 */
    CHECK(off - on > 0.29);
}

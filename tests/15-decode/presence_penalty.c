/* @presence_penalty */
#include "../test.h"

#include "../../llm.h"

#include "../arena.h"

static llm_frequency_penalty_table presence_table(size_t V, size_t capacity, size_t skip) {
    llm_frequency_penalty_table t;
    llm_arena arena = test_arena(20 * V + 4 * capacity + 4 * 64);
    llm_frequency_penalty_create(&t, V, capacity, 0, skip, &arena);
    return t;
}

TEST(presence_penalty, "logits equal the API's formulas on random texts, alone, combined, groups") {
    for (size_t i = 0; i < 5; i++) {
        const size_t V = (size_t)golden("%zu/V", i)[0];
        const float pres = golden("%zu/pres", i)[0], freq = golden("%zu/freq", i)[0];
        size_t n = 0;
        const float *text = golden_n(&n, "%zu/text", i);
        llm_frequency_penalty_table t = presence_table(V, n, (size_t)golden("%zu/prompt", i)[0]);
        llm_frequency_penalty_follow(&t, as_ints(text, n), n);
        float *z = golden("%zu/z", i), *both = golden("%zu/z", i), *topics = golden("%zu/z", i);
        llm_presence_penalty_apply(z, &t, pres);
        CHECK_GOLDEN(z, V, 1e-6f, "%zu/presence", i);
        llm_presence_penalty_combined(both, &t, freq, pres);
        CHECK_GOLDEN(both, V, 1e-6f, "%zu/both", i);
        llm_arena arena = test_arena(64);
        const int *group = as_ints(golden("%zu/group", i), V);
        llm_presence_penalty_topics(topics, &t, group, 6, pres, &arena);
        CHECK_GOLDEN(topics, V, 1e-6f, "%zu/topics", i);
        CHECK(arena.used == 0);
        if (i == 3) CHECK_ASSERTS(llm_presence_penalty_topics(topics, &t, group, 5, pres, &arena));
    }
}

TEST(presence_penalty, "one use costs as much as fifty, and frequency's price grows") {
    float once[2] = {1.0f, 0.0f}, often[2] = {1.0f, 0.0f}, both[2] = {1.0f, 0.0f};
    llm_frequency_penalty_table t = presence_table(2, 50, 0);
    llm_frequency_penalty_push(&t, 0);
    llm_presence_penalty_apply(once, &t, 0.75f);
    while (t.length < 50) llm_frequency_penalty_push(&t, 0);
    llm_presence_penalty_apply(often, &t, 0.75f);
    llm_presence_penalty_combined(both, &t, 0.5f, 0.75f);
    CHECK(once[0] == 0.25f && often[0] == 0.25f && both[0] == 1.0f - 25.75f && often[1] == 0.0f);
    const int none[2] = {-1, -1};
    llm_arena arena = test_arena(0);
    llm_presence_penalty_topics(often, &t, none, 0, 9.0f, &arena); /* no groups, no charge */
    CHECK(often[0] == 0.25f && often[1] == 0.0f);
    const int first[2] = {0, -1};
    CHECK_ASSERTS(llm_presence_penalty_topics(often, &t, first, 0, 9.0f, &arena));
}

TEST(presence_penalty, "novelty counts the different tokens of every prefix") {
    enum { N = 40, V = 23 };
    llm_rng rng = llm_rng_seed(3);
    llm_arena arena = test_arena(64);
    for (size_t round = 0; round < 100; round++) {
        int ids[N];
        size_t kinds[N];
        const size_t n = llm_rng_below(&rng, N + 1);
        for (size_t i = 0; i < n; i++) ids[i] = (int)llm_rng_below(&rng, V);
        llm_presence_penalty_novelty(kinds, ids, n, V, &arena);
        for (size_t t = 0; t < n; t++) {
            size_t want = 0;
            for (size_t i = 0; i <= t; i++) {
                bool first = true;
                for (size_t k = 0; k < i; k++) first = first && ids[k] != ids[i];
                want += first;
            }
            CHECK(kinds[t] == want);
        }
    }
    const int bad[2] = {V, -1};
    size_t kinds[1];
    CHECK(arena.used == 0);
    CHECK_ASSERTS(llm_presence_penalty_novelty(kinds, bad, 1, V, &arena));
    CHECK_ASSERTS(llm_presence_penalty_novelty(kinds, bad + 1, 1, V, &arena));
}

TEST(presence_penalty, "expected novelty: closed forms without a penalty and under a huge one") {
    llm_arena arena = test_arena(1 << 12);
    const float z[8] = {0.5f, -1.0f, 2.0f, 0.0f, 0.0f, 1.5f, -3.0f, 0.25f};
    float p[8];
    llm_softmax_forward(p, z, 1, 8, 1.0f);
    for (size_t n = 0; n < 12; n++) {
        double want = 0.0; /* each token is missed by all draws, or not */
        for (size_t v = 0; v < 8; v++) want += 1.0 - pow(1.0 - (double)p[v], (double)n);
        CHECK_NEAR(llm_presence_penalty_expected(z, 8, 0.0f, n, &arena), want, 1e-6);
        CHECK_NEAR(llm_presence_penalty_expected(z, 8, 60.0f, n, &arena), n < 8 ? (double)n : 8.0,
                   1e-9);
    }
    float *one = floats(1), deep[3] = {-2000.0f, 0.0f, -1.0f}; /* nothing overflows */
    one[0] = 3.0f;
    CHECK_NEAR(llm_presence_penalty_expected(one, 1, 3.0f, 5, &arena), 1.0, 1e-12);
    CHECK_NEAR(llm_presence_penalty_expected(deep, 3, 0.0f, 2, &arena),
               llm_presence_penalty_expected(deep + 1, 2, 0.0f, 2, &arena), 1e-9);
    float shifted[8]; /* a common shift changes nothing, not even a large one */
    for (size_t v = 0; v < 8; v++) shifted[v] = z[v] + 2000.0f;
    CHECK_NEAR(llm_presence_penalty_expected(shifted, 8, 1.0f, 5, &arena),
               llm_presence_penalty_expected(z, 8, 1.0f, 5, &arena), 1e-3);
    CHECK(arena.used == 0 && arena.peak == (1 << 12));
    CHECK_ASSERTS(llm_presence_penalty_expected(z, 0, 1.0f, 1, &arena));
    arena = test_arena((size_t)64 << 20);
    CHECK_ASSERTS(llm_presence_penalty_expected(zeros(21), 21, 1.0f, 1, &arena));
    float flat[20];
    for (size_t v = 0; v < 20; v++) flat[v] = 0.0f;
    CHECK_NEAR(llm_presence_penalty_expected(flat, 20, 0.7f, 1, &arena), 1.0, 1e-9);
}

TEST(presence_penalty, "draws bring as many different tokens as the chain of seen sets says") {
    enum { V = 9, N = 7, RUNS = 20000 };
    float z[V];
    for (size_t v = 0; v < V; v++) z[v] = v == 0 ? 2.0f : 0.0f; /* uniform and one favourite */
    for (size_t i = 0; i < 3; i++) {
        const float alpha = (float)i - 0.5f; /* -0.5, 0.5, 1.5 */
        llm_arena arena = test_arena((1 << V) * sizeof(double));
        const double want = llm_presence_penalty_expected(z, V, alpha, N, &arena);
        llm_frequency_penalty_table t = presence_table(V, N, 0);
        llm_rng rng = llm_rng_seed(11 + i);
        double sum = 0.0, square = 0.0;
        for (size_t run = 0; run < RUNS; run++) {
            llm_frequency_penalty_follow(&t, NULL, 0);
            for (size_t n = 0; n < N; n++) {
                float w[V];
                memcpy(w, z, sizeof z);
                llm_presence_penalty_apply(w, &t, alpha);
                llm_frequency_penalty_push(&t, llm_sampling_draw(w, V, &rng));
            }
            sum += (double)t.kinds;
            square += (double)(t.kinds * t.kinds);
        }
        const double mean = sum / RUNS, error = sqrt((square / RUNS - mean * mean) / RUNS);
        CHECK_NEAR(mean, want, 3.0 * error);
    }
}

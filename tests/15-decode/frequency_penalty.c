/* @frequency_penalty */
#include "../test.h"

#include "../../llm.h"

#include "../arena.h"
#include "../tiny_loop.h"

/* On exactly the memory that the comment asks for. */
static llm_frequency_penalty_table frequency_table(size_t V, size_t capacity, size_t last_n,
                                                   size_t skip) {
    llm_frequency_penalty_table t;
    memset(&t, 0xff, sizeof t);
    const size_t part[4] = {V * sizeof(size_t), V * sizeof(size_t), V * sizeof(int),
                            capacity * sizeof(int)};
    size_t bytes = 0;
    for (size_t i = 0; i < 4; i++) bytes += (part[i] + 63) / 64 * 64;
    llm_arena arena = test_arena(bytes);
    llm_frequency_penalty_create(&t, V, capacity, last_n, skip, &arena);
    CHECK(arena.used == bytes && t.kinds == 0 && t.length == 0);
    return t;
}

TEST(frequency_penalty, "logits equal the formula: the API's and vLLM's, llama.cpp's, a window") {
    const char *const rule[3] = {"api", "all", "last"};
    for (size_t i = 0; i < 5; i++)
        for (size_t r = 0; r < 3; r++) {
            const size_t V = (size_t)golden("%zu/V", i)[0];
            const size_t prompt = (size_t)golden("%zu/prompt", i)[0];
            size_t n = 0;
            const float *text = golden_n(&n, "%zu/text", i);
            llm_frequency_penalty_table t =
                frequency_table(V, n, r == 2 ? 6 : 0, r == 0 ? prompt : 0);
            llm_frequency_penalty_follow(&t, as_ints(text, n), n);
            float *z = golden("%zu/z", i);
            llm_frequency_penalty_apply(z, &t, golden("%zu/alpha", i)[0]);
            CHECK_GOLDEN(z, V, 1e-6f, "%zu/%s", i, rule[r]);
        }
}

TEST(frequency_penalty, "counts equal recounting after any pushes and pops, in windows and not") {
    enum { V = 11, ROOM = 60 };
    llm_rng rng = llm_rng_seed(1);
    for (size_t round = 0; round < 60; round++) {
        const size_t last_n = round % 4 == 0 ? 0 : 1 + llm_rng_below(&rng, 12);
        const size_t skip = round % 3 == 0 ? 0 : llm_rng_below(&rng, 9);
        llm_frequency_penalty_table t = frequency_table(V, ROOM, last_n, skip);
        int text[ROOM];
        size_t n = 0;
        for (size_t move = 0; move < 1000; move++) {
            if (n == ROOM || (n > 0 && llm_rng_below(&rng, 5) < 2)) {
                CHECK(llm_frequency_penalty_pop(&t) == text[--n]);
            } else {
                text[n] = (int)llm_rng_below(&rng, V);
                llm_frequency_penalty_push(&t, text[n++]);
            }
            size_t count[V] = {0}, kinds = 0;
            for (size_t i = skip; i < n; i++)
                if (last_n == 0 || i + last_n >= n) count[text[i]]++;
            CHECK(t.length == n && memcmp(t.text, text, n * sizeof(int)) == 0);
            for (size_t v = 0; v < V; v++) {
                CHECK(t.count[v] == count[v]);
                kinds += count[v] > 0;
                if (count[v] > 0) CHECK(t.place[v] < t.kinds && t.seen[t.place[v]] == (int)v);
            }
            CHECK(t.kinds == kinds);
        }
    }
}

TEST(frequency_penalty, "follow: another text, a shorter one and none give what a new table has") {
    enum { V = 5, ROOM = 30 };
    llm_rng rng = llm_rng_seed(2);
    llm_frequency_penalty_table t = frequency_table(V, ROOM, 4, 2);
    int text[ROOM];
    size_t n = 0;
    for (size_t round = 0; round < 300; round++) {
        const size_t from = llm_rng_below(&rng, n + 1);
        n = from + llm_rng_below(&rng, ROOM - from + 1);
        for (size_t i = from; i < n; i++) text[i] = (int)llm_rng_below(&rng, V);
        llm_frequency_penalty_follow(&t, text, n);
        llm_frequency_penalty_table other = frequency_table(V, ROOM, 4, 2);
        for (size_t i = 0; i < n; i++) llm_frequency_penalty_push(&other, text[i]);
        CHECK(t.length == n && t.kinds == other.kinds);
        CHECK(memcmp(t.text, text, n * sizeof(int)) == 0);
        CHECK(memcmp(t.count, other.count, V * sizeof(size_t)) == 0);
    }
    llm_frequency_penalty_follow(&t, NULL, 0);
    CHECK(t.length == 0 && t.kinds == 0);
}

TEST(frequency_penalty, "odds fall by exp(-alpha) a use; the best is taken floor(gap / alpha) + 1 "
                        "times before the second") {
    llm_frequency_penalty_table t = frequency_table(3, 99, 0, 0);
    for (size_t use = 0; use < 9; use++) {
        float z[3] = {1.0f, 0.25f, -2.0f}, p[3];
        llm_frequency_penalty_apply(z, &t, 0.375f);
        llm_softmax_forward(p, z, 1, 3, 1.0f);
        CHECK_NEAR(p[0] / p[2], exp(3.0 - 0.375 * (double)use), 1e-5);
        CHECK_NEAR(p[1] / p[2], exp(2.25), 1e-5);
        llm_frequency_penalty_push(&t, 0);
    }
    const float gap[4] = {1.1f, 0.3f, 2.6f, 7.0f}, alpha[4] = {0.25f, 0.5f, 0.5f, 0.3f};
    for (size_t i = 0; i < 4; i++) {
        llm_frequency_penalty_follow(&t, NULL, 0);
        size_t taken = 0;
        for (;;) {
            float z[3] = {-9.0f, 0.0f, gap[i]};
            llm_frequency_penalty_apply(z, &t, alpha[i]);
            if (llm_greedy_pick(z, 3) != 2) break;
            llm_frequency_penalty_push(&t, 2);
            taken++;
        }
        CHECK(taken == (size_t)(gap[i] / alpha[i]) + 1);
    }
}

/* Distinct-2 of 200 greedy tokens under a penalty. */
static double frequency_distinct(uint64_t seed, float alpha) {
    const tiny_loop *m = tiny_loop_model(seed);
    llm_frequency_penalty_table t = frequency_table(TINY_LOOP_V, TINY_LOOP_T, 0, 0);
    float z[TINY_LOOP_V];
    for (int u = 0; t.length < TINY_LOOP_T; llm_frequency_penalty_push(&t, u)) {
        tiny_loop_logits(z, m, u);
        llm_frequency_penalty_apply(z, &t, alpha);
        u = llm_greedy_pick(z, TINY_LOOP_V);
    }
    return 1.0 - tiny_loop_repeats(t.text, TINY_LOOP_T, 2);
}

TEST(frequency_penalty, "a penalty of 0.5 takes greedy text out of its loop") {
    const double off = tiny_loop_median(frequency_distinct, 0, 0.0f);
    const double on = tiny_loop_median(frequency_distinct, 0, 0.5f);
    /* medians of nine seeds; eight further sets gave 0.04 to 0.07 and 0.70 to 0.77 */
    CHECK(on - off > 0.3);
}

TEST(frequency_penalty, "no room, no token of the vocabulary, nothing to take back: asserts") {
    llm_frequency_penalty_table t = frequency_table(4, 2, 0, 0);
    CHECK_ASSERTS(llm_frequency_penalty_pop(&t));
    CHECK_ASSERTS(llm_frequency_penalty_push(&t, 4));
    CHECK_ASSERTS(llm_frequency_penalty_push(&t, -1));
    llm_frequency_penalty_push(&t, 3);
    llm_frequency_penalty_push(&t, 0);
    CHECK_ASSERTS(llm_frequency_penalty_push(&t, 1));
}

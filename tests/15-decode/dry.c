/* @dry */
#include "../test.h"

#include "../../llm.h"

#include "../arena.h"
#include "../tiny_litter.h"
#include "../tiny_loop.h"

static llm_arena dry_arena(size_t T, size_t V) {
    return test_arena((T * sizeof(size_t) + 63) / 64 * 64 + (V * sizeof(size_t) + 63) / 64 * 64);
}

TEST(dry, "bans equal transformers' processor, DRY equals llama.cpp's rule: windows, breakers") {
    for (size_t i = 0; i < 9; i++) {
        const size_t V = (size_t)golden("%zu/V", i)[0];
        size_t T = 0;
        const int *text = as_ints(golden_n(&T, "%zu/text", i), T);
        text = as_ints(golden("%zu/text", i), T);
        float *z = golden("%zu/z", i), *w = golden("%zu/z", i);
        llm_arena arena = dry_arena(T, V);
        llm_dry_no_ngram(z, text, T, (size_t)golden("%zu/n", i)[0], &arena);
        CHECK_GOLDEN(z, V, 0.0f, "%zu/ban", i);
        llm_dry_config c = llm_dry_defaults();
        CHECK(c.multiplier == 0.8f && c.base == 1.75f && c.allowed == 2 && c.last_n == 0);
        const float *breaker = golden_n(&c.breakers, "%zu/breakers", i);
        c.breaker = as_ints(breaker, c.breakers);
        c.multiplier = 0.75f, c.base = 1.25f;
        c.allowed = (size_t)golden("%zu/allowed", i)[0],
        c.last_n = (size_t)golden("%zu/last", i)[0];
        llm_dry_apply(w, V, text, T, &c, &arena);
        CHECK_GOLDEN(w, V, 1e-6f, "%zu/dry", i);
        CHECK(arena.used == 0);
    }
    float z[1] = {0.0f};
    llm_arena arena = dry_arena(120, 1);
    llm_dry_config c = llm_dry_defaults();
    c.multiplier = 0.5f, c.base = 2.5f;
    llm_dry_apply(z, 1, as_ints(golden("overflow/text"), 120), 120, &c, &arena);
    const float want = golden("overflow/want")[0];
    CHECK_ALL_CLOSE(z, &want, 1, 1e-5f); /* a power of 96 */
    CHECK(z[0] > -INFINITY);
    c.base = 1.75f; /* 1.75^397 is no float */
    arena = dry_arena(400, 1);
    llm_dry_apply(z, 1, (const int *)test_memory(400, sizeof(int)), 400, &c, &arena);
    CHECK(z[0] > -INFINITY);
    const int none[3] = {0, 0, 0};
    llm_dry_no_ngram(z, none, 0, 1, &arena);
    CHECK(z[0] > -INFINITY);
    CHECK_ASSERTS(llm_dry_no_ngram(z, none, 3, 0, &arena));
}

TEST(dry, "match lengths equal comparing token by token, on texts full of repetition") {
    enum { N = 60 };
    llm_rng rng = llm_rng_seed(5);
    for (size_t round = 0; round < 3000; round++) {
        int ids[N];
        size_t length[N];
        const size_t T = llm_rng_below(&rng, N + 1), V = 1 + llm_rng_below(&rng, 3);
        for (size_t t = 0; t < T; t++)
            ids[t] = t > 6 && round % 2 ? ids[t - 3 - round % 5] : (int)llm_rng_below(&rng, V);
        for (size_t t = 0; t < T; t++) length[t] = 999;
        llm_dry_lengths(length, ids, T);
        for (size_t j = 0; j < T; j++) {
            size_t n = 0;
            while (n < j && ids[j - 1 - n] == ids[T - 1 - n]) n++;
            CHECK(length[j] == n);
        }
    }
}

TEST(dry, "the steps work in time that grows with the length, not with its square") {
    enum { N = 400000 };
    int *ids = (int *)test_memory(N, sizeof(int));
    size_t *length = (size_t *)test_memory(N, sizeof(size_t));
    llm_dry_lengths(length, ids, N); /* all equal: the worst case; by comparing 8e10 steps */
    for (size_t j = 0; j < N; j++) CHECK(length[j] == j);
}

TEST(dry, "off, short and broken texts stay as they are; a breaker is free; the price") {
    const int ids[7] = {1, 2, 3, 4, 1, 2, 3};
    float z[5] = {0.0f, 0.0f, 0.0f, 0.0f, 0.0f};
    llm_arena arena = dry_arena(7, 5);
    llm_dry_config c = llm_dry_defaults();
    llm_dry_apply(z, 5, ids, 7, &c, &arena); /* "1 2 3" would become "1 2 3 4": 0.8 * 1.75^1 */
    CHECK_NEAR(z[4], -1.4, 1e-6);
    for (size_t v = 0; v < 4; v++) CHECK(z[v] == 0.0f);
    const int four = 4, two = 2, three = 3;
    z[4] = 0.0f;
    c.breakers = 1;
    c.breaker = &four;
    llm_dry_apply(z, 5, ids, 7, &c, &arena);
    CHECK(z[4] == 0.0f);
    c.breaker = &three; /* nothing behind it yet */
    llm_dry_apply(z, 5, ids, 7, &c, &arena);
    CHECK(z[4] == 0.0f);
    c.breaker = &two; /* the match is 3 alone: too short, then long enough */
    llm_dry_apply(z, 5, ids, 7, &c, &arena);
    CHECK(z[4] == 0.0f);
    c.allowed = 1;
    llm_dry_apply(z, 5, ids, 7, &c, &arena);
    CHECK_NEAR(z[4], -0.8, 1e-6);
    for (size_t i = 0; i < 3; i++) {
        c = llm_dry_defaults();
        z[4] = 0.0f;
        if (i == 0) c.multiplier = 0.0f;
        if (i == 1) c.base = 0.99f;
        if (i == 2) c.last_n = 2;
        llm_dry_apply(z, 5, ids, 7, &c, &arena);
        CHECK(z[4] == 0.0f);
    }
    c = llm_dry_defaults();
    CHECK(c.breaker == NULL && c.breakers == 0);
    z[4] = 0.0f;
    c.multiplier = 1.0f;
    llm_dry_apply(z, 5, ids, 7, &c, &arena);
    CHECK_NEAR(z[4], -1.75, 1e-6);
    z[4] = 0.0f;
    c.last_n = 1, c.allowed = 0; /* nothing stands before the last token */
    llm_dry_apply(z, 5, ids, 7, &c, &arena);
    CHECK(z[4] == 0.0f);
    c = llm_dry_defaults();
    c.base = 1.0f; /* the same price for every length */
    llm_dry_apply(z, 5, ids, 7, &c, &arena);
    CHECK_NEAR(z[4], -0.8, 1e-6);
}

TEST(dry, "the loop at the end: its period and length, none where nothing went round twice") {
    enum { N = 40 };
    llm_rng rng = llm_rng_seed(6);
    llm_arena arena = dry_arena(N, 0);
    for (size_t round = 0; round < 2000; round++) {
        int ids[N];
        const size_t T = llm_rng_below(&rng, N + 1), p = 1 + llm_rng_below(&rng, 9);
        for (size_t t = 0; t < T; t++)
            ids[t] = t >= p && t > T / 3 ? ids[t - p] : (int)llm_rng_below(&rng, 3);
        size_t want = 0, want_period = 0, period = 99;
        for (size_t q = 1; q < T; q++) {
            size_t tail = q;
            while (tail < T && ids[T - 1 - tail] == ids[T - 1 - tail + q]) tail++;
            if (tail >= 2 * q && tail > want) want = tail, want_period = q;
        }
        CHECK(llm_dry_loop(&period, ids, T, &arena) == want && period == want_period);
    }
    CHECK(arena.used == 0);
}

static bool dry_defaults(void) {
    llm_dry_config (*volatile make)(void) = llm_dry_defaults;
    const llm_dry_config c = make();
    return c.multiplier == 0.8f && c.base == 1.75f && c.allowed == 2 && c.last_n == 0 &&
           c.breaker == NULL && c.breakers == 0;
}

TEST(dry, "the defaults set every field") { CHECK(tiny_litter(dry_defaults)); }

/* rep-4 of 200 greedy tokens under DRY; strength < 0: no 3-gram twice. */
static double dry_repeats(uint64_t seed, float strength) {
    const tiny_loop *m = tiny_loop_model(seed);
    int ids[TINY_LOOP_T], u = 0;
    float z[TINY_LOOP_V];
    llm_dry_config c = llm_dry_defaults();
    c.multiplier = strength;
    llm_arena arena = dry_arena(TINY_LOOP_T, TINY_LOOP_V);
    for (size_t t = 0; t < TINY_LOOP_T; t++) {
        tiny_loop_logits(z, m, u);
        if (strength < 0.0f)
            llm_dry_no_ngram(z, ids, t, 3, &arena);
        else
            llm_dry_apply(z, TINY_LOOP_V, ids, t, &c, &arena);
        ids[t] = u = llm_greedy_pick(z, TINY_LOOP_V);
    }
    if (strength < 0.0f) CHECK(tiny_loop_repeats(ids, TINY_LOOP_T, 3) == 0.0);
    return tiny_loop_repeats(ids, TINY_LOOP_T, 4);
}

TEST(dry, "DRY takes greedy text out of its loop, blocking leaves no 3-gram twice") {
    const double off = tiny_loop_median(dry_repeats, 0, 0.0f);
    const double on = tiny_loop_median(dry_repeats, 0, 0.8f);
    CHECK(tiny_loop_median(dry_repeats, 0, -1.0f) == 0.0);
    /* medians of nine seeds; eight further sets gave 0.93 to 0.97 and 0.03 to 0.09 */
    CHECK(off - on > 0.42);
}

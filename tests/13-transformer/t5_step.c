/* @t5_step */
#include "../test.h"

#include "../../llm.h"

#include "../arena.h"

enum { B = 2, S = 5, T = 6, V = 9 };
static const int source[B * S] = {2, 5, 3, 4, 6, 4, 2, 6, 0, 0};

static llm_t5_config config(bool gated) {
    llm_t5_config c = llm_t5_defaults();
    c.vocab = V, c.tied = !gated;
    c.encoder.layers = 1, c.encoder.hidden = 7, c.encoder.buckets = 8, c.encoder.far = 5;
    c.encoder.gated = gated;
    c.encoder.attn.width = 6, c.encoder.attn.heads = 3, c.encoder.attn.head_size = 2;
    c.decoder = c.encoder;
    c.decoder.decoder = true, c.decoder.layers = 2;
    return c;
}
static float *weights(llm_t5_weights *w, const llm_t5_config *c, uint64_t seed, llm_arena *arena) {
    size_t matrices;
    llm_rng rng = llm_rng_seed(seed);
    const size_t n = llm_t5_count(&matrices, c);
    float *flat = floats(n);
    llm_rng_normal_fill(&rng, flat, n);
    llm_t5_bind(w, flat, c, arena);
    return flat;
}

TEST(t5_step, "every step's logits are those of a full pass over the text so far") {
    for (size_t k = 0; k < 2; k++) {
        const llm_t5_config c = config(k);
        llm_arena arena = test_arena(1 << 18);
        llm_t5_weights w;
        weights(&w, &c, k + 1, &arena);
        int shifted[B * T], ids[B];
        llm_rng rng = llm_rng_seed(8);
        for (size_t i = 0; i < B * T; i++) shifted[i] = i % T ? (int)llm_rng_below(&rng, V) : 0;
        llm_t5_acts a;
        bool *hidden;
        const float *mem = llm_t5_encode(&a.encoder, &hidden, source, B, S, &w, &c, &arena);
        a.shifted = shifted;
        llm_t5_decode(&a, mem, hidden, B, S, T, &w, &c, &arena);
        llm_t5_step_cache cache;
        float logits[B * V];
        llm_t5_step_create(&cache, mem, hidden, B, S, T, &w, &c, &arena);
        for (size_t t = 0; t < T; t++) {
            const size_t used = arena.used;
            for (size_t b = 0; b < B; b++) ids[b] = shifted[b * T + t];
            CHECK(cache.t == t);
            llm_t5_step(logits, &cache, ids, &w, &c, &arena);
            CHECK(arena.used == used);
            for (size_t b = 0; b < B; b++)
                CHECK_ALL_NEAR(logits + b * V, a.logits + (b * T + t) * V, V, 2e-5f);
        }
        CHECK_ASSERTS(llm_t5_step(logits, &cache, ids, &w, &c, &arena)); /* it is full */
    }
}

TEST(t5_step, "writing with a cache writes what writing without one does, up to the end") {
    for (uint64_t seed = 1; seed <= 4; seed++) {
        const llm_t5_config c = config(seed % 2);
        llm_arena arena = test_arena(1 << 18);
        llm_t5_weights w;
        weights(&w, &c, seed, &arena);
        int got[B * T], want[B * T];
        for (int end = -1; end < V; end++) {
            const size_t used = arena.used;
            llm_t5_step_generate(got, source, B, S, T, end, &w, &c, &arena);
            CHECK(arena.used == used);
            llm_t5_generate(want, source, B, S, T, end, &w, &c, &arena);
            CHECK(memcmp(got, want, sizeof got) == 0);
        }
    }
}

TEST(t5_step, "the scratch of its parts is what is named; of equally likely tokens the first") {
    enum { ROWS = 3, WIDE = 20, HEADS = 5, D = 8, F = 96, WORDS = 50, PLACES = 7, MOST = 6 };
    for (size_t k = 0; k < 2; k++) {
        llm_t5_config c = config(k);
        c.vocab = WORDS;
        for (size_t i = 0; i < 2; i++) {
            llm_t5_stack_config *s = i ? &c.decoder : &c.encoder;
            s->hidden = F, s->attn.width = WIDE, s->attn.heads = HEADS, s->attn.head_size = D;
        }
        llm_arena arena = test_arena(1 << 19);
        llm_t5_weights w;
        size_t matrices;
        llm_t5_bind(&w, zeros(llm_t5_count(&matrices, &c)), &c, &arena);
        const size_t start = arena.used, heads = arena_room(ROWS * HEADS * D),
                     row = arena_room(ROWS * WIDE);
        const int *text = as_ints(zeros(ROWS * PLACES), ROWS * PLACES);
        int ids[ROWS * MOST];
        memset(ids, 255, sizeof ids);
        llm_arena_take(&arena, ROWS, sizeof(bool)); /* what writing takes in front */
        llm_arena_take(&arena, ROWS, sizeof(int));
        float *logits = llm_arena_floats(&arena, ROWS * WORDS);
        llm_t5_stack_acts acts;
        llm_t5_step_cache cache;
        bool *hidden;
        arena.peak = 0;
        const float *mem = llm_t5_encode(&acts, &hidden, text, ROWS, PLACES, &w, &c, &arena);
        llm_t5_step_create(&cache, mem, hidden, ROWS, PLACES, MOST, &w, &c, &arena);
        const size_t used = arena.used, first = arena.peak;
        arena.peak = 0;
        llm_t5_step_attend(zeros(ROWS * WIDE), zeros(ROWS * WIDE), cache.mem_k, cache.mem_v, PLACES,
                           PLACES, NULL, hidden, ROWS, &w.decoder.layer[0].cross, &c.decoder.attn,
                           &arena);
        CHECK(arena.used == used);
        CHECK(arena.peak == used + 2 * heads + arena_room(ROWS * HEADS * PLACES) + row + 64);
        for (size_t t = 0; t < MOST; t++) {
            arena.peak = 0;
            llm_t5_step(logits, &cache, text, &w, &c, &arena);
            const size_t own = 3 * row + arena_room(HEADS * (t + 1)) + heads;
            CHECK(arena.peak == used + own + (2 + k) * arena_room(ROWS * F));
        }
        const size_t all = first > arena.peak ? first : arena.peak;
        arena.used = start, arena.peak = 0;
        llm_t5_step_generate(ids, text, ROWS, PLACES, MOST, -1, &w, &c, &arena);
        CHECK(arena.used == start && arena.peak == all);
        for (size_t i = 0; i < ROWS * MOST; i++) CHECK(ids[i] == 0);
    }
}

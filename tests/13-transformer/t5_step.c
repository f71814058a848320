/* @t5_step */
#include "../test.h"

#include "../../llm.h"

#include "../arena.h"
#include "../tiny_t5.h"

enum { B = 2, S = 5, T = 6, V = 9 };
static const int source[B * S] = {2, 5, 3, 4, 6, 4, 2, 6, 0, 0};

static llm_t5_config config(bool gated) { return tiny_t5_config(gated, V, 6, 7, 3, 2, 1); }
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

static size_t larger(size_t a, size_t b) { return a > b ? a : b; }

TEST(t5_step, "a cache and a step take what is named: of long texts, sources and MLPs") {
    for (size_t k = 0; k < 6; k++) { /* a long text, a long source, a wide MLP */
        const size_t last = k < 2 ? 40 : 3, from = k / 2 == 1 ? 50 : 5;
        llm_t5_config c = config(k % 2);
        c.encoder.hidden = c.decoder.hidden = k < 4 ? 7 : 65;
        const size_t C = c.decoder.attn.width, H = c.decoder.attn.heads, F = c.decoder.hidden;
        const size_t D = c.decoder.attn.head_size, HD = H * D, L = c.decoder.layers;
        llm_arena arena = test_arena(1 << 19);
        llm_t5_weights w;
        weights(&w, &c, 1, &arena);
        int *text = (int *)test_memory(B * from, sizeof(int)), ids[B] = {3, 4};
        for (size_t i = 0; i < B * from; i++) text[i] = 2 + (int)(i % 5);
        llm_t5_stack_acts a;
        llm_t5_step_cache cache;
        bool *hidden;
        const float *mem = llm_t5_encode(&a, &hidden, text, B, from, &w, &c, &arena);
        size_t used = arena.used;
        llm_t5_step_create(&cache, mem, hidden, B, from, last, &w, &c, &arena);
        CHECK(arena.used - used ==
              2 * arena_room(L * B * last * HD) + 2 * arena_room(L * B * from * HD));
        used = arena.used;
        const size_t own = 2 * arena_room(B * HD) + arena_room(B * C);
        const size_t across = own + arena_room(B * H * from) + (B * from + 63) / 64 * 64;
        const size_t mlp = arena_room(B * C) + (k % 2 ? 3 : 2) * arena_room(B * F);
        for (size_t t = 0; t < last; t++) {
            float logits[B * V];
            arena.peak = 0;
            llm_t5_step(logits, &cache, ids, &w, &c, &arena);
            const size_t most = larger(larger(own + arena_room(B * H * (t + 1)), across), mlp);
            CHECK(arena.used == used);
            CHECK(arena.peak - used ==
                  2 * arena_room(B * C) + arena_room(H * (t + 1)) + arena_room(B * HD) + most);
        }
    }
}

TEST(t5_step,
     "writing takes a row of logits besides the steps; of equally likely tokens the first") {
    const llm_t5_config c = config(false);
    llm_arena arena = test_arena(1 << 18);
    llm_t5_weights w;
    size_t matrices;
    float *flat = weights(&w, &c, 1, &arena);
    const size_t used = arena.used;
    int ids[B * T] = {0};
    llm_t5_stack_acts a;
    llm_t5_step_cache cache;
    bool *hidden;
    float logits[B * V];
    arena.peak = 0;
    const float *mem = llm_t5_encode(&a, &hidden, source, B, S, &w, &c, &arena);
    llm_t5_step_create(&cache, mem, hidden, B, S, T, &w, &c, &arena);
    for (size_t t = 0; t < T; t++) llm_t5_step(logits, &cache, ids, &w, &c, &arena);
    const size_t steps = arena.peak;
    arena.used = used, arena.peak = 0;
    llm_t5_step_generate(ids, source, B, S, T, -1, &w, &c, &arena);
    CHECK(arena.peak == steps + arena_room(B * V) + 2 * 64);
    memset(flat, 0, llm_t5_count(&matrices, &c) * sizeof(float));
    llm_t5_step_generate(ids, source, B, S, T, -1, &w, &c, &arena);
    for (size_t i = 0; i < B * T; i++) CHECK(ids[i] == 0);
}

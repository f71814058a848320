/* @prefix_lm_generate */
#include "../test.h"

#include "../../llm.h"

#include "../arena.h"
#include "../tiny_prefix_lm.h"

enum { LONG = 6, WIDE = 5, WORDS = 14 };

/* A model with larger weights than the first ones, so that what it writes changes. */
static prefix_model *model_of(size_t layers, bool causal, bool pre, uint64_t seed) {
    llm_prefix_lm_config c = llm_prefix_lm_defaults(WORDS, layers, 12, 3);
    c.stack.hidden = 7;
    c.stack.norm = pre ? LLM_PRENORM_PRE : LLM_PRENORM_POST;
    c.causal = causal;
    size_t matrices;
    prefix_model *m = prefix_new(&c, seed, 1 << 18);
    llm_prefix_lm_count(&matrices, &c);
    for (size_t i = 0; i < matrices; i++) m->flat[i] *= 2.5f;
    return m;
}

static size_t taken(size_t bytes) { return (bytes + 63) / 64 * 64; }

/* The scratch for 3 rows of texts of 12 channels: the cache and the lists, and a pass
 * over the source or a step, as calls of them find it. */
static size_t scratch(const prefix_model *m, size_t width, size_t length) {
    const size_t room = width + length;
    const llm_decoder_weights dw = {m->w.stack.attn, NULL, m->w.stack.mlp, m->w.stack.norm_w,
                                    m->w.stack.norm_b};
    llm_arena kept = test_arena(1 << 18), arena = test_arena(1 << 18);
    llm_sublayer_view v = llm_sublayer_look(B, width);
    llm_decoder_cache cache;
    llm_encoder_acts a;
    float y[B * 12];
    llm_decoder_cache_create(&cache, room, &v, &dw, &m->c.stack, &kept);
    arena.peak = 0;
    const int *none = (const int *)test_memory(B * room, sizeof(int));
    const float *x = llm_prefix_lm_embed(none, none, B * width, width, &m->w, &m->c, &arena);
    llm_encoder_forward(&a, x, &v, &m->w.stack, &m->c.stack, &arena);
    arena.used = 0;
    x = llm_prefix_lm_embed(none, none, B, room, &m->w, &m->c, &arena);
    llm_decoder_step(y, &cache, x, &dw, &m->c.stack, &arena);
    return kept.used + taken(B * width * sizeof(int)) + 2 * taken(B * sizeof(int)) + taken(B) +
           taken(B * width) + taken(width * width) + taken(B * 12 * sizeof(float)) +
           taken(B * WORDS * sizeof(float)) + arena.peak;
}

TEST(prefix_lm_generate, "memory is that of the cache and of a pass or a step, however long the "
                         "text; of equal tokens the first is written") {
    const int source[B * WIDE] = {2, 5, 3, 4, 8, 4, 7};
    for (size_t width = 0; width <= WIDE; width++)
        for (size_t length = 2; length <= 32; length += 30) {
            prefix_model *m = model_of(2, false, true, 3);
            int *ids = (int *)test_memory(B * length, sizeof(int));
            llm_arena arena = test_arena(scratch(m, width, length));
            llm_prefix_lm_generate(ids, source, B, width, length, -1, &m->w, &m->c, &arena);
            CHECK(arena.used == 0);
            memset(m->flat, 0, m->count * sizeof(float));
            for (size_t i = 0; i < B * length; i++) ids[i] = 5;
            llm_prefix_lm_generate(ids, source, B, width, length, -1, &m->w, &m->c, &arena);
            for (size_t i = 0; i < B * length; i++) CHECK(ids[i] == 0);
        }
}

TEST(prefix_lm_generate, "writing token by token equals the argmax of full passes, up to the end, "
                         "for sources of any length") {
    size_t ended = 0;
    for (uint64_t seed = 0; seed < 9; seed++) {
        prefix_model *m = model_of(1 + seed % 2, seed & 2, seed & 4, seed);
        /* padding behind 5, 2 and 0 tokens, and rows with one place for a source, and none */
        const int source[B * WIDE] = {2, 5, 3, 4, 8, 4, 7, 0, 0, 0, 0, 0, 0, 0, 0};
        const size_t width = seed == 7 ? 0 : seed == 8 ? 1 : WIDE;
        int ids[B * LONG], want[B * LONG], end = -1;
        for (size_t pass = 0; pass < 2; pass++) { /* then with a text's second token as end */
            bool done[B] = {false, false, false};
            const size_t used = m->arena.used;
            m->c.stack.dropout = 0.5f; /* not in use */
            llm_prefix_lm_generate(ids, source, B, width, LONG, end, &m->w, &m->c, &m->arena);
            CHECK(m->arena.used == used);
            m->c.stack.dropout = 0.0f;
            for (size_t i = 0; i < B * LONG; i++) want[i] = 2;
            for (size_t t = 0; t < LONG; t++) {
                llm_prefix_lm_acts a;
                llm_prefix_lm_forward(&a, source, want, B, width, LONG, &m->w, &m->c, &m->arena);
                for (size_t b = 0; b < B; b++) {
                    want[b * LONG + t] =
                        done[b] ? 0 : llm_greedy_pick(a.logits + (b * LONG + t) * WORDS, WORDS);
                    done[b] = done[b] || want[b * LONG + t] == end;
                }
                m->arena.used = used;
            }
            CHECK(memcmp(ids, want, sizeof ids) == 0);
            for (size_t b = 0; pass && b < B; b++) ended += done[b];
            end = ids[LONG + 1];
        }
    }
    CHECK(ended >= 8); /* each seed's second text at the least */
}

TEST(prefix_lm_generate,
     "what is written depends on the source's later tokens, and not on padding") {
    size_t changed = 0;
    for (uint64_t seed = 0; seed < 8; seed++) {
        prefix_model *m = model_of(2, false, true, seed);
        const int source[3 * WIDE] = {2, 5, 3, 0, 0, 2, 5, 8, 0, 0, 2, 5, 3};
        int ids[2 * LONG], narrow[LONG];
        llm_prefix_lm_generate(ids, source, 2, WIDE, LONG, -1, &m->w, &m->c, &m->arena);
        llm_prefix_lm_generate(narrow, source, 1, 3, LONG, -1, &m->w, &m->c, &m->arena);
        CHECK(memcmp(ids, narrow, sizeof narrow) == 0);
        changed += memcmp(ids, ids + LONG, sizeof narrow) != 0;
    }
    CHECK(changed >= 2);
}

/* @prefix_lm_generate */
#include "../test.h"

#include "../../llm.h"

#include "../arena.h"
#include "../tiny_prefix_lm.h"

enum { LONG = 6, WIDE = 5 };

/* A model with larger weights than the first ones, so that what it writes changes. */
static prefix_model *model_of(size_t layers, bool causal, bool pre, uint64_t seed) {
    llm_prefix_lm_config c = llm_prefix_lm_defaults(9, layers, 12, 3);
    c.stack.hidden = 7;
    c.stack.norm = pre ? LLM_PRENORM_PRE : LLM_PRENORM_POST;
    c.causal = causal;
    size_t matrices;
    prefix_model *m = prefix_new(&c, seed, 1 << 18);
    llm_prefix_lm_count(&matrices, &c);
    for (size_t i = 0; i < matrices; i++) m->flat[i] *= 2.5f;
    return m;
}

TEST(prefix_lm_generate, "writing token by token equals the argmax of full passes, up to the end, "
                         "for sources of any length") {
    size_t ended = 0;
    for (uint64_t seed = 0; seed < 8; seed++) {
        prefix_model *m = model_of(1 + seed % 2, seed & 2, seed & 4, seed);
        /* padding behind 5, 2 and 0 tokens, and rows without places for a source */
        const int source[B * WIDE] = {2, 5, 3, 4, 8, 4, 7, 0, 0, 0, 0, 0, 0, 0, 0};
        const size_t width = seed == 7 ? 0 : WIDE;
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
                        done[b] ? 0 : llm_greedy_pick(a.logits + (b * LONG + t) * 9, 9);
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

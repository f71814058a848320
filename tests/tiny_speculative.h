/* A model for speculation: logits are table (V^2,V) of the last two tokens, 0 stands before the
 * first; texts, trees and taking back. Behind test.h and llm.h. */
#ifndef TINY_SPECULATIVE_H
#define TINY_SPECULATIVE_H

enum { TINY_SPECULATIVE_ROOM = 600 };

typedef struct {
    const float *table;
    size_t V, length, last, passes, tokens; /* of the state; of the last pass; counts */
    int text[TINY_SPECULATIVE_ROOM], node[TINY_SPECULATIVE_ROOM];
    size_t before[TINY_SPECULATIVE_ROOM]; /* the token in front of each node */
} tiny_speculative;

TEST_UNUSED static void tiny_speculative_pass(void *context, float *logits, const int *ids,
                                              const int *parent, size_t n) {
    tiny_speculative *m = (tiny_speculative *)context;
    m->passes++;
    m->tokens += n;
    CHECK(n > 0 && m->length + n <= TINY_SPECULATIVE_ROOM);
    for (size_t i = 0; i < n; i++) {
        const int up = parent ? parent[i] : (int)i - 1;
        CHECK(up >= -1 && up < (int)i && ids[i] >= 0 && (size_t)ids[i] < m->V);
        const size_t before = up >= 0         ? (size_t)ids[up]
                              : m->length > 0 ? (size_t)m->text[m->length - 1]
                                              : 0;
        memcpy(logits + i * m->V, m->table + (before * m->V + (size_t)ids[i]) * m->V,
               m->V * sizeof(float));
        m->node[i] = ids[i];
        m->before[i] = before;
    }
    m->last = n;
    if (parent) return; /* a tree waits for keep */
    memcpy(m->text + m->length, ids, n * sizeof(int));
    m->length += n;
}
TEST_UNUSED static void tiny_speculative_keep(void *context, const size_t *slot, size_t n) {
    tiny_speculative *m = (tiny_speculative *)context;
    for (size_t i = 0; i < n; i++) {
        CHECK(slot[i] < m->last && (i == 0 || slot[i] > slot[i - 1]));
        m->text[m->length++] = m->node[slot[i]];
    }
}
TEST_UNUSED static void tiny_speculative_rollback(void *context, size_t n) {
    tiny_speculative *m = (tiny_speculative *)context;
    CHECK(n <= m->length);
    m->length -= n;
}

TEST_UNUSED static llm_speculative_model tiny_speculative_model(tiny_speculative *m,
                                                                const float *table, size_t V) {
    memset(m, 0, sizeof *m);
    m->table = table, m->V = V;
    llm_speculative_model model;
    model.V = V, model.capacity = TINY_SPECULATIVE_ROOM;
    model.context = m;
    model.pass = tiny_speculative_pass;
    model.keep = tiny_speculative_keep;
    model.rollback = tiny_speculative_rollback;
    return model;
}

/* A random table, and one that is like it: the sum of it and a spread of other numbers. */
TEST_UNUSED static float *tiny_speculative_table(uint64_t seed, size_t V, const float *like,
                                                 float spread) {
    float *table = floats(V * V * V);
    llm_rng rng = llm_rng_seed(seed);
    llm_rng_normal_fill(&rng, table, V * V * V);
    for (size_t i = 0; i < V * V * V; i++) table[i] = table[i] * spread + (like ? like[i] : 0.0f);
    return table;
}

/* p (V^3) <- the joint law of three tokens behind the text 0 first, after a chain. */
TEST_UNUSED static void tiny_speculative_joint(double *joint, const float *table, size_t V,
                                               size_t first, const llm_sampling_step *chain,
                                               size_t steps) {
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 4096));
    float *p = floats(V * V * V);
    memcpy(p, table, V * V * V * sizeof(float));
    for (size_t r = 0; r < V * V; r++) llm_sampling_chain(p + r * V, V, chain, steps, &arena);
    llm_softmax_forward(p, p, V * V, V, 1.0f);
    for (size_t a = 0; a < V; a++)
        for (size_t b = 0; b < V; b++)
            for (size_t c = 0; c < V; c++)
                joint[(a * V + b) * V + c] = (double)p[first * V + a] *
                                             (double)p[(first * V + a) * V + b] *
                                             (double)p[(a * V + b) * V + c];
    llm_arena_destroy(&arena);
}

/* Pearson's statistic of counts against runs p over n cells as a standard normal number (Wilson and
 * Hilferty); cells below 8 are pooled, those of probability 0 must be empty. */
TEST_UNUSED static double tiny_speculative_chi(const size_t *count, const double *p, size_t n,
                                               double runs) {
    double chi = 0.0, rest = 0.0, want_rest = 0.0, cells = -1.0;
    for (size_t i = 0; i < n; i++) {
        const double want = runs * p[i], got = (double)count[i];
        if (p[i] == 0.0) CHECK(count[i] == 0);
        if (want < 8.0) {
            rest += got, want_rest += want;
            continue;
        }
        chi += (got - want) * (got - want) / want;
        cells += 1.0;
    }
    if (want_rest > 1.0) chi += (rest - want_rest) * (rest - want_rest) / want_rest, cells += 1.0;
    const double s = 2.0 / (9.0 * cells);
    return (pow(chi / cells, 1.0 / 3.0) - 1.0 + s) / sqrt(s);
}

#endif

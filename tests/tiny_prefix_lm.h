/* A @prefix_lm that is trained on pairs of texts, or the golden one. Include it behind llm.h and
 * arena.h. */
#ifndef TINY_PREFIX_LM_H
#define TINY_PREFIX_LM_H

#include "tiny_translator.h"

enum { B = 3, S = 4, T = 3, V = 6, C = 4 }; /* of the golden one */

typedef struct {
    llm_prefix_lm_config c;
    llm_prefix_lm_weights w, g;
    float *flat, *grad, *m, *v;
    size_t count, t;
    llm_arena arena;
} prefix_model;

/* A new model with first weights of a seed, and room for batches of so many bytes. */
TEST_UNUSED static prefix_model *prefix_new(const llm_prefix_lm_config *c, uint64_t seed,
                                            size_t bytes) {
    prefix_model *m = (prefix_model *)test_memory(1, sizeof(prefix_model));
    size_t matrices;
    llm_rng rng = llm_rng_seed(seed);
    m->c = *c;
    m->arena = test_arena(bytes);
    m->count = llm_prefix_lm_count(&matrices, c);
    m->flat = floats(m->count), m->grad = zeros(m->count);
    m->m = zeros(m->count), m->v = zeros(m->count);
    llm_prefix_lm_bind(&m->w, m->flat, c, &m->arena);
    llm_prefix_lm_bind(&m->g, m->grad, c, &m->arena);
    llm_prefix_lm_init(&m->w, c, &rng);
    return m;
}

/* Pre-norm with a prefix, or post-norm and causal. */
TEST_UNUSED static prefix_model *prefix_golden(size_t causal) {
    llm_prefix_lm_config c = llm_prefix_lm_defaults(V, 2, C, 2);
    c.stack.hidden = 5;
    c.stack.norm = causal ? LLM_PRENORM_POST : LLM_PRENORM_PRE;
    c.causal = causal == 1;
    prefix_model *m = prefix_new(&c, 1, 1 << 18);
    size_t n;
    const float *w = golden_n(&n, "%s/weights", causal ? "causal" : "prefix");
    CHECK(n == m->count);
    memcpy(m->flat, w, n * sizeof(float));
    return m;
}

/* One step of AdamW on a batch. Returns its loss. */
TEST_UNUSED static float prefix_step(prefix_model *m, const int *source, const int *target,
                                     size_t rows, size_t from, size_t to,
                                     const llm_adamw_config *adamw) {
    const size_t mark = m->arena.used;
    llm_prefix_lm_acts a;
    m->c.stack.seed = ++m->t;
    const float loss =
        llm_prefix_lm_forward(&a, source, target, rows, from, to, &m->w, &m->c, &m->arena);
    llm_prefix_lm_backward(&m->g, &a, &m->w, &m->c, &m->arena);
    llm_adamw_step(m->flat, m->m, m->v, m->grad, m->count, adamw, m->t);
    memset(m->grad, 0, m->count * sizeof(float));
    m->arena.used = mark;
    return loss;
}

#endif

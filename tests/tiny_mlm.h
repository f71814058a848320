/* A tiny BERT with the head of @mlm, to be trained or with golden weights. Include it behind llm.h
 * and arena.h. */
#ifndef TINY_MLM_H
#define TINY_MLM_H

enum { TINY_MLM_V = 9, TINY_MLM_C = 4, TINY_MLM_PLACES = 6 }; /* of the golden one */

/* All in one vector. */
typedef struct {
    llm_bert_config c;
    llm_bert_weights w, dw;
    llm_mlm_head head, dhead;
    float *flat, *g, *first, *second;
    size_t count;
    llm_arena arena;
} model;

TEST_UNUSED static model make(size_t vocab, size_t places, size_t layers, size_t width,
                              size_t hidden, float *flat) {
    model m;
    m.c = llm_bert_defaults();
    m.c.encoder.layers = layers, m.c.encoder.width = width, m.c.encoder.heads = 2;
    m.c.encoder.hidden = hidden;
    m.c.vocab = vocab, m.c.places = places;
    /* the head stands where the pooler would: bert's matrices without it, and so on */
    const size_t matrices = llm_bert_matrices(&m.c) + width * width;
    m.count = matrices + llm_bert_vectors(&m.c) + 3 * width + vocab;
    m.flat = flat ? flat : zeros(m.count), m.g = zeros(m.count);
    m.first = zeros(m.count), m.second = zeros(m.count);
    m.arena = test_arena(1 << 22);
    float *matrix = m.flat, *vector = m.flat + matrices;
    llm_bert_bind(&m.w, &matrix, &vector, &m.c, &m.arena);
    llm_mlm_bind(&m.head, &matrix, &vector, vocab, width);
    CHECK(matrix == m.flat + matrices && vector == m.flat + m.count);
    matrix = m.g, vector = m.g + matrices;
    llm_bert_bind(&m.dw, &matrix, &vector, &m.c, &m.arena);
    llm_mlm_bind(&m.dhead, &matrix, &vector, vocab, width);
    return m;
}

/* First weights of a model to be trained. */
TEST_UNUSED static void tiny_mlm_init(model *m, float std, llm_rng *rng) {
    const size_t C = m->c.encoder.width;
    llm_bert_init(&m->w, std, &m->c, rng);
    llm_rng_normal_fill(rng, m->head.dense, C * C);
    for (size_t i = 0; i < C * C; i++) m->head.dense[i] *= std;
    for (size_t i = 0; i < C; i++) m->head.norm_w[i] = 1.0f;
}

/* Step t of AdamW on a batch (B,T). Returns its loss. */
TEST_UNUSED static float tiny_mlm_step(model *m, const int *ids, const int *label, size_t B,
                                       size_t T, const llm_adamw_config *adamw, size_t t) {
    const size_t mark = m->arena.used, C = m->c.encoder.width;
    llm_bert_acts a;
    llm_mlm_acts head;
    const float *h = llm_bert_forward(&a, ids, NULL, NULL, B, T, &m->w, &m->c, &m->arena);
    const float loss = llm_mlm_forward(&head, h, label, &m->head, m->w.word, B * T, m->c.vocab, C,
                                       1e-12f, &m->arena);
    float *d = llm_arena_floats(&m->arena, B * T * C);
    memset(d, 0, B * T * C * sizeof(float));
    llm_mlm_backward(d, &m->dhead, m->dw.word, &head, &m->head, m->w.word, &m->arena);
    llm_bert_backward(&m->dw, d, &a, &m->w, &m->c, &m->arena);
    llm_adamw_step(m->flat, m->first, m->second, m->g, m->count, adamw, t);
    memset(m->g, 0, m->count * sizeof(float));
    m->arena.used = mark;
    return loss;
}

/* Golden weights have no pooler: C C matrices and C biases are let in. */
TEST_UNUSED static float *with_pooler(const float *golden_, size_t n, bool out, float *back) {
    enum { C = TINY_MLM_C };
    model m = make(TINY_MLM_V, TINY_MLM_PLACES, 2, C, 5, NULL);
    const size_t before = (size_t)(m.w.pool_w - m.flat), gap = C * C;
    const size_t bias = (size_t)(m.w.pool_b - m.flat);
    CHECK(n + gap + C == m.count);
    float *all = zeros(m.count);
    for (size_t i = 0, k = 0; i < m.count; i++) {
        if ((i >= before && i < before + gap) || (i >= bias && i < bias + C)) continue;
        if (out)
            back[k++] = golden_[i];
        else
            all[i] = golden_[k++];
    }
    return all;
}

/* The golden model: weights of the golden array of that name. */
TEST_UNUSED static model tiny_mlm_golden(const char *name) {
    size_t n;
    const float *weights = golden_n(&n, "%s", name);
    return make(TINY_MLM_V, TINY_MLM_PLACES, 2, TINY_MLM_C, 5,
                with_pooler(weights, n, false, NULL));
}

#endif

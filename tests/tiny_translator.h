/* An @encoder_decoder that is trained on pairs of texts. Include it behind llm.h and arena.h. */
#ifndef TINY_TRANSLATOR_H
#define TINY_TRANSLATOR_H

typedef struct {
    llm_encoder_decoder_config c;
    llm_encoder_decoder_weights w, g;
    float *flat, *grad, *m, *v;
    size_t count, t;
    llm_arena arena;
} translator;

/* A new model with first weights of a seed, and room for batches of so many bytes. */
TEST_UNUSED static translator *translator_new(const llm_encoder_decoder_config *c, uint64_t seed,
                                              size_t bytes) {
    translator *m = (translator *)test_memory(1, sizeof(translator));
    size_t matrices;
    llm_rng rng = llm_rng_seed(seed);
    m->c = *c;
    m->arena = test_arena(bytes);
    m->count = llm_encoder_decoder_count(&matrices, c);
    m->flat = floats(m->count), m->grad = zeros(m->count);
    m->m = zeros(m->count), m->v = zeros(m->count);
    llm_encoder_decoder_bind(&m->w, m->flat, c, &m->arena);
    llm_encoder_decoder_bind(&m->g, m->grad, c, &m->arena);
    llm_encoder_decoder_init(&m->w, c, &rng);
    return m;
}

/* One step of AdamW on a batch. Returns its loss. */
TEST_UNUSED static float translator_step(translator *m, const int *source, const int *target,
                                         size_t B, size_t S, size_t T,
                                         const llm_adamw_config *adamw) {
    const size_t mark = m->arena.used;
    llm_encoder_decoder_acts a;
    m->t++;
    m->c.encoder.seed = 2 * m->t, m->c.decoder.seed = 2 * m->t + 1;
    const float loss =
        llm_encoder_decoder_forward(&a, source, target, B, S, T, &m->w, &m->c, &m->arena);
    llm_encoder_decoder_backward(&m->g, &a, &m->w, &m->c, &m->arena);
    llm_adamw_step(m->flat, m->m, m->v, m->grad, m->count, adamw, m->t);
    memset(m->grad, 0, m->count * sizeof(float));
    m->arena.used = mark;
    return loss;
}

/* Of B targets (B,T), how many are written without a mistake. */
TEST_UNUSED static size_t translator_right(translator *m, const int *source, const int *target,
                                           size_t B, size_t S, size_t T, int end) {
    int *ids = (int *)test_memory(B * T, sizeof(int));
    size_t right = 0;
    llm_encoder_decoder_generate(ids, source, B, S, T, end, &m->w, &m->c, &m->arena);
    for (size_t b = 0; b < B; b++)
        right += memcmp(ids + b * T, target + b * T, T * sizeof(int)) == 0;
    return right;
}

#endif

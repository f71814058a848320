/* A model for searches: logits are table (V^2,V) of the last two tokens, 0 stands before the first.
 * Behind test.h and llm.h, once in each suite: nvcc compiles a chapter as one file, a namespace a
 * suite, so there is no guard. */

enum { TINY_BEAM_ROWS = 4096 };

typedef struct {
    const float *table;
    size_t V, turns, rows;
    size_t (*state)[2];
} tiny_beam;

TEST_UNUSED static void tiny_beam_step(void *context, float *logits, const int *ids,
                                       const size_t *count, const size_t *row, size_t rows,
                                       size_t n) {
    tiny_beam *m = (tiny_beam *)context;
    m->turns++;
    m->rows += rows;
    for (size_t i = 0; i < rows; i++) {
        size_t *state = m->state[row[i]];
        for (size_t t = 0; t < count[i]; t++) {
            state[0] = state[1];
            state[1] = (size_t)ids[i * n + t];
        }
        memcpy(logits + i * m->V, m->table + (state[0] * m->V + state[1]) * m->V,
               m->V * sizeof(float));
    }
}
TEST_UNUSED static void tiny_beam_reorder(void *context, const size_t *parent, size_t B) {
    tiny_beam *m = (tiny_beam *)context;
    size_t(*old)[2] = (size_t(*)[2])test_memory(B, sizeof *old);
    memcpy(old, m->state, B * sizeof *old);
    for (size_t b = 0; b < B; b++) memcpy(m->state[b], old[parent[b]], sizeof *old);
}

/* m, with this table and no text. */
TEST_UNUSED static llm_beam_search_model tiny_beam_model(tiny_beam *m, const float *table,
                                                         size_t V) {
    memset(m, 0, sizeof *m);
    m->table = table, m->V = V;
    m->state = (size_t(*)[2])test_memory(TINY_BEAM_ROWS, sizeof *m->state);
    llm_beam_search_model model;
    model.model.V = V, model.model.capacity = 64;
    model.model.context = m;
    model.model.step = tiny_beam_step;
    model.reorder = tiny_beam_reorder;
    return model;
}

/* A random table: normal logits of this spread. */
TEST_UNUSED static float *tiny_beam_table(uint64_t seed, size_t V, float spread) {
    float *table = floats(V * V * V);
    llm_rng rng = llm_rng_seed(seed);
    llm_rng_normal_fill(&rng, table, V * V * V);
    for (size_t i = 0; i < V * V * V; i++) table[i] *= spread;
    return table;
}

/* log p of ids (T) behind the token first. */
TEST_UNUSED static double tiny_beam_logp(const float *table, size_t V, int first, const int *ids,
                                         size_t T) {
    double sum = 0.0;
    size_t a = 0, b = (size_t)first;
    for (size_t t = 0; t < T; t++) {
        const float *z = table + (a * V + b) * V;
        double total = 0.0;
        for (size_t v = 0; v < V; v++) total += exp((double)z[v]);
        sum += (double)z[ids[t]] - log(total);
        a = b, b = (size_t)ids[t];
    }
    return sum;
}

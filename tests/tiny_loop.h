/* A language model that greedy decoding makes repeat itself: behind token u stands v with logit
 * state[u] . out[v], vectors of random numbers. Behind test.h and llm.h. */
#ifndef TINY_LOOP_H
#define TINY_LOOP_H

enum { TINY_LOOP_V = 400, TINY_LOOP_D = 8, TINY_LOOP_T = 200, TINY_LOOP_SEEDS = 9 };

typedef struct {
    float state[TINY_LOOP_V * TINY_LOOP_D], out[TINY_LOOP_V * TINY_LOOP_D];
} tiny_loop;

TEST_UNUSED static tiny_loop *tiny_loop_model(uint64_t seed) {
    tiny_loop *m = (tiny_loop *)test_memory(1, sizeof *m);
    llm_rng rng = llm_rng_seed(seed);
    llm_rng_normal_fill(&rng, m->state, TINY_LOOP_V * TINY_LOOP_D);
    llm_rng_normal_fill(&rng, m->out, TINY_LOOP_V * TINY_LOOP_D);
    return m;
}

/* z (V): the logits behind token u. */
TEST_UNUSED static void tiny_loop_logits(float *z, const tiny_loop *m, int u) {
    llm_matmul_forward(z, m->state + (size_t)u * TINY_LOOP_D, m->out, NULL, 1, TINY_LOOP_D,
                       TINY_LOOP_V);
}

/* Share of the n-grams of ids (T) that stood further in front already. */
TEST_UNUSED static double tiny_loop_repeats(const int *ids, size_t T, size_t n) {
    size_t seen = 0;
    for (size_t t = 1; t + n <= T; t++) {
        bool before = false;
        for (size_t s = 0; s < t && !before; s++)
            before = memcmp(ids + s, ids + t, n * sizeof(int)) == 0;
        seen += before;
    }
    return (double)seen / (double)(T + 1 - n);
}

TEST_UNUSED static int tiny_loop_by_value(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}
/* The median of text(seed, strength) over the nine seeds of a set. */
TEST_UNUSED static double tiny_loop_median(double (*text)(uint64_t, float), uint64_t set,
                                           float strength) {
    double x[TINY_LOOP_SEEDS];
    for (uint64_t s = 0; s < TINY_LOOP_SEEDS; s++)
        x[s] = text(TINY_LOOP_SEEDS * set + s + 1, strength);
    qsort(x, TINY_LOOP_SEEDS, sizeof x[0], tiny_loop_by_value);
    return x[TINY_LOOP_SEEDS / 2];
}

#endif

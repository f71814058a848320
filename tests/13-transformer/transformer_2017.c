/* @transformer_2017 */
#include "../test.h"

#include "../../llm.h"

#include "../arena.h"

static llm_transformer_2017 make(const llm_encoder_decoder_config *c, size_t warmup, uint64_t seed,
                                 llm_arena *arena) {
    llm_transformer_2017 t;
    llm_rng rng = llm_rng_seed(seed);
    llm_transformer_2017_create(&t, c, warmup, &rng, arena);
    return t;
}

TEST(transformer_2017, "ten steps follow PyTorch: losses and all weights") {
    enum { B = 2, S = 4, T = 3 };
    llm_encoder_decoder_config c = llm_transformer_2017_config(6, 1, 4, 2);
    c.encoder.dropout = c.decoder.dropout = 0.0f;
    llm_arena arena = test_arena(1 << 18);
    llm_transformer_2017 t = make(&c, 200, 1, &arena);
    size_t n;
    const float *w = golden_n(&n, "in/weights");
    CHECK(n == t.count);
    memcpy(t.w, w, n * sizeof(float));
    const int *source = as_ints(golden("in/source"), B * S);
    const int *target = as_ints(golden("in/target"), B * T);
    float loss[10];
    const size_t used = arena.used;
    for (size_t k = 0; k < 10; k++) {
        for (size_t i = 0; i < n; i++) t.g[i] = 7.0f; /* of the step before */
        loss[k] = llm_transformer_2017_step(&t, source, target, B, S, T, &arena);
        CHECK(arena.used == used && t.step == k + 1);
    }
    CHECK_GOLDEN(loss, 10, 3e-6f, "out/losses");
    /* a gradient that is 0 but for rounding still moves its weight by the whole rate: biases of
     * keys */
    CHECK_ALL_NEAR(t.w, golden("out/weights"), n, 1e-2f);
    size_t off = 0;
    for (size_t i = 0; i < n; i++) off += fabsf(t.w[i] - golden("out/weights")[i]) > 2e-5f;
    CHECK(off <= 3 * 4); /* the biases of keys of three attentions */
}

TEST(transformer_2017, "the settings of the paper, and new moments") {
    llm_encoder_decoder_config c = llm_transformer_2017_config(37000, 6, 512, 8);
    size_t matrices;
    CHECK(llm_encoder_decoder_count(&matrices, &c) == 63082496);
    CHECK(c.tied && c.scale == sqrtf(512.0f) && c.smoothing == 0.1f);
    CHECK(c.encoder.dropout == 0.1f && c.decoder.dropout == 0.1f);
    CHECK(c.encoder.norm == LLM_PRENORM_POST && c.encoder.act == LLM_ACTIVATION_RELU);
    CHECK(c.encoder.hidden == 2048 && c.decoder.layers == 6);
    CHECK(llm_transformer_2017_limit(12) == 62);
    c = llm_transformer_2017_config(9, 1, 4, 2);
    llm_arena arena = test_arena(1 << 16);
    memset(arena.memory, 1, arena.size);
    const llm_transformer_2017 t = make(&c, 10, 1, &arena);
    for (size_t i = 0; i < t.count; i++) CHECK(t.g[i] == 0.0f && t.m[i] == 0.0f && t.v[i] == 0.0f);
    CHECK(t.step == 0 && t.warmup == 10 && t.weights.source == t.w && t.grads.head == t.g);
    CHECK(t.w[0] != 0.0f);
}

TEST(transformer_2017, "a first step is rate g / (|g| + 1e-9), which gradients of 1e-9 tell") {
    llm_encoder_decoder_config c = llm_transformer_2017_config(9, 1, 4, 2);
    c.encoder.dropout = c.decoder.dropout = 0.0f;
    llm_arena arena = test_arena(1 << 18);
    llm_transformer_2017 t = make(&c, 1, 1, &arena);
    float *before = floats(t.count);
    const int ids[4] = {3, 4, 5, 6};
    for (size_t i = 0; i < 4; i++) /* the last norm lets nearly nothing through */
        t.weights.decoder.mlp[0].norm.out_w[i] = 1e-9f;
    memcpy(before, t.w, t.count * sizeof(float));
    llm_transformer_2017_step(&t, ids, ids, 1, 4, 4, &arena);
    size_t small = 0;
    for (size_t i = 0; i < t.count; i++) {
        const double g = (double)t.g[i], moved = (double)before[i] - (double)t.w[i];
        CHECK_NEAR(moved, 0.5 * g / (fabs(g) + 1e-9), 1e-5); /* rate: 1/sqrt(4) */
        small += fabs(g) > 1e-10 && fabs(g) < 1e-8;
    }
    CHECK(small > 20);
}

TEST(transformer_2017, "each step drops other units; encoder and decoder drop different ones") {
    llm_encoder_decoder_config c = llm_transformer_2017_config(9, 1, 4, 2);
    c.encoder.dropout = c.decoder.dropout = 0.5f;
    llm_arena arena = test_arena(1 << 18);
    llm_transformer_2017 t = make(&c, 1000000, 1, &arena); /* a rate of nearly nothing */
    const int ids[4] = {3, 4, 5, 6};
    float loss[3];
    for (size_t k = 0; k < 3; k++) {
        loss[k] = llm_transformer_2017_step(&t, ids, ids, 1, 4, 4, &arena);
        CHECK(t.config.encoder.seed != t.config.decoder.seed);
        CHECK(t.config.encoder.seed / 2 == k + 1 && t.config.decoder.seed / 2 == k + 1);
    }
    CHECK(fabsf(loss[0] - loss[1]) > 1e-3f && fabsf(loss[1] - loss[2]) > 1e-3f);
}

TEST(transformer_2017, "the average of checkpoints is their mean, and the first of them alone") {
    const float w[3][2] = {{1.0f, -8.0f}, {4.0f, 2.0f}, {1.0f, 3.0f}};
    float mean[2] = {NAN, NAN};
    const float want[3][2] = {{1.0f, -8.0f}, {2.5f, -3.0f}, {2.0f, -1.0f}};
    for (size_t k = 0; k < 3; k++) {
        llm_transformer_2017_average(mean, w[k], 2, k);
        CHECK_ALL_NEAR(mean, want[k], 2, 1e-6f);
    }
}

TEST(transformer_2017, "learning to repeat a token: the smoothed loss stops at its floor") {
    llm_encoder_decoder_config c = llm_transformer_2017_config(7, 1, 16, 2);
    c.encoder.dropout = c.decoder.dropout = 0.0f;
    llm_arena arena = test_arena(1 << 20);
    llm_transformer_2017 t = make(&c, 60, 1, &arena);
    const int ids[6] = {3, 4, 5, 6, 5, 4};
    float loss = 0.0f;
    for (size_t k = 0; k < 200; k++)
        loss = llm_transformer_2017_step(&t, ids, ids, 2, 3, 3, &arena);
    const double floor_ = llm_label_smoothing_floor(0.1, 7, LLM_LABEL_SMOOTHING_ALL);
    CHECK(floor_ > 0.4 && (double)loss > floor_ - 1e-5 && (double)loss < floor_ + 0.02);
}

/* A language of subject, verb, object, each noun with an adjective before it or not; its
 * translation has the verb at the end and adjectives behind their nouns, in words of its own.
 * 3-6 nouns, 7-9 adjectives, 10-12 verbs; every word's translation is 10 further. */
enum { END = 2, WORDS = 23, S = 5, T = 6, BATCH = 16 };
static size_t phrase(int *from, int *to, llm_rng *rng) {
    const int noun = 3 + (int)llm_rng_below(rng, 4), adjective = 7 + (int)llm_rng_below(rng, 3);
    const size_t two = llm_rng_below(rng, 2);
    if (two) from[0] = adjective, to[1] = adjective + 10;
    from[two] = noun, to[0] = noun + 10;
    return two + 1;
}
static void sentences(int *source, int *target, size_t rows, llm_rng *rng) {
    memset(source, 0, rows * S * sizeof(int));
    memset(target, 0, rows * T * sizeof(int));
    for (size_t b = 0; b < rows; b++) {
        int *from = source + b * S, *to = target + b * T;
        size_t n = phrase(from, to, rng), verb = n;
        from[n] = 10 + (int)llm_rng_below(rng, 3);
        n += phrase(from + n + 1, to + n, rng);
        to[n] = from[verb] + 10;
        to[n + 1] = END;
    }
}

TEST(transformer_2017, "translates a small language with another order of words; the mean of the "
                       "last checkpoints too") {
    enum { FRESH = 50, STEPS = 300 };
    static int source[FRESH * S], target[FRESH * T];
    for (uint64_t seed = 1; seed <= 1; seed++) {
        llm_encoder_decoder_config c = llm_transformer_2017_config(WORDS, 1, 32, 4);
        c.encoder.hidden = c.decoder.hidden = 64;
        llm_arena arena = test_arena(1 << 23);
        llm_transformer_2017 t = make(&c, 100, seed, &arena);
        llm_rng rng = llm_rng_seed(100 + seed);
        float *mean = floats(t.count);
        for (size_t k = 1; k <= STEPS; k++) {
            sentences(source, target, BATCH, &rng);
            llm_transformer_2017_step(&t, source, target, BATCH, S, T, &arena);
            if (k > STEPS - 50 && k % 10 == 0)
                llm_transformer_2017_average(mean, t.w, t.count, (k - STEPS + 40) / 10);
        }
        sentences(source, target, FRESH, &rng);
        for (size_t pass = 0; pass < 2; pass++) {
            size_t right = 0;
            const size_t L = llm_transformer_2017_limit(S);
            const int *ids = llm_transformer_2017_translate(&t, source, FRESH, S, END, &arena);
            for (size_t b = 0; b < FRESH; b++) {
                bool same = memcmp(ids + b * L, target + b * T, T * sizeof(int)) == 0;
                for (size_t i = T; i < L; i++) same = same && ids[b * L + i] == 0;
                right += same;
            }
            CHECK(right > 20); /* of 50; 8 seeds: 43 to 50, with the mean 47 to 50 */
            memcpy(t.w, mean, t.count * sizeof(float));
        }
    }
}

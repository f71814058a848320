/* @prefix_lm */
#include "../test.h"

#include "../../llm.h"

#include "../arena.h"
#include "../tiny_prefix_lm.h"

TEST(prefix_lm,
     "logits, loss and all gradients equal torch.nn.TransformerEncoder over rows without "
     "padding, with a prefix and causal, and an empty source") {
    for (size_t causal = 0; causal < 2; causal++) {
        prefix_model *m = prefix_golden(causal);
        const char *name = causal ? "causal" : "prefix";
        const int *source = as_ints(golden("in/source"), B * S);
        const int *target = as_ints(golden("in/target"), B * T);
        llm_prefix_lm_acts a;
        const float loss =
            llm_prefix_lm_forward(&a, source, target, B, S, T, &m->w, &m->c, &m->arena);
        CHECK(a.kept == 6);
        CHECK_GOLDEN(a.logits, B * T * V, 1e-5f, "%s/logits", name);
        CHECK_GOLDEN(&loss, 1, 3e-6f, "%s/loss", name);
        const size_t used = m->arena.used;
        llm_prefix_lm_backward(&m->g, &a, &m->w, &m->c, &m->arena);
        CHECK(m->arena.used == used);
        CHECK_GOLDEN(m->grad, m->count, 2e-5f, "%s/grads", name);
        const int nothing[B * T] = {0};
        CHECK(llm_prefix_lm_forward(&a, source, nothing, B, S, T, &m->w, &m->c, &m->arena) == 0.0f);
        llm_prefix_lm_backward(&m->g, &a, &m->w, &m->c, &m->arena);
        CHECK_GOLDEN(m->grad, m->count, 2e-5f, "%s/grads", name);
    }
}

static double loss_of(prefix_model *m, const int *source, const int *target) {
    llm_arena arena = test_arena(1 << 16);
    llm_prefix_lm_acts a;
    llm_prefix_lm_forward(&a, source, target, B, S, T, &m->w, &m->c, &arena);
    double sum = 0.0;
    for (size_t i = 0; i < B * T; i++) sum += (double)a.loss[i];
    return sum / (double)a.kept;
}

TEST(prefix_lm, "finite differences of the table with dropout") {
    prefix_model *m = prefix_golden(0);
    m->c.stack.dropout = 0.3f;
    const int *source = as_ints(golden("in/source"), B * S);
    const int *target = as_ints(golden("in/target"), B * T);
    llm_prefix_lm_acts a;
    llm_prefix_lm_forward(&a, source, target, B, S, T, &m->w, &m->c, &m->arena);
    llm_prefix_lm_backward(&m->g, &a, &m->w, &m->c, &m->arena);
    CHECK_GRAD(m->grad, m->flat, (size_t)V * C, 4e-3f, 1e-2f, loss_of(m, source, target));
    /* the embedding's numbers are the stream's behind those of the stack's 4 sublayers */
    const float *x =
        llm_prefix_lm_embed(a.ids, a.place, B * (S + T), S + T, &m->w, &m->c, &m->arena);
    size_t gone = 0;
    for (size_t i = 0; i < B * (S + T) * C; i++) {
        const float scale = llm_dropout_scale(0.3f, m->c.stack.seed, 4 * B * (S + T) * C + i);
        CHECK((x[i] == 0.0f) == (scale == 0.0f));
        gone += x[i] == 0.0f;
    }
    CHECK(gone > 5);
}

TEST(prefix_lm, "finite differences where a single token is asked for") {
    prefix_model *m = prefix_golden(0);
    const int source[B * S] = {2, 5, 3, 4, 3}, target[B * T] = {4};
    llm_prefix_lm_acts a;
    llm_prefix_lm_forward(&a, source, target, B, S, T, &m->w, &m->c, &m->arena);
    CHECK(a.kept == 1);
    llm_prefix_lm_backward(&m->g, &a, &m->w, &m->c, &m->arena);
    CHECK_GRAD(m->grad, m->flat, (size_t)V * C, 4e-3f, 1e-2f, loss_of(m, source, target));
}

/* Does place t of row 0's logits change when number i of the row's source or target does? */
static bool heard(prefix_model *m, bool in_source, size_t i, size_t t) {
    int source[S] = {2, 5, 3, 4}, target[T] = {3, 5, 2};
    float before[V];
    llm_prefix_lm_acts a;
    const size_t mark = m->arena.used;
    llm_prefix_lm_forward(&a, source, target, 1, S, T, &m->w, &m->c, &m->arena);
    memcpy(before, a.logits + t * V, sizeof before);
    *(in_source ? source + i : target + i) = in_source ? 2 + (int)(i == 0) : 4;
    llm_prefix_lm_forward(&a, source, target, 1, S, T, &m->w, &m->c, &m->arena);
    const bool same = memcmp(before, a.logits + t * V, sizeof before) == 0;
    m->arena.used = mark;
    return !same;
}

TEST(prefix_lm, "each place of the target hears all of the source and what stands before it; a "
                "prefix hears itself in both directions, a causal source does not") {
    for (size_t causal = 0; causal < 2; causal++) {
        prefix_model *m = prefix_golden(causal);
        for (size_t t = 0; t < T; t++) {
            for (size_t i = 0; i < S; i++) CHECK(heard(m, true, i, t));
            for (size_t i = 0; i < T; i++) CHECK(heard(m, false, i, t) == (i < t));
        }
        /* the last token of the source, in the stack's output for the first one */
        float first[2][C];
        for (size_t k = 0; k < 2; k++) {
            const int source[S] = {2, 5, 3, k ? 2 : 4}, target[1] = {3};
            llm_prefix_lm_acts a;
            llm_prefix_lm_forward(&a, source, target, 1, S, 1, &m->w, &m->c, &m->arena);
            memcpy(first[k], a.stack.x, sizeof first[k]);
        }
        CHECK((memcmp(first[0], first[1], sizeof first[0]) == 0) == (causal == 1));
    }
}

TEST(prefix_lm, "padding the source changes no logit; first weights") {
    prefix_model *m = prefix_golden(0);
    const int narrow[2] = {4, 2}, wide[5] = {4, 2, 0, 0, 0}, target[T] = {3, 5, 2};
    float logits[T * V];
    llm_prefix_lm_acts a;
    llm_prefix_lm_forward(&a, narrow, target, 1, 2, T, &m->w, &m->c, &m->arena);
    memcpy(logits, a.logits, sizeof logits);
    llm_prefix_lm_forward(&a, wide, target, 1, 5, T, &m->w, &m->c, &m->arena);
    CHECK_ALL_NEAR(a.logits, logits, T * V, 2e-6f);

    /* a start token that is the padding is not hidden */
    const int full[4] = {4, 2, 3, 4};
    m->c.pad = 0, m->c.start = 1;
    llm_prefix_lm_forward(&a, full, target, 1, 4, T, &m->w, &m->c, &m->arena);
    memcpy(logits, a.logits, sizeof logits);
    m->c.pad = 1;
    llm_prefix_lm_forward(&a, full, target, 1, 4, T, &m->w, &m->c, &m->arena);
    CHECK(memcmp(a.logits, logits, sizeof logits) == 0);

    const llm_prefix_lm_config c = llm_prefix_lm_defaults(500, 1, 16, 2);
    CHECK(!c.causal && c.scale == 4.0f && c.pad == 0 && c.start == 1 && c.vocab == 500);
    prefix_model *big = prefix_new(&c, 1, 1 << 16);
    CHECK_NEAR(dot(big->w.table, big->w.table, 8000) / 8000.0, 1.0 / 16.0, 0.004);
    llm_rng rng = llm_rng_seed(1);
    float *normal = floats(8000);
    llm_rng_normal_fill(&rng, normal, 8000);
    for (size_t i = 0; i < 8000; i++) CHECK(big->w.table[i] == normal[i] / 4.0f);
    llm_prefix_lm_config none = llm_prefix_lm_defaults(500, 0, 16, 2); /* a table and no more */
    none.stack.norm = LLM_PRENORM_POST;
    CHECK(prefix_new(&none, 1, 64)->count == 8000);
    CHECK(big->w.stack.mlp[0].ffn.up_bias[0] == 0.0f && big->w.stack.attn[0].norm.out_w[0] == 1.0f);
}

/* Texts of 8 letters, to be written backwards with an end token, by two models: an encoder-decoder
 * of 1 + 1 layers and a prefix LM of two layers that has as many weights. Returns how many of 64
 * fresh texts are written without a mistake. */
enum { LETTERS = 6, LENGTH = 8, BATCH = 8, END = 2, WIDTH = 32, FRESH = 64, STEPS = 300 };
static void draw(int *from, int *to, size_t rows, llm_rng *rng) {
    for (size_t i = 0; i < rows * LENGTH; i++) from[i] = 3 + (int)llm_rng_below(rng, LETTERS);
    for (size_t b = 0; b < rows; b++) {
        for (size_t t = 0; t < LENGTH; t++)
            to[b * (LENGTH + 1) + t] = from[b * LENGTH + LENGTH - 1 - t];
        to[b * (LENGTH + 1) + LENGTH] = END;
    }
}
static size_t learn(size_t *count, bool prefix, uint64_t seed) {
    static int from[FRESH * LENGTH], to[FRESH * (LENGTH + 1)], ids[FRESH * (LENGTH + 1)];
    llm_encoder_decoder_config two = llm_encoder_decoder_defaults(LETTERS + 3, 1, WIDTH, 4);
    two.encoder.norm = two.decoder.norm = LLM_PRENORM_PRE;
    two.encoder.hidden = two.decoder.hidden = 64;
    two.tied = true, two.scale = sqrtf((float)WIDTH);
    llm_prefix_lm_config one = llm_prefix_lm_defaults(LETTERS + 3, 2, WIDTH, 4);
    one.stack.norm = LLM_PRENORM_PRE;
    one.stack.hidden = 64 + WIDTH; /* 2 C more in each layer for the 4 C of cross-attention */
    translator *pair = prefix ? NULL : translator_new(&two, seed, 1 << 23);
    prefix_model *m = prefix ? prefix_new(&one, seed, 1 << 23) : NULL;
    *count = prefix ? m->count : pair->count;
    llm_rng rng = llm_rng_seed(100 + seed);
    llm_adamw_config adamw = llm_adamw_defaults();
    adamw.beta2 = 0.98f;
    size_t right = 0;
    for (size_t t = 1; t <= STEPS; t++) {
        draw(from, to, BATCH, &rng);
        adamw.lr =
            8e-3f * (float)(t < 50 ? (double)t / 50.0 : (double)(STEPS - t) / (double)(STEPS - 50));
        if (prefix)
            prefix_step(m, from, to, BATCH, LENGTH, LENGTH + 1, &adamw);
        else
            translator_step(pair, from, to, BATCH, LENGTH, LENGTH + 1, &adamw);
    }
    draw(from, to, FRESH, &rng);
    if (!prefix) return translator_right(pair, from, to, FRESH, LENGTH, LENGTH + 1, END);
    llm_prefix_lm_generate(ids, from, FRESH, LENGTH, LENGTH + 1, END, &m->w, &m->c, &m->arena);
    for (size_t b = 0; b < FRESH; b++)
        right +=
            memcmp(ids + b * (LENGTH + 1), to + b * (LENGTH + 1), (LENGTH + 1) * sizeof(int)) == 0;
    return right;
}

TEST(prefix_lm, "learns to write a text backwards, with as many weights as an encoder-decoder") {
    for (uint64_t seed = 1; seed <= 1; seed++) {
        size_t right[2], count[2];
        for (size_t k = 0; k < 2; k++) right[k] = learn(&count[k], k == 1, seed);
        CHECK(count[0] == 21792 &&
              count[1] == 21600);              /* biases and norms differ, matrices do not */
        CHECK(right[0] > 31 && right[1] > 22); /* 9 seeds: 63 or 64, and 45 to 64 */
    }
}

/* @encoder_decoder */
#include "../test.h"

#include "../../llm.h"

#include "../arena.h"
#include "../tiny_encoder_decoder.h"
#include "../tiny_translator.h"

static translator *golden_model(bool tied) {
    const llm_encoder_decoder_config c = config(tied);
    translator *m = translator_new(&c, 1, 1 << 18);
    size_t n;
    const float *w = golden_n(&n, "%s/weights", name[tied]);
    CHECK(n == m->count);
    memcpy(m->flat, w, n * sizeof(float));
    return m;
}
static const int *source(void) { return as_ints(golden("in/source"), B * S); }
static const int *target(void) { return as_ints(golden("in/target"), B * T); }

TEST(encoder_decoder,
     "logits, loss and all gradients equal torch.nn.Transformer with padding, with "
     "three tables and with one") {
    for (size_t tied = 0; tied < 2; tied++) {
        translator *m = golden_model(tied);
        llm_encoder_decoder_acts a;
        const float loss =
            llm_encoder_decoder_forward(&a, source(), target(), B, S, T, &m->w, &m->c, &m->arena);
        CHECK_GOLDEN(a.logits, B * T * V, 1e-5f, "%s/logits", name[tied]);
        CHECK_GOLDEN(&loss, 1, 3e-6f, "%s/loss", name[tied]);
        CHECK(a.kept == 5);
        const size_t used = m->arena.used;
        llm_encoder_decoder_backward(&m->g, &a, &m->w, &m->c, &m->arena);
        CHECK(m->arena.used == used);
        CHECK_GOLDEN(m->grad, m->count, 2e-5f, "%s/grads", name[tied]);
        int nothing[B * T] = {0};
        CHECK(llm_encoder_decoder_forward(&a, source(), nothing, B, S, T, &m->w, &m->c,
                                          &m->arena) == 0.0f);
        llm_encoder_decoder_backward(&m->g, &a, &m->w, &m->c, &m->arena);
        CHECK_GOLDEN(m->grad, m->count, 2e-5f, "%s/grads", name[tied]);
    }
}

TEST(encoder_decoder, "one label is enough for a gradient: that of the head's rows sums to 0") {
    translator *m = golden_model(false);
    const int one[B * T] = {3};
    llm_encoder_decoder_acts a;
    CHECK(llm_encoder_decoder_forward(&a, source(), one, B, S, T, &m->w, &m->c, &m->arena) > 0.0f);
    llm_encoder_decoder_backward(&m->g, &a, &m->w, &m->c, &m->arena);
    CHECK(a.kept == 1 && dot(m->g.source, m->g.source, 7 * C) > 0.0);
    for (size_t c = 0; c < C; c++) {
        double sum = 0.0, most = 0.0;
        for (size_t v = 0; v < V; v++) {
            sum += (double)m->g.head[v * C + c];
            most = fmax(most, fabs((double)m->g.head[v * C + c]));
        }
        CHECK(most > 1e-4 && fabs(sum) < 1e-5);
    }
}

static double loss_of(translator *m) {
    llm_arena arena = test_arena(1 << 15);
    llm_encoder_decoder_acts a;
    llm_encoder_decoder_forward(&a, source(), target(), B, S, T, &m->w, &m->c, &arena);
    double sum = 0.0;
    for (size_t i = 0; i < B * T; i++) sum += (double)a.loss[i];
    return sum / (double)a.kept;
}

TEST(encoder_decoder, "finite differences with dropout: of embeddings, encoder and decoder apart") {
    for (size_t k = 0; k < 2; k++) {
        llm_encoder_decoder_config c = config(false);
        c.decoder.layers = 2;
        translator *m = translator_new(&c, 1, 1 << 18);
        m->c.encoder.dropout = k == 0 ? 0.3f : 0.0f, m->c.decoder.dropout = k == 1 ? 0.3f : 0.0f;
        llm_encoder_decoder_acts a;
        llm_encoder_decoder_forward(&a, source(), target(), B, S, T, &m->w, &m->c, &m->arena);
        llm_encoder_decoder_backward(&m->g, &a, &m->w, &m->c, &m->arena);
        CHECK_GRAD(m->grad, m->flat, (size_t)(7 + V) * C, 4e-3f, 1e-2f, loss_of(m));
        /* the embedding's own numbers are dropped: of 3 in 10 the whole path is gone */
        const size_t number = k ? 6 : 4, size = k ? T : S;
        const llm_sublayer_config *s = k ? &m->c.decoder : &m->c.encoder;
        const int *ids = k ? a.shifted : source();
        const size_t used = m->arena.used;
        const float *x = llm_encoder_decoder_embed(ids, k ? m->w.target : m->w.source, k ? V : 7, B,
                                                   size, 0, number, 1.0f, s, &m->arena);
        CHECK(m->arena.used - used == (B * size * C + 15) / 16 * 64); /* x is all that stays */
        size_t gone = 0;
        for (size_t i = 0; i < B * size * C; i++) {
            CHECK((x[i] == 0.0f) ==
                  (llm_dropout_scale(0.3f, s->seed, number * B * size * C + i) == 0.0f));
            gone += x[i] == 0.0f;
        }
        CHECK(gone > 1 && gone < B * size * C / 2);
    }
}

TEST(encoder_decoder,
     "writing token by token equals the argmax of full passes, up to the end token") {
    for (size_t tied = 0; tied < 2; tied++) {
        enum { LONG = 6 };
        translator *m = golden_model(tied);
        m->c.encoder.dropout = m->c.decoder.dropout = 0.5f;
        int ids[B * LONG], want[B * LONG], end = -1;
        for (size_t pass = 0; pass < 2;
             pass++) { /* then with the first text's third token as end */
            llm_encoder_decoder_config c = config(tied);
            bool done[B] = {false, false};
            const size_t used = m->arena.used;
            llm_encoder_decoder_generate(ids, source(), B, S, LONG, end, &m->w, &m->c, &m->arena);
            CHECK(m->arena.used == used);
            for (size_t i = 0; i < B * LONG; i++) want[i] = 2;
            for (size_t t = 0; t < LONG; t++) {
                llm_encoder_decoder_acts a;
                llm_encoder_decoder_forward(&a, source(), want, B, S, LONG, &m->w, &c, &m->arena);
                for (size_t b = 0; b < B; b++) {
                    const float *z = a.logits + (b * LONG + t) * V;
                    want[b * LONG + t] = done[b] ? 0 : llm_greedy_pick(z, V);
                    done[b] = done[b] || want[b * LONG + t] == end;
                }
                m->arena.used = used;
            }
            CHECK(memcmp(ids, want, sizeof ids) == 0);
            end = ids[2];
        }
    }
}

TEST(encoder_decoder, "writing takes the memory of its cache and no more for more tokens; of "
                      "equally likely tokens the first") {
    translator *m = golden_model(false);
    size_t cached[2], peak[2];
    int ids[B * 9];
    for (size_t k = 0; k < 2; k++) {
        const size_t long_ = k ? 9 : 1;
        llm_arena arena = test_arena(1 << 15);
        llm_encoder_acts acts;
        llm_sublayer_view v;
        llm_decoder_cache cache;
        llm_encoder_decoder_encode(&acts, &v, source(), B, S, 1, &m->w, &m->c, &arena);
        cached[k] = arena.used;
        llm_decoder_cache_create(&cache, long_, &v, &m->w.decoder, &m->c.decoder, &arena);
        cached[k] = arena.used - cached[k];
        arena = test_arena(1 << 15);
        arena.peak = 0;
        llm_encoder_decoder_generate(ids, source(), B, S, long_, -1, &m->w, &m->c, &arena);
        peak[k] = arena.peak;
    }
    CHECK(peak[1] - peak[0] <= cached[1] - cached[0] + 128); /* and longer scores */
    memset(m->w.head, 0, V * C * sizeof(float));
    llm_encoder_decoder_generate(ids, source(), B, S, 9, -1, &m->w, &m->c, &m->arena);
    for (size_t i = 0; i < B * 9; i++) CHECK(ids[i] == 0);
}

TEST(encoder_decoder, "a source's padding changes no logit; the encoder hears of the loss through "
                      "the memory alone") {
    translator *m = golden_model(false);
    llm_encoder_decoder_acts a;
    const int padded[3 * S] = {2, 5, 3, 4, 0, 0, 4, 2, 0, 0, 0, 0};
    float logits[B * T * V];
    llm_encoder_decoder_forward(&a, source(), target(), B, S, T, &m->w, &m->c, &m->arena);
    memcpy(logits, a.logits, sizeof logits);
    llm_encoder_decoder_forward(&a, padded, target(), B, 6, T, &m->w, &m->c, &m->arena);
    CHECK_ALL_NEAR(a.logits, logits, B * T * V, 1e-6f);

    memset(m->w.decoder.cross[0].mha.wo, 0, C * C * sizeof(float));
    llm_encoder_decoder_forward(&a, source(), target(), B, S, T, &m->w, &m->c, &m->arena);
    llm_encoder_decoder_backward(&m->g, &a, &m->w, &m->c, &m->arena);
    const size_t tables = (7 + 2 * V) * C, n = llm_encoder_matrices(&m->c.encoder);
    for (size_t i = 0; i < 7 * C; i++) CHECK(m->grad[i] == 0.0f);
    for (size_t i = 0; i < n; i++) CHECK(m->grad[tables + i] == 0.0f);
    CHECK(dot(m->g.decoder.cross[0].mha.wo, m->g.decoder.cross[0].mha.wo, C * C) > 0.0);
}

/* Texts of 10 letters and their reversal with an end token. */
enum { LETTERS = 6, LENGTH = 10, BATCH = 8, END = 2 };
static void draw(int *from, int *to, size_t rows, llm_rng *rng) {
    for (size_t i = 0; i < rows * LENGTH; i++) from[i] = 3 + (int)llm_rng_below(rng, LETTERS);
    for (size_t b = 0; b < rows; b++) {
        for (size_t t = 0; t < LENGTH; t++)
            to[b * (LENGTH + 1) + t] = from[b * LENGTH + LENGTH - 1 - t];
        to[b * (LENGTH + 1) + LENGTH] = END;
    }
}

TEST(encoder_decoder, "learns to write a text of 10 letters backwards") {
    enum { FRESH = 64, STEPS = 300 };
    static int from[FRESH * LENGTH], to[FRESH * (LENGTH + 1)];
    for (uint64_t seed = 1; seed <= 1; seed++) {
        llm_encoder_decoder_config c = llm_encoder_decoder_defaults(LETTERS + 3, 1, 32, 4);
        c.encoder.norm = c.decoder.norm = LLM_PRENORM_PRE;
        c.encoder.hidden = c.decoder.hidden = 64;
        c.tied = true, c.scale = sqrtf(32.0f);
        translator *m = translator_new(&c, seed, 1 << 23);
        llm_rng rng = llm_rng_seed(100 + seed);
        llm_adamw_config adamw = llm_adamw_defaults();
        adamw.beta2 = 0.98f;
        for (size_t t = 1; t <= STEPS; t++) {
            draw(from, to, BATCH, &rng);
            adamw.lr = 8e-3f * (float)(t < 50 ? (double)t / 50.0
                                              : (double)(STEPS - t) / (double)(STEPS - 50));
            translator_step(m, from, to, BATCH, LENGTH, LENGTH + 1, &adamw);
        }
        draw(from, to, FRESH, &rng);
        const size_t right = translator_right(m, from, to, FRESH, LENGTH, LENGTH + 1, END);
        CHECK(right > 21); /* 8 seeds: 43 to 64 of 64, with batches of 16: 62 to 64 */
    }
}

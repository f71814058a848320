/* @mask_predict */
#include "../test.h"

#include "../../llm.h"

#include "../arena.h"
#include "../tiny_mlm.h"

enum { B = 2, T = 6, MASK = 4, FIRST = 3, V = TINY_MLM_V };

TEST(mask_predict, "texts, probabilities and scores of 1 to 5 rounds equal a NumPy loop over "
                   "transformers' BertForMaskedLM") {
    model m = tiny_mlm_golden("predict/weights");
    m.c.encoder.dropout = 0.5f; /* not in use */
    const llm_mlm_score_model s = {m.c, m.w, m.head};
    const llm_mlm_config c = llm_mlm_defaults(MASK, FIRST, V - 1); /* the last is no answer */
    const bool *open = as_bools(golden("in/open"), B * T);
    const bool *hidden = as_bools(golden("in/hidden"), B * T);
    const int *types = as_ints(golden("in/types"), B * T);
    const size_t used = m.arena.used;
    for (size_t rounds = 1; rounds <= 5; rounds++) {
        int *ids = as_ints(golden("in/ids"), B * T);
        float sure[B * T], score[B];
        for (size_t again = 0; again < 2;
             again++) { /* what stands in open places does not matter */
            llm_mask_predict(ids, sure, again ? NULL : score, open, types, hidden, B, T, rounds, &c,
                             &s, &m.arena);
            CHECK(m.arena.used == used);
            const int *want = as_ints(golden("rounds%zu/ids", rounds), B * T);
            for (size_t i = 0; i < B * T; i++) CHECK(ids[i] == want[i]);
            CHECK_GOLDEN(sure, B * T, 3e-6f, "rounds%zu/sure", rounds);
            CHECK_GOLDEN(score, B, 5e-6f, "rounds%zu/score", rounds);
        }
    }
    int ids[T] = {1, 5, 2, 7, 8, 2};
    float sure[T], score = 1.0f;
    const bool none[T] = {false};
    llm_arena lists = test_arena(3 * 64); /* nothing open: no pass */
    llm_mask_predict(ids, sure, &score, none, NULL, NULL, 1, T, 2, &c, &s, &lists);
    CHECK(ids[0] == 1 && ids[5] == 2 && sure[3] == 1.0f && score == 0.0f);
    CHECK_ASSERTS(llm_mask_predict(ids, sure, NULL, none, NULL, NULL, 1, T, 0, &c, &s, &m.arena));
    llm_mlm_config bad = c;
    bad.first = bad.vocab;
    CHECK_ASSERTS(llm_mask_predict(ids, sure, NULL, none, NULL, NULL, 1, T, 1, &bad, &s, &m.arena));
    bad = c, bad.vocab = V + 1;
    CHECK_ASSERTS(llm_mask_predict(ids, sure, NULL, none, NULL, NULL, 1, T, 1, &bad, &s, &m.arena));
}

TEST(mask_predict, "of equal answers the first; however many rounds, the scratch is one pass") {
    model m = make(V, T, 1, 4, 3, NULL); /* all weights 0 */
    const llm_mlm_score_model s = {m.c, m.w, m.head};
    const llm_mlm_config c = llm_mlm_defaults(MASK, FIRST, V - 1);
    int ids[T] = {1, 5, 2, 7, 8, 2}, label[T];
    bool open[T];
    float sure[T];
    llm_arena pass = test_arena(1 << 16);
    llm_mlm_acts acts;
    for (size_t t = 0; t < T; t++) {
        open[t] = t > 0;
        label[t] = open[t] ? 1 : (int)LLM_CROSS_ENTROPY_IGNORE;
    }
    pass.peak = 0;
    llm_mlm_score_ask(&acts, ids, NULL, NULL, label, 1, T, &s, &pass);
    llm_arena arena = test_arena(3 * 64 + pass.peak);
    llm_mask_predict(ids, sure, NULL, open, NULL, NULL, 1, T, 9, &c, &s, &arena);
    CHECK(arena.used == 0 && ids[0] == 1 && sure[0] == 1.0f);
    for (size_t t = 1; t < T; t++) {
        CHECK(ids[t] == FIRST);
        CHECK_NEAR(sure[t], 1.0 / V, 1e-6);
    }
}

/* Texts that count up or down, modulo 7, from a first token that is given: each place behind it has
 * two likely tokens, and one of two whole texts is right. */
enum { COUNT = 7, LONG = 6, BATCH = 32, STEPS = 500 };
static size_t consistent(model *m, size_t rounds) {
    const llm_mlm_config c = llm_mlm_defaults(0, 1, COUNT + 1);
    const llm_mlm_score_model s = {m->c, m->w, m->head};
    int ids[COUNT * LONG];
    bool open[COUNT * LONG];
    float sure[COUNT * LONG];
    size_t right = 0;
    for (size_t i = 0; i < COUNT * LONG; i++) ids[i] = 1 + (int)(i / LONG), open[i] = i % LONG > 0;
    llm_mask_predict(ids, sure, NULL, open, NULL, NULL, COUNT, LONG, rounds, &c, &s, &m->arena);
    for (size_t k = 0; k < COUNT; k++) {
        bool up = true, down = true;
        for (size_t i = 1; i < LONG; i++) {
            up = up && ids[k * LONG + i] == 1 + (int)((k + i) % COUNT);
            down = down && ids[k * LONG + i] == 1 + (int)((k + COUNT - i) % COUNT);
        }
        right += up || down;
    }
    return right;
}

TEST(mask_predict, "all places at once mix two right texts; in as many rounds as places one comes "
                   "out whole") {
    for (uint64_t seed = 1; seed <= 1; seed++) {
        model m = make(COUNT + 1, LONG, 1, 16, 32, NULL);
        llm_rng rng = llm_rng_seed(seed);
        tiny_mlm_init(&m, 0.25f, &rng);
        llm_adamw_config adamw = llm_adamw_defaults();
        adamw.weight_decay = 0.0f;
        for (size_t t = 1; t <= STEPS; t++) {
            int ids[BATCH * LONG], label[BATCH * LONG];
            for (size_t b = 0; b < BATCH; b++) {
                const size_t start = llm_rng_below(&rng, COUNT), step = llm_rng_below(&rng, 2);
                const float share = llm_rng_uniform(&rng); /* each share of covered ones is met */
                for (size_t i = 0; i < LONG; i++) {
                    const size_t at = start + (step ? i : i * (COUNT - 1));
                    const bool covered = i > 0 && llm_rng_uniform(&rng) < share;
                    label[b * LONG + i] =
                        covered ? 1 + (int)(at % COUNT) : LLM_CROSS_ENTROPY_IGNORE;
                    ids[b * LONG + i] = covered ? 0 : 1 + (int)(at % COUNT);
                }
            }
            adamw.lr = 1e-2f * fminf(1.0f, (float)t / 50.0f) * (float)(STEPS - t) / STEPS;
            tiny_mlm_step(&m, ids, label, BATCH, LONG, &adamw, t);
        }
        const size_t once = consistent(&m, 1), often = consistent(&m, LONG - 1);
        CHECK(often > once + 2); /* 9 seeds: 6 or 7 of 7, and 0 or 1; in two rounds 1 to 5 */
    }
}

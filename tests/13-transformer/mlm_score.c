/* @mlm_score */
#include "../test.h"

#include "../../llm.h"

#include "../arena.h"
#include "../tiny_mlm.h"

enum { T = 6, MASK = 4 };

TEST(mlm_score, "the score of each token equals transformers' with that token, or with the rest of "
                "its word too, covered, for batches of any size") {
    model m = tiny_mlm_golden("score/weights");
    m.c.encoder.dropout = 0.5f; /* not in use */
    const llm_mlm_score_model s = {m.c, m.w, m.head};
    const int *ids = as_ints(golden("in/ids"), T), *types = as_ints(golden("in/types"), T);
    const int *word = as_ints(golden("in/word"), T);
    const bool *special = as_bools(golden("in/special"), T);
    const size_t used = m.arena.used;
    for (size_t batch = 1; batch <= 7; batch++) {
        float logp[T];
        for (size_t pieces = 0; pieces < 2; pieces++) {
            const char *name = pieces ? "score/pieces" : "score/tokens";
            memset(logp, 0xff, sizeof logp);
            const double sum = llm_mlm_score(logp, ids, types, special, pieces ? word : NULL, T,
                                             MASK, batch, &s, &m.arena);
            CHECK_GOLDEN(logp, T, 3e-6f, "%s", name);
            double want = 0.0;
            for (size_t t = 0; t < T; t++) want += (double)golden("%s", name)[t];
            CHECK_NEAR(sum, want, 1e-5 * fabs(want));
            CHECK(logp[0] == 0.0f && logp[T - 1] == 0.0f);
            CHECK(m.arena.used == used);
        }
    }
    float logp[T];
    CHECK_ASSERTS(llm_mlm_score(logp, ids, types, special, NULL, T, MASK, 0, &s, &m.arena));
    const bool all[T] = {true, true, true, true, true, true};
    CHECK(llm_mlm_score(logp, ids, NULL, all, NULL, T, MASK, 2, &s, &m.arena) == 0.0);
    for (size_t t = 0; t < T; t++) CHECK(logp[t] == 0.0f);
    CHECK(llm_mlm_score(logp, ids, NULL, special, NULL, 0, MASK, 2, &s, &m.arena) == 0.0);
}

static size_t taken(size_t bytes) { return (bytes + 63) / 64 * 64; }

TEST(mlm_score, "the scratch is the copies and one pass over them; a word may end the text") {
    model m = tiny_mlm_golden("score/weights");
    const llm_mlm_score_model s = {m.c, m.w, m.head};
    const int *ids = as_ints(golden("in/ids"), T), *types = as_ints(golden("in/types"), T);
    const bool *plain = bools(T);
    int *word = (int *)test_memory(T, sizeof(int));
    for (size_t t = 0; t < T; t++) word[t] = t < 4 ? 0 : 1;
    for (size_t batch = 1; batch <= 4; batch++)
        for (size_t typed = 0; typed < 2; typed++) {
            llm_arena pass = test_arena(1 << 16);
            llm_mlm_acts acts;
            int copy[4 * T], kind[4 * T], label[4 * T];
            for (size_t i = 0; i < batch * T; i++) {
                copy[i] = ids[i % T], kind[i] = types[i % T];
                label[i] = i % T ? (int)LLM_CROSS_ENTROPY_IGNORE : 1;
            }
            pass.peak = 0;
            llm_mlm_score_ask(&acts, copy, typed ? kind : NULL, NULL, label, batch, T, &s, &pass);
            llm_arena arena = test_arena(taken(batch * sizeof(size_t)) +
                                         (2 + typed) * taken(batch * T * sizeof(int)) + pass.peak);
            float logp[T], one[T];
            llm_mlm_score(logp, ids, typed ? types : NULL, plain, word, T, MASK, batch, &s, &arena);
            CHECK(arena.used == 0);
            for (size_t t = 0; t < T;
                 t++) { /* each token by itself, what follows in its word too */
                for (size_t i = 0; i < T; i++) {
                    copy[i] = i >= t && word[i] == word[t] ? MASK : ids[i];
                    label[i] = i == t ? ids[t] : (int)LLM_CROSS_ENTROPY_IGNORE;
                }
                pass.used = 0;
                llm_mlm_score_ask(&acts, copy, typed ? types : NULL, NULL, label, 1, T, &s, &pass);
                one[t] = -acts.loss[0];
            }
            CHECK_ALL_NEAR(logp, one, T, 2e-6f);
        }
}

TEST(mlm_score, "a head that hears of nothing but its bias: the sum of the tokens' logarithms") {
    enum { V = 5, LONG = 7, C = 4 };
    model m = make(V, LONG, 1, C, 3, NULL); /* all weights 0 */
    const llm_mlm_score_model s = {m.c, m.w, m.head};
    const float p[V] = {0.1f, 0.2f, 0.4f, 0.25f, 0.05f};
    const int ids[LONG] = {2, 0, 4, 4, 1, 3, 2};
    const bool special[LONG] = {false, false, true, false, false, false, false};
    float logp[LONG];
    for (size_t v = 0; v < V; v++) m.head.bias[v] = logf(p[v]);
    const double got = llm_mlm_score(logp, ids, NULL, special, NULL, LONG, 0, 3, &s, &m.arena);
    CHECK_NEAR(got, log(0.4 * 0.1 * 0.05 * 0.2 * 0.25 * 0.4), 1e-5);
    for (size_t t = 0; t < LONG; t++)
        CHECK_NEAR(logp[t], special[t] ? 0.0 : log((double)p[ids[t]]), 1e-6);
}

/* @bos */
#include "../test.h"

#include "../../llm.h"

TEST(bos, "prepended where transformers does, but never in front of one that is there") {
    const char *const name[2] = {"llama", "gpt2"};
    const int id[2] = {1, 0};
    for (size_t k = 0; k < 2; k++) {
        for (int i = 0; i < 8; i++) {
            size_t n, want_n;
            const float *text = golden_n(&n, "%s/%d/off", name[k], i);
            const float *want = golden_n(&want_n, "%s/%d/on", name[k], i);
            int *ids = (int *)test_memory(n + 1, sizeof *ids);
            for (size_t t = 0; t < n; t++) ids[t] = (int)text[t];
            const llm_bos off = {id[k], false}, on = {id[k], true};
            CHECK(llm_bos_prepend(ids, n, off) == n);
            for (size_t t = 0; t < n; t++) CHECK(ids[t] == (int)text[t]);
            const bool there = n > 0 && ids[0] == id[k]; /* transformers adds one all the same */
            CHECK(there == (i >= 4 && i <= 6));
            CHECK(llm_bos_prepend(ids, n, on) == want_n - there);
            for (size_t t = 0; t < want_n - there; t++) CHECK(ids[t] == (int)want[t + there]);
            int *doubled = (int *)test_memory(want_n, sizeof *ids);
            for (size_t t = 0; t < want_n; t++) doubled[t] = (int)want[t];
            CHECK(llm_bos_doubled(doubled, want_n, id[k]) == there);
            CHECK(llm_bos_doubled(ids, n, id[k]) == (i == 6));
        }
    }
    const int one[3] = {7, 9, 7}, late[3] = {9, 7, 7};
    CHECK(!llm_bos_doubled(late, 3, 7));
    CHECK(!llm_bos_doubled(one, 3, 7) && !llm_bos_doubled(one, 1, 7) &&
          !llm_bos_doubled(one, 0, 7));
}

TEST(bos, "the policy comes from tokenizer_config.json, and a bad one is refused") {
    static const struct {
        const char *config;
        bool absent, add;
        int id;
        const char *error;
    } row[] = {
        {"{\"bos_token\":\"<s>\",\"add_bos_token\":true}", false, true, 256, NULL},
        {"{\"bos_token\":\"<s>\",\"add_bos_token\":false}", true, false, 256, NULL},
        {"{\"bos_token\":{\"content\":\"<t>\",\"special\":true}}", true, true, 257, NULL},
        {"{\"bos_token\":\"<s>\"}", false, false, 256, NULL},
        {"{\"bos_token\":\"!\"}", true, true, 0, NULL}, /* the first id of all */
        {"{\"bos_token\":null,\"add_bos_token\":false}", true, false, -1, NULL},
        {"{}", true, false, -1, NULL},
        {"{\"bos_token\":null,\"add_bos_token\":true}", true, true, -1,
         "bos_token: add_bos_token wants one, found none"},
        {"{\"bos_token\":\"<x>\"}", true, true, -1, "bos_token: \"<x>\" is no token"},
        {"{\"bos_token\":", true, true, -1, "the text ends"},
    };
    llm_bpe bpe;
    llm_tokenizer t;
    llm_error error;
    CHECK(llm_bpe_create(&bpe));
    llm_tokenizer_from_bpe(&t, &bpe, LLM_PRE_TOKENIZE_GPT2);
    CHECK(llm_tokenizer_add_special(&t, "<s>", &error));
    CHECK(llm_tokenizer_add_special(&t, "<t>", &error));
    CHECK(llm_tokenizer_add_special(&t, "!", &error));
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        llm_bos bos = {-7, true};
        const size_t size = strlen(row[i].config);
        if (row[i].error) {
            CHECK_FAILS(llm_bos_read(&bos, &t, row[i].config, size, row[i].absent, &error), error,
                        row[i].error);
            continue;
        }
        CHECK(llm_bos_read(&bos, &t, row[i].config, size, row[i].absent, &error));
        CHECK(bos.id == row[i].id && bos.add == row[i].add);
    }
    llm_tokenizer_free(&t);
}

enum { BOS = 50, PAD = 51, MANY = 4000 };

/* Packs by the words of the comment, differently: every place asks what stands there. */
static size_t bos_brute(int *ids, int *document, int *position, const int *tokens,
                        const size_t *start, size_t D, size_t T, bool whole) {
    size_t rows = 0, used = 0; /* used: places of the last row */
    for (size_t d = 0; d < D; d++) {
        int text[64];
        size_t n = 0;
        if (start[d + 1] == start[d]) continue;
        if (tokens[start[d]] != BOS) text[n++] = BOS;
        for (size_t i = start[d]; i < start[d + 1]; i++) text[n++] = tokens[i];
        if (whole && n > T) n = T;
        if (rows == 0 || (whole && used + n > T)) rows++, used = 0;
        for (size_t i = 0, since = 0; i < n; i++, since++) {
            if (used == T) rows++, used = 0, since = 0;
            const size_t at = (rows - 1) * T + used++;
            ids[at] = text[i], document[at] = (int)d, position[at] = (int)since;
        }
    }
    return rows;
}

TEST(bos, "packing: every document in its place, positions reset, the rest pad, in both modes") {
    llm_rng rng = llm_rng_seed(5);
    for (int round = 0; round < 300; round++) {
        int tokens[400], *got[3], *want[3];
        size_t start[12] = {0}, D = llm_rng_below(&rng, 11);
        const size_t T = 1 + llm_rng_below(&rng, round % 2 ? 9 : 30);
        const bool whole = round % 3 == 0;
        for (size_t d = 0; d < D; d++) {
            const size_t n = llm_rng_below(&rng, 4) == 0 ? 0 : llm_rng_below(&rng, 24);
            for (size_t i = 0; i < n; i++)
                tokens[start[d] + i] =
                    i == 0 && llm_rng_below(&rng, 4) == 0 ? (int)BOS : (int)llm_rng_below(&rng, 40);
            start[d + 1] = start[d] + n;
        }
        for (size_t k = 0; k < 3; k++) {
            want[k] = (int *)test_memory(MANY, sizeof(int));
            for (size_t i = 0; i < MANY; i++) want[k][i] = k == 0 ? (int)PAD : k == 1 ? -1 : 0;
        }
        const size_t B = bos_brute(want[0], want[1], want[2], tokens, start, D, T, whole);
        CHECK(llm_bos_pack(NULL, NULL, NULL, tokens, start, D, T, whole, BOS, PAD) == B);
        for (size_t k = 0; k < 3; k++) got[k] = (int *)test_memory(B * T, sizeof(int));
        CHECK(llm_bos_pack(got[0], got[1], got[2], tokens, start, D, T, whole, BOS, PAD) == B);
        for (size_t k = 0; k < 3; k++)
            for (size_t i = 0; i < B * T; i++) CHECK(got[k][i] == want[k][i]);
    }
    const size_t none[1] = {0};
    CHECK(llm_bos_pack(NULL, NULL, NULL, NULL, none, 0, 3, false, BOS, PAD) == 0);
    CHECK_ASSERTS(llm_bos_pack(NULL, NULL, NULL, NULL, none, 0, 0, false, BOS, PAD));
}

/* A bigram model is its table of counts: logits are log counts. Token V - 1 is BOS. */
TEST(bos,
     "first tokens have mass 1 behind BOS and the corpus's shares; without, one term is lost") {
    enum { V = 6, TEXTS = 200, LENGTH = 9 };
    static float logits[V * V];
    static int text[TEXTS][LENGTH + 1];
    double first[V] = {0}, count[V][V] = {{0}};
    llm_rng rng = llm_rng_seed(11);
    for (size_t k = 0; k < TEXTS; k++) {
        const llm_bos bos = {V - 1, true};
        for (size_t t = 0; t < LENGTH; t++) /* the first token is seldom a large one */
            text[k][t] = (int)llm_rng_below(&rng, t == 0 ? 1 + llm_rng_below(&rng, V - 1) : V - 1);
        first[text[k][0]] += 1.0 / TEXTS;
        CHECK(llm_bos_prepend(text[k], LENGTH, bos) == LENGTH + 1);
        for (size_t t = 0; t < LENGTH; t++) count[text[k][t]][text[k][t + 1]] += 1.0;
    }
    for (size_t i = 0; i < V * V; i++) logits[i] = (float)log(count[i / V][i % V]);
    double mass = 0.0;
    for (int id = 0; id < V - 1; id++) {
        const double p = exp(llm_bos_unconditional(logits + (V - 1) * V, id, V));
        CHECK_NEAR(p, first[id], 1e-6);
        mass += p;
    }
    CHECK_NEAR(mass, 1.0, 1e-6);
    CHECK(llm_bos_unconditional(logits + (V - 1) * V, V - 1, V) == -INFINITY);

    for (size_t k = 0; k < TEXTS; k++) {
        float rows[(LENGTH + 1) * V];
        double want = 0.0;
        for (size_t t = 0; t <= LENGTH; t++) {
            const int id = text[k][t], next = t < LENGTH ? text[k][t + 1] : 0;
            double all = 0.0;
            for (size_t v = 0; v < V; v++) all += count[id][v];
            if (t < LENGTH) want += log(count[id][next] / all);
            memcpy(rows + t * V, logits + (size_t)id * V, V * sizeof(float));
        }
        CHECK_NEAR(llm_bos_score(rows, text[k], LENGTH + 1, V), want, 1e-5);
        CHECK_NEAR(llm_bos_score(rows + V, text[k] + 1, LENGTH, V), want - log(first[text[k][1]]),
                   1e-5);
    }
    CHECK(llm_bos_score(logits, text[0], 1, V) == 0.0);
    CHECK(llm_bos_score(logits, text[0], 0, V) == 0.0);
}

/* @tokenizer_training */
#include "../test.h"

#include "../../llm.h"

#include "../tiny_hostile.h"

/* the hostile strings of the first ten groups, a line each */
static char *training_text(size_t *size) {
    char *text = (char *)test_memory(TINY_HOSTILE_MIX * TINY_HOSTILE_EACH, TINY_HOSTILE_MOST);
    *size = 0;
    for (size_t i = 0; i < TINY_HOSTILE_MIX * TINY_HOSTILE_EACH; i++) {
        if (i > 0) text[(*size)++] = '\n';
        *size += tiny_hostile(text + *size, i / TINY_HOSTILE_EACH, i % TINY_HOSTILE_EACH);
    }
    return text;
}

TEST(tokenizer_training, "tokens after each merge, and the ids used, are those of tokenizers") {
    size_t size, points;
    const char *text = training_text(&size);
    llm_bpe_train_words words = llm_bpe_train_words_empty();
    llm_bpe bpe;
    llm_error e;
    llm_arena arena;
    CHECK(llm_arena_create(&arena, (size_t)1 << 20));
    CHECK(llm_bpe_train_count(&words, text, size, LLM_PRE_TOKENIZE_GPT2));
    CHECK(llm_bpe_train_run(&bpe, &words, 900, 2, &e));
    CHECK(bpe.merges == 644 && golden("text/merges")[0] == 644);
    uint64_t uses[644], tokens[644], used[900];
    const float *curve = golden_n(&points, "text/curve"), *want = golden("text/used");
    const uint64_t bytes = llm_tokenizer_training_curve(uses, tokens, &bpe, &words, &arena);
    CHECK(bytes == size && arena.used == 0 && points == 82);
    CHECK_NEAR(bytes, golden("text/bytes")[0], 0);
    for (size_t i = 0; i < points; i += 2)
        CHECK_NEAR(curve[i] > 0 ? tokens[(size_t)curve[i] - 1] : bytes, curve[i + 1], 0);
    for (size_t r = 0; r < 644; r++)
        CHECK(uses[r] >= 2 && tokens[r] + uses[r] == (r > 0 ? tokens[r - 1] : bytes));
    CHECK(llm_tokenizer_training_used(used, &bpe, &words, &arena) == tokens[643]);
    CHECK(arena.used == 0);
    for (size_t i = 0; i < 900; i++) CHECK_NEAR(used[i], want[i], 0);

    CHECK_NEAR(llm_tokenizer_training_fertility(tokens[643], text, size),
               (double)tokens[643] / (double)golden("text/words")[0], 1e-12);
    const double kinds = (double)golden("efficiency/kinds")[0];
    for (size_t i = 0; i < 4; i++) {
        const double alpha = (double)golden("efficiency/alpha")[i];
        const double entropy = llm_tokenizer_training_renyi(used, 900, alpha);
        CHECK_NEAR(entropy / log(kinds), golden("efficiency/score")[i], 1e-7);
        CHECK_NEAR(llm_tokenizer_training_efficiency(used, 900, alpha), entropy / log(900.0),
                   1e-15);
    }
    CHECK_NEAR(llm_tokenizer_training_renyi(used, 900, 1.0), golden("efficiency/shannon")[0], 1e-6);
    llm_bpe_train_words_free(&words);
    llm_bpe_free(&bpe);
    llm_arena_destroy(&arena);
}

TEST(tokenizer_training, "entropy by hand: even, single, none, and falling in alpha") {
    const uint64_t even[4] = {5, 5, 0, 5}, one[3] = {0, 7, 0}, none[2] = {0, 0}, most[2] = {3, 1};
    for (double alpha = 0.0; alpha < 4.0; alpha += 0.5) {
        CHECK_NEAR(llm_tokenizer_training_renyi(even, 4, alpha), log(3.0), 1e-14);
        CHECK_NEAR(llm_tokenizer_training_renyi(one, 3, alpha), 0, 1e-15);
        CHECK_NEAR(llm_tokenizer_training_renyi(none, 2, alpha), 0, 0);
        CHECK(llm_tokenizer_training_renyi(most, 2, alpha) >
              llm_tokenizer_training_renyi(most, 2, alpha + 0.5));
    }
    CHECK_NEAR(llm_tokenizer_training_renyi(most, 2, 2.0), log(1.6), 1e-14); /* 1 / (9 + 1) * 16 */
    CHECK_NEAR(llm_tokenizer_training_renyi(most, 2, 1.0), log(4.0) - 0.75 * log(3.0), 1e-14);
    CHECK_ASSERTS(llm_tokenizer_training_renyi(most, 2, -0.5));
    CHECK_ASSERTS(llm_tokenizer_training_efficiency(one, 1, 2.0));
    CHECK_NEAR(llm_tokenizer_training_fertility(12,
                                                " a\tbc\xE3\x80\x80"
                                                "d\n",
                                                10),
               4, 0);
    CHECK_NEAR(llm_tokenizer_training_fertility(12, " \t", 2), 0, 0);
    CHECK_NEAR(llm_tokenizer_training_fertility(12, "a b", 3), 6, 0);
    CHECK_NEAR(llm_tokenizer_training_fertility(12, "a", 1), 12, 0);
    CHECK_NEAR(llm_tokenizer_training_fertility(12, "a \xE3\x80\x80", 3), 6, 0); /* \xE3, cut off */
}

TEST(tokenizer_training, "planted steps to longer tokens are found, and nothing else") {
    /* every word is one token in the end; its steps are never seen again */
    static const char *const list[5] = {"qwzx", " qwzx", " aa", " bc", " b"};
    const char *text = "qwzx qwzx qwzx qwzx aa aa aa bc bc b";
    llm_bpe_train_words words = llm_bpe_train_words_empty();
    llm_bpe bpe;
    llm_error e;
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 4096));
    CHECK(llm_bpe_train_count(&words, text, strlen(text), LLM_PRE_TOKENIZE_GPT2));
    CHECK(llm_bpe_train_run(&bpe, &words, 300, 2, &e));
    uint64_t uses[64], tokens[64], used[300];
    int ids[64];
    CHECK(bpe.merges < 64);
    llm_tokenizer_training_curve(uses, tokens, &bpe, &words, &arena);
    CHECK(llm_tokenizer_training_used(used, &bpe, &words, &arena) == tokens[bpe.merges - 1]);
    const size_t n = llm_tokenizer_training_stranded(ids, &bpe, uses, used, 1, 0);
    size_t want = 0;
    for (size_t r = 0; r < bpe.merges; r++) {
        const int id = bpe.merge[r].result;
        size_t size, found = 0;
        const char *bytes = llm_vocab_table_bytes(&bpe.token, (size_t)id, &size);
        bool whole = false; /* a word of the text, the first one without a space */
        for (size_t i = 0; i < 5; i++)
            whole |= strlen(list[i]) == size && memcmp(list[i], bytes, size) == 0;
        for (size_t i = 0; i < n; i++) found += ids[i] == id;
        CHECK(found == !whole);
        want += !whole;
    }
    CHECK(n == want && n > 1);
    CHECK(llm_tokenizer_training_stranded(ids, &bpe, uses, used, 1, UINT64_MAX) == bpe.merges);
    CHECK(llm_tokenizer_training_stranded(ids, &bpe, uses, used, 5, 0) == 0); /* none so frequent */
    CHECK(llm_tokenizer_training_stranded(ids, &bpe, uses, used, 4, 0) > 0);
    llm_bpe_train_words_free(&words);
    llm_bpe_free(&bpe);
    llm_arena_destroy(&arena);
}

/* n words of a language with 300 words of 2 to 9 letters, the k-th one with a share like 1 / k. */
static void training_language(llm_buffer *out, size_t n, bool cyrillic, uint64_t seed) {
    static char word[300][24];
    llm_rng lexicon = llm_rng_seed(1000 + cyrillic), rng = llm_rng_seed(seed);
    for (size_t k = 0; k < 300; k++) {
        size_t size = 0;
        for (size_t letters = 2 + llm_rng_below(&lexicon, 8); letters > 0; letters--) {
            const size_t l = llm_rng_below(&lexicon, 24) * llm_rng_below(&lexicon, 24) / 24;
            size += llm_unicode_encode(word[k] + size, (uint32_t)((cyrillic ? 0x430 : 'a') + l));
        }
        word[k][size] = 0;
    }
    while (n-- > 0) {
        const double u = (double)llm_rng_uniform(&rng);
        const size_t k = (size_t)(pow(300.0, u)) - 1; /* P(k) near 1 / ((k + 1) log 300) */
        CHECK(llm_buffer_put(out, " ", 1) && llm_buffer_put(out, word[k], strlen(word[k])));
    }
}

/* tokens a word of the second language, with so many words of it among 3,000 of training */
static double training_fertility(size_t second, uint64_t seed) {
    llm_buffer text = {NULL, 0, 0}, test = {NULL, 0, 0};
    llm_bpe_train_words words = llm_bpe_train_words_empty(), held = llm_bpe_train_words_empty();
    llm_bpe bpe;
    llm_error e;
    llm_arena arena;
    uint64_t used[400];
    training_language(&text, 3000 - second, false, seed);
    training_language(&text, second, true, seed + 50);
    training_language(&test, 1000, true, seed + 100);
    CHECK(llm_arena_create(&arena, 1 << 16));
    CHECK(llm_bpe_train_count(&words, text.data, text.size, LLM_PRE_TOKENIZE_GPT2));
    CHECK(llm_bpe_train_count(&held, test.data, test.size, LLM_PRE_TOKENIZE_GPT2));
    CHECK(llm_bpe_train_run(&bpe, &words, 400, 2, &e));
    const uint64_t tokens = llm_tokenizer_training_used(used, &bpe, &held, &arena);
    const double fertility = llm_tokenizer_training_fertility(tokens, test.data, test.size);
    llm_bpe_train_words_free(&words);
    llm_bpe_train_words_free(&held);
    llm_bpe_free(&bpe);
    llm_arena_destroy(&arena);
    llm_buffer_free(&text);
    llm_buffer_free(&test);
    return fertility;
}

TEST(tokenizer_training, "a tenth of a second script cuts its fertility, at the same size") {
    for (uint64_t seed = 1; seed <= 3; seed++) {
        const double without = training_fertility(0, seed), with = training_fertility(300, seed);
        CHECK(with < 0.78 * without); /* 0.46 to 0.56 for eight further sets of seeds */
    }
}

TEST(tokenizer_training, "the indicator finds rows that no target has touched") {
    enum { V = 60, C = 16, USED = 40, KNOWN = 3 };
    for (uint64_t seed = 1; seed <= 3; seed++) {
        /* softmax of E h over V ids; targets are among the first 40 only, h is one of 40 inputs */
        float *E = floats(V * C), *h = floats(USED * C), *z = floats(USED * V), *dz, score[V];
        float loss[USED], lse[USED];
        int target[USED], known[KNOWN];
        llm_rng rng = llm_rng_seed(seed);
        llm_rng_normal_fill(&rng, E, V * C);
        llm_rng_normal_fill(&rng, h, USED * C);
        for (size_t i = 0; i < V * C; i++) E[i] *= 0.1f;
        for (size_t i = 0; i < USED * C; i++) h[i] = 0.5f + h[i]; /* states share a direction */
        for (size_t i = 0; i < USED; i++) target[i] = (int)((i * 7) % USED);
        for (size_t k = 0; k < KNOWN; k++) known[k] = (int)(USED + k);
        for (size_t step = 0; step < 200; step++) {
            llm_matmul_forward(z, h, E, NULL, USED, C, V);
            llm_cross_entropy_forward(loss, lse, z, target, USED, V);
            dz = (float *)calloc(USED * V, sizeof *dz);
            llm_cross_entropy_backward(dz, z, lse, target, USED, V, 1.0f / USED);
            for (size_t i = 0; i < USED; i++)
                for (size_t v = 0; v < V; v++)
                    for (size_t k = 0; k < C; k++)
                        E[v * C + k] -= 0.5f * dz[i * V + v] * h[i * C + k];
            free(dz);
        }
        llm_tokenizer_training_indicator(score, E, known, KNOWN, V, C);
        double wins = 0.0; /* AUC: untouched below touched; the known ones do not count */
        for (size_t a = USED + KNOWN; a < V; a++)
            for (size_t b = 0; b < USED; b++)
                wins += score[a] < score[b] ? 1.0 : score[a] == score[b] ? 0.5 : 0.0;
        const double auc = wins / (double)((V - USED - KNOWN) * USED);
        CHECK(auc > 0.75); /* 1 for eight further sets of seeds */
    }
}

TEST(tokenizer_training, "the indicator by hand") {
    const float E[5 * 2] = {3, 0, 0, 2, 1, 1, 0, 0, -5, -5};
    const int unused[2] = {0, 1}; /* the mean is (1.5, 1) */
    float score[5];
    llm_tokenizer_training_indicator(score, E, unused, 2, 5, 2);
    const double norm = sqrt(3.25);
    CHECK_NEAR(score[0], 1 - 1.5 / norm, 1e-6);
    CHECK_NEAR(score[1], 1 - 1.0 / norm, 1e-6);
    CHECK_NEAR(score[2], 1 - 2.5 / norm / sqrt(2.0), 1e-6);
    CHECK_NEAR(score[3], 1, 0);
    CHECK_NEAR(score[4], 1 + 2.5 / norm / sqrt(2.0), 1e-6);
    CHECK_ASSERTS(llm_tokenizer_training_indicator(score, E, unused, 0, 5, 2));
    float small[5 * 2], same[5]; /* lengths do not count */
    for (size_t i = 0; i < 10; i++) small[i] = E[i] / 64.0f;
    llm_tokenizer_training_indicator(same, small, unused, 2, 5, 2);
    CHECK_ALL_NEAR(same, score, 5, 0);
    const int zero = 3; /* a mean of zeros says nothing */
    llm_tokenizer_training_indicator(score, E, &zero, 1, 5, 2);
    CHECK_NEAR(score[0], 1, 0);
}

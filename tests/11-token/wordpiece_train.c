/* @wordpiece_train */
#include "../test.h"

/* malloc and its like that fail once, after a number of calls */
static int wtrain_calls = 1 << 30;
static void *wtrain_calloc(size_t n, size_t size) {
    return wtrain_calls-- != 0 ? calloc(n, size) : NULL;
}
static void *wtrain_realloc(void *p, size_t size) {
    return wtrain_calls-- != 0 ? realloc(p, size) : NULL;
}
#define calloc wtrain_calloc
#define realloc wtrain_realloc

#include "../../llm.h"

static void wtrain_word(llm_bpe_train_words *words, const char *text, size_t size, uint64_t count) {
    CHECK(llm_vocab_table_add(&words->word, text, size) >= 0);
    CHECK(llm_buffer_put(&words->count, &count, sizeof count));
}
static llm_bpe_train_words wtrain_golden(const char *name) {
    size_t n;
    llm_bpe_train_words words = llm_bpe_train_words_empty();
    const float *bytes = golden("%s/bytes", name), *size = golden_n(&n, "%s/size", name);
    const float *count = golden("%s/count", name);
    for (size_t w = 0; w < n; w++) {
        char text[64];
        for (size_t i = 0; i < (size_t)size[w]; i++) text[i] = (char)(unsigned char)*bytes++;
        wtrain_word(&words, text, (size_t)size[w], (uint64_t)count[w]);
    }
    return words;
}
static llm_vocab_table wtrain_special(void) {
    llm_vocab_table token = llm_vocab_table_empty();
    CHECK(llm_vocab_table_add(&token, "[PAD]", 5) == 0);
    CHECK(llm_vocab_table_add(&token, "[UNK]", 5) == 1);
    return token;
}
static void wtrain_check(const llm_vocab_table *token, const char *name) {
    size_t n, size;
    const float *bytes = golden("%s/bytes", name), *want = golden_n(&n, "%s/size", name);
    CHECK(token->count == n);
    for (size_t id = 0; id < n; id++) {
        const char *text = llm_vocab_table_bytes(token, id, &size);
        CHECK_NEAR(size, want[id], 0);
        for (size_t i = 0; i < size; i++) CHECK((unsigned char)text[i] == (int)*bytes++);
    }
}

TEST(wordpiece_train, "tokens in the order of a plain recount, by count and by score") {
    const char *name[2] = {"prose", "made"};
    const char *modes[2] = {"score", "count"};
    for (size_t k = 0; k < 2; k++) {
        llm_bpe_train_words words = wtrain_golden(name[k]);
        for (int mode = 0; mode < 2; mode++) {
            char full[32];
            llm_error error;
            llm_vocab_table token = wtrain_special();
            CHECK(llm_wordpiece_train(&token, &words, 190, mode == 0 ? 3 : 1,
                                      (llm_wordpiece_train_mode)mode, &error));
            snprintf(full, sizeof full, "%s/%s", name[k], modes[mode]);
            wtrain_check(&token, full);
            llm_vocab_table_free(&token);
        }
        llm_bpe_train_words_free(&words);
    }
}

TEST(wordpiece_train, "by hand: the score prefers the pair that is rarely apart") {
    llm_bpe_train_words words = llm_bpe_train_words_empty();
    wtrain_word(&words, "hug", 3, 10);
    wtrain_word(&words, "pug", 3, 5);
    wtrain_word(&words, "pun", 3, 12);
    wtrain_word(&words, "bun", 3, 4);
    wtrain_word(&words, "hugs", 4, 5);
    const char *letters[8] = {"h", "##u", "##g", "p", "##n", "b", "##s", NULL};
    const struct {
        llm_wordpiece_train_mode mode;
        const char *token[3];
    } want[2] = {/* counts: ##u##g 20, ##u##n 16, h##u 15; then h##ug 15; then ##u##n 16 first */
                 {LLM_WORDPIECE_TRAIN_COUNT, {"##ug", "##un", "hug"}},
                 /* ##g##s 5 / (20 5) = 1/20, ##u##g 20 / (36 20) = 1/36; then all others are 1/36,
                    h##u comes first; then hu##gs 5 / (15 5) = 1/15 */
                 {LLM_WORDPIECE_TRAIN_SCORE, {"##gs", "hu", "hugs"}}};
    for (size_t k = 0; k < 2; k++) {
        size_t size;
        llm_vocab_table token = llm_vocab_table_empty();
        CHECK(llm_wordpiece_train(&token, &words, 10, 1, want[k].mode, NULL) && token.count == 10);
        for (size_t id = 0; id < 10; id++) {
            const char *text = llm_vocab_table_bytes(&token, id, &size);
            const char *expected = id < 7 ? letters[id] : want[k].token[id - 7];
            CHECK(size == strlen(expected) && memcmp(text, expected, size) == 0);
        }
        llm_vocab_table_free(&token);
    }
    llm_bpe_train_words_free(&words);
}

TEST(wordpiece_train,
     "tokens that are there keep their ids; least, vocab and no words are limits") {
    llm_bpe_train_words words = llm_bpe_train_words_empty();
    llm_vocab_table token = wtrain_special();
    CHECK(llm_wordpiece_train(&token, &words, 100, 1, LLM_WORDPIECE_TRAIN_SCORE, NULL));
    CHECK(token.count == 2);
    wtrain_word(&words, "ab\xC3\xA9", 4, 3);
    wtrain_word(&words, "b\xC3", 2, 1);
    CHECK(llm_vocab_table_add(&token, "##b", 3) == 2);
    CHECK(llm_wordpiece_train(&token, &words, 3, 1, LLM_WORDPIECE_TRAIN_COUNT, NULL));
    CHECK(token.count == 7); /* characters come in whatever the limit: a ##e b ##(broken) */
    CHECK(llm_vocab_table_find(&token, "##b", 3) == 2 && llm_vocab_table_find(&token, "a", 1) == 3);
    CHECK(llm_vocab_table_find(&token, "##\xC3\xA9", 4) == 4);
    CHECK(llm_vocab_table_find(&token, "##\xC3", 3) == 6);
    CHECK(llm_wordpiece_train(&token, &words, 100, 4, LLM_WORDPIECE_TRAIN_COUNT, NULL));
    CHECK(token.count == 7);
    CHECK(llm_wordpiece_train(&token, &words, 100, 3, LLM_WORDPIECE_TRAIN_COUNT, NULL));
    CHECK(token.count == 9); /* ab##e by way of ##b##e, the smaller ids */
    CHECK(llm_vocab_table_find(&token, "##b\xC3\xA9", 5) == 7);
    CHECK(llm_vocab_table_find(&token, "ab\xC3\xA9", 4) == 8);
    CHECK(llm_wordpiece_train(&token, &words, 100, 0, LLM_WORDPIECE_TRAIN_COUNT, NULL));
    CHECK(token.count == 10);
    llm_vocab_table_free(&token);
    llm_bpe_train_words_free(&words);
}

static bool wtrain_is(const llm_vocab_table *token, const char *const *want, size_t n) {
    bool same = token->count == n;
    for (size_t id = 0; id < n && same; id++) {
        size_t size;
        const char *text = llm_vocab_table_bytes(token, id, &size);
        same = size == strlen(want[id]) && memcmp(text, want[id], size) == 0;
    }
    return same;
}

TEST(wordpiece_train,
     "a merge changes every word, may give a token that is there, and ends with its word") {
    llm_bpe_train_words words = llm_bpe_train_words_empty();
    llm_vocab_table token = llm_vocab_table_empty();
    wtrain_word(&words, "abc", 3, 1);
    const char *const grown[5] = {"a", "##b", "##c", "ab", "abc"};
    CHECK(llm_wordpiece_train(&token, &words, 100, 1, LLM_WORDPIECE_TRAIN_COUNT, NULL));
    CHECK(wtrain_is(&token, grown, 5));
    llm_vocab_table_free(&token);
    CHECK(llm_vocab_table_add(&token, "ab", 2) == 0);
    const char *const there[5] = {"ab", "a", "##b", "##c", "abc"};
    CHECK(llm_wordpiece_train(&token, &words, 100, 1, LLM_WORDPIECE_TRAIN_COUNT, NULL));
    CHECK(wtrain_is(&token, there, 5));
    llm_vocab_table_free(&token);
    llm_bpe_train_words_free(&words);
    wtrain_word(&words, "b\xC3", 2, 1); /* a character that breaks off; its rest is another word */
    wtrain_word(&words, "\xA9", 1, 1);
    const char *const broken[3] = {"b", "##\xC3", "\xA9"};
    CHECK(llm_wordpiece_train(&token, &words, 3, 1, LLM_WORDPIECE_TRAIN_COUNT, NULL));
    CHECK(wtrain_is(&token, broken, 3));
    llm_vocab_table_free(&token);
    llm_bpe_train_words_free(&words);
}

TEST(wordpiece_train, "when memory is out it says so and nothing leaks") {
    llm_bpe_train_words words = wtrain_golden("made");
    llm_error error;
    int calls = 0;
    for (bool ok = false; !ok; calls++) {
        llm_vocab_table token = wtrain_special();
        wtrain_calls = calls;
        ok = llm_wordpiece_train(&token, &words, 190, 3, LLM_WORDPIECE_TRAIN_SCORE, &error);
        CHECK(ok == (wtrain_calls >= 0)); /* whatever fails is told */
        wtrain_calls = 1 << 30;
        if (!ok) CHECK(strstr(error.message, "out of memory"));
        if (ok) wtrain_check(&token, "made/score");
        llm_vocab_table_free(&token);
    }
    CHECK(calls > 20);
    llm_bpe_train_words_free(&words);
}

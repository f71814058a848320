/* @gguf_bert */
#include "../test.h"
#include "../tiny_hostile.h"

/* malloc and its like that fail once, after a number of calls */
static int bert_calls = 1 << 30;
static void *bert_malloc(size_t size) { return bert_calls-- != 0 ? malloc(size) : NULL; }
static void *bert_calloc(size_t n, size_t size) {
    return bert_calls-- != 0 ? calloc(n, size) : NULL;
}
static void *bert_realloc(void *p, size_t size) {
    return bert_calls-- != 0 ? realloc(p, size) : NULL;
}
#define malloc bert_malloc
#define calloc bert_calloc
#define realloc bert_realloc

#include "../../llm.h"
#include "../tiny_parts.h"

static llm_tokenizer bert_empty(void) {
    llm_tokenizer t;
    llm_bpe none = llm_bpe_empty();
    llm_tokenizer_from_bpe(&t, &none, LLM_PRE_TOKENIZE_GPT2);
    return t;
}

static size_t bert_ids(uint32_t *out, const char *text, size_t size, const void *context) {
    const llm_tokenizer *t = (const llm_tokenizer *)context;
    int *ids;
    size_t count, n = 0;
    if (tiny_parts_old(text, size)) return 0;
    CHECK(llm_tokenizer_encode(t, &ids, &count, text, size, NULL));
    for (size_t i = 0; i < count; i++) tiny_parts_put(out, &n, (size_t)ids[i]);
    free(ids);
    return n;
}

TEST(gguf_bert, "files of the gguf package, cased and not: the ids of tokenizers for 2,200 texts") {
    static const char *const name[2] = {"uncased", "cased"};
    for (size_t k = 0; k < 2; k++) {
        char hash[32];
        const size_t size = (size_t)*golden("%s/size", name[k]);
        llm_tokenizer t = bert_empty();
        llm_error error;
        if (!llm_tokenizer_gguf_read(&t, tiny_parts_text(name[k]), size, &error))
            test_fail(__FILE__, __LINE__, "%s", error.message);
        CHECK(t.parts && t.vocab == 185 && llm_tokenizer_id(&t, "[MASK]") == 4);
        CHECK(strcmp(t.single.data, "[CLS] $A [SEP]") == 0);
        CHECK(strcmp(t.pair.data, "[CLS] $A [SEP] $B:1 [SEP]:1") == 0);
        snprintf(hash, sizeof hash, "hash/%s", name[k]);
        tiny_hostile_check(hash, TINY_HOSTILE_KNOWN, bert_ids, &t);
        llm_tokenizer_free(&t);
    }
}

typedef struct {
    unsigned char data[4096];
    size_t size;
} bert_maker;

static void bert_number(bert_maker *m, uint64_t x, size_t bytes) {
    for (size_t i = 0; i < bytes; i++) m->data[m->size++] = (unsigned char)(x >> 8 * i & 255);
}
static void bert_text(bert_maker *m, const char *text) {
    bert_number(m, strlen(text), 8);
    memcpy(m->data + m->size, text, strlen(text));
    m->size += strlen(text);
}

/* A file of tokens, of kind 1 but for those whose digit in kinds says otherwise; flags: small
 * letters and bare ones, 0 or 1, or 2 for none in the file. */
static bert_maker bert_file(const char *const *token, size_t n, const char *kinds, int lower,
                            int bare) {
    bert_maker m;
    m.size = 0;
    bert_number(&m, 0x46554747, 4);
    bert_number(&m, 3, 4);
    bert_number(&m, 0, 8);
    bert_number(&m, 3u + (lower < 2) + (bare < 2), 8);
    bert_text(&m, "tokenizer.ggml.model");
    bert_number(&m, 8, 4);
    bert_text(&m, "bert");
    bert_text(&m, "tokenizer.ggml.tokens");
    bert_number(&m, n > 0 ? 9 : 8, 4);
    if (n > 0) bert_number(&m, 8, 4), bert_number(&m, n, 8);
    for (size_t i = 0; i < n; i++) bert_text(&m, token[i]);
    if (n == 0) bert_text(&m, "none");
    bert_text(&m, "tokenizer.ggml.token_type");
    bert_number(&m, 9, 4);
    bert_number(&m, 5, 4);
    bert_number(&m, strlen(kinds), 8);
    for (const char *k = kinds; *k; k++) bert_number(&m, (uint64_t)(*k - '0'), 4);
    for (int i = 0; i < 2; i++) {
        const int flag = i ? bare : lower;
        if (flag > 1) continue;
        bert_text(&m, i ? "tokenizer.ggml.normalizer.strip_accents"
                        : "tokenizer.ggml.normalizer.lowercase");
        bert_number(&m, 7, 4);
        bert_number(&m, (uint64_t)flag, 1);
    }
    return m;
}

static const char *const bert_tokens[9] = {"[UNK]",
                                           "[CLS]",
                                           "[SEP]",
                                           "\xE2\x96\201cafe",
                                           "\xE2\x96\201Cafe",
                                           "\xE2\x96\201caf\xC3\xA9",
                                           "\xE2\x96\201Caf\xC3\xA9",
                                           "s",
                                           "\xE2\x96\x81"};

TEST(gguf_bert, "spelling, kinds and flags by hand") {
    static const int want[9][3] = {{2, 2, 3}, {1, 1, 3}, {0, 0, 6}, {1, 2, 3}, {1, 0, 5},
                                   {0, 1, 4}, {0, 2, 6}, {2, 0, 5}, {2, 1, 3}};
    for (size_t k = 0; k < 9; k++) {
        const bert_maker m = bert_file(bert_tokens, 9, "333111114", want[k][0], want[k][1]);
        llm_tokenizer t = bert_empty();
        llm_error error;
        int *ids;
        size_t count;
        if (!llm_tokenizer_gguf_read(&t, m.data, m.size, &error))
            test_fail(__FILE__, __LINE__, "%s", error.message);
        CHECK(t.vocab == 9 && llm_added_tokens_count(&t.added) == 4);
        CHECK(llm_tokenizer_id(&t, "[SEP]") == 2 && llm_tokenizer_id(&t, "##\xE2\x96\x81") == 8);
        CHECK(t.parts->model.unknown == -1 && t.parts->model.pieces.unknown == -1);
        for (size_t i = 0; i < 4; i++) {
            const char *text;
            const llm_added_tokens_one *one = llm_added_tokens_get(&t.added, i, &text);
            CHECK(one->special == (i < 3) && !one->normalized && one->id == (int)(i < 3 ? i : 8));
        }
        CHECK(llm_tokenizer_encode(&t, &ids, &count, "Caf\xC3\xA9s x", 8, &error));
        if (count != 3 || ids[0] != want[k][2] || ids[1] != 7 || ids[2] != 0)
            test_fail(__FILE__, __LINE__, "%zu: %d, want %d", k, ids[0], want[k][2]);
        free(ids);
        llm_tokenizer_free(&t);
    }
    bert_maker m = bert_file(bert_tokens, 2, "31", 2, 2);
    llm_tokenizer t = bert_empty();
    CHECK(llm_tokenizer_gguf_read(&t, m.data, m.size, NULL));
    CHECK(llm_vocab_table_find(&t.parts->model.wordpiece.token, "##[CLS]", 7) == 1);
    llm_tokenizer_free(&t);
}

TEST(gguf_bert, "templates are there when both of their tokens are, whatever their ids") {
    static const char *const token[5][3] = {{"[CLS]", "[SEP]", "[UNK]"},
                                            {"[SEP]", "[CLS]", "[UNK]"},
                                            {"[CLS]", "s", "[UNK]"},
                                            {"s", "[SEP]", "[UNK]"},
                                            {"s", "x", "[UNK]"}};
    for (size_t k = 0; k < 5; k++) {
        const bert_maker m = bert_file(token[k], 3, "333", 2, 2);
        llm_tokenizer t = bert_empty();
        CHECK(llm_tokenizer_gguf_read(&t, m.data, m.size, NULL));
        CHECK((t.single.size > 0) == (k < 2) && (t.pair.size > 0) == (k < 2));
        llm_tokenizer_free(&t);
    }
}

TEST(gguf_bert, "what is wrong is said, and memory that runs out") {
    static const char *const twice[3] = {"[UNK]", "s", "##s"};
    static const char *const again[2] = {"[UNK]", "[UNK]"}, *const empty[2] = {"[UNK]", ""};
    llm_tokenizer t = bert_empty();
    llm_error error;
    bert_maker m = bert_file(twice, 3, "313", 2, 2);
    CHECK_FAILS(llm_tokenizer_gguf_read(&t, m.data, m.size, &error), error,
                "tokens, 2: \"##s\" is there twice");
    llm_tokenizer_free(&t);
    m = bert_file(again, 2, "33", 2, 2);
    CHECK_FAILS(llm_tokenizer_gguf_read(&t, m.data, m.size, &error), error,
                "tokens, 1: \"[UNK]\" is there twice");
    llm_tokenizer_free(&t);
    m = bert_file(empty, 2, "31", 2, 2);
    CHECK_FAILS(llm_tokenizer_gguf_read(&t, m.data, m.size, &error), error,
                "tokens, 1: expected a text");
    llm_tokenizer_free(&t);
    m = bert_file(twice + 1, 1, "1", 2, 2);
    CHECK_FAILS(llm_tokenizer_gguf_read(&t, m.data, m.size, &error), error,
                "WordPiece: no token [UNK]");
    llm_tokenizer_free(&t);
    m = bert_file(NULL, 0, "", 2, 2);
    CHECK_FAILS(llm_tokenizer_gguf_read(&t, m.data, m.size, &error), error,
                "tokenizer.ggml.tokens: expected an array of strings");
    llm_tokenizer_free(&t);
    m = bert_file(bert_tokens, 9, "333111114", 2, 2);
    bool ok = false;
    size_t failed = 0;
    for (int calls = 0; calls < 300 && !ok; calls++) {
        t = bert_empty();
        error.message[0] = 0;
        bert_calls = calls;
        ok = llm_tokenizer_gguf_read(&t, m.data, m.size, &error);
        CHECK(ok == (bert_calls >= 0)); /* a call that has failed takes it below */
        bert_calls = 1 << 30;
        failed += !ok;
        if (!ok && !strstr(error.message, "memory"))
            test_fail(__FILE__, __LINE__, "after %d calls: %s", calls, error.message);
        llm_tokenizer_free(&t);
    }
    CHECK(ok && failed > 20);
}

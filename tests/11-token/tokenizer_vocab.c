/* @tokenizer_vocab */
#include "../test.h"

/* calloc and realloc that fail once, after a number of calls */
static int vocab_calls = 1 << 30;
static void *vocab_calloc(size_t n, size_t size) {
    return vocab_calls-- != 0 ? calloc(n, size) : NULL;
}
static void *vocab_realloc(void *p, size_t size) {
    return vocab_calls-- != 0 ? realloc(p, size) : NULL;
}
#define calloc vocab_calloc
#define realloc vocab_realloc

#include "../../llm.h"

/* Two bytes in a number. */
static char *vocab_text(size_t *size, const char *name) {
    *size = (size_t)*golden("%s/size", name);
    const float *pair = golden("%s/text", name);
    char *text = (char *)test_memory(*size, 1);
    for (size_t i = 0; i < *size; i++)
        text[i] = (char)(unsigned char)((unsigned)pair[i / 2] >> (i % 2 ? 0 : 8));
    return text;
}

static llm_tokenizer vocab_empty(void) {
    llm_tokenizer t;
    memset(&t, 0, sizeof t);
    t.bpe = llm_bpe_empty();
    return t;
}
static void vocab_free(llm_tokenizer *t) {
    llm_bpe_free(&t->bpe);
    llm_added_tokens_free(&t->added);
}

static bool vocab_read(llm_tokenizer *t, const char *text, llm_error *error) {
    llm_json j;
    CHECK(llm_json_parse(&j, text, strlen(text), NULL));
    const bool ok = llm_tokenizer_vocab_read(t, &j, j.node, error);
    llm_json_free(&j);
    return ok;
}
static bool vocab_merges(llm_tokenizer *t, const char *text, llm_error *error) {
    llm_json j;
    CHECK(llm_json_parse(&j, text, strlen(text), NULL));
    const bool ok = llm_tokenizer_vocab_merges(t, &j, j.node, error);
    llm_json_free(&j);
    return ok;
}

/* {"spelling of byte b": first + step * b, ..., and what is in more. */
static char *vocab_of_bytes(int first, int step, const char *more) {
    llm_buffer out = {NULL, 0, 0};
    bool ok = llm_buffer_print(&out, "{");
    for (int b = 0; b < 256; b++) {
        const char byte = (char)(unsigned char)b;
        ok = ok && llm_buffer_print(&out, b == '"' || b == '\\' ? "\"\\" : "\"") &&
             llm_byte_level_spell(&out, &byte, 1) &&
             llm_buffer_print(&out, "\":%d%s", first + step * b, b < 255 ? "," : "");
    }
    CHECK(ok && llm_buffer_print(&out, "%s}", more));
    char *text = (char *)test_memory(out.size + 1, 1);
    memcpy(text, out.data, out.size);
    llm_buffer_free(&out);
    return text;
}

TEST(tokenizer_vocab, "the files that tokenizers saves give the ids that it gives") {
    size_t vocab_size, lines_size, text_size, n;
    const char *vocab = vocab_text(&vocab_size, "vocab");
    const char *lines = vocab_text(&lines_size, "merges");
    const char *text = vocab_text(&text_size, "text");
    const float *want = golden_n(&n, "text/ids");
    llm_buffer strings = {NULL, 0, 0}, pairs = {NULL, 0, 0};
    CHECK(llm_buffer_print(&strings, "[") && llm_buffer_print(&pairs, "["));
    const char *line = memchr(lines, '\n', lines_size); /* after #version */
    while (line + 1 < lines + lines_size) {
        const char *start = line + 1, *space = strchr(start, ' '),
                   *comma = strings.size > 1 ? "," : "";
        line = memchr(start, '\n', (size_t)(lines + lines_size - start));
        CHECK(llm_buffer_print(&strings, "%s\"%.*s\"", comma, (int)(line - start), start));
        CHECK(llm_buffer_print(&pairs, "%s[\"%.*s\",\"%.*s\"]", comma, (int)(space - start), start,
                               (int)(line - space - 1), space + 1));
    }
    CHECK(llm_buffer_print(&strings, "]") && llm_buffer_print(&pairs, "]"));
    for (int form = 0; form < 3; form++) {
        llm_tokenizer t = vocab_empty();
        llm_json j;
        CHECK(llm_json_parse(&j, vocab, vocab_size, NULL));
        CHECK(llm_tokenizer_vocab_read(&t, &j, j.node, NULL));
        llm_json_free(&j);
        CHECK(form == 0   ? llm_tokenizer_vocab_lines(&t, lines, lines_size, NULL)
              : form == 1 ? vocab_merges(&t, strings.data, NULL)
                          : vocab_merges(&t, pairs.data, NULL));
        CHECK(t.bpe.merges == 300 - 256 && t.vocab == 300);
        int *ids;
        size_t count;
        CHECK(llm_tokenizer_text_encode(&t, &ids, &count, text, text_size, false, NULL));
        CHECK(count == n);
        for (size_t i = 0; i < n; i++) CHECK_NEAR(ids[i], want[i], 0);
        free(ids);
        vocab_free(&t);
    }
    llm_buffer_free(&strings);
    llm_buffer_free(&pairs);
}

TEST(tokenizer_vocab, "numbers are whole and below the limit") {
    static const char *const text[10] = {"0",   "41",    "42",   "-1",   "1.5",
                                         "4e1", "\"3\"", "null", "1e30", "-0.0"};
    static const size_t want[10] = {0,  41,       SIZE_MAX, SIZE_MAX, SIZE_MAX,
                                    40, SIZE_MAX, SIZE_MAX, SIZE_MAX, 0};
    for (size_t i = 0; i < 10; i++) {
        llm_json j;
        CHECK(llm_json_parse(&j, text[i], strlen(text[i]), NULL));
        CHECK(llm_tokenizer_vocab_number(j.node, 42) == want[i]);
        llm_json_free(&j);
    }
    CHECK(llm_tokenizer_vocab_number(NULL, 42) == SIZE_MAX);
}

TEST(tokenizer_vocab,
     "ids may stand in any order and with gaps; foreign spellings are added tokens") {
    llm_tokenizer t = vocab_empty();
    llm_error error;
    const char *more = ",\"ab\":3,\"<\xE4\xB8\xAD>\":1,\"abc\":600";
    CHECK(llm_added_tokens_put(&t.added, 1, "<\xE4\xB8\xAD>", 5, true, false));
    t.vocab = 700; /* an added token beyond */
    CHECK(vocab_read(&t, vocab_of_bytes(514, -2, more), &error));
    CHECK(t.bpe.token.count == 601 && t.vocab == 700);
    for (int b = 0; b < 256; b++) CHECK(t.bpe.byte_id[b] == 514 - 2 * b);
    size_t size;
    for (size_t id = 0; id < 601; id++) {
        const char *s = llm_vocab_table_bytes(&t.bpe.token, id, &size);
        const bool byte = id >= 4 && id <= 514 && id % 2 == 0;
        CHECK(size == (id == 3 ? 2u : id == 600 ? 3u : byte ? 1u : 0u));
        if (byte) CHECK((unsigned char)s[0] == (514 - id) / 2);
    }
    CHECK(vocab_merges(&t, "[\"a b\", [\"ab\", \"c\"]]", &error));
    CHECK(t.bpe.merge[0].result == 3 && t.bpe.merge[1].result == 600);
    CHECK(t.bpe.merge[0].left == t.bpe.byte_id['a'] && t.bpe.merge[1].right == t.bpe.byte_id['c']);
    vocab_free(&t);
    t = vocab_empty();
    CHECK(vocab_read(&t, vocab_of_bytes(0, 1, ""), &error) && t.vocab == 256);
    vocab_free(&t);
    t = vocab_empty(); /* the id 0 is as good as any other */
    CHECK(vocab_read(&t, vocab_of_bytes(0, 1, ",\"\xC4\x80\x61\":256"), &error) && t.vocab == 257);
    CHECK(vocab_merges(&t, "[\"\xC4\x80 a\"]", &error) && t.bpe.merge[0].result == 256);
    vocab_free(&t);
    t = vocab_empty();
    CHECK(vocab_read(&t, vocab_of_bytes(1, 1, ",\"ab\":0"), &error) && t.vocab == 257);
    CHECK(vocab_merges(&t, "[\"a b\"]", &error) && t.bpe.merge[0].result == 0);
    vocab_free(&t);
}

TEST(tokenizer_vocab, "what is wrong with a vocabulary is said in one sentence") {
    static const struct {
        const char *more, *error;
    } row[] = {
        {",\"ab\":1536", "vocab, \"ab\": expected an id below 1538"},
        {",\"ab\":-1", "vocab, \"ab\": expected an id below 1538"},
        {",\"ab\":1.5", "vocab, \"ab\": expected an id below 1538"},
        {",\"ab\":\"1\"", "vocab, \"ab\": expected an id below 1538"},
        {",\"ab\":97", "vocab, id 97: given to \"a\" and to \"ab\""},
        {",\"a\":300", "vocab, id 300: \"a\" is there twice"},
        {",\"\xC4\x80\":300", "is there twice"},
        {",\"\":300", "vocab, id 300: \"\" is empty"},
        {",\"a b\":300", "vocab, id 300: \"a b\" is not spelt in byte-level characters"},
        {",\"<\xE4\xB8\xAD>\":300", "is not spelt in byte-level characters"},
    };
    llm_error error;
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        llm_tokenizer t = vocab_empty();
        CHECK(llm_added_tokens_put(&t.added, 299, "<\xE4\xB8\xAD>", 5, true, false));
        if (strstr(row[i].more, "1536")) { /* the limit itself is no id, the one below is */
            CHECK(vocab_read(&t, vocab_of_bytes(0, 1, ",\"ab\":1537"), &error));
            CHECK(t.vocab == 1538);
            vocab_free(&t);
            t = vocab_empty();
            CHECK_FAILS(vocab_read(&t, vocab_of_bytes(0, 1, ",\"ab\":1538"), &error), error,
                        row[i].error);
        } else {
            CHECK_FAILS(vocab_read(&t, vocab_of_bytes(0, 1, row[i].more), &error), error,
                        row[i].error);
        }
        vocab_free(&t);
    }
    llm_tokenizer t = vocab_empty();
    CHECK_FAILS(vocab_read(&t, "{}", &error), error, "vocab: byte 0x00 has no token");
    vocab_free(&t);
    const char *all = vocab_of_bytes(0, 1, ""), *z = strstr(all, "\"z\":");
    llm_buffer lacking = {NULL, 0, 0};
    CHECK(llm_buffer_put(&lacking, all, (size_t)(z - all)) &&
          llm_buffer_print(&lacking, "\"zz%s", z + 2));
    CHECK_FAILS(vocab_read(&t, lacking.data, &error), error, "vocab: byte 0x7a has no token");
    llm_buffer_free(&lacking);
    vocab_free(&t);
    CHECK_FAILS(vocab_read(&t, "[]", &error), error, "vocab: expected an object of ids");
    CHECK_FAILS(llm_tokenizer_vocab_read(&t, NULL, NULL, &error), error,
                "vocab: expected an object of ids");
    vocab_free(&t);
}

TEST(tokenizer_vocab, "what is wrong with merges is said in one sentence") {
    static const struct {
        const char *merges, *error;
    } row[] = {
        {"{}", "merges: expected an array"},
        {"[\"a b\", 1]", "merges, 1: expected \"left right\" or [\"left\", \"right\"]"},
        {"[\"ab\"]", "merges, 0: expected \"left right\""},
        {"[[\"a\"]]", "merges, 0: expected \"left right\""},
        {"[[\"a\",\"b\",\"c\"]]", "merges, 0: expected \"left right\""},
        {"[[\"a\",1]]", "merges, 0: expected \"left right\""},
        {"[[1,\"a\"]]", "merges, 0: expected \"left right\""},
        {"[{\"a\":\"a\",\"b\":\"b\"}]", "merges, 0: expected \"left right\""},
        {"[\"a b\",\"ab xy\"]", "merges, 1: \"xy\" is not in the vocabulary"},
        {"[\"xyz b\"]", "merges, 0: \"xyz\" is not in the vocabulary"},
        {"[\"a b c\"]", "merges, 0: \"b c\" is not in the vocabulary"},
        {"[[\"a b\",\"c\"]]", "merges, 0: \"a b\" is not in the vocabulary"},
        {"[\"0123456789012345678901234567890123456789012345678901234567890123456789 b\"]",
         "\"012345678901234567890123456789012345678901234567890123456789\" is not"},
        {"[\" b\"]", "merges, 0: \"\" is not in the vocabulary"},
        {"[[\"\",\"b\"]]", "merges, 0: \"\" is not in the vocabulary"},
        {"[\"a b\",\"ab ab\"]", "merges, 1: the result is not in the vocabulary"},
    };
    llm_error error;
    const char *vocab = vocab_of_bytes(0, 1, ",\"ab\":256,\"abc\":257");
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        llm_tokenizer t = vocab_empty();
        CHECK(vocab_read(&t, vocab, &error));
        CHECK_FAILS(vocab_merges(&t, row[i].merges, &error), error, row[i].error);
        vocab_free(&t);
    }
    static const struct {
        const char *lines, *error;
        size_t merges;
    } file[] = {
        {"", NULL, 0},
        {"#version: 0.2", NULL, 0},
        {"#version\na b", NULL, 1},
        {"\na b", NULL, 1},
        {"#version: 0.2\na b\nab c", NULL, 2},
        {"a b\r\n\r\n\nab c\r\n", NULL, 2},
        {"# a", "merges, 0: the result is not in the vocabulary", 1},
        {"a b\nab", "merges, line 2: expected \"left right\"", 1},
        {"a b\n\nb ab c", "merges, 1: \"ab c\" is not in the vocabulary", 1},
        {"#versio x", "merges, 0: \"#versio\" is not in the vocabulary", 0},
    };
    for (size_t i = 0; i < sizeof file / sizeof file[0]; i++) {
        llm_tokenizer t = vocab_empty();
        const size_t size = strlen(file[i].lines);
        char *exact = (char *)test_memory(size, 1);
        memcpy(exact, file[i].lines, size);
        CHECK(vocab_read(&t, vocab, &error));
        if (file[i].error)
            CHECK_FAILS(llm_tokenizer_vocab_lines(&t, exact, size, &error), error, file[i].error);
        else
            CHECK(llm_tokenizer_vocab_lines(&t, exact, size, &error));
        CHECK(t.bpe.merges == file[i].merges);
        vocab_free(&t);
    }
}

TEST(tokenizer_vocab, "when memory is out, it says so and nothing leaks") {
    size_t failed = 0;
    const char *vocab = vocab_of_bytes(0, 1, ",\"ab\":256,\"abc\":257");
    for (int calls = 0; calls < 400; calls++) {
        llm_tokenizer t = vocab_empty();
        llm_json j;
        llm_error error;
        CHECK(llm_json_parse(&j, vocab, strlen(vocab), NULL));
        vocab_calls = calls;
        const bool ok = llm_tokenizer_vocab_read(&t, &j, j.node, &error) &&
                        llm_tokenizer_vocab_lines(&t, "a b\nab c", 8, &error);
        vocab_calls = 1 << 30;
        CHECK(!ok || (t.bpe.merges == 2 && t.bpe.merge[1].result == 257));
        llm_json_free(&j);
        vocab_free(&t);
        if (ok) continue;
        failed++;
        CHECK(strstr(error.message, "out of memory"));
    }
    CHECK(failed > 250 && failed < 400);
}

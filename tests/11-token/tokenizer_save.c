/* @tokenizer_save */
#include "../test.h"

/* calloc and realloc that fail once, after a number of calls */
static int save_calls = 1 << 30;
static void *save_calloc(size_t n, size_t size) {
    return save_calls-- != 0 ? calloc(n, size) : NULL;
}
static void *save_realloc(void *p, size_t size) {
    return save_calls-- != 0 ? realloc(p, size) : NULL;
}
#define calloc save_calloc
#define realloc save_realloc

#include "../../llm.h"

/* Two bytes in a number. */
static char *save_text(size_t *size, const char *name) {
    *size = (size_t)*golden("%s/size", name);
    const float *pair = golden("%s/text", name);
    char *text = (char *)test_memory(*size + 1, 1);
    for (size_t i = 0; i < *size; i++)
        text[i] = (char)(unsigned char)((unsigned)pair[i / 2] >> (i % 2 ? 0 : 8));
    return text;
}

static llm_tokenizer save_read(const char *text, size_t size) {
    llm_tokenizer t;
    llm_json j;
    llm_error error;
    memset(&t, 0, sizeof t);
    t.bpe = llm_bpe_empty();
    CHECK(llm_json_parse(&j, text, size, NULL));
    if (!llm_tokenizer_json_read(&t, &j, &error))
        test_fail(__FILE__, __LINE__, "%s", error.message);
    llm_json_free(&j);
    return t;
}

static void save_free(llm_tokenizer *t) {
    llm_bpe_free(&t->bpe);
    llm_added_tokens_free(&t->added);
}

/* The same tree: kinds, numbers, texts, keys, in the same order. */
static void save_same(const llm_json *a, const llm_json_node *x, const llm_json *b,
                      const llm_json_node *y) {
    const char *key = x->key ? x->key : "the root";
    if (x->kind != y->kind || x->count != y->count || x->key_size != y->key_size ||
        (x->key && memcmp(x->key, y->key, x->key_size) != 0))
        test_fail(__FILE__, __LINE__, "%s: found kind %d of %zu, want %s: kind %d of %zu", key,
                  (int)x->kind, x->count, y->key ? y->key : "the root", (int)y->kind, y->count);
    if (x->kind == LLM_JSON_NUMBER && !(x->number == y->number))
        test_fail(__FILE__, __LINE__, "%s is %g, want %g", key, x->number, y->number);
    if (x->kind == LLM_JSON_STRING &&
        (x->text_size != y->text_size || memcmp(x->text, y->text, x->text_size) != 0))
        test_fail(__FILE__, __LINE__, "%s is \"%s\", want \"%s\"", key, x->text, y->text);
    const llm_json_node *p = llm_json_first(a, x), *q = llm_json_first(b, y);
    for (; p && q; p = llm_json_next(a, p), q = llm_json_next(b, q)) save_same(a, p, b, q);
}

static void save_check(const llm_tokenizer *t, const char *want, size_t size) {
    const char *path = test_path("tokenizer.json");
    llm_file file;
    llm_json a, b;
    llm_error error;
    if (!llm_tokenizer_save_json(t, path, &error))
        test_fail(__FILE__, __LINE__, "%s", error.message);
    CHECK(llm_file_read(&file, path, NULL));
    CHECK(llm_json_parse(&a, (const char *)file.data, file.size, NULL));
    CHECK(llm_json_parse(&b, want, size, NULL));
    save_same(&a, a.node, &b, b.node);
    llm_json_free(&a);
    llm_json_free(&b);
    llm_file_free(&file);
}

TEST(tokenizer_save, "what was read from a file of tokenizers is written as that file has it") {
    size_t size;
    const char *want = save_text(&size, "file");
    llm_tokenizer t = save_read(want, size);
    CHECK(llm_added_tokens_count(&t.added) == 4 && t.bpe.merges == 24);
    save_check(&t, want, size);
    save_free(&t);
}

/* want with `from` replaced, as often as it is there */
static char *save_with(const char *text, const char *from, const char *to) {
    llm_buffer out = {NULL, 0, 0};
    const char *at;
    CHECK(strstr(text, from));
    for (; (at = strstr(text, from)) != NULL; text = at + strlen(from))
        CHECK(llm_buffer_put(&out, text, (size_t)(at - text)) &&
              llm_buffer_put(&out, to, strlen(to)));
    CHECK(llm_buffer_print(&out, "%s", text));
    char *kept = (char *)test_memory(out.size + 1, 1);
    memcpy(kept, out.data, out.size);
    llm_buffer_free(&out);
    return kept;
}

TEST(tokenizer_save, "options, patterns, gaps and tokens in them are written") {
    size_t size;
    const char *file = save_text(&size, "file"), *want;
    llm_tokenizer t = save_read(file, size);
    t.ignore_merges = true;
    want = save_with(file, "\"ignore_merges\":false", "\"ignore_merges\":true");
    save_check(&t, want, strlen(want));
    t.prefix_space = true;
    want = save_with(want, "\"ByteLevel\",\"add_prefix_space\":false",
                     "\"ByteLevel\",\"add_prefix_space\":true");
    save_check(&t, want, strlen(want));
    save_free(&t);

    for (int kind = 1; kind < 5; kind++) {
        llm_buffer pre = {NULL, 0, 0};
        const char *pattern = llm_pre_tokenize_pattern((llm_pre_tokenize_kind)kind);
        CHECK(llm_buffer_print(&pre, "\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":["
                                     "{\"type\":\"Split\",\"pattern\":{\"Regex\":") &&
              llm_json_put_string(&pre, pattern, strlen(pattern)) &&
              llm_buffer_print(
                  &pre, "},\"behavior\":\"Isolated\",\"invert\":false},{\"type\":\"ByteLevel\","
                        "\"add_prefix_space\":false,\"trim_offsets\":true,"
                        "\"use_regex\":false}]}"));
        want = save_with(file,
                         "\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false,"
                         "\"trim_offsets\":true,\"use_regex\":true}",
                         pre.data);
        llm_buffer_free(&pre);
        t = save_read(want, strlen(want));
        CHECK((int)t.pattern == kind);
        save_check(&t, want, strlen(want));
        t.prefix_space = true;
        llm_error error;
        CHECK_FAILS(llm_tokenizer_save_json(&t, test_path("x"), &error), error,
                    "only GPT-2's pattern takes a space");
        CHECK(access(test_path("x"), F_OK) != 0);
        save_free(&t);
    }
    /* Two bytes move to 300 and 301, and a token with a foreign spelling into the gap at 0. The
     * gaps before 300 are then left out, but for those of added tokens: else tokenizers would
     * number these anew. */
    want = save_with(file, "\"!\":0,\"\\\"\":1,", "\"<\xE4\xB8\xAD>\":0,\"!\":300,\"\\\"\":301,");
    want = save_with(want, "\"id\":282,\"content\":\"<\xE4\xB8\xAD>\"",
                     "\"id\":0,\"content\":\"<\xE4\xB8\xAD>\"");
    t = save_read(want, strlen(want));
    want = save_with(want, "\"!\":300,\"\\\"\":301,", "");
    want = save_with(want, "},\"merges\"",
                     ",\"<|end|>\":280,\"the\":281,\"a\\\"\\\\b\\n\":283,\"!\":300,\"\\\"\":301},"
                     "\"merges\"");
    save_check(&t, want, strlen(want));
    save_free(&t);

    const char *list = strstr(file, "[{\"id\""), *list_end = strstr(file, "],\"normalizer\"");
    char *without = (char *)test_memory(size + 1, 1);
    snprintf(without, size + 1, "%.*s[%s", (int)(list - file), file, list_end);
    t = save_read(without, strlen(without));
    CHECK(llm_added_tokens_count(&t.added) == 0);
    save_check(&t, without, strlen(without));
    save_free(&t);
}

TEST(tokenizer_save, "an empty tokenizer is written; no file is left where memory or disk fail") {
    size_t size, failed = 0;
    const char *file = save_text(&size, "file");
    llm_tokenizer t = save_read(file, size);
    llm_error error;
    for (int calls = 0; calls < 40; calls++) {
        save_calls = calls;
        const bool ok = llm_tokenizer_save_json(&t, test_path("y"), &error);
        save_calls = 1 << 30;
        if (ok) break;
        failed++;
        CHECK(strstr(error.message, "out of memory"));
        CHECK(access(test_path("y"), F_OK) != 0);
    }
    CHECK(failed > 3 && failed < 40 && access(test_path("y"), F_OK) == 0);
    CHECK_FAILS(llm_tokenizer_save_json(&t, test_path("no/such"), &error), error, "no/such");
    t.pieces = true;
    CHECK_FAILS(llm_tokenizer_save_json(&t, test_path("p"), &error), error, "only byte-level BPE");
    CHECK(access(test_path("p"), F_OK) != 0);
    t.pieces = false;
    save_free(&t);

    memset(&t, 0, sizeof t);
    CHECK(llm_tokenizer_save_json(&t, test_path("z"), NULL));
    llm_file read;
    llm_json j;
    CHECK(llm_file_read(&read, test_path("z"), NULL));
    CHECK(llm_json_parse(&j, (const char *)read.data, read.size, NULL));
    const llm_json_node *model = llm_json_get(&j, j.node, "model");
    CHECK(llm_json_get(&j, model, "vocab")->count == 0);
    CHECK(llm_json_get(&j, model, "merges")->count == 0);
    llm_json_free(&j);
    llm_file_free(&read);
}

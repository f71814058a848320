/* @pre_split_json */
#include "../test.h"

#include "../tiny_hostile.h"

/* malloc and its like that fail once, after a number of calls */
static int sjson_calls = 1 << 30;
static void *sjson_malloc(size_t size) { return sjson_calls-- != 0 ? malloc(size) : NULL; }
static void *sjson_calloc(size_t n, size_t size) {
    return sjson_calls-- != 0 ? calloc(n, size) : NULL;
}
static void *sjson_realloc(void *p, size_t size) {
    return sjson_calls-- != 0 ? realloc(p, size) : NULL;
}
#define malloc sjson_malloc
#define calloc sjson_calloc
#define realloc sjson_realloc

#include "../../llm.h"
#include "../tiny_parts.h"

static bool sjson_read(llm_pre_split *p, const char *text, llm_error *error) {
    llm_json j = tiny_parts_json(text);
    memset(p, 0, sizeof *p);
    const bool ok = llm_pre_split_json_read(p, &j, j.node, 0, error);
    llm_json_free(&j);
    return ok;
}

/* The pieces of a text that begins at byte `start` of another, with | between. */
static void sjson_is(const char *part, const char *text, size_t start, const char *want) {
    llm_pre_split p;
    llm_error error;
    llm_pre_split_pieces w;
    llm_buffer got = {NULL, 0, 0};
    memset(&w, 0, sizeof w);
    if (!sjson_read(&p, part, &error)) test_fail(__FILE__, __LINE__, "%s", error.message);
    CHECK(llm_text_places_add(&w.t, text, strlen(text), start) && llm_pre_split_end(&w));
    CHECK(llm_pre_split_run(&p, &w));
    const size_t *end = (const size_t *)(const void *)w.end.data;
    for (size_t k = 0, at = 0; k < w.end.size / sizeof *end; at = end[k++])
        CHECK((k == 0 || llm_buffer_put(&got, "|", 1)) &&
              llm_buffer_put(&got, w.t.text.data + at, end[k] - at));
    if (strcmp(got.data ? got.data : "", want) != 0)
        test_fail(__FILE__, __LINE__, "%s: \"%s\" gives \"%s\"", part, text, got.data);
    llm_buffer_free(&got);
    llm_pre_split_pieces_free(&w);
    llm_pre_split_free(&p);
}

TEST(pre_split_json, "every part and field does what it says") {
    static const char text[] = "a1 23-b, c";
    static const char *const row[][2] = {
        {"null", "a1 23-b, c"},
        {"{\"type\":\"BertPreTokenizer\"}", "a1|23|-|b|,|c"},
        {"{\"type\":\"WhitespaceSplit\"}", "a1|23-b,|c"},
        {"{\"type\":\"Punctuation\"}", "a1 23|-|b|,| c"},
        {"{\"type\":\"Punctuation\",\"behavior\":\"Isolated\"}", "a1 23|-|b|,| c"},
        {"{\"type\":\"Punctuation\",\"behavior\":\"Removed\"}", "a1 23|b| c"},
        {"{\"type\":\"Punctuation\",\"behavior\":\"MergedWithPrevious\"}", "a1 23-|b,| c"},
        {"{\"type\":\"Punctuation\",\"behavior\":\"MergedWithNext\"}", "a1 23|-b|, c"},
        {"{\"type\":\"Punctuation\",\"behavior\":\"Contiguous\"}", "a1 23|-|b|,| c"},
        {"{\"type\":\"Digits\"}", "a|1| |23|-b, c"},
        {"{\"type\":\"Digits\",\"individual_digits\":true}", "a|1| |2|3|-b, c"},
        {"{\"type\":\"Split\",\"pattern\":{\"String\":\", \"},\"behavior\":\"Removed\"}",
         "a1 23-b|c"},
        {"{\"type\":\"Split\",\"pattern\":{\"String\":\", \"},\"behavior\":\"Removed\","
         "\"invert\":true}",
         ", "},
        {"{\"type\":\"Split\",\"pattern\":{\"String\":\"-\"},\"behavior\":\"Isolated\"}",
         "a1 23|-|b, c"},
        {"{\"type\":\"Metaspace\"}", "\xE2\x96\x81"
                                     "a1|\xE2\x96\x81"
                                     "23-b,|\xE2\x96\x81"
                                     "c"},
        {"{\"type\":\"Metaspace\",\"replacement\":\"_\",\"add_prefix_space\":false}",
         "a1|_23-b,|_c"},
        {"{\"type\":\"Metaspace\",\"replacement\":\"_\",\"add_prefix_space\":false,"
         "\"prepend_scheme\":\"never\"}",
         "a1|_23-b,|_c"},
        {"{\"type\":\"Metaspace\",\"replacement\":\"_\",\"add_prefix_space\":true,\"split\":false}",
         "_a1_23-b,_c"},
        {"{\"type\":\"Metaspace\",\"replacement\":\"_\",\"prepend_scheme\":\"first\"}",
         "a1|_23-b,|_c"},
        {"{\"type\":\"Metaspace\",\"replacement\":\"_\",\"prepend_scheme\":\"always\"}",
         "_a1|_23-b,|_c"},
        {"{\"type\":\"ByteLevel\",\"add_prefix_space\":false}", "a|1|\xC4\xA0"
                                                                "23|-|b|,|\xC4\xA0"
                                                                "c"},
        {"{\"type\":\"ByteLevel\",\"use_regex\":false}", "\xC4\xA0"
                                                         "a1\xC4\xA0"
                                                         "23-b,\xC4\xA0"
                                                         "c"},
        {"{\"type\":\"Sequence\",\"pretokenizers\":[]}", "a1 23-b, c"},
        {"{\"type\":\"Sequence\"}", "a1 23-b, c"},
        {"{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"String\":"
         "\"-b\"},\"behavior\":\"Isolated\"},null,{\"type\":\"Metaspace\",\"replacement\":\"_\","
         "\"prepend_scheme\":\"never\"},{\"type\":\"Digits\"}]}",
         "a|1|_|23|-b|,|_c"}};
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) sjson_is(row[i][0], text, 2, row[i][1]);
    sjson_is("{\"type\":\"Metaspace\",\"prepend_scheme\":\"first\",\"replacement\":\"_\"}", "a b",
             0, "_a|_b");
    for (int kind = 0; kind < 5; kind++) { /* each pattern, in both behaviours */
        llm_buffer part = {NULL, 0, 0}, want = {NULL, 0, 0};
        static const char line[] = "It's HelloWorld 12345\n\n /ab";
        const char *pattern = llm_pre_tokenize_pattern((llm_pre_tokenize_kind)kind);
        for (size_t at = 0, n; at < strlen(line); at += n) {
            n = llm_pre_tokenize(line + at, strlen(line) - at, (llm_pre_tokenize_kind)kind);
            CHECK((at == 0 || llm_buffer_put(&want, "|", 1)) &&
                  llm_buffer_put(&want, line + at, n));
        }
        for (int invert = 0; invert < 2; invert++) {
            part.size = 0;
            CHECK(llm_buffer_print(&part, "{\"type\":\"Split\",\"pattern\":{\"Regex\":") &&
                  llm_json_put_string(&part, pattern, strlen(pattern)) &&
                  llm_buffer_print(&part, "},\"behavior\":\"%s\",\"invert\":%s}",
                                   invert ? "Removed" : "Isolated", invert ? "true" : "false"));
            sjson_is(part.data, line, 0, want.data);
        }
        llm_buffer_free(&part);
        llm_buffer_free(&want);
    }
}

TEST(pre_split_json, "what is not supported is named") {
    llm_pre_split p;
    llm_error error;
    char gpt2[400], deep[2000];
    llm_buffer regex = {NULL, 0, 0};
    const char *pattern = llm_pre_tokenize_pattern(LLM_PRE_TOKENIZE_GPT2);
    CHECK(llm_json_put_string(&regex, pattern, strlen(pattern)));
    snprintf(gpt2, sizeof gpt2,
             "{\"type\":\"Split\",\"pattern\":{\"Regex\":%s},\"behavior\":\"Removed\"}",
             regex.data);
    llm_buffer_free(&regex);
    const char *const row[][2] = {
        {"{\"type\":\"Whitespace\"}", "pre_tokenizer: \"Whitespace\" is not supported"},
        {"{\"type\":\"UnicodeScripts\"}", "pre_tokenizer: \"UnicodeScripts\" is not supported"},
        {"{}", "pre_tokenizer: \"\" is not supported"},
        {"{\"type\":\"Punctuation\",\"behavior\":\"Lost\"}",
         "pre_tokenizer: behavior \"Lost\" is not supported"},
        {"{\"type\":\"Split\",\"pattern\":{\"String\":\"a\"},\"behavior\":\"Lost\"}",
         "pre_tokenizer: behavior \"Lost\" is not supported"},
        {"{\"type\":\"Split\",\"pattern\":{\"Regex\":\"\\\\d\"},\"behavior\":\"Isolated\"}",
         "pre_tokenizer, Split: pattern \"\\d\" is not supported"},
        {"{\"type\":\"Split\",\"pattern\":{\"String\":\"\"},\"behavior\":\"Isolated\"}",
         "pre_tokenizer, Split: pattern \"\" is not supported"},
        {"{\"type\":\"Split\",\"behavior\":\"Isolated\"}",
         "pre_tokenizer, Split: pattern \"\" is not supported"},
        {gpt2, "pre_tokenizer, Split: only behaviors that keep all the text"},
        {"{\"type\":\"Metaspace\",\"prepend_scheme\":\"last\"}",
         "pre_tokenizer, Metaspace: prepend_scheme \"last\" is not supported"},
        {"{\"type\":\"Metaspace\",\"prepend_scheme\":\"first\",\"add_prefix_space\":false}",
         "pre_tokenizer, Metaspace: prepend_scheme \"first\" is not supported"},
        {"{\"type\":\"Metaspace\",\"prepend_scheme\":\"always\",\"add_prefix_space\":false}",
         "pre_tokenizer, Metaspace: prepend_scheme \"always\" is not supported"},
        {"{\"type\":\"Metaspace\",\"replacement\":\"\"}",
         "pre_tokenizer, Metaspace: expected one character as replacement"},
        {"{\"type\":\"Metaspace\",\"replacement\":\"ab\"}",
         "pre_tokenizer, Metaspace: expected one character as replacement"},
        {"{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"X\"},{\"type\":\"Digits\"}]}",
         "pre_tokenizer: \"X\" is not supported"},
    };
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        CHECK_FAILS(sjson_read(&p, row[i][0], &error), error, row[i][1]);
        llm_pre_split_free(&p);
    }
    for (size_t k = 4; k < 6; k++) {
        size_t size = 0;
        for (size_t i = 0; i < k; i++)
            size += (size_t)snprintf(deep + size, sizeof deep - size,
                                     "{\"type\":\"Sequence\",\"pretokenizers\":[");
        size += (size_t)snprintf(deep + size, sizeof deep - size, "{\"type\":\"Digits\"}");
        for (size_t i = 0; i < k; i++)
            size += (size_t)snprintf(deep + size, sizeof deep - size, "]}");
        CHECK(sjson_read(&p, deep, &error) == (k == 4));
        llm_pre_split_free(&p);
    }
    CHECK(strcmp(error.message, "pre_tokenizer: \"Sequence\" is not supported") == 0);
}

TEST(pre_split_json, "when memory is out, it says so and nothing leaks") {
    char file[500];
    snprintf(
        file, sizeof file,
        "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Metaspace\"},{\"type\":\"Split\","
        "\"pattern\":{\"String\":\"%0200d\"},\"behavior\":\"Isolated\"},{\"type\":\"Digits\"}]}",
        1);
    bool ok = false;
    size_t failed = 0;
    for (int calls = 0; calls < 50 && !ok; calls++) {
        llm_pre_split p;
        llm_error error;
        llm_json j = tiny_parts_json(file);
        memset(&p, 0, sizeof p);
        sjson_calls = calls;
        ok = llm_pre_split_json_read(&p, &j, j.node, 0, &error);
        CHECK(ok == (sjson_calls >= 0)); /* whatever fails is told */
        sjson_calls = 1 << 30;
        llm_json_free(&j);
        llm_pre_split_free(&p);
        failed += !ok;
        if (!ok && !strstr(error.message, "out of memory"))
            test_fail(__FILE__, __LINE__, "after %d calls: %s", calls, error.message);
    }
    CHECK(ok && failed > 3);
}

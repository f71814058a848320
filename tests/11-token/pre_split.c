/* @pre_split */
#include "../test.h"
#include "../tiny_hostile.h"

/* malloc and its like that fail once, after a number of calls */
static int cut_calls = 1 << 30;
static void *cut_malloc(size_t size) { return cut_calls-- != 0 ? malloc(size) : NULL; }
static void *cut_calloc(size_t n, size_t size) { return cut_calls-- != 0 ? calloc(n, size) : NULL; }
static void *cut_realloc(void *p, size_t size) {
    return cut_calls-- != 0 ? realloc(p, size) : NULL;
}
#define malloc cut_malloc
#define calloc cut_calloc
#define realloc cut_realloc

#include "../../llm.h"
#include "../tiny_parts.h"

static llm_pre_split cut_read(const char *text) {
    llm_pre_split p;
    llm_error error;
    llm_json j = tiny_parts_json(text);
    memset(&p, 0, sizeof p);
    if (!llm_pre_split_json_read(&p, &j, j.node, 0, &error))
        test_fail(__FILE__, __LINE__, "%s: %s", text, error.message);
    llm_json_free(&j);
    return p;
}

static size_t cut_answer(uint32_t *out, const char *text, size_t size, const void *context) {
    const llm_pre_split *p = (const llm_pre_split *)context;
    llm_pre_split_pieces w;
    memset(&w, 0, sizeof w);
    if (tiny_parts_old(text, size)) return 0;
    CHECK(llm_text_places_add(&w.t, text, size, 0) && llm_pre_split_end(&w));
    CHECK(llm_pre_split_run(p, &w));
    const size_t *end = (const size_t *)(const void *)w.end.data;
    const size_t *place = tiny_parts_places(text, size), count = w.end.size / sizeof *end;
    size_t n = 0;
    tiny_parts_put(out, &n, count);
    for (size_t k = 0, at = 0; k < count; at = end[k++]) {
        const llm_text_places_span span = llm_text_places_of(&w.t, at, end[k] - at);
        tiny_parts_put(out, &n, end[k] - at);
        tiny_parts_put(out, &n, place[span.start]);
        tiny_parts_put(out, &n, place[span.end]);
    }
    for (size_t i = 0; i < w.t.text.size; i++)
        tiny_parts_put(out, &n, (unsigned char)w.t.text.data[i]);
    llm_pre_split_pieces_free(&w);
    return n;
}

TEST(pre_split, "2,200 texts are cut as tokenizers cuts them, with their places") {
    static const char *const row[11][2] = {
        {"bert", "{\"type\":\"BertPreTokenizer\"}"},
        {"signs", "{\"type\":\"Punctuation\",\"behavior\":\"Contiguous\"}"},
        {"before", "{\"type\":\"Punctuation\",\"behavior\":\"MergedWithPrevious\"}"},
        {"behind", "{\"type\":\"Punctuation\",\"behavior\":\"MergedWithNext\"}"},
        {"digits", "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"WhitespaceSplit\"},"
                   "{\"type\":\"Digits\",\"individual_digits\":true}]}"},
        {"runs", "{\"type\":\"Digits\",\"individual_digits\":false}"},
        {"meta",
         "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"WhitespaceSplit\"},"
         "{\"type\":\"Metaspace\",\"replacement\":\"\\u2581\",\"prepend_scheme\":\"always\"},"
         "{\"type\":\"Punctuation\",\"behavior\":\"Removed\"}]}"},
        {"first",
         "{\"type\":\"Metaspace\",\"replacement\":\"\\u2581\",\"prepend_scheme\":\"first\","
         "\"split\":true}"},
        {"whole",
         "{\"type\":\"Metaspace\",\"replacement\":\"\\u2581\",\"prepend_scheme\":\"always\","
         "\"split\":false}"},
        {"string", "{\"type\":\"Split\",\"pattern\":{\"String\":\"a\"},\"behavior\":\"Removed\","
                   "\"invert\":true}"},
        {"bytes", "{\"type\":\"ByteLevel\"}"}};
    for (size_t k = 0; k < 11; k++) {
        char name[32];
        snprintf(name, sizeof name, "hash/%s", row[k][0]);
        llm_pre_split p = cut_read(row[k][1]);
        tiny_hostile_check(name, TINY_HOSTILE_KNOWN, cut_answer, &p);
        llm_pre_split_free(&p);
    }
}

/* The pieces of a text that begins at byte `start` of another, with | between. */
static void cut_is(const char *part, const char *text, size_t start, const char *want) {
    llm_pre_split p = cut_read(part);
    llm_pre_split_pieces w;
    llm_buffer got = {NULL, 0, 0};
    memset(&w, 0, sizeof w);
    CHECK(llm_text_places_add(&w.t, text, strlen(text), start) && llm_pre_split_end(&w));
    CHECK(llm_pre_split_run(&p, &w));
    const size_t *end = (const size_t *)(const void *)w.end.data;
    for (size_t k = 0, at = 0; k < w.end.size / sizeof *end; at = end[k++]) {
        CHECK(end[k] > at && (k == 0 || llm_buffer_put(&got, "|", 1)));
        CHECK(llm_buffer_put(&got, w.t.text.data + at, end[k] - at));
    }
    if (strcmp(got.data ? got.data : "", want) != 0)
        test_fail(__FILE__, __LINE__, "%s: \"%s\" gives \"%s\"", part, text, got.data);
    llm_buffer_free(&got);
    llm_pre_split_pieces_free(&w);
    llm_pre_split_free(&p);
}

TEST(pre_split, "behaviours by hand") {
    static const char *const row[5][2] = {{"Isolated", "the|-|final|-|-|cut"},
                                          {"Removed", "the|final|cut"},
                                          {"MergedWithPrevious", "the-|final-|-|cut"},
                                          {"MergedWithNext", "the|-final|-|-cut"},
                                          {"Contiguous", "the|-|final|--|cut"}};
    for (size_t k = 0; k < 5; k++) {
        char part[200];
        snprintf(part, sizeof part,
                 "{\"type\":\"Split\",\"pattern\":{\"String\":\"-\"},\"behavior\":\"%s\"}",
                 row[k][0]);
        cut_is(part, "the-final--cut", 0, row[k][1]);
        cut_is(part, "", 0, "");
        cut_is(part, "cut", 0, "cut");
    }
    cut_is("{\"type\":\"Split\",\"pattern\":{\"String\":\"ab\"},\"behavior\":\"Isolated\"}",
           "aababa", 0, "a|ab|ab|a");
    cut_is("{\"type\":\"Split\",\"pattern\":{\"String\":\"ab\"},\"behavior\":\"Contiguous\"}",
           "abab", 0, "abab");
    cut_is("{\"type\":\"Metaspace\",\"replacement\":\"_\",\"prepend_scheme\":\"first\"}", "a b_c",
           0, "_a|_b|_c");
    cut_is("{\"type\":\"Metaspace\",\"replacement\":\"_\",\"prepend_scheme\":\"first\"}", "a b_c",
           3, "a|_b|_c");
    cut_is("{\"type\":\"Metaspace\",\"replacement\":\"_\",\"prepend_scheme\":\"always\"}", " b", 3,
           "_b");
    cut_is("{\"type\":\"Metaspace\",\"replacement\":\"_\",\"prepend_scheme\":\"always\"}", "_b", 3,
           "_b");
    cut_is("{\"type\":\"Metaspace\",\"replacement\":\"_\",\"prepend_scheme\":\"never\"}", "b c", 0,
           "b|_c");
    cut_is("{\"type\":\"ByteLevel\",\"add_prefix_space\":true,\"use_regex\":false}", "a b", 0,
           "\xC4\xA0"
           "a\xC4\xA0"
           "b");
    cut_is("{\"type\":\"ByteLevel\",\"add_prefix_space\":true}", " a b", 0,
           "\xC4\xA0"
           "a|\xC4\xA0"
           "b");
    cut_is("{\"type\":\"ByteLevel\",\"add_prefix_space\":false}", "a b", 0,
           "a|\xC4\xA0"
           "b");
    cut_is("null", "a b", 0, "a b");
    cut_is("{\"type\":\"Sequence\",\"pretokenizers\":[" /* each step has its own string */
           "{\"type\":\"Split\",\"pattern\":{\"String\":\"ab\"},\"behavior\":\"Isolated\"},"
           "{\"type\":\"Split\",\"pattern\":{\"String\":\"xy\"},\"behavior\":\"Removed\"},"
           "{\"type\":\"Metaspace\",\"replacement\":\"_\",\"prepend_scheme\":\"always\"}]}",
           "zabzxy z", 0, "_z|_ab|_z|_z");
}

TEST(pre_split, "patterns that keep the text, and broken bytes") {
    llm_buffer part = {NULL, 0, 0};
    for (int invert = 0; invert < 2; invert++) {
        const char *pattern = llm_pre_tokenize_pattern(LLM_PRE_TOKENIZE_LLAMA3);
        part.size = 0;
        CHECK(llm_buffer_print(&part, "{\"type\":\"Split\",\"pattern\":{\"Regex\":") &&
              llm_json_put_string(&part, pattern, strlen(pattern)) &&
              llm_buffer_print(&part, "},\"behavior\":\"%s\",\"invert\":%s}",
                               invert ? "Removed" : "Isolated", invert ? "true" : "false"));
        cut_is(part.data, "It's 1234 of\n", 0, "It|'s| |123|4| of|\n");
        cut_is(part.data, "\xFF\xC3 a", 0, "\xFF\xC3| a");
    }
    llm_buffer_free(&part);
    cut_is("{\"type\":\"WhitespaceSplit\"}", " \xFF \t\xC3", 0, "\xFF|\xC3");
}

TEST(pre_split, "when memory is out, it says so") {
    llm_pre_split p = cut_read("{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Metaspace\"},"
                               "{\"type\":\"Digits\"},{\"type\":\"ByteLevel\"}]}");
    bool ok = false;
    size_t failed = 0;
    for (int calls = 0; calls < 300 && !ok; calls++) {
        llm_pre_split_pieces w;
        memset(&w, 0, sizeof w);
        CHECK(llm_text_places_add(&w.t, "a12 b", 5, 0) && llm_pre_split_end(&w));
        cut_calls = calls;
        ok = llm_pre_split_run(&p, &w);
        CHECK(ok == (cut_calls >= 0)); /* whatever fails is told */
        cut_calls = 1 << 30;
        failed += !ok;
        llm_pre_split_pieces_free(&w);
    }
    CHECK(ok && failed > 10);
    llm_pre_split_free(&p);
}

/* @token_decoder */
#include "../test.h"
#include "../tiny_hostile.h"

/* malloc and its like that fail once, after a number of calls */
static int back_calls = 1 << 30;
static void *back_malloc(size_t size) { return back_calls-- != 0 ? malloc(size) : NULL; }
static void *back_calloc(size_t n, size_t size) {
    return back_calls-- != 0 ? calloc(n, size) : NULL;
}
static void *back_realloc(void *p, size_t size) {
    return back_calls-- != 0 ? realloc(p, size) : NULL;
}
#define malloc back_malloc
#define calloc back_calloc
#define realloc back_realloc

#include "../../llm.h"
#include "../tiny_parts.h"

static llm_token_decoder back_read(const char *text) {
    llm_token_decoder d;
    llm_error error;
    llm_json j = tiny_parts_json(text);
    memset(&d, 0, sizeof d);
    if (!llm_token_decoder_json_read(&d, &j, j.node, 0, &error))
        test_fail(__FILE__, __LINE__, "%s: %s", text, error.message);
    llm_json_free(&j);
    return d;
}

/* A text cut at spaces, every third string replaced by a byte token. */
static llm_token_decoder_strings back_strings(const char *text, size_t size) {
    llm_token_decoder_strings w = {{NULL, 0, 0}, {NULL, 0, 0}};
    for (size_t at = 0, i = 0; at <= size; i++) {
        const char *space = (const char *)memchr(text + at, ' ', size - at);
        const size_t end = space ? (size_t)(space - text) : size;
        if (i % 3 == 2)
            CHECK(
                llm_buffer_print(&w.text, "<0x%02X>", (unsigned)(61 * i + 37 * (end - at)) & 255));
        else
            CHECK(llm_buffer_put(&w.text, text + at, end - at));
        CHECK(llm_token_decoder_end(&w));
        at = end + 1;
    }
    return w;
}

static size_t back_answer(uint32_t *out, const char *text, size_t size, const void *context) {
    llm_token_decoder_strings w = back_strings(text, size);
    CHECK(llm_token_decoder_run_all((const llm_token_decoder *)context, &w));
    size_t n = 0;
    for (size_t i = 0; i < w.text.size; i++) tiny_parts_put(out, &n, (unsigned char)w.text.data[i]);
    llm_token_decoder_strings_free(&w);
    return n;
}

TEST(token_decoder, "strings of 2,200 texts become what tokenizers makes of them") {
    static const char *const row[9][2] = {
        {"wordpiece", "{\"type\":\"WordPiece\",\"prefix\":\"a\",\"cleanup\":true}"},
        {"plain", "{\"type\":\"WordPiece\",\"prefix\":\"##\",\"cleanup\":false}"},
        {"meta", "{\"type\":\"Metaspace\",\"replacement\":\"e\",\"prepend_scheme\":\"always\"}"},
        {"never",
         "{\"type\":\"Metaspace\",\"replacement\":\"\\u2581\",\"prepend_scheme\":\"never\"}"},
        {"bytes", "{\"type\":\"ByteLevel\"}"},
        {"fallback", "{\"type\":\"ByteFallback\"}"},
        {"llama",
         "{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Replace\",\"pattern\":"
         "{\"String\":\"\\u2581\"},\"content\":\" \"},{\"type\":\"ByteFallback\"},"
         "{\"type\":\"Fuse\"},{\"type\":\"Strip\",\"content\":\" \",\"start\":1,\"stop\":0}]}"},
        {"strip", "{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"ByteFallback\"},"
                  "{\"type\":\"Strip\",\"content\":\"e\",\"start\":2,\"stop\":0}]}"},
        {"replace", "{\"type\":\"Replace\",\"pattern\":{\"String\":\"th\"},\"content\":\"<>\"}"}};
    for (size_t k = 0; k < 9; k++) {
        char name[32];
        snprintf(name, sizeof name, "hash/%s", row[k][0]);
        llm_token_decoder d = back_read(row[k][1]);
        tiny_hostile_check(name, TINY_HOSTILE_KNOWN, back_answer, &d);
        llm_token_decoder_free(&d);
    }
}

/* What becomes of strings, which | separates. */
static void back_is(const char *part, const char *strings, const char *want) {
    llm_token_decoder d = back_read(part);
    llm_token_decoder_strings w = {{NULL, 0, 0}, {NULL, 0, 0}};
    for (const char *s = strings;;) {
        const size_t n = strcspn(s, "|");
        CHECK(llm_buffer_put(&w.text, s, n) && llm_token_decoder_end(&w));
        if (!s[n]) break;
        s += n + 1;
    }
    CHECK(llm_token_decoder_run_all(&d, &w));
    if (strcmp(w.text.data ? w.text.data : "", want) != 0)
        test_fail(__FILE__, __LINE__, "%s: \"%s\" gives \"%s\"", part, strings, w.text.data);
    llm_token_decoder_strings_free(&w);
    llm_token_decoder_free(&d);
}

TEST(token_decoder, "by hand: stripping on both sides, byte tokens, contractions") {
    static const char strip[] = "{\"type\":\"Strip\",\"content\":\"ab\",\"start\":1,\"stop\":2}";
    back_is(strip, "ababx|xababab", "abxxab"); /* each string alone */
    back_is(strip, "ab|abab|ababab|b", "b");
    static const char twice[] = "{\"type\":\"Strip\",\"content\":\"ab\",\"start\":2,\"stop\":0}";
    back_is(twice, "abx-|ababab", "x-ab");
    static const char fallback[] = "{\"type\":\"ByteFallback\"}";
    back_is(fallback, "<0x41>|<0xc3>|<0xA9>|z", "A\xC3\xA9z");
    back_is(fallback, "<0x41>|<0xC3>|z|<0xA9>", "\xEF\xBF\xBD\xEF\xBF\xBDz\xEF\xBF\xBD");
    back_is(fallback, "<0x4>|<0x411>|<0x4g>|<0xg4>|<1x41>|<0x41|<0x41)|<0x49>",
            "<0x4><0x411><0x4g><0xg4><1x41><0x41<0x41)I");
    static const char words[] = "{\"type\":\"WordPiece\",\"prefix\":\"##\",\"cleanup\":true}";
    back_is(words, "##do|n't|##s|.|a|,|i|'m|do not|we|'ve|'s|'re|?|!|x ' y",
            "##don'ts. a, i'm don't we've's're?! x'y");
    back_is("{\"type\":\"Metaspace\",\"replacement\":\"_\"}", "_a_b|_c|d_", "ab cd ");
    back_is("{\"type\":\"ByteLevel\"}",
            "\xC4\xA0"
            "a|\xE2\x82\xAC|\xC3\x83|\xC2\xA9|\xC3\xBF",
            " a\xE2\x82\xAC\xC3\xA9\xEF\xBF\xBD");
    back_is("null", "a|b", "ab");
    back_is("{\"type\":\"Fuse\"}", "", "");
    back_is("{\"type\":\"Fuse\"}", "a", "a");
    back_is("{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"ByteFallback\"},"
            "{\"type\":\"WordPiece\"}]}",
            "a|<0x62>|c", "a b c"); /* no empty string comes before the first one */
    CHECK(llm_token_decoder_byte("<0x\0"
                                 "1>",
                                 6) == -1);
    CHECK(llm_token_decoder_byte("<0x1\0>", 6) == -1 && llm_token_decoder_byte("<0x10>", 6) == 16);
    static const char late[] = "{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Fuse\"},"
                               "{\"type\":\"Strip\",\"content\":\"_\",\"start\":1,\"stop\":1}]}";
    back_is(late, "_a|_b_", "a_b");
    static const char bytes[] = "{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"ByteLevel\"},"
                                "{\"type\":\"Strip\",\"content\":\"_\",\"start\":1,\"stop\":0}]}";
    back_is(bytes, "_a|_b", "a_b");                            /* ByteLevel joins as well */
    back_is("{\"type\":\"Fuse\"}", "a\xFF|\xC3", "a\xFF\xC3"); /* and it alone mends */
    llm_token_decoder d = back_read(fallback);
    llm_token_decoder_strings w = {{NULL, 0, 0}, {NULL, 0, 0}};
    CHECK(llm_buffer_print(&w.text, "<0x00>") && llm_token_decoder_end(&w));
    CHECK(llm_token_decoder_run_all(&d, &w) && w.text.size == 1 && w.text.data[0] == 0);
    llm_token_decoder_strings_free(&w);
    llm_token_decoder_free(&d);
}

TEST(token_decoder, "when memory is out, it says so, whatever fails") {
    static const char *const part[5] = {
        ("{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"ByteFallback\"},"
         "{\"type\":\"WordPiece\"},{\"type\":\"ByteLevel\"},{\"type\":\"Fuse\"}]}"),
        "{\"type\":\"WordPiece\",\"prefix\":\"##\",\"cleanup\":false}",
        "{\"type\":\"Metaspace\",\"replacement\":\"_\"}",
        "{\"type\":\"Strip\",\"content\":\"a\",\"start\":1,\"stop\":1}",
        "{\"type\":\"Replace\",\"pattern\":{\"String\":\"a\"},\"content\":\"bb\"}"};
    static const char letters[] = "ab _e'\xC3\xA9.";
    char text[900]; /* more than a buffer takes at first, in short strings and in long ones */
    for (size_t i = 0; i < sizeof text; i++) text[i] = letters[i * i % 97 % (i < 600 ? 9 : 2)];
    for (size_t k = 0; k < 5; k++) {
        llm_token_decoder d = back_read(part[k]);
        int calls = 0;
        for (bool ok = false; !ok; calls++) {
            llm_token_decoder_strings w = back_strings(text, sizeof text);
            back_calls = calls;
            ok = llm_token_decoder_run_all(&d, &w);
            CHECK(ok == (back_calls >= 0));
            back_calls = 1 << 30;
            llm_token_decoder_strings_free(&w);
        }
        CHECK(calls > 8);
        llm_token_decoder_free(&d);
    }
}

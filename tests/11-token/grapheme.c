/* @grapheme */
#include "../test.h"

#include "../../llm.h"

#include "../tiny_hostile.h"

/* the lengths of all clusters */
static size_t grapheme_cuts(uint32_t *out, const char *text, size_t size, const void *context) {
    size_t n = 0;
    (void)context;
    for (size_t at = 0; at < size; at += out[n++]) {
        out[n] = (uint32_t)llm_grapheme_next(text + at, size - at);
        if (out[n] == 0 || out[n] > size - at)
            test_fail(__FILE__, __LINE__, "%u bytes at %zu of %zu", out[n], at, size);
    }
    return n;
}

static void grapheme_clusters(const char *text, const char *want) {
    uint32_t out[64];
    char got[64];
    const size_t n = grapheme_cuts(out, text, strlen(text), NULL);
    for (size_t i = 0; i < n; i++) got[i] = (char)('0' + out[i]);
    got[n] = 0;
    if (strcmp(got, want) != 0) test_fail(__FILE__, __LINE__, "got %s, want %s", got, want);
}

TEST(grapheme, "the class of every code point is that of the Unicode data") {
    size_t n, code = 0;
    const size_t *stretch = as_sizes(golden_n(&n, "class/stretch"), 1379); /* 16 length + class */
    CHECK(n == 1379);
    for (size_t i = 0; i < n; i++)
        for (size_t end = code + stretch[i] / 16; code < end; code++) {
            size_t want = stretch[i] % 16;
            if (code == 0x200D) want = LLM_GRAPHEME_JOINER;
            if (code >= 0x1F1E6 && code <= 0x1F1FF) want = LLM_GRAPHEME_FLAG;
            if (code >= 0xAC00 && code < 0xAC00 + 19 * 21 * 28)
                want = (code - 0xAC00) % 28 ? LLM_GRAPHEME_LVT : LLM_GRAPHEME_LV;
            if (llm_grapheme_class((uint32_t)code) != want)
                test_fail(__FILE__, __LINE__, "U+%04zX is %d, want %zu", code,
                          (int)llm_grapheme_class((uint32_t)code), want);
        }
    CHECK(code == 0x110000);
    CHECK(llm_grapheme_class(LLM_UNICODE_BROKEN) == LLM_GRAPHEME_OTHER);
}

TEST(grapheme, "all triples of characters of every class are cut as by \\X of regex") {
    size_t n;
    const size_t *code = as_sizes(golden_n(&n, "some/code"), 26);
    const float *want = golden("some/triples");
    CHECK(n == 26);
    for (size_t a = 0; a < n; a++)
        for (size_t b = 0; b < n; b++) {
            uint32_t hash = 2166136261u;
            for (size_t c = 0; c < n; c++) {
                char text[12];
                uint32_t out[13];
                size_t size = llm_unicode_encode(text, (uint32_t)code[a]);
                size += llm_unicode_encode(text + size, (uint32_t)code[b]);
                size += llm_unicode_encode(text + size, (uint32_t)code[c]);
                out[0] = (uint32_t)grapheme_cuts(out + 1, text, size, NULL);
                hash = tiny_hostile_hash(hash, out, out[0] + 1);
            }
            if ((float)((hash ^ hash >> 24) & 0xFFFFFF) != want[a * n + b])
                test_fail(__FILE__, __LINE__, "U+%04zX U+%04zX and a third", code[a], code[b]);
        }
}

TEST(grapheme, "2,600 hostile strings are cut as by \\X of regex") {
    tiny_hostile_check("hostile/clusters", TINY_HOSTILE_GROUPS, grapheme_cuts, NULL);
}

TEST(grapheme, "each rule by hand") {
    grapheme_clusters("", "");
    grapheme_clusters("ab", "11");
    grapheme_clusters("\r\n\n\r\r\n", "2112");
    grapheme_clusters("a\xCC\x81\xCC\xA3z", "51");                   /* marks */
    grapheme_clusters("\n\xCC\x81", "12");                           /* but not on a control */
    grapheme_clusters("\xF0\x9F\x87\xA9\xF0\x9F\x87\xAA!", "81");    /* D E: a flag */
    grapheme_clusters("\xE1\x84\x80\xE1\x85\xA1\xE1\x86\xA8", "9");  /* L V T */
    grapheme_clusters("\xEA\xB0\x80\xE1\x86\xA8\xE1\x85\xA1", "63"); /* LV T, then V */
    grapheme_clusters("\xE0\xA4\x95\xE0\xA5\x8D\xE0\xA4\xA4", "9");  /* k virama t */
    grapheme_clusters("\xE0\xA4\x95\xE0\xA4\xA4", "33");
    grapheme_clusters("\xF0\x9F\x91\xA9\xE2\x80\x8D\xE2\x9D\xA4", ":"); /* woman joiner heart: 10 */
    grapheme_clusters("a\xE2\x80\x8D\xE2\x9D\xA4", "43");               /* a joiner alone */
    grapheme_clusters("a\xC3z\xCC\x81\x80\xCC\x81", "1133");            /* broken parts */
    const char *nothing = (const char *)test_memory(8, 1) + 8;          /* reading it is noticed */
    CHECK(llm_grapheme_next(nothing, 0) == 0);
}

TEST(grapheme, "flag letters go in pairs, from the start of each run") {
    for (size_t n = 1; n < 10; n++) {
        char text[64] = "x";
        for (size_t i = 0; i < n; i++) memcpy(text + 1 + 4 * i, "\xF0\x9F\x87\xA9", 4);
        uint32_t out[16];
        const size_t count = grapheme_cuts(out, text, 1 + 4 * n, NULL);
        CHECK(count == 1 + (n + 1) / 2);
        for (size_t i = 1; i < count; i++) CHECK(out[i] == (i < count - 1 || n % 2 == 0 ? 8u : 4u));
    }
}

TEST(grapheme, "a cluster may be long, and the time is linear") {
    const size_t n = 200000;
    char *text = (char *)test_memory(2 * n + 1, 1);
    text[0] = 'a';
    for (size_t i = 0; i < n; i++) memcpy(text + 1 + 2 * i, "\xCC\x81", 2);
    CHECK(llm_grapheme_next(text, 2 * n + 1) == 2 * n + 1);
    CHECK(llm_grapheme_next(text, 2 * n) == 2 * n - 1); /* half an accent is broken */
}

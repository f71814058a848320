/* @pre_words */
#include "../test.h"

/* realloc that runs out after a number of calls */
static int words_calls = 1 << 30;
static void *words_realloc(void *p, size_t size) {
    return words_calls-- > 0 ? realloc(p, size) : NULL;
}
#define realloc words_realloc

#include "../../llm.h"

#include "../tiny_hostile.h"

typedef enum {
    WORDS_BERT,
    WORDS_CHINESE,
    WORDS_ALWAYS,
    WORDS_NEVER,
    WORDS_DIGITS,
    WORDS_EACH
} words_rule;

static size_t words_next(const char *text, size_t size, words_rule rule, bool *space) {
    *space = false;
    switch (rule) {
    case WORDS_BERT:
    case WORDS_CHINESE:
        return llm_pre_words_bert(text, size, rule == WORDS_CHINESE, space);
    case WORDS_ALWAYS:
    case WORDS_NEVER:
        return llm_pre_words_metaspace(text, size);
    default:
        return llm_pre_words_digits(text, size, rule == WORDS_EACH ? 1 : SIZE_MAX);
    }
}

/* The bytes of all pieces but white space, with a newline behind each; context: the rule. */
static size_t words_pieces(uint32_t *out, const char *string, size_t size, const void *context) {
    const words_rule rule = *(const words_rule *)context;
    char *text = (char *)test_memory(size, 1); /* of exactly its size: reading on is noticed */
    size_t n = 0;
    memcpy(text, string, size);
    for (size_t at = 0, length; at < size; at += length) {
        bool space;
        llm_buffer b = {NULL, 0, 0};
        length = words_next(text + at, size - at, rule, &space);
        if (length == 0 || length > size - at)
            test_fail(__FILE__, __LINE__, "%zu bytes at %zu of %zu", length, at, size);
        if (space) continue;
        if (rule == WORDS_ALWAYS || rule == WORDS_NEVER)
            CHECK(llm_pre_words_spell(&b, text + at, length, at == 0 && rule == WORDS_ALWAYS));
        else
            CHECK(llm_buffer_put(&b, text + at, length));
        CHECK(llm_buffer_put(&b, "\n", 1) && n + b.size < TINY_HOSTILE_MOST);
        for (size_t i = 0; i < b.size; i++) out[n++] = (unsigned char)b.data[i];
        llm_buffer_free(&b);
    }
    return n;
}

TEST(pre_words, "2,200 hostile strings are cut as by the tokenizers library") {
    static const char *const name[6] = {"bert", "chinese", "always", "never", "digits", "each"};
    for (size_t i = 0; i < 6; i++) {
        const words_rule rule = (words_rule)i;
        char array[32];
        snprintf(array, sizeof array, "hostile/%s", name[i]);
        tiny_hostile_check(array, TINY_HOSTILE_KNOWN, words_pieces, &rule);
    }
}

TEST(pre_words, "the blocks of Chinese characters are those of BERT") {
    size_t n;
    const size_t *edge = as_sizes(golden_n(&n, "chinese/edges"), 14);
    CHECK(n == 14); /* the first and the last of seven ranges */
    for (uint32_t code = 0; code <= 0x110000; code++) {
        bool want = false;
        for (size_t i = 0; i < 14; i += 2) want |= code >= edge[i] && code <= edge[i + 1];
        CHECK(llm_pre_words_chinese(code) == want);
    }
}

static void words_check(words_rule rule, const char *text, const char *want) {
    uint32_t out[128];
    char got[128];
    const size_t n = words_pieces(out, text, strlen(text), &rule);
    for (size_t i = 0; i < n; i++) got[i] = (char)(out[i] == '\n' ? '|' : out[i]);
    got[n] = 0;
    if (strcmp(got, want) != 0) test_fail(__FILE__, __LINE__, "got %s, want %s", got, want);
}

TEST(pre_words, "each rule by hand") {
    words_check(WORDS_BERT, "Hey,  you. a$b", "Hey|,|you|.|a|$|b|");
    words_check(WORDS_BERT, "\xE4\xB8\xAD\xE6\x96\x87", "\xE4\xB8\xAD\xE6\x96\x87|");
    words_check(WORDS_CHINESE, "x\xE4\xB8\xAD\xE6\x96\x87 y", "x|\xE4\xB8\xAD|\xE6\x96\x87|y|");
    words_check(WORDS_BERT, "5\xE2\x82\xAC~", "5\xE2\x82\xAC|~|"); /* the euro sign is inside */
    words_check(WORDS_BERT, "ab\xE2\x82", "ab\xE2\x82|");
    words_check(WORDS_BERT, "\x80(\xC3", "\x80|(|\xC3|"); /* broken parts are inside too */
    words_check(WORDS_ALWAYS, "Hey  you", "\xE2\x96\x81Hey|\xE2\x96\x81|\xE2\x96\x81you|");
    words_check(WORDS_ALWAYS, " a",
                "\xE2\x96\x81"
                "a|");
    words_check(WORDS_NEVER, "a b ",
                "a|\xE2\x96\x81"
                "b|\xE2\x96\x81|");
    words_check(WORDS_NEVER, "a\xE2\x96\x81\xE2\x96", "a|\xE2\x96\x81\xE2\x96|");
    words_check(WORDS_DIGITS, "a1234,5", "a|1234|,|5|");
    words_check(WORDS_EACH, "12ab", "1|2|ab|");
    const char *nothing = (const char *)test_memory(8, 1) + 8; /* reading it is noticed */
    bool space = true;
    for (size_t i = 0; i < 6; i++) CHECK(words_next(nothing, 0, (words_rule)i, &space) == 0);
    CHECK(llm_pre_words_digits("1234567", 7, 3) == 3);
    space = true;
    CHECK(llm_pre_words_bert(nothing, 0, true, &space) == 0 && !space);
    CHECK_ASSERTS(llm_pre_words_digits("1", 1, 0));
}

TEST(pre_words, "Metaspace is undone, but for U+2581 itself") {
    char text[TINY_HOSTILE_MOST];
    for (size_t i = 0; i < 520; i++) {
        const size_t size = tiny_hostile(text, i % TINY_HOSTILE_GROUPS, i);
        for (int prepend = 0; prepend < 2; prepend++) {
            llm_buffer spelt = {NULL, 0, 0}, back = {NULL, 0, 0}, want = {NULL, 0, 0};
            CHECK(llm_pre_words_spell(&spelt, text, size, prepend));
            CHECK(!memchr(spelt.data ? spelt.data : "", ' ', spelt.size));
            CHECK(llm_pre_words_read(&back, spelt.data, spelt.size, prepend));
            for (size_t k = 0; k < size;) { /* what comes back: spaces for the sign; a space at the
                                             * start needed none before it, and is lost */
                const bool sign = size - k >= 3 && memcmp(text + k, "\xE2\x96\x81", 3) == 0;
                const bool lost = prepend && k == 0 && (sign || text[k] == ' ');
                CHECK(lost || llm_buffer_put(&want, sign ? " " : text + k, 1));
                k += sign ? 3 : 1;
            }
            CHECK(back.size == want.size);
            CHECK(want.size == 0 || memcmp(back.data, want.data, want.size) == 0);
            llm_buffer_free(&spelt);
            llm_buffer_free(&back);
            llm_buffer_free(&want);
        }
    }
}

TEST(pre_words, "when memory is out, false, at the first character and at a later one") {
    char text[400];
    memset(text, 'a', sizeof text);
    for (int spaces = 0; spaces < 2; spaces++) { /* a sign for a space is another way to run out */
        for (int calls = 0; calls < 2; calls++) {
            llm_buffer spelt = {NULL, 0, 0}, back = {NULL, 0, 0};
            words_calls = calls;
            CHECK(!llm_pre_words_spell(&spelt, text, sizeof text, true));
            words_calls = calls;
            CHECK(!llm_pre_words_read(&back, text, sizeof text, true));
            words_calls = 1 << 30;
            llm_buffer_free(&spelt);
            llm_buffer_free(&back);
        }
        memset(text, ' ', sizeof text);
    }
}

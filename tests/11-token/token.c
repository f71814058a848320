/* @token */
#include "../test.h"

/* realloc that runs out after a number of calls */
static int token_calls = 1 << 30;
static void *token_realloc(void *p, size_t size) {
    return token_calls-- > 0 ? realloc(p, size) : NULL;
}
#define realloc token_realloc

#include "../../llm.h"

#include "../tiny_hostile.h"

/* the lengths of all units; context: the kind */
static size_t token_cuts(uint32_t *out, const char *text, size_t size, const void *context) {
    const llm_token_kind kind = *(const llm_token_kind *)context;
    size_t n = 0;
    for (size_t at = 0; at < size; at += out[n++]) {
        out[n] = (uint32_t)llm_token_next(text + at, size - at, kind);
        if (out[n] == 0 || out[n] > size - at)
            test_fail(__FILE__, __LINE__, "%u bytes at %zu of %zu", out[n], at, size);
    }
    CHECK(llm_token_count(text, size, kind) == n);
    return n;
}

static size_t token_replaced(uint32_t *out, const char *text, size_t size, const void *context) {
    llm_buffer b = {NULL, 0, 0};
    (void)context;
    CHECK(llm_token_replace(&b, text, size));
    CHECK(llm_unicode_valid(b.data, b.size));
    const size_t n = b.size;
    for (size_t i = 0; i < n; i++) out[i] = (unsigned char)b.data[i];
    llm_buffer_free(&b);
    return n;
}

TEST(token, "2,600 hostile strings fall into the words and code points of regex and Python") {
    const llm_token_kind word = LLM_TOKEN_WORD, code = LLM_TOKEN_CODE;
    tiny_hostile_check("hostile/word", TINY_HOSTILE_GROUPS, token_cuts, &word);
    tiny_hostile_check("hostile/code", TINY_HOSTILE_GROUPS, token_cuts, &code);
}

TEST(token, "broken parts are replaced as by Python's errors=\"replace\"") {
    tiny_hostile_check("hostile/replaced", TINY_HOSTILE_GROUPS, token_replaced, NULL);
}

TEST(token, "when memory is out, replacing says so") {
    llm_buffer b = {NULL, 0, 0};
    token_calls = 0;
    CHECK(!llm_token_replace(&b, "a\x80", 2) && b.size == 0);
    token_calls = 1 << 30;
    CHECK(llm_token_replace(&b, "a\x80", 2) && b.size == 4);
    llm_buffer_free(&b);
}

static const char *const token_sentence[6] = {
    "Don't panic, it's 42!",
    "Gr\xC3\xBC\xC3\x9F"
    "e aus K\xC3\xB6ln",
    "\xD0\x9C\xD0\xB8\xD1\x80 \xD0\xB8 \xD1\x82\xD1\x80\xD1\x83\xD0\xB4",
    "\xE4\xBD\xA0\xE5\xA5\xBD\xEF\xBC\x8C\xE4\xB8\x96\xE7\x95\x8C",
    "\xE0\xA4\xA8\xE0\xA4\xAE\xE0\xA4\xB8\xE0\xA5\x8D\xE0\xA4\xA4\xE0\xA5\x87 "
    "\xE0\xA4\xA6\xE0\xA5\x81\xE0\xA4\xA8\xE0\xA4\xBF\xE0\xA4\xAF\xE0\xA4\xBE",
    "\xF0\x9F\x91\xA8\xE2\x80\x8D\xF0\x9F\x91\xA9\xE2\x80\x8D\xF0\x9F\x91\xA7 "
    "\xF0\x9F\x87\xA9\xF0\x9F\x87\xAA"};

TEST(token, "units per byte of six sentences") {
    const float *want = golden("sentence/counts");
    for (size_t s = 0; s < 6; s++) {
        const size_t size = strlen(token_sentence[s]);
        for (size_t kind = 0; kind < 4; kind++) {
            const llm_token_kind k = (llm_token_kind)kind;
            CHECK_NEAR(llm_token_count(token_sentence[s], size, k), want[4 * s + kind], 0);
            CHECK_NEAR(llm_token_units(token_sentence[s], size, k),
                       (double)want[4 * s + kind] / (double)want[4 * s], 1e-15);
        }
    }
    const char *nothing = (const char *)test_memory(8, 1) + 8; /* reading it is noticed */
    for (size_t kind = 0; kind < 4; kind++) {
        CHECK(llm_token_units("a", 1, (llm_token_kind)kind) == 1.0);
        CHECK(llm_token_next(nothing, 0, (llm_token_kind)kind) == 0);
        CHECK(llm_token_units(nothing, 0, (llm_token_kind)kind) == 0.0);
    }
}

TEST(token, "each kind of unit is a union of units of the kind before it") {
    char text[TINY_HOSTILE_MOST];
    for (size_t i = 0; i < 400; i++) {
        const size_t size = tiny_hostile(text, i % TINY_HOSTILE_GROUPS, i / 2);
        for (size_t kind = 1; kind < 4; kind++) {
            size_t fine = 0;
            if (kind == 3) kind = LLM_TOKEN_WORD;
            for (size_t at = 0; at < size;) {
                at += llm_token_next(text + at, size - at, (llm_token_kind)kind);
                /* words are made of code points: a word may end within a cluster (a mark that
                 * spaces behind white space), but never within a character */
                while (fine < at)
                    fine += llm_token_next(text + fine, size - fine,
                                           kind == 3 ? LLM_TOKEN_CODE : (llm_token_kind)(kind - 1));
                CHECK(fine == at);
            }
        }
    }
}

TEST(token, "words by hand") {
    CHECK(llm_token_apostrophe("\xE2\x80\x99", 3, 0) == 3);
    CHECK(llm_token_apostrophe("a'", 2, 1) == 1 && llm_token_apostrophe("a'", 2, 0) == 0);
    static const struct {
        const char *text, *want;
    } row[] = {
        {"don't", "5"},
        {"'tis", "13"},
        {"dogs' x", "4111"},
        {"a''b", "1111"},
        {"a'", "11"},
        {"a'1b'c d", "611"},
        {"  \t\nx", "41"},
        {"x  y", "121"},
        {"3.14", "112"},
        {"a_b", "111"},
        {"!?", "11"},
        {"a\xE2\x80\x99s", "5"},
        {"a\xE2\x80\x99", "13"},
        {"e\xCC\x81t\xC3\xA9", "6"},
        {"!\xCC\x81", "3"},
        {"a\xE2\x80", "12"},
        {"a\xE2\x80\x8D"
         "b",
         "5"},
        {"\r\n", "2"},
        {"x'\xCC\x81", "13"},
    };
    for (size_t r = 0; r < sizeof row / sizeof row[0]; r++) {
        uint32_t out[16];
        char got[16];
        const llm_token_kind word = LLM_TOKEN_WORD;
        const size_t n = token_cuts(out, row[r].text, strlen(row[r].text), &word);
        for (size_t i = 0; i < n; i++) got[i] = (char)('0' + out[i]);
        got[n] = 0;
        if (strcmp(got, row[r].want) != 0)
            test_fail(__FILE__, __LINE__, "\"%s\": %s, want %s", row[r].text, got, row[r].want);
    }
}

/* @spm_text */
#include "../test.h"
#include "../tiny_hostile.h"

/* malloc and its like that fail once, after a number of calls */
static int spm_calls = 1 << 30;
static void *spm_malloc(size_t size) { /* of nothing: NULL, as it may be */
    return size > 0 && spm_calls-- != 0 ? malloc(size) : NULL;
}
static void *spm_realloc(void *p, size_t size) {
    return spm_calls-- != 0 ? realloc(p, size) : NULL;
}
#define malloc spm_malloc
#define realloc spm_realloc

#include "../../llm.h"

#include "../tiny_spm.h"

static size_t spm_line(uint32_t *out, const char *text, size_t size, const void *context) {
    llm_buffer line = {NULL, 0, 0};
    CHECK(llm_buffer_print(&line, "\xE2\x96\x81")); /* what is there already stays */
    CHECK(llm_spm_normalize(&line, (const llm_spm *)context, text, size));
    CHECK(line.size >= 3 && memcmp(line.data, "\xE2\x96\x81", 3) == 0);
    line.data += 3, line.size -= 3;
    const size_t n = tiny_spm_numbers(out, &line);
    line.data -= 3;
    llm_buffer_free(&line);
    return n;
}
static llm_spm spm_model(void) {
    llm_spm s;
    const size_t size = (size_t)*golden("model/size");
    const float *pair = golden("model/data");
    unsigned char *data = (unsigned char *)test_memory(size, 1);
    for (size_t i = 0; i < size; i++)
        data[i] = (unsigned char)((unsigned)pair[i / 2] >> (i % 2 ? 0 : 8));
    CHECK(llm_spm_read(&s, data, size, NULL));
    return s;
}

TEST(spm_text, "lines, ids and decoded text are those of SentencePiece, under all settings") {
    static const char *const name[4] = {"t5", "loose", "bare", "behind"};
    for (size_t k = 0; k < 4; k++) {
        char array[16];
        llm_spm s = spm_model();
        if (k == 1) s.squeeze = false;
        if (k == 2) s.prefix = false;
        if (k == 3) s.suffix = true;
        const size_t groups = k == 0 ? TINY_HOSTILE_VALID : 6;
        snprintf(array, sizeof array, "%s/line", name[k]);
        tiny_hostile_check(array, groups, spm_line, &s);
        snprintf(array, sizeof array, "%s/ids", name[k]);
        tiny_hostile_check(array, groups, tiny_spm_ids, &s);
        snprintf(array, sizeof array, "%s/back", name[k]);
        if (k < 3) tiny_hostile_check(array, groups, tiny_spm_back, &s);
        llm_spm_free(&s);
    }
}

static const char *spm_of(const llm_spm *s, const char *text, size_t size) {
    llm_buffer line = {NULL, 0, 0};
    char *exact = (char *)test_memory(size, 1), *out;
    if (size > 0) memcpy(exact, text, size);
    CHECK(llm_spm_normalize(&line, s, exact, size));
    out = (char *)test_memory(line.size + 1, 1);
    if (line.size > 0) memcpy(out, line.data, line.size);
    llm_buffer_free(&line);
    return out;
}
#define S "\xE2\x96\x81"

TEST(spm_text, "broken UTF-8 becomes U+FFFD, a byte at a time; empty texts stay empty") {
    llm_spm s = spm_model();
    CHECK(strcmp(spm_of(&s, "a\xFF\xE4\xB8", 4), S "a\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD") == 0);
    CHECK(strcmp(spm_of(&s, "", 0), "") == 0 && strcmp(spm_of(&s, "  \t ", 4), "") == 0);
    int *no_ids;
    size_t none = 7;
    CHECK(llm_spm_encode(&s, &no_ids, &none, "", 0, NULL) && no_ids && none == 0);
    free(no_ids);
    CHECK(strcmp(spm_of(&s, " \n a \xE3\x80\x80 b  ", 12), S "a" S "b") == 0);
    CHECK(strcmp(spm_of(&s, "...", 3), S "...") == 0); /* user-defined: no rule applies */
    CHECK(strcmp(spm_of(&s, "..", 2), S ":") == 0);
    s.squeeze = false;
    CHECK(strcmp(spm_of(&s, "  ", 2), S S S) == 0 && strcmp(spm_of(&s, "", 0), "") == 0);
    s.suffix = true;
    CHECK(strcmp(spm_of(&s, "a", 1), "a" S) == 0);
    llm_error error;
    llm_buffer out = {NULL, 0, 0};
    int ids[2] = {3, 134};
    CHECK_FAILS(llm_spm_decode(&s, &out, ids, 2, &error), error,
                "token 1 of 2: found id 134, expected one below 134");
    ids[0] = -1;
    CHECK_FAILS(llm_spm_decode(&s, &out, ids, 2, &error), error, "token 0 of 2: found id -1");
    llm_buffer_free(&out);
    CHECK(llm_spm_decode(&s, &out, ids, 0, &error) && out.size == 0);
    llm_buffer_free(&out);
    llm_spm_free(&s);
}

TEST(spm_text, "a double array that points anywhere is read within its bounds") {
    llm_spm s = spm_model();
    llm_rng rng = llm_rng_seed(3);
    const llm_buffer whole = s.rules;
    for (int round = 0; round < 400; round++) {
        llm_buffer broken = {NULL, 0, 0};
        CHECK(llm_buffer_put(&broken, whole.data, whole.size));
        char *exact = (char *)malloc(broken.size); /* so that a step beyond is seen */
        memcpy(exact, broken.data, broken.size);
        for (size_t k = 0; k < 200; k++)
            exact[4 + llm_rng_below(&rng, whole.size - 5)] =
                (char)(unsigned char)llm_rng_below(&rng, 256);
        s.rules.data = exact, s.rules.size = s.rules.capacity = broken.size;
        spm_of(&s, "The \xC3\xA9...X\xE4\xB8\xAD\xE6\x96\x87 A\xCC\x8A\xEF\xAC\x81 THE", 26);
        free(exact);
        llm_buffer_free(&broken);
    }
    s.rules = whole;
    llm_spm_free(&s);
}

TEST(spm_text, "when memory is out, it says so and nothing leaks") {
    char text[200]; /* more than a buffer takes at first */
    int failed = 0;
    llm_spm s = spm_model();
    for (size_t i = 0; i < sizeof text; i++) text[i] = "the cat "[i % 8];
    for (int k = 0; k < 2; k++) {
        s.model = k == 0 ? LLM_SPM_UNIGRAM : LLM_SPM_BPE;
        bool ok = false;
        for (int calls = 0; calls < 60 && !ok; calls++) {
            llm_error error;
            int other = 7, *ids = &other;
            size_t count = 7;
            llm_buffer out = {NULL, 0, 0};
            error.message[0] = 0;
            spm_calls = calls;
            ok = llm_spm_encode(&s, &ids, &count, text, sizeof text, &error);
            CHECK(ok || (!ids && count == 0));
            ok = ok && llm_spm_decode(&s, &out, ids, count, &error);
            CHECK(ok == (spm_calls >= 0)); /* whatever fails is told */
            spm_calls = 1 << 30;
            CHECK(ok || strstr(error.message, "out of memory"));
            if (ok) CHECK(out.size == 199 && memcmp(out.data, text, 199) == 0);
            failed += !ok;
            free(ids);
            llm_buffer_free(&out);
        }
        CHECK(ok);
    }
    CHECK(failed >= 8);
    llm_spm_free(&s);
}

TEST(spm_text, "without rules nothing is replaced") {
    const llm_buffer none = {NULL, 0, 0};
    const char *to = NULL;
    size_t to_size = 0;
    CHECK(llm_spm_rule(&none, "a", 1, &to, &to_size) == 0);
}

/* A node reached by the letter a, whose value (where it has one) is `offset` away from it. */
static uint32_t spm_a(uint32_t offset, bool value) {
    return offset << 10 | (value ? 256u : 0u) | (unsigned char)'a';
}

TEST(spm_text, "double arrays by hand: offsets in steps of 256, and what lies just outside") {
    const char *to = NULL;
    size_t n = 0;
    llm_buffer far = tiny_spm_array(512, 5);
    memcpy(far.data + 4 + 4 * 512, "x\0yz", 5);
    tiny_spm_unit(&far, 0, 1 << 10 | 512); /* children of the root at 256 */
    tiny_spm_unit(&far, 256 ^ 'a',
                  1 << 10 | 512 | 256 | (uint32_t)'a'); /* its value 256 from there */
    tiny_spm_unit(&far, 'a', 0x80000000u | 2);
    CHECK(llm_spm_rule(&far, "ab", 2, &to, &n) == 1 && n == 2 && memcmp(to, "yz", 3) == 0);
    tiny_spm_unit(&far, 'a', 0x80000000u | 4); /* the last byte of all */
    CHECK(llm_spm_rule(&far, "ab", 2, &to, &n) == 1 && n == 0);
    tiny_spm_unit(&far, 'a', 0x80000000u | 5); /* and the one behind it */
    CHECK(llm_spm_rule(&far, "ab", 2, &to, &n) == 0);
    llm_buffer node = tiny_spm_array(98, 8); /* the first node is behind the array, in the texts */
    tiny_spm_unit(&node, 0, (98u ^ 'a') << 10);
    tiny_spm_unit(&node, 98, spm_a(98 ^ 5, true));
    CHECK(llm_spm_rule(&node, "a", 1, &to, &n) == 0);
    tiny_spm_unit(&node, 0, (97u ^ 'a') << 10); /* the last in it */
    tiny_spm_unit(&node, 97, spm_a(97 ^ 5, true));
    CHECK(llm_spm_rule(&node, "a", 1, &to, &n) == 1 && n == 3); /* node 98 as a text */
    tiny_spm_unit(&node, 97, spm_a(97 ^ 98, true));             /* now the value */
    tiny_spm_unit(&node, 98, 4);
    CHECK(llm_spm_rule(&node, "a", 1, &to, &n) == 0);
}

TEST(spm_text, "user-defined pieces go before rules, whatever their id and length") {
    llm_spm s = spm_model(), mine = llm_spm_empty();
    CHECK(strcmp(spm_of(&s, "the\xC3\xA9 \xC3\xA9 X", 10), S "the\xC3\xA9" S "e" S "x") == 0);
    CHECK(llm_pieces_put(&mine.pieces, "X", 1, 0.0, LLM_PIECES_USER, NULL) &&
          llm_pieces_put(&mine.pieces, "?", 1, 0.0, LLM_PIECES_UNKNOWN, NULL) &&
          llm_pieces_put(&mine.pieces, "\xC3", 1, 0.0, LLM_PIECES_USER, NULL) &&
          llm_pieces_ready(&mine.pieces, NULL));
    const char *text = "X\xC3\xA9\t", *to = NULL;
    size_t n = 0;
    mine.rules = s.rules;
    CHECK(llm_spm_next(&mine, text, 4, &to, &n) == 1 && n == 1 && to == text);
    CHECK(llm_spm_next(&mine, text + 1, 3, &to, &n) == 1 && n == 1 && to == text + 1);
    CHECK(llm_spm_next(&mine, text + 3, 1, &to, &n) == 1 && n == 1 && to[0] == ' ');
    llm_pieces_free(&mine.pieces);
    llm_spm_free(&s);
}

/* Checks what ids decode to, behind a long text that is there already. */
static void spm_back_is(const llm_spm *s, const int *ids, size_t count, const char *want) {
    llm_buffer out = {NULL, 0, 0};
    CHECK(llm_buffer_print(&out, "%0100d", 7) && llm_spm_decode(s, &out, ids, count, NULL));
    if (strspn(out.data, "0") != 99 || out.data[99] != '7' || strcmp(out.data + 100, want) != 0)
        test_fail(__FILE__, __LINE__, "\"%s\" instead of \"%s\"", out.data + 100, want);
    llm_buffer_free(&out);
}

TEST(spm_text, "spaces in front of decoded text as SentencePiece takes them away") {
    static const int ids[7] = {6, 6, 11, 6, 11, 47, 15}; /* _ _ _the _ _the _c a */
    static const char *const want[4][3] = {{"the  the ca", "the  the ca", "the  the ca"},
                                           {"  the  the ca", " the  the ca", "the  the ca"},
                                           {"the  the ca", "the  the ca", "the  the ca"},
                                           {"   the  the ca", "  the  the ca", " the  the ca"}};
    llm_spm s = spm_model();
    for (size_t k = 0; k < 4; k++) {
        s.squeeze = k % 2 == 0;
        s.prefix = k < 2;
        for (size_t i = 0; i < 3; i++) spm_back_is(&s, ids + i, 7 - i, want[k][i]);
    }
    llm_spm_free(&s);
}

TEST(spm_text, "models of words and of characters have the ids of SentencePiece") {
    static const uint32_t want[2][8] = {{11, 0}, {6, 14, 133, 116, 6, 123, 15, 14}};
    static const size_t count[2] = {2, 8};
    llm_spm s = spm_model();
    for (size_t k = 0; k < 2; k++) {
        uint32_t got[8];
        s.model = k == 0 ? LLM_SPM_WORD : LLM_SPM_CHAR;
        CHECK(tiny_spm_ids(got, "the cat", 7, &s) == count[k]);
        CHECK(memcmp(got, want[k], count[k] * sizeof *got) == 0);
    }
    llm_spm_free(&s);
}

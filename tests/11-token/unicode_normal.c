/* @unicode_normal */
#include "../test.h"

/* memory that fails once, after a number of calls */
static int normal_calls = 1 << 30;
static void *normal_calloc(size_t n, size_t size) {
    return normal_calls-- != 0 ? calloc(n, size) : NULL;
}
static void *normal_realloc(void *p, size_t size) {
    return normal_calls-- != 0 ? realloc(p, size) : NULL;
}
#define calloc normal_calloc
#define realloc normal_realloc

#include "../../llm.h"

#include "../tiny_hostile.h"

static const char *const normal_name[4] = {"nfd", "nfc", "nfkd", "nfkc"};

typedef struct {
    const llm_unicode_normal *n;
    llm_unicode_normal_form form;
} normal_context;

static size_t normal_bytes(uint32_t *out, const char *text, size_t size, const void *context) {
    const normal_context *c = (const normal_context *)context;
    llm_buffer b = {NULL, 0, 0};
    CHECK(llm_unicode_normal_text(c->n, &b, text, size, c->form));
    const size_t n = b.size;
    CHECK(n <= TINY_HOSTILE_MOST);
    for (size_t i = 0; i < n; i++) out[i] = (unsigned char)b.data[i];
    llm_buffer_free(&b);
    return n;
}

TEST(unicode_normal, "every code point between marks is as by unicodedata, in four forms") {
    llm_unicode_normal n;
    CHECK(llm_unicode_normal_open(&n));
    for (int form = 0; form < 4; form++) {
        size_t blocks;
        const float *want = golden_n(&blocks, "blocks/%s", normal_name[form]);
        CHECK(blocks == 272);
        for (size_t b = 0; b < blocks; b++) {
            /* far planes in every tenth block: nothing is there, and time is short */
            if (b > 48 && b % 10 > 0) continue;
            static char text[4096 * 12]; /* a broken byte behind each, which stays */
            size_t size = 0;
            for (size_t code = 4096 * b; code < 4096 * (b + 1); code++) {
                if (code < 0xD800 || code > 0xDFFF) {
                    memcpy(text + size, "a\xCC\xA7", 3);
                    size += 3 + llm_unicode_encode(text + size + 3, (uint32_t)code);
                    memcpy(text + size, "\xCC\x81\xCC\xA3", 4);
                    size += 4;
                }
                text[size++] = '\xFF';
            }
            llm_buffer all = {NULL, 0, 0};
            CHECK(llm_unicode_normal_text(&n, &all, text, size, (llm_unicode_normal_form)form));
            uint32_t hash = 2166136261u, out[128], count = 0;
            for (size_t i = 0; i < all.size; i++) {
                CHECK(count < 127);
                out[++count] = (unsigned char)all.data[i];
                if (out[count] != 0xFF) continue;
                out[0] = count - 1;
                hash = tiny_hostile_hash(hash, out, count);
                count = 0;
            }
            llm_buffer_free(&all);
            if ((float)((hash ^ hash >> 24) & 0xFFFFFF) != want[b])
                test_fail(__FILE__, __LINE__, "%s: wrong between U+%04zX and U+%04zX",
                          normal_name[form], 4096 * b, 4096 * b + 4095);
        }
    }
    llm_unicode_normal_free(&n);
    CHECK(!n.mark_class && !n.pair);
}

TEST(unicode_normal, "2,600 hostile strings are as by unicodedata, broken bytes kept") {
    llm_unicode_normal n;
    CHECK(llm_unicode_normal_open(&n));
    for (int form = 0; form < 4; form++) {
        const normal_context context = {&n, (llm_unicode_normal_form)form};
        char array[32];
        snprintf(array, sizeof array, "hostile/%s", normal_name[form]);
        tiny_hostile_check(array, TINY_HOSTILE_GROUPS, normal_bytes, &context);
    }
    llm_unicode_normal_free(&n);
}

static void normal_check(const llm_unicode_normal *n, llm_unicode_normal_form form,
                         const char *text, const char *want) {
    llm_buffer b = {NULL, 0, 0};
    CHECK(llm_unicode_normal_text(n, &b, text, strlen(text), form));
    if (b.size != strlen(want) || memcmp(b.data ? b.data : "", want, b.size) != 0)
        test_fail(__FILE__, __LINE__, "%s of \"%s\" is \"%.*s\"", normal_name[form], text,
                  (int)b.size, b.data);
    llm_buffer_free(&b);
}

TEST(unicode_normal, "by hand") {
    llm_unicode_normal n;
    CHECK(llm_unicode_normal_open(&n));
    const llm_unicode_normal_form nfd = LLM_UNICODE_NORMAL_NFD, nfc = LLM_UNICODE_NORMAL_NFC;
    normal_check(&n, nfc, "", "");
    normal_check(&n, nfc, "abc", "abc");
    normal_check(&n, nfc, "e\xCC\x81", "\xC3\xA9");
    normal_check(&n, nfc, "A\xCC\x80", "\xC3\x80"); /* the first pair of the table */
    normal_check(&n, nfd, "\xC3\xA9", "e\xCC\x81");
    normal_check(&n, nfd, "s\xCC\x87\xCC\xA3", "s\xCC\xA3\xCC\x87"); /* 230 after 220 */
    normal_check(&n, nfc, "s\xCC\x87\xCC\xA3", "\xE1\xB9\xA9");      /* U+1E69 */
    normal_check(&n, nfd, "e\xCC\x81\xCC\x80", "e\xCC\x81\xCC\x80"); /* of one class: kept */
    normal_check(&n, nfc, "a\xCC\x80\xCC\x81", "\xC3\xA0\xCC\x81");  /* the second is blocked */
    normal_check(&n, nfc, "e\xCC\xA5\xCC\x81",
                 "\xC3\xA9\xCC\xA5"); /* U+0325 is skipped: lower class */
    normal_check(&n, nfc,
                 "\xCC\x81"
                 "e",
                 "\xCC\x81"
                 "e"); /* a mark that leads */
    normal_check(&n, nfc, "\xE1\x84\x80\xE1\x85\xA1\xE1\x86\xA8", "\xEA\xB0\x81"); /* Hangul */
    normal_check(&n, nfc, "\xE2\x84\xAB", "\xC3\x85");                 /* Angstrom: A ring */
    normal_check(&n, nfc, "\xE0\xA5\x98", "\xE0\xA4\x95\xE0\xA4\xBC"); /* never put together */
    normal_check(&n, LLM_UNICODE_NORMAL_NFKC, "\xEF\xAC\x81\xC2\xB2", "fi2");
    normal_check(&n, LLM_UNICODE_NORMAL_NFKD, "\xEF\xBC\xA1\xC3\xA9", "Ae\xCC\x81");
    llm_unicode_normal_free(&n);
}

TEST(unicode_normal,
     "jamo make the 11,172 syllables that come apart into them, and nothing else does") {
    llm_unicode_normal n;
    CHECK(llm_unicode_normal_open(&n));
    size_t made = 0;
    for (uint32_t whole = 0xAC00; whole <= 0xD7A3; whole++) {
        llm_buffer codes = {NULL, 0, 0};
        CHECK(llm_unicode_apart_put(&n.apart, &codes, whole, false));
        const uint32_t *jamo = (const uint32_t *)(const void *)codes.data;
        uint32_t together = llm_unicode_normal_together(&n, jamo[0], jamo[1]);
        if (codes.size == 3 * sizeof *jamo)
            together = llm_unicode_normal_together(&n, together, jamo[2]);
        CHECK(together == whole);
        llm_buffer_free(&codes);
    }
    for (uint32_t a = 0x10F0; a < 0x1120; a++)
        for (uint32_t b = 0x1150; b < 0x1180; b++)
            made += llm_unicode_normal_together(&n, a, b) != 0;
    CHECK(made == 19 * 21);
    for (uint32_t a = 0xABF0; a < 0xD7B0; a++)
        for (uint32_t b = 0x11A0; b < 0x11D0; b++)
            made += llm_unicode_normal_together(&n, a, b) != 0;
    CHECK(made == 11172);
    llm_unicode_normal_free(&n);
}

TEST(unicode_normal, "forms are what they should be to each other") {
    llm_unicode_normal n;
    CHECK(llm_unicode_normal_open(&n));
    char text[TINY_HOSTILE_MOST];
    for (size_t i = 0; i < 300; i++) {
        const size_t size = tiny_hostile(text, i % TINY_HOSTILE_GROUPS, i);
        for (int first = 0; first < 4; first++)
            for (int second = 0; second < 4; second++) {
                llm_buffer a = {NULL, 0, 0}, b = {NULL, 0, 0}, c = {NULL, 0, 0};
                const llm_unicode_normal_form f = (llm_unicode_normal_form)first;
                const llm_unicode_normal_form g = (llm_unicode_normal_form)second;
                const bool compat = first > 1 || second > 1;
                const llm_unicode_normal_form both = /* g, with the variants replaced if f did */
                    (llm_unicode_normal_form)(second % 2 + (compat ? 2 : 0));
                CHECK(llm_unicode_normal_text(&n, &a, text, size, f));
                CHECK(llm_unicode_normal_text(&n, &b, a.data, a.size, g));
                CHECK(llm_unicode_normal_text(&n, &c, text, size, both));
                CHECK(b.size == c.size && (b.size == 0 || memcmp(b.data, c.data, b.size) == 0));
                llm_buffer_free(&a);
                llm_buffer_free(&b);
                llm_buffer_free(&c);
            }
    }
    llm_unicode_normal_free(&n);
}

TEST(unicode_normal, "marks are sorted stably, and 200,000 of them in linear time") {
    llm_unicode_normal n;
    CHECK(llm_unicode_normal_open(&n));
    enum { MARKS = 200000 };
    static const uint32_t mark[4] = {0x301, 0x323, 0x300, 0x31B}; /* classes 230 220 230 216 */
    uint32_t *codes = (uint32_t *)test_memory(MARKS + 1, sizeof *codes);
    uint32_t *scratch = (uint32_t *)test_memory(MARKS, sizeof *codes);
    codes[0] = 'a';
    for (size_t i = 0; i < MARKS; i++) codes[i + 1] = mark[i % 4];
    llm_unicode_normal_order(&n, codes, MARKS + 1, scratch);
    CHECK(codes[0] == 'a');
    for (size_t i = 0; i < MARKS; i++)
        CHECK(codes[i + 1] == (i < MARKS / 4   ? 0x31Bu
                               : i < MARKS / 2 ? 0x323u
                               : i % 2         ? 0x300u
                                               : 0x301u));
    llm_unicode_normal_free(&n);
}

TEST(unicode_normal, "when memory is out, nothing is left") {
    bool ok = false;
    for (int calls = 0; !ok; calls++) {
        llm_unicode_normal n;
        normal_calls = calls;
        ok = llm_unicode_normal_open(&n);
        CHECK(ok == (normal_calls >= 0)); /* whatever fails is told */
        normal_calls = 1 << 30;
        if (!ok) CHECK(!n.mark_class && !n.pair && !n.apart.canonical.to.data);
        if (ok) CHECK(calls > 10);
        llm_unicode_normal_free(&n);
    }
    llm_unicode_normal n;
    CHECK(llm_unicode_normal_open(&n));
    for (int kind = 0; kind < 3; kind++) { /* a pair; many letters; many broken bytes */
        char text[300];
        memset(text, kind == 1 ? 'a' : 0xFF, sizeof text);
        memcpy(text, "\xC3\xA9", 2);
        const size_t size = kind == 0 ? 2 : sizeof text;
        int calls = 0;
        for (ok = false; !ok; calls++) {
            llm_buffer b = {NULL, 0, 0};
            normal_calls = calls;
            ok = llm_unicode_normal_text(&n, &b, text, size, LLM_UNICODE_NORMAL_NFC);
            CHECK(ok == (normal_calls >= 0));
            normal_calls = 1 << 30;
            CHECK(ok ? b.size == size && memcmp(b.data, text, size) == 0 : b.size < size);
            llm_buffer_free(&b);
        }
        CHECK(calls > (kind == 0 ? 3 : 6));
    }
    llm_unicode_normal_free(&n);
}

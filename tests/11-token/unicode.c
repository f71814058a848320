/* @unicode */
#include "../test.h"

#include "../../llm.h"

#include "../tiny_hostile.h"

/* Whether s (n) begins some well-formed character of L bytes: from the bits, all continuations of s
 * are the codes lo..hi, and one of them must be allowed. Tables 3-6 and D92 of the standard, in
 * place of table 3-7. */
static bool unicode_begins(const unsigned char *s, size_t n, size_t *L, uint32_t *code) {
    static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
    *L = s[0] < 0x80 ? 1 : s[0] >> 5 == 6 ? 2 : s[0] >> 4 == 14 ? 3 : s[0] >> 3 == 30 ? 4 : 0;
    if (*L == 0 || n > *L) return false;
    uint32_t lo = *L == 1 ? s[0] : s[0] & (0xFFu >> (*L + 1));
    for (size_t i = 1; i < n; i++) {
        if (s[i] >> 6 != 2) return false;
        lo = lo << 6 | (s[i] & 63u);
    }
    uint32_t hi = lo;
    for (size_t i = n; i < *L; i++) lo <<= 6, hi = hi << 6 | 63u;
    *code = lo;
    if (lo < least[*L]) lo = least[*L];
    if (hi > 0x10FFFF) hi = 0x10FFFF;
    return lo <= hi && !(lo >= 0xD800 && hi <= 0xDFFF);
}

static void unicode_check(const unsigned char *s, size_t n) {
    size_t want = 1, L;
    uint32_t code, got = 0, whole = LLM_UNICODE_BROKEN;
    for (size_t k = n; k > 1; k--)
        if (unicode_begins(s, k, &L, &code)) {
            want = k;
            break;
        }
    if (unicode_begins(s, want, &L, &code) && L == want) whole = code;
    const size_t size = llm_unicode_decode(&got, (const char *)s, n);
    if (size != want || got != whole)
        test_fail(__FILE__, __LINE__, "%02x %02x %02x %02x (%zu): %zu bytes, code %x; want %zu, %x",
                  s[0], n > 1 ? s[1] : 0, n > 2 ? s[2] : 0, n > 3 ? s[3] : 0, n, size, got, want,
                  whole);
}

TEST(unicode, "the class of every code point is that of the Unicode data") {
    size_t n, code = 0;
    const size_t *stretch = as_sizes(golden_n(&n, "class/stretch"), 3875); /* 16 length + class */
    CHECK(n == 3875);
    for (size_t i = 0; i < n; i++)
        for (size_t end = code + stretch[i] / 16; code < end; code++)
            if (llm_unicode_class((uint32_t)code) != stretch[i] % 16)
                test_fail(__FILE__, __LINE__, "U+%04zX is %d, want %zu", code,
                          (int)llm_unicode_class((uint32_t)code), stretch[i] % 16);
    CHECK(code == 0x110000);
    CHECK(llm_unicode_class(LLM_UNICODE_BROKEN) == LLM_UNICODE_OTHER);
    CHECK(llm_unicode_class(UINT32_MAX) == LLM_UNICODE_OTHER);
}

TEST(unicode, "the set of marks has the classes Mn, Mc and Me, and no others") {
    static const uint32_t mark[3] = {0x301, 0x903, 0x20DD}; /* Mn, Mc, Me */
    unsigned set = 0;
    for (size_t i = 0; i < 3; i++) set |= 1u << llm_unicode_class(mark[i]);
    CHECK(set == LLM_UNICODE_MARKS);
}

TEST(unicode, "decoding broken text gives the codes and lengths of Python") {
    size_t size, n, at = 0;
    const float *values = golden_n(&size, "decode/bytes");
    char *text = (char *)test_memory(size, 1);
    for (size_t i = 0; i < size; i++) text[i] = (char)(unsigned char)values[i];
    const float *code = golden_n(&n, "decode/code"), *length = golden("decode/size");
    for (size_t i = 0; i < n; i++) {
        uint32_t got;
        CHECK_NEAR(llm_unicode_decode(&got, text + at, size - at), length[i], 0);
        CHECK_NEAR(got, code[i], 0);
        at += (size_t)length[i];
    }
    CHECK(at == size);
}

/* code and size of every character */
static size_t unicode_codes(uint32_t *out, const char *text, size_t size, const void *context) {
    size_t n = 0;
    (void)context;
    for (size_t at = 0; at < size; at += out[n++]) {
        out[n + 1] = (uint32_t)llm_unicode_decode(&out[n], text + at, size - at);
        n++;
    }
    return n;
}

TEST(unicode, "2,600 hostile strings are decoded as by Python") {
    tiny_hostile_check("hostile/bytes", TINY_HOSTILE_GROUPS, tiny_hostile_bytes, NULL);
    tiny_hostile_check("hostile/code", TINY_HOSTILE_GROUPS, unicode_codes, NULL);
}

TEST(unicode, "decoding takes a character or a maximal subpart, by brute force") {
    static const unsigned char edge[12] = {0x00, 0x41, 0x7F, 0x80, 0x8F, 0x90,
                                           0x9F, 0xA0, 0xBF, 0xC0, 0xED, 0xFF};
    for (size_t a = 0; a < 256; a++) {
        unsigned char *s[5]; /* of exactly n bytes, so that reading on is noticed */
        for (size_t n = 1; n < 5; n++) {
            s[n] = (unsigned char *)test_memory(n, 1);
            s[n][0] = (unsigned char)a;
        }
        unicode_check(s[1], 1);
        for (size_t b = 0; b < 256; b++) {
            for (size_t n = 2; n < 5; n++) s[n][1] = (unsigned char)b;
            unicode_check(s[2], 2);
            for (size_t c = 0; c < 12; c++) {
                s[3][2] = s[4][2] = edge[c];
                unicode_check(s[3], 3);
                for (size_t d = 0; d < 12; d++) {
                    s[4][3] = edge[d];
                    unicode_check(s[4], 4);
                }
            }
        }
    }
}

TEST(unicode, "encoding writes the bits of table 3-6, and decoding gives every code back") {
    for (uint32_t code = 0; code < 0x110000; code++) {
        char *s = (char *)malloc(4);
        const size_t n = llm_unicode_encode(s, code);
        const bool surrogate = code >= 0xD800 && code <= 0xDFFF;
        const uint32_t want = surrogate ? 0xFFFD : code;
        CHECK(n == (want < 0x80 ? 1u : want < 0x800 ? 2u : want < 0x10000 ? 3u : 4u));
        uint32_t got;
        CHECK(llm_unicode_decode(&got, s, n) == n && got == want);
        free(s);
    }
    char s[4];
    CHECK(llm_unicode_encode(s, 0x20AC) == 3 && memcmp(s, "\xE2\x82\xAC", 3) == 0);
    CHECK(llm_unicode_encode(s, LLM_UNICODE_BROKEN) == 3 && memcmp(s, "\xEF\xBF\xBD", 3) == 0);
    CHECK(llm_unicode_encode(s, UINT32_MAX) == 3 && memcmp(s, "\xEF\xBF\xBD", 3) == 0);
}

/* valid, of a copy that ends with its last byte */
static bool unicode_valid(const char *text, size_t size) {
    char *copy = (char *)test_memory(size, 1);
    memcpy(copy, text, size);
    return llm_unicode_valid(copy, size);
}

TEST(unicode, "valid text is text without a broken character") {
    const char *good =
        "a\xC3\xA9\xE4\xB8\xAD\xF0\x9F\x98\x80\xEF\xBF\xBD"; /* U+FFFD itself is fine */
    CHECK(unicode_valid(good, strlen(good)) && unicode_valid("", 0));
    const char *bad[7] = {"a\x80",     "\xC3",  "\xC0\xAF", "\xED\xA0\x80", "\xF4\x90\x80\x80",
                          "\xE4\xB8z", "\xFFok"};
    for (size_t i = 0; i < 7; i++) CHECK(!unicode_valid(bad[i], strlen(bad[i])));
    CHECK(!unicode_valid(good, strlen(good) - 1));
}

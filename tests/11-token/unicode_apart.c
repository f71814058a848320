/* @unicode_apart */
#include "../test.h"

/* realloc that runs out after a number of calls */
static int apart_calls = 1 << 30;
static void *apart_realloc(void *p, size_t size) {
    return apart_calls-- > 0 ? realloc(p, size) : NULL;
}
#define realloc apart_realloc

#include "../../llm.h"

#include "../tiny_hostile.h"

TEST(unicode_apart, "every code point comes apart as by unicodedata") {
    llm_unicode_apart a;
    CHECK(llm_unicode_apart_open(&a));
    for (int compat = 0; compat < 2; compat++) {
        size_t n;
        const float *want = golden_n(&n, compat ? "blocks/nfkd" : "blocks/nfd");
        CHECK(n == 272);
        llm_buffer codes = {NULL, 0, 0};
        for (size_t b = 0; b < n; b++) {
            uint32_t hash = 2166136261u;
            for (size_t code = 4096 * b; code < 4096 * (b + 1); code++) {
                codes.size = 0;
                CHECK(llm_unicode_apart_put(&a, &codes, (uint32_t)code, compat));
                const uint32_t size = (uint32_t)(codes.size / sizeof size);
                hash = tiny_hostile_hash(hash, &size, 1);
                hash = tiny_hostile_hash(hash, (const uint32_t *)(const void *)codes.data, size);
            }
            if ((float)((hash ^ hash >> 24) & 0xFFFFFF) != want[b])
                test_fail(__FILE__, __LINE__, "wrong between U+%04zX and U+%04zX", 4096 * b,
                          4096 * b + 4095);
        }
        llm_buffer_free(&codes);
    }
    llm_unicode_apart_free(&a);
    CHECK(a.canonical.entry.size == 0 && a.compat.entry.size == 0);
}

TEST(unicode_apart, "by hand: U+1E69, a syllable of Hangul, a ligature, a letter, a broken byte") {
    static const uint32_t code[6] = {0x1E69, 0xAC01, 0xAC1C, 0xFB01, 'x', LLM_UNICODE_BROKEN + 9};
    static const uint32_t want[14] = {'s',
                                      0x323,
                                      0x307,
                                      0x1100,
                                      0x1161,
                                      0x11A8,
                                      0x1100,
                                      0x1162,
                                      0xFB01,
                                      'x',
                                      LLM_UNICODE_BROKEN + 9};
    llm_unicode_apart a;
    llm_buffer codes = {NULL, 0, 0};
    CHECK(llm_unicode_apart_open(&a));
    for (size_t i = 0; i < 6; i++) CHECK(llm_unicode_apart_put(&a, &codes, code[i], false));
    CHECK(codes.size == 11 * sizeof want[0] && memcmp(codes.data, want, codes.size) == 0);
    codes.size = 0;
    CHECK(llm_unicode_apart_put(&a, &codes, 0xFB01, true));
    const uint32_t fi[2] = {'f', 'i'};
    CHECK(codes.size == sizeof fi && memcmp(codes.data, fi, sizeof fi) == 0);
    codes.size = 0; /* 18 from one, the most */
    CHECK(llm_unicode_apart_put(&a, &codes, 0xFDFA, true) && codes.size == 18 * sizeof fi[0]);
    llm_buffer_free(&codes);
    llm_unicode_apart_free(&a);
}

TEST(unicode_apart, "when memory is out, nothing is left") {
    bool ok = false;
    for (int calls = 0; !ok; calls++) {
        llm_unicode_apart a;
        llm_buffer codes = {NULL, 0, 0};
        apart_calls = calls;
        ok = llm_unicode_apart_open(&a);
        apart_calls = 0;
        if (!ok) CHECK(!a.canonical.entry.data && !a.canonical.to.data && !a.compat.entry.data);
        if (ok) CHECK(calls > 10 && !llm_unicode_apart_put(&a, &codes, 0xE9, false));
        apart_calls = 1 << 30;
        llm_unicode_apart_free(&a);
    }
}

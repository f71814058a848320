/* @unicode_map */
#include "../test.h"

/* realloc that runs out after a number of calls */
static int map_calls = 1 << 30;
static void *map_realloc(void *p, size_t size) { return map_calls-- > 0 ? realloc(p, size) : NULL; }
#define realloc map_realloc

#include "../../llm.h"

#include "../tiny_hostile.h"

enum { MAP_LINES = sizeof llm_unicode_map_canonical / sizeof llm_unicode_map_canonical[0] };

TEST(unicode_map, "the canonical map is that of the Unicode data, at every code point") {
    size_t n;
    const float *want = golden_n(&n, "canonical/blocks");
    llm_unicode_map m = {{NULL, 0, 0}, {NULL, 0, 0}};
    CHECK(n == 272 && llm_unicode_map_read(&m, llm_unicode_map_canonical, MAP_LINES));
    CHECK_NEAR(m.entry.size / sizeof(llm_unicode_map_entry), golden("canonical/count")[0], 0);
    for (size_t b = 0; b < n; b++) {
        uint32_t hash = 2166136261u;
        for (size_t code = 4096 * b; code < 4096 * (b + 1); code++) {
            size_t count = 99;
            const uint32_t *to = llm_unicode_map_find(&m, (uint32_t)code, &count);
            CHECK((to == NULL) == (count == 0));
            const uint32_t size = (uint32_t)count;
            hash = tiny_hostile_hash(hash, &size, 1);
            hash = tiny_hostile_hash(hash, to, count);
        }
        if ((float)((hash ^ hash >> 24) & 0xFFFFFF) != want[b])
            test_fail(__FILE__, __LINE__, "wrong between U+%04zX and U+%04zX", 4096 * b,
                      4096 * b + 4095);
    }
    llm_unicode_map_free(&m);
    size_t count;
    CHECK(m.entry.size == 0 && !llm_unicode_map_find(&m, 0xE9, &count));
}

/* digits (n) as they are written: ASCII without three characters, digit d is the character 32 + d,
 * + 1, 2, 3 behind those */
static void map_write(char *line, const unsigned char *digit, size_t n) {
    for (size_t i = 0; i < n; i++) {
        int c = ' ' + digit[i];
        c += c >= '"';
        c += c >= '?';
        c += c >= '\\';
        line[i] = (char)c;
    }
    line[n] = 0;
}

TEST(unicode_map, "the coding by hand, cut into two lines anywhere") {
    /* 5 -> 105, 6 -> 106, 7 -> 107 (a run); 9 -> 1 2 3 4 5 6; 109 -> 100, */
    static const unsigned char d[] = {
        51,     46 + 1, 26,     46 + 4, /* gap 5, one value, a run of 2 + 1; 105: zigzag */
        18,     46 + 1,                 /* gap 1, length 5 + 1 */
        27,     46 + 4,                 /* 107 to 1: -106 is zigzag 211 */
        46 + 4, 46 + 6, 46 + 8, 46 + 10, 46 + 12, /* 2, 3, 4, 5, 6: from 0 */
        80,     45,     46 + 1,                   /* gap 8 + 91, one value */
        14,     46 + 4};                          /* 1 to 100: 198 */
    for (size_t cut = 1; cut < sizeof d; cut++) {
        char line[2][32];
        map_write(line[0], d, cut);
        map_write(line[1], d + cut, sizeof d - cut);
        const char *const lines[2] = {line[0], line[1]};
        llm_unicode_map m = {{NULL, 0, 0}, {NULL, 0, 0}};
        CHECK(llm_unicode_map_read(&m, lines, 2));
        size_t n;
        for (uint32_t code = 0; code < 120; code++) {
            const uint32_t *to = llm_unicode_map_find(&m, code, &n);
            if (code >= 5 && code <= 7)
                CHECK(n == 1 && to[0] == code + 100);
            else if (code == 9)
                for (size_t k = 0; k < 6; k++) CHECK(n == 6 && to[k] == k + 1);
            else if (code == 109)
                CHECK(n == 1 && to[0] == 100);
            else
                CHECK(!to && n == 0);
        }
        llm_unicode_map_free(&m);
    }
}

TEST(unicode_map, "up to 18 values; a table that breaks off or has longer entries is an error") {
    static const unsigned char head = 18; /* gap 1, length 5 + a number */
    for (size_t length = 17; length < 20; length++) {
        unsigned char d[32] = {head, (unsigned char)(46 + length - 5)};
        for (size_t k = 0; k < length; k++) d[2 + k] = (unsigned char)(46 + 2 * k); /* k */
        char line[2][32];
        map_write(line[0], d, 2 + length - 1);
        map_write(line[1], d + 2 + length - 1, 1);
        const char *const lines[2] = {line[0], line[1]};
        llm_unicode_map m = {{NULL, 0, 0}, {NULL, 0, 0}};
        CHECK_ASSERTS(llm_unicode_map_read(&m, lines, 1)); /* the last value is missing */
        if (length > 18) {
            CHECK_ASSERTS(llm_unicode_map_read(&m, lines, 2));
            continue;
        }
        CHECK(llm_unicode_map_read(&m, lines, 2));
        size_t n;
        const uint32_t *to = llm_unicode_map_find(&m, 1, &n);
        CHECK(to && n == length);
        for (size_t k = 0; k < n; k++) CHECK(to[k] == k);
        llm_unicode_map_free(&m);
    }
}

TEST(unicode_map, "when memory is out, nothing is left") {
    for (int calls = 0; calls < 20; calls++) {
        llm_unicode_map m = {{NULL, 0, 0}, {NULL, 0, 0}};
        map_calls = calls;
        CHECK(!llm_unicode_map_read(&m, llm_unicode_map_canonical, MAP_LINES));
        map_calls = 1 << 30;
        CHECK(m.entry.size == 0 && m.to.size == 0 && !m.entry.data && !m.to.data);
    }
}

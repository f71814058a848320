/* @text_places */
#include "../test.h"
#include "../tiny_hostile.h"

/* malloc and its like that fail once, after a number of calls */
static int places_calls = 1 << 30;
static void *places_malloc(size_t size) { return places_calls-- != 0 ? malloc(size) : NULL; }
static void *places_calloc(size_t n, size_t size) {
    return places_calls-- != 0 ? calloc(n, size) : NULL;
}
static void *places_realloc(void *p, size_t size) {
    return places_calls-- != 0 ? realloc(p, size) : NULL;
}
#define malloc places_malloc
#define calloc places_calloc
#define realloc places_realloc

#include "../../llm.h"
#include "../tiny_parts.h"

typedef struct {
    llm_unicode_normal tables;
    llm_unicode_normal_form form;
} places_case;

static size_t places_answer(uint32_t *out, const char *text, size_t size, const void *context) {
    const places_case *c = (const places_case *)context;
    llm_text_places in, t;
    memset(&in, 0, sizeof in);
    memset(&t, 0, sizeof t);
    if (tiny_parts_old(text, size)) return 0;
    CHECK(llm_text_places_add(&in, text, size, 0));
    CHECK(llm_text_places_normal(&t, &in, &c->tables, c->form));
    const size_t n = tiny_parts_answer(out, &t, text, size, true);
    llm_text_places_free(&in);
    llm_text_places_free(&t);
    return n;
}

TEST(text_places, "normal forms of 2,200 texts stand for what tokenizers says") {
    static const char *const name[4] = {"hash/NFD", "hash/NFC", "hash/NFKD", "hash/NFKC"};
    places_case c;
    CHECK(llm_unicode_normal_open(&c.tables));
    for (int k = 0; k < 4; k++) {
        c.form = (llm_unicode_normal_form)k;
        tiny_hostile_check(name[k], TINY_HOSTILE_KNOWN, places_answer, &c);
    }
    llm_unicode_normal_free(&c.tables);
}

TEST(text_places,
     "the text is that of @unicode_normal, broken bytes too, and places ascend in forms "
     "that compose what stands together") {
    llm_unicode_normal n;
    CHECK(llm_unicode_normal_open(&n));
    char *text = (char *)test_memory(TINY_HOSTILE_MOST, 1);
    for (size_t group = 0; group < TINY_HOSTILE_GROUPS; group++)
        for (size_t i = 0; i < TINY_HOSTILE_EACH; i += 7)
            for (int form = 0; form < 4; form++) {
                const size_t size = tiny_hostile(text, group, i);
                llm_text_places in, t;
                llm_buffer want = {NULL, 0, 0};
                memset(&in, 0, sizeof in);
                memset(&t, 0, sizeof t);
                CHECK(llm_text_places_add(&in, text, size, 0));
                CHECK(llm_text_places_normal(&t, &in, &n, (llm_unicode_normal_form)form));
                CHECK(
                    llm_unicode_normal_text(&n, &want, text, size, (llm_unicode_normal_form)form));
                CHECK(t.text.size == want.size && t.from.size == 8 * want.size);
                CHECK(want.size == 0 || memcmp(t.text.data, want.data, want.size) == 0);
                for (size_t k = 0; k < t.text.size; k++) {
                    const llm_text_places_span s = llm_text_places_at(&t, k);
                    CHECK(s.start < s.end && s.end <= size);
                    CHECK(k == 0 || llm_text_places_at(&t, k - 1).start <= s.start);
                }
                llm_text_places_free(&in);
                llm_text_places_free(&t);
                llm_buffer_free(&want);
            }
    llm_unicode_normal_free(&n);
}

static void places_change(llm_text_places *out, const llm_text_places *t, size_t skip,
                          const char *codes, const int *change, size_t count) {
    llm_buffer changes = {NULL, 0, 0};
    for (size_t i = 0; i < count; i++)
        CHECK(llm_text_places_note(&changes, (unsigned char)codes[i], change[i]));
    llm_text_places_clear(out);
    CHECK(llm_text_places_apply(out, t, skip, &changes));
    llm_buffer_free(&changes);
}

static void places_are(const llm_text_places *t, const char *text, const unsigned *want) {
    CHECK(t->text.size == strlen(text) && memcmp(t->text.data, text, t->text.size) == 0);
    for (size_t i = 0; i < t->text.size; i++) {
        const llm_text_places_span s = llm_text_places_at(t, i);
        if (s.start != want[2 * i] || s.end != want[2 * i + 1])
            test_fail(__FILE__, __LINE__, "\"%s\", byte %zu: %u to %u", text, i, s.start, s.end);
    }
}

TEST(text_places, "changes by hand: replaced, added, swallowed, in front and behind") {
    llm_text_places in, t;
    memset(&in, 0, sizeof in);
    memset(&t, 0, sizeof t);
    CHECK(llm_text_places_add(&in,
                              "a\xC3\xA9"
                              "bc\xFF",
                              6, 10)); /* a 10..11, e 11..13, b, c, a broken byte 15..16 */
    static const unsigned same[12] = {10, 11, 11, 13, 11, 13, 13, 14, 14, 15, 15, 16};
    places_are(&in,
               "a\xC3\xA9"
               "bc\xFF",
               same);
    static const int one[5] = {1, 0, 1, -1, 1};
    static const unsigned first[10] = {0, 0, 10, 11, 10, 11, 11, 13, 13, 14};
    places_change(&t, &in, 0, "vwxyz", one, 5);
    places_are(&t, "vwxyz", first);
    static const int two[3] = {-9, 1, 0}; /* more than there is */
    static const unsigned second[6] = {11, 13, 15, 16, 15, 16};
    places_change(&t, &in, 1, "xyz", two, 3);
    places_are(&t, "xyz", second);
    static const unsigned third[2] = {15, 16};
    places_change(&t, &in, 99, "x", two + 1, 1);
    places_are(&t, "x", third);
    const llm_text_places_span all = llm_text_places_of(&in, 1, 3);
    CHECK(all.start == 11 && all.end == 14);
    llm_text_places_clear(&t);
    CHECK(llm_text_places_take(&t, &in, 3, 2) && llm_text_places_take(&t, &in, 6, 0));
    places_are(&t, "bc", same + 6);
    llm_text_places_clear(&t);
    CHECK(llm_text_places_take(&t, &in, 4, 1));
    places_are(&t, "c", same + 8);
    CHECK_ASSERTS(llm_text_places_take(&t, &in, 5, 2));
    CHECK_ASSERTS(llm_text_places_at(&in, 6));
    uint32_t code;
    CHECK(llm_text_places_next(&in, 1, &code) == 2 && code == 0xE9);
    CHECK(llm_text_places_next(&in, 5, &code) == 1 && code == LLM_UNICODE_BROKEN + 255);
    llm_text_places_free(&in);
    llm_text_places_free(&t);
    memset(&in, 0, sizeof in); /* nothing to replace: as if in front of everything */
    static const unsigned none[2] = {0, 0};
    places_change(&t, &in, 0, "x", two + 2, 1);
    places_are(&t, "x", none);
    llm_text_places_free(&t);
}

TEST(text_places, "marks are sorted by class, and take the places in turn") {
    llm_unicode_normal n;
    llm_text_places in, t;
    memset(&in, 0, sizeof in);
    memset(&t, 0, sizeof t);
    CHECK(llm_unicode_normal_open(&n)); /* U+0301 has class 230, U+0334 class 1, U+0323 220 */
    CHECK(llm_text_places_add(&in, "a\xCC\x81\xCC\xB4\xCC\xA3", 7, 0));
    CHECK(llm_text_places_normal(&t, &in, &n, LLM_UNICODE_NORMAL_NFD));
    static const unsigned want[14] = {0, 1, 1, 3, 1, 3, 3, 5, 3, 5, 5, 7, 5, 7};
    places_are(&t, "a\xCC\xB4\xCC\xA3\xCC\x81", want);
    llm_text_places_free(&in);
    llm_text_places_free(&t);
    llm_unicode_normal_free(&n);
}

TEST(text_places, "when memory is out, or text grows too long, it says so") {
    llm_unicode_normal n;
    CHECK(llm_unicode_normal_open(&n));
    bool ok = false;
    for (int calls = 0; calls < 60 && !ok; calls++) {
        llm_text_places in, t;
        memset(&in, 0, sizeof in);
        memset(&t, 0, sizeof t);
        places_calls = calls;
        ok = llm_text_places_add(&in, "caf\xC3\xA9", 5, 0) &&
             llm_text_places_normal(&t, &in, &n, LLM_UNICODE_NORMAL_NFD);
        CHECK(ok == (places_calls >= 0)); /* whatever fails is told */
        places_calls = 1 << 30;
        CHECK(!ok || (t.text.size == 6 && llm_text_places_of(&t, 3, 3).end == 5));
        llm_text_places_free(&in);
        llm_text_places_free(&t);
    }
    CHECK(ok);
    llm_unicode_normal_free(&n);
    llm_text_places t;
    memset(&t, 0, sizeof t);
    const llm_text_places_span span = {0, 1};
    CHECK(!llm_text_places_put(&t, "a", LLM_TEXT_PLACES_MOST, span));
    t.text.size = ((size_t)1 << 28) - 1;
    places_calls = 0;
    CHECK(!llm_text_places_put(&t, "a", 1, span) && places_calls == 0); /* and asks for nothing */
}

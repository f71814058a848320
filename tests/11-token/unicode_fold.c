/* @unicode_fold */
#include "../test.h"

/* realloc that runs out after a number of calls */
static int fold_calls = 1 << 30;
static void *fold_realloc(void *p, size_t size) {
    return fold_calls-- > 0 ? realloc(p, size) : NULL;
}
#define realloc fold_realloc

#include "../../llm.h"

#include "../tiny_hostile.h"

typedef enum { FOLD_SMALL, FOLD_BARE, FOLD_CLEAN, FOLD_BERT } fold_kind;
typedef struct {
    llm_unicode_normal n;
    llm_unicode_map lower;
    fold_kind kind;
} fold_context;

static bool fold_text(const fold_context *c, llm_buffer *out, const char *text, size_t size) {
    llm_buffer a = {NULL, 0, 0}, b = {NULL, 0, 0};
    bool ok = true;
    if (c->kind == FOLD_SMALL) ok = llm_unicode_fold_small(&c->lower, out, text, size);
    if (c->kind == FOLD_BARE) ok = llm_unicode_fold_bare(&c->n, out, text, size);
    if (c->kind == FOLD_CLEAN) ok = llm_unicode_fold_clean(out, text, size);
    if (c->kind == FOLD_BERT)
        ok = llm_unicode_fold_clean(&a, text, size) &&
             llm_unicode_fold_bare(&c->n, &b, a.data, a.size) &&
             llm_unicode_fold_small(&c->lower, out, b.data, b.size);
    llm_buffer_free(&a);
    llm_buffer_free(&b);
    return ok;
}

static size_t fold_bytes(uint32_t *out, const char *text, size_t size, const void *context) {
    llm_buffer b = {NULL, 0, 0};
    CHECK(fold_text((const fold_context *)context, &b, text, size));
    const size_t n = b.size;
    for (size_t i = 0; i < n; i++) out[i] = (unsigned char)b.data[i];
    llm_buffer_free(&b);
    return n;
}

static void fold_open(fold_context *c) {
    CHECK(llm_unicode_normal_open(&c->n) && llm_unicode_fold_open(&c->lower));
}
static void fold_close(fold_context *c) {
    llm_unicode_normal_free(&c->n);
    llm_unicode_map_free(&c->lower);
}

TEST(unicode_fold, "2,200 hostile strings are as by the normalizers of tokenizers") {
    static const char *const name[4] = {"small", "bare", "clean", "bert"};
    fold_context c;
    fold_open(&c);
    for (int i = 0; i < 4; i++) {
        char array[32];
        snprintf(array, sizeof array, "hostile/%s", name[i]);
        c.kind = (fold_kind)i;
        tiny_hostile_check(array, TINY_HOSTILE_KNOWN, fold_bytes, &c);
    }
    fold_close(&c);
}

TEST(unicode_fold, "the small letter of every code point") {
    fold_context c;
    fold_open(&c);
    size_t n;
    const float *want = golden_n(&n, "small/blocks");
    CHECK(n == 32);
    c.kind = FOLD_SMALL;
    for (size_t b = 0; b < 272; b++) {
        uint32_t hash = 2166136261u, out[32];
        for (size_t code = 4096 * b; code < 4096 * (b + 1); code++) {
            char text[4];
            const bool surrogate = code >= 0xD800 && code <= 0xDFFF;
            const size_t size = llm_unicode_encode(text, (uint32_t)code);
            out[0] = surrogate ? 0 : (uint32_t)fold_bytes(out + 1, text, size, &c);
            if (b < n)
                hash = tiny_hostile_hash(hash, out, out[0] + 1);
            else /* none lie so far out */
                CHECK(out[0] == size && out[1] == (unsigned char)text[0]);
        }
        if (b < n && (float)((hash ^ hash >> 24) & 0xFFFFFF) != want[b])
            test_fail(__FILE__, __LINE__, "wrong between U+%04zX and U+%04zX", 4096 * b,
                      4096 * b + 4095);
    }
    fold_close(&c);
}

static void fold_check(fold_context *c, fold_kind kind, const char *text, const char *want) {
    llm_buffer b = {NULL, 0, 0};
    c->kind = kind;
    CHECK(fold_text(c, &b, text, strlen(text)));
    if (b.size != strlen(want) || (b.size > 0 && memcmp(b.data, want, b.size) != 0))
        test_fail(__FILE__, __LINE__, "\"%s\" became \"%.*s\"", text, (int)b.size, b.data);
    llm_buffer_free(&b);
}

TEST(unicode_fold, "by hand, broken bytes too") {
    fold_context c;
    fold_open(&c);
    fold_check(&c, FOLD_SMALL, "Caf\xC3\x89 \xC4\xB0!", "caf\xC3\xA9 i\xCC\x87!");
    fold_check(&c, FOLD_SMALL, "A\xC3Z\xFF", "a\xC3z\xFF");
    fold_check(&c, FOLD_BARE, "Caf\xC3\x89 \xE1\xB9\xA9\x80", "CafE s\x80");
    fold_check(&c, FOLD_BARE, "\xE0\xA4\xA8\xE0\xA5\x81\xE0\xA4\xBE", "\xE0\xA4\xA8\xE0\xA4\xBE");
    fold_check(&c, FOLD_CLEAN,
               "a\t\n\r\xC2\xA0"
               "b\x0B\x01\x7F\xC2\x85",
               "a    b");
    fold_check(&c, FOLD_CLEAN, "a\xE2\x80\x8B\xEE\x80\x80\xEF\xBF\xBD\x80z", "az");
    fold_check(&c, FOLD_CLEAN, "\xF3\xB0\x80\x80\xF3\xBF\xBF\xBF", "\xF3\xBF\xBF\xBF");
    fold_check(&c, FOLD_BERT,
               "\xC3\x9C"
               "BER\xC2\xAD\tAll",
               "uber all");
    fold_check(&c, FOLD_BERT, "", "");
    for (int kind = 0; kind < 3; kind++) { /* the text ends within a character */
        llm_buffer b = {NULL, 0, 0};
        c.kind = (fold_kind)kind;
        CHECK(fold_text(&c, &b, "a\xC3\x89", 2) && b.size == (kind == FOLD_CLEAN ? 1u : 2u));
        llm_buffer_free(&b);
    }
    fold_close(&c);
}

TEST(unicode_fold, "cleaning drops controls and private use from their first to their last") {
    static const struct {
        uint32_t from, to;
    } gone[6] = {{0x0, 0x8},       {0xE, 0x1F},        {0x7F, 0x9F},
                 {0xE000, 0xF8FF}, {0xF0000, 0xFFFFD}, {0x100000, 0x10FFFD}};
    for (size_t i = 0; i < 6; i++)
        for (int at = 0; at < 4; at++) { /* one before, the first, the last, one behind */
            const uint32_t code =
                at < 2 ? gone[i].from + (uint32_t)at - 1 : gone[i].to + (uint32_t)at - 2;
            if ((i == 0 && at == 0) || (code >= 0xD800 && code < 0xE000)) continue;
            char text[4];
            llm_buffer b = {NULL, 0, 0};
            CHECK(llm_unicode_fold_clean(&b, text, llm_unicode_encode(text, code)));
            const bool space = code == 0x9 || code == 0xD || code == 0x20 || code == 0xA0;
            const bool kept = (at == 0 || at == 3) && !space;
            CHECK(b.size == (kept ? llm_unicode_encode(text, code) : space ? 1u : 0u));
            CHECK(!space || b.data[0] == ' ');
            CHECK(!kept || memcmp(b.data, text, b.size) == 0);
            llm_buffer_free(&b);
        }
}

TEST(unicode_fold, "when memory is out, false") {
    fold_context c;
    fold_open(&c);
    for (int kind = 0; kind < 3; kind++) {
        llm_buffer b = {NULL, 0, 0};
        c.kind = (fold_kind)kind;
        fold_calls = 0;
        CHECK(!fold_text(&c, &b, "\xC3\x89", 2) && !fold_text(&c, &b, " ", 1));
        fold_calls = 1 << 30;
        llm_buffer_free(&b);
    }
    llm_unicode_map none;
    fold_calls = 3;
    CHECK(!llm_unicode_fold_open(&none) && none.entry.size == 0);
    fold_calls = 1 << 30;
    fold_close(&c);
}

/* @token_id */
#include "../test.h"

/* realloc that runs out after a number of calls */
static int id_calls = 1 << 30;
static void *id_realloc(void *p, size_t size) { return id_calls-- > 0 ? realloc(p, size) : NULL; }
#define realloc id_realloc

#include "../../llm.h"

#include "../tiny_hostile.h"

/* ids and their table for text cut into pieces of 1 to `most` bytes */
static size_t id_pieces(int *ids, llm_vocab_table *v, const char *text, size_t size, size_t most) {
    size_t n = 0;
    for (size_t at = 0; at < size;) {
        size_t length = 1 + n * n % most;
        if (length > size - at) length = size - at;
        ids[n] = llm_vocab_table_add(v, text + at, length);
        CHECK(ids[n++] >= 0);
        at += length;
    }
    return n;
}

/* for each piece the number of bytes shown; context: the most bytes of a piece */
static size_t id_stream(uint32_t *out, const char *text, size_t size, const void *context) {
    static int ids[TINY_HOSTILE_MOST];
    const size_t most = *(const size_t *)context;
    llm_vocab_table v = llm_vocab_table_empty();
    llm_token_id_stream s;
    llm_error e;
    llm_buffer all = {NULL, 0, 0}, whole = {NULL, 0, 0}, want = {NULL, 0, 0};
    memset(&s, 0, sizeof s);
    const size_t n = id_pieces(ids, &v, text, size, most);
    size_t k = 0;
    for (size_t i = 0; i <= n; i++) {
        const size_t before = all.size;
        if (i < n)
            CHECK(llm_token_id_next(&s, &all, &v, ids[i], &e));
        else
            CHECK(llm_token_id_end(&s, &all) && s.size == 0);
        CHECK(s.size <= 3);
        CHECK(all.size == before || llm_unicode_valid(all.data + before, all.size - before));
        out[k++] = (uint32_t)(all.size - before);
    }
    CHECK(llm_token_id_decode(&whole, &v, ids, n, &e) && whole.size == size);
    CHECK(size == 0 || memcmp(whole.data, text, size) == 0);
    CHECK(llm_token_replace(&want, text, size) && want.size == all.size);
    CHECK(all.size == 0 || memcmp(want.data, all.data, all.size) == 0);
    llm_buffer_free(&all);
    llm_buffer_free(&whole);
    llm_buffer_free(&want);
    llm_vocab_table_free(&v);
    return k;
}

static size_t id_offsets(uint32_t *out, const char *text, size_t size, const void *context) {
    static int ids[TINY_HOSTILE_MOST];
    llm_vocab_table v = llm_vocab_table_empty();
    llm_error e;
    (void)context;
    const size_t n = id_pieces(ids, &v, text, size, 5);
    llm_token_id_span *span = (llm_token_id_span *)malloc((n + 1) * sizeof *span);
    CHECK(span && llm_token_id_offsets(span, &v, ids, n, &e));
    for (size_t i = 0; i < n; i++) {
        out[4 * i] = (uint32_t)span[i].byte, out[4 * i + 1] = (uint32_t)span[i].byte_end;
        out[4 * i + 2] = (uint32_t)span[i].code, out[4 * i + 3] = (uint32_t)span[i].code_end;
    }
    free(span);
    llm_vocab_table_free(&v);
    return 4 * n;
}

TEST(token_id, "2,600 hostile strings in pieces are shown as by Python's incremental decoder") {
    const size_t one = 1, five = 5;
    tiny_hostile_check("hostile/stream1", TINY_HOSTILE_GROUPS, id_stream, &one);
    tiny_hostile_check("hostile/stream5", TINY_HOSTILE_GROUPS, id_stream, &five);
}

TEST(token_id, "spans are those of the characters that a piece touches") {
    tiny_hostile_check("hostile/offsets", TINY_HOSTILE_GROUPS, id_offsets, NULL);
}

TEST(token_id, "every split of an emoji and of Chinese: whole characters only, all of them") {
    static const char text[] = "a\xF0\x9F\x98\x80\xE4\xB8\xAD!";
    const size_t size = sizeof text - 1;
    for (size_t cuts = 0; cuts < (size_t)1 << (size - 1); cuts++) { /* bit i: a cut behind byte i */
        llm_vocab_table v = llm_vocab_table_empty();
        llm_token_id_stream s;
        llm_buffer out = {NULL, 0, 0};
        llm_error e;
        memset(&s, 0, sizeof s);
        for (size_t at = 0, end; at < size; at = end) {
            for (end = at + 1; end < size && !(cuts >> (end - 1) & 1); end++) {
            }
            const int id = llm_vocab_table_add(&v, text + at, end - at);
            CHECK(llm_token_id_next(&s, &out, &v, id, &e));
            const size_t whole = end < 1   ? 0
                                 : end < 5 ? 1
                                 : end < 8 ? 5
                                 : end < 9 ? 8
                                           : 9; /* the last end of a character */
            CHECK(out.size == whole && s.size == end - whole);
        }
        CHECK(llm_token_id_end(&s, &out) && out.size == size && memcmp(out.data, text, size) == 0);
        llm_buffer_free(&out);
        llm_vocab_table_free(&v);
    }
}

TEST(token_id, "what can begin a character is held back, each other byte is shown") {
    llm_vocab_table v = llm_vocab_table_empty();
    llm_error e;
    for (int b = 0; b < 256; b++) {
        llm_token_id_stream s;
        llm_buffer out = {NULL, 0, 0};
        const char byte = (char)(unsigned char)b;
        const int id = llm_vocab_table_add(&v, &byte, 1);
        memset(&s, 0, sizeof s);
        CHECK(llm_token_id_next(&s, &out, &v, id, &e));
        const bool held = b >= 0xC2 && b <= 0xF4; /* of two bytes from U+80, up to U+10FFFF */
        CHECK(s.size == held && out.size == (held ? 0u : b < 0x80 ? 1u : 3u));
        llm_buffer_free(&out);
    }
    llm_vocab_table_free(&v);
}

TEST(token_id, "ids that do not exist are errors, and change nothing") {
    llm_vocab_table v = llm_vocab_table_empty();
    llm_token_id_stream s;
    llm_buffer out = {NULL, 0, 0};
    llm_token_id_span span[3];
    llm_error e;
    memset(&s, 0, sizeof s);
    CHECK_FAILS(llm_token_id_next(&s, &out, &v, 0, &e), e, "has 0 ids");
    CHECK(llm_vocab_table_add(&v, "\xE4\xB8", 2) == 0 && llm_vocab_table_skip(&v));
    CHECK(llm_token_id_next(&s, &out, &v, 0, &e) && s.size == 2 && out.size == 0);
    CHECK(llm_token_id_next(&s, &out, &v, 1, &e) && s.size == 2 && out.size == 0); /* no bytes */
    const int bad[4] = {2, -1, INT_MAX, INT_MIN};
    for (size_t i = 0; i < 4; i++) {
        const int ids[3] = {0, 1, bad[i]};
        const char *bytes = NULL;
        size_t size = 7;
        CHECK_FAILS(llm_token_id_bytes(&bytes, &size, &v, bad[i], &e), e, "has 2 ids");
        CHECK(size == 0 && bytes && bytes[0] == 0);
        CHECK_FAILS(llm_token_id_next(&s, &out, &v, bad[i], &e), e, "has 2 ids");
        CHECK_FAILS(llm_token_id_decode(&out, &v, ids, 3, &e), e, "has 2 ids");
        CHECK_FAILS(llm_token_id_offsets(span, &v, ids, 3, &e), e, "has 2 ids");
        CHECK(s.size == 2);
        out.size = 0;
    }
    const int ids[3] = {1, 0, 1}; /* an id without bytes: before the character, and within it */
    CHECK(llm_token_id_offsets(span, &v, ids, 3, &e));
    CHECK(span[0].byte == 0 && span[0].byte_end == 0 && span[0].code == 0 && span[0].code_end == 0);
    CHECK(span[1].byte == 0 && span[1].byte_end == 2 && span[1].code == 0 && span[1].code_end == 1);
    CHECK(span[2].byte == 2 && span[2].byte_end == 2 && span[2].code == 1 && span[2].code_end == 1);
    CHECK(llm_vocab_table_add(&v, "\xAD", 1) == 2);
    const int inside[3] = {0, 1, 2}; /* the second one in the middle of U+4E2D */
    CHECK(llm_token_id_offsets(span, &v, inside, 3, &e));
    CHECK(span[0].code == 0 && span[0].code_end == 1 && span[2].code == 0 && span[2].code_end == 1);
    CHECK(span[1].byte == 2 && span[1].byte_end == 2 && span[1].code == 0 && span[1].code_end == 0);
    CHECK(llm_token_id_end(&s, &out) && out.size == 3 && memcmp(out.data, "\xEF\xBF\xBD", 3) == 0);
    CHECK(llm_token_id_end(&s, &out) && out.size == 3); /* nothing is held any more */
    llm_buffer_free(&out);
    llm_vocab_table_free(&v);
}

TEST(token_id, "when memory is out, the stream is as it was") {
    llm_vocab_table v = llm_vocab_table_empty();
    llm_token_id_stream s;
    llm_error e;
    memset(&s, 0, sizeof s);
    char token[102]; /* more than a buffer takes at first */
    memset(token, 'a', 100);
    memcpy(token + 100, "\xE4\xB8", 2);
    CHECK(llm_vocab_table_add(&v, token, sizeof token) == 0);
    const int id = 0;
    bool ok = false;
    for (int calls = 0; !ok; calls++) {
        llm_buffer out = {NULL, 0, 0};
        llm_token_id_span span;
        id_calls = calls;
        ok = llm_token_id_next(&s, &out, &v, id, &e);
        if (!ok) CHECK(s.size == 0 && out.size == 0 && strstr(e.message, "memory"));
        id_calls = 0;
        if (ok) CHECK(calls == 3 && s.size == 2 && out.size == 100);
        if (calls == 0) CHECK_FAILS(llm_token_id_decode(&out, &v, &id, 1, &e), e, "memory");
        CHECK_FAILS(llm_token_id_offsets(&span, &v, &id, 1, &e), e, "memory");
        id_calls = 1 << 30;
        llm_buffer_free(&out);
    }
    llm_buffer none = {NULL, 0, 0};
    id_calls = 0;
    CHECK(!llm_token_id_end(&s, &none) && s.size == 2);
    id_calls = 1 << 30;
    llm_vocab_table_free(&v);
}

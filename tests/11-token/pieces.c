/* @pieces */
#include "../test.h"

/* malloc and its like that run out after a number of calls */
static int pieces_calls = 1 << 30;
static void *pieces_calloc(size_t n, size_t size) {
    return pieces_calls-- > 0 ? calloc(n, size) : NULL;
}
static void *pieces_realloc(void *p, size_t size) {
    return pieces_calls-- > 0 ? realloc(p, size) : NULL;
}
#define calloc pieces_calloc
#define realloc pieces_realloc

#include "../../llm.h"
#include "../tiny_pieces.h"

TEST(pieces, "decoding is SentencePiece's, with an unknown piece and with byte fallback") {
    const char *name[2] = {"unknown", "bytes"};
    for (size_t m = 0; m < 2; m++) {
        char texts[16], *text;
        size_t size, count, seen = 0;
        int *ids;
        llm_pieces p = tiny_pieces_golden(name[m]);
        CHECK(llm_pieces_fallback(&p) == (m == 1) && p.unknown == 0);
        snprintf(texts, sizeof texts, "%s/text", name[m]);
        tiny_pieces_texts t = tiny_pieces_open(texts);
        for (; tiny_pieces_next(&t, &text, &size, &ids, &count); seen++) {
            llm_buffer out = {NULL, 0, 0};
            CHECK(llm_pieces_decode(&out, &p, ids, count));
            CHECK(out.size == size && (size == 0 || memcmp(out.data, text, size) == 0));
            llm_buffer_free(&out);
        }
        CHECK(seen > 40);
        llm_pieces_free(&p);
        CHECK(p.text.count == 0 && p.unknown == -1 && p.byte_id[7] == -1 && p.trie.cells == 0);
    }
}

TEST(pieces, "spelling turns spaces into U+2581 and decoding turns them back") {
    llm_pieces p = llm_pieces_empty();
    llm_buffer out = {NULL, 0, 0};
    const char *text = "\xE2\x96\x81"
                       "a\xE2\x96\x81\xE2\x96\x81"
                       "b\xE2\x96";
    CHECK(llm_pieces_spell(&out, "a  b\xE2\x96", 6, true));
    CHECK(out.size == 13 && memcmp(out.data, text, 13) == 0);
    CHECK(llm_pieces_spell(&out, " \0", 2, false));
    CHECK(out.size == 17 && memcmp(out.data + 13, "\xE2\x96\x81\0", 4) == 0);
    CHECK(llm_pieces_put(&p, text, 13, -1.0, LLM_PIECES_NORMAL, NULL));
    CHECK(llm_pieces_put(&p, text, 3, -3.0, LLM_PIECES_USER, NULL));
    out.size = 0;
    CHECK(llm_pieces_decode(&out, &p, (const int[2]){0, 1}, 2));
    CHECK(out.size == 8 && memcmp(out.data, " a  b\xE2\x96 ", 8) == 0);
    CHECK(!llm_pieces_decode(&out, &p, (const int[1]){-1}, 1));
    CHECK(!llm_pieces_decode(&out, &p, (const int[1]){2}, 1));
    CHECK(llm_pieces_decode(&out, &p, NULL, 0));
    llm_buffer_free(&out);
    llm_pieces_free(&p);
}

TEST(pieces, "what is not covered is one unknown piece, however long, or all of its bytes") {
    llm_pieces p = llm_pieces_empty();
    int ids[8] = {3};
    CHECK(llm_pieces_put(&p, "<u>", 3, 0.0, LLM_PIECES_UNKNOWN, NULL));
    CHECK(llm_pieces_cover(ids, 1, &p, false, "xy", 2) == 2 && ids[1] == 0);
    CHECK(llm_pieces_cover(ids, 2, &p, false, "z", 1) == 2);
    ids[2] = 5;
    CHECK(llm_pieces_cover(ids, 3, &p, false, "z", 1) == 4 && ids[2] == 5 && ids[3] == 0);
    CHECK(llm_pieces_cover(ids, 0, &p, false, "z", 1) == 1 && ids[0] == 0);
    for (int b = 255; b >= 0; b--) {
        char text[8];
        CHECK(!llm_pieces_fallback(&p));
        snprintf(text, sizeof text, "<0x%02X>", (unsigned)b);
        CHECK(llm_pieces_put(&p, text, 6, 0.0, LLM_PIECES_BYTE, NULL));
        CHECK(p.byte_id[b] == 256 - b);
    }
    CHECK(llm_pieces_fallback(&p) && llm_pieces_ready(&p, NULL));
    CHECK(llm_pieces_cover(ids, 1, &p, true, "\xFF\0a", 3) == 4);
    CHECK(ids[1] == 1 && ids[2] == 256 && ids[3] == 256 - 'a');
    CHECK(p.low == 0.0 && p.high == 0.0); /* no NORMAL piece */
    llm_pieces_free(&p);
}

TEST(pieces, "scores and kinds are kept; low and high are those of NORMAL pieces") {
    llm_pieces p = llm_pieces_empty();
    llm_error error;
    CHECK(llm_pieces_put(&p, "a", 1, -9.5, LLM_PIECES_CONTROL, &error));
    CHECK(llm_pieces_put(&p, "b", 1, -2.5, LLM_PIECES_NORMAL, &error));
    CHECK(p.low == -2.5 && p.high == -2.5);
    CHECK(llm_pieces_put(&p, "c", 1, -1.5, LLM_PIECES_NORMAL, &error));
    CHECK(llm_pieces_put(&p, "d", 1, -3.5, LLM_PIECES_NORMAL, &error));
    CHECK(llm_pieces_put(&p, "e", 1, 7.0, LLM_PIECES_UNUSED, &error));
    CHECK(p.low == -3.5 && p.high == -1.5 && p.one.size == 5 * sizeof(llm_pieces_one));
    CHECK(llm_pieces_get(&p, 0).score == -9.5 && llm_pieces_get(&p, 0).kind == LLM_PIECES_CONTROL);
    CHECK(llm_pieces_get(&p, 4).score == 7.0 && llm_pieces_get(&p, 4).kind == LLM_PIECES_UNUSED);
    CHECK_ASSERTS(llm_pieces_get(&p, 5));
    CHECK_FAILS(llm_pieces_ready(&p, &error), error, "neither an unknown one nor all 256 bytes");
    CHECK_FAILS(llm_pieces_put(&p, "b", 1, 0.0, LLM_PIECES_NORMAL, &error), error,
                "pieces 1 and 5 are the same");
    CHECK_FAILS(llm_pieces_put(&p, "", 0, 0.0, LLM_PIECES_NORMAL, &error), error, "a text");
    CHECK_FAILS(llm_pieces_put(&p, "x", 1, (double)NAN, LLM_PIECES_NORMAL, &error), error,
                "finite");
    CHECK_FAILS(llm_pieces_put(&p, "x", 1, -INFINITY, LLM_PIECES_USER, &error), error, "finite");
    CHECK_FAILS(llm_pieces_put(&p, "x", 1, 0.0, (llm_pieces_kind)0, &error), error, "kind 0");
    CHECK_FAILS(llm_pieces_put(&p, "x", 1, 0.0, (llm_pieces_kind)7, &error), error, "kind 7");
    const char *bytes[5] = {"<0x0a>", "<0x100>", "<0x00", "x", "<0x0A> "};
    for (size_t i = 0; i < 5; i++)
        CHECK_FAILS(llm_pieces_put(&p, bytes[i], strlen(bytes[i]), 0.0, LLM_PIECES_BYTE, &error),
                    error, "piece 5 is a byte");
    CHECK(p.text.count == 5 && p.one.size == 5 * sizeof(llm_pieces_one));
    CHECK(llm_pieces_put(&p, "<u>", 3, -99.0, LLM_PIECES_UNKNOWN, &error) && p.unknown == 5);
    CHECK(llm_pieces_put(&p, "<0x0A>", 6, -99.0, LLM_PIECES_BYTE, &error) && p.byte_id[10] == 6);
    CHECK(p.low == -3.5);
    CHECK_FAILS(llm_pieces_put(&p, "<v>", 3, 0.0, LLM_PIECES_UNKNOWN, &error), error,
                "pieces 5 and 7 are both");
    CHECK(llm_pieces_ready(&p, &error) && p.trie.longest == 6);
    CHECK(llm_pieces_ready(&p, &error)); /* twice leaks nothing */
    llm_pieces_free(&p);
}

TEST(pieces, "the first id counts as any other: unknown, equal, a byte; scores may be positive") {
    llm_error error;
    llm_pieces p = llm_pieces_empty();
    CHECK(llm_pieces_put(&p, "u", 1, 0.0, LLM_PIECES_UNKNOWN, &error));
    CHECK_FAILS(llm_pieces_put(&p, "v", 1, 0.0, LLM_PIECES_UNKNOWN, &error), error,
                "pieces 0 and 1");
    CHECK_FAILS(llm_pieces_put(&p, "u", 1, 0.0, LLM_PIECES_NORMAL, &error), error,
                "pieces 0 and 1");
    CHECK(llm_pieces_put(&p, "v", 1, 5.0, LLM_PIECES_NORMAL, &error));
    CHECK(llm_pieces_ready(&p, &error) && p.low == 5.0 && p.high == 5.0);
    CHECK(llm_pieces_put(&p, "w", 1, DBL_MAX, LLM_PIECES_NORMAL, &error) && p.high == DBL_MAX);
    llm_pieces_free(&p);
    for (int b = 0; b < 256; b++) { /* byte 0 has id 0 */
        char text[8];
        snprintf(text, sizeof text, "<0x%02X>", (unsigned)b);
        CHECK(!llm_pieces_fallback(&p));
        CHECK(llm_pieces_put(&p, text, 6, 0.0, LLM_PIECES_BYTE, &error));
    }
    llm_buffer out = {NULL, 0, 0};
    const int ids[3] = {65, 0, 66};
    CHECK(llm_pieces_fallback(&p) && llm_pieces_decode(&out, &p, ids, 3));
    CHECK(out.size == 3 && memcmp(out.data, "A\0B", 3) == 0);
    llm_buffer_free(&out);
    llm_pieces_free(&p);
}

TEST(pieces, "when memory is out it says so and nothing leaks") {
    llm_error error;
    for (int calls = 0; calls < 12; calls++) {
        llm_pieces p = llm_pieces_empty();
        pieces_calls = calls;
        bool ok = llm_pieces_put(&p, "<u>", 3, 0.0, LLM_PIECES_UNKNOWN, &error);
        if (!ok) CHECK(strstr(error.message, "out of memory") && calls < 8);
        ok = ok && llm_pieces_ready(&p, &error);
        if (!ok) CHECK(strstr(error.message, "out of memory") && calls < 10);
        pieces_calls = 1 << 30;
        llm_pieces_free(&p);
    }
    llm_pieces p = llm_pieces_empty();
    llm_buffer out = {NULL, 0, 0};
    CHECK(llm_pieces_put(&p, "abcd", 4, 0.0, LLM_PIECES_UNUSED, NULL));
    pieces_calls = 0;
    CHECK(!llm_pieces_decode(&out, &p, (const int[1]){0}, 1));
    CHECK(!llm_pieces_spell(&out, "a", 1, false) && !llm_pieces_spell(&out, "", 0, true));
    pieces_calls = 1 << 30;
    llm_pieces_free(&p);
}

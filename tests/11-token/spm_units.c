/* @spm_units */
#include "../test.h"
#include "../tiny_hostile.h"

#include "../../llm.h"

#include "../tiny_spm.h"

static llm_spm units_model(const char *name) {
    llm_spm s;
    llm_error error;
    const size_t size = (size_t)*golden("%s/size", name);
    const float *pair = golden("%s/data", name);
    unsigned char *data = (unsigned char *)test_memory(size, 1);
    for (size_t i = 0; i < size; i++)
        data[i] = (unsigned char)((unsigned)pair[i / 2] >> (i % 2 ? 0 : 8));
    if (!llm_spm_read(&s, data, size, &error)) test_fail(__FILE__, __LINE__, "%s", error.message);
    return s;
}

TEST(spm_units, "ids and decoded text of 1,800 strings are those of SentencePiece") {
    static const char *const name[3] = {"word", "char", "user"};
    for (size_t k = 0; k < 3; k++) {
        char array[16];
        llm_spm s = units_model(name[k]);
        CHECK(s.model == (k == 0 ? LLM_SPM_WORD : LLM_SPM_CHAR));
        snprintf(array, sizeof array, "%s/ids", name[k]);
        tiny_hostile_check(array, 9, tiny_spm_ids, &s);
        snprintf(array, sizeof array, "%s/back", name[k]);
        tiny_hostile_check(array, 9, tiny_spm_back, &s);
        llm_spm_free(&s);
    }
}

/* Pieces: unknown 0, control 1, then these, of which the last is a user's; or with all bytes. */
static llm_pieces units_pieces(bool bytes) {
    static const char *const more[6] = {"\xE2\x96\x81", "a", "b", "\xE2\x96\201ab", "<c>", "ba"};
    llm_pieces p = llm_pieces_empty();
    llm_error error;
    CHECK(llm_pieces_put(&p, "<unk>", 5, 0.0, LLM_PIECES_UNKNOWN, &error));
    CHECK(llm_pieces_put(&p, "<c>", 3, 0.0, LLM_PIECES_CONTROL, &error));
    for (size_t i = 0; i < 6; i++)
        if (i != 4)
            CHECK(llm_pieces_put(&p, more[i], strlen(more[i]), 0.0,
                                 i == 5 ? LLM_PIECES_USER : LLM_PIECES_NORMAL, &error));
    for (unsigned b = 0; b < 256 && bytes; b++) {
        char text[8];
        snprintf(text, sizeof text, "<0x%02X>", b);
        CHECK(llm_pieces_put(&p, text, 6, 0.0, LLM_PIECES_BYTE, &error));
    }
    CHECK(llm_pieces_ready(&p, &error));
    return p;
}

static void units_are(const llm_pieces *p, const char *text, bool words, const int *want,
                      size_t n) {
    const size_t size = strlen(text);
    int *ids = (int *)test_memory(size, sizeof *ids);
    const size_t count = llm_spm_units_encode(ids, p, text, size, words);
    if (count != n) test_fail(__FILE__, __LINE__, "\"%s\": %zu ids, want %zu", text, count, n);
    for (size_t i = 0; i < n; i++) CHECK(ids[i] == want[i]);
}

TEST(spm_units, "by hand: words, characters, pieces of a user, unknown ones in a row, bytes") {
    llm_pieces p = units_pieces(false);
    static const int words[3] = {5, 0, 5};
    units_are(&p,
              "\xE2\x96\x81"
              "ab\xE2\x96\x81xy\xE2\x96\x81z\xE2\x96\x81"
              "ab",
              true, words, 3);
    static const int control[1] = {0}; /* text that spells a control piece does not get it */
    units_are(&p, "<c>", true, control, 1);
    static const int user[1] = {6};
    units_are(&p, "ba", true, user, 1);
    static const int chars[5] = {2, 3, 6, 0, 4};
    units_are(&p,
              "\xE2\x96\x81"
              "abaxyb",
              false, chars, 5);
    units_are(&p, "", false, chars, 0);
    llm_pieces_free(&p);
    p = units_pieces(true);
    static const int bytes[4] = {3, 7 + 0xC3, 7 + 0xA9, 4};
    units_are(&p,
              "a\xC3\xA9"
              "b",
              false, bytes, 4);
    int ids[2]; /* a character that the end cuts in two, though its last byte stands behind */
    CHECK(llm_spm_units_encode(ids, &p, "a\xC3\xA9", 2, false) == 2);
    CHECK(ids[0] == 3 && ids[1] == 7 + 0xC3);
    static const int spelt[3] = {7 + 'a', 7 + 'x', 5};
    units_are(&p,
              "ax\xE2\x96\x81"
              "ab",
              true, spelt, 3);
    llm_pieces_free(&p);
}

TEST(spm_units, "the first piece may be an ordinary one") {
    llm_pieces p = llm_pieces_empty();
    llm_error error;
    int ids[2];
    CHECK(llm_pieces_put(&p, "a", 1, 0.0, LLM_PIECES_NORMAL, &error));
    CHECK(llm_pieces_put(&p, "<unk>", 5, 0.0, LLM_PIECES_UNKNOWN, &error));
    CHECK(llm_pieces_ready(&p, &error));
    CHECK(llm_spm_units_encode(ids, &p, "ab", 2, false) == 2 && ids[0] == 0 && ids[1] == 1);
    llm_pieces_free(&p);
}

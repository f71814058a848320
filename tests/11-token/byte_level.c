/* @byte_level */
#include "../test.h"

/* realloc that runs out after a number of calls */
static int byte_level_calls = 1 << 30;
static void *byte_level_realloc(void *p, size_t size) {
    return byte_level_calls-- > 0 ? realloc(p, size) : NULL;
}
#define realloc byte_level_realloc

#include "../../llm.h"

TEST(byte_level, "the characters are those of bytes_to_unicode, the ids their order") {
    const float *code = golden("byte/code"), *id = golden("byte/id");
    for (int b = 0; b < 256; b++) {
        CHECK_NEAR(llm_byte_level_code((unsigned char)b), code[b], 0);
        CHECK_NEAR(llm_byte_level_id((unsigned char)b), id[b], 0);
    }
}

TEST(byte_level, "the way back exists for these 256 characters and no others") {
    size_t found = 0;
    for (uint32_t code = 0; code < 0x110001; code++) {
        const int byte = llm_byte_level_byte(code);
        CHECK(byte >= -1 && byte < 256);
        if (byte < 0) continue;
        CHECK(llm_byte_level_code((unsigned char)byte) == code);
        found++;
    }
    CHECK(found == 256);
}

TEST(byte_level, "spelling and reading are inverse, and appended") {
    llm_buffer spelt = {NULL, 0, 0}, bytes = {NULL, 0, 0};
    size_t bad = 77;
    char text[256];
    for (int b = 0; b < 256; b++) text[b] = (char)(unsigned char)b;
    CHECK(llm_byte_level_spell(&spelt, " e\n", 3));
    CHECK(strcmp(spelt.data, "\xC4\xA0"
                             "e\xC4\x8A") == 0);
    spelt.size = 0;
    CHECK(llm_byte_level_spell(&spelt, text, 256) && llm_unicode_valid(spelt.data, spelt.size));
    CHECK(llm_buffer_put(&bytes, "in front", 8));
    CHECK(llm_byte_level_read(&bytes, &bad, spelt.data, spelt.size) && bad == spelt.size);
    CHECK(bytes.size == 8 + 256 && memcmp(bytes.data, "in front", 8) == 0);
    CHECK(memcmp(bytes.data + 8, text, 256) == 0);
    CHECK(llm_byte_level_read(&bytes, &bad, "", 0) && bad == 0 && bytes.size == 8 + 256);
    llm_buffer_free(&spelt);
    llm_buffer_free(&bytes);
}

TEST(byte_level, "a character that spells no byte is pointed at") {
    static const struct {
        const char *text;
        size_t bad;
    } row[7] = {{"a\xC4", 1},        {"ab cd", 2},   {"\xC5\x84", 0},     {"ab\xC2\xAD", 2},
                {"\xC4\xA0\x7F", 2}, {"abc\xFF", 3}, {"a\xE4\xB8\xAD", 1}};
    for (size_t i = 0; i < 7; i++) {
        llm_buffer bytes = {NULL, 0, 0};
        size_t bad = 77, size = strlen(row[i].text);
        char *exact = (char *)test_memory(size, 1); /* reading on is noticed */
        memcpy(exact, row[i].text, size);
        CHECK(!llm_byte_level_read(&bytes, &bad, exact, size));
        CHECK(bad == row[i].bad);
        llm_buffer_free(&bytes);
    }
}

TEST(byte_level, "memory that runs out is told from a bad character") {
    llm_buffer out = {NULL, 0, 0};
    size_t bad = 77;
    byte_level_calls = 0;
    CHECK(!llm_byte_level_spell(&out, "a", 1));
    CHECK(!llm_byte_level_read(&out, &bad, "a", 1) && bad == 1);
    byte_level_calls = 1 << 30;
    llm_buffer_free(&out);
}

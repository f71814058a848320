/* @gguf_values */
#include "../test.h"

/* realloc that fails once, after a number of calls */
static int gguf_calls = 1 << 30;
static void *gguf_realloc(void *p, size_t size) {
    return gguf_calls-- != 0 ? realloc(p, size) : NULL;
}
#define realloc gguf_realloc

#include "../../llm.h"

static const unsigned char *gguf_file(size_t *size) {
    const float *x = golden_n(size, "file/data");
    unsigned char *data = (unsigned char *)test_memory(*size, 1);
    for (size_t i = 0; i < *size; i++) data[i] = (unsigned char)x[i];
    return data;
}

TEST(gguf_values, "the gguf package's file: every type, alone and in arrays") {
    static const char *const name[11] = {"uint8",  "int8",    "uint16",  "int16",
                                         "uint32", "int32",   "float32", "uint64",
                                         "int64",  "float64", "bool"};
    size_t size, length;
    llm_gguf_values g;
    const unsigned char *data = gguf_file(&size);
    CHECK(llm_gguf_values_read(&g, data, size, NULL));
    CHECK(g.version == 3 && g.tensors == 0 && g.at == size);
    CHECK(llm_gguf_values_size(LLM_GGUF_VALUES_STRING) == 0);
    CHECK(llm_gguf_values_size(LLM_GGUF_VALUES_ARRAY) == 0);
    CHECK(g.pair.size / sizeof(llm_gguf_values_pair) == 25); /* and general.architecture */
    for (size_t k = 0; k < 11; k++) {
        char key[24];
        const float *want = golden("%s/values", name[k]);
        snprintf(key, sizeof key, "one.%s", name[k]);
        const llm_gguf_values_pair *p = llm_gguf_values_find(&g, key);
        CHECK(p && p->count == 1 && !p->array);
        CHECK((float)llm_gguf_values_number(&g, p, 0, 7.25) == want[1]);
        CHECK(llm_gguf_values_number(&g, p, 1, 7.25) == 7.25);
        snprintf(key, sizeof key, "many.%s", name[k]);
        p = llm_gguf_values_find(&g, key);
        CHECK(p && p->count == 3 && p->array);
        for (size_t i = 0; i < 3; i++)
            CHECK((float)llm_gguf_values_number(&g, p, i, 7.25) == want[i]);
    }
    const llm_gguf_values_pair *p = llm_gguf_values_find(&g, "many.float64");
    CHECK(llm_gguf_values_number(&g, p, 1, 0.0) == -2.5e30);
    CHECK(llm_gguf_values_number(&g, llm_gguf_values_find(&g, "one.int64"), 0, 0.0) == -5.0);
    CHECK(llm_gguf_values_is(&g, "general.architecture", "llama"));
    CHECK(!llm_gguf_values_is(&g, "general.architecture", "llam"));
    CHECK(!llm_gguf_values_is(&g, "general.architecture", "llamb"));
    CHECK(!llm_gguf_values_is(&g, "general.architectur", "llama"));
    CHECK(!llm_gguf_values_is(&g, "one.uint8", "") && !llm_gguf_values_is(&g, "strings", ""));
    p = llm_gguf_values_find(&g, "a.string");
    size_t at = p->at;
    const char *text = llm_gguf_values_string(&g, &at, &length);
    CHECK(length == 9 && memcmp(text,
                                "gr\xC3\xBC\xC3\x9F"
                                "e\0!",
                                9) == 0);
    CHECK(llm_gguf_values_number(&g, p, 0, 7.25) == 7.25);
    CHECK(llm_gguf_values_number(&g, NULL, 0, 7.25) == 7.25);
    p = llm_gguf_values_find(&g, "strings");
    CHECK(p && p->array && p->count == 4 && p->type == LLM_GGUF_VALUES_STRING);
    const size_t want[4] = {0, 1, 300, 3};
    at = p->at;
    for (size_t i = 0; i < 4; i++) {
        text = llm_gguf_values_string(&g, &at, &length);
        CHECK(length == want[i]);
    }
    CHECK(memcmp(text, "\xE4\xB8\xAD", 3) == 0 && !llm_gguf_values_find(&g, "stringsx"));
    llm_gguf_values_free(&g);
    CHECK(!g.pair.data);
}

TEST(gguf_values, "every beginning of the file is refused, with what was expected") {
    size_t size;
    const unsigned char *data = gguf_file(&size);
    for (size_t cut = 0; cut < size; cut++) {
        unsigned char *exact = (unsigned char *)test_memory(cut, 1);
        llm_gguf_values g;
        llm_error error;
        if (cut > 0) memcpy(exact, data, cut);
        CHECK_FAILS(llm_gguf_values_read(&g, exact, cut, &error), error, "GGUF, byte ");
        CHECK(!g.pair.data);
    }
}

/* Reads from memory of exactly that size. */
static bool gguf_read(llm_gguf_values *g, const char *head, size_t head_size, llm_error *error) {
    unsigned char *exact = (unsigned char *)test_memory(head_size, 1);
    memcpy(exact, head, head_size);
    return llm_gguf_values_read(g, exact, head_size, error);
}
#define ZERO3 "\0\0\0"
#define ZERO7 "\0\0\0\0\0\0\0"
#define HEAD "GGUF\3" ZERO3 "\0" ZERO7 "\1" ZERO7
#define KEY "\2" ZERO7 "ab"

TEST(gguf_values, "what is wrong is said in one sentence") {
    static const struct {
        const char *data;
        size_t size;
        const char *error;
    } row[] = {
        {"GGUE", 4, "GGUF: the file does not begin with \"GGUF\""},
        {"GGUF\1" ZERO3, 8, "GGUF: found version 1, expected 2 or 3"},
        {"GGUF\4" ZERO3, 8, "GGUF: found version 4, expected 2 or 3"},
        {"GGUF" ZERO3 "\3", 8, "GGUF: found version 50331648 (big-endian?), expected 2 or 3"},
        {"GGUF" ZERO3 "\1", 8, "GGUF: found version 16777216 (big-endian?), expected 2 or 3"},
        {HEAD KEY "\15" ZERO3, 38, "GGUF, \"ab\": found type 13, expected one of 13"},
        {HEAD KEY "\11" ZERO3 "\11" ZERO3 "\0" ZERO7, 50,
         "found type 9, expected one of 13, and no"},
        {HEAD KEY "\11" ZERO3 "\4" ZERO3 "\2" ZERO7 "abcdefg", 57,
         "GGUF, byte 50: 2 items do not fit into 7 bytes"},
        {HEAD KEY "\11" ZERO3 "\4" ZERO3 "\0\0\0\0\0\0\0\100"
                  "abcdefg",
         57, "GGUF, byte 50: 4611686018427387904 items do not fit"},
        {HEAD KEY "\11" ZERO3 "\10" ZERO3 "\1" ZERO7 "\377\377\377\377\377\377\377\377", 58,
         "GGUF, byte 58: a string of 18446744073709551615 bytes, but 0 are left"},
        {HEAD KEY "\11" ZERO3 "\10" ZERO3 "\1" ZERO7 ZERO7, 57,
         "GGUF, byte 50: 1 items do not fit into 7 bytes"},
        {HEAD KEY "\11" ZERO3 "\10" ZERO3 "\2" ZERO7 "\3" ZERO7 "abcdefgh", 66,
         "GGUF, byte 61: the file ends, expected a length"},
        {HEAD "\377\377\377\377\377\377\377\377", 32, "a string of 18446744073709551615 bytes"},
        {HEAD KEY "\4" ZERO3 "abc", 41, "GGUF, byte 38: 1 items do not fit into 3 bytes"},
    };
    llm_gguf_values g;
    llm_error error;
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        CHECK_FAILS(gguf_read(&g, row[i].data, row[i].size, &error), error, row[i].error);
    }
    CHECK(gguf_read(&g, HEAD KEY "\11" ZERO3 "\10" ZERO3 "\2" ZERO7 "\1" ZERO7 "a\0" ZERO7 "t", 68,
                    &error));
    CHECK(g.at == 67); /* tensors' descriptions would follow */
    llm_gguf_values_free(&g);
    CHECK(gguf_read(&g, HEAD KEY "\0" ZERO3 "\7", 39, &error)); /* a byte at the very end */
    CHECK(llm_gguf_values_number(&g, llm_gguf_values_find(&g, "ab"), 0, 0.0) == 7.0);
    llm_gguf_values_free(&g);
    CHECK(gguf_read(&g, "GGUF\2" ZERO3 "\5" ZERO7 "\0" ZERO7, 24, &error));
    CHECK(g.version == 2 && g.tensors == 5 && g.at == 24 && !llm_gguf_values_find(&g, ""));
    llm_gguf_values_free(&g);
    char file[128] = HEAD "\106"; /* a key of 70 bytes: an error shows 60 of them */
    memset(file + 32, 'k', 70);
    file[102] = 13;
    CHECK_FAILS(gguf_read(&g, file, 106, &error), error, "kkk\": found type 13");
    CHECK(strspn(strchr(error.message, 'k'), "k") == 60);
    gguf_calls = 0;
    const bool ok = gguf_read(&g, HEAD KEY "\4" ZERO3 "abcd", 42, &error);
    gguf_calls = 1 << 30;
    CHECK(!ok && strstr(error.message, "GGUF: out of memory"));
}

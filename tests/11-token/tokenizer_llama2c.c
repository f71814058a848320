/* @tokenizer_llama2c */
#include "../test.h"
#include "../tiny_hostile.h"

/* realloc that fails once, after a number of calls */
static int bin_calls = 1 << 30;
static void *bin_realloc(void *p, size_t size) {
    return bin_calls-- != 0 ? realloc(p, size) : NULL;
}
#define realloc bin_realloc

#include "../../llm.h"

static bool bin_read(llm_spm *s, const void *data, size_t size, llm_error *error) {
    unsigned char *exact = (unsigned char *)test_memory(size, 1);
    if (size > 0) memcpy(exact, data, size);
    return llm_tokenizer_llama2c_read(s, exact, size, error);
}

static size_t bin_ids(uint32_t *out, const char *text, size_t size, const void *context) {
    int *ids;
    size_t count;
    llm_buffer back = {NULL, 0, 0};
    CHECK(llm_spm_encode((const llm_spm *)context, &ids, &count, text, size, NULL));
    CHECK(llm_spm_decode((const llm_spm *)context, &back, ids, count, NULL));
    size_t n = 0; /* U+2581 comes back as a space, all else as it was */
    for (size_t i = 0; i < size; n++) {
        const bool space = size - i >= 3 && memcmp(text + i, "\xE2\x96\x81", 3) == 0;
        CHECK(n < back.size && back.data[n] == (space ? ' ' : text[i]));
        i += space ? 3 : 1;
    }
    CHECK(n == back.size);
    for (size_t i = 0; i < count; i++) out[i] = (uint32_t)ids[i];
    free(ids);
    llm_buffer_free(&back);
    return count;
}

static unsigned char *bin_file(size_t *size) {
    *size = (size_t)*golden("file/size");
    const float *pair = golden("file/data");
    unsigned char *data = (unsigned char *)test_memory(*size, 1);
    for (size_t i = 0; i < *size; i++)
        data[i] = (unsigned char)((unsigned)pair[i / 2] >> (i % 2 ? 0 : 8));
    return data;
}

TEST(tokenizer_llama2c, "llama2.c's export of a model encodes as the model does; text comes back") {
    size_t size, n;
    llm_spm s;
    const unsigned char *data = bin_file(&size);
    CHECK(bin_read(&s, data, size, NULL));
    CHECK(s.model == LLM_SPM_BPE && s.prefix && !s.squeeze && s.bos == 1 && s.eos == 2);
    CHECK(llm_pieces_fallback(&s.pieces) && s.pieces.unknown == 0 && s.pieces.text.count == 420);
    CHECK(memcmp(llm_vocab_table_bytes(&s.pieces.text, 2, &n), "</s>", 4) == 0 && n == 4);
    CHECK(llm_pieces_get(&s.pieces, 258).kind == LLM_PIECES_BYTE && s.pieces.byte_id[255] == 258);
    CHECK(llm_pieces_get(&s.pieces, 259).kind == LLM_PIECES_NORMAL);
    tiny_hostile_check("model/ids", TINY_HOSTILE_VALID, bin_ids, &s);
    llm_spm_free(&s);
}

TEST(tokenizer_llama2c, "behind the place of the last byte, <0x41> is a piece like others") {
    llm_buffer file = {NULL, 0, 0};
    llm_spm s;
    CHECK(llm_buffer_put(&file, "\6\0\0\0", 4));
    for (int id = 0; id < 260; id++) {
        CHECK(llm_buffer_put(&file, "\0\0\0\0\6\0\0\0", 8));
        CHECK(id == 259 ? llm_buffer_print(&file, "<0x41>") : llm_buffer_print(&file, "%06d", id));
    }
    CHECK(bin_read(&s, file.data, file.size, NULL));
    CHECK(llm_pieces_get(&s.pieces, 259).kind == LLM_PIECES_NORMAL);
    llm_spm_free(&s);
    llm_buffer_free(&file);
}

#define P "\0\0\0\0" /* a score */
#define THREE P "\5\0\0\0<unk>" P "\5\0\0\0\n<s>\n" P "\6\0\0\0\n</s>\n"

TEST(tokenizer_llama2c, "small files, and what is wrong in one sentence") {
    static const struct {
        const char *data;
        size_t size;
        const char *error;
    } row[] = {
        {"\6\0\0", 3, "tokenizer.bin: 3 bytes, expected 4 or more"},
        {"\6\0\0\0", 4, "pieces: neither an unknown one"},
        {"\6\0\0\0" P "\5\0\0\0<unk>", 17, "tokenizer.bin: 1 pieces, expected 3 or more"},
        {"\6\0\0\0" P "\5\0\0\0<unk>" P "\1\0\0\0a", 26, "tokenizer.bin: 2 pieces, expected 3"},
        {"\6\0\0\0" THREE P "\1\0\0", 51,
         "tokenizer.bin, piece 3: 0 bytes, but 0 are left, longest 6"},
        {"\6\0\0\0" THREE P "\2\0\0\0", 52, "piece 3: 2 bytes, but 0 are left, longest 6"},
        {"\6\0\0\0" THREE P "\2\0\0\0a", 53, "piece 3: 2 bytes, but 1 are left, longest 6"},
        {"\6\0\0\0" THREE P "\7\0\0\0abcdefg", 59, "piece 3: 7 bytes, but 7 are left, longest 6"},
        {"\6\0\0\0" THREE P "\0\0\0\0", 52, "piece 3: expected a text"},
        {"\6\0\0\0" THREE "\0\0\200\177"
         "\1\0\0\0a",
         53, "piece 3: expected a text and a finite score"},
        {"\6\0\0\0" THREE P "\6\0\0\0<0xzz>", 58, "piece 3 is a byte: expected <0x00> to <0xFF>"},
        {"\6\0\0\0" THREE P "\1\0\0\0a" P "\1\0\0\0a", 62, "pieces 3 and 4 are the same"},
    };
    llm_error error;
    llm_spm s;
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        CHECK_FAILS(bin_read(&s, row[i].data, row[i].size, &error), error, row[i].error);
        CHECK(s.pieces.text.count == 0 && !s.pieces.one.data);
    }
    CHECK(bin_read(&s, "\6\0\0\0" THREE, 44, &error) && s.pieces.text.count == 3);
    llm_spm_free(&s);
    size_t n;
    CHECK(bin_read(&s, "\6\0\0\0" THREE "\0\0\300\277\2\0\0\0 a", 54, &error));
    CHECK(memcmp(llm_vocab_table_bytes(&s.pieces.text, 3, &n),
                 "\xE2\x96\x81"
                 "a",
                 4) == 0 &&
          n == 4);
    CHECK(llm_pieces_get(&s.pieces, 3).score == -1.5);
    llm_spm_free(&s);
    CHECK(bin_read(&s, "\6\0\0\0" THREE "\0\1\200\77\1\0\0\0a", 53, &error));
    CHECK(llm_pieces_get(&s.pieces, 3).score == 1.0 + 1.0 / 32768.0);
    llm_spm_free(&s);
    size_t size;
    const unsigned char *data = bin_file(&size);
    for (size_t cut = 4; cut < 44; cut++)
        if (bin_read(&s, data, cut, &error)) llm_spm_free(&s);
    bool ok = false;
    for (int calls = 0; calls < 200 && !ok; calls++) {
        unsigned char *exact = (unsigned char *)test_memory(54, 1);
        memcpy(exact, "\6\0\0\0" THREE "\0\0\300\277\2\0\0\0 a", 54);
        error.message[0] = 0;
        bin_calls = calls;
        ok = llm_tokenizer_llama2c_read(&s, exact, 54, &error);
        bin_calls = 1 << 30;
        CHECK(ok || strstr(error.message, "out of memory"));
    }
    CHECK(ok);
    llm_spm_free(&s);
}

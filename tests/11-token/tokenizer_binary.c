/* @tokenizer_binary */
#include "../test.h"

/* realloc that fails once, after a number of calls */
static int binary_calls = 1 << 30;
static void *binary_realloc(void *p, size_t size) {
    return binary_calls-- != 0 ? realloc(p, size) : NULL;
}
#define realloc binary_realloc

#include "../../llm.h"

/* One vocabulary: unknown, BOS, EOS, the bytes, and a few pieces; U+2581 is spelt _ here. */
static const char *const binary_more[] = {"_", "a", "b", "_a", "ab", "_ab", NULL};
enum { COUNT = 3 + 256 + 6 };

static size_t binary_piece(char *text, float *score, int *kind, size_t id) {
    static const char *const special[3] = {"<unk>", "<s>", "</s>"};
    char spelt[8];
    size_t n = 0;
    const char *from = id < 3 ? special[id] : id < 259 ? spelt : binary_more[id - 259];
    snprintf(spelt, sizeof spelt, "<0x%02X>", (unsigned)(id - 3) & 255u);
    *kind = id == 0 ? 2 : id < 3 ? 3 : id < 259 ? 6 : 1;
    *score = id < 259 ? 0.0f : -(float)(id - 259);
    for (; *from; from++) {
        const bool space = *from == '_' && id >= 259;
        memcpy(text + n, space ? "\xE2\x96\x81" : from, space ? 3 : 1);
        n += space ? 3 : 1;
    }
    return n;
}

static void binary_put(llm_buffer *out, uint64_t x, size_t bytes) {
    for (size_t i = 0; i < bytes; i++) {
        const char byte = (char)(unsigned char)(x >> 8 * i & 255);
        CHECK(llm_buffer_put(out, &byte, 1));
    }
}
static void binary_text(llm_buffer *out, const char *text, size_t size) {
    binary_put(out, size, 8);
    CHECK(llm_buffer_put(out, text, size));
}
static void binary_array(llm_buffer *out, const char *key, unsigned type) {
    binary_text(out, key, strlen(key));
    binary_put(out, 9, 4);
    binary_put(out, type, 4);
    binary_put(out, COUNT, 8);
}

/* The vocabulary as a file: 0 a SentencePiece model, 1 GGUF, 2 tokenizer.bin. */
static llm_buffer binary_file(int format) {
    llm_buffer out = {NULL, 0, 0};
    char text[32];
    float score;
    int kind;
    uint32_t bits;
    if (format == 1) {
        CHECK(llm_buffer_put(&out, "GGUF\3\0\0\0", 8));
        binary_put(&out, 0, 8);
        binary_put(&out, 4, 8);
        binary_text(&out, "tokenizer.ggml.model", 20);
        binary_put(&out, 8, 4);
        binary_text(&out, "llama", 5);
        binary_array(&out, "tokenizer.ggml.tokens", 8);
    }
    if (format == 2) binary_put(&out, 6, 4);
    for (size_t id = 0; id < COUNT; id++) {
        size_t n = binary_piece(text, &score, &kind, id);
        memcpy(&bits, &score, 4);
        if (format == 0) { /* {1 text, 2 score, 3 kind} */
            binary_put(&out, 0x0a, 1);
            binary_put(&out, n + 9, 1);
            binary_put(&out, 0x0a | n << 8, 2);
            CHECK(llm_buffer_put(&out, text, n));
            binary_put(&out, 0x15, 1);
            binary_put(&out, bits, 4);
            binary_put(&out, (uint64_t)kind << 8 | 0x18, 2);
        }
        if (format == 1) binary_text(&out, text, n);
        if (format == 2) {
            llm_buffer line = {NULL, 0, 0};
            CHECK(llm_pre_words_read(&line, text, n, false));
            if (id == 1 || id == 2) {
                line.size = 0;
                CHECK(llm_buffer_print(&line, id == 1 ? "\n<s>\n" : "\n</s>\n"));
            }
            binary_put(&out, bits, 4);
            binary_put(&out, line.size, 4);
            CHECK(llm_buffer_put(&out, line.data, line.size));
            llm_buffer_free(&line);
        }
    }
    if (format == 0) { /* BPE; no squeezing */
        CHECK(llm_buffer_put(&out, "\x12\x02\x18\x02\x1a\x02\x20\x00", 8));
    }
    if (format == 1) {
        binary_array(&out, "tokenizer.ggml.scores", 6);
        for (size_t id = 0; id < COUNT; id++) {
            binary_piece(text, &score, &kind, id);
            memcpy(&bits, &score, 4);
            binary_put(&out, bits, 4);
        }
        binary_array(&out, "tokenizer.ggml.token_type", 5);
        for (size_t id = 0; id < COUNT; id++) {
            binary_piece(text, &score, &kind, id);
            binary_put(&out, (uint64_t)kind, 4);
        }
    }
    return out;
}

TEST(tokenizer_binary,
     "one vocabulary through three formats: equal ids, control tokens, text back") {
    static const char *const text[7] = {
        "", "ab", "  a b", "<s>ab</s>", "\xC3\xA9 ab\n", "_\t  a", "<s> <s>aab "};
    static const char *const name[3] = {"tokenizer.model", "m.gguf", "tokenizer.bin"};
    llm_tokenizer t[3];
    llm_error error;
    for (int f = 0; f < 3; f++) {
        llm_buffer file = binary_file(f);
        CHECK(llm_file_write(test_path(name[f]), file.data, file.size, &error));
        CHECK(llm_tokenizer_load(&t[f], test_path(name[f]), &error));
        CHECK(t[f].pieces && t[f].vocab == COUNT && llm_tokenizer_id(&t[f], "<s>") == 1);
        CHECK(llm_tokenizer_id(&t[f], "</s>") == 2 && llm_tokenizer_id(&t[f], "<unk>") == -1);
        llm_buffer_free(&file);
    }
    for (size_t k = 0; k < 7; k++)
        for (int special = 0; special < 2; special++) {
            int *ids[3];
            size_t count[3];
            for (int f = 0; f < 3; f++) {
                llm_buffer back = {NULL, 0, 0};
                CHECK((special ? llm_tokenizer_encode_special : llm_tokenizer_encode)(
                    &t[f], &ids[f], &count[f], text[k], strlen(text[k]), &error));
                CHECK(count[f] == count[0]);
                for (size_t i = 0; i < count[f]; i++) CHECK(ids[f][i] == ids[0][i]);
                CHECK(llm_tokenizer_decode(&t[f], &back, ids[f], count[f], &error));
                CHECK(back.size == strlen(text[k]));
                CHECK(back.size == 0 || memcmp(back.data, text[k], back.size) == 0);
                llm_buffer_free(&back);
            }
            if (k == 1) CHECK(count[0] == 1 && ids[0][0] == 264);
            if (k == 3 && special)
                CHECK(count[0] == 3 && ids[0][0] == 1 && ids[0][1] == 264 && ids[0][2] == 2);
            if (k == 3 && !special) CHECK(count[0] > 6 && ids[0][0] == 259);
            for (int f = 0; f < 3; f++) free(ids[f]);
        }
    llm_buffer out = {NULL, 0, 0};
    const int ids[3] = {1, 2, COUNT}, minus[1] = {-1};
    CHECK(llm_tokenizer_decode(&t[0], &out, ids, 2, &error) && strcmp(out.data, "<s></s>") == 0);
    CHECK_FAILS(llm_tokenizer_decode(&t[0], &out, ids, 3, &error), error, "found id 265");
    CHECK_FAILS(llm_tokenizer_decode(&t[0], &out, minus, 1, &error), error, "found id -1");
    CHECK_FAILS(llm_tokenizer_save_json(&t[0], test_path("x.json"), &error), error,
                "only byte-level BPE is written");
    llm_buffer_free(&out);
    for (int f = 0; f < 3; f++) llm_tokenizer_free(&t[f]);
    CHECK(llm_tokenizer_load(&t[0], test_path(""), &error)); /* the directory's tokenizer.model */
    CHECK(t[0].pieces);
    llm_tokenizer_free(&t[0]);
}

TEST(tokenizer_binary, "ids may be many more than bytes: each space is three, and room is made") {
    llm_tokenizer t;
    llm_error error;
    llm_bpe none = llm_bpe_empty();
    llm_tokenizer_from_bpe(&t, &none, LLM_PRE_TOKENIZE_GPT2);
    t.spm = llm_spm_empty();
    t.spm.model = LLM_SPM_BPE, t.spm.squeeze = false;
    for (size_t id = 0; id < 259; id++) { /* bytes alone: U+2581 is three of them */
        char text[32];
        float score;
        int kind;
        const size_t n = binary_piece(text, &score, &kind, id);
        CHECK(llm_pieces_put(&t.spm.pieces, text, n, 0.0, (llm_pieces_kind)kind, &error));
    }
    CHECK(llm_pieces_ready(&t.spm.pieces, &error) && llm_tokenizer_binary_pieces(&t, &error));
    char text[300];
    for (size_t i = 0; i < 300; i += 4) memcpy(text + i, i % 8 == 0 ? "<s> " : "    ", 4);
    int *ids;
    size_t count;
    CHECK(llm_tokenizer_encode_special(&t, &ids, &count, text, 300, &error));
    /* 38 BOS; between them 5 spaces (1 behind the last) and one in front, each 3 */
    CHECK(count == 38 + 37 * 6 * 3 + 2 * 3);
    free(ids);
    llm_tokenizer_free(&t);
}

TEST(tokenizer_binary, "ranks are told by what they are not; broken files of each kind") {
    static const struct {
        const char *data;
        size_t size;
        const char *error;
    } row[] = {
        {"GGUF\1\0\0\0", 8, "x: GGUF: found version 1"},
        {"GGU", 3, "x: ranks, line 1"},
        {"\5\0\0\0\1", 5, "x: tokenizer.bin, piece 0"},
        {"\n\0\0\0\1", 5, "x: tokenizer.bin, piece 0"}, /* 10 is a longest piece too */
        {"\n\5\0\0\0", 5, "x: SentencePiece model, byte 0"},
        {"\n\0\1\0\0", 5, "x: piece 0: expected a text"}, /* a model with an empty piece */
        {"GGUF", 4, "x: GGUF, byte 4"},
        {"\6\0\0\0", 4, "x: pieces: neither an unknown one"},
        {"AA== 0\n", 7, "x: ranks: byte 0x01 has no rank"},
        {"\0", 1, "x: ranks, line 1: expected"},
        {"", 0, "x: JSON"},
        {"  \n", 3, "x: JSON"},
        {" {", 2, "x: JSON"},
    };
    llm_tokenizer t;
    llm_error error;
    const char *path = test_path("x");
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        CHECK(llm_file_write(path, row[i].data, row[i].size, &error));
        CHECK_FAILS(llm_tokenizer_load(&t, path, &error), error, row[i].error);
    }
    llm_bpe none = llm_bpe_empty(); /* without the loader, which takes blank files for JSON */
    unsigned char *one = (unsigned char *)test_memory(1, 1);
    one[0] = '\n';
    for (size_t size = 0; size < 2; size++) {
        const llm_file f = {size > 0 ? one : NULL, size, false};
        llm_tokenizer_from_bpe(&t, &none, LLM_PRE_TOKENIZE_GPT2);
        CHECK_FAILS(llm_tokenizer_binary_read(&t, &f, &error), error,
                    size > 0 ? "SentencePiece model" : "ranks");
        llm_tokenizer_free(&t);
    }
    llm_buffer file = {NULL, 0, 0};
    static const char letter[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (int b = 0; b < 256; b++)
        CHECK(llm_buffer_print(&file, "%c%c== %d\n", letter[b >> 2], letter[(b & 3) << 4], b));
    CHECK(llm_file_write(path, file.data, file.size, &error));
    CHECK(llm_tokenizer_load(&t, path, &error));
    CHECK(t.pattern == LLM_PRE_TOKENIZE_CL100K && t.vocab == 256 && !t.pieces);
    llm_tokenizer_free(&t);
    llm_buffer_free(&file);
}

TEST(tokenizer_binary, "id 0 may be a control token (Gemma's <pad>); memory may fail at its name") {
    llm_tokenizer t;
    llm_error error;
    llm_bpe none = llm_bpe_empty();
    llm_tokenizer_from_bpe(&t, &none, LLM_PRE_TOKENIZE_GPT2);
    t.spm = llm_spm_empty();
    CHECK(llm_pieces_put(&t.spm.pieces, "<pad>", 5, 0.0, LLM_PIECES_CONTROL, &error));
    CHECK(llm_pieces_put(&t.spm.pieces, "<unk>", 5, 0.0, LLM_PIECES_UNKNOWN, &error));
    CHECK(llm_pieces_put(&t.spm.pieces, "a", 1, 0.0, LLM_PIECES_NORMAL, &error));
    CHECK(llm_pieces_ready(&t.spm.pieces, &error) && llm_tokenizer_binary_pieces(&t, &error));
    CHECK(llm_tokenizer_id(&t, "<pad>") == 0 && llm_tokenizer_id(&t, "<unk>") == -1);
    static const int ids[3] = {0, 2, 0};
    int calls = 0;
    for (bool ok = false; !ok; calls++) {
        llm_buffer out = {NULL, 0, 0};
        binary_calls = calls;
        ok = llm_tokenizer_binary_decode(&t, &out, ids, 3, &error);
        CHECK(ok == (binary_calls >= 0)); /* whatever fails is told */
        binary_calls = 1 << 30;
        CHECK(ok ? strcmp(out.data, "<pad>a<pad>") == 0 : strstr(error.message, "memory") != NULL);
        llm_buffer_free(&out);
    }
    CHECK(calls > 1);
    llm_tokenizer_free(&t);
}

TEST(tokenizer_binary, "the patterns go with the numbers of ranks of the public files") {
    static const struct {
        size_t ranks;
        llm_pre_tokenize_kind pattern;
    } row[6] = {{100256, LLM_PRE_TOKENIZE_CL100K}, /* GPT-4, Llama 3, GPT-4o; then the bounds */
                {128000, LLM_PRE_TOKENIZE_LLAMA3}, {199998, LLM_PRE_TOKENIZE_O200K},
                {127999, LLM_PRE_TOKENIZE_CL100K}, {198999, LLM_PRE_TOKENIZE_LLAMA3},
                {199000, LLM_PRE_TOKENIZE_O200K}};
    for (size_t i = 0; i < 6; i++)
        CHECK(llm_tokenizer_binary_pattern(row[i].ranks) == row[i].pattern);
}

TEST(tokenizer_binary, "when memory is out, loading and using say so, and nothing leaks") {
    llm_error error;
    const char *path = test_path("m");
    for (int f = 0; f < 3; f++) {
        llm_buffer file = binary_file(f);
        CHECK(llm_file_write(path, file.data, file.size, &error));
        llm_buffer_free(&file);
        bool ok = false;
        for (int calls = 0; calls < 3000 && !ok; calls += 1 + calls / 40) {
            llm_tokenizer t;
            llm_buffer out = {NULL, 0, 0};
            int *ids = NULL;
            size_t count = 0;
            binary_calls = calls;
            ok = llm_tokenizer_load(&t, path, &error);
            if (ok) {
                ok = llm_tokenizer_encode_special(&t, &ids, &count, "<s>ab</s>", 9, &error) &&
                     llm_tokenizer_decode(&t, &out, ids, count, &error);
                binary_calls = 1 << 30;
                free(ids);
                llm_buffer_free(&out);
                llm_tokenizer_free(&t);
            }
            binary_calls = 1 << 30;
            CHECK(ok || strstr(error.message, "emory"));
        }
        CHECK(ok);
    }
}

/* @tokenizer_gguf */
#include "../test.h"
#include "../tiny_hostile.h"

/* realloc that fails once, after a number of calls */
static int gguf_calls = 1 << 30;
static void *gguf_realloc(void *p, size_t size) {
    return gguf_calls-- != 0 ? realloc(p, size) : NULL;
}
#define realloc gguf_realloc

#include "../../llm.h"

static llm_tokenizer gguf_empty(void) {
    llm_tokenizer t;
    llm_bpe none = llm_bpe_empty();
    llm_tokenizer_from_bpe(&t, &none, LLM_PRE_TOKENIZE_GPT2);
    return t;
}
static unsigned char *gguf_file(size_t *size, const char *name) {
    *size = (size_t)*golden("%s/size", name);
    const float *pair = golden("%s/data", name);
    unsigned char *data = (unsigned char *)test_memory(*size, 1);
    for (size_t i = 0; i < *size; i++)
        data[i] = (unsigned char)((unsigned)pair[i / 2] >> (i % 2 ? 0 : 8));
    return data;
}
static size_t gguf_ids(uint32_t *out, const char *text, size_t size, const void *context) {
    const llm_tokenizer *t = (const llm_tokenizer *)context;
    int *ids;
    size_t count;
    CHECK(llm_tokenizer_encode(t, &ids, &count, text, size, NULL));
    for (size_t i = 0; i < count; i++) out[i] = (uint32_t)ids[i];
    free(ids);
    return count;
}

TEST(tokenizer_gguf, "files of the gguf package: ids of tokenizers and of sentencepiece") {
    static const char *const name[3] = {"gpt2", "llama", "t5"};
    for (size_t k = 0; k < 3; k++) {
        char array[16];
        size_t size;
        const unsigned char *data = gguf_file(&size, name[k]);
        llm_tokenizer t = gguf_empty();
        llm_error error;
        CHECK(llm_tokenizer_gguf_read(&t, data, size, &error));
        CHECK(t.pieces == (k > 0));
        CHECK(k > 0 ? t.spm.pieces.text.count == 100 : t.bpe.token.count == 301);
        snprintf(array, sizeof array, "%s/ids", name[k]);
        tiny_hostile_check(array, k == 0 ? TINY_HOSTILE_KNOWN : 6, gguf_ids, &t);
        if (k == 0) {
            CHECK(t.vocab == 301 && t.bpe.merges == 44 && llm_tokenizer_id(&t, "<|end|>") == 300);
        } else {
            CHECK(t.spm.bos == 1 && t.spm.eos == 2 && t.spm.pad == -1);
            CHECK(t.spm.model == (k == 1 ? LLM_SPM_BPE : LLM_SPM_UNIGRAM));
            CHECK(t.spm.prefix == (k == 2) && t.spm.squeeze == (k == 2));
            CHECK((t.spm.rules.size > 0) == (k == 2) && t.spm.pieces.unknown == 0);
        }
        llm_tokenizer_free(&t);
        for (size_t cut = 0; cut < size; cut += 1 + size / 60) {
            unsigned char *exact = (unsigned char *)test_memory(cut, 1);
            if (cut > 0) memcpy(exact, data, cut);
            t = gguf_empty();
            CHECK_FAILS(llm_tokenizer_gguf_read(&t, exact, cut, &error), error, "GGUF, byte");
            llm_tokenizer_free(&t);
        }
    }
}

/* A file being put together. */
typedef struct {
    unsigned char data[16384];
    size_t size, pairs;
} gguf_maker;

static void gguf_number(gguf_maker *m, uint64_t x, size_t bytes) {
    for (size_t i = 0; i < bytes; i++) m->data[m->size++] = (unsigned char)(x >> 8 * i);
}
static void gguf_text(gguf_maker *m, const char *text) {
    gguf_number(m, strlen(text), 8);
    memcpy(m->data + m->size, text, strlen(text));
    m->size += strlen(text);
}
static void gguf_string(gguf_maker *m, const char *key, const char *text) {
    gguf_text(m, key);
    gguf_number(m, 8, 4);
    gguf_text(m, text);
    m->pairs++;
}
static void gguf_array(gguf_maker *m, const char *key, unsigned type, size_t count) {
    gguf_text(m, key);
    gguf_number(m, 9, 4);
    gguf_number(m, type, 4);
    gguf_number(m, count, 8);
    m->pairs++;
}
static void gguf_u32(gguf_maker *m, const char *key, uint32_t x) {
    gguf_text(m, key);
    gguf_number(m, 4, 4);
    gguf_number(m, x, 4);
    m->pairs++;
}
static gguf_maker gguf_begin(const char *model) {
    gguf_maker m;
    m.size = m.pairs = 0;
    gguf_number(&m, 0x46554747, 4);
    gguf_number(&m, 3, 4);
    gguf_number(&m, 0, 8);
    gguf_number(&m, 0, 8);
    if (model) gguf_string(&m, "tokenizer.ggml.model", model);
    return m;
}
/* The 256 bytes and `more` (NULL at the end) as tokens; the last one has this type. */
static void gguf_tokens(gguf_maker *m, int missing, const char *const *more, uint32_t last) {
    size_t extra = 0;
    while (more[extra]) extra++;
    gguf_array(m, "tokenizer.ggml.tokens", 8, 256 - (missing >= 0) + extra);
    for (int b = 0; b < 256; b++) {
        llm_buffer spelt = {NULL, 0, 0};
        const char byte = (char)(unsigned char)b;
        CHECK(llm_byte_level_spell(&spelt, &byte, 1));
        if (b != missing) gguf_text(m, spelt.data);
        llm_buffer_free(&spelt);
    }
    for (size_t i = 0; i < extra; i++) gguf_text(m, more[i]);
    gguf_array(m, "tokenizer.ggml.token_type", 4, 256 - (missing >= 0) + extra);
    for (size_t i = 0; i < 256 - (missing >= 0) + extra; i++)
        gguf_number(m, i + 1 == 256 - (missing >= 0) + extra ? last : 1, 4);
}
static bool gguf_read(llm_tokenizer *t, gguf_maker *m, llm_error *error) {
    unsigned char *exact = (unsigned char *)test_memory(m->size, 1);
    memcpy(exact, m->data, m->size);
    for (size_t i = 0; i < 8; i++) exact[16 + i] = (unsigned char)(m->pairs >> 8 * i);
    *t = gguf_empty();
    return llm_tokenizer_gguf_read(t, exact, m->size, error);
}

TEST(tokenizer_gguf, "patterns by name; user-defined tokens keep their text; wrong files") {
    static const char *const pre[4] = {"gpt-2", "llama-bpe", "qwen2", "gpt-4o"};
    static const llm_pre_tokenize_kind pattern[4] = {LLM_PRE_TOKENIZE_GPT2, LLM_PRE_TOKENIZE_LLAMA3,
                                                     LLM_PRE_TOKENIZE_QWEN2,
                                                     LLM_PRE_TOKENIZE_O200K};
    static const char *const more[3] = {"ab", "\n\n", NULL};
    llm_tokenizer t;
    llm_error error;
    for (size_t k = 0; k < 4; k++) {
        gguf_maker m = gguf_begin("gpt2");
        gguf_string(&m, "tokenizer.ggml.pre", pre[k]);
        gguf_tokens(&m, -1, more, 4);
        gguf_array(&m, "tokenizer.ggml.merges", 8, 1);
        gguf_text(&m, "a b");
        CHECK(gguf_read(&t, &m, &error));
        CHECK(t.pattern == pattern[k] && t.ignore_merges == (k == 1) && t.vocab == 258);
        int *ids;
        size_t count;
        CHECK(llm_tokenizer_encode(&t, &ids, &count, "ab\n\nb", 5, &error));
        CHECK(count == 3 && ids[0] == 256 && ids[1] == 257 && ids[2] == 'b');
        free(ids);
        llm_tokenizer_free(&t);
    }
    static const char *const want[14] = {
        "tokenizer.ggml.model: expected gpt2, llama, t5 or bert",
        "tokenizer.ggml.model: expected gpt2, llama, t5 or bert",
        "tokenizer.ggml.pre: \"\" is not supported",
        "tokenizer.ggml.pre: \"mine\" is not supported",
        "tokenizer.ggml.tokens: expected an array of strings",
        "tokenizer.ggml.merges: expected an array of strings",
        "tokens: byte 0x7a has no token",
        "merges, 0: expected \"left right\"",
        "merges, 0: \"xyz\" is not in the vocabulary",
        "tokenizer.ggml.tokens: expected an array of strings",
        "scores, 1: found inf, expected at most 1e30 in size",
        "piece 1 is of kind 0: expected 1 to 6",
        "pieces: neither an unknown one nor all 256 bytes",
        "normalizer_spec: precompiled_charsmap, 3 bytes, is broken"};
    for (size_t k = 0; k < 14; k++) {
        gguf_maker m = gguf_begin(k == 0 ? NULL : k == 1 ? "rwkv" : k < 9 ? "gpt2" : "llama");
        const float bad = k == 10 ? INFINITY : -1.0f;
        uint32_t bits;
        memcpy(&bits, &bad, sizeof bits);
        if (k == 3) gguf_string(&m, "tokenizer.ggml.pre", "mine");
        if (k >= 4 && k < 9) gguf_string(&m, "tokenizer.ggml.pre", "gpt-2");
        if (k == 4 || k == 9) gguf_string(&m, "tokenizer.ggml.tokens", "a");
        if (k >= 5 && k < 9) gguf_tokens(&m, k == 6 ? 'z' : -1, more, 3);
        if (k >= 6 && k < 9) {
            gguf_array(&m, "tokenizer.ggml.merges", 8, 1);
            gguf_text(&m, k == 7 ? " ab" : k == 8 ? "a xyz" : "a b");
        }
        if (k >= 10) {
            gguf_array(&m, "tokenizer.ggml.tokens", 8, 2);
            gguf_text(&m, "<unk>");
            gguf_text(&m, "a");
            gguf_array(&m, "tokenizer.ggml.scores", 6, 2);
            gguf_number(&m, 0, 4);
            gguf_number(&m, bits, 4);
            gguf_array(&m, "tokenizer.ggml.token_type", 5, 2);
            gguf_number(&m, k == 12 ? 1 : 2, 4);
            gguf_number(&m, k == 11 ? 7 : 1, 4);
        }
        if (k == 13) {
            gguf_array(&m, "tokenizer.ggml.precompiled_charsmap", 0, 3);
            gguf_number(&m, 0, 3);
        }
        CHECK_FAILS(gguf_read(&t, &m, &error), error, want[k]);
        llm_tokenizer_free(&t);
    }
    gguf_maker m = gguf_begin("llama"); /* no scores, no types; ids of other kinds do not count */
    gguf_array(&m, "tokenizer.ggml.tokens", 8, 3);
    gguf_text(&m, "<unk>");
    gguf_text(&m, "<s>");
    gguf_text(&m, "a");
    gguf_array(&m, "tokenizer.ggml.token_type", 5, 3);
    gguf_number(&m, 2, 4);
    gguf_number(&m, 3, 4);
    gguf_number(&m, 1, 4);
    gguf_u32(&m, "tokenizer.ggml.bos_token_id", 1);
    gguf_u32(&m, "tokenizer.ggml.eos_token_id", 2);
    gguf_u32(&m, "tokenizer.ggml.padding_token_id", 3);
    CHECK(gguf_read(&t, &m, &error));
    CHECK(t.spm.bos == 1 && t.spm.eos == -1 && t.spm.pad == -1 && t.spm.prefix && !t.spm.squeeze);
    llm_tokenizer_free(&t);
}

TEST(tokenizer_gguf, "byte-level: what is a control token, what is only added, and what is empty") {
    static const char *const more[4] = {"ab", "\n", "cd", NULL}, *const end[3] = {"", "ab", NULL};
    llm_tokenizer t;
    llm_error error;
    for (uint32_t kind = 1; kind < 7; kind++) {
        const bool added = kind == 3 || kind == 4;
        gguf_maker m = gguf_begin("gpt2");
        gguf_string(&m, "tokenizer.ggml.pre", "gpt-2");
        gguf_tokens(&m, -1, more + (added ? 0 : 2), kind); /* "cd" is of this kind */
        if (added) m.data[m.size - 8] = 4; /* and "\n", which is no spelling, of 4 */
        gguf_array(&m, "tokenizer.ggml.merges", 8, 0);
        CHECK(gguf_read(&t, &m, &error));
        const size_t count = added ? 259 : 257;
        CHECK(t.vocab == count && t.bpe.token.count == count);
        CHECK(llm_vocab_table_find(&t.bpe.token, "cd", 2) == (added ? -1 : 256));
        CHECK(llm_added_tokens_count(&t.added) == (added ? 2 : 0));
        for (size_t i = 0; i < (added ? 2u : 0u); i++) {
            const char *text;
            const llm_added_tokens_one *one = llm_added_tokens_get(&t.added, i, &text);
            CHECK(one->id == 257 + (int)i && one->special == (i == 1 && kind == 3));
            CHECK(!one->normalized);
        }
        llm_tokenizer_free(&t);
    }
    for (size_t k = 0; k < 3; k++) { /* a token of size 0: first, as a control token, and "" "" */
        gguf_maker m = gguf_begin("gpt2");
        gguf_string(&m, "tokenizer.ggml.pre", "gpt-2");
        if (k == 0) {
            gguf_array(&m, "tokenizer.ggml.tokens", 8, 1);
            gguf_text(&m, "");
        } else {
            gguf_tokens(&m, -1, end + (k == 2), 3);
        }
        if (k == 1) memset(m.data + m.size - 8, 3, 1);
        gguf_array(&m, "tokenizer.ggml.merges", 8, k == 2);
        if (k == 2) gguf_text(&m, "");
        if (k == 0) {
            CHECK_FAILS(gguf_read(&t, &m, &error), error, "vocab, id 0: \"\" is empty");
        } else if (k == 1) {
            CHECK(gguf_read(&t, &m, &error));
            CHECK(t.vocab == 258 && llm_added_tokens_count(&t.added) == 1);
        } else {
            CHECK_FAILS(gguf_read(&t, &m, &error), error, "merges, 0: expected \"left right\"");
        }
        llm_tokenizer_free(&t);
    }
    gguf_maker m = gguf_begin("gpt2");
    gguf_string(&m, "tokenizer.ggml.pre", "gpt-2");
    gguf_tokens(&m, 0, more + 2, 1);
    gguf_array(&m, "tokenizer.ggml.merges", 8, 0);
    CHECK_FAILS(gguf_read(&t, &m, &error), error, "tokens: byte 0x00 has no token");
    llm_tokenizer_free(&t);
}

/* Five pieces, of which as many as there are digits have a kind; scores of 8 bytes, or none. */
static gguf_maker gguf_pieces(const char *kinds, const double *score) {
    static const char *const text[5] = {"<s>", "<unk>", "a", "<pad>", "<0x61>"};
    gguf_maker m = gguf_begin("llama");
    gguf_array(&m, "tokenizer.ggml.tokens", 8, 5);
    for (size_t i = 0; i < 5; i++) gguf_text(&m, text[i]);
    gguf_array(&m, "tokenizer.ggml.token_type", 5, strlen(kinds));
    for (const char *k = kinds; *k; k++) gguf_number(&m, (uint64_t)(*k - '0'), 4);
    if (score) gguf_array(&m, "tokenizer.ggml.scores", 12, 5);
    for (size_t i = 0; score && i < 5; i++) {
        uint64_t bits;
        memcpy(&bits, score + i, sizeof bits);
        gguf_number(&m, bits, 8);
    }
    return m;
}

TEST(tokenizer_gguf, "pieces: kinds, scores up to their bound, ids of control pieces, defaults") {
    static const double large[5] = {0.0, 1e30, -1e30, -1.5, 0.0}, larger[5] = {0.0, 0.0, 1.5e30};
    llm_tokenizer t;
    llm_error error;
    for (size_t k = 0; k < 3; k++) { /* bos, eos or pad is piece 0, the others are not there */
        static const char *const key[3] = {"tokenizer.ggml.bos_token_id",
                                           "tokenizer.ggml.eos_token_id",
                                           "tokenizer.ggml.padding_token_id"};
        gguf_maker m = gguf_pieces("32136", k == 0 ? NULL : large);
        gguf_u32(&m, key[k], k == 2 ? 3 : 0);
        CHECK(gguf_read(&t, &m, &error));
        CHECK(t.spm.bos == (k == 0 ? 0 : -1) && t.spm.eos == (k == 1 ? 0 : -1));
        CHECK(t.spm.pad == (k == 2 ? 3 : -1));
        CHECK(t.spm.pieces.text.count == 5 && t.spm.pieces.unknown == 1);
        CHECK(t.spm.pieces.byte_id['a'] == 4);
        for (size_t i = 0; i < 5; i++)
            CHECK(llm_pieces_get(&t.spm.pieces, i).score == (k == 0 ? 0.0 : large[i]));
        llm_tokenizer_free(&t);
    }
    gguf_maker m = gguf_pieces("32", NULL); /* the other kinds are not there */
    CHECK(gguf_read(&t, &m, &error));
    for (size_t i = 2; i < 5; i++)
        CHECK(llm_pieces_get(&t.spm.pieces, i).kind == LLM_PIECES_NORMAL);
    llm_tokenizer_free(&t);
    m = gguf_pieces("32136", larger);
    CHECK_FAILS(gguf_read(&t, &m, &error), error, "scores, 2: found 1.5e+30, expected at most");
    llm_tokenizer_free(&t);
}

TEST(tokenizer_gguf, "a file of BERT's is read by @gguf_bert") {
    static const char *const token[3] = {"[UNK]", "\xE2\x96\x81run", "s"};
    llm_tokenizer t;
    llm_error error;
    int *ids;
    size_t count;
    gguf_maker m = gguf_begin("bert");
    gguf_array(&m, "tokenizer.ggml.tokens", 8, 3);
    for (size_t i = 0; i < 3; i++) gguf_text(&m, token[i]);
    gguf_array(&m, "tokenizer.ggml.token_type", 5, 1);
    gguf_number(&m, 3, 4);
    CHECK(gguf_read(&t, &m, &error) && t.parts && t.vocab == 3);
    CHECK(llm_tokenizer_encode(&t, &ids, &count, "Runs", 4, &error));
    CHECK(count == 2 && ids[0] == 1 && ids[1] == 2);
    free(ids);
    llm_tokenizer_free(&t);
}

TEST(tokenizer_gguf, "names of llama.cpp for patterns, and whether words are taken whole") {
    static const struct {
        const char *names;
        llm_pre_tokenize_kind pattern;
        bool whole;
    } row[5] = {{"gpt-2 phi-2 jina-v2-code roberta-bpe modern-bert mpt olmo a.x-4.0 exaone4",
                 LLM_PRE_TOKENIZE_GPT2, false},
                {"llama3 llama-v3 llama-bpe falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano",
                 LLM_PRE_TOKENIZE_LLAMA3, true},
                {"dbrx smaug-bpe glm4 chatglm-bpe", LLM_PRE_TOKENIZE_LLAMA3, false},
                {"qwen2 deepseek-r1-qwen megrez stablelm2 hunyuan solar-open grok-2",
                 LLM_PRE_TOKENIZE_QWEN2, false},
                {"gpt-4o llama4 kanana2 minimax-m2", LLM_PRE_TOKENIZE_O200K, false}};
    llm_tokenizer t;
    llm_error error;
    llm_gguf_values g;
    for (size_t i = 0; i < 5; i++)
        for (const char *s = row[i].names; *s;) {
            char name[32];
            const size_t n = strcspn(s, " ");
            snprintf(name, sizeof name, "%.*s", (int)n, s);
            gguf_maker m = gguf_begin("gpt2");
            gguf_string(&m, "tokenizer.ggml.pre", name);
            memcpy(m.data + 16, &m.pairs, sizeof m.pairs);
            t = gguf_empty();
            CHECK(llm_gguf_values_read(&g, m.data, m.size, &error));
            if (!llm_tokenizer_gguf_pattern(&t, &g, &error))
                test_fail(__FILE__, __LINE__, "%s: %s", name, error.message);
            CHECK(t.pattern == row[i].pattern && t.ignore_merges == row[i].whole);
            llm_gguf_values_free(&g);
            s += n + (s[n] == ' ');
        }
    static const char *const other[6] = {"",          "gpt",    "gpt-2 phi-2",
                                         "starcoder", " gpt-2", "deepseek-v3"};
    for (size_t i = 0; i < 6; i++) {
        gguf_maker m = gguf_begin("gpt2");
        gguf_string(&m, "tokenizer.ggml.pre", other[i]);
        CHECK_FAILS(gguf_read(&t, &m, &error), error,
                    "is not supported: expected one that cuts as gpt-2, llama-bpe, dbrx, qwen2 or");
        llm_tokenizer_free(&t);
    }
    char name[71], want[128]; /* a long name is cut off */
    memset(name, 'x', 70);
    name[70] = 0;
    snprintf(want, sizeof want, "tokenizer.ggml.pre: \"%.60s\" is not supported", name);
    gguf_maker m = gguf_begin("gpt2");
    gguf_string(&m, "tokenizer.ggml.pre", name);
    CHECK_FAILS(gguf_read(&t, &m, &error), error, want);
    llm_tokenizer_free(&t);
}

TEST(tokenizer_gguf, "when memory is out, it says so and nothing leaks") {
    static const char *const name[2] = {"gpt2", "t5"};
    for (size_t k = 0; k < 2; k++) {
        size_t size;
        const unsigned char *data = gguf_file(&size, name[k]);
        bool ok = false;
        for (int calls = 0; calls < 3000 && !ok; calls += 1 + calls / 20) {
            llm_tokenizer t = gguf_empty();
            llm_error error;
            error.message[0] = 0;
            gguf_calls = calls;
            ok = llm_tokenizer_gguf_read(&t, data, size, &error);
            gguf_calls = 1 << 30;
            CHECK(ok || strstr(error.message, "out of memory"));
            llm_tokenizer_free(&t);
        }
        CHECK(ok);
    }
}

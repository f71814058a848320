/* @spm */
#include "../test.h"
#include "../tiny_hostile.h"

/* malloc and its like that fail once, after a number of calls */
static int spm_calls = 1 << 30;
static void *spm_calloc(size_t n, size_t size) { return spm_calls-- != 0 ? calloc(n, size) : NULL; }
static void *spm_realloc(void *p, size_t size) {
    return spm_calls-- != 0 ? realloc(p, size) : NULL;
}
#define calloc spm_calloc
#define realloc spm_realloc

#include "../../llm.h"

#include "../tiny_spm.h"

static unsigned char *spm_bytes(size_t *size, const char *name) {
    *size = (size_t)*golden("%s/size", name);
    const float *pair = golden("%s/data", name);
    unsigned char *data = (unsigned char *)test_memory(*size, 1);
    for (size_t i = 0; i < *size; i++)
        data[i] = (unsigned char)((unsigned)pair[i / 2] >> (i % 2 ? 0 : 8));
    return data;
}

TEST(spm, "a trained model of Llama's kind: pieces, kinds, scores, ids and decoded text") {
    size_t size, n;
    llm_spm s;
    const unsigned char *data = spm_bytes(&size, "llama");
    CHECK(llm_spm_read(&s, data, size, NULL));
    const float *kind = golden_n(&n, "llama/kind"), *score = golden("llama/score");
    const float *special = golden("llama/special");
    CHECK(s.pieces.text.count == n && s.model == LLM_SPM_BPE && llm_pieces_fallback(&s.pieces));
    for (size_t i = 0; i < n; i++) {
        const llm_pieces_one one = llm_pieces_get(&s.pieces, i);
        CHECK((int)one.kind == (int)kind[i] && (float)one.score == score[i]);
    }
    CHECK(s.bos == (int)special[0] && s.eos == (int)special[1] && s.pad == (int)special[2]);
    CHECK(s.prefix && !s.squeeze && !s.suffix && s.rules.size == 0);
    tiny_hostile_check("llama/ids", TINY_HOSTILE_VALID, tiny_spm_ids, &s);
    tiny_hostile_check("llama/back", TINY_HOSTILE_VALID, tiny_spm_back, &s);
    llm_spm_free(&s);
    CHECK(!s.rules.data && s.pieces.text.count == 0);
}

/* A message being put together: fields by hand. */
typedef struct {
    unsigned char data[4096];
    size_t size;
} spm_message;

static void spm_varint(spm_message *m, uint64_t x) {
    for (; x >= 128; x >>= 7) m->data[m->size++] = (unsigned char)(x | 128);
    m->data[m->size++] = (unsigned char)x;
}
static void spm_number(spm_message *m, unsigned field, uint64_t x) {
    spm_varint(m, field * 8);
    spm_varint(m, x);
}
static void spm_put(spm_message *m, unsigned field, const void *data, size_t size) {
    spm_varint(m, field * 8 + 2);
    spm_varint(m, size);
    if (size > 0) memcpy(m->data + m->size, data, size);
    m->size += size;
}
static void spm_piece(spm_message *m, const char *text, float score, int kind) {
    spm_message one = {{0}, 0};
    spm_put(&one, 1, text, strlen(text));
    spm_varint(&one, 2 * 8 + 5);
    memcpy(one.data + one.size, &score, 4);
    one.size += 4;
    if (kind != 1) spm_number(&one, 3, (uint64_t)kind);
    spm_put(m, 1, one.data, one.size);
}
static spm_message spm_small(void) {
    spm_message m = {{0}, 0};
    spm_piece(&m, "<unk>", 0.0f, 2);
    spm_piece(&m, "<s>", 0.0f, 3);
    spm_piece(&m, "</s>", 0.0f, 3);
    spm_piece(&m, "a", -1.5f, 1);
    return m;
}
static bool spm_read(llm_spm *s, const spm_message *m, llm_error *error) {
    unsigned char *exact = (unsigned char *)test_memory(m->size, 1);
    memcpy(exact, m->data, m->size);
    return llm_spm_read(s, exact, m->size, error);
}

TEST(spm, "defaults of the schema, fields that nobody knows, and what each field sets") {
    llm_spm s;
    llm_error error;
    spm_message m = spm_small(), trainer = {{0}, 0}, normalizer = {{0}, 0};
    spm_number(&m, 99, 5);
    CHECK(spm_read(&s, &m, &error));
    CHECK(s.model == LLM_SPM_UNIGRAM && s.prefix && s.squeeze && !s.suffix && s.rules.size == 0);
    CHECK(s.bos == 1 && s.eos == 2 && s.pad == -1 && s.pieces.unknown == 0);
    CHECK(llm_pieces_get(&s.pieces, 3).score == -1.5 && s.pieces.trie.cells > 0);
    llm_spm_free(&s);

    spm_put(&trainer, 24, "x", 1); /* another wire */
    spm_number(&trainer, 3, 2);
    spm_number(&trainer, 24, 1);
    spm_number(&trainer, 41, 2);
    spm_number(&trainer, 42, 3);                    /* no control piece */
    spm_number(&trainer, 43, (uint64_t)(-1 + 0ll)); /* none */
    spm_put(&m, 2, trainer.data, trainer.size);
    spm_put(&normalizer, 1, "identity", 8);
    spm_put(&normalizer, 2, "", 0);
    spm_number(&normalizer, 3, 0);
    spm_number(&normalizer, 4, 0);
    spm_number(&normalizer, 5, 1);
    spm_put(&m, 3, normalizer.data, normalizer.size);
    CHECK(spm_read(&s, &m, &error));
    CHECK(s.model == LLM_SPM_BPE && !s.prefix && !s.squeeze && s.suffix && s.rules.size == 0);
    CHECK(s.bos == 2 && s.eos == -1 && s.pad == -1);
    llm_spm_free(&s);

    static const char rules[13] = {8, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0};
    normalizer.size = 0;
    spm_put(&normalizer, 2, rules, sizeof rules);
    spm_put(&m, 3, normalizer.data, normalizer.size);
    trainer.size = 0;
    spm_number(&trainer, 43, 2);
    spm_number(&trainer, 41, 4); /* beyond the pieces */
    spm_number(&trainer, 42, 0); /* the unknown one */
    spm_put(&m, 2, trainer.data, trainer.size);
    CHECK(spm_read(&s, &m, &error));
    CHECK(s.rules.size == 13 && memcmp(s.rules.data, rules, 13) == 0);
    CHECK(s.bos == -1 && s.eos == -1 && s.pad == 2);
    llm_spm_free(&s);
}

TEST(spm, "rules of every length; a piece without its parts; the last field counts, of its wire") {
    static const size_t unit_bytes[4] = {8, 0x108, 0x10108, 0x1000108};
    llm_error error;
    llm_spm s = llm_spm_empty();
    CHECK(s.pad == -1 && s.bos == 1 && s.eos == 2);
    for (size_t k = 0; k < 4; k++) {
        const size_t size = 4 + unit_bytes[k];
        unsigned char *rules = (unsigned char *)calloc(size + 1, 1);
        for (size_t i = 0; i < 4; i++) rules[i] = (unsigned char)(unit_bytes[k] >> 8 * i);
        CHECK(llm_spm_rules(&s, rules, size + 1, &error) && s.rules.size == size + 1);
        CHECK(llm_spm_rules(&s, rules, size, &error) && s.rules.size == size); /* no texts */
        CHECK_FAILS(llm_spm_rules(&s, rules, size - 1, &error), error, "is broken");
        free(rules);
    }
    s.suffix = true;
    llm_spm_free(&s);
    CHECK(!s.suffix);

    spm_message m = {{0}, 0}, one = {{0}, 0}, part = {{0}, 0};
    spm_piece(&m, "<s>", 0.0f, 3); /* id 0 */
    spm_piece(&m, "<unk>", 0.0f, 2);
    spm_put(&one, 1, "a", 1);
    spm_put(&m, 1, one.data, one.size); /* no score: 0 */
    spm_piece(&m, "b", 1e30f, 1);
    spm_number(&part, 24, 1);
    spm_number(&part, 43, (uint64_t)1 << 40);
    spm_put(&part, 24, "x", 1);
    spm_put(&m, 2, part.data, part.size);
    part.size = 0;
    spm_put(&part, 3, "x", 1);
    spm_put(&m, 3, part.data, part.size);
    CHECK(spm_read(&s, &m, &error));
    CHECK(s.suffix && s.prefix && s.pad == -1 && llm_pieces_get(&s.pieces, 2).score == 0.0);
    llm_spm_free(&s);
    one.size = 0;
    spm_number(&one, 3, 1); /* no text */
    spm_put(&m, 1, one.data, one.size);
    CHECK_FAILS(spm_read(&s, &m, &error), error, "piece 4: expected a text");
    for (uint64_t kind = 1; kind <= 4; kind++) {
        m = spm_small();
        part.size = 0;
        spm_number(&part, 3, kind);
        spm_put(&m, 2, part.data, part.size);
        CHECK(spm_read(&s, &m, &error) && s.model == (llm_spm_model)kind);
        llm_spm_free(&s);
    }
    m = spm_small();
    spm_piece(&m, "b", -1.5e30f, 1);
    CHECK_FAILS(spm_read(&s, &m, &error), error, "piece 4: found score -1.5e+30");
}

TEST(spm, "what is wrong is said in one sentence, and nothing is left") {
    llm_spm s;
    llm_error error;
    for (int i = 0; i < 17; i++) {
        static const char *const want[17] = {
            "trainer_spec: found model type 5, expected 1 to 4",
            "trainer_spec: found model type 0",
            "normalizer_spec: escape_whitespaces false is not supported",
            "normalizer_spec: precompiled_charsmap, 3 bytes, is broken",
            "normalizer_spec: precompiled_charsmap, 9 bytes, is broken",
            "normalizer_spec: precompiled_charsmap, 13 bytes, is broken",
            "normalizer_spec: precompiled_charsmap, 12 bytes, is broken",
            "piece 4 is of kind 0: expected 1 to 6",
            "piece 4 is of kind 0: expected 1 to 6",
            "pieces 3 and 4 are the same",
            "piece 4: found score inf, expected at most 1e30 in size",
            "piece, byte 0: expected wire type",
            "trainer_spec, byte 0: expected wire type",
            "normalizer_spec, byte 0: expected wire type",
            "SentencePiece model, byte",
            "pieces: neither an unknown one nor all 256 bytes",
            "normalizer_spec: precompiled_charsmap, 9 bytes, is broken"};
        static const char rules[5][14] = {{4, 0, 0},
                                          {0, 0, 0, 0, 1, 2, 3, 4, 0},
                                          {8, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9},
                                          {9, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8},
                                          {8, 0, 0, 0, 1, 2, 3, 4, 0}};
        static const size_t rules_size[5] = {3, 9, 13, 12, 9};
        spm_message m = spm_small(), part = {{0}, 0};
        if (i == 0 || i == 1) spm_number(&part, 3, i == 0 ? 5 : 0);
        if (i == 2) spm_number(&part, 5, 0);
        if (i >= 3 && i <= 6) spm_put(&part, 2, rules[i - 3], rules_size[i - 3]);
        if (i == 16) spm_put(&part, 2, rules[4], rules_size[4]);
        if (i == 12 || i == 13) spm_put(&part, 0, "", 0), part.data[0] = 0x0b;
        if (i == 7) spm_piece(&m, "b", 0.0f, 0);
        if (i == 8) spm_piece(&m, "b", 0.0f, 7);
        if (i == 9) spm_piece(&m, "a", 0.0f, 1);
        if (i == 10) spm_piece(&m, "b", INFINITY, 1);
        if (i == 11) spm_put(&m, 1, "\x0b", 1);
        if (i == 14) m.data[m.size++] = 0x0b;
        if (i == 15) m.size = 0;
        if (part.size > 0) spm_put(&m, i < 2 || i == 12 ? 2 : 3, part.data, part.size);
        CHECK_FAILS(spm_read(&s, &m, &error), error, want[i]);
        CHECK(s.pieces.text.count == 0 && !s.rules.data && !s.pieces.one.data);
    }
}

TEST(spm, "cut files are refused or read, and never more than that; out of memory is said") {
    size_t size;
    const unsigned char *data = spm_bytes(&size, "llama");
    llm_rng rng = llm_rng_seed(1);
    for (int i = 0; i < 60; i++) {
        const size_t cut = i < 20 ? (size_t)i : llm_rng_below(&rng, size);
        unsigned char *exact = (unsigned char *)test_memory(cut, 1);
        llm_spm s;
        llm_error error = {""};
        memcpy(exact, data, cut);
        if (llm_spm_read(&s, exact, cut, &error))
            llm_spm_free(&s);
        else
            CHECK(error.message[0]);
    }
    spm_message m = spm_small(), normalizer = {{0}, 0};
    spm_put(&normalizer, 2, "\4\0\0\0....\0", 9);
    spm_put(&m, 3, normalizer.data, normalizer.size);
    bool ok = false;
    int failed = 0;
    for (int calls = 0; calls < 200 && !ok; calls++) {
        llm_spm s;
        llm_error error;
        spm_message *copy = (spm_message *)test_memory(1, sizeof *copy);
        *copy = m;
        error.message[0] = 0;
        spm_calls = calls;
        ok = llm_spm_read(&s, copy->data, copy->size, &error);
        CHECK(ok == (spm_calls >= 0)); /* whatever fails is told */
        spm_calls = 1 << 30;
        CHECK(ok || strstr(error.message, "out of memory"));
        failed += !ok;
        llm_spm_free(&s);
    }
    CHECK(ok && failed > 5);
}

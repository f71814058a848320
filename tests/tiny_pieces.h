/* Scored pieces and texts from golden values, as tests/11-token/pieces.py writes them. */
#ifndef TINY_PIECES_H
#define TINY_PIECES_H

/* The pieces name/bytes, /size, /score, /kind, ready for use. */
TEST_UNUSED static llm_pieces tiny_pieces_golden(const char *name) {
    size_t n;
    llm_error error;
    llm_pieces p = llm_pieces_empty();
    const float *bytes = golden("%s/bytes", name), *size = golden_n(&n, "%s/size", name);
    const float *score = golden("%s/score", name), *kind = golden("%s/kind", name);
    for (size_t id = 0; id < n; id++) {
        char text[128];
        const size_t length = (size_t)size[id];
        CHECK(length < sizeof text);
        for (size_t i = 0; i < length; i++) text[i] = (char)(unsigned char)*bytes++;
        CHECK(llm_pieces_put(&p, text, length, (double)score[id], (llm_pieces_kind)(int)kind[id],
                             &error));
    }
    CHECK(llm_pieces_ready(&p, &error));
    return p;
}

/* Texts and the ids they should get: name/bytes, /size, /ids, /count. */
typedef struct {
    size_t texts, at, byte, id;
    const float *bytes, *size, *ids, *count;
} tiny_pieces_texts;
TEST_UNUSED static tiny_pieces_texts tiny_pieces_open(const char *name) {
    tiny_pieces_texts t;
    memset(&t, 0, sizeof t);
    t.bytes = golden("%s/bytes", name);
    t.size = golden_n(&t.texts, "%s/size", name);
    t.ids = golden("%s/ids", name);
    t.count = golden("%s/count", name);
    return t;
}

/* The next text in memory of exactly its size, and its ids; false behind the last one. */
TEST_UNUSED static bool tiny_pieces_next(tiny_pieces_texts *t, char **text, size_t *size, int **ids,
                                         size_t *count) {
    if (t->at == t->texts) return false;
    *size = (size_t)t->size[t->at];
    *count = (size_t)t->count[t->at++];
    *text = (char *)test_memory(*size, 1);
    *ids = as_ints(t->ids + t->id, *count);
    for (size_t i = 0; i < *size; i++) (*text)[i] = (char)(unsigned char)t->bytes[t->byte + i];
    t->byte += *size;
    t->id += *count;
    return true;
}

#endif

/* @tokenizer_vocab @tokenizer: a vocab.json, a byte 0, a merges.txt. */
#include "fuzz.h"

static void fuzz_text(llm_file *f, const unsigned char *data, size_t size) {
    f->data = (unsigned char *)malloc(size + 1); /* as llm_file_read gives it */
    FUZZ_CHECK(f->data);
    f->size = size;
    f->mapped = false;
    if (size > 0) memcpy(f->data, data, size);
    f->data[size] = 0;
}

static void fuzz(const unsigned char *data, size_t size) {
    static const char text[] =
        "The  cat's 12 naive \xc3\xa9t\xc3\xa9 <|endoftext|>\n\n\xf0\x9f\x98\x80 \xff";
    const unsigned char *zero = size > 0 ? (const unsigned char *)memchr(data, 0, size) : NULL;
    const size_t first = zero ? (size_t)(zero - data) : size, second = zero ? first + 1 : size;
    llm_tokenizer t;
    llm_bpe none = llm_bpe_empty();
    llm_file vocab, merges;
    llm_error e;
    e.message[0] = 0;
    fuzz_text(&vocab, data, first);
    fuzz_text(&merges, data + second, size - second);
    llm_tokenizer_from_bpe(&t, &none, LLM_PRE_TOKENIZE_GPT2);
    if (!llm_tokenizer_parse(&t, &vocab, &merges, &e)) {
        FUZZ_CHECK_SENTENCE(e);
    } else {
        int *ids = NULL;
        size_t count = 0;
        llm_buffer back = {NULL, 0, 0};
        e.message[0] = 0;
        const bool ok = llm_tokenizer_encode(&t, &ids, &count, text, sizeof text - 1, &e);
        if (!ok) FUZZ_CHECK_SENTENCE(e);
        if (ok) FUZZ_CHECK(llm_tokenizer_decode(&t, &back, ids, count, &e));
        if (ok) free(ids);
        llm_buffer_free(&back);
    }
    llm_tokenizer_free(&t);
    llm_file_free(&vocab);
    llm_file_free(&merges);
}

/* @tokenizer_ranks: an accepted rank file encodes any text, and decodes it to what it was. */
#include "fuzz.h"

static void fuzz(const unsigned char *data, size_t size) {
    static const char text[] = "abcab  the\n\xc3\xa9 \xff\x00";
    llm_tokenizer t;
    llm_bpe none = llm_bpe_empty();
    llm_error e;
    e.message[0] = 0;
    llm_tokenizer_from_bpe(&t, &none, LLM_PRE_TOKENIZE_CL100K);
    if (!llm_tokenizer_ranks_read(&t, (const char *)data, size, &e)) {
        FUZZ_CHECK_SENTENCE(e);
    } else {
        int *ids = NULL;
        size_t count = 0;
        llm_buffer back = {NULL, 0, 0};
        FUZZ_CHECK(llm_tokenizer_encode(&t, &ids, &count, text, sizeof text - 1, &e));
        for (size_t i = 0; i < count; i++) FUZZ_CHECK(ids[i] >= 0 && (size_t)ids[i] < t.vocab);
        FUZZ_CHECK(llm_tokenizer_decode(&t, &back, ids, count, &e));
        FUZZ_CHECK(back.size == sizeof text - 1 && memcmp(back.data, text, back.size) == 0);
        free(ids);
        llm_buffer_free(&back);
    }
    llm_tokenizer_free(&t);
}

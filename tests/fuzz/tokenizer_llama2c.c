/* @tokenizer_llama2c: an accepted file encodes any text to its ids, and decodes them. */
#include "fuzz.h"

static void fuzz(const unsigned char *data, size_t size) {
    static const char text[] = " a A aa\xc3\xa9\xff";
    llm_spm s;
    llm_error e;
    e.message[0] = 0;
    if (!llm_tokenizer_llama2c_read(&s, data, size, &e)) {
        FUZZ_CHECK_SENTENCE(e);
        return;
    }
    int *ids = NULL;
    size_t count = 0;
    llm_buffer back = {NULL, 0, 0};
    FUZZ_CHECK(llm_spm_encode(&s, &ids, &count, text, sizeof text - 1, &e));
    for (size_t i = 0; i < count; i++)
        FUZZ_CHECK(ids[i] >= 0 && (size_t)ids[i] < s.pieces.text.count);
    FUZZ_CHECK(llm_spm_decode(&s, &back, ids, count, &e));
    free(ids);
    llm_buffer_free(&back);
    llm_spm_free(&s);
}

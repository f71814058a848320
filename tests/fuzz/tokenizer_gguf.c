/* @tokenizer_gguf @tokenizer_binary: an accepted file encodes any text, and decodes it. */
#include "fuzz.h"

static void fuzz(const unsigned char *data, size_t size) {
    static const char text[] = "<s> a ab</s>  \xe2\x96\x81\xc3\xa9 b\xff";
    llm_tokenizer t;
    llm_bpe none = llm_bpe_empty();
    llm_error e;
    llm_file file = {NULL, size, false};
    file.data = (unsigned char *)malloc(size + 1); /* as llm_file_read gives it */
    FUZZ_CHECK(file.data);
    if (size > 0) memcpy(file.data, data, size);
    file.data[size] = 0;
    e.message[0] = 0;
    llm_tokenizer_from_bpe(&t, &none, LLM_PRE_TOKENIZE_GPT2);
    if (!llm_tokenizer_binary_read(&t, &file, &e)) {
        FUZZ_CHECK_SENTENCE(e);
    } else {
        int *ids = NULL;
        size_t count = 0;
        llm_buffer back = {NULL, 0, 0};
        FUZZ_CHECK(llm_tokenizer_encode_special(&t, &ids, &count, text, sizeof text - 1, &e));
        FUZZ_CHECK(llm_tokenizer_decode(&t, &back, ids, count, &e));
        free(ids);
        llm_buffer_free(&back);
    }
    llm_tokenizer_free(&t);
    llm_file_free(&file);
}

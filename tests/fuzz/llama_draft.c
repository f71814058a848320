/* @llama_draft @tokenizer: two tokenizer.json with a byte 0 between them. Whether their ids mean
 * the same does not depend on which of the two is the draft. */
#include "fuzz.h"

static bool parse(llm_tokenizer *t, const unsigned char *data, size_t size) {
    llm_file file = {NULL, size, false};
    llm_bpe none = llm_bpe_empty();
    llm_error e;
    e.message[0] = 0;
    file.data = (unsigned char *)malloc(size + 1); /* as llm_file_read gives it */
    FUZZ_CHECK(file.data);
    if (size > 0) memcpy(file.data, data, size);
    file.data[size] = 0;
    llm_tokenizer_from_bpe(t, &none, LLM_PRE_TOKENIZE_GPT2);
    const bool ok = llm_tokenizer_parse(t, &file, NULL, &e);
    if (!ok) FUZZ_CHECK_SENTENCE(e);
    llm_file_free(&file);
    return ok;
}

static void fuzz(const unsigned char *data, size_t size) {
    const unsigned char *zero = size > 0 ? (const unsigned char *)memchr(data, 0, size) : NULL;
    const size_t first = zero ? (size_t)(zero - data) : size, second = zero ? first + 1 : size;
    llm_tokenizer a, b;
    llm_error e;
    e.message[0] = 0;
    const bool one = parse(&a, data, first), two = parse(&b, data + second, size - second);
    if (one && two) {
        const bool same = llm_llama_draft_fits(&a, &b, &e);
        if (!same) FUZZ_CHECK_SENTENCE(e);
        FUZZ_CHECK(llm_llama_draft_fits(&b, &a, &e) == same);
        FUZZ_CHECK(llm_llama_draft_fits(&a, &a, &e));
    }
    llm_tokenizer_free(&a);
    llm_tokenizer_free(&b);
}

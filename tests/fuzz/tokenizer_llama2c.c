/* @tokenizer_llama2c: an accepted file encodes any text to its ids, and decodes them. */
#include "fuzz.h"
#include "spm_model.h"

static void fuzz(const unsigned char *data, size_t size) {
    static const char text[] = " a A aa\xc3\xa9\xff";
    llm_spm s;
    llm_error e;
    e.message[0] = 0;
    if (llm_tokenizer_llama2c_read(&s, data, size, &e))
        fuzz_spm_model(&s, text, sizeof text - 1);
    else
        FUZZ_CHECK_SENTENCE(e);
}

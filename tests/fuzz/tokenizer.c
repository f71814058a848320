/* @tokenizer_json @tokenizer: an accepted tokenizer.json encodes anything or says why not, and what
 * it encodes it decodes. */
#include "fuzz.h"

static void fuzz(const unsigned char *data, size_t size) {
    static const char text[] =
        "The  cat's 12 naive \xc3\xa9t\xc3\xa9 <|endoftext|>\n\n\xf0\x9f\x98\x80 \xff";
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
    if (!llm_tokenizer_parse(&t, &file, NULL, &e))
        FUZZ_CHECK_SENTENCE(e);
    else
        for (int special = 0; special < 2; special++) {
            int *ids = NULL;
            size_t count = 0;
            llm_buffer back = {NULL, 0, 0};
            e.message[0] = 0;
            const bool ok = (special ? llm_tokenizer_encode_special : llm_tokenizer_encode)(
                &t, &ids, &count, text, sizeof text - 1, &e);
            if (!ok) FUZZ_CHECK_SENTENCE(e);
            for (size_t i = 0; ok && i < count; i++) FUZZ_CHECK(ids[i] >= 0);
            if (ok) llm_tokenizer_decode(&t, &back, ids, count, &e);
            if (ok) free(ids);
            llm_buffer_free(&back);
        }
    llm_tokenizer_free(&t);
    llm_file_free(&file);
}

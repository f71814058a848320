/* @gguf_values: keys, strings and numbers of an accepted header lie within the file. */
#include "fuzz.h"

static void fuzz(const unsigned char *data, size_t size) {
    llm_gguf_values g;
    llm_error e;
    e.message[0] = 0;
    if (!llm_gguf_values_read(&g, data, size, &e)) {
        FUZZ_CHECK_SENTENCE(e);
        return;
    }
    FUZZ_CHECK(g.at <= size);
    const llm_gguf_values_pair *p = (const llm_gguf_values_pair *)(const void *)g.pair.data;
    unsigned sum = 0; /* reads every byte that a user of it might */
    for (size_t k = 0; k < g.pair.size / sizeof *p; k++) {
        for (size_t i = 0; i < p[k].key_size; i++) sum += data[p[k].key + i];
        size_t at = p[k].at, length;
        for (size_t i = 0; i < p[k].count; i++) {
            if (p[k].type == LLM_GGUF_VALUES_STRING) {
                const char *text = llm_gguf_values_string(&g, &at, &length);
                for (size_t b = 0; b < length; b++) sum += (unsigned char)text[b];
            } else {
                const double x = llm_gguf_values_number(&g, &p[k], i, 0.0);
                sum += x > 0.0;
            }
        }
        FUZZ_CHECK(at <= g.at);
    }
    FUZZ_CHECK(sum < UINT_MAX); /* so that it is used */
    llm_gguf_values_find(&g, "tokenizer.ggml.model");
    llm_gguf_values_free(&g);
}

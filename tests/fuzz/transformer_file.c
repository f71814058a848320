/* @transformer_file @t5_file @bert_file: a config.json, a byte 0, a model.safetensors, as a
 * directory. */
#include "fuzz.h"

static void fuzz(const unsigned char *data, size_t size) {
    const unsigned char *zero = size > 0 ? (const unsigned char *)memchr(data, 0, size) : NULL;
    const size_t first = zero ? (size_t)(zero - data) : size, second = zero ? first + 1 : size;
    llm_t5_file t5;
    llm_bert_file bert;
    llm_error e;
    e.message[0] = 0;
    fuzz_file("config.json", data, first);
    fuzz_file("model.safetensors", data + second, size - second);
    if (llm_t5_file_open(&t5, fuzz_directory(), &e)) {
        const size_t n = llm_transformer_count(&t5.shape);
        FUZZ_CHECK(t5.weights.decoder.norm >= t5.flat && t5.weights.decoder.norm < t5.flat + n);
        llm_t5_file_close(&t5);
    } else {
        FUZZ_CHECK_SENTENCE(e);
    }
    e.message[0] = 0;
    if (llm_bert_file_open(&bert, fuzz_directory(), &e)) {
        FUZZ_CHECK(bert.weights.word == bert.flat &&
                   (!bert.has_head || bert.head.dense == bert.more));
        llm_bert_file_close(&bert);
    } else {
        FUZZ_CHECK_SENTENCE(e);
    }
}

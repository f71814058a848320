/* @gpt2_config @gpt2_file @llama: a config.json, a byte 0, a model.safetensors, as a directory, to
 * be trained and to write two tokens. */
#include "fuzz.h"

static void write_two(void) {
    llm_llama m;
    llm_error e;
    e.message[0] = 0;
    if (!llm_llama_file_open(&m.file, fuzz_directory(), &e)) {
        FUZZ_CHECK_SENTENCE(e);
        return;
    }
    const size_t context = m.file.config.context < 2 ? 1 : 2;
    const int ids[2] = {0, (int)m.file.config.vocab - 1};
    if (llm_llama_create(&m, context, 2, &e)) {
        llm_llama_forward(&m, ids, context);
        llm_arena_destroy(&m.memory);
    }
    llm_llama_file_close(&m.file);
}

static void fuzz(const unsigned char *data, size_t size) {
    const unsigned char *zero = size > 0 ? (const unsigned char *)memchr(data, 0, size) : NULL;
    const size_t first = zero ? (size_t)(zero - data) : size, second = zero ? first + 1 : size;
    llm_gpt2 g;
    llm_error e;
    e.message[0] = 0;
    fuzz_file("config.json", data, first);
    fuzz_file("model.safetensors", data + second, size - second);
    write_two();
    if (!llm_gpt2_load(&g, fuzz_directory(), 1, 0, &e)) {
        FUZZ_CHECK_SENTENCE(e);
        return;
    }
    const int ids[2] = {0, (int)g.config.vocab - 1};
    const size_t T = g.config.context < 2 ? 1 : 2;
    llm_gpt2_forward(&g, ids, ids, 1, T);
    llm_gpt2_destroy(&g);
}

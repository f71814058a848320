/* @llama_config @llama_gguf @llama_file @llama: settings in JSON, or a model in GGUF, which runs
 * two tokens if it is accepted. */
#include "fuzz.h"

static void fuzz_config(const unsigned char *data, size_t size) {
    llm_json j;
    llm_llama_config c;
    llm_error e;
    e.message[0] = 0;
    if (!llm_json_parse(&j, (const char *)data, size, &e)) return;
    memset(&c, 0, sizeof c);
    if (llm_llama_config_read(&c, &j, &e)) {
        FUZZ_CHECK(c.vocab > 0 && c.heads > 0 && c.head > 0 && c.layers > 0 && c.width > 0);
        FUZZ_CHECK(c.heads % c.kv_heads == 0);
        FUZZ_CHECK(c.family == LLM_LLAMA_CONFIG_GPT2 || (c.head % 2 == 0 && c.rope.theta > 1.0));
        FUZZ_CHECK(c.vocab <= 1 << 24 && c.width <= 1 << 16 && c.hidden <= 1 << 20);
    } else {
        FUZZ_CHECK_SENTENCE(e);
    }
    llm_json_free(&j);
}

static void fuzz(const unsigned char *data, size_t size) {
    llm_llama m;
    llm_llama_file *const f = &m.file;
    llm_error e;
    e.message[0] = 0;
    if (size > 0 && data[0] == '{') {
        fuzz_config(data, size);
        return;
    }
    memset(&m, 0, sizeof m);
    f->is_gguf = true;
    f->gguf.file.data = (unsigned char *)malloc(size > 0 ? size : 1);
    f->gguf.file.size = size;
    FUZZ_CHECK(f->gguf.file.data);
    if (size > 0) memcpy(f->gguf.file.data, data, size);
    if (llm_gguf_file_check(&f->gguf, &e) && llm_llama_gguf_read(&f->config, &f->gguf, &e) &&
        llm_llama_file_bind(f, &e)) {
        const int ids[2] = {0, (int)f->config.vocab - 1};
        if (llm_llama_create(&m, 2, 2, &e)) {
            llm_llama_forward(&m, ids, 2);
            llm_arena_destroy(&m.memory);
        }
    } else {
        FUZZ_CHECK_SENTENCE(e);
    }
    llm_llama_file_close(f);
}

/* @llama_names */
#include "../test.h"

#include "../../llm.h"

#include "../tiny_llama.h"

TEST(llama_names, "the parts of six families are transformers' tensors, each once, in their "
                  "shapes, and so in GGUF") {
    static const struct {
        const char *name;
        llm_llama_config_family family;
        size_t head;
    } families[6] = {
        {"llama", LLM_LLAMA_CONFIG_LLAMA, 4},   {"mistral", LLM_LLAMA_CONFIG_MISTRAL, 4},
        {"qwen2", LLM_LLAMA_CONFIG_QWEN2, 4},   {"qwen3", LLM_LLAMA_CONFIG_QWEN3, 8},
        {"gemma2", LLM_LLAMA_CONFIG_GEMMA2, 8}, {"gpt2", LLM_LLAMA_CONFIG_GPT2, 4}};
    for (size_t f = 0; f < 6; f++) {
        tiny_llama tiny;
        llm_llama_config c;
        memset(&c, 0, sizeof c);
        c.family = families[f].family, c.head = families[f].head;
        c.width = 16, c.hidden = 24, c.heads = 4, c.kv_heads = f < 5 ? 2 : 4;
        tiny_llama_make(&tiny, families[f].name, families[f].head);
        const char *prefix = f < 5 ? "" : "transformer.",
                   *layer = f < 5 ? "model.layers.1." : "h.1.";
        size_t layers = 0, parts = 0, thirds = 0;
        for (size_t i = 0; i < tiny.count; i++) {
            const tiny_llama_tensor *t = &tiny.t[i];
            const char *short_name = t->name + strlen(prefix);
            if (strncmp(short_name, layer, strlen(layer)) != 0) continue;
            layers++;
            for (int p = 0; p < LLM_LLAMA_NAMES_PARTS; p++) {
                char name[80], gguf[80];
                size_t rows, columns;
                llm_llama_names_shape(&rows, &columns, (llm_llama_names_part)p, &c);
                llm_llama_names_write(name, false, 1, (llm_llama_names_part)p, &c);
                llm_llama_names_write(gguf, true, 1, (llm_llama_names_part)p, &c);
                if (rows == 0 || strcmp(name, short_name) != 0) continue;
                const int third = llm_llama_names_third((llm_llama_names_part)p, &c);
                const bool inputs = f == 5 && columns > 0; /* are rows */
                CHECK(third == -1 || (f == 5 && third == (int)(thirds % 3)));
                thirds += third >= 0;
                rows *= third < 0 ? 1 : 3;
                CHECK((inputs ? columns : rows) == t->rows);
                CHECK((inputs ? rows : columns) == t->columns);
                CHECK(strcmp(gguf, tiny_llama_gguf_name(t->name, f == 4)) == 0);
                CHECK((p < LLM_LLAMA_NAMES_MATRICES) == (columns > 0));
                parts++;
            }
        }
        CHECK(thirds == (f == 5 ? 6 : 0));
        CHECK(parts == layers + thirds / 3 * 2 && layers >= 9);
        size_t wanted = 0;
        for (int p = 0; p < LLM_LLAMA_NAMES_PARTS; p++) {
            size_t rows, columns;
            llm_llama_names_shape(&rows, &columns, (llm_llama_names_part)p, &c);
            wanted += rows > 0;
        }
        CHECK(wanted == parts);
    }
}

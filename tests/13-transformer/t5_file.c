/* @t5_file */
#include "../test.h"

#include "../../llm.h"

#include "../arena.h"
#include "../tiny_transformer.h"

enum { B = 2, S = 5, T = 4, V = 7, LONG = 50 };
static const char *const version[2] = {"v10", "v11"};
static const int source[B * S] = {2, 5, 3, 4, 6, 4, 2, 6, 0, 0};
static const int ids[B * T] = {0, 3, 2, 4, 0, 5, 2, 6};

static llm_transformer_config shape(size_t k) {
    llm_transformer_config c = tiny_transformer_of(3);
    if (k == 1) c.encoder = 2, c.decoder = 1, c.gated = true, c.tied = false;
    return c;
}
static const char *directory(size_t k, const char *name) {
    const llm_transformer_config c = shape(k);
    const size_t n = llm_transformer_count(&c);
    size_t size;
    uint32_t state = 1;
    float *flat = floats(n), *text = golden_n(&size, "%s/config", version[k]);
    char *config = (char *)test_memory(size + 1, 1);
    for (size_t i = 0; i < size; i++) config[i] = (char)text[i];
    llm_arena arena = test_arena(1 << 14);
    llm_transformer_weights w;
    tiny_transformer_numbers(flat, n, &state);
    llm_transformer_weights_bind(&w, flat, &c, &arena);
    tiny_transformer_gains(&w, &c);
    return tiny_transformer_save(name, config, &c, flat, "", NULL, 0);
}

TEST(t5_file, "from its files T5 gives transformers' logits, in @t5 and in @transformer_model") {
    for (size_t k = 0; k < 2; k++) {
        llm_t5_file m;
        llm_error e;
        llm_arena arena = test_arena(1 << 18);
        CHECK(llm_t5_file_open(&m, directory(k, "in"), &e));
        CHECK(m.config.encoder.gated == (k == 1) && m.config.tied == (k == 0));
        CHECK(m.memory.size - m.memory.used < 4 * 64); /* four lists, each rounded up */
        CHECK(m.config.encoder.layers == 1 + k && m.config.decoder.layers == 2 - k);
        bool *hidden;
        llm_t5_acts a;
        int shifted[B * T];
        memcpy(shifted, ids, sizeof ids);
        const float *mem =
            llm_t5_encode(&a.encoder, &hidden, source, B, S, &m.weights, &m.config, &arena);
        a.shifted = shifted;
        llm_t5_decode(&a, mem, hidden, B, S, T, &m.weights, &m.config, &arena);
        CHECK_GOLDEN(a.logits, B * T * V, 1e-5f, "%s/logits", version[k]);
        llm_transformer_model_text text = {B, S, T, source, NULL, hidden, ids};
        llm_transformer_model_acts b;
        llm_transformer_model_forward(&b, &text, &m.all, &m.shape, &arena);
        llm_transformer_model_loss(&b, ids, &m.all, &m.shape, &arena);
        CHECK_GOLDEN(b.logits, B * T * V, 1e-5f, "%s/logits", version[k]);
        llm_t5_file_close(&m);
    }
}

TEST(t5_file, "fifty tokens written, with a cache and without, are transformers'") {
    for (size_t k = 0; k < 2; k++) {
        llm_t5_file m;
        llm_error e;
        llm_arena arena = test_arena(1 << 21);
        int got[B * LONG];
        const int *want = as_ints(golden("%s/text", version[k]), B * LONG);
        CHECK(llm_t5_file_open(&m, directory(k, "in"), &e));
        llm_t5_step_generate(got, source, B, S, LONG, -1, &m.weights, &m.config, &arena);
        CHECK(memcmp(got, want, sizeof got) == 0);
        llm_t5_generate(got, source, B, S, LONG, -1, &m.weights, &m.config, &arena);
        CHECK(memcmp(got, want, sizeof got) == 0);
        llm_t5_file_close(&m);
    }
}

TEST(t5_file, "a file of another family, and one that is cut off anywhere, are refused") {
    llm_t5_file m;
    llm_error e;
    const llm_transformer_config c = tiny_transformer_of(1);
    const char bert[] = "{\"model_type\": \"bert\", \"vocab_size\": 7, \"hidden_size\": 4, "
                        "\"intermediate_size\": 6, \"num_hidden_layers\": 2, "
                        "\"num_attention_heads\": 2, \"max_position_embeddings\": 6, "
                        "\"type_vocab_size\": 2, \"hidden_act\": \"gelu\"}";
    CHECK_FAILS(
        llm_t5_file_open(&m, tiny_transformer_save("b", bert, &c, zeros(999), "", NULL, 0), &e), e,
        "model_type is not \"t5\"");
    llm_file f;
    directory(0, "in");
    CHECK(llm_file_read(&f, test_path("in/model.safetensors"), &e));
    for (size_t n = 0; n < f.size; n += 101) {
        CHECK(llm_file_write(test_path("in/model.safetensors"), f.data, n, &e));
        CHECK_FAILS(llm_t5_file_open(&m, test_path("in"), &e), e, "");
    }
    llm_file_free(&f);
}

/* @llama_file */
#include "../test.h"

/* malloc that runs out */
static bool lf_memory_out;
static void *lf_malloc(size_t size) { return lf_memory_out ? NULL : malloc(size); }
#define malloc lf_malloc

#include "../../llm.h"

#include "../tiny_llama.h"

#define CONFIG                                                                                     \
    "\"vocab_size\":24,\"max_position_embeddings\":64,\"hidden_size\":16,\"intermediate_size\":"   \
    "24,"                                                                                          \
    "\"num_hidden_layers\":2,\"num_attention_heads\":4,\"num_key_value_heads\":2}"
static const struct {
    const char *name, *config;
    size_t head;
} families[5] = {{"llama", "{\"model_type\":\"llama\"," CONFIG, 4},
                 {"mistral", "{\"model_type\":\"mistral\"," CONFIG, 4},
                 {"qwen2", "{\"model_type\":\"qwen2\",\"tie_word_embeddings\":true," CONFIG, 4},
                 {"qwen3", "{\"model_type\":\"qwen3\",\"head_dim\":8," CONFIG, 8},
                 {"gemma2", "{\"model_type\":\"gemma2\",\"head_dim\":8," CONFIG, 8}};

TEST(llama_file,
     "every tensor is needed, and is refused by name when it is missing or of another shape") {
    for (size_t f = 0; f < 5; f++) {
        tiny_llama all, less;
        llm_llama_file m;
        llm_error e;
        tiny_llama_make(&all, families[f].name, families[f].head);
        const char *dir = tiny_llama_directory(&all, families[f].config, LLM_SAFETENSORS_F32);
        CHECK(llm_llama_file_open(&m, dir, &e));
        llm_llama_file_close(&m);
        for (size_t i = 0; i < all.count; i++) {
            char wanted[100];
            less = all;
            less.t[i] = less.t[--less.count];
            dir = tiny_llama_directory(&less, families[f].config, LLM_SAFETENSORS_F32);
            snprintf(wanted, sizeof wanted, "no tensor %s", all.t[i].name);
            CHECK_FAILS(llm_llama_file_open(&m, dir, &e), e, wanted);
            for (int way = 0; way < 3; way++) {
                less = all;
                if (way == 0) less.t[i].rows--; /* one too few */
                if (way == 1 && less.t[i].columns) less.t[i].columns--;
                if (way == 1 && !less.t[i].columns) less.t[i].columns = 1; /* a matrix */
                if (way == 2 && less.t[i].columns)
                    less.t[i].columns = 0; /* a vector */
                else if (way == 2)
                    continue;
                dir = tiny_llama_directory(&less, families[f].config, LLM_SAFETENSORS_F32);
                snprintf(wanted, sizeof wanted, "%s is (", all.t[i].name);
                CHECK_FAILS(llm_llama_file_open(&m, dir, &e), e, wanted);
            }
        }
    }
}

TEST(llama_file, "matrices stay in the file; vectors are floats, of Gemma with 1 added") {
    for (size_t f = 0; f < 5; f++) {
        tiny_llama tiny;
        llm_llama_file m;
        llm_error e;
        tiny_llama_make(&tiny, families[f].name, families[f].head);
        const char *dir = tiny_llama_directory(&tiny, families[f].config, LLM_SAFETENSORS_BF16);
        CHECK(llm_llama_file_open(&m, dir, &e) && !m.is_gguf);
        const llm_safetensors *s = &llm_safetensors_shards_at(&m.shards, 0)->tensors;
        const llm_safetensors_tensor *down =
            llm_safetensors_find(s, "model.layers.1.mlp.down_proj.weight");
        const llm_stored_matrix *w = &m.layer[1].matrix[LLM_LLAMA_NAMES_DOWN];
        CHECK(w->data == down->data && w->type == LLM_GGUF_BLOCKS_BF16 && w->rows == 16 &&
              w->columns == 24);
        CHECK(m.embed.rows == 24 && m.embed.columns == 16);
        CHECK((m.head.data == m.embed.data) == m.config.tied);
        const float more = f == 4 ? 1.0f : 0.0f;
        for (size_t i = 0; i < tiny.count; i++) {
            const tiny_llama_tensor *t = &tiny.t[i];
            const float *got = NULL;
            if (strcmp(t->name, "model.norm.weight") == 0) got = m.norm;
            if (strcmp(t->name, "model.layers.1.input_layernorm.weight") == 0)
                got = m.layer[1].vector[LLM_LLAMA_NAMES_NORM1];
            if (strcmp(t->name, "model.layers.0.self_attn.k_norm.weight") == 0)
                got = m.layer[0].vector[LLM_LLAMA_NAMES_K_NORM];
            if (strcmp(t->name, "model.layers.0.post_feedforward_layernorm.weight") == 0)
                got = m.layer[0].vector[LLM_LLAMA_NAMES_OUT2];
            for (size_t k = 0; got && k < t->rows; k++) CHECK(got[k] == t->data[k] + more);
            if (strcmp(t->name, "model.layers.1.self_attn.v_proj.bias") != 0) continue;
            got = m.layer[1].vector[LLM_LLAMA_NAMES_V_BIAS];
            for (size_t k = 0; k < t->rows; k++) CHECK(got[k] == t->data[k]);
        }
        CHECK((m.layer[0].vector[LLM_LLAMA_NAMES_OUT1] != NULL) == (f == 4));
        CHECK((m.layer[0].vector[LLM_LLAMA_NAMES_Q_NORM] != NULL) == (f == 3));
        CHECK((m.layer[0].vector[LLM_LLAMA_NAMES_Q_BIAS] != NULL) == (f == 2));
        CHECK(m.inv_freq[0] == 1.0f &&
              fabsf(m.inv_freq[1] - powf(10000.0f, -2.0f / (float)families[f].head)) < 1e-6f);
        llm_llama_file_close(&m);
    }
}

TEST(llama_file, "numbers that are no floats, files that are not there, memory that is out") {
    tiny_llama tiny;
    llm_llama_file m;
    llm_error e;
    tiny_llama_make(&tiny, "llama", 4);
    const char *dir = tiny_llama_directory(&tiny, families[0].config, LLM_SAFETENSORS_I16);
    CHECK_FAILS(llm_llama_file_open(&m, dir, &e), e, "is neither F32, F16 nor BF16");
    dir = tiny_llama_directory(&tiny, "{", LLM_SAFETENSORS_F32);
    CHECK_FAILS(llm_llama_file_open(&m, dir, &e), e, "JSON");
    dir = tiny_llama_directory(&tiny, "{}", LLM_SAFETENSORS_F32);
    CHECK_FAILS(llm_llama_file_open(&m, dir, &e), e, "model_type");
    dir = tiny_llama_directory(&tiny, families[0].config, LLM_SAFETENSORS_F32);
    CHECK(remove(test_path("model.safetensors")) == 0);
    CHECK_FAILS(llm_llama_file_open(&m, dir, &e), e, "model.safetensors: cannot be opened");
    CHECK(remove(test_path("config.json")) == 0);
    CHECK_FAILS(llm_llama_file_open(&m, dir, &e), e, "config.json: cannot be opened");
    CHECK_FAILS(llm_llama_file_open(&m, "x.gguf", &e), e, "x.gguf: cannot be opened");
    CHECK_FAILS(llm_llama_file_open(&m, ".gguf", &e), e, ".gguf/config.json");
    lf_memory_out = true;
    CHECK(!llm_llama_file_open(&m, dir, &e));
    lf_memory_out = false;
}

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
} families[6] = {{"llama", "{\"model_type\":\"llama\"," CONFIG, 4},
                 {"mistral", "{\"model_type\":\"mistral\"," CONFIG, 4},
                 {"qwen2", "{\"model_type\":\"qwen2\",\"tie_word_embeddings\":true," CONFIG, 4},
                 {"qwen3", "{\"model_type\":\"qwen3\",\"head_dim\":8," CONFIG, 8},
                 {"gemma2", "{\"model_type\":\"gemma2\",\"head_dim\":8," CONFIG, 8},
                 {"gpt2",
                  "{\"model_type\":\"gpt2\",\"vocab_size\":24,\"n_positions\":64,\"n_embd\":16,"
                  "\"n_layer\":2,\"n_head\":4,\"n_inner\":24}",
                  4}};

TEST(llama_file,
     "every tensor is needed, and is refused by name when it is missing or of another shape") {
    for (size_t f = 0; f < 6; f++) {
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
            const char *name = all.t[i].name + (f == 5 ? strlen("transformer.") : 0);
            snprintf(wanted, sizeof wanted, "no tensor %s", name);
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
                snprintf(wanted, sizeof wanted, "%s is (", name);
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

TEST(llama_file, "matrices of GPT-2 are turned, with any prefix, in one kind of numbers") {
    tiny_llama tiny;
    llm_llama_file m;
    llm_error e;
    tiny_llama_make(&tiny, "gpt2", 4);
    for (int way = 0; way < 4; way++) {
        const llm_safetensors_dtype dtype = way % 2 ? LLM_SAFETENSORS_F16 : LLM_SAFETENSORS_F32;
        for (size_t i = 0; i < tiny.count && way == 2; i++)
            memmove(tiny.t[i].name, tiny.t[i].name + 12, strlen(tiny.t[i].name + 12) + 1);
        const char *dir = tiny_llama_directory(&tiny, families[5].config, dtype);
        CHECK(llm_llama_file_open(&m, dir, &e) && m.inv_freq == NULL && m.config.tied);
        CHECK(m.places.rows == 64 && m.places.columns == 16 && m.head.data == m.embed.data);
        size_t matrices = 0, vectors = 0;
        for (size_t i = 0; i < tiny.count; i++) {
            static const char *const part[8] = {
                "c_attn.weight",    "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight",
                "attn.c_attn.bias", "attn.c_proj.bias",   "mlp.c_proj.bias", "h.1.ln_2.bias"};
            static const llm_llama_names_part index[8] = {
                LLM_LLAMA_NAMES_Q,         LLM_LLAMA_NAMES_O,         LLM_LLAMA_NAMES_GATE,
                LLM_LLAMA_NAMES_DOWN,      LLM_LLAMA_NAMES_Q_BIAS,    LLM_LLAMA_NAMES_O_BIAS,
                LLM_LLAMA_NAMES_DOWN_BIAS, LLM_LLAMA_NAMES_NORM2_BIAS};
            const tiny_llama_tensor *t = &tiny.t[i];
            for (size_t k = 0; k < 8; k++) {
                if (!strstr(t->name, part[k]) || !strstr(t->name, "h.1.")) continue;
                const size_t thirds = k % 4 == 0 ? 3 : 1, all = k < 4 ? t->columns : t->rows;
                for (size_t r = 0; r < all; r++) {
                    const int p = (int)index[k] + (int)(r / (all / thirds));
                    const size_t row = r % (all / thirds);
                    if (k >= 4) {
                        CHECK(m.layer[1].vector[p][row] == t->data[r]);
                        continue;
                    }
                    float got[24];
                    const llm_stored_matrix *w = &m.layer[1].matrix[p];
                    CHECK(w->rows == all / thirds && w->columns == t->rows);
                    llm_stored_matrix_row(got, w, row);
                    for (size_t j = 0; j < t->rows; j++)
                        CHECK(got[j] == t->data[j * t->columns + r]);
                }
                matrices += k < 4, vectors += k >= 4;
            }
        }
        CHECK(matrices == 4 && vectors == 4 && m.layer[1].matrix[LLM_LLAMA_NAMES_UP].rows == 0);
        llm_llama_file_close(&m);
    }
    llm_safetensors_tensor mixed[TINY_LLAMA_MOST];
    memset(mixed, 0, sizeof mixed);
    for (size_t i = 0; i < tiny.count; i++) {
        const tiny_llama_tensor *t = &tiny.t[i];
        const size_t n = t->rows * (t->columns ? t->columns : 1);
        const bool wide = strcmp(t->name, "h.1.mlp.c_fc.weight") == 0;
        mixed[i].name = t->name, mixed[i].rank = t->columns ? 2 : 1;
        mixed[i].dtype = wide ? LLM_SAFETENSORS_F32 : LLM_SAFETENSORS_F16;
        mixed[i].shape[0] = t->rows, mixed[i].shape[1] = t->columns;
        mixed[i].data = tiny_llama_bytes(t->data, n, mixed[i].dtype);
    }
    CHECK(llm_safetensors_write(test_path("model.safetensors"), mixed, tiny.count, NULL, &e));
    const char *dir = tiny_llama_path("");
    CHECK_FAILS(llm_llama_file_open(&m, dir, &e), e,
                "h.1.mlp.c_fc.weight is not in the numbers of wte.weight");
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

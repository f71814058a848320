/* @llama_file */
#include "../test.h"

/* memory that runs out after a number of calls */
static int lf_calls = 1 << 30;
static void *lf_malloc(size_t size) { return lf_calls-- > 0 ? malloc(size) : NULL; }
static void *lf_realloc(void *p, size_t size) { return lf_calls-- > 0 ? realloc(p, size) : NULL; }
#define malloc lf_malloc
#define realloc lf_realloc

#include "../../llm.h"

#include "../arena.h"
#include "../tiny_litter.h"
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
        memset(&m, 0xff, sizeof m); /* what stood there is not looked at */
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
        for (size_t l = 0; l < 2; l++) CHECK(m.layer[l].vector[LLM_LLAMA_NAMES_NORM1]);
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

TEST(llama_file, "matrices of GPT-2 are turned, with any prefix, each in its own numbers") {
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
        for (int p = 0; p < LLM_LLAMA_NAMES_MATRICES; p++)
            CHECK(p == LLM_LLAMA_NAMES_UP ||
                  (m.layer[0].matrix[p].data && m.layer[1].matrix[p].data));
        size_t matrices = 0, vectors = 0;
        for (size_t i = 0; i < tiny.count; i++) {
            if (strstr(tiny.t[i].name, "ln_f.bias"))
                for (size_t r = 0; r < 16; r++) CHECK(m.norm_bias[r] == tiny.t[i].data[r]);
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
    CHECK(llm_llama_file_open(&m, dir, &e) && m.memory.used == m.memory.size);
    for (int p = 0; p < LLM_LLAMA_NAMES_MATRICES; p++) {
        const bool wide = p == LLM_LLAMA_NAMES_GATE, none = p == LLM_LLAMA_NAMES_UP;
        CHECK(none ||
              m.layer[1].matrix[p].type == (wide ? LLM_GGUF_BLOCKS_F32 : LLM_GGUF_BLOCKS_F16));
        CHECK(none || m.layer[0].matrix[p].type == LLM_GGUF_BLOCKS_F16);
    }
    for (size_t i = 0; i < tiny.count; i++) {
        const tiny_llama_tensor *t = &tiny.t[i];
        float row[16];
        for (size_t r = 0; r < 24 && strcmp(t->name, "h.1.mlp.c_fc.weight") == 0; r++) {
            llm_stored_matrix_row(row, &m.layer[1].matrix[LLM_LLAMA_NAMES_GATE], r);
            for (size_t j = 0; j < 16; j++) CHECK(row[j] == t->data[j * 24 + r]);
        }
    }
    llm_llama_file_close(&m);
}

/* Writes a family as GGUF, its tensor `leave` left out and tensor `cut` a row shorter; opens it. */
static bool lf_gguf(llm_llama_file *m, tiny_llama *tiny, size_t f, size_t leave, size_t cut,
                    const float *rope_freqs, llm_error *e) {
    llm_buffer pair = {NULL, 0, 0};
    size_t pairs = 0;
    tiny_llama less = *tiny;
    if (cut < less.count) less.t[cut].rows--;
    if (leave < less.count) less.t[leave] = less.t[--less.count];
    tiny_llama_pairs(&pair, &pairs, families[f].name, families[f].head);
    tiny_llama_gguf(tiny_llama_path("m.gguf"), &less, families[f].name, families[f].head, &pair,
                    pairs, rope_freqs);
    llm_buffer_free(&pair);
    return llm_llama_file_open(m, tiny_llama_path("m.gguf"), e);
}

TEST(llama_file, "in GGUF too matrices stay, vectors come as they are, rotations are divided by "
                 "their factors, and the memory is just enough") {
    for (size_t f = 0; f < 5; f++) {
        const size_t D = families[f].head;
        const float by[4] = {2.0f, 4.0f, 8.0f, 16.0f};
        tiny_llama tiny;
        llm_llama_file m;
        llm_error e;
        float plain[4];
        size_t seen = 0;
        tiny_llama_make(&tiny, families[f].name, D);
        for (size_t factors = 0; factors < 2; factors++) {
            if (!lf_gguf(&m, &tiny, f, SIZE_MAX, SIZE_MAX, factors ? by : NULL, &e))
                test_fail(__FILE__, __LINE__, "%s", e.message);
            llm_rope_inv_freq(plain, D, 10000.0f);
            for (size_t i = 0; i < D / 2; i++)
                CHECK_NEAR(m.inv_freq[i], plain[i] / (factors ? by[i] : 1.0f), 1e-6);
            CHECK(m.is_gguf && m.memory.size - m.memory.used == (factors ? 0 : 64));
            if (!factors) llm_llama_file_close(&m);
        }
        for (size_t i = 0; i < tiny.count; i++) {
            const tiny_llama_tensor *t = &tiny.t[i];
            const llm_gguf_file_tensor *in =
                llm_gguf_file_find(&m.gguf, tiny_llama_gguf_name(t->name, f == 4));
            const llm_llama_file_layer *layer = &m.layer[strstr(t->name, "layers.1") ? 1 : 0];
            const llm_stored_matrix *w = NULL;
            const float *got = NULL;
            if (strstr(t->name, "embed_tokens")) w = &m.embed;
            if (strstr(t->name, "lm_head")) w = &m.head;
            if (strstr(t->name, "k_proj.weight")) w = &layer->matrix[LLM_LLAMA_NAMES_K];
            if (strstr(t->name, "down_proj")) w = &layer->matrix[LLM_LLAMA_NAMES_DOWN];
            if (w) CHECK(w->data == in->data && w->type == LLM_GGUF_BLOCKS_F32);
            if (w) CHECK(w->rows == t->rows && w->columns == t->columns);
            if (strcmp(t->name, "model.norm.weight") == 0) got = m.norm;
            if (strstr(t->name, "input_layernorm")) got = layer->vector[LLM_LLAMA_NAMES_NORM1];
            if (strstr(t->name, "v_proj.bias")) got = layer->vector[LLM_LLAMA_NAMES_V_BIAS];
            for (size_t k = 0; got && k < t->rows; k++)
                CHECK(got[k] == t->data[k] + (f == 4 ? 1.0f : 0.0f));
            seen += w != NULL || got != NULL;
        }
        CHECK(seen == (m.config.tied ? 2u : 3u) + (f == 2 ? 8u : 6u));
        llm_llama_file_close(&m);
    }
}

TEST(llama_file, "the memory is that of the vectors, of heads and models of any width") {
    const size_t head[2] = {40, 114}; /* more than a line of 64 bytes; just beyond seven lines */
    for (size_t k = 0; k < 2; k++) {
        tiny_llama tiny;
        llm_llama_file m;
        llm_error e;
        char config[300];
        tiny_llama_make(&tiny, "qwen3", head[k]);
        snprintf(config, sizeof config, "{\"model_type\":\"qwen3\",\"head_dim\":%zu," CONFIG,
                 head[k]);
        memcpy(strstr(config, "\"hidden_size\":16") + 14, "20", 2);
        for (size_t i = 0; i < tiny.count; i++) {
            tiny_llama_tensor *t = &tiny.t[i];
            if (t->rows == 16) t->rows = 20;
            if (t->columns == 16) t->columns = 20;
            t->data = zeros(t->rows * (t->columns ? t->columns : 1));
        }
        const char *dir = tiny_llama_directory(&tiny, config, LLM_SAFETENSORS_F32);
        CHECK(llm_llama_file_open(&m, dir, &e));
        /* what is left: factors of the rotations, of GGUF alone */
        CHECK(m.memory.size - m.memory.used == arena_room(head[k] / 2));
        llm_llama_file_close(&m);
    }
}

TEST(llama_file, "matrices of one column are matrices, in the file or turned") {
    for (size_t k = 0; k < 2; k++) { /* a Llama, a GPT-2, with MLPs one number wide */
        tiny_llama tiny;
        llm_llama_file m;
        llm_error e;
        char config[300];
        const size_t f = k ? 5 : 0;
        tiny_llama_make(&tiny, families[f].name, 4);
        snprintf(config, sizeof config, "%s", families[f].config);
        char *wide = strstr(strstr(config, k ? "n_inner" : "intermediate_size"), "24");
        memcpy(wide, " 1", 2);
        for (size_t i = 0; i < tiny.count; i++) {
            tiny_llama_tensor *t = &tiny.t[i];
            if (!strstr(t->name, "mlp.")) continue;
            if (t->rows == 24) t->rows = 1;
            if (t->columns == 24) t->columns = 1;
        }
        const char *dir = tiny_llama_directory(&tiny, config, LLM_SAFETENSORS_F16);
        CHECK(llm_llama_file_open(&m, dir, &e));
        const llm_stored_matrix *down = &m.layer[1].matrix[LLM_LLAMA_NAMES_DOWN];
        CHECK(down->rows == 16 && down->columns == 1);
        CHECK(m.memory.size - m.memory.used == (k ? 0 : 64));
        for (size_t i = 0; i < tiny.count; i++) {
            const tiny_llama_tensor *t = &tiny.t[i];
            if (!strstr(t->name, k ? "h.1.mlp.c_proj.weight" : "layers.1.mlp.down")) continue;
            float row[1];
            for (size_t r = 0; r < 16; r++) {
                llm_stored_matrix_row(row, down, r);
                CHECK(row[0] == t->data[r]);
            }
        }
        llm_llama_file_close(&m);
    }
}

TEST(llama_file, "layers beyond the settings' are left alone; a part is bound a second time") {
    tiny_llama tiny;
    llm_llama_file m;
    llm_error e;
    tiny_llama_make(&tiny, "llama", 4);
    char config[300];
    snprintf(config, sizeof config, "%s", families[0].config);
    *strstr(config, "2,\"num_attention_heads") = '1';
    const char *dir = tiny_llama_directory(&tiny, config, LLM_SAFETENSORS_F32);
    CHECK(llm_llama_file_open(&m, dir, &e) && m.config.layers == 1);
    for (size_t i = 0; i < tiny.count; i++)
        if (strcmp(tiny.t[i].name, "model.norm.weight") == 0)
            CHECK(memcmp(m.norm, tiny.t[i].data, 16 * sizeof(float)) == 0);
    const llm_stored_matrix was = m.layer->matrix[LLM_LLAMA_NAMES_K];
    const float *norm = m.layer->vector[LLM_LLAMA_NAMES_NORM1];
    CHECK(llm_llama_file_part(&m, 0, LLM_LLAMA_NAMES_K, 0.0f, NULL, &e));
    CHECK(m.layer->matrix[LLM_LLAMA_NAMES_K].data == was.data);
    CHECK(llm_llama_file_part(&m, 0, LLM_LLAMA_NAMES_NORM1, 1.0f, NULL, &e));
    for (size_t i = 0; i < 16; i++)
        CHECK(m.layer->vector[LLM_LLAMA_NAMES_NORM1][i] == norm[i] + 1.0f);
    llm_llama_file_close(&m);
}

TEST(llama_file, "GPT-2's queries, keys and values stay in one matrix of a GGUF file") {
    tiny_llama tiny;
    llm_llama_file m;
    llm_error e;
    tiny_llama_make(&tiny, "gpt2", 4);
    CHECK(lf_gguf(&m, &tiny, 5, SIZE_MAX, SIZE_MAX, NULL, &e));
    for (size_t l = 0; l < 2; l++) {
        const llm_gguf_file_tensor *in =
            llm_gguf_file_find(&m.gguf, l ? "blk.1.attn_qkv.weight" : "blk.0.attn_qkv.weight");
        CHECK(in && in->shape[0] == 48 && in->shape[1] == 16 && in->type == LLM_GGUF_BLOCKS_F32);
        for (size_t k = 0; k < 3; k++) {
            const llm_stored_matrix *w = &m.layer[l].matrix[LLM_LLAMA_NAMES_Q + (int)k];
            CHECK(w->data == in->data + k * 16 * 16 * sizeof(float));
            CHECK(w->rows == 16 && w->columns == 16);
        }
    }
    llm_llama_file_close(&m);
}

TEST(llama_file, "in GGUF too every tensor is needed, and refused by name") {
    tiny_llama tiny;
    llm_llama_file m;
    llm_error e;
    char wanted[100];
    const float few[1] = {1.0f};
    tiny_llama_make(&tiny, "llama", 4);
    for (size_t i = 0; i < tiny.count; i++) {
        if (strstr(tiny.t[i].name, "embed_tokens")) continue; /* @llama_gguf reads its shape */
        snprintf(wanted, sizeof wanted, "no tensor %s",
                 tiny_llama_gguf_name(tiny.t[i].name, false));
        if (strcmp(tiny.t[i].name, "lm_head.weight") == 0) { /* the embedding takes its place */
            CHECK(lf_gguf(&m, &tiny, 0, i, SIZE_MAX, NULL, &e) && m.head.data == m.embed.data);
            llm_llama_file_close(&m);
        } else {
            CHECK_FAILS(lf_gguf(&m, &tiny, 0, i, SIZE_MAX, NULL, &e), e, wanted);
        }
        snprintf(wanted, sizeof wanted, "%s is (", tiny_llama_gguf_name(tiny.t[i].name, false));
        CHECK_FAILS(lf_gguf(&m, &tiny, 0, SIZE_MAX, i, NULL, &e), e, wanted);
    }
    llm_buffer pair = {NULL, 0, 0}; /* a factor too few: the settings say heads of 4 */
    size_t pairs = 0;
    tiny_llama_pairs(&pair, &pairs, "llama", 4);
    tiny_llama_gguf(tiny_llama_path("m.gguf"), &tiny, "llama", 4, &pair, pairs, NULL);
    llm_gguf_file g;
    llm_gguf_file_tensor t[TINY_LLAMA_MOST + 1];
    CHECK(llm_gguf_file_open(&g, tiny_llama_path("m.gguf"), &e));
    memset(t, 0, sizeof t);
    memcpy(t, g.tensor, g.count * sizeof *t);
    snprintf(t[g.count].name, sizeof t->name, "rope_freqs.weight");
    t[g.count].rank = 1, t[g.count].shape[0] = 1, t[g.count].data = (const unsigned char *)few;
    CHECK(llm_gguf_write(tiny_llama_path("n.gguf"), &pair, pairs, t, g.count + 1, &e));
    CHECK_FAILS(llm_llama_file_open(&m, tiny_llama_path("n.gguf"), &e), e,
                "rope_freqs.weight is (1, 0) of rank 1, expected (2, 0)");
    llm_gguf_file_close(&g);
    llm_buffer_free(&pair);
}

TEST(llama_file, "shapes and numbers of single tensors, in both forms") {
    static const struct {
        const char *name;
        size_t rank, shape[3], rows, columns;
        const char *why; /* NULL: found */
    } all[] = {{"one", 0, {0, 0, 0}, 1, 0, "one is (0, 0) of rank 0, expected (1, 0)"},
               {"row", 1, {5, 0, 0}, 5, 0, NULL},
               {"row", 1, {5, 0, 0}, 5, 1, "row is (5, 0) of rank 1, expected (5, 1)"},
               {"line", 2, {3, 1, 0}, 3, 1, NULL},
               {"line", 2, {3, 1, 0}, 3, 0, "line is (3, 1) of rank 2, expected (3, 0)"},
               {"cube", 3, {2, 3, 4}, 2, 3, "cube is (0, 0) of rank 3, expected (2, 3)"},
               {"I8", 1, {4, 0, 0}, 4, 0, "I8 "},
               {"F64", 1, {4, 0, 0}, 4, 0, "F64 "}};
    static const unsigned char data[128] = {0};
    enum { COUNT = sizeof all / sizeof *all };
    llm_gguf_file_tensor g[COUNT];
    llm_safetensors_tensor s[COUNT];
    llm_llama_file file[2];
    llm_error e;
    size_t count = 0;
    memset(g, 0, sizeof g), memset(s, 0, sizeof s), memset(file, 0, sizeof file);
    for (size_t i = 0; i < COUNT; i++) {
        const bool last = i + 1 == COUNT || strcmp(all[i].name, all[i + 1].name) != 0;
        if (!last) continue;
        snprintf(g[count].name, sizeof g->name, "%s", all[i].name);
        s[count].name = all[i].name;
        g[count].rank = s[count].rank = all[i].rank;
        memcpy(g[count].shape, all[i].shape, sizeof all[i].shape);
        memcpy(s[count].shape, all[i].shape, sizeof all[i].shape);
        g[count].data = s[count].data = data;
        const bool byte = strcmp(all[i].name, "I8") == 0, wide = strcmp(all[i].name, "F64") == 0;
        g[count].type = byte   ? LLM_GGUF_BLOCKS_I8
                        : wide ? LLM_GGUF_BLOCKS_F64
                               : LLM_GGUF_BLOCKS_F16;
        s[count++].dtype = byte   ? LLM_SAFETENSORS_I8
                           : wide ? LLM_SAFETENSORS_F64
                                  : LLM_SAFETENSORS_F16;
    }
    llm_buffer none = {NULL, 0, 0};
    CHECK(llm_gguf_write(test_path("all.gguf"), &none, 0, g, count, &e));
    CHECK(llm_safetensors_write(test_path("model.safetensors"), s, count, NULL, &e));
    file[1].is_gguf = true;
    CHECK(llm_gguf_file_open(&file[1].gguf, test_path("all.gguf"), &e));
    CHECK(llm_safetensors_shards_open(&file[0].shards, test_path(""), &e));
    for (size_t form = 0; form < 2; form++) {
        llm_stored_matrix w;
        for (size_t i = 0; i < COUNT; i++) {
            const size_t rows = all[i].rows, columns = all[i].columns;
            if (all[i].why) {
                CHECK_FAILS(llm_llama_file_find(&w, &file[form], all[i].name, rows, columns, &e), e,
                            all[i].why);
                continue;
            }
            CHECK(llm_llama_file_find(&w, &file[form], all[i].name, rows, columns, &e));
            CHECK(w.rows == (columns ? rows : 1) && w.columns == (columns ? columns : rows));
            CHECK(w.type == LLM_GGUF_BLOCKS_F16 && w.data);
        }
        w.data = data;
        CHECK_FAILS(llm_llama_file_find(&w, &file[form], "none", 1, 0, &e), e, "no tensor none");
        CHECK(!w.data);
        llm_llama_file_close(&file[form]);
    }
}

static bool lf_directory_fails(const char *says) {
    llm_llama_file m;
    llm_error e;
    memset(&m, 0, sizeof m);
    const bool ok = llm_llama_file_directory(&m, "nowhere", &e);
    lf_calls = 1 << 30;
    return !ok && strstr(e.message, says);
}
static bool lf_no_file(void) { return lf_directory_fails("cannot be opened"); }
static bool lf_no_memory(void) {
    lf_calls = 0;
    return lf_directory_fails("out of memory");
}

TEST(llama_file, "numbers that are no floats, files that are not there, memory that is out") {
    tiny_llama tiny;
    llm_llama_file m;
    llm_error e;
    tiny_llama_make(&tiny, "llama", 4);
    const char *dir = tiny_llama_directory(&tiny, families[0].config, LLM_SAFETENSORS_I16);
    CHECK_FAILS(llm_llama_file_open(&m, dir, &e), e, "is neither F32, F16 nor BF16");
    dir = tiny_llama_directory(&tiny, "{", LLM_SAFETENSORS_F32);
    memset(&m, 0xff, sizeof m); /* what stood there is not freed */
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
    CHECK(tiny_litter(lf_no_file) && tiny_litter(lf_no_memory));
    dir = tiny_llama_directory(&tiny, families[0].config, LLM_SAFETENSORS_F32);
    bool ok = false;
    for (int n = 0; !ok; n++) {
        lf_calls = n;
        ok = llm_llama_file_open(&m, dir, &e);
        lf_calls = 1 << 30;
        CHECK(ok ? n > 3 : strstr(e.message, "memory") != NULL);
    }
    llm_llama_file_close(&m);
}

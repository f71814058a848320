/* Tiny models of Llama's family with weights that tests/13-transformer/llama.py makes, too. Behind
 * test.h and llm.h, once in each suite: nvcc compiles a chapter as one file, a namespace a suite,
 * so there is no guard. */

enum { TINY_LLAMA_MOST = 64 };
typedef struct {
    char name[80];
    size_t rows, columns; /* 0 columns: a vector */
    float *data;
} tiny_llama_tensor;

typedef struct {
    tiny_llama_tensor t[TINY_LLAMA_MOST];
    size_t count;
} tiny_llama;

static void tiny_llama_add(tiny_llama *m, const char *name, size_t rows, size_t columns) {
    tiny_llama_tensor *t = &m->t[m->count++];
    CHECK(m->count <= TINY_LLAMA_MOST);
    snprintf(t->name, sizeof t->name, "%s", name);
    t->rows = rows, t->columns = columns;
}

static int tiny_llama_order(const void *a, const void *b) {
    return strcmp(((const tiny_llama_tensor *)a)->name, ((const tiny_llama_tensor *)b)->name);
}

/* Those of a GPT-2: 4 heads of 4, 64 positions. */
static void tiny_llama_gpt2(tiny_llama *m) {
    static const struct {
        const char *name;
        size_t rows, columns;
    } part[12] = {
        {"ln_1.weight", 16, 0},      {"ln_1.bias", 16, 0},           {"attn.c_attn.weight", 16, 48},
        {"attn.c_attn.bias", 48, 0}, {"attn.c_proj.weight", 16, 16}, {"attn.c_proj.bias", 16, 0},
        {"ln_2.weight", 16, 0},      {"ln_2.bias", 16, 0},           {"mlp.c_fc.weight", 16, 24},
        {"mlp.c_fc.bias", 24, 0},    {"mlp.c_proj.weight", 24, 16},  {"mlp.c_proj.bias", 16, 0}};
    tiny_llama_add(m, "transformer.wte.weight", 24, 16);
    tiny_llama_add(m, "transformer.wpe.weight", 64, 16);
    tiny_llama_add(m, "transformer.ln_f.weight", 16, 0);
    tiny_llama_add(m, "transformer.ln_f.bias", 16, 0);
    for (int i = 0; i < 24; i++) {
        char name[80];
        snprintf(name, sizeof name, "transformer.h.%d.%s", i / 12, part[i % 12].name);
        tiny_llama_add(m, name, part[i % 12].rows, part[i % 12].columns);
    }
}

static bool tiny_llama_is_norm(const char *name) {
    const char *dot = strrchr(name, '.');
    return (dot - name > 4 && strcmp(dot - 4, "norm.weight") == 0) ||
           (strstr(name, ".ln_") && strcmp(dot, ".weight") == 0);
}

/* All tensors of a model, by the names of transformers, sorted and filled: 2 layers, width 16, MLP
 * 24, 24 tokens, 4 heads of `head` on 2. */
TEST_UNUSED static void tiny_llama_make(tiny_llama *m, const char *family, size_t head) {
    const bool gemma = strcmp(family, "gemma2") == 0, gpt2 = strcmp(family, "gpt2") == 0,
               tied = gemma || strcmp(family, "llama3") == 0 || strcmp(family, "qwen2") == 0;
    m->count = 0;
    if (gpt2) tiny_llama_gpt2(m);
    if (!gpt2) tiny_llama_add(m, "model.embed_tokens.weight", 24, 16);
    if (!gpt2) tiny_llama_add(m, "model.norm.weight", 16, 0);
    if (!gpt2 && !tied) tiny_llama_add(m, "lm_head.weight", 24, 16);
    for (int l = 0; l < 2 && !gpt2; l++) {
        const struct {
            const char *name, *only; /* in this family, or in all */
            size_t rows, columns;
        } part[] = {{"self_attn.q_proj.weight", "", 4 * head, 16},
                    {"self_attn.k_proj.weight", "", 2 * head, 16},
                    {"self_attn.v_proj.weight", "", 2 * head, 16},
                    {"self_attn.o_proj.weight", "", 16, 4 * head},
                    {"self_attn.q_proj.bias", "qwen2", 4 * head, 0},
                    {"self_attn.k_proj.bias", "qwen2", 2 * head, 0},
                    {"self_attn.v_proj.bias", "qwen2", 2 * head, 0},
                    {"self_attn.q_norm.weight", "qwen3", head, 0},
                    {"self_attn.k_norm.weight", "qwen3", head, 0},
                    {"mlp.gate_proj.weight", "", 24, 16},
                    {"mlp.up_proj.weight", "", 24, 16},
                    {"mlp.down_proj.weight", "", 16, 24},
                    {"input_layernorm.weight", "", 16, 0},
                    {"post_attention_layernorm.weight", "", 16, 0},
                    {"pre_feedforward_layernorm.weight", "gemma2", 16, 0},
                    {"post_feedforward_layernorm.weight", "gemma2", 16, 0}};
        for (size_t i = 0; i < sizeof part / sizeof *part; i++) {
            char name[80];
            if (*part[i].only && strcmp(part[i].only, family) != 0) continue;
            snprintf(name, sizeof name, "model.layers.%d.%s", l, part[i].name);
            tiny_llama_add(m, name, part[i].rows, part[i].columns);
        }
    }
    qsort(m->t, m->count, sizeof *m->t, tiny_llama_order);
    uint32_t k = 0;
    for (size_t i = 0; i < m->count; i++) {
        tiny_llama_tensor *t = &m->t[i];
        const size_t n = t->rows * (t->columns ? t->columns : 1);
        t->data = (float *)test_memory(n, sizeof(float));
        const bool norm = tiny_llama_is_norm(t->name);
        for (size_t j = 0; j < n; j++) {
            uint32_t x = ++k * 2654435761u;
            x = (x ^ x >> 15) * 2246822519u;
            t->data[j] = norm ? ((float)(x >> 28) - 8.0f) / 32.0f + (gemma ? 0.0f : 1.0f)
                              : (float)(x >> 24) / 256.0f - 0.5f;
        }
    }
}

/* name in the test's own directory. */
TEST_UNUSED static const char *tiny_llama_path(const char *name) {
    static char path[2][600];
    static int turn;
    turn = !turn;
    snprintf(path[turn], sizeof path[turn], "%s", test_path(name));
    return path[turn];
}

/* Bytes of n floats as F32, F16 or BF16, all of which hold the weights exactly. */
static unsigned char *tiny_llama_bytes(const float *x, size_t n, llm_safetensors_dtype dtype) {
    unsigned char *b = (unsigned char *)test_memory(4 * n, 1);
    for (size_t i = 0; i < n; i++) {
        uint32_t bits, short_ = 0;
        memcpy(&bits, &x[i], sizeof bits);
        if (dtype == LLM_SAFETENSORS_BF16) short_ = bits >> 16;
        if (dtype == LLM_SAFETENSORS_F16 && x[i] != 0.0f)
            short_ =
                (bits >> 16 & 0x8000) | (((bits >> 23 & 255) - 112) << 10) | (bits >> 13 & 1023);
        if (dtype == LLM_SAFETENSORS_F32)
            memcpy(b + 4 * i, &bits, 4);
        else
            b[2 * i] = (unsigned char)short_, b[2 * i + 1] = (unsigned char)(short_ >> 8);
    }
    return b;
}

/* Writes config.json (text) and model.safetensors to a directory of the test. */
TEST_UNUSED static const char *tiny_llama_directory(const tiny_llama *m, const char *config,
                                                    llm_safetensors_dtype dtype) {
    llm_safetensors_tensor t[TINY_LLAMA_MOST];
    llm_error e;
    static char dir[600];
    memset(t, 0, sizeof t);
    for (size_t i = 0; i < m->count; i++) {
        t[i].name = m->t[i].name, t[i].dtype = dtype;
        t[i].rank = m->t[i].columns ? 2 : 1;
        t[i].shape[0] = m->t[i].rows, t[i].shape[1] = m->t[i].columns;
        t[i].data = tiny_llama_bytes(m->t[i].data,
                                     m->t[i].rows * (m->t[i].columns ? m->t[i].columns : 1), dtype);
    }
    CHECK(llm_safetensors_write(test_path("model.safetensors"), t, m->count, NULL, &e));
    CHECK(llm_file_write(test_path("config.json"), config, strlen(config), &e));
    snprintf(dir, sizeof dir, "%s", test_path("x"));
    dir[strlen(dir) - 2] = 0;
    return dir;
}

/* The name of a tensor in GGUF; a static text. */
static const char *tiny_llama_gguf_name(const char *name, bool gemma) {
    static const char *const pair[][2] = {
        {"self_attn.q_proj.weight", "attn_q.weight"},
        {"self_attn.k_proj.weight", "attn_k.weight"},
        {"self_attn.v_proj.weight", "attn_v.weight"},
        {"self_attn.o_proj.weight", "attn_output.weight"},
        {"self_attn.q_proj.bias", "attn_q.bias"},
        {"self_attn.k_proj.bias", "attn_k.bias"},
        {"self_attn.v_proj.bias", "attn_v.bias"},
        {"self_attn.q_norm.weight", "attn_q_norm.weight"},
        {"self_attn.k_norm.weight", "attn_k_norm.weight"},
        {"mlp.gate_proj.weight", "ffn_gate.weight"},
        {"mlp.up_proj.weight", "ffn_up.weight"},
        {"mlp.down_proj.weight", "ffn_down.weight"},
        {"input_layernorm.weight", "attn_norm.weight"},
        {"pre_feedforward_layernorm.weight", "ffn_norm.weight"},
        {"post_feedforward_layernorm.weight", "post_ffw_norm.weight"}};
    static const char *const old[][2] = {
        {"ln_1", "attn_norm"}, {"attn.c_attn", "attn_qkv"}, {"attn.c_proj", "attn_output"},
        {"ln_2", "ffn_norm"},  {"mlp.c_fc", "ffn_up"},      {"mlp.c_proj", "ffn_down"},
        {"wte", "token_embd"}, {"wpe", "position_embd"},    {"ln_f", "output_norm"}};
    static char text[64];
    if (strncmp(name, "transformer.", 12) == 0) {
        const bool inner = strncmp(name, "transformer.h.", 14) == 0;
        const char *part = name + (inner ? 16 : 12), *dot = strrchr(name, '.');
        size_t i = 0;
        while (strncmp(old[i][0], part, strlen(old[i][0])) != 0) i++;
        snprintf(text, sizeof text, inner ? "blk.%c.%s%s" : "%.0d%s%s", inner ? name[14] : 0,
                 old[i][1], dot);
        return text;
    }
    if (strcmp(name, "model.embed_tokens.weight") == 0) return "token_embd.weight";
    if (strcmp(name, "model.norm.weight") == 0) return "output_norm.weight";
    if (strcmp(name, "lm_head.weight") == 0) return "output.weight";
    const char *part = name + strlen("model.layers.0."),
               *to = gemma ? "post_attention_norm.weight" : "ffn_norm.weight";
    for (size_t i = 0; i < sizeof pair / sizeof *pair; i++)
        if (strcmp(pair[i][0], part) == 0) to = pair[i][1];
    snprintf(text, sizeof text, "blk.%c.%s", name[strlen("model.layers.")], to);
    return text;
}

/* Writes a GGUF file as llama.cpp's converter does, whose settings are in the buffer `pair`: rows
 * of a llama's q and k for rotations of neighbours, Gemma's norms with 1 added; rope_freqs (head /
 * 2) or NULL. */
TEST_UNUSED static void tiny_llama_gguf(const char *path, const tiny_llama *m, const char *family,
                                        size_t head, const llm_buffer *pair, size_t pairs,
                                        const float *rope_freqs) {
    const bool gemma = strcmp(family, "gemma2") == 0, turned = strcmp(family, "llama") == 0 ||
                                                               strcmp(family, "llama3") == 0 ||
                                                               strcmp(family, "mistral") == 0;
    llm_gguf_file_tensor t[TINY_LLAMA_MOST + 1];
    llm_error e;
    memset(t, 0, sizeof t);
    size_t count = m->count;
    for (size_t i = 0; i < m->count; i++) {
        const tiny_llama_tensor *from = &m->t[i];
        const size_t n = from->rows * (from->columns ? from->columns : 1);
        float *x = (float *)test_memory(n, sizeof(float));
        const bool norm = tiny_llama_is_norm(from->name);
        const bool inputs = from->columns && strstr(from->name, ".c_"); /* are rows: GPT-2 */
        const bool rotated =
            turned && (strstr(from->name, "q_proj.weight") || strstr(from->name, "k_proj.weight"));
        for (size_t r = 0; r < from->rows; r++) {
            const size_t in = r % head,
                         to = rotated ? r - in + (in < head / 2 ? 2 * in : 2 * (in - head / 2) + 1)
                                      : r;
            for (size_t c = 0; c < n / from->rows; c++)
                x[inputs ? c * from->rows + r : to * (n / from->rows) + c] =
                    from->data[r * (n / from->rows) + c] + (norm && gemma ? 1.0f : 0.0f);
        }
        snprintf(t[i].name, sizeof t[i].name, "%s", tiny_llama_gguf_name(from->name, gemma));
        t[i].type = LLM_GGUF_BLOCKS_F32, t[i].rank = from->columns ? 2 : 1;
        t[i].shape[inputs] = from->rows, t[i].shape[!inputs] = from->columns;
        t[i].data = tiny_llama_bytes(x, n, LLM_SAFETENSORS_F32);
    }
    if (rope_freqs) {
        snprintf(t[count].name, sizeof t[count].name, "rope_freqs.weight");
        t[count].rank = 1, t[count].shape[0] = head / 2;
        t[count++].data = tiny_llama_bytes(rope_freqs, head / 2, LLM_SAFETENSORS_F32);
    }
    CHECK(llm_gguf_write(path, pair, pairs, t, count, &e));
}

/* The settings of a family as pairs. */
TEST_UNUSED static void tiny_llama_pairs(llm_buffer *b, size_t *pairs, const char *family,
                                         size_t head) {
    const bool gemma = strcmp(family, "gemma2") == 0, mistral = strcmp(family, "mistral") == 0;
    const char *a = family[0] == 'l' || mistral ? "llama" : family;
    const bool old = strcmp(family, "gpt2") == 0;
    const struct {
        const char *key;
        llm_gguf_values_type type;
        double value;
    } all[] = {{"context_length", LLM_GGUF_VALUES_U32, 64},
               {"embedding_length", LLM_GGUF_VALUES_U32, 16},
               {"feed_forward_length", LLM_GGUF_VALUES_U32, 24},
               {"block_count", LLM_GGUF_VALUES_U32, 2},
               {"attention.head_count", LLM_GGUF_VALUES_U32, 4},
               {"attention.head_count_kv", LLM_GGUF_VALUES_U32, old ? 4.0 : 2.0},
               {"attention.key_length", LLM_GGUF_VALUES_U32, (double)head},
               {old ? "attention.layer_norm_epsilon" : "attention.layer_norm_rms_epsilon",
                LLM_GGUF_VALUES_F32, (*a == 'l' && !mistral) || old ? 1e-5 : 1e-6},
               {"rope.freq_base", LLM_GGUF_VALUES_F32, strcmp(family, "llama3") ? 10000.0 : 100.0},
               {mistral || gemma ? "attention.sliding_window" : "unknown", LLM_GGUF_VALUES_U32,
                mistral ? 5.0 : 6.0},
               {"attn_logit_softcapping", LLM_GGUF_VALUES_F32, 3.0},
               {"final_logit_softcapping", LLM_GGUF_VALUES_F32, 5.0}};
    CHECK(llm_gguf_write_string(b, pairs, "general.architecture", a));
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        char key[96];
        snprintf(key, sizeof key, "%s.%s", a, all[i].key);
        CHECK(llm_gguf_write_value(b, pairs, key, all[i].type, all[i].value));
    }
}

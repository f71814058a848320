/* The six small models of tests/13-transformer/transformer.py, the five of transformer_model.py,
 * and their weights. Behind test.h and llm.h. */
#ifndef TINY_TRANSFORMER_H
#define TINY_TRANSFORMER_H

TEST_UNUSED static const char *const tiny_transformer_name[6] = {"2017", "bert",  "gpt2",
                                                                 "t5",   "llama", "t5_gated"};

TEST_UNUSED static llm_transformer_config tiny_transformer(size_t k) {
    llm_transformer_config c = llm_transformer_preset((llm_transformer_family)(k < 5 ? k : 3));
    const size_t encoder[6] = {2, 1, 0, 2, 0, 1}, decoder[6] = {1, 0, 2, 1, 2, 2};
    c.encoder = encoder[k], c.decoder = decoder[k];
    c.vocab = 11, c.width = 8, c.heads = c.kv_heads = 2, c.head_size = 4, c.hidden = 6;
    if (c.places) c.places = 7;
    if (c.buckets) c.buckets = 4, c.head_size = 3;
    if (k == 4) c.heads = 4;
    if (k == 5) c.gated = true, c.tied = false;
    return c;
}

/* The generator of transformer_model.py: multiples of 1/64 from -1/2 to 1/2. */
TEST_UNUSED static void tiny_transformer_numbers(float *w, size_t n, uint32_t *state) {
    for (size_t i = 0; i < n; i++) {
        *state = *state * 1664525u + 1013904223u;
        w[i] = ((float)((*state >> 16) % 65) - 32.0f) / 64.0f;
    }
}

/* Gains around 1. */
TEST_UNUSED static void tiny_transformer_gains(const llm_transformer_weights *w,
                                               const llm_transformer_config *c) {
    float *gain[64];
    size_t n = 0;
    gain[n++] = w->first.w;
    for (size_t k = 0; k < 2; k++) {
        for (size_t l = 0; l < (k ? c->decoder : c->encoder); l++) {
            const llm_transformer_weights_layer *p = &w->stack[k].layer[l];
            gain[n++] = p->attn.norm.w, gain[n++] = p->cross.norm.w, gain[n++] = p->norm.w;
        }
        gain[n++] = w->stack[k].norm.w;
    }
    for (size_t j = 0; j < n; j++)
        for (size_t i = 0; gain[j] && i < c->width; i++) gain[j][i] += 1.0f;
}

/* Its models: 2017, BERT, GPT-2, T5, Llama. */
TEST_UNUSED static llm_transformer_config tiny_transformer_of(size_t k) {
    llm_transformer_config c = llm_transformer_preset((llm_transformer_family)k);
    const size_t encoder[5] = {1, 2, 0, 1, 0}, decoder[5] = {1, 0, 2, 2, 2};
    c.encoder = encoder[k], c.decoder = decoder[k], c.fused = c.pooler = false;
    c.vocab = 7, c.width = 4, c.heads = c.kv_heads = 2, c.head_size = 2, c.hidden = 6;
    if (k == 1) c.places = 6;
    if (k == 2) c.places = 5;
    if (k == 3) c.buckets = 8, c.far = 5, c.head_size = 3;
    if (k == 4) c.kv_heads = 1, c.head_size = 4;
    return c;
}

/* A directory of that name with config.json = text and, of a model with weights flat, its tensors
 * as the layout names them behind `prefix`, then `more` others. */
TEST_UNUSED static const char *tiny_transformer_save(const char *name, const char *text,
                                                     const llm_transformer_config *c,
                                                     const float *flat, const char *prefix,
                                                     const llm_safetensors_tensor *more,
                                                     size_t count) {
    static llm_transformer_layout_tensor list[128];
    static llm_safetensors_tensor out[160];
    static char full[160][96];
    const char *dir = test_path(name);
    char path[600];
    size_t numbers;
    llm_error e;
    const size_t n = llm_transformer_layout(list, &numbers, c);
    mkdir(dir, 0700);
    memset(out, 0, sizeof out);
    for (size_t i = 0; i < n; i++) {
        strcat(strcpy(full[i], prefix), list[i].name);
        out[i].name = full[i];
        out[i].dtype = LLM_SAFETENSORS_F32;
        const bool vector = strstr(list[i].name, "Norm.") || strstr(list[i].name, "norm.") ||
                            strstr(list[i].name, ".bias");
        out[i].rank = vector ? 1 : 2;
        out[i].shape[0] = list[i].rows, out[i].shape[1] = list[i].cols;
        out[i].data = (const unsigned char *)(flat + list[i].offset);
    }
    for (size_t i = 0; i < count; i++) out[n + i] = more[i];
    snprintf(path, sizeof path, "%s/config.json", dir);
    CHECK(llm_file_write(path, text, strlen(text), &e));
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    CHECK(llm_safetensors_write(path, out, n + count, NULL, &e));
    return dir;
}
TEST_UNUSED static llm_safetensors_tensor tiny_transformer_tensor(const char *name, size_t rows,
                                                                  size_t cols, const float *data) {
    llm_safetensors_tensor t;
    memset(&t, 0, sizeof t);
    t.name = name, t.dtype = LLM_SAFETENSORS_F32, t.rank = cols ? 2 : 1;
    t.shape[0] = rows, t.shape[1] = cols, t.data = (const unsigned char *)data;
    return t;
}

#endif

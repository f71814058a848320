/* @llama_gguf */
#include "../test.h"

#include "../../llm.h"

typedef struct {
    const char *key; /* after the architecture */
    double value;
    const char *text; /* of a string, or NULL */
} lg_pair;

static size_t lg_rows = 10; /* of the embedding, as the open file has it */

/* Reads a file whose pairs are the usual ones, with `more` put in front or over them. */
static bool lg_read(llm_llama_config *c, const char *arch, const lg_pair *more, size_t count,
                    bool output, size_t rank, llm_error *e) {
    static const lg_pair usual[] = {{"context_length", 64, NULL},
                                    {"embedding_length", 32, NULL},
                                    {"feed_forward_length", 48, NULL},
                                    {"block_count", 2, NULL},
                                    {"attention.head_count", 4, NULL}};
    llm_buffer b = {NULL, 0, 0};
    size_t pairs = 0;
    if (*arch) CHECK(llm_gguf_write_string(&b, &pairs, "general.architecture", arch));
    for (size_t i = 0; i < count + 5; i++) {
        char key[96];
        const lg_pair *p = i < count ? &more[i] : &usual[i - count];
        bool given = false; /* already, with another value */
        for (size_t k = 0; k < count && i >= count; k++)
            given = given || strcmp(more[k].key, p->key) == 0;
        if (given || (p->value < -1.0 && !p->text)) continue;
        snprintf(key, sizeof key, "%s.%s", arch, p->key);
        if (p->text)
            CHECK(llm_gguf_write_string(&b, &pairs, key, p->text));
        else
            CHECK(llm_gguf_write_value(&b, &pairs, key, LLM_GGUF_VALUES_F64, p->value));
    }
    static const float zeros[10 * 32];
    llm_gguf_file_tensor t[2];
    llm_gguf_file g;
    memset(t, 0, sizeof t);
    strcpy(t[0].name, "token_embd.weight"), strcpy(t[1].name, "output.weight");
    for (size_t i = 0; i < 2; i++) {
        t[i].rank = rank, t[i].shape[0] = rank == 2 ? 10 : 320, t[i].shape[1] = 32;
        t[i].data = (const unsigned char *)zeros;
    }
    const char *path = test_path("m.gguf");
    CHECK(llm_gguf_write(path, &b, pairs, t, rank == 0 ? 0 : output ? 2 : 1, e));
    CHECK(llm_gguf_file_open(&g, path, e));
    for (size_t i = 0; i < g.count && rank == 2; i++) g.tensor[i].shape[0] = lg_rows;
    memset(c, 0xff, sizeof *c);
    const bool ok = llm_llama_gguf_read(c, &g, e);
    llm_gguf_file_close(&g);
    llm_buffer_free(&b);
    return ok;
}

TEST(llama_gguf,
     "what is not said has llama.cpp's value; ties and tokens are seen at the tensors") {
    llm_llama_config c;
    llm_error e;
    CHECK(lg_read(&c, "llama", NULL, 0, true, 2, &e));
    CHECK(c.family == LLM_LLAMA_CONFIG_LLAMA && c.vocab == 10 && c.context == 64 && c.width == 32);
    CHECK(c.hidden == 48 && c.layers == 2 && c.heads == 4 && c.kv_heads == 4 && c.head == 8);
    CHECK(c.window == 0 && !c.tied && c.eps == 1e-6f && c.scale == (float)(1.0 / sqrt(8.0)));
    CHECK(c.pairing == LLM_ROPE_NEIGHBOURS && c.score_cap == 0.0f && c.logit_cap == 0.0f);
    CHECK(c.rope.mode == LLM_YARN_NONE && c.rope.theta == 10000.0 && c.rope.rot == 8);
    CHECK(c.rope.factor == 1.0 && c.rope.trained == 64.0 && !c.rounded);
    static const char *const others[3] = {"qwen2", "qwen3", "gemma2"};
    for (int i = 0; i < 3; i++) {
        CHECK(lg_read(&c, others[i], NULL, 0, false, 2, &e));
        CHECK(c.family == (llm_llama_config_family)(LLM_LLAMA_CONFIG_QWEN2 + i) && c.tied);
        CHECK(c.pairing == LLM_ROPE_HALVES);
    }
    CHECK(c.score_cap == 50.0f && c.logit_cap == 30.0f && c.scale == (float)(1.0 / sqrt(8.0)));
    const lg_pair odd[3] = {{"embedding_length", 12, NULL},
                            {"attention.layer_norm_epsilon", 0.5, NULL},
                            {"attention.layer_norm_rms_epsilon", 0.25, NULL}};
    CHECK(lg_read(&c, "gpt2", odd, 3, false, 2, &e) && c.family == LLM_LLAMA_CONFIG_GPT2);
    CHECK(c.head == 3 && c.kv_heads == 4 && c.eps == 0.5f && c.tied && c.window == 0);
    CHECK(lg_read(&c, "gpt2", NULL, 0, true, 2, &e) && c.eps == 1e-5f && !c.tied);
}

TEST(llama_gguf, "what is said is read") {
    static const lg_pair more[] = {{"attention.head_count_kv", 2, NULL},
                                   {"attention.key_length", 12, NULL},
                                   {"attention.value_length", 12, NULL},
                                   {"rope.dimension_count", 12, NULL},
                                   {"rope.scaling.type", 0, "yarn"},
                                   {"rope.scaling.factor", 4, NULL},
                                   {"rope.scaling.original_context_length", 16, NULL},
                                   {"rope.freq_base", 5000, NULL},
                                   {"attention.sliding_window", 7, NULL},
                                   {"attention.layer_norm_rms_epsilon", 0.25, NULL},
                                   {"attn_logit_softcapping", 5, NULL},
                                   {"final_logit_softcapping", 6, NULL}};
    llm_llama_config c;
    llm_error e;
    CHECK(lg_read(&c, "gemma2", more, 12, true, 2, &e));
    CHECK(c.kv_heads == 2 && c.head == 12 && c.rope.mode == LLM_YARN_YARN && c.rope.factor == 4.0);
    CHECK(c.rope.trained == 16.0 && c.rope.theta == 5000.0 && c.rope.rot == 12 && c.window == 7);
    CHECK(c.eps == 0.25f && c.score_cap == 5.0f && c.logit_cap == 6.0f && !c.tied);
    CHECK(c.scale == (float)(1.0 / sqrt(12.0)));
    CHECK(lg_read(&c, "llama", more, 12, true, 2, &e) && c.score_cap == 0.0f &&
          c.logit_cap == 0.0f);
    const lg_pair large[2] = {{"block_count", 46, NULL}, {"attention.key_length", 12, NULL}};
    CHECK(lg_read(&c, "gemma2", large, 2, true, 2, &e) && c.scale == (float)(1.0 / sqrt(8.0)));
    CHECK(lg_read(&c, "llama", large, 2, true, 2, &e) && c.scale == (float)(1.0 / sqrt(12.0)));
    const lg_pair linear = {"rope.scaling.type", 0, "linear"},
                  none = {"rope.scaling.type", 0, "none"};
    CHECK(lg_read(&c, "llama", &linear, 1, true, 2, &e) && c.rope.mode == LLM_YARN_LINEAR);
    CHECK(lg_read(&c, "llama", &none, 1, true, 2, &e) && c.rope.mode == LLM_YARN_NONE);
}

TEST(llama_gguf, "the largest and the smallest of each size are read, one more is refused") {
    static const lg_pair most[] = {
        {"context_length", 1 << 24, NULL},           {"embedding_length", 1 << 16, NULL},
        {"feed_forward_length", 1 << 20, NULL},      {"block_count", 4096, NULL},
        {"attention.head_count", 4096, NULL},        {"attention.head_count_kv", 4096, NULL},
        {"attention.sliding_window", 1 << 24, NULL}, {"attention.key_length", 4096, NULL}};
    enum { COUNT = sizeof most / sizeof *most };
    lg_pair one[COUNT];
    llm_llama_config c;
    llm_error e;
    CHECK(lg_read(&c, "llama", most, COUNT, true, 2, &e));
    CHECK(c.context == 1 << 24 && c.width == 1 << 16 && c.hidden == 1 << 20 && c.layers == 4096);
    CHECK(c.heads == 4096 && c.kv_heads == 4096 && c.head == 4096 && c.window == 1 << 24);
    for (size_t i = 0; i < COUNT; i++) {
        memcpy(one, most, sizeof most);
        one[i].value += 1.0;
        CHECK_FAILS(lg_read(&c, "llama", one, COUNT, true, 2, &e), e, one[i].key);
        one[i].value = 1.0;
    }
    for (size_t i = 0; i < COUNT; i++) one[i].value = i + 1 < COUNT ? 1.0 : 2.0;
    CHECK(lg_read(&c, "llama", one, COUNT, true, 2, &e));
    CHECK(c.context == 1 && c.width == 1 && c.hidden == 1 && c.layers == 1 && c.window == 1);
    CHECK(c.heads == 1 && c.kv_heads == 1 && c.head == 2 && c.rope.trained == 1.0);
    const lg_pair heads = {"attention.head_count", 64, NULL}; /* more than there is width */
    CHECK_FAILS(lg_read(&c, "llama", &heads, 1, true, 2, &e), e, "64 heads of width 1 on 64");
    static const lg_pair small[] = {{"rope.freq_base", 1.5, NULL},
                                    {"rope.scaling.factor", 0.5, NULL},
                                    {"rope.scaling.original_context_length", 0.5, NULL}};
    CHECK(lg_read(&c, "llama", small, 3, true, 2, &e) && c.rope.theta == 1.5);
    CHECK(c.rope.factor == 0.5 && c.rope.trained == 0.5);
    const size_t rows[4] = {1, 1 << 24, 0, (1 << 24) + 1};
    for (size_t i = 0; i < 4; i++) {
        lg_rows = rows[i];
        CHECK(lg_read(&c, "llama", NULL, 0, true, 2, &e) == (i < 2) && c.vocab == rows[i]);
        if (i >= 2) CHECK(strstr(e.message, "token_embd.weight has"));
    }
    lg_rows = 10;
}

TEST(llama_gguf, "what is missing or out of bounds is named") {
    static const struct {
        lg_pair pair;
        const char *says;
    } all[] = {{{"context_length", -2, NULL}, "no llama.context_length"},
               {{"embedding_length", -2, NULL}, "no llama.embedding_length"},
               {{"feed_forward_length", -2, NULL}, "no llama.feed_forward_length"},
               {{"block_count", -2, NULL}, "no llama.block_count"},
               {{"block_count", 0, NULL}, "llama.block_count is 0, expected 1 to 4096"},
               {{"block_count", 4097, NULL}, "llama.block_count is 4097"},
               {{"block_count", 1.5, NULL}, "llama.block_count is 1.5"},
               {{"block_count", 0, "2"}, "llama.block_count is 0"},
               {{"attention.head_count", -2, NULL}, "no llama.attention.head_count"},
               {{"attention.head_count_kv", 3, NULL}, "4 heads of width 8 on 3"},
               {{"attention.key_length", 7, NULL}, "4 heads of width 7"},
               {{"attention.value_length", 9, NULL}, "or parts of them"},
               {{"rope.dimension_count", 4, NULL}, "or parts of them"},
               {{"attention.sliding_window", 0, NULL}, "llama.attention.sliding_window is 0"},
               {{"rope.scaling.type", 0, "longrope"}, "is none of none, linear, yarn"},
               {{"rope.scaling.type", 1, NULL}, "is none of none, linear, yarn"},
               {{"rope.freq_base", 1, NULL}, "base 1"},
               {{"rope.scaling.factor", 0, NULL}, "factor 0"},
               {{"rope.scaling.original_context_length", 0, NULL}, "rotations"}};
    llm_llama_config c;
    llm_error e;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        CHECK_FAILS(lg_read(&c, "llama", &all[i].pair, 1, true, 2, &e), e, all[i].says);
    const lg_pair grouped = {"attention.head_count_kv", 2, NULL};
    CHECK_FAILS(lg_read(&c, "gpt2", &grouped, 1, true, 2, &e), e, "4 heads of width 8 on 2");
    const lg_pair wide = {"attention.key_length", 6, NULL};
    CHECK_FAILS(lg_read(&c, "gpt2", &wide, 1, true, 2, &e), e, "4 heads of width 6 on 4");
    CHECK_FAILS(lg_read(&c, "mistral", NULL, 0, true, 2, &e), e, "general.architecture is none of");
    CHECK_FAILS(lg_read(&c, "", NULL, 0, true, 2, &e), e, "general.architecture is none of");
    CHECK_FAILS(lg_read(&c, "llama", NULL, 0, true, 1, &e), e, "no matrix token_embd.weight");
    CHECK_FAILS(lg_read(&c, "llama", NULL, 0, true, 0, &e), e, "no matrix token_embd.weight");
}

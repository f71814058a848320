/* @gpt2_config */
#include "../test.h"

/* a program in a locale where printf writes a comma, and strtod reads one */
static bool comma;
static int config_snprintf(char *out, size_t size, const char *format, ...) {
    va_list args;
    va_start(args, format);
    const int n = vsnprintf(out, size, format, args);
    va_end(args);
    for (char *c = out; comma && *c; c++)
        if (*c == '.') *c = ',';
    return n;
}
static double config_strtod(const char *s, char **end) {
    char text[64];
    CHECK(!end && strlen(s) < sizeof text && (comma || !strchr(s, ',')));
    for (size_t i = 0; i <= strlen(s); i++) text[i] = comma && s[i] == ',' ? '.' : s[i];
    return strtod(text, NULL);
}
#define snprintf config_snprintf
#define strtod config_strtod
#include "../../llm.h"
#undef snprintf
#undef strtod

static bool read_config(llm_gpt2_config *c, const char *text, llm_error *e) {
    llm_json j;
    CHECK(llm_json_parse(&j, text, strlen(text), e));
    const bool ok = llm_gpt2_config_read(c, &j, e);
    llm_json_free(&j);
    return ok;
}

TEST(gpt2_config, "the config.json of the released 124M model") {
    llm_gpt2_config c;
    llm_error e;
    CHECK(read_config(
        &c,
        "{\"activation_function\": \"gelu_new\", \"architectures\": [\"GPT2LMHeadModel\"],"
        "\"attn_pdrop\": 0.1, \"bos_token_id\": 50256, \"embd_pdrop\": 0.1,"
        "\"eos_token_id\": 50256, \"initializer_range\": 0.02,"
        "\"layer_norm_epsilon\": 1e-05, \"model_type\": \"gpt2\", \"n_ctx\": 1024,"
        "\"n_embd\": 768, \"n_head\": 12, \"n_layer\": 12, \"n_positions\": 1024,"
        "\"resid_pdrop\": 0.1, \"summary_activation\": null, \"vocab_size\": 50257}",
        &e));
    CHECK(c.vocab == 50257 && c.context == 1024 && c.layers == 12 && c.heads == 12);
    CHECK(c.width == 768 && c.hidden == 3072 && c.eps == 1e-5f);
    CHECK(llm_gpt2_count(&c) == 124439808);
}

TEST(gpt2_config, "what is put is read back") {
    const float eps[5] = {1e-5f, 0.25f, 1.25e-5f, 3.3333333e-6f, 1.00000025e-5f};
    const char *const shortest[5] = {"1e-05", "0.25", "1.25e-05", "3.3333333e-06",
                                     "1.00000025e-05"};
    for (size_t i = 0; i < 10; i++) {
        llm_gpt2_config c = llm_gpt2_defaults(), d;
        llm_error e;
        llm_buffer b = {NULL, 0, 0};
        c.vocab = 11, c.context = 13, c.layers = 3, c.heads = 5, c.width = 35, c.hidden = 17;
        c.eps = eps[i / 2];
        comma = i % 2 == 1;
        CHECK(llm_gpt2_config_put(&b, &c));
        comma = false;
        char line[64];
        snprintf(line, sizeof line, "\"layer_norm_epsilon\": %s,\n", shortest[i / 2]);
        CHECK(strstr(b.data, line));
        CHECK(read_config(&d, b.data, &e));
        CHECK(d.vocab == 11 && d.context == 13 && d.layers == 3 && d.heads == 5 && d.width == 35);
        CHECK(d.hidden == 17 && d.eps == eps[i / 2]);
        b.size = 0;
        c.eps = INFINITY;
        CHECK(!llm_gpt2_config_put(&b, &c));
        llm_buffer_free(&b);
    }
}

#define SIZES "\"n_positions\": 4, \"n_embd\": 4, \"n_layer\": 1, \"n_head\": 2"

TEST(gpt2_config, "what is missing, out of range, or computed differently is refused by name") {
    llm_gpt2_config c;
    llm_error e;
    CHECK(read_config(&c, "{\"model_type\": \"gpt2\", \"vocab_size\": 16777216, " SIZES "}", &e));
    CHECK(c.hidden == 16 && c.eps == 1e-5f);
    CHECK(read_config(&c,
                      "{\"model_type\": \"gpt2\", \"vocab_size\": 5, \"bos_token_id\": null, "
                      "\"eos_token_id\": null, \"n_inner\": 1048576, \"n_positions\": 16777216, "
                      "\"n_embd\": 65536, \"n_layer\": 4096, \"n_head\": 65536}",
                      &e)); /* the mosts themselves */
    CHECK(c.hidden == 1048576 && c.context == 16777216 && c.layers == 4096 && c.heads == 65536);
    const struct {
        const char *text, *error;
    } bad[] = {
        {"[]", "not an object"},
        {"{}", "model_type"},
        {"{\"model_type\": \"llama\", \"vocab_size\": 5, " SIZES "}", "model_type is not \"gpt2\""},
        {"{\"model_type\": 2, \"vocab_size\": 5, " SIZES "}", "model_type is not \"gpt2\""},
        {"{\"model_type\": \"gpt2\", " SIZES "}", "no vocab_size"},
        {"{\"model_type\": \"gpt2\", \"vocab_size\": 0, " SIZES "}", "vocab_size is 0"},
        {"{\"model_type\": \"gpt2\", \"vocab_size\": -5, " SIZES "}", "vocab_size is -5"},
        {"{\"model_type\": \"gpt2\", \"vocab_size\": 5.5, " SIZES "}", "vocab_size is 5.5"},
        {"{\"model_type\": \"gpt2\", \"vocab_size\": \"5\", " SIZES "}", "vocab_size is 5"},
        {"{\"model_type\": \"gpt2\", \"vocab_size\": null, " SIZES "}", "vocab_size"},
        {"{\"model_type\": \"gpt2\", \"vocab_size\": 16777217, " SIZES "}", "1 to 16777216"},
        {"{\"model_type\": \"gpt2\", \"vocab_size\": 99999999999999999999999, " SIZES "}",
         "vocab_size"},
        {"{\"model_type\": \"gpt2\", \"vocab_size\": 5, \"n_inner\": 0, " SIZES "}", "n_inner"},
        {"{\"model_type\": \"gpt2\", \"vocab_size\": 5, \"activation_function\": \"relu\", " SIZES
         "}",
         "activation_function is not \"gelu_new\""},
        {"{\"model_type\": \"gpt2\", \"vocab_size\": 5, \"scale_attn_weights\": false, " SIZES "}",
         "scale_attn_weights is not true"},
        {"{\"model_type\": \"gpt2\", \"vocab_size\": 5, \"scale_attn_by_inverse_layer_idx\": "
         "true, " SIZES "}",
         "scale_attn_by_inverse_layer_idx is not false"},
        {"{\"model_type\": \"gpt2\", \"vocab_size\": 5, \"add_cross_attention\": true, " SIZES "}",
         "add_cross_attention is not false"},
        {"{\"model_type\": \"gpt2\", \"vocab_size\": 5, \"tie_word_embeddings\": false, " SIZES "}",
         "tie_word_embeddings is not true"},
        {"{\"model_type\": \"gpt2\", \"vocab_size\": 5, \"n_positions\": 4, \"n_embd\": 5, "
         "\"n_layer\": 1, "
         "\"n_head\": 2}",
         "n_embd 5 is not a multiple of n_head 2"},
        {"{\"model_type\": \"gpt2\", \"vocab_size\": 5, \"n_positions\": 4, \"n_embd\": 65537, "
         "\"n_layer\": 1, \"n_head\": 1}",
         "n_embd is 65537"},
        {"{\"model_type\": \"gpt2\", \"vocab_size\": 5, \"n_positions\": 4, \"n_embd\": 4, "
         "\"n_layer\": 4097, \"n_head\": 1}",
         "n_layer is 4097"},
        {"{\"model_type\": \"gpt2\", \"vocab_size\": 5, \"n_positions\": 16777217, "
         "\"n_embd\": 4, \"n_layer\": 1, \"n_head\": 1}",
         "n_positions is 16777217"},
        {"{\"model_type\": \"gpt2\", \"vocab_size\": 5, \"n_positions\": 4, \"n_embd\": 4, "
         "\"n_layer\": 1, \"n_head\": 65537}",
         "n_head is 65537"},
        {"{\"model_type\": \"gpt2\", \"vocab_size\": 5, \"n_inner\": 1048577, " SIZES "}",
         "n_inner is 1048577"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        CHECK_FAILS(read_config(&c, bad[i].text, &e), e, bad[i].error);
}

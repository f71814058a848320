/* @transformer_file */
#include "../test.h"

#include <stdint.h>

/* memory that runs out after a number of calls */
static size_t calls = SIZE_MAX;
static void *file_malloc(size_t n) { return calls-- > 0 ? malloc(n) : NULL; }
static void *file_realloc(void *p, size_t n) { return calls-- > 0 ? realloc(p, n) : NULL; }
#define malloc file_malloc
#define realloc file_realloc
#include "../../llm.h"
#undef malloc
#undef realloc

#include "../tiny_litter.h"
#include "../tiny_transformer.h"

static const char t5[] = "{\"model_type\": \"t5\", \"vocab_size\": 7, \"d_model\": 4, \"d_kv\": 3, "
                         "\"d_ff\": 6, \"num_layers\": 1, \"num_decoder_layers\": 2, "
                         "\"num_heads\": 2, \"relative_attention_num_buckets\": 8, "
                         "\"relative_attention_max_distance\": 5, \"feed_forward_proj\": \"relu\", "
                         "\"layer_norm_epsilon\": 1e-3, \"tie_word_embeddings\": true}";
static const char bert[] = "{\"model_type\": \"bert\", \"vocab_size\": 7, \"hidden_size\": 4, "
                           "\"intermediate_size\": 6, \"num_hidden_layers\": 2, "
                           "\"num_attention_heads\": 2, \"max_position_embeddings\": 6, "
                           "\"type_vocab_size\": 2, \"hidden_act\": \"gelu\", "
                           "\"layer_norm_eps\": 1e-5, \"is_decoder\": false}";

/* text with `from` replaced by `to`. */
static const char *changed(const char *text, const char *from, const char *to) {
    char *out = (char *)test_memory(1024, 1);
    const char *at = strstr(text, from);
    CHECK(at != NULL);
    snprintf(out, 1024, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
    return out;
}
static float *numbers(const llm_transformer_config *c) {
    const size_t n = llm_transformer_count(c);
    float *flat = floats(n);
    uint32_t state = 7;
    tiny_transformer_numbers(flat, n, &state);
    return flat;
}
static bool open_only(const char *dir, llm_error *e) {
    llm_transformer_config c;
    llm_safetensors s;
    const char *prefix;
    float *flat;
    if (!llm_transformer_file_open(&flat, &c, &s, &prefix, dir, e)) return false;
    llm_safetensors_close(&s);
    free(flat);
    return true;
}

TEST(transformer_file, "a directory comes back as the vector and the switches that made it") {
    for (size_t k = 0; k < 4; k++) { /* T5, gated and untied; BERT, with prefix and pooler */
        const bool second = k % 2;
        llm_transformer_config want = tiny_transformer_of(k < 2 ? 3 : 1), c;
        want.eps = k < 2 ? 1e-3f : 1e-5f;
        if (k == 1) want.gated = true, want.tied = false, want.act = LLM_ACTIVATION_GELU_TANH;
        if (k == 3) want.pooler = true;
        const char *text = k < 2 ? t5 : bert;
        if (k == 1) text = changed(changed(text, "\"relu\"", "\"gated-gelu\""), "true", "false");
        const float *flat = numbers(&want);
        const char *dir =
            tiny_transformer_save("in", text, &want, flat, k == 3 ? "bert." : "", NULL, 0);
        llm_safetensors s;
        llm_error e;
        const char *prefix;
        float *got;
        CHECK(llm_transformer_file_open(&got, &c, &s, &prefix, dir, &e));
        CHECK(strcmp(prefix, k == 3 ? "bert." : "") == 0);
        CHECK(llm_transformer_count(&c) == llm_transformer_count(&want));
        CHECK(memcmp(got, flat, llm_transformer_count(&c) * sizeof(float)) == 0);
        CHECK(c.family == want.family && c.encoder == want.encoder && c.decoder == want.decoder);
        CHECK(c.heads == 2 && c.kv_heads == 2 && c.head_size == want.head_size &&
              c.eps == want.eps);
        CHECK(c.act == want.act && c.tied == want.tied && c.gated == want.gated);
        CHECK(c.pooler == want.pooler && c.places == want.places && c.types == want.types);
        CHECK(c.buckets == want.buckets && c.far == (k < 2 ? 5u : 128u));
        llm_safetensors_close(&s);
        free(got);
        (void)second;
    }
}

TEST(transformer_file, "settings that are not given are those of transformers") {
    const char text[] = "{\"model_type\": \"t5\", \"vocab_size\": 7, \"d_model\": 4, \"d_kv\": 3, "
                        "\"d_ff\": 6, \"num_layers\": 3, \"num_decoder_layers\": null, "
                        "\"num_heads\": 2}";
    llm_json j;
    llm_error e;
    llm_transformer_config c;
    CHECK(llm_json_parse(&j, text, strlen(text), &e) && llm_transformer_file_config(&c, &j, &e));
    CHECK(c.decoder == 3 && c.buckets == 32 && c.far == 128 && c.eps == 1e-6f && c.tied &&
          !c.gated);
    llm_json_free(&j);
    const char *one = changed(text, "\"num_layers\": 3", "\"num_layers\": 1"); /* and one decoder */
    CHECK(llm_json_parse(&j, one, strlen(one), &e) && llm_transformer_file_config(&c, &j, &e));
    CHECK(c.encoder == 1 && c.decoder == 1);
    llm_json_free(&j);
    const char *newer = changed(t5, "1e-3", "1e-3, \"scale_decoder_outputs\": false");
    CHECK(llm_json_parse(&j, newer, strlen(newer), &e) && llm_transformer_file_config(&c, &j, &e));
    CHECK(!c.tied); /* transformers 5 writes tied: true beside it */
    llm_json_free(&j);
    const char *b = changed(bert, "\"type_vocab_size\": 2, ", "");
    CHECK(llm_json_parse(&j, b, strlen(b), &e) && llm_transformer_file_config(&c, &j, &e));
    CHECK(!c.pooler && c.types == 2 && c.width == 4 && c.head_size == 2 && c.biases &&
          c.first_norm);
    llm_json_free(&j);
}

TEST(transformer_file, "the largest and the smallest of each size are read, one more is refused") {
    static const char *const key[2][9] = {
        {"vocab_size", "d_model", "d_ff", "num_heads", "num_layers", "d_kv", "num_decoder_layers",
         "relative_attention_num_buckets", "relative_attention_max_distance"},
        {"vocab_size", "hidden_size", "intermediate_size", "num_attention_heads",
         "num_hidden_layers", "max_position_embeddings", "type_vocab_size", NULL, NULL}};
    const size_t most[2][9] = {
        {1 << 24, 1 << 16, 1 << 20, 4096, 4096, 4096, 4096, 1 << 16, 1 << 24},
        {1 << 24, 1 << 16, 1 << 20, 4096, 4096, 1 << 24, 1 << 16, 0, 0}};
    for (size_t b = 0; b < 2; b++)
        for (size_t more = 0; more <= 10; more++) { /* of one of them; 9: of none; 10: all are 1 */
            char text[1000];
            size_t at = (size_t)snprintf(text, sizeof text, "{\"model_type\": \"%s\"%s",
                                         b ? "bert" : "t5", b ? ", \"hidden_act\": \"gelu\"" : "");
            for (size_t i = 0; i < 9 && key[b][i]; i++) {
                size_t value = more == 10 ? (i == 7 ? 4 : i == 8 ? 3 : 1) : most[b][i];
                at += (size_t)snprintf(text + at, sizeof text - at, ", \"%s\": %zu", key[b][i],
                                       value + (more == i));
            }
            snprintf(text + at, sizeof text - at, "}");
            llm_json j;
            llm_error e;
            llm_transformer_config c;
            CHECK(llm_json_parse(&j, text, strlen(text), &e));
            if (more < 9 && key[b][more]) {
                CHECK_FAILS(llm_transformer_file_config(&c, &j, &e), e, key[b][more]);
            } else if (more >= 9) {
                const size_t one = more == 10;
                CHECK(llm_transformer_file_config(&c, &j, &e));
                CHECK(c.vocab == (one ? 1 : most[b][0]) && c.width == (one ? 1 : most[b][1]));
                CHECK(c.hidden == (one ? 1 : most[b][2]) && c.heads == (one ? 1 : most[b][3]));
                CHECK(c.encoder == (one ? 1 : most[b][4]));
                CHECK((b ? c.places : c.head_size) == (one ? 1 : most[b][5]));
                CHECK((b ? c.types : c.decoder) == (one ? 1 : most[b][6]));
            }
            llm_json_free(&j);
        }
}

TEST(transformer_file, "a path may be relative") {
    llm_error e;
    const llm_transformer_config c = tiny_transformer_of(3);
    tiny_transformer_save("in", t5, &c, numbers(&c), "", NULL, 0);
    CHECK(chdir(test_path("")) == 0 && open_only("in", &e));
}

TEST(transformer_file, "settings that are not computed are refused by name") {
    static const char *const refused[][4] = {
        {t5, "\"t5\"", "\"umt5\"", "model_type \"umt5\", expected t5 or bert"},
        {t5, "\"t5\"", "5", "model_type \"\""},
        {t5, "\"relu\"", "\"gated-silu\"", "feed_forward_proj \"gated-silu\""},
        {t5, "\"vocab_size\": 7", "\"vocab_size\": 0", "vocab_size is 0, expected 1 to 16777216"},
        {t5, "\"vocab_size\": 7", "\"vocab_size\": {}", "vocab_size is no number"},
        {t5, "\"d_model\": 4, ", "", "no d_model"},
        {t5, "\"d_kv\": 3, ", "", "no d_kv"},
        {t5, "\"vocab_size\": 7, ", "", "no vocab_size"},
        {t5, "\"d_ff\": 6, ", "", "no d_ff"},
        {t5, "\"num_heads\": 2, ", "", "no num_heads"},
        {t5, "\"num_layers\": 1, ", "", "no num_layers"},
        {bert, "\"max_position_embeddings\": 6, ", "", "no max_position_embeddings"},
        {t5, "\"d_ff\": 6", "\"d_ff\": 1048577", "d_ff is 1048577"},
        {t5, "\"num_heads\": 2", "\"num_heads\": 4097", "num_heads is 4097"},
        {t5, "\"num_layers\": 1", "\"num_layers\": 4097", "num_layers is 4097"},
        {t5, "\"num_decoder_layers\": 2", "\"num_decoder_layers\": -1", "num_decoder_layers is"},
        {t5, "buckets\": 8", "buckets\": 6", "6 buckets of distances up to 5"},
        {t5, "max_distance\": 5", "max_distance\": 4", "8 buckets of distances up to 4"},
        {t5, "max_distance\": 5", "max_distance\": 0", "max_distance is 0"},
        {bert, "\"gelu\"", "\"relu\"", "activation \"relu\""},
        {bert, "false", "true", "a decoder"},
        {bert, "\"is_decoder\": false", "\"tie_word_embeddings\": false", "a head of its own"},
        {bert, "heads\": 2", "heads\": 3", "hidden_size 4 is not a multiple of 3 heads"},
        {bert, "embeddings\": 6", "embeddings\": 0", "max_position_embeddings is 0"},
        {bert, "\"type_vocab_size\": 2", "\"type_vocab_size\": 65537", "type_vocab_size is 65537"},
    };
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        const char *text = changed(refused[i][0], refused[i][1], refused[i][2]);
        llm_json j;
        llm_error e;
        llm_transformer_config c;
        CHECK(llm_json_parse(&j, text, strlen(text), &e));
        CHECK_FAILS(llm_transformer_file_config(&c, &j, &e), e, refused[i][3]);
        llm_json_free(&j);
    }
    llm_json j;
    llm_error e;
    llm_transformer_config c;
    CHECK(llm_json_parse(&j, "[1]", 3, &e));
    CHECK_FAILS(llm_transformer_file_config(&c, &j, &e), e, "not an object");
    llm_json_free(&j);
}

TEST(transformer_file,
     "tensors that do not belong to the settings are refused, spare ones are not") {
    llm_error e;
    const llm_transformer_config c = tiny_transformer_of(3), b = tiny_transformer_of(1);
    const float *flat = numbers(&c), *other = numbers(&b);
    llm_safetensors_tensor more[2] = {
        tiny_transformer_tensor("decoder.embed_tokens.weight", 7, 4, flat),
        tiny_transformer_tensor("lm_head.weight", 7, 4, flat)};
    CHECK(open_only(tiny_transformer_save("a", t5, &c, flat, "", more, 2), &e));
    more[0].name = "encoder.embed_tokens.weight";
    more[1].name = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight";
    CHECK(open_only(tiny_transformer_save("a", t5, &c, flat, "", more, 2), &e));
    more[0].name = "adapter.weight";
    CHECK_FAILS(open_only(tiny_transformer_save("a", t5, &c, flat, "", more, 2), &e), e,
                "1 tensors more than config.json's model has");
    more[0].name = "bert.embeddings.position_ids", more[1].name = "cls.predictions.bias";
    CHECK(open_only(tiny_transformer_save("a", bert, &b, other, "bert.", more, 2), &e));
    more[0].name = "lm_head.weight";
    CHECK_FAILS(open_only(tiny_transformer_save("a", bert, &b, other, "bert.", more, 1), &e), e,
                "1 tensors more");
    more[0].name = "cls.predictions.bias"; /* before all others */
    CHECK(open_only(tiny_transformer_save("a", bert, &b, other, "", more, 1), &e));
    const char *layers = changed(t5, "\"num_layers\": 1", "\"num_layers\": 2");
    CHECK_FAILS(open_only(tiny_transformer_save("a", layers, &c, flat, "", NULL, 0), &e), e,
                "no tensor encoder.block.1.layer.0.SelfAttention.q.weight");
    layers = changed(t5, "\"num_layers\": 1", "\"num_layers\": 500");
    CHECK_FAILS(open_only(tiny_transformer_save("a", layers, &c, flat, "", NULL, 0), &e), e,
                "tensors for 502 layers");
    size_t size;
    char many[32];
    snprintf(many, sizeof many, "\"num_layers\": %zu", llm_transformer_layout(NULL, &size, &c) - 2);
    layers =
        changed(t5, "\"num_layers\": 1", many); /* as many layers as tensors: too few of them */
    CHECK_FAILS(open_only(tiny_transformer_save("a", layers, &c, flat, "", NULL, 0), &e), e,
                "no tensor encoder.block.1.layer.0.SelfAttention.q.weight");
    const char *words = changed(t5, "\"vocab_size\": 7", "\"vocab_size\": 8");
    CHECK_FAILS(open_only(tiny_transformer_save("a", words, &c, flat, "", NULL, 0), &e), e,
                "shared.weight is (7, 4) of rank 2, config.json says (8, 4)");
    const char *wide = changed(t5, "\"d_ff\": 6", "\"d_ff\": 5");
    CHECK_FAILS(open_only(tiny_transformer_save("a", wide, &c, flat, "", NULL, 0), &e), e,
                "encoder.block.0.layer.1.DenseReluDense.wi.weight is (6, 4) of rank 2, config.json "
                "says (5, 4)");
    wide = changed(bert, "embeddings\": 6", "embeddings\": 8");
    CHECK_FAILS(
        open_only(tiny_transformer_save("a", wide, &b, other, "", NULL, 0), &e), e,
        "embeddings.position_embeddings.weight is (6, 4) of rank 2, config.json says (8, 4)");
    CHECK_FAILS(open_only(test_path("nowhere"), &e), e, "nowhere/config.json");
    tiny_transformer_save("a", t5, &c, flat, "", NULL, 0);
    CHECK(remove(test_path("a/model.safetensors")) == 0);
    CHECK_FAILS(open_only(test_path("a"), &e), e, "model.safetensors");
}

TEST(transformer_file, "numbers that are no floats, or are one number, are refused") {
    llm_error e;
    llm_file f;
    const llm_transformer_config c = tiny_transformer_of(3);
    tiny_transformer_save("a", t5, &c, numbers(&c), "", NULL, 0);
    CHECK(llm_file_read(&f, test_path("a/model.safetensors"), &e));
    char *last = NULL; /* of the header: decoder.final_layer_norm.weight or another one */
    for (size_t i = 8; i + 5 < f.size; i++)
        if (memcmp(f.data + i, "\"F32\"", 5) == 0) last = (char *)f.data + i;
    CHECK(last != NULL);
    last[1] = 'I';
    CHECK(llm_file_write(test_path("a/model.safetensors"), f.data, f.size, &e));
    CHECK_FAILS(open_only(test_path("a"), &e), e, "is I32, expected floats");
    llm_file_free(&f);

    const float one = 1.0f;
    llm_safetensors_tensor number = tiny_transformer_tensor("shared.weight", 1, 1, &one);
    number.rank = 0;
    llm_safetensors s;
    llm_transformer_layout_tensor part;
    memset(&part, 0, sizeof part);
    strcpy(part.name, "shared.weight");
    part.rows = part.cols = 1;
    CHECK(llm_safetensors_write(test_path("one"), &number, 1, NULL, &e));
    CHECK(llm_safetensors_open(&s, test_path("one"), &e));
    CHECK(!llm_transformer_file_find(&s, "", &part, &e));
    CHECK(strstr(e.message, "shared.weight is (0, 1) of rank 0, config.json says (1, 1)"));
    llm_safetensors_close(&s);
}

/* The first call for memory fails: nothing was opened, and nothing is closed. */
static bool nothing_opened(void) {
    llm_error e;
    calls = 0;
    const bool ok = open_only("in", &e);
    calls = SIZE_MAX;
    return !ok && strstr(e.message, "out of memory");
}

TEST(transformer_file, "memory that runs out at any call is said so, and nothing leaks") {
    llm_error e;
    const llm_transformer_config c = tiny_transformer_of(3);
    const char *dir = tiny_transformer_save("in", t5, &c, numbers(&c), "", NULL, 0);
    size_t limit = 0;
    for (bool ok = false; !ok; limit++) {
        memset(&e, 0, sizeof e);
        calls = limit;
        ok = open_only(dir, &e);
        calls = SIZE_MAX;
        if (!ok && !strstr(e.message, "memory"))
            test_fail(__FILE__, __LINE__, "call %zu: %s", limit, e.message);
    }
    CHECK(limit > 4);
    CHECK(tiny_litter(nothing_opened));
}

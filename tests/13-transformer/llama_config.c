/* @llama_config */
#include "../test.h"

#include "../../llm.h"

/* A config.json with these members besides the sizes. */
static bool lc_read(llm_llama_config *c, const char *members, llm_error *e) {
    char text[1500];
    llm_json j;
    snprintf(text, sizeof text,
             "{\"vocab_size\":100,\"max_position_embeddings\":512,\"hidden_size\":64,"
             "\"intermediate_size\":96,\"num_hidden_layers\":3,\"num_attention_heads\":8%s%s}",
             *members ? "," : "", members);
    CHECK(llm_json_parse(&j, text, strlen(text), e));
    memset(c, 0xff, sizeof *c);
    const bool ok = llm_llama_config_read(c, &j, e);
    llm_json_free(&j);
    return ok;
}

TEST(llama_config, "what is not said has the family's value") {
    llm_llama_config c;
    llm_error e;
    CHECK(lc_read(&c, "\"model_type\":\"llama\"", &e));
    CHECK(c.family == LLM_LLAMA_CONFIG_LLAMA && c.vocab == 100 && c.context == 512);
    CHECK(c.width == 64 && c.hidden == 96 && c.layers == 3 && c.heads == 8);
    CHECK(c.kv_heads == 8 && c.head == 8 && c.window == 0 && !c.tied);
    CHECK(c.eps == 1e-6f && c.scale == (float)(1.0 / sqrt(8.0)) && c.score_cap == 0.0f);
    CHECK(c.logit_cap == 0.0f && c.pairing == LLM_ROPE_HALVES && c.rope.mode == LLM_YARN_NONE);
    CHECK(c.rope.theta == 10000.0 && c.rope.rot == 8 && c.rope.factor == 1.0);
    CHECK(c.rope.trained == 512.0 && !c.rounded);
    CHECK(lc_read(&c, "\"model_type\":\"gemma2\"", &e));
    CHECK(c.tied && c.scale == 1.0f / 16.0f && c.window == 0 && c.score_cap == 0.0f);
    CHECK(lc_read(&c, "\"model_type\":\"mistral\",\"sliding_window\":null", &e) && c.window == 0);
    CHECK(lc_read(&c, "\"model_type\":\"qwen2\",\"sliding_window\":7", &e) && c.window == 0);
}

TEST(llama_config, "what is said is read: heads, window, caps, ties") {
    llm_llama_config c;
    llm_error e;
    CHECK(lc_read(&c,
                  "\"model_type\":\"qwen3\",\"num_key_value_heads\":2,\"head_dim\":20,"
                  "\"rms_norm_eps\":1e-5,\"tie_word_embeddings\":true,\"hidden_act\":\"silu\"",
                  &e));
    CHECK(c.family == LLM_LLAMA_CONFIG_QWEN3 && c.kv_heads == 2 && c.head == 20 && c.tied);
    CHECK(c.eps == 1e-5f && c.rope.rot == 20 && c.scale == (float)(1.0 / sqrt(20.0)));
    CHECK(lc_read(&c, "\"model_type\":\"mistral\",\"sliding_window\":40", &e));
    CHECK(c.window == 40 && llm_llama_config_windowed(&c, 0) && llm_llama_config_windowed(&c, 1));
    CHECK(lc_read(&c,
                  "\"model_type\":\"gemma2\",\"sliding_window\":9,\"query_pre_attn_scalar\":144,"
                  "\"attn_logit_softcapping\":50.0,\"final_logit_softcapping\":30,"
                  "\"tie_word_embeddings\":false,\"hidden_activation\":\"gelu_pytorch_tanh\","
                  "\"layer_types\":[\"sliding_attention\",\"full_attention\","
                  "\"sliding_attention\"],\"use_sliding_window\":true",
                  &e));
    CHECK(c.window == 9 && c.scale == 1.0f / 12.0f && c.score_cap == 50.0f);
    CHECK(c.logit_cap == 30.0f && !c.tied);
    CHECK(llm_llama_config_windowed(&c, 0) && !llm_llama_config_windowed(&c, 1));
    CHECK(llm_llama_config_windowed(&c, 2));
    c.window = 0;
    CHECK(!llm_llama_config_windowed(&c, 0));
    c.window = 1; /* each token sees itself */
    CHECK(llm_llama_config_windowed(&c, 0));
    CHECK(lc_read(&c,
                  "\"model_type\":\"gemma2\",\"attn_logit_softcapping\":null,"
                  "\"final_logit_softcapping\":null",
                  &e));
    CHECK(c.score_cap == 0.0f && c.logit_cap == 0.0f);
}

TEST(llama_config, "a GPT-2 is read by its own names: no rotations, heads of any width") {
    llm_llama_config c;
    llm_error e;
    CHECK(lc_read(&c,
                  "\"model_type\":\"gpt2\",\"n_positions\":64,\"n_embd\":15,\"n_layer\":2,"
                  "\"n_head\":3,\"layer_norm_epsilon\":0.25",
                  &e));
    CHECK(c.family == LLM_LLAMA_CONFIG_GPT2 && c.vocab == 100 && c.context == 64 && c.width == 15);
    CHECK(c.hidden == 60 && c.layers == 2 && c.heads == 3 && c.kv_heads == 3 && c.head == 5);
    CHECK(c.window == 0 && c.tied && c.eps == 0.25f && c.scale == (float)(1.0 / sqrt(5.0)));
    CHECK(c.score_cap == 0.0f && c.logit_cap == 0.0f && c.rope.theta == 0.0);
    CHECK(!llm_llama_config_windowed(&c, 0));
    CHECK(lc_read(&c,
                  "\"model_type\":\"gpt2\",\"n_positions\":64,\"n_embd\":15,\"n_layer\":2,"
                  "\"n_head\":3,\"n_inner\":7",
                  &e));
    CHECK(c.hidden == 7 && c.eps == 1e-5f);
}

TEST(llama_config, "rotations in the old form and in the new") {
    llm_llama_config c;
    llm_error e;
    CHECK(lc_read(&c,
                  "\"model_type\":\"llama\",\"rope_theta\":500000.0,\"rope_scaling\":{\"rope_type\""
                  ":\"llama3\",\"factor\":8.0,\"low_freq_factor\":1.5,\"high_freq_factor\":5.0,"
                  "\"original_max_position_embeddings\":128}",
                  &e));
    CHECK(c.rope.mode == LLM_YARN_LLAMA3 && c.rope.theta == 500000.0 && c.rope.factor == 8.0);
    CHECK(c.rope.low_freq == 1.5 && c.rope.high_freq == 5.0 && c.rope.trained == 128.0);
    CHECK(lc_read(&c,
                  "\"model_type\":\"llama\",\"rope_parameters\":{\"rope_type\":\"yarn\","
                  "\"rope_theta\":1e6,\"factor\":4,\"beta_fast\":16,\"beta_slow\":2}",
                  &e));
    CHECK(c.rope.mode == LLM_YARN_YARN && c.rope.theta == 1e6 && c.rope.factor == 4.0);
    CHECK(c.rope.fast == 16.0 && c.rope.slow == 2.0 && c.rope.trained == 512.0);
    CHECK(lc_read(
        &c, "\"model_type\":\"llama\",\"rope_scaling\":{\"type\":\"linear\",\"factor\":2}", &e));
    CHECK(c.rope.mode == LLM_YARN_LINEAR && c.rope.factor == 2.0 && c.rope.theta == 10000.0);
    CHECK(lc_read(&c, "\"model_type\":\"llama\",\"rope_scaling\":null", &e));
    CHECK(c.rope.mode == LLM_YARN_NONE && c.rope.low_freq == 1.0 && c.rope.high_freq == 4.0);
    CHECK(c.rope.fast == 32.0 && c.rope.slow == 1.0);
}

TEST(llama_config, "cut off anywhere or with any byte changed it is read within bounds, or refused "
                   "in a sentence") {
    static const char *const whole[2] = {
        "{\"model_type\":\"mistral\",\"vocab_size\":9,\"max_position_embeddings\":8,\"hidden_"
        "size\":8,"
        "\"intermediate_size\":9,\"num_hidden_layers\":2,\"num_attention_heads\":2,"
        "\"sliding_window\":5,\"rope_scaling\":{\"type\":\"yarn\",\"factor\":4}}",
        "{\"model_type\":\"gpt2\",\"vocab_size\":9,\"n_positions\":8,\"n_embd\":8,\"n_layer\":2,"
        "\"n_head\":2,\"n_inner\":9}"};
    for (int w = 0; w < 2; w++) {
        const size_t all = strlen(whole[w]);
        size_t read = 0;
        for (size_t k = 0; k < all + all * 255; k++) {
            char text[300];
            llm_json j;
            llm_llama_config c;
            llm_error e;
            const size_t size = k < all ? k : all, at = (k - size) / 255;
            memcpy(text, whole[w], all);
            if (size == all) text[at] = (char)(text[at] ^ (char)(1 + (k - all) % 255));
            e.message[0] = 0;
            if (!llm_json_parse(&j, text, size, &e)) {
                CHECK(e.message[0]);
                continue;
            }
            if (llm_llama_config_read(&c, &j, &e)) {
                read++;
                CHECK(c.vocab > 0 && c.context > 0 && c.layers > 0 && c.width > 0 && c.hidden > 0);
                CHECK(c.heads > 0 && c.head > 0 && c.heads % c.kv_heads == 0 && c.scale > 0.0f);
                CHECK(w == 1 || (c.head % 2 == 0 && c.rope.theta > 1.0 && c.rope.factor > 0.0));
            } else {
                CHECK(strncmp(e.message, "config.json: ", 13) == 0);
            }
            llm_json_free(&j);
        }
        CHECK(read > 20); /* another digit, or another name for what may be absent */
    }
}

TEST(llama_config, "the largest and the smallest of each size are read") {
    llm_llama_config c;
    llm_error e;
    CHECK(lc_read(&c,
                  "\"model_type\":\"mistral\",\"vocab_size\":16777216,\"hidden_size\":65536,"
                  "\"max_position_embeddings\":16777216,\"intermediate_size\":1048576,"
                  "\"num_hidden_layers\":4096,\"num_attention_heads\":4096,"
                  "\"num_key_value_heads\":4096,\"head_dim\":4096,\"sliding_window\":16777216",
                  &e));
    CHECK(c.vocab == 1 << 24 && c.context == 1 << 24 && c.window == 1 << 24);
    CHECK(c.width == 1 << 16 && c.hidden == 1 << 20 && c.layers == 4096);
    CHECK(c.heads == 4096 && c.kv_heads == 4096 && c.head == 4096);
    CHECK(lc_read(&c,
                  "\"model_type\":\"mistral\",\"vocab_size\":1,\"hidden_size\":1,"
                  "\"max_position_embeddings\":1,\"intermediate_size\":1,"
                  "\"num_hidden_layers\":1,\"num_attention_heads\":1,"
                  "\"num_key_value_heads\":1,\"head_dim\":2,\"sliding_window\":1,"
                  "\"rope_theta\":1.5",
                  &e));
    CHECK(c.vocab == 1 && c.context == 1 && c.window == 1 && c.width == 1 && c.hidden == 1);
    CHECK(c.layers == 1 && c.heads == 1 && c.kv_heads == 1 && c.head == 2);
    CHECK(c.rope.theta == 1.5 && c.rope.trained == 1.0);
}

TEST(llama_config, "what is not computed here is refused in a sentence") {
    static const struct {
        const char *members, *says;
    } all[] = {
        {"", "model_type \"\", expected llama, mistral, qwen2, qwen3, gemma2 or gpt2"},
        {"\"model_type\":\"gpt\"", "model_type \"gpt\""},
        {"\"model_type\":\"gpt2\"", "config.json: no n_positions"},
        {"\"model_type\":1", "model_type \"\""},
        {"\"model_type\":\"llama\",\"vocab_size\":0", "vocab_size is 0, expected 1 to 16777216"},
        {"\"model_type\":\"llama\",\"vocab_size\":16777217", "vocab_size is 16777217"},
        {"\"model_type\":\"llama\",\"vocab_size\":null", "no vocab_size"},
        {"\"model_type\":\"llama\",\"max_position_embeddings\":null", "no max_position_emb"},
        {"\"model_type\":\"llama\",\"intermediate_size\":null", "no intermediate_size"},
        {"\"model_type\":\"llama\",\"num_hidden_layers\":null", "no num_hidden_layers"},
        {"\"model_type\":\"llama\",\"num_attention_heads\":null", "no num_attention_heads"},
        {"\"model_type\":\"llama\",\"hidden_size\":null", "no hidden_size"},
        {"\"model_type\":\"llama\",\"hidden_size\":[]", "hidden_size is no number"},
        {"\"model_type\":\"llama\",\"hidden_size\":65537", "hidden_size is 65537"},
        {"\"model_type\":\"llama\",\"intermediate_size\":-1", "intermediate_size is -1"},
        {"\"model_type\":\"llama\",\"num_hidden_layers\":4097", "num_hidden_layers is 4097"},
        {"\"model_type\":\"llama\",\"num_attention_heads\":0", "num_attention_heads is 0"},
        {"\"model_type\":\"llama\",\"max_position_embeddings\":1.5", "max_position_embeddings is"},
        {"\"model_type\":\"llama\",\"max_position_embeddings\":16777217", "is 16777217"},
        {"\"model_type\":\"llama\",\"intermediate_size\":1048577", "is 1048577"},
        {"\"model_type\":\"llama\",\"num_attention_heads\":4097", "heads is 4097"},
        {"\"model_type\":\"llama\",\"num_key_value_heads\":4097", "heads is 4097"},
        {"\"model_type\":\"mistral\",\"sliding_window\":16777217", "is 16777217"},
        {"\"model_type\":\"llama\",\"num_key_value_heads\":3", "8 heads of width 8 on 3"},
        {"\"model_type\":\"llama\",\"head_dim\":7", "8 heads of width 7 on 8"},
        {"\"model_type\":\"llama\",\"head_dim\":4097", "head_dim is 4097"},
        {"\"model_type\":\"llama\",\"num_attention_heads\":128", "heads of width 1"},
        {"\"model_type\":\"llama\",\"attention_bias\":true", "attention_bias is on"},
        {"\"model_type\":\"llama\",\"mlp_bias\":true", "mlp_bias is on"},
        {"\"model_type\":\"qwen2\",\"use_sliding_window\":true", "use_sliding_window is on"},
        {"\"model_type\":\"llama\",\"hidden_act\":\"gelu\"", "activation \"gelu\", expected silu"},
        {"\"model_type\":\"gemma2\",\"hidden_activation\":\"silu\"", "expected gelu_pytorch_tanh"},
        {"\"model_type\":\"mistral\",\"sliding_window\":0", "sliding_window is 0"},
        {"\"model_type\":\"mistral\",\"layer_types\":[\"sliding_attention\"]",
         "layer 0 is \"sliding_attention\", expected full_attention"},
        {"\"model_type\":\"llama\",\"layer_types\":[\"full_attention\",1]", "layer 1 is \"1\""},
        {"\"model_type\":\"llama\",\"rope_scaling\":{\"type\":\"dynamic\",\"factor\":2}",
         "rotations \"dynamic\""},
        {"\"model_type\":\"llama\",\"rope_scaling\":{\"type\":\"\"}", "rotations \"\""},
        {"\"model_type\":\"llama\",\"rope_scaling\":{\"type\":\"yarn\",\"factor\":2,\"mscale\":1}",
         "rotations \"yarn\" with these settings"},
        {"\"model_type\":\"llama\",\"rope_scaling\":{\"type\":\"yarn\",\"attention_factor\":1}",
         "rotations \"yarn\" with these settings"},
        {"\"model_type\":\"llama\",\"rope_theta\":1", "rope_theta 1"},
        {"\"model_type\":\"llama\",\"rope_scaling\":{\"type\":\"linear\",\"factor\":0}",
         "factor 0"},
        {"\"model_type\":\"llama\",\"rope_parameters\":{\"rope_type\":\"yarn\","
         "\"original_max_position_embeddings\":0}",
         "rotations with"},
        {"\"model_type\":\"llama\",\"rope_parameters\":{\"partial_rotary_factor\":0.5}",
         "share 0.5"}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        llm_llama_config c;
        llm_error e;
        CHECK_FAILS(lc_read(&c, all[i].members, &e), e, all[i].says);
    }
    llm_llama_config c;
    llm_json j;
    llm_error e;
    CHECK(llm_json_parse(&j, "[]", 2, &e));
    CHECK_FAILS(llm_llama_config_read(&c, &j, &e), e, "not an object");
    llm_json_free(&j);
}

/* @transformer */
#include "../test.h"

#include "../../llm.h"

#include "../tiny_transformer.h"

TEST(transformer, "numbers of weights and of operations equal those of transformers' models") {
    for (size_t k = 0; k < 6; k++) {
        const llm_transformer_config c = tiny_transformer(k);
        CHECK(llm_transformer_count(&c) == (size_t)*golden("%s/count", tiny_transformer_name[k]));
        const double flops = llm_transformer_flops(&c, 2, 5, 3);
        CHECK(flops == (double)*golden("%s/forward", tiny_transformer_name[k]));
        CHECK(2.0 * flops == (double)*golden("%s/backward", tiny_transformer_name[k]));
        CHECK(llm_transformer_flops(&c, 6, 5, 3) == 3.0 * flops);
    }
}

TEST(transformer, "the sizes of released models") {
    const size_t want[5] = {63082496, 109482240, 124439808, 60506624, 6738415616};
    for (size_t k = 0; k < 5; k++) {
        const llm_transformer_config c = llm_transformer_preset((llm_transformer_family)k);
        CHECK(llm_transformer_count(&c) == want[k] && (size_t)c.family == k);
    }
    llm_transformer_config c = llm_transformer_preset(LLM_TRANSFORMER_LLAMA); /* Llama 3 8B */
    c.vocab = 128256, c.kv_heads = 8, c.hidden = 14336;
    CHECK(llm_transformer_count(&c) == 8030261248);
    c = llm_transformer_preset(LLM_TRANSFORMER_GPT2); /* XL */
    c.decoder = 48, c.width = 1600, c.heads = c.kv_heads = 25, c.hidden = 6400;
    CHECK(llm_transformer_count(&c) == 1557611200);
    c = llm_transformer_preset(LLM_TRANSFORMER_T5); /* T5 v1.1 base */
    c.encoder = c.decoder = c.heads = c.kv_heads = 12, c.width = 768, c.hidden = 2048;
    c.gated = true, c.tied = false;
    CHECK(llm_transformer_count(&c) == 247577856);
}

TEST(transformer, "six operations a weight and token, and what the rule leaves out") {
    const llm_transformer_config c = llm_transformer_preset(LLM_TRANSFORMER_GPT2);
    const double rule = llm_transformer_flops_rule(&c, 1024.0);
    CHECK(rule == 6.0 * 1024.0 * (124439808.0 - 1024.0 * 768.0));
    /* biases and norms cost nothing, the scores 12 L T C a token */
    const double step = 3.0 * llm_transformer_flops(&c, 1, 0, 1024);
    const double scores = 12.0 * 12.0 * 1024.0 * 768.0 * 1024.0;
    CHECK_NEAR((step - scores) / rule, 1.0, 0.001);
    CHECK_NEAR(scores / step, 0.1325, 0.0005);
    /* Llama keeps a head of its own: the table of embeddings is in N and does no work */
    const llm_transformer_config l = llm_transformer_preset(LLM_TRANSFORMER_LLAMA);
    CHECK(llm_transformer_flops_rule(&l, 1.0) > 3.0 * llm_transformer_flops(&l, 1, 0, 1));
}

TEST(transformer, "an encoder without a pooler does the work of its layers only") {
    llm_transformer_config c = llm_transformer_preset(LLM_TRANSFORMER_BERT);
    const double pooled = llm_transformer_flops(&c, 3, 5, 0);
    c.pooler = false;
    CHECK(pooled - llm_transformer_flops(&c, 3, 5, 0) == 3.0 * 2.0 * 768.0 * 768.0);
    c.encoder = 0;
    CHECK(llm_transformer_flops(&c, 3, 5, 0) == 0.0);
}

TEST(transformer, "the switches of released models; a norm's bias is a switch of its own") {
    const int act[5] = {LLM_ACTIVATION_RELU, LLM_ACTIVATION_GELU, LLM_ACTIVATION_GELU_TANH,
                        LLM_ACTIVATION_RELU, LLM_ACTIVATION_SILU};
    const llm_transformer_position position[5] = {LLM_TRANSFORMER_SINES, LLM_TRANSFORMER_TABLE,
                                                  LLM_TRANSFORMER_TABLE, LLM_TRANSFORMER_DISTANCES,
                                                  LLM_TRANSFORMER_ROTATIONS};
    const float eps[5] = {1e-5f, 1e-12f, 1e-5f, 1e-6f, 1e-5f};
    for (size_t k = 0; k < 5; k++) {
        llm_transformer_config c = llm_transformer_preset((llm_transformer_family)k);
        CHECK(c.act == act[k] && c.position == position[k] && c.eps == eps[k]);
        CHECK(c.fused == (k == LLM_TRANSFORMER_GPT2));
        CHECK(c.theta == 10000.0f && c.far == 128 && c.rms == (k > 2) && c.last_norm == (k > 1));
        const size_t norm = llm_transformer_norm(&c);
        const size_t before = llm_transformer_count(&c), stacks = (c.encoder > 0) + (c.decoder > 0);
        size_t norms = 2 * (c.encoder + c.decoder) + (c.encoder ? c.decoder : 0), numbers;
        norms += c.first_norm + (c.last_norm ? stacks : 0);
        const bool last = c.last_norm;
        c.last_norm = !last; /* a norm for each stack that there is */
        CHECK(llm_transformer_count(&c) + (last ? stacks * norm : 0) ==
              before + (last ? 0 : stacks * norm));
        c.last_norm = last;
        c.rms = !c.rms;
        llm_transformer_layout(NULL, &numbers, &c);
        CHECK(numbers == llm_transformer_count(&c));
        CHECK(numbers + (c.rms ? norms * c.width : 0) == before + (c.rms ? 0 : norms * c.width));
    }
}

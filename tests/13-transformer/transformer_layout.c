/* @transformer_layout */
#include "../test.h"

#include "../../llm.h"

#include "../tiny_transformer.h"

TEST(transformer_layout, "names and shapes are those of transformers' models") {
    for (size_t k = 0; k < 6; k++) {
        const llm_transformer_config c = tiny_transformer(k);
        size_t numbers, size, shapes;
        const size_t n = llm_transformer_layout(NULL, &numbers, &c);
        CHECK(numbers == llm_transformer_count(&c));
        llm_transformer_layout_tensor *list =
            (llm_transformer_layout_tensor *)test_memory(n, sizeof *list);
        const float *text = golden_n(&size, "%s/names", tiny_transformer_name[k]);
        const float *shape = golden_n(&shapes, "%s/shapes", tiny_transformer_name[k]);
        CHECK(llm_transformer_layout(list, &numbers, &c) == n && n == shapes / 2);
        for (size_t i = 0, at = 0; i < n; i++) {
            char want[128];
            size_t length = 0, found = n;
            for (; text[at] != '\n'; at++) want[length++] = (char)text[at];
            want[length] = 0;
            at++;
            CHECK(at <= size);
            for (size_t t = 0; t < n; t++)
                if (strcmp(list[t].name, want) == 0) found = t;
            if (found == n) printf("%s is missing in %s\n", want, tiny_transformer_name[k]);
            CHECK(found < n);
            CHECK((float)list[found].rows == shape[2 * i]);
            CHECK((float)list[found].cols == shape[2 * i + 1]);
        }
        size_t offset = 0;
        for (size_t t = 0; t < n; t++) {
            CHECK(list[t].offset == offset);
            offset += list[t].rows * list[t].cols;
        }
        CHECK(offset == numbers);
    }
}

TEST(transformer_layout, "the parts stand in the order of the data, with their layers") {
    const llm_transformer_config c = tiny_transformer(5); /* one layer of encoder, two of decoder */
    llm_transformer_layout_tensor list[64];
    size_t numbers;
    const size_t n = llm_transformer_layout(list, &numbers, &c);
    const size_t q = LLM_TRANSFORMER_LAYOUT_Q, cross = LLM_TRANSFORMER_LAYOUT_CROSS_Q;
    const size_t own[6] = {
        q, q + 1, q + 2, q + 3, LLM_TRANSFORMER_LAYOUT_BUCKETS, LLM_TRANSFORMER_LAYOUT_NORM};
    const size_t mlp[4] = {LLM_TRANSFORMER_LAYOUT_GATE, LLM_TRANSFORMER_LAYOUT_UP,
                           LLM_TRANSFORMER_LAYOUT_DOWN, LLM_TRANSFORMER_LAYOUT_MLP_NORM};
    CHECK(list[0].part == LLM_TRANSFORMER_LAYOUT_TOKENS &&
          list[n - 1].part == LLM_TRANSFORMER_LAYOUT_HEAD);
    CHECK(list[0].layer == 0);
    for (size_t i = 0; i < 6; i++) CHECK(list[1 + i].part == own[i]);
    for (size_t i = 0; i < 4; i++) CHECK(list[7 + i].part == mlp[i] && list[7 + i].layer == 0);
    CHECK(list[11].part == LLM_TRANSFORMER_LAYOUT_LAST_NORM);
    CHECK(strcmp(list[11].name, "encoder.final_layer_norm.weight") == 0);
    for (size_t i = 0; i < 6; i++) CHECK(list[12 + i].part == own[i]);
    for (size_t i = 0; i < 4; i++) CHECK(list[18 + i].part == cross + i);
    CHECK(list[22].part == LLM_TRANSFORMER_LAYOUT_CROSS_NORM);
    CHECK(list[27].part == q && list[27].layer == 1); /* the second layer has no buckets */
    CHECK(list[31].part == LLM_TRANSFORMER_LAYOUT_NORM);
    CHECK(strcmp(list[27].name, "decoder.block.1.layer.0.SelfAttention.q.weight") == 0);
    CHECK(n == 1 + 10 + 1 + 15 + 14 + 1 + 1);
}

TEST(transformer_layout, "a part that a family has no name for is refused") {
    size_t numbers;
    llm_transformer_layout_tensor list[512];
    llm_transformer_config c = llm_transformer_preset(LLM_TRANSFORMER_LLAMA);
    c.decoder = 12; /* two digits */
    const size_t n = llm_transformer_layout(list, &numbers, &c);
    CHECK(strcmp(list[n - 3].name, "model.layers.11.post_attention_layernorm.weight") == 0);
    c.places = 4;
    CHECK_ASSERTS(llm_transformer_layout(list, &numbers, &c));
}

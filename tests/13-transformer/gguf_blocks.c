/* @gguf_blocks */
#include "../test.h"

#include "../../llm.h"

static const struct {
    const char *name;
    llm_gguf_blocks_type type;
} blocks[] = {{"Q4_0", LLM_GGUF_BLOCKS_Q4_0}, {"Q4_1", LLM_GGUF_BLOCKS_Q4_1},
              {"Q5_0", LLM_GGUF_BLOCKS_Q5_0}, {"Q5_1", LLM_GGUF_BLOCKS_Q5_1},
              {"Q8_0", LLM_GGUF_BLOCKS_Q8_0}, {"Q4_K", LLM_GGUF_BLOCKS_Q4_K},
              {"Q5_K", LLM_GGUF_BLOCKS_Q5_K}, {"Q6_K", LLM_GGUF_BLOCKS_Q6_K}};

TEST(gguf_blocks, "every form equals gguf.dequantize to the last bit, at odd addresses too") {
    for (size_t k = 0; k < 8; k++) {
        size_t bytes, n, weights = 0, block = 0;
        const float *data = golden_n(&bytes, "%s/data", blocks[k].name);
        const float *want = golden_n(&n, "%s/values", blocks[k].name);
        CHECK(strcmp(llm_gguf_blocks_name(&weights, &block, blocks[k].type), blocks[k].name) == 0);
        CHECK(bytes % block == 0 && n == bytes / block * weights);
        unsigned char *in = (unsigned char *)test_memory(bytes + 1, 1) + 1;
        float *out = (float *)test_memory(n, sizeof(float));
        for (size_t i = 0; i < bytes; i++) in[i] = (unsigned char)data[i];
        CHECK(llm_gguf_blocks_floats(out, in, n, blocks[k].type));
        for (size_t i = 0; i < n; i++) CHECK(out[i] == want[i]);
        out[0] = 7.0f; /* nothing asked for, nothing written */
        CHECK(llm_gguf_blocks_floats(out, in, 0, blocks[k].type) && out[0] == 7.0f);
        CHECK_ASSERTS(llm_gguf_blocks_floats(out, in, weights + 1, blocks[k].type));
    }
}

TEST(gguf_blocks, "names and sizes are the library's; what is not known here is said to be so") {
    size_t n, known = 0;
    const float *type = golden_n(&n, "sizes/type"), *weights = golden("sizes/weights");
    const float *bytes = golden("sizes/bytes");
    for (size_t i = 0; i < n; i++) {
        size_t w = 77, b = 77;
        const char *name = llm_gguf_blocks_name(&w, &b, (uint32_t)type[i]);
        if (name)
            CHECK(w == (size_t)weights[i] && b == (size_t)bytes[i]);
        else
            CHECK(w == 77 && b == 77);
        known += name != NULL;
    }
    CHECK(known == 16 && n > 30);
    size_t w, b;
    CHECK(!llm_gguf_blocks_name(&w, &b, 4) && !llm_gguf_blocks_name(&w, &b, UINT32_MAX));
    CHECK(strcmp(llm_gguf_blocks_name(&w, &b, 0), "F32") == 0);
    CHECK(strcmp(llm_gguf_blocks_name(&w, &b, 30), "BF16") == 0);
    CHECK(strcmp(llm_gguf_blocks_name(&w, &b, 28), "F64") == 0);
    CHECK(strcmp(llm_gguf_blocks_name(&w, &b, LLM_GGUF_BLOCKS_I8), "I8") == 0);
    CHECK(strcmp(llm_gguf_blocks_name(&w, &b, LLM_GGUF_BLOCKS_I16), "I16") == 0);
    CHECK(strcmp(llm_gguf_blocks_name(&w, &b, LLM_GGUF_BLOCKS_I32), "I32") == 0);
    CHECK(strcmp(llm_gguf_blocks_name(&w, &b, LLM_GGUF_BLOCKS_I64), "I64") == 0);
    CHECK(strcmp(llm_gguf_blocks_name(&w, &b, LLM_GGUF_BLOCKS_F64), "F64") == 0);
}

TEST(gguf_blocks,
     "plain numbers: single, half and brain precision; integers and doubles are none") {
    const unsigned char one[12] = {0, 0, 0x80, 0x3f, 0, 0x3c, 0x80, 0x3f, 0, 0, 0, 0};
    float x[2] = {0};
    CHECK(llm_gguf_blocks_floats(x, one, 1, LLM_GGUF_BLOCKS_F32) && x[0] == 1.0f && x[1] == 0.0f);
    x[0] = 0.0f;
    CHECK(llm_gguf_blocks_floats(x, one + 4, 1, LLM_GGUF_BLOCKS_F16) && x[0] == 1.0f);
    x[0] = 0.0f;
    CHECK(llm_gguf_blocks_floats(x, one + 6, 1, LLM_GGUF_BLOCKS_BF16) && x[0] == 1.0f);
    const llm_gguf_blocks_type none[6] = {LLM_GGUF_BLOCKS_I8,  LLM_GGUF_BLOCKS_I16,
                                          LLM_GGUF_BLOCKS_I32, LLM_GGUF_BLOCKS_I64,
                                          LLM_GGUF_BLOCKS_F64, (llm_gguf_blocks_type)10};
    for (size_t i = 0; i < 6; i++) {
        x[0] = 7.0f;
        CHECK(!llm_gguf_blocks_floats(x, one, 1, none[i]) && x[0] == 7.0f);
    }
}

TEST(gguf_blocks, "by hand: one block of Q4_0, the low halves first") {
    unsigned char block[18] = {0x00, 0x38}; /* 0.5 */
    float x[32];
    for (int i = 0; i < 16; i++) block[2 + i] = (unsigned char)(i + 16 * (15 - i));
    CHECK(llm_gguf_blocks_floats(x, block, 32, LLM_GGUF_BLOCKS_Q4_0));
    for (int i = 0; i < 16; i++) {
        CHECK(x[i] == 0.5f * (float)(i - 8));
        CHECK(x[i + 16] == 0.5f * (float)(7 - i));
    }
}

TEST(gguf_blocks, "blocks follow each other, and a scale may be infinite") {
    for (size_t k = 0; k < 8; k++) {
        size_t bytes, n, weights, block;
        const float *data = golden_n(&bytes, "%s/data", blocks[k].name);
        const float *want = golden_n(&n, "%s/values", blocks[k].name);
        CHECK(llm_gguf_blocks_name(&weights, &block, blocks[k].type));
        unsigned char *in = (unsigned char *)test_memory(3 * block, 1);
        float *out = (float *)test_memory(3 * weights, sizeof(float));
        for (size_t i = 0; i < 3 * block; i++) in[i] = (unsigned char)data[i % block];
        CHECK(llm_gguf_blocks_floats(out, in, 3 * weights, blocks[k].type));
        for (size_t i = 0; i < 3 * weights; i++) CHECK(out[i] == want[i % weights]);
    }
    const unsigned char block[34] = {0x00, 0x7c, 1, 0xff};
    float x[32];
    CHECK(llm_gguf_blocks_floats(x, block, 32, LLM_GGUF_BLOCKS_Q8_0));
    CHECK(x[0] == INFINITY && x[1] == -INFINITY && isnan(x[2]));
}

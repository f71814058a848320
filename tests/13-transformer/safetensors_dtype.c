/* @safetensors_dtype */
#include "../test.h"

#include "../../llm.h"

static const struct {
    const char *golden;
    llm_safetensors_dtype dtype;
    int E, M;
} short_kind[4] = {{"f16", LLM_SAFETENSORS_F16, 5, 10},
                   {"bf16", LLM_SAFETENSORS_BF16, 8, 7},
                   {"e5m2", LLM_SAFETENSORS_F8_E5M2, 5, 2},
                   {"e4m3", LLM_SAFETENSORS_F8_E4M3, 4, 3}};

TEST(safetensors_dtype, "equals torch's conversion, at odd addresses too") {
    for (size_t k = 0; k < 4; k++) {
        size_t count = 0;
        const float *code = golden_n(&count, "%s/code", short_kind[k].golden);
        const float *want = golden("%s/value", short_kind[k].golden);
        const size_t size = k < 2 ? 2 : 1;
        for (size_t shift = 0; shift < 3; shift++) {
            unsigned char *data = (unsigned char *)malloc(shift + count * size), *at = data + shift;
            float *got = floats(count);
            for (size_t i = 0; i < count; i++) {
                at[i * size] = (unsigned char)((int)code[i] & 255);
                if (size > 1) at[i * size + 1] = (unsigned char)((int)code[i] >> 8);
            }
            CHECK(llm_safetensors_dtype_floats(got, at, count, short_kind[k].dtype));
            for (size_t i = 0; i < count; i++) {
                CHECK(want[i] == 1e9f ? isnan(got[i]) : got[i] == want[i]);
                CHECK(isnan(got[i]) || !signbit(got[i]) == !signbit(want[i]));
            }
            free(data);
        }
    }
}

TEST(safetensors_dtype, "every code is what the formula says") {
    for (size_t k = 0; k < 4; k++) {
        const int E = short_kind[k].E, M = short_kind[k].M, bias = (1 << (E - 1)) - 1;
        for (int code = 0; code < 1 << (1 + E + M); code++) {
            const int e = code >> M & ((1 << E) - 1), f = code & ((1 << M) - 1);
            const unsigned char data[4] = {(unsigned char)(code & 255), (unsigned char)(code >> 8)};
            double want = e == 0 ? pow(2.0, 1 - bias) * f / (1 << M)
                                 : pow(2.0, e - bias) * (1.0 + (double)f / (1 << M));
            float got;
            if (e == (1 << E) - 1 && k < 3) want = f == 0 ? (double)INFINITY : (double)NAN;
            if (k == 3 && (code & 127) == 127) want = (double)NAN;
            if (code >> (E + M)) want = -want;
            CHECK(llm_safetensors_dtype_floats(&got, data, 1, short_kind[k].dtype));
            CHECK(isnan(want) ? isnan(got)
                              : (double)got == want && !signbit(got) == !signbit(want));
        }
    }
}

TEST(safetensors_dtype, "floats are the same bits, whatever they are and wherever they stand") {
    const float x[8] = {1.0f, -0.0f, INFINITY, -INFINITY, 1e-45f, 3.4e38f, 0.1f, -2.5f};
    unsigned char data[35];
    for (size_t shift = 0; shift < 4; shift++) {
        float got[8];
        for (size_t i = 0; i < 8; i++) {
            uint32_t bits;
            memcpy(&bits, &x[i], 4);
            for (size_t b = 0; b < 4; b++) /* little-endian on every machine */
                data[shift + 4 * i + b] = (unsigned char)(bits >> (8 * b));
        }
        CHECK(llm_safetensors_dtype_floats(got, data + shift, 8, LLM_SAFETENSORS_F32));
        CHECK(memcmp(got, x, sizeof x) == 0);
    }
}

TEST(safetensors_dtype, "names and sizes; what is no float of at most 32 bits is refused") {
    const struct {
        llm_safetensors_dtype dtype;
        const char *name;
        size_t size;
        bool floats;
    } all[] = {{LLM_SAFETENSORS_BOOL, "BOOL", 1, false},
               {LLM_SAFETENSORS_U8, "U8", 1, false},
               {LLM_SAFETENSORS_I8, "I8", 1, false},
               {LLM_SAFETENSORS_F8_E5M2, "F8_E5M2", 1, true},
               {LLM_SAFETENSORS_F8_E4M3, "F8_E4M3", 1, true},
               {LLM_SAFETENSORS_F8_E8M0, "F8_E8M0", 1, false},
               {LLM_SAFETENSORS_I16, "I16", 2, false},
               {LLM_SAFETENSORS_U16, "U16", 2, false},
               {LLM_SAFETENSORS_F16, "F16", 2, true},
               {LLM_SAFETENSORS_BF16, "BF16", 2, true},
               {LLM_SAFETENSORS_I32, "I32", 4, false},
               {LLM_SAFETENSORS_U32, "U32", 4, false},
               {LLM_SAFETENSORS_F32, "F32", 4, true},
               {LLM_SAFETENSORS_C64, "C64", 8, false},
               {LLM_SAFETENSORS_F64, "F64", 8, false},
               {LLM_SAFETENSORS_I64, "I64", 8, false},
               {LLM_SAFETENSORS_U64, "U64", 8, false}};
    CHECK(sizeof all / sizeof all[0] == LLM_SAFETENSORS_DTYPES);
    for (size_t i = 0; i < LLM_SAFETENSORS_DTYPES; i++) {
        const unsigned char data[8] = {0};
        size_t size = 0;
        float x = 5.0f;
        CHECK(strcmp(llm_safetensors_dtype_name(&size, all[i].dtype), all[i].name) == 0);
        CHECK(size == all[i].size);
        CHECK(llm_safetensors_dtype_floats(&x, data, 1, all[i].dtype) == all[i].floats);
        CHECK(x == (all[i].floats ? 0.0f : 5.0f));
        x = 5.0f;
        llm_safetensors_dtype_floats(&x, data, 0, all[i].dtype);
        CHECK(x == 5.0f);
    }
}

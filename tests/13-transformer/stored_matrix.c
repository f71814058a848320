/* @stored_matrix */
#include "../test.h"

#include "../../llm.h"

static const struct {
    llm_gguf_blocks_type type;
    size_t weights, bytes;
    int halves; /* bit i: a scale stands at byte 2 i of a block */
} forms[] = {{LLM_GGUF_BLOCKS_F32, 1, 4, 0},      {LLM_GGUF_BLOCKS_F16, 1, 2, 0},
             {LLM_GGUF_BLOCKS_BF16, 1, 2, 0},     {LLM_GGUF_BLOCKS_Q4_0, 32, 18, 1},
             {LLM_GGUF_BLOCKS_Q4_1, 32, 20, 3},   {LLM_GGUF_BLOCKS_Q5_0, 32, 22, 1},
             {LLM_GGUF_BLOCKS_Q5_1, 32, 24, 3},   {LLM_GGUF_BLOCKS_Q8_0, 32, 34, 1},
             {LLM_GGUF_BLOCKS_Q4_K, 256, 144, 3}, {LLM_GGUF_BLOCKS_Q5_K, 256, 176, 3},
             {LLM_GGUF_BLOCKS_Q6_K, 256, 210, 0}};

/* rows x columns weights of a form at an odd address, none of them infinite or NaN. */
static unsigned char *sm_random(size_t form, size_t rows, size_t columns, llm_rng *rng) {
    const size_t n = rows * columns / forms[form].weights, size = forms[form].bytes;
    unsigned char *data = (unsigned char *)test_memory(n * size + 1, 1) + 1;
    for (size_t i = 0; i < n * size; i++) data[i] = (unsigned char)llm_rng_below(rng, 256);
    for (size_t i = 0; i < n; i++) {
        unsigned char *b = data + i * size;
        for (size_t k = 0; k < 2; k++)
            if (forms[form].halves >> k & 1)
                b[2 * k + 1] = (unsigned char)(0x20 + b[2 * k + 1] % 8);
        if (forms[form].type == LLM_GGUF_BLOCKS_Q6_K) b[209] = (unsigned char)(0x20 + b[209] % 8);
        if (forms[form].weights > 1) continue;
        if (size == 2)
            b[1] = (unsigned char)(b[1] & 0xbf); /* exponent below its top half */
        else
            b[3] = (unsigned char)(b[3] & 0xbf);
    }
    return data;
}

TEST(stored_matrix, "every code of 16 bits, and blocks of every form, unpack as they are read") {
    for (int k = 0; k < 2; k++) {
        const llm_gguf_blocks_type type = k == 0 ? LLM_GGUF_BLOCKS_F16 : LLM_GGUF_BLOCKS_BF16;
        for (unsigned first = 0; first < 65536; first += 256) {
            unsigned char data[512];
            float got[256], want[256];
            for (unsigned i = 0; i < 256; i++) {
                data[2 * i] = (unsigned char)((first + i) & 255);
                data[2 * i + 1] = (unsigned char)((first + i) >> 8);
            }
            llm_stored_matrix_unpack(got, data, 256, type);
            CHECK(llm_gguf_blocks_floats(want, data, 256, type));
            for (size_t i = 0; i < 256; i++) {
                CHECK(isnan(want[i]) ? isnan(got[i]) : got[i] == want[i]);
                CHECK(signbit(got[i]) == signbit(want[i]) || isnan(want[i]));
            }
        }
    }
    llm_rng rng = llm_rng_seed(1);
    for (size_t f = 0; f < sizeof forms / sizeof *forms; f++) {
        float got[256], want[256];
        const unsigned char *data = sm_random(f, 1, 256, &rng);
        llm_stored_matrix_unpack(got, data, 256, forms[f].type);
        CHECK(llm_gguf_blocks_floats(want, data, 256, forms[f].type));
        for (size_t i = 0; i < 256; i++) CHECK(got[i] == want[i]);
    }
}

TEST(stored_matrix, "codes times scales are the numbers of a block; other forms have none") {
    llm_rng rng = llm_rng_seed(3);
    for (size_t f = 0; f < sizeof forms / sizeof *forms; f++) {
        const llm_gguf_blocks_type type = forms[f].type;
        const unsigned char *data = sm_random(f, 1, 256, &rng);
        signed char code[256];
        float scale[8], want[256];
        const bool known = type == LLM_GGUF_BLOCKS_Q8_0 || type == LLM_GGUF_BLOCKS_Q4_0;
        CHECK(llm_stored_matrix_codes(code, scale, data, 256, type) == known);
        CHECK(llm_gguf_blocks_floats(want, data, 256, type));
        for (size_t i = 0; known && i < 256; i++) CHECK(scale[i / 32] * (float)code[i] == want[i]);
    }
}

TEST(stored_matrix, "products are those of the unpacked matrix, for one x and for many") {
    llm_rng rng = llm_rng_seed(2);
    static const size_t columns[8] = {1, 32, 96, 256, 288, 768, 4352, 64};
    static const size_t rows[8] = {3, 67, 7, 9, 5, 2, 1, 8}, many[5] = {1, 3, 6, 7, 9};
    for (size_t f = 0; f < sizeof forms / sizeof *forms; f++) {
        for (size_t s = 0; s < 8; s++) {
            const size_t C = columns[s], O = rows[s];
            if (C % forms[f].weights != 0) continue;
            const unsigned char *data = sm_random(f, O, C, &rng);
            const llm_stored_matrix w = {data, forms[f].type, O, C};
            CHECK(llm_stored_matrix_stride(&w) == C / forms[f].weights * forms[f].bytes);
            float *full = floats(O * C), *x = floats(9 * C), *y = floats(9 * O), *b = floats(O);
            CHECK(llm_gguf_blocks_floats(full, data, O * C, forms[f].type));
            llm_rng_normal_fill(&rng, x, 9 * C);
            llm_rng_normal_fill(&rng, b, O);
            for (size_t k = 0; k < 10; k++) {
                const size_t N = many[k % 5];
                for (size_t i = 0; i < 9 * O; i++) y[i] = i < N * O ? NAN : 7.0f;
                llm_stored_matrix_forward(y, x, &w, k < 5 ? b : NULL, N);
                for (size_t i = 0; i < N * O; i++) {
                    double want = k < 5 ? (double)b[i % O] : 0.0, size = fabs(want);
                    for (size_t c = 0; c < C; c++) {
                        const double term = (double)full[i % O * C + c] * (double)x[i / O * C + c];
                        want += term, size += fabs(term);
                    }
                    CHECK_NEAR(y[i], want, 2e-6 * size + 1e-44); /* may be subnormal */
                }
                for (size_t i = N * O; i < 9 * O; i++) CHECK(y[i] == 7.0f);
            }
            float *row = floats(C);
            for (size_t r = 0; r < O; r++) {
                llm_stored_matrix_row(row, &w, r);
                for (size_t c = 0; c < C; c++) CHECK(row[c] == full[r * C + c]);
            }
            CHECK_ASSERTS(llm_stored_matrix_row(row, &w, O));
        }
    }
    const unsigned char none[4] = {0};
    const llm_stored_matrix empty = {none, LLM_GGUF_BLOCKS_F32, 2, 0};
    const llm_stored_matrix part = {none, LLM_GGUF_BLOCKS_Q8_0, 1, 33};
    float y[2] = {7.0f, 7.0f};
    llm_stored_matrix_forward(y, y, &empty, NULL, 1);
    CHECK(y[0] == 0.0f && y[1] == 0.0f);
    float of[16] = {7.0f};
    llm_stored_matrix_forward(of, y, &empty, y, 8);
    for (size_t i = 0; i < 16; i++) CHECK(of[i] == 0.0f);
    CHECK_ASSERTS(llm_stored_matrix_stride(&part));
    CHECK_ASSERTS(llm_stored_matrix_unpack(y, none, 257, LLM_GGUF_BLOCKS_F32));
}

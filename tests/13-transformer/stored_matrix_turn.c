/* @stored_matrix_turn */
#include "../test.h"

#include "../../llm.h"

/* Numbered bytes of a matrix; columns first .. first + count - 1 turned, between guards. */
static void smt_check(llm_gguf_blocks_type type, size_t rows, size_t columns, size_t first,
                      size_t count) {
    const size_t each = type == LLM_GGUF_BLOCKS_F32 ? 4 : 2, size = rows * count * each;
    unsigned char *in = (unsigned char *)test_memory(rows * columns * each + 1, 1);
    unsigned char *out = (unsigned char *)test_memory(size + 2, 1);
    unsigned char *file = (unsigned char *)test_memory(rows * columns * each + 1, 1);
    for (size_t i = 0; i < rows * columns * each; i++)
        in[i] = file[i] = (unsigned char)(i * 167 + (i >> 8) * 13);
    memset(out, 0xab, size + 2);
    const llm_stored_matrix w = {file, type, rows, columns};
    llm_stored_matrix_turn(out + 1, &w, first, count);
    CHECK(out[0] == 0xab && out[size + 1] == 0xab);
    for (size_t i = 0; i < size; i++) {
        const size_t j = i / each / rows, k = i / each % rows;
        CHECK(out[1 + i] == in[(k * columns + first + j) * each + i % each]);
    }
}

TEST(stored_matrix_turn, "columns become rows byte by byte, in numbers of two and four bytes") {
    static const llm_gguf_blocks_type type[3] = {LLM_GGUF_BLOCKS_F32, LLM_GGUF_BLOCKS_F16,
                                                 LLM_GGUF_BLOCKS_BF16};
    static const size_t size[] = {1, 2, 3, 31, 32, 33, 67};
    for (size_t t = 0; t < 3; t++) {
        for (size_t i = 0; i < 7; i++) {
            for (size_t j = 0; j < 7; j++) {
                const size_t columns = size[j];
                smt_check(type[t], size[i], columns, 0, columns);
                smt_check(type[t], size[i], columns, columns / 3, columns - columns / 3);
                smt_check(type[t], size[i], columns, columns, 0);
                smt_check(type[t], size[i], columns, columns - 1, 1);
            }
        }
    }
    smt_check(LLM_GGUF_BLOCKS_F32, 131, 141, 0, 141); /* enough for threads */
}

TEST(stored_matrix_turn, "times a vector it is the vector times the matrix") {
    enum { I = 37, O = 45 };
    const size_t first = 4, count = 40;
    float *w = floats(I * O), *x = floats(I), *y = floats(O), *turned = floats(I * O);
    llm_rng rng = llm_rng_seed(1);
    for (size_t i = 0; i < I * O; i++) w[i] = llm_rng_normal(&rng);
    for (size_t i = 0; i < I; i++) x[i] = llm_rng_normal(&rng);
    const llm_stored_matrix in = {(const unsigned char *)w, LLM_GGUF_BLOCKS_F32, I, O};
    llm_stored_matrix_turn((unsigned char *)turned, &in, first, count);
    const llm_stored_matrix out = {(const unsigned char *)turned, LLM_GGUF_BLOCKS_F32, count, I};
    llm_stored_matrix_forward(y, x, &out, NULL, 1);
    for (size_t j = 0; j < count; j++) {
        double sum = 0.0;
        for (size_t i = 0; i < I; i++) sum += (double)x[i] * (double)w[i * O + first + j];
        CHECK_NEAR(y[j], sum, 1e-4);
    }
}

TEST(stored_matrix_turn, "numbers in blocks and columns that are not there are refused") {
    unsigned char data[4 * 64], out[4 * 64];
    llm_stored_matrix w = {data, LLM_GGUF_BLOCKS_Q8_0, 2, 32};
    memset(data, 0, sizeof data);
    CHECK(llm_stored_matrix_turn_bytes(LLM_GGUF_BLOCKS_F32) == 4);
    CHECK(llm_stored_matrix_turn_bytes(LLM_GGUF_BLOCKS_F16) == 2);
    CHECK(llm_stored_matrix_turn_bytes(LLM_GGUF_BLOCKS_BF16) == 2);
    CHECK(llm_stored_matrix_turn_bytes(LLM_GGUF_BLOCKS_Q8_0) == 0);
    CHECK_ASSERTS(llm_stored_matrix_turn(out, &w, 0, 1));
    w.type = LLM_GGUF_BLOCKS_F16;
    llm_stored_matrix_turn(out, &w, 31, 1);
    CHECK_ASSERTS(llm_stored_matrix_turn(out, &w, 31, 2));
    CHECK_ASSERTS(llm_stored_matrix_turn(out, &w, 0, 33));
    CHECK_ASSERTS(llm_stored_matrix_turn(out, &w, SIZE_MAX, 1));
}

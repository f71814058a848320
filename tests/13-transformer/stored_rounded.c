/* @stored_rounded */
#include "../test.h"

#include "../../llm.h"

enum { MOST = LLM_STORED_DOT_MOST, FEW = LLM_STORED_MATRIX_FEW };

/* rows x columns random codes with random scales of about 1, at an odd address. */
static unsigned char *sr_random(size_t rows, size_t columns, bool four, llm_rng *rng) {
    const size_t blocks = rows * columns / 32, size = four ? 18 : 34;
    unsigned char *data = (unsigned char *)test_memory(blocks * size + 1, 1) + 1;
    for (size_t i = 0; i < blocks * size; i++) data[i] = (unsigned char)llm_rng_below(rng, 256);
    for (size_t b = 0; b < blocks; b++)
        data[b * size + 1] = (unsigned char)(0x3a + llm_rng_below(rng, 4));
    return data;
}

/* rows of blocks, all scales 1, all codes the same byte. */
static unsigned char *sr_same(size_t blocks, bool four, int byte) {
    const size_t size = four ? 18 : 34;
    unsigned char *data = (unsigned char *)test_memory(blocks * size, 1);
    memset(data, byte, blocks * size);
    for (size_t b = 0; b < blocks; b++) data[b * size] = 0, data[b * size + 1] = 0x3c;
    return data;
}

TEST(stored_rounded, "the error keeps to its bound, and is there") {
    llm_rng rng = llm_rng_seed(1);
    static const size_t columns[5] = {64, 128, 576, MOST, MOST + 192}, rows[5] = {1, 4, 7, 5, 2};
    for (int four = 0; four < 2; four++) {
        for (int s = 0; s < 5; s++) {
            const size_t C = columns[s], O = rows[s];
            const unsigned char *data = sr_random(O, C, four != 0, &rng);
            const llm_gguf_blocks_type type = four ? LLM_GGUF_BLOCKS_Q4_0 : LLM_GGUF_BLOCKS_Q8_0;
            const llm_stored_matrix w = {data, type, O, C};
            float *full = floats(O * C), *x = floats(FEW * C), *y = floats(FEW * O), *b = floats(O);
            double largest = 0.0;
            CHECK(llm_gguf_blocks_floats(full, data, O * C, type));
            llm_rng_normal_fill(&rng, x, FEW * C);
            llm_rng_normal_fill(&rng, b, O);
            for (size_t N = 1; N <= FEW; N++) {
                for (size_t i = 0; i < FEW * O; i++) y[i] = i < N * O ? NAN : 7.0f;
                llm_stored_rounded_forward(y, x, &w, N % 2 ? b : NULL, N);
                for (size_t i = 0; i < N * O; i++) {
                    const float *xi = x + i / O * C, *row = full + i % O * C;
                    double want = N % 2 ? (double)b[i % O] : 0.0, bound = 0.0, size = fabs(want);
                    for (size_t k = 0; k < C; k += 32) {
                        double most = 0.0, sum = 0.0;
                        for (size_t c = k; c < k + 32; c++) {
                            const double term = (double)row[c] * (double)xi[c];
                            most = fmax(most, fabs((double)xi[c]));
                            sum += fabs((double)row[c]);
                            want += term, size += fabs(term);
                        }
                        bound += most / (four ? 511.0 : 127.0) / 2.0 * sum;
                    }
                    CHECK_NEAR(y[i], want, (N < FEW ? bound : 0.0) + 2e-6 * size);
                    if (N < FEW) largest = fmax(largest, fabs((double)y[i] - want) / size);
                }
                for (size_t i = N * O; i < FEW * O; i++) CHECK(y[i] == 7.0f);
            }
            CHECK(largest > (four ? 1e-6 : 1e-5)); /* x was rounded */
        }
    }
}

TEST(stored_rounded, "whole numbers up to K are not rounded, at any place") {
    llm_rng rng = llm_rng_seed(2);
    for (int four = 0; four < 2; four++) {
        const int K = four ? 511 : 127;
        const llm_gguf_blocks_type type = four ? LLM_GGUF_BLOCKS_Q4_0 : LLM_GGUF_BLOCKS_Q8_0;
        const unsigned char *data = sr_random(6, 128, four != 0, &rng);
        float full[6 * 128], x[128], y[6];
        const llm_stored_matrix w = {data, type, 6, 128};
        CHECK(llm_gguf_blocks_floats(full, data, 6 * 128, type));
        for (int turn = 0; turn < 40; turn++) {
            for (int i = 0; i < 128; i++) x[i] = (float)((int)llm_rng_below(&rng, 2 * K + 1) - K);
            for (int b = 0; b < 4; b++) x[b * 32 + (b * 7 + turn) % 32] = (float)(b % 2 ? K : -K);
            llm_stored_rounded_forward(y, x, &w, NULL, 1);
            for (int r = 0; r < 6; r++) {
                double want = 0.0, size = 0.0;
                for (int i = 0; i < 128; i++) {
                    const double term = (double)full[r * 128 + i] * (double)x[i];
                    want += term, size += fabs(term);
                }
                CHECK_NEAR(y[r], want, 5e-7 * size);
            }
        }
    }
}

TEST(stored_rounded, "the largest sums there are fit 16 bits") {
    static const int byte[2][3] = {{0x80, 0x7f, 0xff}, {0x00, 0xff, 0x88}};
    static const double code[2][3] = {{-128, 127, -1}, {-8, 7, 0}};
    for (int four = 0; four < 2; four++) {
        for (int k = 0; k < 3; k++) {
            const double K = four ? 511 : 127;
            const llm_stored_matrix w = {sr_same(8, four != 0, byte[four][k]),
                                         four ? LLM_GGUF_BLOCKS_Q4_0 : LLM_GGUF_BLOCKS_Q8_0, 4, 64};
            float x[64], y[4];
            for (int sign = -1; sign <= 1; sign += 2) {
                for (int i = 0; i < 64; i++) x[i] = (float)(sign * K);
                llm_stored_rounded_forward(y, x, &w, NULL, 1);
                for (int r = 0; r < 4; r++) CHECK((double)y[r] == sign * K * code[four][k] * 64.0);
            }
        }
    }
}

TEST(stored_rounded, "each block has its own scale; infinities, NaN and next to nothing") {
    for (int four = 0; four < 2; four++) {
        const llm_stored_matrix w = {sr_same(12, four != 0, four ? 0x99 : 1),
                                     four ? LLM_GGUF_BLOCKS_Q4_0 : LLM_GGUF_BLOCKS_Q8_0, 3, 128};
        float x[2 * 128], y[6];
        for (int i = 0; i < 256; i++) x[i] = i % 128 < 32 ? 1e20f : i % 128 < 64 ? 1e-20f : 0.0f;
        llm_stored_rounded_forward(y, x, &w, NULL, 1);
        for (int r = 0; r < 3; r++) CHECK_NEAR(y[r], 32e20, 1e15);
        for (int i = 0; i < 32; i++) x[i] = 0.0f;
        llm_stored_rounded_forward(y, x, &w, NULL, 1);
        for (int r = 0; r < 3; r++) CHECK_NEAR(y[r], 32e-20, 1e-25);
        for (int i = 0; i < 64; i++) x[i] = 1e-35f;
        llm_stored_rounded_forward(y, x, &w, NULL, 1);
        for (int r = 0; r < 3; r++) CHECK(y[r] == 0.0f);
        for (int i = 0; i < 128; i++) x[i] = 1.0f;
        for (int k = 0; k < 3; k++) {
            x[70] = k == 0 ? NAN : k == 1 ? INFINITY : -INFINITY;
            for (int i = 0; i < 128; i++) x[128 + i] = 2.0f;
            llm_stored_rounded_forward(y, x, &w, NULL, 2);
            for (int r = 0; r < 3; r++) CHECK(isnan(y[r]) && y[3 + r] == 256.0f);
        }
    }
}

TEST(stored_rounded,
     "other forms, and columns that are no whole groups, are multiplied as they are") {
    llm_rng rng = llm_rng_seed(3);
    float full[3 * 96], x[96], y[3];
    for (int k = 0; k < 2; k++) {
        const unsigned char *data = sr_random(3, 96, true, &rng);
        llm_rng_normal_fill(&rng, full, 3 * 96);
        llm_rng_normal_fill(&rng, x, 96);
        const llm_stored_matrix w = {k ? data : (const unsigned char *)full,
                                     k ? LLM_GGUF_BLOCKS_Q4_0 : LLM_GGUF_BLOCKS_F32, 3, 96};
        if (k && llm_stored_dot_group(LLM_GGUF_BLOCKS_Q4_0) == 32) continue; /* 96 is whole */
        if (k) CHECK(llm_gguf_blocks_floats(full, data, 3 * 96, LLM_GGUF_BLOCKS_Q4_0));
        llm_stored_rounded_forward(y, x, &w, NULL, 1);
        for (int r = 0; r < 3; r++) {
            double want = 0.0, size = 0.0;
            for (int i = 0; i < 96; i++) {
                const double term = (double)full[r * 96 + i] * (double)x[i];
                want += term, size += fabs(term);
            }
            CHECK_NEAR(y[r], want, 1e-6 * size);
        }
    }
}

TEST(stored_rounded, "one or the other product, as asked") {
    llm_rng rng = llm_rng_seed(4);
    const llm_stored_matrix w = {sr_random(3, 64, false, &rng), LLM_GGUF_BLOCKS_Q8_0, 3, 64};
    float x[64], y[3], exact[3], rounded[3];
    llm_rng_normal_fill(&rng, x, 64);
    llm_stored_matrix_forward(exact, x, &w, x, 1);
    llm_stored_rounded_forward(rounded, x, &w, x, 1);
    llm_stored_rounded_product(y, x, &w, x, 1, false);
    for (int r = 0; r < 3; r++) CHECK(y[r] == exact[r] && y[r] != rounded[r]);
    llm_stored_rounded_product(y, x, &w, x, 1, true);
    for (int r = 0; r < 3; r++) CHECK(y[r] == rounded[r]);
}

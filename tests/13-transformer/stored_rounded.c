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
    static const size_t columns[6] = {32, 96, 256, 544, MOST, MOST + 224};
    static const size_t rows[6] = {5, 1, 4, 7, 6, 2};
    for (int four = 0; four < 2; four++) {
        for (int s = 0; s < 6; s++) {
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
                    double variance = 0.0;
                    for (size_t k = 0; k < C; k += 32) {
                        double most = 0.0, sum = 0.0, squares = 0.0;
                        for (size_t c = k; c < k + 32; c++) {
                            const double term = (double)row[c] * (double)xi[c];
                            most = fmax(most, fabs((double)xi[c]));
                            sum += fabs((double)row[c]);
                            squares += (double)row[c] * (double)row[c];
                            want += term, size += fabs(term);
                        }
                        bound += most / 127.0 / 2.0 * sum;
                        variance += most / 127.0 * most / 127.0 / 12.0 * squares;
                    }
                    CHECK_NEAR(y[i], want, (N < FEW ? bound : 0.0) + 2e-6 * size);
                    /* roundings are uniform: their sum keeps to six standard deviations */
                    CHECK_NEAR(y[i], want, 6.0 * sqrt(variance) + 2e-6 * size);
                    if (N < FEW) largest = fmax(largest, fabs((double)y[i] - want) / size);
                }
                for (size_t i = N * O; i < FEW * O; i++) CHECK(y[i] == 7.0f);
            }
            CHECK(largest > 1e-5); /* x was rounded */
        }
    }
}

TEST(stored_rounded, "whole numbers up to 127 are not rounded, at any place") {
    llm_rng rng = llm_rng_seed(2);
    for (int four = 0; four < 2; four++) {
        const int K = 127;
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
            const double K = 127;
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
        /* Q4_0: 9 times the sum less 8 times, so rounding counts 17 times */
        for (int r = 0; r < 3; r++) CHECK_NEAR(y[r], 32e20, 17 * 1.2e-7 * 32e20);
        for (int i = 0; i < 32; i++) x[i] = 0.0f;
        llm_stored_rounded_forward(y, x, &w, NULL, 1);
        for (int r = 0; r < 3; r++) CHECK_NEAR(y[r], 32e-20, 17 * 1.2e-7 * 32e-20);
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

TEST(stored_rounded, "x is rounded to the nearest, ties to even; what is missing of a group is 0") {
    llm_stored_rounded q;
    float x[64];
    memset(&q, 0x55, sizeof q);
    for (int i = 0; i < 32; i++) x[i] = (float)i * 0.25f - 4.0f, x[32 + i] = 0.0f;
    x[0] = -127.0f; /* the largest, so that a step is 1 */
    llm_stored_rounded_from(&q, x, 64);
    int sum = 0;
    for (int i = 0; i < 32; i++) {
        const int want = i == 0 ? -127 : (int)nearbyint(i * 0.25 - 4.0);
        CHECK(q.code[i] == want && q.code[32 + i] == 0);
        sum += want;
    }
    CHECK(q.scale[0] == 1.0f && q.eight[0] == (float)(8 * sum));
    for (size_t b = 1; b < LLM_STORED_DOT_BLOCKS; b++)
        CHECK(q.scale[b] == 0.0f && q.eight[b] == 0.0f);
    CHECK(q.code[64] == 0x55);
    float untouched;
    memset(&untouched, 0x55, sizeof untouched);
    CHECK(q.scale[LLM_STORED_DOT_BLOCKS] == untouched);
    CHECK(q.eight[LLM_STORED_DOT_BLOCKS] == untouched);
}

TEST(stored_rounded, "where a block is 0, and where it is no number") {
    static llm_stored_rounded q;
    float x[64] = {0.0f};
    for (int k = 0; k < 5; k++) {
        x[37] = k == 0   ? 1.5e-30f
                : k == 1 ? 0.9e-30f
                : k == 2 ? INFINITY
                : k == 3 ? -INFINITY
                         : NAN;
        llm_stored_rounded_from(&q, x, 64);
        CHECK(q.scale[0] == 0.0f && q.eight[0] == 0.0f);
        CHECK(k < 2 ? q.scale[1] == (k == 0 ? x[37] / 127.0f : 0.0f) : isnan(q.scale[1]));
        CHECK(q.code[37] == (k == 0 ? 127 : 0) || k > 1);
        CHECK(k < 2 || isnan(q.eight[1]));
    }
}

TEST(stored_rounded, "other forms are multiplied as they are") {
    llm_rng rng = llm_rng_seed(3);
    float full[3 * 96], x[96], y[3], want[3];
    llm_rng_normal_fill(&rng, full, 3 * 96);
    llm_rng_normal_fill(&rng, x, 96);
    const llm_stored_matrix w = {(const unsigned char *)full, LLM_GGUF_BLOCKS_F32, 3, 96};
    llm_stored_rounded_forward(y, x, &w, NULL, 1);
    llm_stored_matrix_forward(want, x, &w, NULL, 1);
    for (int r = 0; r < 3; r++) CHECK(y[r] == want[r]);
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

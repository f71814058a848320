/* @transpose */
#include "../test.h"

#include "../../llm.h"

TEST(transpose, "every number of every small shape lands in its place, and none beside it") {
    llm_rng rng = llm_rng_seed(1);
    for (size_t rows = 0; rows <= 13; rows++) {
        for (size_t cols = 0; cols <= 37; cols++) {
            const size_t ld = cols + rows % 3, to_ld = rows + cols % 4;
            float *x = floats(rows * ld), *y = floats(cols * to_ld);
            llm_rng_normal_fill(&rng, x, rows * ld);
            for (size_t i = 0; i < cols * to_ld; i++) y[i] = -7.0f;
            llm_transpose(y, to_ld, x, ld, rows, cols);
            for (size_t j = 0; j < cols; j++)
                for (size_t i = 0; i < to_ld; i++)
                    CHECK(y[j * to_ld + i] == (i < rows ? x[i * ld + j] : -7.0f));
        }
    }
}

TEST(transpose, "twice is nothing, and NaN keeps its bits") {
    enum { R = 41, C = 86 };
    static float x[R * C], y[C * R], back[R * C];
    for (uint32_t i = 0; i < R * C; i++) {
        const uint32_t bits = 0x7F800001u + i; /* all kinds of NaN, signalling ones too */
        memcpy(x + i, &bits, sizeof bits);
    }
    llm_transpose(y, R, x, C, R, C);
    CHECK(memcmp(y + R, x + 1, sizeof(float)) == 0);
    llm_transpose(back, C, y, R, C, R);
    CHECK(memcmp(back, x, sizeof x) == 0);
}

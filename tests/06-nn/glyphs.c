/* @glyphs */
#include "../test.h"

#include "../../llm.h"

enum { GL = LLM_GLYPHS_PIXELS };

TEST(glyphs, "the digits look as drawn by hand, and move as scipy.ndimage.shift moves them") {
    float x[10 * GL];
    for (int digit = 0; digit < 10; digit++) llm_glyphs_draw(x + digit * GL, digit, 0.0f, 0.0f);
    CHECK_GOLDEN(x, 10 * GL, 0.0f, "still/x");
    for (size_t k = 0; k < 5; k++)
        for (int digit = 2; digit < 8; digit += 5) {
            const float *move = golden("%zu/%d/move", k, digit);
            llm_glyphs_draw(x, digit, move[0], move[1]);
            CHECK_GOLDEN(x, GL, 1e-6f, "%zu/%d/x", k, digit);
        }
    llm_glyphs_draw(x, 6, 0.0f, 0.0f);
    llm_glyphs_draw(x + GL, 9, 0.0f, 0.0f);
    for (size_t i = 0; i < GL; i++) CHECK(x[i] == x[2 * GL - 1 - i]);
    CHECK_ASSERTS(llm_glyphs_draw(x, 10, 0.0f, 0.0f));
    CHECK_ASSERTS(llm_glyphs_draw(x, -1, 0.0f, 0.0f));
}

/* The centre of mass of a picture, and its mass. */
static void gl_centre(double centre[3], const float *image) {
    centre[0] = centre[1] = centre[2] = 0.0;
    for (size_t i = 0; i < GL; i++) {
        centre[0] += (double)image[i] * (double)(i % 8);
        centre[1] += (double)image[i] * (double)(i / 8);
        centre[2] += (double)image[i];
    }
    centre[0] /= centre[2], centre[1] /= centre[2];
}

TEST(glyphs, "without noise each digit is whole and moved uniformly by up to the shift") {
    const size_t n = 2000;
    float *x = floats(n * GL), still[GL];
    int *label = (int *)test_memory(n, sizeof(int));
    llm_rng rng = llm_rng_seed(2);
    llm_glyphs(x, label, n, 1.0f, 0.0f, &rng);
    double sum[2] = {0.0, 0.0}, square[2] = {0.0, 0.0}, both = 0.0, most = 0.0;
    for (size_t i = 0; i < n; i++) {
        double at[3], home[3];
        CHECK(label[i] == (int)(i % 10));
        llm_glyphs_draw(still, label[i], 0.0f, 0.0f);
        gl_centre(at, x + i * GL);
        gl_centre(home, still);
        CHECK_NEAR(at[2], home[2], 1e-5);
        for (size_t k = 0; k < 2; k++) {
            const double d = at[k] - home[k];
            sum[k] += d, square[k] += d * d;
            most = fmax(most, fabs(d));
        }
        both += (at[0] - home[0]) * (at[1] - home[1]);
    }
    /* 4 deviations: of the mean sqrt(1/3n) = 0.013, of the mean square sqrt(4/45n) = 0.0067, of
     * the mean product sqrt(1/9n) = 0.0075 */
    for (size_t k = 0; k < 2; k++) {
        CHECK_NEAR(sum[k] / (double)n, 0.0, 0.052);
        CHECK_NEAR(square[k] / (double)n, 1.0 / 3.0, 0.027);
    }
    CHECK_NEAR(both / (double)n, 0.0, 0.03);
    CHECK(most <= 1.0 + 1e-5 && most > 0.99);
}

TEST(glyphs, "noise has the stated deviation and is cut at 0 and 1") {
    const size_t n = 1000;
    float *x = floats(n * GL);
    int *label = (int *)test_memory(n, sizeof(int));
    llm_rng rng = llm_rng_seed(3);
    llm_glyphs(x, label, n, 0.0f, 0.2f, &rng);
    double sum = 0.0, zeros = 0.0, count = 0.0, ink = 0.0, full = 0.0;
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < GL; k++) {
            const float v = x[i * GL + k];
            CHECK(v >= 0.0f && v <= 1.0f);
            if (k < 8) sum += (double)v, zeros += v == 0.0f, count += 1.0;
            if (k == 6 * 8 + 3 && label[i] != 4) ink += 1.0, full += v == 1.0f;
        }
    /* half of a normal variable: mean 0.2 / sqrt(2 pi) = 0.0798, deviation 0.117 */
    CHECK_NEAR(sum / count, 0.0797885, 4.0 * 0.117 / sqrt(count));
    CHECK_NEAR(zeros / count, 0.5, 4.0 * 0.5 / sqrt(count));
    CHECK_NEAR(full / ink, 0.5, 4.0 * 0.5 / sqrt(ink)); /* the foot of all digits but the 4 */
}

TEST(glyphs, "picture i does not depend on how many are drawn; equal seeds, equal pictures") {
    float few[7 * GL], many[23 * GL], other[23 * GL];
    int label[23];
    llm_rng a = llm_rng_seed(4), b = llm_rng_seed(4), c = llm_rng_seed(5);
    llm_glyphs(many, label, 23, 0.5f, 0.1f, &a);
    llm_glyphs(few, label, 7, 0.5f, 0.1f, &b);
    llm_glyphs(other, label, 23, 0.5f, 0.1f, &c);
    CHECK_ALL_NEAR(few, many, 7 * GL, 0.0f);
    CHECK(memcmp(many, other, sizeof many) != 0);
    CHECK(memcmp(many, many + 10 * GL, GL * sizeof(float)) != 0);
    llm_glyphs(NULL, NULL, 0, 1.0f, 0.1f, &a);
}

TEST(glyphs, "the noise is the stream's, behind the two draws of the shift") {
    float image[64], plain[64], z[64];
    int label[1];
    llm_rng a = llm_rng_seed(3), b = llm_rng_seed(3);
    llm_glyphs(image, label, 1, 0.0f, 0.1f, &a);
    llm_rng_uniform(&b), llm_rng_uniform(&b);
    llm_rng_normal_fill(&b, z, 64);
    llm_glyphs_draw(plain, 0, 0.0f, 0.0f);
    for (size_t i = 0; i < 64; i++)
        CHECK_NEAR(image[i], fmax(0.0, fmin(1.0, (double)plain[i] + 0.1 * (double)z[i])), 1e-6);
}

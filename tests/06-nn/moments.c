/* @moments */
#include "../test.h"

#include "../../llm.h"

enum { SIZES = 15 };
static const size_t moments_n[SIZES] = {1, 2, 3, 7, 8, 15, 16, 31, 32, 33, 63, 64, 65, 127, 1000};

/* Whether a sum of n products is what doubles give, up to n roundings of its terms' size. */
static bool moments_close(float got, double want, double size) {
    return fabs((double)got - want) <= 4e-7 * size;
}

TEST(moments,
     "sums and products equal doubles', of n around the vectors, with and without weights") {
    llm_rng rng = llm_rng_seed(1);
    for (size_t k = 0; k < SIZES; k++) {
        const size_t n = moments_n[k];
        float *x = floats(n), *dy = floats(n), *w = floats(n), got[8];
        llm_rng_normal_fill(&rng, x, n);
        llm_rng_normal_fill(&rng, dy, n);
        llm_rng_normal_fill(&rng, w, n);
        for (int at = 0; at < 2; at++) {
            const float about = at ? 0.75f : 0.0f;
            double want[6] = {0.0}, size[6] = {0.0};
            for (size_t i = 0; i < n; i++) {
                const double d = (double)x[i] - (double)about, g = (double)dy[i] * (double)w[i];
                const double term[6] = {d, d * d, g, g * d, (double)dy[i], (double)dy[i] * d};
                for (size_t e = 0; e < 6; e++) want[e] += term[e], size[e] += fabs(term[e]);
            }
            llm_moments_sums(got, got + 1, x, about, n);
            llm_moments_products(got + 2, got + 3, dy, x, w, about, n);
            llm_moments_products(got + 4, got + 5, dy, x, NULL, about, n);
            for (size_t e = 0; e < 6; e++) CHECK(moments_close(got[e], want[e], size[e]));
        }
    }
    float sum = NAN, square = NAN; /* of nothing: 0 */
    llm_moments_sums(&sum, &square, NULL, 3.0f, 0);
    CHECK(sum == 0.0f && square == 0.0f);
    llm_moments_products(&sum, &square, NULL, NULL, NULL, 3.0f, 0);
    CHECK(sum == 0.0f && square == 0.0f);
}

TEST(moments, "mean and squares about it, whatever the row lies around") {
    llm_rng rng = llm_rng_seed(2);
    const float around[4] = {0.0f, 1.0f, -300.0f, 1e4f};
    for (size_t k = 0; k < SIZES; k++)
        for (size_t a = 0; a < 4; a++) {
            const size_t n = moments_n[k];
            float *x = floats(n), square = NAN;
            double mean = 0.0, want = 0.0;
            for (size_t i = 0; i < n; i++) {
                x[i] = around[a] + llm_rng_normal(&rng);
                mean += (double)x[i] / (double)n;
            }
            for (size_t i = 0; i < n; i++) want += pow((double)x[i] - mean, 2.0);
            const float got = llm_moments(&square, x, n);
            CHECK_NEAR(got, mean,
                       6e-8 * fabs((double)around[a]) + 3e-7); /* a rounding of the mean */
            CHECK_NEAR(square, want, 2e-6 * want + 1e-12);
        }
}

TEST(moments, "a row of equal numbers has no variance, one of 1e4 that of its ends") {
    float x[768], square = NAN;
    const float value[4] = {0.0f, 0.1f, 1e4f + 1.0f / 1024.0f, -3e18f};
    for (size_t k = 0; k < 4; k++) {
        for (size_t i = 0; i < 768; i++) x[i] = value[k];
        CHECK(llm_moments(&square, x, 768) == value[k] && square == 0.0f);
    }
    /* the plain float sum of this row is off by units, and its mean by thousandths */
    for (size_t i = 0; i < 768; i++) x[i] = 1e4f + (i % 2 ? 1.0f : -1.0f);
    CHECK(llm_moments(&square, x, 768) == 1e4f && square == 768.0f);
}

TEST(moments, "squares up to the end of the floats; beyond it infinity, and NaN stays") {
    float x[40], square = NAN;
    for (size_t i = 0; i < 40; i++) x[i] = i % 2 ? 2e18f : -2e18f;
    CHECK_NEAR(llm_moments(&square, x, 40), 0.0, 1e12);
    CHECK_NEAR((double)square / 1.6e38, 1.0, 1e-5);
    /* where the mean itself is 1e25, the first subtraction leaves a remainder whose square is no
     * float */
    for (size_t i = 0; i < 40; i++) x[i] = 1.1e25f;
    CHECK(llm_moments(&square, x, 40) == 1.1e25f && square == 0.0f);
    for (size_t i = 0; i < 40; i++) x[i] = i % 2 ? 1e25f : -1e25f;
    llm_moments(&square, x, 40);
    CHECK(square == INFINITY);
    x[39] = NAN;
    CHECK(isnan(llm_moments(&square, x, 40)) && isnan(square));
}

TEST(moments, "a scale of 2^-14 or 2^14 scales the mean and, twice, the squares, to the last bit") {
    llm_rng rng = llm_rng_seed(3);
    for (size_t k = 0; k < SIZES; k++) {
        const size_t n = moments_n[k];
        float *x = floats(n), *y = floats(n), square[3];
        for (size_t i = 0; i < n; i++) x[i] = 0.25f + llm_rng_normal(&rng);
        const float mean = llm_moments(&square[0], x, n);
        for (size_t i = 0; i < n; i++) y[i] = ldexpf(x[i], -14);
        CHECK(llm_moments(&square[1], y, n) == ldexpf(mean, -14));
        for (size_t i = 0; i < n; i++) y[i] = ldexpf(x[i], 14);
        CHECK(llm_moments(&square[2], y, n) == ldexpf(mean, 14));
        CHECK(square[1] == ldexpf(square[0], -28) && square[2] == ldexpf(square[0], 28));
    }
}

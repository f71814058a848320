/* @rng */
#include "../test.h"

#include "../../llm.h"

TEST(rng, "Philox-4x32-10 gives the known answers of Random123") {
    /* kat_vectors of the Random123 distribution: counter, key, answer */
    const uint32_t kat[3][10] = {{0, 0, 0, 0, 0, 0, 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8},
                                 {0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff,
                                  0xffffffff, 0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd},
                                 {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344, 0xa4093822,
                                  0x299f31d0, 0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}};
    for (size_t i = 0; i < 3; i++) {
        uint32_t out[4];
        llm_rng_philox(out, kat[i], kat[i] + 4);
        CHECK(memcmp(out, kat[i] + 6, sizeof out) == 0);
        memcpy(out, kat[i], sizeof out); /* in place */
        llm_rng_philox(out, out, kat[i] + 4);
        CHECK(memcmp(out, kat[i] + 6, sizeof out) == 0);
    }
}

static uint64_t rng_whole(const float *quarters, size_t i) { /* golden: four 16-bit parts */
    uint64_t x = 0;
    for (size_t k = 0; k < 4; k++) x = x << 16 | (uint64_t)quarters[4 * i + k];
    return x;
}

TEST(rng, "words, uniforms and normals equal an implementation in Python") {
    const uint64_t seed[5] = {0, 1, (uint64_t)1 << 32, UINT64_MAX, 20261120};
    const uint64_t block[5] = {0, 0, 0, 0xfffffffe, ((uint64_t)1 << 40) + 5};
    for (size_t i = 0; i < 5; i++) {
        const float *words = golden("stream%zu/words", i);
        float uniform[7], normal[9];
        llm_rng rng = llm_rng_seed(seed[i]);
        rng.block = block[i];
        for (size_t k = 0; k < 17; k++) CHECK(llm_rng_u32(&rng) == rng_whole(words, k));
        for (size_t k = 0; k < 7; k++) uniform[k] = llm_rng_uniform(&rng);
        CHECK_GOLDEN(uniform, 7, 0.0f, "stream%zu/uniform", i);
        llm_rng_normal_fill(&rng, normal, 9);
        CHECK_GOLDEN(normal, 9, 1e-7f, "stream%zu/normal", i); /* one rounding to float */
        for (size_t k = 0; k < 2; k++) normal[k] = llm_rng_normal(&rng);
        CHECK_GOLDEN(normal, 2, 1e-7f, "stream%zu/single", i);
    }
}

TEST(rng, "integers below n equal exact arithmetic, redrawn words included") {
    const float *ranges = golden("below/range"), *draws = golden("below/draws");
    llm_rng rng = llm_rng_seed(7);
    for (size_t i = 0; i < 12; i++)
        for (size_t k = 0; k < 12; k++)
            CHECK(llm_rng_below(&rng, rng_whole(ranges, i)) == rng_whole(draws, 12 * i + k));
    CHECK_ASSERTS(llm_rng_below(&rng, 0));
}

TEST(rng, "integers below n: the words at the edge of what is drawn again") {
    const struct {
        size_t n, want;
        uint32_t word[4];
    } all[] = {
        {(size_t)3 << 30, 2, {9, 9, 9, 3}}, /* 3 n mod 2^32 is 2^30, as is 2^32 mod n: kept */
        {(size_t)3 << 30, 2, {9, 9, 0, 3}}, /* 0 n mod 2^32 is below: the next word */
        {((size_t)1 << 32) + 1, (size_t)1 << 32, {9, 9, 1, 0}}, /* n - 1 is the last one kept */
        {((size_t)1 << 32) + 1, 5, {1, 1, 0, 5}}};              /* n itself is not */
    for (size_t i = 0; i < 4; i++) {
        llm_rng rng = llm_rng_seed(0);
        memcpy(rng.word, all[i].word, sizeof rng.word);
        rng.used = i == 0 ? 3 : i == 3 ? 0 : 2;
        CHECK(llm_rng_below(&rng, all[i].n) == all[i].want && rng.used == 4);
    }
}

TEST(rng, "integers below n are unbiased where multiplying alone is biased most") {
    /* n = 3/4 2^32: without redrawing, value 3k gets two words in four, 3k+1 and 3k+2 one each.
     * 30000 draws, chi-square with 2 degrees of freedom: above 18.4 once in 10^4. */
    const size_t n[2] = {(size_t)3 << 30, (size_t)3 << 40};
    for (size_t i = 0; i < 2; i++) {
        llm_rng rng = llm_rng_seed(8 + i);
        double count[3] = {0}, third[3] = {0}, chi = 0.0, chi_third = 0.0;
        for (int k = 0; k < 30000; k++) {
            const size_t x = llm_rng_below(&rng, n[i]);
            CHECK(x < n[i]);
            count[x % 3]++;
            third[x / (n[i] / 3)]++;
        }
        for (int k = 0; k < 3; k++) {
            chi += (count[k] - 1e4) * (count[k] - 1e4) / 1e4;
            chi_third += (third[k] - 1e4) * (third[k] - 1e4) / 1e4;
        }
        CHECK(chi < 18.4 && chi_third < 18.4);
    }
}

TEST(rng, "uniforms fill [0, 1) evenly, also in pairs of successive draws and of seeds") {
    enum { BINS = 16, DRAWS = 256000 };
    static double pairs[2][BINS][BINS];
    llm_rng rng = llm_rng_seed(1);
    float last = llm_rng_uniform(&rng);
    for (int i = 0; i < DRAWS; i++) {
        const float x = llm_rng_uniform(&rng);
        CHECK(x >= 0.0f && x < 1.0f);
        pairs[0][(int)(BINS * last)][(int)(BINS * x)]++;
        last = x;
    }
    for (uint64_t seed = 0; seed < DRAWS; seed++) { /* the first draws of seeds s and s + 1 */
        llm_rng a = llm_rng_seed(seed), b = llm_rng_seed(seed + 1);
        pairs[1][(int)(BINS * llm_rng_uniform(&a))][(int)(BINS * llm_rng_uniform(&b))]++;
    }
    for (int kind = 0; kind < 2; kind++) {
        double chi = 0.0;
        for (int i = 0; i < BINS; i++)
            for (int j = 0; j < BINS; j++)
                chi += (pairs[kind][i][j] - 1000.0) * (pairs[kind][i][j] - 1000.0) / 1000.0;
        CHECK_NEAR(chi, 255.0, 4.5 * sqrt(2.0 * 255.0)); /* 255 degrees of freedom */
    }
    rng.used = 3; /* the two ends of the grid */
    rng.word[3] = 0xffffffff;
    CHECK(llm_rng_uniform(&rng) == 1.0f - 1.0f / 16777216.0f);
    rng.used = 3;
    rng.word[3] = 255;
    CHECK(llm_rng_uniform(&rng) == 0.0f);
}

TEST(rng, "normals: moments, distribution function and tails of a million draws") {
    enum { DRAWS = 1000000, STEPS = 81 };
    static float z[DRAWS];
    static double below[STEPS]; /* how many are at most -4, -3.9, ... 4 */
    double moment[5] = {0}, tail[2] = {0}, product[2] = {0};
    llm_rng rng = llm_rng_seed(2);
    llm_rng_normal_fill(&rng, z, DRAWS);
    for (size_t i = 0; i < DRAWS; i++) {
        const double x = (double)z[i];
        for (int k = 1; k < 5; k++) moment[k] += pow(x, k) / DRAWS;
        product[i % 2] += i ? x * (double)z[i - 1] / (DRAWS / 2) : 0.0; /* across pairs, within */
        tail[0] += fabs(x) > 3.0;
        tail[1] += fabs(x) > 4.0;
        const double step = ceil((x + 4.0) * 10.0);
        if (step < STEPS) below[step > 0 ? (int)step : 0]++;
    }
    /* moments of z^k have variance E z^2k - (E z^k)^2: 1, 2, 15, 96; four standard deviations */
    CHECK_NEAR(moment[1], 0.0, 4.0 * sqrt(1.0 / DRAWS));
    CHECK_NEAR(moment[2], 1.0, 4.0 * sqrt(2.0 / DRAWS));
    CHECK_NEAR(moment[3], 0.0, 4.0 * sqrt(15.0 / DRAWS));
    CHECK_NEAR(moment[4], 3.0, 4.0 * sqrt(96.0 / DRAWS));
    CHECK_NEAR(product[0], 0.0, 4.0 * sqrt(2.0 / DRAWS));
    CHECK_NEAR(product[1], 0.0, 4.0 * sqrt(2.0 / DRAWS));
    CHECK_NEAR(tail[0], DRAWS * erfc(3.0 / sqrt(2.0)), 4.0 * sqrt(2700.0)); /* 2700 expected */
    CHECK_NEAR(tail[1], DRAWS * erfc(4.0 / sqrt(2.0)), 4.0 * sqrt(63.3));   /* 63.3 expected */
    double sum = 0.0;
    for (int k = 0; k < STEPS; k++) { /* Kolmogorov: above 2.0 / sqrt(n) once in 1500 */
        sum += below[k];
        CHECK_NEAR(sum / DRAWS, 0.5 * erfc(-(-4.0 + 0.1 * k) / sqrt(2.0)),
                   2.0 / sqrt((double)DRAWS));
    }
}

TEST(rng, "filling any length gives the start of a longer one") {
    float all[12], part[12];
    llm_rng rng = llm_rng_seed(9);
    llm_rng_normal_fill(&rng, all, 12);
    for (size_t n = 0; n <= 12; n++) {
        for (size_t i = 0; i < 12; i++) part[i] = -9.0f;
        rng = llm_rng_seed(9);
        llm_rng_normal_fill(&rng, part, n);
        CHECK(memcmp(part, all, n * sizeof(float)) == 0);
        for (size_t i = n; i < 12; i++) CHECK(part[i] == -9.0f);
    }
}

TEST(rng, "the largest and the smallest normal are finite") {
    llm_rng rng = llm_rng_seed(0);
    const uint32_t word[3][2] = {{0, 0}, {0, 0x80000000}, {0xffffffff, 0}};
    const float want[3] = {6.7637056f, -6.7637056f,
                           1.5258789e-5f}; /* sqrt(2 ln 2^33), sqrt(2^-32) */
    float z[3];
    for (size_t i = 0; i < 3; i++) {
        rng.used = 2;
        memcpy(rng.word + 2, word[i], sizeof word[i]);
        z[i] = llm_rng_normal(&rng);
    }
    CHECK_ALL_CLOSE(z, want, 3, 1e-6f);
}

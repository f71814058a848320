/* @feature_hash */
#include "../test.h"

#include "../../llm.h"

static const char *const feature_names[10] = {"",
                                              "a",
                                              "ab",
                                              "abc",
                                              "abcd",
                                              "hello",
                                              "Hello, world!",
                                              "The quick brown fox jumps over the lazy dog",
                                              "naive",
                                              "x=1"};

TEST(feature_hash, "MurmurHash3 equals published values and scikit-learn's, seeds 0 and 42") {
    CHECK(llm_feature_hash_murmur("", 0, 0) == 0u &&
          llm_feature_hash_murmur("", 0, 1) == 0x514E28B7u);
    CHECK(llm_feature_hash_murmur("", 0, 0xffffffffu) == 0x81F16F39u);
    CHECK(llm_feature_hash_murmur("\xff\xff\xff\xff", 4, 0) == 0x76293B50u);
    CHECK(llm_feature_hash_murmur("\x21\x43\x65\x87", 4, 0) == 0xF55B516Bu);
    CHECK(llm_feature_hash_murmur("\x21\x43\x65\x87", 4, 0x5082EDEEu) == 0x2362F9DEu);
    CHECK(llm_feature_hash_murmur("\x21\x43\x65", 3, 0) == 0x7E4A8634u);
    CHECK(llm_feature_hash_murmur("\x21\x43", 2, 0) == 0xA0F7B07Au);
    CHECK(llm_feature_hash_murmur("\x21", 1, 0) == 0x72661CF4u);
    CHECK(llm_feature_hash_murmur("\0\0\0\0", 4, 0) == 0x2362F9DEu);
    for (size_t k = 0; k < 10; k++) {
        const uint32_t h = llm_feature_hash_murmur(feature_names[k], strlen(feature_names[k]), 0);
        const uint32_t s = llm_feature_hash_murmur(feature_names[k], strlen(feature_names[k]), 42);
        const float got[4] = {(float)(h >> 16), (float)(h & 65535), (float)(s >> 16),
                              (float)(s & 65535)};
        CHECK_GOLDEN(got, 4, 0.0f, "murmur%zu/halves", k);
    }
}

TEST(feature_hash, "index and sign equal scikit-learn's FeatureHasher") {
    const size_t ns[3] = {7, 64, 1 << 20};
    for (size_t k = 0; k < 10; k++)
        for (size_t j = 0; j < 3; j++) {
            uint32_t index;
            float got[2];
            llm_feature_hash(&index, got + 1, feature_names[k], 2.5f, ns[j], 0);
            got[0] = (float)index;
            CHECK_GOLDEN(got, 2, 0.0f, "hash%zun%zu/pair", k, ns[j]);
        }
    uint32_t index;
    float value;
    CHECK_ASSERTS(llm_feature_hash(&index, &value, "a", 1.0f, 0, 0));
}

TEST(feature_hash,
     "inner products are unbiased, with the variance of the lemma; without signs not") {
    enum { NAMES = 40, N = 16, SEEDS = 500 };
    llm_rng rng = llm_rng_seed(1);
    float x[NAMES], y[NAMES];
    double exact = 0.0, mean = 0.0, square = 0.0, unsigned_mean = 0.0, variance = 0.0, xx = 0.0,
           yy = 0.0;
    for (size_t i = 0; i < NAMES; i++) {
        x[i] = llm_rng_uniform(&rng), y[i] = llm_rng_uniform(&rng);
        exact += (double)x[i] * (double)y[i];
        xx += (double)x[i] * (double)x[i], yy += (double)y[i] * (double)y[i];
    }
    for (uint32_t seed = 0; seed < SEEDS; seed++) {
        double hx[N] = {0.0}, hy[N] = {0.0}, ux[N] = {0.0}, uy[N] = {0.0}, inner = 0.0;
        for (size_t i = 0; i < NAMES; i++) {
            char name[16];
            uint32_t at;
            float sign;
            snprintf(name, sizeof name, "word%zu", i);
            llm_feature_hash(&at, &sign, name, 1.0f, N, seed);
            hx[at] += (double)(sign * x[i]), hy[at] += (double)(sign * y[i]);
            ux[at] += (double)x[i], uy[at] += (double)y[i];
        }
        for (size_t k = 0; k < N; k++) {
            inner += hx[k] * hy[k];
            unsigned_mean += ux[k] * uy[k] / SEEDS;
        }
        mean += inner / SEEDS, square += inner * inner / SEEDS;
    }
    /* lemma 2: (sum over i != j of x_i^2 y_j^2 + x_i y_i x_j y_j) / N */
    variance = xx * yy + exact * exact;
    for (size_t i = 0; i < NAMES; i++) variance -= 2.0 * pow((double)(x[i] * y[i]), 2.0);
    variance /= N;
    CHECK_NEAR(mean, exact, 3.0 * sqrt(variance / SEEDS));
    CHECK_NEAR(square - mean * mean, variance, 0.3 * variance);
    CHECK(unsigned_mean > exact + 20.0 * sqrt(variance / SEEDS)); /* all collisions add up */
}

TEST(feature_hash, "bytes without a zero behind them; a single bucket") {
    unsigned char *bytes = (unsigned char *)test_memory(3, 1);
    uint32_t index = 9;
    float value = 0.0f;
    memcpy(bytes, "abc", 3);
    CHECK(llm_feature_hash_murmur(bytes, 3, 0) == llm_feature_hash_murmur("abcd", 3, 0));
    CHECK(llm_feature_hash_murmur(bytes, 3, 0) == 0xb3dd93fau); /* as everywhere */
    llm_feature_hash(&index, &value, "word", 2.0f, 1, 0);
    CHECK(index == 0 && fabsf(value) == 2.0f);
}

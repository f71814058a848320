/* @yarn */
#include "../test.h"

#include "../../llm.h"
#include "../tiny_position.h"

/* Frequencies and factor against the golden ones: libraries take powers and quotients in float. */
static void yarn_equals(const char *name, const llm_yarn_config *c) {
    float *f = floats(c->rot / 2);
    llm_yarn_inv_freq(f, c);
    test_all(__FILE__, __LINE__, name, f, golden("%s/inv_freq", name), c->rot / 2, 1e-6, 0.0, 1.0);
    CHECK_NEAR(llm_yarn_attention_factor(c), golden("%s/scale", name)[0], 1e-7);
}

TEST(yarn, "frequencies and factors equal transformers in every mode and option") {
    llm_yarn_config c = llm_yarn_defaults(LLM_YARN_LINEAR, 10, 10000.0, 4.0, 2048.0);
    yarn_equals("linear", &c);
    c = llm_yarn_defaults(LLM_YARN_NTK, 10, 10000.0, 4.0, 2048.0);
    yarn_equals("ntk", &c);
    c = llm_yarn_defaults(LLM_YARN_DYNAMIC, 10, 10000.0, 2.0, 100.0);
    c.length = 350.0;
    yarn_equals("dynamic", &c);
    c.length = 50.0;
    yarn_equals("dynamic-short", &c);
    c = llm_yarn_defaults(LLM_YARN_YARN, 128, 10000.0, 16.0, 4096.0);
    yarn_equals("yarn", &c);
    c = llm_yarn_defaults(LLM_YARN_YARN, 16, 500.0, 4.0, 64.0);
    yarn_equals("yarn-small", &c);
    c.factor = 0.5;
    yarn_equals("yarn-shrink", &c);
    c = llm_yarn_defaults(LLM_YARN_YARN, 64, 150000.0, 32.0, 4096.0);
    c.truncate = false;
    yarn_equals("yarn-free", &c);
    c = llm_yarn_defaults(LLM_YARN_YARN, 64, 10000.0, 40.0, 4096.0);
    c.mscale = 1.0, c.mscale_all = 0.7;
    yarn_equals("yarn-deepseek", &c);
    c = llm_yarn_defaults(LLM_YARN_YARN, 32, 10000.0, 8.0, 1000.0);
    c.fast = 16.0, c.slow = 2.0;
    yarn_equals("yarn-turns", &c);
    c = llm_yarn_defaults(LLM_YARN_YARN, 16, 500.0, 3.0, 400.0);
    c.fast = c.slow = 5.0, c.truncate = false;
    yarn_equals("yarn-same", &c);
    c = llm_yarn_defaults(LLM_YARN_YARN, 16, 500.0, 3.0, 6.0);
    yarn_equals("yarn-short", &c);
    c = llm_yarn_defaults(LLM_YARN_YARN, 16, 10.0, 4.0, 640.0);
    yarn_equals("yarn-wide", &c);
    c.mscale = 1.0; /* one of two strengths is as none */
    CHECK_NEAR(llm_yarn_attention_factor(&c), 0.1 * log(4.0) + 1.0, 1e-12);
    c.mscale = 0.0, c.mscale_all = 1.0;
    CHECK_NEAR(llm_yarn_attention_factor(&c), 0.1 * log(4.0) + 1.0, 1e-12);
    c.mscale = 0.5; /* DeepSeek's quotient */
    CHECK_NEAR(llm_yarn_attention_factor(&c), (0.05 * log(4.0) + 1.0) / (0.1 * log(4.0) + 1.0),
               1e-12);
    c = llm_yarn_defaults(LLM_YARN_LLAMA3, 128, 500000.0, 8.0, 8192.0);
    yarn_equals("llama3", &c);
    c = llm_yarn_defaults(LLM_YARN_LLAMA3, 12, 1000.0, 4.0, 64.0);
    yarn_equals("llama3-small", &c);
}

TEST(yarn,
     "factor 1 is plain rotation, except dynamic beyond L; fast pairs stay, slow ones are f/s") {
    enum { D = 64 };
    float plain[D / 2], f[D / 2];
    llm_rope_inv_freq(plain, D, 10000.0f);
    for (int mode = LLM_YARN_NONE; mode <= LLM_YARN_LLAMA3; mode++) {
        llm_yarn_config c = llm_yarn_defaults((llm_yarn_mode)mode, D, 10000.0, 1.0, 2048.0);
        llm_yarn_inv_freq(f, &c);
        CHECK_ALL_CLOSE(f, plain, D / 2, 2e-7);
        CHECK(llm_yarn_attention_factor(&c) == 1.0);
        c.length = 4096.0; /* grows by 4096/2048 */
        llm_yarn_inv_freq(f, &c);
        CHECK_NEAR(f[D / 2 - 1] / plain[D / 2 - 1], mode == LLM_YARN_DYNAMIC ? 0.5 : 1.0, 1e-6);
        c.factor = 8.0, c.length = 2048.0;
        llm_yarn_inv_freq(f, &c);
        const double slowest = (double)f[D / 2 - 1] / (double)plain[D / 2 - 1];
        const bool divides = mode != LLM_YARN_NONE && mode != LLM_YARN_DYNAMIC;
        CHECK_NEAR(slowest, divides ? 0.125 : 1.0, 1e-6);
        CHECK_NEAR(f[0], mode == LLM_YARN_LINEAR ? 0.125 : 1.0, 1e-7);
        for (size_t i = 1; i < D / 2; i++) {
            CHECK(f[i] < f[i - 1]); /* still in order */
            const double turns = 2048.0 * (double)plain[i] / (2.0 * LLM_PI);
            const double ratio = (double)f[i] / (double)plain[i];
            if (mode == LLM_YARN_YARN || mode == LLM_YARN_LLAMA3) {
                const double fast = mode == LLM_YARN_YARN ? 45.0 : 4.0; /* the ends are rounded */
                if (turns > fast) CHECK_NEAR(ratio, 1.0, 1e-6);
                if (turns < (mode == LLM_YARN_YARN ? 0.7 : 1.0)) CHECK_NEAR(ratio, 0.125, 1e-6);
                CHECK(ratio > 0.1249 && ratio < 1.0001);
            }
        }
        CHECK_NEAR(llm_yarn_attention_factor(&c),
                   mode == LLM_YARN_YARN ? 0.1 * log(8.0) + 1.0 : 1.0, 1e-12);
    }
}

TEST(yarn, "the pair of a number of turns is where the frequency says; the table has the factor") {
    llm_yarn_config c = llm_yarn_defaults(LLM_YARN_YARN, 16, 500.0, 4.0, 64.0);
    for (size_t i = 0; i < 8; i++) {
        const double f = pow(500.0, -2.0 * (double)i / 16.0);
        CHECK_NEAR(llm_yarn_pair(64.0 * f / (2.0 * 3.14159265358979323846), &c), (double)i, 1e-12);
    }
    enum { N = 3 };
    float f[8], cosine[N * 8 + 1], sine[N * 8 + 1];
    const int pos[N] = {7, 0, 200}, count[N] = {0, 1, 2};
    llm_yarn_inv_freq(f, &c);
    for (int given = 0; given < 2; given++) {
        cosine[N * 8] = sine[N * 8] = 5.0f;
        llm_yarn_table(cosine, sine, given ? pos : NULL, f, N, &c);
        for (size_t n = 0; n < N; n++)
            for (size_t i = 0; i < 8; i++) {
                const double angle = (given ? pos[n] : count[n]) * (double)f[i];
                CHECK_NEAR(cosine[n * 8 + i], (0.1 * log(4.0) + 1.0) * cos(angle), 3e-7);
                CHECK_NEAR(sine[n * 8 + i], (0.1 * log(4.0) + 1.0) * sin(angle), 3e-7);
            }
        CHECK(cosine[N * 8] == 5.0f && sine[N * 8] == 5.0f);
    }
}

TEST(yarn, "what cannot be scaled is refused") {
    float f[4];
    llm_yarn_config c = llm_yarn_defaults(LLM_YARN_NTK, 2, 10000.0, 4.0, 100.0);
    CHECK_ASSERTS(llm_yarn_inv_freq(f, &c)); /* one pair */
    c.mode = LLM_YARN_DYNAMIC;
    CHECK_ASSERTS(llm_yarn_inv_freq(f, &c));
    c = llm_yarn_defaults(LLM_YARN_DYNAMIC, 4, 10000.0, 0.4, 100.0);
    c.length = 1000.0; /* (fine: 0.4 * 10 + 0.6) */
    llm_yarn_inv_freq(f, &c);
    CHECK(f[1] < 0.01f);
    c = llm_yarn_defaults(LLM_YARN_YARN, 8, 10.0, 4.0, 1.0);
    CHECK_ASSERTS(llm_yarn_inv_freq(f, &c)); /* nothing turns once in one token */
    c = llm_yarn_defaults(LLM_YARN_LINEAR, 4, 10000.0, 4.0, 1.0);
    llm_yarn_inv_freq(f, &c); /* a training on one token is none, but says nothing wrong */
    CHECK_NEAR(f[1], 0.0025, 1e-9);
    c = llm_yarn_defaults(LLM_YARN_LINEAR, 3, 10000.0, 4.0, 100.0);
    CHECK_ASSERTS(llm_yarn_inv_freq(f, &c));
    c = llm_yarn_defaults(LLM_YARN_LINEAR, 4, 1.0, 4.0, 100.0);
    CHECK_ASSERTS(llm_yarn_inv_freq(f, &c));
    c = llm_yarn_defaults(LLM_YARN_LINEAR, 4, 10.0, 0.0, 100.0);
    CHECK_ASSERTS(llm_yarn_inv_freq(f, &c));
    c = llm_yarn_defaults(LLM_YARN_LINEAR, 4, 10.0, 2.0, 0.0);
    CHECK_ASSERTS(llm_yarn_inv_freq(f, &c));
}

TEST(yarn, "a model trained on 32 tokens reads 128: scaled frequencies keep most of its loss") {
    double rise[3] = {0.0, 0.0, 0.0};
    for (uint64_t seed = 1; seed <= 4; seed++) {
        tiny_position m;
        tiny_position_train(&m, seed, TINY_POSITION_ROPE, 32, 200);
        const double near = tiny_position_loss(&m, seed, 128, 32);
        for (size_t k = 0; k < 3; k++) {
            const llm_yarn_mode modes[3] = {LLM_YARN_NONE, LLM_YARN_YARN, LLM_YARN_LINEAR};
            const llm_yarn_config c =
                llm_yarn_defaults(modes[k], TINY_POSITION_D, 100.0, 4.0, 32.0);
            llm_yarn_inv_freq(m.inv_freq, &c);
            m.factor = (float)llm_yarn_attention_factor(&c);
            rise[k] += (tiny_position_loss(&m, seed, 128, 128) - near) / 4.0;
        }
    }
    /* none 0.21 to 0.33, YaRN 0.09 to 0.14, linear 0.10 to 0.15 over 8 further sets of 4 seeds */
    CHECK(rise[0] - rise[1] > 0.05);
    CHECK(rise[0] - rise[2] > 0.03);
}

/* @warmup */
#include "../test.h"

#include "../../llm.h"

TEST(warmup, "linear ramps equal transformers' and optax's for steps 0 to 20") {
    const size_t sizes[4] = {0, 1, 7, 12};
    for (size_t s = 0; s < 4; s++) {
        float zero[21], quarter[21];
        for (size_t t = 0; t < 21; t++) {
            zero[t] = (float)llm_warmup_factor(LLM_WARMUP_LINEAR, t, sizes[s], 0.0);
            quarter[t] = (float)llm_warmup_factor(LLM_WARMUP_LINEAR, t, sizes[s], 0.25);
        }
        CHECK_GOLDEN(zero, 21, 1e-7f, "%zu/transformers", sizes[s]);
        if (sizes[s]) CHECK_GOLDEN(quarter, 21, 1e-7f, "%zu/optax", sizes[s]);
    }
}

TEST(warmup, "each ramp rises from start to 1, with its own middle") {
    const double middle[3] = {0.6, 0.6, sqrt(0.2)};
    for (int kind = LLM_WARMUP_LINEAR; kind <= LLM_WARMUP_EXPONENTIAL; kind++) {
        double before = -1.0;
        for (size_t t = 0; t <= 10; t++) {
            const double f = llm_warmup_factor(kind, t, 10, 0.2);
            CHECK(f > before);
            before = f;
        }
        CHECK(before == 1.0 && llm_warmup_factor(kind, 11, 10, 0.2) == 1.0);
        CHECK(llm_warmup_factor(kind, 0, 0, 0.2) == 1.0);
        CHECK_NEAR(llm_warmup_factor(kind, 0, 10, 0.2), 0.2, 1e-12);
        CHECK_NEAR(llm_warmup_factor(kind, 5, 10, 0.2), middle[kind], 1e-12);
    }
    CHECK_NEAR(llm_warmup_factor(LLM_WARMUP_COSINE, 1, 3, 0.0), 0.25, 1e-12);
    CHECK(llm_warmup_factor(LLM_WARMUP_LINEAR, 3, 10, 1.0) == 1.0);
    CHECK_ASSERTS(llm_warmup_factor(LLM_WARMUP_EXPONENTIAL, 1, 10, 0.0));
    CHECK_ASSERTS(llm_warmup_factor(LLM_WARMUP_LINEAR, 1, 10, -0.1));
    CHECK_ASSERTS(llm_warmup_factor(LLM_WARMUP_LINEAR, 1, 10, 1.1));
}

TEST(warmup, "RAdam's factor equals torch.optim.RAdam's steps, from the first divided one on") {
    const char *names[3] = {"0.9", "0.99", "0.999"};
    const double betas[3] = {0.9, 0.99, 0.999};
    for (size_t k = 0; k < 3; k++) {
        float factor[40];
        for (size_t t = 1; t <= 40; t++) {
            const double r = llm_warmup_radam(betas[k], t);
            factor[t - 1] = r > 0.0 ? (float)r : 1.0f; /* torch steps along m' = 1 there */
        }
        CHECK_GOLDEN(factor, 40, 1e-5f, "radam/%s/factor", names[k]);
        CHECK(llm_warmup_radam(betas[k], 4) == 0.0 && llm_warmup_radam(betas[k], 8) > 0.0);
        CHECK(llm_warmup_radam(betas[k], 100000) > 0.9999);
    }
    CHECK_ASSERTS(llm_warmup_radam(0.999, 0));
    CHECK_ASSERTS(llm_warmup_radam(0.5, 1));
    CHECK_ASSERTS(llm_warmup_radam(1.0, 1));
    CHECK(llm_warmup_adam_steps(0.999) == 2000 && llm_warmup_adam_steps(0.95) == 40);
    CHECK(llm_warmup_adam_steps(0.0) == 2 && llm_warmup_adam_steps(0.3) == 3); /* 2.86 */
    CHECK_ASSERTS(llm_warmup_adam_steps(1.0));
    CHECK_ASSERTS(llm_warmup_adam_steps(-0.5));
}

TEST(warmup, "under pure noise Adam's first steps are four times its later ones") {
    /* a step's RMS is lr at t = 1, and lr sqrt((1 - b1) / (1 + b1)) = 0.229 lr in the long run */
    enum { N = 4000 };
    llm_rng rng = llm_rng_seed(1);
    llm_adamw_config c = llm_adamw_defaults();
    c.lr = 1.0f, c.weight_decay = 0.0f;
    float *w = zeros(N), *m = zeros(N), *v = zeros(N), *g = floats(N), *before = zeros(N);
    double rms = 0.0;
    for (size_t t = 1; t <= 300; t++) {
        llm_rng_normal_fill(&rng, g, N);
        memcpy(before, w, N * sizeof(float));
        llm_adamw_step(w, m, v, g, N, &c, t);
        rms = 0.0;
        for (size_t i = 0; i < N; i++) rms += pow((double)w[i] - (double)before[i], 2.0) / N;
        rms = sqrt(rms);
        if (t == 1) CHECK_NEAR(rms, 1.0, 1e-5);
    }
    CHECK_NEAR(rms, sqrt(0.1 / 1.9), 0.012); /* 4 deviations of 4000 samples, and v's own noise */
}

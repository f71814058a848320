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

TEST(warmup, "after every restart the ramp begins again") {
    const size_t restart[2] = {10, 13};
    const double want[20] = {0.0, 0.25, 0.5, 0.75, 1.0,  1.0, 1.0,  1.0, 1.0, 1.0,
                             0.0, 0.25, 0.5, 0.0,  0.25, 0.5, 0.75, 1.0, 1.0, 1.0};
    for (size_t t = 0; t < 20; t++) {
        CHECK(llm_warmup_rewarm(LLM_WARMUP_LINEAR, t, restart, 2, 4, 0.0) == want[t]);
        CHECK(llm_warmup_rewarm(LLM_WARMUP_COSINE, t, NULL, 0, 7, 0.1) ==
              llm_warmup_factor(LLM_WARMUP_COSINE, t, 7, 0.1));
    }
    const size_t twice[2] = {4, 4};
    CHECK_ASSERTS(llm_warmup_rewarm(LLM_WARMUP_LINEAR, 5, twice, 2, 4, 0.0));
}

TEST(warmup, "a batch grows from first to last in whole units") {
    const size_t want[8] = {16, 16, 24, 32,
                            32, 40, 48, 48}; /* 16 + 32 t/6, rounded down to eights */
    for (size_t t = 0; t < 8; t++) CHECK(llm_warmup_batch(t, 6, 16, 48, 8) == want[t]);
    CHECK(llm_warmup_batch(3, 6, 16, 47, 1) == 31); /* in ones: 31.5 */
    CHECK(llm_warmup_batch(0, 0, 8, 24, 8) == 24 && llm_warmup_batch(5, 10, 7, 7, 7) == 7);
    CHECK_ASSERTS(llm_warmup_batch(0, 6, 16, 48, 0));
    CHECK_ASSERTS(llm_warmup_batch(0, 6, 48, 16, 8));
    CHECK_ASSERTS(llm_warmup_batch(0, 6, 12, 48, 8));
    CHECK_ASSERTS(llm_warmup_batch(0, 6, 16, 44, 8));
}

enum { DEPTH = 8, C = 16, H = 32, N = 64, BLOCK = 2 * H * C, P = DEPTH * BLOCK + C };

/* Of one training of the post-norm residual net x <- layernorm(x + W2 relu(W1 x)), 8 blocks and a
 * linear output, on targets +-1 drawn at random: the largest loss of its 200 steps of Adam, as a
 * multiple of the first. */
static double warmup_spike(uint64_t seed, float lr, size_t ramp) {
    llm_rng rng = llm_rng_seed(seed);
    float *w = floats(P), *dw = floats(P), *m = zeros(P), *v = zeros(P), target[N], y[N], dy[N];
    float *x = floats((DEPTH + 1) * N * C), *s = floats(DEPTH * N * C), *z = floats(DEPTH * N * H);
    float *h = floats(DEPTH * N * H), *mean = floats(DEPTH * N), *rstd = floats(DEPTH * N);
    float *dx = floats(N * C), *ds = floats(N * C), *dh = floats(N * H), *dz = floats(N * H);
    llm_rng_normal_fill(&rng, x, N * C);
    for (size_t n = 0; n < N; n++) target[n] = llm_rng_uniform(&rng) < 0.5f ? -1.0f : 1.0f;
    for (size_t l = 0; l < DEPTH; l++) {
        llm_xavier_init_normal(w + l * BLOCK, C, H, 1.0f, &rng);
        llm_xavier_init_normal(w + l * BLOCK + H * C, H, C, 1.0f, &rng);
    }
    llm_xavier_init_normal(w + DEPTH * BLOCK, C, 1, 1.0f, &rng);
    llm_adamw_config c = llm_adamw_defaults();
    c.weight_decay = 0.0f;
    double first = 0.0, most = 0.0;
    for (size_t t = 0; t < 200; t++) {
        for (size_t l = 0; l < DEPTH; l++) {
            const float *w1 = w + l * BLOCK, *xl = x + l * N * C;
            float *sl = s + l * N * C, *hl = h + l * N * H;
            llm_dense_act_forward(hl, z + l * N * H, xl, w1, NULL, N, C, H, LLM_ACTIVATION_RELU);
            llm_matmul_forward(sl, hl, w1 + H * C, NULL, N, H, C);
            llm_residual_forward(sl, xl, sl, N * C, 1.0f);
            llm_layernorm_forward(x + (l + 1) * N * C, mean + l * N, rstd + l * N, sl, NULL, NULL,
                                  N, C, 1e-5f);
        }
        llm_matmul_forward(y, x + DEPTH * N * C, w + DEPTH * BLOCK, NULL, N, C, 1);
        double loss = 0.0;
        for (size_t n = 0; n < N; n++) {
            loss += pow((double)y[n] - (double)target[n], 2.0) / N;
            dy[n] = 2.0f / N * (y[n] - target[n]);
        }
        if (t == 0) first = loss;
        most = fmax(most, loss / first);
        memset(dw, 0, P * sizeof(float)), memset(dx, 0, N * C * sizeof(float));
        llm_matmul_backward(dx, dw + DEPTH * BLOCK, NULL, dy, x + DEPTH * N * C, w + DEPTH * BLOCK,
                            N, C, 1);
        for (size_t l = DEPTH; l-- > 0;) {
            const float *w1 = w + l * BLOCK, *xl = x + l * N * C;
            float *d1 = dw + l * BLOCK;
            memset(ds, 0, N * C * sizeof(float)), memset(dh, 0, N * H * sizeof(float));
            memset(dz, 0, N * H * sizeof(float));
            llm_layernorm_backward(ds, NULL, NULL, dx, s + l * N * C, NULL, mean + l * N,
                                   rstd + l * N, N, C);
            llm_matmul_backward(dh, d1 + H * C, NULL, ds, h + l * N * H, w1 + H * C, N, H, C);
            llm_activation_backward(dz, dh, z + l * N * H, N * H, LLM_ACTIVATION_RELU);
            memcpy(dx, ds, N * C * sizeof(float));
            llm_matmul_backward(dx, d1, NULL, dz, xl, w1, N, C, H);
        }
        c.lr = lr * (float)llm_warmup_factor(LLM_WARMUP_LINEAR, t + 1, ramp, 0.0);
        llm_adamw_step(w, m, v, dw, P, &c, t + 1);
    }
    return most;
}

TEST(warmup,
     "a post-norm net at a high rate: with a warmup its loss does not blow up at the start") {
    /* of seeds 1 to 10, how many ever double their loss. Over 8 further sets of ten: 6 to 9
     * without, 0 or 1 with */
    size_t without = 0, with = 0;
    for (uint64_t seed = 1; seed <= 10; seed++) {
        without += warmup_spike(seed, 0.05f, 0) > 2.0;
        with += warmup_spike(seed, 0.05f, 100) > 2.0;
    }
    CHECK(without >= with + 3);
}

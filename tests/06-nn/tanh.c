/* @tanh */
#include "../test.h"

#include "../../llm.h"

enum { TH = 23 };

TEST(tanh, "the three forms and their gradients equal torch's") {
    const float *x = golden("in/x"), *dy = golden("in/dy");
    for (size_t k = 0; k < 3; k++) {
        const char *name = k == 0 ? "plain" : k == 1 ? "scaled" : "cap";
        float y[TH], dx[TH];
        for (size_t i = 0; i < TH; i++) y[i] = x[i], dx[i] = 1.0f;
        if (k == 0) llm_tanh_forward(y, y, TH), llm_tanh_backward(dx, dy, y, TH);
        if (k == 1) llm_tanh_scaled_forward(y, y, TH), llm_tanh_scaled_backward(dx, dy, y, TH);
        if (k == 2)
            llm_tanh_cap_forward(y, y, TH, 2.5f), llm_tanh_cap_backward(dx, dy, y, TH, 2.5f);
        CHECK_ALL_CLOSE(y, golden("%s/y", name), TH, 4e-7f);
        for (size_t i = 0; i < TH; i++) dx[i] -= 1.0f;
        CHECK_GOLDEN(dx, TH, 5e-7f, "%s/dx", name); /* 1 - y^2 cancels near 1 */
    }
    float y[1] = {1.0f};
    CHECK_ASSERTS(llm_tanh_cap_forward(y, y, 1, 0.0f));
}

TEST(tanh, "within 2.1 units in the last place of the double tanh, from 1e-40 to 20, and odd") {
    double worst = 0.0;
    for (double x = 1e-40; x < 20.0; x *= x < 1e-3 ? 1.01 : 1.00003) {
        const float f = (float)x, y = llm_tanh_value(f);
        const double t = tanh((double)f),
                     ulp = (double)nextafterf((float)t, 2.0f) - (double)(float)t;
        worst = fmax(worst, fabs((double)y - t) / ulp);
        CHECK(llm_tanh_value(-f) == -y && y <= 1.0f);
    }
    CHECK(worst < 2.1);
    CHECK(llm_tanh_value(INFINITY) == 1.0f && llm_tanh_value(-INFINITY) == -1.0f);
    CHECK(llm_tanh_value(0.0f) == 0.0f && signbit(llm_tanh_value(-0.0f)));
    CHECK(isnan(llm_tanh_value(NAN)));
}

TEST(tanh, "the quotient is within 4e-7 everywhere, odd, and constant from 7.9 on") {
    double worst = 0.0;
    for (int i = 0; i <= 300000; i++) {
        const float x = (float)i / 25000.0f, y = llm_tanh_fast(x);
        worst = fmax(worst, fabs((double)y - tanh((double)x)));
        CHECK(llm_tanh_fast(-x) == -y);
    }
    CHECK(worst < 4e-7);
    CHECK(llm_tanh_fast(INFINITY) == llm_tanh_fast(7.95f) && llm_tanh_fast(7.8f) < 1.0f);
    CHECK(llm_tanh_fast(-INFINITY) == -llm_tanh_fast(INFINITY) && isnan(llm_tanh_fast(NAN)));
    for (double x = 1e-30; x < 1e-2; x *= 1.1) /* small x keep their digits */
        CHECK_NEAR(llm_tanh_fast((float)x), tanh(x), 4e-7 * x);
}

TEST(tanh, "the scaled form has its fixed points at 1 and -1; a cap caps and has slope 1 at 0") {
    const float x[2] = {1.0f, -1.0f}, zero[1] = {0.0f}, one[1] = {1.0f};
    float y[2], big[3] = {1e6f, -1e6f, INFINITY}, slope[1] = {0.0f};
    llm_tanh_scaled_forward(y, x, 2);
    CHECK_NEAR(y[0], 1.0f, 1e-5);
    CHECK_NEAR(y[1], -1.0f, 1e-5);
    llm_tanh_cap_forward(big, big, 3, 30.0f);
    CHECK(big[0] == 30.0f && big[1] == -30.0f && big[2] == 30.0f);
    llm_tanh_cap_backward(slope, one, zero, 1, 30.0f);
    CHECK(slope[0] == 1.0f);
    llm_tanh_cap_forward(y, x, 1, 1000.0f);
    CHECK_NEAR(y[0], 1.0f, 1e-6);
}

/* Epochs, up to `most`, until a net with one hidden layer of 8 reaches a loss of 0.01 on sin,
 * targets around 0. */
static size_t th_epochs(int act, uint64_t seed, size_t most) {
    const size_t size[3] = {1, 8, 1};
    const llm_mlp m = {size, 2, act, LLM_OUTPUT_LAYER_MSE};
    float x[32], t[32], w[25], readout[8];
    unsigned char *memory = (unsigned char *)test_memory(1 << 14, 1);
    llm_arena arena = {memory, 1 << 14, 0, 1 << 14};
    llm_rng rng = llm_rng_seed(seed);
    for (size_t i = 0; i < 32; i++) {
        x[i] = 4.0f * llm_rng_uniform(&rng) - 2.0f;
        t[i] = sinf(1.5f * x[i]);
    }
    llm_mlp_init(w, &m, &rng); /* the same weights for both */
    llm_xavier_init_uniform(readout, 8, 1, 1.0f, &rng);
    memcpy(w + 16, readout, sizeof readout);
    llm_mlp_train_config config = llm_mlp_train_defaults();
    config.lr = 0.05f;
    config.momentum = 0.0f;
    config.epochs = 20;
    for (size_t epoch = 20; epoch <= most; epoch += 20)
        if (llm_mlp_train(w, &m, x, NULL, t, 32, &config, &arena) < 0.01) return epoch;
    return most + 1;
}

TEST(tanh, "on targets around 0 a net learns faster with tanh than with the sigmoid") {
    size_t wins =
        0; /* the sigmoid is not there yet when tanh is; 10 in 8 further sets of 10 seeds */
    for (uint64_t seed = 1; seed <= 10; seed++) {
        const size_t epochs = th_epochs(LLM_ACTIVATION_TANH, seed, 4000);
        wins += epochs <= 4000 && th_epochs(LLM_ACTIVATION_SIGMOID, seed, epochs) > epochs;
    }
    CHECK(wins >= 8);
}

TEST(tanh, "one number alone; the joint of the two forms; caps below 1") {
    const float x[1] = {0.55f};
    float y[1] = {NAN};
    llm_tanh_forward(y, x, 1);
    CHECK_NEAR(y[0], tanh((double)x[0]), 1e-7);
    llm_tanh_cap_forward(y, x, 1, 0.5f);
    CHECK_NEAR(y[0], 0.5 * tanh((double)x[0] / 0.5), 1e-7);
}

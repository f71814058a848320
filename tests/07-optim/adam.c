/* @adam */
#include "../test.h"

#include "../../llm.h"

enum { AD_STEPS = 50, AD_ADAM = 0, AD_AMS, AD_MAX, AD_NESTEROV, AD_RECTIFIED };
static bool ad_kept(size_t t) { return t <= 3 || t == 6 || t == 10 || t == 25 || t == 50; }

static void ad_case(const char *name, int kind, float momentum_decay) {
    const size_t n = (size_t)golden("%s/n", name)[0];
    const float *f = golden("%s/config", name), *g = golden("%zu/g", n);
    llm_adam_config c = llm_adam_defaults();
    c.lr = f[0], c.beta1 = f[1], c.beta2 = f[2], c.eps = f[3], c.weight_decay = f[4];
    c.maximize = f[5] != 0.0f, c.momentum_decay = momentum_decay;
    float *w = floats(n), *m = zeros(n), *v = zeros(n), *most = zeros(n), *path = floats(7 * n);
    double product = 1.0;
    memcpy(w, golden("%zu/w0", n), n * sizeof(float));
    for (size_t t = 1, at = 0; t <= AD_STEPS; t++, g += n) {
        if (kind <= AD_AMS) llm_adam_step(w, m, v, kind == AD_AMS ? most : NULL, g, n, &c, t);
        if (kind == AD_MAX) llm_adam_max_step(w, m, v, g, n, &c, t);
        if (kind == AD_NESTEROV) llm_adam_nesterov_step(w, m, v, g, n, &c, t, &product);
        if (kind == AD_RECTIFIED) llm_adam_rectified_step(w, m, v, g, n, &c, t);
        if (ad_kept(t)) memcpy(path + at++ * n, w, n * sizeof(float));
    }
    CHECK_GOLDEN(path, 7 * n, 5e-6f, "%s/path", name);
}

TEST(adam, "50 steps equal torch.optim.Adam, with L2, amsgrad and maximize") {
    ad_case("adam", AD_ADAM, 0.0f);
    ad_case("adam-options", AD_ADAM, 0.0f);
    ad_case("ams", AD_AMS, 0.0f);
    ad_case("ams-options", AD_AMS, 0.0f);
}

TEST(adam, "50 steps equal torch.optim.Adamax, NAdam and RAdam") {
    ad_case("max", AD_MAX, 0.0f);
    ad_case("max-options", AD_MAX, 0.0f);
    ad_case("nesterov", AD_NESTEROV, 0.004f);
    ad_case("nesterov-options", AD_NESTEROV, 0.02f);
    ad_case("rectified", AD_RECTIFIED, 0.0f);
    ad_case("rectified-options", AD_RECTIFIED, 0.0f);
}

TEST(adam, "optax.adam, with and without eps_root") {
    for (int root = 0; root < 2; root++) {
        llm_adam_config c = llm_adam_defaults();
        float w[5], m[5] = {0.0f}, v[5] = {0.0f};
        c.lr = 0.01f, c.beta2 = 0.99f, c.eps = 1e-6f, c.eps_root = root ? 1e-3f : 0.0f;
        memcpy(w, golden("5/w0"), sizeof w);
        for (size_t t = 1; t <= AD_STEPS; t++)
            llm_adam_step(w, m, v, NULL, golden("5/g") + (t - 1) * 5, 5, &c, t);
        CHECK_GOLDEN(w, 5, 5e-6f, root ? "optax-root/w" : "optax/w");
    }
}

TEST(adam, "the defaults are torch's; without decay it is AdamW; t counts from 1") {
    llm_adam_config c = llm_adam_defaults();
    llm_adamw_config a = llm_adamw_defaults();
    CHECK(c.lr == 1e-3f && c.beta1 == 0.9f && c.beta2 == 0.999f && c.eps == 1e-8f);
    CHECK(c.weight_decay == 0.0f && c.eps_root == 0.0f && c.momentum_decay == 4e-3f && !c.maximize);
    c.lr = a.lr = 0.5f, a.weight_decay = 0.0f;
    float w[3], x[3], m[3] = {0.0f}, v[3] = {0.0f}, xm[3] = {0.0f}, xv[3] = {0.0f};
    memcpy(w, golden("3/w0"), sizeof w), memcpy(x, w, sizeof x);
    for (size_t t = 1; t <= AD_STEPS; t++) {
        llm_adam_step(w, m, v, NULL, golden("3/g") + 3 * (t - 1), 3, &c, t);
        llm_adamw_step(x, xm, xv, golden("3/g") + 3 * (t - 1), 3, &a, t);
    }
    CHECK_ALL_NEAR(w, x, 3, 0.0f);
    double product = 1.0;
    CHECK_ASSERTS(llm_adam_step(w, m, v, NULL, w, 3, &c, 0));
    CHECK_ASSERTS(llm_adam_max_step(w, m, v, w, 3, &c, 0));
    CHECK_ASSERTS(llm_adam_nesterov_step(w, m, v, w, 3, &c, 0, &product));
    CHECK_ASSERTS(llm_adam_rectified_step(w, m, v, w, 3, &c, 0));
    CHECK_ASSERTS(llm_adam_trust(0.999, 0));
    CHECK_ASSERTS(llm_adam_trust(0.6, 1));
    CHECK_ASSERTS(llm_adam_trust(1.0, 1));
}

TEST(adam, "the first step is lr sign(g); a gradient's scale does not matter when eps is 0") {
    const float scale[3] = {1.0f, 1024.0f, 0.0078125f};
    float w[3], m[3], v[3], path[3][AD_STEPS];
    for (size_t k = 0; k < 3; k++) {
        llm_adam_config c = llm_adam_defaults();
        llm_rng rng = llm_rng_seed(1);
        c.eps = 0.0f;
        w[k] = m[k] = v[k] = 0.0f;
        for (size_t t = 1; t <= AD_STEPS; t++) {
            const float z = llm_rng_normal(&rng), g[1] = {scale[k] * z};
            llm_adam_step(w + k, m + k, v + k, NULL, g, 1, &c, t);
            path[k][t - 1] = w[k];
            if (t == 1) CHECK_NEAR(w[k], -copysignf(1e-3f, z), 1e-8);
        }
        CHECK_ALL_NEAR(path[k], path[0], AD_STEPS, 0.0f); /* powers of two: bit for bit */
    }
    /* without the corrections the first step would be (1 - b1)/sqrt(1 - b2) = 3.16 lr: RMSProp's
       start, times the momentum's */
    float x[1] = {0.0f}, s[1] = {0.0f};
    const float g[1] = {5.0f};
    llm_rmsprop_config r = llm_rmsprop_defaults();
    r.lr = 1e-3f * 0.1f, r.alpha = 0.999f;
    llm_rmsprop_step(x, s, NULL, NULL, g, 1, &r);
    CHECK_NEAR(x[0] / -1e-3f, 0.1 / sqrt(0.001), 1e-3);
}

TEST(adam, "Reddi's problem: gradients C, -1, -1: Adam walks to the wrong end, AMSGrad does not") {
    /* f = C w at every third step, -w at the others, w in [-1, 1]: with C = 3 the best is -1 */
    for (int ams = 0; ams < 2; ams++) {
        llm_adam_config c = llm_adam_defaults();
        float w[1] = {0.0f}, m[1] = {0.0f}, v[1] = {0.0f}, most[1] = {0.0f};
        c.beta1 = 0.0f, c.beta2 = 1.0f / 10.0f; /* 1/(1 + C^2) */
        for (size_t t = 1; t <= 200000; t++) {
            const float g[1] = {t % 3 == 1 ? 3.0f : -1.0f};
            c.lr = 0.5f / sqrtf((float)t);
            llm_adam_step(w, m, v, ams ? most : NULL, g, 1, &c, t);
            w[0] = fminf(fmaxf(w[0], -1.0f), 1.0f);
        }
        CHECK(ams ? w[0] < -0.99f : w[0] > 0.99f);
    }
}

TEST(adam, "RAdam begins undivided: without trust the step is lr m'") {
    llm_adam_config c = llm_adam_defaults();
    float w[2] = {0.0f, 0.0f}, m[2] = {0.0f, 0.0f}, v[2] = {0.0f, 0.0f};
    const float g[2] = {100.0f, 0.01f};
    for (size_t t = 1; t <= 5; t++) { /* b2 = 0.999: from step 6 on */
        CHECK(llm_adam_trust(0.999, t) == 0.0);
        llm_adam_rectified_step(w, m, v, g, 2, &c, t);
        CHECK_NEAR(w[0], -0.1 * (double)t, 1e-5);
        CHECK_NEAR(w[1], -1e-5 * (double)t, 1e-8);
    }
    CHECK(llm_adam_trust(0.999, 6) > 0.0 && llm_adam_trust(0.999, 20000) > 0.999);
    const float before = w[0];
    llm_adam_rectified_step(w, m, v, g, 2, &c, 6);
    CHECK_NEAR(before - w[0], 1e-3 * llm_adam_trust(0.999, 6), 1e-6);
}

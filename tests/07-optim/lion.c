/* @lion */
#include "../test.h"

#include "../../llm.h"

static llm_lion_config li_config(const float *f) {
    llm_lion_config c = llm_lion_defaults();
    c.lr = f[0], c.beta1 = f[1], c.beta2 = f[2], c.weight_decay = f[3];
    return c;
}

TEST(lion, "50 steps equal optax.lion, gradients of 0 included; Signum and the cautious mask") {
    const size_t sizes[3] = {1, 3, 7};
    for (size_t k = 0; k < 3; k++) {
        const size_t n = sizes[k];
        llm_lion_config c = li_config(golden("%zu/config", n));
        const float *g = golden("%zu/g", n);
        float *path = floats(6 * n);
        for (int kind = 0; kind < 3; kind++) {
            float w[7], m[7] = {0.0f};
            memcpy(w, golden("%zu/w0", n), n * sizeof(float));
            c.cautious = kind == 1;
            for (size_t t = 1, at = 0; t <= 50; t++) {
                if (kind == 2)
                    llm_lion_signum(w, m, g + (t - 1) * n, n, c.lr, c.beta1, c.weight_decay);
                else
                    llm_lion_step(w, m, g + (t - 1) * n, n, &c);
                if (kind == 0 && (t <= 3 || t == 10 || t == 25 || t == 50))
                    memcpy(path + at++ * n, w, n * sizeof(float));
            }
            if (kind == 0) CHECK_GOLDEN(path, 6 * n, 2e-6f, "%zu/path", n);
            if (kind == 1) CHECK_GOLDEN(w, n, 5e-6f, "%zu/cautious", n);
            if (kind == 2) CHECK_GOLDEN(w, n, 2e-6f, "%zu/signum", n);
        }
    }
}

TEST(lion, "every step has length lr, whatever the scale of the gradient") {
    enum { n = 5 };
    llm_lion_config c = llm_lion_defaults();
    CHECK(c.lr == 1e-4f && c.beta1 == 0.9f && c.beta2 == 0.99f && c.weight_decay == 0.0f);
    CHECK(!c.cautious);
    c.lr = 0.0078125f; /* a power of two: sums are exact */
    float w[n] = {0.0f}, m[n] = {0.0f}, x[n] = {0.0f}, xm[n] = {0.0f};
    llm_rng rng = llm_rng_seed(1);
    for (size_t t = 0; t < 100; t++) {
        float g[n], big[n], before[n];
        llm_rng_normal_fill(&rng, g, n);
        for (size_t i = 0; i < n; i++) big[i] = 4096.0f * g[i];
        memcpy(before, w, sizeof w);
        llm_lion_step(w, m, g, n, &c);
        llm_lion_step(x, xm, big, n, &c);
        for (size_t i = 0; i < n; i++) CHECK(fabsf(w[i] - before[i]) == c.lr);
        CHECK_ALL_NEAR(x, w, n, 0.0f);
    }
    CHECK(llm_lion_sign(0.0f) == 0.0f && llm_lion_sign(NAN) == 0.0f);
    CHECK(llm_lion_sign(1e-30f) == 1.0f && llm_lion_sign(-INFINITY) == -1.0f);
}

TEST(lion, "with decay the weights stay in the box 1/wd, though the loss wants them outside") {
    llm_lion_config c = llm_lion_defaults();
    c.lr = 0.01f, c.weight_decay = 2.0f;
    float w[3] = {0.3f, -0.2f, 0.0f}, m[3] = {0.0f};
    for (size_t t = 0; t < 3000; t++) { /* minima at 3, -5 and 0.2 */
        const float g[3] = {w[0] - 3.0f, w[1] + 5.0f, w[2] - 0.2f};
        llm_lion_step(w, m, g, 3, &c);
        CHECK(fabsf(w[0]) <= 0.5f && fabsf(w[1]) <= 0.5f);
    }
    CHECK_NEAR(w[0], 0.5, 1e-3);
    CHECK_NEAR(w[1], -0.5, 1e-3);
    CHECK_NEAR(w[2], 0.2,
               0.05); /* inside the box decay does not pull: u hovers between its signs */
}

TEST(lion, "on |x| it hovers at lr with beta 0, and the floor follows the rate") {
    for (size_t k = 0; k < 2; k++) {
        llm_lion_config c = llm_lion_defaults();
        c.lr = k ? 0.005f : 0.02f, c.beta1 = c.beta2 = 0.0f;
        float w[1] = {1.003f}, m[1] = {0.0f}, most = 0.0f;
        for (size_t t = 0; t < 1000; t++) {
            const float g[1] = {llm_lion_sign(w[0])};
            llm_lion_step(w, m, g, 1, &c);
            if (t >= 500) most = fmaxf(most, fabsf(w[0]));
        }
        CHECK(most <= c.lr && most >= 0.5f * c.lr);
    }
}

TEST(lion, "settings from AdamW's keep the product of rate and decay") {
    const llm_lion_config c = llm_lion_from_adamw(3e-4, 0.1, 5.0);
    CHECK_NEAR(c.lr, 6e-5, 1e-11);
    CHECK_NEAR(c.weight_decay, 0.5, 1e-7);
    CHECK(c.beta1 == 0.9f && c.beta2 == 0.99f);
    CHECK_ASSERTS(llm_lion_from_adamw(1.0, 1.0, 0.0));
    const llm_lion_config same = llm_lion_from_adamw(0.25, 0.5, 1.0);
    CHECK(same.lr == 0.25f && same.weight_decay == 0.5f);
}

TEST(lion, "by hand: a cautious step leaves a gradient of 0 out; Signum asks the momentum") {
    llm_lion_config c = llm_lion_defaults();
    float w[2] = {5.0f, 5.0f}, m[2] = {1.0f, 1.0f}, x[1] = {5.0f}, xm[1] = {1.0f};
    const float g[2] = {0.0f, 1.0f}, against[1] = {-0.75f};
    c.lr = 0.25f, c.cautious = true;
    llm_lion_step(w, m, g, 2, &c); /* one of two agrees: the factor is 2 / (1 + 1) */
    CHECK(w[0] == 5.0f && w[1] == 4.75f);
    llm_lion_signum(x, xm, against, 1, 0.25f, 0.5f, 0.0f);
    CHECK(xm[0] == 0.125f && x[0] == 4.75f);
}

/* @weight_decay */
#include "../test.h"

#include "../../llm.h"

TEST(weight_decay, "for SGD decoupled decay is L2; for Adam it is not") {
    enum { n = 6 };
    const double lr = 0.05, wd = 0.4;
    float w[2][n], adam[2][n], state[4 * n] = {0.0f};
    double apart = 0.0, size = 0.0;
    llm_rng rng = llm_rng_seed(1);
    llm_rng_normal_fill(&rng, w[0], n);
    memcpy(w[1], w[0], sizeof w[0]), memcpy(adam[0], w[0], sizeof w[0]);
    memcpy(adam[1], w[0], sizeof w[0]);
    llm_adam_config c = llm_adam_defaults();
    c.lr = (float)lr;
    for (size_t t = 1; t <= 60; t++) {
        float g[n], with[n];
        llm_rng_normal_fill(&rng, g, n);
        for (size_t i = 0; i < n; i++) g[i] *= powf(3.0f, (float)i - 2.0f);
        memcpy(with, g, sizeof g);
        llm_weight_decay_l2(with, w[0], n, (float)wd);
        llm_gradient_descent_step(w[0], with, n, (float)lr);
        llm_weight_decay_apply(w[1], n, lr * wd);
        llm_gradient_descent_step(w[1], g, n, (float)lr);
        CHECK_ALL_NEAR(w[1], w[0], n, 5e-6f);
        memcpy(with, g, sizeof g);
        llm_weight_decay_l2(with, adam[0], n, (float)wd);
        llm_adam_step(adam[0], state, state + n, NULL, with, n, &c, t);
        llm_weight_decay_apply(adam[1], n, lr * wd);
        llm_adam_step(adam[1], state + 2 * n, state + 3 * n, NULL, g, n, &c, t);
    }
    for (size_t i = 0; i < n; i++) {
        apart += pow((double)(adam[0][i] - adam[1][i]), 2.0);
        size += pow((double)adam[1][i], 2.0);
    }
    CHECK(sqrt(apart / size) > 0.05);
}

TEST(weight_decay, "half is forgotten after the half-life; decay to the start ends there") {
    const llm_weight_decay_balance b = llm_weight_decay_sgd(0.1, 0.2, 1.0);
    CHECK_NEAR(b.steps, 50.0, 1e-12);
    CHECK_NEAR(b.half_life, log(2.0) / 0.02, 0.4); /* ln 2 / (lr wd), nearly */
    float w[2] = {4.0f, -2.0f}, x[2] = {4.0f, -2.0f};
    const float w0[2] = {1.0f, 0.5f};
    size_t t = 0;
    for (; w[0] > 2.0f; t++) {
        llm_weight_decay_apply(w, 2, 0.02);
        llm_weight_decay_toward(x, w0, 2, 0.02f);
        CHECK_NEAR(x[0] - 1.0f, 3.0 * pow(0.98, (double)(t + 1)), 1e-5);
        CHECK_NEAR(x[1] - 0.5f, -2.5 * pow(0.98, (double)(t + 1)), 1e-5);
    }
    CHECK(t == (size_t)ceil(b.half_life) && w[1] == -0.5f * w[0]);
    CHECK_ASSERTS(llm_weight_decay_sgd(0.0, 0.1, 1.0));
    CHECK_ASSERTS(llm_weight_decay_sgd(0.1, 0.0, 1.0));
}

TEST(weight_decay,
     "cautious: only where weight and update have one sign; masks by name and shape") {
    float w[6] = {1.0f, 1.0f, -1.0f, -1.0f, 2.0f, 0.0f};
    const float u[6] = {3.0f, -3.0f, 3.0f, -3.0f, 0.0f, 1.0f};
    const float want[6] = {0.75f, 1.0f, -1.0f, -0.75f, 2.0f, 0.0f};
    llm_weight_decay_cautious(w, u, 6, 0.25f);
    CHECK_ALL_NEAR(w, want, 6, 0.0f);
    float small[6] = {2.0f, -2.0f, -1.0f, 0.5f, -1.0f, 2.0f}; /* the bound is 0, for both */
    const float by[6] = {0.5f, -0.5f, 0.5f, -1.0f, 0.0f, 0.0f};
    const float left[6] = {1.5f, -1.5f, -1.0f, 0.5f, -1.0f, 2.0f};
    llm_weight_decay_cautious(small, by, 6, 0.25f);
    CHECK_ALL_NEAR(small, left, 6, 0.0f);

    const char *const skip[2] = {"wte", "embed"};
    CHECK(llm_weight_decay_wanted("h.0.attn.c_attn.weight", 2, skip, 2));
    CHECK(!llm_weight_decay_wanted("h.0.attn.c_attn.bias", 1, skip, 2));
    CHECK(!llm_weight_decay_wanted("transformer.wte.weight", 2, skip, 2));
    CHECK(!llm_weight_decay_wanted("model.embed_tokens.weight", 2, skip, 2));
    CHECK(llm_weight_decay_wanted("model.embed_tokens.weight", 2, skip, 1));
    CHECK(llm_weight_decay_wanted("conv", 4, NULL, 0) && !llm_weight_decay_wanted("x", 0, NULL, 0));
}

/* Weights before a norm: the gradient is noise, orthogonal to w, and of length unit / |w|. */
static llm_weight_decay_balance wd_measure(bool adam, double lr, double wd, uint64_t seed) {
    enum { n = 64, T = 6000 };
    llm_rng rng = llm_rng_seed(seed);
    llm_weight_decay_balance b = {0.0, 0.0, 0.0, 0.0};
    float w[n], g[n], m[n] = {0.0f}, v[n] = {0.0f}, before[n];
    llm_adamw_config c = llm_adamw_defaults();
    c.lr = (float)lr, c.weight_decay = (float)wd, c.beta2 = 0.99f;
    llm_rng_normal_fill(&rng, w, n);
    for (size_t t = 1; t <= T; t++) {
        llm_rng_normal_fill(&rng, g, n);
        const double size = sqrt(dot(w, w, n)), along = dot(g, w, n) / size;
        for (size_t i = 0; i < n; i++)
            g[i] = (float)(((double)g[i] - along * (double)w[i] / size) / size);
        memcpy(before, w, sizeof w);
        if (adam) {
            llm_adamw_step(w, m, v, g, n, &c, t);
        } else {
            llm_weight_decay_apply(w, n, lr * wd);
            llm_gradient_descent_step(w, g, n, (float)lr);
        }
        if (t <= T / 2) continue;
        const double now = sqrt(dot(w, w, n)), cosine = dot(w, before, n) / now / size;
        b.norm += now / (T / 2);
        b.angle += pow(acos(fmin(cosine, 1.0)), 2.0) / (T / 2);
    }
    b.angle = sqrt(b.angle);
    return b;
}

TEST(weight_decay, "before a norm the length and the turn per step are the predicted ones") {
    for (uint64_t seed = 1; seed <= 3; seed++)
        for (size_t k = 0; k < 4; k++) {
            const double lr = k % 2 ? 0.01 : 0.03, wd = k % 2 ? 1.0 : 0.1;
            const bool adam = k > 1;
            const llm_weight_decay_balance got = wd_measure(adam, lr, wd, seed),
                                           want = adam ? llm_weight_decay_adamw(lr, wd, 0.9, 64)
                                                       : llm_weight_decay_sgd(lr, wd, sqrt(63.0));
            CHECK_NEAR(got.norm / want.norm, 1.0, 0.1);    /* 0.95 to 1.00 over 10 seeds */
            CHECK_NEAR(got.angle / want.angle, 1.0, 0.02); /* 1.00 */
        }
}

TEST(weight_decay, "decayed descent ends at ridge regression, if the intercept is left alone") {
    enum { n = 30, d = 3 };
    const float *X = golden("ridge/X"), *y = golden("ridge/y");
    for (int all = 0; all < 2; all++) {
        float w[d + 1] = {0.0f};
        for (size_t t = 0; t < 2000; t++) {
            float g[d + 1] = {0.0f};
            for (size_t i = 0; i < n; i++) {
                float e = w[d] - y[i];
                for (size_t j = 0; j < d; j++) e += w[j] * X[i * d + j];
                for (size_t j = 0; j < d; j++) g[j] += e * X[i * d + j] / n;
                g[d] += e / n;
            }
            llm_weight_decay_apply(w, d + (size_t)all, 0.05 * 0.3);
            llm_gradient_descent_step(w, g, d + 1, 0.05f);
        }
        if (all) {
            CHECK(fabsf(w[d] - golden("ridge/b")[0]) > 0.3f);
        } else {
            /* decayed before the step by 1 - lr wd, w rests where (g + wd w) = 0 */
            CHECK_GOLDEN(w, d, 1e-4f, "ridge/w");
            CHECK_NEAR(w[d], golden("ridge/b")[0], 1e-4);
        }
    }
}

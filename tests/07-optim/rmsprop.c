/* @rmsprop */
#include "../test.h"

#include "../../llm.h"

enum { RP_STEPS = 50 };
static bool rp_kept(size_t t) { /* the steps whose weights stand in the golden file */
    return t <= 3 || t == 10 || t == 25 || t == 50;
}

TEST(rmsprop, "50 steps equal torch.optim.RMSprop: centred, momentum, L2, maximize") {
    const char *names[5] = {"plain", "centered", "momentum", "all", "decay"};
    for (size_t k = 0; k < 5; k++) {
        const size_t n = (size_t)golden("%s/n", names[k])[0];
        const float *f = golden("%s/config", names[k]), *g = golden("%zu/g", n);
        llm_rmsprop_config c = llm_rmsprop_defaults();
        CHECK(c.lr == 1e-2f && c.alpha == 0.99f && c.eps == 1e-8f && !c.eps_inside && !c.maximize);
        CHECK(c.momentum == 0.0f && c.weight_decay == 0.0f && !c.centered);
        c.lr = f[0], c.alpha = f[1], c.eps = f[2], c.momentum = f[3], c.weight_decay = f[4];
        c.centered = f[5] != 0.0f, c.maximize = f[6] != 0.0f;
        float *w = floats(n), *s = zeros(n), *m = zeros(n), *v = zeros(n), *path = floats(6 * n);
        memcpy(w, golden("%zu/w0", n), n * sizeof(float));
        for (size_t t = 1, at = 0; t <= RP_STEPS; t++) {
            llm_rmsprop_step(w, s, c.centered ? m : NULL, c.momentum != 0.0f ? v : NULL,
                             g + (t - 1) * n, n, &c);
            if (rp_kept(t)) memcpy(path + at++ * n, w, n * sizeof(float));
        }
        CHECK_GOLDEN(path, 6 * n, 5e-6f, "%s/path", names[k]);
    }
}

TEST(rmsprop, "eps under the root equals optax.rmsprop") {
    for (int centered = 0; centered < 2; centered++) {
        llm_rmsprop_config c = llm_rmsprop_defaults();
        c.alpha = 0.9f, c.eps = 1e-3f, c.eps_inside = true, c.centered = centered != 0;
        float w[5], s[5] = {0.0f}, m[5] = {0.0f};
        memcpy(w, golden("5/w0"), sizeof w);
        for (size_t t = 0; t < RP_STEPS; t++)
            llm_rmsprop_step(w, s, m, NULL, golden("5/g") + 5 * t, 5, &c);
        CHECK_GOLDEN(w, 5, 5e-6f, "inside%d/w", centered);
    }
}

TEST(rmsprop, "AdaDelta and Rprop equal torch.optim's") {
    for (size_t k = 0; k < 4; k++) {
        const char *names[4] = {"delta", "delta-decay", "rprop", "rprop-bounds"};
        const size_t n = (size_t)golden("%s/n", names[k])[0];
        const float *f = golden("%s/config", names[k]), *g = golden("%zu/g", n);
        float *w = floats(n), *s = zeros(n), *u = zeros(n), *path = floats(6 * n);
        memcpy(w, golden("%zu/w0", n), n * sizeof(float));
        for (size_t i = 0; i < n && k > 1; i++) s[i] = f[0];
        for (size_t t = 1, at = 0; t <= RP_STEPS; t++) {
            const llm_rmsprop_rprop_config c = {f[2], f[1], f[3], k > 1 ? f[4] : 0.0f, false};
            if (k < 2)
                llm_rmsprop_adadelta(w, s, u, g + (t - 1) * n, n, f[0], f[1], f[2], f[3]);
            else
                llm_rmsprop_rprop(w, s, u, g + (t - 1) * n, n, &c);
            if (rp_kept(t)) memcpy(path + at++ * n, w, n * sizeof(float));
        }
        CHECK_GOLDEN(path, 6 * n, 5e-6f, "%s/path", names[k]);
    }
}

TEST(rmsprop, "Rprop with backtracking takes the step back; zero gradients rest") {
    const llm_rmsprop_rprop_config c = {1.2f, 0.5f, 1e-6f, 50.0f, true};
    float w[2] = {0.0f, 5.0f}, size[2] = {1.0f, 1.0f}, before[2] = {0.0f, 0.0f};
    const float first[2] = {-1.0f, 0.0f}, second[2] = {3.0f, 0.0f}, third[2] = {-2.0f, 0.0f};
    llm_rmsprop_rprop(w, size, before, first, 2, &c);
    CHECK(w[0] == 1.0f && size[0] == 1.0f);
    llm_rmsprop_rprop(w, size, before, first, 2, &c);
    CHECK_NEAR(w[0], 2.2, 1e-6);
    llm_rmsprop_rprop(w, size, before, second, 2, &c); /* back to 1, half the step, forgotten */
    CHECK_NEAR(w[0], 1.0, 1e-6);
    CHECK(before[0] == 0.0f);
    llm_rmsprop_rprop(w, size, before, third, 2, &c);
    CHECK_NEAR(w[0], 1.6, 1e-6);
    CHECK(w[1] == 5.0f && size[1] == 1.0f);
}

TEST(rmsprop, "the first step is lr / sqrt(1 - a) for any gradient; arrays that are needed") {
    const float g[3] = {1e-3f, -7.0f, 1e6f}, want[3] = {-0.1f, 0.1f, -0.1f};
    float w[3] = {0.0f}, s[3] = {0.0f}, m[3] = {0.0f};
    llm_rmsprop_config c = llm_rmsprop_defaults();
    llm_rmsprop_step(w, s, NULL, NULL, g, 3, &c);
    CHECK_ALL_NEAR(w, want, 3, 2e-5f);
    c.centered = true;
    CHECK_ASSERTS(llm_rmsprop_step(w, s, NULL, NULL, g, 3, &c));
    c.momentum = 0.5f;
    CHECK_ASSERTS(llm_rmsprop_step(w, s, m, NULL, g, 3, &c));
    /* a constant gradient has no variance: lr / eps at last, and no NaN */
    c = llm_rmsprop_defaults();
    c.centered = true, c.alpha = 0.9f, c.eps = 0.5f;
    enum { n = 64 }; /* of many, some have s below m^2 by a rounding */
    float x[n], xs[n] = {0.0f}, xm[n] = {0.0f}, same[n];
    size_t below = 0;
    for (size_t i = 0; i < n; i++) same[i] = 0.3f + 0.017f * (float)i;
    for (size_t t = 0; t < 600; t++) {
        memset(x, 0, sizeof x);
        llm_rmsprop_step(x, xs, xm, NULL, same, n, &c);
        for (size_t i = 0; i < n; i++) below += xs[i] < xm[i] * xm[i];
    }
    for (size_t i = 0; i < n; i++) {
        CHECK_NEAR(x[i], -0.01 * (double)same[i] / 0.5, 1e-2 * (double)same[i] * 0.02);
        CHECK_NEAR(xm[i], same[i], 1e-5);
    }
    CHECK(below > 0);
}

TEST(rmsprop, "a minimum that moves: AdaGrad follows ever more slowly, RMSProp does not tire") {
    for (uint64_t seed = 1; seed <= 3; seed++) {
        llm_rmsprop_config c = llm_rmsprop_defaults();
        llm_adagrad_config a = llm_adagrad_defaults();
        llm_rng rng = llm_rng_seed(seed);
        float w[2] = {0.0f, 0.0f}, s[2] = {0.0f, 0.0f}, goal = 0.0f;
        double off[2][2] = {{0.0, 0.0}, {0.0, 0.0}}; /* first and last tenth; of each */
        c.lr = 0.3f, c.alpha = 0.9f, a.lr = 1.0f;
        for (size_t t = 0; t < 20000; t++) { /* a new place each 100 steps */
            const float z = llm_rng_normal(&rng);
            if (t % 100 == 0) goal = 3.0f * llm_rng_normal(&rng);
            const float g[2] = {w[0] - goal + 0.3f * z, w[1] - goal + 0.3f * z};
            llm_rmsprop_step(w, s, NULL, NULL, g, 1, &c);
            llm_adagrad_step(w + 1, s + 1, g + 1, 1, &a, t + 1);
            for (size_t k = 0; k < 2 && (t < 2000 || t >= 18000); k++)
                off[t >= 18000][k] += fabs((double)(w[k] - goal)) / 2000.0;
        }
        CHECK(off[1][0] < 0.5 * off[1][1]); /* 24 other seeds: 0.13 to 0.24 */
        CHECK(off[1][0] < 1.6 * off[0][0]);
    }
}

TEST(rmsprop, "nine gradients of 0.1 and one of -0.9: Rprop runs off, RMSProp stays") {
    llm_rng rng = llm_rng_seed(1);
    const llm_rmsprop_rprop_config r = {1.2f, 0.5f, 1e-6f, 50.0f, false};
    llm_rmsprop_config c = llm_rmsprop_defaults();
    float w[2] = {0.0f, 0.0f}, size[1] = {1e-3f}, before[1] = {0.0f}, s[1] = {0.0f};
    c.lr = 1e-3f;
    for (size_t t = 0; t < 2000; t++) {
        const float g[1] = {llm_rng_below(&rng, 10) == 0 ? -0.9f : 0.1f};
        llm_rmsprop_rprop(w, size, before, g, 1, &r);
        llm_rmsprop_step(w + 1, s, NULL, NULL, g, 1, &c);
    }
    CHECK(w[0] < -1.0f && fabsf(w[1]) < 0.5f);
}

/* @momentum */
#include "../test.h"

#include "../../llm.h"

TEST(momentum, "50 steps equal torch.optim.SGD: momentum, dampening, nesterov, decay, maximize") {
    const char *names[6] = {"plain", "damped", "nesterov", "decay", "all", "damped-decay"};
    for (size_t k = 0; k < 6; k++) {
        const size_t n = (size_t)golden("%s/n", names[k])[0];
        const float *f = golden("%s/config", names[k]), *g = golden("%zu/g", n);
        llm_momentum_config c;
        c.lr = f[0], c.momentum = f[1], c.dampening = f[2], c.weight_decay = f[3];
        c.nesterov = f[4] != 0.0f, c.maximize = f[5] != 0.0f;
        float *w = floats(n), *v = floats(n), *path = floats(50 * n); /* v is NaN before step 1 */
        memcpy(w, golden("%zu/w0", n), n * sizeof(float));
        for (size_t t = 1; t <= 50; t++) {
            llm_momentum_step(w, v, g + (t - 1) * n, n, &c, t);
            memcpy(path + (t - 1) * n, w, n * sizeof(float));
        }
        CHECK_GOLDEN(path, 50 * n, 3e-6f, "%s/path", names[k]);
    }
}

static void use_stack(void) {
    volatile unsigned char used[1 << 12];
    for (size_t i = 0; i < sizeof(used); i++) used[i] = 0x5a;
}

TEST(momentum, "the defaults set every field, whatever stood on the stack before") {
    use_stack();
    const llm_momentum_config c = llm_momentum_defaults();
    CHECK(c.lr == 1e-3f && c.momentum == 0.9f && c.dampening == 0.0f && c.weight_decay == 0.0f);
    CHECK(!c.nesterov && !c.maximize);
}

TEST(momentum, "the defaults equal optax.sgd at lr 0.1, with and without nesterov") {
    for (int nesterov = 0; nesterov < 2; nesterov++) {
        llm_momentum_config c = llm_momentum_defaults();
        CHECK(c.lr == 1e-3f && !c.nesterov && !c.maximize && c.dampening == 0.0f);
        c.lr = 0.1f, c.nesterov = nesterov != 0;
        float w[5], v[5];
        memcpy(w, golden("5/w0"), sizeof w);
        for (size_t t = 1; t <= 50; t++)
            llm_momentum_step(w, v, golden("5/g") + (t - 1) * 5, 5, &c, t);
        CHECK_GOLDEN(w, 5, 3e-6f, "optax%d/w", nesterov);
    }
}

TEST(momentum, "momentum 0 is gradient descent; bad options stop") {
    float w[3] = {1.0f, 2.0f, 3.0f}, want[3] = {1.0f, 2.0f, 3.0f}, v[3] = {NAN, NAN, NAN};
    llm_momentum_config c = llm_momentum_defaults();
    c.momentum = 0.0f;
    for (size_t t = 1; t <= 5; t++) {
        const float g[3] = {0.3f * (float)t, -1.0f, 2.5f};
        llm_momentum_step(w, v, g, 3, &c, t);
        llm_gradient_descent_step(want, g, 3, c.lr);
        CHECK_ALL_NEAR(w, want, 3, 0.0f);
    }
    CHECK_ASSERTS(llm_momentum_step(w, v, w, 3, &c, 0));
    c.nesterov = true;
    CHECK_ASSERTS(llm_momentum_step(w, v, w, 3, &c, 1));
    c.momentum = 0.9f, c.dampening = 0.1f;
    CHECK_ASSERTS(llm_momentum_step(w, v, w, 3, &c, 1));
    double lr, mu;
    CHECK_ASSERTS(llm_momentum_polyak(&lr, &mu, 1.0, 0.0));
    CHECK_ASSERTS(llm_momentum_polyak(&lr, &mu, 1.0, 2.0));
    CHECK(llm_momentum_polyak(&lr, &mu, 4.0, 4.0) == 0.0 && lr == 0.25 && mu == 0.0);
}

TEST(momentum, "the classical form agrees at a constant rate and lags behind a falling one") {
    for (int falls = 0; falls < 2; falls++) {
        float w[2] = {1.0f, -2.0f}, v[2], c_w[2] = {1.0f, -2.0f}, c_v[2] = {0.0f, 0.0f};
        llm_momentum_config c = llm_momentum_defaults();
        double apart[2] = {0.0, 0.0};
        for (size_t t = 1; t <= 40; t++) {
            const float g[2] = {1.0f, -0.5f};
            c.lr = falls && t > 20 ? 0.001f : 0.01f;
            llm_momentum_step(w, v, g, 2, &c, t);
            llm_momentum_classical(c_w, c_v, g, 2, c.lr, 0.9f);
            for (size_t i = 0; i < 2; i++) apart[i] = fabs((double)(w[i] - c_w[i]));
        }
        /* the velocity 0.01 (1 - 0.9^20)/0.1 runs out by itself instead of a tenth of it */
        const double left =
            0.9 * 0.01 * (1.0 - pow(0.9, 20.0)) / 0.1 * 0.9 * (1.0 - pow(0.9, 20.0)) / 0.1;
        CHECK_NEAR(apart[0], falls ? left : 0.0, 1e-5);
        CHECK_NEAR(apart[1], falls ? 0.5 * left : 0.0, 1e-5); /* half the gradient */
    }
}

TEST(momentum, "Polyak's constants: the factor (sqrt k - 1)/(sqrt k + 1), 7 times fewer steps") {
    const float h[3] = {1.0f, 30.0f, 100.0f};
    double lr, mu, log_error[2];
    const double rate = llm_momentum_polyak(&lr, &mu, 100.0, 1.0);
    CHECK_NEAR(rate, 9.0 / 11.0, 1e-12);
    CHECK_NEAR(lr, 4.0 / 121.0, 1e-12);
    CHECK_NEAR(mu, 81.0 / 121.0, 1e-12);
    size_t steps[2];
    for (int heavy = 0; heavy < 2; heavy++) {
        float w[3] = {1.0f, 1.0f, 1.0f}, v[3], g[3];
        llm_momentum_config c = llm_momentum_defaults();
        c.lr = heavy ? (float)lr : 2.0f / 101.0f, c.momentum = heavy ? (float)mu : 0.0f;
        double error = 1.0;
        for (steps[heavy] = 0; error > 1e-6 * sqrt(3.0); steps[heavy]++) {
            for (size_t i = 0; i < 3; i++) g[i] = h[i] * w[i];
            llm_momentum_step(w, v, g, 3, &c, steps[heavy] + 1);
            error = sqrt(dot(w, w, 3));
            if (steps[heavy] == 50) log_error[heavy] = log(error);
        }
        /* t q^t in the critical directions: over the last steps, the factor itself */
        const double factor = exp((log(error) - log_error[heavy]) / (double)(steps[heavy] - 51));
        CHECK_NEAR(factor, heavy ? rate : 99.0 / 101.0, heavy ? 0.02 : 0.001);
    }
    CHECK(steps[0] >= 7 * steps[1]); /* 681 against 92 */
}

TEST(momentum, "accelerated descent equals Nesterov's sequences") {
    const float *h = golden("fista/h");
    float w[3], y[3], g[3], path[180];
    double t = 1.0;
    memcpy(w, golden("fista/w0"), sizeof w), memcpy(y, w, sizeof y);
    for (size_t k = 0; k < 60; k++) {
        for (size_t i = 0; i < 3; i++) g[i] = h[i] * y[i];
        CHECK(!llm_momentum_accelerate(w, y, &t, g, 3, 1.0f, false));
        memcpy(path + 3 * k, w, sizeof w);
    }
    CHECK_GOLDEN(path, 180, 3e-6f, "fista/path");
}

TEST(momentum, "one weight restarts where its step goes uphill, not at rest") {
    float w[1] = {0.0f}, y[1] = {1.0f};
    const float g[1] = {0.5f}, none[1] = {0.0f};
    double t = 7.0;
    CHECK(!llm_momentum_accelerate(w, y, &t, none, 1, 1.0f, true) && t > 7.0);
    w[0] = 0.0f, y[0] = 1.0f; /* down from 1 to 0.5, but up from where w was */
    CHECK(llm_momentum_accelerate(w, y, &t, g, 1, 1.0f, true));
    CHECK(w[0] == 0.5f && y[0] == 0.5f && fabs(t - 0.5 * (1.0 + sqrt(5.0))) < 1e-12);
}

TEST(momentum, "restarting makes acceleration linear, and is never behind plain descent") {
    enum { n = 50, T = 1500 };
    float h[n], w[n], y[n], g[n];
    double loss[3][T + 1], t = 1.0;
    size_t restarts = 0;
    for (size_t i = 0; i < n; i++) h[i] = powf(10.0f, -3.0f * (float)i / (n - 1)); /* k = 1000 */
    for (int kind = 0; kind < 3; kind++) { /* plain, accelerated, with restarts */
        for (size_t i = 0; i < n; i++) w[i] = y[i] = 1.0f;
        t = 1.0;
        for (size_t k = 0; k <= T; k++) {
            loss[kind][k] = 0.0;
            for (size_t i = 0; i < n; i++)
                loss[kind][k] += 0.5 * (double)h[i] * (double)w[i] * (double)w[i],
                    g[i] = h[i] * y[i];
            if (kind == 0) {
                llm_gradient_descent_step(w, g, n, 1.0f);
                memcpy(y, w, sizeof y);
            } else if (llm_momentum_accelerate(w, y, &t, g, n, 1.0f, kind == 2)) {
                restarts++;
                CHECK(t > 1.6 && t < 1.7); /* the second of the sequence, golden ratio */
            }
        }
    }
    size_t rises = 0;
    for (size_t k = 0; k < T; k++) {
        rises += loss[1][k + 1] > loss[1][k];
        CHECK(loss[2][k] <= loss[0][k > 0 ? k - 1 : 0] * 1.000001);
    }
    CHECK(restarts > 3 && rises > 100); /* 11, 354 */
    CHECK(loss[2][T] < 1e-4 * loss[1][T] && loss[1][T] < 1e-2 * loss[0][T]);
}

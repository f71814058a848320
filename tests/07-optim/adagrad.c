/* @adagrad */
#include "../test.h"

#include "../../llm.h"

TEST(adagrad, "50 steps equal torch.optim.Adagrad: rate decay, L2, initial value, maximize") {
    const char *names[3] = {"plain", "options", "up"};
    for (size_t k = 0; k < 3; k++) {
        const size_t n = (size_t)golden("%s/n", names[k])[0];
        const float *f = golden("%s/config", names[k]), *g = golden("%s/g", names[k]);
        llm_adagrad_config c;
        c.lr = f[0], c.lr_decay = f[1], c.weight_decay = f[2], c.eps = f[3];
        c.maximize = f[5] != 0.0f;
        float *w = floats(n), *s = floats(n), *path = floats(50 * n);
        memcpy(w, golden("%s/w0", names[k]), n * sizeof(float));
        for (size_t i = 0; i < n; i++) s[i] = f[4];
        for (size_t t = 1; t <= 50; t++) {
            llm_adagrad_step(w, s, g + (t - 1) * n, n, &c, t);
            memcpy(path + (t - 1) * n, w, n * sizeof(float));
        }
        CHECK_GOLDEN(path, 50 * n, 3e-6f, "%s/path", names[k]);
        CHECK_GOLDEN(s, n, 3e-6f, "%s/s", names[k]);
    }
    const llm_adagrad_config c = llm_adagrad_defaults();
    CHECK(c.lr == 0.01f && c.lr_decay == 0.0f && c.weight_decay == 0.0f && c.eps == 1e-10f);
    CHECK(!c.maximize);
    float x[1] = {0.0f};
    CHECK_ASSERTS(llm_adagrad_step(x, x, x, 1, &c, 0));
}

TEST(adagrad, "sparse rows equal torch's sparse gradients, and the dense step bit for bit") {
    enum { rows = 6, d = 2, m = 2 };
    llm_adagrad_config c = llm_adagrad_defaults();
    c.lr = 0.1f, c.lr_decay = 0.05f;
    float w[rows * d], dense[rows * d], s[rows * d] = {0.0f}, dense_s[rows * d] = {0.0f};
    memcpy(w, golden("sparse/w0"), sizeof w), memcpy(dense, w, sizeof w);
    for (size_t t = 1; t <= 30; t++) {
        const float *g = golden("sparse/g") + (t - 1) * m * d;
        const float *at = golden("sparse/index") + (t - 1) * m;
        const size_t index[m] = {(size_t)at[0], (size_t)at[1]};
        float all[rows * d] = {0.0f};
        for (size_t k = 0; k < m * d; k++) all[index[k / d] * d + k % d] = g[k];
        llm_adagrad_sparse(w, s, g, index, m, d, &c, t);
        llm_adagrad_step(dense, dense_s, all, rows * d, &c, t);
    }
    CHECK_ALL_NEAR(w, dense, rows * d, 0.0f);
    CHECK_ALL_NEAR(s, dense_s, rows * d, 0.0f);
    CHECK_GOLDEN(w, rows * d, 2e-6f, "sparse/w");
    c.weight_decay = 0.1f;
    const size_t one[1] = {0};
    CHECK_ASSERTS(llm_adagrad_sparse(w, s, w, one, 1, d, &c, 1));
}

TEST(adagrad, "without eps the scale of a coordinate does not matter; no gradient, no step") {
    enum { n = 4 };
    const float scale[n] = {1.0f, 8.0f, 128.0f, 1024.0f};
    float w[n] = {1.0f, 1.0f, 1.0f, 1.0f}, x[n], s[n] = {0.0f}, sx[n] = {0.0f};
    llm_adagrad_config c = llm_adagrad_defaults();
    c.eps = 0.0f, c.lr = 0.25f;
    for (size_t i = 0; i < n; i++) x[i] = w[i] * scale[i];
    for (size_t t = 1; t <= 40; t++) { /* loss of w; with x = scale w the gradient is g / scale */
        float g[n], gx[n], own[n];
        for (size_t i = 0; i < n; i++) {
            g[i] = w[i] - 0.3f * (float)i;
            gx[i] = (x[i] / scale[i] - 0.3f * (float)i) / scale[i];
        }
        llm_adagrad_step(w, s, g, n, &c, t);
        llm_adagrad_step(x, sx, gx, n, &c, t);
        /* w moves by lr g/sqrt(s), x by the same: its step must be scaled for equal paths */
        for (size_t i = 0; i < n; i++) {
            x[i] = w[i] * scale[i], own[i] = sqrtf(sx[i]) * scale[i];
            CHECK_NEAR(own[i], sqrtf(s[i]), 1e-5);
        }
    }
    float still[2] = {1.0f, 2.0f}, zero[2] = {0.0f, 0.0f}, zs[2] = {0.0f, 0.0f};
    llm_adagrad_step(still, zs, zero, 2, &c, 1); /* eps 0, s 0 */
    CHECK(still[0] == 1.0f && still[1] == 2.0f && zs[0] == 0.0f);
}

TEST(adagrad, "the rate of a weight falls as 1/sqrt(t), first step lr whatever the gradient") {
    llm_adagrad_config c = llm_adagrad_defaults();
    llm_rng rng = llm_rng_seed(1);
    float w[1] = {0.0f}, s[1] = {0.0f}, g[1] = {-700.0f};
    llm_adagrad_step(w, s, g, 1, &c, 1);
    CHECK_NEAR(w[0], 0.01, 1e-8);
    double rate[2] = {0.0, 0.0};
    s[0] = 0.0f;
    for (size_t t = 1; t <= 100000; t++) {
        g[0] = llm_rng_normal(&rng);
        llm_adagrad_step(w, s, g, 1, &c, t);
        if (t == 1000 || t == 100000) rate[t == 100000] = 0.01 / sqrt((double)s[0]);
    }
    CHECK_NEAR(log(rate[1] / rate[0]) / log(100.0), -0.5, 0.02);
}

TEST(adagrad, "regret on a convex stream stays below sqrt(2) D sum |g_i|") {
    for (uint64_t seed = 1; seed <= 20; seed++) { /* |w.x - y| with w in the box [-1, 1] */
        enum { n = 5, T = 500 };
        static float x[T * n], y[T];
        llm_rng rng = llm_rng_seed(seed);
        float w[n] = {0.0f}, s[n] = {0.0f}, truth[n];
        double loss = 0.0, least = HUGE_VAL, sum = 0.0;
        llm_adagrad_config c = llm_adagrad_defaults();
        c.lr = 2.0f / sqrtf(2.0f); /* D / sqrt(2), D = 2 the width of the box */
        for (size_t i = 0; i < n; i++) truth[i] = 2.0f * llm_rng_uniform(&rng) - 1.0f;
        for (size_t t = 0; t < T; t++) {
            y[t] = 0.3f * llm_rng_normal(&rng);
            for (size_t i = 0; i < n; i++) {
                x[t * n + i] = llm_rng_normal(&rng) * powf(3.0f, -(float)i); /* unequal scales */
                y[t] += truth[i] * x[t * n + i];
            }
            float e = -y[t], g[n];
            for (size_t i = 0; i < n; i++) e += w[i] * x[t * n + i];
            loss += fabs((double)e);
            for (size_t i = 0; i < n; i++) g[i] = copysignf(x[t * n + i], e * x[t * n + i]);
            llm_adagrad_step(w, s, g, n, &c, t + 1);
            for (size_t i = 0; i < n; i++) w[i] = fminf(fmaxf(w[i], -1.0f), 1.0f);
        }
        for (size_t k = 0; k < 2;
             k++) { /* the regret against any fixed point is bounded: two of them */
            double fixed = 0.0;
            for (size_t t = 0; t < T; t++) {
                double e = -(double)y[t];
                for (size_t i = 0; i < n; i++)
                    e += (double)(k ? w[i] : truth[i]) * (double)x[t * n + i];
                fixed += fabs(e);
            }
            least = fmin(least, fixed);
        }
        for (size_t i = 0; i < n; i++) sum += sqrt((double)s[i]);
        CHECK(loss - least <= sqrt(2.0) * 2.0 * sum && loss > least);
    }
}

TEST(adagrad, "the full matrix equals NumPy's eigenvectors") {
    const size_t sizes[3] = {1, 2, 5};
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 4096));
    for (size_t k = 0; k < 3; k++) {
        const size_t n = sizes[k];
        const float *g = golden("full/%zu/g", n);
        float w[5], path[60];
        double S[25] = {0.0}, sum[25] = {0.0};
        memcpy(w, golden("full/%zu/w0", n), n * sizeof(float));
        for (size_t t = 0; t < 12; t++) { /* the first steps have a singular S */
            llm_adagrad_full(w, S, g + t * n, n, 0.1f, 0.01f, &arena);
            memcpy(path + t * n, w, n * sizeof(float));
            for (size_t i = 0; i < n * n; i++) {
                sum[i] += (double)g[t * n + i / n] * (double)g[t * n + i % n];
                CHECK_NEAR(S[i], sum[i], 1e-12);
            }
        }
        CHECK(arena.used == 0);
        CHECK_GOLDEN(path, 12 * n, 3e-6f, "full/%zu/path", n);
    }
    float w[2] = {1.0f, 2.0f}, none[2] = {0.0f, 0.0f};
    double S[4] = {0.0};
    llm_adagrad_full(w, S, none, 2, 0.1f, 0.0f, &arena);
    CHECK(w[0] == 1.0f && w[1] == 2.0f);
    llm_arena_destroy(&arena);
}

TEST(adagrad, "FTRL minimises its objective; without penalties it is AdaGrad; L1 gives zeros") {
    const float *f = golden("ftrl/config"), *g = golden("ftrl/g");
    const llm_adagrad_ftrl_config c = {f[0], f[1], f[2], f[3]};
    float w[4] = {0.0f}, z[4] = {0.0f}, s[4] = {0.0f}, path[160];
    size_t zero = 0;
    for (size_t t = 0; t < 40; t++) {
        llm_adagrad_ftrl(w, z, s, g + 4 * t, 4, &c);
        memcpy(path + 4 * t, w, sizeof w);
        for (size_t i = 0; i < 4; i++) zero += w[i] == 0.0f;
    }
    CHECK_GOLDEN(path, 160, 5e-6f, "ftrl/path");
    CHECK(zero > 5 && zero < 100);

    const llm_adagrad_ftrl_config bare = {0.3f, 0.05f, 0.0f, 0.0f};
    llm_adagrad_config a = llm_adagrad_defaults();
    float v[4] = {0.0f}, vs[4] = {0.0f};
    a.lr = 0.3f, a.eps = 0.05f;
    memset(w, 0, sizeof w), memset(z, 0, sizeof z), memset(s, 0, sizeof s);
    for (size_t t = 0; t < 40; t++) {
        llm_adagrad_ftrl(w, z, s, g + 4 * t, 4, &bare);
        llm_adagrad_step(v, vs, g + 4 * t, 4, &a, t + 1);
        CHECK_ALL_NEAR(w, v, 4, 1e-5f);
    }
}

/* Logistic regression with features that occur with probability 1/2^(j/2), equal weights in
 * truth. */
static size_t ag_steps(bool ada, float lr, uint64_t seed) {
    enum { d = 16, T = 5000 };
    llm_rng rng = llm_rng_seed(seed);
    float w[d] = {0.0f}, s[d] = {0.0f}, g[d];
    llm_adagrad_config c = llm_adagrad_defaults();
    c.lr = lr;
    for (size_t t = 1; t <= T; t++) {
        float z = 0.0f, truth = 0.0f, x[d];
        for (size_t j = 0; j < d; j++) {
            x[j] = llm_rng_uniform(&rng) < powf(2.0f, -0.5f * (float)j) ? 1.0f : 0.0f;
            z += w[j] * x[j], truth += (j % 2 ? -2.0f : 2.0f) * x[j];
        }
        const float p = 1.0f / (1.0f + expf(-truth));
        const float e = 1.0f / (1.0f + expf(-z)) - (llm_rng_uniform(&rng) < p ? 1.0f : 0.0f);
        for (size_t j = 0; j < d; j++) g[j] = e * x[j];
        if (ada)
            llm_adagrad_step(w, s, g, d, &c, t);
        else
            llm_gradient_descent_step(w, g, d, lr);
        double off = 0.0;
        for (size_t j = 0; j < d; j++) off += pow((double)w[j] - (j % 2 ? -2.0 : 2.0), 2.0) / d;
        if (off < 0.5) return t;
    }
    return T;
}

TEST(adagrad, "rare features: the target sooner than with the best constant rate") {
    size_t best[2] = {5000, 5000};
    for (int ada = 0; ada < 2; ada++)
        for (float lr = 1.0f / 16.0f; lr < 4.0f; lr *= 2.0f) {
            size_t steps[9];
            for (uint64_t seed = 0; seed < 9; seed++) { /* the median of nine */
                size_t now = ag_steps(ada != 0, lr, seed + 1), k = (size_t)seed;
                for (; k > 0 && steps[k - 1] > now; k--) steps[k] = steps[k - 1];
                steps[k] = now;
            }
            best[ada] = steps[4] < best[ada] ? steps[4] : best[ada];
        }
    CHECK(5 * best[0] > 6 * best[1]); /* 2.2 times; 8 other sets: 1.46 to 2.71 */
}

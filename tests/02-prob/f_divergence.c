/* @f_divergence */
#include "../test.h"

#include "../../llm.h"

enum { KINDS = LLM_F_DIVERGENCE_COUNT };

static void f_divergence_random(float *p, size_t n, llm_rng *rng) {
    double sum = 0.0;
    for (size_t i = 0; i < n; i++) sum += (double)(p[i] = expf(1.5f * llm_rng_normal(rng)));
    for (size_t i = 0; i < n; i++) p[i] = (float)((double)p[i] / sum);
}

TEST(f_divergence, "all eight and their gradients in logits equal SciPy's and torch's") {
    const size_t shapes[3][2] = {{1, 2}, {3, 5}, {2, 17}};
    for (size_t s = 0; s < 3; s++) {
        const size_t N = shapes[s][0], V = shapes[s][1];
        const float *p = golden("%zux%zu/p", N, V), *z = golden("%zux%zu/z", N, V);
        const float *q = golden("%zux%zu/q", N, V), *dd = golden("%zux%zu/dd", N, V);
        for (int k = 0; k < KINDS; k++) {
            float *d = floats(N), *dz = zeros(N * V), *scratch = floats(V), *direct = floats(N);
            llm_f_divergence_logits(d, dz, dd, p, z, scratch, N, V, k, -0.7);
            for (size_t n = 0; n < N; n++)
                direct[n] = (float)llm_f_divergence(p + n * V, q + n * V, V, k, -0.7);
            CHECK_GOLDEN(d, N, 2e-6f, "%zux%zu/%d/d", N, V, k);
            CHECK_GOLDEN(direct, N, 2e-6f, "%zux%zu/%d/d", N, V, k);
            CHECK_GOLDEN(dz, N * V, 5e-6f, "%zux%zu/%d/dz", N, V, k);
            llm_f_divergence_logits(d, dz, dd, p, z, scratch, N, V, k, -0.7); /* adds */
            for (size_t i = 0; i < N * V; i++) dz[i] *= 0.5f;
            CHECK_GOLDEN(dz, N * V, 5e-6f, "%zux%zu/%d/dz", N, V, k);
            llm_f_divergence_logits(direct, NULL, NULL, p, z, scratch, N, V, k, -0.7);
            CHECK_ALL_NEAR(direct, d, N, 0.0f);
        }
    }
}

TEST(f_divergence,
     "never negative, 0 for equals, smaller after a channel, jointly convex, Pinsker") {
    enum { V = 6, W = 4 };
    llm_rng rng = llm_rng_seed(1);
    for (size_t r = 0; r < 100; r++) {
        float p[V], q[V], p2[V], q2[V], pm[V], qm[V], channel[V * W], po[W], qo[W];
        f_divergence_random(p, V, &rng), f_divergence_random(q, V, &rng);
        f_divergence_random(p2, V, &rng), f_divergence_random(q2, V, &rng);
        for (size_t i = 0; i < V; i++) f_divergence_random(channel + i * W, W, &rng);
        for (size_t j = 0; j < W; j++) po[j] = qo[j] = 0.0f;
        for (size_t i = 0; i < V * W; i++)
            po[i % W] += p[i / W] * channel[i], qo[i % W] += q[i / W] * channel[i];
        for (size_t i = 0; i < V; i++)
            pm[i] = 0.3f * p[i] + 0.7f * p2[i], qm[i] = 0.3f * q[i] + 0.7f * q2[i];
        for (int k = 0; k < KINDS; k++) {
            const double d = llm_f_divergence(p, q, V, k, 0.4),
                         d2 = llm_f_divergence(p2, q2, V, k, 0.4);
            CHECK(d > 0.0);
            CHECK(llm_f_divergence(p, p, V, k, 0.4) == 0.0);
            CHECK(llm_f_divergence(po, qo, W, k, 0.4) <= d + 1e-6);
            CHECK(llm_f_divergence(pm, qm, V, k, 0.4) <= 0.3 * d + 0.7 * d2 + 1e-6);
        }
        const double tv = llm_f_divergence(p, q, V, LLM_F_DIVERGENCE_TV, 0.0);
        CHECK(tv <= sqrt(0.5 * llm_f_divergence(p, q, V, LLM_F_DIVERGENCE_KL, 0.0)) + 1e-7);
        CHECK(llm_f_divergence(p, q, V, LLM_F_DIVERGENCE_JS, 0.0) <= log(2.0) * tv + 1e-7);
        CHECK_NEAR(llm_f_divergence(p, q, V, LLM_F_DIVERGENCE_NEYMAN, 0.0),
                   llm_f_divergence(q, p, V, LLM_F_DIVERGENCE_PEARSON, 0.0),
                   1e-5 * llm_f_divergence(p, q, V, LLM_F_DIVERGENCE_NEYMAN, 0.0));
        CHECK_NEAR(llm_f_divergence(p, q, V, LLM_F_DIVERGENCE_ALPHA, 0.5),
                   2.0 * llm_f_divergence(p, q, V, LLM_F_DIVERGENCE_HELLINGER, 0.0), 1e-6);
        CHECK_NEAR(llm_f_divergence(p, q, V, LLM_F_DIVERGENCE_ALPHA, 2.0),
                   0.5 * llm_f_divergence(p, q, V, LLM_F_DIVERGENCE_PEARSON, 0.0),
                   1e-5 * llm_f_divergence(p, q, V, LLM_F_DIVERGENCE_PEARSON, 0.0));
    }
}

TEST(f_divergence, "zeros: disjoint supports, each with its limit; slopes by finite differences") {
    const float p[3] = {0.5f, 0.5f, 0.0f}, q[3] = {0.0f, 0.5f, 0.5f}, zero[1] = {0.0f},
                minus[1] = {-1.0f};
    const double inf = (double)INFINITY, want[7] = {inf, inf, 0.5 * log(2.0), 0.5, inf, inf, 1.0};
    for (int k = 0; k < 7; k++) CHECK_NEAR(llm_f_divergence(p, q, 3, k, 0.0), want[k], 1e-12);
    CHECK_NEAR(llm_f_divergence(p, q, 3, LLM_F_DIVERGENCE_ALPHA, 0.25),
               (0.5 - 1.0) / (0.25 * -0.75), 1e-12);
    CHECK(llm_f_divergence(p, q, 3, LLM_F_DIVERGENCE_ALPHA, 1.5) == inf);
    CHECK(llm_f_divergence(p, q, 3, LLM_F_DIVERGENCE_ALPHA, -0.5) == inf);
    for (int k = 0; k < KINDS; k++) {
        double slope, at_zero, at_infinity;
        CHECK(llm_f_divergence(zero, zero, 1, k, 0.3) == 0.0); /* neither has it: free */
        CHECK_ASSERTS(llm_f_divergence(minus, zero, 1, k, 0.3));
        CHECK_ASSERTS(llm_f_divergence(zero, minus, 1, k, 0.3));
        llm_f_divergence_limits(&at_zero, &at_infinity, k, 0.3);
        if (at_zero < inf)
            CHECK_NEAR(llm_f_divergence_f(NULL, k, 1e-30, 0.3), at_zero, 1e-6);
        else
            CHECK(llm_f_divergence_f(NULL, k, 1e-30, 0.3) > 60.0);
        if (at_infinity < inf)
            CHECK_NEAR(llm_f_divergence_f(NULL, k, 1e30, 0.3) / 1e30, at_infinity, 1e-6);
        else
            CHECK(llm_f_divergence_f(NULL, k, 1e30, 0.3) / 1e30 > 60.0);
        for (double t = 0.2; t < 3.0; t += 0.37) {
            llm_f_divergence_f(&slope, k, t, 0.3);
            const double rise = llm_f_divergence_f(NULL, k, t + 1e-6, 0.3) -
                                llm_f_divergence_f(NULL, k, t - 1e-6, 0.3);
            CHECK_NEAR(slope, rise / 2e-6, 1e-6);
        }
        llm_f_divergence_f(&slope, k, 1.0, 0.3);
        CHECK(slope == 0.0 && llm_f_divergence_f(NULL, k, 1.0, 0.3) == 0.0);
    }
    CHECK_ASSERTS(llm_f_divergence_f(NULL, LLM_F_DIVERGENCE_ALPHA, 0.5, 1.0));
    CHECK_ASSERTS(llm_f_divergence_f(NULL, LLM_F_DIVERGENCE_ALPHA, 0.5, 0.0));
    CHECK_ASSERTS(llm_f_divergence(p, q, 3, LLM_F_DIVERGENCE_COUNT, 0.5));
    CHECK_ASSERTS(llm_f_divergence(p, q, 3, -1, 0.5));
    /* a target of 0 in the logit form: KL's gradient is softmax - p there */
    const float hot[3] = {0.0f, 1.0f, 0.0f}, z[3] = {1.0f, 2.0f, -200.0f}, one[1] = {1.0f};
    float d[1], dz[3] = {0.0f, 0.0f, 0.0f}, scratch[3];
    llm_f_divergence_logits(d, dz, one, hot, z, scratch, 1, 3, LLM_F_DIVERGENCE_KL, 0.0);
    CHECK_NEAR(d[0], log1p(exp(-1.0)), 1e-6);
    CHECK_NEAR(dz[0], 1.0 / (1.0 + exp(1.0)), 1e-6);
    CHECK_NEAR(dz[1], -1.0 / (1.0 + exp(1.0)), 1e-6);
    CHECK(dz[2] == 0.0f);
    const float pair[3] = {0.5f, 0.5f, 0.0f}; /* a q that underflows has no slope */
    llm_f_divergence_logits(d, dz, one, pair, z, scratch, 1, 3, LLM_F_DIVERGENCE_REVERSE_KL, 0.0);
    CHECK(dz[2] == 0.0f && isfinite(dz[0]) && isfinite(d[0]));
}

TEST(f_divergence,
     "closed forms for Gaussians equal integrals; k1, k3 unbiased, k3 with half the variance") {
    double kl = 0.0, hellinger = 0.0;
    const llm_distribution a = {LLM_DISTRIBUTION_NORMAL, 0, 0, 0.3, 1.2},
                           b = {LLM_DISTRIBUTION_NORMAL, 0, 0, -0.4, 0.9};
    for (double x = -12.0; x < 12.0; x += 1e-3) {
        const double la = llm_distribution_logpdf(&a, x), lb = llm_distribution_logpdf(&b, x);
        const double gap = exp(0.5 * la) - exp(0.5 * lb);
        kl += exp(la) * (la - lb) * 1e-3, hellinger += gap * gap * 1e-3;
    }
    CHECK_NEAR(llm_f_divergence_normal_kl(0.3, 1.2, -0.4, 0.9), kl, 1e-8);
    CHECK_NEAR(llm_f_divergence_normal_hellinger(0.3, 1.2, -0.4, 0.9), hellinger, 1e-8);
    enum { N = 20000 };
    llm_rng rng = llm_rng_seed(2);
    double sum[3] = {0.0}, square[3] = {0.0};
    for (size_t i = 0; i < N; i++) { /* p = N(0,1), q = N(0.1,1): KL 0.005 */
        const double x = (double)llm_rng_normal(&rng);
        double k[3];
        llm_f_divergence_estimators(k, 0.5 * x * x - 0.5 * (x - 0.1) * (x - 0.1));
        CHECK(k[2] >= 0.0 && k[1] >= 0.0);
        for (size_t j = 0; j < 3; j++) sum[j] += k[j] / N, square[j] += k[j] * k[j] / N;
    }
    for (size_t j = 0; j < 3; j += 2)
        CHECK_NEAR(sum[j], 0.005, 4.0 * sqrt((square[j] - sum[j] * sum[j]) / N));
    CHECK(square[2] - sum[2] * sum[2] < 0.5 * (square[0] - sum[0] * sum[0]));
    double k[3];
    llm_f_divergence_estimators(k, log(2.0));
    CHECK_NEAR(k[0], -log(2.0), 1e-15);
    CHECK_NEAR(k[1], 0.5 * log(2.0) * log(2.0), 1e-15);
    CHECK_NEAR(k[2], 1.0 - log(2.0), 1e-15);
}

TEST(f_divergence,
     "variational bound: below the truth for any T, within 5% for a fitted quadratic") {
    enum { N = 20000 };
    llm_rng rng = llm_rng_seed(3);
    float *x = floats(N), *y = floats(N), *tx = floats(N), *ty = floats(N), *dx = floats(N),
          *dy = floats(N);
    double w[2] = {0.0, 0.0}, bound = 0.0;
    llm_rng_normal_fill(&rng, x, N);
    llm_rng_normal_fill(&rng, y, N);
    for (size_t i = 0; i < N; i++) x[i] += 1.0f; /* p = N(1,1), q = N(0,1): KL 0.5 */
    for (size_t step = 0; step < 150; step++) {
        double g[2] = {0.0, 0.0};
        for (size_t i = 0; i < N; i++) {
            tx[i] = (float)(w[0] * (double)x[i] + w[1] * (double)(x[i] * x[i]));
            ty[i] = (float)(w[0] * (double)y[i] + w[1] * (double)(y[i] * y[i]));
        }
        bound = llm_f_divergence_variational(dx, dy, tx, N, ty, N);
        CHECK(bound < 0.5 + 0.03); /* the sample's own noise: its error is about 0.01 */
        for (size_t i = 0; i < N; i++) {
            g[0] += (double)(dx[i] * x[i] + dy[i] * y[i]);
            g[1] += (double)(dx[i] * x[i] * x[i] + dy[i] * y[i] * y[i]);
        }
        w[0] += 0.1 * g[0], w[1] += 0.1 * g[1];
    }
    CHECK_NEAR(bound, 0.5, 0.025);
    CHECK_NEAR(w[0], 1.0, 0.1); /* log p/q = x - 1/2 */
    CHECK_NEAR(w[1], 0.0, 0.1);
    float t[3] = {0.5f, -1.0f, 2.0f}, s[3] = {0.1f, 0.7f, -0.4f}, dt[3], ds[3];
    CHECK_NEAR(llm_f_divergence_variational(dt, ds, t, 3, s, 3),
               0.5 - log((exp(0.1) + exp(0.7) + exp(-0.4)) / 3.0), 1e-6);
    CHECK_GRAD(dt, t, 3, 1e-2f, 1e-3f, llm_f_divergence_variational(NULL, NULL, t, 3, s, 3));
    CHECK_GRAD(ds, s, 3, 1e-2f, 1e-3f, llm_f_divergence_variational(NULL, NULL, t, 3, s, 3));
}

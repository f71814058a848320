/* @nll */
#include "../test.h"

#include "../../llm.h"

TEST(nll, "equals torch's nll_loss and gradients: weights, ignored rows, every reduction") {
    const size_t shapes[][2] = {{1, 1}, {2, 3}, {7, 5}};
    const char *name[3] = {"none", "mean", "sum"};
    for (size_t s = 0; s < 3; s++) {
        const size_t N = shapes[s][0], V = shapes[s][1];
        const float *logp = golden("%zux%zu/logp", N, V), *dy = golden("%zux%zu/dy", N, V);
        const float *weight = golden("%zux%zu/weight", N, V), up = 0.7f;
        const int *target = as_ints(golden("%zux%zu/target", N, V), N);
        for (int weighted = 0; weighted < 2; weighted++)
            for (int reduction = 0; reduction < 3; reduction++) {
                const char *w = weighted ? "weighted" : "plain", *r = name[reduction];
                float *loss = floats(N), *d = zeros(N * V);
                const float got = llm_nll_forward(loss, logp, target, weighted ? weight : NULL,
                                                  -100, reduction, N, V);
                llm_nll_backward(d, reduction == LLM_NLL_NONE ? dy : &up, target,
                                 weighted ? weight : NULL, -100, reduction, N, V);
                if (reduction == LLM_NLL_NONE) {
                    CHECK_GOLDEN(loss, N, 1e-6f, "%zux%zu/%s/%s/loss", N, V, w, r);
                    CHECK(got == 0.0f);
                } else {
                    CHECK_GOLDEN(&got, 1, 1e-6f, "%zux%zu/%s/%s/loss", N, V, w, r);
                }
                CHECK_GOLDEN(d, N * V, 1e-6f, "%zux%zu/%s/%s/d", N, V, w, r);
                CHECK(llm_nll_forward(NULL, logp, target, weighted ? weight : NULL, -100, reduction,
                                      N, V) == got);
                llm_nll_backward(d, reduction == LLM_NLL_NONE ? dy : &up, target, /* adds */
                                 weighted ? weight : NULL, -100, reduction, N, V);
                for (size_t i = 0; i < N * V; i++) d[i] *= 0.5f;
                CHECK_GOLDEN(d, N * V, 1e-6f, "%zux%zu/%s/%s/d", N, V, w, r);
            }
    }
}

TEST(nll, "all ignored: NaN for the mean as in torch, 0 for the sum; a target out of range stops") {
    const float logp[4] = {NAN, NAN, NAN, NAN}, up = 1.0f;
    const int ignored[2] = {7, 7}, high[2] = {7, 2}, low[2] = {-1, 0};
    float d[4] = {0.0f}, loss[2];
    CHECK(isnan(llm_nll_forward(loss, logp, ignored, NULL, 7, LLM_NLL_MEAN, 2, 2)));
    CHECK(llm_nll_forward(NULL, logp, ignored, NULL, 7, LLM_NLL_SUM, 2, 2) == 0.0f);
    CHECK(loss[0] == 0.0f && loss[1] == 0.0f);
    llm_nll_backward(d, &up, ignored, NULL, 7, LLM_NLL_MEAN, 2, 2);
    for (size_t i = 0; i < 4; i++) CHECK(d[i] == 0.0f);
    CHECK_ASSERTS(llm_nll_forward(loss, logp, high, NULL, 7, LLM_NLL_SUM, 2, 2));
    CHECK_ASSERTS(llm_nll_forward(loss, logp, low, NULL, 7, LLM_NLL_SUM, 2, 2));
    CHECK_ASSERTS(llm_nll_backward(d, &up, high, NULL, 7, LLM_NLL_SUM, 2, 2));
    CHECK_ASSERTS(llm_nll_backward(d, &up, low, NULL, 7, LLM_NLL_SUM, 2, 2));
}

TEST(nll, "the best constant prediction is the empirical distribution; its loss is the entropy") {
    enum { N = 9, V = 3 };
    const int target[N] = {0, 0, 1, 2, 0, 1, 0, 2, 0};
    const double p[V] = {5.0 / 9.0, 2.0 / 9.0, 2.0 / 9.0};
    float logp[N * V];
    double entropy = 0.0;
    for (size_t i = 0; i < V; i++) entropy -= p[i] * log(p[i]);
    for (size_t i = 0; i < N * V; i++) logp[i] = (float)log(p[i % V]);
    const double best = (double)llm_nll_forward(NULL, logp, target, NULL, -100, LLM_NLL_MEAN, N, V);
    CHECK_NEAR(best, entropy, 1e-6);
    llm_rng rng = llm_rng_seed(1);
    for (size_t k = 0; k < 100; k++) {
        float z[V], q[V];
        for (size_t i = 0; i < V; i++) z[i] = (float)log(p[i]) + 0.3f * llm_rng_normal(&rng);
        llm_softmax_log_forward(q, z, 1, V);
        for (size_t i = 0; i < N * V; i++) logp[i] = q[i % V];
        CHECK((double)llm_nll_forward(NULL, logp, target, NULL, -100, LLM_NLL_MEAN, N, V) > best);
    }
    for (size_t i = 0; i < N * V; i++) logp[i] = -logf((float)V);
    const float uniform = llm_nll_forward(NULL, logp, target, NULL, -100, LLM_NLL_MEAN, N, V);
    CHECK_NEAR(uniform, log((double)V), 1e-6);
    CHECK_NEAR(llm_nll_bits((double)uniform), log2((double)V), 1e-6);
    CHECK_NEAR(llm_nll_perplexity((double)uniform), V, 1e-6);
    CHECK_NEAR(llm_nll_bits_per_byte(log(8.0), 10.0, 40.0), 0.75, 1e-12);
}

TEST(nll, "Gaussian loss and gradients equal torch's, a variance of 0 included") {
    enum { N = 11 };
    const float *x = golden("gauss/x"), *mu = golden("gauss/mu"), *var = golden("gauss/var");
    const float *dy = golden("gauss/dy");
    for (int full = 0; full < 2; full++) {
        float loss[N], dmu[N] = {0.0f}, dvar[N] = {0.0f};
        llm_nll_gaussian_forward(loss, mu, var, x, N, 1e-2f, full);
        llm_nll_gaussian_backward(dmu, NULL, dy, mu, var, x, N, 1e-2f);
        llm_nll_gaussian_backward(NULL, dvar, dy, mu, var, x, N, 1e-2f);
        CHECK_GOLDEN(loss, N, 1e-6f, "gauss%d/loss", full);
        CHECK_GOLDEN(dmu, N, 1e-6f, "gauss%d/dmu", full);
        CHECK_GOLDEN(dvar, N, 1e-6f, "gauss%d/dvar", full);
        llm_nll_gaussian_backward(dmu, dvar, dy, mu, var, x, N, 1e-2f); /* adds */
        for (size_t i = 0; i < N; i++) dmu[i] *= 0.5f, dvar[i] *= 0.5f;
        CHECK_GOLDEN(dmu, N, 1e-6f, "gauss%d/dmu", full);
        CHECK_GOLDEN(dvar, N, 1e-6f, "gauss%d/dvar", full);
    }
    const float minus[1] = {-1.0f};
    float loss[1];
    CHECK_ASSERTS(llm_nll_gaussian_forward(loss, mu, minus, x, 1, 1e-2f, false));
}

TEST(nll, "Poisson loss and gradients equal torch's: log rates, rates, Stirling's term") {
    enum { N = 9 };
    const float *k = golden("poisson/k"), *dy = golden("poisson/dy");
    for (int log_input = 0; log_input < 2; log_input++)
        for (int full = 0; full < 2; full++) {
            float loss[N], d[N] = {0.0f}, z[N];
            for (size_t i = 0; i < N; i++) {
                z[i] = golden("poisson/z")[i];
                if (!log_input) z[i] = fabsf(z[i]);
            }
            llm_nll_poisson_forward(loss, z, k, N, log_input, full, 1e-3f);
            llm_nll_poisson_backward(d, dy, z, k, N, log_input, 1e-3f);
            CHECK_GOLDEN(loss, N, 1e-6f, "poisson%d%d/loss", log_input, full);
            CHECK_GOLDEN(d, N, 1e-6f, "poisson%d%d/d", log_input, full);
            llm_nll_poisson_backward(d, dy, z, k, N, log_input, 1e-3f);
            for (size_t i = 0; i < N; i++) d[i] *= 0.5f;
            CHECK_GOLDEN(d, N, 1e-6f, "poisson%d%d/d", log_input, full);
        }
    const float minus[1] = {-1.0f};
    float loss[1];
    CHECK_ASSERTS(llm_nll_poisson_forward(loss, k, minus, 1, true, false, 1e-3f));
}

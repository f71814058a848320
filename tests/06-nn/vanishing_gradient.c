/* @vanishing_gradient */
#include "../test.h"

#include "../../llm.h"
#include "../arena.h"

TEST(vanishing_gradient,
     "the fixed point and chi equal scipy's integrals; without one, the limits") {
    const int act[4] = {LLM_ACTIVATION_TANH, LLM_ACTIVATION_TANH, LLM_ACTIVATION_SIGMOID,
                        LLM_ACTIVATION_SIGMOID};
    const double sw2[4] = {1.5, 4.0, 1.0, 20.0};
    float got[8];
    double q;
    for (size_t k = 0; k < 4; k++) {
        got[2 * k + 1] = (float)llm_vanishing_gradient_chi(&q, sw2[k], act[k]);
        got[2 * k] = (float)q;
    }
    CHECK_GOLDEN(got, 8, 2e-6f, "chi/q_and_chi");
    CHECK_NEAR(llm_vanishing_gradient_chi(&q, 2.0, LLM_ACTIVATION_RELU), 1.0, 1e-6);
    CHECK_NEAR(q, 1.0, 1e-4);
    CHECK_NEAR(llm_vanishing_gradient_chi(&q, 1.0, LLM_ACTIVATION_RELU), 0.5, 1e-6);
    CHECK(q == 0.0);
    CHECK_NEAR(llm_vanishing_gradient_chi(&q, 3.0, LLM_ACTIVATION_RELU), 1.5, 1e-6);
    CHECK(isinf(q));
    CHECK_NEAR(llm_vanishing_gradient_chi(&q, 0.5, LLM_ACTIVATION_TANH), 0.5, 1e-5);
    CHECK(q == 0.0);
    CHECK_NEAR(llm_vanishing_gradient_chi(&q, 0.5, LLM_ACTIVATION_IDENTITY), 0.5, 1e-6);
    /* on the line between, q' = q - 2 q^2: a thousand steps leave 1 / 2000 */
    CHECK_NEAR(llm_vanishing_gradient_chi(&q, 1.0, LLM_ACTIVATION_TANH), 0.999, 2e-4);
    CHECK_NEAR(q, 5e-4, 5e-5);
    double square, slope; /* E (r z)^2 and E (2 r z)^2 on the positive half */
    llm_vanishing_gradient_moments(&square, &slope, 3.0, LLM_ACTIVATION_RELU_SQUARED);
    CHECK_NEAR(square, 0.5 * 81.0 * 3.0, 1e-3);
    CHECK_NEAR(slope, 0.5 * 4.0 * 9.0, 1e-4);
}

static double va_loss(const float *x, const float *dy, const float *w, size_t L, size_t N, size_t n,
                      bool skip) {
    double sum = 0.0, *h = doubles(n), *next = doubles(n);
    for (size_t i = 0; i < N; i++) {
        for (size_t c = 0; c < n; c++) h[c] = (double)x[i * n + c];
        for (size_t l = 0; l < L; l++) {
            for (size_t o = 0; o < n; o++) {
                double z = 0.0;
                for (size_t c = 0; c < n; c++) z += (double)w[(l * n + o) * n + c] * h[c];
                next[o] = tanh(z) + (skip ? h[o] : 0.0);
            }
            memcpy(h, next, n * sizeof *h);
        }
        for (size_t c = 0; c < n; c++) sum += h[c] * (double)dy[i * n + c];
    }
    return sum;
}

TEST(vanishing_gradient,
     "signals and gradients of each layer are those of plain loops and differences") {
    enum { L = 3, N = 2, n = 4 };
    for (int skip = 0; skip < 2; skip++) {
        llm_rng rng = llm_rng_seed(1);
        llm_arena arena = test_arena((N * n * (2 * L + 4) + 16 * 6) * sizeof(float));
        float x[N * n], dy[N * n], w[L * n * n];
        double signal[L + 1], gradient[L + 1];
        llm_rng_normal_fill(&rng, x, N * n);
        llm_rng_normal_fill(&rng, dy, N * n);
        llm_rng_normal_fill(&rng, w, L * n * n);
        llm_vanishing_gradient_profile(signal, gradient, x, dy, w, L, N, n, LLM_ACTIVATION_TANH,
                                       skip, &arena);
        CHECK(arena.used == 0);
        CHECK_NEAR(signal[0], sqrt((double)dot(x, x, N * n) / (N * n)), 1e-6);
        CHECK_NEAR(gradient[L], sqrt((double)dot(dy, dy, N * n) / (N * n)), 1e-6);
        for (size_t l = 0; l <= L; l++) { /* the upper part of the net, from the signals below it */
            float h[N * n];
            double square = 0.0, mean = 0.0;
            for (size_t i = 0; i < N * n; i++) {
                float unit[N * n] = {0.0f};
                unit[i] = 1.0f;
                h[i] = (float)va_loss(x, unit, w, l, N, n, skip);
                mean += (double)h[i] * (double)h[i] / (N * n);
            }
            CHECK_NEAR(signal[l], sqrt(mean), 1e-5);
            for (size_t i = 0; i < N * n; i++) {
                const float keep = h[i];
                h[i] = keep + 1e-3f;
                const double up = va_loss(h, dy, w + l * n * n, L - l, N, n, skip);
                const double step = (double)h[i];
                h[i] = keep - 1e-3f;
                const double d =
                    (up - va_loss(h, dy, w + l * n * n, L - l, N, n, skip)) / (step - (double)h[i]);
                square += d * d / (N * n);
                h[i] = keep;
            }
            CHECK_NEAR(gradient[l], sqrt(square), 1e-4 * (1.0 + gradient[l]));
        }
    }
}

/* Gradients of a random net, and what it ratio is from the first layer to the last. */
static double va_ratio(double *gradient, size_t L, size_t n, float sw2, int act, bool skip,
                       uint64_t seed) {
    const size_t N = 4;
    float *x = floats(N * n), *dy = floats(N * n), *w = floats(L * n * n);
    double *signal = doubles(L + 1);
    llm_rng rng = llm_rng_seed(seed);
    llm_arena arena = test_arena((N * n * (2 * L + 4) + 16 * 6) * sizeof(float));
    llm_rng_normal_fill(&rng, x, N * n);
    llm_rng_normal_fill(&rng, dy, N * n);
    llm_rng_normal_fill(&rng, w, L * n * n);
    for (size_t i = 0; i < L * n * n; i++) w[i] *= sqrtf(sw2 / (float)n);
    llm_vanishing_gradient_profile(signal, gradient, x, dy, w, L, N, n, act, skip, &arena);
    return gradient[0] / gradient[L];
}

TEST(vanishing_gradient, "the factor of each layer of a wide net is chi") {
    const int act[5] = {LLM_ACTIVATION_TANH, LLM_ACTIVATION_TANH, LLM_ACTIVATION_SIGMOID,
                        LLM_ACTIVATION_RELU, LLM_ACTIVATION_IDENTITY};
    const double sw2[5] = {1.5, 4.0, 4.0, 2.0, 0.8};
    const size_t L = 12, n = 256;
    double gradient[13];
    for (size_t k = 0; k < 5; k++) {
        double q, rate = 1.0;
        const double chi = llm_vanishing_gradient_chi(&q, sw2[k], act[k]);
        for (uint64_t seed = 1; seed <= 3; seed++) { /* the first layers have not settled yet */
            va_ratio(gradient, L, n, (float)sw2[k], act[k], false, seed);
            rate *= cbrt(llm_vanishing_gradient_rate(gradient, 4, L));
        }
        CHECK_NEAR(rate / chi, 1.0, 0.09); /* eight further sets of three: 0.957 to 1.030 */
    }
}

TEST(vanishing_gradient,
     "sigmoids vanish, tanh with large weights explodes, ReLU at 2/n does neither; "
     "skips save the sigmoid") {
    double gradient[31];
    for (uint64_t seed = 1; seed <= 3; seed++) {
        const double sigmoid =
            va_ratio(gradient, 20, 64, 1.0f, LLM_ACTIVATION_SIGMOID, false, seed);
        const double relu = va_ratio(gradient, 20, 128, 2.0f, LLM_ACTIVATION_RELU, false, seed);
        const double tanh_ = va_ratio(gradient, 30, 128, 4.0f, LLM_ACTIVATION_TANH, false, seed);
        const double skip = va_ratio(gradient, 20, 64, 1.0f, LLM_ACTIVATION_SIGMOID, true, seed);
        /* seeds 4 to 27: 1.4e-13 to 3.8e-13, 0.46 to 1.6, 42 to 171, 1.13 to 1.27 */
        CHECK(sigmoid < 1e-12 && relu > 0.2 && relu < 5.0 && tanh_ > 20.0);
        CHECK(skip > 0.5 && skip < 2.0);
    }
}

TEST(vanishing_gradient, "singular values of the Jacobian equal autograd's; of a linear net they "
                         "multiply") {
    llm_arena arena = test_arena(1 << 14);
    float s[5], w[3 * 16] = {0};
    for (int skip = 0; skip < 2; skip++) {
        llm_vanishing_gradient_jacobian_svs(s, golden("jacobian/%d/x", skip),
                                            golden("jacobian/%d/w", skip), 3, 5,
                                            LLM_ACTIVATION_TANH, skip, &arena);
        CHECK_GOLDEN(s, 5, 3e-6f, "jacobian/%d/s", skip);
        CHECK(arena.used == 0);
    }
    const float x[4] = {1.0f, -1.0f, 2.0f, 0.5f}, d[4] = {2.0f, -1.0f, 0.5f, 0.25f};
    for (size_t i = 0; i < 48; i++) w[i] = i % 16 / 4 == i % 4 ? d[i % 4] : 0.0f;
    llm_vanishing_gradient_jacobian_svs(s, x, w, 3, 4, LLM_ACTIVATION_IDENTITY, false, &arena);
    for (size_t i = 0; i < 4; i++) CHECK_NEAR(s[i], powf(fabsf(d[i]), 3.0f), 1e-6);
    llm_vanishing_gradient_jacobian_svs(s, x, w, 3, 4, LLM_ACTIVATION_IDENTITY, true, &arena);
    CHECK_NEAR(s[0], 27.0f, 1e-5);
    CHECK_NEAR(s[3], 0.0f, 1e-6); /* 1 - 1 */
    llm_vanishing_gradient_jacobian_svs(s, x, w, 0, 4, LLM_ACTIVATION_IDENTITY, false, &arena);
    for (size_t i = 0; i < 4; i++) CHECK_NEAR(s[i], 1.0f, 1e-6);
}

TEST(vanishing_gradient, "the rate of a geometric sequence is its factor, squared") {
    double gradient[6];
    for (size_t l = 0; l < 6; l++) gradient[l] = 7.0 * pow(1.25, (double)l);
    CHECK_NEAR(llm_vanishing_gradient_rate(gradient, 0, 5), 1.0 / (1.25 * 1.25), 1e-12);
    gradient[0] = 1e9;
    CHECK_NEAR(llm_vanishing_gradient_rate(gradient, 2, 3), 0.64, 1e-12);
    CHECK_ASSERTS(llm_vanishing_gradient_rate(gradient, 2, 2));
}

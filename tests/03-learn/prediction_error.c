/* @prediction_error */
#include "../test.h"

#include "../../llm.h"
#include "../arena.h"

static llm_prediction_error pe_new(size_t n) {
    llm_prediction_error e;
    memset(&e, 0, sizeof e);
    e.residual = doubles(n), e.leverage = doubles(n), e.internal = doubles(n);
    e.external = doubles(n), e.cook = doubles(n);
    return e;
}

static const float *pe_floats(const double *x, size_t n) {
    float *out = floats(n);
    for (size_t i = 0; i < n; i++) out[i] = (float)x[i];
    return out;
}

TEST(prediction_error,
     "residuals, leverage, studentized, Cook, PRESS and tests equal statsmodels") {
    const size_t shapes[3][2] = {{5, 1}, {13, 3}, {40, 4}};
    llm_arena arena = test_arena(1 << 16);
    for (size_t s = 0; s < 3; s++) {
        const size_t n = shapes[s][0], d = shapes[s][1];
        const float *x = golden("%zu/x", n), *y = golden("%zu/y", n);
        llm_prediction_error e = pe_new(n);
        CHECK(llm_prediction_error_residuals(&e, x, y, n, d, true, &arena));
        CHECK_GOLDEN(pe_floats(e.residual, n), n, 1e-6f, "%zu/residual", n);
        CHECK_GOLDEN(pe_floats(e.leverage, n), n, 1e-6f, "%zu/leverage", n);
        CHECK_GOLDEN(pe_floats(e.internal, n), n, 1e-6f, "%zu/internal", n);
        CHECK_GOLDEN(pe_floats(e.external, n), n, 1e-6f, "%zu/external", n);
        CHECK_GOLDEN(pe_floats(e.cook, n), n, 1e-6f, "%zu/cook", n);
        const double scalars[3] = {e.variance, e.press, e.watson};
        CHECK_GOLDEN(pe_floats(scalars, 3), 3, 1e-6f, "%zu/scalars", n);
        const float bp = (float)llm_prediction_error_breusch_pagan(e.residual, x, n, d, &arena);
        CHECK_GOLDEN(&bp, 1, 1e-5f, "%zu/bp", n);
        double trace = 0.0, left = 0.0;
        for (size_t i = 0; i < n; i++)
            trace += e.leverage[i], left += e.residual[i] * e.residual[i];
        CHECK_NEAR(trace, (double)(d + 1), 1e-12);
        CHECK_NEAR(e.cp, left / (double)n * (1.0 + 2.0 * (double)(d + 1) / (double)(n - d - 1)),
                   1e-12);
    }
    CHECK(arena.used == 0);
}

TEST(prediction_error, "the shortcut equals n fits that leave one out, without an intercept too") {
    enum { N = 13, D = 3 };
    const float *x = golden("13/x"), *y = golden("13/y");
    llm_arena arena = test_arena(1 << 16);
    llm_prediction_error e = pe_new(N);
    for (int intercept = 0; intercept < 2; intercept++) {
        double press = 0.0;
        for (size_t out = 0; out < N; out++) {
            double weight[N], w[D + 1];
            float fit;
            for (size_t i = 0; i < N; i++) weight[i] = i == out ? 0.0 : 1.0;
            llm_least_squares_fit(w, x, y, weight, N, D, intercept, &arena);
            llm_least_squares_predict(&fit, x + out * D, w, 1, D, intercept);
            press += pow((double)(y[out] - fit), 2.0);
        }
        CHECK(llm_prediction_error_residuals(&e, x, y, N, D, intercept, &arena));
        CHECK_NEAR(e.press, press, 1e-5 * press);
    }
    const float twice[8] = {1, 1, 2, 2, 3, 3, 5, 5};
    CHECK(!llm_prediction_error_residuals(&e, twice, y, 4, 2, true, &arena) && arena.used == 0);
    CHECK(isnan(llm_prediction_error_breusch_pagan(e.residual, twice, 4, 2, &arena)));
    CHECK(llm_prediction_error_residuals(&e, x, y, 4, 1, false, &arena)); /* one coefficient */
    CHECK_ASSERTS(llm_prediction_error_residuals(&e, x, y, 4, 3, true, &arena));
    CHECK_ASSERTS(llm_prediction_error_residuals(&e, NULL, y, 4, 0, false, &arena));
}

TEST(prediction_error,
     "fits of a sine: bias falls and variance rises with the degree, and the parts add up") {
    enum { N = 30, M = 40, R = 400 };
    const size_t degree[3] = {1, 3, 9};
    llm_arena arena = test_arena(1 << 18);
    llm_rng rng = llm_rng_seed(1);
    double bias[3], variance[3];
    for (size_t k = 0; k < 3; k++) {
        const size_t d = degree[k];
        float *x = floats(N * d), *y = floats(N), *at = floats(M * d), *f = floats(M),
              *f_hat = floats(R * M);
        double w[10], error = 0.0;
        for (size_t i = 0; i < M; i++) {
            const float t = -0.95f + 1.9f * (float)i / (float)(M - 1);
            f[i] = sinf(3.0f * t);
            for (size_t j = 0; j < d; j++) at[i * d + j] = powf(t, (float)(j + 1));
        }
        for (size_t r = 0; r < R; r++) {
            for (size_t i = 0; i < N; i++) {
                const float t = -1.0f + 2.0f * (float)i / (float)(N - 1);
                y[i] = sinf(3.0f * t) + 0.3f * llm_rng_normal(&rng);
                for (size_t j = 0; j < d; j++) x[i * d + j] = powf(t, (float)(j + 1));
            }
            llm_least_squares_fit(w, x, y, NULL, N, d, true, &arena);
            llm_least_squares_predict(f_hat + r * M, at, w, M, d, true);
            for (size_t i = 0; i < M; i++) {
                const double fresh = (double)f[i] + 0.3 * (double)llm_rng_normal(&rng);
                error += pow(fresh - (double)f_hat[r * M + i], 2.0) / (R * M);
            }
        }
        const llm_prediction_error_parts p = llm_prediction_error_biasvar(f_hat, f, 0.09, R, M);
        bias[k] = p.bias_sq;
        variance[k] = p.variance;
        CHECK_NEAR(p.noise + p.bias_sq + p.variance, error, 0.03 * error);
        CHECK(p.bias_error > 0.0 && p.variance_error > 0.0 && p.variance_error < 0.1 * p.variance);
    }
    CHECK(bias[0] > 5.0 * bias[1] && bias[1] > 5.0 * fabs(bias[2]));
    CHECK(variance[0] < variance[1] && variance[1] < variance[2]);
}

TEST(prediction_error, "bias and variance by hand; the .632 estimate") {
    const float f_hat[6] = {1, 2, 3, 2, 2, 5}, f[2] = {0, 3};
    /* means 2, 3; variances 1, 3; squared bias 4 - 1/3 and 0 - 1 */
    const llm_prediction_error_parts p = llm_prediction_error_biasvar(f_hat, f, 0.5, 3, 2);
    CHECK_NEAR(p.variance, 2.0, 1e-12);
    CHECK_NEAR(p.bias_sq, (4.0 - 1.0 / 3.0 - 1.0) / 2.0, 1e-12);
    CHECK_NEAR(p.variance_error, sqrt(1.0 + 9.0) / 2.0, 1e-12);
    CHECK_NEAR(p.bias_error, sqrt((16.0 + 2.0 / 3.0) / 3.0 + 2.0) / 2.0, 1e-12);
    CHECK(p.noise == 0.5);
    CHECK_ASSERTS(llm_prediction_error_biasvar(f_hat, f, 0.5, 1, 2));
    CHECK_ASSERTS(llm_prediction_error_biasvar(f_hat, f, 0.5, 2, 0));
    CHECK_NEAR(llm_prediction_error_632(1.0, 2.0), 1.632, 1e-12);
    CHECK_NEAR(llm_prediction_error_632(0.5, 0.0), 0.184, 1e-12);
    CHECK_NEAR(llm_prediction_error_biasvar(f_hat, f, 0.5, 2, 1).noise, 0.5, 0.0);
}

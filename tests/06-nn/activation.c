/* @activation */
#include "../test.h"

#include "../../llm.h"

TEST(activation,
     "every kind equals torch with its gradient, at +-{0, 1e-3, 1, 3, 10, 50} and between") {
    size_t n = 0;
    const float *x = golden_n(&n, "all/x"), *dy = golden("all/dy");
    for (int kind = 0; kind < LLM_ACTIVATION_COUNT; kind++) {
        float *y = floats(n), *dx = zeros(n), *in_place = floats(n);
        llm_activation_forward(y, x, n, kind);
        CHECK_GOLDEN(y, n, 1e-6f, "%d/y", kind); /* some ulp of 1 + |y| */
        llm_activation_backward(dx, dy, x, n, kind);
        CHECK_GOLDEN(dx, n, 2e-6f, "%d/dx", kind);
        llm_activation_backward(dx, dy, x, n, kind); /* adds */
        for (size_t i = 0; i < n; i++) dx[i] *= 0.5f;
        CHECK_GOLDEN(dx, n, 2e-6f, "%d/dx", kind);
        memcpy(in_place, x, n * sizeof(float));
        llm_activation_forward(in_place, in_place, n, kind);
        CHECK_ALL_NEAR(in_place, y, n, 0.0f);
    }
}

TEST(activation, "the slope agrees with differences of the value, for every kind") {
    enum { N = 61 };
    for (int kind = 0; kind < LLM_ACTIVATION_COUNT; kind++) {
        float x[N], dy[N], dx[N] = {0.0f};
        for (size_t i = 0; i < N; i++) { /* -4.52 to 4.48, away from the kinks at 0 and +-3 */
            x[i] = 0.15f * (float)i - 4.52f;
            dy[i] = i % 2 ? 1.0f : -0.5f;
        }
        llm_activation_backward(dx, dy, x, N, kind);
        /* the values are float: an error of 1e-7 of up to 20, over a step of 0.01 */
        CHECK_GRAD(dx, x, N, 1e-2f, 5e-4f,
                   (double)dy[i_] * (double)llm_activation_value(x[i_], kind));
    }
}

TEST(activation, "the fast loops cover every element once and agree with the table") {
    const size_t sizes[] = {0, 1, 2, 7, 8, 31, 64, 1001};
    const int kinds[] = {LLM_ACTIVATION_GELU_TANH, LLM_ACTIVATION_SILU, LLM_ACTIVATION_RELU};
    for (size_t s = 0; s < 8; s++)
        for (size_t k = 0; k < 3; k++) {
            const size_t n = sizes[s];
            float *x = floats(n), *y = floats(n), *dx = zeros(n), *dy = floats(n);
            for (size_t i = 0; i < n; i++) {
                x[i] = (float)(i % 97) / 20.0f - 2.4f;
                dy[i] = 1.0f + (float)(i % 3);
                dx[i] = 10.0f;
            }
            llm_activation_forward(y, x, n, kinds[k]);
            llm_activation_backward(dx, dy, x, n, kinds[k]);
            for (size_t i = 0; i < n; i++) {
                CHECK_NEAR(y[i], llm_activation_value(x[i], kinds[k]), 1e-6f);
                CHECK_NEAR(dx[i], 10.0f + dy[i] * llm_activation_slope(x[i], kinds[k]), 3e-6f);
            }
        }
}

TEST(activation, "large and infinite inputs give limits, NaN gives NaN") {
    for (int kind = 0; kind < LLM_ACTIVATION_COUNT; kind++) {
        const float x[5] = {1e4f, -1e4f, 300.0f, -300.0f, NAN};
        float y[5], dx[5] = {0.0f}, ones[5] = {1.0f, 1.0f, 1.0f, 1.0f, 1.0f};
        llm_activation_forward(y, x, 5, kind);
        llm_activation_backward(dx, ones, x, 5, kind);
        for (size_t i = 0; i < 4; i++) CHECK(isfinite(y[i]) && isfinite(dx[i]));
        CHECK(isnan(y[4]));
        /* bounded, of slope 0, or a straight line: the slope at 300 is the one at 10000 */
        if (kind != LLM_ACTIVATION_RELU_SQUARED && kind != LLM_ACTIVATION_SOFTSIGN)
            CHECK(dx[0] == dx[2] && dx[1] == dx[3]);
    }
    CHECK(llm_activation_value(INFINITY, LLM_ACTIVATION_SOFTPLUS) == INFINITY);
    CHECK(llm_activation_value(-INFINITY, LLM_ACTIVATION_SIGMOID) == 0.0f);
    CHECK(llm_activation_value(-INFINITY, LLM_ACTIVATION_RELU) == 0.0f);
    float y[1], x[1] = {1.0f};
    CHECK_ASSERTS(llm_activation_forward(y, x, 1, LLM_ACTIVATION_COUNT));
    CHECK_ASSERTS(llm_activation_backward(y, x, x, 1, -1));
}

TEST(activation,
     "GELU's tail keeps its digits; its two forms differ by more than 4e-4, less than 5e-4") {
    /* gelu(-5) = -5 Phi(-5), with Phi(-5) = 2.866515719e-7 from the table */
    CHECK_NEAR(llm_activation_value(-5.0f, LLM_ACTIVATION_GELU), -5.0 * 2.866515719e-7, 1e-12);
    double gap = 0.0;
    for (int i = -6000; i <= 6000; i++) {
        const float x = (float)i / 1000.0f;
        gap = fmax(gap, fabs((double)llm_activation_value(x, LLM_ACTIVATION_GELU) -
                             (double)llm_activation_value(x, LLM_ACTIVATION_GELU_TANH)));
    }
    CHECK(gap > 4e-4 && gap < 5e-4);
}

TEST(activation, "the moments equal SciPy's integrals and a Monte Carlo mean") {
    enum { SAMPLES = 20000 };
    llm_rng rng = llm_rng_seed(1);
    float *z = floats(SAMPLES);
    llm_rng_normal_fill(&rng, z, SAMPLES);
    const float *want = golden("all/moments");
    for (int kind = 0; kind < LLM_ACTIVATION_COUNT; kind++) {
        double square = NAN, slope = NAN, sampled = 0.0, sampled_square = 0.0;
        llm_activation_moments(&square, &slope, kind);
        CHECK_NEAR(square, want[2 * kind], 2e-6); /* the functions are float */
        CHECK_NEAR(slope, want[2 * kind + 1], 2e-6);
        for (size_t i = 0; i < SAMPLES; i++) {
            const double y = (double)llm_activation_value(z[i], kind);
            sampled += y * y / SAMPLES;
            sampled_square += y * y * y * y / SAMPLES;
        }
        const double deviation = sqrt((sampled_square - sampled * sampled) / SAMPLES);
        CHECK_NEAR(sampled, square, 4.0 * deviation);
    }
    double square = 0.0, slope = 0.0;
    llm_activation_moments(&square, &slope, LLM_ACTIVATION_RELU);
    CHECK_NEAR(square, 0.5, 1e-9); /* half of the normal distribution's variance */
    CHECK_NEAR(slope, 0.5, 1e-9);
}

/* y (N,W) <- x (N,W) through layers of weights drawn with deviation std. */
static void activation_stack(float *y, const float *x, size_t N, size_t W, size_t layers, float std,
                             int kind, uint64_t seed) {
    llm_rng rng = llm_rng_seed(seed);
    float *w = floats(W * W), *h = floats(N * W);
    memcpy(y, x, N * W * sizeof(float));
    for (size_t l = 0; l < layers; l++) {
        for (size_t i = 0; i < W * W; i++) w[i] = std * llm_rng_normal(&rng);
        llm_matmul_forward(h, y, w, NULL, N, W, W);
        llm_activation_forward(y, h, N * W, kind);
    }
    free(w), free(h);
}

TEST(activation, "five layers of the identity are one matrix; five of any other kind are not") {
    enum { W = 12, N = W + 10 };
    float x[N * W], y[N * W], matrix[W * W], want[W];
    llm_rng rng = llm_rng_seed(2);
    for (size_t i = 0; i < N * W; i++)
        x[i] = i < W * W ? (i / W == i % W ? 1.0f : 0.0f) : 2.0f * llm_rng_normal(&rng);
    for (int kind = 0; kind < LLM_ACTIVATION_COUNT; kind++) {
        activation_stack(y, x, N, W, 5, 0.3f, kind, 3);
        for (size_t i = 0; i < W * W; i++)
            matrix[i] = y[i % W * W + i / W]; /* images of the basis */
        double gap = 0.0;
        for (size_t n = W; n < N; n++) {
            llm_matmul_forward(want, x + n * W, matrix, NULL, 1, W, W);
            for (size_t i = 0; i < W; i++) gap = fmax(gap, fabs((double)(want[i] - y[n * W + i])));
        }
        CHECK(kind == LLM_ACTIVATION_IDENTITY ? gap < 1e-5 : gap > 1e-2);
    }
}

TEST(activation,
     "SELU keeps mean 0 and variance 1 through 50 layers, where tanh and ReLU lose it") {
    enum { W = 200, N = 20, SEEDS = 3, LAYERS = 50 };
    const int kinds[3] = {LLM_ACTIVATION_SELU, LLM_ACTIVATION_TANH, LLM_ACTIVATION_RELU};
    float *w = floats(W * W), *h = floats(N * W),
          *y[3] = {floats(N * W), floats(N * W), floats(N * W)};
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        llm_rng rng = llm_rng_seed(100 + seed);
        for (size_t k = 0; k < 3; k++) { /* three stacks of the same weights */
            llm_rng start = rng;
            llm_rng_normal_fill(&start, y[k], N * W);
        }
        rng = llm_rng_seed(seed);
        for (size_t l = 0; l < LAYERS; l++) {
            for (size_t i = 0; i < W * W; i++) w[i] = llm_rng_normal(&rng) / sqrtf(W);
            for (size_t k = 0; k < 3; k++) {
                llm_matmul_forward(h, y[k], w, NULL, N, W, W);
                llm_activation_forward(y[k], h, N * W, kinds[k]);
            }
        }
        for (size_t k = 0; k < 3; k++) {
            double mean = 0.0, square = 0.0;
            for (size_t i = 0; i < N * W; i++) {
                mean += (double)y[k][i] / (N * W);
                square += (double)y[k][i] * (double)y[k][i] / (N * W);
            }
            /* seen over 24 further seeds: SELU's mean -0.03 to 0.06 and variance 0.94 to 1.06, the
             * mean square of tanh 0.007 to 0.014, of ReLU below 1e-14 */
            if (k == 0) CHECK_NEAR(mean, 0.0, 0.1);
            if (k == 0) CHECK_NEAR(square - mean * mean, 1.0, 0.15);
            if (k > 0) CHECK(square < 0.05);
        }
    }
}

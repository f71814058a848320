/* @input_layer */
#include "../test.h"

#include "../../llm.h"
#include "../arena.h"

/* The table of the golden values: a number with a flag, a robust one clipped, an hour with a flag,
 * a class of 4, a class of 3 with a learned row of 2. */
static void il_columns(llm_input_layer_column *c) {
    memset(c, 0, 5 * sizeof *c);
    c[0].kind = LLM_INPUT_LAYER_NUMBER, c[0].flag = true;
    c[1].kind = LLM_INPUT_LAYER_ROBUST, c[1].clip = 1.5f;
    c[2].kind = LLM_INPUT_LAYER_CYCLE, c[2].period = 24.0f, c[2].flag = true;
    c[3].kind = LLM_INPUT_LAYER_CLASS, c[3].classes = 4;
    c[4].kind = LLM_INPUT_LAYER_EMBED, c[4].classes = 3, c[4].width = 2;
}

static float *il_table(const char *name, size_t n) {
    float *x = golden_n(NULL, "%s/x", name);
    for (size_t i = 0; i < n; i++)
        if (x[i] == -999.0f) x[i] = NAN;
    return x;
}

TEST(input_layer, "statistics and features equal scikit-learn's, on training rows and fresh ones") {
    llm_input_layer_column c[5];
    llm_arena arena = test_arena(1 << 14);
    const float *w = golden("fit/w");
    il_columns(c);
    CHECK(llm_input_layer_width(c, 5) == 12 && llm_input_layer_weights(c, 5) == 8);
    CHECK(llm_input_layer_width(c, 0) == 0 && llm_input_layer_features(&c[2]) == 3);
    llm_input_layer_fit(c, il_table("train", 115), 23, 5, &arena);
    CHECK(arena.used == 0);
    const float number[2] = {c[0].centre, c[0].scale}, robust[2] = {c[1].centre, c[1].scale};
    CHECK_GOLDEN(number, 2, 1e-6f, "fit/number");
    CHECK_GOLDEN(robust, 2, 1e-6f, "fit/robust");
    CHECK(c[2].centre == 0.0f && c[2].scale == 1.0f && c[3].scale == 1.0f);
    for (size_t k = 0; k < 2; k++) {
        const char *name = k ? "fresh" : "train";
        const size_t N = k ? 7 : 23;
        const float *x = il_table(name, 5 * N), *dy = golden("%s/dy", name);
        float *y = floats(12 * N), *dw = zeros(8);
        llm_input_layer_apply(y, x, c, w, N, 5);
        CHECK_GOLDEN(y, 12 * N, 1e-6f, "%s/y", name);
        for (size_t twice = 0; twice < 2; twice++) llm_input_layer_backward(dw, dy, x, c, N, 5);
        for (size_t i = 0; i < 8; i++) dw[i] /= 2.0f;
        CHECK_GOLDEN(dw, 8, 1e-6f, "%s/dw", name);
    }
}

TEST(input_layer, "two tables: each column has its own rows") {
    llm_input_layer_column c[3];
    memset(c, 0, sizeof c);
    c[0].kind = LLM_INPUT_LAYER_EMBED, c[0].classes = 1, c[0].width = 1, c[0].flag = true;
    c[1].kind = LLM_INPUT_LAYER_NUMBER, c[1].scale = 2.0f;
    c[2].kind = LLM_INPUT_LAYER_EMBED, c[2].classes = 2, c[2].width = 2;
    const float x[6] = {0.0f, 4.0f, 1.0f, NAN, NAN, 0.5f};
    const float w[8] = {10.0f, 11.0f, 20.0f, 21.0f, 22.0f, 23.0f, 24.0f, 25.0f};
    const float want[10] = {10.0f, 0.0f, 2.0f, 22.0f, 23.0f, 11.0f, 1.0f, 0.0f, 24.0f, 25.0f};
    const float dy[10] = {1.0f, 9.0f, 9.0f, 2.0f, 3.0f, 4.0f, 9.0f, 9.0f, 5.0f, 6.0f};
    const float grad[8] = {1.0f, 4.0f, 0.0f, 0.0f, 2.0f, 3.0f, 5.0f, 6.0f};
    float y[10], dw[8] = {0};
    CHECK(llm_input_layer_width(c, 3) == 5 && llm_input_layer_weights(c, 3) == 8);
    llm_input_layer_apply(y, x, c, w, 2, 3);
    CHECK_ALL_NEAR(y, want, 10, 0.0f);
    llm_input_layer_backward(dw, dy, x, c, 2, 3);
    CHECK_ALL_NEAR(dw, grad, 8, 0.0f);
    const float odd[4] = {-1.0f, 2.0f, 1.0f, INFINITY};
    for (size_t i = 0; i < 4; i++) CHECK(llm_input_layer_class(&c[2], odd[i]) == (i == 2 ? 1 : 2));
}

TEST(input_layer, "constant, empty and single columns; quantiles between two values") {
    llm_input_layer_column c[3];
    llm_arena arena = test_arena(1 << 14);
    memset(c, 0, sizeof c);
    c[1].kind = LLM_INPUT_LAYER_ROBUST;
    const float x[6] = {7.0f, 3.0f, NAN, 7.0f, 3.0f, NAN};
    llm_input_layer_fit(c, x, 2, 3, &arena);
    CHECK(c[0].centre == 7.0f && c[0].scale == 1.0f && c[1].centre == 3.0f && c[1].scale == 1.0f);
    CHECK(c[2].centre == 0.0f && c[2].scale == 1.0f);
    float y[6];
    llm_input_layer_apply(y, x, c, NULL, 2, 3);
    for (size_t i = 0; i < 6; i++) CHECK(y[i] == 0.0f);
    llm_input_layer_fit(c, NULL, 0, 3, &arena);
    CHECK(c[0].centre == 0.0f && c[0].scale == 1.0f);
    const float key[4] = {4.0f, 1.0f, 2.0f, 8.0f};
    const size_t rank[4] = {1, 2, 0, 3};
    CHECK(llm_input_layer_quantile(key, rank, 4, 0.25) == 1.75f);
    CHECK(llm_input_layer_quantile(key, rank, 4, 1.0) == 8.0f);
    CHECK(llm_input_layer_quantile(key, rank, 1, 0.75) == 1.0f);
    c[0].clip = 0.5f, c[0].centre = 0.0f;
    llm_input_layer_apply(y, key, c, NULL, 1, 1);
    CHECK(y[0] == 0.5f);
}

TEST(input_layer, "hour 23 and hour 0 are as near as 0 and 1") {
    llm_input_layer_column c[1];
    memset(c, 0, sizeof c);
    c[0].kind = LLM_INPUT_LAYER_CYCLE, c[0].period = 24.0f;
    const float x[4] = {23.0f, 0.0f, 1.0f, 24.0f};
    float y[8];
    llm_input_layer_apply(y, x, c, NULL, 4, 1);
    const float back = hypotf(y[0] - y[2], y[1] - y[3]), on = hypotf(y[4] - y[2], y[5] - y[3]);
    CHECK_NEAR(back, on, 1e-6);
    CHECK_NEAR(on, 2.0f * sinf(LLM_PI / 24.0f), 1e-6);
    CHECK_NEAR(y[6], y[2], 1e-6);
    CHECK_NEAR(y[7], y[3], 1e-6);
}

TEST(input_layer, "bytes become the normalised image of torch, channels first") {
    const float *x = golden("image/x");
    unsigned char bytes[90];
    float y[90];
    for (size_t i = 0; i < 90; i++) bytes[i] = (unsigned char)x[i];
    llm_input_layer_image(y, bytes, golden("image/mean"), golden("image/deviation"), 2, 3, 5, 3);
    CHECK_GOLDEN(y, 90, 1e-6f, "image/y");
}

/* Steps of gradient descent, with the largest stable rate, until the squared error of a linear
 * model of two columns has fallen to 1% (of what can be fitted). */
static size_t il_steps(const float *x, const float *t, size_t N) {
    double a[3] = {0.0, 0.0, 0.0}, w[2] = {0.0, 0.0}, c[2] = {0.0, 0.0}, first = 0.0;
    for (size_t i = 0; i < N; i++) {
        const double u = (double)x[2 * i], v = (double)x[2 * i + 1];
        a[0] += u * u / (double)N, a[1] += u * v / (double)N, a[2] += v * v / (double)N;
        c[0] += u * (double)t[i] / (double)N, c[1] += v * (double)t[i] / (double)N;
    }
    const double half = 0.5 * (a[0] + a[2]), det = a[0] * a[2] - a[1] * a[1];
    const double top = half + sqrt(half * half - det), lr = 1.0 / top;
    const double best[2] = {(a[2] * c[0] - a[1] * c[1]) / det, (a[0] * c[1] - a[1] * c[0]) / det};
    for (size_t step = 0; step < 20000000; step++) {
        const double e[2] = {w[0] - best[0], w[1] - best[1]};
        const double excess = a[0] * e[0] * e[0] + 2.0 * a[1] * e[0] * e[1] + a[2] * e[1] * e[1];
        if (step == 0) first = excess;
        if (excess < 0.01 * first) return step;
        const double g0 = a[0] * e[0] + a[1] * e[1], g1 = a[1] * e[0] + a[2] * e[1];
        w[0] -= lr * g0, w[1] -= lr * g1;
    }
    return 20000000;
}

TEST(input_layer, "columns of scales 1 and 1000 cost gradient descent a million times the steps") {
    enum { N = 50 };
    llm_input_layer_column c[2];
    llm_arena arena = test_arena(1 << 14);
    for (uint64_t seed = 1; seed <= 3; seed++) {
        float x[2 * N], t[N], y[2 * N];
        llm_rng rng = llm_rng_seed(seed);
        memset(c, 0, sizeof c);
        for (size_t i = 0; i < N; i++) {
            x[2 * i] = llm_rng_normal(&rng), x[2 * i + 1] = 1000.0f * llm_rng_normal(&rng);
            t[i] = x[2 * i] + 0.001f * x[2 * i + 1];
        }
        llm_input_layer_fit(c, x, N, 2, &arena);
        llm_input_layer_apply(y, x, c, NULL, N, 2);
        const size_t scaled = il_steps(y, t, N), raw = il_steps(x, t, N);
        CHECK(scaled < 20);
        CHECK(raw > 200000 * scaled); /* seeds 4 to 27: 5.6e5 to 1.6e6, the squares' ratio */
    }
}

TEST(input_layer, "a wide table before another; numbers are cut on both sides") {
    llm_input_layer_column c[3];
    memset(c, 0, sizeof c);
    c[0].kind = LLM_INPUT_LAYER_EMBED, c[0].classes = 1, c[0].width = 2;
    c[1].kind = LLM_INPUT_LAYER_EMBED, c[1].classes = 1, c[1].width = 1;
    c[2].kind = LLM_INPUT_LAYER_NUMBER, c[2].scale = 1.0f, c[2].clip = 3.0f;
    const float x[6] = {0.0f, 1.0f, -5.0f, 1.0f, 0.0f, 5.0f};
    const float w[6] = {1.0f, 2.0f, 3.0f, 4.0f, 5.0f, 6.0f};
    const float want[8] = {1.0f, 2.0f, 6.0f, -3.0f, 3.0f, 4.0f, 5.0f, 3.0f};
    const float grad[6] = {1.0f, 2.0f, 3.0f, 4.0f, 5.0f, 6.0f};
    float y[8], dw[6] = {0};
    llm_input_layer_apply(y, x, c, w, 2, 3);
    CHECK_ALL_NEAR(y, want, 8, 0.0f);
    llm_input_layer_backward(dw, want, x, c, 2, 3);
    CHECK_ALL_NEAR(dw, grad, 6, 0.0f);
}

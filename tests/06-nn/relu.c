/* @relu */
#include "../test.h"

#include "../../llm.h"

TEST(relu, "relu and relu6, in place too, and their gradients from one bit each equal torch's") {
    const size_t size[5] = {1, 31, 32, 33, 67};
    for (size_t k = 0; k < 10; k++) {
        const size_t n = size[k / 2], words = llm_relu_words(n);
        const char *name = k % 2 ? "relu6" : "relu";
        const float cap = k % 2 ? 6.0f : INFINITY;
        const float *x = golden("%zu/x", n), *dy = golden("%zu/dy", n);
        uint32_t *mask = (uint32_t *)test_memory(words, sizeof(uint32_t));
        float *y = floats(n), *dx = zeros(n), *full = zeros(n), *plain = floats(n);
        CHECK(words == (n + 31) / 32);
        memcpy(y, x, n * sizeof(float));
        llm_relu_forward(y, mask, y, n, cap);
        llm_relu_forward(plain, NULL, x, n, cap);
        CHECK_GOLDEN(y, n, 0.0f, "%zu/%s_y", n, name);
        CHECK_ALL_NEAR(plain, y, n, 0.0f);
        for (size_t twice = 0; twice < 2; twice++) llm_relu_backward(dx, dy, mask, n);
        for (size_t i = 0; i < n; i++) dx[i] /= 2.0f;
        CHECK_GOLDEN(dx, n, 0.0f, "%zu/%s_dx", n, name);
        if (k % 2) continue;
        llm_activation_backward(full, dy, x, n, LLM_ACTIVATION_RELU);
        CHECK_ALL_NEAR(dx, full, n, 0.0f);
    }
    CHECK(llm_relu_words(0) == 0);
}

TEST(relu, "NaN stays, infinity is cut by a cap, blocked gradients are not read") {
    const float x[4] = {NAN, INFINITY, -INFINITY, 2.0f}, dy[4] = {1.0f, 2.0f, NAN, 4.0f};
    float y[4], dx[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    uint32_t mask[1];
    llm_relu_forward(y, mask, x, 4, INFINITY);
    CHECK(isnan(y[0]) && isinf(y[1]) && y[2] == 0.0f && y[3] == 2.0f);
    llm_relu_forward(y, mask, x, 4, 6.0f);
    CHECK(y[1] == 6.0f && mask[0] == 8);
    llm_relu_backward(dx, dy, mask, 4);
    CHECK(dx[0] == 0.0f && dx[1] == 0.0f && dx[2] == 0.0f && dx[3] == 4.0f);
}

TEST(relu, "of standard normals the mean is 1/sqrt(2 pi) and the mean square 1/2") {
    const size_t n = 200000;
    float *x = floats(n);
    double sum = 0.0, square = 0.0;
    llm_rng rng = llm_rng_seed(1);
    llm_rng_normal_fill(&rng, x, n);
    llm_relu_forward(x, NULL, x, n, INFINITY);
    for (size_t i = 0; i < n; i++) sum += (double)x[i], square += (double)x[i] * (double)x[i];
    CHECK_NEAR(sum / (double)n, 0.39894228, 0.004); /* 3 deviations: 0.584 / sqrt(n) = 0.0013 */
    CHECK_NEAR(square / (double)n, 0.5, 0.0075);    /* sqrt(1.25 / n) = 0.0025 */
}

/* f(x) of the piecewise linear net, in double. */
static double re_net(const float *w, const float *b, const float *v, size_t U, double x) {
    double y = 0.0;
    for (size_t u = 0; u < U; u++) y += (double)v[u] * fmax(0.0, (double)w[u] * x + (double)b[u]);
    return y;
}

TEST(relu,
     "corners and slopes rebuild a net of one hidden layer at 1000 points, and its integral") {
    enum { U = 23 };
    float w[U], b[U], v[U], corner[U], slope[U + 1];
    llm_rng rng = llm_rng_seed(2);
    llm_arena arena = {(unsigned char *)test_memory(4096, 1), 4096, 0, 4096};
    llm_rng_normal_fill(&rng, w, U);
    llm_rng_normal_fill(&rng, b, U);
    llm_rng_normal_fill(&rng, v, U);
    w[3] = 0.0f, b[3] = 2.0f; /* a constant: no corner */
    w[5] = 2.0f * w[4], b[5] = 2.0f * b[4];
    const size_t count = llm_relu_regions_1d(corner, slope, w, b, v, U, &arena);
    CHECK(count == U - 1 && arena.used == 0);
    for (size_t k = 1; k < count; k++) CHECK(corner[k - 1] <= corner[k]);

    size_t k = 0;
    double y = re_net(w, b, v, U, -5.0), at = -5.0, integral = 0.0, brute = 0.0;
    while (k < count && (double)corner[k] < at) k++;
    for (int i = 1; i <= 1000; i++) {
        const double x = -5.0 + (double)i / 100.0;
        while (k < count && (double)corner[k] < x) { /* walk to the corner, then on */
            const double step = (double)corner[k] - at;
            integral += step * (y + 0.5 * step * (double)slope[k]);
            y += step * (double)slope[k];
            at = (double)corner[k++];
        }
        integral += (x - at) * (y + 0.5 * (x - at) * (double)slope[k]);
        y += (x - at) * (double)slope[k];
        at = x;
        CHECK_NEAR(y, re_net(w, b, v, U, x), 1e-4);
    }
    for (int i = 0; i < 200000; i++)
        brute += re_net(w, b, v, U, -5.0 + ((double)i + 0.5) / 20000.0) / 20000.0;
    CHECK_NEAR(integral, brute, 1e-3);
    slope[0] = NAN;
    CHECK(llm_relu_regions_1d(corner, slope, w, b, v, 0, &arena) == 0 && slope[0] == 0.0f);
    const float left[3] = {-2.0f, 1.0f, 3.0f}; /* 3 max(0, 1 - 2 x) */
    CHECK(llm_relu_regions_1d(corner, slope, left, left + 1, left + 2, 1, &arena) == 1);
    CHECK(corner[0] == 0.5f && slope[0] == -6.0f && slope[1] == 0.0f);
}

TEST(relu,
     "biases at -10 kill every unit: no gradient; revived ones compute the same and get one") {
    enum { N = 20, C = 3, U = 8, O = 2 };
    const size_t size[3] = {C, U, O};
    const llm_mlp m = {size, 2, LLM_ACTIVATION_RELU, LLM_OUTPUT_LAYER_MSE};
    const llm_mlp_view first = llm_mlp_layer(&m, 1), last = llm_mlp_layer(&m, 2);
    float *w = floats(50), *g = zeros(50), *cache = floats(2 * N * U), x[N * C], t[N * O];
    float y[N * O], after[N * O];
    bool dead[U];
    llm_arena arena = {(unsigned char *)test_memory(1 << 14, 1), 1 << 14, 0, 1 << 14};
    llm_rng rng = llm_rng_seed(3);
    CHECK(llm_mlp_param_count(&m) == 50);
    llm_mlp_init(w, &m, &rng);
    llm_rng_normal_fill(&rng, x, N * C);
    llm_rng_normal_fill(&rng, t, N * O);
    llm_mlp_forward(y, cache, &m, w, x, N);
    CHECK(llm_relu_dead(dead, cache, N, U) == 0);
    for (size_t u = 0; u < U; u++) CHECK(!dead[u]);
    for (size_t u = 0; u < U; u++) w[first.bias + u] = u < 5 ? -10.0f : w[first.bias + u];
    llm_mlp_forward(y, cache, &m, w, x, N);
    CHECK(llm_relu_dead(dead, cache, N, U) == 5);
    llm_mlp_gradient(g, &m, w, x, NULL, t, N, &arena);
    for (size_t u = 0; u < U; u++) {
        CHECK(dead[u] == (u < 5));
        for (size_t i = 0; i < C; i++) CHECK((g[C * u + i] == 0.0f) == dead[u]);
        CHECK((g[first.bias + u] == 0.0f) == dead[u]);
    }

    float same[3 * C], z[C];
    memcpy(same, w + 5 * C, sizeof same);
    llm_rng copy = rng;
    llm_relu_revive(w, w + first.bias, w + last.weight, dead, U, C, O, &rng);
    CHECK_ALL_NEAR(w + 5 * C, same, 3 * C, 0.0f);
    for (size_t u = 0; u < 5; u++) {
        llm_rng_normal_fill(&copy, z, C);
        for (size_t i = 0; i < C; i++) CHECK_NEAR(w[u * C + i], z[i] * sqrtf(2.0f / 3.0f), 1e-6);
        CHECK(w[first.bias + u] == 0.0f);
    }
    llm_mlp_forward(after, cache, &m, w, x, N);
    CHECK_ALL_NEAR(after, y, N * O, 0.0f);
    CHECK(llm_relu_dead(dead, cache, N, U) == 0);
    for (size_t i = 0; i < 50; i++) g[i] = 0.0f;
    llm_mlp_gradient(g, &m, w, x, NULL, t, N, &arena);
    for (size_t u = 0; u < U; u++) CHECK(g[last.weight + u] != 0.0f);
    CHECK(llm_relu_dead(dead, cache, 0, U) == U);
}

TEST(relu, "one number alone goes through, and a unit at 0 is dead") {
    float *z = floats(4), dx[1] = {1.0f};
    const float dy[1] = {3.0f};
    const uint32_t on[1] = {1};
    bool dead[2] = {false, false};
    llm_relu_backward(dx, dy, on, 1);
    CHECK(dx[0] == 4.0f);
    z[0] = 1.0f, z[1] = 0.0f, z[2] = -1.0f, z[3] = 0.0f;
    CHECK(llm_relu_dead(dead, z, 2, 2) == 1 && !dead[0] && dead[1]);
}

/* @kan */
#include "../test.h"

#include "../../llm.h"

enum { I = 3, O = 2, G = 4, N = 7 };

TEST(kan,
     "the basis and its derivatives equal scipy's BSpline, at and between even and uneven knots") {
    const char *const name[2] = {"even", "uneven"};
    const size_t knots[2] = {12, 11}, points[2] = {25, 24};
    for (size_t k = 0; k < 2; k++) {
        const size_t P = knots[k] - 4;
        float *value = zeros(points[k] * P), *slope = zeros(points[k] * P);
        const float *x = golden("basis/%s/x", name[k]), *t = golden("basis/%s/t", name[k]);
        for (size_t n = 0; n < points[k]; n++) {
            double b[4], s[4];
            const int first = llm_kan_basis(b, s, t, P - 3, x[n]);
            for (int a = 0; a < 4; a++) {
                if (first + a < 0 || first + a >= (int)P) {
                    CHECK(b[a] == 0.0 && s[a] == 0.0);
                    continue;
                }
                value[n * P + (size_t)(first + a)] = (float)b[a];
                slope[n * P + (size_t)(first + a)] = (float)s[a];
            }
        }
        CHECK_GOLDEN(value, points[k] * P, 2e-7f, "basis/%s/value", name[k]);
        CHECK_GOLDEN(slope, points[k] * P, 3e-7f, "basis/%s/slope", name[k]);
    }
}

TEST(kan,
     "inside the grid the functions add up to 1 and their slopes to 0; off the knots all are 0") {
    const llm_kan k = {1, 1, 5};
    float t[12];
    double b[4], s[4];
    llm_kan_grid(t, &k, -1.0f, 1.5f);
    CHECK_NEAR(t[3], -1.0f, 1e-7f);
    CHECK_NEAR(t[8], 1.5f, 1e-7f);
    for (float x = -1.0f; x <= 1.5f; x += 0.03125f) {
        CHECK(llm_kan_basis(b, s, t, 5, x) >= 0);
        CHECK_NEAR(b[0] + b[1] + b[2] + b[3], 1.0, 1e-12);
        CHECK_NEAR(s[0] + s[1] + s[2] + s[3], 0.0, 1e-11);
    }
    const float off[5] = {-2.5001f, 3.0f, INFINITY, -INFINITY, NAN};
    for (size_t i = 0; i < 5; i++) {
        llm_kan_basis(b, s, t, 5, off[i]);
        for (size_t a = 0; a < 4; a++) CHECK(b[a] == 0.0 && s[a] == 0.0);
    }
    float w[10], y[1];
    for (size_t i = 0; i < 10; i++) w[i] = 0.5f;
    llm_kan_forward(y, &k, w, t, &off[1], 1); /* only silu is left */
    CHECK_NEAR(y[0], 0.5 * 3.0 / (1.0 + exp(-3.0)), 1e-6);
    CHECK_ASSERTS(llm_kan_grid(t, &k, 1.0f, 1.0f));
    float *edge = floats(10), *moved = zeros(10); /* left of the grid: B_0 alone, none beside c */
    const float far[1] = {-2.25f}, dy[1] = {1.0f};
    for (size_t i = 0; i < 10; i++) edge[i] = 1.0f;
    llm_kan_forward(y, &k, edge, t, far, 1);
    llm_kan_backward(NULL, moved, dy, &k, edge, t, far, 1, 0.0f);
    CHECK_NEAR(moved[0], 0.125 / 6.0, 1e-7); /* half an interval into it: (1/2)^3 / 6 */
    CHECK_NEAR(y[0], -2.25 / (1.0 + exp(2.25)) + 0.125 / 6.0, 1e-6);
    for (size_t i = 1; i < 8; i++) CHECK(moved[i] == 0.0f);
    const llm_kan three = {3, 1, 1}; /* a single interval, for every input */
    float *knots = floats(24);
    llm_kan_grid(knots, &three, 2.0f, 4.0f);
    for (size_t i = 0; i < 24; i++) CHECK(knots[i] == 2.0f * ((float)(i % 8) - 2.0f));
    const llm_kan none = {1, 1, 0};
    CHECK_ASSERTS(llm_kan_grid(t, &none, 0.0f, 1.0f));
}

TEST(kan, "output and all gradients equal the recursion over all functions under autograd") {
    const llm_kan k = {I, O, G};
    const size_t P = llm_kan_param_count(&k);
    const float *w = golden("layer/w"), *t = golden("layer/t"), *x = golden("layer/x");
    const float *dy = golden("layer/dy");
    float *y = floats(N * O), *dx = zeros(N * I), *dw = zeros(P), *alone = zeros(P);
    CHECK(P == O * I * (G + 5));
    llm_kan_forward(y, &k, w, t, x, N);
    CHECK_GOLDEN(y, N * O, 1e-6f, "layer/y");
    llm_kan_backward(dx, dw, dy, &k, w, t, x, N, 0.0f);
    CHECK_GOLDEN(dx, N * I, 1e-6f, "layer/dx");
    CHECK_GOLDEN(dw, P, 1e-6f, "layer/dw");
    llm_kan_backward(NULL, alone, dy, &k, w, t, x, N, 0.0f);
    CHECK_ALL_NEAR(alone, dw, P, 0.0f);
    llm_kan_backward(dx, NULL, dy, &k, w, t, x, N, 0.0f); /* adds */
    for (size_t i = 0; i < N * I; i++) dx[i] *= 0.5f;
    CHECK_GOLDEN(dx, N * I, 1e-6f, "layer/dx");
    memset(dx, 0, N * I * sizeof(float));
    memset(dw, 0, P * sizeof(float));
    llm_kan_backward(dx, dw, dy, &k, w, t, x, N, 0.3f);
    CHECK_GOLDEN(dx, N * I, 1e-6f, "l1/dx");
    CHECK_GOLDEN(dw, P, 1e-6f, "l1/dw");
    float *nothing = zeros(P); /* edges of 0 are left alone */
    memset(dw, 0, P * sizeof(float));
    llm_kan_backward(NULL, dw, zeros(N * O), &k, nothing, t, x, N, 0.3f);
    CHECK_ALL_NEAR(dw, nothing, P, 0.0f);
}

static double loss(const llm_kan *k, const float *w, const float *t, const float *x) {
    float *y = floats(N * O);
    double sum = 0.0;
    llm_kan_forward(y, k, w, t, x, N);
    for (size_t i = 0; i < N * O; i++) sum += (double)golden("layer/dy")[i] * (double)y[i];
    return sum;
}

TEST(kan, "gradients equal finite differences") {
    const llm_kan k = {I, O, G};
    float *w = golden("layer/w"), *x = golden("layer/x");
    const float *t = golden("layer/t");
    float *dx = zeros(N * I), *dw = zeros(llm_kan_param_count(&k));
    llm_kan_backward(dx, dw, golden("layer/dy"), &k, w, t, x, N, 0.0f);
    CHECK_GRAD(dw, w, llm_kan_param_count(&k), 1e-2f, 2e-3f, loss(&k, w, t, x));
    CHECK_GRAD(dx, x, N * I, 1e-3f, 1e-2f, loss(&k, w, t, x));
}

TEST(kan, "the start has the size that is promised") {
    const llm_kan k = {400, 3, 5};
    const size_t edges = 1200, coefs = edges * 8;
    float *w = floats(llm_kan_param_count(&k));
    double square[2] = {0.0, 0.0};
    llm_rng rng = llm_rng_seed(1);
    llm_kan_init(w, &k, &rng);
    for (size_t i = 0; i < coefs + edges; i++) square[i >= coefs] += (double)w[i] * (double)w[i];
    CHECK_NEAR(square[0] / (double)coefs, 0.01, 0.0006); /* 4 deviations */
    CHECK_NEAR(square[1] / (double)edges, 1.0 / 400.0, 0.0005);
    for (size_t e = 0; e < edges; e++) CHECK_NEAR(w[coefs + edges + e], 0.05f, 1e-8f);

    const llm_kan little = {4, 2, 3}; /* every number: 48 of c, 8 of b, 8 of s */
    float v[64], z[56];
    llm_rng same = rng;
    llm_kan_init(v, &little, &rng);
    llm_rng_normal_fill(&same, z, 56);
    for (size_t i = 0; i < 64; i++)
        CHECK_NEAR(v[i], i < 48 ? 0.1f * z[i] : i < 56 ? 0.5f * z[i] : 0.5f, 1e-6f);
}

/* @prelu */
#include "../test.h"

#include "../../llm.h"

TEST(prelu, "parametric ReLU equals torch's with both gradients, in dense nets and on images") {
    for (size_t k = 0; k < 2; k++) {
        const char *name = k ? "image" : "dense";
        const size_t N = k ? 2 : 5, C = 3, S = k ? 7 : 1, n = N * C * S;
        const float *x = golden("%s/x", name), *a = golden("%s/a", name);
        const float *dy = golden("%s/dy", name);
        float *y = floats(n), *dx = zeros(n), *da = zeros(C), *again = zeros(C);
        llm_prelu_forward(y, x, a, N, C, S);
        CHECK_GOLDEN(y, n, 1e-7f, "%s/y", name);
        llm_prelu_backward(dx, da, dy, x, a, N, C, S);
        CHECK_GOLDEN(dx, n, 1e-7f, "%s/dx", name);
        CHECK_GOLDEN(da, C, 3e-7f, "%s/da", name);
        memcpy(y, x, n * sizeof(float));
        llm_prelu_forward(y, y, a, N, C, S); /* in place */
        CHECK_GOLDEN(y, n, 1e-7f, "%s/y", name);
        llm_prelu_backward(NULL, again, dy, x, a, N, C, S);
        llm_prelu_backward(dx, NULL, dy, x, a, N, C, S); /* a second time: adds */
        for (size_t i = 0; i < n; i++) dx[i] *= 0.5f;
        CHECK_GOLDEN(dx, n, 1e-7f, "%s/dx", name);
        CHECK_ALL_NEAR(again, da, C, 0.0f);
        llm_prelu_backward(NULL, again, dy, x, a, N, C, S);
        for (size_t c = 0; c < C; c++) CHECK_NEAR(again[c], 2.0f * da[c], 1e-6f);
    }
}

TEST(prelu, "maxout equals torch's maximum with its gradient; of equal ones the first wins") {
    const size_t pieces[3] = {1, 2, 5};
    for (size_t k = 0; k < 3; k++) {
        const size_t K = pieces[k];
        float y[6], *dz = zeros(6 * K);
        unsigned char winner[6];
        llm_prelu_maxout_forward(y, winner, golden("maxout%zu/z", K), 6, K);
        CHECK_GOLDEN(y, 6, 0.0f, "maxout%zu/y", K);
        llm_prelu_maxout_backward(dz, golden("maxout%zu/dy", K), winner, 6, K);
        CHECK_GOLDEN(dz, 6 * K, 1e-7f, "maxout%zu/dz", K);
        llm_prelu_maxout_backward(dz, golden("maxout%zu/dy", K), winner, 6, K); /* adds */
        for (size_t i = 0; i < 6 * K; i++) dz[i] *= 0.5f;
        CHECK_GOLDEN(dz, 6 * K, 1e-7f, "maxout%zu/dz", K);
    }
    const float z[3][3] = {{1.0f, 2.0f, 2.0f}, {NAN, 3.0f, 4.0f}, {0.0f, NAN, 5.0f}};
    float y[3];
    unsigned char winner[3];
    llm_prelu_maxout_forward(y, winner, z[0], 3, 3);
    CHECK(winner[0] == 1 && winner[1] == 0 && winner[2] == 1);
    CHECK(y[0] == 2.0f && isnan(y[1]) && isnan(y[2]));
    CHECK_ASSERTS(llm_prelu_maxout_forward(y, winner, z[0], 3, 0));
    CHECK_ASSERTS(llm_prelu_maxout_forward(y, winner, z[0], 1, 257));
    float *many = zeros(256);
    many[255] = 1.0f;
    llm_prelu_maxout_forward(y, winner, many, 1, 256);
    CHECK(y[0] == 1.0f && winner[0] == 255);
}

TEST(prelu, "slopes of 0, 0.01 and 1 are ReLU, leaky ReLU and nothing; two pieces make |x|") {
    const float x[5] = {-3.0f, -0.5f, 0.0f, 0.5f, 3.0f};
    const float slope[3] = {0.0f, 0.01f, 1.0f};
    const int kind[3] = {LLM_ACTIVATION_RELU, LLM_ACTIVATION_LEAKY_RELU, LLM_ACTIVATION_IDENTITY};
    float y[5], want[5], z[10];
    unsigned char winner[5];
    for (size_t k = 0; k < 3; k++) {
        llm_prelu_forward(y, x, &slope[k], 5, 1, 1);
        llm_activation_forward(want, x, 5, kind[k]);
        CHECK_ALL_NEAR(y, want, 5, 1e-9f);
    }
    for (size_t i = 0; i < 5; i++) z[2 * i] = x[i], z[2 * i + 1] = -x[i];
    llm_prelu_maxout_forward(y, winner, z, 5, 2);
    for (size_t i = 0; i < 5; i++) CHECK(y[i] == fabsf(x[i]));
}

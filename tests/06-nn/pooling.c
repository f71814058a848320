/* @pooling */
#include "../test.h"

#include "../../llm.h"

TEST(pooling, "sizes, outputs and gradients equal torch's, with padding, ceil and both counts") {
    for (size_t k = 0; k < 8; k++) {
        const float *s = golden("%zu/shape", k), *x = golden("%zu/x", k);
        const size_t planes = (size_t)s[0];
        llm_pooling c = llm_pooling_make((size_t)s[1], (size_t)s[2], 1);
        for (size_t axis = 0; axis < 2; axis++) {
            c.kernel[axis] = (size_t)s[3 + axis], c.stride[axis] = (size_t)s[5 + axis];
            c.pad[axis] = (size_t)s[7 + axis];
        }
        c.ceil = s[9] != 0.0f, c.without_pad = s[10] != 0.0f;
        const size_t I = llm_pooling_size(&c, 0), J = llm_pooling_size(&c, 1), out = planes * I * J;
        const size_t n = planes * c.H * c.W;
        const float size[2] = {(float)I, (float)J};
        float *y = floats(out), *dx = zeros(n);
        uint32_t *from = (uint32_t *)test_memory(out, sizeof(uint32_t));
        CHECK_GOLDEN(size, 2, 0.0f, "%zu/max/size", k);
        llm_pooling_max_forward(y, from, x, planes, &c);
        CHECK_GOLDEN(y, out, 0.0f, "%zu/max/y", k);
        const float *dy = golden("%zu/max/dy", k);
        for (int turn = 0; turn < 2; turn++) llm_pooling_max_backward(dx, dy, from, planes, &c);
        for (size_t i = 0; i < n; i++) dx[i] *= 0.5f; /* it accumulates */
        CHECK_GOLDEN(dx, n, 1e-6f, "%zu/max/dx", k);

        dx = zeros(n), y = floats(out), dy = golden("%zu/average/dy", k);
        CHECK_GOLDEN(size, 2, 0.0f, "%zu/average/size", k);
        llm_pooling_average_forward(y, x, planes, &c);
        CHECK_GOLDEN(y, out, 1e-6f, "%zu/average/y", k);
        for (int turn = 0; turn < 2; turn++) llm_pooling_average_backward(dx, dy, planes, &c);
        for (size_t i = 0; i < n; i++) dx[i] *= 0.5f;
        CHECK_GOLDEN(dx, n, 1e-6f, "%zu/average/dx", k);
    }
}

TEST(pooling, "ties go to the first pixel, NaN wins, minus infinity and negative numbers count") {
    const llm_pooling c = llm_pooling_make(2, 2, 2);
    const float equal[4] = {3.0f, 3.0f, 3.0f, 3.0f}, low[4] = {-INFINITY, -5.0f, -2.0f, -INFINITY};
    const float least[4] = {-INFINITY, -INFINITY, -INFINITY, -INFINITY}, bad[4] = {1, NAN, 9, 2};
    float y[1];
    uint32_t from[1];
    llm_pooling_max_forward(y, from, equal, 1, &c);
    CHECK(y[0] == 3.0f && from[0] == 0);
    llm_pooling_max_forward(y, from, low, 1, &c);
    CHECK(y[0] == -2.0f && from[0] == 2);
    llm_pooling_max_forward(y, from, least, 1, &c);
    CHECK(y[0] == -INFINITY && from[0] == 0);
    llm_pooling_max_forward(y, from, bad, 1, &c);
    CHECK(isnan(y[0]) && from[0] == 1);
}

TEST(pooling, "windows that do not fit, and padding of more than half of one, are refused") {
    llm_pooling c = llm_pooling_make(3, 4, 2);
    c.kernel[0] = 4;
    CHECK_ASSERTS(llm_pooling_size(&c, 0));
    CHECK(llm_pooling_size(&c, 1) == 2);
    c.pad[0] = 1;
    CHECK(llm_pooling_size(&c, 0) == 1);
    c.kernel[0] = 2, c.pad[0] = 2;
    CHECK_ASSERTS(llm_pooling_size(&c, 0));
    c.kernel[0] = 0, c.pad[0] = 0;
    CHECK_ASSERTS(llm_pooling_size(&c, 0));
    c.kernel[0] = 1, c.stride[0] = 0;
    CHECK_ASSERTS(llm_pooling_size(&c, 0));
    c.kernel[0] = 6, c.stride[0] = 1, c.pad[0] = 1; /* 3 pixels and 2 of padding */
    CHECK_ASSERTS(llm_pooling_size(&c, 0));
}

TEST(pooling, "with ceil the last window counts what is left of the padded row") {
    llm_pooling c = llm_pooling_make(5, 5, 4);
    c.stride[0] = 3, c.pad[0] = 2, c.ceil = true;
    size_t from, to;
    CHECK(llm_pooling_size(&c, 0) == 3);
    CHECK(llm_pooling_window(&from, &to, &c, 0, 0) == 4 && from == 0 && to == 2);
    CHECK(llm_pooling_window(&from, &to, &c, 0, 2) == 3 && from == 4 && to == 5); /* 6 to 9 of 9 */
}

TEST(pooling, "global pooling is the window as large as the picture") {
    enum { PLANES = 3, H = 4, W = 5, S = H * W };
    llm_rng rng = llm_rng_seed(2);
    float x[PLANES * S], dy[PLANES], y[PLANES], want[PLANES], dx[PLANES * S], want_x[PLANES * S];
    llm_pooling c = llm_pooling_make(H, W, 1);
    c.kernel[0] = H, c.kernel[1] = W;
    llm_rng_normal_fill(&rng, x, PLANES * S);
    llm_rng_normal_fill(&rng, dy, PLANES);
    llm_rng_normal_fill(&rng, dx, PLANES * S);
    memcpy(want_x, dx, sizeof dx);
    llm_pooling_global_forward(y, x, PLANES, S);
    llm_pooling_average_forward(want, x, PLANES, &c);
    CHECK_ALL_NEAR(y, want, PLANES, 1e-6f);
    llm_pooling_global_backward(dx, dy, PLANES, S);
    llm_pooling_average_backward(want_x, dy, PLANES, &c);
    CHECK_ALL_NEAR(dx, want_x, PLANES * S, 1e-6f);
}

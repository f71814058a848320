/* @absolute_position_resize */
#include "../test.h"

#include "../../llm.h"

enum { C = 2 };

static llm_absolute_position_resize_config resize_config(int cubic, int align) {
    llm_absolute_position_resize_config c;
    c.cubic = cubic != 0, c.align_corners = align != 0;
    return c;
}
static llm_arena resize_arena(void) {
    llm_arena a;
    CHECK(llm_arena_create(&a, 1 << 16));
    return a;
}

TEST(absolute_position_resize, "linear tables of every size equal torch, forward and backward") {
    const size_t sizes[6][2] = {{1, 3}, {3, 1}, {2, 5}, {5, 5}, {7, 3}, {5, 12}}; /* F, T */
    for (size_t s = 0; s < 6; s++)
        for (int align = 0; align < 2; align++) {
            const size_t F = sizes[s][0], T = sizes[s][1];
            const llm_absolute_position_resize_config c = resize_config(0, align);
            char name[32];
            snprintf(name, sizeof name, "linear%zu-%zu-%d", F, T, align);
            float *y = floats(T * C), *dx = floats(F * C);
            llm_absolute_position_resize_axis(y, golden("%s/x", name), 1, T, F, C, c);
            CHECK_GOLDEN(y, T * C, 2e-7, "%s/y", name);
            for (size_t i = 0; i < F * C; i++) dx[i] = 5.0f;
            llm_absolute_position_resize_axis_backward(dx, golden("%s/dy", name), 1, T, F, C, c);
            for (size_t i = 0; i < F * C; i++) dx[i] -= 5.0f; /* added */
            CHECK_GOLDEN(dx, F * C, 3e-6, "%s/dx", name);
        }
}

TEST(absolute_position_resize, "grids equal torch's bilinear and bicubic, the class token stays") {
    const size_t sizes[4][4] = {
        {1, 1, 2, 3}, {2, 3, 5, 4}, {4, 4, 7, 3}, {5, 4, 2, 4}}; /* Fh Fw Th Tw */
    llm_arena arena = resize_arena();
    for (size_t s = 0; s < 4; s++)
        for (int k = 0; k < 4; k++) {
            const size_t *z = sizes[s], F = 1 + z[0] * z[1], T = 1 + z[2] * z[3];
            const llm_absolute_position_resize_config c = resize_config(k / 2, k % 2);
            char name[48];
            snprintf(name, sizeof name, "%s%zux%zu-%zux%zu-%d", k / 2 ? "bicubic" : "bilinear",
                     z[0], z[1], z[2], z[3], k % 2);
            float *y = floats(T * C), *dx = floats(F * C);
            const float *x = golden("%s/x", name), *dy = golden("%s/dy", name);
            llm_absolute_position_resize_grid(y, x, 1, z[2], z[3], z[0], z[1], C, c, &arena);
            CHECK_GOLDEN(y, T * C, 1e-6, "%s/y", name); /* rounded to float between the axes */
            CHECK(y[0] == x[0] && y[1] == x[1]);
            for (size_t i = 0; i < F * C; i++) dx[i] = 5.0f;
            llm_absolute_position_resize_grid_backward(dx, dy, 1, z[2], z[3], z[0], z[1], C, c,
                                                       &arena);
            for (size_t i = 0; i < F * C; i++) dx[i] -= 5.0f;
            CHECK_GOLDEN(dx, F * C, 5e-6, "%s/dx", name);
            CHECK(arena.used == 0);
        }
    float vit[21 * 4];
    llm_absolute_position_resize_grid(vit, golden("vit/x"), 1, 5, 4, 3, 3, 4, resize_config(1, 0),
                                      &arena);
    CHECK_GOLDEN(vit, 21 * 4, 1e-6, "vit/y");
    CHECK(arena.peak <= 3 * 4 * 4 * sizeof(float) + 64);
    llm_arena_destroy(&arena);
}

TEST(absolute_position_resize,
     "the same size changes nothing; weights sum to 1; linear keeps lines") {
    for (int k = 0; k < 4; k++)
        for (size_t F = 1; F <= 9; F += 2)
            for (size_t T = 1; T <= 20; T++) {
                const llm_absolute_position_resize_config c = resize_config(k / 2, k % 2);
                for (size_t i = 0; i < T; i++) {
                    size_t index[4];
                    double weight[4], sum = 0.0, line = 0.0;
                    llm_absolute_position_resize_taps(index, weight, i, T, F, c);
                    bool inside = true;
                    for (size_t j = 0; j < 4; j++) {
                        CHECK(index[j] < F);
                        sum += weight[j], line += weight[j] * (double)index[j];
                        inside = inside && (j == 0 || index[j] == index[j - 1] + 1);
                    }
                    CHECK_NEAR(sum, 1.0, 1e-14);
                    if (F == T) CHECK_NEAR(line, (double)i, 1e-14);
                    double s = ((double)i + 0.5) * (double)F / (double)T - 0.5;
                    if (k % 2) s = T > 1 ? (double)i * (double)(F - 1) / (double)(T - 1) : 0.0;
                    /* away from the ends; a = -0.75 bends lines a little, a = -0.5 would not */
                    if (inside) CHECK_NEAR(line, s, k < 2 ? 1e-12 : 0.05);
                }
            }
}

TEST(absolute_position_resize, "a table of nothing is refused, a table for nothing is not") {
    float x[2] = {1, 2};
    const llm_absolute_position_resize_config c = resize_config(0, 0);
    CHECK_ASSERTS(llm_absolute_position_resize_axis(x, x, 1, 1, 0, 1, c));
    CHECK_ASSERTS(llm_absolute_position_resize_axis_backward(x, x, 1, 1, 0, 1, c));
    llm_absolute_position_resize_axis(x, x, 1, 0, 0, 1, c);
    llm_absolute_position_resize_axis(x, x, 1, 0, 2, 1, c);
    llm_absolute_position_resize_axis_backward(x, x, 1, 0, 0, 1, c);
    CHECK(x[0] == 1.0f && x[1] == 2.0f);
}

/* @relative_position_t5 */
#include "../test.h"

#include "../../llm.h"

TEST(relative_position_t5, "buckets equal transformers for all distances up to 1000, both modes") {
    for (int both = 0; both < 2; both++) {
        const float *want = golden("buckets32-%d/bucket", both);
        for (long d = -1000; d <= 1000; d++)
            CHECK((float)llm_relative_position_t5_bucket(d, both, 32, 128) == want[d + 1000]);
        want = golden("buckets8-%d/bucket", both);
        for (long d = -100; d <= 100; d++)
            CHECK((float)llm_relative_position_t5_bucket(d, both, 8, 20) == want[d + 100]);
    }
}

static llm_relative_position_t5_config t5_config(size_t T, size_t S, size_t first, int both) {
    llm_relative_position_t5_config c;
    c.H = 2, c.T = T, c.S = S, c.first = first, c.buckets = 8, c.far = 6, c.both = both != 0;
    return c;
}

TEST(relative_position_t5, "bias and its gradient equal T5Attention, queries behind a cache too") {
    const size_t shapes[4][3] = {{1, 1, 0}, {3, 7, 4}, {5, 5, 0}, {9, 4, 0}}; /* T, S, first */
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 4096));
    for (size_t z = 0; z < 4; z++)
        for (int both = 0; both < 2; both++) {
            const size_t T = shapes[z][0], S = shapes[z][1], B = 3, n = 2 * T * S;
            const llm_relative_position_t5_config c = t5_config(T, S, shapes[z][2], both);
            char name[32];
            snprintf(name, sizeof name, "%zux%zu-%d", T, S, both);
            const float *w = golden("%s/w", name), *ds = golden("%s/ds", name);
            float *s = floats(B * n), *dsb = floats(B * n), dw[16];
            for (size_t i = 0; i < B * n; i++) {
                s[i] = (float)(i % 3);
                dsb[i] = ds[i % n] * (i < n ? 2.0f : i < 2 * n ? -3.0f : 2.0f); /* sums to ds */
            }
            llm_relative_position_t5_forward(s, w, B, &c, &arena);
            for (size_t i = 0; i < B * n; i++) s[i] -= (float)(i % 3);
            for (size_t b = 0; b < B; b++) CHECK_GOLDEN(s + b * n, n, 1e-6, "%s/bias", name);
            for (size_t i = 0; i < 16; i++) dw[i] = 1.0f;
            llm_relative_position_t5_backward(dw, dsb, B, &c, &arena);
            for (size_t i = 0; i < 16; i++) dw[i] -= 1.0f;
            CHECK_GOLDEN(dw, 16, 1e-5, "%s/dw", name); /* up to 50 terms, after a 1 */
            CHECK(arena.used == 0);
        }
    llm_arena_destroy(&arena);
}

TEST(relative_position_t5, "a million gradients of one bucket are summed without losing any") {
    const size_t T = 700;
    const llm_relative_position_t5_config c = t5_config(T, T, 0, 1);
    float *ds = floats(2 * T * T), *dw = zeros(16);
    double want[16] = {0.0};
    llm_rng rng = llm_rng_seed(3);
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 1 << 16));
    for (size_t i = 0; i < 2 * T * T; i++) {
        ds[i] = llm_rng_uniform(&rng);
        const long d = (long)(i % T) - (long)(i / T % T);
        want[llm_relative_position_t5_bucket(d, true, 8, 6) * 2 + i / (T * T)] += (double)ds[i];
    }
    llm_relative_position_t5_backward(dw, ds, 1, &c, &arena);
    for (size_t i = 0; i < 16; i++) CHECK_NEAR(dw[i], want[i], 2e-6 * want[i]);
    llm_arena_destroy(&arena);
}

TEST(relative_position_t5, "buckets that cannot be split are refused, and so is an empty score") {
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 4096));
    float x[4] = {0};
    CHECK_ASSERTS(llm_relative_position_t5_bucket(1, false, 0, 128));
    CHECK_ASSERTS(llm_relative_position_t5_bucket(1, false, 3, 128));
    CHECK_ASSERTS(llm_relative_position_t5_bucket(1, true, 2, 128));
    CHECK_ASSERTS(llm_relative_position_t5_bucket(1, true, 6, 128));
    CHECK_ASSERTS(llm_relative_position_t5_bucket(1, false, 8, 4));
    CHECK(llm_relative_position_t5_bucket(-1, false, 2, 3) == 1);
    CHECK(llm_relative_position_t5_bucket(1, true, 4, 3) == 3);
    llm_relative_position_t5_config c = t5_config(0, 2, 0, 0);
    CHECK_ASSERTS(llm_relative_position_t5_forward(x, x, 1, &c, &arena));
    CHECK_ASSERTS(llm_relative_position_t5_backward(x, x, 1, &c, &arena));
    c = t5_config(2, 0, 0, 0);
    CHECK_ASSERTS(llm_relative_position_t5_forward(x, x, 1, &c, &arena));
    CHECK_ASSERTS(llm_relative_position_t5_backward(x, x, 1, &c, &arena));
    llm_arena_destroy(&arena);
}

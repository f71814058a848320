/* @attn_scale */
#include "../test.h"

#include "../../llm.h"

TEST(attn_scale, "equals torch: the default of scaled_dot_product_attention, and any other scale") {
    const size_t shapes[][3] = {{1, 1, 1}, {2, 3, 8}, {3, 17, 5}};
    for (size_t c = 0; c < 3; c++) {
        const size_t Tq = shapes[c][0], Tk = shapes[c][1], D = shapes[c][2], n = Tq * Tk;
        char at[32];
        snprintf(at, sizeof at, "%zux%zux%zu", Tq, Tk, D);
        const float *q = golden("%s/q", at), *k = golden("%s/k", at), *v = golden("%s/v", at);
        const float *go = golden("%s/do", at), *ds = golden("%s/ds", at);
        const float scale = llm_attn_scale_sqrt(D);
        float *s = floats(n), *out = zeros(Tq * D), *dp = zeros(n), *dscore = zeros(n);
        float *dq = zeros(Tq * D), *dk = zeros(Tk * D);
        llm_arena arena;
        CHECK(llm_arena_create(&arena, 1 << 14));
        llm_attn_scale_forward(s, q, k, scale, Tq, Tk, D, &arena);
        llm_softmax_forward(s, s, Tq, Tk, 1.0f);
        llm_gemm(out, s, false, v, false, Tq, D, Tk);
        CHECK_GOLDEN(out, Tq * D, 1e-6f, "%s/out", at);
        llm_gemm(dp, go, false, v, true, Tq, Tk, D);
        llm_softmax_backward(dscore, dp, s, Tq, Tk, 1.0f);
        llm_attn_scale_backward(dq, dk, dscore, q, k, scale, Tq, Tk, D, &arena);
        CHECK_GOLDEN(dq, Tq * D, 2e-6f, "%s/sdpa_dq", at);
        CHECK_GOLDEN(dk, Tk * D, 2e-6f, "%s/sdpa_dk", at);

        float *half = zeros(Tk * D);
        dq = zeros(Tq * D), dk = zeros(Tk * D);
        llm_attn_scale_forward(s, q, k, 0.3f, Tq, Tk, D, &arena);
        CHECK_GOLDEN(s, n, 1e-6f, "%s/s", at);
        llm_attn_scale_backward(dq, NULL, ds, q, k, 0.3f, Tq, Tk, D, &arena);
        llm_attn_scale_backward(NULL, dk, ds, q, k, 0.3f, Tq, Tk, D, &arena);
        CHECK_GOLDEN(dq, Tq * D, 2e-6f, "%s/dq", at);
        CHECK_GOLDEN(dk, Tk * D, 2e-6f, "%s/dk", at);
        for (size_t i = 0; i < Tk * D; i++) half[i] = dk[i];
        llm_attn_scale_backward(dq, half, ds, q, k, 0.3f, Tq, Tk, D, &arena); /* accumulates */
        for (size_t i = 0; i < Tk * D; i++) CHECK_NEAR(half[i], 2.0f * dk[i], 1e-6);
        CHECK(arena.used == 0);
        llm_arena_destroy(&arena);
    }
}

TEST(attn_scale, "the factors: 1/sqrt(D), 1/D beyond a base, log T beyond the trained length") {
    CHECK_NEAR(llm_attn_scale_sqrt(1), 1.0, 0.0);
    CHECK_NEAR(llm_attn_scale_sqrt(64), 0.125, 0.0);
    CHECK_NEAR(llm_attn_scale_sqrt(144), 1.0 / 12.0, 1e-8); /* Gemma 2 27B: 4608 / 32 */
    CHECK_NEAR(llm_attn_scale_mup(64, 64), 0.125, 0.0);     /* the base itself: nothing changes */
    CHECK_NEAR(llm_attn_scale_mup(1, 4), 2.0, 0.0);
    CHECK_NEAR(llm_attn_scale_mup(256, 64), 8.0 / 256.0, 0.0);
    CHECK_NEAR(llm_attn_scale_mup(512, 1), 1.0 / 512.0, 0.0);
    CHECK_NEAR(llm_attn_scale_length(1, 100), 1.0, 0.0);
    CHECK_NEAR(llm_attn_scale_length(100, 100), 1.0, 0.0);
    CHECK_NEAR(llm_attn_scale_length(10000, 100), 2.0, 1e-7);
    CHECK_NEAR(llm_attn_scale_length(5, 2), log(5.0) / log(2.0), 1e-6);
    CHECK_ASSERTS(llm_attn_scale_sqrt(0));
    CHECK_ASSERTS(llm_attn_scale_mup(0, 64));
    CHECK_ASSERTS(llm_attn_scale_length(9, 1));
}

TEST(attn_scale, "what softmax makes of a row equals scipy's entropy and torch's Jacobian") {
    const size_t n[] = {1, 2, 3, 17, 65, 5};
    const size_t spread[] = {1, 1, 10, 1, 4, 40};
    for (size_t c = 0; c < 6; c++) {
        const float *s = golden("row%zux%zu/s", n[c], spread[c]);
        const llm_attn_scale_row row = llm_attn_scale_of_row(s, n[c]);
        const double max = (double)golden("row%zux%zu/max", n[c], spread[c])[0];
        const double entropy = (double)golden("row%zux%zu/entropy", n[c], spread[c])[0];
        const double jacobian = (double)golden("row%zux%zu/jacobian", n[c], spread[c])[0];
        CHECK_NEAR(row.max, max, 1e-7); /* a float's digits of the golden value, also of 2e-11 */
        CHECK_NEAR(row.entropy, entropy, 1e-7 * entropy + 1e-15);
        CHECK_NEAR(row.jacobian, jacobian, 1e-6 * jacobian + 1e-15);
    }
    /* uniform: p = 1/n, entropy log n, norm sqrt(n - 1)/n; and half and half: 1/2 */
    const float equal[4] = {7.0f, 7.0f, 7.0f, 7.0f}, far[2] = {1e4f, -1e4f};
    llm_attn_scale_row row = llm_attn_scale_of_row(equal, 4);
    CHECK_NEAR(row.max, 0.25, 1e-15);
    CHECK_NEAR(row.entropy, log(4.0), 1e-15);
    CHECK_NEAR(row.jacobian, sqrt(3.0) / 4.0, 1e-15);
    row = llm_attn_scale_of_row(far, 2);
    CHECK(row.max == 1.0 && row.entropy == 0.0 && row.jacobian == 0.0);
    CHECK_ASSERTS(llm_attn_scale_of_row(equal, 0));
}

TEST(attn_scale, "random scores have variance D, scaled 1; the scratch is what the comments say") {
    const size_t D[] = {16, 64, 256, 1024};
    const size_t T = 48, n = T * T;
    for (size_t c = 0; c < 4; c++) {
        llm_arena arena;
        float *s = floats(n);
        CHECK(llm_arena_create(&arena, 3 * T * D[c] * sizeof(float)));
        for (int scaled = 0; scaled < 2; scaled++) {
            llm_rng rng = llm_rng_seed(c + 1);
            llm_attn_scale_draw(s, scaled ? llm_attn_scale_sqrt(D[c]) : 1.0f, T, D[c], &rng,
                                &arena);
            CHECK(arena.used == 0 && arena.peak == arena.size);
            double square = 0.0;
            for (size_t i = 0; i < n; i++) square += (double)s[i] * (double)s[i] / (double)n;
            /* a row's and a column's scores share a length, so the mean square of n scores errs by
             * sqrt(2/n + 4/(T D)) of itself; three of these */
            const double want = scaled ? 1.0 : (double)D[c];
            const double error = sqrt(2.0 / (double)n + 4.0 / (double)(T * D[c]));
            CHECK_NEAR(square, want, 3.0 * error * want);
            CHECK(fabs((double)s[0] - (double)s[n - 1]) > 0.0);
        }
        llm_arena_destroy(&arena);
    }
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 2 * T * 16 * sizeof(float)));
    float *x = zeros(T * 16), *s = zeros(n);
    llm_attn_scale_backward(x, NULL, s, x, x, 1.0f, T, T, 16, &arena);
    CHECK(arena.used == 0 && arena.peak == arena.size);
    llm_arena_destroy(&arena);
}

static int attn_scale_order(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

TEST(attn_scale, "unscaled, softmax starts one-hot and its Jacobian is gone") {
    enum { T = 128, D = 512 };
    double max[2] = {0, 0}, median[2] = {0, 0}, jacobian[T];
    float *s = floats(T * T);
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 3 * T * D * sizeof(float)));
    for (int scaled = 0; scaled < 2; scaled++)
        for (uint64_t seed = 1; seed <= 4; seed++) {
            llm_rng rng = llm_rng_seed(seed);
            llm_attn_scale_draw(s, scaled ? llm_attn_scale_sqrt(D) : 1.0f, T, D, &rng, &arena);
            for (size_t i = 0; i < T; i++) {
                const llm_attn_scale_row row = llm_attn_scale_of_row(s + i * T, T);
                max[scaled] += row.max / (4.0 * T);
                jacobian[i] = row.jacobian;
            }
            qsort(jacobian, T, sizeof *jacobian, attn_scale_order);
            median[scaled] += jacobian[T / 2] / 4.0;
        }
    /* 9 sets of 4 seeds: largest weight 0.911 to 0.924 against 0.067 to 0.070, the median norm of
     * the Jacobian smaller by a factor of 11.1 to 28.2 */
    CHECK(max[0] > 0.85 && max[1] < 0.1);
    CHECK(median[1] > 5.0 * median[0]);
    llm_arena_destroy(&arena);
}

/* @entmax */
#include "../test.h"

#include "../../llm.h"

static const size_t entmax_shapes[4][2] = {{1, 1}, {3, 2}, {4, 17}, {2, 65}};

TEST(entmax, "equals the package entmax, forward and gradient, for a of 1.25, 1.5, 2 and 3") {
    const char *names[4] = {"1.25", "1.5", "2", "3"};
    const float a[4] = {1.25f, 1.5f, 2.0f, 3.0f};
    for (size_t k = 0; k < 4; k++) {
        const size_t rows = entmax_shapes[k][0], n = entmax_shapes[k][1], size = rows * n;
        const float *x = golden("%zux%zu/x", rows, n), *dp = golden("%zux%zu/dp", rows, n);
        for (size_t form = 0; form < 4; form++) {
            float *p = floats(size), *dx = zeros(size);
            llm_entmax_bisect(p, x, rows, n, a[form]);
            CHECK_GOLDEN(p, size, 1e-6f, "%zux%zu/%s/p", rows, n, names[form]);
            /* g = p^(2-a) of the smallest p: for a = 3 its reciprocal, and p itself is a root
             * there, which is where rounding of x and p shows */
            const float tol = form == 3 ? 2e-4f : 3e-6f;
            llm_entmax_backward(dx, dp, p, rows, n, a[form]);
            CHECK_GOLDEN(dx, size, tol, "%zux%zu/%s/dx", rows, n, names[form]);
            llm_entmax_backward(dx, dp, p, rows, n, a[form]); /* accumulates */
            for (size_t i = 0; i < size; i++) dx[i] *= 0.5f;
            CHECK_GOLDEN(dx, size, tol, "%zux%zu/%s/dx", rows, n, names[form]);
            if (form != 1) continue;
            llm_arena arena;
            CHECK(llm_arena_create(&arena, (n + 7) / 8 * 64));
            llm_entmax_forward(p, x, rows, n, &arena);
            CHECK(arena.used == 0 && arena.peak == arena.size);
            CHECK_GOLDEN(p, size, 1e-6f, "%zux%zu/%s/p", rows, n, names[form]);
            memcpy(dx, x, size * sizeof(float));
            llm_entmax_forward(dx, dx, rows, n, &arena); /* in place */
            CHECK_ALL_NEAR(dx, p, size, 0.0f);
            llm_arena_destroy(&arena);
        }
    }
}

TEST(entmax, "p maximises p.x plus Tsallis entropy; closed forms for two entries") {
    const float a[3] = {1.3f, 1.5f, 1.9f};
    const size_t n = 5;
    llm_rng rng = llm_rng_seed(4);
    float x[5], p[5];
    for (int round = 0; round < 30; round++) {
        llm_rng_normal_fill(&rng, x, n);
        for (size_t form = 0; form < 3; form++) {
            const double e = (double)a[form];
            llm_entmax_bisect(p, x, 1, n, a[form]);
            double best = 0.0, sum = 0.0;
            for (size_t i = 0; i < n; i++) {
                sum += (double)p[i];
                best += (double)p[i] * (double)x[i] +
                        ((double)p[i] - pow((double)p[i], e)) / e / (e - 1.0);
            }
            CHECK_NEAR(sum, 1.0, 3e-7);
            for (int other = 0; other < 20; other++) { /* towards another vector of the simplex */
                double q[5], total = 0.0, value = 0.0;
                for (size_t i = 0; i < n; i++) total += q[i] = (double)llm_rng_uniform(&rng);
                for (size_t i = 0; i < n; i++) {
                    q[i] = 0.95 * (double)p[i] + 0.05 * q[i] / total;
                    value += q[i] * (double)x[i] + (q[i] - pow(q[i], e)) / e / (e - 1.0);
                }
                CHECK(value < best + 1e-6);
            }
        }
    }
    /* a = 1.5, gap t: p = (z + t/2)^2 and z^2, which sum to 1; alone from a gap of 2 on */
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 64));
    for (int i = 0; i <= 24; i++) {
        const double t = 0.1 * (double)i, z = (-t + sqrt(8.0 - t * t)) / 4.0;
        const float two[2] = {(float)(t + 5.0), 5.0f};
        llm_entmax_forward(p, two, 1, 2, &arena);
        CHECK_NEAR(p[1], t < 2.0 ? z * z : 0.0, 1e-6);
        CHECK_NEAR(p[0], t < 2.0 ? 1.0 - z * z : 1.0, 1e-6);
        if (t > 2.0) CHECK(p[1] == 0.0f && p[0] == 1.0f);
    }
    llm_arena_destroy(&arena);
}

TEST(entmax, "logits of 1e4, ties, masked rows, NaN; a constant changes nothing") {
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 1024));
    const float x[4] = {1e4f, -1e4f, 1e4f - 0.5f, -INFINITY}, tie[4] = {3.0f, 3.0f, 3.0f, 3.0f};
    const float low[4] = {0.0f, -2e4f, -0.5f, -INFINITY};
    float p[4], q[4], dx[4] = {0};
    const float dp[4] = {1.0f, 2.0f, 3.0f, NAN};
    for (int form = 0; form < 2; form++) {
        if (form) llm_entmax_bisect(p, x, 1, 4, 1.5f), llm_entmax_bisect(q, low, 1, 4, 1.5f);
        if (!form) llm_entmax_forward(p, x, 1, 4, &arena), llm_entmax_forward(q, low, 1, 4, &arena);
        CHECK(memcmp(p, q, sizeof p) == 0);
        CHECK(p[1] == 0.0f && p[3] == 0.0f && p[0] > p[2] && p[2] > 0.0f);
        llm_entmax_backward(dx, dp, p, 1, 4, 1.5f); /* dp is not read where p is 0 */
        CHECK(dx[1] == 0.0f && dx[3] == 0.0f);
        CHECK_NEAR(dx[0] + dx[2], 0.0, 1e-6);
        if (form) llm_entmax_bisect(p, tie, 1, 4, 1.5f);
        if (!form) llm_entmax_forward(p, tie, 1, 4, &arena);
        for (int i = 0; i < 4; i++) CHECK_NEAR(p[i], 0.25, 1e-7);
        const float rows[8] = {-INFINITY, -INFINITY, -INFINITY, -INFINITY, 1.0f, NAN, 2.0f, 0.0f};
        float out[8];
        if (form) llm_entmax_bisect(out, rows, 2, 4, 1.5f);
        if (!form) llm_entmax_forward(out, rows, 2, 4, &arena);
        for (int i = 0; i < 4; i++) CHECK(out[i] == 0.0f && isnan(out[4 + i]));
        const float early[2] = {NAN, 1.0f};
        if (form) llm_entmax_bisect(out, early, 1, 2, 1.5f);
        if (!form) llm_entmax_forward(out, early, 1, 2, &arena);
        CHECK(isnan(out[0]) && isnan(out[1]));
        const float inf[2] = {INFINITY, 1.0f};
        if (form) llm_entmax_bisect(out, inf, 1, 2, 1.5f);
        if (!form) llm_entmax_forward(out, inf, 1, 2, &arena);
        CHECK(isnan(out[0]) && isnan(out[1]));
    }
    llm_entmax_forward(p, x, 0, 4, &arena);
    llm_entmax_forward(p, x, 2, 0, &arena);
    CHECK_ASSERTS(llm_entmax_bisect(p, x, 1, 4, 1.0f));
    llm_arena_destroy(&arena);
}

TEST(entmax, "between softmax and sparsemax: the fewer weights the larger a; near a = 1 softmax") {
    const float a[4] = {1.1f, 1.5f, 2.0f, 4.0f};
    enum { N = 200 };
    float x[N], p[N], want[N];
    llm_rng rng = llm_rng_seed(1);
    llm_rng_normal_fill(&rng, x, N);
    size_t last = N + 1;
    for (size_t form = 0; form < 4; form++) {
        size_t support = 0;
        llm_entmax_bisect(p, x, 1, N, a[form]);
        for (size_t i = 0; i < N; i++) support += p[i] > 0.0f;
        CHECK(support < last && support > 0);
        last = support;
    }
    llm_softmax_forward(want, x, 1, N, 1.0f);
    llm_entmax_bisect(p, x, 1, N, 1.0f + 1e-4f);
    CHECK_ALL_NEAR(p, want, N, 1e-4f); /* off by the order of a - 1 */
    llm_sparsemax_forward(want, x, 1, N);
    llm_entmax_bisect(p, x, 1, N, 2.0f);
    CHECK_ALL_NEAR(p, want, N, 1e-6f);
}

/* @relative_position */
#include "../test.h"

#include "../../llm.h"

static llm_relative_position_config rel_config(size_t B, size_t H, size_t T, size_t D, size_t K,
                                               int causal) {
    llm_relative_position_config c;
    c.B = B, c.H = H, c.T = T, c.D = D, c.K = K, c.causal = causal != 0;
    return c;
}
static llm_arena rel_arena(void) {
    llm_arena a;
    CHECK(llm_arena_create(&a, 1 << 14));
    return a;
}

TEST(relative_position,
     "equals Shaw's attention with the full (T,T,D) arrays, and every gradient") {
    const size_t shapes[4][5] = {
        {1, 1, 1, 1, 0}, {2, 2, 4, 3, 1}, {1, 2, 3, 3, 7}, {1, 1, 7, 3, 2}};
    llm_arena arena = rel_arena();
    for (size_t z = 0; z < 4; z++)
        for (int causal = 0; causal < 2; causal++) {
            const size_t *x = shapes[z], n = x[0] * x[1] * x[2] * x[3], m = (2 * x[4] + 1) * x[3];
            const llm_relative_position_config c = rel_config(x[0], x[1], x[2], x[3], x[4], causal);
            char name[32];
            snprintf(name, sizeof name, "%zu-%zu-%d", x[2], x[4], causal);
            const float *q = golden("%s/q", name), *k = golden("%s/k", name);
            const float *v = golden("%s/v", name), *a = golden("%s/a", name);
            const float *b = golden("%s/b", name), *dout = golden("%s/dout", name);
            const size_t weights = x[0] * x[1] * x[2] * x[2];
            float *out = floats(n), *att = floats(weights), *d = floats(3 * n + 2 * m);
            float *dk = d + n, *dv = dk + n, *da = dv + n, *db = da + m;
            llm_relative_position_shaw_forward(out, att, q, k, v, a, b, &c, &arena);
            CHECK_GOLDEN(out, n, 1e-6, "%s/out", name);
            CHECK_GOLDEN(att, weights, 1e-6, "%s/att", name);
            for (size_t i = 0; i < 3 * n + 2 * m; i++) d[i] = 2.0f;
            llm_relative_position_shaw_backward(d, dk, dv, da, db, dout, att, q, k, v, a, b, &c,
                                                &arena);
            for (size_t i = 0; i < 3 * n + 2 * m; i++) d[i] -= 2.0f; /* added */
            CHECK_GOLDEN(d, n, 2e-6, "%s/dq", name);
            CHECK_GOLDEN(dk, n, 2e-6, "%s/dk", name);
            CHECK_GOLDEN(dv, n, 2e-6, "%s/dv", name);
            CHECK_GOLDEN(da, m, 3e-6, "%s/da", name);
            CHECK_GOLDEN(db, m, 3e-6, "%s/db", name);
            CHECK(arena.used == 0);
            for (size_t i = 0; i < 3 * n; i++) d[i] = 0.0f; /* the vectors held fixed */
            llm_relative_position_shaw_backward(d, dk, dv, NULL, NULL, dout, att, q, k, v, a, b, &c,
                                                &arena);
            CHECK_GOLDEN(d, n, 2e-6, "%s/dq", name);
        }
    llm_arena_destroy(&arena);
}

TEST(relative_position,
     "gradients of keys' or values' vectors alone, by differences at the clip's edge") {
    enum { T = 4, D = 2, K = 2, N = T * D, M = (2 * K + 1) * D };
    const llm_relative_position_config c = rel_config(1, 1, T, D, K, 0);
    float q[N], k[N], v[N], w[M], dout[N], out[N], att[T * T];
    llm_rng rng = llm_rng_seed(1);
    llm_arena arena = rel_arena();
    llm_rng_normal_fill(&rng, q, N);
    llm_rng_normal_fill(&rng, k, N);
    llm_rng_normal_fill(&rng, v, N);
    llm_rng_normal_fill(&rng, w, M);
    llm_rng_normal_fill(&rng, dout, N);
    for (int values = 0; values < 2; values++) {
        const float *a = values ? NULL : w, *b = values ? w : NULL;
        float *d = zeros(3 * N), *dw = zeros(M);
        llm_relative_position_shaw_forward(out, att, q, k, v, a, b, &c, &arena);
        llm_relative_position_shaw_backward(d, d + N, d + 2 * N, values ? NULL : dw,
                                            values ? dw : NULL, dout, att, q, k, v, a, b, &c,
                                            &arena);
#define LOSS                                                                                       \
    (llm_relative_position_shaw_forward(out, att, q, k, v, a, b, &c, &arena), dot(out, dout, N))
        CHECK_GRAD(d, q, N, 1e-2f, 1e-3f, LOSS);
        CHECK_GRAD(d + N, k, N, 1e-2f, 1e-3f, LOSS);
        CHECK_GRAD(d + 2 * N, v, N, 1e-2f, 1e-3f, LOSS);
        CHECK_GRAD(dw, w, M, 1e-2f, 1e-3f, LOSS);
        for (size_t i = 0; i < M; i++) CHECK(dw[i] != 0.0f); /* -3 and 3 count as -2 and 2 */
    }
    llm_arena_destroy(&arena);
}

TEST(relative_position, "clip(j - i) is brute force; a text moved as a whole is the same") {
    for (size_t K = 0; K < 5; K++)
        for (size_t i = 0; i < 9; i++)
            for (size_t j = 0; j < 9; j++) {
                long r = (long)j - (long)i;
                if (r > (long)K) r = (long)K;
                if (r < -(long)K) r = -(long)K;
                CHECK(llm_relative_position_clip(i, j, K) == (size_t)(r + (long)K));
                CHECK(llm_relative_position_clip(i + 1000, j + 1000, K) == (size_t)(r + (long)K));
            }
    enum { T = 6, D = 3 };
    const llm_relative_position_config c = rel_config(1, 1, T, D, 1, 1);
    float x[4 * T * D], out[T * D], again[T * D], att[T * T];
    llm_rng rng = llm_rng_seed(2);
    llm_arena arena = rel_arena();
    llm_rng_normal_fill(&rng, x, 4 * T * D);
    const float *q = x, *k = x + T * D, *v = k + T * D, *a = v + T * D;
    llm_relative_position_shaw_forward(out, att, q, k, v, a, a, &c, &arena);
    for (size_t i = 0; i < T; i++)
        for (size_t j = i + 1; j < T; j++) CHECK(att[i * T + j] == 0.0f);
    for (size_t i = 0; i < D; i++) x[2 * T * D - D + i] = x[3 * T * D - D + i] = NAN; /* the last */
    llm_relative_position_shaw_forward(again, att, q, k, v, a, a, &c, &arena);
    CHECK_ALL_NEAR(again, out, (T - 1) * D, 0.0f);
    llm_arena_destroy(&arena);
}

TEST(relative_position,
     "skewing is torch's pad and reshape, and below the diagonal the plain gather") {
    const size_t sizes[3] = {1, 2, 5};
    for (size_t z = 0; z < 3; z++) {
        const size_t T = sizes[z];
        float *s = floats(T * T), *drel = floats(T * T);
        const float *rel = golden("skew%zu/rel", T), *ds = golden("skew%zu/ds", T);
        llm_relative_position_skew(s, rel, T);
        CHECK_GOLDEN(s, T * T, 0.0, "skew%zu/s", T);
        for (size_t i = 0; i < T; i++)
            for (size_t j = 0; j <= i; j++) CHECK(s[i * T + j] == rel[i * T + T - 1 - (i - j)]);
        for (size_t i = 0; i < T * T; i++) drel[i] = 0.5f;
        llm_relative_position_skew_backward(drel, ds, T);
        for (size_t i = 0; i < T * T; i++) drel[i] -= 0.5f;
        CHECK_GOLDEN(drel, T * T, 1e-6, "skew%zu/drel", T);
    }
    float none = 4.0f;
    llm_relative_position_skew(&none, NULL, 0);
    llm_relative_position_skew_backward(&none, NULL, 0);
    CHECK(none == 4.0f);
}

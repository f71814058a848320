/* @attention */
#include "../test.h"

#include "../../llm.h"

static const size_t attention_shapes[3][6] = {
    {1, 1, 1, 1, 1, 1}, {3, 5, 2, 4, 3, 4}, {2, 17, 3, 2, 8, 17}};

TEST(attention, "contexts and all gradients equal PyTorch; padding is NaN and not read") {
    for (size_t n = 0; n < 3; n++) {
        const size_t *shape = attention_shapes[n], T = shape[0], S = shape[1], A = shape[4];
        const size_t length = shape[5];
        const llm_attention_config z = {T, S, shape[2], shape[3], A};
        char at[32];
        snprintf(at, sizeof at, "%zux%zux%zu", T, S, A);
        llm_attention_params p = {golden("%s/w", at), golden("%s/u", at), golden("%s/v", at),
                                  golden("%s/b", at)};
        const float *s = golden("%s/s", at), *dc = golden("%s/dc", at);
        float *h = golden("%s/h", at), *k = floats(S * A), *c = floats(T * z.Ch),
              *a = floats(T * S);
        float *q = floats(T * A), *ds = zeros(T * z.Cs), *dh = zeros(S * z.Ch);
        llm_attention_params g = {zeros(A * z.Cs), zeros(A * z.Ch), zeros(A), zeros(A)};
        for (size_t i = length * z.Ch; i < S * z.Ch; i++) h[i] = NAN;
        llm_arena arena;
        CHECK(llm_arena_create(&arena, 1 << 12));

        llm_attention_source(k, h, &p, &z);
        llm_attention_forward(c, a, q, s, h, k, length, &p, &z);
        CHECK_GOLDEN(c, T * z.Ch, 1e-6f, "%s/c", at);
        const float *want = golden("%s/a", at);
        for (size_t i = 0; i < T * S; i++)
            CHECK_NEAR(a[i], i % S < length ? want[i / S * length + i % S] : 0.0f, 1e-6);
        for (int twice = 0; twice < 2; twice++) {
            llm_attention_backward(ds, dh, &g, dc, c, a, q, s, h, k, length, &p, &z, &arena);
            CHECK(arena.used == 0);
            CHECK_GOLDEN(ds, T * z.Cs, 3e-6f, "%s/ds", at);
            CHECK_GOLDEN(dh, S * z.Ch, 3e-6f, "%s/dh", at); /* zero for the padding */
            CHECK_GOLDEN(g.w, A * z.Cs, 3e-6f, "%s/dw", at);
            CHECK_GOLDEN(g.u, A * z.Ch, 3e-6f, "%s/du", at);
            CHECK_GOLDEN(g.v, A, 3e-6f, "%s/dv", at);
            CHECK_GOLDEN(g.b, A, 3e-6f, "%s/db", at);
            if (twice) break; /* once more on top of minus what is there already: zero, and again */
            llm_attention_params none = {NULL, NULL, NULL, NULL};
            llm_attention_backward(NULL, NULL, &none, dc, c, a, q, s, h, k, length, &p, &z, &arena);
            for (size_t i = 0; i < T * z.Cs; i++) ds[i] = 0.0f;
            for (size_t i = 0; i < S * z.Ch; i++) dh[i] = 0.0f;
            for (size_t i = 0; i < A * z.Cs; i++) g.w[i] = 0.0f;
            for (size_t i = 0; i < A * z.Ch; i++) g.u[i] = 0.0f;
            for (size_t i = 0; i < A; i++) g.v[i] = g.b[i] = 0.0f;
        }
        /* a decoder asks one query at a time, of the same k */
        float *one = floats(z.Ch), *weight = floats(S), *hidden = floats(A);
        llm_attention_config step = z;
        step.T = 1;
        for (size_t i = 0; i < T; i++) {
            llm_attention_forward(one, weight, hidden, s + i * z.Cs, h, k, length, &p, &step);
            CHECK_ALL_NEAR(one, c + i * z.Ch, z.Ch, 1e-6f);
        }
        llm_arena_destroy(&arena);
    }
}

static double attention_loss(const float *q, const float *k, const float *v, const float *h,
                             const float *dc, size_t T, size_t S, size_t A, size_t C) {
    double loss = 0.0;
    for (size_t i = 0; i < T; i++) {
        double sum = 0.0, paid = 0.0;
        for (size_t j = 0; j < S; j++) {
            double e = 0.0;
            for (size_t n = 0; n < A; n++)
                e += (double)v[n] * tanh((double)q[i * A + n] + (double)k[j * A + n]);
            sum += exp(e), paid += exp(e) * dot(dc + i * C, h + j * C, C);
        }
        loss += paid / sum;
    }
    return loss;
}

TEST(attention, "gradients equal finite differences, each alone; += ; the scratch is as told") {
    enum { T = 4, S = 8, A = 4, C = 4 };
    float q[T * A], k[S * A], v[A], h[S * C], dc[T * C], e[T * S], a[T * S], c[T * C];
    llm_rng rng = llm_rng_seed(11);
    llm_rng_normal_fill(&rng, q, T * A);
    llm_rng_normal_fill(&rng, k, S * A);
    llm_rng_normal_fill(&rng, v, A);
    llm_rng_normal_fill(&rng, h, S * C);
    llm_rng_normal_fill(&rng, dc, T * C);
    llm_attention_score_forward(e, q, k, v, T, S, A);
    llm_attention_pool_forward(a, c, e, h, S, T, S, C);
    float *de = zeros(T * S), *dh = zeros(S * C), *dq = zeros(T * A), *dk = zeros(S * A),
          *dv = zeros(A);
    llm_attention_pool_backward(de, NULL, dc, a, c, h, S, T, S, C);
    llm_attention_pool_backward(NULL, dh, dc, a, c, h, S, T, S, C);
    llm_attention_score_backward(dq, NULL, NULL, de, q, k, v, T, S, A);
    llm_attention_score_backward(NULL, dk, NULL, de, q, k, v, T, S, A);
    llm_attention_score_backward(NULL, NULL, dv, de, q, k, v, T, S, A);
    CHECK_GRAD(dq, q, T * A, 1e-2f, 2e-4f, attention_loss(q, k, v, h, dc, T, S, A, C));
    CHECK_GRAD(dk, k, S * A, 1e-2f, 2e-4f, attention_loss(q, k, v, h, dc, T, S, A, C));
    CHECK_GRAD(dv, v, A, 1e-2f, 2e-4f, attention_loss(q, k, v, h, dc, T, S, A, C));
    CHECK_GRAD(dh, h, S * C, 1e-2f, 2e-4f, attention_loss(q, k, v, h, dc, T, S, A, C));
    float *twice = zeros(T * S), *dh2 = zeros(S * C), *dq2 = zeros(T * A), *dk2 = zeros(S * A),
          *dv2 = zeros(A);
    for (int round = 0; round < 2; round++) {
        llm_attention_pool_backward(twice, dh2, dc, a, c, h, S, T, S, C);
        llm_attention_score_backward(dq2, dk2, dv2, de, q, k, v, T, S, A);
    }
    for (size_t i = 0; i < T * S; i++) CHECK_NEAR(twice[i], 2.0f * de[i], 1e-6);
    for (size_t i = 0; i < S * C; i++) CHECK_NEAR(dh2[i], 2.0f * dh[i], 2e-6);
    for (size_t i = 0; i < T * A; i++) CHECK_NEAR(dq2[i], 2.0f * dq[i], 2e-6);
    for (size_t i = 0; i < S * A; i++) CHECK_NEAR(dk2[i], 2.0f * dk[i], 2e-6);
    for (size_t i = 0; i < A; i++) CHECK_NEAR(dv2[i], 2.0f * dv[i], 2e-6);

    float w[A * C];
    llm_arena arena;
    const llm_attention_config z = {T, S, C, C, A};
    llm_rng_normal_fill(&rng, w, A * C);
    const llm_attention_params p = {w, w, v, NULL}, none = {NULL, NULL, NULL, NULL};
    CHECK(llm_arena_create(&arena, (32 + 16 + 32) * sizeof(float)));
    llm_attention_backward(NULL, dh, &none, dc, c, a, q, c, h, k, S, &p, &z, &arena);
    CHECK(arena.used == 0 && arena.peak == arena.size);
    llm_arena_destroy(&arena);
}

TEST(attention, "a source of length 0 gives zeros, one of length 1 itself; logits of 1e4") {
    enum { T = 2, S = 3, C = 2 };
    const float e[T * S] = {1e4f, -1e4f, 1e4f, 0, 1, 2}, h[S * C] = {1, 2, 3, 4, 5, 6};
    const float dc[T * C] = {1, 1, 1, 1};
    float a[T * S], c[T * C], de[T * S] = {0}, dh[S * C] = {0};
    llm_attention_pool_forward(a, c, e, h, 0, T, S, C);
    for (size_t i = 0; i < T * C; i++) CHECK(c[i] == 0.0f);
    for (size_t i = 0; i < T * S; i++) CHECK(a[i] == 0.0f);
    llm_attention_pool_backward(de, dh, dc, a, c, h, 0, T, S, C);
    for (size_t i = 0; i < T * S; i++) CHECK(de[i] == 0.0f && dh[i] == 0.0f);
    llm_attention_pool_forward(a, c, e, h, 1, T, S, C);
    const float first[T * C] = {1, 2, 1, 2};
    CHECK_ALL_NEAR(c, first, T * C, 0.0f);
    memcpy(a, e, sizeof e);
    llm_attention_pool_forward(a, c, a, h, 3, T, S, C); /* in place */
    CHECK_NEAR(c[0], 3.0, 1e-6);
    CHECK_NEAR(c[1], 4.0, 1e-6);
    CHECK_NEAR(c[2], (1.0 + 3.0 * exp(1.0) + 5.0 * exp(2.0)) / (1.0 + exp(1.0) + exp(2.0)), 1e-6);
    CHECK_ASSERTS(llm_attention_pool_forward(a, c, e, h, 4, T, S, C));
    const llm_attention_config z = {0, 0, 1, 1, 1};
    const llm_attention_params p = {de, de, de, de};
    llm_attention_source(a, h, &p, &z);
    llm_attention_forward(c, a, de, h, h, h, 0, &p, &z);
}

TEST(attention, "the sizes of real layers equal sums in doubles: 17 x 65, 64 hidden units") {
    enum { T = 17, S = 65, A = 64, C = 20 };
    float *q = floats(T * A), *k = floats(S * A), *v = floats(A), *h = floats(S * C),
          *one = floats(C);
    float *e = floats(T * S), *a = floats(T * S), *c = floats(T * C);
    llm_rng rng = llm_rng_seed(12);
    llm_rng_normal_fill(&rng, q, T * A);
    llm_rng_normal_fill(&rng, k, S * A);
    llm_rng_normal_fill(&rng, v, A);
    llm_rng_normal_fill(&rng, h, S * C);
    llm_attention_score_forward(e, q, k, v, T, S, A);
    for (size_t i = 0; i < T; i++)
        for (size_t j = 0; j < S; j++) {
            double want = 0.0;
            for (size_t n = 0; n < A; n++)
                want += (double)v[n] * tanh((double)q[i * A + n] + (double)k[j * A + n]);
            CHECK_NEAR(e[i * S + j], want, 1e-5);
        }
    llm_attention_pool_forward(a, c, e, h, S, T, S, C);
    for (size_t i = 0; i < T; i++)
        for (size_t n = 0; n < C; n++) { /* the loss with dc = a unit vector is an entry of c */
            for (size_t d = 0; d < C; d++) one[d] = d == n ? 1.0f : 0.0f;
            CHECK_NEAR(c[i * C + n], attention_loss(q + i * A, k, v, h, one, 1, S, A, C), 1e-5);
        }
}

TEST(attention, "with a Gaussian score it is statsmodels' kernel regression") {
    float y[6], a[6 * 11];
    llm_attention_nadaraya(y, a, golden("kernel/x"), golden("kernel/at"), golden("kernel/value"),
                           0.4f, 6, 11, 1, 1);
    CHECK_GOLDEN(y, 6, 1e-6f, "kernel/y");
    const float x[4] = {1.0f, 0.0f, -1.0f, 0.0f}, at[6] = {1, 1, 0, 0, -1, 0},
                value[6] = {1, 0, 0, 1, 0, 0};
    float two[4];
    /* distances^2 1, 1, 4 from the first point; 5, 1, 0 from the second */
    llm_attention_nadaraya(two, a, x, at, value, 2.0f, 2, 3, 2, 2);
    const double far = exp(-4.0 / 8.0), near = exp(-1.0 / 8.0), sum = far + 2.0 * near;
    CHECK_NEAR(a[0], near / sum, 1e-6);
    CHECK_NEAR(a[2], far / sum, 1e-6);
    CHECK_NEAR(two[0], near / sum, 1e-6);
    CHECK_NEAR(two[1], near / sum, 1e-6);
    CHECK_NEAR(two[2], exp(-5.0 / 8.0) / (exp(-5.0 / 8.0) + near + 1.0), 1e-6);
    CHECK_NEAR(two[3], near / (exp(-5.0 / 8.0) + near + 1.0), 1e-6);
}

TEST(attention, "hard attention draws what the weights say; its gradient is right on average") {
    enum { N = 4, DRAWS = 20000 };
    const float a[N] = {0.5f, 0.25f, 0.0f, 0.25f}, loss[N] = {3.0f, 1.0f, 9.0f, -2.0f};
    double count[N] = {0}, want[N], noise[2] = {0, 0}, mean[2][N] = {{0}}, square[2][N] = {{0}};
    double expected = 0.0;
    for (size_t j = 0; j < N; j++) expected += (double)a[j] * (double)loss[j];
    for (size_t j = 0; j < N; j++) want[j] = (double)a[j] * ((double)loss[j] - expected);
    llm_rng rng = llm_rng_seed(1);
    for (size_t d = 0; d < DRAWS; d++) {
        const size_t j = llm_attention_hard(a, N, &rng);
        CHECK(j < N);
        count[j] += 1.0;
        for (int based = 0; based < 2; based++) {
            float de[N] = {0};
            llm_attention_hard_backward(de, a, N, j, loss[j], based ? (float)expected : -5.0f);
            for (size_t l = 0; l < N; l++) {
                mean[based][l] += (double)de[l] / DRAWS;
                square[based][l] += (double)de[l] * (double)de[l] / DRAWS;
            }
        }
    }
    for (size_t j = 0; j < N; j++) {
        const double p = (double)a[j];
        CHECK_NEAR(count[j] / DRAWS, p, 3.0 * sqrt(p * (1.0 - p) / DRAWS));
        for (int based = 0; based < 2; based++) {
            const double variance = square[based][j] - mean[based][j] * mean[based][j];
            CHECK_NEAR(mean[based][j], want[j], 3.0 * sqrt(variance / DRAWS) + 1e-12);
            noise[based] += variance;
        }
    }
    CHECK(noise[1] < 0.5 * noise[0]); /* exactly: 1.5 against 20.4 */
    CHECK(llm_attention_hard(a, 1, &rng) == 0);
    float de[N] = {1, 1, 1, 1};
    llm_attention_hard_backward(de, a, N, 1, 2.5f, 0.5f);
    CHECK_NEAR(de[0], 0.0, 1e-7);
    CHECK_NEAR(de[1], 2.5, 1e-7);
    CHECK_ASSERTS(llm_attention_hard(a, 0, &rng));
    const float short_of_one[2] = {0.0f, 0.0f}; /* rounding may leave a rest: the last one */
    CHECK(llm_attention_hard(short_of_one, 2, &rng) == 1);
    llm_rng same = rng; /* weights are half open intervals: a draw at the edge is the next one's */
    const float u = llm_rng_uniform(&same), edge[2] = {u, 1.0f - u};
    CHECK(llm_attention_hard(edge, 2, &rng) == 1);
}

/* @luong_local */
#include "../test.h"

#include "../../llm.h"

static float *luong_local_normal(llm_rng *rng, size_t n) {
    float *x = floats(n);
    llm_rng_normal_fill(rng, x, n);
    return x;
}

TEST(luong_local,
     "weights, contexts and gradients equal PyTorch, through the predicted place too") {
    const size_t shapes[4][5] = {
        {1, 1, 1, 1, 1}, {4, 7, 3, 2, 2}, {6, 17, 2, 5, 3}, {9, 5, 2, 3, 1}};
    for (size_t n = 0; n < 8; n++) {
        const size_t *d = shapes[n / 2], T = d[0], S = d[1], C = d[2], A = d[3], R = d[4];
        char at[32], name[48];
        snprintf(at, sizeof at, "%zux%zu", T, S);
        snprintf(name, sizeof name, "%s/%s", at, n % 2 ? "p" : "m");
        const float *s = golden("%s/s", at), *h = golden("%s/h", at), *dc = golden("%s/dc", at);
        const float *w = golden("%s/w", at), *v = golden("%s/v", at), *e = golden("%s/e", at);
        float *p = floats(T), *hidden = floats(T * A), *a = floats(T * S), *soft = floats(T * S);
        float *c = floats(T * C), *de = zeros(T * S), *dh = zeros(S * C), *dp = zeros(T);
        float *ds = zeros(T * C), *dw = zeros(A * C), *dv = zeros(A);
        llm_arena arena;
        CHECK(llm_arena_create(&arena, (T * A * sizeof(float) + 63) / 64 * 64));
        llm_luong_local_place_forward(p, hidden, s, w, v, T, S, C, A);
        CHECK_GOLDEN(p, T, 1e-6f, "%s/place", at);
        const float *place = n % 2 ? p : NULL;
        if (n % 2 == 0) soft = a;
        llm_luong_local_forward(soft, a, c, e, h, place, T, S, C, R);
        CHECK_GOLDEN(a, T * S, 2e-6f, "%s/a", name);
        CHECK_GOLDEN(c, T * C, 2e-6f, "%s/c", name);
        for (int round = 0; round < 2; round++) {
            if (round == 0) llm_luong_local_backward(de, dh, dp, dc, soft, a, h, place, T, S, C, R);
            if (round == 0 && n % 2)
                llm_luong_local_place_backward(ds, dw, dv, dp, p, hidden, s, w, v, T, S, C, A,
                                               &arena);
            if (round == 1) { /* each alone, on top of what is there */
                llm_luong_local_backward(de, NULL, NULL, dc, soft, a, h, place, T, S, C, R);
                llm_luong_local_backward(NULL, dh, NULL, dc, soft, a, h, place, T, S, C, R);
                llm_luong_local_backward(NULL, NULL, dp, dc, soft, a, h, place, T, S, C, R);
                for (size_t i = 0; i < T * S; i++) de[i] *= 0.5f;
                for (size_t i = 0; i < S * C; i++) dh[i] *= 0.5f;
                for (size_t i = 0; i < T; i++) dp[i] *= 0.5f;
                if (n % 2) {
                    llm_luong_local_place_backward(ds, NULL, NULL, dp, p, hidden, s, w, v, T, S, C,
                                                   A, &arena);
                    llm_luong_local_place_backward(NULL, dw, NULL, dp, p, hidden, s, w, v, T, S, C,
                                                   A, &arena);
                    llm_luong_local_place_backward(NULL, NULL, dv, dp, p, hidden, s, w, v, T, S, C,
                                                   A, &arena);
                }
                for (size_t i = 0; i < T * C; i++) ds[i] *= 0.5f;
                for (size_t i = 0; i < A * C; i++) dw[i] *= 0.5f;
                for (size_t i = 0; i < A; i++) dv[i] *= 0.5f;
            }
            CHECK_GOLDEN(de, T * S, 3e-6f, "%s/de", name);
            CHECK_GOLDEN(dh, S * C, 3e-6f, "%s/dh", name);
            if (n % 2 == 0) {
                for (size_t t = 0; t < T; t++) CHECK(dp[t] == 0.0f); /* nothing to move */
                continue;
            }
            CHECK_GOLDEN(ds, T * C, 2e-5f, "%s/ds", name); /* p is up to 17, and its rounding too */
            CHECK_GOLDEN(dw, A * C, 2e-5f, "%s/dw", name);
            CHECK_GOLDEN(dv, A, 2e-5f, "%s/dv", name);
        }
        CHECK(arena.used == 0 && (n % 2 == 0 || arena.peak == arena.size));
        llm_arena_destroy(&arena);
    }
}

static double luong_local_loss(const float *place, const float *e, const float *h, const float *dc,
                               const size_t *center, size_t T, size_t S, size_t C, size_t R) {
    double loss = 0.0;
    for (size_t t = 0; t < T; t++) {
        double sum = 0.0, paid = 0.0;
        for (size_t j = 0; j < S; j++) {
            if (j + R < center[t] || j > center[t] + R) continue;
            const double z = ((double)j - (double)place[t]) / (0.5 * (double)R);
            sum += exp((double)e[t * S + j]);
            paid += exp((double)e[t * S + j] - 0.5 * z * z) * dot(dc + t * C, h + j * C, C);
        }
        loss += paid / sum;
    }
    return loss;
}

TEST(luong_local, "the gradient of the place equals finite differences; windows at both ends") {
    enum { T = 5, S = 12, C = 3, R = 3 };
    llm_rng rng = llm_rng_seed(5);
    float *e = luong_local_normal(&rng, T * S), *h = luong_local_normal(&rng, S * C);
    float *dc = luong_local_normal(&rng, T * C), a[T * S], soft[T * S], c[T * C];
    float place[T] = {0.1f, 11.9f, 5.2f, 2.45f, 7.0f}, dp[T] = {0}, de[T * S] = {0};
    const size_t center[T] = {0, 12, 5, 2, 7};
    llm_luong_local_forward(soft, a, c, e, h, place, T, S, C, R);
    for (size_t t = 0; t < T; t++) {
        double sum = 0.0;
        for (size_t j = 0; j < S; j++) {
            CHECK((a[t * S + j] > 0.0f) == (j + R >= center[t] && j <= center[t] + R));
            sum += (double)a[t * S + j];
        }
        CHECK(sum < 1.0);
    }
    llm_luong_local_backward(de, NULL, dp, dc, soft, a, h, place, T, S, C, R);
    CHECK_GRAD(dp, place, T, 1e-2f, 2e-4f, luong_local_loss(place, e, h, dc, center, T, S, C, R));
    CHECK_GRAD(de, e, T * S, 1e-2f, 2e-4f, luong_local_loss(place, e, h, dc, center, T, S, C, R));
}

TEST(luong_local, "a window wide enough is global; what lies outside is not read; scores of 1e4") {
    const size_t sizes[4] = {1, 2, 3, 17};
    llm_rng rng = llm_rng_seed(6);
    for (size_t k = 0; k < 4; k++) {
        const size_t S = sizes[k], T = S, C = 4;
        float *e = luong_local_normal(&rng, T * S), *h = luong_local_normal(&rng, S * C);
        float *a = floats(T * S), *c = floats(T * C), *all = floats(T * S), *want = floats(T * C);
        llm_luong_local_forward(a, a, c, e, h, NULL, T, S, C, S);
        llm_attention_pool_forward(all, want, e, h, S, T, S, C);
        CHECK_ALL_NEAR(a, all, T * S, 0.0f);
        CHECK_ALL_NEAR(c, want, T * C, 0.0f);
        for (size_t t = 0; t < T; t++)
            for (size_t j = 0; j < S; j++)
                if ((t > j ? t - j : j - t) > 1)
                    e[t * S + j] = NAN;
                else
                    e[t * S + j] *= 1e4f;
        llm_luong_local_forward(a, a, c, e, h, NULL, T, S, C, 1);
        for (size_t i = 0; i < T * C; i++) CHECK(isfinite(c[i]));
        for (size_t t = 0; t < T; t++) {
            double sum = 0.0;
            for (size_t j = 0; j < S; j++) sum += (double)a[t * S + j];
            CHECK_NEAR(sum, 1.0, 1e-6);
        }
    }
    size_t first, end;
    llm_luong_local_window(&first, &end, 9, 2, 5); /* beyond the source */
    CHECK(first == 5 && end == 5);
    llm_luong_local_window(&first, &end, 6, 2, 5);
    CHECK(first == 4 && end == 5);
    llm_luong_local_window(&first, &end, 1, 2, 9);
    CHECK(first == 0 && end == 4);
    llm_luong_local_window(&first, &end, 4, 0, 9);
    CHECK(first == 4 && end == 5);
    CHECK(llm_luong_local_flops(2 * 10 + 1, 8) == 2.0 * 21.0 * 8.0 * 2.0);
    const float one[1] = {0.4f};
    float w[1], p[1], c[1];
    llm_luong_local_forward(p, w, c, one, one, one, 1, 1, 1, 1);
    CHECK_ASSERTS(llm_luong_local_forward(p, w, c, one, one, one, 1, 1, 1, 0));
    CHECK_ASSERTS(llm_luong_local_forward(w, w, c, one, one, one, 1, 1, 1, 1));
    llm_luong_local_forward(w, w, c, one, one, NULL, 1, 1, 1, 0); /* its own key only */
    CHECK(w[0] == 1.0f && c[0] == 0.4f);
}

/* Word t of the target is word t of the source: the mean distance of the predicted places after
 * training by what was read. Equal scores, so that only the place can tell words apart; h says
 * where a word stands, s which word is asked. */
static double luong_local_copy(uint64_t seed) {
    enum { S = 16, C = 3, A = 8, R = 4, W = A * C };
    llm_rng rng = llm_rng_seed(seed);
    float *w = luong_local_normal(&rng, W + A), *v = w + W;
    float s[S * C], h[S * C], p[S], hidden[S * A], soft[S * S], a[S * S], c[S * C],
        *e = zeros(S * S);
    for (size_t i = 0; i < W + A; i++) w[i] *= 0.5f;
    for (size_t t = 0; t < S; t++) {
        const float x = 2.0f * ((float)t + 0.5f) / S - 1.0f;
        s[t * C] = x, s[t * C + 1] = x * x, s[t * C + 2] = 1.0f;
        h[t * C] = x, h[t * C + 1] = x * x * x, h[t * C + 2] = 1.0f; /* the sum of weights */
    }
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 4096));
    for (int step = 0; step < 1500; step++) {
        float dc[S * C], dp[S] = {0}, g[W + A] = {0};
        llm_luong_local_place_forward(p, hidden, s, w, v, S, S, C, A);
        llm_luong_local_forward(soft, a, c, e, h, p, S, S, C, R);
        for (size_t t = 0; t < S; t++) { /* |c_t / sum of weights - h_t|^2: the mean place */
            for (size_t n = 0; n < 2; n++) {
                const float gap = c[t * C + n] / c[t * C + 2] - h[t * C + n];
                dc[t * C + n] = gap / c[t * C + 2];
                dc[t * C + 2] =
                    (n ? dc[t * C + 2] : 0.0f) - gap * c[t * C + n] / (c[t * C + 2] * c[t * C + 2]);
            }
        }
        llm_luong_local_backward(NULL, NULL, dp, dc, soft, a, h, p, S, S, C, R);
        llm_luong_local_place_backward(NULL, g, g + W, dp, p, hidden, s, w, v, S, S, C, A, &arena);
        for (size_t i = 0; i < W + A; i++) w[i] -= 0.1f * g[i];
    }
    llm_luong_local_place_forward(p, hidden, s, w, v, S, S, C, A);
    double far = 0.0;
    for (size_t t = 0; t < S; t++) far += fabs((double)p[t] - (double)t) / S;
    llm_arena_destroy(&arena);
    return far;
}

TEST(luong_local, "on a copy task the places learn to be where the word stands") {
    double far = 0.0;
    for (uint64_t seed = 1; seed <= 4; seed++) far += luong_local_copy(seed) / 4.0;
    /* 9 sets of 4 seeds: 0.35 to 0.37; places in the middle would be 4 away */
    CHECK(far < 1.0);
}

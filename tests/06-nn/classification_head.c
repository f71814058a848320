/* @classification_head */
#include "../test.h"

#include "../../llm.h"

#include "../arena.h"
#include "../tape.h"

static const size_t shapes[3][4] = {{1, 1, 1, 2}, {2, 3, 5, 3}, {3, 7, 4, 2}}; /* B, T, D, K */
static const char *const names[3] = {"one", "small", "long"};

/* The parameters of the golden file in the order of the vector w. */
static float *weights(const llm_classification_head *h, const char *name) {
    const size_t n = llm_classification_head_param_count(h), D = h->D;
    float *w = floats(n);
    if (h->pool == LLM_CLASSIFICATION_HEAD_ATTN) memcpy(w, golden("%s/q", name), D * sizeof(float));
    if (h->tanh)
        memcpy(w + llm_classification_head_tanh_at(h), golden("%s/tanh", name),
               D * (D + 1) * sizeof(float));
    memcpy(w + llm_classification_head_linear_at(h), golden("%s/linear", name),
           h->K * (D + 1) * sizeof(float));
    return w;
}

TEST(classification_head,
     "every pooling, with and without tanh, equals transformers and torch, and so do "
     "the gradients, each also without the other") {
    for (size_t c = 0; c < 30; c++) {
        const size_t s = c / 10, B = shapes[s][0], T = shapes[s][1], D = shapes[s][2];
        const size_t K = shapes[s][3];
        const llm_classification_head h = {D, K, (int)(c % 10 / 2), c % 2 == 1, 0.0f, 0};
        const size_t n = llm_classification_head_param_count(&h), size = B * T * D;
        float *w = weights(&h, names[s]), *x = golden("%s/x", names[s]);
        const float *dz = golden("%s/dz", names[s]);
        const bool *mask = as_bools(golden("%s/mask", names[s]), B * T);
        float *cache = floats(llm_classification_head_cache(&h, B, T)), *z = floats(B * K);
        float *dx = zeros(size), *dw = zeros(n), *dx1 = zeros(size), *dw1 = zeros(n);
        for (size_t i = 0; i < size; i++)
            if (!mask[i / D]) x[i] = NAN; /* padding is not read */
        llm_arena a = test_arena((3 * B * D * sizeof(float) + 63) / 64 * 64);
        llm_classification_head_forward(z, cache, &h, w, x, mask, B, T);
        llm_classification_head_backward(dx, dw, dz, cache, &h, w, x, mask, B, T, &a);
        CHECK(a.used == 0);
        CHECK_GOLDEN(z, B * K, 2e-6f, "%s/%d/%d/z", names[s], h.pool, h.tanh);
        CHECK_GOLDEN(dx, size, 3e-6f, "%s/%d/%d/dx", names[s], h.pool, h.tanh);
        CHECK_GOLDEN(dw, n, 3e-6f, "%s/%d/%d/dw", names[s], h.pool, h.tanh);
        for (size_t i = 0; i < size; i++) CHECK(mask[i / D] || dx[i] == 0.0f);

        llm_classification_head_backward(dx1, NULL, dz, cache, &h, w, x, mask, B, T, &a);
        llm_classification_head_backward(NULL, dw1, dz, cache, &h, w, x, mask, B, T, &a);
        CHECK_ALL_NEAR(dx1, dx, size, 0.0f);
        CHECK_ALL_NEAR(dw1, dw, n, 0.0f);
        llm_classification_head_backward(dx1, dw1, dz, cache, &h, w, x, mask, B, T, &a);
        for (size_t i = 0; i < size; i++) CHECK_NEAR(dx1[i], 2.0f * dx[i], 1e-5f); /* adds */
        for (size_t i = 0; i < n; i++) CHECK_NEAR(dw1[i], 2.0f * dw[i], 2e-5f);

        const float *f = llm_classification_head_features(cache, &h, w, x, mask, B, T);
        CHECK_GOLDEN(f, B * D, 2e-6f, "%s/%d/%d/a", names[s], h.pool, h.tanh);
    }
}

TEST(classification_head, "backward is what @autodiff_array makes of the definition") {
    const size_t shape[3][3] = {{2, 3, 1}, {5, 7, 3}, {11, 13, 2}}; /* T, D, K */
    for (size_t s = 0; s < 3; s++) {
        const size_t T = shape[s][0], D = shape[s][1], K = shape[s][2];
        const llm_classification_head h = {D, K, LLM_CLASSIFICATION_HEAD_ATTN, true, 0.0f, 0};
        tape_open(70 + s);
        const size_t x = tape_draw(T, D), q = tape_draw(1, D), p = tape_draw(D, D);
        const size_t pb = tape_draw(1, D), w = tape_draw(K, D), wb = tape_draw(1, K);
        const size_t dz = tape_draw(1, K);
        const size_t e = tape_exp(tape_scale(tape_linear(q, x), 1.0 / sqrt((double)D)));
        const size_t f = tape_matmul(tape_div(e, tape_row_sums(e)), x);
        const size_t z = tape_add(tape_linear(tape_tanh(tape_add(tape_linear(f, p), pb)), w), wb);
        const size_t part[5] = {q, p, pb, w, wb}, length[5] = {D, D * D, D, K * D, K};
        const size_t n = llm_classification_head_param_count(&h);
        float *all = floats(n), *dx = zeros(T * D), *dw = zeros(n), *out = floats(K);
        float *cache = floats(llm_classification_head_cache(&h, 1, T));
        size_t at = 0;
        for (size_t i = 0; i < 5; at += length[i++])
            memcpy(all + at, tape_floats(part[i]), length[i] * sizeof(float));
        CHECK(at == n);
        llm_arena a = test_arena(1024);
        tape_back(z, tape_floats(dz));
        llm_classification_head_forward(out, cache, &h, all, tape_floats(x), NULL, 1, T);
        llm_classification_head_backward(dx, dw, tape_floats(dz), cache, &h, all, tape_floats(x),
                                         NULL, 1, T, &a);
        TAPE_CHECK(out, z, 3e-6);
        TAPE_CHECK_GRAD(dx, x, 5e-6);
        at = 0;
        for (size_t i = 0; i < 5; at += length[i++]) TAPE_CHECK_GRAD(dw + at, part[i], 5e-6);
    }
}

TEST(classification_head,
     "one token is its own pool, huge scores stay finite, and no token is refused") {
    const float x[6] = {1.0f, -2.0f, 300.0f, 400.0f, 5.0f, 6.0f}, q[2] = {300.0f, 400.0f};
    const bool mask[3] = {false, true, false}, none[3] = {false, false, false};
    float f[2], s[3];
    for (int pool = 0; pool < LLM_CLASSIFICATION_HEAD_COUNT; pool++) {
        llm_classification_head_pool(f, s, x, mask, q, 3, 2, pool);
        CHECK(f[0] == 300.0f && f[1] == 400.0f && s[0] == 0.0f && s[2] == 0.0f);
        CHECK_ASSERTS((llm_classification_head_pool(f, s, x, none, q, 3, 2, pool), 0));
        CHECK_ASSERTS((llm_classification_head_pool(f, s, x, NULL, q, 0, 2, pool), 0));
    }
    llm_classification_head_pool(f, s, x, NULL, q, 3, 2, LLM_CLASSIFICATION_HEAD_ATTN);
    CHECK(f[0] == 300.0f && s[1] == 1.0f);
    CHECK_ASSERTS((llm_classification_head_pool(f, s, x, NULL, q, 3, 2, -1), 0));
    CHECK_ASSERTS((llm_classification_head_pool(f, s, x, NULL, q, 3, 2, 5), 0));
}

TEST(classification_head, "the first of equal maxima gets the gradient, a NaN is passed on") {
    const float x[8] = {-3.0f, NAN, -1.0f, 9.0f, -1.0f, 2.0f, -2.0f, 1.0f}, df[2] = {5.0f, 7.0f};
    float f[2], s[4], dx[8] = {0};
    llm_classification_head_pool(f, s, x, NULL, NULL, 4, 2, LLM_CLASSIFICATION_HEAD_MAX);
    CHECK(f[0] == -1.0f && isnan(f[1]));
    llm_classification_head_pool_backward(dx, NULL, df, s, x, NULL, NULL, 4, 2,
                                          LLM_CLASSIFICATION_HEAD_MAX);
    for (size_t i = 0; i < 8; i++) CHECK(dx[i] == (i == 2 ? 5.0f : i == 1 ? 7.0f : 0.0f));
}

static double loss(float *cache, const llm_classification_head *h, const float *w, const float *x,
                   const float *dz, size_t B, size_t T) {
    float z[16];
    llm_classification_head_forward(z, cache, h, w, x, NULL, B, T);
    return dot(z, dz, B * h->K);
}

TEST(classification_head, "with dropout the gradients are those of finite differences") {
    enum { B = 2, T = 3, D = 7, K = 3, N = 2 * D + D * D + K * (D + 1) };
    for (int tanh = 0; tanh < 2; tanh++) {
        const llm_classification_head h = {D, K, LLM_CLASSIFICATION_HEAD_ATTN, tanh == 1, 0.4f, 3};
        const size_t n = llm_classification_head_param_count(&h);
        llm_rng rng = llm_rng_seed(4);
        float x[B * T * D], dz[B * K], w[N], dx[B * T * D] = {0}, dw[N] = {0};
        float cache[B * (T + 3 * D)];
        llm_arena a = test_arena(1024);
        llm_rng_normal_fill(&rng, x, B * T * D);
        llm_rng_normal_fill(&rng, dz, B * K);
        llm_rng_normal_fill(&rng, w, n);
        (void)loss(cache, &h, w, x, dz, B, T);
        size_t gone = 0;
        for (size_t i = 0; i < B * D; i++) gone += cache[B * (T + 2 * D) + i] == 0.0f;
        CHECK(gone > 0 && gone < B * D);
        llm_classification_head_backward(dx, dw, dz, cache, &h, w, x, NULL, B, T, &a);
        CHECK_GRAD(dx, x, B * T * D, 1e-2f, 2e-3f, loss(cache, &h, w, x, dz, B, T));
        CHECK_GRAD(dw, w, n, 1e-2f, 2e-3f, loss(cache, &h, w, x, dz, B, T));
    }
}

TEST(classification_head, "init starts at the plain mean, biases at 0, and deviations as stated") {
    const llm_classification_head h = {50, 40, LLM_CLASSIFICATION_HEAD_ATTN, true, 0.0f, 0};
    const size_t n = llm_classification_head_param_count(&h);
    CHECK(n == 50 + 51 * 50 + 51 * 40);
    float *w = floats(n), f[2], s[3];
    llm_rng rng = llm_rng_seed(5);
    llm_classification_head_init(w, &h, &rng);
    for (size_t i = 0; i < 50; i++) CHECK(w[i] == 0.0f && w[2550 + i] == 0.0f);
    for (size_t i = 0; i < 40; i++) CHECK(w[4600 + i] == 0.0f);
    CHECK(llm_classification_head_cache(&h, 2, 3) == 2 * (3 + 3 * 50));
    for (size_t i = 50; i < 2550; i++) CHECK(fabsf(w[i]) < 0.8f); /* 5.6 deviations */
    llm_rng again = llm_rng_seed(5);
    float *draw = floats(2500);
    llm_rng_normal_fill(&again, draw, 2500);
    CHECK_NEAR(w[50], draw[0] / sqrtf(50.0f), 1e-6f);
    /* 2500 and 2000 draws: the deviation is known to 2% */
    CHECK_NEAR(sqrt(dot(w + 50, w + 50, 2500) / 2500.0), 0.14142, 0.012);
    CHECK_NEAR(sqrt(dot(w + 2600, w + 2600, 2000) / 2000.0), 0.02, 0.002);
    const float x[6] = {1.0f, 2.0f, 3.0f, 4.0f, 8.0f, 0.0f};
    llm_classification_head_pool(f, s, x, NULL, w, 3, 2, LLM_CLASSIFICATION_HEAD_ATTN);
    CHECK_NEAR(f[0], 4.0f, 1e-6f);
    CHECK_NEAR(f[1], 2.0f, 1e-6f);
}

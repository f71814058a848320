/* @batchnorm */
#include "../test.h"

#include "../../llm.h"

static llm_batchnorm batchnorm_layer(const float *w, const float *b, float *mean, float *var,
                                     size_t C) {
    const llm_batchnorm layer = {w, b, mean, var, C, 0.1f, 1e-5f};
    return layer;
}
static float *batchnorm_copy(const float *x, size_t n) {
    float *y = floats(n);
    memcpy(y, x, n * sizeof(float));
    return y;
}
static float *batchnorm_normals(llm_rng *rng, size_t n) {
    float *x = floats(n);
    llm_rng_normal_fill(rng, x, n);
    return x;
}

TEST(batchnorm, "outputs, running averages and gradients equal torch's, training and inference") {
    const size_t shapes[6][3] = {{2, 1, 1}, {5, 3, 1}, {2, 65, 1},
                                 {1, 2, 7}, {3, 5, 2}, {2, 1, 19}};
    for (size_t s = 0; s < 6; s++) {
        const size_t N = shapes[s][0], C = shapes[s][1], S = shapes[s][2], n = N * C * S;
        const float *x = golden("%zux%zux%zu/x", N, C, S), *dy = golden("%zux%zux%zu/dy", N, C, S);
        const float *w = golden("%zux%zux%zu/w", N, C, S), *b = golden("%zux%zux%zu/b", N, C, S);
        float *mean = golden("%zux%zux%zu/mean", N, C, S),
              *var = golden("%zux%zux%zu/var", N, C, S);
        float *m = floats(C), *r = floats(C), *y = floats(n);
        llm_arena arena;
        CHECK(llm_arena_create(&arena, 2 * (C * sizeof(float) + 63) / 64 * 64));
        const llm_batchnorm layer = batchnorm_layer(w, b, mean, var, C);
        for (int training = 0; training < 2; training++) {
            const char *mode = training ? "train" : "eval";
            float *dx = zeros(n), *dw = zeros(C), *db = zeros(C);
            if (training) {
                llm_batchnorm_forward_train(y, m, r, x, &layer, N, S);
            } else {
                llm_batchnorm_forward_eval(y, x, &layer, N, S, &arena);
                memcpy(m, mean, C * sizeof(float));
                llm_batchnorm_running_rstd(r, &layer);
            }
            llm_batchnorm_backward(dx, dw, db, dy, x, m, r, &layer, N, S, training, &arena);
            CHECK(arena.used == 0);
            CHECK_GOLDEN(y, n, 4e-6f, "%zux%zux%zu/%s/y", N, C, S, mode);
            /* two numbers a channel can lie close together: r is then large, and dx a difference */
            CHECK_GOLDEN(dx, n, 1e-4f, "%zux%zux%zu/%s/dx", N, C, S, mode);
            CHECK_GOLDEN(dw, C, 1e-5f, "%zux%zux%zu/%s/dw", N, C, S, mode);
            CHECK_GOLDEN(db, C, 5e-6f, "%zux%zux%zu/%s/db", N, C, S, mode);
            float *dx2 = batchnorm_copy(dx, n), *dw2 = batchnorm_copy(dw, C);
            float *db2 = batchnorm_copy(db, C); /* accumulates, any may be NULL */
            llm_batchnorm_backward(dx2, NULL, NULL, dy, x, m, r, &layer, N, S, training, &arena);
            llm_batchnorm_backward(NULL, dw2, NULL, dy, x, m, r, &layer, N, S, training, &arena);
            llm_batchnorm_backward(NULL, NULL, db2, dy, x, m, r, &layer, N, S, training, &arena);
            for (size_t i = 0; i < n; i++) dx2[i] -= dx[i];
            CHECK_ALL_NEAR(dx2, dx, n, 1e-5f);
            for (size_t c = 0; c < C; c++) dw2[c] -= dw[c], db2[c] -= db[c];
            CHECK_ALL_NEAR(dw2, dw, C, 1e-5f);
            CHECK_ALL_NEAR(db2, db, C, 1e-5f);
        }
        CHECK_GOLDEN(mean, C, 1e-6f, "%zux%zux%zu/train/mean", N, C, S);
        CHECK_GOLDEN(var, C, 1e-6f, "%zux%zux%zu/train/var", N, C, S);
        float *in_place = batchnorm_copy(x, n);
        llm_batchnorm_forward_train(in_place, m, r, in_place, &layer, N, S);
        CHECK_ALL_NEAR(in_place, y, n, 0.0f);
        llm_arena_destroy(&arena);
    }
}

static double batchnorm_loss(const float *x, const float *w, const float *b, const float *dy,
                             size_t N, size_t C, size_t S) {
    double loss = 0.0;
    for (size_t c = 0; c < C; c++) {
        double m = 0.0, v = 0.0, M = (double)(N * S);
        for (size_t k = 0; k < N * S; k++) m += (double)x[(k / S * C + c) * S + k % S] / M;
        for (size_t k = 0; k < N * S; k++)
            v += pow((double)x[(k / S * C + c) * S + k % S] - m, 2.0) / M;
        for (size_t k = 0; k < N * S; k++) {
            const size_t i = (k / S * C + c) * S + k % S;
            const double xhat = ((double)x[i] - m) / sqrt(v + 1e-5);
            loss += (double)dy[i] * (xhat * (double)w[c] + (double)b[c]);
        }
    }
    return loss;
}

TEST(batchnorm, "gradients agree with differences; dx has no sum and no part along xhat") {
    enum { N = 3, C = 2, S = 5, n = N * C * S };
    llm_rng rng = llm_rng_seed(2);
    float *x = batchnorm_normals(&rng, n), *w = batchnorm_normals(&rng, C);
    float *b = batchnorm_normals(&rng, C), *dy = batchnorm_normals(&rng, n), y[n], m[C], r[C];
    float mean[C] = {0.0f}, var[C] = {1.0f, 1.0f}, dx[n] = {0.0f}, dw[C] = {0.0f}, db[C] = {0.0f};
    const llm_batchnorm layer = batchnorm_layer(w, b, mean, var, C);
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 1024));
    llm_batchnorm_forward_train(y, m, r, x, &layer, N, S);
    llm_batchnorm_backward(dx, dw, db, dy, x, m, r, &layer, N, S, true, &arena);
    CHECK_GRAD(dx, x, n, 1e-2f, 1e-3f, batchnorm_loss(x, w, b, dy, N, C, S));
    CHECK_GRAD(dw, w, C, 1e-2f, 1e-4f, batchnorm_loss(x, w, b, dy, N, C, S));
    CHECK_GRAD(db, b, C, 1e-2f, 1e-4f, batchnorm_loss(x, w, b, dy, N, C, S));
    for (size_t c = 0; c < C; c++) {
        double sum = 0.0, along = 0.0;
        for (size_t k = 0; k < N * S; k++) {
            const size_t i = (k / S * C + c) * S + k % S;
            sum += (double)dx[i];
            along += (double)dx[i] * (double)(x[i] - m[c]);
        }
        CHECK_NEAR(sum, 0.0, 1e-5);
        CHECK_NEAR(along, 0.0, 1e-3); /* eps is 1e-5 of the variance, or more */
    }
    llm_arena_destroy(&arena);
}

TEST(batchnorm, "the scale of the input does not matter, a mean of 1e4 keeps 1e-3") {
    enum { N = 16, C = 3, S = 49, n = N * C * S };
    llm_rng rng = llm_rng_seed(3);
    float *x = batchnorm_normals(&rng, n), *y = floats(n), *z = floats(n), *big = floats(n);
    float mean[C] = {0.0f}, var[C] = {1.0f, 1.0f, 1.0f}, m[C], r[C];
    llm_batchnorm layer = batchnorm_layer(NULL, NULL, mean, var, C);
    layer.eps = 0.0f;
    llm_batchnorm_forward_train(y, m, r, x, &layer, N, S);
    for (size_t i = 0; i < n; i++) big[i] = 100.0f * x[i];
    llm_batchnorm_forward_train(z, m, r, big, &layer, N, S);
    CHECK_ALL_NEAR(z, y, n, 1e-5f);
    for (size_t c = 0; c < C; c++) {
        double sum = 0.0, square = 0.0;
        for (size_t k = 0; k < N * S; k++) {
            const double v = (double)y[(k / S * C + c) * S + k % S];
            sum += v / (N * S), square += v * v / (N * S);
        }
        CHECK_NEAR(sum, 0.0, 1e-6);
        CHECK_NEAR(square, 1.0, 1e-5);
    }
    for (size_t i = 0; i < n; i++) big[i] = 1e4f + x[i];
    llm_batchnorm_forward_train(z, m, r, big, &layer, N, S);
    CHECK_ALL_NEAR(z, y, n, 2e-3f); /* x and its mean are rounded to an ulp of 1e4, 1e-3 */
}

TEST(batchnorm, "two machines with unequal parts of a batch compute what one does") {
    enum { N = 7, A = 3, C = 5, S = 4, n = N * C * S, at = A * C * S };
    llm_rng rng = llm_rng_seed(4);
    float *x = batchnorm_normals(&rng, n), *dy = batchnorm_normals(&rng, n), *y = floats(n);
    float *w = batchnorm_normals(&rng, C), *b = batchnorm_normals(&rng, C), *two = floats(n);
    float mean[C] = {0.0f}, var[C] = {1.0f}, m[C], r[C], m_b[C], r_b[C], sum[C], along[C];
    float sum_b[C], along_b[C], dx[n] = {0.0f}, dx2[n] = {0.0f}, kept[C];
    const llm_batchnorm layer = batchnorm_layer(w, b, mean, var, C);
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 1024));
    llm_batchnorm_forward_train(y, m, r, x, &layer, N, S);
    llm_batchnorm_backward(dx, NULL, NULL, dy, x, m, r, &layer, N, S, true, &arena);
    memcpy(kept, var, sizeof kept);
    memset(mean, 0, sizeof mean);
    for (size_t c = 0; c < C; c++) var[c] = c ? 0.0f : 1.0f;

    llm_batchnorm_stats(m, r, x, A, C, S);
    llm_batchnorm_stats(m_b, r_b, x + at, N - A, C, S);
    llm_batchnorm_merge(m, r, m_b, r_b, C, A * S, (N - A) * S);
    llm_batchnorm_update(&layer, r, m, r, N * S);
    llm_batchnorm_apply(two, x, m, r, &layer, A, S);
    llm_batchnorm_apply(two + at, x + at, m, r, &layer, N - A, S);
    CHECK_ALL_NEAR(two, y, n, 2e-6f);
    CHECK_ALL_NEAR(var, kept, C, 1e-6f);
    llm_batchnorm_sums(sum, along, dy, x, m, r, A, C, S);
    llm_batchnorm_sums(sum_b, along_b, dy + at, x + at, m, r, N - A, C, S);
    for (size_t c = 0; c < C; c++) sum[c] += sum_b[c], along[c] += along_b[c];
    llm_batchnorm_input_backward(dx2, dy, x, m, r, sum, along, &layer, A, S, N * S);
    llm_batchnorm_input_backward(dx2 + at, dy + at, x + at, m, r, sum, along, &layer, N - A, S,
                                 N * S);
    CHECK_ALL_NEAR(dx2, dx, n, 2e-6f);
    llm_arena_destroy(&arena);
}

TEST(batchnorm, "folded into the layer before it, inference does not change") {
    enum { N = 4, I = 3, O = 6 };
    llm_rng rng = llm_rng_seed(5);
    float *x = batchnorm_normals(&rng, N * I), *w = batchnorm_normals(&rng, O * I);
    float *b = batchnorm_normals(&rng, O), *gain = batchnorm_normals(&rng, O), y[N * O], z[N * O];
    float *shift = batchnorm_normals(&rng, O), *mean = batchnorm_normals(&rng, O), var[O];
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 64));
    for (size_t c = 0; c < O; c++) var[c] = 0.1f + 0.3f * (float)c;
    for (int affine = 0; affine < 2; affine++) {
        float *folded = batchnorm_copy(w, O * I), *bias = batchnorm_copy(b, O);
        const llm_batchnorm layer =
            batchnorm_layer(affine ? gain : NULL, affine ? shift : NULL, mean, var, O);
        llm_matmul_forward(y, x, w, b, N, I, O);
        llm_batchnorm_forward_eval(y, y, &layer, N, 1, &arena);
        llm_batchnorm_fold(folded, bias, &layer, I);
        llm_matmul_forward(z, x, folded, bias, N, I, O);
        CHECK_ALL_NEAR(z, y, N * O, 1e-5f);
    }
    llm_arena_destroy(&arena);
}

TEST(batchnorm, "a single number has no variance: an error in training, none at inference") {
    float x[2] = {3.0f, 3.0f}, y[2], m[2], r[2], mean[2] = {1.0f, 1.0f}, var[2] = {4.0f, 4.0f};
    const llm_batchnorm layer = batchnorm_layer(NULL, NULL, mean, var, 2);
    const llm_batchnorm one = batchnorm_layer(NULL, NULL, mean, var, 1);
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 64));
    CHECK_ASSERTS(llm_batchnorm_forward_train(y, m, r, x, &layer, 1, 1));
    CHECK_ASSERTS(llm_batchnorm_update(&layer, r, m, m, 1));
    llm_batchnorm_forward_eval(y, x, &layer, 1, 1, &arena);
    CHECK_NEAR(y[1], 1.0, 1e-5);                         /* (3 - 1) / 2 */
    llm_batchnorm_forward_train(y, m, r, x, &one, 2, 1); /* equal numbers are fine */
    CHECK(y[0] == 0.0f && y[1] == 0.0f && m[0] == 3.0f);
    CHECK_NEAR(var[0], 3.6, 1e-6);
    CHECK_NEAR(mean[0], 1.2, 1e-6);
    llm_arena_destroy(&arena);
}

TEST(batchnorm, "no scale and no shift are a scale of 1 and a shift of 0, backward too") {
    enum { N = 3, C = 4, S = 5, n = N * C * S };
    llm_rng rng = llm_rng_seed(6);
    float *x = batchnorm_normals(&rng, n), *dy = batchnorm_normals(&rng, n), y[2][n], dx[2][n];
    float one[C], none[C] = {0.0f}, mean[C] = {0.0f}, var[C] = {0.0f}, m[C], r[C];
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 128));
    for (size_t c = 0; c < C; c++) one[c] = 1.0f;
    for (size_t k = 0; k < 2; k++) {
        const llm_batchnorm layer = batchnorm_layer(k ? one : NULL, k ? none : NULL, mean, var, C);
        memset(dx[k], 0, sizeof dx[k]);
        llm_batchnorm_forward_train(y[k], m, r, x, &layer, N, S);
        llm_batchnorm_backward(dx[k], NULL, NULL, dy, x, m, r, &layer, N, S, true, &arena);
    }
    CHECK_ALL_NEAR(y[0], y[1], n, 0.0f);
    CHECK_ALL_NEAR(dx[0], dx[1], n, 0.0f);
    llm_arena_destroy(&arena);
}

/* The loss after 60 steps of gradient descent on a net of 8 ReLU layers of width 16, He's weights
 * times scale; NaN counts as infinite. */
static double batchnorm_train(float lr, bool normalize, uint64_t seed) {
    enum { L = 8, C = 16, N = 64, n = N * C };
    float *w = floats(L * C * C), *gain = floats(L * C), *shift = zeros(L * C), *dw = floats(C * C);
    float *h[L + 1], *z[L], *u[L], *m = floats(L * C), *r = floats(L * C), *mean = zeros(L * C);
    float *var = zeros(L * C), *d = floats(n), *du = floats(n), *dz = floats(n), *dgain = floats(C);
    float *dshift = floats(C), *target = floats(n);
    double loss = 0.0;
    llm_rng rng = llm_rng_seed(seed);
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 1024));
    for (size_t l = 0; l < L; l++) {
        llm_he_init_normal(w + l * C * C, C, C, 1, LLM_HE_INIT_FAN_IN, 0.0f, &rng);
        llm_weight_init_constant(gain + l * C, C, 1.0f);
        h[l] = floats(n), z[l] = floats(n), u[l] = floats(n);
    }
    h[L] = floats(n);
    llm_rng_normal_fill(&rng, h[0], n);
    for (size_t i = 0; i < n; i++) target[i] = fabsf(h[0][i]);
    for (size_t t = 0; t <= 60; t++) {
        for (size_t l = 0; l < L; l++) {
            const llm_batchnorm layer =
                batchnorm_layer(gain + l * C, shift + l * C, mean + l * C, var + l * C, C);
            llm_matmul_forward(z[l], h[l], w + l * C * C, NULL, N, C, C);
            if (normalize)
                llm_batchnorm_forward_train(u[l], m + l * C, r + l * C, z[l], &layer, N, 1);
            else
                memcpy(u[l], z[l], n * sizeof(float));
            llm_activation_forward(h[l + 1], u[l], n,
                                   l < L - 1 ? LLM_ACTIVATION_RELU : LLM_ACTIVATION_IDENTITY);
        }
        loss = 0.0;
        for (size_t i = 0; i < n; i++) {
            d[i] = (h[L][i] - target[i]) / (float)N;
            loss += pow((double)(h[L][i] - target[i]), 2.0) / n;
        }
        for (size_t l = L; l-- > 0;) {
            const llm_batchnorm layer =
                batchnorm_layer(gain + l * C, shift + l * C, mean + l * C, var + l * C, C);
            memset(du, 0, n * sizeof(float)), memset(dz, 0, n * sizeof(float));
            memset(dgain, 0, C * sizeof(float)), memset(dshift, 0, C * sizeof(float));
            memset(dw, 0, C * C * sizeof(float));
            llm_activation_backward(du, d, u[l], n,
                                    l < L - 1 ? LLM_ACTIVATION_RELU : LLM_ACTIVATION_IDENTITY);
            if (normalize)
                llm_batchnorm_backward(dz, dgain, dshift, du, z[l], m + l * C, r + l * C, &layer, N,
                                       1, true, &arena);
            else
                memcpy(dz, du, n * sizeof(float));
            memset(d, 0, n * sizeof(float));
            llm_matmul_backward(d, dw, NULL, dz, h[l], w + l * C * C, N, C, C);
            for (size_t i = 0; i < C * C; i++) w[l * C * C + i] -= lr * dw[i];
            for (size_t i = 0; i < C; i++) gain[l * C + i] -= lr * dgain[i];
            for (size_t i = 0; i < C; i++) shift[l * C + i] -= lr * dshift[i];
        }
    }
    llm_arena_destroy(&arena);
    return loss <= 1e6 ? loss : 1e6;
}

TEST(batchnorm, "ten times the learning rate at which a deep net learns is no problem with it") {
    for (uint64_t seed = 1; seed <= 6; seed++) {
        const double slow = batchnorm_train(0.03f, false, seed);
        /* 48 further seeds: 0.31 to 0.42; infinite in 28, else 2.5 to 3.2 times that; 0.42 to
         * 0.63 times. */
        CHECK(slow < 0.7);
        CHECK(batchnorm_train(0.3f, false, seed) > 1.5 * slow); /* infinite, or dead units */
        CHECK(batchnorm_train(0.3f, true, seed) < 0.85 * slow);
    }
}

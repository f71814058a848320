/* @layernorm */
#include "../test.h"

#include "../../llm.h"

#include "../tape.h"

TEST(layernorm, "forward and backward equal torch.nn.functional.layer_norm and autograd") {
    const size_t shapes[][2] = {{1, 1}, {2, 3}, {5, 7}, {3, 19}, {4, 16}}; /* (N, C) */
    for (size_t s = 0; s < 5; s++) {
        const size_t N = shapes[s][0], C = shapes[s][1], n = N * C;
        const float *x = golden("%zux%zu/x", N, C), *w = golden("%zux%zu/w", N, C);
        const float *b = golden("%zux%zu/b", N, C), *dy = golden("%zux%zu/dy", N, C);
        float *y = floats(n), *mean = floats(N), *rstd = floats(N), *in_place = floats(n);
        float *dx = zeros(n), *dw = zeros(C), *db = zeros(C);

        llm_layernorm_forward(y, mean, rstd, x, w, b, N, C, 1e-5f);
        llm_layernorm_backward(dx, dw, db, dy, x, w, mean, rstd, N, C);
        /* means of C terms: some units in the last place, times a scale w of up to 3 */
        CHECK_GOLDEN(y, n, 2e-6f, "%zux%zu/y", N, C);
        CHECK_GOLDEN(dx, n, 5e-6f, "%zux%zu/dx", N, C);
        CHECK_GOLDEN(dw, C, 5e-6f, "%zux%zu/dw", N, C);
        CHECK_GOLDEN(db, C, 5e-6f, "%zux%zu/db", N, C);

        memcpy(in_place, x, n * sizeof(float));
        llm_layernorm_forward(in_place, NULL, NULL, in_place, w, b, N, C, 1e-5f);
        CHECK_ALL_NEAR(in_place, y, n, 0.0f);
        llm_layernorm_forward(y, mean, rstd, x, NULL, NULL, N, C, 1e-5f);
        CHECK_GOLDEN(y, n, 2e-6f, "%zux%zu/plain", N, C);
        float *scaled = floats(n), *shifted = floats(n); /* one without the other */
        llm_layernorm_forward(scaled, NULL, NULL, x, w, NULL, N, C, 1e-5f);
        llm_layernorm_forward(shifted, NULL, NULL, x, NULL, b, N, C, 1e-5f);
        for (size_t i = 0; i < n; i++) {
            CHECK_NEAR(scaled[i], y[i] * w[i % C], 1e-6);
            CHECK_NEAR(shifted[i], y[i] + b[i % C], 1e-6);
        }
    }
}

TEST(layernorm, "at GPT-2's width of 768 it equals torch too") {
    enum { N = 3, C = 768 };
    float *x = floats(N * C), *dy = floats(N * C), *w = floats(C), *b = floats(C),
          *y = floats(N * C);
    float mean[N], rstd[N], *dx = zeros(N * C), *dw = zeros(C), *db = zeros(C);
    for (size_t i = 0; i < N * C; i++) {
        x[i] = (float)(i * 7919 % 2003) / 512.0f - 1.0f;
        dy[i] = (float)(i * 104729 % 1009) / 512.0f - 1.0f;
        if (i < C) w[i] = (float)(i * 31 % 97) / 64.0f;
        if (i < C) b[i] = (float)(i * 17 % 89) / 64.0f;
    }
    llm_layernorm_forward(y, mean, rstd, x, w, b, N, C, 1e-5f);
    llm_layernorm_backward(dx, dw, db, dy, x, w, mean, rstd, N, C);
    for (size_t i = 0; i < N * C / 24; i++) y[i] = y[24 * i], dx[i] = dx[24 * i];
    for (size_t i = 0; i < C / 24; i++) dw[i] = dw[24 * i], db[i] = db[24 * i];
    CHECK_GOLDEN(y, N * C / 24, 2e-6f, "768/y");
    CHECK_GOLDEN(dx, N * C / 24, 5e-6f, "768/dx");
    CHECK_GOLDEN(dw, C / 24, 5e-6f, "768/dw");
    CHECK_GOLDEN(db, C / 24, 5e-6f, "768/db");
}

TEST(layernorm, "group and instance normalization equal torch's group_norm and autograd") {
    const size_t shapes[][4] = {
        {1, 1, 1, 2}, {2, 1, 4, 3}, {2, 2, 6, 5}, {3, 4, 4, 7}}; /* N G C S */
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 4096));
    for (size_t s = 0; s < 4; s++) {
        const size_t N = shapes[s][0], G = shapes[s][1], C = shapes[s][2], S = shapes[s][3];
        const size_t n = N * C * S;
        const float *x = golden("group%zux%zux%zux%zu/x", N, G, C, S);
        const float *w = golden("group%zux%zux%zux%zu/w", N, G, C, S);
        const float *b = golden("group%zux%zux%zux%zu/b", N, G, C, S);
        const float *dy = golden("group%zux%zux%zux%zu/dy", N, G, C, S);
        float *y = floats(n), *mean = floats(N * G), *rstd = floats(N * G), *in_place = floats(n);
        float *dx = zeros(n), *dw = zeros(C), *db = zeros(C);
        llm_layernorm_group_forward(y, mean, rstd, x, w, b, N, G, C, S, 1e-5f);
        llm_layernorm_group_backward(dx, dw, db, dy, x, w, mean, rstd, N, G, C, S, &arena);
        CHECK_GOLDEN(y, n, 2e-6f, "group%zux%zux%zux%zu/y", N, G, C, S);
        CHECK_GOLDEN(dx, n, 5e-6f, "group%zux%zux%zux%zu/dx", N, G, C, S);
        CHECK_GOLDEN(dw, C, 5e-6f, "group%zux%zux%zux%zu/dw", N, G, C, S);
        CHECK_GOLDEN(db, C, 5e-6f, "group%zux%zux%zux%zu/db", N, G, C, S);
        CHECK(arena.used == 0);
        memcpy(in_place, x, n * sizeof(float));
        llm_layernorm_group_forward(in_place, mean, rstd, in_place, w, b, N, G, C, S, 1e-5f);
        CHECK_ALL_NEAR(in_place, y, n, 0.0f);
        float *dx2 = zeros(n);
        llm_layernorm_group_backward(dx2, NULL, NULL, dy, x, w, mean, rstd, N, G, C, S, &arena);
        CHECK_ALL_NEAR(dx2, dx, n, 0.0f);
        llm_layernorm_group_backward(NULL, dw, NULL, dy, x, w, mean, rstd, N, G, C, S, &arena);
        llm_layernorm_group_backward(NULL, NULL, db, dy, x, w, mean, rstd, N, G, C, S, &arena);
        for (size_t c = 0; c < C; c++) dw[c] *= 0.5f, db[c] *= 0.5f; /* each came twice */
        CHECK_GOLDEN(dw, C, 5e-6f, "group%zux%zux%zux%zu/dw", N, G, C, S);
        CHECK_GOLDEN(db, C, 5e-6f, "group%zux%zux%zux%zu/db", N, G, C, S);
        CHECK_ASSERTS(llm_layernorm_group_forward(y, mean, rstd, x, w, b, N, C + 1, C, S, 1e-5f));
        CHECK_ASSERTS(llm_layernorm_group_forward(y, mean, rstd, x, w, b, N, 0, C, S, 1e-5f));
    }
    llm_arena_destroy(&arena);
}

TEST(layernorm, "rows have mean 0 and variance 1, do not mind shift and scale, nor other rows") {
    enum { N = 6, C = 37 };
    float x[N * C], y[N * C], z[N * C], alone[C], mean[N], rstd[N];
    llm_rng rng = llm_rng_seed(1);
    llm_rng_normal_fill(&rng, x, N * C);
    llm_layernorm_forward(y, mean, rstd, x, NULL, NULL, N, C, 0.0f);
    for (size_t n = 0; n < N; n++) {
        double sum = 0.0, square = 0.0;
        for (size_t i = n * C; i < (n + 1) * C; i++) {
            sum += (double)y[i];
            square += (double)y[i] * (double)y[i];
        }
        CHECK_NEAR(sum / C, 0.0, 1e-6);
        CHECK_NEAR(square / C, 1.0, 1e-6);
        llm_layernorm_forward(alone, NULL, NULL, x + n * C, NULL, NULL, 1, C, 0.0f);
        CHECK_ALL_NEAR(alone, y + n * C, C, 0.0f);
    }
    for (size_t i = 0; i < N * C; i++) z[i] = (float)(i / C + 1) * (x[i] - 2.0f * (float)(i / C));
    llm_layernorm_forward(z, NULL, NULL, z, NULL, NULL, N, C, 0.0f);
    CHECK_ALL_NEAR(z, y, N * C, 1e-5f); /* x - 10 loses 3 bits */
}

TEST(layernorm, "a mean of 1e4 keeps 1e-3, where E[x^2] - E[x]^2 has nothing left") {
    const size_t sizes[] = {3, 64, 768, 3001};
    for (size_t s = 0; s < 4; s++) {
        const size_t C = sizes[s];
        float *x = floats(C), *y = floats(C), *want = floats(C), sum = 0.0f, square = 0.0f;
        llm_rng rng = llm_rng_seed(C);
        double m = 0.0, var = 0.0;
        for (size_t i = 0; i < C; i++) {
            x[i] = 1e4f + llm_rng_normal(&rng);
            m += (double)x[i] / (double)C;
            sum += x[i], square += x[i] * x[i];
        }
        for (size_t i = 0; i < C; i++) var += ((double)x[i] - m) * ((double)x[i] - m) / (double)C;
        for (size_t i = 0; i < C; i++) want[i] = (float)(((double)x[i] - m) / sqrt(var + 1e-5));
        llm_layernorm_forward(y, NULL, NULL, x, NULL, NULL, 1, C, 1e-5f);
        /* m is rounded to an ulp of 1e4, 1e-3: half of that, times r */
        CHECK_ALL_NEAR(y, want, C, 1e-3f);
        const float naive = square / (float)C - sum / (float)C * (sum / (float)C);
        if (C >= 64) CHECK(fabs((double)naive - var) > 0.5);
    }
}

TEST(layernorm, "constant rows give b, also huge ones; batches of one, columns across blocks") {
    const float w[3] = {2.0f, NAN, 3.0f}, b[3] = {0.5f, -0.5f, 7.0f}, zero[3] = {0.0f, 0.0f, 0.0f};
    const float levels[4] = {0.0f, 3.0f, -1e30f, 16777216.0f};
    float y[3], mean[1], rstd[1];
    for (size_t k = 0; k < 4; k++) {
        const float x[3] = {levels[k], levels[k], levels[k]}, plain[3] = {2.0f, 1.0f, 3.0f};
        llm_layernorm_forward(y, mean, rstd, x, plain, b, 1, 3, 1e-5f);
        CHECK_ALL_NEAR(y, b, 3, 0.0f);
        CHECK(mean[0] == levels[k]);
        CHECK_NEAR(rstd[0], 1.0 / sqrt(1e-5), 1e-4);
        float dx[3] = {0.0f}, dy[3] = {1.0f, 1.0f, 1.0f};
        llm_layernorm_backward(dx, NULL, NULL, dy, x, NULL, mean, rstd, 1, 3);
        CHECK_ALL_NEAR(dx, zero, 3, 1e-4f); /* the same push on all does nothing */
    }
    float x[3] = {1.0f, 2.0f, 3.0f};
    llm_layernorm_forward(y, NULL, NULL, x, w, b, 1, 3, 1e-5f);
    CHECK(!isnan(y[0]) && isnan(y[1]) && !isnan(y[2])); /* a bad gain stays in its channel */
    x[1] = NAN;
    llm_layernorm_forward(y, NULL, NULL, x, NULL, NULL, 1, 3, 1e-5f);
    CHECK(isnan(y[0]) && isnan(y[1]) && isnan(y[2]));
    llm_layernorm_forward(NULL, NULL, NULL, NULL, w, b, 0, 3, 1e-5f); /* no rows: nothing */
}

static double layernorm_loss(const float *x, const float *w, const float *b, const float *dy,
                             size_t N, size_t C) {
    double loss = 0.0;
    for (size_t n = 0; n < N; n++) {
        double m = 0.0, var = 0.0;
        for (size_t i = 0; i < C; i++) m += (double)x[n * C + i] / (double)C;
        for (size_t i = 0; i < C; i++) var += pow((double)x[n * C + i] - m, 2.0) / (double)C;
        for (size_t i = 0; i < C; i++) {
            const double xhat = ((double)x[n * C + i] - m) / sqrt(var + 1e-5);
            loss += (double)dy[n * C + i] * (xhat * (double)w[i] + (double)b[i]);
        }
    }
    return loss;
}

TEST(layernorm,
     "gradients of x, w and b agree with differences; dx has no mean and no part along x") {
    enum { N = 3, C = 9 };
    float x[N * C], w[C], b[C], dy[N * C], y[N * C], mean[N], rstd[N];
    float dx[N * C] = {0.0f}, dw[C] = {0.0f}, db[C] = {0.0f};
    llm_rng rng = llm_rng_seed(4);
    llm_rng_normal_fill(&rng, x, N * C);
    llm_rng_normal_fill(&rng, w, C);
    llm_rng_normal_fill(&rng, b, C);
    llm_rng_normal_fill(&rng, dy, N * C);
    llm_layernorm_forward(y, mean, rstd, x, w, b, N, C, 1e-5f);
    llm_layernorm_backward(dx, dw, db, dy, x, w, mean, rstd, N, C);
    /* the loss is in double: what is left is the curvature, of the order of step^2 */
    CHECK_GRAD(dx, x, N * C, 1e-2f, 1e-3f, layernorm_loss(x, w, b, dy, N, C));
    CHECK_GRAD(dw, w, C, 1e-2f, 1e-4f, layernorm_loss(x, w, b, dy, N, C));
    CHECK_GRAD(db, b, C, 1e-2f, 1e-4f, layernorm_loss(x, w, b, dy, N, C));
    for (size_t n = 0; n < N; n++) {
        double sum = 0.0;
        for (size_t i = 0; i < C; i++) sum += (double)dx[n * C + i];
        CHECK_NEAR(sum, 0.0, 1e-5);
        CHECK_NEAR(dot(dx + n * C, x + n * C, C), 0.0, 1e-4); /* eps is 1e-5 of the variance */
    }
    float dx2[N * C], dw2[C], db2[C];
    for (size_t i = 0; i < N * C; i++) dx2[i] = 2.0f * dx[i];
    for (size_t i = 0; i < C; i++) dw2[i] = 2.0f * dw[i], db2[i] = 2.0f * db[i];
    llm_layernorm_backward(dx, NULL, db, dy, x, w, mean, rstd, N, C); /* adds; any may be NULL */
    llm_layernorm_backward(NULL, dw, NULL, dy, x, w, mean, rstd, N, C);
    CHECK_ALL_NEAR(dx, dx2, N * C, 1e-6f);
    CHECK_ALL_NEAR(dw, dw2, C, 1e-6f);
    CHECK_ALL_NEAR(db, db2, C, 1e-6f);
}

TEST(layernorm,
     "w and b gradients of 1000 rows equal double, on both sides of a block of columns") {
    const size_t widths[] = {1, 63, 64, 65, 130};
    const size_t N = 1000;
    for (size_t s = 0; s < 5; s++) {
        const size_t C = widths[s];
        float *x = floats(N * C), *dy = floats(N * C), *y = floats(N * C), *dw = zeros(C);
        float *db = zeros(C), *mean = floats(N), *rstd = floats(N), *want = floats(C),
              *sum = floats(C);
        llm_rng rng = llm_rng_seed(C);
        llm_rng_normal_fill(&rng, x, N * C);
        llm_rng_normal_fill(&rng, dy, N * C);
        llm_layernorm_forward(y, mean, rstd, x, NULL, NULL, N, C, 1e-5f);
        llm_layernorm_backward(NULL, dw, db, dy, x, NULL, mean, rstd, N, C);
        for (size_t c = 0; c < C; c++) {
            double w = 0.0, b = 0.0;
            for (size_t n = 0; n < N; n++) {
                w += (double)dy[n * C + c] * (double)y[n * C + c];
                b += (double)dy[n * C + c];
            }
            want[c] = (float)w, sum[c] = (float)b;
        }
        /* sums of about 50: 1000 additions good to 2e-6 are a walk of 6e-5; the worst of 65
         * columns */
        CHECK_ALL_NEAR(dw, want, C, 2e-4f);
        CHECK_ALL_NEAR(db, sum, C, 2e-4f);
    }
}

TEST(layernorm,
     "fused with the residual addition it returns the sum and the same rows, also in place") {
    enum { N = 4, C = 11 };
    float x[N * C], f[N * C], w[C], b[C], sum[N * C], want_sum[N * C], y[N * C], want[N * C];
    float mean[N], rstd[N], want_mean[N], want_rstd[N];
    llm_rng rng = llm_rng_seed(5);
    llm_rng_normal_fill(&rng, x, N * C);
    llm_rng_normal_fill(&rng, f, N * C);
    llm_rng_normal_fill(&rng, w, C);
    llm_rng_normal_fill(&rng, b, C);
    for (size_t i = 0; i < N * C; i++) want_sum[i] = x[i] + f[i];
    llm_layernorm_forward(want, want_mean, want_rstd, want_sum, w, b, N, C, 1e-5f);
    llm_layernorm_residual_forward(y, sum, mean, rstd, x, f, w, b, N, C, 1e-5f);
    CHECK_ALL_NEAR(sum, want_sum, N * C, 0.0f);
    CHECK_ALL_NEAR(y, want, N * C, 0.0f);
    CHECK_ALL_NEAR(mean, want_mean, N, 0.0f);
    CHECK_ALL_NEAR(rstd, want_rstd, N, 0.0f);
    llm_layernorm_residual_forward(f, x, NULL, NULL, x, f, w, b, N, C, 1e-5f);
    CHECK_ALL_NEAR(x, want_sum, N * C, 0.0f);
    CHECK_ALL_NEAR(f, want, N * C, 0.0f);
}

TEST(layernorm, "backward is what @autodiff_array makes of the definition, for widths 2 to 67") {
    const size_t shape[4][2] = {{1, 2}, {3, 3}, {5, 17}, {2, 67}};
    for (size_t s = 0; s < 4; s++) {
        const size_t N = shape[s][0], C = shape[s][1];
        tape_open(70 + s);
        const size_t x = tape_draw(N, C), w = tape_draw(1, C), b = tape_draw(1, C);
        const size_t dy = tape_draw(N, C), y = tape_layernorm(x, w, b, 1e-5);
        float *out = floats(N * C), *mean = floats(N), *rstd = floats(N);
        float *dx = zeros(N * C), *dw = zeros(C), *db = zeros(C);
        tape_back(y, tape_floats(dy));
        llm_layernorm_forward(out, mean, rstd, tape_floats(x), tape_floats(w), tape_floats(b), N, C,
                              1e-5f);
        llm_layernorm_backward(dx, dw, db, tape_floats(dy), tape_floats(x), tape_floats(w), mean,
                               rstd, N, C);
        TAPE_CHECK(out, y, 2e-6);
        TAPE_CHECK_GRAD(dx, x, 1e-5);
        TAPE_CHECK_GRAD(dw, w, 2e-6);
        TAPE_CHECK_GRAD(db, b, 2e-6);
    }
}

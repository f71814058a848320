/* @mse */
#include "../test.h"

#include "../../llm.h"

TEST(mse, "value and gradient equal torch for none, sum and mean, weights and masks") {
    const size_t sizes[4] = {1, 2, 7, 31};
    for (size_t s = 0; s < 4; s++)
        for (size_t way = 0; way < 4; way++) {
            const size_t n = sizes[s];
            const char *name = way == 0 ? "00" : way == 1 ? "01" : way == 2 ? "10" : "11";
            float *p = golden("%zu/p", n), *t = golden("%zu/t", n);
            const float *w = way & 2 ? golden("%zu/w", n) : NULL;
            const bool *mask = way & 1 ? as_bools(golden("%zu/mask", n), n) : NULL;
            for (size_t i = 0; mask && i < n; i++)
                if (!mask[i]) p[i] = t[i] = NAN; /* may not be read */
            float *loss = floats(n), *dsum = zeros(n), *dmean = floats(n), mean, sum_float;
            double sum;
            for (size_t i = 0; i < n; i++) dmean[i] = 7.0f;
            const double kept = llm_mse_forward(&sum, loss, p, t, w, mask, n);
            llm_mse_backward(dsum, p, t, w, mask, n, 1.0f);
            llm_mse_backward(dmean, p, t, w, mask, n, (float)(1.0 / kept));
            for (size_t i = 0; i < n; i++) dmean[i] -= 7.0f; /* it accumulates */
            CHECK(llm_mse_mean(&mean, p, t, w, mask, n));
            sum_float = (float)sum;
            CHECK_GOLDEN(loss, n, 1e-6f, "%zu/%s/loss", n, name);
            CHECK_GOLDEN(&sum_float, 1, 1e-6f, "%zu/%s/sum", n, name);
            CHECK_GOLDEN(&mean, 1, 1e-6f, "%zu/%s/mean", n, name);
            CHECK_GOLDEN(dsum, n, 1e-6f, "%zu/%s/dsum", n, name);
            CHECK_GOLDEN(dmean, n, 2e-6f, "%zu/%s/dmean", n, name); /* 7 rounds at 5e-7 */
        }
}

TEST(mse, "gradient by differences; nothing left is no mean") {
    float p[3] = {1, -2, 0.5f}, dp[3] = {0, 0, 0}, mean = 1.0f;
    const float t[3] = {0.5f, 1, 2}, w[3] = {1, 2, 0.5f};
    const bool none[3] = {false, false, false};
    double sum;
    llm_mse_backward(dp, p, t, w, NULL, 3, 1.0f);
    CHECK_GRAD(dp, p, 3, 1e-2f, 1e-4f, (llm_mse_forward(&sum, NULL, p, t, w, NULL, 3), sum));
    CHECK(!llm_mse_mean(&mean, p, t, w, none, 3) && isnan(mean));
    CHECK(!llm_mse_mean(&mean, p, t, w, NULL, 0) && isnan(mean));
    CHECK(llm_mse_forward(&sum, NULL, p, t, NULL, none, 3) == 0.0 && sum == 0.0);
    p[1] = NAN;
    CHECK(llm_mse_mean(&mean, p, t, w, NULL, 3) && isnan(mean));
}

TEST(mse, "the fused linear layer equals torch, and gradients may be NULL") {
    const size_t shapes[3][3] = {{1, 1, 1}, {5, 3, 2}, {13, 7, 3}};
    for (size_t s = 0; s < 3; s++) {
        const size_t N = shapes[s][0], C = shapes[s][1], O = shapes[s][2];
        const float *x = golden("linear/%zu/x", N), *W = golden("linear/%zu/W", N);
        const float *b = golden("linear/%zu/b", N), *t = golden("linear/%zu/t", N);
        const float scale = 1.0f / (float)(N * O);
        float *dW = zeros(O * C), *db = zeros(O), *twice = zeros(O * C);
        const double sum = llm_mse_linear(dW, db, x, W, b, t, N, C, O, scale);
        const float mean = (float)(sum / (double)(N * O));
        CHECK_GOLDEN(&mean, 1, 1e-6f, "linear/%zu/mean", N);
        CHECK_GOLDEN(dW, O * C, 2e-6f, "linear/%zu/dW", N);
        CHECK_GOLDEN(db, O, 2e-6f, "linear/%zu/db", N);
        CHECK(llm_mse_linear(NULL, NULL, x, W, b, t, N, C, O, scale) == sum);
        llm_mse_linear(twice, NULL, x, W, b, t, N, C, O, scale);
        llm_mse_linear(twice, NULL, x, W, b, t, N, C, O, scale);
        for (size_t i = 0; i < O * C; i++) CHECK_NEAR(twice[i], 2.0f * dW[i], 1e-5);
    }
    const float x[2] = {1, 2}, W[2] = {3, 4}, t[1] = {1};
    CHECK(llm_mse_linear(NULL, NULL, x, W, NULL, t, 1, 2, 1, 1.0f) == 100.0);
}

TEST(mse, "the Gaussian likelihood equals torch, and sqrt(mse) is its best sigma") {
    const float *p = golden("nll/p"), *t = golden("nll/t"), sigma[3] = {0.1f, 1, 3};
    double sum;
    const double mse = llm_mse_forward(&sum, NULL, p, t, NULL, NULL, 9) > 0 ? sum / 9.0 : 0.0;
    float got[3];
    for (size_t i = 0; i < 3; i++) got[i] = (float)llm_mse_to_nll(mse, i ? (double)sigma[i] : 0.1);
    CHECK_GOLDEN(got, 3, 1e-6f, "nll/nll");
    const double best = llm_mse_to_nll(mse, sqrt(mse));
    CHECK_NEAR(best, 0.5 * log(mse) + 1.4189385332, 1e-7);
    CHECK(best < llm_mse_to_nll(mse, 1.01 * sqrt(mse)) &&
          best < llm_mse_to_nll(mse, 0.99 * sqrt(mse)));
    CHECK_ASSERTS(llm_mse_to_nll(1.0, 0.0));
}

TEST(mse,
     "streaming equals two passes for data around 1e6, where the naive formula in float fails") {
    enum { N = 1000 };
    float x[N];
    llm_rng rng = llm_rng_seed(1);
    double mean = 0.0, var = 0.0;
    float sum = 0.0f, sum_sq = 0.0f;
    llm_mse_stream all = {0, 0, 0}, part[3] = {{0, 0, 0}, {0, 0, 0}, {0, 0, 0}};
    for (size_t i = 0; i < N; i++) {
        x[i] = 1e6f + llm_rng_normal(&rng);
        mean += (double)x[i] / N;
        sum += x[i] / (float)N;
        sum_sq += x[i] * x[i] / (float)N;
        llm_mse_stream_add(&all, (double)x[i]);
        llm_mse_stream_add(&part[i < 300 ? 0 : 1], (double)x[i]);
    }
    for (size_t i = 0; i < N; i++) var += ((double)x[i] - mean) * ((double)x[i] - mean) / N;
    llm_mse_stream_merge(&part[0], &part[1]);
    llm_mse_stream_merge(&part[0], &part[2]); /* empty */
    llm_mse_stream_merge(&part[2], &part[0]); /* into an empty one */
    CHECK_NEAR(all.sum_sq / N, var, 1e-9);
    CHECK_NEAR(all.mean, mean, 1e-6);
    CHECK_NEAR(part[0].sum_sq / N, var, 1e-9);
    CHECK_NEAR(part[0].mean, mean, 1e-6);
    CHECK(part[2].sum_sq == part[0].sum_sq && part[2].count == N && all.count == N);
    CHECK(fabs((double)(sum_sq - sum * sum) - var) > 0.1 * var); /* off by thousands, in fact */
}

TEST(mse, "the mean is the best constant, the conditional mean the best function") {
    const float joint[6] = {0.1f, 0.2f, 0.1f, 0.3f, 0.0f, 0.3f}, y[3] = {0, 1, 4};
    const float best[2] = {1.5f, 2.0f}, other[2] = {1.0f, 3.0f}; /* 0.6/0.4 and 1.2/0.6 */
    double noise, model;
    llm_mse_decompose(&noise, &model, joint, y, best, 2, 3);
    /* 0.1 * 2.25 + 0.2 * 0.25 + 0.1 * 6.25 + 0.3 * 4 + 0.3 * 4 */
    CHECK_NEAR(noise, 3.3, 1e-6);
    CHECK_NEAR(model, 0.0, 1e-12);
    double direct = 0.0;
    for (size_t i = 0; i < 6; i++)
        direct += (double)joint[i] * pow((double)(y[i % 3] - other[i / 3]), 2.0);
    llm_mse_decompose(&noise, &model, joint, y, other, 2, 3);
    CHECK_NEAR(noise + model, direct, 1e-6);
    CHECK_NEAR(model, 0.4 * 0.25 + 0.6, 1e-6);
    const float gap[4] = {0, 0, 0.5f, 0.5f};
    llm_mse_decompose(&noise, &model, gap, y, best, 2, 2); /* x = 0 never happens */
    CHECK_NEAR(noise, 0.25, 1e-7);
    CHECK_NEAR(model, 2.25, 1e-6);

    const float t[4] = {1, 2, 3, 6}, mean[4] = {3, 3, 3, 3}, off[4] = {3, 4, 5, 8};
    CHECK_NEAR(llm_mse_normalized(mean, t, 4), 1.0f, 1e-6);
    CHECK_NEAR(llm_mse_normalized(off, t, 4), 16.0f / 14.0f, 1e-6);
    CHECK(llm_mse_normalized(off, mean, 4) == INFINITY && isnan(llm_mse_normalized(mean, mean, 4)));
    CHECK_ASSERTS(llm_mse_normalized(t, t, 0));
}

TEST(mse, "streams of one and of none, one target") {
    llm_mse_stream a = {0.0, 0.0, 0.0}, b = {0.0, 0.0, 0.0};
    const llm_mse_stream none = {0.0, 0.0, 0.0};
    const float one[1] = {1}, zero[1] = {0};
    llm_mse_stream_merge(&b, &none); /* nothing into nothing */
    CHECK(b.count == 0.0 && b.mean == 0.0 && b.sum_sq == 0.0);
    llm_mse_stream_add(&a, 1.0), llm_mse_stream_add(&a, 3.0), llm_mse_stream_add(&b, 8.0);
    llm_mse_stream_merge(&a, &b);
    CHECK_NEAR(a.count, 3.0, 0.0);
    CHECK_NEAR(a.mean, 4.0, 1e-15);
    CHECK_NEAR(a.sum_sq, 26.0, 1e-14);
    llm_mse_stream_merge(&a, &none);
    CHECK(a.count == 3.0 && a.mean == 4.0);
    CHECK(isinf(llm_mse_normalized(one, zero, 1)));
}

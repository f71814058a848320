/* @classification_head_probe */
#include "../test.h"

#include "../../llm.h"

#include "../arena.h"

TEST(classification_head_probe, "the probe is scikit-learn's LogisticRegression, from any start") {
    const size_t n = 40, D = 3, K = 4;
    const int *label = as_ints(golden("probe/label"), n);
    for (int start = 0; start < 2; start++) {
        float W[12], b[4];
        const size_t bytes = 4 * K * (D + 1) * sizeof(double) + K * sizeof(double) + 64;
        llm_arena a = test_arena(bytes);
        for (size_t i = 0; i < 12; i++) W[i] = (float)start;
        for (size_t i = 0; i < 4; i++) b[i] = 0.0f;
        const size_t steps = llm_classification_head_probe_fit(W, b, golden("probe/a"), label, n, D,
                                                               K, 0.02, 1e-9, 20000, &a);
        CHECK(steps > 1 && steps < 20000 && a.used == 0);
        CHECK_GOLDEN(W, K * D, 1e-5f, "probe/w"); /* asked for: 1e-3 */
        CHECK_GOLDEN(b, K, 1e-5f, "probe/b");
        float kept[12];
        memcpy(kept, W, sizeof kept);
        a = test_arena(bytes);
        CHECK(llm_classification_head_probe_fit(W, b, golden("probe/a"), label, n, D, K, 0.02, 1e-5,
                                                9, &a) == 1); /* it starts from where W stands */
        CHECK_ALL_NEAR(W, kept, 12, 1e-5f);
        CHECK_ASSERTS(llm_classification_head_probe_fit(W, b, NULL, label, 0, D, K, 0, 0, 9, &a));
    }
}

TEST(classification_head_probe,
     "one example is enough for the probe and, of each class, for the means") {
    const float x[4] = {3.0f, -1.0f, 2.0f, 4.0f};
    const int label[2] = {1, 0};
    float *W = floats(4), *b = floats(2);
    llm_arena a = test_arena(1024);
    llm_classification_head_probe_means(W, b, x, label, 2, 2, 2);
    CHECK(W[0] == 4.0f && W[1] == 8.0f && W[2] == 6.0f && W[3] == -2.0f); /* 2 c */
    CHECK(b[0] == -20.0f && b[1] == -10.0f);                              /* -|c|^2 */
    for (size_t i = 0; i < 4; i++) W[i] = b[i / 2] = 0.0f;
    CHECK(llm_classification_head_probe_fit(W, b, x, label, 1, 2, 2, 0.0, 1e-3, 9999, &a) < 9999);
    for (size_t i = 0; i < 2;
         i++) /* the gradient is (p - 1) x for class 1, and what the bias has */
        CHECK_NEAR(W[2 + i], b[1] * x[i], 1e-4 * (double)fabsf(W[2 + i]));
    CHECK(dot(W + 2, x, 2) + (double)b[1] - dot(W, x, 2) - (double)b[0] > 7.0); /* p x < 1e-3 */
}

TEST(classification_head_probe, "prototype scores are squared distances to the class means") {
    const size_t n = 40, D = 3, K = 4;
    int *label = as_ints(golden("probe/label"), n);
    const float *a = golden("probe/a");
    float W[12], b[4], *z = floats(n * K);
    llm_classification_head_probe_means(W, b, a, label, n, D, K);
    llm_dense_forward(z, a, W, b, n, D, K);
    for (size_t i = 0; i < n * K; i++) z[i] = (float)dot(a + i / K * D, a + i / K * D, D) - z[i];
    CHECK_GOLDEN(z, n * K, 2e-6f, "means/distance");
    label[1] = 4;
    CHECK_ASSERTS((llm_classification_head_probe_means(W, b, a, label, n, D, K), 0));
    label[1] = -1;
    CHECK_ASSERTS((llm_classification_head_probe_means(W, b, a, label, n, D, K), 0));
    label[1] = 0;
    CHECK_ASSERTS((llm_classification_head_probe_means(W, b, a, label, 1, D, K), 0)); /* 3 empty */
}

TEST(classification_head_probe, "the cosine head and its gradients equal torch") {
    const size_t shapes[3][3] = {{1, 1, 1}, {2, 3, 5}, {7, 5, 2}}; /* N, D, K */
    for (size_t s = 0; s < 3; s++) {
        const size_t N = shapes[s][0], D = shapes[s][1], K = shapes[s][2];
        const float *a = golden("cosine/%zu/a", N), *w = golden("cosine/%zu/w", N);
        const float *dz = golden("cosine/%zu/dz", N);
        float *z = floats(N * K), *da = zeros(N * D), *dw = zeros(K * D + 1), *only = zeros(N * D);
        llm_classification_head_probe_cosine_forward(z, a, w, N, D, K);
        llm_classification_head_probe_cosine_backward(da, dw, dz, z, a, w, N, D, K);
        llm_classification_head_probe_cosine_backward(only, NULL, dz, z, a, w, N, D, K);
        llm_classification_head_probe_cosine_backward(NULL, dw, dz, z, a, w, N, D, K);
        for (size_t i = 0; i < K * D + 1; i++) dw[i] *= 0.5f; /* it was added twice */
        CHECK_GOLDEN(z, N * K, 2e-6f, "cosine/%zu/z", N);
        CHECK_GOLDEN(da, N * D, 5e-6f, "cosine/%zu/da", N);
        CHECK_GOLDEN(dw, K * D + 1, 5e-6f, "cosine/%zu/dw", N);
        CHECK_ALL_NEAR(only, da, N * D, 0.0f);
        for (size_t n = 0; n < N; n++) CHECK_NEAR(dot(da + n * D, a + n * D, D), 0.0, 1e-5);
    }
}

TEST(classification_head_probe, "a row of zeros has cosine 0 and no gradient") {
    const float a[2] = {0.0f, 0.0f}, w[5] = {3.0f, 4.0f, 0.0f, 0.0f, 0.5f}, dz[2] = {1.0f, 1.0f};
    float z[2], da[2] = {0.0f, 0.0f}, dw[5] = {0};
    llm_classification_head_probe_cosine_forward(z, a, w, 1, 2, 2);
    llm_classification_head_probe_cosine_backward(da, dw, dz, z, a, w, 1, 2, 2);
    CHECK(z[0] == 0.0f && z[1] == 0.0f && da[0] == 0.0f && da[1] == 0.0f);
    for (size_t i = 0; i < 5; i++) CHECK(dw[i] == 0.0f);
}

/* Rows whose digit is 5 high or more (or less), labels from 0, of n drawn. Returns how many. */
static size_t half(float *x, int *label, size_t n, bool high, float noise, llm_rng *rng) {
    float *all = floats(n * 64);
    int *digit = (int *)test_memory(n, sizeof(int));
    size_t rows = 0;
    llm_glyphs(all, digit, n, 1.0f, noise, rng);
    for (size_t i = 0; i < n; i++) {
        if ((digit[i] >= 5) != high) continue;
        memcpy(x + rows * 64, all + i * 64, 64 * sizeof(float));
        label[rows++] = digit[i] % 5;
    }
    return rows;
}

/* Accuracy on 500 pictures of the digits 5 to 9, from 5 labels each: [0] a net from scratch, [1]
 * the probe and [2] the class means on the hidden layer of a net trained on 0 to 4, [3] that net
 * tuned from the probe. */
static void transfer(double share[4], float noise, uint64_t seed) {
    enum { H = 64, K = 5, FEW = 25, TEST_ROWS = 500, MANY = 1000 };
    const size_t size[3] = {64, H, K};
    const llm_mlp m = {size, 2, LLM_ACTIVATION_RELU, LLM_OUTPUT_LAYER_SOFTMAX};
    const size_t n = llm_mlp_param_count(&m);
    const llm_mlp_view top = llm_mlp_layer(&m, 2);
    llm_rng rng = llm_rng_seed(seed);
    float *w = floats(n), *fresh = floats(n), *x = floats(MANY * 64), *few = floats(FEW * 64);
    float *test = floats(TEST_ROWS * 64), *y = floats(FEW * K);
    int label[MANY], few_label[FEW], test_label[TEST_ROWS];
    llm_arena a = test_arena(1 << 21);
    half(x, label, 2 * MANY, false, noise, &rng);
    half(few, few_label, 2 * FEW, true, noise, &rng);
    half(test, test_label, 2 * TEST_ROWS, true, noise, &rng);
    llm_mlp_train_config c = llm_mlp_train_defaults();
    llm_mlp_init(fresh, &m, &rng);
    memcpy(w, fresh, n * sizeof(float));
    llm_mlp_train(w, &m, x, label, NULL, MANY, &c, &a);
    c.epochs = 100, c.batch = 5, c.lr = 0.02f;
    llm_mlp_train(fresh, &m, few, few_label, NULL, FEW, &c, &a);
    share[0] = llm_mlp_accuracy(&m, fresh, test, test_label, TEST_ROWS, &a);

    float *cache = floats(llm_mlp_cache(&m, FEW));
    llm_mlp_forward(y, cache, &m, w, few, FEW);
    const float *feature = cache + FEW * H; /* behind ReLU */
    llm_classification_head_probe_means(w + top.weight, w + top.bias, feature, few_label, FEW, H,
                                        K);
    share[2] = llm_mlp_accuracy(&m, w, test, test_label, TEST_ROWS, &a);
    for (size_t i = top.weight; i < n; i++) w[i] = 0.0f;
    llm_classification_head_probe_fit(w + top.weight, w + top.bias, feature, few_label, FEW, H, K,
                                      0.05, 1e-4, 2000, &a);
    share[1] = llm_mlp_accuracy(&m, w, test, test_label, TEST_ROWS, &a);
    c.epochs = 30, c.lr = 0.005f;
    llm_mlp_train(w, &m, few, few_label, NULL, FEW, &c, &a);
    share[3] = llm_mlp_accuracy(&m, w, test, test_label, TEST_ROWS, &a);
}

TEST(classification_head_probe,
     "with 5 labels a class, a probe on features of a net trained on other "
     "digits beats a net from scratch, and tuning all from there beats both") {
    const float noise[3] = {0.1f, 0.2f, 0.3f};
    double sum[4] = {0.0, 0.0, 0.0, 0.0};
    for (uint64_t seed = 1; seed <= 8; seed++)
        for (size_t e = 0; e < 3; e++) {
            double share[4];
            transfer(share, noise[e], seed);
            for (size_t k = 0; k < 4; k++) sum[k] += share[k] / 24.0;
        }
    /* Over 8 further sets of 8 seeds: the probe is ahead of the net from scratch by 2.1 to 5.5
     * points, the tuned net by 3.3 to 6.3, and it is ahead of the probe by 0.4 to 1.9. The class
     * means lie between 2.4 points below the net from scratch and 1.5 above. */
    CHECK(sum[1] - sum[0] > 0.0105);
    CHECK(sum[3] - sum[0] > 0.016);
    CHECK(sum[3] - sum[1] > 0.0019);
    CHECK(fabs(sum[2] - sum[0]) < 0.1);
}

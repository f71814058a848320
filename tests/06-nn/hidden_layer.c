/* @hidden_layer */
#include "../test.h"

#include "../../llm.h"
#include "../arena.h"

TEST(hidden_layer,
     "features equal torch's, what they are like equals numpy's, a dead unit included") {
    const size_t shape[4][3] = {{1, 1, 1}, {7, 3, 5}, {5, 2, 9}, {30, 4, 6}}; /* n, C, U */
    for (size_t k = 0; k < 4; k++) {
        const size_t n = shape[k][0], C = shape[k][1], U = shape[k][2];
        float *h = floats(n * U);
        llm_arena arena = test_arena(1 << 22);
        llm_hidden_layer_forward(h, golden("%zux%zu/x", n, U), golden("%zux%zu/w", n, U),
                                 golden("%zux%zu/b", n, U), n, C, U, LLM_ACTIVATION_RELU);
        CHECK_GOLDEN(h, n * U, 2e-6f, "%zux%zu/h", n, U);
        const llm_hidden_layer_stats m = llm_hidden_layer_measure(h, n, U, &arena);
        const float got[5] = {(float)m.mean, (float)m.active, (float)m.correlation, (float)m.rank,
                              (float)m.participation};
        CHECK_GOLDEN(got, 5, 3e-6f, "%zux%zu/stats", n, U);
        CHECK(arena.used == 0);
    }
    float h[1], x[1] = {1.0f};
    CHECK_ASSERTS(llm_hidden_layer_forward(h, x, x, x, 1, 1, 0, LLM_ACTIVATION_RELU));
    llm_arena arena = test_arena(1 << 22);
    CHECK_ASSERTS(llm_hidden_layer_measure(h, 0, 1, &arena));
    CHECK_ASSERTS(llm_hidden_layer_measure(h, 1, 0, &arena));
}

TEST(hidden_layer,
     "rank, participation and correlation do not depend on the unit of the features") {
    float h[30], small[30];
    llm_arena arena = test_arena(1 << 22);
    llm_rng rng = llm_rng_seed(4);
    llm_rng_normal_fill(&rng, h, 30);
    for (size_t i = 0; i < 30; i++) small[i] = h[i] / 1024.0f;
    const llm_hidden_layer_stats a = llm_hidden_layer_measure(h, 10, 3, &arena);
    const llm_hidden_layer_stats b = llm_hidden_layer_measure(small, 10, 3, &arena);
    CHECK(a.participation > 1.0 && a.correlation > 0.0);
    CHECK_NEAR(b.rank, a.rank, 1e-5);
    CHECK_NEAR(b.participation, a.participation, 1e-5);
    CHECK_NEAR(b.correlation, a.correlation, 1e-5);
}

TEST(hidden_layer, "k equal singular values have effective rank k; the rank never exceeds it") {
    enum { n = 12, U = 6 };
    llm_arena arena = test_arena(1 << 22);
    llm_rng rng = llm_rng_seed(1);
    for (size_t k = 1; k <= U; k++) {
        float h[n * U], a[n * U], b[U * U];
        for (size_t i = 0; i < n * U; i++) h[i] = i / U == i % U && i % U < k ? 3.0f : 0.0f;
        CHECK_NEAR(llm_hidden_layer_measure(h, n, U, &arena).rank, (double)k, 1e-5);
        llm_rng_normal_fill(&rng, a, n * k);
        llm_rng_normal_fill(&rng, b, U * k);
        llm_matmul_forward(h, a, b, NULL, n, k, U);
        const double rank = llm_hidden_layer_measure(h, n, U, &arena).rank;
        CHECK(rank <= (double)k + 1e-3 && rank >= 1.0 - 1e-6);
    }
}

TEST(hidden_layer, "the readout and its accuracy equal scikit-learn's Ridge") {
    const float *h = golden("probe/h");
    const int *label = as_ints(golden("probe/label"), 40);
    llm_arena arena = test_arena(1 << 22);
    float readout[18], accuracy[1];
    CHECK(llm_hidden_layer_readout(readout, h, label, 40, 5, 3, 0.5, &arena));
    CHECK_GOLDEN(readout, 18, 2e-6f, "probe/readout");
    accuracy[0] = (float)llm_hidden_layer_probe(readout, h, label, 40, 5, 3, &arena);
    CHECK_GOLDEN(accuracy, 1, 1e-7f, "probe/accuracy");
    CHECK(arena.used == 0);
    CHECK(llm_hidden_layer_probe(readout, h, label, 0, 5, 3, &arena) == 0.0);
    const float ones[4] = {1.0f, 0.0f, -1.0f, 0.0f}; /* one row, class 0 */
    CHECK(llm_hidden_layer_probe(ones, ones, label, 1, 1, 2, &arena) == (label[0] == 0));
    const float zero[2] = {0.0f, 0.0f};
    CHECK(!llm_hidden_layer_readout(readout, zero, label, 2, 1, 3, -1.0, &arena));
    CHECK(arena.used == 0);
}

/* Two rings around 0, radius 1 and 2, with noise. */
static void hl_rings(float *x, int *label, size_t n, llm_rng *rng) {
    for (size_t i = 0; i < n; i++) {
        const float turn = 2.0f * LLM_PI * llm_rng_uniform(rng);
        label[i] = (int)(i % 2);
        x[2 * i] = (1.0f + (float)label[i]) * cosf(turn) + 0.1f * llm_rng_normal(rng);
        x[2 * i + 1] = (1.0f + (float)label[i]) * sinf(turn) + 0.1f * llm_rng_normal(rng);
    }
}

TEST(hidden_layer, "rings: a probe fails on the inputs, not on a trained hidden layer, nor on 200 "
                   "random units") {
    enum { n = 200 };
    const size_t size[3] = {2, 16, 2};
    const llm_mlp m = {size, 2, LLM_ACTIVATION_TANH, LLM_OUTPUT_LAYER_SOFTMAX};
    llm_arena arena = test_arena(1 << 22);
    float *x = floats(2 * n), *test = floats(2 * n), *h = floats(n * 200), *t = floats(n * 200);
    float *w = floats(82), *b = floats(200), *random = floats(400), *readout = floats(402);
    float *cache = floats(llm_mlp_cache(&m, n)), *y = floats(2 * n);
    int label[n], truth[n];
    for (uint64_t seed = 1; seed <= 3; seed++) {
        llm_rng rng = llm_rng_seed(seed);
        hl_rings(x, label, n, &rng);
        hl_rings(test, truth, n, &rng);
        CHECK(llm_hidden_layer_readout(readout, x, label, n, 2, 2, 1e-6, &arena));
        const double raw = llm_hidden_layer_probe(readout, test, truth, n, 2, 2, &arena);

        llm_mlp_init(w, &m, &rng);
        llm_mlp_train_config config = llm_mlp_train_defaults();
        config.epochs = 60;
        llm_mlp_train(w, &m, x, label, NULL, n, &config, &arena);
        const size_t at = llm_mlp_hidden(&m, 1, n) + 16 * n; /* a_1 behind z_1 */
        llm_mlp_forward(y, cache, &m, w, x, n);
        CHECK(llm_hidden_layer_readout(readout, cache + at, label, n, 16, 2, 1e-6, &arena));
        llm_mlp_forward(y, cache, &m, w, test, n);
        const double trained = llm_hidden_layer_probe(readout, cache + at, truth, n, 16, 2, &arena);

        llm_hidden_layer_random(random, b, 200, 2, 1.0f, &rng);
        llm_hidden_layer_forward(h, x, random, b, n, 2, 200, LLM_ACTIVATION_TANH);
        llm_hidden_layer_forward(t, test, random, b, n, 2, 200, LLM_ACTIVATION_TANH);
        CHECK(llm_hidden_layer_readout(readout, h, label, n, 200, 2, 1e-3, &arena));
        const double elm = llm_hidden_layer_probe(readout, t, truth, n, 200, 2, &arena);
        /* seeds 4 to 27: at most 0.585, and 1, 1 */
        CHECK(raw < 0.7 && trained > 0.95 && elm > 0.95);
    }
}

TEST(hidden_layer,
     "a random layer has the stated deviations; the order of its units is no matter") {
    enum { U = 3000, C = 4 };
    float *w = floats(U * C), *b = floats(U);
    llm_rng rng = llm_rng_seed(2);
    llm_hidden_layer_random(w, b, U, C, 3.0f, &rng);
    /* mean squares 9 / 4 and 9, within 4 deviations of sqrt(2 / n) */
    CHECK_NEAR(dot(w, w, U * C) / (float)(U * C), 2.25f, 2.25 * 4.0 * sqrt(2.0 / (U * C)));
    CHECK_NEAR(dot(b, b, U) / (float)U, 9.0f, 9.0 * 4.0 * sqrt(2.0 / U));
    rng = llm_rng_seed(3);
    llm_hidden_layer_random(w, b, 1, 1, 3.0f, &rng);
    rng = llm_rng_seed(3);
    const float z = llm_rng_normal(&rng);
    CHECK_NEAR(w[0], 3.0f * z, 1e-6);
    CHECK_NEAR(b[0], 3.0f * llm_rng_normal(&rng), 1e-6);

    float h[5 * 3], turned[5 * 3], readout[4], again[4];
    const int label[5] = {0, 0, 1, 0, 1};
    llm_arena arena = test_arena(1 << 22);
    llm_rng_normal_fill(&rng, h, 15);
    for (size_t i = 0; i < 15; i++) turned[i / 3 * 3 + (i + 1) % 3] = h[i];
    float both[8], both2[8];
    CHECK(llm_hidden_layer_readout(both, h, label, 5, 3, 2, 0.1, &arena));
    CHECK(llm_hidden_layer_readout(both2, turned, label, 5, 3, 2, 0.1, &arena));
    memcpy(readout, both, sizeof readout);
    memcpy(again, both2, sizeof again);
    for (size_t u = 0; u < 3; u++) CHECK_NEAR(again[(u + 1) % 3], readout[u], 1e-5);
    CHECK_NEAR(again[3], readout[3], 1e-5);
}

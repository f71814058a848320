/* @label_smoothing */
#include "../test.h"

#include "../../llm.h"

enum { ALL = LLM_LABEL_SMOOTHING_ALL, OTHERS = LLM_LABEL_SMOOTHING_OTHERS };

TEST(label_smoothing, "loss and gradient equal torch's, explicit target rows and a prior's") {
    const size_t shapes[5][2] = {{1, 1}, {4, 2}, {5, 7}, {3, 31}, {2, 5}};
    for (size_t s = 0; s < 5; s++) {
        const size_t N = shapes[s][0], K = shapes[s][1];
        const float *z = golden("%zux%zu/z", N, K), *prior = golden("%zux%zu/prior", N, K);
        const float e = golden("%zux%zu/e", N, K)[0];
        const int *y = as_ints(golden("%zux%zu/y", N, K), N);
        for (int mode = 0; mode < 3; mode++) {
            const char *name = mode == 0 ? "all" : mode == 1 ? "others" : "prior";
            const int m = mode == 1 ? OTHERS : ALL;
            float *loss = floats(N), *lse = floats(N), *dz = zeros(N * K);
            if (mode == 1 && K == 1) continue;
            const size_t kept =
                llm_label_smoothing_forward(loss, lse, z, y, mode == 2 ? prior : NULL, N, K, e, m);
            CHECK(kept == (N > 3 ? N - 1 : N));
            for (int turn = 0; turn < 2; turn++) /* accumulates */
                llm_label_smoothing_backward(dz, z, lse, y, mode == 2 ? prior : NULL, N, K, e, m,
                                             0.5f / (float)kept);
            CHECK_GOLDEN(loss, N, 1e-6f, "%zux%zu/%s/loss", N, K, name);
            CHECK_GOLDEN(dz, N * K, 1e-6f, "%zux%zu/%s/dz", N, K, name);
        }
    }
}

TEST(label_smoothing, "e = 0 is cross-entropy, also where other logits are minus infinity") {
    const float z[8] = {1.0f, -INFINITY, 2.0f, 80.0f, 1e4f, 0.0f, -1e4f, 1.0f};
    const int y[2] = {3, 2};
    float loss[2], lse[2], want[2], dz[8] = {0.0f}, dwant[8] = {0.0f};
    llm_cross_entropy_forward(want, lse, z, y, 2, 4);
    llm_cross_entropy_backward(dwant, z, lse, y, 2, 4, 0.5f);
    for (int mode = ALL; mode <= OTHERS; mode++) {
        memset(dz, 0, sizeof dz);
        CHECK(llm_label_smoothing_forward(loss, lse, z, y, NULL, 2, 4, 0.0f, mode) == 2);
        CHECK_ALL_CLOSE(loss, want, 2, 1e-6f);
        llm_label_smoothing_backward(dz, z, lse, y, NULL, 2, 4, 0.0f, mode, 0.5f);
        CHECK_ALL_NEAR(dz, dwant, 8, 1e-6f);
    }
    llm_label_smoothing_forward(loss, lse, z, y, NULL, 2, 4, 0.1f, ALL);
    CHECK(isinf(loss[0])); /* a class that cannot be is asked for */
    const float prior[4] = {0.5f, 0.0f, 0.25f, 0.25f};
    llm_label_smoothing_forward(loss, lse, z, y, prior, 2, 4, 0.1f, ALL);
    CHECK_NEAR(loss[0], 0.05 * 79.0 + 0.025 * 78.0, 1e-4); /* but a prior can leave it out */
}

TEST(label_smoothing, "the gap is where the loss is least, and the least loss the entropy") {
    const size_t sizes[4] = {2, 3, 10, 1001};
    for (size_t s = 0; s < 4; s++)
        for (int mode = ALL; mode <= OTHERS; mode++) {
            const size_t K = sizes[s];
            const double gap = llm_label_smoothing_gap(0.1, K, mode);
            float *z = zeros(K), *dz = zeros(K), loss[1], lse[1];
            const int y[1] = {(int)K / 2};
            z[y[0]] = (float)gap;
            llm_label_smoothing_forward(loss, lse, z, y, NULL, 1, K, 0.1f, mode);
            llm_label_smoothing_backward(dz, z, lse, y, NULL, 1, K, 0.1f, mode, 1.0f);
            for (size_t k = 0; k < K; k++) CHECK_NEAR(dz[k], 0.0, 1e-6);
            CHECK_NEAR(loss[0], llm_label_smoothing_floor(0.1, K, mode), 1e-5);
        }
    CHECK_NEAR(llm_label_smoothing_gap(0.1, 10, ALL), log(0.91 / 0.01), 1e-9);
    CHECK_NEAR(llm_label_smoothing_gap(0.1, 10, OTHERS), log(81.0), 1e-9);
    CHECK(isinf(llm_label_smoothing_gap(0.0, 10, ALL)));
    CHECK(llm_label_smoothing_floor(0.0, 10, ALL) == 0.0);
}

TEST(label_smoothing, "e outside [0, 1), one class alone and wrong labels are refused") {
    const float z[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    const int good[2] = {0, 1}, bad[2] = {0, 2}, negative[2] = {-1, 0};
    float loss[2], lse[2], dz[4] = {0.0f};
    CHECK_ASSERTS(llm_label_smoothing_forward(loss, lse, z, good, NULL, 2, 2, 1.0f, ALL));
    CHECK_ASSERTS(llm_label_smoothing_forward(loss, lse, z, good, NULL, 2, 2, -0.1f, ALL));
    CHECK_ASSERTS(llm_label_smoothing_forward(loss, lse, z, good, NULL, 2, 2, NAN, ALL));
    CHECK_ASSERTS(llm_label_smoothing_forward(loss, lse, z, good, NULL, 1, 1, 0.1f, OTHERS));
    CHECK_ASSERTS(llm_label_smoothing_forward(loss, lse, z, good, NULL, 0, 0, 0.1f, ALL));
    CHECK_ASSERTS(llm_label_smoothing_forward(loss, lse, z, bad, NULL, 2, 2, 0.1f, ALL));
    CHECK_ASSERTS(llm_label_smoothing_forward(loss, lse, z, negative, NULL, 2, 2, 0.1f, ALL));
    llm_label_smoothing_forward(loss, lse, z, good, NULL, 2, 2, 0.1f, ALL);
    CHECK_ASSERTS(llm_label_smoothing_backward(dz, z, lse, bad, NULL, 2, 2, 0.1f, ALL, 1.0f));
    CHECK_ASSERTS(llm_label_smoothing_backward(dz, z, lse, negative, NULL, 2, 2, 0.1f, ALL, 1.0f));
    CHECK(llm_label_smoothing_forward(loss, lse, z, good, NULL, 0, 2, 0.1f, ALL) == 0);
}

enum { K = LLM_GLYPHS_CLASSES, PIXELS = LLM_GLYPHS_PIXELS, TRAIN = 200, TEST_ROWS = 1000 };

/* Expected calibration error in ten bins of confidence, and the accuracy. */
static double label_smoothing_ece(const float *logits, const int *y, size_t N, double *accuracy) {
    double right[10] = {0.0}, sure[10] = {0.0}, error = 0.0;
    *accuracy = 0.0;
    for (size_t n = 0; n < N; n++) {
        const float *z = logits + n * K;
        size_t best = 0;
        double sum = 0.0;
        for (size_t k = 1; k < K; k++) best = z[k] > z[best] ? k : best;
        for (size_t k = 0; k < K; k++) sum += exp((double)z[k] - (double)z[best]);
        const size_t bin = (size_t)fmin(9.0, 10.0 / sum);
        sure[bin] += 1.0 / sum;
        right[bin] += (size_t)y[n] == best;
        *accuracy += ((size_t)y[n] == best) / (double)N;
    }
    for (size_t b = 0; b < 10; b++) error += fabs(sure[b] - right[b]) / (double)N;
    return error;
}

/* An MLP trained on 200 noisy digits with targets smoothed by e; *gap: the mean distance between
 * the label's logit and the mean of the others, on the training rows. */
static double label_smoothing_train(double *gap, double *accuracy, float e, size_t epochs,
                                    float noise, uint64_t seed) {
    const size_t size[3] = {PIXELS, 48, K};
    const llm_mlp m = {size, 2, LLM_ACTIVATION_RELU, LLM_OUTPUT_LAYER_SOFTMAX};
    float *x = floats((TRAIN + TEST_ROWS) * PIXELS), *t = floats(TRAIN * K);
    float *w = floats(llm_mlp_param_count(&m)), *z = floats((TRAIN + TEST_ROWS) * K);
    int label[TRAIN + TEST_ROWS];
    llm_rng rng = llm_rng_seed(seed);
    llm_mlp_train_config config = llm_mlp_train_defaults();
    config.epochs = epochs, config.lr = 0.02f;
    llm_glyphs(x, label, TRAIN + TEST_ROWS, 1.0f, noise, &rng);
    for (size_t i = 0; i < (TRAIN + TEST_ROWS) * PIXELS; i++) x[i] -= 0.2f;
    for (size_t i = 0; i < TRAIN * K; i++)
        t[i] = (1.0f - e) * ((size_t)label[i / K] == i % K ? 1.0f : 0.0f) + e / K;
    llm_arena arena;
    CHECK(llm_arena_create(&arena, llm_mlp_train_workspace(&m, 32) + llm_mlp_workspace(&m, 64)));
    llm_mlp_init(w, &m, &rng);
    llm_mlp_train(w, &m, x, NULL, t, TRAIN, &config, &arena);
    llm_mlp_outputs(z, &m, w, x, TRAIN + TEST_ROWS, 64, &arena);
    *gap = 0.0;
    for (size_t n = 0; n < TRAIN; n++) {
        double others = 0.0;
        for (size_t k = 0; k < K; k++)
            if ((size_t)label[n] != k) others += (double)z[n * K + k] / (K - 1);
        *gap += ((double)z[n * K + (size_t)label[n]] - others) / TRAIN;
    }
    llm_arena_destroy(&arena);
    return label_smoothing_ece(z + TRAIN * K, label + TRAIN, TEST_ROWS, accuracy);
}

TEST(label_smoothing, "a trained gap comes near the closed form; hard labels go on growing") {
    double gap, accuracy, hard;
    const double want = llm_label_smoothing_gap(0.1, K, ALL); /* 4.51 */
    for (uint64_t seed = 1; seed <= 2;
         seed++) { /* 16 further seeds: 4.67 to 4.77, hard 2.1 to 2.3 times */
        label_smoothing_train(&gap, &accuracy, 0.1f, 150, 0.1f, seed);
        label_smoothing_train(&hard, &accuracy, 0.0f, 150, 0.1f, seed);
        CHECK_NEAR(gap, want, 0.1 * want);
        CHECK(hard > 1.5 * want);
    }
}

TEST(label_smoothing, "on noisy digits the calibration error falls, for ten seeds of ten") {
    double gap, hard, soft;
    for (uint64_t seed = 1; seed <= 10;
         seed++) { /* 80 further seeds: 0.50 to 0.69; accuracies within 0.02 */
        const double a = label_smoothing_train(&gap, &hard, 0.0f, 60, 0.4f, seed);
        const double b = label_smoothing_train(&gap, &soft, 0.1f, 60, 0.4f, seed);
        CHECK(b < 0.8 * a);
        CHECK_NEAR(hard, soft, 0.05);
    }
}

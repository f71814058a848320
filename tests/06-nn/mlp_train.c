/* @mlp_train */
#include "../test.h"

#include "../../llm.h"

static llm_arena mt_arena(size_t bytes) {
    llm_arena arena = {(unsigned char *)test_memory(bytes, 1), bytes, 0, bytes};
    memset(arena.memory, 255, bytes); /* NaN; and the first take poisons the rest */
    return arena;
}

TEST(mlp_train, "50 full-batch steps equal torch.optim.SGD, with and without momentum") {
    const size_t size[3] = {3, 6, 4};
    for (size_t k = 0; k < 4; k++) {
        const bool softmax = k / 2 == 0;
        const llm_mlp m = {size, 2, LLM_ACTIVATION_TANH,
                           softmax ? LLM_OUTPUT_LAYER_SOFTMAX : LLM_OUTPUT_LAYER_MSE};
        const llm_mlp_train_config config = {0.05f, k % 2 ? 0.9f : 0.0f, 50, 11, 3};
        const int *label = softmax ? as_ints(golden("%zu/label", k % 2), 11) : NULL;
        const float *target = softmax ? NULL : golden("%zu/target", k % 2);
        float *w = golden_n(NULL, "%zu/w", k % 2), loss[1];
        llm_arena arena = mt_arena(llm_mlp_train_workspace(&m, 11));
        loss[0] =
            (float)llm_mlp_train(w, &m, golden("%zu/x", k % 2), label, target, 11, &config, &arena);
        const char *name = softmax ? "softmax" : "mse";
        /* 50 steps of float against double */
        CHECK_GOLDEN(w, 52, 2e-6f, "%zu/%s_w", k % 2, name);
        CHECK_GOLDEN(loss, 1, 2e-6f, "%zu/%s_loss", k % 2, name);
        CHECK(arena.used == 0);
    }
}

TEST(mlp_train, "batches are those of @epoch, the last one shorter; the loss weighs them by rows") {
    const size_t size[2] = {2, 1}, n = 7;
    const llm_mlp m = {size, 1, LLM_ACTIVATION_IDENTITY, LLM_OUTPUT_LAYER_MSE};
    const llm_mlp_train_config config = {0.01f, 0.5f, 3, 3, 9};
    llm_rng rng = llm_rng_seed(1);
    float x[14], t[7], w[3] = {0.5f, -1.0f, 0.25f};
    double u[3] = {0.5, -1.0, 0.25}, v[3] = {0.0, 0.0, 0.0}, want = 0.0;
    llm_rng_normal_fill(&rng, x, 14);
    llm_rng_normal_fill(&rng, t, 7);
    llm_arena arena = mt_arena(4096);
    const double loss = llm_mlp_train(w, &m, x, NULL, t, n, &config, &arena);

    for (uint64_t epoch = 0; epoch < 3; epoch++) {
        want = 0.0;
        for (size_t from = 0; from < n; from += 3) {
            const size_t rows = n - from < 3 ? n - from : 3;
            double g[3] = {0.0, 0.0, 0.0};
            for (size_t r = 0; r < rows; r++) {
                const size_t i = llm_epoch_at(from + r, n, 9, epoch);
                const double a = (double)x[2 * i], b = (double)x[2 * i + 1];
                const double e = u[0] * a + u[1] * b + u[2] - (double)t[i];
                g[0] += e * a / (double)rows, g[1] += e * b / (double)rows;
                g[2] += e / (double)rows;
                want += 0.5 * e * e / (double)n;
            }
            for (size_t k = 0; k < 3; k++) {
                v[k] = 0.5 * v[k] + g[k];
                u[k] -= 0.01 * v[k];
            }
        }
    }
    for (size_t k = 0; k < 3; k++) CHECK_NEAR(w[k], u[k], 1e-6);
    CHECK_NEAR(loss, want, 1e-6);
}

TEST(mlp_train, "a small net learns 16 random points by heart") {
    const size_t size[3] = {4, 32, 3};
    const llm_mlp m = {size, 2, LLM_ACTIVATION_TANH, LLM_OUTPUT_LAYER_SOFTMAX};
    for (uint64_t seed = 1; seed <= 3; seed++) {
        llm_rng rng = llm_rng_seed(seed);
        float x[64], *w = floats(llm_mlp_param_count(&m));
        int label[16];
        llm_rng_normal_fill(&rng, x, 64);
        for (size_t i = 0; i < 16; i++) label[i] = (int)llm_rng_below(&rng, 3);
        llm_mlp_init(w, &m, &rng);
        llm_mlp_train_config config = llm_mlp_train_defaults();
        config.epochs = 2000;
        config.batch = 16;
        config.lr = 0.2f;
        llm_arena arena = mt_arena(1 << 16);
        const double loss = llm_mlp_train(w, &m, x, label, NULL, 16, &config, &arena);
        CHECK(loss < 1e-3); /* seeds 4 to 27: 1.6e-4 to 5e-4 */
        CHECK(llm_mlp_accuracy(&m, w, x, label, 16, &arena) == 1.0);
    }
}

/* Test accuracies of a linear model and of a net on data of a seed. */
static void mt_compare(double accuracy[2], const llm_mlp *net, const llm_mlp_train_config *config,
                       bool spirals, uint64_t seed) {
    const size_t n = spirals ? 400 : 2000, in = net->size[0], K = net->size[net->layers];
    const size_t size[2] = {in, K};
    const llm_mlp linear = {size, 1, LLM_ACTIVATION_IDENTITY, LLM_OUTPUT_LAYER_SOFTMAX};
    float *x = floats(n * in), *x_test = floats(n * in), *w = floats(llm_mlp_param_count(net));
    int *label = (int *)test_memory(n, sizeof(int)), *label_test = (int *)test_memory(n, 4);
    llm_rng rng = llm_rng_seed(seed);
    llm_arena arena = mt_arena(1 << 20);
    for (size_t half = 0; half < 2; half++) {
        if (spirals)
            llm_mlp_spirals(half ? x_test : x, half ? label_test : label, n, 1.5f, 0.02f, &rng);
        else
            llm_glyphs(half ? x_test : x, half ? label_test : label, n, 1.0f, 0.15f, &rng);
    }
    for (size_t k = 0; k < 2; k++) {
        const llm_mlp *m = k ? net : &linear;
        llm_mlp_init(w, m, &rng);
        llm_mlp_train(w, m, x, label, NULL, n, config, &arena);
        accuracy[k] = llm_mlp_accuracy(m, w, x_test, label_test, n, &arena);
    }
}

TEST(mlp_train, "two spirals: a net separates them, no line does") {
    const size_t size[4] = {2, 32, 32, 2};
    const llm_mlp net = {size, 3, LLM_ACTIVATION_RELU, LLM_OUTPUT_LAYER_SOFTMAX};
    llm_mlp_train_config config = llm_mlp_train_defaults();
    config.epochs = 200;
    for (uint64_t seed = 1; seed <= 3; seed++) {
        double accuracy[2];
        mt_compare(accuracy, &net, &config, true, seed);
        /* seeds 4 to 27: 0.59 to 0.67, 0.967 to 1 */
        CHECK(accuracy[0] < 0.75);
        CHECK(accuracy[1] > 0.93);
    }
}

TEST(mlp_train, "the accuracy needs the outputs and the cache of 64 rows, and gives them back") {
    const size_t size[3] = {2, 5, 2};
    const llm_mlp m = {size, 2, LLM_ACTIVATION_RELU, LLM_OUTPUT_LAYER_SOFTMAX};
    const float *w = zeros(27);
    float x[400];
    int label[200];
    llm_rng rng = llm_rng_seed(1);
    llm_arena arena = mt_arena(200 * 2 * sizeof(float) + 2 * 64 * 5 * sizeof(float));
    llm_mlp_spirals(x, label, 200, 1.0f, 0.1f, &rng);
    CHECK(llm_mlp_accuracy(&m, w, x, label, 200, &arena) == 0.5); /* all 0: every row is class 0 */
    CHECK(arena.used == 0);
}

TEST(mlp_train, "drawn digits: a hidden layer of 64 makes less than half the errors of a line") {
    const size_t size[3] = {64, 64, 10};
    const llm_mlp net = {size, 2, LLM_ACTIVATION_RELU, LLM_OUTPUT_LAYER_SOFTMAX};
    const llm_mlp_train_config config = llm_mlp_train_defaults();
    for (uint64_t seed = 1; seed <= 3; seed++) {
        double accuracy[2];
        mt_compare(accuracy, &net, &config, false, seed);
        /* seeds 4 to 27: 0.857 to 0.889, 0.972 to 0.986 */
        CHECK(accuracy[0] > 0.78 && accuracy[0] < 0.93);
        CHECK(1.0 - accuracy[1] < 0.5 * (1.0 - accuracy[0]));
    }
}

TEST(mlp_train, "the spirals have the stated radius, angle and noise") {
    const size_t n = 1000;
    float *x = floats(2 * n), *noisy = floats(2 * n);
    int *label = (int *)test_memory(n, sizeof(int));
    llm_rng a = llm_rng_seed(5), b = llm_rng_seed(5);
    llm_mlp_spirals(x, label, n, 1.5f, 0.0f, &a);
    double sum = 0.0;
    for (size_t i = 0; i < n; i++) {
        const double px = (double)x[2 * i], py = (double)x[2 * i + 1], r = sqrt(px * px + py * py);
        const double angle = 2.0 * 3.14159265358979 * (1.5 * r + 0.5 * (double)label[i]);
        CHECK(label[i] == (int)(i % 2) && r < 1.0);
        CHECK_NEAR(px, r * cos(angle), 2e-6);
        CHECK_NEAR(py, r * sin(angle), 2e-6);
        sum += r;
    }
    CHECK_NEAR(sum / (double)n, 0.5, 4.0 * sqrt(1.0 / 12.0 / (double)n));
    llm_mlp_spirals(noisy, label, n, 1.5f, 0.1f, &b);
    a = llm_rng_seed(5);
    for (size_t i = 0; i < n; i++) { /* of each point's words the first is its radius */
        float z[2];
        llm_rng_uniform(&a);
        llm_rng_normal_pair(z, &a);
        for (size_t k = 0; k < 2; k++)
            CHECK_NEAR(noisy[2 * i + k], x[2 * i + k] + 0.1f * z[k], 1e-6);
    }
}

TEST(mlp_train, "equal seeds give equal weights; nothing to do changes nothing; the workspace") {
    const size_t size[3] = {2, 5, 2};
    const llm_mlp m = {size, 2, LLM_ACTIVATION_RELU, LLM_OUTPUT_LAYER_SOFTMAX};
    const size_t P = llm_mlp_param_count(&m), bytes = llm_mlp_train_workspace(&m, 32);
    float x[2000], w[3][27], start[27];
    int label[1000];
    llm_rng rng = llm_rng_seed(6);
    llm_arena arena;
    CHECK(P == 27 && llm_arena_create(&arena, bytes));
    llm_mlp_spirals(x, label, 1000, 1.0f, 0.1f, &rng);
    llm_mlp_init(start, &m, &rng);
    llm_mlp_train_config config = llm_mlp_train_defaults();
    for (size_t k = 0; k < 3; k++) {
        memcpy(w[k], start, sizeof start);
        config.seed = 1 + k / 2;
        llm_mlp_train(w[k], &m, x, label, NULL, 50, &config, &arena);
    }
    CHECK(memcmp(w[0], w[1], sizeof w[0]) == 0 && memcmp(w[0], w[2], sizeof w[0]) != 0);
    CHECK(arena.peak <= bytes && arena.peak + 10 * 64 >= bytes);
    CHECK(config.seed == 2 && llm_mlp_train_defaults().seed == 1);
    CHECK(config.epochs == 20 && config.batch == 32);
    CHECK(llm_mlp_train_workspace(&m, 0) ==
          llm_mlp_workspace(&m, 0) + 2 * 27 * sizeof(float) + 384);

    config.epochs = 0;
    CHECK(llm_mlp_train(w[0], &m, x, label, NULL, 50, &config, &arena) == 0.0);
    config.epochs = 2;
    CHECK(llm_mlp_train(w[0], &m, x, label, NULL, 0, &config, &arena) == 0.0);
    CHECK(memcmp(w[0], w[1], sizeof w[0]) == 0);
    arena.size = 64;
    CHECK_ASSERTS(llm_mlp_train(w[0], &m, x, label, NULL, 50, &config, &arena));
    llm_arena_destroy(&arena);
    CHECK(llm_arena_create(&arena, llm_mlp_train_workspace(&m, 1000)));
    config.batch = 1000;
    llm_mlp_train(w[0], &m, x, label, NULL, 1000, &config, &arena);
    CHECK(arena.peak + 10 * 64 >= arena.size);
    llm_arena_destroy(&arena);
}

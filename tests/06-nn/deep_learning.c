/* @deep_learning */
#include "../test.h"

#include "../../llm.h"

static llm_arena arena_of(size_t bytes) {
    llm_arena a = {(unsigned char *)test_memory(bytes + 64, 1), bytes, 0, 0};
    a.memory += 64 - (uintptr_t)a.memory % 64;
    return a;
}

/* A run of a network of conv, norm, ReLU, pooling, twice, and a head, from a fixed start. */
static llm_cnn_train_run start(const llm_feedforward *f, size_t n, size_t batch, uint64_t seed) {
    llm_cnn_train_run r;
    llm_rng rng = llm_rng_seed(seed);
    memset(&r, 0, sizeof r);
    r.net = f, r.w = zeros(f->params), r.v = zeros(f->params), r.state = zeros(f->states);
    r.at.n = n, r.at.batch = batch, r.at.seed = seed, r.lr = 0.05f, r.momentum = 0.9f;
    llm_feedforward_init(r.w, r.state, f, &rng);
    return r;
}

TEST(deep_learning,
     "a run that is saved, loaded and goes on equals one that never stopped, bit for bit") {
    enum { N = 70, BATCH = 16 }; /* five batches an epoch, the last of six */
    static float x[N * 64];
    static int label[N];
    llm_arena a = arena_of(1 << 22);
    llm_rng rng = llm_rng_seed(2);
    llm_feedforward f;
    llm_error e;
    llm_glyphs(x, label, N, 1.0f, 0.2f, &rng);
    llm_cnn_train_lenet(&f, 8, 2, 10, true, &a);
    llm_cnn_train_run whole = start(&f, N, BATCH, 3), first = start(&f, N, BATCH, 3);
    llm_cnn_train_run later = start(&f, N, BATCH, 3);
    const size_t mark = a.used;
    llm_cnn_train_steps(&whole, x, label, 12, &a);
    const double at_once = llm_cnn_train_steps(&whole, x, label, 1, &a);
    llm_cnn_train_steps(&first, x, label, 7, &a);
    const char *path = test_path("run.npy");
    CHECK(llm_deep_learning_save(path, &first, &a, &e));
    memset(later.w, 255, f.params * sizeof(float));
    CHECK(llm_deep_learning_load(&later, path, &e));
    llm_cnn_train_steps(&later, x, label, 5, &a);
    CHECK(llm_cnn_train_steps(&later, x, label, 1, &a) == at_once);
    CHECK(memcmp(later.w, whole.w, f.params * sizeof(float)) == 0);
    CHECK(memcmp(later.v, whole.v, f.params * sizeof(float)) == 0);
    CHECK(memcmp(later.state, whole.state, f.states * sizeof(float)) == 0);
    CHECK(later.at.epoch == whole.at.epoch && later.at.step == whole.at.step);
    CHECK(a.used == mark);

    llm_feedforward other; /* a checkpoint of another net, and one that is none */
    llm_cnn_train_lenet(&other, 8, 3, 10, true, &a);
    llm_cnn_train_run wrong = start(&other, N, BATCH, 3);
    const float before = wrong.w[0];
    CHECK_FAILS(llm_deep_learning_load(&wrong, path, &e), e, "doubles for this network");
    CHECK(wrong.w[0] == before && wrong.at.step == 0);
    const size_t count = llm_deep_learning_count(&first);
    CHECK(count == 2 + 2 * f.params + f.states);
    CHECK(llm_npy_write(path, zeros(count), LLM_NPY_F32, &count, 1, &e));
    CHECK_FAILS(llm_deep_learning_load(&later, path, &e), e, "of type 0, expected");
    CHECK_FAILS(llm_deep_learning_load(&later, test_path("none"), &e), e, "none");
}

TEST(deep_learning, "steps go on where an epoch ends; what is frozen does not move") {
    enum { N = 40, BATCH = 10 };
    static float x[N * 64];
    static int label[N];
    llm_arena a = arena_of(1 << 22);
    llm_rng rng = llm_rng_seed(2);
    llm_feedforward f;
    llm_glyphs(x, label, N, 1.0f, 0.2f, &rng);
    llm_cnn_train_lenet(&f, 8, 2, 10, false, &a);
    llm_cnn_train_run r = start(&f, N, BATCH, 3), same = start(&f, N, BATCH, 3);
    llm_mlp_train_config c = llm_mlp_train_defaults();
    c.lr = 0.05f, c.momentum = 0.9f, c.epochs = 2, c.batch = BATCH, c.seed = 3;
    llm_cnn_train(same.w, same.state, &f, x, label, N, &c, &a);
    llm_cnn_train_steps(&r, x, label, 8, &a);
    CHECK_ALL_NEAR(r.w, same.w, f.params, 0.0f);
    CHECK(llm_cnn_train_steps(&r, x, label, 0, &a) == 0.0);

    const size_t head = f.node[f.count - 1].w;
    float *moves = floats(f.params);
    llm_deep_learning_freeze(moves, &f, f.count - 1);
    llm_cnn_train_run frozen = start(&f, N, BATCH, 3);
    const llm_cnn_train_run begin = start(&f, N, BATCH, 3);
    frozen.moves = moves;
    llm_cnn_train_steps(&frozen, x, label, 3, &a);
    for (size_t i = 0; i < f.params; i++) CHECK((frozen.w[i] == begin.w[i]) == (i < head));
    llm_deep_learning_freeze(moves, &f, 0);
    for (size_t i = 0; i < f.params; i++) CHECK(moves[i] == 1.0f);
    CHECK_ASSERTS(llm_deep_learning_freeze(moves, &f, f.count));
}

TEST(deep_learning, "edges by hand: one direction, two bins, quarters apart, no light no edge") {
    float x[64], h[32];
    memset(x, 0, sizeof x);
    memset(h, 255, sizeof h);
    llm_deep_learning_edges(h, x, 1);
    for (size_t k = 0; k < 32; k++) CHECK(h[k] == 0.0f);
    for (size_t r = 1; r < 4; r++) x[r * 8 + 2] = 1.0f; /* a stroke in the first quarter */
    llm_deep_learning_edges(h, x, 1);
    /* rows 1 to 3: to the right at column 1, to the left at column 3 (bins 4 and 0, 8 is 0 again);
     * above and below it, down and up (6, 2); the ends of the stroke have both */
    double want[8] = {0};
    for (size_t r = 0; r < 8; r++)
        for (size_t c = 0; c < 4; c++) {
            const double gx =
                (c < 7 ? (double)x[r * 8 + c + 1] : 0.0) - (c > 0 ? (double)x[r * 8 + c - 1] : 0.0);
            const double gy =
                (r < 7 ? (double)x[r * 8 + 8 + c] : 0.0) - (r > 0 ? (double)x[r * 8 + c - 8] : 0.0);
            if (r < 4)
                want[gx > 0 ? 4 : gx < 0 ? 0 : gy > 0 ? 6 : 2] += gx != 0.0 ? fabs(gx) : fabs(gy);
        }
    double size = 0.0;
    for (size_t k = 0; k < 8; k++) size += want[k] * want[k];
    for (size_t k = 0; k < 8; k++) CHECK_NEAR(h[k], want[k] / sqrt(size), 1e-5);
    for (size_t k = 8; k < 32; k++)
        if (k / 8 != 2) CHECK(h[k] == 0.0f); /* the quarter below sees the lower end */
    CHECK_NEAR(h[16 + 2], 1.0f, 1e-5f);
}

TEST(deep_learning, "edges of faint light stay small; each picture has its own") {
    float x[2 * 64], h[2 * 32];
    memset(x, 0, sizeof x);
    memset(h, 255, sizeof h);
    x[64 + 8 + 1] = 5e-4f; /* one edge in each of four bins: square length 1e-6, as is added */
    llm_deep_learning_edges(h, x, 2);
    for (size_t k = 0; k < 64; k++)
        CHECK_NEAR(h[k], k >= 32 && k < 40 && k % 2 == 0 ? 0.5 / sqrt(2.0) : 0.0, 1e-6);
}

TEST(deep_learning, "edges of a random picture: each bin takes what lies within 45 degrees of it") {
    const double pi = acos(-1.0);
    float x[64], h[32];
    double want[32] = {0};
    llm_rng rng = llm_rng_seed(6);
    for (size_t i = 0; i < 64; i++) x[i] = llm_rng_uniform(&rng);
    for (int r = 0; r < 8; r++)
        for (int c = 0; c < 8; c++) {
            const double left = c ? (double)x[8 * r + c - 1] : 0.0;
            const double right = c < 7 ? (double)x[8 * r + c + 1] : 0.0;
            const double up = r ? (double)x[8 * r + c - 8] : 0.0;
            const double down = r < 7 ? (double)x[8 * r + c + 8] : 0.0;
            const double angle = atan2(down - up, right - left);
            for (int bin = 0; bin < 8; bin++) {
                const double off = fabs(remainder(angle - (bin * 0.25 - 1.0) * pi, 2.0 * pi));
                want[(r / 4 * 2 + c / 4) * 8 + bin] +=
                    hypot(right - left, down - up) * fmax(0.0, 1.0 - off / (0.25 * pi));
            }
        }
    llm_deep_learning_edges(h, x, 1);
    for (int q = 0; q < 4; q++) {
        double size = 0.0;
        for (int k = 0; k < 8; k++) size += want[8 * q + k] * want[8 * q + k];
        for (int k = 0; k < 8; k++) CHECK_NEAR(h[8 * q + k], want[8 * q + k] / sqrt(size), 1e-5);
    }
}

TEST(deep_learning, "parity: both labels as often, each bit alone tells nothing, all k tell all") {
    enum { N = 4000, D = 6 };
    static float x[N * D];
    static int label[N];
    llm_rng rng = llm_rng_seed(4);
    llm_deep_learning_parity(x, label, N, D, 3, &rng);
    double ones = 0.0, along[D] = {0};
    for (size_t i = 0; i < N; i++) {
        const float *xi = x + i * D;
        CHECK(label[i] == (xi[0] * xi[1] * xi[2] > 0.0f));
        ones += label[i];
        for (size_t j = 0; j < D; j++) {
            CHECK(fabsf(xi[j]) == 1.0f);
            along[j] += (double)xi[j] * (2.0 * label[i] - 1.0);
        }
    }
    CHECK_NEAR(ones / N, 0.5, 0.04); /* 5 deviations of 0.008 */
    for (size_t j = 0; j < D; j++) CHECK_NEAR(along[j] / N, 0.0, 0.08);
    llm_deep_learning_parity(x, label, 10, D, 0, &rng);
    for (size_t i = 0; i < 10; i++) CHECK(label[i] == 1);
    llm_deep_learning_parity(x, label, 10, 1, 1, &rng);
    for (size_t i = 0; i < 10; i++) CHECK(label[i] == (x[i] > 0.0f));
    CHECK_ASSERTS(llm_deep_learning_parity(x, label, 1, D, D + 1, &rng));
}

/* Accuracy on new digits of a linear readout of features (n,U). */
static double readout(const float *h, const int *label, size_t n, const float *test_h,
                      const int *test_label, size_t tests, size_t U, llm_arena *a) {
    float *w = floats(10 * (U + 1));
    CHECK(llm_hidden_layer_readout(w, h, label, n, U, 10, 1.0, a));
    return llm_hidden_layer_probe(w, test_h, test_label, tests, U, 10, a);
}

TEST(deep_learning, "learned features beat random ones, edges by hand and pixels, under noise") {
    enum { N = 1000, TESTS = 1000 };
    static float x[N * 64], t[TESTS * 64], hx[N * 32], ht[TESTS * 32];
    static int label[N], t_label[TESTS];
    double over_last = 0.0, over_edges = 0.0, over_pixels = 0.0;
    for (uint64_t seed = 1; seed <= 2; seed++) {
        llm_arena a = arena_of(1 << 23);
        llm_rng rng = llm_rng_seed(seed);
        llm_feedforward f;
        llm_glyphs(x, label, N, 1.0f, 0.25f, &rng);
        llm_glyphs(t, t_label, TESTS, 1.0f, 0.25f, &rng);
        llm_cnn_train_lenet(&f, 8, 4, 10, true, &a);
        float *moves = floats(f.params);
        double accuracy[2], loss[2];
        for (int all = 0; all < 2; all++) {
            llm_cnn_train_run r = start(&f, N, 25, seed);
            llm_deep_learning_freeze(moves, &f, all ? 0 : f.count - 1);
            r.moves = moves;
            loss[0] = llm_cnn_train_steps(&r, x, label, 20, &a);
            llm_cnn_train_steps(&r, x, label, 280, &a);
            loss[1] = llm_cnn_train_steps(&r, x, label, 20, &a);
            accuracy[all] = llm_cnn_train_accuracy(&f, r.w, r.state, t, t_label, TESTS, 100, &a);
        }
        llm_deep_learning_edges(hx, x, N);
        llm_deep_learning_edges(ht, t, TESTS);
        CHECK(loss[1] < 0.6 * loss[0]); /* seeds 1 to 10: 0.21 to 0.29 of it */
        over_last += 0.5 * (accuracy[1] - accuracy[0]);
        over_edges += 0.5 * (accuracy[1] - readout(hx, label, N, ht, t_label, TESTS, 32, &a));
        over_pixels += 0.5 * (accuracy[1] - readout(x, label, N, t, t_label, TESTS, 64, &a));
    }
    /* the mean of two seeds; the pairs from 3 to 10: 0.12 to 0.31, 0.09 to 0.16, 0.05 to 0.15 */
    CHECK(over_last > 0.06);
    CHECK(over_edges > 0.045);
    CHECK(over_pixels > 0.025);
}

TEST(deep_learning, "parity of 3 of 16 bits: a trained net finds the bits, fixed features do not") {
    enum { N = 2000, D = 16, U = 100, TESTS = 1000 };
    static float x[N * D], t[TESTS * D], hx[N * U], ht[TESTS * U];
    static int label[N], t_label[TESTS];
    const size_t size[3] = {D, U, 2};
    const llm_mlp m = {size, 2, LLM_ACTIVATION_RELU, LLM_OUTPUT_LAYER_SOFTMAX};
    const size_t P = llm_mlp_param_count(&m);
    for (uint64_t seed = 1; seed <= 2; seed++) {
        llm_arena a = arena_of(1 << 23);
        llm_rng rng = llm_rng_seed(seed);
        float *w = floats(P), *rw = floats(U * D), *rb = floats(U), *out = floats(2 * (U + 1));
        llm_deep_learning_parity(x, label, N, D, 3, &rng);
        llm_deep_learning_parity(t, t_label, TESTS, D, 3, &rng);
        llm_mlp_init(w, &m, &rng);
        llm_mlp_train_config c = llm_mlp_train_defaults();
        c.lr = 0.1f, c.epochs = 40, c.batch = 50, c.seed = seed;
        llm_mlp_train(w, &m, x, label, NULL, N, &c, &a);
        const double trained = llm_mlp_accuracy(&m, w, t, t_label, TESTS, &a);
        double bits = 0.0, total = 0.0;
        for (size_t i = 0; i < U * D; i++) {
            total += (double)w[i] * (double)w[i];
            if (i % D < 3) bits += (double)w[i] * (double)w[i];
        }
        llm_hidden_layer_random(rw, rb, U, D, 1.0f, &rng);
        llm_hidden_layer_forward(hx, x, rw, rb, N, D, U, LLM_ACTIVATION_RELU);
        llm_hidden_layer_forward(ht, t, rw, rb, TESTS, D, U, LLM_ACTIVATION_RELU);
        CHECK(llm_hidden_layer_readout(out, hx, label, N, U, 2, 1.0, &a));
        const double fixed = llm_hidden_layer_probe(out, ht, t_label, TESTS, U, 2, &a);
        CHECK(trained > 0.95);      /* seeds 1 to 10: 1 */
        CHECK(fixed < 0.75);        /* 0.51 to 0.58 */
        CHECK(bits / total > 0.37); /* of the squared weights, 3/16 at the start: 0.55 to 0.62 */
    }
}

/* @sparse_rep */
#include "../test.h"

#include "../../llm.h"

enum { N = 5, U = 7, K = 3 };

static llm_arena arena_of(size_t bytes) {
    llm_arena a = {(unsigned char *)test_memory(bytes, 1), bytes, 0, 0};
    return a;
}

TEST(sparse_rep, "lifetime and population sparseness equal Rolls and Tovee's; ends of the scale") {
    float lifetime[U], population[N];
    const float *a = golden("measure/a");
    llm_sparse_rep_measures(lifetime, population, a, N, U);
    CHECK_GOLDEN(lifetime, U, 1e-6f, "measure/lifetime");
    CHECK_GOLDEN(population, N, 1e-6f, "measure/population");
    llm_sparse_rep_measures(NULL, population, a, N, U);
    llm_sparse_rep_measures(lifetime, NULL, a, N, U);
    const float equal[4] = {-2.0f, 2.0f, 2.0f, 2.0f}, one[4] = {0.0f, 0.0f, 3.0f, 0.0f};
    CHECK_NEAR(llm_sparse_rep_measure(equal, 4, 1), 0.0, 1e-12);
    CHECK_NEAR(llm_sparse_rep_measure(one, 4, 1), 1.0, 1e-12);
    CHECK(llm_sparse_rep_measure(one, 2, 1) == 0.0 && llm_sparse_rep_measure(equal, 1, 1) == 0.0);
    CHECK(llm_sparse_rep_measure(equal, 0, 1) == 0.0);
    CHECK_NEAR(llm_sparse_rep_measure(one, 2, 2), 1.0, 1e-12); /* 0 and 3 */
}

TEST(sparse_rep, "the k winners equal torch's topk, with the gradient; all, none, in place") {
    llm_arena a = arena_of(1024);
    const float *x = golden("measure/x"), *dy = golden("winners/dy");
    float y[N * U], dx[N * U], *none = zeros(N * U);
    size_t winner[N * U];
    llm_sparse_rep_winners_forward(y, winner, x, N, U, K, &a);
    CHECK_GOLDEN(y, N * U, 0.0f, "winners/y");
    CHECK(winner[K] == 2 && winner[K + 1] == 5); /* equal: the first one first */
    memset(dx, 0, sizeof dx);
    llm_sparse_rep_winners_backward(dx, dy, winner, N, U, K);
    CHECK_GOLDEN(dx, N * U, 0.0f, "winners/dx");
    llm_sparse_rep_winners_backward(dx, dy, winner, N, U, K); /* adds */
    for (size_t i = 0; i < N * U; i++) dx[i] *= 0.5f;
    CHECK_GOLDEN(dx, N * U, 0.0f, "winners/dx");
    llm_sparse_rep_winners_forward(y, winner, x, N, U, U, &a);
    CHECK_ALL_NEAR(y, x, N * U, 0.0f);
    llm_sparse_rep_winners_forward(y, winner, y, N, U, K, &a);
    CHECK_GOLDEN(y, N * U, 0.0f, "winners/y");
    llm_sparse_rep_winners_forward(y, winner, x, N, U, 0, &a);
    CHECK_ALL_NEAR(y, none, N * U, 0.0f);
    CHECK(a.used == 0);
    CHECK_ASSERTS(llm_sparse_rep_winners_forward(y, winner, x, N, U, U + 1, &a));
}

TEST(sparse_rep, "both penalties equal torch's with their gradients, and know no limits") {
    float d[N * U];
    const float *p = golden("kl/p"), *x = golden("measure/x");
    memset(d, 0, sizeof d);
    CHECK_NEAR(llm_sparse_rep_kl(d, p, N, U, 0.1, 0.7f), golden("kl/value")[0], 1e-6);
    CHECK_GOLDEN(d, N * U, 1e-6f, "kl/dp");
    CHECK_NEAR(llm_sparse_rep_kl(NULL, p, N, U, 0.1, 0.7f), golden("kl/value")[0], 1e-6);
    memset(d, 0, sizeof d);
    CHECK_NEAR(llm_sparse_rep_l1(d, x, N, U, 0.7f), golden("l1/value")[0], 1e-6);
    CHECK_GOLDEN(d, N * U, 1e-6f, "l1/dx");
    CHECK_NEAR(llm_sparse_rep_l1(NULL, x, N, U, 0.7f), golden("l1/value")[0], 1e-6);
    CHECK(llm_sparse_rep_l1(NULL, x, 0, U, 0.7f) == 0.0);
    CHECK(llm_sparse_rep_kl(NULL, x, 0, U, 0.5, 0.7f) == 0.0);
    const float quarter[1] = {0.25f}; /* a single row */
    CHECK_NEAR(llm_sparse_rep_l1(NULL, quarter, 1, 1, 2.0f), 0.5, 1e-7);
    CHECK_NEAR(llm_sparse_rep_kl(NULL, quarter, 1, 1, 0.5, 2.0f), log(4.0 / 3.0), 1e-7);
    float silent[2] = {0.0f, 0.0f}, always[2] = {1.0f, 1.0f}, ds[2] = {0.0f, 0.0f};
    CHECK(llm_sparse_rep_l1(ds, silent, 2, 1, 1.0f) == 0.0 && ds[0] == 0.0f);
    CHECK(isinf(llm_sparse_rep_kl(ds, silent, 2, 1, 0.5, 1.0f)));
    CHECK_NEAR(ds[0], -5e5f, 1.0f);
    CHECK(isinf(llm_sparse_rep_kl(ds, always, 2, 1, 0.5, 1.0f)));
    CHECK_NEAR(ds[1], 0.0f, 1.0f);
    CHECK_ASSERTS(llm_sparse_rep_kl(NULL, p, N, U, 0.0, 1.0f));
    CHECK_ASSERTS(llm_sparse_rep_kl(NULL, p, N, U, 1.0, 1.0f));
}

TEST(sparse_rep, "the product that skips equals the dense one and counts what it did") {
    enum { C = 7, O = 3 };
    const float *x = golden("measure/a");
    float *y = floats(N * O), want[N * O], w[O * C], w_t[C * O];
    size_t active = 0;
    llm_rng rng = llm_rng_seed(1);
    llm_rng_normal_fill(&rng, w, O * C);
    for (size_t i = 0; i < O * C; i++) w_t[i % C * O + i / C] = w[i];
    for (size_t i = 0; i < N * C; i++) active += x[i] != 0.0f;
    CHECK(active > 10 && active < 25);
    llm_dense_forward(want, x, w, NULL, N, C, O);
    CHECK(llm_sparse_rep_product(y, x, w_t, N, C, O) == active * O);
    CHECK_ALL_NEAR(y, want, N * O, 1e-6f);
}

/* A net 64-48-10 of ReLU on glyphs with a price on its hidden activations; returns its accuracy on
 * new ones, *active the share of hidden units above 0 there. */
static double trained(double *active, float price, uint64_t seed) {
    enum { M = 600, TEST_ROWS = 1000, H = 48, BATCH = 50 };
    static float x[M * 64], test_x[TEST_ROWS * 64], h[TEST_ROWS * H], z[TEST_ROWS * H];
    static int label[M], test_label[TEST_ROWS];
    static float y[TEST_ROWS * 10], dh[BATCH * H], dz[BATCH * H];
    const size_t size[3] = {64, H, 10};
    const llm_mlp m = {size, 2, LLM_ACTIVATION_RELU, LLM_OUTPUT_LAYER_SOFTMAX};
    const size_t P = llm_mlp_param_count(&m);
    const llm_mlp_view one = llm_mlp_layer(&m, 1), two = llm_mlp_layer(&m, 2);
    float *w = floats(P), *g = floats(P), *v = zeros(P);
    llm_rng rng = llm_rng_seed(seed);
    llm_glyphs(x, label, M, 1.0f, 0.15f, &rng);
    llm_glyphs(test_x, test_label, TEST_ROWS, 1.0f, 0.15f, &rng);
    llm_mlp_init(w, &m, &rng);
    for (size_t step = 0; step < 1200; step++) {
        const size_t at = step * BATCH % M; /* labels go round, so each batch has all */
        memset(g, 0, P * sizeof(float));
        memset(dh, 0, sizeof dh);
        memset(dz, 0, sizeof dz);
        llm_dense_forward(z, x + at * 64, w + one.weight, w + one.bias, BATCH, 64, H);
        llm_activation_forward(h, z, BATCH * H, LLM_ACTIVATION_RELU);
        llm_dense_forward(y, h, w + two.weight, w + two.bias, BATCH, H, 10);
        llm_output_layer_loss(y, y, label + at, NULL, BATCH, 10, m.head);
        llm_dense_backward(dh, g + two.weight, g + two.bias, y, h, w + two.weight, BATCH, H, 10);
        llm_sparse_rep_l1(dh, h, BATCH, H, price);
        llm_activation_backward(dz, dh, z, BATCH * H, LLM_ACTIVATION_RELU);
        llm_dense_backward(NULL, g + one.weight, g + one.bias, dz, x + at * 64, w + one.weight,
                           BATCH, 64, H);
        for (size_t i = 0; i < P; i++) v[i] = 0.9f * v[i] + g[i], w[i] -= 0.05f * v[i];
    }
    llm_dense_forward(z, test_x, w + one.weight, w + one.bias, TEST_ROWS, 64, H);
    llm_activation_forward(h, z, TEST_ROWS * H, LLM_ACTIVATION_RELU);
    llm_dense_forward(y, h, w + two.weight, w + two.bias, TEST_ROWS, H, 10);
    *active = 0.0;
    for (size_t i = 0; i < TEST_ROWS * H; i++) *active += (h[i] > 0.0f) / (double)(TEST_ROWS * H);
    return llm_output_layer_accuracy(y, test_label, TEST_ROWS, 10);
}

TEST(sparse_rep, "a price on activations silences most of a hidden layer and costs little") {
    for (uint64_t seed = 1; seed <= 2; seed++) {
        double before, after;
        const double plain = trained(&before, 0.0f, seed), priced = trained(&after, 0.02f, seed);
        CHECK(before > 0.4);          /* seeds 1 to 10: 0.62 to 0.75 */
        CHECK(after < 0.6 * before);  /* 0.28 to 0.32 of it */
        CHECK(priced > plain - 0.01); /* it even gains: 0.002 to 0.04, of 0.88 to 0.92 */
    }
}

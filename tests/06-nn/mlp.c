/* @mlp */
#include "../test.h"

#include "../../llm.h"

static llm_arena mlp_arena(size_t bytes) {
    llm_arena arena = {(unsigned char *)test_memory(bytes, 1), bytes, 0, bytes};
    memset(arena.memory, 255, bytes); /* NaN; and the first take poisons the rest */
    return arena;
}

static const size_t mlp_size[5][5] = {
    {3, 5, 4, 2, 0}, {2, 7, 3, 0, 0}, {4, 3, 0, 0, 0}, {1, 1, 1, 1, 0}, {5, 2, 9, 6, 4}};
static const llm_mlp mlp_net[5] = {{mlp_size[0], 3, LLM_ACTIVATION_TANH, LLM_OUTPUT_LAYER_SOFTMAX},
                                   {mlp_size[1], 2, LLM_ACTIVATION_RELU, LLM_OUTPUT_LAYER_MSE},
                                   {mlp_size[2], 1, LLM_ACTIVATION_TANH, LLM_OUTPUT_LAYER_BCE},
                                   {mlp_size[3], 3, LLM_ACTIVATION_SILU, LLM_OUTPUT_LAYER_MSE},
                                   {mlp_size[4], 4, LLM_ACTIVATION_GELU, LLM_OUTPUT_LAYER_SOFTMAX}};
static const size_t mlp_rows[5] = {6, 5, 3, 1, 7};

TEST(mlp, "outputs, loss and gradients equal torch's, for one layer to four") {
    for (size_t k = 0; k < 5; k++) {
        const llm_mlp *m = &mlp_net[k];
        const size_t N = mlp_rows[k], K = m->size[m->layers], P = llm_mlp_param_count(m);
        const float *x = golden("%zu/x", k), *w = golden("%zu/w", k);
        const bool softmax = m->head == LLM_OUTPUT_LAYER_SOFTMAX;
        const int *label = softmax ? as_ints(golden("%zu/label", k), N) : NULL;
        const float *target = softmax ? NULL : golden("%zu/target", k);
        float *y = floats(N * K), *cache = floats(llm_mlp_cache(m, N)), *dw = zeros(P);
        float *dy = floats(N * K), *dx = zeros(N * m->size[0]), loss[1];
        llm_arena arena = mlp_arena(llm_mlp_workspace(m, N));

        llm_mlp_forward(y, cache, m, w, x, N);
        CHECK_GOLDEN(y, N * K, 2e-6f, "%zu/y", k);
        loss[0] = (float)llm_mlp_gradient(dw, m, w, x, label, target, N, &arena);
        CHECK_GOLDEN(loss, 1, 2e-6f, "%zu/loss", k);
        CHECK_GOLDEN(dw, P, 2e-6f, "%zu/dw", k);
        CHECK(arena.used == 0);
        CHECK((float)llm_mlp_gradient(NULL, m, w, x, label, target, N, &arena) == loss[0]);

        llm_output_layer_loss(dy, y, label, target, N, K, m->head);
        llm_mlp_backward(dx, NULL, dy, cache, m, w, x, N, &arena);
        CHECK_GOLDEN(dx, N * m->size[0], 2e-6f, "%zu/dx", k);
        llm_mlp_backward(dx, dw, dy, cache, m, w, x, N, &arena); /* adds */
        for (size_t i = 0; i < N * m->size[0]; i++) dx[i] /= 2.0f;
        for (size_t i = 0; i < P; i++) dw[i] /= 2.0f;
        CHECK_GOLDEN(dx, N * m->size[0], 2e-6f, "%zu/dx", k);
        CHECK_GOLDEN(dw, P, 2e-6f, "%zu/dw", k);
        CHECK(arena.used == 0);
    }
}

TEST(mlp, "every weight of a 3-5-4-2 net agrees with finite differences, and with @backprop") {
    const llm_mlp *m = &mlp_net[0];
    const size_t N = 6, P = llm_mlp_param_count(m);
    const float *x = golden("0/x");
    const int *label = as_ints(golden("0/label"), N);
    float *w = golden_n(NULL, "0/w"), *dw = zeros(P), *one_hot = zeros(N * 2), *other = zeros(P);
    llm_arena arena = mlp_arena(1 << 14);
    CHECK(P == 20 + 24 + 10);
    llm_mlp_gradient(dw, m, w, x, label, NULL, N, &arena);
    CHECK_GRAD(dw, w, P, 1e-2f, 3e-5f, llm_mlp_gradient(NULL, m, w, x, label, NULL, N, &arena));

    const llm_backprop net = {m->size, 3, LLM_BACKPROP_TANH, LLM_BACKPROP_XENT};
    float *a = floats(N * llm_backprop_activations(&net));
    for (size_t n = 0; n < N; n++) one_hot[2 * n + (size_t)label[n]] = 1.0f;
    llm_backprop_forward(a, &net, w, x, one_hot, N);
    llm_backprop_backward(other, NULL, a, &net, w, x, one_hot, N, &arena);
    CHECK_ALL_NEAR(dw, other, P, 1e-6f);
}

TEST(mlp, "views and cache lie one behind the other") {
    const llm_mlp *m = &mlp_net[4]; /* 5-2-9-6-4 */
    const size_t weight[4] = {0, 12, 39, 99}, bias[4] = {10, 30, 93, 123};
    for (size_t l = 1; l <= 4; l++) {
        const llm_mlp_view v = llm_mlp_layer(m, l);
        CHECK(v.in == m->size[l - 1] && v.out == m->size[l]);
        CHECK(v.weight == weight[l - 1] && v.bias == bias[l - 1]);
    }
    CHECK(llm_mlp_param_count(m) == 127);
    CHECK(llm_mlp_cache(m, 3) == 2 * 3 * 17 && llm_mlp_widest(m) == 9);
    CHECK(llm_mlp_hidden(m, 1, 3) == 0 && llm_mlp_hidden(m, 2, 3) == 12);
    CHECK(llm_mlp_hidden(m, 3, 3) == 66);
    CHECK(llm_mlp_widest(&mlp_net[1]) == 7 && llm_mlp_widest(&mlp_net[0]) == 5);
    const size_t late[4] = {1, 2, 5, 1};
    const llm_mlp widest_last = {late, 3, LLM_ACTIVATION_RELU, LLM_OUTPUT_LAYER_MSE};
    CHECK(llm_mlp_widest(&widest_last) == 5);
    CHECK(llm_mlp_widest(&mlp_net[2]) == 0 && llm_mlp_cache(&mlp_net[2], 3) == 0);
    CHECK_ASSERTS(llm_mlp_layer(m, 0));
    CHECK_ASSERTS(llm_mlp_layer(m, 5));

    const size_t N = 7;
    const float *x = golden("4/x"), *w = golden("4/w");
    float *y = floats(N * 4), *cache = floats(llm_mlp_cache(m, N)), *want = floats(N * 9);
    llm_mlp_forward(y, cache, m, w, x, N);
    for (size_t l = 1; l < 4; l++) { /* a is the activation of z, z the layer of a below */
        const llm_mlp_view v = llm_mlp_layer(m, l);
        const float *z = cache + llm_mlp_hidden(m, l, N);
        const float *in = l > 1 ? cache + llm_mlp_hidden(m, l - 1, N) + N * v.in : x;
        llm_matmul_naive(want, in, w + v.weight, w + v.bias, N, v.in, v.out);
        CHECK_ALL_NEAR(z, want, N * v.out, 2e-6f);
        for (size_t i = 0; i < N * v.out; i++)
            CHECK(z[N * v.out + i] == llm_activation_value(z[i], LLM_ACTIVATION_GELU));
    }
}

TEST(mlp, "at the start every pre-activation has variance 1, whatever the activation") {
    const size_t size[4] = {200, 300, 250, 400}, N = 100;
    for (int act = 0; act < LLM_ACTIVATION_COUNT; act++) {
        const llm_mlp m = {size, 3, act, LLM_OUTPUT_LAYER_MSE};
        const size_t P = llm_mlp_param_count(&m);
        llm_rng rng = llm_rng_seed(7);
        float *w = floats(P), *x = floats(N * 200), *y = floats(N * 400);
        float *cache = floats(llm_mlp_cache(&m, N));
        llm_rng_normal_fill(&rng, x, N * 200);
        llm_mlp_init(w, &m, &rng);
        llm_mlp_forward(y, cache, &m, w, x, N);
        double square = 0.0;
        for (size_t l = 1; l <= 3; l++) {
            const llm_mlp_view v = llm_mlp_layer(&m, l);
            const float *z = l < 3 ? cache + llm_mlp_hidden(&m, l, N) : y;
            for (size_t o = 0; o < v.out; o++) CHECK(w[v.bias + o] == 0.0f);
            square = 0.0;
            for (size_t i = 0; i < N * v.out; i++)
                square += (double)(z[i] * z[i]) / (double)(N * v.out);
            /* layers 1 to 3, seeds 7 to 15: 0.98 to 1.05, 0.86 to 1.07, 0.85 to 1.38 (squared
             * ReLU; the others stay below 1.12) */
            CHECK_NEAR(square, 1.0, l == 1 ? 0.1 : l == 2 ? 0.28 : 0.75);
        }
    }
}

TEST(mlp, "the weights of a layer are drawn together, their deviation that of its inputs") {
    const llm_mlp *m = &mlp_net[1]; /* 2-7-3, ReLU */
    float w[45], z[21];
    llm_rng rng = llm_rng_seed(3), same = rng;
    llm_mlp_init(w, m, &rng);
    llm_rng_normal_fill(&same, z, 14);
    for (size_t i = 0; i < 14; i++) CHECK_NEAR(w[i], z[i] * sqrtf(1.0f / 2.0f), 1e-6);
    llm_rng_normal_fill(&same, z, 21);
    for (size_t i = 0; i < 21; i++) CHECK_NEAR(w[21 + i], z[i] * sqrtf(2.0f / 7.0f), 1e-6);
    for (size_t i = 14; i < 21; i++) CHECK(w[i] == 0.0f);
    for (size_t i = 42; i < 45; i++) CHECK(w[i] == 0.0f);
}

TEST(mlp, "the order of hidden units does not matter") {
    const llm_mlp *m = &mlp_net[1]; /* 2-7-3 */
    const float *x = golden("1/x"), *w = golden("1/w");
    float turned[45], y[15], y2[15], cache[70];
    CHECK(llm_mlp_param_count(m) == 45);
    memcpy(turned, w, sizeof turned);
    for (size_t j = 0; j < 7; j++) {
        const size_t to = (3 * j + 1) % 7;
        for (size_t i = 0; i < 2; i++) turned[2 * to + i] = w[2 * j + i];
        turned[14 + to] = w[14 + j];
        for (size_t o = 0; o < 3; o++) turned[21 + 7 * o + to] = w[21 + 7 * o + j];
    }
    llm_mlp_forward(y, cache, m, w, x, 5);
    llm_mlp_forward(y2, cache, m, turned, x, 5);
    CHECK_ALL_NEAR(y2, y, 15, 1e-6f);
}

TEST(mlp, "outputs in blocks are the outputs; no rows at all") {
    const llm_mlp *m = &mlp_net[4];
    const float *x = golden("4/x"), *w = golden("4/w");
    float y[28], want[28], *cache = floats(llm_mlp_cache(m, 7)), *dw = zeros(127);
    llm_mlp_forward(want, cache, m, w, x, 7);
    for (size_t rows = 1; rows <= 9; rows++) {
        llm_arena arena = mlp_arena(2 * rows * 17 * sizeof(float) + 64);
        for (size_t i = 0; i < 28; i++) y[i] = NAN;
        llm_mlp_outputs(y, m, w, x, 7, rows, &arena);
        CHECK_ALL_NEAR(y, want, 28, 1e-6f);
        CHECK(arena.used == 0);
    }
    llm_arena arena = mlp_arena(4096);
    llm_mlp_outputs(y, m, w, x, 0, 3, &arena);
    CHECK_ASSERTS(llm_mlp_outputs(y, m, w, x, 7, 0, &arena));
    CHECK(llm_mlp_gradient(dw, m, w, x, NULL, NULL, 0, &arena) == 0.0);
    for (size_t i = 0; i < 127; i++) CHECK(dw[i] == 0.0f);
}

TEST(mlp, "the workspace is enough and hardly more; too little of it is an error") {
    for (size_t k = 0; k < 5; k++) {
        const llm_mlp *m = &mlp_net[k];
        const size_t N = mlp_rows[k], bytes = llm_mlp_workspace(m, N);
        CHECK(llm_mlp_workspace(m, 0) == 4 * 64);
        const float *x = golden("%zu/x", k), *w = golden("%zu/w", k), *t = golden("%zu/target", k);
        float *dw = zeros(llm_mlp_param_count(m));
        llm_arena arena;
        CHECK(llm_arena_create(&arena, bytes));
        llm_mlp_gradient(dw, m, w, x, NULL, t, N, &arena);
        CHECK(arena.peak <= bytes && arena.peak + 4 * 64 >= bytes);
        arena.size = arena.peak - 64;
        CHECK_ASSERTS(llm_mlp_gradient(dw, m, w, x, NULL, t, N, &arena));
        llm_arena_destroy(&arena);
    }
}

/* @backprop */
#include "../test.h"

#include "../../llm.h"

static llm_arena bk_arena(void) {
    llm_arena arena = {(unsigned char *)test_memory(1 << 18, 1), 1 << 18, 0, 1 << 18};
    memset(arena.memory, 255, arena.size); /* NaN; and the first take poisons the rest */
    return arena;
}

static const size_t bk_size[4][4] = {{3, 4, 3, 2}, {2, 5, 1, 0}, {4, 7, 6, 3}, {1, 1, 0, 0}};
static const llm_backprop bk_net[4] = {{bk_size[0], 3, LLM_BACKPROP_TANH, LLM_BACKPROP_XENT},
                                       {bk_size[1], 2, LLM_BACKPROP_SIGMOID, LLM_BACKPROP_MSE},
                                       {bk_size[2], 3, LLM_BACKPROP_RELU, LLM_BACKPROP_XENT},
                                       {bk_size[3], 1, LLM_BACKPROP_TANH, LLM_BACKPROP_MSE}};
static const size_t bk_rows[4] = {5, 7, 11, 1};

TEST(backprop, "loss, gradient, per-example lengths and 20 steps equal torch") {
    for (size_t k = 0; k < 4; k++) {
        const llm_backprop *net = &bk_net[k];
        const size_t N = bk_rows[k], P = llm_backprop_weights(net);
        const float *x = golden("%zu/x", k), *y = golden("%zu/y", k);
        float *w = golden_n(NULL, "%zu/w", k), *dw = zeros(P), *square = floats(N),
              *none = floats(N);
        float *a = floats(N * llm_backprop_activations(net)), loss[1];
        llm_arena arena = bk_arena();
        loss[0] = (float)llm_backprop_forward(a, net, w, x, y, N);
        CHECK_GOLDEN(loss, 1, 1e-6f, "%zu/loss", k);
        llm_backprop_backward(dw, square, a, net, w, x, y, N, &arena);
        CHECK_GOLDEN(dw, P, 2e-6f, "%zu/dw", k);
        CHECK_GOLDEN(square, N, 3e-6f, "%zu/square", k);
        llm_backprop_backward(NULL, none, a, net, w, x, y, N, &arena);
        CHECK_ALL_NEAR(none, square, N, 0.0f);
        llm_backprop_backward(dw, NULL, a, net, w, x, y, N, &arena); /* adds */
        for (size_t i = 0; i < P; i++) dw[i] /= 2.0f;
        CHECK_GOLDEN(dw, P, 2e-6f, "%zu/dw", k);

        /* the mean of the examples' gradients is the batch's; their lengths are the lengths */
        float *mean = zeros(P);
        for (size_t n = 0; n < N; n++) {
            float *one = zeros(P);
            const float *xn = x + n * net->size[0], *yn = y + n * net->size[net->layers];
            llm_backprop_forward(a, net, w, xn, yn, 1);
            llm_backprop_backward(one, NULL, a, net, w, xn, yn, 1, &arena);
            CHECK_NEAR(dot(one, one, P), square[n], 1e-5 * (1.0 + (double)square[n]));
            for (size_t i = 0; i < P; i++) mean[i] += one[i] / (float)N;
        }
        CHECK_ALL_NEAR(mean, dw, P, 1e-6f);

        CHECK_NEAR(llm_backprop_step(w, net, x, y, N, 0.2f, &arena), loss[0], 1e-7);
        for (size_t step = 1; step < 20; step++) llm_backprop_step(w, net, x, y, N, 0.2f, &arena);
        CHECK_GOLDEN(w, P, 1e-5f, "%zu/after", k);
        CHECK(arena.used == 0);
        CHECK(llm_backprop_forward(a, net, w, x, NULL, N) == 0.0);
    }
}

TEST(backprop, "every weight of a 3-4-3-2 net agrees with differences and with the tape") {
    const llm_backprop *net = &bk_net[0];
    const size_t N = 5, P = llm_backprop_weights(net);
    const float *x = golden("0/x"), *y = golden("0/y");
    float *w = golden_n(NULL, "0/w"), *dw = zeros(P),
          *a = floats(N * llm_backprop_activations(net));
    llm_arena arena = bk_arena();
    llm_backprop_forward(a, net, w, x, y, N);
    llm_backprop_backward(dw, NULL, a, net, w, x, y, N, &arena);
    float *b = floats(N * llm_backprop_activations(net));
    CHECK_GRAD(dw, w, P, 1e-2f, 2e-4f, llm_backprop_forward(b, net, w, x, y, N));

    llm_autodiff_array t;
    llm_autodiff_array_create(&t, 40, &arena);
    size_t node[6], h = llm_autodiff_array_input(&t, x, N, 3);
    const float *p = w;
    for (size_t l = 0; l < 3; l++) {
        const size_t in = net->size[l], out = net->size[l + 1];
        node[2 * l] = llm_autodiff_array_input(&t, p, out, in);
        node[2 * l + 1] = llm_autodiff_array_input(&t, p + out * in, 1, out);
        p += out * (in + 1);
        const size_t wt =
            llm_autodiff_array_map(&t, LLM_AUTODIFF_ARRAY_TRANSPOSE, node[2 * l], 0.0);
        h = llm_autodiff_array_op(&t, LLM_AUTODIFF_ARRAY_MATMUL, h, wt);
        h = llm_autodiff_array_op(&t, LLM_AUTODIFF_ARRAY_ADD, h, node[2 * l + 1]);
        if (l < 2) h = llm_autodiff_array_map(&t, LLM_AUTODIFF_ARRAY_TANH, h, 0.0);
    }
    const size_t e = llm_autodiff_array_map(&t, LLM_AUTODIFF_ARRAY_EXP, h, 0.0);
    const size_t soft =
        llm_autodiff_array_op(&t, LLM_AUTODIFF_ARRAY_DIV, e, llm_autodiff_array_sum(&t, e, N, 1));
    const size_t log_p = llm_autodiff_array_map(&t, LLM_AUTODIFF_ARRAY_LOG, soft, 0.0);
    const size_t loss =
        llm_autodiff_array_sum(&t,
                               llm_autodiff_array_op(&t, LLM_AUTODIFF_ARRAY_MUL, log_p,
                                                     llm_autodiff_array_input(&t, y, N, 2)),
                               1, 1);
    const float minus[1] = {-1.0f / 5.0f};
    llm_autodiff_array_grad(&t, loss, minus);
    const float *got = dw;
    for (size_t k = 0; k < 6; k++)
        for (size_t i = 0; i < t.node[node[k]].rows * t.node[node[k]].cols; i++)
            CHECK_NEAR(*got++, t.node[node[k]].gradient[i], 1e-6);
}

TEST(backprop, "four tanh units learn XOR from 9 of 10 starts; no linear model gets below log 2") {
    const float x[8] = {0, 0, 0, 1, 1, 0, 1, 1}, y[8] = {1, 0, 0, 1, 0, 1, 1, 0};
    const size_t deep[3] = {2, 4, 2}, flat[2] = {2, 2};
    const llm_backprop net = {deep, 2, LLM_BACKPROP_TANH, LLM_BACKPROP_XENT};
    const llm_backprop linear = {flat, 1, LLM_BACKPROP_TANH, LLM_BACKPROP_XENT};
    llm_arena arena = bk_arena();
    size_t solved = 0;
    for (size_t seed = 1; seed <= 10; seed++) {
        llm_rng rng = llm_rng_seed(seed);
        float w[22], v[6];
        CHECK(llm_backprop_weights(&net) == 22 && llm_backprop_weights(&linear) == 6);
        llm_backprop_init(w, &net, 1.0f, &rng);
        llm_backprop_init(v, &linear, 1.0f, &rng);
        double loss = 1.0, least = 1.0;
        for (size_t step = 0; step < 2000; step++) {
            loss = llm_backprop_step(w, &net, x, y, 4, 0.5f, &arena);
            least = fmin(least, llm_backprop_step(v, &linear, x, y, 4, 0.5f, &arena));
        }
        solved += loss < 0.01;
        CHECK(least > log(2.0) - 1e-6);
    }
    CHECK(solved >= 9); /* 10, and 10 in each of eight other sets of seeds */
}

TEST(backprop, "units that start equal keep equal gradients; starts lie within their bound") {
    const llm_backprop *net = &bk_net[0];
    float w[200], dw[200], x[15], y[10] = {0}, *a = floats(5 * llm_backprop_activations(net));
    llm_arena arena = bk_arena();
    llm_rng rng = llm_rng_seed(2);
    const size_t P = llm_backprop_weights(net);
    llm_rng_normal_fill(&rng, x, 15);
    for (size_t n = 0; n < 5; n++) y[2 * n + (n % 2)] = 1.0f;
    for (size_t start = 0; start < 2; start++) {
        for (size_t k = 0; k < P; k++) w[k] = start ? 0.3f : 0.0f, dw[k] = 0.0f;
        if (start) w[P - 1] = -0.4f; /* the outputs differ, the hidden units do not */
        llm_backprop_forward(a, net, w, x, y, 5);
        llm_backprop_backward(dw, NULL, a, net, w, x, y, 5, &arena);
        for (size_t unit = 1; unit < 4; unit++)
            CHECK_ALL_NEAR(dw + 3 * unit, dw, 3, 1e-8f); /* rows of dW_1 */
        CHECK(start == 0 || dw[0] == dw[3]);
    }
    double sum = 0.0;
    float *big = floats(10100);
    const size_t wide[2] = {100, 100};
    const llm_backprop one = {wide, 1, LLM_BACKPROP_RELU, LLM_BACKPROP_MSE};
    llm_backprop_init(big, &one, 2.0f, &rng);
    for (size_t k = 0; k < 10100; k++) {
        CHECK(big[k] >= -0.2f && big[k] < 0.2f);
        sum += (double)(big[k] * big[k]) / 10100.0;
    }
    CHECK_NEAR(sum, 0.04 / 3.0, 0.0006); /* 4.5 standard errors */
    CHECK(llm_backprop_forward(a, net, w, x, y, 0) == 0.0);
}

TEST(backprop, "a step takes no more memory than it says, where the input is the widest") {
    size_t *size = (size_t *)test_memory(3, sizeof(size_t));
    size[0] = 9, size[1] = 2, size[2] = 2;
    const llm_backprop net = {size, 2, LLM_BACKPROP_TANH, LLM_BACKPROP_XENT};
    const size_t bytes = llm_batch_size_bytes(&net, 5);
    llm_arena arena = {(unsigned char *)test_memory(bytes, 1), bytes, 0, 0};
    memset(arena.memory, 255, arena.size); /* NaN */
    float x[45], y[10] = {0}, w[26], after[26];
    llm_rng rng = llm_rng_seed(4);
    llm_rng_normal_fill(&rng, x, 45);
    for (size_t n = 0; n < 5; n++) y[2 * n + n % 2] = 1.0f;
    llm_backprop_init(w, &net, 1.0f, &rng);
    memcpy(after, w, sizeof w);
    llm_backprop_step(after, &net, x, y, 5, 0.1f, &arena);
    CHECK(arena.used == 0 && arena.peak <= bytes);
    float *g = zeros(26), *a = floats(5 * llm_backprop_activations(&net));
    llm_backprop_forward(a, &net, w, x, y, 5);
    llm_backprop_backward(g, NULL, a, &net, w, x, y, 5, &arena);
    for (size_t k = 0; k < 26; k++) CHECK_NEAR(after[k], w[k] - 0.1f * g[k], 1e-6);

    float most[2] = {0.0f, 0.0f}; /* 1/3 in the first layer, 1/sqrt 2 in the second */
    for (size_t k = 0; k < 26; k++) most[k >= 20] = fmaxf(most[k >= 20], fabsf(w[k]));
    CHECK(most[0] <= 1.0f / 3.0f && most[0] > 0.25f && most[1] <= 0.70711f && most[1] > 0.34f);
    const size_t last[3] = {2, 2, 20}; /* and where the output is the widest */
    const llm_backprop wide = {last, 2, LLM_BACKPROP_TANH, LLM_BACKPROP_MSE};
    float *many = zeros(llm_backprop_weights(&wide)), *ones = floats(100);
    for (size_t k = 0; k < 100; k++) ones[k] = 1.0f;
    const size_t room = llm_batch_size_bytes(&wide, 5);
    llm_arena exact = {(unsigned char *)test_memory(room, 1), room, 0, 0};
    CHECK(llm_backprop_step(many, &wide, x, ones, 5, 0.0f, &exact) == 20.0 && exact.peak == room);
    const size_t three[2] = {1, 3}; /* logits of 1000: a probability of 1, at any place */
    const llm_backprop single = {three, 1, LLM_BACKPROP_TANH, LLM_BACKPROP_XENT};
    for (size_t k = 0; k < 3; k++) {
        float v[6] = {0}, p[3];
        v[3 + k] = 1000.0f;
        llm_backprop_forward(p, &single, v, x, NULL, 1);
        for (size_t i = 0; i < 3; i++) CHECK(p[i] == (i == k ? 1.0f : 0.0f));
    }
}

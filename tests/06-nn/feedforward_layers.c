/* @feedforward_layers */
#include "../test.h"

#include "../../llm.h"
#include "../arena.h"

TEST(feedforward_layers, "a chain of dense and activation is an mlp, bit for bit") {
    const size_t size[4] = {3, 7, 5, 2}, N = 6;
    for (int act = 0; act < LLM_ACTIVATION_COUNT; act++) {
        const llm_mlp m = {size, 3, act, LLM_OUTPUT_LAYER_MSE};
        const llm_feedforward_dense_config dense[3] = {{7, 1.0f}, {5, 1.0f}, {2, 1.0f}};
        const llm_feedforward_shape shape = {1, 3, 1};
        const size_t P = llm_mlp_param_count(&m);
        llm_arena arena = test_arena(1 << 16);
        llm_feedforward f;
        llm_error error;
        llm_feedforward_create(&f, shape, 5, &arena);
        for (size_t l = 0; l < 3; l++) {
            CHECK(llm_feedforward_then(&f, llm_feedforward_dense(), &dense[l], &error));
            if (l < 2) CHECK(llm_feedforward_then(&f, llm_feedforward_activation(), &act, &error));
        }
        CHECK(f.params == P && f.states == 0);

        llm_rng rng = llm_rng_seed(1);
        float *w = floats(P), *x = floats(N * 3), *dy = floats(N * 2), *y = floats(N * 2);
        float *cache = floats(llm_mlp_cache(&m, N)),
              *memory = floats(llm_feedforward_memory(&f, 5, N));
        float *dw = zeros(P), *dw2 = zeros(P), *dx = zeros(N * 3), *dx2 = zeros(N * 3);
        llm_mlp_init(w, &m, &rng);
        llm_rng_normal_fill(&rng, x, N * 3);
        llm_rng_normal_fill(&rng, dy, N * 2);
        llm_mlp_forward(y, cache, &m, w, x, N);
        llm_mlp_backward(dx, dw, dy, cache, &m, w, x, N, &arena);
        const llm_feedforward_run run = {&f, w, x, NULL, memory, N, 0, true, &arena};
        CHECK_ALL_NEAR(llm_feedforward_forward(&run), y, N * 2, 0.0f);
        llm_feedforward_backward(dx2, dw2, dy, &run);
        CHECK_ALL_NEAR(dx2, dx, N * 3, 0.0f);
        CHECK_ALL_NEAR(dw2, dw, P, 0.0f);
    }
}

/* The net of the golden values: layer 4 reads x, 1, 3 and 3 again. */
static void fl_dag(llm_feedforward *f, llm_arena *arena) {
    static const llm_feedforward_dense_config six = {6, 1.0f}, three = {3, 1.0f};
    static const int tanh_ = LLM_ACTIVATION_TANH, gelu = LLM_ACTIVATION_GELU;
    const llm_feedforward_shape shape = {2, 3, 1};
    const llm_feedforward_shape flat = {6, 1, 1};
    const size_t in[4] = {LLM_FEEDFORWARD_X, 1, 3, 3};
    llm_error error;
    llm_feedforward_create(f, shape, 6, arena);
    CHECK(llm_feedforward_then(f, llm_feedforward_dense(), &six, &error));
    CHECK(llm_feedforward_then(f, llm_feedforward_activation(), &tanh_, &error));
    CHECK(llm_feedforward_then(f, llm_feedforward_dense(), &six, &error));
    CHECK(llm_feedforward_then(f, llm_feedforward_activation(), &gelu, &error));
    CHECK(!llm_feedforward_add(f, llm_feedforward_sum(), NULL, in, 4, &error)); /* 2x3x1 and 6 */
    f->x = flat;
    CHECK(llm_feedforward_add(f, llm_feedforward_sum(), NULL, in, 4, &error));
    CHECK(llm_feedforward_then(f, llm_feedforward_dense(), &three, &error));
}

TEST(feedforward_layers,
     "branch, skip and a value read twice: outputs and gradients equal torch's") {
    const float *x = golden("dag/x"), *w = golden("dag/w"), *dy = golden("dag/dy");
    llm_arena arena = test_arena(1 << 16);
    llm_feedforward f;
    fl_dag(&f, &arena);
    const size_t mark = arena.used;
    float *memory = floats(llm_feedforward_memory(&f, 6, 4)), *dw = zeros(105), *dx = zeros(24);
    CHECK(f.params == 105);
    const llm_feedforward_run run = {&f, w, x, NULL, memory, 4, 0, false, &arena};
    CHECK_GOLDEN(llm_feedforward_forward(&run), 12, 2e-6f, "dag/y");
    llm_feedforward_backward(dx, dw, dy, &run);
    CHECK_GOLDEN(dx, 24, 2e-6f, "dag/dx");
    CHECK_GOLDEN(dw, 105, 2e-6f, "dag/dw");
    llm_feedforward_backward(NULL, NULL, dy, &run);
    llm_feedforward_backward(dx, NULL, dy, &run);
    for (size_t i = 0; i < 24; i++) dx[i] /= 2.0f;
    CHECK_GOLDEN(dx, 24, 2e-6f, "dag/dx");
    CHECK(arena.used == mark);
}

static double fl_loss(const llm_feedforward_run *run, const float *dy) {
    const float *y = llm_feedforward_forward(run);
    double sum = 0.0;
    for (size_t i = 0; i < 12; i++) sum += (double)y[i] * (double)dy[i];
    return sum;
}

TEST(feedforward_layers, "every weight agrees with finite differences") {
    const float *x = golden("dag/x"), *dy = golden("dag/dy");
    float *w = golden_n(NULL, "dag/w"), *dw = zeros(105);
    llm_arena arena = test_arena(1 << 16);
    llm_feedforward f;
    fl_dag(&f, &arena);
    const llm_feedforward_run run = {&f, w, x,     NULL,  floats(llm_feedforward_memory(&f, 6, 4)),
                                     4,  0, false, &arena};
    llm_feedforward_forward(&run);
    llm_feedforward_backward(NULL, dw, dy, &run);
    CHECK_GRAD(dw, w, 105, 1e-2f, 2e-3f, fl_loss(&run, dy));
}

TEST(feedforward_layers, "dense starts with the deviation gain / sqrt(inputs), the bias at 0") {
    const llm_feedforward_dense_config config = {7, 3.0f};
    const llm_feedforward_shape shape = {2, 2, 3};
    llm_arena arena = test_arena(1 << 16);
    llm_feedforward f;
    llm_feedforward_tensor t;
    llm_error error;
    llm_feedforward_create(&f, shape, 2, &arena);
    CHECK(llm_feedforward_then(&f, llm_feedforward_dense(), &config, &error));
    CHECK(llm_feedforward_then(&f, llm_feedforward_dense(), &config, &error));
    CHECK(f.params == 91 + 56);
    float w[147], z[84];
    llm_rng rng = llm_rng_seed(4), same = rng;
    llm_feedforward_init(w, NULL, &f, &rng);
    llm_rng_normal_fill(&same, z, 84);
    for (size_t i = 0; i < 84; i++) CHECK_NEAR(w[i], z[i] * 3.0f / sqrtf(12.0f), 2e-6);
    llm_rng_normal_fill(&same, z, 49);
    for (size_t i = 0; i < 49; i++) CHECK_NEAR(w[91 + i], z[i] * 3.0f / sqrtf(7.0f), 2e-6);
    for (size_t i = 0; i < 7; i++) CHECK(w[84 + i] == 0.0f && w[140 + i] == 0.0f);
    CHECK(llm_feedforward_tensor_of(&t, &f.node[0], 0) && t.shape[0] == 7 && t.shape[1] == 12);
    CHECK(strcmp(t.name, "0.weight") == 0 && t.rank == 2 && t.at == 0 && !t.buffer);
    CHECK(llm_feedforward_tensor_of(&t, &f.node[1], 1) && t.shape[0] == 7 && t.rank == 1);
    CHECK(strcmp(t.name, "1.bias") == 0 && t.at == 140);
    CHECK(!llm_feedforward_tensor_of(&t, &f.node[0], 2));
}

TEST(feedforward_layers, "sum wants equal shapes in all three directions, activation one input") {
    const llm_feedforward_shape a[2] = {{2, 3, 4}, {2, 3, 4}};
    llm_feedforward_shape out;
    CHECK(llm_feedforward_sum()->shape(&out, a, 2, NULL));
    CHECK(out.c == 2 && out.h == 3 && out.w == 4);
    for (size_t k = 0; k < 3; k++) {
        llm_feedforward_shape b[2] = {{2, 3, 4}, {2, 3, 4}};
        *(k == 0 ? &b[1].c : k == 1 ? &b[1].h : &b[1].w) = 5;
        CHECK(!llm_feedforward_sum()->shape(&out, b, 2, NULL));
    }
    CHECK(llm_feedforward_activation()->shape(&out, a, 1, NULL) && out.w == 4);
    CHECK(!llm_feedforward_activation()->shape(&out, a, 2, NULL));
    const llm_feedforward_shape other[2] = {{2, 3, 4}, {5, 6, 7}};
    CHECK(llm_feedforward_sum()->shape(&out, other, 1, NULL) && out.c == 2);
}

TEST(feedforward_layers, "activation and sum at the ends of a network, where no one wants dx") {
    const int relu = LLM_ACTIVATION_RELU;
    const llm_feedforward_shape shape = {3, 1, 1};
    const size_t in[2] = {LLM_FEEDFORWARD_X, 0};
    llm_arena arena = test_arena(1 << 14);
    llm_feedforward f;
    llm_error error;
    llm_feedforward_create(&f, shape, 2, &arena);
    CHECK(llm_feedforward_then(&f, llm_feedforward_activation(), &relu, &error));
    CHECK(llm_feedforward_add(&f, llm_feedforward_sum(), NULL, in, 2, &error));
    float *x = floats(3), *dx = zeros(3), *memory = floats(6);
    const float dy[3] = {1.0f, 2.0f, 3.0f}, y[3] = {-1.0f, 4.0f, 6.0f},
                want[3] = {1.0f, 4.0f, 6.0f};
    x[0] = -1.0f, x[1] = 2.0f, x[2] = 3.0f;
    const llm_feedforward_run run = {&f, NULL, x, NULL, memory, 1, 0, false, &arena};
    CHECK_ALL_NEAR(llm_feedforward_forward(&run), y, 3, 0.0f);
    llm_feedforward_backward(NULL, NULL, dy, &run);
    llm_feedforward_backward(dx, NULL, dy, &run);
    CHECK_ALL_NEAR(dx, want, 3, 0.0f);
}

/* @cnn */
#include "../test.h"

#include "../../llm.h"

static llm_arena cnn_arena(size_t bytes) {
    llm_arena arena = {(unsigned char *)test_memory(bytes + 64, 1), bytes, 0, 0};
    arena.memory += 64 - (uintptr_t)arena.memory % 64;
    return arena;
}

/* conv 4 - norm - ReLU - pool 2 - conv 6, stride 2, groups 2 - mean - dense 3, on (2,7,6). */
static const llm_cnn_conv_config cnn_first = {4, 3, 1, 1, 1}, cnn_second = {6, 3, 2, 1, 2};
static const llm_feedforward_dense_config cnn_head = {3, 1.0f};
static const int cnn_relu = LLM_ACTIVATION_RELU;
static const size_t cnn_two = 2, cnn_all = 0;
static void cnn_build(llm_feedforward *f, llm_arena *arena) {
    const llm_feedforward_shape in = {2, 7, 6};
    llm_error error;
    llm_feedforward_create(f, in, 7, arena);
    CHECK(llm_feedforward_then(f, llm_cnn_conv(), &cnn_first, &error));
    CHECK(llm_feedforward_then(f, llm_cnn_norm(), NULL, &error));
    CHECK(llm_feedforward_then(f, llm_feedforward_activation(), &cnn_relu, &error));
    CHECK(llm_feedforward_then(f, llm_cnn_pool(), &cnn_two, &error));
    CHECK(llm_feedforward_then(f, llm_cnn_conv(), &cnn_second, &error));
    CHECK(llm_feedforward_then(f, llm_cnn_pool(), &cnn_all, &error));
    CHECK(llm_feedforward_then(f, llm_feedforward_dense(), &cnn_head, &error));
}

TEST(cnn, "logits, gradients and running means of a network equal torch's, both modes") {
    llm_arena arena = cnn_arena(1 << 20);
    llm_feedforward f;
    cnn_build(&f, &arena);
    const float *x = golden("net/x"), *dy = golden("net/dy"), *w = golden("net/w");
    float *state = golden("net/state"), *memory = floats(llm_feedforward_memory(&f, 7, 3));
    CHECK(f.params == 4 * 2 * 9 + 4 + 8 + 6 * 2 * 9 + 6 + 21 && f.states == 8);
    for (int train = 0; train < 2; train++) {
        const char *mode = train ? "train" : "eval";
        const llm_feedforward_run r = {&f, w, x, state, memory, 3, 1, train != 0, &arena};
        float *dx = zeros(3 * 84), *dw = zeros(f.params);
        const float *y = llm_feedforward_forward(&r);
        CHECK_GOLDEN(y, 9, 3e-6f, "%s/y", mode);
        llm_feedforward_backward(dx, dw, dy, &r);
        CHECK_GOLDEN(dx, 3 * 84, 5e-6f, "%s/dx", mode);
        CHECK_GOLDEN(dw, f.params, 1e-5f, "%s/dw", mode);
        CHECK_GOLDEN(state, 8, 1e-6f, "%s/state", mode);
        float *dx2 = zeros(3 * 84); /* either gradient alone */
        llm_feedforward_backward(dx2, NULL, dy, &r);
        CHECK_ALL_NEAR(dx2, dx, 3 * 84, 0.0f);
        llm_feedforward_backward(NULL, dw, dy, &r);
        for (size_t i = 0; i < f.params; i++) dw[i] *= 0.5f;
        CHECK_GOLDEN(dw, f.params, 1e-5f, "%s/dw", mode);
    }
    const llm_feedforward_run none = {&f, w, x, state, memory, 0, 1, true, &arena};
    llm_feedforward_forward(&none); /* no pictures: nothing, no running mean moves */
    CHECK_GOLDEN(state, 8, 1e-6f, "train/state");
}

TEST(cnn, "tensors have torch's names, shapes and places; layers start as their sections say") {
    llm_arena arena = cnn_arena(1 << 16);
    llm_feedforward f;
    llm_feedforward_tensor t;
    cnn_build(&f, &arena);
    CHECK(llm_feedforward_find(&t, &f, "4.weight") && t.at == 84 && t.count == 108 && t.rank == 4);
    CHECK(t.shape[0] == 6 && t.shape[1] == 2 && t.shape[2] == 3 && t.shape[3] == 3 && !t.buffer);
    CHECK(llm_feedforward_find(&t, &f, "4.bias") && t.at == 192 && t.count == 6 && t.rank == 1);
    CHECK(llm_feedforward_find(&t, &f, "1.bias") && t.at == 80 && t.count == 4 && !t.buffer);
    CHECK(llm_feedforward_find(&t, &f, "1.running_var") && t.at == 4 && t.count == 4 && t.buffer);
    CHECK(!llm_feedforward_tensor_of(&t, &f.node[1], 4) &&
          !llm_feedforward_tensor_of(&t, &f.node[0], 2));
    CHECK(!llm_feedforward_tensor_of(&t, &f.node[3], 0));
    memset(&t, 255, sizeof t);
    CHECK(llm_cnn_norm()->tensor(&t, 3, &f.node[1]) && t.rank == 1 && t.shape[0] == 4 && t.buffer);
    float *w = floats(f.params), *state = floats(8), *z = floats(108);
    llm_rng rng = llm_rng_seed(1), same = rng;
    llm_feedforward_init(w, state, &f, &rng);
    llm_he_init_normal(z, 4, 2, 9, LLM_HE_INIT_FAN_IN, 0.0f, &same);
    CHECK_ALL_NEAR(w, z, 72, 0.0f);
    llm_he_init_normal(z, 6, 2, 9, LLM_HE_INIT_FAN_IN, 0.0f, &same);
    CHECK_ALL_NEAR(w + 84, z, 108, 0.0f);
    for (size_t c = 0; c < 4; c++) {
        CHECK(w[72 + c] == 0.0f && w[76 + c] == 1.0f && w[80 + c] == 0.0f);
        CHECK(state[c] == 0.0f && state[4 + c] == 1.0f);
    }
    for (size_t c = 0; c < 6; c++) CHECK(w[192 + c] == 0.0f);
}

TEST(cnn, "memory holds the outputs, mean and rstd, and the places of maxima; a single picture") {
    llm_arena arena = cnn_arena(1 << 16);
    llm_feedforward f;
    cnn_build(&f, &arena);
    /* of a picture: conv, norm, ReLU 168 each, pool 36 and places, conv 24, mean 6, dense 3 */
    const size_t each = 3 * 168 + 2 * 36 + 24 + 6 + 3;
    CHECK(llm_feedforward_memory(&f, 7, 0) == 0);
    CHECK(llm_feedforward_memory(&f, 7, 1) == each + 8);
    CHECK(llm_feedforward_memory(&f, 7, 3) == 3 * each + 8);
    float *three = floats(3 * each + 8), *one = floats(each + 8), *state = golden("net/state");
    for (size_t n = 0; n < 3; n++) { /* at inference pictures know nothing of each other */
        const float *x = golden("net/x"), *w = golden("net/w");
        const llm_feedforward_run all = {&f, w, x, state, three, 3, 1, false, &arena};
        const llm_feedforward_run own = {&f, w, x + 84 * n, state, one, 1, 1, false, &arena};
        const float *want = llm_feedforward_forward(&all);
        CHECK_ALL_NEAR(llm_feedforward_forward(&own), want + 3 * n, 3, 1e-5f);
    }
}

TEST(cnn, "a network of one layer: nothing beside its numbers is touched, none or one picture") {
    const llm_feedforward_shape in = {2, 2, 2};
    const float x[8] = {1, 2, 3, 4, -1, 0, 1, 8};
    for (size_t k = 0; k < 2; k++) {
        llm_arena arena = cnn_arena(1 << 14);
        llm_feedforward f;
        llm_error error;
        llm_rng rng = llm_rng_seed(2);
        llm_feedforward_create(&f, in, 1, &arena);
        CHECK(llm_feedforward_then(&f, k ? llm_cnn_norm() : llm_cnn_conv(), &cnn_first, &error));
        float *w = floats(f.params), *state = floats(f.states), *none = floats(0);
        float *memory = floats(llm_feedforward_memory(&f, 1, 1));
        llm_feedforward_init(w, state, &f, &rng);
        for (int train = 0; train < 2; train++) {
            const llm_feedforward_run nothing = {&f, w, x, state, none, 0, 1, train, &arena};
            llm_feedforward_forward(&nothing);
        }
        const llm_feedforward_run r = {&f, w, x, state, memory, 1, 1, true, &arena};
        const float *y = llm_feedforward_forward(&r);
        if (k) /* the mean of the picture's own pixels is taken off */
            for (size_t c = 0; c < 2; c++)
                CHECK_NEAR(y[4 * c] + y[4 * c + 1] + y[4 * c + 2] + y[4 * c + 3], 0.0, 1e-5);
    }
    const llm_feedforward_shape wide[2] = {{2, 3, 5}, {9, 9, 9}}, high[2] = {{2, 5, 3}, {9, 9, 9}};
    const llm_cnn_conv_config three = {2, 3, 1, 0, 1}, five = {2, 5, 1, 0, 1};
    llm_feedforward_shape out;
    CHECK(llm_cnn_conv()->shape(&out, wide, 1, &three) && out.h == 1 && out.w == 3);
    CHECK(llm_cnn_conv()->shape(&out, high, 1, &three) && out.h == 3 && out.w == 1);
    CHECK(!llm_cnn_conv()->shape(&out, wide, 1, &five));
    CHECK(!llm_cnn_conv()->shape(&out, high, 1, &five));
}

TEST(cnn, "a pool may stand first, where no one wants dx; norm keeps the shape of its input") {
    llm_arena arena = cnn_arena(1 << 12);
    const llm_feedforward_shape in = {1, 2, 4}, other[2] = {{1, 2, 3}, {4, 5, 6}};
    const size_t *side[2] = {&cnn_two, &cnn_all};
    const float x[8] = {1, 5, 3, 2, 4, 0, 7, 6}, dy[2] = {1, 2};
    const float want[2][8] = {{0, 1, 0, 0, 0, 0, 2, 0},
                              {0.125f, 0.125f, 0.125f, 0.125f, 0.125f, 0.125f, 0.125f, 0.125f}};
    for (size_t k = 0; k < 2; k++) {
        llm_feedforward f;
        llm_error error;
        llm_feedforward_create(&f, in, 1, &arena);
        CHECK(llm_feedforward_then(&f, llm_cnn_pool(), side[k], &error));
        float *memory = floats(llm_feedforward_memory(&f, 1, 1)), *dx = zeros(8);
        const llm_feedforward_run r = {&f, NULL, x, NULL, memory, 1, 0, false, &arena};
        CHECK(llm_feedforward_forward(&r)[0] == (k ? 3.5f : 5.0f));
        llm_feedforward_backward(NULL, NULL, dy, &r);
        llm_feedforward_backward(dx, NULL, dy, &r);
        CHECK_ALL_NEAR(dx, want[k], 8, 0.0f);
    }
    llm_feedforward_shape out;
    CHECK(llm_cnn_norm()->shape(&out, other, 1, NULL) && out.c == 1 && out.h == 2 && out.w == 3);
}

TEST(cnn, "what does not fit is refused: large kernels and windows, odd groups, two inputs") {
    const llm_feedforward_shape in = {3, 4, 5};
    const llm_cnn_conv_config large = {2, 7, 1, 1, 1}, fits = {2, 6, 1, 1, 1},
                              odd = {3, 1, 1, 0, 2};
    const llm_cnn_conv_config split = {4, 1, 1, 0, 3};
    const size_t window = 5, two[2] = {LLM_FEEDFORWARD_X, LLM_FEEDFORWARD_X};
    llm_arena arena = cnn_arena(1 << 14);
    llm_feedforward f;
    llm_error error;
    llm_feedforward_create(&f, in, 4, &arena);
    CHECK_FAILS(llm_feedforward_then(&f, llm_cnn_conv(), &large, &error), error, "layer 0 (conv)");
    CHECK_FAILS(llm_feedforward_then(&f, llm_cnn_conv(), &odd, &error), error, "layer 0 (conv)");
    CHECK_FAILS(llm_feedforward_then(&f, llm_cnn_conv(), &split, &error), error, "layer 0 (conv)");
    CHECK_FAILS(llm_feedforward_then(&f, llm_cnn_pool(), &window, &error), error, "layer 0 (pool)");
    CHECK_FAILS(llm_feedforward_add(&f, llm_cnn_conv(), &fits, two, 2, &error), error, "2 inputs");
    CHECK_FAILS(llm_feedforward_add(&f, llm_cnn_norm(), NULL, two, 2, &error), error, "2 inputs");
    CHECK_FAILS(llm_feedforward_add(&f, llm_cnn_pool(), &cnn_two, two, 2, &error), error, "2 inp");
    CHECK(llm_feedforward_then(&f, llm_cnn_conv(), &fits, &error));
    CHECK(f.node[0].out.c == 2 && f.node[0].out.h == 1 && f.node[0].out.w == 2);
}

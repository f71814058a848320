/* @backprop */
#include "../test.h"

#include "../../llm_cuda.cuh"

static void check_backprop(const size_t *size, size_t layers, int phi, int loss, size_t N) {
    const llm_backprop net = {size, layers, phi, loss};
    const size_t P = llm_backprop_weights(&net), A = llm_backprop_activations(&net);
    const size_t in = size[0], out = size[layers], scratch = llm_cuda_backprop_scratch(&net, N);
    float *w = floats(P), *dw = floats(P), *x = floats(N * in), *y = floats(N * out);
    float *a = floats(N * A), *square = floats(N), *got = floats(P), *got_square = floats(N);
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 1 << 22));
    llm_rng rng = llm_rng_seed(N + P);
    llm_backprop_init(w, &net, 2.0f, &rng);
    llm_rng_normal_fill(&rng, x, N * in);
    llm_rng_normal_fill(&rng, dw, P);
    for (size_t i = 0; i < N * out; i++) y[i] = llm_rng_uniform(&rng);
    llm_backprop_forward(a, &net, w, x, NULL, N);

    float *d_dw = to_device(dw, P), *d_square = to_device<float>(NULL, N), *none = NULL;
    float *d_a = to_device(a, N * A), *d_w = to_device(w, P), *d_x = to_device(x, N * in);
    float *d_y = to_device(y, N * out), *d_scratch = to_device<float>(NULL, scratch);
    CHECK_CUDA(
        llm_cuda_backprop_backward(d_dw, d_square, d_a, &net, d_w, d_x, d_y, N, d_scratch, 0));
    llm_backprop_backward(dw, square, a, &net, w, x, y, N, &arena);
    /* deltas of size 1/N, summed over rows and units in another order */
    CHECK_ALL_NEAR(from_device(got, d_dw, P), dw, P, 2e-6f);
    CHECK_ALL_CLOSE(from_device(got_square, d_square, N), square, N, 1e-5f);
    if (N < 20) { /* either may be left out */
        CHECK_CUDA(
            llm_cuda_backprop_backward(none, d_square, d_a, &net, d_w, d_x, d_y, N, d_scratch, 0));
        CHECK_ALL_CLOSE(from_device(got_square, d_square, N), square, N, 1e-5f);
        CHECK_CUDA(
            llm_cuda_backprop_backward(d_dw, none, d_a, &net, d_w, d_x, d_y, N, d_scratch, 0));
        llm_backprop_backward(dw, NULL, a, &net, w, x, y, N, &arena);
        CHECK_ALL_NEAR(from_device(got, d_dw, P), dw, P, 2e-6f); /* added once more */
    }
    llm_arena_destroy(&arena);
}

TEST(backprop, "gradient and lengths of the examples' gradients equal the reference") {
    const size_t sizes[4][4] = {{1, 1, 0, 0}, {3, 4, 3, 2}, {2, 5, 33, 3}, {5, 130, 3, 0}};
    check_backprop(sizes[0], 1, LLM_BACKPROP_TANH, LLM_BACKPROP_MSE, 1);
    check_backprop(sizes[1], 3, LLM_BACKPROP_TANH, LLM_BACKPROP_XENT, 7);
    check_backprop(sizes[2], 3, LLM_BACKPROP_RELU, LLM_BACKPROP_MSE, 11);
    if (TEST_SLOW) return;
    check_backprop(sizes[2], 3, LLM_BACKPROP_SIGMOID, LLM_BACKPROP_XENT, 33);
    check_backprop(sizes[3], 2, LLM_BACKPROP_SIGMOID, LLM_BACKPROP_MSE, 130);
    check_backprop(sizes[1], 3, LLM_BACKPROP_RELU, LLM_BACKPROP_XENT, 600); /* two slices */
}

TEST(backprop, "two stages by hand: the slope of tanh at its value, and nothing of no rows") {
    const size_t size[3] = {1, 1, 1};
    const llm_backprop net = {size, 2, LLM_BACKPROP_TANH, LLM_BACKPROP_MSE};
    const float w[4] = {1, 0, 2, 0}, x[1] = {0.5f}, y[1] = {0.25f};
    const double h = tanh(0.5), o = tanh(2.0 * h), last = 2.0 * (o - 0.25) * (1.0 - o * o);
    const double first = last * 2.0 * (1.0 - h * h);
    const float a[2] = {(float)h, (float)o};
    float dw[4], *d_dw = to_device(zeros(4), 4), *none = NULL;
    float *d_scratch = to_device<float>(NULL, llm_cuda_backprop_scratch(&net, 1));
    CHECK_CUDA(llm_cuda_backprop_backward(d_dw, none, to_device(a, 2), &net, to_device(w, 4),
                                          to_device(x, 1), to_device(y, 1), 1, d_scratch, 0));
    from_device(dw, d_dw, 4);
    CHECK_NEAR(dw[0], first * 0.5, 1e-6);
    CHECK_NEAR(dw[1], first, 1e-6);
    CHECK_NEAR(dw[2], last * h, 1e-6);
    CHECK_NEAR(dw[3], last, 1e-6);
    CHECK_CUDA(llm_cuda_backprop_backward(none, none, none, &net, none, none, none, 0, none, 0));
}

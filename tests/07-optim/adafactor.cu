/* @adafactor */
#include "../test.h"

#include "../../llm_cuda.cuh"

static void check_steps(size_t rows, size_t cols, llm_adafactor_config c, float spread) {
    const size_t n = rows * cols, states = llm_adafactor_floats(rows, cols, &c);
    llm_rng rng = llm_rng_seed(rows * 1000 + cols);
    float *w = floats(n), *state = zeros(states), *g = floats(n), *got = floats(n);
    float *got_state = floats(states);
    llm_rng_normal_fill(&rng, w, n);
    float *d_w = to_device(w, n), *d_state = to_device(state, states);
    float *scratch = to_device<float>(NULL, llm_cuda_adafactor_scratch(rows, cols));
    for (size_t t = 1; t <= (TEST_SLOW ? 1 : 3); t++) {
        llm_rng_normal_fill(&rng, g, n);
        for (size_t i = 0; i < n; i++) g[i] *= powf(spread, (float)(i % 5));
        llm_adafactor_step(w, state, g, rows, cols, &c, t);
        CHECK_CUDA(
            llm_cuda_adafactor_step(d_w, d_state, to_device(g, n), rows, cols, &c, t, scratch, 0));
    }
    /* sums in another order, and in float where the reference has double */
    CHECK_ALL_NEAR(from_device(got, d_w, n), w, n, 3e-6f);
    from_device(got_state, d_state, states);
    CHECK_ALL_CLOSE(got_state, state, states, 2e-5f);
}

TEST(adafactor, "the step equals the reference: matrices over several tiles, vectors, one number") {
    llm_adafactor_config c = llm_adafactor_defaults();
    check_steps(3, 5, c, 3.0f);
    if (TEST_SLOW) return;
    check_steps(33, 300, c, 1.0f);
    check_steps(70, 2, c, 1.0f);
    check_steps(1, 300, c, 3.0f);
    check_steps(7, 1, c, 3.0f);
    check_steps(1, 1, c, 1.0f);
    CHECK_CUDA(llm_cuda_adafactor_step(NULL, NULL, NULL, 0, 3, &c, 1, NULL, 0));
}

TEST(adafactor, "momentum, decay, an external rate, warmup, clipping; small weights") {
    llm_adafactor_config c = llm_adafactor_defaults();
    c.beta1 = 0.75f, c.weight_decay = 0.5f, c.clip = 0.25f, c.decay = 0.5f;
    check_steps(4, 7, c, 2.0f);
    if (TEST_SLOW) return;
    check_steps(1, 9, c, 2.0f);
    c.relative = c.scale = false, c.lr = 0.125f, c.eps1 = 0.01f;
    check_steps(4, 7, c, 2.0f);
    c.relative = c.warmup = c.scale = true, c.eps2 = 1e5f;
    check_steps(4, 7, c, 2.0f);
}

/* @muon */
#include "../test.h"

#include "../../llm_cuda.cuh"

/* A step or two on the device against the reference. The tolerance is for products in T, in units
 * of the step: five rounds multiply the rounding of small singular values by up to 485. */
template <typename T>
static void check_steps(size_t rows, size_t cols, int scale, bool nesterov, float tol) {
    const size_t n = rows * cols, size = 1 << 20;
    llm_rng rng = llm_rng_seed(rows * 100 + cols);
    llm_arena arena = {(unsigned char *)test_memory(size, 1), size, 0, 0};
    llm_muon_config c = llm_muon_defaults();
    float *w = floats(n), *m = zeros(n), *g = floats(n), *got = floats(n), *got_m = floats(n);
    c.lr = 0.5f, c.scale = scale, c.nesterov = nesterov;
    llm_rng_normal_fill(&rng, w, n);
    float *d_w = to_device(w, n), *d_m = to_device(m, n);
    T *scratch = to_device<T>(NULL, llm_cuda_muon_scratch(rows, cols));
    float *part = to_device<float>(NULL, LLM_CUDA_MUON_PARTS);
    for (size_t t = 0; t < (rows == 5 && !TEST_SLOW ? 2u : 1u); t++) {
        llm_rng_normal_fill(&rng, g, n);
        llm_muon_step(w, m, g, rows, cols, &c, &arena);
        CHECK_CUDA(llm_cuda_muon_step(d_w, d_m, to_device(g, n), rows, cols, &c, scratch, part, 0));
    }
    from_device(got, d_w, n);
    from_device(got_m, d_m, n);
    CHECK_ALL_NEAR(got_m, m, n, 1e-6f);
    CHECK_ALL_NEAR(got, w, n, tol);
}

TEST(muon, "the step equals the reference, wide, tall, one row, every scale") {
    check_steps<float>(5, 9, LLM_MUON_ORIGINAL, true, 2e-4f);
    if (TEST_SLOW) return;
    check_steps<float>(40, 60, LLM_MUON_ORIGINAL, true, 2e-3f); /* several sums of squares */
    check_steps<float>(9, 5, LLM_MUON_MATCH_ADAMW, true, 2e-4f);
    check_steps<float>(1, 7, LLM_MUON_SPECTRAL, false, 2e-4f);
    check_steps<float>(7, 1, LLM_MUON_SPECTRAL, true, 2e-4f);
    check_steps<float>(6, 6, LLM_MUON_ORIGINAL, true, 2e-3f); /* square: one value may be small */
}

TEST(muon, "bfloat16 products, on tensor cores and not, stay within their rounding") {
    check_steps<llm_bf16>(16, 24, LLM_MUON_ORIGINAL, true, 0.1f); /* rows of whole 16 bytes */
    if (TEST_SLOW) return;
    check_steps<llm_bf16>(24, 16, LLM_MUON_ORIGINAL, true, 0.1f);
    check_steps<llm_bf16>(5, 9, LLM_MUON_ORIGINAL, true, 0.1f);
}

TEST(muon, "no gradient, no step but the decay; a matrix of none") {
    enum { R = 3, C = 4, N = R * C };
    llm_muon_config c = llm_muon_defaults();
    float w[N], m[N] = {0.0f}, got[N];
    for (size_t i = 0; i < N; i++) w[i] = 1.0f;
    c.lr = 0.5f, c.weight_decay = 0.2f;
    float *d_w = to_device(w, N), *d_m = to_device(m, N);
    float *scratch = to_device<float>(NULL, llm_cuda_muon_scratch(R, C));
    float *part = to_device<float>(NULL, LLM_CUDA_MUON_PARTS);
    CHECK_CUDA(llm_cuda_muon_step(d_w, d_m, to_device(m, N), R, C, &c, scratch, part, 0));
    from_device(got, d_w, N);
    for (size_t i = 0; i < N; i++) CHECK(got[i] == 0.9f);
    CHECK_CUDA(llm_cuda_muon_step(d_w, d_m, (const float *)d_m, 0, C, &c, scratch, part, 0));
}

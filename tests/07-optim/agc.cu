/* @agc */
#include "../test.h"

#include "../../llm_cuda.cuh"

static void check_clip(size_t units, size_t size, float scale) {
    const size_t n = units * size;
    llm_rng rng = llm_rng_seed(units * 1000 + size);
    const llm_agc_config c = llm_agc_defaults();
    float *g = floats(n), *w = floats(n), *want = floats(n), *got = floats(n);
    unsigned *flags = (unsigned *)test_memory(units + 1, sizeof(unsigned));
    llm_rng_normal_fill(&rng, g, n);
    llm_rng_normal_fill(&rng, w, n);
    for (size_t i = 0; i < n; i++) {
        g[i] *= (i / size % 2 ? 0.001f : 1.0f) * scale; /* every other unit is within */
        if (i / size % 5 == 3) w[i] = 0.0f;
    }
    memcpy(want, g, n * sizeof(float));
    const size_t clipped = llm_agc_clip(want, w, units, size, LLM_AGC_ROWS, &c);
    float *d_g = to_device(g, n);
    unsigned *d_flags = to_device<unsigned>(NULL, units);
    CHECK_CUDA(llm_cuda_agc_clip(d_g, to_device(w, n), d_flags, units, size, &c, 0));
    from_device(got, d_g, n);
    from_device(flags, d_flags, units);
    size_t count = 0;
    for (size_t i = 0; i < units; i++) count += flags[i];
    CHECK(count == clipped);
    for (size_t i = 0; i < n; i++) /* the order of the sums differs in the last bit of a double */
        CHECK_NEAR(got[i], want[i], 1e-6 * fabs((double)want[i]));
}

TEST(agc, "rows equal the reference: one weight to many passes, a bound of zeros, huge gradients") {
    check_clip(1, 1, 1.0f);
    check_clip(9, 33, 1.0f);
    if (TEST_SLOW) return;
    check_clip(8, 7, 1e25f);
    check_clip(17, 1000, 1.0f);
    check_clip(3, 0, 1.0f);
    CHECK_CUDA(llm_cuda_agc_clip(NULL, NULL, NULL, 0, 5, NULL, 0));
}

TEST(agc, "a NaN spoils its own unit and no other; the count may be left out") {
    enum { UNITS = 9, SIZE = 40, N = UNITS * SIZE };
    const llm_agc_config c = llm_agc_defaults();
    float g[N], w[N], got[N];
    for (size_t i = 0; i < N; i++) g[i] = 1e-6f, w[i] = 1.0f;
    g[3 * SIZE + 37] = NAN;
    float *d_g = to_device(g, N);
    CHECK_CUDA(llm_cuda_agc_clip(d_g, to_device(w, N), (unsigned *)NULL, UNITS, SIZE, &c, 0));
    from_device(got, d_g, N);
    for (size_t i = 0; i < N; i++) CHECK(i / SIZE == 3 ? isnan(got[i]) : got[i] == 1e-6f);
}

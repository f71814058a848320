/* Normal numbers for a suite. Behind test.h and the header, once in each suite: nvcc compiles a
 * chapter as one file, a namespace a suite, so there is no guard. */

/* n numbers of N(0, scale^2), the same for the same seed. */
TEST_UNUSED static float *tiny_normal(uint64_t seed, size_t n, float scale) {
    float *x = floats(n);
    llm_rng rng = llm_rng_seed(seed);
    llm_rng_normal_fill(&rng, x, n);
    for (size_t i = 0; i < n; i++) x[i] *= scale;
    return x;
}

/* @output_layer_density */
#include "../test.h"

#include "../../llm_cuda.cuh"

static void check_mixture(size_t N, size_t D, size_t M, float spread) {
    const size_t n = N * M * (2 + D);
    float *z = floats(n), *t = floats(N * D), *dz = floats(n), *want = floats(n), *loss = floats(N);
    llm_arena arena = {(unsigned char *)test_memory(1 << 16, 1), 1 << 16, 0, 1 << 16};
    llm_rng rng = llm_rng_seed(n);
    llm_rng_normal_fill(&rng, z, n);
    llm_rng_normal_fill(&rng, t, N * D);
    for (size_t i = 0; i < N * D; i++) t[i] *= spread;
    float *d_loss = to_device<float>(NULL, N), *d_dz = to_device<float>(NULL, n), *none = NULL;
    float *d_z = to_device(z, n), *d_t = to_device(t, N * D);
    CHECK_CUDA(llm_cuda_output_layer_density_mixture(d_loss, d_dz, d_z, d_t, N, D, M, 0));
    const double mean = llm_output_layer_mixture_loss(want, z, t, N, D, M, &arena);
    from_device(dz, d_dz, n);
    from_device(loss, d_loss, N);
    /* rounding of the exponents: some ulp of the largest part, which grows with spread */
    const float tol = 2e-6f * (1.0f + spread * spread);
    for (size_t i = 0; i < n; i++) CHECK_NEAR(dz[i], want[i], tol * (1 + fabsf(want[i])));
    double sum = 0.0;
    for (size_t i = 0; i < N; i++) {
        const float one = (float)llm_output_layer_mixture_loss(NULL, z + i * M * (2 + D), t + i * D,
                                                               1, D, M, &arena);
        CHECK_NEAR(loss[i], one, tol * (1 + fabsf(one)));
        sum += (double)loss[i] / (double)N;
    }
    CHECK_NEAR(sum, mean, tol * (1 + fabs(mean)));
    CHECK_CUDA(llm_cuda_output_layer_density_mixture(d_loss, none, d_z, d_t, N, D, M, 0));
    from_device(want, d_loss, N);
    CHECK_ALL_NEAR(want, loss, N, 0.0f);
}

TEST(output_layer_density,
     "losses and gradients of mixtures, fewer and more components than lanes") {
    const size_t shapes[7][3] = {{1, 1, 1},  {4, 1, 3}, {5, 2, 31}, {3, 1, 32},
                                 {2, 3, 33}, {9, 2, 5}, {2, 1, 70}};
    for (size_t s = 0; s < (TEST_SLOW ? 5 : 7); s++) {
        check_mixture(shapes[s][0], shapes[s][1], shapes[s][2], 1.0f);
        check_mixture(shapes[s][0], shapes[s][1], shapes[s][2], 20.0f); /* far from all */
    }
    float *d = to_device<float>(NULL, 1);
    CHECK_CUDA(llm_cuda_output_layer_density_mixture(d, d, d, d, 0, 1, 1, 0));
}

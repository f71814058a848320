/* @sinusoidal */
#include "../test.h"

#include "../../llm_cuda.cuh"

template <typename T>
static void check_sinusoidal(size_t N, size_t period, size_t C, size_t e, int order,
                             const int *pos) {
    float *x = floats(N * C), *got = floats(N * C), *want = floats(N * C), *table = floats(N * C);
    float *t = floats(N), scale = sqrtf((float)C);
    double *frequency = doubles(C / 2);
    llm_rng rng = llm_rng_seed(N + C);
    llm_rng_normal_fill(&rng, x, N * C);
    for (size_t i = 0; i < C / 2; i++) frequency[i] = llm_sinusoidal_frequency(i, C, e);
    for (size_t n = 0; n < N; n++) t[n] = pos ? (float)pos[n] : (float)(n % period);
    T *d_x = to_device_as<T>(x, N * C), *d_y = to_device<T>(NULL, N * C);
    const double *d_f = to_device(frequency, C / 2);
    const int *d_pos = pos ? to_device(pos, N) : NULL;
#ifndef __CUDACC__
    emulate_count();
#endif
    CHECK_CUDA(llm_cuda_sinusoidal_forward(d_y, d_x, d_pos, d_f, N, period, C, scale,
                                           (llm_sinusoidal_order)order, 0));
#ifndef __CUDACC__
    CHECK(emulate_counted.read == N * C * sizeof(T));
    CHECK(emulate_counted.written == N * C * sizeof(T));
#endif
    llm_sinusoidal_table(table, t, N, C, e, (llm_sinusoidal_order)order);
    llm_sinusoidal_forward(want, x, table, NULL, N, N, C, scale);
    from_device_as(got, d_y, N * C);
    if (sizeof(T) == 4)
        CHECK_ALL_NEAR(got, want, N * C, 1e-5f); /* x up to 50, an angle rounded to float */
    else
        test_all(__FILE__, __LINE__, "got", got, want, N * C, 0.004 + 1e-5, 1e-2, 1.0);
}

TEST(sinusoidal, "equals the reference in every order, far out too, where no table reaches") {
    const int far[5] = {0, 99999, 16777216, 1000003, 2};
    const size_t widths[4] = {2, 6, 66, 128};
    for (size_t s = 0; s < 4; s++)
        for (int order = 0; order < 3; order++) {
            check_sinusoidal<float>(1 + 4 * s, 3, widths[s], (size_t)order % 2, order, NULL);
            check_sinusoidal<float>(5, 1, widths[s], 0, order, far);
            check_sinusoidal<llm_bf16>(7, 7, widths[s], 1, order, NULL);
        }
    float *none = NULL;
    CHECK_CUDA(llm_cuda_sinusoidal_forward(none, none, NULL, NULL, 0, 1, 4, 1.0f,
                                           LLM_SINUSOIDAL_HALVES, 0));
    CHECK(llm_cuda_sinusoidal_forward(none, none, NULL, NULL, 1, 1, 3, 1.0f, LLM_SINUSOIDAL_HALVES,
                                      0) == cudaErrorInvalidValue);
}

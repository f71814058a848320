/* @grad_noise_scale */
#include "../test.h"

#include "../../llm_cuda.cuh"

template <typename T>
static void check_dense(size_t N, size_t C, size_t O, bool bias, float scale) {
    llm_rng rng = llm_rng_seed(N * 100 + C * 10 + O);
    float *dy = floats(N * O), *x = floats(N * C);
    llm_rng_normal_fill(&rng, dy, N * O);
    llm_rng_normal_fill(&rng, x, N * C);
    for (size_t i = 0; i < N * O; i++) dy[i] *= scale;
    const T *d_dy = to_device_as<T>(dy, N * O), *d_x = to_device_as<T>(x, N * C);
    double *want = (double *)test_memory(N, sizeof(double)),
           *got = (double *)test_memory(N, sizeof(double));
    for (size_t n = 0; n < N; n++) want[n] = 0.5 * (double)n;
    double *d_square = to_device(want, N);
    CHECK_CUDA(llm_cuda_grad_noise_scale_dense(d_square, d_dy, d_x, N, C, O, bias, 0));
    llm_grad_noise_scale_dense(want, dy, x, N, C, O, bias);
    from_device(got, d_square, N);
    for (size_t n = 0; n < N; n++) CHECK_NEAR(got[n], want[n], 1e-12 * want[n]);
}

TEST(grad_noise_scale, "the squares of rows equal the reference, floats and bfloat16, huge ones") {
    check_dense<float>(1, 1, 1, false, 1.0f);
    check_dense<float>(9, 33, 7, true, 1.0f);
    check_dense<llm_bf16>(5, 64, 136, true, 1.0f);
    if (TEST_SLOW) return;
    check_dense<float>(6, 200, 300, false, 1e25f);
    check_dense<llm_bf16>(4, 12, 8, false, 1.0f);
    check_dense<float>(2, 0, 5, true, 1.0f);
    CHECK_CUDA(
        llm_cuda_grad_noise_scale_dense(NULL, (float *)NULL, (float *)NULL, 0, 5, 5, true, 0));
}

/* Against the gradient itself: dW = sum_t dy_t (x_t, 1)', formed in double. */
template <typename T>
static void check_tokens(size_t N, size_t L, size_t C, size_t O, bool bias, double tol) {
    llm_rng rng = llm_rng_seed(L * 100 + C * 10 + O);
    float *dy = floats(N * L * O), *x = floats(N * L * C);
    llm_rng_normal_fill(&rng, dy, N * L * O);
    llm_rng_normal_fill(&rng, x, N * L * C);
    const T *d_dy = to_device_as<T>(dy, N * L * O), *d_x = to_device_as<T>(x, N * L * C);
    double *want = (double *)test_memory(N, sizeof(double)),
           *got = (double *)test_memory(N, sizeof(double));
    for (size_t n = 0; n < N; n++) want[n] = (double)n;
    double *d_square = to_device(want, N);
    double *scratch = to_device<double>(NULL, N * llm_cuda_grad_noise_scale_tiles(L));
    CHECK_CUDA(llm_cuda_grad_noise_scale_tokens(d_square, d_dy, d_x, N, L, C, O, bias, scratch, 0));
    from_device(got, d_square, N);
    for (size_t n = 0; n < N; n++) {
        for (size_t o = 0; o < O; o++)
            for (size_t c = 0; c < C + (bias ? 1 : 0); c++) {
                double sum = 0.0;
                for (size_t t = n * L; t < (n + 1) * L; t++)
                    sum += (double)dy[t * O + o] * (c < C ? (double)x[t * C + c] : 1.0);
                want[n] += sum * sum;
            }
        CHECK_NEAR(got[n], want[n], tol * want[n]);
    }
}

TEST(grad_noise_scale, "sequences: the squares of gradients that were never formed") {
    check_tokens<float>(2, 5, 3, 4, true, 1e-5);
    if (TEST_SLOW) return;
    check_tokens<float>(1, 1, 1, 1, false, 1e-5);
    check_tokens<float>(2, 130, 7, 5, false, 1e-5); /* six tiles of pairs */
    check_tokens<llm_bf16>(1, 65, 33, 17, true, 1e-5);
    check_tokens<float>(1, 64, 4, 4, true, 1e-5);
    CHECK(llm_cuda_grad_noise_scale_tiles(64) == 1 && llm_cuda_grad_noise_scale_tiles(65) == 3);
    const float *none = NULL;
    CHECK_CUDA(llm_cuda_grad_noise_scale_tokens(NULL, none, none, 0, 5, 5, 5, true, NULL, 0));
    CHECK_CUDA(llm_cuda_grad_noise_scale_tokens(NULL, none, none, 5, 0, 5, 5, true, NULL, 0));
}

TEST(grad_noise_scale, "one token a sequence is a row") {
    enum { N = 3, C = 5, O = 4 };
    llm_rng rng = llm_rng_seed(1);
    float dy[N * O], x[N * C];
    double zero[N] = {0.0, 0.0, 0.0}, a[N], b[N];
    llm_rng_normal_fill(&rng, dy, N * O);
    llm_rng_normal_fill(&rng, x, N * C);
    const float *d_dy = to_device(dy, N * O), *d_x = to_device(x, N * C);
    double *d_a = to_device(zero, N), *d_b = to_device(zero, N);
    double *scratch = to_device<double>(NULL, N);
    CHECK_CUDA(llm_cuda_grad_noise_scale_dense(d_a, d_dy, d_x, N, C, O, true, 0));
    CHECK_CUDA(llm_cuda_grad_noise_scale_tokens(d_b, d_dy, d_x, N, 1, C, O, true, scratch, 0));
    from_device(a, d_a, N);
    from_device(b, d_b, N);
    for (size_t n = 0; n < N; n++) CHECK_NEAR(a[n], b[n], 1e-6 * a[n]);
}

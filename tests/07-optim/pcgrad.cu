/* @pcgrad */
#include "../test.h"

#include "../../llm_cuda.cuh"

/* Products, weights and sum against the reference. negative: make conflicts the rule. */
static void check_pcgrad(size_t T, size_t n, float lean) {
    llm_rng rng = llm_rng_seed(T * 1000 + n);
    float *g = floats(T * n), *want = floats(n), *got = floats(n);
    llm_rng_normal_fill(&rng, g, T * n);
    for (size_t i = 0; i < T; i++)
        for (size_t k = 0; k < n; k++) g[i * n + k] += i % 2 ? lean : -lean;
    double *gram = (double *)test_memory(T * T, sizeof(double)),
           *own = (double *)test_memory(T * T, sizeof(double)),
           *weight = (double *)test_memory(T, sizeof(double)),
           *own_weight = (double *)test_memory(T, sizeof(double)),
           *scratch = (double *)test_memory(T, sizeof(double));
    size_t *order = (size_t *)test_memory(T * T, sizeof(size_t));
    int *order_int = (int *)test_memory(T * T, sizeof(int));
    llm_pcgrad_order(order, T, &rng);
    for (size_t i = 0; i < T * T; i++) order_int[i] = (int)order[i];
    double *d_gram = to_device<double>(NULL, T * T), *d_weight = to_device<double>(NULL, T);
    double *part = to_device<double>(NULL, llm_cuda_pcgrad_scratch(T));
    float *d_out = to_device<float>(NULL, n);
    const float *d_g = to_device(g, T * n);
    const int *d_order = to_device(order_int, T * T);
    CHECK_CUDA(llm_cuda_pcgrad_gram(d_gram, d_g, T, n, part, 0));
    CHECK_CUDA(llm_cuda_pcgrad_combine(d_out, d_weight, d_gram, d_order, d_g, T, n, 0));
    llm_pcgrad_gram(gram, g, T, n);
    llm_pcgrad_project(weight, scratch, gram, order, T);
    llm_pcgrad_combine(want, weight, g, T, n);
    from_device(own, d_gram, T * T);
    for (size_t i = 0; i < T * T; i++)
        CHECK_NEAR(own[i], gram[i], 1e-12 * sqrt(gram[i / T * (T + 1)] * gram[i % T * (T + 1)]));
    from_device(own_weight, d_weight, T);
    for (size_t i = 0; i < T; i++) CHECK_NEAR(own_weight[i], weight[i], 1e-9 * (1.0 + weight[i]));
    CHECK_ALL_NEAR(from_device(got, d_out, n), want, n, 1e-5f);
}

TEST(pcgrad, "products, weights and sum equal the reference, two tasks to three eights of them") {
    check_pcgrad(2, 100, 0.5f);
    check_pcgrad(3, 2049, 0.1f); /* two blocks */
    if (TEST_SLOW) return;
    check_pcgrad(1, 1, 0.0f);
    check_pcgrad(5, 33, 0.3f);
    check_pcgrad(8, 300, 0.3f);
    check_pcgrad(9, 40, 0.3f);
    check_pcgrad(20, 3000, 0.05f);
    check_pcgrad(32, 50, 0.2f);
}

TEST(pcgrad,
     "no conflict is the plain sum, opposite tasks nothing, a zero gradient is passed over") {
    enum { T = 2, N = 4 };
    const int order[T * T] = {0, 1, 1, 0};
    const float cases[3][T * N] = {
        {1, 0, 0, 2, 0, 1, 0, 1}, {1, 2, 3, 4, -1, -2, -3, -4}, {1, 2, 3, 4, 0, 0, 0, 0}};
    const float want[3][N] = {{1, 1, 0, 3}, {0, 0, 0, 0}, {1, 2, 3, 4}};
    double *gram = to_device<double>(NULL, T * T), *none = NULL;
    double *part = to_device<double>(NULL, llm_cuda_pcgrad_scratch(T));
    float *out = to_device<float>(NULL, N), got[N];
    const int *d_order = to_device(order, T * T);
    for (int i = 0; i < 3; i++) {
        const float *g = to_device(cases[i], T * N);
        CHECK_CUDA(llm_cuda_pcgrad_gram(gram, g, T, N, part, 0));
        CHECK_CUDA(llm_cuda_pcgrad_combine(out, none, gram, d_order, g, T, N, 0));
        CHECK_ALL_NEAR(from_device(got, out, N), want[i], N, 0.0f);
    }
}

TEST(pcgrad, "nothing to add up; too many tasks are refused") {
    double *gram = to_device<double>(NULL, 4), *weight = to_device<double>(NULL, 2), got[4];
    double *part = to_device<double>(NULL, llm_cuda_pcgrad_scratch(2)), *none = NULL;
    float *no_float = NULL;
    const int order[4] = {0, 1, 1, 0}, *d_order = to_device(order, 4), *no_order = NULL;
    CHECK_CUDA(llm_cuda_pcgrad_gram(gram, no_float, 2, 0, part, 0));
    CHECK_CUDA(llm_cuda_pcgrad_combine(no_float, weight, gram, d_order, no_float, 2, 0, 0));
    from_device(got, gram, 4);
    for (int i = 0; i < 4; i++) CHECK(got[i] == 0.0);
    from_device(got, weight, 2);
    CHECK(got[0] == 1.0 && got[1] == 1.0);
    CHECK_CUDA(llm_cuda_pcgrad_combine(no_float, none, gram, d_order, no_float, 2, 0, 0));
    CHECK_CUDA(llm_cuda_pcgrad_gram(gram, no_float, 0, 5, part, 0));
    CHECK(llm_cuda_pcgrad_combine(no_float, none, none, no_order, no_float, 33, 5, 0) ==
          cudaErrorInvalidValue);
}

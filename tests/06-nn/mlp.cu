/* @mlp */
#include "../test.h"

#include "../../llm_cuda.cuh"

static void check_mlp(const size_t *size, size_t layers, int act, int head, size_t N) {
    const llm_mlp m = {size, layers, act, head};
    const size_t P = llm_mlp_param_count(&m), K = size[layers], bytes = llm_mlp_workspace(&m, N);
    const bool softmax = head == LLM_OUTPUT_LAYER_SOFTMAX;
    float *w = floats(P), *x = floats(N * size[0]), *t = floats(N * K), *dw = floats(P);
    float *got = floats(P), *loss = floats(N);
    int *label = (int *)test_memory(N, sizeof(int)), *no_label = NULL;
    float *no_target = NULL;
    llm_arena arena = {(unsigned char *)test_memory(bytes, 1), bytes, 0, bytes};
    llm_rng rng = llm_rng_seed(N);
    llm_mlp_init(w, &m, &rng);
    llm_rng_normal_fill(&rng, x, N * size[0]);
    llm_rng_normal_fill(&rng, dw, P);
    for (size_t i = 0; i < N * K; i++) t[i] = llm_rng_uniform(&rng);
    for (size_t i = 0; i < N; i++) label[i] = (int)llm_rng_below(&rng, K);
    float *d_loss = to_device<float>(NULL, N), *d_dw = to_device(dw, P), *d_w = to_device(w, P);
    float *scratch = to_device<float>(NULL, llm_cuda_mlp_shares(N) * P);
    float *d_x = to_device(x, N * size[0]), *d_t = to_device(t, N * K);
    int *d_label = to_device(label, N);
    CHECK_CUDA(llm_cuda_mlp_gradient(d_loss, d_dw, &m, d_w, d_x, softmax ? d_label : no_label,
                                     softmax ? no_target : d_t, N, scratch, 0));
    const double want =
        llm_mlp_gradient(dw, &m, w, x, softmax ? label : NULL, softmax ? NULL : t, N, &arena);
    from_device(got, d_dw, P);
    from_device(loss, d_loss, N);
    for (size_t i = 0; i < P; i++) CHECK_NEAR(got[i], dw[i], 5e-6f * (1 + fabsf(dw[i])));
    double mean = 0.0;
    for (size_t n = 0; n < N; n++) {
        mean += (double)loss[n] / (double)N;
        const double one =
            llm_mlp_gradient(NULL, &m, w, x + n * size[0], softmax ? label + n : NULL,
                             softmax ? NULL : t + n * K, 1, &arena);
        CHECK_NEAR(loss[n], one, 5e-6 * (1 + fabs(one)));
    }
    CHECK_NEAR(mean, want, 5e-6 * (1 + fabs(want)));
}

TEST(mlp, "a small net's losses and gradient in one kernel, every head, more rows than blocks") {
    const size_t a[4] = {3, 5, 4, 2}, b[2] = {4, 3}, c[3] = {7, 33, 10}, d[4] = {1, 1, 1, 1};
    for (int head = 0; head < LLM_OUTPUT_LAYER_COUNT; head++) {
        check_mlp(a, 3, LLM_ACTIVATION_TANH, head, 6);
        check_mlp(b, 1, LLM_ACTIVATION_RELU, head, 3);
    }
    check_mlp(d, 3, LLM_ACTIVATION_SILU, LLM_OUTPUT_LAYER_MSE, 1);
    check_mlp(c, 2, LLM_ACTIVATION_RELU, LLM_OUTPUT_LAYER_SOFTMAX, TEST_SLOW ? 5 : 67);
    const llm_mlp m = {a, 3, LLM_ACTIVATION_TANH, LLM_OUTPUT_LAYER_MSE};
    float *one = to_device<float>(NULL, 1), *none = NULL;
    int *no_label = NULL;
    CHECK_CUDA(llm_cuda_mlp_gradient(one, one, &m, one, one, no_label, none, 0, one, 0));
}

TEST(mlp, "soft targets of a softmax") {
    const size_t size[3] = {2, 4, 3}, N = 2, P = 27;
    const llm_mlp m = {size, 2, LLM_ACTIVATION_GELU, LLM_OUTPUT_LAYER_SOFTMAX};
    const float t[6] = {0.2f, 0.3f, 0.5f, 0.0f, 1.0f, 0.0f}, x[4] = {1.0f, -1.0f, 0.5f, 2.0f};
    float w[27], dw[27] = {0}, got[27];
    llm_arena arena = {(unsigned char *)test_memory(4096, 1), 4096, 0, 4096};
    llm_rng rng = llm_rng_seed(1);
    llm_mlp_init(w, &m, &rng);
    float *d_loss = to_device<float>(NULL, N), *d_dw = to_device(dw, P), *d_w = to_device(w, P);
    float *scratch = to_device<float>(NULL, N * P), *d_x = to_device(x, 4), *d_t = to_device(t, 6);
    int *no_label = NULL;
    CHECK_CUDA(llm_cuda_mlp_gradient(d_loss, d_dw, &m, d_w, d_x, no_label, d_t, N, scratch, 0));
    llm_mlp_gradient(dw, &m, w, x, NULL, t, N, &arena);
    from_device(got, d_dw, P);
    for (size_t i = 0; i < P; i++) CHECK_NEAR(got[i], dw[i], 2e-6f * (1 + fabsf(dw[i])));
}

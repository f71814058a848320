/* @maml */
#include "../test.h"

#include "../../llm_cuda.cuh"

/* Adaptation and first-order gradient of `tasks` tasks against the reference, task by task. */
static void check_maml(const size_t *size, size_t layers, int act, int head, size_t S, size_t Q,
                       size_t tasks, size_t steps) {
    const llm_mlp m = {size, layers, act, head};
    const size_t P = llm_mlp_param_count(&m), in = size[0], K = size[layers], N = S + Q;
    const bool softmax = head == LLM_OUTPUT_LAYER_SOFTMAX;
    const size_t bytes = 1 << 20;
    llm_arena arena = {(unsigned char *)test_memory(bytes, 1), bytes, 0, 0};
    llm_rng rng = llm_rng_seed(S * 10 + Q);
    float *w = floats(P), *rate = floats(P), *x = floats(tasks * N * in),
          *t = floats(tasks * N * K);
    float *dw = floats(P), *phi = floats(P), *got = floats(tasks * P), *loss = floats(tasks);
    int *label = (int *)test_memory(tasks * N, sizeof(int));
    llm_mlp_init(w, &m, &rng);
    llm_rng_normal_fill(&rng, x, tasks * N * in);
    llm_rng_normal_fill(&rng, dw, P);
    for (size_t i = 0; i < P; i++) rate[i] = 0.1f * llm_rng_uniform(&rng);
    for (size_t i = 0; i < tasks * N * K; i++) t[i] = llm_rng_uniform(&rng);
    for (size_t i = 0; i < tasks * N; i++) label[i] = (int)llm_rng_below(&rng, K);
    /* the support sets of all tasks, then the query sets */
    const float *d_x = to_device(x, tasks * N * in), *d_t = to_device(t, tasks * N * K);
    const int *d_label = to_device(label, tasks * N);
    const llm_maml_batch d_support = {d_x, softmax ? NULL : d_t, softmax ? d_label : NULL, S};
    const llm_maml_batch d_query = {d_x + tasks * S * in, softmax ? NULL : d_t + tasks * S * K,
                                    softmax ? d_label + tasks * S : NULL, Q};
    const float *d_w = to_device(w, P), *d_rate = to_device(rate, P);
    float *d_phi = to_device<float>(NULL, tasks * P), *d_loss = to_device<float>(NULL, tasks);
    float *d_dw = to_device(dw, P), *scratch = to_device<float>(NULL, tasks * P);
    CHECK_CUDA(llm_cuda_maml_adapt(d_phi, &m, d_w, d_rate, d_support, tasks, steps, 0));
    CHECK_CUDA(llm_cuda_maml_gradient(d_loss, d_dw, &m, d_w, d_rate, d_support, d_query, tasks,
                                      steps, scratch, 0));
    from_device(got, d_phi, tasks * P);
    from_device(loss, d_loss, tasks);
    for (size_t task = 0; task < tasks; task++) {
        const size_t s = task * S, q = tasks * S + task * Q;
        const llm_maml_batch support = {x + s * in, softmax ? NULL : t + s * K,
                                        softmax ? label + s : NULL, S};
        const llm_maml_batch query = {x + q * in, softmax ? NULL : t + q * K,
                                      softmax ? label + q : NULL, Q};
        memcpy(phi, w, P * sizeof(float));
        llm_maml_adapt(phi, &m, rate, support, steps, &arena);
        for (size_t i = 0; i < P; i++)
            CHECK_NEAR(got[task * P + i], phi[i], 5e-6f * (1.0f + fabsf(phi[i])));
        const double want =
            llm_maml_gradient(dw, NULL, &m, w, rate, support, query, steps, true, &arena);
        CHECK_NEAR(loss[task], want, 5e-6 * (1.0 + fabs(want)));
    }
    from_device(got, d_dw, P);
    for (size_t i = 0; i < P; i++) CHECK_NEAR(got[i], dw[i], 1e-5f * (1.0f + fabsf(dw[i])));
}

TEST(maml, "tasks adapted in shared memory equal the reference one by one, every head") {
    const size_t a[4] = {2, 5, 4, 3}, b[2] = {4, 3}, c[4] = {1, 40, 40, 1}, d[3] = {7, 33, 10};
    for (int head = 0; head < (TEST_SLOW ? 1 : (int)LLM_OUTPUT_LAYER_COUNT); head++)
        check_maml(a, 3, LLM_ACTIVATION_TANH, head, 5, 3, 3, 2);
    check_maml(b, 1, LLM_ACTIVATION_RELU, LLM_OUTPUT_LAYER_SOFTMAX, 1, 2, 2, 1);
    if (TEST_SLOW) return;
    check_maml(c, 3, LLM_ACTIVATION_RELU, LLM_OUTPUT_LAYER_MSE, 5, 10, 4, 1);
    check_maml(d, 2, LLM_ACTIVATION_GELU, LLM_OUTPUT_LAYER_SOFTMAX, 40, 1, 2, 3);
    check_maml(a, 3, LLM_ACTIVATION_SILU, LLM_OUTPUT_LAYER_MSE, 4, 4, 2, 0); /* joint training */
}

TEST(maml, "soft targets of a softmax; no tasks; a net that does not fit") {
    const size_t size[3] = {2, 4, 3}, huge[3] = {100, 300, 3}, S = 2, P = 27;
    const llm_mlp m = {size, 2, LLM_ACTIVATION_TANH, LLM_OUTPUT_LAYER_SOFTMAX};
    const llm_mlp wide = {huge, 2, LLM_ACTIVATION_TANH, LLM_OUTPUT_LAYER_SOFTMAX};
    const float t[6] = {0.2f, 0.3f, 0.5f, 0.0f, 1.0f, 0.0f}, x[4] = {1.0f, -1.0f, 0.5f, 2.0f};
    float w[27], rate[27], got[27];
    llm_arena arena = {(unsigned char *)test_memory(8192, 1), 8192, 0, 0};
    llm_rng rng = llm_rng_seed(1);
    llm_mlp_init(w, &m, &rng);
    for (size_t i = 0; i < P; i++) rate[i] = 0.1f;
    const llm_maml_batch own = {x, t, NULL, S};
    const llm_maml_batch batch = {to_device(x, 4), to_device(t, 6), NULL, S};
    const float *d_w = to_device(w, P), *d_rate = to_device(rate, P);
    float *d_phi = to_device<float>(NULL, P);
    CHECK_CUDA(llm_cuda_maml_adapt(d_phi, &m, d_w, d_rate, batch, 1, 3, 0));
    llm_maml_adapt(w, &m, rate, own, 3, &arena);
    from_device(got, d_phi, P);
    for (size_t i = 0; i < P; i++) CHECK_NEAR(got[i], w[i], 2e-6f * (1.0f + fabsf(w[i])));
    CHECK_CUDA(llm_cuda_maml_adapt(d_phi, &m, d_w, d_rate, batch, 0, 3, 0));
    CHECK_CUDA(llm_cuda_maml_gradient(d_phi, d_phi, &m, d_w, d_rate, batch, batch, 0, 3, d_phi, 0));
    const size_t ones[10] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
    const llm_mlp deep = {ones, 9, LLM_ACTIVATION_TANH, LLM_OUTPUT_LAYER_MSE};
    CHECK(llm_cuda_maml_adapt(d_phi, &deep, d_w, d_rate, batch, 1, 3, 0) == cudaErrorInvalidValue);
    CHECK(llm_cuda_maml_adapt(d_phi, &wide, d_w, d_rate, batch, 1, 3, 0) == cudaErrorInvalidValue);
    CHECK(llm_cuda_maml_gradient(d_phi, d_phi, &wide, d_w, d_rate, batch, batch, 1, 3, d_phi, 0) ==
          cudaErrorInvalidValue);
}

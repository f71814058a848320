/* @categorical_sample */
#include "../test.h"

#include "../../llm_cuda.cuh"

/* The kernel is that of @temperature: here against the law, as the samplers of this section are. */
TEST(categorical_sample,
     "Gumbel-max on the device draws from the softmax: chi-squared, -inf never") {
    enum { ROWS = TEST_SLOW ? 300 : 4000, V = 9 };
    float z[V] = {0.0f, 1.0f, -1.0f, 2.0f, -INFINITY, 0.5f, 0.5f, -3.0f, 1.5f};
    float *logits = floats((size_t)ROWS * V), *logprob = floats(ROWS);
    uint64_t *seed = (uint64_t *)test_memory(ROWS, sizeof(uint64_t));
    int *token = (int *)test_memory(ROWS, sizeof(int)), *d_token = to_device<int>(NULL, ROWS);
    double count[V] = {0}, p[V], sum = 0.0, chi = 0.0;
    for (size_t i = 0; i < V; i++) sum += p[i] = exp((double)z[i]);
    for (size_t r = 0; r < ROWS; r++) {
        seed[r] = r; /* a stream a row */
        memcpy(logits + r * V, z, sizeof z);
    }
    float *d_logprob = to_device<float>(NULL, ROWS);
    CHECK_CUDA(llm_cuda_temperature_gumbel(
        d_token, d_logprob,
        to_device<llm_cuda_temperature_part>(NULL, (size_t)ROWS * LLM_CUDA_GREEDY_PIECES),
        to_device(logits, (size_t)ROWS * V), to_device(seed, ROWS), ROWS, V, 1.0f, 0));
    from_device(token, d_token, ROWS);
    from_device(logprob, d_logprob, ROWS);
    for (size_t r = 0; r < ROWS; r++) {
        CHECK(token[r] >= 0 && token[r] < V && token[r] != 4);
        count[token[r]] += 1.0;
        CHECK_NEAR(logprob[r], log(p[token[r]] / sum), 1e-6);
    }
    for (size_t i = 0; i < V; i++) {
        const double want = ROWS * p[i] / sum;
        if (want > 0.0) chi += (count[i] - want) * (count[i] - want) / want;
    }
    CHECK(chi < 24.3); /* 7 degrees of freedom: once in 1000 */
}

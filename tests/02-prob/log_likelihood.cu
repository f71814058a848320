/* @log_likelihood */
#include "../test.h"

#include "../../llm_cuda.cuh"

/* B sequences of a chain, of lengths 0, 1, 2, ... and one long one: the rows of logp are those that
 * the reference looks up. Some tokens are ignored on the device, and taken out of the sum here. */
template <typename T>
static void check_segments(size_t B, size_t V, size_t longest, bool ignoring) {
    size_t *start = (size_t *)test_memory(B + 1, sizeof(size_t));
    start[0] = 0;
    for (size_t b = 0; b < B; b++) start[b + 1] = start[b] + (b == 1 ? longest : b * 3 % 19);
    const size_t N = start[B];
    float *table = floats((V + 1) * V), *logp = floats(N * V);
    int *token = (int *)test_memory(N, sizeof(int)), *given = (int *)test_memory(N, sizeof(int));
    double *l = (double *)test_memory(B, sizeof(double)),
           *again = (double *)test_memory(B, sizeof(double));
    double *left_out = (double *)test_memory(B, sizeof(double));
    llm_rng rng = llm_rng_seed(B + V);
    for (size_t i = 0; i < (V + 1) * V; i++) table[i] = -10.0f * llm_rng_uniform(&rng);
    to_device_as<T>(table, (V + 1) * V); /* rounds */
    for (size_t n = 0; n < N; n++) given[n] = token[n] = (int)llm_rng_below(&rng, V);
    for (size_t b = 0; b < B; b++) {
        left_out[b] = 0.0;
        for (size_t n = start[b]; n < start[b + 1]; n++) {
            const float *row = n == start[b] ? table : table + (size_t)(token[n - 1] + 1) * V;
            memcpy(logp + n * V, row, V * sizeof(float));
            if (!ignoring || n % 3 != 1) continue;
            given[n] = -100;
            left_out[b] += (double)row[token[n]];
        }
    }
    const T *d_logp = to_device_as<T>(logp, N * V);
    double *d_l = to_device<double>(NULL, B);
    const int *d_token = to_device(given, N);
    const size_t *d_start = to_device(start, B + 1);
    CHECK_CUDA(llm_cuda_log_likelihood_segments(d_l, d_logp, d_token, d_start, -100, B, V, 0));
    from_device(l, d_l, B);
    for (size_t b = 0; b < B; b++) {
        const double want = llm_log_likelihood_sequence(table, table + V, token + start[b],
                                                        start[b + 1] - start[b], V);
        CHECK_NEAR(l[b], want - left_out[b], 1e-12 * (1.0 - want));
    }
    CHECK_CUDA(llm_cuda_log_likelihood_segments(d_l, d_logp, d_token, d_start, -100, B, V, 0));
    CHECK(memcmp(from_device(again, d_l, B), l, B * sizeof(double)) == 0);
}

TEST(log_likelihood,
     "sums of sequences of any length equal the reference, ignored tokens left out") {
    const size_t sizes[5][3] = {
        {1, 1, 0}, {2, 3, 255}, {3, 17, 257}, {31, 5, 1000}, {40, 64, 3001}};
    for (size_t s = 0; s < (TEST_SLOW ? 3 : 5); s++) {
        check_segments<float>(sizes[s][0], sizes[s][1], sizes[s][2], s % 2);
        check_segments<llm_bf16>(sizes[s][0], sizes[s][1], sizes[s][2], s % 2 == 0);
    }
    CHECK_CUDA(llm_cuda_log_likelihood_segments((double *)NULL, (float *)NULL, (int *)NULL,
                                                (size_t *)NULL, -100, 0, 3, 0));
}

TEST(log_likelihood, "an impossible token is -inf, one that does not exist NaN, and only there") {
    const float logp[8] = {-1, -INFINITY, -2, -3, -4, -5, -6, -7};
    const int token[4] = {1, 0, 2, 1};
    const size_t start[5] = {0, 2, 2, 3, 4};
    double l[4], *d_l = to_device<double>(NULL, 4);
    CHECK_CUDA(llm_cuda_log_likelihood_segments(d_l, to_device(logp, 8), to_device(token, 4),
                                                to_device(start, 5), -100, 4, 2, 0));
    from_device(l, d_l, 4);
    CHECK(isinf(l[0]) && l[0] < 0.0 && l[1] == 0.0 && isnan(l[2]) && l[3] == -7.0);
}

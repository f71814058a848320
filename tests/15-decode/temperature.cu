/* @temperature */
#include "../test.h"

#include "../../llm_cuda.cuh"

/* Each row equals the reference's token with the same seed; row 1 has nothing, row 2 a NaN, row 3
 * one entry far above the others. */
template <typename T>
static void check_gumbel(size_t rows, size_t V, float temp, size_t offset, float spread) {
    const size_t n = rows * V;
    float *logits = floats(n + offset), *logprob = floats(rows), *p = floats(V);
    int *token = (int *)test_memory(rows, sizeof(int));
    uint64_t *seed = (uint64_t *)test_memory(rows, sizeof(uint64_t));
    llm_rng rng = llm_rng_seed(V * 7 + rows);
    for (size_t i = 0; i < n + offset; i++) logits[i] = spread * llm_rng_normal(&rng);
    for (size_t row = 0; row < rows; row++) seed[row] = (uint64_t)llm_rng_u32(&rng) << 32 | row;
    float *z = logits + offset;
    for (size_t i = 0; i < V && rows > 3; i++) z[V + i] = -INFINITY;
    if (rows > 3) z[2 * V + V / 2] = NAN, z[3 * V + V / 3] = 40.0f * temp;
    const T *d_logits = to_device_as<T>(logits, n + offset) + offset;
    int *d_token = to_device<int>(NULL, rows);
    float *d_logprob = to_device<float>(NULL, rows);
    llm_cuda_temperature_part *d_part =
        to_device<llm_cuda_temperature_part>(NULL, rows * LLM_CUDA_GREEDY_PIECES);
    const uint64_t *d_seed = to_device(seed, rows);
#ifndef __CUDACC__
    emulate_count();
#endif
    CHECK_CUDA(llm_cuda_temperature_gumbel(d_token, d_logprob, d_part, d_logits, d_seed, rows, V,
                                           temp, 0));
#ifndef __CUDACC__
    CHECK(emulate_counted.read <= (n + rows) * sizeof(T)); /* each logit once, and the drawn one */
#endif
    from_device(token, d_token, rows);
    from_device(logprob, d_logprob, rows);
    for (size_t row = 0; row < rows; row++) {
        llm_rng draw = llm_rng_seed(seed[row]);
        const int want = llm_temperature_gumbel(z + row * V, V, temp, &draw);
        CHECK((want == -1) == (rows > 3 && (row == 1 || row == 2)));
        if (want < 0) {
            CHECK(token[row] == -1 && isnan(logprob[row]));
            continue;
        }
        CHECK(token[row] >= 0 && (size_t)token[row] < V);
#ifdef __CUDACC__
        float best[2]; /* two libraries' logarithms: as good as the reference's */
        for (size_t i = 0; i < 2; i++) {
            const size_t at = (size_t)(i ? want : token[row]);
            llm_rng again = llm_rng_seed(seed[row]);
            for (size_t skip = 0; skip < at; skip++) llm_rng_u32(&again);
            const float u = ((float)(llm_rng_u32(&again) >> 9) + 0.5f) * (1.0f / 8388608.0f);
            best[i] = z[row * V + at] / temp - logf(-logf(u));
        }
        CHECK_NEAR(best[0], best[1], 1e-5);
#else
        CHECK(token[row] == want);
#endif
        llm_softmax_forward(p, z + row * V, 1, V, temp);
        CHECK_NEAR(logprob[row], logf(p[token[row]]), 1e-5 * (1.0 - (double)logprob[row]));
    }
    CHECK_CUDA(llm_cuda_temperature_gumbel(d_token, (float *)NULL, d_part, d_logits, d_seed, rows,
                                           V, temp, 0));
    int *again = (int *)test_memory(rows, sizeof(int));
    CHECK(memcmp(from_device(again, d_token, rows), token, rows * sizeof(int)) == 0);
}

TEST(temperature, "Gumbel's draws equal the reference's with the same seeds, and their logarithm") {
    const size_t sizes[8] = {1, 2, 31, 40, 1024, 4097, 8200, 20003};
    for (size_t s = 0; s < (TEST_SLOW ? 6 : 8); s++) {
        check_gumbel<float>(5, sizes[s], 1.0f, 0, 1.0f);
        check_gumbel<float>(2, sizes[s], 0.3f, 1, 3.0f);
        check_gumbel<llm_bf16>(4 + s % 3, sizes[s], 1.7f, s % 2, 3.0f);
        check_gumbel<llm_bf16>(1, sizes[s], 1.0f, 0, 0.1f);
    }
    check_gumbel<float>(TEST_SLOW ? 9 : 300, 6, 1.0f, 0, 1.0f); /* more rows than a merge block */
    check_gumbel<float>(1, 4096 * 40, 1.0f, 0, 0.0f);           /* pieces; all alike */
}

TEST(temperature,
     "frequencies pass chi-square against softmax, and a temperature of 0 is refused") {
    enum { V = 7, N = TEST_SLOW ? 500 : 20000 };
    const float z[V] = {0.0f, 2.0f, -1.0f, -INFINITY, 1.0f, 0.5f, -3.0f};
    float p[V], *logits = floats(N * V);
    size_t count[V] = {0};
    uint64_t *seed = (uint64_t *)test_memory(N, sizeof(uint64_t));
    int *token = (int *)test_memory(N, sizeof(int)), *d_token = to_device<int>(NULL, N);
    for (size_t i = 0; i < N * V; i++) logits[i] = z[i % V];
    for (size_t i = 0; i < N; i++) seed[i] = i;
    const float *d_logits = to_device(logits, N * V);
    CHECK_CUDA(llm_cuda_temperature_gumbel(d_token, (float *)NULL,
                                           (llm_cuda_temperature_part *)NULL, d_logits,
                                           to_device(seed, N), N, V, 2.0f, 0));
    from_device(token, d_token, N);
    for (size_t i = 0; i < N; i++) count[token[i]]++;
    llm_softmax_forward(p, z, 1, V, 2.0f);
    double chi = 0.0;
    for (size_t i = 0; i < V; i++) {
        const double want = (double)N * (double)p[i], off = (double)count[i] - want;
        if (i != 3) chi += off * off / want;
    }
    CHECK(count[3] == 0 && chi < 20.6); /* 5 degrees of freedom: 1 seed in 1000 is above */
    CHECK(llm_cuda_temperature_gumbel(d_token, (float *)NULL, (llm_cuda_temperature_part *)NULL,
                                      d_logits, (uint64_t *)NULL, 1, V, 0.0f, 0) != cudaSuccess);
}

TEST(temperature, "an entry far below the best so far still wins when its noise is large enough") {
    enum { V = 8, N = TEST_SLOW ? 200 : 6000 };
    float *logits = floats(N * V);
    uint64_t *seed = (uint64_t *)test_memory(N, sizeof(uint64_t));
    int *token = (int *)test_memory(N, sizeof(int)), *d_token = to_device<int>(NULL, N);
    size_t others = 0;
    for (size_t i = 0; i < N * V; i++) logits[i] = i % V == 0 ? 6.0f : 0.0f;
    for (size_t i = 0; i < N; i++) seed[i] = i;
    CHECK_CUDA(
        llm_cuda_temperature_gumbel(d_token, (float *)NULL, (llm_cuda_temperature_part *)NULL,
                                    to_device(logits, N * V), to_device(seed, N), N, V, 1.0f, 0));
    from_device(token, d_token, N);
    for (size_t i = 0; i < N; i++) {
        llm_rng rng = llm_rng_seed(seed[i]);
        CHECK(token[i] == llm_temperature_gumbel(logits, V, 1.0f, &rng));
        others += token[i] != 0;
    }
    const double want = 7.0 / (7.0 + exp(6.0)); /* 1.7% */
    CHECK_NEAR((double)others / N, want, 4.5 * sqrt(want / N));
}

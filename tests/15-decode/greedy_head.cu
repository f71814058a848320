/* @greedy_head */
#include "../test.h"

#include "../../llm_cuda.cuh"

#include "../tiny_stored_matrix_cuda.h"

/* Small whole numbers: sums are exact and ties frequent. Token 2 meets a NaN, token 3 nothing. */
template <typename X> static void check_exact(size_t V, size_t C, size_t N, bool normed) {
    llm_stored_matrix w = {NULL, LLM_GGUF_BLOCKS_F32, V, C};
    float *data = floats(V * C), *x = floats(N * C), *gain = floats(C), *z = floats(V);
    llm_rng rng = llm_rng_seed(V * 7 + C + N);
    for (size_t i = 0; i < V * C; i++) data[i] = (float)llm_rng_below(&rng, 5) - 2.0f;
    for (size_t i = 0; i < N * C; i++) x[i] = (float)llm_rng_below(&rng, 3) - 1.0f;
    for (size_t i = 0; i < C; i++) gain[i] = (float)llm_rng_below(&rng, 3);
    for (size_t i = 0; i < C && N > 3; i++) x[3 * C + i] = 0.0f;
    if (N > 2) x[2 * C + C - 1] = NAN;
    X *d_x = to_device_as<X>(x, N * C);
    w.data = (const unsigned char *)to_device(data, V * C);
    int *token = to_device<int>(NULL, N), got[8];
    unsigned long long *part = to_device<unsigned long long>(NULL, N * LLM_CUDA_GREEDY_HEAD_BLOCKS);
#ifndef __CUDACC__
    emulate_count();
#endif
    CHECK_CUDA(
        llm_cuda_greedy_head_pick(token, part, d_x, w, normed ? to_device(gain, C) : NULL, N, 0));
#ifndef __CUDACC__
    CHECK(emulate_counted.written == 0); /* no logits */
#endif
    from_device(got, token, N);
    for (size_t n = 0; n < N; n++) {
        for (size_t v = 0; v < V; v++) {
            z[v] = 0.0f;
            for (size_t i = 0; i < C; i++)
                z[v] += data[v * C + i] * x[n * C + i] * (normed ? gain[i] : 1.0f);
        }
        CHECK(got[n] == llm_greedy_pick(z, V));
        if (n == 2) CHECK(got[n] == -1);
        if (n == 3) CHECK(got[n] == 0);
    }
}

TEST(greedy_head, "the lowest of the best rows, for one token and for eight; NaN is -1") {
    const size_t sizes[6] = {1, 2, 3, 16, 67, 300};
    for (size_t s = 0; s < (TEST_SLOW ? 4 : 6); s++) {
        check_exact<float>(sizes[s], 40, s % 2 ? 1 : 5, s % 3 == 0);
        check_exact<llm_bf16>(sizes[s], 256, s % 2 ? 8 : 1, s % 3 == 1);
    }
    if (TEST_SLOW) return;
    check_exact<float>(700, 264, 4, true);
    check_exact<float>(40, 8, 2, false);
}

TEST(greedy_head, "every form of weights: behind the whole norm no logit is larger") {
    const llm_gguf_blocks_type type[6] = {LLM_GGUF_BLOCKS_F16,  LLM_GGUF_BLOCKS_BF16,
                                          LLM_GGUF_BLOCKS_Q8_0, LLM_GGUF_BLOCKS_Q4_0,
                                          LLM_GGUF_BLOCKS_Q4_K, LLM_GGUF_BLOCKS_Q6_K};
    for (int t = 0; t < (TEST_SLOW ? 3 : 6); t++) {
        const size_t V = 45, C = 512, N = 2;
        llm_stored_matrix w = {NULL, type[t], V, C};
        const size_t bytes = V * llm_stored_matrix_stride(&w);
        size_t weights = 1, block = 1;
        llm_gguf_blocks_name(&weights, &block, (uint32_t)type[t]);
        unsigned char *data = (unsigned char *)test_memory(bytes, 1);
        float *x = floats(N * C), *gain = floats(C), *normed = floats(N * C), *z = floats(N * V);
        float rstd[2];
        llm_rng rng = llm_rng_seed((uint64_t)t);
        llm_rng_normal_fill(&rng, x, N * C);
        for (size_t i = 0; i < C; i++) gain[i] = 0.5f + llm_rng_uniform(&rng);
        for (size_t i = 0; i < bytes; i++) data[i] = (unsigned char)llm_rng_below(&rng, 256);
        if (weights > 1) tiny_stored_matrix_scales(data, bytes, block, type[t]);
        for (size_t i = 0; i < bytes && weights == 1; i += 2) /* between 2^-7 and 2 */
            data[i + 1] = (unsigned char)((data[i + 1] & 0x80) | (t == 0 ? 0x30 : 0x3d));
        w.data = data;
        llm_rmsnorm_forward(normed, rstd, x, gain, N, C, 1e-5f);
        llm_stored_matrix_forward(z, normed, &w, NULL, N);
        const llm_stored_matrix d = tiny_stored_matrix_on_device(w);
        int *token = to_device<int>(NULL, N), got[2];
        unsigned long long *part =
            to_device<unsigned long long>(NULL, N * LLM_CUDA_GREEDY_HEAD_BLOCKS);
        CHECK_CUDA(llm_cuda_greedy_head_pick(token, part, to_device(x, N * C), d,
                                             to_device(gain, C), N, 0));
        from_device(got, token, N);
        for (size_t n = 0; n < N; n++) {
            CHECK(got[n] >= 0 && (size_t)got[n] < V);
            const int best = llm_greedy_pick(z + n * V, V);
            CHECK(z[n * V + (size_t)got[n]] >= z[n * V + (size_t)best] - 1e-3f);
        }
    }
}

TEST(greedy_head, "no token; too many; no rows; a form that is not known; addresses") {
    float *d = to_device(zeros(64), 64);
    llm_stored_matrix w = {(const unsigned char *)d, LLM_GGUF_BLOCKS_F32, 2, 8};
    const float *none = NULL;
    int *token = to_device<int>(NULL, 9);
    unsigned long long *part = to_device<unsigned long long>(NULL, 9 * 4096);
    CHECK_CUDA(llm_cuda_greedy_head_pick(token, part, d, w, none, 0, 0));
    CHECK_CUDA(llm_cuda_greedy_head_pick(token, part, d, w, none, 8, 0));
    CHECK(llm_cuda_greedy_head_pick(token, part, d, w, none, 9, 0) != cudaSuccess);
    CHECK(llm_cuda_greedy_head_pick(token, part, d + 1, w, none, 1, 0) != cudaSuccess);
    CHECK(llm_cuda_greedy_head_pick(token, part, d, w, d + 1, 1, 0) != cudaSuccess);
    w.rows = 0;
    CHECK(llm_cuda_greedy_head_pick(token, part, d, w, none, 1, 0) != cudaSuccess);
    w.rows = 2, w.columns = 7;
    CHECK(llm_cuda_greedy_head_pick(token, part, d, w, none, 1, 0) != cudaSuccess);
}

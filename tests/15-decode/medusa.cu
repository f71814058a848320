/* @medusa */
#include "../test.h"

#include "../../llm_cuda.cuh"

/* The S best of random rows, many of them equal, beside a sort. */
template <typename T> static void check_top(size_t K, size_t N, size_t V, size_t S, uint64_t seed) {
    float *z = floats(K * N * V);
    int *got = (int *)test_memory(N * K * S, sizeof(int)), *d_top = to_device<int>(NULL, N * K * S);
    llm_rng rng = llm_rng_seed(seed);
    for (size_t i = 0; i < K * N * V; i++)
        z[i] = seed % 2 ? (float)llm_rng_below(&rng, 40) - 20.0f : llm_rng_normal(&rng);
    for (size_t v = 0; v < V && seed % 3 == 0; v++) z[v] = (float)v; /* every one is better */
    if (V > 3) z[V - 1] = -INFINITY, z[V - 2] = INFINITY;
    CHECK_CUDA(llm_cuda_medusa_top(d_top, to_device_as<T>(z, K * N * V), K, N, V, S, 0));
    from_device(got, d_top, N * K * S);
    bool *gone = (bool *)test_memory(V, sizeof(bool));
    for (size_t row = 0; row < K * N; row++) {
        memset(gone, 0, V);
        for (size_t s = 0; s < S; s++) {
            size_t best = V;
            for (size_t v = 0; v < V; v++)
                if (!gone[v] && (best == V || z[row * V + v] > z[row * V + best])) best = v;
            if (best < V) gone[best] = true;
            CHECK(got[(row % N * K + row / N) * S + s] == (best < V ? (int)best : -1));
        }
    }
}

TEST(medusa, "the best of a row in order, ties to the lower id, fewer where there are no more") {
    const size_t sizes[6] = {1, 5, 32, 33, 100, 700};
    for (uint64_t round = 0; round < (TEST_SLOW ? 3 : 6); round++) {
        check_top<float>(2, 3, sizes[round % 6], 1 + round * 7 % 32, round);
        check_top<llm_bf16>(3, 1, sizes[(round + 3) % 6], 32, round + 50);
    }
    if (TEST_SLOW) return;
    check_top<float>(1, 1, 1500, 32, 99); /* in rising order: every entry is inserted */
    float z[4] = {1, NAN, 3, 2};
    int got[2], *d_top = to_device<int>(NULL, 2);
    CHECK_CUDA(llm_cuda_medusa_top(d_top, to_device(z, 4), 1, 1, 4, 2, 0));
    CHECK(from_device(got, d_top, 2)[0] == -1 && got[1] == 2);
    CHECK(llm_cuda_medusa_top(d_top, z, 1, 1, 4, 33, 0) != cudaSuccess);
    CHECK_CUDA(llm_cuda_medusa_top(d_top, z, 0, 1, 4, 2, 0));
    CHECK_CUDA(llm_cuda_medusa_top(d_top, z, 1, 1, 4, 0, 0));
}

TEST(medusa, "states, logits and guesses are those of llm_medusa_forward") {
    const size_t K = 3, C = 40, V = 61, S = 4;
    for (size_t N = 1; N < 9; N += 7) {
        llm_rng rng = llm_rng_seed(N);
        float *w = floats(llm_medusa_count(K, C, V)), *h = floats(N * C);
        float *want_z = floats(K * N * V), *u = floats(K * N * C), *want_r = floats(K * N * C);
        float *z = floats(K * N * V), *r = floats(K * N * C), *w1 = floats(K * C * C);
        float *bias = floats(K * C);
        llm_stored_matrix first = {NULL, LLM_GGUF_BLOCKS_F32, K * C, C}, second[3];
        llm_rng_normal_fill(&rng, w, llm_medusa_count(K, C, V));
        llm_rng_normal_fill(&rng, h, N * C);
        for (size_t i = 0; i < llm_medusa_count(K, C, V); i++) w[i] *= 0.3f;
        for (size_t k = 0; k < K; k++) {
            const llm_medusa_head head = llm_medusa_bind(w, k, C, V);
            memcpy(w1 + k * C * C, head.w1, C * C * sizeof(float));
            memcpy(bias + k * C, head.b, C * sizeof(float));
            second[k].data = (const unsigned char *)to_device(head.w2, V * C);
            second[k].type = LLM_GGUF_BLOCKS_F32, second[k].rows = V, second[k].columns = C;
        }
        first.data = (const unsigned char *)to_device(w1, K * C * C);
        llm_medusa_forward(want_z, u, want_r, h, w, K, N, C, V);
        float *d_z = to_device<float>(NULL, K * N * V), *d_r = to_device<float>(NULL, K * N * C);
        int *d_top = to_device<int>(NULL, N * K * S), *top = (int *)test_memory(N * K * S, 4);
        CHECK_CUDA(llm_cuda_medusa_guess(d_top, d_z, d_r, to_device(h, N * C), first,
                                         to_device(bias, K * C), second, K, N, C, S, 0));
        CHECK_ALL_NEAR(from_device(r, d_r, K * N * C), want_r, K * N * C, 2e-5f);
        CHECK_ALL_NEAR(from_device(z, d_z, K * N * V), want_z, K * N * V, 1e-4f);
        from_device(top, d_top, N * K * S);
        for (size_t k = 0; k < K; k++)
            for (size_t n = 0; n < N; n++) {
                size_t index[4];
                llm_top_k_select(index, z + (k * N + n) * V, V, S);
                for (size_t s = 0; s < S; s++) CHECK(top[(n * K + k) * S + s] == (int)index[s]);
            }
        first.rows = K * C - 1; /* not the heads' */
        CHECK(llm_cuda_medusa_states(d_r, d_z, first, d_z, K, N, C, 0) != cudaSuccess);
        first.rows = K * C, first.columns = C + 8;
        CHECK(llm_cuda_medusa_guess(d_top, d_z, d_r, d_z, first, d_z, second, K, N, C, S, 0) !=
              cudaSuccess);
    }
}

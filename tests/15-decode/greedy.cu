/* @greedy */
#include "../test.h"

#include "../../llm_cuda.cuh"

/* Few different values, so that there are ties: in a thread, between threads and between blocks. */
template <typename T> static void check_pick(size_t rows, size_t V, size_t offset) {
    const size_t n = rows * V;
    float *logits = floats(n + offset);
    int *got = (int *)test_memory(rows, sizeof(int));
    llm_rng rng = llm_rng_seed(V * 9 + rows);
    for (size_t i = 0; i < n + offset; i++) logits[i] = (float)llm_rng_below(&rng, 60) - 59.0f;
    for (size_t i = 0; i < n; i++) {
        const size_t row = i / V;
        float *z = logits + offset + i;
        if (row == 1) *z = -INFINITY;
        if (row == 2 && *z == 0.0f && llm_rng_below(&rng, 2)) *z = -0.0f;
        if (row == 3 && i % V == V / 3) *z = INFINITY;
    }
    if (rows > 4) logits[offset + 4 * V + V * 2 / 3] = NAN;
    if (rows > 5) logits[offset + 5 * V] = -NAN;
    const T *d_logits = to_device_as<T>(logits, n + offset);
    int *d_token = to_device<int>(NULL, rows);
    unsigned long long *d_part = to_device<unsigned long long>(NULL, rows * LLM_CUDA_GREEDY_PIECES);
#ifndef __CUDACC__
    emulate_count();
#endif
    CHECK_CUDA(llm_cuda_greedy_pick(d_token, d_part, d_logits + offset, rows, V, 0));
#ifndef __CUDACC__
    CHECK(emulate_counted.read == n * sizeof(T)); /* each logit once */
#endif
    from_device(got, d_token, rows);
    for (size_t row = 0; row < rows; row++) {
        CHECK(got[row] == llm_greedy_pick(logits + offset + row * V, V));
        CHECK((got[row] == -1) == (row == 4 || row == 5));
    }
}

TEST(greedy, "rows of one block and of many: the lowest index of the largest, NaN is -1") {
    const size_t sizes[8] = {1, 2, 31, 40, 1024, 4097, 8200, 20003};
    for (size_t s = 0; s < (TEST_SLOW ? 6 : 8); s++) {
        check_pick<float>(7, sizes[s], 0);
        check_pick<float>(1, sizes[s], 1);
        check_pick<llm_bf16>(2, sizes[s], s % 2);
        check_pick<llm_bf16>(s % 3 + 3, sizes[s], 0);
    }
    check_pick<float>(TEST_SLOW ? 9 : 200, 40, 0); /* more rows than fit in a block of the merge */
    check_pick<float>(1, 4096 * 40, 0);            /* more pieces than lanes */
    CHECK(llm_cuda_greedy_pieces(1, 1) == 1 && llm_cuda_greedy_pieces(1 << 20, 1 << 20) == 1);
    CHECK(llm_cuda_greedy_pick((int *)NULL, NULL, (float *)NULL, 0, 5, 0) == cudaSuccess);
    CHECK(llm_cuda_greedy_pick((int *)NULL, NULL, (float *)NULL, 1, 0, 0) != cudaSuccess);
}

TEST(greedy, "the largest is found at every place") {
    enum { V = 4200 };
    float *logits = floats(V);
    int got = -7;
    int *d_token = to_device<int>(NULL, 1);
    unsigned long long *d_part = to_device<unsigned long long>(NULL, LLM_CUDA_GREEDY_PIECES);
    for (size_t i = 0; i < V; i++) logits[i] = -INFINITY;
    for (size_t at = 0; at < V; at += at < 10 ? 1 : TEST_SLOW ? 999 : 97) {
        logits[at] = -3e38f;
        CHECK_CUDA(llm_cuda_greedy_pick(d_token, d_part, to_device(logits, V), 1, V, 0));
        CHECK(*from_device(&got, d_token, 1) == (int)at);
        logits[at] = -INFINITY;
    }
}

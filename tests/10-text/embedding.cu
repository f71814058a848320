/* @embedding */
#include "../test.h"

#include "../../llm_cuda.cuh"

template <typename T> static void check_embedding(size_t N, size_t V, size_t C, size_t offset) {
    float *w = floats(V * C), *dy = floats(N * C), *dw = floats(V * C), *want = floats(N * C);
    float *got = floats((N > V ? N : V) * C);
    int *ids = (int *)test_memory(N, sizeof(int)), *order = (int *)test_memory(N, sizeof(int));
    int *segment = (int *)test_memory(N + 1, sizeof(int));
    int *scratch = (int *)test_memory(V + 1, sizeof(int));
    llm_rng rng = llm_rng_seed(N + C);
    llm_rng_normal_fill(&rng, w, V * C);
    llm_rng_normal_fill(&rng, dy, N * C);
    llm_rng_normal_fill(&rng, dw, V * C);
    for (size_t n = 0; n < N; n++) { /* half of the text is one word */
        ids[n] = llm_rng_uniform(&rng) < 0.5f ? (int)(V / 2) : (int)llm_rng_below(&rng, V);
    }
    const int *d_ids = to_device(ids, N);
    const T *d_w = to_device_as<T>(w, V * C), *d_dy = to_device_as<T>(dy, N * C);
    T *d_y = to_device<T>(NULL, N * C + offset);
    float *d_dw = to_device(dw, V * C);
#ifndef __CUDACC__
    emulate_count();
#endif
    CHECK_CUDA(llm_cuda_embedding_forward(d_y + offset, d_ids, d_w, N, V, C, 0));
#ifndef __CUDACC__
    CHECK(emulate_counted.read == N * C * sizeof(T) &&
          emulate_counted.written == N * C * sizeof(T));
#endif
    llm_embedding_forward(want, ids, w, N, V, C);
    CHECK_ALL_NEAR(from_device_as(got, d_y + offset, N * C), want, N * C, 0.0f);

    const size_t segments = llm_cuda_embedding_sort(order, segment, ids, N, V, scratch);
    CHECK(segments <= N && segments <= V && (size_t)segment[segments] == N);
#ifndef __CUDACC__
    emulate_count();
#endif
    CHECK_CUDA(llm_cuda_embedding_backward(d_dw, d_dy, d_ids, to_device(order, N),
                                           to_device(segment, segments + 1), segments, C, 0));
#ifndef __CUDACC__
    CHECK(emulate_counted.read == N * C * sizeof(T) + segments * C * sizeof(float));
    CHECK(emulate_counted.written == segments * C * sizeof(float));
#endif
    llm_embedding_backward(dw, dy, ids, N, V, C);
    CHECK_ALL_NEAR(from_device(got, d_dw, V * C), dw, V * C, 1e-6f * (float)(N + 2));
}

TEST(embedding, "rows are gathered exactly, and gradients of repeated ids added without atomics") {
    const size_t widths[7] = {1, 3, 32, 100, 128, 256, 776};
    for (size_t s = 0; s < (TEST_SLOW ? 5 : 7); s++) {
        check_embedding<float>(1 + 7 * s, 11, widths[s], 0);
        check_embedding<float>(50, 5 + s, widths[s], 1);
        check_embedding<llm_bf16>(30, 40, widths[s], s % 2);
        check_embedding<llm_bf16>(9, 1, widths[s] / 8 * 8 + 8, 0);
    }
    CHECK_CUDA(llm_cuda_embedding_forward((float *)NULL, (int *)NULL, (float *)NULL, 0, 3, 4, 0));
    CHECK_CUDA(llm_cuda_embedding_backward((float *)NULL, (float *)NULL, (int *)NULL, (int *)NULL,
                                           (int *)NULL, 0, 4, 0));
}

TEST(embedding, "an id outside the table gives NaN and comes in no segment; the sort is stable") {
    const int ids[7] = {2, 0, -1, 2, 3, 0, 2};
    int order[7], segment[8], scratch[4];
    float w[6] = {1, 2, 3, 4, 5, 6}, got[14];
    CHECK(llm_cuda_embedding_sort(order, segment, ids, 7, 3, scratch) == 2);
    const int want_order[5] = {1, 5, 0, 3, 6}, want_segment[3] = {0, 2, 5};
    CHECK(memcmp(order, want_order, sizeof want_order) == 0);
    CHECK(memcmp(segment, want_segment, sizeof want_segment) == 0);
    float *d_y = to_device<float>(NULL, 14);
    CHECK_CUDA(llm_cuda_embedding_forward(d_y, to_device(ids, 7), to_device(w, 6), 7, 3, 2, 0));
    from_device(got, d_y, 14);
    for (size_t i = 0; i < 14; i++) {
        const int id = ids[i / 2];
        if (id < 0 || id > 2)
            CHECK(isnan(got[i]));
        else
            CHECK(got[i] == w[2 * id + (int)i % 2]);
    }
}

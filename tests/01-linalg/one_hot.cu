/* @one_hot */
#include "../test.h"

#include "../../llm_cuda.cuh"

/* The kernels of @embedding are gather and scatter-add: here against products with the encoding. */
TEST(one_hot,
     "gather equals the product with the encoding, scatter-add its transpose, on a GPU too") {
    const size_t sizes[4][3] = {{1, 1, 1}, {40, 7, 5}, {33, 3, 36}, {9, 20, 130}}; /* N, rows, C */
    for (size_t s = 0; s < 4; s++) {
        const size_t N = sizes[s][0], n = sizes[s][1], C = sizes[s][2];
        float *w = floats(n * C), *dy = floats(N * C), *dw = floats(n * C), *hot = zeros(N * n);
        float *want = zeros(N * C), *got = floats((N > n ? N : n) * C), *sum = floats(n * C);
        size_t *index = (size_t *)test_memory(N, sizeof(size_t));
        int *ids = (int *)test_memory(N, sizeof(int)), *order = (int *)test_memory(N, sizeof(int));
        int *segment = (int *)test_memory(N + 1, sizeof(int));
        int *scratch = (int *)test_memory(n + 1, sizeof(int));
        llm_rng rng = llm_rng_seed(s + 1);
        llm_rng_normal_fill(&rng, w, n * C);
        llm_rng_normal_fill(&rng, dy, N * C);
        llm_rng_normal_fill(&rng, dw, n * C);
        for (size_t i = 0; i < N; i++) {
            index[i] = llm_rng_below(&rng, n);
            ids[i] = (int)index[i];
            hot[i * n + index[i]] = 1.0f;
        }
        for (size_t i = 0; i < N; i++)
            for (size_t j = 0; j < n; j++)
                for (size_t c = 0; c < C; c++) want[i * C + c] += hot[i * n + j] * w[j * C + c];
        const int *d_ids = to_device(ids, N);
        float *d_y = to_device<float>(NULL, N * C), *d_dw = to_device(dw, n * C);
        CHECK_CUDA(llm_cuda_embedding_forward(d_y, d_ids, to_device(w, n * C), N, n, C, 0));
        CHECK_ALL_NEAR(from_device(got, d_y, N * C), want, N * C, 0.0f);

        for (size_t j = 0; j < n; j++)
            for (size_t c = 0; c < C; c++) {
                double all = (double)dw[j * C + c];
                for (size_t i = 0; i < N; i++)
                    all += (double)hot[i * n + j] * (double)dy[i * C + c];
                sum[j * C + c] = (float)all;
            }
        const size_t segments = llm_cuda_embedding_sort(order, segment, ids, N, n, scratch);
        CHECK_CUDA(llm_cuda_embedding_backward(d_dw, to_device(dy, N * C), d_ids,
                                               to_device(order, N),
                                               to_device(segment, segments + 1), segments, C, 0));
        CHECK_ALL_NEAR(from_device(got, d_dw, n * C), sum, n * C, 1e-5f);
        llm_one_hot_scatter_add(dw, dy, index, N, n, C);
        CHECK_ALL_NEAR(dw, sum, n * C, 1e-5f);
    }
}

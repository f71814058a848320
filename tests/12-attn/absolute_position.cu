/* @absolute_position */
#include "../test.h"

#include "../../llm_cuda.cuh"

template <typename T> static void check_embed(size_t N, size_t period, size_t C, bool given) {
    const size_t V = 13, M = 9;
    float *wte = floats(V * C), *wpe = floats(M * C), *got = floats(N * C), *want = floats(N * C);
    int *ids = (int *)test_memory(N, sizeof(int)), *pos = (int *)test_memory(N, sizeof(int));
    llm_rng rng = llm_rng_seed(N + C);
    llm_rng_normal_fill(&rng, wte, V * C);
    llm_rng_normal_fill(&rng, wpe, M * C);
    for (size_t n = 0; n < N; n++) {
        ids[n] = (int)llm_rng_below(&rng, V);
        pos[n] = given ? (int)llm_rng_below(&rng, M) : (int)(n % period);
    }
    T *d_y = to_device<T>(NULL, N * C);
    const T *d_wte = to_device_as<T>(wte, V * C), *d_wpe = to_device_as<T>(wpe, M * C);
    const int *d_ids = to_device(ids, N), *d_pos = given ? to_device(pos, N) : NULL;
#ifndef __CUDACC__
    emulate_count();
#endif
    CHECK_CUDA(
        llm_cuda_absolute_position_embed(d_y, d_ids, d_pos, d_wte, d_wpe, N, V, M, period, C, 0));
#ifndef __CUDACC__
    CHECK(emulate_counted.read == 2 * N * C * sizeof(T));
    CHECK(emulate_counted.written == N * C * sizeof(T));
#endif
    llm_embedding_forward(want, ids, wte, N, V, C);
    llm_absolute_position_forward(want, want, wpe, pos, N, M, C);
    from_device_as(got, d_y, N * C);
    CHECK_ALL_NEAR(got, want, N * C, sizeof(T) == 4 ? 0.0f : 2e-2f); /* one rounding to bf16 */
}

TEST(absolute_position, "tokens and places are gathered and added in one pass, float and bf16") {
    const size_t widths[5] = {1, 3, 32, 100, 264};
    for (size_t s = 0; s < 5; s++) {
        check_embed<float>(1 + 6 * s, 4, widths[s], s % 2 == 0);
        check_embed<llm_bf16>(17, 9, widths[s], s % 2 == 1);
    }
    CHECK_CUDA(llm_cuda_absolute_position_embed((float *)NULL, (int *)NULL, (int *)NULL,
                                                (float *)NULL, (float *)NULL, 0, 3, 4, 1, 4, 0));
}

TEST(absolute_position, "what is in no table is NaN; the gradient is @embedding's, by places") {
    enum { N = 6, V = 3, M = 2, C = 2 };
    int ids[N] = {0, 3, -1, 2, 1, 0}, pos[N] = {1, 0, 0, 2, -1, 0};
    float w[6] = {1, 2, 3, 4, 5, 6}, got[N * C];
    float *d_y = to_device<float>(NULL, N * C), *d_w = to_device(w, 6);
    CHECK_CUDA(llm_cuda_absolute_position_embed(d_y, to_device(ids, N), to_device(pos, N), d_w, d_w,
                                                N, V, M, 1, C, 0));
    from_device(got, d_y, N * C);
    for (size_t i = 0; i < N * C; i++)
        CHECK(i / C == 0   ? got[i] == w[i] + w[2 + i]
              : i / C == 5 ? got[i] == 2.0f * w[i - 10]
                           : isnan(got[i]));

    float dy[N * C], dw[M * C] = {0}, want[M * C] = {0};
    int places[N] = {0, 1, 0, 1, 1, 0}, order[N], segment[N + 1], scratch[M + 1];
    for (size_t i = 0; i < N * C; i++) dy[i] = (float)i;
    const size_t segments = llm_cuda_embedding_sort(order, segment, places, N, M, scratch);
    float *d_dw = to_device(dw, M * C);
    CHECK_CUDA(llm_cuda_embedding_backward(d_dw, to_device(dy, N * C), to_device(places, N),
                                           to_device(order, N), to_device(segment, segments + 1),
                                           segments, C, 0));
    llm_absolute_position_backward(NULL, want, dy, places, -1, N, M, C);
    CHECK_ALL_NEAR(from_device(dw, d_dw, M * C), want, M * C, 0.0f);
}

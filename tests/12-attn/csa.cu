/* @csa */
#include "../test.h"

#include "../../llm_cuda.cuh"

template <typename T>
static void check_csa(size_t B, size_t H, size_t N, size_t S, size_t D, size_t k, size_t W,
                      bool sinks) {
    const size_t n = B * N * H * D;
    float *q = floats(n), *rows = floats(B * N * D), *entries = floats(B * S * D);
    float *sink = floats(H), *want = floats(n), *got = floats(n);
    float *lse = floats(n / D), *got_lse = floats(n / D);
    int *index = (int *)test_memory(B * N * k, sizeof(int));
    llm_rng rng = llm_rng_seed(n);
    llm_rng_normal_fill(&rng, q, n);
    llm_rng_normal_fill(&rng, rows, B * N * D);
    llm_rng_normal_fill(&rng, entries, B * S * D);
    llm_rng_normal_fill(&rng, sink, H);
    for (size_t bt = 0; bt < B * N; bt++) {
        const size_t some = llm_rng_below(&rng, k + 1);
        for (size_t i = 0; i < k; i++)
            index[bt * k + i] = i < some ? (int)llm_rng_below(&rng, S) : -1;
    }
    const T *d_q = to_device_as<T>(q, n), *d_rows = to_device_as<T>(rows, B * N * D);
    const T *d_entries = to_device_as<T>(entries, B * S * D);
    T *d_out = to_device<T>(NULL, n);
    float *d_lse = to_device<float>(NULL, n / D);
    llm_csa_config c = llm_csa_defaults(B, H, N, S, D, k, W);
    c.scale = 0.2f;
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 1 << 16));
    llm_csa_forward(want, lse, q, rows, entries, index, sinks ? sink : NULL, &c, &arena);
    llm_arena_destroy(&arena);
    CHECK_CUDA(llm_cuda_csa_forward(d_out, d_lse, d_q, d_rows, d_entries,
                                    to_device(index, B * N * k),
                                    sinks ? to_device(sink, H) : (const float *)NULL, &c, 0));
    CHECK_STORED(T, from_device_as(got, d_out, n), want, n, 1e-5f);
    CHECK_ALL_NEAR(from_device(got_lse, d_lse, n / D), lse, n / D, 1e-5f);
}

TEST(csa, "equals llm_csa_forward: lists that end early, heads not a multiple of 4, sinks") {
    check_csa<float>(1, 1, 1, 1, 1, 1, 1, false);
    check_csa<float>(2, 5, 4, 3, 7, 2, 3, true);
    check_csa<llm_bf16>(1, 3, 6, 5, 64, 4, 9, true);
    if (TEST_SLOW) return;
    check_csa<float>(1, 4, 3, 20, 130, 11, 2, true);
    check_csa<llm_bf16>(1, 2, 2, 3, 512, 0, 2, false);
}

TEST(csa, "shapes that are refused, and nothing to do") {
    float *d = to_device<float>(NULL, 1);
    llm_csa_config c = llm_csa_defaults(0, 1, 1, 1, 4, 1, 1);
    CHECK_CUDA(llm_cuda_csa_forward(d, d, d, d, d, (int *)NULL, d, &c, 0));
    c.W = 0;
    CHECK(llm_cuda_csa_forward(d, d, d, d, d, (int *)NULL, d, &c, 0) == cudaErrorInvalidValue);
    c.W = 1, c.D = 513;
    CHECK(llm_cuda_csa_forward(d, d, d, d, d, (int *)NULL, d, &c, 0) == cudaErrorInvalidValue);
    c.D = 0;
    CHECK(llm_cuda_csa_forward(d, d, d, d, d, (int *)NULL, d, &c, 0) == cudaErrorInvalidValue);
}

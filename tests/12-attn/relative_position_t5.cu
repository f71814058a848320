/* @relative_position_t5 */
#include "../test.h"

#include "../../llm_cuda.cuh"

template <typename U>
static void check_t5(size_t B, size_t H, size_t T, size_t S, size_t first, bool both) {
    llm_relative_position_t5_config c;
    c.H = H, c.T = T, c.S = S, c.first = first, c.buckets = 32, c.far = 40, c.both = both;
    const size_t n = B * H * T * S, diagonals = T + S - 1;
    float *s = floats(n), *w = floats(32 * H), *dw = floats(32 * H), *got = floats(n + 32 * H);
    size_t *index = (size_t *)test_memory(diagonals, sizeof(size_t));
    int *bucket = (int *)test_memory(diagonals, sizeof(int));
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 1 << 16));
    llm_rng rng = llm_rng_seed(T + S);
    llm_rng_normal_fill(&rng, s, n);
    llm_rng_normal_fill(&rng, w, 32 * H);
    llm_rng_normal_fill(&rng, dw, 32 * H);
    llm_relative_position_t5_diagonals(index, &c);
    for (size_t i = 0; i < diagonals; i++) bucket[i] = (int)index[i];
    U *d_s = to_device_as<U>(s, n);
    float *d_w = to_device(w, 32 * H), *d_dw = to_device(dw, 32 * H);
    const int *d_bucket = to_device(bucket, diagonals);
    double *d_scratch = to_device<double>(NULL, H * diagonals);
    CHECK_CUDA(
        llm_cuda_relative_position_t5_backward(d_dw, d_s, d_bucket, d_scratch, B, H, T, S, 32, 0));
    llm_relative_position_t5_backward(dw, s, B, &c, &arena);
    /* the reference adds each diagonal to a float, the kernel all of them to a double */
    test_all(__FILE__, __LINE__, "dw", from_device(got, d_dw, 32 * H), dw, 32 * H, 2e-6, 1.0, 1.0);
    CHECK_CUDA(llm_cuda_relative_position_t5_forward(d_s, d_w, d_bucket, B, H, T, S, 32, 0));
    llm_relative_position_t5_forward(s, w, B, &c, &arena);
    from_device_as(got, d_s, n);
    CHECK_ALL_NEAR(got, s, n, sizeof(U) == 4 ? 0.0f : 3e-2f); /* one rounding of sums up to 6 */
    llm_arena_destroy(&arena);
}

TEST(relative_position_t5,
     "bias and gradient equal the reference, for every shape and both modes") {
    for (int both = 0; both < 2; both++) {
        check_t5<float>(1, 1, 1, 1, 0, both);
        check_t5<float>(2, 3, 7, 5, 0, both);
        check_t5<float>(1, 2, 3, 140, 130, both);
        check_t5<float>(1, 1, TEST_SLOW ? 20 : 90, TEST_SLOW ? 20 : 90, 0, both);
        check_t5<llm_bf16>(2, 2, 5, 33, 20, both);
    }
    float *none = NULL;
    CHECK_CUDA(llm_cuda_relative_position_t5_forward(none, none, NULL, 0, 1, 1, 1, 32, 0));
    CHECK_CUDA(llm_cuda_relative_position_t5_backward(none, none, NULL, NULL, 1, 1, 0, 1, 32, 0));
    CHECK(llm_cuda_relative_position_t5_forward(none, none, NULL, 1, 1, 1, 1, 129, 0) ==
          cudaErrorInvalidValue);
    CHECK(llm_cuda_relative_position_t5_backward(none, none, NULL, NULL, 1, 1, 1, 1, 129, 0) ==
          cudaErrorInvalidValue);
}

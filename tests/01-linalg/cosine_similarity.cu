/* @cosine_similarity */
#include "../test.h"

#include "../../llm_cuda.cuh"

/* Against cosines in double: each score is that of its index, none that was left out is better by
 * more than rounding, and scores fall. Entries are multiples of 1/8 with `grid`: then equal rows,
 * which come often, have equal cosines, and the lower index has to be first. */
template <typename T>
static void check_topk(size_t N, size_t M, size_t n, size_t k, size_t offset, bool grid) {
    float *a = floats(N * n), *b = floats(M * n + offset), *score = floats(N * k);
    int *top = (int *)test_memory(N * k, sizeof(int));
    double *s = doubles(M);
    bool *taken = bools(M);
    llm_rng rng = llm_rng_seed(N + M + n);
    llm_rng_normal_fill(&rng, a, N * n);
    llm_rng_normal_fill(&rng, b, M * n + offset);
    for (size_t i = 0; grid && i < M; i++) { /* row i is row i / 2 or i / 3 again, at times */
        for (size_t j = 0; i > 4 && i % 3 > 0 && j < n; j++)
            b[offset + i * n + j] = b[offset + i / (1 + i % 3) * n + j];
    }
    const T *d_a = to_device_as<T>(a, N * n), *d_b = to_device_as<T>(b, M * n + offset) + offset;
    unsigned long long *d_part =
        to_device<unsigned long long>(NULL, N * k * LLM_CUDA_COSINE_SIMILARITY_PIECES);
    int *d_top = to_device<int>(NULL, N * k);
    float *d_score = to_device<float>(NULL, N * k);
    CHECK_CUDA(
        llm_cuda_cosine_similarity_topk(d_top, d_score, d_part, d_a, d_b, N, M, n, k, 1e-8f, 0));
    from_device(top, d_top, N * k);
    from_device(score, d_score, N * k);
    b += offset;
    for (size_t r = 0; r < N; r++) {
        const int *at = top + r * k;
        const float *got = score + r * k;
        for (size_t i = 0; i < M; i++) {
            s[i] = (double)llm_cosine_similarity_pair(a + r * n, b + i * n, n, 1e-8f);
            taken[i] = false;
        }
        for (size_t i = 0; i < k; i++) {
            CHECK(at[i] >= 0 && (size_t)at[i] < M && !taken[at[i]]);
            taken[at[i]] = true;
            CHECK_NEAR(got[i], s[at[i]], 2e-6);
            if (i > 0) CHECK(got[i] < got[i - 1] || (got[i] == got[i - 1] && at[i] > at[i - 1]));
        }
        for (size_t i = 0; i < M; i++) {
            if (taken[i]) continue;
            CHECK(s[i] <= (double)got[k - 1] + 2e-6);
            for (size_t j = 0; grid && j < k; j++) /* an equal row that is taken stands before it */
                if (memcmp(b + i * n, b + (size_t)at[j] * n, n * sizeof(float)) == 0)
                    CHECK((size_t)at[j] < i);
        }
    }
    CHECK_CUDA(llm_cuda_cosine_similarity_topk(d_top, (float *)NULL, d_part, d_a, d_b, N, M, n, k,
                                               1e-8f, 0)); /* without scores: the same */
    int *again = (int *)test_memory(N * k, sizeof(int));
    CHECK(memcmp(from_device(again, d_top, N * k), top, N * k * sizeof(int)) == 0);
}

TEST(cosine_similarity,
     "the k best of each row are those of the cosines in double, ties in order") {
    check_topk<float>(1, 1, 1, 1, 0, false);
    check_topk<float>(3, 2, 5, 2, 1, false);
    if (!TEST_SLOW) check_topk<float>(65, 130, 20, 5, 0, true);
    if (!TEST_SLOW) check_topk<float>(2, 300, 33, 32, 0, true);
    check_topk<llm_bf16>(5, 200, 16, 33, 0, true);
    check_topk<llm_bf16>(64, 64, 7, 64, 1, false);
    check_topk<float>(3, TEST_SLOW ? 600 : 2000, 12, TEST_SLOW ? 9 : 128, 0, true); /* more tiles
                                                                                   than pieces */
}

TEST(cosine_similarity,
     "the same places as matrix and topk of the reference, where nothing is close") {
    enum { N = 4, M = 150, n = 40, K = 7 };
    float a[N * n], b[M * n], s[N * M];
    llm_arena arena;
    CHECK(llm_arena_create(&arena, (N + M) * n * sizeof(float) + 256));
    size_t want[K];
    int top[N * K], *d_top = to_device<int>(NULL, N * K);
    llm_rng rng = llm_rng_seed(77);
    llm_rng_normal_fill(&rng, a, N * n);
    llm_rng_normal_fill(&rng, b, M * n);
    CHECK_CUDA(llm_cuda_cosine_similarity_topk(
        d_top, (float *)NULL,
        to_device<unsigned long long>(NULL, N * K * LLM_CUDA_COSINE_SIMILARITY_PIECES),
        to_device(a, N * n), to_device(b, M * n), N, M, n, K, 1e-8f, 0));
    from_device(top, d_top, N * K);
    llm_cosine_similarity_matrix(s, a, b, N, M, n, 1e-8f, &arena);
    for (size_t r = 0; r < N; r++) {
        llm_cosine_similarity_topk(want, s + r * M, M, K);
        for (size_t i = 0; i < K; i++) CHECK((size_t)top[r * K + i] == want[i]);
    }
    llm_arena_destroy(&arena);
}

TEST(cosine_similarity,
     "rows of zeros are similar to nothing, NaN comes last, too large a k fails") {
    enum { M = 5, n = 3 };
    const float a[n] = {1, 2, 2};
    const float b[M * n] = {0, 0, 0, 1, 2, 2, NAN, 1, 1, -2, -4, -4, 1e-12f, 0, 0};
    const int want[M] = {1, 0, 4, 3, 2};
    int top[M], *d_top = to_device<int>(NULL, M);
    float score[M], *d_score = to_device<float>(NULL, M);
    unsigned long long *d_part =
        to_device<unsigned long long>(NULL, M * LLM_CUDA_COSINE_SIMILARITY_PIECES);
    float *d_a = to_device(a, n), *d_b = to_device(b, M * n);
    CHECK_CUDA(
        llm_cuda_cosine_similarity_topk(d_top, d_score, d_part, d_a, d_b, 1, M, n, M, 1e-8f, 0));
    from_device(top, d_top, M);
    from_device(score, d_score, M);
    CHECK(memcmp(top, want, sizeof want) == 0);
    CHECK_NEAR(score[0], 1.0, 1e-6);
    CHECK(score[1] == 0.0f && score[2] == 0.0f && isnan(score[4]));
    CHECK_NEAR(score[3], -1.0, 1e-6);
    CHECK(llm_cuda_cosine_similarity_topk(d_top, d_score, d_part, d_a, d_b, 1, M, n, M + 1, 1e-8f,
                                          0) == cudaErrorInvalidValue);
    CHECK_CUDA(
        llm_cuda_cosine_similarity_topk(d_top, d_score, d_part, d_a, d_b, 0, M, n, M, 1e-8f, 0));
}

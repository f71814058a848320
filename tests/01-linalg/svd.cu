/* @svd */
#include "../test.h"

#include "../../llm_cuda.cuh"

/* Each of N matrices against its own decomposition: U'U = V'V = I, U S V' = A, s as the reference's
 * in double, signs and places too where `vectors` (where no two singular values are close). */
static void check_svd(float *a, size_t N, size_t m, size_t n, bool vectors) {
    const size_t k = m < n ? m : n;
    float *u = floats(N * m * k), *s = floats(N * k), *v = floats(N * n * k);
    float *want_u = floats(m * k), *want_s = floats(k), *want_v = floats(n * k);
    int *sweeps = (int *)test_memory(N, sizeof(int)), *d_sweeps = to_device<int>(NULL, N);
    float *d_u = to_device<float>(NULL, N * m * k), *d_v = to_device<float>(NULL, N * n * k);
    float *d_s = to_device<float>(NULL, N * k), *d_a = to_device(a, N * m * n);
    llm_arena arena;
    CHECK(llm_arena_create(&arena, (m * n + k * k + k) * sizeof(double) + 256));
    CHECK_CUDA(llm_cuda_svd(d_u, d_s, d_v, d_sweeps, d_a, N, m, n, 0));
    from_device(u, d_u, N * m * k);
    from_device(s, d_s, N * k);
    from_device(v, d_v, N * n * k);
    from_device(sweeps, d_sweeps, N);
    for (size_t b = 0; b < N; b++) {
        const float *ub = u + b * m * k, *sb = s + b * k, *vb = v + b * n * k, *ab = a + b * m * n;
        llm_svd(want_u, want_s, want_v, ab, m, n, &arena);
        const double size = (double)want_s[0];
        CHECK(sweeps[b] >= 1 && sweeps[b] <= 12); /* at most 8 were seen */

        for (size_t p = 0; p < k; p++) {
            CHECK_NEAR(sb[p], want_s[p], 1e-5 * size);
            for (size_t q = 0; q <= p; q++) {
                double uu = 0.0, vv = 0.0;
                for (size_t i = 0; i < m; i++) uu += (double)ub[i * k + p] * (double)ub[i * k + q];
                for (size_t i = 0; i < n; i++) vv += (double)vb[i * k + p] * (double)vb[i * k + q];
                CHECK_NEAR(uu, p == q, 2e-5);
                CHECK_NEAR(vv, p == q, 2e-5);
            }
        }
        for (size_t i = 0; i < m * n; i++) {
            double sum = 0.0;
            for (size_t p = 0; p < k; p++)
                sum += (double)sb[p] * (double)ub[i / n * k + p] * (double)vb[i % n * k + p];
            CHECK_NEAR(sum, ab[i], 1e-5 * size);
        }
        if (vectors) CHECK_ALL_NEAR(ub, want_u, m * k, 2e-4f);
        if (vectors) CHECK_ALL_NEAR(vb, want_v, n * k, 2e-4f);
    }
    if (N > 1) { /* the same bits when nobody wants the vectors */
        CHECK_CUDA(llm_cuda_svd((float *)NULL, d_s, (float *)NULL, (int *)NULL, d_a, N, m, n, 0));
        float *again = floats(N * k);
        CHECK(memcmp(from_device(again, d_s, N * k), s, N * k * sizeof(float)) == 0);
    }
    llm_arena_destroy(&arena);
}

TEST(svd, "random matrices of many shapes: orthogonal, rebuilt, singular values as in double") {
    const size_t sizes[9][2] = {{1, 1}, {1, 5},  {7, 1},  {2, 3},  {3, 2},
                                {5, 5}, {17, 9}, {9, 40}, {33, 33}};
    for (size_t i = 0; i < (TEST_SLOW ? 7 : 9); i++) {
        const size_t m = sizes[i][0], n = sizes[i][1], N = i < 6 ? 3 : 1;
        float *a = floats(N * m * n);
        llm_rng rng = llm_rng_seed(i + 1);
        llm_rng_normal_fill(&rng, a, N * m * n);
        check_svd(a, N, m, n, i < 7);
    }
}

TEST(svd,
     "rank-deficient, zero, constant, huge and tiny matrices, one with a zero column, Hilbert") {
    enum { m = 8, n = 6, N = 7 };
    float a[N * m * n], hilbert[64];
    llm_rng rng = llm_rng_seed(5);
    llm_rng_normal_fill(&rng, a, N * m * n);
    for (size_t i = 0; i < m * n; i++) {
        a[i] = 0.0f;
        a[m * n + i] = 1.0f;
        a[2 * m * n + i] *= 1e30f;
        a[3 * m * n + i] *= 1e-30f;
        if (i % n == 2) a[4 * m * n + i] = 0.0f; /* a column of zeros */
        if (i % n > 1)
            a[5 * m * n + i] = a[5 * m * n + i / n * n + i % 2]; /* rank 2, columns alike */
        a[6 * m * n + i] = i / n == i % n ? 2.0f : 0.0f;         /* equal singular values */
    }
    check_svd(a, N, m, n, false);
    for (size_t i = 0; i < 64; i++) hilbert[i] = 1.0f / (float)(i / 8 + i % 8 + 1);
    check_svd(hilbert, 1, 8, 8, false);
}

TEST(svd, "short columns keep their digits: singular values from 1 to 1e-9 to 2e-5 of each") {
    enum { m = 12, n = 4 };
    float a[m * n], s[n], want[n], *d_s = to_device<float>(NULL, n);
    llm_arena arena;
    CHECK(llm_arena_create(&arena, (m * n + n * n + n) * sizeof(double) + 256));
    llm_rng rng = llm_rng_seed(6);
    llm_rng_normal_fill(&rng, a, m * n);
    for (size_t i = 0; i < m * n; i++) a[i] *= powf(10.0f, -3.0f * (float)(i % n));
    CHECK_CUDA(llm_cuda_svd((float *)NULL, d_s, (float *)NULL, (int *)NULL, to_device(a, m * n), 1,
                            m, n, 0));
    llm_svd((float *)NULL, want, (float *)NULL, a, m, n, &arena);
    CHECK_ALL_CLOSE(from_device(s, d_s, n), want, n, 2e-5f);
    CHECK(want[3] < 1e-8f * want[0]);
    llm_arena_destroy(&arena);
}

TEST(svd, "NaN and infinity give NaN, others in the batch do not; what does not fit fails") {
    enum { m = 3, n = 2, N = 3 };
    float a[N * m * n] = {1, 2, NAN, 0, 1, 1, 3, 0, 0, 4, 0, 0, 1, INFINITY, 0, 0, 1, 1}, s[N * n],
                    u[N * m * n];
    float *d_s = to_device<float>(NULL, N * n), *d_u = to_device<float>(NULL, N * m * n);
    CHECK_CUDA(
        llm_cuda_svd(d_u, d_s, (float *)NULL, (int *)NULL, to_device(a, N * m * n), N, m, n, 0));
    from_device(s, d_s, N * n);
    from_device(u, d_u, N * m * n);
    for (size_t i = 0; i < N * n; i++)
        CHECK(i / n == 1 ? s[i] == 4.0f - (float)(i % n) : isnan(s[i]));
    for (size_t i = 0; i < m * n; i++) CHECK(isnan(u[i]) && isnan(u[2 * m * n + i]));
    float *none = NULL;
    CHECK(llm_cuda_svd_shared(142, 142) <= LLM_CUDA_SVD_SHARED &&
          llm_cuda_svd_shared(570, 64) <= LLM_CUDA_SVD_SHARED);
    CHECK(llm_cuda_svd(none, none, none, NULL, none, 1, 150, 150, 0) == cudaErrorInvalidValue);
    CHECK(llm_cuda_svd(none, none, none, NULL, none, 1, 0, 4, 0) == cudaErrorInvalidValue);
    CHECK_CUDA(llm_cuda_svd(none, none, none, NULL, none, 0, 4, 4, 0));
}

/* @gemm */
#include "../test.h"

/* Tasks are cut for as many threads as a TEST says, and a BLAS can be put in place. */
static size_t gemm_threads = 1, gemm_blas_calls;
static bool gemm_blas_takes;
static bool gemm_blas(float *c, const float *a, bool a_t, const float *b, bool b_t, size_t M,
                      size_t N, size_t K) {
    gemm_blas_calls++;
    for (size_t i = 0; gemm_blas_takes && i < M; i++)
        for (size_t j = 0; j < N; j++)
            for (size_t k = 0; k < K; k++)
                c[i * N + j] +=
                    (a_t ? a[k * M + i] : a[i * K + k]) * (b_t ? b[j * K + k] : b[k * N + j]);
    return gemm_blas_takes;
}
#define LLM_GEMM_THREADS gemm_threads
#define LLM_SGEMM gemm_blas
#include "../../llm.h"

/* Small integers: every product and every sum is exact, so the order does not matter. */
static float *integers(size_t n, llm_rng *rng) {
    float *x = floats(n);
    for (size_t i = 0; i < n; i++) x[i] = (float)llm_rng_below(rng, 17) - 8.0f;
    return x;
}

/* llm_gemm against the triple loop, with a margin around c that must not be touched. */
static void check_exact(size_t M, size_t N, size_t K, llm_rng *rng) {
    enum { MARGIN = 64 };
    float *a = integers(M * K, rng), *b = integers(K * N, rng);
    float *start = integers(M * N + 2 * MARGIN, rng), *c = floats(M * N + 2 * MARGIN);
    for (int t = 0; t < 4; t++) {
        const bool a_t = t & 1, b_t = t & 2;
        memcpy(c, start, (M * N + 2 * MARGIN) * sizeof(float));
        llm_gemm(c + MARGIN, a, a_t, b, b_t, M, N, K);
        for (size_t i = 0; i < M; i++) {
            for (size_t j = 0; j < N; j++) {
                long sum = (long)start[MARGIN + i * N + j];
                for (size_t k = 0; k < K; k++)
                    sum += (long)(a_t ? a[k * M + i] : a[i * K + k]) *
                           (long)(b_t ? b[j * K + k] : b[k * N + j]);
                if (c[MARGIN + i * N + j] != (float)sum)
                    test_fail(__FILE__, __LINE__, "c[%zu,%zu] of %zux%zux%zu, a_t %d, b_t %d", i, j,
                              M, N, K, a_t, b_t);
            }
        }
        for (size_t i = 0; i < MARGIN; i++)
            CHECK(c[i] == start[i] && c[MARGIN + M * N + i] == start[MARGIN + M * N + i]);
    }
}

TEST(gemm, "all small sizes equal integer arithmetic, plain and transposed, for 1 and 3 threads") {
    llm_rng rng = llm_rng_seed(1);
    for (gemm_threads = 1; gemm_threads <= 3; gemm_threads += 2)
        for (size_t M = 0; M <= 13; M++)
            for (size_t N = 0; N <= 19; N += M % 2 ? 1 : 3)
                for (size_t K = 0; K <= 9; K += K < 5 ? 1 : 4) check_exact(M, N, K, &rng);
}

TEST(gemm, "sizes at the edges of tile, panel, block and chunk equal integer arithmetic") {
    const size_t D = LLM_GEMM_DEPTH, W = LLM_GEMM_PANEL, B = LLM_GEMM_BLOCK, C = LLM_GEMM_COLS;
    const size_t size[][3] = {{5, C - 1, D},         {6, C, D + 1},
                              {7, C + 1, D - 1},     {B, 3, 5},
                              {B + 1, W + 1, 3},     {2 * B + 7, W - 1, 6},
                              {13, 2 * W + C, 31},   {12, 3 * W + 5, 29},
                              {3, 2, D / 2 * 3},     {11, C + 3, D * 3 + 2},
                              {4, W, D / 2 * 3 + 1}, {37, 41, 2 * D + 1},
                              {130, 1, 7},           {1, 130, 7},
                              {64, 64, 64}};
    const size_t threads[] = {1, 2, 5, 64};
    llm_rng rng = llm_rng_seed(2);
    for (size_t t = 0; t < 4; t++) {
        gemm_threads = threads[t];
        for (size_t s = 0; s < sizeof size / sizeof *size; s++)
            check_exact(size[s][0], size[s][1], size[s][2], &rng);
    }
}

TEST(gemm, "rounding stays within that of a plain float sum, against double") {
    const size_t M = 31, N = 45, K = 1000;
    llm_rng rng = llm_rng_seed(3);
    float *a = floats(M * K), *b = floats(K * N), *c = zeros(M * N);
    llm_rng_normal_fill(&rng, a, M * K);
    llm_rng_normal_fill(&rng, b, K * N);
    for (int t = 0; t < 4; t++) {
        const bool a_t = t & 1, b_t = t & 2;
        memset(c, 0, M * N * sizeof(float));
        llm_gemm(c, a, a_t, b, b_t, M, N, K);
        for (size_t i = 0; i < M; i++) {
            for (size_t j = 0; j < N; j++) {
                double sum = 0.0, size = 0.0;
                for (size_t k = 0; k < K; k++) {
                    const double p = (double)(a_t ? a[k * M + i] : a[i * K + k]) *
                                     (double)(b_t ? b[j * K + k] : b[k * N + j]);
                    sum += p;
                    size += fabs(p);
                }
                /* seen: 4e-7 of the sum of sizes; the bound for any order is 6e-5 */
                CHECK_NEAR(c[i * N + j], sum, 1e-6 * size);
            }
        }
    }
}

TEST(gemm, "the number of threads changes no bit, and a row does not see the other rows") {
    const size_t M = 97, N = 150, K = 700;
    llm_rng rng = llm_rng_seed(4);
    float *a = floats(M * K), *b = floats(K * N), *one = floats(M * N), *c = floats(M * N);
    llm_rng_normal_fill(&rng, a, M * K);
    llm_rng_normal_fill(&rng, b, K * N);
    for (int t = 0; t < 4; t++) {
        const bool a_t = t & 1, b_t = t & 2;
        for (size_t i = 0; i < M * N; i++) one[i] = 0.25f;
        gemm_threads = 1;
        llm_gemm(one, a, a_t, b, b_t, M, N, K);
        for (gemm_threads = 2; gemm_threads < 40; gemm_threads += 9) {
            for (size_t i = 0; i < M * N; i++) c[i] = 0.25f;
            llm_gemm(c, a, a_t, b, b_t, M, N, K);
            CHECK(memcmp(c, one, M * N * sizeof(float)) == 0);
        }
        for (size_t i = 0; !a_t && i < M; i += 7) { /* row i alone */
            for (size_t j = 0; j < N; j++) c[j] = 0.25f;
            llm_gemm(c, a + i * K, false, b, b_t, 1, N, K);
            CHECK(memcmp(c, one + i * N, N * sizeof(float)) == 0);
        }
    }
}

TEST(gemm, "NaN and infinity reach their row or their column, and nothing else") {
    const size_t M = 20, N = 35, K = 17;
    llm_rng rng = llm_rng_seed(5);
    for (int t = 0; t < 4; t++) {
        const bool a_t = t & 1, b_t = t & 2;
        float *a = integers(M * K, &rng), *b = integers(K * N, &rng), *c = zeros(M * N);
        for (size_t k = 0; k < K; k++) b[b_t ? 34 * K + k : k * N + 34] = 0.0f;
        a[a_t ? 3 * M + 19 : 19 * K + 3] = NAN;    /* row 19 */
        a[a_t ? 5 * M + 2 : 2 * K + 5] = INFINITY; /* row 2, where column 34 is 0: inf * 0 */
        b[b_t ? 30 * K + 4 : 4 * N + 30] = NAN;    /* column 30 */
        llm_gemm(c, a, a_t, b, b_t, M, N, K);
        for (size_t i = 0; i < M; i++) {
            for (size_t j = 0; j < N; j++) {
                if (i == 19 || j == 30 || (i == 2 && j == 34))
                    CHECK(isnan(c[i * N + j]));
                else if (i != 2)
                    CHECK(isfinite(c[i * N + j]));
            }
        }
    }
}

TEST(gemm, "a packed panel has its columns in the tile's order, and zeros on its right") {
    llm_rng rng = llm_rng_seed(6);
    const size_t depth = 11, most = LLM_GEMM_PANEL, C = LLM_GEMM_COLS;
    for (size_t cols = 1; cols <= most; cols++) {
        float *b = integers(most * (depth + most), &rng), *panel = floats(most * depth);
        for (int b_t = 0; b_t < 2; b_t++) {
            const size_t ld = b_t ? depth + 1 : most + 1;
            llm_gemm_pack(panel, b, ld, b_t, depth, cols);
            for (size_t j = 0; j < (cols + C - 1) / C * C; j++)
                for (size_t k = 0; k < depth; k++)
                    CHECK(panel[(j / C * depth + k) * C + j % C] ==
                          (j < cols ? b[b_t ? j * ld + k : k * ld + j] : 0.0f));
        }
    }
}

TEST(gemm, "tasks: as few cuts as give every thread four, no block beyond its scratch") {
    const size_t all[] = {1, 5, 6, 7, 63, 64, 65, 240, 241, 768, 3072}, threads[] = {1, 2, 3, 16};
    const size_t R = LLM_GEMM_ROWS, P = LLM_GEMM_PANEL, B = LLM_GEMM_BLOCK;
    for (size_t m = 0; m < 11; m++) {
        for (size_t n = 0; n < 11; n++) {
            for (size_t t = 0; t < 8; t++) {
                const size_t M = all[m], N = all[n], T = threads[t / 2], enough = T > 1 ? 4 * T : 1;
                size_t strips = 0, panels = 0, down = 1, across = 1, high = 0, wide = 0;
                while (strips * R < M) strips++;
                while (panels * P < N) panels++;
                if (t % 2) { /* A is transposed */
                    down = T;
                    while (down * B < M) down += T;
                    down = down < strips ? down : strips;
                    while (across < panels && down * across < enough) across++;
                } else {
                    across = panels;
                    while (down < strips && down * across < enough) down++;
                }
                while (high * down < M) high += R;
                while (wide * across < N) wide += P;

                size_t got_high, got_wide;
                llm_gemm_cut(&got_high, &got_wide, M, N, t % 2, T);
                CHECK(got_high == high && got_wide == wide);
                CHECK(t % 2 == 0 || got_high <= B);
            }
        }
    }
}

TEST(gemm, "LLM_SGEMM is asked first, and may decline") {
    llm_rng rng = llm_rng_seed(7);
    check_exact(9, 20, 11, &rng);
    CHECK(gemm_blas_calls == 4);
    gemm_blas_takes = true;
    check_exact(9, 20, 11, &rng);
    CHECK(gemm_blas_calls == 8);
}

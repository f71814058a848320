/* @cuda_pairs */
#include "../test.h"

#include "../../llm_cuda.cuh"

/* c (rows,columns): a block a tile, twice, so that a tile follows another */
template <typename F, typename T>
LLM_KERNEL void pairs(float *c, float *a_sq, float *b_sq, const T *a, const T *b, size_t rows,
                      size_t columns, size_t n) {
    const size_t row = (size_t)blockIdx.x * LLM_PAIRS_TILE;
    const unsigned t = threadIdx.x;
    for (size_t column = 0; column < columns; column += LLM_PAIRS_TILE) {
        float v[4][4], a_own, b_own;
        llm_pairs_tile<F>(v, a_own, b_own, a, row, rows, b, column, columns, n);
        for (unsigned i = 0; i < 16; i++) {
            const size_t r = row + t / 16 * 4 + i / 4, q = column + t % 16 * 4 + i % 4;
            if (r < rows && q < columns) c[r * columns + q] = v[i / 4][i % 4];
        }
        if (!F::squares) continue;
        if (t % 4 == 3 && row + t / 4 < rows) a_sq[row + t / 4] = a_own;
        if (blockIdx.x == 0 && t % 4 == 1 && column + t / 4 < columns) b_sq[column + t / 4] = b_own;
    }
}

template <typename F, typename T>
static void check_pairs(size_t rows, size_t columns, size_t n, size_t offset) {
    float *a = floats(rows * n + offset), *b = floats(columns * n + offset);
    float *c = floats(rows * columns);
    float *a_sq = floats(rows), *b_sq = floats(columns);
    llm_rng rng = llm_rng_seed(rows + n);
    llm_rng_normal_fill(&rng, a, rows * n + offset);
    llm_rng_normal_fill(&rng, b, columns * n + offset);
    const T *d_a = to_device_as<T>(a, rows * n + offset) + offset;
    const T *d_b = to_device_as<T>(b, columns * n + offset) + offset;
    float *d_c = to_device<float>(NULL, rows * columns);
    float *d_a_sq = to_device<float>(NULL, rows), *d_b_sq = to_device<float>(NULL, columns);
    a += offset, b += offset;
    LLM_LAUNCH((pairs<F, T>), (unsigned)((rows + 63) / 64), 256, 0, 0, d_c, d_a_sq, d_b_sq, d_a,
               d_b, rows, columns, n);
    CHECK_CUDA(cudaGetLastError());
    from_device(c, d_c, rows * columns);
    from_device(a_sq, d_a_sq, rows);
    from_device(b_sq, d_b_sq, columns);
    const double tol = 3e-6 * ((double)n + 1.0);
    for (size_t i = 0; i < rows; i++) {
        double square = 0.0;
        for (size_t k = 0; k < n; k++) square += (double)a[i * n + k] * (double)a[i * n + k];
        if (F::squares) CHECK_NEAR(a_sq[i], square, tol);
        for (size_t j = 0; j < columns; j++) {
            double want = 0.0;
            for (size_t k = 0; k < n; k++) {
                const double u = (double)a[i * n + k], v = (double)b[j * n + k];
                want += F::squares ? u * v : (u - v) * (u - v);
            }
            CHECK_NEAR(c[i * columns + j], want, tol);
        }
    }
    for (size_t j = 0; F::squares && j < columns; j++) {
        double square = 0.0;
        for (size_t k = 0; k < n; k++) square += (double)b[j * n + k] * (double)b[j * n + k];
        CHECK_NEAR(b_sq[j], square, tol);
    }
}

TEST(cuda_pairs, "products, distances and square lengths of all pairs, sizes around the tile") {
    const size_t sizes[6][3] = {{1, 1, 1},    {3, 2, 0},    {64, 64, 16},
                                {65, 63, 17}, {5, 130, 48}, {129, 67, 31}};
    for (size_t s = 0; s < 6; s++) {
        const size_t *z = sizes[s];
        check_pairs<llm_pairs_product, float>(z[0], z[1], z[2], s % 2);
        check_pairs<llm_pairs_distance, float>(z[0], z[1], z[2], 0);
        check_pairs<llm_pairs_product, llm_bf16>(z[0], z[1], z[2], 0);
        check_pairs<llm_pairs_distance, llm_bf16>(z[0], z[1], z[2], s % 2);
    }
}

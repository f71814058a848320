/* @csr */
#include "../test.h"

#include "../../llm_cuda.cuh"

TEST(csr, "the kernel's product equals the reference's: empty rows, long rows, one row") {
    const size_t shapes[5][2] = {{1, 1}, {7, 5}, {9, 200}, {33, 40}, {8, 1}};
    for (size_t s = 0; s < 5; s++) {
        const size_t rows = shapes[s][0], cols = shapes[s][1];
        size_t *start = (size_t *)test_memory(rows + 1, sizeof(size_t)), count = 0;
        uint32_t *index = (uint32_t *)test_memory(rows * cols, sizeof(uint32_t));
        float *value = floats(rows * cols), *x = floats(cols), *want = floats(rows),
              *got = floats(rows);
        llm_rng rng = llm_rng_seed(s + 1);
        llm_rng_normal_fill(&rng, x, cols);
        for (size_t i = 0; i < rows; i++) {
            const float density = i % 3 == 1 ? 0.0f : i % 3 == 2 ? 1.0f : 0.3f;
            for (size_t j = 0; j < cols; j++) {
                if (llm_rng_uniform(&rng) >= density) continue;
                index[count] = (uint32_t)j;
                value[count++] = llm_rng_normal(&rng);
            }
            start[i + 1] = count;
        }
        llm_csr a;
        a.rows = rows, a.cols = cols, a.start = start, a.index = index, a.value = value;
        llm_csr_matmul(want, &a, x, 1);
        float *d_y = to_device<float>(NULL, rows);
        CHECK_CUDA(llm_cuda_csr_apply(d_y, to_device(start, rows + 1), to_device(index, count),
                                      to_device(value, count), to_device(x, cols), rows, 0));
        CHECK_ALL_NEAR(from_device(got, d_y, rows), want, rows,
                       2e-5f); /* up to 200 terms, another order */
    }
    CHECK_CUDA(llm_cuda_csr_apply((float *)NULL, (size_t *)NULL, (uint32_t *)NULL, (float *)NULL,
                                  (float *)NULL, 0, 0));
}

/* A (rows,cols) with rows of different densities, column 0 empty where there are others; returns
 * the number of entries. */
static size_t random_rows(size_t *start, uint32_t *index, float *value, size_t rows, size_t cols) {
    llm_rng rng = llm_rng_seed(rows + cols);
    size_t count = 0;
    start[0] = 0;
    for (size_t i = 0; i < rows; i++) {
        const float density = i % 3 == 1 ? 0.0f : i % 3 == 2 ? 1.0f : 0.3f;
        for (size_t j = 0; j < cols; j++) {
            if (llm_rng_uniform(&rng) >= density || (j == 0 && cols > 1)) continue;
            index[count] = (uint32_t)j;
            value[count++] = llm_rng_normal(&rng);
        }
        start[i + 1] = count;
    }
    return count;
}
/* A X against sums in double; NaN stands in the rows of X that A does not touch. */
static void check_matmul(size_t rows, size_t cols, size_t K, size_t offset) {
    size_t *start = (size_t *)test_memory(rows + 1, sizeof(size_t));
    uint32_t *index = (uint32_t *)test_memory(rows * cols, sizeof(uint32_t));
    float *value = floats(rows * cols), *x = floats(cols * K + offset), *want = floats(rows * K);
    float *got = floats(rows * K + 1), *xo = x + offset;
    const size_t count = random_rows(start, index, value, rows, cols);
    llm_rng rng = llm_rng_seed(K);
    for (size_t k = 0; k < count; k++)
        if (isnan(xo[index[k] * K])) llm_rng_normal_fill(&rng, xo + index[k] * K, K);
    for (size_t i = 0; i < rows; i++)
        for (size_t c = 0; c < K; c++) {
            double sum = 0.0;
            for (size_t k = start[i]; k < start[i + 1]; k++)
                sum += (double)value[k] * (double)xo[index[k] * K + c];
            want[i * K + c] = (float)sum;
        }
    float *d_y = to_device<float>(NULL, rows * K + 1);
    CHECK_CUDA(llm_cuda_csr_matmul(d_y, to_device(start, rows + 1), to_device(index, count),
                                   to_device(value, count),
                                   to_device(x, cols * K + offset) + offset, rows, K, 0));
    from_device(got, d_y, rows * K + 1);
    CHECK_ALL_NEAR(got, want, rows * K, 2e-5f);
    CHECK(isnan(got[rows * K])); /* nothing behind the end */
}

TEST(csr, "A X equals the sums in double: columns around a warp, vectors of four, rows not read") {
    const size_t sizes[7][3] = {{1, 1, 1},    {2, 1, 3},     {9, 40, 31}, {10, 33, 32},
                                {17, 5, 128}, {5, 100, 130}, {12, 7, 260}};
    for (size_t s = 0; s < 7; s++) {
        check_matmul(sizes[s][0], sizes[s][1], sizes[s][2], 0);
        check_matmul(sizes[s][0], sizes[s][1], sizes[s][2], 1);
    }
    CHECK_CUDA(llm_cuda_csr_matmul((float *)NULL, (size_t *)NULL, (uint32_t *)NULL, (float *)NULL,
                                   (float *)NULL, 0, 5, 0));
}

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

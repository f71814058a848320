/* @backward_pass */
#include "../test.h"

#include "../../llm_cuda.cuh"

TEST(backward_pass, "column sums in two stages: one row to many chunks, added to what is there") {
    const size_t shapes[8][2] = {{1, 1},    {3, 5},    {7, 33},  {255, 31},
                                 {256, 32}, {257, 64}, {700, 3}, {0, 4}};
    for (size_t s = 0; s < 8; s++) {
        const size_t R = shapes[s][0], C = shapes[s][1], chunks = (R + 255) / 256;
        float *dy = floats(R * C), *start = floats(C), *want = floats(C), *got = floats(C);
        llm_rng rng = llm_rng_seed(s + 1);
        llm_rng_normal_fill(&rng, dy, R * C);
        llm_rng_normal_fill(&rng, start, C);
        for (size_t c = 0; c < C; c++) {
            double sum = (double)start[c];
            for (size_t r = 0; r < R; r++) sum += (double)dy[r * C + c];
            want[c] = (float)sum;
        }
        float *d_dy = to_device(dy, R * C);
        for (int again = 0; again < 2; again++) { /* the same bits both times */
            float *d_out = to_device(start, C), *d_partial = to_device<float>(NULL, chunks * C);
            CHECK(llm_cuda_backward_pass_columns(d_out, d_partial, d_dy, R, C, 0) == cudaSuccess);
            if (again) {
                float *second = floats(C);
                CHECK_ALL_NEAR(from_device(second, d_out, C), got, C, 0.0f);
            }
            CHECK_ALL_NEAR(from_device(got, d_out, C), want, C, 3e-5f); /* a sum of 700 floats */
        }
    }
    CHECK(llm_cuda_backward_pass_columns(NULL, NULL, NULL, (size_t)65536 * 256, 1, 0) !=
          cudaSuccess);
}

/* @input_layer */
#include "../test.h"

#include "../../llm_cuda.cuh"

template <typename T> static void check_image(size_t N, size_t H, size_t W, size_t C) {
    const size_t n = N * H * W * C;
    unsigned char *x = (unsigned char *)test_memory(n, 1);
    float *mean = floats(C), *deviation = floats(C), *got = floats(n), *want = floats(n);
    llm_rng rng = llm_rng_seed(n);
    for (size_t i = 0; i < n; i++) x[i] = (unsigned char)llm_rng_below(&rng, 256);
    for (size_t c = 0; c < C; c++) {
        mean[c] = llm_rng_uniform(&rng);
        deviation[c] = 0.1f + llm_rng_uniform(&rng);
    }
    T *d_y = to_device<T>(NULL, n);
    unsigned char *d_x = to_device(x, n);
    float *d_mean = to_device(mean, C), *d_deviation = to_device(deviation, C);
#ifndef __CUDACC__
    emulate_count();
#endif
    CHECK_CUDA(llm_cuda_input_layer_image(d_y, d_x, d_mean, d_deviation, N, H, W, C, 0));
#ifndef __CUDACC__
    CHECK(emulate_counted.read == n && emulate_counted.written == n * sizeof(T));
#endif
    llm_input_layer_image(want, x, mean, deviation, N, H, W, C);
    from_device_as(got, d_y, n);
    for (size_t i = 0; i < n; i++)
        CHECK_NEAR(got[i], want[i], (1e-6f + unit_of<T>()) * (1 + fabsf(want[i])));
}

TEST(input_layer, "bytes become normalised images, channels first, at sizes around the block") {
    const size_t shapes[6][4] = {{1, 1, 1, 1},  {2, 3, 5, 3},   {1, 16, 16, 3},
                                 {3, 7, 11, 4}, {2, 17, 31, 1}, {5, 1, 300, 2}};
    for (size_t s = 0; s < (TEST_SLOW ? 4 : 6); s++) {
        check_image<float>(shapes[s][0], shapes[s][1], shapes[s][2], shapes[s][3]);
        check_image<llm_bf16>(shapes[s][0], shapes[s][1], shapes[s][2], shapes[s][3]);
    }
    float *d = to_device<float>(NULL, 1);
    unsigned char *none = NULL;
    CHECK_CUDA(llm_cuda_input_layer_image(d, none, d, d, 0, 1, 1, 3, 0));
}

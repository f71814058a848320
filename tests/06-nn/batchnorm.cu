/* @batchnorm */
#include "../test.h"

#include "../../llm_cuda.cuh"

static float *normals(uint64_t seed, size_t n, float mean) {
    float *x = floats(n);
    llm_rng rng = llm_rng_seed(seed);
    for (size_t i = 0; i < n; i++) x[i] = mean + llm_rng_normal(&rng);
    return x;
}

template <typename T>
static void check_batchnorm(size_t N, size_t C, size_t S, bool affine, float mean) {
    const size_t n = N * C * S, room = llm_cuda_batchnorm_scratch(N, C, S);
    float *x = normals(1, n, mean), *dy = normals(2, n, 0.0f), *dx = normals(3, n, 0.0f);
    float *w = normals(4, C, 1.0f), *b = normals(5, C, 0.0f), *dw = normals(6, C, 0.0f);
    float *db = normals(7, C, 0.0f), *m = floats(C), *r = floats(C), *want = floats(n),
          *got = floats(n);
    float *running[2] = {normals(8, C, 0.0f), floats(C)};
    for (size_t c = 0; c < C; c++) running[1][c] = 0.5f + 0.1f * (float)c;
    const T *d_x = to_device_as<T>(x, n), *d_dy = to_device_as<T>(dy, n);
    T *d_y = to_device<T>(NULL, n), *d_dx = to_device_as<T>(dx, n);
    float *d_m = to_device<float>(NULL, C), *d_r = to_device<float>(NULL, C);
    float *d_dw = to_device(dw, C), *d_db = to_device(db, C),
          *scratch = to_device<float>(NULL, room);
    float *d_running[2] = {to_device(running[0], C), to_device(running[1], C)};
    const llm_batchnorm layer = {
        affine ? w : NULL, affine ? b : NULL, running[0], running[1], C, 0.1f, 1e-5f};
    const llm_batchnorm d_layer = {affine ? to_device(w, C) : NULL,
                                   affine ? to_device(b, C) : NULL,
                                   d_running[0],
                                   d_running[1],
                                   C,
                                   0.1f,
                                   1e-5f};
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 2 * C * sizeof(float) + 128));
    const float tol = 2e-5f + 4e-7f * fabsf(mean);
    CHECK_CUDA(llm_cuda_batchnorm_forward_train(d_y, d_m, d_r, d_x, &d_layer, N, S, scratch, 0));
    llm_batchnorm_forward_train(want, m, r, x, &layer, N, S);
    CHECK_STORED(T, from_device_as(got, d_y, n), want, n, 10 * tol);
    CHECK_ALL_NEAR(from_device(got, d_m, C), m, C, tol);
    CHECK_ALL_CLOSE(from_device(got, d_r, C), r, C, 10 * tol);
    CHECK_ALL_NEAR(from_device(got, d_running[0], C), running[0], C, tol);
    CHECK_ALL_NEAR(from_device(got, d_running[1], C), running[1], C, 10 * tol);
    for (int training = 0; training < 2; training++) { /* both add to dx, dw and db */
        CHECK_CUDA(llm_cuda_batchnorm_backward(d_dx, d_dw, d_db, d_dy, d_x, to_device(m, C),
                                               to_device(r, C), &d_layer, N, S, training != 0,
                                               scratch, 0));
        llm_batchnorm_backward(dx, dw, db, dy, x, m, r, &layer, N, S, training != 0, &arena);
        CHECK_STORED(T, from_device_as(got, d_dx, n), dx, n,
                     1e-3f + (sizeof(T) == 2 ? 0.05f : 0.0f));
        CHECK_ALL_NEAR(from_device(got, d_dw, C), dw, C, 1e-4f * sqrtf((float)(N * S)));
        CHECK_ALL_NEAR(from_device(got, d_db, C), db, C, 1e-5f * sqrtf((float)(N * S)));
    }
    llm_arena_destroy(&arena);
}

TEST(batchnorm, "both passes equal the reference, planes and channels last, one thread to slices") {
    const size_t shapes[8][3] = {{4, 1, 1}, {9, 3, 1},  {70, 36, 1}, {33, 40, 1},
                                 {1, 2, 7}, {3, 5, 64}, {20, 4, 49}, {9, 3, 36}};
    for (size_t s = 0; s < (TEST_SLOW ? 3 : 8); s++) {
        check_batchnorm<float>(shapes[s][0], shapes[s][1], shapes[s][2], s % 2 == 0, 1.0f);
        check_batchnorm<llm_bf16>(shapes[s][0], shapes[s][1], shapes[s][2], s % 2 == 1, 0.0f);
    }
}

TEST(batchnorm, "a mean of a thousand costs no digits; one number is refused, none is nothing") {
    check_batchnorm<float>(40, 2, 65, true, 1000.0f);
    check_batchnorm<float>(130, 33, 1, false, 1000.0f);
    float *none = NULL;
    const llm_batchnorm one = {NULL, NULL, NULL, NULL, 1, 0.1f, 1e-5f};
    CHECK(llm_cuda_batchnorm_forward_train(none, none, none, none, &one, 1, 1, none, 0) ==
          cudaErrorInvalidValue);
    CHECK_CUDA(llm_cuda_batchnorm_backward(none, none, none, none, none, none, none, &one, 0, 1,
                                           true, none, 0));
    CHECK_CUDA(llm_cuda_batchnorm_apply(none, none, none, none, &one, 0, 1, 0));
    CHECK(llm_cuda_batchnorm_slices(1024, 64, 49) == 5 && llm_cuda_batchnorm_slices(3, 64, 1) == 1);
}

/* @prenorm */
#include "../test.h"

#include "../../llm_cuda.cuh"

static float *normals(uint64_t seed, size_t n) {
    float *x = floats(n);
    llm_rng rng = llm_rng_seed(seed);
    llm_rng_normal_fill(&rng, x, n);
    return x;
}

/* offset 1 takes the rows off their alignment: the path without vectors */
template <typename T>
static void check_norm(size_t N, size_t C, size_t offset, bool centred, float alpha) {
    const size_t n = N * C;
    float *x = normals(C, n), *f = normals(C + 1, n), *w = normals(C + 2, C);
    float *b = normals(C + 3, C), *sum = floats(n), *y = floats(n), *got = floats(n);
    float *mean = floats(N), *rstd = floats(N), *dy = normals(C + 4, n), *d = normals(C + 5, n);
    float *dw = normals(C + 6, C), *db = normals(C + 7, C);
    const T *d_x = to_device_as<T>(x, n), *d_f = to_device_as<T>(f, n);
    const T *d_w = to_device_as<T>(w, C), *d_b = to_device_as<T>(b, C);
    T *d_y = to_device<T>(NULL, n + offset), *d_sum = to_device<T>(NULL, n);
    float *d_mean = to_device<float>(NULL, N), *d_rstd = to_device<float>(NULL, N);
    CHECK_CUDA(llm_cuda_prenorm_forward(d_y + offset, d_sum, centred ? d_mean : NULL, d_rstd, d_x,
                                        d_f, d_w, centred ? d_b : NULL, N, C, alpha, 1e-5f, 0));
    for (size_t i = 0; i < n; i++) {
        T stored;
        test_storage<T>::store(&stored, alpha * x[i] + f[i]);
        sum[i] = test_storage<T>::load(stored);
    }
    if (sizeof(T) == 4) /* the emulator rounds the product, a GPU does not */
        CHECK_STORED(T, from_device_as(got, d_sum, n), sum, n, 1e-6f);
    else
        CHECK_STORED(T, from_device_as(got, d_sum, n), sum, n, 0.0f);
    from_device_as(sum, d_sum, n);
    if (centred)
        llm_layernorm_forward(y, mean, rstd, sum, w, b, N, C, 1e-5f);
    else
        llm_rmsnorm_forward(y, rstd, sum, w, N, C, 1e-5f);
    /* rows of two nearly equal numbers magnify the last digits of their mean */
    const float tol = C > 2 ? 1e-5f : 2e-3f;
    CHECK_STORED(T, from_device_as(got, d_y + offset, n), y, n, tol);
    CHECK_ALL_CLOSE(from_device(got, d_rstd, N), rstd, N, tol);
    if (centred) CHECK_ALL_NEAR(from_device(got, d_mean, N), mean, N, 1e-6f);

    /* backward of the pre form: the stream's gradient takes what the norm sends back */
    T *d_d = to_device_as<T>(d, n);
    const T *d_dy = to_device_as<T>(dy, n);
    float *d_dw = to_device(dw, C), *d_db = to_device(db, C);
    float *scratch = to_device<float>(NULL, llm_cuda_prenorm_scratch<T>(N, C));
    from_device(rstd, d_rstd, N);
    if (centred) from_device(mean, d_mean, N);
    CHECK_CUDA(llm_cuda_prenorm_backward(d_d, d_dw, centred ? d_db : NULL, d_dy, d_sum, d_w,
                                         centred ? d_mean : NULL, d_rstd, N, C, scratch, 0));
    if (centred)
        llm_layernorm_backward(d, dw, db, dy, sum, w, mean, rstd, N, C);
    else
        llm_rmsnorm_backward(d, dw, dy, sum, w, rstd, N, C);
    float large = 1.0f; /* the gradient of a row goes with rstd */
    for (size_t i = 0; i < N; i++) large = fmaxf(large, rstd[i]);
    CHECK_STORED(T, from_device_as(got, d_d, n), d, n, 1e-5f * large);
    CHECK_ALL_NEAR(from_device(got, d_dw, C), dw, C, 1e-5f * sqrtf((float)N));
    if (centred) CHECK_ALL_NEAR(from_device(got, d_db, C), db, C, 1e-5f * sqrtf((float)N));
}

TEST(prenorm, "sum, norm and the stream's gradient equal llm.h's, LayerNorm and RMSNorm") {
    const size_t widths[7] = {1, 2, 31, 33, 40, 768, 2500};
    for (size_t s = 0; s < (TEST_SLOW ? 5 : 7); s++) {
        check_norm<float>(s % 3 + 1, widths[s], s % 2, s % 2 == 0, 1.0f);
        check_norm<float>(s % 3 + 2, widths[s], 0, s % 2 == 1, 1.7f);
        check_norm<llm_bf16>(3, widths[s], s % 2, s % 2 == 1, 1.0f);
        check_norm<llm_bf16>(2, widths[s] / 8 * 8 + 8, 0, s % 2 == 0, 1.0f);
    }
    float *none = NULL;
    CHECK_CUDA(llm_cuda_prenorm_forward(none, none, none, none, none, none, none, none, 0, 4, 1.0f,
                                        1e-5f, 0));
}

template <typename T> static void check_kind(llm_prenorm_kind kind, size_t N, size_t C) {
    const size_t n = N * C;
    const float alpha = llm_prenorm_alpha(kind, 9);
    const bool sandwich = kind == LLM_PRENORM_SANDWICH;
    float *x = normals(1, n), *f = normals(2, n), *w = normals(3, C), *b = normals(4, C);
    float *dy = normals(5, n), *dx = normals(6, n), *df = zeros(n), *got = floats(n);
    float *y = floats(n), *dw = normals(7, C), *db = normals(8, C);
    const T *d_x = to_device_as<T>(x, n), *d_f = to_device_as<T>(f, n);
    const T *d_w = to_device_as<T>(w, C), *d_b = to_device_as<T>(b, C);
    const T *d_dy = to_device_as<T>(dy, n);
    T *d_y = to_device<T>(NULL, n), *d_dx = to_device_as<T>(dx, n);
    T *d_sum = to_device<T>(NULL, n), *d_df = to_device<T>(NULL, n);
    float *d_mean = to_device<float>(NULL, N), *d_rstd = to_device<float>(NULL, N);
    float *d_dw = to_device(dw, C), *d_db = to_device(db, C);
    float *scratch = to_device<float>(NULL, llm_cuda_prenorm_scratch<T>(N, C));
    const llm_prenorm_weights weights = {NULL, NULL, w, b}, grads = {NULL, NULL, dw, db};
    const llm_prenorm_acts a = {NULL, NULL, floats(N), floats(N), floats(n)};
    llm_arena arena;
    CHECK(llm_arena_create(&arena, n * sizeof(float) + 256));
    /* a sum stored as bfloat16 is off by 1 part in 256 of values up to 8, which the norm and its
     * backward pass on */
    const float tol = sizeof(T) == 4 ? 1e-5f : 16.0f / 256;
    CHECK_CUDA(llm_cuda_prenorm_forward(d_y, sandwich ? NULL : d_sum, d_mean, d_rstd, d_x, d_f, d_w,
                                        d_b, N, C, alpha, 1e-5f, 0));
    llm_prenorm_out_forward(y, &a, x, f, &weights, N, C, kind, alpha, 1e-5f);
    CHECK_STORED(T, from_device_as(got, d_y, n), y, n, tol);
    CHECK_CUDA(llm_cuda_prenorm_out_backward(d_dx, d_df, d_dw, d_db, d_dy, sandwich ? d_f : d_sum,
                                             d_w, d_mean, d_rstd, N, C, kind, alpha, scratch, 0));
    llm_prenorm_out_backward(dx, df, &grads, dy, &a, &weights, N, C, kind, alpha, &arena);
    CHECK_STORED(T, from_device_as(got, d_df, n), df, n, tol);
    CHECK_STORED(T, from_device_as(got, d_dx, n), dx, n, 2 * tol);
    CHECK_ALL_NEAR(from_device(got, d_dw, C), dw, C, 2 * tol);
    CHECK_ALL_NEAR(from_device(got, d_db, C), db, C, 1e-5f);
    llm_arena_destroy(&arena);
}

TEST(prenorm, "post, sandwich and deepnorm equal llm_prenorm_out, values and gradients") {
    const llm_prenorm_kind kinds[3] = {LLM_PRENORM_POST, LLM_PRENORM_SANDWICH,
                                       LLM_PRENORM_DEEPNORM};
    for (size_t k = 0; k < 3; k++) {
        check_kind<float>(kinds[k], 3, 29);
        check_kind<float>(kinds[k], 5, 64);
        check_kind<llm_bf16>(kinds[k], 4, 48);
    }
}

TEST(prenorm, "scratch holds the shares of two gradients for each block") {
    CHECK(llm_cuda_prenorm_scratch<float>(5, 768) == 5 * 2 * 768);
    CHECK(llm_cuda_prenorm_scratch<llm_bf16>(100000, 2048) == 1024 * 2 * 2048);
}

TEST(prenorm, "traffic: four elements for each one of the row, the sandwich three") {
    enum { N = 3, C = 256 };
    const float *d_x = to_device(zeros(N * C), N * C), *d_w = to_device(zeros(C), C), *none = NULL;
    float *d_y = to_device<float>(NULL, N * C), *d_sum = to_device<float>(NULL, N * C);
    for (int sandwich = 0; sandwich < 2; sandwich++) {
#ifndef __CUDACC__
        emulate_count();
#endif
        CHECK_CUDA(llm_cuda_prenorm_forward(d_y, sandwich ? NULL : d_sum, (float *)NULL,
                                            (float *)NULL, d_x, d_x, d_w, none, N, C, 1.0f, 1e-5f,
                                            0));
#ifndef __CUDACC__
        CHECK(emulate_counted.read == 4 * (2 * N * C + N * C)); /* w once a row, from L2 */
        CHECK(emulate_counted.written == 4 * (size_t)(sandwich ? 1 : 2) * N * C);
#endif
    }
    float got[1] = {NAN};
    CHECK(from_device(got, d_y, 1)[0] == 0.0f);
}

/* @sigmoid */
#include "../test.h"

#include "../../llm_cuda.cuh"

/* normals times 3, and far ones */
static float *points(size_t seed, size_t n) {
    const float far[6] = {0.0f, 90.0f, -90.0f, 20.0f, -20.0f, -0.0f};
    float *x = floats(n);
    llm_rng rng = llm_rng_seed(seed);
    for (size_t i = 0; i < n; i++)
        x[i] = llm_rng_uniform(&rng) < 0.1f ? far[i % 6] : 3.0f * llm_rng_normal(&rng);
    return x;
}

template <typename T> static void check_plain(size_t n, float temp, size_t offset) {
    float *x = points(n, n), *dy = points(n + 1, n), *dx = points(n + 2, n);
    float *y = floats(n), *want = floats(n);
    T *d_x = to_device_as<T>(x, n), *d_y = to_device<T>(NULL, n + offset);
    T *d_dy = to_device_as<T>(dy, n), *d_dx = to_device_as<T>(dx, n);
#ifndef __CUDACC__
    emulate_count();
#endif
    CHECK_CUDA(llm_cuda_sigmoid_forward(d_y + offset, d_x, n, temp, 0));
#ifndef __CUDACC__
    CHECK(emulate_counted.read == n * sizeof(T) && emulate_counted.written == n * sizeof(T));
#endif
    llm_sigmoid_forward(want, x, n, temp);
    from_device_as(y, d_y + offset, n);
    for (size_t i = 0; i < n; i++)
        CHECK_NEAR(y[i], want[i], (1e-6f + unit_of<T>()) * want[i] + 1e-38f);
    CHECK_CUDA(llm_cuda_sigmoid_backward(d_dx, d_dy, d_y + offset, n, temp, 0));
    llm_sigmoid_backward(dx, dy, y, n, temp);
    from_device_as(want, d_dx, n);
    for (size_t i = 0; i < n; i++)
        CHECK_NEAR(want[i], dx[i], (1e-6f + unit_of<T>()) * (1 + fabsf(dx[i])));
}

template <typename T> static void check_gate(size_t n, size_t offset, bool all) {
    float *z = points(n, n), *a = points(n + 1, n), *b = points(n + 2, n), *dy = points(n + 3, n);
    float *dz = points(n + 4, n), *da = points(n + 5, n), *db = points(n + 6, n);
    float *y = floats(n), *s = floats(n), *got = floats(n), *share = floats(n);
    T *d_z = to_device_as<T>(z, n), *d_a = to_device_as<T>(a, n), *d_b = to_device_as<T>(b, n);
    T *d_dy = to_device_as<T>(dy, n), *d_dz = to_device_as<T>(dz, n);
    T *d_da = to_device_as<T>(da, n), *d_db = to_device_as<T>(db, n), *none = NULL;
    T *d_y = to_device<T>(NULL, n + offset), *d_s = to_device<T>(NULL, n);
    CHECK_CUDA(llm_cuda_sigmoid_gate_forward(d_y + offset, d_s, d_z, d_a, d_b, n, 0));
    llm_sigmoid_gate_forward(y, s, z, a, b, n);
    from_device_as(got, d_y + offset, n);
    from_device_as(share, d_s, n);
    for (size_t i = 0; i < n; i++) {
        CHECK_NEAR(got[i], y[i], (1e-6f + unit_of<T>()) * (1 + fabsf(a[i]) + fabsf(b[i])));
        CHECK_NEAR(share[i], s[i], (1e-6f + unit_of<T>()) * s[i] + 1e-38f);
    }
#ifndef __CUDACC__
    emulate_count();
#endif
    CHECK_CUDA(llm_cuda_sigmoid_gate_backward(d_dz, all ? d_da : none, all ? d_db : none, d_dy, d_s,
                                              d_a, d_b, n, 0));
#ifndef __CUDACC__
    CHECK(emulate_counted.read == (all ? 7 : 5) * n * sizeof(T));
    CHECK(emulate_counted.written == (all ? 3 : 1) * n * sizeof(T));
#endif
    llm_sigmoid_gate_backward(dz, all ? da : NULL, all ? db : NULL, dy, share, a, b, n);
    const float *want[3] = {dz, da, db};
    T *const from[3] = {d_dz, d_da, d_db};
    for (size_t k = 0; k < 3; k++) {
        from_device_as(got, from[k], n);
        for (size_t i = 0; i < n; i++)
            CHECK_NEAR(got[i], want[k][i], (2e-6f + unit_of<T>()) * (1 + fabsf(want[k][i])));
    }
}

TEST(sigmoid, "plain and as a gate, forward and backward, aligned and not") {
    const size_t sizes[6] = {1, 3, 8, 257, 1024, 2056};
    for (size_t s = 0; s < (TEST_SLOW ? 4 : 6); s++) {
        check_plain<float>(sizes[s], 1.0f, s % 2);
        check_plain<llm_bf16>(sizes[s], 0.5f, (s + 1) % 2);
        check_gate<float>(sizes[s], (s + 1) % 2, s % 3 != 0);
        check_gate<llm_bf16>(sizes[s], s % 2, true);
    }
    float *d = to_device<float>(NULL, 1);
    CHECK_CUDA(llm_cuda_sigmoid_forward(d, d, 0, 1.0f, 0));
    CHECK_CUDA(llm_cuda_sigmoid_backward(d, d, d, 0, 1.0f, 0));
    CHECK_CUDA(llm_cuda_sigmoid_gate_forward(d, d, d, d, d, 0, 0));
    CHECK_CUDA(llm_cuda_sigmoid_gate_backward(d, d, d, d, d, d, d, 0, 0));
}

/* @svd_randomized */
#include "../test.h"

#include "../../llm_cuda.cuh"

TEST(svd_randomized,
     "sketch and products with A and A' equal the sums in double, G the reference's draws") {
    const size_t sizes[5][3] = {{1, 1, 1}, {3, 5, 2}, {40, 33, 7}, {20, 150, 12}, {130, 9, 3}};
    for (size_t s = 0; s < 5; s++) {
        const size_t m = sizes[s][0], n = sizes[s][1], l = sizes[s][2];
        float *a = floats(m * n), *g = floats(n * l), *y = floats(m * l), *z = floats(n * l);
        float *want_y = floats(m * l), *want_z = floats(n * l), *drawn = floats(n * l);
        llm_rng rng = llm_rng_seed(9), own = llm_rng_seed(1000 + s);
        llm_rng_normal_fill(&rng, a, m * n);
        llm_rng_normal_fill(&own, g, n * l);
        float *d_a = to_device(a, m * n), *d_y = to_device<float>(NULL, m * l);
        float *d_g = to_device<float>(NULL, n * l), *d_z = to_device<float>(NULL, n * l);
        CHECK_CUDA(llm_cuda_svd_randomized_sketch(d_y, d_g, d_a, m, n, l, 1000 + s, 0));
        CHECK_CUDA(llm_cuda_svd_randomized_product(d_z, d_a, true, d_y, m, n, l, 0));
        from_device(y, d_y, m * l);
        for (size_t i = 0; i < m * l; i++) {
            double sum = 0.0;
            for (size_t j = 0; j < n; j++)
                sum += (double)a[i / l * n + j] * (double)g[j * l + i % l];
            want_y[i] = (float)sum;
        }
        for (size_t j = 0; j < n * l; j++) {
            double sum = 0.0;
            for (size_t i = 0; i < m; i++)
                sum += (double)a[i * n + j / l] * (double)y[i * l + j % l];
            want_z[j] = (float)sum;
        }
        CHECK_ALL_NEAR(from_device(drawn, d_g, n * l), g, n * l, 1e-6f);
        CHECK_ALL_NEAR(y, want_y, m * l, 1e-5f * sqrtf((float)n));
        CHECK_ALL_NEAR(from_device(z, d_z, n * l), want_z, n * l, 1e-5f * (float)(m + n));
    }
    float *none = NULL;
    CHECK_CUDA(llm_cuda_svd_randomized_sketch(none, none, none, 0, 0, 0, 1, 0));
    CHECK_CUDA(llm_cuda_svd_randomized_product(none, none, false, none, 0, 3, 2, 0));
    CHECK_CUDA(llm_cuda_svd_randomized_product(none, none, true, none, 3, 2, 0, 0));
}

TEST(svd_randomized,
     "sketched and powered on the device, the range holds what the reference's does") {
    enum { m = 60, n = 45, k = 5, l = 9 };
    float a[m * n], y[m * l], z[n * l], s[k], u[m * k], v[n * k], q[m * l];
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 1 << 20));
    llm_rng rng = llm_rng_seed(2);
    for (size_t i = 0; i < m * n; i++) { /* singular values that fall by about a half each */
        const double r = (double)(i / n), c = (double)(i % n);
        a[i] = (float)(1.0 / (1.0 + r + c)) + 1e-4f * llm_rng_normal(&rng);
    }
    float *d_a = to_device(a, m * n), *d_y = to_device<float>(NULL, m * l);
    float *d_z = to_device<float>(NULL, n * l);
    CHECK_CUDA(llm_cuda_svd_randomized_sketch(d_y, d_z, d_a, m, n, l, 3, 0));
    from_device(q, d_y, m * l);
    llm_qr_orthonormalize(q, m, l, &arena);
    CHECK_CUDA(llm_cuda_svd_randomized_product(d_z, d_a, true, to_device(q, m * l), m, n, l, 0));
    from_device(z, d_z, n * l);
    llm_qr_orthonormalize(z, n, l, &arena);
    CHECK_CUDA(llm_cuda_svd_randomized_product(d_y, d_a, false, to_device(z, n * l), m, n, l, 0));
    from_device(y, d_y, m * l);
    llm_qr_orthonormalize(y, m, l, &arena);
    /* B = Q'A as (n,l), whose singular values svd's kernel finds */
    CHECK_CUDA(llm_cuda_svd_randomized_product(d_z, d_a, true, to_device(y, m * l), m, n, l, 0));
    float *d_s = to_device<float>(NULL, l), got[l];
    CHECK_CUDA(llm_cuda_svd((float *)NULL, d_s, (float *)NULL, (int *)NULL, d_z, 1, n, l, 0));
    from_device(got, d_s, l);
    rng = llm_rng_seed(3);
    llm_svd_randomized(u, s, v, a, m, n, k, l - k, 1, &rng, &arena);
    CHECK_ALL_NEAR(got, s, k, 1e-5f);
    float exact[n];
    llm_svd((float *)NULL, exact, (float *)NULL, a, m, n, &arena);
    CHECK_ALL_NEAR(got, exact, k, 1e-4f);
    llm_arena_destroy(&arena);
}

/* @entropy */
#include "../test.h"

#include "../../llm_cuda.cuh"

/* Forward and backward against the reference. Row 0 is far from 0, row 1 all equal, row 2 has
 * impossible entries, row 3 nothing else, row 4 one entry far above the others. */
template <typename T> static void check_rows(size_t N, size_t V, size_t offset, float spread) {
    const size_t n = N * V;
    float *z = floats(n + offset), *h = floats(N), *lse = floats(N), *want_h = floats(N);
    float *want_lse = floats(N), *dh = floats(N), *dz = floats(n + offset), *got = floats(n);
    llm_rng rng = llm_rng_seed(V + N);
    for (size_t i = 0; i < n + offset; i++) {
        z[i] = spread * llm_rng_normal(&rng);
        dz[i] = llm_rng_normal(&rng);
    }
    for (size_t row = 0; row < N; row++) dh[row] = llm_rng_normal(&rng);
    for (size_t i = 0; i < V; i++) {
        float *at = z + offset + i;
        at[0] += 1e3f;
        if (N < 5) continue;
        at[V] = 0.25f;
        if (i % 3 == 1) at[2 * V] = -INFINITY;
        at[3 * V] = -INFINITY;
        if (i == V / 2) at[4 * V] += 300.0f;
    }
    const T *d_z = to_device_as<T>(z, n + offset) + offset;
    T *d_dz = to_device_as<T>(dz, n + offset) + offset;
    float *d_h = to_device<float>(NULL, N), *d_lse = to_device<float>(NULL, N);
    CHECK_CUDA(llm_cuda_entropy_logits_forward(d_h, d_lse, d_z, N, V, 0));
    llm_entropy_logits_forward(want_h, want_lse, z + offset, N, V);
    from_device(h, d_h, N);
    from_device(lse, d_lse, N);
    for (size_t row = 0; row < N; row++) {
        CHECK_NEAR(h[row], want_h[row], 4e-6 * (1.0 + (double)want_h[row]));
        if (N > 4 && row == 3)
            CHECK(lse[row] == -INFINITY && h[row] == 0.0f);
        else
            CHECK_NEAR(lse[row], want_lse[row], 4e-7 * (8.0 + fabs((double)want_lse[row])));
    }
    /* from the reference's h and lse: errors of forward, in lse of 1e3, would count twice */
    CHECK_CUDA(llm_cuda_entropy_logits_backward(d_dz, to_device(dh, N), d_z, to_device(want_h, N),
                                                to_device(want_lse, N), N, V, 0));
    llm_entropy_logits_backward(dz + offset, dh, z + offset, want_h, want_lse, N, V);
    CHECK_STORED(T, from_device_as(got, d_dz, n), dz + offset, n, 4e-6f);
    /* without lse the same entropy */
    float *again = floats(N);
    CHECK_CUDA(llm_cuda_entropy_logits_forward(d_h, (float *)NULL, d_z, N, V, 0));
    CHECK(memcmp(from_device(again, d_h, N), h, N * sizeof(float)) == 0);
}

TEST(entropy, "row entropies and their gradient equal the reference, warp and block rows") {
    const size_t sizes[9] = {1, 2, 3, 31, 64, 1024, 1025, 3001, 8008};
    for (size_t s = 0; s < (TEST_SLOW ? 7 : 9); s++) {
        check_rows<float>(7, sizes[s], 0, 1.0f);
        check_rows<float>(5, sizes[s], 1, 5.0f);
        check_rows<llm_bf16>(6, sizes[s], 0, 3.0f);
        check_rows<llm_bf16>(2, sizes[s], s % 2, 0.1f);
    }
    CHECK_CUDA(
        llm_cuda_entropy_logits_forward((float *)NULL, (float *)NULL, (float *)NULL, 0, 3, 0));
    CHECK_CUDA(llm_cuda_entropy_logits_backward((float *)NULL, (float *)NULL, (float *)NULL,
                                                (float *)NULL, (float *)NULL, 0, 3, 0));
}

TEST(entropy,
     "uniform rows have log V, geometric ones the closed form, rising or falling; NaN shows") {
    enum { V = 2000 };
    const double p = 0.01;
    float *z = floats(4 * V), h[4], *d_h = to_device<float>(NULL, 4);
    double want = 0.0; /* p_i = q^i times a constant: the max moves with every entry, or never */
    for (size_t i = 0; i < V; i++) {
        z[i] = -37.5f;
        z[V + i] = (float)((double)i * log1p(-p));
        z[3 * V - 1 - i] = z[V + i];
        z[3 * V + i] = i == 1000 ? NAN : 1.0f;
    }
    want = -log(p) - (1.0 - p) / p * log1p(-p); /* of infinitely many; 0.99^2000 is 2e-9 */
    CHECK_CUDA(llm_cuda_entropy_logits_forward(d_h, (float *)NULL, to_device(z, 4 * V), 4, V, 0));
    from_device(h, d_h, 4);
    CHECK_NEAR(h[0], log((double)V), 2e-6);
    CHECK_NEAR(h[1], want, 1e-5);
    CHECK_NEAR(h[2], want, 1e-5);
    CHECK(isnan(h[3]));
}

TEST(entropy, "traffic: forward reads each logit once, backward moves three") {
    enum { N = 3, V = 2048 };
    const float *d_z = to_device(zeros(N * V), N * V), *d_dh = to_device(zeros(N), N);
    float *d_h = to_device<float>(NULL, N), *d_lse = to_device<float>(NULL, N);
    float *d_dz = to_device(zeros(N * V), N * V), h[N];
#ifndef __CUDACC__
    emulate_count();
#endif
    CHECK_CUDA(llm_cuda_entropy_logits_forward(d_h, d_lse, d_z, N, V, 0));
#ifndef __CUDACC__
    CHECK(emulate_counted.read == N * V * 4 && emulate_counted.written == 2 * N * 4);
    emulate_count();
#endif
    CHECK_CUDA(llm_cuda_entropy_logits_backward(d_dz, d_dh, d_z, d_h, d_lse, N, V, 0));
#ifndef __CUDACC__
    CHECK(emulate_counted.distinct_read == 2 * N * V * 4 + 3 * 32); /* sectors */
    CHECK(emulate_counted.written == N * V * 4);
#endif
    CHECK_NEAR(from_device(h, d_h, N)[0], log(2048.0), 1e-5);
}

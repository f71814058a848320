/* @weight_tying */
#include "../test.h"

#include "../../llm_cuda.cuh"

static float *normals(uint64_t seed, size_t n, float size) {
    float *x = floats(n);
    llm_rng rng = llm_rng_seed(seed);
    llm_rng_normal_fill(&rng, x, n);
    for (size_t i = 0; i < n; i++) x[i] *= size;
    return x;
}

/* Embedding, logits, and both gradients, against llm.h. bfloat16 rounds h, logits and dh to 1 part
 * in 256 of values near 1. */
template <typename T>
static void check_tying(size_t N, size_t V, size_t C, bool tied, float scale_in, float scale_out) {
    const float tol = sizeof(T) == 4 ? 1e-5f : 6.0f / 256;
    float *e = normals(1, V * C, 1.0f / sqrtf((float)C)), *w = normals(2, V * C, 0.5f);
    float *dlogits = normals(3, N * V, 1.0f / sqrtf((float)V)), *dh = normals(4, N * C, 1.0f);
    float *de = normals(5, V * C, 1.0f), *dw = normals(6, V * C, 1.0f);
    float *x = floats(N * C), *logits = floats(N * V), *got = floats(N * V + V * C + N * C);
    int *ids = (int *)test_memory(N, sizeof(int)), *order = (int *)test_memory(N, sizeof(int));
    int *segment = (int *)test_memory(V + 1, sizeof(int));
    int *scratch = (int *)test_memory(V + 1, sizeof(int));
    for (size_t n = 0; n < N; n++) ids[n] = (int)(n * n % V);
    T *d_e = to_device_as<T>(e, V * C), *d_w = to_device_as<T>(w, V * C);
    T *d_dlogits = to_device_as<T>(dlogits, N * V), *d_dh = to_device_as<T>(dh, N * C);
    float *d_de = to_device(de, V * C), *d_dw = to_device(dw, V * C);
    llm_weight_tying t = {e, tied ? e : w, de, tied ? de : dw, scale_in, scale_out};
    const llm_cuda_weight_tying<T> d = {d_e,      tied ? d_e : d_w, d_de, tied ? d_de : d_dw,
                                        scale_in, scale_out};
    T *d_x = to_device<T>(NULL, N * C), *d_logits = to_device<T>(NULL, N * V);
    T *d_scaled = to_device<T>(NULL, N * C), *d_dscaled = to_device<T>(NULL, N * C);
    const int *d_ids = to_device(ids, N);

    CHECK_CUDA(llm_cuda_weight_tying_embed(d_x, d, d_ids, N, V, C, 0));
    llm_weight_tying_embed(x, &t, ids, N, V, C);
    CHECK_STORED(T, from_device_as(got, d_x, N * C), x, N * C, 0.0f);
    from_device_as(x, d_x, N * C);
    CHECK_CUDA(llm_cuda_weight_tying_logits(d_logits, d_scaled, d, d_x, N, V, C, 0));
    llm_weight_tying_logits(logits, &t, x, N, V, C);
    CHECK_STORED(T, from_device_as(got, d_logits, N * V), logits, N * V, tol);

    const size_t slices = llm_cuda_dense_slices(N, C, V);
    float *part = slices > 1 ? to_device<float>(NULL, slices * V * C) : NULL;
    CHECK_CUDA(llm_cuda_weight_tying_logits_backward(d_dh, d_dscaled, d, d_dlogits, d_scaled, N, V,
                                                     C, part, 0));
    llm_weight_tying_logits_backward(dh, &t, dlogits, x, N, V, C);
    CHECK_STORED(T, from_device_as(got, d_dh, N * C), dh, N * C, tol);

    /* the other end adds to the same buffer */
    from_device_as(dh, d_dh, N * C);
    const size_t segments = llm_cuda_embedding_sort(order, segment, ids, N, V, scratch);
    CHECK_CUDA(llm_cuda_weight_tying_embed_backward(
        d, d_dh, d_ids, to_device(order, N), to_device(segment, segments + 1), segments, N, C, 0));
    llm_weight_tying_embed_backward(&t, dh, ids, N, V, C);
    CHECK_STORED(T, from_device_as(got, d_dh, N * C), dh, N * C, 0.0f);
    const float sum = tol * sqrtf((float)N + 4) * fmaxf(1.0f, scale_in);
    CHECK_ALL_NEAR(from_device(got, d_de, V * C), de, V * C, sum);
    CHECK_ALL_NEAR(from_device(got, d_dw, V * C), dw, V * C, sum);
}

TEST(weight_tying, "both ends, tied and not, with the three models' scales, equal llm.h's") {
    const float scales[3][2] = {{1.0f, 1.0f}, {4.0f, 1.0f}, {1.0f, 0.25f}};
    for (size_t s = 0; s < 3; s++) {
        for (int tied = 0; tied < 2; tied++) {
            check_tying<float>(5, 7, 3, tied, scales[s][0], scales[s][1]);
            check_tying<llm_bf16>(9, 40, 16, tied, scales[s][0], scales[s][1]);
        }
    }
    check_tying<float>(6, 131, 16, true, 4.0f, 0.25f);
    if (!TEST_SLOW) check_tying<float>(513, 3, 2, true, 1.5f, 0.5f); /* sums in slices */
}

TEST(weight_tying, "without a scale nothing is copied; with one, the buffers have to differ") {
    enum { N = 2, V = 3, C = 2 };
    float h[N * C] = {1, 2, 3, 4}, e[V * C] = {1, 0, 0, 1, 1, 1}, got[V * C];
    float dz[N * V] = {1, 0, 2, 0, 1, 0};
    const float want_z[N * V] = {1, 2, 3, 3, 4, 7}, want_dh[N * C] = {3, 2, 0, 1};
    const float want_de[V * C] = {11, 12, 13, 14, 12, 14}; /* 10 + dz^T h, by hand */
    float start[V * C] = {10, 10, 10, 10, 10, 10};
    float *d_h = to_device(h, N * C), *d_z = to_device<float>(NULL, N * V);
    float *d_dh = to_device(zeros(N * C), N * C), *d_de = to_device(start, V * C), *none = NULL;
    llm_cuda_weight_tying<float> t = {to_device(e, V * C), NULL, d_de, d_de, 1.0f, 1.0f};
    t.head = t.embed;
    CHECK_CUDA(llm_cuda_weight_tying_logits(d_z, d_h, t, d_h, N, V, C, 0));
    CHECK_ALL_NEAR(from_device(got, d_z, N * V), want_z, N * V, 0.0f);
    CHECK_CUDA(llm_cuda_weight_tying_logits_backward(d_dh, d_dh, t, to_device(dz, N * V), d_h, N, V,
                                                     C, none, 0));
    CHECK_ALL_NEAR(from_device(got, d_dh, N * C), want_dh, N * C, 0.0f);
    CHECK_ALL_NEAR(from_device(got, d_de, V * C), want_de, V * C, 0.0f);
    t.scale_out = 2.0f;
    CHECK(llm_cuda_weight_tying_logits_backward(d_dh, d_dh, t, d_z, d_h, N, V, C, none, 0) !=
          cudaSuccess);
}

/* @classification_head */
#include "../test.h"

#include "../../llm_cuda.cuh"

/* hidden: share of the tokens that are padding, NaN in x; 0: no mask. */
template <typename T>
static void check_head(size_t B, size_t L, size_t D, size_t K, int pool, float hidden) {
    const llm_classification_head h = {D, K, pool, false, 0.0f, 0};
    const size_t n = B * L * D, P = K * (D + 1), bytes = (1 << 20) + 12 * B * D;
    llm_arena arena = {(unsigned char *)test_memory(bytes, 1), bytes, 0, 0};
    llm_rng rng = llm_rng_seed(B * 1000 + L * 10 + D);
    float *x = floats(n), *w = floats(P), *dz = floats(B * K), *dx = floats(n), *dw = floats(P);
    float *z = floats(B * K), *cache = floats(llm_classification_head_cache(&h, B, L));
    float *got = floats(n + P + B * K);
    bool *mask = (bool *)test_memory(B * L, sizeof(bool));
    llm_rng_normal_fill(&rng, x, n);
    llm_rng_normal_fill(&rng, w, P);
    llm_rng_normal_fill(&rng, dz, B * K);
    llm_rng_normal_fill(&rng, dx, n);
    llm_rng_normal_fill(&rng, dw, P);
    for (size_t i = 0; i < n; i += 3) x[i] = floorf(x[i]); /* equal ones */
    for (size_t i = 0; i < B * L; i++) mask[i] = llm_rng_uniform(&rng) >= hidden;
    for (size_t b = 0; b < B; b++) mask[b * L + llm_rng_below(&rng, L)] = true;
    for (size_t i = 0; i < n; i++)
        if (!mask[i / D]) x[i] = NAN;
    const T *d_x = to_device_as<T>(x, n), *d_w = to_device_as<T>(w, P),
            *d_dz = to_device_as<T>(dz, B * K);
    const bool *own = hidden > 0.0f ? mask : NULL, *d_mask = own ? to_device(mask, B * L) : NULL;
    T *d_z = to_device<T>(NULL, B * K), *d_f = to_device<T>(NULL, B * D);
    T *d_dx = to_device_as<T>(dx, n), *none = NULL;
    unsigned *from = pool == LLM_CLASSIFICATION_HEAD_MAX ? to_device<unsigned>(NULL, B * D) : NULL;
    float *d_dw = to_device(dw, P), *no_float = NULL;
    const size_t slices = llm_cuda_dense_slices(B, D, K);
    float *scratch = slices > 1 ? to_device<float>(NULL, slices * D * K) : NULL;
    CHECK_CUDA(llm_cuda_classification_head_forward(d_z, d_f, from, &h, d_w, d_x, d_mask, B, L, 0));
    llm_classification_head_forward(z, cache, &h, w, x, own, B, L);
    const float tol = 4e-6f * sqrtf((float)(D + L + 20));
    CHECK_STORED(T, from_device_as(got, d_f, B * D), cache + B * L, B * D, 1e-5f);
    CHECK_STORED(T, from_device_as(got, d_z, B * K), z, B * K, tol);
    for (size_t i = 0; i < B * D; i++) /* dW has to see the stored features */
        cache[B * (L + 2 * D) + i] = from_device_as(got, d_f, B * D)[i];
    CHECK_CUDA(llm_cuda_classification_head_backward(d_dx, no_float, d_dz, d_f, from, &h, d_w,
                                                     d_mask, B, L, scratch, 0));
    CHECK_CUDA(llm_cuda_classification_head_backward(none, d_dw, d_dz, d_f, from, &h, d_w, d_mask,
                                                     B, L, scratch, 0));
    llm_classification_head_backward(dx, dw, dz, cache, &h, w, x, own, B, L, &arena);
    CHECK_STORED(T, from_device_as(got, d_dx, n), dx, n, 4e-6f * sqrtf((float)(K + 10)));
    CHECK_ALL_NEAR(from_device(got, d_dw, P), dw, P, 1e-5f * sqrtf((float)(B + 10)));
}

TEST(classification_head,
     "scores, features and gradients equal the reference, every pool, padding") {
    for (int pool = LLM_CLASSIFICATION_HEAD_MEAN; pool < LLM_CLASSIFICATION_HEAD_ATTN; pool++) {
        check_head<float>(3, 7, 5, 4, pool, 0.4f);
        if (TEST_SLOW) continue;
        check_head<llm_bf16>(2, 40, 130, 3, pool, 0.5f);
        check_head<float>(2, 33, 128, 19, pool, 0.0f);
        check_head<float>(1, 1, 1, 1, pool, 0.0f);
        check_head<float>(2, 530, 3, 2, pool, 0.9f); /* more tokens than threads */
        check_head<float>(2, 17, 260, 2, pool, 0.97f);
    }
}

TEST(classification_head, "a NaN wins the maximum, the last of two; all -inf is the first") {
    enum { L = 40, D = 3 };
    const llm_classification_head h = {D, 1, LLM_CLASSIFICATION_HEAD_MAX, false, 0.0f, 0};
    float x[L * D], w[D + 1] = {0.0f}, f[D];
    unsigned from[D];
    for (size_t i = 0; i < L * D; i++) x[i] = i % D == 1 ? -INFINITY : (float)(i / D % 20);
    x[5 * D] = NAN, x[21 * D] = NAN;
    float *d_z = to_device<float>(NULL, 1), *d_f = to_device<float>(NULL, D);
    unsigned *d_from = to_device<unsigned>(NULL, D);
    CHECK_CUDA(llm_cuda_classification_head_forward(
        d_z, d_f, d_from, &h, (const float *)to_device(w, 4), (const float *)to_device(x, L * D),
        (const bool *)NULL, 1, L, 0));
    from_device(f, d_f, D);
    from_device(from, d_from, D);
    CHECK(isnan(f[0]) && from[0] == 21);
    CHECK(f[1] == -INFINITY && from[1] == 0);
    CHECK(f[2] == 19.0f && from[2] == 19);
}

TEST(classification_head, "other heads are refused; nothing to do") {
    llm_classification_head h = {4, 2, LLM_CLASSIFICATION_HEAD_MEAN, false, 0.0f, 0};
    float *none = NULL;
    unsigned *no_from = NULL;
    const bool *no_mask = NULL;
    CHECK_CUDA(llm_cuda_classification_head_forward(none, none, no_from, &h, none, none, no_mask, 0,
                                                    3, 0));
    CHECK_CUDA(llm_cuda_classification_head_backward(none, none, none, none, no_from, &h, none,
                                                     no_mask, 0, 3, none, 0));
    for (int which = 0; which < 5; which++) {
        llm_classification_head other = h;
        if (which == 0) other.pool = LLM_CLASSIFICATION_HEAD_ATTN;
        if (which == 1) other.tanh = true;
        if (which == 2) other.dropout = 0.1f;
        if (which == 3) other.D = 50001;
        const size_t tokens = which == 4 ? 0 : 3;
        CHECK(llm_cuda_classification_head_forward(none, none, no_from, &other, none, none, no_mask,
                                                   1, tokens, 0) == cudaErrorInvalidValue);
        CHECK(llm_cuda_classification_head_backward(none, none, none, none, no_from, &other, none,
                                                    no_mask, 1, tokens, none,
                                                    0) == cudaErrorInvalidValue);
    }
}

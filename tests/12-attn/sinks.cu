/* @sinks */
#include "../test.h"

#include "../../llm_cuda.cuh"

/* A text of n tokens written to the cache; then token n - 1 asks. */
template <typename T>
static void check_step(size_t H, size_t Hkv, size_t D, size_t rot, size_t first, size_t last,
                       size_t n, llm_rope_pairing pairing) {
    const size_t size = first + last, nk = Hkv * size * D, half = rot / 2;
    float *table = floats(2 * size * half + half), *sine = table + size * half;
    llm_rope_inv_freq(sine + size * half, rot, 100.0f);
    llm_rope_table(table, sine, NULL, sine + size * half, size, rot);
    llm_sinks_config c = llm_sinks_defaults(table, sine, H, Hkv, D, last);
    c.first = first, c.rot = rot, c.pairing = pairing;
    float *keys = floats(nk), *values = floats(nk), *q = floats(H * D);
    float *k = floats(Hkv * D), *v = floats(Hkv * D), *want = floats(H * D), *got = floats(H * D);
    llm_rng rng = llm_rng_seed(n);
    for (size_t t = 0; t < n; t++) {
        llm_rng_normal_fill(&rng, k, Hkv * D);
        llm_rng_normal_fill(&rng, v, Hkv * D);
        llm_sinks_write(keys, values, k, v, t, &c);
    }
    llm_rng_normal_fill(&rng, q, H * D);
    const T *d_q = to_device_as<T>(q, H * D), *d_k = to_device_as<T>(keys, nk);
    const T *d_v = to_device_as<T>(values, nk);
    T *d_out = to_device<T>(NULL, H * D);
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 1 << 20));
    llm_sinks_step(want, q, keys, values, n - 1, &c, &arena);
    llm_arena_destroy(&arena);
    c.cosine = to_device(table, size * half), c.sine = to_device(sine, size * half);
    CHECK_CUDA(llm_cuda_sinks_step(d_out, d_q, d_k, d_v, n - 1, &c, 0));
    CHECK_STORED(T, from_device_as(got, d_out, H * D), want, H * D, 1e-5f);
}

TEST(sinks, "a step equals llm_sinks_step: caches half full, full, several times around") {
    check_step<float>(1, 1, 1, 0, 1, 1, 1, LLM_ROPE_HALVES);
    check_step<float>(4, 2, 6, 4, 3, 5, 7, LLM_ROPE_NEIGHBOURS);
    check_step<llm_bf16>(2, 2, 64, 64, 4, 9, 31, LLM_ROPE_HALVES);
    if (TEST_SLOW) return;
    check_step<float>(11, 1, 80, 66, 4, 28, 32, LLM_ROPE_NEIGHBOURS);
    check_step<llm_bf16>(8, 1, 130, 128, 0, 7, 50, LLM_ROPE_HALVES);
    check_step<float>(5, 1, 256, 100, 2, 6, 9, LLM_ROPE_HALVES);
    check_step<float>(3, 3, 5, 2, 4, 3, 8, LLM_ROPE_NEIGHBOURS);
}

TEST(sinks, "shapes that are refused, and nothing to do") {
    float *d = to_device<float>(NULL, 1);
    llm_sinks_config c = llm_sinks_defaults(d, d, 0, 1, 4, 1);
    CHECK_CUDA(llm_cuda_sinks_step(d, d, d, d, 0, &c, 0));
    c.last = 0;
    CHECK(llm_cuda_sinks_step(d, d, d, d, 0, &c, 0) == cudaErrorInvalidValue);
    c.last = 1, c.H = 3, c.Hkv = 2;
    CHECK(llm_cuda_sinks_step(d, d, d, d, 0, &c, 0) == cudaErrorInvalidValue);
    c.Hkv = 3, c.rot = 3;
    CHECK(llm_cuda_sinks_step(d, d, d, d, 0, &c, 0) == cudaErrorInvalidValue);
    c.rot = 6;
    CHECK(llm_cuda_sinks_step(d, d, d, d, 0, &c, 0) == cudaErrorInvalidValue);
    c.rot = 2, c.D = 257;
    CHECK(llm_cuda_sinks_step(d, d, d, d, 0, &c, 0) == cudaErrorInvalidValue);
}

/* @flash */
#include "../test.h"

#include "../../llm_cuda.cuh"

static float *flash_normal(uint64_t seed, size_t n) {
    float *x = floats(n);
    llm_rng rng = llm_rng_seed(seed);
    llm_rng_normal_fill(&rng, x, n);
    return x;
}

template <typename T> static void check_flash(const llm_flash_config *c, bool padded) {
    const size_t nq = c->B * c->H * c->T * c->D, nk = c->B * c->Hkv * c->S * c->D;
    const size_t rows = c->B * c->H * c->T;
    float *q = flash_normal(c->T, nq), *k = flash_normal(c->S + 1, nk), *v = flash_normal(3, nk);
    float *want = floats(nq), *want_lse = floats(rows), *got = floats(nq), *got_lse = floats(rows);
    const T *d_q = to_device_as<T>(q, nq), *d_k = to_device_as<T>(k, nk);
    const T *d_v = to_device_as<T>(v, nk);
    T *d_out = to_device<T>(NULL, nq);
    float *d_lse = to_device<float>(NULL, rows);
    bool *hidden = bools(c->B * c->S);
    for (size_t i = 0; i < c->B * c->S; i++) hidden[i] = i % 3 == 1 || i < 2;
    llm_flash_config host = *c, device = *c;
    if (padded) host.hidden = hidden, device.hidden = to_device(hidden, c->B * c->S);
    llm_arena arena;
    CHECK(llm_arena_create(&arena, (rows * sizeof(float) + 63) / 64 * 64));
    llm_flash_forward(want, want_lse, q, k, v, &host, &arena);
    llm_arena_destroy(&arena);
    CHECK_CUDA(llm_cuda_flash_forward(d_out, d_lse, d_q, d_k, d_v, &device, 0));
    /* dot products of D terms, averages of S values, in another order */
    CHECK_STORED(T, from_device_as(got, d_out, nq), want, nq, 3e-6f);
    from_device(got_lse, d_lse, rows);
    for (size_t i = 0; i < rows; i++) {
        if (want_lse[i] == -INFINITY)
            CHECK(got_lse[i] == -INFINITY);
        else
            CHECK_NEAR(got_lse[i], want_lse[i], 1e-6f * (4.0f + fabsf(want_lse[i])));
    }
}
static llm_flash_config flash_shape(size_t B, size_t H, size_t Hkv, size_t T, size_t S, size_t D,
                                    bool causal) {
    llm_flash_config c = llm_flash_defaults(B, H, Hkv, T, D);
    c.S = S, c.causal = causal;
    return c;
}

TEST(flash,
     "the kernel equals llm_flash_forward: ragged tiles, groups, masks, rows that see nothing") {
    const size_t shapes[9][7] = {
        {1, 1, 1, 1, 1, 1, 1},      {1, 2, 1, 65, 65, 3, 1},   {2, 2, 2, 3, 70, 16, 1},
        {1, 1, 1, 70, 5, 65, 1},    {1, 3, 1, 64, 64, 64, 1},  {1, 2, 2, 66, 129, 33, 0},
        {1, 1, 1, 131, 131, 17, 1}, {1, 1, 1, 20, 67, 128, 1}, {2, 1, 1, 130, 30, 2, 1}};
    for (size_t s = 0; s < (TEST_SLOW ? 3 : 9); s++) {
        const size_t *z = shapes[s];
        const llm_flash_config c = flash_shape(z[0], z[1], z[2], z[3], z[4], z[5], z[6] != 0);
        check_flash<float>(&c, s % 2);
        if (s % 3 == 1) check_flash<llm_bf16>(&c, false);
    }
}

TEST(flash, "dropout draws what the reference draws; a scale of its own") {
    llm_flash_config c = flash_shape(1, 2, 1, 10, 67, 5, true);
    c.dropout = 0.3f, c.seed = 11, c.offset = 5, c.scale = 0.7f;
    check_flash<float>(&c, true);
}

TEST(flash, "scores of 1e4, nothing to do, shapes that are refused") {
    enum { T = 66, D = 4 };
    float *q = flash_normal(1, T * D), *out = floats(T * D);
    for (size_t i = 0; i < T * D; i++) q[i] *= 100.0f;
    const float *d_q = to_device(q, T * D);
    float *d_out = to_device<float>(NULL, T * D), *d_lse = to_device<float>(NULL, T);
    llm_flash_config c = llm_flash_defaults(1, 1, 1, T, D);
    CHECK_CUDA(llm_cuda_flash_forward(d_out, d_lse, d_q, d_q, d_q, &c, 0));
    from_device(out, d_out, T * D);
    for (size_t i = 0; i < T * D; i++) CHECK(isfinite(out[i]));
    CHECK_ALL_NEAR(out, q, D, 0.0f); /* the first query sees one key */
    c.B = 0;
    CHECK_CUDA(llm_cuda_flash_forward(d_out, d_lse, d_q, d_q, d_q, &c, 0));
    c.B = 1, c.S = 0; /* no keys */
    CHECK_CUDA(llm_cuda_flash_forward(d_out, d_lse, d_q, d_q, d_q, &c, 0));
    CHECK(from_device(out, d_out, T * D)[5] == 0.0f && from_device(q, d_lse, T)[65] == -INFINITY);
    c.D = 129;
    CHECK(llm_cuda_flash_forward(d_out, d_lse, d_q, d_q, d_q, &c, 0) == cudaErrorInvalidValue);
    c.D = 4, c.H = 3, c.Hkv = 2;
    CHECK(llm_cuda_flash_forward(d_out, d_lse, d_q, d_q, d_q, &c, 0) == cudaErrorInvalidValue);
}

/* @rope */
#include "../test.h"

#include "../../llm_cuda.cuh"

static float *rope_normal(uint64_t seed, size_t n) {
    float *x = floats(n);
    llm_rng rng = llm_rng_seed(seed);
    llm_rng_normal_fill(&rng, x, n);
    return x;
}

/* The reference's three steps on the host: split, turn, append to a cache that holds length[b]
 * positions of text b; and what llm_rope_backward and llm_qkv_merge make of gradients. */
template <typename T>
static void check_rope(const llm_cuda_rope_config *shape, bool lengths, bool shared_table) {
    llm_cuda_rope_config c = *shape;
    const size_t B = c.B, N = c.T, D = c.D, W = (c.H + 2 * c.Hkv) * D, n = B * N * W;
    const size_t nq = B * c.H * N * D, nk = B * c.Hkv * N * D, half = c.rot / 2;
    float *qkv = rope_normal(N, n), *inv_freq = floats(half), *got = floats(n);
    float *q = floats(nq), *k = floats(nk), *v = floats(nk);
    const size_t tables = shared_table ? 1 : B;
    float *cosine = floats(tables * N * half), *sine = floats(tables * N * half);
    int *pos = (int *)test_memory(tables * N, sizeof(int));
    size_t *length = (size_t *)test_memory(B, sizeof(size_t));
    for (size_t i = 0; i < tables * N; i++) pos[i] = (int)(i % N + 3 * (i / N) + 2);
    for (size_t b = 0; b < B; b++) length[b] = lengths ? 1 + b : 0;
    c.room = N + (lengths ? B + 2 : 0), c.one_table = shared_table;
    if (lengths) c.length = to_device(length, B);
    llm_rope_inv_freq(inv_freq, c.rot, 100.0f);
    llm_rope_table(cosine, sine, pos, inv_freq, tables * N, c.rot);
    const T *d_qkv = to_device_as<T>(qkv, n);
    const float *d_cosine = to_device(cosine, tables * N * half);
    const float *d_sine = to_device(sine, tables * N * half);
    T *d_q = to_device<T>(NULL, nq), *d_k = to_device<T>(NULL, B * c.Hkv * c.room * D);
    T *d_v = to_device<T>(NULL, B * c.Hkv * c.room * D), *d_back = to_device<T>(NULL, n);

    llm_qkv_config split = llm_qkv_defaults(B, N, c.H * D, c.H);
    split.Hkv = c.Hkv, split.D = D;
    llm_qkv_split(q, k, v, qkv, &split);
    float *part[2] = {q, k};
    const size_t heads[2] = {c.H, c.Hkv};
    for (size_t p = 0; p < 2; p++)
        llm_rope_forward(part[p], part[p], cosine, sine, tables, B * heads[p] / tables, N, D, c.rot,
                         c.pairing);
#ifndef __CUDACC__
    emulate_count();
#endif
    CHECK_CUDA(llm_cuda_rope_split(d_q, d_k, d_v, d_qkv, d_cosine, d_sine, &c, 0));
#ifndef __CUDACC__
    /* every number once in and once out; the angles of a row for every head of q and k */
    CHECK(emulate_counted.written == n * sizeof(T));
    CHECK(emulate_counted.read == n * sizeof(T) + B * N * (c.H + c.Hkv) * c.rot * sizeof(float));
#endif
    CHECK_STORED(T, from_device_as(got, d_q, nq), q, nq, 1e-6f);
    float *got_k = floats(B * c.Hkv * c.room * D), *got_v = floats(B * c.Hkv * c.room * D);
    from_device_as(got_k, d_k, B * c.Hkv * c.room * D);
    from_device_as(got_v, d_v, B * c.Hkv * c.room * D);
    for (size_t i = 0; i < B * c.Hkv * c.room; i++) {
        const size_t b = i / c.room / c.Hkv, t = i % c.room - length[b];
        for (size_t d = 0; i % c.room >= length[b] && t < N && d < D; d++) {
            const size_t at = (i / c.room * N + t) * D + d;
            CHECK_STORED(T, &got_k[i * D + d], &k[at], 1, 1e-6f);
            CHECK(got_v[i * D + d] == v[at]);
        }
        if (i % c.room < length[b] || t >= N) /* the other positions are not touched */
            CHECK(got_k[i * D] != got_k[i * D] && got_v[i * D + D - 1] != got_v[i * D + D - 1]);
    }

    /* backward: what was turned and stored, taken as a gradient, comes back as qkv */
    CHECK_CUDA(llm_cuda_rope_merge(d_back, d_q, d_k, d_v, d_cosine, d_sine, &c, 0));
    float *stored = floats(n), *dq = zeros(nq), *dk = zeros(nk);
    from_device_as(q, d_q, nq);
    for (size_t i = 0; i < nk; i++) {
        const size_t bh = i / D / N, at = bh * c.room + length[bh / c.Hkv] + i / D % N;
        k[i] = got_k[at * D + i % D];
    }
    llm_rope_backward(dq, q, cosine, sine, tables, B * c.H / tables, N, D, c.rot, c.pairing);
    llm_rope_backward(dk, k, cosine, sine, tables, B * c.Hkv / tables, N, D, c.rot, c.pairing);
    llm_qkv_merge(stored, dq, dk, v, &split);
    from_device_as(got, d_back, n);
    CHECK_STORED(T, got, stored, n, 1e-6f);
    for (size_t i = 0; i < n; i++) CHECK_NEAR(got[i], qkv[i], 3.0f * (unit_of<T>() + 1e-7f) * 4.0f);

    /* in place, and backwards on top of what is there */
    float *x = rope_normal(77, nq), *y = floats(nq), *dx = rope_normal(78, nq);
    T *d_x = to_device_as<T>(x, nq), *d_dx = to_device_as<T>(dx, nq);
    CHECK_CUDA(llm_cuda_rope_rows(d_dx, d_x, d_cosine, d_sine, tables, B * c.H / tables, N, D,
                                  c.rot, c.pairing, -1.0f, 0));
    llm_rope_backward(dx, x, cosine, sine, tables, B * c.H / tables, N, D, c.rot, c.pairing);
    CHECK_STORED(T, from_device_as(got, d_dx, nq), dx, nq, 1e-6f);
    CHECK_CUDA(llm_cuda_rope_rows(d_x, d_x, d_cosine, d_sine, tables, B * c.H / tables, N, D, c.rot,
                                  c.pairing, 1.0f, 0));
    llm_rope_forward(y, x, cosine, sine, tables, B * c.H / tables, N, D, c.rot, c.pairing);
    CHECK_STORED(T, from_device_as(got, d_x, nq), y, nq, 1e-6f);
}

TEST(rope, "split, turn and append equal the reference's three steps, and back; both layouts") {
    const size_t shapes[7][6] = {/* B, T, H, Hkv, D, rot */
                                 {1, 1, 1, 1, 2, 2},    {2, 3, 3, 1, 6, 4},  {1, 5, 4, 2, 64, 64},
                                 {3, 2, 2, 2, 48, 32},  {2, 7, 1, 1, 20, 0}, {1, 2, 7, 1, 256, 64},
                                 {2, 2, 9, 3, 128, 128}};
    for (size_t s = 0; s < 7; s++) {
        const size_t *z = shapes[s];
        llm_cuda_rope_config c = llm_cuda_rope_defaults(z[0], z[1], z[2], z[3], z[4]);
        c.rot = z[5];
        for (int pairing = 0; pairing < 2; pairing++) {
            c.pairing = pairing ? LLM_ROPE_NEIGHBOURS : LLM_ROPE_HALVES;
            check_rope<float>(&c, s % 2, pairing == 0);
            check_rope<llm_bf16>(&c, pairing, s % 2);
        }
    }
}

TEST(rope, "nothing to do, and shapes that are refused") {
    float *d = to_device<float>(NULL, 4);
    llm_cuda_rope_config c = llm_cuda_rope_defaults(0, 3, 2, 2, 4);
    CHECK_CUDA(llm_cuda_rope_split(d, d, d, d, d, d, &c, 0));
    CHECK_CUDA(llm_cuda_rope_merge(d, d, d, d, d, d, &c, 0));
    CHECK_CUDA(llm_cuda_rope_rows(d, d, d, d, 1, 1, 0, 4, 4, LLM_ROPE_HALVES, 1.0f, 0));
    c.B = 1, c.room = 2; /* three positions, room for two */
    CHECK(llm_cuda_rope_split(d, d, d, d, d, d, &c, 0) == cudaErrorInvalidValue);
    c.room = 3, c.rot = 6;
    CHECK(llm_cuda_rope_split(d, d, d, d, d, d, &c, 0) == cudaErrorInvalidValue);
    c.rot = 3;
    CHECK(llm_cuda_rope_merge(d, d, d, d, d, d, &c, 0) == cudaErrorInvalidValue);
    c.rot = 2, c.D = 3;
    CHECK(llm_cuda_rope_merge(d, d, d, d, d, d, &c, 0) == cudaErrorInvalidValue);
    CHECK(llm_cuda_rope_rows(d, d, d, d, 1, 1, 1, 4, 3, LLM_ROPE_HALVES, 1.0f, 0) ==
          cudaErrorInvalidValue);
}

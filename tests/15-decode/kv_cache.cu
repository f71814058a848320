/* @kv_cache */
#include "../test.h"

#include "../../llm_cuda.cuh"

enum { L = 2, B = 3, H = 2, ROOM = 70 };

static float *normals(llm_rng *rng, size_t n) {
    float *x = floats(n);
    llm_rng_normal_fill(rng, x, n);
    return x;
}

/* Prompts of different lengths, then tokens, through the reference and the kernels: the caches, the
 * rotated queries and what attention makes of them agree; then rows follow other rows. */
template <typename T> static void check_cache(size_t Hq, size_t D, size_t rot, size_t tokens) {
    const size_t cells = 2 * L * B * H * ROOM * D, prompt = 5, count[B] = {5, 1, 3};
    const llm_rope_pairing pairing = rot == D ? LLM_ROPE_HALVES : LLM_ROPE_NEIGHBOURS;
    llm_kv_cache want;
    llm_arena arena;
    llm_rng rng = llm_rng_seed(D + rot);
    CHECK(llm_arena_create(&arena, (cells + (B + H) * ROOM * (Hq + D)) * sizeof(float) + 4096));
    llm_kv_cache_create(&want, L, B, H, ROOM, D, &arena);
    for (size_t i = 0; i < cells; i++) want.memory[i] = NAN;
    const size_t none[B] = {0, 0, 0};
    llm_cuda_kv_cache<T> c = {to_device<T>(NULL, cells), to_device(none, B), L, B, H, ROOM, D};
    float *inv_freq = floats(rot / 2 + 1), *cosine = floats(ROOM * (rot / 2) + 1), *sine;
    sine = floats(ROOM * (rot / 2) + 1);
    llm_rope_inv_freq(inv_freq, rot, 100.0f);
    llm_rope_table(cosine, sine, NULL, inv_freq, ROOM, rot);
    const float *d_cosine = to_device(cosine, ROOM * (rot / 2));
    const float *d_sine = to_device(sine, ROOM * (rot / 2));
    const llm_cuda_gqa_config g = llm_cuda_kv_cache_config(&c, Hq);
    float *d_scratch = to_device<float>(NULL, llm_cuda_gqa_scratch(&g));

    for (size_t t = 0; t < 1 + tokens; t++) {
        const size_t n = t == 0 ? prompt : 1, heads = n * D;
        for (size_t l = 0; l < L; l++) {
            float *q = normals(&rng, B * Hq * heads), *k = normals(&rng, B * H * heads);
            float *v = normals(&rng, B * H * heads), *got_q = floats(B * Hq * heads);
            T *d_q = to_device_as<T>(q, B * Hq * heads);
            const T *d_k = to_device_as<T>(k, B * H * heads);
            const T *d_v = to_device_as<T>(v, B * H * heads);
#ifndef __CUDACC__
            emulate_count();
#endif
            CHECK_CUDA(llm_cuda_kv_cache_append(&c, l, d_q, d_k, d_v, d_cosine, d_sine, Hq, n, rot,
                                                pairing, 0));
#ifndef __CUDACC__
            const size_t turned = B * Hq * n * rot, stored = 2 * B * H * heads;
            CHECK(emulate_counted.read == (turned + stored) * sizeof(T));
            CHECK(emulate_counted.written == (turned + stored) * sizeof(T));
#endif
            for (size_t b = 0; b < B; b++) { /* the positions of row b */
                const float *cos_b = cosine + want.length[b] * (rot / 2);
                const float *sin_b = sine + want.length[b] * (rot / 2);
                float *qb = q + b * Hq * heads, *kb = k + b * H * heads;
                llm_rope_forward(qb, qb, cos_b, sin_b, 1, Hq, n, D, rot, pairing);
                llm_rope_forward(kb, kb, cos_b, sin_b, 1, H, n, D, rot, pairing);
            }
            from_device_as(got_q, d_q, B * Hq * heads);
            CHECK_STORED(T, got_q, q, B * Hq * heads, 2e-6f);
            llm_kv_cache_append(&want, l, k, v, n);
            if (t == 0) continue;
            float *o = floats(B * Hq * D), *got = floats(B * Hq * D);
            T *d_o = to_device<T>(NULL, B * Hq * D);
            CHECK_CUDA(llm_cuda_kv_cache_attend(d_o, &c, l, d_q, Hq, d_scratch, 0));
            llm_kv_cache_attend(o, &want, l, got_q, Hq, 1, &arena);
            /* the reference's cache is not rounded: a rounding of k changes a score */
            CHECK_STORED(T, from_device_as(got, d_o, B * Hq * D), o, B * Hq * D,
                         sizeof(T) == 4 ? 1e-5f : 3e-2f);
        }
        const size_t *d_count = t == 0 ? to_device(count, B) : NULL;
        CHECK_CUDA(llm_cuda_kv_cache_advance(&c, d_count, n, 0));
        llm_kv_cache_advance(&want, t == 0 ? count : NULL, n);
    }
    float *got = floats(cells);
    from_device_as(got, c.memory, cells);
    for (size_t i = 0; i < cells; i++) { /* nothing is written where the reference has nothing */
        CHECK(isnan(got[i]) == isnan(want.memory[i]));
        if (isnan(got[i])) got[i] = want.memory[i] = 0.0f;
    }
    CHECK_STORED(T, got, want.memory, cells, 2e-6f);

    const size_t parents[4][B] = {{1, 0, 2}, {2, 2, 2}, {2, 0, 1}, {0, 1, 2}};
    for (size_t r = 0; r < 4; r++) {
        size_t length[B];
        float *before = floats(cells), *after = floats(cells);
        from_device_as(before, c.memory, cells);
        CHECK_CUDA(llm_cuda_kv_cache_reorder(&c, to_device(parents[r], B), 0));
        from_device_as(after, c.memory, cells);
        from_device(length, c.length, B);
        llm_kv_cache_reorder(&want, parents[r], &arena);
        for (size_t i = 0; i < cells; i++) {
            const size_t at = i % (ROOM * D) / D, row = i / (ROOM * D), b = row / H % B;
            const size_t from = (row + (parents[r][b] - b) * H) * ROOM * D + i % (ROOM * D);
            CHECK(length[b] == want.length[b]);
            if (at < length[b]) CHECK(after[i] == before[from]);
        }
    }
    llm_arena_destroy(&arena);
}

TEST(kv_cache,
     "appending turned keys, attending and reordering equal the reference, on two layers") {
    check_cache<float>(4, 8, 8, 3);
    check_cache<float>(2, 6, 4, 2); /* no vectors; neighbours, and two that are not turned */
    check_cache<llm_bf16>(6, 16, 16, 2);
    check_cache<llm_bf16>(2, 3, 0, 2); /* nothing is turned */
}

TEST(kv_cache, "a full row stores nothing more, and wrong arguments are refused") {
    enum { D = 4 };
    const size_t cells = 2 * B * H * 2 * D, lengths[B] = {2, 1, 0};
    llm_rng rng = llm_rng_seed(1);
    llm_cuda_kv_cache<float> c = {
        to_device<float>(NULL, cells), to_device(lengths, B), 1, B, H, 2, D};
    float *got = floats(cells), *none = NULL;
    const float *k = to_device(normals(&rng, B * H * D), B * H * D);
    CHECK_CUDA(
        llm_cuda_kv_cache_append(&c, 0, none, k, k, none, none, 0, 1, 0, LLM_ROPE_HALVES, 0));
    CHECK_CUDA(llm_cuda_kv_cache_advance(&c, NULL, 1, 0));
    from_device(got, c.memory, cells);
    for (size_t i = 0; i < cells; i++) {
        const size_t b = i / (2 * D * H) % B, at = i % (2 * D) / D;
        CHECK(isnan(got[i]) == (b == 0 || at != lengths[b]));
    }
    size_t length[B];
    from_device(length, c.length, B);
    CHECK(length[0] == 2 && length[1] == 2 && length[2] == 1);
    CHECK(llm_cuda_kv_cache_append(&c, 1, none, k, k, none, none, 0, 1, 0, LLM_ROPE_HALVES, 0) !=
          cudaSuccess);
    CHECK(llm_cuda_kv_cache_append(&c, 0, none, k, k, none, none, 0, 1, 3, LLM_ROPE_HALVES, 0) !=
          cudaSuccess);
    c.B = 225;
    CHECK(llm_cuda_kv_cache_reorder(&c, NULL, 0) != cudaSuccess);
}

TEST(kv_cache, "nodes of a tree are stored one behind the other and turned by their depths") {
    enum { D = 8, N = 5, HQ = 2 };
    const size_t cells = 2 * L * B * H * ROOM * D, length[B] = {0, 7, ROOM - 3};
    const size_t depth[B * N] = {0, 1, 1, 2, 1, /**/ 0, 0, 1, 2, 3, /**/ 0, 1, 1, 1, 1};
    float inv_freq[D / 2], *cosine = floats(ROOM * D / 2), *sine = floats(ROOM * D / 2);
    llm_rng rng = llm_rng_seed(8);
    llm_rope_inv_freq(inv_freq, D, 100.0f);
    llm_rope_table(cosine, sine, NULL, inv_freq, ROOM, D);
    for (int one = 0; one < 2; one++) { /* one tree for all rows, or each its own */
        llm_cuda_kv_cache<float> c = {
            to_device<float>(NULL, cells), to_device(length, B), L, B, H, ROOM, D};
        float *q = normals(&rng, B * HQ * N * D), *k = normals(&rng, B * H * N * D), *got_q;
        float *v = normals(&rng, B * H * N * D), *got = floats(cells),
              *d_q = to_device(q, B * HQ * N * D);
        CHECK_CUDA(llm_cuda_kv_cache_append(
            &c, 1, d_q, to_device(k, B * H * N * D), to_device(v, B * H * N * D),
            to_device(cosine, ROOM * D / 2), to_device(sine, ROOM * D / 2), HQ, N, D,
            LLM_ROPE_HALVES, 0, to_device(depth, B * N), one ? 0 : N));
        from_device(got, c.memory, cells);
        got_q = from_device(floats(B * HQ * N * D), d_q, B * HQ * N * D);
        for (size_t i = 0; i < B * (HQ + H) * N; i++) {
            const bool query = i < B * HQ * N;
            const size_t row = query ? i : i - B * HQ * N, heads = query ? (size_t)HQ : (size_t)H;
            const size_t b = row / N / heads, node = row % N;
            const size_t at = length[b] + depth[(one ? 0 : b * N) + node];
            if (length[b] + node >= ROOM) continue;
            float *x = (query ? q : k) + row * D;
            llm_rope_forward(x, x, cosine + at * D / 2, sine + at * D / 2, 1, 1, 1, D, D,
                             LLM_ROPE_HALVES);
            const size_t cell = ((2 * B * H + row / N) * ROOM + length[b] + node) * D;
            CHECK_ALL_NEAR(query ? got_q + row * D : got + cell, x, D, 2e-6f);
            if (!query) CHECK_ALL_NEAR(got + cell + B * H * ROOM * D, v + row * D, D, 0.0f);
        }
    }
}

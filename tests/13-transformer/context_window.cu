/* @context_window */
#include "../test.h"

#include "../../llm_cuda.cuh"

/* A cache of three texts of different lengths, in the layout (L,2,B,H,room,D), before and after. */
template <typename T>
static void check_shift(size_t D, size_t rot, llm_rope_pairing pairing, size_t keep, size_t drop,
                        size_t full) {
    enum { L = 2, B = 3, H = 2, ROOM = 11 };
    const size_t head = ROOM * D, n = L * 2 * B * H * head, half = rot / 2;
    size_t length[B] = {ROOM, 7, 4}, got_length[B];
    float *memory = floats(n), *got = floats(n), *cosine = floats((drop + 1) * half);
    float *sine = floats((drop + 1) * half), *inv_freq = floats(half);
    llm_rng rng = llm_rng_seed(D + rot + drop);
    llm_rng_normal_fill(&rng, memory, n);
    if (rot) llm_rope_inv_freq(inv_freq, rot, 50.0f);
    if (rot) llm_rope_table(cosine, sine, NULL, inv_freq, drop + 1, rot);
    T *d_memory = to_device_as<T>(memory, n);
    size_t *d_length = to_device(length, B);
    const llm_cuda_context_window_config c = {L, B, H, ROOM, D, rot, keep, drop, full, pairing};
    CHECK_CUDA(llm_cuda_context_window_shift(
        d_memory, d_length, rot ? to_device(cosine, (drop + 1) * half) : NULL,
        rot ? to_device(sine, (drop + 1) * half) : NULL, &c, 0));
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 1 << 12));
    for (size_t l = 0; l < L; l++) {
        for (size_t b = 0; b < B; b++) {
            float *k = memory + ((2 * l * B + b) * H) * head, *v = k + B * H * head;
            if (length[b] < full || length[b] < keep + drop) continue;
            const size_t left =
                llm_context_window_shift(k, v, H, ROOM, D, length[b], keep, drop,
                                         rot ? inv_freq : NULL, rot, pairing, &arena);
            CHECK(left == length[b] - drop);
        }
    }
    llm_arena_destroy(&arena);
    from_device(got_length, d_length, B);
    for (size_t b = 0; b < B; b++) {
        const bool moves = length[b] >= full && length[b] >= keep + drop;
        CHECK(got_length[b] == length[b] - (moves ? drop : 0));
    }
    CHECK_STORED(T, from_device_as(got, d_memory, n), memory, n, 2e-6f);
}
TEST(context_window, "a cache of three texts equals llm_context_window_shift of each that moves") {
    check_shift<float>(8, 8, LLM_ROPE_HALVES, 2, 4, 0);          /* four floats at a time */
    check_shift<llm_bf16>(16, 16, LLM_ROPE_NEIGHBOURS, 1, 2, 5); /* chains of several links */
    check_shift<float>(6, 4, LLM_ROPE_NEIGHBOURS, 3, 4, 0);      /* one text ends with the gap */
    check_shift<float>(4, 0, LLM_ROPE_HALVES, 0, 7, 0);
    check_shift<llm_bf16>(6, 6, LLM_ROPE_HALVES, 2, 1, 11); /* only full ones, a step of one */
    check_shift<float>(24, 8, LLM_ROPE_HALVES, 4, 0, 0);    /* nothing is dropped */
}

/* Without the section: a key of position p that has moved up is that of position p - drop. */
TEST(context_window, "keys stand as if they had been turned where they now are") {
    enum { ROOM = 9, D = 8, KEEP = 2, DROP = 3, N = ROOM * D };
    float raw[N], memory[2 * N], want[2 * N], got[2 * N], cosine[ROOM * 4], sine[ROOM * 4], f[4];
    size_t length = ROOM;
    llm_rng rng = llm_rng_seed(3);
    llm_rng_normal_fill(&rng, raw, N);
    llm_rope_inv_freq(f, D, 10.0f);
    llm_rope_table(cosine, sine, NULL, f, ROOM, D);
    llm_rope_forward(memory, raw, cosine, sine, 1, 1, ROOM, D, D, LLM_ROPE_HALVES);
    memset(want, 0, sizeof want);
    for (size_t p = 0; p < ROOM; p++) { /* a text of one token at position p each */
        const size_t to = p < KEEP ? p : p - DROP;
        if (p >= KEEP && p < KEEP + DROP) continue;
        for (size_t i = 0; i < 4; i++) {
            const double angle = (double)to * (double)f[i], x = raw[p * D + i];
            const double y = raw[p * D + 4 + i];
            want[to * D + i] = (float)(x * cos(angle) - y * sin(angle));
            want[to * D + 4 + i] = (float)(x * sin(angle) + y * cos(angle));
        }
        for (size_t d = 0; d < D; d++) want[N + to * D + d] = raw[p * D + d];
    }
    memcpy(memory + N, raw, sizeof raw);
    float *d_memory = to_device(memory, 2 * N);
    size_t *d_length = to_device(&length, 1);
    const llm_cuda_context_window_config c = {1, 1,    1,    ROOM, D,
                                              D, KEEP, DROP, ROOM, LLM_ROPE_HALVES};
    CHECK_CUDA(llm_cuda_context_window_shift(d_memory, d_length, to_device(cosine, ROOM * 4),
                                             to_device(sine, ROOM * 4), &c, 0));
    from_device(got, d_memory, 2 * N);
    CHECK(*from_device(&length, d_length, 1) == ROOM - DROP);
    CHECK_ALL_NEAR(got, want, (ROOM - DROP) * D, 3e-6f);
    CHECK_ALL_NEAR(got + N, want + N, (ROOM - DROP) * D, 0.0f);
}

TEST(context_window, "what a launch refuses, and what it need not do") {
    float x[4] = {1, 2, 3, 4}, *d = to_device(x, 4), got[4];
    size_t length = 2, *d_length = to_device(&length, 1);
    llm_cuda_context_window_config c = {1, 1, 1, 2, 2, 2, 0, 1, 0, LLM_ROPE_HALVES};
    llm_cuda_context_window_config bad[4] = {c, c, c, c};
    bad[0].D = 3, bad[1].rot = 1, bad[2].rot = 4, bad[3].keep = 2;
    for (size_t i = 0; i < 4; i++)
        CHECK(llm_cuda_context_window_shift(d, d_length, x, x, &bad[i], 0) ==
              (cudaError_t)cudaErrorInvalidValue);
    c.rot = 0, c.keep = 1; /* the whole of what is not kept goes: nothing moves */
    CHECK_CUDA(llm_cuda_context_window_shift(d, d_length, (float *)NULL, (float *)NULL, &c, 0));
    CHECK(*from_device(&length, d_length, 1) == 1);
    from_device(got, d, 4);
    for (size_t i = 0; i < 4; i++) CHECK(got[i] == x[i]);
    c.B = 0;
    CHECK_CUDA(llm_cuda_context_window_shift(d, d_length, (float *)NULL, (float *)NULL, &c, 0));
}

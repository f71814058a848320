/* @sinks_learned */
#include "../test.h"

#include "../../llm.h"

#include "../arena.h"

TEST(sinks_learned, "behind a window: transformers' gpt-oss, all gradients by the window's own") {
    const size_t shapes[][6] = {{1, 1, 1, 1, 1, 1}, {2, 4, 2, 5, 3, 5}, {1, 3, 1, 7, 2, 3}};
    llm_arena arena = test_arena(1 << 16);
    for (size_t s = 0; s < 3; s++) {
        const size_t *z = shapes[s], B = z[0], H = z[1], Hkv = z[2], T = z[3], D = z[4];
        const size_t nq = B * H * T * D, nk = B * Hkv * T * D;
        const llm_sliding_window_config c = llm_sliding_window_defaults(B, H, Hkv, T, D, z[5]);
        char name[64];
        snprintf(name, sizeof name, "%zux%zux%zux%zux%zux%zu", B, H, Hkv, T, D, z[5]);
        const float *q = golden("%s/q", name), *k = golden("%s/k", name);
        const float *v = golden("%s/v", name), *dout = golden("%s/dout", name);
        const float *sink = golden("%s/sink", name);
        float *out = floats(nq), *lse = floats(B * H * T), *dsink = zeros(H);
        float *dq = zeros(nq), *dk = zeros(nk), *dv = zeros(nk);
        llm_sliding_window_forward(out, lse, q, k, v, &c, &arena);
        llm_sinks_learned_forward(out, lse, sink, B, H, T, D);
        CHECK_GOLDEN(out, nq, 1e-6f, "%s/out", name);
        llm_sliding_window_backward(dq, dk, dv, dout, out, lse, q, k, v, &c, &arena);
        llm_sinks_learned_backward(dsink, dout, out, lse, sink, B, H, T, D);
        CHECK_GOLDEN(dq, nq, 2e-6f, "%s/dq", name);
        CHECK_GOLDEN(dk, nk, 4e-6f, "%s/dk", name);
        CHECK_GOLDEN(dv, nk, 4e-6f, "%s/dv", name);
        CHECK_GOLDEN(dsink, H, 4e-6f, "%s/dsink", name);
        llm_sinks_learned_backward(dsink, dout, out, lse, sink, B, H, T, D); /* it accumulates */
        for (size_t h = 0; h < H; h++) CHECK_NEAR(dsink[h], 2 * golden("%s/dsink", name)[h], 1e-5);
    }
}

TEST(sinks_learned, "behind tiles it is @attn_weights with its sink on a matrix of weights") {
    enum { H = 3, T = 70, D = 5 };
    static float q[H * T * D], k[H * T * D], v[H * T * D], out[H * T * D], lse[H * T];
    static float score[H * T * T], p[H * T * T], want_lse[H * T];
    float sink[H] = {-1.0f, 0.0f, 4.0f};
    llm_rng rng = llm_rng_seed(1);
    llm_rng_normal_fill(&rng, q, H * T * D);
    llm_rng_normal_fill(&rng, k, H * T * D);
    llm_rng_normal_fill(&rng, v, H * T * D);
    llm_arena arena = test_arena(1 << 16);
    const llm_flash_config c = llm_flash_defaults(1, H, H, T, D);
    llm_flash_forward(out, lse, q, k, v, &c, &arena);
    llm_sinks_learned_forward(out, lse, sink, 1, H, T, D);
    for (size_t r = 0; r < H * T; r++)
        for (size_t j = 0; j < T; j++)
            score[r * T + j] =
                j > r % T ? -INFINITY : (float)dot(q + r * D, k + (r / T * T + j) * D, D) * c.scale;
    const llm_attn_weights_config w = llm_attn_weights_defaults(1, H, T, T);
    llm_attn_weights_forward(p, p, want_lse, score, sink, &w);
    CHECK_ALL_NEAR(lse, want_lse, H * T, 2e-6f);
    for (size_t r = 0; r < H * T; r++)
        for (size_t d = 0; d < D; d++) {
            double want = 0.0;
            for (size_t j = 0; j < T; j++)
                want += (double)p[r * T + j] * (double)v[(r / T * T + j) * D + d];
            CHECK_NEAR(out[r * D + d], want, 2e-6);
        }
}

TEST(sinks_learned, "heads inside, as @flash23 has them; a sink is one part more of @flash_split") {
    enum { N = 4, H = 3, D = 2 };
    float out[N * H * D], lse[N * H], want[N * H * D], want_lse[N * H], nothing[D] = {0};
    float dout[N * H * D], dsink[H] = {0};
    const float sink[H] = {0.5f, -2.0f, -INFINITY};
    llm_rng rng = llm_rng_seed(2);
    llm_rng_normal_fill(&rng, out, N * H * D);
    llm_rng_normal_fill(&rng, dout, N * H * D);
    llm_rng_normal_fill(&rng, lse, N * H);
    memcpy(want, out, sizeof out);
    memcpy(want_lse, lse, sizeof lse);
    for (size_t r = 0; r < N * H; r++)
        llm_flash_split_merge(want + r * D, want_lse + r, nothing, sink + r % H, 1, D);
    llm_sinks_learned_forward(out, lse, sink, N, H, 1, D);
    CHECK_ALL_NEAR(out, want, N * H * D, 1e-6f);
    CHECK_ALL_NEAR(lse, want_lse, N * H, 1e-6f);
    llm_sinks_learned_backward(dsink, dout, out, lse, sink, N, H, 1, D);
    for (size_t h = 0; h < H; h++) {
        double sum = 0.0;
        for (size_t r = h; r < N * H; r += H)
            sum -= exp((double)sink[h] - (double)lse[r]) * dot(dout + r * D, out + r * D, D);
        CHECK_NEAR(dsink[h], sum, 1e-6);
    }
    CHECK(dsink[2] == 0.0f);
}

TEST(sinks_learned,
     "queries that saw nothing, no sink, a sink above all, scores out of any range") {
    float out[6] = {0, 0, 3, 4, 5, 6}, lse[3] = {-INFINITY, 1e4f, -1e4f}, dsink = 0;
    const float dout[6] = {1, 1, 1, 1, 1, 1}, none = -INFINITY, zero = 0;
    llm_sinks_learned_forward(out, lse, &none, 1, 1, 3, 2);
    CHECK(out[0] == 0 && out[1] == 0 && out[2] == 3 && out[3] == 4 && out[4] == 5 && out[5] == 6);
    CHECK(lse[0] == -INFINITY && lse[1] == 1e4f && lse[2] == -1e4f);
    llm_sinks_learned_backward(&dsink, dout, out, lse, &none, 1, 1, 3, 2);
    CHECK(dsink == 0);
    llm_sinks_learned_forward(out, lse, &zero, 1, 1, 3, 2);
    CHECK(out[0] == 0 && out[1] == 0 && out[2] == 3 && out[3] == 4 && out[4] == 0 && out[5] == 0);
    CHECK(lse[0] == 0 && lse[1] == 1e4f && lse[2] == 0);
    llm_sinks_learned_backward(&dsink, dout, out, lse, &zero, 1, 1, 3, 2);
    CHECK(dsink == 0);
}

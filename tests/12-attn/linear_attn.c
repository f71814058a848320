/* @linear_attn */
#include "../test.h"

#include "../../llm.h"

#include "../tape.h"

/* forward and backward on exactly the scratch that their comments ask for. */
static void linear_attn_forward(float *out, float *den, const float *q, const float *k,
                                const float *v, size_t N, size_t T, size_t D, size_t E,
                                size_t chunk) {
    const size_t c = chunk < T ? chunk : T;
    llm_arena arena;
    CHECK(llm_arena_create(&arena, (N * (c * (2 * E + 2 + c) + D * (E + 1)) + 15) / 16 * 64));
    llm_linear_attn_forward(out, den, q, k, v, N, T, D, E, chunk, &arena);
    CHECK(arena.used == 0 && arena.peak == arena.size);
    llm_arena_destroy(&arena);
}
static void linear_attn_backward(float *dq, float *dk, float *dv, const float *g, const float *out,
                                 const float *den, const float *q, const float *k, const float *v,
                                 size_t N, size_t T, size_t D, size_t E, size_t chunk) {
    const size_t c = chunk < T ? chunk : T;
    llm_arena arena;
    CHECK(llm_arena_create(&arena, (N * (c * (3 * E + 3 + c) + D * (E + 1)) + 15) / 16 * 64));
    llm_linear_attn_backward(dq, dk, dv, g, out, den, q, k, v, N, T, D, E, chunk, &arena);
    CHECK(arena.used == 0 && arena.peak == arena.size);
    llm_arena_destroy(&arena);
}

TEST(linear_attn, "all pairs, steps and chunks equal PyTorch's quadratic form, gradients too") {
    const size_t shapes[][4] = {{1, 1, 1, 1}, {2, 2, 3, 1}, {1, 3, 2, 5}, {2, 17, 4, 3}};
    const size_t chunks[] = {1, 2, 5, 16, 17, 64};
    for (size_t s = 0; s < 4; s++) {
        const size_t N = shapes[s][0], T = shapes[s][1], D = shapes[s][2], E = shapes[s][3];
        const float *q = golden("%zux%zux%zux%zu/q", N, T, D, E);
        const float *k = golden("%zux%zux%zux%zu/k", N, T, D, E);
        const float *v = golden("%zux%zux%zux%zu/v", N, T, D, E);
        const float *g = golden("%zux%zux%zux%zu/dout", N, T, D, E);
        float *fq = floats(N * T * D), *fk = floats(N * T * D), *out = floats(N * T * E);
        float *den = floats(N * T), *S = floats(D * (E + 1));
        llm_linear_attn_phi(fq, q, N * T * D);
        llm_linear_attn_phi(fk, k, N * T * D);

        for (size_t n = 0; n < N; n++)
            llm_linear_attn_parallel(out + n * T * E, fq + n * T * D, fk + n * T * D, v + n * T * E,
                                     T, D, E);
        CHECK_GOLDEN(out, N * T * E, 1e-6f, "%zux%zux%zux%zu/out", N, T, D, E);

        for (size_t i = 0; i < N * T * E; i++) out[i] = NAN;
        for (size_t t = 0; t < N * T; t++) {
            for (size_t i = 0; t % T == 0 && i < D * (E + 1); i++) S[i] = 0.0f;
            llm_linear_attn_step(out + t * E, S, fq + t * D, fk + t * D, v + t * E, D, E);
        }
        CHECK_GOLDEN(out, N * T * E, 1e-6f, "%zux%zux%zux%zu/out", N, T, D, E);

        for (size_t c = 0; c < 6; c++) {
            float *dfq = zeros(N * T * D), *dfk = zeros(N * T * D), *dv = zeros(N * T * E);
            float *dq = zeros(N * T * D), *dk = zeros(N * T * D);
            for (size_t i = 0; i < N * T * E; i++) out[i] = NAN;
            linear_attn_forward(out, den, fq, fk, v, N, T, D, E, chunks[c]);
            CHECK_GOLDEN(out, N * T * E, 1e-6f, "%zux%zux%zux%zu/out", N, T, D, E);
            linear_attn_backward(dfq, dfk, dv, g, out, den, fq, fk, v, N, T, D, E, chunks[c]);
            llm_linear_attn_phi_backward(dq, dfq, q, N * T * D);
            llm_linear_attn_phi_backward(dk, dfk, k, N * T * D);
            CHECK_GOLDEN(dq, N * T * D, 2e-6f, "%zux%zux%zux%zu/dq", N, T, D, E);
            CHECK_GOLDEN(dk, N * T * D, 2e-6f, "%zux%zux%zux%zu/dk", N, T, D, E);
            CHECK_GOLDEN(dv, N * T * E, 2e-6f, "%zux%zux%zux%zu/dv", N, T, D, E);
        }
    }
}

TEST(linear_attn, "T = 300 in chunks equals all pairs in doubles") {
    const size_t T = 300, D = 20, E = 9, chunks[] = {7, 64, 128};
    float *q = floats(T * D), *k = floats(T * D), *v = floats(T * E), *out = floats(T * E);
    float *want = floats(T * E), *den = floats(T);
    llm_rng rng = llm_rng_seed(2);
    llm_rng_normal_fill(&rng, q, T * D);
    llm_rng_normal_fill(&rng, k, T * D);
    llm_rng_normal_fill(&rng, v, T * E);
    llm_linear_attn_phi(q, q, T * D);
    llm_linear_attn_phi(k, k, T * D);
    for (size_t i = 0; i < T; i++) {
        double total = 0.0, sum[9] = {0};
        for (size_t j = 0; j <= i; j++) {
            const double w = dot(q + i * D, k + j * D, D);
            total += w;
            for (size_t e = 0; e < E; e++) sum[e] += w * (double)v[j * E + e];
        }
        for (size_t e = 0; e < E; e++) want[i * E + e] = (float)(sum[e] / total);
    }
    for (size_t c = 0; c < 3; c++) {
        linear_attn_forward(out, den, q, k, v, 1, T, D, E, chunks[c]);
        CHECK_ALL_NEAR(out, want, T * E, 2e-6f); /* means of up to 300 values of size 1 */
        CHECK_NEAR(den[0], dot(q, k, D), 1e-5);
    }
}

TEST(linear_attn, "output and gradients are what @autodiff_array makes of the definition") {
    enum { T = 6, D = 3, E = 2 };
    tape_open(5);
    float start[3 * T * D], mask[T * T], *ones = zeros(T);
    for (size_t i = 0; i < T * T; i++) mask[i] = i % T <= i / T ? 1.0f : 0.0f;
    for (size_t i = 0; i < T; i++) ones[i] = 1.0f;
    llm_rng rng = llm_rng_seed(8);
    for (size_t i = 0; i < 3 * T * D; i++) start[i] = llm_rng_uniform(&rng) + 0.1f;
    const size_t q = tape_input(start, T, D), k = tape_input(start + T * D, T, D);
    const size_t v = tape_draw(T, E), dy = tape_draw(T, E);
    const size_t w = tape_mul(tape_linear(q, k), tape_input(mask, T, T));
    const size_t y = tape_mul(tape_matmul(w, v), tape_pow(tape_row_sums(w), -1.0));
    float out[T * E], den[T], *dq = zeros(T * D), *dk = zeros(T * D), *dv = zeros(T * E);
    tape_back(y, tape_floats(dy));
    linear_attn_forward(out, den, start, start + T * D, tape_floats(v), 1, T, D, E, 4);
    TAPE_CHECK(out, y, 1e-6);
    const float *vf = tape_floats(v), *gf = tape_floats(dy);
    linear_attn_backward(dq, dk, dv, gf, out, den, start, start + T * D, vf, 1, T, D, E, 4);
    TAPE_CHECK_GRAD(dq, q, 2e-6);
    TAPE_CHECK_GRAD(dk, k, 2e-6);
    TAPE_CHECK_GRAD(dv, v, 2e-6);

    /* each alone: the others may be NULL, and gradients accumulate */
    float *again = zeros(T * D), *again_v = zeros(T * E);
    for (size_t i = 0; i < T * D; i++) again[i] = 1.0f, dq[i] += 1.0f, dk[i] += 1.0f;
    linear_attn_backward(again, NULL, NULL, gf, out, den, start, start + T * D, vf, 1, T, D, E, 4);
    CHECK_ALL_NEAR(again, dq, T * D, 1e-6f);
    for (size_t i = 0; i < T * D; i++) again[i] = 1.0f;
    linear_attn_backward(NULL, again, NULL, gf, out, den, start, start + T * D, vf, 1, T, D, E, 4);
    CHECK_ALL_NEAR(again, dk, T * D, 1e-6f);
    linear_attn_backward(NULL, NULL, again_v, gf, out, den, start, start + T * D, vf, 1, T, D, E,
                         4);
    CHECK_ALL_NEAR(again_v, dv, T * E, 0.0f);
}

TEST(linear_attn, "nothing of the future is read; a query that no key answers gives 0") {
    enum { T = 9, D = 2, E = 2 };
    float q[T * D], k[T * D], v[T * E], out[T * E], part[T * E], den[T];
    llm_rng rng = llm_rng_seed(3);
    llm_rng_normal_fill(&rng, v, T * E);
    for (size_t i = 0; i < T * D; i++) q[i] = llm_rng_uniform(&rng), k[i] = llm_rng_uniform(&rng);
    linear_attn_forward(out, den, q, k, v, 1, T, D, E, 4);
    for (size_t i = 0; i < T; i++) {
        float k2[T * D], v2[T * E];
        for (size_t j = 0; j < T; j++)
            for (size_t d = 0; d < D; d++) {
                k2[j * D + d] = j > i ? 100.0f : k[j * D + d];
                v2[j * E + d] = j > i ? 100.0f : v[j * E + d];
            }
        linear_attn_forward(part, den, q, k2, v2, 1, T, D, E, 4);
        CHECK(memcmp(part, out, (i + 1) * E * sizeof(float)) == 0);
    }
    /* exp(-200) is 0 in float: a key of features 0 */
    const float far[D] = {-200.0f, -200.0f}, at[4] = {-1.5f, -0.0f, 0.5f, 3.0f};
    float none[D], S[D * (E + 1)] = {0}, phi[4], dphi[4] = {0};
    llm_linear_attn_phi(none, far, D);
    CHECK(none[0] == 0.0f && none[1] == 0.0f);
    llm_linear_attn_step(out, S, q, none, v, D, E);
    CHECK(out[0] == 0.0f && out[1] == 0.0f);
    llm_linear_attn_parallel(out, q, none, v, 1, D, E);
    CHECK(out[0] == 0.0f && out[1] == 0.0f);
    linear_attn_forward(out, den, q, none, v, 1, 1, D, E, 4);
    CHECK(out[0] == 0.0f && out[1] == 0.0f && den[0] == 0.0f);
    float dq[D] = {0}, dk[D] = {0}, dv[E] = {0};
    linear_attn_backward(dq, dk, dv, v, out, den, q, none, v, 1, 1, D, E, 4);
    CHECK(dq[0] == 0.0f && dk[0] == 0.0f && dv[0] == 0.0f);

    llm_linear_attn_phi(phi, at, 4); /* elu + 1 and its slope, at the kink 1 from both sides */
    llm_linear_attn_phi_backward(dphi, at + 3, at, 1);
    CHECK_NEAR(phi[0], exp(-1.5), 1e-7);
    CHECK(phi[1] == 1.0f && phi[2] == 1.5f && phi[3] == 4.0f);
    CHECK_NEAR(dphi[0], 3.0 * exp(-1.5), 1e-6);

    llm_arena arena;
    CHECK(llm_arena_create(&arena, 64));
    llm_linear_attn_forward(out, den, q, k, v, 0, T, D, E, 4, &arena);
    CHECK_ASSERTS(llm_linear_attn_forward(out, den, q, k, v, 1, T, D, E, 0, &arena));
    CHECK_ASSERTS(
        llm_linear_attn_backward(dq, dk, dv, v, out, den, q, k, v, 1, T, D, E, 0, &arena));
    llm_arena_destroy(&arena);
}

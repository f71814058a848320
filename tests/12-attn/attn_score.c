/* @attn_score */
#include "../test.h"

#include "../../llm.h"

static const size_t attn_score_shapes[][4] = {{1, 1, 1, 2}, {2, 3, 5, 4}, {3, 17, 2, 3}};

static float *attn_score_normal(llm_rng *rng, size_t n) {
    float *x = floats(n);
    llm_rng_normal_fill(rng, x, n);
    return x;
}

TEST(attn_score, "every score and its gradients equal PyTorch") {
    for (size_t c = 0; c < 3; c++) {
        const size_t Tq = attn_score_shapes[c][0], Tk = attn_score_shapes[c][1];
        const size_t D = attn_score_shapes[c][2], Dk = attn_score_shapes[c][3], n = Tq * Tk;
        char at[32];
        snprintf(at, sizeof at, "%zux%zux%zu", Tq, Tk, D);
        const float *q = golden("%s/q", at), *k = golden("%s/k", at), *ds = golden("%s/ds", at);
        const float *k2 = golden("%s/k2", at), *w = golden("%s/w", at);
        const float gain = golden("%s/cosine/gain", at)[0];
        float *s = floats(n);
        llm_arena arena;
        CHECK(llm_arena_create(&arena, 1 << 16));

        /* sums of up to 20 products of size 1 */
        float *dq = zeros(Tq * D), *dk = zeros(Tk * D);
        llm_attn_score_dot_forward(s, q, k, Tq, Tk, D);
        CHECK_GOLDEN(s, n, 1e-6f, "%s/dot/s", at);
        llm_attn_score_dot_backward(dq, dk, ds, q, k, Tq, Tk, D);
        CHECK_GOLDEN(dq, Tq * D, 2e-6f, "%s/dot/d0", at);
        CHECK_GOLDEN(dk, Tk * D, 2e-6f, "%s/dot/d1", at);

        float *dk2 = zeros(Tk * Dk), *dw = zeros(D * Dk);
        dq = zeros(Tq * D);
        llm_attn_score_general_forward(s, q, k2, w, Tq, Tk, D, Dk, &arena);
        CHECK_GOLDEN(s, n, 2e-6f, "%s/general/s", at);
        llm_attn_score_general_backward(dq, dk2, dw, ds, q, k2, w, Tq, Tk, D, Dk, &arena);
        CHECK_GOLDEN(dq, Tq * D, 3e-6f, "%s/general/d0", at);
        CHECK_GOLDEN(dk2, Tk * Dk, 3e-6f, "%s/general/d1", at);
        CHECK_GOLDEN(dw, D * Dk, 3e-6f, "%s/general/d2", at);

        float dgain = 0.25f; /* accumulates */
        dq = zeros(Tq * D), dk = zeros(Tk * D);
        llm_attn_score_cosine_forward(s, q, k, gain, Tq, Tk, D, 1e-8f, &arena);
        CHECK_GOLDEN(s, n, 1e-6f, "%s/cosine/s", at);
        llm_attn_score_cosine_backward(dq, dk, &dgain, ds, q, k, gain, Tq, Tk, D, 1e-8f, &arena);
        CHECK_GOLDEN(dq, Tq * D, 3e-6f, "%s/cosine/d0", at);
        CHECK_GOLDEN(dk, Tk * D, 3e-6f, "%s/cosine/d1", at);
        dgain -= 0.25f;
        CHECK_GOLDEN(&dgain, 1, 3e-6f, "%s/cosine/d2", at);

        dq = zeros(Tq * D), dk = zeros(Tk * D);
        llm_attn_score_l2_forward(s, q, k, 0.3f, Tq, Tk, D);
        CHECK_GOLDEN(s, n, 1e-6f, "%s/l2/s", at);
        llm_attn_score_l2_backward(dq, dk, ds, q, k, 0.3f, Tq, Tk, D);
        CHECK_GOLDEN(dq, Tq * D, 2e-6f, "%s/l2/d0", at);
        CHECK_GOLDEN(dk, Tk * D, 2e-6f, "%s/l2/d1", at);

        dq = zeros(Tq * D), dk = zeros(Tk * D);
        llm_attn_score_capped_forward(s, q, k, 0.4f, 5.0f, Tq, Tk, D);
        CHECK_GOLDEN(s, n, 1e-6f, "%s/capped/s", at);
        llm_attn_score_capped_backward(dq, dk, ds, s, q, k, 0.4f, 5.0f, Tq, Tk, D, &arena);
        CHECK_GOLDEN(dq, Tq * D, 2e-6f, "%s/capped/d0", at);
        CHECK_GOLDEN(dk, Tk * D, 2e-6f, "%s/capped/d1", at);
        CHECK(arena.used == 0);
        llm_arena_destroy(&arena);
    }
}

TEST(attn_score, "the scratch is what the comments say, and is given back") {
    enum { T = 16, D = 16, N = T * D }; /* multiples of the arena's 64 bytes */
    llm_rng rng = llm_rng_seed(3);
    float *q = attn_score_normal(&rng, N), *k = attn_score_normal(&rng, N), *s = floats(N);
    float *dq = zeros(N), *dk = zeros(N);
    const size_t want[5] = {N, 2 * N, 2 * N, 2 * T * (2 * D + 1), T * T};
    for (size_t c = 0; c < 5; c++) {
        llm_arena arena;
        CHECK(llm_arena_create(&arena, want[c] * sizeof(float)));
        if (c == 0) llm_attn_score_general_forward(s, q, k, q, T, T, D, D, &arena);
        if (c == 1) llm_attn_score_general_backward(dq, dk, NULL, s, q, k, q, T, T, D, D, &arena);
        if (c == 2) llm_attn_score_cosine_forward(s, q, k, 1.0f, T, T, D, 1e-8f, &arena);
        if (c == 3)
            llm_attn_score_cosine_backward(dq, dk, NULL, s, q, k, 1.0f, T, T, D, 1e-8f, &arena);
        if (c == 4) llm_attn_score_capped_backward(dq, dk, s, s, q, k, 1.0f, 9.0f, T, T, D, &arena);
        CHECK(arena.used == 0 && arena.peak == arena.size);
        llm_arena_destroy(&arena);
    }
}

/* sum of ds times the score `form`, in double, by its definition; w is the matrix of the general
 * score. */
static double attn_score_loss(int form, const float *q, const float *k, const float *w, float gain,
                              const float *ds, size_t Tq, size_t Tk, size_t D) {
    double loss = 0.0;
    for (size_t i = 0; i < Tq; i++)
        for (size_t j = 0; j < Tk; j++) {
            const float *a = q + i * D, *b = k + j * D;
            double s = 0.0, g = (double)gain;
            if (form == LLM_ATTN_SCORE_DOT) s = dot(a, b, D);
            if (form == LLM_ATTN_SCORE_COSINE)
                s = g * dot(a, b, D) / sqrt(dot(a, a, D) * dot(b, b, D));
            if (form == LLM_ATTN_SCORE_L2)
                for (size_t d = 0; d < D; d++) s -= g * pow((double)a[d] - (double)b[d], 2.0);
            if (form == LLM_ATTN_SCORE_CAPPED) s = 2.0 * tanh(g * dot(a, b, D) / 2.0);
            if (form == LLM_ATTN_SCORE_GENERAL)
                for (size_t c = 0; c < D; c++)
                    for (size_t d = 0; d < D; d++)
                        s += (double)a[c] * (double)w[c * D + d] * (double)b[d];
            loss += (double)ds[i * Tk + j] * s;
        }
    return loss;
}

TEST(attn_score, "gradients equal finite differences; any of them may be left out") {
    enum { Tq = 3, Tk = 5, D = 4 };
    llm_rng rng = llm_rng_seed(4);
    float *q = attn_score_normal(&rng, Tq * D), *k = attn_score_normal(&rng, Tk * D);
    float *w = attn_score_normal(&rng, D * D), *ds = attn_score_normal(&rng, Tq * Tk);
    float gain[1] = {0.7f}, s[Tq * Tk];
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 4096));
    for (int form = LLM_ATTN_SCORE_DOT; form < LLM_ATTN_SCORE_ADDITIVE; form++) {
        for (int part = 0; part < 3; part++) { /* one gradient at a time, the others NULL */
            float *dq = part == 0 ? zeros(Tq * D) : NULL, *dk = part == 1 ? zeros(Tk * D) : NULL;
            float *dw = part == 2 ? zeros(D * D) : NULL;
            if (form == LLM_ATTN_SCORE_DOT)
                llm_attn_score_dot_backward(dq, dk, ds, q, k, Tq, Tk, D);
            if (form == LLM_ATTN_SCORE_GENERAL)
                llm_attn_score_general_backward(dq, dk, dw, ds, q, k, w, Tq, Tk, D, D, &arena);
            if (form == LLM_ATTN_SCORE_COSINE)
                llm_attn_score_cosine_backward(dq, dk, dw, ds, q, k, gain[0], Tq, Tk, D, 1e-8f,
                                               &arena);
            if (form == LLM_ATTN_SCORE_L2)
                llm_attn_score_l2_backward(dq, dk, ds, q, k, gain[0], Tq, Tk, D);
            if (form == LLM_ATTN_SCORE_CAPPED) {
                llm_attn_score_capped_forward(s, q, k, gain[0], 2.0f, Tq, Tk, D);
                llm_attn_score_capped_backward(dq, dk, ds, s, q, k, gain[0], 2.0f, Tq, Tk, D,
                                               &arena);
            }
            const size_t Q = Tq, K = Tk;
            if (dq)
                CHECK_GRAD(dq, q, Tq * D, 1e-2f, 1e-4f,
                           attn_score_loss(form, q, k, w, gain[0], ds, Q, K, D));
            if (dk)
                CHECK_GRAD(dk, k, Tk * D, 1e-2f, 1e-4f,
                           attn_score_loss(form, q, k, w, gain[0], ds, Q, K, D));
            if (dw && form == LLM_ATTN_SCORE_GENERAL)
                CHECK_GRAD(dw, w, D * D, 1e-2f, 1e-4f,
                           attn_score_loss(form, q, k, w, gain[0], ds, Q, K, D));
            if (dw && form == LLM_ATTN_SCORE_COSINE)
                CHECK_GRAD(dw, gain, 1, 1e-2f, 1e-4f,
                           attn_score_loss(form, q, k, w, gain[0], ds, Q, K, D));
        }
    }
    llm_arena_destroy(&arena);
}

TEST(attn_score, "the sizes of real heads equal sums in doubles") {
    const size_t shapes[][3] = {{1, 65, 64}, {17, 2, 8}, {65, 3, 20}, {2, 17, 64}};
    llm_rng rng = llm_rng_seed(5);
    for (size_t c = 0; c < 4; c++) {
        const size_t Tq = shapes[c][0], Tk = shapes[c][1], D = shapes[c][2];
        const float *q = attn_score_normal(&rng, Tq * D), *k = attn_score_normal(&rng, Tk * D);
        const float *w = attn_score_normal(&rng, D * D);
        float *s[5], *one = zeros(Tq * Tk);
        llm_arena arena;
        CHECK(llm_arena_create(&arena, 1 << 20));
        for (int form = 0; form < 5; form++) s[form] = floats(Tq * Tk);
        llm_attn_score_dot_forward(s[LLM_ATTN_SCORE_DOT], q, k, Tq, Tk, D);
        llm_attn_score_general_forward(s[LLM_ATTN_SCORE_GENERAL], q, k, w, Tq, Tk, D, D, &arena);
        llm_attn_score_cosine_forward(s[LLM_ATTN_SCORE_COSINE], q, k, 9.0f, Tq, Tk, D, 1e-8f,
                                      &arena);
        llm_attn_score_l2_forward(s[LLM_ATTN_SCORE_L2], q, k, 9.0f, Tq, Tk, D);
        llm_attn_score_capped_forward(s[LLM_ATTN_SCORE_CAPPED], q, k, 9.0f, 2.0f, Tq, Tk, D);
        for (size_t ij = 0; ij < Tq * Tk; ij++) {
            one[ij] = 1.0f; /* the loss of this pair alone is its score */
            for (int form = 0; form < 5; form++) {
                const double want = attn_score_loss(form, q + ij / Tk * D, k + ij % Tk * D, w, 9.0f,
                                                    one + ij, 1, 1, D);
                /* products in float: rounding against the size of 64 (or 64^2) terms */
                const double size = form == LLM_ATTN_SCORE_GENERAL ? 64.0 : 10.0;
                CHECK_NEAR(s[form][ij], want, 3e-6 * (size + fabs(want)));
            }
        }
        llm_arena_destroy(&arena);
    }
}

TEST(attn_score, "cosine forgets lengths and has no NaN at zero; l2 ranks as dot for equal keys") {
    enum { Tq = 4, Tk = 7, D = 5 };
    llm_rng rng = llm_rng_seed(6);
    float *q = attn_score_normal(&rng, Tq * D), *k = attn_score_normal(&rng, Tk * D);
    float s[Tq * Tk], again[Tq * Tk], l2[Tq * Tk];
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 4096));
    llm_attn_score_cosine_forward(s, q, k, 3.0f, Tq, Tk, D, 1e-8f, &arena);
    for (size_t i = 0; i < Tq * D; i++) q[i] *= 0.01f;
    for (size_t i = 0; i < Tk * D; i++) k[i] *= 700.0f * (float)(1 + i / D);
    llm_attn_score_cosine_forward(again, q, k, 3.0f, Tq, Tk, D, 1e-8f, &arena);
    CHECK_ALL_NEAR(again, s, Tq * Tk, 1e-6f);

    llm_vector_norm_unit(k, NULL, k, Tk, D, 0.0f); /* keys of length 2: both orders agree */
    for (size_t i = 0; i < Tk * D; i++) k[i] *= 2.0f;
    for (size_t i = 0; i < Tq * D; i++) q[i] *= 100.0f;
    llm_attn_score_dot_forward(s, q, k, Tq, Tk, D);
    llm_attn_score_l2_forward(l2, q, k, 0.5f, Tq, Tk, D);
    for (size_t i = 0; i < Tq; i++) {
        size_t by_dot[Tk], by_l2[Tk];
        llm_argsort(by_dot, s + i * Tk, Tk);
        llm_argsort(by_l2, l2 + i * Tk, Tk);
        CHECK(memcmp(by_dot, by_l2, sizeof by_dot) == 0);
    }
    /* far from the origin the products would cancel: 1e4^2 against a distance of 1 */
    const float far[2] = {1e4f, 1e4f}, near[2] = {1e4f + 1.0f, 1e4f};
    llm_attn_score_l2_forward(s, far, near, 1.0f, 1, 1, 2);
    CHECK_NEAR(s[0], -1.0, 0.0);

    float zero[Tq * D] = {0}, dq[Tq * D] = {0}, dk[Tk * D] = {0}, dgain = 0.0f;
    llm_attn_score_cosine_forward(s, zero, k, 3.0f, Tq, Tk, D, 1e-8f, &arena);
    for (size_t i = 0; i < Tq * Tk; i++) CHECK(s[i] == 0.0f);
    llm_attn_score_cosine_backward(dq, dk, &dgain, l2, zero, k, 3.0f, Tq, Tk, D, 1e-8f, &arena);
    for (size_t i = 0; i < Tq * D; i++) CHECK(dq[i] == 0.0f);
    for (size_t i = 0; i < Tk * D; i++) CHECK(dk[i] == 0.0f);
    CHECK(dgain == 0.0f);
    for (size_t d = 0; d < D; d++) q[d] = d == 0 ? 0.9e-3f : 0.0f; /* just below and above eps */
    llm_attn_score_cosine_forward(s, q, k, 3.0f, 1, Tk, D, 1e-3f, &arena);
    for (size_t j = 0; j < Tk; j++) CHECK(s[j] == 0.0f);
    q[0] = 1.1e-3f;
    llm_attn_score_cosine_forward(s, q, k, 3.0f, 1, Tk, D, 1e-3f, &arena);
    for (size_t j = 0; j < Tk; j++) CHECK_NEAR(s[j], 1.5f * k[j * D], 1e-6);
    llm_arena_destroy(&arena);
}

TEST(attn_score, "the cap bounds scores of 1e4 and keeps small ones, with a gradient for both") {
    const float q[4] = {1e4f, -1e4f, 2.0f, -2.4f}, k[1] = {1.0f};
    float s[4], dq[4] = {0};
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 64));
    llm_attn_score_capped_forward(s, q, k, 1.0f, 50.0f, 4, 1, 1);
    CHECK_NEAR(s[0], 50.0, 1e-5);
    CHECK_NEAR(s[1], -50.0, 1e-5);
    for (size_t i = 2; i < 4; i++) /* below c/20: within x (x/c)^2 / 3, a thousandth of itself */
        CHECK_NEAR(s[i], q[i], 1e-3 * fabs((double)q[i]));
    const float ds[4] = {1, 1, 1, 1};
    llm_attn_score_capped_backward(dq, NULL, ds, s, q, k, 1.0f, 50.0f, 4, 1, 1, &arena);
    CHECK(dq[0] == 0.0f && dq[1] == 0.0f); /* saturated: what training has to stay away from */
    CHECK_NEAR(dq[2], 1.0 - pow(tanh(2.0 / 50.0), 2.0), 1e-6);
    CHECK_ASSERTS(llm_attn_score_capped_forward(s, q, k, 1.0f, 0.0f, 4, 1, 1));
    llm_attn_score_capped_forward(s, q, k, 1.0f, 50.0f, 0, 3, 1);
    llm_attn_score_dot_forward(s, q, k, 2, 0, 1);
    llm_attn_score_l2_forward(s, q, k, 1.0f, 0, 0, 1);
    llm_arena_destroy(&arena);
}

TEST(attn_score, "the counted work is that of the definitions, operation by operation") {
    const size_t sizes[][3] = {{1, 1, 1}, {2, 3, 5}, {7, 4, 2}};
    for (size_t c = 0; c < 3; c++) {
        const size_t Tq = sizes[c][0], Tk = sizes[c][1], D = sizes[c][2];
        for (int form = LLM_ATTN_SCORE_DOT; form <= LLM_ATTN_SCORE_ADDITIVE; form++) {
            size_t flops = 0, special = 0, words = Tq * D + Tk * D + Tq * Tk;
            if (form == LLM_ATTN_SCORE_GENERAL) words += D * D;
            if (form == LLM_ATTN_SCORE_ADDITIVE) words += D;
            for (size_t j = 0; form == LLM_ATTN_SCORE_GENERAL && j < Tk; j++)
                for (size_t d = 0; d < D * D; d++) flops += 2;
            for (size_t i = 0; form == LLM_ATTN_SCORE_COSINE && i < Tq + Tk; i++, special++)
                for (size_t d = 0; d < D; d++) flops += 3; /* x x, its sum, x / |x| */
            for (size_t ij = 0; ij < Tq * Tk; ij++) {
                for (size_t d = 0; d < D; d++) {
                    const bool three = form == LLM_ATTN_SCORE_L2 || form == LLM_ATTN_SCORE_ADDITIVE;
                    flops += three ? 3 : 2;
                    special += form == LLM_ATTN_SCORE_ADDITIVE;
                }
                flops += form == LLM_ATTN_SCORE_COSINE || form == LLM_ATTN_SCORE_L2;
                if (form == LLM_ATTN_SCORE_CAPPED) flops += 3, special++; /* gain, / c, c * */
            }
            const llm_attn_score_work work = llm_attn_score_count(form, Tq, Tk, D);
            CHECK_NEAR(work.flops, (double)flops, 0.0);
            CHECK_NEAR(work.special, (double)special, 0.0);
            CHECK_NEAR(work.bytes, 4.0 * (double)words, 0.0);
        }
    }
}

/* @flash23_backward */
#include "../test.h"

#include "../../llm.h"

#include "../tiny_flash23.h"

TEST(flash23_backward,
     "equals PyTorch's autograd; one gradient alone is the same; they accumulate") {
    for (size_t n = 0; n < 5; n++) {
        const tiny_flash23_case *z = &tiny_flash23[n];
        const size_t rows = z->start_q[z->B] * z->H, nq = rows * z->D;
        const size_t nk = z->start_k[z->B] * z->Hkv * z->D;
        const llm_flash23_config c = tiny_flash23_config(z, golden("%s/slope", z->name));
        const float *q = golden("%s/q", z->name), *k = golden("%s/k", z->name);
        const float *v = golden("%s/v", z->name), *dout = golden("%s/dout", z->name);
        float *out = floats(nq), *lse = floats(rows), *dq = zeros(nq), *dk = zeros(nk);
        float *dv = zeros(nk), *dq1 = zeros(nq), *dk1 = zeros(nk), *dv1 = zeros(nk);
        llm_flash23_forward(out, lse, q, k, v, &c);
        llm_flash23_backward(dq, dk, dv, dout, out, lse, q, k, v, &c);
        CHECK_GOLDEN(dq, nq, 3e-6f, "%s/dq", z->name);
        CHECK_GOLDEN(dk, nk, 3e-6f, "%s/dk", z->name);
        CHECK_GOLDEN(dv, nk, 3e-6f, "%s/dv", z->name);

        for (size_t i = 0; i < nq; i++) dq1[i] = 1.0f, dq[i] += 1.0f;
        for (size_t i = 0; i < nk; i++) dk1[i] = dv1[i] = 2.0f, dk[i] += 2.0f, dv[i] += 2.0f;
        llm_flash23_backward(dq1, NULL, NULL, dout, out, lse, q, k, v, &c);
        llm_flash23_backward(NULL, dk1, NULL, dout, out, lse, q, k, v, &c);
        llm_flash23_backward(NULL, NULL, dv1, dout, out, lse, q, k, v, &c);
        CHECK_ALL_NEAR(dq1, dq, nq, 2e-6f);
        CHECK_ALL_NEAR(dk1, dk, nk, 2e-6f);
        CHECK_ALL_NEAR(dv1, dv, nk, 2e-6f);
    }
}

TEST(flash23_backward, "around the edges of tiles: @gqa and @sliding_window text by text") {
    const size_t T[] = {2, 64, 300}, H = 4, Hkv = 2, D = 8;
    size_t start[4] = {0};
    for (size_t b = 0; b < 3; b++) start[b + 1] = start[b] + T[b];
    const size_t N = start[3], nq = N * H * D, nk = N * Hkv * D;
    llm_rng rng = llm_rng_seed(3);
    float *q = tiny_flash23_normal(nq, &rng), *k = tiny_flash23_normal(nk, &rng);
    float *v = tiny_flash23_normal(nk, &rng), *dout = tiny_flash23_normal(nq, &rng);
    float *out = floats(nq), *lse = floats(N * H), *turned = floats(4 * nq), *got = floats(nq);
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 1 << 20));
    for (size_t w = 0; w < 2; w++) {
        llm_flash23_config c = llm_flash23_defaults(start, 3, H, Hkv, D);
        c.left = w ? 29 : SIZE_MAX;
        float *dq = zeros(nq), *dk = zeros(nk), *dv = zeros(nk);
        llm_flash23_forward(out, lse, q, k, v, &c);
        llm_flash23_backward(dq, dk, dv, dout, out, lse, q, k, v, &c);
        for (size_t b = 0; b < 3; b++) {
            const size_t at_q = start[b] * H * D, at_k = start[b] * Hkv * D;
            const size_t tq = T[b] * H * D, tk = T[b] * Hkv * D;
            float *qt = turned, *kt = qt + nq, *vt = kt + nk, *gt = vt + nk, *o = floats(tq);
            float *l = floats(T[b] * H), *dqt = zeros(tq), *dkt = zeros(tk), *dvt = zeros(tk);
            tiny_flash23_turn(qt, q + at_q, T[b], H, D);
            tiny_flash23_turn(kt, k + at_k, T[b], Hkv, D);
            tiny_flash23_turn(vt, v + at_k, T[b], Hkv, D);
            tiny_flash23_turn(gt, dout + at_q, T[b], H, D);
            if (w == 0) {
                const llm_gqa_config g = llm_gqa_defaults(1, H, Hkv, T[b], D);
                llm_gqa_forward(o, l, qt, kt, vt, &g, &arena);
                llm_gqa_backward(dqt, dkt, dvt, gt, o, l, qt, kt, vt, &g);
            } else {
                const llm_sliding_window_config s =
                    llm_sliding_window_defaults(1, H, Hkv, T[b], D, 30);
                llm_sliding_window_forward(o, l, qt, kt, vt, &s, &arena);
                llm_sliding_window_backward(dqt, dkt, dvt, gt, o, l, qt, kt, vt, &s, &arena);
            }
            tiny_flash23_turn(got, dq + at_q, T[b], H, D);
            CHECK_ALL_NEAR(got, dqt, tq, 2e-5f);
            tiny_flash23_turn(got, dk + at_k, T[b], Hkv, D);
            CHECK_ALL_NEAR(got, dkt, tk, 2e-5f);
            tiny_flash23_turn(got, dv + at_k, T[b], Hkv, D);
            CHECK_ALL_NEAR(got, dvt, tk, 2e-5f);
        }
    }
    llm_arena_destroy(&arena);

    llm_flash23_config bad = llm_flash23_defaults(start, 1, 3, 2, D);
    CHECK_ASSERTS(llm_flash23_backward(NULL, NULL, NULL, dout, out, lse, q, k, v, &bad));
    bad.Hkv = 0;
    CHECK_ASSERTS(llm_flash23_backward(NULL, NULL, NULL, dout, out, lse, q, k, v, &bad));
}

TEST(flash23_backward, "a query that sees nothing gets no gradient and gives none") {
    const size_t start_q[2] = {0, 4},
                 start_k[2] = {0, 2}; /* queries 0 and 1 stand before all keys */
    llm_rng rng = llm_rng_seed(5);
    float *q = tiny_flash23_normal(8, &rng), *k = tiny_flash23_normal(4, &rng);
    float *v = tiny_flash23_normal(4, &rng), *dout = tiny_flash23_normal(8, &rng);
    float out[8], lse[4], dq[2][8] = {{0}, {0}}, dk[2][4] = {{0}, {0}}, dv[2][4] = {{0}, {0}};
    llm_flash23_config c = llm_flash23_defaults(start_q, 1, 1, 1, 2);
    c.start_k = start_k;
    llm_flash23_forward(out, lse, q, k, v, &c);
    CHECK(out[0] == 0 && out[3] == 0 && lse[0] == -INFINITY && isfinite(lse[2]));
    for (size_t n = 0; n < 2; n++) {
        llm_flash23_backward(dq[n], dk[n], dv[n], dout, out, lse, q, k, v, &c);
        for (size_t i = 0; i < 4; i++) dout[i] = NAN; /* of the blind ones */
    }
    for (size_t i = 0; i < 8; i++) CHECK(i < 4 ? dq[1][i] == 0 : dq[1][i] == dq[0][i]);
    for (size_t i = 0; i < 4; i++) CHECK(dk[0][i] == dk[1][i] && dv[0][i] == dv[1][i]);
}

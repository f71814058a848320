/* @flash */
#include "../test.h"

#include "../../llm.h"

static float *flash_normal(size_t n, llm_rng *rng) {
    float *x = floats(n);
    llm_rng_normal_fill(rng, x, n);
    return x;
}

/* Forward on exactly the scratch that its comment asks for. */
static void flash_forward(float *out, float *lse, const float *q, const float *k, const float *v,
                          const llm_flash_config *c) {
    llm_arena arena;
    const size_t bytes = (c->B * c->H * c->T * sizeof(float) + 63) / 64 * 64;
    CHECK(llm_arena_create(&arena, bytes));
    llm_flash_forward(out, lse, q, k, v, c, &arena);
    CHECK(arena.used == 0 && arena.peak == bytes);
    llm_arena_destroy(&arena);
}

static const size_t flash_tiles[6][2] = {{256, 128}, {1, 1}, {3, 2}, {2, 5}, {1, 64}, {64, 3}};

TEST(flash, "equals torch's scaled_dot_product_attention for every tile size, gradients too") {
    const size_t shapes[][8] = {{1, 1, 1, 1, 1, 1, 1, 0},
                                {2, 2, 1, 5, 5, 3, 1, 0},
                                {2, 2, 2, 3, 7, 2, 1, 1},
                                {1, 4, 2, 6, 4, 3, 0, 1}}; /* B, H, Hkv, T, S, D, causal, padding */
    for (size_t s = 0; s < 4; s++) {
        const size_t *z = shapes[s], B = z[0], H = z[1], Hkv = z[2], T = z[3], S = z[4], D = z[5];
        const size_t nq = B * H * T * D, nk = B * Hkv * S * D;
        llm_flash_config c = llm_flash_defaults(B, H, Hkv, T, D);
        c.S = S, c.causal = z[6] != 0;
        char name[64];
        snprintf(name, sizeof name, "%zux%zux%zux%zux%zux%zu", B, H, Hkv, T, S, D);
        const float *q = golden("%s/q", name), *k = golden("%s/k", name);
        const float *v = golden("%s/v", name), *dout = golden("%s/dout", name);
        const bool *hidden = as_bools(golden("%s/hidden", name), B * S);
        if (z[7]) c.hidden = hidden;
        for (size_t t = 0; t < 6; t++) {
            c.Br = flash_tiles[t][0], c.Bc = flash_tiles[t][1];
            float *out = floats(nq), *lse = floats(B * H * T);
            float *dq = zeros(nq), *dk = zeros(nk), *dv = zeros(nk);
            flash_forward(out, lse, q, k, v, &c);
            llm_flash_backward(dq, dk, dv, dout, out, lse, q, k, v, &c);
            /* rescaling at every key tile adds its rounding: up to 7 of them here */
            CHECK_GOLDEN(out, nq, 1e-6f, "%s/out", name);
            CHECK_GOLDEN(lse, B * H * T, 1e-6f, "%s/lse", name);
            CHECK_GOLDEN(dq, nq, 3e-6f, "%s/dq", name);
            CHECK_GOLDEN(dk, nk, 4e-6f, "%s/dk", name);
            CHECK_GOLDEN(dv, nk, 4e-6f, "%s/dv", name);
        }
    }
}

/* The definition in doubles, weights and all: the sum of out dout, and out, lse where not NULL. */
static double flash_plain(double *out, double *lse, const float *q, const float *k, const float *v,
                          const float *dout, const llm_flash_config *c) {
    const size_t T = c->T, S = c->S, D = c->D;
    double *p = doubles(S), loss = 0.0;
    for (size_t r = 0; r < c->B * c->H * T; r++) {
        const size_t bh = r / T, kv = bh / (c->H / c->Hkv) * S * D;
        double total = 0.0;
        for (size_t j = 0; j < S; j++) {
            const bool seen =
                (!c->causal || j + T <= r % T + S) && !(c->hidden && c->hidden[bh / c->H * S + j]);
            p[j] = seen ? exp((double)c->scale * dot(q + r * D, k + kv + j * D, D)) : 0.0;
            total += p[j];
        }
        if (lse) lse[r] = log(total);
        for (size_t d = 0; d < D; d++) {
            double o = 0.0;
            for (size_t j = 0; j < S && total > 0.0; j++) {
                const float keep = c->dropout > 0.0f ? llm_dropout_scale(c->dropout, c->seed,
                                                                         c->offset + r * S + j)
                                                     : 1.0f;
                o += p[j] / total * (double)keep * (double)v[kv + j * D + d];
            }
            if (out) out[r * D + d] = o;
            if (dout) loss += o * (double)dout[r * D + d];
        }
    }
    free(p);
    return loss;
}

TEST(flash,
     "equals the definition in doubles for ragged sizes; tiles change the last digits only") {
    const size_t shapes[][7] = {{1, 2, 1, 63, 65, 3, 1},  {2, 2, 2, 65, 65, 33, 1},
                                {1, 1, 1, 5, 130, 64, 1}, {1, 2, 2, 70, 7, 2, 1},
                                {1, 3, 1, 67, 131, 4, 0}, {1, 1, 1, 129, 66, 2, 1},
                                {1, 1, 1, 30, 29, 2, 1}};
    const size_t tiles[4][2] = {{256, 128}, {16, 48}, {7, 64}, {64, 5}};
    for (size_t s = 0; s < 7; s++) {
        const size_t *z = shapes[s], B = z[0], H = z[1], Hkv = z[2], T = z[3], S = z[4], D = z[5];
        const size_t nq = B * H * T * D, nk = B * Hkv * S * D, nt = B * H * T;
        llm_flash_config c = llm_flash_defaults(B, H, Hkv, T, D);
        c.S = S, c.causal = z[6] != 0, c.scale = 0.3f;
        llm_rng rng = llm_rng_seed(s);
        const float *q = flash_normal(nq, &rng);
        const float *k = flash_normal(nk, &rng), *v = flash_normal(nk, &rng);
        bool *hidden = bools(B * S);
        for (size_t i = 0; i < B * S; i++) hidden[i] = i % 3 == 1;
        if (s % 2) c.hidden = hidden;
        double *out64 = doubles(nq), *lse64 = doubles(nt);
        flash_plain(out64, lse64, q, k, v, NULL, &c);
        float *out = floats(nq), *lse = floats(nt), *first = floats(nq);
        for (size_t t = 0; t < 4; t++) {
            c.Br = tiles[t][0], c.Bc = tiles[t][1];
            flash_forward(out, lse, q, k, v, &c);
            for (size_t i = 0; i < nq; i++) CHECK_NEAR(out[i], out64[i], 2e-6);
            for (size_t i = 0; i < nt; i++)
                if (lse[i] != (float)lse64[i])
                    CHECK_NEAR(lse[i], lse64[i], 1e-6 * (1.0 + fabs(lse64[i])));
            if (t == 0) memcpy(first, out, nq * sizeof(float));
            CHECK_ALL_NEAR(out, first, nq, 1e-6f);
        }
    }
}

TEST(flash,
     "backward, with dropout, groups, hidden keys and blind queries, equals finite differences") {
    llm_flash_config c = llm_flash_defaults(2, 4, 2, 5, 3);
    c.S = 4, c.dropout = 0.3f, c.seed = 5, c.offset = 77; /* T > S: query 0 sees nothing */
    const bool hidden[8] = {false, true, false, false, true, false, false, false};
    c.hidden = hidden;
    const size_t nq = 2 * 4 * 5 * 3, nk = 2 * 2 * 4 * 3, nt = 2 * 4 * 5;
    llm_rng rng = llm_rng_seed(4);
    float *q = flash_normal(nq, &rng), *k = flash_normal(nk, &rng), *v = flash_normal(nk, &rng);
    const float *dout = flash_normal(nq, &rng);
    float *out = floats(nq), *lse = floats(nt), *want = floats(nq);
    double *out64 = doubles(nq);
    flash_plain(out64, NULL, q, k, v, NULL, &c);
    for (size_t i = 0; i < nq; i++) want[i] = (float)out64[i];
    for (size_t t = 0; t < 6; t++) {
        float *dq = zeros(nq), *dk = zeros(nk), *dv = zeros(nk);
        c.Br = flash_tiles[t][0], c.Bc = flash_tiles[t][1];
        flash_forward(out, lse, q, k, v, &c);
        CHECK_ALL_NEAR(out, want, nq, 2e-6f);
        for (size_t bh = 0; bh < 8;
             bh++) { /* row 4 of head bh of text 1 hides key 0 from query 1 */
            CHECK(lse[bh * 5] == -INFINITY && out[bh * 15] == 0.0f);
            CHECK((lse[bh * 5 + 1] == -INFINITY) == (bh >= 4));
        }
        llm_flash_backward(dq, dk, dv, dout, out, lse, q, k, v, &c);
        CHECK_GRAD(dq, q, nq, 1e-3f, 1e-5f, flash_plain(NULL, NULL, q, k, v, dout, &c));
        CHECK_GRAD(dk, k, nk, 1e-3f, 1e-5f, flash_plain(NULL, NULL, q, k, v, dout, &c));
        CHECK_GRAD(dv, v, nk, 1e-3f, 1e-5f, flash_plain(NULL, NULL, q, k, v, dout, &c));
        for (size_t d = 0; d < 3; d++) CHECK(dk[3 + d] == 0.0f && dv[3 + d] == 0.0f); /* hidden */

        float *dq2 = zeros(nq), *dk2 = zeros(nk), *dv2 = zeros(nk); /* one at a time, twice */
        for (size_t n = 0; n < 2; n++) {
            llm_flash_backward(dq2, NULL, NULL, dout, out, lse, q, k, v, &c);
            llm_flash_backward(NULL, dk2, NULL, dout, out, lse, q, k, v, &c);
            llm_flash_backward(NULL, NULL, dv2, dout, out, lse, q, k, v, &c);
        }
        for (size_t i = 0; i < nq; i++) CHECK_NEAR(dq2[i], 2.0 * (double)dq[i], 1e-6);
        for (size_t i = 0; i < nk; i++) CHECK_NEAR(dk2[i], 2.0 * (double)dk[i], 1e-5);
        for (size_t i = 0; i < nk; i++) CHECK_NEAR(dv2[i], 2.0 * (double)dv[i], 1e-5);
    }
}

TEST(flash, "equals causal_attn, forward and backward, at a size of several tiles") {
    const size_t T = 300, H = 2, D = 20, C = H * D, n = T * C;
    llm_rng rng = llm_rng_seed(6);
    const float *qkv = flash_normal(3 * n, &rng), *dout = flash_normal(n, &rng);
    float *out = floats(n), *att = floats(H * T * T), *dqkv = zeros(3 * n), *part[3], *grad[3];
    float *o = floats(n), *turned = floats(n), *lse = floats(H * T);
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 64 * H * T * sizeof(float)));
    llm_causal_attn_forward(out, att, qkv, 1, T, C, H);
    llm_causal_attn_backward(dqkv, dout, att, qkv, 1, T, C, H, &arena);
    llm_arena_destroy(&arena);
    const llm_qkv_config split = llm_qkv_defaults(1, T, C, H);
    const llm_flash_config c = llm_flash_defaults(1, H, H, T, D);
    for (size_t i = 0; i < 3; i++) part[i] = floats(n), grad[i] = zeros(n);
    llm_qkv_split(part[0], part[1], part[2], qkv, &split);
    flash_forward(o, lse, part[0], part[1], part[2], &c);
    llm_qkv_swap(turned, o, H, T, D);
    CHECK_ALL_NEAR(turned, out, n, 2e-6f);
    llm_qkv_swap(turned, dout, T, H, D);
    llm_flash_backward(grad[0], grad[1], grad[2], turned, o, lse, part[0], part[1], part[2], &c);
    float *merged = floats(3 * n);
    llm_qkv_merge(merged, grad[0], grad[1], grad[2], &split);
    CHECK_ALL_NEAR(merged, dqkv, 3 * n, 1e-5f); /* two orders of summing 150 terms */
}

TEST(flash, "scores of 1e4 that rise and fall along the keys are no trouble") {
    enum { S = 9 };
    float k[S], v[S], q[1] = {100}, out[1], lse[1];
    llm_flash_config c = llm_flash_defaults(1, 1, 1, 1, 1);
    c.S = S, c.scale = 1.0f;
    for (size_t j = 0; j < S; j++) k[j] = 100.0f * cosf((float)j), v[j] = (float)j;
    for (size_t Bc = 1; Bc <= S; Bc++) {
        c.Bc = Bc;
        flash_forward(out, lse, q, k, v, &c);
        CHECK(out[0] == 0.0f && lse[0] == 1e4f); /* cos 0 is the largest, by 398 */
    }
    q[0] = -100;
    flash_forward(out, lse, q, k, v, &c);
    CHECK(out[0] == 3.0f);
}

TEST(flash, "counted words are T D (3 ceil(4 T D / M) + 2) and 4 T for l and m at every visit") {
    for (size_t M = 25600; M <= 102400; M *= 2)
        for (size_t T = 256; T <= 2048; T *= 2) {
            const size_t D = 64, visits = (4 * T * D + M - 1) / M;
            CHECK(llm_flash_io(T, D, M) == T * D * (3 * visits + 2) + 4 * T * visits);
        }
    CHECK(llm_flash_io(200, 64, 25600) == 200 * 64 * 8 + 4 * 200 * 2); /* Bc is exactly 100 */
    CHECK(llm_flash_io(201, 64, 25600) == 201 * 64 * 11 + 4 * 201 * 3);
    CHECK(llm_flash_io(202, 64, 25601) == 202 * 64 * 8 + 4 * 202 * 2); /* and here 101 */
    CHECK(llm_flash_io_naive(3, 5) == 60 + 36);
    CHECK((double)llm_flash_io(1024, 64, 25600) < 0.6 * (double)llm_flash_io_naive(1024, 64));
    /* ragged: Bc = 3, Br = 2; tiles of keys 3 and 2, of queries 2, 2, 1 */
    CHECK(llm_flash_io(5, 2, 20) == 2 * (2 * 5) + 2 * (3 * 5 * 2 + 4 * 5));
    CHECK(llm_flash_io(7, 9, 36 * 2 + 1) == 2 * 7 * 9 + 3 * (3 * 7 * 9 + 4 * 7));
}

TEST(flash, "defaults; heads that do not divide and tiles beyond 256 x 128 are refused; nothing is "
            "something") {
    llm_flash_config c = llm_flash_defaults(2, 6, 3, 4, 16);
    CHECK(c.B == 2 && c.H == 6 && c.Hkv == 3 && c.T == 4 && c.S == 4 && c.D == 16);
    CHECK(c.Br == 256 && c.Bc == 128 && c.causal && !c.hidden && c.dropout == 0.0f);
    CHECK(c.seed == 0 && c.offset == 0);
    CHECK_NEAR(c.scale, 0.25, 1e-7);
    float x[4] = {0};
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 4096));
    const size_t bad[6][4] = {{3, 2, 64, 64},  {1, 0, 64, 64},  {1, 1, 0, 64}, {1, 1, 64, 0},
                              {1, 1, 257, 64}, {1, 1, 256, 129}}; /* H, Hkv, Br, Bc */
    for (size_t i = 0; i < 6; i++) {
        c = llm_flash_defaults(1, bad[i][0], bad[i][1], 1, 1);
        c.Br = bad[i][2], c.Bc = bad[i][3];
        CHECK_ASSERTS(llm_flash_forward(x, x, x, x, x, &c, &arena));
        CHECK_ASSERTS(llm_flash_backward(x, x, x, x, x, x, x, x, x, &c));
    }
    for (int causal = 0; causal < 2; causal++) {
        float out[4] = {9, 9, 9, 9}, lse[2] = {9, 9};
        c = llm_flash_defaults(1, 1, 1, 2, 2);
        c.S = 0, c.causal = causal;
        llm_flash_forward(out, lse, x, x, x, &c, &arena);
        for (size_t i = 0; i < 4; i++) CHECK(out[i] == 0.0f);
        CHECK(lse[0] == -INFINITY && lse[1] == -INFINITY);
    }
    llm_arena_destroy(&arena);
}

/* @gqa */
#include "../test.h"

#include "../../llm.h"

static float *gqa_normal(size_t n, llm_rng *rng) {
    float *x = floats(n);
    llm_rng_normal_fill(rng, x, n);
    return x;
}

static double *gqa_zeros(size_t n) { return (double *)test_memory(n, sizeof(double)); }

/* Forward on exactly the scratch that its comment asks for. */
static void gqa_forward(float *out, float *lse, const float *q, const float *k, const float *v,
                        const llm_gqa_config *c) {
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 64 * c->B * c->H * c->S * sizeof(float)));
    llm_gqa_forward(out, lse, q, k, v, c, &arena);
    CHECK(arena.used == 0 && arena.peak == arena.size);
    llm_arena_destroy(&arena);
}

TEST(gqa, "equals torch's scaled_dot_product_attention with enable_gqa, gradients too") {
    const size_t shapes[][7] = {{1, 1, 1, 1, 1, 1, 1},
                                {2, 4, 2, 3, 3, 2, 1},
                                {1, 6, 2, 3, 5, 3, 1},
                                {2, 3, 1, 4, 2, 3, 0}}; /* B, H, Hkv, T, S, D, causal */
    for (size_t s = 0; s < 4; s++) {
        const size_t *z = shapes[s], B = z[0], H = z[1], Hkv = z[2], T = z[3], S = z[4], D = z[5];
        const size_t nq = B * H * T * D, nk = B * Hkv * S * D;
        llm_gqa_config c = llm_gqa_defaults(B, H, Hkv, T, D);
        c.S = S, c.causal = z[6] != 0;
        char name[64];
        snprintf(name, sizeof name, "%zux%zux%zux%zux%zux%zu", B, H, Hkv, T, S, D);
        const float *q = golden("%s/q", name), *k = golden("%s/k", name);
        const float *v = golden("%s/v", name), *dout = golden("%s/dout", name);
        float *out = floats(nq), *lse = floats(B * H * T);
        float *dq = zeros(nq), *dk = zeros(nk), *dv = zeros(nk);
        gqa_forward(out, lse, q, k, v, &c);
        llm_gqa_backward(dq, dk, dv, dout, out, lse, q, k, v, &c);
        /* means of up to 5 values; sums of up to 12 products in dk and dv */
        CHECK_GOLDEN(out, nq, 1e-6f, "%s/out", name);
        CHECK_GOLDEN(lse, B * H * T, 1e-6f, "%s/lse", name);
        CHECK_GOLDEN(dq, nq, 2e-6f, "%s/dq", name);
        CHECK_GOLDEN(dk, nk, 4e-6f, "%s/dk", name);
        CHECK_GOLDEN(dv, nk, 4e-6f, "%s/dv", name);
    }
}

/* The definition in doubles, with a copy of k and v for every query head, as multi-head attention:
 * o, lse and the gradients, of which dk and dv are summed over a group at the end. */
static void gqa_plain(double *out, double *lse, double *dq, double *dk, double *dv,
                      const float *dout, const float *q, const float *k, const float *v,
                      const llm_gqa_config *c) {
    const size_t T = c->T, S = c->S, D = c->D, group = c->H / c->Hkv;
    double *p = doubles(S), *dkh = gqa_zeros(c->B * c->H * S * D),
           *dvh = gqa_zeros(c->B * c->H * S * D);
    for (size_t r = 0; r < c->B * c->H * T; r++) {
        const size_t bh = r / T, kv = bh / group * S * D;
        double total = 0.0;
        for (size_t d = 0; d < D; d++) out[r * D + d] = 0.0;
        for (size_t j = 0; j < S; j++) {
            const bool seen = !c->causal || j + T <= r % T + S;
            p[j] = seen ? exp((double)c->scale * dot(q + r * D, k + kv + j * D, D)) : 0.0;
            total += p[j];
        }
        lse[r] = log(total);
        if (total == 0.0) continue;
        for (size_t j = 0; j < S; j++) {
            p[j] /= total;
            for (size_t d = 0; d < D; d++) out[r * D + d] += p[j] * (double)v[kv + j * D + d];
        }
        double along = 0.0;
        for (size_t d = 0; d < D; d++) along += out[r * D + d] * (double)dout[r * D + d];
        for (size_t j = 0; j < S; j++) {
            const double ds =
                p[j] * (dot(dout + r * D, v + kv + j * D, D) - along) * (double)c->scale;
            for (size_t d = 0; d < D; d++) {
                dq[r * D + d] += ds * (double)k[kv + j * D + d];
                dkh[(bh * S + j) * D + d] += ds * (double)q[r * D + d];
                dvh[(bh * S + j) * D + d] += p[j] * (double)dout[r * D + d];
            }
        }
    }
    for (size_t i = 0; i < c->B * c->H * S * D; i++) {
        const size_t to = i / (S * D) / group * S * D + i % (S * D);
        dk[to] += dkh[i];
        dv[to] += dvh[i];
    }
}

static void gqa_check(const float *got, const double *want, size_t n, double tol) {
    for (size_t i = 0; i < n; i++)
        if (got[i] != (float)want[i]) CHECK_NEAR(got[i], want[i], tol * (1.0 + fabs(want[i])));
}

TEST(gqa, "equals multi-head attention on repeated keys, in doubles, around the tile's edges") {
    const size_t shapes[][7] = {
        {1, 2, 1, 63, 65, 3, 1},  {2, 4, 2, 65, 65, 5, 1},  {1, 3, 3, 5, 130, 33, 1},
        {1, 2, 2, 70, 7, 2, 1},   {1, 4, 1, 67, 131, 4, 0}, {1, 2, 1, 130, 64, 65, 0},
        {1, 1, 1, 129, 66, 2, 1}, {1, 2, 1, 3, 1, 4, 1},    {1, 1, 1, 66, 194, 2, 1}};
    for (size_t s = 0; s < 9; s++) {
        const size_t *z = shapes[s], B = z[0], H = z[1], Hkv = z[2], T = z[3], S = z[4], D = z[5];
        const size_t nq = B * H * T * D, nk = B * Hkv * S * D, nt = B * H * T;
        llm_gqa_config c = llm_gqa_defaults(B, H, Hkv, T, D);
        c.S = S, c.causal = z[6] != 0, c.scale = 0.3f;
        llm_rng rng = llm_rng_seed(s);
        const float *q = gqa_normal(nq, &rng), *dout = gqa_normal(nq, &rng);
        const float *k = gqa_normal(nk, &rng), *v = gqa_normal(nk, &rng);
        double *out64 = doubles(nq), *lse64 = doubles(nt);
        double *dq64 = gqa_zeros(nq), *dk64 = gqa_zeros(nk), *dv64 = gqa_zeros(nk);
        gqa_plain(out64, lse64, dq64, dk64, dv64, dout, q, k, v, &c);

        float *out = floats(nq), *lse = floats(nt), *again = floats(nq);
        float *dq = zeros(nq), *dk = zeros(nk), *dv = zeros(nk);
        gqa_forward(out, lse, q, k, v, &c);
        gqa_check(out, out64, nq, 5e-6); /* scores up to 10 in exp, values up to 4 */
        gqa_check(lse, lse64, nt, 1e-6); /* equal where it is -inf */
        gqa_forward(again, NULL, q, k, v, &c);
        CHECK_ALL_NEAR(again, out, nq, 0.0f);
        llm_gqa_backward(dq, dk, dv, dout, out, lse, q, k, v, &c);
        gqa_check(dq, dq64, nq, 1e-5); /* sums of up to 4 x 130 products of size 1 */
        gqa_check(dk, dk64, nk, 2e-5);
        gqa_check(dv, dv64, nk, 2e-5);
        llm_gqa_backward(dq, NULL, NULL, dout, out, lse, q, k, v, &c); /* accumulates */
        llm_gqa_backward(NULL, dk, NULL, dout, out, lse, q, k, v, &c);
        llm_gqa_backward(NULL, NULL, dv, dout, out, lse, q, k, v, &c);
        for (size_t i = 0; i < nq; i++) dq64[i] *= 2.0;
        for (size_t i = 0; i < nk; i++) dk64[i] *= 2.0, dv64[i] *= 2.0;
        gqa_check(dq, dq64, nq, 2e-5);
        gqa_check(dk, dk64, nk, 4e-5);
        gqa_check(dv, dv64, nk, 4e-5);
    }
}

TEST(gqa, "heads of a group are neighbours: head h reads h / (H/Hkv)") {
    const float q[4] = {0, 0, 0, 0}, k[2] = {0, 0}, v[2] = {1, 2};
    const llm_gqa_config c = llm_gqa_defaults(1, 4, 2, 1, 1);
    float out[4];
    const float want[4] = {1, 1, 2, 2};
    gqa_forward(out, NULL, q, k, v, &c);
    CHECK_ALL_NEAR(out, want, 4, 0.0f);
}

TEST(gqa,
     "decoding a token equals the last row of the parallel pass, for any group, width and cache") {
    const size_t shapes[][4] = {
        {1, 1, 1, 1}, {2, 1, 5, 3}, {6, 2, 33, 16}, {8, 1, 100, 17}, {4, 4, 7, 64}};
    for (size_t s = 0; s < 5; s++) {
        const size_t H = shapes[s][0], Hkv = shapes[s][1], S = shapes[s][2], D = shapes[s][3],
                     G = H / Hkv;
        llm_rng rng = llm_rng_seed(s);
        const float *q = gqa_normal(H * D, &rng);
        const float *k = gqa_normal(Hkv * S * D, &rng), *v = gqa_normal(Hkv * S * D, &rng);
        float *out = floats(H * D), *want = floats(H * D), *w = floats(G * S);
        llm_gqa_config c = llm_gqa_defaults(1, H, Hkv, 1, D);
        c.S = S;
        gqa_forward(want, NULL, q, k, v, &c);
        for (size_t h = 0; h < Hkv; h++) {
            llm_gqa_decode(out + h * G * D, w, q + h * G * D, k + h * S * D, v + h * S * D, G, S, D,
                           c.scale);
            for (size_t g = 0; g < G; g++) {
                double sum = 0.0;
                for (size_t j = 0; j < S; j++) sum += (double)w[g * S + j];
                CHECK_NEAR(sum, 1.0, 1e-6);
            }
        }
        CHECK_ALL_NEAR(out, want, H * D, 1e-6f);
    }
    for (size_t n = 0; n < 50; n++) { /* the dot product by itself */
        llm_rng rng = llm_rng_seed(n);
        const float *a = gqa_normal(n, &rng), *b = gqa_normal(n, &rng);
        CHECK_NEAR(llm_gqa_dot(a, b, n), dot(a, b, n), 5e-6);
    }
    const float big[2] = {1e4f, -1e4f}, v[2] = {3, 4}, q[1] = {1};
    float out[1], w[2];
    llm_gqa_decode(out, w, q, big, v, 1, 2, 1, 1.0f); /* no overflow */
    CHECK(out[0] == 3.0f && w[0] == 1.0f && w[1] == 0.0f);
}

/* Squared error of a grouped layer against multi-head attention whose keys and values come from wk
 * and wv (H D,C), the grouped ones from pk and pv (Hkv D,C). */
static double gqa_error(const float *x, const float *q, const float *wk, const float *wv,
                        const float *pk, const float *pv, size_t T, size_t C, size_t H, size_t Hkv,
                        size_t D) {
    float *rows = floats(T * H * D), *k = floats(T * H * D), *v = floats(T * H * D);
    float *full = floats(T * H * D), *out = floats(T * H * D);
    double error = 0.0;
    for (size_t grouped = 0; grouped < 2; grouped++) {
        const size_t n = grouped ? Hkv : H;
        llm_matmul_forward(rows, x, grouped ? pk : wk, NULL, T, C, n * D);
        llm_qkv_swap(k, rows, T, n, D);
        llm_matmul_forward(rows, x, grouped ? pv : wv, NULL, T, C, n * D);
        llm_qkv_swap(v, rows, T, n, D);
        const llm_gqa_config c = llm_gqa_defaults(1, H, n, T, D);
        gqa_forward(grouped ? out : full, NULL, q, k, v, &c);
    }
    for (size_t i = 0; i < T * H * D; i++) error += pow((double)out[i] - (double)full[i], 2.0);
    return error;
}

TEST(gqa,
     "mean-pooled heads: the mean of each group, and closer to the original than its first head") {
    enum { H = 4, Hkv = 2, D = 3, C = 6, T = 20 };
    double mean = 0.0, one = 0.0;
    for (uint64_t seed = 1; seed <= 10; seed++) {
        llm_rng rng = llm_rng_seed(seed);
        const float *x = gqa_normal(T * C, &rng), *q = gqa_normal(H * T * D, &rng);
        const float *wk = gqa_normal(H * D * C, &rng), *wv = gqa_normal(H * D * C, &rng);
        float mk[Hkv * D * C], mv[Hkv * D * C], fk[Hkv * D * C], fv[Hkv * D * C];
        llm_gqa_uptrain_meanpool(mk, wk, H, Hkv, D, C);
        llm_gqa_uptrain_meanpool(mv, wv, H, Hkv, D, C);
        for (size_t i = 0; i < Hkv * D * C; i++) {
            const size_t first = i / (D * C) * 2 * D * C + i % (D * C);
            fk[i] = wk[first], fv[i] = wv[first];
            CHECK_NEAR(mk[i], 0.5 * ((double)wk[first] + (double)wk[first + D * C]), 2e-7);
        }
        mean += gqa_error(x, q, wk, wv, mk, mv, T, C, H, Hkv, D);
        one += gqa_error(x, q, wk, wv, fk, fv, T, C, H, Hkv, D);
        float same[H * D * C];
        llm_gqa_uptrain_meanpool(same, wk, H, H, D, C); /* groups of one: nothing changes */
        CHECK_ALL_NEAR(same, wk, H * D * C, 0.0f);
    }
    CHECK(one > 1.1 * mean); /* 1.29 to 1.52 over eight further sets of ten seeds */
}

TEST(gqa, "cache size of Llama 3 8B; heads that do not divide are refused; nothing is something") {
    CHECK(llm_gqa_cache_bytes(32, 8, 128, 1, 2) == 131072);
    CHECK(llm_gqa_cache_bytes(32, 32, 128, 1, 2) == 4 * llm_gqa_cache_bytes(32, 8, 128, 1, 2));
    CHECK(llm_gqa_cache_bytes(3, 5, 7, 11, 13) == 2 * 3 * 5 * 7 * 11 * 13);
    llm_gqa_config c = llm_gqa_defaults(2, 3, 1, 4, 16);
    CHECK(c.B == 2 && c.H == 3 && c.Hkv == 1 && c.T == 4 && c.S == 4 && c.D == 16 && c.causal);
    CHECK_NEAR(c.scale, 0.25, 1e-7);
    float x[128] = {0}, *lse = floats(2); /* exactly as long as below */
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 1 << 14));
    c.Hkv = 2;
    CHECK_ASSERTS(llm_gqa_forward(x, NULL, x, x, x, &c, &arena));
    CHECK_ASSERTS(llm_gqa_backward(x, x, x, x, x, x, x, x, x, &c));
    CHECK_ASSERTS(llm_gqa_uptrain_meanpool(x, x, 3, 2, 1, 1));
    c.Hkv = 0;
    CHECK_ASSERTS(llm_gqa_forward(x, NULL, x, x, x, &c, &arena));
    CHECK_ASSERTS(llm_gqa_backward(x, x, x, x, x, x, x, x, x, &c));
    CHECK_ASSERTS(llm_gqa_uptrain_meanpool(x, x, 3, 0, 1, 1));
    const float two[2] = {1, 2};
    llm_gqa_uptrain_meanpool(x, two, 2, 1, 1, 1);
    CHECK(x[0] == 1.5f);
    c.B = 1, c.H = c.Hkv = 1, c.T = 2, c.D = 2, c.S = 0; /* no keys: zeros, causal or not */
    for (int causal = 0; causal < 2; causal++) {
        float out[4] = {9, 9, 9, 9};
        c.causal = causal;
        llm_gqa_forward(out, lse, x, x, x, &c, &arena);
        for (size_t i = 0; i < 4; i++) CHECK(out[i] == 0.0f);
        CHECK(lse[0] == -INFINITY && lse[1] == -INFINITY);
    }
    c.T = 0;
    llm_gqa_forward(x, lse, x, x, x, &c, &arena);
    llm_arena_destroy(&arena);
}

/* @kv_cache */
#include "../test.h"

#include "../../llm.h"

/* An arena of exactly what a cache and its calls ask for: the cache, and scratch floats. */
static void kv_cache_new(llm_kv_cache *cache, llm_arena *arena, size_t L, size_t B, size_t H,
                         size_t T, size_t D, size_t scratch) {
    const size_t bytes = llm_kv_cache_bytes(L, B, H, T, D);
    CHECK(llm_arena_create(arena, bytes + (scratch * sizeof(float) + 63) / 64 * 64));
    llm_kv_cache_create(cache, L, B, H, T, D, arena);
    CHECK(arena->used == bytes);
}

/* part (B,H,n,D) <- positions from .. from+n-1 of all (B,H,T,D). */
static float *kv_cache_cut(const float *all, size_t BH, size_t T, size_t D, size_t from, size_t n) {
    float *part = floats(BH * n * D);
    for (size_t i = 0; i < BH; i++)
        memcpy(part + i * n * D, all + (i * T + from) * D, n * D * sizeof(float));
    return part;
}

TEST(kv_cache, "Llama's attention by tokens and by chunks equals transformers on the whole text") {
    enum { B = 2, T = 7, C = 8, D = 4 };
    const size_t heads[3][2] = {{2, 2}, {4, 2}, {4, 1}}, chunks[5] = {1, 2, 3, 6, 7};
    for (size_t s = 0; s < 3; s++) {
        const size_t H = heads[s][0], Hkv = heads[s][1], O = (H + 2 * Hkv) * D;
        const float *x = golden("%zux%zu/x", H, Hkv), *w = golden("%zux%zu/w", H, Hkv);
        const float *wo = golden("%zux%zu/wo", H, Hkv);
        float f[2], cosine[T * 2], sine[T * 2], *y = floats(B * T * C);
        llm_rope_inv_freq(f, D, 10000.0f);
        llm_rope_table(cosine, sine, NULL, f, T, D);
        for (size_t m = 0; m < 5; m++) {
            llm_kv_cache cache;
            llm_arena arena, work;
            kv_cache_new(&cache, &arena, 1, B, Hkv, T, D, B * H * T);
            CHECK(llm_arena_create(&work, 1 << 14));
            for (size_t t = 0; t < T; t += chunks[m]) {
                const size_t n = T - t < chunks[m] ? T - t : chunks[m];
                llm_qkv_config c = llm_qkv_defaults(B, n, C, 1);
                c.H = H, c.Hkv = Hkv, c.D = D;
                float *xt = kv_cache_cut(x, B, T, C, t, n), *yt = floats(B * n * C);
                float *q = floats(B * H * n * D), *k = floats(B * Hkv * n * D);
                float *v = floats(B * Hkv * n * D), *o = floats(B * H * n * D);
                float *merged = floats(B * n * H * D);
                llm_qkv_forward(q, k, v, xt, w, NULL, &c, &work);
                const float *ct = cosine + 2 * t, *st = sine + 2 * t; /* positions t .. t+n-1 */
                llm_rope_forward(q, q, ct, st, 1, B * H, n, D, D, LLM_ROPE_HALVES);
                llm_rope_forward(k, k, ct, st, 1, B * Hkv, n, D, D, LLM_ROPE_HALVES);
                llm_kv_cache_append(&cache, 0, k, v, n);
                llm_kv_cache_attend(o, &cache, 0, q, H, n, &arena);
                llm_kv_cache_advance(&cache, NULL, n);
                for (size_t b = 0; b < B; b++)
                    llm_qkv_swap(merged + b * n * H * D, o + b * n * H * D, H, n, D);
                llm_matmul_forward(yt, merged, wo, NULL, B * n, H * D, C);
                for (size_t b = 0; b < B; b++)
                    memcpy(y + (b * T + t) * C, yt + b * n * C, n * C * sizeof(float));
                CHECK(O == c.D * (c.H + 2 * c.Hkv));
            }
            /* scores reach tens, and their rounding goes into exp */
            CHECK_GOLDEN(y, B * T * C, 2e-5f, "%zux%zu/y", H, Hkv);
            CHECK(cache.length[0] == T && cache.length[1] == T);
            CHECK(arena.peak == arena.size);
            llm_arena_destroy(&arena);
            llm_arena_destroy(&work);
        }
    }
}

/* L layers of q (B,Hq,T,D), k, v (B,H,T,D), and out, the attention of the whole text. */
typedef struct {
    size_t L, B, Hq, H, T, D;
    float *q, *k, *v, *out;
} kv_cache_text;

static kv_cache_text kv_cache_make(size_t L, size_t B, size_t Hq, size_t H, size_t T, size_t D,
                                   uint64_t seed) {
    kv_cache_text x;
    const size_t nq = B * Hq * T * D, nk = B * H * T * D;
    x.L = L, x.B = B, x.Hq = Hq, x.H = H, x.T = T, x.D = D;
    x.q = floats(L * nq), x.k = floats(L * nk), x.v = floats(L * nk), x.out = floats(L * nq);
    llm_rng rng = llm_rng_seed(seed);
    llm_rng_normal_fill(&rng, x.q, L * nq);
    llm_rng_normal_fill(&rng, x.k, L * nk);
    llm_rng_normal_fill(&rng, x.v, L * nk);
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 64 * B * Hq * T * sizeof(float)));
    const llm_gqa_config c = llm_gqa_defaults(B, Hq, H, T, D);
    for (size_t l = 0; l < L; l++)
        llm_gqa_forward(x.out + l * nq, NULL, x.q + l * nq, x.k + l * nk, x.v + l * nk, &c, &arena);
    llm_arena_destroy(&arena);
    return x;
}

/* Feeds positions from .. from+n-1 of the text through all layers and compares with its attention;
 * all rows of the cache must hold the first `from`. */
static void kv_cache_feed(llm_kv_cache *cache, const kv_cache_text *x, size_t from, size_t n,
                          llm_arena *arena) {
    for (size_t l = 0; l < x->L; l++) {
        const size_t nq = x->B * x->Hq, nk = x->B * x->H;
        const float *q = kv_cache_cut(x->q + l * nq * x->T * x->D, nq, x->T, x->D, from, n);
        const float *k = kv_cache_cut(x->k + l * nk * x->T * x->D, nk, x->T, x->D, from, n);
        const float *v = kv_cache_cut(x->v + l * nk * x->T * x->D, nk, x->T, x->D, from, n);
        const float *want = kv_cache_cut(x->out + l * nq * x->T * x->D, nq, x->T, x->D, from, n);
        float *out = floats(nq * n * x->D);
        llm_kv_cache_append(cache, l, k, v, n);
        llm_kv_cache_attend(out, cache, l, q, x->Hq, n, arena);
        CHECK_ALL_NEAR(out, want, nq * n * x->D, 2e-6f); /* a mean of values up to 4 */
    }
    llm_kv_cache_advance(cache, NULL, n);
}

TEST(kv_cache, "layers, groups and chunks of any size equal attention over the whole text") {
    const size_t shapes[][6] = {
        {1, 1, 1, 1, 1, 1}, {3, 2, 4, 2, 9, 5}, {1, 1, 3, 1, 200, 33}, {2, 1, 2, 2, 131, 4}};
    const size_t chunks[6] = {1, 2, 64, 65, 130, 200};
    for (size_t s = 0; s < 4; s++) {
        const size_t *z = shapes[s];
        const kv_cache_text x = kv_cache_make(z[0], z[1], z[2], z[3], z[4], z[5], s);
        for (size_t m = 0; m < 6; m++) {
            if (chunks[m] > x.T && m > 0 && chunks[m - 1] >= x.T) continue;
            llm_kv_cache cache;
            llm_arena arena;
            kv_cache_new(&cache, &arena, x.L, x.B, x.H, x.T, x.D, x.B * x.Hq * x.T);
            for (size_t t = 0; t < x.T; t += chunks[m])
                kv_cache_feed(&cache, &x, t, x.T - t < chunks[m] ? x.T - t : chunks[m], &arena);
            CHECK(arena.used == llm_kv_cache_bytes(x.L, x.B, x.H, x.T, x.D));
            llm_arena_destroy(&arena);
        }
    }
}

TEST(kv_cache, "rows of different lengths: right-padded prompts equal each row by itself") {
    enum { B = 3, T = 12, P = 7, D = 3, H = 2 };
    const size_t length[B] = {7, 2, 4};
    const kv_cache_text x = kv_cache_make(1, B, H, H, T, D, 5);
    llm_kv_cache cache;
    llm_arena arena;
    kv_cache_new(&cache, &arena, 1, B, H, T, D, B * H * T);
    float *k = kv_cache_cut(x.k, B * H, T, D, 0, P), *v = kv_cache_cut(x.v, B * H, T, D, 0, P);
    for (size_t b = 0; b < B; b++) /* the padding is NaN: it must never be read */
        for (size_t h = 0; h < H; h++)
            for (size_t i = length[b] * D; i < P * D; i++)
                k[(b * H + h) * P * D + i] = v[(b * H + h) * P * D + i] = NAN;
    llm_kv_cache_append(&cache, 0, k, v, P);
    llm_kv_cache_advance(&cache, length, P);
    for (size_t step = 0; step < 5; step++) { /* each row goes on from its own end */
        float q[B * H * D], k1[B * H * D], v1[B * H * D], out[B * H * D], want[B * H * D];
        for (size_t i = 0; i < B * H * D; i++) {
            const size_t at = (i / D * T + length[i / D / H] + step) * D + i % D;
            q[i] = x.q[at], k1[i] = x.k[at], v1[i] = x.v[at], want[i] = x.out[at];
        }
        llm_kv_cache_append(&cache, 0, k1, v1, 1);
        llm_kv_cache_attend(out, &cache, 0, q, H, 1, &arena);
        llm_kv_cache_advance(&cache, NULL, 1);
        CHECK_ALL_NEAR(out, want, B * H * D, 2e-6f);
    }
    CHECK(cache.length[0] == 12 && cache.length[1] == 7 && cache.length[2] == 9);
    llm_arena_destroy(&arena);
}

TEST(kv_cache, "rollback and another try, and keeping chosen positions, equal fresh runs") {
    enum { L = 2, B = 2, H = 2, T = 10, D = 3 };
    const kv_cache_text x = kv_cache_make(L, B, H, H, T, D, 6),
                        other = kv_cache_make(L, B, H, H, T, D, 7);
    llm_kv_cache cache;
    llm_arena arena;
    kv_cache_new(&cache, &arena, L, B, H, T, D, B * H * T);
    const size_t nk = B * H;
    for (size_t l = 0; l < L; l++) { /* positions 0..3 of x, then 4 wrong ones */
        llm_kv_cache_append(&cache, l, kv_cache_cut(x.k + l * nk * T * D, nk, T, D, 0, 4),
                            kv_cache_cut(x.v + l * nk * T * D, nk, T, D, 0, 4), 4);
    }
    llm_kv_cache_advance(&cache, NULL, 4);
    for (size_t l = 0; l < L; l++)
        llm_kv_cache_append(&cache, l, kv_cache_cut(other.k + l * nk * T * D, nk, T, D, 0, 4),
                            kv_cache_cut(other.v + l * nk * T * D, nk, T, D, 0, 4), 4);
    llm_kv_cache_advance(&cache, NULL, 4);
    for (size_t b = 0; b < B; b++) llm_kv_cache_rollback(&cache, b, 4);
    kv_cache_feed(&cache, &x, 4, 3, &arena);
    for (size_t b = 0; b < B; b++) llm_kv_cache_rollback(&cache, b, 0);
    kv_cache_feed(&cache, &x, 7, 1, &arena);

    /* a tree of drafts behind position 3: slots 4..9 hold x4, other, x5, other, other, x6 */
    for (size_t b = 0; b < B; b++) llm_kv_cache_rollback(&cache, b, 4);
    const size_t from[6] = {4, 0, 5, 1, 2, 6}, slot[7] = {0, 1, 2, 3, 4, 6, 9};
    for (size_t i = 0; i < 6; i++) {
        const kv_cache_text *text = i == 0 || i == 2 || i == 5 ? &x : &other;
        for (size_t l = 0; l < L; l++)
            llm_kv_cache_append(&cache, l,
                                kv_cache_cut(text->k + l * nk * T * D, nk, T, D, from[i], 1),
                                kv_cache_cut(text->v + l * nk * T * D, nk, T, D, from[i], 1), 1);
        llm_kv_cache_advance(&cache, NULL, 1);
    }
    for (size_t b = 0; b < B; b++) llm_kv_cache_keep(&cache, b, slot, 7);
    CHECK(cache.length[0] == 7 && cache.length[1] == 7);
    kv_cache_feed(&cache, &x, 7, 3, &arena);

    const size_t twice[2] = {1, 1}, beyond[1] = {10};
    CHECK_ASSERTS(llm_kv_cache_keep(&cache, 0, twice, 2));
    CHECK_ASSERTS(llm_kv_cache_keep(&cache, 0, beyond, 1));
    CHECK_ASSERTS(llm_kv_cache_rollback(&cache, 0, 11));
    CHECK_ASSERTS(llm_kv_cache_rollback(&cache, 2, 0));
    llm_arena_destroy(&arena);
}

TEST(kv_cache, "reordered rows go on as the texts that they now are") {
    enum { L = 2, B = 3, H = 2, T = 6, D = 2 };
    const size_t length[B] = {4, 2, 3}, parent[B] = {2, 0, 2}, outside[B] = {0, 3, 1};
    const kv_cache_text x = kv_cache_make(L, B, H, H, T, D, 8);
    llm_kv_cache cache;
    llm_arena arena;
    kv_cache_new(&cache, &arena, L, B, H, T, D, B * T * D + 32);
    const size_t plane = B * H * T * D;
    for (size_t l = 0; l < L; l++)
        llm_kv_cache_append(&cache, l, kv_cache_cut(x.k + l * plane, B * H, T, D, 0, 4),
                            kv_cache_cut(x.v + l * plane, B * H, T, D, 0, 4), 4);
    llm_kv_cache_advance(&cache, length, 0);
    llm_kv_cache_reorder(&cache, parent, &arena);
    for (size_t b = 0; b < B; b++) {
        CHECK(cache.length[b] == length[parent[b]]);
        for (size_t l = 0; l < L; l++)
            for (size_t h = 0; h < H; h++) {
                const size_t at = l * plane + (parent[b] * H + h) * T * D, n = cache.length[b] * D;
                CHECK_ALL_NEAR(llm_kv_cache_keys(&cache, l, b, h), x.k + at, n, 0.0f);
                CHECK_ALL_NEAR(llm_kv_cache_values(&cache, l, b, h), x.v + at, n, 0.0f);
            }
    }
    CHECK_ASSERTS(llm_kv_cache_reorder(&cache, outside, &arena));
    CHECK(arena.used == llm_kv_cache_bytes(L, B, H, T, D));
    llm_arena_destroy(&arena);
}

TEST(kv_cache, "a full cache refuses more; sizes; scores of 1e4 in both forms") {
    llm_kv_cache cache;
    llm_arena arena;
    kv_cache_new(&cache, &arena, 1, 2, 2, 3, 1, 64);
    float x[8] = {0}, out[8];
    llm_kv_cache_append(&cache, 0, x, x, 2);
    llm_kv_cache_advance(&cache, NULL, 2);
    CHECK_ASSERTS(llm_kv_cache_append(&cache, 0, x, x, 2));
    CHECK_ASSERTS(llm_kv_cache_advance(&cache, NULL, 2));
    CHECK_ASSERTS(llm_kv_cache_append(&cache, 1, x, x, 1));
    CHECK_ASSERTS(llm_kv_cache_attend(out, &cache, 0, x, 3, 1, &arena));
    llm_kv_cache headless = cache;
    headless.H = 0;
    CHECK_ASSERTS(llm_kv_cache_attend(out, &headless, 0, x, 2, 1, &arena));
    out[0] = 7.0f;
    llm_kv_cache_attend(out, &cache, 0, x, 2, 0, &arena); /* no queries, nothing is written */
    CHECK(out[0] == 7.0f);
    CHECK_ASSERTS(llm_kv_cache_keys(&cache, 1, 0, 0));
    CHECK_ASSERTS(llm_kv_cache_keys(&cache, 0, 2, 0));
    CHECK_ASSERTS(llm_kv_cache_keys(&cache, 0, 0, 2));
    llm_kv_cache_append(&cache, 0, x, x, 1); /* exactly full is fine */
    llm_kv_cache_advance(&cache, NULL, 1);
    llm_kv_cache_rollback(&cache, 1, 3);
    CHECK(cache.length[0] == 3 && cache.length[1] == 0);
    CHECK(llm_kv_cache_values(&cache, 0, 1, 1) - llm_kv_cache_keys(&cache, 0, 1, 1) == 2 * 2 * 3);
    llm_arena_destroy(&arena);
    CHECK(llm_kv_cache_bytes(1, 512, 1, 1, 1) == 512 * (2 * sizeof(float) + sizeof(size_t)));
    CHECK(llm_kv_cache_bytes(2, 3, 5, 7, 11) == (2 * 2 * 3 * 5 * 7 * 11 * 4 + 63) / 64 * 64 + 64);

    kv_cache_new(&cache, &arena, 1, 9, 1, 1, 1, 0); /* sizes of 9 rows take more than 64 bytes */
    llm_arena_destroy(&arena);
    kv_cache_new(&cache, &arena, 1, 8, 2, 2, 1, 0); /* and 8 rows, and 64 floats, no byte more */
    llm_arena_destroy(&arena);

    kv_cache_new(&cache, &arena, 1, 1, 1, 3, 1, 3);
    const float q[3] = {1, 1, 1}, k[3] = {-1e4f, 1e4f, 0}, v[3] = {1, 2, 3}, want[3] = {1, 2, 2};
    llm_kv_cache_append(&cache, 0, k, v, 3);
    llm_kv_cache_attend(out, &cache, 0, q, 1, 3, &arena);
    CHECK_ALL_NEAR(out, want, 3, 0.0f);
    llm_kv_cache_advance(&cache, NULL, 2);
    llm_kv_cache_append(&cache, 0, k + 2, v + 2, 1);
    llm_kv_cache_attend(out, &cache, 0, q, 1, 1, &arena);
    CHECK(out[0] == 2.0f);
    llm_arena_destroy(&arena);
}

/* @mla_decode */
#include "../test.h"

#include "../../llm.h"

/* Random weights for c. */
static llm_mla_weights decode_weights(const llm_mla_config *c, llm_rng *rng) {
    llm_mla_weights w;
    const size_t from = c->Rq ? c->Rq : c->C;
    float **const all[7] = {&w.dq, &w.q_norm, &w.uq, &w.dkv, &w.kv_norm, &w.ukv, &w.out};
    const size_t size[7] = {c->Rq * c->C,          c->Rq, c->H * (c->Dn + c->Dr) * from,
                            (c->R + c->Dr) * c->C, c->R,  c->H * (c->Dn + c->Dv) * c->R,
                            c->C * c->H * c->Dv};
    for (size_t i = 0; i < 7; i++) {
        *all[i] = floats(size[i]);
        llm_rng_normal_fill(rng, *all[i], size[i]);
    }
    return w;
}

TEST(mla_decode, "absorbed matrices over latents give what unfolded keys and values give") {
    const size_t shapes[][8] = {{1, 2, 1, 1, 1, 1, 2, 1},
                                {9, 6, 2, 4, 3, 3, 2, 5},
                                {17, 5, 3, 0, 4, 2, 4, 1},
                                {33, 16, 4, 12, 20, 8, 4, 8}}; /* T C H Rq R Dn Dr Dv */
    for (size_t n = 0; n < 4; n++) {
        const size_t *z = shapes[n], T = z[0];
        const llm_mla_config c = {1, T, z[1], z[2], z[3], z[4], z[5], z[6], z[7], 1e-6f, 0.3f};
        const size_t wide = c.R + c.Dr, half = c.Dr / 2;
        llm_rng rng = llm_rng_seed(n + 1);
        const llm_mla_weights w = decode_weights(&c, &rng);
        float *x = floats(T * c.C), *want = floats(T * c.C), *y = floats(c.C);
        float *cosine = floats(T * half), *sine = floats(T * half), *cache = floats(T * wide);
        float inv_freq[8];
        llm_rng_normal_fill(&rng, x, T * c.C);
        llm_rope_inv_freq(inv_freq, c.Dr, 50.0f);
        llm_rope_table(cosine, sine, NULL, inv_freq, T, c.Dr);
        llm_arena arena;
        CHECK(llm_arena_create(&arena, 1 << 18));
        llm_mla_saved s = llm_mla_take(&c, &arena);
        llm_mla_forward(want, &s, x, &w, cosine, sine, &c, &arena);
        const size_t used = arena.used;
        for (size_t t = 0; t < T; t++) {
            llm_mla_decode(y, cache, x + t * c.C, &w, cosine + t * half, sine + t * half, t, &c,
                           &arena);
            CHECK(arena.used == used);
            CHECK_ALL_NEAR(y, want + t * c.C, c.C, 1e-4f); /* of size 25 in the last shape */
        }
        CHECK_ALL_NEAR(cache, s.ckv, c.R, 2e-6f); /* the first row: latent, then shared key */
        CHECK_ALL_NEAR(cache + c.R, s.shared, c.Dr, 5e-6f);
        llm_arena_destroy(&arena);
    }
}

TEST(mla_decode, "what it takes from the arena is what its comment says") {
    const llm_mla_config c = {1, 40, 5, 3, 4, 6, 2, 4, 3, 1e-6f, 0.3f};
    llm_rng rng = llm_rng_seed(9);
    const llm_mla_weights w = decode_weights(&c, &rng);
    float x[5], y[5], cosine[2] = {1, 1}, sine[2] = {0, 0}, *cache = floats(40 * 10);
    llm_rng_normal_fill(&rng, x, 5);
    llm_mla_config one = c;
    one.T = 1;
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 1 << 14));
    llm_mla_take(&one, &arena);
    const size_t taken = arena.used; /* in pieces of 64 bytes */
    arena.used = arena.peak = 0;
    llm_mla_decode(y, cache, x, &w, cosine, sine, 0, &c, &arena);
    const size_t rest = 3 * (2 * 6 + 2 * 4 + 40 + 3) + 6 + 4 + 2 * 3 * 4;
    CHECK(arena.used == 0 && arena.peak >= taken && arena.peak <= taken + (rest + 7 * 16) * 4);
    CHECK_ASSERTS(llm_mla_decode(y, cache, x, &w, cosine, sine, 40, &c, &arena));
    llm_arena_destroy(&arena);
}

TEST(mla_decode, "a rotation between W_UK and the query cannot be absorbed") {
    /* Keys W c_j rotated by their position j, and the query by t: scores depend on t - j. With W
     * moved to the query one would have to pick one rotation for all j; the query's own is
     * wrong. */
    const float W[4] = {1, 0.5f, -0.3f, 2}, q[2] = {1, 0.7f}, c[2] = {0.4f, -1};
    double worst = 0.0;
    for (int j = 0; j < 4; j++) {
        const double t = 3.0, k0 = (double)(W[0] * c[0] + W[1] * c[1]);
        const double k1 = (double)(W[2] * c[0] + W[3] * c[1]), a = t - j;
        const double right =
            (double)q[0] * (cos(a) * k0 + sin(a) * k1) + (double)q[1] * (cos(a) * k1 - sin(a) * k0);
        const double absorbed = (double)q[0] * k0 + (double)q[1] * k1;
        if (j == 3) CHECK_NEAR(right, absorbed, 1e-6); /* no distance, no rotation */
        worst = fmax(worst, fabs(right - absorbed));
    }
    CHECK(worst > 0.5);
}

TEST(mla_decode, "the cache of DeepSeek-V3: 576 numbers where heads would keep 32768 and more") {
    const llm_mla_config v3 = {1, 1, 7168, 128, 1536, 512, 128, 64, 128, 1e-6f, 1.0f};
    CHECK(llm_mla_decode_cache(&v3) == 576);
    CHECK(v3.H * (v3.Dn + v3.Dv) == 32768);
}

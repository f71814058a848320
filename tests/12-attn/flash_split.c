/* @flash_split */
#include "../test.h"

#include "../../llm.h"

/* Softmax attention of one query in doubles. */
static double split_plain(double *out, const float *q, const float *k, const float *v, size_t S,
                          size_t D, double scale) {
    double total = 0.0, top = -1e300;
    for (size_t d = 0; d < D; d++) out[d] = 0.0;
    for (size_t j = 0; j < S; j++) top = fmax(top, scale * dot(q, k + j * D, D));
    for (size_t j = 0; j < S; j++) {
        const double p = exp(scale * dot(q, k + j * D, D) - top);
        total += p;
        for (size_t d = 0; d < D; d++) out[d] += p * (double)v[j * D + d];
    }
    for (size_t d = 0; d < D; d++) out[d] /= total;
    return top + log(total);
}

TEST(flash_split, "any number of parts gives attention over all keys") {
    const size_t sizes[][3] = {{1, 1, 1}, {3, 2, 5}, {4, 65, 20}, {2, 300, 64}}; /* G, S, D */
    const size_t parts[] = {1, 2, 3, 7, 64, 400};
    for (size_t n = 0; n < 4; n++) {
        const size_t G = sizes[n][0], S = sizes[n][1], D = sizes[n][2];
        llm_rng rng = llm_rng_seed(n);
        float *q = floats(G * D), *k = floats(S * D), *v = floats(S * D), *out = floats(G * D);
        float *lse = floats(G);
        double want[64];
        llm_rng_normal_fill(&rng, q, G * D);
        llm_rng_normal_fill(&rng, k, S * D);
        llm_rng_normal_fill(&rng, v, S * D);
        for (size_t p = 0; p < 6; p++) {
            llm_arena arena;
            CHECK(llm_arena_create(
                &arena, (G * (S + parts[p]) + parts[p] * G * (D + 1)) * sizeof(float) + 3 * 64));
            llm_flash_split_decode(out, lse, q, k, v, G, S, D, parts[p], 0.7f, &arena);
            CHECK(arena.used == 0);
            llm_arena_destroy(&arena);
            for (size_t g = 0; g < G; g++) {
                const double total = split_plain(want, q + g * D, k, v, S, D, 0.7);
                CHECK_NEAR(lse[g], total, 1e-6 * (1.0 + fabs(total)));
                for (size_t d = 0; d < D; d++)
                    CHECK_NEAR(out[g * D + d], want[d], 3e-5); /* scores up to 19 */
            }
        }
    }
}

TEST(flash_split, "merging is commutative and associative, and nothing is its neutral element") {
    enum { R = 4, D = 3 };
    float o[3][R * D], l[3][R];
    llm_rng rng = llm_rng_seed(5);
    for (size_t i = 0; i < 3; i++) {
        llm_rng_normal_fill(&rng, o[i], R * D);
        llm_rng_normal_fill(&rng, l[i], R);
    }
    l[0][1] = 200.0f, l[1][1] = -200.0f; /* one part weighs all */
    l[0][2] = l[1][2] = -INFINITY;       /* two parts saw nothing, and hold 0 */
    l[0][3] = 1e4f, l[1][3] = 1e4f + 1.0f;
    for (size_t d = 0; d < D; d++) o[0][2 * D + d] = o[1][2 * D + d] = 0.0f;
    float ab[R * D], la[R], ba[R * D], lb[R], bc[R * D], lc[R];
    memcpy(ab, o[0], sizeof ab), memcpy(la, l[0], sizeof la);
    memcpy(ba, o[1], sizeof ba), memcpy(lb, l[1], sizeof lb);
    llm_flash_split_merge(ab, la, o[1], l[1], R, D);
    llm_flash_split_merge(ba, lb, o[0], l[0], R, D);
    CHECK_ALL_NEAR(ab, ba, R * D, 1e-6f);
    CHECK(la[0] == lb[0] && la[3] == lb[3]);
    CHECK(la[2] == -INFINITY && ab[2 * D] == 0.0f && la[1] == 200.0f);
    CHECK_ALL_NEAR(ab + D, o[0] + D, D, 1e-6f);
    CHECK_NEAR(la[0], log(exp((double)l[0][0]) + exp((double)l[1][0])), 1e-6);

    memcpy(bc, o[1], sizeof bc), memcpy(lc, l[1], sizeof lc);
    llm_flash_split_merge(bc, lc, o[2], l[2], R, D); /* b + c, then a */
    llm_flash_split_merge(bc, lc, o[0], l[0], R, D);
    llm_flash_split_merge(ab, la, o[2], l[2], R, D); /* a + b, then c */
    CHECK_ALL_NEAR(ab, bc, R * D, 2e-6f);
    for (size_t r = 0; r < R; r++) CHECK_NEAR(la[r], lc[r], 1e-6 * (1.0 + fabs((double)lc[r])));
    CHECK_ALL_NEAR(ab + 2 * D, o[2] + 2 * D, D, 0.0f);
    CHECK(la[2] == l[2][2]);
}

TEST(flash_split, "no keys give 0 and -inf; no parts are refused; scores of 1e4 overflow nothing") {
    float q[2] = {100, 0}, k[4] = {100, 0, -100, 0}, v[4] = {1, 2, 3, 4}, out[2], lse[1];
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 1024));
    llm_flash_split_decode(out, lse, q, k, v, 1, 2, 2, 2, 1.0f, &arena);
    CHECK(out[0] == 1.0f && out[1] == 2.0f && lse[0] == 1e4f);
    llm_flash_split_decode(out, lse, q, k, v, 1, 0, 2, 2, 1.0f, &arena);
    CHECK(out[0] == 0.0f && out[1] == 0.0f && lse[0] == -INFINITY);
    CHECK_ASSERTS(llm_flash_split_decode(out, lse, q, k, v, 1, 2, 2, 0, 1.0f, &arena));
    llm_arena_destroy(&arena);
}

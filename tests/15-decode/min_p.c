/* @min_p */
#include "../test.h"

#include "../../llm.h"

static llm_arena min_p_scratch(void) {
    llm_arena arena;
    memset(&arena, 0, sizeof arena);
    arena.size = 1 << 16;
    arena.memory = (unsigned char *)test_memory(arena.size, 1);
    return arena;
}

TEST(min_p, "kept sets equal transformers' warpers, and NumPy's for top-n-sigma") {
    const float ratio[3] = {0.05f, 0.3f, 0.9f}, mass[3] = {0.2f, 0.9f, 0.99f};
    const float epsilon[3] = {1e-3f, 2e-2f, 0.3f}, sigma[3] = {1.0f, 0.3f, 3.0f};
    const char *names[4] = {"min_p", "typical", "epsilon", "eta"};
    llm_arena arena = min_p_scratch();
    for (size_t row = 0; row < 10; row++)
        for (size_t i = 0; i < 3; i++) {
            size_t n = 0;
            const float *z = golden_n(&n, "%zu/z", row);
            float *got = floats(n);
            for (size_t keep = 1; keep <= 3; keep += 2)
                for (size_t rule = 0; rule < 4; rule++) {
                    memcpy(got, z, n * sizeof(float));
                    for (size_t k = 0; k < 4 * n; k++) /* no help from before */
                        llm_arena_floats(&arena, 1)[0] = NAN;
                    arena.used = 0;
                    if (rule == 0) llm_min_p_filter(got, n, ratio[i], keep, &arena);
                    if (rule == 1) llm_min_p_typical(got, n, mass[i], keep, &arena);
                    if (rule == 2) llm_min_p_epsilon(got, n, epsilon[i], keep, &arena);
                    if (rule == 3) llm_min_p_eta(got, n, epsilon[i], keep, &arena);
                    CHECK(arena.used == 0);
                    for (size_t k = 0; k < n; k++) got[k] = got[k] > -INFINITY;
                    CHECK_GOLDEN(got, n, 0.0f, "%zu/%zu/%zu/%s", row, i, keep, names[rule]);
                }
            memcpy(got, z, n * sizeof(float));
            llm_min_p_top_n_sigma(got, n, sigma[i]);
            for (size_t k = 0; k < n; k++) got[k] = got[k] > -INFINITY;
            CHECK_GOLDEN(got, n, 0.0f, "%zu/%zu/sigma", row, i);
        }
    CHECK(arena.used == 0);
}

TEST(min_p, "top-n-sigma keeps the same set at every temperature, min-p does not") {
    llm_arena arena = min_p_scratch();
    llm_rng rng = llm_rng_seed(3);
    size_t differ = 0;
    for (size_t round = 0; round < 50; round++) {
        float z[64], flat[64], min_p[64], min_p_flat[64];
        for (size_t i = 0; i < 64; i++) {
            z[i] = min_p[i] = 2.0f * llm_rng_normal(&rng);
            flat[i] = min_p_flat[i] = z[i] / 2.0f; /* exact: temperature 2 */
        }
        llm_min_p_top_n_sigma(z, 64, 1.0f);
        llm_min_p_top_n_sigma(flat, 64, 1.0f);
        llm_min_p_filter(min_p, 64, 0.1f, 1, &arena);
        llm_min_p_filter(min_p_flat, 64, 0.1f, 1, &arena);
        for (size_t i = 0; i < 64; i++) {
            CHECK((z[i] > -INFINITY) == (flat[i] > -INFINITY));
            differ += (min_p[i] > -INFINITY) != (min_p_flat[i] > -INFINITY);
        }
    }
    CHECK(differ > 50);
}

TEST(min_p, "typical sampling may drop the most probable token; equal tokens all stay") {
    llm_arena arena = min_p_scratch();
    float z[6] = {logf(0.5f), logf(0.1f), logf(0.1f), logf(0.1f), logf(0.1f), logf(0.1f)};
    llm_min_p_typical(z, 6, 0.3f, 1,
                      &arena); /* H = 1.50; -log p is 0.69 and 2.30: 0.80 off, both */
    float even[3] = {1.0f, 1.0f, 1.0f};
    llm_min_p_typical(even, 3, 0.1f, 1, &arena);
    CHECK(even[0] == 1.0f && even[2] == 1.0f);
    float sure[4] = {logf(0.6f), logf(0.2f), logf(0.1f), logf(0.1f)};
    llm_min_p_typical(sure, 4, 0.15f, 1, &arena); /* H = 1.09: 0.51 is 0.58 off, 1.61 only 0.52 */
    CHECK(sure[0] == -INFINITY && sure[1] > -INFINITY);
    float one[1] = {0.3f};
    llm_min_p_typical(one, 1, 0.5f, 1, &arena);
    llm_min_p_filter(one, 1, 1.0f, 4, &arena);
    llm_min_p_top_n_sigma(one, 1, 0.0f);
    CHECK(one[0] == 0.3f);
    float none[2] = {-INFINITY, -INFINITY};
    llm_min_p_top_n_sigma(none, 2, 1.0f);
    CHECK(none[0] == -INFINITY);
    const float prob[2] = {0.5f, 0.5f};
    CHECK_ASSERTS(llm_min_p_cut(z, prob, 2, 0.1, 0));
    CHECK_ASSERTS(llm_min_p_cut(even, prob, 2, 0.1, 0));
    CHECK_ASSERTS(llm_min_p_filter(z, 6, 0.1f, 0, &arena));
    CHECK_ASSERTS(llm_min_p_typical(z, 6, 0.1f, 0, &arena));
}

TEST(min_p, "entropy: of a coin log 2, of n equal tokens log n, of a sure one 0") {
    const float coin[3] = {0.5f, 0.0f, 0.5f}, sure[2] = {0.0f, 1.0f};
    const float eight[8] = {0.125f, 0.125f, 0.125f, 0.125f, 0.125f, 0.125f, 0.125f, 0.125f};
    CHECK_NEAR(llm_min_p_entropy(coin, 3), log(2.0), 1e-12);
    CHECK_NEAR(llm_min_p_entropy(eight, 8), log(8.0), 1e-12);
    CHECK(llm_min_p_entropy(sure, 2) == 0.0);
}

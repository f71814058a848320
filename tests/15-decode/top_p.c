/* @top_p */
#include "../test.h"

#include "../../llm.h"

static llm_arena top_p_scratch(void) {
    llm_arena arena;
    memset(&arena, 0, sizeof arena);
    arena.size = 1 << 16;
    arena.memory = (unsigned char *)test_memory(arena.size, 1);
    return arena;
}

TEST(top_p, "kept sets equal transformers, with ties, -inf, p = 1 and several to keep") {
    const char *names[5] = {"0.05", "0.5", "0.9", "0.99", "1.0"};
    const float ps[5] = {0.05f, 0.5f, 0.9f, 0.99f, 1.0f};
    llm_arena arena = top_p_scratch();
    for (size_t row = 0; row < 14; row++)
        for (size_t j = 0; j < 10; j++) {
            size_t n = 0;
            const float *z = golden_n(&n, "%zu/z", row), p = ps[j / 2];
            const size_t keep = j % 2 ? 3 : 1;
            float *got = floats(n);
            for (int sorted = 0; sorted < 2; sorted++) {
                memcpy(got, z, n * sizeof(float));
                if (sorted)
                    llm_top_p_sorted(got, n, p, keep, &arena);
                else
                    llm_top_p_filter(got, n, p, keep, &arena);
                for (size_t i = 0; i < n; i++) got[i] = got[i] > -INFINITY;
                /* transformers keeps what probability 0 has when p is 1; so do we, as -inf */
                float *want = golden("%zu/%s/%zu/kept", row, names[j / 2], keep);
                for (size_t i = 0; i < n; i++) want[i] = want[i] > 0.0f && z[i] > -INFINITY;
                CHECK_ALL_NEAR(got, want, n, 0.0f);
            }
        }
    CHECK(arena.used == 0);
}

TEST(top_p, "bisection and sorting agree on 3000 rows, also where many are equal") {
    llm_arena arena = top_p_scratch();
    llm_rng rng = llm_rng_seed(6);
    for (size_t round = 0; round < 3000; round++) {
        float a[30], b[30];
        const size_t n = 1 + llm_rng_below(&rng, 30), keep = 1 + llm_rng_below(&rng, 32);
        /* a p that no sum of equal parts hits, or the two ends */
        const float p = round % 10 == 0 ? 0.0f : round % 10 == 1 ? 1.0f : llm_rng_uniform(&rng);
        for (size_t i = 0; i < n; i++) {
            a[i] = 3.0f * llm_rng_normal(&rng);
            if (round % 2) a[i] = (float)llm_rng_below(&rng, 4) - 2.0f;
            if (round % 5 == 0 && i > 0 && llm_rng_below(&rng, 3) == 0) a[i] = -INFINITY;
            b[i] = a[i];
        }
        llm_top_p_filter(a, n, p, keep, &arena);
        llm_top_p_sorted(b, n, p, keep, &arena);
        CHECK_ALL_NEAR(a, b, n, 0.0f);
    }
}

TEST(top_p, "p = 0 keeps the most probable token alone, whatever the rounding of the sum") {
    llm_arena arena = top_p_scratch();
    for (int sorted = 0; sorted < 2; sorted++) {
        float z[4] = {0.5f, 2.0f, 2.0f, -1.0f};
        if (sorted)
            llm_top_p_sorted(z, 4, 0.0f, 1, &arena);
        else
            llm_top_p_filter(z, 4, 0.0f, 1, &arena);
        CHECK(z[0] == -INFINITY && z[1] == -INFINITY && z[2] == 2.0f && z[3] == -INFINITY);
    }
    CHECK(llm_top_p_cut(0.0f) == (double)INFINITY && llm_top_p_cut(1.0f) == 0.0);
    CHECK_NEAR(llm_top_p_cut(0.75f), 0.25, 0.0);
    CHECK_ASSERTS(llm_top_p_cut(NAN));
}

TEST(top_p, "a set that sums to exactly p is enough") {
    llm_arena arena = top_p_scratch();
    for (int sorted = 0; sorted < 2; sorted++) {
        float even[4] = {1.0f, 1.0f, 1.0f, 1.0f}, sure[3] = {0.0f, -1000.0f, -2000.0f};
        if (sorted) {
            llm_top_p_sorted(even, 4, 0.5f, 1, &arena);
            llm_top_p_sorted(sure, 3, 1.0f, 1, &arena);
        } else {
            llm_top_p_filter(even, 4, 0.5f, 1, &arena);
            llm_top_p_filter(sure, 3, 1.0f, 1, &arena);
        }
        CHECK(even[0] == -INFINITY && even[1] == -INFINITY && even[2] == 1.0f && even[3] == 1.0f);
        CHECK(sure[0] == 0.0f && sure[1] == -INFINITY && sure[2] == -INFINITY);
    }
}

TEST(top_p, "the set reaches p, and without its least token it does not") {
    llm_arena arena = top_p_scratch();
    llm_rng rng = llm_rng_seed(7);
    for (size_t round = 0; round < 300; round++) {
        float z[50], p[50];
        const float want = 0.02f + 0.96f * llm_rng_uniform(&rng);
        for (size_t i = 0; i < 50; i++) z[i] = 2.0f * llm_rng_normal(&rng);
        llm_softmax_forward(p, z, 1, 50, 1.0f);
        llm_top_p_filter(z, 50, want, 1, &arena);
        double mass = 0.0, least = 1.0, most_dropped = 0.0;
        for (size_t i = 0; i < 50; i++) {
            if (z[i] > -INFINITY) mass += (double)p[i];
            if (z[i] > -INFINITY) least = fmin(least, (double)p[i]);
            if (z[i] == -INFINITY) most_dropped = fmax(most_dropped, (double)p[i]);
        }
        CHECK(mass >= (double)want - 1e-6 && mass - least < (double)want + 1e-6);
        CHECK(least >= most_dropped);
    }
}

TEST(top_p, "the nucleus grows with the entropy, the k most probable do not") {
    llm_arena arena = top_p_scratch();
    size_t before = 0;
    for (int step = 1; step <= 12; step++) { /* Zipf's law, flatter and flatter */
        float z[200];
        for (size_t i = 0; i < 200; i++)
            z[i] = -(2.4f - 0.2f * (float)step) * logf((float)i + 1.0f);
        llm_top_p_filter(z, 200, 0.9f, 1, &arena);
        size_t kept = 0;
        for (size_t i = 0; i < 200; i++) kept += z[i] > -INFINITY;
        CHECK(kept > before);
        before = kept;
    }
    CHECK(before == 180); /* the last one is uniform */
    float z[2] = {0.0f, 1.0f};
    CHECK_ASSERTS(llm_top_p_filter(z, 2, 1.5f, 1, &arena));
    CHECK_ASSERTS(llm_top_p_filter(z, 2, -0.1f, 1, &arena));
    CHECK_ASSERTS(llm_top_p_filter(z, 2, 0.5f, 0, &arena));
    CHECK_ASSERTS(llm_top_p_filter(z, 0, 0.5f, 0, &arena));
    CHECK_ASSERTS(llm_top_p_sorted(z, 2, 1.5f, 1, &arena));
    CHECK_ASSERTS(llm_top_p_sorted(z, 2, -0.1f, 1, &arena));
    CHECK_ASSERTS(llm_top_p_sorted(z, 2, 0.5f, 0, &arena));
    CHECK_ASSERTS(llm_top_p_sorted(z, 0, 0.5f, 0, &arena));
}

/* @top_k */
#include "../test.h"

#include "../../llm.h"

TEST(top_k, "kept sets and values equal transformers and torch.topk, with ties, -inf and k >= V") {
    const size_t ks[5] = {1, 2, 5, 40, 100};
    for (size_t row = 0; row < 12; row++)
        for (size_t j = 0; j < 5; j++) {
            size_t n = 0;
            const float *z = golden_n(&n, "%zu/z", row);
            const size_t k = ks[j] < n ? ks[j] : n;
            float *kept = floats(n), *values = floats(k);
            size_t *index = (size_t *)test_memory(k, sizeof(size_t));
            memcpy(kept, z, n * sizeof(float));
            llm_top_k_filter(kept, n, ks[j]);
            CHECK_GOLDEN(kept, n, 0.0f, "%zu/%zu/kept", row, ks[j]);
            llm_top_k_select(index, z, n, k);
            for (size_t i = 0; i < k; i++) values[i] = z[index[i]];
            CHECK_GOLDEN(values, k, 0.0f, "%zu/%zu/values", row, ks[j]);
            const float mass[1] = {(float)llm_top_k_mass(z, n, k)};
            CHECK_GOLDEN(mass, 1, 1e-6f, "%zu/%zu/mass", row, ks[j]);
        }
}

TEST(top_k, "radix select and heap agree with sorting on 10000 rows of duplicates") {
    llm_rng rng = llm_rng_seed(4);
    const float special[6] = {-INFINITY, INFINITY, 0.0f, -0.0f, 1e-42f, -1e-42f};
    for (size_t round = 0; round < 10000; round++) {
        float x[40], minus[40];
        size_t order[40], index[40];
        const size_t n = 1 + llm_rng_below(&rng, 40), k = 1 + llm_rng_below(&rng, n);
        const float scale = expf(20.0f * llm_rng_uniform(&rng) - 10.0f);
        for (size_t i = 0; i < n; i++) {
            x[i] = scale * llm_rng_normal(&rng);
            if (round % 2) x[i] = (float)llm_rng_below(&rng, 5) - 2.0f;
            if (round % 3 == 0) x[i] = special[llm_rng_below(&rng, 6)];
            minus[i] = -x[i];
        }
        llm_argsort(order, minus, n); /* largest first, ties in index order */
        CHECK(llm_top_k_threshold(x, n, k) == x[order[k - 1]]);
        llm_top_k_select(index, x, n, k);
        for (size_t i = 0; i < k; i++) CHECK(index[i] == order[i]);
    }
}

TEST(top_k, "keys keep the order of floats, and turn back into them") {
    const float rising[9] = {-INFINITY, -1e30f, -1.0f, -1e-42f, 0.0f,
                             1e-42f,    1.0f,   1e30f, INFINITY};
    for (size_t i = 0; i < 9; i++) {
        if (i > 0) CHECK(llm_top_k_key(rising[i]) > llm_top_k_key(rising[i - 1]));
        CHECK(llm_top_k_threshold(rising + i, 1, 1) == rising[i]);
    }
    CHECK(llm_top_k_key(-0.0f) == llm_top_k_key(0.0f));
}

TEST(top_k, "0 switches it off, 1 is greedy, what is dropped raises the rest by 1 / kept mass") {
    float z[5] = {0.5f, 2.0f, -1.0f, 1.0f, 0.0f}, same[5], p[5], q[5];
    memcpy(same, z, sizeof z);
    llm_top_k_filter(same, 5, 0);
    CHECK_ALL_NEAR(same, z, 5, 0.0f);
    llm_top_k_filter(same, 5, 1);
    for (size_t i = 0; i < 5; i++) CHECK(same[i] == (i == 1 ? 2.0f : -INFINITY));
    llm_softmax_forward(p, z, 1, 5, 1.0f);
    const double mass = llm_top_k_mass(z, 5, 3);
    llm_top_k_filter(z, 5, 3);
    llm_softmax_forward(q, z, 1, 5, 1.0f);
    double kl = 0.0;
    for (size_t i = 0; i < 5; i++) {
        if (q[i] > 0.0f) CHECK_NEAR((double)q[i] * mass, p[i], 1e-7);
        if (q[i] > 0.0f) kl += (double)q[i] * log((double)q[i] / (double)p[i]);
    }
    CHECK_NEAR(kl, -log(mass), 1e-6);
    float inf[2] = {INFINITY, 0.0f};
    llm_top_k_filter(inf, 2, 2);
    CHECK(inf[1] == 0.0f);
    const float large[3] = {90.0f, 88.0f, 70.0f};
    CHECK_NEAR(llm_top_k_mass(large, 3, 1), 1.0 / (1.0 + exp(-2.0) + exp(-20.0)), 1e-9);
    size_t index[1] = {77};
    llm_top_k_select(index, z, 5, 0);
    CHECK(index[0] == 77);
    CHECK_ASSERTS(llm_top_k_threshold(z, 5, 0));
    CHECK_ASSERTS(llm_top_k_threshold(z, 5, 6));
    CHECK_ASSERTS(llm_top_k_select(index, z, 5, 6));
}

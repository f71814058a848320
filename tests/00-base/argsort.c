/* @argsort */
#include "../test.h"

#include "../../llm.h"

/* The definition, by insertion: rank[i] = how many entries stand before i. */
static bool argsort_before(float x, float y) { /* NaN is larger than all numbers */
    return isnan(y) ? !isnan(x) : x < y;
}
static void argsort_brute(size_t *order, const float *key, size_t n) {
    for (size_t i = 0; i < n; i++) {
        size_t rank = 0;
        for (size_t j = 0; j < n; j++)
            rank += argsort_before(key[j], key[i]) || (j < i && !argsort_before(key[i], key[j]));
        order[rank] = i;
    }
}

TEST(argsort, "equals the definition: all lengths to 40, many ties, NaN, infinities, both zeros") {
    const float special[8] = {NAN, INFINITY, -INFINITY, 0.0f, -0.0f, 1.0f, FLT_MIN / 4.0f, -1.0f};
    llm_rng rng = llm_rng_seed(4);
    for (size_t n = 0; n <= 40; n++) {
        for (int round = 0; round < 60; round++) {
            float *key = floats(n);
            size_t *order = (size_t *)test_memory(n, sizeof(size_t));
            size_t *want = (size_t *)test_memory(n, sizeof(size_t));
            for (size_t i = 0; i < n; i++)
                key[i] = round % 3 == 0   ? llm_rng_normal(&rng)
                         : round % 3 == 1 ? special[llm_rng_below(&rng, 8)]
                                          : (float)llm_rng_below(&rng, 5);
            argsort_brute(want, key, n);
            for (size_t i = 0; i < n; i++) order[i] = SIZE_MAX;
            llm_argsort(order, key, n);
            CHECK(n == 0 || memcmp(order, want, n * sizeof(size_t)) == 0);
        }
    }
}

TEST(argsort, "every order of five keys, three of them equal") {
    const float value[5] = {2, 1, 2, 3, 2};
    for (size_t code = 0; code < 3125; code++) {
        float key[5];
        size_t order[5], want[5], rest = code;
        for (size_t i = 0; i < 5; i++, rest /= 5) key[i] = value[rest % 5];
        argsort_brute(want, key, 5);
        llm_argsort(order, key, 5);
        CHECK(memcmp(order, want, sizeof order) == 0);
    }
}

TEST(argsort, "300007 keys, sorted, reversed, equal or random, in n log n") {
    const size_t n = 300007;
    float *key = floats(n);
    size_t *order = (size_t *)test_memory(n, sizeof(size_t));
    llm_rng rng = llm_rng_seed(5);
    for (int kind = 0; kind < 4; kind++) {
        for (size_t i = 0; i < n; i++)
            key[i] = kind == 0   ? (float)i
                     : kind == 1 ? -(float)i
                     : kind == 2 ? 1.0f
                                 : llm_rng_uniform(&rng);
        llm_argsort(order, key, n);
        bool *seen = bools(n);
        for (size_t i = 0; i < n; i++) {
            CHECK(order[i] < n && !seen[order[i]]);
            seen[order[i]] = true;
            CHECK(i == 0 || key[order[i - 1]] < key[order[i]] ||
                  (key[order[i - 1]] == key[order[i]] && order[i - 1] < order[i]));
        }
    }
}

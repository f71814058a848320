/* @dry */
#include "../test.h"

#include "../../llm_cuda.cuh"

enum { ROWS = 4, MOST = 1100 };
static int ids[ROWS * MOST];
static size_t length[ROWS];

/* Rows of few kinds of tokens, one a loop of period 3; behind their lengths no ids. */
static llm_cuda_frequency_penalty_text texts(size_t V, size_t capacity, size_t kinds,
                                             llm_rng *rng) {
    for (size_t b = 0; b < ROWS; b++) {
        length[b] = b == 1 ? capacity : llm_rng_below(rng, capacity + 1);
        for (size_t i = 0; i < capacity; i++) {
            int *id = &ids[b * capacity + i];
            *id = (int)llm_rng_below(rng, kinds);
            if (b == 1) *id = (int)(i % 3 % V);
            if (i >= length[b]) *id = 0x40000000;
        }
    }
    unsigned *table = (unsigned *)test_memory(ROWS * V, sizeof(unsigned));
    memset(table, 0, ROWS * V * sizeof(unsigned));
    const llm_cuda_frequency_penalty_text t = {to_device(ids, ROWS * capacity),
                                               to_device(length, ROWS), NULL, capacity,
                                               to_device(table, ROWS * V)};
    return t;
}

/* n > 0: blocking; else DRY. */
template <typename T>
static void check_dry(size_t V, size_t capacity, size_t kinds, size_t n, llm_dry_config c,
                      uint64_t seed) {
    llm_rng rng = llm_rng_seed(seed);
    const size_t room = 16 * (capacity + V) + 64;
    llm_arena arena = {(unsigned char *)test_memory(room, 1), room, 0, 0};
    float *x = floats(ROWS * V), *got = floats(ROWS * V);
    unsigned *table = (unsigned *)test_memory(ROWS * V, sizeof(unsigned));
    const llm_cuda_frequency_penalty_text t = texts(V, capacity, kinds, &rng);
    llm_dry_config on_device = c;
    on_device.breaker = to_device(c.breaker, c.breakers);
    for (size_t i = 0; i < ROWS * V; i++) x[i] = llm_rng_normal(&rng);
    T *d_x = to_device_as<T>(x, ROWS * V);
    if (n > 0)
        CHECK_CUDA(llm_cuda_dry_no_ngram(d_x, ROWS, V, &t, n, 0));
    else
        CHECK_CUDA(llm_cuda_dry_apply(d_x, ROWS, V, &t, &on_device, 0));
    from_device_as(got, d_x, ROWS * V);
    from_device(table, t.table, ROWS * V);
    for (size_t b = 0; b < ROWS; b++) {
        if (n > 0)
            llm_dry_no_ngram(x + b * V, ids + b * capacity, length[b], n, &arena);
        else
            llm_dry_apply(x + b * V, V, ids + b * capacity, length[b], &c, &arena);
    }
    for (size_t i = 0; i < ROWS * V; i++) {
        CHECK(table[i] == 0);
        CHECK((x[i] == -INFINITY) == (got[i] == -INFINITY));
        if (x[i] == -INFINITY) continue;
        const float near = (1e-6f + 2.0f * unit_of<T>()) * (1.0f + fabsf(x[i]));
        CHECK_NEAR(got[i], x[i], near);
    }
}

TEST(dry, "random texts and loops: every penalty is the reference's, with windows and breakers") {
    const int breaker[2] = {1, 30};
    for (uint64_t round = 0; round < (TEST_SLOW ? 4 : 20); round++) {
        llm_dry_config c = llm_dry_defaults();
        c.allowed = round % 4;
        if (round % 3 == 1) c.last_n = 1 + round % 20;
        if (round % 5 > 2) c.breaker = breaker, c.breakers = round % 5 - 2;
        if (round % 6 == 5) c.multiplier = -0.25f, c.base = 1.1f;
        const size_t V = round % 2 ? 3 : 40, capacity = 1 + round * 7 % 70;
        check_dry<float>(V, capacity, round % 4 < 2 ? 2 : V, 0, c, round);
        check_dry<llm_bf16>(V, capacity, round % 4 < 2 ? 2 : V, 0, c, round + 100);
    }
}
TEST(dry, "blocked are the tokens that would complete an n-gram again") {
    const llm_dry_config c = llm_dry_defaults();
    for (size_t n = 1; n < (TEST_SLOW ? 3 : 7); n++) {
        check_dry<float>(3, 1 + 9 * n, 3, n, c, n);
        check_dry<llm_bf16>(40, 33, 4, n, c, n + 20);
    }
    if (TEST_SLOW) return;
    check_dry<float>(50, MOST, 50, 2, c, 50); /* places for a thread and a half */
}

TEST(dry, "a loop of 1100 tokens costs the largest power, a base of one the multiplier") {
    if (TEST_SLOW) return;
    llm_dry_config c = llm_dry_defaults();
    check_dry<float>(3, MOST, 3, 0, c, 60);
    c.base = 1.0f, c.allowed = 1090; /* no power is too large: lengths count to the end */
    check_dry<float>(3, MOST, 3, 0, c, 62);
    c.base = 1.000001f, c.allowed = 0;
    check_dry<float>(3, MOST, 3, 0, c, 63);
    float x[3] = {0, 0, 0};
    llm_rng rng = llm_rng_seed(1);
    const llm_cuda_frequency_penalty_text t = texts(3, MOST, 3, &rng); /* row 1: 0 1 2 0 1 2 .. */
    c = llm_dry_defaults();
    c.base = 2.0f, c.multiplier = 1.0f; /* 2^127, the last power of two that is a float */
    float *all = zeros(ROWS * 3);
    float *d_x = to_device(all, ROWS * 3);
    CHECK_CUDA(llm_cuda_dry_apply(d_x, ROWS, 3, &t, &c, 0));
    memcpy(x, from_device(all, d_x, ROWS * 3) + 3, sizeof x);
    CHECK(x[2] == -ldexpf(1.0f, 127) && x[0] == 0.0f && x[1] == 0.0f); /* 1100 = 2 mod 3 */
}

TEST(dry, "by hand: 1 2 3 4 1 2 3; what is off and what is refused") {
    const int text[7] = {1, 2, 3, 4, 1, 2, 3};
    const size_t seven = 7;
    float x[5] = {0, 0, 0, 0, 0};
    unsigned zero[5] = {0, 0, 0, 0, 0};
    const llm_cuda_frequency_penalty_text t = {to_device(text, 7), to_device(&seven, 1), NULL, 7,
                                               to_device(zero, 5)};
    llm_dry_config c = llm_dry_defaults();
    float *d_x = to_device(x, 5);
    CHECK_CUDA(llm_cuda_dry_apply(d_x, 0, 5, &t, &c, 0));
    c.multiplier = 0.0f;
    CHECK_CUDA(llm_cuda_dry_apply(d_x, 1, 5, &t, &c, 0));
    c.multiplier = 0.8f, c.base = 0.99f;
    CHECK_CUDA(llm_cuda_dry_apply(d_x, 1, 5, &t, &c, 0));
    CHECK_CUDA(llm_cuda_dry_no_ngram(d_x, 1, 5, &t, 5, 0)); /* 1 2 3 4 has four */
    from_device(x, d_x, 5);
    for (int v = 0; v < 5; v++) CHECK(x[v] == 0.0f);
    c.base = 1.75f;
    CHECK_CUDA(llm_cuda_dry_apply(d_x, 1, 5, &t, &c, 0));
    from_device(x, d_x, 5);
    CHECK_NEAR(x[4], -1.4f, 1e-6f);
    CHECK(x[1] == 0.0f && x[2] == 0.0f && x[3] == 0.0f);
    CHECK_CUDA(llm_cuda_dry_no_ngram(d_x, 1, 5, &t, 4, 0));
    from_device(x, d_x, 5);
    CHECK(x[4] == -INFINITY && x[0] == 0.0f && x[1] == 0.0f);
    CHECK(llm_cuda_dry_no_ngram(d_x, 1, 5, &t, 0, 0) != cudaSuccess);
}

/* @frequency_penalty */
#include "../test.h"

#include "../../llm_cuda.cuh"

/* Texts of B rows on host and device; behind its length a row holds ids that nobody may read. */
enum { MOST = 2300, WILD = 0x40000000 };
static int ids[8 * MOST];
static size_t length[8], prompt[8];
static llm_cuda_frequency_penalty_text texts(size_t B, size_t V, size_t capacity, size_t kinds,
                                             uint64_t seed) {
    llm_rng rng = llm_rng_seed(seed);
    for (size_t b = 0; b < B; b++) {
        length[b] = b == 0 ? 0 : b == 1 ? capacity : llm_rng_below(&rng, capacity + 1);
        prompt[b] = llm_rng_below(&rng, length[b] + 1);
        for (size_t i = 0; i < capacity; i++)
            ids[b * capacity + i] =
                i < length[b] ? (int)(V - 1 - llm_rng_below(&rng, kinds)) : WILD;
    }
    unsigned *table = (unsigned *)test_memory(B * V, sizeof(unsigned));
    memset(table, 0, B * V * sizeof(unsigned));
    const llm_cuda_frequency_penalty_text t = {to_device(ids, B * capacity), to_device(length, B),
                                               to_device(prompt, B), capacity,
                                               to_device(table, B * V)};
    return t;
}
static void check_zeros(const unsigned *table, size_t n) {
    unsigned *got = (unsigned *)test_memory(n, sizeof(unsigned));
    from_device(got, table, n);
    for (size_t i = 0; i < n; i++) CHECK(got[i] == 0);
}
/* The reference on x (V) of row b, its text cut to the first n tokens. */
static void charge(float *x, size_t V, size_t b, size_t capacity, size_t n,
                   const llm_cuda_frequency_penalty_config *c) {
    const size_t room = 32 * capacity + 64 * V + 1024;
    llm_arena arena = {(unsigned char *)test_memory(room, 1), room, 0, 0};
    llm_frequency_penalty_table all, output;
    llm_frequency_penalty_create(&all, V, capacity, c->last_n, 0, &arena);
    llm_frequency_penalty_create(&output, V, capacity, c->last_n, c->output ? prompt[b] : 0,
                                 &arena);
    llm_frequency_penalty_follow(&all, ids + b * capacity, n);
    llm_frequency_penalty_follow(&output, ids + b * capacity, n);
    llm_repetition_penalty_apply(x, &all, c->factor);
    llm_presence_penalty_combined(x, &output, c->frequency, c->presence);
}

template <typename T>
static void check_charge(size_t B, size_t V, size_t capacity, size_t kinds,
                         llm_cuda_frequency_penalty_config c, uint64_t seed) {
    const llm_cuda_frequency_penalty_text t = texts(B, V, capacity, kinds, seed);
    float *x = floats(B * V), *got = floats(B * V);
    llm_rng rng = llm_rng_seed(seed + 1);
    for (size_t turn = 0; turn < 2; turn++) { /* the second time some tokens are taken back */
        for (size_t i = 0; i < B * V; i++) x[i] = 4.0f * llm_rng_normal(&rng);
        T *d_x = to_device_as<T>(x, B * V);
        CHECK_CUDA(llm_cuda_frequency_penalty_apply(d_x, B, V, &t, &c, 0));
        from_device_as(got, d_x, B * V);
        for (size_t b = 0; b < B; b++) charge(x + b * V, V, b, capacity, length[b], &c);
        CHECK_STORED(T, got, x, B * V, 1e-5f);
        check_zeros(t.table, B * V);
        for (size_t b = 0; b < B; b++) length[b] -= length[b] / 3;
        CHECK_CUDA(
            cudaMemcpy((void *)t.length, length, B * sizeof(size_t), cudaMemcpyHostToDevice));
    }
}

TEST(frequency_penalty,
     "texts and windows are charged as by the reference, also after a rollback") {
    const size_t V[4] = {5, 1, 97, 300}, capacity[4] = {40, 7, 130, 33};
    for (uint64_t round = 0; round < (TEST_SLOW ? 4 : 16); round++) {
        llm_cuda_frequency_penalty_config c = llm_cuda_frequency_penalty_defaults();
        if (round % 2 == 0) c.factor = round % 4 ? 1.3f : 0.8f;
        if (round % 3 != 1) c.frequency = 0.3f;
        if (round % 3 != 2) c.presence = -0.7f;
        c.last_n = round % 5 == 0 ? 0 : 1 + round % 12;
        c.output = round / 2 % 2 == 1;
        const size_t kinds = round % 7 == 3 ? 1 : V[round % 4];
        check_charge<float>(5, V[round % 4], capacity[round % 4], kinds, c, round * 7);
        check_charge<llm_bf16>(3, V[round % 4], capacity[round % 4], kinds, c, round * 7 + 3);
    }
}
TEST(frequency_penalty, "a text longer than a block, of which every place is the same token") {
    if (TEST_SLOW) return;
    llm_cuda_frequency_penalty_config c = llm_cuda_frequency_penalty_defaults();
    c.factor = 2.0f, c.frequency = 0.5f, c.presence = 0.25f;
    check_charge<float>(2, 9, 2300, 1, c, 3);
    check_charge<float>(3, 400, 1500, 400, c, 4);
    const llm_cuda_frequency_penalty_text t = texts(2, 3, 2300, 1, 1); /* row 1 is full */
    float x[6] = {1, 1, 1, 4, -4, 4};
    float *d_x = to_device(x, 6);
    CHECK_CUDA(llm_cuda_frequency_penalty_apply(d_x, 2, 3, &t, &c, 0));
    from_device(x, d_x, 6);
    CHECK(x[0] == 1.0f && x[2] == 1.0f && x[3] == 4.0f && x[4] == -4.0f);
    CHECK(x[5] == 4.0f / 2.0f - (2300 * 0.5f + 0.25f));
    c.last_n = 1030; /* more than one place a thread, and not all */
    x[5] = -4.0f;
    d_x = to_device(x, 6);
    CHECK_CUDA(llm_cuda_frequency_penalty_apply(d_x, 2, 3, &t, &c, 0));
    CHECK(from_device(x, d_x, 6)[5] == -8.0f - (1030 * 0.5f + 0.25f));
}

TEST(frequency_penalty, "the prompt counts for the factor only; what is off; what is refused") {
    float x[4] = {1, 1, 1, 1};
    const int text[4] = {0, 1, 1, 2};
    const size_t four = 4, two = 2;
    unsigned zero[4] = {0, 0, 0, 0};
    llm_cuda_frequency_penalty_text t = {to_device(text, 4), to_device(&four, 1),
                                         to_device(&two, 1), 4, to_device(zero, 4)};
    llm_cuda_frequency_penalty_config c = llm_cuda_frequency_penalty_defaults();
    float *d_x = to_device(x, 4);
    CHECK(!llm_cuda_frequency_penalty_on(c));
    CHECK_CUDA(llm_cuda_frequency_penalty_apply(d_x, 1, 4, &t, &c, 0)); /* nothing */
    c.factor = 2.0f, c.frequency = 1.0f, c.presence = 0.5f, c.output = true;
    CHECK_CUDA(llm_cuda_frequency_penalty_apply(d_x, 1, 4, &t, &c, 0));
    from_device(x, d_x, 4); /* said in the prompt; in both, once behind it; behind it; never */
    CHECK(x[0] == 0.5f && x[1] == 0.5f - 1.5f && x[2] == 0.5f - 1.5f && x[3] == 1.0f);
    c.factor = 1.0f;
    for (int i = 0; i < 3; i++) {
        c.frequency = c.presence = 0.0f, c.factor = 1.0f;
        (i == 0 ? c.frequency : i == 1 ? c.presence : c.factor) = 0.5f;
        CHECK(llm_cuda_frequency_penalty_on(c));
    }
    CHECK_CUDA(llm_cuda_frequency_penalty_apply(d_x, 0, 4, &t, &c, 0));
    CHECK_CUDA(llm_cuda_frequency_penalty_apply(d_x, 1, 0, &t, &c, 0));
    t.prompt = NULL;
    CHECK(llm_cuda_frequency_penalty_apply(d_x, 1, 4, &t, &c, 0) != cudaSuccess);
    c.output = false;
    CHECK_CUDA(llm_cuda_frequency_penalty_apply(d_x, 1, 4, &t, &c, 0)); /* factor 0.5 */
    CHECK(from_device(x, d_x, 4)[0] == 1.0f);
    c.factor = 0.0f;
    CHECK(llm_cuda_frequency_penalty_apply(d_x, 1, 4, &t, &c, 0) != cudaSuccess);
}

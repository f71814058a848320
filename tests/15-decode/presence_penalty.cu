/* @presence_penalty */
#include "../test.h"

#include "../../llm_cuda.cuh"

template <typename T>
static void check_topics(size_t B, size_t V, size_t capacity, size_t groups, size_t last_n,
                         bool skip, uint64_t seed) {
    int *ids = (int *)test_memory(B * capacity + 1, sizeof(int));
    int *group = (int *)test_memory(V, sizeof(int));
    size_t *length = (size_t *)test_memory(B, sizeof(size_t));
    size_t *prompt = (size_t *)test_memory(B, sizeof(size_t));
    const size_t room = B * (32 * capacity + 32 * V + 512) + 2 * groups + 256;
    llm_arena arena = {(unsigned char *)test_memory(room, 1), room, 0, 0};
    float *x = floats(B * V), *got = floats(B * V);
    llm_rng rng = llm_rng_seed(seed);
    for (size_t v = 0; v < V; v++) group[v] = (int)llm_rng_below(&rng, groups + 1) - 1;
    for (size_t i = 0; i < B * V; i++) x[i] = llm_rng_normal(&rng);
    for (size_t b = 0; b < B; b++) {
        length[b] = b == 0 ? capacity : llm_rng_below(&rng, capacity + 1);
        prompt[b] = llm_rng_below(&rng, length[b] + 1);
        for (size_t i = 0; i < capacity; i++)
            ids[b * capacity + i] = i < length[b] ? (int)llm_rng_below(&rng, V) : 0x40000000;
    }
    const llm_cuda_frequency_penalty_text t = {to_device(ids, B * capacity), to_device(length, B),
                                               skip ? to_device(prompt, B) : NULL, capacity, NULL};
    T *d_x = to_device_as<T>(x, B * V);
    CHECK_CUDA(llm_cuda_presence_penalty_topics(d_x, B, V, &t, last_n, to_device(group, V), groups,
                                                0.75f, 0));
    from_device_as(got, d_x, B * V);
    for (size_t b = 0; b < B; b++) {
        llm_frequency_penalty_table table;
        llm_frequency_penalty_create(&table, V, capacity, last_n, skip ? prompt[b] : 0, &arena);
        llm_frequency_penalty_follow(&table, ids + b * capacity, length[b]);
        llm_presence_penalty_topics(x + b * V, &table, group, groups, 0.75f, &arena);
    }
    CHECK_STORED(T, got, x, B * V, 1e-6f);
}

TEST(presence_penalty, "groups of which any token was said are charged, as by the reference") {
    for (uint64_t round = 0; round < (TEST_SLOW ? 2 : 12); round++) {
        const size_t V[4] = {40, 1, 333, 1300}, groups[3] = {7, 64, 1};
        check_topics<float>(3, V[round % 4], 12, groups[round % 3], round % 2 ? 5 : 0,
                            round % 3 == 1, round);
        check_topics<llm_bf16>(2, V[round % 4], 9, groups[round % 3], round % 2 ? 0 : 3,
                               round % 3 == 0, round + 50);
    }
    if (TEST_SLOW) return;
    check_topics<float>(1, 60, 1500, 2000, 1100, false, 99); /* more bits than threads */
}

TEST(presence_penalty, "no groups, no rows; too many groups; groups out of range are none") {
    float x[3] = {1, 2, 3};
    const int said = 0, group[3] = {-7, 9, 0};
    const size_t one = 1;
    const llm_cuda_frequency_penalty_text t = {to_device(&said, 1), to_device(&one, 1), NULL, 1,
                                               NULL};
    float *d_x = to_device(x, 3);
    const int *d_group = to_device(group, 3);
    CHECK_CUDA(llm_cuda_presence_penalty_topics(d_x, 1, 3, &t, 0, d_group, 9, 1.0f, 0));
    CHECK_CUDA(llm_cuda_presence_penalty_topics(d_x, 1, 3, &t, 0, d_group, 0, 1.0f, 0));
    CHECK_CUDA(llm_cuda_presence_penalty_topics(d_x, 0, 3, &t, 0, d_group, 9, 1.0f, 0));
    CHECK_CUDA(llm_cuda_presence_penalty_topics(d_x, 1, 0, &t, 0, d_group, 9, 1.0f, 0));
    from_device(x, d_x, 3);
    CHECK(x[0] == 1.0f && x[1] == 2.0f && x[2] == 3.0f);
    CHECK(llm_cuda_presence_penalty_topics(d_x, 1, 3, &t, 0, d_group, 65537, 1.0f, 0) !=
          cudaSuccess);
    CHECK(llm_cuda_presence_penalty_topics(d_x, 65536, 3, &t, 0, d_group, 9, 1.0f, 0) !=
          cudaSuccess);
    CHECK_CUDA(llm_cuda_presence_penalty_topics(d_x, 1, 3, &t, 0, d_group, 65536, 1.0f, 0));
}

/* @speculative_tree */
#include "../test.h"

#include "../../llm_cuda.cuh"

static void law(float *p, size_t V, llm_rng *rng, bool zeros) {
    double sum = 0.0;
    for (size_t v = 0; v < V; v++) {
        const bool gone = zeros && v + 1 < V && llm_rng_below(rng, 2) == 0;
        p[v] = gone ? 0.0f : expf(2.0f * llm_rng_normal(rng));
        sum += (double)p[v];
    }
    for (size_t v = 0; v < V; v++) p[v] = (float)((double)p[v] / sum);
}

/* Random trees of n nodes, children drawn from q with or without replacement; near: p is close to
 * q. Returns how many nodes are accepted. */
static size_t check_tree(size_t B, size_t n, size_t V, bool replace, bool near, uint64_t round) {
    float *q = floats(B * n * V), *p = floats(B * n * V), *left = floats(n * V);
    int *ids = (int *)test_memory(B * n, sizeof(int));
    int *parent = (int *)test_memory(B * n, sizeof(int)), *next = (int *)test_memory(B, 4);
    size_t *path = (size_t *)test_memory(B * n, sizeof(size_t)), total = 0;
    size_t *taken = (size_t *)test_memory(B, sizeof(size_t));
    uint64_t *seed = (uint64_t *)test_memory(B, sizeof(uint64_t));
    llm_rng rng = llm_rng_seed(round);
    for (size_t b = 0; b < B; b++) {
        seed[b] = round * 100 + b;
        for (size_t i = 0; i < n; i++) {
            float *q_i = q + (b * n + i) * V, *p_i = p + (b * n + i) * V;
            law(q_i, V, &rng, i % 3 == 1);
            law(p_i, V, &rng, i % 3 == 2);
            for (size_t v = 0; v < V && near; v++) p_i[v] = 0.8f * q_i[v] + 0.2f * p_i[v];
            memcpy(left + i * V, q_i, V * sizeof(float));
        }
        parent[b * n] = -1, ids[b * n] = 0;
        for (size_t i = 1; i < n; i++) {
            const size_t up = llm_rng_below(&rng, i < 4 ? 1 : i);
            float *rest = left + up * V;
            double mass = 0.0;
            for (size_t v = 0; v < V; v++) mass += (double)rest[v];
            int x = mass > 0.0 ? llm_speculative_draw(rest, V, &rng) : 0;
            parent[b * n + i] = (int)up, ids[b * n + i] = x;
            if (!replace) rest[x] = 0.0f;
        }
    }
    size_t *d_path = to_device<size_t>(NULL, B * n), *d_taken = to_device<size_t>(NULL, B);
    int *d_next = to_device<int>(NULL, B);
    CHECK_CUDA(llm_cuda_speculative_tree_verify(
        d_path, d_taken, d_next, to_device(ids, B * n), to_device(parent, B * n),
        to_device(q, B * n * V), to_device(p, B * n * V), to_device(seed, B), B, n, V, replace, 0));
    from_device(path, d_path, B * n);
    from_device(taken, d_taken, B);
    from_device(next, d_next, B);
    size_t *want = (size_t *)test_memory(n, sizeof(size_t));
    for (size_t b = 0; b < B; b++) {
        llm_rng own = llm_rng_seed(seed[b]);
        int want_next = -2;
        const size_t length =
            llm_speculative_tree_verify(want, &want_next, ids + b * n, parent + b * n, n,
                                        q + b * n * V, p + b * n * V, V, replace, &own);
        CHECK(taken[b] == length && next[b] == want_next);
        for (size_t i = 0; i < length; i++) CHECK(path[b * n + i] == want[i]);
        total += length;
    }
    return total;
}

TEST(speculative_tree, "lines and the token behind them are those of llm_speculative_tree_verify") {
    size_t near = 0, apart = 0;
    for (uint64_t round = 0; round < (TEST_SLOW ? 2 : 8); round++) {
        near += check_tree(4, 9, 37, round % 2, true, round);
        apart += check_tree(4, 9, 20, round % 2, false, round + 50);
        check_tree(2, 14, 5, round % 2, false, round + 100);
    }
    if (!TEST_SLOW) CHECK(near > apart && apart > 4 * 8);
}
TEST(speculative_tree, "the root alone, one token, a row longer than a block") {
    check_tree(3, 1, 6, true, false, 200);
    check_tree(2, 4, 1, true, false, 201);
    if (TEST_SLOW) return;
    check_tree(1, 6, 1100, false, true, 202);
    check_tree(1, 6, 1030, true, false, 203);
}

TEST(speculative_tree, "sure drafts are taken; refused ones change p; no mass is said") {
    float q[4] = {1, 0, 0.5f, 0.5f},
          p[4] = {1, 0, 0, 0}; /* the child is certain, what follows not */
    const int ids[2] = {1, 0}, parent[2] = {-1, 0};
    const uint64_t seed = 3;
    size_t *path = to_device<size_t>(NULL, 2), *taken = to_device<size_t>(NULL, 1), n;
    int *next = to_device<int>(NULL, 1), got;
    const int *d_ids = to_device(ids, 2), *d_parent = to_device(parent, 2);
    const uint64_t *d_seed = to_device(&seed, 1);
    CHECK_CUDA(llm_cuda_speculative_tree_verify(path, taken, next, d_ids, d_parent, to_device(q, 4),
                                                to_device(p, 4), d_seed, 1, 2, 2, true, 0));
    CHECK(*from_device(&n, taken, 1) == 2 && *from_device(&got, next, 1) == -1);
    p[0] = 0.0f, p[1] = 1.0f; /* never */
    float *d_p = to_device(p, 4), *d_q = to_device(q, 4);
    CHECK_CUDA(llm_cuda_speculative_tree_verify(path, taken, next, d_ids, d_parent, d_q, d_p,
                                                d_seed, 1, 2, 2, false, 0));
    CHECK(*from_device(&n, taken, 1) == 1 && *from_device(&got, next, 1) == 1);
    from_device(q, d_q, 4);
    CHECK(q[0] == 1.0f && q[1] == 0.0f); /* nothing is left without it: q stays */
    CHECK_CUDA(llm_cuda_speculative_tree_verify(path, taken, next, d_ids, d_parent, d_q, d_p,
                                                d_seed, 0, 2, 2, false, 0));
    CHECK(llm_cuda_speculative_tree_verify(path, taken, next, d_ids, d_parent, d_q, d_p, d_seed, 1,
                                           0, 2, false, 0) != cudaSuccess);
    CHECK(llm_cuda_speculative_tree_verify(path, taken, next, d_ids, d_parent, d_q, d_p, d_seed, 1,
                                           2, 0, false, 0) != cudaSuccess);
}

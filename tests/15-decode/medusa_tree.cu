/* @medusa_tree @medusa_tree_typical */
#include "../test.h"

#include "../../llm_cuda.cuh"

/* parent (n) of a random tree. */
static void random_tree(int *parent, size_t n, llm_rng *rng) {
    parent[0] = -1;
    for (size_t i = 1; i < n; i++) parent[i] = (int)(i - 1 - llm_rng_below(rng, i < 5 ? i : 5));
}
static llm_cuda_medusa_tree_mask mask_of(const int *d_parent, size_t trees, size_t n,
                                         size_t *d_depth) {
    const size_t words = (n + 31) / 32;
    uint32_t *bits = to_device<uint32_t>(NULL, trees * n * words);
    CHECK_CUDA(llm_cuda_medusa_tree_see(bits, d_depth, d_parent, trees, n, 0));
    const llm_cuda_medusa_tree_mask mask = {bits, words, trees > 1 ? n * words : 0};
    return mask;
}

TEST(medusa_tree, "a node sees its ancestors, in trees of one and of several words") {
    const size_t sizes[5] = {1, 2, 31, 33, 70};
    for (size_t s = 0; s < 5; s++) {
        const size_t n = sizes[s], words = (n + 31) / 32, trees = s % 2 ? 3 : 1;
        int *parent = (int *)test_memory(trees * n, sizeof(int));
        size_t *depth = (size_t *)test_memory(trees * n, sizeof(size_t));
        uint32_t *bits = (uint32_t *)test_memory(trees * n * words, sizeof(uint32_t));
        llm_rng rng = llm_rng_seed(s);
        for (size_t t = 0; t < trees; t++) random_tree(parent + t * n, n, &rng);
        size_t *d_depth = to_device<size_t>(NULL, trees * n);
        llm_cuda_medusa_tree_mask mask = mask_of(to_device(parent, trees * n), trees, n, d_depth);
        from_device(bits, mask.bits, trees * n * words);
        from_device(depth, d_depth, trees * n);
        mask.bits = bits; /* on the host */
        for (size_t t = 0; t < trees; t++)
            for (size_t i = 0; i < n; i++) {
                size_t seen = 0;
                for (size_t j = 0; j < n; j++) {
                    bool above = false;
                    for (int at = (int)i; at >= 0; at = parent[t * n + (size_t)at])
                        above = above || at == (int)j;
                    CHECK((bits[(t * n + i) * words + j / 32] >> j % 32 & 1) == (above ? 1u : 0u));
                    seen += above;
                }
                CHECK(depth[t * n + i] == seen - 1);
            }
    }
    CHECK_CUDA(llm_cuda_medusa_tree_see(NULL, NULL, NULL, 0, 4, 0));
}

/* Trees of two rows through attention and, after a random line of each is accepted, through the
 * compaction, beside llm_medusa_tree_attend and llm_kv_cache_keep. */
template <typename T>
static void check_turn(size_t H, size_t group, size_t n, size_t D, size_t longest, bool one,
                       uint64_t seed) {
    const size_t B = 2, L = 2, Hq = H * group, room = longest + n + 2,
                 cells = 2 * L * B * H * room * D;
    llm_rng rng = llm_rng_seed(seed);
    llm_arena arena;
    llm_kv_cache want;
    CHECK(llm_arena_create(&arena, (cells + 8 * (room + n)) * sizeof(float) + 8192));
    llm_kv_cache_create(&want, L, B, H, room, D, &arena);
    llm_rng_normal_fill(&rng, want.memory, cells);
    size_t length[2] = {longest / 2, longest}, taken[2], *path, got_length[2];
    path = (size_t *)test_memory(B * n, sizeof(size_t));
    float *q = floats(B * Hq * n * D), *o = floats(B * Hq * n * D), *got = floats(cells);
    int *parent = (int *)test_memory(B * n, sizeof(int));
    llm_rng_normal_fill(&rng, q, B * Hq * n * D);
    for (size_t b = 0; b < B; b++) {
        random_tree(parent + b * n, n, &rng);
        if (one) memcpy(parent + b * n, parent, n * sizeof(int));
        want.length[b] = length[b];
    }
    const llm_cuda_kv_cache<T> c = {
        to_device_as<T>(want.memory, cells), to_device(length, B), L, B, H, room, D};
    const T *d_q = to_device_as<T>(q, B * Hq * n * D);
    T *d_o = to_device<T>(NULL, B * Hq * n * D);
    const llm_cuda_medusa_tree_mask mask =
        mask_of(to_device(parent, B * n), one ? 1 : B, n, to_device<size_t>(NULL, B * n));
    const size_t splits = sizeof(T) == 2 ? 2 : 1;
    float *scratch = to_device<float>(NULL, llm_cuda_speculative_attend_scratch(&c, Hq, n, splits));
    CHECK_CUDA(llm_cuda_speculative_attend(d_o, &c, 1, d_q, Hq, n, mask, splits, scratch, 0));
    for (size_t b = 0; b < B; b++)
        llm_medusa_tree_attend(o + b * Hq * n * D, &want, 1, b, q + b * Hq * n * D, Hq,
                               parent + b * n, n, &arena);
    from_device_as(got, d_o, B * Hq * n * D);
    CHECK_STORED(T, got, o, B * Hq * n * D, sizeof(T) == 4 ? 2e-5f : 8e-3f);

    for (size_t b = 0; b < B; b++) { /* the line of a random node; none in row 1 at times */
        size_t line[80], m = 0;
        for (int at = (int)llm_rng_below(&rng, n); at >= 0; at = parent[b * n + (size_t)at])
            line[m++] = (size_t)at;
        taken[b] = b == 1 && seed % 3 == 0 ? 0 : m;
        for (size_t i = 0; i < m; i++) path[b * n + i] = line[m - 1 - i];
    }
    CHECK_CUDA(llm_cuda_medusa_tree_keep(&c, to_device(path, B * n), to_device(taken, B), n, 0));
    from_device_as(got, c.memory, cells);
    from_device(got_length, c.length, B);
    for (size_t b = 0; b < B; b++) {
        size_t *slot = (size_t *)test_memory(room, sizeof(size_t));
        for (size_t t = 0; t < length[b]; t++) slot[t] = t;
        for (size_t i = 0; i < taken[b]; i++) slot[length[b] + i] = length[b] + path[b * n + i];
        want.length[b] += n;
        llm_kv_cache_keep(&want, b, slot, length[b] + taken[b]);
        CHECK(got_length[b] == length[b] + taken[b]);
    }
    for (size_t i = 0; i < cells; i++) {
        const size_t b = i / (room * D) / H % B, at = i / D % room;
        if (at < want.length[b]) CHECK(got[i] == want.memory[i]);
    }
    llm_arena_destroy(&arena);
}

TEST(medusa_tree, "nodes attend to the text and their line; the accepted line moves together") {
    check_turn<float>(2, 2, 7, 6, 20, false, 1);
    check_turn<float>(1, 1, 13, 8, 3, true, 2);
    check_turn<llm_bf16>(1, 4, 20, 16, 90, false, 3);
    if (TEST_SLOW) return;
    check_turn<llm_bf16>(2, 2, 40, 40, 64, true, 4);
    check_turn<float>(1, 2, 1, 4, 0, false, 5);
    llm_cuda_kv_cache<float> none = {NULL, NULL, 1, 0, 1, 4, 4};
    CHECK_CUDA(llm_cuda_medusa_tree_keep(&none, NULL, NULL, 3, 0));
    none.B = 65536;
    CHECK(llm_cuda_medusa_tree_keep(&none, NULL, NULL, 3, 0) != cudaSuccess);
}

/* Few tokens, so that siblings often say the same: the first counts. Beside llm_lookahead_verify
 * with laws that are sure of the picks. */
static void check_walk(size_t B, size_t n, size_t V, bool own, bool some, uint64_t seed) {
    int *ids = (int *)test_memory(B * n, sizeof(int));
    int *parent = (int *)test_memory(B * n, sizeof(int));
    int *pick = (int *)test_memory(B * n, sizeof(int)), *token = (int *)test_memory(B * n, 4);
    size_t *nodes = (size_t *)test_memory(B, sizeof(size_t));
    size_t *count = (size_t *)test_memory(B, sizeof(size_t));
    size_t *path = (size_t *)test_memory(B * n, sizeof(size_t));
    size_t *taken = (size_t *)test_memory(B, sizeof(size_t));
    size_t *want = (size_t *)test_memory(n, sizeof(size_t));
    float *p = floats(n * V);
    llm_rng rng = llm_rng_seed(seed);
    for (size_t b = 0; b < B; b++) {
        random_tree(parent + b * n, n, &rng);
        if (!own) memcpy(parent + b * n, parent, n * sizeof(int));
        nodes[b] = 1 + llm_rng_below(&rng, n), count[b] = b % 4 == 3 ? 0 : 1;
        for (size_t i = 0; i < n; i++) {
            ids[b * n + i] = (int)llm_rng_below(&rng, V);
            pick[b * n + i] = (int)llm_rng_below(&rng, V);
        }
    }
    size_t *d_path = to_device<size_t>(NULL, B * n), *d_taken = to_device<size_t>(NULL, B);
    int *d_token = to_device<int>(NULL, B * n);
    CHECK_CUDA(llm_cuda_medusa_tree_walk(d_path, d_taken, d_token, to_device(ids, B * n),
                                         to_device(parent, own ? B * n : n), own ? n : 0,
                                         to_device(pick, B * n), some ? to_device(nodes, B) : NULL,
                                         some ? to_device(count, B) : NULL, B, n, 0));
    from_device(path, d_path, B * n);
    from_device(taken, d_taken, B);
    from_device(token, d_token, B * n);
    for (size_t b = 0; b < B; b++) {
        int next = -5;
        for (size_t i = 0; i < n * V; i++) p[i] = (int)(i % V) == pick[b * n + i / V] ? 1.0f : 0.0f;
        const size_t length = llm_lookahead_verify(want, &next, ids + b * n, parent + b * n,
                                                   some ? nodes[b] : n, p, V, &rng);
        if (some && count[b] == 0) {
            CHECK(taken[b] == 0);
            continue;
        }
        CHECK(taken[b] == length && token[b * n + length - 1] == next);
        for (size_t i = 0; i < length; i++) {
            CHECK(path[b * n + i] == want[i]);
            if (i > 0) CHECK(token[b * n + i - 1] == ids[b * n + want[i]]);
        }
    }
}

TEST(medusa_tree, "the walk follows the picks to the first child that says them") {
    for (uint64_t round = 0; round < (TEST_SLOW ? 4 : 12); round++) {
        check_walk(5, 9, 2, round % 2, round / 2 % 2, round);
        check_walk(3, 80, 3, round % 2, round / 2 % 2, round + 100); /* children beyond a warp */
        check_walk(2, 1 + round % 3, 1, round % 2, false, round + 200);
    }
    const int pick = -1, id = 0, parent = -1; /* a NaN at the root */
    size_t *path = to_device<size_t>(NULL, 1), *taken = to_device<size_t>(NULL, 1), n;
    int *token = to_device<int>(NULL, 1), got;
    CHECK_CUDA(llm_cuda_medusa_tree_walk(path, taken, token, to_device(&id, 1),
                                         to_device(&parent, 1), 0, to_device(&pick, 1), NULL, NULL,
                                         1, 1, 0));
    CHECK(*from_device(&n, taken, 1) == 1 && *from_device(&got, token, 1) == -1);
    CHECK_CUDA(
        llm_cuda_medusa_tree_walk(path, taken, token, NULL, NULL, 0, NULL, NULL, NULL, 0, 1, 0));
}

TEST(medusa_tree, "the nodes get the newest token and the guesses of the heads") {
    const int newest[2] = {9, 8}, top[2 * 2 * 3] = {1, 2, 3, 4, 5, 6, 11, 12, 13, 14, 15, 16};
    const size_t depth[5] = {0, 1, 1, 2, 2};
    const int rank[5] = {-1, 0, 2, 0, 1}, want[10] = {9, 1, 3, 4, 5, 8, 11, 13, 14, 15};
    int got[10], *ids = to_device<int>(NULL, 10);
    CHECK_CUDA(llm_cuda_medusa_tree_fill(ids, to_device(newest, 2), to_device(top, 12),
                                         to_device(depth, 5), to_device(rank, 5), 2, 5, 2, 3, 0));
    from_device(got, ids, 10);
    for (int i = 0; i < 10; i++) CHECK(got[i] == want[i]);
    CHECK_CUDA(llm_cuda_medusa_tree_fill(ids, NULL, NULL, NULL, NULL, 0, 5, 2, 3, 0));
}

template <typename T>
static size_t check_typical(size_t B, size_t n, size_t V, bool own, float eps, uint64_t seed) {
    float *z = floats(B * n * V), *p = floats(n * V);
    int *ids = (int *)test_memory(B * n, sizeof(int));
    int *parent = (int *)test_memory(B * n, sizeof(int));
    size_t *path = (size_t *)test_memory(B * n, sizeof(size_t)), total = 0;
    size_t taken[8], *want = (size_t *)test_memory(n, sizeof(size_t));
    unsigned char memory[4096];
    llm_arena arena = {memory, sizeof memory, 0, 0};
    llm_rng rng = llm_rng_seed(seed);
    for (size_t b = 0; b < B; b++) {
        random_tree(parent + b * n, n, &rng);
        if (!own) memcpy(parent + b * n, parent, n * sizeof(int));
        for (size_t i = 0; i < n; i++) ids[b * n + i] = (int)llm_rng_below(&rng, V);
    }
    for (size_t i = 0; i < B * n * V; i++)
        z[i] =
            V > 2 && llm_rng_below(&rng, 5) == 0 ? -INFINITY : 9.0f + 2.0f * llm_rng_normal(&rng);
    for (size_t i = 0; i < B * n; i++) z[i * V] = 9.0f;
    const T *d_z = to_device_as<T>(z, B * n * V);
    const int *d_parent = to_device(parent, own ? B * n : n);
    const llm_cuda_medusa_tree_mask mask =
        mask_of(d_parent, own ? B : 1, n, to_device<size_t>(NULL, B * n));
    size_t *d_path = to_device<size_t>(NULL, B * n), *d_taken = to_device<size_t>(NULL, B);
    CHECK_CUDA(llm_cuda_medusa_tree_typical(d_path, d_taken, to_device<int>(NULL, B * n),
                                            to_device(ids, B * n), d_parent, own ? n : 0, mask, d_z,
                                            B, n, V, eps, sqrtf(eps), 0));
    from_device(path, d_path, B * n);
    from_device(taken, d_taken, B);
    for (size_t b = 0; b < B; b++) {
        llm_softmax_forward(p, z + b * n * V, n, V, 1.0f);
        const size_t length = llm_medusa_tree_typical(want, ids + b * n, parent + b * n, n, p, V,
                                                      eps, sqrtf(eps), &arena);
        CHECK(taken[b] == length);
        for (size_t i = 0; i < length; i++) CHECK(path[b * n + i] == want[i]);
        total += length;
    }
    return total;
}

TEST(medusa_tree, "the longest typical line is the reference's") {
    size_t total = 0;
    for (uint64_t round = 0; round < (TEST_SLOW ? 2 : 6); round++) {
        total += check_typical<float>(3, 12, 9, round % 2 == 0, 0.1f, round);
        check_typical<llm_bf16>(2, 40, 5, true, 0.05f, round + 100);
        check_typical<float>(2, 1 + round % 4, 1, false, 0.3f, round + 200);
    }
    if (TEST_SLOW) return;
    CHECK(total > 3 * 6);
    check_typical<float>(1, 3, 1100, true, 1e-4f, 300);
    size_t *none = NULL;
    const llm_cuda_medusa_tree_mask mask = {NULL, 1, 0};
    const float *z = NULL;
    CHECK_CUDA(llm_cuda_medusa_tree_typical(none, none, NULL, NULL, NULL, 0, mask, z, 0, 3, 5, 0.1f,
                                            0.1f, 0));
    CHECK(llm_cuda_medusa_tree_typical(none, none, NULL, NULL, NULL, 0, mask, z, 1, 3, 0, 0.1f,
                                       0.1f, 0) != cudaSuccess);
}

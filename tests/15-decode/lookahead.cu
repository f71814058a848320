/* @lookahead */
#include "../test.h"

#include "../../llm_cuda.cuh"

enum { ROOM = 64 };

/* Rows of the reference beside the state on the device. */
typedef struct {
    llm_lookahead row[4];
    llm_cuda_lookahead d;
    size_t M;
    int *ids, *parent, *pick; /* on the device, (B,M) */
    size_t *depth, *drafts;
} worlds;

static worlds create(size_t B, size_t V, size_t W, size_t N, size_t G, const int *text,
                     const size_t *length, llm_arena *arena) {
    worlds w;
    const size_t m = N - 1;
    for (size_t b = 0; b < B; b++)
        llm_lookahead_create(&w.row[b], V, W, N, G, text + b * ROOM, length[b], arena);
    w.d.B = B, w.d.V = V, w.d.W = W, w.d.N = N, w.d.G = G;
    w.d.level = to_device<int>(NULL, B * m * W), w.d.pool = to_device<int>(NULL, B * V * G * m);
    w.d.count = to_device<unsigned>(NULL, B * V);
    w.M = llm_cuda_lookahead_size(w.d);
    CHECK(w.M == llm_lookahead_size(&w.row[0]));
    w.ids = to_device<int>(NULL, B * w.M), w.parent = to_device<int>(NULL, B * w.M);
    w.pick = to_device<int>(NULL, B * w.M), w.depth = to_device<size_t>(NULL, B * w.M);
    w.drafts = to_device<size_t>(NULL, B);
    CHECK_CUDA(
        llm_cuda_lookahead_begin(&w.d, to_device(text, B * ROOM), ROOM, to_device(length, B), 0));
    return w;
}

/* Turns with random logits of few values: layouts, picks, windows and pools are the reference's,
 * and the walk is its verification. */
static void check_turns(size_t B, size_t V, size_t W, size_t N, size_t G, bool drawn,
                        uint64_t seed) {
    static int text[4 * ROOM];
    size_t length[4], drafts[4], running[4], taken[4];
    const size_t m = N - 1;
    llm_rng rng = llm_rng_seed(seed);
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 1 << 20));
    for (size_t b = 0; b < B; b++) {
        length[b] = 1 + llm_rng_below(&rng, ROOM);
        for (size_t i = 0; i < ROOM; i++) text[b * ROOM + i] = (int)llm_rng_below(&rng, V);
    }
    worlds w = create(B, V, W, N, G, text, length, &arena);
    const size_t M = w.M;
    int *ids = (int *)test_memory(B * M, 4), *parent = (int *)test_memory(B * M, 4);
    int *pick = (int *)test_memory(B * M, 4), *token = (int *)test_memory(B * M, 4);
    int *want_ids = (int *)test_memory(M, 4), *want_parent = (int *)test_memory(M, 4);
    int *level = (int *)test_memory(B * m * W, 4), *pool = (int *)test_memory(B * V * G * m + 1, 4);
    unsigned *count = (unsigned *)test_memory(B * V, 4);
    size_t *depth = (size_t *)test_memory(B * M, 8), *path = (size_t *)test_memory(B * M, 8);
    size_t *want = (size_t *)test_memory(M, 8);
    float *z = floats(B * M * V), *p = floats(M * V);
    for (size_t turn = 0; turn < (TEST_SLOW ? 3 : 8); turn++) {
        int newest[4];
        uint64_t seeds[4];
        for (size_t b = 0; b < B; b++) {
            newest[b] = (int)llm_rng_below(&rng, V), seeds[b] = seed * 1000 + turn * 10 + b;
            running[b] = turn % 3 != 2 || b != 1;
        }
        CHECK_CUDA(llm_cuda_lookahead_layout(w.ids, w.parent, w.depth, w.drafts, &w.d,
                                             to_device(newest, B), 0));
        from_device(ids, w.ids, B * M);
        from_device(parent, w.parent, B * M);
        from_device(depth, w.depth, B * M);
        from_device(drafts, w.drafts, B);
        for (size_t i = 0; i < B * M * V; i++)
            z[i] = drawn ? llm_rng_normal(&rng) : (float)llm_rng_below(&rng, 4);
        if (turn == 4) z[(drafts[0] + (m - 1) * W) * V] = NAN; /* a column of row 0 */
        float *d_z = to_device(z, B * M * V);
        CHECK_CUDA(llm_cuda_lookahead_pick(w.pick, d_z, w.drafts,
                                           drawn ? to_device(seeds, B) : NULL, &w.d, 0));
        size_t *d_path = to_device<size_t>(NULL, B * M), *d_taken = to_device<size_t>(NULL, B);
        int *d_token = to_device<int>(NULL, B * M);
        CHECK_CUDA(llm_cuda_medusa_tree_walk(d_path, d_taken, d_token, w.ids, w.parent, M, w.pick,
                                             w.drafts, NULL, B, M, 0));
        CHECK_CUDA(llm_cuda_lookahead_advance(&w.d, w.pick, w.drafts, to_device(running, B), 0));
        from_device(pick, w.pick, B * M);
        from_device(path, d_path, B * M);
        from_device(token, d_token, B * M);
        from_device(taken, d_taken, B);
        from_device(level, w.d.level, B * m * W);
        from_device(pool, w.d.pool, B * V * G * m);
        from_device(count, w.d.count, B * V);
        for (size_t b = 0; b < B; b++) {
            llm_lookahead *s = &w.row[b];
            const size_t window = llm_lookahead_layout(want_ids, want_parent, s, newest[b]),
                         end = window + m * W;
            CHECK(drafts[b] == window);
            for (size_t i = 0; i < M; i++) {
                const size_t at = b * M + i;
                size_t up = 0;
                if (i >= end) {
                    CHECK(ids[at] == 0 && parent[at] == 0 && depth[at] == 1);
                    continue;
                }
                for (int a = (int)i; want_parent[a] >= 0; a = want_parent[a]) up++;
                CHECK(ids[at] == want_ids[i] && parent[at] == want_parent[i] && depth[at] == up);
                if (i >= window && i + W < end) continue; /* nobody looks at those */
                if (!drawn || i >= window) CHECK(pick[at] == llm_greedy_pick(z + at * V, V));
            }
            llm_rng own = llm_rng_seed(seeds[b]);
            int next = -5;
            if (drawn)
                llm_softmax_forward(p, z + b * M * V, window, V, 1.0f);
            else
                for (size_t i = 0; i < window * V; i++)
                    p[i] = (int)(i % V) == pick[b * M + i / V] ? 1.0f : 0.0f;
            const size_t n =
                llm_lookahead_verify(want, &next, want_ids, want_parent, window, p, V, &own);
            CHECK(taken[b] == n && token[b * M + n - 1] == next);
            for (size_t i = 0; i < n; i++) CHECK(path[b * M + i] == want[i]);
            if (running[b])
                llm_lookahead_advance(s, z + (b * M + window + (m - 1) * W) * V, &arena);
            for (size_t i = 0; i < m * W; i++) CHECK(level[b * m * W + i] == s->level[i]);
            for (size_t v = 0; v < V; v++) {
                CHECK(count[b * V + v] == s->count[v]);
                const size_t known = s->count[v] < G ? s->count[v] : G;
                for (size_t i = 0; i < known * m; i++)
                    CHECK(pool[(b * V + v) * G * m + i] == s->pool[v * G * m + i]);
            }
        }
    }
    llm_arena_destroy(&arena);
}

TEST(lookahead, "layouts, picks, walks, windows and pools are the reference's, turn by turn") {
    check_turns(3, 3, 4, 3, 2, false, 1);
    check_turns(2, 5, 3, 4, 3, true, 2);
    check_turns(4, 2, 1, 2, 4, false, 3);
    if (TEST_SLOW) return;
    check_turns(2, 4, 5, 3, 0, false, 4);  /* no pool */
    check_turns(1, 3, 9, 2, 40, true, 5);  /* more n-grams than a warp has lanes */
    check_turns(1, 2, 2, 32, 1, false, 6); /* as long as they may be */
    check_turns(2, 40, 6, 3, 2, true, 7);
}

TEST(lookahead, "the mask is that of the parents: attention under both has the same bits") {
    const size_t B = 2, V = 2, W = 3, N = 4, G = 3, D = 8, H = 1, Hq = 2, text = 9;
    static int ids[4 * ROOM];
    const size_t length[2] = {5, 7}, in_cache[2] = {4, 9};
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 1 << 16));
    llm_rng rng = llm_rng_seed(3);
    for (size_t i = 0; i < B * ROOM; i++) ids[i] = (int)llm_rng_below(&rng, V);
    worlds w = create(B, V, W, N, G, ids, length, &arena);
    const size_t M = w.M, room = text + M, half = B * H * room * D, n = B * Hq * M * D;
    for (size_t turn = 0; turn < (TEST_SLOW ? 2 : 3);
         turn++) { /* pools of none, some, more n-grams */
        const int newest[2] = {(int)(turn % 2), 0};
        float *z = floats(B * M * V), *q = floats(n), *memory = floats(2 * half);
        float *got = floats(n), *want = floats(n), *scratch = to_device<float>(NULL, n);
        llm_rng_normal_fill(&rng, z, B * M * V);
        llm_rng_normal_fill(&rng, q, n);
        llm_rng_normal_fill(&rng, memory, 2 * half);
        CHECK_CUDA(llm_cuda_lookahead_layout(w.ids, w.parent, w.depth, w.drafts, &w.d,
                                             to_device(newest, B), 0));
        const llm_cuda_lookahead_mask mask = {w.drafts, N - 1, W};
        uint32_t *bits = to_device<uint32_t>(NULL, B * M * ((M + 31) / 32));
        CHECK_CUDA(
            llm_cuda_medusa_tree_see(bits, to_device<size_t>(NULL, B * M), w.parent, B, M, 0));
        const llm_cuda_medusa_tree_mask tree = {bits, (M + 31) / 32, M * ((M + 31) / 32)};
        const llm_cuda_kv_cache<float> c = {
            to_device(memory, 2 * half), to_device(in_cache, B), 1, B, H, room, D};
        float *d_got = to_device<float>(NULL, n), *d_want = to_device<float>(NULL, n);
        CHECK_CUDA(
            llm_cuda_speculative_attend(d_got, &c, 0, to_device(q, n), Hq, M, mask, 1, scratch, 0));
        CHECK_CUDA(llm_cuda_speculative_attend(d_want, &c, 0, to_device(q, n), Hq, M, tree, 1,
                                               scratch, 0));
        from_device(got, d_got, n);
        from_device(want, d_want, n);
        for (size_t i = 0; i < n; i++) CHECK(got[i] == want[i]);
        CHECK_CUDA(
            llm_cuda_lookahead_pick(w.pick, to_device(z, B * M * V), w.drafts, NULL, &w.d, 0));
        CHECK_CUDA(llm_cuda_lookahead_advance(&w.d, w.pick, w.drafts, NULL, 0));
    }
    llm_arena_destroy(&arena);
}

TEST(lookahead, "no rows; what is refused") {
    llm_cuda_lookahead s = {0, 3, 1, 2, 1, NULL, NULL, NULL};
    const float *z = NULL;
    for (int i = 0; i < 6; i++) {
        llm_cuda_lookahead bad = s;
        if (i == 1) bad.V = 0;
        if (i == 2) bad.W = 0;
        if (i == 3) bad.N = 1;
        if (i == 4) bad.N = 33;
        if (i == 5) bad.B = 65536;
        const bool fine = i == 0;
        CHECK((llm_cuda_lookahead_begin(&bad, NULL, 0, NULL, 0) == cudaSuccess) == fine);
        CHECK((llm_cuda_lookahead_layout(NULL, NULL, NULL, NULL, &bad, NULL, 0) == cudaSuccess) ==
              fine);
        if (i == 5) continue;
        CHECK((llm_cuda_lookahead_pick(NULL, z, NULL, NULL, &bad, 0) == cudaSuccess) == fine);
        CHECK((llm_cuda_lookahead_advance(&bad, NULL, NULL, NULL, 0) == cudaSuccess) == fine);
    }
}

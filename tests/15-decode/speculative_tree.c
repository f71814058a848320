/* @speculative_tree */
#include "../test.h"

#include "../../llm.h"

#include "../arena.h"
#include "../tiny_speculative.h"

enum { V = 5 };
static size_t tree_up(size_t bytes) { return (bytes + 63) / 64 * 64; }

typedef struct {
    tiny_speculative target, draft;
    llm_speculative_model m, d;
    llm_speculative_tree_config c;
    llm_arena arena;
} tree_world;

/* On exactly the memory that the comments ask for, for prompts of n. */
static tree_world *tree_make(const float *p, const float *q, const size_t *width, size_t depth,
                             bool replace, size_t n, const llm_sampling_step *chain, size_t steps) {
    tree_world *w = (tree_world *)test_memory(1, sizeof *w);
    const size_t N = llm_speculative_tree_size(width, depth);
    w->m = tiny_speculative_model(&w->target, p, V);
    w->d = tiny_speculative_model(&w->draft, q, V);
    w->c.width = width, w->c.depth = depth, w->c.replace = replace;
    w->c.target = &w->m, w->c.draft = &w->d;
    w->c.chain = chain, w->c.steps = steps;
    w->arena = test_arena(2 * tree_up(N * V * 4) + tree_up(n * V * 4) + 2 * tree_up(N * 4) +
                          tree_up(N * 8) + tree_up(V * 4) + tree_up(V * 4));
    return w;
}

static double tree_joint(const size_t *width, size_t depth, bool replace, size_t runs,
                         const llm_sampling_step *chain, size_t steps, uint64_t seed) {
    const float *p = tiny_speculative_table(1, V, NULL, 1.0f);
    const float *q = tiny_speculative_table(2, V, p, seed % 2 ? 0.8f : 2.0f);
    tree_world *w = tree_make(p, q, width, depth, replace, 1, chain, steps);
    double joint[V * V * V];
    size_t count[V * V * V] = {0};
    tiny_speculative_joint(joint, p, V, 2, chain, steps);
    llm_rng rng = llm_rng_seed(seed);
    for (size_t run = 0; run < runs; run++) {
        int ids[4] = {2, 0, 0, 0};
        w->target.length = w->draft.length = 0;
        llm_speculative_tree_run(ids, 1, 3, &w->c, &rng, &w->arena);
        CHECK(w->arena.used == 0);
        count[((size_t)ids[1] * V + (size_t)ids[2]) * V + (size_t)ids[3]]++;
    }
    return tiny_speculative_chi(count, joint, V * V * V, (double)runs);
}

TEST(speculative_tree, "three tokens have the target's joint law: widths, with and without "
                       "replacement, top-p") {
    const size_t two[3] = {2, 2, 2}, wide[1] = {6}, mixed[2] = {3, 2};
    const llm_sampling_step chain[2] = {{LLM_SAMPLING_TOP_P, 0.8f},
                                        {LLM_SAMPLING_TEMPERATURE, 0.7f}};
    CHECK(tree_joint(two, 3, true, 20000, NULL, 0, 1) < 3.09);
    CHECK(tree_joint(mixed, 2, false, 50000, NULL, 0, 2) < 3.09);
    CHECK(tree_joint(wide, 1, true, 20000, NULL, 0, 3) < 3.09);
    CHECK(tree_joint(wide, 1, false, 20000, NULL, 0, 4) < 3.09);
    CHECK(tree_joint(mixed, 2, false, 20000, chain, 2, 5) < 3.09);
}

/* One node with k independent or different drafts: the law of what comes out, and how often a draft
 * was accepted; wrong: every trial is held against p itself. */
static double tree_node(size_t k, bool replace, bool wrong, double *accepted) {
    enum { RUNS = 60000 };
    const float zp[V] = {0.0f, 1.0f, -0.5f, 0.3f, -1.0f}, zq[V] = {1.8f, 0.2f, 0.0f, -1.4f, 0.1f};
    float p[V], q[V];
    double want[V];
    size_t count[V] = {0}, hits = 0;
    llm_softmax_forward(p, zp, 1, V, 1.0f);
    llm_softmax_forward(q, zq, 1, V, 1.0f);
    for (size_t v = 0; v < V; v++) want[v] = (double)p[v];
    llm_rng rng = llm_rng_seed(20 + k);
    for (size_t run = 0; run < RUNS; run++) {
        int ids[6] = {0}, parent[6] = {-1, 0, 0, 0, 0, 0}, next = 0;
        float left[V], laws[2][6 * V];
        size_t path[6];
        memcpy(left, q, sizeof q);
        for (size_t i = 1; i <= k; i++) {
            ids[i] = llm_speculative_draw(left, V, &rng);
            if (!replace) left[ids[i]] = 0.0f;
        }
        for (size_t i = 0; i <= k; i++) {
            memcpy(laws[0] + i * V, q, sizeof q);
            memcpy(laws[1] + i * V, p, sizeof p);
        }
        size_t taken = 1;
        for (size_t i = 1; wrong && i <= k && taken == 1; i++) {
            memcpy(laws[0], q, sizeof q);
            memcpy(laws[1], p, sizeof p);
            parent[1] = 0;
            const int pair[2] = {0, ids[i]};
            taken = llm_speculative_tree_verify(path, &next, pair, parent, 2, laws[0], laws[1], V,
                                                replace, &rng);
            path[1] = i;
        }
        if (!wrong)
            taken = llm_speculative_tree_verify(path, &next, ids, parent, k + 1, laws[0], laws[1],
                                                V, replace, &rng);
        CHECK(path[0] == 0 && taken <= 2);
        count[taken == 2 ? ids[path[1]] : next]++;
        hits += taken == 2;
    }
    *accepted = (double)hits / RUNS;
    return tiny_speculative_chi(count, want, V, RUNS);
}

TEST(speculative_tree, "more candidates are accepted more often, different ones most; trials "
                       "against p itself are wrong") {
    double with[5], without[5], bad;
    for (size_t k = 1; k <= 4; k++) {
        CHECK(tree_node(k, true, false, &with[k]) < 3.09);
        CHECK(tree_node(k, false, false, &without[k]) < 3.09);
        if (k > 1) CHECK(with[k] > with[k - 1] + 0.01 && without[k] > without[k - 1] + 0.01);
        if (k > 1) CHECK(without[k] > with[k] + 0.01);
    }
    CHECK_NEAR(with[1], without[1], 0.01);
    CHECK(tree_node(4, true, true, &bad) > 10.0);
    /* all tokens offered, all different: the last is accepted if none before */
    CHECK(tree_node(5, false, false, &bad) < 3.09);
    CHECK(bad > 0.999);
}

TEST(speculative_tree, "greedy trees say what greedy decoding says; states hold the text") {
    for (uint64_t seed = 1; seed < 15; seed++) {
        const float *p = tiny_speculative_table(seed, V, NULL, 1.0f);
        const float *q = tiny_speculative_table(seed + 50, V, p, 0.8f);
        const llm_sampling_step chain[1] = {{LLM_SAMPLING_TEMPERATURE, 0.0f}};
        const size_t width[3] = {1 + seed % 3, 1 + seed % 2, 2};
        for (size_t depth = 0; depth <= 3; depth++) {
            int want[50] = {3, 1, 4}, ids[50] = {3, 1, 4};
            for (size_t t = 3; t < 50; t++)
                want[t] =
                    llm_greedy_pick(p + ((size_t)want[t - 2] * V + (size_t)want[t - 1]) * V, V);
            tree_world *w = tree_make(p, q, width, depth, seed % 2, 3, chain, 1);
            llm_rng rng = llm_rng_seed(seed);
            w->m.capacity = 50 + depth;
            const size_t turns = llm_speculative_tree_run(ids, 3, 47, &w->c, &rng, &w->arena);
            CHECK(memcmp(ids, want, sizeof ids) == 0);
            CHECK(turns + 1 == w->target.passes && turns <= 47 && turns * (depth + 1) >= 47);
            if (depth == 0) CHECK(turns == 47);
            const size_t seen = w->target.length < 50 ? w->target.length : 50;
            CHECK(seen >= 49 && memcmp(w->target.text, ids, seen * sizeof(int)) == 0);
            /* the draft has read the same, but for the tokens of the last turn */
            CHECK(w->draft.length < w->target.length && w->draft.length + depth + 2 >= 50);
            CHECK(memcmp(w->draft.text, ids, w->draft.length * sizeof(int)) == 0);
        }
    }
    const size_t width[3] = {3, 2, 2};
    CHECK(llm_speculative_tree_size(width, 3) == 1 + 3 + 6 + 12);
    CHECK(llm_speculative_tree_size(width, 0) == 1);
}

TEST(speculative_tree, "trees have their widths; what the target bans is refused, whatever u") {
    const float *p = tiny_speculative_table(3, V, NULL, 1.0f);
    const size_t width[3] = {2, 1, 3};
    llm_rng rng = llm_rng_seed(4);
    int ids[16], parent[16];
    float q[16 * V];
    for (size_t depth = 0; depth <= 3; depth++) {
        tree_world *w = tree_make(p, p, width, depth, true, 1, NULL, 0);
        const size_t n = llm_speculative_tree_grow(ids, parent, q, 2, &w->c, &rng, &w->arena);
        CHECK(n == llm_speculative_tree_size(width, depth));
    }
    const int pair[2] = {0, 1}, up[2] = {-1, 0};
    float laws[2][2 * V] = {{0.5f, 0.5f}, {1.0f}};
    size_t path[2];
    int next = -1;
    rng.used = 0, rng.word[0] = 0; /* u = 0 */
    CHECK(llm_speculative_tree_verify(path, &next, pair, up, 2, laws[0], laws[1], V, true, &rng) ==
          1);
    CHECK(next == 0);
}

TEST(speculative_tree, "without replacement no child comes twice; few tokens, few children") {
    const float *p = tiny_speculative_table(3, V, NULL, 1.0f);
    const size_t width[2] = {4, 4};
    const llm_sampling_step chain[1] = {{LLM_SAMPLING_TOP_K, 3.0f}};
    tree_world *w = tree_make(p, p, width, 2, false, 1, chain, 1);
    llm_rng rng = llm_rng_seed(4);
    int ids[21], parent[21];
    float q[21 * V];
    for (size_t run = 0; run < 100; run++) {
        const size_t n = llm_speculative_tree_grow(ids, parent, q, 2, &w->c, &rng, &w->arena);
        CHECK(n == 1 + 3 + 9 && ids[0] == 2 && parent[0] == -1);
        for (size_t i = 1; i < n; i++) {
            CHECK(parent[i] == (i < 4 ? 0 : (int)((i - 4) / 3 + 1)));
            for (size_t k = 1; k < i; k++) CHECK(parent[k] != parent[i] || ids[k] != ids[i]);
        }
    }
    int text[3] = {0, 0, 0};
    CHECK_ASSERTS(llm_speculative_tree_run(text, 0, 1, &w->c, &rng, &w->arena));
    CHECK_ASSERTS(
        llm_speculative_tree_run(text, 1, TINY_SPECULATIVE_ROOM - 2, &w->c, &rng, &w->arena));
    w->d.V = 4;
    CHECK_ASSERTS(llm_speculative_tree_run(text, 1, 1, &w->c, &rng, &w->arena));
}

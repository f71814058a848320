/* @comp_graph_plan */
#include "../test.h"

#include "../../llm.h"

enum { MOST = 64 };
static llm_arena cp_arena(void) {
    llm_arena arena = {(unsigned char *)test_memory(1 << 17, 1), 1 << 17, 0, 1 << 17};
    memset(arena.memory, 85, arena.size); /* no node; and the first take poisons the rest */
    return arena;
}

/* n nodes, each of which reads one or two before it. */
static void cp_random(llm_comp_graph *g, size_t n, size_t inputs, llm_rng *rng) {
    static const int ops[4] = {LLM_COMP_GRAPH_ADD, LLM_COMP_GRAPH_MUL, LLM_COMP_GRAPH_SUB,
                               LLM_COMP_GRAPH_TANH};
    for (size_t i = 0; i < inputs; i++) llm_comp_graph_input(g, "x", 1, 1, true);
    while (g->count < n)
        llm_comp_graph_op(g, ops[llm_rng_below(rng, 4)], llm_rng_below(rng, g->count),
                          llm_rng_below(rng, g->count));
}

TEST(comp_graph_plan, "what outputs need is what a walk back from them reaches, on 100 graphs") {
    llm_rng rng = llm_rng_seed(1);
    for (size_t round = 0; round < 100; round++) {
        llm_arena arena = cp_arena();
        llm_comp_graph g;
        llm_comp_graph_create(&g, MOST, &arena);
        cp_random(&g, 5 + round % 40, 1 + round % 3, &rng);
        const size_t n = g.count, output[2] = {llm_rng_below(&rng, n), llm_rng_below(&rng, n)};
        size_t order[MOST];
        bool used[MOST], want[MOST] = {false};
        llm_error error;
        CHECK(llm_comp_graph_order(order, &g, &arena, &error));
        llm_comp_graph_plan_used(used, &g, order, output, 2);
        want[output[0]] = want[output[1]] = true;
        for (size_t sweep = 0; sweep < n; sweep++) /* until nothing changes */
            for (size_t i = 0; i < n; i++)
                for (size_t k = 0; k < 2 && want[i]; k++)
                    if (g.node[i].in[k] != LLM_COMP_GRAPH_NONE) want[g.node[i].in[k]] = true;
        for (size_t i = 0; i < n; i++) CHECK(used[i] == want[i]);
    }
}

/* The value of node i for scalar inputs, by recursion. */
static float cp_value(const llm_comp_graph *g, size_t i, const float *x) {
    const llm_comp_graph_node *n = &g->node[i];
    const float a = n->in[0] == LLM_COMP_GRAPH_NONE ? 0.0f : cp_value(g, n->in[0], x);
    const float b = n->in[1] == LLM_COMP_GRAPH_NONE ? 0.0f : cp_value(g, n->in[1], x);
    switch (n->op) {
    case LLM_COMP_GRAPH_INPUT:
        return x[i];
    case LLM_COMP_GRAPH_ADD:
        return a + b;
    case LLM_COMP_GRAPH_MUL:
        return a * b;
    case LLM_COMP_GRAPH_SUB:
        return a - b;
    default:
        return tanhf(a);
    }
}

TEST(comp_graph_plan, "common nodes are shared, as many as brute force finds, and no bit changes") {
    llm_rng rng = llm_rng_seed(2);
    size_t total = 0;
    for (size_t round = 0; round < 60; round++) {
        llm_arena arena = cp_arena();
        llm_comp_graph g;
        float x[MOST], before[MOST];
        size_t order[MOST], same[MOST], distinct[MOST], want = 0;
        llm_error error;
        llm_comp_graph_create(&g, MOST, &arena);
        cp_random(&g, 12, 2, &rng);
        const size_t n = g.count;
        llm_rng_normal_fill(&rng, x, MOST);
        for (size_t i = 0; i < n; i++) before[i] = cp_value(&g, i, x);
        /* nodes in order; equal to an earlier one if they read equal ones, in either order for +
         * * */
        for (size_t i = 0; i < n; i++) {
            distinct[i] = i;
            for (size_t k = 0; k < i && distinct[i] == i; k++) {
                const llm_comp_graph_node *p = &g.node[i], *q = &g.node[k];
                if (p->op != q->op || p->op == LLM_COMP_GRAPH_INPUT) continue;
                const bool two = p->op != LLM_COMP_GRAPH_TANH;
                const size_t pa = distinct[p->in[0]], pb = two ? distinct[p->in[1]] : 0;
                const size_t qa = distinct[q->in[0]], qb = two ? distinct[q->in[1]] : 0;
                const bool either = two && p->op != LLM_COMP_GRAPH_SUB;
                if ((pa == qa && pb == qb) || (either && pa == qb && pb == qa)) distinct[i] = k;
            }
            want += distinct[i] != i;
        }
        CHECK(llm_comp_graph_order(order, &g, &arena, &error));
        const size_t mark = arena.used;
        CHECK(llm_comp_graph_plan_share(same, &g, order, &arena) == want && arena.used == mark);
        total += want;
        for (size_t i = 0; i < n; i++) {
            CHECK(distinct[same[i]] == distinct[i]);
            CHECK(cp_value(&g, same[i], x) == before[i] || isnan(before[i]));
            for (size_t k = 0; k < 2; k++)
                CHECK(g.node[i].in[k] == LLM_COMP_GRAPH_NONE ||
                      same[g.node[i].in[k]] == g.node[i].in[k]);
        }
    }
    CHECK(total > 20);
}

TEST(comp_graph_plan, "constants are shared by their numbers, shapes and inputs keep nodes apart") {
    llm_arena arena = cp_arena();
    llm_comp_graph g;
    llm_error error;
    const float a[4] = {1, 2, 3, 4}, b[4] = {1, 2, 3, 4}, c[4] = {1, 2, 3, 5};
    size_t order[16], same[16], n[10];
    llm_comp_graph_create(&g, 16, &arena);
    n[0] = llm_comp_graph_const(&g, "a", a, 2, 2);
    n[1] = llm_comp_graph_const(&g, "b", b, 2, 2);
    n[2] = llm_comp_graph_const(&g, "c", c, 2, 2);
    n[3] = llm_comp_graph_const(&g, "b", b, 1, 4);
    n[4] = llm_comp_graph_input(&g, "x", 1, 4, true);
    n[5] = llm_comp_graph_input(&g, "x", 1, 4, true);
    n[6] = llm_comp_graph_shaped(&g, LLM_COMP_GRAPH_SUM, n[4], 0, 1, 1);
    n[7] = llm_comp_graph_shaped(&g, LLM_COMP_GRAPH_SUM, n[4], 0, 1, 4);
    n[8] = llm_comp_graph_shaped(&g, LLM_COMP_GRAPH_SUM, n[4], 0, 1, 1);
    CHECK(llm_comp_graph_order(order, &g, &arena, &error));
    CHECK(llm_comp_graph_plan_share(same, &g, order, &arena) == 2);
    CHECK(same[n[1]] == n[0] && same[n[8]] == n[6]);
}

/* Lives that meet do not share a place; the whole is the end of the highest. */
static void cp_check(const size_t *offset, const size_t *size, const size_t *first,
                     const size_t *last, size_t n, size_t whole) {
    size_t end = 0;
    for (size_t i = 0; i < n; i++) {
        if (size[i] == 0 || last[i] < first[i]) continue;
        if (offset[i] + size[i] > end) end = offset[i] + size[i];
        for (size_t k = 0; k < i; k++) {
            if (size[k] == 0 || last[k] < first[k]) continue;
            const bool apart = last[i] < first[k] || last[k] < first[i];
            CHECK(apart || offset[i] + size[i] <= offset[k] || offset[k] + size[k] <= offset[i]);
        }
    }
    CHECK(end == whole);
}

TEST(comp_graph_plan, "a chain of 12 layers needs two buffers; with everything kept, all of them") {
    llm_arena arena = cp_arena();
    llm_comp_graph g;
    llm_error error;
    size_t order[MOST], first[MOST] = {0}, last[MOST], size[MOST], offset[MOST], sum = 0;
    bool used[MOST];
    llm_comp_graph_create(&g, MOST, &arena);
    size_t x = llm_comp_graph_input(&g, "x", 8, 16, false);
    const size_t w = llm_comp_graph_input(&g, "w", 16, 16, true);
    for (size_t layer = 0; layer < 12; layer++)
        x = llm_comp_graph_op(&g, LLM_COMP_GRAPH_TANH,
                              llm_comp_graph_op(&g, LLM_COMP_GRAPH_MATMUL, x, w), 0);
    const size_t dead = llm_comp_graph_op(&g, LLM_COMP_GRAPH_TANH, x, 0), n = g.count;
    bool *keep = bools(n);
    for (size_t i = 0; i < n; i++) {
        size[i] = g.node[i].op == LLM_COMP_GRAPH_INPUT ? 0 : 128;
        if (i != dead) sum += size[i];
    }
    CHECK(llm_comp_graph_order(order, &g, &arena, &error));
    llm_comp_graph_plan_used(used, &g, order, &x, 1);
    CHECK(!used[dead]);
    keep[x] = true;
    llm_comp_graph_plan_life(first, last, &g, order, used, keep);
    CHECK(last[x] == n && last[dead] < first[dead]);
    const size_t whole = llm_comp_graph_plan(offset, size, first, last, n, &arena);
    cp_check(offset, size, first, last, n, whole);
    CHECK(whole == 256 && llm_comp_graph_plan_least(size, first, last, n, n) == 256);
    CHECK(10 * whole < 6 * sum && sum == 24 * 128);

    for (size_t i = 0; i < n; i++) keep[i] = true;
    llm_comp_graph_plan_life(first, last, &g, order, used, keep);
    CHECK(llm_comp_graph_plan(offset, size, first, last, n, &arena) == sum);
    llm_comp_graph_plan_life(first, last, &g, order, used, NULL);
    CHECK(llm_comp_graph_plan(offset, size, first, last, n, &arena) == 256);
    CHECK(last[x] == first[x]);
    memset(size, 0, sizeof size);
    CHECK(llm_comp_graph_plan_least(size, first, last, n, n) == 0);
    CHECK(llm_comp_graph_plan(offset, size, first, last, n, &arena) == 0);
}

TEST(comp_graph_plan, "random lives: nothing overlaps, at most 1.3 times what is alive at once") {
    double worst = 0.0, sum = 0.0;
    for (size_t round = 0; round < 200; round++) {
        llm_rng rng = llm_rng_seed(100 + round);
        const size_t n = 1 + round % 60;
        size_t size[MOST], first[MOST], last[MOST], offset[MOST];
        llm_arena arena = cp_arena();
        for (size_t i = 0; i < n; i++) {
            size[i] = i % 11 == 10 ? 0 : 1 + llm_rng_below(&rng, 100);
            first[i] = llm_rng_below(&rng, 50);
            last[i] = first[i] + llm_rng_below(&rng, 12);
        }
        const size_t whole = llm_comp_graph_plan(offset, size, first, last, n, &arena);
        cp_check(offset, size, first, last, n, whole);
        CHECK(arena.used == 0);
        const size_t least = llm_comp_graph_plan_least(size, first, last, n, 70);
        CHECK(whole >= least);
        const double ratio = (double)whole / (double)least;
        worst = fmax(worst, ratio);
        sum += ratio / 200.0;
    }
    CHECK(worst < 1.3 && sum < 1.05); /* 1.22 and 1.03 */
}

TEST(comp_graph_plan, "lives and places by hand, in arrays that are exactly long enough") {
    llm_arena arena = cp_arena();
    llm_comp_graph g;
    size_t order[4], offset[4] = {9, 9, 9, 9};
    bool *used = bools(3);
    llm_error error;
    llm_comp_graph_create(&g, 4, &arena);
    const size_t idle = llm_comp_graph_input(&g, "idle", 2, 2, true);
    const size_t a = llm_comp_graph_input(&g, "a", 2, 2, true);
    const size_t y = llm_comp_graph_op(&g, LLM_COMP_GRAPH_TANH, a, 0);
    CHECK(llm_comp_graph_order(order, &g, &arena, &error));
    llm_comp_graph_plan_used(used, &g, order, &y, 1);
    size_t *first = (size_t *)test_memory(3, sizeof(size_t));
    size_t *last = (size_t *)test_memory(3, sizeof(size_t));
    bool *keep = bools(3);
    for (size_t i = 0; i < 3; i++) last[i] = 77, keep[i] = true;
    llm_comp_graph_plan_life(first, last, &g, order, used, keep);
    CHECK(last[a] == 3 && last[y] == 3 && last[idle] < first[idle]);
    CHECK(first[a] < first[y] && first[y] < 3);
    const size_t size[3] = {4, 0, 4}; /* a takes no room, idle does not live */
    CHECK(llm_comp_graph_plan(offset, size, first, last, 3, &arena) == 4);
    CHECK(offset[a] == 9 && offset[idle] == 9 && offset[y] == 0);

    const size_t one[1] = {5}, at_once[1] = {0};
    CHECK(llm_comp_graph_plan_least(one, at_once, at_once, 1, 1) == 5);
    const size_t sum = llm_comp_graph_shaped(&g, LLM_COMP_GRAPH_SUM, a, 0, 2, 2);
    llm_comp_graph_node other = g.node[sum];
    CHECK(llm_comp_graph_plan_equal(&g.node[sum], &other));
    other.rows = 1;
    CHECK(!llm_comp_graph_plan_equal(&g.node[sum], &other));
    other.rows = 2, other.cols = 1;
    CHECK(!llm_comp_graph_plan_equal(&g.node[sum], &other));

    /* a table with something in it from before: it is emptied first, also where a node hashes to
     * its first place */
    for (size_t n = 1; n <= 40; n++) {
        llm_arena dirty = cp_arena();
        llm_comp_graph h;
        size_t many[40], same[40];
        memset(dirty.memory, 0x11, dirty.size);
        llm_comp_graph_create(&h, 40, &dirty);
        for (size_t i = 0; i < n; i++) many[i] = llm_comp_graph_input(&h, "x", 1, 1 + i, true);
        CHECK(llm_comp_graph_plan_share(same, &h, many, &dirty) == 0);
    }
}

TEST(comp_graph_plan, "lives by hand: read last, kept to the end, from their own position on") {
    llm_arena arena = cp_arena();
    llm_comp_graph g;
    llm_comp_graph_create(&g, 4, &arena);
    const size_t x = llm_comp_graph_input(&g, "x", 1, 1, true);
    const size_t a = llm_comp_graph_op(&g, LLM_COMP_GRAPH_EXP, x, 0);
    const size_t b = llm_comp_graph_op(&g, LLM_COMP_GRAPH_TANH, a, 0);
    llm_comp_graph_op(&g, LLM_COMP_GRAPH_ADD, a, b);
    const size_t order[4] = {0, 1, 2, 3}, want[4] = {4, 3, 3, 4};
    const bool used[4] = {true, true, true, true}, keep[4] = {true, false, false, true};
    size_t first[4], last[4];
    llm_comp_graph_plan_life(first, last, &g, order, used, keep);
    for (size_t i = 0; i < 4; i++) CHECK(first[i] == i && last[i] == want[i]);
}

/* @forward_pass_chain */
#include "../test.h"

#include "../../llm.h"
#include "../arena.h"

TEST(forward_pass_chain, "a fused tree equals the graph run node by node, bit for bit") {
    const size_t shapes[4][2] = {{1, 1}, {2, 3}, {7, 5}, {31, 1}};
    for (size_t s = 0; s < 4; s++) {
        const size_t R = shapes[s][0], C = shapes[s][1];
        llm_arena arena = test_arena(1 << 17);
        llm_comp_graph g;
        llm_comp_graph_create(&g, 32, &arena);
        float *x = floats(R * C), *row = floats(C), *col = floats(R), *w = floats(C * C);
        float *y = floats(R * C);
        llm_rng rng = llm_rng_seed(s);
        llm_rng_normal_fill(&rng, x, R * C);
        llm_rng_normal_fill(&rng, row, C);
        llm_rng_normal_fill(&rng, col, R);
        llm_rng_normal_fill(&rng, w, C * C);
        const size_t in[4] = {
            llm_comp_graph_input(&g, "x", R, C, true), llm_comp_graph_input(&g, "row", 1, C, true),
            llm_comp_graph_input(&g, "col", R, 1, true), llm_comp_graph_input(&g, "w", C, C, true)};
        const size_t product = llm_comp_graph_op(&g, LLM_COMP_GRAPH_MATMUL, in[0], in[3]);
        const size_t a = llm_comp_graph_op(&g, LLM_COMP_GRAPH_ADD, product, in[1]);
        const size_t b = llm_comp_graph_op(&g, LLM_COMP_GRAPH_TANH, a, 0);
        const size_t small = llm_comp_graph_op(&g, LLM_COMP_GRAPH_EXP, in[1], 0); /* a leaf */
        const size_t c = llm_comp_graph_op(&g, LLM_COMP_GRAPH_DIV, b, small);
        const size_t d = llm_comp_graph_op(&g, LLM_COMP_GRAPH_RELU, c, 0);
        const size_t e = llm_comp_graph_op(&g, LLM_COMP_GRAPH_EXP,
                                           llm_comp_graph_op(&g, LLM_COMP_GRAPH_SUB, d, b), 0);
        llm_comp_graph_op(&g, LLM_COMP_GRAPH_TANH, e, 0); /* not asked for */
        const size_t out = llm_comp_graph_op(
            &g, LLM_COMP_GRAPH_LOG,
            llm_comp_graph_op(&g, LLM_COMP_GRAPH_ADD, e,
                              llm_comp_graph_op(&g, LLM_COMP_GRAPH_MUL, in[2], in[2])),
            0);
        const bool wide = C > 1; /* else col * col has the result's shape, and is fused too */
        llm_forward_pass f;
        const llm_forward_pass_feed feed[4] = {
            {in[0], x, R, C}, {in[1], row, 1, C}, {in[2], col, R, 1}, {in[3], w, C, C}};
        /* every node keeps its numbers: each is an output of this plan */
        size_t all[32];
        for (size_t i = 0; i < g.count; i++) all[i] = i;
        CHECK(llm_forward_pass_plan(&f, &g, all, g.count, false, &arena, NULL));
        CHECK(llm_forward_pass_run(&f, feed, 4, NULL));

        llm_forward_pass_chain chain;
        const size_t mark = arena.used;
        CHECK(llm_forward_pass_chain_build(&chain, &g, out, &arena));
        CHECK(arena.used == mark && chain.rows == R && chain.cols == C);
        if (R > 1 && wide) {
            CHECK(chain.leaves == 4 && chain.steps == 8); /* product, row, exp(row), col * col */
        }
        const float *leaf[LLM_FORWARD_PASS_CHAIN_MOST];
        for (size_t k = 0; k < chain.leaves; k++) leaf[k] = f.value[chain.leaf[k].node];
        llm_forward_pass_chain_run(y, &chain, leaf);
        CHECK(!memcmp(y, f.value[out], R * C * sizeof(float)));
    }
}

TEST(forward_pass_chain, "sixteen registers are enough, seventeen are refused") {
    for (size_t steps = 1; steps <= 17; steps++)
        for (size_t leaves = 1; leaves <= 2; leaves++) {
            llm_arena arena = test_arena(1 << 17);
            llm_comp_graph g;
            llm_forward_pass_chain chain;
            llm_comp_graph_create(&g, 24, &arena);
            const size_t x = llm_comp_graph_input(&g, "x", 1, 2, true);
            const size_t z = llm_comp_graph_input(&g, "z", 1, 2, true);
            size_t y = llm_comp_graph_op(&g, LLM_COMP_GRAPH_MUL, x, leaves == 1 ? x : z);
            for (size_t s = 1; s < steps; s++)
                y = llm_comp_graph_op(&g, s % 2 ? LLM_COMP_GRAPH_TANH : LLM_COMP_GRAPH_ADD, y,
                                      leaves == 1 ? x : z);
            const bool fits = steps + leaves <= 16;
            CHECK(llm_forward_pass_chain_build(&chain, &g, y, &arena) == fits);
            if (!fits) continue;
            CHECK(chain.leaves == leaves && chain.steps == steps);
            const float at[4] = {0.5f, -1.5f, 2.0f, 0.25f}, *leaf[2] = {at, at};
            for (size_t k = 0; k < leaves; k++) leaf[k] = chain.leaf[k].node == x ? at : at + 2;
            float got[2];
            llm_forward_pass_chain_run(got, &chain, leaf);
            for (size_t k = 0; k < 2; k++) {
                const float second = leaves == 1 ? at[k] : at[2 + k];
                float want = at[k] * second;
                for (size_t s = 1; s < steps; s++) want = s % 2 ? tanhf(want) : want + second;
                CHECK(got[k] == want);
            }
        }
    llm_arena arena = test_arena(1 << 17);
    llm_comp_graph g;
    llm_forward_pass_chain chain;
    llm_comp_graph_create(&g, 40, &arena);
    size_t y = llm_comp_graph_input(&g, "x", 1, 1, true);
    CHECK_ASSERTS(llm_forward_pass_chain_build(&chain, &g, y, &arena));
    for (size_t k = 0; k < 17; k++) /* seventeen leaves, one below the other */
        y = llm_comp_graph_op(&g, LLM_COMP_GRAPH_ADD, llm_comp_graph_input(&g, "x", 1, 1, true), y);
    CHECK(!llm_forward_pass_chain_build(&chain, &g, y, &arena));
}

TEST(forward_pass_chain, "NaN passes, and the result may be written over a leaf") {
    llm_arena arena = test_arena(1 << 17);
    llm_comp_graph g;
    llm_forward_pass_chain chain;
    llm_comp_graph_create(&g, 4, &arena);
    const size_t x = llm_comp_graph_input(&g, "x", 2, 2, true);
    const size_t y = llm_comp_graph_op(&g, LLM_COMP_GRAPH_RELU, x, 0);
    CHECK(llm_forward_pass_chain_build(&chain, &g, y, &arena));
    float at[4] = {NAN, -1.0f, INFINITY, 2.0f};
    const float *leaf[1] = {at};
    llm_forward_pass_chain_run(at, &chain, leaf);
    CHECK(isnan(at[0]) && at[1] == 0.0f && at[2] == INFINITY && at[3] == 2.0f);
}

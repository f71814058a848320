/* @forward_pass_chain */
#include "../test.h"

#include "../../llm_cuda.cuh"

TEST(forward_pass_chain,
     "the kernel equals the reference: one entry to many blocks, every operation") {
    const size_t shapes[5][2] = {{1, 1}, {3, 5}, {1, 257}, {67, 31}, {0, 4}};
    for (size_t s = 0; s < 5; s++) {
        const size_t R = shapes[s][0], C = shapes[s][1], n = R * C;
        llm_arena arena;
        llm_comp_graph g;
        llm_forward_pass_chain chain;
        CHECK(llm_arena_create(&arena, 1 << 16));
        llm_comp_graph_create(&g, 16, &arena);
        const size_t x = llm_comp_graph_input(&g, "x", R, C, true);
        const size_t row = llm_comp_graph_input(&g, "row", 1, C, true);
        const size_t col = llm_comp_graph_input(&g, "col", R, 1, true);
        size_t y = llm_comp_graph_op(&g, LLM_COMP_GRAPH_ADD, x, row);
        y = llm_comp_graph_op(&g, LLM_COMP_GRAPH_RELU, y, 0);
        y = llm_comp_graph_op(&g, LLM_COMP_GRAPH_MUL, y, col);
        y = llm_comp_graph_op(&g, LLM_COMP_GRAPH_TANH, y, 0);
        y = llm_comp_graph_op(&g, LLM_COMP_GRAPH_SUB, y, x);
        y = llm_comp_graph_op(&g, LLM_COMP_GRAPH_EXP, y, 0);
        y = llm_comp_graph_op(&g, LLM_COMP_GRAPH_DIV, row, y);
        y = llm_comp_graph_op(&g, LLM_COMP_GRAPH_MUL, y, y);
        y = llm_comp_graph_op(&g, LLM_COMP_GRAPH_LOG, y, 0);
        CHECK(llm_forward_pass_chain_build(&chain, &g, y, &arena));
        CHECK(chain.steps == 9 && chain.leaves == 3);

        llm_rng rng = llm_rng_seed(s + 1);
        const size_t size[3] = {n, C, R}, node[3] = {x, row, col};
        const float *host[16] = {NULL}, *device[16] = {NULL};
        for (size_t k = 0; k < 3; k++) {
            float *values = floats(size[k]);
            llm_rng_normal_fill(&rng, values, size[k]);
            for (unsigned l = 0; l < chain.leaves; l++)
                if (chain.leaf[l].node == node[k])
                    host[l] = values, device[l] = to_device(values, size[k]);
        }
        float *want = floats(n), *got = floats(n), *d_y = to_device<float>(NULL, n);
        llm_forward_pass_chain_run(want, &chain, host);
        CHECK(llm_cuda_forward_pass_chain_run(d_y, &chain, device, 0) == cudaSuccess);
        CHECK_ALL_NEAR(from_device(got, d_y, n), want, n, 2e-5f); /* another tanh, exp and log */
        llm_arena_destroy(&arena);
    }
}

TEST(forward_pass_chain, "a rectified -0 keeps its sign, and NaN passes") {
    llm_arena arena;
    llm_comp_graph g;
    llm_forward_pass_chain chain;
    CHECK(llm_arena_create(&arena, 1 << 12));
    llm_comp_graph_create(&g, 4, &arena);
    const size_t x = llm_comp_graph_input(&g, "x", 1, 3, true);
    const size_t y = llm_comp_graph_op(&g, LLM_COMP_GRAPH_RELU, x, 0);
    CHECK(llm_forward_pass_chain_build(&chain, &g, y, &arena));
    const float at[3] = {-0.0f, NAN, -1.0f};
    float got[3], *d_y = to_device<float>(NULL, 3);
    const float *device[1] = {to_device(at, 3)};
    CHECK(llm_cuda_forward_pass_chain_run(d_y, &chain, device, 0) == cudaSuccess);
    from_device(got, d_y, 3);
    CHECK(got[0] == 0.0f && signbit(got[0]) && isnan(got[1]) && got[2] == 0.0f);
    llm_arena_destroy(&arena);
}

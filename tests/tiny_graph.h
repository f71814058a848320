/* Random graphs of @comp_graph whose values stay small, for the suites of @backward_pass and
 * @autodiff_array. Include it behind llm.h. */
#ifndef TINY_GRAPH_H
#define TINY_GRAPH_H

enum { TINY_GRAPH_INPUTS = 4, TINY_GRAPH_NODES = 80 };
typedef struct {
    llm_comp_graph g;
    llm_forward_pass_feed feed[TINY_GRAPH_INPUTS]; /* x (3,4), w (4,4), column (3,1), row (1,4) */
    size_t loss;                                   /* (1,1) */
} tiny_graph;

/* About 12 random operations on what there is, then a sum of everything. kinks allows relu. */
TEST_UNUSED static void tiny_graph_draw(tiny_graph *t, llm_rng *rng, bool kinks, llm_arena *arena) {
    static const char *const name[TINY_GRAPH_INPUTS] = {"x", "w", "column", "row"};
    const size_t shape[TINY_GRAPH_INPUTS][2] = {{3, 4}, {4, 4}, {3, 1}, {1, 4}};
    llm_comp_graph *g = &t->g;
    size_t node[40], count = 0; /* nodes of shape (3,4) to choose from */
    llm_comp_graph_create(g, TINY_GRAPH_NODES, arena);
    for (size_t k = 0; k < TINY_GRAPH_INPUTS; k++) {
        const size_t size = shape[k][0] * shape[k][1];
        float *data = floats(size);
        llm_rng_normal_fill(rng, data, size);
        t->feed[k].node = llm_comp_graph_input(g, name[k], shape[k][0], shape[k][1], true);
        t->feed[k].data = data;
        t->feed[k].rows = shape[k][0], t->feed[k].cols = shape[k][1];
    }
    const size_t w = t->feed[1].node;
    node[count++] = t->feed[0].node;
    node[count++] = llm_comp_graph_op(g, LLM_COMP_GRAPH_MUL, t->feed[2].node, t->feed[3].node);
    node[count++] = llm_comp_graph_op(g, LLM_COMP_GRAPH_SUB, t->feed[0].node, t->feed[2].node);
    for (size_t step = 0; step < 10; step++) {
        const size_t a = node[llm_rng_below(rng, count)], b = node[llm_rng_below(rng, count)];
        size_t y = a;
        switch (llm_rng_below(rng, 8)) {
        case 0:
            y = llm_comp_graph_op(g, LLM_COMP_GRAPH_ADD, a, b);
            break;
        case 1:
            y = llm_comp_graph_op(g, LLM_COMP_GRAPH_MUL, a, b);
            break;
        case 2: /* a / e^tanh(b): never near 0 */
            y = llm_comp_graph_op(g, LLM_COMP_GRAPH_TANH, b, 0);
            y = llm_comp_graph_op(g, LLM_COMP_GRAPH_EXP, y, 0);
            y = llm_comp_graph_op(g, LLM_COMP_GRAPH_DIV, a, y);
            break;
        case 3:
            y = llm_comp_graph_op(g, LLM_COMP_GRAPH_MATMUL, a, w);
            break;
        case 4: /* the mean over rows, repeated */
            y = llm_comp_graph_shaped(g, LLM_COMP_GRAPH_SUM, a, 0, 1, 4);
            y = llm_comp_graph_shaped(g, LLM_COMP_GRAPH_BROADCAST, y, 0, 3, 4);
            break;
        case 5: /* log(1 + e^tanh) */
            y = llm_comp_graph_op(g, LLM_COMP_GRAPH_TANH, a, 0);
            y = llm_comp_graph_op(g, LLM_COMP_GRAPH_EXP, y, 0);
            y = llm_comp_graph_op(g, LLM_COMP_GRAPH_LOG, y, 0);
            break;
        case 6:
            y = llm_comp_graph_shaped(g, LLM_COMP_GRAPH_RESHAPE, a, 0, 4, 3);
            y = llm_comp_graph_shaped(g, LLM_COMP_GRAPH_RESHAPE, y, 0, 3, 4);
            break;
        default:
            y = llm_comp_graph_op(g, kinks ? LLM_COMP_GRAPH_RELU : LLM_COMP_GRAPH_TANH, a, 0);
        }
        node[count++] = llm_comp_graph_op(g, LLM_COMP_GRAPH_TANH, y, 0);
    }
    size_t sum = node[3];
    for (size_t k = 4; k < count; k++) sum = llm_comp_graph_op(g, LLM_COMP_GRAPH_ADD, sum, node[k]);
    t->loss = llm_comp_graph_shaped(g, LLM_COMP_GRAPH_SUM, sum, 0, 1, 1);
    CHECK(!g->error.message[0]);
}
#endif

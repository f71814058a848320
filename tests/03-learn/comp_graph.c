/* @comp_graph */
#include "../test.h"

#include "../../llm.h"
#include "../arena.h"

#define OP(name, a, b) llm_comp_graph_op(&g, LLM_COMP_GRAPH_##name, a, b)
#define TO(name, a, r, c) llm_comp_graph_shaped(&g, LLM_COMP_GRAPH_##name, a, 0, r, c)
enum { NONE = 0 };

static bool cg_is(const llm_comp_graph *g, size_t i, size_t rows, size_t cols, bool varies) {
    return i < g->count && g->node[i].rows == rows && g->node[i].cols == cols &&
           g->node[i].varies == varies;
}

TEST(comp_graph, "shapes follow from the inputs, extents of 1 are repeated, gradients are traced") {
    llm_arena arena = test_arena(1 << 16);
    llm_comp_graph g;
    llm_comp_graph_create(&g, 30, &arena);
    const float two[2] = {1, 2};
    const size_t x = llm_comp_graph_input(&g, "x", 3, 5, false);
    const size_t w = llm_comp_graph_input(&g, "w", 5, 2, true);
    const size_t b = llm_comp_graph_const(&g, "b", two, 1, 2);
    const size_t t = llm_comp_graph_input(&g, "t", 3, 1, false);
    const size_t xw = OP(MATMUL, x, w), z = OP(ADD, xw, b);
    CHECK(cg_is(&g, x, 3, 5, false) && cg_is(&g, w, 5, 2, true) && cg_is(&g, b, 1, 2, false));
    CHECK(cg_is(&g, xw, 3, 2, true) && cg_is(&g, z, 3, 2, true));
    CHECK(g.node[b].data == two && g.node[z].in[0] == xw && g.node[z].in[1] == b);
    CHECK(cg_is(&g, OP(ADD, b, t), 3, 2, false)); /* a row and a column make a table */
    CHECK(cg_is(&g, OP(MUL, t, b), 3, 2, false));
    CHECK(cg_is(&g, OP(SUB, b, z), 3, 2, true) && cg_is(&g, OP(DIV, z, t), 3, 2, true));
    CHECK(cg_is(&g, OP(XENT, z, t), 1, 1, true));
    CHECK(cg_is(&g, TO(SUM, z, 1, 2), 1, 2, true) && cg_is(&g, TO(SUM, z, 3, 1), 3, 1, true));
    CHECK(cg_is(&g, TO(SUM, z, 1, 1), 1, 1, true) && cg_is(&g, TO(SUM, z, 3, 2), 3, 2, true));
    CHECK(cg_is(&g, TO(BROADCAST, b, 7, 2), 7, 2, false));
    CHECK(cg_is(&g, TO(BROADCAST, t, 3, 4), 3, 4, false));
    CHECK(cg_is(&g, TO(RESHAPE, z, 1, 6), 1, 6, true));
    CHECK(cg_is(&g, OP(TANH, z, NONE), 3, 2, true) && cg_is(&g, OP(RELU, x, NONE), 3, 5, false));
    const size_t cut = OP(DETACH, z, NONE);
    CHECK(cg_is(&g, cut, 3, 2, false) && cg_is(&g, OP(EXP, cut, NONE), 3, 2, false));
    CHECK(g.node[cut].in[1] == LLM_COMP_GRAPH_NONE && strcmp(g.node[cut].name, "detach") == 0);
    CHECK(strcmp(g.node[OP(LOG, x, NONE)].name, "log") == 0 && !g.error.message[0]);
}

TEST(comp_graph, "a mismatch is told once, with its node, and everything built on it is NONE") {
    const size_t N = LLM_COMP_GRAPH_NONE;
    llm_arena arena = test_arena(1 << 16);
    llm_comp_graph g;
    llm_comp_graph_create(&g, 12, &arena);
    const size_t x = llm_comp_graph_input(&g, "x", 3, 5, true);
    const size_t y = llm_comp_graph_input(&g, "y", 4, 5, true);
    const size_t z = llm_comp_graph_input(&g, "z", 3, 4, true);
    CHECK(OP(MATMUL, x, y) == N);
    CHECK(strcmp(g.error.message, "node 3: matmul of x (3,5) and (4,5) does not fit") == 0);
    CHECK(OP(ADD, x, y) == N && OP(ADD, x, z) == N && OP(XENT, x, y) == N && OP(XENT, x, z) == N);
    CHECK(TO(SUM, x, 2, 1) == N && TO(SUM, x, 1, 2) == N && TO(BROADCAST, x, 6, 5) == N);
    CHECK(TO(BROADCAST, x, 3, 6) == N && TO(RESHAPE, x, 4, 4) == N);
    CHECK(strstr(g.error.message, "node 3: matmul") && g.count == 3);
    CHECK(OP(TANH, N, 0) == N && OP(ADD, x, N) == N && OP(ADD, N, x) == N && g.count == 3);
    g.error.message[0] = 0;
    CHECK(TO(RESHAPE, x, 4, 4) == N);
    CHECK(strstr(g.error.message, "reshape of x (3,5) and (4,4)"));
    const size_t empty = llm_comp_graph_input(&g, "empty", 0, 5, false);
    const size_t none = llm_comp_graph_input(&g, "none", 0, 1, false);
    CHECK(OP(XENT, empty, none) == N); /* the mean of nothing */
    const size_t one = llm_comp_graph_input(&g, "one", 1, 5, false);
    CHECK(cg_is(&g, OP(XENT, one, llm_comp_graph_input(&g, "class", 1, 1, false)), 1, 1, false));
    CHECK_ASSERTS(OP(ADD, x, g.count));
    CHECK_ASSERTS(OP(ADD, g.count, x));
    CHECK_ASSERTS(llm_comp_graph_op(&g, LLM_COMP_GRAPH_INPUT, x, x));
    CHECK_ASSERTS(llm_comp_graph_op(&g, LLM_COMP_GRAPH_OPS, x, x));
    while (g.count < g.room) OP(TANH, x, NONE);
    CHECK_ASSERTS(OP(TANH, x, NONE));
}

TEST(comp_graph,
     "the order respects every edge; a cycle is found and named where networkx has one") {
    size_t cycles = 0;
    for (size_t c = 0; c < 40; c++) {
        size_t n;
        const float *a = golden_n(&n, "%zu/a", c), *b = golden("%zu/b", c);
        const float *on_cycle = golden("%zu/on_cycle", c);
        llm_arena arena = test_arena(1 << 16);
        llm_comp_graph g;
        llm_comp_graph_create(&g, n, &arena);
        char names[16][24];
        for (size_t i = 0; i < n; i++) {
            snprintf(names[i], sizeof names[i], "v%zu", i);
            llm_comp_graph_input(&g, names[i], 1, 1, false);
            g.node[i].in[0] = a[i] < 0.0f ? LLM_COMP_GRAPH_NONE : (size_t)a[i];
            g.node[i].in[1] = b[i] < 0.0f ? LLM_COMP_GRAPH_NONE : (size_t)b[i];
        }
        const size_t mark = arena.used;
        size_t order[16], place[16], node = 99;
        llm_error error;
        if (golden("%zu/acyclic", c)[0] != 0.0f) {
            CHECK(llm_comp_graph_order(order, &g, &arena, &error));
            for (size_t i = 0; i < n; i++) place[i] = n;
            for (size_t p = 0; p < n; p++) place[order[p]] = p;
            for (size_t i = 0; i < n; i++) {
                CHECK(place[i] < n);
                for (size_t k = 0; k < 2; k++)
                    CHECK(g.node[i].in[k] == LLM_COMP_GRAPH_NONE ||
                          place[g.node[i].in[k]] < place[i]);
            }
        } else {
            CHECK_FAILS(llm_comp_graph_order(order, &g, &arena, &error), error, "has a cycle");
            CHECK(sscanf(error.message, "the graph has a cycle through node %zu", &node) == 1);
            CHECK(node < n && on_cycle[node] != 0.0f);
            CHECK(strstr(error.message, names[node]));
            cycles++;
        }
        CHECK(arena.used == mark);
    }
    CHECK(cycles >= 8 && cycles <= 20); /* the golden cases are of both kinds */
}

TEST(comp_graph, "nothing, and a node that reads itself") {
    llm_arena arena = test_arena(1 << 16);
    llm_comp_graph g;
    llm_error error;
    size_t order[1];
    llm_comp_graph_create(&g, 1, &arena);
    CHECK(llm_comp_graph_order(order, &g, &arena, &error));
    const size_t x = llm_comp_graph_input(&g, "x", 1, 1, false);
    CHECK(llm_comp_graph_order(order, &g, &arena, &error) && order[0] == 0);
    g.node[x].in[1] = x;
    CHECK_FAILS(llm_comp_graph_order(order, &g, &arena, &error), error, "node 0 (x)");
    g.node[x].in[0] = x;
    CHECK_FAILS(llm_comp_graph_order(order, &g, &arena, NULL) || (llm_fail(&error, "x"), false),
                error, "x");
}

TEST(comp_graph,
     "the drawing lists nodes, shapes and edges, and quotes what Graphviz must not see") {
    llm_arena arena = test_arena(1 << 16);
    llm_comp_graph g;
    llm_buffer text = {NULL, 0, 0};
    llm_comp_graph_create(&g, 3, &arena);
    const size_t x = llm_comp_graph_input(&g, "a\"b\\c", 2, 3, true);
    OP(TANH, x, NONE);
    OP(ADD, x, 1);
    CHECK(llm_comp_graph_dot(&text, &g));
    CHECK(strcmp(text.data, "digraph {\n"
                            "  n0 [label=\"a\\\"b\\\\c\\n(2,3)\" shape=box];\n"
                            "  n1 [label=\"tanh\\n(2,3)\"];\n"
                            "  n0 -> n1;\n"
                            "  n2 [label=\"add\\n(2,3)\"];\n"
                            "  n0 -> n2;\n"
                            "  n1 -> n2;\n"
                            "}\n") == 0);
    llm_buffer_free(&text);
}

/* @autodiff_array */
#include "../test.h"

#include "../../llm.h"
#include "../arena.h"

#include "../tiny_graph.h"

#define OP(name, a, b) llm_autodiff_array_op(&t, LLM_AUTODIFF_ARRAY_##name, a, b)
#define MAP(name, a) llm_autodiff_array_map(&t, LLM_AUTODIFF_ARRAY_##name, a, 0.0)
#define POW(a, p) llm_autodiff_array_map(&t, LLM_AUTODIFF_ARRAY_POW, a, p)

static const float *aa_floats(const double *x, size_t n) {
    float *y = floats(n);
    for (size_t i = 0; i < n; i++) y[i] = (float)x[i];
    return y;
}

TEST(autodiff_array, "every operation equals torch: values, gradients, directional derivatives") {
    llm_arena arena = test_arena(1 << 20);
    llm_autodiff_array t;
    llm_autodiff_array_create(&t, 40, &arena);
    const char *const name[4] = {"x", "w", "row", "col"};
    const size_t shape[4][2] = {{3, 4}, {4, 4}, {1, 4}, {3, 1}};
    size_t in[4];
    for (size_t k = 0; k < 4; k++) {
        in[k] = llm_autodiff_array_input(&t, golden("net/%s", name[k]), shape[k][0], shape[k][1]);
        const float *v = golden("net/v%s", name[k]);
        for (size_t i = 0; i < shape[k][0] * shape[k][1]; i++)
            t.node[in[k]].tangent[i] = (double)v[i];
    }
    const size_t h = MAP(TANH, OP(ADD, OP(MATMUL, in[0], in[1]), in[2]));
    const size_t k = OP(
        SUB,
        OP(DIV, MAP(EXP, h), POW(OP(ADD, OP(MUL, h, h), llm_autodiff_array_number(&t, 1.5)), 0.75)),
        OP(MUL, in[3], h));
    const size_t m = MAP(LOG, OP(ADD, MAP(RELU, k), llm_autodiff_array_number(&t, 2.0)));
    const size_t y = OP(MATMUL, MAP(TRANSPOSE, m), OP(SUB, k, llm_autodiff_array_sum(&t, k, 1, 4)));
    const size_t z =
        OP(ADD, llm_autodiff_array_sum(&t, y, 4, 1), llm_autodiff_array_sum(&t, m, 1, 1));
    CHECK(t.node[y].rows == 4 && t.node[y].cols == 4 && t.node[z].rows == 4 && t.node[z].cols == 1);
    CHECK_GOLDEN(aa_floats(t.node[z].value, 4), 4, 2e-7f, "net/z");
    for (size_t round = 0; round < 2; round++) { /* again: nothing is left over */
        llm_autodiff_array_grad(&t, z, golden("net/seed"));
        for (size_t i = 0; i < 4; i++) {
            const size_t size = shape[i][0] * shape[i][1];
            CHECK_GOLDEN(aa_floats(t.node[in[i]].gradient, size), size, 2e-7f, "net/d%s", name[i]);
        }
        llm_autodiff_array_jvp(&t);
        CHECK_GOLDEN(aa_floats(t.node[z].tangent, 4), 4, 3e-7f, "net/jvp");
    }
    llm_autodiff_array_grad(&t, in[0], NULL);
    CHECK(t.node[in[0]].gradient[5] == 1.0 && t.node[z].gradient[0] == 0.0);
}

/* The graph, node by node, on a tape. */
static size_t aa_replay(llm_autodiff_array *t, const tiny_graph *g, size_t *on_tape) {
    static const int op[LLM_COMP_GRAPH_OPS] = {0,
                                               0,
                                               LLM_AUTODIFF_ARRAY_ADD,
                                               LLM_AUTODIFF_ARRAY_SUB,
                                               LLM_AUTODIFF_ARRAY_MUL,
                                               LLM_AUTODIFF_ARRAY_DIV,
                                               LLM_AUTODIFF_ARRAY_MATMUL,
                                               0,
                                               0,
                                               0,
                                               0,
                                               LLM_AUTODIFF_ARRAY_RELU,
                                               LLM_AUTODIFF_ARRAY_TANH,
                                               LLM_AUTODIFF_ARRAY_EXP,
                                               LLM_AUTODIFF_ARRAY_LOG,
                                               0};
    for (size_t i = 0; i < g->g.count; i++) {
        const llm_comp_graph_node *n = &g->g.node[i];
        const size_t a = n->in[0] == LLM_COMP_GRAPH_NONE ? 0 : on_tape[n->in[0]];
        const size_t b = n->in[1] == LLM_COMP_GRAPH_NONE ? 0 : on_tape[n->in[1]];
        if (n->op == LLM_COMP_GRAPH_INPUT) {
            on_tape[i] = llm_autodiff_array_input(t, g->feed[i].data, n->rows, n->cols);
        } else if (n->op <= LLM_COMP_GRAPH_MATMUL) {
            on_tape[i] = llm_autodiff_array_op(t, op[n->op], a, b);
        } else if (n->op == LLM_COMP_GRAPH_SUM) {
            on_tape[i] = llm_autodiff_array_sum(t, a, n->rows, n->cols);
        } else if (n->op == LLM_COMP_GRAPH_BROADCAST) {
            float *none = zeros(n->rows * n->cols);
            on_tape[i] = llm_autodiff_array_op(
                t, LLM_AUTODIFF_ARRAY_ADD, llm_autodiff_array_input(t, none, n->rows, n->cols), a);
        } else if (n->op == LLM_COMP_GRAPH_RESHAPE) { /* there and back again: only back is read */
            on_tape[i] = a;
        } else {
            on_tape[i] = llm_autodiff_array_map(t, op[n->op], a, 0.0);
        }
    }
    return on_tape[g->loss];
}

TEST(autodiff_array, "100 random graphs: @backward_pass in float agrees with the tape in double") {
    for (size_t round = 0; round < 100; round++) {
        llm_arena arena = test_arena(1 << 20);
        llm_rng rng = llm_rng_seed(500 + round);
        tiny_graph g;
        llm_forward_pass f;
        llm_autodiff_array t;
        size_t on_tape[TINY_GRAPH_NODES];
        float *grad[TINY_GRAPH_NODES] = {NULL};
        tiny_graph_draw(&g, &rng, true, &arena);
        llm_autodiff_array_create(&t, TINY_GRAPH_NODES, &arena);
        const size_t loss = aa_replay(&t, &g, on_tape);
        llm_autodiff_array_grad(&t, loss, NULL);
        CHECK(llm_forward_pass_plan(&f, &g.g, &g.loss, 1, true, &arena, NULL));
        CHECK(llm_forward_pass_run(&f, g.feed, TINY_GRAPH_INPUTS, NULL));
        CHECK_NEAR(f.value[g.loss][0], t.node[loss].value[0], 1e-5);
        for (size_t k = 0; k < TINY_GRAPH_INPUTS; k++)
            grad[g.feed[k].node] = zeros(g.feed[k].rows * g.feed[k].cols);
        CHECK(llm_backward_pass_run(grad, &f, g.loss, NULL, false, NULL, NULL, &arena, NULL));
        for (size_t k = 0; k < TINY_GRAPH_INPUTS; k++) {
            const size_t size = g.feed[k].rows * g.feed[k].cols, i = g.feed[k].node;
            const double *want = t.node[on_tape[i]].gradient;
            for (size_t e = 0; e < size; e++) /* gradients of up to some tens, in float */
                CHECK_NEAR(grad[i][e], want[e], 1e-4 * (1.0 + fabs(want[e])));
        }
    }
}

TEST(autodiff_array,
     "an oracle: the backward pass of @layernorm, written by hand, equals the tape's") {
    const size_t shapes[4][2] = {{1, 2}, {3, 5}, {2, 17}, {4, 64}};
    for (size_t s = 0; s < 4; s++) {
        const size_t N = shapes[s][0], C = shapes[s][1], n = N * C;
        float *x = floats(n), *w = floats(C), *b = floats(C), *dy = floats(n), *y = floats(n);
        float *mean = floats(N), *rstd = floats(N), *dx = zeros(n), *dw = zeros(C), *db = zeros(C);
        llm_rng rng = llm_rng_seed(20 + s);
        llm_rng_normal_fill(&rng, x, n);
        llm_rng_normal_fill(&rng, w, C);
        llm_rng_normal_fill(&rng, b, C);
        llm_rng_normal_fill(&rng, dy, n);
        llm_layernorm_forward(y, mean, rstd, x, w, b, N, C, 1e-2f);
        llm_layernorm_backward(dx, dw, db, dy, x, w, mean, rstd, N, C);

        llm_arena arena = test_arena(1 << 20);
        llm_autodiff_array t;
        llm_autodiff_array_create(&t, 20, &arena);
        const size_t X = llm_autodiff_array_input(&t, x, N, C),
                     W = llm_autodiff_array_input(&t, w, 1, C);
        const size_t B = llm_autodiff_array_input(&t, b, 1, C),
                     c = llm_autodiff_array_number(&t, (double)C);
        const size_t off = OP(SUB, X, OP(DIV, llm_autodiff_array_sum(&t, X, N, 1), c));
        const size_t var = OP(DIV, llm_autodiff_array_sum(&t, OP(MUL, off, off), N, 1), c);
        const size_t r = POW(OP(ADD, var, llm_autodiff_array_number(&t, (double)1e-2f)), -0.5);
        const size_t Y = OP(ADD, OP(MUL, OP(MUL, off, r), W), B);
        llm_autodiff_array_grad(&t, Y, dy);
        CHECK_ALL_NEAR(y, aa_floats(t.node[Y].value, n), n, 2e-6f);
        CHECK_ALL_NEAR(dx, aa_floats(t.node[X].gradient, n), n, 2e-5f);
        CHECK_ALL_NEAR(dw, aa_floats(t.node[W].gradient, C), C, 1e-5f);
        CHECK_ALL_NEAR(db, aa_floats(t.node[B].gradient, C), C, 2e-6f);
    }
}

TEST(autodiff_array, "an oracle: @swiglu's gradients, and softmax's, equal the tape's") {
    enum { n = 37 };
    float gate[n], up[n], dy[n], dgate[n] = {0}, dup[n] = {0};
    llm_rng rng = llm_rng_seed(30);
    llm_rng_normal_fill(&rng, gate, n);
    llm_rng_normal_fill(&rng, up, n);
    llm_rng_normal_fill(&rng, dy, n);
    llm_swiglu_backward(dgate, dup, dy, gate, up, n);
    llm_arena arena = test_arena(1 << 20);
    llm_autodiff_array t;
    llm_autodiff_array_create(&t, 20, &arena);
    const size_t g = llm_autodiff_array_input(&t, gate, 1, n),
                 u = llm_autodiff_array_input(&t, up, 1, n);
    const size_t one = llm_autodiff_array_number(&t, 1.0),
                 zero = llm_autodiff_array_number(&t, 0.0);
    const size_t s = OP(DIV, one, OP(ADD, one, MAP(EXP, OP(SUB, zero, g))));
    const size_t y = OP(MUL, OP(MUL, g, s), u);
    llm_autodiff_array_grad(&t, y, dy);
    CHECK_ALL_NEAR(dgate, aa_floats(t.node[g].gradient, n), n, 2e-6f);
    CHECK_ALL_NEAR(dup, aa_floats(t.node[u].gradient, n), n, 2e-6f);

    t.count = u + 1; /* rewind; the numbers of the inputs are still there */
    const size_t e = MAP(EXP, g), p = OP(DIV, e, llm_autodiff_array_sum(&t, e, 1, 1));
    llm_autodiff_array_grad(&t, p, dy);
    const double *q = t.node[p].value;
    double along = 0.0;
    for (size_t i = 0; i < n; i++) along += q[i] * (double)dy[i];
    for (size_t i = 0; i < n; i++) /* softmax: p (dy - p.dy) */
        CHECK_NEAR(t.node[g].gradient[i], q[i] * ((double)dy[i] - along), 1e-14);
}

TEST(autodiff_array, "what does not fit is refused, NaN passes, the kink of relu has slope 0") {
    llm_arena arena = test_arena(1 << 20);
    llm_autodiff_array t;
    llm_autodiff_array_create(&t, 6, &arena);
    const float x[6] = {0.0f, NAN, -1.0f, 2.0f, INFINITY, 1.0f};
    const size_t a = llm_autodiff_array_input(&t, x, 2, 3),
                 b = llm_autodiff_array_input(&t, x, 3, 2);
    CHECK_ASSERTS(OP(ADD, a, b));
    CHECK_ASSERTS(OP(MATMUL, a, a));
    llm_autodiff_array s;
    llm_autodiff_array_create(&s, 12, &arena);
    const float many[12] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
    const size_t extent[5][2] = {{2, 3}, {3, 3}, {2, 2}, {1, 3}, {2, 1}};
    size_t in[5];
    for (size_t k = 0; k < 5; k++)
        in[k] = llm_autodiff_array_input(&s, many, extent[k][0], extent[k][1]);
    for (size_t k = 1; k < 3; k++) { /* one extent differs */
        CHECK_ASSERTS(llm_autodiff_array_op(&s, LLM_AUTODIFF_ARRAY_ADD, in[0], in[k]));
        CHECK_ASSERTS(llm_autodiff_array_op(&s, LLM_AUTODIFF_ARRAY_ADD, in[k], in[0]));
    }
    for (size_t k = 3; k < 5; k++) /* the repeated one first, and second */
        for (int turn = 0; turn < 2; turn++) {
            const size_t sum = llm_autodiff_array_op(&s, LLM_AUTODIFF_ARRAY_ADD, in[turn ? 0 : k],
                                                     in[turn ? k : 0]);
            CHECK(s.node[sum].rows == 2 && s.node[sum].cols == 3);
            CHECK(s.node[sum].value[5] == 6.0 + (k == 3 ? 3.0 : 2.0));
        }
    llm_autodiff_array_node node;
    double p = 9.0, q = 9.0;
    memset(&node, 0, sizeof node);
    node.op = LLM_AUTODIFF_ARRAY_EXP;
    CHECK(llm_autodiff_array_entry(&p, &q, &node, 0.0, 5.0) == 1.0 && p == 1.0 && q == 0.0);
    CHECK_ASSERTS(OP(EXP, a, a));
    CHECK_ASSERTS(OP(INPUT, a, a));
    CHECK_ASSERTS(MAP(ADD, a));
    CHECK_ASSERTS(llm_autodiff_array_sum(&t, a, 3, 1));
    CHECK_ASSERTS(llm_autodiff_array_sum(&t, a, 1, 2));
    const size_t y = MAP(RELU, a);
    CHECK(isnan(t.node[y].value[1]) && t.node[y].value[2] == 0.0 && t.node[y].value[3] == 2.0);
    llm_autodiff_array_grad(&t, y, NULL);
    const double *d = t.node[a].gradient;
    CHECK(d[0] == 0.0 && d[1] == 0.0 && d[2] == 0.0 && d[3] == 1.0 && d[4] == 1.0);
    llm_autodiff_array_jvp(&t);
    CHECK(t.node[y].gradient[0] == 1.0); /* the way forth leaves the way back alone */
    const size_t whole = llm_autodiff_array_sum(&s, in[0], 2, 3); /* over nothing */
    for (size_t k = 0; k < 6; k++) CHECK(s.node[whole].value[k] == (double)many[k]);
    while (t.count < t.room) llm_autodiff_array_number(&t, 1.0);
    CHECK_ASSERTS(llm_autodiff_array_number(&t, 1.0));
}

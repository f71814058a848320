/* @backward_pass */
#include "../test.h"

#include "../../llm.h"
#include "../arena.h"

#include "../tiny_graph.h"

#define OP(name, a, b) llm_comp_graph_op(&g, LLM_COMP_GRAPH_##name, a, b)
#define TO(name, a, r, c) llm_comp_graph_shaped(&g, LLM_COMP_GRAPH_##name, a, 0, r, c)

TEST(backward_pass,
     "a graph with every operation equals torch.autograd, from a loss and from a seed") {
    const size_t sizes[3] = {1, 4, 9};
    const char *const name[6] = {"x", "w", "row", "col", "v", "t"};
    for (size_t s = 0; s < 3; s++) {
        const size_t N = sizes[s];
        const size_t shape[6][2] = {{N, 3}, {3, 5}, {1, 5}, {N, 1}, {5, 4}, {N, 1}};
        const float half[1] = {0.5f}, one_half[1] = {1.5f}, two[1] = {2.0f}, three[1] = {3.0f};
        const float first[5] = {1, 0, 0, 0, 0};
        llm_arena arena = test_arena(1 << 17);
        llm_comp_graph g;
        llm_forward_pass f;
        llm_forward_pass_feed feed[6];
        size_t in[6];
        llm_comp_graph_create(&g, 50, &arena);
        for (size_t k = 0; k < 6; k++) {
            in[k] = llm_comp_graph_input(&g, name[k], shape[k][0], shape[k][1], k < 5);
            feed[k].node = in[k], feed[k].data = golden("%zu/%s", N, name[k]);
            feed[k].rows = shape[k][0], feed[k].cols = shape[k][1];
        }
        const size_t h = OP(TANH, OP(ADD, OP(MATMUL, in[0], in[1]), in[2]), 0);
        const size_t below =
            OP(ADD, llm_comp_graph_const(&g, "1.5", one_half, 1, 1), OP(MUL, h, h));
        const size_t e = OP(EXP, OP(MUL, h, llm_comp_graph_const(&g, "0.5", half, 1, 1)), 0);
        const size_t k = OP(SUB, OP(DIV, e, below), OP(MUL, in[3], h));
        const size_t l =
            OP(LOG, OP(ADD, llm_comp_graph_const(&g, "2", two, 1, 1), OP(RELU, k, 0)), 0);
        const size_t m = OP(ADD, l, TO(BROADCAST, TO(SUM, k, 1, 5), N, 5));
        const size_t flat = TO(RESHAPE, TO(RESHAPE, m, 5 * N, 1), N, 5);
        const size_t cut = OP(MATMUL, OP(DETACH, h, 0), llm_comp_graph_const(&g, "e", first, 5, 1));
        const size_t logits = OP(ADD, OP(MATMUL, flat, in[4]),
                                 OP(MUL, cut, llm_comp_graph_const(&g, "3", three, 1, 1)));
        const size_t out[2] = {logits, OP(XENT, logits, in[5])};
        CHECK(!g.error.message[0]);
        CHECK(llm_forward_pass_plan(&f, &g, out, 2, true, &arena, NULL));
        CHECK(llm_forward_pass_run(&f, feed, 6, NULL));
        CHECK_GOLDEN(f.value[out[1]], 1, 2e-6f, "%zu/loss", N);
        const size_t forward = f.operations;

        float *grad[50] = {NULL}, *by_seed[50] = {NULL};
        for (size_t i = 0; i < 6; i++) {
            grad[in[i]] = zeros(shape[i][0] * shape[i][1]);
            by_seed[in[i]] = zeros(shape[i][0] * shape[i][1]);
        }
        const size_t mark = arena.used;
        CHECK(llm_backward_pass_run(grad, &f, out[1], NULL, true, NULL, NULL, &arena, NULL));
        CHECK(f.operations <= 3 * forward && f.operations > forward && arena.used == mark);
        CHECK(llm_backward_pass_run(by_seed, &f, logits, golden("%zu/seed", N), false, NULL, NULL,
                                    &arena, NULL));
        for (size_t i = 0; i < 5; i++) {
            const size_t size = shape[i][0] * shape[i][1];
            CHECK_GOLDEN(grad[in[i]], size, 3e-6f, "%zu/d%s", N, name[i]);
            CHECK_GOLDEN(by_seed[in[i]], size, 5e-6f, "%zu/s%s", N, name[i]);
        }
        CHECK(grad[in[5]][0] == 0.0f); /* classes have no gradient */
    }
}

TEST(backward_pass, "each operation agrees with differences, broadcast or not") {
    const size_t shape[5][4] = {
        {3, 4, 3, 4}, {3, 4, 1, 4}, {3, 1, 3, 4}, {1, 1, 3, 4}, {3, 1, 1, 4}};
    llm_rng rng = llm_rng_seed(1);
    for (size_t s = 0; s < 5; s++)
        for (int op = LLM_COMP_GRAPH_ADD; op < LLM_COMP_GRAPH_DETACH; op++) {
            const size_t *z = shape[s];
            const bool two = op <= LLM_COMP_GRAPH_XENT;
            if (op == LLM_COMP_GRAPH_XENT) continue; /* in the golden graph, and below */
            llm_arena arena = test_arena(1 << 17);
            llm_comp_graph g;
            llm_forward_pass f;
            llm_comp_graph_create(&g, 4, &arena);
            const bool product = op == LLM_COMP_GRAPH_MATMUL;
            const size_t rb = product ? z[1] : z[2], cb = product ? 5 : z[3];
            float *a = floats(z[0] * z[1]), *b = floats(rb * cb), *seed = floats(40);
            /* between 0.5 and 2 in size: no kink, no pole near; log needs them positive */
            for (size_t k = 0; k < z[0] * z[1]; k++)
                a[k] = (0.5f + 1.5f * llm_rng_uniform(&rng)) *
                       (op == LLM_COMP_GRAPH_LOG || llm_rng_below(&rng, 2) ? 1.0f : -1.0f);
            for (size_t k = 0; k < rb * cb; k++)
                b[k] =
                    (0.5f + 1.5f * llm_rng_uniform(&rng)) * (llm_rng_below(&rng, 2) ? 1.0f : -1.0f);
            llm_rng_normal_fill(&rng, seed, 40);
            const size_t x = llm_comp_graph_input(&g, "a", z[0], z[1], true);
            const size_t w = llm_comp_graph_input(&g, "b", rb, cb, true);
            const size_t r = op == LLM_COMP_GRAPH_SUM         ? (s == 2 ? 1 : z[0])
                             : op == LLM_COMP_GRAPH_BROADCAST ? 3
                                                              : z[0] * z[1];
            const size_t c = op == LLM_COMP_GRAPH_SUM         ? (s == 1 ? z[1] : 1)
                             : op == LLM_COMP_GRAPH_BROADCAST ? 4
                                                              : 1;
            const size_t y = llm_comp_graph_shaped(&g, op, x, w, r, c);
            CHECK(!g.error.message[0]);
            CHECK(llm_forward_pass_plan(&f, &g, &y, 1, true, &arena, NULL));
            llm_forward_pass_feed feed[2] = {{x, a, z[0], z[1]}, {w, b, rb, cb}};
            /* rounding 1e-7 * 10 / 1e-2 and curvature 1e-4: measured 4e-4 at most */
            CHECK(llm_backward_pass_gradcheck(&f, feed, 2, 0, y, seed, 1e-2f, &arena) < 1e-3);
            CHECK(feed[0].data == a);
            if (two)
                CHECK(llm_backward_pass_gradcheck(&f, feed, 2, 1, y, seed, 1e-2f, &arena) < 1e-3);
        }
}

TEST(backward_pass, "50 random graphs agree with differences in every input") {
    double worst = 0.0;
    for (size_t round = 0; round < 50; round++) {
        llm_arena arena = test_arena(1 << 17);
        llm_rng rng = llm_rng_seed(10 + round);
        tiny_graph t;
        llm_forward_pass f;
        tiny_graph_draw(&t, &rng, false, &arena);
        CHECK(llm_forward_pass_plan(&f, &t.g, &t.loss, 1, true, &arena, NULL));
        for (size_t k = 0; k < TINY_GRAPH_INPUTS; k++) {
            const double off = llm_backward_pass_gradcheck(&f, t.feed, TINY_GRAPH_INPUTS, k, t.loss,
                                                           NULL, 1e-2f, &arena);
            worst = fmax(worst, off);
        }
    }
    CHECK(worst < 1e-2); /* 4e-3: the curvature of ten nested operations, times 1e-4 */
}

/* Counts calls; doubles the cotangent of one node. */
typedef struct {
    size_t calls, node;
} bp_hook_state;
static void bp_hook(void *context, size_t node, float *dy, size_t size) {
    bp_hook_state *s = (bp_hook_state *)context;
    s->calls++;
    for (size_t k = 0; node == s->node && k < size; k++) dy[k] *= 2.0f;
}

TEST(backward_pass, "fan-out, accumulation, use once, detach, hooks, unused branches") {
    llm_arena arena = test_arena(1 << 17);
    llm_error error;
    llm_comp_graph g;
    llm_forward_pass f;
    llm_comp_graph_create(&g, 12, &arena);
    const float x[3] = {1.0f, -2.0f, 0.5f}, ones[3] = {1, 1, 1};
    const size_t in = llm_comp_graph_input(&g, "x", 1, 3, true);
    const size_t fixed = llm_comp_graph_input(&g, "fixed", 1, 3, false);
    const size_t square = OP(MUL, in, in), y = OP(ADD, square, in);
    const size_t cut = OP(MUL, OP(DETACH, in, 0), in), never = OP(EXP, in, 0);
    const size_t dead = OP(EXP, fixed, 0);
    const size_t out[4] = {y, cut, never, dead};
    const llm_forward_pass_feed feed[2] = {{in, x, 1, 3}, {fixed, x, 1, 3}};
    CHECK(llm_forward_pass_plan(&f, &g, out, 4, true, &arena, &error));
    float *grad[12] = {NULL}, dx[3] = {10, 20, 30}, d_square[3] = {0}, d_never[3] = {0};
    grad[in] = dx, grad[square] = d_square, grad[never] = d_never;

    CHECK_FAILS(llm_backward_pass_run(grad, &f, y, ones, true, NULL, NULL, &arena, &error), error,
                "needs a forward pass");
    CHECK(llm_forward_pass_run(&f, feed, 2, &error));
    CHECK_FAILS(llm_backward_pass_run(grad, &f, dead, ones, true, NULL, NULL, &arena, &error),
                error, "exp depends on nothing");
    CHECK_ASSERTS(llm_backward_pass_run(grad, &f, y, NULL, true, NULL, NULL, &arena, &error));
    bp_hook_state state = {0, 99};
    CHECK(llm_backward_pass_run(grad, &f, y, ones, true, bp_hook, &state, &arena, &error));
    for (size_t k = 0; k < 3; k++) {
        CHECK(dx[k] == 10.0f * (float)(k + 1) + 2.0f * x[k] + 1.0f); /* added to what was there */
        CHECK(d_square[k] == 1.0f && d_never[k] == 0.0f);
    }
    CHECK(state.calls == 3); /* y, square, x */
    CHECK(llm_backward_pass_run(grad, &f, y, ones, true, NULL, NULL, &arena, &error));
    for (size_t k = 0; k < 3; k++)
        CHECK(dx[k] == 10.0f * (float)(k + 1) + 2.0f * (2.0f * x[k] + 1.0f));

    memset(dx, 0, sizeof dx);
    state.node = square;
    CHECK(llm_backward_pass_run(grad, &f, y, ones, true, bp_hook, &state, &arena, &error));
    for (size_t k = 0; k < 3; k++) CHECK(dx[k] == 4.0f * x[k] + 1.0f);
    memset(dx, 0, sizeof dx);
    CHECK(llm_backward_pass_run(grad, &f, cut, ones, false, NULL, NULL, &arena, &error));
    for (size_t k = 0; k < 3; k++) CHECK(dx[k] == x[k]); /* not 2 x */
    CHECK_FAILS(llm_backward_pass_run(grad, &f, cut, ones, false, NULL, NULL, &arena, &error),
                error, "needs a forward pass");
    CHECK(llm_forward_pass_run(&f, feed, 2, &error));
    CHECK(llm_backward_pass_run(grad, &f, cut, ones, false, NULL, NULL, &arena, &error));

    CHECK(llm_forward_pass_plan(&f, &g, out, 4, false, &arena, &error));
    CHECK(llm_forward_pass_run(&f, feed, 2, &error));
    CHECK_FAILS(llm_backward_pass_run(grad, &f, y, ones, true, NULL, NULL, &arena, &error), error,
                "for training");
}

TEST(backward_pass, "signs beyond 32 entries; a square is no number; what is counted") {
    llm_arena arena = test_arena(1 << 17);
    llm_comp_graph g;
    llm_forward_pass f;
    llm_comp_graph_create(&g, 8, &arena);
    float x[33], w[15] = {0}, ones[33], dx[33] = {0}, *grad[8] = {NULL};
    for (size_t k = 0; k < 33; k++) x[k] = k == 32 ? 1.0f : -1.0f, ones[k] = 1.0f;
    const size_t in = llm_comp_graph_input(&g, "x", 1, 33, true), y = OP(RELU, in, 0);
    const size_t a = llm_comp_graph_input(&g, "a", 2, 3, true);
    const size_t b = llm_comp_graph_input(&g, "b", 3, 5, true);
    const size_t product = OP(MATMUL, a, b);
    const size_t sum = TO(SUM, product, 1, 5), out[2] = {y, sum};
    const llm_forward_pass_feed feed[3] = {{in, x, 1, 33}, {a, x, 2, 3}, {b, w, 3, 5}};
    CHECK(!g.error.message[0] && llm_forward_pass_plan(&f, &g, out, 2, true, &arena, NULL));
    CHECK(llm_forward_pass_run(&f, feed, 3, NULL));
    grad[in] = dx;
    CHECK(llm_backward_pass_run(grad, &f, y, ones, true, NULL, NULL, &arena, NULL));
    for (size_t k = 0; k < 33; k++) CHECK(dx[k] == (k == 32 ? 1.0f : 0.0f));
    const size_t before = f.operations; /* the sum: 10; the product: 2 * 3 * 5 for each side */
    CHECK(llm_backward_pass_run(grad, &f, sum, ones, true, NULL, NULL, &arena, NULL));
    CHECK(f.operations - before == 10 + 2 * 30);

    llm_comp_graph_create(&g, 8, &arena);
    const size_t two = llm_comp_graph_input(&g, "two", 2, 2, true), e = OP(EXP, two, 0);
    const llm_forward_pass_feed only[1] = {{two, x, 2, 2}};
    CHECK(llm_forward_pass_plan(&f, &g, &e, 1, true, &arena, NULL));
    CHECK(llm_forward_pass_run(&f, only, 1, NULL));
    CHECK_ASSERTS(llm_backward_pass_run(grad, &f, e, NULL, true, NULL, NULL, &arena, NULL));
}

TEST(backward_pass, "a check fails when the gradient is wrong, in any entry") {
    llm_arena arena = test_arena(1 << 17);
    llm_comp_graph g;
    llm_forward_pass f;
    llm_comp_graph_create(&g, 4, &arena);
    const float x[2] = {0.7f, 5.0f};
    const size_t in = llm_comp_graph_input(&g, "x", 1, 2, true);
    const size_t y = OP(ADD, OP(DETACH, in, 0), in); /* slope 2, gradient 1 */
    const float seed[2] = {1.0f, 1.0f};
    CHECK(llm_forward_pass_plan(&f, &g, &y, 1, true, &arena, NULL));
    llm_forward_pass_feed feed[1] = {{in, x, 1, 2}};
    CHECK_NEAR(llm_backward_pass_gradcheck(&f, feed, 1, 0, y, seed, 1e-2f, &arena), 1.0 / 3.0,
               1e-4);
    CHECK(!f.ready);
    for (size_t k = 0; k < 2; k++) { /* only one entry of the gradient is wrong */
        const float mask[2] = {k == 0 ? 1.0f : 0.0f, k == 1 ? 1.0f : 0.0f};
        llm_comp_graph_create(&g, 6, &arena);
        const size_t it = llm_comp_graph_input(&g, "x", 1, 2, true);
        const size_t part = OP(MUL, OP(DETACH, it, 0), llm_comp_graph_const(&g, "m", mask, 1, 2));
        const size_t whole = OP(ADD, part, it);
        llm_forward_pass_feed one[1] = {{it, x, 1, 2}};
        CHECK(llm_forward_pass_plan(&f, &g, &whole, 1, true, &arena, NULL));
        const size_t mark = arena.used;
        CHECK_NEAR(llm_backward_pass_gradcheck(&f, one, 1, 0, whole, seed, 1e-2f, &arena),
                   1.0 / 3.0, 1e-4);
        CHECK(arena.used == mark);
    }
    feed[0].cols = 1; /* not the node's shape: nothing can be run */
    CHECK(llm_backward_pass_gradcheck(&f, feed, 1, 0, y, seed, 1e-2f, &arena) == (double)INFINITY);
}

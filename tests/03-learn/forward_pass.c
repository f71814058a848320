/* @forward_pass */
#include "../test.h"

#include "../../llm.h"
#include "../arena.h"

#define OP(name, a, b) llm_comp_graph_op(&net->g, LLM_COMP_GRAPH_##name, a, b)

/* The net of the golden file: relu(tanh(x w1 + b1) w2) * s, times w3 + b3, cross-entropy with t. */
typedef struct {
    llm_comp_graph g;
    llm_forward_pass f;
    llm_forward_pass_feed feed[8];
    size_t out[2]; /* logits, loss */
} fp_net;

static const char *const fp_name[8] = {"x", "w1", "b1", "w2", "s", "w3", "b3", "t"};

static void fp_build(fp_net *net, size_t N, bool train, llm_arena *arena) {
    const size_t shape[8][2] = {{N, 3}, {3, 7}, {1, 7}, {7, 6}, {N, 1}, {6, 4}, {1, 4}, {N, 1}};
    size_t in[8];
    llm_comp_graph_create(&net->g, 24, arena);
    for (size_t k = 0; k < 8; k++) {
        in[k] =
            llm_comp_graph_input(&net->g, fp_name[k], shape[k][0], shape[k][1], k != 0 && k != 7);
        net->feed[k].node = in[k];
        net->feed[k].data = NULL;
        net->feed[k].rows = shape[k][0], net->feed[k].cols = shape[k][1];
    }
    const size_t hidden = OP(TANH, OP(ADD, OP(MATMUL, in[0], in[1]), in[2]), 0);
    const size_t second = OP(MUL, OP(RELU, OP(MATMUL, hidden, in[3]), 0), in[4]);
    OP(EXP, second, 0); /* nobody reads it */
    net->out[0] = OP(ADD, OP(MATMUL, second, in[5]), in[6]);
    net->out[1] = OP(XENT, net->out[0], in[7]);
    CHECK(!net->g.error.message[0]);
    CHECK(llm_forward_pass_plan(&net->f, &net->g, net->out, 2, train, arena, NULL));
}

TEST(forward_pass,
     "a net of three layers equals torch; training and evaluation agree bit for bit") {
    const size_t sizes[3] = {1, 5, 13};
    for (size_t s = 0; s < 3; s++) {
        const size_t N = sizes[s];
        llm_arena arena = test_arena(1 << 17);
        fp_net net[2];
        for (int train = 0; train < 2; train++) {
            fp_build(&net[train], N, train, &arena);
            for (size_t k = 0; k < 8; k++)
                net[train].feed[k].data = golden("%zu/%s", N, fp_name[k]);
            memset(net[train].f.memory, 255, net[train].f.floats * sizeof(float)); /* NaN */
            CHECK(llm_forward_pass_run(&net[train].f, net[train].feed, 8, NULL));
            CHECK_GOLDEN(net[train].f.value[net[train].out[0]], N * 4, 2e-6f, "%zu/logits", N);
            CHECK_GOLDEN(net[train].f.value[net[train].out[1]], 1, 2e-6f, "%zu/loss", N);
            CHECK(net[train].f.ready == (train == 1));
        }
        CHECK(!memcmp(net[0].f.value[net[0].out[0]], net[1].f.value[net[1].out[0]],
                      N * 4 * sizeof(float)));
        CHECK(*net[0].f.value[net[0].out[1]] == *net[1].f.value[net[1].out[1]]);
        CHECK(net[0].f.floats < net[1].f.floats && net[0].f.saved == 0);
    }
}

TEST(forward_pass, "a batch of 13 equals 13 runs of one row, bit for bit") {
    const size_t N = 13;
    llm_arena arena = test_arena(1 << 17);
    fp_net whole, one;
    fp_build(&whole, N, false, &arena);
    fp_build(&one, 1, false, &arena);
    for (size_t k = 0; k < 8; k++)
        one.feed[k].data = whole.feed[k].data = golden("13/%s", fp_name[k]);
    CHECK(llm_forward_pass_run(&whole.f, whole.feed, 8, NULL));
    for (size_t n = 0; n < N; n++) {
        one.feed[0].data = whole.feed[0].data + 3 * n;
        one.feed[4].data = whole.feed[4].data + n;
        one.feed[7].data = whole.feed[7].data + n;
        CHECK(llm_forward_pass_run(&one.f, one.feed, 8, NULL));
        CHECK(!memcmp(one.f.value[one.out[0]], whole.f.value[whole.out[0]] + 4 * n,
                      4 * sizeof(float)));
    }
}

TEST(forward_pass, "operations, traffic and saved bytes are those of the closed forms") {
    llm_arena arena = test_arena(1 << 17);
    fp_net net;
    const size_t N = 13;
    fp_build(&net, N, true, &arena);
    for (size_t k = 0; k < 8; k++) net.feed[k].data = golden("13/%s", fp_name[k]);
    CHECK(llm_forward_pass_run(&net.f, net.feed, 8, NULL));
    const size_t products = N * 3 * 7 + N * 7 * 6 + N * 6 * 4;
    const size_t rest = N * 7 + N * 7 + N * 6 + N * 6 + N * 4 + N * 4;
    CHECK(net.f.operations == products + rest);
    const size_t moved = (N * 3 + 21 + N * 7) + (N * 7 + 7 + N * 7) + (N * 7 + N * 7) +
                         (N * 7 + 42 + N * 6) + (N * 6 + N * 6) + (N * 6 + N + N * 6) +
                         (N * 6 + 24 + N * 4) + (N * 4 + 4 + N * 4) + (N * 4 + N + 1);
    CHECK(net.f.moved == moved * 4);
    /* x for w1 (its own gradient is not wanted, so w1 is not kept); tanh's y, which is w2's input
     * too; w2; a bit each for relu; relu's y and s; the product and w3; softmax and t */
    const size_t saved =
        N * 3 + N * 7 + 42 + (N * 6 + 31) / 32 + N * 6 + N + N * 6 + 24 + N * 4 + N;
    CHECK(net.f.saved == saved * 4);

    /* one operation each, between an input x that varies and one that does not or does */
    const int op[8] = {LLM_COMP_GRAPH_MATMUL, LLM_COMP_GRAPH_MUL,   LLM_COMP_GRAPH_DIV,
                       LLM_COMP_GRAPH_LOG,    LLM_COMP_GRAPH_EXP,   LLM_COMP_GRAPH_ADD,
                       LLM_COMP_GRAPH_RELU,   LLM_COMP_GRAPH_DETACH};
    const size_t want[8][3] = {{49, 49, 98}, {49, 49, 98}, {49, 98, 98}, {49, 0, 49},
                               {49, 0, 49},  {0, 0, 0},    {2, 0, 2},    {0, 0, 0}};
    for (size_t k = 0; k < 8; k++)
        for (size_t which = 0; which < 3; which++) {
            llm_comp_graph g;
            llm_forward_pass f;
            llm_comp_graph_create(&g, 3, &arena);
            const size_t a = llm_comp_graph_input(&g, "a", 7, 7, which != 1);
            const size_t b = llm_comp_graph_input(&g, "b", 7, 7, which != 0);
            const size_t y = llm_comp_graph_op(&g, op[k], a, b);
            CHECK(llm_forward_pass_plan(&f, &g, &y, 1, true, &arena, NULL));
            CHECK(f.saved == 4 * want[k][which]);
            CHECK(f.floats == 49);
            CHECK((f.sign[y] != NULL) == (op[k] == LLM_COMP_GRAPH_RELU && which != 1));
        }
}

TEST(forward_pass, "wrong and missing feeds, the first NaN and cycles are reported") {
    llm_arena arena = test_arena(1 << 17);
    llm_error error;
    fp_net net;
    fp_build(&net, 5, false, &arena);
    for (size_t k = 0; k < 8; k++) net.feed[k].data = golden("5/%s", fp_name[k]);
    net.feed[1].cols = 6;
    CHECK_FAILS(llm_forward_pass_run(&net.f, net.feed, 8, &error), error,
                "w1 is (3,7), and was fed (3,6)");
    net.feed[1].cols = 7, net.feed[1].rows = 2;
    CHECK_FAILS(llm_forward_pass_run(&net.f, net.feed, 8, &error), error, "was fed (2,7)");
    net.feed[1].rows = 3;
    CHECK_FAILS(llm_forward_pass_run(&net.f, net.feed, 7, &error), error, "t (node 7) was not fed");
    CHECK(llm_forward_pass_run(&net.f, net.feed, 8, &error));
    net.feed[0].node = net.out[0];
    CHECK_ASSERTS(llm_forward_pass_run(&net.f, net.feed, 8, &error));

    llm_comp_graph g;
    llm_forward_pass f;
    llm_comp_graph_create(&g, 5, &arena);
    float x[3] = {2.0f, 1.0f, -1.0f};
    const size_t a = llm_comp_graph_input(&g, "a", 1, 3, true);
    const size_t l = llm_comp_graph_op(&g, LLM_COMP_GRAPH_LOG, a, 0);
    const size_t y = llm_comp_graph_op(&g, LLM_COMP_GRAPH_TANH, l, 0);
    CHECK(llm_forward_pass_plan(&f, &g, &y, 1, true, &arena, &error));
    const llm_forward_pass_feed feed = {a, x, 1, 3};
    CHECK(llm_forward_pass_run(&f, &feed, 1, &error) && isnan(f.value[y][2]) && f.ready);
    f.nan_guard = true;
    CHECK_FAILS(llm_forward_pass_run(&f, &feed, 1, &error), error,
                "node 1 (log) is the first with NaN");
    CHECK(!f.ready);
    x[2] = 0.0f; /* log 0 is -infinity, which is a number */
    CHECK(llm_forward_pass_run(&f, &feed, 1, &error) && f.value[y][2] == -1.0f);
    const llm_forward_pass_feed beyond = {g.count, x, 1, 3};
    CHECK(f.keep[a]); /* the way back needs what the logarithm was taken of */
    CHECK_ASSERTS(llm_forward_pass_run(&f, &beyond, 1, &error));
    x[0] = NAN;
    CHECK_FAILS(llm_forward_pass_run(&f, &feed, 1, &error), error, "node 0 (a)");
    g.node[l].in[0] = y;
    CHECK_FAILS(llm_forward_pass_plan(&f, &g, &y, 1, true, &arena, &error), error, "cycle");
}

TEST(forward_pass, "outputs outlive what runs after them; 32 signs fit into one word") {
    const float numbers[32] = {0.5f, -1.0f, 2.0f};
    for (int train = 0; train < 2; train++) {
        llm_arena arena = test_arena(1 << 17);
        llm_comp_graph g;
        llm_forward_pass f;
        llm_comp_graph_create(&g, 8, &arena);
        const size_t c = llm_comp_graph_const(&g, "c", numbers, 4, 8); /* the first node */
        const size_t x = llm_comp_graph_input(&g, "x", 4, 8, true);
        const size_t a = llm_comp_graph_op(&g, LLM_COMP_GRAPH_ADD, x, c);
        const size_t b = llm_comp_graph_op(&g, LLM_COMP_GRAPH_RELU, a, 0);
        size_t out[2] = {a, b};
        for (size_t k = 0; k < 3; k++)
            out[1] = llm_comp_graph_op(&g, LLM_COMP_GRAPH_ADD, out[1], c);
        CHECK(llm_forward_pass_plan(&f, &g, out, 2, train == 1, &arena, NULL));
        CHECK(f.saved == (train ? 4u : 0u));
        const llm_forward_pass_feed feed = {x, numbers, 4, 8};
        CHECK(llm_forward_pass_run(&f, &feed, 1, NULL));
        for (size_t k = 0; k < 32; k++) {
            const float twice = numbers[k] + numbers[k];
            CHECK(f.value[a][k] == twice);
            CHECK(f.value[out[1]][k] == fmaxf(twice, 0.0f) + numbers[k] + numbers[k] + numbers[k]);
            if (train) CHECK((f.sign[b][0] >> k & 1u) == (twice > 0.0f));
        }
    }
}

TEST(forward_pass, "33 words of signs, a softmax that is kept, what is counted, a node outside") {
    enum { N = 33 * 32 };
    llm_arena arena = test_arena(1 << 17);
    llm_comp_graph g;
    llm_forward_pass f;
    float x[2][N], one[N], dx[N] = {0}, *to[5] = {dx, NULL, NULL, NULL, NULL};
    for (size_t k = 0; k < N; k++) x[0][k] = k < 1024 ? -1.0f : 1.0f, x[1][k] = -1.0f, one[k] = 1;
    llm_comp_graph_create(&g, 5, &arena);
    size_t in[2], relu[2];
    for (size_t k = 0; k < 2; k++) in[k] = llm_comp_graph_input(&g, "x", 1, N, true);
    for (size_t k = 0; k < 2; k++) relu[k] = llm_comp_graph_op(&g, LLM_COMP_GRAPH_RELU, in[k], 0);
    const size_t both = llm_comp_graph_op(&g, LLM_COMP_GRAPH_ADD, relu[0], relu[1]);
    CHECK(llm_forward_pass_plan(&f, &g, &both, 1, true, &arena, NULL));
    CHECK(!f.ready && f.saved == 2 * 33 * 4);
    const llm_forward_pass_feed feed[2] = {{in[0], x[0], 1, N}, {in[1], x[1], 1, N}};
    CHECK(llm_forward_pass_run(&f, feed, 2, NULL) && f.operations == 3 * N);
    CHECK(llm_backward_pass_run(to, &f, both, one, false, NULL, NULL, &arena, NULL));
    for (size_t k = 0; k < N; k++) CHECK(dx[k] == (k < 1024 ? 0.0f : 1.0f));

    llm_comp_graph_create(&g, 8, &arena);
    const float label[2] = {0, 2}, row[3] = {1, 2, 3};
    const size_t z = llm_comp_graph_input(&g, "z", 2, 3, true);
    const size_t t = llm_comp_graph_input(&g, "t", 2, 1, false);
    const size_t b = llm_comp_graph_const(&g, "b", row, 1, 3);
    const size_t sum = llm_comp_graph_op(&g, LLM_COMP_GRAPH_ADD, b, z);
    const size_t loss = llm_comp_graph_op(&g, LLM_COMP_GRAPH_XENT, sum, t);
    llm_comp_graph_input(&g, "beyond", 1, 1, false);
    g.count--; /* it stands behind the graph */
    CHECK(llm_forward_pass_plan(&f, &g, &loss, 1, true, &arena, NULL));
    const llm_forward_pass_feed two[2] = {{z, x[0], 2, 3}, {t, label, 2, 1}};
    CHECK(llm_forward_pass_run(&f, two, 2, NULL) && f.operations == 6 + 6);
    for (size_t r = 0; r < 2; r++) {
        const float *p = f.softmax[loss] + 3 * r;
        CHECK_NEAR(p[0] + p[1] + p[2], 1.0f, 1e-6);
        CHECK_NEAR(p[2], 1.0 / (1.0 + exp(-1.0) + exp(-2.0)), 1e-6);
    }
    const llm_forward_pass_feed outside = {g.count, x[0], 1, 1};
    CHECK_ASSERTS(llm_forward_pass_run(&f, &outside, 1, NULL));
}

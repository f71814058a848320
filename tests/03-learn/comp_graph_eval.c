/* @comp_graph_eval */
#include "../test.h"

#include "../../llm.h"
#include "../arena.h"

TEST(comp_graph_eval, "elementwise operations broadcast as NumPy does") {
    const size_t shape[6][6] = {{3, 5, 3, 5, 3, 5}, {3, 5, 1, 5, 3, 5}, {3, 1, 3, 5, 3, 5},
                                {1, 1, 2, 3, 2, 3}, {4, 1, 1, 3, 4, 3}, {1, 1, 1, 1, 1, 1}};
    const char *const name[4] = {"add", "sub", "mul", "div"};
    for (size_t k = 0; k < 6; k++) {
        const size_t *s = shape[k], size = s[4] * s[5];
        llm_arena arena = test_arena(1 << 16);
        llm_comp_graph g;
        llm_comp_graph_create(&g, 8, &arena);
        const size_t a = llm_comp_graph_input(&g, "a", s[0], s[1], true);
        const size_t b = llm_comp_graph_input(&g, "b", s[2], s[3], true);
        for (int op = 0; op < 4; op++) {
            const size_t i = llm_comp_graph_op(&g, LLM_COMP_GRAPH_ADD + op, a, b);
            float *y = floats(size);
            llm_comp_graph_eval(y, NULL, NULL, &g, i, golden("%zu/a", k), golden("%zu/b", k));
            CHECK_GOLDEN(y, size, 1e-6f, "%zu/%s", k, name[op]);
        }
        const size_t i = llm_comp_graph_shaped(&g, LLM_COMP_GRAPH_BROADCAST, a, 0, s[4], s[5]);
        float *y = floats(size);
        llm_comp_graph_eval(y, NULL, NULL, &g, i, golden("%zu/a", k), NULL);
        CHECK_GOLDEN(y, size, 0.0f, "%zu/broadcast", k);
    }
}

TEST(comp_graph_eval, "products, sums, curves and cross-entropy equal NumPy and torch") {
    const size_t shape[4][3] = {{1, 1, 1}, {2, 3, 5}, {7, 4, 1}, {19, 11, 9}};
    for (size_t k = 0; k < 4; k++) {
        const size_t M = shape[k][0], K = shape[k][1], N = shape[k][2];
        const float *a = golden("product%zu/a", k), *b = golden("product%zu/b", k);
        llm_arena arena = test_arena(1 << 16);
        llm_comp_graph g;
        llm_comp_graph_create(&g, 20, &arena);
        const size_t x = llm_comp_graph_input(&g, "a", M, K, true);
        const size_t w = llm_comp_graph_input(&g, "b", K, N, true);
        const size_t t = llm_comp_graph_input(&g, "t", M, 1, true);
        float *y = floats(M * N), *rows = floats(K), *cols = floats(M), *z = floats(M * K), one[2];

        llm_comp_graph_eval(y, NULL, NULL, &g, llm_comp_graph_op(&g, LLM_COMP_GRAPH_MATMUL, x, w),
                            a, b);
        CHECK_GOLDEN(y, M * N, 2e-6f, "product%zu/y", k);
        llm_comp_graph_eval(rows, NULL, NULL, &g,
                            llm_comp_graph_shaped(&g, LLM_COMP_GRAPH_SUM, x, 0, 1, K), a, NULL);
        CHECK_GOLDEN(rows, K, 1e-6f, "product%zu/rows", k);
        llm_comp_graph_eval(cols, NULL, NULL, &g,
                            llm_comp_graph_shaped(&g, LLM_COMP_GRAPH_SUM, x, 0, M, 1), a, NULL);
        CHECK_GOLDEN(cols, M, 1e-6f, "product%zu/cols", k);
        llm_comp_graph_eval(one, NULL, NULL, &g,
                            llm_comp_graph_shaped(&g, LLM_COMP_GRAPH_SUM, x, 0, 1, 1), a, NULL);
        CHECK_GOLDEN(one, 1, 1e-6f, "product%zu/all", k);
        llm_comp_graph_eval(z, NULL, NULL, &g,
                            llm_comp_graph_shaped(&g, LLM_COMP_GRAPH_SUM, x, 0, M, K), a, NULL);
        CHECK_ALL_NEAR(z, a, M * K, 0.0f);

        uint32_t *sign = (uint32_t *)test_memory((M * K + 31) / 32, sizeof(uint32_t));
        memset(sign, 255, (M * K + 31) / 32 * sizeof(uint32_t));
        llm_comp_graph_eval(z, NULL, sign, &g, llm_comp_graph_op(&g, LLM_COMP_GRAPH_RELU, x, 0), a,
                            NULL);
        CHECK_GOLDEN(z, M * K, 0.0f, "product%zu/relu", k);
        for (size_t i = 0; i < M * K; i++) CHECK((sign[i / 32] >> i % 32 & 1u) == (a[i] > 0.0f));
        for (size_t i = M * K; i < (M * K + 31) / 32 * 32; i++)
            CHECK((sign[i / 32] >> i % 32 & 1u) == 0);
        llm_comp_graph_eval(z, NULL, NULL, &g, llm_comp_graph_op(&g, LLM_COMP_GRAPH_TANH, x, 0), a,
                            NULL);
        CHECK_GOLDEN(z, M * K, 2e-7f, "product%zu/tanh", k);
        llm_comp_graph_eval(z, NULL, NULL, &g, llm_comp_graph_op(&g, LLM_COMP_GRAPH_EXP, x, 0), a,
                            NULL);
        CHECK_GOLDEN(z, M * K, 2e-7f, "product%zu/exp", k);
        llm_comp_graph_eval(y = floats(M * K), NULL, NULL, &g,
                            llm_comp_graph_op(&g, LLM_COMP_GRAPH_LOG, x, 0), z, NULL);
        CHECK_ALL_NEAR(y, a, M * K, 3e-7f);
        const int same[2] = {LLM_COMP_GRAPH_DETACH, LLM_COMP_GRAPH_RESHAPE};
        for (size_t s = 0; s < 2; s++) {
            const size_t i = llm_comp_graph_shaped(&g, same[s], x, 0, K, M);
            llm_comp_graph_eval(z = floats(M * K), NULL, NULL, &g, i, a, NULL);
            CHECK_ALL_NEAR(z, a, M * K, 0.0f);
        }

        const size_t i = llm_comp_graph_op(&g, LLM_COMP_GRAPH_XENT, x, t);
        llm_comp_graph_eval(one, z, NULL, &g, i, a, golden("product%zu/t", k));
        CHECK_GOLDEN(one, 1, 1e-6f, "product%zu/xent", k);
        CHECK_GOLDEN(z, M * K, 1e-6f, "product%zu/softmax", k);
        llm_comp_graph_eval(one + 1, NULL, NULL, &g, i, a, golden("product%zu/t", k));
        CHECK(one[1] == one[0]);
    }
}

TEST(comp_graph_eval, "NaN and infinity pass, logits of 1e4 do not overflow, classes are checked") {
    llm_arena arena = test_arena(1 << 16);
    llm_comp_graph g;
    llm_comp_graph_create(&g, 8, &arena);
    const size_t x = llm_comp_graph_input(&g, "x", 1, 3, true);
    const size_t t = llm_comp_graph_input(&g, "t", 1, 1, false);
    const float odd[3] = {NAN, INFINITY, -0.0f}, huge[3] = {1e4f, -1e4f, 1e4f};
    float y[3], soft[3];
    uint32_t sign[1];
    llm_comp_graph_eval(y, NULL, sign, &g, llm_comp_graph_op(&g, LLM_COMP_GRAPH_RELU, x, 0), odd,
                        NULL);
    CHECK(isnan(y[0]) && y[1] == INFINITY && y[2] == 0.0f && sign[0] == 2u);
    const size_t i = llm_comp_graph_op(&g, LLM_COMP_GRAPH_XENT, x, t);
    float label[1] = {1.0f};
    llm_comp_graph_eval(y, soft, NULL, &g, i, huge, label);
    CHECK_NEAR(y[0], 2e4 + log(2.0), 2e-3);
    CHECK(soft[0] == 0.5f && soft[1] == 0.0f && soft[2] == 0.5f);
    llm_comp_graph_eval(y, NULL, NULL, &g, i, odd, label);
    CHECK(isnan(y[0]));
    label[0] = 3.0f;
    CHECK_ASSERTS(llm_comp_graph_eval(y, NULL, NULL, &g, i, huge, label));
    label[0] = -1.0f;
    CHECK_ASSERTS(llm_comp_graph_eval(y, NULL, NULL, &g, i, huge, label));
    label[0] = NAN;
    CHECK_ASSERTS(llm_comp_graph_eval(y, NULL, NULL, &g, i, huge, label));
    const size_t nothing = llm_comp_graph_input(&g, "nothing", 0, 2, false);
    llm_comp_graph_eval(y, NULL, NULL, &g,
                        llm_comp_graph_shaped(&g, LLM_COMP_GRAPH_SUM, nothing, 0, 1, 2), NULL,
                        NULL);
    CHECK(y[0] == 0.0f && y[1] == 0.0f);
}

TEST(comp_graph_eval, "folding computes what reads only constants, and leaves the rest") {
    llm_arena arena = test_arena(1 << 16);
    llm_comp_graph g;
    llm_comp_graph_create(&g, 12, &arena);
    const float two[2] = {1.0f, 2.0f};
    const size_t c = llm_comp_graph_const(&g, "c", two, 1, 2);
    const size_t x = llm_comp_graph_input(&g, "x", 1, 2, true);
    const size_t a = llm_comp_graph_op(&g, LLM_COMP_GRAPH_MUL, c, c);
    const size_t b = llm_comp_graph_shaped(&g, LLM_COMP_GRAPH_SUM, a, 0, 1, 1); /* 5 */
    const size_t y = llm_comp_graph_op(&g, LLM_COMP_GRAPH_ADD, x, b);
    const size_t z = llm_comp_graph_op(&g, LLM_COMP_GRAPH_ADD, b, x);
    CHECK(llm_comp_graph_eval_fold(&g, &arena) == 2);
    CHECK(g.node[b].op == LLM_COMP_GRAPH_CONST && g.node[b].data[0] == 5.0f);
    CHECK(g.node[b].in[0] == LLM_COMP_GRAPH_NONE && g.node[b].in[1] == LLM_COMP_GRAPH_NONE);
    CHECK(g.node[a].op == LLM_COMP_GRAPH_CONST && g.node[a].data[1] == 4.0f);
    CHECK(g.node[y].op == LLM_COMP_GRAPH_ADD && g.node[z].op == LLM_COMP_GRAPH_ADD);
    CHECK(llm_comp_graph_eval_fold(&g, &arena) == 0);
    const float three[2] = {7.0f, 5.0f};
    const size_t d = llm_comp_graph_const(&g, "d", three, 1, 2);
    const size_t gap = llm_comp_graph_op(&g, LLM_COMP_GRAPH_SUB, d, c);
    CHECK(llm_comp_graph_eval_fold(&g, &arena) == 1);
    CHECK(g.node[gap].data[0] == 6.0f && g.node[gap].data[1] == 3.0f);
    CHECK(g.node[gap].in[0] == LLM_COMP_GRAPH_NONE && g.node[gap].in[1] == LLM_COMP_GRAPH_NONE);
    llm_comp_graph_op(&g, LLM_COMP_GRAPH_ADD, d, c);
    g.count--; /* what stands behind the graph is none of its nodes */
    CHECK(llm_comp_graph_eval_fold(&g, &arena) == 0);

    /* 32 signs take one word */
    llm_comp_graph_create(&g, 2, &arena);
    const size_t in = llm_comp_graph_input(&g, "x", 4, 8, true);
    const size_t relu = llm_comp_graph_op(&g, LLM_COMP_GRAPH_RELU, in, 0);
    uint32_t *sign = (uint32_t *)test_memory(1, sizeof(uint32_t));
    float v[32], r[32];
    for (size_t i = 0; i < 32; i++) v[i] = i % 3 == 1 ? 1.0f : -1.0f;
    sign[0] = 0xffffffffu;
    llm_comp_graph_eval(r, NULL, sign, &g, relu, v, NULL);
    for (size_t i = 0; i < 32; i++) {
        CHECK((sign[0] >> i & 1) == (i % 3 == 1));
        CHECK(r[i] == fmaxf(v[i], 0.0f));
    }
}

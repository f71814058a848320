/* @feedforward */
#include "../test.h"

#include "../../llm.h"
#include "../arena.h"

/* A kind for these tests: reads two vectors of a and b numbers, makes one of a * b; a weight (a,b),
 * a running mean (b), a running scale (), a bias (2,a). */
static bool ff_pair_shape(llm_feedforward_shape *out, const llm_feedforward_shape *in,
                          size_t inputs, const void *config) {
    const llm_feedforward_shape y = {inputs == 2 ? in[0].c * in[1].c : 0, 1, 1};
    *out = y;
    return config == NULL;
}
static bool ff_pair_tensor(llm_feedforward_tensor *t, size_t k, const llm_feedforward_node *node) {
    const size_t a = node->in_shape[0].c, b = node->in_shape[1].c;
    const size_t shape[4][2] = {{a, b}, {b, 0}, {0, 0}, {2, a}}, rank[4] = {2, 1, 0, 2};
    const char *name[4] = {"weight", "mean", "scale", "a bias with a very, very long name"};
    if (k == 4) return false;
    snprintf(t->name, sizeof t->name, "%s", name[k]);
    t->shape[0] = shape[k][0], t->shape[1] = shape[k][1];
    t->rank = rank[k];
    t->buffer = k == 1 || k == 2;
    return true;
}
static const llm_feedforward_kind ff_pair = {"pair", ff_pair_shape, ff_pair_tensor, NULL, NULL,
                                             NULL,   NULL};

TEST(feedforward,
     "shapes go through, tensors lie one behind the other, buffers in their own vector") {
    llm_arena arena = test_arena(1 << 14);
    llm_feedforward f;
    llm_feedforward_tensor t;
    llm_error error;
    const llm_feedforward_shape x = {3, 1, 1};
    const llm_feedforward_dense_config five = {5, 1.0f}, two = {2, 1.0f};
    const int relu = LLM_ACTIVATION_RELU;
    llm_feedforward_create(&f, x, 5, &arena);
    CHECK(f.count == 0 && f.params == 0 && f.states == 0);
    CHECK(llm_feedforward_then(&f, llm_feedforward_dense(), &five, &error)); /* 0: 3 to 5 */
    CHECK(llm_feedforward_then(&f, llm_feedforward_activation(), &relu, &error));
    CHECK(f.params == 20 && f.states == 0);
    const size_t in[2] = {1, LLM_FEEDFORWARD_X}, back[2] = {2, 0};
    CHECK(llm_feedforward_add(&f, &ff_pair, NULL, in, 2, &error));   /* 2: 5 and 3 to 15 */
    CHECK(llm_feedforward_add(&f, &ff_pair, NULL, back, 2, &error)); /* 3: 15 and 5 to 75 */
    CHECK(llm_feedforward_then(&f, llm_feedforward_dense(), &two, &error));
    CHECK(f.count == 5);
    CHECK(f.node[1].in[0] == 0 && f.node[2].in[0] == 1 && f.node[2].in[1] == LLM_FEEDFORWARD_X);
    CHECK(f.node[2].out.c == 15 && f.node[3].out.c == 75 && f.node[4].in_shape[0].c == 75);
    CHECK(f.node[2].in_shape[0].c == 5 && f.node[2].in_shape[1].c == 3);
    CHECK(f.node[3].index == 3 && f.node[3].inputs == 2 && f.node[3].kind == &ff_pair);
    CHECK(f.params == 20 + (15 + 10) + (75 + 30) + (150 + 2));
    CHECK(f.states == (3 + 1) + (5 + 1));

    const char *name[12] = {"0.weight", "0.bias",
                            "2.weight", "2.mean",
                            "2.scale",  "2.a bias with a very",
                            "3.weight", "3.mean",
                            "3.scale",  "3.a bias with a very",
                            "4.weight", "4.bias"};
    const size_t at[12] = {0, 15, 20, 0, 3, 35, 45, 4, 9, 120, 150, 300};
    const size_t count[12] = {15, 5, 15, 3, 1, 10, 75, 5, 1, 30, 150, 2};
    size_t seen = 0;
    for (size_t i = 0; i < f.count; i++)
        for (size_t k = 0; llm_feedforward_tensor_of(&t, &f.node[i], k); k++, seen++) {
            CHECK(seen < 12 && strcmp(t.name, name[seen]) == 0);
            CHECK(t.at == at[seen] && t.count == count[seen]);
            CHECK(t.buffer == (strstr(t.name, "mean") || strstr(t.name, "scale")));
        }
    CHECK(seen == 12);
    llm_feedforward_node far = f.node[2]; /* the longest name there can be */
    far.index = SIZE_MAX;
    char longest[64];
    snprintf(longest, sizeof longest, "%zu.a bias with a very", SIZE_MAX);
    CHECK(llm_feedforward_tensor_of(&t, &far, 3) && strcmp(t.name, longest) == 0);
    CHECK(sizeof t.shape == 4 * sizeof(size_t)); /* the weight of a convolution */
    CHECK(llm_feedforward_find(&t, &f, "3.weight") && t.at == 45 && t.rank == 2);
    CHECK(t.shape[0] == 15 && t.shape[1] == 5 && !t.buffer);
    CHECK(llm_feedforward_find(&t, &f, "0.bias") && t.at == 15);
    CHECK(!llm_feedforward_find(&t, &f, "1.weight") && !llm_feedforward_find(&t, &f, "weight"));
    CHECK(!llm_feedforward_find(&t, &f, "3.weights") && !llm_feedforward_find(&t, &f, ""));
    CHECK_ASSERTS(llm_feedforward_then(&f, llm_feedforward_dense(), &two, &error)); /* no room */
}

TEST(feedforward, "a cycle, a layer that is not there and a shape that does not fit are refused") {
    llm_arena arena = test_arena(1 << 14);
    llm_feedforward f;
    llm_error error;
    const llm_feedforward_shape x = {2, 3, 4};
    const llm_feedforward_dense_config five = {5, 1.0f}, none = {0, 1.0f};
    llm_feedforward_create(&f, x, 9, &arena);
    const size_t self[2] = {LLM_FEEDFORWARD_X, 1}, later[1] = {7}, two[2] = {LLM_FEEDFORWARD_X, 0};
    CHECK(llm_feedforward_then(&f, llm_feedforward_dense(), &five, &error));
    CHECK(f.params == 2 * 3 * 4 * 5 + 5 && f.node[0].in[0] == LLM_FEEDFORWARD_X);
    CHECK_FAILS(llm_feedforward_add(&f, llm_feedforward_sum(), NULL, self, 2, &error), error,
                "layer 1 (sum) reads layer 1, which does not stand before it");
    CHECK_FAILS(llm_feedforward_add(&f, llm_feedforward_dense(), &five, later, 1, &error), error,
                "layer 1 (dense) reads layer 7");
    CHECK_FAILS(llm_feedforward_add(&f, llm_feedforward_sum(), NULL, two, 2, &error), error,
                "layer 1 (sum) cannot read 2 inputs, 2x3x4 to 5x1x1");
    CHECK_FAILS(llm_feedforward_add(&f, llm_feedforward_dense(), &five, two, 2, &error), error,
                "layer 1 (dense) cannot read 2 inputs");
    CHECK_FAILS(llm_feedforward_then(&f, llm_feedforward_dense(), &none, &error), error,
                "layer 1 (dense) cannot read 1 inputs, 5x1x1");
    CHECK(f.count == 1 && f.params == 125); /* as it was */
    CHECK(!llm_feedforward_then(&f, &ff_pair, NULL, NULL));
    CHECK_ASSERTS(llm_feedforward_add(&f, llm_feedforward_sum(), NULL, two, 0, &error));
    CHECK_ASSERTS(llm_feedforward_add(&f, llm_feedforward_sum(), NULL, two, 5, &error));
    const size_t four[4] = {0, 0, 0, 0};
    CHECK(llm_feedforward_add(&f, llm_feedforward_sum(), NULL, four, 4, &error));
    const llm_feedforward_shape s = {2, 3, 5};
    CHECK(llm_feedforward_size(s) == 30);
}

/* @bert */
#include "../test.h"

#include "../../llm.h"

#include "../arena.h"

enum { V = 9, P = 6, C = 4, B = 2, T = 5, N = B * T };

static llm_bert_config config(void) {
    llm_bert_config c = llm_bert_defaults();
    c.encoder.layers = 2, c.encoder.width = C, c.encoder.heads = 2, c.encoder.hidden = 5;
    c.vocab = V, c.places = P, c.types = 2;
    return c;
}
static llm_bert_weights bound(float *flat, const llm_bert_config *c, llm_arena *arena) {
    llm_bert_weights w;
    const size_t matrices = llm_bert_matrices(c);
    float *matrix = flat, *vector = flat + matrices;
    llm_bert_bind(&w, &matrix, &vector, c, arena);
    CHECK(matrix == flat + matrices && vector == matrix + llm_bert_vectors(c));
    return w;
}

TEST(bert, "hidden states, pooled output and all gradients equal transformers' BertModel") {
    const llm_bert_config c = config();
    llm_arena arena = test_arena(1 << 17);
    size_t count;
    float *flat = golden_n(&count, "bert/weights"), *g = zeros(count);
    CHECK(count == llm_bert_matrices(&c) + llm_bert_vectors(&c));
    const llm_bert_weights w = bound(flat, &c, &arena), dw = bound(g, &c, &arena);
    const int *ids = as_ints(golden("in/ids"), N), *types = as_ints(golden("in/types"), N);
    const bool *hidden = as_bools(golden("in/hidden"), N);
    llm_bert_acts a;
    float p[B * C], first[B * C], *d = golden("in/dh");
    const float *h = llm_bert_forward(&a, ids, types, hidden, B, T, &w, &c, &arena);
    CHECK_GOLDEN(h, N * C, 1e-5f, "bert/h");
    llm_bert_pool_forward(p, first, h, B, T, &w, C);
    CHECK_GOLDEN(p, B * C, 1e-5f, "bert/pooled");
    const size_t used = arena.used;
    llm_bert_pool_backward(d, &dw, golden("in/dp"), p, first, B, T, &w, C, &arena);
    llm_bert_backward(&dw, d, &a, &w, &c, &arena);
    CHECK(arena.used == used);
    CHECK_GOLDEN(g, count, 3e-5f, "bert/grads");
}

TEST(bert, "no types are type 0; longer padding changes nothing; no more places than there are") {
    const llm_bert_config c = config();
    llm_arena arena = test_arena(1 << 17);
    const llm_bert_weights w = bound(golden("bert/weights"), &c, &arena);
    const int ids[P] = {1, 5, 7, 3, 3, 3}, zero[P] = {0};
    const bool hidden[P] = {false, false, false, true, true, true};
    llm_bert_acts a;
    const float *h = llm_bert_forward(&a, ids, NULL, NULL, 1, 3, &w, &c, &arena);
    CHECK_ALL_NEAR(llm_bert_forward(&a, ids, zero, NULL, 1, 3, &w, &c, &arena), h, 3 * C, 0.0f);
    CHECK_ALL_NEAR(llm_bert_forward(&a, ids, NULL, hidden, 1, P, &w, &c, &arena), h, 3 * C, 1e-6f);
    CHECK_ASSERTS(llm_bert_forward(&a, ids, NULL, NULL, 1, P + 1, &w, &c, &arena));
}

static double loss_of(const float *flat, const llm_bert_config *c, const float *r) {
    llm_arena arena = test_arena(1 << 15);
    float *copy = floats(llm_bert_matrices(c) + llm_bert_vectors(c));
    memcpy(copy, flat, (llm_bert_matrices(c) + llm_bert_vectors(c)) * sizeof(float));
    const llm_bert_weights w = bound(copy, c, &arena);
    llm_bert_acts a;
    const int *ids = as_ints(golden("in/ids"), N);
    return dot(llm_bert_forward(&a, ids, NULL, NULL, B, T, &w, c, &arena), r, N * C);
}

TEST(bert, "finite differences of the tables with dropout, which has numbers of its own") {
    llm_bert_config c = config();
    c.encoder.dropout = 0.3f, c.encoder.seed = 4;
    llm_arena arena = test_arena(1 << 17);
    size_t count;
    float *flat = golden_n(&count, "bert/weights"), *g = zeros(count), *d = golden("in/dh");
    const llm_bert_weights w = bound(flat, &c, &arena), dw = bound(g, &c, &arena);
    llm_bert_acts a;
    llm_bert_forward(&a, as_ints(golden("in/ids"), N), NULL, NULL, B, T, &w, &c, &arena);
    const float *x = a.encoder.attn[0].x;
    for (size_t i = 0; i < N * C; i++)
        CHECK((x[i] == 0.0f) == (llm_dropout_scale(0.3f, 4, 4 * N * C + i) == 0.0f));
    llm_bert_backward(&dw, d, &a, &w, &c, &arena);
    const float *r = golden("in/dh");
    CHECK_GRAD(g, flat, (size_t)(V + P) * C, 2e-3f, 1e-2f, loss_of(flat, &c, r));
}

TEST(bert, "the counts of the released models; first weights") {
    llm_bert_config c = llm_bert_defaults();
    CHECK(llm_bert_matrices(&c) + llm_bert_vectors(&c) == 109482240);
    CHECK(c.encoder.heads == 12 && c.encoder.hidden == 3072 && c.encoder.eps == 1e-12f);
    CHECK(c.encoder.norm == LLM_PRENORM_POST && c.encoder.act == LLM_ACTIVATION_GELU);
    c.encoder.layers = 24, c.encoder.width = 1024, c.encoder.heads = 16, c.encoder.hidden = 4096;
    CHECK(llm_bert_matrices(&c) + llm_bert_vectors(&c) == 335141888);
    c = config();
    c.vocab = 1000;
    llm_arena arena = test_arena(1 << 14);
    llm_rng rng = llm_rng_seed(1);
    const size_t matrices = llm_bert_matrices(&c), vectors = llm_bert_vectors(&c);
    float *flat = floats(matrices), *vector = floats(vectors), *m = flat, *v = vector;
    llm_bert_weights w;
    llm_bert_bind(&w, &m, &v, &c, &arena);
    llm_bert_init(&w, 0.02f, &c, &rng);
    CHECK_NEAR(dot(flat, flat, matrices) / (double)matrices * 2500.0, 1.0, 0.1);
    for (size_t i = 0; i < matrices; i++) CHECK(flat[i] != 0.0f && fabsf(flat[i]) < 0.12f);
    size_t ones = 0;
    for (size_t i = 0; i < vectors; i++) ones += vector[i] == 1.0f;
    for (size_t i = 0; i < vectors; i++) CHECK(vector[i] == 0.0f || vector[i] == 1.0f);
    CHECK(ones == 5 * C && w.norm_w[C - 1] == 1.0f && w.pool_b[C - 1] == 0.0f);
}

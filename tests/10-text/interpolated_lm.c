/* @interpolated_lm */
#include "../test.h"

/* memory that runs out after a number of calls */
static int calls = 1 << 30;
static void *lm_malloc(size_t n) { return calls-- > 0 ? malloc(n) : NULL; }
static void *lm_calloc(size_t n, size_t size) { return calls-- > 0 ? calloc(n, size) : NULL; }
#define malloc lm_malloc
#define calloc lm_calloc
#include "../../llm.h"
#undef malloc
#undef calloc

enum { V = 6 };

static llm_interpolated_lm fitted(int order, double discount) {
    size_t n;
    llm_interpolated_lm lm;
    llm_error e;
    const float *text = golden_n(&n, "in/text");
    CHECK(llm_interpolated_lm_fit(&lm, as_ints(text, n), n, V, order, discount, &e));
    return lm;
}

TEST(interpolated_lm, "every probability equals the recursion in exact fractions, orders 1 to 3") {
    const double discount[4] = {0.75, 0.5, 0.0, 1.0};
    const char *const name[4] = {"0.75", "0.5", "0.0", "1.0"};
    for (int order = 1; order <= 3; order++) {
        for (size_t d = 0; d < 4; d++) {
            size_t n;
            const int *held = as_ints(golden_n(&n, "in/held"), 25);
            llm_interpolated_lm lm = fitted(order, discount[d]);
            float p[25];
            for (size_t i = 0; i < n; i++) p[i] = (float)llm_interpolated_lm_prob(&lm, held, i);
            CHECK_GOLDEN(p, n, 1e-7f, "order%d_%s/p", order, name[d]);
            const float nats = (float)llm_interpolated_lm_nats(&lm, held, n);
            CHECK_GOLDEN(&nats, 1, 1e-6f, "order%d_%s/nats", order, name[d]);
            llm_interpolated_lm_free(&lm);
        }
    }
}

TEST(interpolated_lm, "P(. | context) sums to 1 for all contexts, seen or not") {
    for (int order = 1; order <= 3; order++) {
        llm_interpolated_lm lm = fitted(order, 0.75);
        for (int u = 0; u < V; u++) {
            for (int v = 0; v < V; v++) {
                double sum = 0.0;
                for (int w = 0; w < V; w++) {
                    const int ids[3] = {u, v, w};
                    const double p = llm_interpolated_lm_prob(&lm, ids, 2);
                    CHECK(p > 0.0);
                    sum += p;
                }
                CHECK_NEAR(sum, 1.0, 1e-12);
            }
        }
        llm_interpolated_lm_free(&lm);
    }
}

TEST(interpolated_lm, "no text, one token, and ids at the edge of the vocabulary") {
    llm_interpolated_lm lm;
    llm_error e;
    const int ids[3] = {1, 0, 1};
    for (size_t count = 0; count < 3; count++) {
        CHECK(llm_interpolated_lm_fit(&lm, ids, count, 2, 3, 0.75, &e));
        /* one token: P(1) = (1 + 1) / (1 + 2); two: P(1 | 0) has no count and is P(1) = 2/4 */
        const double want = count == 1 ? 2.0 / 3.0 : 0.5;
        CHECK_NEAR(llm_interpolated_lm_prob(&lm, ids, 2), want, 1e-15);
        CHECK(llm_interpolated_lm_nats(&lm, ids, 1) == 0.0);
        CHECK(llm_interpolated_lm_nats(&lm, ids, 0) == 0.0);
        llm_interpolated_lm_free(&lm);
    }
    const int top = (1 << 21) - 2, big[5] = {top, 0, top, top, 0};
    CHECK(llm_interpolated_lm_fit(&lm, ids, 3, 2, 2, 0.75, &e));
    const int outside[2] = {-1, 2};
    CHECK_ASSERTS(llm_interpolated_lm_prob(&lm, outside, 0));
    CHECK_ASSERTS(llm_interpolated_lm_prob(&lm, outside, 1));
    llm_interpolated_lm_free(&lm);
    CHECK(llm_interpolated_lm_fit(&lm, big, 5, (1 << 21) - 1, 3, 0.5, &e));
    /* (top, 0) is followed by top once: (1 - d) + d P(top | 0); 0 too; P(top) = 4 / (5 + V) */
    const double one = 4.0 / (5.0 + (1 << 21) - 1.0), two = 0.5 + 0.5 * one,
                 three = 0.5 + 0.5 * two;
    CHECK_NEAR(llm_interpolated_lm_prob(&lm, big, 2), three, 1e-12);
    llm_interpolated_lm_free(&lm);
    CHECK_ASSERTS(llm_interpolated_lm_fit(&lm, ids, 3, 1, 2, 0.5, &e)); /* the token 1 of one */
    CHECK_ASSERTS(llm_interpolated_lm_fit(&lm, ids, 3, (size_t)1 << 21, 2, 0.5, &e));
    CHECK_ASSERTS(llm_interpolated_lm_fit(&lm, ids, 3, 2, 4, 0.5, &e));
    CHECK_ASSERTS(llm_interpolated_lm_fit(&lm, ids, 3, 2, 0, 0.5, &e));
}

TEST(interpolated_lm, "on text of an order-2 chain the trigram wins, and comes near the entropy") {
    enum { N = 20000, HELD = 2000 };
    llm_rng rng = llm_rng_seed(1);
    int *ids = (int *)test_memory(N + HELD, sizeof(int));
    double entropy = 0.0, nats[4];
    for (size_t i = 2; i < N + HELD; i++) { /* mostly the sum of the two before */
        const bool sum = llm_rng_uniform(&rng) < 0.7f;
        ids[i] = sum ? (ids[i - 1] + ids[i - 2] + 1) % 5 : (int)llm_rng_below(&rng, 5);
    }
    entropy = -0.76 * log(0.76) - 0.24 * log(0.06);
    for (int order = 1; order <= 3; order++) {
        llm_interpolated_lm lm;
        llm_error e;
        CHECK(llm_interpolated_lm_fit(&lm, ids, N, 5, order, 0.75, &e));
        nats[order] = llm_interpolated_lm_nats(&lm, ids + N, HELD) / (HELD - 1);
        llm_interpolated_lm_free(&lm);
    }
    CHECK_NEAR(nats[1], log(5.0), 0.02);
    /* the held-out text itself varies: 2000 draws of a surprise with deviation 1.1 */
    CHECK_NEAR(nats[3], entropy, 0.08);
    CHECK(nats[3] < nats[1] - 0.5);
}

TEST(interpolated_lm, "when memory is out, counting says so and nothing leaks") {
    llm_interpolated_lm lm;
    llm_error e;
    const int ids[3] = {1, 0, 1};
    for (int limit = 0; limit < 3; limit++) { /* single tokens, pairs, triples */
        calls = limit;
        CHECK_FAILS(llm_interpolated_lm_fit(&lm, ids, 3, 2, 3, 0.75, &e), e,
                    "counting 3 tokens: out of memory");
    }
    calls = 3;
    CHECK(llm_interpolated_lm_fit(&lm, ids, 3, 2, 3, 0.75, &e));
    llm_interpolated_lm_free(&lm);
}

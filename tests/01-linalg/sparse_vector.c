/* @sparse_vector */
#include "../test.h"

#include "../../llm.h"

enum { SPARSE_MOST = 400 };
typedef struct {
    llm_sparse_vector a;
    uint32_t index[SPARSE_MOST];
    float value[SPARSE_MOST];
} sparse_storage;

static llm_sparse_vector *sparse_new(void) {
    sparse_storage *s = (sparse_storage *)test_memory(1, sizeof(sparse_storage));
    s->a.index = s->index;
    s->a.value = s->value;
    return &s->a;
}
static float *sparse_random(llm_rng *rng, size_t n, float density) {
    float *x = zeros(n);
    for (size_t i = 0; i < n; i++)
        if (llm_rng_uniform(rng) < density) x[i] = llm_rng_normal(rng);
    return x;
}

TEST(sparse_vector, "all operations equal dense arithmetic, densities 0, 0.01, 0.5, 1") {
    const float density[4] = {0.0f, 0.01f, 0.5f, 1.0f};
    llm_rng rng = llm_rng_seed(1);
    for (size_t round = 0; round < 160; round++) {
        const size_t n = 1 + llm_rng_below(&rng, SPARSE_MOST);
        float *x = sparse_random(&rng, n, density[round % 4]),
              *y = sparse_random(&rng, n, density[round / 4 % 4]);
        llm_sparse_vector *a = sparse_new(), *b = sparse_new();
        llm_sparse_vector_from_dense(a, x, n, 0.0f);
        llm_sparse_vector_from_dense(b, y, n, 0.0f);
        size_t count = 0;
        for (size_t i = 0; i < n; i++) count += x[i] != 0.0f;
        CHECK(a->count == count && a->n == n && llm_sparse_vector_valid(a));
        float *back = floats(n), *sum = floats(n);
        llm_sparse_vector_to_dense(back, a);
        CHECK_ALL_NEAR(back, x, n, 0.0f);
        const double want = dot(x, y, n);
        CHECK_NEAR(llm_sparse_vector_dot_dense(a, y), want, 1e-6 * (1.0 + fabs(want)));
        CHECK_NEAR(llm_sparse_vector_dot(a, b), want, 1e-6 * (1.0 + fabs(want)));
        CHECK(llm_sparse_vector_dot(a, b) == llm_sparse_vector_dot(b, a));
        CHECK_NEAR(llm_sparse_vector_norm(a), sqrt(dot(x, x, n)), 1e-5);
        for (size_t i = 0; i < n; i++) back[i] = sum[i] = y[i];
        for (size_t i = 0; i < n; i++) sum[i] += -1.5f * x[i];
        llm_sparse_vector_axpy(back, -1.5f, a);
        CHECK_ALL_NEAR(back, sum, n, 1e-6f);
    }
}

TEST(sparse_vector, "galloping finds the first index that is not below, from every start") {
    llm_sparse_vector *a = sparse_new();
    a->count = 37;
    a->n = 1000;
    for (uint32_t k = 0; k < 37; k++) a->index[k] = k * k / 2 + k, a->value[k] = 1.0f;
    for (size_t from = 0; from <= 37; from++)
        for (uint32_t at = 0; at < 800; at++) {
            size_t want = from;
            while (want < 37 && a->index[want] < at) want++;
            CHECK(llm_sparse_vector_gallop(a, from, at) == want);
        }
    /* lengths 3 and 300: galloping is what the dot product does */
    llm_sparse_vector *few = sparse_new(), *many = sparse_new();
    for (uint32_t k = 0; k < 300; k++) many->index[k] = 3 * k, many->value[k] = (float)k;
    many->count = 300, many->n = few->n = 900, few->count = 3;
    const uint32_t at[3] = {0, 4, 897};
    for (size_t k = 0; k < 3; k++) few->index[k] = at[k], few->value[k] = 2.0f;
    CHECK(llm_sparse_vector_dot(few, many) == 598.0f && llm_sparse_vector_dot(many, few) == 598.0f);
}

TEST(sparse_vector, "pairs in any order: sorted, summed, zeros dropped, indices up to 2^32 - 2") {
    llm_rng rng = llm_rng_seed(2);
    llm_arena arena;
    llm_error error;
    CHECK(llm_arena_create(&arena, 1 << 14));
    for (size_t round = 0; round < 100; round++) {
        const size_t n = 1 + llm_rng_below(&rng, 90), count = llm_rng_below(&rng, 200);
        uint32_t index[200];
        float value[200], *x = zeros(n), *got = floats(n);
        for (size_t k = 0; k < count; k++) {
            index[k] = (uint32_t)llm_rng_below(&rng, n);
            value[k] = (float)llm_rng_below(&rng, 7) - 3.0f; /* sums of 0 occur */
            x[index[k]] += value[k];
        }
        llm_sparse_vector *a = sparse_new();
        CHECK(llm_sparse_vector_from_pairs(a, index, value, count, n, &arena, &error));
        CHECK(arena.used == 0 && llm_sparse_vector_valid(a));
        for (size_t k = 0; k < a->count; k++) CHECK(a->value[k] != 0.0f);
        llm_sparse_vector_to_dense(got, a);
        CHECK_ALL_NEAR(got, x, n, 0.0f);
    }
    /* beyond the 24 bits of a float: neighbours must not be mixed up */
    const uint32_t far[6] = {4294967294u, 16777217u, 16777216u, 4294967293u, 65536u, 65535u};
    const float value[6] = {1, 2, 3, 4, 5, 6}, want[6] = {6, 5, 3, 2, 4, 1};
    llm_sparse_vector *a = sparse_new();
    a->count = a->n = 77; /* to be written */
    CHECK(llm_sparse_vector_from_pairs(a, far, value, 6, 4294967295u, &arena, &error));
    CHECK_ALL_NEAR(a->value, want, 6, 0.0f);
    CHECK(a->index[0] == 65535u && a->index[5] == 4294967294u && llm_sparse_vector_valid(a));
    const uint32_t out[2] = {3, 7};
    CHECK_FAILS(llm_sparse_vector_from_pairs(a, out, value, 2, 7, &arena, &error), error,
                "entry 1: index 7 of a vector of 7");
    llm_arena_destroy(&arena);
}

TEST(sparse_vector, "validity, thresholds, NaN, the k largest") {
    llm_sparse_vector *a = sparse_new();
    a->n = 5, a->count = 3;
    const uint32_t good[3] = {0, 2, 4}, twice[3] = {0, 2, 2}, down[3] = {2, 0, 4},
                   out[3] = {0, 2, 5};
    memcpy(a->index, good, sizeof good);
    CHECK(llm_sparse_vector_valid(a));
    memcpy(a->index, twice, sizeof good);
    CHECK(!llm_sparse_vector_valid(a));
    memcpy(a->index, down, sizeof good);
    CHECK(!llm_sparse_vector_valid(a));
    memcpy(a->index, out, sizeof good);
    CHECK(!llm_sparse_vector_valid(a));
    const float x[6] = {0.5f, -0.5f, 0.51f, NAN, -2.0f, 0.0f};
    llm_sparse_vector_from_dense(a, x, 6, 0.5f);
    CHECK(a->count == 3 && a->index[0] == 2 && a->index[1] == 3 && a->index[2] == 4);
    CHECK(isnan(a->value[1]) && isnan(llm_sparse_vector_norm(a)));

    llm_arena arena;
    CHECK(llm_arena_create(&arena, 1024));
    const float y[6] = {1.0f, -3.0f, 2.0f, 3.0f, 0.0f, -1.0f};
    llm_sparse_vector_from_dense(a, y, 6, 0.0f);
    llm_sparse_vector_top_k(a, 9, &arena);
    CHECK(a->count == 5);
    llm_sparse_vector_top_k(a, 4, &arena); /* of 1 and -1 the first stays */
    CHECK(a->count == 4 && a->index[0] == 0 && a->index[3] == 3 && llm_sparse_vector_valid(a));
    llm_sparse_vector_top_k(a, 1, &arena);
    CHECK(a->count == 1 && a->index[0] == 1 && a->value[0] == -3.0f);
    llm_sparse_vector_top_k(a, 0, &arena);
    CHECK(a->count == 0 && a->n == 6 && arena.used == 0 && llm_sparse_vector_norm(a) == 0.0f);
    size_t order[3];
    llm_error error;
    llm_sparse_vector_order(order, down, 3, &arena);
    CHECK(order[0] == 1 && order[1] == 0 && order[2] == 2 && arena.used == 0);
    CHECK_FAILS(llm_sparse_vector_from_pairs(a, out + 2, y, 1, 5, &arena, &error), error,
                "entry 0: index 5 of a vector of 5");
    llm_arena_destroy(&arena);
}

TEST(sparse_vector, "nothing is read behind the last entry") {
    uint32_t *low = (uint32_t *)test_memory(1, 4), *high = (uint32_t *)test_memory(1, 4);
    float *x = floats(1), *y = floats(1);
    low[0] = 0, high[0] = 3, x[0] = 2.0f, y[0] = 5.0f;
    llm_sparse_vector a, b;
    a.index = low, a.value = x, a.n = 4, a.count = 1;
    b.index = high, b.value = y, b.n = 4, b.count = 1;
    CHECK(llm_sparse_vector_dot(&a, &b) == 0.0f && llm_sparse_vector_dot(&b, &a) == 0.0f);
    CHECK(llm_sparse_vector_dot(&a, &a) == 4.0f);
    float dense[4] = {1, 0, 0, 2};
    CHECK(llm_sparse_vector_dot_dense(&b, dense) == 10.0f);
    llm_sparse_vector_axpy(dense, 2.0f, &b);
    CHECK(dense[0] == 1.0f && dense[3] == 12.0f);
    CHECK(llm_sparse_vector_valid(&b));
    b.n = 3;
    CHECK(!llm_sparse_vector_valid(&b));
    CHECK_ASSERTS(llm_sparse_vector_from_dense(&a, x, (size_t)UINT32_MAX + 1, 0.0f));
}

/* @csr */
#include "../test.h"

#include "../../llm.h"

static uint32_t *csr_u32(const float *x, size_t n) {
    uint32_t *a = (uint32_t *)test_memory(n, sizeof(uint32_t));
    for (size_t i = 0; i < n; i++) a[i] = (uint32_t)x[i];
    return a;
}
static llm_csr csr_room(size_t rows, size_t count) {
    llm_csr a;
    a.rows = a.cols = 12345678; /* to be written, as all that follows */
    a.start = as_sizes(zeros(rows + 1), rows + 1);
    a.index = csr_u32(zeros(count), count);
    a.value = floats(count);
    memset(a.start, 255, (rows + 1) * sizeof *a.start);
    memset(a.index, 255, count * sizeof *a.index);
    return a;
}
static float *csr_as_floats(const uint32_t *x, const size_t *y, size_t n) {
    float *a = floats(n);
    for (size_t i = 0; i < n; i++) a[i] = x ? (float)x[i] : (float)y[i];
    return a;
}
#define CSR_GOLDEN(a, prefix, ...)                                                                 \
    do {                                                                                           \
        const size_t count_ = (a).start[(a).rows];                                                 \
        CHECK_GOLDEN(csr_as_floats(NULL, (a).start, (a).rows + 1), (a).rows + 1, 0.0f,             \
                     prefix "start", __VA_ARGS__);                                                 \
        CHECK_GOLDEN(csr_as_floats((a).index, NULL, count_), count_, 0.0f, prefix "index",         \
                     __VA_ARGS__);                                                                 \
        CHECK_GOLDEN((a).value, count_, 1e-6f, prefix "data", __VA_ARGS__);                        \
    } while (0)

TEST(csr, "rows from triples, transpose, products equal SciPy's") {
    const size_t shapes[4][4] = {{1, 1, 1, 1}, {5, 7, 20, 3}, {8, 3, 12, 5}, {6, 6, 0, 2}};
    llm_arena arena;
    llm_error error;
    CHECK(llm_arena_create(&arena, 1 << 14));
    for (size_t s = 0; s < 4; s++) {
        const size_t m = shapes[s][0], n = shapes[s][1], k = shapes[s][2], p = shapes[s][3];
        llm_csr a = csr_room(m, k), t = csr_room(n, k), c = csr_room(m, m * p);
        CHECK(llm_csr_from_coo(&a, csr_u32(golden("%zux%zu/row", m, n), k),
                               csr_u32(golden("%zux%zu/col", m, n), k),
                               golden("%zux%zu/value", m, n), k, m, n, &arena, &error));
        CSR_GOLDEN(a, "%zux%zu/", m, n);
        llm_csr_transpose(&t, &a, &arena);
        CHECK(t.rows == n && t.cols == m);
        CSR_GOLDEN(t, "%zux%zu/t_", m, n);
        float *y = floats(m * 3);
        llm_csr_matmul(y, &a, golden("%zux%zu/x", m, n), 3);
        CHECK_GOLDEN(y, m * 3, 1e-6f, "%zux%zu/y", m, n);

        size_t entries;
        llm_csr b;
        b.index = NULL;
        b.value = golden_n(&entries, "%zux%zu/b_data", m, n);
        b.index = csr_u32(golden("%zux%zu/b_index", m, n), entries);
        b.start = as_sizes(golden("%zux%zu/b_start", m, n), n + 1);
        b.rows = n, b.cols = p;
        uint32_t *index = c.index;
        c.index = NULL; /* how much room? */
        llm_csr_product(&c, &a, &b, &arena);
        size_t want;
        golden_n(&want, "%zux%zu/c_data", m, n);
        CHECK(c.start[m] == want && c.cols == p);
        c.index = index;
        llm_csr_product(&c, &a, &b, &arena);
        CSR_GOLDEN(c, "%zux%zu/c_", m, n);
        CHECK(arena.used == 0);
    }
    llm_arena_destroy(&arena);
}

TEST(csr, "random matrices: all operations equal dense arithmetic; transposed twice is unchanged") {
    llm_rng rng = llm_rng_seed(1);
    llm_arena arena;
    llm_error error;
    CHECK(llm_arena_create(&arena, 1 << 16));
    for (size_t round = 0; round < 60; round++) {
        const size_t m = 1 + llm_rng_below(&rng, 20), n = 1 + llm_rng_below(&rng, 20),
                     count = llm_rng_below(&rng, 150);
        uint32_t *row = csr_u32(zeros(count), count), *col = csr_u32(zeros(count), count);
        float *value = floats(count), *dense = zeros(m * n);
        for (size_t k = 0; k < count; k++) {
            row[k] = (uint32_t)llm_rng_below(&rng, m), col[k] = (uint32_t)llm_rng_below(&rng, n);
            value[k] = (float)llm_rng_below(&rng, 9) - 4.0f; /* whole numbers: all sums are exact */
            dense[row[k] * n + col[k]] += value[k];
        }
        llm_csr a = csr_room(m, count), t = csr_room(n, count), again = csr_room(m, count),
                aat = csr_room(m, m * m);
        CHECK(llm_csr_from_coo(&a, row, col, value, count, m, n, &arena, &error));
        for (size_t i = 0; i < m; i++)
            for (size_t k = a.start[i]; k < a.start[i + 1]; k++) {
                CHECK(a.value[k] == dense[i * n + a.index[k]]);
                CHECK(k == a.start[i] || a.index[k] > a.index[k - 1]);
            }
        float *unit = zeros(n * n), *full = floats(m * n), *full_t = floats(n * m);
        for (size_t i = 0; i < n; i++) unit[i * n + i] = 1.0f;
        llm_csr_matmul(full, &a, unit, n);
        CHECK_ALL_NEAR(full, dense, m * n, 0.0f);
        llm_csr_transpose(&t, &a, &arena);
        float *unit_m = zeros(m * m), *product = floats(m * m);
        for (size_t i = 0; i < m; i++) unit_m[i * m + i] = 1.0f;
        llm_csr_matmul(full_t, &t, unit_m, m);
        for (size_t i = 0; i < m * n; i++) CHECK(full_t[i % n * m + i / n] == dense[i]);
        llm_csr_transpose(&again, &t, &arena);
        const size_t entries = a.start[m];
        CHECK(memcmp(again.start, a.start, (m + 1) * sizeof(size_t)) == 0);
        CHECK(entries == 0 || memcmp(again.index, a.index, entries * sizeof(uint32_t)) == 0);
        CHECK_ALL_NEAR(again.value, a.value, entries, 0.0f);
        llm_csr_product(&aat, &a, &t, &arena);
        llm_csr_matmul(product, &aat, unit_m, m);
        for (size_t i = 0; i < m * m; i++)
            CHECK_NEAR(product[i], dot(dense + i / m * n, dense + i % m * n, n), 0.0);
    }
    CHECK(arena.used == 0);
    llm_arena_destroy(&arena);
}

TEST(csr, "an index outside is refused; shapes must fit") {
    llm_arena arena;
    llm_error error;
    CHECK(llm_arena_create(&arena, 1 << 10));
    llm_csr a = csr_room(3, 2), b = csr_room(3, 2), c = csr_room(3, 4);
    const uint32_t row[2] = {0, 2}, col[2] = {1, 3}, good[2] = {1, 2};
    const float value[2] = {1.0f, 2.0f};
    CHECK_FAILS(llm_csr_from_coo(&a, row, col, value, 2, 3, 3, &arena, &error), error,
                "entry 1: (2, 3) is outside of 3 x 3");
    CHECK_FAILS(llm_csr_from_coo(&a, row + 1, col + 1, value, 1, 3, 3, &arena, &error), error,
                "entry 0: (2, 3)");
    CHECK_FAILS(llm_csr_from_coo(&a, col, row, value, 2, 3, 3, &arena, &error), error,
                "entry 1: (3, 2)");
    CHECK(llm_csr_from_coo(&a, row, good, value, 2, 3, 4, &arena, &error));
    CHECK(llm_csr_from_coo(&b, row, good, value, 2, 3, 4, &arena, &error));
    CHECK_ASSERTS(llm_csr_product(&c, &a, &b, &arena));
    llm_arena_destroy(&arena);
}

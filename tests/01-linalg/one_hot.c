/* @one_hot */
#include "../test.h"

#include "../../llm.h"

enum { ROWS = 5, COLUMNS = 3 };
static const char *const one_hot_rows[ROWS * COLUMNS] = {
    "red", "S", "a b", "blue", "M", "", "green", "S", "10", "red", "L", "9", "Red", "M", "a b"};

static llm_one_hot *one_hot_tables(void) {
    llm_one_hot *table = (llm_one_hot *)test_memory(COLUMNS, sizeof(llm_one_hot));
    for (size_t c = 0; c < COLUMNS; c++) {
        const char *column[ROWS];
        for (size_t i = 0; i < ROWS; i++) column[i] = one_hot_rows[i * COLUMNS + c];
        table[c].category = (const char **)test_memory(4, sizeof(char *));
        llm_one_hot_fit(table + c, column, ROWS);
    }
    return table;
}

TEST(one_hot, "three columns equal scikit-learn's encoder: full, first dropped, unknown ignored") {
    const llm_one_hot *table = one_hot_tables();
    llm_error error;
    CHECK(table[0].count == 4 && table[1].count == 3 && table[2].count == 4);
    CHECK(strcmp(table[0].category[0], "Red") == 0 && strcmp(table[0].category[1], "blue") == 0);
    CHECK(llm_one_hot_width(table, COLUMNS, false) == 11 &&
          llm_one_hot_width(table, COLUMNS, true) == 8);
    float y[ROWS * 11];
    for (size_t i = 0; i < ROWS * 11; i++) y[i] = NAN;
    CHECK(llm_one_hot_encode(y, one_hot_rows, table, ROWS, COLUMNS, false, false, &error));
    CHECK_GOLDEN(y, ROWS * 11, 0.0f, "full/y");
    CHECK(llm_one_hot_encode(y, one_hot_rows, table, ROWS, COLUMNS, true, false, &error));
    CHECK_GOLDEN(y, ROWS * 8, 0.0f, "drop/y");
    const char *const other[9] = {"red", "XL", "9", "pink", "S", "10", "", "", ""};
    CHECK(llm_one_hot_encode(y, other, table, 3, COLUMNS, false, true, &error));
    CHECK_GOLDEN(y, 33, 0.0f, "new/y");
    CHECK_FAILS(llm_one_hot_encode(y, other, table, 3, COLUMNS, false, false, &error), error,
                "row 0, column 1: \"XL\" is no known category");
}

TEST(one_hot,
     "decoding undoes encoding; scores decode to the largest; nothing is NULL or the dropped one") {
    const llm_one_hot *table = one_hot_tables();
    llm_error error;
    float y[ROWS * 11];
    const char *text[ROWS * COLUMNS];
    for (int drop = 0; drop < 2; drop++) {
        CHECK(llm_one_hot_encode(y, one_hot_rows, table, ROWS, COLUMNS, drop == 1, false, &error));
        llm_one_hot_decode(text, y, table, ROWS, COLUMNS, drop == 1);
        for (size_t i = 0; i < ROWS * COLUMNS; i++) CHECK(strcmp(text[i], one_hot_rows[i]) == 0);
    }
    const float scores[4] = {0.1f, 0.7f, 0.2f, 0.7f}, nothing[4] = {0.0f, -1.0f, 0.0f, 0.0f};
    llm_one_hot_decode(text, scores, table, 1, 1, false);
    CHECK(strcmp(text[0], "blue") == 0);
    llm_one_hot_decode(text, nothing, table, 1, 1, false);
    CHECK(text[0] == NULL);
    llm_one_hot_decode(text, nothing, table, 1, 1, true);
    CHECK(strcmp(text[0], "Red") == 0);
}

TEST(one_hot, "categories are sqrt(2) apart; beside a constant the full encoding lacks a rank") {
    const llm_one_hot *table = one_hot_tables();
    llm_error error;
    float y[16];
    CHECK(llm_one_hot_encode(y, table[0].category, table, 4, 1, false, false, &error));
    for (size_t i = 0; i < 16; i++) CHECK(y[i] == (i / 4 == i % 4 ? 1.0f : 0.0f));
    for (size_t i = 0; i < 4; i++)
        for (size_t j = 0; j < 4; j++) {
            double d = 0.0;
            for (size_t k = 0; k < 4; k++) d += pow((double)(y[i * 4 + k] - y[j * 4 + k]), 2.0);
            CHECK_NEAR(sqrt(d), i == j ? 0.0 : sqrt(2.0), 1e-7);
        }
    enum { N = 40 };
    const char *text[N];
    float code[N * 4], x[N * 5], s[5];
    llm_rng rng = llm_rng_seed(1);
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 1 << 14));
    for (size_t i = 0; i < N; i++) text[i] = table[0].category[llm_rng_below(&rng, 4)];
    for (int drop = 0; drop < 2; drop++) {
        const size_t width = drop ? 3 : 4;
        CHECK(llm_one_hot_encode(code, text, table, N, 1, drop == 1, false, &error));
        for (size_t i = 0; i < N; i++)
            for (size_t k = 0; k <= width; k++)
                x[i * (width + 1) + k] = k == width ? 1.0f : code[i * width + k];
        llm_svd(NULL, s, NULL, x, N, width + 1, &arena);
        CHECK(llm_svd_rank(s, N, width + 1) == 4); /* of 5 columns, and of 4 */
    }
    llm_arena_destroy(&arena);
}

TEST(one_hot,
     "gather is the product with one-hot rows, scatter-add with their transpose, bit for bit") {
    llm_rng rng = llm_rng_seed(2);
    for (size_t round = 0; round < 30; round++) {
        const size_t N = 1 + llm_rng_below(&rng, 20), n = 1 + llm_rng_below(&rng, 9),
                     C = 1 + round % 7;
        float *w = floats(n * C), *dy = floats(N * C), *y = floats(N * C), *dw = floats(n * C);
        float *hot = zeros(N * n), *want = floats(n * C > N * C ? n * C : N * C);
        size_t *index = as_sizes(zeros(N), N);
        llm_rng_normal_fill(&rng, w, n * C);
        llm_rng_normal_fill(&rng, dy, N * C);
        for (size_t i = 0; i < N; i++) {
            index[i] = llm_rng_below(&rng, n);
            hot[i * n + index[i]] = 1.0f;
        }
        llm_one_hot_gather(y, w, index, N, n, C);
        for (size_t i = 0; i < N * C; i++) {
            want[i] = 0.0f;
            for (size_t k = 0; k < n; k++) want[i] += hot[i / C * n + k] * w[k * C + i % C];
        }
        CHECK_ALL_NEAR(y, want, N * C, 0.0f);
        for (size_t i = 0; i < n * C; i++) dw[i] = want[i] = 0.25f;
        llm_one_hot_scatter_add(dw, dy, index, N, n, C);
        for (size_t k = 0; k < N; k++) /* in the order of the rows: the same rounding */
            for (size_t i = 0; i < n * C; i++) want[i] += hot[k * n + i / C] * dy[k * C + i % C];
        CHECK_ALL_NEAR(dw, want, n * C, 0.0f);
    }
    float y[2];
    const size_t bad[1] = {2};
    CHECK_ASSERTS(llm_one_hot_gather(y, y, bad, 1, 2, 1));
    CHECK_ASSERTS(llm_one_hot_scatter_add(y, y, bad, 1, 2, 1));
}

TEST(one_hot, "no rows, no columns, a table without categories") {
    llm_one_hot empty = {NULL, 0};
    llm_error error;
    const char *text[1] = {"a"};
    float y[1] = {7.0f};
    llm_one_hot_fit(&empty, NULL, 0);
    CHECK(empty.count == 0 && llm_one_hot_width(&empty, 1, true) == 0);
    CHECK(llm_one_hot_width(&empty, 0, false) == 0);
    CHECK(llm_one_hot_encode(y, text, &empty, 1, 1, true, true, &error) && y[0] == 7.0f);
    CHECK(!llm_one_hot_encode(y, text, &empty, 1, 1, true, false, NULL));
    llm_one_hot_decode(text, y, &empty, 1, 1, true);
    CHECK(text[0] == NULL);

    const char *only[2] = {"a", "b"}; /* one category, dropped: it takes no place, and comes back */
    llm_one_hot single = {only, 1};
    CHECK(llm_one_hot_width(&single, 1, true) == 0 && llm_one_hot_width(&single, 1, false) == 1);
    llm_one_hot_decode(text, y, &single, 1, 1, true);
    CHECK(text[0] == only[0]);
    const char *const rows[6] = {"a", "a", "a", "a", "b", "a"}; /* row 1, column 1 of (2,3) */
    const llm_one_hot three[3] = {single, single, single};
    float out[6];
    CHECK_FAILS(llm_one_hot_encode(out, rows, three, 2, 3, false, false, &error), error,
                "row 1, column 1: \"b\" is no known category");
}

TEST(one_hot, "a table is filled anew, from the first text on") {
    const char *const text[3] = {"once", "b", "b"};
    const char *names[3];
    llm_one_hot table = {names, 77};
    llm_one_hot_fit(&table, text, 3);
    CHECK(table.count == 2 && strcmp(names[0], "b") == 0 && strcmp(names[1], "once") == 0);
}

/* @csv_column */
#include "../test.h"

#include "../../llm.h"

static llm_csv csv_of(const char *text) {
    llm_csv t;
    llm_error e;
    CHECK(llm_csv_parse(&t, text, strlen(text), ',', &e));
    return t;
}

TEST(csv_column, "numbers, missing ones and categories equal pandas") {
    enum { N = 40 };
    size_t size = 0, names_size = 0;
    const float *bytes = golden_n(&size, "table/text");
    char *text = (char *)test_memory(size + 1, 1);
    for (size_t i = 0; i < size; i++) text[i] = (char)(unsigned char)bytes[i];
    llm_csv t = csv_of(text);
    llm_error e;
    CHECK(t.rows == N && t.columns == 3);

    const char *name[2] = {"x", "y"};
    float *x = floats(2 * N);
    for (size_t k = 0; k < 2; k++) {
        const float *want = golden("table/%s", name[k]);
        size_t column = 9;
        CHECK(llm_csv_column(&column, &t, name[k], &e) && column == 2 * k);
        CHECK(llm_csv_numbers(x + k, 2, &t, column, &e));
        for (size_t i = 0; i < N; i++)
            CHECK(isnan(want[i]) ? isnan(x[2 * i + k]) : x[2 * i + k] == want[i]);
    }

    int code[N];
    const char *words[N];
    size_t count = 0, at = 0;
    const float *want = golden("table/code"), *names = golden_n(&names_size, "table/names");
    llm_csv_categories(code, words, &count, &t, 1);
    for (size_t i = 0; i < N; i++) CHECK(code[i] == (int)want[i]);
    for (size_t k = 0; k < count; k++)
        for (const char *c = words[k];; c++) {
            CHECK(at < names_size && (unsigned char)*c == (unsigned char)names[at++]);
            if (!*c) break;
        }
    CHECK(at == names_size);
    llm_csv_free(&t);
}

TEST(csv_column, "what is a number") {
    const char *good[] = {
        "0",   "-0", "+1", "1.", ".5", "-.5e+2", "007", "1e-60", "3.4028234663852886e38",
        "1E2", "1e9"};
    const float want[] = {0, 0, 1, 1, 0.5f, -50, 7, 0, FLT_MAX, 100, 1e9f};
    const char *bad[] = {"",     "-",   "+",     ".",      "e5",     "1e",   "1e+",
                         "1e+x", "1 ",  " 1",    "1,5",    "0x1",    "inf",  "nan",
                         "--1",  "+-1", "1.2.3", "3.5e38", "-1e999", "1e5x", "12a"};
    for (size_t i = 0; i < 11; i++) {
        float x = NAN;
        CHECK(llm_csv_number(&x, good[i]) && x == want[i]);
    }
    for (size_t i = 0; i < 21; i++) {
        float x = 7.0f;
        CHECK(!llm_csv_number(&x, bad[i]) && x == 7.0f);
    }
}

TEST(csv_column, "what is wrong is said with line and column") {
    llm_csv t = csv_of("a,b,a,\"\"\n1,2,3,4\n\n5,x7,,\"\"\n");
    llm_error e;
    size_t column = 9;
    float x[2];
    CHECK_FAILS(llm_csv_column(&column, &t, "c", &e), e, "line 1: no columns named 'c'");
    CHECK_FAILS(llm_csv_column(&column, &t, "a", &e), e, "line 1: several columns named 'a'");
    CHECK(column == 9 || column < 4);
    CHECK_FAILS(llm_csv_numbers(x, 1, &t, 1, &e), e, "line 4, column 'b': 'x7' is no number");
    CHECK(x[0] == 2.0f);
    CHECK(llm_csv_numbers(x, 1, &t, 2, &e) && x[0] == 3.0f && isnan(x[1]));
    CHECK(llm_csv_numbers(x, 1, &t, 3, &e) && x[0] == 4.0f && isnan(x[1])); /* an empty text */
    CHECK_ASSERTS(llm_csv_numbers(x, 1, &t, 4, &e));
    llm_csv_free(&t);

    t = csv_of("a\nb\n");
    CHECK_FAILS(llm_csv_column(&column, &t, "b", &e), e, "no columns named 'b'");
    llm_csv_free(&t);
    t = csv_of(",b\n1x,1\n");
    CHECK_FAILS(llm_csv_numbers(x, 1, &t, 0, &e), e, "column '': '1x'");
    CHECK(llm_csv_column(&column, &t, "b", &e) && column == 1);
    llm_csv_free(&t);
}

TEST(csv_column,
     "categories: none, one, all missing; an empty text is one; rows may come in any order") {
    int code[4];
    const char *name[4];
    size_t count = 9;
    llm_csv t = csv_of("a\n");
    llm_csv_categories(code, name, &count, &t, 0);
    CHECK(count == 0);
    CHECK_ASSERTS(llm_csv_categories(code, name, &count, &t, 1));
    llm_csv_free(&t);

    t = csv_of("a\nonce\nb\nb\n");
    llm_csv_categories(code, name, &count, &t, 0);
    CHECK(count == 2 && code[0] == 1 && code[1] == 0 && strcmp(name[1], "once") == 0);
    llm_csv_free(&t);

    t = csv_of("a,b\nNA,z\n,\"\"\nNA,z\nNA,a\n");
    llm_csv_categories(code, name, &count, &t, 0);
    CHECK(count == 0 && code[0] == -1 && code[3] == -1);
    llm_csv_categories(code, name, &count, &t, 1);
    CHECK(count == 3 && code[0] == 2 && code[1] == 0 && code[2] == 2 && code[3] == 1);
    CHECK(strcmp(name[0], "") == 0 && strcmp(name[1], "a") == 0 && strcmp(name[2], "z") == 0);
    llm_csv_free(&t);
}

TEST(csv_column,
     "cells equal those of Python's csv module: quotes, separators and lines inside quotes") {
    for (size_t k = 0; k < 5; k++) {
        size_t size = 0, cells_size = 0, at = 0;
        const float *bytes = golden_n(&size, "csv/%zu/text", k),
                    *shape = golden("csv/%zu/shape", k);
        const float *cells = golden_n(&cells_size, "csv/%zu/cells", k);
        char *text = (char *)test_memory(size, 1);
        for (size_t i = 0; i < size; i++) text[i] = (char)(unsigned char)bytes[i];
        llm_csv t;
        llm_error e;
        CHECK(llm_csv_parse(&t, text, size, k == 2 ? ';' : k == 3 ? '\t' : ',', &e));
        CHECK(t.rows == (size_t)shape[0] && t.columns == (size_t)shape[1]);
        for (size_t i = 0; i < (t.rows + 1) * t.columns; i++)
            for (const char *c = t.cell[i];; c++) {
                CHECK(at < cells_size && (unsigned char)*c == (unsigned char)cells[at++]);
                if (!*c) break;
            }
        CHECK(at == cells_size);
        llm_csv_free(&t);
    }
}

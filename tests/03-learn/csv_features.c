/* @csv_features */
#include "../test.h"

/* malloc that runs out after a number of calls */
static int cf_calls = 1 << 30;
static void *cf_malloc(size_t size) { return cf_calls-- > 0 ? malloc(size) : NULL; }
#define malloc cf_malloc

#include "../../llm.h"

static llm_csv cf_table(const char *text) {
    llm_csv t;
    llm_error e;
    CHECK(llm_csv_parse(&t, text, strlen(text), ',', &e));
    return t;
}

TEST(csv_features, "numbers and indicators equal pandas' get_dummies; missing stays missing") {
    static const char *const want[6] = {"area", "quarter=harbour", "quarter=hills",
                                        "age",  "sold=yes",        "empty"};
    size_t size = 0;
    const float *bytes = golden_n(&size, "table/text"), *x = golden("table/x");
    char *text = (char *)test_memory(size + 1, 1);
    for (size_t i = 0; i < size; i++) text[i] = (char)bytes[i];
    llm_csv t = cf_table(text);
    llm_csv_features f;
    llm_error e;
    CHECK(llm_csv_features_read(&f, &t, NULL, 3, &e) && f.n == 5 && f.d == 6);
    for (size_t j = 0; j < 6; j++) CHECK(strcmp(f.name[j], want[j]) == 0);
    for (size_t i = 0; i < 30; i++) CHECK(isnan(x[i]) ? isnan(f.x[i]) : f.x[i] == x[i]);
    llm_csv_features_free(&f);
    CHECK(!f.x && !f.name && f.d == 0);
    llm_csv_features_free(&f);

    const bool use[6] = {false, true, false, false, true, true};
    CHECK(llm_csv_features_read(&f, &t, use, 3, &e) && f.d == 3);
    for (size_t i = 0; i < 5; i++)
        for (size_t j = 0; j < 3; j++) {
            const float got = f.x[i * 3 + j], is = x[i * 6 + (j < 2 ? j + 1 : 5)];
            CHECK(isnan(is) ? isnan(got) : got == is);
        }
    CHECK(strcmp(f.name[2], "empty") == 0);
    llm_csv_features_free(&f);
    llm_csv_free(&t);
}

TEST(csv_features, "the first known value decides what a column is, and the rest must follow") {
    llm_csv t = cf_table("a,b,c\n,x1,\n1,2,\"\"\n2,3,7\n");
    llm_csv_features f;
    llm_error e;
    CHECK(llm_csv_features_number(&t, 0) && !llm_csv_features_number(&t, 1) &&
          llm_csv_features_number(&t, 2));
    CHECK(llm_csv_features_read(&f, &t, NULL, 9, &e) && f.d == 4); /* a, b=3, b=x1, c */
    CHECK(isnan(f.x[0]) && f.x[4] == 1.0f && f.x[11] == 7.0f && isnan(f.x[7]));
    CHECK(f.x[1] == 0.0f && f.x[2] == 1.0f && f.x[9] == 1.0f);
    llm_csv_features_free(&f);
    llm_csv_free(&t);
    t = cf_table(",b\n1,\n2,x\n"); /* only the last value is known; a column without a name */
    CHECK(llm_csv_features_number(&t, 0) && !llm_csv_features_number(&t, 1));
    CHECK(llm_csv_features_read(&f, &t, NULL, 9, &e) && f.d == 1 && !*f.name[0]);
    llm_csv_features_free(&f);
    llm_csv_free(&t);
    t = cf_table("id,age\na,30\nb,31\n\nc,12a\n");
    CHECK_FAILS(llm_csv_features_read(&f, &t, NULL, 9, &e), e,
                "CSV, line 5, column 'age': '12a' is no number");
    CHECK(!f.x && !f.name);
    CHECK_FAILS(llm_csv_features_read(&f, &t, NULL, 2, &e), e,
                "CSV, column 'id': 3 different texts, expected at most 2");
    CHECK(!f.x && !f.name);
    llm_csv_free(&t);
}

TEST(csv_features, "no rows, one text, long names, no memory") {
    llm_csv t = cf_table("a,b\n");
    llm_csv_features f;
    llm_error e;
    CHECK(llm_csv_features_read(&f, &t, NULL, 9, &e) && f.n == 0 && f.d == 2);
    llm_csv_features_free(&f);
    llm_csv_free(&t);
    t = cf_table("same\nx\nx\n\"\"\n"); /* an empty text is a text, if quoted: the first one */
    CHECK(llm_csv_features_read(&f, &t, NULL, 9, &e) && f.d == 1);
    CHECK(f.x[0] == 1.0f && f.x[2] == 0.0f && strcmp(f.name[0], "same=x") == 0);
    llm_csv_features_free(&f);
    llm_csv_free(&t);
    const bool none[1] = {false};
    t = cf_table("an_extremely_long_name_of_a_column_that_goes_on_and_on_and_on_and_on_and_"
                 "on\nv\nan_extremely_long_text_in_a_column_\n");
    CHECK(llm_csv_features_read(&f, &t, none, 9, &e) && f.d == 0);
    llm_csv_features_free(&f);
    int calls = 0;
    for (;; calls++) {
        cf_calls = calls;
        const bool ok = llm_csv_features_read(&f, &t, NULL, 9, &e);
        cf_calls = 1 << 30;
        if (ok) break;
        CHECK(strcmp(e.message, "CSV: out of memory") == 0 && !f.x && !f.name);
    }
    CHECK(calls == 4 && f.d == 1);
    CHECK(strcmp(f.name[0], "an_extremely_long_name_of_a_co=v") == 0);
    llm_csv_features_free(&f);
    llm_csv_free(&t);
    t = cf_table(
        "an_extremely_long_name_of_a_column_that_goes_on_and_on_and_on_and_on_and_on\n1\n");
    CHECK(llm_csv_features_read(&f, &t, NULL, 9, &e));
    CHECK(strcmp(f.name[0], "an_extremely_long_name_of_a_column_that_goes_on_and_on_and_on_a") ==
          0);
    llm_csv_features_free(&f);
    llm_csv_free(&t);
}

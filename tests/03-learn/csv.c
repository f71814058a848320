/* @csv */
#include "../test.h"

/* malloc that runs out after a number of calls */
static int csv_calls = 1 << 30;
static void *csv_malloc(size_t size) { return csv_calls-- > 0 ? malloc(size) : NULL; }
#define malloc csv_malloc

#include "../../llm.h"

/* Python's csv module is compared with in csv_column.c: a csv.py here would hide it from all
 * scripts. */
static bool csv_text(llm_csv *t, const char *text, llm_error *e) {
    const size_t size = strlen(text);
    char *exact = (char *)test_memory(size, 1); /* without the 0, so that a byte too many is seen */
    memcpy(exact, text, size);
    return llm_csv_parse(t, exact, size, ',', e);
}

/* The cells of the table, between bars; a dash for what is missing. */
static const char *csv_show(const char *text) {
    llm_csv t;
    llm_error e;
    char *out = (char *)test_memory(4096, 1);
    CHECK(csv_text(&t, text, &e));
    for (size_t i = 0; i < (t.rows + 1) * t.columns; i++) {
        strcat(out, t.cell[i] ? t.cell[i] : "-");
        strcat(out, (i + 1) % t.columns ? "|" : "/");
    }
    llm_csv_free(&t);
    return out;
}
#define CSV_SHOWS(text, want) CHECK(strcmp(csv_show(text), want) == 0)

TEST(csv, "by hand: ends of lines, blanks, missing values, quotes that make a text of them") {
    CSV_SHOWS("a,b\n1,2\n", "a|b/1|2/");
    CSV_SHOWS("a,b\r\n1,2", "a|b/1|2/");
    CSV_SHOWS("\xEF\xBB\xBF"
              "a\n",
              "a/");
    CSV_SHOWS("a", "a/");
    CSV_SHOWS(",", "-|-/");
    CSV_SHOWS("a\n\n1\n\r\n\n2\n", "a/1/2/"); /* empty lines are no rows */
    CSV_SHOWS("a\r\n\r\n12", "a/12/");
    CSV_SHOWS("a,b,c\n,,\n", "a|b|c/-|-|-/");
    CSV_SHOWS("a,b\n1,", "a|b/1|-/");
    CSV_SHOWS("a,b\n\"\",\n", "a|b/|-/");
    CSV_SHOWS("a,b\n \t x y\t ,  \n", "a|b/x y|-/");
    CSV_SHOWS("a,b\n\" x \",\"1\"\"2\"\r\n", "a|b/ x |1\"2/");
    CSV_SHOWS("a,b,c,d,e,f,g\nNA,N/A,NaN,nan,null,NULL,na\n", "a|b|c|d|e|f|g/-|-|-|-|-|-|na/");
    CSV_SHOWS("a,b\n\"NA\",\"\"\n", "a|b/NA|/");
    CSV_SHOWS("a\n\"1\n2\r\n\"\n", "a/1\n2\r\n/");
    CSV_SHOWS("a,\nb,\"\"\"\"\n", "a|-/b|\"/");
}

TEST(csv, "the line of each row counts the lines inside quotes and the empty ones") {
    llm_csv t;
    llm_error e;
    CHECK(csv_text(&t, "\na,b\n1,\"x\ny\n\"\n\n2,3\r\n4,5", &e));
    CHECK(t.rows == 3 && t.line[0] == 2 && t.line[1] == 3 && t.line[2] == 7 && t.line[3] == 8);
    llm_csv_free(&t);
    CHECK(!t.cell && !t.line && !t.memory && t.rows == 0);
    llm_csv_free(&t);
}

TEST(csv, "what is wrong is said with its line") {
    llm_csv t;
    llm_error e;
    CHECK_FAILS(csv_text(&t, "", &e), e, "line 1: no header");
    CHECK_FAILS(llm_csv_parse(&t, NULL, 0, ',', &e), e, "line 1: no header");
    CHECK_FAILS(csv_text(&t, "\n\r\n", &e), e, "no header");
    CHECK_FAILS(csv_text(&t, "a,b\n1,2\n3\n", &e), e, "line 3: 1 fields, the header has 2");
    CHECK_FAILS(csv_text(&t, "a,b\n\"x\n\",2,3\n", &e), e, "line 2: 3 fields, the header has 2");
    CHECK_FAILS(csv_text(&t, "a,b\n1,\"x\ny", &e), e, "line 2: a quote opens here");
    CHECK_FAILS(csv_text(&t, "a\n\"", &e), e, "line 2: a quote opens here");
    CHECK_FAILS(csv_text(&t, "a\n\"1\"\"", &e), e, "line 2: a quote opens here");
    CHECK_FAILS(csv_text(&t, "a\n\r", &e), e, "line 2: CR without LF");
    CHECK_FAILS(csv_text(&t, "\xEF\xBB\xBF", &e), e, "no header");
    CHECK_FAILS(csv_text(&t, "a\n\n1\"", &e), e, "line 3: a quote inside");
    CHECK_FAILS(csv_text(&t, "a\n\"1\"2\n", &e), e, "line 2: text behind the quote");
    CHECK_FAILS(csv_text(&t, "a\n1\r2\n", &e), e, "line 2: CR without LF");
    CHECK_FAILS(csv_text(&t, "a\r", &e), e, "line 1: CR without LF");
    CHECK_FAILS(llm_csv_parse(&t, "a\n\0\n", 4, ',', &e), e, "line 2: a byte 0");
    CHECK_FAILS(llm_csv_parse(&t, "a\n\"\n\0\"\n", 7, ',', &e), e, "line 3: a byte 0");
    CHECK(!t.cell && !t.line && !t.memory);
    CHECK_ASSERTS(llm_csv_parse(&t, "a", 1, '"', &e));
    CHECK_ASSERTS(llm_csv_parse(&t, "a", 1, '\n', &e));
    CHECK_ASSERTS(llm_csv_parse(&t, "a", 1, '\r', &e));
    CHECK_ASSERTS(llm_csv_parse(&t, "a", 1, 0, &e));
    CHECK(!csv_text(&t, "", NULL));
    for (int calls = 0; calls < 3; calls++) {
        csv_calls = calls;
        CHECK_FAILS(llm_csv_parse(&t, "a", 1, ',', &e), e, "CSV: out of memory");
        CHECK(!t.cell && !t.line && !t.memory);
    }
}

TEST(csv, "files") {
    const char *path = test_path("table.csv");
    llm_csv t;
    llm_error e;
    CHECK(llm_file_write(path, "a;b\n1;2\n", 8, &e) && llm_csv_read(&t, path, ';', &e));
    CHECK(t.rows == 1 && t.columns == 2 && strcmp(t.cell[3], "2") == 0);
    llm_csv_free(&t);
    memset(&t, 255, sizeof t);
    CHECK_FAILS(llm_csv_read(&t, test_path("none.csv"), ',', &e), e, "none.csv: cannot be opened");
    CHECK(!t.cell && !t.line && !t.memory);
}

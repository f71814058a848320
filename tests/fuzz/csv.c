/* @csv @csv_column: what is accepted, written with quotes and read again, is the same table. */
#include "fuzz.h"

static bool fuzz_quoted(llm_buffer *b, const char *text) {
    bool ok = !text || llm_buffer_put(b, "\"", 1); /* nothing at all is a missing value */
    for (const char *c = text; c && *c && ok; c++)
        ok = llm_buffer_put(b, c, 1) && (*c != '"' || llm_buffer_put(b, c, 1));
    return ok && (!text || llm_buffer_put(b, "\"", 1));
}

static void fuzz(const unsigned char *data, size_t size) {
    llm_csv t, again;
    llm_error e;
    e.message[0] = 0;
    if (!llm_csv_parse(&t, (const char *)data, size, ',', &e)) {
        FUZZ_CHECK_SENTENCE(e);
        FUZZ_CHECK(!t.cell && !t.line && !t.memory);
        return;
    }
    llm_buffer b = {NULL, 0, 0};
    const size_t cells = (t.rows + 1) * t.columns;
    FUZZ_CHECK(t.columns > 0 && t.line[t.rows] <= size + 1);
    for (size_t i = 0; i < cells; i++) {
        const bool last = (i + 1) % t.columns == 0;
        FUZZ_CHECK(fuzz_quoted(&b, t.cell[i]) && llm_buffer_put(&b, last ? "\n" : ",", 1));
        if (t.columns == 1 && !t.cell[i]) { /* would be an empty line */
            b.size--;
            FUZZ_CHECK(llm_buffer_put(&b, "NA\n", 3));
        }
    }
    FUZZ_CHECK(llm_csv_parse(&again, b.data, b.size, ',', &e));
    FUZZ_CHECK(again.rows == t.rows && again.columns == t.columns);
    for (size_t i = 0; i < cells; i++) {
        FUZZ_CHECK(!t.cell[i] == !again.cell[i]);
        FUZZ_CHECK(!t.cell[i] || strcmp(t.cell[i], again.cell[i]) == 0);
    }

    float *x = (float *)malloc((t.rows + 1) * sizeof *x);
    int *code = (int *)malloc((t.rows + 1) * sizeof *code);
    const char **name = (const char **)malloc((t.rows + 1) * sizeof *name);
    FUZZ_CHECK(x && code && name);
    for (size_t c = 0; c < t.columns; c++) {
        size_t count = 0, found = 0;
        e.message[0] = 0;
        if (!llm_csv_numbers(x, 1, &t, c, &e)) FUZZ_CHECK_SENTENCE(e);
        llm_csv_categories(code, name, &count, &t, c);
        for (size_t i = 0; i < t.rows; i++) {
            const char *cell = t.cell[(i + 1) * t.columns + c];
            FUZZ_CHECK(cell ? strcmp(name[code[i]], cell) == 0 : code[i] == -1);
        }
        for (size_t k = 1; k < count; k++) FUZZ_CHECK(strcmp(name[k - 1], name[k]) < 0);
        if (t.cell[c] && llm_csv_column(&found, &t, t.cell[c], &e)) FUZZ_CHECK(found == c);
    }
    free(x);
    free(code);
    free(name);
    llm_buffer_free(&b);
    llm_csv_free(&again);
    llm_csv_free(&t);
}

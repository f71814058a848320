/* examples/digits.c, run as a user does: drawn digits, files with a known answer, and bad files. */
#include "../test.h"

#define main digits_main
#include "../../examples/digits.c"
#undef main

#include "../program.h"

/* Runs `digits FILE --epochs EPOCHS`, either may be NULL, in a process of its own. */
static int digits(const char *file, const char *epochs) {
    char text[3][4096] = {"--epochs"}, *argv[5] = {text[0]};
    int argc = 1;
    if (file) snprintf(argv[argc++] = text[1], sizeof text[1], "%s", file);
    if (epochs) argv[argc++] = text[0], snprintf(text[2], sizeof text[2], "%s", epochs);
    if (epochs && *epochs) argv[argc++] = text[2];
    return program_run(digits_main, argc, argv, NULL);
}

/* The row of a model: its weights, training loss, test loss, share of the test in percent. */
typedef struct {
    double weights, seconds, loss, test_loss, right;
} row_of;
static row_of row(const char *name) {
    char start[16];
    row_of r;
    snprintf(start, sizeof start, "\n%s ", name);
    const char *at = strstr(program_output, start);
    if (!at) test_fail(__FILE__, __LINE__, "no model %s in\n%s", name, program_output);
    CHECK(sscanf(at + strlen(start), "%lf%lf%lf%lf%lf%%", &r.weights, &r.seconds, &r.loss,
                 &r.test_loss, &r.right) == 5);
    CHECK(r.seconds >= 0.0 && r.loss >= 0.0 && r.test_loss >= 0.0);
    return r;
}

/* count (10,10) <- the matrix, whose sum and diagonal must agree with everything else printed. */
static void matrix(size_t count[10][10], size_t tested, double right) {
    size_t sum = 0, diagonal = 0, wrong = 0, all = 0;
    const char *at = strstr(program_output, "(across)\n");
    CHECK(at != NULL);
    at = strchr(at + 9, '\n');
    for (size_t i = 0; i < 110; i++) {
        char word[16];
        int length = 0;
        CHECK(sscanf(at, "%15s%n", word, &length) == 1);
        at += length;
        if (i % 11 == 0) CHECK(strtoul(word, NULL, 10) == i / 11); /* the digit of the row */
        if (i % 11 == 0) continue;
        CHECK(strcmp(word, "0") != 0);
        count[i / 11][i % 11 - 1] = strcmp(word, ".") == 0 ? 0 : strtoul(word, NULL, 10);
        sum += count[i / 11][i % 11 - 1];
        diagonal += i / 11 == i % 11 - 1 ? count[i / 11][i % 11 - 1] : 0;
    }
    CHECK(sum == tested);
    CHECK_NEAR(100.0 * (double)diagonal / (double)tested, right, 0.051); /* one decimal */
    CHECK(sscanf(at, "%zu of %zu are wrong", &wrong, &all) == 2);
    CHECK(wrong == tested - diagonal && all == tested);
}

static size_t captions(void) {
    size_t found = 0;
    double before = 101.0;
    for (const char *at = program_output; (at = strstr(at, ", says ")) != NULL; at++, found++) {
        int is, answer;
        double sure;
        CHECK(sscanf(at - 3, "a %d, says %d: %lf%%", &is, &answer, &sure) == 3 && is != answer);
        CHECK(is >= 0 && is < 10 && answer >= 0 && answer < 10 && sure >= 10.0 && sure <= before);
        before = sure; /* the surest first */
    }
    return found;
}

TEST(digits, "both networks learn the drawn digits; the matrix and the mistakes add up") {
    size_t count[10][10];
    CHECK(digits(NULL, "4") == 0);
    CHECK(!strncmp(program_output, "2500 pictures, 2000 to train on, 500 to test; 4 epochs\n", 55));
    const row_of a = row("MLP"), b = row("CNN");
    CHECK(a.weights == 65 * 128 + 129 * 10);
    CHECK(b.weights == 12 * 10 + 24 + 24 * (12 * 9 + 1) + 48 + 10 * (24 * 4 + 1));
    CHECK(a.right > 80.0 && b.right > 80.0); /* nine sets of seeds: 90.4 to 96.0 */
    CHECK(a.loss < 1.0 && b.loss < 1.0 && a.test_loss < 1.0 && b.test_loss < 1.0);
    matrix(count, 500, fmax(a.right, b.right));
    CHECK(strstr(program_output, a.right > b.right ? "the MLP says" : "the CNN says"));
    CHECK(captions() == 8);
}

/* t.csv: 60 pictures, header and end of line as given. Those of digit d have ink in rows d / 2 and
 * (d + 1) / 2 + 3, so that all are told apart; of the first `lies` the label says one more. */
static const char *table(const char *header, const char *end, int lies) {
    llm_buffer b = {NULL, 0, 0};
    llm_error error;
    const char *path = test_path("t.csv");
    CHECK(llm_buffer_print(&b, "%s", header));
    for (int i = 0; i < 60; i++) {
        const int d = i % 10;
        for (int k = 0; k < 64; k++)
            CHECK(llm_buffer_print(&b, "%s,",
                                   k / 8 == d / 2 || k / 8 == (d + 1) / 2 + 3 ? "16"
                                   : k % 2                                    ? "0"
                                                                              : "1.5"));
        CHECK(llm_buffer_print(&b, "%d%s", i < lies ? (d + 1) % 10 : d, i < 59 ? end : ""));
    }
    CHECK(llm_file_write(path, b.data, b.size, &error));
    llm_buffer_free(&b);
    return path;
}

/* pixel_0,..,pixel_63,target, or 0,1,..,64. */
static const char *names(bool numbers) {
    static char text[1000];
    size_t at = 0;
    for (int k = 0; k < 65; k++)
        at += (size_t)snprintf(text + at, sizeof text - at, numbers ? "%d%s" : "pixel_%d%s", k,
                               k < 64 ? "," : "\n");
    return text;
}

TEST(digits, "a file that is learned without mistakes, with and without a header") {
    size_t count[10][10];
    char before[2000];
    for (int form = 0; form < 4; form++) {
        const char *path = table(form == 0   ? ""
                                 : form == 1 ? names(false)
                                 : form == 2 ? names(true)
                                             : "\xEF\xBB\xBF",
                                 form == 1   ? "\r\n"
                                 : form == 3 ? "\n\n"
                                             : "\n",
                                 0);
        CHECK(digits(path, "25") == 0);
        CHECK(!strncmp(program_output, "60 pictures", 11));
        CHECK((strncmp(program_output + 11, " behind a header,", 17) == 0) ==
              (form == 1 || form == 2));
        CHECK(strstr(program_output, ", 48 to train on, 12 to test; 25 epochs\n"));
        CHECK(row("MLP").right == 100.0 && row("CNN").right == 100.0);
        matrix(count, 12, 100.0);
        CHECK(strstr(program_output, "\n0 of 12 are wrong\n") && captions() == 0);
        const char *after = strstr(program_output, "the test, by");
        if (form == 0) snprintf(before, sizeof before, "%s", after);
        CHECK(strcmp(before, after) == 0); /* the same pictures, however they are written down */
    }
}

TEST(digits, "a label that is wrong in the file is shown as a mistake, with its picture") {
    size_t count[10][10], off = 0;
    CHECK(digits(table("", "\n", 10), "40") == 0); /* about 2 of the 10 are in the test */
    matrix(count, 12, fmax(row("MLP").right, row("CNN").right));
    for (size_t k = 0; k < 10; k++) off += count[(k + 1) % 10][k];
    CHECK(off > 0 && captions() >= off);
    CHECK(strstr(program_output, "@@@@@@@@@@@@@@@@"));          /* a row of ink */
    CHECK(strstr(program_output, "..  ..  ..  ..") != NULL);    /* one of 1.5 and 0 */
    CHECK(strstr(program_output, "@@@@@@@@@@@@@@@@@") == NULL); /* which is 8 pixels wide */
}

static void refused(const char *file, const char *epochs, const char *text) {
    const int code = digits(file, epochs);
    const char *end = strchr(program_output, '\n');
    if (code != 2 || strncmp(program_output, "digits: ", 8) != 0 || !end || end[1] ||
        !strstr(program_output, text))
        test_fail(__FILE__, __LINE__, "exit code %d, \"%s\", want 2 and \"%s\"", code,
                  program_output, text);
}

/* t.csv of 25 lines, all pixels 1 and label 7, but for the text in that line and column. */
static const char *spoiled(size_t line, size_t column, const char *text) {
    llm_buffer b = {NULL, 0, 0};
    llm_error error;
    const char *path = test_path("t.csv");
    for (size_t i = 1; i <= 25; i++)
        for (size_t c = 1; c <= 65; c++)
            CHECK(llm_buffer_print(&b, "%s%s",
                                   i == line && c == column ? text
                                   : c < 65                 ? "1"
                                                            : "7",
                                   c < 65 ? "," : "\n"));
    CHECK(llm_file_write(path, b.data, b.size, &error));
    llm_buffer_free(&b);
    return path;
}

TEST(digits, "bad files and options get one sentence, with the line, and exit code 2") {
    refused(spoiled(3, 65, "7,1"), NULL, "line 3: 66 columns, expected 65");
    refused(spoiled(1, 1, "1,1"), NULL, "line 1: 66 columns, expected 65");
    refused(spoiled(25, 65, "7\n1,2"), NULL, "line 26: 2 columns, expected 65");
    refused(spoiled(4, 9, "17"), NULL, "line 4, column 9: a pixel of 17, expected 0 to 16");
    refused(spoiled(1, 64, "-0.5"), NULL, "line 1, column 64: a pixel of -0.5, expected 0 to 16");
    refused(spoiled(5, 65, "10"), NULL, "line 5: a label of 10, expected 0, 1, .. or 9");
    refused(spoiled(5, 65, "-1"), NULL, "line 5: a label of -1");
    refused(spoiled(5, 65, "2.5"), NULL, "line 5: a label of 2.5");
    refused(spoiled(6, 2, "x"), NULL, "line 6, column 2: 'x' is no number");
    refused(spoiled(1, 2, "x"), NULL, "line 1, column 2: 'x' is no number");
    refused(spoiled(2, 65, "seven"), NULL, "line 2, column 65: 'seven' is no number");
    refused(spoiled(7, 1, ""), NULL, "line 7, column 1: '' is no number");
    refused(spoiled(8, 3, "nan"), NULL, "line 8, column 3: '' is no number");
    refused(spoiled(9, 3, "\"1"), NULL, "line 9: a quote opens here");
    refused(spoiled(10, 3, "\n\n1"), NULL, "line 10: 3 columns");
    refused(test_path("none.csv"), NULL, "none.csv: cannot be opened");
    llm_error error;
    CHECK(llm_file_write(test_path("t.csv"), "", 0, &error));
    refused(test_path("t.csv"), NULL, "0 pictures, expected at least 20");
    refused(spoiled(1, 1, "1"), "0", "usage: digits [FILE] [--epochs N]");
    refused(NULL, "", "usage");
    refused(NULL, "3x", "usage");
    refused(NULL, "99999", "usage");
    refused("--colour", NULL, "usage");
}

TEST(digits, "pictures that are all alike are learned as far as they go") {
    CHECK(digits(spoiled(1, 1, "1"), "2") == 0); /* 20 to train on, all of them a 7 */
    CHECK(row("MLP").right >= 0.0 && row("CNN").right >= 0.0 && !strstr(program_output, "nan"));
}

/* examples/fit.c, run as a user does: tables with known answers, pictures, and bad tables. */
#include "../test.h"

#define main fit_main
#include "../../examples/fit.c"
#undef main

#include "../program.h"

/* Runs `fit ARGUMENTS`, which are split at spaces, in a process of its own and in a directory that
 * is removed afterwards. */
static int fit(const char *arguments) {
    char *text = (char *)test_memory(strlen(arguments) + 1, 1), *argv[16] = {text};
    int argc = 1;
    strcpy(text, arguments);
    for (char *word = strtok(text, " "); word && argc < 16; word = strtok(NULL, " "))
        argv[argc++] = word;
    const char *here = test_path("");
    return program_run(fit_main, argc, argv, here);
}

/* The coefficient of a name in what was printed, its interval in low and high. */
static double found(const char *name, double *low, double *high) {
    char line[64];
    double value = (double)NAN;
    snprintf(line, sizeof line, "\n  %s ", name);
    const char *at = strstr(program_output, line);
    if (!at) test_fail(__FILE__, __LINE__, "no line '%s' in\n%s", name, program_output);
    CHECK(sscanf(at + strlen(line), "%lf %lf %lf", &value, low, high) == 3 && *low <= *high);
    return value;
}
static const char *table_of(const char *text) {
    llm_error error;
    CHECK(llm_file_write(test_path("t.csv"), text, strlen(text), &error));
    return "t.csv";
}
static const char *picture(const char *name) {
    llm_file file;
    llm_error error;
    CHECK(llm_file_read(&file, test_path(name), &error));
    char *text = (char *)test_memory(file.size + 1, 1);
    memcpy(text, file.data, file.size);
    llm_file_free(&file);
    CHECK(strcmp(text + strlen(text) - 7, "</svg>\n") == 0 && !strstr(text, "nan"));
    return text;
}
static size_t count(const char *text, const char *what) {
    size_t n = 0;
    for (; (text = strstr(text, what)) != NULL; text++) n++;
    return n;
}

/* 120 rows: y = 3 a - 2 b + 5 (group is v) + 1 + noise, c says nothing; k is the sign of y - 1. */
static const char *known_table(float noise) {
    llm_buffer b = {NULL, 0, 0};
    llm_rng rng = llm_rng_seed(3);
    CHECK(llm_buffer_print(&b, "id,a,b,c,group,k,y\n"));
    for (int i = 0; i < 120; i++) {
        float z[4];
        llm_rng_normal_fill(&rng, z, 4);
        const float x = roundf(100.0f * z[0]) / 10.0f, w = roundf(100.0f * z[1]) / 100.0f;
        const float y = 3.0f * x - 2.0f * w + (i % 3 == 1 ? 6.0f : 1.0f) + noise * z[3];
        CHECK(llm_buffer_print(&b, "r%d,%.1f,%.2f,%.3f,%s,%s,%.4f\n", i, (double)x, (double)w,
                               (double)z[2],
                               i % 3 == 1 ? "v"
                               : i % 3    ? "w"
                                          : "u",
                               y > 1.0f ? "plus" : "minus", (double)y));
    }
    const char *path = table_of(b.data);
    llm_buffer_free(&b);
    return path;
}

TEST(fit, "without noise linear regression returns the coefficients, texts as differences") {
    double low, high;
    known_table(0.0f);
    CHECK(fit("t.csv --model linear --drop id --drop k") == 0);
    CHECK_NEAR(found("a", &low, &high), 3.0, 1e-4);
    CHECK_NEAR(found("b", &low, &high), -2.0, 1e-4);
    CHECK(high < -1.999 && low > -2.001);
    CHECK_NEAR(found("group=v", &low, &high), 5.0, 1e-3);
    CHECK_NEAR(found("group=w", &low, &high), 0.0, 1e-3);
    CHECK_NEAR(found("(intercept)", &low, &high), 1.0, 1e-3);
    CHECK(count(picture("learning.svg"), "<polyline") == 2);
    CHECK(access(test_path("path.svg"), F_OK) != 0);                      /* no penalty, no path */
    CHECK(fit("--target y t.csv --drop k --drop id --model ridge") == 0); /* little penalty */
    CHECK_NEAR(found("a", &low, &high), 3.0, 0.01);
}

TEST(fit, "the lasso leaves out what says nothing, and ridge does not") {
    double low, high;
    known_table(2.0f);
    CHECK(fit("t.csv --model lasso --drop id --drop k") == 0);
    CHECK_NEAR(found("a", &low, &high), 3.0, 0.15);
    CHECK(low < 3.0 && high > 3.0);
    CHECK_NEAR(found("c", &low, &high), 0.0, 0.3);
    CHECK(low <= 0.0 && high >= 0.0);
    const char *path = picture("path.svg"); /* at the largest penalty all are 0: one height */
    const char *at = strstr(path, "points='");
    double first = 0.0;
    CHECK(at && sscanf(at, "points='74.0,%lf", &first) == 1);
    for (size_t i = 1; i < 5; i++) {
        double height = 0.0;
        at = strstr(at + 1, "points='");
        CHECK(at && sscanf(at, "points='74.0,%lf", &height) == 1 && fabs(height - first) < 0.2);
    }
}

TEST(fit, "two texts get logistic regression, three softmax; the odds go the right way") {
    double low, high, error = 0.0, constant = 0.0;
    known_table(2.0f);
    CHECK(fit("t.csv --target k --drop id --drop y") == 0);
    CHECK(strncmp(program_output, "logistic", 8) == 0 && strstr(program_output, "for 'plus'"));
    CHECK(found("a", &low, &high) > 0.0 && low > 0.0);
    CHECK(found("b", &low, &high) < 0.0);
    CHECK(sscanf(strstr(program_output, "test error"), "test error %lf, of the constant model %lf",
                 &error, &constant) == 2);
    CHECK_NEAR(constant, log(2.0), 0.1); /* about half of them are plus */
    CHECK(error < 0.5 * constant);

    CHECK(fit("t.csv --target group --drop id --drop k") == 0);
    CHECK(strncmp(program_output, "softmax", 7) == 0 && strstr(program_output, "for 'u'"));
    CHECK(strstr(program_output, "for 'v'") && strstr(program_output, "for 'w'"));
    CHECK(sscanf(strstr(program_output, "test error"), "test error %lf, of the constant model %lf",
                 &error, &constant) == 2);
    CHECK_NEAR(constant, log(3.0), 0.02);
    CHECK(error < 0.9 * constant); /* 0.81: v differs, u and w do not */
    CHECK(strstr(picture("path.svg"), "the path of the first class"));
}

TEST(fit, "what is missing: numbers, texts, targets, whole columns") {
    double low, high;
    llm_buffer b = {NULL, 0, 0};
    CHECK(llm_buffer_print(&b, "x,kind,empty,y\n"));
    for (int i = 0; i < 90; i++) {
        const bool odd = i % 2 == 1;
        if (i % 10 == 4)
            CHECK(llm_buffer_print(&b, ",%s,,%d\n", odd ? "odd" : "even", 89 + 10 * odd));
        if (i % 10 == 5) CHECK(llm_buffer_print(&b, "%d,%s,,\n", i, odd ? "odd" : "even"));
        if (i % 10 != 4 && i % 10 != 5)
            CHECK(llm_buffer_print(&b, "%d,%s,,%d\n", i, odd ? "odd" : "even", 2 * i + 10 * odd));
    }
    table_of(b.data);
    llm_buffer_free(&b);
    CHECK(fit("t.csv") == 0 && strstr(program_output, "81 rows with a target"));
    CHECK_NEAR(found("x", &low, &high), 2.0, 0.1);
    CHECK_NEAR(found("empty", &low, &high), 0.0, 0.0);
}

TEST(fit, "nothing of the test part reaches the fit") {
    known_table(1.0f);
    CHECK(fit("t.csv --model ridge --drop id --drop k") == 0);
    char *before = (char *)test_memory(sizeof program_output, 1);
    strcpy(before, strstr(program_output, "per unit"));
    /* the rows that are dealt to the test, found as the program deals them, become absurd */
    CHECK(llm_csv_read(&csv, test_path("t.csv"), ',', &e));
    CHECK(llm_arena_create(&arena, 1 << 20));
    read_target(6, false);
    deal();
    CHECK(n_all == 120 && n_test == 24 && n_train == 96);
    llm_buffer b = {NULL, 0, 0};
    for (size_t i = 0; i <= csv.rows; i++) {
        bool held = false;
        for (size_t k = 0; k < n_test; k++) held = held || test[k] + 1 == i;
        for (size_t c = 0; c < csv.columns; c++)
            CHECK(llm_buffer_print(&b, "%s%s", c > 0 ? "," : "",
                                   held && c != 4 && c != 5 ? "123456" : csv.cell[i * 7 + c]));
        CHECK(llm_buffer_print(&b, "\n"));
    }
    table_of(b.data);
    llm_buffer_free(&b);
    llm_csv_free(&csv);
    llm_arena_destroy(&arena);
    n_all = model = 0;
    CHECK(fit("t.csv --model ridge --drop id --drop k") == 0);
    CHECK(strcmp(before, strstr(program_output, "per unit")) == 0);
}

static void refused(const char *arguments, const char *text) {
    const int code = fit(arguments);
    const char *end = strchr(program_output, '\n');
    if (code != 2 || strncmp(program_output, "fit: ", 5) != 0 || !end || end[1] ||
        !strstr(program_output, text))
        test_fail(__FILE__, __LINE__, "%s: exit code %d, \"%s\", want 2 and \"%s\"", arguments,
                  code, program_output, text);
}

TEST(fit, "bad tables and options get one sentence, with the line, and exit code 2") {
    known_table(1.0f);
    refused("t.csv", "CSV, column 'id': 120 different texts, expected at most 20");
    refused("t.csv --drop id --target z", "CSV, line 1: no columns named 'z'");
    refused("t.csv --drop nobody", "CSV, line 1: no columns named 'nobody'");
    refused("t.csv --drop id --target group --model linear",
            "CSV, line 2, column 'group': 'u' is no number");
    refused("t.csv --drop id --target group --model logistic", "too few or too many");
    refused("t.csv --drop id --target y --model softmax", "too few or too many");
    refused("t.csv --model quadratic", "--model: linear, ridge, lasso, logistic or softmax");
    refused("t.csv --target", "an option without its value");
    refused("t.csv other.csv", "usage");
    refused("--colour red", "usage");
    refused("absent.csv", "absent.csv: cannot be opened");
    table_of("a,b\n1,2\n3\n");
    refused("t.csv", "CSV, line 3: 1 fields, the header has 2");
    table_of("a,b\n1,2\n3,x4\n5,6\n");
    refused("t.csv", "CSV, line 3, column 'b': 'x4' is no number");
    table_of("a,b\n1,2\n3,4\n");
    refused("t.csv", "fewer than 20 rows have a target");
    table_of("");
    refused("t.csv", "CSV, line 1: no header");
}

TEST(fit, "the built-in table: true effects are inside their intervals, and the door's is 0") {
    double low, high;
    CHECK(fit("") == 0);
    CHECK(strstr(program_output,
                 "ridge regression: 150 rows with a target, 120 to fit, 30 to test; 8"));
    const char *const name[3] = {"area", "age", "distance"};
    const double want[3] = {3.1, -0.7, -6.0};
    for (size_t i = 0; i < 3; i++) {
        const double got = found(name[i], &low, &high);
        CHECK_NEAR(got, want[i], 0.25 * fabs(want[i]));
    }
    CHECK_NEAR(found("door", &low, &high), 0.0, 0.3);
    CHECK(low < 0.0 && high > 0.0 && strstr(program_output, "0 is inside"));
    double test_error = 0.0, constant = 0.0;
    CHECK(sscanf(strstr(program_output, "test error"), "test error %lf, of the constant model %lf",
                 &test_error, &constant) == 2);
    CHECK(test_error < 0.5 * constant && test_error > 900.0); /* the noise: 1600 */
    const char *learning = picture("learning.svg"), *path = picture("path.svg");
    CHECK(count(learning, "<polyline") == 2 && count(path, "<polyline") == 8);
    CHECK(strstr(learning, ">held out</text>") && strstr(learning, ">rows fitted</text>"));
    CHECK(strstr(path, ">quarter=hills</text>") && strstr(path, "stroke-dasharray"));
    char *before = (char *)test_memory(sizeof program_output, 1);
    strcpy(before, program_output);
    CHECK(fit("") == 0 && strcmp(program_output, before) == 0);
}

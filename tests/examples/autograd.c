/* examples/autograd.c, run as a user does: values and derivatives, the picture, and bad input. */
#include "../test.h"

#define main autograd_main
#include "../../examples/autograd.c"
#undef main

#include "../program.h"

/* Runs autograd with these words (up to four, then NULL) in a process of its own. */
static int autograd(const char *a, const char *b, const char *c, const char *d) {
    const char *words[5] = {"autograd", a, b, c, d};
    char *argv[6] = {NULL};
    int argc = 0;
    while (argc < 5 && words[argc]) {
        argv[argc] = (char *)test_memory(strlen(words[argc]) + 1, 1);
        strcpy(argv[argc], words[argc]);
        argc++;
    }
    return program_run(autograd_main, argc, argv, NULL);
}

/* The value and the derivatives by x and y of an expression in x = 2, y = 3. */
static void check(const char *expression, double value, double dx, double dy) {
    double got[3];
    CHECK(autograd(expression, "x=2", "y=3", NULL) == 0);
    CHECK(sscanf(program_output, "value %lf\nd/dx %lf\nd/dy %lf", &got[0], &got[1], &got[2]) == 3);
    CHECK_NEAR(got[0], value, 1e-8 * (1.0 + fabs(value)));
    CHECK_NEAR(got[1], dx, 1e-8 * (1.0 + fabs(dx)));
    CHECK_NEAR(got[2], dy, 1e-8 * (1.0 + fabs(dy)));
}

TEST(autograd, "values and derivatives of every operation, with the usual precedence") {
    check("x*y + sin(x)", 6.0 + sin(2.0), 3.0 + cos(2.0), 2.0);
    check("x - y - 1 - x*y/4/2", -2.75, 0.625, -1.25);
    check("-x^2", -4.0, -4.0, 0.0);
    check("x^y", 8.0, 12.0, 8.0 * log(2.0));
    check("2^3^0.5*x", 2.0 * pow(2.0, sqrt(3.0)), pow(2.0, sqrt(3.0)), 0.0);
    check("(-x)^3 + x^-1", -7.5, -12.25, 0.0);
    check("exp(-y)*log(x)", exp(-3.0) * log(2.0), exp(-3.0) / 2.0, -exp(-3.0) * log(2.0));
    check("cos(x) * tanh(y)", cos(2.0) * tanh(3.0), -sin(2.0) * tanh(3.0),
          cos(2.0) * (1.0 - tanh(3.0) * tanh(3.0)));
    check("sqrt(x*y)", sqrt(6.0), 3.0 / (2.0 * sqrt(6.0)), 2.0 / (2.0 * sqrt(6.0)));
    check("relu(x - y) + relu(y) + max(x, y)", 6.0, 0.0, 2.0);
    check(" ( ( x ) ) *1e1 + .5 ", 20.5, 10.0, 0.0);
    check("x^(0*y)", 1.0, 0.0, 0.0);
    CHECK(autograd("1 + 1", NULL, NULL, NULL) == 0 && strcmp(program_output, "value 2\n") == 0);
}

TEST(autograd,
     "the picture has a box for each operation that counts, and an arrow for each reading") {
    llm_file f;
    llm_error error;
    CHECK(autograd("tanh(x*y) + 1", "x=2", "y=3", test_path("g.svg")) == 0);
    CHECK(llm_file_read(&f, test_path("g.svg"), &error));
    char *text = (char *)test_memory(f.size + 1, 1);
    memcpy(text, f.data, f.size);
    llm_file_free(&f);
    size_t boxes = 0, arrows = 0;
    for (const char *c = text; (c = strstr(c, "<g ")) != NULL; c++) boxes++;
    for (const char *c = text; (c = strstr(c, "<path ")) != NULL; c++) arrows++;
    CHECK(boxes == 6 && arrows == 5); /* x y 1, * tanh + */
    CHECK(strstr(text, ">tanh<") && strstr(text, ">v 6<") && strstr(text, "</svg>\n"));
}

static void refused(const char *a, const char *b, const char *c, const char *text) {
    const int code = autograd(a, b, c, NULL);
    const char *end = strchr(program_output, '\n');
    if (code != 2 || strncmp(program_output, "autograd: ", 10) != 0 || !end || end[1] ||
        !strstr(program_output, text))
        test_fail(__FILE__, __LINE__, "%s: exit code %d, \"%s\", want 2 and \"%s\"", a, code,
                  program_output, text);
}

TEST(autograd, "bad input gets one sentence and exit code 2") {
    char deep[200], many[1300] = "x";
    memset(deep, '(', 199);
    deep[199] = 0;
    while (strlen(many) < 1200) strcat(many, "+sin(x)");
    refused(NULL, NULL, NULL, "usage");
    refused("", NULL, NULL, "position 1, at the end: a number, a variable");
    refused("x + ", "x=1", NULL, "position 5, at the end");
    refused("x", NULL, NULL, "given no value");
    refused("2 3", NULL, NULL, "position 3, at '3': an operator was expected");
    refused("(1", NULL, NULL, "a ')' was expected");
    refused("sin(1", NULL, NULL, "a ')' was expected");
    refused("foo(1)", NULL, NULL, "there are only exp log");
    refused("max(1)", NULL, NULL, "two arguments");
    refused("2 * * 3", NULL, NULL, "at '* 3'");
    refused(".", NULL, NULL, "this is no number");
    refused("1e999", NULL, NULL, "this is no number");
    refused(deep, NULL, NULL, "inside each other");
    refused(many, "x=1", NULL, "too long");
    refused("averyveryverylongnameofavariable", NULL, NULL, "too long");
    refused("x", "x=", NULL, "a finite number was expected");
    refused("x", "x=1z", NULL, "a finite number was expected");
    refused("x", "x=inf", NULL, "a finite number was expected");
    refused("x", "x", NULL, "neither NAME=NUMBER");
    refused("x", "2=3", NULL, "neither NAME=NUMBER");
    refused("x", "x=1", "x=2", "x is given twice");
    refused("1", "/nowhere/at/all.svg", NULL, "cannot be created");
}

/* examples/optimizers.c, run as a user does: the table, both pictures, and bad input. */
#include "../test.h"

#define main optimizers_main
#include "../../examples/optimizers.c"
#undef main

#include "../program.h"

static int race(const char *a, const char *b) {
    char name[] = "optimizers", one[512] = "", two[32] = "", *argv[4] = {name, one, two, NULL};
    if (a) snprintf(one, sizeof one, "%s", a);
    if (b) snprintf(two, sizeof two, "%s", b);
    return program_run(optimizers_main, b ? 3 : a ? 2 : 1, argv, NULL);
}

TEST(optimizers, "the surfaces have the gradients they claim, and minima of value 0") {
    const double at[4][2] = {{0.0, 0.0}, {1.0, 1.0}, {3.0, 0.5}, {3.0, 2.0}};
    for (size_t p = 0; p < SURFACES; p++) {
        double slope[2], unused[2], x[2] = {0.3, -0.7};
        CHECK(all[p].value(slope, at[p], NULL) == 0.0);
        all[p].value(slope, x, NULL);
        for (size_t k = 0; k < 2; k++) {
            double f[2];
            for (int side = 0; side < 2; side++) {
                x[k] += side ? 2e-5 : -1e-5;
                f[side] = all[p].value(unused, x, NULL);
            }
            x[k] -= 1e-5;
            CHECK_NEAR(slope[k], (f[1] - f[0]) / 2e-5, 1e-5 * (1.0 + fabs(slope[k])));
        }
    }
}

TEST(optimizers, "a row for each optimizer, and two pictures with all their lines") {
    const char *directory = test_directory(getpid());
    llm_error error;
    CHECK(test_path("x") && race(directory, "12") == 0);
    const char *row = program_output;
    for (int k = 0; k < KINDS; k++) {
        double number[10];
        row = strstr(row, kind_name[k]);
        CHECK(row != NULL);
        row += strlen(kind_name[k]);
        CHECK(sscanf(row, "%lf (%lf)%lf (%lf)%lf (%lf)%lf (%lf)%lf (%lf)", number, number + 1,
                     number + 2, number + 3, number + 4, number + 5, number + 6, number + 7,
                     number + 8, number + 9) == 10);
        for (size_t i = 0; i < 10; i += 2) CHECK(number[i] > -13.0 && number[i] < 4.0);
        CHECK(number[8] < 0.6); /* the network learns: log10 of ln 10 is 0.36 */
    }
    for (int picture = 0; picture < 2; picture++) {
        llm_file f;
        CHECK(llm_file_read(&f, test_path(picture ? "optimizer_losses.svg" : "optimizer_paths.svg"),
                            &error));
        char *text = (char *)test_memory(f.size + 1, 1);
        memcpy(text, f.data, f.size);
        llm_file_free(&f);
        size_t lines = 0;
        const char *line = picture ? "<polyline" : "stroke-width='1.2'";
        for (const char *c = text; (c = strstr(c, line)) != NULL; c++) lines++;
        CHECK(lines == (size_t)KINDS * (picture ? PROBLEMS : SURFACES));
        for (int k = 0; k < KINDS; k++) CHECK(strstr(text, kind_name[k]) != NULL);
        CHECK(!strncmp(text, "<svg ", 5) && strstr(text, "</svg>\n") && !strstr(text, "nan"));
        CHECK(strstr(text, "Himmelblau") && (strstr(text, "network") != NULL) == (picture == 1));
    }
}

TEST(optimizers, "bad input gets one sentence and exit code 2") {
    CHECK(race(NULL, NULL) == 2 && strstr(program_output, "usage"));
    CHECK(race("/tmp", "1") == 2 && strstr(program_output, "usage"));
    CHECK(race("/tmp", "99999999") == 2 && strstr(program_output, "usage"));
    CHECK(race("/nowhere/at/all", "2") == 2 &&
          strstr(program_output, "optimizers: /nowhere/at/all"));
}

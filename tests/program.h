/* Runs the main of a program of examples/ as a user does, for the suites that include its source:
 *
 *     #define main fit_main
 *     #include "../../examples/fit.c"
 *     #undef main
 *     #include "../program.h"
 *     CHECK(program_run(fit_main, argc, argv, NULL) == 0 && strstr(program_output, "..."));
 */
#ifndef PROGRAM_H
#define PROGRAM_H

static char program_output[20000]; /* what the last run printed, stdout and stderr */

/* In a process of its own, in the directory `where` or this one; returns its exit code. */
TEST_UNUSED static int program_run(int (*program)(int, char **), int argc, char **argv,
                                   const char *where) {
    int status = 0, both[2];
    size_t size = 0;
    ssize_t got = 0;
    CHECK(pipe(both) == 0);
    fflush(stdout);
    const pid_t child = fork();
    if (child == 0) {
        dup2(both[1], 1);
        dup2(both[1], 2);
        if (where && chdir(where) != 0) _exit(3);
        const int code = program(argc, argv);
        fflush(stdout);
        _exit(code);
    }
    close(both[1]);
    while (size < sizeof program_output - 1 &&
           (got = read(both[0], program_output + size, sizeof program_output - 1 - size)) > 0)
        size += (size_t)got;
    program_output[size] = 0;
    close(both[0]);
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

#endif

/* @autodiff_checkpoint */
#include "../test.h"

#include "../../llm.h"

enum { MOST = 128, SLOTS = 12 };

/* Fewest extra steps by dynamic programming: place the next state after m steps, reverse what lies
 * behind it with one state fewer, then what lies before it. */
static size_t ac_least(size_t n, size_t s) {
    static size_t table[MOST][SLOTS];
    if (n <= 1) return 0;
    if (s == 1) return n * (n - 1) / 2;
    if (table[n][s] > 0) return table[n][s];
    size_t best = SIZE_MAX;
    for (size_t m = 1; m < n; m++) {
        const size_t cost = m + ac_least(n - m, s - 1) + ac_least(m, s);
        if (cost < best) best = cost;
    }
    return table[n][s] = best;
}

TEST(autodiff_checkpoint,
     "the closed form of Griewank and Walther is the optimum, found by brute force") {
    for (size_t n = 1; n <= 100; n++)
        for (size_t s = 1; s <= 10; s++)
            CHECK(llm_autodiff_checkpoint_extra(n, s) == ac_least(n, s));
    CHECK(llm_autodiff_checkpoint_reach(3, 2) == 10 && llm_autodiff_checkpoint_reach(5, 0) == 1);
    CHECK(llm_autodiff_checkpoint_reach(0, 7) == 1);
    CHECK(llm_autodiff_checkpoint_reach(40, 40) == SIZE_MAX);
    CHECK(llm_autodiff_checkpoint_repeats(100, 3) == 7 &&
          llm_autodiff_checkpoint_repeats(1, 1) == 0);
    CHECK(llm_autodiff_checkpoint_repeats(SIZE_MAX, 60) > 1); /* no endless loop at the limit */
}

/* x_{t+1} = tanh(a x_t + b_t): the chain to be differentiated by x_0. */
static double ac_step(double x, size_t t) { return tanh(1.3 * x + 0.1 * sin((double)t)); }
static double ac_slope(double x, size_t t) {
    const double y = ac_step(x, t);
    return 1.3 * (1.0 - y * y);
}

TEST(autodiff_checkpoint,
     "every schedule gives the gradient of the full tape, with the fewest steps") {
    for (size_t n = 1; n <= 100; n += n < 40 ? 1 : 15)
        for (size_t s = 1; s <= 10; s++) {
            volatile double start =
                0.25; /* else the compiler runs a few steps, and rounds tanh better */
            double all = 1.0, path[MOST + 1] = {start};
            for (size_t t = 0; t < n; t++) path[t + 1] = ac_step(path[t], t);
            for (size_t t = n; t-- > 0;) all *= ac_slope(path[t], t);

            size_t stored[SLOTS], advances = 0, next = n, at = 0;
            const size_t length = llm_autodiff_checkpoint_schedule(NULL, stored, n, s);
            llm_autodiff_checkpoint_action *action =
                (llm_autodiff_checkpoint_action *)test_memory(length, sizeof *action);
            CHECK(llm_autodiff_checkpoint_schedule(action, stored, n, s) == length);
            double x = start, slot[SLOTS], bar = 1.0;
            for (size_t k = 0; k < SLOTS; k++) slot[k] = (double)NAN;
            for (size_t k = 0; k < length; k++) {
                const llm_autodiff_checkpoint_action *a = &action[k];
                CHECK(a->slot < s);
                /* no action for nothing: after LOAD and STORE something runs */
                CHECK(k == 0 || a->kind == LLM_AUTODIFF_CHECKPOINT_ADVANCE ||
                      a->kind == LLM_AUTODIFF_CHECKPOINT_REVERSE ||
                      action[k - 1].kind == LLM_AUTODIFF_CHECKPOINT_ADVANCE ||
                      action[k - 1].kind == LLM_AUTODIFF_CHECKPOINT_REVERSE);
                if (a->kind == LLM_AUTODIFF_CHECKPOINT_STORE) {
                    CHECK(a->step == at);
                    slot[a->slot] = x;
                } else if (a->kind == LLM_AUTODIFF_CHECKPOINT_LOAD) {
                    x = slot[a->slot];
                    at = a->step;
                    CHECK(x == path[at]);
                } else if (a->kind == LLM_AUTODIFF_CHECKPOINT_ADVANCE) {
                    CHECK(a->step == at && at < n);
                    x = ac_step(x, at++);
                    advances++;
                } else {
                    CHECK(a->kind == LLM_AUTODIFF_CHECKPOINT_REVERSE && a->step == at &&
                          at + 1 == next);
                    bar *= ac_slope(x, at);
                    x = (double)NAN;
                    next = at;
                }
            }
            CHECK(next == 0 && bar == all);
            CHECK(advances == llm_autodiff_checkpoint_extra(n, s));
        }
    size_t stored[1];
    CHECK(llm_autodiff_checkpoint_schedule(NULL, stored, 0, 1) == 0);
    CHECK_ASSERTS(llm_autodiff_checkpoint_schedule(NULL, stored, 3, 0));
    CHECK_ASSERTS(llm_autodiff_checkpoint_extra(3, 0));
}

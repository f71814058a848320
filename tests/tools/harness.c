/* The harness on itself: each way to be wrong must be red, and say what was wrong. */
#include "../test.h"

#include <assert.h>
#include <fcntl.h>

typedef struct {
    char message[256];
} fake_error;

static bool refuse(fake_error *e, const char *why) {
    snprintf(e->message, sizeof e->message, "%s", why);
    return false;
}
static bool accept(fake_error *e) { return e != NULL; }
static void needs_three(int a) { assert(a == 3); }
static double cubes(const float *x, const float *w, size_t n) {
    double sum = 0.0;
    for (size_t i = 0; i < n; i++) sum += (double)w[i] * (double)x[i] * (double)x[i] * (double)x[i];
    return sum;
}

/* What test_run prints about the body; *ok is its verdict. */
static const char *verdict(void (*body)(void), bool *ok) {
    static char text[8192];
    test_case t = {test_now->file, "inner", "claim", body, NULL};
    test_case *const self = test_now;
    const char *path = test_path("output");
    const int kept = dup(1), file = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    fflush(stdout);
    dup2(file, 1), dup2(file, 2);
    *ok = test_run(&t, 1);
    fflush(stdout);
    dup2(kept, 1), dup2(kept, 2);
    close(kept);
    const ssize_t size = pread(file, text, sizeof text - 1, 0);
    close(file);
    test_now = self;
    text[size < 0 ? 0 : size] = 0;
    return text;
}

static void check_red(const char *name, void (*body)(void), const char *says) {
    bool ok = true;
    const char *text = verdict(body, &ok);
    if (ok) test_fail(__FILE__, __LINE__, "%s is green", name);
    if (!strstr(text, "FAIL @inner: claim") || !strstr(text, says))
        test_fail(__FILE__, __LINE__, "%s says \"%s\", want \"%s\"", name, text, says);
}
#define RED(name, says) check_red(#name, name, says)

static const float one_two[2] = {1.0f, 2.0f}, one_nan[2] = {1.0f, NAN};

static void false_condition(void) { CHECK(1 == 2); }
static void near_far(void) { CHECK_NEAR(1.0f, 1.1f, 0.05f); }
static void near_nan(void) { CHECK_NEAR(NAN, 1.0f, 1e9f); }
static void near_want_nan(void) { CHECK_NEAR(1.0f, NAN, 1e9f); }
static void near_infinite(void) { CHECK_NEAR(1.0f, INFINITY, 1e9f); }
static void all_nan(void) { CHECK_ALL_NEAR(one_nan, one_two, 2, 1e9f); }
static void all_want_nan(void) { CHECK_ALL_NEAR(one_two, one_nan, 2, 1e9f); }
static void all_unwritten(void) { CHECK_ALL_NEAR(floats(2), one_two, 2, 1e9f); }
static void close_nan(void) { CHECK_ALL_CLOSE(one_nan, one_two, 2, 1e9f); }
static void close_far(void) {
    const float got[2] = {1e-6f, 1e6f}, want[2] = {1.1e-6f, 1e6f};
    CHECK_ALL_CLOSE(got, want, 2, 1e-3f);
}
static void golden_far(void) { CHECK_GOLDEN(one_two, 2, 1e-3f, "other/%d", 2); }
static void golden_nan(void) { CHECK_GOLDEN(one_nan, 2, 1e9f, "pair"); }
static void golden_size(void) { CHECK_GOLDEN(one_two, 1, 1e9f, "pair"); }
static void golden_name(void) { golden("nobody"); }
static void golden_prefix(void) { golden("pai"); }
static void golden_short(void) { golden("short"); }
static void gradient_of_input(void) {
    float x[2] = {0.5f, 2.0f}, dx[2] = {0.75f, 12.5f};
    CHECK_GRAD(dx, x, 2, 1e-2f, 1e-3f, cubes(x, one_two, 2));
}
static void gradient_nan(void) {
    float x[2] = {0.5f, 2.0f};
    CHECK_GRAD(one_nan, x, 2, 1e-2f, 1e9f, cubes(x, one_two, 2));
}
static void error_accepted(void) {
    fake_error e;
    CHECK_FAILS(accept(&e), e, "");
}
static void error_other(void) {
    fake_error e;
    CHECK_FAILS(refuse(&e, "too short"), e, "too long");
}
static void error_silent(void) {
    fake_error e;
    CHECK_FAILS(refuse(&e, ""), e, "");
}
static void assert_missing(void) { CHECK_ASSERTS(needs_three(3)); }
static void assert_abort(void) { CHECK_ASSERTS(abort()); }
static void assert_crash(void) { CHECK_ASSERTS(raise(SIGSEGV)); }
static void assert_outside(void) { needs_three(4); }
static void crash(void) { raise(SIGSEGV); }
static void endless_loop(void) {
    for (volatile int i = 0;; i++) {
    }
}
static void exits(void) { exit(0); }

TEST(harness, "a difference is red, and so is every NaN") {
    RED(false_condition, "not true: 1 == 2");
    RED(near_far, "off by 0.1, allowed 0.05");
    RED(near_nan, "is nan, want 1");
    RED(near_want_nan, "want nan");
    RED(near_infinite, "want inf");
    RED(all_nan, "one_nan[1 of 2] is nan, want 2");
    RED(all_want_nan, "[1 of 2] is 2, want nan");
    RED(all_unwritten, "[0 of 2] is nan");
    RED(close_nan, "is nan");
    RED(close_far, "[0 of 2]");
}

TEST(harness, "golden values of another size or name are red") {
    RED(golden_far, "[1 of 2] is 2, want 3");
    RED(golden_nan, "is nan");
    RED(golden_size, "has 1 entries, golden 2");
    RED(golden_name, "no golden array is named nobody");
    RED(golden_prefix, "no golden array is named pai");
    RED(golden_short, "golden short has 2 of 3");
}

TEST(harness, "wrong gradients, error texts and asserts are red") {
    RED(gradient_of_input, "dx[1 of 2] is 12.5, want 24");
    RED(gradient_nan, "is nan");
    RED(error_accepted, "was accepted");
    RED(error_other, "the error is \"too short\"");
    RED(error_silent, "the error is \"\"");
    RED(assert_missing, "was accepted: needs_three(3)");
    RED(assert_abort, "ended otherwise");
    RED(assert_crash, "ended otherwise");
    RED(assert_outside, "[Aborted]");
}

TEST(harness, "a crash, an endless loop and an early exit are one red line") {
    RED(crash, "");
    RED(endless_loop, "[no end within the time limit]");
    RED(exits, "[exit status 0]");
}

TEST(harness, "what is right is green, and files are gone afterwards") {
    float x[2] = {0.5f, 2.0f}, w[2] = {1.0f, 2.0f}, dx[2] = {0.75f, 24.0f}, dw[2] = {0.125f, 8.0f};
    const float infinite[2] = {INFINITY, -INFINITY};
    fake_error e;
    CHECK_GRAD(dx, x, 2, 1e-2f, 1e-3f, cubes(x, w, 2));
    CHECK_GRAD(dw, w, 2, 1e-2f, 1e-3f, cubes(x, w, 2));
    CHECK_ALL_NEAR(infinite, infinite, 2, 0.0f);
    CHECK_NEAR(INFINITY, INFINITY, 0.0f);
    CHECK_GOLDEN(one_two, 2, 0.0f, "%s", "pair");
    CHECK_FAILS(refuse(&e, "line 3: too short"), e, "too short");
    CHECK_ASSERTS(needs_three(4));
    FILE *f = fopen(test_path("file"), "w");
    CHECK(f != NULL && fclose(f) == 0);
}

TEST(harness, "a plan names TESTs by their numbers, each with its limit") {
    const char *plan = "2:9 0:1", *none = "", *far = "99:1";
    int seconds = 0;
    CHECK(test_planned(&plan, &seconds) == test_first->next->next && seconds == 9);
    CHECK(test_planned(&plan, &seconds) == test_first && seconds == 1);
    CHECK(!test_planned(&plan, &seconds) && !test_planned(&none, &seconds));
    CHECK(!test_planned(&far, &seconds));
}

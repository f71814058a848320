/* @gradient_descent */
#include "../test.h"

#include "../../llm.h"

typedef struct {
    const double *A, *b;
    size_t n, calls, bad_from;
} gd_quadratic;

/* x'Ax/2 - b.x; the gradient is NaN from call bad_from on. */
static double gd_value(double *g, const double *x, void *context) {
    gd_quadratic *q = (gd_quadratic *)context;
    double f = 0.0;
    for (size_t i = 0; i < q->n; i++) {
        double Ax = 0.0;
        for (size_t j = 0; j < q->n; j++) Ax += q->A[i * q->n + j] * x[j];
        f += x[i] * (0.5 * Ax - q->b[i]);
        if (g) g[i] = Ax - q->b[i];
    }
    if (g && q->bad_from && ++q->calls >= q->bad_from) g[0] = NAN;
    return f;
}
static gd_quadratic gd_diagonal(double *A, const double *h, const double *b, size_t n) {
    const gd_quadratic q = {A, b, n, 0, 0};
    for (size_t i = 0; i < n * n; i++) A[i] = i % (n + 1) == 0 ? h[i / n] : 0.0;
    return q;
}
static llm_arena gd_arena(void) {
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 1 << 16));
    return arena;
}

TEST(gradient_descent, "20 steps equal torch.optim.SGD") {
    const size_t sizes[3] = {1, 3, 17};
    for (size_t s = 0; s < 3; s++) {
        const size_t n = sizes[s];
        const float *g = golden("%zu/g", n), lr = golden("%zu/lr", n)[0];
        float *w = floats(20 * n), *now = floats(n);
        memcpy(now, golden("%zu/w0", n), n * sizeof(float));
        for (size_t t = 0; t < 20; t++) {
            llm_gradient_descent_step(now, g + t * n, n, lr);
            memcpy(w + t * n, now, n * sizeof(float));
        }
        CHECK_GOLDEN(w, 20 * n, 1e-6f, "%zu/path", n);
    }
}

TEST(gradient_descent, "Rosenbrock and Beale: values and gradients as torch's, 0 at their minima") {
    for (size_t k = 0; k < 2; k++) {
        const llm_convex_fn fn = k ? llm_gradient_descent_beale : llm_gradient_descent_rosenbrock;
        const char *name = k ? "beale" : "rosenbrock";
        const float *x = golden("%s/x", name);
        float f[6], g[12];
        for (size_t i = 0; i < 6; i++) {
            const double at[2] = {(double)x[2 * i], (double)x[2 * i + 1]};
            double slope[2];
            f[i] = (float)fn(slope, at, NULL);
            g[2 * i] = (float)slope[0], g[2 * i + 1] = (float)slope[1];
            CHECK((float)fn(NULL, at, NULL) == f[i]);
        }
        CHECK_GOLDEN(f, 6, 1e-6f, "%s/f", name);
        CHECK_GOLDEN(g, 12, 1e-6f, "%s/g", name);
        const double best[2][2] = {{1.0, 1.0}, {3.0, 0.5}};
        double slope[2];
        CHECK(fn(slope, best[k], NULL) == 0.0 && slope[0] == 0.0 && slope[1] == 0.0);
    }
}

TEST(gradient_descent, "on a quadratic every iterate is (1 - lr h)^t, and lr = 2/L is the edge") {
    const double h[4] = {1.0, 3.0, 10.0, 50.0}, b[4] = {0.0, 0.0, 0.0, 0.0};
    const double x0[4] = {1.0, -2.0, 0.5, 3.0};
    double A[16], want[4];
    llm_arena arena = gd_arena();
    gd_quadratic q = gd_diagonal(A, h, b, 4);
    llm_gradient_descent_config c = llm_gradient_descent_defaults();
    CHECK(c.rule == LLM_GRADIENT_DESCENT_ARMIJO && c.slope == 1e-4 && c.factor == 0.5 && !c.prox);
    CHECK(c.lr == 1.0 && c.tolerance == 1e-6 && c.steps == 10000);
    c.rule = LLM_GRADIENT_DESCENT_FIXED, c.tolerance = 0.0;
    const double rates[4] = {0.01, 2.0 / 51.0, 1.99 / 50.0, 2.01 / 50.0};
    for (size_t k = 0; k < 4; k++) {
        double x[4], f = 0.0;
        memcpy(x, x0, sizeof x);
        c.lr = rates[k], c.steps = 60;
        const llm_gradient_descent_result r =
            llm_gradient_descent_minimize(x, gd_value, &q, &c, 4, &arena);
        const double rate = llm_gradient_descent_theory(want, x0, h, 4, c.lr, 60);
        for (size_t i = 0; i < 4; i++) {
            CHECK_NEAR(x[i], want[i], 1e-12 * (1.0 + fabs(want[i])));
            f += 0.5 * h[i] * x[i] * x[i];
        }
        CHECK(r.ok && r.steps == 60 && r.calls == 61 && arena.used == 0);
        CHECK_NEAR(r.f, f, 1e-12 * (1.0 + f));
        CHECK((rate < 1.0) == (k < 3));
        if (k == 1) CHECK_NEAR(rate, 49.0 / 51.0, 1e-15); /* (k - 1)/(k + 1) */
        if (k > 1) CHECK((fabs(x[3]) < 3.0) == (k == 2));
    }
    for (double lr = 0.001; lr < 0.04; lr += 0.001) /* and no other step is better */
        CHECK(llm_gradient_descent_theory(want, x0, h, 4, lr, 1) >= 49.0 / 51.0 - 1e-12);
    llm_arena_destroy(&arena);
}

/* Sum of sqrt(1 + x^2): convex, curvature at most 1, nearly flat far away. */
static double gd_soft_abs(double *g, const double *x, void *context) {
    double f = 0.0;
    (void)context;
    for (size_t i = 0; i < 3; i++) {
        f += sqrt(1.0 + x[i] * x[i]);
        if (g) g[i] = x[i] / sqrt(1.0 + x[i] * x[i]);
    }
    return f;
}

TEST(gradient_descent, "f_t - f* is at most L |x0 - x*|^2 / (2 t) on a convex function") {
    llm_arena arena = gd_arena();
    llm_gradient_descent_config c = llm_gradient_descent_defaults();
    c.rule = LLM_GRADIENT_DESCENT_FIXED, c.lr = 1.0, c.tolerance = 0.0;
    for (size_t t = 1; t <= 60; t++) {
        double x[3] = {20.0, -7.0, 1.0};
        c.steps = t;
        const llm_gradient_descent_result r =
            llm_gradient_descent_minimize(x, gd_soft_abs, NULL, &c, 3, &arena);
        CHECK(r.f - 3.0 <= 450.0 / (2.0 * (double)t) && r.ok);
    }
    llm_arena_destroy(&arena);
}

TEST(gradient_descent,
     "Armijo goes down at every step and reaches Rosenbrock's and Beale's minima") {
    llm_arena arena = gd_arena();
    for (size_t k = 0; k < 2; k++) {
        const llm_convex_fn fn = k ? llm_gradient_descent_beale : llm_gradient_descent_rosenbrock;
        const double start[2][2] = {{-1.2, 1.0}, {1.0, 1.0}}, best[2][2] = {{1.0, 1.0}, {3.0, 0.5}};
        llm_gradient_descent_config c = llm_gradient_descent_defaults();
        double x[2] = {start[k][0], start[k][1]}, g[2], f = fn(NULL, x, NULL);
        c.steps = 1;
        for (size_t t = 0; t < 200;
             t++) { /* one step: on the grid of halvings, and far enough down */
            const double old[2] = {x[0], x[1]};
            fn(g, x, NULL);
            const double slope = g[0] * g[0] + g[1] * g[1];
            const llm_gradient_descent_result r =
                llm_gradient_descent_minimize(x, fn, NULL, &c, 2, &arena);
            const double lr = hypot(x[0] - old[0], x[1] - old[1]) / sqrt(slope);
            CHECK(r.f <= f - 1e-4 * lr * slope * (1.0 - 1e-9));
            CHECK_NEAR(log2(lr), round(log2(lr)), 1e-6);
            CHECK_NEAR(r.size, sqrt(slope), 1e-9 * (1.0 + sqrt(slope)));
            const double twice[2] = {old[0] - 2.0 * lr * g[0], old[1] - 2.0 * lr * g[1]};
            if (lr < 0.9) CHECK(fn(NULL, twice, NULL) > f - 2e-4 * lr * slope); /* too far */
            CHECK(r.calls == 2 + (size_t)lround(-log2(lr)));
            f = r.f;
        }
        c.steps = 100000, c.tolerance = 1e-7;
        double from[2] = {start[k][0], start[k][1]};
        const llm_gradient_descent_result slow =
            llm_gradient_descent_minimize(from, fn, NULL, &c, 2, &arena);
        CHECK(slow.ok && slow.f < 1e-10 && slow.size <= 1e-7);
        CHECK_NEAR(from[0], best[k][0], 1e-5);
        c.rule = LLM_GRADIENT_DESCENT_BB, c.lr = 1e-3;
        from[0] = start[k][0], from[1] = start[k][1];
        const llm_gradient_descent_result fast =
            llm_gradient_descent_minimize(from, fn, NULL, &c, 2, &arena);
        CHECK(fast.ok && fast.f < 1e-10 && fast.size <= 1e-7);
        CHECK_NEAR(from[1], best[k][1], 1e-5);
        CHECK(10 * fast.calls < slow.calls); /* 114 against 165097, 45 against 5230 */
    }
    llm_arena_destroy(&arena);
}

/* Leaves large numbers where the next call has its variables. */
static __attribute__((noinline)) double gd_dirty(void) {
    volatile double stack[256];
    for (size_t i = 0; i < 256; i++) stack[i] = 1e300;
    return stack[7];
}

TEST(gradient_descent,
     "Barzilai and Borwein: the step is s.s / s.y, and f may rise but within ten") {
    const double h[3] = {1.0, 20.0, 400.0}, b[3] = {0.0, 0.0, 0.0};
    double A[9], x[3] = {1.0, 1.0, 1.0}, before[3], f[200];
    llm_arena arena = gd_arena();
    gd_quadratic q = gd_diagonal(A, h, b, 3);
    llm_gradient_descent_config c = llm_gradient_descent_defaults();
    c.rule = LLM_GRADIENT_DESCENT_BB, c.lr = 1e-3, c.tolerance = 0.0;
    size_t rises = 0;
    double last = 0.0;
    for (size_t t = 0; t < 60; t++) {
        double again[3] = {1.0, 1.0, 1.0}, ss = 0.0, sHs = 0.0;
        c.steps = t;
        const llm_gradient_descent_result r =
            llm_gradient_descent_minimize(again, gd_value, &q, &c, 3, &arena);
        f[t] = r.f;
        if (t > 1 &&
            last >
                0.0) { /* the steps between, by the formula: this one's length from the last move */
            for (size_t i = 0; i < 3; i++) {
                ss += pow(x[i] - before[i], 2.0);
                sHs += h[i] * pow(x[i] - before[i], 2.0);
            }
            for (size_t i = 0; i < 3; i++)
                CHECK_NEAR(again[i], x[i] - ss / sHs * h[i] * x[i], 1e-9 * (1.0 + fabs(x[i])));
            rises += r.f > last;
        }
        double worst = 0.0;
        for (size_t k = t >= 10 ? t - 10 : 0; k < t; k++) worst = fmax(worst, f[k]);
        if (t > 0) CHECK(f[t] <= worst);
        last = r.f;
        memcpy(before, x, sizeof x);
        memcpy(x, again, sizeof x);
    }
    double far[3] = {1.0, 1.0, 1.0}; /* the first step has only the start to be compared with */
    c.steps = 1, c.lr = 1.0;
    CHECK(gd_dirty() > 0.0);
    CHECK(llm_gradient_descent_minimize(far, gd_value, &q, &c, 3, &arena).f <= 210.5);
    CHECK(rises > 0 && f[59] < 1e-12); /* best fixed step: (399/401)^118 is 0.55 */
    llm_arena_destroy(&arena);
}

static void gd_soft(double *x, double lr, void *context) { /* of 3 |x|_1 */
    (void)context;
    for (size_t i = 0; i < 4; i++) x[i] = copysign(fmax(fabs(x[i]) - 3.0 * lr, 0.0), x[i]);
}
static void gd_box(double *x, double lr, void *context) {
    (void)lr, (void)context;
    for (size_t i = 0; i < 4; i++) x[i] = fmin(fmax(x[i], -0.05), 0.1);
}

TEST(gradient_descent,
     "with a prox: least squares under L1 and in a box equal coordinate descent") {
    double A[16], b[4];
    for (size_t i = 0; i < 16; i++) A[i] = (double)golden("prox/A")[i];
    for (size_t i = 0; i < 4; i++) b[i] = (double)golden("prox/b")[i];
    gd_quadratic q = {A, b, 4, 0, 0};
    llm_arena arena = gd_arena();
    for (size_t k = 0; k < 5; k++) {
        double x[4] = {1.0, -1.0, 0.0, 2.0}, f = HUGE_VAL;
        float got[4];
        llm_gradient_descent_config c = llm_gradient_descent_defaults();
        c.prox = k < 2 ? gd_soft : gd_box, c.tolerance = 1e-9;
        c.rule = k == 0 || k == 2   ? LLM_GRADIENT_DESCENT_FIXED
                 : k == 1 || k == 3 ? LLM_GRADIENT_DESCENT_ARMIJO
                                    : LLM_GRADIENT_DESCENT_BB;
        c.lr = c.rule == LLM_GRADIENT_DESCENT_FIXED ? 0.02 : 1.0;
        c.steps = 1;
        for (size_t t = 0; t < 5 && k < 4; t++) { /* the sum of both parts falls */
            const llm_gradient_descent_result r =
                llm_gradient_descent_minimize(x, gd_value, &q, &c, 4, &arena);
            double all = r.f;
            for (size_t i = 0; i < 4 && k < 2; i++) all += 3.0 * fabs(x[i]);
            CHECK(all <= f);
            f = all;
        }
        c.steps = 20000;
        const llm_gradient_descent_result r =
            llm_gradient_descent_minimize(x, gd_value, &q, &c, 4, &arena);
        for (size_t i = 0; i < 4; i++) got[i] = (float)x[i];
        CHECK(r.ok && r.size <= 1e-9 && r.steps < 20000);
        CHECK_GOLDEN(got, 4, 1e-6f, k < 2 ? "l1/w" : "box/w");
    }
    llm_arena_destroy(&arena);
}

TEST(gradient_descent, "exact steps: Kantorovich's worst start falls by (k-1)/(k+1) at each") {
    const double h[2] = {1.0, 9.0}, b[2] = {0.0, 0.0};
    double A[4];
    llm_arena arena = gd_arena();
    gd_diagonal(A, h, b, 2);
    for (size_t t = 0; t < 12; t++) {
        double x[2] = {9.0, 1.0}; /* (1/m, 1/L), the slowest */
        const double r = llm_gradient_descent_exact(x, A, b, 2, t, &arena);
        CHECK_NEAR(x[0], 9.0 * pow(0.8, (double)t), 1e-12);
        CHECK_NEAR(x[1], t % 2 ? -pow(0.8, (double)t) : pow(0.8, (double)t), 1e-12);
        CHECK_NEAR(r, 9.0 * sqrt(2.0) * pow(0.8, (double)t), 1e-12);
    }
    const double full[4] = {4.0, 1.0, 1.0, 3.0}, right[2] = {1.0, 2.0}; /* solution (1, 7)/11 */
    double x[2] = {5.0, -5.0};
    CHECK(llm_gradient_descent_exact(x, full, right, 2, 60, &arena) < 1e-14);
    CHECK_NEAR(x[0], 1.0 / 11.0, 1e-14);
    CHECK_NEAR(x[1], 7.0 / 11.0, 1e-14);
    double done[1] = {0.5};
    const double two[1] = {2.0}, one[1] = {1.0};
    CHECK(llm_gradient_descent_exact(done, two, one, 1, 9, &arena) == 0.0 && done[0] == 0.5);
    CHECK(arena.used == 0);
    llm_arena_destroy(&arena);
}

static double gd_wall(double *g, const double *x, void *context) { /* not a number right of 1 */
    (void)context;
    if (g) g[0] = -1.0;
    return x[0] > 1.0 ? (double)NAN : -x[0];
}
static double gd_liar(double *g, const double *x, void *context) { /* its gradient points uphill */
    (void)context;
    g[0] = -1.0;
    return fabs(x[0]);
}

TEST(gradient_descent,
     "what is not finite stops it, at the last good point; walls are backed from") {
    const double h[2] = {1.0, 2.0}, b[2] = {0.0, 0.0};
    double A[4], x[2] = {1.0, 1.0};
    llm_arena arena = gd_arena();
    gd_quadratic q = gd_diagonal(A, h, b, 2);
    llm_gradient_descent_config c = llm_gradient_descent_defaults();
    for (int rule = 0; rule < 3; rule++) {
        x[0] = x[1] = 1.0, q.calls = 0, q.bad_from = 4;
        c.rule = rule, c.lr = 0.25;
        llm_gradient_descent_result r =
            llm_gradient_descent_minimize(x, gd_value, &q, &c, 2, &arena);
        CHECK(!r.ok && r.steps == 3 && fabs(x[0]) < 1.0 && fabs(x[1]) < 1.0);
    }
    x[0] = x[1] = 1.0, q.bad_from = 0;
    c.rule = LLM_GRADIENT_DESCENT_FIXED, c.lr = 10.0; /* diverges until infinity */
    CHECK(!llm_gradient_descent_minimize(x, gd_value, &q, &c, 2, &arena).ok && isfinite(x[0]));
    x[0] = NAN;
    CHECK(!llm_gradient_descent_minimize(x, gd_value, &q, &c, 2, &arena).ok);

    double at[1] = {0.0};
    c = llm_gradient_descent_defaults();
    c.steps = 30, c.lr = 8.0;
    llm_gradient_descent_result r = llm_gradient_descent_minimize(at, gd_wall, NULL, &c, 1, &arena);
    CHECK(r.steps == 1 && at[0] == 1.0 && !r.ok); /* 8, 4, 2, 1; then no step stays left of 1 */
    at[0] = 0.5;
    r = llm_gradient_descent_minimize(at, gd_liar, NULL, &c, 1, &arena);
    CHECK(!r.ok && r.steps == 0 && at[0] == 0.5 && r.calls == 1 + 68); /* 2^-67 < 1e-20 */
    c.lr = 0.0;
    CHECK_ASSERTS(llm_gradient_descent_minimize(at, gd_liar, NULL, &c, 1, &arena));
    c.lr = 1.0, c.factor = 1.0;
    CHECK_ASSERTS(llm_gradient_descent_minimize(at, gd_liar, NULL, &c, 1, &arena));
    c.factor = 0.0;
    CHECK_ASSERTS(llm_gradient_descent_minimize(at, gd_liar, NULL, &c, 1, &arena));
    CHECK(arena.used == 0);
    llm_arena_destroy(&arena);
}

/* One variable; each call of f gives the next value and the next gradient, whatever x is. */
typedef struct {
    double f[32], g[32];
    size_t calls;
} gd_script;
static double gd_scripted(double *g, const double *x, void *context) {
    gd_script *s = (gd_script *)context;
    (void)x;
    g[0] = s->g[s->calls];
    return s->f[s->calls++];
}
static llm_gradient_descent_result gd_play(double *x, gd_script *s,
                                           const llm_gradient_descent_config *c) {
    llm_arena arena = gd_arena();
    *x = 0.0, s->calls = 0;
    const llm_gradient_descent_result r =
        llm_gradient_descent_minimize(x, gd_scripted, s, c, 1, &arena);
    CHECK(r.calls == s->calls && arena.used == 0);
    llm_arena_destroy(&arena);
    return r;
}

TEST(gradient_descent, "a search: the share of the slope, a new beginning at each step, its ends") {
    llm_gradient_descent_config c = llm_gradient_descent_defaults();
    double x;
    c.slope = 0.25, c.steps = 1;
    gd_script s = {{1.0, 0.76, 0.86}, {1.0, 1.0, 1.0}, 0}; /* 0.75 would do, then 0.875 */
    llm_gradient_descent_result r = gd_play(&x, &s, &c);
    CHECK(r.ok && r.calls == 3 && x == -0.5 && r.f == 0.86);
    s.f[1] = 0.74;
    r = gd_play(&x, &s, &c);
    CHECK(r.ok && r.calls == 2 && x == -1.0);
    gd_script two = {{1.0, 9.0, 0.5, 0.1}, {1.0, 1.0, 1.0, 1.0}, 0};
    c.steps = 2; /* half a step, then a whole one again */
    r = gd_play(&x, &two, &c);
    CHECK(r.ok && r.calls == 4 && x == -1.5);
    gd_script goal = {{3.0, 2.0, 1.0, 0.0}, {1.0, 1.0, 1.0, 1.0}, 0};
    c.tolerance = 1.0, c.steps = 3; /* |g| is at the tolerance: done */
    CHECK(gd_play(&x, &goal, &c).steps == 1);
    c.tolerance = 0.0;
    c.factor = 1e-20, c.steps = 1; /* a step of 1e-20 is tried, and taken; a shorter one is not */
    gd_script tiny = {{1.0, 9.0, 0.0}, {1.0, 1.0, 1.0}, 0};
    r = gd_play(&x, &tiny, &c);
    CHECK(r.ok && r.calls == 3 && x == -1e-20);
    gd_script none = {{1.0, 9.0, 9.0, 0.0}, {1.0, 1.0, 1.0, 1.0}, 0};
    r = gd_play(&x, &none, &c);
    CHECK(!r.ok && r.calls == 4 && x == 0.0);
}

TEST(gradient_descent, "infinite values and gradients end every rule at once, and x stays") {
    llm_gradient_descent_config c = llm_gradient_descent_defaults();
    double x;
    for (int rule = 0; rule < 3; rule++) {
        c.rule = rule;
        gd_script start = {{HUGE_VAL, 0.0}, {1.0, 1.0}, 0};
        llm_gradient_descent_result r = gd_play(&x, &start, &c);
        CHECK(!r.ok && r.calls == 1 && r.steps == 0 && x == 0.0);
        gd_script steep = {{1.0, 0.5}, {HUGE_VAL, 1.0}, 0};
        r = gd_play(&x, &steep, &c);
        CHECK(!r.ok && r.calls == 2 && r.steps == 0 && x == 0.0);
        gd_script deep = {{1.0, -HUGE_VAL}, {1.0, 1.0}, 0};
        r = gd_play(&x, &deep, &c);
        CHECK(!r.ok && r.calls == 2 && r.steps == 0 && x == 0.0);
    }
}

TEST(gradient_descent, "Barzilai and Borwein: the last ten values, no curvature, next to none") {
    llm_gradient_descent_config c = llm_gradient_descent_defaults();
    double x;
    c.rule = LLM_GRADIENT_DESCENT_BB;
    for (size_t high = 1; high <= 10; high++) { /* the start's 50 is forgotten at step 11 */
        gd_script s;
        for (size_t k = 0; k < 32; k++) s.f[k] = k == high ? 40.0 : 1.0, s.g[k] = 1.0;
        s.f[0] = 50.0, s.f[11] = 30.0, s.f[12] = 35.0, s.f[13] = 0.0;
        c.steps = 11;
        llm_gradient_descent_result r = gd_play(&x, &s, &c);
        CHECK(r.ok && r.calls == 12 && r.f == 30.0 && x == -11.0); /* straight: always lr */
        c.steps = 12; /* the 40 of step 1 is forgotten, too */
        r = gd_play(&x, &s, &c);
        CHECK(r.ok && r.calls == (high == 1 ? 14 : 13) && r.f == (high == 1 ? 0.0 : 35.0));
    }
    gd_script flat = {{3.0, 2.0, 1.0}, {1.0, 1.0 - 1e-13, 1.0}, 0};
    c.lr = 0.5, c.steps = 2, c.slope = 1e-20;
    CHECK(gd_play(&x, &flat, &c).ok);
    CHECK_NEAR(x / -5e9, 1.0, 1e-9); /* 1e10 times the first step at most */
}

/* @convergence */
#include "../test.h"

#include "../../llm.h"

TEST(convergence, "gradient descent on a quadratic is linear with (k - 1)/(k + 1)") {
    for (double kappa = 3.0; kappa < 500.0; kappa *= 5.0) {
        double e[120];
        for (size_t t = 0; t < 120; t++) { /* along both ends of the spectrum, lr = 2/(L + m) */
            const double lr = 2.0 / (kappa + 1.0);
            e[t] = 0.5 * pow(1.0 - lr, 2.0 * (double)t) +
                   0.5 * kappa * pow(1.0 - lr * kappa, 2.0 * (double)t);
        }
        const llm_convergence_rate r = llm_convergence_fit(e, 120, 1);
        CHECK(r.kind == LLM_CONVERGENCE_LINEAR && r.evidence > 10.0);
        CHECK_NEAR(sqrt(r.factor), (kappa - 1.0) / (kappa + 1.0), 1e-9);
    }
}

TEST(convergence, "on x^4 it is sublinear with power -2; a start or a wrong kind is told") {
    double x = 1.0, e[20000];
    for (size_t t = 0; t < 20000; t++) {
        e[t] = 0.25 * x * x * x * x;
        x -= 0.1 * x * x * x; /* x ~ (2 lr t)^-1/2 */
    }
    const llm_convergence_rate r = llm_convergence_fit(e + 1999, 18001, 2000);
    CHECK(r.kind == LLM_CONVERGENCE_SUBLINEAR && r.evidence > 10.0);
    CHECK_NEAR(r.power, -2.0, 0.01);
    CHECK(llm_convergence_fit(e + 1999, 18001, 1).power >
          -1.5); /* steps must count from the start */

    double exact[5];
    for (size_t t = 0; t < 5; t++) exact[t] = 3.0 * pow((double)(t + 7), -1.5);
    CHECK_NEAR(llm_convergence_fit(exact, 5, 7).power, -1.5, 1e-12);
    exact[1] = 0.0, exact[3] = (double)NAN; /* left out, the others keep their steps */
    CHECK_NEAR(llm_convergence_fit(exact, 5, 7).power, -1.5, 1e-12);
    for (size_t t = 0; t < 5; t++) exact[t] = 3.0 * pow(0.5, (double)t);
    const llm_convergence_rate half = llm_convergence_fit(exact, 5, 1);
    CHECK(half.kind == LLM_CONVERGENCE_LINEAR);
    CHECK_NEAR(half.factor, 0.5, 1e-12);
    /* the evidence by hand: n log of the ratio of the sums of squared rests */
    const double noisy[4] = {1.0, exp(-1.2), exp(-1.9), exp(-3.1)};
    double rest[2];
    for (int k = 0; k < 2; k++) {
        double mx = 0.0, my = 0.0, xx = 0.0, xy = 0.0;
        for (size_t t = 0; t < 4; t++) {
            mx += (k ? (double)(t + 1) : log((double)(t + 1))) / 4.0, my += log(noisy[t]) / 4.0;
        }
        for (size_t t = 0; t < 4; t++) {
            const double dx = (k ? (double)(t + 1) : log((double)(t + 1))) - mx;
            xx += dx * dx, xy += dx * (log(noisy[t]) - my);
        }
        rest[k] = 0.0;
        for (size_t t = 0; t < 4; t++) {
            const double dx = (k ? (double)(t + 1) : log((double)(t + 1))) - mx;
            rest[k] += pow(log(noisy[t]) - my - xy / xx * dx, 2.0);
        }
    }
    const llm_convergence_rate by_hand = llm_convergence_fit(noisy, 4, 1);
    CHECK_NEAR(by_hand.evidence, 4.0 * log(rest[0] / rest[1]), 1e-9);
    const double near[4] = {1.0, exp(-0.8), exp(-1.5), exp(-2.0)}; /* a gain of 0.62 is enough */
    const llm_convergence_rate weak = llm_convergence_fit(near, 4, 1);
    CHECK(weak.kind == LLM_CONVERGENCE_LINEAR && weak.evidence > 0.5 && weak.evidence < 0.7);
    for (size_t t = 0; t < 5; t++) exact[t] = pow(1.0 - 1e-6, (double)t); /* hardly falls */
    CHECK(llm_convergence_fit(exact, 5, 1).kind == LLM_CONVERGENCE_LINEAR);
    CHECK_ASSERTS(llm_convergence_fit(exact, 2, 1));
    CHECK_ASSERTS(llm_convergence_fit(exact, 5, 0));
}

TEST(convergence, "Nesterov's method on his worst function: twice the power of plain descent") {
    enum { n = 600, T = 250 }; /* f = sum (x_i - x_i+1)^2 / 8 + x_0^2/8 - x_0/4, L = 1 */
    static double x[n], y[n], next[n], error[2][T];
    for (int fast = 0; fast < 2; fast++) {
        double t_now = 1.0;
        memset(x, 0, sizeof x), memset(y, 0, sizeof y);
        for (size_t t = 0; t < T; t++) {
            const double t_next = 0.5 * (1.0 + sqrt(1.0 + 4.0 * t_now * t_now));
            double f = 0.125 * x[0] * x[0] + 0.125 * x[n - 1] * x[n - 1] - 0.25 * x[0];
            for (size_t i = 0; i + 1 < n; i++) f += 0.125 * pow(x[i] - x[i + 1], 2.0);
            error[fast][t] = f + 0.125 * (1.0 - 1.0 / (n + 1.0)); /* its lowest value */
            for (size_t i = 0; i < n; i++) {
                const double left = i > 0 ? y[i - 1] : 0.0, right = i + 1 < n ? y[i + 1] : 0.0;
                next[i] = y[i] - 0.25 * (2.0 * y[i] - left - right) + (i == 0 ? 0.25 : 0.0);
            }
            const double push = fast ? (t_now - 1.0) / t_next : 0.0;
            for (size_t i = 0; i < n; i++) y[i] = next[i] + push * (next[i] - x[i]), x[i] = next[i];
            t_now = t_next;
        }
    }
    const llm_convergence_rate slow = llm_convergence_fit(error[0] + 49, T - 49, 50);
    const llm_convergence_rate fast = llm_convergence_fit(error[1] + 49, T - 49, 50);
    CHECK(fast.kind == LLM_CONVERGENCE_SUBLINEAR && slow.kind == LLM_CONVERGENCE_SUBLINEAR);
    CHECK_NEAR(slow.power, -0.5, 0.05); /* the bounds t^-1 and t^-2 are for the worst n at each t */
    CHECK_NEAR(fast.power, -1.0, 0.15);

    /* Curvatures i/m with weights that make descent 1/t: there Nesterov's is the 1/t^2 of the
     * bound */
    enum { m = 40000 };
    static double w[m], ahead[m];
    for (int quick = 0; quick < 2; quick++) {
        double t_now = 1.0;
        for (size_t i = 0; i < m; i++) w[i] = ahead[i] = sqrt((double)m / (double)(i + 1));
        for (size_t t = 0; t < 60; t++) {
            const double t_next = 0.5 * (1.0 + sqrt(1.0 + 4.0 * t_now * t_now));
            error[quick][t] = 0.0;
            for (size_t i = 0; i < m; i++) {
                const double h = (double)(i + 1) / m, to = ahead[i] - h * ahead[i];
                error[quick][t] += 0.5 * h * w[i] * w[i] / m;
                ahead[i] = to + (quick ? (t_now - 1.0) / t_next : 0.0) * (to - w[i]);
                w[i] = to;
            }
            t_now = t_next;
        }
    }
    CHECK_NEAR(llm_convergence_fit(error[0] + 9, 51, 10).power, -1.0, 0.05);
    CHECK_NEAR(llm_convergence_fit(error[1] + 9, 51, 10).power, -2.0, 0.15);
}

TEST(convergence, "the order of Newton is 2, of the secant 1.618, of halving 1") {
    double e[12] = {0.1, 0.08};
    for (size_t k = 1; k < 8; k++)
        e[k] = e[k - 1] * e[k - 1] / (1.0 + 2.0 * e[k - 1]); /* x + x^2 */
    CHECK_NEAR(llm_convergence_order(e[5], e[6], e[7]), 2.0, 0.01);
    e[1] = 0.08;
    for (size_t k = 2; k < 12; k++) e[k] = e[k - 1] * e[k - 2] / (1.0 + e[k - 1] + e[k - 2]);
    CHECK_NEAR(llm_convergence_order(e[9], e[10], e[11]), 0.5 * (1.0 + sqrt(5.0)), 0.01);
    CHECK_NEAR(llm_convergence_order(1.0, 0.5, 0.25), 1.0, 1e-12);
}

/* 0: x^2 - y^2, 1: monkey saddle, 2: x^2 + 3 y^2, 3: the negative, 4: x^4 + y^4, 5: -x^4, 6: 5,
 * 7: x^2 + y^3, 8: x^2 + y^4, 9: -x^2 + y^3 */
static double cv_surface(double *g, const double *p, void *context) {
    const int kind = *(const int *)context;
    const double x = p[0], y = p[1];
    const double f[10] = {x * x - y * y,
                          x * x * x - 3.0 * x * y * y,
                          x * x + 3.0 * y * y,
                          -x * x - 3.0 * y * y,
                          x * x * x * x + y * y * y * y,
                          -x * x * x * x,
                          5.0,
                          x * x + y * y * y,
                          x * x + y * y * y * y,
                          -x * x + y * y * y};
    const double gx[10] = {2.0 * x,
                           3.0 * (x * x - y * y),
                           2.0 * x,
                           -2.0 * x,
                           4.0 * x * x * x,
                           -4.0 * x * x * x,
                           0.0,
                           2.0 * x,
                           2.0 * x,
                           -2.0 * x};
    const double gy[10] = {-2.0 * y, -6.0 * x * y, 6.0 * y,     -6.0 * y,        4.0 * y * y * y,
                           0.0,      0.0,          3.0 * y * y, 4.0 * y * y * y, 3.0 * y * y};
    if (g) g[0] = gx[kind], g[1] = gy[kind];
    return f[kind];
}

static double cv_steep(double *g, const double *p, void *context) {
    (void)context;
    if (g)
        g[0] = 2e8 * (p[0] + 0.3 * p[1]), g[1] = 6e7 * (p[0] + 0.3 * p[1]) + 4.0 * pow(p[1], 3.0);
    return 1e8 * pow(p[0] + 0.3 * p[1], 2.0) + pow(p[1], 4.0);
}
/* A valley so steep across that the rounding of its curvature along is above 1e-6. */
static double cv_steeper(double *g, const double *p, void *context) {
    const double across = p[0] + 0.3 * p[1];
    (void)context;
    if (g) g[0] = 2e14 * across, g[1] = 6e13 * across + 4.0 * pow(p[1], 3.0);
    return 1e14 * across * across + pow(p[1], 4.0);
}
/* r^4 up to a radius of 0.1, and below that outside. */
static double cv_island(double *g, const double *p, void *context) {
    const double rr = p[0] * p[0] + p[1] * p[1];
    (void)context;
    if (g) g[0] = 4.0 * rr * p[0], g[1] = 4.0 * rr * p[1];
    return rr <= 0.01 * (1.0 + 1e-9) ? rr * rr : -1.0;
}

TEST(convergence, "stationary points: minima, maxima, saddles, the monkey's, and plains") {
    const int want[10] = {LLM_CONVERGENCE_SADDLE,  LLM_CONVERGENCE_SADDLE,  LLM_CONVERGENCE_MINIMUM,
                          LLM_CONVERGENCE_MAXIMUM, LLM_CONVERGENCE_MINIMUM, LLM_CONVERGENCE_MAXIMUM,
                          LLM_CONVERGENCE_FLAT,    LLM_CONVERGENCE_SADDLE,  LLM_CONVERGENCE_MINIMUM,
                          LLM_CONVERGENCE_SADDLE};
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 1 << 14));
    for (uint64_t seed = 1; seed <= 20; seed++)
        for (int kind = 0; kind < 10; kind++) {
            llm_rng rng = llm_rng_seed(seed);
            const double zero[2] = {0.0, 0.0};
            CHECK(llm_convergence_classify(cv_surface, &kind, zero, 2, 0.1, &rng, &arena) ==
                  want[kind]);
            CHECK(arena.used == 0);
        }
    for (uint64_t seed = 1; seed <= 20; seed++) { /* the rounding of 2e8 is no curvature */
        llm_rng own = llm_rng_seed(seed);
        const double zero[2] = {0.0, 0.0};
        CHECK(llm_convergence_classify(cv_steep, NULL, zero, 2, 0.1, &own, &arena) ==
              LLM_CONVERGENCE_MINIMUM);
        CHECK(llm_convergence_classify(cv_steeper, NULL, zero, 2, 0.1, &own, &arena) ==
              LLM_CONVERGENCE_MINIMUM);
        CHECK(llm_convergence_classify(cv_island, NULL, zero, 2, 0.1, &own, &arena) ==
              LLM_CONVERGENCE_MINIMUM);
        CHECK(llm_convergence_classify(cv_island, NULL, zero, 2, 0.11, &own, &arena) ==
              LLM_CONVERGENCE_MAXIMUM);
    }
    const double valley[2] = {1.0, 1.0}, far[2] = {3.0, 0.5};
    llm_rng rng = llm_rng_seed(1);
    CHECK(llm_convergence_classify(llm_gradient_descent_rosenbrock, NULL, valley, 2, 0.1, &rng,
                                   &arena) == LLM_CONVERGENCE_MINIMUM);
    CHECK(llm_convergence_classify(llm_gradient_descent_beale, NULL, far, 2, 0.1, &rng, &arena) ==
          LLM_CONVERGENCE_MINIMUM);
    const double saddle[2] = {0.0, 1.0}; /* Beale's */
    CHECK(llm_convergence_classify(llm_gradient_descent_beale, NULL, saddle, 2, 0.1, &rng,
                                   &arena) == LLM_CONVERGENCE_SADDLE);
    llm_arena_destroy(&arena);
}

typedef struct {
    size_t n, gradients, values;
    double curvature; /* of the first variable; each further one has as much more, or all have 0 */
} cv_count;
static double cv_counted(double *g, const double *x, void *context) {
    cv_count *c = (cv_count *)context;
    double f = 0.0;
    c->gradients += g != NULL, c->values += g == NULL;
    for (size_t i = 0; i < c->n; i++) {
        const double h = c->curvature * (double)(i + 1);
        f += 0.5 * h * x[i] * x[i];
        if (g) g[i] = h * x[i];
    }
    return f;
}

TEST(convergence, "the price of an answer: 30 products of two gradients each, 64 probes at most") {
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 1 << 15));
    llm_rng rng = llm_rng_seed(1);
    const double zero[40] = {0.0};
    cv_count bowl = {40, 0, 0, 1.0}, plain = {2, 0, 0, 0.0};
    CHECK(llm_convergence_classify(cv_counted, &bowl, zero, 40, 0.1, &rng, &arena) ==
          LLM_CONVERGENCE_MINIMUM);
    CHECK(bowl.gradients == 60 && bowl.values == 1); /* all curvatures are clear: no probe */
    CHECK(llm_convergence_classify(cv_counted, &plain, zero, 2, 0.1, &rng, &arena) ==
          LLM_CONVERGENCE_FLAT);
    CHECK(plain.values == 65); /* and the point itself */
    CHECK(arena.used == 0);
    llm_arena_destroy(&arena);
}

TEST(convergence, "rest: a slow steady decline is none, an exponential approach is") {
    double line[1000], bend[1000];
    for (size_t t = 0; t < 1000; t++) {
        line[t] = 5.0 - 1e-6 * (double)t;
        bend[t] = 5.0 + exp(-0.02 * (double)t);
    }
    for (size_t t = 1; t <= 1000; t++) CHECK(!llm_convergence_rest(line, t, 20, 0.01));
    size_t first = 0;
    while (!llm_convergence_rest(bend, first, 20, 0.01)) first++;
    /* (e^0.4 - 1) e^(-0.02 t) <= 0.01 (1 - e^(-0.02 t)) at t = first - 1 */
    const double t = log((exp(0.4) - 1.0 + 0.01) / 0.01) / 0.02;
    CHECK(first == (size_t)ceil(t) + 1);
    const double flat[5] = {2.0, 2.0, 2.0, 2.0, 2.0};
    CHECK(llm_convergence_rest(flat, 5, 2, 0.0) && !llm_convergence_rest(flat, 4, 2, 0.0));
    CHECK(!llm_convergence_rest(flat, 5, 0, 1.0));
}

TEST(convergence, "windows of noise: at rest mostly true, in decline false, by their own scatter") {
    size_t rest = 0, decline = 0, bare = 0;
    for (uint64_t seed = 1; seed <= 400; seed++) {
        llm_rng rng = llm_rng_seed(seed);
        double still[200], fall[200], line[200];
        for (size_t t = 0; t < 200; t++) {
            still[t] = 1.0 + 0.1 * (double)llm_rng_normal(&rng);
            fall[t] = still[t] - 6e-4 * (double)t; /* 0.06 a window: 6 standard errors of a mean */
            line[t] = -1e-9 * (double)t;
        }
        rest += llm_convergence_cauchy(still, 200, 100, 2.0);
        decline += llm_convergence_cauchy(fall, 200, 100, 2.0);
        bare += llm_convergence_cauchy(line, 200, 100, 3.0);
    }
    CHECK(rest >= 380 && rest < 400); /* 97.7 % of 400 is 391 */
    CHECK(decline <= 10);             /* 4.2 - 2 standard errors of the difference: 1.3 % */
    CHECK(bare == 0);
    const double four[4] = {3.0, 1.0, 2.0, 0.0}; /* means 2 and 1, variances 2: error sqrt(2) */
    CHECK(llm_convergence_cauchy(four, 4, 2, 0.708) && !llm_convergence_cauchy(four, 4, 2, 0.707));
    CHECK(!llm_convergence_cauchy(four, 3, 2, 9.0) && !llm_convergence_cauchy(four, 4, 1, 9.0));
    const double later[5] = {9.0, 3.0, 1.0, 2.0, 0.0}; /* only the last two windows count */
    CHECK(llm_convergence_cauchy(later, 5, 2, 0.708) && !llm_convergence_cauchy(later, 5, 2, 0.7));
}

TEST(convergence, "Pflug's products turn negative where the loss reaches its floor, not before") {
    enum { n = 200, T = 400 };
    for (uint64_t seed = 1; seed <= 5; seed++) {
        llm_rng rng = llm_rng_seed(seed);
        float w[n], g[n], before[n], z[n];
        double sum = 0.0;
        size_t fired = 0;
        const double lr = 0.1, floor = lr / (2.0 - lr); /* of E w^2, unit noise */
        for (size_t i = 0; i < n; i++) w[i] = 10.0f;
        for (size_t t = 0; t < T && fired == 0; t++) {
            llm_rng_normal_fill(&rng, z, n);
            for (size_t i = 0; i < n; i++) g[i] = w[i] + z[i];
            if (t > 0 && llm_convergence_pflug(&sum, g, before, n, t, 8)) fired = t;
            llm_gradient_descent_step(w, g, n, (float)lr);
            memcpy(before, g, sizeof g);
        }
        /* the loss is within a third of its floor from here on */
        const double plateau = log(100.0 / (floor / 3.0)) / (-2.0 * log(1.0 - lr));
        CHECK(fired > 0.8 * plateau && fired < 1.5 * plateau); /* 41; 100 other seeds: 40 to 56 */
    }
    const float a[2] = {1.0f, 2.0f}, b[2] = {-3.0f, 1.0f};
    double sum = 0.0;
    CHECK(!llm_convergence_pflug(&sum, a, b, 2, 1, 2) && sum == -1.0);
    CHECK(llm_convergence_pflug(&sum, a, b, 2, 2, 2) && sum == 0.0);
    CHECK(!llm_convergence_pflug(&sum, a, a, 2, 4, 2));
    const float right[2] = {2.0f, -1.0f}, near[2] = {0.5f, 0.0f}; /* products 0 and 1/2 */
    CHECK(!llm_convergence_pflug(&sum, a, right, 2, 6, 2) && sum == 0.0);
    CHECK(!llm_convergence_pflug(&sum, a, near, 2, 8, 2) && sum == 0.0);
    CHECK(llm_convergence_pflug(&sum, a, b, 2, 1, 1));
    CHECK_ASSERTS(llm_convergence_pflug(&sum, a, b, 2, 0, 2));
    CHECK_ASSERTS(llm_convergence_pflug(&sum, a, b, 2, 1, 0));
    const float w[2] = {3.0f, 4.0f}, back[2] = {3.0f, 3.0f}, none[2] = {0.0f, 0.0f};
    CHECK_NEAR(llm_convergence_moved(w, back, 2), 0.2, 1e-12);
    CHECK(llm_convergence_moved(none, none, 2) == 0.0);
    CHECK(llm_convergence_moved(none, w, 2) == HUGE_VAL);
}

TEST(convergence, "windows by hand: one deviation apart; all equal is rest, and no rate at all") {
    const double by_hand[4] = {4.0, 2.0, 3.0, 1.0}; /* means 3 and 2, variances 2: sqrt(2) */
    const double same[6] = {0.5, 0.5, 0.5, 0.5, 0.5, 0.5};
    CHECK(llm_convergence_cauchy(by_hand, 4, 2, 0.7072));
    CHECK(!llm_convergence_cauchy(by_hand, 4, 2, 0.7070));
    CHECK(llm_convergence_cauchy(same, 6, 3, 2.0));
    const llm_convergence_rate r = llm_convergence_fit(same, 6, 1);
    CHECK(r.evidence == 0.0 && r.power == 0.0 && r.factor == 1.0);
    CHECK(r.kind == LLM_CONVERGENCE_SUBLINEAR); /* the slower one, where both fit alike */
}

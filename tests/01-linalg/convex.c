/* @convex */
#include "../test.h"

#include "../../llm.h"

static double convex_logsumexp(double *g, const double *x, void *context) {
    double sum = 0.0;
    (void)context;
    for (size_t i = 0; i < 3; i++) sum += exp(x[i]);
    for (size_t i = 0; g && i < 3; i++) g[i] = exp(x[i]) / sum;
    return log(sum);
}
static double convex_root(double *g, const double *x, void *context) { /* concave */
    (void)context;
    if (g) g[0] = 0.5 / sqrt(x[0]);
    return sqrt(x[0]);
}
static double convex_norm(double *g, const double *x, void *context) { /* |x0| + |x1|, kinks */
    (void)context;
    for (size_t i = 0; g && i < 2; i++) g[i] = x[i] > 0.0 ? 1.0 : x[i] < 0.0 ? -1.0 : 0.0;
    return fabs(x[0]) + fabs(x[1]);
}
static double convex_wells(double *g, const double *x, void *context) { /* (x^2 - 1)^2 + x / 4 */
    (void)context;
    if (g) g[0] = 4.0 * x[0] * (x[0] * x[0] - 1.0) + 0.25;
    return (x[0] * x[0] - 1.0) * (x[0] * x[0] - 1.0) + 0.25 * x[0];
}
static double convex_logistic(double *g, const double *x,
                              void *context) { /* 20 points, two weights */
    const float *data = (const float *)context;
    double sum = 0.0;
    if (g) g[0] = 0.02 * x[0], g[1] = 0.02 * x[1];
    for (size_t i = 0; i < 20; i++) {
        const double z = (double)data[3 * i] * x[0] + (double)data[3 * i + 1] * x[1];
        const double sign = data[3 * i + 2] > 0.0f ? 1.0 : -1.0;
        sum += log1p(exp(-sign * z)) / 20.0;
        for (size_t k = 0; g && k < 2; k++)
            g[k] -= sign * (double)data[3 * i + k] / (1.0 + exp(sign * z)) / 20.0;
    }
    return sum + 0.01 * (x[0] * x[0] + x[1] * x[1]);
}

/* -x^2, which remembers where it was asked. */
typedef struct {
    double least, most, last[3];
} convex_seen;
static double convex_spy(double *g, const double *x, void *context) {
    convex_seen *seen = (convex_seen *)context;
    seen->least = fmin(seen->least, x[0]), seen->most = fmax(seen->most, x[0]);
    memmove(seen->last, seen->last + 1, 2 * sizeof(double));
    seen->last[2] = x[0];
    if (g) g[0] = -2.0 * x[0];
    return -x[0] * x[0];
}

TEST(convex, "probes fill the box and no more; one probe by hand") {
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 1 << 12));
    const double low[1] = {1.0}, high[1] = {3.0};
    for (uint64_t seed = 1; seed <= 5; seed++)
        for (int chord = 0; chord < 2; chord++) {
            llm_rng rng = llm_rng_seed(seed);
            double x, y, t;
            for (size_t probes = 1; probes <= 1000; probes += 999) {
                convex_seen seen = {HUGE_VAL, -HUGE_VAL, {0, 0, 0}};
                const double got = chord ? llm_convex_chord(&x, &y, &t, convex_spy, &seen, low,
                                                            high, 1, probes, &rng, &arena)
                                         : llm_convex_first_order(convex_spy, &seen, low, high, 1,
                                                                  probes, &rng, &arena);
                CHECK(seen.least >= 1.0 && seen.most <= 3.0);
                if (probes > 1) CHECK(seen.least < 1.05 && seen.most > 2.95);
                if (probes > 1 || chord) continue;
                const double a = seen.last[1], b = seen.last[2]; /* the gap is (a - b)^2 */
                CHECK_NEAR(got, (a - b) * (a - b) / (1.0 + fmax(a * a, b * b)), 1e-12);
            }
        }
    llm_arena_destroy(&arena);
}

TEST(convex, "chords and tangents: log-sum-exp and norms pass, sqrt and the double well do not") {
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 1 << 12));
    const double low[3] = {-5, -5, -5}, high[3] = {5, 5, 5}, zero[1] = {0}, four[1] = {4};
    for (uint64_t seed = 1; seed <= 5; seed++) {
        llm_rng rng = llm_rng_seed(seed);
        double x[3], y[3], t;
        CHECK(llm_convex_chord(x, y, &t, convex_logsumexp, NULL, low, high, 3, 500, &rng, &arena) <=
              1e-14);
        CHECK(llm_convex_chord(x, y, &t, convex_norm, NULL, low, high, 2, 500, &rng, &arena) <=
              1e-14);
        CHECK(llm_convex_first_order(convex_logsumexp, NULL, low, high, 3, 500, &rng, &arena) <=
              1e-14);
        CHECK(llm_convex_first_order(convex_norm, NULL, low, high, 2, 500, &rng, &arena) <= 1e-14);
        CHECK(llm_convex_first_order(convex_root, NULL, zero, four, 1, 500, &rng, &arena) > 0.1);
        CHECK(llm_convex_first_order(convex_wells, NULL, low, high, 1, 500, &rng, &arena) > 0.1);
        const double worst =
            llm_convex_chord(x, y, &t, convex_root, NULL, zero, four, 1, 500, &rng, &arena);
        CHECK(worst > 0.05 && arena.used == 0); /* and the witness shows it */
        const double middle[1] = {t * x[0] + (1.0 - t) * y[0]};
        const double above = sqrt(middle[0]) - t * sqrt(x[0]) - (1.0 - t) * sqrt(y[0]);
        CHECK_NEAR(worst, above / (1.0 + fmax(sqrt(x[0]), sqrt(y[0]))), 1e-12);
        CHECK(x[0] >= 0.0 && x[0] <= 4.0 && t >= 0.0 && t < 1.0);
    }
    llm_arena_destroy(&arena);
}

TEST(convex, "semidefinite: Gram matrices of every rank, and not when one direction bends down") {
    llm_rng rng = llm_rng_seed(2);
    for (size_t round = 0; round < 200; round++) {
        const size_t n = 1 + round % 9, rank = round % (n + 1);
        double h[81], down[81], v[81], last[9];
        for (size_t i = 0; i < n * n; i++) v[i] = (double)llm_rng_normal(&rng), h[i] = 0.0;
        for (size_t i = 0; i < n * n; i++)
            for (size_t k = 0; k < rank; k++) h[i] += v[k * n + i / n] * v[k * n + i % n];
        for (size_t i = 0; i < n; i++) last[i] = (double)llm_rng_normal(&rng);
        double size = 0.0;
        for (size_t i = 0; i < n; i++) size += last[i] * last[i];
        for (size_t i = 0; i < n * n; i++) { /* H - big last last': one negative eigenvalue */
            down[i] = h[i];
            down[i] -= 50.0 * (double)n * last[i / n] * last[i % n] / size;
        }
        CHECK(llm_convex_psd(h, n));
        CHECK(!llm_convex_psd(down, n));
    }
    double saddle[4] = {0, 1, 1, 0}, zero[4] = {0, 0, 0, 0}, minus[1] = {-1e-9},
           edge[4] = {1, 1, 1, 1};
    double nan[4] = {1, (double)NAN, (double)NAN, 1}, low[4] = {1, 2, 2, 1},
           tiny[4] = {1e-20, 0, 0, -1e-21};
    CHECK(!llm_convex_psd(saddle, 2) && llm_convex_psd(zero, 2) && !llm_convex_psd(minus, 1));
    CHECK(llm_convex_psd(edge, 2) && !llm_convex_psd(nan, 2) && !llm_convex_psd(low, 2));
    CHECK(!llm_convex_psd(tiny, 2) && llm_convex_psd(NULL, 0));
    double first[4] = {1e10, 0, 0, -1e-7}, second[4] = {-1e-7, 0, 0, 1e10}; /* rounding of 1e10 */
    double late[4] = {0, 0, 0, 1}, bent[4] = {1, 3, 3, 5};
    CHECK(llm_convex_psd(first, 2) && llm_convex_psd(second, 2));
    CHECK(llm_convex_psd(late, 2) && !llm_convex_psd(bent, 2)); /* 5 - 9 */
}

TEST(convex,
     "conjugates in closed form: x^2/2 is its own, |x| gives a box, exp gives s log s - s") {
    enum { N = 4001, M = 41 };
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 1 << 16));
    double *x = doubles(N), *f = doubles(N), s[M], got[M];
    for (size_t i = 0; i < N; i++) x[i] = -10.0 + 20.0 * (double)i / (N - 1);
    for (size_t k = 0; k < M; k++) s[k] = -4.0 + 8.0 * (double)k / (M - 1);
    for (size_t i = 0; i < N; i++) f[i] = 0.5 * x[i] * x[i];
    llm_convex_conjugate(got, s, M, x, f, N, &arena);
    for (size_t k = 0; k < M; k++) CHECK_NEAR(got[k], 0.5 * s[k] * s[k], 4e-6); /* step^2 / 8 */
    for (size_t i = 0; i < N; i++) f[i] = fabs(x[i]);
    llm_convex_conjugate(got, s, M, x, f, N, &arena);
    for (size_t k = 0; k < M; k++) CHECK_NEAR(got[k], fmax(0.0, 10.0 * (fabs(s[k]) - 1.0)), 1e-12);
    for (size_t i = 0; i < N; i++) f[i] = exp(x[i]);
    llm_convex_conjugate(got, s, M, x, f, N, &arena);
    for (size_t k = 0; k < M; k++)
        if (s[k] > 0.0) CHECK_NEAR(got[k], s[k] * log(s[k]) - s[k], 2e-5);
    llm_rng rng = llm_rng_seed(3); /* any points: equals the definition */
    for (size_t round = 0; round < 100; round++) {
        const size_t n = 1 + round % 30;
        double at = 0.0;
        for (size_t i = 0; i < n; i++)
            x[i] = at += 0.1 + (double)llm_rng_uniform(&rng),
            f[i] = (double)(round % 2 ? llm_rng_normal(&rng) : rintf(llm_rng_normal(&rng)));
        llm_convex_conjugate(got, s, M, x, f, n, &arena);
        for (size_t k = 0; k < M; k++) {
            double want = -(double)INFINITY;
            for (size_t i = 0; i < n; i++) want = fmax(want, s[k] * x[i] - f[i]);
            CHECK_NEAR(got[k], want, 1e-12);
        }
    }
    CHECK(arena.used == 0);
    llm_arena_destroy(&arena);
}

TEST(convex,
     "the envelope: convex, below f, touching; twice conjugated; brute force over all chords") {
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 1 << 16));
    llm_rng rng = llm_rng_seed(4);
    for (size_t round = 0; round < 60; round++) {
        const size_t n = 1 + round % 25;
        double x[25], f[25], got[25], at = 0.0;
        for (size_t i = 0; i < n; i++) {
            x[i] = at += 0.1 + (double)llm_rng_uniform(&rng);
            f[i] = (double)(round % 3 ? llm_rng_normal(&rng) : rintf(llm_rng_normal(&rng)));
        }
        llm_convex_envelope(got, x, f, n, &arena);
        for (size_t i = 0; i < n; i++) {
            double want = f[i];
            for (size_t a = 0; a < i; a++)
                for (size_t b = i + 1; b < n; b++)
                    want = fmin(want, f[a] + (x[i] - x[a]) / (x[b] - x[a]) * (f[b] - f[a]));
            CHECK_NEAR(got[i], want, 1e-12);
        }
    }
    const double line[3] = {0, 1, 2};
    double none[3];
    size_t corner[3];
    CHECK(llm_convex_hull(corner, line, line, 3) == 2 && corner[1] == 2); /* no corner between */
    CHECK_ASSERTS(llm_convex_conjugate(none, line, 3, line, line, 0, &arena));
    /* double well: between the two points of a common tangent the hull is straight; f** finds it */
    enum { N = 801 };
    double *x = doubles(N), *f = doubles(N), *hull = doubles(N), *star = doubles(N),
           *s = doubles(N), *again = doubles(N);
    for (size_t i = 0; i < N; i++) {
        x[i] = -2.0 + 4.0 * (double)i / (N - 1);
        s[i] = -26.0 + 52.0 * (double)i / (N - 1);
        f[i] = (x[i] * x[i] - 1.0) * (x[i] * x[i] - 1.0);
    }
    llm_convex_envelope(hull, x, f, N, &arena);
    llm_convex_conjugate(star, s, N, x, f, N, &arena);
    llm_convex_conjugate(again, x, N, s, star, N, &arena);
    for (size_t i = 0; i < N; i++) {
        CHECK_NEAR(hull[i], fabs(x[i]) <= 1.0 ? 0.0 : f[i], 1e-12);
        if (fabs(x[i]) < 1.95) CHECK_NEAR(again[i], hull[i], 1e-3); /* slopes in steps of 0.065 */
    }
    CHECK(arena.used == 0);
    llm_arena_destroy(&arena);
}

TEST(convex, "20 starts end at one value on a convex loss, and at two in the double well") {
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 1 << 12));
    llm_rng rng = llm_rng_seed(5);
    float data[60];
    for (size_t i = 0; i < 60; i++)
        data[i] = llm_rng_normal(&rng) + (i % 3 == 1 ? 0.5f * (float)(i % 2) : 0.0f);
    double least = (double)INFINITY, most = -(double)INFINITY,
           wells[2] = {(double)INFINITY, -(double)INFINITY};
    for (int start = 0; start < 20; start++) {
        double x[2] = {3.0 * (double)llm_rng_normal(&rng), 3.0 * (double)llm_rng_normal(&rng)};
        const double value = llm_convex_subgradient(x, convex_logistic, data, 2.0, 3000, 2, &arena);
        CHECK(value == convex_logistic(NULL, x, data)); /* x is where the best value was met */
        least = fmin(least, value), most = fmax(most, value);
        double w[1] = {start % 2 ? 1.0 + 0.1 * (double)llm_rng_uniform(&rng) : -1.0};
        const double well = llm_convex_subgradient(w, convex_wells, NULL, 0.05, 2000, 1, &arena);
        wells[0] = fmin(wells[0], well), wells[1] = fmax(wells[1], well);
    }
    CHECK(most - least < 1e-4 && wells[1] - wells[0] > 0.4);
    double kink[2] = {3.0,
                      -2.0}; /* |x|: the error falls like 1/sqrt(k), never below the last step */
    CHECK(llm_convex_subgradient(kink, convex_norm, NULL, 1.0, 4000, 2, &arena) < 0.05);
    double still[2] = {1.0, 1.0};
    CHECK(llm_convex_subgradient(still, convex_norm, NULL, 1.0, 0, 2, &arena) == 2.0 &&
          still[0] == 1.0);
    CHECK(arena.used == 0);
    llm_arena_destroy(&arena);
}

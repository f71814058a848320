/* @wasserstein */
#include "../test.h"

#include "../../llm.h"
#include "../arena.h"

static llm_wasserstein_measure ws_measure(const float *x, const float *mass, size_t n) {
    llm_wasserstein_measure m;
    m.x = x, m.mass = mass, m.n = n;
    return m;
}
static float *ws_normal(llm_rng *rng, size_t n) {
    float *x = floats(n);
    llm_rng_normal_fill(rng, x, n);
    return x;
}

/* W_p^p on a line with the sections own helpers left out: a and b, for finite differences. */
static double ws_line(const llm_wasserstein_measure *a, const llm_wasserstein_measure *b,
                      double p) {
    llm_arena arena = test_arena(1 << 18);
    llm_error e;
    double cost = (double)NAN;
    CHECK(llm_wasserstein_1d(&cost, NULL, a, b, p, &arena, &e) && arena.used == 0);
    return cost;
}
static double ws_sliced(const llm_wasserstein_measure *a, const llm_wasserstein_measure *b,
                        const float *theta, size_t L, size_t d) {
    llm_arena arena = test_arena(1 << 18);
    llm_error e;
    double cost = (double)NAN;
    CHECK(llm_wasserstein_sliced(&cost, NULL, a, b, theta, L, d, &arena, &e) && arena.used == 0);
    return cost;
}

TEST(wasserstein, "on a line: SciPy's and POT's numbers, p = 1, 2, 3, with and without masses") {
    const size_t shapes[7][2] = {{1, 1}, {1, 4}, {3, 3}, {5, 2}, {7, 7}, {11, 13}, {20, 20}};
    const double p[4] = {1.0, 1.0, 2.0, 3.0};
    for (size_t s = 0; s < 7; s++) {
        const size_t n = shapes[s][0], m = shapes[s][1];
        const float *x = golden("line%zux%zu/x", n, m), *y = golden("line%zux%zu/y", n, m);
        const float *a = golden("line%zux%zu/a", n, m), *b = golden("line%zux%zu/b", n, m);
        float plain[4], weighted[4], thrice[20];
        for (size_t i = 0; i < n; i++) thrice[i] = 3.0f * a[i];
        for (size_t k = 0; k < 4; k++) {
            llm_wasserstein_measure from = ws_measure(x, NULL, n), to = ws_measure(y, NULL, m);
            plain[k] = (float)ws_line(&from, &to, p[k]);
            CHECK_NEAR(ws_line(&to, &from, p[k]), plain[k], 1e-6 * (1.0 + (double)plain[k]));
            from.mass = a, to.mass = b;
            weighted[k] = (float)ws_line(&from, &to, p[k]);
            float more[20]; /* only shares count, as long as both totals are the same */
            for (size_t i = 0; i < m; i++) more[i] = 3.0f * b[i];
            from.mass = thrice, to.mass = more;
            CHECK_NEAR(ws_line(&from, &to, p[k]), weighted[k], 1e-6 * (1.0 + (double)plain[k]));
        }
        CHECK_GOLDEN(plain, 4, 1e-6f, "line%zux%zu/plain", n, m);
        CHECK_GOLDEN(weighted, 4, 1e-6f, "line%zux%zu/weighted", n, m);
    }
}

TEST(wasserstein,
     "a shift by t costs |t|^p exactly, a distance is a metric, the plan is the best") {
    llm_rng rng = llm_rng_seed(1);
    for (int round = 0; round < 50; round++) {
        const size_t n = 1 + llm_rng_below(&rng, 6);
        float *x = ws_normal(&rng, n), *y = ws_normal(&rng, n), *z = ws_normal(&rng, n);
        for (size_t i = 0; i < n; i++) z[i] = x[i] = (float)(int)(64.0f * x[i]), z[i] += 5.0f;
        const llm_wasserstein_measure a = ws_measure(x, NULL, n), b = ws_measure(y, NULL, n),
                                      c = ws_measure(z, NULL, n);
        CHECK_NEAR(ws_line(&a, &c, 1.0), 5.0, 1e-14);
        CHECK_NEAR(ws_line(&a, &c, 2.0), 25.0, 1e-13);
        CHECK(ws_line(&a, &a, 2.0) == 0.0);
        for (double p = 1.0; p < 3.5; p += 0.5) {
            const double ab = pow(ws_line(&a, &b, p), 1.0 / p),
                         ac = pow(ws_line(&a, &c, p), 1.0 / p),
                         bc = pow(ws_line(&b, &c, p), 1.0 / p);
            CHECK(ab <= ac + bc + 1e-12 && ac <= ab + bc + 1e-12 && bc <= ab + ac + 1e-12);
            /* all n! pairings of equal masses: none is cheaper (Birkhoff: no plan is) */
            size_t order[6];
            double best = HUGE_VAL;
            for (size_t code = 0, last = 1; code < last; code++) {
                last = 1;
                for (size_t i = 0; i < n; i++) order[i] = i;
                size_t rest = code;
                for (size_t i = n; i > 1; i--) {
                    const size_t k = rest % i, kept = order[i - 1];
                    rest /= i;
                    last *= i;
                    order[i - 1] = order[k];
                    order[k] = kept;
                }
                double cost = 0.0;
                for (size_t i = 0; i < n; i++)
                    cost += pow(fabs((double)x[i] - (double)y[order[i]]), p) / (double)n;
                best = fmin(best, cost);
            }
            CHECK_NEAR(ws_line(&a, &b, p), best, 1e-12 * (1.0 + best));
        }
    }
}

TEST(wasserstein, "apart, it grows with the distance, where KL is infinite and TV is 1") {
    const float p[4] = {0.5f, 0.5f, 0.0f, 0.0f}, q[4] = {0.0f, 0.0f, 0.25f, 0.75f};
    const float x[4] = {0.0f, 1.0f, 10.0f, 11.0f}, far[4] = {0.0f, 1.0f, 1000.0f, 1001.0f};
    const llm_wasserstein_measure a = ws_measure(x, p, 4), b = ws_measure(x, q, 4);
    const llm_wasserstein_measure c = ws_measure(far, p, 4), d = ws_measure(far, q, 4);
    CHECK_NEAR(ws_line(&a, &b, 1.0), 10.25, 1e-14);
    CHECK_NEAR(ws_line(&c, &d, 1.0), 1000.25, 1e-12);
}

TEST(wasserstein, "gradients on a line and of slices, against finite differences") {
    llm_rng rng = llm_rng_seed(2);
    llm_arena arena = test_arena(1 << 18);
    llm_error e;
    const size_t sizes[4][2] = {{1, 1}, {4, 4}, {5, 3}, {2, 7}};
    for (size_t s = 0; s < 4; s++) {
        const size_t n = sizes[s][0], m = sizes[s][1];
        float *x = ws_normal(&rng, n), *y = ws_normal(&rng, m), *mass = floats(n),
              *other = floats(m);
        for (size_t i = 0; i < n; i++) mass[i] = (float)(i + 1) / (float)(n * (n + 1));
        for (size_t i = 0; i < m; i++) other[i] = 0.5f / (float)m;
        const llm_wasserstein_measure a = ws_measure(x, mass, n), b = ws_measure(y, other, m);
        for (double p = 1.0; p < 3.5; p += 1.0) {
            double cost, *dx = doubles(n);
            float *got = floats(n);
            for (size_t i = 0; i < n; i++) dx[i] = 100.0;
            CHECK(llm_wasserstein_1d(&cost, dx, &a, &b, p, &arena, &e) && arena.used == 0);
            for (size_t i = 0; i < n; i++) got[i] = (float)(dx[i] - 100.0);
            CHECK_GRAD(got, x, n, 1e-3f, 1e-3f, ws_line(&a, &b, p));
        }
        enum { d = 3, L = 5 };
        float *points = ws_normal(&rng, n * d), *others = ws_normal(&rng, m * d), theta[L * d],
              *grad = zeros(n * d);
        double cost;
        llm_wasserstein_directions(theta, L, d, &rng);
        const llm_wasserstein_measure g = ws_measure(points, mass, n),
                                      h = ws_measure(others, other, m);
        CHECK(llm_wasserstein_sliced(&cost, grad, &g, &h, theta, L, d, &arena, &e));
        CHECK_GRAD(grad, points, n * d, 1e-3f, 1e-3f, ws_sliced(&g, &h, theta, L, d));
        float *twice = floats(n * d);
        memcpy(twice, grad, n * d * sizeof(float));
        CHECK(llm_wasserstein_sliced(&cost, twice, &g, &h, theta, L, d, &arena, &e)); /* += */
        for (size_t i = 0; i < n * d; i++) CHECK_NEAR(twice[i], 2.0f * grad[i], 1e-6);
    }
    const float same[2] = {1.0f, 2.0f};
    const llm_wasserstein_measure a = ws_measure(same, NULL, 2);
    double cost, kink[2] = {7.0, 8.0};
    CHECK(llm_wasserstein_1d(&cost, kink, &a, &a, 1.0, &arena, &e));
    CHECK(cost == 0.0 && kink[0] == 7.0 && kink[1] == 8.0);
}

TEST(wasserstein,
     "slices: POT's numbers; unit directions from everywhere; a shift costs |t|^2 / d") {
    const size_t shapes[4][4] = {{1, 1, 1, 1}, {5, 5, 2, 3}, {6, 4, 3, 7}, {9, 11, 5, 5}};
    for (size_t s = 0; s < 4; s++) {
        const size_t n = shapes[s][0], m = shapes[s][1], d = shapes[s][2], L = shapes[s][3];
        const llm_wasserstein_measure a =
            ws_measure(golden("sliced%zux%zu/x", n, m), golden("sliced%zux%zu/a", n, m), n);
        const llm_wasserstein_measure b =
            ws_measure(golden("sliced%zux%zu/y", n, m), golden("sliced%zux%zu/b", n, m), m);
        const float cost = (float)ws_sliced(&a, &b, golden("sliced%zux%zu/theta", n, m), L, d);
        CHECK_GOLDEN(&cost, 1, 2e-6f, "sliced%zux%zu/cost", n, m);
    }
    enum { d = 4, L = 4000, n = 6 };
    llm_rng rng = llm_rng_seed(3);
    float *theta = floats(L * d), *x = ws_normal(&rng, n * d), y[n * d];
    double moment[d * d] = {0};
    llm_wasserstein_directions(theta, L, d, &rng);
    for (size_t l = 0; l < L; l++) {
        CHECK_NEAR(dot(theta + l * d, theta + l * d, d), 1.0, 1e-6);
        for (size_t i = 0; i < d * d; i++)
            moment[i] += (double)theta[l * d + i / d] * (double)theta[l * d + i % d] / L;
    }
    for (size_t i = 0; i < d * d; i++)
        CHECK_NEAR(moment[i], i / d == i % d ? 0.25 : 0.0, 0.015); /* sd 0.0035 */
    for (size_t i = 0; i < n * d; i++) y[i] = x[i] + (i % d == 1 ? 3.0f : 0.0f);
    const llm_wasserstein_measure a = ws_measure(x, NULL, n), b = ws_measure(y, NULL, n);
    CHECK_NEAR(ws_sliced(&a, &b, theta, L, d), 9.0 * moment[5], 1e-5);
    CHECK(ws_sliced(&a, &b, theta, 0, d) == 0.0);
}

/* W_2^2 of normals given as floats. */
static double ws_between(const float *m1, const float *s1, const float *m2, const float *s2,
                         size_t d) {
    llm_arena arena = test_arena(1 << 18);
    llm_error e;
    double *m = doubles(2 * d), *s = doubles(2 * d * d), cost = (double)NAN;
    for (size_t i = 0; i < 2 * d; i++) m[i] = (double)(i < d ? m1[i] : m2[i - d]);
    for (size_t i = 0; i < 2 * d * d; i++) s[i] = (double)(i < d * d ? s1[i] : s2[i - d * d]);
    CHECK(llm_wasserstein_normal(&cost, m, s, m + d, s + d * d, d, &arena, &e) && arena.used == 0);
    return cost;
}

TEST(wasserstein, "normals: POT's numbers, flat ones too; closed forms; equal ones are at 0") {
    const size_t shapes[5][2] = {{1, 1}, {2, 2}, {3, 3}, {6, 6}, {5, 2}};
    for (size_t c = 0; c < 5; c++) {
        const size_t d = shapes[c][0], r = shapes[c][1];
        const float *m1 = golden("normal%zux%zu/m1", d, r), *m2 = golden("normal%zux%zu/m2", d, r);
        const float *s1 = golden("normal%zux%zu/s1", d, r), *s2 = golden("normal%zux%zu/s2", d, r);
        const float cost = (float)ws_between(m1, s1, m2, s2, d);
        CHECK_GOLDEN(&cost, 1, 1e-6f, "normal%zux%zu/cost", d, r);
        CHECK_NEAR(ws_between(m2, s2, m1, s1, d), cost, 1e-5 * (double)cost);
        /* the roots of flat ones hold the root of rounding, about 1e-8, where they should hold 0 */
        const double size = 1.0 + dot(s1, s1, d * d);
        CHECK(ws_between(m1, s1, m1, s1, d) < (r < d ? 1e-18 : 1e-30) * size);
    }
    const float zero[3] = {0, 0, 0}, one[3] = {1, -2, 2}, flat[9] = {0};
    const float a[9] = {4, 0, 0, 0, 9, 0, 0, 0, 0}, b[9] = {1, 0, 0, 0, 25, 0, 0, 0, 16};
    CHECK_NEAR(ws_between(zero, a, one, b, 3), 9.0 + 1.0 + 4.0 + 16.0, 1e-12); /* diagonals */
    CHECK_NEAR(ws_between(zero, a, one, flat, 3), 9.0 + 13.0, 1e-12);          /* to a point */
    CHECK_NEAR(ws_between(zero, flat, one, flat, 3), 9.0, 1e-14);
    CHECK(ws_between(NULL, NULL, NULL, NULL, 0) == 0.0);
}

TEST(wasserstein, "normals against samples of them: 40000 pairs by the linear map cost the same") {
    const double m[4] = {0.5, -1.0, 0.0, 2.0}, s[8] = {2.0, 0.6, 0.6, 0.5, 1.0, -0.7, -0.7, 3.0};
    llm_arena arena = test_arena(1 << 18);
    llm_error e;
    llm_rng rng = llm_rng_seed(4);
    double cost, root[4], back[4], w[2], v[4], middle[4], mid[4], map[4], sum = 0.0;
    CHECK(llm_wasserstein_normal(&cost, m, s, m + 2, s + 4, 2, &arena, &e));
    /* T = R^-1 (R S2 R)^(1/2) R^-1 with R = S1^(1/2) carries the first to the second */
    CHECK(llm_wasserstein_root(root, s, 2, &arena, &e) && llm_eigh(w, v, s, 2, &arena));
    for (int i = 0; i < 2; i++) w[i] = 1.0 / sqrt(w[i]);
    llm_eigh_compose(back, w, v, 2);
    for (size_t i = 0; i < 4; i++) {
        middle[i] = 0.0;
        for (size_t k = 0; k < 4; k++)
            middle[i] += root[i / 2 * 2 + k / 2] * s[4 + k] * root[k % 2 * 2 + i % 2];
    }
    CHECK(llm_wasserstein_root(mid, middle, 2, &arena, &e) && arena.used == 0);
    for (size_t i = 0; i < 4; i++) {
        map[i] = 0.0;
        for (size_t k = 0; k < 4; k++)
            map[i] += back[i / 2 * 2 + k / 2] * mid[k] * back[k % 2 * 2 + i % 2];
    }
    for (int k = 0; k < 40000; k++) {
        float z[2];
        llm_rng_normal_pair(z, &rng);
        double x[2];
        for (size_t i = 0; i < 2; i++)
            x[i] = root[2 * i] * (double)z[0] + root[2 * i + 1] * (double)z[1];
        for (size_t i = 0; i < 2; i++) {
            const double way = m[i] + x[i] - m[2 + i] - map[2 * i] * x[0] - map[2 * i + 1] * x[1];
            sum += way * way / 40000.0;
        }
    }
    CHECK_NEAR(sum, cost, 0.05 * cost); /* sd 0.9% */
}

TEST(wasserstein, "what is no measure, or of other mass, or no covariance, is refused by name") {
    const float x[3] = {1.0f, 2.0f, 3.0f}, bad[3] = {1.0f, NAN, 3.0f},
                away[3] = {1.0f, 2.0f, -INFINITY};
    const float half[3] = {0.25f, 0.25f, 0.0f}, less[3] = {0.5f, -0.25f, 0.25f},
                none[3] = {0, 0, 0}, nan[3] = {NAN, 1, 1}, inf[3] = {INFINITY, 1, 1};
    const float most[3] = {0.500004f, 0.25f, 0.25f}, more[3] = {0.500015f, 0.25f, 0.25f};
    llm_arena arena = test_arena(1 << 18);
    llm_error e;
    double cost;
    const llm_wasserstein_measure good = ws_measure(x, NULL, 3);
    const struct {
        const float *x, *mass;
        size_t n;
        const char *text;
    } all[] = {{bad, NULL, 3, "wasserstein: point 1 is not finite"},
               {nan, NULL, 3, "point 0 is not finite"},
               {away, NULL, 3, "point 2 is not finite"},
               {x, half, 3, "wasserstein: masses"},
               {x, less, 3, "3 points of total mass nan"},
               {x, none, 3, "wasserstein: 3 points of total mass 0"},
               {x, nan, 3, "3 points of total mass nan"},
               {x, inf, 3, "3 points of total mass nan"},
               {x, NULL, 0, "0 points of total mass 0"},
               {x, more, 3, "masses"}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        const llm_wasserstein_measure m = ws_measure(all[i].x, all[i].mass, all[i].n);
        CHECK_FAILS(llm_wasserstein_1d(&cost, NULL, &m, &good, 1.0, &arena, &e), e, all[i].text);
        CHECK_FAILS(llm_wasserstein_1d(&cost, NULL, &good, &m, 1.0, &arena, &e), e, all[i].text);
        CHECK_FAILS(llm_wasserstein_sliced(&cost, NULL, &m, &good, x, 1, 1, &arena, &e), e,
                    all[i].text);
        CHECK(arena.used == 0);
    }
    const llm_wasserstein_measure b = ws_measure(x, half, 3), c = ws_measure(x, most, 3);
    CHECK_FAILS(llm_wasserstein_1d(&cost, NULL, &good, &b, 1.0, &arena, &e), e,
                "masses 1 and 0.5, expected the same");
    CHECK(llm_wasserstein_1d(&cost, NULL, &good, &c, 1.0, &arena, &e));
    CHECK_FAILS(llm_wasserstein_sliced(&cost, NULL, &good, &b, x, 0, 1, &arena, &e), e, "masses");
    const llm_wasserstein_measure pair = ws_measure(bad, NULL, 1); /* points of two coordinates */
    CHECK_FAILS(llm_wasserstein_sliced(&cost, NULL, &pair, &good, x, 1, 2, &arena, &e), e,
                "point 0");
    CHECK_ASSERTS(llm_wasserstein_1d(&cost, NULL, &good, &good, 0.5, &arena, &e));

    /* a bound relative to the mass: 1e-5 of 1000; and to the largest eigenvalue: 1e-6 of 1000 */
    const float much[3] = {500.0f, 250.0f, 250.004f}, thousand[3] = {500.0f, 250.0f, 250.02f},
                even[3] = {250.0f, 500.0f, 250.0f};
    const llm_wasserstein_measure c1 = ws_measure(x, even, 3), c2 = ws_measure(x, much, 3),
                                  c3 = ws_measure(x, thousand, 3);
    CHECK(llm_wasserstein_1d(&cost, NULL, &c1, &c2, 1.0, &arena, &e));
    CHECK_FAILS(llm_wasserstein_1d(&cost, NULL, &c1, &c3, 1.0, &arena, &e), e,
                "masses 1000 and 1000.02");
    const float largest[1] = {FLT_MAX}; /* finite, as point and as mass */
    const llm_wasserstein_measure top = ws_measure(largest, largest, 1);
    CHECK(llm_wasserstein_1d(&cost, NULL, &top, &top, 1.0, &arena, &e) && cost == 0.0);
    CHECK(llm_wasserstein_share(&c1, 3, 1.0) == 0.0 && llm_wasserstein_share(&good, 3, 1.0) == 0.0);
    const double large[4] = {1000, 0, 0, -5e-4}, loss[4] = {1000, 0, 0, -2e-3}, origin[2] = {0, 0};
    CHECK(llm_wasserstein_normal(&cost, origin, large, origin, large, 2, &arena, &e));
    CHECK_FAILS(llm_wasserstein_normal(&cost, origin, loss, origin, large, 2, &arena, &e), e,
                "negative");
    const double m[2] = {0, 0}, unit[4] = {1, 0, 0, 1}, skew[4] = {1, 0.5, 0, 1},
                 down[4] = {1, 0, 0, -2e-6}, round[4] = {1, 0, 0, -5e-7};
    CHECK_FAILS(llm_wasserstein_normal(&cost, m, skew, m, unit, 2, &arena, &e), e, "not symmetric");
    CHECK_FAILS(llm_wasserstein_normal(&cost, m, unit, m, down, 2, &arena, &e), e,
                "a negative eigenvalue");
    CHECK(arena.used == 0 && llm_wasserstein_normal(&cost, m, round, m, unit, 2, &arena, &e));
    CHECK_NEAR(cost, 1.0, 1e-15);
}

/* @regularization */
#include "../test.h"

#include "../../llm.h"

static llm_arena rz_arena(size_t size) {
    llm_arena arena;
    memset(&arena, 0, sizeof arena);
    arena.size = size;
    arena.memory = (unsigned char *)test_memory(size, 1);
    memset(arena.memory, 255, size); /* NaN */
    return arena;
}

static const float *rz_floats(const double *x, size_t n) {
    float *out = floats(n);
    for (size_t i = 0; i < n; i++) out[i] = (float)x[i];
    return out;
}

static double rz_objective(const llm_regularization_data *p, const double *w, double a,
                           double ratio) {
    double sum = 0.0;
    for (size_t i = 0; i < p->n; i++) {
        double e = p->y[i];
        for (size_t j = 0; j < p->d; j++) e -= p->x[j * p->n + i] * w[j];
        sum += e * e / (2.0 * (double)p->n);
    }
    for (size_t j = 0; j < p->d; j++)
        sum += a * (ratio * fabs(w[j]) + 0.5 * (1.0 - ratio) * w[j] * w[j]);
    return sum;
}

TEST(regularization, "elastic nets equal scikit-learn, warm and cold, with and without intercept") {
    const size_t shapes[3][2] = {{5, 1}, {13, 4}, {20, 30}};
    const double as[3] = {0.05, 0.3, 0.1}, ratios[3] = {0.5, 0.9, 0.1};
    const char *names[3] = {"0.05/0.5", "0.3/0.9", "0.1/0.1"};
    llm_arena arena = rz_arena(1 << 16);
    for (size_t s = 0; s < 3; s++)
        for (size_t k = 0; k < 6; k++) {
            const size_t n = shapes[s][0], d = shapes[s][1], mark = arena.used;
            const float *x = golden("%zu/x", n), *y = golden("%zu/y", n);
            const double a = as[k / 2], ratio = ratios[k / 2];
            const llm_regularization_data p =
                llm_regularization_center(x, y, n, d, k % 2 == 1, &arena);
            double *w = doubles(d), *e = doubles(n);
            for (size_t j = 0; j < d; j++) w[j] = k < 3 ? 0.0 : 5.0 - (double)j;
            const size_t sweeps =
                llm_regularization_elasticnet(w, &p, a, ratio, NULL, 1e-14, 100000, &arena);
            CHECK(sweeps > 0 && sweeps < 100000);
            CHECK_GOLDEN(rz_floats(w, d), d, 3e-6f, "%zu/%s/%zu/w", n, names[k / 2], k % 2);
            const float b = (float)llm_regularization_intercept(&p, w);
            CHECK_GOLDEN(&b, 1, 3e-6f, "%zu/%s/%zu/b", n, names[k / 2], k % 2);

            /* the gap is never below what is still to be won, and is 0 at the end */
            const double best = rz_objective(&p, w, a, ratio);
            for (int far = 0; far < 2; far++) {
                for (size_t j = 0; j < d; j++) w[j] += far ? 0.1 : 0.0;
                for (size_t i = 0; i < n; i++) {
                    e[i] = p.y[i];
                    for (size_t j = 0; j < d; j++) e[i] -= p.x[j * n + i] * w[j];
                }
                const double gap = llm_regularization_gap(&p, w, e, a * ratio, a * (1.0 - ratio));
                CHECK(gap >= rz_objective(&p, w, a, ratio) - best - 1e-12);
                if (!far) CHECK(gap < 1e-12);
            }
            arena.used = mark;
        }
    CHECK(arena.peak > 0);
}

TEST(regularization, "one column by hand, dead columns, columns left out, no penalty at all") {
    const float x[6] = {1, 0, 2, 0, 3, 0}, y[3] = {2, 4, 6};
    llm_arena arena = rz_arena(1 << 12);
    const llm_regularization_data p = llm_regularization_center(x, y, 3, 2, false, &arena);
    double w[2] = {0, 7};
    /* x.y / n = 28/3, |x|^2 / n = 14/3: (28/3 - 1) / (14/3 + 1) at a = 2, r = 1/2 */
    llm_regularization_elasticnet(w, &p, 2.0, 0.5, NULL, 1e-14, 100, &arena);
    CHECK_NEAR(w[0], 25.0 / 17.0, 1e-12);
    CHECK(w[1] == 7.0); /* nothing can be said about it */
    llm_regularization_elasticnet(w, &p, 0.0, 0.5, NULL, 1e-14, 100, &arena);
    CHECK_NEAR(w[0], 2.0, 1e-9);
    const float ones[2] = {1, 1}; /* a step of exactly 1 */
    const llm_regularization_data unit = llm_regularization_center(ones, ones, 2, 1, false, &arena);
    double single[1] = {0};
    CHECK(llm_regularization_elasticnet(single, &unit, 0.0, 0.5, NULL, 1e-14, 100, &arena) < 100);
    CHECK(single[0] == 1.0);
    const bool first[2] = {true, false};
    w[0] = 0.0;
    CHECK(llm_regularization_elasticnet(w, &p, 2.0, 0.5, first, 1e-14, 100, &arena) < 10);
    CHECK_NEAR(w[0], 25.0 / 17.0, 1e-12);
    const bool second[2] = {false, true};
    llm_regularization_elasticnet(w, &p, 0.0, 0.5, second, 1e-14, 100, &arena);
    CHECK(w[0] == 0.0);
    const size_t used = arena.used;
    CHECK(llm_regularization_elasticnet(w, &p, 1.0, 1.0, NULL, 1e-14, 0, &arena) == 0);
    CHECK(w[0] == 0.0);
    CHECK(llm_regularization_elasticnet(w, &p, 1.0, 1.0, NULL, 1e-14, 1, &arena) == 1);
    CHECK_NEAR(w[0], 25.0 / 14.0, 1e-12);
    llm_regularization_elasticnet(w, &p, 2.0, 0.0, NULL, 1e-14, 100, &arena); /* ridge alone */
    CHECK_NEAR(w[0], 1.4, 1e-12);
    CHECK(arena.used == used);
    const llm_regularization_data one = llm_regularization_center(x, y, 1, 2, true, &arena);
    CHECK(one.y[0] == 0.0 && one.y_mean == 2.0 && one.x[0] == 0.0 && one.norm[0] == 0.0);
    CHECK_ASSERTS(llm_regularization_elasticnet(w, &p, -1.0, 0.5, NULL, 1e-14, 100, &arena));
    CHECK_ASSERTS(llm_regularization_elasticnet(w, &p, 1.0, 1.5, NULL, 1e-14, 100, &arena));
    CHECK_ASSERTS(llm_regularization_elasticnet(w, &p, 1.0, -0.5, NULL, 1e-14, 100, &arena));
    CHECK_ASSERTS(llm_regularization_center(x, y, 0, 2, false, &arena));
    CHECK(llm_regularization_soft(3, 1) == 2 && llm_regularization_soft(-3, 1) == -2);
    CHECK(llm_regularization_soft(1, 1) == 0 && llm_regularization_soft(-0.5, 1) == 0);
    CHECK(isnan(llm_regularization_soft((double)NAN, 1)));
}

TEST(regularization, "the unit of y does not matter, to the last bit and sweep") {
    enum { N = 13, D = 4 };
    const float *x = golden("13/x"), *y = golden("13/y");
    float small[N];
    double w[D] = {0}, v[D] = {0};
    llm_arena arena = rz_arena(1 << 14);
    for (size_t i = 0; i < N; i++) small[i] = ldexpf(y[i], -20);
    const llm_regularization_data p = llm_regularization_center(x, y, N, D, true, &arena);
    const llm_regularization_data q = llm_regularization_center(x, small, N, D, true, &arena);
    const size_t sweeps =
        llm_regularization_elasticnet(w, &p, 0.01, 1.0, NULL, 1e-12, 1000, &arena);
    CHECK(llm_regularization_elasticnet(v, &q, ldexp(0.01, -20), 1.0, NULL, 1e-12, 1000, &arena) ==
          sweeps);
    for (size_t j = 0; j < D; j++) CHECK(ldexp(v[j], 20) == w[j]);
    const bool use[D] = {true, true, false, true}; /* and where only standing still ends it */
    const size_t more = llm_regularization_elasticnet(w, &p, 0.02, 1.0, use, 0.0, 1000, &arena);
    CHECK(llm_regularization_elasticnet(v, &q, ldexp(0.02, -20), 1.0, use, 0.0, 1000, &arena) ==
          more);
    for (size_t j = 0; j < D; j++) CHECK(ldexp(v[j], 20) == w[j]);
}

TEST(regularization, "groups shrink together, long rows are cut") {
    float w[2] = {3, 4}, rows[10] = {3, 4, 0.3f, 0.4f, 0.9f, 1.2f, 0, 0, -6, 8};
    llm_regularization_group(w, 2, 1.0f);
    CHECK_NEAR(w[0], 2.4f, 1e-6);
    CHECK_NEAR(w[1], 3.2f, 1e-6);
    llm_regularization_group(w, 2, 4.5f);
    CHECK(w[0] == 0.0f && w[1] == 0.0f);
    llm_regularization_group(w, 2, 0.0f);
    CHECK(w[0] == 0.0f);
    llm_regularization_max_norm(rows, 5, 2, 2.0f);
    const float want[10] = {1.2f, 1.6f, 0.3f, 0.4f, 0.9f, 1.2f, 0, 0, -1.2f, 1.6f};
    CHECK_ALL_NEAR(rows, want, 10, 1e-6);
}

TEST(regularization, "noise on the inputs is ridge, and so is stopping, direction by direction") {
    enum { N = 40, D = 3, COPIES = 4000 };
    llm_rng rng = llm_rng_seed(1);
    llm_arena arena = rz_arena(1 << 24);
    float x[N * D], y[N], *many = floats(N * D * COPIES), *y_many = floats(N * COPIES), w[D],
                          noisy[D];
    const double sigma = 0.5;
    llm_rng_normal_fill(&rng, x, N * D);
    for (size_t i = 0; i < N; i++)
        y[i] = x[i * D] - 2.0f * x[i * D + 2] + 0.1f * llm_rng_normal(&rng);
    for (size_t c = 0; c < COPIES; c++)
        for (size_t i = 0; i < N; i++) {
            y_many[c * N + i] = y[i];
            for (size_t j = 0; j < D; j++)
                many[(c * N + i) * D + j] = x[i * D + j] + (float)sigma * llm_rng_normal(&rng);
        }
    CHECK(llm_ridge_fit(w, x, y, N, D, llm_regularization_of_noise(sigma, N), &arena));
    CHECK(llm_ridge_fit(noisy, many, y_many, N * COPIES, D, 0.0, &arena));
    CHECK_ALL_NEAR(noisy, w, D, 0.01);
    CHECK(fabsf(w[2]) < 1.8f); /* it does shrink */

    /* gradient flow in small steps along one direction with singular value s */
    const double s = 3.0, time = 2.0, target = 1.7;
    double v = 0.0;
    for (int i = 0; i < 200000; i++) v += time / 200000.0 * s * s / N * (target - v);
    const double lam = llm_regularization_of_time(time, s, N);
    CHECK_NEAR(v, target * s * s / (s * s + lam), 1e-5);
    CHECK_NEAR(v, target * (1.0 - exp(-time * s * s / N)), 1e-5);
    const double three[3] = {3, 1, 0};
    CHECK_NEAR(llm_regularization_df(three, 3, 1.0), 0.9 + 0.5, 1e-12);
    CHECK_NEAR(llm_regularization_df(three, 3, 0.0), 2.0, 1e-12);
}

TEST(regularization,
     "with more columns than examples a penalty halves the error of the shortest fit") {
    enum { N = 40, D = 60, M = 500 };
    for (size_t seed = 1; seed <= 5; seed++) {
        llm_rng rng = llm_rng_seed(seed);
        llm_arena arena = rz_arena(1 << 18);
        float *x = floats((N + M) * D), *y = floats(N + M), w[D];
        llm_rng_normal_fill(&rng, x, (N + M) * D);
        for (size_t i = 0; i < N + M; i++) {
            y[i] = 0.3f * llm_rng_normal(&rng);
            for (size_t j = 0; j < 5; j++) y[i] += x[i * D + j];
        }
        const llm_regularization_data p = llm_regularization_center(x, y, N, D, false, &arena);
        double best = 1e9, bare = 0.0, net[D];
        memset(net, 0, sizeof net);
        for (double a = 1.0; a > 0.01; a *= 0.7) {
            double error = 0.0;
            llm_regularization_elasticnet(net, &p, a, 0.9, NULL, 1e-8, 10000, &arena);
            for (size_t i = N; i < N + M; i++) {
                double e = (double)y[i];
                for (size_t j = 0; j < D; j++) e -= (double)x[i * D + j] * net[j];
                error += e * e / M;
            }
            best = fmin(best, error);
        }
        CHECK(llm_ridge_fit(w, x, y, N, D, 1e-8, &arena));
        for (size_t i = N; i < N + M; i++)
            bare += pow((double)y[i] - dot(x + i * D, w, D), 2.0) / M;
        CHECK(best < 0.5 * bare);
    }
}

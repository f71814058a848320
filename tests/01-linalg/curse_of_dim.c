/* @curse_of_dim */
#include "../test.h"

#include "../../llm.h"
#include "../arena.h"

static float *curse_uniform(llm_rng *rng, size_t n) {
    float *x = floats(n);
    for (size_t i = 0; i < n; i++) x[i] = llm_rng_uniform(rng);
    return x;
}

TEST(curse_of_dim,
     "distances, contrast, shell, hubs and dimension equal SciPy's and scikit-learn's") {
    const size_t shapes[3][2] = {{12, 2}, {31, 3}, {40, 10}};
    llm_arena arena = test_arena(1 << 17);
    for (size_t s = 0; s < 3; s++) {
        const size_t N = shapes[s][0], d = shapes[s][1];
        const float *x = golden("%zux%zu/x", N, d);
        float *dist = floats(N * N), *count = floats(N), shell[2];
        size_t *occurs = as_sizes(zeros(N), N);
        llm_curse_of_dim_distances(dist, x, N, d);
        CHECK_GOLDEN(dist, N, 1e-7f, "%zux%zu/dist0", N, d);
        for (size_t i = 0; i < N * N; i++) CHECK(dist[i] == dist[i % N * N + i / N]);
        const float contrast = llm_curse_of_dim_contrast(x, golden("%zux%zu/query", N, d), N, d);
        CHECK_GOLDEN(&contrast, 1, 1e-6f, "%zux%zu/contrast", N, d);
        llm_curse_of_dim_shell(shell, shell + 1, x, N, d);
        CHECK_GOLDEN(shell, 2, 1e-6f, "%zux%zu/shell", N, d);
        const float skew = llm_curse_of_dim_hubness(occurs, dist, N, 5, &arena);
        for (size_t i = 0; i < N; i++) count[i] = (float)occurs[i];
        CHECK_GOLDEN(count, N, 0.0f, "%zux%zu/occurs", N, d);
        CHECK_GOLDEN(&skew, 1, 1e-6f, "%zux%zu/skew", N, d);
        const float twonn = llm_curse_of_dim_twonn(dist, N, 0.1, &arena);
        CHECK_GOLDEN(&twonn, 1, 1e-5f, "%zux%zu/twonn", N, d);
        CHECK(arena.used == 0);
    }
}

TEST(curse_of_dim, "closed forms: edges and balls; chance agrees where it can") {
    CHECK_NEAR(llm_curse_of_dim_edge(0.1, 10), 0.79433, 1e-5);
    CHECK_NEAR(llm_curse_of_dim_edge(0.01, 1), 0.01, 1e-12);
    const float *want = golden("ball/log");
    for (size_t d = 0; d <= 40; d++)
        CHECK_NEAR(llm_curse_of_dim_log_ball(d), want[d], 1e-6 * (1.0 + fabs((double)want[d])));
    CHECK_NEAR(exp(llm_curse_of_dim_log_ball(10)) / 1024.0, 0.00249, 1e-5);
    for (size_t d = 1; d <= 10; d++) {
        CHECK((d == 5) == (llm_curse_of_dim_log_ball(d) > llm_curse_of_dim_log_ball(d - 1) &&
                           llm_curse_of_dim_log_ball(d) > llm_curse_of_dim_log_ball(d + 1)));
        llm_rng rng = llm_rng_seed(d);
        const double n = 40000.0, volume = exp(llm_curse_of_dim_log_ball(d)),
                     share = volume / pow(2.0, (double)d);
        const double deviation = pow(2.0, (double)d) * sqrt(share * (1.0 - share) / n);
        CHECK_NEAR(llm_curse_of_dim_ball_estimate(d, 40000, &rng), volume, 4.0 * deviation + 1e-12);
    }
}

TEST(curse_of_dim, "measured: contrast falls, the shell is thin, hubs appear") {
    const size_t N = 500;
    llm_arena arena = test_arena(1 << 17);
    float *dist = floats(N * N), mean, deviation;
    size_t *occurs = as_sizes(zeros(N), N);
    for (uint64_t seed = 1; seed <= 2; seed++) {
        llm_rng rng = llm_rng_seed(seed);
        double contrast[2] = {0.0, 0.0};
        const size_t ds[2] = {2, 200};
        for (size_t k = 0; k < 2; k++)
            for (size_t round = 0; round < 11; round++) { /* geometric mean over queries */
                const float *x = curse_uniform(&rng, N * ds[k]),
                            *query = curse_uniform(&rng, ds[k]);
                contrast[k] += log((double)llm_curse_of_dim_contrast(x, query, N, ds[k])) / 11.0;
            }
        CHECK(contrast[0] - contrast[1] > log(75.0)); /* 8 other seeds: 156 to 248 times */

        float *z = floats(N * 200);
        llm_rng_normal_fill(&rng, z, N * 200);
        llm_curse_of_dim_shell(&mean, &deviation, z, N, 200);
        CHECK_NEAR(mean, sqrt(200.0), 0.01 * sqrt(200.0));
        CHECK_NEAR(deviation, sqrt(0.5), 0.12); /* whatever d is; 4 of its deviations */

        llm_rng_normal_fill(&rng, z, N * 100);
        llm_curse_of_dim_distances(dist, z, N, 100);
        CHECK(llm_curse_of_dim_hubness(occurs, dist, N, 10, &arena) > 1.0f); /* 2.5 to 4.5 */
        llm_curse_of_dim_distances(dist, curse_uniform(&rng, N * 2), N, 2);
        CHECK(llm_curse_of_dim_hubness(occurs, dist, N, 10, &arena) < 0.5f); /* -0.1 to 0.3 */
    }
}

TEST(curse_of_dim, "TwoNN finds 2 for a sheet bent into 20 dimensions, and 5 for a cube of 5") {
    const size_t N = 600, d = 20;
    llm_arena arena = test_arena(1 << 17);
    float *dist = floats(N * N), *x = floats(N * d);
    for (uint64_t seed = 1; seed <= 2; seed++) {
        llm_rng rng = llm_rng_seed(seed);
        for (size_t i = 0; i < N; i++) {
            const float a = llm_rng_uniform(&rng), b = llm_rng_uniform(&rng);
            for (size_t k = 0; k < d; k++)
                x[i * d + k] = sinf(a * (1.0f + 0.2f * (float)k) + b * (float)(k % 5));
        }
        llm_curse_of_dim_distances(dist, x, N, d);
        CHECK_NEAR(llm_curse_of_dim_twonn(dist, N, 0.1, &arena), 2.0, 0.3); /* 1.86 to 2.16 */
        llm_curse_of_dim_distances(dist, curse_uniform(&rng, N * 5), N, 5);
        CHECK_NEAR(llm_curse_of_dim_twonn(dist, N, 0.1, &arena), 5.0, 1.6); /* 4.2 to 5.0 */
    }
}

TEST(curse_of_dim, "coinciding points, no discard, a query on a point, equal counts") {
    llm_arena arena = test_arena(1 << 17);
    const float same[4] = {1.0f, 1.0f, 1.0f, 1.0f}, line[5] = {0.0f, 0.0f, 1.0f, 3.0f, 7.0f};
    float dist[25];
    size_t occurs[5];
    llm_curse_of_dim_distances(dist, same, 4, 1);
    CHECK(isnan(llm_curse_of_dim_twonn(dist, 4, 0.1, &arena)));
    CHECK(isinf(dist[0]) && dist[1] == 0.0f);
    CHECK(isinf(llm_curse_of_dim_contrast(line, same + 1, 5, 1)));
    const float query[1] = {-1.0f};
    CHECK_NEAR(llm_curse_of_dim_contrast(line, query, 5, 1), 7.0, 1e-6);
    const float near[2] = {0.125f, 0.25f}, origin[1] = {0.0f};
    CHECK(llm_curse_of_dim_contrast(near, origin, 2, 1) == 1.0f);
    CHECK(llm_curse_of_dim_contrast(near, origin, 1, 1) == 0.0f);
    /* the first is nearest to three, two to none, two pairs keep to themselves */
    const float hub[16] = {0, 0, 1, 0, 0, 1.2f, 0, -1.2f, 10, 0, 10, 1, 20, 0, 20, 1};
    float apart[64];
    size_t times[8];
    llm_curse_of_dim_distances(apart, hub, 8, 2);
    CHECK_NEAR(llm_curse_of_dim_hubness(times, apart, 8, 1, &arena), 1.0 / sqrt(0.75), 1e-6);
    CHECK(times[0] == 3 && times[1] == 1 && times[2] == 0 && times[3] == 0);
    llm_curse_of_dim_distances(dist, line, 5, 1);
    /* mu: 1/1 (to both zeros), 3/2, 6/4; the two zeros coincide and are skipped */
    const double a = 0.0, b = log(1.5);
    const double want = (-a * log(2.0 / 3.0) - b * log(1.0 / 3.0)) / (a * a + b * b);
    CHECK_NEAR(llm_curse_of_dim_twonn(dist, 5, 0.0, &arena), want, 1e-6);
    CHECK(llm_curse_of_dim_hubness(occurs, dist, 5, 4, &arena) == 0.0f);
    for (size_t i = 0; i < 5; i++) CHECK(occurs[i] == 4);
    float mean, deviation;
    const float two[4] = {3.0f, 4.0f, 0.0f, 1.0f};
    llm_curse_of_dim_shell(&mean, &deviation, two, 2, 2);
    CHECK_NEAR(mean, 3.0, 1e-6);
    CHECK_NEAR(deviation, sqrt(8.0), 1e-6);
    CHECK_ASSERTS(llm_curse_of_dim_hubness(occurs, dist, 5, 5, &arena));
    CHECK_ASSERTS(llm_curse_of_dim_twonn(dist, 2, 0.1, &arena));
}

TEST(curse_of_dim, "too few points are refused, just enough are not") {
    llm_arena arena;
    const float x[3] = {0, 1, 3}; /* squared distances; ratios 3, 2, 3/2 of second to first */
    const float dist[9] = {INFINITY, 1, 9, 1, INFINITY, 4, 9, 4, INFINITY};
    float mean, deviation;
    CHECK(llm_arena_create(&arena, 1 << 12));
    CHECK_ASSERTS(llm_curse_of_dim_contrast(x, x, 0, 1));
    CHECK_ASSERTS(llm_curse_of_dim_shell(&mean, &deviation, x, 1, 1));
    CHECK_ASSERTS(llm_curse_of_dim_twonn(dist, 2, 0.0, &arena));
    CHECK_ASSERTS(llm_curse_of_dim_twonn(dist, 3, 1.0, &arena));
    const double a = log(1.5), b = log(2.0);
    CHECK_NEAR(llm_curse_of_dim_twonn(dist, 3, 0.0, &arena),
               (a * log(1.5) + b * log(3.0)) / (a * a + b * b), 1e-6);
    llm_arena_destroy(&arena);
}

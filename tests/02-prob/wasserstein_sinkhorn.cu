/* @wasserstein_sinkhorn */
#include "../test.h"

#include "../../llm_cuda.cuh"

/* A cloud on the host and on the device; of its masses, shares that sum to 1, the second is 0. */
typedef struct {
    llm_wasserstein_measure host, device;
} clouds;

static clouds cloud(size_t n, size_t d, bool weighted, llm_rng *rng) {
    float *x = floats(n * d), *mass = floats(n), total = 0.0f;
    llm_rng_normal_fill(rng, x, n * d);
    for (size_t i = 0; i < n; i++) {
        mass[i] = i == 1 ? 0.0f : 0.1f + llm_rng_uniform(rng);
        total += mass[i];
    }
    for (size_t i = 0; i < n; i++) mass[i] /= total;
    clouds c;
    c.host.n = c.device.n = n;
    c.host.x = x, c.device.x = to_device(x, n * d);
    c.host.mass = weighted ? mass : NULL;
    c.device.mass = weighted ? to_device(mass, n) : NULL;
    return c;
}
static double *some_doubles(size_t n) { return (double *)test_memory(n, sizeof(double)); }
/* The cost matrix; *mean its mean. */
static double *costs(double *mean, const clouds *a, const clouds *b, size_t d) {
    const size_t all = a->host.n * b->host.n;
    double *cost = some_doubles(all);
    llm_wasserstein_cost(cost, &a->host, &b->host, d, 2.0);
    *mean = 0.0;
    for (size_t i = 0; i < all; i++) *mean += cost[i] / (double)all;
    return cost;
}
static llm_logsumexp_pair *pairs(size_t n, size_t m) {
    const size_t rows = n * llm_cuda_wasserstein_sinkhorn_slices(n, m);
    const size_t columns = m * llm_cuda_wasserstein_sinkhorn_slices(m, n);
    return to_device<llm_logsumexp_pair>(NULL, rows > columns ? rows : columns);
}

static void check_half(size_t n, size_t m, size_t d, bool weighted) {
    llm_rng rng = llm_rng_seed(n + m + d);
    const clouds a = cloud(n, d, weighted, &rng), b = cloud(m, d, weighted, &rng);
    double mean, *cost = costs(&mean, &a, &b, d), unit[2];
    const double eps = (double)(float)(0.05 * mean);
    float *g = floats(m), *got = floats(n), *d_f = to_device<float>(NULL, n);
    double *wide = some_doubles(m), *want = some_doubles(n);
    for (size_t j = 0; j < m; j++) {
        g[j] = (float)mean * llm_rng_normal(&rng);
        wide[j] = (double)g[j];
        if (weighted && j == 1) g[j] = NAN; /* without mass it must not be read */
    }
    CHECK(llm_wasserstein_units(unit, &a.host, &b.host, d, NULL));
    llm_wasserstein_sinkhorn_half(want, wide, &b.host, unit[1], cost, m, 1, n, eps);
    CHECK_CUDA(llm_cuda_wasserstein_sinkhorn_half(d_f, to_device(g, m), &a.device, &b.device, d,
                                                  (float)eps, false, NULL, pairs(n, m), 0));
    from_device(got, d_f, n);
    /* costs of several times the mean, each with d roundings, and exponents some tens large */
    for (size_t i = 0; i < n; i++) CHECK_NEAR(got[i], want[i], 3e-6 * (mean + fabs(want[i])));
}

TEST(wasserstein_sinkhorn,
     "a step equals the reference: tiles, columns, slices, points without mass") {
    check_half(1, 1, 1, false);
    check_half(3, 2, 1, true);
    check_half(65, 70, 2, true);
    check_half(20, 67, 17, false);
    check_half(33, 40, 40, true);
    CHECK(llm_cuda_wasserstein_sinkhorn_slices(64, 1 << 20) == 264);
    CHECK(llm_cuda_wasserstein_sinkhorn_slices(1 << 20, 1 << 20) == 1);
    CHECK(llm_cuda_wasserstein_sinkhorn_slices(3, 2100) == 2);
    if (TEST_SLOW) return;
    check_half(64, 130, 3, false);
    check_half(3, 2100, 2, true);
}

static void check_rounds(size_t n, size_t m, size_t d, size_t rounds, bool same) {
    llm_rng rng = llm_rng_seed(n + m + d);
    const clouds a = cloud(n, d, true, &rng), c = cloud(m, d, true, &rng), b = same ? a : c;
    double mean, *cost = costs(&mean, &a, &b, d), off;
    const double eps = (double)(float)(0.2 * mean);
    double *f = some_doubles(n), *g = some_doubles(m), *plan = some_doubles(n * m);
    float *got_f = floats(n), *got_g = floats(m);
    for (size_t i = 0; i < n; i++) f[i] = 0.0;
    llm_arena arena;
    llm_error e;
    CHECK(llm_arena_create(&arena, 1 << 16));
    size_t most = rounds;
    llm_wasserstein_sinkhorn(f, g, &most, cost, &a.host, same ? &a.host : &b.host, eps, 0.0, &arena,
                             &e);
    llm_arena_destroy(&arena);
    float *d_f = to_device(zeros(n), n), *d_g = to_device<float>(NULL, m);
    double *d_off = to_device<double>(NULL, 1), *d_scratch = to_device<double>(NULL, n);
    CHECK_CUDA(llm_cuda_wasserstein_sinkhorn(d_f, d_g, d_off, &a.device,
                                             same ? &a.device : &b.device, d, (float)eps, rounds,
                                             d_scratch, pairs(n, m), 0));
    from_device(got_f, d_f, n);
    from_device(got_g, d_g, m);
    from_device(&off, d_off, 1);
    for (size_t i = 0; i < n; i++) CHECK_NEAR(got_f[i], f[i], 1e-5 * mean);
    for (size_t j = 0; j < m; j++) CHECK_NEAR(got_g[j], g[j], 1e-5 * mean);
    if (same) return;
    /* the plan's own sums: the rows' are right, the columns' are off by at most what was said */
    for (size_t i = 0; i < n; i++) f[i] = (double)got_f[i];
    for (size_t j = 0; j < m; j++) g[j] = (double)got_g[j];
    llm_wasserstein_sinkhorn_plan(plan, f, g, cost, &a.host, &b.host, eps);
    double columns = 0.0;
    for (size_t i = 0; i < n; i++) {
        double sum = 0.0;
        for (size_t j = 0; j < m; j++) sum += plan[i * m + j];
        CHECK_NEAR(sum, a.host.mass[i], 1e-6);
    }
    for (size_t j = 0; j < m; j++) {
        double sum = 0.0;
        for (size_t i = 0; i < n; i++) sum += plan[i * m + j];
        columns += fabs(sum - (double)b.host.mass[j]);
    }
    CHECK(columns <= off + 1e-5 && (rounds > 3 || off > 1e-3));
}

TEST(wasserstein_sinkhorn, "rounds equal the reference's, with marginals off by what it says") {
    check_rounds(7, 5, 2, 1, false);
    check_rounds(30, 40, 3, 3, false);
    check_rounds(20, 20, 2, 4, true);
    if (TEST_SLOW) return;
    check_rounds(33, 17, 2, 25, false);
    check_rounds(70, 70, 1, 12, true);
}

TEST(wasserstein_sinkhorn, "two points by hand, a shift, and what is refused") {
    const float x[2] = {0, 3}, y[2] = {1, 4}; /* y is x moved by 1: OT is 1 for a small eps */
    const llm_wasserstein_measure a = {to_device(x, 2), NULL, 2}, b = {to_device(y, 2), NULL, 2};
    const llm_wasserstein_measure none = {NULL, NULL, 0};
    float *d_f = to_device(zeros(2), 2), *d_g = to_device<float>(NULL, 2), f[2], g[2];
    double *d_off = to_device<double>(NULL, 1), *d_scratch = to_device<double>(NULL, 2), off;
    llm_logsumexp_pair *part = pairs(2, 2);
    CHECK_CUDA(llm_cuda_wasserstein_sinkhorn_half(d_g, d_f, &b, &a, 1, 1.0f, false, NULL, part, 0));
    from_device(g, d_g, 2);
    CHECK_NEAR(g[0], -log(0.5 * exp(-1.0) + 0.5 * exp(-4.0)), 1e-6);
    CHECK_NEAR(g[1], -log(0.5 * exp(-16.0) + 0.5 * exp(-1.0)), 1e-6);
    CHECK_CUDA(
        llm_cuda_wasserstein_sinkhorn(d_f, d_g, d_off, &a, &b, 1, 0.01f, 5, d_scratch, part, 0));
    from_device(f, d_f, 2);
    from_device(g, d_g, 2);
    CHECK_NEAR(0.5 * (double)(f[0] + f[1] + g[0] + g[1]), 1.0, 0.01); /* and eps log 2 */
    CHECK_NEAR(*from_device(&off, d_off, 1), 0.0, 1e-3);
    CHECK(llm_cuda_wasserstein_sinkhorn_half(d_f, d_g, &a, &none, 1, 1.0f, false, NULL, part, 0) ==
          cudaErrorInvalidValue);
    CHECK(llm_cuda_wasserstein_sinkhorn_half(d_f, d_g, &a, &b, 0, 1.0f, false, NULL, part, 0) ==
          cudaErrorInvalidValue);
}

/* @shampoo */
#include "../test.h"

#include "../../llm_cuda.cuh"

static float *shampoo_normals(uint64_t seed, size_t n) {
    float *x = floats(n);
    llm_rng rng = llm_rng_seed(seed);
    llm_rng_normal_fill(&rng, x, n);
    return x;
}

/* l and r against sums in double; symmetric to the bit. */
static void check_statistics(size_t rows, size_t cols, float keep) {
    const size_t side[2] = {rows, cols};
    float *g = shampoo_normals(rows * 31 + cols, rows * cols);
    float *c[2] = {zeros(rows * rows), zeros(cols * cols)}, *d[2];
    for (size_t s = 0; s < 2; s++) {
        for (size_t i = 0; i < side[s]; i++)
            for (size_t j = 0; j < side[s]; j++) c[s][i * side[s] + j] = (float)(i * j % 7);
        d[s] = to_device(c[s], side[s] * side[s]);
    }
    CHECK_CUDA(
        llm_cuda_shampoo_statistics(d[0], d[1], to_device(g, rows * cols), rows, cols, keep, 0));
    const double add = keep < 1.0f ? 1.0 - (double)keep : 1.0;
    for (size_t s = 0; s < 2; s++) {
        const size_t n = side[s];
        float *got = floats(n * n);
        from_device(got, d[s], n * n);
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < n; j++) {
                double sum = 0.0;
                for (size_t k = 0; k < rows * cols / n; k++)
                    sum += s == 0 ? (double)g[i * cols + k] * (double)g[j * cols + k]
                                  : (double)g[k * cols + i] * (double)g[k * cols + j];
                CHECK_NEAR(got[i * n + j], (double)keep * (double)c[s][i * n + j] + add * sum,
                           1e-5 * (1.0 + fabs(sum)));
                CHECK(got[i * n + j] == got[j * n + i]);
            }
    }
}

TEST(shampoo, "the statistics equal sums in double, both sides, and are symmetric to the bit") {
    check_statistics(5, 9, 1.0f);
    check_statistics(130, 3, 0.9f); /* two tiles */
    if (TEST_SLOW) return;
    check_statistics(1, 1, 1.0f);
    check_statistics(7, 300, 0.5f); /* three */
    check_statistics(1, 13, 1.0f);
    CHECK_CUDA(llm_cuda_shampoo_statistics(NULL, NULL, NULL, 0, 4, 1.0f, 0));
    CHECK_CUDA(llm_cuda_shampoo_statistics(NULL, NULL, NULL, 4, 0, 1.0f, 0));
}

/* The root of a random matrix with eigenvalues down to `least`, the largest 3. */
static void check_root(size_t n, double least, size_t rounds, float ridge, float tol) {
    const size_t size = 1 << 22;
    llm_arena arena = {(unsigned char *)test_memory(size, 1), size, 0, 0};
    float *z = shampoo_normals(n, n * n), *a = floats(n * n), *got = floats(n * n), off = NAN;
    double *sym = (double *)test_memory(n * n, sizeof(double)),
           *v = (double *)test_memory(n * n, sizeof(double)),
           *w = (double *)test_memory(n, sizeof(double));
    for (size_t i = 0; i < n * n; i++) sym[i] = (double)z[i] + (double)z[i % n * n + i / n];
    CHECK(llm_eigh(w, v, sym, n, &arena));
    for (size_t i = 0; i < n; i++)
        w[i] = 3.0 * pow(least / 3.0, n > 1 ? (double)i / (double)(n - 1) : 0.0);
    llm_eigh_compose(sym, w, v, n);
    for (size_t i = 0; i < n * n; i++) a[i] = (float)sym[i], sym[i] = (double)a[i];
    float *d_x = to_device<float>(NULL, n * n), *d_off = to_device<float>(NULL, 1);
    float *scratch = to_device<float>(NULL, 6 * n * n);
    CHECK_CUDA(
        llm_cuda_shampoo_root(d_x, d_off, to_device(a, n * n), n, rounds, ridge, scratch, 0));
    from_device(got, d_x, n * n);
    from_device(&off, d_off, 1);
    CHECK(llm_shampoo_root(v, sym, n, 4.0, (double)ridge, &arena));
    double most = 0.0;
    for (size_t i = 0; i < n * n; i++) most = fmax(most, fabs(v[i]));
    for (size_t i = 0; i < n * n; i++) CHECK_NEAR(got[i], v[i], (double)tol * most);
    CHECK(off < 1e-4f);
}

TEST(shampoo, "the root by products equals the reference's by eigenvalues, even and odd rounds") {
    check_root(5, 0.01, 15, 1e-3f, 1e-5f);
    if (TEST_SLOW) return;
    check_root(1, 3.0, 12, 0.0f, 1e-5f);
    check_root(2, 0.5, 14, 0.0f, 1e-5f);
    check_root(17, 1e-3, 20, 0.0f, 1e-3f);
    check_root(33, 1e-4, LLM_CUDA_SHAMPOO_ROUNDS, 1e-4f, 1e-2f);
    check_root(131, 0.1, 14, 0.0f, 1e-4f); /* more than a tile */
    CHECK_CUDA(llm_cuda_shampoo_root(NULL, NULL, NULL, 0, 3, 0.0f, NULL, 0));
}

TEST(shampoo, "too few rounds, or a NaN, is seen in how far the end is from I") {
    const float a[4] = {2.0f, 0.0f, 0.0f, 1e-3f}, bad[4] = {NAN, 0.0f, 0.0f, 1.0f};
    float off = 0.0f, *scratch = to_device<float>(NULL, 24);
    float *d_x = to_device<float>(NULL, 4), *d_off = to_device<float>(NULL, 1), x[4];
    CHECK_CUDA(llm_cuda_shampoo_root(d_x, d_off, to_device(a, 4), 2, 2, 0.0f, scratch, 0));
    CHECK(*from_device(&off, d_off, 1) > 0.9f);
    CHECK_CUDA(llm_cuda_shampoo_root(d_x, d_off, to_device(bad, 4), 2, 20, 0.0f, scratch, 0));
    CHECK(*from_device(&off, d_off, 1) == INFINITY);
    CHECK_CUDA(llm_cuda_shampoo_root(d_x, (float *)NULL, to_device(a, 4), 2, 20, 0.0f, scratch, 0));
    from_device(x, d_x, 4);
    CHECK_NEAR(x[0], pow(2.0, -0.25), 1e-5);
    CHECK_NEAR(x[3], pow(1e-3, -0.25), 1e-4);
}

/* Statistics, roots and steps, all on the device, against the reference in double. */
static void check_steps(size_t rows, size_t cols, int graft, size_t steps) {
    const size_t n = rows * cols, size = 1 << 22, l = rows * rows, r = cols * cols;
    llm_arena arena = {(unsigned char *)test_memory(size, 1), size, 0, 0};
    llm_shampoo_config c = llm_shampoo_defaults();
    c.lr = 0.1f, c.ridge = 0.1f, c.graft = graft, c.weight_decay = 0.3f, c.keep = 0.75f;
    double *state = (double *)test_memory(llm_shampoo_doubles(rows, cols), sizeof(double));
    for (size_t i = 0; i < llm_shampoo_doubles(rows, cols); i++) state[i] = 0.0;
    float *w = shampoo_normals(7, n), *g = floats(n), *none = zeros(n + l + r), *got = floats(n);
    float *d_w = to_device(w, n), *d_m = to_device(none, n), *d_v = to_device(none, n);
    float *d_l = to_device(none, l), *d_r = to_device(none, r);
    float *d_pl = to_device<float>(NULL, l), *d_pr = to_device<float>(NULL, r);
    float *scratch = to_device<float>(NULL, 6 * (l + r) + 2 * n);
    float *part = to_device<float>(NULL, 2 * LLM_CUDA_SHAMPOO_PARTS), *no_off = NULL;
    for (size_t t = 1; t <= steps; t++) {
        memcpy(g, shampoo_normals(100 + t, n), n * sizeof(float));
        const float *d_g = to_device(g, n);
        CHECK(llm_shampoo_step(w, state, g, rows, cols, &c, t, &arena));
        CHECK_CUDA(llm_cuda_shampoo_statistics(d_l, d_r, d_g, rows, cols, c.keep, 0));
        CHECK_CUDA(llm_cuda_shampoo_root(d_pl, no_off, d_l, rows, 16, c.ridge, scratch, 0));
        CHECK_CUDA(llm_cuda_shampoo_root(d_pr, no_off, d_r, cols, 16, c.ridge, scratch, 0));
        CHECK_CUDA(llm_cuda_shampoo_step(d_w, d_m, d_v, d_g, d_pl, d_pr, rows, cols, &c, t, scratch,
                                         part, 0));
    }
    CHECK_ALL_NEAR(from_device(got, d_w, n), w, n, 2e-5f * (float)steps);
    const double *m = state + 2 * (l + r), *v = m + n;
    from_device(got, d_m, n);
    for (size_t i = 0; i < n; i++) CHECK_NEAR(got[i], m[i], 1e-4 * (1.0 + fabs(m[i])));
    from_device(got, d_v, n);
    for (size_t i = 0; i < n; i++) CHECK_NEAR(got[i], v[i], 1e-6 * (1.0 + v[i]));
}

TEST(shampoo, "statistics, roots and three steps on the device equal the reference, every graft") {
    check_steps(5, 9, LLM_SHAMPOO_ADAM, TEST_SLOW ? 1 : 3);
    if (TEST_SLOW) return;
    check_steps(9, 5, LLM_SHAMPOO_OWN, 2);
    check_steps(1, 7, LLM_SHAMPOO_SGD, 2);
    check_steps(30, 41, LLM_SHAMPOO_SGD, 1); /* two parts of the sums */
}

TEST(shampoo, "no gradient moves nothing but the decay, one that is not finite nothing at all") {
    enum { R = 2, C = 3, N = R * C };
    llm_shampoo_config c = llm_shampoo_defaults();
    c.lr = 0.5f, c.weight_decay = 0.2f;
    const float one[4] = {1.0f, 0.0f, 0.0f, 1.0f};
    const float three[9] = {1.0f, 0.0f, 0.0f, 0.0f, 1.0f, 0.0f, 0.0f, 0.0f, 1.0f};
    const float *d_one = to_device(one, 4), *d_three = to_device(three, 9);
    float w[N], g[N] = {0.0f}, got[N];
    for (size_t i = 0; i < N; i++) w[i] = 1.0f;
    float *d_w = to_device(w, N), *d_m = to_device(g, N), *d_v = to_device(g, N);
    float *scratch = to_device<float>(NULL, 2 * N);
    float *part = to_device<float>(NULL, 2 * LLM_CUDA_SHAMPOO_PARTS);
    CHECK_CUDA(llm_cuda_shampoo_step(d_w, d_m, d_v, to_device(g, N), d_one, d_three, R, C, &c, 1,
                                     scratch, part, 0));
    from_device(got, d_w, N);
    for (size_t i = 0; i < N; i++) CHECK(got[i] == 0.9f);
    g[4] = NAN;
    CHECK_CUDA(llm_cuda_shampoo_step(d_w, d_m, d_v, to_device(g, N), d_one, d_three, R, C, &c, 2,
                                     scratch, part, 0));
    from_device(got, d_w, N);
    for (size_t i = 0; i < N; i++) CHECK(got[i] == 0.9f);
    from_device(got, d_m, N);
    for (size_t i = 0; i < N; i++) CHECK(got[i] == 0.0f);
    CHECK_CUDA(llm_cuda_shampoo_step(d_w, d_m, d_v, (const float *)d_v, d_one, d_three, 0, C, &c, 1,
                                     scratch, part, 0));
}

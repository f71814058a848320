/* @linear_map */
#include "../test.h"

#include "../../llm.h"

static float *linear_map_normal(llm_rng *rng, size_t n) {
    float *x = floats(n);
    llm_rng_normal_fill(rng, x, n);
    return x;
}

TEST(linear_map, "values, transposed values and gradients equal torch's") {
    const size_t shapes[4][3] = {{1, 1, 1}, {2, 3, 2}, {3, 5, 7}, {4, 11, 6}}; /* B, m, n */
    for (size_t s = 0; s < 4; s++) {
        const size_t B = shapes[s][0], m = shapes[s][1], n = shapes[s][2];
        const float *w = golden("%zux%zux%zu/w", B, m, n), *x = golden("%zux%zux%zu/x", B, m, n);
        const float *dy = golden("%zux%zux%zu/dy", B, m, n);
        float *y = floats(B * m), *back = floats(B * n), *dx = floats(B * n), *dw = floats(m * n);
        for (size_t b = 0; b < B; b++) llm_linear_map_apply(y + b * m, w, x + b * n, m, n);
        CHECK_GOLDEN(y, B * m, 1e-7f, "%zux%zux%zu/y", B, m, n); /* double sums: rounded once */
        llm_linear_map_batch(y, x, w, B, m, n);
        CHECK_GOLDEN(y, B * m, 1e-6f, "%zux%zux%zu/y", B, m, n);
        for (size_t b = 0; b < B; b++) llm_linear_map_apply_t(back + b * n, w, dy + b * m, m, n);
        CHECK_GOLDEN(back, B * n, 1e-6f, "%zux%zux%zu/back", B, m, n);
        for (size_t i = 0; i < B * n; i++) dx[i] = 2.0f;
        for (size_t i = 0; i < m * n; i++) dw[i] = 3.0f;
        llm_linear_map_backward(dx, NULL, dy, x, w, B, m, n);
        llm_linear_map_backward(NULL, dw, dy, x, w, B, m, n);
        for (size_t i = 0; i < B * n; i++) dx[i] -= 2.0f; /* both add */
        for (size_t i = 0; i < m * n; i++) dw[i] -= 3.0f;
        CHECK_GOLDEN(dx, B * n, 2e-6f, "%zux%zux%zu/dx", B, m, n);
        CHECK_GOLDEN(dw, m * n, 2e-6f, "%zux%zux%zu/dw", B, m, n);
    }
}

TEST(linear_map, "gradients by differences, of x and of W") {
    enum { B = 2, M = 3, N = 5 };
    llm_rng rng = llm_rng_seed(1);
    float *w = linear_map_normal(&rng, M * N), *x = linear_map_normal(&rng, B * N), y[B * M];
    float *dy = linear_map_normal(&rng, B * M), dx[B * N] = {0.0f}, dw[M * N] = {0.0f};
    llm_linear_map_backward(dx, dw, dy, x, w, B, M, N);
    /* linear in each: a step of 1/4 costs nothing and keeps rounding at 1e-6 */
    CHECK_GRAD(dx, x, B * N, 0.25f, 1e-5f,
               (llm_linear_map_batch(y, x, w, B, M, N), dot(y, dy, B * M)));
    CHECK_GRAD(dw, w, M * N, 0.25f, 1e-5f,
               (llm_linear_map_batch(y, x, w, B, M, N), dot(y, dy, B * M)));
}

TEST(linear_map, "the transpose moves to the other side: <W x, y> = <x, W'y>") {
    llm_rng rng = llm_rng_seed(2);
    for (size_t round = 0; round < 50; round++) {
        const size_t m = 1 + round % 17, n = 1 + round % 13;
        float *w = linear_map_normal(&rng, m * n), *x = linear_map_normal(&rng, n);
        float *y = linear_map_normal(&rng, m), *wx = floats(m), *wty = floats(n);
        llm_linear_map_apply(wx, w, x, m, n);
        llm_linear_map_apply_t(wty, w, y, m, n);
        CHECK_NEAR(dot(wx, y, m), dot(x, wty, n), 1e-5 * sqrt((double)(m * n)));
    }
}

typedef struct {
    const float *w, *b; /* b NULL: linear */
    size_t m, n;
} linear_map_matrix;
static void linear_map_of(float *y, const float *x, void *context) {
    const linear_map_matrix *a = (const linear_map_matrix *)context;
    llm_linear_map_apply(y, a->w, x, a->m, a->n);
    for (size_t i = 0; a->b && i < a->m; i++) y[i] += a->b[i];
}
static void linear_map_cumsum(float *y, const float *x, void *n) {
    double sum = 0.0;
    for (size_t i = 0; i < *(size_t *)n; i++) y[i] = (float)(sum += (double)x[i]);
}
static void linear_map_cosines(float *y, const float *x, void *n) { /* a cosine transform */
    for (size_t k = 0; k < *(size_t *)n; k++) {
        double sum = 0.0;
        for (size_t i = 0; i < *(size_t *)n; i++)
            sum += (double)x[i] *
                   cos(3.14159265358979 * (double)k * ((double)i + 0.5) / (double)*(size_t *)n);
        y[k] = (float)sum;
    }
}
static void linear_map_relu(float *y, const float *x, void *n) {
    for (size_t i = 0; i < *(size_t *)n; i++) y[i] = fmaxf(x[i], 0.0f);
}
static void linear_map_max(float *y, const float *x, void *n) {
    y[0] = x[0];
    for (size_t i = 1; i < *(size_t *)n; i++) y[0] = fmaxf(y[0], x[i]);
}
static void linear_map_square(float *y, const float *x, void *n) {
    for (size_t i = 0; i < *(size_t *)n; i++) y[i] = x[i] * x[i];
}
static void linear_map_nothing(float *y, const float *x, void *n) {
    for (size_t i = 0; i < *(size_t *)n; i++) y[i] = 0.0f * x[i];
}
static void linear_map_nan(float *y, const float *x, void *n) {
    linear_map_nothing(y, x, n);
    y[1] = x[0] > 1.0f ? NAN : 0.0f;
}

TEST(linear_map, "the unit vectors give the matrix back, bit for bit") {
    llm_rng rng = llm_rng_seed(3);
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 1 << 12));
    for (size_t round = 0; round < 20; round++) {
        const size_t m = 1 + round % 7, n = 1 + round % 9;
        linear_map_matrix a = {linear_map_normal(&rng, m * n), NULL, m, n};
        float *w = floats(m * n);
        llm_linear_map_recover(w, linear_map_of, &a, m, n, &arena);
        CHECK(memcmp(w, a.w, m * n * sizeof(float)) == 0);
    }
    size_t n = 4;
    float w[16];
    llm_linear_map_recover(w, linear_map_cumsum, &n, n, n, &arena);
    for (size_t i = 0; i < 16; i++) CHECK(w[i] == (i % 4 <= i / 4 ? 1.0f : 0.0f));
    CHECK(arena.used == 0);
    llm_arena_destroy(&arena);
}

TEST(linear_map, "the defect is rounding for linear maps and large for all others") {
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 1 << 12));
    size_t n = 9;
    for (uint64_t seed = 1; seed <= 8; seed++) {
        llm_rng rng = llm_rng_seed(seed);
        linear_map_matrix a = {linear_map_normal(&rng, 5 * n), NULL, 5, n};
        const float b[5] = {0, 0, 1, 0, 0};
        CHECK(llm_linear_map_defect(linear_map_of, &a, 5, n, 50, &rng, &arena) < 1e-5f);
        CHECK(llm_linear_map_defect(linear_map_cumsum, &n, n, n, 50, &rng, &arena) < 1e-5f);
        CHECK(llm_linear_map_defect(linear_map_cosines, &n, n, n, 50, &rng, &arena) < 1e-5f);
        CHECK(llm_linear_map_defect(linear_map_nothing, &n, n, n, 50, &rng, &arena) == 0.0f);
        a.b = b; /* affine: f(0) is not 0 */
        CHECK(llm_linear_map_defect(linear_map_of, &a, 5, n, 50, &rng, &arena) > 0.1f);
        CHECK(llm_linear_map_defect(linear_map_relu, &n, n, n, 50, &rng, &arena) > 0.1f);
        CHECK(llm_linear_map_defect(linear_map_max, &n, 1, n, 50, &rng, &arena) > 0.1f);
        CHECK(llm_linear_map_defect(linear_map_square, &n, n, n, 50, &rng, &arena) > 0.1f);
        CHECK(isnan(llm_linear_map_defect(linear_map_nan, &n, n, n, 50, &rng, &arena)));
    }
    llm_rng rng = llm_rng_seed(1); /* f = x^2, one number: by hand from the same draws */
    size_t one = 1;
    const float got = llm_linear_map_defect(linear_map_square, &one, 1, 1, 1, &rng, &arena);
    rng = llm_rng_seed(1);
    float xy[2];
    llm_rng_normal_fill(&rng, xy, 2);
    const float a = llm_rng_normal(&rng), b = llm_rng_normal(&rng);
    const float z = a * xy[0] + b * xy[1], fx = xy[0] * xy[0], fy = xy[1] * xy[1];
    CHECK_NEAR(got, fabsf(z * z - a * fx - b * fy) / (fabsf(a) * fx + fabsf(b) * fy), 1e-5);
    CHECK(arena.used == 0);
    llm_arena_destroy(&arena);
}

TEST(linear_map, "null spaces equal SciPy's; rank and nullity add up to n") {
    const size_t shapes[5][3] = {{3, 5, 2}, {6, 4, 3}, {5, 5, 4}, {2, 7, 1}, {4, 3, 3}};
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 1 << 14));
    for (size_t s = 0; s < 5; s++) {
        const size_t m = shapes[s][0], n = shapes[s][1], nullity = n - shapes[s][2];
        const float *w = golden("null%zux%zu/w", m, n);
        float *basis = floats(n * n), *projection = floats(n * n), *wv = floats(m);
        CHECK(llm_linear_map_null(basis, w, m, n, 1e-6, &arena) == nullity);
        for (size_t k = 0; k < nullity; k++) {
            llm_linear_map_apply(wv, w, basis + k * n, m, n);
            for (size_t i = 0; i < m; i++) CHECK_NEAR(wv[i], 0.0, 1e-5);
        }
        /* the projection V (V'V)^-1 V' is the same for every basis */
        float *v = floats(n * nullity), *unit = floats(n * n);
        for (size_t i = 0; i < n * n; i++) unit[i] = i / n == i % n ? 1.0f : 0.0f;
        for (size_t i = 0; i < n * nullity; i++)
            v[i] = basis[i % (nullity ? nullity : 1) * n + i / nullity];
        float *fit = floats(nullity * n);
        CHECK(llm_qr_lstsq(fit, v, unit, n, nullity, n, -1.0, &arena) == nullity);
        for (size_t i = 0; i < n * n; i++) {
            double sum = 0.0;
            for (size_t k = 0; k < nullity; k++)
                sum += (double)v[i / n * nullity + k] * (double)fit[k * n + i % n];
            projection[i] = (float)sum;
        }
        CHECK_GOLDEN(projection, n * n, 1e-6f, "null%zux%zu/projection", m, n);
    }
    CHECK(arena.used == 0);
    llm_arena_destroy(&arena);
}

TEST(linear_map, "null space of zeros, of I, by hand; what is below tol is 0; no rows") {
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 1 << 12));
    float basis[16];
    const float zero[6] = {0.0f}, unit[4] = {1, 0, 0, 1};
    CHECK(llm_linear_map_null(basis, zero, 2, 3, 1e-6, &arena) == 3);
    for (size_t i = 0; i < 9; i++) CHECK(basis[i] == (i / 3 == i % 3 ? 1.0f : 0.0f));
    CHECK(llm_linear_map_null(basis, unit, 2, 2, 1e-6, &arena) == 0);
    CHECK(llm_linear_map_null(basis, NULL, 0, 2, 1e-6, &arena) == 2);
    /* x + 2y + 3z = 0, 2y + 8z = 0: the free z gives y = -4, x = 5 */
    const float w[6] = {0, 2, 8, 1, 2, 3};
    CHECK(llm_linear_map_null(basis, w, 2, 3, 1e-6, &arena) == 1);
    CHECK(basis[0] == 5.0f && basis[1] == -4.0f && basis[2] == 1.0f);
    const float below[9] = {1, 7, 5, 0, 0,
                            0, 0, 1, 0}; /* y = 0; the pivot stands in the last row */
    CHECK(llm_linear_map_null(basis, below, 3, 3, 1e-6, &arena) == 1);
    CHECK(basis[0] == -5.0f && basis[1] == 0.0f && basis[2] == 1.0f);
    const float noisy[4] = {1000.0f, 0.0f, 0.0f, 1e-3f};
    CHECK(llm_linear_map_null(basis, noisy, 2, 2, 0.99e-6, &arena) == 0);
    CHECK(llm_linear_map_null(basis, noisy, 2, 2, 1.01e-6, &arena) == 1);
    const float small[4] = {1e-8f, 0.0f, 0.0f, 2e-8f};
    CHECK(llm_linear_map_null(basis, small, 2, 2, 1e-6, &arena) == 0); /* tol is relative */
    const float pivot[4] = {1e-5f, 1.0f, 1.0f, 1.0f}; /* regular, small where it is first met */
    CHECK(llm_linear_map_null(basis, pivot, 2, 2, 1e-4, &arena) == 0);
    llm_arena_destroy(&arena);
}

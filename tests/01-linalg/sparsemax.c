/* @sparsemax */
#include "../test.h"

#include "../../llm.h"

TEST(sparsemax, "equals the paper's sorting algorithm and autograd through it") {
    const size_t shapes[][2] = {{1, 1}, {2, 2}, {3, 7}, {2, 16}, {4, 33}, {1, 100}}; /* (rows, n) */
    for (size_t s = 0; s < 6; s++) {
        const size_t rows = shapes[s][0], n = shapes[s][1], size = rows * n;
        const float *x = golden("%zux%zu/x", rows, n), *dp = golden("%zux%zu/dp", rows, n);
        float *p = floats(size), *dx = zeros(size), *in_place = floats(size);
        llm_sparsemax_forward(p, x, rows, n);
        CHECK_GOLDEN(p, size, 3e-7f, "%zux%zu/p", rows, n); /* one subtraction after a double sum */
        llm_sparsemax_backward(dx, dp, p, rows, n);
        CHECK_GOLDEN(dx, size, 5e-7f, "%zux%zu/dx", rows, n);
        llm_sparsemax_backward(dx, dp, p, rows, n); /* adds */
        for (size_t i = 0; i < size; i++) dx[i] *= 0.5f;
        CHECK_GOLDEN(dx, size, 5e-7f, "%zux%zu/dx", rows, n);
        memcpy(in_place, x, size * sizeof(float));
        llm_sparsemax_forward(in_place, in_place, rows, n);
        CHECK_ALL_NEAR(in_place, p, size, 0.0f);
    }
}

/* The nearest probability vector by trying all supports: on each, x minus a constant. */
static void sparsemax_brute(float *p, const float *x, size_t n) {
    double best = INFINITY;
    for (size_t set = 1; set < (size_t)1 << n; set++) {
        double sum = 0.0, size = 0.0, distance = 0.0;
        bool inside = true;
        for (size_t i = 0; i < n; i++)
            if (set >> i & 1) sum += (double)x[i], size += 1.0;
        for (size_t i = 0; i < n; i++) {
            const double q = set >> i & 1 ? (double)x[i] - (sum - 1.0) / size : 0.0;
            inside = inside && q >= 0.0;
            distance += (q - (double)x[i]) * (q - (double)x[i]);
        }
        if (!inside || distance >= best) continue;
        best = distance;
        for (size_t i = 0; i < n; i++)
            p[i] = set >> i & 1 ? (float)((double)x[i] - (sum - 1.0) / size) : 0.0f;
    }
}

TEST(sparsemax, "is the nearest probability vector, found among all supports") {
    llm_rng rng = llm_rng_seed(1);
    for (size_t round = 0; round < 200; round++) {
        const size_t n = 1 + round % 9;
        float x[9], p[9], want[9];
        for (size_t i = 0; i < n; i++)
            x[i] = (round % 3 ? 0.4f : 2.0f) * llm_rng_normal(&rng) - (float)(round % 7);
        sparsemax_brute(want, x, n);
        llm_sparsemax_forward(p, x, 1, n);
        CHECK_ALL_NEAR(p, want, n, 1e-6f); /* x up to 10 rounds by 1e-6 when shifted */
    }
}

TEST(sparsemax, "backward agrees with differences of the brute-force projection") {
    enum { N = 7 };
    float x[N], dp[N], p[N], dx[N] = {0.0f};
    llm_rng rng = llm_rng_seed(2);
    for (size_t i = 0; i < N; i++) x[i] = (float)(i * 3 % N) / 5.0f;
    llm_rng_normal_fill(&rng, dp, N);
    llm_sparsemax_forward(p, x, 1, N);
    llm_sparsemax_backward(dx, dp, p, 1, N);
    /* piecewise linear, no kink within a step: only the brute force's float output rounds */
    CHECK_GRAD(dx, x, N, 1e-2f, 1e-4f, (sparsemax_brute(p, x, N), dot(p, dp, N)));
}

TEST(sparsemax, "ties share, a lead of 1 takes all, a shift changes nothing, masks get nothing") {
    float p[6];
    const float tie[4] = {7.0f, 7.0f, 7.0f, 6.0f}, lead[3] = {-2.0f, -1.0f, -2.5f};
    llm_sparsemax_forward(p, tie, 1, 4);
    for (size_t i = 0; i < 4; i++) CHECK_NEAR(p[i], i < 3 ? 1.0 / 3.0 : 0.0, 1e-7);
    llm_sparsemax_forward(p, lead, 1, 3);
    CHECK(p[0] == 0.0f && p[1] == 1.0f && p[2] == 0.0f);
    const float far[3] = {10000.25f, 10000.0f, 9990.0f};
    llm_sparsemax_forward(p, far, 1, 3);
    CHECK(p[0] == 0.625f && p[1] == 0.375f && p[2] == 0.0f);

    const float rows[6] = {-INFINITY, -INFINITY, -INFINITY, -INFINITY, 0.5f, 0.25f};
    float dx[6] = {0.0f};
    const float dp[6] = {NAN, NAN, NAN, NAN, 1.0f, 3.0f}; /* not read where p is 0 */
    llm_sparsemax_forward(p, rows, 2, 3);
    CHECK(p[0] == 0.0f && p[1] == 0.0f && p[2] == 0.0f && p[3] == 0.0f);
    CHECK(p[4] == 0.625f && p[5] == 0.375f);
    llm_sparsemax_backward(dx, dp, p, 2, 3);
    for (size_t i = 0; i < 4; i++) CHECK(dx[i] == 0.0f);
    CHECK(dx[4] == -1.0f && dx[5] == 1.0f);
    llm_sparsemax_forward(NULL, NULL, 0, 3); /* no rows: nothing */
}

TEST(sparsemax, "NaN and +inf make their row NaN and no other; rounds end for any spacing") {
    const float bad[2] = {NAN, INFINITY};
    for (size_t k = 0; k < 2; k++)
        for (size_t at = 0; at < 3; at++) {
            float x[9] = {1.0f, 2.0f, 3.0f, 1.0f, -INFINITY, 3.0f, 1.0f, 2.0f, 3.0f};
            x[3 + at] = bad[k];
            llm_sparsemax_forward(x, x, 3, 3);
            for (size_t i = 0; i < 9; i++) CHECK(isnan(x[i]) == (i / 3 == 1));
        }
    enum { N = 300 }; /* geometric gaps: each round drops only a few */
    float x[N], p[N];
    for (size_t i = 0; i < N; i++) x[i] = -powf(1.1f, (float)i) * 1e-3f;
    llm_sparsemax_forward(p, x, 1, N);
    double sum = 0.0;
    for (size_t i = 0; i < N; i++) sum += (double)p[i];
    CHECK_NEAR(sum, 1.0, 1e-6);
    for (size_t i = 0; i + 1 < N; i++) CHECK(p[i] >= p[i + 1]);
}

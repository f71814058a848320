/* @linear_attn_favor */
#include "../test.h"

#include "../../llm.h"

static void favor_draw(float *w, llm_rng *rng, size_t m, size_t D) {
    llm_arena arena;
    const size_t bytes = 64 * ((4 * D * D + 63) / 64) + 2 * (64 * ((8 * D * D + 63) / 64)) +
                         2 * (64 * ((8 * D + 63) / 64));
    CHECK(llm_arena_create(&arena, bytes));
    llm_linear_attn_favor_draw(w, rng, m, D, &arena);
    CHECK(arena.used == 0 && arena.peak == arena.size);
    llm_arena_destroy(&arena);
}

/* The features' estimate of exp(q.k), with the maxima that were taken out put back in. */
static double favor_kernel(const float *q, const float *k, const float *w, size_t D, size_t m) {
    float *fq = floats(m), *fk = floats(m);
    double lift[2] = {-1e30, -1e30};
    const float *x[2] = {q, k};
    for (size_t s = 0; s < 2; s++)
        for (size_t i = 0; i < m; i++)
            lift[s] = fmax(lift[s], dot(w + i * D, x[s], D) - 0.5 * dot(x[s], x[s], D));
    llm_linear_attn_favor(fq, q, w, 1.0f, true, 1, D, m);
    llm_linear_attn_favor(fk, k, w, 1.0f, false, 1, D, m);
    return dot(fq, fk, m) * exp(lift[0] + lift[1]);
}

TEST(linear_attn_favor, "directions are orthogonal in groups of D, each of them a normal vector") {
    enum { D = 8, M = 20, DRAWS = 2000 };
    float w[M * D];
    double mean[D] = {0}, square[D] = {0}, length = 0.0;
    llm_rng rng = llm_rng_seed(1);
    for (size_t n = 0; n < DRAWS; n++) {
        favor_draw(w, &rng, M, D);
        for (size_t i = 0; i < M; i++) {
            const double li = dot(w + i * D, w + i * D, D);
            for (size_t j = i / D * D; j < i; j++)
                CHECK_NEAR(dot(w + i * D, w + j * D, D), 0.0, 1e-5);
            for (size_t d = 0; d < D; d++) {
                mean[d] += (double)w[i * D + d];
                square[d] += (double)w[i * D + d] * (double)w[i * D + d];
            }
            length += (li - D) * (li - D);
        }
    }
    const double n = M * DRAWS;
    for (size_t d = 0; d < D; d++) { /* four standard errors, at most */
        CHECK_NEAR(mean[d] / n, 0.0, 4.0 / sqrt(n));
        CHECK_NEAR(square[d] / n, 1.0, 4.0 * sqrt(2.0 / n));
    }
    CHECK_NEAR(length / n, 2.0 * D, 8.0 * sqrt(8.0 / n) * D); /* the variance of chi^2 is 2 D */
}

TEST(linear_attn_favor, "unbiased for exp(q.k); the error falls as 1/sqrt(m)") {
    enum { D = 4, DRAWS = 1500, SIZES = 4 };
    const float q[D] = {0.3f, -0.5f, 0.4f, 0.2f}, k[D] = {0.6f, 0.1f, -0.2f, 0.5f};
    const size_t sizes[SIZES] = {4, 16, 64, 256};
    const double want = exp(dot(q, k, D));
    double errors[SIZES], slope = 0.0;
    llm_rng rng = llm_rng_seed(2);
    float w[256 * D];
    for (size_t s = 0; s < SIZES; s++) {
        double sum = 0.0, squares = 0.0;
        for (size_t n = 0; n < DRAWS; n++) {
            favor_draw(w, &rng, sizes[s], D);
            const double e = favor_kernel(q, k, w, D, sizes[s]) - want;
            sum += e, squares += e * e;
        }
        errors[s] = sqrt(squares / DRAWS);
        CHECK_NEAR(sum / DRAWS, 0.0, 3.0 * errors[s] / sqrt((double)DRAWS));
        if (s > 0) slope += log(errors[s] / errors[s - 1]) / log(4.0) / (SIZES - 1);
    }
    CHECK_NEAR(slope, -0.5, 0.1); /* eight further seeds: -0.48 to -0.53 */
}

TEST(linear_attn_favor, "orthogonal directions err less than independent ones") {
    enum { D = 16, DRAWS = 2000 };
    float w[D * D], z[D];
    double squares[2] = {0.0, 0.0};
    llm_rng rng = llm_rng_seed(1);
    for (size_t d = 0; d < D; d++) z[d] = 0.25f; /* q + k, of length 1: E exp(w.z) = exp(1/2) */
    for (size_t n = 0; n < 2 * DRAWS; n++) {
        double error = -exp(0.5);
        if (n % 2 == 0) favor_draw(w, &rng, D, D);
        if (n % 2 == 1) llm_rng_normal_fill(&rng, w, D * D);
        for (size_t i = 0; i < D; i++) error += exp(dot(w + i * D, z, D)) / D;
        squares[n % 2] += error * error;
    }
    /* eight sets of seeds: 0.82 to 0.98 */
    CHECK(sqrt(squares[0] / squares[1]) < 0.99);
}

TEST(linear_attn_favor,
     "equals the formula in doubles but for the maximum, and backward its slope") {
    enum { T = 3, D = 5, M = 7 };
    float x[T * D], w[M * D], y[T * M], dy[T * M], dx[T * D];
    const float scale = 0.8f;
    llm_rng rng = llm_rng_seed(3);
    llm_rng_normal_fill(&rng, x, T * D);
    llm_rng_normal_fill(&rng, dy, T * M);
    favor_draw(w, &rng, M, D);
    for (int alone = 0; alone < 2; alone++) {
        double want[T * M], max = -1e30;
        for (size_t i = 0; i < T * M; i++) {
            const float *xt = x + i / M * D;
            want[i] = 0.8 * dot(w + i % M * D, xt, D) - 0.32 * dot(xt, xt, D);
            max = fmax(max, want[i]);
        }
        for (size_t t = 0; t < T; t++) {
            double own = -1e30;
            for (size_t i = 0; i < M; i++) own = fmax(own, want[t * M + i]);
            for (size_t i = 0; i < M; i++)
                want[t * M + i] = exp(want[t * M + i] - (alone ? own : max)) / sqrt(7.0);
        }
        llm_linear_attn_favor(y, x, w, scale, alone, T, D, M);
        for (size_t i = 0; i < T * M; i++) CHECK_NEAR(y[i], want[i], 1e-6 * want[i] + 1e-12);

        for (size_t i = 0; i < T * D; i++) dx[i] = 1.0f; /* and accumulate */
        llm_linear_attn_favor_backward(dx, dy, y, x, w, scale, T, D, M);
        for (size_t i = 0; i < T * D; i++) {
            double slope = 1.0;
            for (size_t m = 0; m < M; m++)
                slope += (double)dy[i / D * M + m] * want[i / D * M + m] * 0.8 *
                         ((double)w[m * D + i % D] - 0.8 * (double)x[i]);
            CHECK_NEAR(dx[i], slope, 3e-6);
        }
    }
    const float far[2 * D] = {60, 0, 0, 0, 0, -60, 0, 0, 0, 0}; /* exp(1800) is not reached */
    llm_linear_attn_favor(y, far, w, 1.0f, true, 2, D, M);
    for (size_t i = 0; i < 2 * M; i++) CHECK(y[i] >= 0.0f && y[i] <= 1.0f);
}

/* Mean absolute difference between causal attention on these features and with softmax. */
static double favor_error(uint64_t seed, size_t m, float size) {
    enum { T = 32, D = 8 };
    float q[T * D], k[T * D], v[T * D], out[T * D], den[T], w[256 * D], *fq, *fk;
    const float scale = 1.0f / sqrtf(sqrtf((float)D));
    llm_rng rng = llm_rng_seed(seed);
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 1 << 20));
    llm_rng_normal_fill(&rng, q, T * D);
    llm_rng_normal_fill(&rng, k, T * D);
    llm_rng_normal_fill(&rng, v, T * D);
    for (size_t i = 0; i < T * D; i++) q[i] *= size, k[i] *= size;
    llm_linear_attn_favor_draw(w, &rng, m, D, &arena);
    fq = floats(T * m), fk = floats(T * m);
    llm_linear_attn_favor(fq, q, w, scale, true, T, D, m);
    llm_linear_attn_favor(fk, k, w, scale, false, T, D, m);
    llm_linear_attn_forward(out, den, fq, fk, v, 1, T, m, D, 16, &arena);
    llm_arena_destroy(&arena);
    double error = 0.0;
    for (size_t i = 0; i < T; i++) {
        double total = 0.0, sum[D] = {0};
        for (size_t j = 0; j <= i; j++) {
            const double p = exp(dot(q + i * D, k + j * D, D) / sqrt((double)D));
            total += p;
            for (size_t d = 0; d < D; d++) sum[d] += p * (double)v[j * D + d];
        }
        for (size_t d = 0; d < D; d++) error += fabs((double)out[i * D + d] - sum[d] / total);
    }
    return error / (T * D);
}

TEST(linear_attn_favor,
     "attention on these features approaches softmax attention, for short vectors") {
    double few = 0.0, many = 0.0, large = 0.0;
    for (uint64_t seed = 1; seed <= 10; seed++) {
        few += favor_error(seed, 16, 1.0f) / 10.0;
        many += favor_error(seed, 256, 1.0f) / 10.0;
        large += favor_error(seed, 256, 3.0f) / 10.0;
    }
    /* eight further sets of seeds: few 0.19 to 0.21, many 0.10 to 0.14, large 0.65 to 0.77 */
    CHECK(many < few - 0.028);
    CHECK(large > many + 0.25);
}

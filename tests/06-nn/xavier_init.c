/* @xavier_init */
#include "../test.h"

#include "../../llm.h"

TEST(xavier_init,
     "the bound and the deviation are those of torch.nn.init, for every shape and gain") {
    const size_t shapes[4][2] = {{1, 1}, {3, 2}, {400, 100}, {768, 3072}}; /* (fan_in, fan_out) */
    const float *bound = golden("torch/bound"), *std = golden("torch/std");
    for (size_t s = 0; s < 8; s++) {
        const size_t in = shapes[s / 2][0], out = shapes[s / 2][1], n = in * out;
        const float gain = s % 2 ? 5.0f / 3.0f : 1.0f;
        float *w = floats(n), *want = floats(n);
        llm_rng rng = llm_rng_seed(s), again = rng;
        llm_xavier_init_uniform(w, in, out, gain, &rng);
        for (size_t i = 0; i < n; i++) want[i] = bound[s] * (2.0f * llm_rng_uniform(&again) - 1.0f);
        CHECK_ALL_NEAR(w, want, n, 1e-6f * bound[s]);
        again = rng;
        llm_xavier_init_normal(w, in, out, gain, &rng);
        llm_rng_normal_fill(&again, want, n);
        for (size_t i = 0; i < n; i++) want[i] *= std[s];
        CHECK_ALL_NEAR(w, want, n, 6e-6f * std[s]); /* an ulp of a deviate of up to 6 */
    }
}

static int xavier_init_ascending(const void *a, const void *b) {
    const float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

TEST(xavier_init,
     "both fills have mean 0 and the same variance; the uniform one passes a KS test") {
    enum { IN = 400, OUT = 250, N = IN * OUT };
    float *w = floats(N);
    llm_rng rng = llm_rng_seed(1);
    const double var = 2.0 / (IN + OUT);
    for (int uniform = 0; uniform < 2; uniform++) {
        double mean = 0.0, square = 0.0;
        if (uniform)
            llm_xavier_init_uniform(w, IN, OUT, 1.0f, &rng);
        else
            llm_xavier_init_normal(w, IN, OUT, 1.0f, &rng);
        for (size_t i = 0; i < N; i++) {
            mean += (double)w[i] / N;
            square += (double)w[i] * (double)w[i] / N;
        }
        CHECK_NEAR(mean, 0.0, 4.0 * sqrt(var / N));
        CHECK_NEAR(square / var, 1.0, 0.02); /* sampling: 0.4% and 0.3% */
    }
    qsort(w, N, sizeof(float), xavier_init_ascending);
    double gap = 0.0, bound = sqrt(3.0 * var);
    for (size_t i = 0; i < N; i++) {
        const double cdf = ((double)w[i] + bound) / (2.0 * bound);
        gap = fmax(gap, fmax(fabs(cdf - (double)i / N), fabs(cdf - (double)(i + 1) / N)));
    }
    CHECK((double)w[0] >= -bound && (double)w[N - 1] <= bound);
    CHECK(gap < 1.63 / sqrt((double)N)); /* 1% of true uniform samples exceed this */
}

TEST(xavier_init, "the tracked mean squares equal autograd's through a small tanh network") {
    const size_t width[4] = {5, 8, 3, 8}, bytes = 4 * (2 * 24 + 3 * 8) * sizeof(float);
    double forward[4], backward[4];
    float f[4], b[4];
    llm_arena arena;
    CHECK(llm_arena_create(&arena, bytes)); /* as the comment says, to the byte */
    llm_xavier_init_variance_track(forward, backward, golden("track/x"), golden("track/dy"),
                                   golden("track/w"), width, 3, 4, LLM_ACTIVATION_TANH, &arena);
    for (size_t l = 0; l < 4; l++) f[l] = (float)forward[l], b[l] = (float)backward[l];
    CHECK_GOLDEN(f, 4, 1e-6f, "track/forward");
    CHECK_GOLDEN(b, 4, 1e-6f, "track/backward");
    CHECK(arena.used == 0);
    llm_arena_destroy(&arena);
}

/* Draws w for the layers of width (gain < 0: N(0, 0.01^2)), a batch x of deviation size and dy, and
 * tracks both. */
static void xavier_init_run(double *forward, double *backward, const size_t *width, size_t L,
                            float gain, float size, int kind, uint64_t seed) {
    enum { N = 40 };
    size_t weights = 0, total = 0;
    for (size_t l = 0; l < L; l++) weights += width[l] * width[l + 1];
    for (size_t l = 0; l <= L; l++) total += width[l];
    float *w = floats(weights), *x = floats(N * width[0]), *dy = floats(N * width[L]), *at = w;
    llm_rng rng = llm_rng_seed(seed);
    for (size_t l = 0; l < L; l++) {
        if (gain >= 0.0f)
            llm_xavier_init_normal(at, width[l], width[l + 1], gain, &rng);
        else
            for (size_t i = 0; i < width[l] * width[l + 1]; i++)
                at[i] = 0.01f * llm_rng_normal(&rng);
        at += width[l] * width[l + 1];
    }
    llm_rng_normal_fill(&rng, x, N * width[0]);
    for (size_t i = 0; i < N * width[0]; i++) x[i] *= size;
    llm_rng_normal_fill(&rng, dy, N * width[L]);
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 5 * N * total * sizeof(float) + 1024));
    llm_xavier_init_variance_track(forward, backward, x, dy, w, width, L, N, kind, &arena);
    llm_arena_destroy(&arena);
    free(w), free(x), free(dy);
}

TEST(xavier_init,
     "ten layers keep signals and gradients within [0.5, 2]; weights of 0.01 lose both") {
    const size_t width[11] = {256, 256, 256, 256, 256, 256, 256, 256, 256, 256, 256};
    double forward[11], backward[11];
    for (uint64_t seed = 1; seed <= 2; seed++)
        for (size_t k = 0; k < 2; k++) {
            const int kind = k ? LLM_ACTIVATION_TANH : LLM_ACTIVATION_IDENTITY;
            xavier_init_run(forward, backward, width, 10, 1.0f, k ? 0.1f : 1.0f, kind, seed);
            for (size_t l = 0; l <= 10; l++) { /* seen over 24 further seeds: 0.73 to 1.15 */
                const double f = forward[l] / forward[0], b = backward[l] / backward[10];
                CHECK(f > 0.5 && f < 2.0 && b > 0.5 && b < 2.0);
            }
            xavier_init_run(forward, backward, width, 10, -1.0f, 1.0f, kind, seed);
            /* each layer multiplies by 256 * 0.01^2 = 0.0256: after ten 1.2e-16 */
            CHECK(forward[10] < 1e-6 && backward[0] < 1e-6);
        }
}

TEST(xavier_init, "400 to 100 multiplies signals by 8/5 and gradients by 2/5, ReLU halves both") {
    const size_t width[2] = {400, 100}, square[4] = {300, 300, 300, 300};
    double forward[4], backward[4], f = 0.0, b = 0.0, relu = 0.0, relu_back = 0.0;
    for (uint64_t seed = 1; seed <= 4; seed++) {
        xavier_init_run(forward, backward, width, 1, 1.0f, 1.0f, LLM_ACTIVATION_IDENTITY, seed);
        f += forward[1] / forward[0] / 4.0;
        b += backward[0] / backward[1] / 4.0;
        xavier_init_run(forward, backward, square, 3, 1.0f, 1.0f, LLM_ACTIVATION_RELU, seed);
        relu += pow(forward[3] / forward[0], 1.0 / 3.0) / 4.0;
        relu_back += pow(backward[0] / backward[3], 1.0 / 3.0) / 4.0;
    }
    float want_f, want_b;
    llm_xavier_init_factors(&want_f, &want_b, 400, 100, 1.0f);
    CHECK_NEAR(want_f, 1.6, 1e-6);
    CHECK_NEAR(want_b, 0.4, 1e-6);
    CHECK_NEAR(f, 1.6, 0.05 * 1.6);
    CHECK_NEAR(b, 0.4, 0.05 * 0.4);
    CHECK_NEAR(relu, 0.5, 0.05);
    CHECK_NEAR(relu_back, 0.5, 0.05);
    llm_xavier_init_factors(&want_f, &want_b, 7, 3, 2.0f); /* the gain counts squared */
    CHECK_NEAR(want_f, 5.6, 1e-6);
    CHECK_NEAR(want_b, 2.4, 1e-6);
}

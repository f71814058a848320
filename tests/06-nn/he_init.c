/* @he_init */
#include "../test.h"

#include "../../llm.h"

static const size_t he_init_shape[4][3] = {{7, 5, 1}, {512, 512, 1}, {8, 3, 9}, {64, 1, 25}};

TEST(he_init, "bounds and deviations are those of torch's kaiming, for both fans and a slope") {
    const float *bound = golden("kaiming/bound"), *std = golden("kaiming/std");
    size_t k = 0;
    for (size_t s = 0; s < 4; s++)
        for (int mode = LLM_HE_INIT_FAN_IN; mode <= LLM_HE_INIT_FAN_OUT; mode++)
            for (int leaky = 0; leaky < 2; leaky++, k++) {
                const size_t O = he_init_shape[s][0], C = he_init_shape[s][1];
                const size_t area = he_init_shape[s][2], n = O * C * area;
                const float a = leaky ? 0.2f : 0.0f;
                float *w = floats(n), *want = floats(n);
                llm_rng rng = llm_rng_seed(k), again = rng;
                CHECK_NEAR(llm_he_init_std(O, C, area, mode, a), std[k], 1e-6 * (double)std[k]);
                llm_he_init_uniform(w, O, C, area, mode, a, &rng);
                for (size_t i = 0; i < n; i++)
                    want[i] = bound[k] * (2.0f * llm_rng_uniform(&again) - 1.0f);
                CHECK_ALL_NEAR(w, want, n, 1e-6f * bound[k]);
                llm_he_init_normal(w, O, C, area, mode, a, &rng);
                llm_rng_normal_fill(&again, want, n);
                for (size_t i = 0; i < n; i++) want[i] *= std[k];
                CHECK_ALL_NEAR(w, want, n, 6e-6f * std[k]);
            }
}

TEST(he_init, "torch's default layers start uniform in 1 / sqrt(fan_in), weights and biases") {
    const float *bound = golden("default/bound");
    const size_t shape[2][3] = {{7, 5, 1}, {8, 3, 9}};
    for (size_t s = 0; s < 2; s++) {
        const size_t O = shape[s][0], n = O * shape[s][1] * shape[s][2];
        float *w = floats(n), *b = floats(O), *want = floats(n + O);
        llm_rng rng = llm_rng_seed(s), again = rng;
        llm_he_init_torch(w, b, O, shape[s][1], shape[s][2], &rng);
        for (size_t i = 0; i < n + O; i++)
            want[i] = bound[2 * s + (i >= n)] * (2.0f * llm_rng_uniform(&again) - 1.0f);
        CHECK_ALL_NEAR(w, want, n, 1e-6f);
        CHECK_ALL_NEAR(b, want + n, O, 1e-6f);
        llm_he_init_torch(w, NULL, O, shape[s][1], shape[s][2], &rng);
    }
}

/* Factors of the mean square through 30 layers of width 128, forward and backward: the geometric
 * mean over seeds. std > 0 is used instead of He's. */
static void he_init_factors(double factor[2], int kind, float gain, uint64_t first) {
    enum { L = 30, C = 128, N = 8, SEEDS = 6 };
    size_t width[L + 1];
    float *w = floats(L * C * C), x[N * C], dy[N * C];
    double forward[L + 1], backward[L + 1];
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 5 * N * C * (L + 1) * sizeof(float)));
    for (size_t l = 0; l <= L; l++) width[l] = C;
    factor[0] = factor[1] = 0.0;
    for (uint64_t seed = first; seed < first + SEEDS; seed++) {
        llm_rng rng = llm_rng_seed(seed);
        if (gain > 0.0f)
            llm_weight_init_normal(w, L * C * C, gain / sqrtf((float)C), &rng);
        else
            for (size_t l = 0; l < L; l++)
                llm_he_init_normal(w + l * C * C, C, C, 1, LLM_HE_INIT_FAN_IN, 0.0f, &rng);
        llm_rng_normal_fill(&rng, x, N * C);
        llm_rng_normal_fill(&rng, dy, N * C);
        llm_xavier_init_variance_track(forward, backward, x, dy, w, width, L, N, kind, &arena);
        factor[0] += log2(forward[L] / forward[0]) / SEEDS;
        factor[1] += log2(backward[0] / backward[L]) / SEEDS;
    }
    llm_arena_destroy(&arena);
}

TEST(he_init, "30 ReLU layers keep signals and gradients, Xavier's leave 2^-30 of them") {
    double he[2], xavier[2];
    he_init_factors(he, LLM_ACTIVATION_RELU, 0.0f, 1);
    he_init_factors(xavier, LLM_ACTIVATION_RELU, 1.0f, 1);
    /* A random layer of width 128 multiplies a mean square by 1 on average, with a deviation of
     * sqrt(5 / 128): the mean of log2 over 30 layers lies about 0.85 below 0. Eight other sets of
     * seeds: -1.2 to 0.6. */
    for (size_t k = 0; k < 2; k++) {
        CHECK(fabs(he[k]) < 2.0);
        CHECK_NEAR(xavier[k], he[k] - 30.0, 1e-4); /* the same draws, each sqrt(2) smaller */
    }
}

TEST(he_init, "either fan keeps what it is for through layers of unequal width") {
    enum { IN = 400, OUT = 100, N = 50 };
    const size_t width[2] = {IN, OUT};
    float *w = floats(IN * OUT), x[N * IN], dy[N * OUT];
    double forward[2], backward[2];
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 5 * N * (IN + OUT) * sizeof(float)));
    llm_rng rng = llm_rng_seed(1);
    llm_rng_normal_fill(&rng, x, N * IN);
    llm_rng_normal_fill(&rng, dy, N * OUT);
    for (int mode = LLM_HE_INIT_FAN_IN; mode <= LLM_HE_INIT_FAN_OUT; mode++) {
        llm_he_init_normal(w, OUT, IN, 1, mode, 0.0f, &rng);
        llm_xavier_init_variance_track(forward, backward, x, dy, w, width, 1, N,
                                       LLM_ACTIVATION_RELU, &arena);
        const double f = forward[1] / forward[0], b = backward[0] / backward[1];
        CHECK_NEAR(f, mode == LLM_HE_INIT_FAN_IN ? 1.0 : 4.0, 0.1 * f); /* sampling: 2% */
        CHECK_NEAR(b, mode == LLM_HE_INIT_FAN_IN ? 0.25 : 1.0, 0.1 * b);
    }
    llm_arena_destroy(&arena);
}

TEST(he_init, "a leaky net of 60 layers needs the factor for its slope") {
    enum { L = 60, C = 200 };
    double log_square[2] = {0.0, 0.0};
    float *w = floats(C * C), h[C], z[C];
    for (uint64_t seed = 1; seed <= 6; seed++)
        for (int own = 0; own < 2; own++) {
            llm_rng rng = llm_rng_seed(seed); /* the same draws for both */
            for (size_t i = 0; i < C; i++) h[i] = 1.0f;
            for (size_t l = 0; l < L; l++) {
                llm_he_init_uniform(w, C, C, 1, LLM_HE_INIT_FAN_IN, own ? 0.2f : 0.0f, &rng);
                llm_matmul_forward(z, h, w, NULL, 1, C, C);
                for (size_t i = 0; i < C; i++) h[i] = z[i] < 0.0f ? 0.2f * z[i] : z[i];
            }
            log_square[own] += log(dot(h, h, C) / C) / 6.0;
        }
    /* without, 1.04^60 = 10.5 times more, exactly: the same net times a number */
    CHECK_NEAR(log_square[0] - log_square[1], 60.0 * log(1.04), 1e-3);
    CHECK(fabs(log_square[1]) < log(10.0)); /* eight other sets of seeds: -1.3 to -0.4 */
}

/* By which factor 200 steps of gradient descent reduce the loss of a ReLU net of 30 layers. */
static double he_init_train(bool he, uint64_t seed) {
    enum { L = 30, C = 32, N = 32, I = 4 };
    size_t in[L], out[L], at[L], total = 0;
    float *h[L + 1], *z[L + 1], *d[L + 1], y[N];
    llm_rng rng = llm_rng_seed(seed);
    llm_arena arena;
    CHECK(llm_arena_create(&arena, N * C * sizeof(float)));
    for (size_t l = 0; l < L; l++) {
        in[l] = l ? C : I, out[l] = l < L - 1 ? C : 1;
        at[l] = total, total += in[l] * out[l];
    }
    for (size_t l = 0; l <= L; l++)
        h[l] = floats(N * C), z[l] = floats(N * C), d[l] = floats(N * C);
    float *w = floats(total), *dw = floats(total);
    for (size_t l = 0; l < L; l++) {
        if (he)
            llm_he_init_normal(w + at[l], out[l], in[l], 1, LLM_HE_INIT_FAN_IN, 0.0f, &rng);
        else
            llm_xavier_init_normal(w + at[l], in[l], out[l], 1.0f, &rng);
    }
    llm_rng_normal_fill(&rng, h[0], N * I);
    for (size_t n = 0; n < N; n++) y[n] = fabsf(h[0][n * I]) + 1.0f;
    double first = 0.0, loss = 0.0;
    for (size_t t = 0; t <= 200; t++) {
        for (size_t l = 0; l < L; l++)
            llm_dense_act_forward(h[l + 1], z[l + 1], h[l], w + at[l], NULL, N, in[l], out[l],
                                  l < L - 1 ? LLM_ACTIVATION_RELU : LLM_ACTIVATION_IDENTITY);
        loss = 0.0;
        for (size_t n = 0; n < N; n++) {
            const float off = h[L][n] - y[n];
            loss += (double)(off * off) / N;
            d[L][n] = 2.0f * off / N;
        }
        if (t == 0) first = loss;
        memset(dw, 0, total * sizeof(float));
        for (size_t l = L; l-- > 0;) {
            memset(d[l], 0, N * C * sizeof(float));
            llm_dense_act_backward(
                d[l], dw + at[l], NULL, d[l + 1], z[l + 1], h[l], w + at[l], N, in[l], out[l],
                l < L - 1 ? LLM_ACTIVATION_RELU : LLM_ACTIVATION_IDENTITY, &arena);
        }
        for (size_t i = 0; i < total; i++) w[i] -= 1e-3f * dw[i];
    }
    llm_arena_destroy(&arena);
    return loss / first;
}

TEST(he_init, "a ReLU net of 30 layers learns from He's weights and not from Xavier's") {
    for (uint64_t seed = 1; seed <= 2; seed++) { /* 24 further seeds: 0.005 to 0.09; 1.00000 */
        CHECK(he_init_train(true, seed) < 0.5);
        CHECK(he_init_train(false, seed) > 0.95);
    }
}

TEST(he_init, "Fixup: the last matrix of a branch is 0, the others shrink with the depth") {
    enum { O = 40, C = 50, AREA = 9, n = O * C * AREA };
    float *w = floats(n), *plain = floats(n);
    llm_rng rng = llm_rng_seed(4), again = rng;
    llm_he_init_fixup(w, O, C, AREA, 1, 2, 16, &rng);
    for (size_t i = 0; i < n; i++) CHECK(w[i] == 0.0f);
    llm_he_init_fixup(w, O, C, AREA, 0, 2, 16, &rng); /* 16^(-1/2) */
    llm_he_init_normal(plain, O, C, AREA, LLM_HE_INIT_FAN_IN, 0.0f, &again);
    for (size_t i = 0; i < n; i++) plain[i] *= 0.25f;
    CHECK_ALL_CLOSE(w, plain, n, 1e-6f);
    again = rng;
    llm_he_init_fixup(w, O, C, AREA, 1, 3, 16, &rng); /* 16^(-1/4) */
    llm_he_init_normal(plain, O, C, AREA, LLM_HE_INIT_FAN_IN, 0.0f, &again);
    for (size_t i = 0; i < n; i++) plain[i] *= 0.5f;
    CHECK_ALL_CLOSE(w, plain, n, 1e-6f);
    llm_he_init_fixup(w, O, C, AREA, 0, 1, 16, &rng);
    CHECK(w[0] == 0.0f && w[n - 1] == 0.0f);
    llm_he_init_fixup(w, O, C, AREA, 0, 2, 1, &rng); /* one branch is He's */
    CHECK(w[0] != 0.0f);
    CHECK_ASSERTS(llm_he_init_fixup(w, O, C, AREA, 2, 2, 16, &rng));
    CHECK_ASSERTS(llm_he_init_fixup(w, O, C, AREA, 0, 2, 0, &rng));
}

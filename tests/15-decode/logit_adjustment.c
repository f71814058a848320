/* @logit_adjustment */
#include "../test.h"

#include "../../llm.h"

#include "../arena.h"

TEST(logit_adjustment, "loss, gradient and the rule after training equal torch's") {
    for (size_t i = 0; i < 4; i++) {
        const size_t N = (size_t)golden("%zu/N", i)[0], K = (size_t)golden("%zu/K", i)[0];
        const float tau = golden("%zu/tau", i)[0];
        const float *prior = golden("%zu/prior", i);
        float *z = golden("%zu/z", i), *loss = floats(N), *lse = floats(N), *dz = zeros(N * K);
        const int *y = as_ints(golden("%zu/y", i), N);
        llm_arena arena = test_arena((N * K * 4 + 63) / 64 * 64);
        const size_t kept =
            llm_logit_adjustment_loss_forward(loss, lse, z, prior, y, N, K, tau, &arena);
        CHECK_GOLDEN(loss, N, 2e-6f, "%zu/loss", i);
        for (size_t k = 0; k < N * K; k++) dz[k] = 0.5f; /* adds */
        llm_arena back = test_arena(arena.size);
        llm_logit_adjustment_loss_backward(dz, z, lse, prior, y, N, K, tau, 1.0f / (float)kept,
                                           &back);
        for (size_t k = 0; k < N * K; k++) dz[k] -= 0.5f;
        CHECK_GOLDEN(dz, N * K, 1e-6f, "%zu/dz", i);
        llm_logit_adjustment_posthoc(z, prior, N, K, tau);
        CHECK_GOLDEN(z, N * K, 1e-6f, "%zu/posthoc", i);
        CHECK(arena.used == 0 && back.used == 0);
    }
    const float prior[3] = {0.5f, 0.5f, 0.0f}, z[3] = {1.0f, 2.0f, 99.0f};
    const int y[1] = {0};
    float loss[1], lse[1], dz[3] = {0.0f, 0.0f, 0.0f}, rule[3] = {1.0f, 2.0f, 99.0f};
    llm_arena arena = test_arena(64); /* a class that does not occur is no rival */
    llm_logit_adjustment_loss_forward(loss, lse, z, prior, y, 1, 3, 1.0f, &arena);
    CHECK_NEAR(loss[0], log(1.0 + exp(1.0)), 1e-6);
    llm_logit_adjustment_loss_backward(dz, z, lse, prior, y, 1, 3, 1.0f, 1.0f, &arena);
    CHECK(dz[2] == 0.0f);
    CHECK_ASSERTS(llm_logit_adjustment_posthoc(rule, prior, 1, 3, 1.0f));
    llm_logit_adjustment_shift(rule, z, prior, 1, 3, 0.0f); /* nor without adjustment */
    CHECK(rule[0] == 1.0f && rule[1] == 2.0f && rule[2] == -INFINITY);
}

TEST(logit_adjustment, "priors are the shares of the labels") {
    const int y[7] = {2, 0, LLM_CROSS_ENTROPY_IGNORE, 2, 2, 0, 2};
    float prior[4];
    llm_logit_adjustment_priors(prior, y, 7, 4, 0.0f);
    const float want[4] = {2.0f / 6.0f, 0.0f, 4.0f / 6.0f, 0.0f};
    CHECK_ALL_NEAR(prior, want, 4, 1e-7f);
    llm_logit_adjustment_priors(prior, y, 7, 4, 0.5f);
    const float smooth[4] = {2.5f / 8.0f, 0.5f / 8.0f, 4.5f / 8.0f, 0.5f / 8.0f};
    CHECK_ALL_NEAR(prior, smooth, 4, 1e-7f);
    CHECK_ASSERTS(llm_logit_adjustment_priors(prior, y, 7, 2, 0.0f));
    const int negative[1] = {-1};
    CHECK_ASSERTS(llm_logit_adjustment_priors(prior, negative, 1, 2, 0.0f));
}

/* Three normal classes in the plane, unit variance, at these places. */
enum { K = 3 };
static const float adjustment_at[K][2] = {{0.0f, 0.0f}, {2.0f, 0.0f}, {0.0f, 2.0f}};
static const float adjustment_prior[K] = {100.0f / 111.0f, 10.0f / 111.0f, 1.0f / 111.0f};

static void adjustment_logits(float *z, const float *x, const float *prior) {
    for (size_t k = 0; k < K; k++) {
        const float a = x[0] - adjustment_at[k][0], b = x[1] - adjustment_at[k][1];
        z[k] = logf(prior[k]) - 0.5f * (a * a + b * b);
    }
}

TEST(logit_adjustment, "with known densities it is Bayes' rule for the balanced error") {
    enum { N = 3000 }; /* a class */
    llm_rng rng = llm_rng_seed(1);
    double plain = 0.0, balanced = 0.0, nearest = 0.0;
    for (size_t y = 0; y < K; y++)
        for (size_t n = 0; n < N; n++) {
            float x[2], z[K];
            llm_rng_normal_pair(x, &rng);
            for (size_t c = 0; c < 2; c++) x[c] += adjustment_at[y][c];
            adjustment_logits(z, x, adjustment_prior);
            plain += llm_greedy_pick(z, K) == (int)y;
            llm_logit_adjustment_posthoc(z, adjustment_prior, 1, K, 1.0f);
            const int rule = llm_greedy_pick(z, K);
            balanced += rule == (int)y;
            int best = 0; /* equal priors: the nearest centre */
            float away = INFINITY;
            for (int k = 0; k < K; k++) {
                const float a = x[0] - adjustment_at[k][0], b = x[1] - adjustment_at[k][1];
                if (a * a + b * b < away) away = a * a + b * b, best = k;
            }
            nearest += rule == best;
        }
    CHECK(nearest > 3.0 * N - 3.0); /* ties by rounding */
    plain /= 3.0 * N, balanced /= 3.0 * N;
    CHECK(balanced > plain + 0.1); /* 0.784 and 0.505 */
}

TEST(logit_adjustment, "training with the loss learns the balanced rule; tau = 0 the plain one") {
    enum { N = 3000 };
    float x[N][3], w[2][K * 3], prior[K];
    int y[N];
    llm_rng rng = llm_rng_seed(2);
    for (size_t n = 0; n < N; n++) {
        const size_t k = n % 111 < 100 ? 0 : n % 111 < 110 ? 1 : 2;
        llm_rng_normal_pair(x[n], &rng);
        for (size_t c = 0; c < 2; c++) x[n][c] += adjustment_at[k][c];
        x[n][2] = 1.0f;
        y[n] = (int)k;
    }
    llm_logit_adjustment_priors(prior, y, N, K, 0.0f);
    float *z = floats(N * K), *dz = floats(N * K), *loss = floats(N), *lse = floats(N);
    llm_arena arena = test_arena((N * K * 4 + 63) / 64 * 64);
    for (size_t m = 0; m < 2; m++) {
        for (size_t i = 0; i < K * 3; i++) w[m][i] = 0.0f;
        if (m == 1) /* starts where the plain one's adjusted logits do: both walk the same way */
            for (size_t k = 0; k < K; k++) w[m][k * 3 + 2] = -logf(prior[k]);
        for (size_t step = 0; step < 200; step++) {
            float dw[K * 3] = {0.0f};
            llm_matmul_forward(z, &x[0][0], w[m], NULL, N, 3, K);
            memset(dz, 0, N * K * sizeof(float));
            llm_logit_adjustment_loss_forward(loss, lse, z, prior, y, N, K, (float)m, &arena);
            llm_logit_adjustment_loss_backward(dz, z, lse, prior, y, N, K, (float)m, 1.0f / N,
                                               &arena);
            llm_matmul_backward(NULL, dw, NULL, dz, &x[0][0], w[m], N, 3, K);
            for (size_t i = 0; i < K * 3; i++) w[m][i] -= 0.5f * dw[i];
        }
    }
    llm_logit_adjustment_posthoc(w[0] + 2, prior, 1, 1, 1.0f); /* the biases, one by one */
    llm_logit_adjustment_posthoc(w[0] + 5, prior + 1, 1, 1, 1.0f);
    llm_logit_adjustment_posthoc(w[0] + 8, prior + 2, 1, 1, 1.0f);
    CHECK_ALL_NEAR(w[1], w[0], K * 3, 1e-3f);
}

TEST(logit_adjustment, "EM: the most likely priors, and those of a test set that is drawn from") {
    for (size_t i = 0; i < 2; i++) {
        size_t n = 0, k = 0;
        const float *p = golden_n(&n, "em%zu/p", i), *old = golden_n(&k, "em%zu/old", i);
        double to[4];
        float got[4];
        llm_arena arena = test_arena(128);
        CHECK(llm_logit_adjustment_prior_shift(to, p, old, n / k, k, 20000, 0.0, &arena) <= 20000);
        for (size_t c = 0; c < k; c++) got[c] = (float)to[c];
        CHECK_GOLDEN(got, k, 1e-6f, "em%zu/new", i);
        CHECK(arena.used == 0);
        CHECK(llm_logit_adjustment_prior_shift(to, p, old, n / k, k, 3, 0.0, &arena) == 3);
        const size_t rounds =
            llm_logit_adjustment_prior_shift(to, p, old, n / k, k, 20000, 1e-4, &arena);
        CHECK(rounds > 1 && rounds < 2000);
        CHECK(llm_logit_adjustment_prior_shift(to, p, old, n / k, k, 9, 1.0, &arena) == 1);
        CHECK_ASSERTS(llm_logit_adjustment_prior_shift(to, p, old, 0, k, 9, 1.0, &arena));
    }
    enum { N = 20000 };
    const double truth[K] = {0.2, 0.3, 0.5};
    float *p = floats(N * K);
    llm_rng rng = llm_rng_seed(3);
    for (size_t n = 0; n < N; n++) {
        const float u = llm_rng_uniform(&rng);
        const size_t y = u < 0.2f ? 0 : u < 0.5f ? 1 : 2;
        float x[2];
        llm_rng_normal_pair(x, &rng);
        for (size_t c = 0; c < 2; c++) x[c] += adjustment_at[y][c];
        adjustment_logits(p + n * K, x, adjustment_prior);
    }
    llm_softmax_forward(p, p, N, K, 1.0f);
    double to[K], q[K];
    llm_arena arena = test_arena(128);
    llm_logit_adjustment_prior_shift(to, p, adjustment_prior, N, K, 500, 1e-9, &arena);
    for (size_t k = 0; k < K; k++) CHECK_NEAR(to[k], truth[k], 0.02);
    const float sure[K] = {1.0f, 0.0f, 0.0f}, from[K] = {0.5f, 0.5f, 0.0f};
    llm_logit_adjustment_move(q, sure, from, truth, K);
    CHECK(q[0] == 1.0 && q[1] == 0.0 && q[2] == 0.0);
    const float half[2] = {0.5f, 0.5f}; /* one row that says nothing new: nothing moves */
    CHECK(llm_logit_adjustment_prior_shift(to, half, half, 1, 2, 9, 0.0, &arena) == 1);
    CHECK(to[0] == 0.5 && to[1] == 0.5);
}

/* @unsupervised */
#include "../test.h"

#include "../../llm.h"
#include "../arena.h"

static const float *un_floats(const double *x, size_t n) {
    float *out = floats(n);
    for (size_t i = 0; i < n; i++) out[i] = (float)x[i];
    return out;
}

TEST(unsupervised, "twelve rounds of EM equal scikit-learn, all four shapes, and so does BIC") {
    const size_t shapes[2][3] = {{12, 1, 2}, {40, 2, 3}};
    const char *name[4] = {"full", "tied", "diag", "spherical"};
    llm_arena arena = test_arena(1 << 18);
    for (size_t s = 0; s < 8; s++) {
        const size_t n = shapes[s / 4][0], d = shapes[s / 4][1], K = shapes[s / 4][2];
        const float *x = golden("%zu/x", n), *start = golden("%zu/r", n);
        llm_unsupervised_gmm g =
            llm_unsupervised_gmm_init(K, d, (llm_unsupervised_shape)(s % 4), 1e-6, &arena);
        double *r = doubles(n * K), log_density = 0.0;
        float *log_p = floats(n);
        for (size_t i = 0; i < n * K; i++) r[i] = (double)start[i];
        const size_t mark = arena.used;
        CHECK(llm_unsupervised_gmm_fit(&g, &log_density, r, x, n, -1.0, 12, &arena) == 12);
        const double mean = llm_unsupervised_gmm_expect(NULL, log_p, &g, x, n, &arena);
        CHECK(arena.used == mark && mean == log_density);
        CHECK_GOLDEN(un_floats(g.weight, K), K, 1e-5f, "%zu/%s/weight", n, name[s % 4]);
        CHECK_GOLDEN(un_floats(g.mean, K * d), K * d, 1e-5f, "%zu/%s/mean", n, name[s % 4]);
        CHECK_GOLDEN(un_floats(g.S, K * d * d), K * d * d, 1e-5f, "%zu/%s/cov", n, name[s % 4]);
        CHECK_GOLDEN(log_p, n, 1e-5f, "%zu/%s/log_p", n, name[s % 4]);
        const float bic = (float)llm_unsupervised_gmm_bic(&g, log_density, n);
        CHECK_GOLDEN(&bic, 1, 1e-5f, "%zu/%s/bic", n, name[s % 4]);
    }
}

TEST(unsupervised,
     "likelihood never falls; BIC finds three blobs; their labels come back; draws are like them") {
    enum { N = 300, D = 2 };
    llm_arena arena = test_arena(1 << 18);
    for (size_t seed = 1; seed <= 3; seed++) {
        llm_rng rng = llm_rng_seed(seed);
        float x[N * D];
        int label[N], guess[N];
        double *r = doubles(N * 6), best = 1e300, table[9], density = 0.0;
        size_t chosen = 0;
        for (size_t i = 0; i < N; i++) {
            label[i] = (int)(i % 3);
            x[2 * i] = llm_rng_normal(&rng) + (label[i] == 1 ? 8.0f : 0.0f);
            x[2 * i + 1] = llm_rng_normal(&rng) + (label[i] == 2 ? 8.0f : 0.0f);
        }
        for (size_t K = 1; K <= 6; K++) {
            const size_t mark = arena.used;
            llm_unsupervised_gmm g =
                llm_unsupervised_gmm_init(K, D, LLM_UNSUPERVISED_FULL, 1e-6, &arena);
            double least = 1e300;
            for (int attempt = 0; attempt < 5; attempt++) {
                double before = -1e300;
                llm_unsupervised_gmm_start(r, x, N, D, K, &rng, &arena);
                for (int round = 0; round < 40; round++) {
                    CHECK(llm_unsupervised_gmm_fit(&g, &density, r, x, N, 0.0, 1, &arena) == 1);
                    CHECK(density >= before - 1e-9);
                    before = density;
                }
                const double bic = llm_unsupervised_gmm_bic(&g, density, N);
                if (bic >= least) continue;
                least = bic;
                if (K != 3) continue;
                for (size_t i = 0; i < N; i++) {
                    guess[i] = 0;
                    for (size_t k = 1; k < 3; k++)
                        if (r[3 * i + k] > r[3 * i + (size_t)guess[i]]) guess[i] = (int)k;
                }
                double sum[3] = {0, 0, 0}, sum_sq = 0.0, product = 0.0;
                for (size_t k = 0; k < 3; k++)
                    product += g.weight[k] * (g.S[4 * k + 1] + g.mean[2 * k] * g.mean[2 * k + 1]);
                for (size_t i = 0; i < 3000;
                     i++) { /* draws: a third each, the mixture's own mean */
                    float draw[2];
                    sum[2] += llm_unsupervised_gmm_sample(draw, &g, &rng) == 0 ? 1.0 / 3000 : 0.0;
                    sum[0] += (double)draw[0] / 3000, sum[1] += (double)draw[1] / 3000;
                    sum_sq += (double)draw[0] * (double)draw[1] / 3000;
                }
                CHECK_NEAR(sum[2], g.weight[0], 0.04);
                CHECK_NEAR(sum[0], 8.0 / 3.0, 0.4);
                CHECK_NEAR(sum[1], 8.0 / 3.0, 0.4);
                CHECK_NEAR(sum_sq, product, 0.6); /* 4 standard errors */
            }
            if (least < best) best = least, chosen = K;
            arena.used = mark;
        }
        CHECK(chosen == 3);
        llm_cluster_score_table(table, label, guess, N, 3, 3);
        CHECK(llm_cluster_score_ari(table, 3, 3) > 0.95);
    }
}

TEST(unsupervised,
     "a component on one point stays finite; points on a line without a floor are refused") {
    const float x[5] = {0, 0.1f, -0.1f, 0.2f, 50}, same[4] = {1, 1, 1, 1};
    const float line[8] = {0, 0, 1, 1, 3, 3, 7, 7};
    double r[10] = {1, 0, 1, 0, 1, 0, 1, 0, 0, 1}, density;
    llm_arena arena = test_arena(1 << 18);
    llm_unsupervised_gmm g = llm_unsupervised_gmm_init(2, 1, LLM_UNSUPERVISED_FULL, 1e-6, &arena);
    const size_t rounds = llm_unsupervised_gmm_fit(&g, &density, r, x, 5, 1e-9, 100, &arena);
    CHECK(rounds > 1 && rounds < 100 && isfinite(density));
    CHECK_NEAR(g.S[1], 1e-6, 1e-9);
    CHECK_NEAR(g.mean[1], 50.0, 1e-6);
    float far[1] = {1e6f}, log_p = NAN; /* all densities underflow, their logarithms do not */
    CHECK(isfinite(llm_unsupervised_gmm_expect(NULL, &log_p, &g, far, 1, &arena)) && log_p < -1e9f);

    g = llm_unsupervised_gmm_init(1, 2, LLM_UNSUPERVISED_FULL, 0.0, &arena);
    double one[4] = {1, 1, 1, 1};
    CHECK(llm_unsupervised_gmm_fit(&g, NULL, one, line, 4, 0, 10, &arena) == 0);
    llm_rng rng = llm_rng_seed(1);
    double start[8];
    llm_unsupervised_gmm_start(start, same, 4, 1, 2, &rng, &arena);
    for (size_t i = 0; i < 4; i++) CHECK(start[2 * i] + start[2 * i + 1] == 1.0);
    g = llm_unsupervised_gmm_init(1, 1, LLM_UNSUPERVISED_FULL, 1e-3, &arena);
    CHECK(llm_unsupervised_gmm_fit(&g, NULL, one, x, 4, 0.0, 5, &arena) == 5); /* gains 0 */
    CHECK(llm_unsupervised_gmm_fit(&g, NULL, one, x, 4, 1e-9, 5, &arena) == 2);
    CHECK_ASSERTS(llm_unsupervised_gmm_init(0, 1, LLM_UNSUPERVISED_FULL, 0, &arena));
    CHECK_ASSERTS(llm_unsupervised_gmm_init(1, 0, LLM_UNSUPERVISED_FULL, 0, &arena));
    CHECK_ASSERTS(llm_unsupervised_gmm_init(1, 1, LLM_UNSUPERVISED_FULL, -1, &arena));
    CHECK_ASSERTS(llm_unsupervised_gmm_start(start, same, 0, 1, 2, &rng, &arena));
}

TEST(unsupervised, "k-means++ starts with the definition's probabilities; draws have cov L L'") {
    enum { DRAWS = 20000 };
    const float x[6] = {0, 0, 0, 1, 2, 2}; /* three points in the plane */
    llm_arena arena = test_arena(1 << 18);
    llm_rng rng = llm_rng_seed(5);
    double r[6], want[8] = {0.0}, got[8] = {0.0}, chi2, df;
    for (size_t a = 0; a < 3; a++) /* all pairs of centres, and who belongs to the second */
        for (size_t b = 0; b < 3; b++) {
            double far[2][3], sum = 0.0;
            size_t pattern = 0;
            for (size_t i = 0; i < 3; i++) {
                far[0][i] = pow((double)(x[2 * i] - x[2 * a]), 2.0) +
                            pow((double)(x[2 * i + 1] - x[2 * a + 1]), 2.0);
                far[1][i] = pow((double)(x[2 * i] - x[2 * b]), 2.0) +
                            pow((double)(x[2 * i + 1] - x[2 * b + 1]), 2.0);
                sum += far[0][i];
                pattern = 2 * pattern + (far[1][i] < far[0][i]);
            }
            want[pattern] += far[0][b] / sum / 3.0;
        }
    for (size_t k = 0; k < DRAWS; k++) {
        const size_t mark = arena.used;
        llm_unsupervised_gmm_start(r, x, 3, 2, 2, &rng, &arena);
        CHECK(arena.used == mark);
        got[4 * (size_t)r[1] + 2 * (size_t)r[3] + (size_t)r[5]] += 1.0;
    }
    CHECK(llm_categorical_chi2test(&chi2, &df, got, want, 8, 0) > 0.001 && df > 2.0);

    llm_unsupervised_gmm g = llm_unsupervised_gmm_init(1, 2, LLM_UNSUPERVISED_FULL, 0, &arena);
    const double L[4] = {2.0, 0.0, 1.5, 0.5}, cov[3] = {4.0, 3.0, 2.5};
    double sum[3] = {0.0};
    g.weight[0] = 1.0, g.mean[0] = 10.0, g.mean[1] = -10.0;
    memcpy(g.L, L, sizeof L);
    float *alone = floats(1); /* a single point is its own centre */
    llm_unsupervised_gmm_start(r, alone, 1, 1, 1, &rng, &arena);
    CHECK(r[0] == 1.0);
    llm_unsupervised_gmm two = llm_unsupervised_gmm_init(3, 1, LLM_UNSUPERVISED_FULL, 0, &arena);
    double rare = 0.0, first = 0.0, square = 0.0; /* 0.1, 0.6 and 0.3; sd 1, 2, 3 */
    for (size_t k = 0; k < 3; k++) {
        two.weight[k] = k == 0 ? 0.1 : k == 1 ? 0.6 : 0.3;
        two.mean[k] = 0.0, two.L[k] = 1.0 + (double)k;
    }
    for (size_t k = 0; k < DRAWS; k++) {
        float v[2]; /* one number; gcc fears for the second */
        const size_t which = llm_unsupervised_gmm_sample(v, &two, &rng);
        rare += which == 0 ? 1.0 / DRAWS : 0.0, first += which == 1 ? 1.0 / DRAWS : 0.0;
        square += (double)v[0] * (double)v[0] / DRAWS;
    }
    CHECK_NEAR(rare, 0.1, 4.0 * 0.3 / sqrt(DRAWS));
    CHECK_NEAR(first, 0.6, 4.0 * 0.5 / sqrt(DRAWS));
    CHECK_NEAR(square, 0.1 + 2.4 + 2.7, 4.0 * 10.0 / sqrt(DRAWS));
    for (size_t k = 0; k < DRAWS; k++) {
        float v[2];
        CHECK(llm_unsupervised_gmm_sample(v, &g, &rng) == 0);
        const double a = (double)v[0] - 10.0, b = (double)v[1] + 10.0;
        sum[0] += a * a / DRAWS, sum[1] += a * b / DRAWS, sum[2] += b * b / DRAWS;
    }
    for (size_t k = 0; k < 3; k++) CHECK_NEAR(sum[k], cov[k], 4.0 * 6.0 / sqrt(DRAWS));
    g = llm_unsupervised_gmm_init(2, 2, LLM_UNSUPERVISED_FULL, 0, &arena);
    for (size_t k = 0; k < 8; k++) g.L[k] = k < 4 ? 1.0 : 0.0; /* the second one is a point */
    for (size_t k = 0; k < 4; k++) g.mean[k] = 5.0;
    g.weight[0] = 0.0, g.weight[1] = 1.0;
    float v[2];
    CHECK(llm_unsupervised_gmm_sample(v, &g, &rng) == 1 && v[0] == 5.0f && v[1] == 5.0f);
}

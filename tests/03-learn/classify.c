/* @classify */
#include "../test.h"

#include "../../llm.h"
#include "../arena.h"

TEST(classify,
     "linear, quadratic and shrunk discriminants equal scikit-learn's log probabilities") {
    const size_t shapes[3][3] = {{9, 1, 2}, {30, 3, 3}, {50, 2, 4}};
    llm_arena arena = test_arena(1 << 19);
    llm_error e;
    for (size_t s = 0; s < 3; s++) {
        const size_t n = shapes[s][0], d = shapes[s][1], K = shapes[s][2];
        const float *x = golden("%zu/x", n), *q = golden("%zu/q", n);
        const int *label = as_ints(golden("%zu/label", n), n);
        const char *name[3] = {"lda", "qda", "shrunk"};
        for (size_t way = 0; way < 3; way++) {
            llm_classify_model m;
            float *log_p = floats(5 * K);
            CHECK(llm_classify_fit(&m, x, label, n, d, K, way != 1, way == 2 ? 0.3 : 0.0, &arena,
                                   &e));
            const size_t mark = arena.used;
            llm_classify_log_proba(log_p, &m, q, 5, &arena);
            CHECK(arena.used == mark);
            CHECK_GOLDEN(log_p, 5 * K, 2e-6f, "%zu/%s", n, name[way]);
        }
        double *rows = doubles(n * d), *S = doubles(d * d);
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < d; j++) {
                double mean = 0.0, count = 0.0;
                for (size_t r = 0; r < n; r++)
                    if (label[r] == label[i]) mean += (double)x[r * d + j], count += 1.0;
                rows[i * d + j] = (double)x[i * d + j] - mean / count;
            }
        llm_classify_covariance(S, rows, n, d, 0.0);
        const float g = (float)llm_classify_shrinkage(rows, S, n, d);
        if (d > 1) CHECK_GOLDEN(&g, 1, 1e-6f, "%zu/shrinkage", n);
    }
}

TEST(classify, "the shrinkage of correlated columns equals scikit-learn's") {
    enum { N = 60, D = 3 };
    const float *x = golden("lw/x");
    double rows[N * D], S[D * D], shrunk[D * D], trace = 0.0;
    for (size_t i = 0; i < N * D; i++) rows[i] = (double)x[i];
    llm_classify_covariance(S, rows, N, D, 0.0);
    const double g = llm_classify_shrinkage(rows, S, N, D);
    for (size_t i = 0; i < N * D; i++) rows[i] *= 0.0078125; /* the unit does not matter */
    llm_classify_covariance(shrunk, rows, N, D, 0.0);
    CHECK_NEAR(llm_classify_shrinkage(rows, shrunk, N, D), g, 1e-12);
    for (size_t i = 0; i < N * D; i++) rows[i] *= 128.0;
    const float got = (float)g;
    CHECK_GOLDEN(&got, 1, 1e-6f, "lw/g");
    CHECK(g > 0.0 && g < 0.5);
    llm_classify_covariance(shrunk, rows, N, D, -1.0);
    for (size_t j = 0; j < D; j++) trace += S[j * D + j] / D;
    for (size_t k = 0; k < D * D; k++)
        CHECK_NEAR(shrunk[k], (1.0 - g) * S[k] + (k % (D + 1) == 0 ? g * trace : 0.0), 1e-12);
}

TEST(classify, "the linear boundary is S^-1 (m1 - m0), halfway between the means") {
    enum { N = 40, D = 2 };
    llm_rng rng = llm_rng_seed(1);
    llm_arena arena = test_arena(1 << 19);
    llm_error e;
    llm_classify_model m;
    float x[N * D], log_p[2];
    int label[N];
    for (size_t i = 0; i < N; i++) {
        label[i] = (int)(i % 2);
        x[2 * i] = llm_rng_normal(&rng) + 2.0f * (float)label[i];
        x[2 * i + 1] = 0.5f * x[2 * i] + llm_rng_normal(&rng);
    }
    const size_t before = arena.used;
    CHECK(llm_classify_fit(&m, x, label, N / 2, D, 2, true, 0.0, &arena, &e));
    const size_t after = arena.used; /* the model stays, the rows do not */
    CHECK(llm_classify_fit(&m, x, label, N, D, 2, true, 0.0, &arena, &e));
    CHECK(arena.used - after == after - before);
    CHECK(m.log_prior[0] == log(0.5) && m.log_prior[1] == log(0.5));
    double w[2] = {m.mean[2] - m.mean[0], m.mean[3] - m.mean[1]};
    llm_cholesky_solve(w, m.L, D, 1);
    for (double along = -2.0; along <= 2.0; along += 0.5) {
        const float at[2] = {(float)(0.5 * (m.mean[0] + m.mean[2]) - along * w[1]),
                             (float)(0.5 * (m.mean[1] + m.mean[3]) + along * w[0])};
        llm_classify_log_proba(log_p, &m, at, 1, &arena);
        CHECK_NEAR(log_p[0], log_p[1], 1e-5);
        CHECK_NEAR(log_p[0], log(0.5), 1e-5);
    }
}

TEST(classify, "the error on two Gaussians is Phi(-distance/2), and rejecting lowers it") {
    enum { N = 4000, M = 20000, D = 2 };
    llm_arena arena = test_arena(1 << 19);
    llm_rng rng = llm_rng_seed(2);
    llm_error e;
    llm_classify_model m;
    float *x = floats(M * D), *log_p = floats(M * 2), *p = floats(M * 2);
    int *label = (int *)test_memory(M, sizeof(int)), *action = (int *)test_memory(M, sizeof(int));
    for (int fresh = 0; fresh < 2; fresh++) {
        for (size_t i = 0; i < M; i++) {
            label[i] = (int)llm_rng_below(&rng, 2);
            x[2 * i] = llm_rng_normal(&rng) + (label[i] ? 1.2f : 0.0f);
            x[2 * i + 1] = 0.8f * x[2 * i] + 0.6f * llm_rng_normal(&rng);
        }
        if (!fresh) CHECK(llm_classify_fit(&m, x, label, N, D, 2, true, -1.0, &arena, &e));
    }
    const double L[4] = {1.0, 0.0, 0.8, 0.6};
    double delta[2] = {1.2, 0.96}; /* the first column carries all of it */
    const double bayes = llm_classify_bayes_error(delta, L, 2);
    CHECK_NEAR(bayes, 0.5 * erfc(0.6 / sqrt(2.0)), 1e-12);
    llm_classify_log_proba(log_p, &m, x, M, &arena);
    for (size_t i = 0; i < 2 * M; i++) p[i] = expf(log_p[i]);
    double before = 1.0;
    for (int level = 0; level < 4; level++) {
        const float reject = 0.5f - 0.1f * (float)level;
        const float cost[6] = {0, 1, 1, 0, reject, reject};
        size_t wrong = 0, kept = 0;
        double risk;
        llm_classify_decide(action, &risk, p, cost, M, 2, 3);
        for (size_t i = 0; i < M; i++)
            kept += action[i] < 2, wrong += action[i] < 2 && action[i] != label[i];
        const double error = (double)wrong / (double)kept;
        if (level == 0) {
            CHECK(kept == M);
            CHECK_NEAR(error, bayes, 3.0 * sqrt(bayes * (1.0 - bayes) / M) + 0.002);
            CHECK_NEAR(risk, error, 0.01);
        }
        CHECK(error < before && kept > M / 10);
        before = error - 0.01;
    }
}

TEST(classify, "decisions: costs 10 to 1 cut at 1/11; ties; what has no answer is an error") {
    const float cost[4] = {0, 10, 1, 0}; /* calling a positive negative costs 10 */
    const float p[6] = {0.9f, 0.1f, 0.92f, 0.08f, 10.0f / 11.0f, 1.0f / 11.0f};
    int action[3];
    double risk;
    llm_classify_decide(action, &risk, p, cost, 2, 2, 2);
    CHECK(action[0] == 1 && action[1] == 0);
    CHECK_NEAR(risk, (0.9 + 0.8) / 2.0, 1e-6);
    const float same[2] = {1, 1}, unknown[2] = {NAN, NAN};
    llm_classify_decide(action, NULL, p, same, 1, 1, 2);
    CHECK(action[0] == 0);
    action[0] = 5, risk = 7.0;
    llm_classify_decide(action, &risk, p, cost, 1, 2, 1); /* one action */
    CHECK(action[0] == 0);
    CHECK_NEAR(risk, 1.0, 1e-6);
    action[0] = 5;
    llm_classify_decide(action, NULL, unknown, cost, 1, 2, 2);
    CHECK(action[0] == 0);
    CHECK_ASSERTS(llm_classify_decide(action, NULL, p, same, 1, 1, 0));

    llm_arena arena = test_arena(1 << 19);
    llm_error e;
    llm_classify_model m;
    const float x[8] = {0, 0, 1, 1, 5, 6, 7, 9};
    const int label[4] = {0, 0, 1, 1}, gap[4] = {0, 0, 2, 2}, high[4] = {0, 0, 1, 2},
              low[4] = {0, -1, 1, 1}, first[4] = {2, 0, 1, 1};
    CHECK_FAILS(llm_classify_fit(&m, x, gap, 4, 2, 3, true, 0, &arena, &e), e,
                "class 1 has no example");
    CHECK_FAILS(llm_classify_fit(&m, x, label, 4, 2, 2, false, 0, &arena, &e), e,
                "class 0 is singular: 2 examples, 2 columns");
    CHECK(llm_classify_fit(&m, x, label, 4, 2, 2, false, 0.1, &arena, &e));
    const float line[8] = {0, 0, 1, 1, 5, 5, 7, 7};
    CHECK_FAILS(llm_classify_fit(&m, line, label, 4, 2, 2, true, 0, &arena, &e), e,
                "within classes is singular");
    CHECK(llm_classify_fit(&m, line, label, 4, 2, 2, true, -1, &arena, &e));
    CHECK_ASSERTS(llm_classify_fit(&m, x, high, 4, 2, 2, true, 0, &arena, &e));
    CHECK_ASSERTS(llm_classify_fit(&m, x, low, 4, 2, 2, true, 0, &arena, &e));
    CHECK_ASSERTS(llm_classify_fit(&m, x, first, 4, 2, 2, true, 0, &arena, &e));
    CHECK(llm_classify_fit(&m, line, label, 4, 2, 2, true, 1.0, &arena, &e));
    CHECK_ASSERTS(llm_classify_fit(&m, x, label, 4, 2, 2, true, 1.1, &arena, &e));
    const double round[6] = {1, 0, -1, 0, 0, 0}, zero[1] = {0};
    double S[4];
    llm_classify_covariance(S, round, 3, 2, 1.0); /* all shrunk: a ball */
    CHECK_NEAR(S[0], 1.0 / 3.0, 1e-12);
    CHECK(S[0] == S[3] && S[1] == 0.0);
    CHECK(llm_classify_shrinkage(zero, zero, 1, 1) == 1.0);
}

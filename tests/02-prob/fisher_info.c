/* @fisher_info */
#include "../test.h"

#include "../../llm.h"

enum { N = 6, K = 3, D = 2, P = K * D };

typedef struct {
    float x[N * D], w[P], p[N * K], s[P];
} fisher_info_model;

static void fisher_info_predict(float *p, const float *w, const float *x) {
    float z[N * K];
    for (size_t i = 0; i < N * K; i++) {
        z[i] = 0.0f;
        for (size_t d = 0; d < D; d++) z[i] += w[i % K * D + d] * x[i / K * D + d];
    }
    llm_softmax_forward(p, z, N, K, 1.0f);
}

static fisher_info_model fisher_info_make(uint64_t seed) {
    fisher_info_model m;
    llm_rng rng = llm_rng_seed(seed);
    llm_rng_normal_fill(&rng, m.x, N * D);
    llm_rng_normal_fill(&rng, m.w, P);
    fisher_info_predict(m.p, m.w, m.x);
    return m;
}

TEST(fisher_info,
     "the score is a gradient; exact equals the Kronecker form, minus the Hessian, and J'HJ") {
    fisher_info_model m = fisher_info_make(1);
    double F[P * P], v[P], Fv[P], diag[P], u[K];
    llm_fisher_info_exact(F, m.p, m.x, N, K, D, m.s);
    for (size_t a = 0; a < P; a++)
        for (size_t b = 0; b < P; b++) {
            double sum = 0.0;
            for (size_t i = 0; i < N; i++) {
                const double pa = (double)m.p[i * K + a / D], pb = (double)m.p[i * K + b / D];
                sum += (pa * (a / D == b / D ? 1.0 : 0.0) - pa * pb) *
                       (double)(m.x[i * D + a % D] * m.x[i * D + b % D]) / N;
            }
            CHECK_NEAR(F[a * P + b], sum, 1e-7);
        }
    for (size_t b = 0; b < P; b++) { /* column b, and the slope of the mean gradient of the loss */
        for (size_t a = 0; a < P; a++) v[a] = a == b ? 1.0 : 0.0;
        llm_fisher_info_vector(Fv, diag, v, m.p, m.x, N, K, D, u);
        fisher_info_model up = m, down = m;
        up.w[b] += 0.01f, down.w[b] -= 0.01f;
        fisher_info_predict(up.p, up.w, up.x), fisher_info_predict(down.p, down.w, down.x);
        for (size_t a = 0; a < P; a++) {
            double slope = 0.0; /* of sum_i p_k x_d: the label's part does not move */
            for (size_t i = 0; i < N; i++)
                slope +=
                    (double)((up.p[i * K + a / D] - down.p[i * K + a / D]) * m.x[i * D + a % D]) /
                    0.02 / N;
            CHECK_NEAR(Fv[a], F[a * P + b], 1e-7);
            CHECK_NEAR(F[a * P + b], slope, 1e-4);
        }
        CHECK_NEAR(diag[b], F[b * P + b], 1e-7);
    }
    llm_fisher_info_vector(Fv, NULL, v, m.p, m.x, N, K, D, u);
    CHECK_NEAR(Fv[P - 1], diag[P - 1], 1e-7);
    CHECK_ASSERTS(llm_fisher_info_score(m.s, m.p, m.x, K, K, D));
}

TEST(fisher_info, "KL is half the quadratic form within 1% for steps of 0.01; never negative") {
    fisher_info_model m = fisher_info_make(2);
    double F[P * P], d[P];
    llm_fisher_info_exact(F, m.p, m.x, N, K, D, m.s);
    llm_rng rng = llm_rng_seed(3);
    for (size_t r = 0; r < 20; r++) {
        double norm = 0.0, form = 0.0, kl = 0.0;
        for (size_t a = 0; a < P; a++) d[a] = (double)llm_rng_normal(&rng), norm += d[a] * d[a];
        for (size_t a = 0; a < P; a++) d[a] *= 0.01 / sqrt(norm);
        for (size_t a = 0; a < P * P; a++) form += d[a / P] * F[a] * d[a % P];
        for (size_t i = 0; i < N; i++) { /* in double: the differences are of order 1e-5 */
            double z[2][K], lse[2] = {0.0, 0.0};
            for (size_t k = 0; k < K; k++)
                for (size_t t = 0; t < 2; t++) {
                    z[t][k] = 0.0;
                    for (size_t c = 0; c < D; c++)
                        z[t][k] += ((double)m.w[k * D + c] + (t ? d[k * D + c] : 0.0)) *
                                   (double)m.x[i * D + c];
                    lse[t] += exp(z[t][k]);
                }
            for (size_t k = 0; k < K; k++)
                kl += exp(z[0][k]) / lse[0] * (z[0][k] - z[1][k] - log(lse[0]) + log(lse[1])) / N;
        }
        CHECK(form >= 0.0);
        CHECK_NEAR(0.5 * form / kl, 1.0, 0.01);
    }
}

TEST(fisher_info,
     "drawn labels give the exact matrix, the data's labels another one when the model misfits") {
    fisher_info_model m = fisher_info_make(4);
    double F[P * P], mc[P * P], empirical[P * P], size = 0.0, off = 0.0, far = 0.0;
    llm_rng rng = llm_rng_seed(5);
    int label[N], wrong[1] = {-1};
    for (size_t i = 0; i < N; i++) { /* the least likely label */
        label[i] = 0;
        for (size_t k = 1; k < K; k++)
            label[i] = m.p[i * K + k] < m.p[i * K + (size_t)label[i]] ? (int)k : label[i];
    }
    for (size_t i = 0; i < P * P; i++) F[i] = mc[i] = empirical[i] = (double)NAN; /* not read */
    llm_fisher_info_exact(F, m.p, m.x, N, K, D, m.s);
    llm_fisher_info_mc(mc, m.p, m.x, N, K, D, 5000, &rng, m.s);
    llm_fisher_info_empirical(empirical, m.p, m.x, label, N, K, D, m.s);
    for (size_t i = 0; i < P * P; i++) {
        size += F[i] * F[i];
        off += (mc[i] - F[i]) * (mc[i] - F[i]);
        far += (empirical[i] - F[i]) * (empirical[i] - F[i]);
    }
    CHECK(sqrt(off / size) < 0.05);
    CHECK(sqrt(far / size) > 0.2);
    for (size_t a = 0; a < P; a++) { /* by hand: the mean of products of scores */
        double sum = 0.0;
        for (size_t i = 0; i < N; i++) {
            llm_fisher_info_score(m.s, m.p + i * K, m.x + i * D, (size_t)label[i], K, D);
            CHECK_NEAR(m.s[0], ((label[i] == 0 ? 1.0f : 0.0f) - m.p[i * K]) * m.x[i * D], 1e-7);
            sum += (double)(m.s[a] * m.s[1]) / N;
        }
        CHECK_NEAR(empirical[a * P + 1], sum, 1e-6);
    }
    CHECK_ASSERTS(llm_fisher_info_empirical(empirical, m.p, m.x, wrong, 1, K, D, m.s));
}

TEST(fisher_info, "drawn labels: by inversion, each weighs the same, the last takes what is left") {
    const float even[2] = {0.5f, 0.5f}, x[1] = {2.0f}, none[2] = {0.0f, 0.0f};
    const float four[8] = {0, 0, 0, 1, 0.25f, 0.25f, 0.25f, 0.25f}, two[4] = {1, 2, 3, 4};
    float s[4];
    double F[16];
    for (uint64_t seed = 1; seed <= 20; seed++) {
        llm_rng rng = llm_rng_seed(seed), same = rng;
        llm_fisher_info_mc(F, even, x, 1, 2, 1, 1 + seed % 3, &rng, s); /* either label: the same */
        CHECK(fabs(F[0] - 1.0) < 1e-12 && fabs(F[1] + 1.0) < 1e-12 && fabs(F[3] - 1.0) < 1e-12);
        llm_fisher_info_mc(F, none, x, 1, 2, 1, 1, &rng, s);
        CHECK(F[0] == 0.0 && F[1] == 0.0 && F[3] == 4.0);
        rng = same;
        llm_fisher_info_mc(F, four + 4, x, 1, 4, 1, 1, &rng, s);
        const size_t y = (size_t)(4.0f * llm_rng_uniform(&same));
        for (size_t k = 0; k < 4; k++) CHECK(F[5 * k] == (k == y ? 2.25 : 0.25));
    }
    for (size_t i = 0; i < 4; i++) F[i] = 100.0;
    llm_fisher_info_accumulate(F, two, 2, 2, 0.5); /* adds (1,2) and (3,4) */
    CHECK(F[0] == 105.0 && F[1] == 107.0 && F[2] == 107.0 && F[3] == 110.0);
}

TEST(fisher_info, "closed forms: scores of normal and Bernoulli draws; a change of parameters; the "
                  "Rao distance") {
    enum { DRAWS = 40000 };
    const llm_distribution d = {LLM_DISTRIBUTION_NORMAL, 0, 0, 1, 2};
    llm_rng rng = llm_rng_seed(6);
    double F[4] = {0.0, 0.0, 0.0, 0.0}, G[4];
    for (size_t i = 0; i < DRAWS; i++) {
        const float x = (float)llm_distribution_sample(&d, &rng);
        double score[4];
        llm_log_likelihood_score(score, &d, &x, NULL, 1);
        const float s[2] = {(float)score[0], (float)score[1]};
        llm_fisher_info_accumulate(F, s, 1, 2, 1.0 / DRAWS);
    }
    CHECK_NEAR(F[0], 0.25, 0.01); /* 1/s^2, 2/s^2 */
    CHECK_NEAR(F[3], 0.5, 0.03);
    CHECK_NEAR(F[1], 0.0, 0.02);
    CHECK(F[1] == F[2]);
    /* Bernoulli: 1/(p(1-p)) in p; in logits dp/dz = p(1-p) */
    const double p = 0.3, in_p = 1.0 / (p * (1.0 - p)), slope = p * (1.0 - p);
    llm_fisher_info_transform(G, &in_p, &slope, 1, 1);
    CHECK_NEAR(G[0], p * (1.0 - p), 1e-15);
    const double exact[4] = {0.25, 0.0, 0.0, 0.5}, J[4] = {1.0, 2.0, 0.5, -1.0}, J1[2] = {1.0, 2.0};
    llm_fisher_info_transform(G, exact, J, 2, 2);
    CHECK_NEAR(G[0], 0.25 + 0.125, 1e-15);
    CHECK_NEAR(G[1], 0.5 - 0.25, 1e-15);
    CHECK_NEAR(G[2], G[1], 1e-15);
    CHECK_NEAR(G[3], 1.0 + 0.5, 1e-15);
    llm_fisher_info_transform(G, exact, J1, 2, 1);
    CHECK_NEAR(G[0], 0.25 + 2.0, 1e-15);
    /* along s alone the metric is sqrt(2) ds/s; a small step is sqrt(d'Fd) */
    CHECK_NEAR(llm_fisher_info_rao(3.0, 1.0, 3.0, 5.0), sqrt(2.0) * log(5.0), 1e-12);
    CHECK_NEAR(llm_fisher_info_rao(1.0, 2.0, 1.002, 2.001) / sqrt(4e-6 / 4.0 + 2e-6 / 4.0), 1.0,
               1e-3);
    CHECK(llm_fisher_info_rao(1.0, 2.0, 1.0, 2.0) == 0.0);
    CHECK_NEAR(llm_fisher_info_rao(0.0, 1.0, 4.0, 3.0), llm_fisher_info_rao(4.0, 3.0, 0.0, 1.0),
               1e-12);
    CHECK(llm_fisher_info_rao(0, 1, 5, 1) <
          llm_fisher_info_rao(0, 1, 2, 3) + llm_fisher_info_rao(2, 3, 5, 1));
    CHECK_NEAR(llm_fisher_info_rao(0, 1, 2, 2) + llm_fisher_info_rao(2, 2, 5, 1),
               llm_fisher_info_rao(0, 1, 5, 1), 1e-12); /* (2, 2) lies on the shortest path */
    CHECK_ASSERTS(llm_fisher_info_rao(0.0, 0.0, 1.0, 1.0));
    CHECK_ASSERTS(llm_fisher_info_rao(0.0, 1.0, 1.0, 0.0));
}

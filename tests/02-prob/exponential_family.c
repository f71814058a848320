/* @exponential_family */
#include "../test.h"

#include "../../llm.h"

enum { CASES = 6 };
/* Each family at two points. */
static const double exponential_family_eta[CASES][2][3] = {
    {{0.7, 0, 0}, {-2.0, 0, 0}},       {{1.2, 0, 0}, {-0.5, 0, 0}},
    {{-0.5, 0, 0}, {-3.0, 0, 0}},      {{1.5, -2, 0}, {-0.6, -0.3, 0}},
    {{0.8, -0.4, 0}, {-3.0, -2.0, 0}}, {{0.3, -1.0, 2.0}, {0, 0, 0}}};

static llm_exponential_family exponential_family_case(size_t c) {
    return llm_exponential_family_of((int)c, 4);
}

/* The same law from @distribution and @categorical. */
static double exponential_family_direct(size_t c, const double *eta, double x) {
    llm_distribution d = {LLM_DISTRIBUTION_EXPONENTIAL, 0, 0, 0, -1.0 / eta[0]};
    llm_categorical_law law = {LLM_CATEGORICAL_BINOMIAL, 1, 1.0 / (1.0 + exp(-eta[0]))};
    double sum = 1.0;
    if (c == 0) return llm_categorical_logpmf(&law, x);
    law.kind = LLM_CATEGORICAL_POISSON, law.n = exp(eta[0]);
    if (c == 1) return llm_categorical_logpmf(&law, x);
    if (c == 3) d.kind = LLM_DISTRIBUTION_GAMMA, d.a = eta[0] + 1.0, d.scale = -1.0 / eta[1];
    if (c == 4) {
        d.kind = LLM_DISTRIBUTION_NORMAL;
        d.loc = -0.5 * eta[0] / eta[1], d.scale = sqrt(-0.5 / eta[1]);
    }
    if (c != 5) return llm_distribution_logpdf(&d, x);
    for (size_t k = 0; k < 3; k++) sum += exp(eta[k]);
    return x == 0.0                              ? -log(sum)
           : x > 0.0 && x < 4.0 && x == floor(x) ? eta[(size_t)x - 1] - log(sum)
                                                 : -(double)INFINITY;
}

TEST(exponential_family, "log densities equal the direct ones; nothing outside the support") {
    for (size_t c = 0; c < CASES; c++)
        for (size_t p = 0; p < 2; p++)
            for (double x = -1.5; x < 6.0; x += 0.5) {
                if ((c == 2 || c == 3) && x == 0.0)
                    continue; /* the border of the support: a matter of taste */
                const double *eta = exponential_family_eta[c][p];
                const double got =
                    llm_exponential_family_logpdf(exponential_family_case(c), eta, x);
                CHECK_NEAR(got, exponential_family_direct(c, eta, x), 1e-12);
            }
}

TEST(exponential_family,
     "A' and A'' equal finite differences, Monte Carlo mean and variance of T") {
    const double t = 1e-5;
    for (size_t c = 0; c < CASES; c++)
        for (size_t p = 0; p < 2; p++) {
            const llm_exponential_family f = exponential_family_case(c);
            double eta[3], mean[3], fisher[9], up[3], down[3];
            memcpy(eta, exponential_family_eta[c][p], sizeof eta);
            llm_exponential_family_partition(mean, fisher, f, eta);
            for (size_t k = 0; k < f.dim; k++) {
                const double kept = eta[k];
                eta[k] = kept + t;
                const double above = llm_exponential_family_partition(up, NULL, f, eta);
                eta[k] = kept - t;
                const double below = llm_exponential_family_partition(down, NULL, f, eta);
                eta[k] = kept;
                CHECK_NEAR(mean[k], (above - below) / (2.0 * t), 1e-7 * (1.0 + fabs(mean[k])));
                for (size_t j = 0; j < f.dim; j++) {
                    const double slope = (up[j] - down[j]) / (2.0 * t);
                    CHECK_NEAR(fisher[j * f.dim + k], slope, 1e-6 * (1.0 + fabs(slope)));
                }
            }
        }
    enum { N = 20000 };
    llm_rng rng = llm_rng_seed(1);
    const llm_exponential_family f = exponential_family_case(3);
    const double eta[2] = {1.5, -2.0};
    const llm_distribution d = {LLM_DISTRIBUTION_GAMMA, 2.5, 0, 0, 0.5};
    double mean[2], fisher[4], sum[2] = {0.0}, cross = 0.0, T[2];
    llm_exponential_family_partition(mean, fisher, f, eta);
    for (size_t i = 0; i < N; i++) {
        llm_exponential_family_statistic(T, f, llm_distribution_sample(&d, &rng));
        for (size_t k = 0; k < 2; k++) sum[k] += T[k] / N;
        cross += (T[0] - mean[0]) * (T[1] - mean[1]) / N;
    }
    for (size_t k = 0; k < 2; k++) CHECK_NEAR(sum[k], mean[k], 4.0 * sqrt(fisher[3 * k] / N));
    CHECK_NEAR(cross, fisher[1], 0.03 * fisher[1]);
}

TEST(exponential_family, "KL as a gap of A equals closed forms and sums") {
    const double gauss[2][2] = {{1.0 / 4.0, -0.125}, {-0.5, -0.5}}; /* N(1,4), N(-0.5,1) */
    const double kl = llm_exponential_family_kl(exponential_family_case(4), gauss[0], gauss[1]);
    CHECK_NEAR(kl, 0.5 * (4.0 + 2.25 - 1.0 - log(4.0)), 1e-12);
    const double rate[2] = {log(3.0), log(5.0)};
    CHECK_NEAR(llm_exponential_family_kl(exponential_family_case(1), &rate[0], &rate[1]),
               3.0 * log(3.0 / 5.0) + 2.0, 1e-12);
    for (size_t c = 0; c < CASES; c += 5) { /* Bernoulli and categorical: sum over outcomes */
        const double *a = exponential_family_eta[c][0], *b = exponential_family_eta[c][1];
        const llm_exponential_family f = exponential_family_case(c);
        double sum = 0.0;
        for (double x = 0.0; x < 4.0; x += 1.0) {
            const double la = llm_exponential_family_logpdf(f, a, x);
            if (la > -1e300) sum += exp(la) * (la - llm_exponential_family_logpdf(f, b, x));
        }
        CHECK_NEAR(llm_exponential_family_kl(f, a, b), sum, 1e-12);
        CHECK(llm_exponential_family_kl(f, a, a) == 0.0 &&
              llm_exponential_family_kl(f, b, a) > 0.0);
    }
}

TEST(exponential_family,
     "a fit gives the mean back, weighted and in chunks; the gamma equals @mle") {
    for (size_t c = 0; c < CASES; c++) {
        const llm_exponential_family f = exponential_family_case(c);
        double mean[3], eta[3], again[3];
        llm_exponential_family_partition(mean, NULL, f, exponential_family_eta[c][0]);
        memcpy(eta, exponential_family_eta[c][1], sizeof eta);
        CHECK(llm_exponential_family_fit(eta, f, mean));
        llm_exponential_family_partition(again, NULL, f, eta);
        for (size_t k = 0; k < f.dim; k++) {
            CHECK_NEAR(eta[k], exponential_family_eta[c][0][k], 1e-8);
            CHECK_NEAR(again[k], mean[k], 1e-10);
        }
    }
    const float x[6] = {0.5f, 1.2f, 3.0f, 0.1f, 2.2f, NAN},
                w[6] = {1.0f, 2.0f, 1.0f, 1.0f, 1.0f, 0.0f};
    const float plain[6] = {0.5f, 1.2f, 1.2f, 3.0f, 0.1f, 2.2f};
    const llm_exponential_family f = exponential_family_case(3);
    double whole[2] = {0.0, 0.0}, parts[2] = {0.0, 0.0}, n, eta[2] = {0.0, -1.0}, theta[2] = {1, 1};
    n = llm_exponential_family_accumulate(whole, f, x, w, 6);
    CHECK(n == 6.0);
    n = llm_exponential_family_accumulate(parts, f, plain, NULL, 2);
    n += llm_exponential_family_accumulate(parts, f, plain + 2, NULL, 4);
    CHECK(n == 6.0);
    for (size_t k = 0; k < 2; k++) {
        CHECK_NEAR(parts[k], whole[k], 1e-12);
        whole[k] /= n;
    }
    CHECK(llm_exponential_family_fit(eta, f, whole));
    llm_mle_newton(theta, NULL, LLM_MLE_GAMMA, plain, NULL, 6);
    CHECK_NEAR(eta[0] + 1.0, theta[0], 1e-7);
    CHECK_NEAR(-1.0 / eta[1], theta[1], 1e-7);
}

TEST(exponential_family, "far logits, forbidden eta, means without eta, too many classes") {
    const double far[2] = {800.0, -800.0}, wrong[2] = {1.0, 0.5}, border[1] = {1.0};
    const double zero[2] = {0.0, 0.0}, low[2] = {-1.0, -1.0};
    double mean[3], fisher[9], eta[1] = {0.0};
    const llm_exponential_family bernoulli = exponential_family_case(0);
    CHECK(llm_exponential_family_partition(mean, fisher, bernoulli, &far[0]) == 800.0);
    CHECK(mean[0] == 1.0 && fisher[0] >= 0.0 && fisher[0] < 1e-300);
    CHECK(llm_exponential_family_partition(mean, fisher, bernoulli, &far[1]) < 1e-300);
    const double many[3] = {1000.0, 999.0, -1000.0};
    CHECK_NEAR(llm_exponential_family_partition(mean, fisher, exponential_family_case(5), many),
               1000.0 + log1p(exp(-1.0)), 1e-10);
    CHECK(llm_exponential_family_partition(mean, fisher, exponential_family_case(2), wrong) ==
          (double)INFINITY);
    CHECK(llm_exponential_family_partition(mean, fisher, exponential_family_case(2), wrong + 1) ==
          (double)INFINITY);
    CHECK(llm_exponential_family_partition(mean, fisher, exponential_family_case(2), zero) ==
          (double)INFINITY);
    CHECK(llm_exponential_family_partition(mean, fisher, exponential_family_case(3), wrong) ==
          (double)INFINITY);
    CHECK(llm_exponential_family_partition(mean, fisher, exponential_family_case(3), low) ==
          (double)INFINITY);
    CHECK(llm_exponential_family_partition(mean, fisher, exponential_family_case(4), zero) ==
          (double)INFINITY);
    CHECK(!llm_exponential_family_fit(eta, bernoulli, border)); /* all ones */
    double start[1] = {800.0}, T[2]; /* so far out that the curvature is 0 */
    const double half[1] = {0.5};
    CHECK(!llm_exponential_family_fit(start, bernoulli, half));
    CHECK(llm_exponential_family_statistic(T, exponential_family_case(2), 0.0) == 0.0);
    CHECK(llm_exponential_family_statistic(T, exponential_family_case(3), 0.0) ==
          -(double)INFINITY);
    const double even[32] = {0.0};
    const llm_exponential_family most =
        llm_exponential_family_of(LLM_EXPONENTIAL_FAMILY_CATEGORICAL, 33);
    CHECK_NEAR(llm_exponential_family_logpdf(most, even, 32.0), -log(33.0), 1e-14);
    CHECK(!llm_exponential_family_fit(eta, exponential_family_case(1), zero));
    CHECK(!llm_exponential_family_fit(eta, exponential_family_case(2), low));
    double two[3] = {0.5, -1.0, 0.0};
    const double equal[2] = {log(2.0), 2.0}, flat[2] = {2.0, 4.0}, all[3] = {0.5, 0.3, 0.2};
    const double none[3] = {0.5, 0.0, 0.2};
    CHECK(!llm_exponential_family_fit(two, exponential_family_case(3), equal));
    CHECK(!llm_exponential_family_fit(two, exponential_family_case(4), flat));
    CHECK(!llm_exponential_family_fit(two, exponential_family_case(5), all));
    CHECK(!llm_exponential_family_fit(two, exponential_family_case(5), none));
    CHECK(two[0] == 0.5 && eta[0] == 0.0);
    CHECK_ASSERTS(llm_exponential_family_of(LLM_EXPONENTIAL_FAMILY_CATEGORICAL, 34));
    CHECK_ASSERTS(llm_exponential_family_of(LLM_EXPONENTIAL_FAMILY_CATEGORICAL, 1));
    CHECK(llm_exponential_family_of(LLM_EXPONENTIAL_FAMILY_CATEGORICAL, 33).dim == 32);
}

TEST(exponential_family, "large parameters do not overflow, far means are found") {
    const llm_exponential_family three =
        llm_exponential_family_of(LLM_EXPONENTIAL_FAMILY_CATEGORICAL, 3);
    const llm_exponential_family poisson =
        llm_exponential_family_of(LLM_EXPONENTIAL_FAMILY_POISSON, 0);
    const double large[2] = {1000.0, 0.0}, means[4] = {1e-6, 0.01, 1000.0, 1e6};
    double mean[2], eta[1];
    CHECK_NEAR(llm_exponential_family_partition(mean, NULL, three, large), 1000.0, 1e-12);
    CHECK(mean[0] == 1.0 && mean[1] == 0.0);
    for (size_t k = 0; k < 4; k++) {
        CHECK(llm_exponential_family_fit(eta, poisson, &means[k]));
        CHECK_NEAR(eta[0], log(means[k]), 1e-8);
    }
}

/* @exponential_family_glm */
#include "../test.h"

#include "../../llm.h"

static llm_arena exponential_family_glm_arena(void) {
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 1 << 13));
    return arena;
}

TEST(exponential_family_glm,
     "coefficients and standard errors equal statsmodels', offsets, weights") {
    llm_arena arena = exponential_family_glm_arena();
    const char *name[3] = {"poisson", "binomial", "one"};
    for (size_t c = 0; c < 3; c++) {
        size_t n = 0, D = 0;
        const float *X = golden("%s/X", name[c]), *y = golden_n(&n, "%s/y", name[c]);
        const int kind = c == 1 ? LLM_EXPONENTIAL_FAMILY_BERNOULLI : LLM_EXPONENTIAL_FAMILY_POISSON;
        for (int all = 0; all < 2; all++) {
            golden_n(&D, "%s%s/beta", name[c], all ? "_all" : "");
            double beta[3] = {(double)NAN, (double)NAN, (double)NAN}, se[3]; /* not read */
            float got[3], got_se[3];
            const double l = llm_exponential_family_glm(
                beta, se, kind, X, y, all ? golden("%s/w", name[c]) : NULL,
                all ? golden("%s/offset", name[c]) : NULL, n, D, 0.0, &arena);
            CHECK(!isnan(l) && arena.used == 0);
            for (size_t j = 0; j < D; j++) got[j] = (float)beta[j], got_se[j] = (float)se[j];
            CHECK_GOLDEN(got, D, 1e-6f, "%s%s/beta", name[c], all ? "_all" : "");
            CHECK_GOLDEN(got_se, D, 1e-6f, "%s%s/se", name[c], all ? "_all" : "");
        }
    }
    llm_arena_destroy(&arena);
}

TEST(exponential_family_glm, "an intercept alone is the mean; the value is the log-likelihood") {
    llm_arena arena = exponential_family_glm_arena();
    const float one[4] = {1.0f, 1.0f, 1.0f, 1.0f}, y[4] = {1.0f, 0.0f, 4.0f, 3.0f},
                b[4] = {1, 0, 0, 0};
    double beta;
    const double l = llm_exponential_family_glm(&beta, NULL, LLM_EXPONENTIAL_FAMILY_POISSON, one, y,
                                                NULL, NULL, 4, 1, 0.0, &arena);
    CHECK_NEAR(beta, log(2.0), 1e-9);
    CHECK_NEAR(l, 8.0 * log(2.0) - 8.0, 1e-12);
    llm_exponential_family_glm(&beta, NULL, LLM_EXPONENTIAL_FAMILY_BERNOULLI, one, b, NULL, NULL, 4,
                               1, 0.0, &arena);
    CHECK_NEAR(beta, log(1.0 / 3.0), 1e-8);
    /* counts of a million: from 0 the first step is far too long, and is halved */
    const float large[4] = {1e6f, 1.1e6f, 0.9e6f, 1e6f};
    llm_exponential_family_glm(&beta, NULL, LLM_EXPONENTIAL_FAMILY_POISSON, one, large, NULL, NULL,
                               4, 1, 0.0, &arena);
    CHECK_NEAR(beta, log(1e6), 1e-9);
    CHECK_ASSERTS(llm_exponential_family_glm(&beta, NULL, LLM_EXPONENTIAL_FAMILY_NORMAL, one, y,
                                             NULL, NULL, 4, 1, 0.0, &arena));
    llm_arena_destroy(&arena);
}

TEST(exponential_family_glm,
     "separated classes and dependent columns are refused, a ridge heals both") {
    llm_arena arena = exponential_family_glm_arena();
    const float X[8] = {1, -2, 1, -1, 1, 1, 1, 3}, y[4] = {0, 0, 1, 1},
                twice[8] = {1, 1, 1, 1, 1, 1, 1, 1};
    const float counts[4] = {1, 2, 3, 4};
    double beta[2];
    CHECK(isnan(llm_exponential_family_glm(beta, NULL, LLM_EXPONENTIAL_FAMILY_BERNOULLI, X, y, NULL,
                                           NULL, 4, 2, 0.0, &arena)));
    CHECK(isnan(llm_exponential_family_glm(beta, NULL, LLM_EXPONENTIAL_FAMILY_POISSON, twice,
                                           counts, NULL, NULL, 4, 2, 0.0, &arena)));
    CHECK(arena.used == 0);
    CHECK(!isnan(llm_exponential_family_glm(beta, NULL, LLM_EXPONENTIAL_FAMILY_BERNOULLI, X, y,
                                            NULL, NULL, 4, 2, 0.5, &arena)));
    for (size_t j = 0; j < 2; j++) { /* X^T (y - p) = l2 beta */
        double g = -0.5 * beta[j];
        for (size_t i = 0; i < 4; i++) {
            const double p =
                llm_logit_expit(beta[0] * (double)X[2 * i] + beta[1] * (double)X[2 * i + 1]);
            g += (double)X[2 * i + j] * ((double)y[i] - p);
        }
        CHECK_NEAR(g, 0.0, 1e-7);
    }
    CHECK(!isnan(llm_exponential_family_glm(beta, NULL, LLM_EXPONENTIAL_FAMILY_POISSON, twice,
                                            counts, NULL, NULL, 4, 2, 0.1, &arena)));
    CHECK_NEAR(beta[0], beta[1], 1e-9);
    llm_arena_destroy(&arena);
}

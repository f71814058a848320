/* @proper_score */
#include "../test.h"

#include "../../llm.h"

TEST(proper_score, "by hand; a certain error costs 2 with Brier and everything with log") {
    const float q[6] = {0.5f, 0.3f, 0.2f, 0, 0, 1};
    const int y[2] = {1, 0};
    float score[2];
    llm_proper_score_forward(score, q, y, 2, 3, LLM_PROPER_SCORE_BRIER);
    CHECK_NEAR(score[0], 0.25 + 0.49 + 0.04, 1e-6);
    CHECK(score[1] == 2.0f);
    llm_proper_score_forward(score, q, y, 2, 3, LLM_PROPER_SCORE_LOG);
    CHECK_NEAR(score[0], -log(0.3), 1e-6);
    CHECK(score[1] == INFINITY);
    llm_proper_score_forward(score, q, y, 2, 3, LLM_PROPER_SCORE_SPHERICAL);
    CHECK_NEAR(score[0], -0.3 / sqrt(0.38), 1e-6);
    CHECK(score[1] == 0.0f);
    llm_proper_score_forward(score, q, y, 2, 3, LLM_PROPER_SCORE_ABSOLUTE);
    CHECK_NEAR(score[0], 1.4, 1e-6);
    const int high[1] = {3}, low[1] = {-1};
    CHECK_ASSERTS(llm_proper_score_forward(score, q, high, 1, 3, LLM_PROPER_SCORE_LOG));
    CHECK_ASSERTS(llm_proper_score_forward(score, q, low, 1, 3, LLM_PROPER_SCORE_LOG));
    float dq[3] = {0, 0, 0};
    CHECK_ASSERTS(llm_proper_score_backward(dq, q, high, 1, 3, LLM_PROPER_SCORE_LOG, 1));
    CHECK_ASSERTS(llm_proper_score_backward(dq, q, low, 1, 3, LLM_PROPER_SCORE_LOG, 1));
    CHECK_ASSERTS(llm_proper_score_backward(dq, q, y, 1, 3, LLM_PROPER_SCORE_ABSOLUTE, 1));
}

/* The sum of scores, in double, each entry of q free. */
static double score_sum(const float *q, const int *y, size_t N, size_t K, llm_proper_score rule) {
    double total = 0.0;
    for (size_t n = 0; n < N; n++) {
        double norm = 0.0, brier = 0.0;
        for (size_t k = 0; k < K; k++) {
            const double v = (double)q[n * K + k], one = (int)k == y[n] ? 1.0 : 0.0;
            norm += v * v;
            brier += (v - one) * (v - one);
        }
        const double hit = (double)q[n * K + (size_t)y[n]];
        total += rule == LLM_PROPER_SCORE_LOG     ? -log(hit)
                 : rule == LLM_PROPER_SCORE_BRIER ? brier
                                                  : -hit / sqrt(norm);
    }
    return total;
}

TEST(proper_score, "gradients by differences, accumulated") {
    float q[8] = {0.1f, 0.2f, 0.3f, 0.4f, 0.7f, 0.1f, 0.1f, 0.1f};
    const int y[2] = {2, 0};
    for (int rule = LLM_PROPER_SCORE_LOG; rule <= LLM_PROPER_SCORE_SPHERICAL; rule++) {
        const llm_proper_score r = (llm_proper_score)rule;
        float dq[8], half[8];
        for (size_t i = 0; i < 8; i++) dq[i] = 0.0f, half[i] = 1.0f;
        llm_proper_score_backward(dq, q, y, 2, 4, r, 1.0f);
        CHECK_GRAD(dq, q, 8, 1e-3f, 1e-3f, score_sum(q, y, 2, 4, r));
        llm_proper_score_backward(half, q, y, 2, 4, r, 0.5f);
        for (size_t i = 0; i < 8; i++) CHECK_NEAR(half[i], 1.0f + 0.5f * dq[i], 1e-6);
    }
}

TEST(proper_score,
     "on a grid only the truth is best for log, Brier and spherical, not for absolute") {
    const float p[3] = {0.5f, 0.3f, 0.2f};
    for (int rule = LLM_PROPER_SCORE_LOG; rule <= LLM_PROPER_SCORE_ABSOLUTE; rule++) {
        const llm_proper_score r = (llm_proper_score)rule;
        double best = (double)INFINITY;
        int at_a = -1, at_b = -1;
        for (int a = 0; a <= 20; a++)
            for (int b = 0; a + b <= 20; b++) {
                const float q[3] = {(float)a / 20.0f, (float)b / 20.0f,
                                    (float)(20 - a - b) / 20.0f};
                const double risk = llm_proper_score_expected(p, q, 3, r);
                if (!(risk < best)) continue;
                best = risk;
                at_a = a;
                at_b = b;
            }
        if (r == LLM_PROPER_SCORE_ABSOLUTE)
            CHECK(at_a == 20 && at_b == 0);
        else
            CHECK(at_a == 10 && at_b == 6);
    }
    /* E log score = H(p) at the truth; what never happens may have no probability */
    const float sure[3] = {0.5f, 0.5f, 0};
    CHECK_NEAR(llm_proper_score_expected(sure, sure, 3, LLM_PROPER_SCORE_LOG), log(2.0), 1e-6);
}

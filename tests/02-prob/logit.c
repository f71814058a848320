/* @logit */
#include "../test.h"

#include "../../llm.h"

TEST(logit, "logit, expit, log sigmoid and softplus equal scipy.special, far out too") {
    const float *z = golden("z/z"), *expit = golden("z/expit"), *p = golden("p/p");
    for (size_t i = 0; i < 13; i++) {
        const double want = (double)expit[i], x = (double)z[i];
        CHECK_NEAR(llm_logit_expit(x), want, 1e-7 * want);
        const double log_want = (double)golden("z/log_expit")[i];
        CHECK_NEAR(llm_logit_logsigmoid(x), log_want, 1e-7 * fabs(log_want));
        const double soft = (double)golden("z/softplus")[i];
        CHECK_NEAR(llm_logit_softplus(x), soft, 1e-7 * soft);
        CHECK_NEAR(llm_logit_expit(-x), 1.0 - llm_logit_expit(x), 2e-16);
        if (fabs(x) < 600.0)
            CHECK_NEAR(log(llm_logit_expit(x)) - log(llm_logit_expit(-x)), x,
                       1e-13 + 1e-15 * fabs(x));
    }
    for (size_t i = 0; i < 6; i++)
        CHECK_NEAR(llm_logit((double)p[i]), golden("p/logit")[i],
                   1e-7 * fabs((double)golden("p/logit")[i]));
}

TEST(logit, "there and back; ends, outside, infinities, NaN") {
    for (double p = 1e-6; p < 1.0; p = p < 0.9 ? p * 1.7 : 1.0 - (1.0 - p) / 3.0) {
        if (p > 1.0 - 1e-6) break;
        CHECK_NEAR(llm_logit_expit(llm_logit(p)), p, 1e-15);
    }
    CHECK_NEAR(llm_logit_expit(llm_logit(5e-324)), 5e-324, 1e-323);
    CHECK(llm_logit(0.0) == -(double)INFINITY && llm_logit(1.0) == (double)INFINITY);
    CHECK(isnan(llm_logit(-1e-9)) && isnan(llm_logit(1.0 + 1e-9)) && isnan(llm_logit((double)NAN)));
    CHECK(llm_logit_expit((double)INFINITY) == 1.0 && llm_logit_expit(-(double)INFINITY) == 0.0);
    CHECK(isnan(llm_logit_expit((double)NAN)));
    CHECK(llm_logit_logsigmoid((double)INFINITY) == 0.0);
    CHECK(llm_logit_logsigmoid(-(double)INFINITY) == -(double)INFINITY);
    CHECK(llm_logit_softplus((double)INFINITY) == (double)INFINITY);
    CHECK(llm_logit_softplus(-(double)INFINITY) == 0.0);
    CHECK_NEAR(llm_logit_logsigmoid(-1e5), -1e5, 0.0);
    for (double y = 1e-12; y < 1e4; y *= 7.0)
        CHECK_NEAR(llm_logit_softplus(llm_logit_softplus_inverse(y)) / y, 1.0, 1e-12);
}

TEST(logit, "slopes by finite differences; the tail of the slope keeps its digits") {
    for (double z = -6.0; z < 6.0; z += 0.37) {
        const double h = 1e-5, p = llm_logit_expit(z);
        CHECK_NEAR((llm_logit_expit(z + h) - llm_logit_expit(z - h)) / (2.0 * h),
                   llm_logit_expit_slope(z), 1e-9);
        CHECK_NEAR(llm_logit_slope(p) * llm_logit_expit_slope(z), 1.0, 1e-12);
        CHECK_NEAR((llm_logit_logsigmoid(z + h) - llm_logit_logsigmoid(z - h)) / (2.0 * h),
                   llm_logit_expit(-z), 1e-9);
        CHECK_NEAR((llm_logit_softplus(z + h) - llm_logit_softplus(z - h)) / (2.0 * h), p, 1e-9);
    }
    CHECK_NEAR(llm_logit_expit_slope(80.0) * exp(80.0), 1.0, 1e-12); /* p (1 - p) would be 0 */
    CHECK(llm_logit_expit_slope(800.0) == 0.0 && llm_logit_expit_slope(-800.0) == 0.0);
}

TEST(logit, "evidence adds: naive Bayes equals Bayes' rule on the table") {
    /* P(word | spam), P(word | ham) of three words, prior 0.2 */
    const double spam[3] = {0.8, 0.3, 0.05}, ham[3] = {0.1, 0.25, 0.2};
    double evidence[3], yes = 0.2, no = 0.8;
    for (size_t i = 0; i < 3; i++) {
        evidence[i] = log(spam[i] / ham[i]);
        yes *= spam[i], no *= ham[i];
    }
    CHECK_NEAR(llm_logit_update(0.2, evidence, 3), yes / (yes + no), 1e-15);
    CHECK_NEAR(llm_logit_update(0.2, evidence, 0), 0.2, 1e-16);
}

TEST(logit, "prior shift equals Bayes' rule; two classes in softmax equal one logit") {
    /* P(x | yes) = 0.6, P(x | no) = 0.1 */
    const double from = 0.5, to = 0.02;
    float z[1] = {(float)log(0.6 * from / (0.1 * (1.0 - from)))}, rows[4];
    llm_logit_prior_shift(z, 1, from, to);
    const double want = 0.6 * to / (0.6 * to + 0.1 * (1.0 - to));
    CHECK_NEAR(llm_logit_expit((double)z[0]), want, 1e-7);
    CHECK_NEAR(llm_logit_prior_shift(NULL, 3, 0.25, 0.75), 2.0 * log(3.0), 1e-15);
    const float likelihood[4] = {0.6f, 0.1f, 0.2f, 0.9f}, old[2] = {0.5f, 0.5f},
                now[2] = {0.02f, 0.98f};
    for (size_t i = 0; i < 4; i++) rows[i] = logf(likelihood[i] * old[i % 2]);
    llm_logit_prior_shift_classes(rows, 2, 2, old, now);
    float p[4];
    llm_softmax_forward(p, rows, 2, 2, 1.0f);
    CHECK_NEAR(p[0], want, 1e-7);
    CHECK_NEAR(p[2], 0.2 * 0.02 / (0.2 * 0.02 + 0.9 * 0.98), 1e-7);
    for (size_t r = 0; r < 2; r++)
        CHECK_NEAR(llm_logit_expit((double)rows[2 * r] - (double)rows[2 * r + 1]), p[2 * r], 1e-7);
    CHECK_ASSERTS(llm_logit_prior_shift(z, 1, 0.0, 0.5));
    CHECK_ASSERTS(llm_logit_prior_shift(z, 1, 1.0, 0.5));
    const float zero[2] = {0.0f, 1.0f}, minus[2] = {-1.0f, 2.0f};
    CHECK_ASSERTS(llm_logit_prior_shift_classes(rows, 1, 2, zero, now));
    CHECK_ASSERTS(llm_logit_prior_shift_classes(rows, 1, 2, old, minus));
    llm_logit_prior_shift_classes(rows, 1, 2, old, zero); /* a class that is gone */
    CHECK(rows[0] == -INFINITY && rows[1] > -INFINITY);
}

TEST(logit, "pooling: one who is sure outvotes, weights, a veto; centring changes no softmax") {
    const double p[3] = {0.5, 0.5, 0.999}, w[3] = {1.0, 0.0, 2.0}, veto[2] = {0.7, 0.0};
    const double both[2] = {1.0, 0.0}, zero[2] = {0.0, 1.0};
    CHECK_NEAR(llm_logit_pool(p, NULL, 3), 1.0 / (1.0 + pow(1.0 / 999.0, 1.0 / 3.0)), 1e-12);
    CHECK_NEAR(llm_logit_pool(p, w, 3), 1.0 / (1.0 + pow(1.0 / 999.0, 2.0 / 3.0)), 1e-12);
    CHECK(llm_logit_pool(veto, NULL, 2) == 0.0);
    CHECK(isnan(llm_logit_pool(both, NULL, 2)));
    CHECK(llm_logit_pool(both, zero, 2) == 0.0); /* weight 0 is not read */
    float z[6] = {1.0f, 5.0f, -3.0f, 1e4f, 1e4f + 1.0f, 1e4f}, before[6], after[6];
    llm_softmax_forward(before, z, 2, 3, 1.0f);
    llm_logit_centre(z, 2, 3);
    llm_softmax_forward(after, z, 2, 3, 1.0f);
    CHECK_ALL_NEAR(after, before, 6, 1e-6f);
    for (size_t r = 0; r < 2; r++) CHECK_NEAR(z[3 * r] + z[3 * r + 1] + z[3 * r + 2], 0.0f, 1e-6);
    CHECK_NEAR(z[1], 4.0, 1e-6);
}

TEST(logit, "shares of one class, in arrays that are exactly long enough") {
    float *from = floats(1), *to = floats(1), *z = zeros(3);
    from[0] = 0.5f, to[0] = 0.25f;
    llm_logit_prior_shift_classes(z, 3, 1, from, to);
    for (size_t i = 0; i < 3; i++) CHECK_NEAR(z[i], -logf(2.0f), 1e-6);
}

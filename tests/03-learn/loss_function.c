/* @loss_function */
#include "../test.h"

#include "../../llm.h"

enum { LOSS_N = 23, LOSS_KINDS = 13 };
static const char *const loss_name[LOSS_KINDS] = {
    "squared", "absolute", "huber",  "smooth", "logcosh",  "pinball", "charbonnier",
    "poisson", "hinge",    "hinge2", "exp",    "logistic", "ramp"};

static const float *loss_target(size_t kind) {
    return kind < LLM_LOSS_FUNCTION_POISSON    ? golden("in/real")
           : kind == LLM_LOSS_FUNCTION_POISSON ? golden("in/count")
                                               : golden("in/sign");
}

TEST(loss_function, "value, slope and second derivative of all equal torch") {
    const float *z = golden("in/z"), *w = golden("in/w");
    for (size_t kind = 0; kind < LOSS_KINDS; kind++) {
        const float *t = loss_target(kind);
        float *loss = floats(LOSS_N), *dz = zeros(LOSS_N), *curve = floats(LOSS_N);
        double sum = 0.0, weighted = 0.0;
        const double got =
            llm_loss_function_forward(loss, z, t, NULL, LOSS_N, (llm_loss_function)kind, 0.7f);
        llm_loss_function_backward(dz, z, t, NULL, LOSS_N, (llm_loss_function)kind, 0.7f, 1.0f);
        for (size_t i = 0; i < LOSS_N; i++) {
            curve[i] = (float)llm_loss_function_at((llm_loss_function)kind, 0.7, (double)z[i],
                                                   (double)t[i])
                           .curve;
            sum += (double)loss[i];
            weighted += (double)(w[i] * loss[i]);
        }
        CHECK_GOLDEN(loss, LOSS_N, 1e-6f, "%s/loss", loss_name[kind]);
        CHECK_GOLDEN(dz, LOSS_N, 1e-6f, "%s/slope", loss_name[kind]);
        CHECK_GOLDEN(curve, LOSS_N, 1e-6f, "%s/curve", loss_name[kind]);
        CHECK_NEAR(got, sum, 1e-6 * fabs(sum));
        float *two = floats(LOSS_N);
        CHECK_NEAR(llm_loss_function_forward(NULL, z, t, w, LOSS_N, (llm_loss_function)kind, 0.7f),
                   weighted, 1e-6 * fabs(weighted));
        for (size_t i = 0; i < LOSS_N; i++) two[i] = 1.0f;
        llm_loss_function_backward(two, z, t, w, LOSS_N, (llm_loss_function)kind, 0.7f, 0.5f);
        for (size_t i = 0; i < LOSS_N; i++)
            CHECK_NEAR(two[i], 1.0f + 0.5f * w[i] * dz[i], 1e-5 * (1.0 + fabs((double)two[i])));
    }
}

TEST(loss_function, "slopes by differences, away from kinks; at kinks as torch has them") {
    float z[6] = {-2.3f, -0.4f, 0.2f, 0.45f, 1.4f, 3.0f}, t[6];
    for (size_t kind = 0; kind < LOSS_KINDS; kind++) {
        const llm_loss_function k = (llm_loss_function)kind;
        float dz[6] = {0, 0, 0, 0, 0, 0};
        for (size_t i = 0; i < 6; i++)
            t[i] = kind < LLM_LOSS_FUNCTION_HINGE ? 0.0f : i % 2 ? 1 : -1;
        llm_loss_function_backward(dz, z, t, NULL, 6, k, 0.6f, 1.0f);
        CHECK_GRAD(dz, z, 6, 1e-2f, 1e-3f, llm_loss_function_forward(NULL, z, t, NULL, 6, k, 0.6f));
    }
    CHECK(llm_loss_function_at(LLM_LOSS_FUNCTION_ABSOLUTE, 0, 2, 2).slope == 0.0);
    CHECK(llm_loss_function_at(LLM_LOSS_FUNCTION_PINBALL, 0.9, 2, 2).slope == 0.0);
    CHECK(llm_loss_function_at(LLM_LOSS_FUNCTION_HINGE, 0, 1, 1).slope == 0.0);
    CHECK(llm_loss_function_at(LLM_LOSS_FUNCTION_HUBER, 2, -2, 0).slope == -2.0);
    CHECK(llm_loss_function_at(LLM_LOSS_FUNCTION_RAMP, 2, -1, 1).slope == 0.0);
    CHECK(llm_loss_function_at(LLM_LOSS_FUNCTION_HUBER, 2, 2, 0).curve == 0.0);
}

TEST(loss_function,
     "huge residuals stay finite where the loss is; NaN stays NaN; nothing is nothing") {
    for (size_t kind = 0; kind < LOSS_KINDS; kind++) {
        const llm_loss_function k = (llm_loss_function)kind;
        const llm_loss_function_point f = llm_loss_function_at(k, 0.5, -1000.0, 1.0);
        if (k == LLM_LOSS_FUNCTION_EXPONENTIAL)
            CHECK(isinf(f.value));
        else
            CHECK(isfinite(f.value) && isfinite(f.slope) && f.curve >= 0.0 && isfinite(f.curve));
        const llm_loss_function_point bad = llm_loss_function_at(k, 0.5, (double)NAN, 1.0);
        CHECK(isnan(bad.value) && isnan(bad.slope) && isnan(bad.curve));
    }
    CHECK_NEAR(llm_loss_function_at(LLM_LOSS_FUNCTION_LOG_COSH, 0, 1000, 0).value, 1000 - log(2.0),
               1e-9);
    CHECK(llm_loss_function_at(LLM_LOSS_FUNCTION_LOGISTIC, 0, -1000, 1).value == 1000.0);
    CHECK(llm_loss_function_forward(NULL, NULL, NULL, NULL, 0, LLM_LOSS_FUNCTION_SQUARED, 0) ==
          0.0);
}

TEST(loss_function,
     "margin losses: which lie above the 0-1 loss, which are convex and calibrated") {
    for (int kind = LLM_LOSS_FUNCTION_HINGE; kind <= LLM_LOSS_FUNCTION_RAMP; kind++) {
        const llm_loss_function k = (llm_loss_function)kind;
        bool convex;
        const bool calibrated = llm_loss_function_calibrated(&convex, k, 2.0f);
        CHECK(calibrated == (k != LLM_LOSS_FUNCTION_RAMP));
        CHECK(convex == (k != LLM_LOSS_FUNCTION_RAMP));
        for (double m = -3.0; m <= 3.0; m += 0.125) { /* logistic: in units of log 2 */
            const double unit = k == LLM_LOSS_FUNCTION_LOGISTIC ? log(2.0) : 1.0;
            const double zero_one = m <= 0.0 ? 1.0 : 0.0;
            CHECK(llm_loss_function_at(k, 2.0, m, 1.0).value >= unit * zero_one - 1e-12);
        }
    }
    bool convex;
    /* (m - 1)^2 is calibrated; e^m - m is convex and level at 0, where it should fall */
    CHECK(llm_loss_function_calibrated(&convex, LLM_LOSS_FUNCTION_SQUARED, 0) && convex);
    CHECK(!llm_loss_function_calibrated(&convex, LLM_LOSS_FUNCTION_POISSON, 0) && convex);
    CHECK(!llm_loss_function_calibrated(&convex, LLM_LOSS_FUNCTION_RAMP, 4) && !convex);
    CHECK(llm_loss_function_calibrated(&convex, LLM_LOSS_FUNCTION_RAMP, 10)); /* bent at -9 */
}

TEST(loss_function,
     "what each asks for: mean, median, quantile, log of the mean, half the log odds") {
    const float t[5] = {-1, 0, 2, 3, 10}, p[5] = {0.1f, 0.25f, 0.3f, 0.2f, 0.15f};
    /* mean -0.1 + 0.6 + 0.6 + 1.5; shares up to t: 0.1 0.35 0.65 0.85 1 */
    CHECK_NEAR(llm_loss_function_elicit(t, p, 5, -5, 20, LLM_LOSS_FUNCTION_SQUARED, 0), 2.6, 1e-6);
    CHECK_NEAR(llm_loss_function_elicit(t, p, 5, -5, 20, LLM_LOSS_FUNCTION_ABSOLUTE, 0), 2.0, 1e-6);
    CHECK_NEAR(llm_loss_function_elicit(t, p, 5, -5, 20, LLM_LOSS_FUNCTION_PINBALL, 0.3f), 0.0,
               1e-6);
    CHECK_NEAR(llm_loss_function_elicit(t, p, 5, -5, 20, LLM_LOSS_FUNCTION_PINBALL, 0.8f), 3.0,
               1e-6);
    CHECK_NEAR(llm_loss_function_elicit(t, p, 5, -5, 20, LLM_LOSS_FUNCTION_PINBALL, 0.9f), 10.0,
               1e-6);
    /* Huber with a wide square is the mean, with a narrow one the median */
    CHECK_NEAR(llm_loss_function_elicit(t, p, 5, -5, 20, LLM_LOSS_FUNCTION_HUBER, 50), 2.6, 1e-6);
    CHECK_NEAR(llm_loss_function_elicit(t, p, 5, -5, 20, LLM_LOSS_FUNCTION_HUBER, 1e-3f), 2.0,
               2e-3);
    const float count[3] = {0, 1, 5}, q[3] = {0.5f, 0.25f, 0.25f};
    CHECK_NEAR(llm_loss_function_elicit(count, q, 3, -9, 9, LLM_LOSS_FUNCTION_POISSON, 0), log(1.5),
               1e-6);
    const float sign[2] = {-1, 1}, r[2] = {0.2f, 0.8f};
    CHECK_NEAR(llm_loss_function_elicit(sign, r, 2, -9, 9, LLM_LOSS_FUNCTION_LOGISTIC, 0), log(4.0),
               1e-6);
    CHECK_NEAR(llm_loss_function_elicit(sign, r, 2, -9, 9, LLM_LOSS_FUNCTION_EXPONENTIAL, 0),
               0.5 * log(4.0), 1e-6);
    CHECK_NEAR(llm_loss_function_elicit(sign, r, 2, -9, 9, LLM_LOSS_FUNCTION_HINGE, 0), 1.0, 1e-6);
    CHECK_NEAR(llm_loss_function_elicit(sign, r, 2, -9, 9, LLM_LOSS_FUNCTION_SQUARED_HINGE, 0), 0.6,
               1e-6);
}

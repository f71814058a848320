/* @distribution */
#include "../test.h"

#include "../../llm.h"

enum { CASES = 20 };
/* The order of the script. */
static const llm_distribution distribution_case[CASES] = {
    {LLM_DISTRIBUTION_UNIFORM, 0, 0, 0, 1},     {LLM_DISTRIBUTION_EXPONENTIAL, 0, 0, 0, 1},
    {LLM_DISTRIBUTION_NORMAL, 0, 0, 0, 1},      {LLM_DISTRIBUTION_LAPLACE, 0, 0, 0, 1},
    {LLM_DISTRIBUTION_LOGISTIC, 0, 0, 0, 1},    {LLM_DISTRIBUTION_CAUCHY, 0, 0, 0, 1},
    {LLM_DISTRIBUTION_STUDENT_T, 1, 0, 0, 1},   {LLM_DISTRIBUTION_STUDENT_T, 2, 0, 0, 1},
    {LLM_DISTRIBUTION_STUDENT_T, 3.5, 0, 0, 1}, {LLM_DISTRIBUTION_STUDENT_T, 1e4, 0, 0, 1},
    {LLM_DISTRIBUTION_GAMMA, 0.25, 0, 0, 1},    {LLM_DISTRIBUTION_GAMMA, 1, 0, 0, 1},
    {LLM_DISTRIBUTION_GAMMA, 7.5, 0, 0, 1},     {LLM_DISTRIBUTION_CHI_SQUARED, 1, 0, 0, 1},
    {LLM_DISTRIBUTION_CHI_SQUARED, 2, 0, 0, 1}, {LLM_DISTRIBUTION_CHI_SQUARED, 9, 0, 0, 1},
    {LLM_DISTRIBUTION_BETA, 0.5, 0.5, 0, 1},    {LLM_DISTRIBUTION_BETA, 2, 5, 0, 1},
    {LLM_DISTRIBUTION_BETA, 1, 3, 0, 1},        {LLM_DISTRIBUTION_BETA, 40, 1, 0, 1}};

static llm_distribution distribution_moved(size_t k, bool moved) {
    llm_distribution d = distribution_case[k];
    if (moved) d.loc = -1.5, d.scale = 2.5;
    return d;
}

TEST(distribution, "log densities, both log tails, quantiles and moments equal scipy.stats") {
    const float *p = golden("all/p");
    for (size_t k = 0; k < CASES; k++)
        for (int moved = 0; moved < 2; moved++) {
            const llm_distribution d = distribution_moved(k, moved);
            const char *scale = moved ? "2.5" : "1";
            const float *x = golden("%zu/%s/x", k, scale);
            float logpdf[16], lower[16], upper[16], quantile[8], moments[2];
            for (size_t i = 0; i < 16; i++) {
                double low, high;
                logpdf[i] = (float)llm_distribution_logpdf(&d, (double)x[i]);
                llm_distribution_tails(&low, &high, &d, (double)x[i]);
                lower[i] = (float)low, upper[i] = (float)high;
                CHECK_NEAR(llm_distribution_cdf(&d, (double)x[i]), exp(low), 0.0);
                CHECK_NEAR(exp(low) + exp(high), 1.0, 1e-14);
            }
            for (size_t i = 0; i < 8; i++)
                quantile[i] = (float)llm_distribution_quantile(&d, (double)p[i]);
            double mean, var;
            llm_distribution_moments(&mean, &var, &d);
            CHECK_GOLDEN(logpdf, 16, 1e-6, "%zu/%s/logpdf", k, scale);
            CHECK_GOLDEN(lower, 16, 1e-6, "%zu/%s/logcdf", k, scale);
            CHECK_GOLDEN(upper, 16, 1e-6, "%zu/%s/logsf", k, scale);
            const float *want = golden("%zu/%s/quantile", k, scale);
            for (size_t i = 0; i < 8; i++)
                CHECK_NEAR(quantile[i], want[i], 1e-14 + 1e-6 * fabs((double)want[i]));
            want = golden("%zu/%s/moments", k, scale);
            moments[0] = (float)mean, moments[1] = (float)var;
            for (size_t i = 0; i < 2; i++)
                if (isnan(want[i]))
                    CHECK(isnan(moments[i]));
                else
                    CHECK_NEAR(moments[i], want[i], 1e-6 * (double)(1.0f + fabsf(want[i])));
        }
}

TEST(distribution, "quantile(cdf(x)) is x, and the density is the slope of the cdf") {
    for (size_t k = 0; k < CASES; k++)
        for (int moved = 0; moved < 2; moved++) {
            const llm_distribution d = distribution_moved(k, moved);
            for (double p = 0.03; p < 1.0; p += 0.0931) {
                const double x = llm_distribution_quantile(&d, p);
                const double density = exp(llm_distribution_logpdf(&d, x));
                const double h = 1e-4 * fmin(p, 1 - p) / density;
                CHECK_NEAR(llm_distribution_cdf(&d, x), p, 5e-12);
                CHECK_NEAR(llm_distribution_quantile(&d, llm_distribution_cdf(&d, x)), x,
                           1e-8 * (1.0 + fabs(x)));
                if (x - h <= d.loc && d.kind >= LLM_DISTRIBUTION_GAMMA)
                    continue; /* below its start */
                if (x + h >= d.loc + d.scale && d.kind == LLM_DISTRIBUTION_BETA) continue;
                const double slope =
                    (llm_distribution_cdf(&d, x + h) - llm_distribution_cdf(&d, x - h)) / (2.0 * h);
                CHECK_NEAR(slope / density, 1.0, 1e-3);
            }
        }
}

TEST(distribution, "infinities, NaN, huge values and bad parameters") {
    for (size_t k = 0; k < CASES; k++) {
        const llm_distribution d = distribution_case[k];
        CHECK(llm_distribution_cdf(&d, -(double)INFINITY) == 0.0);
        CHECK(llm_distribution_cdf(&d, (double)INFINITY) == 1.0);
        CHECK(isnan(llm_distribution_cdf(&d, (double)NAN)));
        CHECK(isnan(llm_distribution_logpdf(&d, (double)NAN)));
        CHECK(isnan(llm_distribution_quantile(&d, -0.1)) &&
              isnan(llm_distribution_quantile(&d, 1.1)));
        CHECK(isnan(llm_distribution_quantile(&d, (double)NAN)));
        const bool bounded = k == 0 || d.kind == LLM_DISTRIBUTION_BETA;
        CHECK(llm_distribution_quantile(&d, 1.0) == (bounded ? 1.0 : (double)INFINITY));
        const bool half =
            d.kind == LLM_DISTRIBUTION_EXPONENTIAL || d.kind >= LLM_DISTRIBUTION_GAMMA;
        CHECK_NEAR(llm_distribution_quantile(&d, 0.0), bounded || half ? 0.0 : -(double)INFINITY,
                   0);
    }
    double low, high;
    const llm_distribution cauchy = {LLM_DISTRIBUTION_CAUCHY, 0, 0, 0, 1};
    CHECK_NEAR(llm_distribution_logpdf(&cauchy, 1e200), -log(acos(-1.0)) - 400.0 * log(10.0), 1e-9);
    llm_distribution_tails(&low, &high, &cauchy, 1e200);
    CHECK_NEAR(high, -log(acos(-1.0)) - 200.0 * log(10.0), 1e-9);
    const llm_distribution normal = {LLM_DISTRIBUTION_NORMAL, 0, 0, 0, 1};
    llm_distribution_tails(&low, &high, &normal, 1e5);
    CHECK_NEAR(high / -5e9, 1.0, 1e-8); /* a probability of e^-5000000000 */

    llm_distribution bad[8] = {cauchy, cauchy, cauchy, cauchy, cauchy, cauchy, cauchy, cauchy};
    bad[0].scale = 0.0, bad[1].scale = -1.0, bad[2].scale = (double)NAN, bad[3].loc = (double)NAN;
    bad[4].kind = LLM_DISTRIBUTION_COUNT, bad[4].a = bad[4].b = 1.0;
    bad[5].kind = LLM_DISTRIBUTION_STUDENT_T, bad[5].a = 0.0;
    bad[6].kind = LLM_DISTRIBUTION_BETA, bad[6].a = 1.0, bad[6].b = -1.0;
    bad[7] = bad[6], bad[7].b = 0.0;
    for (size_t i = 0; i < 8; i++) {
        CHECK(!llm_distribution_valid(&bad[i]));
        CHECK_ASSERTS(llm_distribution_logpdf(&bad[i], 0.0));
        CHECK_ASSERTS(llm_distribution_cdf(&bad[i], 0.0));
        CHECK_ASSERTS(llm_distribution_quantile(&bad[i], 0.5));
        CHECK_ASSERTS(llm_distribution_moments(&low, &high, &bad[i]));
    }
    bad[0].scale = (double)INFINITY, bad[1] = cauchy, bad[1].kind = -1, bad[2] = bad[5];
    bad[2].a = (double)INFINITY, bad[3].loc = (double)INFINITY, bad[6].b = (double)INFINITY;
    for (size_t i = 0; i < 7; i++) CHECK(i == 4 || i == 5 || !llm_distribution_valid(&bad[i]));
}

TEST(distribution, "Student's t with up to 10^300 degrees: quantiles undo the function") {
    const double df[8] = {1e6, 1e8, 9.9e9, 1.1e10, 1e12, 1e15, 1e18, 1e300};
    const double p[7] = {1e-300, 1e-100, 1e-20, 1e-3, 0.3, 0.5, 0.9};
    for (size_t i = 0; i < 8; i++)
        for (size_t k = 0; k < 7; k++) {
            const llm_distribution t = {LLM_DISTRIBUTION_STUDENT_T, df[i], 0, 0, 1};
            const double z = llm_distribution_quantile(&t, p[k]),
                         w = llm_special_inverse_normal(p[k]);
            CHECK_NEAR(llm_distribution_cdf(&t, z) / p[k], 1.0, 1e-12);
            /* Abramowitz & Stegun 26.7.5, two terms */
            const double near =
                w + (w * w + 1.0) * w / (4.0 * df[i]) +
                (5.0 * pow(w, 5.0) + 16.0 * pow(w, 3.0) + 3.0 * w) / (96.0 * df[i] * df[i]);
            CHECK_NEAR(z, near, 1e-8 * fabs(near) * 1e6 / df[i] + 1e-14 * fabs(near));
        }
}

/* @categorical */
#include "../test.h"

#include "../../llm.h"

enum { CASES = 18 };
static const llm_categorical_law categorical_case[CASES] = {
    {LLM_CATEGORICAL_BINOMIAL, 1, 0.3},    {LLM_CATEGORICAL_BINOMIAL, 10, 0.5},
    {LLM_CATEGORICAL_BINOMIAL, 7, 0},      {LLM_CATEGORICAL_BINOMIAL, 7, 1},
    {LLM_CATEGORICAL_BINOMIAL, 1e6, 1e-5}, {LLM_CATEGORICAL_BINOMIAL, 1e6, 0.3},
    {LLM_CATEGORICAL_BINOMIAL, 0, 0.4},    {LLM_CATEGORICAL_POISSON, 0, 0},
    {LLM_CATEGORICAL_POISSON, 0.01, 0},    {LLM_CATEGORICAL_POISSON, 4.5, 0},
    {LLM_CATEGORICAL_POISSON, 1e5, 0},     {LLM_CATEGORICAL_NEGATIVE, 1, 0.5},
    {LLM_CATEGORICAL_NEGATIVE, 2.5, 0.1},  {LLM_CATEGORICAL_NEGATIVE, 300, 0.7},
    {LLM_CATEGORICAL_NEGATIVE, 3, 1},      {LLM_CATEGORICAL_GEOMETRIC, 0, 0.25},
    {LLM_CATEGORICAL_GEOMETRIC, 0, 1},     {LLM_CATEGORICAL_GEOMETRIC, 0, 1e-4}};

TEST(categorical, "probabilities, both tails, quantiles and moments equal scipy.stats") {
    const float *u = golden("all/u");
    for (size_t c = 0; c < CASES; c++) {
        const llm_categorical_law *law = &categorical_case[c];
        size_t n = 0;
        const float *k = golden_n(&n, "%zu/k", c);
        float *logpmf = floats(n), *cdf = floats(n), *sf = floats(n), quantile[6], moments[2];
        for (size_t i = 0; i < n; i++) {
            double low, high;
            logpmf[i] = (float)llm_categorical_logpmf(law, (double)k[i]);
            llm_categorical_tails(&low, &high, law, (double)k[i] + 0.5); /* any k up to the next */
            cdf[i] = (float)exp(low), sf[i] = (float)exp(high);
            llm_categorical_tails(&low, &high, law, (double)k[i]);
            CHECK((float)exp(low) == cdf[i] && (float)exp(high) == sf[i]);
        }
        for (size_t i = 0; i < 6; i++)
            quantile[i] = (float)llm_categorical_quantile(law, (double)u[i]);
        double mean, var;
        llm_categorical_moments(&mean, &var, law);
        moments[0] = (float)mean, moments[1] = (float)var;
        CHECK_GOLDEN(logpmf, n, 1e-6f, "%zu/logpmf", c);
        CHECK_ALL_CLOSE(cdf, golden("%zu/cdf", c), n, 1e-6);
        CHECK_ALL_CLOSE(sf, golden("%zu/sf", c), n, 1e-6);
        CHECK_GOLDEN(quantile, 6, 0.0f, "%zu/quantile", c);
        CHECK_GOLDEN(moments, 2, 1e-6f, "%zu/moments", c);
    }
}

TEST(categorical, "probabilities sum to 1, tails to the sums") {
    for (size_t c = 0; c < CASES; c++) {
        const llm_categorical_law *law = &categorical_case[c];
        double mean, var, sum = 0.0, low, high;
        llm_categorical_moments(&mean, &var, law);
        if (mean > 5000.0 && law->kind == LLM_CATEGORICAL_GEOMETRIC) continue; /* a long tail */
        const double start = fmax(0.0, floor(mean - 10.0 * sqrt(var)));
        const double end = ceil(mean + 30.0 * sqrt(var) + 10.0);
        for (double k = start; k <= end; k += 1.0) {
            sum += exp(llm_categorical_logpmf(law, k));
            if (k == floor(mean)) {
                llm_categorical_tails(&low, &high, law, k);
                CHECK_NEAR(exp(low), sum, 1e-11);
                CHECK_NEAR(exp(high), 1.0 - sum, 1e-11);
            }
        }
        CHECK_NEAR(sum, 1.0, 1e-11);
    }
}

TEST(categorical, "a million trials keep 12 digits; far tails are logarithms") {
    const llm_categorical_law law = {LLM_CATEGORICAL_BINOMIAL, 1e6, 0.5};
    /* P(k+1) / P(k) = (n-k) / (k+1), all the way up */
    for (double k = 499000.0; k < 501000.0; k += 100.0) {
        const double step = llm_categorical_logpmf(&law, k + 1.0) - llm_categorical_logpmf(&law, k);
        CHECK_NEAR(step, log((1e6 - k) / (k + 1.0)), 1e-12);
    }
    double low, high;
    llm_categorical_tails(&low, &high, &law, 999998.0); /* (10^6 + 1) / 2^(10^6) lies above */
    CHECK_NEAR(high, log(1000001.0) - 1e6 * log(2.0), 1e-6);
    CHECK(llm_categorical_logpmf(&law, 0.5) == -(double)INFINITY);
    CHECK(llm_categorical_logpmf(&law, (double)INFINITY) == -(double)INFINITY);
    CHECK(isnan(llm_categorical_logpmf(&law, (double)NAN)));
    const llm_categorical_law none = {LLM_CATEGORICAL_BINOMIAL, 0, 0}; /* 0 log 0 is 0 */
    CHECK(llm_categorical_logpmf(&none, 0.0) == 0.0);
    const llm_categorical_law single = {LLM_CATEGORICAL_POISSON, 1, 0};
    const llm_categorical_law many = {LLM_CATEGORICAL_POISSON, 1e15, 0}; /* its peak: Stirling */
    CHECK_NEAR(llm_categorical_logpmf(&single, 3.0), -1.0 - log(6.0), 1e-14);
    CHECK_NEAR(llm_categorical_logpmf(&many, 1e15), -0.5 * log(2.0 * acos(-1.0) * 1e15), 1e-12);
    llm_categorical_tails(&low, &high, &law, (double)INFINITY);
    CHECK(low == 0.0 && high == -(double)INFINITY);
}

TEST(categorical, "multinomial equals SciPy's; an impossible cell, no draws") {
    const float p[3] = {0.2f, 0.3f, 0.5f}, q[2] = {1.0f, 0.0f}, none[2] = {3.0f, 0.0f};
    const float one[2] = {2.0f, 1.0f};
    for (size_t j = 0; j < 4; j++) {
        const double got = llm_categorical_multinomial(golden("multi%zu/k", j), p, 3);
        CHECK_NEAR(got, golden("multi%zu/logpmf", j)[0], 2e-6);
    }
    CHECK(llm_categorical_multinomial(none, q, 2) == 0.0);
    CHECK(llm_categorical_multinomial(one, q, 2) == -(double)INFINITY);
}

static double *categorical_doubles(const float *x, size_t n) {
    double *d = doubles(n);
    for (size_t i = 0; i < n; i++) d[i] = (double)x[i];
    return d;
}

TEST(categorical, "the chi-squared test equals SciPy's and pools small cells") {
    const double *k = categorical_doubles(golden("chi2/k"), 5);
    const double *p = categorical_doubles(golden("chi2/p"), 5);
    double chi2, df, other;
    CHECK_NEAR(llm_categorical_chi2test(&chi2, &df, k, p, 5, 0), golden("chi2/out")[1], 1e-6);
    CHECK_NEAR(chi2, golden("chi2/out")[0], 1e-5);
    CHECK(df == 4.0);
    CHECK_NEAR(llm_categorical_chi2test(&chi2, &df, k, p, 5, 2), golden("chi2/fitted")[0], 1e-6);
    CHECK(df == 2.0);
    /* expected 4, 4, 10, 2: pooled to 8, 12 */
    const double seen[4] = {1.0, 5.0, 9.0, 5.0}, part[4] = {0.2, 0.2, 0.5, 0.1};
    const double two[2] = {6.0, 14.0}, share[2] = {0.4, 0.6};
    const double value = llm_categorical_chi2test(&chi2, &df, seen, part, 4, 0);
    CHECK_NEAR(chi2, 4.0 / 8.0 + 4.0 / 12.0, 1e-12);
    CHECK(df == 1.0);
    CHECK_NEAR(value, erfc(sqrt(0.5 * chi2)), 1e-12); /* the square of a normal variable */
    CHECK_NEAR(llm_categorical_chi2test(&other, &df, two, share, 2, 0), value, 1e-14);
    CHECK_NEAR(other, chi2, 1e-12);
    /* 5 expected are enough, also in the last cell */
    const double five[2] = {6.0, 4.0}, half[2] = {0.5, 0.5};
    llm_categorical_chi2test(&chi2, &df, five, half, 2, 0);
    CHECK(df == 1.0);
    CHECK_NEAR(chi2, 0.4, 1e-12);
    const double less[2] = {0.55, 0.45}; /* and 4.5 are not */
    CHECK(llm_categorical_chi2test(&chi2, &df, five, less, 2, 0) == 1.0 && df == 0.0);
    /* one cell proves nothing, an impossible one everything */
    CHECK(llm_categorical_chi2test(&chi2, &df, seen, part, 1, 0) == 1.0 && df == 0.0);
    const double never[2] = {3.0, 1.0}, sure[2] = {1.0, 0.0};
    CHECK(llm_categorical_chi2test(&chi2, &df, never, sure, 2, 0) <= 1.0 && df == 0.0);
    const double zero[1] = {0.0}, some[1] = {1.0};
    CHECK(llm_categorical_chi2test(&chi2, &df, some, zero, 1, 0) == 0.0);
    CHECK(chi2 == (double)INFINITY);
    CHECK(llm_categorical_chi2test(&chi2, &df, zero, zero, 1, 0) == 1.0 && chi2 == 0.0);
}

TEST(categorical, "parameters that make no sense are refused") {
    double a, b;
    const llm_categorical_law bad[] = {
        {LLM_CATEGORICAL_BINOMIAL, 2.5, 0.5}, {LLM_CATEGORICAL_BINOMIAL, -1, 0.5},
        {LLM_CATEGORICAL_BINOMIAL, 5, 1.1},   {LLM_CATEGORICAL_BINOMIAL, 5, -0.1},
        {LLM_CATEGORICAL_POISSON, -1, 0},     {LLM_CATEGORICAL_NEGATIVE, 0, 0.5},
        {LLM_CATEGORICAL_NEGATIVE, 1, 0},     {LLM_CATEGORICAL_GEOMETRIC, 0, 0},
        {LLM_CATEGORICAL_GEOMETRIC, 0, 1.5},  {LLM_CATEGORICAL_COUNT, 1, 0.5},
        {LLM_CATEGORICAL_NEGATIVE, 1, 1.5},   {LLM_CATEGORICAL_BINOMIAL, 1.5e15, 0.5},
        {LLM_CATEGORICAL_POISSON, 1.5e15, 0}, {LLM_CATEGORICAL_NEGATIVE, 1.5e15, 0.5}};
    const llm_categorical_law good[] = {{LLM_CATEGORICAL_BINOMIAL, 1e15, 1},
                                        {LLM_CATEGORICAL_BINOMIAL, 0, 0},
                                        {LLM_CATEGORICAL_POISSON, 1e15, 0},
                                        {LLM_CATEGORICAL_NEGATIVE, 1e15, 1}};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) CHECK(llm_categorical_valid(&good[i]));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) CHECK(!llm_categorical_valid(&bad[i]));
    CHECK_ASSERTS(llm_categorical_logpmf(&bad[0], 1.0));
    CHECK_ASSERTS(llm_categorical_tails(&a, &b, &bad[0], 1.0));
    CHECK_ASSERTS(llm_categorical_moments(&a, &b, &bad[0]));
    CHECK_ASSERTS(llm_categorical_quantile(&categorical_case[0], 1.0));
    CHECK_ASSERTS(llm_categorical_quantile(&categorical_case[0], -0.1));
}

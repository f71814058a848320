/* @chain_rule_taylor */
#include "../test.h"

#include "../../llm.h"

enum { K = 8 };
static const double ct_x[K + 1] = {0.5, 2.0, -1.0, 0.25, 0.0, 1.0, 0.0, 0.0, 0.0};

static void ct_check(const double *z, const char *name) {
    float got[K + 1];
    for (size_t k = 0; k <= K; k++) got[k] = (float)z[k];
    CHECK_GOLDEN(got, K + 1, 1e-6f, "%s/c", name); /* doubles; the file has nine digits */
}

TEST(chain_rule_taylor, "eight orders of every operation equal mpmath's numeric derivatives") {
    double z[K + 1], s[K + 1], c[K + 1], w[K + 1];
    llm_chain_rule_taylor_exp(z, ct_x, K);
    ct_check(z, "exp");
    llm_chain_rule_taylor_log(z, ct_x, K);
    ct_check(z, "log");
    llm_chain_rule_taylor_sincos(s, c, ct_x, K);
    ct_check(s, "sin");
    ct_check(c, "cos");
    llm_chain_rule_taylor_div(z, c, ct_x, K);
    ct_check(z, "div");
    llm_chain_rule_taylor_mul(z, ct_x, s, K);
    ct_check(z, "mul");
    llm_chain_rule_taylor_exp(z, s, K);
    ct_check(z, "expsin");
    llm_chain_rule_taylor_tanh(z, w, ct_x, K);
    ct_check(z, "tanh");
    llm_chain_rule_taylor_pow(z, ct_x, -1.5, K);
    ct_check(z, "pow");
}

TEST(chain_rule_taylor, "exp(sin t) about 0: 1 + t + t^2/2 - t^4/8 - t^5/15 - t^6/240") {
    const double t[7] = {0, 1, 0, 0, 0, 0, 0};
    const double want[7] = {1.0, 1.0, 0.5, 0.0, -1.0 / 8.0, -1.0 / 15.0, -1.0 / 240.0};
    double s[7], c[7], z[7];
    llm_chain_rule_taylor_sincos(s, c, t, 6);
    llm_chain_rule_taylor_exp(z, s, 6);
    for (size_t k = 0; k < 7; k++) CHECK_NEAR(z[k], want[k], 1e-15);
    llm_chain_rule_taylor_exp(z, t, 0); /* order 0 is the value alone */
    CHECK(z[0] == 1.0);
}

TEST(chain_rule_taylor, "order 1 is the dual number") {
    for (double v = 0.2; v < 3.0; v += 0.4) {
        const double x[2] = {v, 1.5};
        const llm_dual d = {v, 1.5};
        double z[2], c[2];
        llm_chain_rule_taylor_log(z, x, 1);
        CHECK_NEAR(z[1], llm_chain_rule_log(d).d, 1e-14);
        llm_chain_rule_taylor_sincos(z, c, x, 1);
        CHECK_NEAR(z[1], llm_chain_rule_sin(d).d, 1e-14);
        CHECK_NEAR(c[1], llm_chain_rule_cos(d).d, 1e-14);
        llm_chain_rule_taylor_pow(z, x, 0.3, 1);
        CHECK_NEAR(z[1], llm_chain_rule_pow(d, 0.3).d, 1e-13);
    }
}

/* Partial Bell polynomial B(n,k) of the derivatives g[1], g[2], ...: the sum over all ways to cut n
 * things into k sets; here by which set holds thing n. */
static double ct_bell(size_t n, size_t k, const double *g) {
    if (n == 0 && k == 0) return 1.0;
    if (n == 0 || k == 0) return 0.0;
    double sum = 0.0, binomial = 1.0;
    for (size_t i = 1; i + k <= n + 1; i++) {
        sum += binomial * g[i] * ct_bell(n - i, k - 1, g);
        binomial *= (double)(n - i) / (double)i;
    }
    return sum;
}

TEST(chain_rule_taylor, "composition is Faa di Bruno's formula, summed over set partitions") {
    double f[K + 1], df[K + 1], dg[K + 1], z[K + 1], scratch[K + 1], factorial = 1.0;
    for (size_t k = 0; k <= K; k++) {
        if (k > 0) factorial *= (double)k;
        f[k] = cos((double)(3 * k + 1));
        df[k] = f[k] * factorial;
        dg[k] = ct_x[k] * factorial;
    }
    for (size_t k = 0; k <= K; k++) z[k] = scratch[k] = (double)NAN;
    llm_chain_rule_taylor_compose(z, scratch, f, ct_x, K);
    factorial = 1.0;
    for (size_t n = 0; n <= K; n++) {
        if (n > 0) factorial *= (double)n;
        double want = 0.0;
        for (size_t k = 0; k <= n; k++) want += df[k] * ct_bell(n, k, dg);
        CHECK_NEAR(z[n] * factorial, want, 1e-12 * (1.0 + fabs(want)));
    }
    /* and e^x through its own coefficients is the recurrence for exp */
    double e[K + 1], want[K + 1], coefficient = exp(ct_x[0]);
    for (size_t k = 0; k <= K; k++, coefficient /= (double)k) e[k] = coefficient;
    llm_chain_rule_taylor_compose(z, scratch, e, ct_x, K);
    llm_chain_rule_taylor_exp(want, ct_x, K);
    for (size_t k = 0; k <= K; k++) CHECK_NEAR(z[k], want[k], 1e-12 * (1.0 + fabs(want[k])));
}

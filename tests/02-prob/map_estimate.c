/* @map_estimate */
#include "../test.h"

#include "../../llm.h"

/* Posterior of prior(theta) * likelihood on a grid over (low, high): mean, mode and log
 * evidence. */
static void map_estimate_grid(double out[3], const llm_distribution *prior, double n, double sum,
                              double squares, double noise, double low, double high) {
    enum { CELLS = 40000 };
    double total = 0.0, mean = 0.0, best = -1e300;
    const double step = (high - low) / CELLS;
    for (size_t i = 0; i < CELLS; i++) {
        const double t = low + ((double)i + 0.5) * step;
        double l = llm_distribution_logpdf(prior, t);
        if (prior->kind == LLM_DISTRIBUTION_BETA) l += sum * log(t) + (n - sum) * log(1.0 - t);
        if (prior->kind == LLM_DISTRIBUTION_GAMMA) l += sum * log(t) - n * t;
        if (prior->kind == LLM_DISTRIBUTION_NORMAL)
            l -= 0.5 * (squares - 2.0 * t * sum + n * t * t) / noise;
        if (l > best) best = l, out[1] = t;
        total += exp(l) * step;
        mean += exp(l) * step * t;
    }
    out[0] = mean / total;
    out[2] = log(total);
}

TEST(map_estimate, "conjugate posteriors: mode and mean equal a grid, intervals hold their level") {
    const llm_distribution prior[3] = {{LLM_DISTRIBUTION_BETA, 2.5, 1.5, 0, 1},
                                       {LLM_DISTRIBUTION_GAMMA, 3, 0, 0, 0.5},
                                       {LLM_DISTRIBUTION_NORMAL, 0, 0, 1, 2}};
    const double n[3] = {10, 4, 5}, sum[3] = {7, 9, 12.5}, top[3] = {1, 12, 9};
    for (size_t c = 0; c < 3; c++) {
        llm_distribution post;
        double grid[3], mean, var, low, high;
        map_estimate_grid(grid, &prior[c], n[c], sum[c], 40.0, 1.7, c == 2 ? -7.0 : 0.0, top[c]);
        llm_map_estimate_conjugate(&post, &prior[c], n[c], sum[c], 1.7);
        llm_distribution_moments(&mean, &var, &post);
        CHECK_NEAR(mean, grid[0], 1e-6);
        CHECK_NEAR(llm_map_estimate_mode(&post), grid[1], 5e-4);
        llm_map_estimate_credible(&low, &high, &post, 0.9);
        CHECK_NEAR(llm_distribution_cdf(&post, low), 0.05, 1e-12);
        CHECK_NEAR(llm_distribution_cdf(&post, high), 0.95, 1e-12);
        /* observations in two parts give the same */
        llm_distribution part = prior[c];
        llm_map_estimate_conjugate(&part, &part, 3.0, 2.0, 1.7);
        llm_map_estimate_conjugate(&part, &part, n[c] - 3.0, sum[c] - 2.0, 1.7);
        CHECK_NEAR(part.a, post.a, 1e-12);
        CHECK_NEAR(part.b, post.b, 1e-12);
        CHECK_NEAR(part.loc, post.loc, 1e-12);
        CHECK_NEAR(part.scale, post.scale, 1e-12);
        CHECK_ASSERTS(llm_map_estimate_conjugate(&post, &prior[c], -1.0, 0.0, 1.7));
    }
    llm_distribution post;
    llm_map_estimate_conjugate(&post, &prior[0], 0.0, 0.0, 0.0); /* nothing seen, nothing learnt */
    CHECK(post.a == prior[0].a && post.b == prior[0].b);
    llm_map_estimate_conjugate(&post, &prior[1], 2.0, 0.0, 0.0); /* two spells without an event */
    CHECK(post.a == 3.0 && post.scale == 0.25);
    llm_map_estimate_conjugate(&post, &prior[2], 1.0, 2.0, 0.25); /* precisions 1/4 and 4 */
    CHECK_NEAR(post.loc, (0.25 + 8.0) / 4.25, 1e-15);
    CHECK_ASSERTS(llm_map_estimate_conjugate(&post, &prior[0], 3.0, 4.0, 0.0));
    CHECK_ASSERTS(llm_map_estimate_conjugate(&post, &prior[0], 3.0, -1.0, 0.0));
    CHECK_ASSERTS(llm_map_estimate_conjugate(&post, &prior[1], 3.0, -1.0, 0.0));
    CHECK_ASSERTS(llm_map_estimate_conjugate(&post, &prior[2], 3.0, 1.0, 0.0));
}

TEST(map_estimate, "a flat prior is the MLE, and 10^5 data drown any prior") {
    const llm_distribution flat = {LLM_DISTRIBUTION_BETA, 1, 1, 0, 1};
    const llm_distribution strong = {LLM_DISTRIBUTION_BETA, 30, 3, 0, 1};
    llm_distribution post;
    llm_map_estimate_conjugate(&post, &flat, 10.0, 7.0, 0.0);
    CHECK_NEAR(llm_map_estimate_mode(&post), 0.7, 1e-15);
    llm_map_estimate_conjugate(&post, &strong, 1e5, 3e4, 0.0);
    CHECK_NEAR(llm_map_estimate_mode(&post), 0.3, 1e-3);
    /* modes at the border, and none */
    const double shapes[8][3] = {{0.5, 0.5, (double)NAN}, {2, 1, 1},   {1, 2, 0},   {0.5, 2, 0},
                                 {1, 1, (double)NAN},     {0.5, 1, 0}, {1, 0.5, 1}, {2, 0.5, 1}};
    for (size_t i = 0; i < 8; i++) {
        const llm_distribution d = {LLM_DISTRIBUTION_BETA, shapes[i][0], shapes[i][1], 0, 1};
        const double mode = llm_map_estimate_mode(&d);
        CHECK(isnan(shapes[i][2]) ? isnan(mode) : mode == shapes[i][2]);
    }
    const llm_distribution small = {LLM_DISTRIBUTION_GAMMA, 0.5, 0, 0, 2};
    const llm_distribution cauchy = {LLM_DISTRIBUTION_CAUCHY, 0, 0, 0, 1};
    CHECK(llm_map_estimate_mode(&small) == 0.0);
    const llm_distribution broken = {LLM_DISTRIBUTION_GAMMA, -1, 0, 0, 1};
    CHECK_ASSERTS(llm_map_estimate_mode(&cauchy));
    CHECK_ASSERTS(llm_map_estimate_mode(&broken));
    CHECK_ASSERTS(llm_map_estimate_conjugate(&post, &cauchy, 1.0, 1.0, 1.0));
}

TEST(map_estimate, "the mode moves under a change of variable, by the Jacobian") {
    const double a = 3.0, b = 9.0;
    const llm_distribution d = {LLM_DISTRIBUTION_BETA, a, b, 0, 1};
    double best = -1e300, at = 0.0;
    for (double z = -6.0; z < 4.0; z += 1e-4) { /* density of z = logit p */
        const double p = llm_logit_expit(z);
        const double l = llm_distribution_logpdf(&d, p) + log(llm_logit_expit_slope(z));
        if (l > best) best = l, at = p;
    }
    CHECK_NEAR(llm_map_estimate_logit_mode(a, b), at, 1e-4);
    CHECK_NEAR(llm_map_estimate_logit_mode(a, b) - llm_map_estimate_mode(&d), 0.25 - 0.2, 1e-12);
}

TEST(map_estimate, "Dirichlet: modes and means by hand, entries below 1, nothing left") {
    const double alpha[3] = {1.0, 2.0, 0.5}, count[3] = {3.0, 0.0, 0.0}, zero[3] = {0.0, 0.0, 0.0};
    const double low[3] = {0.5, 1.0, 0.2};
    double mode[3], mean[3];
    CHECK(llm_map_estimate_dirichlet(mode, mean, alpha, count, 3));
    CHECK_NEAR(mode[0], 0.75, 1e-15);
    CHECK_NEAR(mode[1], 0.25, 1e-15);
    CHECK(mode[2] == 0.0);
    CHECK_NEAR(mean[0], 4.0 / 6.5, 1e-15);
    CHECK_NEAR(mean[2], 0.5 / 6.5, 1e-15);
    CHECK(!llm_map_estimate_dirichlet(mode, mean, low, zero, 3));
    CHECK_NEAR(mean[1], 1.0 / 1.7, 1e-15);
    CHECK_NEAR(mode[0], 0.75, 1e-15);
    CHECK(llm_map_estimate_dirichlet(NULL, NULL, alpha, count, 3));
    const double half[3] = {1.5, 1.0, 1.0}; /* half an observation above flat */
    CHECK(llm_map_estimate_dirichlet(mode, NULL, half, zero, 3) && mode[0] == 1.0);
}

TEST(map_estimate, "mean and variance unknown: the marginal of the mean equals a 2-d integral") {
    const llm_map_estimate_nig prior = {1.0, 2.0, 3.0, 4.0};
    const double x[4] = {2.0, 3.5, 0.5, 4.0}, mean = 2.5;
    double squares = 0.0;
    for (size_t i = 0; i < 4; i++) squares += (x[i] - mean) * (x[i] - mean);
    const llm_map_estimate_nig post = llm_map_estimate_nig_update(prior, 4.0, mean, squares);
    const llm_distribution t = llm_map_estimate_nig_mean(post);
    double numbers[3] = {0.0, 0.0, 0.0}, total = 0.0, best = -1e300, best_v = 0.0;
    for (double u = -3.0; u < 6.0; u += 0.01) /* u = log variance, m the mean */
        for (double m = -6.0; m < 10.0; m += 0.02) {
            const double v = exp(u);
            double l = -(prior.a + 1.0) * u - prior.b / v - 0.5 * u -
                       0.5 * prior.k * (m - 1.0) * (m - 1.0) / v;
            for (size_t i = 0; i < 4; i++) l -= 0.5 * (u + (x[i] - m) * (x[i] - m) / v);
            if (l > best) best = l, best_v = v;
            const double mass = exp(l) * v; /* dv = v du */
            total += mass, numbers[0] += mass * m, numbers[1] += mass * m * m;
            if (m < 3.0 - 0.01) numbers[2] += mass;
        }
    const llm_map_estimate_nig by_hand = {2.0, 4.0, 3.0, 4.0};
    const llm_map_estimate_nig got = llm_map_estimate_nig_update(by_hand, 4.0, 1.0, 6.0);
    CHECK(got.m == 1.5 && got.k == 8.0 && got.a == 5.0 && got.b == 4.0 + 3.0 + 1.0);
    double t_mean, t_var;
    llm_distribution_moments(&t_mean, &t_var, &t);
    CHECK_NEAR(numbers[0] / total, t_mean, 1e-4);
    CHECK_NEAR(numbers[1] / total - t_mean * t_mean, t_var, 1e-3);
    CHECK_NEAR(numbers[2] / total, llm_distribution_cdf(&t, 3.0 - 0.02), 2e-3); /* cells of 0.02 */
    CHECK_NEAR(post.b / (post.a + 1.5), best_v, 0.01);
}

TEST(map_estimate, "a Gaussian prior on a linear model is ridge, a Laplace prior soft threshold") {
    enum { N = 20, D = 3 };
    llm_rng rng = llm_rng_seed(1);
    float x[N * D], y[N], theta[D] = {0.0f}, lasso[D] = {0.0f};
    const double noise = 0.5, tau = 0.8; /* variances of noise and prior */
    double gram[D * D] = {0.0}, L[D * D], b[D] = {0.0};
    llm_rng_normal_fill(&rng, x, N * D);
    for (size_t i = 0; i < N; i++)
        y[i] = x[i * D] - 0.1f * x[i * D + 1] + 0.5f * llm_rng_normal(&rng);
    for (size_t i = 0; i < N; i++)
        for (size_t j = 0; j < D; j++) {
            b[j] += (double)(x[i * D + j] * y[i]);
            for (size_t k = 0; k < D; k++) gram[j * D + k] += (double)(x[i * D + j] * x[i * D + k]);
        }
    for (size_t step = 0; step < 2000; step++)
        for (int prior = 0; prior < 2; prior++) {
            float *t = prior ? lasso : theta, grad[D];
            for (size_t j = 0; j < D; j++) {
                double g = b[j];
                for (size_t k = 0; k < D; k++) g -= gram[j * D + k] * (double)t[k];
                grad[j] = (float)(g / noise);
            }
            llm_map_estimate_step(t, grad, D, 0.005f, prior ? 0.0f : (float)(1.0 / tau),
                                  prior ? 12.0f : 0.0f);
        }
    /* lasso: the gradient of the likelihood is l1 sign(t), or within l1 where t is 0 */
    CHECK(lasso[0] != 0.0f && lasso[1] == 0.0f);
    for (size_t j = 0; j < D; j++) {
        double g = b[j];
        for (size_t k = 0; k < D; k++) g -= gram[j * D + k] * (double)lasso[k];
        if (lasso[j] == 0.0f)
            CHECK(fabs(g / noise) <= 12.0);
        else
            CHECK_NEAR(g / noise, lasso[j] > 0.0f ? 12.0 : -12.0, 1e-3);
    }
    for (size_t j = 0; j < D; j++) gram[j * D + j] += noise / tau;
    memcpy(L, gram, (size_t)D * D * sizeof *L);
    CHECK(llm_cholesky_factor(L, D, NULL));
    llm_cholesky_solve(b, L, D, 1);
    for (size_t j = 0; j < D; j++) CHECK_NEAR(theta[j], b[j], 1e-5);
    float t[2] = {-1.0f, -0.05f};
    const float none[2] = {0.0f, 0.0f};
    llm_map_estimate_step(t, none, 2, 0.1f, 0.0f, 1.0f); /* by hand: 0.1 towards 0 */
    CHECK_NEAR(t[0], -0.9f, 1e-6);
    CHECK(t[1] == 0.0f);
}

TEST(map_estimate, "Laplace's evidence: exact for Gaussians, close for a beta, none at a saddle") {
    /* x_i ~ N(theta, 1.7), theta ~ N(1, 4): everything is Gaussian */
    const llm_distribution prior = {LLM_DISTRIBUTION_NORMAL, 0, 0, 1, 2};
    const double x[5] = {2.0, 3.0, 1.0, 4.0, 2.5};
    double sum = 0.0, squares = 0.0, grid[3], cov[4], L[4];
    for (size_t i = 0; i < 5; i++) sum += x[i], squares += x[i] * x[i];
    map_estimate_grid(grid, &prior, 5.0, sum, squares, 1.7, -20.0, 20.0);
    llm_distribution post;
    llm_map_estimate_conjugate(&post, &prior, 5.0, sum, 1.7);
    const double m = llm_map_estimate_mode(&post), H = 1.0 / 4.0 + 5.0 / 1.7;
    const double joint =
        llm_distribution_logpdf(&prior, m) - 0.5 * (squares - 2.0 * m * sum + 5.0 * m * m) / 1.7;
    CHECK_NEAR(llm_map_estimate_laplace(cov, L, joint, &H, 1), grid[2], 1e-6);
    CHECK_NEAR(cov[0], post.scale * post.scale, 1e-12);
    /* two dimensions: the integral of exp(-theta^T A theta / 2) */
    const double A[4] = {2.0, 0.6, 0.6, 1.0}, saddle[4] = {1.0, 2.0, 2.0, 1.0};
    const double valley[4] = {1.0, 1.0, 1.0, 1.0};
    CHECK_NEAR(llm_map_estimate_laplace(cov, L, 0.0, A, 2), log(2.0 * acos(-1.0)) - 0.5 * log(1.64),
               1e-12);
    CHECK_NEAR(cov[0], 1.0 / 1.64, 1e-12);
    CHECK(isnan(llm_map_estimate_laplace(cov, L, 0.0, saddle, 2)));
    CHECK(isnan(llm_map_estimate_laplace(cov, L, 0.0, valley, 2)));
    /* beta(31, 71) integral in p: log B, within 1/(12 n) or so */
    const double k = 30.0, n = 100.0, p = k / n, curvature = n / (p * (1.0 - p));
    const double got =
        llm_map_estimate_laplace(cov, L, k * log(p) + (n - k) * log(1.0 - p), &curvature, 1);
    const double want =
        llm_special_lgamma(31.0) + llm_special_lgamma(71.0) - llm_special_lgamma(102.0);
    /* what Stirling's series leaves of the factorials, and n + 1 for n */
    CHECK_NEAR(got - want, log(1.01) - (1.0 / 30.0 + 1.0 / 70.0 - 1.0 / 100.0) / 12.0, 2e-7);
}

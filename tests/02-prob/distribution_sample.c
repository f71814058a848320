/* @distribution_sample */
#include "../test.h"

#include "../../llm.h"

static const llm_distribution distribution_sample_case[] = {
    {LLM_DISTRIBUTION_UNIFORM, 0, 0, -1, 3},  {LLM_DISTRIBUTION_EXPONENTIAL, 0, 0, 2, 5},
    {LLM_DISTRIBUTION_NORMAL, 0, 0, 1, 2},    {LLM_DISTRIBUTION_LAPLACE, 0, 0, 0, 1},
    {LLM_DISTRIBUTION_LOGISTIC, 0, 0, 0, 1},  {LLM_DISTRIBUTION_CAUCHY, 0, 0, 0, 1},
    {LLM_DISTRIBUTION_STUDENT_T, 3, 0, 1, 2}, {LLM_DISTRIBUTION_STUDENT_T, 12, 0, 0, 1},
    {LLM_DISTRIBUTION_GAMMA, 0.3, 0, 0, 1},   {LLM_DISTRIBUTION_GAMMA, 1, 0, -2, 3},
    {LLM_DISTRIBUTION_GAMMA, 8, 0, 0, 1},     {LLM_DISTRIBUTION_CHI_SQUARED, 3, 0, 0, 1},
    {LLM_DISTRIBUTION_BETA, 0.2, 0.4, 0, 1},  {LLM_DISTRIBUTION_BETA, 3, 2, 1, 4}};
enum { CASES = sizeof distribution_sample_case / sizeof *distribution_sample_case, DRAWS = 20000 };

/* Seeds 1 to 9: the smallest of the 14 p-values of a seed lies between 0.003 and 0.11. */
TEST(distribution_sample, "20000 draws pass Kolmogorov-Smirnov, mean and variance are right") {
    llm_arena arena;
    CHECK(llm_arena_create(&arena, DRAWS * sizeof(size_t) + 64));
    llm_rng rng = llm_rng_seed(1);
    float *x = floats(DRAWS);
    for (size_t k = 0; k < CASES; k++) {
        const llm_distribution *d = &distribution_sample_case[k];
        double sum = 0.0, sum_sq = 0.0, fourth = 0.0, mean, var, gap;
        llm_distribution_moments(&mean, &var, d);
        for (size_t i = 0; i < DRAWS; i++) {
            x[i] = (float)llm_distribution_sample(d, &rng);
            const double away = (double)x[i] - mean;
            sum += away, sum_sq += away * away, fourth += away * away * away * away;
        }
        CHECK(llm_distribution_sample_ks(&gap, d, x, DRAWS, &arena) > 0.001);
        CHECK(gap > 0.0 && gap < 0.02 && arena.used == 0);
        const double n = (double)DRAWS;
        if (isnan(mean)) continue;
        CHECK_NEAR(sum / n, 0.0, 4.0 * sqrt(var / n));
        if (d->kind != LLM_DISTRIBUTION_STUDENT_T || d->a > 4.0) /* a fourth moment */
            CHECK_NEAR(sum_sq / n, var, 4.0 * sqrt((fourth / n - var * var) / n));
    }
    /* and a wrong one is found out: a scale 5% too large */
    llm_distribution d = distribution_sample_case[10];
    double gap;
    for (size_t i = 0; i < DRAWS; i++) x[i] = (float)llm_distribution_sample(&d, &rng);
    d.scale = 1.05;
    CHECK(llm_distribution_sample_ks(&gap, &d, x, DRAWS, &arena) < 1e-6);
    llm_arena_destroy(&arena);
}

TEST(distribution_sample, "shapes of 0.001: the logarithm is a number, the beta is near 0 or 1") {
    llm_rng rng = llm_rng_seed(2);
    const llm_distribution d = {LLM_DISTRIBUTION_BETA, 0.001, 0.001, 0, 1};
    double sum = 0.0, log_sum = 0.0;
    for (size_t i = 0; i < 4000; i++) {
        const double x = llm_distribution_sample(&d, &rng);
        const double log_g = llm_distribution_sample_log_gamma(0.001, &rng);
        CHECK(x >= 0.0 && x <= 1.0 && fabs(log_g) < DBL_MAX);
        sum += x, log_sum += log_g;
    }
    CHECK_NEAR(sum / 4000.0, 0.5, 4.0 * 0.5 / sqrt(4000.0));
    /* E log g is digamma(a), its variance trigamma(a) */
    CHECK_NEAR(log_sum / 4000.0, llm_special_digamma(0.001),
               4.0 * sqrt(llm_special_trigamma(0.001) / 4000.0));
    for (size_t i = 0; i < 1000; i++) {
        const double u = llm_distribution_sample_uniform(&rng);
        CHECK(u > 0.0 && u < 1.0);
    }
    CHECK_ASSERTS(llm_distribution_sample_log_gamma(0.0, &rng));
}

TEST(distribution_sample, "the uniform has 53 bits, from two words, never an end") {
    llm_rng rng = llm_rng_seed(3), same = rng;
    const double a = (double)(llm_rng_u32(&same) >> 5), b = (double)(llm_rng_u32(&same) >> 6);
    CHECK(llm_distribution_sample_uniform(&rng) == ldexp(a * ldexp(1.0, 26) + b + 0.5, -53));
    CHECK(llm_rng_u32(&rng) == llm_rng_u32(&same));
    rng.used = 0, rng.word[0] = rng.word[1] = 0; /* the smallest and the largest */
    CHECK(llm_distribution_sample_uniform(&rng) == ldexp(1.0, -54));
    rng.used = 0, rng.word[0] = rng.word[1] = UINT32_MAX;
    CHECK(llm_distribution_sample_uniform(&rng) <= 1.0);
}

TEST(distribution_sample, "a draw is a function of the numbers it reads, its sign included") {
    const llm_distribution gamma = {LLM_DISTRIBUTION_GAMMA, 8, 0, 1, 2};
    const llm_distribution waiting = {LLM_DISTRIBUTION_EXPONENTIAL, 0, 0, 1, 2};
    const double mean = 0.5, L = 3.0;
    for (uint64_t seed = 1; seed <= 9; seed++) {
        llm_rng rng = llm_rng_seed(seed), same = rng, again = rng;
        double z = llm_distribution_sample_normal(&same), x;
        llm_distribution_sample_mvn(&x, &mean, &L, 1, 1, &rng);
        CHECK_NEAR(x, mean + L * z, 1e-15);
        rng = again; /* the first cube is accepted with every one of these seeds */
        const double d = 8.0 - 1.0 / 3.0;
        CHECK_NEAR(llm_distribution_sample(&gamma, &rng),
                   1.0 + 2.0 * d * pow(1.0 + z / sqrt(9.0 * d), 3.0), 1e-12);
        rng = same = again;
        CHECK_NEAR(llm_distribution_sample(&waiting, &rng),
                   1.0 - 2.0 * log(llm_distribution_sample_uniform(&same)), 1e-14);
    }
}

TEST(distribution_sample, "multivariate normal: covariance of the draws, density equals SciPy's") {
    enum { D = 3, N = 20000 };
    const double cov[D * D] = {4.0, 1.0, -0.5, 1.0, 2.0, 0.3, -0.5, 0.3, 1.0};
    const double mean[D] = {1.0, -2.0, 0.5};
    double L[D * D], *x = doubles(N * D), m[D] = {0.0}, scratch[D];
    llm_rng rng = llm_rng_seed(4);
    memcpy(L, cov, (size_t)D * D * sizeof *L);
    CHECK(llm_cholesky_factor(L, D, NULL));
    llm_distribution_sample_mvn(x, mean, L, N, D, &rng);
    for (size_t i = 0; i < N * D; i++) m[i % D] += x[i] / N;
    for (size_t i = 0; i < D; i++) {
        CHECK_NEAR(m[i], mean[i], 4.0 * sqrt(cov[i * D + i] / N));
        for (size_t j = 0; j < D; j++) {
            double sum = 0.0;
            for (size_t k = 0; k < N; k++)
                sum += (x[k * D + i] - mean[i]) * (x[k * D + j] - mean[j]);
            const double var = cov[i * D + i] * cov[j * D + j] + cov[i * D + j] * cov[i * D + j];
            CHECK_NEAR(sum / N, cov[i * D + j], 4.0 * sqrt(var / N));
        }
    }
    const float *at = golden("mvn/x"), *want = golden("mvn/logpdf");
    for (size_t k = 0; k < 5; k++) {
        double point[D];
        for (size_t i = 0; i < D; i++) point[i] = (double)at[k * D + i];
        CHECK_NEAR(llm_distribution_sample_mvn_logpdf(scratch, point, mean, L, D), want[k],
                   1e-6 * fabs((double)want[k]));
    }
}

TEST(distribution_sample, "the KS gap equals SciPy's, the limit distribution its kstwobign") {
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 1 << 12));
    const float *l = golden("limit/l"), *want = golden("limit/sf");
    for (size_t i = 0; i < 9; i++)
        CHECK_NEAR(llm_distribution_sample_kolmogorov((double)l[i]), want[i], 1e-7);
    CHECK(llm_distribution_sample_kolmogorov(0.0) == 1.0);
    CHECK(llm_distribution_sample_kolmogorov(-1.0) == 1.0);
    CHECK_NEAR(llm_distribution_sample_kolmogorov(1.0 + 1e-14), /* the two series meet */
               llm_distribution_sample_kolmogorov(1.0), 1e-13);
    const llm_distribution flat = {LLM_DISTRIBUTION_UNIFORM, 0, 0, 0, 1};
    const float two[2] = {0.1f, 0.95f}; /* the largest gap lies before the second */
    double before;
    llm_distribution_sample_ks(&before, &flat, two, 2, &arena);
    CHECK_NEAR(before, 0.95 - 0.5, 1e-7);
    const llm_distribution normal = {LLM_DISTRIBUTION_NORMAL, 0, 0, 0, 1};
    const size_t sizes[] = {1, 2, 5, 37};
    for (size_t s = 0; s < 4; s++) {
        double gap;
        const double p = llm_distribution_sample_ks(&gap, &normal, golden("ks%zu/x", sizes[s]),
                                                    sizes[s], &arena);
        CHECK_NEAR(gap, golden("ks%zu/gap", sizes[s])[0], 1e-7);
        /* against the exact distribution of finite n: the corrected limit is good to 0.02 */
        CHECK_NEAR(p, golden("ks%zu/p", sizes[s])[0], s < 2 ? 0.1 : 0.02);
        const double root = sqrt((double)sizes[s]);
        CHECK_NEAR(p, llm_distribution_sample_kolmogorov((root + 0.12 + 0.11 / root) * gap), 1e-12);
    }
    llm_arena_destroy(&arena);
}

TEST(distribution_sample, "what is no distribution is refused") {
    llm_rng rng = llm_rng_seed(1);
    for (int kind = 0; kind < LLM_DISTRIBUTION_COUNT; kind++) {
        const llm_distribution flat = {kind, 1, 1, 0, 0};
        CHECK_ASSERTS(llm_distribution_sample(&flat, &rng));
    }
}

/* @categorical_sample */
#include "../test.h"

#include "../../llm.h"

enum { DRAWS = 100000, N = 7 };
static const float categorical_sample_weight[N] = {3.0f, 0.0f, 1.0f, 0.5f, 8.0f, 0.02f, 2.5f};

static void categorical_sample_shares(double *p, const float *w, size_t n) {
    double sum = 0.0;
    for (size_t i = 0; i < n; i++) sum += (double)w[i];
    for (size_t i = 0; i < n; i++) p[i] = (double)w[i] / sum;
}

TEST(categorical_sample, "table, alias and Gumbel draw the same distribution, never a zero") {
    llm_arena arena;
    llm_rng rng = llm_rng_seed(1);
    double cdf[N], cut[N], p[N], score, chi2, df;
    size_t alias[N];
    float z[N];
    CHECK(llm_arena_create(&arena, 4096));
    categorical_sample_shares(p, categorical_sample_weight, N);
    for (size_t i = 0; i < N; i++) z[i] = logf(categorical_sample_weight[i]) + 50.0f;
    CHECK(llm_categorical_sample_table(cdf, categorical_sample_weight, N));
    CHECK(llm_categorical_sample_alias(cut, alias, categorical_sample_weight, N, &arena));
    CHECK(arena.used == 0);
    for (int way = 0; way < 3; way++) {
        double count[N] = {0.0};
        for (size_t k = 0; k < DRAWS; k++) {
            size_t i = 0;
            if (way == 0) i = llm_categorical_sample_search(cdf, N, &rng);
            if (way == 1) i = llm_categorical_sample_alias_draw(cut, alias, N, &rng);
            if (way == 2) CHECK(llm_categorical_sample_gumbel(&i, &score, 1, z, N, &rng) == 1);
            count[i] += 1.0;
        }
        CHECK(count[1] == 0.0);
        CHECK(llm_categorical_chi2test(&chi2, &df, count, p, N, 0) > 0.001);
    }
    llm_arena_destroy(&arena);
}

TEST(categorical_sample, "the alias table adds up to the probabilities, for awkward sizes") {
    llm_arena arena;
    llm_rng rng = llm_rng_seed(2);
    const size_t sizes[] = {1, 2, 3, 17, 1000};
    CHECK(llm_arena_create(&arena, 1 << 14));
    for (size_t s = 0; s < 5; s++) {
        const size_t n = sizes[s];
        float *w = floats(n);
        double *cut = doubles(n), *p = doubles(n), *sum = doubles(n);
        size_t *alias = (size_t *)test_memory(n, sizeof(size_t));
        for (size_t i = 0; i < n; i++) {
            w[i] = i % 5 == 3 ? 0.0f : expf(3.0f * llm_rng_normal(&rng));
            sum[i] = 0.0;
        }
        if (n == 17)
            for (size_t i = 0; i < n; i++) w[i] = 0.1f; /* all equal */
        categorical_sample_shares(p, w, n);
        CHECK(llm_categorical_sample_alias(cut, alias, w, n, &arena));
        for (size_t i = 0; i < n; i++) {
            CHECK(cut[i] >= 0.0 && cut[i] <= 1.0 + 1e-9 && alias[i] < n);
            const double kept = fmin(1.0, cut[i]);
            sum[i] += kept / (double)n;
            sum[alias[i]] += (1.0 - kept) / (double)n;
        }
        for (size_t i = 0; i < n; i++) CHECK_NEAR(sum[i], p[i], 1e-12);
    }
    double *one = doubles(1); /* exactly as long as it has to be */
    const float only[1] = {3.0f};
    CHECK(llm_categorical_sample_table(one, only, 1) && one[0] == 3.0);
    CHECK(llm_categorical_sample_search(one, 1, &rng) == 0);
    double cut[3];
    size_t alias[3];
    const float negative[3] = {1.0f, -1.0f, 1.0f}, zero[3] = {0.0f, 0.0f, 0.0f};
    const float bad[3] = {1.0f, NAN, 1.0f}, infinite[3] = {1.0f, INFINITY, 1.0f};
    CHECK(!llm_categorical_sample_table(cut, negative, 3));
    CHECK(!llm_categorical_sample_table(cut, zero, 3));
    CHECK(!llm_categorical_sample_table(cut, bad, 3));
    CHECK(!llm_categorical_sample_table(cut, infinite, 3));
    CHECK(!llm_categorical_sample_alias(cut, alias, negative, 3, &arena));
    CHECK(!llm_categorical_sample_alias(cut, alias, zero, 3, &arena));
    CHECK(arena.used == 0);
    llm_arena_destroy(&arena);
}

TEST(categorical_sample, "Gumbel top-2 is drawing twice without putting back") {
    const float w[4] = {5.0f, 3.0f, 1.0f, 1.0f};
    float z[5];
    double pair[16], count[16] = {0.0}, score[5], chi2, df, p[4];
    size_t index[5];
    llm_rng rng = llm_rng_seed(3);
    categorical_sample_shares(p, w, 4);
    for (size_t i = 0; i < 4; i++) z[i] = logf(w[i]);
    z[4] = -INFINITY;
    for (size_t i = 0; i < 16; i++)
        pair[i] = i / 4 == i % 4 ? 0.0 : p[i / 4] * p[i % 4] / (1.0 - p[i / 4]);
    for (size_t k = 0; k < DRAWS; k++) {
        CHECK(llm_categorical_sample_gumbel(index, score, 2, z, 5, &rng) == 2);
        CHECK(score[0] >= score[1]);
        count[4 * index[0] + index[1]] += 1.0;
    }
    CHECK(llm_categorical_chi2test(&chi2, &df, count, pair, 16, 0) > 0.001);
    CHECK(df > 9.0);
    CHECK(llm_categorical_sample_gumbel(index, score, 5, z, 5, &rng) == 4); /* -inf is left out */
    CHECK(index[0] + index[1] + index[2] + index[3] == 6);
    CHECK(llm_categorical_sample_gumbel(index, score, 0, z, 5, &rng) == 0);
    CHECK(llm_categorical_sample_gumbel(index, score, 1, z + 4, 1, &rng) == 0);
    z[4] = INFINITY;
    CHECK_ASSERTS(llm_categorical_sample_gumbel(index, score, 2, z, 5, &rng));
}

TEST(categorical_sample, "counts of every law pass chi-squared, at small and large means") {
    const llm_categorical_law laws[] = {
        {LLM_CATEGORICAL_BINOMIAL, 1, 0.3},    {LLM_CATEGORICAL_BINOMIAL, 12, 0.4},
        {LLM_CATEGORICAL_BINOMIAL, 40, 0.9},   {LLM_CATEGORICAL_BINOMIAL, 100, 0.37},
        {LLM_CATEGORICAL_BINOMIAL, 5000, 0.6}, {LLM_CATEGORICAL_BINOMIAL, 21, 0.48},
        {LLM_CATEGORICAL_POISSON, 0.4, 0},     {LLM_CATEGORICAL_POISSON, 9.9, 0},
        {LLM_CATEGORICAL_POISSON, 10.1, 0},    {LLM_CATEGORICAL_POISSON, 700, 0},
        {LLM_CATEGORICAL_POISSON, 13, 0},      {LLM_CATEGORICAL_BINOMIAL, 25, 0.45},
        {LLM_CATEGORICAL_NEGATIVE, 2.5, 0.2},  {LLM_CATEGORICAL_GEOMETRIC, 0, 0.15}};
    llm_rng rng = llm_rng_seed(4);
    for (size_t c = 0; c < sizeof laws / sizeof *laws; c++) {
        enum { CELLS = 1200 };
        double mean, var, chi2, df, *count = doubles(CELLS), *p = doubles(CELLS), rest = 1.0;
        llm_categorical_moments(&mean, &var, &laws[c]);
        const double start = fmax(0.0, floor(mean - 100.0 - 6.0 * sqrt(var)));
        for (size_t i = 0; i < CELLS; i++) {
            count[i] = 0.0;
            p[i] = exp(llm_categorical_logpmf(&laws[c], start + (double)i));
            rest -= p[i];
        }
        CHECK(fabs(rest) < 1e-6);
        for (size_t k = 0; k < DRAWS; k++) {
            const double x = llm_categorical_sample(&laws[c], &rng) - start;
            CHECK(x >= 0.0 && x < CELLS && x == floor(x));
            count[(size_t)x] += 1.0;
        }
        CHECK(llm_categorical_chi2test(&chi2, &df, count, p, CELLS, 0) > 0.001);
    }
    const llm_categorical_law none = {LLM_CATEGORICAL_BINOMIAL, 9, 0};
    const llm_categorical_law all = {LLM_CATEGORICAL_BINOMIAL, 9, 1};
    const llm_categorical_law first = {LLM_CATEGORICAL_GEOMETRIC, 0, 1};
    const llm_categorical_law bad = {LLM_CATEGORICAL_BINOMIAL, 9, 2};
    for (size_t k = 0; k < 100; k++) {
        CHECK(llm_categorical_sample(&none, &rng) == 0.0);
        CHECK(llm_categorical_sample(&all, &rng) == 9.0);
        CHECK(llm_categorical_sample(&first, &rng) == 1.0);
    }
    CHECK_ASSERTS(llm_categorical_sample(&bad, &rng));
}

/* Where the hat or the box inside it were wrong by a few percent, 10^5 draws do not see it. */
TEST(categorical_sample, "800000 draws of the rejection methods pass chi-squared") {
    const llm_categorical_law laws[3] = {{LLM_CATEGORICAL_POISSON, 10.1, 0},
                                         {LLM_CATEGORICAL_BINOMIAL, 25, 0.45},
                                         {LLM_CATEGORICAL_BINOMIAL, 200, 0.06}};
    llm_rng rng = llm_rng_seed(6);
    for (size_t c = 0; c < 3; c++) {
        enum { CELLS = 60, MANY = 800000 };
        double chi2, df, count[CELLS] = {0.0}, p[CELLS];
        for (size_t i = 0; i < CELLS; i++) p[i] = exp(llm_categorical_logpmf(&laws[c], (double)i));
        for (size_t k = 0; k < MANY; k++) {
            const double x = llm_categorical_sample(&laws[c], &rng);
            CHECK(x >= 0.0 && x < CELLS);
            count[(size_t)x] += 1.0;
        }
        CHECK(llm_categorical_chi2test(&chi2, &df, count, p, CELLS, 0) > 0.001);
    }
}

TEST(categorical_sample, "multinomial counts add up; means and covariances are right") {
    enum { K = 4, ROUNDS = 10000 };
    const float w[K] = {0.25f, 0.0f, 0.625f, 0.375f};
    double p[K], k[K], mean[K] = {0.0}, cross = 0.0;
    llm_rng rng = llm_rng_seed(5);
    categorical_sample_shares(p, w, K);
    for (size_t r = 0; r < ROUNDS; r++) {
        llm_categorical_sample_multinomial(k, w, K, 30.0, &rng);
        CHECK(k[0] + k[1] + k[2] + k[3] == 30.0 && k[1] == 0.0);
        for (size_t i = 0; i < K; i++) mean[i] += k[i] / ROUNDS;
        cross += (k[0] - 6.0) * (k[2] - 15.0) / ROUNDS;
    }
    for (size_t i = 0; i < K; i++)
        CHECK_NEAR(mean[i], 30.0 * p[i], 4.0 * sqrt(30.0 * p[i] * (1.0 - p[i]) / ROUNDS));
    CHECK_NEAR(cross, -30.0 * 0.2 * 0.5, 0.3); /* 4 standard errors */
}

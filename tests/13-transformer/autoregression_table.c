/* @autoregression_table */
#include "../test.h"

#include "../../llm.h"

enum { N = 3, ENTRIES = 2 * 3 * 4 };
static const size_t size[N] = {2, 3, 4};
static const size_t every[6][N] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2},
                                   {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};

static void random_joint(double *joint, uint64_t seed) {
    llm_rng rng = llm_rng_seed(seed);
    double sum = 0.0;
    for (size_t i = 0; i < ENTRIES; i++) sum += joint[i] = (double)llm_rng_uniform(&rng);
    for (size_t i = 0; i < ENTRIES; i++) joint[i] /= sum;
}

TEST(autoregression_table, "factors of all orders give back the joint distribution") {
    double joint[ENTRIES], conditional[64];
    size_t x[N];
    for (uint64_t seed = 1; seed <= 3; seed++) {
        random_joint(joint, seed);
        for (size_t o = 0; o < 6; o++) {
            const llm_autoregression_table t = {N, size, every[o]};
            llm_autoregression_table_factorize(conditional, joint, &t, x);
            for (size_t i = 0; i < ENTRIES; i++) {
                x[0] = i / 12, x[1] = i / 4 % 3, x[2] = i % 4;
                CHECK_NEAR(exp(llm_autoregression_table_score(conditional, x, N, &t)), joint[i],
                           1e-15);
            }
        }
    }
}

TEST(autoregression_table,
     "each factor is a ratio of marginals, summed over all that comes later") {
    double joint[ENTRIES], conditional[64];
    size_t x[N], y[N];
    random_joint(joint, 7);
    for (size_t o = 0; o < 6; o++) {
        const llm_autoregression_table t = {N, size, every[o]};
        llm_autoregression_table_factorize(conditional, joint, &t, x);
        for (size_t i = 0; i < ENTRIES; i++) {
            llm_autoregression_table_values(x, i, &t);
            double before = 1.0;
            for (size_t j = 1; j <= N; j++) { /* the mass of all y that agree in the first j */
                double mass = 0.0;
                for (size_t k = 0; k < ENTRIES; k++) {
                    bool agree = true;
                    llm_autoregression_table_values(y, k, &t);
                    for (size_t v = 0; v < j; v++)
                        agree = agree && x[every[o][v]] == y[every[o][v]];
                    mass += agree ? joint[k] : 0.0;
                }
                const size_t at = llm_autoregression_table_index(&t, x, j - 1);
                CHECK_NEAR(conditional[at], mass / before, 1e-14);
                CHECK_NEAR(llm_autoregression_table_score(conditional, x, j, &t), log(mass), 1e-13);
                before = mass;
            }
        }
    }
}

TEST(autoregression_table, "conditionals are counted, and stand behind each other without a gap") {
    const size_t counts[6][N + 1] = {{0, 2, 8, 32},  {0, 2, 10, 34}, {0, 3, 9, 33},
                                     {0, 3, 15, 39}, {0, 4, 12, 36}, {0, 4, 16, 40}};
    double joint[ENTRIES], conditional[64];
    size_t x[N];
    random_joint(joint, 2);
    for (size_t o = 0; o < 6; o++) {
        const llm_autoregression_table t = {N, size, every[o]};
        bool seen[40] = {false};
        for (size_t j = 0; j <= N; j++)
            CHECK(llm_autoregression_table_count(&t, j) == counts[o][j]);
        for (size_t i = 0; i < ENTRIES; i++) {
            llm_autoregression_table_values(x, i, &t);
            CHECK(x[0] == i / 12 && x[1] == i / 4 % 3 && x[2] == i % 4);
            for (size_t j = 0; j < N; j++) seen[llm_autoregression_table_index(&t, x, j)] = true;
        }
        for (size_t i = 0; i < 40; i++) CHECK(seen[i] == (i < counts[o][N]));
        for (size_t i = 0; i < 64; i++) conditional[i] = -1.0;
        llm_autoregression_table_factorize(conditional, joint, &t, x);
        for (size_t i = 0; i < 64; i++) CHECK((conditional[i] >= 0.0) == (i < counts[o][N]));
    }
    const llm_autoregression_table plain = {N, size, NULL};
    CHECK(llm_autoregression_table_count(&plain, 3) == 32);
    x[0] = 1, x[1] = 2, x[2] = 4;
    CHECK(llm_autoregression_table_index(&plain, x, 1) == 2 + 5);
    CHECK_ASSERTS(llm_autoregression_table_index(&plain, x, 2)); /* 4 is no value of the last */
}

TEST(autoregression_table,
     "an impossible beginning is followed by anything, an impossible value by nothing") {
    const size_t two[2] = {2, 2};
    const double weights[4] = {0, 0, 3, 1}; /* x_0 is 1 */
    const double want[6] = {0, 1, 0.5, 0.5, 0.75, 0.25};
    const llm_autoregression_table t = {2, two, NULL};
    double conditional[6];
    size_t x[2];
    llm_autoregression_table_factorize(conditional, weights, &t, x);
    for (size_t i = 0; i < 6; i++) CHECK(conditional[i] == want[i]);
    x[0] = 0, x[1] = 0;
    CHECK(llm_autoregression_table_score(conditional, x, 2, &t) == -(double)INFINITY);
    CHECK(llm_autoregression_table_score(conditional, x, 0, &t) == 0.0);
    llm_rng rng = llm_rng_seed(1);
    for (size_t i = 0; i < 200; i++) {
        llm_autoregression_table_sample(x, conditional, 0, &t, &rng);
        CHECK(x[0] == 1);
    }
}

TEST(autoregression_table,
     "a number on a border belongs to the value behind it, what rounding leaves over to the last") {
    const size_t three[1] = {3};
    const llm_autoregression_table t = {1, three, NULL};
    size_t x[1], last = 0;
    for (uint64_t seed = 1; seed <= 50; seed++) {
        llm_rng rng = llm_rng_seed(seed), same = rng;
        const double u = llm_distribution_sample_uniform(&same);
        const double border[3] = {u, 1.0 - u, 0.0}, short_of[3] = {0.25, 0.25, 0.0};
        llm_autoregression_table_sample(x, border, 0, &t, &rng);
        CHECK(x[0] == 1);
        rng = llm_rng_seed(seed);
        llm_autoregression_table_sample(x, short_of, 0, &t, &rng);
        CHECK(x[0] == (u < 0.25 ? 0u : u < 0.5 ? 1u : 2u));
        last += x[0] == 2;
    }
    CHECK(last > 10);
}

TEST(autoregression_table,
     "draws follow the joint distribution, and the conditional one behind a given beginning") {
    double joint[ENTRIES], conditional[64];
    size_t x[N];
    random_joint(joint, 5);
    llm_rng rng = llm_rng_seed(3);
    for (size_t o = 0; o < 6; o++) {
        const llm_autoregression_table t = {N, size, every[o]};
        double count[ENTRIES] = {0}, p, statistic, freedom;
        llm_autoregression_table_factorize(conditional, joint, &t, x);
        for (size_t i = 0; i < 5000; i++) {
            llm_autoregression_table_sample(x, conditional, 0, &t, &rng);
            count[x[0] * 12 + x[1] * 4 + x[2]] += 1.0;
        }
        p = llm_categorical_chi2test(&statistic, &freedom, count, joint, ENTRIES, 0);
        CHECK(p > 1e-4 && freedom >= 20.0);

        const size_t first = every[o][0]; /* its value 1 is given */
        double rest[ENTRIES], mass = 0.0;
        for (size_t i = 0; i < ENTRIES; i++) {
            llm_autoregression_table_values(x, i, &t);
            rest[i] = x[first] == 1 ? joint[i] : 0.0;
            mass += rest[i];
            count[i] = 0.0;
        }
        for (size_t i = 0; i < 2000; i++) {
            x[first] = 1;
            llm_autoregression_table_sample(x, conditional, 1, &t, &rng);
            CHECK(x[first] == 1);
            count[x[0] * 12 + x[1] * 4 + x[2]] += 1.0;
        }
        for (size_t i = 0; i < ENTRIES; i++) {
            rest[i] /= mass;
            CHECK(rest[i] > 0.0 || count[i] == 0.0);
        }
        p = llm_categorical_chi2test(&statistic, &freedom, count, rest, ENTRIES, 0);
        CHECK(p > 1e-4 && freedom >= 4.0);
    }
}

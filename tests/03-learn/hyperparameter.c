/* @hyperparameter */
#include "../test.h"

#include "../../llm.h"
#include "../arena.h"

TEST(hyperparameter, "Hyperband's brackets for R = 81, eta = 3 are those of the paper's table 1") {
    const size_t ns[5][5] = {{5}, {8, 2}, {15, 5, 1}, {34, 11, 3, 1}, {81, 27, 9, 3, 1}};
    const double bs[5][5] = {{81}, {27, 81}, {9, 27, 81}, {3, 9, 27, 81}, {1, 3, 9, 27, 81}};
    size_t n = 0;
    double budget = 0.0;
    CHECK(llm_hyperparameter_brackets(81, 3) == 4);
    for (size_t s = 0; s <= 4; s++) {
        for (size_t i = 0; i <= s; i++) {
            CHECK(llm_hyperparameter_hyperband(&n, &budget, 81, 3, s, i));
            CHECK(n == ns[s][i]);
            CHECK_NEAR(budget, bs[s][i], 1e-12);
        }
        CHECK(!llm_hyperparameter_hyperband(&n, &budget, 81, 3, s, s + 1));
    }
    CHECK(llm_hyperparameter_brackets(243, 3) == 5 && llm_hyperparameter_brackets(242, 3) == 4);
    CHECK(llm_hyperparameter_brackets(1, 2) == 0);
    CHECK_ASSERTS(llm_hyperparameter_brackets(0, 2));
    CHECK_ASSERTS(llm_hyperparameter_brackets(4, 1));
    CHECK_ASSERTS(llm_hyperparameter_hyperband(&n, &budget, 81, 3, 5, 0));
}

TEST(hyperparameter, "values of each kind; a grid visits every cell once; halving keeps the best") {
    const llm_hyperparameter linear = {LLM_HYPERPARAMETER_LINEAR, -1, 3},
                             log_ = {LLM_HYPERPARAMETER_LOG, 1e-4, 1};
    const llm_hyperparameter whole = {LLM_HYPERPARAMETER_INTEGER, 2, 5},
                             choice = {LLM_HYPERPARAMETER_CHOICE, 0, 3};
    CHECK(llm_hyperparameter_value(&linear, 0.25) == 0.0);
    CHECK_NEAR(llm_hyperparameter_value(&log_, 0.5), 1e-2, 1e-12);
    CHECK(llm_hyperparameter_value(&whole, 0.0) == 2 &&
          llm_hyperparameter_value(&whole, 0.249) == 2);
    CHECK(llm_hyperparameter_value(&whole, 0.25) == 3 &&
          llm_hyperparameter_value(&whole, 0.999) == 5);
    CHECK(llm_hyperparameter_value(&choice, 0.34) == 1 &&
          llm_hyperparameter_value(&choice, 0.99) == 2);
    CHECK_ASSERTS(llm_hyperparameter_value(&linear, 1.0));
    CHECK_ASSERTS(llm_hyperparameter_value(&linear, -0.1));
    bool seen[27] = {false};
    for (size_t i = 0; i < 27; i++) {
        double u[3];
        llm_hyperparameter_grid(u, i, 3, 3);
        const size_t cell = (size_t)(u[0] * 3) + 3 * (size_t)(u[1] * 3) + 9 * (size_t)(u[2] * 3);
        CHECK(cell == i && !seen[cell]);
        seen[cell] = true;
        CHECK_NEAR(u[0] * 6.0, 1.0 + 2.0 * (double)(i % 3), 1e-12);
    }
    const float loss[7] = {3, 1, NAN, 2, 5, -1, 4};
    size_t kept[7];
    llm_arena arena = test_arena(1 << 14);
    CHECK(llm_hyperparameter_halve(kept, loss, 7, 2, &arena) == 3);
    CHECK(kept[0] == 5 && kept[1] == 1 && kept[2] == 3);
    CHECK(llm_hyperparameter_halve(kept, loss, 2, 3, &arena) == 1 && kept[0] == 1);
    CHECK(llm_hyperparameter_halve(kept, loss, 1, 3, &arena) == 1 && kept[0] == 0);
    CHECK(arena.used == 0);
    CHECK_ASSERTS(llm_hyperparameter_halve(kept, loss, 0, 2, &arena));
    CHECK_ASSERTS(llm_hyperparameter_halve(kept, loss, 2, 1, &arena));
}

TEST(hyperparameter, "one of six matters: 60 random trials beat 64 of a grid") {
    enum { D = 6 };
    size_t wins = 0;
    for (size_t seed = 1; seed <= 50; seed++) {
        llm_rng rng = llm_rng_seed(seed);
        double u[D], random = 1e9, grid = 1e9;
        const double target = (double)llm_rng_uniform(&rng);
        for (size_t i = 0; i < 64; i++) {
            llm_hyperparameter_grid(u, i, 2, D);
            grid = fmin(grid, fabs(u[3] - target));
            if (i >= 60) continue;
            llm_hyperparameter_random(u, D, &rng);
            random = fmin(random, fabs(u[3] - target));
        }
        wins += random < grid;
    }
    CHECK(wins >= 45);
}

/* Branin's function on (-5..10, 0..15), least 0.397887 at three places. */
static double branin(double x, double y) {
    const double pi = 3.14159265358979, a = y - 5.1 / (4 * pi * pi) * x * x + 5 / pi * x - 6;
    return a * a + 10 * (1 - 1 / (8 * pi)) * cos(x) + 10;
}

TEST(hyperparameter, "on Branin 60 trials of TPE beat the median of random search") {
    enum { SEEDS = 20, N = 60 };
    const llm_hyperparameter space[2] = {{LLM_HYPERPARAMETER_LINEAR, -5, 10},
                                         {LLM_HYPERPARAMETER_LINEAR, 0, 15}};
    llm_arena arena = test_arena(1 << 14);
    float best[2][SEEDS];
    size_t order[SEEDS], wins = 0;
    for (int tpe = 0; tpe < 2; tpe++)
        for (size_t seed = 0; seed < SEEDS; seed++) {
            llm_rng rng = llm_rng_seed(seed + 1);
            double trial[N * 2];
            float loss[N];
            best[tpe][seed] = INFINITY;
            for (size_t i = 0; i < N; i++) {
                double *u = trial + 2 * i;
                llm_hyperparameter_tpe(u, trial, loss, i, space, 2, 0.2, 24, tpe ? 15 : N, &rng,
                                       &arena);
                CHECK(u[0] >= 0 && u[0] < 1 && u[1] >= 0 && u[1] < 1);
                loss[i] = (float)branin(llm_hyperparameter_value(&space[0], u[0]),
                                        llm_hyperparameter_value(&space[1], u[1]));
                best[tpe][seed] = fminf(best[tpe][seed], loss[i]);
            }
        }
    llm_argsort(order, best[0], SEEDS);
    for (size_t s = 0; s < SEEDS; s++) wins += best[1][s] < best[0][order[SEEDS / 2]];
    CHECK(wins >= 14); /* six other sets of seeds: 19 or 20 of 20 */
    CHECK(arena.used == 0);
}

TEST(hyperparameter, "TPE finds the good choice and the good decade; densities integrate to 1") {
    enum { N = 60 };
    const llm_hyperparameter space[2] = {{LLM_HYPERPARAMETER_CHOICE, 0, 5},
                                         {LLM_HYPERPARAMETER_LOG, 1e-5, 1}};
    llm_arena arena = test_arena(1 << 14);
    size_t late = 0;
    for (size_t seed = 1; seed <= 10; seed++) {
        llm_rng rng = llm_rng_seed(seed);
        double trial[N * 2];
        float loss[N];
        for (size_t i = 0; i < N; i++) {
            double *u = trial + 2 * i;
            llm_hyperparameter_tpe(u, trial, loss, i, space, 2, 0.2, 24, 15, &rng, &arena);
            const double choice = llm_hyperparameter_value(&space[0], u[0]),
                         rate = llm_hyperparameter_value(&space[1], u[1]);
            loss[i] = (float)((choice == 3.0 ? 0.0 : 1.0) + fabs(log10(rate) + 3.0));
            late += i >= N - 20 && choice == 3.0 && fabs(log10(rate) + 3.0) < 0.5;
        }
        bool all[N];
        for (size_t i = 0; i < N; i++) all[i] = i % 3 != 0;
        for (size_t k = 0; k < 2 && seed == 1; k++) {
            double sum = 0.0;
            for (int i = 0; i < 1000; i++)
                sum += exp(llm_hyperparameter_parzen((i + 0.5) / 1000.0, trial, all, N, 2, k,
                                                     &space[k])) /
                       1000.0;
            CHECK_NEAR(sum, 1.0, 1e-3); /* the midpoint rule's error */
        }
    }
    CHECK(late > 100); /* of 200; random trials: 8 */
    /* choices 3, 0, 3 of five in the second dimension, one of them not used: (1 + 5 hits) / 3 */
    const double three[6] = {0.9, 0.7, 0.9, 0.1, 0.9, 0.7};
    const bool but_last[3] = {true, true, false};
    for (int c = 0; c < 5; c++)
        CHECK_NEAR(exp(llm_hyperparameter_parzen(0.2 * c + 0.1, three, but_last, 3, 2, 1, space)),
                   (c == 3 || c == 0 ? 6.0 : 1.0) / 3.0, 1e-12);
    double u[2], trial[4] = {0.1, 0.2, 0.3, 0.4};
    const float loss[2] = {1, 2};
    llm_rng rng = llm_rng_seed(1);
    CHECK_ASSERTS(llm_hyperparameter_tpe(u, trial, loss, 2, space, 2, 0.0, 24, 0, &rng, &arena));
    CHECK_ASSERTS(llm_hyperparameter_tpe(u, trial, loss, 2, space, 2, 1.0, 24, 0, &rng, &arena));
}

/* The density again: centres sorted between 0 and 1, the larger of the gaps to either side. */
static double hp_density(double u, const double *sorted, size_t n) {
    double sum = 1.0;
    for (size_t i = 0; i < n; i++) {
        const double left = sorted[i] - (i > 0 ? sorted[i - 1] : 0.0);
        const double right = (i + 1 < n ? sorted[i + 1] : 1.0) - sorted[i];
        double sd = left > right ? left : right, mass = 0.0;
        if (sd < 1.0 / (n + 1.0)) sd = 1.0 / (n + 1.0);
        if (sd < 0.01) sd = 0.01;
        for (int k = 0; k < 20000; k++) { /* what lies inside, by the midpoint rule */
            const double z = ((k + 0.5) / 20000.0 - sorted[i]) / sd;
            mass += exp(-z * z / 2.0) / 20000.0;
        }
        sum += exp(-pow((u - sorted[i]) / sd, 2.0) / 2.0) / mass;
    }
    return sum / (double)(n + 1);
}

TEST(hyperparameter, "Parzen densities by another route: sorted centres, 1, 5 and 150 of them") {
    const llm_hyperparameter space = {LLM_HYPERPARAMETER_LINEAR, 0, 1};
    const size_t ns[3] = {1, 5, 150};
    llm_rng rng = llm_rng_seed(8);
    for (size_t c = 0; c < 3; c++) {
        const size_t n = ns[c];
        double centre[600], sorted[150];
        bool use[300];
        for (size_t i = 0; i < 2 * n; i++) { /* in two dimensions; every second trial counts */
            centre[2 * i] = centre[2 * i + 1] = (double)llm_rng_uniform(&rng);
            if (n == 5) centre[2 * i + 1] *= 0.3;
            use[i] = i % 2 == 0;
        }
        for (size_t i = 0; i < n; i++) {
            size_t at = i; /* insertion */
            for (; at > 0 && sorted[at - 1] > centre[4 * i + 1]; at--) sorted[at] = sorted[at - 1];
            sorted[at] = centre[4 * i + 1];
        }
        for (double u = 0.0; u < 1.0; u += 0.35)
            CHECK_NEAR(exp(llm_hyperparameter_parzen(u, centre, use, 2 * n, 2, 1, &space)),
                       hp_density(u, sorted, n), 1e-5);
    }
}

TEST(hyperparameter, "one candidate: a good trial with noise of 1 / (good + 1), or the prior") {
    enum { N = 20, DRAWS = 4000 };
    const llm_hyperparameter space[3] = {{LLM_HYPERPARAMETER_LINEAR, 0, 1},
                                         {LLM_HYPERPARAMETER_CHOICE, 0, 5},
                                         {LLM_HYPERPARAMETER_LINEAR, 0, 1}};
    llm_arena arena = test_arena(1 << 14);
    llm_rng rng = llm_rng_seed(9);
    double trial[3 * N], u[3], other = 0.0, mean = 0.0;
    float loss[N];
    for (size_t i = 0; i < N; i++) { /* good is 4, at choice 3 and at 0 */
        loss[i] = (float)i;
        trial[3 * i] = 0.5;
        trial[3 * i + 1] = i < 4 ? 0.7 : 0.1;
        trial[3 * i + 2] = i < 4 ? 0.0 : 0.9;
    }
    for (size_t k = 0; k < DRAWS; k++) {
        llm_hyperparameter_tpe(u, trial, loss, N, space, 3, 0.2, 1, N, &rng, &arena);
        other += floor(5.0 * u[1]) != 3.0 ? 1.0 / DRAWS : 0.0;
        mean += u[2] / DRAWS;
    }
    for (size_t k = 0; k < 20; k++) { /* two candidates: the better one by its densities */
        llm_rng again = rng;
        bool best[N], rest[N];
        double at[2] = {0, 0}, score[2];
        for (size_t i = 0; i < 2 * N; i++) trial[i] = (double)llm_rng_uniform(&again);
        for (size_t i = 0; i < N; i++) best[i] = i < 4, rest[i] = !best[i];
        rng = again;
        llm_hyperparameter_tpe(u, trial, loss, N, space, 1, 0.2, 2, N, &rng, &arena);
        llm_hyperparameter_random(at, 1, &again);
        for (size_t c = 0; c < 2; c++) {
            const size_t pick = llm_rng_below(&again, 5);
            at[c] = (double)llm_rng_uniform(&again);
            if (pick < 4) do
                    at[c] = trial[pick] + (double)llm_rng_normal(&again) / 5.0;
                while (at[c] < 0.0 || at[c] >= 1.0);
            score[c] = llm_hyperparameter_parzen(at[c], trial, best, N, 1, 0, &space[0]) -
                       llm_hyperparameter_parzen(at[c], trial, rest, N, 1, 0, &space[0]);
        }
        CHECK(u[0] == (score[1] > score[0] ? at[1] : at[0]));
    }
    CHECK_NEAR(other, 0.2 * 0.8, 4.0 * sqrt(0.16 * 0.84 / DRAWS));
    CHECK_NEAR(mean, 0.8 * 0.2 * sqrt(2.0 / acos(-1.0)) + 0.2 * 0.5, 4.0 * 0.21 / sqrt(DRAWS));
}

TEST(hyperparameter, "the best of 100 settings that do nothing looks better than it is") {
    double looks = 0.0, is = 0.0;
    llm_rng rng = llm_rng_seed(1);
    for (size_t round = 0; round < 200; round++) {
        double best = 1e9;
        for (size_t k = 0; k < 100; k++)
            best = fmin(best, (double)llm_rng_normal(&rng)); /* one sd */
        looks += best / 200.0;
        is += (double)llm_rng_normal(&rng) / 200.0; /* the winner on other data */
    }
    CHECK(is - looks > 2.0); /* 2.5 is the mean of the least of 100 normals */
}

TEST(hyperparameter, "many draws find where the good trial's density is highest over the other's") {
    const llm_hyperparameter line = {LLM_HYPERPARAMETER_LINEAR, 0, 1};
    const double trial[2] = {0.6, 0.8};
    const float loss[2] = {1, 2};
    const bool good[2] = {true, false}, rest[2] = {false, true};
    llm_arena arena = test_arena(4096);
    llm_rng rng = llm_rng_seed(1);
    double u, most = -HUGE_VAL;
    llm_hyperparameter_tpe(&u, trial, loss, 2, &line, 1, 0.5, 3000, 0, &rng, &arena);
    for (int i = 0; i < 1000; i++) {
        const double at = i / 1000.0;
        most = fmax(most, llm_hyperparameter_parzen(at, trial, good, 2, 1, 0, &line) -
                              llm_hyperparameter_parzen(at, trial, rest, 2, 1, 0, &line));
    }
    CHECK_NEAR(llm_hyperparameter_parzen(u, trial, good, 2, 1, 0, &line) -
                   llm_hyperparameter_parzen(u, trial, rest, 2, 1, 0, &line),
               most, 1e-4);
}

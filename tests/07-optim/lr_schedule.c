/* @lr_schedule */
#include "../test.h"

#include "../../llm.h"

TEST(lr_schedule, "every schedule equals torch.optim.lr_scheduler over 120 steps") {
    enum { T = 120 };
    const size_t milestone[3] = {90, 10, 45}, boundary[1] = {30}; /* in any order */
    float rate[9][T];
    for (size_t t = 0; t < T; t++) {
        size_t local = 0;
        rate[0][t] = (float)llm_lr_schedule_step(0.3, 0.4, 17, t);
        rate[1][t] = (float)llm_lr_schedule_multistep(0.3, 0.5, milestone, 3, t);
        rate[2][t] = (float)llm_lr_schedule_exponential(0.3, 0.97, t);
        rate[3][t] = (float)llm_lr_schedule_polynomial(0.3, 0.0, 2.0, 80, t);
        rate[4][t] = (float)llm_lr_schedule_polynomial(0.3, 0.0, 1.0, 100, t);
        rate[5][t] = (float)llm_lr_schedule_one_cycle(0.5, 121, 0.3, 25.0, 1e4, t);
        rate[6][t] = (float)llm_lr_schedule_cyclic(0.1, 0.6, 7, 11, t);
        rate[7][t] = (float)llm_lr_schedule_noam(0.3, 64, 20, t + 1);
        rate[8][t] = llm_lr_schedule_part(&local, boundary, 1, t) == 0
                         ? (float)llm_lr_schedule_exponential(0.3, 0.9, local)
                         : (float)llm_lr_schedule_step(0.3, 0.5, 5, local);
    }
    const char *names[9] = {"step",      "multistep", "exponential", "polynomial", "linear",
                            "one_cycle", "cyclic",    "noam",        "sequential"};
    for (size_t k = 0; k < 9; k++) CHECK_GOLDEN(rate[k], T, 1e-6f, "torch/%s", names[k]);
}

TEST(lr_schedule, "reduce on plateau equals torch's rate after each of 80 losses") {
    const size_t patience[3] = {2, 3, 0}, cooldown[3] = {0, 4, 1};
    const double least[3] = {0.0, 0.02, 0.0}, threshold[3] = {1e-4, 0.05, 1e-4};
    for (size_t k = 0; k < 3; k++) {
        llm_lr_schedule_plateau p;
        p.lr = 0.3, p.factor = 0.5, p.least = least[k], p.threshold = threshold[k];
        p.best = (double)INFINITY, p.patience = patience[k], p.cooldown = cooldown[k];
        p.bad = p.resting = 0;
        const float *loss = golden("plateau%zu/loss", k);
        float rate[80];
        for (size_t t = 0; t < 80; t++)
            rate[t] = (float)llm_lr_schedule_plateau_next(&p, (double)loss[t]);
        CHECK_GOLDEN(rate, 80, 1e-7f, "plateau%zu/lr", k);
    }
    llm_lr_schedule_plateau p = {1.5e-8, 0.5, 0.0, 0.0, 1.0, 0, 0, 0, 0};
    CHECK(llm_lr_schedule_plateau_next(&p, 2.0) ==
          1.5e-8); /* a cut of less than 1e-8 is not made */
    p.lr = 2e-8, p.bad = p.resting = 0;
    CHECK(llm_lr_schedule_plateau_next(&p, 2.0) == 2e-8); /* nor one of exactly that */
    p.lr = 3e-8, p.bad = p.resting = 0;
    CHECK(llm_lr_schedule_plateau_next(&p, 2.0) == 1.5e-8);
    llm_lr_schedule_plateau half = {1.0, 0.5, 0.0, 0.5, 1.0, 0, 0, 0, 0};
    CHECK(llm_lr_schedule_plateau_next(&half, 0.5) == 0.5 && half.best == 1.0); /* not below */
    CHECK(llm_lr_schedule_plateau_next(&half, 0.49) == 0.5 && half.best == 0.49);
}

TEST(lr_schedule, "joints are continuous, ends are reached, and behind them nothing changes") {
    CHECK(llm_lr_schedule_wsd(0.5, 10, 100, 20, 0) == 0.0);
    CHECK(llm_lr_schedule_wsd(0.5, 10, 100, 20, 5) == 0.25);
    for (size_t t = 10; t <= 80; t++) CHECK(llm_lr_schedule_wsd(0.5, 10, 100, 20, t) == 0.5);
    CHECK_NEAR(llm_lr_schedule_wsd(0.5, 10, 100, 20, 85), 0.25, 1e-12); /* sqrt(5/20) = 1/2 */
    CHECK(llm_lr_schedule_wsd(0.5, 10, 100, 20, 99) > 0.0);
    CHECK(llm_lr_schedule_wsd(0.5, 10, 100, 20, 100) == 0.0);
    CHECK(llm_lr_schedule_wsd(0.5, 10, 100, 20, 1000) == 0.0);
    CHECK(llm_lr_schedule_wsd(0.5, 0, 4, 0, 3) == 0.5 &&
          llm_lr_schedule_wsd(0.5, 0, 4, 0, 4) == 0.0);
    CHECK(llm_lr_schedule_polynomial(1.0, 0.1, 3.0, 50, 50) == 0.1);
    CHECK(llm_lr_schedule_polynomial(1.0, 0.1, 3.0, 50, 5000) == 0.1);
    CHECK_NEAR(llm_lr_schedule_polynomial(1.0, 0.1, 2.0, 50, 25), 0.1 + 0.9 / 4.0, 1e-12);
    CHECK_NEAR(llm_lr_schedule_one_cycle(0.5, 121, 0.3, 25.0, 1e4, 500), 0.5 / 25.0 / 1e4, 1e-12);
    CHECK_NEAR(llm_lr_schedule_cosine(2.0, 1.0, 0.5), 1.5, 1e-12);
    CHECK(llm_lr_schedule_noam(1.0, 64, 20, 0) == 0.0);
    CHECK_NEAR(llm_lr_schedule_noam(1.0, 64, 20, 20), 1.0 / 8.0 / sqrt(20.0), 1e-12);
    CHECK(llm_lr_schedule_step(1.0, 0.5, 1, 3) == 0.125); /* the smallest sizes */
    CHECK(llm_lr_schedule_noam(1.0, 4, 1, 4) == 0.25);
    CHECK(llm_lr_schedule_cyclic(0.1, 1.0, 1, 1, 1) == 1.0);
    CHECK(llm_lr_schedule_wsd(0.5, 60, 100, 40, 60) == 0.5);
    CHECK(llm_lr_schedule_wsd(0.5, 0, 4, 0, 0) == 0.5 &&
          llm_lr_schedule_wsd(0.5, 4, 4, 0, 4) == 0.0);
    const size_t boundary[2] = {3, 7};
    const size_t part[9] = {0, 0, 0, 1, 1, 1, 1, 2, 2}, at[9] = {0, 1, 2, 0, 1, 2, 3, 0, 1};
    for (size_t t = 0; t < 9; t++) {
        size_t local = 99;
        CHECK(llm_lr_schedule_part(&local, boundary, 2, t) == part[t] && local == at[t]);
    }
    CHECK_ASSERTS(llm_lr_schedule_step(1.0, 0.5, 0, 1));
    CHECK_ASSERTS(llm_lr_schedule_noam(1.0, 64, 0, 1));
    CHECK_ASSERTS(llm_lr_schedule_cyclic(0.1, 1.0, 0, 1, 1));
    CHECK_ASSERTS(llm_lr_schedule_cyclic(0.1, 1.0, 1, 0, 0));
    CHECK_ASSERTS(llm_lr_schedule_wsd(0.5, 60, 100, 41, 0));
}

/* Mean loss of w^2/2 after 1000 steps of SGD with noise 1 on the gradient, over 400 weights. */
static double schedule_loss(int kind, uint64_t seed) {
    enum { N = 400, T = 1000 };
    llm_rng rng = llm_rng_seed(seed);
    float w[N];
    for (size_t i = 0; i < N; i++) w[i] = 1.0f;
    for (size_t t = 0; t < T; t++) {
        const double lr = kind == 0   ? 0.1
                          : kind == 1 ? llm_lr_schedule_polynomial(0.1, 0.0, 1.0, T, t)
                                      : llm_lr_schedule_wsd(0.1, 0, T, 200, t);
        for (size_t i = 0; i < N; i++) w[i] -= (float)lr * (w[i] + llm_rng_normal(&rng));
    }
    return dot(w, w, N) / (2.0 * N);
}

TEST(lr_schedule,
     "on a noisy quadratic a constant rate hovers, linear-to-zero and WSD come to rest") {
    /* 12 seeds: constant / linear 10 to 14, constant / WSD 6.0 to 8.1 */
    for (uint64_t s = 1; s <= 4; s++) {
        const double constant = schedule_loss(0, s), linear = schedule_loss(1, s);
        CHECK_NEAR(constant, 0.1 / (2.0 * (2.0 - 0.1)), 0.01); /* lr / (2 - lr), halved */
        CHECK(constant > 5.0 * linear && constant > 3.0 * schedule_loss(2, s));
    }
}

/* @binary_class */
#include "../test.h"

#include "../../llm.h"
#include "../arena.h"

TEST(binary_class, "logistic regression equals scikit-learn, with and without weights") {
    const size_t shapes[3][2] = {{7, 1}, {20, 2}, {50, 3}};
    llm_arena arena = test_arena(1 << 17);
    for (size_t s = 0; s < 6; s++) {
        const size_t n = shapes[s / 2][0], d = shapes[s / 2][1];
        const float *x = golden("%zu/x", n), *v = s % 2 ? golden("%zu/w", n) : NULL;
        const bool *y = as_bools(golden("%zu/y", n), n);
        double w[4] = {1, -1, 1, -1};
        float got[4];
        bool both = false;
        const size_t steps =
            llm_binary_class_fit(&both, w, x, y, v, n, d, 0.1, 1e-10, 5000, &arena);
        CHECK(both && steps > 1 && steps < 65); /* without momentum: up to 160 */
        for (size_t j = 0; j <= d; j++) got[j] = (float)w[j];
        CHECK_GOLDEN(got, d + 1, 1e-6f, "%zu/%zu/coef", n, s % 2);
    }
    CHECK(arena.used == 0);
}

TEST(binary_class,
     "the gradient by differences; huge scores stay finite; one class alone is refused") {
    enum { N = 5, D = 2 };
    const float x[N * D] = {1, 2, -1, 0.5f, 0, -2, 3, 1, -1, -1}, v[N] = {1, 2, 0.5f, 1, 3};
    const bool y[N] = {true, false, true, true, false}, ones[N] = {true, true, true, true, true};
    double w[D + 1] = {0.3, -0.7, 0.2}, dw[D + 1] = {1, 1, 1};
    llm_binary_class_loss(dw, w, x, y, v, N, D, 0.5);
    for (size_t j = 0; j <= D; j++) {
        const double kept = w[j];
        w[j] = kept + 1e-5;
        double slope = llm_binary_class_loss(NULL, w, x, y, v, N, D, 0.5);
        w[j] = kept - 1e-5;
        slope = (slope - llm_binary_class_loss(NULL, w, x, y, v, N, D, 0.5)) / 2e-5;
        w[j] = kept;
        CHECK_NEAR(dw[j], 1.0 + slope, 1e-8);
    }
    const float far[2] = {1000, -1000};
    const double one[2] = {1, 0};
    CHECK_NEAR(llm_binary_class_loss(NULL, one, far, y + 1, NULL, 2, 1, 0), 1000.0, 1e-9);
    const bool right[2] = {true, false};
    double back[2] = {0, 0};
    CHECK(llm_binary_class_loss(back, one, far, right, NULL, 2, 1, 0) == 0.0 && back[0] == 0.0);
    llm_arena arena = test_arena(1 << 17);
    bool both = true;
    CHECK(llm_binary_class_fit(&both, w, x, ones, NULL, N, D, 0.1, 1e-9, 10, &arena) == 0 && !both);
    const bool none[N] = {false, false, false, false, false};
    CHECK(llm_binary_class_fit(&both, w, x, none, NULL, N, D, 0.1, 1e-9, 10, &arena) == 0 && !both);
    const float nothing[N] = {0, 0, 0, 0, 0};
    CHECK_ASSERTS(llm_binary_class_loss(NULL, w, x, y, nothing, N, D, 0.5));
    const float little[1] = {0.25f};
    CHECK_NEAR(llm_binary_class_loss(NULL, one, far, right, little, 1, 1, 0), 0.0, 1e-12);
    /* columns of next to nothing, one positive: the intercept alone bounds the step */
    const float small[4] = {0.01f, -0.01f, 0, 0};
    const bool single[4] = {true, false, false, false};
    double b[2] = {0, 0};
    CHECK(llm_binary_class_fit(&both, b, small, single, NULL, 4, 1, 0.01, 1e-10, 5000, &arena) <
          5000);
    CHECK(both);
    CHECK_NEAR(b[1], log(1.0 / 3.0), 1e-2);
    /* large columns bound the step, wherever they stand; so does a large penalty. Two of three
     * right on both sides of 0: w = log(2) / 10 */
    const float large[16] = {0, 0, 0, 0, 10, 0, -10, 0, 10, 0, -10, 0, 10, 0, -10, 0};
    const bool half[8] = {true, false, true, false, true, false, false, true};
    for (int penalty = 0; penalty < 2; penalty++) {
        double c[3] = {0, 0, 0}, slope[3] = {0, 0, 0};
        const double l2 = penalty ? 10.0 : 0.0;
        CHECK(llm_binary_class_fit(&both, c, large, half, NULL, 8, 2, l2, 1e-9, 5000, &arena) <
              500);
        llm_binary_class_loss(slope, c, large, half, NULL, 8, 2, l2);
        CHECK(fabs(slope[0]) < 1e-8);
        if (!penalty) CHECK_NEAR(c[0], 0.1 * log(2.0), 1e-8);
        CHECK(c[0] > 0.01 && fabs(c[1]) < 1e-9 && fabs(c[2]) < 1e-9);
    }
    CHECK(llm_binary_class_fit(&both, w, x, y, NULL, N, D, 0.1, 0.0, 3, &arena) == 3);
    /* weights count relative to their sum: 2^-12 times as much changes nothing */
    double w1[3] = {0, 0, 0}, w2[3] = {0, 0, 0};
    float faint[N];
    for (size_t i = 0; i < N; i++) faint[i] = v[i] / 4096.0f;
    const size_t steps = llm_binary_class_fit(&both, w1, x, y, v, N, D, 0.1, 1e-9, 5000, &arena);
    CHECK(llm_binary_class_fit(&both, w2, x, y, faint, N, D, 0.1, 1e-9, 5000, &arena) == steps);
    for (size_t j = 0; j <= D; j++) CHECK(w1[j] == w2[j]);
}

TEST(binary_class, "the best cut equals brute force over all cuts, ties taken together") {
    llm_arena arena = test_arena(1 << 17);
    llm_rng rng = llm_rng_seed(1);
    for (size_t round = 0; round < 300; round++) {
        const size_t n = 2 + llm_rng_below(&rng, 12);
        float score[14];
        bool y[14];
        for (size_t i = 0; i < n; i++) {
            score[i] = (float)llm_rng_below(&rng, round % 2 ? 4 : 1000);
            y[i] = i == 0 || (i > 1 && llm_rng_below(&rng, 2) == 0);
        }
        for (int aim = LLM_BINARY_CLASS_COST; aim <= LLM_BINARY_CLASS_NEYMAN; aim++) {
            const double a = aim == LLM_BINARY_CLASS_COST ? 1.0 : 0.3, b = 3.0;
            const llm_binary_class_cut got =
                llm_binary_class_threshold(score, y, n, (llm_binary_class_aim)aim, a, b, &arena);
            double best = -1e300;
            for (size_t c = 0; c <= n; c++) {
                const float at = c < n ? score[c] : INFINITY;
                double tp = 0, fp = 0, fn = 0, tn = 0;
                for (size_t i = 0; i < n; i++) {
                    tp += score[i] >= at && y[i], fp += score[i] >= at && !y[i];
                    fn += score[i] < at && y[i], tn += score[i] < at && !y[i];
                }
                const double value = aim == 0              ? -a * fp - b * fn
                                     : aim == 1            ? 2 * tp / (2 * tp + fp + fn)
                                     : aim == 2            ? tp / (tp + fn) - fp / (fp + tn)
                                     : fp / (fp + tn) <= a ? tp / (tp + fn)
                                                           : -1e300;
                best = fmax(best, value);
                if (at == got.at) { /* the counts are those of the cut */
                    CHECK((double)got.tp == tp && (double)got.fp == fp);
                    CHECK((double)got.fn == fn && (double)got.tn == tn);
                    CHECK_NEAR(got.value, value, 1e-12);
                }
            }
            CHECK_NEAR(got.value, best, 1e-12);
        }
    }
    const bool *y = as_bools(golden("f1/y"), 40);
    const float *best = golden("f1/best");
    const llm_binary_class_cut cut =
        llm_binary_class_threshold(golden("f1/s"), y, 40, LLM_BINARY_CLASS_F1, 0, 0, &arena);
    CHECK_NEAR(cut.value, best[0], 1e-6);
    CHECK(cut.at == best[1]);
    const float three[3] = {3, 2, 1};
    const bool between[3] = {false, true, false}; /* one of two negatives is just allowed */
    const llm_binary_class_cut allowed =
        llm_binary_class_threshold(three, between, 3, LLM_BINARY_CLASS_NEYMAN, 0.5, 0, &arena);
    CHECK(allowed.value == 1.0 && allowed.at == 2.0f);
    const llm_binary_class_cut any = /* all cost the same: the highest */
        llm_binary_class_threshold(three, between, 3, LLM_BINARY_CLASS_COST, 0, 0, &arena);
    CHECK(any.value == 0.0 && any.at == INFINITY && arena.used == 0);
    const float bad[2] = {1, NAN}, good[2] = {1, 2};
    const bool mixed[2] = {true, false}, same[2] = {true, true}, never[2] = {false, false};
    CHECK_ASSERTS(llm_binary_class_threshold(bad, mixed, 2, LLM_BINARY_CLASS_F1, 0, 0, &arena));
    CHECK_ASSERTS(llm_binary_class_threshold(good, same, 2, LLM_BINARY_CLASS_F1, 0, 0, &arena));
    CHECK_ASSERTS(llm_binary_class_threshold(good, never, 2, LLM_BINARY_CLASS_F1, 0, 0, &arena));
}

TEST(binary_class, "Matthews' correlation and McNemar's test equal scikit-learn and statsmodels") {
    const float *c = golden("mcc/cells"), *pairs = golden("mcnemar/pairs");
    const float mcc =
        (float)llm_binary_class_mcc((double)c[0], (double)c[1], (double)c[2], (double)c[3]);
    CHECK_GOLDEN(&mcc, 1, 1e-6f, "mcc/value");
    CHECK(llm_binary_class_mcc(1, 0, 0, 1) == 1.0);
    CHECK(llm_binary_class_mcc(5, 0, 0, 7) == 1.0 && llm_binary_class_mcc(0, 5, 7, 0) == -1.0);
    CHECK(llm_binary_class_mcc(5, 3, 0, 0) == 0.0 && llm_binary_class_mcc(0, 0, 3, 4) == 0.0);
    float p[6];
    for (size_t i = 0; i < 6; i++)
        p[i] = (float)llm_binary_class_mcnemar((size_t)pairs[2 * i], (size_t)pairs[2 * i + 1]);
    CHECK_GOLDEN(p, 6, 1e-6f, "mcnemar/p");
}

TEST(binary_class,
     "trained on 1:1 where 1:99 is true: off by over 20 points, corrected to within one") {
    enum { N = 2000, M = 20000 };
    llm_arena arena = test_arena(1 << 17);
    for (size_t seed = 1; seed <= 3; seed++) {
        llm_rng rng = llm_rng_seed(seed);
        float *x = floats(N);
        bool y[N], both;
        double w[2] = {0, 0}, raw = 0.0, corrected = 0.0;
        for (size_t i = 0; i < N; i++) {
            y[i] = i % 2 == 0;
            x[i] = llm_rng_normal(&rng) + (y[i] ? 1.0f : 0.0f);
        }
        llm_binary_class_fit(&both, w, x, y, NULL, N, 1, 0.0, 1e-8, 5000, &arena);
        for (size_t i = 0; i < M; i++) {
            const double at = (double)llm_rng_normal(&rng) + (i % 100 == 0 ? 1.0 : 0.0);
            const double z = w[0] * at + w[1];
            const double fixed = (double)llm_binary_class_prior((float)z, 0.01, 0.5);
            raw += 1.0 / (1.0 + exp(-z)) / M;
            corrected += 1.0 / (1.0 + exp(-fixed)) / M;
        }
        CHECK(raw > 0.21); /* seeds 4..27: 0.381002 to 0.411306 and 0.00955615 to 0.0107061 */
        CHECK_NEAR(corrected, 0.01, 0.01);
    }
    CHECK_NEAR(llm_binary_class_prior(1.0f, 0.3, 0.3), 1.0f, 1e-6);
    CHECK_ASSERTS(llm_binary_class_prior(0, 0.0, 0.5));
    CHECK_ASSERTS(llm_binary_class_prior(0, 1.0, 0.5));
    CHECK_ASSERTS(llm_binary_class_prior(0, 0.5, 0.0));
    CHECK_ASSERTS(llm_binary_class_prior(0, 0.5, 1.0));
}

/* @multiclass */
#include "../test.h"

#include "../../llm.h"
#include "../arena.h"

TEST(multiclass, "softmax regression equals scikit-learn; two classes are logistic regression") {
    const size_t shapes[3][3] = {{12, 1, 3}, {30, 2, 3}, {60, 3, 4}};
    llm_arena arena = test_arena(1 << 16);
    for (size_t s = 0; s < 3; s++) {
        const size_t n = shapes[s][0], d = shapes[s][1], K = shapes[s][2], size = K * (d + 1);
        const float *x = golden("%zu/x", n);
        const int *label = as_ints(golden("%zu/label", n), n);
        double *W = doubles(size), mean = 0.0;
        float *got = floats(size);
        for (size_t k = 0; k < size; k++) W[k] = 0.0;
        const size_t steps = llm_multiclass_fit(W, x, label, n, d, K, 0.05, 1e-9, 20000, &arena);
        CHECK(steps > 1 && steps < 600); /* without momentum: thousands */
        for (size_t k = 0; k < K; k++) mean += W[k * (d + 1) + d] / (double)K;
        for (size_t k = 0; k < size; k++) got[k] = (float)(W[k] - (k % (d + 1) == d ? mean : 0.0));
        CHECK_GOLDEN(got, size, 1e-5f, "%zu/W", n);
    }
    const float big[2] = {10, 0}; /* the first example is steep: the step must be short */
    const int first[2] = {0, 1};
    double steep[4] = {0, 0, 0, 0}, slope[4] = {0, 0, 0, 0};
    CHECK(llm_multiclass_fit(steep, big, first, 2, 1, 2, 0.1, 1e-9, 20000, &arena) < 20000);
    llm_multiclass_loss(slope, steep, big, first, 2, 1, 2, 0.1, false, &arena);
    for (size_t k = 0; k < 4; k++) CHECK_NEAR(slope[k], 0.0, 1e-8);
    enum { N = 30, D = 2 };
    const float *x = golden("30/x");
    const int *three = as_ints(golden("30/label"), N);
    int two[N];
    bool y[N], both;
    double W[2 * (D + 1)] = {0, 0, 0, 0, 0, 0}, w[D + 1] = {0, 0, 0};
    for (size_t i = 0; i < N; i++) two[i] = three[i] > 0, y[i] = three[i] > 0;
    llm_multiclass_fit(W, x, two, N, D, 2, 0.1, 1e-10, 20000, &arena);
    llm_binary_class_fit(&both, w, x, y, NULL, N, D, 0.05, 1e-10, 20000,
                         &arena); /* |w|^2 = 2 |W_k|^2 */
    for (size_t j = 0; j <= D; j++) CHECK_NEAR(W[D + 1 + j] - W[j], w[j], 1e-6);
    CHECK(arena.used == 0);
}

TEST(multiclass, "gradients of softmax and of the margin by differences, accumulated") {
    enum { N = 6, D = 2, K = 3, SIZE = K * (D + 1) };
    const float x[N * D] = {1, 2, -1, 0.5f, 0, -2, 3, 1, -1, -1, 0.3f, 0.2f};
    const int label[N] = {0, 1, 2, 1, 0, 2};
    llm_arena arena = test_arena(1 << 16);
    for (int margin = 0; margin < 2; margin++) {
        double W[SIZE], dW[SIZE];
        for (size_t k = 0; k < SIZE; k++) W[k] = 0.3 * sin((double)k * 2.0 + 0.4), dW[k] = 1.0;
        llm_multiclass_loss(dW, W, x, label, N, D, K, 0.2, margin, &arena);
        for (size_t k = 0; k < SIZE; k++) {
            const double kept = W[k];
            W[k] = kept + 1e-5;
            double slope = llm_multiclass_loss(NULL, W, x, label, N, D, K, 0.2, margin, &arena);
            W[k] = kept - 1e-5;
            slope -= llm_multiclass_loss(NULL, W, x, label, N, D, K, 0.2, margin, &arena);
            W[k] = kept;
            CHECK_NEAR(dW[k], 1.0 + slope / 2e-5, 1e-8);
        }
    }
    const double W[4] = {1, 0, 0, 0}; /* scores x and 0 */
    const float far[1] = {2000};
    const int wrong[1] = {1}, right[1] = {0}, high[1] = {2}, low[1] = {-1};
    CHECK_NEAR(llm_multiclass_loss(NULL, W, far, wrong, 1, 1, 2, 0, false, &arena), 2000.0, 1e-9);
    CHECK(llm_multiclass_loss(NULL, W, far, right, 1, 1, 2, 0, false, &arena) == 0.0);
    CHECK(llm_multiclass_loss(NULL, W, far, wrong, 1, 1, 2, 0, true, &arena) == 2001.0);
    CHECK(llm_multiclass_loss(NULL, W, far, right, 1, 1, 2, 0, true, &arena) == 0.0);
    const float nearly[1] = {-0.5f}; /* right, but by less than 1 */
    CHECK(llm_multiclass_loss(NULL, W, nearly, wrong, 1, 1, 2, 0, true, &arena) == 0.5);
    CHECK_ASSERTS(llm_multiclass_loss(NULL, W, far, high, 1, 1, 2, 0, true, &arena));
    CHECK_ASSERTS(llm_multiclass_loss(NULL, W, far, low, 1, 1, 2, 0, true, &arena));
    const double z[3] = {1000, 1000, -1000};
    double p[3];
    llm_multiclass_softmax(p, z, 3);
    CHECK(p[0] == 0.5 && p[1] == 0.5 && p[2] == 0.0);
    const double head[3] = {1000, 0, 0}, second[4] = {0, 0, 1, 0}; /* scores 0 and x */
    llm_multiclass_softmax(p, head, 3);
    CHECK(p[0] == 1.0 && p[1] == 0.0);
    CHECK_NEAR(llm_multiclass_loss(NULL, second, far, right, 1, 1, 2, 0, false, &arena), 2000.0,
               1e-9);
    double still[4] = {1, 2, 3, 4};
    CHECK(llm_multiclass_fit(still, far, right, 1, 1, 2, 0.1, 1e-9, 0, &arena) == 0);
    CHECK(still[0] == 1.0 && still[3] == 4.0);
    const double last[3] = {-1000, 0, 1000}, none[3] = {0, 5, 4.5};
    llm_multiclass_softmax(p, last, 3);
    CHECK(p[0] == 0.0 && p[1] == 0.0 && p[2] == 1.0);
    /* three constant scores: the worst rival is 5, not the one behind it */
    CHECK(llm_multiclass_loss(NULL, none, far, right, 1, 0, 3, 0, true, &arena) == 6.0);
}

TEST(multiclass, "coupling reproduces consistent pairs, and compromises on others") {
    const double truth[4] = {0.5, 0.3, 0.15, 0.05};
    double r[16], count[16], p[4];
    for (size_t i = 0; i < 16; i++) {
        r[i] = truth[i / 4] / (truth[i / 4] + truth[i % 4]);
        count[i] = 1.0 + (double)(i / 4 + i % 4);
    }
    llm_multiclass_couple(p, r, NULL, 4);
    for (size_t k = 0; k < 4; k++) CHECK_NEAR(p[k], truth[k], 1e-10);
    llm_multiclass_couple(p, r, count, 4);
    for (size_t k = 0; k < 4; k++) CHECK_NEAR(p[k], truth[k], 1e-10);
    const double circle[9] = {0.5, 0.8, 0.2, 0.2, 0.5,
                              0.8, 0.8, 0.2, 0.5}; /* paper, scissors, stone */
    llm_multiclass_couple(p, circle, NULL, 3);
    for (size_t k = 0; k < 3; k++) CHECK_NEAR(p[k], 1.0 / 3.0, 1e-10);
    llm_multiclass_couple(p, circle, NULL, 1);
    CHECK(p[0] == 1.0);
    /* the sums that the minimum makes equal, for inconsistent r */
    const double odd[9] = {0.5, 0.9, 0.6, 0.1, 0.5, 0.7, 0.4, 0.3, 0.5};
    llm_multiclass_couple(p, odd, NULL, 3);
    for (size_t i = 0; i < 3; i++) {
        double said = 0.0, mine = 0.0;
        for (size_t j = 0; j < 3; j++)
            if (j != i) said += odd[3 * i + j], mine += p[i] / (p[i] + p[j]);
        CHECK_NEAR(said, mine, 1e-10);
    }
    const double none = (double)NAN; /* the diagonal is not read; pairs that were seen more often */
    const double r3[9] = {none, 0.9, 0.6, 0.1, none, 0.7, 0.4, 0.3, none};
    const double seen[9] = {none, 10, 1, 10, none, 4, 1, 4, none};
    llm_multiclass_couple(p, r3, seen, 3);
    CHECK_NEAR(p[0] + p[1] + p[2], 1.0, 1e-12);
    for (size_t i = 0; i < 3; i++) {
        double gap = 0.0;
        for (size_t j = 0; j < 3; j++)
            if (j != i) gap += seen[3 * i + j] * (r3[3 * i + j] - p[i] / (p[i] + p[j]));
        CHECK_NEAR(gap, 0.0, 1e-9);
    }
}

TEST(multiclass,
     "three blobs in a row: penalised, one against the rest misses the rare middle, softmax not") {
    enum { N = 300, D = 2, K = 3, SIZE = K * (D + 1) };
    llm_arena arena = test_arena(1 << 16);
    for (size_t seed = 1; seed <= 3; seed++)
        for (int penalty = 0; penalty < 2; penalty++) {
            llm_rng rng = llm_rng_seed(seed);
            const double l2 = penalty ? 0.1 : 1e-4;
            float x[N * D];
            int label[N];
            double W[SIZE], R[SIZE], z[K], hit[2] = {0, 0}, middle = 0.0;
            for (size_t i = 0; i < N; i++) { /* 3 : 1 : 3 */
                label[i] = i % 7 < 3 ? 0 : i % 7 < 6 ? 2 : 1;
                x[2 * i] = 4.5f * ((float)label[i] - 1.0f) + 0.7f * llm_rng_normal(&rng);
                x[2 * i + 1] = x[2 * i] * 0.5f + 0.7f * llm_rng_normal(&rng);
            }
            for (size_t k = 0; k < SIZE; k++) W[k] = R[k] = 0.0;
            llm_multiclass_fit(W, x, label, N, D, K, l2, 1e-5, 5000, &arena);
            for (size_t k = 0; k < K; k++) {
                bool y[N], both;
                for (size_t i = 0; i < N; i++) y[i] = label[i] == (int)k;
                llm_binary_class_fit(&both, R + k * (D + 1), x, y, NULL, N, D, l2, 1e-5, 5000,
                                     &arena);
            }
            for (size_t i = 0; i < N; i++)
                for (int way = 0; way < 2 && label[i] == 1; way++) {
                    llm_multiclass_scores(z, way ? R : W, x + i * D, D, K);
                    hit[way] += z[1] > z[0] && z[1] > z[2] ? 1.0 : 0.0;
                    middle += 0.5;
                }
            /* Without a penalty the two outer scores fall so steeply that both find it. */
            CHECK(hit[0] > 0.9 * middle);
            CHECK(penalty ? hit[1] < 0.3 * middle : hit[1] > 0.9 * middle);
        }
}

TEST(multiclass, "confusion and F1 equal scikit-learn; a class that never occurs") {
    const int *label = as_ints(golden("confusion/label"), 50),
              *guess = as_ints(golden("confusion/guess"), 50);
    size_t matrix[25];
    double f1[5], mean[3];
    float got[16], f[4], m[3];
    llm_multiclass_confusion(matrix, label, guess, 50, 4);
    llm_multiclass_f1(f1, &mean[0], &mean[1], &mean[2], matrix, 4);
    for (size_t k = 0; k < 16; k++) got[k] = (float)matrix[k];
    for (size_t k = 0; k < 4; k++) f[k] = (float)f1[k];
    for (size_t k = 0; k < 3; k++) m[k] = (float)mean[k];
    CHECK_GOLDEN(got, 16, 0.0f, "confusion/matrix");
    CHECK_GOLDEN(f, 4, 1e-6f, "confusion/f1");
    CHECK_GOLDEN(m, 3, 1e-6f, "confusion/means");
    llm_multiclass_confusion(matrix, label, guess, 50, 5);
    llm_multiclass_f1(f1, &mean[0], &mean[1], &mean[2], matrix, 5);
    CHECK(f1[4] == 0.0 && fabs(mean[1] - (double)m[1]) < 1e-6);
    llm_multiclass_confusion(matrix, label, guess, 0, 2);
    llm_multiclass_f1(f1, &mean[0], &mean[1], &mean[2], matrix, 2);
    CHECK(mean[0] == 0.0 && mean[1] == 0.0 && mean[2] == 0.0);
    const size_t single[4] = {1, 0, 0, 0};
    llm_multiclass_f1(f1, &mean[0], &mean[1], &mean[2], single, 2);
    CHECK(mean[0] == 0.5 && mean[1] == 1.0 && mean[2] == 1.0);
    const int high[1] = {4}, low[1] = {-1}, fine[1] = {0};
    CHECK_ASSERTS(llm_multiclass_confusion(matrix, high, fine, 1, 4));
    CHECK_ASSERTS(llm_multiclass_confusion(matrix, fine, high, 1, 4));
    CHECK_ASSERTS(llm_multiclass_confusion(matrix, low, fine, 1, 4));
    CHECK_ASSERTS(llm_multiclass_confusion(matrix, fine, low, 1, 4));

    /* trained with a class that has no example: its probability goes to 0 */
    enum { N = 30 };
    llm_arena arena = test_arena(1 << 16);
    double W[4 * 3] = {0}, z[4];
    llm_multiclass_fit(W, golden("30/x"), as_ints(golden("30/label"), N), N, 2, 4, 1e-3, 1e-5,
                       20000, &arena);
    for (size_t i = 0; i < N; i++) {
        llm_multiclass_scores(z, W, golden("30/x") + 2 * i, 2, 4);
        llm_multiclass_softmax(z, z, 4);
        CHECK(z[3] < 1e-3);
    }
}

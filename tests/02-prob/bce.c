/* @bce */
#include "../test.h"

#include "../../llm.h"

enum { N = 5, L = 3, SIZE = N * L };

TEST(bce, "on probabilities equals torch's, 0 and 1 included: logarithms stop at -100") {
    const float *p = golden("in/p"), *y = golden("in/y"), *w = golden("in/w"),
                *dy = golden("in/dy");
    const char *name[2] = {"plain", "weighted"};
    for (int weighted = 0; weighted < 2; weighted++) {
        float loss[SIZE], d[SIZE];
        llm_bce_forward(loss, p, y, weighted ? w : NULL, SIZE);
        CHECK_GOLDEN(loss, SIZE, 2e-6f, "p/%s/loss", name[weighted]);
        const float *want = golden("p/%s/d", name[weighted]);
        for (int twice = 0; twice < 2; twice++) { /* it adds */
            for (size_t i = 0; i < SIZE && !twice; i++) d[i] = 0.0f;
            llm_bce_backward(d, dy, p, y, weighted ? w : NULL, SIZE);
            for (size_t i = 0; i < SIZE; i++) {
                /* 1 - p is rounded in float, as p is */
                const float q = p[i] * (1.0f - p[i]);
                CHECK_NEAR(d[i], (1.0f + (float)twice) * want[i],
                           (q > 0.0f && q < 1e-3f ? 0.02f : 1e-5f) * (1.0f + fabsf(want[i])) *
                               2.0f);
            }
        }
    }
    float loss[1];
    const float half[1] = {0.5f}, over[1] = {1.1f}, under[1] = {-0.1f};
    CHECK_ASSERTS(llm_bce_forward(loss, over, half, NULL, 1));
    CHECK_ASSERTS(llm_bce_forward(loss, under, half, NULL, 1));
    CHECK_ASSERTS(llm_bce_forward(loss, half, over, NULL, 1));
    CHECK_ASSERTS(llm_bce_forward(loss, half, under, NULL, 1));
}

TEST(bce, "on logits equals torch's: weights, pos_weight, reductions, soft targets") {
    const float *z = golden("in/z"), *y = golden("in/y"), *w = golden("in/w"),
                *dy = golden("in/dy");
    const char *name[4] = {"plain", "weighted", "plain_pos", "weighted_pos"};
    for (size_t c = 0; c < 4; c++) {
        float loss[SIZE], d[SIZE] = {0.0f}, reduced[2];
        const float *pos = c > 1 ? golden("in/pw") : NULL, *weight = c % 2 ? w : NULL;
        llm_bce_logits_forward(loss, z, y, weight, pos, N, L);
        llm_bce_logits_backward(d, dy, z, y, weight, pos, N, L);
        reduced[0] = llm_bce_reduce(loss, SIZE, false),
        reduced[1] = llm_bce_reduce(loss, SIZE, true);
        CHECK_GOLDEN(loss, SIZE, 1e-6f, "z/%s/loss", name[c]);
        CHECK_GOLDEN(d, SIZE, 1e-6f, "z/%s/d", name[c]);
        CHECK_GOLDEN(reduced, 2, 1e-6f, "z/%s/reduced", name[c]);
        llm_bce_logits_backward(d, dy, z, y, weight, pos, N, L);
        for (size_t i = 0; i < SIZE; i++) d[i] *= 0.5f;
        CHECK_GOLDEN(d, SIZE, 1e-6f, "z/%s/d", name[c]);
    }
}

TEST(bce, "logits of 200 and infinity: finite, exact, and small losses keep their digits") {
    const float z[8] = {200.0f, -200.0f, 200.0f, -200.0f, INFINITY, -INFINITY, 40.0f, -40.0f};
    const float y[8] = {1.0f, 0.0f, 0.0f, 1.0f, 1.0f, 0.0f, 1.0f, 0.0f},
                one[8] = {1, 1, 1, 1, 1, 1, 1, 1};
    const float want[8] = {0.0f, 0.0f, 200.0f, 200.0f, 0.0f, 0.0f, 4.248354e-18f, 4.248354e-18f};
    float loss[8], d[8] = {0.0f};
    llm_bce_logits_forward(loss, z, y, NULL, NULL, 8, 1);
    llm_bce_logits_backward(d, one, z, y, NULL, NULL, 8, 1);
    CHECK_ALL_CLOSE(loss, want, 8, 1e-5f);
    CHECK(d[2] == 1.0f && d[3] == -1.0f && d[4] == 0.0f && d[5] == 0.0f);
    CHECK_NEAR(d[6] / -4.248354e-18f, 1.0f, 1e-5);
    CHECK_NEAR(d[7] / 4.248354e-18f, 1.0f, 1e-5);
    const float over[1] = {1.5f}, under[1] = {-0.5f};
    CHECK_ASSERTS(llm_bce_logits_forward(loss, z, over, NULL, NULL, 1, 1));
    CHECK_ASSERTS(llm_bce_logits_forward(loss, z, under, NULL, NULL, 1, 1));
    CHECK_ASSERTS(llm_bce_focal_forward(loss, z, over, 1, 0.5f, 1.0f));
    CHECK_ASSERTS(llm_bce_focal_forward(loss, z, under, 1, 0.5f, 1.0f));
}

TEST(bce, "two classes in a softmax with logits (0, z) cost the same; pos_weight 3 is repeating") {
    llm_rng rng = llm_rng_seed(1);
    for (size_t k = 0; k < 50; k++) {
        const float z = 4.0f * llm_rng_normal(&rng), pair[2] = {0.0f, z}, three = 3.0f;
        const int target = (int)(k % 2);
        const float y = (float)target;
        float a, b, lse, heavy;
        llm_bce_logits_forward(&a, &z, &y, NULL, NULL, 1, 1);
        llm_cross_entropy_forward(&b, &lse, pair, &target, 1, 2);
        CHECK_NEAR(a, b, 1e-6f * (1.0f + b));
        llm_bce_logits_forward(&heavy, &z, &y, NULL, &three, 1, 1);
        CHECK_NEAR(heavy, target ? 3.0f * a : a, 1e-6f * (1.0f + heavy));
    }
}

TEST(bce, "focal loss and gradient equal torchvision's; gamma 0 without alpha is plain") {
    const float *z = golden("in/z"), *y = golden("in/y"), *dy = golden("in/dy");
    const float setting[4][2] = {{0.25f, 2.0f}, {-1.0f, 0.0f}, {-1.0f, 1.0f}, {0.6f, 0.5f}};
    for (size_t c = 0; c < 4; c++) {
        float loss[SIZE], d[SIZE] = {0.0f};
        llm_bce_focal_forward(loss, z, y, SIZE, setting[c][0], setting[c][1]);
        llm_bce_focal_backward(d, dy, z, y, SIZE, setting[c][0], setting[c][1]);
        CHECK_GOLDEN(loss, SIZE, 2e-6f, "focal%zu/loss", c);
        CHECK_GOLDEN(d, SIZE, 2e-6f, "focal%zu/d", c);
        llm_bce_focal_backward(d, dy, z, y, SIZE, setting[c][0], setting[c][1]);
        for (size_t i = 0; i < SIZE; i++) d[i] *= 0.5f;
        CHECK_GOLDEN(d, SIZE, 2e-6f, "focal%zu/d", c);
    }
    CHECK_GOLDEN(golden("z/plain/loss"), SIZE, 1e-6f, "focal1/loss");
    const float far[2] = {200.0f, -200.0f}, right[2] = {1.0f, 0.0f}, one[2] = {1.0f, 1.0f};
    float d[2] = {0.0f, 0.0f}, loss[2];
    llm_bce_focal_forward(loss, far, right, 2, 0.25f, 2.0f);
    llm_bce_focal_backward(d, one, far, right, 2, 0.25f, 0.5f);
    CHECK(loss[0] == 0.0f && loss[1] == 0.0f && d[0] == 0.0f && d[1] == 0.0f);
    const float middle[2] = {0.0f, 0.0f}; /* alpha 0: positives cost nothing */
    llm_bce_focal_forward(loss, middle, right, 2, 0.0f, 0.0f);
    llm_bce_focal_backward(d, one, middle, right, 2, 0.0f, 0.0f);
    CHECK(loss[0] == 0.0f && d[0] == 0.0f && d[1] == 0.5f);
    CHECK_NEAR(loss[1], logf(2.0f), 1e-7);
}

TEST(bce, "soft targets keep their digits where the logit is large") {
    const float y[4] = {1e-3f, 0.999f, 0.25f, 0.999f}, weight[4] = {1.0f, 1.0f, 2.0f, 1.0f};
    const float z[4] = {-200.0f, 200.0f, -90.0f, 60.0f}, positive[4] = {1.0f, 1.0f, 3.0f, 1.0f};
    float loss[4];
    llm_bce_logits_forward(loss, z, y, weight, positive, 1, 4);
    for (size_t i = 0; i < 4; i++) { /* in double, where |z| is the softplus of |z| */
        const double a = fabs((double)z[i]), up = z[i] > 0.0f ? a : 0.0, down = a - up;
        const double want = (double)weight[i] *
                            ((double)positive[i] * (double)y[i] * down + (1.0 - (double)y[i]) * up);
        CHECK_NEAR(loss[i], want, 3e-7 * want);
    }
}

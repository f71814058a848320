/* @sigmoid */
#include "../test.h"

#include "../../llm.h"

TEST(sigmoid, "values and gradients equal torch's from -100 to 100, at three temperatures") {
    enum { n = 19 };
    const char *name[3] = {"1", "0.25", "3"};
    const float temp[3] = {1.0f, 0.25f, 3.0f};
    for (size_t k = 0; k < 3; k++) {
        const float *x = golden("%s/x", name[k]), *dy = golden("%s/dy", name[k]);
        const float *want = golden("%s/y", name[k]);
        float y[n], dx[n];
        for (size_t i = 0; i < n; i++) dx[i] = 1.0f, y[i] = x[i];
        llm_sigmoid_forward(y, y, n, temp[k]);
        for (size_t i = 0; i < n; i++) { /* relative, down to denormals; x / temp rounds too */
            const double tol = 3e-7 + 1e-7 * fabs((double)(x[i] / temp[k]));
            CHECK_NEAR(y[i], want[i], tol * (double)want[i] + 2e-45);
        }
        llm_sigmoid_backward(dx, dy, y, n, temp[k]);
        for (size_t i = 0; i < n; i++) dx[i] -= 1.0f;
        CHECK_GOLDEN(dx, n, 3e-7f, "%s/dx", name[k]);
    }
    float y[1];
    const float none[1] = {0.0f};
    CHECK_ASSERTS(llm_sigmoid_forward(y, none, 1, 0.0f));
}

TEST(sigmoid, "s(-x) = 1 - s(x), tanh is 2 s(2x) - 1, infinities and NaN come out right") {
    for (int i = -400; i <= 400; i++) {
        const float x = (float)i / 40.0f;
        CHECK_NEAR(llm_sigmoid_value(-x), 1.0f - llm_sigmoid_value(x), 1.3e-7);
        CHECK_NEAR(2.0f * llm_sigmoid_value(2.0f * x) - 1.0f, tanhf(x), 2e-7);
    }
    CHECK(llm_sigmoid_value(INFINITY) == 1.0f && llm_sigmoid_value(-INFINITY) == 0.0f);
    CHECK(llm_sigmoid_value(0.0f) == 0.5f && isnan(llm_sigmoid_value(NAN)));
}

TEST(sigmoid, "the slope is 1/4 at most; through k sigmoids a gradient shrinks by 4^k or more") {
    for (int i = -200; i <= 200; i++) {
        float x = (float)i / 20.0f, y[6] = {x}, dx[6] = {0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 1.0f};
        for (size_t k = 1; k < 6; k++) llm_sigmoid_forward(y + k, y + k - 1, 1, 1.0f);
        for (size_t k = 5; k > 0; k--) {
            llm_sigmoid_backward(dx + k - 1, dx + k, y + k, 1, 1.0f);
            CHECK(dx[k - 1] <= dx[k] * 0.25f && dx[k - 1] >= 0.0f);
        }
        if (i == 0) CHECK(dx[4] < 0.25f && dx[0] < 1.0f / 1024.0f && dx[0] > 1e-4f);
    }
    const float y[1] = {0.5f}, dy[1] = {1.0f};
    float dx[1] = {0.0f};
    llm_sigmoid_backward(dx, dy, y, 1, 1.0f);
    CHECK(dx[0] == 0.25f);
}

TEST(sigmoid, "the gate and its three gradients equal torch's") {
    enum { n = 13 };
    const float *z = golden("gate/z"), *a = golden("gate/a"), *b = golden("gate/b");
    const float *dy = golden("gate/dy");
    float y[n], s[n], dz[n] = {0}, da[n] = {0}, db[n] = {0}, place[n];
    llm_sigmoid_gate_forward(y, s, z, a, b, n);
    CHECK_GOLDEN(y, n, 2e-7f, "gate/y");
    CHECK_GOLDEN(s, n, 2e-7f, "gate/s");
    llm_sigmoid_gate_backward(NULL, NULL, NULL, dy, s, a, b, n);
    for (int twice = 0; twice < 2; twice++) llm_sigmoid_gate_backward(dz, da, db, dy, s, a, b, n);
    for (size_t i = 0; i < n; i++) dz[i] /= 2.0f, da[i] /= 2.0f, db[i] /= 2.0f;
    CHECK_GOLDEN(dz, n, 3e-7f, "gate/dz");
    CHECK_GOLDEN(da, n, 3e-7f, "gate/da");
    CHECK_GOLDEN(db, n, 3e-7f, "gate/db");
    memcpy(place, b, sizeof place);
    llm_sigmoid_gate_forward(place, s, z, a, place, n);
    CHECK_ALL_NEAR(place, y, n, 0.0f);
}

TEST(sigmoid, "a unit is saturated from |x| = 4.595 on") {
    const float x[6] = {0.0f, 4.58f, -4.58f, 4.61f, -4.61f, 90.0f};
    float y[6];
    llm_sigmoid_forward(y, x, 6, 1.0f);
    CHECK_NEAR(llm_sigmoid_saturation(y, 6), 0.5, 1e-12);
    CHECK(llm_sigmoid_saturation(y, 1) == 0.0 && llm_sigmoid_saturation(y + 3, 1) == 1.0);
    CHECK(llm_sigmoid_saturation(y, 0) == 0.0);
}

TEST(sigmoid, "table and quotient stay within their bounds, on a grid of half a million") {
    float table[257];
    double most[3] = {0.0, 0.0, 0.0};
    llm_sigmoid_table(table);
    CHECK(table[0] == llm_sigmoid_value(-8.0f) && table[128] == 0.5f);
    CHECK(table[129] == llm_sigmoid_value(0.0625f) && table[256] == llm_sigmoid_value(8.0f));
    for (int i = -250000; i <= 250000; i++) {
        const float x = (float)i / 15625.0f; /* -16 to 16 */
        const double s = 1.0 / (1.0 + exp(-(double)x));
        const double look = fabs((double)llm_sigmoid_lookup(table, x) - s);
        const double ratio = fabs((double)llm_sigmoid_rational(x) - s);
        most[0] = fmax(most[0], look), most[2] = fmax(most[2], ratio);
        if (fabsf(x) < 8.0f) most[1] = fmax(most[1], look);
    }
    CHECK(most[0] < 3.4e-4 && most[0] > 3.3e-4);
    CHECK(most[1] < 5e-5 && most[1] > 4.5e-5);
    CHECK(most[2] < 5e-5 && most[2] > 4.5e-5);
    CHECK(llm_sigmoid_lookup(table, INFINITY) == table[256]);
    CHECK(llm_sigmoid_lookup(table, -INFINITY) == table[0]);
    CHECK_NEAR(llm_sigmoid_rational(INFINITY), 1.0f, 1e-6);
    CHECK_NEAR(llm_sigmoid_rational(-INFINITY), 0.0f, 1e-6);
    CHECK(isnan(llm_sigmoid_lookup(table, NAN)) && isnan(llm_sigmoid_rational(NAN)));
}

TEST(sigmoid, "a slope of 0.01 itself is not flat") {
    float y[1] = {0.0101f};
    while (y[0] * (1.0f - y[0]) < 0.01f) y[0] = nextafterf(y[0], 1.0f);
    CHECK(y[0] * (1.0f - y[0]) == 0.01f && llm_sigmoid_saturation(y, 1) == 0.0);
}

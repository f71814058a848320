/* @exp */
#include "../test.h"

#include "../../llm.h"

/* How far got is from want, in units in the last place that a float of want's size has. */
static double ulps(float got, double want) {
    if (isnan(want)) return isnan(got) ? 0.0 : INFINITY;
    if (isinf((float)want) || isinf(got)) return (float)want == got ? 0.0 : INFINITY;
    int exponent;
    frexp(want, &exponent);
    return fabs((double)got - want) / ldexp(1.0, exponent - 24 > -149 ? exponent - 24 : -149);
}

static float float_of(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

TEST(exp,
     "all signs and exponents: within 1.03 and 1.5 units in the last place of libm's doubles") {
    /* All floats with exponents between 2^-32 and 2^7 were seen once: 0.994 and 1.459 units at
     * -O2, 1.023 and 1.464 with fused multiply-add; the others hardly depend on the mantissa. */
    double worst_exp = 0.0, worst_tanh = 0.0;
    for (uint64_t bits = 0; bits < (uint64_t)1 << 32; bits += 4099) {
        const float x = float_of((uint32_t)bits);
        const double e = ulps(llm_expf(x), exp((double)x)), t = ulps(llm_tanhf(x), tanh((double)x));
        worst_exp = e > worst_exp ? e : worst_exp;
        worst_tanh = t > worst_tanh ? t : worst_tanh;
    }
    CHECK(worst_exp <= 1.03);
    CHECK(worst_tanh <= 1.5);
}

TEST(exp, "the same on a fine grid where the results are neither 0, 1 nor infinite") {
    double worst_exp = 0.0, worst_tanh = 0.0;
    for (int i = -1050000; i <= 900000; i++) {
        const float x = (float)i * 1e-4f;
        const double e = ulps(llm_expf(x), exp((double)x));
        worst_exp = e > worst_exp ? e : worst_exp;
    }
    for (int i = -600000; i <= 600000; i++) {
        const float x = (float)i * 1.6e-5f;
        const double t = ulps(llm_tanhf(x), tanh((double)x));
        worst_tanh = t > worst_tanh ? t : worst_tanh;
    }
    CHECK(worst_exp <= 1.03);
    CHECK(worst_tanh <= 1.5);
    CHECK(worst_exp > 0.8 && worst_tanh > 1.2); /* the grid does see the worst places */
}

TEST(exp, "zeros, infinities, NaN and the last floats before 0 and infinity") {
    const float tiny = float_of(1), huge = 3.4028235e38f;
    CHECK(llm_expf(0.0f) == 1.0f && llm_expf(-0.0f) == 1.0f && llm_expf(tiny) == 1.0f);
    CHECK(llm_expf(INFINITY) == INFINITY && llm_expf(huge) == INFINITY);
    CHECK(llm_expf(-INFINITY) == 0.0f && llm_expf(-huge) == 0.0f);
    CHECK(isnan(llm_expf(NAN)) && isnan(llm_expf(-NAN)));
    CHECK(isfinite(llm_expf(88.72283f)) && isinf(llm_expf(88.72284f)));
    CHECK(llm_expf(-103.97208f) == tiny && llm_expf(-103.97209f) == 0.0f);
    CHECK(llm_expf(-87.5f) == 9.9823514e-39f); /* a denormal: e^-87.5 to nine digits */

    CHECK(llm_tanhf(0.0f) == 0.0f && !signbit(llm_tanhf(0.0f)));
    CHECK(llm_tanhf(-0.0f) == 0.0f && signbit(llm_tanhf(-0.0f)));
    CHECK(llm_tanhf(tiny) == tiny && llm_tanhf(-tiny) == -tiny && llm_tanhf(1e-30f) == 1e-30f);
    CHECK(llm_tanhf(INFINITY) == 1.0f && llm_tanhf(-INFINITY) == -1.0f && llm_tanhf(huge) == 1.0f);
    CHECK(isnan(llm_tanhf(NAN)) && isnan(llm_tanhf(-NAN)));
    CHECK(llm_tanhf(9.1f) == 1.0f && llm_tanhf(8.9f) < 1.0f);
}

TEST(exp, "tanh is odd and never above 1, e^x never falls by more than its error") {
    float before = 0.0f;
    for (int i = 0; i < 1000000; i++) {
        const float x = -100.0f + (float)i * 1.8e-4f;
        const float y = llm_expf(x), t = llm_tanhf(x);
        CHECK(y >= before * (1.0f - 2.4e-7f)); /* two units */
        CHECK(llm_tanhf(-x) == -t && fabsf(t) <= 1.0f);
        before = y;
    }
}

TEST(exp, "the parts: clamp, the split of x, e^r - 1") {
    const float in[7] = {3.0f, -3.0f, 0.5f, -0.0f, INFINITY, -INFINITY, NAN};
    const float want[7] = {2.0f, -2.0f, 0.5f, -0.0f, 2.0f, -2.0f, 2.0f};
    for (size_t i = 0; i < 7; i++) {
        const float got = llm_exp_clamp(in[i], 2.0f);
        CHECK(got == want[i] && (isnan(in[i]) || signbit(got) == signbit(want[i])));
    }
    for (int i = -1040; i <= 1040; i++) {
        const float x = 0.1f * (float)i;
        float r;
        const double n = (double)llm_exp_reduce(&r, x) - 256.0;
        CHECK(n == rint((double)x / 0.69314718055994531));
        CHECK_NEAR(r, (double)x - n * 0.69314718055994531, 3e-8); /* half a unit of 0.35, twice */
        CHECK_NEAR(llm_exp_minus_1(r), expm1((double)r), 4.5e-8 * exp((double)r));
    }
}

/* @masked_score */
#include "../test.h"

#include "../../llm.h"

static const struct {
    const char *name;
    llm_masked_score_shape c;
} masked_score_cases[5] = {{"one", {1, 1, 1, 1, 1, 1, 1, 1, 1, 1}},
                           {"pad", {2, 2, 3, 5, 2, 1, 1, 2, 2, 1}},
                           {"causal", {1, 2, 3, 3, 1, 1, 3, 1, 2, 3}},
                           {"full", {2, 1, 2, 7, 2, 1, 2, 2, 1, 2}},
                           {"heads", {2, 3, 1, 17, 1, 3, 1, 2, 1, 1}}};

/* x with NaN wherever the mask of c says no. */
static float *masked_score_hidden(const float *x, const bool *allowed,
                                  const llm_masked_score_shape *c) {
    const size_t rows = c->B * c->H * c->Tq, n = c->Tk;
    float *y = floats(rows * n);
    for (size_t r = 0; r < rows; r++) {
        const size_t b = c->mask_B > 1 ? r / c->Tq / c->H : 0,
                     h = c->mask_H > 1 ? r / c->Tq % c->H : 0;
        const size_t i = c->mask_Tq > 1 ? r % c->Tq : 0;
        const bool *may = allowed + ((b * c->mask_H + h) * c->mask_Tq + i) * n;
        for (size_t j = 0; j < n; j++)
            if (may[j]) y[r * n + j] = x[r * n + j];
    }
    return y;
}

TEST(masked_score, "weights, lse and gradients equal torch; what is masked is NaN and not read") {
    for (size_t k = 0; k < 5; k++) {
        const llm_masked_score_shape *c = &masked_score_cases[k].c;
        const char *name = masked_score_cases[k].name;
        const size_t rows = c->B * c->H * c->Tq, n = rows * c->Tk;
        const size_t masks = c->mask_B * c->mask_H * c->mask_Tq * c->Tk;
        const size_t biases = c->bias_B * c->bias_H * c->bias_Tq * c->Tk;
        const bool *allowed = as_bools(golden("%s/allowed", name), masks);
        const float *s = masked_score_hidden(golden("%s/s", name), allowed, c);
        const float *dp = masked_score_hidden(golden("%s/dp", name), allowed, c);
        const float *bias = golden("%s/bias", name);
        float *p = floats(n), *lse = floats(rows), *ds = zeros(n), *dbias = zeros(biases);

        llm_masked_score_softmax_forward(p, lse, s, allowed, bias, c);
        CHECK_GOLDEN(p, n, 1e-6f, "%s/p", name);
        CHECK_GOLDEN(lse, rows, 1e-6f, "%s/lse", name);
        llm_masked_score_softmax_backward(ds, dbias, dp, p, allowed, c);
        CHECK_GOLDEN(ds, n, 1e-6f, "%s/ds", name);
        CHECK_GOLDEN(dbias, biases, 3e-6f, "%s/dbias", name); /* sums of up to 12 rows */

        float *twice = zeros(n), *alone = zeros(biases), *in_place = floats(n);
        llm_masked_score_softmax_backward(twice, NULL, dp, p, allowed, c);
        CHECK_ALL_NEAR(twice, ds, n, 0.0f);
        llm_masked_score_softmax_backward(NULL, alone, dp, p, allowed, c);
        CHECK_ALL_NEAR(alone, dbias, biases, 0.0f);
        llm_masked_score_softmax_backward(twice, alone, dp, p, allowed, c); /* accumulates */
        for (size_t i = 0; i < n; i++) CHECK_NEAR(twice[i], 2.0f * ds[i], 1e-6);
        for (size_t i = 0; i < biases; i++) CHECK_NEAR(alone[i], 2.0f * dbias[i], 3e-6);
        memcpy(in_place, s, n * sizeof(float));
        llm_masked_score_softmax_forward(in_place, NULL, in_place, allowed, bias, c);
        CHECK_ALL_NEAR(in_place, p, n, 0.0f);
    }
}

TEST(masked_score,
     "a bias with -inf in it masks as scaled_dot_product_attention's attn_mask does") {
    enum { H = 2, T = 3, S = 4, D = 2 };
    const float *q = golden("sdpa/q"), *k = golden("sdpa/k"), *v = golden("sdpa/v");
    float s[H * T * S], p[H * T * S], out[H * T * D] = {0}, lse[H * T];
    llm_masked_score_shape c = llm_masked_score_defaults(1, H, T, S);
    CHECK(c.mask_B == 1 && c.mask_H == 1 && c.mask_Tq == T && c.bias_B == 1 && c.bias_H == H);
    CHECK(c.bias_Tq == T && c.B == 1 && c.H == H && c.Tq == T && c.Tk == S);
    c.bias_H = 1;
    for (size_t h = 0; h < H; h++)
        llm_attn_score_dot_forward(s + h * T * S, q + h * T * D, k + h * S * D, T, S, D);
    for (size_t i = 0; i < H * T * S; i++) s[i] /= sqrtf((float)D);
    llm_masked_score_softmax_forward(p, lse, s, NULL, golden("sdpa/bias"), &c);
    for (size_t h = 0; h < H; h++)
        llm_gemm(out + h * T * D, p + h * T * S, false, v + h * S * D, false, T, D, S);
    CHECK_GOLDEN(out, H * T * D, 1e-6f, "sdpa/out");
    for (size_t h = 0; h < H; h++)
        CHECK(p[(h * T + 1) * S + 2] == 0.0f && p[h * T * S + 8] == 0.0f);
}

static double masked_score_loss(const float *s, const float *bias, const bool *allowed,
                                const float *dp, const llm_masked_score_shape *c) {
    double loss = 0.0;
    for (size_t r = 0; r < c->B * c->H * c->Tq; r++) { /* bias (1,H,1,Tk), mask (B,1,Tq,Tk) */
        const float *b = bias + r / c->Tq % c->H * c->Tk;
        const bool *may = allowed + (r / c->Tq / c->H * c->Tq + r % c->Tq) * c->Tk;
        double sum = 0.0, paid = 0.0;
        for (size_t j = 0; j < c->Tk; j++) {
            const double e = may[j] ? exp((double)s[r * c->Tk + j] + (double)b[j]) : 0.0;
            sum += e, paid += e * (double)dp[r * c->Tk + j];
        }
        loss += sum > 0.0 ? paid / sum : 0.0;
    }
    return loss;
}

TEST(masked_score, "backward equals finite differences, of scores and of a bias shared by rows") {
    llm_masked_score_shape c = llm_masked_score_defaults(2, 2, 3, 5);
    c.mask_B = 2, c.bias_Tq = 1;
    enum { N = 2 * 2 * 3 * 5 };
    float s[N], bias[2 * 5], dp[N], p[N], ds[N] = {0}, dbias[2 * 5] = {0};
    bool allowed[2 * 3 * 5];
    llm_rng rng = llm_rng_seed(6);
    llm_rng_normal_fill(&rng, s, N);
    llm_rng_normal_fill(&rng, dp, N);
    llm_rng_normal_fill(&rng, bias, 10);
    for (size_t i = 0; i < 30; i++) allowed[i] = i / 5 != 4 && llm_rng_uniform(&rng) < 0.7f;
    llm_masked_score_softmax_forward(p, NULL, s, allowed, bias, &c);
    llm_masked_score_softmax_backward(ds, dbias, dp, p, allowed, &c);
    CHECK_GRAD(ds, s, N, 1e-2f, 1e-4f, masked_score_loss(s, bias, allowed, dp, &c));
    CHECK_GRAD(dbias, bias, 10, 1e-2f, 1e-4f, masked_score_loss(s, bias, allowed, dp, &c));
}

TEST(masked_score, "rows sum to 1 for 65 keys and logits of 1e4; alone a key gets everything") {
    const size_t widths[] = {1, 2, 3, 17, 65};
    llm_rng rng = llm_rng_seed(7);
    for (size_t k = 0; k < 5; k++) {
        const size_t n = widths[k], rows = 6;
        const llm_masked_score_shape c = llm_masked_score_defaults(1, 1, rows, n);
        float *s = floats(rows * n), *p = floats(rows * n), *lse = floats(rows);
        bool *allowed = bools(rows * n);
        llm_rng_normal_fill(&rng, s, rows * n);
        for (size_t i = 0; i < rows * n; i++) s[i] *= 1e4f, allowed[i] = i % n >= i / n % n;
        llm_masked_score_softmax_forward(p, lse, s, allowed, NULL, &c);
        for (size_t i = 0; i < rows; i++) {
            double sum = 0.0, most = -INFINITY, total = 0.0;
            for (size_t j = 0; j < n; j++) {
                sum += (double)p[i * n + j];
                if (!allowed[i * n + j]) CHECK(p[i * n + j] == 0.0f);
                if (allowed[i * n + j]) most = fmax(most, (double)s[i * n + j]);
            }
            for (size_t j = 0; j < n; j++)
                if (allowed[i * n + j]) total += exp((double)s[i * n + j] - most);
            CHECK_NEAR(sum, 1.0, 1e-6);
            CHECK_NEAR(lse[i], most + log(total), 2e-3); /* the last digit of 2e4 */
        }
    }
}

/* Rounding of a float to 11 (half) or 8 bits (bfloat16); beyond the largest half is infinity. */
static float masked_score_rounded(float x, int bits) {
    int exponent;
    frexpf(x, &exponent);
    const float y = ldexpf(rintf(ldexpf(x, bits - exponent)), exponent - bits);
    return bits == 11 && fabsf(y) > 65504.0f ? copysignf(INFINITY, y) : y;
}

TEST(masked_score, "masks as numbers: where they leak, vanish or overflow, and the mask does not") {
    const llm_masked_score_shape c = llm_masked_score_defaults(1, 1, 1, 3);
    const float low[3] = {-2e9f, -2.0000004e9f, 0.0f};
    const bool allowed[3] = {true, true, false}, none[3] = {false, false, false};
    float s[3], p[3], lse;
    /* -1e9 against scores of -2e9: the masked key takes all */
    memcpy(s, low, sizeof s);
    llm_masked_score_apply(s, allowed, 3, -1e9f);
    llm_softmax_forward(p, s, 1, 3, 1.0f);
    CHECK(p[2] == 1.0f && p[0] == 0.0f);
    llm_masked_score_softmax_forward(p, NULL, low, allowed, NULL, &c);
    CHECK(p[2] == 0.0f && p[0] == 1.0f);
    memcpy(s, low, sizeof s);
    llm_masked_score_apply(s, allowed, 3, -INFINITY);
    llm_softmax_forward(p, s, 1, 3, 1.0f);
    CHECK(p[2] == 0.0f && p[0] == 1.0f);

    /* a row that sees nothing: 0/0 by the formula, uniform with -1e9, zero here */
    const float x[3] = {1.0f, 2.0f, 3.0f}, dp[3] = {1.0f, -2.0f, 5.0f};
    float ds[3] = {0};
    memcpy(s, x, sizeof s);
    llm_masked_score_apply(s, none, 3, -INFINITY);
    CHECK(isnan(expf(s[0] - s[1])));
    memcpy(s, x, sizeof s);
    llm_masked_score_apply(s, none, 3, -1e9f);
    llm_softmax_forward(p, s, 1, 3, 1.0f);
    for (int j = 0; j < 3; j++) CHECK_NEAR(p[j], 1.0 / 3.0, 1e-7); /* 64 is a float's step at 1e9 */
    llm_masked_score_softmax_forward(p, &lse, x, none, NULL, &c);
    CHECK(p[0] == 0.0f && p[1] == 0.0f && p[2] == 0.0f && lse == -INFINITY);
    llm_masked_score_softmax_backward(ds, NULL, dp, p, none, &c);
    CHECK(ds[0] == 0.0f && ds[1] == 0.0f && ds[2] == 0.0f);
    const float infinite[3] = {-INFINITY, -INFINITY, -INFINITY}; /* masked by the scores */
    llm_masked_score_softmax_forward(p, &lse, infinite, NULL, NULL, &c);
    CHECK(p[0] == 0.0f && p[2] == 0.0f && lse == -INFINITY);
    llm_masked_score_softmax_backward(ds, NULL, dp, p, NULL, &c);
    CHECK(ds[0] == 0.0f && ds[2] == 0.0f);

    /* 16 bits: the least half added twice (padding and causal) is -inf; -1e9 is not a half; in
     * bfloat16 a score of 3 does not change -1e9 or the least number */
    const float least_half = -65504.0f, least_bf16 = -3.3895314e38f;
    CHECK(masked_score_rounded(least_half, 11) == least_half);
    CHECK(masked_score_rounded(least_half + least_half, 11) == -INFINITY);
    CHECK(masked_score_rounded(-1e9f, 11) == -INFINITY);
    CHECK(masked_score_rounded(-1e9f, 8) == -998244352.0f);
    CHECK(masked_score_rounded(-1e9f + 3.0f, 8) == masked_score_rounded(-1e9f, 8));
    CHECK(least_bf16 + least_bf16 == -INFINITY &&
          masked_score_rounded(least_bf16, 8) == least_bf16);
}

TEST(masked_score, "extents that do not fit are refused, nothing to do is nothing") {
    const bool may[8] = {true, true, true, true, true, true, true, true};
    float x[8] = {0}, y[8];
    for (int k = 0; k < 6; k++) {
        llm_masked_score_shape c = llm_masked_score_defaults(2, 2, 2, 1);
        size_t *extent[6] = {&c.mask_B, &c.mask_H, &c.mask_Tq, &c.bias_B, &c.bias_H, &c.bias_Tq};
        *extent[k] = 3;
        CHECK_ASSERTS(llm_masked_score_softmax_forward(y, NULL, x, may, x, &c));
        CHECK_ASSERTS(llm_masked_score_softmax_backward(y, NULL, x, x, may, &c));
    }
    const llm_masked_score_shape none = llm_masked_score_defaults(0, 2, 3, 4);
    llm_masked_score_softmax_forward(NULL, NULL, NULL, NULL, NULL, &none);
    llm_masked_score_softmax_backward(NULL, NULL, NULL, NULL, NULL, &none);
    const llm_masked_score_shape keyless = llm_masked_score_defaults(1, 1, 2, 0);
    float lse[2];
    llm_masked_score_softmax_forward(y, lse, x, NULL, NULL, &keyless);
    CHECK(lse[0] == -INFINITY && lse[1] == -INFINITY);
}

/* @logsumexp */
#include "../test.h"

#include "../../llm.h"

/* x (n) uniform in +-spread, with a few -inf when holes is set. */
static void logsumexp_random(float *x, size_t n, float spread, bool holes, llm_rng *rng) {
    for (size_t i = 0; i < n; i++) {
        x[i] = spread * (2.0f * llm_rng_uniform(rng) - 1.0f);
        if (holes && llm_rng_below(rng, 5) == 0) x[i] = -INFINITY;
    }
}

static double logsumexp_in_double(const float *x, size_t n) {
    double sum = 0.0, max = -1e30;
    for (size_t i = 0; i < n; i++) max = fmax(max, (double)x[i]);
    for (size_t i = 0; i < n; i++) sum += exp((double)x[i] - max);
    return max + log(sum);
}

TEST(logsumexp, "equals scipy.special.logsumexp, torch's gradient and torch.logcumsumexp") {
    const size_t sizes[] = {1, 2, 3, 7, 8, 9, 17, 64, 131};
    for (size_t s = 0; s < 9; s++) {
        const size_t n = sizes[s];
        const float *x = golden("%zu/x", n), *b = golden("%zu/b", n);
        float *dx = zeros(n), *y = floats(n), lse[1] = {llm_logsumexp(x, n)}, weighted[2];

        /* x reaches 20 and its rounding goes into the exponent: 1e-6 relative to the value */
        CHECK_GOLDEN(lse, 1, 1e-6f, "%zu/lse", n);
        llm_logsumexp_backward(dx, -1.5f, x, lse[0], n);
        CHECK_GOLDEN(dx, n, 2e-6f, "%zu/dx", n);
        weighted[0] = llm_logsumexp_weighted(&weighted[1], x, b, n);
        CHECK_GOLDEN(weighted, 2, 2e-7f, "%zu/weighted", n); /* summed in double */
        llm_logsumexp_cumulative(y, x, n);
        CHECK_GOLDEN(y, n, 1e-6f, "%zu/cumulative", n);
        memcpy(dx, x, n * sizeof(float));
        llm_logsumexp_cumulative(dx, dx, n);
        CHECK_ALL_NEAR(dx, y, n, 0.0f);
    }
}

TEST(logsumexp, "logaddexp equals numpy.logaddexp, log1mexp 60 digits of mpmath, in every decade") {
    size_t n = 0;
    const float *a = golden_n(&n, "logaddexp/a"), *b = golden("logaddexp/b");
    float *y = floats(n);
    for (size_t i = 0; i < n; i++) y[i] = llm_logsumexp_logaddexp(a[i], b[i]);
    CHECK_ALL_CLOSE(y, golden("logaddexp/y"), n, 3e-7f); /* log1p and one addition: 2 ulp */
    CHECK(llm_logsumexp_logaddexp(0.0f, -30.0f) > 9e-14f);

    const float *x = golden_n(&n, "log1mexp/x");
    y = floats(n);
    for (size_t i = 0; i < n; i++) y[i] = llm_logsumexp_log1mexp(x[i]);
    CHECK_ALL_CLOSE(y, golden("log1mexp/y"), n, 3e-7f);
    CHECK(llm_logsumexp_log1mexp(0.0f) == -INFINITY && llm_logsumexp_log1mexp(-INFINITY) == 0.0f);
    CHECK(isnan(llm_logsumexp_log1mexp(1.0f)));
    CHECK(-expm1f(-1e-10f) > 0.0f && 1.0f - expf(-1e-10f) == 0.0f); /* what the switch is for */
}

TEST(logsumexp, "lse(x + c) = lse(x) + c for huge c, where the naive sum is infinite or zero") {
    const float two[2] = {1000.0f, 1000.0f};
    CHECK(logf(expf(two[0]) + expf(two[1])) == INFINITY);
    CHECK_NEAR(llm_logsumexp(two, 2), 1000.0 + log(2.0), 1e-4);
    llm_rng rng = llm_rng_seed(2);
    for (size_t n = 1; n <= 33; n++) {
        float x[33], up[33], down[33];
        for (size_t i = 0; i < n; i++) { /* multiples of 1/64: adding 1e4 rounds nothing */
            x[i] = (float)llm_rng_below(&rng, 640) / 64.0f - 5.0f;
            up[i] = x[i] + 1e4f;
            down[i] = x[i] - 1e4f;
        }
        const float lse = llm_logsumexp(x, n), max = llm_logsumexp_max(x, n);
        CHECK_NEAR(llm_logsumexp(up, n), lse + 1e4f, 1e-3f); /* an ulp of 1e4 is 0.98e-3 */
        CHECK_NEAR(llm_logsumexp(down, n), lse - 1e4f, 1e-3f);
        llm_logsumexp_cumulative(down, down, n);
        CHECK_NEAR(down[0], x[0] - 1e4f, 0.0f);
        CHECK_NEAR(down[n - 1], lse - 1e4f, 1e-3f);
        CHECK(max <= lse && lse <= max + logf((float)n) + 1e-6f);
    }
}

TEST(logsumexp, "two passes, one pass, and any parts merged in any order agree to 2 ulp") {
    enum { N = 64 }; /* more terms round more often: the next test */
    llm_rng rng = llm_rng_seed(3);
    for (size_t round = 0; round < 300; round++) {
        const size_t n = 1 + llm_rng_below(&rng, N);
        float x[N];
        logsumexp_random(x, n, round % 2 ? 3.0f : 60.0f, round % 3 == 0, &rng);
        x[llm_rng_below(&rng, n)] = 5.0f; /* not all -inf */
        const double want = logsumexp_in_double(x, n);
        const double ulp = ldexp(1.0, ilogb(want) - 23);
        CHECK_NEAR(llm_logsumexp(x, n), want, 2.0 * ulp);
        CHECK_NEAR(llm_logsumexp_value(llm_logsumexp_online(x, n)), want, 2.0 * ulp);

        const size_t i = llm_rng_below(&rng, n + 1), j = i + llm_rng_below(&rng, n - i + 1);
        const llm_logsumexp_pair a = llm_logsumexp_online(x, i);
        const llm_logsumexp_pair b = llm_logsumexp_online(x + i, j - i);
        const llm_logsumexp_pair c = llm_logsumexp_online(x + j, n - j);
        const llm_logsumexp_pair ab = llm_logsumexp_merge(a, b), ca = llm_logsumexp_merge(c, a);
        CHECK_NEAR(llm_logsumexp_value(llm_logsumexp_merge(ab, c)), want, 2.0 * ulp);
        CHECK_NEAR(llm_logsumexp_value(llm_logsumexp_merge(b, ca)), want, 2.0 * ulp);
        CHECK(ab.max == llm_logsumexp_max(x, j));
    }
}

TEST(logsumexp, "a vocabulary of 50257 logits: exact in two passes, to 1e-4 in one") {
    enum { V = 50257 };
    float *x = floats(V);
    llm_rng rng = llm_rng_seed(5);
    for (size_t i = 0; i < V; i++) x[i] = 3.0f * llm_rng_normal(&rng);
    CHECK_NEAR(llm_logsumexp(x, V), logsumexp_in_double(x, V), 2e-6); /* 2 ulp */
    /* terms added one by one to a float lose 3e-8 of the sum each time, up or down */
    CHECK_NEAR(llm_logsumexp_value(llm_logsumexp_online(x, V)), logsumexp_in_double(x, V), 1e-4);
}

TEST(logsumexp, "the sum of exp((x - shift) gain) is good to 1e-6 at every length and scale") {
    enum { N = 9000 };
    float *x = floats(N);
    llm_rng rng = llm_rng_seed(6);
    for (size_t i = 0; i < N; i++) x[i] = 4.0f * llm_rng_uniform(&rng);
    for (size_t n = 0; n <= N; n += n < 40 ? 1 : 1279) {
        double want = 0.0;
        for (size_t i = 0; i < n; i++) want += exp(((double)x[i] - 3.0) * 0.5);
        CHECK_NEAR(llm_logsumexp_sum(x, n, 3.0f, 0.5f), want, 1e-6 * want);
    }
}

TEST(logsumexp, "the maximum is found at every place of every length, NaN is skipped") {
    float x[41];
    for (size_t n = 1; n <= 41; n++)
        for (size_t at = 0; at < n; at++) {
            for (size_t i = 0; i < n; i++) x[i] = i % 3 ? -(float)i : NAN;
            x[at] = 0.5f;
            CHECK(llm_logsumexp_max(x, n) == 0.5f);
            x[at] = -INFINITY;
            CHECK(llm_logsumexp_max(x, n) < 0.5f);
        }
    CHECK(llm_logsumexp_max(x, 0) == -INFINITY && llm_logsumexp_online(x, 0).sum == 0.0f);
    x[0] = NAN;
    CHECK(llm_logsumexp_max(x, 1) == -INFINITY);
}

/* The five ways to sum must give want (NaN: NaN) for x (n). */
static void logsumexp_all_give(const float *x, size_t n, float want) {
    float ones[20], sign, y[20] = {-INFINITY};
    for (size_t i = 0; i < n; i++) ones[i] = 1.0f;
    llm_logsumexp_cumulative(y, x, n);
    float pairwise = -INFINITY;
    for (size_t i = 0; i < n; i++) pairwise = llm_logsumexp_logaddexp(x[i], pairwise);
    const float got[5] = {llm_logsumexp(x, n), llm_logsumexp_value(llm_logsumexp_online(x, n)),
                          llm_logsumexp_weighted(&sign, x, ones, n), y[n ? n - 1 : 0], pairwise};
    for (size_t k = 0; k < 5; k++) CHECK(isnan(want) ? isnan(got[k]) : got[k] == want);
    CHECK(isnan(want) ? isnan(sign) : sign == (want == -INFINITY ? 0.0f : 1.0f));
}

TEST(logsumexp, "nothing and all -inf give -inf, any +inf gives +inf, NaN stays NaN") {
    float x[20] = {0.0f}, dx[20], zero[20] = {0.0f};
    for (size_t n = 0; n <= 19; n++) {
        for (size_t i = 0; i < n; i++) x[i] = -INFINITY;
        logsumexp_all_give(x, n, -INFINITY);
        memset(dx, 0, sizeof dx);
        llm_logsumexp_backward(dx, 1.0f, x, -INFINITY, n);
        CHECK_ALL_NEAR(dx, zero, n, 0.0f);
        for (size_t at = 0; at < n; at++) {
            for (size_t i = 0; i < n; i++) x[i] = i % 2 ? -INFINITY : 3.0f;
            x[at] = INFINITY;
            logsumexp_all_give(x, n, INFINITY);
            x[n - 1 - at] = INFINITY; /* two of them, or the same one */
            logsumexp_all_give(x, n, INFINITY);
            memset(dx, 0, sizeof dx);
            llm_logsumexp_backward(dx, 1.0f, x, INFINITY, n);
            for (size_t i = 0; i < n; i++) CHECK(x[i] == INFINITY ? isnan(dx[i]) : dx[i] == 0.0f);
            for (size_t i = 0; i < n; i++) x[i] = i % 2 ? -INFINITY : 3.0f;
            x[at] = NAN;
            logsumexp_all_give(x, n, NAN);
        }
    }
}

TEST(logsumexp, "weights: differences, a sum of zero, terms of weight 0 not read, infinite terms") {
    float sign = NAN;
    const float x[3] = {2.0f, 1.0f, NAN}, minus[3] = {-1.0f, 1.0f, 0.0f};
    CHECK_NEAR(llm_logsumexp_weighted(&sign, x, minus, 3), log(exp(2.0) - exp(1.0)), 1e-6);
    CHECK(sign == -1.0f);
    const float same[2] = {500.0f, 500.0f}, cancel[2] = {0.25f, -0.25f};
    CHECK(llm_logsumexp_weighted(&sign, same, cancel, 2) == -INFINITY);
    CHECK(sign == 0.0f);
    const float inf[2] = {INFINITY, 1.0f}, b[2] = {-2.0f, 1.0f};
    CHECK(llm_logsumexp_weighted(&sign, inf, b, 2) == INFINITY && sign == -1.0f);
    const float both[2] = {INFINITY, INFINITY};
    CHECK(isnan(llm_logsumexp_weighted(&sign, both, b, 2)) && isnan(sign));
    CHECK(llm_logsumexp_weighted(&sign, x, minus + 2, 1) == -INFINITY && sign == 0.0f);
    for (size_t at = 0; at < 5; at++) /* far from 0; the largest of all has no weight */
        for (int far = -3000; far <= 3000; far += 6000) {
            float y[5], w[5] = {2.0f, 2.0f, 2.0f, 2.0f, 2.0f};
            for (size_t i = 0; i < 5; i++) y[i] = (float)far - (i == at ? 0.0f : 1000.0f);
            w[(at + 2) % 5] = 0.0f;
            y[(at + 2) % 5] = 9000.0f;
            CHECK_NEAR(llm_logsumexp_weighted(&sign, y, w, 5), far + log(2.0), 1e-3);
        }
}

TEST(logsumexp, "backward agrees with differences, adds to what is there and shares out dy") {
    enum { N = 11 };
    float x[N], dx[N] = {0.0f}, twice[N];
    llm_rng rng = llm_rng_seed(4);
    logsumexp_random(x, N, 2.0f, false, &rng);
    llm_logsumexp_backward(dx, 3.0f, x, llm_logsumexp(x, N), N);
    /* the loss in double: only the step's curvature (1e-4) and the rounding of dx are left */
    CHECK_GRAD(dx, x, N, 1e-2f, 1e-4f, 3.0 * logsumexp_in_double(x, N));
    double sum = 0.0;
    for (size_t i = 0; i < N; i++) sum += (double)dx[i];
    CHECK_NEAR(sum, 3.0, 1e-6);
    for (size_t i = 0; i < N; i++) twice[i] = 2.0f * dx[i];
    llm_logsumexp_backward(dx, 3.0f, x, llm_logsumexp(x, N), N);
    CHECK_ALL_NEAR(dx, twice, N, 1e-6f);
    x[4] = -INFINITY; /* impossible: no gradient, and the others share it */
    memset(dx, 0, sizeof dx);
    llm_logsumexp_backward(dx, 1.0f, x, llm_logsumexp(x, N), N);
    CHECK(dx[4] == 0.0f && dx[3] > 0.0f);
}

/* @softmax */
#include "../test.h"

#include "../../llm.h"

TEST(softmax,
     "equals torch.softmax and log_softmax with gradients, masked entries and offset 1e4") {
    const size_t shapes[][2] = {{1, 1}, {2, 2}, {3, 7}, {2, 8}, {4, 17}, {1, 100}}; /* (rows, n) */
    const float temps[] = {1.0f, 0.5f, 2.0f, 1.0f, 0.1f, 1.0f};
    for (size_t s = 0; s < 6; s++) {
        const size_t rows = shapes[s][0], n = shapes[s][1], size = rows * n;
        const float *x = golden("%zux%zu/x", rows, n), *dy = golden("%zux%zu/dy", rows, n);
        float *p = floats(size), *y = floats(size), *dx = zeros(size), *dlog = zeros(size);
        float *in_place = floats(size);

        /* the exponent (up to 100 at temp 0.1) carries a rounding of 6e-8 of itself into exp */
        llm_softmax_forward(p, x, rows, n, temps[s]);
        CHECK_GOLDEN(p, size, 2e-6f, "%zux%zu/p", rows, n);
        llm_softmax_backward(dx, dy, p, rows, n, temps[s]);
        CHECK_GOLDEN(dx, size, 5e-6f, "%zux%zu/dx", rows, n);
        llm_softmax_log_forward(y, x, rows, n);
        CHECK_GOLDEN(y, size, 1e-6f, "%zux%zu/logp", rows, n);
        llm_softmax_log_backward(dlog, dy, y, rows, n);
        CHECK_GOLDEN(dlog, size, 2e-6f, "%zux%zu/dlog", rows, n);

        memcpy(in_place, x, size * sizeof(float));
        llm_softmax_forward(in_place, in_place, rows, n, temps[s]);
        CHECK_ALL_NEAR(in_place, p, size, 0.0f);
        memcpy(in_place, x, size * sizeof(float));
        llm_softmax_log_forward(in_place, in_place, rows, n);
        CHECK_ALL_NEAR(in_place, y, size, 0.0f);
        llm_softmax_online(p, x, rows, n);
        for (size_t i = 0; i < size; i++) CHECK_NEAR(p[i], exp((double)y[i]), 1e-6);
        memcpy(in_place, x, size * sizeof(float));
        llm_softmax_online(in_place, in_place, rows, n);
        CHECK_ALL_NEAR(in_place, p, size, 0.0f);
    }
}

TEST(softmax, "rows sum to 1, in the order of x, whatever is added to x; also for a vocabulary") {
    const size_t sizes[] = {1, 2, 3, 8, 13, 100, 50257};
    llm_rng rng = llm_rng_seed(1);
    for (size_t s = 0; s < 7; s++) {
        const size_t n = sizes[s];
        float *x = floats(n), *moved = floats(n), *p = floats(n), *q = floats(n);
        for (size_t i = 0; i < n; i++) /* multiples of 1/64: adding 1e4 rounds nothing */
            x[i] = (float)llm_rng_below(&rng, 640) / 64.0f - 5.0f;
        llm_softmax_forward(p, x, 1, n, 1.0f);
        double sum = 0.0;
        for (size_t i = 0; i < n; i++) sum += (double)p[i];
        CHECK_NEAR(sum, 1.0, 1e-6);
        for (size_t i = 0; i + 1 < n; i++) {
            if (x[i] < x[i + 1]) CHECK(p[i] < p[i + 1]);
            if (x[i] == x[i + 1]) CHECK(p[i] == p[i + 1]);
        }
        for (int c = -10000; c <= 10000; c += 20000) {
            for (size_t i = 0; i < n; i++) moved[i] = x[i] + (float)c;
            llm_softmax_forward(q, moved, 1, n, 1.0f);
            CHECK_ALL_NEAR(q, p, n, 0.0f);
            llm_softmax_log_forward(q, moved, 1, n);
            for (size_t i = 0; i < n; i++)
                CHECK_NEAR((double)q[i], log((double)p[i]), 2e-6); /* 2 ulp of a value below 16 */
        }
    }
}

TEST(softmax, "backward is the matrix (diag(p) - p p^T) / temp: symmetric, rows of sum 0") {
    enum { N = 6 };
    const float x[N] = {0.3f, -1.0f, 2.0f, 0.0f, -INFINITY, 1.0f}, temp = 0.7f;
    float p[N], J[N][N];
    double q[N], sum = 0.0;
    for (size_t i = 0; i < N; i++) sum += q[i] = exp((double)x[i] / (double)temp);
    llm_softmax_forward(p, x, 1, N, temp);
    memset(J, 0, sizeof J);
    for (size_t i = 0; i < N; i++) {
        float unit[N] = {0.0f};
        unit[i] = 1.0f;
        llm_softmax_backward(J[i], unit, p, 1, N, temp);
    }
    for (size_t i = 0; i < N; i++) {
        double row = 0.0;
        for (size_t j = 0; j < N; j++) {
            const double want = q[i] / sum * ((i == j) - q[j] / sum) / (double)temp;
            CHECK_NEAR(J[i][j], want, 3e-7); /* entries below 1: some ulp */
            CHECK_NEAR(J[i][j], J[j][i], 1e-7);
            row += (double)J[i][j];
        }
        CHECK_NEAR(row, 0.0, 3e-7);
    }
}

TEST(softmax, "temperature: 100 is uniform, 0.01 is the maximum, 0 and below is refused") {
    enum { N = 10 };
    float x[N], p[N];
    double entropy = 0.0;
    for (size_t i = 0; i < N; i++) x[i] = (float)(i * 7 % N);
    llm_softmax_forward(p, x, 1, N, 100.0f);
    for (size_t i = 0; i < N; i++) entropy -= (double)p[i] * log((double)p[i]);
    CHECK_NEAR(entropy, log((double)N), 1e-3);
    CHECK(p[0] < p[3]);
    llm_softmax_forward(p, x, 1, N, 0.01f);
    CHECK(p[7] > 0.999f && x[7] == 9.0f);
    llm_softmax_forward(p, x, 1, N, FLT_MIN);
    CHECK(p[7] == 1.0f && p[6] == 0.0f);
    CHECK_ASSERTS(llm_softmax_forward(p, x, 1, N, 0.0f));
    CHECK_ASSERTS(llm_softmax_forward(p, x, 1, N, -1.0f));
    CHECK_ASSERTS(llm_softmax_forward(p, x, 1, N, NAN));
}

TEST(softmax, "a fully masked row is zeros (log: -inf), its gradient 0, its neighbours untouched") {
    for (size_t n = 1; n <= 17; n++) {
        float x[51], p[51], q[51], y[51], dx[51] = {0.0f}, dlog[51] = {0.0f}, ones[51];
        for (size_t i = 0; i < 3 * n; i++) x[i] = i / n == 1 ? -INFINITY : (float)(i % 5);
        for (size_t i = 0; i < 3 * n; i++) ones[i] = i % 2 ? 2.0f : 1.0f;
        llm_softmax_forward(p, x, 3, n, 1.0f);
        llm_softmax_online(q, x, 3, n);
        llm_softmax_log_forward(y, x, 3, n);
        llm_softmax_backward(dx, ones, p, 3, n, 1.0f);
        llm_softmax_log_backward(dlog, ones, y, 3, n);
        for (size_t r = 0; r < 3; r++) {
            double sum = 0.0, sum_online = 0.0, sum_log = 0.0;
            for (size_t i = r * n; i < (r + 1) * n; i++) {
                sum += (double)p[i];
                sum_online += (double)q[i];
                sum_log += exp((double)y[i]);
                CHECK(r != 1 || (p[i] == 0.0f && q[i] == 0.0f && y[i] == -INFINITY));
                CHECK(r != 1 || (dx[i] == 0.0f && dlog[i] == ones[i]));
            }
            CHECK_NEAR(sum, r == 1 ? 0.0 : 1.0, 1e-6);
            CHECK_NEAR(sum_online, r == 1 ? 0.0 : 1.0, 1e-6);
            CHECK_NEAR(sum_log, r == 1 ? 0.0 : 1.0, 1e-6);
        }
    }
    llm_softmax_forward(NULL, NULL, 0, 5, 1.0f); /* no rows: nothing */
}

TEST(softmax, "NaN and +inf make their own row NaN, the largest floats do not") {
    const float bad[2] = {NAN, INFINITY};
    for (size_t k = 0; k < 2; k++)
        for (size_t at = 0; at < 3; at++) {
            float x[9] = {1.0f, 2.0f, 3.0f, 1.0f, -INFINITY, 3.0f, 1.0f, 2.0f, 3.0f}, p[9], y[9];
            x[3 + at] = bad[k];
            llm_softmax_forward(p, x, 3, 3, 1.0f);
            llm_softmax_log_forward(y, x, 3, 3);
            for (size_t i = 0; i < 9; i++) CHECK(isnan(p[i]) == (i / 3 == 1));
            for (size_t i = 0; i < 9; i++) CHECK(isnan(y[i]) == (i / 3 == 1));
            llm_softmax_online(p, x, 3, 3);
            CHECK(isnan(p[3 + at]) && !isnan(p[2]) && !isnan(p[6]));
        }
    const float huge[3] = {3e38f, -3e38f, 3e38f};
    float p[3];
    llm_softmax_forward(p, huge, 1, 3, 1.0f);
    CHECK(p[0] == 0.5f && p[1] == 0.0f && p[2] == 0.5f);
}

static double softmax_loss(const float *x, const float *dy, size_t n, double temp, bool logarithm) {
    double sum = 0.0, loss = 0.0;
    for (size_t i = 0; i < n; i++) sum += exp((double)x[i] / temp);
    for (size_t i = 0; i < n; i++) {
        const double p = exp((double)x[i] / temp) / sum;
        loss += (double)dy[i] * (logarithm ? log(p) : p);
    }
    return loss;
}

TEST(softmax, "both backward passes agree with differences and add to what is there") {
    enum { N = 9 };
    llm_rng rng = llm_rng_seed(4);
    float x[N], dy[N], p[N], y[N], dx[N] = {0.0f}, dlog[N] = {0.0f};
    llm_rng_normal_fill(&rng, x, N);
    llm_rng_normal_fill(&rng, dy, N);
    llm_softmax_forward(p, x, 1, N, 0.8f);
    llm_softmax_log_forward(y, x, 1, N);
    llm_softmax_backward(dx, dy, p, 1, N, 0.8f);
    llm_softmax_log_backward(dlog, dy, y, 1, N);
    /* the loss is in double: what is left is the curvature, of the order of step^2 */
    CHECK_GRAD(dx, x, N, 1e-2f, 2e-4f, softmax_loss(x, dy, N, 0.8f, false));
    CHECK_GRAD(dlog, x, N, 1e-2f, 2e-4f, softmax_loss(x, dy, N, 1.0f, true));
    float dx2[N], dlog2[N];
    for (size_t i = 0; i < N; i++) dx2[i] = 2.0f * dx[i], dlog2[i] = 2.0f * dlog[i];
    llm_softmax_backward(dx, dy, p, 1, N, 0.8f);
    llm_softmax_log_backward(dlog, dy, y, 1, N);
    CHECK_ALL_NEAR(dx, dx2, N, 1e-6f);
    CHECK_ALL_NEAR(dlog, dlog2, N, 1e-6f);
}

TEST(softmax, "along the middle axis as along the last of the transposed; masks, NaN, in place") {
    const size_t shapes[5][3] = {{1, 1, 1}, {2, 3, 1}, {1, 7, 4}, {3, 5, 2}, {2, 40, 3}};
    llm_rng rng = llm_rng_seed(9);
    for (size_t s = 0; s < 5; s++) {
        const size_t outer = shapes[s][0], n = shapes[s][1], inner = shapes[s][2];
        const size_t size = outer * n * inner, rows = outer * inner;
        float *x = floats(size), *dp = floats(size), *p = floats(size), *dx = zeros(size);
        float *x_t = floats(size), *dp_t = floats(size), *p_t = floats(size), *dx_t = zeros(size);
        llm_rng_normal_fill(&rng, x, size);
        llm_rng_normal_fill(&rng, dp, size);
        for (size_t i = 0; i < size; i++) x[i] = i % 11 == 10 ? -INFINITY : 3.0f * x[i];
        for (size_t i = 0; s == 3 && i < n; i++) x[i * inner + 1] = -INFINITY; /* a whole one */
        if (s == 4) x[n * inner] = NAN;
        for (size_t i = 0; i < size; i++) { /* (outer,n,inner) to (outer,inner,n) */
            const size_t o = i / (n * inner), j = i / inner % n, c = i % inner;
            x_t[(o * inner + c) * n + j] = x[i];
            dp_t[(o * inner + c) * n + j] = dp[i];
        }
        llm_softmax_axis_forward(p, x, outer, n, inner, 0.5f);
        llm_softmax_axis_backward(dx, dp, p, outer, n, inner, 0.5f);
        llm_softmax_forward(p_t, x_t, rows, n, 0.5f);
        llm_softmax_backward(dx_t, dp_t, p_t, rows, n, 0.5f);
        llm_softmax_axis_forward(x, x, outer, n, inner, 0.5f);
        for (size_t i = 0; i < size; i++) {
            const size_t o = i / (n * inner), j = i / inner % n, c = i % inner;
            const size_t at = (o * inner + c) * n + j;
            CHECK(isnan(p[i]) == isnan(p_t[at]) && isnan(dx[i]) == isnan(dx_t[at]));
            CHECK(x[i] == p[i] || isnan(p[i]));
            if (isnan(p[i])) continue;
            CHECK_NEAR(p[i], p_t[at], 2e-7); /* sums in another order */
            CHECK_NEAR(dx[i], dx_t[at], 1e-6);
        }
        const float once = dx[0];
        llm_softmax_axis_backward(dx, dp, p, outer, n, inner, 0.5f); /* adds */
        CHECK_NEAR(dx[0], 2.0 * (double)once, 1e-6);
    }
    float one[1] = {0.0f};
    CHECK_ASSERTS(llm_softmax_axis_forward(one, one, 1, 1, 1, 0.0f));
}

TEST(softmax, "along an axis: scores of a thousand, of a thousand below 0") {
    for (int sign = -1; sign <= 1; sign += 2) {
        const float x[4] = {(float)sign * 1000.0f, 1.0f, (float)sign * 1000.0f, 1.0f};
        float p[4];
        llm_softmax_axis_forward(p, x, 1, 2, 2, 1.0f);
        for (size_t i = 0; i < 4; i++) CHECK(p[i] == 0.5f);
    }
}

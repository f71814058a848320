/* @entropy */
#include "../test.h"

#include "../../llm.h"

TEST(entropy, "equals scipy.stats.entropy in nats and bits; Renyi orders fall to the min-entropy") {
    const size_t sizes[4] = {1, 2, 7, 31};
    const double order[6] = {0.0, 0.5, 1.0, 2.0, 5.0, (double)INFINITY};
    for (size_t s = 0; s < 4; s++) {
        const size_t n = sizes[s];
        const float *p = golden("p%zu/p", n), *q = golden("p%zu/q", n);
        const double h = llm_entropy(p, n, 0.0);
        CHECK_NEAR(h, golden("p%zu/nats", n)[0], 1e-6);
        CHECK_NEAR(llm_entropy(p, n, 2.0), golden("p%zu/bits", n)[0], 1e-6);
        CHECK_NEAR(llm_entropy(p, n, 0.5), -golden("p%zu/bits", n)[0], 1e-6);
        CHECK(h >= 0.0 && h <= log((double)n) + 1e-15);
        double last = (double)INFINITY;
        for (size_t k = 0; k < 6; k++) {
            const double r = llm_entropy_renyi(q, n, order[k]);
            CHECK_NEAR(r, golden("p%zu/renyi", n)[k], 1e-6);
            CHECK(r <= last + 1e-7);
            last = r;
        }
    }
    const float uniform[5] = {2.0f, 2.0f, 2.0f, 2.0f, 2.0f}, bad[2] = {2.0f, -1.0f},
                nan[2] = {NAN, 1.0f};
    const float zero[2] = {0.0f, 0.0f}, denormal[2] = {1e-45f, 1.0f};
    CHECK_NEAR(llm_entropy(uniform, 5, 0.0), log(5.0), 1e-15);
    CHECK(isnan(llm_entropy(bad, 2, 0.0)) && isnan(llm_entropy(zero, 2, 0.0)));
    CHECK(isnan(llm_entropy(nan, 2, 0.0)) && isnan(llm_entropy(NULL, 0, 0.0)));
    CHECK_NEAR(llm_entropy(denormal, 2, 0.0), 1.4e-45 * 104.3, 1e-44);
    CHECK_ASSERTS(llm_entropy_renyi(uniform, 5, -1.0));
}

TEST(entropy, "joint tables: chain rule, independence, a copy, a permutation of axes") {
    const size_t X = 3, Y = 4;
    float p[12], t[12], product[12], copy[9] = {0.2f, 0, 0, 0, 0.3f, 0, 0, 0, 0.5f};
    double j[4], k[4], conditional = 0.0;
    llm_rng rng = llm_rng_seed(1);
    for (size_t i = 0; i < 12; i++) p[i] = i == 5 ? 0.0f : llm_rng_uniform(&rng);
    for (size_t i = 0; i < 12; i++) t[i % Y * X + i / Y] = p[i];
    llm_entropy_joint(j, p, X, Y);
    llm_entropy_joint(k, t, Y, X);
    CHECK_NEAR(j[0], k[1], 1e-12);
    CHECK_NEAR(j[1], k[0], 1e-12);
    CHECK_NEAR(j[3], k[3], 1e-12);
    CHECK_NEAR(j[2], llm_entropy(p, 12, 0.0), 1e-12);
    double total = 0.0;
    for (size_t i = 0; i < 12; i++) total += (double)p[i];
    for (size_t x = 0; x < X; x++) { /* H(Y|X) = sum_x p(x) H(Y | X = x) */
        double mass = 0.0;
        for (size_t y = 0; y < Y; y++) mass += (double)p[x * Y + y] / total;
        conditional += mass * llm_entropy(p + x * Y, Y, 0.0);
    }
    CHECK_NEAR(j[2] - j[0], conditional, 1e-12);
    CHECK(j[3] > 0.0 && j[3] < fmin(j[0], j[1]));
    for (size_t x = 0; x < X; x++)
        for (size_t y = 0; y < Y; y++) product[x * Y + y] = (float)((1 + x) * (2 + 3 * y));
    llm_entropy_joint(j, product, X, Y);
    CHECK_NEAR(j[3], 0.0, 1e-12);
    const float row[4] = {3.0f, 1.0f, 0.0f, 0.0f}, column[4] = {3.0f, 0.0f, 1.0f, 0.0f};
    llm_entropy_joint(j, row, 2, 2); /* X never takes its second value */
    CHECK(j[0] == 0.0 && j[1] == j[2] && j[3] == 0.0);
    llm_entropy_joint(j, column, 2, 2);
    CHECK(j[1] == 0.0 && j[0] == j[2] && j[3] == 0.0);
    llm_entropy_joint(j, copy, 3, 3);
    CHECK_NEAR(j[3], j[0], 1e-12);
    CHECK_NEAR(j[2], j[1], 1e-12);
}

TEST(entropy, "from logits equals torch with gradients; offsets of 1e4, masked entries and rows") {
    const size_t shapes[3][2] = {{1, 1}, {3, 2}, {4, 17}};
    for (size_t s = 0; s < 3; s++) {
        const size_t N = shapes[s][0], V = shapes[s][1];
        float *z = golden("z%zux%zu/z", N, V), *dh = golden("z%zux%zu/dh", N, V);
        float *h = floats(N), *lse = floats(N), *dz = zeros(N * V), *again = floats(N);
        llm_entropy_logits_forward(h, lse, z, N, V);
        llm_entropy_logits_backward(dz, dh, z, h, lse, N, V);
        CHECK_GOLDEN(h, N, 2e-6f, "z%zux%zu/h", N, V);
        CHECK_GOLDEN(dz, N * V, V > 2 ? 1e-3f : 2e-6f, "z%zux%zu/dz", N,
                     V); /* lse of 1e4: ulp 1e-3 */
        if (V > 2) CHECK_ALL_NEAR(dz + 2 * V, golden("z%zux%zu/dz", N, V) + 2 * V, 2 * V, 5e-6f);
        llm_entropy_logits_forward(again, NULL, z, N, V);
        CHECK_ALL_NEAR(again, h, N, 0.0f);
        llm_entropy_logits_backward(dz, dh, z, h, lse, N, V);
        for (size_t i = 0; i < N * V; i++) dz[i] *= 0.5f;
        if (V == 2) CHECK_GOLDEN(dz, N * V, 2e-6f, "z%zux%zu/dz", N, V);
    }
    const float masked[6] = {1.0f, -INFINITY, 1.0f, -INFINITY, -INFINITY, -INFINITY},
                one[2] = {1.0f, 1.0f};
    float h[2], lse[2], dz[6] = {0.0f};
    llm_entropy_logits_forward(h, lse, masked, 2, 3);
    llm_entropy_logits_backward(dz, one, masked, h, lse, 2, 3);
    CHECK_NEAR(h[0], log(2.0), 1e-6);
    CHECK(h[1] == 0.0f && lse[1] == -INFINITY);
    for (size_t i = 0; i < 6; i++) CHECK_NEAR(dz[i], 0.0f, 1e-6);
}

/* Seeds 2 to 10: plug-in 0.565 to 0.571 nats low, Miller-Madow 0.252 to 0.259 low, Chao-Shen 0.061
 * to 0.074 high, shrinkage (whose target is the truth here) 0.005 at most. */
TEST(entropy,
     "100 draws from 100 cells: the plug-in is 0.57 nats low, the corrections halve that") {
    for (size_t i = 0; i < 5; i++) {
        size_t K = 0;
        const float *c = golden_n(&K, "c%zu/c", i), *want = golden("c%zu/h", i);
        for (int m = 0; m < 4; m++) CHECK_NEAR(llm_entropy_estimate(c, K, m), want[m], 1e-6);
    }
    llm_rng rng = llm_rng_seed(2);
    double mean[4] = {0.0};
    for (size_t r = 0; r < 400; r++) {
        float count[100] = {0.0f};
        for (size_t k = 0; k < 100; k++) count[llm_rng_below(&rng, 100)] += 1.0f;
        for (int m = 0; m < 4; m++) mean[m] += llm_entropy_estimate(count, 100, m) / 400.0;
    }
    const double low = log(100.0) - mean[LLM_ENTROPY_PLUGIN];
    CHECK(low > 0.3);
    CHECK(fabs(log(100.0) - mean[LLM_ENTROPY_MILLER_MADOW]) < 0.5 * low);
    CHECK(fabs(log(100.0) - mean[LLM_ENTROPY_CHAO_SHEN]) < 0.5 * low);
    CHECK(fabs(log(100.0) - mean[LLM_ENTROPY_SHRINK]) < 0.5 * low);
    const float none[2] = {0.0f, 0.0f}, single[3] = {0.0f, 1.0f, 0.0f};
    for (int m = 0; m < 4; m++) /* one draw says nothing; only shrinkage knows that */
        CHECK_NEAR(llm_entropy_estimate(single, 3, m), m == LLM_ENTROPY_SHRINK ? log(3.0) : 0.0,
                   1e-12);
    for (int m = 0; m < 4; m++) CHECK(llm_entropy_estimate(none, 2, m) == 0.0);
}

/* Seeds 3 to 11: the Gaussian off by -0.044 to 0.033, the square, whose border is seen as empty
 * space, by -0.009 to 0.081, the line by 0.026 at most. */
TEST(entropy, "nearest neighbours find the entropy of a Gaussian, a square and a line") {
    enum { N = 1500 };
    llm_rng rng = llm_rng_seed(3);
    float *x = floats(2 * N);
    for (size_t i = 0; i < N; i++) {
        const float a = llm_rng_normal(&rng), b = llm_rng_normal(&rng);
        x[2 * i] = 2.0f * a, x[2 * i + 1] = a + 0.5f * b; /* covariance 4, 2; 2, 1.25: det 1 */
    }
    CHECK_NEAR(llm_entropy_normal(0.0, 2), 1.0 + log(2.0 * acos(-1.0)), 1e-12);
    CHECK_NEAR(llm_entropy_knn(x, N, 2, 3), llm_entropy_normal(0.0, 2), 0.09);
    for (size_t i = 0; i < 2 * N; i++) x[i] = 3.0f * llm_rng_uniform(&rng);
    CHECK_NEAR(llm_entropy_knn(x, N, 2, 4), log(9.0), 0.16);
    CHECK_NEAR(llm_entropy_knn(x, N, 1, 4), log(3.0), 0.06);
    CHECK_NEAR(llm_entropy_knn(x, N, 1, 16), log(3.0), 0.06);
    /* by hand: 0, 1, 3: nearest at 1, 1, 2; H = psi(3) - psi(1) + log 2 + log(2)/3 */
    const float three[3] = {0.0f, 1.0f, 3.0f}, same[3] = {1.0f, 1.0f, 2.0f};
    CHECK_NEAR(llm_entropy_knn(three, 3, 1, 1), 1.5 + log(2.0) + log(2.0) / 3.0, 1e-12);
    CHECK_NEAR(llm_entropy_knn(three, 3, 1, 2),
               0.5 + log(2.0) + (log(3.0) + log(2.0) + log(3.0)) / 3.0, 1e-12);
    CHECK(llm_entropy_knn(same, 3, 1, 1) == -(double)INFINITY);
    CHECK_ASSERTS(llm_entropy_knn(three, 3, 1, 3));
    CHECK_ASSERTS(llm_entropy_knn(three, 3, 1, 0));
    CHECK_ASSERTS(llm_entropy_knn(x, N, 1, 17));
}

TEST(entropy, "a row of logits with a NaN has the entropy NaN, a masked one 0") {
    const float z[9] = {0.5f, NAN, 1.0f, -INFINITY, -INFINITY, -INFINITY, 3.0f, 3.0f, -INFINITY};
    float h[3], lse[3];
    llm_entropy_logits_forward(h, lse, z, 3, 3);
    CHECK(isnan(h[0]) && isnan(lse[0]));
    CHECK(h[1] == 0.0f && lse[1] == -INFINITY);
    CHECK_NEAR(h[2], log(2.0), 1e-6);
}

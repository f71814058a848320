/* @shampoo */
#include "../test.h"

#include "../../llm.h"
#include "../arena.h"

static double *sh_zeros(size_t n) { return (double *)test_memory(n, sizeof(double)); }

TEST(shampoo,
     "50 steps equal pytorch_optimizer's, and SciPy's roots with averages, grafts, momentum") {
    const char *names[] = {"wide", "tall", "row", "one", "sgd", "adam"};
    llm_arena arena = test_arena(1 << 19);
    for (size_t k = 0; k < 6; k++) {
        const float *f = golden("%s/config", names[k]), *g = golden("%s/g", names[k]);
        const size_t *shape = as_sizes(golden("%s/shape", names[k]), 2);
        const size_t rows = shape[0], cols = shape[1], n = rows * cols;
        llm_shampoo_config c;
        c.lr = f[0], c.momentum = f[1], c.weight_decay = f[2], c.keep = f[3], c.ridge = f[4];
        c.beta2 = f[5], c.every = (size_t)f[6], c.graft = (int)f[7];
        float *w = floats(n), *path = floats(4 * n), *at = path;
        double *state = sh_zeros(llm_shampoo_doubles(rows, cols));
        memcpy(w, golden("%s/w0", names[k]), n * sizeof(float));
        for (size_t t = 1; t <= 50; t++) {
            CHECK(llm_shampoo_step(w, state, g + (t - 1) % 5 * n, rows, cols, &c, t, &arena));
            if (t != 1 && t != 2 && t != 10 && t != 50) continue;
            memcpy(at, w, n * sizeof(float));
            at += n;
        }
        CHECK_GOLDEN(path, 4 * n, 3e-6f, "%s/w", names[k]);
        CHECK(arena.used == 0);
    }
    const llm_shampoo_config c = llm_shampoo_defaults();
    CHECK(c.lr == 1e-3f && c.momentum == 0.9f && c.weight_decay == 0.0f && c.keep == 1.0f);
    CHECK(c.ridge == 1e-6f && c.beta2 == 0.999f && c.every == 1 && c.graft == LLM_SHAMPOO_ADAM);
}

/* x^p a for whole p should be I. */
static double sh_off(const double *x, const double *a, size_t n, size_t p, double ridge) {
    double *now = doubles(n * n), *next = doubles(n * n), off = 0.0;
    for (size_t i = 0; i < n * n; i++) now[i] = a[i] + (i / n == i % n ? ridge : 0.0);
    for (size_t k = 0; k < p; k++) {
        for (size_t i = 0; i < n * n; i++) {
            next[i] = 0.0;
            for (size_t j = 0; j < n; j++) next[i] += x[i / n * n + j] * now[j * n + i % n];
        }
        memcpy(now, next, n * n * sizeof *now);
    }
    for (size_t i = 0; i < n * n; i++) off = fmax(off, fabs(now[i] - (i / n == i % n ? 1.0 : 0.0)));
    return off;
}

TEST(shampoo,
     "the inverse root to the power p rebuilds the inverse, by eigenvalues and by products") {
    llm_rng rng = llm_rng_seed(1);
    llm_arena arena = test_arena(1 << 19);
    for (size_t n = 1; n <= 9; n += 2)
        for (size_t p = 1; p <= 4; p++) {
            float *b = floats(n * n);
            double *a = sh_zeros(n * n), *x = doubles(n * n), *y = doubles(n * n);
            llm_rng_normal_fill(&rng, b, n * n);
            for (size_t i = 0; i < n * n; i++)
                for (size_t j = 0; j < n; j++)
                    a[i] += (double)b[i / n * n + j] * (double)b[i % n * n + j];
            CHECK(llm_shampoo_root(x, a, n, (double)p, 0.01, &arena));
            CHECK(llm_shampoo_newton(y, a, n, p, 0.01, &arena));
            CHECK(sh_off(x, a, n, p, 0.01) < 1e-10 && sh_off(y, a, n, p, 0.01) < 1e-8);
            for (size_t i = 0; i < n * n; i++) CHECK_NEAR(y[i], x[i], 1e-7);
            CHECK(arena.used == 0);
        }
    /* rank 1, and a little below: the ridge is what is there */
    double a[4] = {1.0, 1.0, 1.0, 1.0 - 1e-12}, x[4], bad[4] = {1.0, 2.0, 0.0, 1.0};
    CHECK(llm_shampoo_root(x, a, 2, 4.0, 1e-8, &arena));
    CHECK_NEAR(x[0] - x[1], 100.0, 1e-3);
    CHECK(!llm_shampoo_root(x, bad, 2, 4.0, 0.1, &arena));
    a[3] = (double)NAN;
    CHECK(!llm_shampoo_root(x, a, 2, 4.0, 0.1, &arena) && arena.used == 0);
    CHECK(!llm_shampoo_newton(x, a, 2, 4, 0.1, &arena) && arena.used == 0);
}

TEST(shampoo, "roots by products end when X^p A is I to 1e-10, or after 100 rounds") {
    llm_arena arena = test_arena(1 << 12);
    double a[4] = {1.0, 0.0, 0.0, 1.0}, x[4];
    for (size_t p = 1; p <= 4; p++)
        for (size_t k = 1; k <= 300; k++) { /* M of the smaller value is the last to arrive */
            a[3] = 0.003 * (double)k;
            CHECK(llm_shampoo_newton(x, a, 2, p, 0.0, &arena));
            CHECK_NEAR(pow(x[3], (double)p) * a[3], 1.0, 1.00001e-10);
        }
    /* m <- m ((3 - m) / 2)^2 from m = 3/2 of the value: about 9/4 a round while it is small */
    double low = -33.9, high = -33.8; /* off by 1.5e-10 after 100 rounds */
    for (int turn = 0; turn < 60; turn++) {
        const double middle = 0.5 * (low + high);
        double m = 1.5 * pow(10.0, middle);
        for (int round = 0; round < 100; round++) m *= pow(0.5 * (3.0 - m), 2.0);
        *(fabs(m - 1.0) > 1.5e-10 ? &low : &high) = middle;
    }
    const double power[3] = {-33.82, -34.07, low};
    for (size_t k = 0; k < 3; k++) {
        double m = 1.5 * (a[3] = pow(10.0, power[k]));
        size_t rounds = 0;
        for (; !(fabs(m - 1.0) <= 1e-10); rounds++) m *= pow(0.5 * (3.0 - m), 2.0);
        CHECK(rounds == (k ? 101 : 100));
        CHECK(llm_shampoo_newton(x, a, 2, 2, 0.0, &arena) == (k == 0));
    }
    a[0] = a[3] = 1e-40; /* the scale of A does not matter */
    CHECK(llm_shampoo_newton(x, a, 2, 2, 0.0, &arena));
    CHECK_NEAR(x[0] * 1e-20, 1.0, 1e-9);
    CHECK(arena.used == 0);
}

TEST(shampoo, "a graft onto Adam's step is as long as Adam's, its eps of 1e-8 included") {
    llm_arena arena = test_arena(1 << 12);
    llm_shampoo_config c = llm_shampoo_defaults();
    const float g[1] = {-1e-8f}; /* a second step alike: v' stays g^2 */
    float w[1] = {0.0f};
    double *state = sh_zeros(llm_shampoo_doubles(1, 1));
    c.lr = 1.0f, c.momentum = 0.0f;
    for (size_t t = 1; t <= 2; t++) {
        CHECK(llm_shampoo_step(w, state, g, 1, 1, &c, t, &arena));
        CHECK_NEAR(w[0], 0.5 * (double)t, 1e-5);
    }
}

TEST(shampoo, "on diagonal gradients it is AdaGrad; one step of a full matrix is U V'") {
    enum { N = 3 };
    llm_rng rng = llm_rng_seed(2);
    llm_arena arena = test_arena(1 << 19);
    llm_shampoo_config c = llm_shampoo_defaults();
    float w[N * N] = {0.0f}, g[N * N], sum[N] = {0.0f}, want[N * N] = {0.0f};
    double *state = sh_zeros(llm_shampoo_doubles(N, N));
    c.lr = 0.5f, c.momentum = 0.0f, c.graft = LLM_SHAMPOO_OWN, c.ridge = 1e-12f;
    for (size_t t = 1; t <= 20; t++) {
        memset(g, 0, sizeof g);
        for (size_t i = 0; i < N; i++) {
            g[i * (N + 1)] = llm_rng_normal(&rng);
            sum[i] += g[i * (N + 1)] * g[i * (N + 1)];
            want[i * (N + 1)] -= 0.5f * g[i * (N + 1)] / sqrtf(sum[i]);
        }
        CHECK(llm_shampoo_step(w, state, g, N, N, &c, t, &arena));
    }
    CHECK_ALL_NEAR(w, want, N * N, 2e-5f); /* the ridge shows where an entry was small */

    float polar[2 * N], first[2 * N] = {0.0f};
    double *fresh = sh_zeros(llm_shampoo_doubles(2, N));
    llm_rng_normal_fill(&rng, g, 2 * N);
    c.lr = 1.0f;
    CHECK(llm_shampoo_step(first, fresh, g, 2, N, &c, 1, &arena));
    llm_muon_polar(polar, g, 2, N, &arena);
    for (size_t i = 0; i < 2 * N; i++) CHECK_NEAR(first[i], -polar[i], 1e-5);
}

TEST(shampoo, "blocks are matrices of their own; a gradient of 0, and one that is not finite") {
    enum { R = 5, C = 7, B = 3 };
    llm_rng rng = llm_rng_seed(3);
    llm_arena arena = test_arena(1 << 19);
    const llm_shampoo_config c = llm_shampoo_defaults();
    float w[R * C], want[R * C], g[R * C];
    size_t total = 0;
    llm_rng_normal_fill(&rng, w, R * C);
    memcpy(want, w, sizeof w);
    for (size_t i = 0; i < R; i += B)
        for (size_t j = 0; j < C; j += B)
            total += llm_shampoo_doubles(R - i < B ? R - i : B, C - j < B ? C - j : B);
    double *state = sh_zeros(total), *apart = sh_zeros(total), *at = apart;
    for (size_t t = 1; t <= 3; t++) {
        llm_rng_normal_fill(&rng, g, R * C);
        CHECK(llm_shampoo_step_blocks(w, state, g, R, C, B, &c, t, &arena));
        at = apart;
        for (size_t i = 0; i < R; i += B)
            for (size_t j = 0; j < C; j += B) {
                const size_t high = R - i < B ? R - i : B, wide = C - j < B ? C - j : B;
                float wb[B * B], gb[B * B];
                for (size_t k = 0; k < high * wide; k++) {
                    wb[k] = want[(i + k / wide) * C + j + k % wide];
                    gb[k] = g[(i + k / wide) * C + j + k % wide];
                }
                CHECK(llm_shampoo_step(wb, at, gb, high, wide, &c, t, &arena));
                for (size_t k = 0; k < high * wide; k++)
                    want[(i + k / wide) * C + j + k % wide] = wb[k];
                at += llm_shampoo_doubles(high, wide);
            }
        CHECK_ALL_NEAR(w, want, R * C, 0.0f);
    }
    g[R * C - 1] = INFINITY; /* in the last block: that one stays as it is */
    CHECK(!llm_shampoo_step_blocks(w, state, g, R, C, B, &c, 4, &arena));
    CHECK(w[R * C - 1] == want[R * C - 1] && w[0] != want[0] && arena.used == 0);
    CHECK_ASSERTS(llm_shampoo_step_blocks(w, state, g, R, C, 0, &c, 4, &arena));
    double *ones = sh_zeros(2 * llm_shampoo_doubles(1, 1));
    CHECK(llm_shampoo_step_blocks(w, ones, g, 1, 2, 1, &c, 1, &arena)); /* AdaGrad, in effect */
    CHECK_ASSERTS(llm_shampoo_step(w, state, g, 1, 1, &c, 0, &arena));
    llm_shampoo_config never = c;
    never.every = 0;
    CHECK_ASSERTS(llm_shampoo_step(w, state, g, 1, 1, &never, 1, &arena));
    CHECK(llm_shampoo_doubles(2, 3) == 38);

    float zero[4] = {0.0f, 0.0f, 0.0f, 0.0f}, still[4] = {1.0f, 2.0f, 3.0f, 4.0f};
    double *empty = sh_zeros(llm_shampoo_doubles(2, 2));
    CHECK(llm_shampoo_step(still, empty, zero, 2, 2, &c, 1, &arena) && still[3] == 4.0f);
    zero[1] = NAN;
    CHECK(!llm_shampoo_step(still, empty, zero, 2, 2, &c, 2, &arena) && still[0] == 1.0f);
    zero[0] = NAN, zero[1] = 0.0f;
    CHECK(!llm_shampoo_step(still, empty, zero, 2, 2, &c, 2, &arena) && still[0] == 1.0f);
    for (size_t i = 0; i < 4; i++) CHECK(empty[i] == 0.0);
    zero[0] = FLT_MAX; /* is finite */
    CHECK(llm_shampoo_step(still, empty, zero, 2, 2, &c, 2, &arena));
}

/* Softmax regression on correlated inputs whose scales differ by 100 (the Hessian's by 1e4): steps
 * until the loss is within 0.02 of what 600 steps reach at best; 600 at most. */
enum { SR_D = 12, SR_K = 4, SR_N = 200, SR_MOST = 600 };
static size_t sh_steps(int optimizer, float lr, uint64_t seed, double target, double *best) {
    llm_rng rng = llm_rng_seed(seed);
    llm_arena arena = test_arena(1 << 19);
    static float x[SR_N * SR_D], q[SR_D * SR_D], w[SR_K * SR_D], g[SR_K * SR_D], p[SR_N * SR_K];
    float m[SR_K * SR_D] = {0.0f}, v[SR_K * SR_D] = {0.0f}, s[SR_D], noise[SR_D * SR_D],
                   truth[SR_K * SR_D];
    int label[SR_N];
    double *state = sh_zeros(llm_shampoo_doubles(SR_K, SR_D));
    llm_rng_normal_fill(&rng, noise, SR_D * SR_D);
    llm_rng_normal_fill(&rng, truth, SR_K * SR_D);
    llm_svd(q, s, NULL, noise, SR_D, SR_D, &arena);
    for (size_t n = 0; n < SR_N; n++) {
        float z[SR_D], most = -INFINITY;
        llm_rng_normal_fill(&rng, z, SR_D);
        for (size_t k = 0; k < SR_K; k++) {
            float score = llm_rng_normal(&rng);
            for (size_t d = 0; d < SR_D; d++) score += truth[k * SR_D + d] * z[d];
            if (score > most) most = score, label[n] = (int)k;
        }
        for (size_t d = 0; d < SR_D; d++) {
            x[n * SR_D + d] = 0.0f;
            for (size_t e = 0; e < SR_D; e++)
                x[n * SR_D + d] += q[d * SR_D + e] * z[e] * powf(100.0f, -(float)e / (SR_D - 1));
        }
    }
    memset(w, 0, sizeof w);
    *best = INFINITY;
    for (size_t t = 1; t <= SR_MOST; t++) {
        double loss = 0.0;
        memset(g, 0, sizeof g);
        llm_matmul_forward(p, x, w, NULL, SR_N, SR_D, SR_K);
        for (size_t n = 0; n < SR_N; n++) {
            float *pn = p + n * SR_K;
            const float lse = llm_logsumexp(pn, SR_K);
            loss += (double)(lse - pn[label[n]]) / SR_N;
            for (size_t k = 0; k < SR_K; k++)
                pn[k] = (expf(pn[k] - lse) - ((int)k == label[n] ? 1.0f : 0.0f)) / SR_N;
        }
        *best = fmin(*best, loss);
        if (loss < target) return t;
        llm_matmul_backward(NULL, g, NULL, p, x, w, SR_N, SR_D, SR_K);
        llm_adamw_config a = llm_adamw_defaults();
        llm_shampoo_config c = llm_shampoo_defaults();
        a.lr = c.lr = lr, a.weight_decay = 0.0f, c.keep = 0.9f, c.every = 5, c.ridge = 1e-9f;
        c.graft = optimizer == 2 ? LLM_SHAMPOO_OWN : LLM_SHAMPOO_ADAM;
        if (optimizer == 0)
            llm_adamw_step(w, m, v, g, SR_K * SR_D, &a, t);
        else
            CHECK(llm_shampoo_step(w, state, g, SR_K, SR_D, &c, t, &arena));
    }
    return SR_MOST;
}

/* Shampoo's steps over those of Adam at the better of two rates, summed over two seeds. */
static double sh_share(uint64_t seed) {
    size_t sum[2] = {0, 0};
    for (size_t k = 0; k < 2; k++) {
        double best, other;
        sh_steps(2, 2.4f, seed + k, 0.0, &best);
        const size_t slow = sh_steps(0, 2.4f, seed + k, best + 0.02, &other);
        const size_t fast = sh_steps(0, 7.0f, seed + k, best + 0.02, &other);
        sum[0] += slow < fast ? slow : fast;
        sum[1] += sh_steps(1, 0.5f, seed + k, best + 0.02, &other);
    }
    return (double)sum[1] / (double)sum[0];
}

TEST(shampoo,
     "ill-conditioned softmax regression: fewer steps than Adam's best rate, roots every fifth") {
    CHECK(sh_share(1) < 0.73); /* eight further pairs of seeds: 0.19 to 0.47 */
}

/* @kfac */
#include "../test.h"

#include "../../llm.h"
#include "../arena.h"

static double *kf_zeros(size_t n) { return (double *)test_memory(n, sizeof(double)); }
static double *kf_doubles(const float *x, size_t n) {
    double *d = doubles(n);
    for (size_t i = 0; i < n; i++) d[i] = (double)x[i];
    return d;
}
static float *kf_floats(const double *x, size_t n) {
    float *f = floats(n);
    for (size_t i = 0; i < n; i++) f[i] = (float)x[i];
    return f;
}

TEST(kfac,
     "factors are means of outer products; the update inverts the explicit Kronecker product") {
    const size_t shapes[3][3] = {{2, 3, 7}, {1, 1, 4}, {4, 2, 9}};
    llm_arena arena = test_arena(1 << 20);
    for (size_t k = 0; k < 3; k++) {
        const size_t in = shapes[k][0], out = shapes[k][1], N = shapes[k][2], n = in + 1;
        const float *a = golden("%zux%zu/a", in, out), *d = golden("%zux%zu/d", in, out);
        double *A = kf_zeros(n * n), *S = kf_zeros(out * out);
        double *u = kf_doubles(golden("%zux%zu/G", in, out), out * n);
        llm_kfac_accumulate(A, S, a, d, N, in, out, 0.0);
        CHECK_GOLDEN(kf_floats(A, n * n), n * n, 1e-6f, "%zux%zu/A", in, out);
        CHECK_GOLDEN(kf_floats(S, out * out), out * out, 1e-6f, "%zux%zu/S", in, out);
        CHECK(llm_kfac_precondition(u, A, S, out, n, (double)0.02f, &arena));
        CHECK_GOLDEN(kf_floats(u, out * n), out * n, 1e-6f, "%zux%zu/u", in, out);
        llm_kfac_accumulate(A, S, a, d, N, in, out, 0.75); /* the same again: nothing moves */
        CHECK_GOLDEN(kf_floats(A, n * n), n * n, 1e-6f, "%zux%zu/A", in, out);
        CHECK(arena.used == 0);
    }
    double u[2] = {1.0, 2.0}, zero[4] = {0.0, 0.0, 0.0, 0.0}, one[1] = {1.0};
    CHECK(!llm_kfac_precondition(u, zero, one, 1, 2, 0.0, &arena) && arena.used == 0);
    CHECK(llm_kfac_precondition(u, zero, one, 1, 2, 0.25, &arena)); /* pi 1: 1/0.5 and 1/1.5 */
    CHECK_NEAR(u[0], 1.0 / 0.75, 1e-12);
    CHECK_NEAR(u[1], 2.0 / 0.75, 1e-12);
    u[0] = 3.0;
    CHECK(llm_kfac_precondition(u, one, zero, 1, 1, 0.25, &arena)); /* no gradients yet: 1.5 0.5 */
    CHECK_NEAR(u[0], 4.0, 1e-12);
}

TEST(kfac, "exact where inputs and gradients are independent: all pairs of them") {
    enum { IN = 2, OUT = 3, N = 4, M = 5, P = OUT * (IN + 1) };
    llm_rng rng = llm_rng_seed(1);
    float a[N * IN], d[M * OUT], ap[N * M * IN], dp[N * M * OUT], s[P];
    double A[9] = {0.0}, S[OUT * OUT] = {0.0}, F[P * P] = {0.0};
    llm_rng_normal_fill(&rng, a, N * IN);
    llm_rng_normal_fill(&rng, d, M * OUT);
    for (size_t n = 0; n < N * M; n++) {
        memcpy(ap + n * IN, a + n / M * IN, IN * sizeof(float));
        memcpy(dp + n * OUT, d + n % M * OUT, OUT * sizeof(float));
        for (size_t k = 0; k < P; k++) {
            const size_t i = k % (IN + 1);
            s[k] = dp[n * OUT + k / (IN + 1)] * (i < IN ? ap[n * IN + i] : 1.0f);
        }
        llm_fisher_info_accumulate(F, s, 1, P, 1.0 / (N * M));
    }
    llm_kfac_accumulate(A, S, ap, dp, N * M, IN, OUT, 0.0);
    for (size_t k = 0; k < P * P; k++) {
        const size_t r = k / P, c = k % P;
        const double product =
            S[r / (IN + 1) * OUT + c / (IN + 1)] * A[r % (IN + 1) * (IN + 1) + c % (IN + 1)];
        CHECK_NEAR(product, F[k], 1e-6);
    }
}

TEST(kfac, "one undamped step of rate 1 solves a linear layer's least squares") {
    enum { N = 20, IN = 3, OUT = 2 };
    llm_rng rng = llm_rng_seed(2);
    llm_arena arena = test_arena(1 << 20);
    float x[N * IN], y[N * OUT], d[N * OUT], w[OUT * (IN + 1)];
    double A[16] = {0.0}, S[4] = {0.0}, u[OUT * (IN + 1)] = {0.0};
    llm_rng_normal_fill(&rng, x, N * IN);
    llm_rng_normal_fill(&rng, y, N * OUT);
    llm_rng_normal_fill(&rng, w, OUT * (IN + 1));
    llm_kfac_accumulate(A, S, x, y, N, IN, OUT, 0.0);
    S[0] = S[3] = 1.0, S[1] = S[2] = 0.0; /* of a Gaussian output of variance 1 */
    for (int step = 0; step < 2; step++) {
        memset(u, 0, sizeof u);
        for (size_t n = 0; n < N; n++)
            for (size_t o = 0; o < OUT; o++) {
                float *dn = d + n * OUT + o;
                *dn = w[o * (IN + 1) + IN] - y[n * OUT + o];
                for (size_t i = 0; i < IN; i++) *dn += w[o * (IN + 1) + i] * x[n * IN + i];
                for (size_t i = 0; i <= IN; i++)
                    u[o * (IN + 1) + i] += (double)*dn * (i < IN ? (double)x[n * IN + i] : 1.0) / N;
            }
        if (step == 1) break;
        CHECK(llm_kfac_precondition(u, A, S, OUT, IN + 1, 0.0, &arena));
        for (size_t k = 0; k < OUT * (IN + 1); k++) w[k] -= (float)u[k];
    }
    for (size_t k = 0; k < OUT * (IN + 1); k++) CHECK_NEAR(u[k], 0.0, 1e-6); /* the gradient */
}

static const size_t kf_size[3] = {3, 4, 2};
static const llm_mlp kf_net = {kf_size, 2, LLM_ACTIVATION_TANH, LLM_OUTPUT_LAYER_SOFTMAX};
enum { KF_STATE = 16 + 16 + 25 + 4 };

TEST(kfac, "factors of drawn labels tend to their expectation; the step with it equals NumPy's") {
    llm_rng rng = llm_rng_seed(3);
    llm_arena arena = test_arena(1 << 20);
    const float *x = golden("net/x"), *w0 = golden("net/w"), *want = golden("net/state");
    const float *g = golden("net/g");
    double *state = kf_zeros(KF_STATE), *sum = kf_zeros(KF_STATE);
    float w[26], factor[1];
    CHECK(llm_kfac_doubles(&kf_net) == KF_STATE);
    for (size_t t = 1; t <= 4000; t++) { /* keep 1: the mean of all calls */
        llm_kfac_factors(state, &kf_net, w0, x, 5, 1.0, t, &rng, &arena);
        CHECK(arena.used == 0);
    }
    /* A is the same at every call; S has 20000 draws of entries of size 1 */
    for (size_t i = 0; i < KF_STATE; i++) {
        const bool drawn = (i >= 16 && i < 32) || i >= 57;
        CHECK_NEAR(state[i], want[i], drawn ? 4.0 / sqrt(20000.0) : 1e-6);
        sum[i] = state[i];
    }
    llm_kfac_factors(sum, &kf_net, w0, x, 5, 0.5, 9, &rng, &arena); /* half of the old */
    bool moved = false;
    for (size_t i = 16; i < 32; i++) moved |= fabs(sum[i] - state[i]) > 0.001;
    CHECK(moved);

    llm_kfac_config c = llm_kfac_defaults();
    CHECK(c.lr == 0.1f && c.keep == 0.95f && c.damping == 1e-3f && c.clip == 1e-3f);
    c.lr = 0.5f, c.damping = 0.03f, c.clip = 0.02f;
    for (size_t i = 0; i < KF_STATE; i++) state[i] = (double)want[i];
    memcpy(w, w0, sizeof w);
    factor[0] = (float)llm_kfac_step(w, state, g, &kf_net, &c, &arena);
    CHECK_GOLDEN(factor, 1, 2e-6f, "net/factor");
    CHECK_GOLDEN(w, 26, 2e-6f, "net/after");
    memcpy(w, w0, sizeof w);
    c.clip = 0.0f;
    CHECK(llm_kfac_step(w, state, g, &kf_net, &c, &arena) == 1.0);
    CHECK_GOLDEN(w, 26, 5e-6f, "net/free");
    memcpy(w, w0, sizeof w);
    state[48] = (double)NAN;
    CHECK(isnan(llm_kfac_step(w, state, g, &kf_net, &c, &arena)) && arena.used == 0);
    CHECK(memcmp(w, w0, sizeof w) == 0);
    CHECK_ASSERTS(llm_kfac_factors(state, &kf_net, w0, x, 5, 0.5, 0, &rng, &arena));
    CHECK_ASSERTS(llm_kfac_factors(state, &kf_net, w0, x, 0, 0.5, 1, &rng, &arena));
    llm_kfac_factors(state, &kf_net, w0, x, 1, 0.5, 1, &rng, &arena);
    CHECK_NEAR(state[15], 1.0, 1e-12); /* the corner of A: 1 times 1 */
    llm_mlp mse = kf_net;
    mse.head = LLM_OUTPUT_LAYER_MSE;
    CHECK_ASSERTS(llm_kfac_factors(state, &mse, w0, x, 5, 0.5, 1, &rng, &arena));
}

TEST(kfac, "three layers: the factors are those of every label's gradient, by its probability") {
    static const size_t size[4] = {2, 3, 4, 3};
    const llm_mlp net = {size, 3, LLM_ACTIVATION_TANH, LLM_OUTPUT_LAYER_SOFTMAX};
    enum { N = 5, P = 9 + 16 + 15, STATE = 9 + 9 + 16 + 16 + 25 + 9 };
    llm_rng rng = llm_rng_seed(5);
    llm_arena arena = test_arena(1 << 20);
    float w[P], x[2 * N], g[P];
    double state[STATE] = {0.0}, want[STATE] = {0.0};
    CHECK(llm_mlp_param_count(&net) == P && llm_kfac_doubles(&net) == STATE);
    llm_rng_normal_fill(&rng, w, P);
    llm_rng_normal_fill(&rng, x, 2 * N);
    for (size_t n = 0; n < N; n++)
        for (int label = 0; label < 3; label++) { /* the loss is -log p; a bias's gradient is d */
            memset(g, 0, sizeof g);
            const double loss = llm_mlp_gradient(g, &net, w, x + 2 * n, &label, NULL, 1, &arena);
            double *A = want;
            for (size_t l = 1; l <= 3; l++) {
                const llm_mlp_view v = llm_mlp_layer(&net, l);
                const size_t in1 = v.in + 1;
                double *S = A + in1 * in1, a[5];
                size_t most = 0;
                for (size_t o = 1; o < v.out; o++)
                    if (fabsf(g[v.bias + o]) > fabsf(g[v.bias + most])) most = o;
                for (size_t i = 0; i < v.in; i++)
                    a[i] = (double)g[v.weight + most * v.in + i] / (double)g[v.bias + most];
                a[v.in] = 1.0;
                for (size_t i = 0; i < in1 * in1 && label == 0; i++)
                    A[i] += a[i / in1] * a[i % in1] / N;
                for (size_t i = 0; i < v.out * v.out; i++)
                    S[i] += exp(-loss) * (double)g[v.bias + i / v.out] *
                            (double)g[v.bias + i % v.out] / N;
                A = S + v.out * v.out;
            }
        }
    for (size_t t = 1; t <= 4000; t++) llm_kfac_factors(state, &net, w, x, N, 1.0, t, &rng, &arena);
    double *A = want;
    for (size_t l = 1; l <= 3; l++) {
        const llm_mlp_view v = llm_mlp_layer(&net, l);
        const size_t inputs = (v.in + 1) * (v.in + 1), outputs = v.out * v.out;
        const size_t at = (size_t)(A - want);
        double trace = 0.0;
        for (size_t o = 0; o < v.out; o++) trace += A[inputs + o * (v.out + 1)];
        for (size_t i = 0; i < inputs; i++) CHECK_NEAR(state[at + i], A[i], 1e-4);
        for (size_t i = 0; i < outputs; i++)
            CHECK_NEAR(state[at + inputs + i], A[inputs + i], 0.06 * trace); /* of 20000 draws */
        A += inputs + outputs;
    }
}

TEST(kfac, "a step needs a double for each weight, and what the largest layer takes") {
    /* 26 weights, and 2 x 5, 5 x 5, 2 x 2 of the second layer, each up to a multiple of 8 */
    llm_arena arena = test_arena((32 + 16 + 32 + 8) * sizeof(double));
    llm_kfac_config c = llm_kfac_defaults();
    float w[26];
    double state[KF_STATE];
    for (size_t i = 0; i < KF_STATE; i++) state[i] = (double)golden("net/state")[i];
    memcpy(w, golden("net/w"), sizeof w);
    CHECK(llm_kfac_step(w, state, golden("net/g"), &kf_net, &c, &arena) > 0.0);
    CHECK(arena.used == 0);
}

TEST(kfac, "labels are drawn with the probabilities of the net: S is diag(p) - p p'") {
    static const size_t size[2] = {1, 3};
    const llm_mlp net = {size, 1, LLM_ACTIVATION_TANH, LLM_OUTPUT_LAYER_SOFTMAX};
    const float p[3] = {0.5f, 0.3f, 0.2f}, x[10] = {0.0f};
    const float w[6] = {0.0f, 0.0f, 0.0f, logf(0.5f), logf(0.3f), logf(0.2f)};
    double state[4 + 9] = {0.0};
    llm_rng rng = llm_rng_seed(4);
    llm_arena arena = test_arena(1 << 20);
    for (size_t t = 1; t <= 2000; t++)
        llm_kfac_factors(state, &net, w, x, 10, 1.0, t, &rng, &arena);
    for (size_t i = 0; i < 9; i++) {
        const double want =
            (i / 3 == i % 3 ? (double)p[i / 3] : 0.0) - (double)(p[i / 3] * p[i % 3]);
        CHECK_NEAR(state[4 + i], want, 4.0 * 0.5 / sqrt(20000.0));
    }
}

/* Steps of full batches until a net of 64-16-10 has a training loss below 0.3 on 150 glyphs whose
 * pixels have scales from 1 down to 0.01; 600 at most. */
enum { KG_N = 150, KG_P = 16 * 65 + 10 * 17, KG_MOST = 600 };
static size_t kf_steps(bool kfac, float lr, uint64_t seed) {
    static const size_t size[3] = {64, 16, 10};
    const llm_mlp net = {size, 2, LLM_ACTIVATION_TANH, LLM_OUTPUT_LAYER_SOFTMAX};
    float *w = floats(KG_P), *m = zeros(KG_P), *v = zeros(KG_P), *g = floats(KG_P);
    float *x = floats(KG_N * 64);
    double *state = kf_zeros(llm_kfac_doubles(&net));
    int label[KG_N];
    llm_rng rng = llm_rng_seed(seed);
    llm_arena arena = test_arena(1 << 20);
    llm_adamw_config a = llm_adamw_defaults();
    llm_kfac_config c = llm_kfac_defaults();
    a.lr = c.lr = lr, a.weight_decay = 0.0f;
    c.clip = 0.1f, c.damping = 3e-4f;
    llm_mlp_init(w, &net, &rng);
    llm_glyphs(x, label, KG_N, 1.0f, 0.3f, &rng);
    for (size_t i = 0; i < KG_N * 64; i++) x[i] *= powf(100.0f, -(float)(i * 29 % 64) / 63.0f);
    for (size_t t = 1; t <= KG_MOST; t++) {
        memset(g, 0, KG_P * sizeof(float));
        if (llm_mlp_gradient(g, &net, w, x, label, NULL, KG_N, &arena) < 0.3) return t;
        if (kfac) {
            llm_kfac_factors(state, &net, w, x, KG_N, 0.95, t, &rng, &arena);
            CHECK(llm_kfac_step(w, state, g, &net, &c, &arena) > 0.0);
        } else
            llm_adamw_step(w, m, v, g, KG_P, &a, t);
    }
    return KG_MOST;
}

/* Summed over two seeds: K-FAC's steps over those of Adam at the better of two rates. */
static double kf_share(uint64_t seed) {
    size_t sum[2] = {0, 0};
    for (uint64_t s = seed; s < seed + 2; s++) {
        const size_t slow = kf_steps(false, 0.09f, s), fast = kf_steps(false, 0.2f, s);
        sum[0] += slow < fast ? slow : fast;
        sum[1] += kf_steps(true, 1.0f, s);
    }
    return (double)sum[1] / (double)sum[0];
}

TEST(kfac, "glyphs with pixels of unequal scale: fewer steps than Adam's best rate") {
    CHECK(kf_share(1) < 0.76); /* eight further pairs of seeds: 0.44 to 0.54 */
}

/* @self_paced */
#include "../test.h"

#include "../../llm.h"
#include "../arena.h"

static llm_self_paced_config sp_config(int kind, double lam, double lam2) {
    const llm_self_paced_config c = {kind, lam, lam2};
    return c;
}

TEST(self_paced, "weights, regularizers and implied losses equal SciPy's minima and integrals") {
    for (int kind = 0; kind < 4; kind++) {
        const float *lam = golden("%d/lam", kind), *loss = golden("%d/loss", kind);
        const llm_self_paced_config c = sp_config(kind, (double)lam[0], (double)lam[1]);
        float v[9], implied[9], f[3];
        const double share = llm_self_paced_weights(v, loss, 9, &c);
        CHECK_GOLDEN(v, 9, 1e-5f, "%d/v", kind); /* the bounded search's own accuracy */
        CHECK_NEAR(share, 6.0 / 9.0, 1e-12);
        for (size_t i = 0; i < 9; i++)
            implied[i] = (float)llm_self_paced_implied((double)loss[i], &c);
        CHECK_GOLDEN(implied, 9, 1e-5f, "%d/implied", kind);
        f[0] = (float)llm_self_paced_regularizer(0.0, &c);
        f[1] = (float)llm_self_paced_regularizer((double)0.3f, &c);
        f[2] = (float)llm_self_paced_regularizer(1.0, &c);
        CHECK_GOLDEN(f, 3, 1e-6f, "%d/f", kind);
    }
}

TEST(self_paced,
     "the hard step is the best of all 4096 choices; implied min(L, lam); bad settings") {
    enum { N = 12 };
    llm_rng rng = llm_rng_seed(1);
    const llm_self_paced_config c = sp_config(LLM_SELF_PACED_HARD, 0.7, 0.0);
    float loss[N], v[N], other[N];
    for (size_t i = 0; i < N; i++) loss[i] = fabsf(llm_rng_normal(&rng));
    llm_self_paced_weights(v, loss, N, &c);
    const double best = llm_self_paced_objective(v, loss, N, &c);
    for (size_t choice = 0; choice < 4096; choice++) {
        double want = 0.0;
        for (size_t i = 0; i < N; i++) {
            other[i] = choice >> i & 1 ? 1.0f : 0.0f;
            want += (double)other[i] * ((double)loss[i] - 0.7);
        }
        CHECK_NEAR(llm_self_paced_objective(other, loss, N, &c), want, 1e-12);
        CHECK(want >= best - 1e-12);
    }
    for (size_t i = 0; i < N; i++)
        CHECK_NEAR(llm_self_paced_implied((double)loss[i], &c), fmin((double)loss[i], 0.7), 1e-12);

    const float nan[2] = {NAN, 0.9f};
    CHECK(llm_self_paced_weights(v, nan, 2, &c) == 0.0 && v[0] == 0.0f && v[1] == 0.0f);
    CHECK(llm_self_paced_objective(v, nan, 2, &c) == 0.0); /* nobody: the model stays */
    CHECK(llm_self_paced_weights(v, nan, 0, &c) == 0.0);
    CHECK(llm_self_paced_weight(0.7, &c) == 0.0);
    const float easy[1] = {0.1f};
    CHECK(llm_self_paced_weights(v, easy, 1, &c) == 1.0);
    CHECK(llm_self_paced_implied(HUGE_VAL, &c) == llm_self_paced_implied(0.7, &c));
    const llm_self_paced_config bad[9] = {
        sp_config(0, 0.0, 0.0),  sp_config(1, -1.0, 0.0), sp_config(2, 1.0, 0.0),
        sp_config(2, 0.0, 0.0),  sp_config(3, 1.0, 1.0),  sp_config(3, 1.0, 0.0),
        sp_config(-1, 1.0, 0.0), sp_config(4, 1.0, 0.0),  sp_config(0, (double)NAN, 0.0)};
    for (size_t i = 0; i < 9; i++) CHECK(!llm_self_paced_valid(&bad[i]));
    CHECK_ASSERTS(llm_self_paced_weight(0.5, &bad[0]));
    CHECK_ASSERTS(llm_self_paced_regularizer(0.5, &bad[2]));
}

TEST(self_paced, "the share rises with lam for every form, and a quantile admits what it says") {
    enum { N = 31 };
    llm_rng rng = llm_rng_seed(2);
    llm_arena arena = test_arena(1 << 20);
    float loss[N], v[N];
    for (size_t i = 0; i < N; i++) loss[i] = fabsf(llm_rng_normal(&rng));
    for (int kind = 0; kind < 4; kind++) {
        double before = 0.0;
        float last[N] = {0.0f};
        for (double lam = 0.05; lam < 1.0; lam += 0.05) {
            const llm_self_paced_config c = sp_config(kind, lam, 0.5 * lam);
            const double share = llm_self_paced_weights(v, loss, N, &c);
            CHECK(share >= before);
            /* LOG's falls again for small losses once lam is beyond 1 - 1/e */
            for (size_t i = 0; i < N; i++)
                CHECK(kind == LLM_SELF_PACED_LOG || v[i] >= last[i] - 1e-6f);
            memcpy(last, v, sizeof v);
            before = share;
        }
        CHECK(before > 0.5);
    }
    for (size_t k = 0; k <= N; k++) {
        const double lam = llm_self_paced_quantile(loss, N, (double)k / N, &arena);
        size_t below = 0;
        for (size_t i = 0; i < N; i++) below += (double)loss[i] < lam;
        CHECK(below == k && arena.used == 0);
    }
    CHECK(isinf(llm_self_paced_quantile(loss, N, 1.0, &arena)));
    const float four[4] = {4.0f, 1.0f, 2.0f, 3.0f};
    CHECK(llm_self_paced_quantile(four, 4, 0.5, &arena) == 2.5);
    CHECK(llm_self_paced_quantile(four, 4, 0.25, &arena) == 1.5);
    CHECK_ASSERTS(llm_self_paced_quantile(loss, N, 1.1, &arena));
    CHECK_ASSERTS(llm_self_paced_quantile(loss, N, -0.1, &arena));
}

TEST(self_paced, "diversity is the best of all choices; co-teaching exchanges the easy ones") {
    llm_arena arena = test_arena(1 << 20);
    for (int k = 0; k < 3; k++) {
        const float *lam = golden("diverse%d/lam", k), *loss = golden("diverse%d/loss", k);
        const int *group = as_ints(golden("diverse%d/group", k), 9);
        float v[9];
        double chosen = 0.0;
        const double share =
            llm_self_paced_diverse(v, loss, group, 9, 3, (double)lam[0], (double)lam[1], &arena);
        CHECK_GOLDEN(v, 9, 0.0f, "diverse%d/v", k);
        for (size_t i = 0; i < 9; i++) chosen += (double)v[i] / 9.0;
        CHECK_NEAR(share, chosen, 1e-12);
        CHECK(arena.used == 0);
    }
    const int outside[1] = {3}, minus[1] = {-1};
    const float one[1] = {1.0f}, a[4] = {4.0f, 1.0f, 3.0f, 2.0f}, b[4] = {1.0f, 2.0f, NAN, 0.5f};
    float v[1];
    CHECK_ASSERTS(llm_self_paced_diverse(v, one, outside, 1, 3, 1.0, 1.0, &arena));
    CHECK_ASSERTS(llm_self_paced_diverse(v, one, minus, 1, 3, 1.0, 1.0, &arena));
    CHECK(llm_self_paced_diverse(v, one, outside, 0, 3, 1.0, 1.0, &arena) == 0.0);
    const int first[1] = {0};
    CHECK(llm_self_paced_diverse(v, one, first, 1, 1, 2.0, 0.0, &arena) == 1.0);
    CHECK(llm_self_paced_diverse(v, one, first, 1, 1, 1.0, 0.0, &arena) == 0.0); /* not below */
    size_t for_a[4], for_b[4];
    llm_self_paced_coteach(for_a, for_b, a, b, 4, 4, &arena);
    CHECK(for_a[3] == 2 && for_b[3] == 0);
    llm_self_paced_coteach(for_a, for_b, a, b, 4, 3, &arena);
    CHECK(for_a[0] == 3 && for_a[1] == 0 && for_a[2] == 1);
    CHECK(for_b[0] == 1 && for_b[1] == 3 && for_b[2] == 2);
    CHECK(for_a[3] == 2 && for_b[3] == 0 && arena.used == 0); /* beyond keep: as they were */
    CHECK_ASSERTS(llm_self_paced_coteach(for_a, for_b, a, b, 2, 3, &arena));
}

/* w (D) <- the weighted least squares of x (N,D), y (N). */
enum { SP_N = 100, SP_D = 4 };
static void sp_fit(double *w, const float *v, const float *x, const float *y) {
    double a[SP_D * SP_D] = {0.0};
    for (size_t i = 0; i < SP_D; i++) a[i * (SP_D + 1)] = 1e-9, w[i] = 0.0;
    for (size_t n = 0; n < SP_N; n++)
        for (size_t i = 0; i < SP_D; i++) {
            w[i] += (double)v[n] * (double)x[n * SP_D + i] * (double)y[n];
            for (size_t j = 0; j < SP_D; j++)
                a[i * SP_D + j] += (double)v[n] * (double)x[n * SP_D + i] * (double)x[n * SP_D + j];
        }
    CHECK(llm_cholesky_factor(a, SP_D, NULL));
    llm_cholesky_solve(w, a, SP_D, 1);
}

TEST(self_paced,
     "30% gross outliers: the fit comes 5 times closer; at fixed lam the objective only falls") {
    for (uint64_t seed = 1; seed <= 10; seed++) {
        llm_rng rng = llm_rng_seed(seed);
        llm_arena arena = test_arena(1 << 20);
        const double truth[SP_D] = {1.0, -2.0, 0.5, 3.0};
        float x[SP_N * SP_D], y[SP_N], v[SP_N], loss[SP_N];
        double w[SP_D], off[2] = {0.0, 0.0};
        llm_rng_normal_fill(&rng, x, SP_N * SP_D);
        for (size_t n = 0; n < SP_N; n++) {
            double sum = 0.1 * (double)llm_rng_normal(&rng);
            for (size_t i = 0; i < SP_D; i++) sum += truth[i] * (double)x[n * SP_D + i];
            y[n] = (float)(n < 30 ? 10.0 + 10.0 * (double)llm_rng_normal(&rng) : sum);
            v[n] = 1.0f;
        }
        for (int kind = 0; kind < 4; kind++) {
            for (size_t n = 0; n < SP_N; n++) v[n] = 1.0f;
            sp_fit(w, v, x, y);
            if (kind == 0) /* least squares of all */
                for (size_t i = 0; i < SP_D; i++) off[0] += pow(w[i] - truth[i], 2.0);
            for (size_t round = 0; round < 12; round++) { /* half of the data, then up to 0.65 */
                llm_self_paced_config c = sp_config(kind, 1.0, 0.5);
                double scale = 0.0, before = (double)INFINITY;
                for (size_t turn = 0; turn < 3; turn++) {
                    for (size_t n = 0; n < SP_N; n++) {
                        double e = -(double)y[n];
                        for (size_t i = 0; i < SP_D; i++) e += w[i] * (double)x[n * SP_D + i];
                        loss[n] = (float)(e * e);
                    }
                    const double share = fmin(0.65, 0.5 + 0.02 * (double)round);
                    /* in units of the quantile, so that LOG's lam is below 1 too */
                    if (turn == 0) scale = llm_self_paced_quantile(loss, SP_N, share, &arena);
                    for (size_t n = 0; n < SP_N; n++) loss[n] = (float)((double)loss[n] / scale);
                    if (kind == LLM_SELF_PACED_LOG) c.lam = 0.999;
                    if (turn > 0) {
                        const double trained = llm_self_paced_objective(v, loss, SP_N, &c);
                        CHECK(trained <= before + 1e-4);
                        before = trained;
                    }
                    llm_self_paced_weights(v, loss, SP_N, &c);
                    const double chosen = llm_self_paced_objective(v, loss, SP_N, &c);
                    CHECK(chosen <= before + 1e-4);
                    before = chosen;
                    sp_fit(w, v, x, y);
                }
            }
            off[1] = 0.0;
            for (size_t i = 0; i < SP_D; i++) off[1] += pow(w[i] - truth[i], 2.0);
            CHECK(sqrt(off[1]) < 0.2 * sqrt(off[0])); /* 90 seeds: 0.14 at most */
        }
    }
}

/* Accuracy on clean glyphs of a net of 64-32-10 trained on 400 of which 40% have another label:
 * full batches of the examples whose loss is among the smallest share. */
static double sp_glyphs(bool paced, uint64_t seed) {
    enum { N = 400, TEST = 500, P = 64 * 32 + 32 + 330, STEPS = 250 };
    static const size_t size[3] = {64, 32, 10};
    const llm_mlp net = {size, 2, LLM_ACTIVATION_RELU, LLM_OUTPUT_LAYER_SOFTMAX};
    llm_rng rng = llm_rng_seed(seed);
    llm_arena arena = test_arena(1 << 20);
    float *w = floats(P), *m = zeros(P), *v = zeros(P), *g = floats(P), *z = floats(N * 10);
    float *x = floats(N * 64), *some = floats(N * 64), *clean = floats(TEST * 64), loss[N], use[N];
    int label[N], label_some[N], label_clean[TEST];
    llm_adamw_config a = llm_adamw_defaults();
    a.lr = 0.01f, a.weight_decay = 0.0f;
    llm_mlp_init(w, &net, &rng);
    llm_glyphs(clean, label_clean, TEST, 0.5f, 0.1f, &rng);
    llm_glyphs(x, label, N, 0.5f, 0.1f, &rng);
    for (size_t n = 0; n < N; n++)
        if (llm_rng_uniform(&rng) < 0.4f)
            label[n] = (label[n] + 1 + (int)llm_rng_below(&rng, 9)) % 10;
    for (size_t t = 1; t <= STEPS; t++) {
        size_t rows = 0;
        llm_mlp_outputs(z, &net, w, x, N, 100, &arena);
        for (size_t n = 0; n < N; n++)
            loss[n] = llm_logsumexp(z + n * 10, 10) - z[n * 10 + (size_t)label[n]];
        /* a start with all, then from 0.3 up to 0.55 of the examples */
        const double share =
            !paced || t <= 20 ? 1.0 : fmin(0.55, 0.3 + 0.25 * (double)(t - 20) / 150.0);
        const llm_self_paced_config c =
            sp_config(LLM_SELF_PACED_HARD, llm_self_paced_quantile(loss, N, share, &arena), 0.0);
        llm_self_paced_weights(use, loss, N, &c);
        for (size_t n = 0; n < N; n++)
            if (use[n] > 0.0f) {
                memcpy(some + rows * 64, x + n * 64, 64 * sizeof(float));
                label_some[rows++] = label[n];
            }
        memset(g, 0, P * sizeof(float));
        llm_mlp_gradient(g, &net, w, some, label_some, NULL, rows, &arena);
        llm_adamw_step(w, m, v, g, P, &a, t);
    }
    return llm_mlp_accuracy(&net, w, clean, label_clean, TEST, &arena);
}

TEST(self_paced, "glyphs with 40% wrong labels: better on clean ones") {
    double gain = 0.0;
    for (uint64_t seed = 1; seed <= 3; seed++)
        gain += (sp_glyphs(true, seed) - sp_glyphs(false, seed)) / 3.0;
    CHECK(gain > 0.018); /* eight further sets of three seeds: 0.036 to 0.171 */
}

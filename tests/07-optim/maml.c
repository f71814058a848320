/* @maml */
#include "../test.h"

#include "../../llm.h"
#include "../arena.h"

static const size_t ma_size[4][4] = {{1, 4, 3, 1}, {3, 4, 3, 0}, {2, 5, 2, 0}, {2, 1, 0, 0}};
static const llm_mlp ma_net[4] = {
    {ma_size[0], 3, LLM_ACTIVATION_TANH, LLM_OUTPUT_LAYER_MSE},
    {ma_size[1], 2, LLM_ACTIVATION_TANH, LLM_OUTPUT_LAYER_SOFTMAX},
    {ma_size[2], 2, LLM_ACTIVATION_RELU, LLM_OUTPUT_LAYER_MSE},
    {ma_size[3], 1, LLM_ACTIVATION_TANH, LLM_OUTPUT_LAYER_MSE},
};
static const char *ma_name[4] = {"sine", "class", "relu", "linear"};
enum { MA_P = 64 };

static llm_maml_batch ma_batch(const char *name, const char *which, size_t N, bool labels) {
    llm_maml_batch b = {golden("%s/x%s", name, which), NULL, NULL, N};
    const float *y = golden("%s/y%s", name, which);
    if (labels) b.label = as_ints(y, N);
    if (!labels) b.target = y;
    return b;
}

TEST(maml, "Hessian products and gradients through 0, 1 and 3 steps equal JAX, also by the rates") {
    llm_arena arena = test_arena(1 << 20);
    for (size_t k = 0; k < 4; k++) {
        const llm_mlp *m = &ma_net[k];
        const size_t P = llm_mlp_param_count(m), steps[3] = {0, 1, 3};
        const float *w = golden("%s/w", ma_name[k]), *rate = golden("%s/rate", ma_name[k]);
        const llm_maml_batch s = ma_batch(ma_name[k], "s", 5, k == 1);
        const llm_maml_batch q = ma_batch(ma_name[k], "q", 4, k == 1);
        float got[MA_P], drate[MA_P], loss[1], at[MA_P];
        memset(got, 0, sizeof got);
        llm_maml_hessian(got, m, w, golden("%s/v", ma_name[k]), s.x, s.label, s.target, s.N,
                         &arena);
        CHECK_GOLDEN(got, P, 5e-6f, "%s/hv", ma_name[k]);
        for (size_t t = 0; t < 3; t++) {
            for (size_t i = 0; i < P; i++) got[i] = drate[i] = 1.0f;
            loss[0] =
                (float)llm_maml_gradient(got, drate, m, w, rate, s, q, steps[t], false, &arena);
            for (size_t i = 0; i < P; i++) got[i] -= 1.0f, drate[i] -= 1.0f; /* added */
            CHECK_GOLDEN(loss, 1, 2e-6f, "%s/%zu/loss", ma_name[k], steps[t]);
            CHECK_GOLDEN(got, P, 5e-6f, "%s/%zu/dw", ma_name[k], steps[t]);
            CHECK_GOLDEN(drate, P, 5e-6f, "%s/%zu/drate", ma_name[k], steps[t]);
            memset(got, 0, sizeof got);
            llm_maml_gradient(got, NULL, m, w, rate, s, q, steps[t], true, &arena);
            CHECK_GOLDEN(got, P, 5e-6f, "%s/%zu/first", ma_name[k], steps[t]);
            memcpy(at, w, P * sizeof(float));
            llm_maml_adapt(at, m, rate, s, steps[t], &arena);
            CHECK_NEAR(llm_mlp_gradient(NULL, m, at, q.x, q.label, q.target, q.N, &arena), loss[0],
                       1e-6);
        }
        CHECK(arena.used == 0);
    }
}

TEST(maml, "targets as distributions equal labels; nets and heads it cannot differentiate") {
    llm_arena arena = test_arena(1 << 20);
    const float *w = golden("class/w"), *v = golden("class/v");
    const llm_maml_batch s = ma_batch("class", "s", 5, true);
    float onehot[15] = {0.0f}, a[MA_P] = {0.0f}, b[MA_P] = {0.0f};
    for (size_t n = 0; n < 5; n++) onehot[n * 3 + (size_t)s.label[n]] = 1.0f;
    llm_maml_hessian(a, &ma_net[1], w, v, s.x, s.label, NULL, 5, &arena);
    llm_maml_hessian(b, &ma_net[1], w, v, s.x, NULL, onehot, 5, &arena);
    CHECK_ALL_NEAR(b, a, llm_mlp_param_count(&ma_net[1]), 1e-6f);
    llm_mlp other = ma_net[1];
    other.act = LLM_ACTIVATION_GELU;
    CHECK_ASSERTS(llm_maml_hessian(a, &other, w, v, s.x, s.label, NULL, 5, &arena));
    other = ma_net[1], other.head = LLM_OUTPUT_LAYER_BCE;
    CHECK_ASSERTS(llm_maml_hessian(a, &other, w, v, s.x, NULL, onehot, 5, &arena));
    CHECK_ASSERTS(llm_maml_reptile(a, b, 3, 0, 0.5f));
}

/* Tasks y = c of a net without inputs that matter: the loss is (b - c)^2 / 2 in the bias b. */
TEST(maml, "on parabolas: the optimum is the weighted mean, first order too; a head alone adapts") {
    const llm_mlp *m = &ma_net[3];
    llm_arena arena = test_arena(1 << 20);
    /* support inputs of size s give curvature s^2 + .. in w: use w (2), b; x = (s, 0), so that
     * w_0 and b share a parabola; tasks differ in s and c, b is not adapted */
    const float s[2] = {1.0f, 2.0f}, c[2] = {3.0f, -1.0f}, rate[3] = {0.1f, 0.0f, 0.0f};
    float w[3] = {0.7f, 0.0f, 0.0f}, dw[3] = {0.0f}, first[3] = {0.0f};
    double want = 0.0, want_first = 0.0;
    for (size_t k = 0; k < 2; k++) {
        const float x[2] = {s[k], 0.0f}, y[1] = {s[k] * c[k]}; /* s^2 (w - c)^2 / 2 */
        const llm_maml_batch batch = {x, y, NULL, 1};
        llm_maml_gradient(dw, NULL, m, w, rate, batch, batch, 2, false, &arena);
        llm_maml_gradient(first, NULL, m, w, rate, batch, batch, 2, true, &arena);
        const double h = (double)(s[k] * s[k]), keep = 1.0 - 0.1 * h;
        want += h * pow(keep, 4.0) * (0.7 - (double)c[k]); /* d/dw of h (keep^2 (w - c))^2 / 2 */
        want_first += h * pow(keep, 2.0) * (0.7 - (double)c[k]);
    }
    CHECK_NEAR(dw[0], want, 1e-5);
    CHECK_NEAR(first[0], want_first, 1e-5);

    const llm_mlp *deep = &ma_net[0]; /* ANIL: rate 0 below the head */
    const size_t P = llm_mlp_param_count(deep), head = llm_mlp_layer(deep, 3).weight;
    float *only = zeros(P), *now = floats(P);
    const float *start = golden("sine/w");
    for (size_t i = head; i < P; i++) only[i] = 0.05f;
    memcpy(now, start, P * sizeof(float));
    llm_maml_adapt(now, deep, only, ma_batch("sine", "s", 5, false), 3, &arena);
    for (size_t i = 0; i < P; i++) CHECK((now[i] == start[i]) == (i < head));

    float from[2] = {1.0f, 2.0f};
    const float sum[2] = {6.0f, 18.0f};
    llm_maml_reptile(from, sum, 2, 3, 0.25f); /* a quarter of the way to (2, 6) */
    CHECK(from[0] == 1.25f && from[1] == 3.0f);
    llm_maml_reptile(from, sum, 2, 1, 1.0f);
    CHECK(from[0] == 6.0f && from[1] == 18.0f);
}

TEST(maml, "sine tasks have the stated amplitude, phase and inputs") {
    enum { N = 20000 };
    llm_rng rng = llm_rng_seed(1);
    float *x = floats(N), *y = floats(N);
    double mean = 0.0, square = 0.0;
    llm_maml_sine(x, y, N, 2.5f, 0.4f, &rng);
    for (size_t i = 0; i < N; i++) {
        CHECK(x[i] >= -5.0f && x[i] < 5.0f);
        CHECK_NEAR(y[i], 2.5 * sin((double)x[i] - 0.4), 1e-5);
        mean += (double)x[i] / N, square += (double)x[i] * (double)x[i] / N;
    }
    CHECK_NEAR(mean, 0.0, 4.0 * 2.89 / sqrt(N));
    CHECK_NEAR(square, 25.0 / 3.0, 0.3);
}

/* Meta-training on sines, a net of 1-40-40-1 with ReLU; then the mean squared error on 200 fresh
 * tasks after one step on 10 examples of each. */
enum { MS_MAML, MS_FIRST, MS_REPTILE, MS_JOINT, MS_RANDOM };
enum { MS_P = 80 + 40 * 41 + 41, MS_SHOT = 10 };
static double ma_sines(int kind, size_t meta, uint64_t seed) {
    static const size_t size[4] = {1, 40, 40, 1};
    const llm_mlp net = {size, 3, LLM_ACTIVATION_RELU, LLM_OUTPUT_LAYER_MSE};
    llm_rng rng = llm_rng_seed(seed);
    llm_arena arena = test_arena(1 << 20);
    float *w = floats(MS_P), *m = zeros(MS_P), *v = zeros(MS_P), *g = floats(MS_P);
    float *rate = floats(MS_P), *now = floats(MS_P), *sum = floats(MS_P);
    llm_adamw_config a = llm_adamw_defaults();
    a.weight_decay = 0.0f;
    llm_mlp_init(w, &net, &rng);
    for (size_t i = 0; i < MS_P; i++) rate[i] = 0.02f;
    for (size_t t = 1; t <= meta && kind != MS_RANDOM; t++) {
        memset(g, 0, MS_P * sizeof(float)), memset(sum, 0, MS_P * sizeof(float));
        for (size_t task = 0; task < 4; task++) {
            const float amplitude = 0.1f + 4.9f * llm_rng_uniform(&rng);
            const float phase = LLM_PI * llm_rng_uniform(&rng);
            float x[2 * MS_SHOT], y[2 * MS_SHOT];
            llm_maml_sine(x, y, 2 * MS_SHOT, amplitude, phase, &rng);
            const llm_maml_batch s = {x, y, NULL, MS_SHOT};
            const llm_maml_batch q = {x + MS_SHOT, y + MS_SHOT, NULL, MS_SHOT},
                                 all = {x, y, NULL, 2 * MS_SHOT};
            if (kind == MS_REPTILE) {
                memcpy(now, w, MS_P * sizeof(float));
                llm_maml_adapt(now, &net, rate, all, 5, &arena);
                for (size_t i = 0; i < MS_P; i++) sum[i] += now[i];
            } else
                llm_maml_gradient(g, NULL, &net, w, rate, s, kind == MS_JOINT ? all : q,
                                  kind == MS_JOINT ? 0 : 1, kind == MS_FIRST, &arena);
        }
        for (size_t i = 0; i < MS_P; i++)
            g[i] = kind == MS_REPTILE ? w[i] - sum[i] / 4.0f : g[i] / 4.0f;
        a.lr = 0.003f;
        llm_adamw_step(w, m, v, g, MS_P, &a, t);
    }
    double error = 0.0;
    for (size_t task = 0; task < 200; task++) {
        const float amplitude = 0.1f + 4.9f * llm_rng_uniform(&rng);
        const float phase = LLM_PI * llm_rng_uniform(&rng);
        float x[MS_SHOT + 50], y[MS_SHOT + 50];
        llm_maml_sine(x, y, MS_SHOT + 50, amplitude, phase, &rng);
        const llm_maml_batch s = {x, y, NULL, MS_SHOT};
        memcpy(now, w, MS_P * sizeof(float));
        llm_maml_adapt(now, &net, rate, s, 1, &arena);
        error += 2.0 *
                 llm_mlp_gradient(NULL, &net, now, x + MS_SHOT, NULL, y + MS_SHOT, 50, &arena) /
                 200.0;
    }
    return error;
}

TEST(maml,
     "sines after one step: far below a random start, below joint training; Reptile keeps up") {
    const double maml = ma_sines(MS_MAML, 500, 1), joint = ma_sines(MS_JOINT, 500, 1);
    /* eight further seeds: 0.14 to 0.68 of joint training, Reptile 0.67 to 0.97 of MAML */
    CHECK(maml < 0.84 * joint);
    CHECK(maml < ma_sines(MS_RANDOM, 0, 1) / 3.0);
    CHECK(ma_sines(MS_REPTILE, 500, 1) < 2.0 * maml);
}

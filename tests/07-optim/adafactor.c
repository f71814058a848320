/* @adafactor */
#include "../test.h"

#include "../../llm.h"

static llm_adafactor_config af_config(const float *f) {
    llm_adafactor_config c;
    c.lr = f[0], c.eps1 = f[1], c.eps2 = f[2], c.clip = f[3], c.decay = f[4], c.beta1 = f[5];
    c.weight_decay = f[6], c.relative = f[7] != 0.0f, c.warmup = f[8] != 0.0f;
    c.scale = f[9] != 0.0f;
    return c;
}

TEST(adafactor, "50 steps equal transformers.Adafactor: all options, vectors, single rows") {
    const char *names[] = {"plain", "warmup", "external", "scaled", "momentum",
                           "clip",  "vector", "scalar",   "row",    "column"};
    for (size_t k = 0; k < 10; k++) {
        const llm_adafactor_config c = af_config(golden("%s/config", names[k]));
        const size_t *shape = as_sizes(golden("%s/shape", names[k]), 2);
        const size_t rows = shape[0], cols = shape[1], n = rows * cols;
        const float *g = golden("%s/g", names[k]), *w0 = golden("%s/w0", names[k]);
        float *w = floats(n), *state = zeros(llm_adafactor_floats(rows, cols, &c));
        float *path = floats(4 * n), *at = path;
        memcpy(w, w0, n * sizeof(float));
        for (size_t t = 1; t <= 50; t++) {
            llm_adafactor_step(w, state, g + (t - 1) % 5 * n, rows, cols, &c, t);
            if (t != 1 && t != 2 && t != 10 && t != 50) continue;
            memcpy(at, w, n * sizeof(float));
            at += n;
        }
        CHECK_GOLDEN(path, 4 * n, 2e-6f, "%s/w", names[k]); /* 50 roundings of a weight */
        CHECK_GOLDEN(state, llm_adafactor_floats(rows, cols, &c), 2e-6f, "%s/state", names[k]);
    }
}

TEST(adafactor, "the defaults, the size of the state, bad steps") {
    llm_adafactor_config c = llm_adafactor_defaults();
    CHECK(c.eps1 == 1e-30f && c.eps2 == 1e-3f && c.clip == 1.0f && c.decay == 0.8f);
    CHECK(c.lr == 1e-3f && c.beta1 == 0.0f && c.weight_decay == 0.0f);
    CHECK(c.relative && c.scale && !c.warmup);
    CHECK(llm_adafactor_floats(512, 512, &c) == 1024); /* Adam: 524288 */
    CHECK(llm_adafactor_floats(1, 9, &c) == 9 && llm_adafactor_floats(9, 1, &c) == 9);
    CHECK(llm_adafactor_floats(2, 1, &c) == 2 && llm_adafactor_floats(2, 2, &c) == 4);
    const float g[2] = {1.0f, 2.0f}; /* a vector's squares, with the least one added */
    float w[2] = {0.0f, 0.0f}, square[2] = {0.0f, 0.0f};
    c.eps1 = 0.5f;
    llm_adafactor_step(w, square, g, 1, 2, &c, 1);
    CHECK(square[0] == 1.5f && square[1] == 4.5f);
    c.beta1 = 0.9f;
    CHECK(llm_adafactor_floats(3, 5, &c) == 8 + 15 && llm_adafactor_floats(1, 5, &c) == 10);
    float x[1] = {1.0f};
    CHECK_ASSERTS(llm_adafactor_step(x, x, x, 1, 1, &c, 0));
    llm_adafactor_step(NULL, NULL, NULL, 0, 3, &c, 1);
    CHECK(llm_adafactor_rate(NULL, 0, &c, 4) == 1e-2);
}

/* The step of a matrix by the formulas, in doubles, without blocks or slices. */
static void af_plain(double *w, double *r, double *col, double *m, const float *g, size_t rows,
                     size_t cols, const llm_adafactor_config *c, size_t t) {
    const size_t n = rows * cols;
    const double b = 1.0 - pow((double)t, -(double)c->decay);
    double *u = doubles(n), mean = 0.0, size = 0.0, rms = 0.0;
    for (size_t i = 0; i < rows; i++) r[i] *= b;
    for (size_t j = 0; j < cols; j++) col[j] *= b;
    for (size_t k = 0; k < n; k++) {
        const double square = (double)g[k] * (double)g[k] + (double)c->eps1;
        r[k / cols] += (1.0 - b) * square / (double)cols;
        col[k % cols] += (1.0 - b) * square / (double)rows;
        size += w[k] * w[k] / (double)n;
    }
    for (size_t i = 0; i < rows; i++) mean += r[i] / (double)rows;
    for (size_t k = 0; k < n; k++) {
        u[k] = (double)g[k] / sqrt(r[k / cols] * col[k % cols] / mean);
        rms += u[k] * u[k] / (double)n;
    }
    const double rate = fmin(1e-2, 1.0 / sqrt((double)t)) * fmax((double)c->eps2, sqrt(size));
    for (size_t k = 0; k < n; k++) {
        u[k] *= rate / fmax(1.0, sqrt(rms) / (double)c->clip);
        m[k] = (double)c->beta1 * m[k] + (1.0 - (double)c->beta1) * u[k];
        w[k] = w[k] * (1.0 - rate * (double)c->weight_decay) - m[k];
    }
}

TEST(adafactor, "matrices of many rows and columns follow the formulas") {
    const size_t shapes[6][2] = {{2, 3}, {64, 64}, {65, 130}, {130, 67}, {3, 200}, {4225, 2}};
    llm_rng rng = llm_rng_seed(6);
    for (size_t s = 0; s < 6; s++) {
        const size_t rows = shapes[s][0], cols = shapes[s][1], n = rows * cols;
        llm_adafactor_config c = llm_adafactor_defaults();
        c.beta1 = 0.5f, c.weight_decay = 0.1f, c.clip = 0.5f;
        float *w = floats(n), *g = floats(n), *state = zeros(llm_adafactor_floats(rows, cols, &c));
        double *want = doubles(n), *r = doubles(rows), *col = doubles(cols), *m = doubles(n);
        llm_rng_normal_fill(&rng, w, n);
        for (size_t k = 0; k < n; k++) want[k] = (double)w[k], m[k] = 0.0;
        for (size_t i = 0; i < rows; i++) r[i] = 0.0;
        for (size_t j = 0; j < cols; j++) col[j] = 0.0;
        for (size_t t = 1; t <= 3; t++) {
            llm_rng_normal_fill(&rng, g, n);
            for (size_t k = 0; k < n; k++) g[k] *= 0.1f + (float)(k / cols % 7);
            for (size_t j = 0; j < cols; j++) g[n - 1 - j] *= 100.0f; /* the last row counts */
            llm_adafactor_step(w, state, g, rows, cols, &c, t);
            af_plain(want, r, col, m, g, rows, cols, &c, t);
        }
        for (size_t i = 0; i < rows; i++) CHECK_NEAR(state[i], r[i], 1e-5 * r[i]);
        for (size_t j = 0; j < cols; j++) CHECK_NEAR(state[rows + j], col[j], 1e-5 * col[j]);
        for (size_t k = 0; k < n; k++) {
            CHECK_NEAR(state[rows + cols + k], m[k], 1e-5 * (1e-3 + fabs(m[k])));
            CHECK_NEAR(w[k], want[k], 1e-6 * (1.0 + fabs(want[k])));
        }
    }
}

TEST(adafactor, "the size of the weights: every one counts, wherever the slices end") {
    const size_t sizes[7] = {1, 2, 63, 64, 65, 129, 4225};
    const llm_adafactor_config c = llm_adafactor_defaults();
    for (size_t s = 0; s < 7; s++) {
        const size_t n = sizes[s];
        for (size_t at = 0; at<n; at += n> 2 ? (n - 1) / 2 : 1) {
            float *w = zeros(n);
            w[at] = 3.0f;
            CHECK_NEAR(llm_adafactor_rate(w, n, &c, 1), 1e-2 * 3.0 / sqrt((double)n), 1e-9);
        }
    }
}

/* V of a first step: with nothing clipped and lr 1 the step is g / sqrt(V). */
static void af_estimate(float *v, const float *g, size_t rows, size_t cols) {
    llm_adafactor_config c = llm_adafactor_defaults();
    const size_t n = rows * cols;
    float *w = zeros(n), *state = zeros(rows + cols);
    c.lr = 1.0f, c.clip = 1e30f, c.relative = c.scale = false;
    llm_adafactor_step(w, state, g, rows, cols, &c, 1);
    for (size_t i = 0; i < n; i++) v[i] = g[i] / w[i] * (g[i] / w[i]);
}

TEST(adafactor, "the factored squares are exact when they have rank 1") {
    enum { R = 5, C = 7 };
    llm_rng rng = llm_rng_seed(1);
    float a[R], b[C], g[R * C], v[R * C], want[R * C];
    for (size_t i = 0; i < R; i++) a[i] = expf(2.0f * llm_rng_normal(&rng));
    for (size_t j = 0; j < C; j++) b[j] = expf(2.0f * llm_rng_normal(&rng));
    for (size_t k = 0; k < R * C; k++) {
        g[k] = (llm_rng_uniform(&rng) < 0.5f ? -1.0f : 1.0f) * a[k / C] * b[k % C];
        want[k] = g[k] * g[k];
    }
    af_estimate(v, g, R, C);
    CHECK_ALL_CLOSE(v, want, R * C, 2e-6f);
}

/* The generalised divergence of v from the squares of g: sum x log(x / v) - x + v. */
static double af_divergence(const float *g, const double *v, size_t n) {
    double sum = 0.0;
    for (size_t k = 0; k < n; k++) {
        const double x = (double)g[k] * (double)g[k];
        sum += x * log(x / v[k]) - x + v[k];
    }
    return sum;
}

TEST(adafactor, "no rank-1 matrix is nearer in KL: 1000 random rivals; sums of rows and columns") {
    enum { R = 4, C = 6 };
    llm_rng rng = llm_rng_seed(2);
    float g[R * C], v[R * C];
    double vd[R * C], rival[R * C];
    llm_rng_normal_fill(&rng, g, R * C);
    af_estimate(v, g, R, C);
    for (size_t i = 0; i < R; i++) {
        double is = 0.0, want = 0.0;
        for (size_t j = 0; j < C; j++) is += (double)v[i * C + j], want += pow(g[i * C + j], 2.0);
        CHECK_NEAR(is, want, 1e-5 * want);
    }
    for (size_t j = 0; j < C; j++) {
        double is = 0.0, want = 0.0;
        for (size_t i = 0; i < R; i++) is += (double)v[i * C + j], want += pow(g[i * C + j], 2.0);
        CHECK_NEAR(is, want, 1e-5 * want);
    }
    for (size_t k = 0; k < R * C; k++) vd[k] = (double)v[k];
    const double best = af_divergence(g, vd, R * C);
    for (size_t trial = 0; trial < 1000; trial++) { /* near and far: factors off by e^0.01 to e^2 */
        float row[R], col[C];
        const double size = 0.01 * pow(200.0, (double)trial / 999.0);
        llm_rng_normal_fill(&rng, row, R);
        llm_rng_normal_fill(&rng, col, C);
        for (size_t k = 0; k < R * C; k++)
            rival[k] = vd[k] * exp(size * (double)(row[k / C] + col[k % C]));
        CHECK(af_divergence(g, rival, R * C) > best);
    }
}

TEST(adafactor, "an update is never longer than clip, whatever the gradients do") {
    enum { R = 3, C = 5 };
    llm_rng rng = llm_rng_seed(3);
    llm_adafactor_config c = llm_adafactor_defaults();
    float w[R * C] = {0.0f}, before[R * C], state[R + C] = {0.0f}, g[R * C];
    c.relative = c.scale = false, c.lr = 1.0f;
    for (size_t t = 1; t <= 200; t++) {
        const float scale = powf(10.0f, 6.0f * llm_rng_uniform(&rng) - 3.0f);
        double sum_sq = 0.0;
        for (size_t k = 0; k < R * C; k++) g[k] = scale * llm_rng_normal(&rng);
        memcpy(before, w, sizeof w);
        for (size_t k = 0; k < R * C; k++) w[k] = before[k] = 0.0f;
        llm_adafactor_step(w, state, g, R, C, &c, t);
        for (size_t k = 0; k < R * C; k++) sum_sq += (double)w[k] * (double)w[k];
        CHECK(sqrt(sum_sq / (R * C)) <= 1.0 + 1e-6);
    }
}

TEST(adafactor, "the step is relative to the weights, and a dead gradient moves nothing") {
    llm_adafactor_config c = llm_adafactor_defaults();
    float w[6] = {2.0f, -2.0f, 2.0f, -2.0f, 2.0f, -2.0f}, state[5] = {0.0f}, zero[6] = {0.0f};
    float g[6] = {1.0f, 1.0f, 1.0f, 1.0f, 1.0f, 1.0f}, tiny[6] = {0.0f};
    llm_adafactor_step(w, state, zero, 2, 3, &c, 1);
    for (size_t k = 0; k < 6; k++) CHECK(fabsf(w[k]) == 2.0f);
    memset(state, 0, sizeof state);
    llm_adafactor_step(w, state, g, 2, 3, &c, 1); /* u is 1, lr is 0.01 * 2 */
    for (size_t k = 0; k < 6; k++) CHECK_NEAR(w[k], (k % 2 ? -2.0f : 2.0f) - 0.02f, 1e-6f);
    memset(state, 0, sizeof state);
    llm_adafactor_step(tiny, state, g, 2, 3, &c, 1); /* weights of 0 move by 0.01 * eps2 */
    for (size_t k = 0; k < 6; k++) CHECK_NEAR(tiny[k], -1e-5f, 1e-10f);
    CHECK_NEAR(llm_adafactor_rate(tiny, 6, &c, 40000), 1e-3 / 200.0, 1e-12);
    g[4] = NAN; /* is seen at once, everywhere */
    llm_adafactor_step(w, state, g, 2, 3, &c, 2);
    for (size_t k = 0; k < 6; k++) CHECK(isnan(w[k]));
}

/* The loss on 500 glyphs after 200 steps on batches of 64, lr falling from 0.01 to 0, of a net of
 * 64-32-32-10. Every weight matrix and every bias has its own state. */
static double af_glyphs(bool adafactor, uint64_t seed) {
    enum { B = 64, TEST = 500, STEPS = 200 };
    static const size_t size[4] = {64, 32, 32, 10};
    const llm_mlp net = {size, 3, LLM_ACTIVATION_RELU, LLM_OUTPUT_LAYER_SOFTMAX};
    const size_t P = llm_mlp_param_count(&net);
    float *w = floats(P), *m = zeros(P), *v = zeros(P), *g = floats(P);
    float *x = floats(B * 64), *x_test = floats(TEST * 64);
    int label[B], label_test[TEST];
    llm_rng rng = llm_rng_seed(seed);
    llm_arena arena = {(unsigned char *)test_memory(1 << 19, 1), 1 << 19, 0, 0};
    llm_adamw_config a = llm_adamw_defaults();
    llm_adafactor_config c = llm_adafactor_defaults();
    a.weight_decay = 0.0f, c.relative = c.scale = false;
    llm_mlp_init(w, &net, &rng);
    llm_glyphs(x_test, label_test, TEST, 1.0f, 0.3f, &rng);
    for (size_t t = 1; t <= STEPS; t++) {
        llm_glyphs(x, label, B, 1.0f, 0.3f, &rng);
        memset(g, 0, P * sizeof(float));
        llm_mlp_gradient(g, &net, w, x, label, NULL, B, &arena);
        a.lr = c.lr = 0.01f * (1.0f - (float)(t - 1) / (float)STEPS);
        if (!adafactor) llm_adamw_step(w, m, v, g, P, &a, t);
        float *state = m;
        for (size_t l = 1; adafactor && l <= 3; l++) {
            const llm_mlp_view q = llm_mlp_layer(&net, l);
            llm_adafactor_step(w + q.weight, state, g + q.weight, q.out, q.in, &c, t);
            state += llm_adafactor_floats(q.out, q.in, &c);
            llm_adafactor_step(w + q.bias, state, g + q.bias, 1, q.out, &c, t);
            state += llm_adafactor_floats(1, q.out, &c);
        }
    }
    return llm_mlp_gradient(NULL, &net, w, x_test, label_test, NULL, TEST, &arena);
}

TEST(adafactor, "glyphs: the loss ends where Adam's does") {
    double adam = 0.0, factored = 0.0;
    for (uint64_t seed = 1; seed <= 5; seed++) {
        adam += af_glyphs(false, seed);
        factored += af_glyphs(true, seed);
    }
    /* eight other sets of five seeds: 0.948 to 1.007 */
    CHECK(factored < 1.05 * adam && factored > 0.9 * adam);
}

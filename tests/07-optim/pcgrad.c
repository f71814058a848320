/* @pcgrad */
#include "../test.h"

#include "../../llm.h"

enum { PC_MOST = 5 };

TEST(pcgrad, "the projected sum equals the authors' algorithm with the same orders") {
    const size_t shapes[4][2] = {{2, 3}, {3, 5}, {5, 7}, {4, 2}};
    for (size_t k = 0; k < 4; k++) {
        const size_t T = shapes[k][0], n = shapes[k][1];
        const float *g = golden("%zux%zu/g", T, n);
        const size_t *order = as_sizes(golden("%zux%zu/order", T, n), T * T);
        double gram[PC_MOST * PC_MOST], weight[PC_MOST], scratch[PC_MOST];
        float *out = floats(n);
        llm_pcgrad_gram(gram, g, T, n);
        for (size_t i = 0; i < T * T; i++)
            CHECK_NEAR(gram[i], dot(g + i / T * n, g + i % T * n, n), 1e-12);
        llm_pcgrad_project(weight, scratch, gram, order, T);
        llm_pcgrad_combine(out, weight, g, T, n);
        CHECK_GOLDEN(out, n, 1e-6f, "%zux%zu/out", T, n);
    }
}

TEST(pcgrad, "MGDA and CAGrad equal SciPy's minima, CAGrad on its primal problem") {
    const size_t shapes[4][2] = {{2, 3}, {3, 5}, {5, 7}, {4, 2}};
    for (size_t k = 0; k < 4; k++) {
        const size_t T = shapes[k][0], n = shapes[k][1];
        const float *g = golden("%zux%zu/g", T, n);
        double gram[PC_MOST * PC_MOST], weight[PC_MOST], linear[PC_MOST], sum = 0.0;
        float *out = floats(n), worst[1] = {INFINITY};
        llm_pcgrad_gram(gram, g, T, n);
        const double square = llm_pcgrad_mgda(weight, gram, T, 1000);
        llm_pcgrad_combine(out, weight, g, T, n);
        CHECK_GOLDEN(out, n, 1e-5f, "%zux%zu/mgda", T, n); /* SLSQP's own tolerance */
        CHECK_NEAR(square, dot(out, out, n), 1e-6);
        for (size_t i = 0; i < T; i++) {
            CHECK(weight[i] >= 0.0);
            sum += weight[i];
        }
        CHECK_NEAR(sum, 1.0, 1e-12);

        llm_pcgrad_cagrad(weight, linear, gram, 0.5, T, 1000);
        llm_pcgrad_combine(out, weight, g, T, n);
        for (size_t i = 0; i < T; i++) worst[0] = fminf(worst[0], (float)dot(out, g + i * n, n));
        CHECK_GOLDEN(worst, 1, 1e-5f, "%zux%zu/worst", T, n);
        CHECK_GOLDEN(out, n, 2e-4f, "%zux%zu/cagrad", T, n);
        llm_pcgrad_cagrad(weight, linear, gram, 0.0, T, 1000);
        for (size_t i = 0; i < T; i++) CHECK_NEAR(weight[i], 1.0 / (double)T, 1e-15);
    }
}

TEST(pcgrad, "GradNorm and uncertainty equal autograd") {
    enum { T = 3 };
    const float *norm = golden("gradnorm/norm"), *loss = golden("gradnorm/loss");
    const float *first = golden("gradnorm/first"), *w0 = golden("gradnorm/w0");
    const float *s = golden("uncertainty/s");
    double w[T], n[T], l[T], f[T], sd[T], ds[T] = {1.0, 1.0, 1.0}, weight[T];
    float got[T];
    for (size_t i = 0; i < T; i++)
        w[i] = (double)w0[i], n[i] = (double)norm[i], l[i] = (double)loss[i],
        f[i] = (double)first[i], sd[i] = (double)s[i];
    llm_pcgrad_gradnorm(w, n, l, f, 1.5, (double)0.02f, T);
    for (size_t i = 0; i < T; i++) got[i] = (float)w[i];
    CHECK_GOLDEN(got, T, 1e-6f, "gradnorm/w");
    for (size_t t = 0; t < 3000; t++) llm_pcgrad_gradnorm(w, n, l, l, 7.0, 0.0005, T);
    for (size_t i = 0; i < T; i++) CHECK_NEAR(w[i] * n[i], w[0] * n[0], 0.01); /* equal lengths */

    double a[3] = {1.0, 1.0, 1.0}, b[3] = {1.0, 1.0, 1.0}, tenth[3] = {0.1, 0.1, 0.1};
    const double lengths[3] = {1.0, 2.0, 3.0}; /* mean 2: the second has its length */
    llm_pcgrad_gradnorm(a, lengths, b, b, 1.5, 0.1, 3);
    for (size_t i = 0; i < 3; i++)
        CHECK_NEAR(a[i], 3.0 / 2.8 * (i == 0 ? 1.1 : i == 1 ? 1.0 : 0.7), 1e-12);
    llm_pcgrad_gradnorm(b, lengths, tenth, b, 1.5, 0.1, 3); /* all fell alike: the same */
    for (size_t i = 0; i < 3; i++) CHECK_NEAR(b[i], a[i], 1e-12);

    got[0] = (float)llm_pcgrad_uncertainty(weight, ds, sd, l, T);
    CHECK_GOLDEN(got, 1, 1e-6f, "uncertainty/total");
    for (size_t i = 0; i < T; i++) {
        CHECK_NEAR(weight[i], exp(-sd[i]), 1e-15);
        got[i] = (float)(ds[i] - 1.0); /* added */
        sd[i] = log(l[i]);
    }
    CHECK_GOLDEN(got, T, 1e-6f, "uncertainty/ds");
    memset(ds, 0, sizeof ds);
    llm_pcgrad_uncertainty(weight, ds, sd, l, T);
    for (size_t i = 0; i < T; i++) CHECK_NEAR(ds[i], 0.0, 1e-12);
}

TEST(pcgrad, "two tasks have a closed form that contradicts neither; agreement changes no bit") {
    enum { N = 7 };
    llm_rng rng = llm_rng_seed(1);
    const double one[2] = {1.0, 1.0};
    size_t conflicts = 0;
    for (size_t trial = 0; trial < 200; trial++) {
        float g[2 * N], out[N], sum[N], want[N];
        double gram[4], weight[2], scratch[2];
        size_t order[4];
        llm_rng_normal_fill(&rng, g, 2 * N);
        llm_pcgrad_order(order, 2, &rng);
        llm_pcgrad_gram(gram, g, 2, N);
        llm_pcgrad_project(weight, scratch, gram, order, 2);
        llm_pcgrad_combine(out, weight, g, 2, N);
        llm_pcgrad_combine(sum, one, g, 2, N);
        const double d = dot(g, g + N, N), aa = dot(g, g, N), bb = dot(g + N, g + N, N);
        for (size_t k = 0; k < N; k++) /* a - d/bb b + b - d/aa a */
            want[k] = (float)((1.0 - d / aa) * (double)g[k] + (1.0 - d / bb) * (double)g[N + k]);
        CHECK_ALL_NEAR(out, d < 0.0 ? want : sum, N, d < 0.0 ? 1e-6f : 0.0f);
        CHECK(dot(out, g, N) > -1e-5 && dot(out, g + N, N) > -1e-5);
        conflicts += d < 0.0;
        if (d >= 0.0) continue;
        /* MGDA's closed form: a share of task 0 */
        const double share = fmin(1.0, fmax(0.0, (bb - d) / (aa + bb - 2.0 * d)));
        llm_pcgrad_mgda(weight, gram, 2, 1);
        CHECK_NEAR(weight[0], share, 1e-12);
    }
    CHECK(conflicts > 70 && conflicts < 130);
}

TEST(pcgrad, "the shortest vector of a hull by brute force; 0 where tasks cannot both win") {
    enum { T = 3, N = 4, GRID = 200 };
    llm_rng rng = llm_rng_seed(2);
    for (size_t trial = 0; trial < 20; trial++) {
        float g[T * N];
        double gram[T * T], weight[T], best = INFINITY;
        llm_rng_normal_fill(&rng, g, T * N);
        for (size_t k = 0; k < N; k++) g[k] += 0.5f, g[N + k] *= 3.0f;
        llm_pcgrad_gram(gram, g, T, N);
        for (size_t a = 0; a <= GRID; a++)
            for (size_t b = 0; a + b <= GRID; b++) {
                const double w[T] = {(double)a / GRID, (double)b / GRID,
                                     (double)(GRID - a - b) / GRID};
                double square = 0.0;
                for (size_t i = 0; i < T * T; i++) square += w[i / T] * w[i % T] * gram[i];
                best = fmin(best, square);
            }
        const double square = llm_pcgrad_mgda(weight, gram, T, 1000);
        CHECK(square <= best && square > best - 1e-3 * (1.0 + best));
    }
    const float around[6] = {1.0f, 0.0f, -0.5f, 0.8f, -0.5f, -0.8f}; /* a triangle around 0 */
    double gram[9], weight[3], linear[3];
    llm_pcgrad_gram(gram, around, 3, 2);
    CHECK(llm_pcgrad_mgda(weight, gram, 3, 1000) < 1e-12);
    llm_pcgrad_cagrad(weight, linear, gram, 0.5, 3, 1000); /* the mean of the tasks is 0 as well */
    for (size_t i = 0; i < 3; i++) CHECK_NEAR(weight[i], 1.0 / 3.0, 1e-6);
}

TEST(pcgrad, "CAGrad's weights minimise its dual, by brute force") {
    enum { T = 3, N = 4, GRID = 100 };
    llm_rng rng = llm_rng_seed(4);
    for (size_t trial = 0; trial < 20; trial++) {
        float g[T * N];
        double gram[T * T], weight[T], linear[T], best = (double)INFINITY, sum = 0.0, mean_sq = 0.0;
        llm_rng_normal_fill(&rng, g, T * N);
        for (size_t k = 0; k < N; k++) g[trial % T * N + k] *= 4.0f;
        llm_pcgrad_gram(gram, g, T, N);
        double scaled[T * T], same[T]; /* the length of gradients does not matter */
        for (size_t i = 0; i < T * T; i++) scaled[i] = 1e-6 * gram[i];
        llm_pcgrad_cagrad(same, linear, scaled, 0.7, T, 1000);
        llm_pcgrad_cagrad(weight, linear, gram, 0.7, T, 1000);
        for (size_t i = 0; i < T; i++) CHECK_NEAR(same[i], weight[i], 1e-6);
        for (size_t i = 0; i < T * T; i++) mean_sq += gram[i] / (T * T);
        for (size_t i = 0; i < T; i++) sum += weight[i] - 1.0 / T;
        for (size_t a = 0; a <= GRID; a++)
            for (size_t b = 0; b <= GRID; b++) {
                double w[T] = {(double)a / GRID, (double)b / GRID, 1.0 - (double)(a + b) / GRID};
                double square = 0.0, along = 0.0;
                const bool last = a == GRID && b == GRID; /* the weights that were found */
                for (size_t i = 0; last && i < T; i++) w[i] = (weight[i] - 1.0 / T) / sum;
                if (w[2] < 0.0 && !last) continue;
                for (size_t i = 0; i < T * T; i++) {
                    square += w[i / T] * w[i % T] * gram[i];
                    along += w[i / T] * gram[i] / T;
                }
                const double dual = along + 0.7 * sqrt(mean_sq) * sqrt(fmax(0.0, square));
                if (last) CHECK(dual <= best + 1e-9);
                best = fmin(best, dual);
            }
    }
}

TEST(pcgrad,
     "antiparallel gradients cancel, zero gradients and equal ones are safe, orders are fair") {
    float g[6] = {1.0f, -2.0f, 3.0f, -2.0f, 4.0f, -6.0f}, out[3];
    double gram[4], weight[2], scratch[2], linear[2];
    const size_t order[4] = {0, 1, 1, 0};
    llm_pcgrad_gram(gram, g, 2, 3);
    llm_pcgrad_project(weight, scratch, gram, order, 2);
    llm_pcgrad_combine(out, weight, g, 2, 3);
    for (size_t k = 0; k < 3; k++) CHECK(out[k] == 0.0f);
    CHECK(llm_pcgrad_mgda(weight, gram, 2, 10) < 1e-12);
    for (size_t k = 3; k < 6; k++) g[k] = 0.0f;
    llm_pcgrad_gram(gram, g, 2, 3);
    llm_pcgrad_project(weight, scratch, gram, order, 2);
    CHECK(weight[0] == 1.0 && weight[1] == 1.0);
    CHECK(llm_pcgrad_mgda(weight, gram, 2, 10) == 0.0 && weight[1] == 1.0);
    for (size_t k = 0; k < 3; k++) g[3 + k] = g[k];
    llm_pcgrad_gram(gram, g, 2, 3);
    CHECK_NEAR(llm_pcgrad_mgda(weight, gram, 2, 10), 14.0, 1e-12);
    CHECK(weight[0] == 0.5 && weight[1] == 0.5);         /* no reason to prefer one */
    llm_pcgrad_cagrad(weight, linear, gram, 0.5, 2, 10); /* 1.5 times the mean, from either */
    CHECK_NEAR(weight[0] + weight[1], 1.5, 1e-12);
    memset(gram, 0, sizeof gram);
    llm_pcgrad_cagrad(weight, linear, gram, 0.5, 2, 10);
    CHECK(weight[0] == 0.5 && weight[1] == 0.5);
    CHECK_ASSERTS(llm_pcgrad_cagrad(weight, linear, gram, -0.5, 2, 10));
    const double one_long[4] = {1.0, 0.0, 0.0, 0.0}, slope[2] = {1.0, 0.0};
    llm_pcgrad_mgda(weight, one_long, 2, 0); /* no round: where it begins */
    CHECK(weight[0] == 0.5 && weight[1] == 0.5);
    llm_pcgrad_simplex(weight, one_long, slope, 1.0, 2, 10); /* w_0 + |w_0|: falls all the way */
    CHECK(weight[0] == 0.0 && weight[1] == 1.0);
    /* tasks 0 and 3 are kept out by their price: one round gives 1 and 2 what is best for two */
    const double four[16] = {1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.9,
                             0.0, 0.0, 3.0, 0.0, 0.0, 0.9, 0.0, 1.0};
    const double price[4] = {1e3, 0.0, 0.0, 1e3};
    double w[4] = {0.0, 0.5, 0.5, 0.0};
    llm_pcgrad_simplex(w, four, price, 1.0, 4, 1);
    CHECK(w[0] == 0.0 && w[3] == 0.0);
    CHECK_NEAR(w[1], 0.75, 1e-12);
    CHECK_NEAR(w[2], 0.25, 1e-12);

    llm_rng rng = llm_rng_seed(3);
    size_t seen[6] = {0}, row[9];
    for (size_t trial = 0; trial < 2000; trial++) {
        llm_pcgrad_order(row, 3, &rng);
        for (size_t i = 0; i < 3; i++) {
            CHECK(row[3 * i] + row[3 * i + 1] + row[3 * i + 2] == 3);
            CHECK(row[3 * i] != row[3 * i + 1] && row[3 * i] != row[3 * i + 2]);
            seen[2 * row[3 * i] + (row[3 * i + 1] > row[3 * i + 2])]++;
        }
    }
    for (size_t k = 0; k < 6; k++)
        CHECK_NEAR((double)seen[k], 1000.0, 4.0 * sqrt(6000.0 * 5.0 / 36.0));
}

/* The pair of losses of the paper's figure 1 (a ravine each), and their gradients. */
static void pc_pair(double loss[2], float g[4], const float *w) {
    const double a = 0.5 * (double)w[0] + tanh((double)w[1]);
    const double b = 0.5 * (double)w[0] - tanh((double)w[1]) + 2.0;
    const double slope = 1.0 - tanh((double)w[1]) * tanh((double)w[1]);
    loss[0] = 20.0 * log(fmax(fabs(a), 5e-6));
    loss[1] = 25.0 * log(fmax(fabs(b), 5e-6));
    g[0] = (float)(fabs(a) > 5e-6 ? 10.0 / a : 0.0),
    g[1] = (float)(fabs(a) > 5e-6 ? 20.0 * slope / a : 0.0);
    g[2] = (float)(fabs(b) > 5e-6 ? 12.5 / b : 0.0),
    g[3] = (float)(fabs(b) > 5e-6 ? -25.0 * slope / b : 0.0);
}

/* How far from the bottom of the ravine the last 1000 of 10000 steps of Adam are, in the mean: |a|
 * and |b| of the worse task, from a random start beside it. */
static double pc_run(bool surgery, uint64_t seed) {
    enum { STEPS = 10000, LAST = 1000 };
    float m[2] = {0.0f}, v[2] = {0.0f}, g[4], d[2];
    double loss[2], gram[4], weight[2] = {1.0, 1.0}, scratch[2], off[2] = {0.0, 0.0};
    size_t order[4];
    llm_rng rng = llm_rng_seed(seed);
    llm_adamw_config c = llm_adamw_defaults();
    float w[2] = {-3.0f + llm_rng_uniform(&rng), 1.5f + llm_rng_uniform(&rng)};
    c.weight_decay = 0.0f;
    for (size_t t = 1; t <= STEPS; t++) {
        pc_pair(loss, g, w);
        llm_pcgrad_gram(gram, g, 2, 2);
        llm_pcgrad_order(order, 2, &rng);
        if (surgery) llm_pcgrad_project(weight, scratch, gram, order, 2);
        llm_pcgrad_combine(d, weight, g, 2, 2);
        llm_adamw_step(w, m, v, d, 2, &c, t);
        if (t <= STEPS - LAST) continue;
        off[0] += exp(loss[0] / 20.0) / LAST, off[1] += exp(loss[1] / 25.0) / LAST;
    }
    return fmax(off[0], off[1]);
}
TEST(
    pcgrad,
    "in the paper's pair of ravines Adam on the sum stalls on the slope, with PCGrad it descends") {
    double log_ratio = 0.0;
    for (uint64_t seed = 1; seed <= 8; seed++)
        log_ratio += log(pc_run(false, seed) / pc_run(true, seed)) / 8.0;
    /* eight further sets of eight seeds: 10.9 to 20.9 times closer to the bottom, geometric mean */
    CHECK(exp(log_ratio) > 3.3);
}

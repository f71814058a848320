/* @grad_noise_scale */
#include "../test.h"

#include "../../llm.h"

TEST(grad_noise_scale, "signal, noise and their curved forms equal NumPy; lengths equal torch's") {
    const size_t shapes[3][2] = {{2, 1}, {5, 3}, {40, 7}};
    for (size_t k = 0; k < 3; k++) {
        const size_t n = shapes[k][0], P = shapes[k][1];
        const float *g = golden("%zux%zu/g", n, P), *h = golden("%zux%zu/H", n, P);
        double mean[7], H[49];
        float got[7];
        const llm_grad_noise_scale s = llm_grad_noise_scale_examples(mean, g, n, P);
        for (size_t i = 0; i < P; i++) got[i] = (float)mean[i];
        CHECK_GOLDEN(got, P, 1e-6f, "%zux%zu/mean", n, P);
        got[0] = (float)s.signal, got[1] = (float)s.noise;
        CHECK_GOLDEN(got, 2, 1e-6f, "%zux%zu/simple", n, P);
        for (size_t i = 0; i < P * P; i++) H[i] = (double)h[i];
        got[0] = (float)llm_grad_noise_scale_full(g, mean, H, n, P);
        CHECK_GOLDEN(got, 1, 2e-6f, "%zux%zu/full", n, P);
        for (size_t i = 0; i < P * P; i++) H[i] = i / P == i % P ? 1.0 : 0.0;
        CHECK_NEAR(llm_grad_noise_scale_full(g, mean, H, n, P),
                   s.noise / (s.signal + s.noise / (double)n), 1e-9 * (1.0 + s.noise));
    }
    double square[5] = {1.0, 1.0, 1.0, 1.0, 1.0};
    float got[5];
    for (int bias = 0; bias < 2; bias++) {
        llm_grad_noise_scale_dense(square, golden("dense/dy"), golden("dense/x"), 5, 3, 4, bias);
        for (size_t n = 0; n < 5; n++)
            got[n] = (float)(square[n] - 1.0), square[n] = 1.0; /* added */
        CHECK_GOLDEN(got, 5, 1e-6f, bias ? "dense/both" : "dense/weight");
    }
    const float *b = golden("fit/batch"), *st = golden("fit/steps");
    double batch[5], steps[5], least, most;
    for (size_t i = 0; i < 5; i++) batch[i] = (double)b[i], steps[i] = (double)st[i];
    got[2] = (float)llm_grad_noise_scale_tradeoff(&least, &most, batch, steps, 5);
    got[0] = (float)least, got[1] = (float)most;
    CHECK_GOLDEN(got, 3, 1e-5f, "fit/found");
}

TEST(grad_noise_scale,
     "exact hyperbolas are found, shares are their inverse; what has no answer says so") {
    const double batch[4] = {1.0, 4.0, 32.0, 1000.0};
    double steps[4], least, most;
    for (size_t i = 0; i < 4; i++) steps[i] = 50.0 * (1.0 + 30.0 / batch[i]);
    CHECK_NEAR(llm_grad_noise_scale_tradeoff(&least, &most, batch, steps, 4), 30.0, 1e-9);
    CHECK_NEAR(least, 50.0, 1e-9);
    CHECK_NEAR(most, 1500.0, 1e-7);
    for (size_t i = 0; i < 4; i++)
        CHECK_NEAR(llm_grad_noise_scale_share(30.0, batch[i]), 50.0 / steps[i], 1e-12);
    CHECK(llm_grad_noise_scale_share(30.0, 30.0) == 0.5); /* twice the steps, twice the examples */
    const double same[2] = {8.0, 8.0};
    CHECK(isnan(llm_grad_noise_scale_tradeoff(&least, &most, same, steps, 2)) && isnan(least));
    CHECK(isnan(llm_grad_noise_scale_tradeoff(&least, &most, batch, steps, 1)));

    const llm_grad_noise_scale none = {0.0, 0.0}, only = {0.0, 2.0}, below = {-1.0, 2.0},
                               s = {4.0, 2.0};
    CHECK(isnan(llm_grad_noise_scale_value(none)));
    CHECK(isinf(llm_grad_noise_scale_value(only)) && isinf(llm_grad_noise_scale_value(below)));
    const llm_grad_noise_scale odd = {0.0, -2.0}; /* an unbiased estimate, too */
    CHECK(llm_grad_noise_scale_value(odd) == (double)INFINITY);
    const llm_grad_noise_scale four = llm_grad_noise_scale_pair(11.0, 5.0, 1, 4);
    CHECK_NEAR(four.signal, 3.0, 1e-12); /* 3 + 8/1 and 3 + 8/4 */
    CHECK_NEAR(four.noise, 8.0, 1e-12);
    llm_grad_noise_scale mixed = {2.0, 6.0};
    llm_grad_noise_scale_add(&mixed, s, 0.75);
    CHECK(mixed.signal == 2.5 && mixed.noise == 5.0);
    CHECK(llm_grad_noise_scale_value(s) == 0.5);
    double mean[1];
    const float g[2] = {3.0f, 3.0f};
    const llm_grad_noise_scale pure = llm_grad_noise_scale_examples(mean, g, 2, 1);
    CHECK(pure.signal == 9.0 && pure.noise == 0.0);
    CHECK_ASSERTS(llm_grad_noise_scale_examples(mean, g, 1, 1));
    CHECK_ASSERTS(llm_grad_noise_scale_full(g, mean, mean, 1, 1));
    CHECK_ASSERTS(llm_grad_noise_scale_pair(1.0, 1.0, 4, 4));
    CHECK_ASSERTS(llm_grad_noise_scale_pair(1.0, 1.0, 0, 4));
}

TEST(grad_noise_scale,
     "two batch sizes agree with single examples on average; ratios of one step do not") {
    enum { P = 6, SMALL = 4, BIG = 16, DRAWS = 4000 };
    llm_rng rng = llm_rng_seed(1);
    llm_grad_noise_scale pairs = {0.0, 0.0}, singles = {0.0, 0.0}, running = {0.0, 0.0};
    double ratios = 0.0, truth[2] = {0.0, 0.0};
    size_t usable = 0;
    for (size_t k = 0; k < P; k++) {
        const double G = 0.1 * (double)(k + 1), s = 0.2 * (double)(P - k);
        truth[0] += G * G, truth[1] += s * s;
    }
    for (size_t draw = 0; draw < DRAWS; draw++) {
        float g[BIG * P];
        double mean[P], small = 0.0, big = 0.0;
        for (size_t i = 0; i < BIG * P; i++) {
            const size_t k = i % P;
            g[i] = 0.1f * (float)(k + 1) + 0.2f * (float)(P - k) * llm_rng_normal(&rng);
        }
        const llm_grad_noise_scale one = llm_grad_noise_scale_examples(mean, g, BIG, P);
        for (size_t k = 0; k < P; k++) big += mean[k] * mean[k];
        for (size_t b = 0; b < BIG; b += SMALL)
            for (size_t k = 0; k < P; k++) {
                double part = 0.0;
                for (size_t i = b; i < b + SMALL; i++) part += (double)g[i * P + k] / SMALL;
                small += part * part / (BIG / SMALL);
            }
        const llm_grad_noise_scale pair = llm_grad_noise_scale_pair(small, big, SMALL, BIG);
        pairs.signal += pair.signal / DRAWS, pairs.noise += pair.noise / DRAWS;
        singles.signal += one.signal / DRAWS, singles.noise += one.noise / DRAWS;
        llm_grad_noise_scale_add(&running, pair, 0.999);
        if (pair.signal > 0.0) ratios += llm_grad_noise_scale_value(pair), usable++;
    }
    const double want = truth[1] / truth[0];
    CHECK_NEAR(pairs.signal, truth[0], 0.03 * truth[0]);
    CHECK_NEAR(pairs.noise, truth[1], 0.03 * truth[1]);
    CHECK_NEAR(singles.signal, truth[0], 0.03 * truth[0]);
    CHECK_NEAR(singles.noise, truth[1], 0.03 * truth[1]);
    CHECK_NEAR(llm_grad_noise_scale_value(running), want, 0.1 * want); /* the last 1000 draws */
    CHECK(ratios / (double)usable > 1.2 * want);
}

TEST(grad_noise_scale,
     "linear regression has a closed form, and its best rate and progress follow the share") {
    /* y = e, x ~ N(0, I), loss (w.x - y)^2 / 2: G = w, S = (|w|^2 + s^2) I + w w' */
    enum { P = 5, N = 40000 };
    llm_rng rng = llm_rng_seed(2);
    const float w[P] = {0.5f, -0.3f, 0.2f, 0.4f, -0.1f};
    float *g = floats(N * P);
    double mean[P], square = 0.0, H[P * P] = {0.0};
    for (size_t k = 0; k < P; k++) square += (double)w[k] * (double)w[k], H[k * (P + 1)] = 1.0;
    for (size_t n = 0; n < N; n++) {
        float x[P], e = -llm_rng_normal(&rng);
        for (size_t k = 0; k < P; k++) x[k] = llm_rng_normal(&rng), e += w[k] * x[k];
        for (size_t k = 0; k < P; k++) g[n * P + k] = e * x[k];
    }
    const double want = ((P + 1.0) * square + P) / square;
    const llm_grad_noise_scale s = llm_grad_noise_scale_examples(mean, g, N, P);
    CHECK_NEAR(llm_grad_noise_scale_value(s), want, 0.05 * want);
    CHECK_NEAR(llm_grad_noise_scale_full(g, mean, H, N, P), want, 0.05 * want);

    /* the mean descent |G|^2 lr - lr^2 E|G_B|^2 / 2 over batches of B, for the best lr of a grid */
    const size_t sizes[3] = {4, 16, 64};
    for (size_t k = 0; k < 3; k++) {
        const size_t B = sizes[k];
        double along = 0.0, length = 0.0, best = 0.0, best_lr = 0.0;
        for (size_t from = 0; from + B <= N; from += B)
            for (size_t p = 0; p < P; p++) {
                double part = 0.0;
                for (size_t n = from; n < from + B; n++) part += (double)g[n * P + p] / (double)B;
                along += part * (double)w[p] / (double)(N / B);
                length += part * part / (double)(N / B);
            }
        for (double lr = 0.0; lr <= 1.0; lr += 1e-4) {
            const double descent = lr * along - 0.5 * lr * lr * length;
            if (descent > best) best = descent, best_lr = lr;
        }
        const double share = llm_grad_noise_scale_share(want, (double)B);
        CHECK_NEAR(best_lr, share, 0.1 * share); /* at most 1: the Hessian is I */
        CHECK_NEAR(best, 0.5 * square * share, 0.1 * 0.5 * square * share);
    }
}

/* Steps of SGD on |w|^2 / 2 with noise of deviation s in each of P coordinates of an example's
 * gradient, until |w|^2 has fallen by e^4; the best rate at every step, as the share says. */
static double gn_steps(size_t B, double s, llm_rng *rng) {
    enum { P = 20 };
    double w[P], square = (double)P, steps = 0.0;
    for (size_t k = 0; k < P; k++) w[k] = 1.0;
    const double goal = square * exp(-4.0);
    for (; square > goal && steps < 1e5; steps++) {
        const double scale = P * s * s / square; /* tr(S) / |G|^2 */
        const double lr = 0.1 * llm_grad_noise_scale_share(scale, (double)B);
        square = 0.0;
        for (size_t k = 0; k < P; k++) {
            w[k] -= lr * (w[k] + s / sqrt((double)B) * (double)llm_rng_normal(rng));
            square += w[k] * w[k];
        }
    }
    return steps;
}

TEST(grad_noise_scale,
     "steps to a loss over batch sizes make the hyperbola; at the critical size they double") {
    llm_rng rng = llm_rng_seed(3);
    const double batch[6] = {8.0, 32.0, 64.0, 128.0, 512.0, 4096.0};
    double steps[6], least, most;
    for (size_t k = 0; k < 6; k++) {
        steps[k] = 0.0;
        for (size_t run = 0; run < 10; run++)
            steps[k] += gn_steps((size_t)batch[k], 3.0, &rng) / 10.0;
    }
    const double critical = llm_grad_noise_scale_tradeoff(&least, &most, batch, steps, 6);
    double there = 0.0;
    for (size_t run = 0; run < 10; run++) there += gn_steps((size_t)critical, 3.0, &rng) / 10.0;
    /* the noise scale rises from 9 at the start to 9 e^4 at the end; one number stands for the
     * way */
    CHECK(critical > 9.0 && critical < 9.0 * exp(4.0));
    for (size_t k = 0; k < 6; k++) {
        const double want = least * (1.0 + critical / batch[k]);
        CHECK_NEAR(steps[k], want, 0.15 * want);
    }
    CHECK_NEAR(there / least, 2.0, 0.3);
}

/* tr(S) / |G|^2 of a net of 64-16-10 on glyphs, at its start and after 100 steps: squared lengths
 * of 100 single gradients against that of a batch of 3000. */
static void gn_growth(double value[2], uint64_t seed) {
    enum { ONE = 100, BIG = 3000, BATCH = 64, P = 64 * 16 + 16 + 170 };
    static const size_t size[3] = {64, 16, 10};
    const llm_mlp net = {size, 2, LLM_ACTIVATION_TANH, LLM_OUTPUT_LAYER_SOFTMAX};
    llm_rng rng = llm_rng_seed(seed);
    llm_arena arena = {(unsigned char *)test_memory(1 << 21, 1), 1 << 21, 0, 0};
    float *w = floats(P), *g = floats(P), *x = floats(BIG * 64);
    int label[BIG];
    llm_mlp_init(w, &net, &rng);
    for (size_t t = 0; t <= 100; t++) {
        if (t % 100 == 0) {
            double small = 0.0;
            llm_glyphs(x, label, BIG, 1.0f, 0.3f, &rng);
            for (size_t n = 0; n < ONE; n++) {
                memset(g, 0, P * sizeof(float));
                llm_mlp_gradient(g, &net, w, x + n * 64, label + n, NULL, 1, &arena);
                small += dot(g, g, P) / ONE;
            }
            memset(g, 0, P * sizeof(float));
            llm_mlp_gradient(g, &net, w, x, label, NULL, BIG, &arena);
            value[t / 100] =
                llm_grad_noise_scale_value(llm_grad_noise_scale_pair(small, dot(g, g, P), 1, BIG));
        }
        llm_glyphs(x, label, BATCH, 1.0f, 0.3f, &rng);
        memset(g, 0, P * sizeof(float));
        llm_mlp_gradient(g, &net, w, x, label, NULL, BATCH, &arena);
        for (size_t i = 0; i < P; i++) w[i] -= 0.3f * g[i];
    }
}

TEST(grad_noise_scale, "the scale grows as a net learns") {
    for (uint64_t seed = 1; seed <= 3; seed++) { /* 24 further seeds: 3 to 22 times */
        double value[2];
        gn_growth(value, seed);
        CHECK(value[1] > 2.0 * value[0]);
    }
}

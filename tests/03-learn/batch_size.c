/* @batch_size */
#include "../test.h"

#include "../../llm.h"

TEST(batch_size, "the variance of a batch is exact: all batches of 8 examples, listed") {
    enum { n = 8, P = 3 };
    float g[n * P];
    double mean[P], mean_sq, trace, want_sq = 0.0;
    llm_rng rng = llm_rng_seed(1);
    llm_rng_normal_fill(&rng, g, n * P);
    for (size_t i = 0; i < n * P; i++) g[i] += 0.5f;
    mean_sq = trace = (double)NAN; /* not read */
    llm_batch_size_stats(&mean_sq, &trace, mean, g, n, P);
    for (size_t k = 0; k < P; k++) {
        double sum = 0.0;
        for (size_t i = 0; i < n; i++) sum += (double)g[i * P + k];
        CHECK_NEAR(mean[k], sum / n, 1e-12);
        want_sq += sum * sum / n / n;
    }
    CHECK_NEAR(mean_sq, want_sq, 1e-12);
    for (size_t B = 1; B <= n; B++) {
        double sum = 0.0, count = 0.0;
        for (unsigned set = 0; set < 1u << n;
             set++) { /* without replacement: all subsets of size B */
            double batch[P] = {0.0};
            size_t size = 0;
            for (size_t i = 0; i < n; i++)
                if (set >> i & 1u) {
                    size++;
                    for (size_t k = 0; k < P; k++) batch[k] += (double)g[i * P + k] / (double)B;
                }
            if (size != B) continue;
            for (size_t k = 0; k < P; k++) sum += pow(batch[k] - mean[k], 2.0);
            count += 1.0;
        }
        CHECK_NEAR(llm_batch_size_variance(trace, n, B, false), sum / count, 1e-12);
    }
    double pairs = 0.0; /* with replacement: all 64 pairs */
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++)
            for (size_t k = 0; k < P; k++)
                pairs += pow((double)(g[i * P + k] + g[j * P + k]) / 2.0 - mean[k], 2.0) / (n * n);
    CHECK_NEAR(llm_batch_size_variance(trace, n, 2, true), pairs, 1e-6);
    CHECK(llm_batch_size_variance(2.0, 1, 1, false) == 0.0 &&
          llm_batch_size_variance(2.0, 1, 4, true) == 0.5);
    CHECK_ASSERTS(llm_batch_size_variance(1.0, 4, 5, false));
    CHECK_ASSERTS(llm_batch_size_variance(1.0, 4, 0, true));
}

/* A small network and its per-example gradients at random weights. */
enum { BS_N = 60, BS_IN = 4 };
static const size_t bs_size[3] = {BS_IN, 6, 2};
static const llm_backprop bs_net = {bs_size, 2, LLM_BACKPROP_TANH, LLM_BACKPROP_XENT};
static void bs_world(float *x, float *y, float *w, llm_rng *rng) {
    llm_rng_normal_fill(rng, x, BS_N * BS_IN);
    for (size_t i = 0; i < BS_N; i++) {
        y[2 * i] = x[BS_IN * i] + 0.5f * llm_rng_normal(rng) > 0.0f ? 1.0f : 0.0f;
        y[2 * i + 1] = 1.0f - y[2 * i];
    }
    llm_backprop_init(w, &bs_net, 1.0f, rng);
}
static void bs_gradient(float *g, const float *x, const float *y, const float *w,
                        const size_t *index, size_t B) {
    float xs[BS_N * BS_IN], ys[BS_N * 2], a[BS_N * 8];
    llm_arena arena = {(unsigned char *)test_memory(1 << 14, 1), 1 << 14, 0, 0};
    memset(arena.memory, 255, arena.size); /* NaN */
    for (size_t b = 0; b < B; b++) {
        memcpy(xs + b * BS_IN, x + index[b] * BS_IN, BS_IN * sizeof(float));
        memcpy(ys + b * 2, y + index[b] * 2, 2 * sizeof(float));
    }
    llm_backprop_forward(a, &bs_net, w, xs, ys, B);
    llm_backprop_backward(g, NULL, a, &bs_net, w, xs, ys, B, &arena);
}

TEST(batch_size,
     "gradients of a network: batches of an epoch average to the whole, noise as predicted") {
    llm_rng rng = llm_rng_seed(2);
    const size_t P = llm_backprop_weights(&bs_net);
    float x[BS_N * BS_IN], y[BS_N * 2], *w = floats(P), *g = zeros(BS_N * P), *whole = zeros(P),
                                        *sum = zeros(P);
    double *mean = doubles(P), mean_sq, trace;
    size_t order[BS_N];
    bs_world(x, y, w, &rng);
    for (size_t i = 0; i < BS_N; i++) order[i] = i;
    bs_gradient(whole, x, y, w, order, BS_N);
    for (size_t i = 0; i < BS_N; i++) bs_gradient(g + i * P, x, y, w, &i, 1);
    llm_batch_size_stats(&mean_sq, &trace, mean, g, BS_N, P);
    llm_epoch_shuffle(order, BS_N, 3, 0);
    for (size_t b = 0; b < BS_N; b += 12) bs_gradient(sum, x, y, w, order + b, 12);
    for (size_t k = 0; k < P; k++) {
        CHECK_NEAR(sum[k] / 5.0f, whole[k], 1e-6);
        CHECK_NEAR(mean[k], whole[k], 1e-6);
    }
    /* drawn batches: variance times B is constant with replacement, and shrinks without */
    double small_sq = 0.0, big_sq = 0.0;
    for (size_t kind = 0; kind < 2; kind++)
        for (size_t B = 4; B <= 48; B += 44) {
            const size_t R = 3000;
            double spread = 0.0;
            for (size_t r = 0; r < R; r++) {
                double batch[64] = {0.0};
                llm_epoch_shuffle(order, BS_N, 4, r * 100 + B);
                for (size_t b = 0; b < B; b++) {
                    const size_t i = kind == 0 ? llm_rng_below(&rng, BS_N) : order[b];
                    for (size_t k = 0; k < P; k++) batch[k] += (double)g[i * P + k] / (double)B;
                }
                double length = 0.0;
                for (size_t k = 0; k < P; k++) {
                    spread += pow(batch[k] - mean[k], 2.0) / (double)R;
                    length += batch[k] * batch[k];
                }
                if (kind == 0 && B == 4) small_sq += length / (double)R;
                if (kind == 0 && B == 48) big_sq += length / (double)R;
            }
            const double want = llm_batch_size_variance(trace, BS_N, B, kind == 0);
            CHECK_NEAR(spread, want, 0.05 * want);
        }
    double got_sq, got_trace;
    llm_batch_size_noise(&got_sq, &got_trace, small_sq, 4, big_sq, 48);
    CHECK_NEAR(got_trace, trace, 0.1 * trace);
    CHECK_NEAR(got_sq, mean_sq, 0.1 * (mean_sq + trace / 48.0));
}

TEST(batch_size, "two lengths give signal and noise back exactly") {
    double mean_sq, trace;
    llm_batch_size_noise(&mean_sq, &trace, 3.0 + 8.0 / 2.0, 2, 3.0 + 8.0 / 16.0, 16);
    CHECK_NEAR(mean_sq, 3.0, 1e-12);
    CHECK_NEAR(trace, 8.0, 1e-12);
    llm_batch_size_noise(&mean_sq, &trace, 3.0 + 8.0, 1, 3.0 + 8.0 / 16.0, 16);
    CHECK_NEAR(mean_sq, 3.0, 1e-12);
    CHECK_ASSERTS(llm_batch_size_noise(&mean_sq, &trace, 1.0, 4, 1.0, 4));
}

TEST(batch_size,
     "steps halve with every doubling while noise rules, and stop falling when it does not") {
    enum { P = 10 };
    double h[P], c[P], start[P], square[P];
    size_t steps[17];
    for (size_t i = 0; i < P; i++) h[i] = pow(0.7, (double)i), c[i] = h[i], start[i] = 1.0;
    for (size_t k = 0; k <= 16; k++) {
        steps[k] = llm_batch_size_steps(h, c, start, square, P, (size_t)1 << k, 0.01, 100000);
        CHECK(k == 0 || steps[k] <= steps[k - 1]);
    }
    for (size_t k = 1; k <= 4; k++) CHECK((double)steps[k - 1] > 1.8 * (double)steps[k]);
    for (size_t k = 14; k <= 16; k++) CHECK((double)steps[k - 1] < 1.2 * (double)steps[k]);
    CHECK(steps[0] < 100000);
    /* examples = B steps: nearly flat at first, then proportional to B */
    CHECK((double)(16 * steps[4]) < 1.3 * (double)steps[0]);
    CHECK((double)steps[16] * 65536.0 > 3.5 * 16384.0 * (double)steps[14]);

    /* one dimension without noise: w^2 shrinks by (1 - lr h)^2; lr = 1/h ends at once */
    const double one[1] = {2.0}, quiet[1] = {0.0}, far[1] = {9.0};
    CHECK(llm_batch_size_steps(one, quiet, far, square, 1, 1, 1e-9, 50) == 1);
    CHECK(llm_batch_size_steps(one, quiet, far, square, 1, 1, 9.0, 50) == 0);
    const double loud[1] = {1e9};
    CHECK(llm_batch_size_steps(one, loud, far, square, 1, 1, 1e-9, 50) == 50);
}

TEST(batch_size,
     "predicted memory is the arena's high-water mark, and the largest batch just fits") {
    float x[BS_N * BS_IN], y[BS_N * 2], w[64];
    llm_rng rng = llm_rng_seed(5);
    bs_world(x, y, w, &rng);
    for (size_t N = 1; N <= BS_N; N += N < 20 ? 1 : 13) {
        llm_arena arena;
        CHECK(llm_arena_create(&arena, 1 << 16));
        llm_backprop_step(w, &bs_net, x, y, N, 0.1f, &arena);
        CHECK(llm_batch_size_bytes(&bs_net, N) == arena.peak);
        const size_t most = llm_batch_size_max(&bs_net, arena.peak);
        CHECK(most >= N && llm_batch_size_bytes(&bs_net, most) <= arena.peak);
        CHECK(llm_batch_size_bytes(&bs_net, most + 1) > arena.peak);
        llm_arena_destroy(&arena);
    }
    CHECK(llm_batch_size_max(&bs_net, 100) == 0 && llm_batch_size_max(&bs_net, 0) == 0);
}

TEST(batch_size, "ragged batches are averaged by their tokens") {
    const float mean[4] = {2.0f, 4.0f, NAN, 1.0f};
    const size_t tokens[4] = {10, 2, 0, 4};
    CHECK_NEAR(llm_batch_size_token_mean(mean, tokens, 4), 32.0 / 16.0, 1e-12);
    CHECK(fabs((2.0 + 4.0 + 1.0) / 3.0 - 2.0) > 0.3); /* what the mean of the means would be */
    CHECK(isnan(llm_batch_size_token_mean(mean, tokens + 2, 1)));
    const float two[2] = {1.0f, 2.0f};
    const size_t share[2] = {3, 1};
    CHECK(llm_batch_size_token_mean(two, share, 2) == 1.25);
}

TEST(batch_size, "the best constant step of a grid of factors sqrt(2), by hand; flat curvatures") {
    /* one direction, h = 1: E w^2 tends to lr c / (2 - lr), the rest shrinks by (1 - lr)^2.
     * Above 2^-1.5 the limit is too high; there 5 steps are enough, at 2^-2 it takes 6. */
    const double h[1] = {1.0}, c[1] = {0.2}, start[1] = {1.0}, quiet[1] = {0.0}, flat[1] = {0.25};
    double square[1];
    CHECK(llm_batch_size_steps(h, c, start, square, 1, 1, 0.03, 50) == 5);
    CHECK(llm_batch_size_steps(flat, quiet, start, square, 1, 1, 1e-9, 50) == 1); /* lr = 4 */
}

TEST(batch_size,
     "memory where the first layer, or the last, is the widest; sizes of 0 are refused") {
    static const size_t sizes[3][3] = {{40, 3, 2}, {2, 3, 40}, {2, 40, 3}};
    float x[40 * 7], y[40 * 7], w[512];
    double a, b;
    llm_rng rng = llm_rng_seed(6);
    llm_rng_normal_fill(&rng, x, 40 * 7);
    llm_rng_normal_fill(&rng, y, 40 * 7);
    for (size_t k = 0; k < 3; k++) {
        const llm_backprop net = {sizes[k], 2, LLM_BACKPROP_TANH, LLM_BACKPROP_XENT};
        llm_arena arena;
        CHECK(llm_arena_create(&arena, 1 << 16));
        llm_backprop_init(w, &net, 1.0f, &rng);
        llm_backprop_step(w, &net, x, y, 7, 0.1f, &arena);
        CHECK(llm_batch_size_bytes(&net, 7) == arena.peak);
        llm_arena_destroy(&arena);
    }
    CHECK_ASSERTS(llm_batch_size_variance(1.0, 0, 1, true));
    CHECK_ASSERTS(llm_batch_size_noise(&a, &b, 1.0, 0, 1.0, 4));
}

/* @perplexity */
#include "../test.h"

#include "../../llm.h"

TEST(perplexity, "equals torch's cross-entropy; ignored targets leave sum and count") {
    const int *target = as_ints(golden("torch/target"), 12);
    float *nll = golden("torch/nll");
    double nats = 0.0, tokens = 0.0;
    nll[2] = nll[7] = NAN; /* not read */
    llm_perplexity_add(&nats, &tokens, nll, target, 5);
    llm_perplexity_add(&nats, &tokens, nll + 5, target + 5, 7);
    CHECK(tokens == 10.0);
    /* the losses were rounded to float */
    CHECK_NEAR(nats, *golden("torch/nats"), 1e-5);
    CHECK_NEAR(llm_perplexity_from_nats(nats, tokens), *golden("torch/perplexity"), 1e-5);
    CHECK_NEAR(llm_perplexity_bits_per_byte(nats, 41.0), *golden("torch/bits"), 1e-6);
    llm_perplexity_add(&nats, &tokens, nll, NULL, 2);
    CHECK(tokens == 12.0);
    CHECK_NEAR(nats, (double)*golden("torch/nats") + (double)nll[0] + (double)nll[1], 1e-5);
}

TEST(perplexity, "uniform over V gives V, also over a million tokens") {
    enum { N = 1000000 };
    const double V = 50257.0;
    float *nll = floats(N);
    for (size_t i = 0; i < N; i++) nll[i] = logf((float)V);
    double nats = 0.0, tokens = 0.0;
    llm_perplexity_add(&nats, &tokens, nll, NULL, N);
    CHECK_NEAR(llm_perplexity_from_nats(nats, tokens) / V, 1.0, 5e-7); /* one float logarithm */
    CHECK_NEAR(llm_perplexity_bits_per_byte(nats, tokens * 4.0), log2(V) / 4.0, 1e-6);
}

TEST(perplexity, "a token of probability 0 makes it infinite, not NaN; nothing makes it NaN") {
    const float nll[3] = {1.0f, INFINITY, 2.0f};
    double nats = 0.0, tokens = 0.0;
    CHECK(isnan(llm_perplexity_from_nats(nats, tokens)));
    llm_perplexity_add(&nats, &tokens, nll, NULL, 3);
    CHECK(llm_perplexity_from_nats(nats, tokens) == (double)INFINITY);
    CHECK(llm_perplexity_bits_per_byte(nats, 3.0) == (double)INFINITY);
}

TEST(perplexity, "windows are those of Hugging Face's protocol") {
    size_t size = 0;
    const size_t *cases = as_sizes(golden_n(&size, "windows/cases"), 36);
    for (size_t i = 0; i < size; i += 3) {
        const size_t T = cases[i], context = cases[i + 1], stride = cases[i + 2];
        const size_t count = (size_t)*golden("windows/%zux%zux%zu/count", T, context, stride);
        const size_t *want =
            as_sizes(golden("windows/%zux%zux%zu/all", T, context, stride), 3 * count);
        llm_perplexity_window w;
        memset(&w, 0, sizeof w);
        for (size_t k = 0; k < count; k++) {
            CHECK(llm_perplexity_next(&w, T, context, stride));
            CHECK(w.begin == want[3 * k] && w.first == want[3 * k + 1] && w.end == want[3 * k + 2]);
        }
        CHECK(!llm_perplexity_next(&w, T, context, stride));
        CHECK(!llm_perplexity_next(&w, T, context, stride));
    }
    llm_perplexity_window w;
    memset(&w, 0, sizeof w);
    CHECK(!llm_perplexity_next(&w, 0, 4, 2));
    CHECK_ASSERTS(
        llm_perplexity_next(&w, 9, 4, 4)); /* the first of a window would have no context */
    CHECK_ASSERTS(llm_perplexity_next(&w, 9, 4, 0));
}

TEST(perplexity, "every token but the first is scored once, with the context that was promised") {
    for (size_t T = 0; T < 40; T++)
        for (size_t context = 2; context < 12; context++)
            for (size_t stride = 1; stride < context; stride++) {
                size_t times[40] = {0};
                llm_perplexity_window w;
                memset(&w, 0, sizeof w);
                while (llm_perplexity_next(&w, T, context, stride)) {
                    CHECK(w.begin < w.first && w.first < w.end && w.end <= T);
                    CHECK(w.end - w.begin <= context);
                    for (size_t t = w.first; t < w.end; t++) {
                        times[t]++;
                        CHECK(t - w.begin >= context - stride || w.begin == 0);
                    }
                }
                for (size_t t = 1; t < T; t++) CHECK(times[t] == 1);
                CHECK(times[0] == 0);
            }
}

/* A source over 3 letters whose next letter depends on the last three; law[c][x] for each context c
 * of three, and for each shorter one the law that follows when the rest is forgotten. */
enum { PPL_V = 3, PPL_ORDER = 3, PPL_STATES = 27 };
static double ppl_law[PPL_ORDER + 1][PPL_STATES][PPL_V], ppl_stationary[PPL_STATES];

static void ppl_source(uint64_t seed) {
    llm_rng rng = llm_rng_seed(seed);
    for (size_t c = 0; c < PPL_STATES; c++) {
        double sum = 0.0;
        for (size_t x = 0; x < PPL_V; x++)
            sum += ppl_law[3][c][x] = exp(1.5 * (double)llm_rng_normal(&rng));
        for (size_t x = 0; x < PPL_V; x++) ppl_law[3][c][x] /= sum;
        ppl_stationary[c] = 1.0 / PPL_STATES;
    }
    for (int turn = 0; turn < 2000; turn++) { /* p <- p P */
        double next[PPL_STATES] = {0};
        for (size_t c = 0; c < PPL_STATES; c++)
            for (size_t x = 0; x < PPL_V; x++)
                next[c % 9 * 3 + x] += ppl_stationary[c] * ppl_law[3][c][x];
        memcpy(ppl_stationary, next, sizeof next);
    }
    for (size_t known = 0; known < 3; known++) { /* average over the letters that are not known */
        const size_t states = known == 0 ? 1 : known == 1 ? 3 : 9;
        for (size_t c = 0; c < states; c++) {
            double mass = 0.0, sum[PPL_V] = {0};
            for (size_t full = c; full < PPL_STATES; full += states) {
                mass += ppl_stationary[full];
                for (size_t x = 0; x < PPL_V; x++)
                    sum[x] += ppl_stationary[full] * ppl_law[3][full][x];
            }
            for (size_t x = 0; x < PPL_V; x++) ppl_law[known][c][x] = sum[x] / mass;
        }
    }
}

static void ppl_text(int *ids, size_t T, llm_rng *rng) {
    size_t state = 0;
    for (size_t t = 0; t < T + 100; t++) { /* the first 100 forget the start */
        double u = (double)llm_rng_uniform(rng);
        int x = 0;
        while (x < PPL_V - 1 && u >= ppl_law[3][state][x]) u -= ppl_law[3][state][x++];
        state = state % 9 * 3 + (size_t)x;
        if (t >= 100) ids[t - 100] = x;
    }
}

/* Nats of ids[t] for a model that sees ids[begin .. t-1]. */
static float ppl_nats(const int *ids, size_t begin, size_t t) {
    const size_t known = t - begin < 3 ? t - begin : 3;
    size_t state = 0;
    for (size_t k = t - known; k < t; k++) state = state * 3 + (size_t)ids[k];
    return (float)-log(ppl_law[known][state][ids[t]]);
}

TEST(perplexity, "a source scored by its own law reaches the exponential of its entropy rate") {
    enum { T = 40000, DOCS = 200, EACH = T / DOCS };
    static int ids[T];
    for (uint64_t seed = 1; seed <= 3; seed++) {
        ppl_source(seed);
        double rate = 0.0, nats[DOCS], nats_all = 0.0, tokens = 0.0, spread = 0.0;
        for (size_t c = 0; c < PPL_STATES; c++)
            for (size_t x = 0; x < PPL_V; x++)
                rate -= ppl_stationary[c] * ppl_law[3][c][x] * log(ppl_law[3][c][x]);
        llm_rng rng = llm_rng_seed(100 + seed);
        for (size_t d = 0; d < DOCS; d++) {
            float nll[EACH - 3];
            double count = 0.0;
            ppl_text(ids, EACH, &rng);
            for (size_t t = 3; t < EACH; t++) nll[t - 3] = ppl_nats(ids, 0, t);
            nats[d] = 0.0;
            llm_perplexity_add(&nats[d], &count, nll, NULL, EACH - 3);
            nats_all += nats[d];
            tokens += count;
        }
        const double mean = nats_all / tokens;
        for (size_t d = 0; d < DOCS; d++)
            spread += (nats[d] / (EACH - 3) - mean) * (nats[d] / (EACH - 3) - mean) / (DOCS - 1);
        CHECK_NEAR(log(llm_perplexity_from_nats(nats_all, tokens)), rate,
                   3.0 * sqrt(spread / DOCS));
    }
}

TEST(perplexity, "windows that overlap more guess better, until the context suffices") {
    enum { T = 40000, CONTEXT = 6 };
    static int ids[T];
    for (uint64_t seed = 1; seed <= 3; seed++) {
        ppl_source(seed);
        llm_rng rng = llm_rng_seed(200 + seed);
        ppl_text(ids, T, &rng);
        double loss[CONTEXT];
        for (size_t stride = 1; stride < CONTEXT; stride++) {
            double nats = 0.0, tokens = 0.0;
            llm_perplexity_window w;
            memset(&w, 0, sizeof w);
            while (llm_perplexity_next(&w, T, CONTEXT, stride))
                for (size_t t = w.first; t < w.end; t++) {
                    const float nll = ppl_nats(ids, w.begin, t);
                    llm_perplexity_add(&nats, &tokens, &nll, NULL, 1);
                }
            CHECK(tokens == T - 1);
            loss[stride] = nats / tokens;
        }
        /* overlaps of 5 to 3 tokens hold all that matters. With 2, seeds 1 to 12 lose 0.034 to
         * 0.062 nats a token, with 1 another 0.039 to 0.066 */
        CHECK_NEAR(loss[1], loss[3], 1e-12);
        CHECK_NEAR(loss[2], loss[3], 1e-12);
        CHECK(loss[4] - loss[3] > 0.015 && loss[5] - loss[4] > 0.015);
    }
}

TEST(perplexity, "two ways to cut one text share its bits per byte, not its perplexity") {
    llm_rng rng = llm_rng_seed(5);
    double nats[2] = {0}, tokens[2] = {0};
    for (int i = 0; i < 3000; i++) { /* a token of 1 to 4 bytes: its loss is the sum of theirs */
        float bytes[4], whole = 0.0f;
        const size_t n = 1 + llm_rng_below(&rng, 4);
        for (size_t k = 0; k < n; k++) whole += bytes[k] = -logf(1.0f - llm_rng_uniform(&rng));
        llm_perplexity_add(&nats[0], &tokens[0], bytes, NULL, n);
        llm_perplexity_add(&nats[1], &tokens[1], &whole, NULL, 1);
    }
    const double a = llm_perplexity_bits_per_byte(nats[0], tokens[0]);
    CHECK_NEAR(llm_perplexity_bits_per_byte(nats[1], tokens[0]), a, 1e-6);
    CHECK(llm_perplexity_from_nats(nats[1], tokens[1]) >
          3.0 * llm_perplexity_from_nats(nats[0], tokens[0]));
    CHECK_NEAR(exp2(a), llm_perplexity_from_nats(nats[0], tokens[0]), 1e-12); /* one byte a token */
}

TEST(perplexity, "the interval: quantiles of means of drawn documents, as by hand") {
    enum { D = 7, DRAWS = 41 };
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 4096));
    const double nats[D] = {3, 10, 4, 8, 1, 20, 6}, tokens[D] = {2, 5, 2, 3, 1, 9, 4};
    const double levels[3] = {0.95, 0.5, 0.9};
    for (size_t l = 0; l < 3; l++) {
        float mean[DRAWS];
        size_t order[DRAWS];
        double low, high;
        llm_rng rng = llm_rng_seed(9), same = rng;
        for (size_t k = 0; k < DRAWS; k++) {
            double sum = 0.0, count = 0.0;
            for (size_t d = 0; d < D; d++) {
                const size_t pick = llm_rng_below(&same, D);
                sum += nats[pick], count += tokens[pick];
            }
            mean[k] = (float)(sum / count);
        }
        llm_argsort(order, mean, DRAWS);
        llm_perplexity_interval(&low, &high, nats, tokens, D, levels[l], DRAWS, &rng, &arena);
        /* the quantile q stands at place 40 q: 1 and 39, 10 and 30, 2 and 38 */
        const size_t at = l == 0 ? 1 : l == 1 ? 10 : 2;
        CHECK_NEAR(low, mean[order[at]], 1e-6);
        CHECK_NEAR(high, mean[order[40 - at]], 1e-6);
        rng = llm_rng_seed(9);
        llm_perplexity_interval(&low, &high, nats, tokens, D, 0.925, DRAWS, &rng, &arena);
        /* at 1.5, between the second and the third */
        CHECK_NEAR(low, 0.5 * (double)(mean[order[1]] + mean[order[2]]), 1e-6);
        CHECK_NEAR(high, 0.5 * (double)(mean[order[39]] + mean[order[38]]), 1e-6);
        CHECK(arena.used == 0 && arena.peak == 384); /* 41 doubles */
        rng = llm_rng_seed(9);
        llm_perplexity_interval(&low, &high, nats, tokens, D, 0.975, DRAWS, &rng, &arena);
        /* at 0.5 */
        CHECK_NEAR(low, 0.5 * (double)(mean[order[0]] + mean[order[1]]), 1e-6);
        CHECK_NEAR(high, 0.5 * (double)(mean[order[40]] + mean[order[39]]), 1e-6);
    }
    double low, high;
    llm_rng rng = llm_rng_seed(1);
    llm_perplexity_interval(&low, &high, nats, tokens, 1, 0.9, 1, &rng, &arena);
    CHECK(low == 1.5 && high == 1.5);
    CHECK_ASSERTS(llm_perplexity_interval(&low, &high, nats, tokens, 0, 0.9, 5, &rng, &arena));
    CHECK_ASSERTS(llm_perplexity_interval(&low, &high, nats, tokens, D, 0.9, 0, &rng, &arena));
    CHECK_ASSERTS(llm_perplexity_interval(&low, &high, nats, tokens, D, 1.0, 5, &rng, &arena));
    CHECK_ASSERTS(llm_perplexity_interval(&low, &high, nats, tokens, D, 0.0, 5, &rng, &arena));
    llm_arena_destroy(&arena);
}

TEST(perplexity, "intervals cover the truth as often as they say; pairs tell models apart") {
    enum { D = 60, WORLDS = 300 };
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 1 << 14));
    llm_rng rng = llm_rng_seed(3);
    size_t covered = 0, alone = 0, paired = 0;
    for (int world = 0; world < WORLDS; world++) {
        double a[D], b[D], difference[D], tokens[D], low, high, low_b, high_b;
        for (size_t d = 0; d < D; d++) { /* documents differ by 0.5 nats a token, models by 0.02 */
            const double hard = 3.0 + 0.5 * (double)llm_rng_normal(&rng);
            tokens[d] = 50.0 + (double)llm_rng_below(&rng, 100);
            a[d] = tokens[d] * (hard + 0.02 * (double)llm_rng_normal(&rng));
            b[d] = tokens[d] * (hard + 0.02 + 0.02 * (double)llm_rng_normal(&rng));
            difference[d] = b[d] - a[d];
        }
        llm_perplexity_interval(&low, &high, a, tokens, D, 0.9, 200, &rng, &arena);
        covered += low < 3.0 && 3.0 < high;
        llm_perplexity_interval(&low_b, &high_b, b, tokens, D, 0.9, 200, &rng, &arena);
        alone += low_b > high;
        llm_perplexity_interval(&low, &high, difference, tokens, D, 0.9, 200, &rng, &arena);
        paired += low > 0.0;
    }
    /* 0.9 of 300 are 270, with a standard deviation of 5.2; intervals of this kind are a little too
     * short when there are few documents: 258 to 273 with seeds 1 to 11 */
    CHECK(covered >= 245 && covered <= 286);
    CHECK(alone == 0); /* the same data, not paired, show no difference */
    CHECK(paired >=
          295); /* 0.02 is 5 standard deviations of the mean; 299 or 300 with seeds 1 to 11 */
    llm_arena_destroy(&arena);
}

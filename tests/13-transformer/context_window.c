/* @context_window */
#include "../test.h"

#include "../../llm.h"
#include "../arena.h"

static bool is(const int *ids, size_t n, const int *want, size_t size) {
    return n == size && memcmp(ids, want, size * sizeof(int)) == 0;
}

TEST(context_window, "a prompt that is too long loses its front, or its middle, or is refused") {
    const int text[10] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9};
    int ids[10];
    for (size_t context = 0; context <= 14; context++) {
        for (size_t max_new = 0; max_new <= 14; max_new++) {
            for (size_t keep = 0; keep <= 11; keep++) {
                for (size_t cut = 0; cut < 3; cut++) {
                    size_t n = 10, size = 0;
                    int want[10];
                    memcpy(ids, text, sizeof text);
                    const bool ok = llm_context_window_fit(ids, &n, context, max_new,
                                                           (llm_context_window_cut)cut, keep);
                    const size_t room = context > max_new ? context - max_new : 0;
                    const size_t head = cut == LLM_CONTEXT_WINDOW_MIDDLE ? keep : 0;
                    const bool cuts = cut != LLM_CONTEXT_WINDOW_REFUSE && room > head;
                    CHECK(ok == (room >= 10 || cuts));
                    if (room >= 10 || !ok) {
                        CHECK(is(ids, n, text, 10));
                        continue;
                    }
                    for (int t = 0; t < 10; t++) /* of room tokens, the first head and the last */
                        if ((size_t)t < head || (size_t)t + room >= 10 + head) want[size++] = t;
                    CHECK(size == room && is(ids, n, want, size));
                }
            }
        }
    }
}

TEST(context_window,
     "the oldest turns go, whole, the system's never; the last one stays or fails") {
    /* turns of 2 (system), 3, 1, 4 and 2 tokens */
    const size_t start[6] = {0, 2, 5, 6, 10, 12};
    const int text[12] = {90, 91, 10, 11, 12, 20, 30, 31, 32, 33, 40, 41};
    for (size_t room = 0; room <= 13; room++) {
        int ids[12];
        size_t n = 12;
        memcpy(ids, text, sizeof text);
        const bool ok = llm_context_window_turns(ids, &n, start, 5, 1, room);
        const size_t from = room >= 12 ? 2 : room >= 9 ? 5 : room >= 8 ? 6 : 10;
        CHECK(ok == (room >= 4));
        if (!ok) {
            CHECK(is(ids, n, text, 12));
            continue;
        }
        CHECK(ids[0] == 90 && ids[1] == 91 && is(ids + 2, n - 2, text + from, 12 - from));
    }
    int ids[12];
    size_t n = 12;
    memcpy(ids, text, sizeof text);
    CHECK(llm_context_window_turns(ids, &n, start, 5, 0, 6)); /* without a system part */
    CHECK(is(ids, n, text + 6, 6));
    n = 12;
    memcpy(ids, text, sizeof text);
    CHECK(llm_context_window_turns(ids, &n, start, 5, 4, 12)); /* all but the last are fixed */
    CHECK(is(ids, n, text, 12));
    CHECK(!llm_context_window_turns(ids, &n, start, 5, 4, 11));
    CHECK_ASSERTS(llm_context_window_turns(ids, &n, start, 5, 5, 12));
    n = 11;
    CHECK_ASSERTS(llm_context_window_turns(ids, &n, start, 5, 1, 12));
}

/* Two layers of Llama's form, or one, with random weights. */
enum { H = 4, HKV = 2, D = 6, CONTEXT = 17 };
static llm_decoder_only rotating(size_t layers, llm_rope_pairing pairing) {
    llm_decoder_only_config c;
    llm_decoder_only g;
    llm_error e;
    llm_rng rng = llm_rng_seed(7);
    c.vocab = 11, c.context = CONTEXT, c.layers = layers, c.tied = true, c.theta = 50.0f;
    c.block.width = 8, c.block.heads = H, c.block.kv_heads = HKV, c.block.head_size = D;
    c.block.hidden = 12, c.block.eps = 1e-5f, c.block.pairing = pairing;
    memset(&g, 0, sizeof g);
    CHECK(llm_decoder_only_create(&g, &c, 1, CONTEXT, &e));
    llm_decoder_only_init(&g, &rng);
    for (size_t i = 0; i < g.matrices; i++) g.w[i] *= 20.0f;
    return g;
}
/* The largest difference between the moved cache of layer l and that of the text without the
 * forgotten part, read anew. */
static double shift_error(size_t layers, size_t l, size_t keep, size_t drop,
                          llm_rope_pairing pairing) {
    llm_decoder_only g = rotating(layers, pairing);
    llm_rng rng = llm_rng_seed(2);
    llm_arena a = test_arena(256);
    float inv_freq[D / 2], k[HKV * (CONTEXT + 2) * D], v[HKV * (CONTEXT + 2) * D];
    int ids[CONTEXT];
    for (size_t t = 0; t < CONTEXT; t++) ids[t] = (int)llm_rng_below(&rng, 11);
    llm_rope_inv_freq(inv_freq, D, 50.0f);
    llm_decoder_only_forward(&g, ids, NULL, 1, CONTEXT);
    for (size_t h = 0; h < HKV; h++) { /* a cache with two places more, which stay as they are */
        float *kh = k + h * (CONTEXT + 2) * D, *vh = v + h * (CONTEXT + 2) * D;
        memcpy(kh, g.block[l].k + h * CONTEXT * D, CONTEXT * D * sizeof(float));
        memcpy(vh, g.block[l].v + h * CONTEXT * D, CONTEXT * D * sizeof(float));
        for (size_t i = CONTEXT * D; i < (CONTEXT + 2) * D; i++) kh[i] = vh[i] = 77.0f;
    }
    const size_t n = llm_context_window_shift(k, v, HKV, CONTEXT + 2, D, CONTEXT, keep, drop,
                                              inv_freq, D, pairing, &a);
    CHECK(n == CONTEXT - drop && a.used == 0);
    memmove(ids + keep, ids + keep + drop, (n - keep) * sizeof(int));
    llm_decoder_only_forward(&g, ids, NULL, 1, n);
    double worst = 0.0;
    for (size_t h = 0; h < HKV; h++) {
        const float *kh = k + h * (CONTEXT + 2) * D, *vh = v + h * (CONTEXT + 2) * D;
        for (size_t i = 0; i < n * D; i++) {
            CHECK(isfinite(kh[i]) && isfinite(vh[i]));
            worst = fmax(worst, fabs((double)kh[i] - (double)g.block[l].k[h * n * D + i]));
            worst = fmax(worst, fabs((double)vh[i] - (double)g.block[l].v[h * n * D + i]));
        }
        for (size_t i = CONTEXT * D; i < (CONTEXT + 2) * D; i++)
            CHECK(kh[i] == 77.0f && vh[i] == 77.0f);
    }
    llm_decoder_only_destroy(&g);
    return worst;
}

TEST(context_window, "one layer: a moved cache is that of the kept tokens, read anew") {
    const size_t parts[7][2] = {{0, 8}, {4, 6}, {1, 1}, {0, 17}, {5, 12}, {16, 1}, {3, 0}};
    for (size_t i = 0; i < 7; i++) {
        CHECK(shift_error(1, 0, parts[i][0], parts[i][1], LLM_ROPE_HALVES) < 1e-5);
        CHECK(shift_error(1, 0, parts[i][0], parts[i][1], LLM_ROPE_NEIGHBOURS) < 1e-5);
    }
}

TEST(context_window, "two layers: the first is, the second still tells of what is gone") {
    CHECK(shift_error(2, 0, 4, 6, LLM_ROPE_HALVES) < 1e-5);
    CHECK(shift_error(2, 1, 4, 6, LLM_ROPE_HALVES) > 0.1);
    CHECK(shift_error(2, 1, 17, 0, LLM_ROPE_HALVES) < 1e-5); /* nothing was forgotten */
}

TEST(context_window, "keys without a rotation move as they are; half of the rest is forgotten") {
    float k[5] = {0, 1, 2, 3, 4}, v[5] = {10, 11, 12, 13, 14};
    const float moved[5] = {0, 3, 4, 3, 4}, values[5] = {10, 13, 14, 13, 14};
    llm_arena a = test_arena(256);
    CHECK(llm_context_window_shift(k, v, 1, 5, 1, 5, 1, 2, NULL, 0, LLM_ROPE_HALVES, &a) == 3);
    CHECK_ALL_NEAR(k, moved, 5, 0.0f);
    CHECK_ALL_NEAR(v, values, 5, 0.0f);
    CHECK_ASSERTS(llm_context_window_shift(k, v, 1, 5, 1, 3, 2, 2, NULL, 0, LLM_ROPE_HALVES, &a));
    CHECK_ASSERTS(llm_context_window_shift(k, v, 1, 5, 1, 6, 2, 2, NULL, 0, LLM_ROPE_HALVES, &a));
    const size_t most = INT_MAX; /* of no heads: places in an int, and all the scratch there is */
    CHECK(llm_context_window_shift(k, v, 0, most, 64, most, 0, most, NULL, 64, LLM_ROPE_HALVES,
                                   &a) == 0);
    CHECK(llm_context_window_drop(4096, 4) == 2046 && llm_context_window_drop(7, 0) == 3);
    CHECK(llm_context_window_drop(5, 5) == 0 && llm_context_window_drop(5, 6) == 0);
}

TEST(context_window, "costs: the cache of a Llama 2 7B, and the products counted one by one") {
    /* 32 layers, 32 heads of 128, two bytes: half a mebibyte a token, 2 GiB for 4096 */
    const llm_context_window_budget b = llm_context_window_cost(32, 32, 32, 128, 4096, 2);
    CHECK(b.cache_bytes == 2147483648.0);
    const llm_context_window_budget c = llm_context_window_cost(3, 4, 2, 5, 7, 4);
    double prompt = 0.0, step = 0.0, bytes = 0.0;
    for (size_t l = 0; l < 3; l++) {
        bytes += 2 * 7 * 2 * 5 * 4; /* keys and values, tokens, heads, numbers, bytes */
        for (size_t h = 0; h < 4; h++)
            for (size_t t = 0; t < 7; t++)
                for (size_t j = 0; j <= t; j++) {
                    prompt += 2 * 5 + 2 * 5;
                    step += t == 6 ? 2 * 5 + 2 * 5 : 0;
                }
    }
    CHECK(c.cache_bytes == bytes && c.prompt_flops == prompt && c.step_flops == step);
}

/* The logit of token v behind a text is the sum of weight[d] over the distances d at which v
 * stands. */
enum { V = 4 };
static void weighed(void *context, float *logits, const int *ids, size_t rows, size_t t) {
    const float *weight = (const float *)context;
    for (size_t i = 0; i < rows * t; i++) {
        for (size_t v = 0; v < V; v++) logits[i * V + v] = 0.0f;
        for (size_t d = 0; d <= i % t; d++) logits[i * V + (size_t)ids[i - d]] += weight[d];
    }
}

static void two_weighed(void *context, float *logits, const int *ids, size_t rows, size_t t) {
    const float *weight = (const float *)context;
    for (size_t i = 0; i < rows * t; i++) {
        logits[2 * i] = logits[2 * i + 1] = 0.0f;
        for (size_t d = 0; d <= i % t; d++) logits[2 * i + (size_t)ids[i - d]] += weight[d];
    }
}

TEST(context_window, "the loss by position is that of each place, and its mean the total loss") {
    enum { T = 6, ROWS = 7 };
    float weight[T] = {0.5f, 1.0f, -0.7f, 0.2f, 0.0f, 1.5f}, lp[ROWS * T];
    llm_causal_lm m;
    m.V = V, m.B = 3, m.T = T, m.context = weight, m.logits = weighed;
    llm_arena a = test_arena(1 << 14);
    llm_rng rng = llm_rng_seed(6);
    int ids[ROWS * T];
    double nats[T], want[T] = {0};
    for (size_t i = 0; i < ROWS * T; i++) ids[i] = (int)llm_rng_below(&rng, V);
    llm_context_window_curve(nats, &m, ids, ROWS, T, &a);
    m.B = ROWS;
    llm_causal_lm_score(lp, &m, ids, ROWS, T, &a);
    for (size_t i = 0; i < ROWS * T; i++) want[i % T] -= (double)lp[i] / ROWS;
    for (size_t t = 0; t < T; t++) CHECK_NEAR(nats[t], want[t], 1e-9);
    CHECK(nats[0] == 0.0 && nats[1] > 0.1 && a.used == 0);
    /* place 1 by hand: e^0.5 for the token before, 1 for the three others */
    double first = 0.0;
    for (size_t r = 0; r < ROWS; r++)
        first += log(exp(0.5) + 3.0) - (ids[r * T + 1] == ids[r * T] ? 0.5 : 0.0);
    CHECK_NEAR(nats[1], first / ROWS, 1e-6);
}

TEST(context_window,
     "the reach is the change of the distribution at the end, distance by distance") {
    enum { T = 5 };
    /* a text of zeros: z_0 = the sum w of all weights. A changed token at distance d moves its
     * weight to another one; all three others are alike */
    float weight[T] = {1.0f, 0.0f, 2.0f, 0.0f, -0.5f};
    const int ids[2 * T] = {0};
    llm_causal_lm m;
    m.V = V, m.B = 1, m.T = T, m.context = weight, m.logits = weighed;
    llm_arena a = test_arena(1 << 14);
    llm_rng rng = llm_rng_seed(6);
    double *effect = doubles(T);
    llm_context_window_reach(effect, &m, ids, 2, T, &rng, &a);
    CHECK(a.used == 0);
    for (size_t d = 0; d < T; d++) {
        const double w = (double)weight[d], z0 = exp(2.5), z = z0 + 3.0, y0 = exp(2.5 - w);
        const double y = y0 + exp(w) + 2.0;
        const double change =
            fabs(y0 / y - z0 / z) + fabs(exp(w) / y - 1.0 / z) + 2.0 * fabs(1.0 / y - 1.0 / z);
        CHECK_NEAR(effect[d], 0.5 * change, 1e-6);
    }
    const double all = effect[0] + effect[2] + effect[4];
    CHECK(llm_context_window_effective(effect, T, 0.99 * effect[0] / all) == 1);
    CHECK(llm_context_window_effective(effect, T, 1.01 * effect[0] / all) == 3);
    CHECK(llm_context_window_effective(effect, T, 0.9999) == 5);
    CHECK(llm_context_window_effective(effect, T, 0.0) == 0);
    CHECK(llm_context_window_effective(effect, T, 2.0) == T);
    CHECK_ASSERTS(llm_context_window_reach(effect, &m, ids, 2, 0, &rng, &a));
    m.V = 1;
    CHECK_ASSERTS(llm_context_window_reach(effect, &m, ids, 2, T, &rng, &a));
}

TEST(context_window, "of two tokens the other one is tried at each place of each row") {
    enum { T = 4, ROWS = 6 };
    float weight[T] = {1.0f, -0.3f, 2.0f, 0.7f};
    llm_causal_lm m;
    m.V = 2, m.B = 1, m.T = T, m.context = weight, m.logits = two_weighed;
    llm_arena a = test_arena(1 << 12);
    llm_rng rng = llm_rng_seed(1);
    int ids[ROWS * T];
    double *effect = doubles(T), *want = doubles(T);
    for (size_t i = 0; i < ROWS * T; i++) ids[i] = (int)llm_rng_below(&rng, 2);
    for (size_t size = 1; size <= T; size++) {
        for (size_t d = 0; d < size; d++) want[d] = 0.0;
        for (size_t i = 0; i < ROWS * size; i++) {
            const size_t r = i / size, d = i % size;
            int row[T];
            float z[T * 2];
            double p[2];
            memcpy(row, ids + r * size, size * sizeof(int));
            for (size_t k = 0; k < 2; k++) { /* p(1) = 1 / (1 + e^(z0 - z1)), before and behind */
                two_weighed(weight, z, row, 1, size);
                p[k] = 1.0 / (1.0 + exp((double)z[2 * size - 2] - (double)z[2 * size - 1]));
                row[size - 1 - d] = 1 - row[size - 1 - d];
            }
            want[d] += fabs(p[1] - p[0]) / ROWS;
        }
        llm_context_window_reach(effect, &m, ids, ROWS, size, &rng, &a);
        for (size_t d = 0; d < size; d++) CHECK_NEAR(effect[d], want[d], 1e-6);
    }
}

/* One of tokens 0 to 2 stands among 3s to 5s; behind the question 6 it has to be said. */
enum { WINDOW = 13, LONG = 24, TOKENS = 7 };
static int question(int *ids, size_t n, size_t distance, llm_rng *rng) {
    for (size_t t = 0; t + 1 < n; t++) ids[t] = 3 + (int)llm_rng_below(rng, 3);
    ids[n - 1] = 6;
    return ids[n - 1 - distance] = (int)llm_rng_below(rng, 3);
}

TEST(context_window, "what stands in the window is found at every distance, beyond it nothing is; "
                     "with a kept head also there") {
    enum { B = 32, STEPS = 150, N = 400 };
    llm_gpt2_config c = llm_gpt2_defaults();
    llm_gpt2 g;
    llm_error e;
    llm_rng rng = llm_rng_seed(1);
    llm_arena a = test_arena(1 << 14);
    llm_adamw_config adamw = llm_adamw_defaults();
    memset(&g, 0, sizeof g);
    c.vocab = TOKENS, c.context = WINDOW, c.layers = 1, c.heads = 2, c.width = 16, c.hidden = 16;
    adamw.lr = 1e-2f, adamw.beta2 = 0.95f;
    CHECK(llm_gpt2_create(&g, &c, B, WINDOW, &e));
    llm_gpt2_init(&g, &rng);
    int ids[B * WINDOW];
    bool asked[B * WINDOW];
    for (size_t step = 1; step <= STEPS; step++) {
        for (size_t b = 0; b < B; b++) {
            int *row = ids + b * WINDOW;
            row[WINDOW - 1] = question(row, WINDOW - 1, 1 + llm_rng_below(&rng, WINDOW - 2), &rng);
        }
        for (size_t i = 0; i < B * WINDOW; i++) asked[i] = i % WINDOW == WINDOW - 1;
        llm_causal_lm_gpt2_step(&g, ids, asked, B, WINDOW, &adamw, step, &a);
    }
    const size_t keep = 4, read = WINDOW - 1;
    for (size_t cut = LLM_CONTEXT_WINDOW_TAIL; cut <= LLM_CONTEXT_WINDOW_MIDDLE; cut++) {
        for (size_t d = 1; d < LONG; d++) {
            const size_t head = cut == LLM_CONTEXT_WINDOW_MIDDLE ? keep : 0;
            const bool seen = d < read - head || LONG - 1 - d < head;
            size_t right = 0;
            for (size_t i = 0; i < N; i++) {
                int text[LONG];
                size_t n = LONG, best = 0;
                const int answer = question(text, LONG, d, &rng);
                CHECK(
                    llm_context_window_fit(text, &n, WINDOW, 1, (llm_context_window_cut)cut, head));
                CHECK(n == read);
                llm_gpt2_forward(&g, text, NULL, 1, n);
                const float *z = g.logits + (n - 1) * TOKENS;
                for (size_t v = 1; v < TOKENS; v++) best = z[v] > z[best] ? v : best;
                right += (int)best == answer;
            }
            if (seen) CHECK(right > 0.98 * N);
            if (!seen) CHECK_NEAR((double)right / N, 1.0 / 3.0, 4.0 * sqrt(2.0 / 9.0 / N));
        }
    }
    llm_gpt2_destroy(&g);
}

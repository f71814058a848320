/* @gpt2_decode */
#include "../test.h"

#include "../../llm.h"

enum { V = 7, T = 12 };

/* The golden model, for batches of one row when it is to run forward too. */
static llm_gpt2 golden_model(bool forward) {
    llm_gpt2 g;
    llm_error e;
    llm_gpt2_config c = llm_gpt2_defaults();
    c.vocab = V, c.context = T, c.layers = 2, c.heads = 2, c.width = 6, c.hidden = 8;
    CHECK(llm_gpt2_create(&g, &c, forward ? 1 : 0, T, &e));
    memcpy(g.w, golden("greedy/weights"), g.count * sizeof(float));
    return g;
}

TEST(gpt2_decode, "greedy tokens and the logits of every step equal transformers' generate") {
    llm_gpt2 g = golden_model(false);
    const int *want = as_ints(golden("greedy/tokens"), T);
    const float *logits = golden("greedy/logits");
    for (size_t chunk = 1; chunk <= 4; chunk++) { /* the prompt in passes of 1, 2, 3 and 4 tokens */
        llm_gpt2_decode_state d;
        llm_error e;
        int ids[T];
        CHECK(llm_gpt2_decode_create(&d, &g, chunk, &e));
        llm_gpt2_decode(&d, want, 3);
        for (size_t t = 3; t < T; t++) {
            CHECK_ALL_NEAR(d.logits, logits + (t - 1) * V, V, 1e-5f);
            llm_gpt2_decode(&d, want + t, 1);
        }
        CHECK_ALL_NEAR(d.logits, logits + (T - 1) * V, V, 1e-5f);
        CHECK_ASSERTS((llm_gpt2_decode(&d, want, 1), 0)); /* the context is full */

        llm_rng rng = llm_rng_seed(1);
        memcpy(ids, want, 3 * sizeof(int));
        CHECK(llm_gpt2_decode_text(&d, ids, 3, T - 3, -1, 0.0f, 0, 1.0f, &rng) == T - 3);
        for (size_t t = 0; t < T; t++) CHECK(ids[t] == want[t]);
        CHECK(d.memory.peak <= d.memory.size);
        llm_gpt2_decode_destroy(&d);
    }
    llm_gpt2_destroy(&g);
}

TEST(gpt2_decode, "any split of a text into passes gives the logits of one whole forward pass") {
    llm_gpt2 g = golden_model(true);
    const int *ids = as_ints(golden("greedy/tokens"), T);
    llm_gpt2_forward(&g, ids, NULL, 1, T);
    for (size_t first = 1; first < T; first++) {
        llm_gpt2_decode_state d;
        llm_error e;
        CHECK(llm_gpt2_decode_create(&d, &g, T, &e));
        llm_gpt2_decode(&d, ids, first);
        CHECK_ALL_NEAR(d.logits, g.logits + (first - 1) * V, V, 1e-5f);
        llm_gpt2_decode(&d, ids + first, T - first);
        CHECK_ALL_NEAR(d.logits, g.logits + (T - 1) * V, V, 1e-5f);
        llm_gpt2_decode_destroy(&d);
    }
    llm_gpt2_destroy(&g);
}

TEST(gpt2_decode, "a full context keeps its newer half, and goes on from there as if it were all") {
    enum { MORE = 3 };
    llm_gpt2 g = golden_model(true);
    llm_gpt2_decode_state d;
    llm_error e;
    llm_rng rng = llm_rng_seed(1);
    int ids[T + MORE];
    memcpy(ids, as_ints(golden("greedy/tokens"), T), T * sizeof(int));
    CHECK(llm_gpt2_decode_create(&d, &g, 4, &e));
    llm_gpt2_decode_text(&d, ids, T, MORE, -1, 0.0f, 0, 1.0f, &rng); /* the first of them fits */
    for (size_t n = T; n < T + MORE; n++) {
        const size_t start = n == T ? 0 : T + 1 - T / 2; /* T + 1 tokens do not fit: T/2 stay */
        llm_gpt2_forward(&g, ids + start, NULL, 1, n - start);
        CHECK(ids[n] == llm_greedy_pick(g.logits + (n - start - 1) * V, V));
    }
    CHECK(d.cache.length[0] == T / 2 + MORE - 2);
    llm_gpt2_decode_destroy(&d);
    llm_gpt2_destroy(&g);
}

TEST(gpt2_decode, "generation ends behind the stop token; a long prompt keeps its end") {
    llm_gpt2 g = golden_model(true);
    llm_gpt2_decode_state d;
    llm_error e;
    llm_rng rng = llm_rng_seed(1);
    const int *want = as_ints(golden("greedy/tokens"), T);
    int ids[3 * T], first = 3;
    while (want[first] == want[3]) first++; /* the first token that is not the first one chosen */
    memcpy(ids, want, 3 * sizeof(int));
    CHECK(llm_gpt2_decode_create(&d, &g, 4, &e));
    CHECK(llm_gpt2_decode_text(&d, ids, 3, T - 3, want[first], 0.0f, 0, 1.0f, &rng) ==
          (size_t)first - 2);
    CHECK(ids[first] == want[first]);

    for (size_t i = 0; i < 3 * T; i++) ids[i] = (int)(i * i % V);
    llm_gpt2_forward(&g, ids + 2 * T + 1 - T / 2, NULL, 1, T / 2);
    llm_gpt2_decode_text(&d, ids, 2 * T + 1, 1, -1, 0.0f, 0, 1.0f, &rng);
    CHECK(ids[2 * T + 1] == llm_greedy_pick(g.logits + (T / 2 - 1) * V, V));
    llm_gpt2_decode_destroy(&d);
    llm_gpt2_destroy(&g);
}

TEST(gpt2_decode, "temperature, top-k and top-p act on the choice and leave the logits alone") {
    enum { DRAWS = 4000 };
    llm_gpt2 g = golden_model(false);
    llm_gpt2_decode_state d;
    llm_error e;
    llm_rng rng = llm_rng_seed(3);
    const int id = 2;
    float before[V];
    CHECK(llm_gpt2_decode_create(&d, &g, 1, &e));
    llm_gpt2_decode(&d, &id, 1);
    memcpy(before, d.logits, sizeof before);
    const struct {
        float temp, p;
        size_t k;
    } settings[] = {
        {1.0f, 1.0f, 0}, {0.5f, 1.0f, 0}, {1.0f, 1.0f, 3}, {2.0f, 0.6f, 0}, {1.0f, 0.8f, 2}};
    for (size_t s = 0; s < 5; s++) {
        /* in doubles, by sorting: temperature, the k largest, the prefix that reaches p */
        double prob[V], kept = 0.0, sum = 0.0, mass = 0.0;
        size_t order[V], count[V] = {0}, keep = settings[s].k ? settings[s].k : V, n = 0;
        for (size_t i = 0; i < V; i++) order[i] = i;
        for (size_t i = 0; i < V; i++)
            for (size_t j = i + 1; j < V; j++)
                if (before[order[j]] > before[order[i]]) {
                    const size_t t = order[i];
                    order[i] = order[j], order[j] = t;
                }
        for (size_t i = 0; i < keep; i++) {
            prob[i] = exp((double)(before[order[i]] - before[order[0]]) / (double)settings[s].temp);
            sum += prob[i];
        }
        while (n < keep && mass < (double)settings[s].p - 1e-9) mass += prob[n++] / sum;
        for (size_t i = 0; i < n; i++) kept += prob[i];
        for (size_t i = 0; i < DRAWS; i++) {
            const int drawn =
                llm_gpt2_decode_pick(&d, settings[s].temp, settings[s].k, settings[s].p, &rng);
            count[drawn]++;
        }
        for (size_t i = 0; i < V; i++) {
            const double want = i < n ? prob[i] / kept : 0.0;
            const double sigma = sqrt(want * (1.0 - want) / DRAWS);
            CHECK_NEAR((double)count[order[i]] / DRAWS, want, 4.5 * sigma);
        }
    }
    CHECK(memcmp(before, d.logits, sizeof before) == 0);
    llm_gpt2_decode_destroy(&d);
    llm_gpt2_destroy(&g);
}

TEST(gpt2_decode, "a NaN among the logits is no token at any temperature, and ends the text") {
    const float temps[3] = {0.0f, 0.7f, 1.0f};
    for (size_t k = 0; k < 3; k++) {
        llm_gpt2 g = golden_model(false);
        llm_gpt2_decode_state d;
        llm_error e;
        llm_rng rng = llm_rng_seed(1);
        int ids[4] = {2, -7, -7, -7};
        CHECK(llm_gpt2_decode_create(&d, &g, 2, &e));
        llm_gpt2_decode(&d, ids, 1);
        d.logits[k * 3] = NAN; /* first, in the middle, last */
        CHECK(llm_gpt2_decode_pick(&d, temps[k], 0, 1.0f, &rng) == -1);
        CHECK(llm_gpt2_decode_pick(&d, temps[k], 3, 0.9f, &rng) == -1);
        for (size_t i = 0; i < V; i++) d.logits[i] = -INFINITY;
        CHECK(llm_gpt2_decode_pick(&d, temps[k], 2, 0.5f, &rng) == -1);
        g.w[g.count - 1] = NAN; /* a bias of the last norm */
        CHECK(llm_gpt2_decode_text(&d, ids, 1, 3, -1, temps[k], 0, 1.0f, &rng) == 0);
        CHECK(ids[1] == -7);
        llm_gpt2_decode_destroy(&d);
        llm_gpt2_destroy(&g);
    }
}

TEST(gpt2_decode, "a state starts empty, a text anew; one token is a text; k = 1 is the largest") {
    llm_gpt2 g = golden_model(false);
    llm_gpt2_decode_state d;
    llm_error e;
    llm_rng rng = llm_rng_seed(1);
    const int *want = as_ints(golden("greedy/tokens"), T);
    int ids[T], other[T] = {(want[0] + 1) % V, (want[1] + 1) % V};
    memset(&d, 0x55, sizeof d);
    CHECK(llm_gpt2_decode_create(&d, &g, T, &e));
    const int first = llm_gpt2_decode_next(&d, other, 1, 0.0f, 0, 1.0f, &rng);
    CHECK(first == llm_greedy_pick(d.logits, V) && d.seen == 1);
    for (size_t i = 0; i < 50; i++)
        CHECK(llm_gpt2_decode_pick(&d, 1.0f, 1, 1.0f, &rng) == llm_greedy_pick(d.logits, V));
    CHECK_ASSERTS(llm_gpt2_decode_next(&d, other, 0, 0.0f, 0, 1.0f, &rng));
    llm_gpt2_decode_next(&d, other, 2, 0.0f, 0, 1.0f, &rng);
    CHECK_ASSERTS(llm_gpt2_decode_next(&d, other, 1, 0.0f, 0, 1.0f, &rng)); /* more was seen */
    memcpy(ids, want, 3 * sizeof(int));
    CHECK(llm_gpt2_decode_text(&d, ids, 3, T - 3, -1, 0.0f, 0, 1.0f, &rng) == T - 3);
    CHECK(memcmp(ids, want, sizeof ids) == 0);
    d.cache.length[0] = d.seen = 0;
    llm_gpt2_decode(&d, want, T);
    llm_gpt2_decode_pick(&d, 1.0f, 0, 0.5f, &rng);
    llm_gpt2_decode_destroy(&d);
    CHECK_ASSERTS(llm_gpt2_decode_create(&d, &g, 0, &e));
    llm_gpt2_destroy(&g);
}

/* A model of one block: vocab, context, heads, width, hidden. */
static llm_gpt2 small_model(const size_t *size, float spread, bool forward) {
    llm_gpt2 g;
    llm_error e;
    llm_gpt2_config c = llm_gpt2_defaults();
    c.vocab = size[0], c.context = size[1], c.layers = 1, c.heads = size[2];
    c.width = size[3], c.hidden = size[4];
    CHECK(llm_gpt2_create(&g, &c, forward ? 1 : 0, c.context, &e));
    llm_rng rng = llm_rng_seed(1);
    llm_rng_normal_fill(&rng, g.w, g.count);
    for (size_t i = 0; i < g.count; i++) g.w[i] *= spread;
    return g;
}

TEST(gpt2_decode, "the memory is that of reading or choosing, each part rounded up to 64 bytes") {
    /* even sizes that waste most; odd ones that waste nearly nothing; choosing that needs more */
    const size_t size[3][5] = {{16, 32, 2, 16, 32}, {17, 17, 1, 17, 17}, {4096, 16, 2, 4, 8}};
    const size_t chunk[3] = {32, 1, 2};
    for (size_t i = 0; i < 3; i++) {
        llm_gpt2 g = small_model(size[i], 0.5f, false);
        llm_gpt2_decode_state d;
        llm_error e;
        llm_rng rng = llm_rng_seed(1);
        int ids[32];
        for (size_t t = 0; t < size[i][1]; t++) ids[t] = (int)(t % size[i][0]);
        CHECK(llm_gpt2_decode_create(&d, &g, chunk[i], &e));
        llm_gpt2_decode(&d, ids, size[i][1]);
        CHECK(llm_gpt2_decode_pick(&d, 1.0f, 3, 0.5f, &rng) >= 0);
        CHECK(d.memory.size - d.memory.peak <= 7 * 64);
        llm_gpt2_decode_destroy(&d);
        llm_gpt2_destroy(&g);
    }
}

TEST(gpt2_decode, "an odd context keeps the larger half; a text that is read is not read again") {
    enum { N = 5 };
    const size_t size[5] = {7, N, 1, 4, 6};
    llm_gpt2 g = small_model(size, 0.5f, true);
    llm_gpt2_decode_state d;
    llm_error e;
    const int ids[N + 1] = {3, 1, 4, 1, 5, 2};
    CHECK(llm_gpt2_decode_create(&d, &g, 2, &e));
    CHECK_ASSERTS(llm_gpt2_decode_follow(&d, ids, 0));
    for (size_t again = 0; again < 2; again++) {
        llm_gpt2_decode_follow(&d, ids, N);
        CHECK(d.cache.length[0] == N && d.seen == N);
    }
    llm_gpt2_decode_follow(&d, ids, N + 1);
    CHECK(d.cache.length[0] == 3 && d.seen == N + 1);
    llm_gpt2_forward(&g, ids + 3, NULL, 1, 3);
    CHECK_ALL_NEAR(d.logits, g.logits + 2 * 7, 7, 1e-5f);
    llm_gpt2_decode_destroy(&d);
    llm_gpt2_destroy(&g);
}

TEST(gpt2_decode, "token 0 is a token: a model that finds all alike says nothing else") {
    const size_t size[5] = {7, 8, 1, 4, 6};
    llm_gpt2 g = small_model(size, 0.0f, false);
    llm_gpt2_decode_state d;
    llm_error e;
    llm_rng rng = llm_rng_seed(1);
    int ids[6] = {5, -1, -1, -1, -1, -1};
    CHECK(llm_gpt2_decode_create(&d, &g, 2, &e));
    CHECK(llm_gpt2_decode_text(&d, ids, 1, 5, -1, 0.0f, 0, 1.0f, &rng) == 5);
    for (size_t t = 1; t < 6; t++) CHECK(ids[t] == 0);
    llm_gpt2_decode_destroy(&d);
    llm_gpt2_destroy(&g);
}

/* @stochastic_beam */
#include "../test.h"

#include "../../llm.h"

#include "../arena.h"
#include "../tiny_beam.h"

enum { V = 3, T = 3, STOP = 0, MOST = 40 };
static size_t stochastic_up(size_t bytes) { return (bytes + 63) / 64 * 64; }

typedef struct {
    llm_stochastic_beam s;
    llm_arena arena;
    size_t kept;
    tiny_beam memory;
    llm_beam_search_model model;
} stochastic_world;

/* On exactly the memory that the comments ask for. */
static stochastic_world *stochastic_make(size_t k, const float *table) {
    stochastic_world *w = (stochastic_world *)test_memory(1, sizeof *w);
    const size_t kept = 2 * stochastic_up(k * T * 4) + 2 * stochastic_up(k * 8) +
                        2 * stochastic_up(k * 4) + stochastic_up(k);
    const size_t run =
        2 * stochastic_up(k * V * 4) + stochastic_up(k * 4) + 2 * stochastic_up(k * 8);
    const size_t advance =
        2 * stochastic_up((k * V + k) * 4) + stochastic_up(2 * k * 4) + 2 * stochastic_up(k * 8);
    w->arena = test_arena(kept + run + advance);
    llm_stochastic_beam_create(&w->s, k, T, &w->arena);
    CHECK(w->arena.used == kept && w->s.count == 0);
    w->kept = kept;
    w->model = tiny_beam_model(&w->memory, table, V);
    w->model.model.capacity = 1 + T;
    return w;
}
static void stochastic_draw(stochastic_world *w, llm_rng *rng) {
    const int prompt = 1;
    memset(w->memory.state, 0, w->s.k * sizeof *w->memory.state);
    llm_stochastic_beam_run(&w->s, &prompt, 1, &w->model, STOP, rng, &w->arena);
    CHECK(w->arena.used == w->kept);
}

/* All texts that end with the stop token or have T tokens, as numbers to the base V + 1, and their
 * probabilities. */
static size_t stochastic_texts(size_t *name, double *p, const float *table) {
    size_t count = 0;
    int ids[T] = {0};
    for (size_t code = 0; code < 27; code++) {
        ids[0] = (int)(code / 9), ids[1] = (int)(code / 3 % 3), ids[2] = (int)(code % 3);
        size_t length = 0, number = 0;
        while (length < T && ids[length] != STOP) length++;
        length += length < T;
        bool rest = true; /* each text once: zeros behind its end */
        for (size_t t = length; t < T; t++) rest = rest && ids[t] == 0;
        if (!rest) continue;
        for (size_t t = 0; t < length; t++) number = number * (V + 1) + (size_t)ids[t] + 1;
        name[count] = number;
        p[count++] = exp(tiny_beam_logp(table, V, 1, ids, length));
    }
    return count;
}
static size_t stochastic_find(const size_t *name, size_t count, const llm_stochastic_beam *s,
                              size_t b) {
    size_t number = 0;
    for (size_t t = 0; t < s->length[b]; t++)
        number = number * (V + 1) + (size_t)s->ids[b * T + t] + 1;
    size_t at = 0;
    while (at < count && name[at] != number) at++;
    CHECK(at < count);
    return at;
}

TEST(stochastic_beam, "pairs of texts have the law of drawing without replacement: chi-square") {
    enum { RUNS = 60000 };
    const float *table = tiny_beam_table(3, V, 0.7f);
    size_t name[MOST];
    double p[MOST], sum = 0.0, chi = 0.0, single = 0.0;
    const size_t count = stochastic_texts(name, p, table);
    for (size_t i = 0; i < count; i++) sum += p[i];
    CHECK_NEAR(sum, 1.0, 1e-9);
    CHECK(count == 15);
    size_t pair[MOST][MOST] = {{0}};
    stochastic_world *w = stochastic_make(3, table);
    llm_rng rng = llm_rng_seed(5);
    for (size_t run = 0; run < RUNS; run++) {
        stochastic_draw(w, &rng);
        CHECK(w->s.count == 3);
        pair[stochastic_find(name, count, &w->s, 0)][stochastic_find(name, count, &w->s, 1)]++;
        stochastic_find(name, count, &w->s, 2);
    }
    size_t cells = 0;
    double rest = 0.0, rest_want = 0.0;
    for (size_t a = 0; a < count; a++) {
        double first = 0.0;
        for (size_t b = 0; b < count; b++) {
            first += (double)pair[a][b];
            if (a == b) CHECK(pair[a][b] == 0);
            if (a == b) continue;
            const double want = RUNS * p[a] * p[b] / (1.0 - p[a]);
            if (want < 20.0) {
                rest += (double)pair[a][b], rest_want += want;
                continue;
            }
            chi += pow((double)pair[a][b] - want, 2.0) / want;
            cells++;
        }
        single += pow(first - RUNS * p[a], 2.0) / (RUNS * p[a]);
    }
    chi += pow(rest - rest_want, 2.0) / rest_want;
    const double df = (double)cells; /* the normal limit at p = 0.001 */
    CHECK(chi < df + 3.09 * sqrt(2.0 * df));
    CHECK(single < 36.1); /* 14 degrees of freedom, p = 0.001 */
}

TEST(stochastic_beam,
     "a beam as wide as the tree returns every text once; G falls; log p is right") {
    const float *table = tiny_beam_table(4, V, 1.0f);
    size_t name[MOST];
    double p[MOST];
    const size_t count = stochastic_texts(name, p, table);
    llm_rng rng = llm_rng_seed(6);
    for (size_t k = 15; k <= 17; k++) {
        stochastic_world *w = stochastic_make(k, table);
        stochastic_draw(w, &rng);
        CHECK(w->s.count == 15);
        CHECK(w->memory.rows ==
              1 + 2 + 4); /* the prompt; of 3 texts one has ended, then of 6 two */
        bool seen[MOST] = {false};
        double sum = 0.0;
        for (size_t b = 0; b < 15; b++) {
            const size_t at = stochastic_find(name, count, &w->s, b);
            CHECK(!seen[at] && w->s.ended[b]);
            seen[at] = true;
            CHECK_NEAR(w->s.logp[b], log(p[at]), 1e-5);
            CHECK(b == 0 || w->s.noisy[b] <= w->s.noisy[b - 1]);
            if (k > 15) CHECK_NEAR(llm_stochastic_beam_weight(&w->s, b), p[at], 1e-6);
            sum += k > 15 ? llm_stochastic_beam_weight(&w->s, b) : 0.0;
        }
        if (k > 15) CHECK_NEAR(sum, 1.0, 1e-5);
    }
}

TEST(stochastic_beam, "weighted means are unbiased: total probability, and the mean length") {
    enum { RUNS = 20000 };
    const float *table = tiny_beam_table(7, V, 1.0f);
    size_t name[MOST];
    double p[MOST], length = 0.0;
    const size_t count = stochastic_texts(name, p, table);
    for (size_t i = 0; i < count; i++)
        length += p[i] * (name[i] < V + 1 ? 1.0 : name[i] < (V + 1) * (V + 1) ? 2.0 : 3.0);
    for (size_t k = 2; k <= 4; k += 2) {
        stochastic_world *w = stochastic_make(k, table);
        llm_rng rng = llm_rng_seed(8 + k);
        double mean[2] = {0.0, 0.0}, square[2] = {0.0, 0.0};
        for (size_t run = 0; run < RUNS; run++) {
            double x[2] = {0.0, 0.0};
            stochastic_draw(w, &rng);
            for (size_t b = 0; b + 1 < k; b++) {
                const double weight = llm_stochastic_beam_weight(&w->s, b);
                x[0] += weight;
                x[1] += weight * (double)w->s.length[b];
            }
            for (size_t i = 0; i < 2; i++) mean[i] += x[i] / RUNS, square[i] += x[i] * x[i] / RUNS;
        }
        for (size_t i = 0; i < 2; i++)
            CHECK_NEAR(mean[i], i ? length : 1.0,
                       3.3 * sqrt((square[i] - mean[i] * mean[i]) / RUNS));
    }
}

TEST(stochastic_beam, "noise with a given maximum: equal to its law at the top, below it shifted") {
    CHECK(llm_stochastic_beam_shift(2.0f, 2.0f, -5.0f) == -5.0f);
    for (int i = 0; i < 200; i++) {
        const float g = -4.0f + 0.03f * (float)i, Z = 3.0f, to = (float)(i % 7) - 3.0f;
        const double want = -log(exp(-(double)to) - exp(-(double)Z) + exp(-(double)g));
        CHECK_NEAR(llm_stochastic_beam_shift(g, Z, to), want, 2e-5);
    }
    CHECK_NEAR(llm_stochastic_beam_shift(-300.0f, 0.0f, 0.0f), -300.0, 1e-3); /* no overflow */
    CHECK_NEAR(llm_stochastic_beam_shift(-299.0f, 1.0f, 200.0f), -299.0, 1e-3);
    const float *table = tiny_beam_table(1, V, 1.0f);
    llm_arena arena = test_arena(4096);
    llm_stochastic_beam s;
    CHECK_ASSERTS(llm_stochastic_beam_create(&s, 0, 1, &arena));
    CHECK_ASSERTS(llm_stochastic_beam_create(&s, 1, 0, &arena));
    stochastic_world *w = stochastic_make(2, table);
    const int prompt = 1;
    llm_rng rng = llm_rng_seed(1);
    CHECK_ASSERTS(llm_stochastic_beam_run(&w->s, &prompt, 0, &w->model, -1, &rng, &w->arena));
    w->model.model.capacity = 3;
    CHECK_ASSERTS(llm_stochastic_beam_run(&w->s, &prompt, 1, &w->model, -1, &rng, &w->arena));
}

TEST(stochastic_beam, "a banned token takes no random number: the same texts as without it") {
    enum { K = 5, L = 3 };
    llm_stochastic_beam s[2];
    llm_rng rng = llm_rng_seed(11);
    float logits[2][K * (V + 1)];
    for (size_t b = 0; b < K; b++)
        for (size_t v = 0; v < V; v++)
            logits[0][b * V + v] = logits[1][b * (V + 1) + v + (v > 0)] = llm_rng_normal(&rng);
    for (size_t b = 0; b < K; b++) logits[1][b * (V + 1) + 1] = -INFINITY; /* number 1 of four */
    for (size_t i = 0; i < 2; i++) {
        llm_arena arena = test_arena(1 << 16);
        llm_rng draw = llm_rng_seed(12);
        llm_stochastic_beam_create(&s[i], K, L, &arena);
        s[i].count = 3;
        for (size_t b = 0; b < 3; b++) {
            s[i].length[b] = 1, s[i].ended[b] = false, s[i].ids[b * L] = 9;
            s[i].logp[b] = -0.5f * (float)b, s[i].noisy[b] = -0.4f * (float)b;
        }
        llm_stochastic_beam_advance(&s[i], logits[i], V + i, -1, &draw, &arena);
    }
    CHECK(s[0].count == K && s[1].count == K);
    for (size_t b = 0; b < K; b++) {
        const int id = s[0].ids[b * L + 1];
        CHECK(s[1].ids[b * L + 1] == id + (id > 0) && s[1].parent[b] == s[0].parent[b]);
        CHECK_NEAR(s[1].noisy[b], s[0].noisy[b], 1e-5);
    }
}

TEST(stochastic_beam, "one depth: ended texts stay, of the others the best child has their G") {
    enum { K = 16, L = 4 };
    const size_t kept = 2 * stochastic_up(K * L * 4) + 2 * stochastic_up(K * 8) +
                        2 * stochastic_up(K * 4) + stochastic_up(K);
    llm_arena arena = test_arena(kept + 2 * stochastic_up((K * V + K) * 4) +
                                 stochastic_up(2 * K * 4) + 2 * stochastic_up(K * 8));
    llm_stochastic_beam s;
    llm_rng rng = llm_rng_seed(9);
    llm_stochastic_beam_create(&s, K, L, &arena);
    s.count = K;
    float logits[K * V], noisy[K];
    size_t open = 0;
    for (size_t b = 0; b < K; b++) {
        s.length[b] = 2, s.ended[b] = b % 4 == 1;
        s.ids[b * L] = (int)b, s.ids[b * L + 1] = s.ended[b] ? STOP : 1;
        s.logp[b] = -0.1f * (float)b, s.noisy[b] = noisy[b] = -0.03f * (float)b;
        for (size_t v = 0; v < V; v++)
            logits[b * V + v] = s.ended[b] ? NAN : llm_rng_normal(&rng); /* nobody computed them */
    }
    const size_t go_on = llm_stochastic_beam_advance(&s, logits, V, STOP, &rng, &arena);
    CHECK(arena.used == kept && s.count == K);
    bool seen[K] = {false};
    for (size_t b = 0; b < K; b++) {
        const size_t up = (size_t)s.ids[b * L];
        const bool before = up % 4 == 1;
        CHECK(s.parent[b] == up && s.length[b] == (before ? 2 : 3));
        CHECK(s.ended[b] == (before || s.ids[b * L + 2] == STOP));
        CHECK(s.ids[b * L + 1] == (before ? STOP : 1));
        CHECK(b == 0 || s.noisy[b] <= s.noisy[b - 1]);
        if (!seen[up]) CHECK_NEAR(s.noisy[b], noisy[up], 1e-6);
        seen[up] = true, open += !s.ended[b];
    }
    CHECK(go_on == open && open > 0 && open < K);
}

TEST(stochastic_beam, "the smallest and the largest random number make finite noise; one text, one "
                      "token") {
    const double u[2] = {0.5 / 8388608.0, 8388607.5 / 8388608.0};
    llm_arena arena = test_arena(4096);
    llm_stochastic_beam s;
    llm_stochastic_beam_create(&s, 2, 1, &arena);
    s.count = 1, s.length[0] = 0, s.ended[0] = false, s.logp[0] = s.noisy[0] = 0.0f;
    const float logits[2] = {0.0f, 0.0f};
    llm_rng rng = llm_rng_seed(1);
    rng.used = 0, rng.word[0] = 0, rng.word[1] = UINT32_MAX;
    CHECK(llm_stochastic_beam_advance(&s, logits, 2, -1, &rng, &arena) == 0);
    CHECK(s.count == 2 && s.ids[0] == 1 && s.ids[1] == 0 && s.noisy[0] == 0.0f);
    const double g = log(0.5) - log(-log(u[0])), Z = log(0.5) - log(-log(u[1]));
    CHECK_NEAR(s.noisy[1], -log(1.0 - exp(-Z) + exp(-g)), 1e-5);
    const float *table = tiny_beam_table(1, V, 1.0f);
    for (size_t i = 0; i < 2; i++) {
        stochastic_world *w = stochastic_make(1, table);
        rng.used = 0, rng.word[0] = i ? UINT32_MAX : 0;
        stochastic_draw(w, &rng);
        CHECK(w->s.count == 1 && w->s.ended[0]);
        CHECK_NEAR(w->s.noisy[0], -log(-log(u[i])), 1e-4);
    }
}

TEST(stochastic_beam,
     "banned tokens are not drawn, and without a stop token all have full length") {
    float *table = tiny_beam_table(2, V, 1.0f);
    for (size_t i = 0; i < V * V * V; i++)
        if (i % V == 2) table[i] = -INFINITY;
    stochastic_world *w = stochastic_make(9, table);
    const int prompt = 1;
    llm_rng rng = llm_rng_seed(2);
    llm_stochastic_beam_run(&w->s, &prompt, 1, &w->model, -1, &rng, &w->arena);
    CHECK(w->s.count == 8);
    for (size_t b = 0; b < 8; b++) {
        CHECK(w->s.length[b] == T);
        for (size_t t = 0; t < T; t++) CHECK(w->s.ids[b * T + t] < 2);
    }
}

/* @beam_search */
#include "../test.h"

#include "../../llm.h"

#include "../arena.h"
#include "../tiny_beam.h"
#include "../tiny_litter.h"

static size_t beam_up(size_t bytes) { return (bytes + 63) / 64 * 64; }

/* Runs on exactly the memory that the comments ask for. */
static llm_beam_search beam_run(const int *prompt, size_t n, const llm_beam_search_model *m,
                                const llm_beam_search_config *c) {
    const size_t B = c->beams, V = m->model.V, K = (c->stops > 1 ? 1 + c->stops : 2) * B;
    const size_t kept = 3 * beam_up(B * c->max_new * 4) + 5 * beam_up(8 * B);
    const size_t advance = 2 * beam_up(B * V * 4) + beam_up(K * 8) + beam_up(B * 8);
    llm_arena arena =
        test_arena(kept + beam_up(B * V * 4) + beam_up(B * 4) + 2 * beam_up(B * 8) + advance);
    llm_beam_search s;
    llm_beam_search_model exact = *m; /* with room for the texts and not more */
    if (n + c->max_new <= 64) exact.model.capacity = n + c->max_new;
    memset(&s, 0xff, sizeof s);
    s.open = false;
    llm_beam_search_create(&s, c, &arena);
    CHECK(arena.used == kept && s.open);
    const size_t rows = llm_beam_search_run(&s, prompt, n, &exact, c, &arena);
    CHECK(arena.used == kept && !s.open);
    CHECK(rows == ((const tiny_beam *)m->model.context)->rows);
    return s;
}

TEST(beam_search, "texts and scores equal transformers' generate: early stopping, lengths, stops") {
    const float *table = golden("model/table");
    const size_t cases = (size_t)golden("cases/count")[0];
    size_t compared = 0;
    for (size_t i = 0; i < cases; i++) {
        if (i % 2 == 1 && i % 5 != 4) continue;
        size_t n = 0, ends = 0, total = 0;
        const float *prompt = golden_n(&n, "%zu/prompt", i), *how = golden("%zu/how", i);
        llm_beam_search_config c = llm_beam_search_defaults((size_t)how[0], 7);
        CHECK(c.alpha == 1.0f && !c.gnmt && c.early == LLM_BEAM_SEARCH_SOON && c.stops == 0);
        c.early = how[1] == 0.0f   ? LLM_BEAM_SEARCH_FULL
                  : how[1] == 1.0f ? LLM_BEAM_SEARCH_SOON
                                   : LLM_BEAM_SEARCH_NEVER;
        c.alpha = how[2];
        const float *stop = golden_n(&c.stops, "%zu/stop", i);
        c.stop = as_ints(stop, c.stops);
        tiny_beam memory;
        const llm_beam_search_model m = tiny_beam_model(&memory, table, 9);
        const llm_beam_search s = beam_run(as_ints(prompt, n), n, &m, &c);
        const float *size = golden_n(&ends, "%zu/size", i), *ids = golden_n(&total, "%zu/ids", i);
        CHECK(s.ended == ends);
        float score[5];
        for (size_t k = 0; k < ends; k++) {
            CHECK(s.end_length[k] == (size_t)size[k]);
            for (size_t t = 0; t < s.end_length[k]; t++) CHECK(s.end_ids[k * 7 + t] == (int)*ids++);
            score[k] = (float)s.end_score[k];
            compared++;
        }
        CHECK_GOLDEN(score, ends, 2e-6f, "%zu/score", i);
    }
    CHECK(compared > 100);
}

TEST(beam_search, "one beam is greedy, and with stop tokens its list has one entry") {
    enum { V = 6 };
    for (uint64_t seed = 1; seed < 40; seed++) {
        const float *table = tiny_beam_table(seed, V, 2.0f);
        tiny_beam memory;
        const llm_beam_search_model m = tiny_beam_model(&memory, table, V);
        const llm_beam_search_config c = llm_beam_search_defaults(1, 9);
        const int prompt[2] = {3, 1};
        const llm_beam_search s = beam_run(prompt, 2, &m, &c);
        size_t a = 3, b = 1;
        CHECK(s.ended == 1 && s.end_length[0] == 9 && memory.turns == 9);
        for (size_t t = 0; t < 9; t++) {
            const int want = llm_greedy_pick(table + (a * V + b) * V, V);
            CHECK(s.end_ids[t] == want);
            a = b, b = (size_t)want;
        }
    }
}

/* The best score of all texts behind token 1 that end with 0 or have T tokens. */
static double beam_exhaustive(const float *table, size_t V, const llm_beam_search_config *c) {
    int ids[8] = {0};
    double best = -1e30;
    const size_t T = c->max_new;
    for (;;) {
        size_t length = 0;
        while (length < T && ids[length] != 0) length++;
        length += length < T; /* the stop token */
        const double sum = tiny_beam_logp(table, V, 1, ids, length);
        best = fmax(best, llm_beam_search_score(sum, length, c));
        size_t wheel = T;
        while (wheel-- > 0 && (size_t)ids[wheel] == V - 1) ids[wheel] = 0;
        if (wheel > T) return best;
        ids[wheel]++;
    }
}

TEST(beam_search, "a beam of V^T finds the best text of all; a smaller one never a better one") {
    enum { V = 4, T = 4 };
    const int stop = 0, prompt = 1;
    size_t worse = 0;
    for (uint64_t seed = 1; seed < 25; seed++) {
        const float *table = tiny_beam_table(seed, V, 1.5f);
        llm_beam_search_config c = llm_beam_search_defaults(1, T);
        c.alpha = 0.5f * (float)(seed % 4), c.gnmt = seed % 3 == 0;
        c.stop = &stop, c.stops = 1;
        const double best = beam_exhaustive(table, V, &c);
        for (c.beams = 1; c.beams <= 256; c.beams *= 4) {
            c.early = LLM_BEAM_SEARCH_NEVER;
            tiny_beam memory;
            const llm_beam_search_model m = tiny_beam_model(&memory, table, V);
            const llm_beam_search s = beam_run(&prompt, 1, &m, &c);
            CHECK(s.end_score[0] < best + 1e-5);
            if (c.beams == 256) CHECK_NEAR(s.end_score[0], best, 1e-5);
            worse += c.beams < 16 && s.end_score[0] < best - 1e-3;
            for (size_t k = 0; k < s.ended; k++) { /* sums and order are what they say */
                CHECK_NEAR(s.end_sum[k],
                           tiny_beam_logp(table, V, 1, s.end_ids + k * T, s.end_length[k]), 1e-5);
                CHECK_NEAR(s.end_score[k], llm_beam_search_score(s.end_sum[k], s.end_length[k], &c),
                           1e-12);
                CHECK(k == 0 || s.end_score[k] <= s.end_score[k - 1]);
            }
        }
    }
    CHECK(worse > 5);
}

TEST(beam_search, "a wider beam can find a worse text: 0.17 alone, 0.082 with two") {
    /* two firsts; behind the second two equal halves crowd the first out, and then nothing is
     * sure */
    enum { V = 3 };
    float *table = floats(V * V * V);
    for (size_t i = 0; i < V * V * V; i++) table[i] = logf(1.0f / 3.0f);
    const float row[4][V] = {{0.5f, 0.49f, 0.01f},
                             {0.34f, 0.33f, 0.33f},
                             {0.499f, 0.499f, 0.002f},
                             {0.998f, 1e-3f, 1e-3f}};
    const size_t at[4] = {0 * V + 2, 2 * V + 0, 2 * V + 1, 0 * V + 0}; /* the last two tokens */
    for (size_t i = 0; i < 4; i++)
        for (size_t v = 0; v < V; v++) table[at[i] * V + v] = logf(row[i][v]);
    const int prompt = 2;
    const double want[2] = {0.5 * 0.34 * 0.998, 0.49 * 0.499 / 3.0};
    for (size_t i = 0; i < 2; i++) {
        llm_beam_search_config c = llm_beam_search_defaults(1 + i, 3);
        c.alpha = 0.0f;
        tiny_beam memory;
        const llm_beam_search_model m = tiny_beam_model(&memory, table, V);
        CHECK_NEAR(exp(beam_run(&prompt, 1, &m, &c).end_score[0]), want[i], 1e-6);
    }
}

TEST(beam_search, "longer texts win as alpha grows; the scores by hand; coverage") {
    enum { V = 6 };
    double length[3] = {0.0, 0.0, 0.0};
    const int stop = 0, prompt = 1;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        float *table = tiny_beam_table(seed, V, 1.0f);
        for (size_t i = 0; i < 3; i++) {
            llm_beam_search_config c = llm_beam_search_defaults(4, 12);
            c.alpha = (float)i, c.stop = &stop, c.stops = 1, c.early = LLM_BEAM_SEARCH_NEVER;
            tiny_beam memory;
            const llm_beam_search_model m = tiny_beam_model(&memory, table, V);
            length[i] += (double)beam_run(&prompt, 1, &m, &c).end_length[0] / 60.0;
        }
    }
    CHECK(length[1] > length[0] + 2.0 && length[2] > length[1] + 2.0); /* 2.4, 7.9, 12.0 */

    llm_beam_search_config c = llm_beam_search_defaults(1, 1);
    c.alpha = 0.5f;
    CHECK_NEAR(llm_beam_search_score(-6.0, 4, &c), -3.0, 1e-12);
    c.gnmt = true;
    CHECK_NEAR(llm_beam_search_score(-6.0, 19, &c), -3.0, 1e-12);
    const float a[6] = {0.5f, 0.25f, 0.25f, 0.75f, 0.25f, 0.0f};
    CHECK_NEAR(llm_beam_search_coverage(a, 2, 3, 0.2f), 0.2 * (log(0.5) + log(0.25)), 1e-7);
    CHECK_NEAR(llm_beam_search_coverage(a, 1, 3, 1.0f), log(0.5) + 2.0 * log(0.25), 1e-12);
}

TEST(beam_search, "banned tokens are never said; a search without a continuation ends empty") {
    enum { V = 3 };
    float *table = tiny_beam_table(1, V, 1.0f);
    for (size_t i = 0; i < V * V * V; i++)
        if (i % V == 2) table[i] = -INFINITY;
    const llm_beam_search_config c = llm_beam_search_defaults(5, 4);
    const int prompt = 1;
    tiny_beam memory;
    const llm_beam_search_model m = tiny_beam_model(&memory, table, V);
    const llm_beam_search s = beam_run(&prompt, 1, &m, &c);
    CHECK(s.ended == 5);
    for (size_t k = 0; k < 5; k++)
        for (size_t t = 0; t < 4; t++) CHECK(s.end_ids[k * 4 + t] < 2);
    llm_beam_search_config short_ = c; /* two tokens of two kinds: there are four texts */
    short_.max_new = 2;
    tiny_beam again;
    const llm_beam_search_model same = tiny_beam_model(&again, table, V);
    CHECK(beam_run(&prompt, 1, &same, &short_).ended == 4);
    for (size_t i = 0; i < V * V * V; i++) table[i] = -INFINITY;
    const llm_beam_search_model mute = tiny_beam_model(&again, table, V);
    CHECK(beam_run(&prompt, 1, &mute, &c).ended == 0 && again.turns == 1);
    CHECK_ASSERTS(beam_run(&prompt, 0, &m, &c));
    llm_beam_search_config bad = c;
    bad.max_new = 64;
    CHECK_ASSERTS(beam_run(&prompt, 1, &m, &bad));
    bad.max_new = 0;
    CHECK_ASSERTS(beam_run(&prompt, 1, &m, &bad));
    bad.max_new = 1, bad.beams = 0;
    CHECK_ASSERTS(beam_run(&prompt, 1, &m, &bad));
    llm_beam_search empty;
    llm_arena arena = test_arena(1024);
    CHECK_ASSERTS(llm_beam_search_create(&empty, &bad, &arena));
}

static bool beam_defaults(void) {
    llm_beam_search_config (*volatile make)(size_t, size_t) = llm_beam_search_defaults;
    const llm_beam_search_config c = make(3, 4);
    return c.beams == 3 && c.max_new == 4 && c.alpha == 1.0f && !c.gnmt &&
           c.early == LLM_BEAM_SEARCH_SOON && !c.stop && c.stops == 0;
}

TEST(beam_search, "the defaults set every field") { CHECK(tiny_litter(beam_defaults)); }

TEST(beam_search, "one token: the list is the best tokens; of equal ones the lower stays first") {
    enum { V = 6, B = 3 };
    for (uint64_t seed = 0; seed < 20; seed++) {
        float *table = tiny_beam_table(1 + seed, V, seed == 0 ? 0.0f : 1.0f); /* 0: all equal */
        const int prompt = 1;
        tiny_beam memory;
        const llm_beam_search_model m = tiny_beam_model(&memory, table, V);
        const llm_beam_search_config c = llm_beam_search_defaults(B, 1);
        const llm_beam_search s = beam_run(&prompt, 1, &m, &c);
        const float *z = table + 1 * V;
        CHECK(s.ended == B);
        for (size_t k = 0; k < B; k++) {
            const size_t v = (size_t)s.end_ids[k];
            size_t before = 0;
            for (size_t u = 0; u < V; u++) before += z[u] > z[v] || (z[u] == z[v] && u < v);
            CHECK(before == k && s.end_length[k] == 1);
        }
    }
}

TEST(beam_search, "a text under way that is only as good as the last of a full list is given up") {
    enum { V = 2 };
    const int stop = 0, prompt = 1;
    tiny_beam memory; /* both tokens say 1/2 */
    const llm_beam_search_model m = tiny_beam_model(&memory, tiny_beam_table(1, V, 0.0f), V);
    llm_beam_search_config c = llm_beam_search_defaults(1, 5);
    c.stop = &stop, c.stops = 1, c.alpha = 0.0f;
    const llm_beam_search s = beam_run(&prompt, 1, &m, &c);
    CHECK(s.ended == 1 && s.end_length[0] == 1 && memory.turns == 1);
    CHECK_NEAR(s.end_sum[0], log(0.5), 1e-6);
}

TEST(beam_search, "a charge on tokens ranks the continuations and is not taken from their sums") {
    enum { V = 3, B = 2 };
    const double p[2][V] = {{0.5, 0.3, 0.2}, {0.2, 0.5, 0.3}}, sum[2] = {-0.25, -0.5};
    const float charge[V] = {0.1f, 4.0f, 0.2f};
    const size_t want[B][2] = {{0, 0}, {1, 2}}; /* ranked -1.04, -1.90; then -2.06 */
    float logits[2 * V];
    for (size_t i = 0; i < 2 * V; i++) logits[i] = logf((float)p[i / V][i % V]);
    llm_arena arena = test_arena(4096);
    const llm_beam_search_config c = llm_beam_search_defaults(B, 3);
    llm_beam_search s;
    llm_beam_search_create(&s, &c, &arena);
    s.live = 2, s.length = 1;
    s.ids[0] = 1, s.ids[3] = 2;
    s.sum[0] = sum[0], s.sum[1] = sum[1];
    llm_beam_search_advance(&s, logits, V, charge, &c, &arena);
    CHECK(s.live == B && s.open);
    for (size_t k = 0; k < B; k++) {
        const size_t b = want[k][0], v = want[k][1];
        CHECK(s.parent[k] == b && s.ids[k * 3 + 1] == (int)v);
        CHECK_NEAR(s.sum[k], sum[b] + log(p[b][v]), 1e-6);
    }
}

TEST(beam_search, "without a charge probabilities that differ in the last bit are told apart") {
    enum { V = 3 };
    for (size_t i = 0; i < 16; i++) { /* log p between -1 and -1/2: an ulp of 2^-24 */
        const float z[V] = {-0x1p-24f, 0.0f, -3.0f - 0.25f * (float)i};
        float *table = floats(V * V * V);
        for (size_t k = 0; k < V * V * V; k++) table[k] = z[k % V];
        const int prompt = 1;
        tiny_beam memory;
        const llm_beam_search_model m = tiny_beam_model(&memory, table, V);
        const llm_beam_search_config c = llm_beam_search_defaults(1, 2);
        CHECK(beam_run(&prompt, 1, &m, &c).end_ids[0] == 1);
    }
}

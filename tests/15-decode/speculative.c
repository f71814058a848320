/* @speculative */
#include "../test.h"

#include "../../llm.h"

#include "../arena.h"
#include "../tiny_speculative.h"

enum { V = 5, RUNS = 100000, FEW = 30000 };

/* Normal deviates of chi-square tests: above 3.09 with probability 0.001. */
static double speculative_joint(const float *p, const float *q, size_t g, size_t ngram,
                                const llm_sampling_step *chain, size_t steps, size_t runs,
                                uint64_t seed) {
    tiny_speculative target, draft;
    const llm_speculative_model m = tiny_speculative_model(&target, p, V);
    const llm_speculative_model d = tiny_speculative_model(&draft, q ? q : p, V);
    llm_speculative_config c;
    memset(&c, 0, sizeof c);
    c.g = g, c.ngram = ngram, c.target = &m, c.draft = q ? &d : NULL;
    c.chain = chain, c.steps = steps;
    llm_rng rng = llm_rng_seed(seed);
    llm_arena arena = test_arena(4096);
    double joint[V * V * V];
    size_t count[V * V * V] = {0};
    tiny_speculative_joint(joint, p, V, 2, chain, steps);
    for (size_t run = 0; run < runs; run++) {
        int ids[8] = {2, 2, 2, 2, 2, 2, 2, 2};
        const size_t n = ngram ? 5 : 1; /* a prompt in which something can be looked up */
        target.length = draft.length = 0;
        if (ngram) ids[1] = 0, ids[3] = 0;
        llm_speculative_run(ids, n, 3, &c, &rng, &arena);
        CHECK(arena.used == 0);
        count[((size_t)ids[n] * V + (size_t)ids[n + 1]) * V + (size_t)ids[n + 2]]++;
    }
    return tiny_speculative_chi(count, joint, V * V * V, (double)runs);
}

TEST(speculative,
     "three tokens have the target's joint law: drafts of any quality, n-grams, top-p") {
    const float *p = tiny_speculative_table(1, V, NULL, 1.0f);
    const float *near = tiny_speculative_table(2, V, p, 0.7f);
    const float *other = tiny_speculative_table(3, V, NULL, 1.5f);
    const llm_sampling_step chain[2] = {{LLM_SAMPLING_TEMPERATURE, 0.8f},
                                        {LLM_SAMPLING_TOP_P, 0.8f}};
    CHECK(speculative_joint(p, near, 1, 0, NULL, 0, FEW, 1) < 3.09);
    CHECK(speculative_joint(p, near, 2, 0, NULL, 0, FEW, 2) < 3.09);
    CHECK(speculative_joint(p, other, 5, 0, NULL, 0, RUNS, 3) < 3.09);
    CHECK(speculative_joint(p, other, 3, 0, chain, 2, FEW, 4) < 3.09);
    CHECK(speculative_joint(p, p, 2, 0, NULL, 0, FEW, 5) < 3.09);
    CHECK(speculative_joint(p, NULL, 2, 1, NULL, 0, FEW, 6) < 3.09);
    CHECK(speculative_joint(p, NULL, 3, 2, chain, 2, FEW, 7) < 3.09);
}

/* Three tokens by the rule with one draft a turn, or with a refused draft replaced by a draw from p
 * itself instead of the residual. */
static double speculative_by_hand(bool residual) {
    const float *p = tiny_speculative_table(1, V, NULL, 1.0f);
    const float *q = tiny_speculative_table(2, V, p, 0.7f);
    double joint[V * V * V], chances = 0.0, drafted = 0.0, accepted = 0.0;
    size_t count[V * V * V] = {0};
    tiny_speculative_joint(joint, p, V, 2, NULL, 0);
    llm_rng rng = llm_rng_seed(9);
    for (size_t run = 0; run < RUNS; run++) {
        size_t text[8] = {0, 2}, n = 2;
        while (n < 5) {
            const float *from = p + (text[n - 2] * V + text[n - 1]) * V;
            float both[2 * V], guess[V], law[V];
            llm_softmax_forward(guess, q + (from - p), 1, V, 1.0f);
            const int draft = llm_speculative_draw(guess, V, &rng);
            llm_softmax_forward(law, from, 1, V, 1.0f);
            memcpy(both, law, sizeof law);
            llm_softmax_forward(both + V, p + (text[n - 1] * V + (size_t)draft) * V, 1, V, 1.0f);
            double distance = 0.0;
            for (size_t v = 0; v < V; v++)
                distance += 0.5 * fabs((double)law[v] - (double)guess[v]);
            const double a = llm_speculative_overlap(law, guess, V);
            CHECK_NEAR(a, 1.0 - distance, 1e-6);
            int next = 0;
            const size_t taken = llm_speculative_verify(&next, &draft, guess, both, 1, V, &rng);
            if (!taken && !residual) next = llm_speculative_draw(law, V, &rng);
            if (taken) text[n++] = (size_t)draft;
            text[n++] = (size_t)next;
            chances += a, drafted += 1.0, accepted += (double)taken;
        }
        count[(text[2] * V + text[3]) * V + text[4]]++;
    }
    CHECK_NEAR(accepted / drafted, chances / drafted, 3.0 * 0.5 / sqrt(drafted));
    return tiny_speculative_chi(count, joint, V * V * V, RUNS);
}

TEST(speculative, "without the residual step the law is wrong, and the test says so") {
    CHECK(speculative_by_hand(true) < 3.09);
    CHECK(speculative_by_hand(false) > 10.0);
}

TEST(speculative, "greedy speculation says what greedy decoding says, for any draft and length") {
    for (uint64_t seed = 1; seed < 20; seed++) {
        const float *p = tiny_speculative_table(seed, V, NULL, 1.0f);
        const float *q = tiny_speculative_table(seed + 50, V, p, seed % 3 ? 0.5f : 3.0f);
        const llm_sampling_step chain[1] = {{LLM_SAMPLING_TEMPERATURE, 0.0f}};
        int want[60] = {3, 1}, ids[60];
        for (size_t t = 2; t < 60; t++)
            want[t] = llm_greedy_pick(p + ((size_t)want[t - 2] * V + (size_t)want[t - 1]) * V, V);
        for (size_t g = 0; g < 7; g++) {
            tiny_speculative target, draft;
            llm_speculative_model m = tiny_speculative_model(&target, p, V);
            llm_speculative_model d = tiny_speculative_model(&draft, q, V);
            m.capacity = d.capacity = 60;
            llm_speculative_config c = {g, 1 + g % 2, &m, &d, chain, 1};
            if (seed % 2) c.draft = NULL;
            llm_rng rng = llm_rng_seed(seed);
            llm_arena arena = test_arena(((2 + g) * V * 4 + 63) / 64 * 64 +
                                         (g * V * 4 + 63) / 64 * 64 + (g * 4 + 63) / 64 * 64);
            memcpy(ids, want, 2 * sizeof(int));
            const size_t turns = llm_speculative_run(ids, 2, 58, &c, &rng, &arena);
            CHECK(memcmp(ids, want, sizeof ids) == 0);
            CHECK(turns == target.passes && turns <= 58 && turns * (g + 1) >= 58);
            if (g == 0) CHECK(turns == 58);
            /* both states hold the text without its last token, the draft's perhaps less */
            CHECK(target.length == 59 && memcmp(target.text, ids, 59 * sizeof(int)) == 0);
            CHECK(draft.length <= 59 && memcmp(draft.text, ids, draft.length * sizeof(int)) == 0);
        }
    }
}

TEST(speculative,
     "p = q: all are accepted; one law everywhere: tokens a turn as the formula says") {
    float *p = tiny_speculative_table(4, V, NULL, 1.0f), *q = tiny_speculative_table(5, V, p, 0.8f);
    for (size_t i = V; i < V * V * V; i++) p[i] = p[i % V], q[i] = q[i % V];
    float pp[V], qq[V];
    llm_softmax_forward(pp, p, 1, V, 1.0f);
    llm_softmax_forward(qq, q, 1, V, 1.0f);
    const double a = llm_speculative_overlap(pp, qq, V);
    for (size_t g = 1; g <= 4; g++) {
        tiny_speculative target, draft;
        const llm_speculative_model m = tiny_speculative_model(&target, p, V);
        llm_speculative_model d = tiny_speculative_model(&draft, p, V);
        llm_speculative_config c = {g, 0, &m, &d, NULL, 0};
        llm_rng rng = llm_rng_seed(g);
        int ids[TINY_SPECULATIVE_ROOM] = {1};
        llm_arena arena = test_arena(4096);
        CHECK(llm_speculative_run(ids, 1, 10 * (g + 1), &c, &rng, &arena) == 10);
        double turns = 0.0;
        enum { TEXTS = 100, LENGTH = 500 };
        for (size_t text = 0; text < TEXTS; text++) {
            d = tiny_speculative_model(&draft, q, V);
            target.length = 0;
            turns += (double)llm_speculative_run(ids, 1, LENGTH, &c, &rng, &arena);
        }
        const double mean = TEXTS * LENGTH / turns, want = llm_speculative_tokens(a, g);
        /* the deviation of one turn is below (g + 1) / 2; the last turn of a text is cut */
        CHECK_NEAR(mean, want, 3.0 * 0.5 * (double)(g + 1) / sqrt(turns) + 0.01 * (double)g);
    }
    CHECK_NEAR(llm_speculative_tokens(0.8, 4), (1.0 - pow(0.8, 5.0)) / 0.2, 1e-12);
    CHECK_NEAR(llm_speculative_tokens(1.0, 4), 5.0, 1e-12);
    CHECK_NEAR(llm_speculative_tokens(0.0, 4), 1.0, 1e-12);
    CHECK_NEAR(llm_speculative_speedup(0.8, 4, 0.1), llm_speculative_tokens(0.8, 4) / 1.4, 1e-12);
}

TEST(speculative, "lookup copies what followed the latest occurrence, as far as there is text") {
    llm_rng rng = llm_rng_seed(6);
    for (size_t round = 0; round < 3000; round++) {
        int ids[30], draft[9], want[9];
        const size_t T = llm_rng_below(&rng, 31), g = llm_rng_below(&rng, 9);
        const size_t n = 1 + llm_rng_below(&rng, 4);
        for (size_t t = 0; t < T; t++) ids[t] = (int)llm_rng_below(&rng, 2 + round % 3);
        size_t found = 0;
        for (size_t s = 0; s + n < T; s++) { /* the last one wins */
            if (memcmp(ids + s, ids + T - n, n * sizeof(int)) != 0) continue;
            found = 0;
            for (size_t t = s + n; t < T && found < g; t++) want[found++] = ids[t];
        }
        for (size_t i = 0; i < 9; i++) draft[i] = -1;
        CHECK(llm_speculative_ngram(draft, g, ids, T, n) == found);
        CHECK(memcmp(draft, want, found * sizeof(int)) == 0);
        for (size_t i = found; i < 9; i++) CHECK(draft[i] == -1);
    }
    int x = 0;
    CHECK_ASSERTS(llm_speculative_ngram(&x, 1, &x, 1, 0));
}

TEST(speculative, "the residual by hand; nothing left leaves p; drawing at the ends") {
    float p[3] = {0.5f, 0.3f, 0.2f}, q[3] = {0.25f, 0.5f, 0.25f}, same[3] = {0.5f, 0.3f, 0.2f};
    llm_speculative_residual(p, q, 1, 3);
    CHECK(p[0] == 1.0f && p[1] == 0.0f && p[2] == 0.0f);
    llm_speculative_residual(same, same, 0, 3);
    CHECK(same[0] == 0.5f && same[2] == 0.2f);
    llm_speculative_residual(same, NULL, 1, 3);
    const float want[3] = {5.0f / 7.0f, 0.0f, 2.0f / 7.0f};
    CHECK_ALL_NEAR(same, want, 3, 1e-6f);
    llm_rng rng = llm_rng_seed(7);
    const float only[4] = {0.0f, 0.0f, 3.0f, 0.0f}, none[3] = {0.0f, 0.0f, 0.0f};
    for (size_t i = 0; i < 50; i++) CHECK(llm_speculative_draw(only, 4, &rng) == 2);
    CHECK(llm_speculative_draw(none, 3, &rng) == 2);
    const float heavy[2] = {6.0f, 2.0f}; /* weights need not sum to 1 */
    double first = 0.0;
    for (size_t i = 0; i < 4000; i++) first += llm_speculative_draw(heavy, 2, &rng) == 0;
    CHECK_NEAR(first / 4000.0, 0.75, 0.03);
    /* equal models behind a longer prompt, through a chain: all drafts are accepted */
    const float *law = tiny_speculative_table(12, V, NULL, 1.0f);
    const llm_sampling_step two[1] = {{LLM_SAMPLING_TOP_K, 2.0f}};
    tiny_speculative big, small;
    const llm_speculative_model equal = tiny_speculative_model(&big, law, V);
    const llm_speculative_model guess = tiny_speculative_model(&small, law, V);
    const llm_speculative_config all = {4, 0, &equal, &guess, two, 1};
    int text[53] = {1, 4, 2};
    llm_arena room = test_arena(4096);
    CHECK(llm_speculative_run(text, 3, 50, &all, &rng, &room) == 10);
    tiny_speculative target;
    const llm_speculative_model m = tiny_speculative_model(&target, floats(27), 3);
    llm_speculative_config c = {1, 1, &m, NULL, NULL, 0};
    int ids[4] = {0, 0, 0, 0};
    llm_arena arena = test_arena(4096);
    CHECK_ASSERTS(llm_speculative_run(ids, 0, 1, &c, &rng, &arena));
    CHECK_ASSERTS(llm_speculative_run(ids, 1, TINY_SPECULATIVE_ROOM, &c, &rng, &arena));
    tiny_speculative draft;
    llm_speculative_model d = tiny_speculative_model(&draft, floats(8), 2);
    c.draft = &d;
    CHECK_ASSERTS(llm_speculative_run(ids, 1, 1, &c, &rng, &arena));
    d.V = 3, d.capacity = 1;
    CHECK_ASSERTS(llm_speculative_run(ids, 1, 1, &c, &rng, &arena));
}

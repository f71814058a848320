/* @causal_lm */
#include "../test.h"

#include "../../llm.h"
#include "../arena.h"

/* A causal model of no network: the logits behind a text are random numbers that its last `window`
 * tokens name (all of them: SIZE_MAX). With leak >= 0 the token at that place is one of them
 * everywhere. calls counts the passes, most and widest are the most rows and tokens in one. */
typedef struct {
    size_t V, window, calls, most, widest;
    int leak;
} oracle;

static void oracle_logits(void *context, float *logits, const int *ids, size_t rows, size_t t) {
    oracle *o = (oracle *)context;
    o->calls++;
    o->most = rows > o->most ? rows : o->most;
    o->widest = t > o->widest ? t : o->widest;
    for (size_t i = 0; i < rows * t; i++) {
        const size_t at = i % t, from = at + 1 > o->window ? at + 1 - o->window : 0;
        uint64_t name = 17;
        for (size_t j = from; j <= at; j++) name = name * 31 + (uint64_t)ids[i - at + j] + 1;
        if (o->leak >= 0) name = name * 31 + (uint64_t)ids[i - at + (size_t)o->leak];
        llm_rng rng = llm_rng_seed(name);
        for (size_t v = 0; v < o->V; v++) logits[i * o->V + v] = llm_rng_normal(&rng);
    }
}
static llm_causal_lm model_of(oracle *o, size_t B, size_t T) {
    llm_causal_lm m;
    m.V = o->V, m.B = B, m.T = T, m.context = o, m.logits = oracle_logits;
    return m;
}
static oracle oracle_of(size_t V) {
    oracle o;
    o.V = V, o.window = SIZE_MAX, o.calls = o.most = o.widest = 0, o.leak = -1;
    return o;
}

enum { V = 5, T = 4 };
static llm_gpt2 golden_model(size_t B) {
    llm_gpt2_config c = llm_gpt2_defaults();
    c.vocab = V, c.context = T, c.layers = 1, c.heads = 2, c.width = 4, c.hidden = 6;
    llm_gpt2 g;
    llm_error e;
    size_t n;
    CHECK(llm_gpt2_create(&g, &c, B, T, &e));
    const float *w = golden_n(&n, "text/weights");
    CHECK(n == g.count);
    memcpy(g.w, w, n * sizeof(float));
    return g;
}

TEST(causal_lm, "one pass scores a text as transformers does prefix by prefix") {
    llm_gpt2 g = golden_model(3);
    llm_arena a = test_arena(1 << 16);
    const llm_causal_lm m = llm_causal_lm_gpt2(&g, 3, T);
    const int *ids = as_ints(golden("text/ids"), 3 * T);
    float *got = floats(3 * T);
    llm_causal_lm_score(got, &m, ids, 3, T, &a);
    CHECK_GOLDEN(got, 3 * T, 1e-5f, "text/score");
    CHECK(a.used == 0);
    CHECK_ASSERTS(llm_causal_lm_score(got, &m, ids, 4, T, &a));
    CHECK_ASSERTS(llm_causal_lm_score(got, &m, ids, 1, T + 1, &a));
    llm_gpt2_destroy(&g);
}

TEST(causal_lm, "the probabilities of all texts, and of those not ended yet, sum to 1") {
    enum { L = 5, W = 3 }; /* token 0 starts and ends a text; 3^5 rows behind it */
    oracle o = oracle_of(W);
    llm_gpt2_config c = llm_gpt2_defaults();
    llm_gpt2 g;
    llm_error e;
    llm_rng rng = llm_rng_seed(4);
    c.vocab = W, c.context = L + 1, c.layers = 2, c.heads = 2, c.width = 8, c.hidden = 12;
    CHECK(llm_gpt2_create(&g, &c, 1, L + 1, &e));
    llm_rng_normal_fill(&rng, g.w, g.count);
    for (size_t i = 0; i < g.count; i++) g.w[i] *= 0.4f;
    const llm_causal_lm models[2] = {model_of(&o, 1, L + 1), llm_causal_lm_gpt2(&g, 1, L + 1)};
    llm_arena a = test_arena(1 << 16);
    for (size_t k = 0; k < 2; k++) {
        double ended = 0.0, open = 0.0;
        for (size_t text = 0; text < 243; text++) {
            int ids[L + 1] = {0};
            float lp[L + 1];
            size_t rest = text, end = 1;
            for (size_t i = 1; i <= L; i++, rest /= W) ids[i] = (int)(rest % W);
            while (end <= L && ids[end] != 0) end++;
            bool first = true; /* of all rows that begin with this text, the one with zeros */
            for (size_t i = end; i <= L; i++) first = first && ids[i] == 0;
            if (!first) continue;
            llm_causal_lm_score(lp, &models[k], ids, 1, L + 1, &a);
            double p = 0.0;
            for (size_t i = 1; i <= end && i <= L; i++) p += (double)lp[i];
            CHECK(lp[0] == 0.0f);
            *(end <= L ? &ended : &open) += exp(p);
        }
        CHECK_NEAR(ended + open, 1.0, 2e-6);
        CHECK(ended > 0.1 && open > 0.01);
    }
    llm_gpt2_destroy(&g);
}

TEST(causal_lm, "answers are scored as lm-evaluation-harness scores them, one row or many a pass") {
    const char *const name[3] = {"short", "two", "long"};
    const size_t length[3] = {1, 2, 6};
    const size_t *start = as_sizes(golden("answers/start"), 6),
                 *bytes = as_sizes(golden("answers/bytes"), 5);
    llm_arena a = test_arena(1 << 16);
    for (size_t B = 1; B <= 6; B++) {
        llm_gpt2 g = golden_model(B);
        const llm_causal_lm m = llm_causal_lm_gpt2(&g, B, T);
        for (size_t k = 0; k < 3; k++) {
            const int *context = as_ints(golden("%s/context", name[k]), length[k]);
            const int *answers = as_ints(golden("%s/answers", name[k]), 12);
            const float *greedy = golden("%s/greedy", name[k]), *best = golden("%s/best", name[k]);
            llm_causal_lm_choice c[5];
            float got[3][5];
            llm_causal_lm_choices(c, &m, context, length[k], answers, start, bytes, 5, &a);
            for (size_t i = 0; i < 5; i++) {
                CHECK(c[i].greedy == (greedy[i] > 0.0f));
                CHECK(c[i].tokens == start[i + 1] - start[i] && c[i].bytes == bytes[i]);
                got[0][i] = (float)llm_causal_lm_measured(&c[i], LLM_CAUSAL_LM_TOTAL);
                got[1][i] = (float)llm_causal_lm_measured(&c[i], LLM_CAUSAL_LM_PER_TOKEN);
                got[2][i] = (float)llm_causal_lm_measured(&c[i], LLM_CAUSAL_LM_PER_BYTE);
            }
            CHECK_GOLDEN(got[0], 5, 1e-5f, "%s/total", name[k]);
            CHECK_GOLDEN(got[1], 5, 1e-5f, "%s/per_token", name[k]);
            CHECK_GOLDEN(got[2], 5, 1e-5f, "%s/per_byte", name[k]);
            CHECK(llm_causal_lm_best(c, 5, LLM_CAUSAL_LM_TOTAL) == (size_t)best[0]);
            CHECK(llm_causal_lm_best(c, 5, LLM_CAUSAL_LM_PER_TOKEN) == (size_t)best[1]);
            CHECK(llm_causal_lm_best(c, 5, LLM_CAUSAL_LM_PER_BYTE) == (size_t)best[2]);
            CHECK(a.used == 0);
        }
        llm_gpt2_destroy(&g);
    }
}

TEST(causal_lm, "the chain rule: an answer costs what its text costs less its context; equals keep "
                "their order; what is no answer is refused") {
    oracle o = oracle_of(V);
    const llm_causal_lm m = model_of(&o, 2, 9);
    llm_arena a = test_arena(1 << 16);
    const int text[10] = {3, 1, 4, 1, 0, 2, 2, 0, 4, 3};
    const size_t start[4] = {0, 4, 8, 9}, bytes[3] = {1, 1, 1};
    int answers[9];
    float lp[9];
    llm_causal_lm_choice c[3];
    memcpy(answers, text + 3, 4 * sizeof(int));
    memcpy(answers + 4, text + 3, 4 * sizeof(int)); /* the same twice */
    answers[8] = text[3];
    llm_causal_lm_choices(c, &m, text, 3, answers, start, bytes, 3, &a);
    CHECK(o.widest == 3 + 4 - 1); /* the last token of an answer is not read */
    llm_causal_lm_score(lp, &m, text, 1, 7, &a);
    double want = 0.0;
    for (size_t t = 3; t < 7; t++) want += (double)lp[t];
    CHECK_NEAR(c[0].total, want, 1e-5);
    CHECK(c[1].total == c[0].total);
    CHECK_NEAR(c[2].total, lp[3], 1e-6);
    CHECK(llm_causal_lm_best(c, 2, LLM_CAUSAL_LM_TOTAL) == 0);
    CHECK(llm_causal_lm_best(c, 3, LLM_CAUSAL_LM_TOTAL) == 2); /* fewer factors */
    CHECK(llm_causal_lm_best(c + 2, 1, LLM_CAUSAL_LM_PER_BYTE) == 0);
    CHECK(o.most == 2 && o.calls == 3); /* three answers in passes of two, and the text */
    llm_arena no_room = test_arena(0);
    llm_causal_lm_choices(c, &m, text, 3, answers, start, bytes, 0, &no_room);
    CHECK(o.calls == 3);
    const int bad[2][2] = {{0, V}, {0, -1}};
    CHECK_ASSERTS(llm_causal_lm_score(lp, &m, bad[0], 1, 2, &a));
    CHECK_ASSERTS(llm_causal_lm_score(lp, &m, bad[1], 1, 2, &a));

    /* as long as the model reads: one token of context is left; one more is too long */
    const size_t nine[2] = {0, 9}, ten[2] = {0, 10}, empty[2] = {0, 0}, none[1] = {0};
    llm_causal_lm_choices(c, &m, text, 1, text + 1, nine, bytes, 1, &a);
    const llm_causal_lm wide = model_of(&o, 1, 10);
    float all[10];
    llm_causal_lm_score(all, &wide, text, 1, 10, &a);
    want = 0.0;
    for (size_t t = 1; t < 10; t++) want += (double)all[t];
    CHECK_NEAR(c[0].total, want, 1e-5);
    CHECK_ASSERTS(llm_causal_lm_choices(c, &m, text, 1, text, ten, bytes, 1, &a));
    CHECK_ASSERTS(llm_causal_lm_choices(c, &m, text, 0, text, nine, bytes, 1, &a));
    CHECK_ASSERTS(llm_causal_lm_choices(c, &m, text, 1, text, empty, bytes, 1, &a));
    CHECK_ASSERTS(llm_causal_lm_choices(c, &m, text, 1, text, nine, none, 1, &a));
    answers[0] = V;
    CHECK_ASSERTS(llm_causal_lm_choices(c, &m, text, 1, answers, nine, bytes, 1, &a));
    answers[0] = -1;
    CHECK_ASSERTS(llm_causal_lm_choices(c, &m, text, 1, answers, nine, bytes, 1, &a));
}

TEST(causal_lm, "of all answers of one token the best is the greedy one, and no other") {
    oracle o = oracle_of(V);
    const llm_causal_lm m = model_of(&o, V, T);
    llm_arena a = test_arena(1 << 14);
    const int answers[V] = {0, 1, 2, 3, 4};
    const size_t start[V + 1] = {0, 1, 2, 3, 4, 5}, bytes[V] = {1, 1, 1, 1, 1};
    size_t was[V] = {0};
    for (int text = 0; text < V * V; text++) {
        const int context[2] = {text / V, text % V};
        llm_causal_lm_choice c[V];
        llm_causal_lm_choices(c, &m, context, 2, answers, start, bytes, V, &a);
        const size_t best = llm_causal_lm_best(c, V, LLM_CAUSAL_LM_TOTAL);
        for (size_t k = 0; k < V; k++) CHECK(c[k].greedy == (k == best));
        was[best]++;
    }
    for (size_t k = 0; k < V; k++) CHECK(was[k] > 0);
}

TEST(causal_lm, "texts are drawn with the probabilities that are scored") {
    /* Texts of up to 3 tokens behind a start, 2 ends one: 1 + 2 + 4 * 3 = 15 of them. Chi-square
     * of 3000 texts: with 14 degrees of freedom above 36.1 once in a thousand; seeds 1 to 20
     * gave 3.4 to 32.9. */
    enum { MOST = 4, N = 3000 };
    oracle o = oracle_of(3);
    const llm_causal_lm m = model_of(&o, 1, 3), scorer = model_of(&o, 1, 4);
    llm_arena a = test_arena(1 << 12);
    llm_rng rng = llm_rng_seed(1);
    double seen[27] = {0}, want[27] = {0}, chi2 = 0.0, mass = 0.0;
    size_t cells = 0;
    for (size_t n = 0; n < N; n++) {
        int ids[MOST] = {1, -1, -1, -1};
        const size_t end = llm_causal_lm_sample(ids, 1, MOST, 2, &m, &rng, &a);
        size_t cell = 0;
        CHECK(end > 1 && end <= MOST && (ids[end - 1] == 2 || end == MOST));
        for (size_t t = 1; t < MOST; t++) {
            if (t >= end) CHECK(ids[t] == -1);
            if (t + 1 < end) CHECK(ids[t] != 2);
            cell = 3 * cell + (size_t)(t < end ? ids[t] : 0);
        }
        seen[cell] += 1.0;
    }
    for (size_t cell = 0; cell < 27; cell++) {
        int ids[MOST] = {1, (int)(cell / 9), (int)(cell / 3 % 3), (int)(cell % 3)};
        size_t end = 1;
        float lp[MOST];
        while (end < MOST && ids[end] != 2) end++;
        bool own = true;
        for (size_t t = end + 1; t < MOST; t++) own = own && ids[t] == 0;
        if (!own) {
            CHECK(seen[cell] == 0.0);
            continue;
        }
        llm_causal_lm_score(lp, &scorer, ids, 1, MOST, &a);
        for (size_t t = 1; t <= end && t < MOST; t++) want[cell] += (double)lp[t];
        want[cell] = exp(want[cell]), mass += want[cell], cells++;
        chi2 += (seen[cell] - N * want[cell]) * (seen[cell] - N * want[cell]) / (N * want[cell]);
    }
    CHECK(cells == 15);
    CHECK_NEAR(mass, 1.0, 1e-5);
    CHECK(chi2 < 36.1);

    int ids[MOST + 1] = {1, 0, 2, 1, 1};
    CHECK(llm_causal_lm_sample(ids, 4, MOST, -1, &m, &rng, &a) == MOST); /* full already */
    CHECK(llm_causal_lm_sample(ids, 5, MOST, -1, &m, &rng, &a) == 5 && ids[4] == 1);
    CHECK(llm_causal_lm_sample(ids, 3, MOST, -1, &m, &rng, &a) == MOST); /* an old stop is none */
    CHECK(a.used == 0);
    CHECK_ASSERTS(llm_causal_lm_sample(ids, 1, MOST + 1, -1, &m, &rng, &a));
    CHECK_ASSERTS(llm_causal_lm_sample(ids, 0, MOST, -1, &m, &rng, &a));
}

static void mute(void *context, float *logits, const int *ids, size_t rows, size_t t) {
    oracle_logits(context, logits, ids, rows, t); /* nothing may follow the second token */
    for (size_t v = 0; t == 2 && v < V; v++) logits[V + v] = -INFINITY;
}
TEST(causal_lm, "where nothing can follow a text ends") {
    oracle o = oracle_of(V);
    llm_causal_lm m = model_of(&o, 1, T);
    llm_arena a = test_arena(1 << 12);
    llm_rng rng = llm_rng_seed(1);
    int ids[T] = {1, -1, -1, -1};
    m.logits = mute;
    CHECK(llm_causal_lm_sample(ids, 1, T, -1, &m, &rng, &a) == 2);
    CHECK(ids[1] >= 0 && ids[2] == -1 && a.used == 0);
}

TEST(causal_lm, "reach: a triangle, a band of a window; one leak is found; GPT-2 keeps its word") {
    enum { L = 7 };
    const int ids[L] = {4, 0, 2, 2, 1, 3, 0};
    bool reach[L * L];
    llm_arena a = test_arena(1 << 14);
    for (size_t window = 1; window <= L; window++) {
        oracle o = oracle_of(V);
        o.window = window;
        const llm_causal_lm m = model_of(&o, 1, L);
        CHECK(llm_causal_lm_reach(reach, &m, ids, L, &a));
        for (size_t i = 0; i < L * L; i++)
            CHECK(reach[i] == (i % L <= i / L && i % L + window > i / L));
        o.leak = 5;
        CHECK(!llm_causal_lm_reach(reach, &m, ids, L, &a));
        for (size_t i = 0; i < L * L; i++)
            CHECK(reach[i] == (i % L == 5 || (i % L <= i / L && i % L + window > i / L)));
        o.leak = 0; /* the first token is in everybody's past */
        CHECK(llm_causal_lm_reach(reach, &m, ids, L, &a));
        CHECK(llm_causal_lm_reach(reach, &m, ids, 1, &a) && reach[0]);
    }
    llm_gpt2 g = golden_model(1);
    const llm_causal_lm m = llm_causal_lm_gpt2(&g, 1, T);
    CHECK(llm_causal_lm_reach(reach, &m, ids, T, &a));
    for (size_t i = 0; i < T * T; i++) CHECK(reach[i] == (i % T <= i / T));
    CHECK(a.used == 0);
    llm_gpt2_destroy(&g);
    oracle one = oracle_of(1);
    const llm_causal_lm trivial = model_of(&one, 1, L);
    CHECK_ASSERTS(llm_causal_lm_reach(reach, &trivial, ids, 1, &a));
}

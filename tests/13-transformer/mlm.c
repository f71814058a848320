/* @mlm */
#include "../test.h"

#include "../../llm.h"

#include "../arena.h"
#include "../tiny_mlm.h"

enum { V = TINY_MLM_V, C = TINY_MLM_C, B = 2, T = 5, N = B * T };

TEST(mlm, "logits, loss and all gradients equal transformers' BertForMaskedLM") {
    size_t n;
    golden_n(&n, "mlm/weights");
    model m = tiny_mlm_golden("mlm/weights");
    llm_bert_acts a;
    llm_mlm_acts head;
    const float *h =
        llm_bert_forward(&a, as_ints(golden("in/ids"), N), as_ints(golden("in/types"), N),
                         as_bools(golden("in/hidden"), N), B, T, &m.w, &m.c, &m.arena);
    const int *label = as_ints(golden("in/labels"), N);
    const float eps = m.c.encoder.eps;
    const float loss = llm_mlm_forward(&head, h, label, &m.head, m.w.word, N, V, C, eps, &m.arena);
    CHECK(head.M == 4);
    CHECK_GOLDEN(head.logits, 4 * V, 1e-5f, "mlm/logits");
    CHECK_GOLDEN(&loss, 1, 3e-6f, "mlm/loss");
    float d[N * C] = {0}, *got = floats(n);
    const size_t used = m.arena.used;
    llm_mlm_backward(d, &m.dhead, m.dw.word, &head, &m.head, m.w.word, &m.arena);
    CHECK(m.arena.used == used);
    for (size_t i = 0; i < N * C; i++)
        if (label[i / C] == LLM_CROSS_ENTROPY_IGNORE) CHECK(d[i] == 0.0f);
    llm_bert_backward(&m.dw, d, &a, &m.w, &m.c, &m.arena);
    with_pooler(m.g, n, true, got);
    CHECK_GOLDEN(got, n, 3e-5f, "mlm/grads");

    /* one place asked, first of all or behind others: the same loss; the bias gets p - 1 */
    const int one[3] = {3, LLM_CROSS_ENTROPY_IGNORE, 3};
    float rows[2 * C], alone[2], bias = m.dhead.bias[3];
    for (size_t i = 0; i < 2 * C; i++) rows[i] = h[i % C];
    for (size_t k = 0; k < 2; k++) {
        alone[k] =
            llm_mlm_forward(&head, rows, one + k, &m.head, m.w.word, k + 1, V, C, eps, &m.arena);
        CHECK(head.M == 1 && head.row[0] == k);
    }
    CHECK(alone[0] == alone[1]);
    float *kept = floats(m.count), dh[2 * C] = {0};
    memcpy(kept, m.g, m.count * sizeof(float));
    llm_mlm_backward(dh, &m.dhead, m.dw.word, &head, &m.head, m.w.word, &m.arena);
    CHECK_NEAR(m.dhead.bias[3] - bias, expf(-alone[1]) - 1.0f, 1e-6);
    CHECK(dh[0] == 0.0f && dot(dh + C, dh + C, C) > 0.0);
    memcpy(m.g, kept, m.count * sizeof(float));

    /* nothing asked: no loss, no gradient */
    int none[N];
    for (size_t i = 0; i < N; i++) none[i] = LLM_CROSS_ENTROPY_IGNORE;
    CHECK(llm_mlm_forward(&head, h, none, &m.head, m.w.word, N, V, C, eps, &m.arena) == 0.0f);
    llm_mlm_backward(d, &m.dhead, m.dw.word, &head, &m.head, m.w.word, &m.arena);
    with_pooler(m.g, n, true, got);
    CHECK_GOLDEN(got, n, 3e-5f, "mlm/grads");
}

TEST(mlm, "15 of 100 tokens are chosen, 80, 10, 10 of those masked, exchanged, kept; special ones "
          "never") {
    enum { MANY = 40000, FIRST = 5, WORDS = 55, MASK = 4 };
    static int ids[MANY], label[MANY], was[MANY];
    static bool special[MANY];
    llm_rng rng = llm_rng_seed(1);
    const llm_mlm_config c = llm_mlm_defaults(MASK, FIRST, WORDS);
    size_t free_ = 0, chosen = 0, masked = 0, kept = 0, seen[WORDS] = {0};
    for (size_t n = 0; n < MANY; n++) {
        special[n] = n % 10 == 0;
        ids[n] = was[n] = special[n] ? 1 : 7; /* a token in use, which chance may bring back */
    }
    const size_t count = llm_mlm_mask(ids, label, special, NULL, MANY, &c, &rng);
    for (size_t n = 0; n < MANY; n++) {
        free_ += !special[n];
        if (label[n] == LLM_CROSS_ENTROPY_IGNORE) {
            CHECK(ids[n] == was[n]);
            continue;
        }
        CHECK(!special[n] && label[n] == was[n]);
        chosen++;
        masked += ids[n] == MASK, kept += ids[n] == was[n];
        if (ids[n] == MASK || ids[n] == was[n]) continue;
        CHECK(ids[n] >= FIRST && ids[n] < WORDS);
        seen[ids[n]]++;
    }
    CHECK(count == chosen);
    /* four standard errors of 36000 and of 5400 */
    CHECK_NEAR((double)chosen / (double)free_, 0.15, 0.0076);
    CHECK_NEAR((double)masked / (double)chosen, 0.8, 0.022);
    CHECK_NEAR((double)kept / (double)chosen, 0.1 + 0.1 / 50.0, 0.017);
    double chi = 0.0; /* 49 tokens, all but 7, equally often: 48 degrees of freedom, 0.001 at 84 */
    const double each = (double)(chosen - masked - kept) / 49.0;
    for (size_t v = FIRST; v < WORDS; v++)
        if (v != 7) chi += ((double)seen[v] - each) * ((double)seen[v] - each) / each;
    CHECK(chi < 84.0);
    CHECK(seen[FIRST] > 0 && seen[WORDS - 1] > 0);
    llm_mlm_config none = c;
    none.first = WORDS;
    CHECK_ASSERTS(llm_mlm_mask(ids, label, special, NULL, 1, &none, &rng));
}

TEST(mlm, "a number on a border belongs to what is behind it; a word begins where the text does") {
    for (uint64_t seed = 1; seed <= 20; seed++) {
        llm_rng rng = llm_rng_seed(seed), same = rng;
        llm_mlm_config c = llm_mlm_defaults(4, 5, 50);
        const float first = llm_rng_uniform(&same), fate = llm_rng_uniform(&same);
        const bool special[1] = {false};
        int id = 10, label;
        c.chosen = first, same = rng;
        CHECK(llm_mlm_mask(&id, &label, special, NULL, 1, &c, &same) == 0 && id == 10);
        for (size_t k = 0; k < 2; k++) { /* neither masked nor exchanged */
            c.chosen = 1.0f, c.masked = k ? 0.0f : fate, c.random = k ? fate : 0.0f, same = rng;
            CHECK(llm_mlm_mask(&id, &label, special, NULL, 1, &c, &same) == 1 && id == 10);
        }
        const bool none[4] = {false, false, false, false};
        const int word[4] = {3, 3, 5, 5};
        int ids[4] = {10, 10, 10, 10}, labels[4];
        c = llm_mlm_defaults(4, 5, 50);
        c.chosen = 0.5f;
        llm_mlm_mask(ids, labels, none, word, 4, &c, &rng);
        CHECK(labels[0] == labels[1] && labels[2] == labels[3]);
    }
}

TEST(mlm, "whole words: all pieces of a word are chosen or none, and a special token parts them") {
    enum { MANY = 3000 };
    static int ids[MANY], label[MANY], word[MANY];
    static bool special[MANY];
    llm_rng rng = llm_rng_seed(2);
    const llm_mlm_config c = llm_mlm_defaults(4, 5, 50);
    size_t words = 0, differ = 0, next = 0;
    for (size_t n = 0; n < MANY; n++) {
        ids[n] = 10, word[n] = (int)(n / 3);
        special[n] = n % 30 == 1; /* in the middle of a word */
    }
    llm_mlm_mask(ids, label, special, word, MANY, &c, &rng);
    for (size_t n = 0; n < MANY; n += 3) {
        const bool asked = label[n] != LLM_CROSS_ENTROPY_IGNORE;
        words += asked;
        if (special[n + 1]) {
            CHECK(label[n + 1] == LLM_CROSS_ENTROPY_IGNORE);
            differ += asked != (label[n + 2] != LLM_CROSS_ENTROPY_IGNORE);
            continue;
        }
        if (n + 3 < MANY && n % 30 != 27)
            next += asked != (label[n + 3] != LLM_CROSS_ENTROPY_IGNORE);
        CHECK(asked == (label[n + 1] != LLM_CROSS_ENTROPY_IGNORE));
        CHECK(asked == (label[n + 2] != LLM_CROSS_ENTROPY_IGNORE));
    }
    CHECK_NEAR((double)words / 1000.0, 0.15, 0.046);
    CHECK(differ > 0);
    CHECK_NEAR((double)next / 800.0, 2.0 * 0.15 * 0.85, 0.08); /* neighbours, 5 deviations */
}

/* A Markov chain: the next token is this one plus 1 with probability 0.7, else any of the 5. The
 * middle of three given its neighbours costs H(x | left, right), less than H(x | left). */
enum { STATES = 5, LONG = 6, BATCH = 32, STEPS = 800 };
static double transition(size_t a, size_t b) {
    return 0.3 / STATES + (b == (a + 1) % STATES ? 0.7 : 0.0);
}
TEST(mlm,
     "on a Markov chain the loss comes near what both neighbours leave, below the causal one") {
    double causal = 0.0, both = 0.0; /* stationary: all states alike */
    for (size_t a = 0; a < STATES; a++) {
        causal -= transition(0, a) * log(transition(0, a));
        for (size_t b = 0; b < STATES; b++) {
            double through = 0.0;
            for (size_t x = 0; x < STATES; x++) through += transition(a, x) * transition(x, b);
            for (size_t x = 0; x < STATES; x++) {
                const double joint = transition(a, x) * transition(x, b) / STATES;
                both -= joint * log(transition(a, x) * transition(x, b) / through);
            }
        }
    }
    CHECK(both < causal - 0.3);
    model m = make(STATES + 2, LONG, 1, 16, 32, NULL);
    llm_rng rng = llm_rng_seed(1);
    tiny_mlm_init(&m, 0.25f, &rng);
    llm_adamw_config adamw = llm_adamw_defaults();
    adamw.weight_decay = 0.0f;
    double tail = 0.0;
    size_t asked = 0;
    for (size_t t = 1; t <= STEPS; t++) {
        int ids[BATCH * LONG], label[BATCH * LONG];
        for (size_t i = 0; i < BATCH * LONG; i++) {
            const size_t last = i % LONG ? (size_t)ids[i - 1] - 2 : llm_rng_below(&rng, STATES);
            const bool on = i % LONG && llm_rng_uniform(&rng) < 0.7f;
            ids[i] = 2 + (int)(on ? (last + 1) % STATES : llm_rng_below(&rng, STATES));
        }
        for (size_t i = 0; i < BATCH * LONG; i++) label[i] = LLM_CROSS_ENTROPY_IGNORE;
        for (size_t b = 0; b < BATCH; b++) /* one of each text, not at its ends */
            for (size_t i = b * LONG + 1 + llm_rng_below(&rng, LONG - 2); label[i] < 0; ids[i] = 0)
                label[i] = ids[i];
        adamw.lr = 1e-2f * fminf(1.0f, (float)t / 50.0f) * (float)(STEPS - t) / STEPS;
        const float loss = tiny_mlm_step(&m, ids, label, BATCH, LONG, &adamw, t);
        if (t > STEPS - 100) tail += (double)loss, asked++;
    }
    tail /= (double)asked;
    /* 9 seeds: 0.510 to 0.715, both 0.526, causal 0.884; 3200 answers, a standard error of 0.013 */
    CHECK(tail < causal - 0.08 && tail > both - 0.06);
}

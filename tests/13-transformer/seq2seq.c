/* @seq2seq */
#include "../test.h"

#include "../../llm.h"

#include "../arena.h"

enum { C = 3, H = 4, VS = 7, VT = 6, S = 5, T = 4 };
static const char *const name[4] = {"plain", "reversed", "attention", "attention"};

/* 3: the weights of 2, read backwards; no golden values. */
static llm_seq2seq_config config(size_t k) {
    const llm_seq2seq_config c = {VS, VT, C, H, k >= 2, k % 2 == 1, 1};
    return c;
}

TEST(seq2seq,
     "logits, loss and all gradients equal two torch.nn.GRU, reversed, and with attention") {
    for (size_t k = 0; k < 3; k++) {
        const llm_seq2seq_config c = config(k);
        size_t count;
        float *flat = golden_n(&count, "%s/weights", name[k]), *g = zeros(count);
        llm_seq2seq_weights w, dw;
        CHECK(llm_seq2seq_bind(&w, flat, &c) == count && llm_seq2seq_count(&c) == count);
        llm_seq2seq_bind(&dw, g, &c);
        CHECK((w.join != NULL) == (k == 2));
        llm_arena arena = test_arena(1 << 16);
        llm_seq2seq_acts a;
        const int *source = as_ints(golden("in/source"), S),
                  *target = as_ints(golden("in/target"), T);
        const float loss = llm_seq2seq_forward(&a, source, S, target, T, &w, &c, &arena);
        CHECK_GOLDEN(a.logits, T * VT, 5e-6f, "%s/logits", name[k]);
        CHECK_GOLDEN(&loss, 1, 3e-6f, "%s/loss", name[k]);
        const size_t used = arena.used;
        llm_seq2seq_backward(&dw, &a, &w, &c, 1.0f, &arena);
        CHECK(arena.used == used);
        CHECK_GOLDEN(g, count, 1e-5f, "%s/grads", name[k]);
        llm_seq2seq_backward(&dw, &a, &w, &c, 0.5f, &arena);
        for (size_t i = 0; i < count; i++) g[i] /= 1.5f;
        CHECK_GOLDEN(g, count, 1e-5f, "%s/grads", name[k]);
        CHECK_ASSERTS(llm_seq2seq_forward(&a, source, 0, target, T, &w, &c, &arena));
    }
}

TEST(seq2seq, "writing token by token equals the argmax of a pass over what was written") {
    for (size_t k = 0; k < 4; k++) {
        const llm_seq2seq_config c = config(k);
        enum { LONG = 7 };
        float *flat = golden("%s/weights", name[k]);
        llm_seq2seq_weights w;
        llm_seq2seq_bind(&w, flat, &c);
        llm_arena arena = test_arena(1 << 16);
        const int *source = as_ints(golden("in/source"), S);
        int ids[LONG];
        size_t align[LONG];
        CHECK(llm_seq2seq_greedy(ids, align, LONG, source, S, -1, &w, &c, &arena) == LONG);
        CHECK(arena.used == 0);
        llm_seq2seq_acts a;
        llm_seq2seq_forward(&a, source, S, ids, LONG, &w, &c, &arena);
        for (size_t t = 0; t < LONG; t++) {
            CHECK(llm_greedy_pick(a.logits + t * VT, VT) == ids[t]);
            if (k < 2) continue;
            const size_t seen = (size_t)llm_greedy_pick(a.att + t * S, S);
            CHECK(align[t] == (k == 3 ? S - 1 - seen : seen));
        }
        arena.used = 0;
        size_t first = 0; /* the end is where a token stands for the first time */
        while (ids[first] != ids[2]) first++;
        int again[LONG];
        CHECK(llm_seq2seq_greedy(again, NULL, LONG, source, S, ids[2], &w, &c, &arena) ==
              first + 1);
        CHECK(memcmp(again, ids, (first + 1) * sizeof(int)) == 0);
        /* a source of one token is all there is to look at */
        CHECK(llm_seq2seq_greedy(ids, align, 1, source, 1, -1, &w, &c, &arena) == 1);
        CHECK(align[0] == 0);
    }
}

TEST(seq2seq, "the end may be the first token written, or the one in front of the text; of equals "
              "the first; more tokens take no more memory") {
    for (size_t k = 0; k < 3; k++) {
        llm_seq2seq_config c = config(k);
        enum { LONG = 7 };
        llm_seq2seq_weights w;
        float *flat = golden("%s/weights", name[k]);
        const size_t count = llm_seq2seq_bind(&w, flat, &c);
        llm_arena arena = test_arena(1 << 16);
        const int *source = as_ints(golden("in/source"), S);
        int ids[LONG], first;
        size_t align[LONG], peak[2];
        for (size_t most = 1; most <= LONG; most += LONG - 1) {
            arena.peak = 0;
            CHECK(llm_seq2seq_greedy(ids, NULL, most, source, S, -1, &w, &c, &arena) == most);
            peak[most > 1] = arena.peak;
        }
        CHECK(peak[0] == peak[1]);
        first = ids[0];
        CHECK(llm_seq2seq_greedy(ids, NULL, LONG, source, S, first, &w, &c, &arena) == 1);
        CHECK(llm_seq2seq_greedy(ids, NULL, LONG, source, S, c.start, &w, &c, &arena) >= 1);
        CHECK(ids[0] == first);
        memset(flat, 0, count * sizeof(float));
        CHECK(llm_seq2seq_greedy(ids, align, LONG, source, S, 0, &w, &c, &arena) == 1);
        CHECK(ids[0] == 0 && align[0] == (c.reversed ? S - 1 : 0));
    }
}

TEST(seq2seq, "first weights: tables N(0, 1), the rest uniform within 1/sqrt(H)") {
    const llm_seq2seq_config c = {300, 200, 8, 16, true, false, 1};
    const size_t count = llm_seq2seq_count(&c);
    float *flat = floats(count), most = 0.0f;
    llm_seq2seq_weights w;
    llm_rng rng = llm_rng_seed(1);
    CHECK(llm_seq2seq_bind(&w, flat, &c) == count);
    llm_seq2seq_init(&w, &c, &rng);
    CHECK_NEAR(dot(flat, flat, 4000) / 4000.0, 1.0, 0.09);
    for (size_t i = 4000; i < count; i++) {
        CHECK(fabsf(flat[i]) <= 0.25f);
        most = fmaxf(most, fabsf(flat[i]));
    }
    CHECK(most > 0.24f);
    CHECK_NEAR(dot(flat + 4000, flat + 4000, count - 4000) / (double)(count - 4000), 0.0625 / 3.0,
               0.001);
}

/* Copies a text of 8 letters of 5. Returns the share of fresh ones without a mistake; *aligned gets
 * how often the place looked at most was the one to copy. */
enum { LETTERS = 5, LENGTH = 8, END = 2, BATCH = 8, STEPS = 200, FRESH = 60 };
static double copying(double *aligned, bool attention, uint64_t seed) {
    const llm_seq2seq_config c = {LETTERS + 3, LETTERS + 3, 16, 32, attention, false, 1};
    const size_t count = llm_seq2seq_count(&c);
    float *flat = floats(count), *g = zeros(count), *m = zeros(count), *v = zeros(count);
    llm_seq2seq_weights w, dw;
    llm_rng rng = llm_rng_seed(seed);
    llm_arena arena = test_arena(1 << 18);
    llm_seq2seq_bind(&w, flat, &c);
    llm_seq2seq_bind(&dw, g, &c);
    llm_seq2seq_init(&w, &c, &rng);
    llm_adamw_config adamw = llm_adamw_defaults();
    adamw.weight_decay = 0.0f;
    size_t right = 0, hit = 0;
    for (size_t t = 1; t <= STEPS + FRESH; t++) {
        for (size_t b = 0; b < (t <= STEPS ? (size_t)BATCH : 1); b++) {
            int ids[LENGTH + 1], out[LENGTH + 1] = {0};
            size_t align[LENGTH + 1];
            llm_seq2seq_acts a;
            for (size_t i = 0; i < LENGTH; i++) ids[i] = 3 + (int)llm_rng_below(&rng, LETTERS);
            ids[LENGTH] = END;
            if (t <= STEPS) {
                llm_seq2seq_forward(&a, ids, LENGTH + 1, ids, LENGTH + 1, &w, &c, &arena);
                llm_seq2seq_backward(&dw, &a, &w, &c, 1.0f / (BATCH * (LENGTH + 1)), &arena);
                arena.used = 0;
                continue;
            }
            llm_seq2seq_greedy(out, align, LENGTH + 1, ids, LENGTH + 1, END, &w, &c, &arena);
            const bool same = memcmp(out, ids, sizeof ids) == 0;
            right += same;
            for (size_t i = 0; same && i < LENGTH; i++) hit += align[i] == i;
        }
        if (t > STEPS) continue;
        adamw.lr = 2e-2f * (float)(STEPS - t) / STEPS;
        llm_adamw_step(flat, m, v, g, count, &adamw, t);
        memset(g, 0, count * sizeof(float));
    }
    *aligned = right ? (double)hit / (double)(right * LENGTH) : 0.0;
    return (double)right / FRESH;
}

TEST(seq2seq, "copying: attention finds the place; one vector does not hold a text") {
    for (uint64_t seed = 1; seed <= 1; seed++) {
        double aligned, none;
        const double with = copying(&aligned, true, seed), without = copying(&none, false, seed);
        /* 9 seeds: 0.917 to 0.983, 0, and 0.915 to 0.980; by chance 0.11 would be aligned */
        CHECK(with > without + 0.45 && aligned > 0.5);
    }
}

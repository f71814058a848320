/* @seq2seq_additive */
#include "../test.h"

#include "../../llm.h"

#include "../arena.h"

enum { C = 3, H = 4, A = 5, VS = 7, VT = 6, S = 5, T = 4 };
static const llm_seq2seq_additive_config config = {VS, VT, C, H, A, 1};

static size_t additive_up(size_t n) { return (n * sizeof(float) + 63) / 64 * 64; }

/* The bytes that n steps of a cell leave. */
static size_t additive_cell(const llm_seq2seq_gru_weights *w, size_t n, size_t width) {
    llm_arena arena = test_arena(1 << 13);
    llm_seq2seq_gru_acts a;
    llm_seq2seq_gru_forward(&a, zeros(n * width), NULL, w, n, width, H, &arena);
    return arena.used;
}

/* Those of a source of `from` tokens and `to` steps: what the structure lists. */
static size_t additive_taken(const llm_seq2seq_additive_weights *w, size_t from, size_t to) {
    const size_t cells = to * sizeof(llm_seq2seq_gru_acts) / sizeof(float);
    return 2 * additive_up(from) +
           2 * (additive_up(from * C) + additive_cell(&w->forward, from, C)) +
           additive_up(from * 2 * H) + additive_up(from * A) + additive_up(H) + additive_up(cells) +
           additive_up(to * A) + additive_up(to * from) + additive_up(to * 2 * H) +
           additive_up(to * (C + 2 * H)) + additive_up(to * (3 * H + C)) + additive_up(to * VT) +
           to * additive_cell(&w->decoder, 1, C + 2 * H);
}

TEST(seq2seq_additive, "logits, weights of the search and loss equal a torch.nn.GRU in both "
                       "directions, a softmax and a torch.nn.GRUCell") {
    size_t count;
    float *flat = golden_n(&count, "model/weights");
    llm_seq2seq_additive_weights w;
    CHECK(llm_seq2seq_additive_count(&config) == count);
    llm_seq2seq_additive_bind(&w, flat, &config);
    CHECK(w.bias + VT == flat + count);
    llm_arena arena = test_arena(1 << 16);
    llm_seq2seq_additive_acts a;
    const int *source = as_ints(golden("in/source"), S), *target = as_ints(golden("in/target"), T);
    const float loss = llm_seq2seq_additive_forward(&a, source, S, target, T, &w, &config, &arena);
    CHECK_GOLDEN(a.logits, T * VT, 5e-6f, "model/logits");
    CHECK_GOLDEN(a.att, T * S, 3e-6f, "model/att");
    CHECK_GOLDEN(&loss, 1, 3e-6f, "model/loss");
    CHECK(a.target == target && arena.used == additive_taken(&w, S, T) + 3 * additive_up(T));
    CHECK_ASSERTS(llm_seq2seq_additive_forward(&a, source, 0, target, T, &w, &config, &arena));
}

TEST(seq2seq_additive, "each step leaves its question, what it found, what it read and what the "
                       "head reads; a source of one word is all that is found") {
    llm_seq2seq_additive_weights w;
    llm_seq2seq_additive_bind(&w, golden("model/weights"), &config);
    const int *source = as_ints(golden("in/source"), S), *target = as_ints(golden("in/target"), T);
    for (size_t from = 1; from <= S; from += S - 1) {
        llm_arena arena = test_arena(1 << 16);
        llm_seq2seq_additive_acts a;
        llm_seq2seq_additive_forward(&a, source, from, target, T, &w, &config, &arena);
        for (size_t t = 0; t < T; t++) {
            const float *before = t ? a.y + (t - 1) * (3 * H + C) : a.first;
            const float *x = a.x + t * (C + 2 * H), *y = a.y + t * (3 * H + C);
            const float *context = a.context + t * 2 * H;
            float q[A];
            llm_matmul_forward(q, before, w.search.w, w.search.b, 1, H, A);
            CHECK_ALL_NEAR(a.q + t * A, q, A, 1e-6f);
            for (size_t i = 0; i < 2 * H; i++) {
                double sum = 0.0;
                for (size_t j = 0; j < from; j++)
                    sum += (double)a.att[t * from + j] * (double)a.h[j * 2 * H + i];
                CHECK_NEAR(context[i], sum, 1e-6);
            }
            if (from == 1) CHECK(a.att[t] == 1.0f);
            const float *e = w.target + (t ? (size_t)target[t - 1] : 1) * C;
            CHECK(memcmp(x, e, C * sizeof(float)) == 0);
            CHECK(memcmp(x + C, context, 2 * H * sizeof(float)) == 0);
            CHECK(memcmp(y, a.cell[t].h + H, H * sizeof(float)) == 0);
            CHECK(memcmp(y + H, context, 2 * H * sizeof(float)) == 0);
            CHECK(memcmp(y + 3 * H, e, C * sizeof(float)) == 0);
        }
    }
}

TEST(seq2seq_additive, "writing token by token equals the argmax of a pass over what was written") {
    enum { LONG = 7 };
    llm_seq2seq_additive_weights w;
    llm_seq2seq_additive_bind(&w, golden("model/weights"), &config);
    llm_arena arena = test_arena(1 << 16), two = test_arena(additive_taken(&w, S, 1) + 64);
    const int *source = as_ints(golden("in/source"), S);
    int ids[LONG], again[LONG];
    size_t align[LONG];
    /* in the memory of one step and of a cell's scratch, 3 H numbers */
    CHECK(llm_seq2seq_additive_greedy(ids, align, LONG, source, S, -1, &w, &config, &two) == LONG);
    CHECK(two.used == 0);
    llm_seq2seq_additive_acts a;
    llm_seq2seq_additive_forward(&a, source, S, ids, LONG, &w, &config, &arena);
    for (size_t t = 0; t < LONG; t++) {
        CHECK(llm_greedy_pick(a.logits + t * VT, VT) == ids[t]);
        CHECK(llm_greedy_pick(a.att + t * S, S) == (int)align[t]);
    }
    arena.used = 0;
    size_t first = 0; /* the end is where a token stands for the first time */
    while (ids[first] != ids[2]) first++;
    CHECK(llm_seq2seq_additive_greedy(again, NULL, LONG, source, S, ids[2], &w, &config, &arena) ==
          first + 1);
    CHECK(memcmp(again, ids, (first + 1) * sizeof(int)) == 0);
    /* a start token that is the end is not taken for one */
    CHECK(llm_seq2seq_additive_greedy(again, NULL, 1, source, S, 1, &w, &config, &arena) == 1);
    CHECK(llm_seq2seq_additive_greedy(again, NULL, 0, source, S, 1, &w, &config, &arena) == 0);
    /* of equals the first token, and the first place */
    llm_seq2seq_additive_bind(&w, zeros(llm_seq2seq_additive_count(&config)), &config);
    llm_seq2seq_additive_greedy(ids, align, LONG, source, S, -1, &w, &config, &arena);
    for (size_t t = 0; t < LONG; t++) CHECK(ids[t] == 0 && align[t] == 0);
}

TEST(seq2seq_additive, "first weights: tables N(0, 1), the rest uniform within 1/sqrt(H)") {
    const llm_seq2seq_additive_config c = {300, 200, 8, 16, 12, 1};
    const size_t count = llm_seq2seq_additive_count(&c);
    float *flat = floats(count), most = 0.0f;
    llm_seq2seq_additive_weights w;
    llm_rng rng = llm_rng_seed(1);
    llm_seq2seq_additive_bind(&w, flat, &c);
    CHECK(w.bias + 200 == flat + count);
    llm_seq2seq_additive_init(&w, &c, &rng);
    CHECK_NEAR(dot(flat, flat, 4000) / 4000.0, 1.0, 0.09);
    for (size_t i = 4000; i < count; i++) {
        CHECK(fabsf(flat[i]) <= 0.25f);
        most = fmaxf(most, fabsf(flat[i]));
    }
    CHECK(most > 0.24f);
    CHECK_NEAR(dot(flat + 4000, flat + 4000, count - 4000) / (double)(count - 4000), 0.0625 / 3.0,
               0.001);
}

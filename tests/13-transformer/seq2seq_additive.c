/* @seq2seq_additive */
#include "../test.h"

#include "../../llm.h"

#include "../arena.h"

enum { C = 3, H = 4, A = 5, VS = 7, VT = 6, S = 5, T = 4 };
static const llm_seq2seq_additive_config config = {VS, VT, C, H, A, 1};

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
    CHECK_ASSERTS(llm_seq2seq_additive_forward(&a, source, 0, target, T, &w, &config, &arena));
}

TEST(seq2seq_additive, "writing token by token equals the argmax of a pass over what was written") {
    enum { LONG = 7 };
    llm_seq2seq_additive_weights w;
    llm_seq2seq_additive_bind(&w, golden("model/weights"), &config);
    llm_arena arena = test_arena(1 << 16);
    const int *source = as_ints(golden("in/source"), S);
    int ids[LONG], again[LONG];
    size_t align[LONG];
    CHECK(llm_seq2seq_additive_greedy(ids, align, LONG, source, S, -1, &w, &config, &arena) ==
          LONG);
    CHECK(arena.used == 0);
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

/* @foundation */
#include "../test.h"

#include "../../llm.h"
#include "../arena.h"

/* Sentences with a topic, a number and a mood: 0, then adjective, noun, verb, adverb, noun, verb.
 * Each kind of word has for each of three topics two words in the singular and two in the plural;
 * a word is from the sentence's topic with probability 0.7, else from any. Each noun has a number
 * of its own, and its verb agrees. In a question, half of the sentences, verbs stand in front of
 * their nouns. T tokens. */
enum { KINDS = 4, TOPICS = 3, T = 7, LABELS = 3, V = 1 + KINDS * TOPICS * 4 + LABELS };
enum { TASK_TOPIC, TASK_NUMBER, TASK_MOOD, TASKS };
static const int words[LABELS] = {V - 3, V - 2, V - 1};

static int word(size_t kind, size_t topic, size_t number, llm_rng *rng) {
    if (llm_rng_uniform(rng) >= 0.7f) topic = llm_rng_below(rng, TOPICS);
    const size_t any = kind == 0 || kind == 3; /* adjectives and adverbs have no number */
    if (any) number = llm_rng_below(rng, 2);
    return (int)(1 + ((kind * TOPICS + topic) * 2 + number) * 2 + llm_rng_below(rng, 2));
}
/* ids (T) and the label of the task. */
static int sentence(int *ids, int task, llm_rng *rng) {
    const size_t topic = llm_rng_below(rng, TOPICS), question = llm_rng_below(rng, 2);
    const size_t first = llm_rng_below(rng, 2), second = llm_rng_below(rng, 2);
    ids[0] = 0, ids[1] = word(0, topic, 0, rng), ids[4] = word(3, topic, 0, rng);
    ids[question ? 3 : 2] = word(1, topic, first, rng);
    ids[question ? 2 : 3] = word(2, topic, first, rng);
    ids[question ? 6 : 5] = word(1, topic, second, rng);
    ids[question ? 5 : 6] = word(2, topic, second, rng);
    const size_t label[TASKS] = {topic, first, question};
    return (int)label[task];
}

enum { C = 32, B = 32, TRAIN = 32, HELD = 300 };
static llm_gpt2 network(llm_rng *rng) {
    llm_gpt2_config c = llm_gpt2_defaults();
    llm_gpt2 g;
    llm_error e;
    memset(&g, 0, sizeof g);
    c.vocab = V, c.context = T + 1, c.layers = 2, c.heads = 4, c.width = C, c.hidden = 64;
    CHECK(llm_gpt2_create(&g, &c, B, T + 1, &e));
    llm_gpt2_init(&g, rng);
    return g;
}
static llm_adamw_config rate(float lr) {
    llm_adamw_config c = llm_adamw_defaults();
    c.lr = lr, c.beta2 = 0.95f, c.weight_decay = 0.0f;
    return c;
}
/* A trunk trained on sentences, or on their words in an order and a company of chance. */
static llm_gpt2 pretrained(bool shuffled, llm_rng *rng, llm_arena *a) {
    llm_gpt2 g = network(rng);
    const size_t steps = shuffled ? 100 : 250;
    for (size_t step = 1; step <= steps; step++) {
        int ids[B * T];
        for (size_t b = 0; b < B; b++) sentence(ids + b * T, 0, rng);
        for (size_t i = B * T; shuffled && i-- > 1;) {
            const size_t j = llm_rng_below(rng, i + 1);
            const int kept = ids[i];
            ids[i] = ids[j], ids[j] = kept;
        }
        const llm_adamw_config adamw = rate(5e-3f * (1.0f - (float)step / (float)(steps + 1)));
        llm_causal_lm_gpt2_step(&g, ids, NULL, B, T, &adamw, step, a);
    }
    return g;
}

TEST(foundation, "features are the mean of the last vectors, one text or many a pass; the trunk "
                 "stays as it is") {
    enum { N = 5 };
    llm_rng rng = llm_rng_seed(3);
    llm_gpt2 g = network(&rng);
    int ids[N * T];
    float a[N * C], b[N * C], *w = floats(g.count);
    for (size_t i = 0; i < N; i++) sentence(ids + i * T, 0, &rng);
    memcpy(w, g.w, g.count * sizeof(float));
    llm_foundation_features(a, &g, ids, N, T, N);
    for (size_t n = 0; n < N; n++) {
        llm_gpt2_forward(&g, ids + n * T, NULL, 1, T);
        for (size_t c = 0; c < C; c++) {
            double mean = 0.0;
            for (size_t t = 0; t < T; t++) mean += (double)g.norm[t * C + c] / T;
            CHECK_NEAR(a[n * C + c], mean, 1e-5);
        }
    }
    for (size_t rows = 1; rows <= N + 1; rows++) {
        llm_foundation_features(b, &g, ids, N, T, rows);
        CHECK_ALL_NEAR(b, a, N * C, 1e-5f);
    }
    CHECK(memcmp(w, g.w, g.count * sizeof(float)) == 0);
    llm_foundation_features(b, &g, ids, N, 1, 2); /* texts of one token */
    for (size_t n = 0; n < N; n++) {
        llm_gpt2_forward(&g, ids + n, NULL, 1, 1);
        CHECK_ALL_NEAR(b + n * C, g.norm, C, 1e-5f);
    }
    CHECK_ASSERTS(llm_foundation_features(b, &g, ids, N, T, 0));
    CHECK_ASSERTS(llm_foundation_features(b, &g, ids, N, 0, 1));
    llm_gpt2_destroy(&g);
}

TEST(foundation, "a probe is right as often as scikit-learn's logistic regression") {
    llm_arena a = test_arena(1 << 18);
    const size_t size[2][4] = {{25, 60, 5, 3}, {16, 40, 3, 2}};
    for (size_t k = 0; k < 2; k++) {
        const size_t n = size[k][0], M = size[k][1], K = size[k][3];
        const float share = (float)llm_foundation_probe(
            golden("%zu/x", K), as_ints(golden("%zu/label", K), n), n, golden("%zu/held", K),
            as_ints(golden("%zu/wanted", K), M), M, size[k][2], K, 0.1, &a);
        CHECK_GOLDEN(&share, 1, 1e-6f, "%zu/accuracy", K);
        CHECK(a.used == 0);
    }
    const float same[2] = {0.0f, 0.0f}; /* where classes cannot be told apart the first is taken */
    const int both[2] = {0, 1};
    CHECK(llm_foundation_probe(same, both, 2, same, both, 1, 1, 2, 0.1, &a) == 1.0);
}

TEST(foundation, "an answer is the most probable of the labels' tokens, the first among equals") {
    enum { N = 40 };
    llm_rng rng = llm_rng_seed(4);
    llm_gpt2 g = network(&rng);
    for (size_t i = 0; i < g.matrices; i++) g.w[i] *= 20.0f;
    int ids[N * T], label[N];
    size_t right = 0, other = 0, first = 0;
    for (size_t i = 0; i < N; i++) {
        label[i] = sentence(ids + i * T, TASK_TOPIC, &rng);
        llm_gpt2_forward(&g, ids + i * T, NULL, 1, T);
        const float *z = g.logits + (T - 1) * V + V - 3;
        const int best = z[0] >= z[1] && z[0] >= z[2] ? 0 : z[1] >= z[2] ? 1 : 2;
        right += best == label[i], other += best != 0;
        first += label[i] == 0;
    }
    CHECK(other > 0 && other < N); /* or the choice would not be seen */
    for (size_t rows = 1; rows <= B; rows += 7)
        CHECK_NEAR(llm_foundation_answer(&g, ids, label, words, N, T, LABELS, rows),
                   (double)right / N, 1e-12);
    CHECK_ASSERTS(llm_foundation_answer(&g, ids, label, words, N, T, LABELS, 0));
    CHECK_ASSERTS(llm_foundation_answer(&g, ids, label, words, N, 0, LABELS, 1));
    const double one = llm_foundation_answer(&g, ids, label, words, 1, 1, LABELS, 1);
    llm_gpt2_forward(&g, ids, NULL, 1, 1);
    const float *z = g.logits + V - 3;
    CHECK(one == (z[label[0]] >= fmaxf(z[0], fmaxf(z[1], z[2])) ? 1.0 : 0.0));
    memset(g.w, 0, g.count * sizeof(float));
    CHECK_NEAR(llm_foundation_answer(&g, ids, label, words, N, T, LABELS, B), (double)first / N,
               1e-12);
    memset(label, 0, sizeof label);
    CHECK(llm_foundation_answer(&g, ids, label, words, N, T, LABELS, B) == 1.0);
    llm_gpt2_destroy(&g);
}

TEST(foundation, "tuning is a step of the language model on the label's token alone") {
    llm_rng rng = llm_rng_seed(5), draws = llm_rng_seed(6), same = draws;
    llm_gpt2 g = network(&rng), h = network(&rng);
    llm_arena a = test_arena(1 << 16);
    const llm_adamw_config adamw = rate(3e-3f);
    int ids[3 * T], label[3] = {1, 2, 0}, row[2 * (T + 1)];
    bool asked[2 * (T + 1)] = {false};
    for (size_t i = 0; i < 3; i++) sentence(ids + i * T, 0, &rng);
    memcpy(h.w, g.w, g.count * sizeof(float));
    llm_foundation_tune(&g, ids, label, words, 3, T, 2, 3, &adamw, &draws, &a);
    CHECK(a.used == 0);
    asked[T] = asked[2 * T + 1] = true;
    for (size_t step = 1; step <= 3; step++) {
        for (size_t b = 0; b < 2; b++) {
            const size_t pick = llm_rng_below(&same, 3);
            memcpy(row + b * (T + 1), ids + pick * T, T * sizeof(int));
            row[b * (T + 1) + T] = words[label[pick]];
        }
        llm_causal_lm_gpt2_step(&h, row, asked, 2, T + 1, &adamw, step, &a);
    }
    CHECK(memcmp(g.w, h.w, g.count * sizeof(float)) == 0);
    llm_foundation_tune(&g, ids, label, words, 3, T, 4, 60, &adamw, &draws, &a);
    CHECK(llm_foundation_answer(&g, ids, label, words, 3, T, LABELS, B) == 1.0);
    llm_gpt2_destroy(&g);
    llm_gpt2_destroy(&h);
}

TEST(foundation, "labels saved: read off a line over the logarithm of their number") {
    const double count[4] = {4, 16, 64, 256}, scratch[4] = {0.3, 0.4, 0.5, 0.6};
    const double good[4] = {0.5, 0.7, 0.8, 0.9}, best[4] = {0.6, 0.7, 0.8, 0.9};
    const double bad[4] = {0.2, 0.3, 0.4, 0.5}, late[4] = {0.3, 0.4, 0.5, 0.7};
    CHECK_NEAR(llm_foundation_label_saving(good, scratch, count, 4), 256.0 / 8.0, 1e-9);
    CHECK_NEAR(llm_foundation_label_saving(best, scratch, count, 4), 64.0, 1e-12);
    CHECK_NEAR(llm_foundation_label_saving(late, scratch, count, 4), 2.0, 1e-9);
    CHECK_NEAR(llm_foundation_label_saving(scratch, scratch, count, 4), 1.0, 1e-12);
    CHECK(llm_foundation_label_saving(bad, scratch, count, 4) == 0.0);
    CHECK(llm_foundation_label_saving(best, scratch, count, 1) == 1.0);
    CHECK(llm_foundation_label_saving(scratch, scratch, count, 1) == 1.0);
}

/* Over seeds 1 to 9, topics from 32 labels: probes on the trunk 0.92 to 0.96, on the shuffled one
 * 0.31 to 0.40, the trunk tuned 0.87 to 0.98, the network tuned from random weights 0.64 to 0.91;
 * of each seed the probe was better than that by 0.01 to 0.28, the tuned trunk by 0.04 to 0.30.
 * Verbs without labels: 1.00, and 0.42 to 0.54 after shuffling. (The mood, which two places show,
 * is another matter: after 300 steps 0.54 to 0.99 with a tuned trunk, 0.74 to 1.00 without.) */
TEST(foundation, "a trunk trained on sentences knows topics with few labels and agreement without "
                 "any; one trained on the same words shuffled knows neither") {
    llm_rng rng = llm_rng_seed(1);
    llm_arena a = test_arena(1 << 20);
    llm_gpt2 trunk[2] = {pretrained(false, &rng, &a), pretrained(true, &rng, &a)};
    const llm_adamw_config adamw = rate(2e-3f);
    int ids[TRAIN * T], held[HELD * T], label[TRAIN], wanted[HELD];
    float x[TRAIN * C], y[HELD * C];
    double probe[2], prompt[2];
    for (size_t i = 0; i < TRAIN; i++) label[i] = sentence(ids + i * T, TASK_TOPIC, &rng);
    for (size_t i = 0; i < HELD; i++) wanted[i] = sentence(held + i * T, TASK_TOPIC, &rng);
    for (size_t k = 0; k < 2; k++) {
        llm_foundation_features(x, &trunk[k], ids, TRAIN, T, B);
        llm_foundation_features(y, &trunk[k], held, HELD, T, B);
        probe[k] = llm_foundation_probe(x, label, TRAIN, y, wanted, HELD, C, TOPICS, 0.05, &a);
    }
    llm_gpt2 fresh = network(&rng);
    llm_foundation_tune(&fresh, ids, label, words, TRAIN, T, 8, 60, &adamw, &rng, &a);
    const double scratch = llm_foundation_answer(&fresh, held, wanted, words, HELD, T, TOPICS, B);

    /* behind "0 adjective noun", the start of a statement: a verb of which number? */
    int begin[HELD * 3], number[HELD];
    for (size_t i = 0; i < HELD; i++) {
        llm_rng same;
        int full[T];
        do same = rng;
        while (sentence(full, TASK_MOOD, &rng) == 1);
        number[i] = sentence(full, TASK_NUMBER, &same);
        memcpy(begin + i * 3, full, 3 * sizeof(int));
    }
    const int verbs[2] = {1 + 2 * TOPICS * 4, 3 + 2 * TOPICS * 4};
    for (size_t k = 0; k < 2; k++)
        prompt[k] = llm_foundation_answer(&trunk[k], begin, number, verbs, HELD, 3, 2, B);
    llm_foundation_tune(&trunk[0], ids, label, words, TRAIN, T, 8, 60, &adamw, &rng, &a);
    const double tuned = llm_foundation_answer(&trunk[0], held, wanted, words, HELD, T, TOPICS, B);
    llm_gpt2_destroy(&fresh);
    llm_gpt2_destroy(&trunk[0]);
    llm_gpt2_destroy(&trunk[1]);
    CHECK(probe[0] > 0.7 && tuned - scratch > 0.015 && probe[0] > scratch);
    CHECK(probe[0] - probe[1] > 0.25);
    CHECK(prompt[0] > 0.95);
    CHECK_NEAR(prompt[1], 0.5, 0.15);
}

/* @gpt2 */
#include "../test.h"

#include "../../llm.h"

static llm_gpt2_config tiny_config(void) {
    llm_gpt2_config c = llm_gpt2_defaults();
    c.vocab = 7, c.context = 5, c.layers = 2, c.heads = 2, c.width = 6, c.hidden = 8;
    return c;
}

/* The golden model, with the golden weights. */
static llm_gpt2 tiny_model(void) {
    llm_gpt2 g;
    llm_error e;
    const llm_gpt2_config c = tiny_config();
    CHECK(llm_gpt2_create(&g, &c, 3, 5, &e));
    memcpy(g.w, golden("tiny/weights"), g.count * sizeof(float));
    return g;
}

TEST(gpt2, "logits, loss and all gradients equal transformers' GPT2LMHeadModel") {
    llm_gpt2 g = tiny_model();
    const int *ids = as_ints(golden("tiny/ids"), 15),
              *targets = as_ints(golden("tiny/targets"), 15);
    const float loss = llm_gpt2_forward(&g, ids, targets, 3, 5);
    CHECK_GOLDEN(g.logits, 3 * 5 * 7, 2e-6f, "tiny/logits");
    CHECK_GOLDEN(&loss, 1, 1e-6f, "tiny/loss");
    llm_gpt2_backward(&g);
    CHECK_GOLDEN(g.g, g.count, 2e-6f, "tiny/grads");
    llm_gpt2_destroy(&g);
}

TEST(gpt2, "five AdamW steps follow PyTorch's losses, decay on matrices only") {
    llm_gpt2 g = tiny_model();
    const int *ids = as_ints(golden("tiny/ids"), 15),
              *targets = as_ints(golden("tiny/targets"), 15);
    llm_adamw_config adamw = llm_adamw_defaults();
    adamw.lr = 5e-2f, adamw.beta1 = 0.9f, adamw.beta2 = 0.95f, adamw.eps = 1e-8f,
    adamw.weight_decay = 0.1f;
    float loss[5];
    for (size_t t = 0; t < 5; t++) {
        loss[t] = llm_gpt2_forward(&g, ids, targets, 3, 5);
        llm_gpt2_backward(&g);
        llm_gpt2_step(&g, &adamw, t + 1);
    }
    CHECK_GOLDEN(loss, 5, 1e-5f, "steps/losses");
    for (size_t i = 0; i < g.count; i++) CHECK(g.g[i] == 0.0f);
    llm_gpt2_destroy(&g);
}

TEST(gpt2,
     "gradients equal finite differences, for one token and for a batch of two shapes in turn") {
    llm_gpt2 g = tiny_model();
    const int *ids = as_ints(golden("tiny/ids"), 15),
              *targets = as_ints(golden("tiny/targets"), 15);
    const size_t shapes[3][2] = {
        {2, 4}, {1, 1}, {3, 2}}; /* (B, T): the activations move each time */
    for (size_t s = 0; s < 3; s++) {
        const size_t B = shapes[s][0], T = shapes[s][1], n = s == 0 ? g.count : 42;
        memset(g.g, 0, g.count * sizeof(float));
        llm_gpt2_forward(&g, ids, targets, B, T);
        llm_gpt2_backward(&g);
        /* the embedding first, whose gradient comes from both ends; the loss is a float */
        CHECK_GRAD(g.g, g.w, n, 2e-2f, 2e-3f, (double)llm_gpt2_forward(&g, ids, targets, B, T));
    }
    llm_gpt2_destroy(&g);
}

TEST(gpt2, "gradients accumulate; a batch without targets has loss 0 and adds nothing") {
    llm_gpt2 g = tiny_model();
    const int *ids = as_ints(golden("tiny/ids"), 15),
              *targets = as_ints(golden("tiny/targets"), 15);
    int none[15];
    for (size_t i = 0; i < 15; i++) none[i] = LLM_CROSS_ENTROPY_IGNORE;
    CHECK_ASSERTS(llm_gpt2_backward(&g)); /* before any forward */
    llm_gpt2_forward(&g, ids, targets, 3, 5);
    llm_gpt2_backward(&g);
    float *once = floats(g.count), *twice = floats(g.count);
    memcpy(once, g.g, g.count * sizeof(float));
    const int *const nothing[2] = {NULL, none};
    for (size_t i = 0; i < 2; i++) {
        CHECK(llm_gpt2_forward(&g, ids, nothing[i], 3, 5) == 0.0f);
        const size_t used = g.memory.used;
        llm_gpt2_backward(&g);
        CHECK(memcmp(once, g.g, g.count * sizeof(float)) == 0 && g.memory.used == used);
    }
    llm_gpt2_forward(&g, ids, targets, 3, 5);
    const size_t used = g.memory.used;
    llm_gpt2_backward(&g);
    CHECK(g.memory.used == used);
    for (size_t i = 0; i < g.count; i++) twice[i] = 2.0f * once[i];
    CHECK_ALL_NEAR(g.g, twice, g.count, 1e-6f);
    CHECK(llm_gpt2_forward(&g, ids, NULL, 3, 5) == 0.0f);
    CHECK_GOLDEN(g.logits, 3 * 5 * 7, 2e-6f, "tiny/logits");
    CHECK_ASSERTS(llm_gpt2_forward(&g, ids, NULL, 1, 6)); /* the context has 5 */
    g.g = NULL;                                           /* as without training */
    CHECK_ASSERTS(llm_gpt2_backward(&g));
    llm_gpt2_destroy(&g);
}

TEST(gpt2, "a token changes no logits before it, and all behind it in its own row") {
    llm_gpt2 g = tiny_model();
    int *ids = as_ints(golden("tiny/ids"), 15);
    float before[3 * 5 * 7];
    llm_gpt2_forward(&g, ids, NULL, 3, 5);
    memcpy(before, g.logits, sizeof before);
    for (size_t at = 0; at < 5; at++) {
        const int kept = ids[5 + at];
        ids[5 + at] = (kept + 1) % 7;
        llm_gpt2_forward(&g, ids, NULL, 3, 5);
        ids[5 + at] = kept;
        for (size_t i = 0; i < 15; i++) {
            const bool same = memcmp(before + i * 7, g.logits + i * 7, 7 * sizeof(float)) == 0;
            CHECK(same == (i / 5 != 1 || i % 5 < at));
        }
    }
    llm_gpt2_destroy(&g);
}

TEST(gpt2,
     "evaluating predicts each token once, from all that its window holds, whatever the batch") {
    llm_gpt2 g = tiny_model();
    llm_rng rng = llm_rng_seed(2);
    int ids[23];
    for (size_t i = 0; i < 23; i++) ids[i] = (int)llm_rng_below(&rng, 7);
    for (size_t stride = 1; stride <= 5; stride += 2) {
        for (size_t n = 0; n <= 23; n++) {
            double want = 0.0;
            for (size_t i = 1; i < n; i++) { /* one token at a time */
                size_t start = 0;
                while (start + 5 < i) start += stride; /* the first window that reaches it */
                llm_gpt2_forward(&g, ids + start, ids + start + 1, 1, i - start);
                want += (double)g.loss[i - start - 1];
            }
            for (size_t B = 1; B <= 3; B++)
                CHECK_NEAR(llm_gpt2_evaluate(&g, ids, n, B, 5, stride), want, 1e-4);
        }
    }
    CHECK_ASSERTS(llm_gpt2_evaluate(&g, ids, 9, 1, 5, 6));
    CHECK_ASSERTS(llm_gpt2_evaluate(&g, ids, 9, 1, 5, 0));
    llm_gpt2_destroy(&g);
}

/* Words 0 to 9 in one language, 10 to 19 in another; what opens a line of translation, what opens a
 * line of other text, the end of a line. */
enum { TRANSLATE = 20, SAY = 21, LINE = 22, WORDS = 23 };
static int translation(int word) { return 10 + (7 * word + 3) % 10; }

TEST(gpt2,
     "zero-shot: text that happens to hold translations teaches to translate, on demand only") {
    llm_gpt2_run r;
    llm_error e;
    llm_rng rng = llm_rng_seed(1);
    llm_gpt2_config c = llm_gpt2_defaults();
    c.vocab = WORDS, c.context = 8, c.layers = 1, c.heads = 2, c.width = 32, c.hidden = 64;
    CHECK(llm_gpt2_run_create(&r, &c, 16, 400, 0.005, 1, &e));
    for (size_t i = 0; i < r.model.matrices; i++)
        r.model.w[i] *= 8.0f; /* 0.02 is for wide models */
    for (size_t i = 0; i < 2000; i++) {
        const int word = (int)llm_rng_below(&rng, 10), other = (int)llm_rng_below(&rng, 20);
        const bool translate = llm_rng_below(&rng, 4) == 0;
        const int line[4] = {translate ? TRANSLATE : SAY, word,
                             translate ? translation(word) : other, LINE};
        CHECK(llm_buffer_put(&r.train, line, sizeof line));
    }
    float loss;
    for (size_t t = 0; t < 400; t++) CHECK(llm_gpt2_run_step(&r, &loss, NULL, &e));

    float asked = 0.0f, unasked = 0.0f;
    for (int word = 0; word < 10; word++) {
        float p[WORDS];
        for (int say = 0; say < 2; say++) {
            const int prompt[3] = {LINE, say ? SAY : TRANSLATE, word};
            llm_gpt2_forward(&r.model, prompt, NULL, 1, 3);
            llm_softmax_forward(p, r.model.logits + 2 * WORDS, 1, WORDS, 1.0f);
            *(say ? &unasked : &asked) += p[translation(word)] / 10;
        }
    }
    /* seeds 1 to 9: 0.90 to 0.95 asked, 0.07 to 0.10 not asked, where chance is 0.05 */
    CHECK(asked > 0.5f);
    CHECK(unasked < 0.2f);
    llm_gpt2_run_free(&r);
}

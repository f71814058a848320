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

static int *golden_ints(const char *name) {
    size_t n;
    const float *x = golden_n(&n, "%s", name);
    int *i = (int *)test_memory(n, sizeof(int));
    for (size_t k = 0; k < n; k++) i[k] = (int)x[k];
    return i;
}

TEST(gpt2, "logits, loss and all gradients equal transformers' GPT2LMHeadModel") {
    llm_gpt2 g = tiny_model();
    const int *ids = golden_ints("tiny/ids"), *targets = golden_ints("tiny/targets");
    const float loss = llm_gpt2_forward(&g, ids, targets, 3, 5);
    CHECK_GOLDEN(g.logits, 3 * 5 * 7, 2e-6f, "tiny/logits");
    CHECK_GOLDEN(&loss, 1, 1e-6f, "tiny/loss");
    llm_gpt2_backward(&g);
    CHECK_GOLDEN(g.g, g.count, 2e-6f, "tiny/grads");
}

TEST(gpt2, "five AdamW steps follow PyTorch's losses, decay on matrices only") {
    llm_gpt2 g = tiny_model();
    const int *ids = golden_ints("tiny/ids"), *targets = golden_ints("tiny/targets");
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
}

/* @decoder_only */
#include "../test.h"

/* memory that was in use before */
static void *model_malloc(size_t size) {
    void *p = malloc(size);
    return p ? memset(p, 255, size) : NULL;
}
#define malloc model_malloc
#include "../../llm.h"
#undef malloc

enum { B = 3, T = 5, V = 7 };

static llm_decoder_only_config config(bool tied) {
    llm_decoder_only_config c;
    c.vocab = V, c.context = T, c.layers = 2, c.tied = tied, c.theta = 100.0f;
    c.block.width = 4, c.block.heads = 4, c.block.kv_heads = 2, c.block.head_size = 2;
    c.block.hidden = 5, c.block.eps = 1e-5f, c.block.pairing = LLM_ROPE_HALVES;
    return c;
}
static llm_decoder_only golden_model(bool tied) {
    const llm_decoder_only_config c = config(tied);
    llm_decoder_only g;
    llm_error e;
    size_t n;
    CHECK(llm_decoder_only_create(&g, &c, B, T, &e));
    const float *w = golden_n(&n, tied ? "tied/weights" : "untied/weights");
    CHECK(n == g.count && n == llm_decoder_only_count(&c));
    memcpy(g.w, w, n * sizeof(float));
    return g;
}

TEST(decoder_only,
     "logits, loss and all gradients equal transformers' LlamaForCausalLM, tied and not") {
    const int *ids = as_ints(golden("in/ids"), B * T),
              *targets = as_ints(golden("in/targets"), B * T);
    for (size_t tied = 0; tied < 2; tied++) {
        const char *name = tied ? "tied" : "untied";
        llm_decoder_only g = golden_model(tied);
        CHECK((g.weights.head == g.weights.embed) == (tied == 1));
        const float loss = llm_decoder_only_forward(&g, ids, targets, B, T);
        CHECK_GOLDEN(g.logits, B * T * V, 3e-6f, "%s/logits", name);
        CHECK_GOLDEN(&loss, 1, 1e-6f, "%s/loss", name);
        const size_t used = g.memory.used;
        llm_decoder_only_backward(&g);
        CHECK_GOLDEN(g.g, g.count, 3e-6f, "%s/grads", name);
        CHECK(g.memory.used == used);
        CHECK(llm_decoder_only_forward(&g, ids, NULL, B, T) == 0.0f);
        llm_decoder_only_backward(&g); /* of nothing */
        CHECK_GOLDEN(g.g, g.count, 3e-6f, "%s/grads", name);
        CHECK_GOLDEN(g.logits, B * T * V, 3e-6f, "%s/logits", name);
        llm_decoder_only_destroy(&g);
    }
}

TEST(decoder_only, "50 AdamW steps follow PyTorch's losses, decay on matrices only") {
    const int *ids = as_ints(golden("in/ids"), B * T),
              *targets = as_ints(golden("in/targets"), B * T);
    for (size_t tied = 0; tied < 2; tied++) {
        llm_decoder_only g = golden_model(tied);
        llm_adamw_config adamw = llm_adamw_defaults();
        adamw.lr = 1e-2f, adamw.beta1 = 0.9f, adamw.beta2 = 0.95f, adamw.eps = 1e-8f;
        adamw.weight_decay = 0.1f;
        float loss[50];
        for (size_t t = 0; t < 50; t++) {
            loss[t] = llm_decoder_only_forward(&g, ids, targets, B, T);
            llm_decoder_only_backward(&g);
            llm_decoder_only_step(&g, &adamw, t + 1);
        }
        CHECK_GOLDEN(loss, 50, 2e-4f, "%s/losses", tied ? "tied" : "untied");
        for (size_t i = 0; i < g.count; i++) CHECK(g.g[i] == 0.0f);
        llm_decoder_only_destroy(&g);
    }
}

TEST(decoder_only, "the counts of released models") {
    llm_decoder_only_config c;
    memset(&c, 0, sizeof c);
    c.vocab = 32000, c.layers = 32; /* Llama 2 7B */
    c.block.width = 4096, c.block.heads = c.block.kv_heads = 32, c.block.head_size = 128;
    c.block.hidden = 11008;
    CHECK(llm_decoder_only_count(&c) == 6738415616);
    c.vocab = 128256, c.block.kv_heads = 8, c.block.hidden = 14336; /* Llama 3 8B */
    CHECK(llm_decoder_only_count(&c) == 8030261248);
    c.vocab = 49152, c.layers = 30, c.tied = true; /* SmolLM 135M */
    c.block.width = 576, c.block.heads = 9, c.block.kv_heads = 3, c.block.head_size = 64;
    c.block.hidden = 1536;
    CHECK(llm_decoder_only_count(&c) == 134515008);
}

TEST(decoder_only, "only distances matter: the same tokens further right give the same logits") {
    /* rotations know no absolute position: all that a place of equal tokens sees is the same */
    llm_decoder_only g = golden_model(true);
    int ids[T] = {2, 2, 2, 2, 2};
    llm_decoder_only_forward(&g, ids, NULL, 1, T);
    for (size_t t = 1; t < T; t++) CHECK_ALL_NEAR(g.logits + t * V, g.logits, V, 1e-5f);
    llm_decoder_only_destroy(&g);
}

TEST(decoder_only,
     "a token changes no logits before it; gradients accumulate; nothing to learn adds nothing") {
    llm_decoder_only g = golden_model(false);
    int *ids = as_ints(golden("in/ids"), B * T);
    float before[B * T * V];
    llm_decoder_only_forward(&g, ids, NULL, B, T);
    memcpy(before, g.logits, sizeof before);
    ids[T + 2] = (ids[T + 2] + 1) % V;
    llm_decoder_only_forward(&g, ids, NULL, B, T);
    for (size_t i = 0; i < B * T; i++)
        CHECK((memcmp(before + i * V, g.logits + i * V, V * sizeof(float)) == 0) ==
              (i / T != 1 || i % T < 2));

    int none[B * T];
    for (size_t i = 0; i < B * T; i++) none[i] = LLM_CROSS_ENTROPY_IGNORE;
    for (size_t i = 0; i < g.count; i++) g.g[i] = 5.0f;
    CHECK(llm_decoder_only_forward(&g, ids, none, B, T) == 0.0f);
    llm_decoder_only_backward(&g);
    for (size_t i = 0; i < g.count; i++) CHECK(g.g[i] == 5.0f);
    llm_decoder_only_forward(&g, as_ints(golden("in/ids"), B * T),
                             as_ints(golden("in/targets"), B * T), B, T);
    llm_decoder_only_backward(&g);
    for (size_t i = 0; i < g.count; i++) g.g[i] -= 5.0f;
    CHECK_GOLDEN(g.g, g.count, 3e-6f, "untied/grads");
    CHECK_ASSERTS(llm_decoder_only_forward(&g, ids, NULL, 1, T + 1));
    llm_decoder_only_destroy(&g);
}

TEST(decoder_only, "new weights: matrices 0.02, gains 1, a loss near ln V") {
    llm_decoder_only_config c = config(false);
    llm_decoder_only g;
    llm_error e;
    llm_rng rng = llm_rng_seed(1);
    int ids[64], targets[64];
    c.vocab = 200, c.context = 16, c.block.width = 32, c.block.hidden = 64;
    c.block.head_size = 8;
    CHECK(llm_decoder_only_create(&g, &c, 4, 16, &e));
    for (size_t i = 0; i < g.count; i++)
        CHECK(g.w[i] == 0.0f && g.g[i] == 0.0f && g.m[i] == 0.0f && g.v[i] == 0.0f);
    CHECK(g.B == 0 && g.T == 0 && g.kept == 0);
    llm_decoder_only_init(&g, &rng);
    for (size_t i = 0; i < g.count; i++) CHECK(g.g[i] == 0.0f && g.m[i] == 0.0f);
    CHECK_NEAR(sqrt(dot(g.w, g.w, g.matrices) / (double)g.matrices), 0.02, 0.0005);
    for (size_t i = 0; i < g.matrices; i++) CHECK(fabsf(g.w[i]) < 0.02f * 6.0f);
    for (size_t i = g.matrices; i < g.count; i++) CHECK(g.w[i] == 1.0f);
    for (size_t i = 0; i < 64; i++) {
        ids[i] = (int)llm_rng_below(&rng, 200);
        targets[i] = (int)llm_rng_below(&rng, 200);
    }
    CHECK_NEAR(llm_decoder_only_forward(&g, ids, targets, 4, 16), logf(200.0f), 0.1f);
    llm_decoder_only_destroy(&g);
    c.block.kv_heads = 3;
    CHECK_ASSERTS(llm_decoder_only_create(&g, &c, 4, 16, &e));
}

TEST(decoder_only, "a step fits in the memory that is taken, and fills it") {
    /* (B, T, L, V, C, H, Hkv, D, F): in the blocks of Llama 3 the MLP needs most, with many wide
     * heads attention; one token; no layer; many layers */
    const size_t sizes[][9] = {{1, 64, 1, 50, 32, 4, 1, 8, 112}, {2, 30, 2, 20, 16, 4, 4, 32, 20},
                               {3, 7, 5, 300, 8, 1, 1, 16, 40},  {1, 1, 1, 2, 2, 1, 1, 32, 1},
                               {2, 50, 0, 30, 8, 1, 1, 4, 8},    {1, 2, 60, 9, 4, 1, 1, 2, 3}};
    for (size_t s = 0; s < 6; s++) {
        const size_t rows = sizes[s][0], t = sizes[s][1], layers = sizes[s][2];
        llm_decoder_only_config c = config(true);
        llm_decoder_only g;
        llm_error e;
        int *ids = (int *)test_memory(rows * t, sizeof(int));
        c.context = t, c.layers = layers, c.vocab = sizes[s][3];
        c.block.width = sizes[s][4], c.block.heads = sizes[s][5], c.block.kv_heads = sizes[s][6];
        c.block.head_size = sizes[s][7], c.block.hidden = sizes[s][8];
        CHECK(llm_decoder_only_create(&g, &c, rows, t, &e));
        llm_decoder_only_forward(&g, ids, ids, rows, t);
        llm_decoder_only_backward(&g);
        /* what is left: up to 64 bytes for each array, and the scratch of a model without layers */
        const size_t rounding = 64 * (24 + 6 + layers) + 4 * 2 * c.block.head_size;
        const size_t unused = layers ? 0 : 4 * llm_llama_block_scratch_size(&c.block, rows, t);
        CHECK(g.memory.size - g.memory.peak <= rounding + unused);
        llm_decoder_only_destroy(&g);
    }
}

/* @gpt2_weights */
#include "../test.h"

/* memory that was in use before */
static void *weights_malloc(size_t size) {
    void *p = malloc(size);
    return p ? memset(p, 255, size) : NULL;
}
#define malloc weights_malloc
#include "../../llm.h"
#undef malloc

static llm_gpt2_config tiny(void) {
    llm_gpt2_config c = llm_gpt2_defaults();
    c.vocab = 7, c.context = 5, c.layers = 3, c.heads = 2, c.width = 4, c.hidden = 6;
    return c;
}

TEST(gpt2_weights, "the released sizes have the published numbers of weights") {
    const size_t size[4][4] = {/* layers, heads, width, weights */
                               {12, 12, 768, 124439808},
                               {24, 16, 1024, 354823168},
                               {36, 20, 1280, 774030080},
                               {48, 25, 1600, 1557611200}};
    for (size_t i = 0; i < 4; i++) {
        llm_gpt2_config c = llm_gpt2_defaults();
        if (i == 0) CHECK(c.layers == 12 && c.heads == 12 && c.width == 768 && c.hidden == 3072);
        const llm_decoder_block_config b = llm_gpt2_block_config(&c);
        CHECK(b.width == c.width && b.heads == c.heads && b.hidden == c.hidden);
        CHECK(b.eps == c.eps && !b.parallel);
        c.layers = size[i][0], c.heads = size[i][1], c.width = size[i][2], c.hidden = 4 * c.width;
        CHECK(c.vocab == 50257 && c.context == 1024 && c.eps == 1e-5f);
        CHECK(llm_gpt2_count(&c) == size[i][3]);
    }
}

TEST(gpt2_weights, "the parts tile the vector without a gap, matrices first") {
    const llm_gpt2_config c = tiny();
    llm_gpt2 g;
    llm_error e;
    CHECK(llm_gpt2_create(&g, &c, 0, 0, &e));
    CHECK(g.count == llm_gpt2_count(&c) && g.g == NULL && g.m == NULL && g.v == NULL);
    /* every part gets its own number over its whole length: none may be left or hit twice */
    for (size_t i = 0; i < g.count; i++) g.w[i] = 0.0f;
    const size_t V = c.vocab, T = c.context, C = c.width, F = c.hidden;
    float *part[64];
    size_t length[64], n = 0, matrices = 0;
    part[n] = g.weights.wte, length[n++] = V * C;
    part[n] = g.weights.wpe, length[n++] = T * C;
    for (size_t l = 0; l < c.layers; l++) {
        const llm_decoder_block_weights *b = &g.weights.block[l];
        part[n] = b->qkv_w, length[n++] = 3 * C * C;
        part[n] = b->out_w, length[n++] = C * C;
        part[n] = b->ffn.up, length[n++] = F * C;
        part[n] = b->ffn.down, length[n++] = C * F;
        CHECK(b->ffn.gate == NULL);
    }
    const size_t first_vector = n;
    for (size_t l = 0; l < c.layers; l++) {
        const llm_decoder_block_weights *b = &g.weights.block[l];
        float *const vector[8] = {b->norm1_w, b->norm1_b, b->qkv_b,       b->out_b,
                                  b->norm2_w, b->norm2_b, b->ffn.up_bias, b->ffn.down_bias};
        for (size_t k = 0; k < 8; k++) {
            part[n] = vector[k];
            length[n++] = k == 2 ? 3 * C : k == 6 ? F : C;
        }
    }
    part[n] = g.weights.norm_w, length[n++] = C;
    part[n] = g.weights.norm_b, length[n++] = C;
    for (size_t k = 0; k < n; k++) {
        for (size_t i = 0; i < length[k]; i++) {
            CHECK(part[k] + i >= g.w && part[k] + i < g.w + g.count && part[k][i] == 0.0f);
            part[k][i] = (float)(k + 1);
        }
        matrices += k < first_vector ? length[k] : 0;
    }
    for (size_t i = 0; i < g.count; i++)
        CHECK(g.w[i] != 0.0f && (g.w[i] > (float)first_vector) == (i >= matrices));
    CHECK(g.matrices == matrices);
    llm_gpt2_destroy(&g);
}

TEST(gpt2_weights, "a model for training has cleared gradients and moments with the same parts") {
    const llm_gpt2_config c = tiny();
    llm_gpt2 g;
    llm_error e;
    CHECK(llm_gpt2_create(&g, &c, 2, 5, &e));
    for (size_t i = 0; i < g.count; i++) CHECK(g.g[i] == 0.0f && g.m[i] == 0.0f && g.v[i] == 0.0f);
    CHECK(g.grads.wte == g.g && g.weights.wte == g.w);
    CHECK(g.grads.norm_b - g.g == g.weights.norm_b - g.w);
    CHECK(g.grads.block[2].ffn.down - g.g == g.weights.block[2].ffn.down - g.w);
    CHECK(g.B == 0 && g.T == 0 && g.kept == 0);
    llm_gpt2_destroy(&g);
}

TEST(gpt2_weights,
     "initial weights: 0.02, smaller at the residual stream, gains 1, biases 0; loss near ln V") {
    llm_gpt2_config c = tiny();
    llm_gpt2 g;
    llm_error e;
    llm_rng rng = llm_rng_seed(1);
    int ids[64], targets[64];
    c.vocab = 200, c.context = 16, c.layers = 8, c.heads = 4, c.width = 32, c.hidden = 128;
    CHECK(llm_gpt2_create(&g, &c, 4, 16, &e));
    for (size_t i = 0; i < g.count; i++) g.w[i] = NAN;
    llm_gpt2_init(&g, &rng);
    llm_rng same = llm_rng_seed(1);
    float *want = floats(g.matrices);
    llm_rng_normal_fill(&same, want, g.matrices);
    for (size_t i = 0; i < g.matrices; i++) want[i] *= 0.02f;
    for (size_t l = 0; l < c.layers; l++) {
        const llm_decoder_block_weights *b = &g.weights.block[l];
        for (size_t i = 0; i < 32 * 32; i++) want[(size_t)(b->out_w - g.w) + i] *= 0.25f;
        for (size_t i = 0; i < 32 * 128; i++) want[(size_t)(b->ffn.down - g.w) + i] *= 0.25f;
    }
    CHECK_ALL_CLOSE(g.w, want, g.matrices, 1e-6f);
    for (size_t i = 0; i < g.count; i++) CHECK(g.g[i] == 0.0f && g.m[i] == 0.0f);
    for (size_t l = 0; l < c.layers; l++) {
        const llm_decoder_block_weights *b = &g.weights.block[l];
        const float *const matrix[4] = {b->qkv_w, b->ffn.up, b->out_w, b->ffn.down};
        const size_t n[4] = {3 * 32 * 32, 128 * 32, 32 * 32, 128 * 32};
        for (size_t k = 0; k < 4; k++) {
            const double want = k < 2 ? 0.02 : 0.02 / 4.0; /* sqrt(2 L) = 4 */
            /* the deviation of n draws varies by 1 / sqrt(2 n): 2.2% for the smallest, 4.5 of it */
            CHECK_NEAR(sqrt(dot(matrix[k], matrix[k], n[k]) / (double)n[k]), want, 0.1 * want);
        }
        for (size_t i = 0; i < 32; i++) {
            CHECK(b->norm1_w[i] == 1.0f && b->norm2_w[i] == 1.0f && b->norm1_b[i] == 0.0f);
            CHECK(b->out_b[i] == 0.0f && b->ffn.down_bias[i] == 0.0f && b->qkv_b[2 * i] == 0.0f);
        }
    }
    CHECK_NEAR(sqrt(dot(g.w, g.w, 200 * 32) / (200 * 32)), 0.02, 0.002);
    for (size_t i = 0; i < 32; i++)
        CHECK(g.weights.norm_w[i] == 1.0f && g.weights.norm_b[i] == 0.0f);
    for (size_t i = 0; i < 64; i++) {
        ids[i] = (int)llm_rng_below(&rng, 200);
        targets[i] = (int)llm_rng_below(&rng, 200);
    }
    CHECK_NEAR(llm_gpt2_forward(&g, ids, targets, 4, 16), logf(200.0f), 0.1f);
    llm_gpt2_destroy(&g);
}

TEST(gpt2_weights, "a size that no memory holds is said so; wrong shapes stop") {
    llm_gpt2_config c = llm_gpt2_defaults();
    llm_gpt2 g;
    llm_error e;
    c.layers = 4096, c.width = 65536, c.hidden = 1 << 20, c.heads = 64;
#ifndef TEST_ASAN /* its malloc stops the program */
    CHECK_FAILS(llm_gpt2_create(&g, &c, 0, 0, &e), e, "no memory for a model of");
#endif
    c = tiny();
    c.heads = 3;
    CHECK_ASSERTS(llm_gpt2_create(&g, &c, 0, 0, &e));
    c.heads = 2;
    CHECK_ASSERTS(llm_gpt2_create(&g, &c, 1, 6, &e));
}

TEST(gpt2_weights, "a step fits in the memory that is taken, and fills it") {
    const size_t sizes[][7] = {/* (B, T, L, V, C, H, F): wide MLP, deep, one token, long */
                               {2, 30, 2, 20, 16, 4, 200},
                               {1, 8, 20, 70, 8, 2, 32},
                               {1, 1, 1, 2, 2, 1, 1},
                               {1, 90, 1, 30, 8, 2, 8}};
    for (size_t s = 0; s < 4; s++) {
        const size_t rows = sizes[s][0], t = sizes[s][1], layers = sizes[s][2];
        llm_gpt2_config c = tiny();
        llm_gpt2 g;
        llm_error e;
        int *ids = (int *)test_memory(rows * t, sizeof(int));
        c.context = t, c.layers = layers, c.vocab = sizes[s][3];
        c.width = sizes[s][4], c.heads = sizes[s][5], c.hidden = sizes[s][6];
        CHECK(llm_gpt2_create(&g, &c, rows, t, &e));
        llm_gpt2_forward(&g, ids, ids, rows, t);
        llm_gpt2_backward(&g);
        /* what is left: up to 64 bytes for each array */
        CHECK(g.memory.size - g.memory.peak <= 64 * (32 + 4 + layers));
        llm_gpt2_destroy(&g);
        CHECK(llm_gpt2_create(&g, &c, 0, 0, &e)); /* weights only */
        CHECK(g.memory.peak >= 4 * g.count);
        CHECK(g.memory.size <= 4 * g.count + 64 * (32 + 4 + layers) +
                                   layers * (2 * sizeof(llm_decoder_block_weights) +
                                             sizeof(llm_decoder_block_acts)));
        llm_gpt2_destroy(&g);
    }
}

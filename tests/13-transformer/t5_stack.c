/* @t5_stack */
#include "../test.h"

#include "../../llm.h"

#include "../arena.h"

enum { B = 2, S = 6, T = 3, C = 4, N = B * T };

static llm_t5_stack_config config(bool decoder) {
    llm_t5_stack_config c;
    c.layers = decoder ? 1 : 2, c.hidden = 5, c.buckets = 8, c.far = 5;
    c.decoder = c.gated = decoder;
    c.attn.width = C, c.attn.heads = 2, c.attn.head_size = 3, c.attn.eps = 1e-6f;
    return c;
}
static llm_t5_stack_weights bound(float *flat, const llm_t5_stack_config *c, llm_arena *arena) {
    llm_t5_stack_weights w;
    float *matrix = flat, *vector = flat + llm_t5_stack_matrices(c);
    llm_t5_stack_bind(&w, &matrix, &vector, c, arena);
    CHECK(matrix == flat + llm_t5_stack_matrices(c));
    CHECK(vector == matrix + llm_t5_stack_vectors(c));
    return w;
}

TEST(t5_stack, "values and gradients equal transformers' T5Stack, encoder and decoder") {
    const bool hidden[2][B * S] = {
        {false, false, false, false, false, true},
        {false, false, false, false, false, false, false, false, true, true, true, true}};
    for (size_t k = 0; k < 2; k++) {
        const char *name = k ? "decoder" : "encoder";
        const llm_t5_stack_config c = config(k);
        llm_arena arena = test_arena(1 << 17);
        size_t count;
        float *flat = golden_n(&count, "%s/weights", name), *g = zeros(count);
        CHECK(count == llm_t5_stack_matrices(&c) + llm_t5_stack_vectors(&c));
        const llm_t5_stack_weights w = bound(flat, &c, &arena), dw = bound(g, &c, &arena);
        const float *x = golden("%s/x", name), *mem = k ? golden("decoder/mem") : NULL;
        float *d = golden("%s/dy", name), *dmem = zeros(B * S * C);
        llm_t5_stack_acts a;
        const float *y =
            llm_t5_stack_forward(&a, x, mem, hidden[k], B, T, k ? S : T, &w, &c, &arena);
        CHECK_GOLDEN(y, N * C, 5e-6f, "%s/y", name);
        const size_t used = arena.used;
        llm_t5_stack_backward(d, k ? dmem : NULL, &dw, &a, &w, &c, &arena);
        CHECK(arena.used == used);
        CHECK_GOLDEN(d, N * C, 2e-5f, "%s/dx", name);
        CHECK_GOLDEN(g, count, 2e-5f, "%s/grads", name);
        if (k) CHECK_GOLDEN(dmem, B * S * C, 2e-5f, "decoder/dmem");
    }
}

TEST(t5_stack,
     "only distances count: equal tokens moved by padding on the left stay what they are") {
    const llm_t5_stack_config c = config(false);
    llm_arena arena = test_arena(1 << 17);
    const llm_t5_stack_weights w = bound(golden("encoder/weights"), &c, &arena);
    const bool hidden[5] = {true, true, false, false, false};
    float x[5 * C];
    llm_rng rng = llm_rng_seed(1);
    llm_rng_normal_fill(&rng, x, 5 * C);
    llm_t5_stack_acts a;
    const float *moved = llm_t5_stack_forward(&a, x, NULL, hidden, 1, 5, 5, &w, &c, &arena);
    const float *y = llm_t5_stack_forward(&a, x + 2 * C, NULL, NULL, 1, 3, 3, &w, &c, &arena);
    CHECK_ALL_NEAR(moved + 2 * C, y, 3 * C, 1e-5f);
}

static bool all_ones(const float *x, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (x[i] != 1.0f) return false;
    return true;
}

TEST(t5_stack, "a matrix is filled to its last number and no further") {
    float w[4], want[3];
    llm_rng rng = llm_rng_seed(1), same = rng;
    w[3] = 7.0f;
    llm_t5_stack_fill(w, 3, 4.0, &rng);
    llm_rng_normal_fill(&same, want, 3);
    for (size_t i = 0; i < 3; i++) CHECK(w[i] == 2.0f * want[i]);
    CHECK(w[3] == 7.0f);
}

TEST(t5_stack, "first weights have the deviations of T5's code") {
    for (size_t k = 0; k < 2; k++) {
        llm_t5_stack_config c = config(k);
        c.attn.width = 32, c.attn.heads = 4, c.attn.head_size = 16, c.hidden = 64, c.buckets = 32;
        llm_arena arena = test_arena(1 << 14);
        const size_t matrices = llm_t5_stack_matrices(&c), vectors = llm_t5_stack_vectors(&c);
        float *flat = floats(matrices + vectors);
        const llm_t5_stack_weights w = bound(flat, &c, &arena);
        llm_rng rng = llm_rng_seed(1);
        for (size_t l = 0; l < c.layers; l++) { /* each gain in memory of its own */
            llm_t5_stack_layer *p = &w.layer[l];
            p->attn.norm = floats(32), p->cross.norm = floats(32), p->norm = floats(32);
        }
        llm_t5_stack_init(&w, &c, &rng);
        CHECK(all_ones(w.norm, 32));
        llm_rng other = llm_rng_seed(1); /* each number of a matrix is drawn once */
        llm_rng_normal_fill(&other, floats(matrices), matrices);
        CHECK(rng.block == other.block && rng.used == other.used);
        for (size_t l = 0; l < c.layers; l++) {
            const llm_t5_stack_layer *p = &w.layer[l];
            CHECK(all_ones(p->attn.norm, 32) && all_ones(p->norm, 32));
            CHECK(!k || all_ones(p->cross.norm, 32));
            for (size_t cross = 0; cross <= k; cross++) {
                const llm_t5_attn_weights *a = cross ? &p->cross : &p->attn;
                /* four standard errors of 2048 */
                CHECK_NEAR(dot(a->q, a->q, 2048) / 2048.0 * 32.0 * 16.0, 1.0, 0.125);
                CHECK_NEAR(dot(a->k, a->k, 2048) / 2048.0 * 32.0, 1.0, 0.125);
                CHECK_NEAR(dot(a->v, a->v, 2048) / 2048.0 * 32.0, 1.0, 0.125);
                CHECK_NEAR(dot(a->o, a->o, 2048) / 2048.0 * 64.0, 1.0, 0.125);
            }
            if (k) CHECK_NEAR(dot(p->ffn.gate, p->ffn.gate, 2048) / 64.0, 1.0, 0.125);
            CHECK_NEAR(dot(p->ffn.up, p->ffn.up, 2048) / 64.0, 1.0, 0.125);
            CHECK_NEAR(dot(p->ffn.down, p->ffn.down, 2048) / 32.0, 1.0, 0.125);
        }
        CHECK_NEAR(dot(w.distances, w.distances, 128) / 4.0, 1.0, 0.5);
        CHECK(llm_t5_stack_activation(&c) == (k ? LLM_ACTIVATION_GELU_TANH : LLM_ACTIVATION_RELU));
    }
}

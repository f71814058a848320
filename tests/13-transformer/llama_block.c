/* @llama_block */
#include "../test.h"

#include "../../llm.h"

#include "../tape.h"

enum { B = 2, T = 4, C = 4, H = 4, K = 2, D = 4, F = 5 };

static llm_llama_block_config config(void) {
    llm_llama_block_config c;
    c.width = C, c.heads = H, c.kv_heads = K, c.head_size = D, c.hidden = F, c.eps = 1e-5f;
    c.pairing = LLM_ROPE_HALVES;
    return c;
}

/* The seven tensors of a block: name in the golden file, entries, and its place in w. */
enum { TENSORS = 7 };
static const char *const name[TENSORS] = {"norm1", "norm2", "qkv", "out", "gate", "up", "down"};
static size_t entries(size_t i, const llm_llama_block_config *c) {
    const size_t n[TENSORS] = {c->width,
                               c->width,
                               (c->heads + 2 * c->kv_heads) * c->head_size * c->width,
                               c->width * c->heads * c->head_size,
                               c->hidden * c->width,
                               c->hidden * c->width,
                               c->width * c->hidden};
    return n[i];
}
static float **place(llm_llama_block_weights *w, size_t i) {
    float **const at[TENSORS] = {&w->norm1,    &w->norm2,  &w->qkv,     &w->out,
                                 &w->ffn.gate, &w->ffn.up, &w->ffn.down};
    return at[i];
}
static llm_llama_block_weights cleared(const llm_llama_block_config *c) {
    llm_llama_block_weights w;
    w.ffn.up_bias = w.ffn.down_bias = NULL;
    for (size_t i = 0; i < TENSORS; i++) *place(&w, i) = zeros(entries(i, c));
    return w;
}

static void table(float *cosine, float *sine, size_t t, size_t head_size) {
    float inv_freq[8];
    llm_rope_inv_freq(inv_freq, head_size, 50.0f);
    llm_rope_table(cosine, sine, NULL, inv_freq, t, head_size);
}

TEST(llama_block,
     "output and all gradients equal LlamaDecoderLayer, in the memory that is promised") {
    llm_llama_block_config c = config();
    for (size_t neighbours = 0; neighbours < 2; neighbours++) {
        llm_llama_block_weights w = cleared(&c), dw = cleared(&c);
        llm_llama_block_acts a;
        llm_arena arena;
        float cosine[T * D / 2], sine[T * D / 2], *y = floats(B * T * C), *d = golden("in/dy");
        const float *x = golden("in/x");
        for (size_t i = 0; i < TENSORS; i++) *place(&w, i) = golden("in/%s", name[i]);
        if (neighbours) { /* the same block with pairs of neighbours, q and k in that order */
            float *qkv = floats(entries(2, &c));
            memcpy(qkv, w.qkv, entries(2, &c) * sizeof(float));
            llm_rope_permute_weights(qkv, w.qkv, H, D, C, D, LLM_ROPE_NEIGHBOURS);
            llm_rope_permute_weights(qkv + H * D * C, w.qkv + H * D * C, K, D, C, D,
                                     LLM_ROPE_NEIGHBOURS);
            w.qkv = qkv;
            c.pairing = LLM_ROPE_NEIGHBOURS;
        }
        table(cosine, sine, T, D);
        CHECK(llm_arena_create(&arena, llm_llama_block_scratch_size(&c, B, T) * sizeof(float)));
        llm_llama_block_bind(&a, floats(llm_llama_block_acts_size(&c, B, T)), &c, B, T);
        llm_llama_block_forward(y, &a, x, &w, cosine, sine, B, T, &c, &arena);
        CHECK_GOLDEN(y, B * T * C, 2e-6f, "want/y");
        llm_llama_block_backward(d, &dw, &a, x, &w, cosine, sine, B, T, &c, &arena);
        CHECK_GOLDEN(d, B * T * C, 3e-6f, "want/dx");
        for (size_t i = 0; i < TENSORS; i++)
            if (!neighbours || i != 2)
                CHECK_GOLDEN(*place(&dw, i), entries(i, &c), 3e-6f, "want/%s", name[i]);
        CHECK(arena.used == 0);
        llm_arena_destroy(&arena);
    }
}

TEST(llama_block, "zero output projections make the block the identity, for values and gradients") {
    const llm_llama_block_config c = config();
    llm_llama_block_weights w = cleared(&c), dw = cleared(&c);
    llm_llama_block_acts a;
    llm_arena arena;
    float cosine[T * D / 2], sine[T * D / 2], *y = floats(B * T * C), *d = golden("in/dy");
    const float *x = golden("in/x"), *dy = golden("in/dy");
    for (size_t i = 0; i < TENSORS; i++)
        if (i != 3 && i != 6) *place(&w, i) = golden("in/%s", name[i]);
    table(cosine, sine, T, D);
    CHECK(llm_arena_create(&arena, llm_llama_block_scratch_size(&c, B, T) * sizeof(float)));
    llm_llama_block_bind(&a, floats(llm_llama_block_acts_size(&c, B, T)), &c, B, T);
    llm_llama_block_forward(y, &a, x, &w, cosine, sine, B, T, &c, &arena);
    llm_llama_block_backward(d, &dw, &a, x, &w, cosine, sine, B, T, &c, &arena);
    CHECK_ALL_NEAR(y, x, B * T * C, 0.0f);
    CHECK_ALL_NEAR(d, dy, B * T * C, 0.0f);
    llm_arena_destroy(&arena);
}

static double loss_of(const float *x, const llm_llama_block_weights *w, const float *dy,
                      const float *cosine, const float *sine, size_t t,
                      const llm_llama_block_config *c, llm_arena *arena) {
    static float acts[512], y[64]; /* CHECK_GRAD calls this often */
    llm_llama_block_acts a;
    llm_llama_block_bind(&a, acts, c, 1, t);
    llm_llama_block_forward(y, &a, x, w, cosine, sine, 1, t, c, arena);
    return dot(y, dy, t * c->width);
}

TEST(llama_block, "gradients equal finite differences, and accumulate, for the smallest shapes") {
    const size_t sizes[][6] = {
        {1, 1, 1, 1, 2, 1}, {3, 3, 2, 1, 2, 2}, {2, 2, 3, 3, 2, 3}}; /* (T,C,H,Hkv,D,F) */
    llm_rng rng = llm_rng_seed(4);
    for (size_t s = 0; s < 3; s++) {
        llm_llama_block_config c = config();
        const size_t t = sizes[s][0], n = t * sizes[s][1];
        c.width = sizes[s][1], c.heads = sizes[s][2], c.kv_heads = sizes[s][3];
        c.head_size = sizes[s][4], c.hidden = sizes[s][5], c.eps = 0.1f;
        llm_llama_block_weights w = cleared(&c), dw = cleared(&c);
        llm_llama_block_acts a;
        llm_arena arena;
        float *x = floats(n), *dy = floats(n), *y = floats(n), *d = floats(n), cosine[8], sine[8];
        for (size_t i = 0; i < TENSORS; i++) {
            llm_rng_normal_fill(&rng, *place(&w, i), entries(i, &c));
            for (size_t k = 0; k < entries(i, &c); k++) (*place(&dw, i))[k] = 2.0f;
        }
        llm_rng_normal_fill(&rng, x, n);
        llm_rng_normal_fill(&rng, dy, n);
        memcpy(d, dy, n * sizeof(float));
        table(cosine, sine, t, c.head_size);
        CHECK(llm_arena_create(&arena, 1 << 16));
        llm_llama_block_bind(&a, floats(llm_llama_block_acts_size(&c, 1, t)), &c, 1, t);
        llm_llama_block_forward(y, &a, x, &w, cosine, sine, 1, t, &c, &arena);
        llm_llama_block_backward(d, &dw, &a, x, &w, cosine, sine, 1, t, &c, &arena);
        CHECK_GRAD(d, x, n, 1e-2f, 4e-3f, loss_of(x, &w, dy, cosine, sine, t, &c, &arena));
        for (size_t i = 0; i < TENSORS; i++) {
            float *got = *place(&dw, i);
            for (size_t k = 0; k < entries(i, &c); k++) got[k] -= 2.0f;
            CHECK_GRAD(got, *place(&w, i), entries(i, &c), 1e-2f, 4e-3f,
                       loss_of(x, &w, dy, cosine, sine, t, &c, &arena));
        }
        llm_arena_destroy(&arena);
    }
}

TEST(
    llama_block,
    "activations fill the floats that are promised, one pass all but the rounding of its scratch") {
    /* (B, T, C, H, Hkv, D, F): in turn the MLP, the gradients of attention and its forward pass
     * need most */
    const size_t sizes[][7] = {{2, 3, 4, 2, 1, 2, 90},   {1, 17, 8, 1, 1, 4, 64},
                               {3, 5, 6, 4, 2, 16, 8},   {1, 20, 8, 2, 2, 32, 8},
                               {2, 16, 16, 4, 2, 8, 16}, {1, 70, 4, 4, 4, 4, 64}};
    for (size_t s = 0; s < 6; s++) {
        const size_t rows = sizes[s][0], t = sizes[s][1], n = rows * t;
        llm_llama_block_config c = config();
        c.width = sizes[s][2], c.heads = sizes[s][3], c.kv_heads = sizes[s][4];
        c.head_size = sizes[s][5], c.hidden = sizes[s][6];
        const llm_llama_block_weights w = cleared(&c), dw = cleared(&c);
        const size_t acts = llm_llama_block_acts_size(&c, rows, t);
        const size_t scratch = llm_llama_block_scratch_size(&c, rows, t) * sizeof(float);
        float *x = zeros(n * c.width), *y = floats(n * c.width), *p = floats(acts);
        float *angles = zeros(t * c.head_size / 2);
        llm_llama_block_acts a;
        llm_arena arena;
        CHECK(llm_arena_create(&arena, scratch));
        llm_llama_block_bind(&a, p, &c, rows, t);
        CHECK(a.rstd2 + n == p + acts);
        llm_llama_block_forward(y, &a, x, &w, angles, angles, rows, t, &c, &arena);
        for (size_t i = 0; i < acts; i++) CHECK(!isnan(p[i]));
        llm_llama_block_backward(y, &dw, &a, x, &w, angles, angles, rows, t, &c, &arena);
        CHECK(arena.peak <= scratch && scratch - arena.peak <= 6 * 64);
        llm_arena_destroy(&arena);
    }
}

/* x (T,D) rotated, pairs are halves: x cos + (-second half, first half) sin. */
static size_t rotated(size_t x, const float *cosine, const float *sine) {
    float *c = floats(T * D), *s = floats(T * D), *turn = zeros(D * D);
    for (size_t i = 0; i < T * D; i++) {
        const size_t at = i / D * (D / 2) + i % (D / 2);
        c[i] = cosine[at], s[i] = sine[at];
    }
    for (size_t i = 0; i < D / 2; i++) {
        turn[(D / 2 + i) * D + i] = -1.0f;
        turn[i * D + D / 2 + i] = 1.0f;
    }
    const size_t other = tape_matmul(x, tape_input(turn, D, D));
    return tape_add(tape_mul(x, tape_input(c, T, D)), tape_mul(other, tape_input(s, T, D)));
}

TEST(llama_block, "output and all gradients are what @autodiff_array makes of the two formulas") {
    const llm_llama_block_config c = config();
    const size_t rows[TENSORS] = {1, 1, (H + 2 * K) * D, C, F, F, C};
    llm_llama_block_weights w = cleared(&c), dw = cleared(&c);
    float cosine[T * D / 2], sine[T * D / 2];
    size_t t[TENSORS];
    table(cosine, sine, T, D);
    tape_open(120);
    const size_t x = tape_draw(T, C), dy = tape_draw(T, C);
    for (size_t i = 0; i < TENSORS; i++) {
        t[i] = tape_normal(rows[i], entries(i, &c) / rows[i], 0.5f);
        *place(&w, i) = tape_floats(t[i]);
    }

    const size_t qkv = tape_linear(tape_rmsnorm(x, t[0], 1e-5), t[2]);
    size_t mixed = tape_input(zeros(T * H * D), T, H * D);
    for (size_t h = 0; h < H; h++) {
        const size_t of = h / (H / K); /* its head of keys */
        const size_t q = rotated(tape_columns(qkv, h * D, D), cosine, sine);
        const size_t k = rotated(tape_columns(qkv, (H + of) * D, D), cosine, sine);
        const size_t v = tape_columns(qkv, (H + K + of) * D, D);
        mixed = tape_add(mixed, tape_placed(tape_causal_attn(q, k, v), h * D, H * D));
    }
    const size_t mid = tape_add(x, tape_linear(mixed, t[3])), norm2 = tape_rmsnorm(mid, t[1], 1e-5);
    const size_t gated = tape_mul(tape_silu(tape_linear(norm2, t[4])), tape_linear(norm2, t[5]));
    const size_t y = tape_add(mid, tape_linear(gated, t[6]));

    llm_llama_block_acts a;
    llm_arena arena;
    float *d = tape_floats(dy), *out = floats(T * C);
    tape_back(y, d);
    CHECK(llm_arena_create(&arena, llm_llama_block_scratch_size(&c, 1, T) * sizeof(float)));
    llm_llama_block_bind(&a, floats(llm_llama_block_acts_size(&c, 1, T)), &c, 1, T);
    llm_llama_block_forward(out, &a, tape_floats(x), &w, cosine, sine, 1, T, &c, &arena);
    llm_llama_block_backward(d, &dw, &a, tape_floats(x), &w, cosine, sine, 1, T, &c, &arena);
    TAPE_CHECK(out, y, 2e-6);
    TAPE_CHECK_GRAD(d, x, 1e-5);
    for (size_t i = 0; i < TENSORS; i++) TAPE_CHECK_GRAD(*place(&dw, i), t[i], 1e-5);
    llm_arena_destroy(&arena);
}

/* @decoder_block */
#include "../test.h"

#include "../../llm.h"

#include "../tape.h"

enum { B = 2, T = 3, C = 4, H = 2, F = 5 };

static llm_decoder_block_config config(bool parallel) {
    llm_decoder_block_config c;
    c.width = C, c.heads = H, c.hidden = F, c.parallel = parallel, c.eps = 1e-5f;
    return c;
}

/* The twelve tensors of a block: name in the golden file, entries, and its place in w. */
enum { TENSORS = 12 };
static const char *const name[TENSORS] = {"norm1_w", "norm1_b", "qkv_w",   "qkv_b",
                                          "out_w",   "out_b",   "norm2_w", "norm2_b",
                                          "up",      "up_b",    "down",    "down_b"};
static size_t entries(size_t i, size_t width, size_t hidden) {
    const size_t n[TENSORS] = {width, width, 3 * width * width, 3 * width, width * width,  width,
                               width, width, hidden * width,    hidden,    width * hidden, width};
    return n[i];
}
static float **place(llm_decoder_block_weights *w, size_t i) {
    float **const at[TENSORS] = {&w->norm1_w, &w->norm1_b,     &w->qkv_w,    &w->qkv_b,
                                 &w->out_w,   &w->out_b,       &w->norm2_w,  &w->norm2_b,
                                 &w->ffn.up,  &w->ffn.up_bias, &w->ffn.down, &w->ffn.down_bias};
    return at[i];
}

static llm_decoder_block_weights golden_weights(void) {
    llm_decoder_block_weights w;
    w.ffn.gate = NULL;
    for (size_t i = 0; i < TENSORS; i++) *place(&w, i) = golden("in/%s", name[i]);
    return w;
}
static llm_decoder_block_weights gradients(float value, size_t width, size_t hidden) {
    llm_decoder_block_weights w;
    w.ffn.gate = NULL;
    for (size_t i = 0; i < TENSORS; i++) {
        const size_t n = entries(i, width, hidden);
        *place(&w, i) = zeros(n);
        for (size_t k = 0; k < n; k++) (*place(&w, i))[k] = value;
    }
    return w;
}

TEST(decoder_block, "output and all gradients equal GPT2Block, and the parallel form PyTorch") {
    for (size_t parallel = 0; parallel < 2; parallel++) {
        const char *form = parallel ? "parallel" : "gpt2";
        const llm_decoder_block_config c = config(parallel);
        const llm_decoder_block_weights w = golden_weights();
        llm_decoder_block_weights dw = gradients(0.0f, C, F);
        llm_decoder_block_acts a;
        llm_arena arena;
        CHECK(llm_arena_create(&arena, llm_decoder_block_scratch_size(&c, B, T) * sizeof(float)));
        float *acts = floats(llm_decoder_block_acts_size(&c, B, T));
        float *y = floats(B * T * C), *d = golden("in/dy");
        const float *x = golden("in/x");
        llm_decoder_block_bind(&a, acts, &c, B, T);
        llm_decoder_block_forward(y, &a, x, &w, B, T, &c);
        CHECK_GOLDEN(y, B * T * C, 2e-6f, "%s/y", form);
        llm_decoder_block_backward(d, &dw, &a, x, &w, B, T, &c, &arena);
        CHECK_GOLDEN(d, B * T * C, 3e-6f, "%s/dx", form);
        for (size_t i = 0; i < TENSORS; i++) {
            if (parallel && (i == 6 || i == 7)) continue; /* there is no second norm */
            CHECK_GOLDEN(*place(&dw, i), entries(i, C, F), 3e-6f, "%s/%s", form, name[i]);
        }
        CHECK(arena.used == 0);
        llm_arena_destroy(&arena);
    }
}

TEST(decoder_block,
     "checkpointed gradients are bitwise the stored ones, in the memory that is promised") {
    for (size_t parallel = 0; parallel < 2; parallel++) {
        const llm_decoder_block_config c = config(parallel);
        const llm_decoder_block_weights w = golden_weights();
        llm_decoder_block_weights dw[2];
        float *d[2], *y = floats(B * T * C);
        const float *x = golden("in/x");
        const size_t acts = llm_decoder_block_acts_size(&c, B, T);
        const size_t scratch = llm_decoder_block_scratch_size(&c, B, T);
        for (size_t ckpt = 0; ckpt < 2; ckpt++) {
            llm_arena arena;
            llm_decoder_block_acts a;
            dw[ckpt] = gradients(1.0f, C, F);
            d[ckpt] = golden("in/dy");
            CHECK(llm_arena_create(&arena, (acts + B * T * C + 32 + scratch) * sizeof(float)));
            if (ckpt) {
                llm_decoder_block_backward_ckpt(d[1], &dw[1], x, &w, B, T, &c, &arena);
            } else {
                llm_decoder_block_bind(&a, floats(acts), &c, B, T);
                llm_decoder_block_forward(y, &a, x, &w, B, T, &c);
                llm_decoder_block_backward(d[0], &dw[0], &a, x, &w, B, T, &c, &arena);
            }
            CHECK(arena.used == 0);
            llm_arena_destroy(&arena);
        }
        CHECK(memcmp(d[0], d[1], B * T * C * sizeof(float)) == 0);
        for (size_t i = 0; i < TENSORS; i++)
            CHECK(memcmp(*place(&dw[0], i), *place(&dw[1], i), entries(i, C, F) * sizeof(float)) ==
                  0);
        for (size_t i = 6; parallel && i < 8; i++) /* nothing was added to what does not exist */
            for (size_t k = 0; k < C; k++) CHECK((*place(&dw[0], i))[k] == 1.0f);
    }
}

TEST(decoder_block, "zero output projections make the block the identity") {
    const llm_decoder_block_config c = config(false);
    llm_decoder_block_weights w = golden_weights();
    llm_decoder_block_acts a;
    float *y = floats(B * T * C);
    const float *x = golden("in/x");
    w.out_w = zeros(C * C), w.out_b = zeros(C);
    w.ffn.down = zeros(C * F), w.ffn.down_bias = zeros(C);
    llm_decoder_block_bind(&a, floats(llm_decoder_block_acts_size(&c, B, T)), &c, B, T);
    llm_decoder_block_forward(y, &a, x, &w, B, T, &c);
    CHECK(memcmp(y, x, B * T * C * sizeof(float)) == 0);
}

static double loss_of(const float *x, const llm_decoder_block_weights *w, const float *dy, size_t t,
                      const llm_decoder_block_config *c) {
    static float acts[256], y[64]; /* CHECK_GRAD calls this often */
    llm_decoder_block_acts a;
    llm_decoder_block_bind(&a, acts, c, 1, t);
    llm_decoder_block_forward(y, &a, x, w, 1, t, c);
    return dot(y, dy, t * c->width);
}

TEST(decoder_block,
     "gradients equal finite differences for one token, one head, one channel each") {
    const size_t sizes[][4] = {{1, 2, 1, 1}, {2, 2, 2, 3}, {3, 3, 1, 2}}; /* (T, C, H, F) */
    llm_rng rng = llm_rng_seed(3);
    for (size_t s = 0; s < 3; s++) {
        const size_t t = sizes[s][0], width = sizes[s][1], hidden = sizes[s][3];
        llm_decoder_block_config c = config(s == 1);
        c.width = width, c.heads = sizes[s][2], c.hidden = hidden;
        c.eps = 0.1f; /* two channels: keeps 1 / deviation tame */
        llm_decoder_block_weights w = gradients(0.0f, width, hidden),
                                  dw = gradients(0.0f, width, hidden);
        llm_decoder_block_acts a;
        llm_arena arena;
        float *x = floats(t * width), *dy = floats(t * width), *y = floats(t * width);
        for (size_t i = 0; i < TENSORS; i++)
            llm_rng_normal_fill(&rng, *place(&w, i), entries(i, width, hidden));
        llm_rng_normal_fill(&rng, x, t * width);
        llm_rng_normal_fill(&rng, dy, t * width);
        CHECK(llm_arena_create(&arena, 16384));
        llm_decoder_block_bind(&a, floats(llm_decoder_block_acts_size(&c, 1, t)), &c, 1, t);
        llm_decoder_block_forward(y, &a, x, &w, 1, t, &c);
        float *d = floats(t * width);
        memcpy(d, dy, t * width * sizeof(float));
        llm_decoder_block_backward(d, &dw, &a, x, &w, 1, t, &c, &arena);
        llm_arena_destroy(&arena);
        /* rounding in float over a step of 1e-2, third derivatives of a norm over few channels */
        CHECK_GRAD(d, x, t * width, 1e-2f, 4e-3f, loss_of(x, &w, dy, t, &c));
        for (size_t i = 0; i < TENSORS; i++)
            CHECK_GRAD(*place(&dw, i), *place(&w, i), entries(i, width, hidden), 1e-2f, 4e-3f,
                       loss_of(x, &w, dy, t, &c));
    }
}

TEST(
    decoder_block,
    "activations fill the floats that are promised, backward all but the rounding of its scratch") {
    const size_t sizes[][5] = {/* (B, T, C, H, F): the MLP needs more, attention, one token */
                               {2, 3, 4, 2, 40},
                               {1, 17, 8, 1, 640},
                               {1, 70, 8, 4, 8},
                               {2, 16, 12, 2, 24},
                               {4, 1, 2, 1, 2}};
    for (size_t s = 0; s < 5; s++) {
        const size_t rows = sizes[s][0], t = sizes[s][1], width = sizes[s][2], hidden = sizes[s][4];
        llm_decoder_block_config c = config(false);
        c.width = width, c.heads = sizes[s][3], c.hidden = hidden;
        const llm_decoder_block_weights w = gradients(0.5f, width, hidden),
                                        dw = gradients(0.0f, width, hidden);
        const size_t acts = llm_decoder_block_acts_size(&c, rows, t);
        const size_t scratch = llm_decoder_block_scratch_size(&c, rows, t) * sizeof(float);
        float *x = zeros(rows * t * width), *y = floats(rows * t * width), *p = floats(acts);
        llm_decoder_block_acts a;
        llm_arena arena;
        CHECK(llm_arena_create(&arena, scratch));
        llm_decoder_block_bind(&a, p, &c, rows, t);
        CHECK(a.rstd2 + rows * t == p + acts);
        llm_decoder_block_forward(y, &a, x, &w, rows, t, &c);
        llm_decoder_block_backward(y, &dw, &a, x, &w, rows, t, &c, &arena);
        CHECK(arena.peak <= scratch && scratch - arena.peak <= 4 * 64);
        llm_arena_destroy(&arena);
    }
}

/* The block on the tape, t the twelve tensors in their order. */
static size_t on_tape(size_t x, const size_t t[TENSORS], bool parallel) {
    const size_t norm1 = tape_layernorm(x, t[0], t[1], 1e-5);
    const size_t qkv = tape_add(tape_linear(norm1, t[2]), t[3]);
    size_t mixed = tape_input(zeros(T * C), T, C);
    for (size_t h = 0, D = C / H; h < H; h++) {
        const size_t q = tape_columns(qkv, h * D, D), k = tape_columns(qkv, C + h * D, D);
        const size_t v = tape_columns(qkv, 2 * C + h * D, D);
        mixed = tape_add(mixed, tape_placed(tape_causal_attn(q, k, v), h * D, C));
    }
    const size_t mid = tape_add(x, tape_add(tape_linear(mixed, t[4]), t[5]));
    const size_t in = parallel ? norm1 : tape_layernorm(mid, t[6], t[7], 1e-5);
    const size_t up = tape_gelu_tanh(tape_add(tape_linear(in, t[8]), t[9]));
    return tape_add(mid, tape_add(tape_linear(up, t[10]), t[11]));
}

TEST(decoder_block, "output and all gradients are what @autodiff_array makes of the two formulas") {
    const size_t rows[TENSORS] = {1, 1, 3 * C, 1, C, 1, 1, 1, F, 1, C, 1};
    for (size_t parallel = 0; parallel < 2; parallel++) {
        const llm_decoder_block_config c = config(parallel);
        llm_decoder_block_weights w, dw = gradients(0.0f, C, F);
        llm_decoder_block_acts a;
        llm_arena arena;
        size_t tensor[TENSORS];
        tape_open(110 + parallel);
        const size_t x = tape_draw(T, C), dy = tape_draw(T, C);
        w.ffn.gate = NULL;
        for (size_t i = 0; i < TENSORS; i++) {
            tensor[i] = tape_normal(rows[i], entries(i, C, F) / rows[i], 0.5f);
            *place(&w, i) = tape_floats(tensor[i]);
        }
        const size_t y = on_tape(x, tensor, parallel);
        float *d = tape_floats(dy), *out = floats(T * C);
        tape_back(y, d);
        CHECK(llm_arena_create(&arena, llm_decoder_block_scratch_size(&c, 1, T) * sizeof(float)));
        llm_decoder_block_bind(&a, floats(llm_decoder_block_acts_size(&c, 1, T)), &c, 1, T);
        llm_decoder_block_forward(out, &a, tape_floats(x), &w, 1, T, &c);
        llm_decoder_block_backward(d, &dw, &a, tape_floats(x), &w, 1, T, &c, &arena);
        TAPE_CHECK(out, y, 2e-6);
        TAPE_CHECK_GRAD(d, x, 1e-5);
        for (size_t i = 0; i < TENSORS; i++)
            if (!parallel || (i != 6 && i != 7)) TAPE_CHECK_GRAD(*place(&dw, i), tensor[i], 1e-5);
        llm_arena_destroy(&arena);
    }
}

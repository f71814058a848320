/* @transformer_stack */
#include "../test.h"

#include "../../llm.h"

#include "../arena.h"
#include "../tiny_transformer.h"

enum { B = 2, T = 3, S = 4, C = 4 };

static float *draw(size_t n, llm_rng *rng) {
    float *x = floats(n);
    llm_rng_normal_fill(rng, x, n);
    return x;
}
static const bool hidden[B * S] = {false, true, false, false, false, false, true, true};

/* One stack alone with its gradients. */
typedef struct {
    llm_transformer_config c;
    llm_transformer_weights w, g;
    float *flat, *grad, *x, *mem, *dy;
    size_t count, k, layers;
} stack;
static stack stack_of(const llm_transformer_config *c, size_t k, llm_arena *arena) {
    stack s;
    llm_rng rng = llm_rng_seed(4);
    uint32_t state = 9;
    s.c = *c, s.k = k, s.layers = k ? c->decoder : c->encoder;
    s.count = llm_transformer_count(c);
    s.flat = floats(s.count), s.grad = zeros(s.count);
    llm_transformer_weights_bind(&s.w, s.flat, c, arena);
    llm_transformer_weights_bind(&s.g, s.grad, c, arena);
    tiny_transformer_numbers(s.flat, s.count, &state);
    tiny_transformer_gains(&s.w, c);
    s.x = draw(B * S * C, &rng), s.mem = draw(B * S * C, &rng), s.dy = draw(B * S * C, &rng);
    return s;
}
static double weighed(const stack *s, bool memory, size_t rows) {
    static llm_arena arena;
    llm_transformer_stack_acts a;
    if (!arena.memory) arena = test_arena(1 << 16);
    arena.used = 0;
    return dot(llm_transformer_stack_forward(&a, s->x, memory ? s->mem : NULL, hidden, s->k, B,
                                             rows, S, &s->w.stack[s->k], s->layers, &s->c, &arena),
               s->dy, B * rows * C);
}

TEST(transformer_stack, "gradients of input, memory and weights equal finite differences") {
    for (size_t family = 0; family < 5; family++) {
        llm_transformer_config c = tiny_transformer_of(family);
        if (!c.gated) c.act = LLM_ACTIVATION_GELU; /* ReLU has a corner */
        for (size_t k = 0; k < 2; k++) {
            llm_arena arena = test_arena(1 << 17);
            const bool memory = k && c.encoder;
            const size_t rows = k ? T : S;
            if (!(k ? c.decoder : c.encoder)) continue;
            stack s = stack_of(&c, k, &arena);
            llm_transformer_stack_acts a;
            llm_transformer_stack_forward(&a, s.x, memory ? s.mem : NULL, hidden, k, B, rows, S,
                                          &s.w.stack[k], s.layers, &c, &arena);
            float *d = floats(B * rows * C), *dmem = zeros(B * S * C);
            memcpy(d, s.dy, B * rows * C * sizeof(float));
            const size_t used = arena.used;
            llm_transformer_stack_backward(d, memory ? dmem : NULL, &s.g.stack[k], &a,
                                           &s.w.stack[k], s.layers, &c, &arena);
            CHECK(arena.used == used);
            CHECK_GRAD(d, s.x, B * rows * C, 4e-3f, 6e-3f, weighed(&s, memory, rows));
            CHECK_GRAD(s.grad, s.flat, s.count, 4e-3f, 6e-3f, weighed(&s, memory, rows));
            if (memory) CHECK_GRAD(dmem, s.mem, B * S * C, 4e-3f, 6e-3f, weighed(&s, memory, rows));
        }
    }
}

TEST(transformer_stack, "T5's stacks are @t5_stack's") {
    llm_arena arena = test_arena(1 << 17);
    const llm_transformer_config c = tiny_transformer_of(LLM_TRANSFORMER_T5);
    for (size_t k = 0; k < 2; k++) {
        stack s = stack_of(&c, k, &arena);
        const size_t rows = k ? T : S, n = 2 * 3 * C, layers = s.layers;
        llm_t5_stack_config t = llm_t5_defaults().encoder;
        t.layers = layers, t.hidden = 6, t.buckets = 8, t.far = 5, t.decoder = k;
        t.attn.width = C, t.attn.heads = 2, t.attn.head_size = 3;
        llm_t5_stack_weights w;
        llm_t5_stack_layer list[2];
        memset(list, 0, sizeof list);
        w.layer = list, w.distances = s.w.stack[k].distances, w.norm = s.w.stack[k].norm.w;
        for (size_t l = 0; l < layers; l++) {
            const llm_transformer_weights_layer *p = &s.w.stack[k].layer[l];
            const llm_mha_params *m = &p->attn.mha, *x = &p->cross.mha;
            const llm_t5_attn_weights own = {p->attn.norm.w, m->wq, m->wk, m->wv, m->wo};
            const llm_t5_attn_weights cross = {p->cross.norm.w, x->wq, x->wk, x->wv, x->wo};
            list[l].attn = own, list[l].cross = cross, list[l].norm = p->norm.w,
            list[l].ffn = p->ffn;
            CHECK(m->wk == m->wq + n);
        }
        llm_transformer_stack_acts a;
        llm_t5_stack_acts b;
        const float *y = llm_transformer_stack_forward(&a, s.x, k ? s.mem : NULL, hidden, k, B,
                                                       rows, S, &s.w.stack[k], layers, &c, &arena);
        CHECK_ALL_NEAR(
            y, llm_t5_stack_forward(&b, s.x, k ? s.mem : NULL, hidden, B, rows, S, &w, &t, &arena),
            B * rows * C, 1e-5f);
    }
}

TEST(transformer_stack,
     "queries and keys of place t are turned by t / theta^(2 i / D), from 0 on") {
    enum { D = 16, H = 2 };
    llm_arena arena = test_arena(1 << 17);
    llm_transformer_config c = tiny_transformer_of(LLM_TRANSFORMER_LLAMA);
    c.head_size = D, c.decoder = 1;
    const stack s = stack_of(&c, 1, &arena);
    llm_transformer_stack_acts turned, plain;
    size_t used[3] = {arena.used, 0, 0};
    llm_transformer_stack_forward(&turned, s.x, NULL, NULL, true, 1, T, 0, &s.w.stack[1], 1, &c,
                                  &arena);
    used[1] = arena.used;
    c.position = LLM_TRANSFORMER_TABLE;
    llm_transformer_stack_forward(&plain, s.x, NULL, NULL, true, 1, T, 0, &s.w.stack[1], 1, &c,
                                  &arena);
    used[2] = arena.used;
    CHECK(used[1] - used[0] == used[2] - used[1] + arena_room(T * D) + arena_room(D / 2));
    for (size_t k = 0; k < H + 1; k++) { /* two heads of queries, one of keys */
        const float *from = k < H ? plain.layer->attn.q + k * T * D : plain.layer->attn.k;
        const float *to = k < H ? turned.layer->attn.q + k * T * D : turned.layer->attn.k;
        for (size_t i = 0; i < T * D; i++) {
            const double angle = (double)(i / D) * pow(1e4, -(double)(i % (D / 2)) / (D / 2));
            const double first = i % D < D / 2;
            const double other = first ? -(double)from[i + D / 2] : (double)from[i - D / 2];
            CHECK_NEAR(to[i], cos(angle) * (double)from[i] + sin(angle) * other, 1e-5);
        }
    }
    CHECK_ALL_NEAR(turned.layer->attn.v, plain.layer->attn.v, T * D, 0.0f);
}

TEST(transformer_stack, "an MLP gives its scratch back") {
    llm_arena arena = test_arena(1 << 17);
    const llm_transformer_config c = tiny_transformer_of(LLM_TRANSFORMER_GPT2);
    const stack s = stack_of(&c, 1, &arena);
    llm_transformer_stack_acts a;
    llm_transformer_stack_forward(&a, s.x, NULL, NULL, true, B, T, 0, &s.w.stack[1], s.layers, &c,
                                  &arena);
    const size_t used = arena.used;
    llm_transformer_stack_mlp_backward(s.dy, &s.g.stack[1].layer[1], &a.layer[1].mlp,
                                       &s.w.stack[1].layer[1], &c, &arena);
    CHECK(arena.used == used);
}

TEST(transformer_stack,
     "rotations turn a text's own attention by distance: a shift changes nothing") {
    llm_arena arena = test_arena(1 << 17);
    llm_transformer_config c = tiny_transformer_of(LLM_TRANSFORMER_LLAMA);
    c.encoder = 1, c.decoder = 0; /* sees both sides */
    stack s = stack_of(&c, 0, &arena);
    /* the same three tokens at places 0..2 and 1..3: what is left of them is hidden */
    bool first[S] = {true, false, false, false}, last[S] = {false, false, false, true};
    float shifted[S * C];
    memcpy(shifted + C, s.x, 3 * C * sizeof(float));
    memcpy(shifted, s.x, C * sizeof(float));
    llm_transformer_stack_acts a, b;
    const float *y = llm_transformer_stack_forward(&a, s.x, NULL, last, false, 1, S, 0,
                                                   &s.w.stack[0], 1, &c, &arena);
    const float *z = llm_transformer_stack_forward(&b, shifted, NULL, first, false, 1, S, 0,
                                                   &s.w.stack[0], 1, &c, &arena);
    CHECK_ALL_NEAR(z + C, y, 3 * C, 1e-5f);
    c.position = LLM_TRANSFORMER_TABLE; /* without them order means nothing */
    float swapped[S * C];
    memcpy(swapped, s.x, sizeof swapped);
    memcpy(swapped, s.x + C, C * sizeof(float));
    memcpy(swapped + C, s.x, C * sizeof(float));
    y = llm_transformer_stack_forward(&a, s.x, NULL, NULL, false, 1, S, 0, &s.w.stack[0], 1, &c,
                                      &arena);
    z = llm_transformer_stack_forward(&b, swapped, NULL, NULL, false, 1, S, 0, &s.w.stack[0], 1, &c,
                                      &arena);
    CHECK_ALL_NEAR(z, y + C, C, 1e-5f);
}

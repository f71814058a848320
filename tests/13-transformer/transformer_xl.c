/* @transformer_xl */
#include "../test.h"

#include "../../llm.h"
#include "../arena.h"

enum { MOST = 3 }; /* layers */

/* A stack with its weights and gradients in vectors, and the memory of B streams. */
typedef struct {
    llm_sublayer_config c;
    size_t n;
    float *w, *g;
    llm_transformer_xl_layer weights[MOST], grads[MOST];
    llm_transformer_xl_acts acts[MOST];
    llm_transformer_xl_memory memory;
    llm_arena arena;
    size_t mark;
} stack;

static stack stack_of(size_t layers, size_t C, size_t H, size_t F, size_t B, size_t M) {
    stack s;
    memset(&s, 0, sizeof s);
    s.arena = test_arena(1 << 20);
    s.c = llm_sublayer_defaults(layers, C, H);
    s.c.hidden = F;
    s.n = llm_transformer_xl_count(&s.c);
    s.w = floats(s.n), s.g = zeros(s.n);
    llm_transformer_xl_bind(s.weights, s.w, &s.c);
    llm_transformer_xl_bind(s.grads, s.g, &s.c);
    s.memory = llm_transformer_xl_remember(B, M, &s.c, &s.arena);
    CHECK(s.memory.held == 0 && s.arena.used >= layers * B * M * C * sizeof(float));
    s.mark = s.arena.used;
    return s;
}
static const float *stack_forward(stack *s, const float *x, size_t T) {
    s->arena.used = s->mark;
    return llm_transformer_xl_forward(s->acts, x, &s->memory, s->weights, T, &s->c, &s->arena);
}

TEST(transformer_xl,
     "three segments of a stream equal transformers' XLNet: outputs, gradients, and "
     "what is remembered") {
    enum { B = 2, T = 3, M = 4, C = 4 };
    stack s = stack_of(2, C, 2, 5, B, M);
    size_t n;
    const float *w = golden_n(&n, "w/flat");
    CHECK(n == s.n);
    memcpy(s.w, w, n * sizeof(float));
    for (size_t k = 0; k < 3; k++) {
        const float *h = stack_forward(&s, golden("segment%zu/x", k), T);
        CHECK_GOLDEN(h, B * T * C, 1e-5f, "segment%zu/h", k);
        float *d = golden("segment%zu/dy", k);
        memset(s.g, 0, s.n * sizeof(float));
        const size_t used = s.arena.used;
        llm_transformer_xl_backward(d, s.grads, s.acts, s.weights, &s.c, &s.arena);
        CHECK(s.arena.used == used);
        CHECK_GOLDEN(d, B * T * C, 2e-5f, "segment%zu/dx", k);
        CHECK_GOLDEN(s.g, s.n, 2e-5f, "segment%zu/dw", k);
        llm_transformer_xl_update(&s.memory, s.acts);
        CHECK(s.memory.held == (k == 0 ? 3 : 4));
        CHECK_GOLDEN(s.memory.x, 2 * B * s.memory.held * C, 1e-5f, "segment%zu/memory", k);
    }
}

TEST(transformer_xl, "new weights: 0.02, gains 1, biases 0; every weight is somebody's") {
    stack s = stack_of(2, 32, 4, 48, 1, 1);
    llm_rng rng = llm_rng_seed(1);
    CHECK(s.n == 2 * (5 * 32 * 32 + 2 * 32 * 48 + 7 * 32 + 48));
    CHECK(s.weights[1].mlp.norm.out_b + 32 == s.w + s.n);
    llm_transformer_xl_init(s.weights, &s.c, &rng);
    double sum = 0.0;
    size_t ones = 0, none = 0;
    for (size_t i = 0; i < s.n; i++) {
        CHECK(isfinite(s.w[i]));
        ones += s.w[i] == 1.0f, none += s.w[i] == 0.0f;
        if (s.w[i] != 1.0f) sum += (double)s.w[i] * (double)s.w[i];
    }
    CHECK(ones == 2 * 2 * 32 && none == 2 * (3 * 32 + 48));
    CHECK_NEAR(sqrt(sum / (double)(s.n - ones - none)), 0.02, 0.0005);
    const size_t size = sizeof(llm_transformer_xl_layer);
    llm_transformer_xl_layer *w = (llm_transformer_xl_layer *)test_memory(2, size);
    memset(w, 255, 2 * size);
    llm_transformer_xl_bind(w, s.w, &s.c);
    CHECK(fabsf(s.w[0]) < 0.12f);
    for (size_t l = 0; l < 2; l++) {
        CHECK(!w[l].norm.in_w && !w[l].norm.in_b && !w[l].mlp.norm.in_w && !w[l].mlp.norm.in_b);
        CHECK(!w[l].mlp.ffn.gate);
        for (size_t i = 0; i < 48; i++) CHECK(w[l].mlp.ffn.up_bias[i] == 0.0f);
        for (size_t i = 0; i < 32; i++) {
            CHECK(w[l].norm.out_w[i] == 1.0f && w[l].mlp.norm.out_w[i] == 1.0f);
            CHECK(w[l].norm.out_b[i] == 0.0f && w[l].mlp.norm.out_b[i] == 0.0f);
            CHECK(w[l].mlp.ffn.down_bias[i] == 0.0f);
        }
    }
}

TEST(transformer_xl, "what stays in the arena is what is named") {
    enum { C = 32, H = 4, F = 48, B = 2, T = 3, M = 5, N = B * T, S = M + T };
    stack s = stack_of(2, C, H, F, B, M);
    memset(s.w, 0, s.n * sizeof(float));
    memset(s.memory.x, 0, 2 * B * M * C * sizeof(float));
    s.memory.held = M;
    CHECK(s.mark == arena_room(2 * B * M * C));
    stack_forward(&s, zeros(N * C), T);
    const size_t attn = arena_room(B * S * C) + 2 * arena_room(N * C) + arena_room(2 * B * S * C) +
                        arena_room(S * C) + arena_room(H * N * S);
    const size_t frames = 6 * arena_room(N * C) + 8 * arena_room(N) + 2 * arena_room(N * F);
    CHECK(s.arena.used - s.mark == arena_room(S * C) + 2 * (attn + frames));
}

TEST(transformer_xl, "a memory of everything makes segments one long text, in every layer") {
    enum { B = 2, T = 4, PARTS = 3, C = 8 };
    llm_rng rng = llm_rng_seed(2);
    stack s = stack_of(3, C, 2, 12, B, PARTS * T), one = stack_of(3, C, 2, 12, B, 0);
    float x[B * PARTS * T * C], part[B * T * C];
    llm_rng_normal_fill(&rng, s.w, s.n);
    memcpy(one.w, s.w, s.n * sizeof(float));
    llm_rng_normal_fill(&rng, x, B * PARTS * T * C);
    const float *whole = stack_forward(&one, x, PARTS * T);
    llm_transformer_xl_update(&one.memory, one.acts);
    CHECK(one.memory.held == 0); /* room for nothing */
    for (size_t k = 0; k < PARTS; k++) {
        for (size_t b = 0; b < B; b++)
            memcpy(part + b * T * C, x + (b * PARTS + k) * T * C, T * C * sizeof(float));
        const float *h = stack_forward(&s, part, T);
        for (size_t b = 0; b < B; b++)
            CHECK_ALL_NEAR(h + b * T * C, whole + (b * PARTS + k) * T * C, T * C, 1e-4f);
        llm_transformer_xl_update(&s.memory, s.acts);
    }
    s.memory.held = 0; /* forgets: the last segment alone is another text */
    const float *h = stack_forward(&s, part, T);
    CHECK(fabsf(h[T * C - 1] - whole[PARTS * T * C - 1]) > 1e-3f);
}

TEST(transformer_xl, "L layers with M places of memory look exactly L M places back") {
    enum { C = 4, N = 12 };
    for (size_t layers = 1; layers <= 3; layers++) {
        for (size_t M = 0; M <= 3; M++) {
            stack s = stack_of(layers, C, 1, 4, 1, M);
            llm_rng rng = llm_rng_seed(3);
            float x[N * C], last[C];
            llm_rng_normal_fill(&rng, s.w, s.n);
            for (size_t i = 0; i < s.n; i++) s.w[i] *= 0.5f;
            llm_rng_normal_fill(&rng, x, N * C);
            for (size_t back = 0; back <= N; back++) { /* N: nothing is changed */
                const float kept = x[back < N ? (N - 1 - back) * C : 0];
                if (back < N) x[(N - 1 - back) * C] += 1.0f;
                s.memory.held = 0;
                const float *h = NULL;
                for (size_t t = 0; t < N; t++) { /* segments of one token */
                    h = stack_forward(&s, x + t * C, 1);
                    llm_transformer_xl_update(&s.memory, s.acts);
                }
                x[back < N ? (N - 1 - back) * C : 0] = kept;
                if (back == 0) { /* what follows compares with the unchanged text */
                    s.memory.held = 0;
                    CHECK(h != NULL);
                    for (size_t t = 0; t < N; t++) {
                        const float *y = stack_forward(&s, x + t * C, 1);
                        llm_transformer_xl_update(&s.memory, s.acts);
                        memcpy(last, y, sizeof last);
                    }
                    continue;
                }
                CHECK((memcmp(h, last, sizeof last) == 0) == (back == N || back > layers * M));
            }
        }
    }
}

TEST(transformer_xl, "what does not fit is refused") {
    enum { C = 4 };
    stack s = stack_of(2, C, 2, 4, 1, 2);
    const float x[C] = {0};
    memset(s.w, 0, s.n * sizeof(float));
    s.c.norm = LLM_PRENORM_PRE;
    CHECK_ASSERTS(stack_forward(&s, x, 1));
    s.c.norm = LLM_PRENORM_POST, s.c.dropout = 0.1f;
    CHECK_ASSERTS(stack_forward(&s, x, 1));
    s.c.dropout = 0.0f, s.memory.held = 3;
    CHECK_ASSERTS(stack_forward(&s, x, 1));
    s.memory.held = 0, s.memory.L = 1;
    CHECK_ASSERTS(stack_forward(&s, x, 1));
    s.memory.L = 2, s.memory.C = 3;
    CHECK_ASSERTS(stack_forward(&s, x, 1));
}

/* right: the shares of right answers to "which token stood 6 places back?" in segments of 4, after
 * training with a memory of M on streams of four random tokens: with M, then with a longer one. */
static void lagging(double right[2], size_t M, size_t longer, uint64_t seed) {
    enum { B = 16, T = 4, C = 16, V = 4, LAG = 6, STEPS = 340, LAST = 40, N = B * T };
    stack s = stack_of(1, C, 2, 16, B, longer);
    llm_rng rng = llm_rng_seed(seed);
    const size_t n = s.n + V * C;
    float *w = zeros(4 * n), *g = w + n, *m = g + n, *v = m + n, *embed = w + s.n;
    llm_transformer_xl_bind(s.weights, w, &s.c);
    llm_transformer_xl_bind(s.grads, g, &s.c);
    llm_transformer_xl_init(s.weights, &s.c, &rng);
    for (size_t i = 0; i < s.n; i++) /* 16 channels want more than 0.02 */
        if (w[i] != 1.0f) w[i] *= 10.0f;
    llm_rng_normal_fill(&rng, embed, V * C);
    llm_adamw_config adamw = llm_adamw_defaults();
    adamw.lr = 1e-2f, adamw.beta2 = 0.95f, adamw.weight_decay = 0.0f;
    int past[B][LAG + T];
    for (size_t b = 0; b < B; b++)
        for (size_t t = 0; t < LAG + T; t++) past[b][t] = (int)llm_rng_below(&rng, V);
    right[0] = right[1] = 0.0;
    s.memory.M = M;
    for (size_t step = 1; step <= STEPS; step++) {
        int ids[N], target[N];
        float x[N * C], logits[N * V], loss[N], lse[N], d[N * C] = {0};
        for (size_t b = 0; b < B; b++) {
            memmove(past[b], past[b] + T, LAG * sizeof(int));
            for (size_t t = 0; t < T; t++) {
                ids[b * T + t] = past[b][LAG + t] = (int)llm_rng_below(&rng, V);
                target[b * T + t] = past[b][t];
            }
        }
        if (step + LAST / 2 > STEPS) s.memory.M = longer;
        llm_embedding_forward(x, ids, embed, N, V, C);
        const float *h = stack_forward(&s, x, T);
        const llm_softmax_head head = llm_softmax_head_defaults(h, embed, target, N, C, V);
        llm_softmax_head_forward(loss, lse, logits, &head);
        for (size_t i = 0; i < N && step + LAST > STEPS; i++) {
            size_t best = 0;
            for (size_t k = 1; k < V; k++)
                best = logits[i * V + k] > logits[i * V + best] ? k : best;
            right[step + LAST / 2 > STEPS] += (int)best == target[i] ? 2.0 / (LAST * N) : 0.0;
        }
        if (step + LAST <= STEPS) {
            llm_softmax_head_backward(d, g + s.n, logits, lse, &head, 1.0f / N);
            llm_transformer_xl_backward(d, s.grads, s.acts, s.weights, &s.c, &s.arena);
            llm_embedding_backward(g + s.n, d, ids, N, V, C);
            llm_adamw_step(w, m, v, g, n, &adamw, step);
            memset(g, 0, n * sizeof(float));
        }
        llm_transformer_xl_update(&s.memory, s.acts);
    }
}

TEST(transformer_xl,
     "a dependency of one and a half segments is learned with a memory, not without; "
     "a longer memory than in training works") {
    double with[2], without[2];
    lagging(with, 8, 12, 1);
    lagging(without, 0, 0, 1);
    CHECK(with[0] > 0.95 && with[1] > 0.95);
    CHECK_NEAR(without[0], 0.25, 0.05);
}

/* @gpt1 */
#include "../test.h"

#include "../../llm.h"
#include "../arena.h"

enum { V = 9, T = 5, C = 6, B = 3, N = B * T };
static llm_gpt1_config tiny_config(void) {
    llm_gpt1_config c = llm_gpt1_defaults();
    c.vocab = V, c.context = T;
    c.stack.layers = 2, c.stack.width = C, c.stack.heads = 2, c.stack.hidden = 4 * C;
    return c;
}

/* The golden model; its gradients are 0. */
typedef struct {
    llm_gpt1_config c;
    llm_gpt1_weights w, dw;
    float *flat, *grad;
    llm_arena arena;
} tiny;
static tiny tiny_model(void) {
    tiny m;
    size_t count;
    m.c = tiny_config();
    m.arena = test_arena(1 << 19);
    m.flat = golden_n(&count, "tiny/weights");
    CHECK(count == llm_gpt1_count(&m.c));
    m.grad = zeros(count);
    llm_gpt1_bind(&m.w, m.flat, &m.c, &m.arena);
    llm_gpt1_bind(&m.dw, m.grad, &m.c, &m.arena);
    return m;
}

/* scale times the loss of the first rows of the golden batch, with its gradients unless dw is
 * NULL. */
static float tiny_loss(tiny *m, const llm_gpt1_weights *dw, const int *ids, const int *targets,
                       size_t rows, float scale) {
    const size_t mark = m->arena.used;
    llm_gpt1_acts acts;
    const float *h = llm_gpt1_forward(&acts, ids, rows, T, &m->w, &m->c, &m->arena);
    float *dh = zeros(rows * T * C);
    const size_t used = m->arena.used;
    const float loss = llm_gpt1_lm(dw ? dh : NULL, dw ? dw->wte : NULL, h, targets, rows * T, scale,
                                   &m->w, &m->c, &m->arena);
    if (dw) llm_gpt1_backward(dh, dw, &acts, &m->w, &m->c, &m->arena);
    CHECK(m->arena.used == used);
    m->arena.used = mark;
    return loss;
}

TEST(gpt1, "hidden states, loss and all gradients equal transformers' OpenAIGPTLMHeadModel") {
    tiny m = tiny_model();
    const int *ids = as_ints(golden("tiny/ids"), N), *targets = as_ints(golden("tiny/targets"), N);
    llm_gpt1_acts acts;
    const float *h = llm_gpt1_forward(&acts, ids, B, T, &m.w, &m.c, &m.arena);
    CHECK_GOLDEN(h, N * C, 2e-6f, "tiny/h");
    const float loss = tiny_loss(&m, &m.dw, ids, targets, B, 0.5f);
    CHECK_GOLDEN(&loss, 1, 2e-6f, "tiny/loss");
    CHECK_GOLDEN(m.grad, llm_gpt1_count(&m.c), 4e-6f, "tiny/grads");
    tiny_loss(&m, &m.dw, ids, targets, B, 0.5f); /* gradients accumulate */
    float *want = golden("tiny/grads");
    for (size_t i = 0; i < llm_gpt1_count(&m.c); i++) want[i] *= 2.0f;
    CHECK_ALL_NEAR(m.grad, want, llm_gpt1_count(&m.c), 2e-5f);
    CHECK_NEAR(tiny_loss(&m, NULL, ids, targets, B, 0.5f), loss, 1e-6);
}

TEST(gpt1, "a token changes no state before it, and all behind it") {
    tiny m = tiny_model();
    int *ids = as_ints(golden("tiny/ids"), N);
    float before[T * C];
    llm_gpt1_acts acts;
    const size_t mark = m.arena.used;
    memcpy(before, llm_gpt1_forward(&acts, ids, 1, T, &m.w, &m.c, &m.arena), sizeof before);
    for (size_t at = 0; at < T; at++) {
        const int kept = ids[at];
        ids[at] = (kept + 1) % V;
        m.arena.used = mark;
        const float *h = llm_gpt1_forward(&acts, ids, 1, T, &m.w, &m.c, &m.arena);
        ids[at] = kept;
        for (size_t t = 0; t < T; t++)
            CHECK((memcmp(before + t * C, h + t * C, C * sizeof(float)) == 0) == (t < at));
    }
    CHECK_ASSERTS(llm_gpt1_forward(&acts, ids, 1, T + 1, &m.w, &m.c, &m.arena));
}

TEST(gpt1, "with dropout gradients equal finite differences, and embeddings are dropped too") {
    tiny m = tiny_model();
    const int *ids = as_ints(golden("tiny/ids"), N), *targets = as_ints(golden("tiny/targets"), N);
    for (size_t i = 0; i < llm_gpt1_count(&m.c); i++)
        m.flat[i] *= i < llm_gpt1_matrices(&m.c) ? 0.3f : 1.0f; /* gentler slopes */
    m.c.stack.dropout = 0.3f, m.c.stack.seed = 4;
    tiny_loss(&m, &m.dw, ids, targets, 2, 1.0f);
    const size_t parts[3][2] = {{0, (V + T) * C}, {200, 40}, {llm_gpt1_count(&m.c) - 70, 70}};
    for (size_t k = 0; k < 3; k++)
        CHECK_GRAD(m.grad + parts[k][0], m.flat + parts[k][0], parts[k][1], 1e-2f, 3e-3f,
                   (double)tiny_loss(&m, NULL, ids, targets, 2, 1.0f));

    /* without layers h is what is left of the sum */
    llm_gpt1_acts acts;
    m.c.stack.layers = 0;
    const float *h = llm_gpt1_forward(&acts, ids, B, T, &m.w, &m.c, &m.arena);
    size_t dropped = 0;
    for (size_t i = 0; i < N * C; i++) {
        const float sum = m.w.wte[(size_t)ids[i / C] * C + i % C] + m.w.wpe[i % (T * C)];
        CHECK_NEAR(h[i], h[i] == 0.0f ? 0.0f : sum / 0.7f, 1e-6);
        dropped += h[i] == 0.0f && sum != 0.0f;
    }
    CHECK(dropped > 10 && dropped < 45); /* 27 of 90, deviation 4.3 */
}

TEST(gpt1, "embeddings and sublayers drop by different numbers, another seed drops others") {
    llm_sublayer_config c = llm_sublayer_defaults(2, 8, 2);
    float a[64], b[64], number[64];
    c.dropout = 0.5f, c.seed = 3;
    for (size_t i = 0; i < 64; i++) a[i] = b[i] = number[i] = 1.0f;
    llm_gpt1_drop(a, 64, &c);
    llm_dropout_forward(number, number, 64, 0.5f, 3, 4 * 64); /* behind sublayers 0 .. 3 */
    CHECK(memcmp(a, number, sizeof a) == 0);
    c.seed = 4;
    llm_gpt1_drop(b, 64, &c);
    CHECK(memcmp(a, b, sizeof a) != 0);
}

TEST(gpt1, "without targets the loss is 0 and no gradient is added") {
    tiny m = tiny_model();
    const int *ids = as_ints(golden("tiny/ids"), N);
    int none[N];
    for (size_t i = 0; i < N; i++) none[i] = LLM_CROSS_ENTROPY_IGNORE;
    CHECK(tiny_loss(&m, &m.dw, ids, none, B, 1.0f) == 0.0f);
    for (size_t i = 0; i < llm_gpt1_count(&m.c); i++) CHECK(m.grad[i] == 0.0f);
}

TEST(gpt1, "the model of 2018 has 116,534,784 weights; weights start as N(0, 0.02), gains as 1") {
    llm_gpt1_config c = llm_gpt1_defaults();
    CHECK(llm_gpt1_count(&c) == 116534784);
    CHECK(llm_gpt1_matrices(&c) == (40478 + 512) * 768 + 12 * 12 * 768 * 768);
    CHECK(c.stack.heads == 12 && c.stack.norm == LLM_PRENORM_POST && c.stack.eps == 1e-5f &&
          c.stack.dropout == 0.0f);
    CHECK(c.stack.act == LLM_ACTIVATION_GELU_TANH);

    c = tiny_config();
    c.vocab = 300, c.classes = 2;
    llm_arena arena = test_arena(4096);
    const size_t count = llm_gpt1_count(&c), matrices = llm_gpt1_matrices(&c);
    float *flat = floats(count);
    llm_gpt1_weights w;
    llm_rng rng = llm_rng_seed(1);
    llm_gpt1_bind(&w, flat, &c, &arena);
    llm_gpt1_init(&w, 0.02f, &c, &rng);
    CHECK(w.wte == flat && w.wpe == flat + 300 * C && w.head == w.wpe + T * C);
    CHECK(w.stack.attn[0].mha.wq == w.head + 2 * C);
    /* 2700 squares: their mean is off by 2.7% */
    CHECK_NEAR(sqrt(dot(flat, flat, matrices) / (double)matrices), 0.02, 0.001);
    CHECK(fabs((double)flat[matrices - 1]) < 0.1 && flat[matrices - 1] != 0.0f);
    for (size_t i = 0; i < C; i++)
        CHECK(w.stack.attn[1].norm.out_w[i] == 1.0f && w.stack.mlp[1].norm.out_w[i] == 1.0f &&
              w.stack.attn[0].mha.bk[i] == 0.0f && w.stack.mlp[1].norm.out_b[i] == 0.0f);
    CHECK(w.stack.mlp[1].norm.out_b + C == flat + count && !w.stack.norm_w);
    w.wte = floats(matrices); /* biases and gains may stand elsewhere */
    llm_gpt1_init(&w, 0.02f, &c, &rng);
}

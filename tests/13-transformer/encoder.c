/* @encoder */
#include "../test.h"

#include "../../llm.h"

#include "../arena.h"

enum { B = 2, T = 5, C = 4, H = 2, F = 6, L = 2, N = B * T };

static llm_sublayer_config config(bool pre) {
    llm_sublayer_config c = llm_sublayer_defaults(L, C, H);
    c.hidden = F;
    c.norm = pre ? LLM_PRENORM_PRE : LLM_PRENORM_POST;
    c.act = pre ? LLM_ACTIVATION_GELU : LLM_ACTIVATION_RELU;
    return c;
}
static llm_encoder_weights bound(float *flat, const llm_sublayer_config *c, llm_arena *arena) {
    llm_encoder_weights w;
    float *matrix = flat, *vector = flat + llm_encoder_matrices(c);
    llm_encoder_bind(&w, &matrix, &vector, c, arena);
    CHECK(matrix == flat + llm_encoder_matrices(c));
    CHECK(vector == matrix + llm_encoder_vectors(c));
    return w;
}

TEST(encoder,
     "values and gradients equal torch.nn.TransformerEncoder, post and pre, with padding") {
    const float *x = golden("in/x");
    llm_sublayer_view v = llm_sublayer_look(B, T);
    v.hidden = as_bools(golden("in/hidden"), N);
    for (size_t pre = 0; pre < 2; pre++) {
        const char *name = pre ? "pre" : "post";
        const llm_sublayer_config c = config(pre);
        llm_arena arena = test_arena(1 << 17);
        size_t count;
        float *flat = golden_n(&count, "%s/weights", name), *g = zeros(count);
        CHECK(count == llm_encoder_matrices(&c) + llm_encoder_vectors(&c));
        const llm_encoder_weights w = bound(flat, &c, &arena), dw = bound(g, &c, &arena);
        llm_encoder_acts a;
        const float *y = llm_encoder_forward(&a, x, &v, &w, &c, &arena);
        CHECK_GOLDEN(y, N * C, 5e-6f, "%s/y", name);
        float *d = golden("in/dy");
        const size_t used = arena.used;
        llm_encoder_backward(d, &dw, &a, B, T, &w, &c, &arena);
        CHECK(arena.used == used);
        /* four norms over four channels behind each other */
        CHECK_GOLDEN(d, N * C, 3e-5f, "%s/dx", name);
        CHECK_GOLDEN(g, count, 3e-5f, "%s/grads", name);
        d = golden("in/dy"); /* once more: gradients accumulate */
        llm_encoder_backward(d, &dw, &a, B, T, &w, &c, &arena);
        for (size_t i = 0; i < count; i++) g[i] /= 2.0f;
        CHECK_GOLDEN(g, count, 3e-5f, "%s/grads", name);
    }
}

TEST(encoder, "padding changes no real place, whatever it holds; blocked keys are not seen") {
    const llm_sublayer_config c = config(true);
    float *flat = golden("pre/weights"), x[7 * C], y[3 * C];
    llm_rng rng = llm_rng_seed(3);
    llm_rng_normal_fill(&rng, x, 7 * C);
    llm_arena arena = test_arena(1 << 17);
    const llm_encoder_weights w = bound(flat, &c, &arena);
    llm_encoder_acts a;
    llm_sublayer_view v = llm_sublayer_look(1, 3);
    memcpy(y, llm_encoder_forward(&a, x, &v, &w, &c, &arena), sizeof y);
    const bool hidden[7] = {false, false, false, true, true, true, true};
    for (size_t t = 4; t <= 7; t++) {
        v = llm_sublayer_look(1, t);
        v.hidden = hidden;
        CHECK_ALL_NEAR(llm_encoder_forward(&a, x, &v, &w, &c, &arena), y, 3 * C, 1e-6f);
    }
    /* causal: a token changes its own output and all behind it, and none before */
    bool blocked[25];
    float before[T * C];
    for (size_t i = 0; i < 25; i++) blocked[i] = i % 5 > i / 5;
    v = llm_sublayer_look(1, T);
    v.blocked = blocked;
    memcpy(before, llm_encoder_forward(&a, x, &v, &w, &c, &arena), sizeof before);
    x[2 * C] += 1.0f;
    const float *after = llm_encoder_forward(&a, x, &v, &w, &c, &arena);
    for (size_t t = 0; t < T; t++)
        CHECK((memcmp(before + t * C, after + t * C, C * sizeof(float)) == 0) == (t < 2));
}

TEST(encoder, "sublayers of a stack draw their dropout from numbers of their own") {
    /* weights such that f's output is 1 everywhere: y - x counts what was kept, 2 for each */
    llm_sublayer_config c = config(true);
    c.dropout = 0.5f;
    llm_arena arena = test_arena(1 << 17);
    const size_t count = llm_encoder_matrices(&c) + llm_encoder_vectors(&c);
    const llm_encoder_weights w = bound(zeros(count), &c, &arena);
    float x[N * C] = {0};
    for (size_t l = 0; l < L; l++)
        for (size_t i = 0; i < C; i++) w.attn[l].mha.bo[i] = w.mlp[l].ffn.down_bias[i] = 1.0f;
    const llm_sublayer_view v = llm_sublayer_look(B, T);
    llm_encoder_acts a;
    llm_encoder_forward(&a, x, &v, &w, &c, &arena);
    for (size_t i = 0; i < N * C; i++) {
        float want = 0.0f;
        for (size_t k = 0; k < 2 * L; k++) want += llm_dropout_scale(0.5f, 0, k * N * C + i);
        CHECK(a.x[i] == want);
    }
}

TEST(encoder, "counts and first weights") {
    llm_sublayer_config c = llm_sublayer_defaults(12, 768, 12); /* BERT-base */
    CHECK(llm_encoder_matrices(&c) + llm_encoder_vectors(&c) == 12 * 7087872);
    CHECK(llm_encoder_matrices(&c) == 12 * 12 * 768 * 768);
    c = llm_sublayer_defaults(2, 32, 4);
    const size_t norms[4] = {2, 2, 4, 2};
    for (size_t kind = 0; kind < 4; kind++) {
        c.norm = (llm_prenorm_kind)kind;
        const size_t last = kind == LLM_PRENORM_PRE || kind == LLM_PRENORM_SANDWICH;
        const size_t vectors = 2 * (4 * 32 + 128 + 32 + norms[kind] * 64) + last * 64;
        CHECK(llm_encoder_vectors(&c) == vectors);
        llm_arena arena = test_arena(1 << 13);
        llm_rng rng = llm_rng_seed(kind);
        const size_t matrices = llm_encoder_matrices(&c);
        float *flat = floats(matrices + vectors);
        const llm_encoder_weights w = bound(flat, &c, &arena);
        llm_encoder_init(&w, &c, &rng);
        CHECK((w.norm_w != NULL) == (last == 1));
        size_t ones = 0, zeros_ = 0;
        for (size_t i = 0; i < vectors; i++)
            ones += flat[matrices + i] == 1.0f, zeros_ += flat[matrices + i] == 0.0f;
        CHECK(ones == 2 * norms[kind] * 32 + last * 32 && ones + zeros_ == vectors);
        for (size_t l = 0; l < 2; l++) {
            const llm_prenorm_weights *n[2] = {&w.attn[l].norm, &w.mlp[l].norm};
            for (size_t i = 0; i < 64; i++) {
                if (n[i % 2]->in_w) CHECK(n[i % 2]->in_w[i / 2] == 1.0f);
                if (n[i % 2]->out_w) CHECK(n[i % 2]->out_w[i / 2] == 1.0f);
            }
            /* four standard errors of 1024 and of 4096 */
            const float *const m[4] = {w.attn[l].mha.wq, w.attn[l].mha.wk, w.attn[l].mha.wv,
                                       w.attn[l].mha.wo};
            for (size_t i = 0; i < 4; i++)
                CHECK_NEAR(dot(m[i], m[i], 1024) / 1024.0 * 32.0, 1.0, 0.18);
            CHECK_NEAR(dot(w.mlp[l].ffn.up, w.mlp[l].ffn.up, 4096) / 4096.0 * 80.0, 1.0, 0.09);
            CHECK_NEAR(dot(w.mlp[l].ffn.down, w.mlp[l].ffn.down, 4096) / 4096.0 * 80.0, 1.0, 0.09);
        }
        if (last) CHECK(w.norm_w[31] == 1.0f && w.norm_b[31] == 0.0f);
    }
}

TEST(encoder,
     "a text's vector: the first token, the mean and the maximum of those that are there") {
    const float y[2 * 3 * 2] = {1, -2, 5, -6, 100, 100, -7, 1, -3, -3, -5, 8};
    const bool hidden[6] = {false, false, true, false, false, false};
    const bool padded_left[6] = {true, false, false, true, true, true};
    const float want[3][4] = {{1, -2, -7, 1}, {3, -4, -5, 2}, {5, -2, -3, 8}};
    float out[4];
    for (size_t k = 0; k < 3; k++) {
        llm_encoder_pool(out, y, hidden, 2, 3, 2, (llm_encoder_pooling)k);
        CHECK_ALL_NEAR(out, want[k], 4, 1e-6f);
        llm_encoder_pool(out, y, padded_left, 2, 3, 2, (llm_encoder_pooling)k);
        CHECK(out[0] == (k == 0 ? 5.0f : k == 1 ? 52.5f : 100.0f));
        CHECK(out[2] == (k == LLM_ENCODER_MAX ? -INFINITY : 0.0f));
    }
    llm_encoder_pool(out, y, NULL, 1, 3, 2, LLM_ENCODER_MEAN);
    CHECK_NEAR(out[0], 106.0f / 3.0f, 1e-5f);
}

/* Trains a stack of one layer to say of each token its right neighbour; tokens are random. Returns
 * the share of right answers on fresh texts. */
enum { VOCAB = 5, LONG = 6, WIDE = 16, BATCH = 16, STEPS = 200 };
static double right_neighbour(bool causal, uint64_t seed) {
    llm_sublayer_config c = llm_sublayer_defaults(1, WIDE, 2);
    c.norm = LLM_PRENORM_PRE, c.hidden = 2 * WIDE;
    llm_arena arena = test_arena(1 << 20);
    llm_rng rng = llm_rng_seed(seed);
    const size_t ends = (2 * VOCAB + LONG) * WIDE, matrices = ends + llm_encoder_matrices(&c);
    const size_t count = matrices + llm_encoder_vectors(&c), rows = BATCH * LONG;
    float *w = zeros(count), *g = zeros(count), *m = zeros(count), *u = zeros(count);
    llm_encoder_weights weights, grads;
    float *matrix = w + ends, *vector = w + matrices;
    llm_encoder_bind(&weights, &matrix, &vector, &c, &arena);
    matrix = g + ends, vector = g + matrices;
    llm_encoder_bind(&grads, &matrix, &vector, &c, &arena);
    llm_encoder_init(&weights, &c, &rng);
    llm_rng_normal_fill(&rng, w, ends);
    for (size_t i = 0; i < VOCAB * WIDE; i++) w[ends - 1 - i] *= 0.1f; /* the head */
    bool blocked[LONG * LONG];
    for (size_t i = 0; i < LONG * LONG; i++) blocked[i] = causal && i % LONG > i / LONG;
    llm_sublayer_view v = llm_sublayer_look(BATCH, LONG);
    v.blocked = blocked;
    llm_adamw_config adamw = llm_adamw_defaults();
    adamw.lr = 1e-2f, adamw.weight_decay = 0.0f;
    const size_t mark = arena.used;
    size_t right = 0, asked = 0;
    for (size_t t = 1; t <= STEPS + 8; t++) {
        int ids[BATCH * LONG], target[BATCH * LONG], pos[BATCH * LONG];
        for (size_t i = 0; i < rows; i++) {
            ids[i] = (int)llm_rng_below(&rng, VOCAB);
            pos[i] = (int)(i % LONG);
        }
        for (size_t i = 0; i < rows; i++)
            target[i] = i % LONG + 1 < LONG ? ids[i + 1] : LLM_CROSS_ENTROPY_IGNORE;
        arena.used = mark;
        float *x = llm_arena_floats(&arena, rows * WIDE),
              *p = llm_arena_floats(&arena, rows * WIDE);
        llm_embedding_forward(x, ids, w, rows, VOCAB, WIDE);
        llm_embedding_forward(p, pos, w + VOCAB * WIDE, rows, LONG, WIDE);
        for (size_t i = 0; i < rows * WIDE; i++) x[i] += p[i];
        llm_encoder_acts a;
        const float *y = llm_encoder_forward(&a, x, &v, &weights, &c, &arena);
        const llm_softmax_head head =
            llm_softmax_head_defaults(y, w + (VOCAB + LONG) * WIDE, target, rows, WIDE, VOCAB);
        float *logits = llm_arena_floats(&arena, rows * VOCAB), loss[BATCH * LONG],
              lse[BATCH * LONG];
        float *d = llm_arena_floats(&arena, rows * WIDE);
        const size_t kept = llm_softmax_head_forward(loss, lse, logits, &head);
        for (size_t i = 0; t > STEPS && i < rows; i++) {
            if (target[i] == LLM_CROSS_ENTROPY_IGNORE) continue;
            right += llm_greedy_pick(logits + i * VOCAB, VOCAB) == target[i];
            asked++;
        }
        memset(d, 0, rows * WIDE * sizeof(float));
        llm_softmax_head_backward(d, g + (VOCAB + LONG) * WIDE, logits, lse, &head,
                                  1.0f / (float)kept);
        llm_encoder_backward(d, &grads, &a, BATCH, LONG, &weights, &c, &arena);
        llm_embedding_backward(g, d, ids, rows, VOCAB, WIDE);
        llm_embedding_backward(g + VOCAB * WIDE, d, pos, rows, LONG, WIDE);
        if (t <= STEPS) llm_adamw_step(w, m, u, g, count, &adamw, t);
        memset(g, 0, count * sizeof(float));
    }
    return (double)right / (double)asked;
}

TEST(encoder, "the right neighbour: both directions find it, a causal stack can only guess") {
    /* 15 seeds: 1.000 each; 0.18 to 0.24. 640 answers, a standard error of 0.016 */
    for (uint64_t seed = 1; seed <= 2; seed++) {
        CHECK(right_neighbour(false, seed) > 0.98);
        CHECK_NEAR(right_neighbour(true, seed), 1.0 / VOCAB, 0.08);
    }
}

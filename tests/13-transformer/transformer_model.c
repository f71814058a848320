/* @transformer_model */
#include "../test.h"

#include "../../llm.h"

#include "../arena.h"
#include "../tiny_transformer.h"

enum { B = 2, S = 5, T = 4, V = 7, C = 4 };

/* A model with its gradients and, of BERT, the head of @mlm behind the others. */
typedef struct {
    llm_transformer_config c;
    llm_transformer_weights w, g;
    llm_mlm_head head, dhead;
    float *flat, *grad;
    size_t count;
    llm_transformer_model_text text;
    const int *labels;
    bool mlm;
    llm_arena arena;
} model;

static model *model_of(const llm_transformer_config *c, bool mlm, uint32_t seed) {
    model *m = (model *)test_memory(1, sizeof *m);
    const size_t own = llm_transformer_count(c);
    m->c = *c, m->mlm = mlm;
    m->count = own + (mlm ? C * C + 3 * C + V : 0);
    m->arena = test_arena(1 << 17);
    m->flat = floats(m->count), m->grad = zeros(m->count);
    tiny_transformer_numbers(m->flat, m->count, &seed);
    llm_transformer_weights_bind(&m->w, m->flat, c, &m->arena);
    llm_transformer_weights_bind(&m->g, m->grad, c, &m->arena);
    tiny_transformer_gains(&m->w, c);
    for (size_t k = 0; mlm && k < 2; k++) {
        float *matrix = (k ? m->grad : m->flat) + own, *vector = matrix + C * C;
        llm_mlm_bind(k ? &m->dhead : &m->head, &matrix, &vector, V, C);
    }
    for (size_t i = 0; mlm && i < C; i++) m->head.norm_w[i] += 1.0f;
    m->text.B = B, m->text.S = c->encoder ? S : 0, m->text.T = c->decoder ? T : 0;
    m->text.source = as_ints(golden("in/source"), B * S);
    m->text.types = c->types ? as_ints(golden("in/types"), B * S) : NULL;
    m->text.ids = as_ints(golden("in/ids"), B * T);
    bool *hidden = bools(B * S);
    for (size_t i = 0; i < B * S; i++) hidden[i] = m->text.source[i] == 0;
    m->text.hidden = hidden;
    m->labels = mlm ? as_ints(golden("in/masked"), B * S) : as_ints(golden("in/labels"), B * T);
    return m;
}

/* The loss; grad += its gradient if `back`; logits (N,V) or NULL. The arena is given back. */
static float run(model *m, bool back, float *logits) {
    const size_t mark = m->arena.used;
    llm_transformer_model_acts a;
    llm_mlm_acts head;
    memset(&head, 0, sizeof head);
    const float *h = llm_transformer_model_forward(&a, &m->text, &m->w, &m->c, &m->arena);
    float *d = back ? zeros(a.N * C) : NULL, loss;
    if (m->mlm) {
        loss = llm_mlm_forward(&head, h, m->labels, &m->head, m->w.tokens, a.N, V, C, 1e-12f,
                               &m->arena);
        if (logits) memcpy(logits, head.logits, head.M * V * sizeof(float));
    } else {
        loss = llm_transformer_model_loss(&a, m->labels, &m->w, &m->c, &m->arena);
        if (logits) memcpy(logits, a.logits, a.N * V * sizeof(float));
    }
    const size_t used = m->arena.used;
    if (back && m->mlm)
        llm_mlm_backward(d, &m->dhead, m->g.tokens, &head, &m->head, m->w.tokens, &m->arena);
    else if (back)
        llm_transformer_model_loss_backward(&m->g, d, &a, &m->w, &m->c, &m->arena);
    if (back) llm_transformer_model_backward(&m->g, d, &a, &m->w, &m->c, &m->arena);
    CHECK(m->arena.used == used);
    m->arena.used = mark;
    return loss;
}

TEST(transformer_model, "logits and all gradients equal transformers' models of five families") {
    for (size_t k = 0; k < 5; k++) {
        const llm_transformer_config c = tiny_transformer_of(k);
        model *m = model_of(&c, k == 1, 1);
        float *logits = floats(B * S * V);
        const float loss = run(m, true, logits);
        CHECK_NEAR(loss, golden("%s/losses", tiny_transformer_name[k])[0], 1e-6);
        if (k != 1) {
            CHECK_GOLDEN(logits, B * T * V, 1e-5f, "%s/logits", tiny_transformer_name[k]);
        } else { /* of the rows that are asked for */
            const float *want = golden("bert/logits");
            for (size_t n = 0, row = 0; n < B * S; n++)
                if (m->labels[n] >= 0) CHECK_ALL_NEAR(logits + row++ * V, want + n * V, V, 1e-5f);
        }
        CHECK_GOLDEN(m->grad, m->count, 1e-5f, "%s/grads", tiny_transformer_name[k]);
    }
}

TEST(transformer_model, "twenty steps of training follow the losses of transformers' models") {
    for (size_t k = 0; k < 5; k++) {
        const llm_transformer_config c = tiny_transformer_of(k);
        model *m = model_of(&c, k == 1, 1);
        float losses[20], *first = zeros(m->count), *second = zeros(m->count);
        llm_adamw_config adamw = llm_adamw_defaults();
        adamw.lr = 1e-2f, adamw.beta1 = 0.9f, adamw.beta2 = 0.999f, adamw.eps = 1e-8f;
        adamw.weight_decay = 0.0f;
        for (size_t t = 0; t < 20; t++) {
            losses[t] = run(m, true, NULL);
            llm_adamw_step(m->flat, first, second, m->grad, m->count, &adamw, t + 1);
            memset(m->grad, 0, m->count * sizeof(float));
        }
        CHECK_GOLDEN(losses, 20, 1e-3f, "%s/losses", tiny_transformer_name[k]);
    }
}

/* Finite differences of every weight, for combinations that nobody has published. */
static void check_gradients(const llm_transformer_config *c) {
    model *m = model_of(c, false, 3);
    if (!c->decoder) m->labels = m->text.source; /* of an encoder alone: its own tokens */
    run(m, true, NULL);
    CHECK_GRAD(m->grad, m->flat, m->count, 4e-3f, 2e-3f, run(m, false, NULL));
}

TEST(transformer_model, "gradients equal finite differences for every switch, freely combined") {
    size_t number = 0;
    for (size_t shape = 0; shape < 3; shape++) {
        for (size_t norm = 0; norm < 4; norm++) {
            for (size_t place = 0; place < 4; place++, number++) {
                llm_transformer_config c = tiny_transformer_of(2);
                c.encoder = shape != 1, c.decoder = shape != 0;
                c.last_norm = norm % 2, c.rms = norm / 2;
                c.position = (llm_transformer_position)place;
                c.places = place == LLM_TRANSFORMER_TABLE ? 6 : 0;
                c.buckets = place == LLM_TRANSFORMER_DISTANCES ? 8 : 0, c.far = 5;
                c.types = number % 5 == 0 ? 2 : 0;
                c.first_norm = number % 3 == 0;
                c.biases = number % 2;
                c.gated = !c.biases && number % 4 == 0;
                c.kv_heads = 1 + number % 3 % 2;
                c.tied = number % 7 < 4;
                /* ReLU's corner is no place for differences: a smooth one */
                c.act = c.gated ? LLM_ACTIVATION_SILU : LLM_ACTIVATION_GELU;
                check_gradients(&c);
            }
        }
    }
}

TEST(transformer_model, "a decoder's output knows nothing of what comes; an encoder's all") {
    for (size_t k = 0; k < 5; k++) {
        const llm_transformer_config c = tiny_transformer_of(k);
        model *m = model_of(&c, false, 5);
        const size_t n = k == 1 ? S : T, mark = m->arena.used;
        llm_transformer_model_acts a;
        int *last = as_ints(k == 1 ? golden("in/source") : golden("in/ids"), B * n);
        float *want = floats(B * n * C);
        memcpy(want, llm_transformer_model_forward(&a, &m->text, &m->w, &c, &m->arena),
               B * n * C * sizeof(float));
        m->arena.used = mark;
        last[n - 1] = 1; /* the first text's last token */
        if (k == 1)
            m->text.source = last;
        else
            m->text.ids = last;
        const float *h = llm_transformer_model_forward(&a, &m->text, &m->w, &c, &m->arena);
        CHECK((memcmp(h, want, (n - 1) * C * sizeof(float)) == 0) == (k != 1));
        CHECK(memcmp(h + (n - 1) * C, want + (n - 1) * C, C * sizeof(float)) != 0);
        CHECK_ALL_NEAR(h + n * C, want + n * C, (B - 1) * n * C, 0.0f);
    }
}

TEST(transformer_model,
     "hidden places of a source change nothing, types are 0 when none are given") {
    for (size_t k = 0; k < 4; k += 3) { /* 2017, T5 */
        const llm_transformer_config c = tiny_transformer_of(k);
        model *m = model_of(&c, false, 5);
        const float loss = run(m, false, NULL);
        int *other = as_ints(golden("in/source"), B * S);
        other[B * S - 1] = 3; /* still hidden */
        m->text.source = other;
        CHECK(run(m, false, NULL) == loss);
        m->text.hidden = NULL;
        CHECK(run(m, false, NULL) != loss);
    }
    const llm_transformer_config c = tiny_transformer_of(1);
    model *m = model_of(&c, true, 5);
    const float loss = run(m, false, NULL);
    const int zero[B * S] = {0}, two[B * S] = {0, 2};
    m->text.types = zero;
    const float want = run(m, true, NULL);
    CHECK(want != loss);
    m->text.types = NULL;
    CHECK(run(m, false, NULL) == want);
    float *g = zeros(2 * C);
    memcpy(g, m->g.types, 2 * C * sizeof(float));
    memset(m->grad, 0, m->count * sizeof(float));
    run(m, true, NULL);
    CHECK(memcmp(g, m->g.types, 2 * C * sizeof(float)) == 0 && g[0] != 0.0f && g[C] == 0.0f);
    m->text.types = two;
    CHECK_ASSERTS(run(m, false, NULL));
}

TEST(transformer_model, "a backward pass gives its scratch back, part by part") {
    const llm_transformer_config c = tiny_transformer_of(1);
    model *m = model_of(&c, false, 5);
    llm_transformer_model_acts a;
    float *d = zeros(B * S * C);
    llm_transformer_model_forward(&a, &m->text, &m->w, &c, &m->arena);
    const size_t used = m->arena.used;
    m->arena.peak = 0;
    llm_transformer_model_embed_backward(&m->g, d, &a, 0, &m->w, &c, &m->arena);
    CHECK(m->arena.used == used && m->arena.peak == used + arena_room(B * S * C));
}

TEST(transformer_model, "no labels are no loss and no gradient; a text must fit the model") {
    const llm_transformer_config c = tiny_transformer_of(2);
    model *m = model_of(&c, false, 5);
    int none[B * T];
    for (size_t i = 0; i < B * T; i++) none[i] = LLM_CROSS_ENTROPY_IGNORE;
    m->labels = none;
    CHECK(run(m, true, NULL) == 0.0f);
    for (size_t i = 0; i < m->count; i++) CHECK(m->grad[i] == 0.0f);
    m->text.T = 1, m->labels = m->text.ids; /* one token; as many as there are places */
    CHECK(run(m, false, NULL) > 0.0f);
    m->text.T = 5, m->text.B = 1;
    CHECK(run(m, false, NULL) > 0.0f);
    m->text.T = T, m->text.B = B, m->text.S = 1;
    CHECK_ASSERTS(run(m, false, NULL));
    m->text.S = 0, m->text.T = 0;
    CHECK_ASSERTS(run(m, false, NULL));
    m->text.T = 6, m->text.B = 1; /* six places of five */
    CHECK_ASSERTS(run(m, false, NULL));
}

/* Two layers, causal, told to repeat what stands behind a mark. */
static double copying(bool attention, uint64_t seed) {
    enum { ROW = 7, HALF = 3, BATCH = 16, STEPS = 150, FRESH = 100 };
    llm_transformer_config c = llm_transformer_preset(LLM_TRANSFORMER_LLAMA);
    c.vocab = 6, c.width = 32, c.heads = 4, c.kv_heads = 2, c.head_size = 8, c.hidden = 48;
    c.decoder = 2;
    llm_rng rng = llm_rng_seed(seed);
    llm_arena arena = test_arena(1 << 23);
    const size_t count = llm_transformer_count(&c);
    float *flat = floats(count), *g = zeros(count), *m = zeros(count), *v = zeros(count);
    llm_transformer_weights w, dw;
    llm_transformer_weights_bind(&w, flat, &c, &arena);
    llm_transformer_weights_bind(&dw, g, &c, &arena);
    llm_transformer_weights_init(&w, flat, &c, &rng);
    llm_adamw_config adamw = llm_adamw_defaults();
    adamw.weight_decay = 0.0f;
    size_t right = 0;
    static int ids[FRESH * ROW], labels[FRESH * ROW];
    for (size_t t = 1; t <= STEPS + 1; t++) {
        const size_t mark = arena.used, rows = t > STEPS ? FRESH : BATCH;
        for (size_t i = 0; i < rows * ROW; i++) {
            const size_t at = i % ROW;
            ids[i] = at < HALF    ? 1 + (int)llm_rng_below(&rng, 5)
                     : at == HALF ? 0
                                  : ids[i - HALF - 1];
            labels[i] = LLM_CROSS_ENTROPY_IGNORE;
            if (at > HALF) labels[i - 1] = ids[i];
        }
        /* without attention: its output is 0 and stays so */
        for (size_t l = 0; !attention && l < 2; l++)
            memset(w.stack[1].layer[l].attn.mha.wo, 0, 32 * 32 * sizeof(float));
        llm_transformer_model_text text;
        memset(&text, 0, sizeof text);
        text.B = rows, text.T = ROW, text.ids = ids;
        llm_transformer_model_acts a;
        llm_transformer_model_forward(&a, &text, &w, &c, &arena);
        llm_transformer_model_loss(&a, labels, &w, &c, &arena);
        if (t > STEPS) {
            for (size_t b = 0; b < rows; b++) {
                bool all = true;
                for (size_t i = HALF; i < ROW - 1; i++)
                    all = all &&
                          llm_greedy_pick(a.logits + (b * ROW + i) * 6, 6) == labels[b * ROW + i];
                right += all;
            }
            break;
        }
        float *d = llm_arena_floats(&arena, a.N * 32);
        llm_transformer_model_loss_backward(&dw, d, &a, &w, &c, &arena);
        llm_transformer_model_backward(&dw, d, &a, &w, &c, &arena);
        adamw.lr = 1e-2f * fminf(1.0f, (float)t / 30.0f) * (float)(STEPS + 1 - t) / STEPS;
        llm_adamw_step(flat, m, v, g, count, &adamw, t);
        memset(g, 0, count * sizeof(float));
        arena.used = mark;
    }
    return (double)right / FRESH;
}

TEST(transformer_model, "two layers copy three letters; with attention taken out they cannot") {
    for (uint64_t seed = 1; seed <= 1; seed++) {
        const double with = copying(true, seed), without = copying(false, seed);
        /* of 100 texts; 9 seeds: 1.00 and 0.00 to 0.02 */
        CHECK(with - without > 0.49);
    }
}

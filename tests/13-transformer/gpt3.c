/* @gpt3 */
#include "../test.h"

#include "../../llm.h"
#include "../arena.h"

enum { V = 7, T = 6, C = 4, L = 3, B = 2, N = B * T, W = 2 };

typedef struct {
    llm_gpt1_config c;
    llm_gpt1_weights w, dw;
    float *flat, *grad;
    size_t count;
    llm_arena arena;
} tiny;
static tiny tiny_model(llm_gpt1_config c, float *flat, size_t bytes) {
    tiny m;
    m.c = c;
    m.count = llm_gpt1_count(&c);
    m.flat = flat;
    m.arena = test_arena(bytes);
    m.grad = zeros(m.count);
    llm_gpt1_bind(&m.w, m.flat, &m.c, &m.arena);
    llm_gpt1_bind(&m.dw, m.grad, &m.c, &m.arena);
    return m;
}
static tiny golden_model(void) {
    llm_gpt1_config c = llm_gpt3_config(LLM_GPT3_125M);
    size_t count;
    c.vocab = V, c.context = T;
    c.stack.layers = L, c.stack.width = C, c.stack.heads = 2, c.stack.hidden = 4 * C;
    float *flat = golden_n(&count, "tiny/weights");
    CHECK(count == llm_gpt1_count(&c));
    return tiny_model(c, flat, 1 << 18);
}

TEST(gpt3, "states, loss and gradients equal GPT-Neo's, full and local layers in turn") {
    tiny m = golden_model();
    const int *ids = as_ints(golden("tiny/ids"), N);
    int targets[N];
    float *dh = zeros(N * C);
    llm_gpt1_acts acts;
    llm_next_token_targets(targets, ids, NULL, B, T);
    const float *h = llm_gpt3_forward(&acts, ids, B, T, W, &m.w, &m.c, &m.arena);
    CHECK(acts.h == h);
    CHECK_GOLDEN(h, N * C, 2e-6f, "tiny/h");
    const float loss = llm_gpt1_lm(dh, m.dw.wte, h, targets, N, 1.0f, &m.w, &m.c, &m.arena);
    CHECK_GOLDEN(&loss, 1, 2e-6f, "tiny/loss");
    llm_gpt1_backward(dh, &m.dw, &acts, &m.w, &m.c, &m.arena);
    for (size_t l = 0; l < L; l++) /* GPT-Neo has no such biases */
        memset(m.dw.stack.attn[l].mha.bq, 0, 3 * C * sizeof(float));
    CHECK_GOLDEN(m.grad, m.count, 4e-6f, "tiny/grads");
}

TEST(gpt3, "with a window over all it is GPT-1 with norms in front, in what it drops too") {
    for (size_t k = 0; k < 2; k++) {
        tiny m = golden_model();
        const int *ids = as_ints(golden("tiny/ids"), N);
        float first[N * C];
        llm_gpt1_acts acts;
        m.c.stack.dropout = k ? 0.3f : 0.0f, m.c.stack.seed = 4;
        memcpy(first, llm_gpt1_forward(&acts, ids, B, T, &m.w, &m.c, &m.arena), sizeof first);
        const float *h = llm_gpt3_forward(&acts, ids, B, T, T, &m.w, &m.c, &m.arena);
        CHECK_ALL_NEAR(h, first, N * C, 1e-5f);
    }
}

TEST(gpt3, "with a dense and a banded layer a token is heard exactly as far as paths reach") {
    for (size_t layers = 1; layers <= 2; layers++) {
        tiny m = golden_model();
        int *ids = as_ints(golden("tiny/ids"), N);
        m.c.stack.layers = layers;
        float before[T * C];
        llm_gpt1_acts acts;
        const size_t mark = m.arena.used;
        memcpy(before, llm_gpt3_forward(&acts, ids, 1, T, 1, &m.w, &m.c, &m.arena), sizeof before);
        for (size_t at = 0; at < T; at++) {
            m.arena.used = mark;
            ids[at] = (ids[at] + 1) % V;
            const float *h = llm_gpt3_forward(&acts, ids, 1, T, 1, &m.w, &m.c, &m.arena);
            ids[at] = (ids[at] + V - 1) % V;
            for (size_t t = 0; t < T; t++)
                CHECK((memcmp(before + t * C, h + t * C, C * sizeof(float)) != 0) == (t >= at));
            const bool *blocked = acts.blocked; /* W = 1: odd layers see the token itself */
            for (size_t i = 0; i < T; i++)
                for (size_t j = 0; j < T; j++)
                    CHECK(blocked[i * T + j] == (j > i) && blocked[(T + i) * T + j] == (i != j));
        }
    }
    tiny m = golden_model();
    const int *ids = as_ints(golden("tiny/ids"), N);
    llm_gpt1_acts acts;
    CHECK_ASSERTS(llm_gpt3_forward(&acts, ids, 1, T, 0, &m.w, &m.c, &m.arena));
    CHECK_ASSERTS(llm_gpt3_forward(&acts, ids, 1, T + 1, W, &m.w, &m.c, &m.arena));
    m.c.stack.norm = LLM_PRENORM_POST;
    CHECK_ASSERTS(llm_gpt3_forward(&acts, ids, 1, T, W, &m.w, &m.c, &m.arena));
}

TEST(gpt3, "the sizes are those published, to 2%; the largest has 174,604,259,328 weights") {
    const size_t layers[8] = {12, 24, 24, 24, 32, 32, 40, 96};
    const double published[8] = {125e6, 350e6, 760e6, 1.3e9, 2.7e9, 6.7e9, 13e9, 175e9};
    for (int i = 0; i < 8; i++) {
        const llm_gpt1_config c = llm_gpt3_config((llm_gpt3_size)i);
        CHECK_NEAR((double)llm_gpt1_count(&c) / published[i], 1.0, 0.02);
        CHECK(c.stack.layers == layers[i]);
        CHECK(c.stack.width % c.stack.heads == 0 && c.stack.hidden == 4 * c.stack.width);
        CHECK(c.context == 2048 && c.vocab == 50257 && c.stack.act == LLM_ACTIVATION_GELU_TANH);
    }
    const llm_gpt1_config c = llm_gpt3_config(LLM_GPT3_175B);
    CHECK(llm_gpt1_count(&c) == 174604259328 && c.stack.width / c.stack.heads == 128);
}

TEST(gpt3, "weights that write to the stream start smaller by 1 / sqrt(2 L)") {
    llm_gpt1_config c = llm_gpt3_config(LLM_GPT3_125M);
    c.vocab = 5, c.context = 3;
    c.stack.layers = 2, c.stack.width = 24, c.stack.heads = 2, c.stack.hidden = 96;
    tiny m = tiny_model(c, floats(llm_gpt1_count(&c)), 1 << 14);
    llm_rng rng = llm_rng_seed(1);
    llm_gpt3_init(&m.w, 0.02f, &c, &rng);
    for (size_t l = 0; l < 2; l++) {
        const float *part[4] = {m.w.stack.attn[l].mha.wq, m.w.stack.attn[l].mha.wo,
                                m.w.stack.mlp[l].ffn.up, m.w.stack.mlp[l].ffn.down};
        for (size_t i = 0; i < 4; i++) { /* 576 squares or 2304: 3% at most */
            const size_t n = i < 2 ? 576 : 2304;
            CHECK_NEAR(sqrt(dot(part[i], part[i], n) / (double)n), i % 2 ? 0.01 : 0.02,
                       i % 2 ? 0.001 : 0.002);
        }
    }
    tiny plain = tiny_model(c, floats(m.count), 1 << 14); /* the same draws, and half of them */
    rng = llm_rng_seed(1);
    llm_gpt1_init(&plain.w, 0.02f, &c, &rng);
    for (size_t i = 0; i < m.count; i++) {
        bool writes = false;
        for (size_t l = 0; l < 2; l++) {
            const size_t wo = (size_t)(m.w.stack.attn[l].mha.wo - m.flat);
            const size_t down = (size_t)(m.w.stack.mlp[l].ffn.down - m.flat);
            writes = writes || (i >= wo && i < wo + 576) || (i >= down && i < down + 2304);
        }
        CHECK(m.flat[i] == (writes ? 0.5f : 1.0f) * plain.flat[i]);
    }
}

TEST(gpt3, "prompts hold k other examples, each at most once, and all of them in turn") {
    llm_arena arena = test_arena(4096);
    llm_rng rng = llm_rng_seed(1);
    const int q[7] = {10, 20, 21, 30, 40, 41, 42}, a[5] = {11, 12, 22, 31, 43};
    const size_t q_start[5] = {0, 1, 3, 4, 7}, a_start[5] = {0, 2, 3, 4, 5};
    const llm_gpt3_examples x = {4, q, a, q_start, a_start};
    int ids[32], want[32];
    for (size_t query = 0; query < 4; query++)
        for (size_t k = 0; k < 4; k++) {
            size_t seen[4] = {0};
            for (size_t run = 0; run < 300; run++) {
                const size_t n = llm_gpt3_prompt(ids, 32, &x, query, k, 1, 2, &rng, &arena);
                size_t at = 0, used = 0;
                for (size_t i = 0; i <= k; i++) {
                    const size_t e = (size_t)ids[at] / 10 - 1; /* 10: example 0, ... */
                    size_t length = 0;
                    CHECK(e < 4 && (e == query) == (i == k) && !(used & (size_t)1 << e));
                    used |= (size_t)1 << e;
                    seen[e]++;
                    for (size_t t = q_start[e]; t < q_start[e + 1]; t++) want[length++] = q[t];
                    want[length++] = 1;
                    for (size_t t = a_start[e]; i < k && t < a_start[e + 1]; t++)
                        want[length++] = a[t];
                    if (i < k) want[length++] = 2;
                    CHECK(memcmp(ids + at, want, length * sizeof(int)) == 0);
                    at += length;
                }
                CHECK(at == n);
            }
            for (size_t e = 0; e < 4;
                 e++) /* each of the other three in 100 k of 300, 5 deviations */
                CHECK_NEAR(seen[e], e == query ? 300.0 : 100.0 * (double)k, e == query ? 0 : 41);
        }
    CHECK(arena.used == 0);
    CHECK(llm_gpt3_prompt(ids, 2, &x, 0, 0, 1, 2, &rng, &arena) == 2);
    CHECK_ASSERTS(llm_gpt3_prompt(ids, 1, &x, 0, 0, 1, 2, &rng, &arena));
    for (size_t room = 0, need = 1; room <= need; room++) { /* nothing is written behind it */
        int *exact = (int *)test_memory(room, sizeof(int));
        llm_rng same = rng;
        need = llm_gpt3_prompt(ids, 32, &x, 3, 2, 1, 2, &same, &arena);
        same = rng;
        if (room < need)
            CHECK_ASSERTS(llm_gpt3_prompt(exact, room, &x, 3, 2, 1, 2, &same, &arena));
        else
            CHECK(llm_gpt3_prompt(exact, room, &x, 3, 2, 1, 2, &same, &arena) == need);
    }
    CHECK_ASSERTS(llm_gpt3_prompt(ids, 5, &x, 3, 1, 1, 2, &rng, &arena));
    CHECK_ASSERTS(llm_gpt3_prompt(ids, 32, &x, 0, 4, 1, 2, &rng, &arena));
    CHECK_ASSERTS(llm_gpt3_prompt(ids, 32, &x, 4, 0, 1, 2, &rng, &arena));
}

TEST(gpt3, "scores are means of token log-probabilities, or differences of their sums") {
    tiny m = golden_model();
    const int prompt[2] = {3, 1}, neutral[1] = {5}, answer[3] = {2, 6, 0};
    const size_t used = m.arena.used;
    double sum[2] = {0.0, 0.0}, first = 0.0;
    for (size_t k = 0; k < 2; k++) { /* token by token, softmax by hand */
        const size_t n = k ? 1 : 2;
        int ids[5];
        for (size_t t = 0; t < n; t++) ids[t] = k ? neutral[t] : prompt[t];
        for (size_t i = 0; i < 3; i++) {
            llm_gpt1_acts acts;
            const float *h = llm_gpt3_forward(&acts, ids, 1, n + i, W, &m.w, &m.c, &m.arena);
            double total = 0.0, z[V];
            for (size_t v = 0; v < V; v++) {
                z[v] = dot(h + (n + i - 1) * C, m.w.wte + v * C, C);
                total += exp(z[v]);
            }
            sum[k] += z[answer[i]] - log(total);
            if (k == 0 && i == 0) first = sum[0];
            ids[n + i] = answer[i];
            m.arena.used = used;
        }
    }
    CHECK_NEAR(llm_gpt3_mean(prompt, 2, answer, 3, W, &m.w, &m.c, &m.arena), sum[0] / 3.0, 1e-5);
    CHECK_NEAR(llm_gpt3_mean(prompt, 2, answer, 1, W, &m.w, &m.c, &m.arena), first, 1e-5);
    CHECK_NEAR(llm_gpt3_score(prompt, 2, NULL, 0, answer, 3, W, &m.w, &m.c, &m.arena), sum[0] / 3.0,
               1e-5);
    CHECK_NEAR(llm_gpt3_score(prompt, 2, neutral, 1, answer, 3, W, &m.w, &m.c, &m.arena),
               sum[0] - sum[1], 3e-5);
    CHECK(m.arena.used == used);
    CHECK_ASSERTS(llm_gpt3_mean(prompt, 0, answer, 3, W, &m.w, &m.c, &m.arena));
    CHECK_ASSERTS(llm_gpt3_mean(prompt, 2, answer, 0, W, &m.w, &m.c, &m.arena));
}

/* A world of functions on four symbols: a text draws one of the 24 permutations f and holds x f(x)
 * for random x; the token of an answer is that of a pair, 4 + 4 x + f(x), as a tokenizer would
 * merge it. The four shifts are never trained on: each x goes to each value once among them. */
enum { SHOTS = 16, LENGTH = 2 * SHOTS + 1, VOCAB = 20, ROWS = 16 };
static void permutation(int f[4], size_t shift_only, llm_rng *rng) {
    for (bool shift = !shift_only; shift == !shift_only;) {
        for (int i = 0; i < 4; i++) {
            const size_t j = llm_rng_below(rng, (size_t)i + 1);
            f[i] = f[j], f[j] = i;
        }
        shift = true;
        for (int i = 1; i < 4; i++) shift = shift && (f[i] - f[0] + 4) % 4 == i;
    }
}
static void function_text(int *ids, size_t rows, size_t shift_only, llm_rng *rng) {
    int f[4] = {0, 0, 0, 0};
    for (size_t i = 0; i < rows * LENGTH; i++) {
        if (i % LENGTH == 0) permutation(f, shift_only, rng);
        ids[i] =
            i % LENGTH % 2 == 0 ? (int)llm_rng_below(rng, 4) : 4 + 4 * ids[i - 1] + f[ids[i - 1]];
    }
}

TEST(gpt3,
     "functions never seen in training are learnt from the context, by weights that stand still") {
    llm_gpt1_config c = llm_gpt3_config(LLM_GPT3_125M);
    c.vocab = VOCAB, c.context = LENGTH;
    c.stack.layers = 2, c.stack.width = 16, c.stack.heads = 2, c.stack.hidden = 32;
    tiny m = tiny_model(c, zeros(llm_gpt1_count(&c)), 1 << 25);
    float *first = zeros(m.count), *second = zeros(m.count), *kept = zeros(m.count);
    llm_rng rng = llm_rng_seed(1);
    llm_adamw_config adamw = llm_adamw_defaults();
    adamw.weight_decay = 0.0f, adamw.beta2 = 0.99f;
    llm_gpt3_init(&m.w, 0.12f, &c, &rng); /* 0.02 is for wide models */
    const size_t mark = m.arena.used;
    enum { MANY = 128 };
    int *ids = (int *)test_memory(MANY * LENGTH, sizeof(int));
    int *targets = (int *)test_memory(MANY * LENGTH, sizeof(int));
    llm_gpt1_acts acts;
    for (size_t t = 1; t <= 120; t++) {
        function_text(ids, ROWS, 0, &rng);
        llm_next_token_targets(targets, ids, NULL, ROWS, LENGTH);
        for (size_t i = 0; i < ROWS * LENGTH; i++) /* questions are not asked for */
            if (i % LENGTH % 2 == 1) targets[i] = LLM_CROSS_ENTROPY_IGNORE;
        const float *h = llm_gpt3_forward(&acts, ids, ROWS, LENGTH, 8, &m.w, &c, &m.arena);
        float *dh = llm_arena_floats(&m.arena, ROWS * LENGTH * 16);
        memset(dh, 0, ROWS * LENGTH * 16 * sizeof(float));
        llm_gpt1_lm(dh, m.dw.wte, h, targets, ROWS * LENGTH, 1.0f, &m.w, &c, &m.arena);
        llm_gpt1_backward(dh, &m.dw, &acts, &m.w, &c, &m.arena);
        m.arena.used = mark;
        adamw.lr = t < 20 ? 0.0005f * (float)t : 0.01f;
        llm_gpt1_finetune_step(m.flat, m.grad, first, second, &c, &adamw, t);
    }

    memcpy(kept, m.flat, m.count * sizeof(float));
    size_t right[2] = {0, 0}; /* without an example, with 16 */
    function_text(ids, MANY, 1, &rng);
    const float *h = llm_gpt3_forward(&acts, ids, MANY, LENGTH, 8, &m.w, &c, &m.arena);
    for (size_t b = 0; b < MANY; b++) {
        int f[4] = {-1, -1, -1, -1}; /* of a shift one value says all */
        for (size_t i = 0; i < 4; i++)
            f[i] = (ids[b * LENGTH + 1] - 4 - 5 * ids[b * LENGTH] + 4 + (int)i) % 4;
        for (size_t k = 0; k < 2; k++) {
            const size_t at = b * LENGTH + k * (LENGTH - 1);
            int best = 0;
            double most = -1e30;
            for (int v = 0; v < VOCAB; v++) {
                const double z = dot(h + at * 16, m.w.wte + v * 16, 16);
                if (z > most) most = z, best = v;
            }
            right[k] += best == 4 + 4 * ids[at] + (f[ids[at]] + 4) % 4;
        }
    }
    CHECK(memcmp(kept, m.flat, m.count * sizeof(float)) == 0);
    CHECK(abs((int)right[0] - MANY / 4) <= 15); /* chance, 3 standard errors of 4.9 */
    CHECK(right[1] > MANY * 9 / 10); /* seeds 1 to 9: 24 to 43 right at first, then 126 to 128 */
}

/* @multi_token */
#include "../test.h"

#include "../../llm.h"

#include "../arena.h"

enum { B = 2, T = 5, V = 6, C = 4, K = 2, N = B * T };

static llm_multi_token_config config(void) {
    llm_multi_token_config c = {llm_sublayer_defaults(1, C, 2), K, V};
    c.head.hidden = 5, c.head.norm = LLM_PRENORM_PRE;
    return c;
}
static size_t matrices(const llm_multi_token_config *c) {
    return c->ahead * llm_encoder_matrices(&c->head);
}
static size_t all(const llm_multi_token_config *c) {
    return matrices(c) + c->ahead * llm_encoder_vectors(&c->head);
}
static llm_encoder_weights *bind(float *flat, const llm_multi_token_config *c, llm_arena *arena) {
    float *matrix = flat, *vector = flat + matrices(c);
    llm_encoder_weights *w = llm_multi_token_bind(&matrix, &vector, c, arena);
    CHECK(matrix == flat + matrices(c) && vector == flat + all(c));
    return w;
}

TEST(multi_token, "losses, gradients and guesses equal torch's, one head's memory at a time") {
    const llm_multi_token_config c = config();
    llm_arena arena = test_arena(1 << 17);
    size_t n;
    float *flat = golden_n(&n, "model/weights"), *grad = zeros(n);
    CHECK(n == all(&c));
    const llm_encoder_weights *w = bind(flat, &c, &arena), *dw = bind(grad, &c, &arena);
    const int *ids = as_ints(golden("in/ids"), N);
    const float *h = golden("in/h"), *table = golden("in/table");
    float loss[K], *dh = zeros(N * C), *dtable = zeros(V * C);
    const size_t used = arena.used;
    const float sum =
        llm_multi_token_train(loss, dh, dw, dtable, h, ids, B, T, w, table, &c, &arena);
    CHECK(arena.used == used);
    CHECK_GOLDEN(loss, K, 3e-6f, "model/losses");
    CHECK_NEAR(sum, loss[0] + loss[1], 1e-6);
    CHECK_GOLDEN(dh, N * C, 1e-5f, "model/dh");
    CHECK_GOLDEN(dtable, V * C, 1e-5f, "model/dtable");
    CHECK_GOLDEN(grad, n, 2e-5f, "model/grads");

    float again[K], logits[K * V];
    CHECK(llm_multi_token_train(again, NULL, NULL, NULL, h, ids, B, T, w, table, &c, &arena) ==
          sum);
    CHECK(again[0] == loss[0] && again[1] == loss[1]);
    llm_multi_token_config dropped = c;
    dropped.head.dropout = 0.5f; /* not in use */
    llm_multi_token_guess(logits, h, T, w, table, &dropped, &arena);
    CHECK(arena.used == used);
    CHECK_GOLDEN(logits, K * V, 1e-5f, "model/last");
    CHECK_ASSERTS(llm_multi_token_guess(logits, h, 0, w, table, &c, &arena));

    size_t peak[2];
    for (size_t k = 0; k < 2; k++) { /* with one head and with two */
        llm_multi_token_config some = c;
        llm_arena own;
        CHECK(llm_arena_create(&own, 1 << 17));
        some.ahead = 1 + k;
        llm_multi_token_train(loss, dh, dw, dtable, h, ids, B, T, w, table, &some, &own);
        peak[k] = own.peak;
        llm_arena_destroy(&own);
    }
    CHECK(peak[0] == peak[1]);
}

TEST(multi_token, "labels are the tokens k places behind, of their own row; a head without any has "
                  "no loss and no gradient") {
    const int ids[8] = {1, 2, -100, 4, 5, 0, 3, 2};
    int label[8];
    const int want[5][8] = {{1, 2, -100, 4, 5, 0, 3, 2},
                            {2, -100, 4, -100, 0, 3, 2, -100},
                            {-100, 4, -100, -100, 3, 2, -100, -100},
                            {4, -100, -100, -100, 2, -100, -100, -100},
                            {-100, -100, -100, -100, -100, -100, -100, -100}};
    const size_t count[5] = {7, 5, 3, 2, 0};
    for (size_t k = 0; k < 5; k++) {
        CHECK(llm_multi_token_labels(label, ids, k, 2, 4) == count[k]);
        for (size_t i = 0; i < 8; i++) CHECK(label[i] == want[k][i]);
    }
    const llm_multi_token_config c = config();
    llm_arena arena = test_arena(1 << 16);
    float *flat = golden("model/weights"), *grad = zeros(all(&c)), *h = golden("in/h");
    const llm_encoder_weights *w = bind(flat, &c, &arena), *dw = bind(grad, &c, &arena);
    float loss[K], *dh = zeros(4 * C), *dtable = zeros(V * C);
    llm_multi_token_train(loss, dh, dw, dtable, h, ids + 4, 2, 2, w, golden("in/table"), &c,
                          &arena);
    CHECK(loss[0] > 0.0f && loss[1] == 0.0f); /* rows of two tokens: nothing two ahead */
    for (size_t i = 0; i < llm_encoder_matrices(&c.head); i++)
        CHECK(grad[llm_encoder_matrices(&c.head) + i] == 0.0f);
}

static size_t taken(size_t bytes) { return (bytes + 63) / 64 * 64; }

TEST(multi_token, "the scratch is a head's and the numbers of the comment; one label is learned "
                  "from as from any") {
    const llm_multi_token_config c = config();
    float *flat = golden("model/weights"), *h = golden("in/h"), *table = golden("in/table");
    llm_arena lists = test_arena(1 << 14);
    const llm_encoder_weights *w = bind(flat, &c, &lists);
    float *first = NULL, *grad = NULL;
    for (size_t rows = 1; rows <= 2; rows++)
        for (size_t from = 2; from <= 4; from++) { /* twice the same text: the same means */
            const size_t n = rows * from, numbers = all(&c);
            const int text[8] = {3, 5, 1, 4, 3, 5, 1, 4};
            float *x = floats(n * C), loss[K], *dh = zeros(n * C), *dtable = zeros(V * C);
            int *ids = (int *)test_memory(n, sizeof(int));
            for (size_t i = 0; i < n; i++) ids[i] = text[i % from];
            for (size_t i = 0; i < n * C; i++) x[i] = h[i % (from * C)];
            grad = zeros(numbers);
            const llm_encoder_weights *dw = bind(grad, &c, &lists);
            llm_arena head = test_arena(1 << 16), back = test_arena(1 << 16);
            llm_encoder_acts a;
            back.peak = 0;
            llm_multi_token_head(&a, x, 0, rows, from, w, &c, &head);
            llm_encoder_backward(zeros(n * C), &bind(zeros(numbers), &c, &lists)[0], &a, rows, from,
                                 &w[0], &c.head, &back);
            llm_arena arena = test_arena(taken(n * 4) + 2 * taken(n * V * 4) + taken(2 * n * 4) +
                                         taken(n * C * 4) + head.used + back.peak);
            llm_multi_token_train(loss, dh, dw, dtable, x, ids, rows, from, w, table, &c, &arena);
            CHECK(arena.used == 0);
            if (from > 2) continue;
            CHECK(dot(dtable, dtable, V * C) > 0.01 && dot(grad, grad, numbers) > 0.01);
            if (rows == 1)
                first = grad;
            else
                CHECK_ALL_NEAR(first, grad, numbers, 1e-6f);
        }
}

TEST(multi_token, "a guess behind any text is what the heads make of its last place") {
    const llm_multi_token_config c = config();
    llm_arena arena = test_arena(1 << 16);
    const llm_encoder_weights *w = bind(golden("model/weights"), &c, &arena);
    const float *h = golden("in/h"), *table = golden("in/table");
    float logits[K * V], want[K * V];
    for (size_t n = 1; n <= T; n++) {
        llm_multi_token_guess(logits, h, n, w, table, &c, &arena);
        for (size_t k = 0; k < K; k++) { /* no place hears of those behind it */
            llm_encoder_acts a;
            const float *y = llm_multi_token_head(&a, h, k, 1, T, w, &c, &arena) + (n - 1) * C;
            for (size_t v = 0; v < V; v++) want[k * V + v] = (float)dot(y, table + v * C, C);
        }
        CHECK_ALL_NEAR(logits, want, K * V, 2e-6f);
    }
}

TEST(multi_token, "a head drops what its layers would drop as the next ones of one stack") {
    llm_multi_token_config c = config();
    c.head.layers = 2, c.head.dropout = 0.5f, c.head.seed = 7;
    llm_arena arena = test_arena(1 << 17);
    float *flat = floats(all(&c)), *h = golden("in/h");
    llm_rng rng = llm_rng_seed(3);
    llm_rng_normal_fill(&rng, flat, all(&c));
    const llm_encoder_weights *w = bind(flat, &c, &arena);
    for (size_t k = 0; k < K; k++) { /* in front of it layers that add nothing */
        llm_sublayer_config deep = c.head;
        deep.layers = 2 * (k + 1);
        llm_encoder_weights stack;
        float *matrix = zeros(llm_encoder_matrices(&deep));
        float *vector = zeros(llm_encoder_vectors(&deep));
        llm_encoder_bind(&stack, &matrix, &vector, &deep, &arena);
        for (size_t l = 0; l < 2; l++)
            stack.attn[2 * k + l] = w[k].attn[l], stack.mlp[2 * k + l] = w[k].mlp[l];
        stack.norm_w = w[k].norm_w, stack.norm_b = w[k].norm_b;
        bool blocked[T * T];
        for (size_t i = 0; i < T * T; i++) blocked[i] = i % T > i / T;
        llm_sublayer_view view = llm_sublayer_look(B, T);
        view.blocked = blocked;
        llm_encoder_acts a, b;
        const float *y = llm_multi_token_head(&a, h, k, B, T, w, &c, &arena);
        const float *want = llm_encoder_forward(&b, h, &view, &stack, &deep, &arena);
        CHECK_ALL_NEAR(y, want, N * C, 0.0f);
    }
}

TEST(multi_token, "no head looks ahead, and each has dropped numbers of its own") {
    llm_multi_token_config c = config();
    llm_arena arena = test_arena(1 << 17);
    const llm_encoder_weights *w = bind(golden("model/weights"), &c, &arena);
    float *h = golden("in/h"), before[T * C];
    for (size_t k = 0; k < K; k++)
        for (size_t i = 0; i < T; i++) {
            llm_encoder_acts a;
            const float *y = llm_multi_token_head(&a, h, k, 1, T, w, &c, &arena);
            memcpy(before, y, sizeof before);
            h[i * C] += 1.0f;
            y = llm_multi_token_head(&a, h, k, 1, T, w, &c, &arena);
            h[i * C] -= 1.0f;
            for (size_t t = 0; t < T; t++)
                CHECK((memcmp(before + t * C, y + t * C, C * sizeof(float)) != 0) == (t >= i));
        }
    /* two heads with the same weights */
    llm_encoder_weights same[K] = {w[0], w[0]};
    llm_encoder_acts a;
    for (size_t drop = 0; drop < 2; drop++) {
        c.head.dropout = drop ? 0.5f : 0.0f;
        memcpy(before, llm_multi_token_head(&a, h, 0, 1, T, same, &c, &arena), sizeof before);
        const float *y = llm_multi_token_head(&a, h, 1, 1, T, same, &c, &arena);
        CHECK((memcmp(before, y, sizeof before) != 0) == (drop == 1));
    }
}

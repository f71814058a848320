/* @softmax_head */
#include "../test.h"

#include "../../llm.h"

#include "../arena.h"

enum { N = 6, C = 5, V = 11 };

static const struct {
    const char *name;
    float smoothing, z_loss, soft_cap;
} options[] = {{"plain", 0.0f, 0.0f, 0.0f},
               {"smooth", 0.1f, 0.0f, 0.0f},
               {"z", 0.0f, 0.01f, 0.0f},
               {"cap", 0.0f, 0.0f, 0.75f},
               {"all", 0.2f, 0.005f, 3.0f}};

static llm_softmax_head golden_problem(size_t i) {
    const float *h = golden("in/h"), *w = golden("in/w");
    const int *target = as_ints(golden("in/target"), N);
    llm_softmax_head p = llm_softmax_head_defaults(h, w, target, N, C, V);
    CHECK(p.rows == V && p.smoothing == 0.0f && p.z_loss == 0.0f && p.soft_cap == 0.0f);
    p.smoothing = options[i].smoothing;
    p.z_loss = options[i].z_loss;
    p.soft_cap = options[i].soft_cap;
    return p;
}

/* A few roundings in float of numbers around 1. */
static const float tol = 2e-6f;

TEST(softmax_head, "logits, loss and gradients equal PyTorch's cross_entropy, every option") {
    for (size_t i = 0; i < 5; i++) {
        const llm_softmax_head p = golden_problem(i);
        float *loss = floats(N), *lse = floats(N), *logits = floats(N * V);
        float *dh = zeros(N * C), *dw = zeros(V * C);
        CHECK(llm_softmax_head_forward(loss, lse, logits, &p) == N - 2);
        CHECK_GOLDEN(logits, N * V, tol, "%s/logits", options[i].name);
        CHECK_GOLDEN(lse, N, tol, "%s/lse", options[i].name);
        CHECK_GOLDEN(loss, N, tol, "%s/loss", options[i].name);
        llm_softmax_head_backward(dh, dw, logits, lse, &p, 1.0f / (N - 2));
        CHECK_GOLDEN(dh, N * C, tol, "%s/dh", options[i].name);
        CHECK_GOLDEN(dw, V * C, tol, "%s/dw", options[i].name);
    }
}

TEST(softmax_head, "the chunked form equals PyTorch too, for every block size") {
    for (size_t i = 0; i < 5; i++) {
        for (size_t block = 1; block <= V + 1; block++) {
            const llm_softmax_head p = golden_problem(i);
            float *loss = floats(N), *again = floats(N), *dh = zeros(N * C), *dw = zeros(V * C);
            llm_arena arena = test_arena(4096);
            CHECK(llm_softmax_head_chunked(loss, dh, dw, &p, 1.0f / (N - 2), block, &arena) ==
                  N - 2);
            CHECK_GOLDEN(loss, N, tol, "%s/loss", options[i].name);
            CHECK_GOLDEN(dh, N * C, tol, "%s/dh", options[i].name);
            CHECK_GOLDEN(dw, V * C, tol, "%s/dw", options[i].name);
            float *only = zeros(N * C);
            llm_softmax_head_chunked(again, only, NULL, &p, 1.0f / (N - 2), block, &arena);
            CHECK(memcmp(only, dh, N * C * sizeof(float)) == 0);
            llm_softmax_head_chunked(again, NULL, NULL, &p, 1.0f, block, &arena);
            CHECK(memcmp(again, loss, N * sizeof(float)) == 0);
        }
    }
}

static double total(const llm_softmax_head *p) {
    static float loss[N], lse[N], logits[N * V];
    double sum = 0.0;
    llm_softmax_head_forward(loss, lse, logits, p);
    for (size_t n = 0; n < p->N; n++) sum += (double)loss[n];
    return sum;
}

TEST(softmax_head, "gradients equal finite differences for one row, one token, one channel") {
    llm_rng rng = llm_rng_seed(1);
    const size_t sizes[][3] = {{1, 1, 1}, {2, 3, 1}, {3, 2, 7}}; /* (N, C, V) */
    for (size_t s = 0; s < 3; s++) {
        const size_t n = sizes[s][0], c = sizes[s][1], v = sizes[s][2];
        float *h = floats(n * c), *w = floats(v * c), *dh = zeros(n * c), *dw = zeros(v * c);
        float *loss = floats(n), *lse = floats(n), *logits = floats(n * v);
        int target[3] = {0, 0, 0};
        llm_rng_normal_fill(&rng, h, n * c);
        llm_rng_normal_fill(&rng, w, v * c);
        for (size_t i = 0; i < n; i++) target[i] = (int)llm_rng_below(&rng, v);
        llm_softmax_head p = llm_softmax_head_defaults(h, w, target, n, c, v);
        p.smoothing = 0.3f, p.z_loss = 0.1f, p.soft_cap = 1.5f;
        llm_softmax_head_forward(loss, lse, logits, &p);
        llm_softmax_head_backward(dh, dw, logits, lse, &p, 1.0f);
        CHECK_GRAD(dh, h, n * c, 1e-2f, 1e-3f, total(&p));
        CHECK_GRAD(dw, w, v * c, 1e-2f, 1e-3f, total(&p));
    }
}

TEST(softmax_head, "every row of dlogits sums to 0, or to 2 zeta lse with the z-loss") {
    for (size_t z = 0; z < 2; z++) {
        llm_softmax_head p = golden_problem(1);
        p.z_loss = z ? 0.5f : 0.0f;
        float loss[N], lse[N], logits[N * V];
        llm_softmax_head_forward(loss, lse, logits, &p);
        llm_softmax_head_backward(NULL, NULL, logits, lse, &p, 1.0f);
        for (size_t n = 0; n < N; n++) {
            double sum = 0.0;
            const bool ignored = p.target[n] == LLM_CROSS_ENTROPY_IGNORE;
            for (size_t i = 0; i < V; i++) sum += (double)logits[n * V + i];
            CHECK_NEAR(sum, z && !ignored ? lse[n] : 0.0f, 1e-5f);
        }
    }
}

TEST(softmax_head,
     "padded rows of W change nothing, get no gradient, and may hold anything finite") {
    const llm_softmax_head p = golden_problem(4);
    llm_softmax_head padded = p;
    const size_t rows = V + 5;
    float *w = floats(rows * C), *dw = zeros(V * C), *dw_padded = zeros(rows * C);
    float *dh = zeros(N * C), *dh_padded = zeros(N * C);
    float loss[N], lse[N], logits[N * V], loss_padded[N], *logits_padded = floats(N * rows);
    memcpy(w, p.w, V * C * sizeof(float));
    for (size_t i = V * C; i < rows * C; i++) w[i] = 1e3f;
    padded.w = w, padded.rows = rows;

    llm_softmax_head_forward(loss, lse, logits, &p);
    llm_softmax_head_backward(dh, dw, logits, lse, &p, 1.0f);
    llm_softmax_head_forward(loss_padded, lse, logits_padded, &padded);
    CHECK(logits_padded[V] == -INFINITY && logits_padded[rows - 1] == -INFINITY);
    llm_softmax_head_backward(dh_padded, dw_padded, logits_padded, lse, &padded, 1.0f);
    CHECK_ALL_NEAR(loss_padded, loss, N, 1e-6f);
    CHECK_ALL_NEAR(dh_padded, dh, N * C, 1e-5f);
    CHECK_ALL_NEAR(dw_padded, dw, V * C, 1e-5f);
    for (size_t i = V * C; i < rows * C; i++) CHECK(dw_padded[i] == 0.0f);
}

TEST(softmax_head,
     "logits of 1e4 stay finite; a batch that is ignored whole has loss 0 and no gradient") {
    const float h[2] = {100.0f, -100.0f}, w[3] = {100.0f, -100.0f, 0.0f};
    int target[2] = {0, 2};
    llm_softmax_head p = llm_softmax_head_defaults(h, w, target, 2, 1, 3);
    float loss[2], lse[2], logits[6], dh[2] = {0}, dw[3] = {0};
    CHECK(llm_softmax_head_forward(loss, lse, logits, &p) == 2);
    CHECK(loss[0] == 0.0f && loss[1] == 1e4f && lse[0] == 1e4f && lse[1] == 1e4f);
    llm_softmax_head_backward(dh, dw, logits, lse, &p, 0.5f);
    CHECK(dh[0] == 0.0f && dh[1] == -50.0f); /* 0.5 (w_1 - w_2) */
    CHECK(dw[0] == 0.0f && dw[1] == -50.0f && dw[2] == 50.0f);

    llm_arena arena;
    CHECK(llm_arena_create(&arena, 4096));
    dh[0] = dh[1] = 0.0f;
    CHECK(llm_softmax_head_chunked(loss, dh, NULL, &p, 0.5f, 1, &arena) == 2);
    CHECK(loss[0] == 0.0f && loss[1] == 1e4f && dh[0] == 0.0f && dh[1] == -50.0f);
    target[0] = target[1] = LLM_CROSS_ENTROPY_IGNORE;
    memset(dh, 0, sizeof dh);
    CHECK(llm_softmax_head_forward(loss, lse, logits, &p) == 0);
    CHECK(loss[0] == 0.0f && loss[1] == 0.0f);
    llm_softmax_head_backward(dh, NULL, logits, lse, &p, 1.0f);
    CHECK(dh[0] == 0.0f && dh[1] == 0.0f);
    CHECK(llm_softmax_head_chunked(loss, dh, NULL, &p, 1.0f, 2, &arena) == 0);
    CHECK(loss[0] == 0.0f && loss[1] == 0.0f && dh[0] == 0.0f && dh[1] == 0.0f);
    llm_arena_destroy(&arena);
}

TEST(softmax_head, "gradients accumulate, and a target outside the vocabulary stops") {
    const float h = 0.0f, w[2] = {1.0f, 2.0f};
    int target = 1;
    llm_softmax_head p = llm_softmax_head_defaults(&h, w, &target, 1, 1, 2);
    float loss, lse, logits[2], dh = 7.0f, dw[2] = {8.0f, 9.0f};
    llm_softmax_head_forward(&loss, &lse, logits, &p);
    CHECK_NEAR(loss, logf(2.0f), 1e-6f);
    llm_softmax_head_backward(&dh, dw, logits, &lse, &p, 1.0f);
    CHECK(dh == 6.5f && dw[0] == 8.0f && dw[1] == 9.0f); /* (1/2)(1) + (1/2 - 1)(2); h is 0 */
    target = 2;
    CHECK_ASSERTS(llm_softmax_head_forward(&loss, &lse, logits, &p));
    target = 0;
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 4096));
    CHECK_ASSERTS(llm_softmax_head_chunked(&loss, NULL, NULL, &p, 1.0f, 0, &arena));
    for (target = -2; target <= 2; target += 4)
        CHECK_ASSERTS(llm_softmax_head_chunked(&loss, NULL, NULL, &p, 1.0f, 1, &arena));
    llm_arena_destroy(&arena);
}

TEST(softmax_head,
     "a logit of -infinity has probability 0 and no gradient, in blocks of any size") {
    const float h = 1e20f, w[4] = {-1e20f, -1e20f, 0.0f, -1e20f};
    const int target = 2;
    const llm_softmax_head p = llm_softmax_head_defaults(&h, w, &target, 1, 1, 4);
    llm_arena arena = test_arena(4096);
    float loss, lse, logits[4], dh = 0.0f, dw[4] = {0};
    CHECK(llm_softmax_head_forward(&loss, &lse, logits, &p) == 1 && loss == 0.0f && lse == 0.0f);
    llm_softmax_head_backward(&dh, dw, logits, &lse, &p, 1.0f);
    for (size_t block = 1; block <= 4; block++) {
        loss = NAN;
        CHECK(llm_softmax_head_chunked(&loss, &dh, dw, &p, 1.0f, block, &arena) == 1);
        CHECK(loss == 0.0f && dh == 0.0f);
        for (size_t v = 0; v < 4; v++) CHECK(dw[v] == 0.0f);
    }
}

TEST(softmax_head, "blocks take N (block + 4) floats, given back") {
    enum { ROWS = 16, BLOCK = 2 };
    const float h[ROWS] = {0}, w[3] = {0};
    const int target[ROWS] = {0};
    const llm_softmax_head p = llm_softmax_head_defaults(h, w, target, ROWS, 1, 3);
    llm_arena arena = test_arena(4096);
    float loss[ROWS];
    arena.peak = 0;
    llm_softmax_head_chunked(loss, NULL, NULL, &p, 1.0f, BLOCK, &arena);
    CHECK(arena.used == 0 && arena.peak == ROWS * (BLOCK + 4) * sizeof(float));
}

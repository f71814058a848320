/* @medusa */
#include "../test.h"

#include "../../llm.h"

#include "../arena.h"
#include "../tiny_speculative.h"

TEST(medusa, "heads, loss and gradients equal torch's; a frozen trunk gets none") {
    for (size_t i = 0; i < 3; i++) {
        const size_t *shape = as_sizes(golden("%zu/shape", i), 5);
        const size_t K = shape[0], B = shape[1], T = shape[2], C = shape[3], V = shape[4],
                     N = B * T;
        const size_t count = llm_medusa_count(K, C, V), part = (N * C * 4 + 63) / 64 * 64;
        float *w = golden("%zu/w", i), *h = golden("%zu/h", i), *logits = floats(K * N * V);
        float *u = floats(K * N * C), *r = floats(K * N * C), *dw = zeros(count),
              *dh = zeros(N * C);
        float *frozen = zeros(count), *mean = floats(K);
        int *target = (int *)test_memory(K * N, sizeof(int));
        llm_medusa_forward(logits, u, r, h, w, K, N, C, V);
        CHECK_GOLDEN(logits, K * N * V, 2e-6f, "%zu/logits", i);
        llm_medusa_targets(target, as_ints(golden("%zu/ids", i), N), K, B, T);
        llm_arena arena = test_arena(2 * ((N * 4 + 63) / 64 * 64));
        const float loss = llm_medusa_loss(mean, logits, target, K, N, V, 0.8f, &arena);
        CHECK_GOLDEN(&loss, 1, 2e-6f, "%zu/loss", i);
        CHECK_GOLDEN(mean, K, 2e-6f, "%zu/mean", i);
        CHECK(arena.used == 0);
        for (size_t k = 0; k < count; k++) dw[k] = 0.5f; /* adds */
        for (size_t k = 0; k < N * C; k++) dh[k] = 0.25f;
        llm_arena scratch = test_arena(2 * part);
        llm_medusa_backward(dw, dh, logits, u, r, h, w, K, N, C, V, &scratch);
        llm_medusa_backward(frozen, NULL, logits, u, r, h, w, K, N, C, V, &scratch);
        for (size_t k = 0; k < count; k++) dw[k] -= 0.5f;
        for (size_t k = 0; k < N * C; k++) dh[k] -= 0.25f;
        CHECK_GOLDEN(dw, count, 5e-6f, "%zu/dw", i);
        CHECK_GOLDEN(dh, N * C, 5e-6f, "%zu/dh", i);
        CHECK_ALL_NEAR(frozen, dw, count, 1e-6f);
        CHECK(scratch.used == 0);
        CHECK(llm_medusa_loss(NULL, floats(1), target, 0, N, V, 0.8f, &arena) == 0.0f);
    }
}

TEST(medusa, "targets: token t + 2 + k of the same row, nothing behind its end") {
    const int ids[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    int target[24];
    llm_medusa_targets(target, ids, 3, 2, 4);
    const int none = LLM_CROSS_ENTROPY_IGNORE;
    const int want[24] = {3, 4,    none, none, 7,    8,    none, none, 4,    none, none, none,
                          8, none, none, none, none, none, none, none, none, none, none, none};
    CHECK(memcmp(target, want, sizeof want) == 0);
}

TEST(medusa, "heads start as the model's own head") {
    enum { K = 3, C = 4, V = 5, N = 6 };
    float head[V * C], h[N * C], want[N * V], logits[K * N * V], u[K * N * C], r[K * N * C];
    float *w = floats(llm_medusa_count(K, C, V));
    llm_rng rng = llm_rng_seed(1);
    llm_rng_normal_fill(&rng, head, V * C);
    llm_rng_normal_fill(&rng, h, N * C);
    llm_medusa_init(w, head, K, C, V);
    llm_medusa_forward(logits, u, r, h, w, K, N, C, V);
    llm_matmul_forward(want, h, head, NULL, N, C, V);
    for (size_t k = 0; k < K; k++) CHECK_ALL_NEAR(logits + k * N * V, want, N * V, 1e-6f);
}

/* Heads on a frozen trunk, a model of the last two tokens whose state is which two they are: the
 * share of the places where each head's best guess is the token most probable there. */
static void medusa_train(double *hits, uint64_t seed, size_t steps) {
    enum { K = 3, V = 6, C = V * V, N = 400 };
    const float *table = tiny_speculative_table(seed, V, NULL, 2.0f);
    float *h = zeros(N * C), *w = zeros(llm_medusa_count(K, C, V)), *head = zeros(V * C);
    float *logits = floats(K * N * V), *u = floats(K * N * C), *r = floats(K * N * C);
    const size_t count = llm_medusa_count(K, C, V);
    float *dw = zeros(count), *m = zeros(count), *v = zeros(count);
    int ids[N], target[K * N];
    llm_rng rng = llm_rng_seed(seed);
    llm_arena arena = test_arena(1 << 20);
    size_t a = 0, b = 1;
    for (size_t n = 0; n < N; n++) {
        const int x = llm_sampling_draw(table + (a * V + b) * V, V, &rng);
        a = b, b = (size_t)x;
        ids[n] = x;
        h[n * C + a * V + b] = 1.0f; /* the state behind it */
    }
    for (size_t i = 0; i < C; i++)
        for (size_t x = 0; x < V; x++) head[x * C + i] = table[i * V + x];
    llm_medusa_init(w, head, K, C, V);
    llm_medusa_targets(target, ids, K, 1, N);
    llm_adamw_config adamw = llm_adamw_defaults();
    adamw.lr = 0.05f, adamw.weight_decay = 0.0f;
    for (size_t t = 1; t <= steps; t++) {
        llm_medusa_forward(logits, u, r, h, w, K, N, C, V);
        llm_medusa_loss(NULL, logits, target, K, N, V, 0.8f, &arena);
        memset(dw, 0, count * sizeof(float));
        llm_medusa_backward(dw, NULL, logits, u, r, h, w, K, N, C, V, &arena);
        llm_adamw_step(w, m, v, dw, count, &adamw, t);
    }
    llm_medusa_forward(logits, u, r, h, w, K, N, C, V);
    for (size_t k = 0; k < K; k++) {
        double right = 0.0, kept = 0.0;
        for (size_t n = 0; n < N; n++) {
            if (target[k * N + n] == LLM_CROSS_ENTROPY_IGNORE) continue;
            right += llm_greedy_pick(logits + (k * N + n) * V, V) == target[k * N + n];
            kept += 1.0;
        }
        hits[k] = right / kept;
    }
}

TEST(medusa, "training teaches each head its distance, the farther the harder") {
    double before[3], after[3], sum[2][3] = {{0.0}};
    for (uint64_t seed = 1; seed <= 3; seed++) {
        medusa_train(before, seed, 0);
        medusa_train(after, seed, 40);
        for (size_t k = 0; k < 3; k++) sum[0][k] += before[k] / 3.0, sum[1][k] += after[k] / 3.0;
    }
    /* 0.16 0.17 0.18 became 0.52 0.41 0.38 */
    CHECK(sum[1][0] > sum[0][0] + 0.1 && sum[1][1] > sum[0][1] + 0.1 &&
          sum[1][2] > sum[0][2] + 0.1);
    CHECK(sum[1][0] > sum[1][1] && sum[1][1] > sum[1][2]);
}

/* @embedding */
#include "../test.h"

#include "../../llm.h"

static llm_arena emb_arena(void) {
    llm_arena a;
    CHECK(llm_arena_create(&a, 1 << 18));
    return a;
}

TEST(embedding, "equals torch.nn.Embedding with each of its options, both backward forms") {
    const size_t shapes[][3] = {{1, 1, 1}, {7, 3, 2}, {20, 11, 3}, {23, 31, 2}}; /* (N, V, C) */
    llm_arena arena = emb_arena();
    for (size_t s = 0; s < 4; s++) {
        const size_t N = shapes[s][0], V = shapes[s][1], C = shapes[s][2];
        char name[32];
        snprintf(name, sizeof name, "%zux%zux%zu", N, V, C);
        const int *ids = as_ints(golden("%s/ids", name), N);
        const float *w = golden("%s/w", name), *dy = golden("%s/dy", name);
        const int paddings[5] = {-1, ids[0], -1, ids[N - 1], -1};
        const char *const kinds[5] = {"plain", "padding", "frequency", "both", "norm"};
        for (size_t k = 0; k < 5; k++) {
            const bool by_frequency = k == 2 || k == 3;
            float *y = floats(N * C), *dw = zeros(V * C), *own = zeros(V * C);
            memcpy(own, w, V * C * sizeof(float));
            llm_embedding_index x = llm_embedding_sort(ids, N, V, paddings[k], &arena);
            if (k == 4) {
                llm_embedding_renorm(own, &x, C, 1.2f);
                CHECK_GOLDEN(own, V * C, 1e-6f, "%s/norm/w", name); /* a norm and a quotient */
            }
            llm_embedding_forward(y, ids, own, N, V, C);
            CHECK_GOLDEN(y, N * C, k == 4 ? 1e-6f : 0.0f, "%s/%s/y", name, kinds[k]);

            /* sums of at most 23 terms in the order of torch, or another */
            llm_embedding_backward_sorted(dw, dy, &x, C, true, by_frequency);
            CHECK_GOLDEN(dw, V * C, 2e-6f, "%s/%s/dw", name, kinds[k]);
            float *few = zeros(x.rows * C);
            llm_embedding_backward_sorted(few, dy, &x, C, false, by_frequency);
            for (size_t r = 0; r < x.rows; r++)
                CHECK(memcmp(few + r * C, dw + x.row[r] * C, C * sizeof(float)) == 0);
            if (k > 0) continue;
            float *loop = zeros(V * C);
            llm_embedding_backward(loop, dy, ids, N, V, C);
            CHECK_GOLDEN(loop, V * C, 2e-6f, "%s/plain/dw", name);
        }
    }
    llm_arena_destroy(&arena);
}

TEST(embedding, "equals the product with one-hot rows exactly, forward and backward") {
    enum { N = 13, V = 7, C = 5 };
    float onehot[N * V] = {0}, w[V * C], dy[N * C], y[N * C], want[N * C], dw[V * C], sum[V * C];
    int ids[N];
    llm_rng rng = llm_rng_seed(1);
    for (size_t i = 0; i < V * C; i++) w[i] = (float)llm_rng_below(&rng, 100) / 4.0f;
    for (size_t i = 0; i < N * C; i++)
        dy[i] = (float)llm_rng_below(&rng, 100) / 4.0f; /* exact sums */
    for (size_t n = 0; n < N; n++) {
        ids[n] = (int)llm_rng_below(&rng, V);
        onehot[n * V + (size_t)ids[n]] = 1.0f;
    }
    for (size_t n = 0; n < N; n++)
        for (size_t i = 0; i < C; i++) {
            want[n * C + i] = 0.0f;
            for (size_t v = 0; v < V; v++) want[n * C + i] += onehot[n * V + v] * w[v * C + i];
        }
    for (size_t v = 0; v < V; v++)
        for (size_t i = 0; i < C; i++) {
            sum[v * C + i] = dw[v * C + i] = 0.5f; /* it accumulates */
            for (size_t n = 0; n < N; n++) sum[v * C + i] += onehot[n * V + v] * dy[n * C + i];
        }
    llm_embedding_forward(y, ids, w, N, V, C);
    llm_embedding_backward(dw, dy, ids, N, V, C);
    CHECK_ALL_NEAR(y, want, N * C, 0.0f);
    CHECK_ALL_NEAR(dw, sum, V * C, 0.0f);
}

TEST(embedding, "the sorted form has the bits of the loop, and accumulates") {
    llm_arena arena = emb_arena();
    llm_rng rng = llm_rng_seed(2);
    for (size_t round = 0; round < 30; round++) {
        const size_t N = 1 + llm_rng_below(&rng, 200),
                     V = 1 + llm_rng_below(&rng, round % 3 ? 20 : 500);
        const size_t C = 1 + llm_rng_below(&rng, 9);
        int *ids = (int *)test_memory(N, sizeof(int));
        float *dy = floats(N * C), *a = zeros(V * C), *b = zeros(V * C);
        for (size_t n = 0; n < N; n++) ids[n] = (int)llm_rng_below(&rng, V);
        for (size_t i = 0; i < V * C; i++) a[i] = b[i] = llm_rng_normal(&rng);
        llm_rng_normal_fill(&rng, dy, N * C);
        const size_t mark = arena.used;
        llm_embedding_index x = llm_embedding_sort(ids, N, V, -1, &arena);
        llm_embedding_backward(a, dy, ids, N, V, C);
        llm_embedding_backward_sorted(b, dy, &x, C, true, false);
        CHECK(memcmp(a, b, V * C * sizeof(float)) == 0);

        /* 3 N + 1 indices stay, in parts rounded to 64 bytes; V + 1 came back */
        const size_t part = (N * sizeof(size_t) + 63) / 64 * 64;
        const size_t more = ((N + 1) * sizeof(size_t) + 63) / 64 * 64;
        CHECK(arena.used == mark + 2 * part + more);
        arena.used = mark;
    }
    llm_arena_destroy(&arena);
}

TEST(embedding, "the index: rows ascending, positions ascending, padding left out") {
    llm_arena arena = emb_arena();
    const int ids[8] = {4, 0, 4, 2, 4, 0, 5, 2};
    llm_embedding_index x = llm_embedding_sort(ids, 8, 6, -1, &arena);
    const size_t row[4] = {0, 2, 4, 5}, start[5] = {0, 2, 4, 7, 8},
                 order[8] = {1, 5, 3, 7, 0, 2, 4, 6};
    CHECK(x.rows == 4 && memcmp(x.row, row, sizeof row) == 0);
    CHECK(memcmp(x.start, start, sizeof start) == 0 && memcmp(x.order, order, sizeof order) == 0);
    x = llm_embedding_sort(ids, 8, 6, 4, &arena);
    const size_t row2[3] = {0, 2, 5}, start2[4] = {0, 2, 4, 5}, order2[5] = {1, 5, 3, 7, 6};
    CHECK(x.rows == 3 && memcmp(x.row, row2, sizeof row2) == 0);
    CHECK(memcmp(x.start, start2, sizeof start2) == 0 &&
          memcmp(x.order, order2, sizeof order2) == 0);
    x = llm_embedding_sort(ids, 0, 6, -1, &arena);
    CHECK(x.rows == 0 && x.start[0] == 0);
    const int same[2] = {3, 3};
    x = llm_embedding_sort(same, 2, 4, 3, &arena);
    CHECK(x.rows == 0 && x.start[0] == 0);
    llm_embedding_backward_sorted(NULL, NULL, &x, 5, true, true); /* nothing to do */
    llm_arena_destroy(&arena);
}

static double emb_loss(const float *w, const int *ids, const float *dy, size_t N, size_t V,
                       size_t C) {
    float *y = floats(N * C);
    llm_embedding_forward(y, ids, w, N, V, C);
    return dot(y, dy, N * C);
}

TEST(embedding, "the gradient is that of finite differences") {
    enum { N = 6, V = 4, C = 3 };
    const int ids[N] = {2, 0, 2, 2, 1, 0};
    float w[V * C], dy[N * C], dw[V * C] = {0};
    llm_rng rng = llm_rng_seed(3);
    llm_rng_normal_fill(&rng, w, V * C);
    llm_rng_normal_fill(&rng, dy, N * C);
    llm_embedding_backward(dw, dy, ids, N, V, C);
    CHECK_GRAD(dw, w, V * C, 0.125f, 1e-5f, emb_loss(w, ids, dy, N, V, C)); /* linear in w */
}

TEST(embedding, "only rows that are too long are shortened, and only if touched") {
    llm_arena arena = emb_arena();
    float w[5 * 2] = {3, 4, 0.6f, 0.8f, 3, 4, 0, 0, 1e-30f, 0};
    const int ids[5] = {0, 1, 0, 3, 4};
    llm_embedding_index x = llm_embedding_sort(ids, 5, 5, -1, &arena);
    llm_embedding_renorm(w, &x, 2, 1.0f);
    const float want[5 * 2] = {0.6f, 0.8f, 0.6f, 0.8f, 3, 4, 0, 0, 1e-30f, 0};
    CHECK_ALL_NEAR(w, want, 10, 1e-6f);
    float *tiny = golden("tiny/w"); /* of torch, which adds 1e-7 to the norm */
    const int both[2] = {0, 1};
    x = llm_embedding_sort(both, 2, 2, -1, &arena);
    llm_embedding_renorm(tiny, &x, 3, 1e-7f);
    CHECK_ALL_CLOSE(tiny, golden("tiny/short"), 6, 1e-6f);
    CHECK(w[2] == 0.6f && w[3] == 0.8f && w[4] == 3.0f && w[8] == 1e-30f);
    llm_arena_destroy(&arena);
}

TEST(embedding, "lazy Adam equals torch.optim.SparseAdam; rows nobody touches keep their bits") {
    enum { V = 9, C = 4, N = 6 };
    llm_arena arena = emb_arena();
    float *w = golden("adam/w"), *m = zeros(V * C), *v = zeros(V * C);
    llm_adamw_config config = llm_adamw_defaults();
    config.lr = 0.1f, config.beta1 = 0.8f, config.beta2 = 0.95f, config.weight_decay = 0.0f;
    for (size_t t = 0; t < 5; t++) {
        const int *ids = as_ints(golden("adam/ids") + t * N, N);
        const float *dy = golden("adam/dy") + t * N * C;
        float before[3][V * C];
        memcpy(before[0], w, sizeof before[0]);
        memcpy(before[1], m, sizeof before[1]);
        memcpy(before[2], v, sizeof before[2]);
        llm_embedding_index x = llm_embedding_sort(ids, N, V, -1, &arena);
        float *g = zeros(x.rows * C);
        llm_embedding_backward_sorted(g, dy, &x, C, false, false);
        llm_embedding_adamw(w, m, v, g, &x, C, &config, t + 1);
        CHECK_GOLDEN(w, V * C, 2e-6f, "adam/%zu/w", t);
        for (size_t row = 0, r = 0; row < V; row++) {
            if (r < x.rows && x.row[r] == row) {
                r++;
                continue;
            }
            CHECK(memcmp(before[0] + row * C, w + row * C, C * sizeof(float)) == 0);
            CHECK(memcmp(before[1] + row * C, m + row * C, C * sizeof(float)) == 0);
            CHECK(memcmp(before[2] + row * C, v + row * C, C * sizeof(float)) == 0);
        }
    }
    llm_arena_destroy(&arena);
}

TEST(embedding, "touching every row, lazy AdamW is AdamW, decay included") {
    enum { V = 3, C = 2 };
    llm_arena arena = emb_arena();
    const int ids[V] = {2, 0, 1};
    float w[2][V * C], m[2][V * C] = {{0}}, v[2][V * C] = {{0}}, dy[V * C], dw[V * C] = {0},
                                g[V * C] = {0};
    llm_rng rng = llm_rng_seed(4);
    llm_rng_normal_fill(&rng, w[0], V * C);
    memcpy(w[1], w[0], sizeof w[0]);
    llm_rng_normal_fill(&rng, dy, V * C);
    llm_adamw_config config = llm_adamw_defaults();
    config.weight_decay = 0.3f;
    llm_embedding_index x = llm_embedding_sort(ids, V, V, -1, &arena);
    llm_embedding_backward(dw, dy, ids, V, V, C);
    llm_embedding_backward_sorted(g, dy, &x, C, false, false);
    llm_adamw_step(w[0], m[0], v[0], dw, V * C, &config, 3);
    llm_embedding_adamw(w[1], m[1], v[1], g, &x, C, &config, 3);
    CHECK(memcmp(w[0], w[1], sizeof w[0]) == 0 && memcmp(m[0], m[1], sizeof m[0]) == 0);
    CHECK(memcmp(v[0], v[1], sizeof v[0]) == 0);
    llm_arena_destroy(&arena);
}

TEST(embedding, "ids outside the table stop at an assert, wherever they come from") {
    llm_arena arena = emb_arena();
    const float x[4] = {0};
    float y[4] = {0};
    const int wrong[3] = {-1, 2, INT_MIN};
    for (size_t i = 0; i < 3; i++) {
        const int ids[2] = {1, wrong[i]};
        CHECK_ASSERTS(llm_embedding_forward(y, ids, x, 2, 2, 2));
        CHECK_ASSERTS(llm_embedding_backward(y, x, ids, 2, 2, 2));
        CHECK_ASSERTS(llm_embedding_sort(ids, 2, 2, -1, &arena));
    }
    llm_arena_destroy(&arena);
}

/* @weight_tying */
#include "../test.h"

#include "../../llm.h"

enum { V = 7, C = 4, N = 5 };

static llm_weight_tying model(bool tied, float scale_in, float scale_out) {
    llm_weight_tying t;
    llm_weight_tying_bind(&t, golden("in/embed"), zeros(V * C));
    CHECK(t.scale_in == 1.0f && t.scale_out == 1.0f);
    if (!tied) {
        llm_weight_tying_untie(&t, floats(V * C), zeros(V * C), V, C);
        CHECK(memcmp(t.head, t.embed, V * C * sizeof(float)) == 0);
        memcpy(t.head, golden("in/head"), V * C * sizeof(float));
    }
    t.scale_in = scale_in, t.scale_out = scale_out;
    return t;
}

/* Logits and both gradients of sum of -log p[target], with a tanh between the two ends. */
static void run(float *logits, const llm_weight_tying *t) {
    const int *ids = as_ints(golden("in/ids"), N), *target = as_ints(golden("in/target"), N);
    float x[N * C], h[N * C], loss[N], lse[N], dh[N * C] = {0};
    float *dlogits = zeros(N * V);
    llm_weight_tying_embed(x, t, ids, N, V, C);
    for (size_t i = 0; i < N * C; i++) h[i] = tanhf(x[i]);
    llm_weight_tying_logits(logits, t, h, N, V, C);
    llm_cross_entropy_forward(loss, lse, logits, target, N, V);
    llm_cross_entropy_backward(dlogits, logits, lse, target, N, V, 1.0f);
    llm_weight_tying_logits_backward(dh, t, dlogits, h, N, V, C);
    for (size_t i = 0; i < N * C; i++) dh[i] *= 1.0f - h[i] * h[i];
    llm_weight_tying_embed_backward(t, dh, ids, N, V, C);
}

TEST(weight_tying,
     "logits and gradients equal PyTorch's, tied, scaled, and with a head of its own") {
    const struct {
        const char *name;
        bool tied;
        float scale_in, scale_out;
    } forms[] = {
        {"tied", true, 1.0f, 1.0f}, {"scaled", true, 2.0f, 0.5f}, {"untied", false, 2.0f, 0.5f}};
    for (size_t f = 0; f < 3; f++) {
        const llm_weight_tying t = model(forms[f].tied, forms[f].scale_in, forms[f].scale_out);
        float logits[N * V];
        run(logits, &t);
        CHECK_GOLDEN(logits, N * V, 2e-6f, "%s/logits", forms[f].name);
        CHECK_GOLDEN(t.dembed, V * C, 3e-6f, "%s/dembed", forms[f].name);
        if (!forms[f].tied) CHECK_GOLDEN(t.dhead, V * C, 3e-6f, "untied/dhead");
    }
}

TEST(weight_tying,
     "the tied gradient is the sum of the two of an untied copy; V C weights are saved") {
    llm_weight_tying tied = model(true, 3.0f, 0.25f), untied = model(false, 3.0f, 0.25f);
    memcpy(untied.head, untied.embed, V * C * sizeof(float));
    float logits[2][N * V], sum[V * C];
    run(logits[0], &tied);
    run(logits[1], &untied);
    CHECK(memcmp(logits[0], logits[1], sizeof logits[0]) == 0);
    for (size_t i = 0; i < V * C; i++) sum[i] = untied.dembed[i] + untied.dhead[i];
    CHECK_ALL_NEAR(tied.dembed, sum, V * C, 1e-6f);
    CHECK(tied.head == tied.embed && tied.dhead == tied.dembed);
    CHECK(llm_weight_tying_count(&untied, V, C) - llm_weight_tying_count(&tied, V, C) == V * C);
    CHECK(llm_weight_tying_count(&tied, V, C) == V * C);
}

TEST(weight_tying, "dh may be NULL, gradients accumulate") {
    llm_weight_tying t = model(true, 1.0f, 1.0f);
    float dlogits[V] = {1.0f}, h[C] = {1.0f, 2.0f, 3.0f, 4.0f}, dx[C] = {1.0f, 1.0f, 1.0f, 1.0f};
    const int id = 0;
    for (size_t i = 0; i < C; i++) t.dembed[i] = 10.0f;
    llm_weight_tying_logits_backward(NULL, &t, dlogits, h, 1, V, C);
    llm_weight_tying_embed_backward(&t, dx, &id, 1, V, C);
    for (size_t i = 0; i < C; i++) CHECK(t.dembed[i] == 12.0f + (float)i);
    for (size_t i = C; i < V * C; i++) CHECK(t.dembed[i] == 0.0f);
}

TEST(weight_tying,
     "without layers a tied model cannot tell ab from ba: it stays above the best symmetric fit") {
    enum { W = 5, D = 5 };
    const float *count = golden("bigram/count");
    const double symmetric = (double)golden("bigram/symmetric")[0],
                 entropy = (double)golden("bigram/entropy")[0];
    for (size_t tied = 0; tied < 2; tied++) {
        llm_rng rng = llm_rng_seed(1);
        float embed[W * D], head[W * D], dembed[W * D], dhead[W * D];
        llm_weight_tying t;
        llm_arena arena;
        double loss = 0.0;
        for (size_t i = 0; i < W * D; i++) embed[i] = 0.3f * llm_rng_normal(&rng);
        llm_weight_tying_bind(&t, embed, dembed);
        if (!tied) llm_weight_tying_untie(&t, head, dhead, W, D);
        CHECK(llm_arena_create(&arena, 4096));
        for (size_t step = 0; step < 4000; step++) {
            loss = llm_weight_tying_bigram_step(&t, count, W, D, 0.5f, &arena);
            if (tied) CHECK(loss > symmetric - 1e-6);
        }
        CHECK(arena.used == 0);
        llm_arena_destroy(&arena);
        /* seeds 1 to 9 ended within 1e-6 of the entropy untied, and 0.2207 above it tied: the best
         * symmetric logits cost 0.098, and E E^T cannot be negative definite either */
        if (!tied) CHECK_NEAR(loss, entropy, 1e-4);
        if (tied) CHECK(loss > entropy + 0.1);
    }
}

TEST(weight_tying, "a step goes down the gradient of its loss, at one end or at both") {
    enum { W = 3, D = 2 };
    const float count[W * W] = {5, 1, 0, 2, 2, 7, 0, 4, 1};
    for (size_t tied = 0; tied < 2; tied++) {
        llm_rng rng = llm_rng_seed(2);
        float embed[W * D], head[W * D], dembed[W * D], dhead[W * D], down[2 * W * D];
        llm_weight_tying t;
        llm_arena arena;
        llm_rng_normal_fill(&rng, embed, W * D);
        llm_weight_tying_bind(&t, embed, dembed);
        if (!tied) llm_weight_tying_untie(&t, head, dhead, W, D);
        if (!tied) llm_rng_normal_fill(&rng, head, W * D);
        t.scale_in = 1.5f, t.scale_out = 0.5f;
        CHECK(llm_arena_create(&arena, 4096));
        float *const end[2] = {embed, head};
        float before[2][W * D];
        for (size_t k = 0; k < (tied ? 1 : 2); k++) memcpy(before[k], end[k], sizeof before[k]);
        llm_weight_tying_bigram_step(&t, count, W, D, 1.0f, &arena);
        for (size_t k = 0; k < (tied ? 1 : 2); k++) {
            for (size_t i = 0; i < W * D; i++) down[k * W * D + i] = before[k][i] - end[k][i];
            memcpy(end[k], before[k], sizeof before[k]);
        }
        for (size_t k = 0; k < (tied ? 1 : 2); k++) /* a rate of 0 only measures */
            CHECK_GRAD(down + k * W * D, end[k], W * D, 1e-2f, 1e-3f,
                       llm_weight_tying_bigram_step(&t, count, W, D, 0.0f, &arena));
        llm_arena_destroy(&arena);
    }
}

/* @attn_head */
#include "../test.h"

#include "../../llm.h"

enum { N = 5, C = 4, H = 3, D = 2, M = N * H * D, W = C * H * D };

static llm_arena head_arena(void) {
    llm_arena a;
    a.memory = (unsigned char *)test_memory(1 << 19, 1);
    a.size = 1 << 19, a.used = a.peak = 0;
    return a;
}

TEST(attn_head, "heads' contributions add up to the projection of all, and to @mha's output") {
    llm_rng rng = llm_rng_seed(1);
    llm_arena arena = head_arena();
    llm_mha_config c = llm_mha_defaults(1, N, C, 2);
    c.H = H, c.D = D;
    float *w = floats(3 * W + W + C), x[N * C], y[N * C], one[N * C], sum[N * C];
    llm_rng_normal_fill(&rng, w, 4 * W + C);
    llm_rng_normal_fill(&rng, x, N * C);
    llm_mha_params p;
    p.wq = w, p.wk = w + W, p.wv = w + 2 * W, p.wo = w + 3 * W, p.bo = w + 4 * W;
    p.bq = p.bk = p.bv = NULL;
    llm_mha_saved s = llm_mha_take(&c, &arena);
    llm_mha_forward(y, &s, x, x, x, &p, NULL, NULL, &c, &arena);
    for (size_t i = 0; i < N * C; i++) sum[i] = p.bo[i % C];
    for (size_t h = 0; h < H; h++) {
        llm_attn_head_forward(one, s.merged, p.wo, h, N, C, H, D);
        for (size_t i = 0; i < N * C; i++) sum[i] += one[i];
        /* the head by its definition: P_h x (W_V,h^T W_O,h^T) */
        for (size_t i = 0; i < N * C; i++) {
            double want = 0.0;
            for (size_t j = 0; j < N; j++)
                for (size_t d = h * D; d < (h + 1) * D; d++)
                    want += (double)s.att[(h * N + i / C) * N + j] *
                            dot(p.wv + d * C, x + j * C, C) * (double)p.wo[i % C * H * D + d];
            CHECK_NEAR(one[i], want, 1e-5);
        }
    }
    CHECK_ALL_NEAR(sum, y, N * C, 1e-5);
}

TEST(attn_head, "gradients of a head and of its gate, by differences") {
    llm_rng rng = llm_rng_seed(2);
    float merged[M], wo[W], dy[N * C], y[N * C], dmerged[M], dwo[W];
    float xi[H] = {1.0f, 0.5f, -2.0f}, dxi[H], gated[M], dgated[M];
    llm_rng_normal_fill(&rng, merged, M);
    llm_rng_normal_fill(&rng, wo, W);
    llm_rng_normal_fill(&rng, dy, N * C);
    llm_rng_normal_fill(&rng, dgated, M);
    for (size_t h = 0; h < H; h++) {
        for (size_t i = 0; i < M; i++) dmerged[i] = 1.0f;
        for (size_t i = 0; i < W; i++) dwo[i] = 1.0f;
        llm_attn_head_backward(dmerged, dwo, dy, merged, wo, h, N, C, H, D);
        for (size_t i = 0; i < M; i++) dmerged[i] -= 1.0f; /* added */
        for (size_t i = 0; i < W; i++) dwo[i] -= 1.0f;
        llm_attn_head_backward(NULL, NULL, dy, merged, wo, h, N, C, H, D);
#define HEAD (llm_attn_head_forward(y, merged, wo, h, N, C, H, D), dot(y, dy, N * C))
        CHECK_GRAD(dmerged, merged, M, 0.125f, 1e-5f, HEAD); /* bilinear */
        CHECK_GRAD(dwo, wo, W, 0.125f, 1e-5f, HEAD);
    }
    for (size_t i = 0; i < M; i++) dmerged[i] = 1.0f;
    for (size_t h = 0; h < H; h++) dxi[h] = 1.0f;
    llm_attn_head_gate_backward(dmerged, dxi, dgated, merged, xi, N, H, D);
    for (size_t i = 0; i < M; i++) dmerged[i] -= 1.0f;
    for (size_t h = 0; h < H; h++) dxi[h] -= 1.0f;
    llm_attn_head_gate_backward(NULL, NULL, dgated, merged, xi, N, H, D);
#define GATE (llm_attn_head_gate_forward(gated, merged, xi, N, H, D), dot(gated, dgated, M))
    CHECK_GRAD(dmerged, merged, M, 0.125f, 1e-5f, GATE);
    CHECK_GRAD(dxi, xi, H, 0.125f, 1e-5f, GATE);
    float importance[H] = {1.0f, 1.0f, 1.0f};
    llm_attn_head_importance(importance, dgated, merged, N, H, D);
    for (size_t h = 0; h < H; h++) CHECK_NEAR(importance[h], 1.0 + fabs((double)dxi[h]), 1e-5);
    float kept[M];
    memcpy(kept, merged, sizeof kept);
    llm_attn_head_gate_forward(kept, kept, xi, N, H, D); /* in place */
    llm_attn_head_gate_forward(gated, merged, xi, N, H, D);
    CHECK(memcmp(kept, gated, sizeof kept) == 0);
}

TEST(attn_head, "removed by zero is a gate of 0; by the mean, the mean is kept and nothing else") {
    llm_rng rng = llm_rng_seed(3);
    float merged[M], zero[M], mean[M], gated[M], xi[H] = {1, 0, 1};
    llm_rng_normal_fill(&rng, merged, M);
    memcpy(zero, merged, sizeof zero);
    memcpy(mean, merged, sizeof mean);
    llm_attn_head_ablate(zero, false, 1, N, H, D);
    llm_attn_head_gate_forward(gated, merged, xi, N, H, D);
    CHECK_ALL_NEAR(zero, gated, M, 0.0f);
    llm_attn_head_ablate(mean, true, 1, N, H, D);
    for (size_t d = 0; d < H * D; d++) {
        double want = 0.0;
        for (size_t n = 0; n < N; n++) want += (double)merged[n * H * D + d] / N;
        for (size_t n = 0; n < N; n++)
            CHECK_NEAR(mean[n * H * D + d], d / D == 1 ? want : (double)merged[n * H * D + d],
                       1e-6);
    }
    CHECK_ASSERTS(llm_attn_head_ablate(zero, false, H, N, H, D));
    CHECK_ASSERTS(llm_attn_head_forward(zero, merged, merged, H, 0, 0, H, D));
    CHECK_ASSERTS(llm_attn_head_backward(zero, zero, merged, merged, merged, H, 0, 0, H, D));
    llm_attn_head_ablate(zero, true, 0, 0, H, D);
}

/* A layer of 8 heads whose sizes fall by half from one to the next, read by 6 classes; the label of
 * a token is what the layer says of it. rank: the correlation of ranks of importance by gradients
 * and of the loss' change when a head is removed. */
enum { HEADS = 8, WIDE = 16, TOKENS = 12, CLASSES = 6, TEXTS = 8 };

static double head_loss(const float *merged, const float *wo, const float *read, const int *label,
                        float *dmerged) {
    float y[TOKENS * WIDE], logit[TOKENS * CLASSES], dy[TOKENS * WIDE] = {0};
    double loss = 0.0;
    llm_matmul_forward(y, merged, wo, NULL, TOKENS, WIDE, WIDE);
    llm_matmul_forward(logit, y, read, NULL, TOKENS, WIDE, CLASSES);
    for (size_t t = 0; t < TOKENS; t++) {
        float *z = logit + t * CLASSES;
        const float all = llm_logsumexp(z, CLASSES);
        loss += (double)(all - z[label[t]]);
        for (int k = 0; k < CLASSES; k++) z[k] = expf(z[k] - all) - (k == label[t] ? 1.0f : 0.0f);
    }
    for (size_t i = 0; dmerged && i < TOKENS * WIDE; i++) dmerged[i] = 0.0f;
    if (!dmerged) return loss;
    llm_matmul_backward(dy, NULL, NULL, logit, y, read, TOKENS, WIDE, CLASSES);
    llm_matmul_backward(dmerged, NULL, NULL, dy, merged, wo, TOKENS, WIDE, WIDE);
    return loss;
}

static double head_rank(uint64_t seed) {
    llm_rng rng = llm_rng_seed(seed);
    llm_arena arena = head_arena();
    const llm_mha_config c = llm_mha_defaults(1, TOKENS, WIDE, HEADS);
    float *w = floats(4 * WIDE * WIDE + CLASSES * WIDE), *x = floats(TOKENS * WIDE);
    float *y = floats(TOKENS * WIDE), *cut = floats(TOKENS * WIDE), *d = floats(TOKENS * WIDE);
    float importance[HEADS] = {0}, change[HEADS] = {0};
    llm_rng_normal_fill(&rng, w, 4 * WIDE * WIDE + CLASSES * WIDE);
    llm_mha_params p;
    p.wq = w, p.wk = w + WIDE * WIDE, p.wv = p.wk + WIDE * WIDE, p.wo = p.wv + WIDE * WIDE;
    p.bq = p.bk = p.bv = p.bo = NULL;
    const float *read = p.wo + WIDE * WIDE;
    for (size_t i = 0; i < WIDE * WIDE; i++)
        p.wo[i] *= 0.2f * (float)pow(0.5, (double)(i % WIDE / 2));
    llm_mha_saved s = llm_mha_take(&c, &arena);
    for (size_t text = 0; text < TEXTS; text++) {
        int label[TOKENS];
        llm_rng_normal_fill(&rng, x, TOKENS * WIDE);
        llm_mha_forward(y, &s, x, x, x, &p, NULL, NULL, &c, &arena);
        for (size_t t = 0; t < TOKENS; t++) {
            double best = -INFINITY;
            for (int k = 0; k < CLASSES; k++) {
                const double z = dot(y + t * WIDE, read + k * WIDE, WIDE);
                if (z > best) best = z, label[t] = k;
            }
        }
        const double loss = head_loss(s.merged, p.wo, read, label, d);
        llm_attn_head_importance(importance, d, s.merged, TOKENS, HEADS, WIDE / HEADS);
        for (size_t h = 0; h < HEADS; h++) {
            memcpy(cut, s.merged, TOKENS * WIDE * sizeof(float));
            llm_attn_head_ablate(cut, false, h, TOKENS, HEADS, WIDE / HEADS);
            change[h] += (float)fabs(head_loss(cut, p.wo, read, label, NULL) - loss);
        }
    }
    size_t a[HEADS], b[HEADS];
    double rank[2][HEADS], apart = 0.0;
    llm_argsort(a, importance, HEADS);
    llm_argsort(b, change, HEADS);
    for (size_t i = 0; i < HEADS; i++) rank[0][a[i]] = rank[1][b[i]] = (double)i;
    for (size_t i = 0; i < HEADS; i++) apart += pow(rank[0][i] - rank[1][i], 2.0);
    return 1.0 - 6.0 * apart / (HEADS * (HEADS * HEADS - 1.0)); /* Spearman */
}

TEST(attn_head, "the gates' gradients rank the heads as removing them does") {
    double least = 1.0;
    for (uint64_t seed = 1; seed <= 8; seed++) least = fmin(least, head_rank(seed));
    CHECK(least > 0.45); /* 0.90 to 0.98 over 8 further sets of 8 seeds */
}

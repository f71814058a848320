/* @csa_index */
#include "../test.h"

#include "../../llm.h"

#include "../arena.h"

TEST(csa_index, "scores, choice, loss and gradients equal transformers' DeepseekV4Indexer") {
    const size_t shapes[][9] = {
        {1, 5, 1, 4, 4, 1, 2, 1, 4}, {2, 7, 2, 6, 2, 2, 3, 2, 4}, {1, 14, 3, 4, 3, 3, 5, 3, 6}};
    for (size_t s = 0; s < 3; s++) {
        const size_t *z = shapes[s], B = z[0], T = z[1], m = z[4], k = z[5], H = z[7], D = z[8];
        const size_t S = T / m, kept = k < S ? k : S;
        char name[64];
        snprintf(name, sizeof name, "%zux%zux%zux%zux%zux%zux%zu", B, T, z[2], z[3], m, k, z[6]);
        llm_csa_index_config c = llm_csa_index_defaults(B, T, S, H, D, kept);
        c.m = m;
        const float *q = golden("%s/q", name), *key = golden("%s/key", name);
        const float *u = golden("%s/u", name), *target = golden("%s/target", name);
        float *score = floats(B * T * S), *loss = floats(B * T), *dscore = floats(B * T * S);
        int *index = as_ints(zeros(B * T * k), B * T * kept);
        llm_csa_index_forward(score, q, key, u, &c);
        CHECK_GOLDEN(score, B * T * S, 1e-6f, "%s/score", name);
        llm_arena arena = test_arena((S + 15) / 16 * 64 + (S * sizeof(size_t) + 63) / 64 * 64);
        llm_csa_index_select(index, score, &c, &arena);
        CHECK(arena.used == 0);
        for (size_t i = 0; i < B * T * kept; i++)
            CHECK(index[i] == (int)golden("%s/index", name)[i]);
        llm_csa_index_loss(loss, dscore, score, target, index, &c);
        CHECK_GOLDEN(loss, B * T, 2e-6f, "%s/loss", name);
        float *dq = zeros(B * T * H * D), *dkey = zeros(B * S * D), *du = zeros(B * T * H);
        llm_csa_index_backward(dq, dkey, du, dscore, q, key, u, &c);
        CHECK_GOLDEN(dq, B * T * H * D, 4e-6f, "%s/dq", name);
        CHECK_GOLDEN(dkey, B * S * D, 4e-6f, "%s/dkey", name);
        CHECK_GOLDEN(du, B * T * H, 4e-6f, "%s/du", name);
        llm_csa_index_backward(dq, dkey, du, dscore, q, key, u, &c);
        for (size_t i = 0; i < B * T * H * D; i++)
            CHECK_NEAR(dq[i], 2 * golden("%s/dq", name)[i], 2e-5);
        for (size_t i = 0; i < B * S * D; i++)
            CHECK_NEAR(dkey[i], 2 * golden("%s/dkey", name)[i], 2e-5);
        for (size_t i = 0; i < B * T * H; i++)
            CHECK_NEAR(du[i], 2 * golden("%s/du", name)[i], 2e-5);

        c.T = 1, c.first = T - 1; /* the last query alone, as a decoder has it */
        float *last = floats(S);
        for (size_t b = 0; b < B; b++) {
            llm_csa_index_config one = c;
            one.B = 1;
            const size_t row = b * T + T - 1;
            llm_csa_index_forward(last, q + row * H * D, key + b * S * D, u + row * H, &one);
            for (size_t i = 0; i < S; i++) CHECK(last[i] == score[row * S + i]);
        }
    }
}

TEST(csa_index, "one query alone has its gradient; at a right angle, where the ReLU bends, none") {
    llm_csa_index_config c = llm_csa_index_defaults(1, 1, 1, 1, 2, 1);
    c.first = 3, c.scale = 1.0f;
    const float g = 1.0f, u = 5.0f, key[2] = {3, 1}, q[2][2] = {{2, 0}, {-1, 3}};
    for (int right = 0; right < 2; right++) {
        float *dq = zeros(2), *dkey = zeros(2), *du = zeros(1);
        llm_csa_index_backward(dq, dkey, du, &g, q[right], key, &u, &c);
        CHECK(du[0] == (right ? 0.0f : 6.0f)); /* u relu(q.k) */
        CHECK(dq[0] == (right ? 0.0f : 15.0f) && dq[1] == (right ? 0.0f : 5.0f));
        CHECK(dkey[0] == (right ? 0.0f : 10.0f) && dkey[1] == 0.0f);
    }
}

TEST(csa_index, "entries count as they are finished; equal scores by age; few leave -1") {
    llm_csa_index_config c = llm_csa_index_defaults(1, 12, 2, 1, 1, 3);
    const size_t want[12] = {0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 2}; /* two entries in all */
    for (size_t t = 0; t < 12; t++) CHECK(llm_csa_index_seen(t, &c) == want[t]);
    c.first = 4;
    CHECK(llm_csa_index_seen(0, &c) == 1 && llm_csa_index_seen(3, &c) == 2);
    CHECK_NEAR(llm_csa_index_defaults(1, 1, 1, 4, 9, 1).scale, 1 / 6.0, 1e-7);

    llm_csa_index_config d = llm_csa_index_defaults(2, 1, 5, 1, 1, 3);
    d.first = 15; /* four entries of five */
    const float score[10] = {1, 3, 3, 2, 9, -1, -1, -2, NAN, NAN};
    int index[6];
    llm_arena arena = test_arena(256);
    llm_csa_index_select(index, score, &d, &arena);
    CHECK(index[0] == 1 && index[1] == 2 && index[2] == 3);
    CHECK(index[3] == 0 && index[4] == 1 && index[5] == 2);
    d.first = 7;
    llm_csa_index_select(index, score, &d, &arena);
    CHECK(index[0] == 1 && index[1] == 0 && index[2] == -1);
    CHECK(index[3] == 0 && index[4] == 1 && index[5] == -1);
}

TEST(csa_index, "the loss over all that is seen: closed form, nothing, finite differences") {
    enum { T = 9, S = 2, H = 2, D = 3 };
    llm_csa_index_config c = llm_csa_index_defaults(1, T, S, H, D, 1);
    float q[T * H * D], key[S * D], u[T * H], score[T * S], target[T * S], loss[T], dscore[T * S];
    float dq[T * H * D] = {0}, dkey[S * D] = {0}, du[T * H] = {0};
    llm_rng rng = llm_rng_seed(1);
    llm_rng_normal_fill(&rng, q, T * H * D);
    llm_rng_normal_fill(&rng, key, S * D);
    llm_rng_normal_fill(&rng, u, T * H);
    for (size_t i = 0; i < T * S; i++) target[i] = llm_rng_uniform(&rng) * 3.0f;
    target[8 * S] = target[8 * S + 1] = 0.0f; /* nobody was looked at */
    target[7 * S] = 0.0f;                     /* one of two: 0 log 0 is 0 */
    llm_csa_index_forward(score, q, key, u, &c);
    llm_csa_index_loss(loss, dscore, score, target, NULL, &c);
    for (size_t t = 0; t < T; t++) {
        const double a = (double)score[t * S], b = (double)score[t * S + 1];
        CHECK(t >= 3 || (loss[t] == 0.0f && dscore[t * S] == 0.0f));
        CHECK(t >= 7 || (score[t * S + 1] == -INFINITY && dscore[t * S + 1] == 0.0f));
        CHECK(t < 3 || t >= 7 || (loss[t] == 0.0f && dscore[t * S] == 0.0f)); /* one entry: sure */
        CHECK(t < 8 || (loss[t] == 0.0f && dscore[t * S] == 0.0f && dscore[t * S + 1] == 0.0f));
        if (t == 7) {
            CHECK_NEAR(loss[t], log(exp(a) + exp(b)) - b, 1e-6);
            CHECK_NEAR(dscore[t * S], exp(a) / (exp(a) + exp(b)), 1e-6);
            CHECK_NEAR(dscore[t * S + 1], exp(b) / (exp(a) + exp(b)) - 1, 1e-6);
        }
    }
    llm_csa_index_backward(dq, dkey, du, dscore, q, key, u, &c);
#define LOSS                                                                                       \
    (llm_csa_index_forward(score, q, key, u, &c),                                                  \
     llm_csa_index_loss(loss, dscore, score, target, NULL, &c), (double)loss[7])
    CHECK_GRAD(dq, q, T * H * D, 1e-2f, 2e-3f, LOSS);
    CHECK_GRAD(dkey, key, S * D, 1e-2f, 2e-3f, LOSS);
    CHECK_GRAD(du, u, T * H, 1e-2f, 2e-3f, LOSS);

    const float large[2] = {1e4f, -1e4f}, aim[2] = {1, 1};
    c.T = 1, c.first = 7;
    llm_csa_index_loss(loss, dscore, large, aim, NULL, &c);
    CHECK_NEAR(loss[0], 1e4 - log(2.0), 1e-2);
    CHECK(dscore[0] == 0.5f && dscore[1] == -0.5f);
}

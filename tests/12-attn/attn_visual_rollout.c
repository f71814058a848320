/* @attn_visual_rollout */
#include "../test.h"

#include "../../llm.h"

static llm_arena rollout_arena(void) {
    llm_arena a;
    a.memory = (unsigned char *)test_memory(1 << 16, 1);
    a.size = 1 << 16, a.used = a.peak = 0;
    return a;
}

TEST(attn_visual_rollout, "mixing and rollout equal numpy, flow equals networkx") {
    const size_t shapes[4][4] = {
        {1, 1, 1, 0}, {3, 2, 4, 0}, {3, 2, 5, 1}, {2, 1, 3, 0}}; /* L H T causal */
    llm_arena arena = rollout_arena();
    for (size_t z = 0; z < 4; z++) {
        const size_t L = shapes[z][0], H = shapes[z][1], T = shapes[z][2];
        const bool causal = shapes[z][3] == 1;
        char name[32];
        snprintf(name, sizeof name, "%zu-%zu-%d", L, T, causal);
        float *att = golden("%s/att", name), *a = floats(L * T * T), *r = floats(T * T);
        for (size_t n = 0; causal && n < L * H * T * T; n++)
            if (n % T > n / T % T) att[n] = NAN; /* not read */
        llm_attn_visual_rollout_mix(a, att, L, H, T, causal);
        CHECK_GOLDEN(a, L * T * T, 1e-7, "%s/a", name);
        llm_attn_visual_rollout(r, a, L, T, &arena);
        CHECK_GOLDEN(r, T * T, 3e-7, "%s/rollout", name);
        for (size_t i = 0; i < T; i++) {
            double sum = 0.0;
            for (size_t j = 0; j < T; j++) sum += (double)r[i * T + j];
            CHECK_NEAR(sum, 1.0, 1e-6);
        }
        const float *flow = golden("%s/flow", name);
        for (size_t n = 0; n < T * T; n++)
            CHECK_NEAR(llm_attn_visual_rollout_max_flow(a, n / T, n % T, L, T, &arena), flow[n],
                       1e-6);
        CHECK(arena.used == 0);
    }
    float eye[4];
    llm_attn_visual_rollout(eye, NULL, 0, 2, &arena);
    CHECK(eye[0] == 1.0f && eye[1] == 0.0f && eye[2] == 0.0f && eye[3] == 1.0f);
    CHECK_ASSERTS(llm_attn_visual_rollout_max_flow(eye, 2, 0, 1, 2, &arena));
    CHECK_ASSERTS(llm_attn_visual_rollout_max_flow(eye, 0, 2, 1, 2, &arena));
    CHECK_ASSERTS(llm_attn_visual_rollout_max_flow(eye, 0, 0, 0, 2, &arena));
}

TEST(attn_visual_rollout,
     "flow needs to take back what it sent first, and pipes that leak sum to 1") {
    /* output 0 -> middle 0, 1; middle 0 -> input 0, 1; middle 1 -> input 0 only */
    const float a[3 * 9] = {.5f, .5f, 0, .5f, 0, 0, 0, 0, 1,  /* the lower layer */
                            .6f, .4f, 0, 0,   1, 0, 0, 0, 1,  /* the middle */
                            1,   0,   0, 0,   1, 0, 0, 0, 1}; /* the upper */
    llm_arena arena = rollout_arena();
    CHECK_NEAR(llm_attn_visual_rollout_max_flow(a, 0, 0, 3, 3, &arena), 0.9, 1e-6);
    CHECK_NEAR(llm_attn_visual_rollout_max_flow(a, 0, 1, 3, 3, &arena), 0.5, 1e-6);
    CHECK_NEAR(llm_attn_visual_rollout_max_flow(a, 0, 2, 3, 3, &arena), 0.0, 0.0);
    float half[4] = {0.25f, 0.25f, 0, 0.5f}, mixed[4]; /* rows that sum to 1/2, as with a sink */
    llm_attn_visual_rollout_mix(mixed, half, 1, 1, 2, false);
    CHECK_NEAR(mixed[0], 0.625 / 0.75, 1e-7);
    CHECK_NEAR(mixed[1], 0.125 / 0.75, 1e-7);
    CHECK_NEAR(mixed[3], 1.0, 1e-7);
}

TEST(attn_visual_rollout, "norms of what is carried over equal einsum's") {
    const size_t shapes[3][4] = {{1, 1, 1, 1}, {2, 3, 2, 5}, {3, 4, 1, 2}}; /* H T D C */
    llm_arena arena = rollout_arena();
    for (size_t z = 0; z < 3; z++) {
        const size_t H = shapes[z][0], T = shapes[z][1], D = shapes[z][2], C = shapes[z][3];
        float *norm = floats(T * T), *att = golden("norm%zu/att", T), *below = floats(T * T);
        const float *v = golden("norm%zu/v", T), *wo = golden("norm%zu/wo", T);
        llm_attn_visual_rollout_norm(norm, att, v, wo, H, T, D, C, false, &arena);
        CHECK_GOLDEN(norm, T * T, 1e-6, "norm%zu/norm", T);
        for (size_t n = 0; n < H * T * T; n++)
            if (n % T > n / T % T) att[n] = NAN;
        llm_attn_visual_rollout_norm(below, att, v, wo, H, T, D, C, true, &arena);
        for (size_t n = 0; n < T * T; n++) CHECK(below[n] == (n % T > n / T ? 0.0f : norm[n]));
        CHECK(arena.used == 0);
    }
}

TEST(attn_visual_rollout,
     "a token of large weight and no value: weights see it, norms and removal do not") {
    enum { T = 6, D = 4 };
    for (uint64_t seed = 1; seed <= 8; seed++) {
        llm_rng rng = llm_rng_seed(seed);
        llm_arena arena = rollout_arena();
        float att[T * T], v[T * D], wo[D * D], norm[T * T];
        llm_rng_normal_fill(&rng, att, T * T);
        llm_rng_normal_fill(&rng, v, T * D);
        llm_rng_normal_fill(&rng, wo, D * D);
        for (size_t i = 0; i < T; i++) att[i * T + 2] = 4.0f; /* the planted one */
        llm_softmax_forward(att, att, T, T, 1.0f);
        for (size_t d = 0; d < D; d++) v[2 * D + d] *= 1e-5f;
        llm_attn_visual_rollout_norm(norm, att, v, wo, 1, T, D, D, false, &arena);
        for (size_t i = 0; i < T; i++)
            for (size_t j = 0; j < T; j++) {
                if (j == 2) continue;
                CHECK(att[i * T + 2] > att[i * T + j]);
                CHECK(norm[i * T + 2] < norm[i * T + j]);
                double change[2] = {0.0,
                                    0.0}; /* in the output, when j or the planted one is silent */
                for (size_t k = 0; k < 2; k++)
                    for (size_t c = 0; c < D; c++) {
                        const size_t gone = k ? 2 : j;
                        change[k] +=
                            pow((double)att[i * T + gone] * dot(wo + c * D, v + gone * D, D), 2.0);
                    }
                CHECK(change[1] < change[0]);
            }
    }
}

/* @logit_bias */
#include "../test.h"

#include "../../llm_cuda.cuh"

/* Random rows through guidance, mask and bias, each there or not, beside the reference. */
template <typename T>
static void check_bias(size_t B, size_t V, unsigned what, size_t offset, uint64_t seed) {
    const size_t all = B * V, words = llm_cuda_logit_bias_words(V), room = V + 64;
    float *x = floats(all + offset), *u = floats(all + offset), *got = floats(all);
    uint32_t *mask = (uint32_t *)test_memory(B * words, sizeof(uint32_t));
    int *token = (int *)test_memory(V, sizeof(int));
    float *bias = floats(V);
    llm_arena arena = {(unsigned char *)test_memory(room, 1), room, 0, 0};
    llm_rng rng = llm_rng_seed(seed);
    for (size_t i = 0; i < all + offset; i++) {
        x[i] = 20.0f + 3.0f * llm_rng_normal(&rng), u[i] = -30.0f + 3.0f * llm_rng_normal(&rng);
        if (llm_rng_below(&rng, 9) == 0) x[i] = -INFINITY;
        if (llm_rng_below(&rng, 9) == 0) u[i] = -INFINITY;
    }
    for (size_t b = 0; b < B; b++) x[offset + b * V + V / 2] = u[offset + b * V + V / 2] = 1.0f;
    for (size_t i = 0; i < B * words; i++) mask[i] = llm_rng_u32(&rng);
    size_t biases = 0;
    for (size_t v = 0; v < V; v++) {
        if (llm_rng_below(&rng, 3) > 0) continue;
        token[biases] = (int)v;
        bias[biases++] = llm_rng_below(&rng, 4) ? llm_rng_normal(&rng) : -INFINITY;
    }
    T *d_x = to_device_as<T>(x, all + offset) + offset;
    llm_cuda_logit_bias_config<T> c = llm_cuda_logit_bias_defaults<T>();
    if (what & 1) c.unconditional = to_device_as<T>(u, all + offset) + offset, c.strength = 1.5f;
    if (what & 2) c.mask = to_device(mask, B * words);
    if (what & 4) c.token = to_device(token, V), c.bias = to_device(bias, V), c.biases = biases;
    CHECK_CUDA(llm_cuda_logit_bias_apply(d_x, B, V, &c, 0));
    from_device_as(got, d_x, all);
    int *allowed = (int *)test_memory(V, sizeof(int));
    for (size_t b = 0; b < B; b++) {
        float *z = x + offset + b * V;
        size_t n = 0;
        for (size_t v = 0; v < V; v++)
            if (mask[b * words + v / 32] >> v % 32 & 1) allowed[n++] = (int)v;
        if (what & 1) llm_logit_bias_guidance(z, z, u + offset + b * V, V, c.strength);
        if (what & 2) llm_logit_bias_allow(z, V, allowed, n, &arena);
        if (what & 4) llm_logit_bias_apply(z, V, token, bias, biases);
        for (size_t v = 0; v < V; v++) {
            CHECK((z[v] == -INFINITY) == (got[b * V + v] == -INFINITY));
            if (z[v] == -INFINITY) continue;
            const float near = 2e-5f + 2.0f * unit_of<T>() * (1.0f + 2.0f * fabsf(z[v]));
            CHECK_NEAR(got[b * V + v], z[v], near);
        }
    }
}

TEST(logit_bias, "guidance, mask and bias, each there or not, are the reference's") {
    const size_t V[6] = {8, 1, 33, 100, 64, 260};
    for (unsigned round = 0; round < (TEST_SLOW ? 8 : 24); round++) {
        check_bias<float>(3, V[round % 6], round % 8, round / 8 % 2, round);
        check_bias<llm_bf16>(2, V[round % 6], round % 8, round / 8 % 3, round + 100);
    }
    if (TEST_SLOW) return;
    for (unsigned what = 3; what < 9; what += 4) /* more than a block's stretch */
        check_bias<float>(1, what == 3 ? 4200 : 1051, what, 0, 200 + what);
}

TEST(logit_bias, "strength 1 is log-softmax, 0 the other row's; what only the other bans keeps c") {
    float x[4] = {logf(0.5f), logf(0.25f), logf(0.25f), -INFINITY};
    float u[4] = {logf(0.125f) + 9.0f, logf(0.875f) + 9.0f, -INFINITY, 0.0f};
    u[3] = -200.0f;
    llm_cuda_logit_bias_config<float> c = llm_cuda_logit_bias_defaults<float>();
    CHECK(c.strength == 1.0f && !c.mask && c.biases == 0);
    c.unconditional = to_device(u, 4);
    for (int s = 0; s < 3; s++) {
        float got[4], *d_x = to_device(x, 4);
        c.strength = (float)s;
        CHECK_CUDA(llm_cuda_logit_bias_apply(d_x, 1, 4, &c, 0));
        from_device(got, d_x, 4);
        const float first = s == 0 ? 0.125f : s == 1 ? 0.5f : 0.5f * 0.5f / 0.125f;
        const float second = s == 0 ? 0.875f : s == 1 ? 0.25f : 0.25f * 0.25f / 0.875f;
        CHECK_NEAR(got[0], logf(first), 2e-6f);
        CHECK_NEAR(got[1], logf(second), 2e-6f);
        CHECK_NEAR(got[2], logf(0.25f), 2e-6f);
        CHECK(got[3] == -INFINITY);
    }
    c.unconditional = NULL; /* a mask without anything else: bit 31 and bit 32 */
    float *z = zeros(40);
    const uint32_t mask[2] = {0x80000001u, 0x01u};
    c.mask = to_device(mask, 2);
    float *d_z = to_device(z, 40);
    CHECK_CUDA(llm_cuda_logit_bias_apply(d_z, 1, 40, &c, 0));
    from_device(z, d_z, 40);
    for (int v = 0; v < 40; v++) CHECK(z[v] == (v == 0 || v == 31 || v == 32 ? 0.0f : -INFINITY));
    CHECK_CUDA(llm_cuda_logit_bias_apply(d_z, 0, 40, &c, 0));
    CHECK_CUDA(llm_cuda_logit_bias_apply(d_z, 1, 0, &c, 0));
}

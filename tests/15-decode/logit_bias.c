/* @logit_bias */
#include "../test.h"

#include "../../llm.h"

#include "../arena.h"

TEST(logit_bias,
     "sequences equal transformers' processor: the last token, where its prefix stands") {
    for (size_t i = 0; i < 3; i++) {
        const size_t V = (size_t)golden("%zu/V", i)[0];
        size_t T = 0, n = 0, total = 0;
        const float *ids = golden_n(&T, "%zu/ids", i), *bias = golden_n(&n, "%zu/bias", i);
        const size_t *size = as_sizes(golden("%zu/size", i), n);
        const float *all = golden_n(&total, "%zu/sequence", i);
        const int *sequence = as_ints(all, total);
        float *z = golden("%zu/z", i);
        for (size_t k = 0; k < n; sequence += size[k++])
            llm_logit_bias_sequence(z, V, as_ints(ids, T), T, sequence, size[k], bias[k]);
        CHECK_GOLDEN(z, V, 1e-6f, "%zu/out", i);
    }
    float z[2] = {0.0f, 0.0f};
    const int bad[2] = {2, -1}, text[1] = {0};
    CHECK_ASSERTS(llm_logit_bias_sequence(z, 2, text, 1, bad, 0, 1.0f));
    CHECK_ASSERTS(llm_logit_bias_sequence(z, 2, text, 1, bad, 1, 1.0f));
    CHECK_ASSERTS(llm_logit_bias_sequence(z, 2, text, 1, bad, 2, 1.0f));
}

TEST(logit_bias, "guidance equals transformers' processor, and its bans") {
    for (size_t i = 0; i < 4; i++) {
        size_t V = 0;
        float *c = golden_n(&V, "guidance%zu/c", i), *u = golden("guidance%zu/u", i);
        float *out = floats(V);
        const float s = golden("guidance%zu/s", i)[0];
        llm_logit_bias_guidance(out, c, u, V, s);
        CHECK_GOLDEN(out, V, 3e-6f, "guidance%zu/out", i);
        llm_logit_bias_guidance(u, c, u, V, s); /* in place */
        CHECK_GOLDEN(u, V, 3e-6f, "guidance%zu/out", i);
        llm_logit_bias_guidance(out, c, c, V, s); /* a prompt that changes nothing */
        llm_softmax_log_forward(c, c, 1, V);
        CHECK_ALL_NEAR(out, c, V, 1e-6f);
    }
    const float c[4] = {0.0f, -INFINITY, 0.0f, -INFINITY};
    const float u[4] = {1.0f, 0.0f, -INFINITY, -INFINITY};
    float out[4];
    llm_logit_bias_guidance(out, c, u, 4, 2.0f);
    CHECK(out[1] == -INFINITY && out[3] == -INFINITY);
    CHECK_NEAR(out[2], -log(2.0), 1e-6);
    CHECK(isfinite(out[0]));
    llm_logit_bias_guidance(out, c, u, 4, 0.0f); /* without the prompt, bans stand too */
    CHECK(out[1] == -INFINITY && out[3] == -INFINITY);
    CHECK_NEAR(out[0], -log(1.0 + exp(-1.0)), 1e-6);
}

TEST(logit_bias, "a map shifts, -100 bans, ban and allow lists leave exactly their support") {
    enum { V = 9 };
    llm_arena arena = test_arena(64);
    for (unsigned set = 0; set < 1u << V; set++) {
        int token[V];
        size_t n = 0;
        float z[3][V], bias[V];
        for (size_t v = 0; v < V; v++) {
            z[0][v] = z[1][v] = z[2][v] = (float)v - 4.0f;
            if (set >> v & 1) token[n++] = (int)v;
        }
        for (size_t i = 0; i < n; i++) bias[i] = i == 0 ? -100.0f : (float)i;
        llm_logit_bias_apply(z[0], V, token, bias, n);
        llm_logit_bias_ban(z[1], V, token, n);
        llm_logit_bias_allow(z[2], V, token, n, &arena);
        for (size_t v = 0, i = 0; v < V; v++) {
            const bool in = set >> v & 1;
            const float was = (float)v - 4.0f;
            CHECK(z[0][v] == (in ? was + bias[i] : was));
            CHECK(z[1][v] == (in ? -INFINITY : was) && z[2][v] == (in ? was : -INFINITY));
            i += in;
        }
    }
    CHECK(arena.used == 0);
    llm_rng rng = llm_rng_seed(1);
    float z[3] = {40.0f, 0.0f, 0.0f};
    const int zero = 0;
    const float ban = -100.0f;
    llm_logit_bias_apply(z, 3, &zero, &ban, 1);
    for (size_t i = 0; i < 1000; i++) CHECK(llm_sampling_draw(z, 3, &rng) != 0);
    const int bad[2] = {3, -1};
    for (size_t i = 0; i < 2; i++) {
        CHECK_ASSERTS(llm_logit_bias_apply(z, 3, bad + i, &ban, 1));
        CHECK_ASSERTS(llm_logit_bias_ban(z, 3, bad + i, 1));
        CHECK_ASSERTS(llm_logit_bias_allow(z, 3, bad + i, 1, &arena));
    }
}

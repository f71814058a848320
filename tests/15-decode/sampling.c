/* @sampling */
#include "../test.h"

#include "../../llm.h"

static llm_arena sampling_scratch(void) {
    llm_arena arena;
    memset(&arena, 0, sizeof arena);
    arena.size = 1 << 16;
    arena.memory = (unsigned char *)test_memory(arena.size, 1);
    return arena;
}

TEST(sampling, "the final distribution equals transformers' list and llama.cpp's order") {
    llm_sampling_config settings[2][3];
    const llm_sampling_config off = llm_sampling_defaults();
    CHECK(off.temperature == 1.0f && off.top_p == 1.0f && off.typical == 1.0f);
    CHECK(off.top_k == 0.0f && off.min_p == 0.0f && off.epsilon == 0.0f && off.eta == 0.0f);
    CHECK(off.top_n_sigma == 0.0f);
    for (size_t i = 0; i < 6; i++) settings[i / 3][i % 3] = off;
    for (size_t i = 0; i < 2; i++) {
        llm_sampling_config *c = settings[i];
        c[0].temperature = 0.7f, c[0].top_k = 20.0f, c[0].top_p = 0.9f;
        c[1].temperature = 1.5f, c[1].top_p = 0.8f, c[1].min_p = 0.05f;
        c[2].temperature = 1.3f, c[2].typical = 0.7f, c[2].top_k = i ? 12.0f : 8.0f;
    }
    settings[0][2].epsilon = settings[0][2].eta = 1e-2f;
    settings[0][2].eta = 2e-2f;
    settings[1][2].top_n_sigma = 1.5f;
    llm_arena arena = sampling_scratch();
    size_t same = 0;
    for (size_t row = 0; row < 4; row++)
        for (size_t i = 0; i < 3; i++) {
            const float *z = golden("%zu/z", row);
            float p[2][40];
            for (size_t llama = 0; llama < 2; llama++) {
                llm_sampling_step chain[8];
                const size_t n = llm_sampling_preset(chain, &settings[llama][i], llama);
                memcpy(p[llama], z, sizeof p[0]);
                llm_sampling_chain(p[llama], 40, chain, n, &arena);
                llm_softmax_forward(p[llama], p[llama], 1, 40, 1.0f);
                CHECK_GOLDEN(p[llama], 40, 1e-6f, "%zu/%zu/%s", row, i,
                             llama ? "llama" : "transformers");
            }
            for (size_t v = 0; v < 40; v++) same += (p[0][v] > 0.0f) == (p[1][v] > 0.0f);
        }
    CHECK(same < 4 * 3 * 40 && arena.used == 0); /* the order matters */
}

TEST(sampling, "a preset lists what is switched on, in its order, and nothing by default") {
    llm_sampling_step chain[8];
    llm_sampling_config c = llm_sampling_defaults();
    CHECK(llm_sampling_preset(chain, &c, false) == 0 && llm_sampling_preset(chain, &c, true) == 0);
    c.temperature = 0.5f, c.top_k = 3.0f, c.top_p = 0.4f, c.min_p = 0.1f, c.typical = 0.2f;
    c.epsilon = 0.01f, c.eta = 0.02f, c.top_n_sigma = 2.0f;
    const float order[2][8] = {{0.5f, 3.0f, 0.4f, 0.1f, 0.2f, 0.01f, 0.02f, 2.0f},
                               {2.0f, 3.0f, 0.2f, 0.4f, 0.1f, 0.01f, 0.02f, 0.5f}};
    for (size_t llama = 0; llama < 2; llama++) {
        CHECK(llm_sampling_preset(chain, &c, llama) == 8);
        for (size_t i = 0; i < 8; i++) CHECK(chain[i].value == order[llama][i]);
    }
    for (size_t rule = 0; rule < 2; rule++) { /* each rule by itself: 0.01 falls to both */
        float y[3] = {logf(0.7f), logf(0.29f), logf(0.01f)};
        llm_arena scratch = sampling_scratch();
        c = llm_sampling_defaults();
        *(rule ? &c.epsilon : &c.eta) = 0.02f;
        llm_sampling_chain(y, 3, chain, llm_sampling_preset(chain, &c, false), &scratch);
        CHECK(y[1] > -INFINITY && y[2] == -INFINITY);
    }
    /* 0.6 and 0.3 reach 0.9; flattened by temperature 3 they do not */
    float z[3] = {logf(0.62f), logf(0.3f), logf(0.08f)}, w[3];
    llm_arena arena = sampling_scratch();
    memcpy(w, z, sizeof z);
    c = llm_sampling_defaults();
    c.temperature = 3.0f, c.top_p = 0.9f;
    llm_sampling_chain(z, 3, chain, llm_sampling_preset(chain, &c, true), &arena);
    llm_sampling_chain(w, 3, chain, llm_sampling_preset(chain, &c, false), &arena);
    CHECK(z[2] == -INFINITY && w[2] > -INFINITY);
}

/* Pearson's statistic of counts against N p; tokens of probability 0 must not occur. */
static double sampling_chi(const size_t *count, const float *p, size_t V, size_t N) {
    double chi = 0.0;
    for (size_t i = 0; i < V; i++) {
        const double want = (double)N * (double)p[i], off = (double)count[i] - want;
        if (p[i] == 0.0f) CHECK(count[i] == 0);
        if (p[i] > 0.0f) chi += off * off / want;
    }
    return chi;
}

TEST(sampling,
     "the walk and the alias table draw from the distribution: chi-square, 100000 draws") {
    enum { V = 9, N = 100000 };
    const float z[V] = {0.0f, 2.0f, -1.0f, -INFINITY, 1.0f, 0.5f, -3.0f, 2.0f, -INFINITY};
    float p[V], keep[V];
    size_t walk[V] = {0}, alias[V] = {0}, other[V];
    llm_rng rng = llm_rng_seed(8);
    llm_arena arena = sampling_scratch();
    llm_softmax_forward(p, z, 1, V, 1.0f);
    llm_sampling_alias(keep, other, p, V, &arena);
    for (size_t i = 0; i < N; i++) {
        walk[llm_sampling_draw(z, V, &rng)]++;
        alias[llm_sampling_alias_draw(keep, other, V, &rng)]++;
    }
    CHECK(sampling_chi(walk, p, V, N) < 22.5); /* 6 degrees of freedom: 1 seed in 1000 is above */
    CHECK(sampling_chi(alias, p, V, N) < 22.5);
}

TEST(sampling, "the alias table holds exactly the distribution, whatever it is") {
    llm_rng rng = llm_rng_seed(9);
    llm_arena arena = sampling_scratch();
    for (size_t round = 0; round < 500; round++) {
        float p[30], keep[30];
        double got[30] = {0.0};
        size_t other[30];
        const size_t V = 1 + llm_rng_below(&rng, 30);
        for (size_t i = 0; i < V; i++) p[i] = 4.0f * llm_rng_normal(&rng);
        if (round % 3 == 0)
            for (size_t i = 0; i < V; i++) p[i] = 1.0f;
        llm_softmax_forward(p, p, 1, V, 1.0f);
        llm_sampling_alias(keep, other, p, V, &arena);
        for (size_t i = 0; i < V; i++) {
            CHECK(other[i] < V);
            const double k = fmin(1.0, (double)keep[i]);
            got[i] += k / (double)V;
            got[other[i]] += (1.0 - k) / (double)V;
        }
        for (size_t i = 0; i < V; i++) CHECK_NEAR(got[i], p[i], 2e-6); /* V float differences */
    }
    CHECK(arena.used == 0);
}

TEST(sampling, "same seed, same tokens; the ends of the walk; nothing to draw is -1") {
    const float z[4] = {1.0f, 0.0f, 0.5f, -1.0f}, none[2] = {-INFINITY, -INFINITY};
    const float nan[2] = {0.0f, NAN}, last[3] = {-INFINITY, -INFINITY, -1e4f};
    llm_rng a = llm_rng_seed(3), b = llm_rng_seed(3);
    for (size_t i = 0; i < 200; i++)
        CHECK(llm_sampling_draw(z, 4, &a) == llm_sampling_draw(z, 4, &b));
    CHECK(llm_sampling_draw(none, 2, &a) == -1);
    CHECK(llm_sampling_draw(nan, 2, &a) == -1);
    for (size_t i = 0; i < 100; i++) CHECK(llm_sampling_draw(last, 3, &a) == 2);
}

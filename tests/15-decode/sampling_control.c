/* @sampling_control */
#include "../test.h"

#include "../../llm.h"

static llm_arena control_scratch(void) {
    llm_arena arena;
    memset(&arena, 0, sizeof arena);
    arena.size = 1 << 16;
    arena.memory = (unsigned char *)test_memory(arena.size, 1);
    return arena;
}

TEST(sampling_control, "XTC removes the probable tokens but the least of them, as often as asked") {
    const float p[5] = {0.4f, 0.05f, 0.25f, 0.2f, 0.1f};
    float z[5], y[5];
    llm_arena arena = control_scratch();
    llm_rng rng = llm_rng_seed(1);
    for (size_t i = 0; i < 5; i++) z[i] = logf(p[i]);
    memcpy(y, z, sizeof z);
    llm_sampling_control_xtc(y, 5, 0.15f, 1.0f, &rng, &arena);
    for (size_t i = 0; i < 5; i++) CHECK(y[i] == (i == 0 || i == 2 ? -INFINITY : z[i]));
    for (size_t turn = 1; turn < 5; turn++) { /* wherever the least of them stands */
        for (size_t i = 0; i < 5; i++) y[(i + turn) % 5] = z[i];
        llm_sampling_control_xtc(y, 5, 0.15f, 1.0f, &rng, &arena);
        for (size_t i = 0; i < 5; i++)
            CHECK(y[(i + turn) % 5] == (i == 0 || i == 2 ? -INFINITY : z[i]));
    }
    memcpy(y, z, sizeof z);
    llm_sampling_control_xtc(y, 5, 0.3f, 1.0f, &rng, &arena); /* only one token is that probable */
    CHECK_ALL_NEAR(y, z, 5, 0.0f);
    llm_sampling_control_xtc(y, 5, 0.5f, 1.0f, &rng, &arena); /* none is */
    llm_sampling_control_xtc(y, 5, 0.01f, 0.0f, &rng, &arena);
    CHECK_ALL_NEAR(y, z, 5, 0.0f);
    size_t cut = 0;
    for (size_t i = 0; i < 10000; i++) {
        memcpy(y, z, sizeof z);
        llm_sampling_control_xtc(y, 5, 0.15f, 0.3f, &rng, &arena);
        cut += y[0] == -INFINITY;
    }
    CHECK_NEAR((double)cut, 3000.0, 4.0 * sqrt(10000.0 * 0.3 * 0.7));
    CHECK(arena.used == 0);
}

TEST(sampling_control, "Mirostat holds the mean surprise within 5% of tau") {
    llm_arena arena = control_scratch();
    const float taus[3] = {1.5f, 3.0f, 5.0f};
    for (size_t k = 0; k < 3; k++) {
        enum { V = 500, T = 4000 };
        llm_rng rng = llm_rng_seed(k);
        float mu = 2.0f * taus[k];
        double sum = 0.0;
        for (size_t t = 0; t < T; t++) { /* Zipf's law, now flat, now steep */
            float kept[V];
            const float slope = 0.8f + 0.5f * llm_rng_uniform(&rng);
            for (size_t i = 0; i < V; i++) kept[i] = -slope * logf((float)i + 1.0f);
            const int token =
                llm_sampling_control_mirostat(&mu, kept, V, taus[k], 0.1f, &rng, &arena);
            llm_softmax_forward(kept, kept, 1, V, 1.0f); /* what was drawn from */
            CHECK(token >= 0 && kept[token] > 0.0f);
            if (t >= 200) sum -= log2((double)kept[token]);
        }
        CHECK_NEAR(sum / (T - 200), taus[k], 0.05 * (double)taus[k]);
    }
}

TEST(sampling_control, "Mirostat cuts at mu, keeps the first token at the least, moves mu by eta") {
    llm_arena arena = control_scratch();
    llm_rng rng = llm_rng_seed(2);
    float z[4] = {logf(0.125f), logf(0.5f), logf(0.25f), logf(0.125f)}, mu = 2.5f;
    const int token = llm_sampling_control_mirostat(&mu, z, 4, 3.0f, 0.5f, &rng, &arena);
    CHECK(z[0] == -INFINITY && z[3] == -INFINITY && z[1] > -INFINITY && z[2] > -INFINITY);
    const double surprise = token == 1 ? -log2(2.0 / 3.0) : -log2(1.0 / 3.0);
    CHECK_NEAR(mu, 2.5 - 0.5 * (surprise - 3.0), 1e-6);
    mu = -1.0f; /* lets nothing through */
    CHECK(llm_sampling_control_mirostat(&mu, z, 4, 3.0f, 0.5f, &rng, &arena) == 1);
    CHECK_NEAR(mu, -1.0 + 0.5 * 3.0, 1e-6);
    float none[2] = {-INFINITY, NAN};
    mu = 1.0f;
    CHECK(llm_sampling_control_mirostat(&mu, none, 2, 3.0f, 0.5f, &rng, &arena) == -1 &&
          mu == 1.0f);
    CHECK(arena.used == 0);
}

TEST(sampling_control,
     "without replacement: the law of ordered pairs, chi-square over 60000 draws") {
    enum { V = 4, N = 60000 };
    const float p[V] = {0.5f, 0.2f, 0.2f, 0.1f};
    float z[V];
    size_t count[V * V] = {0}, all[V];
    llm_rng rng = llm_rng_seed(4);
    llm_arena arena = control_scratch();
    for (size_t i = 0; i < V; i++) z[i] = logf(p[i]) + 7.0f; /* any constant may be added */
    for (size_t i = 0; i < N; i++) {
        size_t pair[2];
        llm_sampling_control_distinct(pair, z, V, 2, &rng, &arena);
        count[pair[0] * V + pair[1]]++;
    }
    double chi = 0.0;
    for (size_t a = 0; a < V; a++)
        for (size_t b = 0; b < V; b++) {
            const double want = N * (double)p[a] * (double)p[b] / (1.0 - (double)p[a]);
            const double off = (double)count[a * V + b] - want;
            if (a == b) CHECK(count[a * V + b] == 0);
            if (a != b) chi += off * off / want;
        }
    CHECK(chi < 31.3); /* 11 degrees of freedom: 1 seed in 1000 is above */
    llm_sampling_control_distinct(all, z, V, V, &rng, &arena);
    CHECK(all[0] + all[1] + all[2] + all[3] == 6);
    CHECK(arena.used == 0);
}

TEST(sampling_control, "at the thresholds themselves: a token as probable as asked for is in") {
    llm_arena arena = control_scratch();
    llm_rng rng = llm_rng_seed(6);
    const float even[4] = {0.0f, 0.0f, 0.0f, 0.0f}; /* exactly a quarter each, 2 bits */
    float z[4], mu = 2.0f;
    memcpy(z, even, sizeof z);
    llm_sampling_control_xtc(z, 4, 0.25f, 1.0f, &rng, &arena);
    for (size_t i = 0; i < 4; i++) CHECK(z[i] == (i == 0 ? 0.0f : -INFINITY)); /* ties: the first */
    memcpy(z, even, sizeof z);
    llm_sampling_control_mirostat(&mu, z, 4, 2.0f, 0.1f, &rng, &arena);
    CHECK_ALL_NEAR(z, even, 4, 0.0f);
    llm_rng same = rng;
    const float u = llm_rng_uniform(&same); /* the number that is about to be drawn */
    llm_sampling_control_xtc(z, 4, 0.25f, u, &rng, &arena);
    CHECK_ALL_NEAR(z, even, 4, 0.0f);
}

TEST(sampling_control, "the noise is that of the middle of each step of the grid") {
    llm_arena arena = control_scratch();
    size_t found = 0;
    for (uint64_t seed = 0; found < 3; seed++) { /* small u: where a step changes the noise most */
        llm_rng rng = llm_rng_seed(seed);
        double g[2], u[2];
        for (size_t i = 0; i < 2; i++) {
            u[i] = ((double)(llm_rng_u32(&rng) >> 9) + 0.5) / 8388608.0;
            g[i] = -log(-log(u[i]));
        }
        if (u[0] > 1e-3) continue;
        found++;
        const double step = 1.0 / 8388608.0 / (u[0] * -log(u[0])); /* of the noise */
        for (int side = -1; side <= 1; side += 2) {
            const float z[2] = {0.0f, (float)(g[0] - g[1] + 0.25 * side * step)};
            size_t order[2] = {9, 9};
            rng = llm_rng_seed(seed);
            llm_sampling_control_distinct(order, z, 2, 2, &rng, &arena);
            CHECK(order[0] == (side > 0) && order[1] == (side < 0));
        }
    }
}

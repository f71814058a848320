/* @adamw */
#include "../test.h"

#include "../../llm.h"

static llm_adamw_config adamw_config(const float *f) {
    llm_adamw_config c;
    c.lr = f[0], c.beta1 = f[1], c.beta2 = f[2], c.eps = f[3], c.weight_decay = f[4];
    return c;
}

TEST(adamw, "50 steps equal torch.optim.AdamW: weights at each, moments at the end") {
    const size_t sizes[3] = {1, 5, 7};
    for (size_t s = 0; s < 3; s++) {
        const size_t n = sizes[s];
        const llm_adamw_config c = adamw_config(golden("%zu/config", n));
        const float *g = golden("%zu/g", n);
        float *w = floats(50 * n), *m = zeros(n), *v = zeros(n), *now = floats(n);
        memcpy(now, golden("%zu/w0", n), n * sizeof(float));
        for (size_t t = 1; t <= 50; t++) {
            llm_adamw_step(now, m, v, g + (t - 1) * n, n, &c, t);
            memcpy(w + (t - 1) * n, now, n * sizeof(float));
        }
        CHECK_GOLDEN(w, 50 * n, 3e-6f, "%zu/path", n); /* 50 roundings of a weight of size 1 */
        CHECK_GOLDEN(m, n, 2e-6f, "%zu/m", n);
        CHECK_GOLDEN(v, n, 2e-6f, "%zu/v", n);
    }
}

TEST(adamw, "the defaults are torch's; t counts from 1") {
    const llm_adamw_config c = llm_adamw_defaults();
    CHECK(c.lr == 1e-3f && c.beta1 == 0.9f && c.beta2 == 0.999f && c.eps == 1e-8f);
    CHECK(c.weight_decay == 1e-2f);
    float x[1] = {0.0f};
    double sum = 0.0;
    CHECK_ASSERTS(llm_adamw_step(x, x, x, x, 1, &c, 0));
    CHECK_ASSERTS(llm_adamw_schedule_free(x, x, x, x, 1, &c, 0, 0, &sum));
    llm_adamw_config bare = c;
    bare.beta1 = 0.0f; /* y would be z, and x nowhere */
    CHECK_ASSERTS(llm_adamw_schedule_free(x, x, x, x, 1, &bare, 0, 1, &sum));
}

TEST(adamw, "the first step has length lr for any betas; without gradient w shrinks by 1 - lr wd") {
    const float betas[3][2] = {{0.9f, 0.999f}, {0.0f, 0.5f}, {0.99f, 0.9f}};
    for (size_t k = 0; k < 3; k++) {
        llm_adamw_config c = llm_adamw_defaults();
        c.beta1 = betas[k][0], c.beta2 = betas[k][1], c.weight_decay = 0.0f, c.lr = 0.25f;
        const float g[3] = {1e-3f, -7.0f, 1e6f};
        float w[3] = {0.0f, 0.0f, 0.0f}, m[3] = {0.0f}, v[3] = {0.0f};
        llm_adamw_step(w, m, v, g, 3, &c, 1);
        const float want[3] = {-0.25f, 0.25f, -0.25f};
        CHECK_ALL_NEAR(w, want, 3, 1e-5f);
    }
    llm_adamw_config c = llm_adamw_defaults();
    c.weight_decay = 0.5f, c.lr = 0.1f;
    float w[1] = {2.0f}, zero[1] = {0.0f}, m[1] = {0.0f}, v[1] = {0.0f};
    for (size_t t = 1; t <= 20; t++) llm_adamw_step(w, m, v, zero, 1, &c, t);
    CHECK_NEAR(w[0], 2.0 * pow(0.95, 20.0), 1e-6);
}

TEST(adamw, "decay is the same for small and large gradients; as L2 in the gradient it is not") {
    llm_rng rng = llm_rng_seed(1);
    float w[2] = {1.0f, 1.0f}, l2[2] = {1.0f, 1.0f}, state[8] = {0.0f};
    llm_adamw_config c = llm_adamw_defaults(), plain = c;
    c.weight_decay = 1.0f, plain.weight_decay = 0.0f;
    for (size_t t = 1; t <= 300; t++) { /* noise of scale 1 and 100: no direction but the decay's */
        const float g[2] = {llm_rng_normal(&rng), 100.0f * llm_rng_normal(&rng)};
        const float with[2] = {g[0] + l2[0], g[1] + l2[1]};
        llm_adamw_step(w, state, state + 2, g, 2, &c, t);
        llm_adamw_step(l2, state + 4, state + 6, with, 2, &plain, t);
    }
    CHECK_NEAR(w[0], pow(0.999, 300.0), 0.03);
    CHECK_NEAR(w[1], w[0], 0.06);
    CHECK(1.0f - l2[0] > 0.1f && 1.0f - l2[1] < 0.1f * (1.0f - w[1]));
}

TEST(adamw, "rounding by chance is right on average, exact on bf16, and leaves infinity and NaN") {
    llm_rng rng = llm_rng_seed(2);
    const float x = 1.0f + 0.3f / 128.0f; /* three tenths of the way to the next bf16 */
    double sum = 0.0;
    for (size_t i = 0; i < 100000; i++) {
        const float y = llm_adamw_round(x, llm_rng_u32(&rng));
        CHECK(y == 1.0f || y == 1.0f + 1.0f / 128.0f);
        sum += (double)y;
    }
    CHECK_NEAR(sum / 1e5, x, 4.0 * 0.46 / 128.0 / sqrt(1e5));
    CHECK(llm_adamw_round(-1.5f, 0xffffffffu) == -1.5f &&
          llm_adamw_round(0.0f, 0xffffffffu) == 0.0f);
    CHECK(llm_adamw_round(INFINITY, 0xffffffffu) == INFINITY &&
          isnan(llm_adamw_round(NAN, 0xffffu)));
    const uint32_t ones = 0x7fffffffu; /* a NaN that a carry would turn into -0 */
    float nan;
    memcpy(&nan, &ones, sizeof nan);
    CHECK(isnan(llm_adamw_round(nan, 0xffffu)));
    CHECK(llm_adamw_round(FLT_MAX, 0xffffu) == INFINITY && llm_adamw_round(FLT_MAX, 0) < FLT_MAX);
}

TEST(adamw, "at lr 1e-5 a bf16 weight moves with rounding by chance and stalls without") {
    enum { N = 21 };
    llm_adamw_config c = llm_adamw_defaults();
    c.lr = 1e-5f, c.weight_decay = 0.0f;
    float w[N], nearest[N], g[N], state[4 * N] = {0.0f};
    for (size_t i = 0; i < N; i++) w[i] = nearest[i] = g[i] = 1.0f;
    double mean = 0.0;
    for (size_t t = 1; t <= 400; t++) {
        llm_adamw_step_bf16(w, state, state + N, g, N, &c, t, 9);
        llm_adamw_step(nearest, state + 2 * N, state + 3 * N, g, N, &c, t);
        for (size_t i = 0; i < N; i++)
            nearest[i] = roundf(nearest[i] * 256.0f) / 256.0f; /* the grid below 1 */
    }
    for (size_t i = 0; i < N; i++) {
        mean += (double)w[i] / N;
        CHECK(nearest[i] == 1.0f);
    }
    CHECK_NEAR(mean, 1.0 - 400e-5, 0.0015); /* 21 walks of about one step of 1/256 */
    bool differ = false;
    for (size_t i = 1; i < N; i++) differ |= w[i] != w[0];
    CHECK(differ); /* each element has its own bits */
}

TEST(adamw, "the bits of element i come from its Philox block, wherever the vector is cut") {
    enum { N = 19 };
    llm_adamw_config c = llm_adamw_defaults();
    float w[N], want[N], state[4 * N] = {0.0f}, g[N];
    llm_rng rng = llm_rng_seed(3);
    llm_rng_normal_fill(&rng, w, N);
    llm_rng_normal_fill(&rng, g, N);
    memcpy(want, w, sizeof w);
    const uint64_t seed = 0x123456789abcdefull;
    for (uint32_t high = 0; high < 3; high += 2) { /* t = 5, and 2^33 + 5 */
        const uint64_t t = ((uint64_t)high << 32) + 5;
        llm_adamw_step_bf16(w, state, state + N, g, N, &c, (size_t)t, seed);
        llm_adamw_step(want, state + 2 * N, state + 3 * N, g, N, &c, (size_t)t);
        for (size_t i = 0; i < N; i++) {
            const uint32_t key[2] = {0x89abcdefu, 0x01234567u};
            const uint32_t at[4] = {(uint32_t)(i / 8), 0, 5, high};
            uint32_t word[4];
            llm_rng_philox(word, at, key);
            const uint32_t both = word[(i % 8) / 2], bits = i % 2 ? both >> 16 : both & 0xffff;
            CHECK(w[i] == llm_adamw_round(want[i], bits));
            want[i] = w[i];
        }
    }
}

TEST(adamw, "schedule-free AdamW equals its algorithm with x, y and z apart") {
    const size_t sizes[3] = {1, 5, 7};
    for (size_t s = 0; s < 3; s++) {
        const size_t n = sizes[s];
        const llm_adamw_config c = adamw_config(golden("%zu/config", n));
        const float *g = golden("%zu/g", n);
        float *y = floats(n), *z = floats(n), *v = zeros(n), *x = floats(n), *at = floats(3 * n);
        double sum = 0.0;
        memcpy(y, golden("%zu/w0", n), n * sizeof(float));
        memcpy(z, y, n * sizeof(float));
        for (size_t t = 1; t <= 50; t++) {
            llm_adamw_schedule_free(y, z, v, g + (t - 1) * n, n, &c, 10, t, &sum);
            if (t == 1 || t == 10 || t == 50)
                memcpy(at + (t == 1 ? 0 : t == 10 ? n : 2 * n), y, n * sizeof(float));
        }
        for (size_t i = 0; i < n; i++) x[i] = (y[i] - (1.0f - c.beta1) * z[i]) / c.beta1;
        CHECK_GOLDEN(at, 3 * n, 5e-6f, "%zu/free/y", n);
        CHECK_GOLDEN(x, n, 1e-5f, "%zu/free/x", n); /* the division by beta1 doubles what y lost */
    }
}

TEST(adamw, "a run resumed from files of weights, moments and step goes on bit for bit") {
    enum { N = 7 };
    llm_error error;
    char path[3][64];
    const llm_adamw_config c = adamw_config(golden("7/config"));
    const float *g = golden("7/g");
    float whole[3][N], *array[3] = {whole[0], whole[1], whole[2]}; /* w, m, v */
    memset(whole, 0, sizeof whole);
    memcpy(whole[0], golden("7/w0"), sizeof whole[0]);
    const size_t shape[1] = {N}, stop = 13;
    for (size_t t = 1; t <= 50; t++) {
        llm_adamw_step(array[0], array[1], array[2], g + (t - 1) * N, N, &c, t);
        for (size_t k = 0; t == stop && k < 3; k++) {
            snprintf(path[k], sizeof path[k], "/tmp/llm_adamw_%d_%zu.npy", (int)getpid(), k);
            CHECK(llm_npy_write(path[k], array[k], LLM_NPY_F32, shape, 1, &error));
        }
    }
    float again[3][N];
    for (size_t k = 0; k < 3; k++) {
        llm_npy file;
        CHECK(llm_npy_open(&file, path[k], &error));
        CHECK(llm_npy_floats(again[k], &file, N, &error));
        llm_npy_close(&file);
        remove(path[k]);
    }
    for (size_t t = stop + 1; t <= 50; t++)
        llm_adamw_step(again[0], again[1], again[2], g + (t - 1) * N, N, &c, t);
    for (size_t k = 0; k < 3; k++) CHECK_ALL_NEAR(again[k], whole[k], N, 0.0f);
    memset(again[1], 0, sizeof again[1]); /* without its states it is another run */
    CHECK(memcmp(again[1], whole[1], sizeof again[1]) != 0);
}

TEST(adamw, "two groups, of which only the matrices decay, equal torch's") {
    const float *g = golden("groups/g"), *f = golden("groups/config");
    llm_adamw_config decays = adamw_config(f), stays = decays;
    stays.weight_decay = 0.0f, stays.lr = f[5];
    float w[9], m[9] = {0.0f}, v[9] = {0.0f};
    memcpy(w, golden("groups/w0"), sizeof w);
    for (size_t t = 1; t <= 50;
         t++) { /* a matrix (2,3), its bias (2), a gain: a prefix and the rest */
        llm_adamw_step(w, m, v, g + (t - 1) * 9, 6, &decays, t);
        llm_adamw_step(w + 6, m + 6, v + 6, g + (t - 1) * 9 + 6, 3, &stays, t);
    }
    CHECK_GOLDEN(w, 9, 3e-6f, "groups/w");
}

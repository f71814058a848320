/* @cuda_draw */
#include "../test.h"

#include "../../llm_cuda.cuh"

/* token (blocks): with u (blocks), all of the same row x */
template <int W>
LLM_KERNEL void draws(int *token, const float *x, size_t V, const float *u,
                      unsigned long long kept) {
    const unsigned long long max = llm_select_max<float, W>(x, V);
    llm_draw_entry<float, W>(token + blockIdx.x, x, V, kept, llm_select_value(max), u[blockIdx.x]);
}
LLM_KERNEL void uniforms(float *u, const uint64_t *seed) {
    u[threadIdx.x] = llm_draw_uniform(seed[threadIdx.x]);
}

template <int W> static void check_draws(size_t V, unsigned threads, float least) {
    enum { N = 12 };
    float *x = floats(V), u[N];
    int token[N], *d_token = to_device<int>(NULL, N);
    double total = 0.0;
    llm_rng rng = llm_rng_seed(V);
    for (size_t i = 0; i < V; i++) {
        x[i] = llm_rng_normal(&rng);
        if (i % 5 == 2 && V > 5) x[i] = -INFINITY;
        if (i >= V / 3 && i < V / 2 && V > 100) x[i] = -1e5f; /* whole stretches weigh nothing */
        if (x[i] >= least) total += exp((double)x[i]);
    }
    for (size_t i = 0; i < N; i++) u[i] = llm_rng_uniform(&rng);
    u[0] = 0.0f, u[1] = 1.0f - 1.0f / 16777216.0f;
    LLM_LAUNCH(draws<W>, N, threads, 0, 0, d_token, to_device(x, V), V, to_device(u, N),
               (unsigned long long)llm_top_k_key(least) << 32);
    CHECK_CUDA(cudaGetLastError());
    from_device(token, d_token, N);
    for (size_t i = 0; i < N; i++) {
        double below = 0.0;
        int want = -1;
        for (size_t v = 0; v < V && want < 0; v++) {
            if (x[v] >= least) below += exp((double)x[v]);
            if ((double)u[i] * total < below) want = (int)v;
        }
        CHECK(token[i] == want);
    }
}

TEST(cuda_draw, "the entry at which the cumulated sum exceeds u of the whole, at both ends too") {
    check_draws<1>(1, 32, -9.0f);
    check_draws<1>(2, 32, -9.0f);
    check_draws<1>(37, 64, -0.5f);
    check_draws<4>(512, 96, -9.0f);
    check_draws<4>(2000, 256, 1.0f);
    check_draws<8>(2048, 64, -2e5f);
    if (!TEST_SLOW) check_draws<1>(2001, 1024, 0.0f);
}

TEST(cuda_draw, "one entry that weighs anything is always drawn; seeds give the reference's u") {
    enum { V = 300 };
    float x[V], u[32], *d_u;
    int token = -1;
    uint64_t seed[32];
    for (size_t at = 0; at < V; at += 37) {
        for (size_t i = 0; i < V; i++) x[i] = i == at ? 3.0f : -1e4f;
        for (float big = 0.0f; big < 1.0f; big += 1.0f - 1.0f / 16777216.0f) {
            int *d_token = to_device<int>(NULL, 1);
            LLM_LAUNCH(draws<4>, 1, 64, 0, 0, d_token, to_device(x, V), V, to_device(&big, 1), 0);
            CHECK(*from_device(&token, d_token, 1) == (int)at);
        }
    }
    for (size_t i = 0; i < 32; i++) seed[i] = ((uint64_t)i << 33) + i;
    d_u = to_device<float>(NULL, 32);
    LLM_LAUNCH(uniforms, 1, 32, 0, 0, d_u, to_device(seed, 32));
    from_device(u, d_u, 32);
    for (size_t i = 0; i < 32; i++) {
        llm_rng rng = llm_rng_seed(seed[i]);
        CHECK(u[i] == llm_rng_uniform(&rng));
    }
}

TEST(cuda_draw, "of equal entries number i is drawn from u = i / V on, exactly") {
    enum { V = 256 };
    float x[V], u[V];
    int token[V], *d_token = to_device<int>(NULL, V);
    for (size_t i = 0; i < V; i++) x[i] = 2.5f, u[i] = (float)i / V;
    for (unsigned threads = 32; threads <= 256; threads *= 2) {
        LLM_LAUNCH(draws<4>, V, threads, 0, 0, d_token, to_device(x, V), V, to_device(u, V), 0);
        from_device(token, d_token, V);
        for (size_t i = 0; i < V; i++) CHECK(token[i] == (int)i);
    }
}

/* @adamw */
#include "../test.h"

#include "../../llm_cuda.cuh"

enum { TENSORS = 53, STEPS = 3 }; /* more than one launch holds */

static size_t size_of(size_t i) {
    const size_t sizes[8] = {4097, 1, 0, 3, 4096, 8200, 5, 64};
    return i < 8 ? sizes[i] : 7 + i;
}

/* kind 0: float weights, 1: T with a float master, 2: T rounded at random */
template <typename T> static void check_adamw(int kind, size_t offset) {
    llm_cuda_adamw_tensor<T> tensor[TENSORS];
    float *w[TENSORS], *m[TENSORS], *v[TENSORS], *g[TENSORS];
    llm_rng rng = llm_rng_seed(3);
    llm_adamw_config c = llm_adamw_defaults();
    c.lr = 0.01f, c.weight_decay = 0.3f;
    const float gain = 0.5f, *d_gain = to_device(&gain, 1);
    for (size_t i = 0; i < TENSORS; i++) {
        const size_t n = size_of(i);
        w[i] = floats(n), m[i] = zeros(n), v[i] = zeros(n), g[i] = floats(n);
        llm_rng_normal_fill(&rng, w[i], n);
        llm_rng_normal_fill(&rng, g[i], n);
        tensor[i].w = to_device<T>(NULL, n + offset) + offset;
        T *stored = to_device_as<T>(w[i], n); /* the weights start as what T can hold */
        if (n) CHECK_CUDA(cudaMemcpy(tensor[i].w, stored, n * sizeof(T), cudaMemcpyDeviceToDevice));
        tensor[i].master = kind == 1 ? to_device(w[i], n) : NULL;
        tensor[i].m = to_device(m[i], n), tensor[i].v = to_device(v[i], n);
        tensor[i].g = to_device(g[i], n), tensor[i].n = n, tensor[i].decay = i % 3 != 1;
    }
    for (size_t t = 1; t <= STEPS; t++) {
        CHECK_CUDA(llm_cuda_adamw_step(tensor, (size_t)TENSORS, &c, t, d_gain, 7, 0));
        for (size_t i = 0; i < TENSORS; i++) {
            const size_t n = size_of(i);
            float *got = floats(n), *half = floats(n), *before = floats(n);
            for (size_t k = 0; k < n; k++) half[k] = gain * g[i][k], before[k] = w[i][k];
            llm_adamw_config own = c;
            if (!tensor[i].decay) own.weight_decay = 0.0f;
            llm_adamw_step(w[i], m[i], v[i], half, n, &own, t);
            CHECK_ALL_NEAR(from_device(got, tensor[i].m, n), m[i], n, 1e-6f);
            CHECK_ALL_NEAR(from_device(got, tensor[i].v, n), v[i], n, 1e-6f);
            if (kind == 1) CHECK_ALL_NEAR(from_device(got, tensor[i].master, n), w[i], n, 2e-6f);
            from_device_as(got, tensor[i].w, n);
            if (kind < 2) {
                CHECK_STORED(T, got, w[i], n, 2e-6f);
                continue;
            }
            for (size_t k = 0; k < n; k++) { /* one of the two neighbours, and on from there */
                CHECK(fabsf(got[k] - w[i][k]) <= ldexpf(fabsf(w[i][k]) + 1e-6f, -7));
                w[i][k] = got[k];
            }
        }
    }
}

TEST(adamw, "fifty tensors in two launches step as llm_adamw_step, with factor and decay flags") {
    check_adamw<float>(0, 0);
    check_adamw<float>(0, 1); /* off the alignment of vectors */
    check_adamw<llm_bf16>(1, 0);
    check_adamw<llm_bf16>(2, 0);
    check_adamw<llm_bf16>(2, 1);
}

TEST(adamw,
     "rounding at random: the neighbours, by the reference's random words, in the mean exact") {
    /* no gradient and a decay of 1e-3: w = 1 becomes 0.999, between 0.99609375 and 1 */
    enum { N = 40001 };
    float *ones = floats(N), *got = floats(N), *none = zeros(N);
    for (size_t i = 0; i < N; i++) ones[i] = 1.0f;
    llm_cuda_adamw_tensor<llm_bf16> t;
    t.w = to_device_as<llm_bf16>(ones, N), t.master = NULL, t.m = to_device(none, N);
    t.v = to_device(none, N), t.g = to_device(none, N), t.n = N, t.decay = true;
    llm_adamw_config c = llm_adamw_defaults();
    c.lr = 1e-3f, c.weight_decay = 1.0f;
    CHECK_CUDA(llm_cuda_adamw_step(&t, (size_t)1, &c, 5, (const float *)NULL, 99, 0));
    from_device_as(got, t.w, N);
    const float w = 1.0f - 1e-3f, low = 0.99609375f;
    uint32_t bits;
    memcpy(&bits, &w, sizeof bits);
    double mean = 0.0;
    for (size_t i = 0; i < N; i++) {
        const uint64_t block = ((uint64_t)5 << 40) + i / 4096 * 1024 + i % 4096 / 4;
        const uint32_t counter[4] = {(uint32_t)block, (uint32_t)(block >> 32), 0, 0};
        const uint32_t key[2] = {99, 0};
        uint32_t word[4];
        llm_rng_philox(word, counter, key);
        CHECK(got[i] == ((bits & 0xffffu) + (word[i % 4] & 0xffffu) > 0xffffu ? 1.0f : low));
        mean += (double)got[i] / N;
    }
    const double up = (0.999 - 0.99609375) * 256.0; /* the probability of 1 */
    CHECK_NEAR(mean, 0.999, 4.0 / 256.0 * sqrt(up * (1.0 - up) / N));
    CHECK(llm_cuda_gradient_descent_round(INFINITY, 0xffffffffu) == INFINITY);
    CHECK(isnan(llm_cuda_gradient_descent_round(NAN, 0xffffffffu)));
    CHECK(llm_cuda_gradient_descent_round(-1.5f, 0xffffffffu) == -1.5f); /* representable: stays */
}

TEST(adamw, "a factor that is not finite leaves everything as it was") {
    float w[3] = {1.0f, 2.0f, 3.0f}, g[3] = {NAN, 1.0f, 1.0f}, zero[3] = {0.0f, 0.0f, 0.0f}, got[3];
    const float factors[2] = {NAN, INFINITY};
    llm_cuda_adamw_tensor<float> t;
    const llm_adamw_config c = llm_adamw_defaults();
    t.w = to_device(w, 3), t.master = NULL, t.m = to_device(zero, 3), t.v = to_device(zero, 3);
    t.g = to_device(g, 3), t.n = 3, t.decay = true;
    for (size_t i = 0; i < 2; i++) {
        CHECK_CUDA(llm_cuda_adamw_step(&t, (size_t)1, &c, 1, to_device(&factors[i], 1), 0, 0));
        CHECK_ALL_NEAR(from_device(got, t.w, 3), w, 3, 0.0f);
        CHECK_ALL_NEAR(from_device(got, t.m, 3), zero, 3, 0.0f);
    }
    CHECK_CUDA(llm_cuda_adamw_step(&t, (size_t)0, &c, 1, (const float *)NULL, 0, 0));
}

TEST(adamw, "traffic: 28 bytes an entry for floats, 30 with a master, 24 rounded at random") {
    enum { N = 8192 };
    for (int kind = 0; kind < 3; kind++) {
        llm_cuda_adamw_tensor<llm_bf16> t;
        llm_cuda_adamw_tensor<float> f;
        float *x = zeros(N);
        const llm_adamw_config c = llm_adamw_defaults();
        t.m = f.m = to_device(x, N), t.v = f.v = to_device(x, N), t.g = f.g = to_device(x, N);
        t.w = to_device_as<llm_bf16>(x, N), f.w = to_device(x, N), t.n = f.n = N;
        t.master = kind == 1 ? to_device(x, N) : NULL, f.master = NULL, t.decay = f.decay = true;
#ifndef __CUDACC__
        emulate_count();
#endif
        if (kind == 0)
            CHECK_CUDA(llm_cuda_adamw_step(&f, (size_t)1, &c, 1, (const float *)NULL, 0, 0));
        else
            CHECK_CUDA(llm_cuda_adamw_step(&t, (size_t)1, &c, 1, (const float *)NULL, 0, 0));
#ifndef __CUDACC__
        const size_t bytes[3] = {28, 30, 24};
        CHECK(emulate_counted.read + emulate_counted.written == bytes[kind] * N);
#endif
    }
}

/* @adamw */
#include "../test.h"

#include "../../llm_cuda.cuh"

#include "../tiny_optim_cuda.h"

TEST(adamw, "fifty tensors in two launches step as llm_adamw_step, with factor and decay flags") {
    llm_adamw_config c = llm_adamw_defaults();
    c.lr = 0.01f, c.weight_decay = 0.3f;
    const auto step = [c](const auto *tensor, size_t count, size_t t, const float *factor) {
        return llm_cuda_adamw_step(tensor, count, &c, t, factor, 7, 0);
    };
    const auto own = [c](float *w, float *m, float *v, const float *g, size_t n, bool decay,
                         size_t t) {
        llm_adamw_config mine = c;
        if (!decay) mine.weight_decay = 0.0f;
        llm_adamw_step(w, m, v, g, n, &mine, t);
    };
    optim_check_all<float>((size_t)OPTIM_TENSORS, true, true, 2e-6f, step, own);
    if (!TEST_SLOW) /* off the alignment of vectors */
        optim_check<float, float>(5, OPTIM_FLOAT, 1, true, true, 2e-6f, step, own);
    CHECK_BYTES(optim_bytes<float>(true, true, step), 28);
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

TEST(adamw, "traffic: 30 bytes an entry of bfloat16 with a master, 24 rounded at random") {
    enum { N = 8192 };
    for (int master = 0; master < 2; master++) {
        llm_cuda_adamw_tensor<llm_bf16> t;
        float *x = zeros(N);
        const llm_adamw_config c = llm_adamw_defaults();
        t.m = to_device(x, N), t.v = to_device(x, N), t.g = to_device(x, N);
        t.w = to_device_as<llm_bf16>(x, N), t.n = N, t.decay = true;
        t.master = master ? to_device(x, N) : NULL;
#ifndef __CUDACC__
        emulate_count();
#endif
        CHECK_CUDA(llm_cuda_adamw_step(&t, (size_t)1, &c, 1, (const float *)NULL, 0, 0));
#ifndef __CUDACC__
        CHECK(emulate_counted.read + emulate_counted.written == (master ? 30u : 24u) * N);
#endif
    }
}

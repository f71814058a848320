/* @transformer_2017 */
#include "../test.h"

#include "../../llm_cuda.cuh"

#include "../tiny_translator_cuda.h"

TEST(transformer_2017,
     "three steps follow PyTorch: losses; then the weights of llm_transformer_2017") {
    enum { B = 2, S = 4, T = 3, STEPS = TEST_SLOW ? 1 : 3 };
    llm_encoder_decoder_config c = llm_transformer_2017_config(6, 1, 4, 2);
    c.encoder.dropout = c.decoder.dropout = 0.0f;
    size_t n;
    float *flat = golden_n(&n, "in/weights"), *losses = golden("out/losses");
    const int *source = as_ints(golden("in/source"), B * S);
    const int *target = as_ints(golden("in/target"), B * T);
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 1 << 18));
    llm_transformer_2017 cpu;
    llm_rng rng = llm_rng_seed(1);
    llm_transformer_2017_create(&cpu, &c, 200, &rng, &arena);
    CHECK(n == cpu.count);
    memcpy(cpu.w, flat, n * sizeof *flat);

    tiny_translator<float> k;
    tiny_translator_make(k, c, flat, n, source, target, B, S, T);
    const llm_cuda_transformer_2017_state s = {to_device(zeros(n), n), to_device(zeros(n), n), NULL,
                                               n, 200};
    for (size_t t = 1; t <= STEPS; t++) {
        CHECK_CUDA(
            llm_cuda_transformer_2017_step(k.m, s, k.a, k.source, k.target, k.label, k.gain, t, 0));
        CHECK(k.m.encoder.seed == 2 * t && k.m.decoder.seed == 2 * t + 1);
        CHECK_NEAR(tiny_translator_loss(k), losses[t - 1], 1e-5f);
        llm_transformer_2017_step(&cpu, source, target, B, S, T, &arena);
    }
    float *got = floats(n);
    from_device(got, k.m.w, n);
    /* a gradient that is 0 but for rounding moves its weight by the whole rate: biases of keys */
    size_t off = 0;
    for (size_t i = 0; i < n; i++) off += !(fabsf(got[i] - cpu.w[i]) <= 2e-5f);
    CHECK(off <= 3 * 4);
    CHECK_ALL_NEAR(from_device(got, s.m, n), cpu.m, n, 1e-5f);
    float most = 0.0f;
    for (size_t i = 0; i < n; i++) most = fmaxf(most, cpu.v[i]);
    CHECK_ALL_NEAR(from_device(got, s.v, n), cpu.v, n, 1e-4f * most);
    from_device(got, k.m.w, n);
    CHECK_ALL_NEAR(got, cpu.w, n, 1e-2f);
    llm_arena_destroy(&arena);
}

TEST(transformer_2017, "dropout is another one in each step, and that of the reference") {
    if (TEST_SLOW) return;
    enum { B = 1, S = 2, T = 2 };
    llm_encoder_decoder_config c = llm_transformer_2017_config(5, 1, 4, 2);
    c.encoder.dropout = c.decoder.dropout = 0.4f;
    const int source[S] = {2, 3}, target[T] = {4, 2};
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 1 << 18));
    llm_transformer_2017 cpu;
    llm_rng rng = llm_rng_seed(3);
    llm_transformer_2017_create(&cpu, &c, 10, &rng, &arena);
    const size_t n = cpu.count;
    tiny_translator<float> k;
    tiny_translator_make(k, c, cpu.w, n, source, target, B, S, T);
    const llm_cuda_transformer_2017_state s = {to_device(zeros(n), n), to_device(zeros(n), n), NULL,
                                               n, 10};
    float want[2], got[2];
    for (size_t t = 1; t <= 2; t++) {
        CHECK_CUDA(
            llm_cuda_transformer_2017_step(k.m, s, k.a, k.source, k.target, k.label, k.gain, t, 0));
        got[t - 1] = tiny_translator_loss(k);
        want[t - 1] = llm_transformer_2017_step(&cpu, source, target, B, S, T, &arena);
    }
    CHECK_ALL_NEAR(got, want, 2, 2e-4f); /* a rate of 0.05 in between */
    llm_arena_destroy(&arena);
}

template <typename T> static void check_average(size_t n) {
    float *w = floats(n), *got = floats(n), *mean = to_device<float>(NULL, n);
    double *sum = (double *)test_memory(n, sizeof(double));
    for (size_t i = 0; i < n; i++) sum[i] = 0.0;
    for (size_t taken = 0; taken < 3; taken++) {
        llm_rng rng = llm_rng_seed(taken);
        llm_rng_normal_fill(&rng, w, n);
        CHECK_CUDA(
            llm_cuda_transformer_2017_average(mean, (const T *)to_device_as<T>(w, n), n, taken, 0));
        from_device(got, mean, n);
        for (size_t i = 0; i < n; i++) {
            sum[i] += (double)w[i];
            CHECK_NEAR(got[i], sum[i] / (double)(taken + 1), 1e-6f);
        }
    }
}
TEST(transformer_2017, "the mean of three checkpoints; the first one finds nothing") {
    check_average<float>(7);
    check_average<float>(1032);
    check_average<llm_bf16>(2056);
    CHECK_CUDA(llm_cuda_transformer_2017_average((float *)NULL, (const float *)NULL, 0, 0, 0));
}

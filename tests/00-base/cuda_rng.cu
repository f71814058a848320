/* @cuda_rng */
#include "../test.h"

#include "../../llm_cuda.cuh"

LLM_KERNEL void draw(uint32_t *words, float *uniform, const uint64_t *block, uint64_t key) {
    uint32_t word[4];
    llm_cuda_philox(word, block[threadIdx.x], key);
    for (unsigned i = 0; i < 4; i++) {
        words[4 * threadIdx.x + i] = word[i];
        uniform[4 * threadIdx.x + i] = llm_cuda_uniform(word[i]);
    }
}

TEST(cuda_rng, "the words are those of llm_rng_philox, for counters and keys beyond 32 bits") {
    enum { N = 64 };
    uint64_t block[N];
    uint32_t words[4 * N], want[4], *d_words = to_device<uint32_t>(NULL, 4 * N);
    float uniform[4 * N], *d_uniform = to_device<float>(NULL, 4 * N);
    for (uint64_t i = 0; i < N; i++) block[i] = i < 8 ? i : i * UINT64_C(0x9e3779b97f4a7c15);
    const uint64_t keys[3] = {0, 12345, UINT64_C(0xfedcba9876543210)};
    for (int k = 0; k < 3; k++) {
        LLM_LAUNCH(draw, 1, N, 0, 0, d_words, d_uniform, to_device(block, N), keys[k]);
        CHECK_CUDA(cudaGetLastError());
        from_device(words, d_words, 4 * N);
        from_device(uniform, d_uniform, 4 * N);
        llm_rng rng = llm_rng_seed(keys[k]);
        for (unsigned i = 0; i < 4 * 8; i++) { /* the first blocks are the generator's own stream */
            const float u = llm_rng_uniform(&rng);
            CHECK(uniform[i] == u);
        }
        for (size_t i = 0; i < N; i++) {
            const uint32_t counter[4] = {(uint32_t)block[i], (uint32_t)(block[i] >> 32), 0, 0};
            const uint32_t key[2] = {(uint32_t)keys[k], (uint32_t)(keys[k] >> 32)};
            llm_rng_philox(want, counter, key);
            for (size_t w = 0; w < 4; w++) CHECK(words[4 * i + w] == want[w]);
        }
    }
}

TEST(cuda_rng, "normals equal those that llm_rng_normal_fill draws, whatever the length") {
    const size_t sizes[7] = {1, 2, 3, 5, 1023, 1024, 3001};
    for (size_t s = 0; s < 7; s++) {
        for (size_t offset = 0; offset < 2; offset++) { /* 1: not aligned for vectors */
            const size_t n = sizes[s];
            const uint64_t seed = UINT64_C(0x123456789) * s;
            float *want = floats(n), *got = floats(n + 1), *d = to_device<float>(NULL, n + 2);
            llm_rng rng = llm_rng_seed(seed);
            llm_rng_normal_fill(&rng, want, n);
            CHECK_CUDA(llm_cuda_rng_normal_fill(d + offset, n, seed, 0));
            from_device(got, d + offset, n + 1);
            for (size_t i = 0; i < n; i++)
                CHECK_NEAR(got[i], want[i], 3e-7 * fabs((double)want[i]));
            CHECK(isnan(got[n])); /* nothing behind the end */
        }
    }
    CHECK_CUDA(llm_cuda_rng_normal_fill((float *)NULL, 0, 1, 0));
}

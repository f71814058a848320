/* @sampling_control */
#include "../test.h"

#include "../../llm_cuda.cuh"

enum { ROWS = 3 };
static float *rows(size_t V, size_t offset, llm_rng *rng) {
    float *x = floats(ROWS * V + offset);
    for (size_t i = 0; i < ROWS * V + offset; i++) {
        x[i] = 3.0f * llm_rng_normal(rng);
        if (llm_rng_below(rng, 6) == 0) x[i] = -INFINITY;
    }
    for (size_t b = 0; b < ROWS; b++) x[offset + b * V + V / 2] = 1.0f;
    return x;
}

TEST(sampling_control, "XTC takes away what the reference takes away, by the same numbers") {
    const size_t sizes[6] = {8, 1, 33, 100, 64, 260};
    size_t cut = 0, kept = 0;
    for (uint64_t round = 0; round < (TEST_SLOW ? 6 : 60); round++) {
        llm_rng rng = llm_rng_seed(round);
        const size_t V = sizes[round % 6], offset = round / 6 % 2, all = ROWS * V,
                     room = 8 * V + 64;
        llm_arena arena = {(unsigned char *)test_memory(room, 1), room, 0, 0};
        float *x = rows(V, offset, &rng), *got = floats(all);
        uint64_t seed[ROWS];
        const float threshold = 0.03f + 0.2f * llm_rng_uniform(&rng);
        const float chance = round % 4 == 3 ? 1.0f : 0.5f;
        for (size_t b = 0; b < ROWS; b++) seed[b] = round * 100 + b;
        if (round % 5 == 4) /* two of the least that reaches it: the first stays */
            for (size_t i = 0; i < V; i++) x[offset + i] = i % 3 ? 0.0f : -9.0f;
        float *d_x = to_device(x, all + offset) + offset;
        CHECK_CUDA(llm_cuda_sampling_control_xtc(d_x, to_device(seed, ROWS), ROWS, V, threshold,
                                                 chance, 0));
        from_device(got, d_x, all);
        for (size_t b = 0; b < ROWS; b++) {
            llm_rng own = llm_rng_seed(seed[b]);
            float *z = x + offset + b * V;
            llm_sampling_control_xtc(z, V, threshold, chance, &own, &arena);
            for (size_t v = 0; v < V; v++) {
                CHECK(got[b * V + v] == z[v]);
                cut += z[v] == -INFINITY, kept++;
            }
        }
    }
    CHECK(cut > 0 && cut < kept);
    if (TEST_SLOW) return;
    float z[5] = {logf(0.4f), logf(0.3f), logf(0.2f), logf(0.07f), logf(0.03f)};
    float *d_z = to_device(z, 5);
    const uint64_t seed = 1;
    CHECK_CUDA(llm_cuda_sampling_control_xtc(d_z, to_device(&seed, 1), 1, 5, 0.1f, 1.0f, 0));
    from_device(z, d_z, 5);
    CHECK(z[0] == -INFINITY && z[1] == -INFINITY && z[2] > -2.0f && z[3] > -3.0f && z[4] > -4.0f);
}

TEST(sampling_control, "Mirostat draws the reference's tokens and moves mu as it does") {
    const size_t sizes[5] = {8, 1, 33, 100, 260};
    size_t moved = 0;
    for (uint64_t round = 0; round < (TEST_SLOW ? 2 : 10); round++) {
        llm_rng rng = llm_rng_seed(round + 500);
        const size_t V = sizes[round % 5], offset = round % 2, all = ROWS * V, room = 8 * V + 64;
        const float tau = 1.0f + (float)(round % 3);
        llm_arena arena = {(unsigned char *)test_memory(room, 1), room, 0, 0};
        float mu[ROWS] = {2 * tau, 0.5f, 20.0f}, d_got[ROWS], *d_mu = to_device(mu, ROWS);
        int *d_token = to_device<int>(NULL, ROWS), token[ROWS];
        for (uint64_t step = 0; step < 4; step++) { /* mu stays where it is */
            float *x = rows(V, offset, &rng);
            uint64_t seed[ROWS];
            for (size_t b = 0; b < ROWS; b++) seed[b] = round * 100 + step * 10 + b;
            CHECK_CUDA(llm_cuda_sampling_control_mirostat(
                d_token, d_mu, to_device(x, all + offset) + offset, to_device(seed, ROWS), ROWS, V,
                tau, 0.3f, 0));
            from_device(token, d_token, ROWS);
            from_device(d_got, d_mu, ROWS);
            for (size_t b = 0; b < ROWS; b++) {
                llm_rng own = llm_rng_seed(seed[b]);
                const float old = mu[b];
                CHECK(token[b] == llm_sampling_control_mirostat(&mu[b], x + offset + b * V, V, tau,
                                                                0.3f, &own, &arena));
                CHECK_NEAR(d_got[b], mu[b], 2e-5f);
                moved += fabsf(mu[b] - old) > 0.1f;
            }
        }
    }
    if (!TEST_SLOW) CHECK(moved > 20);
}

TEST(sampling_control, "what nothing can be drawn from stays; what is refused") {
    float x[6] = {NAN, 1, 0, -INFINITY, -INFINITY, -INFINITY}, mu[2] = {3, 4};
    const uint64_t seed[2] = {1, 2};
    int token[2] = {5, 5}, *d_token = to_device(token, 2);
    float *d_x = to_device(x, 6), *d_mu = to_device(mu, 2);
    const uint64_t *d_seed = to_device(seed, 2);
    CHECK_CUDA(llm_cuda_sampling_control_mirostat(d_token, d_mu, d_x, d_seed, 2, 3, 3, 1, 0));
    CHECK_CUDA(llm_cuda_sampling_control_xtc(d_x, d_seed, 2, 3, 0.1f, 1.0f, 0));
    from_device(token, d_token, 2);
    from_device(mu, d_mu, 2);
    from_device(x, d_x, 6);
    CHECK(token[0] == -1 && token[1] == -1 && mu[0] == 3.0f && mu[1] == 4.0f && x[1] == 1.0f);
    CHECK_CUDA(llm_cuda_sampling_control_mirostat(d_token, d_mu, d_x, d_seed, 0, 3, 3, 1, 0));
    CHECK_CUDA(llm_cuda_sampling_control_xtc(d_x, d_seed, 0, 3, 0.1f, 1.0f, 0));
    CHECK_CUDA(llm_cuda_sampling_control_xtc(d_x, d_seed, 1, 0, 0.1f, 1.0f, 0));
    CHECK(llm_cuda_sampling_control_xtc(d_x, d_seed, 1, 3, 0.0f, 1.0f, 0) != cudaSuccess);
    CHECK(llm_cuda_sampling_control_mirostat(d_token, d_mu, d_x, d_seed, 1, 0, 3, 1, 0) !=
          cudaSuccess);
}

/* @sampling */
#include "../test.h"

#include "../../llm_cuda.cuh"

/* Rows through random chains with penalties: the tokens equal those of the reference, and the
 * counts grow by what was drawn. */
static void check_chain(size_t rows, size_t V, bool llama, size_t offset, uint64_t round) {
    const size_t all = rows * V, room = 32 * V + 1024;
    float *x = floats(all + offset);
    int *count = (int *)test_memory(all, sizeof(int)),
        *grown = (int *)test_memory(all, sizeof(int));
    int *token = (int *)test_memory(rows, sizeof(int)), *d_token = to_device<int>(NULL, rows);
    uint64_t *seed = (uint64_t *)test_memory(rows, sizeof(uint64_t));
    llm_arena arena = {(unsigned char *)test_memory(room, 1), room, 0, 0};
    llm_rng rng = llm_rng_seed(round);
    for (size_t i = 0; i < all + offset; i++) {
        x[i] = 3.0f * llm_rng_normal(&rng);
        if (llm_rng_below(&rng, 8) == 0) x[i] = -INFINITY;
    }
    for (size_t row = 0; row < rows; row++) {
        seed[row] = round << 20 | row;
        x[offset + row * V + V / 2] = 1.0f; /* something can be drawn */
    }
    for (size_t i = 0; i < all; i++) count[i] = (int)llm_rng_below(&rng, 12) - 8;
    for (size_t i = 0; i < all; i++) count[i] = count[i] < 0 ? 0 : count[i];
    llm_sampling_config off = llm_sampling_defaults();
    off.temperature = 0.5f + llm_rng_uniform(&rng);
    if (round % 2) off.top_k = 1.0f + (float)llm_rng_below(&rng, V + 3);
    if (round % 3) off.top_p = 0.3f + 0.7f * llm_rng_uniform(&rng);
    if (round % 5 == 1) off.min_p = 0.1f * llm_rng_uniform(&rng);
    if (round % 5 == 2) off.epsilon = 0.01f * llm_rng_uniform(&rng);
    if (round % 5 == 3) off.eta = 0.01f * llm_rng_uniform(&rng);
    if (round % 5 == 4) off.top_n_sigma = 1.0f + llm_rng_uniform(&rng);
    if (round % 7 == 6) off.temperature = 0.0f;
    llm_sampling_step chain[8];
    const size_t n = llm_sampling_preset(chain, &off, llama);
    llm_cuda_sampling_config c = llm_cuda_sampling_defaults(chain, n);
    if (round % 2 == 0) c.repetition = 1.3f;
    if (round % 3 == 0) c.frequency = 0.4f, c.presence = -0.7f;

    float *d_x = to_device(x, all + offset) + offset;
    int *d_count = to_device(count, all);
    CHECK_CUDA(
        llm_cuda_sampling_chain(d_token, d_x, d_count, to_device(seed, rows), rows, V, &c, 0));
    from_device(token, d_token, rows);
    from_device(grown, d_count, all);
    for (size_t row = 0; row < rows; row++) {
        float *z = x + offset + row * V;
        for (size_t i = 0; i < V; i++) {
            const int times = count[row * V + i];
            if (times == 0) continue;
            z[i] = z[i] > 0.0f ? z[i] / c.repetition : z[i] * c.repetition;
            z[i] -= (float)times * c.frequency + c.presence;
        }
        llm_rng draw = llm_rng_seed(seed[row]);
        llm_sampling_chain(z, V, chain, n, &arena);
        CHECK(token[row] == llm_sampling_draw(z, V, &draw));
        for (size_t i = 0; i < V; i++)
            CHECK(grown[row * V + i] == count[row * V + i] + ((int)i == token[row]));
    }
}

TEST(sampling,
     "chains with penalties draw the reference's tokens, in the order of both libraries") {
    for (uint64_t round = 0; round < (TEST_SLOW ? 8 : 42); round++) {
        const size_t V = 1 + (round * 37 + 11) % 150;
        check_chain(4, V, round / 2 % 2, 0, round);
        check_chain(2, 4 * V, round % 2, round % 3, round);
    }
    for (uint64_t round = 0; round < (TEST_SLOW ? 0 : 3); round++)
        check_chain(2, round % 2 ? 1500 : 1025, round % 2, 0, round);
}

TEST(sampling, "without penalties, without a chain; what cannot be drawn is -1; what is refused") {
    enum { V = 65, ROWS = 50 };
    float *x = floats(ROWS * V);
    uint64_t seed[ROWS];
    int token[ROWS], *d_token = to_device<int>(NULL, ROWS);
    llm_rng rng = llm_rng_seed(1);
    for (size_t i = 0; i < ROWS * V; i++) x[i] = i / V == 1 ? -INFINITY : llm_rng_normal(&rng);
    for (size_t i = 0; i < ROWS; i++) seed[i] = i;
    x[2 * V + 64] = NAN;
    llm_cuda_sampling_config c = llm_cuda_sampling_defaults(NULL, 0);
    float *d_x = to_device(x, ROWS * V);
    const uint64_t *d_seed = to_device(seed, ROWS);
    CHECK_CUDA(llm_cuda_sampling_chain(d_token, d_x, (int *)NULL, d_seed, ROWS, V, &c, 0));
    from_device(token, d_token, ROWS);
    for (size_t row = 0; row < ROWS; row++) {
        rng = llm_rng_seed(row);
        CHECK(token[row] == llm_sampling_draw(x + row * V, V, &rng));
        CHECK((token[row] == -1) == (row == 1 || row == 2));
    }
    llm_sampling_step typical = {LLM_SAMPLING_TYPICAL, 0.9f}, cold = {LLM_SAMPLING_TEMPERATURE, -1};
    c = llm_cuda_sampling_defaults(&typical, 1);
    CHECK(llm_cuda_sampling_chain(d_token, d_x, (int *)NULL, d_seed, 1, V, &c, 0) != cudaSuccess);
    c = llm_cuda_sampling_defaults(&cold, 1);
    CHECK(llm_cuda_sampling_chain(d_token, d_x, (int *)NULL, d_seed, 1, V, &c, 0) != cudaSuccess);
}

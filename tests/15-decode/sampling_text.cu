/* @sampling_text */
#include "../test.h"

#include "../../llm_cuda.cuh"

enum { ROWS = 3, CAPACITY = 60 };

/* Random texts and settings of one library: the tokens are those of llm_sampling_text_pick, by the
 * same number. */
static size_t check_pick(llm_sampling_text_order order, size_t V, size_t offset, uint64_t round) {
    const size_t all = ROWS * V, room = 64 * V + 64 * CAPACITY + 4096;
    llm_rng rng = llm_rng_seed(round);
    float *x = floats(all + offset), *u = floats(all + offset), bias[2] = {-INFINITY, 2.5f};
    static int ids[ROWS * CAPACITY];
    int token[ROWS], stop[2] = {0, (int)(V - 1)}, breaker[1] = {(int)(V / 3)};
    int biased[2] = {(int)(V / 4), (int)(V / 2)};
    size_t length[ROWS], prompt[ROWS];
    uint64_t seed[ROWS];
    const size_t kinds = round % 3 ? V : (V + 7) / 8;
    for (size_t i = 0; i < all + offset; i++) {
        x[i] = 3.0f * llm_rng_normal(&rng), u[i] = llm_rng_normal(&rng);
        if (llm_rng_below(&rng, 9) == 0) x[i] = -INFINITY;
    }
    for (size_t b = 0; b < ROWS; b++) {
        length[b] = b == 0 ? (size_t)CAPACITY : llm_rng_below(&rng, CAPACITY + 1);
        prompt[b] = llm_rng_below(&rng, length[b] + 1);
        seed[b] = round << 8 | b;
        for (size_t i = 0; i < CAPACITY; i++) {
            ids[b * CAPACITY + i] = (int)llm_rng_below(&rng, kinds);
            if (b == 1) ids[b * CAPACITY + i] = (int)(i % 5 % V);
            if (i >= length[b]) ids[b * CAPACITY + i] = 0x40000000;
        }
    }
    llm_sampling_text_config c = llm_sampling_text_defaults(order);
    c.filter.temperature = round % 7 == 6 ? 0.0f : 0.5f + llm_rng_uniform(&rng);
    if (round % 2) c.filter.top_k = 1.0f + (float)llm_rng_below(&rng, V + 3);
    if (round % 3) c.filter.top_p = 0.3f + 0.7f * llm_rng_uniform(&rng);
    if (round % 4) c.filter.min_p = 0.1f * llm_rng_uniform(&rng);
    if (round % 5 == 1) c.filter.top_n_sigma = 1.0f + llm_rng_uniform(&rng);
    if (round % 2 == 0) c.repetition = 1.3f;
    if (round % 3 == 0) c.frequency = 0.4f, c.presence = -0.7f;
    if (round % 4 == 1) c.last_n = 1 + llm_rng_below(&rng, 70);
    if (round % 3 == 1) c.no_ngram = 2 + round % 2;
    if (round % 3 == 2) c.dry.multiplier = 0.8f, c.dry.breaker = breaker, c.dry.breakers = 1;
    if (round % 2 == 1) c.xtc_chance = 0.6f;
    if (round % 5 > 2) c.bias_token = biased, c.bias = bias, c.biases = V > 3 ? 2 : 0;
    if (round % 3 == 0) c.stop = stop, c.stops = V > 1 ? 2 : 0, c.min_new = round % 9;

    llm_sampling_text_config on_device = c;
    on_device.bias_token = to_device(biased, 2), on_device.bias = to_device(bias, 2);
    on_device.stop = to_device(stop, 2), on_device.dry.breaker = to_device(breaker, 1);
    llm_cuda_sampling_text_config d = llm_cuda_sampling_text_make(&on_device);
    const bool guided = round % 6 == 5;
    if (guided) d.bias.unconditional = to_device(u, all + offset) + offset, d.bias.strength = 1.4f;
    unsigned *table = (unsigned *)test_memory(all, sizeof(unsigned));
    memset(table, 0, all * sizeof(unsigned));
    const llm_cuda_frequency_penalty_text t = {to_device(ids, ROWS * CAPACITY),
                                               to_device(length, ROWS), to_device(prompt, ROWS),
                                               CAPACITY, to_device(table, all)};
    int *d_token = to_device<int>(NULL, ROWS);
    CHECK_CUDA(llm_cuda_sampling_text_pick(d_token, to_device(x, all + offset) + offset,
                                           to_device(seed, ROWS), ROWS, V, &t, &d, 0));
    from_device(token, d_token, ROWS);
    from_device(table, t.table, all);
    for (size_t i = 0; i < all; i++) CHECK(table[i] == 0);
    size_t said = 0;
    for (size_t b = 0; b < ROWS; b++) {
        llm_arena arena = {(unsigned char *)test_memory(room, 1), room, 0, 0};
        llm_sampling_text s;
        llm_rng own = llm_rng_seed(seed[b]);
        float *z = x + offset + b * V;
        if (guided) llm_logit_bias_guidance(z, z, u + offset + b * V, V, 1.4f);
        llm_sampling_text_create(&s, &c, V, CAPACITY, prompt[b], &arena);
        const int want = llm_sampling_text_pick(&s, z, V, ids + b * CAPACITY, length[b], &own);
        CHECK(token[b] == want);
        said += want >= 0;
    }
    return said;
}

TEST(sampling_text, "the samplers of three libraries draw the reference's tokens") {
    const size_t sizes[6] = {40, 7, 97, 64, 1, 130};
    size_t said = 0;
    for (uint64_t round = 0; round < (TEST_SLOW ? 6 : 36); round++)
        said += check_pick((llm_sampling_text_order)(round % 3), sizes[round / 3 % 6],
                           round / 2 % 2, round * 5 + round / 3);
    if (!TEST_SLOW) CHECK(said > 54);
}

TEST(sampling_text, "everything off is the plain draw; a mask leaves its tokens; what is refused") {
    enum { V = 70 };
    float *x = floats(3 * V);
    const uint64_t seed[3] = {4, 5, 6};
    int token[3], *d_token = to_device<int>(NULL, 3);
    llm_rng rng = llm_rng_seed(2);
    for (size_t i = 0; i < 3 * V; i++) x[i] = llm_rng_normal(&rng);
    x[V + 3] = NAN;
    llm_sampling_text_config c = llm_sampling_text_defaults(LLM_SAMPLING_TEXT_API);
    llm_cuda_sampling_text_config d = llm_cuda_sampling_text_make(&c);
    llm_cuda_frequency_penalty_text t;
    memset(&t, 0, sizeof t);
    d.penalty.output = false; /* nothing asks for the text */
    const uint64_t *d_seed = to_device(seed, 3);
    CHECK_CUDA(llm_cuda_sampling_text_pick(d_token, to_device(x, 3 * V), d_seed, 3, V, &t, &d, 0));
    from_device(token, d_token, 3);
    for (size_t b = 0; b < 3; b++) {
        llm_rng own = llm_rng_seed(seed[b]);
        CHECK(token[b] == llm_sampling_draw(x + b * V, V, &own));
    }
    CHECK(token[1] == -1);
    uint32_t mask[9] = {0, 0, 0x20u, 0x20u, 0, 0, 0, 0, 0}; /* 69; 5, with a NaN; nothing */
    d.bias.mask = to_device(mask, 9);
    x[V + 3] = 0.0f;
    CHECK_CUDA(llm_cuda_sampling_text_pick(d_token, to_device(x, 3 * V), d_seed, 3, V, &t, &d, 0));
    from_device(token, d_token, 3);
    CHECK(token[0] == 69 && token[1] == 5 && token[2] == -1);
    float *d_x = to_device(x, 3 * V);
    CHECK_CUDA(llm_cuda_sampling_text_pick(d_token, d_x, d_seed, 0, V, &t, &d, 0));
    for (int i = 0; i < 7; i++) {
        llm_cuda_sampling_text_config bad = d;
        if (i == 0) bad.penalty.factor = 0.0f;
        if (i == 1) bad.xtc_chance = 0.5f, bad.xtc_threshold = 0.0f;
        if (i == 2) bad.penalty.output = true;
        if (i == 3) bad.min_new = 1;
        if (i == 4) bad.steps = 1, bad.chain[0].kind = LLM_SAMPLING_TYPICAL;
        if (i == 5) bad.steps = 9;
        CHECK((llm_cuda_sampling_text_pick(d_token, d_x, d_seed, 1, V, &t, &bad, 0) ==
               cudaSuccess) == (i == 6));
        CHECK(llm_cuda_sampling_text_pick(d_token, d_x, d_seed, 1, i == 0 ? 0 : (1u << 23) + 1, &t,
                                          &d, 0) != cudaSuccess);
    }
}

/* @decoding */
#include "../test.h"

#include "../../llm_cuda.cuh"

enum { V = 11, CAPACITY = 20 };

/* The model: logits (B,V) <- the row of table (V,V) for each row's last token. */
LLM_KERNEL void bigram(float *logits, const float *table, const int *next) {
    if (threadIdx.x < V)
        logits[blockIdx.x * V + threadIdx.x] = table[(size_t)next[blockIdx.x] * V + threadIdx.x];
}
static void bigram_step(void *context, float *logits, const int *ids, const size_t *count,
                        const size_t *row, size_t rows, size_t n) {
    (void)row;
    for (size_t i = 0; i < rows; i++)
        memcpy(logits + i * V, (const float *)context + (size_t)ids[i * n + count[i] - 1] * V,
               V * sizeof(float));
}
static int gumbel(void *context, float *logits, size_t size, const int *ids, size_t n,
                  llm_rng *rng) {
    (void)context, (void)ids, (void)n;
    return llm_temperature_gumbel(logits, size, 1.0f, rng);
}

/* B rows through the reference's loop and through the one on the device, which makes some turns
 * more than are needed: texts, ends and log-probabilities are the same. */
static void check_run(size_t B, size_t max_new, size_t min_new, bool streams, uint64_t seed) {
    const int stop[2] = {3, 7};
    float *table = floats(V * V), *logprob = floats(B * CAPACITY), *got = floats(B * CAPACITY);
    int *ids = (int *)test_memory(B * CAPACITY, sizeof(int));
    int *got_ids = (int *)test_memory(B * CAPACITY, sizeof(int));
    int *end = (int *)test_memory(B, sizeof(int)), *next = (int *)test_memory(B, sizeof(int)),
        open = -1;
    size_t *prompt = (size_t *)test_memory(B, sizeof(size_t));
    size_t *length = (size_t *)test_memory(B, sizeof(size_t));
    uint64_t *stream = (uint64_t *)test_memory(B, sizeof(uint64_t));
    llm_decoding_row *rows = (llm_decoding_row *)test_memory(B, sizeof(llm_decoding_row));
    const size_t room = B * (V + CAPACITY + 8) * 8 + 4096;
    llm_arena arena = {(unsigned char *)test_memory(room, 1), room, 0, 0};
    llm_rng rng = llm_rng_seed(seed);
    for (size_t i = 0; i < V * V; i++) table[i] = llm_rng_normal(&rng);
    table[9 * V + 2] = NAN; /* what stands behind a 9 ends the row */
    for (size_t i = 0; i < B * CAPACITY; i++) ids[i] = (int)llm_rng_below(&rng, 9);
    for (size_t b = 0; b < B; b++) {
        prompt[b] = llm_rng_below(&rng, CAPACITY);
        if (b % 5 == 4) prompt[b] = CAPACITY;
        if (b == 1) prompt[b] = 0;
        stream[b] = streams ? (uint64_t)llm_rng_u32(&rng) << 32 | b : b;
    }
    llm_cuda_decoding_rows r;
    memset(&r, 0, sizeof r);
    r.ids = to_device(ids, B * CAPACITY), r.end = to_device<int>(NULL, B);
    r.next = to_device<int>(NULL, B), r.open = to_device<int>(NULL, 1);
    r.length = to_device(prompt, B), r.prompt = to_device(prompt, B);
    r.count = to_device<size_t>(NULL, B), r.seed = to_device<uint64_t>(NULL, B);
    r.stream = streams ? to_device(stream, B) : NULL;
    r.logprob = to_device<float>(NULL, B * CAPACITY), r.stop = to_device(stop, 2);
    r.stops = 2, r.B = B, r.capacity = CAPACITY, r.max_new = max_new, r.min_new = min_new;
    r.key = seed * 0x9e3779b97f4a7c15u;

    for (size_t b = 0; b < B; b++) {
        rows[b] = llm_decoding_begin(ids + b * CAPACITY, prompt[b], stream[b]);
        rows[b].logprob = logprob + b * CAPACITY;
    }
    const llm_decoding_model model = {V, CAPACITY, table, bigram_step};
    const llm_decoding_picker picker = {NULL, gumbel};
    llm_decoding_config c = llm_decoding_defaults(max_new);
    c.min_new = min_new, c.stop = stop, c.stops = 2, c.seed = r.key, c.processed = true;
    llm_decoding_run(rows, B, &model, &picker, &c, &arena);

    float *d_logits = to_device<float>(NULL, B * V), *d_logprob = to_device<float>(NULL, B);
    const float *d_table = to_device(table, V * V);
    int *d_token = to_device<int>(NULL, B);
    llm_cuda_temperature_part *d_part =
        to_device<llm_cuda_temperature_part>(NULL, B * LLM_CUDA_GREEDY_PIECES);
    CHECK_CUDA(llm_cuda_decoding_begin(&r, 0));
    for (size_t turn = 0, idle = 0; idle < 3; turn++) { /* three turns more than are needed */
        LLM_LAUNCH(bigram, (unsigned)B, 32, 0, 0, d_logits, d_table, r.next);
        CHECK_CUDA(llm_cuda_decoding_forbid(&r, d_logits, V, 0));
        CHECK_CUDA(llm_cuda_temperature_gumbel(d_token, d_logprob, d_part, d_logits, r.seed, B, V,
                                               1.0f, 0));
        CHECK_CUDA(llm_cuda_decoding_take(&r, d_token, d_logprob, 0));
        size_t *count = (size_t *)test_memory(B, sizeof(size_t)), going = 0;
        from_device(&open, r.open, 1);
        from_device(count, r.count, B);
        for (size_t b = 0; b < B; b++) going += count[b];
        CHECK(open == (int)going && (turn < CAPACITY || open == 0));
        idle += open == 0;
    }
    from_device(got_ids, r.ids, B * CAPACITY);
    from_device(got, r.logprob, B * CAPACITY);
    from_device(end, r.end, B);
    from_device(next, r.next, B);
    from_device(length, r.length, B);
    for (size_t b = 0; b < B; b++) {
        const size_t at = b * CAPACITY;
        CHECK(end[b] == (int)rows[b].end && length[b] == rows[b].length);
        CHECK(memcmp(got_ids + at, ids + at, rows[b].length * sizeof(int)) == 0);
        CHECK_ALL_NEAR(got + at + prompt[b], logprob + at + prompt[b], length[b] - prompt[b],
                       1e-5f);
        CHECK(next[b] == (length[b] ? ids[at + length[b] - 1] : 0));
        if (b == 1) CHECK(end[b] == LLM_DECODING_FAILED);
    }
}

TEST(decoding, "the loop on the device writes the reference's texts, ends and log-probabilities") {
    check_run(1, 5, 0, false, 1);
    check_run(7, 100, 0, true, 2);
    check_run(20, 6, 3, true, 3);
    check_run(9, 0, 0, false, 4);
    check_run(11, 12, 12, true, 5);
    if (!TEST_SLOW) check_run(1030, 1, 1, false, 6); /* more rows than the block has threads */
}

TEST(decoding, "forbidding touches no row that is long enough and no id outside the vocabulary") {
    const size_t prompt[3] = {4, 4, 4}, length[3] = {5, 6, 4};
    const int stop[3] = {1, 99, -5};
    float logits[3 * V];
    for (size_t i = 0; i < 3 * V; i++) logits[i] = 1.0f;
    llm_cuda_decoding_rows r;
    memset(&r, 0, sizeof r);
    r.B = 3, r.stops = 3, r.min_new = 2, r.capacity = CAPACITY;
    r.length = to_device(length, 3), r.prompt = to_device(prompt, 3), r.stop = to_device(stop, 3);
    float *d_logits = to_device(logits, 3 * V);
    CHECK_CUDA(llm_cuda_decoding_forbid(&r, d_logits, V, 0));
    from_device(logits, d_logits, 3 * V);
    for (size_t i = 0; i < 3 * V; i++)
        CHECK(logits[i] == (i % V == 1 && i / V != 1 ? -INFINITY : 1.0f));
}

TEST(decoding, "several tokens of a turn end a row where one after the other would") {
    enum { B = 6, N = 4 };
    const size_t prompt[B] = {2, 2, 2, CAPACITY - 2, 2, 1}, count[B] = {3, 4, 4, 4, 0, 4};
    const int token[B * N] = {1, 2, 4, 9, /**/ 1, 3, 1, 1, /**/ 1, -1, 2, 2, /**/
                              1, 2, 4, 5, /**/ 1, 1, 1, 1, /**/ 8, 6,  5, 4};
    const int stop[1] = {3}, before[B] = {0, 0, 0, 0, 0, 0};
    const size_t want[B] = {5, 4, 3, CAPACITY, 2, 5};
    const int want_end[B] = {LLM_DECODING_RUNNING, LLM_DECODING_STOP,    LLM_DECODING_FAILED,
                             LLM_DECODING_FULL,    LLM_DECODING_RUNNING, LLM_DECODING_BUDGET};
    int ids[B * CAPACITY], end[B], next[B], open;
    uint64_t seed[B];
    size_t length[B];
    for (size_t i = 0; i < B * CAPACITY; i++) ids[i] = 70 + (int)(i % CAPACITY);
    llm_cuda_decoding_rows r;
    memset(&r, 0, sizeof r);
    r.ids = to_device(ids, B * CAPACITY), r.end = to_device(before, B);
    r.next = to_device<int>(NULL, B), r.open = to_device<int>(NULL, 1);
    r.length = to_device(prompt, B), r.prompt = to_device(prompt, B);
    r.count = to_device<size_t>(NULL, B), r.seed = to_device<uint64_t>(NULL, B);
    r.stop = to_device(stop, 1), r.stops = 1, r.B = B, r.capacity = CAPACITY, r.max_new = 4;
    CHECK_CUDA(llm_cuda_decoding_begin(&r, 0));
    for (int turn = 0; turn < 2; turn++) { /* the second time no row takes any */
        const size_t none[B] = {0, 0, 0, 0, 0, 0};
        CHECK_CUDA(llm_cuda_decoding_take_many(&r, to_device(token, B * N),
                                               to_device(turn == 0 ? count : none, B), N, 0));
        from_device(ids, r.ids, B * CAPACITY);
        from_device(end, r.end, B);
        from_device(next, r.next, B);
        from_device(seed, r.seed, B);
        from_device(length, r.length, B);
        CHECK(*from_device(&open, r.open, 1) == 2);
        for (size_t b = 0; b < B; b++) {
            CHECK(length[b] == want[b] && end[b] == want_end[b]);
            for (size_t i = 0; i < CAPACITY; i++)
                CHECK(ids[b * CAPACITY + i] ==
                      (i < prompt[b] || i >= want[b] ? 70 + (int)i : token[b * N + i - prompt[b]]));
            CHECK(next[b] == ids[b * CAPACITY + want[b] - 1]);
            llm_rng own = llm_decoding_rng(r.key, b, want[b] - prompt[b]);
            CHECK(seed[b] == ((uint64_t)own.key[1] << 32 | own.key[0]));
        }
    }
}

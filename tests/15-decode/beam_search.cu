/* @beam_search */
#include "../test.h"

#include "../../llm_cuda.cuh"
#include "../tiny_beam.h"

enum { PROMPT = 3 };

/* S searches for this configuration, their memory on the device. */
static llm_cuda_beam_search searches(const llm_beam_search_config &c, size_t S) {
    const size_t K = llm_cuda_beam_search_wanted(&c), N = S * c.beams, all = N * c.max_new;
    const llm_cuda_beam_search d = {c,
                                    S,
                                    K,
                                    to_device<llm_cuda_beam_search_state>(NULL, S),
                                    to_device<llm_cuda_beam_search_candidate>(NULL, N * K),
                                    to_device<int>(NULL, all),
                                    to_device<int>(NULL, all),
                                    to_device<int>(NULL, all),
                                    to_device<int>(NULL, N),
                                    to_device<double>(NULL, N),
                                    to_device<double>(NULL, N),
                                    to_device<double>(NULL, N),
                                    to_device<size_t>(NULL, N),
                                    to_device<size_t>(NULL, N)};
    return d;
}

/* Searches behind prompts of their own, beside llm_beam_search_run: the texts that ended, their
 * order and scores, and the number of generations. T rounds the table, for both. */
template <typename T>
static void check_search(size_t S, size_t V, llm_beam_search_config c, uint64_t seed) {
    const size_t B = c.beams, N = S * B, all = N * c.max_new, room = 1 << 20;
    float *table = tiny_beam_table(seed, V, 1.5f), *logits = floats(N * V);
    to_device_as<T>(table, V * V * V);
    llm_arena arena = {(unsigned char *)test_memory(room, 1), room, 0, 0};
    const llm_beam_search_config on_cpu = c;
    int *prompt = (int *)test_memory(S * PROMPT, sizeof(int));
    llm_rng rng = llm_rng_seed(seed);
    for (size_t i = 0; i < S * PROMPT; i++) prompt[i] = (int)llm_rng_below(&rng, V);

    if (c.stops) c.stop = to_device(c.stop, c.stops);
    const llm_cuda_beam_search d = searches(c, S);
    size_t *parent = (size_t *)test_memory(N, sizeof(size_t)), generations = 0, most = 0;
    size_t(*text)[2] = (size_t(*)[2])test_memory(N, sizeof *text);
    size_t(*before)[2] = (size_t(*)[2])test_memory(N, sizeof *text);
    int *token = (int *)test_memory(N, sizeof(int));
    llm_cuda_beam_search_state *state = (llm_cuda_beam_search_state *)test_memory(S, sizeof *state);
    for (size_t n = 0; n < N; n++)
        for (size_t i = 0; i < 2; i++) text[n][i] = (size_t)prompt[n / B * PROMPT + PROMPT - 2 + i];
    CHECK_CUDA(llm_cuda_beam_search_begin(&d, 0));
    for (bool open = true; open && generations < 40; generations++) {
        for (size_t n = 0; n < N; n++)
            memcpy(logits + n * V, table + (text[n][0] * V + text[n][1]) * V, V * sizeof(float));
        CHECK_CUDA(llm_cuda_beam_search_advance(&d, to_device_as<T>(logits, N * V), V, 0));
        from_device(state, d.state, S);
        from_device(parent, d.parent, N);
        from_device(token, d.token, N);
        memcpy(before, text, N * sizeof *text);
        open = false;
        for (size_t n = 0; n < N; n++) {
            const llm_cuda_beam_search_state &now = state[n / B];
            CHECK(parent[n] / B == n / B);
            if (now.open) {
                text[n][0] = before[parent[n]][1];
                text[n][1] = (size_t)token[n];
                CHECK(n % B < now.live || parent[n] == n / B * B);
            }
            open = open || now.open;
        }
    }
    int *ids = (int *)test_memory(all, sizeof(int));
    double *sum = doubles(N), *score = doubles(N);
    size_t *length = (size_t *)test_memory(N, sizeof(size_t));
    from_device(ids, d.end_ids, all);
    from_device(sum, d.end_sum, N);
    from_device(score, d.end_score, N);
    from_device(length, d.end_length, N);
    for (size_t i = 0; i < S; i++) {
        llm_beam_search s;
        tiny_beam m;
        const llm_beam_search_model model = tiny_beam_model(&m, table, V);
        llm_beam_search_create(&s, &on_cpu, &arena);
        llm_beam_search_run(&s, prompt + i * PROMPT, PROMPT, &model, &on_cpu, &arena);
        most = s.length > most ? s.length : most;
        CHECK(!state[i].open && state[i].ended == s.ended && state[i].live == s.live);
        CHECK(state[i].length == s.length);
        for (size_t r = 0; r < s.ended; r++) {
            const size_t at = i * B + (size_t)state[i].order[r];
            CHECK(length[at] == s.end_length[r]);
            CHECK_NEAR(sum[at], s.end_sum[r], 1e-4);
            CHECK_NEAR(score[at], s.end_score[r], 1e-4);
            for (size_t t = 0; t < length[at]; t++)
                CHECK(ids[at * c.max_new + t] == s.end_ids[r * c.max_new + t]);
        }
    }
    CHECK(generations == most);
}
static llm_beam_search_config config(size_t beams, size_t max_new, const int *stop, size_t stops) {
    llm_beam_search_config c = llm_beam_search_defaults(beams, max_new);
    c.stop = stop, c.stops = stops;
    return c;
}

TEST(beam_search, "searches on the device end with the texts and scores of llm_beam_search_run") {
    const int stop[3] = {2, 0, 5};
    llm_beam_search_config c = config(3, 7, stop, 1);
    check_search<float>(2, 9, c, 1);
    if (TEST_SLOW) return;
    c.alpha = 0.0f, c.early = LLM_BEAM_SEARCH_FULL;
    check_search<float>(3, 9, c, 2);
    c.alpha = 1.3f, c.early = LLM_BEAM_SEARCH_NEVER;
    check_search<float>(3, 9, c, 3);
    c.gnmt = true;
    check_search<float>(2, 9, c, 4);
    check_search<float>(1, 12, config(4, 6, stop, 3), 5);
    check_search<llm_bf16>(1, 12, config(4, 6, stop, 1), 6);
}
TEST(beam_search, "one beam, more beams than tokens, no stop tokens, rows longer than a block") {
    const int stop[1] = {1};
    check_search<float>(1, 6, config(1, 5, stop, 1), 7);
    if (TEST_SLOW) return;
    check_search<float>(1, 3, config(7, 4, stop, 1), 8);
    check_search<float>(1, 5, config(3, 4, NULL, 0), 9);
    check_search<float>(2, 40, config(12, 3, stop, 1), 10); /* each thread meets one or two */
}

/* One generation of one search for these logits (V). */
static llm_cuda_beam_search_state one(int *ids, const float *logits, size_t V, size_t beams) {
    const llm_beam_search_config c = config(beams, 4, NULL, 0);
    const llm_cuda_beam_search d = searches(c, 1);
    llm_cuda_beam_search_state s;
    CHECK_CUDA(llm_cuda_beam_search_begin(&d, 0));
    CHECK_CUDA(llm_cuda_beam_search_advance(&d, to_device(logits, V), V, 0));
    from_device(ids, d.token, beams);
    from_device(&s, d.state, 1);
    return s;
}
TEST(beam_search,
     "equal continuations go by their number, long rows give all their best, NaN and bans none") {
    const size_t V = 2500;
    float *z = zeros(V);
    int ids[8];
    for (size_t v = 0; v < V; v++) z[v] = v % 1024 == 7 ? 5.0f : 0.0f;
    z[2400] = 6.0f; /* thread 7 has the second to fourth best, which is more than it remembers */
    CHECK(one(ids, z, V, 6).live == 6);
    const int want[6] = {2400, 7, 1031, 2055, 0, 1};
    for (size_t i = 0; i < 6; i++) CHECK(ids[i] == want[i]);
    for (size_t v = 0; v < V; v++) z[v] = v == 1300 || v == 3 ? 1.0f : -INFINITY;
    const llm_cuda_beam_search_state two = one(ids, z, V, 4);
    CHECK(two.live == 2 && two.open && ids[0] == 3 && ids[1] == 1300);
    z[5] = NAN;
    const llm_cuda_beam_search_state none = one(ids, z, V, 4);
    CHECK(none.live == 0 && !none.open);
}

TEST(beam_search, "more beams or candidates than there is room for are refused") {
    llm_cuda_beam_search d;
    memset(&d, 0, sizeof d);
    const float *none = NULL;
    d.config = config(32, 3, NULL, 0), d.K = 64;
    CHECK_CUDA(llm_cuda_beam_search_advance(&d, none, 5, 0));
    CHECK_CUDA(llm_cuda_beam_search_begin(&d, 0));
    CHECK(llm_cuda_beam_search_advance(&d, none, 0, 0) != cudaSuccess);
    d.K = 63;
    CHECK(llm_cuda_beam_search_advance(&d, none, 5, 0) != cudaSuccess);
    d.config.beams = 33, d.K = 66;
    CHECK(llm_cuda_beam_search_advance(&d, none, 5, 0) != cudaSuccess);
    d.config.beams = 32, d.config.stops = 4, d.K = 160;
    CHECK(llm_cuda_beam_search_advance(&d, none, 5, 0) != cudaSuccess);
}

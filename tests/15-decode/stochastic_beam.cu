/* @stochastic_beam */
#include "../test.h"

#include "../../llm_cuda.cuh"
#include "../tiny_beam.h"

enum { PROMPT = 2 };

/* S searches, their memory on the device full of NaN. */
static llm_cuda_stochastic_beam searches(size_t S, size_t k, size_t T, size_t V, int stop,
                                         const uint64_t *seed) {
    const size_t N = S * k;
    const llm_cuda_stochastic_beam d = {S,
                                        k,
                                        T,
                                        stop,
                                        to_device(seed, S),
                                        to_device<llm_cuda_stochastic_beam_state>(NULL, S),
                                        to_device<llm_cuda_stochastic_beam_candidate>(NULL, N * k),
                                        to_device<int>(NULL, N * T),
                                        to_device<int>(NULL, N * T),
                                        to_device<int>(NULL, N),
                                        to_device<size_t>(NULL, N),
                                        to_device<size_t>(NULL, N),
                                        to_device<size_t>(NULL, N),
                                        to_device<float>(NULL, N),
                                        to_device<float>(NULL, N),
                                        to_device<float>(NULL, N * V),
                                        to_device<llm_logsumexp_pair>(NULL, N),
                                        to_device<bool>(NULL, N)};
    return d;
}
/* What search i has found is what s has. */
static void check_same(const llm_cuda_stochastic_beam &d, size_t i, const llm_stochastic_beam &s) {
    const size_t k = d.k, T = d.T, N = d.searches * k;
    int *ids = (int *)test_memory(N * T, sizeof(int));
    size_t *length = (size_t *)test_memory(N, sizeof(size_t));
    float *logp = floats(N), *noisy = floats(N);
    bool *ended = bools(N);
    llm_cuda_stochastic_beam_state *state =
        (llm_cuda_stochastic_beam_state *)test_memory(d.searches, sizeof *state);
    from_device(ids, d.ids, N * T), from_device(length, d.length, N);
    from_device(logp, d.logp, N), from_device(noisy, d.noisy, N);
    from_device(state, d.state, d.searches), from_device(ended, d.ended, N);
    CHECK(state[i].count == s.count);
    for (size_t b = 0; b < s.count; b++) {
        const size_t at = i * k + b;
        CHECK(length[at] == s.length[b] && ended[at] == s.ended[b]);
        CHECK_NEAR(logp[at], s.logp[b], 2e-5f * (1.0f + fabsf(s.logp[b])));
        CHECK_NEAR(noisy[at], s.noisy[b], 2e-5f * (1.0f + fabsf(s.noisy[b])));
        for (size_t t = 0; t < length[at]; t++) CHECK(ids[at * T + t] == s.ids[b * T + t]);
    }
}

/* Searches behind prompts of their own, beside llm_stochastic_beam_run with the same seeds. One
 * child in `bans` is banned, 0: none. Rows without a text under way have logits of NaN. */
template <typename T>
static void check_search(size_t S, size_t k, size_t most, size_t V, int stop, size_t bans,
                         uint64_t from) {
    const size_t N = S * k, room = 1 << 20;
    float *table = tiny_beam_table(from, V, 1.5f), *logits = floats(N * V);
    llm_rng rng = llm_rng_seed(from);
    for (size_t i = 0; bans && i < V * V * V; i++)
        if (llm_rng_below(&rng, bans) == 0) table[i] = -INFINITY;
    to_device_as<T>(table, V * V * V);
    llm_arena arena = {(unsigned char *)test_memory(room, 1), room, 0, 0};
    int *prompt = (int *)test_memory(S * PROMPT, sizeof(int));
    uint64_t seed[8];
    for (size_t i = 0; i < S * PROMPT; i++) prompt[i] = (int)llm_rng_below(&rng, V);
    for (size_t i = 0; i < S; i++) seed[i] = 100 * from + i;

    const llm_cuda_stochastic_beam d = searches(S, k, most, V, stop, seed);
    size_t *parent = (size_t *)test_memory(N, sizeof(size_t)), depths = 0;
    size_t(*text)[2] = (size_t(*)[2])test_memory(N, sizeof *text);
    size_t(*before)[2] = (size_t(*)[2])test_memory(N, sizeof *text);
    int *token = (int *)test_memory(N, sizeof(int));
    bool *ended = bools(N);
    llm_cuda_stochastic_beam_state *state =
        (llm_cuda_stochastic_beam_state *)test_memory(S, sizeof *state);
    for (size_t n = 0; n < N; n++)
        for (size_t i = 0; i < 2; i++) text[n][i] = (size_t)prompt[n / k * PROMPT + i];
    CHECK_CUDA(llm_cuda_stochastic_beam_begin(&d, 0));
    for (bool open = true; open && depths <= most; depths++) {
        from_device(state, d.state, S), from_device(ended, d.ended, N);
        for (size_t n = 0; n < N; n++) {
            const bool used = state[n / k].open && n % k < state[n / k].count && !ended[n];
            for (size_t v = 0; v < V; v++)
                logits[n * V + v] = used ? table[(text[n][0] * V + text[n][1]) * V + v] : NAN;
        }
        CHECK_CUDA(llm_cuda_stochastic_beam_advance(&d, to_device_as<T>(logits, N * V), V, 0));
        size_t old[8]; /* searches that go on */
        for (size_t i = 0; i < S; i++) old[i] = state[i].open;
        from_device(state, d.state, S);
        from_device(parent, d.parent, N), from_device(token, d.token, N);
        memcpy(before, text, N * sizeof *text);
        open = false;
        for (size_t n = 0; n < N; n++) {
            CHECK(parent[n] / k == n / k);
            if (!old[n / k]) CHECK(parent[n] == n); /* it is over */
            if (old[n / k] && n % k >= state[n / k].count)
                CHECK(parent[n] == n / k * k && token[n] == 0);
            if (n % k < state[n / k].count && state[n / k].open) {
                text[n][0] = before[parent[n]][1];
                text[n][1] = (size_t)token[n];
            }
            open = open || state[n / k].open > 0;
        }
    }
    for (size_t i = 0; i < S; i++) {
        llm_stochastic_beam s;
        tiny_beam m;
        const llm_beam_search_model model = tiny_beam_model(&m, table, V);
        llm_rng own = llm_rng_seed(seed[i]);
        const size_t mark = arena.used;
        llm_stochastic_beam_create(&s, k, most, &arena);
        llm_stochastic_beam_run(&s, prompt + i * PROMPT, PROMPT, &model, stop, &own, &arena);
        CHECK(state[i].open == 0);
        check_same(d, i, s);
        arena.used = mark;
    }
}
TEST(stochastic_beam, "searches draw the texts of llm_stochastic_beam_run, by the same numbers") {
    check_search<float>(2, 3, 4, 5, 2, 0, 1);
    if (TEST_SLOW) return;
    check_search<float>(3, 4, 5, 9, 0, 4, 2); /* banned children draw nothing */
    check_search<llm_bf16>(2, 5, 4, 7, 1, 3, 3);
    check_search<float>(1, 1, 6, 6, -1, 0, 4);
    check_search<float>(2, 12, 3, 40, 3, 5, 5); /* two warps a row */
    check_search<float>(2, 20, 2, 3, 1, 0, 6);  /* fewer texts than places */
    check_search<float>(4, 5, 6, 2, -1, 2, 7);  /* texts that nothing can follow */
    check_search<float>(7, 4, 8, 3, 1, 0, 8);   /* some searches are over before others */
}

/* A depth of three texts with these G, of which the first has ended, beside advance. */
static void check_depth(const float *noisy) {
    enum { V = 2100, K = 3, MOST = 4 };
    const uint64_t seed = 8;
    const size_t N = K;
    float *logits = floats(N * V);
    llm_rng rng = llm_rng_seed(seed);
    llm_arena arena = {(unsigned char *)test_memory(1 << 18, 1), 1 << 18, 0, 0};
    const llm_cuda_stochastic_beam d = searches(1, K, MOST, V, 7, &seed);
    llm_stochastic_beam s;
    llm_stochastic_beam_create(&s, K, MOST, &arena);
    const int ids[K * MOST] = {3, 7, 0, 0, 4, 5, 0, 0, 6, 8, 0, 0};
    const size_t length[K] = {2, 2, 2};
    const float logp[K] = {-2.0f, -1.0f, -3.0f};
    const bool ended[K] = {true, false, false};
    const llm_cuda_stochastic_beam_state state = {K, 2, 11};
    s.count = K;
    for (size_t i = 0; i < K * MOST; i++) s.ids[i] = ids[i];
    for (size_t b = 0; b < K; b++) {
        s.length[b] = length[b], s.logp[b] = logp[b], s.noisy[b] = noisy[b];
        s.ended[b] = ended[b];
        for (size_t v = 0; v < V; v++) /* the row of the text that has ended is not read */
            logits[b * V + v] = ended[b]     ? NAN
                                : v % 5 == b ? -INFINITY
                                             : 2.0f * llm_rng_normal(&rng);
    }
    CHECK_CUDA(cudaMemcpy(d.ids, ids, sizeof ids, cudaMemcpyHostToDevice));
    CHECK_CUDA(cudaMemcpy(d.length, length, sizeof length, cudaMemcpyHostToDevice));
    CHECK_CUDA(cudaMemcpy(d.logp, logp, sizeof logp, cudaMemcpyHostToDevice));
    CHECK_CUDA(cudaMemcpy(d.noisy, noisy, K * sizeof *noisy, cudaMemcpyHostToDevice));
    CHECK_CUDA(cudaMemcpy(d.ended, ended, sizeof ended, cudaMemcpyHostToDevice));
    CHECK_CUDA(cudaMemcpy(d.state, &state, sizeof state, cudaMemcpyHostToDevice));
    llm_rng own = llm_rng_seed(seed);
    for (size_t i = 0; i < 11; i++) llm_rng_u32(&own);
    const size_t open = llm_stochastic_beam_advance(&s, logits, V, 7, &own, &arena);
    CHECK_CUDA(llm_cuda_stochastic_beam_advance(&d, to_device(logits, N * V), V, 0));
    check_same(d, 0, s);
    llm_cuda_stochastic_beam_state now;
    from_device(&now, d.state, 1);
    CHECK(now.open == open && now.drawn == 11 + 2 * (V - V / 5)); /* words */
}
TEST(stochastic_beam, "long rows, texts that have ended among them, equal ones by their number") {
    const float noisy[2][3] = {{1.0f, 0.9f, 0.8f}, {0.9f, 0.9f, 0.9f}}; /* the best child's, too */
    for (size_t i = 0; i < (TEST_SLOW ? 0 : 2); i++) check_depth(noisy[i]);
}

TEST(stochastic_beam, "a row without children ends nothing; what is refused") {
    const uint64_t seed = 3;
    const size_t V = 4;
    llm_cuda_stochastic_beam d = searches(1, 2, 3, V, -1, &seed);
    float z[8];
    llm_cuda_stochastic_beam_state now;
    for (size_t i = 0; i < 8; i++) z[i] = -INFINITY;
    CHECK_CUDA(llm_cuda_stochastic_beam_begin(&d, 0));
    for (size_t turn = 0; turn < 2; turn++) { /* it ends; then it is over, and rows stay */
        size_t parent[2] = {7, 7};
        int token[2] = {7, 7};
        CHECK_CUDA(cudaMemcpy(d.parent, parent, sizeof parent, cudaMemcpyHostToDevice));
        CHECK_CUDA(cudaMemcpy(d.token, token, sizeof token, cudaMemcpyHostToDevice));
        CHECK_CUDA(llm_cuda_stochastic_beam_advance(&d, to_device(z, 8), V, 0));
        from_device(&now, d.state, 1);
        CHECK(now.count == 0 && now.open == 0 && now.drawn == 1);
        from_device(parent, d.parent, 2), from_device(token, d.token, 2);
        CHECK(parent[0] == 0 && parent[1] == turn);
        for (size_t b = 0; b < 2; b++) CHECK(token[b] == (turn ? 7 : 0));
    }
    const float *none = NULL;
    CHECK(llm_cuda_stochastic_beam_advance(&d, none, 0, 0) != cudaSuccess);
    d.T = 0;
    CHECK(llm_cuda_stochastic_beam_advance(&d, none, V, 0) != cudaSuccess);
    d.T = 3, d.k = 65;
    CHECK(llm_cuda_stochastic_beam_advance(&d, none, V, 0) != cudaSuccess);
    d.k = 64, d.searches = 0;
    CHECK_CUDA(llm_cuda_stochastic_beam_advance(&d, none, V, 0));
    CHECK_CUDA(llm_cuda_stochastic_beam_begin(&d, 0));
}

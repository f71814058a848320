/* @speculative */
#include "../test.h"

#include "../../llm_cuda.cuh"

/* Rows of probabilities: every third one with zeros, all times `mass`. */
static void distributions(float *p, size_t rows, size_t V, float mass, llm_rng *rng) {
    for (size_t r = 0; r < rows; r++) {
        double sum = 0.0;
        for (size_t v = 0; v < V; v++) {
            const bool gone = r % 3 == 2 && v + 1 < V && llm_rng_below(rng, 2) == 0;
            p[r * V + v] = gone ? 0.0f : expf(2.0f * llm_rng_normal(rng));
            sum += (double)p[r * V + v];
        }
        for (size_t v = 0; v < V; v++) p[r * V + v] *= mass / (float)sum;
    }
}

/* B rows beside llm_speculative_verify: q random, near p, or NULL. Returns how many drafts were
 * accepted. */
enum { APART, NEAR, SURE, LESS };
static size_t check_verify(size_t B, size_t g, size_t V, int kind, uint64_t round) {
    const size_t places = B * g, all = B * (g + 1) * V;
    float *p = floats(all), *q = floats(places * V);
    int *draft = (int *)test_memory(places + 1, sizeof(int));
    int *next = (int *)test_memory(B, sizeof(int)), *taken = (int *)test_memory(B, sizeof(int));
    size_t *length = (size_t *)test_memory(B, sizeof(size_t)), total = 0;
    uint64_t *seed = (uint64_t *)test_memory(B, sizeof(uint64_t));
    llm_rng rng = llm_rng_seed(round);
    distributions(p, B * (g + 1), V, kind == LESS ? 0.5f : 1.0f, &rng);
    distributions(q, places, V, 1.0f, &rng);
    for (size_t i = 0; i < places; i++) {
        float *row = q + i * V;
        const float *target = p + (i / g * (g + 1) + i % g) * V;
        /* LESS: p is below q everywhere, so that a refusal leaves nothing */
        for (size_t v = 0; v < V && kind == NEAR; v++) row[v] = 0.9f * target[v] + 0.1f * row[v];
        for (size_t v = 0; v < V && kind == LESS; v++) row[v] = 2.0f * target[v];
        draft[i] = llm_speculative_draw(row, V, &rng);
    }
    for (size_t b = 0; b < B; b++) seed[b] = round * 1000 + b, length[b] = 100 + b;
    size_t *d_length = to_device(length, B);
    int *d_next = to_device<int>(NULL, B), *d_taken = to_device<int>(NULL, B);
    CHECK_CUDA(llm_cuda_speculative_verify(d_next, d_taken, kind == SURE ? NULL : d_length,
                                           to_device(draft, places),
                                           kind == SURE ? NULL : to_device(q, places * V),
                                           to_device(p, all), to_device(seed, B), B, g, V, 0));
    from_device(next, d_next, B);
    from_device(taken, d_taken, B);
    from_device(length, d_length, B);
    for (size_t b = 0; b < B; b++) {
        llm_rng own = llm_rng_seed(seed[b]);
        int want = -2;
        const size_t i =
            llm_speculative_verify(&want, draft + b * g, kind == SURE ? NULL : q + b * g * V,
                                   p + b * (g + 1) * V, g, V, &own);
        CHECK(taken[b] == (int)i && next[b] == want);
        CHECK(length[b] == 100 + b - (kind == SURE ? 0 : g - i));
        total += i;
    }
    return total;
}

TEST(speculative, "accepted drafts and the token behind them are those of llm_speculative_verify") {
    size_t near = 0, apart = 0;
    for (uint64_t round = 0; round < (TEST_SLOW ? 1 : 8); round++) {
        near += check_verify(4, 6, 37, NEAR, round);
        apart += check_verify(4, 6, 37, APART, round);
        check_verify(3, 2, 5, SURE, round);
        check_verify(5, 3, 8, LESS, round);
    }
    if (!TEST_SLOW) CHECK(near > 100 && apart < 80 && apart > 0); /* of 192 */
}
TEST(speculative,
     "no drafts at all, one token, drafts for a whole warp, a row longer than a block") {
    check_verify(3, 0, 5, APART, 50);
    check_verify(2, 4, 1, APART, 51);
    if (TEST_SLOW) return;
    check_verify(1, 31, 40, NEAR, 52);
    check_verify(2, 2, 1100, APART, 53);
}

TEST(speculative, "a target without any mass is said; too many drafts are refused") {
    float p[6] = {0, 0, 0, 0, 0, 0};
    const int draft[1] = {1};
    const uint64_t seed[1] = {9};
    int *next = to_device<int>(NULL, 1), *taken = to_device<int>(NULL, 1), got;
    const float *none = NULL;
    CHECK_CUDA(llm_cuda_speculative_verify(next, taken, NULL, to_device(draft, 1), none,
                                           to_device(p, 6), to_device(seed, 1), 1, 1, 3, 0));
    CHECK(*from_device(&got, next, 1) == -1);
    CHECK(*from_device(&got, taken, 1) == 0);
    p[1] = 1e-6f; /* a sure draft is refused and has all the mass there is: p stays */
    CHECK_CUDA(llm_cuda_speculative_verify(next, taken, NULL, to_device(draft, 1), none,
                                           to_device(p, 6), to_device(seed, 1), 1, 1, 3, 0));
    CHECK(*from_device(&got, next, 1) == 1);
    CHECK(*from_device(&got, taken, 1) == 0);
    CHECK(llm_cuda_speculative_verify(next, taken, NULL, draft, none, p, seed, 1, 32, 3, 0) !=
          cudaSuccess);
    CHECK(llm_cuda_speculative_verify(next, taken, NULL, draft, none, p, seed, 1, 1, 0, 0) !=
          cudaSuccess);
    CHECK_CUDA(llm_cuda_speculative_verify(next, taken, NULL, draft, none, p, seed, 0, 1, 3, 0));
}

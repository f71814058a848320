/* @causal_lm */
#include "../test.h"

#include "../../llm_cuda.cuh"

/* Answers of 2, 1, 0, 3 tokens, some of which are their row's largest, beside sums in doubles. */
template <typename T> static void check_choices(size_t V) {
    enum { N = 4, ROWS = 6, TOKENS = 6 };
    const size_t start[N + 1] = {0, 2, 3, 3, 6}, first[N] = {1, 0, 5, 3};
    float *z = floats(ROWS * V);
    int choice[TOKENS];
    llm_rng rng = llm_rng_seed(V);
    llm_rng_normal_fill(&rng, z, ROWS * V);
    for (size_t t = 0; t < TOKENS; t++) choice[t] = (int)llm_rng_below(&rng, V);
    for (size_t t = 0; t < 3; t++) z[(t < 2 ? 1 + t : 0) * V + (size_t)choice[t]] = 5.0f;
    const T *d_z = to_device_as<T>(z, ROWS * V);
    double total[N];
    bool greedy[N];
    const llm_cuda_causal_lm_answers a = {to_device(choice, TOKENS), to_device(start, N + 1),
                                          to_device(first, N), NULL, N};
    double *d_total = to_device<double>(NULL, N);
    bool *d_greedy = to_device<bool>(NULL, N);
    CHECK_CUDA(llm_cuda_causal_lm_choices(d_total, d_greedy, d_z, a, V, 0));
    from_device(total, d_total, N), from_device(greedy, d_greedy, N);
    for (size_t k = 0; k < N; k++) {
        double want = 0.0;
        bool best = true;
        for (size_t t = start[k]; t < start[k + 1]; t++) {
            const float *row = z + (first[k] + t - start[k]) * V;
            double sum = 0.0;
            for (size_t v = 0; v < V; v++) {
                sum += exp((double)row[v]);
                best = best && row[v] <= row[choice[t]];
            }
            want += (double)row[choice[t]] - log(sum);
        }
        CHECK_NEAR(total[k], want, 3e-6f);
        CHECK(greedy[k] == best && (k == 3 || best)); /* the last one is not, but by chance */
    }
    CHECK(!greedy[3]);
}
TEST(causal_lm, "log-probabilities of answers, and whether they would have been written") {
    check_choices<float>(7);
    check_choices<float>(1100); /* more than a round of a block */
    check_choices<llm_bf16>(16);
}

TEST(causal_lm, "the best answer by each measure, the first among equals, none without answers") {
    enum { N = 6, Q = 4 };
    const size_t start[N + 1] = {0, 1, 4, 6, 8, 10, 11}, bytes[N] = {2, 12, 4, 9, 9, 1};
    const size_t question[Q + 1] = {0, 3, 3, 5, 6};
    const double total[N] = {-2.0, -4.5, -3.0, -1.0, -1.0, -7.0};
    /* totals -2 -4.5 -3; a token -2 -1.5 -1.5; a byte -1 -0.375 -0.75 */
    const int want[3][Q] = {{0, -1, 0, 0}, {1, -1, 0, 0}, {1, -1, 0, 0}};
    const llm_causal_lm_measure by[3] = {LLM_CAUSAL_LM_TOTAL, LLM_CAUSAL_LM_PER_TOKEN,
                                         LLM_CAUSAL_LM_PER_BYTE};
    const llm_cuda_causal_lm_answers a = {NULL, to_device(start, N + 1), NULL, to_device(bytes, N),
                                          N};
    int got[Q], *d = to_device<int>(NULL, Q);
    for (size_t i = 0; i < 3; i++) {
        CHECK_CUDA(llm_cuda_causal_lm_best(d, to_device(total, N), a, to_device(question, Q + 1), Q,
                                           by[i], 0));
        from_device(got, d, Q);
        for (size_t q = 0; q < Q; q++) CHECK(got[q] == want[i][q]);
    }
    /* a longer answer that wins by one measure only */
    const double other[N] = {-2.0, -6.3, -3.9, -1.0, -1.5, -7.0};
    const int each[3] = {0, 2, 1}; /* a token -2 -2.1 -1.95; a byte -1 -0.525 -0.975 */
    for (size_t i = 0; i < 3; i++) {
        CHECK_CUDA(llm_cuda_causal_lm_best(d, to_device(other, N), a, to_device(question, Q + 1), Q,
                                           by[i], 0));
        CHECK(from_device(got, d, Q)[0] == each[i]);
    }
}

TEST(causal_lm, "a token outside the vocabulary is NaN, and no reason to read beyond it") {
    const float z[4] = {1, 2, 3, 4};
    const size_t start[3] = {0, 1, 2}, first[2] = {0, 1};
    const int choice[2] = {2, -1};
    double total[2], *d = to_device<double>(NULL, 2);
    bool greedy[2], *d_greedy = to_device<bool>(NULL, 2);
    llm_cuda_causal_lm_answers a = {to_device(choice, 2), to_device(start, 3), to_device(first, 2),
                                    NULL, 2};
    CHECK_CUDA(llm_cuda_causal_lm_choices(d, d_greedy, (const float *)to_device(z, 4), a, 2, 0));
    from_device(total, d, 2), from_device(greedy, d_greedy, 2);
    CHECK(total[0] != total[0] && total[1] != total[1] && !greedy[0] && !greedy[1]);
    a.n = 0;
    CHECK_CUDA(llm_cuda_causal_lm_choices(d, d_greedy, (const float *)NULL, a, 2, 0));
    CHECK_CUDA(llm_cuda_causal_lm_best((int *)NULL, d, a, (const size_t *)NULL, 0,
                                       LLM_CAUSAL_LM_TOTAL, 0));
}

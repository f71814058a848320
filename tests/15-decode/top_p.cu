/* @top_p */
#include "../test.h"

#include "../../llm_cuda.cuh"

/* Is p further than 1e-5 from every sum of the largest probabilities? Nearer to one of them the
 * rounding of the sum decides what is kept. */
static bool clear_of(const float *z, size_t V, float p) {
    size_t *order = (size_t *)test_memory(V, sizeof(size_t));
    float *prob = floats(V);
    double below = 0.0;
    llm_argsort(order, z, V);
    llm_softmax_forward(prob, z, 1, V, 1.0f);
    for (size_t i = 0; i < V; i++) {
        below += (double)prob[order[i]];
        if (prob[order[i]] > 0.0f && fabs(below - 1.0 + (double)p) < 1e-5) return false;
    }
    return true;
}

template <typename T> static void check_filter(size_t rows, size_t V, float p, size_t offset) {
    const size_t all = rows * V;
    float *x = floats(all + offset), *want = floats(all), *got = floats(all);
    llm_arena arena = {(unsigned char *)test_memory(8 * V + 256, 1), 8 * V + 256, 0, 0};
    llm_rng rng = llm_rng_seed(V);
    size_t clear = 0;
    for (size_t i = 0; i < all + offset; i++) {
        const size_t row = i < offset ? 0 : (i - offset) / V;
        x[i] = 3.0f * llm_rng_normal(&rng);
        if (row % 3 == 1) x[i] = (float)llm_rng_below(&rng, 4); /* ties */
        if (llm_rng_below(&rng, 9) == 0) x[i] = -INFINITY;
        if (row == 2) x[i] = (i - offset) % V == V / 2 ? 3.0f : -1e5f;
        if (row == 4) x[i] = 0.25f;
    }
    T *d_x = to_device_as<T>(x, all + offset) + offset;
    memcpy(want, x + offset, all * sizeof(float));
    CHECK_CUDA(llm_cuda_top_p_filter(d_x, rows, V, p, 0));
    from_device_as(got, d_x, all);
    for (size_t row = 0; row < rows; row++) {
        float *z = want + row * V;
        if (!clear_of(z, V, p)) continue;
        clear++;
        llm_top_p_filter(z, V, p, 1, &arena);
        CHECK_ALL_NEAR(got + row * V, z, V, 0.0f);
    }
    CHECK(clear > 0 || V < 3);
}

TEST(top_p, "kept sets equal the reference's, with ties, -inf, and one token that is certain") {
    const size_t sizes[6] = {1, 2, 31, 40, 1025, 2100};
    const float ps[5] = {0.9f, 0.5123f, 0.05f, 0.2f, 0.999f};
    for (size_t s = 0; s < (TEST_SLOW ? 5 : 6); s++)
        for (size_t k = 0; k < (s > 3 ? 2 : 5); k++) {
            check_filter<float>(s > 3 ? 2 : 6, sizes[s], ps[k], 0);
            check_filter<float>(s > 3 ? 1 : 5, sizes[s], ps[k], 1);
            check_filter<llm_bf16>(s > 3 ? 1 : 3, sizes[s], ps[k], s % 2);
        }
    float z[5] = {1.0f, -1e4f, NAN, 2.0f, 0.0f}, got[5], *d_z = to_device(z, 5);
    CHECK_CUDA(llm_cuda_top_p_filter(d_z, 1, 5, 0.5f, 0));
    CHECK_CUDA(llm_cuda_top_p_filter(d_z, 1, 2, 1.0f, 0)); /* switched off */
    from_device(got, d_z, 5);
    for (size_t i = 0; i < 5; i++) CHECK(got[i] == z[i] || (i == 2 && isnan(got[i])));
    CHECK(llm_cuda_top_p_filter(d_z, 1, 5, -0.5f, 0) != cudaSuccess);
    CHECK(llm_cuda_top_p_filter(d_z, 1, 5, NAN, 0) != cudaSuccess);
    CHECK(llm_cuda_top_p_filter(d_z, 1, (1 << 23) + 1, 0.5f, 0) != cudaSuccess);
}

/* N draws with seeds first .. first + N - 1 from the nucleus of z (V): chi-square against its
 * distribution, and no token outside. Returns how many times the row was read for one token. */
template <typename T>
static double check_draws(const float *z, size_t V, float p, size_t N, size_t first, double limit) {
    float *rows = floats(N * V), *kept = floats(V), *prob = floats(V);
    uint64_t *seed = (uint64_t *)test_memory(N, sizeof(uint64_t));
    int *token = (int *)test_memory(N, sizeof(int)), *d_token = to_device<int>(NULL, N);
    size_t *count = (size_t *)test_memory(V, sizeof(size_t));
    llm_arena arena = {(unsigned char *)test_memory(8 * V + 256, 1), 8 * V + 256, 0, 0};
    double reads = 0.0, chi = 0.0;
    for (size_t i = 0; i < N * V; i++) rows[i] = z[i % V];
    for (size_t i = 0; i < N; i++) seed[i] = first + i;
    for (size_t i = 0; i < V; i++) count[i] = 0;
    const T *d_rows = to_device_as<T>(rows, N * V);
#ifndef __CUDACC__
    emulate_count();
#endif
    CHECK_CUDA(llm_cuda_top_p_sample(d_token, d_rows, to_device(seed, N), N, V, p, 0));
#ifndef __CUDACC__
    reads = (double)emulate_counted.read / (double)(N * V * sizeof(T));
#endif
    from_device(token, d_token, N);
    memcpy(kept, rows, V * sizeof(float));
    if (p < 1.0f) llm_top_p_filter(kept, V, p, 1, &arena);
    llm_softmax_forward(prob, kept, 1, V, 1.0f);
    for (size_t i = 0; i < N; i++) {
        CHECK(token[i] >= 0 && (size_t)token[i] < V && kept[token[i]] > -INFINITY);
        count[token[i]]++;
    }
    for (size_t i = 0; i < V; i++) {
        const double want = (double)N * (double)prob[i], off = (double)count[i] - want;
        if (want > 0.0) chi += off * off / want;
    }
    CHECK(chi < limit);
    return reads;
}

TEST(top_p, "rejection draws from the nucleus: chi-square, and nothing outside of it") {
    const float z[12] = {0.3f, 2.0f, -1.0f, -INFINITY, 1.4f, 0.5f,
                         1.4f, 2.2f, 0.0f,  -4.0f,     1.0f, 0.9f};
    const size_t N = TEST_SLOW ? 200 : 2000;
    /* 8, 3, 10 and 0 degrees of freedom: 1 seed in 1000 is above; the last cell is large enough */
    check_draws<float>(z, 12, 0.9f, N, 0, 26.1);
    check_draws<float>(z, 12, 0.5123f, N, 1 << 20, 16.3);
    check_draws<float>(z, 12, 1.0f, N, 1 << 21, 29.6);
    check_draws<float>(z, 12, 0.0f, N / 10, 1 << 22, 1e-9);
    check_draws<llm_bf16>(z, 12, 0.9f, N, 1 << 23, 26.1);
    check_draws<float>(z + 1, 11, 0.7f, N, 1 << 24, 20.5);
}

TEST(top_p, "the expected number of rounds is below 1 + ln(1 / p)") {
    enum { V = 512 };
    const size_t N = TEST_SLOW ? 4 : 60;
    const float ps[3] = {0.9f, 0.5f, 0.05f};
    float z[V];
    llm_rng rng = llm_rng_seed(4);
    llm_rng_normal_fill(&rng, z, V);
    for (size_t k = 0; k < 3; k++) { /* largest and whole mass, then the rounds, each with a walk */
        const double reads = check_draws<float>(z, V, ps[k], N, k << 10, 1e9);
        const double rounds = 1.0 - log((double)ps[k]);
        if (!TEST_SLOW && reads > 0.0) CHECK(reads > 3.0 && reads < 2.0 + 1.5 * rounds + 0.5);
    }
}

TEST(top_p, "rows of many warps: drawn tokens are kept ones; NaN and nothing at all give -1") {
    enum { ROWS = 6 };
    const size_t V = 2053;
    float *x = floats(ROWS * V);
    uint64_t seed[ROWS] = {1, 2, 3, 4, 5, 6};
    int token[ROWS], *d_token = to_device<int>(NULL, ROWS);
    llm_rng rng = llm_rng_seed(9);
    for (size_t i = 0; i < ROWS * V; i++) x[i] = i / V == 1 ? -INFINITY : llm_rng_normal(&rng);
    x[2 * V + 2000] = NAN;
    x[3 * V + 2052] = 60.0f;
    CHECK_CUDA(llm_cuda_top_p_sample(d_token, to_device(x, ROWS * V), to_device(seed, ROWS), ROWS,
                                     V, 0.3f, 0));
    from_device(token, d_token, ROWS);
    float *d_x = to_device(x, ROWS * V);
    CHECK_CUDA(llm_cuda_top_p_filter(d_x, ROWS, V, 0.3f, 0));
    from_device(x, d_x, ROWS * V);
    for (size_t row = 0; row < ROWS; row++) {
        if (row != 1 && row != 2) CHECK(token[row] >= 0 && x[row * V + (size_t)token[row]] > -9.0f);
        if (row == 1 || row == 2) CHECK(token[row] == -1);
    }
    CHECK(token[3] == 2052);
}

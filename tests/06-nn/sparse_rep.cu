/* @sparse_rep */
#include "../test.h"

#include "../../llm_cuda.cuh"

/* Normals, numbers with many ties and zeros of both signs, and all equal, in turn. */
static float *activations(size_t N, size_t U, size_t shift) {
    float *x = floats(N * U + shift);
    llm_rng rng = llm_rng_seed(N * U);
    for (size_t i = 0; i < N * U + shift; i++) {
        const size_t row = (i < shift ? 0 : i - shift) / U;
        x[i] = llm_rng_normal(&rng);
        if (row % 3 == 1) x[i] = (float)llm_rng_below(&rng, 4) * (i % 2 ? 1.0f : -0.0f);
        if (row % 3 == 2) x[i] = -2.0f;
    }
    return x;
}

template <typename T>
static void check_winners(size_t N, size_t U, size_t k, size_t O, size_t shift) {
    const size_t n = N * U;
    float *x = activations(N, U, shift), *dy = activations(U, N, 0), *dx = activations(N + 1, U, 0);
    float *w_t = activations(U, O, 0), *y = floats(n), *got = floats(n > N * O ? n : N * O);
    float *out = floats(N * O), *same = floats(n);
    size_t *winner = (size_t *)test_memory(N * k, sizeof(size_t));
    uint32_t *got_winner = (uint32_t *)test_memory(N * k, 4);
    bool *kept = (bool *)test_memory(n, 1);
    T *d_x = to_device_as<T>(x, n + shift) + shift, *d_y = to_device<T>(NULL, n);
    T *d_dx = to_device_as<T>(dx, n), *d_out = to_device<T>(NULL, N * O);
    const T *d_dy = to_device_as<T>(dy, n), *d_w_t = to_device_as<T>(w_t, U * O);
    uint32_t *d_winner = to_device<uint32_t>(NULL, N * k);
    llm_arena arena = {(unsigned char *)test_memory(16 * U + 1024, 1), 16 * U + 1024, 0, 0};
    llm_sparse_rep_winners_forward(y, winner, x + shift, N, U, k, &arena);

#ifndef __CUDACC__
    emulate_count();
#endif
    CHECK_CUDA(llm_cuda_sparse_rep_winners_forward(d_y, d_winner, d_x, N, U, k, 0));
#ifndef __CUDACC__
    CHECK(emulate_counted.read == (k ? 6 : 2) * n * sizeof(T));
    CHECK(emulate_counted.written == n * sizeof(T));
#endif
    CHECK_ALL_NEAR(from_device_as(got, d_y, n), y, n, 0.0f);
    from_device(got_winner, d_winner, N * k);
    for (size_t i = 0; i < n; i++) kept[i] = false;
    for (size_t i = 0; i < N * k; i++) kept[i / k * U + winner[i]] = true;
    for (size_t i = 0; i < N * k; i++) {
        CHECK(got_winner[i] < U && kept[i / k * U + got_winner[i]]);
        CHECK(i % k == 0 || got_winner[i] > got_winner[i - 1]);
    }

    CHECK_CUDA(llm_cuda_sparse_rep_winners_backward(d_dx, d_dy, d_winner, N, U, k, 0));
    llm_sparse_rep_winners_backward(dx, dy, winner, N, U, k);
    CHECK_STORED(T, from_device_as(got, d_dx, n), dx, n, 1e-6f);
#ifndef __CUDACC__
    emulate_count();
#endif
    CHECK_CUDA(llm_cuda_sparse_rep_product(d_out, d_y, d_winner, d_w_t, N, U, O, k, 0));
#ifndef __CUDACC__
    /* in sectors of 32 bytes: of w_t the winners' rows only */
    CHECK(emulate_counted.distinct_read <= N * k * (O * sizeof(T) + 3 * 32));
#endif
    llm_sparse_rep_product(out, y, w_t, N, U, O);
    CHECK_STORED(T, from_device_as(got, d_out, N * O), out, N * O, 1e-5f * (float)(k + 1));

    CHECK_CUDA(llm_cuda_sparse_rep_winners_forward(d_x, d_winner, d_x, N, U, k, 0)); /* in place */
    CHECK_ALL_NEAR(from_device_as(same, d_x, n), y, n, 0.0f);
}

TEST(sparse_rep, "winners, their gradient and their product equal the reference's, ties included") {
    const size_t sizes[7] = {1, 2, 31, 40, 264, 1025, 2064}, outs[3] = {1, 37, 264};
    for (size_t s = 0; s < (TEST_SLOW ? 6 : 7); s++) {
        const size_t U = sizes[s], ks[5] = {U / 3, U, 1, U / 2, 0};
        for (size_t k = 0; k < (s > 4 ? 2 : 5); k++) {
            check_winners<float>(3, U, ks[k], outs[(s + k) % 3], s == 4 && k % 2);
            if (k < 2) check_winners<llm_bf16>(3, U, ks[k], outs[(s + k + 1) % 3], 0);
        }
    }
}

TEST(sparse_rep, "what is silent is not read: no infinity times 0") {
    const float x[4] = {0.0f, 2.0f, 0.0f, 0.0f}, w_t[4] = {INFINITY, 3.0f, NAN, INFINITY};
    const uint32_t winner[2] = {0, 1}; /* the first won with 0 */
    float y = 0.0f;
    float *d_y = to_device<float>(NULL, 1);
    CHECK_CUDA(llm_cuda_sparse_rep_product(d_y, to_device(x, 4), to_device(winner, 2),
                                           to_device(w_t, 4), 1, 4, 1, 2, 0));
    CHECK(*from_device(&y, d_y, 1) == 6.0f);
}

TEST(sparse_rep, "nothing to do, and more winners than numbers") {
    float *none = NULL;
    uint32_t *places = NULL;
    CHECK_CUDA(llm_cuda_sparse_rep_winners_forward(none, places, none, 0, 9, 3, 0));
    CHECK_CUDA(llm_cuda_sparse_rep_winners_forward(none, places, none, 4, 0, 0, 0));
    CHECK_CUDA(llm_cuda_sparse_rep_winners_backward(none, none, places, 4, 9, 0, 0));
    CHECK_CUDA(llm_cuda_sparse_rep_product(none, none, places, none, 4, 9, 0, 3, 0));
    CHECK(llm_cuda_sparse_rep_winners_forward(none, places, none, 1, 9, 10, 0) != cudaSuccess);
}

/* @mlm */
#include "../test.h"

#include "../../llm_cuda.cuh"

static llm_cuda_mlm_places places(size_t N, size_t room) {
    int *sevens = (int *)test_memory(N + room, sizeof(int)); /* not -1, as fresh memory is */
    for (size_t i = 0; i < N + room; i++) sevens[i] = 7;
    const llm_cuda_mlm_places p = {to_device(sevens, room),
                                   to_device(sevens, room),
                                   to_device(sevens, N),
                                   to_device<int>(NULL, 1),
                                   N,
                                   room};
    return p;
}
/* label (N) with a share of places that are asked for; returns how many. */
static size_t labels(int *label, size_t N, size_t V, float share, uint64_t seed) {
    size_t count = 0;
    llm_rng rng = llm_rng_seed(seed);
    for (size_t n = 0; n < N; n++) {
        const bool asked = llm_rng_uniform(&rng) < share;
        label[n] = asked ? (int)llm_rng_below(&rng, V) : LLM_CROSS_ENTROPY_IGNORE;
        count += asked;
    }
    return count;
}

/* threads: 0 for those that llm_cuda_mlm_find takes. */
static void check_places(size_t N, size_t room, float share, unsigned threads) {
    int *label = (int *)test_memory(N, sizeof(int)), *got = (int *)test_memory(N, sizeof(int));
    int *from = (int *)test_memory(room, sizeof(int)),
        *asked = (int *)test_memory(room, sizeof(int));
    const size_t count = labels(label, N, 5, share, N);
    const llm_cuda_mlm_places p = places(N, room);
    if (threads)
        LLM_LAUNCH(llm_mlm_places_kernel, 1, threads, 0, 0, p, to_device(label, N));
    else
        CHECK_CUDA(llm_cuda_mlm_find(&p, to_device(label, N), 0));
    int found;
    from_device(&found, p.count, 1), from_device(got, p.place, N);
    from_device(from, p.from, room), from_device(asked, p.label, room);
    CHECK(found == (int)count);
    size_t m = 0;
    for (size_t n = 0; n < N; n++) {
        const bool fits = label[n] != LLM_CROSS_ENTROPY_IGNORE && m < room;
        CHECK(got[n] == (fits ? (int)m : -1));
        if (!fits) continue;
        CHECK(from[m] == (int)n && asked[m] == label[n]);
        m++;
    }
    for (; m < room; m++) CHECK(from[m] == -1 && asked[m] == LLM_CROSS_ENTROPY_IGNORE);
}
TEST(mlm, "places: in order, through rounds of a block, with too much room and too little") {
    check_places(1, 1, 1.0f, 0);
    check_places(70, 20, 0.15f, 0);
    check_places(33, 3, 0.9f, 0);
    check_places(5, 2, 0.0f, 0);
    check_places(150, 60, 0.4f, 64);                   /* three rounds of two warps */
    if (!TEST_SLOW) check_places(2100, 2100, 0.2f, 0); /* and of 32 */
}

template <typename T>
static void check_head(size_t N, size_t V, size_t C, float share, size_t more) {
    int *label = (int *)test_memory(N, sizeof(int));
    const size_t M = labels(label, N, V, share, V), room = M + more;
    const size_t size[6] = {C * C, C, C, C, V, V * C};
    const float scale[6] = {0.4f, 0.2f, 1.0f, 0.3f, 0.3f, 0.7f};
    float *w[6], *g[6], *h = floats(N * C), *dh = floats(N * C);
    llm_rng rng = llm_rng_seed(7);
    llm_rng_normal_fill(&rng, h, N * C), llm_rng_normal_fill(&rng, dh, N * C);
    T *d_w[6], *d_h = to_device_as<T>(h, N * C), *d_dh = to_device_as<T>(dh, N * C);
    float *d_g[6];
    size_t largest = N * C;
    for (size_t i = 0; i < 6; i++) {
        w[i] = floats(size[i]), g[i] = floats(size[i]);
        llm_rng_normal_fill(&rng, w[i], size[i]), llm_rng_normal_fill(&rng, g[i], size[i]);
        for (size_t k = 0; k < size[i]; k++) w[i][k] *= scale[i];
        d_w[i] = to_device_as<T>(w[i], size[i]), d_g[i] = to_device(g[i], size[i]);
        largest = size[i] > largest ? size[i] : largest;
    }
    const llm_mlm_head head = {w[0], w[1], w[2], w[3], w[4]};
    const llm_mlm_head dhead = {g[0], g[1], g[2], g[3], g[4]};
    llm_mlm_acts acts;
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 1 << 20));
    const float want = llm_mlm_forward(&acts, h, label, &head, w[5], N, V, C, 1e-5f, &arena);
    llm_mlm_backward(dh, &dhead, g[5], &acts, &head, w[5], &arena);

    const llm_cuda_mlm_places p = places(N, room);
    const llm_cuda_mlm_head<T> d_head = {d_w[0], d_w[1], d_w[2], d_w[3], d_w[4]};
    const llm_cuda_mlm_head<float> d_grad = {d_g[0], d_g[1], d_g[2], d_g[3], d_g[4]};
    const size_t n = room * C;
    const llm_cuda_mlm_acts<T> a = {to_device<T>(NULL, n),        to_device<T>(NULL, n),
                                    to_device<T>(NULL, n),        to_device<T>(NULL, n),
                                    to_device<T>(NULL, room * V), to_device<float>(NULL, room),
                                    to_device<float>(NULL, room), to_device<float>(NULL, room)};
    T *d = to_device<T>(NULL, 3 * n);
    float *sums = to_device<float>(NULL, llm_cuda_mlm_sums<T>(room, V, C));
    CHECK_CUDA(llm_cuda_mlm_find(&p, to_device(label, N), 0));
    CHECK_CUDA(llm_cuda_mlm_forward(&a, (const T *)d_h, &p, &d_head, (const T *)d_w[5], V, C, 1e-5f,
                                    1.0f / (float)M, true, 0));
    CHECK_CUDA(llm_cuda_mlm_backward(d_dh, &d_grad, d_g[5], &a, &p, &d_head, (const T *)d_w[5], V,
                                     C, d, sums, 0));
    float *loss = floats(room), *got = floats(largest);
    double sum = 0.0;
    from_device(loss, a.loss, room);
    for (size_t m = 0; m < room; m++) sum += (double)loss[m];
    for (size_t m = M; m < room; m++) CHECK(loss[m] == 0.0f);
    /* bfloat16: every step of the head is rounded, the gradients through it too */
    const bool half = sizeof(T) == 2;
    CHECK_NEAR(sum / (double)M, want, half ? 0.03f : 2e-6f);
    CHECK_ALL_NEAR(from_device_as(got, d_dh, N * C), dh, N * C, half ? 0.05f : 4e-6f);
    for (size_t i = 0; i < 6; i++)
        CHECK_ALL_NEAR(from_device(got, d_g[i], size[i]), g[i], size[i], half ? 0.06f : 4e-6f);
    llm_arena_destroy(&arena);
}
TEST(mlm, "loss and all gradients equal llm_mlm on the asked rows alone") {
    check_head<float>(9, 7, 5, 0.4f, 2);
    if (TEST_SLOW) return;
    check_head<float>(40, 13, 8, 0.15f, 0);
    check_head<llm_bf16>(30, 16, 8, 0.3f, 3);
}

TEST(mlm, "a head of zeros says what its last bias says; scores alone; no place at all") {
    enum { N = 3, V = 2, C = 4 };
    const int label[N] = {1, LLM_CROSS_ENTROPY_IGNORE, 0};
    const float bias[V] = {logf(0.8f), logf(0.2f)};
    float *zero = to_device(zeros(C * C), C * C), h[N * C], loss[2], logits[2 * V];
    for (size_t i = 0; i < N * C; i++) h[i] = (float)i;
    const llm_cuda_mlm_head<float> w = {zero, zero, zero, zero, to_device(bias, V)};
    const llm_cuda_mlm_acts<float> a = {
        to_device<float>(NULL, 2 * C), to_device<float>(NULL, 2 * C), to_device<float>(NULL, 2 * C),
        to_device<float>(NULL, 2 * C), to_device<float>(NULL, 2 * V), to_device<float>(NULL, 2),
        to_device<float>(NULL, 2),     to_device<float>(NULL, 2)};
    llm_cuda_mlm_places p = places(N, 2);
    const float *d_h = to_device(h, N * C);
    CHECK_CUDA(llm_cuda_mlm_find(&p, to_device(label, N), 0));
    CHECK_CUDA(
        llm_cuda_mlm_forward(&a, d_h, &p, &w, (const float *)zero, V, C, 1e-5f, 1.0f, false, 0));
    from_device(loss, a.loss, 2), from_device(logits, a.logits, 2 * V);
    CHECK_NEAR(loss[0], -logf(0.2f), 1e-6f);
    CHECK_NEAR(loss[1], -logf(0.8f), 1e-6f);
    CHECK_NEAR(logits[V], bias[0], 1e-7f); /* without gradient they stay logits */
    CHECK(llm_cuda_mlm_sums<float>(2, V, C) == C * C);
    CHECK(llm_cuda_mlm_sums<float>(2, 9, C) == 9 * C);
    CHECK(llm_cuda_mlm_sums<float>(512, 1, 2) == 2 * 2 * 512); /* a norm's shares of each row */

    const llm_cuda_mlm_head<float> none = {NULL, NULL, NULL, NULL, NULL};
    p.room = 0;
    CHECK_CUDA(llm_cuda_mlm_find(&p, to_device(label, N), 0));
    int count = 0;
    CHECK(*from_device(&count, p.count, 1) == 2);
    CHECK_CUDA(
        llm_cuda_mlm_forward(&a, d_h, &p, &w, (const float *)zero, V, C, 1e-5f, 1.0f, true, 0));
    CHECK_CUDA(llm_cuda_mlm_backward((float *)NULL, &none, (float *)NULL, &a, &p, &w,
                                     (const float *)zero, V, C, zero, zero, 0));
}

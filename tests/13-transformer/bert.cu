/* @bert */
#include "../test.h"

#include "../../llm_cuda.cuh"

#include "../tiny_sublayer_cuda.h"

/* Tokens of B texts without padding: their ids, places and types on the device. */
static llm_cuda_bert_batch bert_batch(const int *const ids[3], size_t N, const llm_bert_config &c) {
    const size_t rows[3] = {c.vocab, c.places, c.types};
    llm_cuda_bert_batch b;
    b.N = N;
    for (size_t t = 0; t < 3; t++) {
        int *order = (int *)test_memory(N, sizeof(int));
        int *segment = (int *)test_memory(rows[t] + 1, sizeof(int));
        int *scratch = (int *)test_memory(rows[t] + 1, sizeof(int));
        b.segments[t] = llm_cuda_embedding_sort(order, segment, ids[t], N, rows[t], scratch);
        b.ids[t] = to_device(ids[t], N), b.order[t] = to_device(order, N);
        b.segment[t] = to_device(segment, b.segments[t] + 1);
    }
    return b;
}
static llm_bert_config config(size_t layers, size_t width) {
    llm_bert_config c = llm_bert_defaults();
    c.encoder.layers = layers, c.encoder.width = width, c.encoder.heads = 2, c.encoder.hidden = 5;
    c.vocab = 9, c.places = 6, c.types = 2;
    return c;
}

/* h and pooled output beside golden values where `want` is not NULL, else beside llm_bert;
 * gradients beside llm_bert, which gets no gradient at padding. hidden (B,T): padding on the
 * right. */
template <typename T>
static void check_bert(const llm_bert_config &c, float *flat, const int *ids, const int *types,
                       const bool *hidden, size_t B, size_t length, float *dh, float *dp,
                       const float *want, const float *want_pooled, float tol, float grad_tol) {
    const size_t C = c.encoder.width, all = B * length, matrices = llm_bert_matrices(&c);
    const size_t count = matrices + llm_bert_vectors(&c), n = 2 * c.encoder.layers;
    int *packed[3];
    size_t each[8] = {0}, N = 0;
    for (size_t t = 0; t < 3; t++) packed[t] = (int *)test_memory(all, sizeof(int));
    float *d = floats(all * C), *grads = zeros(count), *got = floats(count + all * C);
    for (size_t i = 0; i < all; i++) {
        for (size_t k = 0; k < C && hidden[i]; k++) dh[i * C + k] = 0.0f;
        if (hidden[i]) continue;
        packed[0][N] = ids[i], packed[1][N] = (int)(i % length), packed[2][N] = types[i];
        memcpy(d + N++ * C, dh + i * C, C * sizeof(float));
        each[i / length]++;
    }
    T *w = to_device_as<T>(flat, count), *matrix = w, *vector = w + matrices;
    float *d_grads = to_device(grads, count), *dm = d_grads, *dv = d_grads + matrices;
    llm_cuda_bert_weights<T> k;
    llm_cuda_bert_weights<float> dk;
    llm_cuda_sublayer_part<T> p[8];
    llm_cuda_sublayer_part<float> g[8];
    llm_cuda_sublayer_acts<T> a[8];
    llm_cuda_sublayer_scratch<T> s;
    llm_cuda_bert_bind(k, p, matrix, vector, c), llm_cuda_bert_bind(dk, g, dm, dv, c);
    CHECK(vector == w + count && matrix == w + matrices && dv == d_grads + count);
    llm_cuda_sublayer_view<T> v = tiny_view<T>(B, 0);
    v.N = N, v.T_most = length, v.start = tiny_starts(each, B);
    const llm_cuda_sublayer_config e = llm_cuda_sublayer_of(c.encoder);
    const size_t size = llm_cuda_sublayer_bind(a, s, NULL, p, n, v, e);
    llm_cuda_sublayer_bind(a, s, to_device<unsigned char>(NULL, size), p, n, v, e);
    const int *const lists[3] = {packed[0], packed[1], packed[2]};
    const llm_cuda_bert_batch batch = bert_batch(lists, N, c);
    T *sum = to_device<T>(NULL, N * C), *pooled = to_device<T>(NULL, B * C);
    T *z = to_device<T>(NULL, B * C), *first = to_device<T>(NULL, B * C);
    float *mean = to_device<float>(NULL, N), *rstd = to_device<float>(NULL, N);
    float *sums = to_device<float>(NULL, 2 * C * N + C * C);
    CHECK_CUDA(llm_cuda_bert_embed(a->y, sum, mean, rstd, batch, k, c, 0));
    CHECK_CUDA(llm_cuda_sublayer_forward(a, p, n, v, e, s, 0));
    const T *h = a[n].y;
    CHECK_CUDA(llm_cuda_bert_pool(pooled, z, first, h, v.start, B, k, C, 0));
    T *d_dh = to_device_as<T>(d, N * C), *dsum = to_device<T>(NULL, N * C);
    const T *d_dp = to_device_as<T>(dp, B * C);
    CHECK_CUDA(llm_cuda_bert_pool_backward(d_dh, dk, d_dp, z, first, v.start, B, k, C,
                                           to_device<T>(NULL, 2 * B * C), sums, 0));
    CHECK_CUDA(llm_cuda_sublayer_backward(d_dh, g, a, p, n, v, e, s, 0));
    CHECK_CUDA(llm_cuda_bert_embed_backward(dk, d_dh, dsum, sum, mean, rstd, batch, k, c, sums, 0));

    llm_arena arena;
    CHECK(llm_arena_create(&arena, 1 << 18));
    llm_bert_weights cpu, dcpu;
    float *cm = flat, *cv = flat + matrices, *gm = grads, *gv = grads + matrices;
    llm_bert_bind(&cpu, &cm, &cv, &c, &arena), llm_bert_bind(&dcpu, &gm, &gv, &c, &arena);
    llm_bert_acts acts;
    float *p_cpu = floats(B * C), *first_cpu = floats(B * C);
    const float *h_cpu = llm_bert_forward(&acts, ids, types, hidden, B, length, &cpu, &c, &arena);
    llm_bert_pool_forward(p_cpu, first_cpu, h_cpu, B, length, &cpu, C);
    llm_bert_pool_backward(dh, &dcpu, dp, p_cpu, first_cpu, B, length, &cpu, C, &arena);
    llm_bert_backward(&dcpu, dh, &acts, &cpu, &c, &arena);
    from_device_as(got, h, N * C);
    for (size_t i = 0, r = 0; i < all; i++) {
        const float *row = (want ? want : h_cpu) + i * C;
        if (!hidden[i]) CHECK_ALL_NEAR(got + r++ * C, row, C, tol);
    }
    CHECK_ALL_NEAR(from_device_as(got, pooled, B * C), want_pooled ? want_pooled : p_cpu, B * C,
                   tol);
    CHECK_ALL_NEAR(from_device(got, d_grads, count), grads, count,
                   grad_tol * tiny_most(grads, count));
    llm_arena_destroy(&arena);
}
TEST(bert, "without padding states and pooled output equal BertModel's, gradients llm_bert's") {
    enum { B = 2, T = 5 };
    const llm_bert_config c = config(2, 4);
    size_t count;
    float *flat = golden_n(&count, "bert/weights");
    CHECK(count == llm_bert_matrices(&c) + llm_bert_vectors(&c));
    const int *ids = as_ints(golden("in/ids"), B * T), *types = as_ints(golden("in/types"), B * T);
    check_bert<float>(c, flat, ids, types, as_bools(golden("in/hidden"), B * T), B, T,
                      golden("in/dh"), golden("in/dp"), golden("bert/h"), golden("bert/pooled"),
                      1e-5f, 3e-5f);
}
TEST(bert, "dropout has the reference's numbers; bfloat16 follows in its rounding") {
    if (TEST_SLOW) return;
    const int ids[4] = {3, 8, 0, 3}, types[4] = {0, 1, 1, 0};
    const bool hidden[4] = {false, false, false, false};
    for (size_t half = 0; half < 2; half++) {
        llm_bert_config c = config(1, half ? 16 : 6);
        c.encoder.dropout = half ? 0.0f : 0.3f, c.encoder.seed = 4;
        const size_t count = llm_bert_matrices(&c) + llm_bert_vectors(&c), n = 4 * c.encoder.width;
        float *flat = tiny_normal(5, count, 0.4f), *dh = tiny_normal(6, n, 1.0f);
        float *dp = tiny_normal(7, n / 2, 1.0f);
        if (half)
            check_bert<llm_bf16>(c, flat, ids, types, hidden, 2, 2, dh, dp, NULL, NULL, 0.06f,
                                 0.06f);
        else
            check_bert<float>(c, flat, ids, types, hidden, 2, 2, dh, dp, NULL, NULL, 1e-5f, 3e-5f);
    }
}
TEST(bert, "an id outside its table is a row of NaN; an empty text has no first row; no tokens") {
    enum { C = 4, N = 3 };
    const llm_bert_config c = config(1, C);
    float *table = to_device(zeros(9 * C), 9 * C), got[N * C];
    const llm_cuda_bert_weights<float> w = {table, table, table, table, table, table, table};
    const int ids[3][N] = {{1, 2, 3}, {0, 6, 0}, {0, 0, -1}};
    const int *const lists[3] = {ids[0], ids[1], ids[2]};
    llm_cuda_bert_batch b = bert_batch(lists, N, c);
    float *y = to_device<float>(NULL, N * C), *sum = to_device<float>(NULL, N * C);
    float *mean = to_device<float>(NULL, N), *rstd = to_device<float>(NULL, N);
    CHECK_CUDA(llm_cuda_bert_embed(y, sum, mean, rstd, b, w, c, 0));
    from_device(got, y, N * C);
    for (size_t i = 0; i < N * C; i++) CHECK(i < C ? got[i] == 0.0f : got[i] != got[i]);
    b.N = 0;
    CHECK_CUDA(llm_cuda_bert_embed(y, sum, mean, rstd, b, w, c, 0));
    const size_t length[2] = {0, 1};
    float one[2 * C] = {1, 2, 3, 4, 5, 6, 7, 8}, *d = to_device(zeros(C), C);
    LLM_LAUNCH(llm_bert_scatter_kernel<float>, 2, 32, 0, 0, d, to_device(one, 2 * C),
               tiny_starts(length, 2), C);
    from_device(got, d, C);
    for (size_t i = 0; i < C; i++) CHECK(got[i] == one[C + i]);
    CHECK_CUDA(llm_cuda_bert_pool_backward(d, w, (const float *)d, (const float *)d,
                                           (const float *)d, tiny_starts(length, 0), 0, w, C, d, d,
                                           0));
}

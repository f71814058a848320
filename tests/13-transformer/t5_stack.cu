/* @t5_stack */
#include "../test.h"

#include "../../llm_cuda.cuh"

#include "../tiny_sublayer_cuda.h"

/* A stack on the device: flat weights, gradients from 0, texts and a memory in v. */
template <typename T> struct t5_stack {
    llm_cuda_t5_stack<T> s;
    llm_cuda_sublayer_view<T> v;
    llm_cuda_sublayer_part<T> p[8];
    llm_cuda_sublayer_part<float> g[8];
    llm_cuda_sublayer_acts<T> a[8];
    llm_cuda_sublayer_scratch<T> scratch;
    float *grads;
};
template <typename T>
static void t5_make(t5_stack<T> &k, const llm_t5_stack_config &c, float *flat, size_t most) {
    const size_t matrices = llm_t5_stack_matrices(&c), n = 2 * most - 1, H = c.attn.heads;
    const size_t count = matrices + llm_t5_stack_vectors(&c);
    const llm_relative_position_t5_config distances = llm_t5_stack_distances(&c, most);
    size_t *bucket = (size_t *)test_memory(n, sizeof(size_t));
    int *narrow = (int *)test_memory(n, sizeof(int));
    llm_relative_position_t5_diagonals(bucket, &distances);
    for (size_t i = 0; i < n; i++) narrow[i] = (int)bucket[i];
    T *w = to_device_as<T>(flat, count), *matrix = w, *vector = w + matrices;
    k.grads = to_device(zeros(count), count);
    float *dmatrix = k.grads, *dvector = k.grads + matrices;
    k.s.c = c, k.s.bucket = to_device(narrow, n);
    k.s.bias = to_device<float>(NULL, H * n), k.s.dbias = to_device<double>(NULL, H * n);
    k.s.p = k.p, k.s.g = k.g;
    llm_cuda_t5_stack_bind(k.s, matrix, vector, dmatrix, dvector);
    CHECK(matrix == w + matrices && vector == w + count && dvector == k.grads + count);
    k.v = llm_cuda_t5_stack_view(k.s, k.v, most);
    const size_t size = llm_cuda_sublayer_bind(k.a, k.scratch, NULL, k.p, k.s.n, k.v, k.s.config);
    llm_cuda_sublayer_bind(k.a, k.scratch, to_device<unsigned char>(NULL, size), k.p, k.s.n, k.v,
                           k.s.config);
}
/* y and dx (N,C) on the device. */
template <typename T> static void t5_run(t5_stack<T> &k, T **y, T **dx, float *x, float *dy) {
    const size_t n = k.v.N * k.s.config.width;
    CHECK_CUDA(
        cudaMemcpy(k.a->sum, to_device_as<T>(x, n), n * sizeof(T), cudaMemcpyDeviceToDevice));
    CHECK_CUDA(llm_cuda_t5_stack_forward(k.a, k.s, k.v, k.scratch, 0));
    *y = k.a[k.s.n].y, *dx = to_device_as<T>(dy, n);
    CHECK_CUDA(llm_cuda_t5_stack_backward(*dx, k.a, k.s, k.v, k.scratch, 0));
}

static llm_t5_stack_config config(bool decoder) {
    llm_t5_stack_config c;
    c.layers = decoder ? 1 : 2, c.hidden = 5, c.buckets = 8, c.far = 5;
    c.decoder = c.gated = decoder;
    c.attn.width = 4, c.attn.heads = 2, c.attn.head_size = 3, c.attn.eps = 1e-6f;
    return c;
}

TEST(t5_stack, "a decoder's values and gradients, distances and memory too, equal transformers'") {
    enum { B = 2, S = 6, T = 3, C = 4, N = B * T };
    const size_t length[B] = {6, 2}; /* of twelve rows of memory the last four are padding */
    const llm_t5_stack_config c = config(true);
    size_t count;
    float *flat = golden_n(&count, "decoder/weights"), *mem = golden("decoder/mem"), *y, *dx;
    float got[B * S * C] = {0}, *grads = floats(count);
    t5_stack<float> k;
    k.v = tiny_view<float>(B, T);
    k.v.M = 8, k.v.S_most = 6, k.v.mem_start = tiny_starts(length, B);
    k.v.mem = to_device(mem, 8 * C), k.v.dmem = to_device(zeros(8 * C), 8 * C);
    t5_make(k, c, flat, 4); /* room for longer texts */
    t5_run(k, &y, &dx, golden("decoder/x"), golden("decoder/dy"));
    CHECK_GOLDEN(from_device(got, y, N * C), N * C, 1e-5f, "decoder/y");
    CHECK_GOLDEN(from_device(got, dx, N * C), N * C, 2e-5f, "decoder/dx");
    memset(got, 0, sizeof got);
    from_device(got, (const float *)k.v.dmem, 8 * C);
    CHECK_GOLDEN(got, B * S * C, 2e-5f, "decoder/dmem");
    CHECK_GOLDEN(from_device(grads, k.grads, count), count, 2e-5f, "decoder/grads");
}

/* Texts without padding beside llm_t5_stack on each of them alone: gradients add up. */
template <typename T>
static void check_encoder(const llm_t5_stack_config &c, const size_t *length, size_t B, size_t most,
                          float tol, float grad_tol) {
    const size_t matrices = llm_t5_stack_matrices(&c), C = c.attn.width;
    const size_t count = matrices + llm_t5_stack_vectors(&c);
    size_t N = 0, longest = 0;
    for (size_t b = 0; b < B; b++) {
        N += length[b];
        longest = length[b] > longest ? length[b] : longest;
    }
    float *flat = tiny_normal(1, count, 0.4f), *x = tiny_normal(2, N * C, 1.0f);
    float *dy = tiny_normal(3, N * C, 1.0f), *grads = zeros(count), *want = floats(N * C);
    float *got = floats(count > N * C ? count : N * C);
    T *y, *dx;
    t5_stack<T> k;
    k.v = tiny_view<T>(B, 0);
    k.v.N = N, k.v.T_most = longest, k.v.start = tiny_starts(length, B);
    t5_make(k, c, flat, most);
    t5_run(k, &y, &dx, x, dy);

    llm_arena arena;
    CHECK(llm_arena_create(&arena, 1 << 22));
    llm_t5_stack_weights w, dw;
    float *matrix = flat, *vector = flat + matrices, *dm = grads, *dv = grads + matrices;
    llm_t5_stack_bind(&w, &matrix, &vector, &c, &arena);
    llm_t5_stack_bind(&dw, &dm, &dv, &c, &arena);
    for (size_t b = 0, n = 0; b < B; n += length[b++] * C) {
        llm_t5_stack_acts a;
        const size_t L = length[b];
        const float *out = llm_t5_stack_forward(&a, x + n, NULL, NULL, 1, L, L, &w, &c, &arena);
        memcpy(want + n, out, L * C * sizeof *want);
        llm_t5_stack_backward(dy + n, NULL, &dw, &a, &w, &c, &arena);
    }
    CHECK_ALL_NEAR(from_device_as(got, y, N * C), want, N * C, tol);
    CHECK_ALL_NEAR(from_device_as(got, dx, N * C), dy, N * C, grad_tol * tiny_most(dy, N * C));
    CHECK_ALL_NEAR(from_device(got, k.grads, count), grads, count,
                   grad_tol * tiny_most(grads, count));
    llm_arena_destroy(&arena);
}
TEST(t5_stack,
     "an encoder's texts without padding equal llm_t5_stack of each, over several tiles") {
    const size_t few[3] = {3, 1, 5}, many[2] = {67, 2}, same[1] = {6};
    llm_t5_stack_config c = config(false);
    if (TEST_SLOW) c.layers = 1;
    check_encoder<float>(c, few, TEST_SLOW ? 2 : 3, 5, 1e-5f, 2e-5f);
    if (TEST_SLOW) return;
    c.layers = 1, c.attn.heads = 1;
    check_encoder<float>(c, many, 2, 70, 1e-5f, 3e-5f);
    c.attn.width = 16, c.attn.head_size = 8, c.hidden = 8; /* tensor cores */
    check_encoder<llm_bf16>(c, same, 1, 6, 0.1f, 0.06f);
}

TEST(t5_stack, "texts beyond the table, and more buckets than a block has threads, are refused") {
    llm_t5_stack_config c = config(false);
    const size_t count = llm_t5_stack_matrices(&c) + llm_t5_stack_vectors(&c);
    t5_stack<float> k;
    k.v = tiny_view<float>(1, 3);
    t5_make(k, c, zeros(count), 3);
    k.v.most = 2;
    CHECK(llm_cuda_t5_stack_forward(k.a, k.s, k.v, k.scratch, 0) ==
          (cudaError_t)cudaErrorInvalidValue);
    CHECK(llm_cuda_sublayer_attend_bias(k.v.dbias, k.a->y, k.a->lse, k.scratch.along, k.a->q,
                                        k.a->k, k.a->v,
                                        llm_cuda_sublayer_look(*k.p, k.v, k.s.config),
                                        k.scratch.bands, 0) == (cudaError_t)cudaErrorInvalidValue);
    k.s.c.buckets = 129;
    CHECK(llm_cuda_t5_stack_backward(k.a->y, k.a, k.s, k.v, k.scratch, 0) ==
          (cudaError_t)cudaErrorInvalidValue);
    CHECK(llm_cuda_sublayer_attend_bias_scratch(3, 64) == 3 * 127);
    CHECK(llm_cuda_sublayer_attend_bias_scratch(2, 65) == 2 * 3 * 127);
}

/* A stack of @sublayer on the device, of an encoder's weights or a decoder's. Behind test.h and
 * llm_cuda.cuh, once in each suite: nvcc compiles a chapter as one file, a namespace a suite, so
 * there is no guard. */
#include "tiny_normal.h"

template <typename T> struct tiny_stack {
    llm_cuda_sublayer_config c;
    llm_cuda_sublayer_view<T> v;
    size_t n;
    llm_cuda_sublayer_part<T> p[16];
    llm_cuda_sublayer_part<float> g[16];
    llm_cuda_sublayer_acts<T> a[16];
    llm_cuda_sublayer_scratch<T> s;
    float *grads; /* on the device */
};

/* start of B texts of these lengths, on the device. */
TEST_UNUSED static size_t *tiny_starts(const size_t *length, size_t B) {
    size_t start[16] = {0};
    for (size_t b = 0; b < B; b++) start[b + 1] = start[b] + length[b];
    return to_device(start, B + 1);
}
/* B texts of T tokens each, without a memory. */
template <typename T> static llm_cuda_sublayer_view<T> tiny_view(size_t B, size_t length) {
    llm_cuda_sublayer_view<T> v;
    size_t each[16];
    memset(&v, 0, sizeof v);
    for (size_t b = 0; b < B; b++) each[b] = length;
    v.B = B, v.N = B * length, v.T_most = length;
    v.start = tiny_starts(each, B);
    return v;
}

/* k.c and k.v are given; flat (count) is rounded to T; gradients begin as `grads`. */
template <typename T>
static void tiny_stack_make(tiny_stack<T> &k, float *flat, const float *grads, size_t matrices,
                            size_t count, bool decoder) {
    T *w = to_device_as<T>(flat, count), *matrix = w, *vector = w + matrices;
    k.grads = to_device(grads, count);
    float *dmatrix = k.grads, *dvector = k.grads + matrices;
    k.n = (decoder ? 3 : 2) * k.c.layers;
    if (decoder) {
        llm_cuda_decoder_parts(k.p, matrix, vector, k.c);
        llm_cuda_decoder_parts(k.g, dmatrix, dvector, k.c);
    } else {
        llm_cuda_encoder_parts(k.p, matrix, vector, k.c);
        llm_cuda_encoder_parts(k.g, dmatrix, dvector, k.c);
    }
    CHECK(matrix == w + matrices && vector == w + count);
    const size_t size = llm_cuda_sublayer_bind(k.a, k.s, NULL, k.p, k.n, k.v, k.c);
    unsigned char *memory = to_device<unsigned char>(NULL, size);
    CHECK(llm_cuda_sublayer_bind(k.a, k.s, memory, k.p, k.n, k.v, k.c) == size);
}
/* Returns the output (N,C) on the device; x (N,C) on the host. */
template <typename T> static T *tiny_stack_forward(tiny_stack<T> &k, float *x) {
    const size_t n = k.v.N * k.c.width;
    T *in = k.c.norm == LLM_PRENORM_PRE ? k.a[0].sum : k.a[0].y;
    CHECK_CUDA(cudaMemcpy(in, to_device_as<T>(x, n), n * sizeof(T), cudaMemcpyDeviceToDevice));
    CHECK_CUDA(llm_cuda_sublayer_forward(k.a, k.p, k.n, k.v, k.c, k.s, 0));
    return k.a[k.n].y;
}
/* Returns dx (N,C) on the device. */
template <typename T> static T *tiny_stack_backward(tiny_stack<T> &k, float *dy) {
    T *d = to_device_as<T>(dy, k.v.N * k.c.width);
    CHECK_CUDA(llm_cuda_sublayer_backward(d, k.g, k.a, k.p, k.n, k.v, k.c, k.s, 0));
    return d;
}
TEST_UNUSED static float tiny_most(const float *x, size_t n) {
    float most = 0.0f;
    for (size_t i = 0; i < n; i++) most = fmaxf(most, fabsf(x[i]));
    return most;
}

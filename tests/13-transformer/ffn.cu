/* @ffn */
#include "../test.h"

#include "../../llm_cuda.cuh"

/* n normal numbers times size, as T can hold them, and their copy on the device. */
template <typename T> struct both {
    float *host;
    T *device;
};
template <typename T> static both<T> normals(uint64_t seed, size_t n, float size) {
    both<T> x = {floats(n), NULL};
    llm_rng rng = llm_rng_seed(seed);
    llm_rng_normal_fill(&rng, x.host, n);
    for (size_t i = 0; i < n; i++) x.host[i] *= size;
    x.device = to_device_as<T>(x.host, n);
    return x;
}
template <typename T> static llm_cuda_ffn_acts<T> device_acts(bool gated, size_t n) {
    const llm_cuda_ffn_acts<T> a = {gated ? to_device<T>(NULL, n) : NULL, to_device<T>(NULL, n),
                                    to_device<T>(NULL, n)};
    return a;
}

/* Values are near 1. bfloat16 rounds gate, up and hidden to 1 part in 256 each; sums of such errors
 * stay below 8 of them. */
template <typename T> static float tolerance(void) { return sizeof(T) == 4 ? 2e-5f : 8.0f / 256; }

template <typename T>
static void check_ffn(size_t N, size_t C, size_t H, int kind, bool gated, bool bias,
                      bool recompute) {
    const float tol = tolerance<T>(), by_C = 1 / sqrtf((float)C), by_H = 1 / sqrtf((float)H);
    const both<T> x = normals<T>(1, N * C, 1), dy = normals<T>(2, N * C, by_C);
    const both<T> gate = normals<T>(3, H * C, by_C), up = normals<T>(4, H * C, by_C);
    const both<T> down = normals<T>(5, C * H, by_H), dx = normals<T>(6, N * C, 1);
    const both<T> b_up = normals<T>(7, H, 0.5f), b_down = normals<T>(8, C, 0.5f);
    const both<float> start = normals<float>(9, 3 * H * C + H + C, 1);
    llm_ffn_weights w = {gated ? gate.host : NULL, up.host, bias ? b_up.host : NULL, down.host,
                         bias ? b_down.host : NULL};
    llm_cuda_ffn_weights<T> d_w = {gated ? gate.device : NULL, up.device, bias ? b_up.device : NULL,
                                   down.device, bias ? b_down.device : NULL};
    llm_ffn_acts a = {gated ? floats(N * H) : NULL, floats(N * H), floats(N * H)};
    const llm_cuda_ffn_acts<T> d_a = device_acts<T>(gated, N * H), d = device_acts<T>(gated, N * H);
    float *y = floats(N * C), *got = floats(N * C + N * H + H * C);
    T *d_y = to_device<T>(NULL, N * C);

    CHECK_CUDA(llm_cuda_ffn_forward(d_y, d_a, x.device, d_w, N, C, H, kind, 0));
    llm_ffn_forward(y, &a, x.host, &w, N, C, H, kind);
    CHECK_STORED(T, from_device_as(got, d_y, N * C), y, N * C, tol);
    CHECK_STORED(T, from_device_as(got, d_a.up, N * H), a.up, N * H, tol);
    CHECK_STORED(T, from_device_as(got, d_a.hidden, N * H), a.hidden, N * H, tol);
    if (gated) CHECK_STORED(T, from_device_as(got, d_a.gate, N * H), a.gate, N * H, tol);

    /* gradients of the weights: sums over N tokens, added to what is there */
    float *g = start.host, *d_g = start.device;
    const llm_ffn_weights dw = {g, g + H * C, g + 3 * H * C, g + 2 * H * C, g + 3 * H * C + H};
    const llm_cuda_ffn_weights<float> d_dw = {d_g, d_g + H * C, bias ? d_g + 3 * H * C : NULL,
                                              d_g + 2 * H * C, bias ? d_g + 3 * H * C + H : NULL};
    const size_t scratch = llm_cuda_ffn_scratch(N, C, H), all = 3 * H * C + H + C;
    if (recompute) CHECK_CUDA(cudaMemset(d_a.hidden, 0xff, N * H * sizeof(T)));
    CHECK_CUDA(llm_cuda_ffn_backward(dx.device, d_dw, dy.device, d_a, x.device, d_w, N, C, H, kind,
                                     recompute, d, to_device<float>(NULL, scratch), 0));
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 3 * N * H * sizeof(float) + 1024));
    llm_ffn_weights some = dw;
    if (!bias) some.up_bias = some.down_bias = NULL;
    llm_ffn_backward(dx.host, &some, dy.host, &a, x.host, &w, N, C, H, kind, false, &arena);
    llm_arena_destroy(&arena);
    CHECK_STORED(T, from_device_as(got, dx.device, N * C), dx.host, N * C, 2 * tol);
    got = floats(all);
    CHECK_ALL_NEAR(from_device(got, d_g, all), g, all, tol * sqrtf((float)N + 4));
}

TEST(ffn, "forward and all gradients equal llm_ffn, plain and gated, stored and computed again") {
    const size_t shapes[5][3] = {{1, 1, 1}, {2, 3, 5}, {7, 40, 24}, {130, 16, 136}, {33, 24, 160}};
    const int kinds[4] = {LLM_ACTIVATION_SILU, LLM_ACTIVATION_GELU_TANH,
                          LLM_ACTIVATION_RELU_SQUARED, LLM_ACTIVATION_GELU};
    for (size_t s = 0; s < (TEST_SLOW ? 2 : 5); s++) {
        const size_t N = shapes[s][0], C = shapes[s][1], H = shapes[s][2];
        for (size_t form = 0; form < 4; form++) { /* bit 0: gated, bit 1: recompute */
            const bool gated = form % 2, recompute = form / 2, bias = (s + form) % 3 > 0;
            check_ffn<float>(N, C, H, kinds[(s + form) % 4], gated, bias, recompute);
            check_ffn<llm_bf16>(N, C, H, kinds[(s + form) % 3 % 2], gated, bias, recompute);
        }
    }
    if (TEST_SLOW) return;
    check_ffn<float>(517, 3, 6, LLM_ACTIVATION_SILU, true, true, true); /* sums in slices */
}

TEST(ffn, "what is computed again is what was stored, bit for bit; gradients may be NULL") {
    enum { N = 3, C = 8, H = 16 };
    for (int gated = 0; gated < 2; gated++) {
        const both<float> x = normals<float>(1, N * C, 1), w = normals<float>(2, 3 * H * C, 0.3f);
        float *p = w.device, hidden[2][N * H], got[N * C], none_was[N * C];
        const llm_cuda_ffn_weights<float> d_w = {gated ? p : NULL, p + H * C, NULL, p + 2 * H * C,
                                                 NULL};
        const llm_cuda_ffn_weights<float> none = {NULL, NULL, NULL, NULL, NULL};
        const llm_cuda_ffn_acts<float> a = device_acts<float>(gated, N * H),
                                       d = device_acts<float>(gated, N * H);
        float *d_y = to_device<float>(NULL, N * C), *d_dx = to_device(zeros(N * C), N * C);
        CHECK_CUDA(llm_cuda_ffn_forward(d_y, a, x.device, d_w, N, C, H, LLM_ACTIVATION_SILU, 0));
        from_device(hidden[0], a.hidden, N * H);
        CHECK_CUDA(cudaMemset(a.hidden, 0xff, N * H * sizeof(float)));
        CHECK_CUDA(llm_cuda_ffn_backward(d_dx, none, d_y, a, x.device, d_w, N, C, H,
                                         LLM_ACTIVATION_SILU, true, d, (float *)NULL, 0));
        from_device(hidden[1], a.hidden, N * H);
        CHECK(memcmp(hidden[0], hidden[1], sizeof hidden[0]) == 0);
        from_device(got, d_dx, N * C);
        CHECK_CUDA(llm_cuda_ffn_backward((float *)NULL, none, d_y, a, x.device, d_w, N, C, H,
                                         LLM_ACTIVATION_SILU, false, d, (float *)NULL, 0));
        from_device(none_was, d_dx, N * C);
        CHECK(memcmp(got, none_was, sizeof got) == 0);
        CHECK_CUDA(llm_cuda_ffn_forward(d_y, a, x.device, d_w, 0, C, H, LLM_ACTIVATION_SILU, 0));
        CHECK_CUDA(llm_cuda_ffn_backward(d_dx, none, d_y, a, x.device, d_w, 0, C, H,
                                         LLM_ACTIVATION_SILU, false, d, (float *)NULL, 0));
    }
}

TEST(ffn, "scratch only where the tokens are summed in slices") {
    CHECK(llm_cuda_ffn_scratch(100, 768, 3072) == 0);
    CHECK(llm_cuda_ffn_scratch(512, 8, 16) == 2 * 8 * 16);
}

/* @transformer_xl_attn */
#include "../test.h"

#include "../../llm_cuda.cuh"

#include "../tiny_normal.h"

enum { KINDS = 6 };
/* Numbers in each kind of weight: q, kv, r, out, u, v. */
static size_t size_of(size_t kind, size_t C) {
    return kind >= 4 ? C : kind == 1 ? 2 * C * C : C * C;
}
template <typename T> static llm_cuda_transformer_xl_attn_weights<T> on_device(T *const w[KINDS]) {
    const llm_cuda_transformer_xl_attn_weights<T> d = {w[0], w[1], w[2], w[3], w[4], w[5]};
    return d;
}
/* y, dx (B T,C) and the gradients g, which begin as they are, for weights w, all on the host. */
template <typename T>
static void run(float *y, float *dx, float *const g[KINDS], float *x, float *memory, float *dy,
                float *const w[KINDS], const llm_transformer_xl_attn_config &c) {
    const size_t n = c.B * c.T * c.C, S = c.M + c.T;
    float *waves = floats(S * c.C), *d_g[KINDS];
    T *d_w[KINDS];
    llm_sinusoidal_table(waves, NULL, S, c.C, 0, LLM_SINUSOIDAL_HALVES);
    for (size_t i = 0; i < KINDS; i++) {
        d_w[i] = to_device_as<T>(w[i], size_of(i, c.C));
        d_g[i] = to_device(g[i], size_of(i, c.C));
    }
    llm_cuda_transformer_xl_attn_acts<T> a;
    llm_cuda_transformer_xl_attn_scratch<T> s;
    const size_t size = llm_cuda_transformer_xl_attn_bind(a, s, NULL, c);
    CHECK(llm_cuda_transformer_xl_attn_bind(a, s, to_device<unsigned char>(NULL, size), c) == size);
    a.waves = to_device_as<T>(waves, S * c.C), a.waves_float = to_device(waves, S * c.C);
    const T *d_x = to_device_as<T>(x, n), *d_dy = to_device_as<T>(dy, n);
    const T *d_memory = to_device_as<T>(memory, c.B * c.M * c.C);
    T *d_y = to_device<T>(NULL, n), *d_dx = to_device_as<T>(dx, n);
    CHECK_CUDA(llm_cuda_transformer_xl_attn_forward(d_y, a, d_x, c.M ? d_memory : NULL,
                                                    on_device(d_w), c, 0));
    CHECK_CUDA(llm_cuda_transformer_xl_attn_backward(d_dx, on_device(d_g), d_dy, a, d_x,
                                                     on_device(d_w), c, s, 0));
    from_device_as(y, d_y, n), from_device_as(dx, d_dx, n);
    for (size_t i = 0; i < KINDS; i++) from_device(g[i], d_g[i], size_of(i, c.C));
}

TEST(transformer_xl_attn, "outputs and gradients equal those of transformers' XLNet") {
    const char *const name[3] = {"memory", "none", "one"};
    const char *const kind[KINDS] = {"q", "kv", "r", "out", "u", "v"};
    const size_t sizes[3][3] = {{2, 3, 4}, {1, 5, 0}, {3, 1, 2}};
    for (size_t k = 0; k < (TEST_SLOW ? 1 : 3); k++) {
        const llm_transformer_xl_attn_config c = {sizes[k][0], sizes[k][1], sizes[k][2], 6, 3};
        const size_t n = c.B * c.T * c.C;
        float *w[KINDS], *g[KINDS], *y = floats(n), *dx = zeros(n);
        for (size_t i = 0; i < KINDS; i++)
            w[i] = golden("w/%s", kind[i]), g[i] = zeros(size_of(i, c.C));
        run<float>(y, dx, g, golden("%s/x", name[k]), c.M ? golden("%s/memory", name[k]) : NULL,
                   golden("%s/dy", name[k]), w, c);
        CHECK_GOLDEN(y, n, 3e-6f, "%s/y", name[k]);
        CHECK_GOLDEN(dx, n, 3e-5f, "%s/dx", name[k]); /* of terms up to 30, twice */
        for (size_t i = 0; i < KINDS; i++)
            CHECK_GOLDEN(g[i], size_of(i, c.C), 3e-5f, "%s/d%s", name[k], kind[i]);
    }
}

template <typename T>
static void check_reference(size_t B, size_t length, size_t M, size_t C, size_t H, float tol,
                            float grad_tol) {
    const llm_transformer_xl_attn_config c = {B, length, M, C, H};
    const size_t n = B * length * C;
    float *w[KINDS], *g[KINDS], *want[KINDS], *y = floats(n), *got = floats(n);
    float *x = tiny_normal(1, n, 1.0f), *memory = tiny_normal(2, B * M * C, 1.0f),
          *dy = tiny_normal(3, n, 1.0f);
    float *dx = tiny_normal(4, n, 0.1f), *got_dx = floats(n), *waves = floats((M + length) * C);
    memcpy(got_dx, dx, n * sizeof *dx);
    for (size_t i = 0; i < KINDS; i++) {
        w[i] = tiny_normal(10 + i, size_of(i, C), i < 4 ? 1.0f / sqrtf((float)C) : 0.3f);
        g[i] = tiny_normal(20 + i, size_of(i, C), 0.1f), want[i] = floats(size_of(i, C));
        memcpy(want[i], g[i], size_of(i, C) * sizeof(float));
    }
    run<T>(got, got_dx, g, x, memory, dy, w, c); /* rounds x, memory, dy, w to T */
    llm_sinusoidal_table(waves, NULL, M + length, C, 0, LLM_SINUSOIDAL_HALVES);
    to_device_as<T>(waves, (M + length) * C), to_device_as<T>(dx, n);
    const llm_transformer_xl_attn_weights weights = {w[0], w[1], w[2], w[3], w[4], w[5]};
    const llm_transformer_xl_attn_weights grads = {want[0], want[1], want[2],
                                                   want[3], want[4], want[5]};
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 1 << 22));
    const llm_transformer_xl_attn_saved s = llm_transformer_xl_attn_take(waves, &c, &arena);
    llm_transformer_xl_attn_forward(y, &s, x, memory, &weights, &c);
    llm_transformer_xl_attn_backward(dx, &grads, dy, &s, &weights, &c, &arena);
    CHECK_ALL_NEAR(got, y, n, tol);
    CHECK_ALL_NEAR(got_dx, dx, n, grad_tol);
    for (size_t i = 0; i < KINDS; i++)
        CHECK_ALL_NEAR(g[i], want[i], size_of(i, C), grad_tol * (1.0f + sqrtf((float)length)));
    llm_arena_destroy(&arena);
}
TEST(transformer_xl_attn, "several tiles, and bfloat16 on tensor cores and off them") {
    if (TEST_SLOW) return;
    check_reference<float>(1, 67, 2, 2, 1, 1e-5f, 2e-5f);
    check_reference<llm_bf16>(2, 5, 3, 16, 2, 0.05f, 0.08f);
    check_reference<llm_bf16>(1, 3, 1, 6, 1, 0.05f, 0.08f);
}
TEST(transformer_xl_attn, "heads that do not divide the width, or are too wide, are refused") {
    llm_cuda_transformer_xl_attn_acts<float> a;
    const llm_cuda_transformer_xl_attn_weights<float> w = {NULL, NULL, NULL, NULL, NULL, NULL};
    const llm_transformer_xl_attn_config bad[3] = {{1, 1, 0, 4, 0},
                                                   {1, 1, 0, 4, 3},
                                                   {1, 1, 0, 129, 1}},
                                         none = {0, 1, 1, 4, 1};
    float *const no = NULL;
    memset(&a, 0, sizeof a);
    for (size_t i = 0; i < 3; i++)
        CHECK(llm_cuda_transformer_xl_attn_forward(no, a, (const float *)no, (const float *)no, w,
                                                   bad[i],
                                                   0) == (cudaError_t)cudaErrorInvalidValue);
    CHECK_CUDA(llm_cuda_transformer_xl_attn_forward(no, a, (const float *)no, (const float *)no, w,
                                                    none, 0));
}

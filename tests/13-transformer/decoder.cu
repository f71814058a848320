/* @decoder */
#include "../test.h"

#include "../../llm_cuda.cuh"

#include "../tiny_sublayer_cuda.h"

enum { B = 2, T = 4, S = 3, C = 4, H = 2, F = 6, L = 2, N = B * T };

static llm_sublayer_config config(bool pre) {
    llm_sublayer_config c = llm_sublayer_defaults(L, C, H);
    c.hidden = F;
    c.norm = pre ? LLM_PRENORM_PRE : LLM_PRENORM_POST;
    c.act = pre ? LLM_ACTIVATION_GELU : LLM_ACTIVATION_RELU;
    return c;
}
/* The golden memory without its hidden row, the last one. */
template <typename U> static void with_memory(llm_cuda_sublayer_view<U> &v, float *mem) {
    const size_t length[B] = {3, 2};
    const float *hidden = golden("in/hidden");
    for (size_t i = 0; i < B * S; i++) CHECK((hidden[i] != 0.0f) == (i == 5));
    v.M = 5, v.S_most = 3, v.mem_start = tiny_starts(length, B);
    v.mem = to_device_as<U>(mem, 5 * C), v.dmem = to_device_as<U>(zeros(5 * C), 5 * C);
}

TEST(decoder, "values and gradients equal torch.nn.TransformerDecoder, the memory's too") {
    for (size_t pre = TEST_SLOW ? 1 : 0; pre < 2; pre++) {
        const char *name = pre ? "pre" : "post";
        const llm_sublayer_config c = config(pre);
        size_t count;
        float *flat = golden_n(&count, "%s/weights", name), got[N * C], *grads = zeros(count);
        tiny_stack<float> k;
        k.c = llm_cuda_sublayer_of(c);
        k.v = tiny_view<float>(B, T);
        with_memory(k.v, golden("in/mem"));
        tiny_stack_make(k, flat, grads, llm_decoder_matrices(&c), count, true);
        const float *y = tiny_stack_forward(k, golden("in/x"));
        CHECK_GOLDEN(from_device(got, y, N * C), N * C, 1e-5f, "%s/y", name);
        if (TEST_SLOW) break; /* the way back has the kernels of @sublayer's test */
        const float *dx = tiny_stack_backward(k, golden("in/dy"));
        CHECK_GOLDEN(from_device(got, dx, N * C), N * C, 3e-5f, "%s/dx", name);
        float dmem[B * S * C] = {0};
        from_device(dmem, (const float *)k.v.dmem, 5 * C);
        CHECK_GOLDEN(dmem, B * S * C, 3e-5f, "%s/dmem", name);
        CHECK_GOLDEN(from_device(grads, k.grads, count), count, 3e-5f, "%s/grads", name);
    }
}

/* Token by token against the same golden values: no place sees one ahead of it. */
template <typename U> static void check_step(bool pre, float tol) {
    const char *name = pre ? "pre" : "post";
    const llm_sublayer_config c = config(pre);
    const size_t room = T - 1, zero[B] = {0, 0}, length[B] = {3, 2};
    size_t count, filled[B];
    float *flat = golden_n(&count, "%s/weights", name), *mem = golden("in/mem");
    float *x = golden("in/x"), *y = golden("%s/y", name), row[B * C], want[B * C], got[B * C];
    tiny_stack<U> k;
    k.c = llm_cuda_sublayer_of(c);
    k.v = tiny_view<U>(B, 1);
    tiny_stack_make(k, flat, zeros(count), llm_decoder_matrices(&c), count, true);
    llm_cuda_decoder_cache<U> cache;
    memset(&cache, 0, sizeof cache);
    cache.B = B, cache.room = room, cache.S = S;
    const size_t size = llm_cuda_decoder_cache_bind(cache, NULL, k.c);
    CHECK(llm_cuda_decoder_cache_bind(cache, to_device<unsigned char>(NULL, size), k.c) == size);
    CHECK_CUDA(cudaMemcpy(cache.length, zero, sizeof zero, cudaMemcpyHostToDevice));
    CHECK_CUDA(cudaMemcpy(cache.mem_length, length, sizeof length, cudaMemcpyHostToDevice));
    const int index[5] = {0, 1, 2, 3, 4}; /* rows b S + t, of which the last has no token */
    const U *d_mem = to_device_as<U>(mem, B * S * C);
    CHECK_CUDA(llm_cuda_decoder_memory(cache, d_mem, pre ? to_device(index, 5) : NULL,
                                       pre ? 5 : B * S, k.p, k.c, 0));
    U *d_y = to_device<U>(NULL, B * C);
    const size_t cached = L * 2 * B * room * C;
    float *before = floats(cached), *after = floats(cached);
    for (size_t t = 0; t < T; t++) {
        if (t == room) from_device_as(before, cache.own, cached);
        for (size_t i = 0; i < B * C; i++) {
            row[i] = x[(i / C * T + t) * C + i % C];
            want[i] = y[(i / C * T + t) * C + i % C];
        }
        CHECK_CUDA(
            llm_cuda_decoder_step(d_y, cache, (const U *)to_device_as<U>(row, B * C), k.p, k.c, 0));
        from_device_as(got, d_y, B * C), from_device(filled, cache.length, B);
        for (size_t b = 0; b < B; b++) CHECK(filled[b] == (t < room ? t + 1 : room));
        if (t < room) CHECK_ALL_NEAR(got, want, B * C, tol);
    }
    from_device_as(after, cache.own, cached);
    for (size_t i = 0; i < cached; i++) CHECK(after[i] == before[i]);
}
TEST(decoder, "step by step it gives torch's values; a full cache takes no more") {
    check_step<float>(true, 2e-5f);
    if (TEST_SLOW) return;
    check_step<float>(false, 2e-5f);
    check_step<llm_bf16>(false, 0.15f); /* four channels, five norms of rounded sums */
}

TEST(decoder, "no text and no memory are no work") {
    llm_cuda_decoder_cache<float> cache;
    llm_cuda_sublayer_part<float> p[4];
    const llm_sublayer_config c = llm_sublayer_defaults(1, C, H);
    memset(&cache, 0, sizeof cache), memset(p, 0, sizeof p);
    float *none = NULL;
    CHECK_CUDA(
        llm_cuda_decoder_step(none, cache, (const float *)none, p, llm_cuda_sublayer_of(c), 0));
    CHECK_CUDA(llm_cuda_decoder_memory(cache, (const float *)none, (const int *)NULL, 0, p,
                                       llm_cuda_sublayer_of(c), 0));
}

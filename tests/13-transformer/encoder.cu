/* @encoder */
#include "../test.h"

#include "../../llm_cuda.cuh"

#include "../tiny_sublayer_cuda.h"

enum { B = 2, T = 5, C = 4, H = 2, F = 6, L = 2, N = B * T };

/* The golden texts of 3 and 5 tokens: moved together, through the stack, and back. Padded rows have
 * no gradient here; the reference gets dy = 0 there. */
TEST(encoder,
     "without padding values equal torch.nn.TransformerEncoder's, gradients llm_encoder's") {
    const float *x = golden("in/x"), *flags = golden("in/hidden");
    bool hidden[N], mask[N];
    size_t tokens = 0;
    for (size_t i = 0; i < N; i++) hidden[i] = flags[i] != 0.0f, mask[i] = !hidden[i];
    for (size_t i = 0; i < N; i++) tokens += mask[i];
    CHECK(tokens == 8);
    size_t *start = to_device<size_t>(NULL, B + 1), got_start[B + 1];
    int *cu = to_device<int>(NULL, B + 1), *index = to_device<int>(NULL, N);
    int *place = to_device<int>(NULL, N);
    CHECK_CUDA(llm_cuda_encoder_find(start, cu, index, place, to_device(mask, N), B, T, 0));
    from_device(got_start, start, B + 1);
    CHECK(got_start[0] == 0 && got_start[1] == 3 && got_start[2] == 8);

    float *d_x = to_device(x, N * C), *packed = to_device<float>(NULL, tokens * C);
    float *back = to_device<float>(NULL, N * C), *rows = floats(N * C), *got = floats(400);
    CHECK_CUDA(llm_cuda_pad_move(packed, d_x, index, tokens, C, false, 0));
    for (size_t pre = TEST_SLOW ? 1 : 0; pre < 2; pre++) {
        const char *name = pre ? "pre" : "post";
        llm_sublayer_config c = llm_sublayer_defaults(L, C, H);
        c.hidden = F, c.norm = pre ? LLM_PRENORM_PRE : LLM_PRENORM_POST;
        c.act = pre ? LLM_ACTIVATION_GELU : LLM_ACTIVATION_RELU;
        size_t count;
        const size_t matrices = llm_encoder_matrices(&c);
        float *flat = golden_n(&count, "%s/weights", name), *want = golden("%s/y", name);
        tiny_stack<float> k;
        k.c = llm_cuda_sublayer_of(c);
        k.v = tiny_view<float>(B, 0);
        k.v.N = tokens, k.v.T_most = T, k.v.start = start;
        tiny_stack_make(k, flat, zeros(count), matrices, count, false);
        const float *y = tiny_stack_forward(k, from_device(rows, packed, tokens * C));
        CHECK_CUDA(llm_cuda_pad_move(back, y, place, N, C, false, 0));
        from_device(got, back, N * C);
        for (size_t i = 0; i < N; i++) /* padding comes back as zeros */
            for (size_t n = 0; n < C; n++)
                CHECK_NEAR(got[i * C + n], mask[i] ? want[i * C + n] : 0.0f, 1e-5f);

        float *dy = golden("in/dy"), *grads = zeros(count);
        for (size_t i = 0; i < N * C; i++) dy[i] = mask[i / C] ? dy[i] : 0.0f;
        CHECK_CUDA(llm_cuda_pad_move(k.s.df, to_device(dy, N * C), index, tokens, C, false, 0));
        const float *dx = tiny_stack_backward(k, from_device(rows, k.s.df, tokens * C));
        CHECK_CUDA(llm_cuda_pad_move(back, dx, place, N, C, false, 0));
        llm_arena arena;
        CHECK(llm_arena_create(&arena, 1 << 17));
        llm_encoder_weights w, dw;
        llm_encoder_acts a;
        llm_sublayer_view v = llm_sublayer_look(B, T);
        float *matrix = flat, *vector = flat + matrices, *dm = grads, *dv = grads + matrices;
        v.hidden = hidden;
        llm_encoder_bind(&w, &matrix, &vector, &c, &arena);
        llm_encoder_bind(&dw, &dm, &dv, &c, &arena);
        llm_encoder_forward(&a, x, &v, &w, &c, &arena);
        llm_encoder_backward(dy, &dw, &a, B, T, &w, &c, &arena);
        CHECK_ALL_NEAR(from_device(got, back, N * C), dy, N * C, 3e-5f);
        CHECK_ALL_NEAR(from_device(got, k.grads, count), grads, count, 6e-5f);
        llm_arena_destroy(&arena);
    }
}

template <typename T> static void check_pool(size_t width) {
    enum { TEXTS = 3, ROWS = 6 };
    const size_t length[TEXTS] = {2, 0, 4}, start[TEXTS + 1] = {0, 2, 2, 6}, n = ROWS * width;
    float *y = tiny_normal(width, n, 1.0f), *want = floats(TEXTS * width),
          *got = floats(TEXTS * width);
    const T *d_y = to_device_as<T>(y, n);
    T *out = to_device<T>(NULL, TEXTS * width);
    const llm_encoder_pooling kind[3] = {LLM_ENCODER_FIRST, LLM_ENCODER_MEAN, LLM_ENCODER_MAX};
    for (size_t i = 0; i < 3; i++) {
        for (size_t b = 0; b < TEXTS; b++)
            llm_encoder_pool(want + b * width, y + start[b] * width, NULL, 1, length[b], width,
                             kind[i]);
        CHECK_CUDA(
            llm_cuda_encoder_pool(out, d_y, tiny_starts(length, TEXTS), TEXTS, width, kind[i], 0));
        from_device_as(got, out, TEXTS * width);
        for (size_t k = 0; k < TEXTS * width; k++) /* a maximum of nothing is -inf */
            CHECK(got[k] == want[k] ||
                  fabsf(got[k] - want[k]) <= 3e-7f + unit_of<T>() * fabsf(want[k]));
    }
    CHECK_CUDA(llm_cuda_encoder_pool(out, d_y, tiny_starts(length, 0), 0, width, kind[0], 0));
}
TEST(encoder, "pooling of texts behind each other, one of them empty") {
    check_pool<float>(5);
    check_pool<float>(1028); /* two blocks of 256 vectors */
    check_pool<llm_bf16>(8);
}

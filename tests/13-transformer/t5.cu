/* @t5 */
#include "../test.h"

#include "../../llm_cuda.cuh"

#include "../tiny_translator_cuda.h"

#include "../tiny_t5.h"
#include "../tiny_t5_cuda.h"

enum { B = 2, S = 6, T = 3, C = 4, V = 7 };
static const char *const name[2] = {"v10", "v11"};

static llm_t5_config config(bool gated) { return tiny_t5_config(gated, V, C, 5, 2, 3, 2); }

TEST(t5, "logits, loss and all gradients equal transformers', 1.0 and 1.1, without padding") {
    const int *source = as_ints(golden("in/source"), B * S);
    const int *target = as_ints(golden("in/target"), B * T);
    for (size_t v = TEST_SLOW ? 1 : 0; v < 2; v++) {
        const llm_t5_config c = config(v);
        size_t count;
        float *flat = golden_n(&count, "%s/weights", name[v]), *grads = floats(count);
        tiny_t5<float> k;
        tiny_t5_make(k, c, flat, source, target, B, S, T, 8);
        CHECK((k.m.tables.head == k.m.tables.embed) == (v == 0));
        CHECK_CUDA(llm_cuda_t5_encode(k.a, k.m, k.source, 0));
        CHECK_CUDA(llm_cuda_t5_decode(k.a, k.m, k.target, 0));
        const float *want = golden("%s/logits", name[v]);
        float got[B * T * V], *loss = floats(k.target.N);
        from_device(got, k.a.logits, k.target.N * V);
        size_t n = 0; /* rows of the batch without padding */
        for (size_t i = 0; i < B * T; i++)
            if (target[i]) CHECK_ALL_NEAR(got + n++ * V, want + i * V, V, 2e-5f);
        CHECK(n == k.target.N && n == 5);

        CHECK_CUDA(llm_cuda_t5_forward(k.a, k.m, k.source, k.target, k.label, k.gain, 0));
        CHECK_CUDA(llm_cuda_t5_backward(k.a, k.m, k.source, k.target, 0));
        double sum = 0.0;
        from_device(loss, k.a.loss, n);
        for (size_t i = 0; i < n; i++) sum += (double)loss[i];
        const float mean = (float)(sum / (double)n);
        CHECK_GOLDEN(&mean, 1, 3e-6f, "%s/loss", name[v]);
        CHECK_GOLDEN(from_device(grads, k.m.g, count), count, 2e-5f, "%s/grads", name[v]);
        if (TEST_SLOW) continue;
        CHECK_CUDA(llm_cuda_t5_forward(k.a, k.m, k.source, k.target, k.label, k.gain, 0));
        CHECK_CUDA(llm_cuda_t5_backward(k.a, k.m, k.source, k.target, 0));
        from_device(grads, k.m.g, count); /* it adds */
        for (size_t i = 0; i < count; i++) grads[i] *= 0.5f;
        CHECK_GOLDEN(grads, count, 2e-5f, "%s/grads", name[v]);
    }
}

TEST(t5, "bfloat16 follows llm_t5 in its rounding; texts longer than the table are refused") {
    if (TEST_SLOW) return;
    llm_t5_config c = config(true);
    c.encoder.attn.width = c.decoder.attn.width = 16;
    c.encoder.attn.head_size = c.decoder.attn.head_size = 8;
    c.encoder.hidden = c.decoder.hidden = 8;
    const int source[B * S] = {2, 5, 3, 4, 6, 4, 2, 6, 0, 0, 0, 0};
    const int target[B * T] = {3, 1, 0, 5, 6, 1};
    size_t matrices;
    const size_t count = llm_t5_count(&matrices, &c);
    float *flat = floats(count), *grads = zeros(count), *got = floats(count);
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 1 << 20));
    llm_t5_weights w, dw;
    llm_t5_bind(&w, flat, &c, &arena), llm_t5_bind(&dw, grads, &c, &arena);
    llm_rng rng = llm_rng_seed(2);
    llm_t5_init(&w, &c, &rng);
    tiny_t5<llm_bf16> k; /* rounds flat, which the reference then reads */
    tiny_t5_make(k, c, flat, source, target, B, S, T, S);
    llm_t5_acts a;
    const float want = llm_t5_forward(&a, source, target, B, S, T, &w, &c, &arena);
    llm_t5_backward(&dw, &a, &w, &c, &arena);
    CHECK_CUDA(llm_cuda_t5_forward(k.a, k.m, k.source, k.target, k.label, k.gain, 0));
    CHECK_CUDA(llm_cuda_t5_backward(k.a, k.m, k.source, k.target, 0));
    float loss[5], sum = 0.0f;
    from_device(loss, k.a.loss, 5);
    for (size_t n = 0; n < 5; n++) sum += loss[n];
    CHECK_NEAR(sum / 5.0f, want, 0.05f);
    double square = 0.0, off = 0.0;
    from_device(got, k.m.g, count);
    for (size_t i = 0; i < count; i++) {
        const double d = (double)got[i] - (double)grads[i];
        square += (double)grads[i] * (double)grads[i], off += d * d;
    }
    CHECK(sqrt(off) < 0.05 * sqrt(square));
    k.a.source.most = S - 1;
    CHECK(llm_cuda_t5_encode(k.a, k.m, k.source, 0) == (cudaError_t)cudaErrorInvalidValue);
    llm_arena_destroy(&arena);
}

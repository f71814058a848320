/* @encoder_decoder */
#include "../test.h"

#include "../../llm_cuda.cuh"

#include "../tiny_encoder_decoder.h"
#include "../tiny_translator_cuda.h"

TEST(encoder_decoder, "loss and all gradients equal torch.nn.Transformer, without its padding") {
    const int *source = as_ints(golden("in/source"), B * S);
    const int *target = as_ints(golden("in/target"), B * T);
    for (size_t tied = TEST_SLOW ? 1 : 0; tied < 2; tied++) {
        const llm_encoder_decoder_config c = config(tied);
        size_t count, matrices;
        float *flat = golden_n(&count, "%s/weights", name[tied]), *grads = floats(count);
        CHECK(count == llm_encoder_decoder_count(&matrices, &c));
        tiny_translator<float> k;
        tiny_translator_make(k, c, flat, count, source, target, B, S, T);
        CHECK(k.source.N == 6 && k.source.most == 4 && k.target.N == 5 && k.target.most == 3);
        CHECK_CUDA(
            llm_cuda_encoder_decoder_forward(k.a, k.m, k.source, k.target, k.label, k.gain, 0));
        CHECK_CUDA(llm_cuda_encoder_decoder_backward(k.a, k.m, k.source, k.target, 0));
        const float loss = tiny_translator_loss(k);
        CHECK_GOLDEN(&loss, 1, 3e-6f, "%s/loss", name[tied]);
        CHECK_GOLDEN(from_device(grads, k.m.g, count), count, 2e-5f, "%s/grads", name[tied]);
    }
}

/* Dropout's numbers are those of rows as they lie: where nothing is padded, the reference's. */
TEST(encoder_decoder, "with dropout of embeddings and sublayers it equals llm_encoder_decoder") {
    if (TEST_SLOW) return;
    llm_encoder_decoder_config c = config(true);
    c.encoder.layers = 1;
    c.encoder.dropout = 0.2f, c.decoder.dropout = 0.3f, c.encoder.seed = 8, c.decoder.seed = 9;
    const int source[B * S] = {2, 3, 4, 5, 5, 2, 2, 3}, target[B * T] = {5, 4, 3, 2, 3, 2};
    size_t matrices;
    const size_t count = llm_encoder_decoder_count(&matrices, &c);
    float *flat = floats(count), *grads = zeros(count), *got = floats(count);
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 1 << 18));
    llm_rng rng = llm_rng_seed(4);
    llm_encoder_decoder_weights w, dw;
    llm_encoder_decoder_acts a;
    llm_encoder_decoder_bind(&w, flat, &c, &arena),
        llm_encoder_decoder_bind(&dw, grads, &c, &arena);
    llm_encoder_decoder_init(&w, &c, &rng);
    const float want = llm_encoder_decoder_forward(&a, source, target, B, S, T, &w, &c, &arena);
    llm_encoder_decoder_backward(&dw, &a, &w, &c, &arena);
    tiny_translator<float> k;
    tiny_translator_make(k, c, flat, count, source, target, B, S, T);
    CHECK_CUDA(llm_cuda_encoder_decoder_forward(k.a, k.m, k.source, k.target, k.label, k.gain, 0));
    CHECK_CUDA(llm_cuda_encoder_decoder_backward(k.a, k.m, k.source, k.target, 0));
    CHECK_NEAR(tiny_translator_loss(k), want, 5e-6f);
    CHECK_ALL_NEAR(from_device(got, k.m.g, count), grads, count, 2e-5f);
    llm_arena_destroy(&arena);
}

TEST(encoder_decoder, "packing: places, starts, the shift, labels, and the places of each id") {
    const int rows[9] = {3, 4, 0, 0, 4, 4, 5, 0, 0}; /* a row that begins with pad is empty */
    int label[9];
    const llm_cuda_encoder_decoder_texts t = tiny_pack(label, rows, 3, 3, true, 6, 0, 1);
    const int ids[3] = {1, 3, 1}, place[3] = {0, 1, 0}, labels[3] = {3, 4, 5};
    const int order[3] = {0, 2, 1};
    const size_t start[4] = {0, 2, 2, 3};
    CHECK(t.N == 3 && t.most == 2 && t.B == 3 && t.segments == 2);
    for (size_t n = 0; n < 3; n++)
        CHECK(t.ids[n] == ids[n] && t.place[n] == place[n] && label[n] == labels[n] &&
              t.order[n] == order[n]);
    for (size_t b = 0; b < 4; b++) CHECK(t.start[b] == start[b]);
    CHECK(t.segment[0] == 0 && t.segment[1] == 2 && t.segment[2] == 3);
    const llm_cuda_encoder_decoder_texts plain = tiny_pack(NULL, rows, 3, 3, false, 6, 0, 1);
    CHECK(plain.N == 3 && plain.ids[0] == 3 && plain.ids[1] == 4 && plain.ids[2] == 5);
}

/* @encoder_decoder_step */
#include "../test.h"

#include "../../llm_cuda.cuh"

#include "../tiny_translator_cuda.h"

enum { B = 3, S = 4, ROOM = 5, V = 7 };

static cudaError_t begin(const llm_cuda_encoder_decoder_step<float> &s, const float *memory,
                         const tiny_translator<float> &k,
                         const llm_cuda_encoder_decoder_texts &source) {
    return llm_cuda_encoder_decoder_step_begin(s, memory, k.m.dec, k.m.decoder, k.m.config.start,
                                               source, 0);
}

/* Sources of 4, 2 and 1 tokens beside llm_encoder_decoder_generate, token by token. */
static void check_writing(llm_prenorm_kind norm, bool tied, int end, size_t layers) {
    llm_encoder_decoder_config c = llm_encoder_decoder_defaults(V, layers, 4, 2);
    c.encoder.hidden = c.decoder.hidden = 5, c.encoder.norm = c.decoder.norm = norm;
    c.tied = tied, c.scale = 2.0f;
    c.decoder.dropout = c.encoder.dropout = 0.5f; /* off in use */
    const int source[B * S] = {2, 5, 3, 6, 4, 2, 0, 0, 6, 0, 0, 0}, target[B] = {2, 2, 2};
    size_t matrices;
    const size_t count = llm_encoder_decoder_count(&matrices, &c);
    float *flat = floats(count);
    int want[B * ROOM];
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 1 << 18));
    llm_rng rng = llm_rng_seed(11);
    llm_encoder_decoder_weights w;
    llm_encoder_decoder_bind(&w, flat, &c, &arena);
    llm_encoder_decoder_init(&w, &c, &rng);
    llm_encoder_decoder_generate(want, source, B, S, ROOM, end, &w, &c, &arena);

    c.encoder.dropout = 0.0f;
    tiny_translator<float> k;
    tiny_translator_make(k, c, flat, count, source, target, B, S, 1);
    CHECK_CUDA(llm_cuda_encoder_decoder_encode(k.a, k.m, k.source, 0));
    llm_cuda_encoder_decoder_step<float> s;
    memset(&s, 0, sizeof s);
    s.cache.B = B, s.cache.room = ROOM, s.cache.S = S;
    const size_t size = llm_cuda_encoder_decoder_step_bind(s, NULL, k.m.decoder, V);
    CHECK(llm_cuda_encoder_decoder_step_bind(s, to_device<unsigned char>(NULL, size), k.m.decoder,
                                             V) == size);
    CHECK_CUDA(begin(s, k.a.enc[2 * layers].y, k, k.source));
    for (size_t t = 0; t < ROOM + 1; t++) /* the last one finds no room */
        CHECK_CUDA(llm_cuda_encoder_decoder_token(s, k.m, end, 0));
    const size_t ended = tiny_written(s.ids, s.done, want, B, ROOM, end);
    CHECK(end < 0 ? ended == 0 : ended > 0);
    CHECK(begin(s, k.a.enc->y, k, k.target) == 0);
    k.source.most = S + 1;
    CHECK(begin(s, k.a.enc->y, k, k.source) == (cudaError_t)cudaErrorInvalidValue);
    k.source.most = S, k.source.B = 1;
    CHECK(begin(s, k.a.enc->y, k, k.source) == (cudaError_t)cudaErrorInvalidValue);
    llm_arena_destroy(&arena);
}
TEST(encoder_decoder_step, "token by token it writes what llm_encoder_decoder_generate does") {
    check_writing(LLM_PRENORM_POST, true, -1, 1);
    if (!TEST_SLOW) check_writing(LLM_PRENORM_PRE, false, 4, 2);
}
TEST(encoder_decoder_step, "the first of the largest, in rows of several rounds of a block") {
    enum { WIDE = 1500 };
    if (TEST_SLOW) return; /* two thousand threads */
    float *logits = floats(2 * WIDE);
    for (size_t i = 0; i < 2 * WIDE; i++) logits[i] = -(float)(i % 7);
    logits[1203] = logits[1400] = 2.0f, logits[WIDE] = -100.0f; /* then the first 0 of row 1 */
    const int place[2] = {0, 1}, last[2] = {9, 9};
    int got[4];
    bool done[2] = {false, true};
    llm_cuda_encoder_decoder_step<float> s;
    memset(&s, 0, sizeof s);
    s.cache.room = 2;
    s.ids = to_device<int>(NULL, 4), s.last = to_device(last, 2), s.place = to_device(place, 2);
    s.done = to_device(done, 2), s.logits = to_device(logits, 2 * WIDE);
    LLM_LAUNCH(llm_encoder_decoder_take_kernel<float>, 2, 1024, 0, 0, s, WIDE, 77, 1203);
    from_device(got, s.ids, 4), from_device(done, s.done, 2);
    CHECK(got[0] == 1203 && got[3] == 77 && done[0] && done[1]);
    from_device(got, s.last, 2);
    CHECK(got[0] == 1203 && got[1] == 77);
    from_device(got, s.place, 2);
    CHECK(got[0] == 1 && got[1] == 2);
}

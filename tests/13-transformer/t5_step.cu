/* @t5_step */
#include "../test.h"

#include "../../llm_cuda.cuh"

#include "../tiny_translator_cuda.h"

#include "../tiny_t5.h"
#include "../tiny_t5_cuda.h"

enum { B = 3, S = 5, ROOM = 6, V = 9 };
static const int source[B * S] = {2, 5, 3, 4, 6, 4, 2, 6, 0, 0, 7, 0, 0, 0, 0};

static llm_t5_config config(bool gated) { return tiny_t5_config(gated, V, 6, 7, 3, 2, 1); }

/* Token by token beside llm_t5_generate, and the logits of each step beside llm_t5_step. Distances
 * go further than the room: by `more`. */
static void check_writing(bool gated, bool stops, size_t more) {
    const llm_t5_config c = config(gated);
    const int target[B] = {2, 2, 2};
    size_t matrices;
    const size_t count = llm_t5_count(&matrices, &c);
    float *flat = floats(count), logits[B * V], seen[B * V];
    int want[B * ROOM], last[B] = {0, 0, 0}, end = -1;
    llm_arena arena;
    CHECK(llm_arena_create(&arena, 1 << 20));
    llm_rng rng = llm_rng_seed(5);
    llm_t5_weights w;
    llm_rng_normal_fill(&rng, flat, count);
    llm_t5_bind(&w, flat, &c, &arena);
    llm_t5_generate(want, source, B, S, ROOM, end, &w, &c, &arena);
    if (stops) end = want[ROOM + 2]; /* of the second text, which then ends */
    if (stops) llm_t5_generate(want, source, B, S, ROOM, end, &w, &c, &arena);
    llm_t5_stack_acts a;
    llm_t5_step_cache cache;
    bool *hidden;
    const float *mem = llm_t5_encode(&a, &hidden, source, B, S, &w, &c, &arena);
    llm_t5_step_create(&cache, mem, hidden, B, S, ROOM, &w, &c, &arena);

    tiny_t5<float> k;
    tiny_t5_make(k, c, flat, source, target, B, S, 1, ROOM + more);
    CHECK_CUDA(llm_cuda_t5_encode(k.a, k.m, k.source, 0));
    llm_cuda_encoder_decoder_step<float> s;
    memset(&s, 0, sizeof s);
    s.cache.B = B, s.cache.room = ROOM, s.cache.S = S;
    const size_t size = llm_cuda_t5_step_bind(s, NULL, k.m);
    CHECK(llm_cuda_t5_step_bind(s, to_device<unsigned char>(NULL, size), k.m) == size);
    const float *memory = k.a.enc[k.m.encoder.n].y;
    CHECK_CUDA(llm_cuda_t5_step_begin(s, memory, k.m, k.source, 0));
    for (size_t t = 0; t < ROOM + 1; t++) { /* the last one finds no room */
        CHECK_CUDA(llm_cuda_t5_step_token(s, k.m, end, 0));
        if (t == ROOM) break;
        from_device(seen, s.logits, B * V);
        llm_t5_step(logits, &cache, last, &w, &c, &arena);
        CHECK_ALL_NEAR(seen, logits, B * V, 5e-5f);
        for (size_t b = 0; b < B; b++) last[b] = want[b * ROOM + t];
    }
    const size_t ended = tiny_written(s.ids, s.done, want, B, ROOM, end);
    CHECK(stops ? ended > 0 : ended == 0);
    s.cache.room = ROOM + more + 1;
    CHECK(llm_cuda_t5_step_begin(s, memory, k.m, k.source, 0) ==
          (cudaError_t)cudaErrorInvalidValue);
    s.cache.room = 0;
    CHECK_CUDA(llm_cuda_t5_step_token(s, k.m, end, 0));
    llm_arena_destroy(&arena);
}
TEST(t5_step, "token by token it writes what llm_t5_generate does, with llm_t5_step's logits") {
    check_writing(true, false, 0);
    if (TEST_SLOW) return;
    check_writing(false, false, 3);
    check_writing(true, true, 1);
}

TEST(t5_step, "no texts and no room are nothing to do: nothing is read") {
    llm_cuda_encoder_decoder_step<float> s = {};
    llm_cuda_t5<float> m = {};
    m.config.vocab = V, m.decoder.config.width = 4, m.decoder.config.heads = 1;
    m.decoder.config.head_size = 4;
    s.cache.room = 1;
    CHECK_CUDA(llm_cuda_t5_step_token(s, m, -1, 0));
    s.cache.B = 1, s.cache.room = 0;
    CHECK_CUDA(llm_cuda_t5_step_token(s, m, -1, 0));
}

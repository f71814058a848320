/* @encoder_decoder_weights */
#include "../test.h"

#include "../../llm.h"

#include "../arena.h"

TEST(encoder_decoder_weights, "counts: the 2017 models, and torch.nn.Transformer between tables") {
    llm_encoder_decoder_config c = llm_encoder_decoder_defaults(37000, 6, 512, 8);
    size_t matrices;
    c.tied = true;
    CHECK(llm_encoder_decoder_count(&matrices, &c) == 63082496);
    CHECK(matrices == 37000 * 512 + 6 * 12 * 512 * 512 + 6 * 16 * 512 * 512);
    c.tied = false;
    CHECK(llm_encoder_decoder_count(&matrices, &c) == 63082496 + 2 * 37000 * 512);
    c = llm_encoder_decoder_defaults(37000, 6, 1024, 16); /* big */
    c.tied = true;
    CHECK(llm_encoder_decoder_count(&matrices, &c) == 214245376);
    c.target_vocab = 100;
    llm_encoder_decoder_weights w;
    llm_arena arena = test_arena(1 << 14);
    CHECK_ASSERTS(llm_encoder_decoder_bind(&w, NULL, &c, &arena));
    c.tied = false, c.decoder.width = 512;
    CHECK_ASSERTS(llm_encoder_decoder_bind(&w, NULL, &c, &arena));
}

TEST(encoder_decoder_weights, "every number of the vector belongs to one part; first weights") {
    for (size_t tied = 0; tied < 2; tied++) {
        llm_encoder_decoder_config c = llm_encoder_decoder_defaults(50, 2, 16, 4);
        c.tied = tied;
        c.encoder.norm = LLM_PRENORM_PRE;
        c.decoder.layers = 1;
        if (!tied) c.target_vocab = 40;
        size_t matrices, ones = 0;
        const size_t count = llm_encoder_decoder_count(&matrices, &c);
        const size_t tables = tied ? 50 * 16 : (50 + 2 * 40) * 16;
        float *flat = floats(count);
        llm_encoder_decoder_weights w;
        llm_arena arena = test_arena(1 << 14);
        llm_rng rng = llm_rng_seed(1);
        llm_encoder_decoder_bind(&w, flat, &c, &arena);
        CHECK(w.source == flat && (w.head == flat) == (tied == 1) && (w.target == flat) == tied);
        if (!tied) CHECK(w.target == flat + 50 * 16 && w.head == w.target + 40 * 16);
        CHECK(w.encoder.attn[0].mha.wq == flat + tables && w.decoder.cross != NULL);
        CHECK(w.encoder.norm_w && !w.decoder.norm_w);
        llm_encoder_decoder_init(&w, &c, &rng);
        for (size_t i = 0; i < matrices; i++) CHECK(flat[i] != 0.0f && fabsf(flat[i]) < 2.0f);
        for (size_t i = matrices; i < count; i++) ones += flat[i] == 1.0f;
        for (size_t i = matrices; i < count; i++) CHECK(flat[i] == 0.0f || flat[i] == 1.0f);
        CHECK(ones == (2 * 2 + 1 + 3) * 16);
        /* four standard errors of at least 640 numbers */
        const float *const table[3] = {w.source, w.target, w.head};
        for (size_t k = 0; k < 3; k++) CHECK_NEAR(dot(table[k], table[k], 640) / 40.0, 1.0, 0.22);
        /* the first table is the first draws over sqrt(16), all of them; a head may end anywhere */
        float z[50 * 16];
        rng = llm_rng_seed(1);
        llm_rng_normal_fill(&rng, z, 50 * 16);
        for (size_t i = 0; i < 50 * 16; i++) CHECK(w.source[i] == z[i] / 4.0f);
        if (!tied) w.head = floats(40 * 16);
        llm_encoder_decoder_init(&w, &c, &rng);
    }
    const llm_encoder_decoder_config c = llm_encoder_decoder_defaults(9, 3, 8, 2);
    CHECK(c.source_vocab == 9 && c.target_vocab == 9 && !c.tied && c.scale == 1.0f);
    CHECK(c.smoothing == 0.0f && c.pad == 0 && c.start == 1);
    CHECK(c.encoder.layers == 3 && c.decoder.layers == 3 && c.encoder.width == 8);
    CHECK(c.decoder.width == 8 && c.decoder.heads == 2 && c.encoder.seed != c.decoder.seed);
}

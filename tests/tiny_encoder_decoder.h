/* The two small models of @encoder_decoder's golden values: three tables with norms behind, and one
 * table with norms in front. Behind test.h and the header, once in each suite. */

enum { B = 2, S = 4, T = 3, C = 4, V = 6 };
static const char *const name[2] = {"three", "one"};

static llm_encoder_decoder_config config(bool tied) {
    llm_encoder_decoder_config c = llm_encoder_decoder_defaults(V, 2, C, 2);
    c.encoder.hidden = c.decoder.hidden = 5, c.decoder.layers = 1;
    c.encoder.norm = c.decoder.norm = tied ? LLM_PRENORM_PRE : LLM_PRENORM_POST;
    c.tied = tied;
    c.source_vocab = tied ? V : 7;
    c.scale = tied ? 2.0f : 1.0f;
    c.smoothing = tied ? 0.1f : 0.0f;
    return c;
}

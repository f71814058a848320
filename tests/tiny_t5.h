/* A small T5's settings. Behind test.h and the header, once in each suite: nvcc compiles a chapter
 * as one file, a namespace a suite, so there is no guard. */

/* heads of head numbers each; 3 layers, so many of them of the encoder. */
static llm_t5_config tiny_t5_config(bool gated, size_t vocab, size_t width, size_t hidden,
                                    size_t heads, size_t head, size_t layers) {
    llm_t5_config c = llm_t5_defaults();
    c.vocab = vocab, c.tied = !gated;
    c.encoder.layers = layers, c.encoder.hidden = hidden, c.encoder.gated = gated;
    c.encoder.buckets = 8, c.encoder.far = 5;
    c.encoder.attn.width = width, c.encoder.attn.heads = heads, c.encoder.attn.head_size = head;
    c.decoder = c.encoder;
    c.decoder.decoder = true, c.decoder.layers = 3 - layers;
    return c;
}

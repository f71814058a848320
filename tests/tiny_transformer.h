/* The six small models of tests/13-transformer/transformer.py. Behind test.h and llm.h. */
#ifndef TINY_TRANSFORMER_H
#define TINY_TRANSFORMER_H

static const char *const tiny_transformer_name[6] = {"2017", "bert",  "gpt2",
                                                     "t5",   "llama", "t5_gated"};

static llm_transformer_config tiny_transformer(size_t k) {
    llm_transformer_config c = llm_transformer_preset((llm_transformer_family)(k < 5 ? k : 3));
    const size_t encoder[6] = {2, 1, 0, 2, 0, 1}, decoder[6] = {1, 0, 2, 1, 2, 2};
    c.encoder = encoder[k], c.decoder = decoder[k];
    c.vocab = 11, c.width = 8, c.heads = c.kv_heads = 2, c.head_size = 4, c.hidden = 6;
    if (c.places) c.places = 7;
    if (c.buckets) c.buckets = 4, c.head_size = 3;
    if (k == 4) c.heads = 4;
    if (k == 5) c.gated = true, c.tied = false;
    return c;
}

#endif

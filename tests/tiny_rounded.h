/* A matrix in Q8_0, and the same numbers as floats. Behind test.h and llm.h. */
#ifndef TINY_ROUNDED_H
#define TINY_ROUNDED_H

static void tiny_rounded_matrix(llm_stored_matrix *coded, llm_stored_matrix *plain, size_t rows,
                                size_t columns, llm_rng *rng) {
    const size_t n = rows * columns;
    unsigned char *data = (unsigned char *)test_memory(n / 32 * 34, 1);
    float *x = floats(n);
    for (size_t i = 0; i < n / 32 * 34; i++) data[i] = (unsigned char)llm_rng_below(rng, 256);
    for (size_t i = 0; i < n / 32 * 34; i += 34) data[i] = 0, data[i + 1] = 0x14; /* 2^-10 */
    CHECK(llm_gguf_blocks_floats(x, data, n, LLM_GGUF_BLOCKS_Q8_0));
    coded->data = data, coded->type = LLM_GGUF_BLOCKS_Q8_0;
    plain->data = (const unsigned char *)x, plain->type = LLM_GGUF_BLOCKS_F32;
    coded->rows = plain->rows = rows, coded->columns = plain->columns = columns;
}

/* y and z (n) must be close, and differ somewhere if they should. */
static void tiny_rounded_check(const float *y, const float *z, size_t n, bool differ) {
    size_t other = 0;
    for (size_t i = 0; i < n; i++) {
        other += y[i] != z[i];
        CHECK_NEAR(y[i], z[i], 0.05);
    }
    CHECK((other > 0) == differ);
}

#endif

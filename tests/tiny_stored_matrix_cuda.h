/* Stored matrices for the kernels that read them. Behind test.h and llm_cuda.cuh, once in each
 * suite: nvcc compiles a chapter as one file, a namespace a suite, so there is no guard. */

/* Blocks of random bytes get scales of about 0.01, of either sign. */
static void tiny_stored_matrix_scales(unsigned char *data, size_t bytes, size_t block,
                                      llm_gguf_blocks_type type) {
    for (size_t i = 0; i < bytes; i += block) {
        const size_t at = type == LLM_GGUF_BLOCKS_Q6_K ? 208 : 0;
        data[i + at + 1] = (unsigned char)(0x20 | (data[i + at + 1] & 0x83));
        if (type == LLM_GGUF_BLOCKS_Q4_K) data[i + 3] = 0x24;
    }
}
static llm_stored_matrix tiny_stored_matrix_on_device(const llm_stored_matrix &w) {
    llm_stored_matrix d = w;
    d.data = to_device(w.data, w.rows * llm_stored_matrix_stride(&w));
    return d;
}

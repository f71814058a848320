/* Rules of @attn_mask that the tests of its kernels share: each kind, and trees of them. The arrays
 * are the caller's, on the host or on the device. No include guard: nvcc compiles a chapter as one
 * file, each test in a namespace. */
enum { TINY_MASKS = 9, TINY_MASK_PARTS = 8 };

/* Rule `which` of TINY_MASKS; its parts stand in part. document, present: by position. */
static inline __attribute__((unused)) llm_attn_mask tiny_mask(llm_attn_mask part[TINY_MASK_PARTS],
                                                              size_t which, size_t first,
                                                              const size_t *document,
                                                              const bool *present) {
    part[0] = llm_attn_mask_make(LLM_ATTN_MASK_CAUSAL, first, 0);
    part[1] = llm_attn_mask_make(LLM_ATTN_MASK_DOCUMENT, first, 0);
    part[1].document = document;
    part[2] = llm_attn_mask_make(LLM_ATTN_MASK_PREFIX, first, 70);
    part[3] = llm_attn_mask_make(LLM_ATTN_MASK_WINDOW, first, 40);
    part[4] = llm_attn_mask_make(LLM_ATTN_MASK_KEYS, first, 0);
    part[4].present = present;
    part[5] = llm_attn_mask_join(LLM_ATTN_MASK_AND, &part[0], &part[1]);
    part[6] = llm_attn_mask_join(LLM_ATTN_MASK_OR, &part[3], &part[2]);
    switch (which) {
    case 0:
        return llm_attn_mask_make(LLM_ATTN_MASK_ALL, 0, 0);
    case 6:
        return part[5]; /* documents packed behind each other, each causal */
    case 7:
        return llm_attn_mask_join(LLM_ATTN_MASK_AND, &part[6], &part[4]);
    case 8:
        part[7] = llm_attn_mask_join(LLM_ATTN_MASK_OR, &part[5], &part[2]);
        return llm_attn_mask_join(LLM_ATTN_MASK_AND, &part[4], &part[7]);
    default:
        return part[which - 1];
    }
}

/* Documents of 3, 70, 1, 100, .. positions, and every seventh key absent but for a run of 64. */
static inline __attribute__((unused)) void tiny_mask_arrays(size_t *document, bool *present,
                                                            size_t n) {
    const size_t lengths[4] = {3, 70, 1, 100};
    for (size_t i = 0, d = 0, used = 0; i < n; i++, used++) {
        if (used == lengths[d % 4]) d++, used = 0;
        document[i] = d;
        present[i] = i % 7 != 3 && i / 64 != 1;
    }
}

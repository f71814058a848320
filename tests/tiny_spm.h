/* A SentencePiece model for tiny_hostile_check: ids of a text, and the text that comes back; rules
 * written by hand. */
#ifndef TINY_SPM_H
#define TINY_SPM_H

TEST_UNUSED static size_t tiny_spm_numbers(uint32_t *out, const llm_buffer *b) {
    for (size_t i = 0; i < b->size; i++) out[i] = (unsigned char)b->data[i];
    return b->size;
}

/* out <- the ids that the model (context) gives the text; returns how many. */
TEST_UNUSED static size_t tiny_spm_ids(uint32_t *out, const char *text, size_t size,
                                       const void *context) {
    int *ids;
    size_t count;
    CHECK(llm_spm_encode((const llm_spm *)context, &ids, &count, text, size, NULL));
    for (size_t i = 0; i < count; i++) out[i] = (uint32_t)ids[i];
    free(ids);
    return count;
}

/* out <- the bytes that those ids decode to. */
TEST_UNUSED static size_t tiny_spm_back(uint32_t *out, const char *text, size_t size,
                                        const void *context) {
    int *ids;
    size_t count;
    llm_buffer back = {NULL, 0, 0};
    CHECK(llm_spm_encode((const llm_spm *)context, &ids, &count, text, size, NULL));
    CHECK(llm_spm_decode((const llm_spm *)context, &back, ids, count, NULL));
    const size_t n = tiny_spm_numbers(out, &back);
    free(ids);
    llm_buffer_free(&back);
    return n;
}

/* Rules: a double array of zeros with room for texts behind it. */
TEST_UNUSED static llm_buffer tiny_spm_array(uint32_t units, size_t texts) {
    llm_buffer rules = {NULL, 4 + 4 * units + texts, 0};
    rules.data = (char *)test_memory(rules.size, 1);
    for (size_t k = 0; k < 4; k++) rules.data[k] = (char)(unsigned char)(4 * units >> 8 * k & 255);
    return rules;
}
TEST_UNUSED static void tiny_spm_unit(llm_buffer *rules, size_t node, uint32_t unit) {
    for (size_t k = 0; k < 4; k++)
        rules->data[4 + 4 * node + k] = (char)(unsigned char)(unit >> 8 * k & 255);
}

#endif

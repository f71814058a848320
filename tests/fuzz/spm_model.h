/* What holds of a model of pieces that was accepted: it encodes any text to its ids, and decodes
 * them. Behind fuzz.h. */
#ifndef FUZZ_SPM_MODEL_H
#define FUZZ_SPM_MODEL_H

static void fuzz_spm_model(llm_spm *s, const char *text, size_t size) {
    int *ids = NULL;
    size_t count = 0;
    llm_error e;
    llm_buffer back = {NULL, 0, 0};
    FUZZ_CHECK(llm_spm_encode(s, &ids, &count, text, size, &e));
    for (size_t i = 0; i < count; i++)
        FUZZ_CHECK(ids[i] >= 0 && (size_t)ids[i] < s->pieces.text.count);
    FUZZ_CHECK(llm_spm_decode(s, &back, ids, count, &e));
    free(ids);
    llm_buffer_free(&back);
    llm_spm_free(s);
}

#endif

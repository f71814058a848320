/* @gpt2_choices: a file of questions; what is accepted is answered by a model that knows
 * nothing. */
#include "fuzz.h"

static void nothing(void *context, float *logits, const int *ids, size_t rows, size_t t) {
    (void)context, (void)ids;
    for (size_t i = 0; i < rows * t * 9; i++) logits[i] = 0.0f;
}

static void fuzz(const unsigned char *data, size_t size) {
    char path[128];
    llm_gpt2_choices f;
    llm_error e;
    llm_arena arena;
    e.message[0] = 0;
    fuzz_file("choices.bin", data, size);
    snprintf(path, sizeof path, "%s/choices.bin", fuzz_directory());
    if (!llm_gpt2_choices_open(&f, path, 9, &e)) {
        FUZZ_CHECK_SENTENCE(e);
        return;
    }
    const llm_causal_lm m = {9, 1, f.most + 1, NULL, nothing};
    if (llm_arena_create(&arena, 64 * size + 100 * f.most + 4096)) {
        llm_gpt2_choices_eval(&f, &m, LLM_CAUSAL_LM_PER_TOKEN, &arena);
        llm_arena_destroy(&arena);
    }
    llm_gpt2_choices_close(&f);
}

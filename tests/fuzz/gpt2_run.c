/* @gpt2_run: a run.safetensors beside a right model. */
#include "fuzz.h"

static void fuzz(const unsigned char *data, size_t size) {
    static bool saved;
    llm_error e;
    if (!saved) {
        llm_gpt2_run r;
        llm_gpt2_config c = llm_gpt2_defaults();
        c.vocab = 3, c.context = 2, c.layers = 1, c.heads = 1, c.width = 2, c.hidden = 4;
        FUZZ_CHECK(llm_gpt2_run_create(&r, &c, 1, 5, 1e-3, 1, &e));
        FUZZ_CHECK(llm_gpt2_run_save(&r, fuzz_directory(), &e));
        llm_gpt2_run_free(&r);
        saved = true;
    }
    fuzz_file("run.safetensors", data, size);
    llm_gpt2_run r;
    e.message[0] = 0;
    if (!llm_gpt2_run_load(&r, fuzz_directory(), &e)) {
        FUZZ_CHECK_SENTENCE(e);
        return;
    }
    float loss;
    e.message[0] = 0;
    if (r.state.batch < 100 && !llm_gpt2_run_step(&r, &loss, NULL, &e)) FUZZ_CHECK_SENTENCE(e);
    llm_gpt2_run_free(&r);
}

/* @gpt2_state: a batch with another program's results; what is accepted is compared. */
#include "fuzz.h"

static void fuzz(const unsigned char *data, size_t size) {
    char path[128];
    llm_gpt2_config c = llm_gpt2_defaults();
    llm_gpt2_state s;
    llm_gpt2 g;
    llm_error e;
    c.vocab = 2, c.context = 1, c.layers = 1, c.heads = 1, c.width = 2, c.hidden = 8;
    e.message[0] = 0;
    fuzz_file("state.bin", data, size);
    snprintf(path, sizeof path, "%s/state.bin", fuzz_directory());
    if (!llm_gpt2_state_open(&s, path, &c, &e)) {
        FUZZ_CHECK_SENTENCE(e);
        return;
    }
    FUZZ_CHECK(s.B <= size && s.T == 1);
    if (llm_gpt2_create(&g, &c, s.B, s.T, &e)) {
        memset(g.w, 0, g.count * sizeof(float));
        llm_gpt2_state_compare(&g, &s);
        llm_gpt2_destroy(&g);
    }
    llm_gpt2_state_close(&s);
}

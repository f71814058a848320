/* @decoder_only_file: a file of llama2.c; what is accepted runs a token. Memory for one is asked
 * for: the context is a number that stands in the header alone. */
#include "fuzz.h"

static void fuzz(const unsigned char *data, size_t size) {
    char path[128];
    llm_decoder_only g;
    llm_error e;
    e.message[0] = 0;
    fuzz_file("model.bin", data, size);
    snprintf(path, sizeof path, "%s/model.bin", fuzz_directory());
    if (!llm_decoder_only_file_load(&g, path, 1, 1, &e)) {
        FUZZ_CHECK_SENTENCE(e);
        return;
    }
    const int id = (int)g.config.vocab - 1;
    llm_decoder_only_forward(&g, &id, &id, 1, 1);
    llm_decoder_only_destroy(&g);
}

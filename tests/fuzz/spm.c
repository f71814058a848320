/* @spm @spm_text @spm_units: an accepted model encodes anything to its ids, and decodes them. */
#include "fuzz.h"
#include "spm_model.h"

static void fuzz(const unsigned char *data, size_t size) {
    static const char text[] = " a ab<|x|>  \xe2\x96\x81\xc3\xa9 b\xff";
    llm_spm s;
    llm_error e;
    e.message[0] = 0;
    if (llm_spm_read(&s, data, size, &e))
        fuzz_spm_model(&s, text, sizeof text - 1);
    else
        FUZZ_CHECK_SENTENCE(e);
}

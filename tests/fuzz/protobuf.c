/* @protobuf: fields lie within their message, and so do those of the messages in them. */
#include "fuzz.h"

static void walk(const unsigned char *data, size_t size, int depth) {
    llm_protobuf p = llm_protobuf_begin(data, size, "message");
    llm_protobuf_field f;
    llm_error e;
    size_t before = 0;
    e.message[0] = 0;
    while (llm_protobuf_next(&p, &f, &e)) {
        FUZZ_CHECK(p.at > before && p.at <= size && f.number > 0);
        before = p.at;
        if (f.wire != LLM_PROTOBUF_BYTES) continue;
        FUZZ_CHECK(f.data >= data && f.size <= size && f.data + f.size <= data + size);
        if (depth < 8) walk(f.data, f.size, depth + 1);
    }
    FUZZ_CHECK(p.broken || p.at == size);
    if (p.broken) FUZZ_CHECK_SENTENCE(e);
}

static void fuzz(const unsigned char *data, size_t size) { walk(data, size, 0); }

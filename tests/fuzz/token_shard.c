/* @token_shard: an accepted file gives all of its ids and rows of them, each below the limit that
 * was asked for. */
#include "fuzz.h"

static void fuzz(const unsigned char *data, size_t size) {
    enum { T = 3, V = 300 };
    char path[128];
    fuzz_file("shard", data, size);
    snprintf(path, sizeof path, "%s/shard", fuzz_directory());
    for (size_t limit = 0; limit <= V; limit += V) {
        llm_token_shard s;
        llm_error e;
        e.message[0] = 0;
        if (!llm_token_shard_open(&s, path, limit, &e)) {
            FUZZ_CHECK_SENTENCE(e);
            FUZZ_CHECK(s.count == 0 && !s.file.data);
            continue;
        }
        FUZZ_CHECK(LLM_TOKEN_SHARD_HEADER + s.count * s.bytes == size);
        for (size_t i = 0; i < s.count; i++) {
            const int id = llm_token_shard_id(&s, i);
            FUZZ_CHECK(limit == 0 || (id >= 0 && id < V));
        }
        const size_t rows = llm_token_shard_rows(&s, 1, T);
        for (size_t r = 0; r < rows; r++) {
            int ids[T + 1];
            llm_token_shard_row(ids, &s, 1, T, r);
            FUZZ_CHECK(ids[T] == llm_token_shard_id(&s, r * T + T));
        }
        llm_token_shard_close(&s);
    }
}

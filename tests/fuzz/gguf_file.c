/* @gguf_file @gguf_blocks: tensors of an accepted file lie in it, one behind the other, and can be
 * read; written again by @gguf_write they are the same. */
#include "fuzz.h"

static bool fuzz_check(llm_gguf_file *g, const void *data, size_t size) {
    llm_error e;
    e.message[0] = 0;
    memset(g, 0, sizeof *g);
    g->file.data = (unsigned char *)malloc(size > 0 ? size : 1);
    g->file.size = size;
    FUZZ_CHECK(g->file.data);
    if (size > 0) memcpy(g->file.data, data, size);
    if (llm_gguf_file_check(g, &e)) return true;
    FUZZ_CHECK_SENTENCE(e);
    llm_gguf_file_close(g);
    return false;
}

static void fuzz(const unsigned char *data, size_t size) {
    llm_gguf_file g, again;
    llm_error e;
    if (!fuzz_check(&g, data, size)) return;
    size_t bytes = 0;
    for (size_t i = 0; i < g.count; i++) {
        const llm_gguf_file_tensor *t = &g.tensor[i];
        FUZZ_CHECK(llm_gguf_file_find(&g, t->name) == t);
        FUZZ_CHECK(t->data >= g.file.data && t->data + t->size <= g.file.data + size);
        float *x = (float *)malloc((t->count + 1) * sizeof(float));
        FUZZ_CHECK(x);
        llm_gguf_file_floats(x, t, t->count, &e);
        free(x);
        bytes += t->size;
    }
    FUZZ_CHECK(bytes <= size);

    /* the same tensors, by name, behind the same pairs unless they ask for another alignment */
    llm_buffer pair = {NULL, 0, 0}, file = {NULL, 0, 0};
    const size_t pairs = g.values.pair.size / sizeof(llm_gguf_values_pair);
    const llm_gguf_values_pair *last = (const llm_gguf_values_pair *)(void *)g.values.pair.data;
    size_t end = 24;
    for (size_t k = 0; k < pairs; k++) { /* behind the last value: the pairs follow each other */
        llm_gguf_values v = g.values;
        v.at = last[k].at;
        FUZZ_CHECK(llm_gguf_values_skip(&v, last[k].type, last[k].count, NULL));
        end = v.at;
    }
    const bool plain = !llm_gguf_values_find(&g.values, "general.alignment");
    FUZZ_CHECK(llm_buffer_put(&pair, data + 24, plain ? end - 24 : 0));
    if (llm_gguf_write_head(&file, &pair, plain ? pairs : 0, g.tensor, g.count, &e)) {
        for (size_t i = 0; i < g.count; i++) {
            FUZZ_CHECK(llm_buffer_put(&file, g.tensor[i].data, g.tensor[i].size));
            while (file.size % 32 != 0) FUZZ_CHECK(llm_buffer_put(&file, "", 1));
        }
        FUZZ_CHECK(fuzz_check(&again, file.data, file.size) && again.count == g.count);
        for (size_t i = 0; i < g.count; i++) {
            const llm_gguf_file_tensor *t = &g.tensor[i], *u = llm_gguf_file_find(&again, t->name);
            FUZZ_CHECK(u && u->type == t->type && u->rank == t->rank && u->size == t->size);
            FUZZ_CHECK(memcmp(u->shape, t->shape, t->rank * sizeof *t->shape) == 0);
            FUZZ_CHECK(t->size == 0 || memcmp(u->data, t->data, t->size) == 0);
        }
        llm_gguf_file_close(&again);
    }
    llm_buffer_free(&pair);
    llm_buffer_free(&file);
    llm_gguf_file_close(&g);
}

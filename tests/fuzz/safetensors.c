/* @safetensors @safetensors_write: tensors of an accepted file lie in it, side by side; written and
 * read again they are the same. */
#include "fuzz.h"

static bool fuzz_check(llm_safetensors *s, const void *data, size_t size) {
    llm_error e;
    e.message[0] = 0;
    memset(s, 0, sizeof *s);
    s->file.data = (unsigned char *)malloc(size > 0 ? size : 1);
    s->file.size = size;
    FUZZ_CHECK(s->file.data);
    if (size > 0) memcpy(s->file.data, data, size);
    if (llm_safetensors_check(s, &e)) return true;
    FUZZ_CHECK_SENTENCE(e);
    llm_safetensors_close(s);
    return false;
}

static void fuzz(const unsigned char *data, size_t size) {
    llm_safetensors s, again;
    llm_error e;
    if (!fuzz_check(&s, data, size)) return;
    size_t bytes = 0;
    unsigned sum = 0;
    for (size_t i = 0; i < s.count; i++) {
        const llm_safetensors_tensor *t = &s.tensor[i];
        size_t element, want;
        llm_safetensors_dtype_name(&element, t->dtype);
        FUZZ_CHECK(llm_safetensors_bytes(&want, t) && want == t->size);
        FUZZ_CHECK(llm_safetensors_find(&s, t->name) == t);
        for (size_t k = 0; k < t->size; k++) sum += t->data[k];
        float *x = (float *)malloc((t->size / element + 1) * sizeof(float));
        FUZZ_CHECK(x);
        llm_safetensors_floats(x, t, t->size / element, &e);
        free(x);
        bytes += t->size;
    }
    FUZZ_CHECK(bytes + 8 <= size && sum < UINT_MAX);

    llm_buffer header = {NULL, 0, 0};
    qsort(s.tensor, s.count, sizeof *s.tensor, llm_safetensors_write_order);
    FUZZ_CHECK(llm_safetensors_write_header(&header, s.tensor, s.count, NULL));
    llm_buffer file = {NULL, 0, 0};
    for (size_t i = 0; i < 8; i++)
        FUZZ_CHECK(llm_buffer_print(&file, "%c", (int)(header.size >> (8 * i) & 255)));
    FUZZ_CHECK(llm_buffer_put(&file, header.data, header.size));
    for (size_t i = 0; i < s.count; i++)
        FUZZ_CHECK(llm_buffer_put(&file, s.tensor[i].data, s.tensor[i].size));
    FUZZ_CHECK(fuzz_check(&again, file.data, file.size) && again.count == s.count);
    for (size_t i = 0; i < s.count; i++) {
        const llm_safetensors_tensor *x = &s.tensor[i], *y = llm_safetensors_find(&again, x->name);
        FUZZ_CHECK(y && y->dtype == x->dtype && y->rank == x->rank && y->size == x->size);
        FUZZ_CHECK(memcmp(x->shape, y->shape, x->rank * sizeof(size_t)) == 0);
        FUZZ_CHECK(memcmp(x->data, y->data, x->size) == 0);
    }
    llm_buffer_free(&header);
    llm_buffer_free(&file);
    llm_safetensors_close(&again);
    llm_safetensors_close(&s);
}

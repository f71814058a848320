/* @npy: the numbers of an accepted file lie in it; written and read again they are the same. */
#include "fuzz.h"

static void fuzz(const unsigned char *data, size_t size) {
    llm_npy a, again;
    llm_error e;
    char path[96];
    e.message[0] = 0;
    memset(&a, 0, sizeof a);
    a.file.data = (unsigned char *)malloc(size > 0 ? size : 1);
    a.file.size = size;
    FUZZ_CHECK(a.file.data);
    if (size > 0) memcpy(a.file.data, data, size);
    if (!llm_npy_check(&a, &e)) {
        FUZZ_CHECK_SENTENCE(e);
        llm_npy_close(&a);
        return;
    }
    size_t bytes;
    llm_npy_name(&bytes, a.type);
    FUZZ_CHECK(a.data >= a.file.data && a.data + bytes * a.count == a.file.data + size);
    void *copy = malloc(bytes * a.count + 1);
    float *x = (float *)malloc(a.count * sizeof(float) + 1);
    FUZZ_CHECK(copy && x && llm_npy_floats(x, &a, a.count, &e));
    memcpy(copy, a.data, bytes * a.count);
    snprintf(path, sizeof path, "%s/x.npy", fuzz_directory());
    FUZZ_CHECK(llm_npy_write(path, copy, a.type, a.shape, a.rank, &e));
    FUZZ_CHECK(llm_npy_open(&again, path, &e));
    FUZZ_CHECK(again.type == a.type && again.rank == a.rank && again.count == a.count);
    FUZZ_CHECK(memcmp(again.shape, a.shape, a.rank * sizeof(size_t)) == 0);
    FUZZ_CHECK(memcmp(again.data, a.data, bytes * a.count) == 0);
    llm_npy_close(&again);
    llm_npy_close(&a);
    free(copy);
    free(x);
}

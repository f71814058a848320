/* Weight files of one block of bytes: from golden values, onto the disk, with a number changed.
 * Behind test.h and llm.h. */
#ifndef TINY_BIN_H
#define TINY_BIN_H

/* The n bytes that a golden array holds as numbers, and 8 more. */
static unsigned char *tiny_bin_bytes(const float *x, size_t n) {
    unsigned char *bytes = (unsigned char *)test_memory(n + 8, 1);
    for (size_t i = 0; i < n; i++) bytes[i] = (unsigned char)x[i];
    return bytes;
}
static const char *tiny_bin_written(const unsigned char *bytes, size_t n) {
    llm_error e;
    const char *path = test_path("model.bin");
    CHECK(llm_file_write(path, bytes, n, &e));
    return path;
}
/* A little-endian number of 4 bytes. */
static void tiny_bin_put(unsigned char *at, long value) {
    for (size_t k = 0; k < 4; k++) at[k] = (unsigned char)((unsigned long)value >> (8 * k));
}

#endif

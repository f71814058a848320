/* What the fuzz targets share. A target is one file that defines
 *
 *     static void fuzz(const unsigned char *data, size_t size)     data: exactly that long
 *
 * for one reader of outside data: it must return for every input, without a report of
 * AddressSanitizer or UndefinedBehaviorSanitizer, and FUZZ_CHECK what holds of accepted inputs.
 * Built with -DFUZZ_LIBFUZZER it is a target of clang's libFuzzer (`make fuzz`). Otherwise it is a
 * program that runs each file named to it, every beginning of it, and it with every byte replaced:
 * by all 255 others where the file is short, else by those that mean something (`make
 * fuzz-corpus`). */
#ifndef FUZZ_H
#define FUZZ_H

#ifndef _POSIX_C_SOURCE
#define _POSIX_C_SOURCE 200809L
#endif

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../llm.h"

static void fuzz(const unsigned char *data, size_t size);

#define FUZZ_CHECK(cond)                                                                           \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #cond);                   \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

/* A reader that says no says why, in one line. */
#define FUZZ_CHECK_SENTENCE(error)                                                                 \
    FUZZ_CHECK((error).message[0] && memchr((error).message, 0, sizeof(error).message))

/* A directory of this process, in memory where the system has such a place; removed at the end. */
static char fuzz_directory_path[64];
__attribute__((unused)) static void fuzz_directory_remove(void) {
    char command[96];
    snprintf(command, sizeof command, "rm -rf '%s'", fuzz_directory_path);
    if (system(command) != 0) fprintf(stderr, "%s is left behind\n", fuzz_directory_path);
}
__attribute__((unused)) static const char *fuzz_directory(void) {
    if (!fuzz_directory_path[0]) {
        struct stat info;
        const char *place = stat("/dev/shm", &info) == 0 ? "/dev/shm" : "/tmp";
        snprintf(fuzz_directory_path, sizeof fuzz_directory_path, "%s/llm-fuzz-%ld", place,
                 (long)getpid());
        FUZZ_CHECK(mkdir(fuzz_directory_path, 0700) == 0);
        atexit(fuzz_directory_remove);
    }
    return fuzz_directory_path;
}
/* A file of that name there, with these bytes. */
__attribute__((unused)) static void fuzz_file(const char *name, const void *data, size_t size) {
    char path[128];
    snprintf(path, sizeof path, "%s/%s", fuzz_directory(), name);
    FILE *f = fopen(path, "wb");
    FUZZ_CHECK(f && fwrite(data, 1, size, f) == size && fclose(f) == 0);
}

#ifdef FUZZ_LIBFUZZER

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);
int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size) {
    fuzz(data, size);
    return 0;
}

#else

static void fuzz_exact(const unsigned char *data,
                       size_t size) { /* so that a byte too many is seen */
    unsigned char *copy = (unsigned char *)malloc(size > 0 ? size : 1);
    FUZZ_CHECK(copy);
    if (size > 0) memcpy(copy, data, size);
    fuzz(copy, size);
    free(copy);
}

int main(int argc, char **argv) {
    static const unsigned char marks[] = "\"\\{}[],:019-.eE tfnu\n\xc3\xed";
    enum { SHORT = 200 };
    size_t runs = 0;
    for (int i = 1; i < argc; i++) {
        llm_file f;
        llm_error e;
        if (!llm_file_read(&f, argv[i], &e)) {
            fprintf(stderr, "%s\n", e.message);
            return 1;
        }
        fuzz_exact(f.data, f.size);
        for (size_t size = 0; size < f.size; size++, runs++) fuzz_exact(f.data, size);
        for (size_t k = 0; k < f.size; k++) {
            const unsigned char before = f.data[k];
            for (unsigned byte = 0; byte < 256; byte++) {
                const unsigned flipped = byte ^ before;
                const int bit = (flipped & (flipped - 1)) == 0;
                if (byte == before ||
                    (f.size > SHORT && !bit && !memchr(marks, (int)byte, sizeof marks)))
                    continue;
                f.data[k] = (unsigned char)byte;
                fuzz_exact(f.data, f.size);
                runs++;
            }
            f.data[k] = before;
        }
        llm_file_free(&f);
    }
    printf("%zu inputs made of %d\n", runs, argc - 1);
    return 0;
}

#endif
#endif

/* llm.h: machine learning and large language models in one C header.
 *
 * What     Every topic of the field as one section: the formula, a readable scalar CPU reference
 *          with its backward pass, and tests that do not trust it. The book is this file, read from
 *          top to bottom; beside each section stands a note (notes/NN-chapter/slug.md), and for the
 *          hot ones a CUDA kernel of the same name (llm_cuda.cuh).
 * Use      #include "llm.h" in any number of files of a C99 or C++17 project, link with -lm. There is
 *          nothing to define and nothing to build. -O3 -march=native -fopenmp make it fast.
 * Find     grep -n '@rmsnorm' llm.h: a slug names a section everywhere. The contents are below.
 * Safety   No mutable globals, no printing; memory is the caller's unless a comment says so. Wrong
 *          shapes stop at LLM_ASSERT; bad files return false and say in one sentence what is wrong.
 *
 * Licence  MIT, at the end of the file.
 */
#ifndef LLM_H
#define LLM_H

#include <assert.h>
#include <errno.h>
#include <float.h>
#include <limits.h>
#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#if defined(__unix__) || defined(__APPLE__) /* only for @file, to map files */
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#endif

/* CONTENTS (make toc) */

/* @00-base ================================================== COMMON GROUND */

/* @base ----------------------------------------------------- The macros every section uses
 *
 * LLM_API stands before every function. `static inline` lets any number of files include the
 * header with nothing to link; defined as empty, one file becomes a library; under nvcc
 * `static inline __host__ __device__` lets kernels call the reference. LLM_ASSERT stops at wrong
 * shapes and arguments, which are the programmer's errors; outside data never reaches it. The
 * OpenMP macros are empty without -fopenmp. Loops marked LLM_PARALLEL_FOR write different outputs
 * in every turn, so the number of threads changes no result; LLM_SIMD_SUM lets one loop add in
 * another order, which does change the last bits between builds, never between runs.
 *
 * source  -
 * needs   -
 * see     @error (what is not the programmer's fault)
 * topics  -
 */
#ifndef LLM_API
#if defined(__GNUC__)
#define LLM_API static inline __attribute__((unused))
#else
#define LLM_API static inline
#endif
#endif
#ifndef LLM_ASSERT
#define LLM_ASSERT(cond) assert(cond)
#endif
#define LLM_PI 3.14159265358979323846f

/* Before a function: its arguments follow printf's rules, the format is number f, counted from 1. */
#if defined(__GNUC__)
#define LLM_PRINTF(f) __attribute__((format(printf, f, (f) + 1)))
#else
#define LLM_PRINTF(f)
#endif

/* Before a loop whose turns write different outputs; before a loop that adds to one sum. */
#if defined(_OPENMP)
#define LLM_PRAGMA(text) _Pragma(#text)
#define LLM_PARALLEL_FOR LLM_PRAGMA(omp parallel for schedule(static))
#define LLM_SIMD_SUM(sum) LLM_PRAGMA(omp simd reduction(+ : sum))
#else
#define LLM_PARALLEL_FOR
#define LLM_SIMD_SUM(sum)
#endif

/* @error ---------------------------------------------------- One sentence that says what is wrong
 *
 * Files, text and everything else from outside can be wrong without anybody having made a mistake
 * in the program, so a reader returns false and leaves a sentence: which part, what was found,
 * what was expected. The sentence often quotes the file, and a hostile one may have put terminal
 * commands into a tensor's name: control characters become '?'.
 *
 * source  -
 * needs   base
 * see     @base (LLM_ASSERT, for errors of the caller)
 * topics  -
 */
typedef struct {
    char message[256]; /* cut off where it is longer; always ends in 0 */
} llm_error;

/* error <- the sentence; NULL when nobody wants it. Returns false, so that a reader can end with
 * `return llm_fail(...)`. */
LLM_PRINTF(2) LLM_API bool llm_fail(llm_error *error, const char *format, ...) {
    if (error) {
        va_list args;
        va_start(args, format);
        vsnprintf(error->message, sizeof error->message, format, args);
        va_end(args);
        for (char *c = error->message; *c; c++)
            if ((unsigned char)*c < 32 || *c == 127) *c = '?';
    }
    return false;
}

/* @size ----------------------------------------------------- Size arithmetic that cannot wrap
 *
 *     a b > M   <=>   b > floor(M / a)          a + b > M   <=>   b > M - a          M = SIZE_MAX
 *
 * A file says that a tensor has 2^33 rows of 2^33 floats. In size_t that product is 16 bytes: they
 * are allocated, and everything the file sends next is written behind them. So a count from
 * outside goes through these two before it reaches malloc or an index.
 *
 * source  -
 * needs   base
 * see     @safetensors (the product of a shape)
 * topics  -
 */

/* *out = a * b. Where that does not fit: false, and *out is SIZE_MAX, which no malloc grants. */
LLM_API bool llm_size_mul(size_t *out, size_t a, size_t b) {
    const bool fits = a == 0 || b <= SIZE_MAX / a;
    *out = fits ? a * b : SIZE_MAX;
    return fits;
}

/* *out = a + b, likewise. */
LLM_API bool llm_size_add(size_t *out, size_t a, size_t b) {
    const bool fits = b <= SIZE_MAX - a;
    *out = fits ? a + b : SIZE_MAX;
    return fits;
}

/* @arena ---------------------------------------------------- Scratch memory
 *
 *     mark = used;  p = take(...);  ...;  used = mark
 *
 * Most scratch of a section lives as long as one call, and calls nest, so a stack is enough: take
 * what is needed, remember where the top was, put it back. No free for each malloc, nothing to leak
 * on an early return, and the caller decides once how much there is. What is easily got wrong: a
 * pointer kept after its mark was restored points at whatever is taken next. Under
 * AddressSanitizer the next take poisons all that was given back, and the padding behind every
 * part, so such uses are reported.
 *
 * source  -
 * needs   base
 * see     -
 * topics  -
 */
#if defined(__SANITIZE_ADDRESS__)
#define LLM_ARENA_ASAN
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define LLM_ARENA_ASAN
#endif
#endif
#if defined(LLM_ARENA_ASAN)
#include <sanitizer/asan_interface.h>
#endif

/* used is the top of the stack: going back to a mark frees everything taken since. peak is the most
 * that was ever in use, which is how large the arena had to be. */
typedef struct {
    unsigned char *memory;
    size_t size, used, peak;
} llm_arena;

/* An arena of so many bytes from malloc; false when memory is out. */
LLM_API bool llm_arena_create(llm_arena *arena, size_t bytes) {
    /* memory starts at a multiple of 64, and the pointer that malloc gave stands in front of it */
    unsigned char *block = bytes <= SIZE_MAX - 128 ? (unsigned char *)malloc(bytes + 128) : NULL;
    arena->memory = block ? block + 128 - (uintptr_t)block % 64 : NULL;
    arena->size = block ? bytes : 0;
    arena->used = arena->peak = 0;
    if (!block) return false;
    memcpy(arena->memory - sizeof block, &block, sizeof block);
#if defined(LLM_ARENA_ASAN)
    ASAN_POISON_MEMORY_REGION(arena->memory, bytes);
#endif
    return true;
}

/* Frees the memory of llm_arena_create, or nothing the second time. */
LLM_API void llm_arena_destroy(llm_arena *arena) {
    unsigned char *block = NULL;
    if (arena->memory) memcpy(&block, arena->memory - sizeof block, sizeof block);
    free(block);
    arena->memory = NULL;
    arena->size = arena->used = arena->peak = 0;
}

/* count things of size bytes, not initialised, at a multiple of 64. Rounded up to 64 bytes, that
 * must still fit: too little scratch is the caller's error. */
LLM_API void *llm_arena_take(llm_arena *arena, size_t count, size_t size) {
    LLM_ASSERT(size == 0 || count <= (SIZE_MAX - 63) / size);
    const size_t bytes = (count * size + 63) / 64 * 64;
    LLM_ASSERT(arena->used <= arena->size && bytes <= arena->size - arena->used);
    unsigned char *p = arena->memory + arena->used;
#if defined(LLM_ARENA_ASAN)
    if (arena->peak > arena->used) ASAN_POISON_MEMORY_REGION(p, arena->peak - arena->used);
    ASAN_UNPOISON_MEMORY_REGION(p, count * size);
#endif
    arena->used += bytes;
    if (arena->used > arena->peak) arena->peak = arena->used;
    return p;
}

LLM_API float *llm_arena_floats(llm_arena *arena, size_t n) {
    return (float *)llm_arena_take(arena, n, sizeof(float));
}

LLM_API double *llm_arena_doubles(llm_arena *arena, size_t n) {
    return (double *)llm_arena_take(arena, n, sizeof(double));
}

/* @rng ------------------------------------------------------ Counter-based random numbers
 *
 *     words 4i .. 4i+3 = Philox(counter i, key = seed)
 *
 * A generator without a state that must be stepped: block i of the stream is a cipher applied to i,
 * so every draw can be computed at once, in any order, by any thread or kernel, and equals what the
 * loop would have drawn. Ten rounds of two multiplications and a few xors pass all of BigCrush. A
 * seed is a key: streams of different seeds are unrelated, 1 and 2 included. The words are the same
 * on every machine; normals go through the C library's log and cos in double and are rounded to
 * float, where two libraries disagree about once in 10^8 draws, and then in the last bit.
 *
 * source  Salmon, Moraes, Dror & Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3"
 *         (Philox-4x32-10); Lemire 2019, "Fast random integer generation in an interval"
 * needs   base
 * see     @dropout (draws a mask twice from the same counters)
 * topics  -
 */
typedef struct {
    uint32_t key[2];
    uint64_t block;   /* counter of the next block of four words */
    uint32_t word[4]; /* the current block */
    int used;         /* how many of its words are spent */
} llm_rng;

/* out (4) <- counter (4), key (2): ten rounds. */
LLM_API void llm_rng_philox(uint32_t out[4], const uint32_t counter[4], const uint32_t key[2]) {
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
    uint32_t k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; round++) {
        const uint64_t a = (uint64_t)0xD2511F53u * c0, b = (uint64_t)0xCD9E8D57u * c2;
        c0 = (uint32_t)(b >> 32) ^ c1 ^ k0;
        c2 = (uint32_t)(a >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)b;
        c3 = (uint32_t)a;
        k0 += 0x9E3779B9u; /* golden ratio and sqrt(3) - 1, as fractions of 2^32 */
        k1 += 0xBB67AE85u;
    }
    out[0] = c0, out[1] = c1, out[2] = c2, out[3] = c3;
}

/* The stream of a seed, from its start. llm_rng uses the counters (block, 0): who calls
 * llm_rng_philox with the same key takes another number than 0 for counter[2] or [3]. */
LLM_API llm_rng llm_rng_seed(uint64_t seed) {
    llm_rng rng;
    memset(&rng, 0, sizeof rng);
    rng.key[0] = (uint32_t)seed;
    rng.key[1] = (uint32_t)(seed >> 32);
    rng.used = 4;
    return rng;
}

/* The next word of the stream. */
LLM_API uint32_t llm_rng_u32(llm_rng *rng) {
    if (rng->used == 4) {
        const uint32_t counter[4] = {(uint32_t)rng->block, (uint32_t)(rng->block >> 32), 0, 0};
        llm_rng_philox(rng->word, counter, rng->key);
        rng->block++;
        rng->used = 0;
    }
    return rng->word[rng->used++];
}

/* Uniform in [0, 1), on a grid of 2^-24: all multiples that a float can hold. One word. */
LLM_API float llm_rng_uniform(llm_rng *rng) {
    return (float)(llm_rng_u32(rng) >> 8) * (1.0f / 16777216.0f);
}

/* Uniform in 0..n-1, exactly: n > 0. One word as a rule, n above 2^32 two.
 *
 * floor(u n / 2^32) sends floor(2^32 / n) or one more of the 2^32 words to each value. Those whose
 * u n mod 2^32 is below 2^32 mod n are drawn again: then it is the same number for all. */
LLM_API size_t llm_rng_below(llm_rng *rng, size_t n) {
    LLM_ASSERT(n > 0);
    const uint64_t range = n, words = (uint64_t)1 << 32;
    uint64_t x;
    if (range <= words) {
        do {
            x = (uint64_t)llm_rng_u32(rng) * range;
        } while ((uint32_t)x < range && (uint32_t)x < words % range);
        return (size_t)(x >> 32);
    }
    uint64_t mask = range - 1; /* all bits that n - 1 has, and below */
    for (int shift = 1; shift < 64; shift *= 2) mask |= mask >> shift;
    do {
        x = (uint64_t)llm_rng_u32(rng) << 32;
        x = (x | llm_rng_u32(rng)) & mask;
    } while (x >= range);
    return (size_t)x;
}

/* Standard normal by Box and Muller, one of the pair. Two words; at most 6.8, as u is at least
 * 2^-33. In double, because in float u = 1 - 2^-33 is 1. */
LLM_API float llm_rng_normal(llm_rng *rng) {
    const double u = ((double)llm_rng_u32(rng) + 0.5) / 4294967296.0;
    const double turns = (double)llm_rng_u32(rng) / 4294967296.0;
    return (float)(sqrt(-2.0 * log(u)) * cos(2.0 * 3.14159265358979323846 * turns));
}

/* x (n): n calls of llm_rng_normal. */
LLM_API void llm_rng_normal_fill(llm_rng *rng, float *x, size_t n) {
    for (size_t i = 0; i < n; i++) x[i] = llm_rng_normal(rng);
}

/* @argsort -------------------------------------------------- Sorting by key
 *
 *     key[order[0]] <= key[order[1]] <= ... <= key[order[n-1]]
 *
 * The permutation that sorts, not the sorted keys: it carries everything else along. Heap sort: n
 * log n in the worst case, no scratch, no recursion. Heap sort alone shuffles equal keys, so the
 * index is the second key, and the result is the one a stable sort gives. NaN compares false with
 * everything, which no sort survives; here it is larger than all numbers, as in NumPy.
 *
 * source  Williams 1964, "Algorithm 232: Heapsort"; Floyd 1964, "Algorithm 245: Treesort 3"
 * needs   base
 * see     @top_k @top_p
 * topics  -
 */

/* Whether entry a stands before entry b. -0 and 0 are equal. */
LLM_API bool llm_argsort_less(const float *key, size_t a, size_t b) {
    if (key[a] < key[b] || key[b] < key[a]) return key[a] < key[b];
    const bool a_nan = key[a] != key[a], b_nan = key[b] != key[b];
    return a_nan != b_nan ? b_nan : a < b;
}

/* order (n) <- key (n), ascending: equal keys in index order, NaN last. */
LLM_API void llm_argsort(size_t *order, const float *key, size_t n) {
    for (size_t i = 0; i < n; i++) order[i] = i;
    for (size_t start = n / 2, end = n; end > 1;) {
        size_t hole, moved;
        if (start > 0) { /* first make a heap, from the last parent to the root */
            hole = --start;
            moved = order[hole];
        } else { /* then move its largest entry behind it, again and again */
            end--;
            hole = 0;
            moved = order[end];
            order[end] = order[0];
        }
        for (size_t child = 2 * hole + 1; child < end; child = 2 * hole + 1) {
            if (child + 1 < end && llm_argsort_less(key, order[child], order[child + 1])) child++;
            if (!llm_argsort_less(key, moved, order[child])) break;
            order[hole] = order[child];
            hole = child;
        }
        order[hole] = moved;
    }
}

/* @buffer --------------------------------------------------- Bytes that grow
 *
 * For text and headers whose length is known only when they are finished. Room grows by half of
 * itself, so n bytes put one by one are copied fewer than 3 n times. data always ends in a 0 that
 * does not count, so text in it is a C string.
 *
 * source  -
 * needs   base
 * see     @file @json
 * topics  -
 */

/* Starts as zeros: llm_buffer b = {NULL, 0, 0}. */
typedef struct {
    char *data;
    size_t size, capacity;
} llm_buffer;

LLM_API void llm_buffer_free(llm_buffer *b) {
    free(b->data);
    b->data = NULL;
    b->size = b->capacity = 0;
}

/* Makes room for `more` bytes and the 0. False, and the buffer as it was, when memory is out. */
LLM_API bool llm_buffer_reserve(llm_buffer *b, size_t more) {
    if (more > SIZE_MAX / 2 || b->size > SIZE_MAX / 2 - more) return false;
    const size_t least = b->size + more + 1;
    if (least <= b->capacity) return true;
    const size_t capacity = least < 64 ? 64 : least + b->capacity / 2;
    char *data = (char *)realloc(b->data, capacity);
    if (!data) return false;
    b->data = data;
    b->capacity = capacity;
    b->data[b->size] = 0;
    return true;
}

/* Appends size bytes; data may not point into the buffer. False likewise. */
LLM_API bool llm_buffer_put(llm_buffer *b, const void *data, size_t size) {
    if (!llm_buffer_reserve(b, size)) return false;
    if (size > 0) memcpy(b->data + b->size, data, size);
    b->size += size;
    b->data[b->size] = 0;
    return true;
}

/* Appends as printf writes. %g writes the decimal point of the program's locale. */
LLM_PRINTF(2) LLM_API bool llm_buffer_print(llm_buffer *b, const char *format, ...) {
    va_list args;
    va_start(args, format);
    const int length = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (length < 0 || !llm_buffer_reserve(b, (size_t)length)) return false;
    va_start(args, format);
    vsnprintf(b->data + b->size, (size_t)length + 1, format, args);
    va_end(args);
    b->size += (size_t)length;
    return true;
}

/* @file ----------------------------------------------------- Files, whole or absent
 *
 * source  -
 * needs   error buffer
 * topics  -
 */

typedef struct {
    unsigned char *data;
    size_t size;
    bool mapped; /* data are pages of the file, not from malloc */
} llm_file;

LLM_API void llm_file_free(llm_file *f) {
#if defined(__unix__) || defined(__APPLE__)
    if (f->mapped) munmap(f->data, f->size);
#endif
    if (!f->mapped) free(f->data);
    f->data = NULL;
    f->size = 0;
    f->mapped = false;
}

/* The whole file, or pipe: read until nothing comes, as a size asked for beforehand can be wrong.
 * data[size] is 0, so that text can be scanned without counting. */
LLM_API bool llm_file_read(llm_file *f, const char *path, llm_error *error) {
    llm_buffer b = {NULL, 0, 0};
    f->data = NULL;
    f->size = 0;
    f->mapped = false;
    FILE *stream = fopen(path, "rb");
    if (!stream) return llm_fail(error, "%s: cannot be opened: %s", path, strerror(errno));
    bool fits = true;
    for (size_t got = 1; fits && got > 0;) {
        fits = llm_buffer_reserve(&b, b.size < 65536 ? 65536 : b.size / 2);
        got = fits ? fread(b.data + b.size, 1, b.capacity - 1 - b.size, stream) : 0;
        b.size += got;
    }
    const bool broken = ferror(stream) != 0;
    const int cause = errno;
    fclose(stream);
    if (!fits || broken) {
        llm_buffer_free(&b);
        return llm_fail(error, "%s: cannot be read: %s", path,
                        fits ? strerror(cause) : "out of memory");
    }
    b.data[b.size] = 0;
    f->data = (unsigned char *)b.data;
    f->size = b.size;
    return true;
}

/* The same bytes, mapped where the system can: no copy, and pages that nobody looks at are never
 * read. They may not be written to, no 0 stands behind them, and a file that somebody else shortens
 * meanwhile kills the program: for large files that nobody changes. */
LLM_API bool llm_file_map(llm_file *f, const char *path, llm_error *error) {
#if defined(__unix__) || defined(__APPLE__)
    const int descriptor = open(path, O_RDONLY);
    struct stat info;
    void *pages = MAP_FAILED;
    if (descriptor >= 0 && fstat(descriptor, &info) == 0 && S_ISREG(info.st_mode) &&
        info.st_size > 0 && (uintmax_t)info.st_size <= SIZE_MAX) {
        f->size = (size_t)info.st_size;
        pages = mmap(NULL, f->size, PROT_READ, MAP_PRIVATE, descriptor, 0);
    }
    if (descriptor >= 0) close(descriptor);
    f->data = (unsigned char *)pages;
    f->mapped = pages != MAP_FAILED;
    if (f->mapped) return true;
#endif
    return llm_file_read(f, path, error);
}

/* A file on its way: everything goes to a temporary name in the same directory. */
typedef struct {
    FILE *stream;
    char *path, *temporary;
} llm_file_writer;

/* Gives up: the temporary file is removed, the old one stays. Nothing happens after a commit. */
LLM_API void llm_file_abort(llm_file_writer *w) {
    if (w->stream) {
        fclose(w->stream);
        remove(w->temporary);
    }
    free(w->path);
    free(w->temporary);
    w->stream = NULL;
    w->path = w->temporary = NULL;
}

LLM_API bool llm_file_begin(llm_file_writer *w, const char *path, llm_error *error) {
    const size_t length = strlen(path);
    w->stream = NULL;
    w->path = (char *)malloc(length + 1);
    w->temporary = (char *)malloc(length + 16);
    if (!w->path || !w->temporary) {
        llm_file_abort(w);
        return llm_fail(error, "%s: out of memory", path);
    }
    memcpy(w->path, path, length + 1);
    errno = EEXIST;
    for (int i = 0; i < 1000 && !w->stream && errno == EEXIST; i++) {
        snprintf(w->temporary, length + 16, "%s.tmp%d", path, i);
        w->stream = fopen(w->temporary, "wbx"); /* x: fails when the name is taken */
    }
    if (w->stream) return true;
    llm_fail(error, "%s: cannot be created: %s", w->temporary, strerror(errno));
    llm_file_abort(w);
    return false;
}

LLM_API bool llm_file_put(llm_file_writer *w, const void *data, size_t size, llm_error *error) {
    if (!w->stream) return false;
    if (size == 0 || fwrite(data, 1, size, w->stream) == size) return true;
    llm_fail(error, "%s: cannot be written: %s", w->temporary, strerror(errno));
    llm_file_abort(w);
    return false;
}

LLM_API bool llm_file_commit(llm_file_writer *w, llm_error *error) {
    if (!w->stream) return false;
    bool ok = fflush(w->stream) == 0;
    int cause = errno;
    if (fclose(w->stream) != 0 && ok) {
        ok = false;
        cause = errno;
    }
    w->stream = NULL;
    if (ok && rename(w->temporary, w->path) != 0) {
        ok = false;
        cause = errno;
    }
    if (!ok) {
        remove(w->temporary);
        llm_fail(error, "%s: cannot be written: %s", w->path, strerror(cause));
    }
    llm_file_abort(w);
    return ok;
}

LLM_API bool llm_file_write(const char *path, const void *data, size_t size, llm_error *error) {
    llm_file_writer w;
    return llm_file_begin(&w, path, error) && llm_file_put(&w, data, size, error) &&
           llm_file_commit(&w, error);
}

/* @json ----------------------------------------------------- JSON
 *
 * source  Bray 2017, RFC 8259
 * needs   error size file
 * topics  -
 */
enum { LLM_JSON_DEPTH = 512 };

typedef enum {
    LLM_JSON_NULL,
    LLM_JSON_FALSE,
    LLM_JSON_TRUE,
    LLM_JSON_NUMBER,
    LLM_JSON_STRING,
    LLM_JSON_ARRAY,
    LLM_JSON_OBJECT
} llm_json_kind;

/* text is a string's value, or a number as it was spelt; key the name of an object's member. Both
 * are UTF-8, may hold a NUL, and have one behind their end. count, first and next make the tree. */
typedef struct {
    llm_json_kind kind;
    double number;
    const char *key, *text;
    size_t key_size, text_size, count, first, next;
} llm_json_node;

typedef struct {
    llm_json_node *node; /* node[0] is the root */
    size_t count;
    char *memory;
} llm_json;

typedef struct {
    const unsigned char *at, *end, *text;
    char *out; /* where the next string goes */
    llm_error *error;
} llm_json_reader;

LLM_API bool llm_json_fail(const llm_json_reader *r, const char *expected) {
    const size_t byte = (size_t)(r->at - r->text);
    if (r->at == r->end)
        return llm_fail(r->error, "JSON, byte %zu: the text ends, expected %s", byte, expected);
    const char *format = *r->at > 32 && *r->at < 127 ? "JSON, byte %zu: found '%c', expected %s"
                                                     : "JSON, byte %zu: found 0x%02x, expected %s";
    return llm_fail(r->error, format, byte, *r->at, expected);
}

LLM_API void llm_json_space(llm_json_reader *r) {
    while (r->at < r->end && (*r->at == ' ' || *r->at == '\t' || *r->at == '\n' || *r->at == '\r'))
        r->at++;
}

/* The length of the UTF-8 sequence at s: 1 to 4, or 0 where it is none: cut off, longer than needed, a
 * surrogate, above 10FFFF. */
LLM_API size_t llm_json_utf8(const unsigned char *s, const unsigned char *end) {
    const size_t n = s[0] < 0x80 ? 1 : s[0] < 0xC2 ? 0 : s[0] < 0xE0 ? 2 : s[0] < 0xF0 ? 3 : 4;
    if (n < 2) return n;
    if ((size_t)(end - s) < n || s[0] > 0xF4) return 0;
    for (size_t i = 1; i < n; i++)
        if ((s[i] & 0xC0) != 0x80) return 0;
    if (s[0] == 0xE0 && s[1] < 0xA0) return 0;
    if (s[0] == 0xED && s[1] > 0x9F) return 0;
    if (s[0] == 0xF0 && s[1] < 0x90) return 0;
    if (s[0] == 0xF4 && s[1] > 0x8F) return 0;
    return n;
}

LLM_API bool llm_json_hex(llm_json_reader *r, uint32_t *code) {
    if (r->at == r->end || *r->at != 'u') return llm_json_fail(r, "an escape, one of \"\\/bfnrtu");
    r->at++;
    *code = 0;
    for (int i = 0; i < 4; i++, r->at++) {
        const int c = r->at < r->end ? *r->at : 0, low = c | 32;
        const int digit = c >= '0' && c <= '9'       ? c - '0'
                          : low >= 'a' && low <= 'f' ? low - 'a' + 10
                                                     : -1;
        if (digit < 0) return llm_json_fail(r, "a hexadecimal digit");
        *code = *code * 16 + (uint32_t)digit;
    }
    return true;
}

/* What stands behind a backslash. */
LLM_API bool llm_json_escape(llm_json_reader *r) {
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    const char *short_form = r->at < r->end && *r->at ? strchr(from, *r->at) : NULL;
    if (short_form) {
        *r->out++ = to[short_form - from];
        r->at++;
        return true;
    }
    uint32_t code, low;
    if (!llm_json_hex(r, &code)) return false;
    if (code >= 0xDC00 && code <= 0xDFFF)
        return llm_json_fail(r, "no low surrogate without a high one");
    if (code >= 0xD800 && code <= 0xDBFF) {
        if (r->at == r->end || *r->at != '\\') return llm_json_fail(r, "a low surrogate");
        r->at++;
        if (!llm_json_hex(r, &low)) return false;
        if (low < 0xDC00 || low > 0xDFFF) return llm_json_fail(r, "a low surrogate");
        code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
    }
    const int more = code < 0x80 ? 0 : code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
    static const unsigned lead[4] = {0, 0xC0, 0xE0, 0xF0};
    *r->out++ = (char)(lead[more] | code >> (6 * more));
    for (int i = more; i-- > 0;) *r->out++ = (char)(0x80 | (code >> (6 * i) & 0x3F));
    return true;
}

LLM_API bool llm_json_string(llm_json_reader *r, const char **text, size_t *size) {
    char *start = r->out;
    if (r->at == r->end || *r->at != '"') return llm_json_fail(r, "a string");
    r->at++;
    while (r->at < r->end && *r->at != '"') {
        if (*r->at < 32) return llm_json_fail(r, "an escape instead of a control character");
        if (*r->at == '\\') {
            r->at++;
            if (!llm_json_escape(r)) return false;
            continue;
        }
        const size_t n = llm_json_utf8(r->at, r->end);
        if (n == 0) return llm_json_fail(r, "UTF-8");
        memcpy(r->out, r->at, n);
        r->at += n;
        r->out += n;
    }
    if (r->at == r->end) return llm_json_fail(r, "a quote at the end of a string");
    r->at++;
    *text = start;
    *size = (size_t)(r->out - start);
    *r->out++ = 0;
    return true;
}

LLM_API bool llm_json_digits(llm_json_reader *r) {
    if (r->at == r->end || *r->at < '0' || *r->at > '9') return llm_json_fail(r, "a digit");
    while (r->at < r->end && *r->at >= '0' && *r->at <= '9') r->at++;
    return true;
}

/* The double nearest to a number. strtod would want the decimal point of the locale, so it gets an
 * integer and an exponent. Of 770 digits the rest can only say "a little more". */
LLM_API double llm_json_double(const char *s) {
    char plain[800];
    size_t n = 0;
    long long shift = 0, exponent = 0;
    const bool minus = *s == '-';
    bool point = false, more = false;
    for (s += minus; *s && *s != 'e' && *s != 'E'; s++) {
        if (*s == '.') {
            point = true;
            continue;
        }
        if (point) shift--;
        if (n == 0 && *s == '0') continue;
        if (n < 770) {
            plain[n++] = *s;
        } else {
            shift++;
            more |= *s != '0';
        }
    }
    if (n == 0) return minus ? -0.0 : 0.0;
    if (more) plain[n - 1] = '1' > plain[n - 1] ? '1' : plain[n - 1];
    if (*s) {
        const bool down = s[1] == '-';
        for (s += 1 + (s[1] == '-' || s[1] == '+'); *s; s++)
            if (exponent < 1000000000000000) exponent = exponent * 10 + (*s - '0');
        shift += down ? -exponent : exponent;
    }
    snprintf(plain + n, sizeof plain - n, "e%lld", shift);
    const double x = strtod(plain, NULL);
    return minus ? -x : x;
}

LLM_API bool llm_json_number(llm_json_reader *r, llm_json_node *v) {
    const unsigned char *start = r->at;
    if (*r->at == '-') r->at++;
    if (r->at < r->end && *r->at == '0') {
        r->at++;
    } else if (!llm_json_digits(r)) {
        return false;
    }
    if (r->at < r->end && *r->at == '.') {
        r->at++;
        if (!llm_json_digits(r)) return false;
    }
    if (r->at < r->end && (*r->at == 'e' || *r->at == 'E')) {
        r->at++;
        if (r->at < r->end && (*r->at == '+' || *r->at == '-')) r->at++;
        if (!llm_json_digits(r)) return false;
    }
    v->kind = LLM_JSON_NUMBER;
    v->text = r->out;
    v->text_size = (size_t)(r->at - start);
    memcpy(r->out, start, v->text_size);
    r->out += v->text_size;
    *r->out++ = 0;
    v->number = llm_json_double(v->text);
    return true;
}

/* A value that holds no other: null, true, false, a string, a number. */
LLM_API bool llm_json_scalar(llm_json_reader *r, llm_json_node *v) {
    static const char *const word[3] = {"null", "false", "true"};
    for (int i = 0; i < 3; i++) {
        const size_t n = strlen(word[i]);
        if ((size_t)(r->end - r->at) < n || memcmp(r->at, word[i], n) != 0) continue;
        v->kind = (llm_json_kind)(LLM_JSON_NULL + i);
        r->at += n;
        return true;
    }
    if (r->at < r->end && *r->at == '"') {
        v->kind = LLM_JSON_STRING;
        return llm_json_string(r, &v->text, &v->text_size);
    }
    if (r->at < r->end && (*r->at == '-' || (*r->at >= '0' && *r->at <= '9')))
        return llm_json_number(r, v);
    return llm_json_fail(r, "a value");
}

LLM_API void llm_json_free(llm_json *j) {
    free(j->node);
    free(j->memory);
    j->node = NULL;
    j->memory = NULL;
    j->count = 0;
}

/* No recursion: while a container is open its `next` is its parent. */
LLM_API bool llm_json_build(llm_json *j, llm_json_reader *r) {
    size_t parent = 0, previous = 0, depth = 0;
    for (;;) {
        const size_t self = j->count++;
        llm_json_node *v = &j->node[self], *p = &j->node[parent];
        memset(v, 0, sizeof *v);
        llm_json_space(r);
        if (depth > 0) {
            if (p->count == 0) {
                p->first = self;
            } else {
                j->node[previous].next = self;
            }
            p->count++;
            if (p->kind == LLM_JSON_OBJECT) {
                if (!llm_json_string(r, &v->key, &v->key_size)) return false;
                llm_json_space(r);
                if (r->at == r->end || *r->at != ':') return llm_json_fail(r, "a colon");
                r->at++;
                llm_json_space(r);
            }
        }
        previous = self;
        if (r->at < r->end && (*r->at == '[' || *r->at == '{')) {
            const bool array = *r->at == '[';
            v->kind = array ? LLM_JSON_ARRAY : LLM_JSON_OBJECT;
            if (depth == LLM_JSON_DEPTH)
                return llm_json_fail(r, "at most 512 containers in each other");
            r->at++;
            llm_json_space(r);
            if (r->at == r->end || *r->at != (array ? ']' : '}')) {
                v->next = parent;
                parent = self;
                depth++;
                continue;
            }
            r->at++;
        } else if (!llm_json_scalar(r, v)) {
            return false;
        }
        for (; depth > 0; depth--) { /* close what ends here */
            p = &j->node[parent];
            const bool array = p->kind == LLM_JSON_ARRAY;
            llm_json_space(r);
            if (r->at < r->end && *r->at == ',') break;
            if (r->at == r->end || *r->at != (array ? ']' : '}'))
                return llm_json_fail(r, array ? "a comma or ]" : "a comma or }");
            r->at++;
            previous = parent;
            parent = p->next;
            p->next = 0;
        }
        if (depth == 0) break;
        r->at++;
    }
    llm_json_space(r);
    return r->at == r->end || llm_json_fail(r, "nothing after the value");
}

LLM_API bool llm_json_parse(llm_json *j, const char *text, size_t size, llm_error *error) {
    size_t most = 1, bytes, room; /* a value is the root or stands behind [ { or a comma */
    bool quoted = false;
    for (size_t i = 0; i < size; i++) {
        if (text[i] == '"') quoted = !quoted;
        if (quoted && text[i] == '\\')
            i++;
        else if (!quoted && (text[i] == ',' || text[i] == '[' || text[i] == '{'))
            most++;
    }
    j->count = 0;
    j->node = NULL;
    j->memory = NULL;
    if (llm_size_mul(&bytes, most, sizeof(llm_json_node)) && llm_size_add(&room, size, 1)) {
        j->node = (llm_json_node *)malloc(bytes);
        j->memory = (char *)malloc(room);
    }
    llm_json_reader r;
    r.at = r.text = (const unsigned char *)text;
    r.end = r.at + size;
    r.out = j->memory;
    r.error = error;
    const bool ok =
        j->node && j->memory ? llm_json_build(j, &r) : llm_fail(error, "JSON: out of memory");
    if (!ok) llm_json_free(j);
    return ok;
}

LLM_API const llm_json_node *llm_json_first(const llm_json *j, const llm_json_node *parent) {
    return parent->count > 0 ? &j->node[parent->first] : NULL;
}

LLM_API const llm_json_node *llm_json_next(const llm_json *j, const llm_json_node *node) {
    return node->next > 0 ? &j->node[node->next] : NULL;
}

/* The last member of that name, as Python has it; a walk over all members. */
LLM_API const llm_json_node *llm_json_get(const llm_json *j, const llm_json_node *object,
                                          const char *key) {
    const size_t size = strlen(key);
    const llm_json_node *found = NULL;
    if (object->kind != LLM_JSON_OBJECT) return NULL;
    for (const llm_json_node *v = llm_json_first(j, object); v; v = llm_json_next(j, v))
        if (v->key_size == size && memcmp(v->key, key, size) == 0) found = v;
    return found;
}

/* *out = the number, exactly: true where it is spelt as an integer from 0 to SIZE_MAX. */
LLM_API bool llm_json_size(size_t *out, const llm_json_node *number) {
    size_t value = 0;
    if (number->kind != LLM_JSON_NUMBER) return false;
    for (size_t i = 0; i < number->text_size; i++) {
        const char c = number->text[i];
        if (c < '0' || c > '9') return false;
        if (!llm_size_mul(&value, value, 10) || !llm_size_add(&value, value, (size_t)(c - '0')))
            return false;
    }
    *out = value;
    return true;
}

LLM_API bool llm_json_put_string(llm_buffer *b, const char *text, size_t size) {
    bool ok = llm_buffer_put(b, "\"", 1);
    for (size_t i = 0; i < size && ok; i++) {
        const unsigned char c = (unsigned char)text[i];
        static const char from[] = "\"\\\b\f\n\r\t", to[] = "\"\\bfnrt";
        const char *which = c ? strchr(from, c) : NULL;
        if (which) {
            ok = llm_buffer_print(b, "\\%c", to[which - from]);
        } else if (c < 32) {
            ok = llm_buffer_print(b, "\\u%04x", c);
        } else {
            ok = llm_buffer_put(b, text + i, 1);
        }
    }
    return ok && llm_buffer_put(b, "\"", 1);
}

/* @matmul --------------------------------------------------- Matrix product
 *
 *     y = x w^T + b
 *
 * source  -
 * needs   base
 * topics  -
 */

/* y (N,O) <- x (N,C), w (O,C), b (O) or NULL. y may not be x or w. */
LLM_API void llm_matmul_forward(float *y, const float *x, const float *w, const float *b, size_t N,
                                size_t C, size_t O) {
    for (size_t n = 0; n < N; n++) {
        for (size_t o = 0; o < O; o++) {
            float sum = b ? b[o] : 0.0f;
            for (size_t c = 0; c < C; c++) sum += x[n * C + c] * w[o * C + c];
            y[n * O + o] = sum;
        }
    }
}

/* dx (N,C) += , dw (O,C) += , db (O) += <- dy (N,O) and forward's x, w. Any of the three may be
 * NULL. */
LLM_API void llm_matmul_backward(float *dx, float *dw, float *db, const float *dy, const float *x,
                                 const float *w, size_t N, size_t C, size_t O) {
    for (size_t n = 0; n < N; n++) {
        for (size_t o = 0; o < O; o++) {
            const float d = dy[n * O + o];
            if (db) db[o] += d;
            for (size_t c = 0; dx && c < C; c++) dx[n * C + c] += d * w[o * C + c];
            for (size_t c = 0; dw && c < C; c++) dw[o * C + c] += d * x[n * C + c];
        }
    }
}

/* @01-linalg ================================================ FUNCTIONS, VECTORS AND MATRICES */

/* @logsumexp ------------------------------------------------ Log-sum-exp
 *
 *     lse(x) = log sum_i exp(x_i) = m + log sum_i exp(x_i - m)        m = max_i x_i
 *
 * Sums probabilities that are stored as logarithms. exp overflows at 88 and vanishes at -104 in
 * float; taking the largest entry out leaves a sum between 1 and n, so nothing can overflow and
 * what vanishes was too small to count. When m is infinite it must stay in: inf - inf is NaN. The
 * result behaves as max does: all -inf gives -inf, one +inf gives +inf, NaN gives NaN. A sum kept
 * as the pair (m, sum) can be extended by an entry or merged with another pair, so it can be split
 * over blocks, threads and machines: this is what the flash kernels carry along.
 *
 * source  Milakov & Gimelshein 2018, "Online normalizer calculation for softmax", alg. 3 and eq. 4;
 *         Maechler 2012, "Accurately computing log(1 - exp(-|a|))", eq. 7
 * needs   -
 * see     @softmax (its gradient), @cross_entropy, @flash_attn (the pair at work)
 * topics  Log-Sum-Exp Trick
 */

/* The largest of x (n), -inf when n is 0; NaN is skipped. Eight maxima run side by side, because a
 * single one would have to wait for itself at every step. */
LLM_API float llm_logsumexp_max(const float *x, size_t n) {
    float lane[8];
    for (size_t k = 0; k < 8; k++) lane[k] = -INFINITY;
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (size_t k = 0; k < 8; k++) lane[k] = x[i + k] > lane[k] ? x[i + k] : lane[k];
    for (; i < n; i++) lane[0] = x[i] > lane[0] ? x[i] : lane[0];

    float max = lane[0];
    for (size_t k = 1; k < 8; k++) max = lane[k] > max ? lane[k] : max;
    return max;
}

/* lse <- x (n). The empty sum is 0, so n = 0 gives -inf. Summed in double: a vocabulary of 50000
 * float terms would be off by 5e-5. */
LLM_API float llm_logsumexp(const float *x, size_t n) {
    const float max = llm_logsumexp_max(x, n);
    const float shift = fabsf(max) < INFINITY ? max : 0.0f;
    double sum = 0.0;
    LLM_SIMD_SUM(sum)
    for (size_t i = 0; i < n; i++) sum += (double)expf(x[i] - shift);
    return shift + (float)log(sum);
}

/* dx (n) += <- dy, and forward's x (n) and result lse: dlse/dx_i = exp(x_i - lse), the softmax.
 * Entries of -inf get 0, also when nothing else is there; entries of +inf get NaN, as in torch. */
LLM_API void llm_logsumexp_backward(float *dx, float dy, const float *x, float lse, size_t n) {
    if (lse == -INFINITY) return;
    for (size_t i = 0; i < n; i++) dx[i] += dy * expf(x[i] - lse);
}

/* log(e^a + e^b): what is added to the larger one keeps its digits even when it is tiny. */
LLM_API float llm_logsumexp_logaddexp(float a, float b) {
    if (a == b) return a + 0.69314718f; /* where both are infinite, a - b would be NaN */
    const float max = a > b ? a : b;
    return max + log1pf(expf(-fabsf(a - b)));
}

/* log(1 - e^x) for x <= 0, the log-probability of the complement. Near 0, e^x rounds to 1 and
 * expm1 is needed; far below, e^x is small and log1p is; they change places at -log 2. */
LLM_API float llm_logsumexp_log1mexp(float x) {
    return x > -0.69314718f ? logf(-expm1f(x)) : log1pf(-expf(x));
}

/* A part of the sum, sum * exp(max). {-INFINITY, 0} is the empty one, {x, 1} the single entry x. */
typedef struct {
    float max, sum;
} llm_logsumexp_pair;

/* The pair of both parts together: the one with the smaller max is rescaled to the larger. In which
 * order parts are merged matters only to the rounding. */
LLM_API llm_logsumexp_pair llm_logsumexp_merge(llm_logsumexp_pair a, llm_logsumexp_pair b) {
    if (!(a.max >= b.max)) {
        const llm_logsumexp_pair swap = a;
        a = b;
        b = swap;
    }
    a.sum += b.max == a.max ? b.sum : b.sum * expf(b.max - a.max);
    return a;
}

LLM_API float llm_logsumexp_value(llm_logsumexp_pair a) { return a.max + logf(a.sum); }

/* The pair of x (n) in one pass: each entry is read once, and the sum is rescaled whenever the max
 * grows. For data that comes from far away (or does not exist yet) when exp is cheap. */
LLM_API llm_logsumexp_pair llm_logsumexp_online(const float *x, size_t n) {
    llm_logsumexp_pair a = {-INFINITY, 0.0f};
    for (size_t i = 0; i < n; i++) {
        const llm_logsumexp_pair one = {x[i], 1.0f};
        a = llm_logsumexp_merge(a, one);
    }
    return a;
}

/* y (n) <- x (n): y_i = lse(x_0 .. x_i). y may be x. */
LLM_API void llm_logsumexp_cumulative(float *y, const float *x, size_t n) {
    llm_logsumexp_pair a = {-INFINITY, 0.0f};
    for (size_t i = 0; i < n; i++) {
        const llm_logsumexp_pair one = {x[i], 1.0f};
        a = llm_logsumexp_merge(a, one);
        y[i] = llm_logsumexp_value(a);
    }
}

/* log |sum_i b_i e^x_i| <- x, b (n); *sign becomes -1, 0 or 1, that of the sum. Where b is 0, x is
 * not read. The sum is in double, because it may cancel; what a cancellation to below 1e-16 of the
 * largest term leaves is noise. */
LLM_API float llm_logsumexp_weighted(float *sign, const float *x, const float *b, size_t n) {
    float max = -INFINITY;
    for (size_t i = 0; i < n; i++) max = b[i] != 0.0f && x[i] > max ? x[i] : max;
    const float shift = fabsf(max) < INFINITY ? max : 0.0f;
    double sum = 0.0;
    for (size_t i = 0; i < n; i++) {
        if (b[i] != 0.0f) sum += (double)b[i] * exp((double)x[i] - (double)shift);
    }
    *sign = sum > 0.0 ? 1.0f : sum < 0.0 ? -1.0f : (float)sum;
    return (float)((double)shift + log(fabs(sum)));
}

/* @softmax -------------------------------------------------- Softmax
 *
 *     p_i = exp(x_i / temp) / sum_j exp(x_j / temp)
 *
 * source  -
 * needs   -
 * topics  Softmax ; Softmax Normalization
 */

/* p (rows,n) <- x (rows,n): exp(x / temp) normalised in each row; p may be x. A row that is all
 * -inf (masked) becomes zeros. */
LLM_API void llm_softmax_forward(float *p, const float *x, size_t rows, size_t n, float temp) {
    LLM_ASSERT(temp > 0.0f);
    LLM_PARALLEL_FOR
    for (size_t r = 0; r < rows; r++) {
        const float *xr = x + r * n;
        float *pr = p + r * n;
        float max = -INFINITY, sum = 0.0f;
        for (size_t i = 0; i < n; i++) max = xr[i] > max ? xr[i] : max;
        const float shift = max == -INFINITY ? 0.0f : max;
        for (size_t i = 0; i < n; i++) pr[i] = expf((xr[i] - shift) / temp);
        for (size_t i = 0; i < n; i++) sum += pr[i];
        const float scale = sum == 0.0f ? 0.0f : 1.0f / sum;
        for (size_t i = 0; i < n; i++) pr[i] *= scale;
    }
}

/* dx (rows,n) += <- dp, p (rows,n): p * (dp - sum(p * dp)) / temp. */
LLM_API void llm_softmax_backward(float *dx, const float *dp, const float *p, size_t rows, size_t n,
                                  float temp) {
    LLM_PARALLEL_FOR
    for (size_t r = 0; r < rows; r++) {
        const float *dpr = dp + r * n, *pr = p + r * n;
        float *dxr = dx + r * n, sum = 0.0f;
        for (size_t i = 0; i < n; i++) sum += pr[i] * dpr[i];
        for (size_t i = 0; i < n; i++) dxr[i] += pr[i] * (dpr[i] - sum) / temp;
    }
}

/* @02-prob ============================================= PROBABILITY, STATISTICS AND INFORMATION */

/* @cross_entropy -------------------------------------------- Cross-entropy
 *
 *     loss = lse(z) - z_y        dloss/dz = softmax(z) - onehot(y)
 *
 * source  -
 * needs   logsumexp
 * topics  Cross-entropy
 */
#define LLM_CROSS_ENTROPY_IGNORE (-100)

/* loss (N), lse (N) or NULL <- logits (N,V), target (N). loss is 0 where the target is ignored.
 * Returns the number of rows that are not. */
LLM_API size_t llm_cross_entropy_forward(float *loss, float *lse, const float *logits,
                                         const int *target, size_t N, size_t V) {
    size_t kept = 0;
    LLM_PARALLEL_FOR
    for (size_t n = 0; n < N; n++) {
        const float *z = logits + n * V, l = llm_logsumexp(z, V);
        const bool ignored = target[n] == LLM_CROSS_ENTROPY_IGNORE;
        LLM_ASSERT(ignored || (target[n] >= 0 && (size_t)target[n] < V));
        loss[n] = ignored ? 0.0f : l - z[target[n]];
        if (lse) lse[n] = l;
    }
    for (size_t n = 0; n < N; n++) kept += target[n] != LLM_CROSS_ENTROPY_IGNORE;
    return kept;
}

/* dlogits (N,V) += <- logits (N,V), forward's lse (N), target (N): scale * (softmax - onehot), for
 * rows that are not ignored. scale is 1 / kept for the mean. */
LLM_API void llm_cross_entropy_backward(float *dlogits, const float *logits, const float *lse,
                                        const int *target, size_t N, size_t V, float scale) {
    LLM_PARALLEL_FOR
    for (size_t n = 0; n < N; n++) {
        if (target[n] == LLM_CROSS_ENTROPY_IGNORE) continue;
        const float *z = logits + n * V;
        float *dz = dlogits + n * V;
        for (size_t i = 0; i < V; i++) dz[i] += scale * expf(z[i] - lse[n]);
        dz[target[n]] -= scale;
    }
}

/* @03-learn ============================================= LEARNING AND AUTOMATIC DIFFERENTIATION */

/* @04-classic =============================================== CLASSICAL MACHINE LEARNING */

/* @05-infer ============================================== PROBABILISTIC INFERENCE AND CAUSALITY */

/* @06-nn ==================================================== NEURONS, LAYERS AND NORMALIZATION */

/* @activation ----------------------------------------------- Activation functions
 *
 * source  -
 * needs   -
 * topics  Activation function
 */
enum {
    LLM_ACTIVATION_IDENTITY,
    LLM_ACTIVATION_RELU,
    LLM_ACTIVATION_GELU,
    LLM_ACTIVATION_GELU_TANH,
    LLM_ACTIVATION_SILU,
    LLM_ACTIVATION_SIGMOID,
    LLM_ACTIVATION_TANH
};

/* y (n) <- x (n); y may be x. */
LLM_API void llm_activation_forward(float *y, const float *x, size_t n, int kind) {
    for (size_t i = 0; i < n; i++) {
        const float v = x[i];
        switch (kind) {
        case LLM_ACTIVATION_IDENTITY:
            y[i] = v;
            break;
        case LLM_ACTIVATION_RELU:
            y[i] = v < 0.0f ? 0.0f : v;
            break;
        case LLM_ACTIVATION_GELU:
            y[i] = 0.5f * v * (1.0f + erff(v * 0.70710678f));
            break;
        case LLM_ACTIVATION_GELU_TANH:
            y[i] = 0.5f * v * (1.0f + tanhf(0.79788456f * (v + 0.044715f * v * v * v)));
            break;
        case LLM_ACTIVATION_SILU:
            y[i] = v / (1.0f + expf(-v));
            break;
        case LLM_ACTIVATION_SIGMOID:
            y[i] = 1.0f / (1.0f + expf(-v));
            break;
        case LLM_ACTIVATION_TANH:
            y[i] = tanhf(v);
            break;
        default:
            LLM_ASSERT(0 && "unknown activation");
        }
    }
}

/* dx (n) += <- dy (n) and forward's input x (n). */
LLM_API void llm_activation_backward(float *dx, const float *dy, const float *x, size_t n,
                                     int kind) {
    for (size_t i = 0; i < n; i++) {
        const float v = x[i], s = 1.0f / (1.0f + expf(-v));
        const float t = tanhf(0.79788456f * (v + 0.044715f * v * v * v));
        float slope = 1.0f;
        switch (kind) {
        case LLM_ACTIVATION_IDENTITY:
            break;
        case LLM_ACTIVATION_RELU:
            slope = v > 0.0f ? 1.0f : 0.0f;
            break;
        case LLM_ACTIVATION_GELU:
            slope = 0.5f * (1.0f + erff(v * 0.70710678f)) + v * 0.39894228f * expf(-0.5f * v * v);
            break;
        case LLM_ACTIVATION_GELU_TANH:
            slope = 0.5f * (1.0f + t) +
                    0.5f * v * (1.0f - t * t) * 0.79788456f * (1.0f + 3.0f * 0.044715f * v * v);
            break;
        case LLM_ACTIVATION_SILU:
            slope = s * (1.0f + v * (1.0f - s));
            break;
        case LLM_ACTIVATION_SIGMOID:
            slope = s * (1.0f - s);
            break;
        case LLM_ACTIVATION_TANH:
            slope = 1.0f - tanhf(v) * tanhf(v);
            break;
        default:
            LLM_ASSERT(0 && "unknown activation");
        }
        dx[i] += dy[i] * slope;
    }
}

/* @swiglu --------------------------------------------------- SwiGLU
 *
 *     y = silu(gate) * up        silu(g) = g / (1 + exp(-g))
 *
 * source  -
 * needs   -
 * topics  SwiGLU Activation Function
 */

/* y (n) <- gate, up (n); y may be gate or up. */
LLM_API void llm_swiglu_forward(float *y, const float *gate, const float *up, size_t n) {
    for (size_t i = 0; i < n; i++) y[i] = gate[i] / (1.0f + expf(-gate[i])) * up[i];
}

/* dgate, dup (n) += <- dy, gate, up (n). */
LLM_API void llm_swiglu_backward(float *dgate, float *dup, const float *dy, const float *gate,
                                 const float *up, size_t n) {
    for (size_t i = 0; i < n; i++) {
        const float g = gate[i], s = 1.0f / (1.0f + expf(-g));
        if (dgate) dgate[i] += dy[i] * up[i] * s * (1.0f + g * (1.0f - s));
        if (dup) dup[i] += dy[i] * g * s;
    }
}

/* @dense ---------------------------------------------------- Fully connected layer
 *
 *     y = x w^T + b
 *
 * source  -
 * needs   matmul
 * topics  Fully connected layer
 */

/* y (N,O) <- x (N,C), w (O,C), b (O) or NULL. */
LLM_API void llm_dense_forward(float *y, const float *x, const float *w, const float *b, size_t N,
                               size_t C, size_t O) {
    llm_matmul_forward(y, x, w, b, N, C, O);
}

/* dx (N,C), dw (O,C), db (O) += <- dy (N,O) and forward's x, w. Any of the three may be NULL. */
LLM_API void llm_dense_backward(float *dx, float *dw, float *db, const float *dy, const float *x,
                                const float *w, size_t N, size_t C, size_t O) {
    llm_matmul_backward(dx, dw, db, dy, x, w, N, C, O);
}

/* @xavier_init ---------------------------------------------- Xavier initialization
 *
 * source  -
 * needs   rng
 * topics  Xavier/Glorot Initialization
 */

/* w (fan_out,fan_in) ~ N(0, gain^2 * 2 / (fan_in + fan_out)). */
LLM_API void llm_xavier_init_normal(float *w, size_t fan_in, size_t fan_out, float gain,
                                    llm_rng *rng) {
    const float std = gain * sqrtf(2.0f / (float)(fan_in + fan_out));
    for (size_t i = 0; i < fan_in * fan_out; i++) w[i] = std * llm_rng_normal(rng);
}

/* w (fan_out,fan_in) ~ U(-a, a) with a = gain * sqrt(6 / (fan_in + fan_out)). */
LLM_API void llm_xavier_init_uniform(float *w, size_t fan_in, size_t fan_out, float gain,
                                     llm_rng *rng) {
    const float a = gain * sqrtf(6.0f / (float)(fan_in + fan_out));
    for (size_t i = 0; i < fan_in * fan_out; i++) w[i] = a * (2.0f * llm_rng_uniform(rng) - 1.0f);
}

/* @dropout -------------------------------------------------- Dropout
 *
 *     y_i = x_i * kept_i / (1 - p)
 *
 * source  -
 * needs   rng
 * topics  Dropout
 */

/* 1 / (1 - p) or 0 for element index of the stream seed. */
LLM_API float llm_dropout_scale(float p, uint64_t seed, uint64_t index) {
    const uint64_t block = index / 4;
    const uint32_t ctr[4] = {(uint32_t)block, (uint32_t)(block >> 32), 0, 0};
    const uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    uint32_t word[4];
    llm_rng_philox(word, ctr, key);
    const float u = (float)(word[index % 4] >> 8) * (1.0f / 16777216.0f);
    return u < p ? 0.0f : 1.0f / (1.0f - p);
}

/* y (n) <- x (n): element i is number offset + i of the stream seed. y may be x. */
LLM_API void llm_dropout_forward(float *y, const float *x, size_t n, float p, uint64_t seed,
                                 uint64_t offset) {
    for (size_t i = 0; i < n; i++) {
        const float scale = llm_dropout_scale(p, seed, offset + i);
        y[i] = scale == 0.0f ? 0.0f : scale * x[i];
    }
}

/* dx (n) += <- dy (n), with forward's p, seed and offset. */
LLM_API void llm_dropout_backward(float *dx, const float *dy, size_t n, float p, uint64_t seed,
                                  uint64_t offset) {
    for (size_t i = 0; i < n; i++) {
        const float scale = llm_dropout_scale(p, seed, offset + i);
        if (scale != 0.0f) dx[i] += scale * dy[i];
    }
}

/* @layernorm ------------------------------------------------ Layer normalization
 *
 *     y_i = w_i * (x_i - mean) * r + b_i        r = 1 / sqrt(var + eps)
 *
 * source  -
 * needs   -
 * topics  Layer Normalization
 */

/* y (N,C), mean, rstd (N) <- x (N,C), w, b (C). mean and rstd may be NULL; y may be x. */
LLM_API void llm_layernorm_forward(float *y, float *mean, float *rstd, const float *x,
                                   const float *w, const float *b, size_t N, size_t C, float eps) {
    LLM_PARALLEL_FOR
    for (size_t n = 0; n < N; n++) {
        const float *xn = x + n * C;
        float *yn = y + n * C, m = 0.0f, var = 0.0f;
        LLM_SIMD_SUM(m)
        for (size_t i = 0; i < C; i++) m += xn[i];
        m /= (float)C;
        LLM_SIMD_SUM(var)
        for (size_t i = 0; i < C; i++) var += (xn[i] - m) * (xn[i] - m);
        const float r = 1.0f / sqrtf(var / (float)C + eps);
        for (size_t i = 0; i < C; i++) yn[i] = w[i] * ((xn[i] - m) * r) + b[i];
        if (mean) mean[n] = m;
        if (rstd) rstd[n] = r;
    }
}

/* dx (N,C), dw, db (C) += <- dy (N,C) and forward's x, w, mean, rstd. Any of the three may be
 * NULL. */
LLM_API void llm_layernorm_backward(float *dx, float *dw, float *db, const float *dy,
                                    const float *x, const float *w, const float *mean,
                                    const float *rstd, size_t N, size_t C) {
    for (size_t n = 0; n < N; n++) {
        const float *xn = x + n * C, *dyn = dy + n * C, m = mean[n], r = rstd[n];
        float flat = 0.0f, along = 0.0f;
        for (size_t i = 0; i < C; i++) {
            flat += w[i] * dyn[i];
            along += w[i] * dyn[i] * (xn[i] - m) * r;
        }
        flat /= (float)C;
        along /= (float)C;
        for (size_t i = 0; i < C; i++) {
            const float xhat = (xn[i] - m) * r;
            if (dx) dx[n * C + i] += r * (w[i] * dyn[i] - flat - xhat * along);
            if (dw) dw[i] += dyn[i] * xhat;
            if (db) db[i] += dyn[i];
        }
    }
}

/* @rmsnorm -------------------------------------------------- Root mean square normalization
 *
 *     r   = 1 / sqrt(mean_i(x_i^2) + eps)
 *     y_i = w_i * x_i * r
 *
 * LayerNorm without the mean and without the bias: one reduction a row instead of two. Only the
 * length of x is fixed; its direction is kept, and the gain w lets each channel undo as much of
 * the scaling as it likes. Llama, Mistral and Qwen put it in front of every block; Gemma stores
 * w - 1 instead of w. With 16-bit activations the squares must still be summed in float.
 *
 * source  Zhang & Sennrich 2019, "Root Mean Square Layer Normalization"
 * needs   -
 * see     @layernorm (subtracts the mean too)
 * topics  Root Mean Square Normalization (RMSNorm)
 */

/* y (N,C), rstd (N) <- x (N,C), w (C). rstd is r of each row, which the backward pass needs; pass
 * NULL at inference. y may be x. */
LLM_API void llm_rmsnorm_forward(float *y, float *rstd, const float *x, const float *w, size_t N,
                                 size_t C, float eps) {
    for (size_t n = 0; n < N; n++) {
        const float *xn = x + n * C;
        float *yn = y + n * C;

        float sum_sq = 0.0f;
        for (size_t i = 0; i < C; i++) sum_sq += xn[i] * xn[i];
        const float r = 1.0f / sqrtf(sum_sq / (float)C + eps);

        for (size_t i = 0; i < C; i++) yn[i] = w[i] * (xn[i] * r);
        if (rstd) rstd[n] = r;
    }
}

/* dx (N,C) += , dw (C) += <- dy (N,C) and forward's x, w, rstd. dx may not be dy.
 *
 * x_i reaches y_i directly, and every y_j through r, where dr/dx_i = -x_i r^3 / C. Together:
 *     dx_i = r * (w_i dy_i - xhat_i * mean_j(w_j dy_j xhat_j))        xhat = x * r */
LLM_API void llm_rmsnorm_backward(float *dx, float *dw, const float *dy, const float *x,
                                  const float *w, const float *rstd, size_t N, size_t C) {
    for (size_t n = 0; n < N; n++) {
        const float *xn = x + n * C, *dyn = dy + n * C;
        float *dxn = dx + n * C;
        const float r = rstd[n];

        float along = 0.0f; /* mean_j(w_j dy_j xhat_j): the part of the gradient along x */
        for (size_t i = 0; i < C; i++) along += w[i] * dyn[i] * (xn[i] * r);
        along /= (float)C;

        for (size_t i = 0; i < C; i++) {
            const float xhat = xn[i] * r;
            dw[i] += dyn[i] * xhat;
            dxn[i] += r * (w[i] * dyn[i] - xhat * along);
        }
    }
}

/* @07-optim ================================================= OPTIMIZATION */

/* @adamw ---------------------------------------------------- Adam with decoupled weight decay
 *
 * source  Loshchilov & Hutter 2019, "Decoupled Weight Decay Regularization"
 * needs   -
 * topics  AdamW Optimizer
 */

typedef struct {
    float lr, beta1, beta2, eps, weight_decay;
} llm_adamw_config;

/* torch.optim.AdamW's. */
LLM_API llm_adamw_config llm_adamw_defaults(void) {
    llm_adamw_config c;
    c.lr = 1e-3f;
    c.beta1 = 0.9f;
    c.beta2 = 0.999f;
    c.eps = 1e-8f;
    c.weight_decay = 1e-2f;
    return c;
}

/* w, m, v (n) in place <- g (n); t counts from 1. */
LLM_API void llm_adamw_step(float *w, float *m, float *v, const float *g, size_t n,
                            const llm_adamw_config *c, size_t t) {
    const double correct1 = 1.0 - pow((double)c->beta1, (double)t);
    const double correct2 = 1.0 - pow((double)c->beta2, (double)t);
    const float step = (float)((double)c->lr / correct1), scale = (float)(1.0 / sqrt(correct2));
    LLM_PARALLEL_FOR
    for (size_t i = 0; i < n; i++) {
        m[i] = c->beta1 * m[i] + (1.0f - c->beta1) * g[i];
        v[i] = c->beta2 * v[i] + (1.0f - c->beta2) * g[i] * g[i];
        w[i] =
            (1.0f - c->lr * c->weight_decay) * w[i] - step * m[i] / (sqrtf(v[i]) * scale + c->eps);
    }
}

/* @cosine_lr ------------------------------------------------ Cosine annealing
 *
 * source  Loshchilov & Hutter 2017, "SGDR"
 * needs   -
 * topics  Cosine Annealing
 */

/* The rate of step t = 0, 1, ..: rises linearly over warmup steps, then falls along half a cosine
 * from max_lr to min_lr at t = total, and stays there. */
LLM_API float llm_cosine_lr(size_t t, size_t warmup, size_t total, float max_lr, float min_lr) {
    if (t < warmup) return max_lr * (float)(t + 1) / (float)warmup;
    if (t >= total) return min_lr;
    const float done = (float)(t - warmup) / (float)(total - warmup);
    return min_lr + 0.5f * (max_lr - min_lr) * (1.0f + cosf(LLM_PI * done));
}

/* @grad_clip ------------------------------------------------ Gradient clipping
 *
 * source  Pascanu, Mikolov & Bengio 2013, "On the difficulty of training recurrent neural networks"
 * needs   -
 * topics  Gradient Clipping
 */

/* g (n) in place: scaled to length max_norm where it is longer. Returns the length before. */
LLM_API float llm_grad_clip_norm(float *g, size_t n, float max_norm) {
    double sum_sq = 0.0;
    for (size_t i = 0; i < n; i++) sum_sq += (double)g[i] * (double)g[i];
    const float norm = (float)sqrt(sum_sq), scale = max_norm / (norm + 1e-6f);
    if (scale < 1.0f) {
        for (size_t i = 0; i < n; i++) g[i] *= scale;
    }
    return norm;
}

/* @08-recurrent =============================== RECURRENT, MEMORY, GRAPH AND CONTINUOUS NETWORKS */

/* @09-theory ================================================ LEARNING THEORY */

/* @10-text ================================================== TEXT, COUNTS AND EMBEDDINGS */

/* @embedding ------------------------------------------------ Embedding layer forward and backward
 *
 * source  -
 * needs   -
 * topics  Embedding layer
 */

/* y (N,C) <- ids (N), w (V,C): row ids[n] of the table. An id outside the table is an LLM_ASSERT. */
LLM_API void llm_embedding_forward(float *y, const int *ids, const float *w, size_t N, size_t V,
                                   size_t C) {
    for (size_t n = 0; n < N; n++) {
        LLM_ASSERT(ids[n] >= 0 && (size_t)ids[n] < V);
        memcpy(y + n * C, w + (size_t)ids[n] * C, C * sizeof(float));
    }
    (void)V;
}

/* dw (V,C) += <- dy (N,C), ids (N). */
LLM_API void llm_embedding_backward(float *dw, const float *dy, const int *ids, size_t N, size_t V,
                                    size_t C) {
    for (size_t n = 0; n < N; n++) {
        LLM_ASSERT(ids[n] >= 0 && (size_t)ids[n] < V);
        for (size_t i = 0; i < C; i++) dw[(size_t)ids[n] * C + i] += dy[n * C + i];
    }
    (void)V;
}

/* @11-token ================================================= TOKENIZATION */

/* @12-attn ================================================== ATTENTION AND POSITION */

/* @causal_attn ---------------------------------------------- Causal self-attention
 *
 *     s_ij = q_i.k_j / sqrt(D)           only j <= i: position i sees itself and what came before
 *     p_ij = exp(s_ij) / sum_j exp(s_ij)
 *     o_i  = sum_j p_ij v_j
 *
 * The one place in a GPT where positions exchange anything. Each of H heads works on its own C/H
 * dimensions. Row i reads nothing later than i, so all T next-token predictions of a text are
 * trained in one pass and none of them can cheat. The weights p are kept for the backward pass: T^2
 * floats a head, which @flash does away with. Nothing above the diagonal is read or written: a zero
 * weight there would let a NaN of the future through.
 *
 * All products are y += w x over tiles of 64 positions. A tile is copied to the stack, because rows
 * of qkv lie 3C apart, and stays in the cache while the rows of w pass by.
 *
 * source  Vaswani et al. 2017, "Attention Is All You Need", eq. 1; Radford et al. 2019, "Language
 *         Models are Unsupervised Multitask Learners" (GPT-2)
 * needs   exp logsumexp
 * see     @mha (any mask, cross-attention), @gqa (shared keys), @flash (no T x T), @kv_cache
 * topics  Causal (Masked) Self-Attention
 */

enum { LLM_CAUSAL_ATTN_TILE = 64 };

/* The next tile's size when so many positions or dimensions are left. */
LLM_API size_t llm_causal_attn_tile(size_t left) {
    return left > LLM_CAUSAL_ATTN_TILE ? (size_t)LLM_CAUSAL_ATTN_TILE : left;
}

/* y (R,D) += w (R,N) x (N,D); N > 0. ys and xs are the strides of rows; w_rn is w[r * wr + n * wn],
 * so that w can be read as its transpose. 3 x 32 sums stay in registers while n runs; they start
 * as products, because setting them to 0 becomes a call of memset. */
LLM_API void llm_causal_attn_mix(float *y, size_t ys, const float *w, size_t wr, size_t wn,
                                 const float *x, size_t xs, size_t R, size_t N, size_t D) {
    enum { ROWS = 3, COLS = 32 };
    for (size_t r = 0, rows; r < R; r += rows) {
        rows = R - r < ROWS ? 1 : ROWS;
        for (size_t d = 0, cols; d < D; d += cols) {
            cols = D - d > COLS ? (size_t)COLS : D - d;
            const float *wd = w + r * wr, *xd = x + d;
            float *yd = y + r * ys + d, sum[ROWS][COLS];
            if (rows == ROWS && cols == COLS) {
                for (size_t a = 0; a < ROWS; a++)
                    for (size_t c = 0; c < COLS; c++) sum[a][c] = wd[a * wr] * xd[c];
                for (size_t n = 1; n < N; n++)
                    for (size_t a = 0; a < ROWS; a++)
                        for (size_t c = 0; c < COLS; c++)
                            sum[a][c] += wd[a * wr + n * wn] * xd[n * xs + c];
                for (size_t a = 0; a < ROWS; a++)
                    for (size_t c = 0; c < COLS; c++) yd[a * ys + c] += sum[a][c];
            } else {
                for (size_t a = 0; a < rows; a++)
                    for (size_t n = 0; n < N; n++)
                        for (size_t c = 0; c < cols; c++)
                            yd[a * ys + c] += wd[a * wr + n * wn] * xd[n * xs + c];
            }
        }
    }
}

/* w_rn = scale x_r.z_n <- x (R,D), z (N,D), for n <= r + ahead: row r of this part is query r + ahead
 * of its first key. N is at most a tile. */
LLM_API void llm_causal_attn_scores(float *w, size_t ws, const float *x, size_t xs, const float *z,
                                    size_t zs, float scale, size_t ahead, size_t R, size_t N,
                                    size_t D) {
    enum { TILE = LLM_CAUSAL_ATTN_TILE };
    float zt[TILE * TILE], s[TILE * TILE]; /* z^T, so that the inner loops run over keys */
    for (size_t d0 = 0; d0 < D; d0 += TILE) {
        const size_t depth = llm_causal_attn_tile(D - d0);
        for (size_t n = 0; n < N; n++)
            for (size_t d = 0; d < depth; d++) zt[d * N + n] = scale * z[n * zs + d0 + d];
        for (size_t r0 = 0; r0 < R; r0 += TILE) {
            const size_t rows = llm_causal_attn_tile(R - r0);
            for (size_t i = 0; i < rows * N; i++) s[i] = 0.0f;
            llm_causal_attn_mix(s, N, x + r0 * xs + d0, xs, 1, zt, N, rows, depth, N);
            for (size_t r = r0; r < r0 + rows; r++) {
                const size_t end = r + ahead < N ? r + ahead + 1 : N;
                for (size_t n = 0; n < end; n++) {
                    w[r * ws + n] = s[(r - r0) * N + n] + (d0 ? w[r * ws + n] : 0.0f);
                }
            }
        }
    }
}

/* y_r += sum_n w_rn x_n over n <= r + ahead: each query collects from its past. */
LLM_API void llm_causal_attn_gather(float *y, size_t ys, const float *w, size_t ws, const float *x,
                                    size_t xs, size_t ahead, size_t R, size_t N, size_t D) {
    enum { TILE = LLM_CAUSAL_ATTN_TILE };
    float tile[TILE * TILE];
    for (size_t d0 = 0; d0 < D; d0 += TILE) {
        const size_t depth = llm_causal_attn_tile(D - d0);
        for (size_t n = 0; n < N; n++)
            memcpy(tile + n * depth, x + n * xs + d0, depth * sizeof(float));
        size_t r = 0;
        for (; r < R && r + ahead + 1 < N; r++)
            llm_causal_attn_mix(y + r * ys + d0, ys, w + r * ws, ws, 1, tile, depth, 1,
                                r + ahead + 1, depth);
        llm_causal_attn_mix(y + r * ys + d0, ys, w + r * ws, ws, 1, tile, depth, R - r, N, depth);
    }
}

/* y_n += sum_r w_rn x_r over r >= n - ahead: each key collects from its future, the transpose of
 * the above. R is at most a tile. */
LLM_API void llm_causal_attn_scatter(float *y, size_t ys, const float *w, size_t ws, const float *x,
                                     size_t xs, size_t ahead, size_t R, size_t N, size_t D) {
    enum { TILE = LLM_CAUSAL_ATTN_TILE };
    float tile[TILE * TILE];
    const size_t full = ahead < N ? ahead : N; /* keys that every row sees */
    for (size_t d0 = 0; d0 < D; d0 += TILE) {
        const size_t depth = llm_causal_attn_tile(D - d0);
        for (size_t r = 0; r < R; r++)
            memcpy(tile + r * depth, x + r * xs + d0, depth * sizeof(float));
        llm_causal_attn_mix(y + d0, ys, w, 1, ws, tile, depth, full, R, depth);
        for (size_t n = full; n < N && n < R + ahead; n++) {
            const size_t r = n - ahead; /* the first row that sees key n */
            llm_causal_attn_mix(y + n * ys + d0, ys, w + r * ws + n, 1, ws, tile + r * depth, depth,
                                1, R - r, depth);
        }
    }
}

/* out (B,T,C), att (B,H,T,T) <- qkv (B,T,3C): the queries, keys and values of all heads side by
 * side, as GPT-2 projects them. att gets the weights p; above the diagonal it is not written. */
LLM_API void llm_causal_attn_forward(float *out, float *att, const float *qkv, size_t B, size_t T,
                                     size_t C, size_t H) {
    LLM_ASSERT(H > 0 && C % H == 0);
    enum { TILE = LLM_CAUSAL_ATTN_TILE };
    const size_t D = C / H, S = 3 * C;
    const float scale = 1.0f / sqrtf((float)D);
    LLM_PARALLEL_FOR
    for (size_t bh = 0; bh < B * H; bh++) {
        const float *q = qkv + bh / H * T * S + bh % H * D, *k = q + C, *v = k + C;
        float *p = att + bh * T * T, *o = out + bh / H * T * C + bh % H * D;
        for (size_t j = 0; j < T; j += TILE) {
            const size_t N = llm_causal_attn_tile(T - j);
            llm_causal_attn_scores(p + j * T + j, T, q + j * S, S, k + j * S, S, scale, 0, T - j, N,
                                   D);
        }
        for (size_t i = 0; i < T; i++) {
            float *pi = p + i * T, sum = 0.0f;
            const float max = llm_logsumexp_max(pi, i + 1);
            for (size_t j = 0; j <= i; j++) pi[j] = expf(pi[j] - max);
            LLM_SIMD_SUM(sum)
            for (size_t j = 0; j <= i; j++) sum += pi[j];
            const float gain = 1.0f / sum;
            for (size_t j = 0; j <= i; j++) pi[j] *= gain;
            for (size_t d = 0; d < D; d++) o[i * C + d] = 0.0f;
        }
        for (size_t j = 0; j < T; j += TILE) {
            const size_t N = llm_causal_attn_tile(T - j);
            llm_causal_attn_gather(o + j * C, C, p + j * T + j, T, v + j * S, S, 0, T - j, N, D);
        }
    }
}

/* dqkv (B,T,3C) += <- dout (B,T,C) and forward's att, qkv. Scratch: 64 B H T floats, given back.
 *
 *     dv_j += p_ij do_i    dp_ij = do_i.v_j    ds_ij = p_ij (dp_ij - sum_l p_il dp_il)
 *     dq_i += ds_ij k_j / sqrt(D)              dk_j += ds_ij q_i / sqrt(D)
 *
 * Queries are taken 64 at a time, so that dp and ds need that many rows only. */
LLM_API void llm_causal_attn_backward(float *dqkv, const float *dout, const float *att,
                                      const float *qkv, size_t B, size_t T, size_t C, size_t H,
                                      llm_arena *arena) {
    LLM_ASSERT(H > 0 && C % H == 0);
    enum { TILE = LLM_CAUSAL_ATTN_TILE };
    const size_t D = C / H, S = 3 * C, mark = arena->used;
    const float scale = 1.0f / sqrtf((float)D);
    float *scratch = llm_arena_floats(arena, B * H * TILE * T);
    LLM_PARALLEL_FOR
    for (size_t bh = 0; bh < B * H; bh++) {
        const float *q = qkv + bh / H * T * S + bh % H * D, *k = q + C, *v = k + C;
        float *dq = dqkv + (q - qkv), *dk = dq + C, *dv = dk + C, *ds = scratch + bh * TILE * T;
        for (size_t i = 0; i < T; i += TILE) {
            const size_t R = llm_causal_attn_tile(T - i);
            const float *g = dout + (bh / H * T + i) * C + bh % H * D, *p = att + (bh * T + i) * T;
            for (size_t j = 0; j <= i; j += TILE) {
                const size_t N = llm_causal_attn_tile(i + R - j);
                llm_causal_attn_scores(ds + j, T, g, C, v + j * S, S, 1.0f, i - j, R, N, D);
            }
            for (size_t r = 0; r < R; r++) {
                const float *pr = p + r * T;
                float *dsr = ds + r * T, along = 0.0f;
                LLM_SIMD_SUM(along)
                for (size_t j = 0; j <= i + r; j++) along += pr[j] * dsr[j];
                for (size_t j = 0; j <= i + r; j++) dsr[j] = scale * pr[j] * (dsr[j] - along);
            }
            for (size_t j = 0; j <= i; j += TILE) {
                const size_t N = llm_causal_attn_tile(i + R - j);
                llm_causal_attn_gather(dq + i * S, S, ds + j, T, k + j * S, S, i - j, R, N, D);
                llm_causal_attn_scatter(dk + j * S, S, ds + j, T, q + i * S, S, i - j, R, N, D);
                llm_causal_attn_scatter(dv + j * S, S, p + j, T, g, C, i - j, R, N, D);
            }
        }
    }
    arena->used = mark;
}

/* @rope ----------------------------------------------------- Rotary position embedding
 *
 *     y_a = x_a cos(t f_i) - x_b sin(t f_i)          f_i = theta^(-2i/rot), i = 0 .. rot/2 - 1
 *     y_b = x_a sin(t f_i) + x_b cos(t f_i)          (a, b): the two dimensions of pair i
 *
 * Position t turns each pair of dimensions of q and k by an angle of its own. A dot product feels
 * only the difference of two angles, so q_m.k_n depends on m - n and on no absolute position: the
 * model learns distances and pays for them with no parameter. Lengths do not change.
 *
 * Two layouts are in use and the shapes of the weights do not tell which: pairs of halves (i,
 * i + rot/2) in NeoX and in all that transformers calls Llama, and neighbours (2i, 2i + 1) in the
 * paper, in GPT-J, in Meta's own Llama files and in their GGUF form. Taking the one for the other
 * raises no error. The angle t f_i is computed in double: at t = 1e5 a float would be off by 0.004.
 *
 * source  Su et al. 2021, "RoFormer: Enhanced Transformer with Rotary Position Embedding", eq. 34;
 *         Wang et al. 2024, "Qwen2-VL" (three axes)
 * needs   -
 * see     @yarn (other frequencies for longer texts), @gqa, @kv_cache (keys are cached rotated)
 * topics  Rotary Positional Embedding (RoPE)
 */

typedef enum { LLM_ROPE_HALVES, LLM_ROPE_NEIGHBOURS } llm_rope_pairing;

/* inv_freq (rot/2): f_i, from 1 down to almost 1/theta. theta is 10000 in the paper, 500000 in
 * Llama 3. */
LLM_API void llm_rope_inv_freq(float *inv_freq, size_t rot, float theta) {
    LLM_ASSERT(rot % 2 == 0 && theta > 0.0f);
    for (size_t i = 0; i < rot / 2; i++) {
        inv_freq[i] = (float)pow((double)theta, -2.0 * (double)i / (double)rot);
    }
}

/* cosine, sine (N,rot/2) <- pos (N), or NULL for 0 .. N-1, and inv_freq (rot/2). One table serves
 * all layers. */
LLM_API void llm_rope_table(float *cosine, float *sine, const int *pos, const float *inv_freq,
                            size_t N, size_t rot) {
    LLM_ASSERT(rot % 2 == 0);
    for (size_t n = 0; n < N; n++) {
        const double t = pos ? (double)pos[n] : (double)n;
        for (size_t i = 0; i < rot / 2; i++) {
            cosine[n * (rot / 2) + i] = (float)cos(t * (double)inv_freq[i]);
            sine[n * (rot / 2) + i] = (float)sin(t * (double)inv_freq[i]);
        }
    }
}

/* The same for positions on three axes, pos (3,N): frame, row and column of an image patch. The
 * first section[0] frequencies turn with the frame, the next section[1] with the row, the last
 * section[2] with the column (16, 24, 24 in Qwen2-VL, where text has all three equal). */
LLM_API void llm_rope_mrope_table(float *cosine, float *sine, const int *pos,
                                  const size_t section[3], const float *inv_freq, size_t N,
                                  size_t rot) {
    LLM_ASSERT(rot % 2 == 0 && section[0] + section[1] + section[2] == rot / 2);
    for (size_t n = 0; n < N; n++) {
        for (size_t axis = 0, i = 0; axis < 3; axis++) {
            for (const size_t end = i + section[axis]; i < end; i++) {
                const double angle = (double)pos[axis * N + n] * (double)inv_freq[i];
                cosine[n * (rot / 2) + i] = (float)cos(angle);
                sine[n * (rot / 2) + i] = (float)sin(angle);
            }
        }
    }
}

/* y (B,H,T,D) <- x (B,H,T,D), cosine and sine (B,T,rot/2). Turns the first rot dimensions, the
 * others pass. y may be x. Rows that share their positions need one table: (1,B H,T,D). An array
 * (B,T,H,D), heads inside, is (B T,H,1,D). */
LLM_API void llm_rope_forward(float *y, const float *x, const float *cosine, const float *sine,
                              size_t B, size_t H, size_t T, size_t D, size_t rot,
                              llm_rope_pairing pairing) {
    LLM_ASSERT(rot % 2 == 0 && rot <= D);
    const size_t half = rot / 2;
    LLM_PARALLEL_FOR
    for (size_t bht = 0; bht < B * H * T; bht++) {
        const size_t bt = bht / (H * T) * T + bht % T;
        const float *c = cosine + bt * half, *s = sine + bt * half, *xa = x + bht * D;
        float *ya = y + bht * D;
        for (size_t i = 0; i < half; i++) {
            const size_t a = pairing == LLM_ROPE_HALVES ? i : 2 * i;
            const size_t b = pairing == LLM_ROPE_HALVES ? i + half : 2 * i + 1;
            const float kept = xa[a];
            ya[a] = kept * c[i] - xa[b] * s[i];
            ya[b] = kept * s[i] + xa[b] * c[i];
        }
        for (size_t d = rot; d < D; d++) ya[d] = xa[d];
    }
}

/* dx (B,H,T,D) += <- dy (B,H,T,D): the inverse of a rotation is its transpose, so the gradient turns
 * back by the same angle. dx may not be dy. */
LLM_API void llm_rope_backward(float *dx, const float *dy, const float *cosine, const float *sine,
                               size_t B, size_t H, size_t T, size_t D, size_t rot,
                               llm_rope_pairing pairing) {
    LLM_ASSERT(rot % 2 == 0 && rot <= D);
    const size_t half = rot / 2;
    LLM_PARALLEL_FOR
    for (size_t bht = 0; bht < B * H * T; bht++) {
        const size_t bt = bht / (H * T) * T + bht % T;
        const float *c = cosine + bt * half, *s = sine + bt * half, *dya = dy + bht * D;
        float *dxa = dx + bht * D;
        for (size_t i = 0; i < half; i++) {
            const size_t a = pairing == LLM_ROPE_HALVES ? i : 2 * i;
            const size_t b = pairing == LLM_ROPE_HALVES ? i + half : 2 * i + 1;
            dxa[a] += dya[a] * c[i] + dya[b] * s[i];
            dxa[b] += dya[b] * c[i] - dya[a] * s[i];
        }
        for (size_t d = rot; d < D; d++) dxa[d] += dya[d];
    }
}

/* to (H D,C) <- from (H D,C): rows of a query or key projection, or their bias with C = 1, laid out
 * for the pairing given; from has the other one. Scores stay what they were. to may not be from. */
LLM_API void llm_rope_permute_weights(float *to, const float *from, size_t H, size_t D, size_t C,
                                      size_t rot, llm_rope_pairing pairing) {
    LLM_ASSERT(rot % 2 == 0 && rot <= D);
    for (size_t h = 0; h < H; h++) {
        for (size_t d = 0; d < D; d++) {
            size_t other = d;
            if (d < rot && pairing == LLM_ROPE_HALVES) other = d % (rot / 2) * 2 + d / (rot / 2);
            if (d < rot && pairing == LLM_ROPE_NEIGHBOURS) other = d / 2 + d % 2 * (rot / 2);
            memcpy(to + (h * D + d) * C, from + (h * D + other) * C, C * sizeof(float));
        }
    }
}

/* @13-transformer =========================================== TRANSFORMERS AND LANGUAGE MODELS */

/* @ffn ----------------------------------------------------- Position-wise MLP
 *
 *     h = act(x W_up^T + b_up)                    two matrices: 2017, GPT-2, BERT
 *     h = act(x W_gate^T) * (x W_up^T)            three, gated: Llama (SiLU), Gemma (GELU)
 *     y = h W_down^T + b_down
 *
 * The half of a Transformer layer that works on each token alone, and two thirds of its weights.
 * A row of W_up is a key that is compared with the token, the same row of W_down^T is the value
 * that is added when they match. The gated form multiplies two projections, so its hidden size is
 * cut to 2/3 to keep the number of weights. The nonlinearity is cheap and its result is large:
 * backward can compute it again from the pre-activations instead of storing it.
 *
 * source  Vaswani et al. 2017, "Attention Is All You Need", eq. 2; Shazeer 2020, "GLU Variants
 *         Improve Transformer"; Geva et al. 2021, "Transformer Feed-Forward Layers Are Key-Value
 *         Memories", eq. 2
 * needs   matmul activation
 * see     @swiglu @decoder_block @dense
 * topics  Position-wise MLP
 */

/* Weights, or their gradients: gate, up (H,C), up_bias (H), down (C,H), down_bias (C). gate is NULL
 * in the plain form; the biases may be NULL. */
typedef struct {
    float *gate, *up, *up_bias, *down, *down_bias;
} llm_ffn_weights;

/* What backward needs: gate, up (N,H) before the nonlinearity, hidden (N,H) after it. gate is NULL
 * in the plain form. */
typedef struct {
    float *gate, *up, *hidden;
} llm_ffn_acts;

/* hidden (N,H) <- the pre-activations of a. */
LLM_API void llm_ffn_activate(const llm_ffn_acts *a, size_t N, size_t H, int kind) {
    llm_activation_forward(a->hidden, a->gate ? a->gate : a->up, N * H, kind);
    if (!a->gate) return;
    LLM_PARALLEL_FOR
    for (size_t i = 0; i < N * H; i++) a->hidden[i] *= a->up[i];
}

/* y (N,C), a <- x (N,C). kind is an LLM_ACTIVATION. y may not be x. */
LLM_API void llm_ffn_forward(float *y, const llm_ffn_acts *a, const float *x,
                             const llm_ffn_weights *w, size_t N, size_t C, size_t H, int kind) {
    if (w->gate) llm_matmul_forward(a->gate, x, w->gate, NULL, N, C, H);
    llm_matmul_forward(a->up, x, w->up, w->up_bias, N, C, H);
    llm_ffn_activate(a, N, H, kind);
    llm_matmul_forward(y, a->hidden, w->down, w->down_bias, N, H, C);
}

/* dx (N,C) += , dw += <- dy (N,C) and forward's a, x, w. Any gradient may be NULL, dw itself too.
 * recompute: a->hidden is scratch of forward and is computed again. Scratch: 2 N H floats, 3 N H
 * gated; given back. */
LLM_API void llm_ffn_backward(float *dx, const llm_ffn_weights *dw, const float *dy,
                              const llm_ffn_acts *a, const float *x, const llm_ffn_weights *w,
                              size_t N, size_t C, size_t H, int kind, bool recompute,
                              llm_arena *arena) {
    const size_t mark = arena->used;
    float *dhidden = llm_arena_floats(arena, N * H), *dup = llm_arena_floats(arena, N * H);
    if (recompute) llm_ffn_activate(a, N, H, kind);
    memset(dhidden, 0, N * H * sizeof(float));
    llm_matmul_backward(dhidden, dw ? dw->down : NULL, dw ? dw->down_bias : NULL, dy, a->hidden,
                        w->down, N, H, C);
    memset(dup, 0, N * H * sizeof(float));
    if (!w->gate) {
        llm_activation_backward(dup, dhidden, a->up, N * H, kind);
    } else {
        float *dgate = llm_arena_floats(arena, N * H);
        llm_activation_forward(dgate, a->gate, N * H, kind);
        LLM_PARALLEL_FOR
        for (size_t i = 0; i < N * H; i++) {
            dup[i] = dhidden[i] * dgate[i];
            dhidden[i] *= a->up[i];
            dgate[i] = 0.0f;
        }
        llm_activation_backward(dgate, dhidden, a->gate, N * H, kind);
        llm_matmul_backward(dx, dw ? dw->gate : NULL, NULL, dgate, x, w->gate, N, C, H);
    }
    llm_matmul_backward(dx, dw ? dw->up : NULL, dw ? dw->up_bias : NULL, dup, x, w->up, N, C, H);
    arena->used = mark;
}

/* Llama's rule for the hidden size of a gated form: 2/3 of 4 C, times multiplier, rounded up to a
 * multiple. */
LLM_API size_t llm_ffn_hidden_dim(size_t C, float multiplier, size_t multiple_of) {
    size_t hidden = 2 * (4 * C) / 3;
    hidden = (size_t)(multiplier * (float)hidden);
    return (hidden + multiple_of - 1) / multiple_of * multiple_of;
}

/* @decoder_block ------------------------------------------- Decoder block
 *
 *     m = x + Attention(LayerNorm1(x)) W_out^T + b_out
 *     y = m + FFN(LayerNorm2(m))                       GPT-2
 *     y = m + FFN(LayerNorm1(x))                       parallel: GPT-J, PaLM
 *
 * The unit that a language model repeats.
 *
 * source  Radford et al. 2019, "Language Models are Unsupervised Multitask Learners"
 * needs   matmul layernorm causal_attn ffn
 * see     @prenorm @llama_block @gpt2
 * topics  Decoder Block
 */

/* norm_w is the gain. Weights, or their gradients. In the parallel form norm2_w, norm2_b are NULL. */
typedef struct {
    float *norm1_w, *norm1_b; /* (C) */
    float *qkv_w, *qkv_b;     /* (3C,C), (3C): queries, keys, values, in each the heads in order */
    float *out_w, *out_b;     /* (C,C), (C) */
    float *norm2_w, *norm2_b; /* (C) */
    llm_ffn_weights ffn;      /* up (F,C), down (C,F) */
} llm_decoder_block_weights;

typedef struct {
    size_t width, heads, hidden; /* C, H, F */
    bool parallel;
    float eps;
} llm_decoder_block_config;

/* All that forward leaves for backward, N = B T rows each. */
typedef struct {
    float *mean1, *rstd1; /* (N) */
    float *norm1;         /* (N,C) */
    float *qkv;           /* (N,3C) */
    float *att;           /* (B,H,T,T) attention weights */
    float *mixed;         /* (N,C) the heads' outputs side by side */
    float *mid;           /* (N,C) m */
    float *mean2, *rstd2; /* (N) */
    float *norm2;         /* (N,C) */
    llm_ffn_acts ffn;     /* up, hidden (N,F) */
} llm_decoder_block_acts;

/* Floats of the activations of one block, and of backward's scratch, for B rows of T tokens. */
LLM_API size_t llm_decoder_block_acts_size(const llm_decoder_block_config *c, size_t B, size_t T) {
    return B * T * (7 * c->width + 2 * c->hidden + c->heads * T + 4);
}
LLM_API size_t llm_decoder_block_scratch_size(const llm_decoder_block_config *c, size_t B,
                                              size_t T) {
    const size_t ffn = B * T * 2 * c->hidden, attn = B * T * 4 * c->width + B * c->heads * T;
    return B * T * c->width + (ffn > attn ? ffn : attn) + 4 * 16; /* the arena rounds up to 16 */
}

/* Points a into acts_size floats. */
LLM_API void llm_decoder_block_bind(llm_decoder_block_acts *a, float *p,
                                    const llm_decoder_block_config *c, size_t B, size_t T) {
    const size_t N = B * T, C = c->width, F = c->hidden;
    a->norm1 = p, p += N * C;
    a->qkv = p, p += N * 3 * C;
    a->mixed = p, p += N * C;
    a->mid = p, p += N * C;
    a->norm2 = p, p += N * C;
    a->ffn.gate = NULL;
    a->ffn.up = p, p += N * F;
    a->ffn.hidden = p, p += N * F;
    a->att = p, p += N * c->heads * T;
    a->mean1 = p, p += N;
    a->rstd1 = p, p += N;
    a->mean2 = p, p += N;
    a->rstd2 = p;
}

/* y (B,T,C), a <- x (B,T,C). y may not be x. */
LLM_API void llm_decoder_block_forward(float *y, const llm_decoder_block_acts *a, const float *x,
                                       const llm_decoder_block_weights *w, size_t B, size_t T,
                                       const llm_decoder_block_config *c) {
    const size_t N = B * T, C = c->width;
    llm_layernorm_forward(a->norm1, a->mean1, a->rstd1, x, w->norm1_w, w->norm1_b, N, C, c->eps);
    llm_matmul_forward(a->qkv, a->norm1, w->qkv_w, w->qkv_b, N, C, 3 * C);
    llm_causal_attn_forward(a->mixed, a->att, a->qkv, B, T, C, c->heads);
    llm_matmul_forward(a->mid, a->mixed, w->out_w, w->out_b, N, C, C);
    for (size_t i = 0; i < N * C; i++) a->mid[i] += x[i];

    const float *in = a->norm1;
    if (!c->parallel) {
        llm_layernorm_forward(a->norm2, a->mean2, a->rstd2, a->mid, w->norm2_w, w->norm2_b, N, C,
                              c->eps);
        in = a->norm2;
    }
    llm_ffn_forward(y, &a->ffn, in, &w->ffn, N, C, c->hidden, LLM_ACTIVATION_GELU_TANH);
    for (size_t i = 0; i < N * C; i++) y[i] += a->mid[i];
}

/* d (B,T,C) in place: the gradient of y becomes the gradient of x (the residual path carries it
 * through unchanged, and each sublayer adds to it); dw += . x, a, w as in forward. */
LLM_API void llm_decoder_block_backward(float *d, const llm_decoder_block_weights *dw,
                                        const llm_decoder_block_acts *a, const float *x,
                                        const llm_decoder_block_weights *w, size_t B, size_t T,
                                        const llm_decoder_block_config *c, llm_arena *arena) {
    const size_t mark = arena->used, N = B * T, C = c->width;
    float *dnorm = llm_arena_floats(arena, N * C);
    memset(dnorm, 0, N * C * sizeof(float));
    llm_ffn_backward(dnorm, &dw->ffn, d, &a->ffn, c->parallel ? a->norm1 : a->norm2, &w->ffn, N, C,
                     c->hidden, LLM_ACTIVATION_GELU_TANH, false, arena);
    if (!c->parallel) {
        llm_layernorm_backward(d, dw->norm2_w, dw->norm2_b, dnorm, a->mid, w->norm2_w, a->mean2,
                               a->rstd2, N, C);
        memset(dnorm, 0, N * C * sizeof(float));
    }

    float *dmixed = llm_arena_floats(arena, N * C), *dqkv = llm_arena_floats(arena, N * 3 * C);
    memset(dmixed, 0, N * C * sizeof(float));
    memset(dqkv, 0, N * 3 * C * sizeof(float));
    llm_matmul_backward(dmixed, dw->out_w, dw->out_b, d, a->mixed, w->out_w, N, C, C);
    llm_causal_attn_backward(dqkv, dmixed, a->att, a->qkv, B, T, C, c->heads, arena);
    llm_matmul_backward(dnorm, dw->qkv_w, dw->qkv_b, dqkv, a->norm1, w->qkv_w, N, C, 3 * C);
    llm_layernorm_backward(d, dw->norm1_w, dw->norm1_b, dnorm, x, w->norm1_w, a->mean1, a->rstd1, N,
                           C);
    arena->used = mark;
}

/* @safetensors ---------------------------------------------- Weight files: safetensors
 *
 * source  -
 * needs   error size file json
 * topics  -
 */
enum { LLM_SAFETENSORS_RANK = 8, LLM_SAFETENSORS_HEADER = 100000000 };

/* In the order of the format's own library, which sorts by it. */
typedef enum {
    LLM_SAFETENSORS_BOOL,
    LLM_SAFETENSORS_U8,
    LLM_SAFETENSORS_I8,
    LLM_SAFETENSORS_F8_E5M2,
    LLM_SAFETENSORS_F8_E4M3,
    LLM_SAFETENSORS_I16,
    LLM_SAFETENSORS_U16,
    LLM_SAFETENSORS_F16,
    LLM_SAFETENSORS_BF16,
    LLM_SAFETENSORS_I32,
    LLM_SAFETENSORS_U32,
    LLM_SAFETENSORS_F32,
    LLM_SAFETENSORS_F64,
    LLM_SAFETENSORS_I64,
    LLM_SAFETENSORS_U64,
    LLM_SAFETENSORS_DTYPES
} llm_safetensors_dtype;

/* The name of a dtype in the file; *size gets the bytes of an element. */
LLM_API const char *llm_safetensors_dtype_name(size_t *size, llm_safetensors_dtype dtype) {
    static const char *const name[LLM_SAFETENSORS_DTYPES] = {
        "BOOL", "U8",  "I8",  "F8_E5M2", "F8_E4M3", "I16", "U16", "F16",
        "BF16", "I32", "U32", "F32",     "F64",     "I64", "U64"};
    *size = dtype < LLM_SAFETENSORS_I16   ? 1
            : dtype < LLM_SAFETENSORS_I32 ? 2
            : dtype < LLM_SAFETENSORS_F64 ? 4
                                          : 8;
    return name[dtype];
}

/* Row-major, little-endian, at any address: data need not be aligned. */
typedef struct {
    const char *name;
    llm_safetensors_dtype dtype;
    size_t rank, shape[LLM_SAFETENSORS_RANK];
    const unsigned char *data;
    size_t size; /* in bytes */
} llm_safetensors_tensor;

typedef struct {
    llm_safetensors_tensor *tensor; /* sorted by name */
    size_t count;
    llm_file file;
    llm_json
        header; /* node[0] is the object; its "__metadata__", if any, maps strings to strings */
} llm_safetensors;

LLM_API void llm_safetensors_close(llm_safetensors *s) {
    free(s->tensor);
    llm_json_free(&s->header);
    llm_file_free(&s->file);
    s->tensor = NULL;
    s->count = 0;
}

/* Product of the shape and the size of an element; false where it overflows. */
LLM_API bool llm_safetensors_bytes(size_t *bytes, const llm_safetensors_tensor *t) {
    llm_safetensors_dtype_name(bytes, t->dtype);
    bool empty = false, fits = true;
    for (size_t i = 0; i < t->rank; i++) {
        empty |= t->shape[i] == 0;
        fits &= llm_size_mul(bytes, *bytes, t->shape[i]);
    }
    if (empty) *bytes = 0;
    return fits;
}

LLM_API int llm_safetensors_by_name(const void *a, const void *b) {
    return strcmp(((const llm_safetensors_tensor *)a)->name,
                  ((const llm_safetensors_tensor *)b)->name);
}

LLM_API int llm_safetensors_by_place(const void *a, const void *b) {
    const llm_safetensors_tensor *x = (const llm_safetensors_tensor *)a;
    const llm_safetensors_tensor *y = (const llm_safetensors_tensor *)b;
    if (x->data != y->data) return x->data < y->data ? -1 : 1;
    return x->size < y->size ? -1 : x->size > y->size;
}

/* t <- one member of the header; room bytes of data start at data. */
LLM_API bool llm_safetensors_member(llm_safetensors_tensor *t, const llm_json *j,
                                    const llm_json_node *member, const unsigned char *data,
                                    size_t room, llm_error *error) {
    const llm_json_node *dtype = llm_json_get(j, member, "dtype");
    const llm_json_node *shape = llm_json_get(j, member, "shape");
    const llm_json_node *offsets = llm_json_get(j, member, "data_offsets");
    size_t begin, end, bytes, element;
    t->name = member->key;
    if (strlen(t->name) != member->key_size)
        return llm_fail(error, "safetensors: the name of tensor '%s' holds a 0", t->name);
    if (!dtype || dtype->kind != LLM_JSON_STRING || !shape || shape->kind != LLM_JSON_ARRAY ||
        !offsets || offsets->kind != LLM_JSON_ARRAY || offsets->count != 2)
        return llm_fail(error, "safetensors: tensor '%s' needs dtype, shape and two data_offsets",
                        t->name);

    int kind = 0;
    while (kind < LLM_SAFETENSORS_DTYPES &&
           strcmp(llm_safetensors_dtype_name(&element, (llm_safetensors_dtype)kind), dtype->text))
        kind++;
    if (kind == LLM_SAFETENSORS_DTYPES)
        return llm_fail(error, "safetensors: tensor '%s' has the unknown dtype '%s'", t->name,
                        dtype->text);
    t->dtype = (llm_safetensors_dtype)kind;

    t->rank = 0;
    if (shape->count > LLM_SAFETENSORS_RANK)
        return llm_fail(error, "safetensors: tensor '%s' has %zu dimensions, at most %d are read",
                        t->name, shape->count, LLM_SAFETENSORS_RANK);
    for (const llm_json_node *v = llm_json_first(j, shape); v; v = llm_json_next(j, v))
        if (!llm_json_size(&t->shape[t->rank++], v))
            return llm_fail(error, "safetensors: the shape of tensor '%s' holds what is no size",
                            t->name);

    const llm_json_node *first = llm_json_first(j, offsets);
    if (!llm_json_size(&begin, first) || !llm_json_size(&end, llm_json_next(j, first)) ||
        begin > end || end > room)
        return llm_fail(error,
                        "safetensors: the offsets of tensor '%s' leave the %zu bytes of data",
                        t->name, room);
    if (!llm_safetensors_bytes(&bytes, t) || bytes != end - begin)
        return llm_fail(error, "safetensors: tensor '%s' has %zu bytes, its shape asks for %zu",
                        t->name, end - begin, bytes);
    t->data = data + begin;
    t->size = bytes;
    return true;
}

LLM_API bool llm_safetensors_check(llm_safetensors *s, llm_error *error) {
    const unsigned char *data = s->file.data;
    uint64_t length = 0;
    for (size_t i = 0; s->file.size >= 8 && i < 8; i++) length |= (uint64_t)data[i] << (8 * i);
    if (s->file.size < 8 || length > LLM_SAFETENSORS_HEADER || length > s->file.size - 8)
        return llm_fail(error, "safetensors: a header of %llu bytes in a file of %zu",
                        (unsigned long long)length, s->file.size);
    const unsigned char *start = data + 8 + length;
    const size_t room = s->file.size - 8 - (size_t)length;
    if (length == 0 || data[8] != '{')
        return llm_fail(error, "safetensors: the header does not start with {");
    if (!llm_json_parse(&s->header, (const char *)data + 8, (size_t)length, error)) return false;

    const llm_json_node *root = s->header.node;
    s->tensor = (llm_safetensors_tensor *)calloc(root->count + 1, sizeof *s->tensor);
    if (!s->tensor) return llm_fail(error, "safetensors: out of memory");
    for (const llm_json_node *v = llm_json_first(&s->header, root); v;
         v = llm_json_next(&s->header, v)) {
        if (strcmp(v->key, "__metadata__") == 0) {
            if (v->kind != LLM_JSON_OBJECT)
                return llm_fail(error, "safetensors: __metadata__ is no object");
            continue;
        }
        if (!llm_safetensors_member(&s->tensor[s->count], &s->header, v, start, room, error))
            return false;
        s->count++;
    }
    qsort(s->tensor, s->count, sizeof *s->tensor, llm_safetensors_by_place);
    const unsigned char *end = start;
    for (size_t i = 0; i < s->count; end += s->tensor[i++].size)
        if (s->tensor[i].data != end)
            return llm_fail(error, "safetensors: a hole or an overlap before tensor '%s'",
                            s->tensor[i].name);
    if (end != start + room)
        return llm_fail(error, "safetensors: %zu bytes behind the last tensor",
                        (size_t)(start + room - end));
    qsort(s->tensor, s->count, sizeof *s->tensor, llm_safetensors_by_name);
    for (size_t i = 1; i < s->count; i++)
        if (strcmp(s->tensor[i - 1].name, s->tensor[i].name) == 0)
            return llm_fail(error, "safetensors: two tensors are called '%s'", s->tensor[i].name);
    return true;
}

/* Maps the file and believes nothing in it. */
LLM_API bool llm_safetensors_open(llm_safetensors *s, const char *path, llm_error *error) {
    memset(s, 0, sizeof *s);
    const bool ok = llm_file_map(&s->file, path, error) && llm_safetensors_check(s, error);
    if (!ok) llm_safetensors_close(s);
    return ok;
}

/* NULL when there is none of that name. */
LLM_API const llm_safetensors_tensor *llm_safetensors_find(const llm_safetensors *s,
                                                           const char *name) {
    size_t low = 0, high = s->count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        const int order = strcmp(s->tensor[middle].name, name);
        if (order == 0) return &s->tensor[middle];
        if (order < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return NULL;
}

/* out (count) <- t, of dtype F32, F16 or BF16, all exactly. */
LLM_API bool llm_safetensors_floats(float *out, const llm_safetensors_tensor *t, size_t count,
                                    llm_error *error) {
    size_t element;
    const char *name = llm_safetensors_dtype_name(&element, t->dtype);
    if (t->dtype != LLM_SAFETENSORS_F32 && t->dtype != LLM_SAFETENSORS_F16 &&
        t->dtype != LLM_SAFETENSORS_BF16)
        return llm_fail(error, "safetensors: tensor '%s' is %s, expected F32, F16 or BF16", t->name,
                        name);
    if (t->size / element != count)
        return llm_fail(error, "safetensors: tensor '%s' has %zu entries, expected %zu", t->name,
                        t->size / element, count);
    for (size_t i = 0; i < count; i++) {
        const unsigned char *p = t->data + i * element;
        uint32_t bits = (uint32_t)p[0] | (uint32_t)p[1] << 8;
        if (t->dtype == LLM_SAFETENSORS_F32) {
            bits |= (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
        } else if (t->dtype == LLM_SAFETENSORS_BF16) {
            bits <<= 16;
        } else {
            const uint32_t exponent = bits >> 10 & 31, fraction = bits & 1023;
            const float tiny =
                (float)fraction / 16777216.0f; /* fraction 2^-24, subnormal in half */
            uint32_t magnitude;
            if (exponent == 0) {
                memcpy(&magnitude, &tiny, 4);
            } else {
                magnitude = (exponent == 31 ? 255u : exponent + 112) << 23 | fraction << 13;
            }
            bits = (bits & 0x8000) << 16 | magnitude;
        }
        memcpy(&out[i], &bits, 4);
    }
    return true;
}

LLM_API int llm_safetensors_by_dtype(const void *a, const void *b) {
    const llm_safetensors_tensor *x = (const llm_safetensors_tensor *)a;
    const llm_safetensors_tensor *y = (const llm_safetensors_tensor *)b;
    return x->dtype != y->dtype ? (x->dtype < y->dtype ? 1 : -1) : strcmp(x->name, y->name);
}

/* Writes the file the library writes: dtypes from wide to narrow, so that all are aligned, names in
 * order, header padded to a multiple of 8. metadata is a JSON object of strings, or NULL. size of a
 * tensor is not read, its shape says it. */
LLM_API bool llm_safetensors_write(const char *path, const llm_safetensors_tensor *tensor,
                                   size_t count, const char *metadata, llm_error *error) {
    llm_safetensors_tensor *t = (llm_safetensors_tensor *)malloc((count + 1) * sizeof *t);
    llm_buffer b = {NULL, 0, 0};
    llm_file_writer w;
    size_t offset = 0;
    unsigned char length[8];
    bool ok = t && llm_buffer_print(&b, metadata ? "{\"__metadata__\":%s" : "{%s",
                                    metadata ? metadata : "");
    if (t && count > 0) memcpy(t, tensor, count * sizeof *t);
    if (t) qsort(t, count, sizeof *t, llm_safetensors_by_dtype);
    for (size_t i = 0; i < count && ok; i++) {
        size_t element;
        const bool fits = llm_safetensors_bytes(&t[i].size, &t[i]);
        LLM_ASSERT(fits);
        (void)fits;
        ok = (b.size == 1 || llm_buffer_put(&b, ",", 1)) &&
             llm_json_put_string(&b, t[i].name, strlen(t[i].name)) &&
             llm_buffer_print(&b, ":{\"dtype\":\"%s\",\"shape\":[",
                              llm_safetensors_dtype_name(&element, t[i].dtype));
        for (size_t k = 0; k < t[i].rank && ok; k++)
            ok = llm_buffer_print(&b, k ? ",%zu" : "%zu", t[i].shape[k]);
        ok =
            ok && llm_buffer_print(&b, "],\"data_offsets\":[%zu,%zu]}", offset, offset + t[i].size);
        offset += t[i].size;
    }
    ok = ok && llm_buffer_put(&b, "}", 1);
    while (ok && b.size % 8 != 0) ok = llm_buffer_put(&b, " ", 1);
    if (!ok) llm_fail(error, "safetensors: out of memory");
    for (size_t i = 0; i < 8; i++) length[i] = (unsigned char)((uint64_t)b.size >> (8 * i));
    ok = ok && llm_file_begin(&w, path, error) && llm_file_put(&w, length, 8, error) &&
         llm_file_put(&w, b.data, b.size, error);
    for (size_t i = 0; i < count && ok; i++) ok = llm_file_put(&w, t[i].data, t[i].size, error);
    ok = ok && llm_file_commit(&w, error);
    llm_buffer_free(&b);
    free(t);
    return ok;
}

/* @gpt2 ---------------------------------------------------- GPT-2
 *
 *     x = wte[id] + wpe[t]
 *     x = block_l(x)                                        l = 1..L
 *     logits = LayerNorm(x) wte^T                           the head is the embedding
 *     loss = mean over targets of -log softmax(logits)[target]
 *
 * source  Radford et al. 2019, "Language Models are Unsupervised Multitask Learners"
 * needs   decoder_block layernorm embedding matmul cross_entropy adamw
 * see     @gpt2_file @gpt2_decode
 * topics  GPT-2 & Zero-Shot Task Transfer
 */

typedef struct {
    size_t vocab, context, layers, heads, width, hidden; /* V, Tmax, L, H, C, F */
    float eps;
} llm_gpt2_config;

/* The named parts of one flat vector. */
typedef struct {
    float *wte, *wpe;                 /* (V,C), (Tmax,C) */
    float *norm_w, *norm_b;           /* (C), (C): the last layer norm */
    llm_decoder_block_weights *block; /* (L) */
} llm_gpt2_weights;

typedef struct {
    llm_gpt2_config config;
    size_t count, matrices;          /* all weights; the first of them, which decay */
    float *w, *g, *m, *v;            /* (count) weights, gradients, AdamW's moments */
    llm_gpt2_weights weights, grads; /* into w and g */
    llm_arena memory;                /* holds all of the above and the activations below */
    size_t mark;                     /* where the activations start */

    size_t B, T, kept;             /* of the last forward: batch, and targets that counted */
    int *ids, *targets;            /* (B,T) */
    float *x;                      /* (L+1,B,T,C): the residual stream before each block */
    llm_decoder_block_acts *block; /* (L) */
    float *mean, *rstd, *norm;     /* (B,T), (B,T), (B,T,C): the last layer norm */
    float *logits;                 /* (B,T,V) */
    float *loss, *lse;             /* (B,T) */
} llm_gpt2;

LLM_API llm_gpt2_config llm_gpt2_defaults(void) { /* the 124M model */
    llm_gpt2_config c;
    c.vocab = 50257;
    c.context = 1024;
    c.layers = 12;
    c.heads = 12;
    c.width = 768;
    c.hidden = 3072;
    c.eps = 1e-5f;
    return c;
}

LLM_API llm_decoder_block_config llm_gpt2_block_config(const llm_gpt2_config *c) {
    llm_decoder_block_config b;
    b.width = c->width;
    b.heads = c->heads;
    b.hidden = c->hidden;
    b.parallel = false;
    b.eps = c->eps;
    return b;
}

/* Points t into flat, which may be NULL to count only. Returns the number of weights; *matrices
 * gets the number of those in matrices, which come first, so that weight decay is a prefix. */
LLM_API size_t llm_gpt2_bind(llm_gpt2_weights *t, float *flat, size_t *matrices,
                             const llm_gpt2_config *c) {
    const size_t C = c->width, F = c->hidden;
    float *p = flat;
    t->wte = p, p += c->vocab * C;
    t->wpe = p, p += c->context * C;
    for (size_t l = 0; l < c->layers; l++) {
        llm_decoder_block_weights *b = &t->block[l];
        b->qkv_w = p, p += 3 * C * C;
        b->out_w = p, p += C * C;
        b->ffn.up = p, p += F * C;
        b->ffn.down = p, p += C * F;
        b->ffn.gate = NULL;
    }
    *matrices = (size_t)(p - flat);
    for (size_t l = 0; l < c->layers; l++) {
        llm_decoder_block_weights *b = &t->block[l];
        b->norm1_w = p, p += C;
        b->norm1_b = p, p += C;
        b->qkv_b = p, p += 3 * C;
        b->out_b = p, p += C;
        b->norm2_w = p, p += C;
        b->norm2_b = p, p += C;
        b->ffn.up_bias = p, p += F;
        b->ffn.down_bias = p, p += C;
    }
    t->norm_w = p, p += C;
    t->norm_b = p, p += C;
    return (size_t)(p - flat);
}

LLM_API size_t llm_gpt2_count(const llm_gpt2_config *c) {
    const size_t C = c->width, F = c->hidden;
    return (c->vocab + c->context) * C + c->layers * (4 * C * C + 2 * C * F + 9 * C + F) + 2 * C;
}

/* Allocates a model for batches of up to B rows of T tokens; B = 0: weights only, for
 * llm_gpt2_decode. */
LLM_API bool llm_gpt2_create(llm_gpt2 *g, const llm_gpt2_config *c, size_t B, size_t T,
                             llm_error *e) {
    LLM_ASSERT(c->width % c->heads == 0 && T <= c->context);
    const size_t N = B * T, C = c->width, L = c->layers, count = llm_gpt2_count(c);
    const llm_decoder_block_config bc = llm_gpt2_block_config(c);
    size_t size = count * (B ? 4 : 1);
    size += N * (6 + (L + 4) * C + 2 * c->vocab) + llm_decoder_block_scratch_size(&bc, B, T) +
            L * llm_decoder_block_acts_size(&bc, B, T) + 16 * (32 + L);
    const size_t bytes = size * sizeof(float) + L * (2 * sizeof(llm_decoder_block_weights) +
                                                     sizeof(llm_decoder_block_acts));
    if (!llm_arena_create(&g->memory, bytes))
        return llm_fail(e, "no memory for a model of %zu weights, %zu bytes", count, bytes);
    g->config = *c;
    llm_arena *a = &g->memory;
    const size_t block_bytes = sizeof(llm_decoder_block_weights);
    g->weights.block = (llm_decoder_block_weights *)llm_arena_take(a, L, block_bytes);
    g->grads.block = (llm_decoder_block_weights *)llm_arena_take(a, L, block_bytes);
    g->block = (llm_decoder_block_acts *)llm_arena_take(a, L, sizeof(llm_decoder_block_acts));
    g->w = llm_arena_floats(a, count);
    g->count = llm_gpt2_bind(&g->weights, g->w, &g->matrices, c);
    g->g = g->m = g->v = NULL;
    if (B) {
        g->g = llm_arena_floats(a, count);
        g->m = llm_arena_floats(a, count);
        g->v = llm_arena_floats(a, count);
        llm_gpt2_bind(&g->grads, g->g, &g->matrices, c);
        memset(g->g, 0, count * sizeof(float));
        memset(g->m, 0, count * sizeof(float));
        memset(g->v, 0, count * sizeof(float));
    }
    g->mark = a->used;
    g->B = g->T = g->kept = 0;
    return true;
}

LLM_API void llm_gpt2_destroy(llm_gpt2 *g) { llm_arena_destroy(&g->memory); }

/* Weights N(0, 0.02), the two projections that write to the residual stream N(0, 0.02 / sqrt(2L)),
 * biases 0, gains 1. */
LLM_API void llm_gpt2_init(llm_gpt2 *g, llm_rng *rng) {
    const llm_gpt2_config *c = &g->config;
    const size_t C = c->width, F = c->hidden;
    const float scale = 1.0f / sqrtf(2.0f * (float)c->layers);
    llm_rng_normal_fill(rng, g->w, g->matrices);
    for (size_t i = 0; i < g->matrices; i++) g->w[i] *= 0.02f;
    for (size_t i = g->matrices; i < g->count; i++) g->w[i] = 0.0f;
    for (size_t l = 0; l < c->layers; l++) {
        const llm_decoder_block_weights *b = &g->weights.block[l];
        for (size_t i = 0; i < C * C; i++) b->out_w[i] *= scale;
        for (size_t i = 0; i < C * F; i++) b->ffn.down[i] *= scale;
        for (size_t i = 0; i < C; i++) b->norm1_w[i] = b->norm2_w[i] = 1.0f;
    }
    for (size_t i = 0; i < C; i++) g->weights.norm_w[i] = 1.0f;
}

/* Logits for ids (B,T). Returns the mean loss over the targets (B,T) that are not
 * LLM_CROSS_ENTROPY_IGNORE; 0 when targets is NULL. Overwrites the activations. */
LLM_API float llm_gpt2_forward(llm_gpt2 *g, const int *ids, const int *targets, size_t B,
                               size_t T) {
    const llm_gpt2_config *c = &g->config;
    const llm_decoder_block_config bc = llm_gpt2_block_config(c);
    const size_t N = B * T, C = c->width, L = c->layers;
    llm_arena *a = &g->memory;
    LLM_ASSERT(T <= c->context);
    a->used = g->mark;
    g->B = B, g->T = T, g->kept = 0;
    g->ids = (int *)llm_arena_take(a, N, sizeof(int));
    g->targets = (int *)llm_arena_take(a, N, sizeof(int));
    memcpy(g->ids, ids, N * sizeof(int));
    g->x = llm_arena_floats(a, (L + 1) * N * C);
    llm_embedding_forward(g->x, g->ids, g->weights.wte, N, c->vocab, C);
    for (size_t i = 0; i < N * C; i++) g->x[i] += g->weights.wpe[i % (T * C)];
    for (size_t l = 0; l < L; l++) {
        float *acts = llm_arena_floats(a, llm_decoder_block_acts_size(&bc, B, T));
        llm_decoder_block_bind(&g->block[l], acts, &bc, B, T);
        llm_decoder_block_forward(g->x + (l + 1) * N * C, &g->block[l], g->x + l * N * C,
                                  &g->weights.block[l], B, T, &bc);
    }
    g->mean = llm_arena_floats(a, N);
    g->rstd = llm_arena_floats(a, N);
    g->norm = llm_arena_floats(a, N * C);
    g->logits = llm_arena_floats(a, N * c->vocab);
    llm_layernorm_forward(g->norm, g->mean, g->rstd, g->x + L * N * C, g->weights.norm_w,
                          g->weights.norm_b, N, C, c->eps);
    llm_matmul_forward(g->logits, g->norm, g->weights.wte, NULL, N, C, c->vocab);
    if (!targets) return 0.0f;

    g->loss = llm_arena_floats(a, N);
    g->lse = llm_arena_floats(a, N);
    memcpy(g->targets, targets, N * sizeof(int));
    g->kept = llm_cross_entropy_forward(g->loss, g->lse, g->logits, g->targets, N, c->vocab);
    double sum = 0.0;
    for (size_t n = 0; n < N; n++) sum += (double)g->loss[n];
    return g->kept ? (float)(sum / (double)g->kept) : 0.0f;
}

/* g->g += gradient of the mean loss of the last forward. */
LLM_API void llm_gpt2_backward(llm_gpt2 *g) {
    const llm_gpt2_config *c = &g->config;
    const llm_decoder_block_config bc = llm_gpt2_block_config(c);
    const size_t N = g->B * g->T, C = c->width, L = c->layers;
    LLM_ASSERT(g->g && N);
    if (!g->kept) return;
    llm_arena *a = &g->memory;
    const size_t mark = a->used;
    float *d = llm_arena_floats(a, N * C), *dnorm = llm_arena_floats(a, N * C);
    float *dlogits = llm_arena_floats(a, N * c->vocab);
    memset(dlogits, 0, N * c->vocab * sizeof(float));
    llm_cross_entropy_backward(dlogits, g->logits, g->lse, g->targets, N, c->vocab,
                               1.0f / (float)g->kept);
    memset(dnorm, 0, N * C * sizeof(float));
    llm_matmul_backward(dnorm, g->grads.wte, NULL, dlogits, g->norm, g->weights.wte, N, C,
                        c->vocab);
    memset(d, 0, N * C * sizeof(float));
    llm_layernorm_backward(d, g->grads.norm_w, g->grads.norm_b, dnorm, g->x + L * N * C,
                           g->weights.norm_w, g->mean, g->rstd, N, C);
    for (size_t l = L; l-- > 0;) {
        llm_decoder_block_backward(d, &g->grads.block[l], &g->block[l], g->x + l * N * C,
                                   &g->weights.block[l], g->B, g->T, &bc, a);
    }
    llm_embedding_backward(g->grads.wte, d, g->ids, N, c->vocab, C);
    for (size_t i = 0; i < N * C; i++) g->grads.wpe[i % (g->T * C)] += d[i];
    a->used = mark;
}

/* One AdamW step, t counts from 1; biases and gains do not decay. Clears the gradients. */
LLM_API void llm_gpt2_step(llm_gpt2 *g, const llm_adamw_config *adamw, size_t t) {
    llm_adamw_config rest = *adamw;
    rest.weight_decay = 0.0f;
    const size_t n = g->matrices;
    llm_adamw_step(g->w, g->m, g->v, g->g, n, adamw, t);
    llm_adamw_step(g->w + n, g->m + n, g->v + n, g->g + n, g->count - n, &rest, t);
    memset(g->g, 0, g->count * sizeof(float));
}

/* @14-arch ================================================== BEYOND THE DENSE TRANSFORMER */

/* @15-decode ================================================ DECODING */

/* @kv_cache ------------------------------------------------- Key-value cache
 *
 * source  -
 * needs   -
 * topics  -
 */

/* Keys and values of L layers, B rows, H key/value heads, T positions (the capacity), D dimensions:
 * memory (L,2,B,H,T,D). The first length[b] positions of row b are filled. */
typedef struct {
    float *memory;
    size_t *length; /* (B) */
    size_t L, B, H, T, D;
} llm_kv_cache;

/* Takes 2 L B H T D floats and B sizes from the arena; all rows are empty. */
LLM_API void llm_kv_cache_create(llm_kv_cache *cache, size_t L, size_t B, size_t H, size_t T,
                                 size_t D, llm_arena *arena) {
    cache->L = L, cache->B = B, cache->H = H, cache->T = T, cache->D = D;
    cache->memory = llm_arena_floats(arena, 2 * L * B * H * T * D);
    cache->length = (size_t *)llm_arena_take(arena, B, sizeof(size_t));
    for (size_t b = 0; b < B; b++) cache->length[b] = 0;
}

/* Keys (T,D) of a head; its values stand B H T D floats further on. */
LLM_API float *llm_kv_cache_keys(const llm_kv_cache *cache, size_t l, size_t b, size_t h) {
    LLM_ASSERT(l < cache->L && b < cache->B && h < cache->H);
    return cache->memory + ((2 * l * cache->B + b) * cache->H + h) * cache->T * cache->D;
}
LLM_API float *llm_kv_cache_values(const llm_kv_cache *cache, size_t l, size_t b, size_t h) {
    return llm_kv_cache_keys(cache, l, b, h) + cache->B * cache->H * cache->T * cache->D;
}

/* Layer l <- k, v (B,H,n,D), the n positions behind length[b] of each row. The rows grow only by
 * llm_kv_cache_advance, when every layer has appended and attended. */
LLM_API void llm_kv_cache_append(llm_kv_cache *cache, size_t l, const float *k, const float *v,
                                 size_t n) {
    const size_t D = cache->D;
    for (size_t b = 0; b < cache->B; b++) {
        LLM_ASSERT(n <= cache->T - cache->length[b]);
        for (size_t h = 0; h < cache->H; h++) {
            const size_t from = (b * cache->H + h) * n * D, to = cache->length[b] * D;
            memcpy(llm_kv_cache_keys(cache, l, b, h) + to, k + from, n * D * sizeof(float));
            memcpy(llm_kv_cache_values(cache, l, b, h) + to, v + from, n * D * sizeof(float));
        }
    }
}

/* out (B,Hq,n,D) <- q (B,Hq,n,D), the queries of the n positions that layer l has just appended.
 * Query i of row b sees positions 0..length[b] + i; head h reads key/value head h / (Hq/H).
 * Scratch: B Hq T floats, given back. */
LLM_API void llm_kv_cache_attend(float *out, const llm_kv_cache *cache, size_t l, const float *q,
                                 size_t Hq, size_t n, llm_arena *arena) {
    LLM_ASSERT(Hq % cache->H == 0);
    const size_t D = cache->D, group = Hq / cache->H, mark = arena->used;
    const float scale = 1.0f / sqrtf((float)D);
    float *scratch = llm_arena_floats(arena, cache->B * Hq * cache->T);
    LLM_PARALLEL_FOR
    for (size_t bh = 0; bh < cache->B * Hq; bh++) {
        const float *k = llm_kv_cache_keys(cache, l, bh / Hq, bh % Hq / group);
        const float *v = llm_kv_cache_values(cache, l, bh / Hq, bh % Hq / group);
        float *p = scratch + bh * cache->T;
        for (size_t i = 0; i < n; i++) {
            const size_t seen = cache->length[bh / Hq] + i + 1;
            const float *qi = q + (bh * n + i) * D;
            float *o = out + (bh * n + i) * D, max = -INFINITY, sum = 0.0f;
            for (size_t j = 0; j < seen; j++) {
                float s = 0.0f;
                for (size_t d = 0; d < D; d++) s += qi[d] * k[j * D + d];
                p[j] = s * scale;
                max = p[j] > max ? p[j] : max;
            }
            for (size_t d = 0; d < D; d++) o[d] = 0.0f;
            for (size_t j = 0; j < seen; j++) {
                const float w = expf(p[j] - max);
                sum += w;
                for (size_t d = 0; d < D; d++) o[d] += w * v[j * D + d];
            }
            for (size_t d = 0; d < D; d++) o[d] /= sum;
        }
    }
    arena->used = mark;
}

/* Row b becomes count[b] positions longer, or n with count NULL. */
LLM_API void llm_kv_cache_advance(llm_kv_cache *cache, const size_t *count, size_t n) {
    for (size_t b = 0; b < cache->B; b++) {
        const size_t more = count ? count[b] : n;
        LLM_ASSERT(more <= cache->T - cache->length[b]);
        cache->length[b] += more;
    }
}

/* @greedy --------------------------------------------------- Greedy decoding
 *
 * source  -
 * needs   -
 * topics  -
 */

/* The lowest index of the largest of logits (V). */
LLM_API int llm_greedy_pick(const float *logits, size_t V) {
    LLM_ASSERT(V > 0);
    size_t best = 0;
    for (size_t i = 1; i < V; i++) best = logits[i] > logits[best] ? i : best;
    return (int)best;
}

/* @temperature ---------------------------------------------- Softmax temperature
 *
 * source  -
 * needs   -
 * topics  -
 */

/* logits (V) in place: divided by temp; temp = 0 leaves the largest alone, the others become -inf. */
LLM_API void llm_temperature_apply(float *logits, size_t V, float temp) {
    LLM_ASSERT(temp >= 0.0f);
    const size_t best = (size_t)llm_greedy_pick(logits, V);
    for (size_t i = 0; i < V; i++) {
        if (temp > 0.0f)
            logits[i] /= temp;
        else if (i != best)
            logits[i] = -INFINITY;
    }
}

/* @top_k ---------------------------------------------------- Top-k sampling
 *
 * source  -
 * needs   -
 * topics  -
 */

/* logits (V) in place: all below the k-th largest become -inf; ties with it stay. Scratch: V indices
 * and V floats, given back. */
LLM_API void llm_top_k_filter(float *logits, size_t V, size_t k, llm_arena *arena) {
    LLM_ASSERT(k > 0);
    if (k >= V) return;
    const size_t mark = arena->used;
    size_t *order = (size_t *)llm_arena_take(arena, V, sizeof(size_t));
    llm_argsort(order, logits, V);
    const float least = logits[order[V - k]];
    for (size_t i = 0; i < V; i++) logits[i] = logits[i] < least ? -INFINITY : logits[i];
    arena->used = mark;
}

/* @top_p ---------------------------------------------------- Top-p sampling
 *
 * source  -
 * needs   -
 * topics  -
 */

/* logits (V) in place: the smallest set of most probable tokens whose mass reaches p stays, at least
 * min_keep of them; the others become -inf. Scratch: V indices and V floats, given back. */
LLM_API void llm_top_p_filter(float *logits, size_t V, float p, size_t min_keep, llm_arena *arena) {
    LLM_ASSERT(p >= 0.0f && p <= 1.0f && min_keep > 0);
    const size_t mark = arena->used;
    size_t *order = (size_t *)llm_arena_take(arena, V, sizeof(size_t));
    float *prob = llm_arena_floats(arena, V);
    llm_argsort(order, logits, V);
    llm_softmax_forward(prob, logits, 1, V, 1.0f);
    double below = 0.0; /* mass of the tokens up to and with this one, from the least probable on */
    for (size_t i = 0; i + min_keep < V; i++) {
        below += (double)prob[order[i]];
        if (below > 1.0 - (double)p) break;
        logits[order[i]] = -INFINITY;
    }
    arena->used = mark;
}

/* @sampling ------------------------------------------------- The sampler chain
 *
 * source  -
 * needs   -
 * topics  -
 */

/* A token with probability softmax(logits (V)), by walking the cumulated sum. */
LLM_API int llm_sampling_draw(const float *logits, size_t V, llm_rng *rng) {
    const float max = logits[llm_greedy_pick(logits, V)];
    double total = 0.0, below = 0.0;
    LLM_ASSERT(max > -INFINITY);
    for (size_t i = 0; i < V; i++) total += (double)expf(logits[i] - max);
    const double u = (double)llm_rng_uniform(rng) * total;
    size_t last = 0;
    for (size_t i = 0; i < V; i++) {
        if (logits[i] == -INFINITY) continue;
        last = i;
        below += (double)expf(logits[i] - max);
        if (u < below) break;
    }
    return (int)last;
}

/* @gpt2_decode --------------------------------------------- GPT-2, one token at a time
 *
 *     logits_t = GPT2(id_1 .. id_t)        reading only id_t and the cached keys and values
 *
 * Generation asks for one more row of logits at a time. Earlier rows do not change when a token is
 * appended (the attention is causal), so their keys and values are kept and everything else of them
 * is forgotten: a step reads every weight once and the cache once, and is limited by memory. A
 * prompt goes through the same code with n tokens at a time, which is what makes it fast: each
 * weight is read once for n tokens. When the context is full the oldest tokens have to go; positions
 * are learned and absolute, so the rest is computed anew.
 *
 * source  Radford et al. 2019, "Language Models are Unsupervised Multitask Learners"
 * needs   gpt2 kv_cache temperature top_k top_p sampling
 * see     @decoding @sampling @gpt2
 * topics  -
 */

typedef struct {
    const llm_gpt2 *model;
    llm_kv_cache cache; /* of one row */
    float *logits;      /* (V) after the last token */
    size_t chunk;       /* tokens in one pass, at most */
    llm_arena memory;
} llm_gpt2_decoder;

/* Allocates a cache for the model's whole context and scratch for passes of up to chunk tokens. */
LLM_API bool llm_gpt2_decoder_create(llm_gpt2_decoder *d, const llm_gpt2 *model, size_t chunk,
                                     llm_error *e) {
    const llm_gpt2_config *c = &model->config;
    LLM_ASSERT(chunk > 0);
    const size_t cache = 2 * c->layers * c->context * c->width, heads = c->heads * c->context;
    const size_t scratch = chunk * (8 * c->width + c->hidden) + heads + 3 * c->vocab;
    const size_t size = (cache + scratch + 16 * 16) * sizeof(float) + c->vocab * sizeof(size_t);
    if (!llm_arena_create(&d->memory, size)) {
        return llm_fail(e, "no memory for a key-value cache of %zu bytes", size);
    }
    d->model = model;
    d->chunk = chunk;
    d->logits = llm_arena_floats(&d->memory, c->vocab);
    llm_kv_cache_create(&d->cache, c->layers, 1, c->heads, c->context, c->width / c->heads,
                        &d->memory);
    return true;
}
LLM_API void llm_gpt2_decoder_destroy(llm_gpt2_decoder *d) { llm_arena_destroy(&d->memory); }

/* part (H,n,D) <- row (n,3C) at offset, or row (n,C) <- part when back. */
LLM_API void llm_gpt2_decode_heads(float *part, const float *rows, size_t stride, size_t n,
                                   size_t H, size_t D) {
    for (size_t h = 0; h < H; h++)
        for (size_t i = 0; i < n; i++)
            memcpy(part + (h * n + i) * D, rows + i * stride + h * D, D * sizeof(float));
}

/* d->logits <- ids (n), which are appended to what d has seen. */
LLM_API void llm_gpt2_decode(llm_gpt2_decoder *d, const int *ids, size_t n) {
    const llm_gpt2 *g = d->model;
    const size_t C = g->config.width, H = g->config.heads, F = g->config.hidden, D = C / H;
    const float eps = g->config.eps;
    LLM_ASSERT(n <= g->config.context - d->cache.length[0]);
    for (; n > d->chunk; ids += d->chunk, n -= d->chunk) llm_gpt2_decode(d, ids, d->chunk);

    llm_arena *a = &d->memory;
    const size_t mark = a->used, past = d->cache.length[0];
    float *x = llm_arena_floats(a, n * C), *norm = llm_arena_floats(a, n * C);
    float *qkv = llm_arena_floats(a, n * 3 * C), *heads = llm_arena_floats(a, n * 3 * C);
    float *hidden = llm_arena_floats(a, n * F);
    llm_embedding_forward(x, ids, g->weights.wte, n, g->config.vocab, C);
    for (size_t i = 0; i < n * C; i++) x[i] += g->weights.wpe[past * C + i];
    for (size_t l = 0; l < g->config.layers; l++) {
        const llm_decoder_block_weights *w = &g->weights.block[l];
        llm_layernorm_forward(norm, NULL, NULL, x, w->norm1_w, w->norm1_b, n, C, eps);
        llm_matmul_forward(qkv, norm, w->qkv_w, w->qkv_b, n, C, 3 * C);
        float *q = heads, *k = q + n * C, *v = k + n * C;
        llm_gpt2_decode_heads(q, qkv, 3 * C, n, H, D);
        llm_gpt2_decode_heads(k, qkv + C, 3 * C, n, H, D);
        llm_gpt2_decode_heads(v, qkv + 2 * C, 3 * C, n, H, D);
        llm_kv_cache_append(&d->cache, l, k, v, n);
        llm_kv_cache_attend(norm, &d->cache, l, q, H, n, a);
        for (size_t i = 0; i < n; i++)
            for (size_t h = 0; h < H; h++)
                memcpy(q + i * C + h * D, norm + (h * n + i) * D, D * sizeof(float));
        llm_matmul_forward(norm, q, w->out_w, w->out_b, n, C, C);
        for (size_t i = 0; i < n * C; i++) x[i] += norm[i];

        llm_layernorm_forward(norm, NULL, NULL, x, w->norm2_w, w->norm2_b, n, C, eps);
        llm_matmul_forward(hidden, norm, w->ffn.up, w->ffn.up_bias, n, C, F);
        llm_activation_forward(hidden, hidden, n * F, LLM_ACTIVATION_GELU_TANH);
        llm_matmul_forward(norm, hidden, w->ffn.down, w->ffn.down_bias, n, F, C);
        for (size_t i = 0; i < n * C; i++) x[i] += norm[i];
    }
    llm_kv_cache_advance(&d->cache, NULL, n);
    llm_layernorm_forward(norm, NULL, NULL, x + (n - 1) * C, g->weights.norm_w, g->weights.norm_b,
                          1, C, eps);
    llm_matmul_forward(d->logits, norm, g->weights.wte, NULL, 1, C, g->config.vocab);
    a->used = mark;
}

/* The next token: d->logits through temperature, top-k (0: all) and top-p (1: all), then drawn. */
LLM_API int llm_gpt2_decode_pick(llm_gpt2_decoder *d, float temp, size_t k, float p, llm_rng *rng) {
    const size_t V = d->model->config.vocab, mark = d->memory.used;
    float *logits = llm_arena_floats(&d->memory, V);
    memcpy(logits, d->logits, V * sizeof(float));
    llm_temperature_apply(logits, V, temp);
    if (k > 0) llm_top_k_filter(logits, V, k, &d->memory);
    if (p < 1.0f) llm_top_p_filter(logits, V, p, 1, &d->memory);
    const int id = llm_sampling_draw(logits, V, rng);
    d->memory.used = mark;
    return id;
}

/* ids (n + count): count tokens sampled behind the n of the prompt. A full context drops its older
 * half. Returns false when stop (an id, or -1) was drawn; *count gets the number of tokens. */
LLM_API void llm_gpt2_generate(llm_gpt2_decoder *d, int *ids, size_t n, size_t count, float temp,
                               size_t k, float p, llm_rng *rng) {
    const size_t context = d->model->config.context;
    size_t seen = 0; /* ids[seen ..] are not in the cache yet */
    LLM_ASSERT(n > 0);
    d->cache.length[0] = 0;
    for (size_t end = n + count; n < end; n++) {
        if (n - seen > context - d->cache.length[0]) {
            d->cache.length[0] = 0;
            seen = n - (context + 1) / 2;
        }
        llm_gpt2_decode(d, ids + seen, n - seen);
        seen = n;
        ids[n] = llm_gpt2_decode_pick(d, temp, k, p, rng);
    }
}

/* @16-gpu =================================================== GPUS AND NUMBER FORMATS */

/* @17-compress ============================================== COMPRESSION */

/* @18-dist ================================================== DISTRIBUTED TRAINING */

/* @19-serve ================================================= INFERENCE AND SERVING */

/* @20-ops =================================================== OPERATING MACHINE-LEARNING SYSTEMS */

/* @21-pretrain ============================================== PRETRAINING, DATA AND SCALE */

/* @22-finetune ============================================== FINE-TUNING AND MERGING */

/* @23-rl ==================================================== REINFORCEMENT LEARNING */

/* @24-align ================================================= PREFERENCE ALIGNMENT */

/* @25-reason ================================================ PROMPTING, REASONING AND AGENTS */

/* @26-retrieval ============================================= RETRIEVAL AND GROUNDING */

/* @27-eval ================================================== EVALUATION AND UNCERTAINTY */

/* @28-interp ================================================ INTERPRETABILITY */

/* @29-safety ================================================ SAFETY AND SECURITY */

/* @30-repr ================================================== REPRESENTATION LEARNING */

/* @31-gen =================================================== GENERATIVE MODELS */

/* @32-multi ================================================ VISION, AUDIO AND MULTIMODAL MODELS */

/* @licence ================================================== MIT LICENSE
 *
 * MIT License. Copyright (c) 2026 the llm.h authors.
 *
 * Permission is hereby granted, free of charge, to any person obtaining a copy of this software and
 * associated documentation files (the "Software"), to deal in the Software without restriction,
 * including without limitation the rights to use, copy, modify, merge, publish, distribute,
 * sublicense, and/or sell copies of the Software, and to permit persons to whom the Software is
 * furnished to do so, subject to the following conditions:
 *
 * The above copyright notice and this permission notice shall be included in all copies or
 * substantial portions of the Software.
 *
 * THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT
 * NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND
 * NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM,
 * DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT
 * OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
 */
#endif

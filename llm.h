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

/* @base ----------------------------------------------------- Common ground
 *
 * source  -
 * needs   -
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

/* Before a loop whose turns write different outputs. */
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
 * source  -
 * needs   -
 * topics  -
 */
typedef struct {
    char message[256];
} llm_error;

/* Writes the sentence and returns false, so that a reader can end with `return llm_fail(...)`. error
 * may be NULL. */
#if defined(__GNUC__)
__attribute__((format(printf, 2, 3)))
#endif
LLM_API bool
llm_fail(llm_error *error, const char *format, ...) {
    if (error) {
        va_list args;
        va_start(args, format);
        vsnprintf(error->message, sizeof error->message, format, args);
        va_end(args);
        /* what a hostile file calls its parts may not speak to the terminal */
        for (char *c = error->message; *c; c++)
            if ((unsigned char)*c < 32 || *c == 127) *c = '?';
    }
    return false;
}

/* @size ----------------------------------------------------- Size arithmetic that cannot wrap
 *
 * source  -
 * needs   base
 * topics  -
 */

/* *out = a * b. Where that does not fit: false, and *out is SIZE_MAX, which no allocation survives. */
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
 * source  -
 * needs   base
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

/* A stack of scratch memory. Going back to a mark (arena->used) frees everything taken since. peak
 * is the most that was ever in use. */
typedef struct {
    unsigned char *memory;
    size_t size, used, peak;
} llm_arena;

/* An arena of that many bytes from malloc; false when memory is out. */
LLM_API bool llm_arena_create(llm_arena *arena, size_t bytes) {
    /* memory starts at a multiple of 64, and malloc's own pointer stands in front of it */
    unsigned char *block = bytes <= SIZE_MAX - 128 ? (unsigned char *)malloc(bytes + 128) : NULL;
    arena->memory = NULL;
    arena->size = arena->used = arena->peak = 0;
    if (!block) return false;
    arena->memory = block + 128 - (uintptr_t)block % 64;
    arena->size = bytes;
    memcpy(arena->memory - sizeof block, &block, sizeof block);
#if defined(LLM_ARENA_ASAN)
    ASAN_POISON_MEMORY_REGION(arena->memory, bytes);
#endif
    return true;
}

LLM_API void llm_arena_destroy(llm_arena *arena) {
    unsigned char *block = NULL;
    if (arena->memory) memcpy(&block, arena->memory - sizeof block, sizeof block);
#if defined(LLM_ARENA_ASAN)
    if (arena->memory) ASAN_UNPOISON_MEMORY_REGION(arena->memory, arena->size);
#endif
    free(block);
    arena->memory = NULL;
    arena->size = arena->used = arena->peak = 0;
}

LLM_API void *llm_arena_take(llm_arena *arena, size_t count, size_t size) {
    LLM_ASSERT(size == 0 || count <= (SIZE_MAX - 63) / size);
    const size_t bytes = (count * size + 63) / 64 * 64;
    LLM_ASSERT(bytes <= arena->size - arena->used);
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
 * source  Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3" (Philox 4x32-10)
 * needs   base
 * topics  -
 */

typedef struct {
    uint32_t key[2];
    uint64_t block;   /* counter of the next block of four words */
    uint32_t word[4]; /* the current block */
    int used;         /* how many of its words are spent */
} llm_rng;

LLM_API void llm_rng_philox(uint32_t out[4], const uint32_t ctr[4], const uint32_t key[2]) {
    uint32_t c0 = ctr[0], c1 = ctr[1], c2 = ctr[2], c3 = ctr[3], k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; round++) {
        const uint64_t a = (uint64_t)0xD2511F53u * c0, b = (uint64_t)0xCD9E8D57u * c2;
        c0 = (uint32_t)(b >> 32) ^ c1 ^ k0;
        c2 = (uint32_t)(a >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)b;
        c3 = (uint32_t)a;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0, out[1] = c1, out[2] = c2, out[3] = c3;
}

LLM_API llm_rng llm_rng_seed(uint64_t seed) {
    llm_rng rng;
    rng.key[0] = (uint32_t)seed;
    rng.key[1] = (uint32_t)(seed >> 32);
    rng.block = 0;
    rng.used = 4;
    for (int i = 0; i < 4; i++) rng.word[i] = 0;
    return rng;
}

LLM_API uint32_t llm_rng_u32(llm_rng *rng) {
    if (rng->used == 4) {
        const uint32_t ctr[4] = {(uint32_t)rng->block, (uint32_t)(rng->block >> 32), 0, 0};
        llm_rng_philox(rng->word, ctr, rng->key);
        rng->block++;
        rng->used = 0;
    }
    return rng->word[rng->used++];
}

/* Uniform in [0, 1), on a grid of 2^-24. */
LLM_API float llm_rng_uniform(llm_rng *rng) {
    return (float)(llm_rng_u32(rng) >> 8) * (1.0f / 16777216.0f);
}

/* Uniform in 0..n-1, by multiplying; the bias is below n / 2^32. */
LLM_API size_t llm_rng_below(llm_rng *rng, size_t n) {
    return (size_t)(((uint64_t)llm_rng_u32(rng) * (uint64_t)n) >> 32);
}

/* Standard normal by Box and Muller, one of the pair. */
LLM_API float llm_rng_normal(llm_rng *rng) {
    const float u = 1.0f - llm_rng_uniform(rng), v = llm_rng_uniform(rng);
    return sqrtf(-2.0f * logf(u)) * cosf(2.0f * LLM_PI * v);
}

LLM_API void llm_rng_normal_fill(llm_rng *rng, float *x, size_t n) {
    for (size_t i = 0; i < n; i++) x[i] = llm_rng_normal(rng);
}

/* @argsort -------------------------------------------------- Sorting by key
 *
 * source  -
 * needs   base
 * topics  -
 */

/* order (n): the permutation that sorts key ascending; equal keys stay in index order (heap sort
 * with the index as the second key). */
LLM_API bool llm_argsort_less(const float *key, size_t a, size_t b) {
    return key[a] < key[b] || (!(key[b] < key[a]) && a < b);
}
LLM_API void llm_argsort(size_t *order, const float *key, size_t n) {
    for (size_t i = 0; i < n; i++) order[i] = i;
    for (size_t start = n / 2, end = n; end > 1;) {
        size_t hole, moved;
        if (start > 0) {
            hole = --start;
            moved = order[hole];
        } else {
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
 * source  -
 * needs   base
 * topics  -
 */

/* Bytes that grow. Starts as zeros; after the first successful call data[size] is 0. */
typedef struct {
    char *data;
    size_t size, capacity;
} llm_buffer;

LLM_API void llm_buffer_free(llm_buffer *b) {
    free(b->data);
    b->data = NULL;
    b->size = b->capacity = 0;
}

/* Room for size more bytes and a 0. False, and the buffer as it was, when memory is out. */
LLM_API bool llm_buffer_reserve(llm_buffer *b, size_t size) {
    if (size > SIZE_MAX / 2 - 64 || b->size > SIZE_MAX / 2 - 64 - size) return false;
    const size_t least = b->size + size + 1;
    if (least <= b->capacity) return true;
    const size_t capacity = least < 64 ? 64 : least + b->capacity / 2;
    char *data = (char *)realloc(b->data, capacity);
    if (!data) return false;
    b->data = data;
    b->capacity = capacity;
    b->data[b->size] = 0;
    return true;
}

/* Appends; data may not point into the buffer. */
LLM_API bool llm_buffer_put(llm_buffer *b, const void *data, size_t size) {
    if (!llm_buffer_reserve(b, size)) return false;
    if (size > 0) memcpy(b->data + b->size, data, size);
    b->size += size;
    b->data[b->size] = 0;
    return true;
}

#if defined(__GNUC__)
__attribute__((format(printf, 2, 3)))
#endif
LLM_API bool
llm_buffer_print(llm_buffer *b, const char *format, ...) {
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
 * source  -
 * needs   -
 * topics  Log-Sum-Exp Trick
 */

LLM_API float llm_logsumexp(const float *x, size_t n) {
    float max = -INFINITY, sum = 0.0f;
    for (size_t i = 0; i < n; i++) max = x[i] > max ? x[i] : max;
    if (max == -INFINITY) return -INFINITY;
    for (size_t i = 0; i < n; i++) sum += expf(x[i] - max);
    return max + logf(sum);
}

/* @softmax -------------------------------------------------- Softmax
 *
 * source  -
 * needs   -
 * topics  Softmax
 */

/* p (rows,n) <- x (rows,n): exp(x / temp) normalised in each row; p may be x. */
LLM_API void llm_softmax_forward(float *p, const float *x, size_t rows, size_t n, float temp) {
    for (size_t r = 0; r < rows; r++) {
        const float *xr = x + r * n;
        float *pr = p + r * n;
        float max = -INFINITY, sum = 0.0f;
        for (size_t i = 0; i < n; i++) max = xr[i] > max ? xr[i] : max;
        for (size_t i = 0; i < n; i++) {
            pr[i] = expf((xr[i] - max) / temp);
            sum += pr[i];
        }
        for (size_t i = 0; i < n; i++) pr[i] /= sum;
    }
}

/* @02-prob ============================================= PROBABILITY, STATISTICS AND INFORMATION */

/* @03-learn ============================================= LEARNING AND AUTOMATIC DIFFERENTIATION */

/* @04-classic =============================================== CLASSICAL MACHINE LEARNING */

/* @05-infer ============================================== PROBABILISTIC INFERENCE AND CAUSALITY */

/* @06-nn ==================================================== NEURONS, LAYERS AND NORMALIZATION */

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

/* @08-recurrent =============================== RECURRENT, MEMORY, GRAPH AND CONTINUOUS NETWORKS */

/* @09-theory ================================================ LEARNING THEORY */

/* @10-text ================================================== TEXT, COUNTS AND EMBEDDINGS */

/* @embedding ------------------------------------------------ Embedding layer
 *
 *     y_n = w[id_n]
 *
 * source  -
 * needs   base
 * topics  Embedding layer
 */

/* y (N,C) <- ids (N), w (V,C). An id outside 0..V-1 is an error of the caller. */
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
        for (size_t c = 0; c < C; c++) dw[(size_t)ids[n] * C + c] += dy[n * C + c];
    }
    (void)V;
}

/* @11-token ================================================= TOKENIZATION */

/* @12-attn ================================================== ATTENTION AND POSITION */

/* @13-transformer =========================================== TRANSFORMERS AND LANGUAGE MODELS */

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

/* @14-arch ================================================== BEYOND THE DENSE TRANSFORMER */

/* @15-decode ================================================ DECODING */

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

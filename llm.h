/* llm.h: machine learning and large language models in one C header.
 *
 * What     Every topic of the field as one section: the formula, a readable scalar CPU reference
 *          with its backward pass, and tests that do not trust it. The book is this file, read from
 *          top to bottom; beside each section stands a note (notes/NN-chapter/slug.md), and for the
 *          hot ones a CUDA kernel of the same name (llm_cuda.cuh).
 * Use      #include "llm.h" in any number of files of a C99 or C++17 project, link with -lm: there
 *          is nothing to define and nothing to build. What makes it fast: -O3 -march=native
 *          -ffp-contract=fast -fno-math-errno -fopenmp.
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

/* CONTENTS (make toc)
 *
 * 00-base                    COMMON GROUND
 *   base                     The macros every section uses
 *   error                    One sentence that says what is wrong
 *   size                     Size arithmetic that cannot wrap
 *   arena                    Scratch memory
 *   rng                      Counter-based random numbers
 *   argsort                  Sorting by key
 *   buffer                   Bytes that grow
 *   file                     Files, whole or absent
 *   json_token               JSON: strings and numbers
 *   json                     JSON
 *   json_put                 JSON: writing
 *   exp                      Exponential and tanh that vectorise
 *   lanes                    A vector of floats
 *   transpose                Rows become columns
 *   gemm                     The kernel under every matrix product
 *   matmul                   Matrix product, the linear layer
 * 01-linalg                  FUNCTIONS, VECTORS AND MATRICES
 *   logsumexp                Log-sum-exp
 *   softmax                  Softmax
 *   sparsemax                Sparsemax
 * 02-prob                    PROBABILITY, STATISTICS AND INFORMATION
 *   cross_entropy            Cross-entropy
 * 03-learn                   LEARNING AND AUTOMATIC DIFFERENTIATION
 * 04-classic                 CLASSICAL MACHINE LEARNING
 * 05-infer                   PROBABILISTIC INFERENCE AND CAUSALITY
 * 06-nn                      NEURONS, LAYERS AND NORMALIZATION
 *   activation               Activation functions
 *   swiglu                   SwiGLU
 *   dense                    Fully connected layer
 *   xavier_init              Xavier initialization
 *   residual                 Residual connection
 *   dropout                  Dropout
 *   layernorm                Layer normalization
 *   rmsnorm                  Root mean square normalization
 * 07-optim                   OPTIMIZATION
 *   adamw                    AdamW
 *   lr_schedule              Learning-rate schedules
 *   warmup                   Warmup
 *   cosine_lr                Cosine annealing
 *   grad_clip                Gradient clipping
 *   grad_accum               Gradient accumulation
 * 08-recurrent               RECURRENT, MEMORY, GRAPH AND CONTINUOUS NETWORKS
 * 09-theory                  LEARNING THEORY
 * 10-text                    TEXT, COUNTS AND EMBEDDINGS
 *   perplexity               Perplexity and bits per byte
 *   embedding                Embedding layer forward and backward
 *   interpolated_lm          N-gram model, interpolated discounting
 * 11-token                   TOKENIZATION
 *   unicode                  Code points and their classes
 *   pre_tokenize             Pre-tokenization
 *   vocab_table              Byte strings and their numbers
 *   byte_level               Bytes as printable characters
 *   heap                     A heap in an array
 *   bpe                      Byte pair encoding: encode and decode
 *   bpe_train                Byte pair encoding: training
 *   added_tokens             Added tokens: strings that are one id
 *   tokenizer_text           Text to ids
 *   tokenizer_vocab          Vocabulary and merges from a file
 *   tokenizer_json           The parts of a tokenizer.json
 *   tokenizer_save           Write a tokenizer.json
 *   tokenizer                Tokenizer
 * 12-attn                    ATTENTION AND POSITION
 *   qkv                      Query, key and value projections
 *   causal_attn              Causal self-attention
 *   mha                      Multi-head attention
 *   rope                     Rotary position embedding
 *   gqa                      Grouped-query attention
 *   flash                    FlashAttention
 * 13-transformer             TRANSFORMERS AND LANGUAGE MODELS
 *   ffn                      Position-wise MLP
 *   prenorm                  Where the norm stands
 *   decoder_block            Decoder block
 *   softmax_head             Softmax head: logits, loss, gradient
 *   weight_tying             Weight tying
 *   next_token               Next-token prediction
 *   safetensors_dtype        Weight files: element types
 *   llama_block              Decoder block, the form of Llama
 *   decoder_only             Decoder-only Transformer, Llama style
 *   safetensors              Weight files: safetensors, reading
 *   safetensors_write        Weight files: safetensors, writing
 *   gpt2_weights             GPT-2's weights in one vector
 *   gpt2                     GPT-2
 *   gpt2_config              GPT-2's config.json
 *   gpt2_file                GPT-2's weight files
 *   gpt2_run                 A training that can be interrupted
 * 14-arch                    BEYOND THE DENSE TRANSFORMER
 * 15-decode                  DECODING
 *   kv_cache                 Key-value cache
 *   decoding                 The generation loop
 *   greedy                   Greedy decoding
 *   temperature              Softmax temperature
 *   top_k                    Top-k sampling
 *   top_p                    Top-p (nucleus) sampling
 *   min_p                    Min-p, typical, epsilon, eta, n-sigma
 *   sampling                 The sampler chain
 *   sampling_control         XTC, Mirostat, without replacement
 *   gpt2_decode              GPT-2, one token at a time
 * 16-gpu                     GPUS AND NUMBER FORMATS
 * 17-compress                COMPRESSION
 * 18-dist                    DISTRIBUTED TRAINING
 * 19-serve                   INFERENCE AND SERVING
 * 20-ops                     OPERATING MACHINE-LEARNING SYSTEMS
 * 21-pretrain                PRETRAINING, DATA AND SCALE
 * 22-finetune                FINE-TUNING AND MERGING
 * 23-rl                      REINFORCEMENT LEARNING
 * 24-align                   PREFERENCE ALIGNMENT
 * 25-reason                  PROMPTING, REASONING AND AGENTS
 * 26-retrieval               RETRIEVAL AND GROUNDING
 * 27-eval                    EVALUATION AND UNCERTAINTY
 * 28-interp                  INTERPRETABILITY
 * 29-safety                  SAFETY AND SECURITY
 * 30-repr                    REPRESENTATION LEARNING
 * 31-gen                     GENERATIVE MODELS
 * 32-multi                   VISION, AUDIO AND MULTIMODAL MODELS
 */

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

/* Before a function: its arguments follow printf's rules, the format is number f (from 1). */
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

/* The two kinds that sections ask for. */
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
 * float, where two libraries disagree about once in 10^7 draws, and then in the last bit.
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

/* z (2): two independent standard normals from two words, by Box and Muller: radius and angle. At
 * most 6.8, as u is at least 2^-33; in double, because in float u = 1 - 2^-33 is 1. */
LLM_API void llm_rng_normal_pair(float z[2], llm_rng *rng) {
    const double u = ((double)llm_rng_u32(rng) + 0.5) / 4294967296.0;
    const double turns = (double)llm_rng_u32(rng) / 4294967296.0;
    const double radius = sqrt(-2.0 * log(u)), angle = 2.0 * 3.14159265358979323846 * turns;
    z[0] = (float)(radius * cos(angle));
    z[1] = (float)(radius * sin(angle));
}

/* One of a pair, the other is lost. */
LLM_API float llm_rng_normal(llm_rng *rng) {
    float z[2];
    llm_rng_normal_pair(z, rng);
    return z[0];
}

/* x (n) in pairs: twice as fast as n calls of llm_rng_normal, and other numbers. */
LLM_API void llm_rng_normal_fill(llm_rng *rng, float *x, size_t n) {
    for (size_t i = 0; i + 1 < n; i += 2) llm_rng_normal_pair(x + i, rng);
    if (n % 2 == 1) x[n - 1] = llm_rng_normal(rng);
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

/* Frees the bytes; the buffer is empty again. */
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
 *     write to NAME.tmp0  ->  flush  ->  rename to NAME
 *
 * A checkpoint is written while the program can be killed and the disk can be full. Written in
 * place it would leave half a file under the right name, with the old one gone. rename replaces a
 * name in one step, so a reader sees the old file or the new one, and after any failure the old one
 * is still there. What is easily got wrong: a full disk shows only when the last buffer is
 * flushed, so the results of flush and close count as much as those of write.
 *
 * source  POSIX.1-2017, rename() (the new name exists throughout), mmap()
 * needs   error buffer
 * see     @json @safetensors
 * topics  -
 */
typedef struct {
    unsigned char *data;
    size_t size;
    bool mapped; /* data are pages of the file, not from malloc */
} llm_file;

/* Frees or unmaps. */
LLM_API void llm_file_free(llm_file *f) {
#if defined(__unix__) || defined(__APPLE__)
    if (f->mapped) munmap(f->data, f->size);
#endif
    if (!f->mapped) free(f->data);
    f->data = NULL;
    f->size = 0;
    f->mapped = false;
}

/* The whole file or pipe: read until nothing comes, as a size asked for beforehand can be wrong.
 * data[size] is 0, so text can be scanned without counting. */
LLM_API bool llm_file_read(llm_file *f, const char *path, llm_error *error) {
    llm_buffer b = {NULL, 0, 0};
    f->data = NULL;
    f->size = 0;
    f->mapped = false;
    FILE *stream = fopen(path, "rb");
    if (!stream) return llm_fail(error, "%s: cannot be opened: %s", path, strerror(errno));
    bool fits = true;
    for (size_t got = 1; fits && got > 0; b.size += got) {
        fits = llm_buffer_reserve(&b, b.size < 65536 ? 65536 : b.size / 2);
        got = fits ? fread(b.data + b.size, 1, b.capacity - b.size, stream) : 0;
    }
    const bool broken = ferror(stream) != 0;
    const int cause = errno;
    fclose(stream);
    if (!fits || broken) {
        llm_buffer_free(&b);
        return llm_fail(error, "%s: cannot be read: %s", path, strerror(fits ? cause : ENOMEM));
    }
    b.data[b.size] = 0;
    f->data = (unsigned char *)b.data;
    f->size = b.size;
    return true;
}

/* The same bytes, mapped where the system can: no copy, and pages nobody looks at are never read.
 * They may not be written to, no 0 stands behind them, and a file that somebody shortens meanwhile
 * kills the program: for large files that nobody changes. */
LLM_API bool llm_file_map(llm_file *f, const char *path, llm_error *error) {
#if defined(__unix__) || defined(__APPLE__)
    struct stat info;
    void *pages = MAP_FAILED;
    if (stat(path, &info) == 0 && S_ISREG(info.st_mode)) { /* to open a pipe is to read from it */
        const int descriptor = open(path, O_RDONLY);
        if (descriptor >= 0 && fstat(descriptor, &info) == 0 && info.st_size > 0 &&
            (uintmax_t)info.st_size <= SIZE_MAX) {
            f->size = (size_t)info.st_size;
            pages = mmap(NULL, f->size, PROT_READ, MAP_PRIVATE, descriptor, 0);
        }
        if (descriptor >= 0) close(descriptor);
    }
    f->data = (unsigned char *)pages;
    f->mapped = pages != MAP_FAILED;
    if (f->mapped) return true;
#endif
    return llm_file_read(f, path, error);
}

/* A file on its way. put and commit that fail have cleaned up: nothing is left to be called, and
 * calls that follow return false without another sentence. */
typedef struct {
    FILE *stream;
    char *path, *temporary;
} llm_file_writer;

/* Gives up: the temporary file is removed, the old one stays. After a commit it does nothing. */
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

/* Opens a temporary file in path's directory, so that rename need not copy. A path that exists must
 * be a plain file: a device or a pipe would be replaced by one. */
LLM_API bool llm_file_begin(llm_file_writer *w, const char *path, llm_error *error) {
    const size_t length = strlen(path);
    w->stream = NULL;
    w->path = w->temporary = NULL;
#if defined(__unix__) || defined(__APPLE__)
    struct stat info;
    if (stat(path, &info) == 0 && !S_ISREG(info.st_mode))
        return llm_fail(error, "%s: cannot be written: it is not a plain file", path);
#endif
    w->path = (char *)malloc(length + 1);
    w->temporary = (char *)malloc(length + 16);
    if (!w->path || !w->temporary) {
        llm_file_abort(w);
        return llm_fail(error, "%s: cannot be written: %s", path, strerror(ENOMEM));
    }
    memcpy(w->path, path, length + 1);
    errno = EEXIST;
    for (int i = 0; i < 1000 && !w->stream && errno == EEXIST; i++) {
        snprintf(w->temporary, length + 16, "%s.tmp%d", path, i);
        w->stream = fopen(w->temporary, "wbx"); /* x: fails where the name is taken */
    }
    if (w->stream) return true;
    llm_fail(error, "%s: cannot be created: %s", w->temporary, strerror(errno));
    llm_file_abort(w);
    return false;
}

/* Appends size bytes. */
LLM_API bool llm_file_put(llm_file_writer *w, const void *data, size_t size, llm_error *error) {
    if (!w->stream) return false;
    if (size == 0 || fwrite(data, 1, size, w->stream) == size) return true;
    llm_fail(error, "%s: cannot be written: %s", w->path, strerror(errno));
    llm_file_abort(w);
    return false;
}

/* The file is there, whole, when this returns true. */
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

/* All three in one. */
LLM_API bool llm_file_write(const char *path, const void *data, size_t size, llm_error *error) {
    llm_file_writer w;
    return llm_file_begin(&w, path, error) && llm_file_put(&w, data, size, error) &&
           llm_file_commit(&w, error);
}

/* @json_token ----------------------------------------------- JSON: strings and numbers
 *
 *     string = quote *( UTF-8 from U+0020, no quote, no backslash | escape ) quote
 *     number = [ "-" ] ( "0" | digit1-9 *digit ) [ "." 1*digit ] [ ( "e" | "E" ) [ sign ] 1*digit ]
 *
 * What stands inside a JSON text besides brackets, commas and colons, exactly as RFC 8259 has it:
 * no leading zeros or plus signs, no raw control characters, no bytes that are not UTF-8. The RFC
 * leaves open what half a surrogate pair means: it is refused, as no UTF-8 can hold it. Numbers are
 * rounded correctly to double whatever the length and the locale; too large ones are infinite.
 *
 * source  Bray 2017, RFC 8259, sections 6 to 8; The Unicode Standard, table 3-7 (UTF-8)
 * needs   error
 * see     @json (the tree)
 * topics  -
 */
typedef struct {
    const unsigned char *text, *at, *end;
    char *out; /* where the next string goes: never longer than what it is read from */
    llm_error *error;
} llm_json_token;

/* False, and "JSON, byte 7: found 'x', expected a digit". */
LLM_API bool llm_json_token_fail(const llm_json_token *r, const char *expected) {
    const size_t byte = (size_t)(r->at - r->text);
    if (r->at == r->end)
        return llm_fail(r->error, "JSON, byte %zu: the text ends, expected %s", byte, expected);
    if (*r->at < 33 || *r->at > 126)
        return llm_fail(r->error, "JSON, byte %zu: found byte 0x%02x, expected %s", byte, *r->at,
                        expected);
    return llm_fail(r->error, "JSON, byte %zu: found '%c', expected %s", byte, *r->at, expected);
}

/* Whether c comes next. */
LLM_API bool llm_json_token_is(const llm_json_token *r, char c) {
    return r->at < r->end && *r->at == (unsigned char)c;
}

/* Skips the four characters that may stand between tokens. */
LLM_API void llm_json_token_space(llm_json_token *r) {
    while (llm_json_token_is(r, ' ') || llm_json_token_is(r, '\n') || llm_json_token_is(r, '\t') ||
           llm_json_token_is(r, '\r'))
        r->at++;
}

/* The length of the UTF-8 character at s < end: 1 to 4, or 0 where it is none: a stray byte, cut
 * off, longer than needed (C0, E0 80), a surrogate (ED A0), above U+10FFFF (F4 90). */
LLM_API size_t llm_json_token_utf8(const unsigned char *s, const unsigned char *end) {
    if (s[0] < 0x80) return 1;
    if (s[0] < 0xC2 || s[0] > 0xF4) return 0;
    const size_t n = s[0] < 0xE0 ? 2 : s[0] < 0xF0 ? 3 : 4;
    if ((size_t)(end - s) < n) return 0;
    const unsigned low = s[0] == 0xE0 ? 0xA0 : s[0] == 0xF0 ? 0x90 : 0x80;
    const unsigned high = s[0] == 0xED ? 0x9F : s[0] == 0xF4 ? 0x8F : 0xBF;
    if (s[1] < low || s[1] > high) return 0;
    for (size_t i = 2; i < n; i++)
        if (s[i] < 0x80 || s[i] > 0xBF) return 0;
    return n;
}

/* code <- uXXXX; it is 0 before. */
LLM_API bool llm_json_token_hex(llm_json_token *r, uint32_t *code) {
    if (!llm_json_token_is(r, 'u')) return llm_json_token_fail(r, "an escape: one of \"\\/bfnrtu");
    r->at++;
    for (int i = 0; i < 4; i++, r->at++) {
        static const char digits[] = "0123456789abcdefABCDEF";
        const char *digit = r->at < r->end && *r->at ? strchr(digits, *r->at) : NULL;
        if (!digit) return llm_json_token_fail(r, "a hexadecimal digit");
        *code = *code * 16 + (uint32_t)(digit - digits) - (digit - digits > 15 ? 6 : 0);
    }
    return true;
}

/* A backslash and what follows it, to r->out. */
LLM_API bool llm_json_token_escape(llm_json_token *r) {
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    const unsigned char *backslash = r->at++;
    const char *letter = r->at < r->end && *r->at ? strchr(from, *r->at) : NULL;
    if (letter) {
        *r->out++ = to[letter - from];
        r->at++;
        return true;
    }
    uint32_t code = 0, low = 0;
    if (!llm_json_token_hex(r, &code)) return false;
    if (code >= 0xD800 && code <= 0xDFFF) {
        if (code < 0xDC00 && llm_json_token_is(r, '\\')) {
            r->at++;
            if (!llm_json_token_hex(r, &low)) return false;
        }
        if (low < 0xDC00 || low > 0xDFFF) {
            r->at = backslash;
            return llm_json_token_fail(r, "no half of a surrogate pair");
        }
        code = 0x10000 + ((code & 0x3FF) << 10 | (low & 0x3FF));
    }
    const int more = code < 0x80 ? 0 : code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
    static const unsigned lead[4] = {0, 0xC0, 0xE0, 0xF0};
    *r->out++ = (char)(lead[more] | code >> (6 * more));
    for (int i = more; i-- > 0;) *r->out++ = (char)(0x80 | (code >> (6 * i) & 0x3F));
    return true;
}

/* text (size, and a 0) <- a string, in r's memory. */
LLM_API bool llm_json_token_string(llm_json_token *r, const char **text, size_t *size) {
    if (!llm_json_token_is(r, '"')) return llm_json_token_fail(r, "a string");
    *text = r->out;
    for (r->at++; !llm_json_token_is(r, '"');) {
        if (r->at == r->end) return llm_json_token_fail(r, "a quote that ends the string");
        if (*r->at == '\\') {
            if (!llm_json_token_escape(r)) return false;
            continue;
        }
        const size_t n = *r->at < 32 ? 0 : llm_json_token_utf8(r->at, r->end);
        if (n == 0) return llm_json_token_fail(r, "UTF-8 from U+0020");
        for (size_t i = 0; i < n; i++) *r->out++ = (char)*r->at++;
    }
    r->at++;
    *size = (size_t)(r->out - *text);
    *r->out++ = 0;
    return true;
}

/* Skips one digit or more. */
LLM_API bool llm_json_token_digits(llm_json_token *r) {
    if (r->at == r->end || *r->at < '0' || *r->at > '9') return llm_json_token_fail(r, "a digit");
    while (r->at < r->end && *r->at >= '0' && *r->at <= '9') r->at++;
    return true;
}

/* text (size, and a 0) <- a number as it is spelt. */
LLM_API bool llm_json_token_number(llm_json_token *r, const char **text, size_t *size) {
    const unsigned char *start = r->at;
    if (llm_json_token_is(r, '-')) r->at++;
    if (llm_json_token_is(r, '0')) {
        r->at++; /* and no digit behind it */
    } else if (!llm_json_token_digits(r)) {
        return false;
    }
    if (llm_json_token_is(r, '.')) {
        r->at++;
        if (!llm_json_token_digits(r)) return false;
    }
    if (llm_json_token_is(r, 'e') || llm_json_token_is(r, 'E')) {
        r->at++;
        if (llm_json_token_is(r, '+') || llm_json_token_is(r, '-')) r->at++;
        if (!llm_json_token_digits(r)) return false;
    }
    *text = r->out;
    *size = (size_t)(r->at - start);
    memcpy(r->out, start, *size);
    r->out += *size;
    *r->out++ = 0;
    return true;
}

/* The double nearest to a number's text. strtod wants the decimal point of the locale, so it gets
 * an integer and a power of ten. Where two doubles are equally near, the number has at most 767
 * digits; behind 770 it only matters whether anything follows. */
LLM_API double llm_json_token_double(const char *s) {
    char integer[800];
    size_t n = 0;
    long long power = 0, exponent = 0;
    bool point = false, more = false;
    if (*s == '-') integer[n++] = *s++;
    const size_t first = n;
    integer[n++] = '0';
    for (; *s && *s != 'e' && *s != 'E'; s++) {
        if (*s == '.') {
            point = true;
            continue;
        }
        if (point) power--;
        if (n == first + 1 && *s == '0') continue;
        if (n < 772) {
            integer[n++] = *s;
        } else {
            power++;
            more = more || *s != '0';
        }
    }
    if (more && integer[n - 1] == '0') integer[n - 1] = '1';
    if (*s) {
        const bool down = s[1] == '-';
        for (s += s[1] == '-' || s[1] == '+' ? 2 : 1; *s; s++)
            if (exponent < 1000000000000000) exponent = exponent * 10 + (*s - '0');
        power += down ? -exponent : exponent;
    }
    integer[n] = 0;
    if (power != 0) snprintf(integer + n, sizeof integer - n, "e%lld", power);
    return strtod(integer, NULL);
}

/* @json ----------------------------------------------------- JSON
 *
 *     value = null | false | true | number | string
 *           | "[" value, ... "]" | "{" string: value, ... "}"
 *
 * Tokenizers, configurations and the headers of weight files are JSON. The whole text becomes one
 * array of nodes in the order in which the values start: a container knows its first child, a child
 * its next sibling. Nothing recurses: while a container is open, its `next` is its parent, so the
 * tree is its own stack. Brackets nest at most LLM_JSON_DEPTH deep, because who walks the tree
 * will recurse. Time is linear; memory is the text's size and 72 bytes for each , [ and { in it.
 * Two members of one name are both kept; a lookup finds the last, as Python's does.
 *
 * source  Bray 2017, RFC 8259
 * needs   error size json_token
 * see     @safetensors
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

/* text is a string's value, or a number as it is spelt (number has 53 bits); key is the name of an
 * object's member, NULL elsewhere. Both are UTF-8 with a 0 behind, and may hold one inside. */
typedef struct {
    llm_json_kind kind;
    double number;
    const char *key, *text;
    size_t key_size, text_size;
    size_t count, first, next; /* children; indices of nodes, 0 for none */
} llm_json_node;

typedef struct {
    llm_json_node *node; /* node[0] is the root */
    size_t count;
    char *memory;
} llm_json;

/* Frees the tree, and so all texts and keys. */
LLM_API void llm_json_free(llm_json *j) {
    free(j->node);
    free(j->memory);
    j->node = NULL;
    j->memory = NULL;
    j->count = 0;
}

/* v <- a value that holds no other. */
LLM_API bool llm_json_scalar(llm_json_node *v, llm_json_token *r) {
    static const char *const word[3] = {"null", "false", "true"};
    for (int i = 0; i < 3; i++) {
        const size_t n = strlen(word[i]);
        if ((size_t)(r->end - r->at) < n || memcmp(r->at, word[i], n) != 0) continue;
        v->kind = (llm_json_kind)(LLM_JSON_NULL + i);
        r->at += n;
        return true;
    }
    if (llm_json_token_is(r, '"')) {
        v->kind = LLM_JSON_STRING;
        return llm_json_token_string(r, &v->text, &v->text_size);
    }
    v->kind = LLM_JSON_NUMBER;
    if (r->at == r->end || (*r->at != '-' && (*r->at < '0' || *r->at > '9')))
        return llm_json_token_fail(r, "a value");
    if (!llm_json_token_number(r, &v->text, &v->text_size)) return false;
    v->number = llm_json_token_double(v->text);
    return true;
}

/* j->node <- the text: one turn of the loop for each value. */
LLM_API bool llm_json_build(llm_json *j, llm_json_token *r) {
    size_t parent = 0, last = 0, depth = 0; /* last: the value before, in the same container */
    do {
        const size_t self = j->count++;
        llm_json_node *v = &j->node[self], *p = &j->node[parent];
        memset(v, 0, sizeof *v);
        llm_json_token_space(r);
        if (depth > 0) {
            if (p->count++ == 0) {
                p->first = self;
            } else {
                j->node[last].next = self;
            }
            if (p->kind == LLM_JSON_OBJECT) {
                if (!llm_json_token_string(r, &v->key, &v->key_size)) return false;
                llm_json_token_space(r);
                if (!llm_json_token_is(r, ':')) return llm_json_token_fail(r, "a colon");
                r->at++;
                llm_json_token_space(r);
            }
        }
        const bool array = llm_json_token_is(r, '[');
        if (array || llm_json_token_is(r, '{')) {
            v->kind = array ? LLM_JSON_ARRAY : LLM_JSON_OBJECT;
            if (depth == LLM_JSON_DEPTH) return llm_json_token_fail(r, "at most 512 open brackets");
            r->at++;
            llm_json_token_space(r);
            depth++;
            v->next = parent;
            parent = self;
            if (!llm_json_token_is(r, array ? ']' : '}')) continue; /* to its first child */
        } else if (!llm_json_scalar(v, r)) {
            return false;
        }
        for (last = self; depth > 0; depth--) { /* close what ends here */
            p = &j->node[parent];
            const bool list = p->kind == LLM_JSON_ARRAY;
            llm_json_token_space(r);
            if (llm_json_token_is(r, ',')) break;
            if (!llm_json_token_is(r, list ? ']' : '}'))
                return llm_json_token_fail(r, list ? "a comma or ]" : "a comma or }");
            r->at++;
            last = parent;
            parent = p->next;
            p->next = 0;
        }
        if (depth > 0) r->at++; /* the comma */
    } while (depth > 0);
    llm_json_token_space(r);
    return r->at == r->end || llm_json_token_fail(r, "nothing behind the value");
}

/* j <- text (size). Where it is not JSON: false, and nothing to free. */
LLM_API bool llm_json_parse(llm_json *j, const char *text, size_t size, llm_error *error) {
    size_t values = 1, node_bytes, text_bytes; /* all but the root stand behind , [ or { */
    bool quoted = false;
    for (size_t i = 0; i < size; i++) {
        if (text[i] == '"') quoted = !quoted;
        if (quoted && text[i] == '\\') {
            i++;
        } else if (!quoted && (text[i] == ',' || text[i] == '[' || text[i] == '{')) {
            values++;
        }
    }
    const bool fits = llm_size_mul(&node_bytes, values, sizeof(llm_json_node)) &&
                      llm_size_add(&text_bytes, size, 1);
    j->count = 0;
    j->node = fits ? (llm_json_node *)malloc(node_bytes) : NULL;
    j->memory = fits ? (char *)malloc(text_bytes) : NULL;
    llm_json_token r;
    r.text = r.at = (const unsigned char *)(size > 0 ? text : "");
    r.end = r.text + size;
    r.out = j->memory;
    r.error = error;
    if (j->node && j->memory ? llm_json_build(j, &r) : llm_fail(error, "JSON: out of memory"))
        return true;
    llm_json_free(j);
    return false;
}

/* The first value of an array or object; NULL where it is empty, or not one. */
LLM_API const llm_json_node *llm_json_first(const llm_json *j, const llm_json_node *parent) {
    return parent->count > 0 ? &j->node[parent->first] : NULL;
}

/* The next one; NULL at the end. */
LLM_API const llm_json_node *llm_json_next(const llm_json *j, const llm_json_node *node) {
    return node->next > 0 ? &j->node[node->next] : NULL;
}

/* The last member of that name; NULL where there is none, or no object. Walks over all members: who
 * wants many of them walks once. */
LLM_API const llm_json_node *llm_json_get(const llm_json *j, const llm_json_node *object,
                                          const char *key) {
    const size_t size = strlen(key);
    const llm_json_node *found = NULL;
    if (object->kind != LLM_JSON_OBJECT) return NULL;
    for (const llm_json_node *v = llm_json_first(j, object); v; v = llm_json_next(j, v))
        if (v->key_size == size && memcmp(v->key, key, size) == 0) found = v;
    return found;
}

/* *out = an integer from 0 to SIZE_MAX, exactly; false for all else, 1.0 and 1e3 included. */
LLM_API bool llm_json_size(size_t *out, const llm_json_node *v) {
    size_t value = 0;
    if (v->kind != LLM_JSON_NUMBER) return false;
    for (const char *c = v->text; *c; c++) {
        if (*c < '0' || *c > '9' || !llm_size_mul(&value, value, 10) ||
            !llm_size_add(&value, value, (size_t)(*c - '0')))
            return false;
    }
    *out = value;
    return true;
}

/* @json_put ------------------------------------------------- JSON: writing
 *
 * Brackets, commas and colons are printed by whoever writes a file; only strings and numbers can go
 * wrong. A string needs escapes for quotes, backslashes and control characters and nothing else, as
 * the text is UTF-8. A number is the shortest that reads back as the same double: 0.1, not
 * 0.10000000000000001, with a point in every locale. JSON has no word for NaN and infinity.
 *
 * source  Bray 2017, RFC 8259
 * needs   buffer json_token
 * see     @json
 * topics  -
 */

/* Appends text (size), quoted. False when it is not UTF-8 or memory is out; the buffer then holds
 * a part of it. */
LLM_API bool llm_json_put_string(llm_buffer *b, const char *text, size_t size) {
    static const char from[] = "\"\\\b\f\n\r\t", to[] = "\"\\bfnrt";
    bool ok = llm_buffer_put(b, "\"", 1);
    for (size_t i = 0, n = 1; i < size && ok; i += n) {
        const unsigned char *c = (const unsigned char *)text + i;
        const char *letter = *c ? strchr(from, *c) : NULL;
        n = llm_json_token_utf8(c, (const unsigned char *)text + size);
        if (letter) {
            ok = llm_buffer_print(b, "\\%c", to[letter - from]);
        } else if (*c < 32) {
            ok = llm_buffer_print(b, "\\u%04x", *c);
        } else {
            ok = n > 0 && llm_buffer_put(b, c, n);
        }
    }
    return ok && llm_buffer_put(b, "\"", 1);
}

/* Appends a number. False when it is NaN or infinite, or memory is out. */
LLM_API bool llm_json_put_number(llm_buffer *b, double number) {
    char text[40];
    if (!isfinite(number)) return false;
    for (int digits = 1; digits <= 17; digits++) { /* 17 always suffice */
        snprintf(text, sizeof text, "%.*g", digits, number);
        if (strtod(text, NULL) == number) break;
    }
    bool ok = true, point = false;
    for (const char *c = text; *c && ok; c++) { /* what is no digit, sign or e is the point */
        const bool other = !strchr("0123456789+-e", *c);
        if (!other || !point) ok = llm_buffer_put(b, other ? "." : c, 1);
        point = other;
    }
    return ok;
}

/* @exp ------------------------------------------------------ Exponential and tanh that vectorise
 *
 *     e^x     = 2^n e^r                        n = round(x / ln 2), r = x - n ln 2, |r| <= ln(2)/2
 *     tanh(x) = 1 - 2 / (e^(2x) + 1)           x > 0.55
 *     tanh(x) = x + x^3 P(x^2)                 below, where the difference above would cancel
 *
 * A loop that calls expf runs one element at a time; a loop over these runs 4, 8 or 16 at a time,
 * because they are straight lines: no branch, no table, no call. Choices are made on bit patterns,
 * since a compiler that must respect floating-point traps may not turn `x > 0 ? f(x) : g(x)` into
 * a blend. Errors over all floats: e^x below 1.03 units in the last place, tanh below 1.5; the
 * C library's expf is right to 0.51. Zeros, denormals, infinities and NaN come out as they should.
 * Everything assumes that rounding is to nearest, and needs IEEE floats (no -ffast-math).
 *
 * source  Cody & Waite 1980, "Software Manual for the Elementary Functions", ch. 6; the
 *         polynomials are minimax fits (notes/00-base/exp.md)
 * needs   base
 * see     @softmax @activation @logsumexp
 * topics  -
 */

/* A float as its bits, and bits as a float. */
LLM_API uint32_t llm_exp_bits(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}
LLM_API float llm_exp_float(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* x brought into -most..most; NaN becomes most with NaN's sign. Without their sign, floats are
 * ordered as their bits are. */
LLM_API float llm_exp_clamp(float x, float most) {
    const uint32_t size = llm_exp_bits(x) & 0x7FFFFFFFu, limit = llm_exp_bits(most);
    return copysignf(llm_exp_float(size < limit ? size : limit), x);
}

/* Splits x = n ln 2 + r: returns n + 256. Adding 1.5 * 2^23 rounds to an integer and leaves it in
 * the low bits of the mantissa. ln 2 is taken off in two parts; the product with the first, which
 * has 9 bits, is exact. */
LLM_API uint32_t llm_exp_reduce(float *r, float x) {
    const float magic = 12582912.0f + 256.0f;
    const float shifted = x * 1.44269504f + magic, n = shifted - magic;
    *r = x - n * 0.693359375f - n * -2.12194440e-4f;
    return llm_exp_bits(shifted) - 0x4B400000u;
}

/* e^r - 1 for |r| <= ln(2)/2, to 4e-9 of e^r. */
LLM_API float llm_exp_minus_1(float r) {
    const float q = 0.041667238f + r * (0.008367483f + r * 0.0013863781f);
    return r + r * r * (0.5f + r * (0.16666535f + r * q));
}

/* e^x. 2^n comes in two factors, so that n may be 128 or -149; the last product rounds into the
 * denormals, to infinity or to 0. */
LLM_API float llm_expf(float x) {
    float r;
    const uint32_t n = llm_exp_reduce(&r, llm_exp_clamp(x, 104.0f)), half = n >> 1;
    const float two_a = llm_exp_float((half - 1) << 23),
                two_b = llm_exp_float((n - half - 1) << 23);
    const float y = (1.0f + llm_exp_minus_1(r)) * two_a * two_b;
    return y + (x != x ? NAN : 0.0f);
}

/* tanh(x). From 9.02 on it rounds to 1. */
LLM_API float llm_tanhf(float x) {
    const float a = llm_exp_clamp(fabsf(x), 10.0f), u = a * a;
    const float p = -0.053854413f + u * (0.021080235f + u * -0.00628622f);
    const float small = a + a * u * (-0.3333332f + u * (0.13332607f + u * p));

    float r;
    const float two_n = llm_exp_float((llm_exp_reduce(&r, 2.0f * a) - 129) << 23);
    const float large = 1.0f - 2.0f / ((1.0f + llm_exp_minus_1(r)) * two_n + 1.0f);

    const uint32_t choose = 0u - (uint32_t)(a < 0.5495f);
    const float y = llm_exp_float((llm_exp_bits(small) & choose) | (llm_exp_bits(large) & ~choose));
    return copysignf(y + (x != x ? NAN : 0.0f), x);
}

/* @lanes ---------------------------------------------------- A vector of floats
 *
 * As many floats as one instruction adds or multiplies: 16, 8 or 4 of them, by the flags the file
 * is compiled with (-march=native gives what the machine has). GNU vectors take + and * like
 * numbers and need no header of intrinsics; elsewhere a vector is one float, and the same code
 * runs on it. Compilers turn simple loops into vectors by themselves; this is for the few loops
 * whose sums must stay in registers, where they do not see how. There the loop over the sums must
 * be unrolled, since a register has no index.
 *
 * source  -
 * needs   base
 * see     @gemm @matmul (its users) @exp (what compilers vectorise alone)
 * topics  -
 */
#if !defined(__GNUC__) || defined(__CUDACC__)
typedef float llm_lanes;
enum { LLM_LANES = 1, LLM_LANES_REGISTERS = 16 };
#elif defined(__AVX512F__)
typedef float llm_lanes __attribute__((vector_size(64)));
enum { LLM_LANES = 16, LLM_LANES_REGISTERS = 32 };
#elif defined(__AVX__)
typedef float llm_lanes __attribute__((vector_size(32)));
enum { LLM_LANES = 8, LLM_LANES_REGISTERS = 16 };
#else
typedef float llm_lanes __attribute__((vector_size(16)));
enum { LLM_LANES = 4, LLM_LANES_REGISTERS = 16 };
#endif

/* Before a loop of at most 8 turns; and: the line at this address will be needed soon. */
#if defined(__clang__)
#define LLM_LANES_UNROLL _Pragma("unroll")
#define LLM_LANES_FETCH(address) __builtin_prefetch(address)
#elif defined(__GNUC__) && !defined(__CUDACC__)
#define LLM_LANES_UNROLL _Pragma("GCC unroll 8")
#define LLM_LANES_FETCH(address) __builtin_prefetch(address)
#else
#define LLM_LANES_UNROLL
#define LLM_LANES_FETCH(address) (void)(address)
#endif

/* Reads and writes at any address; the sum of the lanes, in their order. */
LLM_API llm_lanes llm_lanes_load(const float *p) {
    llm_lanes x;
    memcpy(&x, p, sizeof x);
    return x;
}
LLM_API void llm_lanes_store(float *p, llm_lanes x) { memcpy(p, &x, sizeof x); }
LLM_API float llm_lanes_sum(llm_lanes x) {
    float lane[LLM_LANES], sum = 0.0f;
    memcpy(lane, &x, sizeof lane);
    for (size_t l = 0; l < LLM_LANES; l++) sum += lane[l];
    return sum;
}

/* @transpose ------------------------------------------------ Rows become columns
 *
 *     to[j][i] = from[i][j]
 *
 * A copy whose one side runs along the rows and the other across them: number by number, an
 * instruction moves 4 bytes and most of every cache line is fetched for nothing. Squares of 4 x 4
 * touch four lines on either side and turn in registers with eight shuffles: pairs of rows are
 * interleaved, then pairs of pairs.
 *
 * source  -
 * needs   lanes
 * see     @gemm (packs with it)
 * topics  -
 */

/* to (cols,rows) <- from (rows,cols), with to_ld and from_ld numbers from one row to the next. The
 * squares need a compiler that shuffles; what they leave is copied number by number. */
LLM_API void llm_transpose(float *to, size_t to_ld, const float *from, size_t from_ld, size_t rows,
                           size_t cols) {
    size_t rows4 = 0, cols4 = 0;
#if (defined(__clang__) || (defined(__GNUC__) && __GNUC__ >= 12)) && !defined(__CUDACC__)
    typedef float four __attribute__((vector_size(16)));
    rows4 = rows / 4 * 4, cols4 = cols / 4 * 4;
    for (size_t i = 0; i < rows4; i += 4) {
        for (size_t j = 0; j < cols4; j += 4) {
            const float *x = from + i * from_ld + j;
            float *y = to + j * to_ld + i;
            four a, b, c, d;
            memcpy(&a, x, sizeof a);
            memcpy(&b, x + from_ld, sizeof b);
            memcpy(&c, x + 2 * from_ld, sizeof c);
            memcpy(&d, x + 3 * from_ld, sizeof d);
            for (size_t r = 4; j % 16 == 0 && i + 8 <= rows4 && r < 8; r++)
                LLM_LANES_FETCH(x + r * from_ld);
            const four ab = __builtin_shufflevector(a, b, 0, 4, 1, 5);
            const four cd = __builtin_shufflevector(c, d, 0, 4, 1, 5);
            const four ab2 = __builtin_shufflevector(a, b, 2, 6, 3, 7);
            const four cd2 = __builtin_shufflevector(c, d, 2, 6, 3, 7);
            a = __builtin_shufflevector(ab, cd, 0, 1, 4, 5);
            b = __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
            c = __builtin_shufflevector(ab2, cd2, 0, 1, 4, 5);
            d = __builtin_shufflevector(ab2, cd2, 2, 3, 6, 7);
            memcpy(y, &a, sizeof a);
            memcpy(y + to_ld, &b, sizeof b);
            memcpy(y + 2 * to_ld, &c, sizeof c);
            memcpy(y + 3 * to_ld, &d, sizeof d);
        }
    }
#endif
    for (size_t i = 0; i < rows; i++)
        for (size_t j = i < rows4 ? cols4 : 0; j < cols; j++)
            to[j * to_ld + i] = from[i * from_ld + j];
}

/* @gemm ----------------------------------------------------- The kernel under every matrix product
 *
 *     c (M,N) += A (M,K) B (K,N)
 *
 * The triple loop loads two numbers for every multiplication and waits for memory. Here a tile of
 * ROWS x COLS sums stays in vector registers while k runs: each number of B is used ROWS times and
 * each number of A COLS times once it is loaded. B is copied first, a panel of PANEL columns and at
 * most DEPTH rows at a time, into the order in which the tile reads it, and stays in the second
 * cache while the rows of A pass by. Rows of A are read where they lie; a transposed A is turned
 * into rows first, BLOCK of them at a time. Operands are packed differently and computed alike.
 *
 * Every sum adds its products in ascending k, in chunks of fixed length, wherever its tile
 * lies and whichever thread computes it. So results do not depend on the number of threads, nor a
 * row's result on the other rows. Scratch is on the stack: 304 KiB with AVX, 40 without.
 *
 * source  Goto & van de Geijn 2008, "Anatomy of High-Performance Matrix Multiplication"
 * needs   lanes transpose
 * see     @matmul (the layer's three products) @tensor_core
 * topics  -
 */
#if defined(_OPENMP)
#include <omp.h>
#define LLM_GEMM_CORES ((size_t)omp_get_max_threads())
#define LLM_GEMM_PARALLEL_IF(big) LLM_PRAGMA(omp parallel for schedule(static) if (big))
#else
#define LLM_GEMM_CORES ((size_t)1)
#define LLM_GEMM_PARALLEL_IF(big)
#endif
#ifndef LLM_GEMM_THREADS
#define LLM_GEMM_THREADS LLM_GEMM_CORES
#endif
enum { LLM_GEMM_SMALL = 32768 }; /* fewer operations are done before a second thread is awake */

/* A tile fills three quarters of the registers. */
enum { LLM_GEMM_ROWS = 6, LLM_GEMM_VECTORS = LLM_LANES_REGISTERS / 8 };
enum { LLM_GEMM_COLS = LLM_LANES * LLM_GEMM_VECTORS };
#if defined(__AVX__)
enum { LLM_GEMM_PANEL = 64, LLM_GEMM_BLOCK = 240, LLM_GEMM_DEPTH = 256 };
#else
enum { LLM_GEMM_PANEL = 32, LLM_GEMM_BLOCK = 48, LLM_GEMM_DEPTH = 128 };
#endif

/* The smaller of the two. */
LLM_API size_t llm_gemm_least(size_t a, size_t b) { return a < b ? a : b; }
LLM_API size_t llm_gemm_parts(size_t n, size_t size) { return (n + size - 1) / size; }

/* y (ROWS,COLS) += rows of A times a panel (depth,COLS), or only its first rows and columns. row[r]
 * points to depth numbers. */
LLM_API void llm_gemm_tile(float *y, size_t ldy, size_t rows, size_t cols,
                           const float *const row[LLM_GEMM_ROWS], const float *panel,
                           size_t depth) {
    llm_lanes sum[LLM_GEMM_ROWS][LLM_GEMM_VECTORS], tile[LLM_GEMM_ROWS][LLM_GEMM_VECTORS];
    const float *a[LLM_GEMM_ROWS];
    LLM_LANES_UNROLL
    for (size_t r = 0; r < LLM_GEMM_ROWS; r++) {
        a[r] = row[r];
        LLM_LANES_FETCH(y + (r < rows ? r : 0) * ldy);
        LLM_LANES_UNROLL
        for (size_t v = 0; v < LLM_GEMM_VECTORS; v++)
            sum[r][v] = a[r][0] * llm_lanes_load(panel + v * LLM_LANES);
    }
    for (size_t k = 1; k < depth; k++) {
        const float *b = panel + k * LLM_GEMM_COLS;
        LLM_LANES_UNROLL
        for (size_t r = 0; r < LLM_GEMM_ROWS; r++) {
            LLM_LANES_UNROLL
            for (size_t v = 0; v < LLM_GEMM_VECTORS; v++)
                sum[r][v] += a[r][k] * llm_lanes_load(b + v * LLM_LANES);
        }
    }
    LLM_LANES_UNROLL
    for (size_t r = 0; r < LLM_GEMM_ROWS; r++) {
        LLM_LANES_UNROLL
        for (size_t v = 0; v < LLM_GEMM_VECTORS; v++) tile[r][v] = sum[r][v];
    }
    for (size_t r = 0; r < rows; r++, y += ldy) {
        for (size_t v = 0; v < LLM_GEMM_VECTORS && cols == LLM_GEMM_COLS; v++) {
            float *to = y + v * LLM_LANES;
            llm_lanes_store(to, llm_lanes_load(to) + tile[r][v]);
        }
        for (size_t j = 0; j < cols && cols < LLM_GEMM_COLS; j++) y[j] += ((float *)tile[r])[j];
    }
}

/* panel (cols / COLS, depth, COLS) <- depth rows and cols columns of b. Columns that b does not
 * have are 0. */
LLM_API void llm_gemm_pack(float *panel, const float *b, size_t ldb, bool b_t, size_t depth,
                           size_t cols) {
    const size_t whole = cols / LLM_GEMM_COLS * LLM_GEMM_COLS;
    if (whole < cols) memset(panel + whole * depth, 0, depth * LLM_GEMM_COLS * sizeof(float));
    for (size_t j = 0; b_t && j < cols; j += LLM_GEMM_COLS)
        llm_transpose(panel + j * depth, LLM_GEMM_COLS, b + j * ldb, ldb,
                      llm_gemm_least(cols - j, LLM_GEMM_COLS), depth);
    for (size_t k = 0; !b_t && k < depth; k++) {
        const float *from = b + k * ldb;
        float *to = panel + k * LLM_GEMM_COLS;
        for (size_t j = 0; k + 8 < depth && j < cols; j += 16) LLM_LANES_FETCH(from + 8 * ldb + j);
        for (size_t j = 0; j < whole; j += LLM_GEMM_COLS)
            memcpy(to + j * depth, from + j, LLM_GEMM_COLS * sizeof(float));
        for (size_t j = whole; j < cols; j++) to[whole * depth + j - whole] = from[j];
    }
}

/* c (M,N) += a b with M and N the extents of one task: its rows of a, its columns of b, which are
 * parts of matrices with lda, ldb, ldc numbers between rows, and one chunk of the k. */
LLM_API void llm_gemm_block(float *c, size_t ldc, const float *a, size_t lda, bool a_t,
                            const float *b, size_t ldb, bool b_t, size_t M, size_t N,
                            size_t depth) {
    llm_lanes memory[(LLM_GEMM_PANEL + LLM_GEMM_BLOCK) * LLM_GEMM_DEPTH / LLM_LANES];
    float *panel = (float *)memory;
    if (a_t) {
        float *rows = panel + LLM_GEMM_PANEL * LLM_GEMM_DEPTH;
        llm_transpose(rows, depth, a, lda, depth, M);
        a = rows;
        lda = depth;
    }
    for (size_t j0 = 0; j0 < N; j0 += LLM_GEMM_PANEL) {
        const size_t wide = llm_gemm_least(N - j0, LLM_GEMM_PANEL);
        llm_gemm_pack(panel, b_t ? b + j0 * ldb : b + j0, ldb, b_t, depth, wide);
        for (size_t i = 0; i < M; i += LLM_GEMM_ROWS) {
            const size_t rows = llm_gemm_least(M - i, LLM_GEMM_ROWS);
            const float *row[LLM_GEMM_ROWS]; /* missing rows repeat the first; nobody reads them */
            for (size_t r = 0; r < LLM_GEMM_ROWS; r++) row[r] = a + (i + (r < rows ? r : 0)) * lda;
            for (size_t j = 0; j < wide; j += LLM_GEMM_COLS)
                llm_gemm_tile(c + i * ldc + j0 + j, ldc, rows,
                              llm_gemm_least(wide - j, LLM_GEMM_COLS), row, panel + j * depth,
                              depth);
        }
    }
}

/* high, wide: how many rows and columns of c (M,N) a task has. It is a panel of columns, cut into
 * fewer rows where there are too few panels for the threads; or, where A is transposed, a block of
 * rows, as many blocks as divide evenly, cut into fewer columns. */
LLM_API void llm_gemm_cut(size_t *high, size_t *wide, size_t M, size_t N, bool a_t,
                          size_t threads) {
    const size_t strips = llm_gemm_parts(M, LLM_GEMM_ROWS);
    const size_t panels = llm_gemm_parts(N, LLM_GEMM_PANEL);
    const size_t blocks = llm_gemm_parts(llm_gemm_parts(M, LLM_GEMM_BLOCK), threads) * threads;
    const size_t enough = threads > 1 ? 4 * threads : 1;
    size_t down = llm_gemm_least(strips, a_t ? blocks : llm_gemm_parts(enough, panels));
    size_t across = a_t ? llm_gemm_least(panels, llm_gemm_parts(enough, down)) : panels;
    *high = llm_gemm_parts(strips, down) * LLM_GEMM_ROWS;
    *wide = llm_gemm_parts(panels, across) * LLM_GEMM_PANEL;
}

/* c (M,N) += a b, where a is (M,K), or (K,M) with a_t, and b is (K,N), or (N,K) with b_t. c may not
 * be a or b. To call a BLAS, define LLM_SGEMM with these arguments: true says the work is done. */
LLM_API void llm_gemm(float *c, const float *a, bool a_t, const float *b, bool b_t, size_t M,
                      size_t N, size_t K) {
#ifdef LLM_SGEMM
    if (LLM_SGEMM(c, a, a_t, b, b_t, M, N, K)) return;
#endif
    if (M == 0 || N == 0) return;
    size_t high, wide;
    llm_gemm_cut(&high, &wide, M, N, a_t, LLM_GEMM_THREADS);
    const size_t across = llm_gemm_parts(N, wide), tasks = llm_gemm_parts(M, high) * across;
    const size_t chunk = a_t ? LLM_GEMM_DEPTH : LLM_GEMM_DEPTH / 2 * 3;
    for (size_t k = 0; k < K; k += chunk) {
        const size_t depth = llm_gemm_least(K - k, chunk);
        LLM_GEMM_PARALLEL_IF(M * N * depth > LLM_GEMM_SMALL)
        for (size_t task = 0; task < tasks; task++) {
            const size_t i = task / across * high, j = task % across * wide;
            llm_gemm_block(c + i * N + j, N, a_t ? a + k * M + i : a + i * K + k, a_t ? M : K, a_t,
                           b_t ? b + j * K + k : b + k * N + j, b_t ? K : N, b_t,
                           llm_gemm_least(M - i, high), llm_gemm_least(N - j, wide), depth);
        }
    }
}

/* @matmul --------------------------------------------------- Matrix product, the linear layer
 *
 *     y  = x w^T + b                               w (O,C): a row of weights for each output
 *     dx = dy w        dw = dy^T x        db = sum of dy's rows
 *
 * Nearly all the time of a network is spent here. w lies as torch.nn.Linear keeps it. All three
 * products go through @gemm. A few rows of x are another matter: nothing is used more often than
 * the rows there are, packing w would cost more than multiplying with it, and the time is that of
 * reading w once. Decoding lives there, with one row. So below 24 rows (or 8 outputs) dot products
 * run along w as it lies; their sums have another order, and the last bits may differ between 7
 * and 8 rows.
 *
 * source  -
 * needs   lanes gemm
 * see     @dense (the layer), @kv_cache (decoding)
 * topics  -
 */

/* y (N,O) <- x (N,C), w (O,C), b (O) or NULL. y may not be x or w. The definition; slow. */
LLM_API void llm_matmul_naive(float *y, const float *x, const float *w, const float *b, size_t N,
                              size_t C, size_t O) {
    for (size_t n = 0; n < N; n++) {
        for (size_t o = 0; o < O; o++) {
            float sum = b ? b[o] : 0.0f;
            for (size_t c = 0; c < C; c++) sum += x[n * C + c] * w[o * C + c];
            y[n * O + o] = sum;
        }
    }
}

/* dx (N,C) += , dw (O,C) += , db (O) += <- dy (N,O) and forward's x, w; any of the three may be
 * NULL. The definition; slow. */
LLM_API void llm_matmul_naive_backward(float *dx, float *dw, float *db, const float *dy,
                                       const float *x, const float *w, size_t N, size_t C,
                                       size_t O) {
    for (size_t n = 0; n < N; n++) {
        for (size_t o = 0; o < O; o++) {
            const float d = dy[n * O + o];
            if (db) db[o] += d;
            for (size_t c = 0; dx && c < C; c++) dx[n * C + c] += d * w[o * C + c];
            for (size_t c = 0; dw && c < C; c++) dw[o * C + c] += d * x[n * C + c];
        }
    }
}

/* y[m * y_m + f * y_f] += dot product of rows m of many (M,C) and f of few (F,C). Four rows of many
 * are read side by side, each into two vectors of sums; the F rows of few stay in cache. */
LLM_API void llm_matmul_few(float *y, size_t y_m, size_t y_f, const float *many, const float *few,
                            size_t M, size_t F, size_t C) {
    enum { ROWS = 4, LANES = LLM_LANES };
    const float zeros[LANES] = {0};
    const llm_lanes zero = llm_lanes_load(zeros);
    const size_t body = C / (2 * LANES) * (2 * LANES);
    LLM_GEMM_PARALLEL_IF(M * F * C > LLM_GEMM_SMALL)
    for (size_t m = 0; m < M; m += ROWS) {
        const size_t rows = llm_gemm_least(M - m, ROWS);
        const float *row[ROWS];
        for (size_t r = 0; r < ROWS; r++) row[r] = many + (m + (r < rows ? r : 0)) * C;
        for (size_t f = 0; f < F; f++) {
            const float *x = few + f * C;
            llm_lanes even[ROWS], odd[ROWS];
            LLM_LANES_UNROLL
            for (size_t r = 0; r < ROWS; r++) even[r] = odd[r] = zero;
            for (size_t c = 0; c < body; c += 2 * LANES) {
                const llm_lanes x0 = llm_lanes_load(x + c), x1 = llm_lanes_load(x + c + LANES);
                LLM_LANES_UNROLL
                for (size_t r = 0; r < ROWS; r++) {
                    even[r] += x0 * llm_lanes_load(row[r] + c);
                    odd[r] += x1 * llm_lanes_load(row[r] + c + LANES);
                }
            }
            for (size_t r = 0; r < rows; r++) {
                float total = llm_lanes_sum(even[r] + odd[r]);
                for (size_t c = body; c < C; c++) total += row[r][c] * x[c];
                y[(m + r) * y_m + f * y_f] += total;
            }
        }
    }
}

/* y (N,O) <- x (N,C), w (O,C), b (O) or NULL. y may not be x or w. */
LLM_API void llm_matmul_forward(float *y, const float *x, const float *w, const float *b, size_t N,
                                size_t C, size_t O) {
    LLM_GEMM_PARALLEL_IF(N * O > LLM_GEMM_SMALL)
    for (size_t n = 0; n < N; n++)
        for (size_t o = 0; o < O; o++) y[n * O + o] = b ? b[o] : 0.0f;
    if (N < 24)
        llm_matmul_few(y, 1, O, w, x, O, N, C);
    else if (O < 8)
        llm_matmul_few(y, O, 1, x, w, N, O, C);
    else
        llm_gemm(y, x, false, w, true, N, O, C);
}

/* dx (N,C) += , dw (O,C) += , db (O) += <- dy (N,O) and forward's x, w; any of the three may be
 * NULL. */
LLM_API void llm_matmul_backward(float *dx, float *dw, float *db, const float *dy, const float *x,
                                 const float *w, size_t N, size_t C, size_t O) {
    if (dx) llm_gemm(dx, dy, false, w, false, N, C, O);
    if (dw) llm_gemm(dw, dy, true, x, false, O, C, N);
    LLM_GEMM_PARALLEL_IF(N * O > LLM_GEMM_SMALL)
    for (size_t from = 0; from < (db ? O : 0); from += 64)
        for (size_t n = 0; n < N; n++)
            for (size_t o = from; o < O && o < from + 64; o++) db[o] += dy[n * O + o];
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
 * needs   exp
 * see     @softmax (its gradient), @cross_entropy, @flash (the pair at work)
 * topics  Log-Sum-Exp Trick
 */

/* The largest of x (n), -inf when n is 0; NaN is skipped. Eight maxima run side by side, because a
 * single one would have to wait for itself at every step. */
LLM_API float llm_logsumexp_max(const float *x, size_t n) {
    float lane[8];
    for (size_t k = 0; k < 8; k++) lane[k] = -INFINITY;
    const size_t whole = n - n % 8;
    for (size_t i = 0; i < whole; i += 8)
        for (size_t k = 0; k < 8; k++) lane[k] = x[i + k] > lane[k] ? x[i + k] : lane[k];
    for (size_t i = whole; i < n; i++) lane[0] = x[i] > lane[0] ? x[i] : lane[0];

    float max = lane[0];
    for (size_t k = 1; k < 8; k++) max = lane[k] > max ? lane[k] : max;
    return max;
}

/* sum_i exp((x_i - shift) * gain) <- x (n). Sixteen sums side by side become vectors, which a
 * single one may not, because float addition has an order. They are emptied into a double every
 * 4096 entries: a vocabulary of 50000 terms in one float would be off by 5e-5. */
LLM_API double llm_logsumexp_sum(const float *x, size_t n, float shift, float gain) {
    double sum = 0.0;
    for (size_t i = 0; i < n;) {
        const size_t end = n - i < 4096 ? n : i + 4096;
        float lane[16];
        for (size_t k = 0; k < 16; k++) lane[k] = 0.0f;
        for (; i + 16 <= end; i += 16)
            for (size_t k = 0; k < 16; k++) lane[k] += llm_expf((x[i + k] - shift) * gain);
        for (; i < end; i++) lane[0] += llm_expf((x[i] - shift) * gain);
        for (size_t k = 0; k < 16; k++) sum += (double)lane[k];
    }
    return sum;
}

/* lse <- x (n). The empty sum is 0, so n = 0 gives -inf. */
LLM_API float llm_logsumexp(const float *x, size_t n) {
    const float max = llm_logsumexp_max(x, n);
    const float shift = fabsf(max) < INFINITY ? max : 0.0f;
    return shift + (float)log(llm_logsumexp_sum(x, n, shift, 1.0f));
}

/* dx (n) += <- dy, and forward's x (n) and result lse: dlse/dx_i = exp(x_i - lse), the softmax.
 * Entries of -inf get 0, also when nothing else is there; entries of +inf get NaN, as in torch. */
LLM_API void llm_logsumexp_backward(float *dx, float dy, const float *x, float lse, size_t n) {
    if (lse == -INFINITY) return;
    for (size_t i = 0; i < n; i++) dx[i] += dy * llm_expf(x[i] - lse);
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
    a.sum += b.max == a.max ? b.sum : b.sum * llm_expf(b.max - a.max);
    return a;
}

/* The logarithm of the part. */
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
 * Turns n scores (logits) into n probabilities in the same order: a gap of 1 between two scores is
 * a factor of e between their probabilities, whatever the others are. Only differences count, so
 * the largest score is subtracted first and no exp can overflow. A masked entry is -inf and gets
 * exactly 0; a row with nothing else has no distribution, and 0 / 0 would be NaN: it becomes zeros.
 * temp divides the gaps: towards 0 the row becomes the one-hot vector of its maximum, towards
 * infinity uniform. NaN or +inf in a row makes the row NaN, as in torch.
 *
 * source  Bridle 1990, "Training stochastic model recognition algorithms as networks can lead to
 *         maximum mutual information estimation of parameters";
 *         Milakov & Gimelshein 2018, "Online normalizer calculation for softmax", alg. 3
 * needs   exp logsumexp
 * see     @cross_entropy (fused with its loss), @sparsemax, @causal_attn, @temperature
 * topics  Softmax ; Softmax Normalization
 */

/* p (rows,n) <- x (rows,n), softmax of each row. p may be x. Three passes over a row: the maximum,
 * the sum, the quotients. */
LLM_API void llm_softmax_forward(float *p, const float *x, size_t rows, size_t n, float temp) {
    LLM_ASSERT(temp >= FLT_MIN); /* or 1 / temp overflows */
    LLM_PARALLEL_FOR
    for (size_t r = 0; r < rows; r++) {
        const float *xr = x + r * n, max = llm_logsumexp_max(xr, n), gain = 1.0f / temp;
        const float shift = max == -INFINITY ? 0.0f : max;
        const double sum = llm_logsumexp_sum(xr, n, shift, gain);
        const float scale = sum == 0.0 ? 0.0f : (float)(1.0 / sum);
        float *pr = p + r * n;
        for (size_t i = 0; i < n; i++) pr[i] = scale * llm_expf((xr[i] - shift) * gain);
    }
}

/* dx (rows,n) += <- dp (rows,n) and forward's result p, temp.
 *
 * dp_i/dx_j = p_i ((i == j) - p_j) / temp. Multiplied by dp and summed over i:
 *     dx_j = p_j (dp_j - sum_i p_i dp_i) / temp
 * The gradient of a score is how much better than the average (under p) its probability is paid. */
LLM_API void llm_softmax_backward(float *dx, const float *dp, const float *p, size_t rows, size_t n,
                                  float temp) {
    LLM_PARALLEL_FOR
    for (size_t r = 0; r < rows; r++) {
        const float *dpr = dp + r * n, *pr = p + r * n, gain = 1.0f / temp;
        float *dxr = dx + r * n;
        double sum = 0.0;
        LLM_SIMD_SUM(sum)
        for (size_t i = 0; i < n; i++) sum += (double)(pr[i] * dpr[i]);
        const float average = (float)sum;
        for (size_t i = 0; i < n; i++) dxr[i] += pr[i] * (dpr[i] - average) * gain;
    }
}

/* p (rows,n) <- x (rows,n), at temperature 1: the maximum and the sum come from one pass, so memory
 * is read twice instead of three times. A row with NaN or +inf has NaN in it. p may be x. */
LLM_API void llm_softmax_online(float *p, const float *x, size_t rows, size_t n) {
    LLM_PARALLEL_FOR
    for (size_t r = 0; r < rows; r++) {
        const llm_logsumexp_pair a = llm_logsumexp_online(x + r * n, n);
        for (size_t i = 0; i < n; i++) {
            const float z = x[r * n + i];
            p[r * n + i] = z == -INFINITY ? 0.0f : llm_expf(z - a.max) / a.sum;
        }
    }
}

/* y (rows,n) <- x (rows,n): log softmax, x - lse(x) in each row. y may be x. Not log(p): where p
 * rounds to 0, y is still right. The maximum is subtracted before log(sum) and not added to it:
 * beside 1e4 the digits of log(sum) would be gone. A fully masked row is -inf. */
LLM_API void llm_softmax_log_forward(float *y, const float *x, size_t rows, size_t n) {
    LLM_PARALLEL_FOR
    for (size_t r = 0; r < rows; r++) {
        const float *xr = x + r * n, max = llm_logsumexp_max(xr, n);
        const float shift = max == -INFINITY ? 0.0f : max;
        float *yr = y + r * n;
        const double sum = llm_logsumexp_sum(xr, n, shift, 1.0f);
        const float log_sum = sum == 0.0 ? 0.0f : (float)log(sum);
        for (size_t i = 0; i < n; i++) yr[i] = (xr[i] - shift) - log_sum;
    }
}

/* dx (rows,n) += <- dy (rows,n) and forward's result y: dx_i = dy_i - p_i sum_j dy_j, p = e^y. */
LLM_API void llm_softmax_log_backward(float *dx, const float *dy, const float *y, size_t rows,
                                      size_t n) {
    LLM_PARALLEL_FOR
    for (size_t r = 0; r < rows; r++) {
        const float *dyr = dy + r * n, *yr = y + r * n;
        float *dxr = dx + r * n;
        double sum = 0.0;
        LLM_SIMD_SUM(sum)
        for (size_t i = 0; i < n; i++) sum += (double)dyr[i];
        const float total = (float)sum;
        for (size_t i = 0; i < n; i++) dxr[i] += dyr[i] - llm_expf(yr[i]) * total;
    }
}

/* @sparsemax ------------------------------------------------ Sparsemax
 *
 *     p = argmin over probability vectors q of |q - x|^2
 *     p_i = max(x_i - tau, 0)        tau so that sum_i p_i = 1
 *
 * Softmax gives every score some probability; the nearest probability vector gives most of them
 * exactly none: p falls linearly with the score, cut off at the threshold tau. A score that leads
 * all others by 1 get everything.
 *
 * source  Martins & Astudillo 2016, "From softmax to sparsemax"; Michelot 1986, "A finite algorithm
 *         for finding the projection of a point onto the canonical simplex of R^n"
 * needs   logsumexp
 * see     @softmax
 * topics  -
 */

/* p (rows,n) <- x (rows,n), each row projected onto the simplex. p may be x. -inf gives 0, a row of
 * nothing else zeros, NaN or +inf a row of NaN.
 *
 * Michelot: assume every entry is in the support, find tau, drop what lies below it, repeat. tau
 * only grows, so nothing dropped comes back; a few rounds do (n at most). */
LLM_API void llm_sparsemax_forward(float *p, const float *x, size_t rows, size_t n) {
    LLM_PARALLEL_FOR
    for (size_t r = 0; r < rows; r++) {
        const float *xr = x + r * n, max = llm_logsumexp_max(xr, n);
        const float shift = max == -INFINITY ? 0.0f : max; /* any shift moves tau along */
        float *pr = p + r * n, tau = -INFINITY;
        size_t support, count = n + 1;
        do {
            double sum = 0.0;
            support = count;
            count = 0;
            for (size_t i = 0; i < n; i++) {
                if (xr[i] - shift <= tau) continue; /* NaN stays, and makes the sum NaN */
                sum += (double)(xr[i] - shift);
                count++;
            }
            if (count > 0) tau = (float)((sum - 1.0) / (double)count);
        } while (count < support);
        for (size_t i = 0; i < n; i++) pr[i] = xr[i] - shift <= tau ? 0.0f : xr[i] - shift - tau;
    }
}

/* dx (rows,n) += <- dp (rows,n) and forward's result p. On the support tau moves by the mean of the
 * dx there: dx_i = dp_i - mean of dp over the support. Elsewhere p stays 0 and dx is 0. */
LLM_API void llm_sparsemax_backward(float *dx, const float *dp, const float *p, size_t rows,
                                    size_t n) {
    LLM_PARALLEL_FOR
    for (size_t r = 0; r < rows; r++) {
        const float *dpr = dp + r * n, *pr = p + r * n;
        double sum = 0.0, support = 0.0;
        for (size_t i = 0; i < n; i++) {
            if (pr[i] == 0.0f) continue;
            sum += (double)dpr[i];
            support += 1.0;
        }
        for (size_t i = 0; i < n; i++)
            if (pr[i] != 0.0f) dx[r * n + i] += dpr[i] - (float)(sum / support);
    }
}

/* @02-prob ============================================= PROBABILITY, STATISTICS AND INFORMATION */

/* @special ---------------------------------------------- Gamma, digamma, incomplete gamma and beta
 *
 *     Gamma(x) = int_0^inf t^(x-1) e^-t dt           psi = (log Gamma)'
 *     P(a,x)   = int_0^x t^(a-1) e^-t dt / Gamma(a)                          Q = 1 - P
 *     I(x;a,b) = int_0^x t^(a-1) (1-t)^(b-1) dt / B(a,b)
 *
 * What distribution functions are made of: P is that of the gamma, Poisson, chi-squared and (with
 * a = 1/2) normal distribution, I that of the beta, binomial, Student t and F. Both tails come as
 * logarithms, each computed directly where it is the small one: 1 - P would be 0 where Q is 1e-20,
 * and log Q goes on where Q itself underflows. x^a e^-x / Gamma(a) as a difference of three large
 * logarithms loses digits as a grows; written around its peak it keeps them. Absolute errors of
 * the logarithms, and so relative ones of P, Q and I, are below 2e-13 in tests.
 *
 * source  Loader 2000, "Fast and accurate computation of binomial probabilities"; Lentz 1976,
 *         "Generating Bessel functions in Mie scattering calculations using continued fractions";
 *         Abramowitz & Stegun 1964, 6.1.40, 6.3.18, 6.5.29, 6.5.31, 26.5.8
 * needs   -
 * see     @special_inverse @distribution @mle
 * topics  -
 */

/* S(x) in log Gamma(x) = (x - 1/2) log x - x + log(2 pi)/2 + S(x), x > 0. S is Stirling's series
 * from 16 on; below, S(x) = S(x+1) + (x + 1/2) log(1 + 1/x) - 1 climbs there. */
LLM_API double llm_special_stirling(double x) {
    double sum = 0.0;
    for (; x < 16.0; x += 1.0) {
        const double step = x < 1.0 ? log1p(x) - log(x) : log1p(1.0 / x); /* 1/x may overflow */
        sum += (x + 0.5) * step - 1.0;
    }
    const double r = 1.0 / (x * x);
    return sum +
           (1.0 / 12 +
            r * (-1.0 / 360 +
                 r * (1.0 / 1260 + r * (-1.0 / 1680 + r * (1.0 / 1188 - r * 691.0 / 360360))))) /
               x;
}

/* log Gamma(x) for x > 0, inf at 0, NaN below. Near its zeros 1 and 2 the absolute error counts. */
LLM_API double llm_special_lgamma(double x) {
    if (!(x > 0.0)) return x == 0.0 ? (double)INFINITY : (double)NAN;
    if (x > DBL_MAX) return x;
    return (x - 0.5) * log(x) - x + 0.91893853320467274178 + llm_special_stirling(x);
}

/* psi(x), the slope of log Gamma, for x > 0: the same climb by psi(x) = psi(x+1) - 1/x. */
LLM_API double llm_special_digamma(double x) {
    double sum = 0.0;
    if (!(x > 0.0)) return x == 0.0 ? -(double)INFINITY : (double)NAN;
    for (; x < 16.0; x += 1.0) sum -= 1.0 / x;
    const double r = 1.0 / (x * x);
    return sum + log(x) - 0.5 / x -
           r * (1.0 / 12 -
                r * (1.0 / 120 -
                     r * (1.0 / 252 - r * (1.0 / 240 - r * (1.0 / 132 - r * 691.0 / 32760)))));
}

/* psi'(x) for x > 0. */
LLM_API double llm_special_trigamma(double x) {
    double sum = 0.0;
    if (!(x > 0.0)) return x == 0.0 ? (double)INFINITY : (double)NAN;
    for (; x < 16.0; x += 1.0) sum += 1.0 / (x * x);
    const double r = 1.0 / (x * x);
    return sum + (1.0 + 0.5 / x +
                  r * (1.0 / 6 -
                       r * (1.0 / 30 -
                            r * (1.0 / 42 - r * (1.0 / 30 - r * (5.0 / 66 - r * 691.0 / 2730)))))) /
                     x;
}

/* x log(x/m) + m - x >= 0 for x, m >= 0: how far x is from m, without cancellation where they are
 * close: with v = (x-m)/(x+m), log(x/m) = 2 (v + v^3/3 + v^5/5 + ...). */
LLM_API double llm_special_deviance(double x, double m) {
    if (x == 0.0) return m;
    if (!(fabs(x - m) < 0.1 * (x + m))) {
        const double ratio = x / m;
        const bool normal = ratio >= DBL_MIN && ratio <= DBL_MAX;
        return x * (normal ? log(ratio) : log(x) - log(m)) + m - x;
    }
    const double v = (x - m) / (x + m);
    double term = 2.0 * x * v, sum = (x - m) * v, last = -1.0;
    for (double k = 3.0; sum != last; k += 2.0) {
        last = sum;
        term *= v * v;
        sum += term / k;
    }
    return sum;
}

/* log(x^a e^-x / Gamma(a)) and log(x^a y^b / B(a,b)), y = 1 - x: what stands before the series
 * below. Divided by x, and by x y, they are the gamma and the beta density. All arguments > 0. */
LLM_API double llm_special_gamma_front(double a, double x) {
    return 0.5 * log(a / 6.283185307179586477) - llm_special_deviance(a, x) -
           llm_special_stirling(a);
}
LLM_API double llm_special_beta_front(double a, double b, double x, double y) {
    const double n = a + b, small = a < b ? a : b, large = a < b ? b : a;
    return 0.5 * log(small / 6.283185307179586477 * (large / n)) - llm_special_deviance(a, n * x) -
           llm_special_deviance(b, n * y) + llm_special_stirling(n) - llm_special_stirling(a) -
           llm_special_stirling(b);
}

/* log(1 - e^l), l <= 0. */
LLM_API double llm_special_log1mexp(double l) {
    return l > -0.6931471805599453 ? log(-expm1(l)) : log1p(-exp(l));
}

/* *log_p = log P(a,x) and *log_q = log Q(a,x), a > 0. Below a + 1 the series of P converges fast,
 * above it the continued fraction of Q. */
LLM_API void llm_special_gamma_tails(double *log_p, double *log_q, double a, double x) {
    *log_p = x > 0.0 ? 0.0 : -(double)INFINITY;
    *log_q = x > 0.0 ? -(double)INFINITY : 0.0;
    if (x <= 0.0 || x > DBL_MAX) return;
    const double front = llm_special_gamma_front(a, x);
    if (x < a + 1.0) { /* P = front (1/a + x/(a (a+1)) + ...) */
        double term = 1.0 / a, sum = term;
        for (double k = a + 1.0; term > 1e-17 * sum; k += 1.0) sum += term *= x / k;
        *log_p = front + log(sum);
        if (*log_p > 0.0) *log_p = 0.0;
        *log_q = llm_special_log1mexp(*log_p);
        return;
    }
    double b = x + 1.0 - a, c = 1e300, d = 1.0 / b, h = d, change = 0.0;
    for (double k = 1.0; fabs(change - 1.0) > 2e-16 && k < 1e6; k += 1.0) { /* Lentz */
        b += 2.0;
        d = 1.0 / (b - k * (k - a) * d);
        c = b - k * (k - a) / c;
        change = c * d;
        h *= change;
    }
    *log_q = front + log(h);
    if (*log_q > 0.0) *log_q = 0.0;
    *log_p = llm_special_log1mexp(*log_q);
}

/* *log_i = log I(x;a,b) and *log_c = log(1 - I), a, b > 0, y = 1 - x: who knows y better than as
 * that difference can say so. The fraction converges fast below the mean; above it the roles of
 * (a,x) and (b,y) are exchanged. */
LLM_API void llm_special_beta_tails(double *log_i, double *log_c, double a, double b, double x,
                                    double y) {
    if (x > (a + 1.0) / (a + b + 2.0)) {
        llm_special_beta_tails(log_c, log_i, b, a, y, x);
        return;
    }
    *log_i = -(double)INFINITY;
    *log_c = 0.0;
    if (x <= 0.0) return;
    double c = 1.0, d = 1.0 / (1.0 - (a + b) * x / (a + 1.0)), h = d, change = 0.0;
    for (double k = 1.0; fabs(change - 1.0) > 2e-16 && k < 1e6; k += 1.0) {
        const double even = k * (b - k) * x / ((a + 2.0 * k - 1.0) * (a + 2.0 * k));
        const double odd = -(a + k) * (a + b + k) * x / ((a + 2.0 * k) * (a + 2.0 * k + 1.0));
        d = 1.0 / (1.0 + even * d);
        c = 1.0 + even / c;
        h *= c * d;
        d = 1.0 / (1.0 + odd * d);
        c = 1.0 + odd / c;
        change = c * d;
        h *= change;
    }
    *log_i = llm_special_beta_front(a, b, x, y) + log(h / a);
    if (*log_i > 0.0) *log_i = 0.0;
    *log_c = llm_special_log1mexp(*log_i);
}

/* log Phi(z), the normal distribution function: Q(1/2, z^2/2) / 2 left of 0. Right of z use -z. */
LLM_API double llm_special_normal_logcdf(double z) {
    double log_p, log_q;
    llm_special_gamma_tails(&log_p, &log_q, 0.5, 0.5 * z * z);
    return z < 0.0 ? log_q - 0.6931471805599453 : log1p(exp(log_p)) - 0.6931471805599453;
}

/* @special_inverse ------------------------------------------ Quantiles of normal, gamma and beta
 *
 *     Phi(z) = p         P(a,x) = p         I(x;a,b) = p          given p, find z and x
 *
 * Critical values, intervals and sampling by inversion ask for the x below which a probability p
 * lies. The normal one is a ratio of polynomials, good to 2e-14 and better. For the others, Newton
 * on log P as a function of log x (of the logit of x for beta). On these scales both tails are
 * concave, so a tangent never crosses beyond the solution: started at a bound on the outer side,
 * every step comes closer from there, and no bracket is needed: a step back is rounding, and the
 * end. The smaller of p and 1 - p is solved for, so a quantile near either end keeps its relative
 * digits.
 *
 * source  Wichura 1988, "Algorithm AS 241: the percentage points of the normal distribution"
 * needs   special
 * see     @distribution @confidence_interval
 * topics  -
 */

/* (a_0 + a_1 r + .. + a_7 r^7) / (1 + b_1 r + .. + b_7 r^7), both highest power first. */
LLM_API double llm_special_inverse_ratio(const double a[8], const double b[8], double r) {
    double above = 0.0, below = 0.0;
    for (size_t i = 0; i < 8; i++) {
        above = above * r + a[i];
        below = below * r + b[i];
    }
    return above / below;
}

/* z with Phi(z) = p; -inf at 0, inf at 1, NaN outside. Upper tails: minus that of 1 - p. */
LLM_API double llm_special_inverse_normal(double p) {
    static const double centre[2][8] = {
        {2.5090809287301226727e3, 3.3430575583588128105e4, 6.7265770927008700853e4,
         4.5921953931549871457e4, 1.3731693765509461125e4, 1.9715909503065514427e3,
         1.3314166789178437745e2, 3.3871328727963666080},
        {5.2264952788528545610e3, 2.8729085735721942674e4, 3.9307895800092710610e4,
         2.1213794301586595867e4, 5.3941960214247511077e3, 6.8718700749205790830e2,
         4.2313330701600911252e1, 1.0}};
    static const double tail[2][8] = {
        {7.74545014278341407640e-4, 2.27238449892691845833e-2, 2.41780725177450611770e-1,
         1.27045825245236838258, 3.64784832476320460504, 5.76949722146069140550,
         4.63033784615654529590, 1.42343711074968357734},
        {1.05075007164441684324e-9, 5.47593808499534494600e-4, 1.51986665636164571966e-2,
         1.48103976427480074590e-1, 6.89767334985100004550e-1, 1.67638483018380384940,
         2.05319162663775882187, 1.0}};
    static const double far_tail[2][8] = {
        {2.01033439929228813265e-7, 2.71155556874348757815e-5, 1.24266094738807843860e-3,
         2.65321895265761230930e-2, 2.96560571828504891230e-1, 1.78482653991729133580,
         5.46378491116411436990, 6.65790464350110377720},
        {2.04426310338993978564e-15, 1.42151175831644588870e-7, 1.84631831751005468180e-5,
         7.86869131145613259100e-4, 1.48753612908506148525e-2, 1.36929880922735805310e-1,
         5.99832206555887937690e-1, 1.0}};
    const double q = p - 0.5;
    if (!(p >= 0.0 && p <= 1.0)) return (double)NAN;
    if (p == 0.0 || p == 1.0) return p == 0.0 ? -(double)INFINITY : (double)INFINITY;
    if (fabs(q) <= 0.425)
        return q * llm_special_inverse_ratio(centre[0], centre[1], 0.180625 - q * q);
    const double r = sqrt(-log(q < 0.0 ? p : 1.0 - p));
    const double z = r <= 5.0 ? llm_special_inverse_ratio(tail[0], tail[1], r - 1.6)
                              : llm_special_inverse_ratio(far_tail[0], far_tail[1], r - 5.0);
    return q < 0.0 ? -z : z;
}

/* x with P(a,x) = p, a > 0; 0 and inf at the ends, NaN for p outside [0,1]. The slope of log P in
 * log x is front / P. The lower start is P < x^a / Gamma(a+1), the upper one the Chernoff bound
 * Q(a, a + sqrt(2 a l) + l) <= e^-l. */
LLM_API double llm_special_inverse_gamma(double a, double p) {
    if (!(p >= 0.0 && p <= 1.0)) return (double)NAN;
    if (p == 0.0 || p == 1.0) return p == 0.0 ? 0.0 : (double)INFINITY;
    const double l = p <= 0.5 ? -log(p) : -log1p(-p);
    double t = p <= 0.5 ? (llm_special_lgamma(a + 1.0) - l) / a : log(a + sqrt(2.0 * a * l) + l);
    for (double step = 1.0; step > 1e-10 && exp(t) > 0.0; t += p <= 0.5 ? step : -step) {
        double log_p, log_q;
        llm_special_gamma_tails(&log_p, &log_q, a, exp(t));
        const double tail = p <= 0.5 ? log_p : log_q;
        step = -(tail + l) / exp(llm_special_gamma_front(a, exp(t)) - tail);
    }
    return exp(t);
}

/* x with I(x;a,b) = p, a, b > 0; 0 and 1 at the ends, NaN for p outside [0,1]. *y becomes 1 - x to
 * full precision, unless it is NULL. The start is I < (x/y)^a / (a B(a,b)); above the median a and
 * b change places. */
LLM_API double llm_special_inverse_beta(double *y, double a, double b, double p) {
    const bool inside = p > 0.0 && p<1.0, swap = p> 0.5;
    const double l = swap ? -log1p(-p) : -log(p), c = swap ? b : a, d = swap ? a : b;
    double t = p == 0.0 || p == 1.0 ? -(double)INFINITY : (double)NAN; /* log(x/y) */
    if (inside)
        t = (llm_special_lgamma(c + 1.0) + llm_special_lgamma(d) - llm_special_lgamma(c + d) - l) /
            c;
    for (double step = inside; step > 1e-10 && exp(t) > 0.0; t += step) {
        const double x = 1.0 / (1.0 + exp(-t)), rest = 1.0 / (1.0 + exp(t));
        double log_i, log_c;
        llm_special_beta_tails(&log_i, &log_c, c, d, x, rest);
        step = -(log_i + l) / exp(llm_special_beta_front(c, d, x, rest) - log_i);
    }
    if (swap) t = -t;
    if (y) *y = 1.0 / (1.0 + exp(t));
    return 1.0 / (1.0 + exp(-t));
}

/* @spd ------------------------------------------------------ Symmetric positive definite matrices
 *
 *     A = L L^T      L_jj = sqrt(A_jj - sum_k L_jk^2)    L_ij = (A_ij - sum_k L_ik L_jk) / L_jj
 *
 * Covariances, Fisher matrices and Hessians at a minimum are symmetric with positive eigenvalues,
 * and for these the Cholesky factor is all that is needed: solve, invert, take the determinant,
 * colour white noise. It needs no pivots, and it is the test itself: a matrix without positive
 * eigenvalues meets a square root of something not positive, and that must be reported, not
 * rounded away. In double, since these matrices are small and their condition number is not.
 *
 * source  Golub & Van Loan 2013, "Matrix computations", section 4.2
 * needs   -
 * see     @distribution @mle @fisher_info
 * topics  -
 */

/* L (n,n) lower triangle <- A (n,n), of which the lower triangle is read; zeros above. L may be A.
 * False when A is not positive definite, as far as doubles can tell: a pivot must be above 1e-14
 * of the diagonal entry it came from. */
LLM_API bool llm_spd_factor(double *L, const double *A, size_t n) {
    for (size_t j = 0; j < n; j++) {
        for (size_t i = j; i < n; i++) {
            double sum = A[i * n + j];
            for (size_t k = 0; k < j; k++) sum -= L[i * n + k] * L[j * n + k];
            if (i == j && !(sum > 1e-14 * fabs(A[j * n + j]))) return false;
            L[i * n + j] = i == j ? sqrt(sum) : sum / L[j * n + j];
        }
        for (size_t i = 0; i < j; i++) L[i * n + j] = 0.0;
    }
    return true;
}

/* x (n) <- L x = b. x may be b. This whitens: where b has covariance L L^T, x has I. */
LLM_API void llm_spd_forward(double *x, const double *L, const double *b, size_t n) {
    for (size_t i = 0; i < n; i++) {
        double sum = b[i];
        for (size_t k = 0; k < i; k++) sum -= L[i * n + k] * x[k];
        x[i] = sum / L[i * n + i];
    }
}

/* x (n) <- L L^T x = b. x may be b. */
LLM_API void llm_spd_solve(double *x, const double *L, const double *b, size_t n) {
    llm_spd_forward(x, L, b, n);
    for (size_t i = n; i-- > 0;) {
        for (size_t k = i + 1; k < n; k++) x[i] -= L[k * n + i] * x[k];
        x[i] /= L[i * n + i];
    }
}

/* inverse (n,n) <- (L L^T)^-1, column by column of the identity. May not be L. */
LLM_API void llm_spd_inverse(double *inverse, const double *L, size_t n) {
    for (size_t j = 0; j < n; j++) {
        double *row = inverse + j * n; /* row j is column j */
        for (size_t i = 0; i < n; i++) row[i] = i == j ? 1.0 : 0.0;
        llm_spd_solve(row, L, row, n);
    }
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < i; j++)
            inverse[j * n + i] = inverse[i * n + j]; /* to the last bit */
}

/* log det(L L^T), where the determinant itself would over- or underflow. */
LLM_API double llm_spd_logdet(const double *L, size_t n) {
    double sum = 0.0;
    for (size_t i = 0; i < n; i++) sum += 2.0 * log(L[i * n + i]);
    return sum;
}

/* b^T A^-1 b <- L, b (n): the squared Mahalanobis length. scratch (n) may be b. */
LLM_API double llm_spd_quadratic(double *scratch, const double *L, const double *b, size_t n) {
    double sum = 0.0;
    llm_spd_forward(scratch, L, b, n);
    for (size_t i = 0; i < n; i++) sum += scratch[i] * scratch[i];
    return sum;
}

/* @distribution --------------------------------------------- Probability distributions
 *
 *     log p(x) = log p0(z) - log scale        z = (x - loc) / scale        P(X <= x) = F0(z)
 *     F(quantile(p)) = p                      E X = loc + scale E Z        Var X = scale^2 Var Z
 *
 * Ten continuous distributions behind one set of functions: each a standard form p0, with up to two
 * shape parameters, moved and stretched. Densities and both tails come as logarithms, which neither
 * underflow nor round to 1, and quantiles solve for the smaller tail. A Cauchy variable has
 * quantiles and no mean: its sample mean never settles.
 *
 * source  Johnson, Kotz & Balakrishnan 1994, "Continuous univariate distributions"
 * needs   special special_inverse
 * see     @distribution_sample @categorical (discrete ones), @log_likelihood, @exponential_family
 * topics  Probability distribution
 */
enum {
    LLM_DISTRIBUTION_UNIFORM,     /* on [0,1] */
    LLM_DISTRIBUTION_EXPONENTIAL, /* on [0,inf), as gamma and chi-squared are */
    LLM_DISTRIBUTION_NORMAL,
    LLM_DISTRIBUTION_LAPLACE,
    LLM_DISTRIBUTION_LOGISTIC,
    LLM_DISTRIBUTION_CAUCHY,
    LLM_DISTRIBUTION_STUDENT_T,   /* a degrees of freedom */
    LLM_DISTRIBUTION_GAMMA,       /* shape a */
    LLM_DISTRIBUTION_CHI_SQUARED, /* a degrees of freedom */
    LLM_DISTRIBUTION_BETA,        /* shapes a, b */
    LLM_DISTRIBUTION_COUNT
};

/* Which one, its shapes (not read where it has none), where it starts or is centred, its unit. */
typedef struct {
    int kind;
    double a, b, loc, scale;
} llm_distribution;

/* Whether every parameter is finite and positive where it must be: the other functions ask. */
LLM_API bool llm_distribution_valid(const llm_distribution *d) {
    if (d->kind < 0 || d->kind >= LLM_DISTRIBUTION_COUNT) return false;
    if (d->kind >= LLM_DISTRIBUTION_STUDENT_T && !(d->a > 0.0 && d->a <= DBL_MAX)) return false;
    if (d->kind == LLM_DISTRIBUTION_BETA && !(d->b > 0.0 && d->b <= DBL_MAX)) return false;
    return fabs(d->loc) <= DBL_MAX && d->scale > 0.0 && d->scale <= DBL_MAX;
}

/* d as one of seven kinds: uniform is a beta(1,1), exponential and chi-squared are gamma. */
LLM_API llm_distribution llm_distribution_core(const llm_distribution *d) {
    LLM_ASSERT(llm_distribution_valid(d));
    llm_distribution c = *d;
    if (d->kind == LLM_DISTRIBUTION_UNIFORM) c.kind = LLM_DISTRIBUTION_BETA, c.a = c.b = 1.0;
    if (d->kind == LLM_DISTRIBUTION_EXPONENTIAL) c.kind = LLM_DISTRIBUTION_GAMMA, c.a = 1.0;
    if (d->kind == LLM_DISTRIBUTION_CHI_SQUARED) {
        c.kind = LLM_DISTRIBUTION_GAMMA;
        c.a = 0.5 * d->a;
        c.scale = 2.0 * d->scale;
    }
    return c;
}

/* log p(x); -inf outside the support, at its ends the limit from inside. */
LLM_API double llm_distribution_logpdf(const llm_distribution *d, double x) {
    const llm_distribution c = llm_distribution_core(d);
    const double z = (x - c.loc) / c.scale, size = fabs(z), a = c.a, half = 0.5 * a;
    const bool beta = c.kind == LLM_DISTRIBUTION_BETA;
    double standard = z;
    if (z != z) return z;
    switch (c.kind) {
    case LLM_DISTRIBUTION_NORMAL:
        standard = -0.5 * z * z - 0.91893853320467274178;
        break;
    case LLM_DISTRIBUTION_LAPLACE:
        standard = -size - 0.69314718055994530942;
        break;
    case LLM_DISTRIBUTION_LOGISTIC:
        standard = -size - 2.0 * log1p(exp(-size));
        break;
    case LLM_DISTRIBUTION_CAUCHY:
        standard = -1.14472988584940017414 - 2.0 * log(hypot(1.0, z)); /* no square overflows */
        break;
    case LLM_DISTRIBUTION_STUDENT_T: /* log Gamma(half + 1/2) - log Gamma(half), large parts gone */
        standard = half * log1p(0.5 / half) - 0.5 - 0.91893853320467274178;
        standard += llm_special_stirling(half + 0.5) - llm_special_stirling(half);
        standard -= (half + 0.5) * log1p(z * z / a);
        break;
    default: /* gamma and beta; at an end p0 is infinite, 0, or (shape 1) finite */
        if (z < 0.0 || size > DBL_MAX || (beta && z > 1.0)) return -(double)INFINITY;
        if (z == 0.0 || (beta && z == 1.0)) {
            const double here = z == 0.0 ? a : c.b;
            if (here != 1.0) return here > 1.0 ? -(double)INFINITY : (double)INFINITY;
            standard = beta ? log(a) + log(c.b) : 0.0; /* one of them is 1 */
        } else if (beta) {
            standard = llm_special_beta_front(a, c.b, z, 1.0 - z) - log(z) - log1p(-z);
        } else {
            standard = llm_special_gamma_front(a, z) - log(z);
        }
    }
    return standard - log(c.scale);
}

/* *lower = log P(X <= x), *upper = log P(X > x). For the symmetric ones the tail beyond |z| is
 * computed, which is at most 1/2, and the other is what is left. */
LLM_API void llm_distribution_tails(double *lower, double *upper, const llm_distribution *d,
                                    double x) {
    const llm_distribution c = llm_distribution_core(d);
    const double z = (x - c.loc) / c.scale, size = fabs(z), r = z * z / c.a;
    const double unit = z < 0.0 ? 0.0 : z > 1.0 ? 1.0 : z;
    double beyond = 0.0, rest = 0.0;
    switch (c.kind) {
    case LLM_DISTRIBUTION_GAMMA:
        llm_special_gamma_tails(lower, upper, c.a, z);
        return;
    case LLM_DISTRIBUTION_BETA:
        llm_special_beta_tails(lower, upper, c.a, c.b, unit, 1.0 - unit);
        return;
    case LLM_DISTRIBUTION_NORMAL:
        beyond = llm_special_normal_logcdf(-size);
        break;
    case LLM_DISTRIBUTION_LAPLACE:
        beyond = -size - 0.69314718055994530942;
        break;
    case LLM_DISTRIBUTION_LOGISTIC:
        beyond = -size - log1p(exp(-size));
        break;
    case LLM_DISTRIBUTION_CAUCHY:
        beyond = log(atan2(1.0, size) / 3.14159265358979323846);
        break;
    default: /* Student t: Z^2 / (a + Z^2) has a beta distribution */
        llm_special_beta_tails(&beyond, &rest, 0.5 * c.a, 0.5, 1.0 / (1.0 + r),
                               r > 1.0 ? 1.0 / (1.0 + 1.0 / r) : r / (1.0 + r));
        beyond -= 0.69314718055994530942;
    }
    rest = log1p(-exp(beyond));
    *lower = z < 0.0 ? beyond : rest;
    *upper = z < 0.0 ? rest : beyond;
}

/* P(X <= x). */
LLM_API double llm_distribution_cdf(const llm_distribution *d, double x) {
    double lower, upper;
    llm_distribution_tails(&lower, &upper, d, x);
    return exp(lower);
}

/* x with P(X <= x) = p; NaN for p outside [0,1]. */
LLM_API double llm_distribution_quantile(const llm_distribution *d, double p) {
    const llm_distribution c = llm_distribution_core(d);
    const double tail = fmin(p, 1.0 - p);
    double z = 0.0, y = 0.0;
    if (!(p >= 0.0 && p <= 1.0)) return (double)NAN;
    switch (c.kind) {
    case LLM_DISTRIBUTION_GAMMA:
        return c.loc + c.scale * llm_special_inverse_gamma(c.a, p);
    case LLM_DISTRIBUTION_BETA:
        return c.loc + c.scale * llm_special_inverse_beta(NULL, c.a, c.b, p);
    case LLM_DISTRIBUTION_NORMAL:
        z = llm_special_inverse_normal(tail);
        break;
    case LLM_DISTRIBUTION_LAPLACE:
        z = log(2.0 * tail);
        break;
    case LLM_DISTRIBUTION_LOGISTIC:
        z = log(tail) - log1p(-tail);
        break;
    case LLM_DISTRIBUTION_CAUCHY:
        z = -1.0 / tan(3.14159265358979323846 * tail);
        break;
    default:
        z = llm_special_inverse_beta(&y, 0.5 * c.a, 0.5, 2.0 * tail), z = -sqrt(c.a * y / z);
    }
    return c.loc + c.scale * (p > 0.5 ? -z : z);
}

/* Mean and variance; infinite where the integral is, NaN where it does not exist. */
LLM_API void llm_distribution_moments(double *mean, double *var, const llm_distribution *d) {
    const llm_distribution c = llm_distribution_core(d);
    const double a = c.a, b = c.b, nan = (double)NAN;
    double m = 0.0, v = 1.0;
    switch (c.kind) {
    case LLM_DISTRIBUTION_LAPLACE:
        v = 2.0;
        break;
    case LLM_DISTRIBUTION_LOGISTIC:
        v = 3.28986813369645287294;
        break; /* pi^2 / 3 */
    case LLM_DISTRIBUTION_CAUCHY:
        m = v = nan;
        break;
    case LLM_DISTRIBUTION_GAMMA:
        m = v = a;
        break;
    case LLM_DISTRIBUTION_STUDENT_T:
        m = a > 1.0 ? 0.0 : nan, v = a > 2.0 ? a / (a - 2.0) : a > 1.0 ? (double)INFINITY : nan;
        break;
    case LLM_DISTRIBUTION_BETA:
        m = a / (a + b), v = m * (b / (a + b)) / (a + b + 1.0);
        break;
    default:
        break; /* normal */
    }
    *mean = c.loc + c.scale * m;
    *var = c.scale * c.scale * v;
}

/* @distribution_sample -------------------------- Drawing from a distribution, and testing a sample
 *
 *     x = F^-1(u)                             u uniform on (0,1): inversion
 *     g = d v,  v = (1 + z / sqrt(9 d))^3     d = a - 1/3, z normal: gamma of shape a, if accepted
 *     x = mean + L z                          covariance L L^T
 *     D = max_x |F_n(x) - F(x)|               Kolmogorov-Smirnov
 *
 * A quantile function turns a uniform number into a draw; it needs one number and keeps order, so
 * common random numbers compare two settings on the same luck. Gamma, and with it beta, chi-squared
 * and Student t, has no cheap quantile: Marsaglia and Tsang's rejection accepts more than 95 of 100
 * cubes of a normal variable. Below shape 1 it draws shape a + 1 and multiplies by u^(1/a), which
 * for small shapes is no number but has a logarithm: draws of gamma stay logarithms here, or the
 * quotient in beta(0.001, 0.001) would be 0 / 0.
 *
 * source  Marsaglia & Tsang 2000, "A simple method for generating gamma variables"; Stephens 1970,
 *         "Use of the Kolmogorov-Smirnov, Cramer-von Mises and related statistics without extensive
 *         tables"
 * needs   rng argsort arena special_inverse spd distribution
 * see     @categorical_sample @bootstrap @concentration
 * topics  -
 */

/* Uniform in (0,1), never an end: 53 bits, two words. */
LLM_API double llm_distribution_sample_uniform(llm_rng *rng) {
    const double high = (double)(llm_rng_u32(rng) >> 5), low = (double)(llm_rng_u32(rng) >> 6);
    return (high * 67108864.0 + low + 0.5) / 9007199254740992.0;
}

/* Standard normal by inversion: one uniform, and tails to 8 deviations. */
LLM_API double llm_distribution_sample_normal(llm_rng *rng) {
    return llm_special_inverse_normal(llm_distribution_sample_uniform(rng));
}

/* The logarithm of a gamma variable of shape a > 0 and scale 1. */
LLM_API double llm_distribution_sample_log_gamma(double a, llm_rng *rng) {
    LLM_ASSERT(a > 0.0);
    double boost = 0.0;
    if (a < 1.0) boost = log(llm_distribution_sample_uniform(rng)) / a, a += 1.0;
    const double d = a - 1.0 / 3.0;
    for (;;) {
        const double z = llm_distribution_sample_normal(rng), root = 1.0 + z / sqrt(9.0 * d);
        if (root <= 0.0) continue;
        const double v = root * root * root, u = llm_distribution_sample_uniform(rng);
        if (log(u) < 0.5 * z * z + d * (1.0 - v + log(v))) return log(d * v) + boost;
    }
}

/* One draw. */
LLM_API double llm_distribution_sample(const llm_distribution *d, llm_rng *rng) {
    LLM_ASSERT(llm_distribution_valid(d));
    double z = 0.0, log_g = 0.0;
    switch (d->kind) {
    case LLM_DISTRIBUTION_GAMMA:
        z = exp(llm_distribution_sample_log_gamma(d->a, rng));
        break;
    case LLM_DISTRIBUTION_CHI_SQUARED:
        z = 2.0 * exp(llm_distribution_sample_log_gamma(0.5 * d->a, rng));
        break;
    case LLM_DISTRIBUTION_BETA: /* g / (g + h) */
        log_g = llm_distribution_sample_log_gamma(d->a, rng);
        z = 1.0 / (1.0 + exp(llm_distribution_sample_log_gamma(d->b, rng) - log_g));
        break;
    case LLM_DISTRIBUTION_STUDENT_T: /* a normal over the root of chi-squared / a */
        log_g = llm_distribution_sample_log_gamma(0.5 * d->a, rng);
        z = llm_distribution_sample_normal(rng) * exp(0.5 * (log(0.5 * d->a) - log_g));
        break;
    case LLM_DISTRIBUTION_UNIFORM:
        z = llm_distribution_sample_uniform(rng);
        break;
    case LLM_DISTRIBUTION_EXPONENTIAL:
        z = -log(llm_distribution_sample_uniform(rng));
        break;
    default:
        return llm_distribution_quantile(d, llm_distribution_sample_uniform(rng));
    }
    return d->loc + d->scale * z;
}

/* x (n,D) draws of the normal distribution with mean (D) and covariance L L^T, L (D,D). */
LLM_API void llm_distribution_sample_mvn(double *x, const double *mean, const double *L, size_t n,
                                         size_t D, llm_rng *rng) {
    for (size_t k = 0; k < n; k++) {
        double *xk = x + k * D;
        for (size_t i = 0; i < D; i++) xk[i] = llm_distribution_sample_normal(rng);
        for (size_t i = D; i-- > 0;) { /* from below: row i of L reads only z_0 .. z_i */
            double sum = mean[i];
            for (size_t j = 0; j <= i; j++) sum += L[i * D + j] * xk[j];
            xk[i] = sum;
        }
    }
}

/* Its log density at x (D). scratch (D). */
LLM_API double llm_distribution_sample_mvn_logpdf(double *scratch, const double *x,
                                                  const double *mean, const double *L, size_t D) {
    for (size_t i = 0; i < D; i++) scratch[i] = x[i] - mean[i];
    return -0.5 * (llm_spd_quadratic(scratch, L, scratch, D) + llm_spd_logdet(L, D) +
                   (double)D * 1.83787706640934548356);
}

/* The chance of a statistic above l when the distribution is right, for large n; l is sqrt(n) D.
 * The alternating series converges fast above 1, its theta-function twin below. */
LLM_API double llm_distribution_sample_kolmogorov(double l) {
    double sum = 0.0;
    if (l <= 0.0) return 1.0;
    for (double k = 1.0; k < 9.0; k += 1.0) {
        const double odd = 2.0 * k - 1.0;
        sum += l > 1.0 ? (fmod(k, 2.0) == 1.0 ? 2.0 : -2.0) * exp(-2.0 * k * k * l * l)
                       : exp(-odd * odd * 1.23370055013616983 / (l * l)); /* pi^2 / 8 */
    }
    return l > 1.0 ? sum : 1.0 - 2.50662827463100050 / l * sum;
}

/* Returns the p-value of "x (n) comes from d", *D the largest gap between the two distribution
 * functions. Stephens' factor makes the limit good from n = 5 on; it holds for parameters that
 * were not fitted to x. Scratch: n indices, given back. */
LLM_API double llm_distribution_sample_ks(double *D, const llm_distribution *d, const float *x,
                                          size_t n, llm_arena *arena) {
    const size_t mark = arena->used;
    size_t *order = (size_t *)llm_arena_take(arena, n, sizeof(size_t));
    llm_argsort(order, x, n);
    *D = 0.0;
    for (size_t i = 0; i < n; i++) {
        const double f = llm_distribution_cdf(d, (double)x[order[i]]);
        *D = fmax(*D, fmax(f - (double)i / (double)n, (double)(i + 1) / (double)n - f));
    }
    arena->used = mark;
    const double root = sqrt((double)n);
    return llm_distribution_sample_kolmogorov(*D * (root + 0.12 + 0.11 / root));
}

/* @categorical ---------------------------------------------- Discrete distributions
 *
 *     binomial           C(n,k) p^k (1-p)^(n-k)              sum over k <= m:  1 - I(p; m+1, n-m)
 *     Poisson            n^k e^-n / k!                                          Q(m+1, n)
 *     negative binomial  C(k+n-1,k) p^n (1-p)^k                                 I(p; n, m+1)
 *     geometric          p (1-p)^(k-1)  from k = 1 on                           1 - (1-p)^m
 *     multinomial        n! / (k_1! .. k_K!) p_1^k_1 .. p_K^k_K
 *
 * What counts follow. A probability is a product of a huge binomial coefficient and tiny powers;
 * around its peak both cancel, and the front factors of the incomplete beta and gamma functions
 * are that product with the cancellation done by hand, so a binomial of a million trials keeps 12
 * digits. Sums of probabilities are incomplete integrals, and need no sum. The chi-squared test
 * compares counts with any of these; its approximation wants about 5 expected in each cell, so
 * smaller cells are pooled with their neighbours.
 *
 * source  Loader 2000, "Fast and accurate computation of binomial probabilities"; Pearson 1900, "On
 *         the criterion that a given system of deviations ..."
 * needs   special
 * see     @categorical_sample @distribution @entropy
 * topics  Discrete probability distribution
 */
enum {
    LLM_CATEGORICAL_BINOMIAL,  /* successes in n trials; n = 1 is Bernoulli */
    LLM_CATEGORICAL_POISSON,   /* events where n are expected; p is not read */
    LLM_CATEGORICAL_NEGATIVE,  /* negative binomial: failures before success number n */
    LLM_CATEGORICAL_GEOMETRIC, /* trials up to the first success, 1 at least; n is not read */
    LLM_CATEGORICAL_COUNT
};

/* Which one; n trials, successes or expected events; p of a success. */
typedef struct {
    int kind;
    double n, p;
} llm_categorical_law;

/* Whether the parameters make sense: n whole for the binomial, p in [0,1], not 0 where one waits
 * for a success. */
LLM_API bool llm_categorical_valid(const llm_categorical_law *law) {
    const double n = law->n, p = law->p;
    switch (law->kind) {
    case LLM_CATEGORICAL_BINOMIAL:
        return n >= 0.0 && n <= 1e15 && n == floor(n) && p >= 0.0 && p <= 1.0;
    case LLM_CATEGORICAL_POISSON:
        return n >= 0.0 && n <= 1e15;
    case LLM_CATEGORICAL_NEGATIVE:
        return n > 0.0 && n <= 1e15 && p > 0.0 && p <= 1.0;
    case LLM_CATEGORICAL_GEOMETRIC:
        return p > 0.0 && p <= 1.0;
    default:
        return false;
    }
}

/* log P(X = k); -inf for every k that cannot be, fractions included. */
LLM_API double llm_categorical_logpmf(const llm_categorical_law *law, double k) {
    LLM_ASSERT(llm_categorical_valid(law));
    const double n = law->n, p = law->p, q = 1.0 - p, never = -(double)INFINITY;
    if (!(k >= 0.0 && k <= 1e15) || k != floor(k)) return k != k ? k : never;
    switch (law->kind) {
    case LLM_CATEGORICAL_BINOMIAL:
        if (k > n || (p == 0.0 && k > 0.0) || (p == 1.0 && k < n)) return never;
        if (k == 0.0 || k == n) /* 0 log 0 is 0 */
            return (k > 0.0 ? k * log(p) : 0.0) + (k < n ? (n - k) * log1p(-p) : 0.0);
        return llm_special_beta_front(k, n - k, p, q) + log(n / k / (n - k));
    case LLM_CATEGORICAL_POISSON:
        if (k == 0.0) return -n;
        return n == 0.0 ? never : llm_special_gamma_front(k, n) - log(k);
    case LLM_CATEGORICAL_NEGATIVE:
        if (k == 0.0) return n * log(p);
        return p == 1.0 ? never : llm_special_beta_front(n, k, p, q) - log(k);
    default:
        if (k < 1.0) return never;
        return log(p) + (k > 1.0 ? (k - 1.0) * log1p(-p) : 0.0);
    }
}

/* *lower = log P(X <= k), *upper = log P(X > k), for any real k. */
LLM_API void llm_categorical_tails(double *lower, double *upper, const llm_categorical_law *law,
                                   double k) {
    LLM_ASSERT(llm_categorical_valid(law));
    const double n = law->n, p = law->p, q = 1.0 - p, m = floor(k);
    const bool binomial = law->kind == LLM_CATEGORICAL_BINOMIAL;
    *lower = k < 0.0 ? -(double)INFINITY : 0.0;
    *upper = k < 0.0 ? 0.0 : -(double)INFINITY;
    if (k < 0.0 || k > 1e15 || (binomial && m >= n)) return;
    switch (law->kind) {
    case LLM_CATEGORICAL_BINOMIAL:
        llm_special_beta_tails(upper, lower, m + 1.0, n - m, p, q);
        break;
    case LLM_CATEGORICAL_POISSON:
        llm_special_gamma_tails(upper, lower, m + 1.0, n);
        break;
    case LLM_CATEGORICAL_NEGATIVE:
        llm_special_beta_tails(lower, upper, n, m + 1.0, p, q);
        break;
    default:
        *upper = m > 0.0 ? m * log1p(-p) : 0.0;
        *lower = llm_special_log1mexp(*upper);
    }
}

/* The smallest k with P(X <= k) >= u, for 0 <= u < 1: doubling, then bisection. A u that is one of
 * these probabilities must find its k, so they may be 1e-13 of themselves below. */
LLM_API double llm_categorical_quantile(const llm_categorical_law *law, double u) {
    double below = -1.0, above = 1.0, lower, upper;
    LLM_ASSERT(u >= 0.0 && u < 1.0);
    for (;; above *= 2.0) {
        llm_categorical_tails(&lower, &upper, law, above);
        if (exp(lower) >= u * (1.0 - 1e-13)) break;
        below = above;
    }
    while (above - below > 1.0) {
        const double middle = floor(0.5 * (below + above));
        llm_categorical_tails(&lower, &upper, law, middle);
        if (exp(lower) >= u * (1.0 - 1e-13))
            above = middle;
        else
            below = middle;
    }
    return above;
}

/* Mean and variance. */
LLM_API void llm_categorical_moments(double *mean, double *var, const llm_categorical_law *law) {
    LLM_ASSERT(llm_categorical_valid(law));
    const double n = law->n, p = law->p, q = 1.0 - p;
    switch (law->kind) {
    case LLM_CATEGORICAL_BINOMIAL:
        *mean = n * p, *var = n * p * q;
        break;
    case LLM_CATEGORICAL_POISSON:
        *mean = *var = n;
        break;
    case LLM_CATEGORICAL_NEGATIVE:
        *mean = n * q / p, *var = n * q / (p * p);
        break;
    default:
        *mean = 1.0 / p, *var = q / (p * p);
    }
}

/* log P of the counts k (K) when each of their sum draws is i with probability p_i, p (K) summing
 * to 1. One draw is the categorical distribution. A cell with p = 0 and a count is impossible. */
LLM_API double llm_categorical_multinomial(const float *k, const float *p, size_t K) {
    double n = 0.0, sum = 0.0;
    for (size_t i = 0; i < K; i++) {
        if (k[i] == 0.0f) continue; /* 0 log 0 is 0 */
        n += (double)k[i];
        sum += (double)k[i] * log((double)p[i]) - llm_special_lgamma((double)k[i] + 1.0);
    }
    return llm_special_lgamma(n + 1.0) + sum;
}

/* Pearson's test of the counts k (K) against probabilities p (K) that sum to 1: returns the
 * p-value, *chi2 = sum (k - n p)^2 / (n p) over pooled cells, *df their number less one. fitted is
 * how many parameters of p were fitted to the counts: each costs a degree of freedom. */
LLM_API double llm_categorical_chi2test(double *chi2, double *df, const double *k, const double *p,
                                        size_t K, size_t fitted) {
    double n = 0.0, rest = 0.0, seen = 0.0, expected = 0.0, log_p, log_q;
    for (size_t i = 0; i < K; i++) n += k[i];
    for (size_t i = 0; i < K; i++) rest += n * p[i];
    *chi2 = 0.0;
    *df = -1.0 - (double)fitted;
    for (size_t i = 0; i < K; i++) {
        seen += k[i];
        expected += n * p[i];
        rest -= n * p[i];
        if (i + 1 < K && (expected < 5.0 || rest < 5.0)) continue; /* the end joins the last cell */
        if (expected > 0.0)
            *chi2 += (seen - expected) * (seen - expected) / expected;
        else if (seen > 0.0)
            *chi2 = (double)INFINITY;
        *df += 1.0;
        seen = expected = 0.0;
    }
    if (*df <= 0.0) return *chi2 > DBL_MAX ? 0.0 : 1.0;
    llm_special_gamma_tails(&log_p, &log_q, 0.5 * *df, 0.5 * *chi2);
    return exp(log_q);
}

/* @categorical_sample --------------------------------------- Drawing from discrete distributions
 *
 *     table    first i with w_0 + .. + w_i > u W                       log n steps a draw
 *     alias    i uniform; keep it with probability cut_i, else alias_i     one step a draw
 *     Gumbel   argmax_i z_i - log(-log u_i) ~ softmax(z)               no normalisation, n steps
 *
 * Three ways to draw an index, for three occasions: many draws from changing weights, very many
 * from fixed ones, one from logits. The alias table stores each of n columns of height W/n as two
 * pieces, so it is the distribution itself, cut and glued. Gumbel noise makes the maximum random
 * with exactly the softmax probabilities; the k largest are k draws without replacement, in order.
 * Counts come by walking up the probabilities when the mean is small, and by Hormann's transformed
 * rejection when it is not: about 1.2 pairs of uniforms for any mean.
 *
 * source  Walker 1977, "An efficient method for generating discrete random variables ..."; Vose
 *         1991, "A linear algorithm ..."; Hormann 1993, "The transformed rejection method for
 *         generating Poisson random variables" and "The generation of binomial random variates";
 *         Kool, van Hoof & Welling 2019, "Stochastic beams and where to find them"
 * needs   rng arena distribution_sample categorical
 * see     @top_p @sampling (the chain of a decoder), @bootstrap
 * topics  -
 */

/* cdf (n) <- w (n), running sums. False when a weight is negative or not a number, or the sum is 0
 * or infinite. */
LLM_API bool llm_categorical_sample_table(double *cdf, const float *w, size_t n) {
    double sum = 0.0;
    for (size_t i = 0; i < n; i++) {
        if (!(w[i] >= 0.0f)) return false;
        cdf[i] = sum += (double)w[i];
    }
    return sum > 0.0 && sum <= DBL_MAX;
}

/* A draw from the table: the first entry above u W. One of weight 0 does not rise, and is never
 * the first. */
LLM_API size_t llm_categorical_sample_search(const double *cdf, size_t n, llm_rng *rng) {
    const double t = llm_distribution_sample_uniform(rng) * cdf[n - 1];
    size_t low = 0, high = n - 1; /* the answer is in low..high */
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (cdf[middle] > t)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

/* cut (n), alias (n) <- w (n). False as above. Columns below the mean height are filled up from one
 * above it, which may thereby become a low one. Scratch: n indices, given back. */
LLM_API bool llm_categorical_sample_alias(double *cut, size_t *alias, const float *w, size_t n,
                                          llm_arena *arena) {
    const size_t mark = arena->used;
    size_t *stack = (size_t *)llm_arena_take(arena, n, sizeof(size_t));
    size_t low = 0, high = n; /* low ones stand at the start of the stack, high ones at its end */
    const bool valid = llm_categorical_sample_table(cut, w, n);
    const double mean = valid ? cut[n - 1] / (double)n : 1.0;
    for (size_t i = 0; valid && i < n; i++) {
        alias[i] = i;
        cut[i] = (double)w[i] / mean;
        if (cut[i] < 1.0)
            stack[low++] = i;
        else
            stack[--high] = i;
    }
    while (low > 0 && high < n) {
        const size_t small = stack[--low], large = stack[high];
        alias[small] = large;
        cut[large] -= 1.0 - cut[small];
        if (cut[large] >= 1.0) continue;
        high++;
        stack[low++] = large;
    }
    while (valid && low > 0) cut[stack[--low]] = 1.0; /* what rounding left */
    arena->used = mark;
    return valid;
}

/* A draw from the alias table. */
LLM_API size_t llm_categorical_sample_alias_draw(const double *cut, const size_t *alias, size_t n,
                                                 llm_rng *rng) {
    const size_t i = llm_rng_below(rng, n);
    return llm_distribution_sample_uniform(rng) < cut[i] ? i : alias[i];
}

/* index (k) <- logits z (n): k draws without replacement, the i-th from the softmax of what is left
 * after i. k = 1 is one draw from the softmax. Entries of -inf are never drawn: returns how many
 * there are, k or less. score (k) is scratch. */
LLM_API size_t llm_categorical_sample_gumbel(size_t *index, double *score, size_t k, const float *z,
                                             size_t n, llm_rng *rng) {
    size_t found = 0;
    for (size_t i = 0; i < n; i++) {
        const double noise = -log(-log(llm_distribution_sample_uniform(rng)));
        const double s = (double)z[i] + noise;
        LLM_ASSERT(z[i] < INFINITY);
        if (z[i] == -INFINITY || (found == k && (k == 0 || s <= score[k - 1]))) continue;
        size_t at = found < k ? found++ : k - 1; /* insert, highest score first */
        for (; at > 0 && score[at - 1] < s; at--) {
            score[at] = score[at - 1];
            index[at] = index[at - 1];
        }
        score[at] = s;
        index[at] = i;
    }
    return found;
}

/* k = floor((2 a / s + b) u + c), with u uniform on +-1/2 and s = 1/2 - |u|, has a density that a
 * multiple of the law's fits under; inside the box s >= 0.07, v <= safe nothing needs to be
 * computed. log_scale is the height of the lid. */
LLM_API double llm_categorical_sample_reject(const llm_categorical_law *law, double a, double b,
                                             double c, double safe, double log_scale,
                                             llm_rng *rng) {
    for (;;) {
        const double u = llm_distribution_sample_uniform(rng) - 0.5, s = 0.5 - fabs(u);
        const double v = llm_distribution_sample_uniform(rng), k = floor((2.0 * a / s + b) * u + c);
        if (s >= 0.07 && v <= safe) return k;
        if (log(v / (a / (s * s) + b)) + log_scale <= llm_categorical_logpmf(law, k)) return k;
    }
}

/* One draw of a count. */
LLM_API double llm_categorical_sample(const llm_categorical_law *law, llm_rng *rng) {
    LLM_ASSERT(llm_categorical_valid(law));
    const double n = law->n, p = law->p;
    llm_categorical_law other = *law;
    double mean, var;
    llm_categorical_moments(&mean, &var, law);
    if (law->kind == LLM_CATEGORICAL_GEOMETRIC) /* inversion; p = 1 gives -x / -inf = 0 */
        return 1.0 + floor(log(llm_distribution_sample_uniform(rng)) / log1p(-p));
    if (law->kind == LLM_CATEGORICAL_NEGATIVE) { /* Poisson with a gamma variable as its mean */
        other.kind = LLM_CATEGORICAL_POISSON;
        other.n = exp(llm_distribution_sample_log_gamma(n, rng)) * (1.0 - p) / p;
        return llm_categorical_sample(&other, rng);
    }
    if (law->kind == LLM_CATEGORICAL_BINOMIAL && p > 0.5) { /* count the failures */
        other.p = 1.0 - p;
        return n - llm_categorical_sample(&other, rng);
    }
    if (mean < 10.0) { /* the smallest k whose distribution function exceeds u */
        double u = llm_distribution_sample_uniform(rng), k = 0.0;
        double mass = exp(llm_categorical_logpmf(law, 0.0));
        for (; u > mass && mass > 1e-20; k += 1.0) {
            u -= mass;
            mass *=
                (law->kind == LLM_CATEGORICAL_POISSON ? n : (n - k) * p / (1.0 - p)) / (k + 1.0);
        }
        return k;
    }
    const double root = sqrt(var);
    if (law->kind == LLM_CATEGORICAL_POISSON) { /* PTRS */
        const double b = 0.931 + 2.53 * root, a = -0.059 + 0.02483 * b;
        return llm_categorical_sample_reject(law, a, b, n + 0.43, 0.9277 - 3.6224 / (b - 2.0),
                                             log(1.1239 + 1.1328 / (b - 3.4)), rng);
    }
    const double b = 1.15 + 2.53 * root, a = -0.0873 + 0.0248 * b + 0.01 * p; /* BTRS */
    const double peak = llm_categorical_logpmf(law, floor((n + 1.0) * p));
    return llm_categorical_sample_reject(law, a, b, mean + 0.5, 0.92 - 4.2 / b,
                                         log((2.83 + 5.1 / b) * root) + peak, rng);
}

/* k (K) counts of n draws with probabilities w_i / sum w, w (K): each count is a binomial among
 * what the cells before it left. */
LLM_API void llm_categorical_sample_multinomial(double *k, const float *w, size_t K, double n,
                                                llm_rng *rng) {
    double mass = 0.0;
    for (size_t i = 0; i < K; i++) mass += (double)w[i];
    for (size_t i = 0; i < K; i++) {
        const double share = i + 1 == K ? 1.0 : mass > 0.0 ? fmin(1.0, (double)w[i] / mass) : 0.0;
        const llm_categorical_law law = {LLM_CATEGORICAL_BINOMIAL, n, share};
        k[i] = llm_categorical_sample(&law, rng);
        n -= k[i];
        mass -= (double)w[i];
    }
}

/* @conditional ---------------------------------------------- Conditional probability
 *
 *     p(x | y) = p(x,y) / p(y)        p(y) = sum_x p(x,y)        p(x|y) = p(y|x) p(x) / p(y)
 *     p(a,b,c,..) = p(a) p(b|a) p(c|a,b) ..                      in any order
 *
 * A table of joint probabilities answers every question about its variables: sum out what is not
 * asked, fix what is known, divide by the mass that is left. Bayes' rule turns the chance of the
 * evidence into the chance of the cause, and its usual surprise is the prior: a good test for a
 * rare disease is mostly wrong when it says yes. Tables grow exponentially with their axes, which
 * is why a language model computes conditionals one at a time instead. Conditioning on something of
 * probability 0 has no answer, and says so.
 *
 * source  Bayes 1763, "An essay towards solving a problem in the doctrine of chances"; Simpson
 *         1951, "The interpretation of interaction in contingency tables"
 * needs   special
 * see     @conditional_gaussian @entropy (mutual information), @backoff (what to do about zeros)
 * topics  Conditional probability
 */
enum { LLM_CONDITIONAL_AXES = 8 };

/* A table p over axes of the given sizes, the last one contiguous. */
typedef struct {
    double *p;
    size_t axes, size[LLM_CONDITIONAL_AXES];
} llm_conditional_table;

/* How many entries a table has. */
LLM_API size_t llm_conditional_count(const llm_conditional_table *t) {
    size_t n = 1;
    LLM_ASSERT(t->axes <= LLM_CONDITIONAL_AXES);
    for (size_t a = 0; a < t->axes; a++) n *= t->size[a];
    return n;
}

/* The index of entry i of t in its marginal on the axes of keep (bit a for axis a). */
LLM_API size_t llm_conditional_project(const llm_conditional_table *t, size_t i, unsigned keep) {
    size_t index = 0, stride = 1;
    for (size_t a = t->axes; a-- > 0; i /= t->size[a]) {
        if (!(keep >> a & 1u)) continue;
        index += i % t->size[a] * stride;
        stride *= t->size[a];
    }
    return index;
}

/* out <- t summed over all axes but those of keep, which keep their order. out->p has room for the
 * product of their sizes; its shape is set. */
LLM_API void llm_conditional_marginal(llm_conditional_table *out, const llm_conditional_table *t,
                                      unsigned keep) {
    const size_t n = llm_conditional_count(t);
    out->axes = 0;
    for (size_t a = 0; a < t->axes; a++)
        if (keep >> a & 1u) out->size[out->axes++] = t->size[a];
    const size_t m = llm_conditional_count(out);
    for (size_t i = 0; i < m; i++) out->p[i] = 0.0;
    for (size_t i = 0; i < n; i++) out->p[llm_conditional_project(t, i, keep)] += t->p[i];
}

/* out <- t given that `axis` has `value`: that slice, divided by its mass; the axis is gone. False
 * when the mass is 0, and out->p is not touched. */
LLM_API bool llm_conditional_given(llm_conditional_table *out, const llm_conditional_table *t,
                                   size_t axis, size_t value) {
    LLM_ASSERT(axis < t->axes && value < t->size[axis]);
    const size_t n = llm_conditional_count(t);
    const unsigned keep = ~(1u << axis);
    size_t inner = 1;
    double mass = 0.0;
    for (size_t a = axis + 1; a < t->axes; a++) inner *= t->size[a];
    for (size_t i = 0; i < n; i++)
        if (i / inner % t->size[axis] == value) mass += t->p[i];
    if (!(mass > 0.0)) return false;
    for (size_t i = 0; i < n; i++)
        if (i / inner % t->size[axis] == value)
            out->p[llm_conditional_project(t, i, keep)] = t->p[i] / mass;
    out->axes = 0;
    for (size_t a = 0; a < t->axes; a++)
        if (a != axis) out->size[out->axes++] = t->size[a];
    return true;
}

/* f (entries of t) <- p(axis `asked` | axes of `known`): each entry of the joint divided by the
 * mass of its slice. This is one factor of the chain rule; 0 where the condition has probability 0.
 * sum and joint have room for the marginals on known, and on known and asked. */
LLM_API void llm_conditional_factor(double *f, const llm_conditional_table *t, size_t asked,
                                    unsigned known, double *sum, double *joint) {
    const size_t n = llm_conditional_count(t);
    const unsigned both = known | 1u << asked;
    llm_conditional_table below, above;
    below.p = sum;
    above.p = joint;
    llm_conditional_marginal(&below, t, known);
    llm_conditional_marginal(&above, t, both);
    for (size_t i = 0; i < n; i++) {
        const double mass = below.p[llm_conditional_project(t, i, known)];
        f[i] = mass > 0.0 ? above.p[llm_conditional_project(t, i, both)] / mass : 0.0;
    }
}

/* log_posterior (n) <- log_prior, log_likelihood (n), in place if wanted; returns the log evidence,
 * log sum_i prior_i likelihood_i. -inf when no hypothesis could have produced the data; the
 * posterior is then left as it was. */
LLM_API double llm_conditional_bayes(double *log_posterior, const double *log_prior,
                                     const double *log_likelihood, size_t n) {
    double max = -(double)INFINITY, sum = 0.0;
    for (size_t i = 0; i < n; i++) max = fmax(max, log_prior[i] + log_likelihood[i]);
    if (max == -(double)INFINITY) return max;
    for (size_t i = 0; i < n; i++) sum += exp(log_prior[i] + log_likelihood[i] - max);
    for (size_t i = 0; i < n; i++)
        log_posterior[i] = log_prior[i] + log_likelihood[i] - max - log(sum);
    return max + log(sum);
}

/* I(X;Y|Z) in nats of p (X,Y,Z), which may be counts: sum p(x,y,z) log p(x,y,z) p(z) / p(x,z)
 * p(y,z). Z = 1 gives the mutual information. */
LLM_API double llm_conditional_cmi(const double *p, size_t X, size_t Y, size_t Z) {
    double sum = 0.0, total = 0.0;
    for (size_t z = 0; z < Z; z++) {
        double pz = 0.0;
        for (size_t i = 0; i < X * Y; i++) pz += p[i * Z + z];
        total += pz;
        for (size_t x = 0; x < X; x++)
            for (size_t y = 0; y < Y; y++) {
                const double joint = p[(x * Y + y) * Z + z];
                double px = 0.0, py = 0.0;
                if (joint == 0.0) continue;
                for (size_t k = 0; k < Y; k++) px += p[(x * Y + k) * Z + z];
                for (size_t k = 0; k < X; k++) py += p[(k * Y + y) * Z + z];
                sum += joint * log(joint * pz / (px * py));
            }
    }
    return total > 0.0 ? sum / total : 0.0;
}

/* The p-value of "X and Y are independent given Z" for counts (X,Y,Z): G = 2 N I(X;Y|Z) is about
 * chi-squared with (X-1)(Y-1)Z degrees of freedom. */
LLM_API double llm_conditional_gtest(double *G, const double *count, size_t X, size_t Y, size_t Z) {
    LLM_ASSERT(X > 1 && Y > 1 && Z > 0);
    double n = 0.0, log_p, log_q;
    for (size_t i = 0; i < X * Y * Z; i++) n += count[i];
    *G = fmax(0.0, 2.0 * n * llm_conditional_cmi(count, X, Y, Z));
    llm_special_gamma_tails(&log_p, &log_q, 0.5 * (double)((X - 1) * (Y - 1) * Z), 0.5 * *G);
    return exp(log_q);
}

/* p (V,V) <- tokens (n) in 0..V-1: P(next = j | previous = i) from counts + alpha. Rows that were
 * never seen are uniform; with alpha = 0 they are zeros. */
LLM_API void llm_conditional_counts(float *p, const int *tokens, size_t n, size_t V, float alpha) {
    for (size_t i = 0; i < V * V; i++) p[i] = alpha;
    for (size_t t = 0; t + 1 < n; t++) {
        LLM_ASSERT(tokens[t] >= 0 && (size_t)tokens[t] < V && tokens[t + 1] >= 0 &&
                   (size_t)tokens[t + 1] < V);
        p[(size_t)tokens[t] * V + (size_t)tokens[t + 1]] += 1.0f;
    }
    for (size_t i = 0; i < V; i++) {
        double sum = 0.0;
        for (size_t j = 0; j < V; j++) sum += (double)p[i * V + j];
        for (size_t j = 0; sum > 0.0 && j < V; j++)
            p[i * V + j] = (float)((double)p[i * V + j] / sum);
    }
}

/* @conditional_gaussian ------------------------------------- Conditioning a multivariate normal
 *
 *     x_a | x_b  ~  N( mu_a + S_ab S_bb^-1 (x_b - mu_b),  S_aa - S_ab S_bb^-1 S_ba )
 *
 * Of all joint densities the normal is the one that can be conditioned in closed form: the result
 * is normal again, its mean moves linearly with what was seen, and its covariance, the Schur
 * complement, does not depend on what was seen at all. Gaussian processes, Kalman filters and
 * linear regression are this one formula. S_bb^-1 is never formed: whitening with its Cholesky
 * factor gives a covariance that is a difference of symmetric terms and stays symmetric.
 *
 * source  Rasmussen & Williams 2006, "Gaussian processes for machine learning", eq. A.6
 * needs   arena spd
 * see     @conditional @distribution_sample
 * topics  -
 */

/* mean_a (A), cov_a (A,A) <- mean (D), cov (D,D), what was seen x_b (B), and order (D): the indices
 * of the A unknown coordinates, then those of the B = D - A known ones. Returns false when S_bb is
 * not positive definite. Scratch: B (B + A + 1) doubles, given back. */
LLM_API bool llm_conditional_gaussian(double *mean_a, double *cov_a, const double *mean,
                                      const double *cov, const double *x_b, const size_t *order,
                                      size_t A, size_t D, llm_arena *arena) {
    LLM_ASSERT(A <= D);
    const size_t mark = arena->used, B = D - A;
    double *L = llm_arena_doubles(arena, B * B), *W = llm_arena_doubles(arena, A * B);
    double *r = llm_arena_doubles(arena, B);
    for (size_t i = 0; i < B; i++) {
        r[i] = x_b[i] - mean[order[A + i]];
        for (size_t j = 0; j < B; j++) L[i * B + j] = cov[order[A + i] * D + order[A + j]];
    }
    const bool definite = llm_spd_factor(L, L, B);
    if (definite) llm_spd_forward(r, L, r, B);   /* L r = x_b - mu_b */
    for (size_t i = 0; definite && i < A; i++) { /* row i: L w = S_b,i */
        double *w = W + i * B;
        for (size_t j = 0; j < B; j++) w[j] = cov[order[i] * D + order[A + j]];
        llm_spd_forward(w, L, w, B);
        mean_a[i] = mean[order[i]];
        for (size_t j = 0; j < B; j++) mean_a[i] += w[j] * r[j];
        for (size_t k = 0; k <= i; k++) {
            double sum = cov[order[i] * D + order[k]];
            for (size_t j = 0; j < B; j++) sum -= w[j] * W[k * B + j];
            cov_a[i * A + k] = cov_a[k * A + i] = sum;
        }
    }
    arena->used = mark;
    return definite;
}

/* @logit ---------------------------------------------------- Logit
 *
 *     logit(p) = log p - log(1 - p)      expit(z) = 1 / (1 + e^-z)      expit' = p (1 - p)
 *     logit P(c | e1, e2) = logit P(c) + log LR(e1) + log LR(e2)       independent evidence
 *
 * Log-odds turn a probability into a number without bounds, on which evidence adds. A classifier's
 * last layer works there, and so does every correction of it: a model trained on balanced classes
 * is moved to the true base rate by one addition. expit is written with the exponential of a
 * negative number on both sides of 0, so it never overflows and keeps the digits of small
 * probabilities; those of 1 - p for p near 1 are lost in p itself, and log sigmoid goes around
 * that.
 *
 * source  Berkson 1944, "Application of the logistic function to bio-assay"; Good 1950,
 *         "Probability and the weighing of evidence"; Saerens, Latinne & Decaestecker 2002,
 *         "Adjusting the outputs of a classifier to new a priori probabilities"
 * needs   -
 * see     @sigmoid @bce @softmax (several classes), @logistic_regression
 * topics  Logit
 */

/* log(p / (1 - p)); -inf and inf at 0 and 1, NaN outside. */
LLM_API double llm_logit(double p) {
    return p >= 0.0 && p <= 1.0 ? log(p) - log1p(-p) : (double)NAN;
}

/* d logit / dp = 1 / (p (1 - p)). */
LLM_API double llm_logit_slope(double p) { return 1.0 / (p * (1.0 - p)); }

/* The probability of log-odds z. */
LLM_API double llm_logit_expit(double z) {
    const double e = exp(-fabs(z));
    return z >= 0.0 ? 1.0 / (1.0 + e) : e / (1.0 + e);
}

/* d expit / dz = p (1 - p), to full precision in both tails. */
LLM_API double llm_logit_expit_slope(double z) {
    const double e = exp(-fabs(z));
    return e / ((1.0 + e) * (1.0 + e));
}

/* log expit(z), where expit itself would be 0 or 1; its slope is expit(-z). */
LLM_API double llm_logit_logsigmoid(double z) { return fmin(z, 0.0) - log1p(exp(-fabs(z))); }

/* log(1 + e^z) = -logsigmoid(-z): its slope is expit(z). */
LLM_API double llm_logit_softplus(double z) { return fmax(z, 0.0) + log1p(exp(-fabs(z))); }

/* z with softplus(z) = y, y > 0: the start value of a parameter kept positive by softplus. */
LLM_API double llm_logit_softplus_inverse(double y) { return y + log(-expm1(-y)); }

/* Probability p after evidence (n), log likelihood ratios log P(e | yes) / P(e | no). They add only
 * if the pieces of evidence are independent given the answer: naive Bayes. */
LLM_API double llm_logit_update(double p, const double *evidence, size_t n) {
    double z = llm_logit(p);
    for (size_t i = 0; i < n; i++) z += evidence[i];
    return llm_logit_expit(z);
}

/* The logits z (n) of a model trained where the positive rate was `from`, used where it is `to`:
 * the likelihood ratio stays, only the prior odds change. z may be NULL for the shift alone. */
LLM_API double llm_logit_prior_shift(float *z, size_t n, double from, double to) {
    const double shift = llm_logit(to) - llm_logit(from);
    LLM_ASSERT(from > 0.0 && from < 1.0);
    for (size_t i = 0; z && i < n; i++) z[i] = (float)((double)z[i] + shift);
    return shift;
}

/* The same for K classes: z (n,K) += log to_k - log from_k; rates (K) need not sum to 1. */
LLM_API void llm_logit_prior_shift_classes(float *z, size_t n, size_t K, const float *from,
                                           const float *to) {
    for (size_t i = 0; i < n * K; i++) {
        LLM_ASSERT(from[i % K] > 0.0f && to[i % K] >= 0.0f);
        z[i] += logf(to[i % K]) - logf(from[i % K]);
    }
}

/* The logarithmic opinion pool: expit of the weighted mean of logits of p (n); weight (n) or NULL
 * for equal ones. Unlike the mean of probabilities it lets one expert who is sure outvote many who
 * are not, and one 0 is a veto; a 0 and a 1 together have no answer (NaN). */
LLM_API double llm_logit_pool(const double *p, const double *weight, size_t n) {
    double sum = 0.0, total = 0.0;
    for (size_t i = 0; i < n; i++) {
        const double w = weight ? weight[i] : 1.0;
        if (w == 0.0) continue;
        sum += w * llm_logit(p[i]);
        total += w;
    }
    return llm_logit_expit(sum / total);
}

/* z (n,K) in place: each row loses its mean. softmax does not see the difference, and two models'
 * logits can be compared. The centred row is the log of p over its geometric mean. */
LLM_API void llm_logit_centre(float *z, size_t n, size_t K) {
    for (size_t r = 0; r < n; r++) {
        double mean = 0.0;
        for (size_t k = 0; k < K; k++) mean += (double)z[r * K + k] / (double)K;
        for (size_t k = 0; k < K; k++) z[r * K + k] = (float)((double)z[r * K + k] - mean);
    }
}

/* @log_likelihood ------------------------------------------- Log-likelihood
 *
 *     l(theta) = sum_i w_i log p(x_i; theta)     score = dl/dtheta     E score = 0 at the truth
 *     AIC = 2k - 2l      BIC = k log n - 2l      2 (l_big - l_small) ~ chi2(k_big - k_small)
 *
 * How well parameters explain data. The probability of a whole data set is a product that leaves
 * the range of doubles after a few hundred factors; its logarithm is a sum, and the only scale on
 * which models are compared. Absolute values mean nothing for densities (they change with the
 * unit), only differences on the same data. A richer model always fits better: AIC and BIC charge
 * for its parameters, and Wilks' theorem says how much improvement chance alone brings.
 *
 * source  Fisher 1922, "On the mathematical foundations of theoretical statistics"; Wilks 1938,
 *         "The large-sample distribution of the likelihood ratio ..."; Akaike 1974, "A new look at
 *         the statistical model identification"; Schwarz 1978, "Estimating the dimension of a
 *         model"; Hurvich & Tsai 1989 (AICc)
 * needs   special special_inverse distribution
 * see     @nll (as a loss), @mle (its maximum), @fisher_info (its curvature)
 * topics  Log-likelihood
 */

/* *sum += x, with *lost what rounding took (Neumaier): a million terms add up like a handful. */
LLM_API void llm_log_likelihood_add(double *sum, double *lost, double x) {
    const double total = *sum + x;
    if (fabs(total) <= DBL_MAX) /* inf - inf would be NaN */
        *lost += fabs(*sum) >= fabs(x) ? *sum - total + x : x - total + *sum;
    *sum = total;
}

/* l <- x (n) independent draws; weight (n) or NULL for ones. -inf when one x cannot be. */
LLM_API double llm_log_likelihood_iid(const llm_distribution *d, const float *x,
                                      const float *weight, size_t n) {
    double sum = 0.0, lost = 0.0;
    for (size_t i = 0; i < n; i++) {
        const double w = weight ? (double)weight[i] : 1.0;
        if (w != 0.0)
            llm_log_likelihood_add(&sum, &lost, w * llm_distribution_logpdf(d, (double)x[i]));
    }
    return sum + lost;
}

/* score (4) <- dl / d(loc, scale, a, b) for the same sum. With g = d log p0 / dz:
 *     dl/dloc = -g / scale        dl/dscale = -(1 + z g) / scale
 * Entries of parameters that a kind does not have are 0. */
LLM_API void llm_log_likelihood_score(double score[4], const llm_distribution *d, const float *x,
                                      const float *weight, size_t n) {
    const llm_distribution c = llm_distribution_core(d);
    const double a = c.a, b = c.b, h = 0.5 * a;
    for (size_t k = 0; k < 4; k++) score[k] = 0.0;
    for (size_t i = 0; i < n; i++) {
        const double w = weight ? (double)weight[i] : 1.0, z = ((double)x[i] - c.loc) / c.scale;
        double g = 0.0, da = 0.0, db = 0.0;
        if (w == 0.0) continue;
        switch (c.kind) {
        case LLM_DISTRIBUTION_NORMAL:
            g = -z;
            break;
        case LLM_DISTRIBUTION_LAPLACE:
            g = z > 0.0 ? -1.0 : z < 0.0 ? 1.0 : 0.0;
            break;
        case LLM_DISTRIBUTION_LOGISTIC:
            g = -tanh(0.5 * z);
            break;
        case LLM_DISTRIBUTION_CAUCHY:
            g = -2.0 * z / (1.0 + z * z);
            break;
        case LLM_DISTRIBUTION_STUDENT_T:
            g = -(a + 1.0) * z / (a + z * z);
            da = 0.5 * (llm_special_digamma(h + 0.5) - llm_special_digamma(h) - 1.0 / a -
                        log1p(z * z / a) - z * g / a);
            break;
        case LLM_DISTRIBUTION_GAMMA:
            g = (a - 1.0) / z - 1.0;
            da = log(z) - llm_special_digamma(a);
            break;
        default:
            g = (a - 1.0) / z - (b - 1.0) / (1.0 - z);
            da = log(z) - llm_special_digamma(a) + llm_special_digamma(a + b);
            db = log1p(-z) - llm_special_digamma(b) + llm_special_digamma(a + b);
        }
        score[0] -= w * g / c.scale;
        score[1] -= w * (1.0 + z * g) / c.scale;
        score[2] += w * da;
        score[3] += w * db;
    }
    if (d->kind == LLM_DISTRIBUTION_CHI_SQUARED) score[1] *= 2.0, score[2] *= 0.5;
    if (d->kind == LLM_DISTRIBUTION_EXPONENTIAL || d->kind == LLM_DISTRIBUTION_UNIFORM)
        score[2] = score[3] = 0.0;
}

/* l of token[0..n-1] under a chain: first (V) and next (V,V) are log probabilities. */
LLM_API double llm_log_likelihood_sequence(const float *first, const float *next, const int *token,
                                           size_t n, size_t V) {
    double sum = 0.0, lost = 0.0;
    for (size_t t = 0; t < n; t++) {
        LLM_ASSERT(token[t] >= 0 && (size_t)token[t] < V);
        const float *row = t == 0 ? first : next + (size_t)token[t - 1] * V;
        llm_log_likelihood_add(&sum, &lost, (double)row[token[t]]);
    }
    return sum + lost;
}

/* l of x (n) under the mixture sum_k share_k p_k; share (K) sums to 1. r (n,K), if not NULL,
 * becomes the responsibilities share_k p_k(x_i) / sum: the chance that component k drew x_i, zeros
 * where none could. term (K) is scratch. */
LLM_API double llm_log_likelihood_mixture(float *r, const llm_distribution *d, const double *share,
                                          size_t K, const float *x, size_t n, double *term) {
    double sum = 0.0, lost = 0.0;
    for (size_t i = 0; i < n; i++) {
        double max = -(double)INFINITY, total = 0.0;
        for (size_t k = 0; k < K; k++) {
            term[k] = share[k] > 0.0 ? log(share[k]) + llm_distribution_logpdf(&d[k], (double)x[i])
                                     : -(double)INFINITY;
            max = fmax(max, term[k]);
        }
        const double shift = fabs(max) <= DBL_MAX ? max : 0.0;
        for (size_t k = 0; k < K; k++) total += exp(term[k] - shift);
        for (size_t k = 0; r && k < K; k++)
            r[i * K + k] = total > 0.0 ? (float)(exp(term[k] - shift) / total) : 0.0f;
        llm_log_likelihood_add(&sum, &lost, shift + log(total));
    }
    return sum + lost;
}

/* What a model with k fitted parameters costs, smaller is better; l is its maximum, n the number of
 * observations. AICc corrects AIC where n is not many times k; it needs n > k + 1. */
LLM_API double llm_log_likelihood_aic(double l, double k) { return 2.0 * k - 2.0 * l; }
LLM_API double llm_log_likelihood_aicc(double l, double k, double n) {
    return n > k + 1.0 ? 2.0 * k - 2.0 * l + 2.0 * k * (k + 1.0) / (n - k - 1.0) : (double)INFINITY;
}
LLM_API double llm_log_likelihood_bic(double l, double k, double n) { return k * log(n) - 2.0 * l; }

/* p-value of "the small model, which is the big one with `extra` parameters fixed, is enough".
 * Wilks: for large n, and truths inside the parameter space, not at its border. */
LLM_API double llm_log_likelihood_ratio_test(double l_small, double l_big, double extra) {
    double log_p, log_q;
    LLM_ASSERT(extra > 0.0);
    llm_special_gamma_tails(&log_p, &log_q, 0.5 * extra, fmax(0.0, l_big - l_small));
    return exp(log_q);
}

/* The profile interval of one parameter: theta (n) rising, curve (n) the log-likelihood maximised
 * over all other parameters. Kept are the values that a ratio test at this level would not reject:
 * curve >= max - q/2, interpolated linearly. It bends with the likelihood where theta +- 2 standard
 * errors cannot. Ends of the grid are infinite when the curve is still above there. */
LLM_API void llm_log_likelihood_profile(double *low, double *high, const double *theta,
                                        const double *curve, size_t n, double level) {
    size_t best = 0;
    for (size_t i = 1; i < n; i++) best = curve[i] > curve[best] ? i : best;
    const double cut = curve[best] - llm_special_inverse_gamma(0.5, level); /* chi-squared(1) / 2 */
    size_t left = best, right = best;
    while (left > 0 && curve[left] >= cut) left--;
    while (right + 1 < n && curve[right] >= cut) right++;
    *low = -(double)INFINITY;
    *high = (double)INFINITY;
    if (curve[left] < cut)
        *low = theta[left] + (theta[left + 1] - theta[left]) * (cut - curve[left]) /
                                 (curve[left + 1] - curve[left]);
    if (curve[right] < cut)
        *high = theta[right] - (theta[right] - theta[right - 1]) * (cut - curve[right]) /
                                   (curve[right - 1] - curve[right]);
}

/* @nll ------------------------------------------------------ Negative log-likelihood
 *
 *     categorical   l_n = -w_y log p(y)                 mean: sum_n l_n / sum_n w_y, over kept rows
 *     Gaussian      l_n = (log v + (x - mu)^2 / v) / 2                   v = max(var, eps)
 *     Poisson       l_n = e^z - k z                                      z the log of the rate
 *
 * The loss of everything that predicts a distribution: the surprise at what happened. Which
 * distribution is the modelling choice: squared error is the Gaussian one with a fixed variance,
 * and letting the network predict the variance as well makes it say how sure it is. With class
 * weights the mean divides by the sum of the weights of the targets, not by their number, as torch
 * does; and by 0 when every target is ignored, which gives NaN there and here.
 *
 * source  Nix & Weigend 1994, "Estimating the mean and variance of the target probability
 *         distribution"; PyTorch, torch.nn.functional (the conventions)
 * needs   -
 * see     @cross_entropy (from logits, fused), @log_likelihood, @perplexity
 * topics  Negative log-likelihood
 */
enum { LLM_NLL_NONE, LLM_NLL_MEAN, LLM_NLL_SUM };

/* Sum of the weights of the kept rows: weight[y], or 1. A target equal to `ignore` is skipped. */
LLM_API double llm_nll_total(const int *target, const float *weight, int ignore, size_t N) {
    double total = 0.0;
    for (size_t n = 0; n < N; n++)
        if (target[n] != ignore) total += weight ? (double)weight[target[n]] : 1.0;
    return total;
}

/* Returns the reduced loss (0 for LLM_NLL_NONE) <- log probabilities logp (N,V), target (N), weight
 * (V) or NULL. loss (N), which may be NULL, gets each row's own; 0 where ignored. */
LLM_API float llm_nll_forward(float *loss, const float *logp, const int *target,
                              const float *weight, int ignore, int reduction, size_t N, size_t V) {
    double sum = 0.0;
    for (size_t n = 0; n < N; n++) {
        if (loss) loss[n] = 0.0f;
        if (target[n] == ignore) continue;
        LLM_ASSERT(target[n] >= 0 && (size_t)target[n] < V);
        const float l = -(weight ? weight[target[n]] : 1.0f) * logp[n * V + (size_t)target[n]];
        if (loss) loss[n] = l;
        sum += (double)l;
    }
    if (reduction == LLM_NLL_NONE) return 0.0f;
    return (float)(reduction == LLM_NLL_SUM ? sum : sum / llm_nll_total(target, weight, ignore, N));
}

/* dlogp (N,V) += <- dloss: one number, or N of them for LLM_NLL_NONE. Only the target's entry of a
 * row has a gradient: -w_y, divided as forward did. */
LLM_API void llm_nll_backward(float *dlogp, const float *dloss, const int *target,
                              const float *weight, int ignore, int reduction, size_t N, size_t V) {
    const double total = reduction == LLM_NLL_MEAN ? llm_nll_total(target, weight, ignore, N) : 1.0;
    for (size_t n = 0; n < N; n++) {
        if (target[n] == ignore) continue;
        LLM_ASSERT(target[n] >= 0 && (size_t)target[n] < V);
        const double w = weight ? (double)weight[target[n]] : 1.0;
        const float up = dloss[reduction == LLM_NLL_NONE ? n : 0];
        dlogp[n * V + (size_t)target[n]] -= (float)(w * (double)up / total);
    }
}

/* loss (n) <- mu, var, x (n). eps keeps a variance that collapses onto a perfect fit away from 0;
 * full adds log(2 pi) / 2. */
LLM_API void llm_nll_gaussian_forward(float *loss, const float *mu, const float *var,
                                      const float *x, size_t n, float eps, bool full) {
    for (size_t i = 0; i < n; i++) {
        LLM_ASSERT(var[i] >= 0.0f);
        const float v = fmaxf(var[i], eps), r = x[i] - mu[i];
        loss[i] = 0.5f * (logf(v) + r * r / v) + (full ? 0.91893853f : 0.0f);
    }
}

/* dmu, dvar (n) += <- dloss, mu, var, x (n). Either may be NULL. Below eps the slope is that at
 * eps, as in torch, so that a variance that fell too far still feels where to go. */
LLM_API void llm_nll_gaussian_backward(float *dmu, float *dvar, const float *dloss, const float *mu,
                                       const float *var, const float *x, size_t n, float eps) {
    for (size_t i = 0; i < n; i++) {
        const float v = fmaxf(var[i], eps), r = x[i] - mu[i];
        if (dmu) dmu[i] -= dloss[i] * r / v;
        if (dvar) dvar[i] += dloss[i] * 0.5f * (1.0f - r * r / v) / v;
    }
}

/* loss (n) <- z (n), the log of the rate if log_input, else the rate itself (then eps keeps its
 * logarithm finite); counts k (n). full adds Stirling's log k! for k > 1, to compare with
 * others. */
LLM_API void llm_nll_poisson_forward(float *loss, const float *z, const float *k, size_t n,
                                     bool log_input, bool full, float eps) {
    for (size_t i = 0; i < n; i++) {
        LLM_ASSERT(k[i] >= 0.0f);
        loss[i] = log_input ? expf(z[i]) - k[i] * z[i] : z[i] - k[i] * logf(z[i] + eps);
        if (full && k[i] > 1.0f)
            loss[i] += k[i] * logf(k[i]) - k[i] + 0.5f * logf(2.0f * LLM_PI * k[i]);
    }
}

/* dz (n) += : the rate minus the count, for a log rate. */
LLM_API void llm_nll_poisson_backward(float *dz, const float *dloss, const float *z, const float *k,
                                      size_t n, bool log_input, float eps) {
    for (size_t i = 0; i < n; i++)
        dz[i] += dloss[i] * (log_input ? expf(z[i]) - k[i] : 1.0f - k[i] / (z[i] + eps));
}

/* A mean loss in nats in other units: bits a token, perplexity, bits a byte of the text it stands
 * for, which compares models with different tokenizers. */
LLM_API double llm_nll_bits(double nats) { return nats / 0.69314718055994530942; }
LLM_API double llm_nll_perplexity(double nats) { return exp(nats); }
LLM_API double llm_nll_bits_per_byte(double nats, double tokens, double bytes) {
    return llm_nll_bits(nats) * tokens / bytes;
}

/* @mle ------------------------------------------------------ Maximum likelihood estimate
 *
 *     theta = argmax l(theta)        Newton: theta += (-l'')^-1 l'        se = sqrt diag (-l'')^-1
 *     normal: mean, sd (/ n)    exponential: mean    Laplace: median, mean |x - median|
 *     uniform: min, max         Poisson: mean        categorical: frequencies
 *
 * The parameters that make the data most probable. For some families they are averages; for gamma,
 * beta, negative binomial and Weibull the equations have digammas or powers in them and are solved
 * by Newton. Working with the logarithms of the parameters keeps them positive; where the surface
 * is not concave the step is damped, and halved until the likelihood rises. The curvature at the
 * end is the observed information, whose inverse gives standard errors for free. Some data have no
 * maximum (all values equal, counts less spread than Poisson): these are refused.
 *
 * source  Fisher 1922, "On the mathematical foundations of theoretical statistics"; Minka 2002,
 *         "Estimating a gamma distribution"; Efron & Hinkley 1978 (observed information)
 * needs   arena argsort special distribution
 * see     @mle_dirichlet @map_estimate (with a prior), @fisher_info, @cramer_rao
 * topics  Maximum likelihood estimate (MLE)
 */

/* d <- the closed forms, for x (n): kind UNIFORM, EXPONENTIAL (start fixed at 0), NORMAL or
 * LAPLACE. False when there is no maximum: no data, no spread, or something below 0 for the
 * exponential. Scratch: n indices, given back. The Poisson rate is the mean of the exponential. */
LLM_API bool llm_mle_fit(llm_distribution *d, int kind, const float *x, size_t n,
                         llm_arena *arena) {
    const size_t mark = arena->used;
    size_t *order = (size_t *)llm_arena_take(arena, n, sizeof(size_t));
    double sum = 0.0, spread = 0.0;
    llm_argsort(order, x, n);
    d->kind = kind;
    d->a = d->b = d->loc = 0.0;
    d->scale = 0.0;
    if (n == 0) return false;
    const double min = (double)x[order[0]], max = (double)x[order[n - 1]];
    const double median = 0.5 * ((double)x[order[(n - 1) / 2]] + (double)x[order[n / 2]]);
    arena->used = mark;
    for (size_t i = 0; i < n; i++) sum += (double)x[i];
    if (kind == LLM_DISTRIBUTION_NORMAL) d->loc = sum / (double)n;
    if (kind == LLM_DISTRIBUTION_LAPLACE) d->loc = median;
    for (size_t i = 0; i < n; i++) {
        const double r = (double)x[i] - d->loc;
        spread += kind == LLM_DISTRIBUTION_NORMAL ? r * r : fabs(r);
    }
    switch (kind) {
    case LLM_DISTRIBUTION_UNIFORM:
        d->loc = min, d->scale = max - min;
        break;
    case LLM_DISTRIBUTION_NORMAL:
        d->scale = sqrt(spread / (double)n);
        break;
    case LLM_DISTRIBUTION_EXPONENTIAL:
        d->scale = min < 0.0 ? 0.0 : spread / (double)n;
        break;
    default:
        LLM_ASSERT(kind == LLM_DISTRIBUTION_LAPLACE);
        d->scale = spread / (double)n;
    }
    return llm_distribution_valid(d); /* a scale of 0 or NaN is not */
}

enum {
    LLM_MLE_GAMMA,    /* shape, scale; x > 0 */
    LLM_MLE_BETA,     /* a, b; 0 < x < 1 */
    LLM_MLE_NEGATIVE, /* negative binomial: n, mean; x = 0, 1, .. Here p = n / (n + mean) */
    LLM_MLE_WEIBULL   /* shape, scale; x > 0, which may be censored */
};

/* l(theta) <- x (n); u (2) = log theta. g (2) and h (3) become the gradient and the Hessian (uu,
 * uv, vv) in u. event (n), Weibull only, NULL for all true: false where x is no event but the end
 * of observation, which contributes the probability of surviving it. */
LLM_API double llm_mle_eval(double g[2], double h[3], const double u[2], int family, const float *x,
                            const bool *event, size_t n) {
    const double s = exp(u[0]), t = exp(u[1]), total = s + t, N = (double)n;
    double l = 0.0, sum = 0.0, log_sum = 0.0, log_rest = 0.0, psi = 0.0, psi1 = 0.0;
    for (size_t k = 0; k < 3; k++) h[k] = 0.0;
    g[0] = g[1] = 0.0;
    for (size_t i = 0; i < n; i++) {
        const double xi = (double)x[i];
        sum += xi;
        if (family != LLM_MLE_NEGATIVE) log_sum += log(xi);
        if (family == LLM_MLE_BETA) log_rest += log1p(-xi);
        if (family == LLM_MLE_NEGATIVE) {
            l += llm_special_lgamma(xi + s) - llm_special_lgamma(xi + 1.0);
            psi += llm_special_digamma(xi + s);
            psi1 += llm_special_trigamma(xi + s);
        }
        if (family != LLM_MLE_WEIBULL) continue;
        const double e = event && !event[i] ? 0.0 : 1.0, v = s * (log(xi) - u[1]), power = exp(v);
        l += e * (u[0] + v - log(xi)) - power; /* dv/du = v, -s */
        g[0] += e * (1.0 + v) - power * v;
        g[1] += s * (power - e);
        h[0] += e * v - power * (v + v * v);
        h[1] += s * (power * (1.0 + v) - e);
        h[2] -= s * s * power;
    }
    const double psi_s = llm_special_digamma(s), psi1_s = llm_special_trigamma(s);
    if (family == LLM_MLE_GAMMA) {
        l = (s - 1.0) * log_sum - sum / t - N * (llm_special_lgamma(s) + s * u[1]);
        g[0] = s * (log_sum - N * (psi_s + u[1])), g[1] = sum / t - N * s;
        h[0] = g[0] - N * s * s * psi1_s, h[1] = -N * s, h[2] = -sum / t;
    } else if (family == LLM_MLE_BETA) {
        const double psi_n = llm_special_digamma(total), psi1_n = llm_special_trigamma(total);
        l = (s - 1.0) * log_sum + (t - 1.0) * log_rest -
            N * (llm_special_lgamma(s) + llm_special_lgamma(t) - llm_special_lgamma(total));
        g[0] = s * (log_sum - N * (psi_s - psi_n)),
        g[1] = t * (log_rest - N * (llm_special_digamma(t) - psi_n));
        h[0] = g[0] - N * s * s * (psi1_s - psi1_n), h[1] = N * s * t * psi1_n;
        h[2] = g[1] - N * t * t * (llm_special_trigamma(t) - psi1_n);
    } else if (family == LLM_MLE_NEGATIVE) {
        const double all = (sum + N * s) / total; /* what the last two terms have in common */
        l += N * (s * log(s / total) - llm_special_lgamma(s)) + sum * log(t / total);
        g[0] = s * (psi - N * psi_s + N * log(s / total) + N - all), g[1] = sum - t * all;
        h[0] = g[0] + s * s * (psi1 - N * psi1_s + N / s - 2.0 * N / total + all / total);
        h[1] = s * t * (all - N) / total;
        h[2] = -s * t * all / total;
    }
    return l;
}

/* theta (2) <- the maximum for x (n), from the start theta; se (2), or NULL, their standard errors.
 * Returns the log-likelihood there. NaN when 100 steps find no maximum: then there is none inside,
 * as for equal values or underdispersed counts. */
LLM_API double llm_mle_newton(double theta[2], double se[2], int family, const float *x,
                              const bool *event, size_t n) {
    double u[2] = {log(theta[0]), log(theta[1])}, g[2], h[3], next[2], g2[2], h2[3];
    double l = llm_mle_eval(g, h, u, family, x, event, n);
    for (size_t k = 0; k < 100; k++) {
        double damp = 0.0, a = -h[0], c = -h[2], det = a * c - h[1] * h[1];
        if (!(a > 0.0 && det > 0.0)) { /* not a hill: add until it is (Gershgorin) */
            damp = fabs(h[0]) + fabs(h[1]) + fabs(h[2]);
            a += damp, c += damp, det = a * c - h[1] * h[1];
        }
        const double step[2] = {(c * g[0] + h[1] * g[1]) / det, (h[1] * g[0] + a * g[1]) / det};
        const double longest = fmax(fabs(step[0]), fabs(step[1])),
                     gain = step[0] * g[0] + step[1] * g[1];
        if (damp == 0.0 && gain <= 1e-14 * (1.0 + fabs(l))) { /* what a full step could still add */
            for (size_t i = 0; i < 2; i++) theta[i] = exp(u[i] + step[i]);
            if (se) se[0] = theta[0] * sqrt(c / det), se[1] = theta[1] * sqrt(a / det);
            return l;
        }
        double size = fmin(1.0, 2.0 / longest),
               l_next = -(double)INFINITY; /* a factor e^2 at most */
        for (; size > 1e-10; size *= 0.5) {
            for (size_t i = 0; i < 2; i++) next[i] = u[i] + size * step[i];
            l_next = llm_mle_eval(g2, h2, next, family, x, event, n);
            if (l_next >= l + 1e-4 * size * gain) break;
        }
        if (!(l_next >= l) || !(fabs(next[0]) < 25.0 && fabs(next[1]) < 25.0))
            break; /* running away */
        l = l_next;
        memcpy(u, next, sizeof u), memcpy(g, g2, sizeof g), memcpy(h, h2, sizeof h);
    }
    return (double)NAN;
}

/* @mle_dirichlet -------------------------------------------- Fitting a Dirichlet distribution
 *
 *     l(a) / N = log Gamma(s) - sum_k log Gamma(a_k) + sum_k (a_k - 1) m_k       s = sum_k a_k
 *     g_k = psi(s) - psi(a_k) + m_k        H = diag(q) + z 11^T,  q_k = -psi'(a_k), z = psi'(s)
 *
 * A distribution over distributions: how class probabilities vary from document to document. All
 * that the data say is m_k, the mean of log p_k. The Hessian is a diagonal plus a constant, and the
 * inverse of such a matrix is known, so a Newton step for K classes costs as much as the gradient:
 *     step_k = (g_k - b) / q_k        b = sum g/q / (1/z + sum 1/q)
 *
 * source  Minka 2000, "Estimating a Dirichlet distribution", eq. 14 to 18
 * needs   special
 * see     @mle @map_estimate (as a prior)
 * topics  -
 */

/* l(a) / N for a, m (K): m_k is the mean of log p_k over the sample. */
LLM_API double llm_mle_dirichlet_value(const double *a, const double *m, size_t K) {
    double s = 0.0, l = 0.0;
    for (size_t k = 0; k < K; k++) {
        s += a[k];
        l += (a[k] - 1.0) * m[k] - llm_special_lgamma(a[k]);
    }
    return l + llm_special_lgamma(s);
}

/* a (K) <- p (N,K), rows of positive numbers that sum to 1. Returns the number of Newton steps, 0
 * when there is no maximum (all rows equal) or none was found in 200. Scratch: next, m (K). */
LLM_API size_t llm_mle_dirichlet(double *a, double *next, double *m, const float *p, size_t N,
                                 size_t K) {
    double mean = 0.0, square = 0.0;
    for (size_t k = 0; k < K; k++) {
        a[k] = m[k] = 0.0;
        for (size_t n = 0; n < N; n++) {
            LLM_ASSERT(p[n * K + k] > 0.0f);
            a[k] += (double)p[n * K + k] / (double)N;
            m[k] += log((double)p[n * K + k]) / (double)N;
        }
    }
    for (size_t n = 0; n < N; n++) { /* start: the moments of the first class (eq. 22) */
        mean += (double)p[n * K] / (double)N;
        square += (double)p[n * K] * (double)p[n * K] / (double)N;
    }
    const double var = square - mean * mean, s0 = fmax(0.1, (mean - square) / var);
    if (!(var > 1e-12 * mean * mean)) return 0;
    for (size_t k = 0; k < K; k++) a[k] *= s0;
    double l = llm_mle_dirichlet_value(a, m, K);
    for (size_t step = 1; step < 200; step++) {
        double s = 0.0, above = 0.0, below = 0.0, slope = 0.0, l_next = 0.0;
        for (size_t k = 0; k < K; k++) s += a[k];
        const double psi = llm_special_digamma(s), z = llm_special_trigamma(s);
        for (size_t k = 0; k < K; k++) {
            const double q = -llm_special_trigamma(a[k]);
            above += (psi - llm_special_digamma(a[k]) + m[k]) / q;
            below += 1.0 / q;
        }
        const double b = above / (1.0 / z + below);
        double size = 1.0;
        for (size_t k = 0; k < K; k++) { /* next is the step at first */
            const double g = psi - llm_special_digamma(a[k]) + m[k];
            next[k] = (g - b) / -llm_special_trigamma(a[k]);
            slope -= g * next[k];
            if (next[k] > 0.0) size = fmin(size, 0.9 * a[k] / next[k]); /* stay positive */
        }
        for (size_t k = 0; k < K; k++) next[k] = a[k] - size * next[k];
        l_next = llm_mle_dirichlet_value(next, m, K);
        for (; !(l_next >= l) && size > 1e-10; size *= 0.5) { /* halve what is left of the step */
            for (size_t k = 0; k < K; k++) next[k] = 0.5 * (a[k] + next[k]);
            l_next = llm_mle_dirichlet_value(next, m, K);
        }
        if (!(s < 1e9)) return 0; /* rows so alike that only s = inf fits */
        for (size_t k = 0; k < K; k++) a[k] = next[k];
        l = l_next;
        if (slope < 1e-13 * (1.0 + fabs(l))) return step;
    }
    return 0;
}

/* @map_estimate --------------------------------------------- Maximum a posteriori estimation
 *
 *     theta = argmax log p(x | theta) + log p(theta)
 *     log p(x) ~ log p(x, theta) + d/2 log 2pi - 1/2 log det H           H = -(log p(x, theta))''
 *
 * The likelihood's maximum, pulled by what was believed before. For conjugate pairs the posterior
 * has the prior's form, with data added to its parameters: a prior is worth so many imagined
 * observations. A Gaussian prior is weight decay and a Laplace prior is L1. Laplace's approximation
 * puts a Gaussian on the mode, which gives error bars and the evidence that compares models. The
 * mode is not innocent: it depends on the parameters chosen, because a density is stretched by a
 * change of variable; with more data the difference dies out.
 *
 * source  Gelman et al. 2013, "Bayesian data analysis", chapters 2, 3; MacKay 2003, "Information
 *         theory, inference, and learning algorithms", chapters 27, 28
 * needs   spd distribution
 * see     @mle @ridge @lasso
 * topics  Maximum A Posteriori (MAP) Estimation
 */

/* post <- prior and n observations with the given sum. The prior's kind says what is observed:
 *     BETA    successes in n trials; sum of them, prior on p
 *     GAMMA   counts; prior on the Poisson rate
 *     NORMAL  values with known variance noise; prior on their mean
 * prior has loc 0 and, for beta, scale 1. post may be prior. */
LLM_API void llm_map_estimate_conjugate(llm_distribution *post, const llm_distribution *prior,
                                        double n, double sum, double noise) {
    LLM_ASSERT(llm_distribution_valid(prior) && n >= 0.0);
    *post = *prior;
    if (prior->kind == LLM_DISTRIBUTION_BETA) {
        LLM_ASSERT(sum >= 0.0 && sum <= n);
        post->a = prior->a + sum;
        post->b = prior->b + n - sum;
    } else if (prior->kind == LLM_DISTRIBUTION_GAMMA) {
        LLM_ASSERT(sum >= 0.0);
        post->a = prior->a + sum;
        post->scale = prior->scale / (1.0 + n * prior->scale); /* 1/scale is the prior's n */
    } else { /* precisions add, means are weighted by them */
        LLM_ASSERT(prior->kind == LLM_DISTRIBUTION_NORMAL && noise > 0.0);
        const double before = 1.0 / (prior->scale * prior->scale), precision = before + n / noise;
        post->loc = (before * prior->loc + sum / noise) / precision;
        post->scale = 1.0 / sqrt(precision);
    }
}

/* The mode of a beta, gamma or normal density; NaN where it has none inside (a beta with a and b
 * at most 1, unless one of them is above). */
LLM_API double llm_map_estimate_mode(const llm_distribution *d) {
    LLM_ASSERT(llm_distribution_valid(d));
    const double a = d->a, b = d->b;
    switch (d->kind) {
    case LLM_DISTRIBUTION_BETA:
        if (a > 1.0 && b > 1.0) return (a - 1.0) / (a + b - 2.0);
        return a > 1.0 || (a == 1.0 && b < 1.0)   ? 1.0
               : b > 1.0 || (b == 1.0 && a < 1.0) ? 0.0
                                                  : (double)NAN;
    case LLM_DISTRIBUTION_GAMMA:
        return d->loc + d->scale * fmax(0.0, a - 1.0);
    default:
        LLM_ASSERT(d->kind == LLM_DISTRIBUTION_NORMAL);
        return d->loc;
    }
}

/* The interval with probability `level` and equal tails. */
LLM_API void llm_map_estimate_credible(double *low, double *high, const llm_distribution *post,
                                       double level) {
    *low = llm_distribution_quantile(post, 0.5 - 0.5 * level);
    *high = llm_distribution_quantile(post, 0.5 + 0.5 * level);
}

/* The mode of p's posterior, beta(a,b), when the parameter is logit p, taken back to p: the
 * density of the logit is the beta's times p (1-p), which adds 1 to a and to b. It is the
 * posterior mean. */
LLM_API double llm_map_estimate_logit_mode(double a, double b) { return a / (a + b); }

/* mode, mean (K), either may be NULL <- Dirichlet prior alpha (K) and counts (K). The mode has
 * alpha + count - 1, with negative ones set to 0; false (mode untouched) when nothing is left. */
LLM_API bool llm_map_estimate_dirichlet(double *mode, double *mean, const double *alpha,
                                        const double *count, size_t K) {
    double total = 0.0, above = 0.0;
    for (size_t k = 0; k < K; k++) {
        total += alpha[k] + count[k];
        above += fmax(0.0, alpha[k] + count[k] - 1.0);
    }
    for (size_t k = 0; mean && k < K; k++) mean[k] = (alpha[k] + count[k]) / total;
    if (!(above > 0.0)) return false;
    for (size_t k = 0; mode && k < K; k++) mode[k] = fmax(0.0, alpha[k] + count[k] - 1.0) / above;
    return true;
}

/* Mean and variance both unknown: variance ~ inverse gamma(a, b), mean | variance ~ N(m,
 * variance/k). */
typedef struct {
    double m, k, a, b;
} llm_map_estimate_nig;

/* The posterior after n values with this mean and this sum of squared deviations from it. The last
 * term is the surprise at a mean far from m. */
LLM_API llm_map_estimate_nig llm_map_estimate_nig_update(llm_map_estimate_nig p, double n,
                                                         double mean, double squares) {
    llm_map_estimate_nig q = p;
    q.k = p.k + n;
    q.m = (p.k * p.m + n * mean) / q.k;
    q.a = p.a + 0.5 * n;
    q.b = p.b + 0.5 * squares + 0.5 * p.k * n / q.k * (mean - p.m) * (mean - p.m);
    return q;
}

/* Its marginal for the mean, a Student t; the joint mode has variance b / (a + 3/2). */
LLM_API llm_distribution llm_map_estimate_nig_mean(llm_map_estimate_nig p) {
    const llm_distribution t = {LLM_DISTRIBUTION_STUDENT_T, 2.0 * p.a, 0.0, p.m,
                                sqrt(p.b / (p.a * p.k))};
    return t;
}

/* One step of ascent on log-likelihood + log prior: theta (n) <- grad (n), the likelihood's
 * gradient. A Gaussian prior with precision l2 adds -l2 theta to it; a Laplace prior with rate l1
 * has a corner at 0 and is handled by its own maximisation, which moves theta towards 0 by lr l1
 * and stops there. */
LLM_API void llm_map_estimate_step(float *theta, const float *grad, size_t n, float lr, float l2,
                                   float l1) {
    for (size_t i = 0; i < n; i++) {
        const float t = theta[i] + lr * (grad[i] - l2 * theta[i]), size = fabsf(t) - lr * l1;
        theta[i] = size > 0.0f ? copysignf(size, t) : 0.0f;
    }
}

/* Laplace's approximation: returns the log evidence for log_joint = log p(x, theta) at the mode,
 * cov (d,d) <- H (d,d), minus the Hessian there. NaN when H is not positive definite: theta is no
 * mode. L (d,d) is scratch. */
LLM_API double llm_map_estimate_laplace(double *cov, double *L, double log_joint, const double *H,
                                        size_t d) {
    if (!llm_spd_factor(L, H, d)) return (double)NAN;
    llm_spd_inverse(cov, L, d);
    return log_joint + 0.5 * (double)d * 1.83787706640934548356 - 0.5 * llm_spd_logdet(L, d);
}

/* @exponential_family --------------------------------------- Exponential family
 *
 *     log p(x; eta) = eta . T(x) - A(eta) + log h(x)      mean of T = A'      covariance = A''
 *     KL(eta1 || eta2) = A(eta2) - A(eta1) - (eta2 - eta1) . A'(eta1)
 *
 * Bernoulli, Poisson, exponential, gamma, normal, categorical: one formula with other T and A. All
 * that data say about eta is the sum of T, so a data set of any size is a vector of a few numbers
 * and a count, which can be added over chunks and machines. The log-partition A generates the rest:
 * its slope is the mean of T, its curvature the variance and the Fisher information, and fitting is
 * solving A'(eta) = mean of T. A is convex, so likelihoods are concave, and KL is the gap between A
 * and its tangent. What is easily got wrong is the sign and range of eta (below 0 for rates).
 *
 * source  Brown 1986, "Fundamentals of statistical exponential families"; Wainwright & Jordan 2008,
 *         "Graphical models, exponential families, and variational inference", section 3
 * needs   special spd
 * see     @exponential_family_glm @distribution @mle @fisher_info
 * topics  Exponential Family of Distributions
 */
enum {
    LLM_EXPONENTIAL_FAMILY_BERNOULLI,   /* T = x;            eta = logit p */
    LLM_EXPONENTIAL_FAMILY_POISSON,     /* T = x;            eta = log rate */
    LLM_EXPONENTIAL_FAMILY_EXPONENTIAL, /* T = x;            eta = -rate */
    LLM_EXPONENTIAL_FAMILY_GAMMA,       /* T = (log x, x);   eta = (shape - 1, -1/scale) */
    LLM_EXPONENTIAL_FAMILY_NORMAL,      /* T = (x, x^2);     eta = (mean/var, -1/(2 var)) */
    LLM_EXPONENTIAL_FAMILY_CATEGORICAL  /* T_k = (x == k);   eta_k = log p_k/p_0, k = 1 .. dim */
};
enum { LLM_EXPONENTIAL_FAMILY_MOST = 32 };

/* A family and the length of its eta: 1, 2, or the number of classes less one. */
typedef struct {
    int kind;
    size_t dim;
} llm_exponential_family;

/* The family of a kind; classes is read for the categorical one. */
LLM_API llm_exponential_family llm_exponential_family_of(int kind, size_t classes) {
    llm_exponential_family f = {kind, 1};
    if (kind == LLM_EXPONENTIAL_FAMILY_GAMMA || kind == LLM_EXPONENTIAL_FAMILY_NORMAL) f.dim = 2;
    if (kind == LLM_EXPONENTIAL_FAMILY_CATEGORICAL) f.dim = classes - 1;
    LLM_ASSERT(f.dim > 0 && f.dim <= LLM_EXPONENTIAL_FAMILY_MOST);
    return f;
}

/* T (dim) <- x. Returns log h(x), -inf outside the support. */
LLM_API double llm_exponential_family_statistic(double *T, llm_exponential_family f, double x) {
    const bool whole = x == floor(x) && x >= 0.0;
    T[0] = x;
    switch (f.kind) {
    case LLM_EXPONENTIAL_FAMILY_BERNOULLI:
        return x == 0.0 || x == 1.0 ? 0.0 : -(double)INFINITY;
    case LLM_EXPONENTIAL_FAMILY_POISSON:
        return whole ? -llm_special_lgamma(x + 1.0) : -(double)INFINITY;
    case LLM_EXPONENTIAL_FAMILY_EXPONENTIAL:
        return x >= 0.0 ? 0.0 : -(double)INFINITY;
    case LLM_EXPONENTIAL_FAMILY_GAMMA:
        T[0] = log(x), T[1] = x;
        return x > 0.0 ? 0.0 : -(double)INFINITY;
    case LLM_EXPONENTIAL_FAMILY_NORMAL:
        T[1] = x * x;
        return -0.91893853320467274178;
    default:
        for (size_t k = 0; k < f.dim; k++) T[k] = x == (double)(k + 1) ? 1.0 : 0.0;
        return whole && x <= (double)f.dim ? 0.0 : -(double)INFINITY;
    }
}

/* A(eta); inf where eta is not allowed. mean (dim) = A' and fisher (dim,dim) = A'' are filled in
 * unless they are NULL. */
LLM_API double llm_exponential_family_partition(double *mean, double *fisher,
                                                llm_exponential_family f, const double *eta) {
    double m[LLM_EXPONENTIAL_FAMILY_MOST], A, max = 0.0, sum = 0.0;
    const double e = eta[0], a = e + 1.0, r = f.dim > 1 ? eta[1] : 0.0;
    double v[4] = {0.0, 0.0, 0.0, 0.0};
    switch (f.kind) {
    case LLM_EXPONENTIAL_FAMILY_BERNOULLI: /* softplus and its slopes, from e^-|eta| */
        A = fmax(e, 0.0) + log1p(exp(-fabs(e)));
        m[0] = e >= 0.0 ? 1.0 / (1.0 + exp(-e)) : exp(e) / (1.0 + exp(e));
        v[0] = exp(-fabs(e)) / ((1.0 + exp(-fabs(e))) * (1.0 + exp(-fabs(e))));
        break;
    case LLM_EXPONENTIAL_FAMILY_POISSON:
        A = m[0] = v[0] = exp(e);
        break;
    case LLM_EXPONENTIAL_FAMILY_EXPONENTIAL:
        if (!(e < 0.0)) return (double)INFINITY;
        A = -log(-e), m[0] = -1.0 / e, v[0] = 1.0 / (e * e);
        break;
    case LLM_EXPONENTIAL_FAMILY_GAMMA:
        if (!(a > 0.0 && r < 0.0)) return (double)INFINITY;
        A = llm_special_lgamma(a) - a * log(-r);
        m[0] = llm_special_digamma(a) - log(-r), m[1] = -a / r;
        v[0] = llm_special_trigamma(a), v[1] = v[2] = -1.0 / r, v[3] = a / (r * r);
        break;
    case LLM_EXPONENTIAL_FAMILY_NORMAL: /* variance s = -1/(2r), mean e s */
        if (!(r < 0.0)) return (double)INFINITY;
        A = -0.25 * e * e / r - 0.5 * log(-2.0 * r);
        m[0] = -0.5 * e / r, m[1] = m[0] * m[0] - 0.5 / r;
        v[0] = -0.5 / r, v[1] = v[2] = -m[0] / r, v[3] = 0.5 / (r * r) - 2.0 * m[0] * m[0] / r;
        break;
    default: /* log-sum-exp with a 0 for class 0 */
        for (size_t k = 0; k < f.dim; k++) max = fmax(max, eta[k]);
        sum = exp(-max);
        for (size_t k = 0; k < f.dim; k++) sum += exp(eta[k] - max);
        A = max + log(sum);
        for (size_t k = 0; k < f.dim; k++) m[k] = exp(eta[k] - A);
    }
    for (size_t i = 0; mean && i < f.dim; i++) mean[i] = m[i];
    for (size_t i = 0; fisher && i < f.dim * f.dim; i++) {
        const size_t row = i / f.dim, column = i % f.dim;
        const bool table = f.kind == LLM_EXPONENTIAL_FAMILY_CATEGORICAL;
        fisher[i] = table ? m[row] * ((row == column ? 1.0 : 0.0) - m[column]) : v[i];
    }
    return A;
}

/* log p(x; eta). */
LLM_API double llm_exponential_family_logpdf(llm_exponential_family f, const double *eta,
                                             double x) {
    double T[LLM_EXPONENTIAL_FAMILY_MOST], sum = llm_exponential_family_statistic(T, f, x);
    if (sum == -(double)INFINITY) return sum;
    for (size_t k = 0; k < f.dim; k++) sum += eta[k] * T[k];
    return sum - llm_exponential_family_partition(NULL, NULL, f, eta);
}

/* total (dim) += sum_i w_i T(x_i); returns the weight added. Chunks may be added in any order:
 * total and weight are all that a fit needs, and what a conjugate prior adds its own to. */
LLM_API double llm_exponential_family_accumulate(double *total, llm_exponential_family f,
                                                 const float *x, const float *weight, size_t n) {
    double T[LLM_EXPONENTIAL_FAMILY_MOST], added = 0.0;
    for (size_t i = 0; i < n; i++) {
        const double w = weight ? (double)weight[i] : 1.0;
        if (w == 0.0) continue;
        llm_exponential_family_statistic(T, f, (double)x[i]);
        for (size_t k = 0; k < f.dim; k++) total[k] += w * T[k];
        added += w;
    }
    return added;
}

/* Whether mean (dim) is the mean of some eta: inside the convex hull of T's values, not on its
 * rim. */
LLM_API bool llm_exponential_family_inside(llm_exponential_family f, const double *mean) {
    double sum = 0.0;
    bool positive = true;
    if (f.kind == LLM_EXPONENTIAL_FAMILY_GAMMA) return mean[0] < log(mean[1]); /* Jensen */
    if (f.kind == LLM_EXPONENTIAL_FAMILY_NORMAL) return mean[1] > mean[0] * mean[0];
    for (size_t k = 0; k < f.dim; k++) {
        sum += mean[k];
        positive = positive && mean[k] > 0.0;
    }
    const bool open =
        f.kind == LLM_EXPONENTIAL_FAMILY_POISSON || f.kind == LLM_EXPONENTIAL_FAMILY_EXPONENTIAL;
    return positive && (open || sum < 1.0);
}

/* eta (dim), in: a start that is allowed; out: A'(eta) = mean (dim). Newton on the concave eta .
 * mean - A, halved while it does not rise. False when the mean belongs to no eta. */
LLM_API bool llm_exponential_family_fit(double *eta, llm_exponential_family f, const double *mean) {
    double g[LLM_EXPONENTIAL_FAMILY_MOST], step[LLM_EXPONENTIAL_FAMILY_MOST],
        next[LLM_EXPONENTIAL_FAMILY_MOST];
    double H[LLM_EXPONENTIAL_FAMILY_MOST * LLM_EXPONENTIAL_FAMILY_MOST];
    if (!llm_exponential_family_inside(f, mean)) return false;
    for (size_t k = 0; k < 200; k++) {
        double value = -llm_exponential_family_partition(g, H, f, eta), gain = 0.0, size = 1.0;
        double longest = 0.0;
        for (size_t i = 0; i < f.dim; i++) {
            value += eta[i] * mean[i];
            g[i] = mean[i] - g[i];
        }
        if (!llm_spd_factor(H, H, f.dim)) return false;
        llm_spd_solve(step, H, g, f.dim);
        for (size_t i = 0; i < f.dim; i++) {
            gain += step[i] * g[i];
            longest = fmax(longest, fabs(step[i]) / (1.0 + fabs(eta[i])));
        }
        for (; size > 1e-12; size *= 0.5) {
            double there = 0.0;
            for (size_t i = 0; i < f.dim; i++) next[i] = eta[i] + size * step[i];
            for (size_t i = 0; i < f.dim; i++) there += next[i] * mean[i];
            there -= llm_exponential_family_partition(NULL, NULL, f, next);
            if (there >= value + 1e-4 * size * gain || gain < 1e-13) break;
        }
        for (size_t i = 0; i < f.dim; i++) eta[i] = next[i];
        if (longest < 1e-9) return true;
    }
    return false;
}

/* KL(p1 || p2): how far A rises above its tangent at eta1 when it reaches eta2. */
LLM_API double llm_exponential_family_kl(llm_exponential_family f, const double *eta1,
                                         const double *eta2) {
    double mean[LLM_EXPONENTIAL_FAMILY_MOST];
    double sum = -llm_exponential_family_partition(mean, NULL, f, eta1);
    for (size_t k = 0; k < f.dim; k++) sum -= (eta2[k] - eta1[k]) * mean[k];
    return sum + llm_exponential_family_partition(NULL, NULL, f, eta2);
}

/* @exponential_family_glm ----------------------------------- Generalised linear models
 *
 *     eta_i = x_i . beta          E y_i = A'(eta_i)          l'(beta) = X^T (y - A'(eta))
 *     beta <- (X^T W X)^-1 X^T (W eta + y - A')              W = diag A''(eta)
 *
 * Regression where the answer is a count, a yes or no, or a waiting time: the natural parameter of
 * an exponential family is linear in the features. With it (the canonical link) the gradient is
 * features times residuals, whatever the family, and Newton's method is least squares with weights
 * that change: iteratively reweighted least squares. Logistic and Poisson regression are two cases.
 * When a hyperplane separates the classes the likelihood has no maximum and coefficients run away;
 * that is reported, not returned as a large number.
 *
 * source  Nelder & Wedderburn 1972, "Generalized linear models"; McCullagh & Nelder 1989, section
 *         2.5
 * needs   arena spd exponential_family
 * see     @logistic_regression @mle
 * topics  -
 */

/* beta (D) <- X (n,D), y (n), kind BERNOULLI or POISSON. The caller's X has a column of ones where
 * an intercept is wanted. weight (n) or NULL; offset (n) or NULL is added to eta (log of the
 * exposure of a rate). se (D), or NULL: standard errors from the inverse Fisher information. l2 is
 * a ridge penalty, l2 |beta|^2 / 2. Returns the log-likelihood (without log h), NaN when there is
 * no maximum. Scratch: (2 D + 3) D doubles, given back. */
LLM_API double llm_exponential_family_glm(double *beta, double *se, int kind, const float *X,
                                          const float *y, const float *weight, const float *offset,
                                          size_t n, size_t D, double l2, llm_arena *arena) {
    const llm_exponential_family f = llm_exponential_family_of(kind, 2);
    LLM_ASSERT(kind == LLM_EXPONENTIAL_FAMILY_BERNOULLI || kind == LLM_EXPONENTIAL_FAMILY_POISSON);
    const size_t mark = arena->used;
    double *H = llm_arena_doubles(arena, D * D), *inverse = llm_arena_doubles(arena, D * D);
    double *g = llm_arena_doubles(arena, D), *step = llm_arena_doubles(arena, D);
    double *last = llm_arena_doubles(arena, D), l = -(double)INFINITY, result = (double)NAN,
           size = 1.0;
    for (size_t j = 0; j < D; j++) beta[j] = last[j] = step[j] = 0.0;
    for (size_t round = 0; round < 200; round++) {
        double value = 0.0, longest = 0.0;
        for (size_t j = 0; j < D * D; j++) H[j] = j % (D + 1) == 0 ? l2 : 0.0;
        for (size_t j = 0; j < D; j++) {
            g[j] = -l2 * beta[j];
            value -= 0.5 * l2 * beta[j] * beta[j];
        }
        for (size_t i = 0; i < n; i++) {
            const float *xi = X + i * D;
            const double w = weight ? (double)weight[i] : 1.0;
            double eta = offset ? (double)offset[i] : 0.0, mean, variance;
            for (size_t j = 0; j < D; j++) eta += (double)xi[j] * beta[j];
            const double A = llm_exponential_family_partition(&mean, &variance, f, &eta);
            value += w * ((double)y[i] * eta - A);
            for (size_t j = 0; j < D; j++) {
                g[j] += w * ((double)y[i] - mean) * (double)xi[j];
                for (size_t k = 0; k <= j; k++)
                    H[j * D + k] += w * variance * (double)xi[j] * (double)xi[k];
            }
        }
        if (!(value >= l)) { /* too far: half the step */
            size *= 0.5;
            if (size < 1e-9) break;
            for (size_t j = 0; j < D; j++) beta[j] = last[j] + size * step[j];
            continue;
        }
        if (!llm_spd_factor(H, H, D))
            break; /* weights that vanish: separated, or columns dependent */
        llm_spd_solve(step, H, g, D);
        for (size_t j = 0; j < D; j++)
            longest = fmax(longest, fabs(step[j]) / (1.0 + fabs(beta[j])));
        if (longest < 1e-10) { /* the gain also vanishes while coefficients run away */
            llm_spd_inverse(inverse, H, D);
            for (size_t j = 0; se && j < D; j++) se[j] = sqrt(inverse[j * D + j]);
            result = value;
            break;
        }
        l = value;
        size = 1.0;
        for (size_t j = 0; j < D; j++) {
            last[j] = beta[j];
            beta[j] += step[j];
        }
    }
    arena->used = mark;
    return result;
}

/* @entropy -------------------------------------------------- Shannon entropy
 *
 *     H(p) = -sum_i p_i log p_i       H(Y|X) = H(X,Y) - H(X)      I(X;Y) = H(X) + H(Y) - H(X,Y)
 *     of softmax(z):  H = lse(z) - sum_i p_i z_i          dH/dz_i = -p_i (log p_i + H)
 *
 * The mean surprise, and the number of bits that no code can go below. From logits it needs one
 * pass more than log-sum-exp, and its gradient pushes every logit towards the others: the bonus
 * that keeps a policy exploring. Entropy estimated from counts is too low, because outcomes that
 * were not seen count as impossible; the error is about (cells - 1) / 2n nats. Corrections exist,
 * and none helps when there are many more cells than observations.
 *
 * source  Shannon 1948, "A mathematical theory of communication"; Renyi 1961; Miller 1955; Chao &
 *         Shen 2003; Hausser & Strimmer 2009; Kraskov, Stogbauer & Grassberger 2004, eq. 20 (k-NN)
 * needs   exp logsumexp special
 * see     @cross_entropy @perplexity @conditional (conditional mutual information)
 * topics  Shannon Entropy
 */

/* H of p (n) in nats, or to the given base (2 for bits; 0 for nats). p need not sum to 1: it is
 * divided by its sum, so counts will do. 0 log 0 = 0. NaN for negative entries or an empty sum. */
LLM_API double llm_entropy(const float *p, size_t n, double base) {
    double sum = 0.0, h = 0.0;
    for (size_t i = 0; i < n; i++) {
        if (!(p[i] >= 0.0f)) return (double)NAN;
        sum += (double)p[i];
    }
    if (!(sum > 0.0)) return (double)NAN;
    for (size_t i = 0; i < n; i++) {
        const double q = (double)p[i] / sum;
        if (q > 0.0) h -= q * log(q);
    }
    return base > 0.0 ? h / log(base) : h;
}

/* joint[0] = H(X), [1] = H(Y), [2] = H(X,Y), [3] = I(X;Y) in nats <- p (X,Y). H(Y|X) is the third
 * less the first. I is at least 0; rounding is cut off there. */
LLM_API void llm_entropy_joint(double joint[4], const float *p, size_t X, size_t Y) {
    double total = 0.0;
    for (size_t i = 0; i < X * Y; i++) total += (double)p[i];
    for (size_t k = 0; k < 4; k++) joint[k] = 0.0;
    for (size_t x = 0; x < X; x++) {
        double px = 0.0;
        for (size_t y = 0; y < Y; y++) px += (double)p[x * Y + y] / total;
        if (px > 0.0) joint[0] -= px * log(px);
    }
    for (size_t y = 0; y < Y; y++) {
        double py = 0.0;
        for (size_t x = 0; x < X; x++) py += (double)p[x * Y + y] / total;
        if (py > 0.0) joint[1] -= py * log(py);
    }
    for (size_t i = 0; i < X * Y; i++) {
        const double q = (double)p[i] / total;
        if (q > 0.0) joint[2] -= q * log(q);
    }
    joint[3] = fmax(0.0, joint[0] + joint[1] - joint[2]);
}

/* h (N) <- logits z (N,V): the entropy of each row's softmax in nats. Entries of -inf are
 * impossible; a row of nothing else has entropy 0. lse (N) is for backward, or NULL. Differences to
 * the maximum are averaged, not logits, so an offset of 1e4 costs nothing. */
LLM_API void llm_entropy_logits_forward(float *h, float *lse, const float *z, size_t N, size_t V) {
    LLM_PARALLEL_FOR
    for (size_t n = 0; n < N; n++) {
        const float *zn = z + n * V, max = llm_logsumexp_max(zn, V);
        double sum = 0.0, mean = 0.0;
        for (size_t i = 0; i < V; i++) {
            if (zn[i] == -INFINITY) continue; /* 0 times -inf */
            const double e = (double)llm_expf(zn[i] - max);
            sum += e;
            mean += e * (double)(zn[i] - max);
        }
        h[n] = sum > 0.0 ? fmaxf(0.0f, (float)(log(sum) - mean / sum)) : 0.0f;
        if (lse) lse[n] = sum > 0.0 ? max + (float)log(sum) : -INFINITY;
    }
}

/* dz (N,V) += <- dh (N), forward's z, h, lse. With log p_i = z_i - lse:
 *     dH/dz_i = -p_i (log p_i + H)      above the mean surprise a logit rises, below it falls */
LLM_API void llm_entropy_logits_backward(float *dz, const float *dh, const float *z, const float *h,
                                         const float *lse, size_t N, size_t V) {
    LLM_PARALLEL_FOR
    for (size_t n = 0; n < N; n++)
        for (size_t i = 0; i < V; i++) {
            const float log_p = z[n * V + i] - lse[n];
            if (z[n * V + i] != -INFINITY)
                dz[n * V + i] -= dh[n] * llm_expf(log_p) * (log_p + h[n]);
        }
}

/* Renyi entropy of order a of p (n), summing to 1: log(sum p^a) / (1 - a). a = 0 is the log of the
 * number of possible outcomes, 1 Shannon's, 2 minus the log of the chance that two draws collide,
 * inf the min-entropy. It falls with a. */
LLM_API double llm_entropy_renyi(const float *p, size_t n, double a) {
    double sum = 0.0, max = 0.0;
    LLM_ASSERT(a >= 0.0);
    if (a == 1.0) return llm_entropy(p, n, 0.0);
    for (size_t i = 0; i < n; i++) max = fmax(max, (double)p[i]);
    if (a > DBL_MAX) return -log(max);
    for (size_t i = 0; i < n; i++)
        if (p[i] > 0.0f) sum += pow((double)p[i] / max, a);
    return (a * log(max) + log(sum)) / (1.0 - a);
}

enum { LLM_ENTROPY_PLUGIN, LLM_ENTROPY_MILLER_MADOW, LLM_ENTROPY_CHAO_SHEN, LLM_ENTROPY_SHRINK };

/* H in nats estimated from counts (K) of a sample. Miller-Madow adds (seen cells - 1) / 2n.
 * Chao-Shen scales the frequencies by the coverage, one minus the share of cells seen once (Good
 * and Turing), and weighs each by the inverse of its chance to be seen at all. Shrink mixes the
 * frequencies with uniform ones, by the weight of least expected squared error. */
LLM_API double llm_entropy_estimate(const float *count, size_t K, int method) {
    double n = 0.0, seen = 0.0, once = 0.0, square = 0.0, away = 0.0, h = 0.0;
    for (size_t i = 0; i < K; i++) {
        n += (double)count[i];
        seen += count[i] > 0.0f;
        once += count[i] == 1.0f;
    }
    if (!(n > 0.0)) return 0.0;
    for (size_t i = 0; i < K; i++) {
        const double q = (double)count[i] / n, u = 1.0 / (double)K;
        square += q * q;
        away += (u - q) * (u - q);
    }
    double mix = n > 1.0 && away > 0.0 ? fmin(1.0, (1.0 - square) / ((n - 1.0) * away)) : 1.0;
    const double cover = 1.0 - (once == n ? n - 1.0 : once) / n; /* all seen once: not 0 */
    if (method != LLM_ENTROPY_SHRINK) mix = 0.0;
    for (size_t i = 0; i < K; i++) {
        double q = mix / (double)K + (1.0 - mix) * (double)count[i] / n, chance = 1.0;
        if (q == 0.0) continue;
        if (method == LLM_ENTROPY_CHAO_SHEN) q *= cover, chance = -expm1(n * log1p(-q));
        h -= q * log(q) / chance;
    }
    return method == LLM_ENTROPY_MILLER_MADOW ? h + 0.5 * (seen - 1.0) / n : h;
}

/* Differential entropies: of a normal with log det of its covariance, and the estimate of
 * Kozachenko and Leonenko from x (n,d): a point is surprising when its k-th neighbour is far,
 *     H = psi(n) - psi(k) + log c_d + d mean(log r_k)       c_d: volume of the unit ball
 * Distances by brute force, n^2 d. Points that coincide k times give -inf. k <= 16. */
LLM_API double llm_entropy_normal(double logdet, size_t d) {
    return 0.5 * (logdet + (double)d * 2.83787706640934548356); /* log(2 pi e) */
}
LLM_API double llm_entropy_knn(const float *x, size_t n, size_t d, size_t k) {
    const double D = (double)d;
    double near[16], sum = 0.0;
    LLM_ASSERT(k > 0 && k <= 16 && k < n);
    for (size_t i = 0; i < n; i++) {
        for (size_t m = 0; m < k; m++) near[m] = (double)INFINITY;
        for (size_t j = 0; j < n; j++) {
            double square = 0.0;
            for (size_t c = 0; c < d; c++) {
                const double r = (double)x[i * d + c] - (double)x[j * d + c];
                square += r * r;
            }
            if (j == i || !(square < near[k - 1])) continue;
            size_t at = k - 1; /* insert */
            for (; at > 0 && near[at - 1] > square; at--) near[at] = near[at - 1];
            near[at] = square;
        }
        sum += 0.5 * log(near[k - 1]);
    }
    const double ball = 0.5 * D * 1.14472988584940017414 - llm_special_lgamma(0.5 * D + 1.0);
    return llm_special_digamma((double)n) - llm_special_digamma((double)k) + ball +
           D * sum / (double)n;
}

/* @cross_entropy -------------------------------------------- Cross-entropy
 *
 *     H(p,q) = -sum_i p_i log q_i = H(p) + KL(p||q)
 *     q = softmax(z), p one-hot at y:   loss = lse(z) - z_y      dloss/dz = q - onehot(y)
 *
 * The nats that a model q spends on an outcome drawn from p. They are fewest at q = p, where the
 * entropy of the data is left. From logits it needs no softmax and no log of a small number:
 * lse minus the target's logit is exact however wrong the model is. Knowing nothing costs log V.
 * Rows whose target is LLM_CROSS_ENTROPY_IGNORE (padding, the prompt) count for nothing: their
 * logits are not read. The mean divides by the number of the other rows, not by N.
 *
 * source  Shannon 1948, "A mathematical theory of communication"; Chowdhery et al. 2022, "PaLM",
 *         section 5 (z-loss)
 * needs   exp logsumexp
 * see     @softmax_head (with the matrix product before it), @label_smoothing, @bce, @perplexity
 * topics  Cross-entropy
 */
enum { LLM_CROSS_ENTROPY_IGNORE = -100 }; /* torch's ignore_index */

/* loss (N), lse (N) or NULL <- logits (N,V), target (N). Returns how many rows are not ignored;
 * loss and lse are 0 in the others. The mean loss is sum(loss) / that number. */
LLM_API size_t llm_cross_entropy_forward(float *loss, float *lse, const float *logits,
                                         const int *target, size_t N, size_t V) {
    LLM_PARALLEL_FOR
    for (size_t n = 0; n < N; n++) {
        const float *z = logits + n * V;
        loss[n] = 0.0f;
        if (lse) lse[n] = 0.0f;
        if (target[n] == LLM_CROSS_ENTROPY_IGNORE) continue;
        LLM_ASSERT(target[n] >= 0 && (size_t)target[n] < V);

        const float max = llm_logsumexp_max(z, V);
        const float log_sum = (float)log(llm_logsumexp_sum(z, V, max, 1.0f));
        loss[n] = (max - z[target[n]]) + log_sum; /* lse - z_y would round as coarsely as lse */
        if (lse) lse[n] = max + log_sum;
    }
    size_t kept = 0;
    for (size_t n = 0; n < N; n++) kept += target[n] != LLM_CROSS_ENTROPY_IGNORE;
    return kept;
}

/* dlogits (N,V) += <- logits (N,V), forward's lse (N), target (N): scale * (softmax - onehot).
 * scale is 1 / kept for the mean. */
LLM_API void llm_cross_entropy_backward(float *dlogits, const float *logits, const float *lse,
                                        const int *target, size_t N, size_t V, float scale) {
    LLM_PARALLEL_FOR
    for (size_t n = 0; n < N; n++) {
        if (target[n] == LLM_CROSS_ENTROPY_IGNORE) continue;
        LLM_ASSERT(target[n] >= 0 && (size_t)target[n] < V);
        const float *z = logits + n * V, l = lse[n];
        float *dz = dlogits + n * V;
        for (size_t i = 0; i < V; i++) dz[i] += scale * llm_expf(z[i] - l);
        dz[target[n]] -= scale;
    }
}

/* What a weighted mean divides by: the sum of weight[y] over the rows that are not ignored, their
 * number if weight is NULL. */
LLM_API float llm_cross_entropy_total(const int *target, const float *weight, size_t N) {
    double total = 0.0;
    for (size_t n = 0; n < N; n++) {
        if (target[n] != LLM_CROSS_ENTROPY_IGNORE)
            total += weight ? (double)weight[target[n]] : 1.0;
    }
    return (float)total;
}

/* Both passes in one: loss (N) <- logits (N,V), which become the gradient (0 in ignored rows). The
 * logits are the largest buffer of a small language model; this needs no second one.
 *
 *     loss_n   = weight_y (lse - z_y) + z_loss lse^2
 *     dlogits  = scale (weight_y (softmax - onehot) + 2 z_loss lse softmax)
 *
 * weight (V) evens out classes of unequal number; NULL is 1. z_loss (1e-4 in PaLM, 0 for none)
 * holds lse near 0: the loss itself does not care about a constant added to all logits, and they
 * drift until 16 bits no longer hold them. scale multiplies the gradient only. */
LLM_API void llm_cross_entropy_in_place(float *loss, float *logits, const int *target,
                                        const float *weight, size_t N, size_t V, float scale,
                                        float z_loss) {
    LLM_PARALLEL_FOR
    for (size_t n = 0; n < N; n++) {
        float *z = logits + n * V;
        loss[n] = 0.0f;
        if (target[n] == LLM_CROSS_ENTROPY_IGNORE) {
            for (size_t i = 0; i < V; i++) z[i] = 0.0f;
            continue;
        }
        LLM_ASSERT(target[n] >= 0 && (size_t)target[n] < V);
        const size_t y = (size_t)target[n];
        const float max = llm_logsumexp_max(z, V), zy = z[y], w = weight ? weight[y] : 1.0f;
        const double sum = llm_logsumexp_sum(z, V, max, 1.0f);
        const float log_sum = (float)log(sum), lse = max + log_sum;
        const float gain = scale * (w + 2.0f * z_loss * lse) / (float)sum;
        loss[n] = w * ((max - zy) + log_sum) + z_loss * lse * lse;
        for (size_t i = 0; i < V; i++) z[i] = gain * llm_expf(z[i] - max);
        z[y] -= scale * w;
    }
}

/* loss (N), lse (N) <- logits (N,V), p (N,V): loss = sum_i p_i (lse - z_i) for any distribution p,
 * a teacher's, smoothed or mixed labels. Where p is 0 the logit may be -inf. */
LLM_API void llm_cross_entropy_soft_forward(float *loss, float *lse, const float *logits,
                                            const float *p, size_t N, size_t V) {
    LLM_PARALLEL_FOR
    for (size_t n = 0; n < N; n++) {
        const float *z = logits + n * V, *pn = p + n * V, max = llm_logsumexp_max(z, V);
        const double l = (double)max + log(llm_logsumexp_sum(z, V, max, 1.0f));
        double total = 0.0;
        for (size_t i = 0; i < V; i++)
            if (pn[i] != 0.0f) total += (double)pn[i] * (l - (double)z[i]);
        loss[n] = (float)total;
        lse[n] = (float)l;
    }
}

/* dlogits (N,V) += <- logits, p (N,V), forward's lse (N): scale * (sum_j p_j * softmax - p). */
LLM_API void llm_cross_entropy_soft_backward(float *dlogits, const float *logits, const float *lse,
                                             const float *p, size_t N, size_t V, float scale) {
    LLM_PARALLEL_FOR
    for (size_t n = 0; n < N; n++) {
        const float *z = logits + n * V, *pn = p + n * V, l = lse[n];
        float *dz = dlogits + n * V;
        double sum = 0.0;
        for (size_t i = 0; i < V; i++) sum += (double)pn[i];
        const float total = (float)sum;
        for (size_t i = 0; i < V; i++) dz[i] += scale * (total * llm_expf(z[i] - l) - pn[i]);
    }
}

/* H(p,q) <- p, q (n) probabilities, in nats. *entropy is H(p), *kl is KL(p||q) = H(p,q) - H(p): it
 * is never negative; it and H(p,q) are infinite where q is 0 and p is not. */
LLM_API float llm_cross_entropy_decompose(float *entropy, float *kl, const float *p, const float *q,
                                          size_t n) {
    double own = 0.0, extra = 0.0;
    for (size_t i = 0; i < n; i++) {
        if (p[i] == 0.0f) continue; /* 0 log 0 = 0 */
        own -= (double)p[i] * log((double)p[i]);
        extra += (double)p[i] * log((double)p[i] / (double)q[i]);
    }
    *entropy = (float)own;
    *kl = (float)extra;
    return (float)(own + extra);
}

/* @bce ------------------------------------------------------ Binary cross-entropy
 *
 *     from a probability   l = -(y log p + (1 - y) log(1 - p))            logarithms at least -100
 *     from a logit         l = (1 - y) z + (1 + (w - 1) y) softplus(-z)     w: pos_weight
 *     focal                l = alpha_t (1 - p_t)^gamma bce          p_t: probability of the truth
 *
 * The loss of every yes-or-no answer, and of many at once (labels that do not exclude each other).
 * From logits nothing can overflow, and the gradient is probability minus target; from
 * probabilities it is that divided by p (1 - p), which is why torch cuts the logarithms at -100.
 * pos_weight repeats the rare positives without repeating them. Focal loss turns down what is
 * already right, so that a million easy negatives do not drown a hundred hard ones.
 *
 * source  Good 1952, "Rational decisions"; Lin et al. 2017, "Focal loss for dense object
 *         detection", eq. 5; PyTorch, torch.nn.functional (the conventions)
 * needs   -
 * see     @cross_entropy @logit @logistic_regression
 * topics  Binary cross-entropy
 */

/* loss (n) <- probabilities p (n), targets y (n), both in [0,1]; weight (n) or NULL for ones. */
LLM_API void llm_bce_forward(float *loss, const float *p, const float *y, const float *weight,
                             size_t n) {
    for (size_t i = 0; i < n; i++) {
        LLM_ASSERT(p[i] >= 0.0f && p[i] <= 1.0f && y[i] >= 0.0f && y[i] <= 1.0f);
        const float yes = fmaxf(logf(p[i]), -100.0f), no = fmaxf(log1pf(-p[i]), -100.0f);
        loss[i] = -(weight ? weight[i] : 1.0f) * (y[i] * yes + (1.0f - y[i]) * no);
    }
}

/* dp (n) += <- dloss (n) and forward's inputs: (p - y) / (p (1 - p)), the divisor at least
 * 1e-12. */
LLM_API void llm_bce_backward(float *dp, const float *dloss, const float *p, const float *y,
                              const float *weight, size_t n) {
    for (size_t i = 0; i < n; i++) {
        const float slope = (p[i] - y[i]) / fmaxf(p[i] * (1.0f - p[i]), 1e-12f);
        dp[i] += dloss[i] * (weight ? weight[i] : 1.0f) * slope;
    }
}

/* softplus(-z) = -log sigmoid(z), and sigmoid(z), from e^-|z|. */
LLM_API float llm_bce_softplus(float z) { return fmaxf(-z, 0.0f) + log1pf(expf(-fabsf(z))); }
LLM_API float llm_bce_sigmoid(float z) {
    const float e = expf(-fabsf(z));
    return z >= 0.0f ? 1.0f / (1.0f + e) : e / (1.0f + e);
}

/* loss (N,L) <- logits z, targets y (N,L): L labels a row. weight (N,L) and pos_weight (L), each or
 * both NULL for ones. A positive counts pos_weight times. */
LLM_API void llm_bce_logits_forward(float *loss, const float *z, const float *y,
                                    const float *weight, const float *pos_weight, size_t N,
                                    size_t L) {
    for (size_t i = 0; i < N * L; i++) {
        LLM_ASSERT(y[i] >= 0.0f && y[i] <= 1.0f);
        const float more = pos_weight ? 1.0f + (pos_weight[i % L] - 1.0f) * y[i] : 1.0f;
        /* (1-y) z + softplus(-z) would cancel at large z; for y = 1 z must not be touched at all */
        const float l =
            more * llm_bce_softplus(z[i]) + (y[i] == 1.0f ? 0.0f : (1.0f - y[i]) * z[i]);
        loss[i] = (weight ? weight[i] : 1.0f) * (y[i] == 0.0f ? llm_bce_softplus(-z[i]) : l);
    }
}

/* dz (N,L) += : (1 - y + w y) sigmoid(z) - w y. */
LLM_API void llm_bce_logits_backward(float *dz, const float *dloss, const float *z, const float *y,
                                     const float *weight, const float *pos_weight, size_t N,
                                     size_t L) {
    for (size_t i = 0; i < N * L; i++) {
        const float wy = (pos_weight ? pos_weight[i % L] : 1.0f) * y[i], p = llm_bce_sigmoid(z[i]);
        /* (1 - y) p - w y (1 - p): no difference of two numbers near 1 */
        const float slope = (1.0f - y[i]) * p - wy * llm_bce_sigmoid(-z[i]);
        dz[i] += dloss[i] * (weight ? weight[i] : 1.0f) * slope;
    }
}

/* loss (n) <- logits z (n), targets y (n) in [0,1]. alpha is the weight of positives (1 - alpha
 * that of negatives), below 0 for none; gamma >= 0, and 0 gives plain BCE. */
LLM_API void llm_bce_focal_forward(float *loss, const float *z, const float *y, size_t n,
                                   float alpha, float gamma) {
    for (size_t i = 0; i < n; i++) {
        LLM_ASSERT(y[i] >= 0.0f && y[i] <= 1.0f);
        const float no = llm_bce_sigmoid(-z[i]), yes = llm_bce_sigmoid(z[i]), t = y[i];
        const float miss = t * no + (1.0f - t) * yes; /* 1 - p_t */
        const float bce = t * llm_bce_softplus(z[i]) + (1.0f - t) * llm_bce_softplus(-z[i]);
        const float a = alpha >= 0.0f ? alpha * t + (1.0f - alpha) * (1.0f - t) : 1.0f;
        loss[i] = a * powf(miss, gamma) * bce;
    }
}

/* dz (n) +=. The product rule, with dmiss/dz = (1 - 2y) p (1-p) and dbce/dz = p - y:
 *     a (gamma miss^(gamma-1) (1 - 2y) p (1-p) bce + miss^gamma (p - y))
 * As miss -> 0 the first term behaves as miss^gamma, since p (1-p) / miss stays below 1 for y = 0,
 * 1. */
LLM_API void llm_bce_focal_backward(float *dz, const float *dloss, const float *z, const float *y,
                                    size_t n, float alpha, float gamma) {
    for (size_t i = 0; i < n; i++) {
        const float no = llm_bce_sigmoid(-z[i]), yes = llm_bce_sigmoid(z[i]), t = y[i];
        const float miss = t * no + (1.0f - t) * yes;
        const float bce = t * llm_bce_softplus(z[i]) + (1.0f - t) * llm_bce_softplus(-z[i]);
        const float a = alpha >= 0.0f ? alpha * t + (1.0f - alpha) * (1.0f - t) : 1.0f;
        const float power = powf(miss, gamma), turn = miss > 0.0f ? yes * no / miss : 0.0f;
        dz[i] += dloss[i] * a * power *
                 (gamma * turn * (1.0f - 2.0f * t) * bce + (1.0f - t) * yes - t * no);
    }
}

/* The reductions of torch: the sum, or the mean over all n entries (whatever their weights). */
LLM_API float llm_bce_reduce(const float *loss, size_t n, bool mean) {
    double sum = 0.0;
    for (size_t i = 0; i < n; i++) sum += (double)loss[i];
    return (float)(mean ? sum / (double)n : sum);
}

/* @f_divergence --------------------------------------------- f-divergences
 *
 *     D_f(p || q) = sum_i q_i f(p_i / q_i)          f convex, f(1) = 0
 *     KL  t log t    reverse KL  -log t    chi2  (t-1)^2    TV  |t-1|/2    Hellinger  (1-sqrt t)^2
 *     dD/dq_i = f(t) - t f'(t)                      t = p_i / q_i
 *
 * One formula for most distances between distributions; the function f says how a ratio of
 * probabilities is paid. All are 0 only for p = q, and none grows when both are processed in the
 * same way. They differ in the tails: where q is 0 and p is not, KL is infinite and total variation
 * pays half of p. Forward KL makes q cover everything p does, reverse KL lets it pick one mode,
 * Jensen-Shannon is bounded. From samples of p, k3 estimates KL(p || q) without ever being
 * negative.
 *
 * source  Csiszar 1967; Ali & Silvey 1966; Nguyen, Wainwright & Jordan 2010, "Estimating divergence
 *         functionals and the likelihood ratio by convex risk minimization"; Schulman 2020 (k1, k2,
 *         k3)
 * needs   exp logsumexp
 * see     @cross_entropy @wasserstein @kl_penalty @gan
 * topics  f-Divergences (Unified View)
 */
enum {
    LLM_F_DIVERGENCE_KL,         /* KL(p || q) */
    LLM_F_DIVERGENCE_REVERSE_KL, /* KL(q || p) */
    LLM_F_DIVERGENCE_JS,         /* Jensen-Shannon: (KL(p || m) + KL(q || m)) / 2, m the middle */
    LLM_F_DIVERGENCE_TV,         /* total variation, half the sum of |p - q| */
    LLM_F_DIVERGENCE_PEARSON,    /* sum (p - q)^2 / q */
    LLM_F_DIVERGENCE_NEYMAN,     /* sum (p - q)^2 / p */
    LLM_F_DIVERGENCE_HELLINGER,  /* sum (sqrt p - sqrt q)^2 */
    LLM_F_DIVERGENCE_ALPHA,      /* sum (p^a q^(1-a) - a p - (1-a) q) / (a (a-1)), a not 0 or 1 */
    LLM_F_DIVERGENCE_COUNT
};

/* f(t) and its slope f'(t), t > 0; a is read for ALPHA only. slope may be NULL. */
LLM_API double llm_f_divergence_f(double *slope, int kind, double t, double a) {
    double f = 0.0, s = 0.0;
    switch (kind) {
    case LLM_F_DIVERGENCE_KL:
        f = t * log(t) - t + 1.0, s = log(t);
        break;
    case LLM_F_DIVERGENCE_REVERSE_KL:
        f = t - 1.0 - log(t), s = 1.0 - 1.0 / t;
        break;
    case LLM_F_DIVERGENCE_JS:
        f = 0.5 * (t * log(2.0 * t / (t + 1.0)) + log(2.0 / (t + 1.0))),
        s = 0.5 * log(2.0 * t / (t + 1.0));
        break;
    case LLM_F_DIVERGENCE_TV:
        f = 0.5 * fabs(t - 1.0), s = t > 1.0 ? 0.5 : t < 1.0 ? -0.5 : 0.0;
        break;
    case LLM_F_DIVERGENCE_PEARSON:
        f = (t - 1.0) * (t - 1.0), s = 2.0 * (t - 1.0);
        break;
    case LLM_F_DIVERGENCE_NEYMAN:
        f = (t - 1.0) * (t - 1.0) / t, s = 1.0 - 1.0 / (t * t);
        break;
    case LLM_F_DIVERGENCE_HELLINGER:
        f = (1.0 - sqrt(t)) * (1.0 - sqrt(t)), s = 1.0 - 1.0 / sqrt(t);
        break;
    default:
        LLM_ASSERT(kind == LLM_F_DIVERGENCE_ALPHA && a != 0.0 && a != 1.0);
        f = (pow(t, a) - a * t + a - 1.0) / (a * (a - 1.0)),
        s = (pow(t, a - 1.0) - 1.0) / (a - 1.0);
    }
    if (slope) *slope = s;
    return f;
}

/* f(0), what an outcome costs (in units of q) that p never has, and the limit of f(t) / t, what one
 * costs (in units of p) that q never has. */
LLM_API void llm_f_divergence_limits(double *at_zero, double *at_infinity, int kind, double a) {
    const double inf = (double)INFINITY, half_log = 0.34657359027997265471;
    const double zero[LLM_F_DIVERGENCE_ALPHA] = {1.0, inf, half_log, 0.5, 1.0, inf, 1.0};
    const double infinity[LLM_F_DIVERGENCE_ALPHA] = {inf, 1.0, half_log, 0.5, inf, 1.0, 1.0};
    LLM_ASSERT(kind >= 0 && kind < LLM_F_DIVERGENCE_COUNT);
    if (kind == LLM_F_DIVERGENCE_ALPHA) {
        *at_zero = a > 0.0 ? 1.0 / a : inf;
        *at_infinity = a < 1.0 ? 1.0 / (1.0 - a) : inf;
    } else {
        *at_zero = zero[kind];
        *at_infinity = infinity[kind];
    }
}

/* D_f(p || q) of p, q (n), each summing to 1. f has slope 0 at 1 here (a linear term changes no sum
 * of probabilities), so every term is at least 0 and nothing cancels. */
LLM_API double llm_f_divergence(const float *p, const float *q, size_t n, int kind, double a) {
    double sum = 0.0, at_zero, at_infinity;
    llm_f_divergence_limits(&at_zero, &at_infinity, kind, a);
    for (size_t i = 0; i < n; i++) {
        const double pi = (double)p[i], qi = (double)q[i];
        LLM_ASSERT(pi >= 0.0 && qi >= 0.0);
        if (pi > 0.0 && qi > 0.0)
            sum += qi * llm_f_divergence_f(NULL, kind, pi / qi, a);
        else if (qi > 0.0)
            sum += qi * at_zero;
        else if (pi > 0.0)
            sum += pi * at_infinity;
    }
    return sum;
}

/* d (N) <- p (N,V) and logits z (N,V): D_f(p || softmax(z)) of each row. q (V) is scratch. dz
 * (N,V), unless NULL, += dd_n dD/dz: with g_i = dD/dq_i = f(t) - t f'(t), through softmax q_i (g_i
 * - q.g). Where p is 0, g is f(0); p and z must be finite. */
LLM_API void llm_f_divergence_logits(float *d, float *dz, const float *dd, const float *p,
                                     const float *z, float *q, size_t N, size_t V, int kind,
                                     double a) {
    double at_zero, at_infinity, slope;
    llm_f_divergence_limits(&at_zero, &at_infinity, kind, a);
    for (size_t n = 0; n < N; n++) {
        const float *pn = p + n * V, *zn = z + n * V;
        const float lse = llm_logsumexp(zn, V);
        double mean = 0.0;
        for (size_t i = 0; i < V; i++) q[i] = llm_expf(zn[i] - lse);
        d[n] = (float)llm_f_divergence(pn, q, V, kind, a);
        for (int pass = 0; dz && pass < 2; pass++)
            for (size_t i = 0; i < V; i++) {
                if (q[i] == 0.0f) continue; /* no slope is left to push with */
                const double t = (double)pn[i] / (double)q[i];
                const double f = t > 0.0 ? llm_f_divergence_f(&slope, kind, t, a) : at_zero;
                const double g = t > 0.0 ? f - t * slope : at_zero;
                if (pass == 0)
                    mean += (double)q[i] * g;
                else
                    dz[n * V + i] += (float)((double)dd[n] * (double)q[i] * (g - mean));
            }
    }
}

/* KL(N(m1, s1^2) || N(m2, s2^2)), and the squared Hellinger distance, 2 - 2 times the overlap. */
LLM_API double llm_f_divergence_normal_kl(double m1, double s1, double m2, double s2) {
    const double r = s1 / s2, z = (m1 - m2) / s2;
    return 0.5 * (r * r - 1.0 + z * z) - log(r);
}
LLM_API double llm_f_divergence_normal_hellinger(double m1, double s1, double m2, double s2) {
    const double v = s1 * s1 + s2 * s2, z = m1 - m2;
    return 2.0 - 2.0 * sqrt(2.0 * s1 * s2 / v) * exp(-0.25 * z * z / v);
}

/* k (3) <- one draw x of p, r = log q(x) - log p(x): estimates of KL(p || q). k1 = -r has the right
 * mean and is often negative; k2 = r^2/2 is small in variance and biased; k3 = e^r - 1 - r has the
 * right mean and is never negative, since e^r - 1 has mean 0 and lies above r. */
LLM_API void llm_f_divergence_estimators(double k[3], double r) {
    k[0] = -r;
    k[1] = 0.5 * r * r;
    k[2] = expm1(r) - r;
}

/* The variational bound for KL(p || q) from samples and any function T of them, T_p (n) at draws of
 * p and T_q (m) at draws of q (Fenchel: f*(u) = e^(u-1), and T shifted to its best constant):
 *     KL >= mean_p T - log mean_q e^T        equality at T = log p/q + constant (Donsker, Varadhan)
 * Slopes, unless NULL: dT_p, dT_q (n), (m) = how the bound changes with each T, for ascent. */
LLM_API double llm_f_divergence_variational(float *dT_p, float *dT_q, const float *T_p, size_t n,
                                            const float *T_q, size_t m) {
    const double lse = (double)llm_logsumexp(T_q, m);
    double sum = 0.0;
    for (size_t i = 0; i < n; i++) {
        sum += (double)T_p[i];
        if (dT_p) dT_p[i] = (float)(1.0 / (double)n);
    }
    for (size_t i = 0; dT_q && i < m; i++) dT_q[i] = (float)-exp((double)T_q[i] - lse);
    return sum / (double)n - (lse - log((double)m));
}

/* @fisher_info ---------------------------------------------- Fisher information
 *
 *     F = E s s^T = -E l''         s = dlog p(y; theta)/dtheta, y drawn from the MODEL
 *     KL(theta || theta + d) = d^T F d / 2 + O(d^3)          F' = J^T F J for theta = theta(phi)
 *     softmax regression:  F = sum_x (diag p - p p^T) (x) x x^T
 *
 * How much one observation says about the parameters: the spread of the score, the curvature of the
 * log-likelihood, and the metric that KL divergence is near zero, all in one matrix. The labels
 * must be drawn from the model. Taking the data's labels instead gives the empirical Fisher, which
 * is no curvature: it is the same only where the model is right, and vanishes with the residuals.
 * For a softmax the exact sum over labels costs no more than a draw, and equals the generalised
 * Gauss-Newton matrix J^T H J.
 *
 * source  Fisher 1925, "Theory of statistical estimation"; Amari 1998, "Natural gradient works
 *         efficiently in learning"; Kunstner, Balles & Hennig 2019, "Limitations of the empirical
 *         Fisher approximation"; Rao 1945
 * needs   rng
 * see     @cramer_rao @exponential_family (A'')
 * topics  The Fisher Information Matrix
 */

/* F (P,P) += scale * sum_i s_i s_i^T for scores s (n,P). With scores at labels drawn from the model
 * this is the Monte Carlo Fisher, with those at the data's labels the empirical one. */
LLM_API void llm_fisher_info_accumulate(double *F, const float *s, size_t n, size_t P,
                                        double scale) {
    for (size_t i = 0; i < n; i++)
        for (size_t a = 0; a < P; a++)
            for (size_t b = 0; b < P; b++)
                F[a * P + b] += scale * ((double)s[i * P + a] * (double)s[i * P + b]);
}

/* s (K D) <- the score of label y for weights W (K,D) of softmax(W x): (onehot(y) - p) (x) x. */
LLM_API void llm_fisher_info_score(float *s, const float *p, const float *x, size_t y, size_t K,
                                   size_t D) {
    LLM_ASSERT(y < K);
    for (size_t k = 0; k < K; k++)
        for (size_t d = 0; d < D; d++) s[k * D + d] = ((k == y ? 1.0f : 0.0f) - p[k]) * x[d];
}

/* F (KD,KD) <- mean over rows of E_y s s^T for p (n,K) = softmax(W x), x (n,D): exactly, each label
 * weighted by its probability. s (K D) is scratch. */
LLM_API void llm_fisher_info_exact(double *F, const float *p, const float *x, size_t n, size_t K,
                                   size_t D, float *s) {
    for (size_t i = 0; i < K * D * K * D; i++) F[i] = 0.0;
    for (size_t i = 0; i < n; i++)
        for (size_t y = 0; y < K; y++) {
            llm_fisher_info_score(s, p + i * K, x + i * D, y, K, D);
            llm_fisher_info_accumulate(F, s, 1, K * D, (double)p[i * K + y] / (double)n);
        }
}

/* The same from `draws` labels a row, drawn from the model: unbiased, for models with too many
 * labels. */
LLM_API void llm_fisher_info_mc(double *F, const float *p, const float *x, size_t n, size_t K,
                                size_t D, size_t draws, llm_rng *rng, float *s) {
    for (size_t i = 0; i < K * D * K * D; i++) F[i] = 0.0;
    for (size_t i = 0; i < n; i++)
        for (size_t r = 0; r < draws; r++) {
            double u = (double)llm_rng_uniform(rng);
            size_t y = 0;
            while (y + 1 < K && u >= (double)p[i * K + y]) u -= (double)p[i * K + y++];
            llm_fisher_info_score(s, p + i * K, x + i * D, y, K, D);
            llm_fisher_info_accumulate(F, s, 1, K * D, 1.0 / (double)(n * draws));
        }
}

/* The same with the labels of the data: the empirical Fisher. */
LLM_API void llm_fisher_info_empirical(double *F, const float *p, const float *x, const int *label,
                                       size_t n, size_t K, size_t D, float *s) {
    for (size_t i = 0; i < K * D * K * D; i++) F[i] = 0.0;
    for (size_t i = 0; i < n; i++) {
        LLM_ASSERT(label[i] >= 0);
        llm_fisher_info_score(s, p + i * K, x + i * D, (size_t)label[i], K, D);
        llm_fisher_info_accumulate(F, s, 1, K * D, 1.0 / (double)n);
    }
}

/* Fv (KD) <- F v without F, by the Gauss-Newton form J^T H J: the change u = V x of the logits,
 * H u = p (u - p.u), and back through x. diag (KD), unless NULL, becomes the diagonal. u (K)
 * scratch. */
LLM_API void llm_fisher_info_vector(double *Fv, double *diag, const double *v, const float *p,
                                    const float *x, size_t n, size_t K, size_t D, double *u) {
    for (size_t i = 0; i < K * D; i++) {
        Fv[i] = 0.0;
        if (diag) diag[i] = 0.0;
    }
    for (size_t i = 0; i < n; i++) {
        const float *pi = p + i * K, *xi = x + i * D;
        double mean = 0.0;
        for (size_t k = 0; k < K; k++) {
            u[k] = 0.0;
            for (size_t d = 0; d < D; d++) u[k] += v[k * D + d] * (double)xi[d];
            mean += (double)pi[k] * u[k];
        }
        for (size_t k = 0; k < K; k++)
            for (size_t d = 0; d < D; d++) {
                const double pk = (double)pi[k], xd = (double)xi[d];
                Fv[k * D + d] += pk * (u[k] - mean) * xd / (double)n;
                if (diag) diag[k * D + d] += pk * (1.0 - pk) * xd * xd / (double)n;
            }
    }
}

/* G (m,m) <- J^T F J: the information about phi (m) when theta (d) = theta(phi), J (d,m) =
 * dtheta/dphi. */
LLM_API void llm_fisher_info_transform(double *G, const double *F, const double *J, size_t d,
                                       size_t m) {
    for (size_t a = 0; a < m; a++)
        for (size_t b = 0; b < m; b++) {
            double sum = 0.0;
            for (size_t i = 0; i < d; i++)
                for (size_t j = 0; j < d; j++) sum += J[i * m + a] * F[i * d + j] * J[j * m + b];
            G[a * m + b] = sum;
        }
}

/* The length of the shortest path between N(m1, s1^2) and N(m2, s2^2) in the metric F = diag(1/s^2,
 * 2/s^2) (Fisher and Rao): a hyperbolic plane with curvature -1/2. */
LLM_API double llm_fisher_info_rao(double m1, double s1, double m2, double s2) {
    LLM_ASSERT(s1 > 0.0 && s2 > 0.0);
    const double dm = 0.5 * (m1 - m2) * (m1 - m2), ds = (s1 - s2) * (s1 - s2);
    return 2.0 * sqrt(2.0) * asinh(0.5 * sqrt((dm + ds) / (s1 * s2)));
}

/* @cramer_rao ----------------------------------------------- Cramer-Rao lower bound
 *
 *     cov(T) >= J F^-1 J^T          T unbiased for g(theta), J = dg/dtheta, F the information
 *     MSE(T) >= (1 + b')^2 / I + b^2                              bias b(theta)
 *     E (T - theta)^2 >= 1 / (E I + I_prior)                  van Trees, theta drawn from a prior
 *
 * No unbiased estimator can be more precise than the data's information allows. The bound is
 * attained exactly in exponential families and in the limit by maximum likelihood, so the ratio of
 * an estimator's variance to the bound says what is left to gain. Parameters that are not of
 * interest cost precision unless their information is orthogonal: F^-1's block is never smaller
 * than the block's inverse. The bound needs a support that does not move with theta, and
 * unbiasedness: the maximum of a uniform sample converges faster than it allows, and shrinkage
 * beats it by bias.
 *
 * source  Rao 1945, "Information and the accuracy attainable ..."; Cramer 1946; van Trees 1968;
 *         James & Stein 1961, "Estimation with quadratic loss"
 * needs   spd
 * see     @fisher_info @mle
 * topics  Cramer-Rao Lower Bound
 */

/* bound (m,m) <- J F^-1 J^T, F (d,d), J (m,d); J NULL is the identity, m = d. False when F is not
 * positive definite: then some direction of theta cannot be estimated. L, W: d d, m d scratch. */
LLM_API bool llm_cramer_rao_bound(double *bound, const double *F, const double *J, size_t m,
                                  size_t d, double *L, double *W) {
    LLM_ASSERT(J || m == d);
    if (!llm_spd_factor(L, F, d)) return false;
    for (size_t i = 0; i < m; i++) { /* row i of W: L w = J_i; the bound is W W^T */
        double *w = W + i * d;
        for (size_t k = 0; k < d; k++) w[k] = J ? J[i * d + k] : i == k ? 1.0 : 0.0;
        llm_spd_forward(w, L, w, d);
        for (size_t j = 0; j <= i; j++) {
            double sum = 0.0;
            for (size_t k = 0; k < d; k++) sum += w[k] * W[j * d + k];
            bound[i * m + j] = bound[j * m + i] = sum;
        }
    }
    return true;
}

/* The least mean squared error at information I with bias b and its slope db/dtheta. */
LLM_API double llm_cramer_rao_biased(double I, double b, double slope) {
    LLM_ASSERT(I > 0.0);
    return (1.0 + slope) * (1.0 + slope) / I + b * b;
}

/* S (a,a) <- F_aa - F_ab F_bb^-1 F_ba: the information about the first a of d parameters when the
 * others are unknown too; F_aa is what it would be if they were known. False when F_bb is singular.
 * L, W: (d-a)^2, a (d-a) scratch. */
LLM_API bool llm_cramer_rao_nuisance(double *S, const double *F, size_t a, size_t d, double *L,
                                     double *W) {
    LLM_ASSERT(a <= d);
    const size_t b = d - a;
    for (size_t i = 0; i < b; i++)
        for (size_t j = 0; j < b; j++) L[i * b + j] = F[(a + i) * d + a + j];
    if (!llm_spd_factor(L, L, b)) return false;
    for (size_t i = 0; i < a; i++) {
        double *w = W + i * b;
        for (size_t k = 0; k < b; k++) w[k] = F[i * d + a + k];
        llm_spd_forward(w, L, w, b);
        for (size_t j = 0; j <= i; j++) {
            double sum = F[i * d + j];
            for (size_t k = 0; k < b; k++) sum -= w[k] * W[j * b + k];
            S[i * a + j] = S[j * a + i] = sum;
        }
    }
    return true;
}

/* Van Trees: the bound on the mean squared error averaged over a prior with information `prior`
 * (the mean of (d log prior / dtheta)^2; 1/variance for a normal one). Biased estimators obey it
 * too. */
LLM_API double llm_cramer_rao_bayes(double mean_information, double prior) {
    return 1.0 / (mean_information + prior);
}

/* What replicates of an estimator say: its bias and variance at `truth`, variance / bound, and the
 * standard error of that ratio (from the fourth moment: the variance of a sample variance). */
typedef struct {
    double bias, var, mse, ratio, ratio_error;
} llm_cramer_rao_report;

/* The report on estimate (runs), runs > 1. */
LLM_API llm_cramer_rao_report llm_cramer_rao_efficiency(const double *estimate, size_t runs,
                                                        double truth, double bound) {
    llm_cramer_rao_report r;
    const double n = (double)runs;
    double mean = 0.0, second = 0.0, fourth = 0.0;
    LLM_ASSERT(runs > 1 && bound > 0.0);
    for (size_t i = 0; i < runs; i++) mean += estimate[i] / n;
    for (size_t i = 0; i < runs; i++) {
        const double square = (estimate[i] - mean) * (estimate[i] - mean);
        second += square / n;
        fourth += square * square / n;
    }
    r.bias = mean - truth;
    r.var = second * n / (n - 1.0);
    r.mse = second + r.bias * r.bias;
    r.ratio = r.var / bound;
    r.ratio_error = sqrt(fmax(0.0, fourth - second * second) / n) / bound;
    return r;
}

/* y (d) <- x (d), an observation of a mean vector with variance var in each coordinate: James and
 * Stein's estimate, shrunk towards 0 by (d - 2) var / |x|^2, at most to 0. For d > 2 its total
 * squared error is below that of x at every mean: the bound holds for unbiased estimators only. */
LLM_API void llm_cramer_rao_james_stein(double *y, const double *x, double var, size_t d) {
    double square = 0.0;
    for (size_t i = 0; i < d; i++) square += x[i] * x[i];
    const double keep =
        d > 2 && square > 0.0 ? fmax(0.0, 1.0 - ((double)d - 2.0) * var / square) : 1.0;
    for (size_t i = 0; i < d; i++) y[i] = keep * x[i];
}

/* @concentration -------------------------------------------- Concentration inequalities
 *
 *     Hoeffding    P(mean - mu >= e) <= exp(-2 n e^2)                          range 1
 *     Bernstein    P(mean - mu >= e) <= exp(-n e^2 / (2 v + 2 e / 3))          variance v, range 1
 *     Chernoff     P(mean - p >= e)  <= exp(-n KL(p + e || p))                 Bernoulli
 *     McDiarmid    P(f - E f >= e)   <= exp(-2 e^2 / sum c_i^2)
 *
 * How far an average can be from its mean, with a guarantee for every n and every distribution in a
 * bounded range. Each bound is used in three directions: the probability for a distance, the
 * distance for a probability, the number of samples for both. Knowing the variance helps when it is
 * small. All of them are for an n that was fixed beforehand: who looks after every sample and stops
 * when the bound is crossed will see it crossed. A bound that holds at all times splits delta over
 * them.
 *
 * source  Boucheron, Lugosi & Massart 2013, "Concentration inequalities", chapter 2; Hoeffding
 *         1963; Maurer & Pontil 2009, "Empirical Bernstein bounds and sample variance
 *         penalization", thm. 4
 * needs   -
 * see     @confidence_interval (asymptotic, narrower) @pac @rademacher
 * topics  Concentration Inequalities (Hoeffding, Bernstein, McDiarmid)
 */

/* P(X >= a) for X >= 0, and P(|X - mu| >= e): all that mean and variance alone can say. */
LLM_API double llm_concentration_markov(double mean, double a) {
    LLM_ASSERT(mean >= 0.0 && a > 0.0);
    return fmin(1.0, mean / a);
}
LLM_API double llm_concentration_chebyshev(double var, double e) {
    LLM_ASSERT(var >= 0.0 && e > 0.0);
    return fmin(1.0, var / (e * e));
}

/* P(sum - its mean >= t) for independent terms whose ranges have these widths: squares is the sum
 * of width^2. McDiarmid's inequality is the same with the bounded differences of f as widths. */
LLM_API double llm_concentration_hoeffding_sum(double squares, double t) {
    return t > 0.0 ? exp(-2.0 * t * t / squares) : 1.0;
}

/* P(mean - mu >= e), one side, n values in a range of this width. */
LLM_API double llm_concentration_hoeffding(double n, double width, double e) {
    return llm_concentration_hoeffding_sum(n * width * width, n * e);
}

/* e with that probability delta, and the n for e and delta (rounded up). */
LLM_API double llm_concentration_hoeffding_radius(double n, double width, double delta) {
    return width * sqrt(-log(delta) / (2.0 * n));
}
LLM_API double llm_concentration_hoeffding_samples(double width, double e, double delta) {
    return ceil(-0.5 * log(delta) * (width / e) * (width / e));
}

/* The same with the variance known: n e^2 / (2 v + 2 width e / 3) solved for e. */
LLM_API double llm_concentration_bernstein(double n, double var, double width, double e) {
    return e > 0.0 ? exp(-n * e * e / (2.0 * var + 2.0 * width * e / 3.0)) : 1.0;
}
LLM_API double llm_concentration_bernstein_radius(double n, double var, double width,
                                                  double delta) {
    const double l = -log(delta) / n, third = width * l / 3.0;
    return third + sqrt(third * third + 2.0 * var * l);
}
LLM_API double llm_concentration_bernstein_samples(double var, double width, double e,
                                                   double delta) {
    return ceil(-log(delta) * (2.0 * var + 2.0 * width * e / 3.0) / (e * e));
}

/* The radius when only the sample variance (over n - 1) is known: with probability 1 - delta the
 * mean is at most this far below mu. The price of estimating is the 7/3 and the 2 in the
 * logarithm. */
LLM_API double llm_concentration_empirical_radius(double n, double sample_var, double width,
                                                  double delta) {
    const double l = log(2.0 / delta);
    LLM_ASSERT(n > 1.0);
    return sqrt(2.0 * sample_var * l / n) + 7.0 * width * l / (3.0 * (n - 1.0));
}

/* KL(a || b) of two Bernoulli variables, in nats. */
LLM_API double llm_concentration_kl(double a, double b) {
    const double yes = a > 0.0 ? a * log(a / b) : 0.0,
                 no = a < 1.0 ? (1.0 - a) * log((1.0 - a) / (1.0 - b)) : 0.0;
    return yes + no;
}

/* P(the share of successes among n is at least q) when p is right; 1 for q <= p. */
LLM_API double llm_concentration_chernoff(double n, double p, double q) {
    if (q <= p) return 1.0;
    return q > 1.0 ? 0.0 : exp(-n * llm_concentration_kl(q, p));
}

/* The largest p (upper) or the smallest that a share q of n successes leaves possible: n KL(q || p)
 * = log(1 / delta), by bisection; KL rises away from q on both sides. The truth is above the upper
 * one with probability at most delta. Both together hold with 1 - 2 delta. */
LLM_API double llm_concentration_chernoff_bound(double n, double q, double delta, bool upper) {
    double inside = q, outside = upper ? 1.0 : 0.0;
    LLM_ASSERT(n > 0.0 && q >= 0.0 && q <= 1.0 && delta > 0.0 && delta < 1.0);
    for (size_t k = 0; k < 200; k++) {
        const double middle = 0.5 * (inside + outside);
        if (n * llm_concentration_kl(q, middle) <= -log(delta))
            inside = middle;
        else
            outside = middle;
    }
    return inside;
}

/* Hoeffding's radius at sample t, for all t = 1, 2, .. at once: t gets delta / (t (t+1)), and these
 * add up to delta. */
LLM_API double llm_concentration_anytime_radius(double t, double width, double delta) {
    return llm_concentration_hoeffding_radius(t, width, delta / (t * (t + 1.0)));
}

/* c (n) <- the bounded differences of a function of n variables with K values each, given as a
 * table f (K^n), the last variable fastest: c_i is the largest change that variable i alone can
 * make. Returns sum c_i^2, for llm_concentration_hoeffding_sum. */
LLM_API double llm_concentration_differences(double *c, const double *f, size_t n, size_t K) {
    size_t size = 1, stride = 1;
    double squares = 0.0;
    for (size_t i = 0; i < n; i++) size *= K;
    for (size_t i = n; i-- > 0; stride *= K) {
        c[i] = 0.0;
        for (size_t x = 0; x < size; x++) {
            const size_t start = x - x / stride % K * stride; /* the same with variable i at 0 */
            for (size_t k = 0; k < K; k++) c[i] = fmax(c[i], fabs(f[x] - f[start + k * stride]));
        }
        squares += c[i] * c[i];
    }
    return squares;
}

/* The share of runs that broke their radius: value (runs), truth, radius (runs). *error is the
 * standard error of that share. */
LLM_API double llm_concentration_coverage(double *error, const double *value, const double *radius,
                                          double truth, size_t runs) {
    double broken = 0.0;
    for (size_t r = 0; r < runs; r++) broken += value[r] - truth > radius[r] ? 1.0 : 0.0;
    broken /= (double)runs;
    *error = sqrt(broken * (1.0 - broken) / (double)runs);
    return broken;
}

/* @confidence_interval -------------------------------------- Confidence intervals
 *
 *     mean           m +- t s / sqrt(n)                         t: quantile of Student t, n - 1
 *     variance       (n-1) s^2 / chi2_hi  ..  (n-1) s^2 / chi2_lo
 *     proportion     all p that a test would not reject: Wilson (score), Clopper-Pearson (exact)
 *
 * A recipe whose results contain the truth in 95 of 100 repetitions. The familiar p +- 2 se for a
 * proportion (Wald) is not one: with 20 trials and p = 0.05 it contains the truth less than 70% of
 * the time, because its width is computed at the estimate, and 0 of n gives width 0. Wilson asks
 * which p are compatible with what was seen, and needs no more than a square root. Coverage can be
 * computed exactly for binomials by summing over all outcomes, and should be before an interval is
 * believed.
 *
 * source  Student 1908; Wilson 1927, "Probable inference"; Clopper & Pearson 1934; Garwood 1936;
 *         Agresti & Coull 1998; Welch 1947; Holm 1979, "A simple sequentially rejective multiple
 *         test"
 * needs   special_inverse distribution categorical argsort
 * see     @bootstrap @concentration (no assumptions, wider)
 * topics  Confidence Interval
 */
typedef struct {
    double low, high;
} llm_confidence_interval;

/* The two-sided critical value: z, or t for df degrees of freedom (df = inf is z). */
LLM_API double llm_confidence_interval_critical(double level, double df) {
    LLM_ASSERT(level > 0.0 && level < 1.0);
    const llm_distribution t = {LLM_DISTRIBUTION_STUDENT_T, df, 0.0, 0.0, 1.0};
    if (df > 1e6) return -llm_special_inverse_normal(0.5 - 0.5 * level);
    return -llm_distribution_quantile(&t, 0.5 - 0.5 * level);
}

/* estimate +- critical * se: also the delta method, with se = |g'| se of what g is applied to. */
LLM_API llm_confidence_interval llm_confidence_interval_symmetric(double estimate, double se,
                                                                  double df, double level) {
    const double half = llm_confidence_interval_critical(level, df) * se;
    const llm_confidence_interval i = {estimate - half, estimate + half};
    return i;
}

/* *mean and *var (divided by n - 1) of x (n), or of the differences x - y for paired data; y may be
 * NULL. One value has no variance: NaN. */
LLM_API void llm_confidence_interval_moments(double *mean, double *var, const float *x,
                                             const float *y, size_t n) {
    double sum = 0.0, square = 0.0;
    for (size_t i = 0; i < n; i++) sum += (double)x[i] - (y ? (double)y[i] : 0.0);
    *mean = sum / (double)n;
    for (size_t i = 0; i < n; i++) {
        const double r = (double)x[i] - (y ? (double)y[i] : 0.0) - *mean;
        square += r * r;
    }
    *var = n > 1 ? square / ((double)n - 1.0) : (double)NAN;
}

/* The mean of x (n), or of x - y (paired). At least two values. */
LLM_API llm_confidence_interval llm_confidence_interval_mean(const float *x, const float *y,
                                                             size_t n, double level) {
    double mean, var;
    LLM_ASSERT(n > 1);
    llm_confidence_interval_moments(&mean, &var, x, y, n);
    return llm_confidence_interval_symmetric(mean, sqrt(var / (double)n), (double)n - 1.0, level);
}

/* The difference of the means of x (n) and y (m), two samples with variances of their own: Welch's
 * degrees of freedom lie between those of the smaller sample and n + m - 2. */
LLM_API llm_confidence_interval llm_confidence_interval_welch(const float *x, size_t n,
                                                              const float *y, size_t m,
                                                              double level) {
    double mx, vx, my, vy;
    LLM_ASSERT(n > 1 && m > 1);
    llm_confidence_interval_moments(&mx, &vx, x, NULL, n);
    llm_confidence_interval_moments(&my, &vy, y, NULL, m);
    const double a = vx / (double)n, b = vy / (double)m;
    const double df = (a + b) * (a + b) / (a * a / ((double)n - 1.0) + b * b / ((double)m - 1.0));
    return llm_confidence_interval_symmetric(mx - my, sqrt(a + b), a + b > 0.0 ? df : 1.0, level);
}

/* The variance of normal data, from their variance s2 over n - 1 degrees of freedom. */
LLM_API llm_confidence_interval llm_confidence_interval_variance(double s2, size_t n,
                                                                 double level) {
    LLM_ASSERT(n > 1);
    const double half =
        0.5 * ((double)n - 1.0); /* chi-squared is twice a gamma of half the shape */
    const llm_confidence_interval i = {
        half * s2 / llm_special_inverse_gamma(half, 0.5 + 0.5 * level),
        half * s2 / llm_special_inverse_gamma(half, 0.5 - 0.5 * level)};
    return i;
}

enum {
    LLM_CONFIDENCE_INTERVAL_WALD,
    LLM_CONFIDENCE_INTERVAL_WILSON,
    LLM_CONFIDENCE_INTERVAL_EXACT,
    LLM_CONFIDENCE_INTERVAL_AGRESTI
};

/* A proportion: k successes in n trials. EXACT is Clopper and Pearson's: never below its level,
 * often well above. Wald's and Agresti's may leave [0,1] and are cut off there. */
LLM_API llm_confidence_interval llm_confidence_interval_proportion(double k, double n, double level,
                                                                   int method) {
    LLM_ASSERT(n > 0.0 && k >= 0.0 && k <= n);
    const double z = llm_confidence_interval_critical(level, 1e9), p = k / n,
                 tail = 0.5 - 0.5 * level;
    const double centre = (k + 0.5 * z * z) / (n + z * z); /* Wilson's, and Agresti's estimate */
    llm_confidence_interval i = {0.0, 1.0};
    if (method == LLM_CONFIDENCE_INTERVAL_EXACT) { /* both bounds are beta quantiles */
        if (k > 0.0) i.low = llm_special_inverse_beta(NULL, k, n - k + 1.0, tail);
        if (k < n) i.high = llm_special_inverse_beta(NULL, k + 1.0, n - k, 1.0 - tail);
        return i;
    }
    double half = z * sqrt(centre * (1.0 - centre) / (n + z * z)), middle = centre;
    if (method == LLM_CONFIDENCE_INTERVAL_WALD) half = z * sqrt(p * (1.0 - p) / n), middle = p;
    if (method == LLM_CONFIDENCE_INTERVAL_WILSON)
        half = z / (n + z * z) * sqrt(k * (1.0 - p) + 0.25 * z * z);
    i.low = fmax(0.0, middle - half);
    i.high = fmin(1.0, middle + half);
    return i;
}

/* The chance that the interval of n trials contains p, summed over all outcomes. */
LLM_API double llm_confidence_interval_coverage(double n, double p, double level, int method) {
    const llm_categorical_law law = {LLM_CATEGORICAL_BINOMIAL, n, p};
    double sum = 0.0;
    for (double k = 0.0; k <= n; k += 1.0) {
        const llm_confidence_interval i = llm_confidence_interval_proportion(k, n, level, method);
        if (i.low <= p && p <= i.high) sum += exp(llm_categorical_logpmf(&law, k));
    }
    return sum;
}

/* A Poisson rate: k events in `exposure` units of time (Garwood). */
LLM_API llm_confidence_interval llm_confidence_interval_rate(double k, double exposure,
                                                             double level) {
    LLM_ASSERT(k >= 0.0 && exposure > 0.0);
    llm_confidence_interval i = {0.0,
                                 llm_special_inverse_gamma(k + 1.0, 0.5 + 0.5 * level) / exposure};
    if (k > 0.0) i.low = llm_special_inverse_gamma(k, 0.5 - 0.5 * level) / exposure;
    return i;
}

/* A correlation r of n pairs: atanh r is about normal with variance 1 / (n - 3), whatever r is. */
LLM_API llm_confidence_interval llm_confidence_interval_correlation(double r, size_t n,
                                                                    double level) {
    LLM_ASSERT(n > 3 && fabs(r) <= 1.0);
    llm_confidence_interval i =
        llm_confidence_interval_symmetric(atanh(r), 1.0 / sqrt((double)n - 3.0), 1e9, level);
    i.low = tanh(i.low), i.high = tanh(i.high);
    return i;
}

/* adjusted (m) <- p-values p (m), Holm's: the smallest times m, the next times m - 1, .., never
 * falling, at most 1. Rejecting where it is below alpha errs at all with probability alpha or less,
 * as Bonferroni (every one times m) does, and rejects more. order (m) is scratch. */
LLM_API void llm_confidence_interval_holm(float *adjusted, size_t *order, const float *p,
                                          size_t m) {
    float last = 0.0f;
    llm_argsort(order, p, m);
    for (size_t i = 0; i < m; i++) {
        last = fmaxf(last, fminf(1.0f, (float)(m - i) * p[order[i]]));
        adjusted[order[i]] = last;
    }
}

/* The p-value of "the difference lies outside -margin .. margin": two one-sided t tests, the worse
 * one counts. Small means equivalent, which "not significant" never does. */
LLM_API double llm_confidence_interval_tost(double difference, double se, double df,
                                            double margin) {
    const llm_distribution t = {LLM_DISTRIBUTION_STUDENT_T, df, 0.0, 0.0, 1.0};
    LLM_ASSERT(margin > 0.0 && se > 0.0);
    return llm_distribution_cdf(&t, (fabs(difference) - margin) / se);
}

/* @bootstrap ------------------------------------------------ Bootstrap resampling
 *
 *     x* = n draws with replacement from x         the spread of T(x*) stands for that of T(x)
 *     percentile   q_a .. q_(1-a)                  basic   2T - q_(1-a) .. 2T - q_a
 *     BCa          q at Phi(z0 + (z0 + z) / (1 - acc (z0 + z)))
 *
 * An error bar for any statistic, without a formula: treat the sample as the world, draw samples
 * from it, and watch the statistic move. The caller computes the statistic from indices, so nothing
 * is copied and any data will do. BCa corrects the percentiles for bias (z0) and for a spread that
 * changes with the value (acceleration, from the jackknife). Resampling must imitate how the data
 * came about: whole clusters, blocks of a time series, pairs. It fails for extremes: the maximum of
 * a resample is the sample's maximum in 63 of 100 cases.
 *
 * source  Efron 1979, "Bootstrap methods: another look at the jackknife"; Efron 1987, "Better
 *         bootstrap confidence intervals"; Kunsch 1989 (blocks); Koehn 2004, "Statistical
 *         significance tests for machine translation evaluation"
 * needs   rng argsort special special_inverse
 * see     @confidence_interval
 * topics  Bootstrap Resampling
 */

/* index (n) <- draws from 0 .. n-1 with replacement. */
LLM_API void llm_bootstrap_indices(size_t *index, size_t n, llm_rng *rng) {
    for (size_t i = 0; i < n; i++) index[i] = llm_rng_below(rng, n);
}

/* The same within strata: stratum s is start[s] .. start[s+1] - 1, and keeps its size. */
LLM_API void llm_bootstrap_stratified(size_t *index, const size_t *start, size_t strata,
                                      llm_rng *rng) {
    for (size_t s = 0; s < strata; s++)
        for (size_t i = start[s]; i < start[s + 1]; i++)
            index[i] = start[s] + llm_rng_below(rng, start[s + 1] - start[s]);
}

/* Whole clusters (start as above): as many as there are, with replacement. Returns how many indices
 * came out; index has room for clusters times the largest one. */
LLM_API size_t llm_bootstrap_clusters(size_t *index, const size_t *start, size_t clusters,
                                      llm_rng *rng) {
    size_t n = 0;
    for (size_t c = 0; c < clusters; c++) {
        const size_t pick = llm_rng_below(rng, clusters);
        for (size_t i = start[pick]; i < start[pick + 1]; i++) index[n++] = i;
    }
    return n;
}

/* Moving blocks of length b for a series of n: blocks start anywhere up to n - b, and keep inside
 * them what neighbours share. The last one is cut. */
LLM_API void llm_bootstrap_blocks(size_t *index, size_t n, size_t b, llm_rng *rng) {
    LLM_ASSERT(b > 0 && b <= n);
    for (size_t i = 0, at = 0; i < n; i++) {
        if (i % b == 0) at = llm_rng_below(rng, n - b + 1);
        index[i] = at + i % b;
    }
}

/* The standard deviation of t (B), replicates of a statistic: its bootstrap standard error. */
LLM_API double llm_bootstrap_se(const float *t, size_t B) {
    double mean = 0.0, square = 0.0;
    for (size_t i = 0; i < B; i++) mean += (double)t[i] / (double)B;
    for (size_t i = 0; i < B; i++) square += ((double)t[i] - mean) * ((double)t[i] - mean);
    return sqrt(square / ((double)B - 1.0));
}

/* The standard error and the acceleration from the jackknife: t (n) is the statistic with
 * observation i left out. acceleration may be NULL. */
LLM_API double llm_bootstrap_jackknife(double *acceleration, const float *t, size_t n) {
    double mean = 0.0, square = 0.0, cube = 0.0;
    for (size_t i = 0; i < n; i++) mean += (double)t[i] / (double)n;
    for (size_t i = 0; i < n; i++) {
        const double r = mean - (double)t[i];
        square += r * r;
        cube += r * r * r;
    }
    if (acceleration) *acceleration = square > 0.0 ? cube / (6.0 * square * sqrt(square)) : 0.0;
    return sqrt(square * ((double)n - 1.0) / (double)n);
}

/* The p-quantile of t in the order given, linear between neighbours (NumPy's). */
LLM_API double llm_bootstrap_quantile(const float *t, const size_t *order, size_t B, double p) {
    const double at = fmin(fmax(p, 0.0), 1.0) * ((double)B - 1.0), below = floor(at);
    const size_t i = (size_t)below, j = i + 1 < B ? i + 1 : i;
    return (double)t[order[i]] + (at - below) * ((double)t[order[j]] - (double)t[order[i]]);
}

enum { LLM_BOOTSTRAP_PERCENTILE, LLM_BOOTSTRAP_BASIC, LLM_BOOTSTRAP_BCA };

/* *low, *high <- replicates t (B) of a statistic whose value on the sample is `value`.
 * acceleration is read for BCa. order (B) is scratch. NaN for BCa when all replicates lie on one
 * side of value. */
LLM_API void llm_bootstrap_interval(double *low, double *high, int method, const float *t, size_t B,
                                    double value, double acceleration, double level,
                                    size_t *order) {
    double p[2] = {0.5 - 0.5 * level, 0.5 + 0.5 * level};
    LLM_ASSERT(B > 1 && level > 0.0 && level < 1.0);
    llm_argsort(order, t, B);
    if (method == LLM_BOOTSTRAP_BCA) {
        double below = 0.0, equal = 0.0; /* ties count half */
        for (size_t i = 0; i < B; i++) {
            below += (double)t[i] < value ? 1.0 : 0.0;
            equal += (double)t[i] == value ? 1.0 : 0.0;
        }
        const double z0 = llm_special_inverse_normal((below + 0.5 * equal) / (double)B);
        for (size_t k = 0; k < 2; k++) {
            const double z = z0 + llm_special_inverse_normal(p[k]),
                         w = z0 + z / (1.0 - acceleration * z);
            p[k] = exp(llm_special_normal_logcdf(w));
        }
        if (!(p[0] < p[1])) {
            *low = *high = (double)NAN;
            return;
        }
    }
    *low = llm_bootstrap_quantile(t, order, B, p[0]);
    *high = llm_bootstrap_quantile(t, order, B, p[1]);
    if (method != LLM_BOOTSTRAP_BASIC) return;
    const double reflected = 2.0 * value - *high;
    *high = 2.0 * value - *low;
    *low = reflected;
}

/* The studentized interval: t (B) replicates with a standard error each, se (B), from an inner
 * bootstrap or a formula; value and its se0 on the sample. The quantiles of (t - value) / se take
 * the place of a t table. ratio (B), order (B) scratch. */
LLM_API void llm_bootstrap_studentized(double *low, double *high, const float *t, const float *se,
                                       size_t B, double value, double se0, double level,
                                       float *ratio, size_t *order) {
    for (size_t i = 0; i < B; i++) ratio[i] = (float)(((double)t[i] - value) / (double)se[i]);
    llm_argsort(order, ratio, B);
    *low = value - se0 * llm_bootstrap_quantile(ratio, order, B, 0.5 + 0.5 * level);
    *high = value - se0 * llm_bootstrap_quantile(ratio, order, B, 0.5 - 0.5 * level);
}

/* The p-value of "x (n) and y (m) come from one distribution" by B random relabellings: the share
 * of those whose means differ at least as much, the observed labelling counted among them (or p
 * could be 0, which B draws cannot show). pool (n + m) is scratch. */
LLM_API double llm_bootstrap_permutation(const float *x, size_t n, const float *y, size_t m,
                                         size_t B, llm_rng *rng, float *pool) {
    double total = 0.0, sum = 0.0, as_far = 1.0;
    LLM_ASSERT(n > 0 && m > 0);
    for (size_t i = 0; i < n; i++) sum += (double)(pool[i] = x[i]);
    for (size_t i = 0; i < m; i++) total += (double)(pool[n + i] = y[i]);
    total += sum;
    const double N = (double)n, M = (double)m, seen = fabs(sum / N - (total - sum) / M);
    for (size_t b = 0; b < B; b++) {
        sum = 0.0;
        for (size_t i = 0; i < n; i++) { /* the first n of a shuffle */
            const size_t j = i + llm_rng_below(rng, n + m - i);
            const float swap = pool[i];
            pool[i] = pool[j];
            pool[j] = swap;
            sum += (double)pool[i];
        }
        if (fabs(sum / N - (total - sum) / M) >= seen * (1.0 - 1e-9)) as_far += 1.0;
    }
    return as_far / ((double)B + 1.0);
}

/* Koehn's paired test: two systems' scores a, b (n) on the same items; the share of resampled test
 * sets on which a is not better than b, counted as above. */
LLM_API double llm_bootstrap_paired(const float *a, const float *b, size_t n, size_t B,
                                    llm_rng *rng) {
    double not_better = 1.0;
    for (size_t k = 0; k < B; k++) {
        double sum = 0.0;
        for (size_t i = 0; i < n; i++) {
            const size_t j = llm_rng_below(rng, n);
            sum += (double)a[j] - (double)b[j];
        }
        if (sum <= 0.0) not_better += 1.0;
    }
    return not_better / ((double)B + 1.0);
}

/* @03-learn ============================================= LEARNING AND AUTOMATIC DIFFERENTIATION */

/* @04-classic =============================================== CLASSICAL MACHINE LEARNING */

/* @05-infer ============================================== PROBABILISTIC INFERENCE AND CAUSALITY */

/* @06-nn ==================================================== NEURONS, LAYERS AND NORMALIZATION */

/* @activation ----------------------------------------------- Activation functions
 *
 *     gelu(x) = x Phi(x)    gelu_tanh(x) = x s(2 sqrt(2/pi) (x + 0.044715 x^3))    silu(x) = x s(x)
 *     s(x) = 1 / (1 + exp(-x))        Phi: the normal distribution function
 *
 * What stands between two matrices, so that they do not collapse into one. ReLU passes or blocks;
 * its smooth relatives weigh x with a probability that grows with x, and so keep a gradient a
 * little below 0. GPT-2 and Gemma have the tanh form of GELU (written here with the sigmoid, since
 * (1 + tanh u) / 2 = s(2 u)), ViT and GPT-NeoX the exact one; they differ by up to 5e-4. Every
 * backward here takes forward's input, never its output.
 *
 * source  Hendrycks & Gimpel 2016, "Gaussian error linear units"; Ramachandran et al. 2017,
 *         "Searching for activation functions"; Klambauer et al. 2017, "Self-normalizing neural
 *         networks"; So et al. 2021, "Primer" (squared ReLU)
 * needs   exp
 * see     @relu @sigmoid @tanh @swiglu @he_init (uses the moments)
 * topics  Activation function
 */
enum {
    LLM_ACTIVATION_IDENTITY,
    LLM_ACTIVATION_RELU,
    LLM_ACTIVATION_GELU,
    LLM_ACTIVATION_GELU_TANH,
    LLM_ACTIVATION_SILU,
    LLM_ACTIVATION_SIGMOID,
    LLM_ACTIVATION_TANH,
    LLM_ACTIVATION_LEAKY_RELU,
    LLM_ACTIVATION_RELU_SQUARED,
    LLM_ACTIVATION_ELU,
    LLM_ACTIVATION_SELU,
    LLM_ACTIVATION_SOFTPLUS,
    LLM_ACTIVATION_MISH,
    LLM_ACTIVATION_HARD_SIGMOID,
    LLM_ACTIVATION_HARD_SWISH,
    LLM_ACTIVATION_SOFTSIGN,
    LLM_ACTIVATION_COUNT
};

/* Pieces of the table: s(x), log(1 + e^x), and the values and slopes that are long. */
LLM_API float llm_activation_sigmoid(float x) { return 1.0f / (1.0f + llm_expf(-x)); }
LLM_API float llm_activation_softplus(float x) { return fmaxf(x, 0.0f) + log1pf(expf(-fabsf(x))); }
LLM_API float llm_activation_gelu_tanh(float x) {
    return x * llm_activation_sigmoid(1.5957691f * (x + 0.044715f * x * x * x));
}
LLM_API float llm_activation_gelu_tanh_slope(float x) {
    const float s = llm_activation_sigmoid(1.5957691f * (x + 0.044715f * x * x * x));
    return s + x * s * (1.0f - s) * 1.5957691f * (1.0f + 3.0f * 0.044715f * x * x);
}
LLM_API float llm_activation_silu_slope(float x) {
    const float s = llm_activation_sigmoid(x);
    return s * (1.0f + x * (1.0f - s));
}

/* phi(x). */
LLM_API float llm_activation_value(float x, int kind) {
    switch (kind) {
    case LLM_ACTIVATION_IDENTITY:
        return x;
    case LLM_ACTIVATION_RELU:
        return x < 0.0f ? 0.0f : x; /* NaN stays */
    case LLM_ACTIVATION_GELU:
        return 0.5f * x * erfcf(-0.70710678f * x); /* 1 + erf would cancel below 0 */
    case LLM_ACTIVATION_GELU_TANH:
        return llm_activation_gelu_tanh(x);
    case LLM_ACTIVATION_SILU:
        return x * llm_activation_sigmoid(x);
    case LLM_ACTIVATION_SIGMOID:
        return llm_activation_sigmoid(x);
    case LLM_ACTIVATION_TANH:
        return llm_tanhf(x);
    case LLM_ACTIVATION_LEAKY_RELU:
        return x < 0.0f ? 0.01f * x : x;
    case LLM_ACTIVATION_RELU_SQUARED:
        return x < 0.0f ? 0.0f : x * x;
    case LLM_ACTIVATION_ELU:
        return x < 0.0f ? expm1f(x) : x;
    case LLM_ACTIVATION_SELU: /* 0 and 1 are the fixed point of mean and variance */
        return x < 0.0f ? 1.0507010f * 1.6732632f * expm1f(x) : 1.0507010f * x;
    case LLM_ACTIVATION_SOFTPLUS:
        return llm_activation_softplus(x);
    case LLM_ACTIVATION_MISH:
        return x * llm_tanhf(llm_activation_softplus(x));
    case LLM_ACTIVATION_HARD_SIGMOID:
        return x < -3.0f ? 0.0f : x > 3.0f ? 1.0f : x / 6.0f + 0.5f;
    case LLM_ACTIVATION_HARD_SWISH:
        return x < -3.0f ? 0.0f : x > 3.0f ? x : x * (x / 6.0f + 0.5f);
    case LLM_ACTIVATION_SOFTSIGN:
        return x / (1.0f + fabsf(x));
    }
    LLM_ASSERT(false);
    return NAN;
}

/* phi'(x). At a kink, the side that torch takes. */
LLM_API float llm_activation_slope(float x, int kind) {
    float t;
    switch (kind) {
    case LLM_ACTIVATION_IDENTITY:
        return 1.0f;
    case LLM_ACTIVATION_RELU:
        return x > 0.0f ? 1.0f : 0.0f;
    case LLM_ACTIVATION_GELU: /* Phi + x times the normal density */
        return 0.5f * erfcf(-0.70710678f * x) + 0.39894228f * x * llm_expf(-0.5f * x * x);
    case LLM_ACTIVATION_GELU_TANH:
        return llm_activation_gelu_tanh_slope(x);
    case LLM_ACTIVATION_SILU:
        return llm_activation_silu_slope(x);
    case LLM_ACTIVATION_SIGMOID:
        t = llm_activation_sigmoid(x);
        return t * (1.0f - t);
    case LLM_ACTIVATION_TANH:
        t = llm_tanhf(x);
        return 1.0f - t * t;
    case LLM_ACTIVATION_LEAKY_RELU:
        return x > 0.0f ? 1.0f : 0.01f;
    case LLM_ACTIVATION_RELU_SQUARED:
        return x > 0.0f ? 2.0f * x : 0.0f;
    case LLM_ACTIVATION_ELU:
        return x > 0.0f ? 1.0f : llm_expf(x);
    case LLM_ACTIVATION_SELU:
        return x > 0.0f ? 1.0507010f : 1.0507010f * 1.6732632f * llm_expf(x);
    case LLM_ACTIVATION_SOFTPLUS:
        return llm_activation_sigmoid(x);
    case LLM_ACTIVATION_MISH:
        t = llm_tanhf(llm_activation_softplus(x));
        return t + x * (1.0f - t * t) * llm_activation_sigmoid(x);
    case LLM_ACTIVATION_HARD_SIGMOID:
        return x > -3.0f && x < 3.0f ? 1.0f / 6.0f : 0.0f;
    case LLM_ACTIVATION_HARD_SWISH:
        return x <= -3.0f ? 0.0f : x < 3.0f ? x / 3.0f + 0.5f : 1.0f;
    case LLM_ACTIVATION_SOFTSIGN:
        t = 1.0f + fabsf(x);
        return 1.0f / (t * t);
    }
    LLM_ASSERT(false);
    return NAN;
}

/* y (n) <- x (n); y may be x. The two that language models use have loops of their own, which
 * vectorise. */
LLM_API void llm_activation_forward(float *y, const float *x, size_t n, int kind) {
    if (kind == LLM_ACTIVATION_GELU_TANH) {
        LLM_PARALLEL_FOR
        for (size_t i = 0; i < n; i++) y[i] = llm_activation_gelu_tanh(x[i]);
    } else if (kind == LLM_ACTIVATION_SILU) {
        LLM_PARALLEL_FOR
        for (size_t i = 0; i < n; i++) y[i] = x[i] * llm_activation_sigmoid(x[i]);
    } else {
        LLM_PARALLEL_FOR
        for (size_t i = 0; i < n; i++) y[i] = llm_activation_value(x[i], kind);
    }
}

/* dx (n) += <- dy (n) and forward's x (n). */
LLM_API void llm_activation_backward(float *dx, const float *dy, const float *x, size_t n,
                                     int kind) {
    if (kind == LLM_ACTIVATION_GELU_TANH) {
        LLM_PARALLEL_FOR
        for (size_t i = 0; i < n; i++) dx[i] += dy[i] * llm_activation_gelu_tanh_slope(x[i]);
    } else if (kind == LLM_ACTIVATION_SILU) {
        LLM_PARALLEL_FOR
        for (size_t i = 0; i < n; i++) dx[i] += dy[i] * llm_activation_silu_slope(x[i]);
    } else {
        LLM_PARALLEL_FOR
        for (size_t i = 0; i < n; i++) dx[i] += dy[i] * llm_activation_slope(x[i], kind);
    }
}

/* *square <- E phi(z)^2, *slope <- E phi'(z)^2 for a standard normal z: how much a layer grows or
 * shrinks signals and gradients. The midpoint rule on [-10, 10]: no node on a kink at 0 or 3, and
 * for what falls off like the normal density it is exact to many digits. */
LLM_API void llm_activation_moments(double *square, double *slope, int kind) {
    *square = *slope = 0.0;
    for (int i = -10000; i < 10000; i++) {
        const double z = ((double)i + 0.5) / 1000.0,
                     mass = 0.3989422804014327e-3 * exp(-0.5 * z * z);
        const double y = (double)llm_activation_value((float)z, kind);
        const double dy = (double)llm_activation_slope((float)z, kind);
        *square += mass * y * y;
        *slope += mass * dy * dy;
    }
}

/* @swiglu --------------------------------------------------- SwiGLU
 *
 *     y_i = silu(g_i) u_i         g = x W_gate^T, u = x W_up^T        silu(g) = g s(g)
 *     du_i = dy_i silu(g_i)       dg_i = dy_i u_i s(g_i) (1 + g_i (1 - s(g_i)))
 *
 * A hidden layer made of two projections instead of one: the first, bent by SiLU, decides how much
 * of the second passes. A product of two learned numbers is what a plain layer can only put
 * together from many. It costs a third matrix, so the hidden size is cut to 2/3 of the usual 4 C.
 * Backward computes silu again from g: an exp is cheaper than storing it. With other curves in
 * SiLU's place: GEGLU (GELU), ReGLU (ReLU), GLU (sigmoid).
 *
 * source  Shazeer 2020, "GLU Variants Improve Transformer", eq. 5 and 6; Dauphin et al. 2017,
 *         "Language modeling with gated convolutional networks" (GLU)
 * needs   activation
 * see     @ffn (the block with its three matrices)
 * topics  SwiGLU Activation Function
 */

/* y (n) <- gate, up (n); y may be gate or up. */
LLM_API void llm_swiglu_forward(float *y, const float *gate, const float *up, size_t n) {
    LLM_PARALLEL_FOR
    for (size_t i = 0; i < n; i++) y[i] = gate[i] * llm_activation_sigmoid(gate[i]) * up[i];
}

/* dgate, dup (n) += <- dy (n) and forward's gate, up (n). Either gradient may be NULL. */
LLM_API void llm_swiglu_backward(float *dgate, float *dup, const float *dy, const float *gate,
                                 const float *up, size_t n) {
    if (dgate) {
        LLM_PARALLEL_FOR
        for (size_t i = 0; i < n; i++)
            dgate[i] += dy[i] * up[i] * llm_activation_silu_slope(gate[i]);
    }
    if (dup) {
        LLM_PARALLEL_FOR
        for (size_t i = 0; i < n; i++) dup[i] += dy[i] * gate[i] * llm_activation_sigmoid(gate[i]);
    }
}

/* y (N,H) <- x (N,2H), the result of one product with both matrices: rows [gate | up], or, when
 * interleaved, gate_0 up_0 gate_1 up_1 ... y may not be x. */
LLM_API void llm_swiglu_packed_forward(float *y, const float *x, size_t N, size_t H,
                                       bool interleaved) {
    const size_t step = interleaved ? 2 : 1, to_up = interleaved ? 1 : H;
    LLM_PARALLEL_FOR
    for (size_t n = 0; n < N; n++) {
        const float *gate = x + n * 2 * H, *up = gate + to_up;
        for (size_t i = 0; i < H; i++) {
            const float g = gate[i * step];
            y[n * H + i] = g * llm_activation_sigmoid(g) * up[i * step];
        }
    }
}

/* dx (N,2H) += <- dy (N,H) and forward's x (N,2H). */
LLM_API void llm_swiglu_packed_backward(float *dx, const float *dy, const float *x, size_t N,
                                        size_t H, bool interleaved) {
    const size_t step = interleaved ? 2 : 1, to_up = interleaved ? 1 : H;
    LLM_PARALLEL_FOR
    for (size_t n = 0; n < N; n++) {
        const float *gate = x + n * 2 * H, *up = gate + to_up, *dyn = dy + n * H;
        float *dgate = dx + n * 2 * H, *dup = dgate + to_up;
        for (size_t i = 0; i < H; i++) {
            const float g = gate[i * step];
            dgate[i * step] += dyn[i] * up[i * step] * llm_activation_silu_slope(g);
            dup[i * step] += dyn[i] * g * llm_activation_sigmoid(g);
        }
    }
}

/* y (n) <- gate, up (n): the other members of the family. kind is an LLM_ACTIVATION; y may be gate
 * or up. */
LLM_API void llm_swiglu_glu_forward(float *y, const float *gate, const float *up, size_t n,
                                    int kind) {
    LLM_PARALLEL_FOR
    for (size_t i = 0; i < n; i++) y[i] = llm_activation_value(gate[i], kind) * up[i];
}

/* dgate, dup (n) += <- dy (n) and forward's gate, up (n). Either gradient may be NULL. */
LLM_API void llm_swiglu_glu_backward(float *dgate, float *dup, const float *dy, const float *gate,
                                     const float *up, size_t n, int kind) {
    LLM_PARALLEL_FOR
    for (size_t i = 0; i < n; i++) {
        if (dgate) dgate[i] += dy[i] * up[i] * llm_activation_slope(gate[i], kind);
        if (dup) dup[i] += dy[i] * llm_activation_value(gate[i], kind);
    }
}

/* The hidden size of a gated block of width C: 8 C / 3, so that three matrices have the weights of
 * two with 4 C, rounded up to a multiple for the hardware (256 in Llama). */
LLM_API size_t llm_swiglu_hidden(size_t C, size_t multiple) {
    return (8 * C / 3 + multiple - 1) / multiple * multiple;
}

/* @dense ---------------------------------------------------- Fully connected layer
 *
 *     y = x w^T + b
 *     dx = dy w        dw = dy^T x        db = sum of dy over the rows
 *
 * Every output sees every input. Row o of w is the pattern that output o looks for, and y_o how
 * much of it is in x; w is stored (O,C), as torch.nn.Linear has it, so that a row is contiguous.
 * All three passes are the same matrix product with the roles exchanged. The work is 2 N C O flops
 * forward and twice that backward, nearly all the work there is in a Transformer.
 *
 * A weight gradient is a sum over rows of outer products dy_n x_n^T, and the norm of an outer
 * product is the product of the norms: so the gradient norm of each sample is known without its
 * gradient. A w of rank R is two thin layers, R (C + O) weights instead of C O.
 *
 * source  Rumelhart, Hinton & Williams 1986, "Learning representations by back-propagating errors";
 *         Goodfellow 2015, "Efficient per-example gradient computations"
 * needs   matmul activation arena
 * see     @matmul (the product itself), @mlp, @lora (a low-rank change), @dp_sgd (per-sample norms)
 * topics  Fully connected layer
 */

/* y (N,O) <- x (N,C), w (O,C), b (O) or NULL. y may not be x. */
LLM_API void llm_dense_forward(float *y, const float *x, const float *w, const float *b, size_t N,
                               size_t C, size_t O) {
    llm_matmul_forward(y, x, w, b, N, C, O);
}

/* dx (N,C), dw (O,C), db (O) += <- dy (N,O) and forward's x, w. Any of the three may be NULL. */
LLM_API void llm_dense_backward(float *dx, float *dw, float *db, const float *dy, const float *x,
                                const float *w, size_t N, size_t C, size_t O) {
    llm_matmul_backward(dx, dw, db, dy, x, w, N, C, O);
}

/* y, z (N,O) <- x (N,C), w (O,C), b (O) or NULL: z = x w^T + b, y = phi(z). kind is an
 * LLM_ACTIVATION. Backward needs z; at inference y may be z. */
LLM_API void llm_dense_act_forward(float *y, float *z, const float *x, const float *w,
                                   const float *b, size_t N, size_t C, size_t O, int kind) {
    llm_dense_forward(z, x, w, b, N, C, O);
    llm_activation_forward(y, z, N * O, kind);
}

/* dx (N,C), dw (O,C), db (O) += <- dy (N,O) and forward's z, x, w. Any of the three may be NULL.
 * Scratch: N O floats, given back. */
LLM_API void llm_dense_act_backward(float *dx, float *dw, float *db, const float *dy,
                                    const float *z, const float *x, const float *w, size_t N,
                                    size_t C, size_t O, int kind, llm_arena *arena) {
    const size_t mark = arena->used;
    float *dz = llm_arena_floats(arena, N * O);
    for (size_t i = 0; i < N * O; i++) dz[i] = 0.0f;
    llm_activation_backward(dz, dy, z, N * O, kind);
    llm_dense_backward(dx, dw, db, dz, x, w, N, C, O);
    arena->used = mark;
}

/* y (N,O), h (N,R) <- x (N,C), v (R,C), u (O,R), b (O) or NULL: a layer whose w is u v, without
 * forming it. Backward needs h = x v^T. */
LLM_API void llm_dense_low_rank_forward(float *y, float *h, const float *x, const float *v,
                                        const float *u, const float *b, size_t N, size_t C,
                                        size_t O, size_t R) {
    llm_dense_forward(h, x, v, NULL, N, C, R);
    llm_dense_forward(y, h, u, b, N, R, O);
}

/* dx (N,C), dv (R,C), du (O,R), db (O) += <- dy (N,O) and forward's h, x, v, u. Any of the four may
 * be NULL. Scratch: N R floats, given back. */
LLM_API void llm_dense_low_rank_backward(float *dx, float *dv, float *du, float *db,
                                         const float *dy, const float *h, const float *x,
                                         const float *v, const float *u, size_t N, size_t C,
                                         size_t O, size_t R, llm_arena *arena) {
    const size_t mark = arena->used;
    float *dh = llm_arena_floats(arena, N * R);
    for (size_t i = 0; i < N * R; i++) dh[i] = 0.0f;
    llm_dense_backward(dh, du, db, dy, h, u, N, R, O);
    llm_dense_backward(dx, dv, NULL, dh, x, v, N, C, R);
    arena->used = mark;
}

/* norm_sq (N) <- dy (N,O), x (N,C): the squared norm of each row's own gradient of w and, with
 * bias, of b: |dy_n|^2 (|x_n|^2 + 1). */
LLM_API void llm_dense_sample_norms(float *norm_sq, const float *dy, const float *x, size_t N,
                                    size_t C, size_t O, bool bias) {
    LLM_PARALLEL_FOR
    for (size_t n = 0; n < N; n++) {
        float x_sq = bias ? 1.0f : 0.0f, dy_sq = 0.0f;
        LLM_SIMD_SUM(x_sq)
        for (size_t i = 0; i < C; i++) x_sq += x[n * C + i] * x[n * C + i];
        LLM_SIMD_SUM(dy_sq)
        for (size_t i = 0; i < O; i++) dy_sq += dy[n * O + i] * dy[n * O + i];
        norm_sq[n] = x_sq * dy_sq;
    }
}

/* @xavier_init ---------------------------------------------- Xavier initialization
 *
 *     Var(y) = fan_in Var(w) Var(x)            Var(dx) = fan_out Var(w) Var(dy)
 *     Var(w) = gain^2 2 / (fan_in + fan_out)
 *
 * A sum of fan_in independent products has fan_in times the variance of one. If every layer
 * multiplies the variance of its signals by 1.5, fifty of them multiply it by 10^9, so the weights
 * start at a size that keeps it: 1 / fan_in for the activations, 1 / fan_out for the gradients,
 * which travel the other way. Both at once is only possible where the two are equal; this is the
 * mean of what they ask for. Right for linear layers and for tanh near 0; ReLU halves the mean
 * square and needs a gain of sqrt(2).
 *
 * source  Glorot & Bengio 2010, "Understanding the difficulty of training deep feedforward neural
 *         networks", eq. 12 and 16
 * needs   arena rng dense
 * see     @he_init (for ReLU), @weight_init @vanishing_gradient
 * topics  Xavier/Glorot Initialization
 */

/* w (fan_out,fan_in) ~ N(0, gain^2 2 / (fan_in + fan_out)). */
LLM_API void llm_xavier_init_normal(float *w, size_t fan_in, size_t fan_out, float gain,
                                    llm_rng *rng) {
    const float std = gain * sqrtf(2.0f / (float)(fan_in + fan_out));
    llm_rng_normal_fill(rng, w, fan_in * fan_out);
    for (size_t i = 0; i < fan_in * fan_out; i++) w[i] *= std;
}

/* w (fan_out,fan_in) ~ U(-a, a), a = gain sqrt(6 / (fan_in + fan_out)): the variance a^2 / 3 is
 * that of the normal form. */
LLM_API void llm_xavier_init_uniform(float *w, size_t fan_in, size_t fan_out, float gain,
                                     llm_rng *rng) {
    const float a = gain * sqrtf(6.0f / (float)(fan_in + fan_out));
    for (size_t i = 0; i < fan_in * fan_out; i++) w[i] = a * (2.0f * llm_rng_uniform(rng) - 1.0f);
}

/* By what a linear layer with this initialization multiplies the mean square of its signals on the
 * way forward, and of the gradients on the way back. Their sum is 2 gain^2. */
LLM_API void llm_xavier_init_factors(float *forward, float *backward, size_t fan_in, size_t fan_out,
                                     float gain) {
    const float var = gain * gain * 2.0f / (float)(fan_in + fan_out);
    *forward = (float)fan_in * var;
    *backward = (float)fan_out * var;
}

/* The mean square of float x (n), in double. */
LLM_API double llm_xavier_init_mean_square(const float *x, size_t n) {
    double sum = 0.0;
    for (size_t i = 0; i < n; i++) sum += (double)x[i] * (double)x[i];
    return sum / (double)n;
}

/* forward, backward (L+1) <- x (N,width[0]), dy (N,width[L]), w: L matrices (width[l+1],width[l])
 * one behind the other, each followed by the activation kind. forward[l] is the mean square of what
 * enters layer l, backward[l] that of its gradient; [L] belong to the output. Scratch, given back:
 * N floats for each of 2 sum(width) + 3 max(width). */
LLM_API void llm_xavier_init_variance_track(double *forward, double *backward, const float *x,
                                            const float *dy, const float *w, const size_t *width,
                                            size_t L, size_t N, int kind, llm_arena *arena) {
    const size_t mark = arena->used;
    size_t total = 0, widest = 0, at = 0;
    for (size_t l = 0; l <= L; l++) {
        total += width[l];
        widest = width[l] > widest ? width[l] : widest;
    }
    float *h = llm_arena_floats(arena, N * total), *z = llm_arena_floats(arena, N * total);
    float *g = llm_arena_floats(arena, N * widest), *dx = llm_arena_floats(arena, N * widest);

    for (size_t i = 0; i < N * width[0]; i++) h[i] = x[i];
    forward[0] = llm_xavier_init_mean_square(x, N * width[0]);
    for (size_t l = 0; l < L; l++) {
        const size_t next = at + N * width[l];
        llm_dense_act_forward(h + next, z + next, h + at, w, NULL, N, width[l], width[l + 1], kind);
        forward[l + 1] = llm_xavier_init_mean_square(h + next, N * width[l + 1]);
        w += width[l] * width[l + 1];
        at = next;
    }

    for (size_t i = 0; i < N * width[L]; i++) g[i] = dy[i];
    backward[L] = llm_xavier_init_mean_square(dy, N * width[L]);
    for (size_t l = L; l-- > 0;) {
        w -= width[l] * width[l + 1];
        for (size_t i = 0; i < N * width[l]; i++) dx[i] = 0.0f;
        llm_dense_act_backward(dx, NULL, NULL, g, z + at, NULL, w, N, width[l], width[l + 1], kind,
                               arena); /* its input is only read for dw */
        backward[l] = llm_xavier_init_mean_square(dx, N * width[l]);
        float *swap = g;
        g = dx;
        dx = swap;
        at -= N * width[l];
    }
    arena->used = mark;
}

/* @residual ------------------------------------------------- Residual connection
 *
 *     y = x + alpha f(x)        dx = dy + (what f sends back)        df = alpha dy
 *
 * A layer that adds to its input instead of replacing it. The derivative of y in x is the identity
 * plus something, so a gradient reaches the first of a hundred layers however small the branches'
 * derivatives are: L blocks are a sum over 2^L paths, and the one through no branch is always open.
 * The sum grows, too: with branches as large as their input the variance doubles at each block, so
 * branches are scaled down: by 1/sqrt(2 L) at the start (GPT-2), by a learned alpha that starts at
 * 0 (ReZero), by one for each channel that starts small (LayerScale), or normalized before.
 *
 * source  He et al. 2016, "Identity mappings in deep residual networks"; Veit et al. 2016,
 *         "Residual networks behave like ensembles of relatively shallow networks"; Bachlechner et
 *         al. 2021, "ReZero is all you need"; Touvron et al. 2021, "Going deeper with image
 *         transformers" (LayerScale); Huang et al. 2016, "Deep networks with stochastic depth"
 * needs   base arena matmul
 * see     @prenorm @decoder_block @vanishing_gradient
 * topics  Residual Connection (Skip Connection)
 */

/* y (n) <- x, f (n): x + alpha f, f being the branch's output. y may be x or f. */
LLM_API void llm_residual_forward(float *y, const float *x, const float *f, size_t n, float alpha) {
    LLM_PARALLEL_FOR
    for (size_t i = 0; i < n; i++) y[i] = x[i] + alpha * f[i];
}

/* dx, df (n), *dalpha += <- dy (n) and forward's f, alpha. Any of the three may be NULL. dx may not
 * be df: the branch's own gradient is still to be added to dx. */
LLM_API void llm_residual_backward(float *dx, float *df, float *dalpha, const float *dy,
                                   const float *f, size_t n, float alpha) {
    double sum = 0.0;
    for (size_t i = 0; dx && i < n; i++) dx[i] += dy[i];
    for (size_t i = 0; df && i < n; i++) df[i] += alpha * dy[i];
    for (size_t i = 0; dalpha && i < n; i++) sum += (double)dy[i] * (double)f[i];
    if (dalpha) *dalpha += (float)sum;
}

/* y (N,C) <- x, f (N,C), scale (C): x + scale f, LayerScale. y may be x or f. */
LLM_API void llm_residual_scale_forward(float *y, const float *x, const float *f,
                                        const float *scale, size_t N, size_t C) {
    LLM_PARALLEL_FOR
    for (size_t n = 0; n < N; n++)
        for (size_t i = 0; i < C; i++) y[n * C + i] = x[n * C + i] + scale[i] * f[n * C + i];
}

/* dx, df (N,C), dscale (C) += <- dy (N,C) and forward's f, scale. Any of the three may be NULL. */
LLM_API void llm_residual_scale_backward(float *dx, float *df, float *dscale, const float *dy,
                                         const float *f, const float *scale, size_t N, size_t C) {
    for (size_t n = 0; n < N; n++) {
        const float *dyn = dy + n * C, *fn = f + n * C;
        for (size_t i = 0; dx && i < C; i++) dx[n * C + i] += dyn[i];
        for (size_t i = 0; df && i < C; i++) df[n * C + i] += scale[i] * dyn[i];
        for (size_t i = 0; dscale && i < C; i++) dscale[i] += dyn[i] * fn[i];
    }
}

/* y (N,C) <- x, f (N,C), keep (N): stochastic depth. A sample loses the whole branch with
 * probability p; where it is kept it counts 1 / (1 - p), so that the mean is x + f, which is what
 * inference uses. f is not read where it is dropped. y may be x or f. */
LLM_API void llm_residual_depth_forward(float *y, const float *x, const float *f, const bool *keep,
                                        size_t N, size_t C, float p) {
    LLM_ASSERT(p >= 0.0f && p <= 1.0f);
    LLM_PARALLEL_FOR
    for (size_t n = 0; n < N; n++)
        for (size_t i = n * C; i < (n + 1) * C; i++)
            y[i] = keep[n] ? x[i] + f[i] / (1.0f - p) : x[i];
}

/* dx, df (N,C) += <- dy (N,C) and forward's keep, p. Either may be NULL. */
LLM_API void llm_residual_depth_backward(float *dx, float *df, const float *dy, const bool *keep,
                                         size_t N, size_t C, float p) {
    for (size_t n = 0; n < N; n++)
        for (size_t i = n * C; i < (n + 1) * C; i++) {
            if (dx) dx[i] += dy[i];
            if (df && keep[n]) df[i] += dy[i] / (1.0f - p);
        }
}

/* y (C) <- x (C), A (L,C,C): the L blocks x + A_l x, evaluated path by path. A path takes a branch
 * or goes around it at each block; bit l of its number says which. For linear branches the sum over
 * all 2^L paths is the network, prod (I + A_l) x. length (L+1) is the mass |.| of the paths through
 * so many branches, NULL skips it. Scratch: 2 C floats, given back. */
LLM_API void llm_residual_unravel(float *y, float *length, const float *x, const float *A, size_t L,
                                  size_t C, llm_arena *arena) {
    LLM_ASSERT(L < 32);
    const size_t mark = arena->used;
    float *h = llm_arena_floats(arena, C), *next = llm_arena_floats(arena, C);
    for (size_t i = 0; i < C; i++) y[i] = 0.0f;
    for (size_t l = 0; length && l <= L; l++) length[l] = 0.0f;
    for (size_t path = 0; path < (size_t)1 << L; path++) {
        size_t branches = 0;
        for (size_t i = 0; i < C; i++) h[i] = x[i];
        for (size_t l = 0; l < L; l++) {
            if (!(path >> l & 1)) continue;
            llm_matmul_forward(next, h, A + l * C * C, NULL, 1, C, C);
            float *swap = h;
            h = next;
            next = swap;
            branches++;
        }
        float square = 0.0f;
        for (size_t i = 0; i < C; i++) {
            y[i] += h[i];
            square += h[i] * h[i];
        }
        if (length) length[branches] += sqrtf(square);
    }
    arena->used = mark;
}

/* @dropout -------------------------------------------------- Dropout
 *
 *     y_i = x_i / (1 - p) with probability 1 - p, else 0
 *
 * In training each number is removed at random and the others are scaled up, so that the mean stays
 * and inference does nothing at all. No unit can rely on another one being there; for a linear
 * model it is exactly a penalty on w_j^2 times the size of input j. The mask is not stored: number
 * offset + i of the stream seed decides about element i, and backward draws it again. So the mask
 * does not depend on how an array is cut into calls, and a kernel draws the same. A seed whose
 * llm_rng is in use elsewhere would give the same words: take another one.
 *
 * source  Srivastava et al. 2014, "Dropout: a simple way to prevent neural networks from
 *         overfitting", section 9.1; Klambauer et al. 2017, "Self-normalizing neural networks"
 *         (alpha dropout); Gal & Ghahramani 2016 (one mask for all steps of time)
 * needs   base rng
 * see     @residual (stochastic depth), @attn_weights
 * topics  Dropout
 */

/* scale (4): the factors of elements 4 block .. 4 block + 3 of the stream, 0 or 1 / (1 - p). */
LLM_API void llm_dropout_block(float scale[4], float p, uint64_t seed, uint64_t block) {
    const uint32_t counter[4] = {(uint32_t)block, (uint32_t)(block >> 32), 0, 0};
    const uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    uint32_t word[4];
    llm_rng_philox(word, counter, key);
    for (size_t k = 0; k < 4; k++) {
        const float u = (float)(word[k] >> 8) * (1.0f / 16777216.0f); /* as llm_rng_uniform */
        scale[k] = u < p ? 0.0f : 1.0f / (1.0f - p);
    }
}

/* The factor of one element. */
LLM_API float llm_dropout_scale(float p, uint64_t seed, uint64_t index) {
    float scale[4];
    llm_dropout_block(scale, p, seed, index / 4);
    return scale[index % 4];
}

/* How many blocks the elements offset .. offset + n - 1 touch. */
LLM_API size_t llm_dropout_blocks(size_t n, uint64_t offset) {
    return n ? (size_t)((offset + n - 1) / 4 - offset / 4 + 1) : 0;
}

/* y (n) <- x (n): element i is number offset + i of the stream seed. x is not read where it is
 * dropped. p = 0 copies, p = 1 gives zeros. y may be x. */
LLM_API void llm_dropout_forward(float *y, const float *x, size_t n, float p, uint64_t seed,
                                 uint64_t offset) {
    LLM_ASSERT(p >= 0.0f && p <= 1.0f);
    const size_t blocks = llm_dropout_blocks(n, offset);
    LLM_PARALLEL_FOR
    for (size_t block = 0; block < blocks; block++) {
        const uint64_t first = offset / 4 + block;
        float scale[4];
        llm_dropout_block(scale, p, seed, first);
        for (size_t k = 0; k < 4; k++) {
            const uint64_t i =
                4 * first + k - offset; /* in front of offset it wraps: not below n */
            if (i < n) y[i] = scale[k] == 0.0f ? 0.0f : scale[k] * x[i];
        }
    }
}

/* dx (n) += <- dy (n), with forward's p, seed and offset. dy is not read where x was dropped. */
LLM_API void llm_dropout_backward(float *dx, const float *dy, size_t n, float p, uint64_t seed,
                                  uint64_t offset) {
    LLM_ASSERT(p >= 0.0f && p <= 1.0f);
    const size_t blocks = llm_dropout_blocks(n, offset);
    LLM_PARALLEL_FOR
    for (size_t block = 0; block < blocks; block++) {
        const uint64_t first = offset / 4 + block;
        float scale[4];
        llm_dropout_block(scale, p, seed, first);
        for (size_t k = 0; k < 4; k++) {
            const uint64_t i = 4 * first + k - offset;
            if (i < n && scale[k] != 0.0f) dx[i] += scale[k] * dy[i];
        }
    }
}

/* y (A,T,C) <- x (A,T,C): one decision for all t, number offset + a C + c. Whole channels of images
 * are A = N channels, T pixels, C = 1; one mask for all T steps of time is A = B. y may be x. */
LLM_API void llm_dropout_shared_forward(float *y, const float *x, size_t A, size_t T, size_t C,
                                        float p, uint64_t seed, uint64_t offset) {
    LLM_ASSERT(p >= 0.0f && p <= 1.0f);
    LLM_PARALLEL_FOR
    for (size_t k = 0; k < A * C; k++) {
        const float scale = llm_dropout_scale(p, seed, offset + k);
        for (size_t t = 0; t < T; t++) {
            const size_t i = (k / C * T + t) * C + k % C;
            y[i] = scale == 0.0f ? 0.0f : scale * x[i];
        }
    }
}

/* dx (A,T,C) += <- dy (A,T,C), with forward's p, seed and offset. */
LLM_API void llm_dropout_shared_backward(float *dx, const float *dy, size_t A, size_t T, size_t C,
                                         float p, uint64_t seed, uint64_t offset) {
    LLM_PARALLEL_FOR
    for (size_t k = 0; k < A * C; k++) {
        const float scale = llm_dropout_scale(p, seed, offset + k);
        for (size_t t = 0; t < T; t++) {
            const size_t i = (k / C * T + t) * C + k % C;
            if (scale != 0.0f) dx[i] += scale * dy[i];
        }
    }
}

/* y (n) <- x (n): alpha dropout, for SELU. A dropped element becomes the value that SELU has at
 * minus infinity; a and b then restore mean 0 and variance 1. p < 1. y may be x. */
LLM_API void llm_dropout_alpha_forward(float *y, const float *x, size_t n, float p, uint64_t seed,
                                       uint64_t offset) {
    LLM_ASSERT(p >= 0.0f && p < 1.0f);
    const float low = -1.7580993f, a = 1.0f / sqrtf((1.0f - p) * (1.0f + p * low * low));
    LLM_PARALLEL_FOR
    for (size_t i = 0; i < n; i++) {
        const bool kept = llm_dropout_scale(p, seed, offset + i) != 0.0f;
        y[i] = a * ((kept ? x[i] : low) - p * low);
    }
}

/* dx (n) += <- dy (n), with forward's p, seed and offset: a dy where x was kept. */
LLM_API void llm_dropout_alpha_backward(float *dx, const float *dy, size_t n, float p,
                                        uint64_t seed, uint64_t offset) {
    const float low = -1.7580993f, a = 1.0f / sqrtf((1.0f - p) * (1.0f + p * low * low));
    LLM_PARALLEL_FOR
    for (size_t i = 0; i < n; i++)
        if (llm_dropout_scale(p, seed, offset + i) != 0.0f) dx[i] += a * dy[i];
}

/* p / (1 - p) sum_j w_j^2 sum_i x_ij^2 <- w (C), x (N,C): what dropout of the inputs adds, on
 * average, to the squared error of the linear model w, summed over the rows. */
LLM_API double llm_dropout_ridge(const float *w, const float *x, size_t N, size_t C, float p) {
    double sum = 0.0;
    for (size_t i = 0; i < N * C; i++) {
        const double part = (double)w[i % C] * (double)x[i];
        sum += part * part;
    }
    return (double)p / (1.0 - (double)p) * sum;
}

/* @layernorm ------------------------------------------------ Layer normalization
 *
 *     y_i = w_i xhat_i + b_i        xhat = (x - m) r        m = mean(x), r = 1 / sqrt(var(x) + eps)
 *
 * Each row gets mean 0 and variance 1, whatever the layers before it did, and then a learned scale
 * and shift for each channel. Unlike batch normalization it looks at no other row, so training and
 * inference are the same, and a batch of one is fine. The variance divides by C, not C - 1; a
 * constant row has variance 0 and gives b. E[x^2] - m^2 would be one pass less, and all wrong when
 * the mean is large: squares of 1e4 have no digits left for a variance of 1.
 *
 * source  Ba, Kiros & Hinton 2016, "Layer normalization"; Wu & He 2018, "Group normalization";
 *         Chan, Golub & LeVeque 1983, "Algorithms for computing the sample variance"
 * needs   base arena
 * see     @rmsnorm (leaves out the mean) @batchnorm @prenorm
 * topics  Layer Normalization
 */

/* y (C), *mean, *rstd <- x (C), w, b (C) or NULL for 1 and 0. y may be x. The mean is corrected by
 * the mean of what is left after subtracting it: the float sum of a row of 1e4 is off by units. */
LLM_API void llm_layernorm_row(float *y, float *mean, float *rstd, const float *x, const float *w,
                               const float *b, size_t C, float eps) {
    float sum = 0.0f, rest = 0.0f, square = 0.0f;
    LLM_SIMD_SUM(sum)
    for (size_t i = 0; i < C; i++) sum += x[i];
    const float about = sum / (float)C;
    LLM_SIMD_SUM(rest)
    for (size_t i = 0; i < C; i++) rest += x[i] - about;
    const float m = about + rest / (float)C;
    LLM_SIMD_SUM(square)
    for (size_t i = 0; i < C; i++) square += (x[i] - m) * (x[i] - m);
    const float r = 1.0f / sqrtf(square / (float)C + eps);

    for (size_t i = 0; i < C; i++) y[i] = (x[i] - m) * r * (w ? w[i] : 1.0f) + (b ? b[i] : 0.0f);
    *mean = m;
    *rstd = r;
}

/* y (N,C), mean, rstd (N) <- x (N,C), w, b (C) or NULL for 1 and 0. Backward needs mean and rstd,
 * and computes the rest again; NULL at inference. y may be x. */
LLM_API void llm_layernorm_forward(float *y, float *mean, float *rstd, const float *x,
                                   const float *w, const float *b, size_t N, size_t C, float eps) {
    LLM_PARALLEL_FOR
    for (size_t n = 0; n < N; n++) {
        float m, r;
        llm_layernorm_row(y + n * C, &m, &r, x + n * C, w, b, C, eps);
        if (mean) mean[n] = m;
        if (rstd) rstd[n] = r;
    }
}

/* sum, y (N,C), mean, rstd (N) <- x, f (N,C), w, b (C) or NULL: sum = x + f, the residual stream
 * after a branch, and its normalization for the next one, while the row is in cache. sum may be x
 * or f, y any of them but not sum. */
LLM_API void llm_layernorm_residual_forward(float *y, float *sum, float *mean, float *rstd,
                                            const float *x, const float *f, const float *w,
                                            const float *b, size_t N, size_t C, float eps) {
    LLM_PARALLEL_FOR
    for (size_t n = 0; n < N; n++) {
        float m, r, *s = sum + n * C;
        for (size_t i = 0; i < C; i++) s[i] = x[n * C + i] + f[n * C + i];
        llm_layernorm_row(y + n * C, &m, &r, s, w, b, C, eps);
        if (mean) mean[n] = m;
        if (rstd) rstd[n] = r;
    }
}

/* dx (N,C), dw, db (C) += <- dy (N,C) and forward's x, w, mean, rstd. Any of the three may be NULL.
 *
 * With g = w dy, the gradient of xhat: x_i moves xhat_i by r, all of them through m by -r / C, and
 * through r by -xhat_i xhat_j r / C. So g loses its mean and its part along xhat:
 *     dx_i = r (g_i - mean(g) - xhat_i mean(g xhat)) */
LLM_API void llm_layernorm_backward(float *dx, float *dw, float *db, const float *dy,
                                    const float *x, const float *w, const float *mean,
                                    const float *rstd, size_t N, size_t C) {
    const size_t rows = dx ? N : 0;
    LLM_PARALLEL_FOR
    for (size_t n = 0; n < rows; n++) {
        const float *xn = x + n * C, *dyn = dy + n * C, m = mean[n], r = rstd[n];
        float *dxn = dx + n * C, flat = 0.0f, along = 0.0f;
        LLM_SIMD_SUM(flat)
        for (size_t i = 0; i < C; i++) flat += dyn[i] * (w ? w[i] : 1.0f);
        LLM_SIMD_SUM(along)
        for (size_t i = 0; i < C; i++) along += dyn[i] * (w ? w[i] : 1.0f) * (xn[i] - m);
        flat /= (float)C;
        along *= r / (float)C;
        for (size_t i = 0; i < C; i++)
            dxn[i] += r * (dyn[i] * (w ? w[i] : 1.0f) - flat - (xn[i] - m) * r * along);
    }

    /* Sums over the rows. Each thread has its own columns, so their number changes nothing. */
    LLM_PARALLEL_FOR
    for (size_t start = 0; start < C; start += 64) {
        const size_t end = C - start < 64 ? C : start + 64;
        for (size_t n = 0; n < N; n++) {
            const float *xn = x + n * C, *dyn = dy + n * C, m = mean[n], r = rstd[n];
            for (size_t i = start; dw && i < end; i++) dw[i] += dyn[i] * ((xn[i] - m) * r);
            for (size_t i = start; db && i < end; i++) db[i] += dyn[i];
        }
    }
}

/* y (N,C,S), mean, rstd (N,G) <- x (N,C,S), w, b (C): group normalization, for images of S pixels.
 * Mean and variance are those of C / G neighbouring channels with all their pixels; G = 1 is layer
 * normalization of the image, G = C instance normalization. y may be x. */
LLM_API void llm_layernorm_group_forward(float *y, float *mean, float *rstd, const float *x,
                                         const float *w, const float *b, size_t N, size_t G,
                                         size_t C, size_t S, float eps) {
    LLM_ASSERT(G > 0 && C % G == 0);
    llm_layernorm_forward(y, mean, rstd, x, NULL, NULL, N * G, C / G * S, eps);
    LLM_PARALLEL_FOR
    for (size_t k = 0; k < N * C; k++)
        for (size_t s = 0; s < S; s++) y[k * S + s] = y[k * S + s] * w[k % C] + b[k % C];
}

/* dx (N,C,S), dw, db (C) += <- dy (N,C,S) and forward's x, w, mean, rstd. Any of the three may be
 * NULL. Scratch: N C S floats, given back. */
LLM_API void llm_layernorm_group_backward(float *dx, float *dw, float *db, const float *dy,
                                          const float *x, const float *w, const float *mean,
                                          const float *rstd, size_t N, size_t G, size_t C, size_t S,
                                          llm_arena *arena) {
    const size_t mark = arena->used;
    float *g = llm_arena_floats(arena, N * C * S);
    for (size_t k = 0; k < N * C; k++) {
        const size_t c = k % C, row = k / C * G + c / (C / G);
        float along = 0.0f, flat = 0.0f;
        for (size_t i = k * S; i < (k + 1) * S; i++) {
            g[i] = w[c] * dy[i];
            along += dy[i] * ((x[i] - mean[row]) * rstd[row]);
            flat += dy[i];
        }
        if (dw) dw[c] += along;
        if (db) db[c] += flat;
    }
    llm_layernorm_backward(dx, NULL, NULL, g, x, NULL, mean, rstd, N * G, C / G * S);
    arena->used = mark;
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

/* @adamw ---------------------------------------------------- AdamW
 *
 *     w <- w (1 - lr wd)
 *     m <- b1 m + (1 - b1) g         v <- b2 v + (1 - b2) g^2
 *     w <- w - lr m' / (sqrt(v') + eps)         m' = m / (1 - b1^t), v' = v / (1 - b2^t)
 *
 * Adam divides each parameter's step by the size its gradients usually have, so every parameter
 * moves at about lr, whatever its scale. With L2 regularisation in the gradient that division would
 * also divide the decay away: parameters with large gradients would hardly decay. Decoupled, the
 * decay is the same for all. Biases, gains and often embeddings do not decay: keep what decays as a
 * prefix of the flat vector and call twice. The averages start at 0, and 1 - b^t undoes the bias of
 * that; the first step has length lr in every coordinate, for any betas.
 *
 * source  Loshchilov & Hutter 2019, "Decoupled Weight Decay Regularization", algorithm 2; Kingma &
 *         Ba 2015, "Adam", algorithm 1; Defazio et al. 2024, "The Road Less Scheduled", algorithm 1
 * needs   rng
 * see     @grad_clip @lr_schedule @warmup
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

/* w, m, v (n) in place <- g (n), step t = 1, 2, ..; m and v start at 0. eps stands behind the bias
 * correction, as in torch. Memory: 4 arrays read, 3 written: that is its speed. The square root
 * becomes a vector under -fno-math-errno. */
LLM_API void llm_adamw_step(float *w, float *m, float *v, const float *g, size_t n,
                            const llm_adamw_config *c, size_t t) {
    LLM_ASSERT(t > 0);
    const double correct1 = 1.0 - pow((double)c->beta1, (double)t);
    const double correct2 = 1.0 - pow((double)c->beta2, (double)t);
    const float step = (float)((double)c->lr / correct1), scale = (float)(1.0 / sqrt(correct2));
    const float b1 = c->beta1, b2 = c->beta2, eps = c->eps;
    const float keep = (float)(1.0 - (double)c->lr * (double)c->weight_decay);
    LLM_PARALLEL_FOR
    for (size_t i = 0; i < n; i++) {
        m[i] = b1 * m[i] + (1.0f - b1) * g[i];
        v[i] = b2 * v[i] + (1.0f - b2) * g[i] * g[i];
        w[i] = keep * w[i] - step * m[i] / (sqrtf(v[i]) * scale + eps);
    }
}

/* x rounded to a float with the lower 16 bits zero (a bf16), up or down by chance, so that the mean
 * is x: random are 16 fresh bits. At lr 1e-5 nearly every update of a bf16 weight is below half its
 * last place: rounding to nearest drops all of them, this keeps each with its probability. */
LLM_API float llm_adamw_round(float x, uint32_t random) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    if ((bits & 0x7f800000u) != 0x7f800000u) bits += random & 0xffffu; /* not infinity, not NaN */
    bits &= 0xffff0000u;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* The step for weights that hold bf16 values: in float, then each rounded by chance. Element i
 * draws from the Philox block i / 8 of (seed, t), 16 bits each, so kernels draw the same. */
LLM_API void llm_adamw_step_bf16(float *w, float *m, float *v, const float *g, size_t n,
                                 const llm_adamw_config *c, size_t t, uint64_t seed) {
    llm_adamw_step(w, m, v, g, n, c, t);
    const uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    LLM_PARALLEL_FOR
    for (size_t block = 0; block < (n + 7) / 8; block++) {
        const uint64_t b = block, step = t;
        const uint32_t counter[4] = {(uint32_t)b, (uint32_t)(b >> 32), (uint32_t)step,
                                     (uint32_t)(step >> 32)};
        uint32_t word[4];
        llm_rng_philox(word, counter, key);
        for (size_t i = 8 * block; i < n && i < 8 * block + 8; i++)
            w[i] = llm_adamw_round(w[i], word[i % 8 / 2] >> i % 2 * 16);
    }
}

/* Schedule-free AdamW: no schedule to plan, good at every step. Gradients g are taken at y, the
 * fast iterate z does Adam's step (without m: the interpolation replaces momentum), x averages z:
 *
 *     z <- z - lr_t (g / (sqrt(v') + eps) + wd y)
 *     x <- (1 - c) x + c z,  c = lr_t^2 / sum of lr^2          y <- (1 - b1) z + b1 x
 *
 * y, z, v (n) in place; all start equal to the weights, v at 0. lr_t rises over warmup steps. x is
 * not stored: evaluate at (y - (1 - b1) z) / b1. *sum is the sum of squared rates, from 0. */
LLM_API void llm_adamw_schedule_free(float *y, float *z, float *v, const float *g, size_t n,
                                     const llm_adamw_config *config, size_t warmup, size_t t,
                                     double *sum) {
    LLM_ASSERT(t > 0 && config->beta1 > 0.0f);
    const float b1 = config->beta1, b2 = config->beta2, eps = config->eps;
    const double ramp = t < warmup ? (double)t / (double)warmup : 1.0;
    const float scale = (float)(1.0 / sqrt(1.0 - pow((double)b2, (double)t)));
    const float lr = (float)((double)config->lr * ramp), decay = config->weight_decay;
    *sum += (double)lr * (double)lr;
    const float c = (float)((double)lr * (double)lr / *sum);
    LLM_PARALLEL_FOR
    for (size_t i = 0; i < n; i++) {
        const float x = (y[i] - (1.0f - b1) * z[i]) / b1;
        v[i] = b2 * v[i] + (1.0f - b2) * g[i] * g[i];
        z[i] -= lr * (g[i] / (sqrtf(v[i]) * scale + eps) + decay * y[i]);
        y[i] = (1.0f - b1) * z[i] + b1 * ((1.0f - c) * x + c * z[i]);
    }
}

/* @lr_schedule ---------------------------------------------- Learning-rate schedules
 *
 *     lr(t) = base * factor(t)            t = 0, 1, .. steps done so far
 *
 * The rate that learns fastest in the beginning is too noisy for the end: around a minimum SGD
 * hovers at a distance that shrinks with the rate. A schedule is a pure function of t, so a resumed
 * run needs nothing but t (torch's recursive forms give the same up to rounding), and only the last
 * one here, which listens to the loss, has a state. Past the planned end a rate stays where it is.
 *
 * source  torch.optim.lr_scheduler; Vaswani et al. 2017, eq. 3 (Noam); Smith & Topin 2018,
 *         "Super-Convergence" (one cycle); Hu et al. 2024, "MiniCPM" (warmup-stable-decay), with
 *         the 1 - sqrt cooldown of Haegele et al. 2024, section 3
 * needs   -
 * see     @warmup @cosine_lr
 * topics  Learning Rate Schedule
 */

/* Falls by gamma every `size` steps. */
LLM_API double llm_lr_schedule_step(double base, double gamma, size_t size, size_t t) {
    LLM_ASSERT(size > 0);
    return base * pow(gamma, (double)(t / size));
}

/* Falls by gamma at each of the milestones (count), in any order. */
LLM_API double llm_lr_schedule_multistep(double base, double gamma, const size_t *milestone,
                                         size_t count, size_t t) {
    size_t passed = 0;
    for (size_t i = 0; i < count; i++) passed += milestone[i] <= t;
    return base * pow(gamma, (double)passed);
}

/* Falls by gamma at every step. */
LLM_API double llm_lr_schedule_exponential(double base, double gamma, size_t t) {
    return base * pow(gamma, (double)t);
}

/* From base to end over total steps as (1 - t/total)^power; power 1 and end 0: linear to zero. */
LLM_API double llm_lr_schedule_polynomial(double base, double end, double power, size_t total,
                                          size_t t) {
    if (t >= total) return end;
    return end + (base - end) * pow(1.0 - (double)t / (double)total, power);
}

/* Noam: rises linearly over warmup steps, then falls as 1/sqrt(t); width is the model's. t counts
 * from 1, t = 0 gives 0. */
LLM_API double llm_lr_schedule_noam(double base, size_t width, size_t warmup, size_t t) {
    LLM_ASSERT(warmup > 0);
    if (t == 0) return 0.0;
    const double rise = (double)t * pow((double)warmup, -1.5), fall = 1.0 / sqrt((double)t);
    return base / sqrt((double)width) * (rise < fall ? rise : fall);
}

/* Half a cosine from a to b, s from 0 to 1. */
LLM_API double llm_lr_schedule_cosine(double a, double b, double s) {
    return b + 0.5 * (a - b) * (1.0 + cos(3.14159265358979323846 * s));
}

/* One cycle, as torch's OneCycleLR with cosines: from max / divide up to max over the share `up` of
 * total steps, then down to max / divide / divide_end at the last, t = total - 1. */
LLM_API double llm_lr_schedule_one_cycle(double max, size_t total, double up, double divide,
                                         double divide_end, size_t t) {
    const double first = max / divide, end = first / divide_end, last = (double)total - 1.0;
    const double top = up * (double)total - 1.0, now = (double)t < last ? (double)t : last;
    if (now <= top) return llm_lr_schedule_cosine(first, max, now / top);
    return llm_lr_schedule_cosine(max, end, (now - top) / (last - top));
}

/* Triangles from base up to max in `up` steps and down again in `down` (CyclicLR). */
LLM_API double llm_lr_schedule_cyclic(double base, double max, size_t up, size_t down, size_t t) {
    LLM_ASSERT(up > 0 && down > 0);
    const size_t at = t % (up + down);
    const double height =
        at <= up ? (double)at / (double)up : (double)(up + down - at) / (double)down;
    return base + (max - base) * height;
}

/* Warmup, stable, decay: rises to base over warmup steps, stays, and falls to 0 over the last
 * `decay` of total as 1 - sqrt. A run can be prolonged from any checkpoint of the flat part. */
LLM_API double llm_lr_schedule_wsd(double base, size_t warmup, size_t total, size_t decay,
                                   size_t t) {
    LLM_ASSERT(warmup + decay <= total);
    if (t < warmup) return base * (double)t / (double)warmup;
    if (t >= total) return 0.0;
    const size_t start = total - decay;
    return t < start ? base : base * (1.0 - sqrt((double)(t - start) / (double)decay));
}

/* Sequential joins: schedule k of count + 1 runs from boundary[k - 1] on, and counts from 0 again.
 * Returns k for step t; *local gets that schedule's own t. boundary (count) ascends. */
LLM_API size_t llm_lr_schedule_part(size_t *local, const size_t *boundary, size_t count, size_t t) {
    size_t k = 0;
    while (k < count && t >= boundary[k]) k++;
    *local = k > 0 ? t - boundary[k - 1] : t;
    return k;
}

/* ReduceLROnPlateau with torch's relative threshold. Set lr, factor, least, threshold, patience and
 * cooldown; best starts at INFINITY, bad and resting at 0. */
typedef struct {
    double lr, factor, least, threshold, best;
    size_t patience, cooldown, bad, resting;
} llm_lr_schedule_plateau;

/* Takes a loss, returns the rate from now on: cut by factor when more than `patience` losses in a
 * row were no better than best (1 - threshold); then `cooldown` losses do not count. */
LLM_API double llm_lr_schedule_plateau_next(llm_lr_schedule_plateau *p, double loss) {
    if (loss < p->best * (1.0 - p->threshold)) {
        p->best = loss;
        p->bad = 0;
    } else {
        p->bad++;
    }
    if (p->resting > 0) {
        p->resting--;
        p->bad = 0;
    }
    if (p->bad > p->patience) {
        const double next = p->lr * p->factor > p->least ? p->lr * p->factor : p->least;
        if (p->lr - next > 1e-8) p->lr = next; /* torch's eps: smaller cuts are not made */
        p->resting = p->cooldown;
        p->bad = 0;
    }
    return p->lr;
}

/* @warmup --------------------------------------------------- Warmup
 *
 *     lr(t) = peak * factor(t)            factor rises from `start` to 1 over W steps
 *
 * In its first steps Adam knows nothing: v is one squared gradient, every coordinate moves by lr,
 * noise as fast as signal, and the curvature of a fresh network is at its worst. Later, noise moves
 * a coordinate by lr sqrt((1 - b1) / (1 + b1)), a quarter of it. Ramps pay for that ignorance with
 * small steps. Two conventions are off by one: transformers and optax start at 0 (the first step
 * does nothing), trainers that pass t + 1 start at 1/W.
 *
 * source  Ma & Yarats 2021, "On the adequacy of untuned warmup for adaptive optimization", eq. 5;
 *         Liu et al. 2020, "On the Variance of the Adaptive Learning Rate and Beyond", algorithm 2
 * needs   -
 * see     @adamw @lr_schedule @cosine_lr
 * topics  Warmup
 */

enum { LLM_WARMUP_LINEAR, LLM_WARMUP_COSINE, LLM_WARMUP_EXPONENTIAL };

/* The factor at step t = 0, 1, ..; 1 from t = W on, and for W = 0. start is the factor at t = 0;
 * exponential ramps need start > 0. */
LLM_API double llm_warmup_factor(int kind, size_t t, size_t W, double start) {
    LLM_ASSERT(start >= 0.0 && start <= 1.0 && (kind != LLM_WARMUP_EXPONENTIAL || start > 0.0));
    if (t >= W) return 1.0;
    const double s = (double)t / (double)W;
    switch (kind) {
    case LLM_WARMUP_COSINE:
        return start + (1.0 - start) * 0.5 * (1.0 - cos(3.14159265358979323846 * s));
    case LLM_WARMUP_EXPONENTIAL:
        return pow(start, 1.0 - s);
    default:
        return start + (1.0 - start) * s;
    }
}

/* The untuned rule for Adam: as many steps as v remembers, twice. 2000 for beta2 = 0.999. */
LLM_API size_t llm_warmup_adam_steps(double beta2) {
    LLM_ASSERT(beta2 >= 0.0 && beta2 < 1.0);
    return (size_t)(2.0 / (1.0 - beta2) + 0.5);
}

/* RAdam's factor for Adam's step t = 1, 2, ..: from the variance that 1/sqrt(v') has when v'
 * averages few squares. 0 while that variance is infinite (RAdam then steps along m' alone,
 * undivided). */
LLM_API double llm_warmup_radam(double beta2, size_t t) {
    LLM_ASSERT(t > 0 && beta2 > 0.6 && beta2 < 1.0);
    const double power = pow(beta2, (double)t), full = 2.0 / (1.0 - beta2) - 1.0;
    const double length =
        full - 2.0 * (double)t * power / (1.0 - power); /* of the average so far */
    if (length <= 5.0) return 0.0;
    return sqrt((length - 4.0) * (length - 2.0) * full / ((full - 4.0) * (full - 2.0) * length));
}

/* @cosine_lr ------------------------------------------------ Cosine annealing
 *
 *     lr(t) = min + (max - min) (1 + cos(pi t / T)) / 2
 *
 * Slow at both ends, fast in the middle: the rate stays high while there is much to learn and comes
 * to rest softly. The usual choice for language models, after a linear warmup and down to a tenth
 * of the peak. It has to know T: a run stopped at 80% of its plan was never annealed, and ends
 * worse than one planned for that length; this is what Chinchilla's scaling laws corrected.
 * Restarts repeat the cosine, each time T_mult as long.
 *
 * source  Loshchilov & Hutter 2017, "SGDR: Stochastic Gradient Descent with Warm Restarts", eq. 5;
 *         Hoffmann et al. 2022, "Training Compute-Optimal Large Language Models", appendix B
 * needs   -
 * see     @lr_schedule @warmup
 * topics  Cosine Annealing
 */

/* The rate of step t = 0, 1, ..: rises over warmup steps (max_lr / warmup at t = 0, max_lr at t =
 * warmup - 1), then falls along half a cosine to min_lr at t = total, and stays there. */
LLM_API float llm_cosine_lr(size_t t, size_t warmup, size_t total, float max_lr, float min_lr) {
    if (t < warmup) return max_lr * (float)(t + 1) / (float)warmup;
    if (t >= total) return min_lr;
    const double s = (double)(t - warmup) / (double)(total - warmup);
    const double wave = 0.5 * (1.0 + cos(3.14159265358979323846 * s));
    return (float)((double)min_lr + ((double)max_lr - (double)min_lr) * wave);
}

/* Warm restarts: cycles of first, first * mult, first * mult^2, .. steps, each a whole half cosine.
 * *cycle gets the number of the cycle that t lies in, *at the step within it; both may be NULL. */
LLM_API float llm_cosine_lr_restarts(size_t *cycle, size_t *at, size_t t, size_t first, size_t mult,
                                     float max_lr, float min_lr) {
    LLM_ASSERT(first > 0 && mult > 0);
    size_t length = first, number = 0;
    while (t >= length) {
        t -= length;
        length *= mult;
        number++;
    }
    if (cycle) *cycle = number;
    if (at) *at = t;
    return llm_cosine_lr(t, 0, length, max_lr, min_lr);
}

/* Sum of the rates of steps 0 .. T - 1 without warmup: what schedules of equal budget share. The
 * cosines over half a turn cancel but for the first. */
LLM_API double llm_cosine_lr_area(size_t T, double max_lr, double min_lr) {
    return T > 0 ? 0.5 * (double)T * (max_lr + min_lr) + 0.5 * (max_lr - min_lr) : 0.0;
}

/* @grad_clip ------------------------------------------------ Gradient clipping
 *
 *     g <- g min(1, max / (|g|_p + 1e-6))               by norm: one factor for all tensors
 *     g_i <- min(max(g_i, -limit), limit)               by value: each entry apart
 *
 * One bad batch, or one step off the edge of a cliff in the loss, can undo a day of training.
 * Scaling the whole gradient bounds the step and keeps its direction; cutting entries one by one
 * turns it. The norm has to be taken over all tensors together, before the optimizer and after the
 * last micro-batch. It is returned as it was before: the most telling curve of a run. Clipping is
 * biased: where noise has a heavy tail it throws away what it cannot believe, and that is the
 * point.
 *
 * source  Pascanu, Mikolov & Bengio 2013, "On the difficulty of training recurrent neural
 *         networks", algorithm 1; Seetharaman et al. 2020, "AutoClip"; Kumar et al. 2025, "ZClip",
 *         eq. 4 to 7
 * needs   argsort
 * see     @grad_accum @adamw
 * topics  Gradient Clipping
 */

/* sum |g_i|^p of g (n), p >= 1; the largest |g_i| when p is INFINITY. Parts of a gradient, on this
 * machine or on others, are added (or their maximum taken) before llm_grad_clip_root. In double:
 * the square of 1e25 fits. 64 slices, whatever the number of threads. */
LLM_API double llm_grad_clip_power(const float *g, size_t n, float p) {
    double part[64], sum = 0.0;
    const size_t slice = n / 64 + 1;
    LLM_PARALLEL_FOR
    for (size_t s = 0; s < 64; s++) {
        const size_t end = (s + 1) * slice < n ? (s + 1) * slice : n;
        double total = 0.0;
        if (p == 2.0f) {
            LLM_SIMD_SUM(total)
            for (size_t i = s * slice; i < end; i++) total += (double)g[i] * (double)g[i];
        } else {
            for (size_t i = s * slice; i < end; i++) {
                const double size = fabs((double)g[i]);
                if (p < INFINITY) total += p == 1.0f ? size : pow(size, (double)p);
                if (p == INFINITY && !(size <= total) && total == total) total = size; /* NaN */
            }
        }
        part[s] = total;
    }
    for (size_t s = 0; s < 64; s++) {
        if (p < INFINITY) sum += part[s];
        if (p == INFINITY && !(part[s] <= sum) && sum == sum) sum = part[s];
    }
    return sum;
}

/* The p-norm from its power. */
LLM_API double llm_grad_clip_root(double power, float p) {
    return p == 2.0f ? sqrt(power) : p < INFINITY ? pow(power, 1.0 / (double)p) : power;
}

/* g (n) in place: scaled to length max where norm says that it is longer. A norm that is not finite
 * changes nothing: the caller sees it and skips the step. */
LLM_API void llm_grad_clip_scale(float *g, size_t n, double norm, float max) {
    const float factor = (float)((double)max / (norm + 1e-6));
    if (!(factor < 1.0f) || !(norm < (double)INFINITY)) return;
    LLM_PARALLEL_FOR
    for (size_t i = 0; i < n; i++) g[i] *= factor;
}

/* The usual call: p = 2 over one flat vector. Returns the norm before, INFINITY or NaN when an
 * entry is. */
LLM_API float llm_grad_clip_norm(float *g, size_t n, float max_norm) {
    const double norm = llm_grad_clip_root(llm_grad_clip_power(g, n, 2.0f), 2.0f);
    llm_grad_clip_scale(g, n, norm, max_norm);
    return (float)norm;
}

/* g (n) in place: every entry cut to [-limit, limit]; NaN stays. */
LLM_API void llm_grad_clip_value(float *g, size_t n, float limit) {
    LLM_PARALLEL_FOR
    for (size_t i = 0; i < n; i++) g[i] = g[i] > limit ? limit : g[i] < -limit ? -limit : g[i];
}

/* g (n) in place: entries that are not finite become 0. Returns their number. */
LLM_API size_t llm_grad_clip_zero(float *g, size_t n) {
    size_t count = 0;
    for (size_t i = 0; i < n; i++) {
        if (fabsf(g[i]) < INFINITY) continue;
        g[i] = 0.0f;
        count++;
    }
    return count;
}

/* AutoClip: the q-quantile, 0 to 1, of the norms seen so far, history (count), interpolated between
 * its neighbours; clip at it. No threshold to choose, and it follows the run down. Scratch: count
 * indices, given back. */
LLM_API float llm_grad_clip_quantile(const float *history, size_t count, float q,
                                     llm_arena *arena) {
    LLM_ASSERT(count > 0 && q >= 0.0f && q <= 1.0f);
    const size_t mark = arena->used;
    size_t *order = (size_t *)llm_arena_take(arena, count, sizeof(size_t));
    llm_argsort(order, history, count);
    const double at = (double)q * (double)(count - 1);
    const size_t low = (size_t)at, high = low + 1 < count ? low + 1 : low;
    const double a = (double)history[order[low]], b = (double)history[order[high]];
    arena->used = mark;
    return (float)(a + (at - (double)low) * (b - a));
}

/* ZClip: mean and variance of the norm as running averages, and how far a spike may stand out. */
typedef struct {
    double mean, variance, keep; /* keep: 0.97, of the averages at each step */
    double most;                 /* in standard deviations: 2.5 */
} llm_grad_clip_z;

/* Starts from the norms of the first steps, history (count >= 2), which were not clipped. */
LLM_API llm_grad_clip_z llm_grad_clip_z_start(const float *history, size_t count) {
    LLM_ASSERT(count > 1);
    llm_grad_clip_z z;
    z.keep = 0.97;
    z.most = 2.5;
    z.mean = z.variance = 0.0;
    for (size_t i = 0; i < count; i++) z.mean += (double)history[i] / (double)count;
    for (size_t i = 0; i < count; i++) {
        const double d = (double)history[i] - z.mean;
        z.variance += d * d / (double)count;
    }
    return z;
}

/* The length to clip this step's norm to; z takes it in. A norm `score` deviations above the
 * mean with score > most is pulled back to most^2 / score of them: the worse the spike, the less
 * of it. */
LLM_API float llm_grad_clip_z_next(llm_grad_clip_z *z, float norm) {
    const double deviation = sqrt(z->variance), above = (double)norm - z->mean;
    double to = (double)norm;
    if (above > z->most * deviation)
        to = z->mean + z->most * z->most * deviation * deviation / above;
    z->variance = z->keep * z->variance + (1.0 - z->keep) * (to - z->mean) * (to - z->mean);
    z->mean = z->keep * z->mean + (1.0 - z->keep) * to;
    return (float)to;
}

/* @grad_accum ----------------------------------------------- Gradient accumulation
 *
 *     g = sum_k n_k g_k / sum_k n_k           g_k: mean over the n_k targets of micro-batch k
 *
 * A batch that does not fit is cut into micro-batches whose gradients are added before the one
 * step. The sum must be weighted by how many targets each micro-batch kept: with padding they
 * differ, and the mean of the means (weights 1) is another loss, which gives a lone token in a
 * padded row as much to say as a full one. Trainers had that bug for years. The sum is kept in
 * float even where gradients are bf16: with 8 bits of mantissa 256 equal terms end the growth of a
 * sum. Clip and step once, at the end. What looks at the whole batch (batch normalization) does not
 * survive the cut.
 *
 * source  Ott et al. 2018, "Scaling Neural Machine Translation", section 3.2; transformers 4.46
 *         (num_items_in_batch: the mean of means mended)
 * needs   -
 * see     @grad_clip @cross_entropy @next_token
 * topics  Gradient Accumulation & Micro-Batching
 */

/* sum (n) is the caller's, and holds sum_k weight_k g_k. */
typedef struct {
    float *sum;
    size_t n;
    double weight, loss; /* sums over the micro-batches */
} llm_grad_accum;

/* sum (n) becomes 0 and belongs to a until the gradient is finished. */
LLM_API void llm_grad_accum_begin(llm_grad_accum *a, float *sum, size_t n) {
    a->sum = sum;
    a->n = n;
    a->weight = a->loss = 0.0;
    for (size_t i = 0; i < n; i++) sum[i] = 0.0f;
}

/* Adds a micro-batch: the gradient g (n) of its mean loss, and weight, its number of kept targets.
 * A weight of 0 adds nothing and does not read g or loss: a mean over nothing may be NaN. */
LLM_API void llm_grad_accum_add(llm_grad_accum *a, const float *g, float loss, size_t weight) {
    if (weight == 0) return;
    const float w = (float)weight;
    LLM_PARALLEL_FOR
    for (size_t i = 0; i < a->n; i++) a->sum[i] += w * g[i];
    a->weight += (double)weight;
    a->loss += (double)weight * (double)loss;
}

/* a->sum becomes the gradient of the mean over all kept targets. Returns that mean; 0, and a
 * gradient of 0, when nothing was kept. */
LLM_API float llm_grad_accum_finish(llm_grad_accum *a) {
    if (a->weight == 0.0) return 0.0f;
    const float scale = (float)(1.0 / a->weight);
    LLM_PARALLEL_FOR
    for (size_t i = 0; i < a->n; i++) a->sum[i] *= scale;
    return (float)(a->loss / a->weight);
}

/* @08-recurrent =============================== RECURRENT, MEMORY, GRAPH AND CONTINUOUS NETWORKS */

/* @09-theory ================================================ LEARNING THEORY */

/* @10-text ================================================== TEXT, COUNTS AND EMBEDDINGS */

/* @perplexity ----------------------------------------------- Perplexity and bits per byte
 *
 *     perplexity    = exp( nats / tokens )              nats = -sum_t ln P(x_t | x_1 .. x_{t-1})
 *     bits per byte = nats / (ln 2 * bytes)
 *
 * How surprised a model is by a text: a perplexity of 20 means as unsure, on average, as if it had
 * to choose among 20 equally likely tokens. It can be compared only between models that cut the
 * text into the same tokens; bits per byte can be compared always, because the chain rule gives a
 * text one probability however it is cut. What is easily got wrong: the mean of the documents'
 * perplexities is not the perplexity of all of them (sum first, exponentiate last), and a text
 * longer than the context must be scored in windows that overlap, or every window's first tokens
 * are guessed without a context.
 *
 * source  Jelinek, Mercer, Bahl & Baker 1977, "Perplexity - a measure of the difficulty of speech
 *         recognition tasks"; Efron & Tibshirani 1993, "An Introduction to the Bootstrap", ch. 13
 * needs   base arena rng cross_entropy
 * see     @cross_entropy @interpolated_lm
 * topics  Perplexity
 */

/* *nats and *tokens += the losses nll (N) whose target (N) is not LLM_CROSS_ENTROPY_IGNORE; those
 * of the others are not read. target may be NULL: all count. In double: a test set has millions. */
LLM_API void llm_perplexity_add(double *nats, double *tokens, const float *nll, const int *target,
                                size_t N) {
    for (size_t n = 0; n < N; n++) {
        if (target && target[n] == LLM_CROSS_ENTROPY_IGNORE) continue;
        *nats += (double)nll[n];
        *tokens += 1.0;
    }
}

/* exp(nats / tokens): for a token of probability 0 infinite, without tokens NaN. With the number
 * of words for that of tokens it is the perplexity per word, also of a model of subwords. */
LLM_API double llm_perplexity_from_nats(double nats, double tokens) { return exp(nats / tokens); }

/* Bits per byte: the size to which the model would compress the text, as a share of 8. */
LLM_API double llm_perplexity_bits_per_byte(double nats, double bytes) {
    return nats / (log(2.0) * bytes);
}

/* A piece of a long text: the model reads tokens begin .. end - 1, and its losses for the tokens
 * first .. end - 1 count. */
typedef struct {
    size_t begin, first, end;
} llm_perplexity_window;

/* The next window over T tokens, for a model that reads at most `context` of them. Starts as zeros;
 * false when all is scored. Windows move by `stride` < context, so that each token but the first of
 * the text is scored once, with at least context - stride tokens before it, or all there are. A
 * stride of 1 is exact and slow, context - 1 fast and pessimistic. */
LLM_API bool llm_perplexity_next(llm_perplexity_window *w, size_t T, size_t context,
                                 size_t stride) {
    LLM_ASSERT(0 < stride && stride < context);
    if (w->end >= T || T < 2) return false;
    w->begin = w->end > 0 ? w->begin + stride : 0;
    w->first = w->end > 0 ? w->end : 1;
    w->end = T - w->begin < context ? T : w->begin + context;
    return true;
}

/* For qsort. */
LLM_API int llm_perplexity_order(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* low and high: between them lies the mean loss per token with probability `level`. nats (D) and
 * tokens (D) are sums of D documents, which are drawn again, D out of D with replacement, `draws`
 * times; tokens of one document are not independent, so documents are drawn and not tokens. The
 * ends are quantiles of the means. exp of them is the interval of the perplexity. For two models on
 * the same text give the differences of their nats: the hard documents are hard for both, and
 * cancel. Scratch: `draws` doubles, given back. */
LLM_API void llm_perplexity_interval(double *low, double *high, const double *nats,
                                     const double *tokens, size_t D, double level, size_t draws,
                                     llm_rng *rng, llm_arena *arena) {
    LLM_ASSERT(D > 0 && draws > 0 && level > 0.0 && level < 1.0);
    const size_t mark = arena->used;
    double *mean = llm_arena_doubles(arena, draws);
    for (size_t k = 0; k < draws; k++) {
        double sum = 0.0, count = 0.0;
        for (size_t d = 0; d < D; d++) {
            const size_t pick = llm_rng_below(rng, D);
            sum += nats[pick];
            count += tokens[pick];
        }
        mean[k] = sum / count;
    }
    qsort(mean, draws, sizeof *mean, llm_perplexity_order);
    const double edge = 0.5 * (1.0 - level) * (double)(draws - 1);
    const size_t at = (size_t)edge;
    const double part = edge - (double)at;
    const size_t next = at + 1 < draws ? at + 1 : at;
    *low = mean[at] + part * (mean[next] - mean[at]);
    *high = mean[draws - 1 - at] - part * (mean[draws - 1 - at] - mean[draws - 1 - next]);
    arena->used = mark;
}

/* @embedding ------------------------------------------------ Embedding layer forward and backward
 *
 *     y_n = w[id_n]                   dw[v] = sum of dy_n over all n with id_n = v
 *
 * The first layer of every language model: a table with one row for each token, and a lookup. It
 * equals the product of a one-hot row with the table, without the V - 1 multiplications by 0. The
 * backward pass adds each gradient to its row; tokens that occur often receive many. On several
 * threads those additions collide, and with atomic adds their order, so the last bits, change from
 * run to run. Sorting the positions by token first gives each row its positions in order, to one
 * thread: every number of threads gives the bits of the plain loop. A batch touches few of the
 * rows, so the gradient can also be kept as a list of rows, and an optimizer can leave the others
 * alone; that is not what Adam does, whose moments go on moving them (lazy Adam).
 *
 * source  Bengio et al. 2003, "A Neural Probabilistic Language Model" (the matrix C); torch's
 *         nn.Embedding and SparseAdam (options, lazy update)
 * needs   base arena adamw
 * see     @weight_tying @word_embedding @perplexity
 * topics  Embedding layer
 */

/* y (N,C) <- ids (N), w (V,C). An id outside 0..V-1 is the caller's error. */
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

/* Which rows a batch touches: `rows` of them, row[r] ascending, and where: row[r] at the positions
 * order[start[r]] .. order[start[r + 1] - 1], ascending. */
typedef struct {
    size_t rows, *row, *start, *order;
} llm_embedding_index;

/* The index of ids (N) by counting sort. Positions of the token `padding` are left out; -1: none
 * is. The index lies in the arena: 3 N + 1 indices; V + 1 more are given back. */
LLM_API llm_embedding_index llm_embedding_sort(const int *ids, size_t N, size_t V, int padding,
                                               llm_arena *arena) {
    llm_embedding_index x;
    x.rows = 0;
    x.row = (size_t *)llm_arena_take(arena, N, sizeof(size_t));
    x.start = (size_t *)llm_arena_take(arena, N + 1, sizeof(size_t));
    x.order = (size_t *)llm_arena_take(arena, N, sizeof(size_t));
    const size_t mark = arena->used;
    size_t *place = (size_t *)llm_arena_take(arena, V + 1, sizeof(size_t));

    for (size_t v = 0; v <= V; v++) place[v] = 0;
    for (size_t n = 0; n < N; n++) {
        LLM_ASSERT(ids[n] >= 0 && (size_t)ids[n] < V);
        if (ids[n] != padding) place[(size_t)ids[n] + 1]++;
    }
    x.start[0] = 0;
    for (size_t v = 0; v < V; v++) {
        if (place[v + 1] > 0) {
            x.row[x.rows++] = v;
            x.start[x.rows] = place[v] + place[v + 1];
        }
        place[v + 1] += place[v]; /* now where v's successor begins */
    }
    for (size_t n = 0; n < N; n++)
        if (ids[n] != padding) x.order[place[ids[n]]++] = n;
    arena->used = mark;
    return x;
}

/* dw += <- dy (N,C) and its index. dense: dw is (V,C), and the result has the bits of
 * llm_embedding_backward (which knows no padding); else dw is (rows,C), the gradient of the touched
 * rows alone. by_frequency divides each row's gradient by the number of its positions. */
LLM_API void llm_embedding_backward_sorted(float *dw, const float *dy, const llm_embedding_index *x,
                                           size_t C, bool dense, bool by_frequency) {
    LLM_PARALLEL_FOR
    for (size_t r = 0; r < x->rows; r++) {
        float *to = dw + (dense ? x->row[r] : r) * C;
        const size_t count = x->start[r + 1] - x->start[r];
        const float scale = by_frequency ? 1.0f / (float)count : 1.0f;
        for (size_t k = x->start[r]; k < x->start[r + 1]; k++) {
            const float *from = dy + x->order[k] * C;
            for (size_t i = 0; i < C; i++) to[i] += scale * from[i];
        }
    }
}

/* Shortens the touched rows of w (V,C) that are longer than max_norm to that length, before the
 * forward pass. As in torch there is no gradient through this. */
LLM_API void llm_embedding_renorm(float *w, const llm_embedding_index *x, size_t C,
                                  float max_norm) {
    LLM_PARALLEL_FOR
    for (size_t r = 0; r < x->rows; r++) {
        float *row = w + x->row[r] * C;
        double sum_sq = 0.0;
        for (size_t i = 0; i < C; i++) sum_sq += (double)row[i] * (double)row[i];
        const float norm = (float)sqrt(sum_sq);
        if (!(norm > max_norm)) continue;
        for (size_t i = 0; i < C; i++) row[i] *= max_norm / (norm + 1e-7f);
    }
}

/* Step t of AdamW on the touched rows of w, m, v (V,C) <- their gradient g (rows,C). The others do
 * not move, do not decay, and their moments stand still; t counts the steps of all, so a row that
 * is touched for the first time late takes a first step that is too long. */
LLM_API void llm_embedding_adamw(float *w, float *m, float *v, const float *g,
                                 const llm_embedding_index *x, size_t C,
                                 const llm_adamw_config *config, size_t t) {
    for (size_t r = 0; r < x->rows; r++) {
        const size_t at = x->row[r] * C;
        llm_adamw_step(w + at, m + at, v + at, g + r * C, C, config, t);
    }
}

/* @interpolated_lm ----------------------------------------- N-gram model, interpolated discounting
 *
 *     P(w | u v) = max(c(uvw) - d, 0) / c(uv) + d N(uv) / c(uv) P(w | v)       P(w | .) = P(w | v)
 *     P(w)       = (c(w) + 1) / (n + V)                                     where c(uv) is 0
 *
 * The counts of a text as a language model: what every other model has to beat on the same tokens.
 * The discount d is taken from each of the N(uv) different continuations that were seen, and the
 * sum of what was taken is what the shorter context may hand out: every distribution sums to 1, and
 * no token has probability 0. The n-grams are kept as sorted numbers, one for each place of the
 * text, so a context is a range of them: two binary searches, no table.
 *
 * source  Ney, Essen & Kneser 1994, "On structuring probabilistic dependences in stochastic
 *         language modelling"; Chen & Goodman 1999, "An empirical study of smoothing techniques",
 *         eq. 12
 * needs   error
 * see     @perplexity @gpt2
 * topics  -
 */
enum { LLM_INTERPOLATED_LM_BITS = 21 }; /* of a token in a key of three */

typedef struct {
    size_t count, vocab; /* n, V < 2^21 */
    int order;           /* 1 to 3 */
    double discount;     /* d, 0 to 1 */
    uint64_t *gram[4];   /* (count) sorted: the 2-grams and 3-grams that end at each token */
    size_t *once;        /* (V) counts of single tokens */
} llm_interpolated_lm;

/* What llm_interpolated_lm_fit took. */
LLM_API void llm_interpolated_lm_free(llm_interpolated_lm *lm) {
    free(lm->gram[2]);
    free(lm->gram[3]);
    free(lm->once);
}

/* For qsort: ascending. */
LLM_API int llm_interpolated_lm_compare(const void *a, const void *b) {
    uint64_t x, y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return x < y ? -1 : x > y;
}

/* The n tokens up to and with ids[i] as one number. */
LLM_API uint64_t llm_interpolated_lm_key(const int *ids, size_t i, size_t n) {
    uint64_t key = 0;
    for (size_t k = i + 1 - n; k <= i; k++)
        key = key << LLM_INTERPOLATED_LM_BITS | (uint64_t)ids[k];
    return key;
}

/* Counts ids (count), all below vocab. Takes order 8-byte numbers a token from malloc; false when
 * there are none. */
LLM_API bool llm_interpolated_lm_fit(llm_interpolated_lm *lm, const int *ids, size_t count,
                                     size_t vocab, int order, double discount, llm_error *e) {
    LLM_ASSERT(order >= 1 && order <= 3 && vocab < (size_t)1 << LLM_INTERPOLATED_LM_BITS);
    memset(lm, 0, sizeof *lm);
    lm->count = count, lm->vocab = vocab, lm->order = order, lm->discount = discount;
    lm->once = (size_t *)calloc(vocab + 1, sizeof *lm->once);
    bool ok = lm->once != NULL;
    for (size_t i = 0; ok && i < count; i++) {
        LLM_ASSERT(ids[i] >= 0 && (size_t)ids[i] < vocab);
        lm->once[ids[i]]++;
    }
    for (size_t n = 2; ok && n <= (size_t)order; n++) {
        lm->gram[n] = (uint64_t *)malloc((count + 1) * sizeof(uint64_t));
        ok = lm->gram[n] != NULL;
        /* the first n - 1 places end no n-gram: a number above all keys, which no context finds */
        for (size_t i = 0; ok && i < count; i++)
            lm->gram[n][i] = i + 1 < n ? UINT64_MAX : llm_interpolated_lm_key(ids, i, n);
        if (ok) qsort(lm->gram[n], count, sizeof(uint64_t), llm_interpolated_lm_compare);
    }
    if (ok) return true;
    llm_interpolated_lm_free(lm);
    return llm_fail(e, "counting %zu tokens: out of memory", count);
}

/* P(last token of the n-gram key | its first n - 1), where shorter is P(that token | one token
 * less). */
LLM_API double llm_interpolated_lm_level(const llm_interpolated_lm *lm, uint64_t key, size_t n,
                                         double shorter) {
    const uint64_t *gram = lm->gram[n], context = key >> LLM_INTERPOLATED_LM_BITS;
    size_t low = 0, high = lm->count, hits = 0, kinds = 0, seen = 0;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (gram[middle] >> LLM_INTERPOLATED_LM_BITS < context)
            low = middle + 1;
        else
            high = middle;
    }
    for (size_t i = low; i < lm->count && gram[i] >> LLM_INTERPOLATED_LM_BITS == context; i++) {
        hits += gram[i] == key;
        kinds += i == low || gram[i] != gram[i - 1];
        seen++;
    }
    if (seen == 0) return shorter;
    const double own = hits > 0 ? (double)hits - lm->discount : 0.0;
    return (own + lm->discount * (double)kinds * shorter) / (double)seen;
}

/* P(ids[i] | the order - 1 tokens before it, or as many as there are). */
LLM_API double llm_interpolated_lm_prob(const llm_interpolated_lm *lm, const int *ids, size_t i) {
    LLM_ASSERT(ids[i] >= 0 && (size_t)ids[i] < lm->vocab);
    double p = ((double)lm->once[ids[i]] + 1.0) / ((double)lm->count + (double)lm->vocab);
    for (size_t n = 2; n <= (size_t)lm->order && n <= i + 1; n++)
        p = llm_interpolated_lm_level(lm, llm_interpolated_lm_key(ids, i, n), n, p);
    return p;
}

/* Nats of ids (n), all but the first. */
LLM_API double llm_interpolated_lm_nats(const llm_interpolated_lm *lm, const int *ids, size_t n) {
    double nats = 0.0;
    for (size_t i = 1; i < n; i++) nats -= log(llm_interpolated_lm_prob(lm, ids, i));
    return nats;
}

/* @11-token ================================================= TOKENIZATION */

/* @unicode -------------------------------------------------- Code points and their classes
 *
 *     0xxxxxxx                             up to 7F      110xxxxx 10xxxxxx            up to 7FF
 *     1110xxxx 10xxxxxx 10xxxxxx           up to FFFF    11110xxx 10xxxxxx (3 times)  up to 10FFFF
 *
 * Tokenizers cut text where the class of the character changes, so they must know which of
 * 1,114,112 code points are letters, numbers, marks and white space. The table is 2254 runs of
 * equal class, spelt as 44 rows of characters: a search finds the row, and its runs are counted
 * off. Bytes that are no UTF-8 must not stop a tokenizer: a sequence that breaks off counts as one
 * unknown character up to where it can no longer be completed (a "maximal subpart"). Overlong
 * forms, surrogates and values above 10FFFF break at their second byte, whatever the other bits
 * say.
 *
 * source  The Unicode Standard 18, tables 3-6 and 3-7, section 3.9 (substitution of maximal
 *         subparts) and 4.5 (general category)
 * needs   base
 * see     @pre_tokenize
 * topics  -
 */
enum { LLM_UNICODE_BROKEN = 0x110000 }; /* the code of what is no UTF-8 */

typedef enum {
    LLM_UNICODE_OTHER, /* punctuation, symbols, controls, what is not assigned */
    LLM_UNICODE_SPACE, /* White_Space */
    LLM_UNICODE_NUMBER,
    LLM_UNICODE_MARK,
    LLM_UNICODE_CASED, /* only in the rows: upper and lower case in turn */
    LLM_UNICODE_UPPER, /* from here on letters; title case counts as UPPER */
    LLM_UNICODE_LOWER,
    LLM_UNICODE_LETTER /* without case: modifiers, Hebrew, Chinese */
} llm_unicode_kind;

/* The number of bytes, 1 to 4, of the first character of text (size > 0), and its code. */
LLM_API size_t llm_unicode_decode(uint32_t *code, const char *text, size_t size) {
    const unsigned char *s = (const unsigned char *)text;
    const uint32_t c = s[0];
    *code = c < 0x80 ? c : (uint32_t)LLM_UNICODE_BROKEN;
    if (c < 0xC2 || c > 0xF4) return 1;
    const size_t length = c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4;
    /* the second byte shows an overlong form, a surrogate, or a value that is too large */
    const unsigned char low = c == 0xE0 ? 0xA0 : c == 0xF0 ? 0x90 : 0x80;
    const unsigned char high = c == 0xED ? 0x9F : c == 0xF4 ? 0x8F : 0xBF;
    if (size < 2 || s[1] < low || s[1] > high) return 1;
    uint32_t value = (c & (0x7Fu >> length)) << 6 | (s[1] & 0x3Fu);
    for (size_t i = 2; i < length; i++) {
        if (i >= size || (s[i] & 0xC0) != 0x80) return i;
        value = value << 6 | (s[i] & 0x3Fu);
    }
    *code = value;
    return length;
}

/* Whether all of text is UTF-8. */
LLM_API bool llm_unicode_valid(const char *text, size_t size) {
    uint32_t code = 0;
    for (size_t at = 0; at < size && code != LLM_UNICODE_BROKEN;)
        at += llm_unicode_decode(&code, text + at, size - at);
    return code != LLM_UNICODE_BROKEN;
}

/* out (4) <- code; returns how many bytes it got. What is no code point becomes U+FFFD. */
LLM_API size_t llm_unicode_encode(char *out, uint32_t code) {
    if (code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF)) code = 0xFFFD;
    const size_t length = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    for (size_t i = length; i-- > 1; code >>= 6)
        out[i] = (char)(unsigned char)(0x80u | (code & 0x3Fu));
    const uint32_t lead = length == 1 ? 0 : 0xF00u >> length & 0xF0u;
    out[0] = (char)(unsigned char)(lead | code);
    return length;
}

typedef struct {
    uint32_t first; /* the code point that the row starts with */
    const char *runs;
} llm_unicode_row;

/* Made from Unicode 18 by tests/11-token/unicode.py. A run of n is the character '#' + 7 kind +
 * min(n, 7) - 1; from 7 on n - 7 follows in base 28, the low digits first, and 28 is added to the
 * last one. A CASED run starts with upper case. */
static const llm_unicode_row llm_unicode_rows[] = {
    {0x00000, ")A.)J*)G7B)?LR(SR)B*)R*)AT)?2#M%1T#3#LO#L?SP#S@E8@MEHME/@DNFCAGNIMGMHOGMFE?BMAAF"},
    {0x001B3, "CFNTFOWGMGMFEJMEJMFCFE<@RGMGNAGEBS(AUSRZJ&ZD)FX)?T#T)I>8BBT#FM$TO#F(F#H#F#GMLI#"},
    {0x003A3, "LAS#@FNHOEPPFM#AFNL3@S0@EZ#>?E7@EFME(B#L&@#U(S)@$U&>-@#8#9#9#:(ZS&W)U>C'Z+@>M7B&"},
    {0x0066E, "U8Z+B#T>?$=U9#;U7BV$T)HT8ZV>S$Z=A>CT)F7BZY>AU&T$8$ZN;T>AT:T<)JZQ:&ZC'ZP#Z?)?>A"},
    {0x008A0, "Z*@>P#>YZ6@:T>JT>?ZB9$7B#ZH:#Z@$U$ZN#Z?#T%W$8T>?$9$:T)@8&U#V9$7BU$6$T#8$:#Y&U$ZN"},
    {0x00A29, "#Z?#U#U#U$8#<&9$:%8)?W#T)?7B9V8)C:#ZA#V#ZN#Z?#U#X$8T>@#:#:$T)GU9$7B)AT=#:#Z@$U$"},
    {0x00B13, "ZN#Z?#U#X$8T>?$9$:'<&U#V9$7B#T6)B8T#Y%V#W%U#T#U%U%V%ZD&<%:#;$T(8)F7E)E<Z@#V#ZO#"},
    {0x00C2A, "ZH$8T>?#:#;)?9#V#U$U9$7B)@7?#T:#Z@#V#ZO#ZB#X$8T>?#:#;)?9'V#U9$7B#U8)D;ZA#V#Z)@9T"},
    {0x00D3E, ">?#:#;T'V87?V9$7K#Y#:#ZJ%ZP#ZA#T$Z?%8&=#8#>@(7B$9)EZ0@8U>?'Z?>@#7B)'@U#T#X#ZP#T#"},
    {0x00EA7, "ZB8U>AT$X#T#>?#7B$W)XT)O9(7L#8#8#8&9Z@#Z$@&>L#9X>C#>$@)A8)9@Z+@>LT7B(Y;W:T:U>?V;"},
    {0x01075, "ZE>DT87B;$L&@#F'F$S+@#TOZ1J#W$Z?#T#W$Z)@#W$ZY#W$Z?#T#W$ZG#Z9@#W$Z'A$:)A7L%ZH)H"},
    {0x013A0, "L:A$R%Z<T$ZI*ZR'Z/A%3Z@)?ZJ;)AZK:)CZJ9)DZE#V#9)DZ4@>X%T&T8$7B(7B)I:#87B(Z=A)?X9"},
    {0x01887, "ZZ8T'Z*A)BZW#>D&>D)B7BZV$X)CZ,@&ZR(7C)%@ZO<&Z5@>B#>U$87B(7B)ET)@>%A)G<Z/@>IZ@%7B"},
    {0x01B5A, ")I>A)D:ZV>EU7BZ,@>F)DZ$@>L)@7B%V7BZ$@$SAFM'L+@$H)H:#>MW8Y8U:T'S,@Z#ASETSZZ%@>$A"},
    {0x01E00, "E&DS@E*BS@L@R$K$S@L@S@L@R$K$S@#F#F#F#FS@L@SF$S@L@S@L@S@L@Q#NJ#M%O#NJ%P$NI&S@J'O#"},
    {0x01FF6, "NJ%0C)U+'*)/@*)H1T$6'T7B'ZI)0@>Y)IF&F$MHNHM#F%J(F#F#F#I#MIMWM$NG'FP&M#73@FM5)6X"},
    {0x02460, "7<@)2A7N)*U7V)(/@L0@S0@AGNE?GBMFRUGE,BM(B:FM)A1$S&@#M'M$Z8@)?T)G8ZO)AZ?#Z?#Z?#Z?"},
    {0x02DBF, "#Z?#Z?#Z?#Z?#>X)/@T),O*&U1)Q7A=#X$3U&Z:A$9$V#Z>A#W'Z+@#Z&B%4)BZX)0@ZH)X7B)V7@#7G"},
    {0x03260, ")X7B)'@7G)(JZ(.G)$AZ%*#@)'AZ.@$Z-H%ZH7BU)LE.@T;#>B#TETU9Z*A7B9)%@ZA$EFNE>@TS@CEB"},
    {0x0A788, "T$BTBNEMIMIEIGCEIF&F)FWFMVMZ?8V8W8ZO<&8%6)BZ4@)D9Z2@>J)B7B(>JY%T#U87BZT>@$ZO>E)D"},
    {0x0A960, "ZU%;Z/@>F)FT7B(X8ZB7BX#Z)@>F)AV8Z@9$7B(ZO%T:Z2@8T:U9X9T8T)PV$ZC<$V9)BY$Y$Y)AZ?#"},
    {0x0AB28, "Z?#S+@#WSAT$G$S4AZ#@>@#9$7B(Z8)M)DZO&Z1@)48IZ:K$Z2B)&@S?)DQ'T8ZB#ZE#X#T#U#U#Z4B"},
    {0x0FBB2, ")YZ7K)JZ$A$Z6@)(@ZD&>H)H>H)$AX#Z3C)K7B)?LR(SR)CZ=A%Y$Y$Y$V)#@ZD#ZR#ZK#U#ZG$ZF)Z"},
    {0x10080, "Z'C)D7-@)D79@)I2)9B8).CZU%Z1@)G87S&ZX4)AZL1Z@1'Z&@<'ZV$Z$@&Z@#5)*@L(@S(@Z2A$7B("},
    {0x104B0, "L$@&S$@&Z(@)@Z4@)DLC#LG#L?#G#SC#SG#S?#N%Z4@)DZ;I)AZN)BZ@)PY#Z*@#ZF)$AY$T#Z,@#U%T"},
    {0x1083D, "$ZO$7@ZO$7?ZW)@7A)0@ZK#U'5ZN6&ZR(ZR)&@Z8@&2U7H$7.@T:#9';W#V#ZU$:&87A)OZU2#ZU3)X"},
    {0x10AC0, "Z@#ZT9&5)HZ6@)BZN$7@ZK'7@ZJ)O7?)4AZ-A)7@L3@)ES3@)?6Z$@;)@7B(7BYLN%<#TSN)2F7W#Z*@"},
    {0x10EAA, "#9%U)HY%<)AZN#>HZU7BT)@ZN>C4)SZJ;)*@ZM7?)LZO)A:Z5@>G)C7V8U9T)A;Z-@>C)?8)EZQ)?7B("},
    {0x11100, ":Z$@>F#7B&T9T)@Z#@8$T)A:Z0@>FW&;#97BT#T&7L)CZJ#ZQ>D(8U8)>@Z?#T#W#ZG#ZB)?Z/@>D'7B"},
    {0x112FA, "(;#Z@$U$ZN#Z?#U#X#9T>?$9$:$T(8'X9$>?%<)CZB#T$T#Z&@#T>A#8$8#;#<T8T)E9)UZ5@>JW'7B&"},
    {0x1145E, "8V)VZ0@>LU#T)@7B)6DZ/@>?$>A)OW9)ZZ0@>I%T)C7B)&@Z+@>ET)?7B(7L)TZS$>G&7D&Z?)-EZ,@"},
    {0x1182C, ">G)-BLXSX7K)DZ@$T$Z@#U#ZP=#9$;T8T9)D7B)*AZ@$Z'@>?$>?T#T8)ST>BZ(@>?T;)@8)@T>CZ.@"},
    {0x11A8A, ">H%T)JZ-A)IT)9A>@)<AZY)G7B(ZA#Z%@>@#>@T)G7U'ZV$>N#>F)-AZ?#U#Z&@=%8#9#>?T8)@7B(Y#"},
    {0x11D67, "U#ZX<#9#<T)?7B(Z,@&7B(8T)*GZK;)A9T8ZE#ZZ>?%<)E7B8)9AT)G7M)+@Z6'@).B78B'7CZ8E)D"},
    {0x12550, "7;I)-=AZ)B)GZ$-@)H8Y>G)BZ/%D'Z3S)%7GZV>J7B)6(AZ%S)?ZW#7B(Z3A#7B(ZV$<)CZ0@>?)AW)D"},
    {0x16B50, "7B#7?#ZM'ZK)(NZ-@%7B):ELXSX7O)ALQ$SQ),@Z/A&8T>7@)?;ZE)$AU#T8)C9U3)AZ3.H)$@ZZ)'B"},
    {0x18D80, "Z;B)EZ.'@)FZ3@)%:HW#Z?#U#Z-I)AT)UV$T)FX)?Z<L)(=AZ3B'ZE%ZA)?ZB%9)=+D7B)*Q>.@$>O"},
    {0x1CF47, ")<O9)<@<%=)@>@$>?)V;)$D:)C:)@9$8)X9)>@7L)D7L)4B7Q)3CLRSRLRS?#SJLRSRF#G$F$G$I#L@P"},
    {0x1D4BA, "#M#S?#SCLRSRG#I$L@#L?#SRG#I#J#F%L?#SRLRSRLRSRLRSRLRSRLRSRLRSU#LQ#SQ#RLQ#SQ#RLQ#"},
    {0x1D736, "SQ#RLQ#SQ#RLQ#SQ#RFM$72@)$Q>7@&>2@)@8)F8)N<#>G)(.@SBTS5@FS?BMFOFSNE@NEFU)FS?)6@"},
    {0x1DFCD, "Z3@>?#>I$>?#9#<'Z>@)Y8)8BZ-@%>?Z?$7B&T))JZV8)IZ,@;7B)2OZT;7B).FZV9T7B)9EZW#V8U8"},
    {0x1E6E7, "Z?9X8)@U)8FZ?#W#U#ZG#Z9E$7A>?))@LZSZ>?T&7B)##@7;@#3#4)0A7-@#7G)6EW#ZS#U#T$T#ZB#W"},
    {0x1EE38, "#T#T(T&T#T#T#V#U#T$T#T#T#T#T#U#T$W#Z?#W#W#T#ZB#ZI'V#X#ZI)0S7E)+2B7B)2+@Z00=@)X"},
    {0x2A700, "Z+3D#Z>,F$Z51H)GZ>T):&BZ&R)2<@Z'+E'Z>9I)689@Z,/M)</<$@>,G)8&=G"},
};

/* The class of a code point, never LLM_UNICODE_CASED; that of LLM_UNICODE_BROKEN is OTHER. */
LLM_API llm_unicode_kind llm_unicode_class(uint32_t code) {
    if (code < 0x80) { /* most text, without the search */
        if ((code | 32) >= 'a' && (code | 32) <= 'z')
            return code & 32 ? LLM_UNICODE_LOWER : LLM_UNICODE_UPPER;
        if (code >= '0' && code <= '9') return LLM_UNICODE_NUMBER;
        return code == ' ' || (code >= 9 && code <= 13) ? LLM_UNICODE_SPACE : LLM_UNICODE_OTHER;
    }
    size_t low = 0, high = sizeof llm_unicode_rows / sizeof llm_unicode_rows[0];
    while (high - low > 1) {
        const size_t middle = (low + high) / 2;
        if (llm_unicode_rows[middle].first <= code)
            low = middle;
        else
            high = middle;
    }
    uint32_t start = llm_unicode_rows[low].first;
    for (const char *run = llm_unicode_rows[low].runs; *run;) {
        const uint32_t head = (uint32_t)(*run++ - '#'), kind = head / 7;
        uint32_t length = head % 7 + 1;
        for (uint32_t unit = length == 7, digit = 0; unit > 0 && digit < 28; unit *= 28) {
            digit = (uint32_t)(*run++ - '#');
            length += unit * (digit % 28);
        }
        if (code - start < length) {
            if (kind != LLM_UNICODE_CASED) return (llm_unicode_kind)kind;
            return (code - start) % 2 ? LLM_UNICODE_LOWER : LLM_UNICODE_UPPER;
        }
        start += length;
    }
    return LLM_UNICODE_OTHER; /* above 10FFFF */
}

/* @pre_tokenize --------------------------------------------- Pre-tokenization
 *
 *     GPT-2: 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
 *
 * Text is cut into words before anything is merged, and no token reaches across a cut. The cut is
 * part of the model: another one gives ids that it never saw. GPT-2 joins one space with the word
 * behind it; \s+(?!\S) takes a run of white space but for its last character, which that word then
 * gets. cl100k (GPT-4) and Llama 3 let any one character that is no letter, number or newline lead
 * a word, cut numbers after three digits and white space after its last newline; Qwen 2 cuts after
 * every digit. o200k (GPT-4o) cuts where lower case turns to upper case too, and keeps 's with its
 * word. No regular expression engine is needed: each function returns the length of the first
 * pre-token, and since no pattern looks back, calling it on the rest gives the next. The time is
 * linear. Unknown characters (@unicode) are symbols.
 *
 * source  Radford et al. 2019, "Language models are unsupervised multitask learners" (its code);
 *         the patterns in tiktoken and in the tokenizer.json of Llama 3 and Qwen 2
 * needs   unicode
 * see     @bpe (merges within a pre-token)
 * topics  Tokenization
 */
typedef enum {
    LLM_PRE_TOKENIZE_GPT2,
    LLM_PRE_TOKENIZE_CL100K,
    LLM_PRE_TOKENIZE_O200K,
    LLM_PRE_TOKENIZE_LLAMA3,
    LLM_PRE_TOKENIZE_QWEN2
} llm_pre_tokenize_kind;

#define LLM_PRE_TOKENIZE_SUFFIX "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define LLM_PRE_TOKENIZE_LEAD "[^\\r\\n\\p{L}\\p{N}]?"
#define LLM_PRE_TOKENIZE_SPACE "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define LLM_PRE_TOKENIZE_UPPER "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LLM_PRE_TOKENIZE_LOWER "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"

/* The regular expression of a kind, as a tokenizer.json spells it. cl100k's is written here so that
 * engines without possessive quantifiers understand it; (?![\s\S]) is the end of the text. */
LLM_API const char *llm_pre_tokenize_pattern(llm_pre_tokenize_kind kind) {
    static const char *const pattern[5] = {
        "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+",
        LLM_PRE_TOKENIZE_SUFFIX
        "|" LLM_PRE_TOKENIZE_LEAD "\\p{L}+|\\p{N}{1,3}| "
        "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s+(?![\\s\\S])|" LLM_PRE_TOKENIZE_SPACE,
        LLM_PRE_TOKENIZE_LEAD LLM_PRE_TOKENIZE_UPPER
        "*" LLM_PRE_TOKENIZE_LOWER "+" LLM_PRE_TOKENIZE_SUFFIX
        "?|" LLM_PRE_TOKENIZE_LEAD LLM_PRE_TOKENIZE_UPPER "+" LLM_PRE_TOKENIZE_LOWER
        "*" LLM_PRE_TOKENIZE_SUFFIX
        "?|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|" LLM_PRE_TOKENIZE_SPACE,
        LLM_PRE_TOKENIZE_SUFFIX
        "|" LLM_PRE_TOKENIZE_LEAD
        "\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|" LLM_PRE_TOKENIZE_SPACE,
        LLM_PRE_TOKENIZE_SUFFIX
        "|" LLM_PRE_TOKENIZE_LEAD
        "\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|" LLM_PRE_TOKENIZE_SPACE};
    return pattern[kind];
}

/* Sets of classes, one bit for each. */
enum {
    LLM_PRE_TOKENIZE_S = 1 << LLM_UNICODE_SPACE,
    LLM_PRE_TOKENIZE_N = 1 << LLM_UNICODE_NUMBER,
    LLM_PRE_TOKENIZE_L = 7 << LLM_UNICODE_UPPER,                        /* UPPER, LOWER, LETTER */
    LLM_PRE_TOKENIZE_X = 1 << LLM_UNICODE_OTHER | 1 << LLM_UNICODE_MARK /* [^\s\p{L}\p{N}] */
};

/* The set that holds just the class of the character at `at`, and where it ends; 0 and `at` at the
 * end of the text. */
LLM_API unsigned llm_pre_tokenize_set(const char *text, size_t size, size_t at, size_t *end) {
    uint32_t code;
    *end = at;
    if (at >= size) return 0;
    *end = at + llm_unicode_decode(&code, text + at, size - at);
    return 1u << llm_unicode_class(code);
}

/* The end of the run from `at` of characters with classes in the set; at most `most` of them. */
LLM_API size_t llm_pre_tokenize_run(const char *text, size_t size, size_t at, unsigned set,
                                    size_t most) {
    size_t next;
    while (most-- > 0 && (llm_pre_tokenize_set(text, size, at, &next) & set)) at = next;
    return at;
}

/* The length of 's 't 're 've 'm 'll 'd at the start of text, or 0. any_case: in capitals too, and
 * with the long s (U+017F), whose capital is S. */
LLM_API size_t llm_pre_tokenize_suffix(const char *text, size_t size, bool any_case) {
    const int fold = any_case ? 32 : 0;
    if (size < 2 || text[0] != '\'') return 0;
    const int a = text[1] | fold, b = size > 2 ? text[2] | fold : 0;
    if (a == 's' || a == 't' || a == 'm' || a == 'd') return 2;
    if ((a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l')) return 3;
    return any_case && size > 2 && memcmp(text + 1, "\xC5\xBF", 2) == 0 ? 3 : 0;
}

/* White space at the start of text: all but the last character of the run; all of it where it is
 * one character or nothing follows. lines: up to and with the last newline in it, if there is
 * one. */
LLM_API size_t llm_pre_tokenize_space(const char *text, size_t size, bool lines) {
    size_t last = 0, end = 0, line = 0, next;
    while (llm_pre_tokenize_set(text, size, end, &next) & LLM_PRE_TOKENIZE_S) {
        if (text[end] == '\n' || text[end] == '\r') line = next;
        last = end;
        end = next;
    }
    if (lines && line > 0) return line;
    return end == size || last == 0 ? end : last;
}

/* The length of the first pre-token of text by GPT-2's rule; 0 only for empty text. */
LLM_API size_t llm_pre_tokenize_gpt2(const char *text, size_t size) {
    static const unsigned sets[3] = {LLM_PRE_TOKENIZE_L, LLM_PRE_TOKENIZE_N, LLM_PRE_TOKENIZE_X};
    const size_t suffix = llm_pre_tokenize_suffix(text, size, false);
    if (suffix > 0) return suffix;
    const size_t start = size > 0 && text[0] == ' ' ? 1 : 0;
    size_t next;
    const unsigned set = llm_pre_tokenize_set(text, size, start, &next);
    for (size_t i = 0; i < 3; i++)
        if (set & sets[i]) return llm_pre_tokenize_run(text, size, next, sets[i], SIZE_MAX);
    return llm_pre_tokenize_space(text, size, false);
}

/* The length of [^\r\n\p{L}\p{N}]? at the start of text. */
LLM_API size_t llm_pre_tokenize_lead(const char *text, size_t size) {
    size_t end;
    const unsigned set = llm_pre_tokenize_set(text, size, 0, &end);
    const unsigned word = LLM_PRE_TOKENIZE_L | LLM_PRE_TOKENIZE_N;
    return size == 0 || (set & word) || text[0] == '\r' || text[0] == '\n' ? 0 : end;
}

/* What the newer patterns have in common behind their words: numbers of up to `digits`; symbols
 * with a space before and newlines (with `slash` slashes too) behind; white space. */
LLM_API size_t llm_pre_tokenize_rest(const char *text, size_t size, size_t digits, bool slash) {
    size_t end = llm_pre_tokenize_run(text, size, 0, LLM_PRE_TOKENIZE_N, digits);
    if (end > 0) return end;
    const size_t start = size > 0 && text[0] == ' ' ? 1 : 0;
    end = llm_pre_tokenize_run(text, size, start, LLM_PRE_TOKENIZE_X, SIZE_MAX);
    if (end == start) return llm_pre_tokenize_space(text, size, true);
    while (end < size && (text[end] == '\r' || text[end] == '\n' || (slash && text[end] == '/')))
        end++;
    return end;
}

/* By the rule of Llama 3 and Qwen 2, with numbers of up to 3 digits and of 1. */
LLM_API size_t llm_pre_tokenize_word(const char *text, size_t size, size_t digits) {
    const size_t suffix = llm_pre_tokenize_suffix(text, size, true);
    if (suffix > 0) return suffix;
    const size_t lead = llm_pre_tokenize_lead(text, size);
    const size_t end = llm_pre_tokenize_run(text, size, lead, LLM_PRE_TOKENIZE_L, SIZE_MAX);
    return end > lead ? end : llm_pre_tokenize_rest(text, size, digits, false);
}
LLM_API size_t llm_pre_tokenize_llama3(const char *text, size_t size) {
    return llm_pre_tokenize_word(text, size, 3);
}
LLM_API size_t llm_pre_tokenize_qwen2(const char *text, size_t size) {
    return llm_pre_tokenize_word(text, size, 1);
}

/* By GPT-4's rule: as Llama 3, but white space that ends the text is one piece, newlines or not. */
LLM_API size_t llm_pre_tokenize_cl100k(const char *text, size_t size) {
    const size_t end = llm_pre_tokenize_run(text, size, 0, LLM_PRE_TOKENIZE_S, SIZE_MAX);
    return end == size ? size : llm_pre_tokenize_word(text, size, 3);
}

/* The end of U*W+ from `at`, or 0 where it does not match. U is a capital, W a small letter, and
 * both are letters without case and marks. Where no W follows U*, that gives back up to its last
 * W. */
LLM_API size_t llm_pre_tokenize_camel(const char *text, size_t size, size_t at) {
    const unsigned both = 1u << LLM_UNICODE_LETTER | 1u << LLM_UNICODE_MARK;
    const unsigned upper = both | 1u << LLM_UNICODE_UPPER, lower = both | 1u << LLM_UNICODE_LOWER;
    size_t stop = at, back = 0, next;
    for (unsigned set; (set = llm_pre_tokenize_set(text, size, stop, &next)) & upper; stop = next)
        if (set & both) back = next;
    const size_t end = llm_pre_tokenize_run(text, size, stop, lower, SIZE_MAX);
    return end > stop ? end : back;
}

/* By GPT-4o's rule. */
LLM_API size_t llm_pre_tokenize_o200k(const char *text, size_t size) {
    const size_t lead = llm_pre_tokenize_lead(text, size);
    size_t end = llm_pre_tokenize_camel(text, size, lead);
    if (end == 0)
        end = llm_pre_tokenize_camel(text, size, 0); /* a mark that leads no word is one */
    if (end == 0) { /* the second alternative, U+W*: only capitals can be left */
        end = llm_pre_tokenize_run(text, size, lead, 1u << LLM_UNICODE_UPPER, SIZE_MAX);
        if (end == lead) return llm_pre_tokenize_rest(text, size, 3, true);
    }
    return end + llm_pre_tokenize_suffix(text + end, size - end, true);
}

/* The length of the first pre-token of text; 0 only for empty text. */
LLM_API size_t llm_pre_tokenize(const char *text, size_t size, llm_pre_tokenize_kind kind) {
    return kind == LLM_PRE_TOKENIZE_GPT2     ? llm_pre_tokenize_gpt2(text, size)
           : kind == LLM_PRE_TOKENIZE_CL100K ? llm_pre_tokenize_cl100k(text, size)
           : kind == LLM_PRE_TOKENIZE_O200K  ? llm_pre_tokenize_o200k(text, size)
           : kind == LLM_PRE_TOKENIZE_LLAMA3 ? llm_pre_tokenize_llama3(text, size)
                                             : llm_pre_tokenize_qwen2(text, size);
}

/* @vocab_table ---------------------------------------------- Byte strings and their numbers
 *
 *     id -> string: bytes[end[id - 1] .. end[id]]
 *     string -> id: slot[h], slot[h + 1], ... up to the id or a free one    h = FNV-1a mod slots
 *
 * A tokenizer asks both ways: which string has this id, which id has this string. The strings stand
 * one behind another in one buffer, with their ends beside them: a token may hold any byte, so none
 * of them can end a string. A hash table with open addressing, never more than half full, holds the
 * ids only.
 *
 * source  Knuth 1998, "The Art of Computer Programming", volume 3, section 6.4 (linear probing);
 *         Fowler, Noll & Vo, the FNV-1a hash
 * needs   base buffer
 * see     @bpe @tokenizer
 * topics  -
 */
typedef struct {
    llm_buffer bytes;
    size_t *end;    /* (count) */
    uint32_t *slot; /* (slots) id + 1, or 0 where free; slots is a power of two */
    size_t count, capacity, slots;
} llm_vocab_table;

/* A table without ids, which holds no memory; and the way back to it. */
LLM_API llm_vocab_table llm_vocab_table_empty(void) {
    llm_vocab_table t;
    memset(&t, 0, sizeof t);
    return t;
}
LLM_API void llm_vocab_table_free(llm_vocab_table *t) {
    llm_buffer_free(&t->bytes);
    free(t->end);
    free(t->slot);
    *t = llm_vocab_table_empty();
}

/* The string of an id, until the next addition. */
LLM_API const char *llm_vocab_table_bytes(const llm_vocab_table *t, size_t id, size_t *size) {
    LLM_ASSERT(id < t->count);
    const size_t start = id > 0 ? t->end[id - 1] : 0;
    *size = t->end[id] - start;
    return *size > 0 ? t->bytes.data + start : "";
}

/* FNV-1a; its high bits are mixed best, the low ones choose the slot. */
LLM_API size_t llm_vocab_table_hash(const char *bytes, size_t size) {
    uint64_t hash = 14695981039346656037u;
    for (size_t i = 0; i < size; i++) hash = (hash ^ (unsigned char)bytes[i]) * 1099511628211u;
    return (size_t)(hash ^ hash >> 32);
}

/* The slot of the string, or the free one where it would stand. */
LLM_API size_t llm_vocab_table_slot(const llm_vocab_table *t, const char *bytes, size_t size) {
    size_t s = llm_vocab_table_hash(bytes, size) & (t->slots - 1);
    for (; t->slot[s] > 0; s = (s + 1) & (t->slots - 1)) {
        size_t length;
        const char *other = llm_vocab_table_bytes(t, t->slot[s] - 1, &length);
        if (length == size && memcmp(other, bytes, size) == 0) break;
    }
    return s;
}

/* The id of the string, or -1. */
LLM_API int llm_vocab_table_find(const llm_vocab_table *t, const char *bytes, size_t size) {
    return t->slots > 0 ? (int)t->slot[llm_vocab_table_slot(t, bytes, size)] - 1 : -1;
}

/* Makes room for one more id. */
LLM_API bool llm_vocab_table_grow(llm_vocab_table *t) {
    if (t->count >= INT_MAX / 4) return false;
    if (t->count == t->capacity) {
        const size_t capacity = 2 * t->capacity + 64;
        size_t *end = (size_t *)realloc(t->end, capacity * sizeof *end);
        if (!end) return false;
        t->end = end;
        t->capacity = capacity;
    }
    if (2 * t->count < t->slots) return true;
    const size_t slots = t->slots > 0 ? 2 * t->slots : 128;
    uint32_t *wide = (uint32_t *)calloc(slots, sizeof *wide), *old = t->slot;
    if (!wide) return false;
    const size_t old_slots = t->slots;
    t->slot = wide;
    t->slots = slots;
    for (size_t s = 0, size; s < old_slots; s++) {
        if (old[s] == 0) continue;
        const char *bytes = llm_vocab_table_bytes(t, old[s] - 1, &size);
        wide[llm_vocab_table_slot(t, bytes, size)] = old[s];
    }
    free(old);
    return true;
}

/* The id of the string; a new string gets the next one. -1 when memory is out. bytes may not point
 * into the table. */
LLM_API int llm_vocab_table_add(llm_vocab_table *t, const char *bytes, size_t size) {
    if (!llm_vocab_table_grow(t)) return -1;
    const size_t s = llm_vocab_table_slot(t, bytes, size);
    if (t->slot[s] > 0) return (int)t->slot[s] - 1;
    if (!llm_buffer_put(&t->bytes, bytes, size)) return -1;
    t->end[t->count++] = t->bytes.size;
    t->slot[s] = (uint32_t)t->count;
    return (int)t->count - 1;
}

/* Leaves the next id without a string: its size is 0 and nothing finds it. False when memory is
 * out. */
LLM_API bool llm_vocab_table_skip(llm_vocab_table *t) {
    if (!llm_vocab_table_grow(t)) return false;
    t->end[t->count++] = t->bytes.size;
    return true;
}

/* @byte_level ----------------------------------------------- Bytes as printable characters
 *
 *     33..126, 161..172, 174..255 -> themselves        the other 68, in order -> 256, 257, ..., 323
 *
 * Tokens are bytes, but vocabulary files are JSON or lines of text. GPT-2 spells every byte as one
 * printable character: "e" stays "e", a space is U+0120, a newline U+010A. It is a spelling and
 * nothing more; merging is done on bytes. The order of the characters is also the order of the
 * first 256 ids in most vocabularies of this kind, and so breaks ties in training.
 *
 * source  Radford et al. 2019, "Language models are unsupervised multitask learners" (its code,
 *         bytes_to_unicode)
 * needs   unicode buffer
 * see     @bpe @tokenizer_vocab
 * topics  -
 */

/* The code point that spells the byte. */
LLM_API uint32_t llm_byte_level_code(unsigned char byte) {
    if ((byte > 32 && byte < 127) || (byte > 160 && byte != 173)) return byte;
    if (byte == 173) return 323;
    return byte <= 32 ? byte + 256u : byte - 127u + 289u;
}

/* The byte that the code point spells, or -1. */
LLM_API int llm_byte_level_byte(uint32_t code) {
    if ((code > 32 && code < 127) || (code > 160 && code < 256 && code != 173)) return (int)code;
    if (code == 323) return 173;
    if (code < 256 || code > 323) return -1;
    return (int)(code < 289 ? code - 256 : code - 289 + 127);
}

/* The place of the byte in the order of the code points: its id in a new vocabulary. */
LLM_API int llm_byte_level_id(unsigned char byte) {
    const int code = (int)llm_byte_level_code(byte);
    return code < 127 ? code - 33 : code < 173 ? code - 67 : code - 68;
}

/* Appends the spelling of the bytes, UTF-8. False when memory is out. */
LLM_API bool llm_byte_level_spell(llm_buffer *out, const char *bytes, size_t size) {
    char character[4];
    for (size_t i = 0; i < size; i++) {
        const uint32_t code = llm_byte_level_code((unsigned char)bytes[i]);
        if (!llm_buffer_put(out, character, llm_unicode_encode(character, code))) return false;
    }
    return true;
}

/* Appends the bytes that text spells. False when memory is out (*bad is then size) or a character
 * spells none (*bad is where it stands). */
LLM_API bool llm_byte_level_read(llm_buffer *out, size_t *bad, const char *text, size_t size) {
    *bad = size;
    for (size_t at = 0; at < size;) {
        uint32_t code;
        const size_t length = llm_unicode_decode(&code, text + at, size - at);
        const int byte = llm_byte_level_byte(code);
        const char c = (char)(unsigned char)byte;
        if (byte < 0) *bad = at;
        if (byte < 0 || !llm_buffer_put(out, &c, 1)) return false;
        at += length;
    }
    return true;
}

/* @heap ----------------------------------------------------- A heap in an array
 *
 *     heap[i] <= heap[2 i + 1], heap[2 i + 2]
 *
 * The smallest of n entries is at the top, and putting one in or taking the top out costs log2 n
 * steps, for an array that is nothing but half sorted. An entry that has become wrong is left where
 * it is and recognised when it comes to the top ("lazy deletion"): finding it would cost more.
 *
 * source  Williams 1964, "Algorithm 232: Heapsort"
 * needs   -
 * see     @bpe @bpe_train
 * topics  -
 */
typedef struct {
    uint64_t key, tie; /* the smallest key comes first, of equal ones the smallest tie */
} llm_heap_entry;

/* Whether a comes out before b. */
LLM_API bool llm_heap_before(llm_heap_entry a, llm_heap_entry b) {
    return a.key < b.key || (a.key == b.key && a.tie < b.tie);
}

/* heap has room for one more than *count entries, which grows by one. */
LLM_API void llm_heap_push(llm_heap_entry *heap, size_t *count, uint64_t key, uint64_t tie) {
    const llm_heap_entry entry = {key, tie};
    size_t hole = (*count)++;
    while (hole > 0 && llm_heap_before(entry, heap[(hole - 1) / 2])) {
        heap[hole] = heap[(hole - 1) / 2];
        hole = (hole - 1) / 2;
    }
    heap[hole] = entry;
}

/* Takes out and returns the first of *count > 0 entries. */
LLM_API llm_heap_entry llm_heap_pop(llm_heap_entry *heap, size_t *count) {
    const llm_heap_entry first = heap[0], last = heap[--*count];
    size_t hole = 0;
    for (size_t child = 1; child < *count; child = 2 * hole + 1) {
        if (child + 1 < *count && llm_heap_before(heap[child + 1], heap[child])) child++;
        if (!llm_heap_before(heap[child], last)) break;
        heap[hole] = heap[child];
        hole = child;
    }
    heap[hole] = last;
    return first;
}

/* @bpe ------------------------------------------------------ Byte pair encoding: encode and decode
 *
 *     while any two neighbours are in the list of merges:
 *         merge the pair of lowest rank, the leftmost one if there are several
 *
 * A token is a byte, or two tokens merged; the list of merges is all there is to the model.
 * Frequent words become one token, rare ones a few, and since the 256 bytes are tokens no text is
 * unknown: decode(encode(x)) is x for every x, broken UTF-8 included. Looking for the lowest rank
 * anew after each merge takes n^2 steps, and a pre-token can be a line of a million equal letters;
 * a heap of candidates beside a linked list of tokens takes n log n. Ranks decide, not ids: a file
 * may number its tokens as it likes.
 *
 * source  Gage 1994, "A new algorithm for data compression"; Sennrich, Haddow & Birch 2016, "Neural
 *         machine translation of rare words with subword units"; Provilkov, Emelianenko & Voita
 *         2020, "BPE-dropout: simple and effective subword regularization", algorithm 1
 * needs   base arena rng buffer vocab_table byte_level heap
 * see     @bpe_train @pre_tokenize (cuts the text before this), @tokenizer
 * topics  Byte Pair Encoding (BPE)
 */
typedef struct {
    int left, right, result;
} llm_bpe_merge;

typedef struct {
    llm_vocab_table token; /* the bytes of each id */
    int byte_id[256];      /* the id of each byte */
    llm_bpe_merge *merge;  /* (merges) in order of rank */
    uint32_t *slot;        /* (slots) rank + 1, or 0: open addressing by (left, right) */
    size_t merges, slots;
} llm_bpe;

/* A BPE without tokens, which holds no memory; and the way back to it. */
LLM_API llm_bpe llm_bpe_empty(void) {
    llm_bpe bpe;
    memset(&bpe, 0, sizeof bpe);
    for (size_t b = 0; b < 256; b++) bpe.byte_id[b] = -1;
    return bpe;
}
LLM_API void llm_bpe_free(llm_bpe *bpe) {
    llm_vocab_table_free(&bpe->token);
    free(bpe->merge);
    free(bpe->slot);
    *bpe = llm_bpe_empty();
}

/* The bytes as ids 0 to 255, in the order of @byte_level, and no merges. False, and nothing to
 * free, when memory is out. */
LLM_API bool llm_bpe_create(llm_bpe *bpe) {
    char byte[256];
    *bpe = llm_bpe_empty();
    for (int b = 0; b < 256; b++) {
        bpe->byte_id[b] = llm_byte_level_id((unsigned char)b);
        byte[bpe->byte_id[b]] = (char)(unsigned char)b;
    }
    for (int id = 0; id < 256; id++) {
        if (llm_vocab_table_add(&bpe->token, &byte[id], 1) == id) continue;
        llm_bpe_free(bpe);
        return false;
    }
    return true;
}

/* The slot of the pair, or the free one where it would stand. */
LLM_API size_t llm_bpe_slot(const llm_bpe *bpe, int left, int right) {
    const uint64_t pair = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    size_t s = (size_t)(pair * 0x9E3779B97F4A7C15u >> 32) & (bpe->slots - 1);
    for (; bpe->slot[s] > 0; s = (s + 1) & (bpe->slots - 1)) {
        const llm_bpe_merge *m = &bpe->merge[bpe->slot[s] - 1];
        if (m->left == left && m->right == right) break;
    }
    return s;
}

/* The rank of the pair, or UINT32_MAX. */
LLM_API uint32_t llm_bpe_rank(const llm_bpe *bpe, int left, int right) {
    return bpe->slots > 0 ? bpe->slot[llm_bpe_slot(bpe, left, right)] - 1 : UINT32_MAX;
}

/* Appends the merge of two ids, with the next rank, and returns the id of the result: that of the
 * token with the same bytes if there is one, else a new one. A pair that is listed twice has its
 * later rank. -1 when memory is out. */
LLM_API int llm_bpe_add(llm_bpe *bpe, int left, int right) {
    if (2 * bpe->merges == bpe->slots) {
        const size_t slots = bpe->slots > 0 ? 2 * bpe->slots : 512;
        if (slots >= UINT32_MAX) return -1;
        llm_bpe_merge *merge = (llm_bpe_merge *)realloc(bpe->merge, slots / 2 * sizeof *merge);
        if (merge) bpe->merge = merge;
        uint32_t *slot = merge ? (uint32_t *)calloc(slots, sizeof *slot) : NULL;
        if (!slot) return -1;
        free(bpe->slot);
        bpe->slot = slot;
        bpe->slots = slots;
        for (size_t r = 0; r < bpe->merges; r++)
            slot[llm_bpe_slot(bpe, merge[r].left, merge[r].right)] = (uint32_t)r + 1;
    }
    llm_buffer bytes = {NULL, 0, 0};
    size_t size[2];
    const char *a = llm_vocab_table_bytes(&bpe->token, (size_t)left, &size[0]);
    const char *b = llm_vocab_table_bytes(&bpe->token, (size_t)right, &size[1]);
    const bool joined = llm_buffer_put(&bytes, a, size[0]) && llm_buffer_put(&bytes, b, size[1]);
    const int result = joined ? llm_vocab_table_add(&bpe->token, bytes.data, bytes.size) : -1;
    llm_buffer_free(&bytes);
    if (result < 0) return -1;
    const llm_bpe_merge m = {left, right, result};
    bpe->merge[bpe->merges++] = m;
    bpe->slot[llm_bpe_slot(bpe, left, right)] = (uint32_t)bpe->merges;
    return result;
}

/* The definition. ids (size) <- text (size bytes); returns how many ids there are. */
LLM_API size_t llm_bpe_encode_naive(int *ids, const llm_bpe *bpe, const char *text, size_t size) {
    size_t n = size;
    for (size_t i = 0; i < n; i++) ids[i] = bpe->byte_id[(unsigned char)text[i]];
    for (;;) {
        uint32_t best = UINT32_MAX;
        size_t at = 0;
        for (size_t i = 0; i + 1 < n; i++) {
            const uint32_t rank = llm_bpe_rank(bpe, ids[i], ids[i + 1]);
            if (rank < best) best = rank, at = i;
        }
        if (best == UINT32_MAX) return n;
        ids[at] = bpe->merge[best].result;
        n--;
        for (size_t i = at + 1; i < n; i++) ids[i] = ids[i + 1];
    }
}

/* Bytes of an arena that encoding a pre-token of that size takes. */
LLM_API size_t llm_bpe_scratch(size_t size) { return 44 * size + 256; }

/* ids (size) <- text (size bytes, below 2^32), as llm_bpe_encode_naive. With an rng, each possible
 * merge is passed over with probability `dropout` at every step (BPE-dropout, for training), so
 * that one word comes in many segmentations; rng may be NULL. Scratch: llm_bpe_scratch(size) bytes,
 * given back. */
LLM_API size_t llm_bpe_encode(int *ids, const llm_bpe *bpe, const char *text, size_t size,
                              float dropout, llm_rng *rng, llm_arena *arena) {
    LLM_ASSERT(size < UINT32_MAX);
    const size_t mark = arena->used;
    uint32_t *next = (uint32_t *)llm_arena_take(arena, size, sizeof *next);
    uint32_t *previous = (uint32_t *)llm_arena_take(arena, size, sizeof *previous);
    uint32_t *rank = (uint32_t *)llm_arena_take(arena, size, sizeof *rank); /* of (i, next[i]) */
    llm_heap_entry *heap = (llm_heap_entry *)llm_arena_take(arena, 2 * size, sizeof *heap);
    size_t waiting = 0, passed = 0; /* candidates in the heap; passed over, from the array's end */

    for (size_t i = 0; i < size; i++) {
        ids[i] = bpe->byte_id[(unsigned char)text[i]];
        next[i] = (uint32_t)i + 1;
        previous[i] = (uint32_t)i - 1;
    }
    for (size_t i = 0; i < size; i++) {
        rank[i] = i + 1 < size ? llm_bpe_rank(bpe, ids[i], ids[i + 1]) : UINT32_MAX;
        if (rank[i] != UINT32_MAX) llm_heap_push(heap, &waiting, rank[i], i);
    }
    while (waiting > 0) {
        const llm_heap_entry best = llm_heap_pop(heap, &waiting);
        const size_t i = (size_t)best.tie;
        if (rank[i] != best.key) continue; /* one of the two has been merged since */
        if (rng && llm_rng_uniform(rng) < dropout) {
            heap[2 * size - ++passed] = best;
            continue;
        }
        for (; passed > 0; passed--) {
            const llm_heap_entry again = heap[2 * size - passed];
            llm_heap_push(heap, &waiting, again.key, again.tie);
        }
        ids[i] = bpe->merge[best.key].result;
        rank[next[i]] = UINT32_MAX;
        next[i] = next[next[i]];
        if (next[i] < size) previous[next[i]] = (uint32_t)i;
        for (size_t k = 0; k < 2; k++) { /* the pairs that have changed: from i, and to it */
            const size_t a = k == 0 ? i : previous[i];
            if (a >= size) continue;
            rank[a] = next[a] < size ? llm_bpe_rank(bpe, ids[a], ids[next[a]]) : UINT32_MAX;
            if (rank[a] != UINT32_MAX) llm_heap_push(heap, &waiting, rank[a], a);
        }
    }
    size_t count = 0;
    for (size_t i = 0; i < size; i = next[i]) ids[count++] = ids[i];
    arena->used = mark;
    return count;
}

/* Appends the bytes of the ids. False when memory is out or an id is not in the vocabulary. */
LLM_API bool llm_bpe_decode(llm_buffer *out, const llm_bpe *bpe, const int *ids, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (ids[i] < 0 || (size_t)ids[i] >= bpe->token.count) return false;
        size_t size;
        const char *bytes = llm_vocab_table_bytes(&bpe->token, (size_t)ids[i], &size);
        if (!llm_buffer_put(out, bytes, size)) return false;
    }
    return true;
}

/* @bpe_train ------------------------------------------------ Byte pair encoding: training
 *
 *     count the pre-tokens; then, until the vocabulary is full:
 *         merge the pair (a, b) with the largest sum over words of count(word) #(a b in the word),
 *         of equal ones that with the smallest a, then the smallest b
 *
 * Only the words that hold the merged pair change, so every pair has a list of its words. The best
 * pair comes from a heap, in which counts may be out of date: an entry that no longer agrees with
 * its pair goes back with the right count when it comes up. The work is then about the number of
 * symbols that change, not words times merges. All pairs that a merge creates hold the new token,
 * so the count of an older pair only falls. No token is made twice: between two boundaries that
 * stay, a stretch is merged as if it stood alone, so equal stretches become one token at the same
 * moment.
 *
 * source  Sennrich, Haddow & Birch 2016, "Neural machine translation of rare words with subword
 *         units", algorithm 1; equal pairs in the order of Hugging Face's BpeTrainer
 * needs   error buffer pre_tokenize vocab_table heap bpe
 * see     @tokenizer (wraps the result)
 * topics  -
 */

/* Distinct pre-tokens and how often each occurs. */
typedef struct {
    llm_vocab_table word;
    llm_buffer count; /* of uint64_t, one for each word */
} llm_bpe_train_words;

/* Counted words: none at first, and the way back to none. */
LLM_API llm_bpe_train_words llm_bpe_train_words_empty(void) {
    const llm_buffer none = {NULL, 0, 0};
    const llm_bpe_train_words words = {llm_vocab_table_empty(), none};
    return words;
}
LLM_API void llm_bpe_train_words_free(llm_bpe_train_words *words) {
    llm_vocab_table_free(&words->word);
    llm_buffer_free(&words->count);
}

/* Adds the pre-tokens of a text; a corpus may come in parts, cut between words. False when memory
 * is out. */
LLM_API bool llm_bpe_train_count(llm_bpe_train_words *words, const char *text, size_t size,
                                 llm_pre_tokenize_kind kind) {
    for (size_t at = 0, length; at < size; at += length) {
        const size_t known = words->word.count;
        const uint64_t none = 0;
        length = llm_pre_tokenize(text + at, size - at, kind);
        const int id = llm_vocab_table_add(&words->word, text + at, length);
        if (id < 0) return false;
        if ((size_t)id == known && !llm_buffer_put(&words->count, &none, sizeof none)) return false;
        ((uint64_t *)(void *)words->count.data)[id]++;
    }
    return true;
}

typedef struct {
    uint64_t count;
    size_t list; /* of its words: an index into node, plus 1; 0 is the end */
} llm_bpe_train_pair;

typedef struct {
    size_t word, next;
} llm_bpe_train_node;

typedef struct {
    llm_vocab_table key; /* the two ids of each pair, as bytes: its number is the index into pair */
    llm_buffer pair, node, heap; /* of llm_bpe_train_pair, llm_bpe_train_node, llm_heap_entry */
    size_t waiting;              /* entries in the heap */
    int *symbol;                 /* each word as it stands, from the place of its first byte on */
    size_t *length;              /* (words) in symbols */
} llm_bpe_train_state;

/* Puts pair p into the heap: the largest count is the smallest key. */
LLM_API bool llm_bpe_train_push(llm_bpe_train_state *s, size_t p) {
    const uint64_t count = ((const llm_bpe_train_pair *)(const void *)s->pair.data)[p].count;
    size_t size;
    int id[2];
    memcpy(id, llm_vocab_table_bytes(&s->key, p, &size), sizeof id);
    s->heap.size = s->waiting * sizeof(llm_heap_entry);
    if (!llm_buffer_reserve(&s->heap, sizeof(llm_heap_entry))) return false;
    llm_heap_push((llm_heap_entry *)(void *)s->heap.data, &s->waiting, UINT64_MAX - count,
                  (uint64_t)(uint32_t)id[0] << 32 | (uint32_t)id[1]);
    return true;
}

/* The pair occurs `more` times more and `less` times less in the word. */
LLM_API bool llm_bpe_train_change(llm_bpe_train_state *s, int left, int right, size_t word,
                                  uint64_t more, uint64_t less) {
    const int id[2] = {left, right};
    const size_t known = s->key.count;
    const llm_bpe_train_pair none = {0, 0};
    const int p = llm_vocab_table_add(&s->key, (const char *)id, sizeof id);
    if (p < 0 || ((size_t)p == known && !llm_buffer_put(&s->pair, &none, sizeof none)))
        return false;
    llm_bpe_train_pair *pair = (llm_bpe_train_pair *)(void *)s->pair.data + p;
    pair->count += more - less;
    const llm_bpe_train_node *node = (const llm_bpe_train_node *)(const void *)s->node.data;
    if (more == 0 || (pair->list > 0 && node[pair->list - 1].word == word)) return true;
    const llm_bpe_train_node first = {word, pair->list};
    pair->list = s->node.size / sizeof first + 1;
    return llm_buffer_put(&s->node, &first, sizeof first);
}

/* Does the merge in a word that occurs `count` times, from left to right, and counts the pairs
 * beside it anew; its own pair is done with. */
LLM_API bool llm_bpe_train_word(llm_bpe_train_state *s, llm_bpe_merge m, int *symbol, size_t word,
                                uint64_t count) {
    const size_t n = s->length[word];
    size_t kept = 0;
    bool ok = true;
    for (size_t i = 0; i < n; i++, kept++) {
        symbol[kept] = symbol[i];
        if (i + 1 == n || symbol[i] != m.left || symbol[i + 1] != m.right) continue;
        if (kept > 0)
            ok = ok && llm_bpe_train_change(s, symbol[kept - 1], m.left, word, 0, count) &&
                 llm_bpe_train_change(s, symbol[kept - 1], m.result, word, count, 0);
        if (i + 2 < n)
            ok = ok && llm_bpe_train_change(s, m.right, symbol[i + 2], word, 0, count) &&
                 llm_bpe_train_change(s, m.result, symbol[i + 2], word, count, 0);
        symbol[kept] = m.result;
        i++;
    }
    s->length[word] = kept;
    return ok;
}

/* Merges in bpe until it has `vocab` tokens or no pair occurs `least` times. */
LLM_API bool llm_bpe_train_merge(llm_bpe *bpe, llm_bpe_train_state *s,
                                 const llm_bpe_train_words *words, size_t vocab, uint64_t least) {
    const uint64_t *count = (const uint64_t *)(const void *)words->count.data;
    for (size_t w = 0; w < words->word.count; w++) {
        const char *bytes = llm_vocab_table_bytes(&words->word, w, &s->length[w]);
        int *symbol = s->symbol + (words->word.end[w] - s->length[w]);
        for (size_t i = 0; i < s->length[w]; i++) symbol[i] = bpe->byte_id[(unsigned char)bytes[i]];
        for (size_t i = 0; i + 1 < s->length[w]; i++)
            if (!llm_bpe_train_change(s, symbol[i], symbol[i + 1], w, count[w], 0)) return false;
    }
    for (size_t known = 0; bpe->token.count < vocab;) {
        for (; known < s->key.count; known++) /* the pairs that the last merge has created */
            if (!llm_bpe_train_push(s, known)) return false;
        if (s->waiting == 0) return true;
        const llm_heap_entry best =
            llm_heap_pop((llm_heap_entry *)(void *)s->heap.data, &s->waiting);
        const int id[2] = {(int)(best.tie >> 32), (int)(best.tie & UINT32_MAX)};
        const int p = llm_vocab_table_find(&s->key, (const char *)id, sizeof id);
        const llm_bpe_train_pair pair = ((const llm_bpe_train_pair *)(const void *)s->pair.data)[p];
        if (pair.count < least || pair.count == 0) continue;
        if (pair.count != UINT64_MAX - best.key) { /* out of date */
            if (!llm_bpe_train_push(s, (size_t)p)) return false;
            continue;
        }
        const llm_bpe_merge m = {id[0], id[1], llm_bpe_add(bpe, id[0], id[1])};
        if (m.result < 0) return false;
        llm_bpe_train_node node;
        for (size_t at = pair.list; at > 0; at = node.next) {
            node = ((const llm_bpe_train_node *)(const void *)s->node.data)[at - 1];
            int *symbol = s->symbol + (node.word > 0 ? words->word.end[node.word - 1] : 0);
            if (!llm_bpe_train_word(s, m, symbol, node.word, count[node.word])) return false;
        }
    }
    return true;
}

/* Trains bpe, whatever it held, on counted words. False when memory is out: bpe is then empty. */
LLM_API bool llm_bpe_train_run(llm_bpe *bpe, const llm_bpe_train_words *words, size_t vocab,
                               uint64_t least, llm_error *error) {
    llm_bpe_train_state s;
    memset(&s, 0, sizeof s);
    s.symbol = (int *)calloc(words->word.bytes.size + 1, sizeof *s.symbol);
    s.length = (size_t *)calloc(words->word.count + 1, sizeof *s.length);
    bool ok = llm_bpe_create(bpe) && s.symbol && s.length;
    ok = ok && llm_bpe_train_merge(bpe, &s, words, vocab, least);
    free(s.symbol);
    free(s.length);
    llm_vocab_table_free(&s.key);
    llm_buffer_free(&s.pair);
    llm_buffer_free(&s.node);
    llm_buffer_free(&s.heap);
    if (!ok) llm_bpe_free(bpe);
    return ok || llm_fail(error, "BPE training: out of memory");
}

/* Trains bpe on one text, up to `vocab` tokens, 256 of which are the bytes: fewer where no pair
 * occurs twice any more. */
LLM_API bool llm_bpe_train(llm_bpe *bpe, const char *text, size_t size, llm_pre_tokenize_kind kind,
                           size_t vocab, llm_error *error) {
    llm_bpe_train_words words = llm_bpe_train_words_empty();
    const bool counted = llm_bpe_train_count(&words, text, size, kind);
    const bool ok = counted && llm_bpe_train_run(bpe, &words, vocab, 2, error);
    llm_bpe_train_words_free(&words);
    return ok || (!counted && llm_fail(error, "BPE training: out of memory"));
}

/* @added_tokens --------------------------------------------- Added tokens: strings that are one id
 *
 *     the leftmost added token in the text, of several there the longest; then on behind it
 *
 * Some strings are not left to the merges: control tokens such as <|endoftext|>, and words that
 * were added after training. They are cut out of the text before anything else. A control token
 * ("special") means what no text may mean: the end of a document, the start of the assistant's
 * turn. Where it stands in a user's text it must stay text, or users write as the system; so the
 * caller says whether control tokens may be read.
 *
 * source  Hugging Face tokenizers, AddedVocabulary; tiktoken, allowed_special
 * needs   buffer
 * see     @tokenizer @special_tokens
 * topics  -
 */
typedef struct {
    int id;
    size_t start, size; /* in text */
    bool special;       /* a control token */
    bool normalized;    /* looked for after the others, in what they leave (Hugging Face) */
} llm_added_tokens_one;

typedef struct {
    llm_buffer list; /* of llm_added_tokens_one */
    llm_buffer text;
} llm_added_tokens;

/* The list starts as zeros. This frees it, and makes it zeros again. */
LLM_API void llm_added_tokens_free(llm_added_tokens *a) {
    llm_buffer_free(&a->list);
    llm_buffer_free(&a->text);
}

/* How many there are. */
LLM_API size_t llm_added_tokens_count(const llm_added_tokens *a) {
    return a->list.size / sizeof(llm_added_tokens_one);
}

/* The token of that index, until the next addition, and its text. */
LLM_API const llm_added_tokens_one *llm_added_tokens_get(const llm_added_tokens *a, size_t index,
                                                         const char **text) {
    LLM_ASSERT(index < llm_added_tokens_count(a));
    const llm_added_tokens_one *one =
        (const llm_added_tokens_one *)(const void *)a->list.data + index;
    *text = a->text.data + one->start;
    return one;
}

/* Adds a token; size > 0. False when memory is out. */
LLM_API bool llm_added_tokens_put(llm_added_tokens *a, int id, const char *text, size_t size,
                                  bool special, bool normalized) {
    LLM_ASSERT(size > 0);
    const llm_added_tokens_one one = {id, a->text.size, size, special, normalized};
    return llm_buffer_put(&a->text, text, size) && llm_buffer_put(&a->list, &one, sizeof one);
}

/* The id of the token with that text, or -1. */
LLM_API int llm_added_tokens_find(const llm_added_tokens *a, const char *text, size_t size) {
    for (size_t i = 0; i < llm_added_tokens_count(a); i++) {
        const char *other;
        const llm_added_tokens_one *one = llm_added_tokens_get(a, i, &other);
        if (one->size == size && memcmp(other, text, size) == 0) return one->id;
    }
    return -1;
}

/* The longest token, among those that are `normalized` or those that are not, at the start of text;
 * NULL where there is none. */
LLM_API const llm_added_tokens_one *
llm_added_tokens_match(const llm_added_tokens *a, const char *text, size_t size, bool normalized) {
    const llm_added_tokens_one *best = NULL;
    for (size_t i = 0; i < llm_added_tokens_count(a); i++) {
        const char *other;
        const llm_added_tokens_one *one = llm_added_tokens_get(a, i, &other);
        if (one->normalized != normalized || one->size > size || other[0] != text[0]) continue;
        if (best && best->size >= one->size) continue;
        if (memcmp(other, text, one->size) == 0) best = one;
    }
    return best;
}

/* The first token in text from *at on, or NULL; *at moves to its place (size where there is none).
 * A control token that may not be read hides what overlaps it, and stays text. */
LLM_API const llm_added_tokens_one *llm_added_tokens_next(const llm_added_tokens *a,
                                                          const char *text, size_t size, size_t *at,
                                                          bool normalized, bool special) {
    while (*at < size) {
        const llm_added_tokens_one *one =
            llm_added_tokens_match(a, text + *at, size - *at, normalized);
        if (one && (special || !one->special)) return one;
        *at += one ? one->size : 1;
    }
    return NULL;
}

/* @tokenizer_text ------------------------------------------- Text to ids
 *
 *     ids = added tokens, and between them BPE(pre-token), BPE(pre-token), ...
 *
 * A byte-level tokenizer is four things: the added tokens, the rule that cuts words, the merges,
 * and the numbering. All four come with a model and are used as they are, or the ids mean something
 * else. Natural text repeats its words, so a small cache of encoded words does most of the work.
 *
 * source  Radford et al. 2019, "Language models are unsupervised multitask learners"; Hugging Face
 *         tokenizers
 * needs   error arena buffer pre_tokenize vocab_table bpe added_tokens
 * see     @tokenizer
 * topics  -
 */
typedef struct {
    llm_bpe bpe;
    llm_pre_tokenize_kind pattern;
    bool prefix_space;  /* text that starts with no space gets one (RoBERTa); only with GPT2 */
    bool ignore_merges; /* a pre-token that is a token is that token at once (Llama 3) */
    llm_added_tokens added;
    size_t vocab; /* every id is smaller */
} llm_tokenizer;

enum { LLM_TOKENIZER_TEXT_CACHE = 4096 }; /* words, a power of two */

/* A word of `size` bytes (0: none) and its ids. */
typedef struct {
    unsigned char size, count;
    char word[14];
    int ids[4];
} llm_tokenizer_text_cached;

/* What one call of encode carries along. */
typedef struct {
    int *ids;
    size_t count;
    bool special; /* control tokens are to be read */
    llm_arena arena;
    llm_tokenizer_text_cached *cache; /* (LLM_TOKENIZER_TEXT_CACHE) by hash */
} llm_tokenizer_text_run;

/* Appends the ids of one pre-token. */
LLM_API bool llm_tokenizer_text_word(const llm_tokenizer *t, llm_tokenizer_text_run *run,
                                     const char *text, size_t size) {
    llm_tokenizer_text_cached *c =
        &run->cache[llm_vocab_table_hash(text, size) & (LLM_TOKENIZER_TEXT_CACHE - 1)];
    int *ids = run->ids + run->count;
    if (c->size == size && memcmp(c->word, text, size) == 0) {
        memcpy(ids, c->ids, sizeof c->ids); /* ids has room for it */
        run->count += c->count;
        return true;
    }
    size_t count = 1;
    ids[0] = t->ignore_merges ? llm_vocab_table_find(&t->bpe.token, text, size) : -1;
    if (ids[0] < 0) {
        if (llm_bpe_scratch(size) > run->arena.size) {
            llm_arena_destroy(&run->arena);
            if (!llm_arena_create(&run->arena, 2 * llm_bpe_scratch(size))) return false;
        }
        count = llm_bpe_encode(ids, &t->bpe, text, size, 0.0f, NULL, &run->arena);
    }
    run->count += count;
    if (size <= sizeof c->word && count <= 4) {
        c->size = (unsigned char)size;
        c->count = (unsigned char)count;
        memcpy(c->word, text, size);
        memcpy(c->ids, ids, count * sizeof *ids);
    }
    return true;
}

/* Appends the ids of text (size > 0) without added tokens. */
LLM_API bool llm_tokenizer_text_plain(const llm_tokenizer *t, llm_tokenizer_text_run *run,
                                      const char *text, size_t size) {
    llm_buffer spaced = {NULL, 0, 0};
    bool ok = true;
    if (t->prefix_space && text[0] != ' ') {
        ok = llm_buffer_put(&spaced, " ", 1) && llm_buffer_put(&spaced, text, size);
        text = spaced.data;
        size++;
    }
    for (size_t at = 0, n; at < size && ok; at += n) {
        n = llm_pre_tokenize(text + at, size - at, t->pattern);
        ok = llm_tokenizer_text_word(t, run, text + at, n);
    }
    llm_buffer_free(&spaced);
    return ok;
}

/* Appends the ids of text: cuts out added tokens that are not normalized, then in what is between
 * them those that are, then words. */
LLM_API bool llm_tokenizer_text_part(const llm_tokenizer *t, llm_tokenizer_text_run *run,
                                     const char *text, size_t size, bool normalized) {
    for (size_t start = 0, at = 0; start < size; start = at) {
        const llm_added_tokens_one *one =
            llm_added_tokens_next(&t->added, text, size, &at, normalized, run->special);
        const char *part = text + start;
        const bool ok =
            at == start || (normalized ? llm_tokenizer_text_plain(t, run, part, at - start)
                                       : llm_tokenizer_text_part(t, run, part, at - start, true));
        if (!ok) return false;
        if (one) run->ids[run->count++] = one->id;
        if (one) at += one->size;
    }
    return true;
}

/* *ids (*count, from malloc) <- text; special: its control tokens become their ids. */
LLM_API bool llm_tokenizer_text_encode(const llm_tokenizer *t, int **ids, size_t *count,
                                       const char *text, size_t size, bool special,
                                       llm_error *error) {
    llm_tokenizer_text_run run;
    memset(&run, 0, sizeof run);
    *ids = NULL;
    *count = 0;
    if (size > INT_MAX - 2) return llm_fail(error, "text of %zu bytes: expected below 2^31", size);
    /* an id for each byte and each space put in front of one; room for a cached word behind them */
    run.ids = (int *)calloc(2 * size + 4, sizeof *run.ids);
    run.cache = (llm_tokenizer_text_cached *)calloc(LLM_TOKENIZER_TEXT_CACHE, sizeof *run.cache);
    run.special = special;
    const bool ok = run.cache && run.ids && llm_tokenizer_text_part(t, &run, text, size, false);
    llm_arena_destroy(&run.arena);
    free(run.cache);
    if (ok) *ids = (int *)realloc(run.ids, (run.count + 1) * sizeof *run.ids);
    if (*ids) *count = run.count;
    if (!*ids) free(run.ids);
    return *ids || llm_fail(error, "tokenizing %zu bytes: out of memory", size);
}

/* @tokenizer_vocab ------------------------------------------ Vocabulary and merges from a file
 *
 *     vocab:  {"e": 68, "\u0120": 220, "\u0120the": 262, ...}
 *     merges: "\u0120 t", "\u0120t he", ..., or ["\u0120", "t"], ...         in order of rank
 *
 * The two parts that every byte-level BPE file has, in byte-level spelling. They come from outside,
 * so each id, spelling and merge is checked: ids are whole numbers, each given once, without large
 * gaps (or a short file could ask for gigabytes); all 256 bytes are there; both halves of a merge
 * and what they make are tokens. A token in the vocabulary that is no byte-level spelling is
 * accepted only if it is an added token, whose text is taken literally.
 *
 * source  Radford et al. 2019, "Language models are unsupervised multitask learners" (its files)
 * needs   error buffer json vocab_table byte_level bpe added_tokens tokenizer_text
 * see     @tokenizer_json @tokenizer
 * topics  -
 */

/* The whole number below `limit` in a node, SIZE_MAX where it is something else or v is NULL. */
LLM_API size_t llm_tokenizer_vocab_number(const llm_json_node *v, size_t limit) {
    if (!v || v->kind != LLM_JSON_NUMBER || !(v->number >= 0.0 && v->number < (double)limit))
        return SIZE_MAX;
    return v->number == floor(v->number) ? (size_t)v->number : SIZE_MAX;
}

/* Gives the next id, t->bpe.token.count, to the token that v spells, or to none where v is NULL. */
LLM_API bool llm_tokenizer_vocab_put(llm_tokenizer *t, const llm_json_node *v, llm_error *error) {
    const int id = (int)t->bpe.token.count;
    const char *wrong = "out of memory";
    llm_buffer bytes = {NULL, 0, 0};
    size_t bad;
    bool ok = false;
    const bool spelt = v && llm_byte_level_read(&bytes, &bad, v->key, v->key_size);
    const bool foreign = v && !spelt && bad < v->key_size;
    if (spelt && bytes.size == 0) {
        wrong = "is empty";
    } else if (spelt) {
        const int got = llm_vocab_table_add(&t->bpe.token, bytes.data, bytes.size);
        ok = got == id;
        if (got >= 0) wrong = "is there twice";
        if (ok && bytes.size == 1) t->bpe.byte_id[(unsigned char)bytes.data[0]] = id;
    } else if (foreign && llm_added_tokens_find(&t->added, v->key, v->key_size) != id) {
        wrong = "is not spelt in byte-level characters";
    } else if (foreign || !v) {
        ok = llm_vocab_table_skip(&t->bpe.token);
    }
    llm_buffer_free(&bytes);
    return ok || llm_fail(error, "vocab, id %d: \"%.60s\" %s", id, v ? v->key : "", wrong);
}

/* Reads {"spelling": id, ...} into t, which has its added tokens and no others. */
LLM_API bool llm_tokenizer_vocab_read(llm_tokenizer *t, const llm_json *j,
                                      const llm_json_node *vocab, llm_error *error) {
    if (!vocab || vocab->kind != LLM_JSON_OBJECT)
        return llm_fail(error, "vocab: expected an object of ids");
    const size_t limit = 2 * vocab->count + 1024;
    const llm_json_node **at = (const llm_json_node **)calloc(limit, sizeof *at);
    size_t count = 0;
    bool ok = at || llm_fail(error, "vocab: out of memory");
    for (const llm_json_node *v = llm_json_first(j, vocab); v && ok; v = llm_json_next(j, v)) {
        const size_t id = llm_tokenizer_vocab_number(v, limit);
        if (id == SIZE_MAX) {
            ok = llm_fail(error, "vocab, \"%.60s\": expected an id below %zu", v->key, limit);
        } else if (at[id]) {
            ok = llm_fail(error, "vocab, id %zu: given to \"%.60s\" and to \"%.60s\"", id,
                          at[id]->key, v->key);
        } else {
            at[id] = v;
            if (id >= count) count = id + 1;
        }
    }
    for (size_t id = 0; id < count && ok; id++) ok = llm_tokenizer_vocab_put(t, at[id], error);
    free(at);
    for (unsigned b = 0; b < 256 && ok; b++)
        if (t->bpe.byte_id[b] < 0) ok = llm_fail(error, "vocab: byte 0x%02x has no token", b);
    if (count > t->vocab) t->vocab = count;
    return ok;
}

/* Appends the merge of two spellings. */
LLM_API bool llm_tokenizer_vocab_merge(llm_tokenizer *t, const char *left, size_t left_size,
                                       const char *right, size_t right_size, llm_error *error) {
    const char *const text[2] = {left, right};
    const size_t size[2] = {left_size, right_size}, rank = t->bpe.merges;
    const size_t known = t->bpe.token.count;
    int id[2] = {-1, -1};
    for (size_t i = 0; i < 2; i++) {
        llm_buffer bytes = {NULL, 0, 0};
        size_t bad;
        const bool spelt = llm_byte_level_read(&bytes, &bad, text[i], size[i]);
        if (spelt) id[i] = llm_vocab_table_find(&t->bpe.token, bytes.data, bytes.size);
        llm_buffer_free(&bytes);
        if (!spelt && bad == size[i]) return llm_fail(error, "merges: out of memory");
        if (id[i] < 0)
            return llm_fail(error, "merges, %zu: \"%.*s\" is not in the vocabulary", rank,
                            size[i] < 60 ? (int)size[i] : 60, text[i]);
    }
    if (llm_bpe_add(&t->bpe, id[0], id[1]) < 0) return llm_fail(error, "merges: out of memory");
    return t->bpe.token.count == known ||
           llm_fail(error, "merges, %zu: the result is not in the vocabulary", rank);
}

/* Reads ["left right", ...] or [["left", "right"], ...]. */
LLM_API bool llm_tokenizer_vocab_merges(llm_tokenizer *t, const llm_json *j,
                                        const llm_json_node *merges, llm_error *error) {
    if (!merges || merges->kind != LLM_JSON_ARRAY)
        return llm_fail(error, "merges: expected an array");
    bool ok = true;
    for (const llm_json_node *v = llm_json_first(j, merges); v && ok; v = llm_json_next(j, v)) {
        const llm_json_node *a = llm_json_first(j, v), *b = a ? llm_json_next(j, a) : NULL;
        const char *space =
            v->kind == LLM_JSON_STRING ? (const char *)memchr(v->text, ' ', v->text_size) : NULL;
        if (space)
            ok = llm_tokenizer_vocab_merge(t, v->text, (size_t)(space - v->text), space + 1,
                                           v->text_size - (size_t)(space + 1 - v->text), error);
        else if (v->kind == LLM_JSON_ARRAY && v->count == 2 && a->kind == LLM_JSON_STRING &&
                 b->kind == LLM_JSON_STRING)
            ok = llm_tokenizer_vocab_merge(t, a->text, a->text_size, b->text, b->text_size, error);
        else
            ok = llm_fail(error, "merges, %zu: expected \"left right\" or [\"left\", \"right\"]",
                          t->bpe.merges);
    }
    return ok;
}

/* Reads lines "left right". Empty lines and those that begin with "#version" are passed over. */
LLM_API bool llm_tokenizer_vocab_lines(llm_tokenizer *t, const char *text, size_t size,
                                       llm_error *error) {
    for (size_t at = 0, line = 1; at < size; line++) {
        const char *start = text + at, *end = (const char *)memchr(start, '\n', size - at);
        size_t n = end ? (size_t)(end - start) : size - at;
        at += n + 1;
        if (n > 0 && start[n - 1] == '\r') n--;
        if (n == 0 || (n >= 8 && memcmp(start, "#version", 8) == 0)) continue;
        const char *space = (const char *)memchr(start, ' ', n);
        if (!space) return llm_fail(error, "merges, line %zu: expected \"left right\"", line);
        const size_t left = (size_t)(space - start);
        if (!llm_tokenizer_vocab_merge(t, start, left, space + 1, n - left - 1, error))
            return false;
    }
    return true;
}

/* @tokenizer_json ------------------------------------------- The parts of a tokenizer.json
 *
 *     {"added_tokens": [{"id": 1, "content": "<|x|>", "special": true}], "normalizer": null,
 *      "pre_tokenizer": {"type": "ByteLevel"}, "decoder": {"type": "ByteLevel"},
 *      "model": {"type": "BPE", "vocab": {}, "merges": []}}
 *
 * Hugging Face's file describes a pipeline of parts of many types. A reader that passes over a part
 * it does not know gives ids that are almost right, the worst kind of wrong; so whatever acts on
 * text and is not byte-level BPE is refused by name. Truncation, padding and post-processor are not
 * read: they act on ids.
 *
 * source  Hugging Face tokenizers, the file format
 * needs   error buffer json pre_tokenize vocab_table byte_level added_tokens tokenizer_text
 *         tokenizer_vocab
 * see     @tokenizer_save (the way back), @tokenizer
 * topics  -
 */

/* A member that is a string, "" where it is none or object is NULL. */
LLM_API const char *llm_tokenizer_json_text(const llm_json *j, const llm_json_node *object,
                                            const char *key) {
    const llm_json_node *v = object ? llm_json_get(j, object, key) : NULL;
    return v && v->kind == LLM_JSON_STRING ? v->text : "";
}

/* A member that is true or false, `absent` where it is neither. */
LLM_API bool llm_tokenizer_json_flag(const llm_json *j, const llm_json_node *object,
                                     const char *key, bool absent) {
    const llm_json_node *v = llm_json_get(j, object, key);
    return v && (v->kind == LLM_JSON_TRUE || v->kind == LLM_JSON_FALSE) ? v->kind == LLM_JSON_TRUE
                                                                        : absent;
}

/* The added tokens, whose ids must be below `limit`. */
LLM_API bool llm_tokenizer_json_added(llm_tokenizer *t, const llm_json *j,
                                      const llm_json_node *list, size_t limit, llm_error *error) {
    static const char *const flag[3] = {"single_word", "lstrip", "rstrip"};
    if (!list || list->kind == LLM_JSON_NULL) return true;
    if (list->kind != LLM_JSON_ARRAY) return llm_fail(error, "added_tokens: expected an array");
    size_t i = 0;
    for (const llm_json_node *v = llm_json_first(j, list); v; v = llm_json_next(j, v), i++) {
        const llm_json_node *text = llm_json_get(j, v, "content");
        const size_t id = llm_tokenizer_vocab_number(llm_json_get(j, v, "id"), limit);
        if (!text || text->kind != LLM_JSON_STRING || text->text_size == 0)
            return llm_fail(error, "added_tokens, %zu: expected a content", i);
        if (id == SIZE_MAX)
            return llm_fail(error, "added_tokens, \"%.60s\": expected an id below %zu", text->text,
                            limit);
        for (size_t k = 0; k < 3; k++)
            if (llm_tokenizer_json_flag(j, v, flag[k], false))
                return llm_fail(error, "added_tokens, \"%.60s\": %s is not supported", text->text,
                                flag[k]);
        if (llm_added_tokens_find(&t->added, text->text, text->text_size) >= 0)
            return llm_fail(error, "added_tokens, \"%.60s\": is there twice", text->text);
        if (!llm_added_tokens_put(&t->added, (int)id, text->text, text->text_size,
                                  llm_tokenizer_json_flag(j, v, "special", false),
                                  llm_tokenizer_json_flag(j, v, "normalized", true)))
            return llm_fail(error, "added_tokens: out of memory");
        if (id >= t->vocab) t->vocab = id + 1;
    }
    return true;
}

/* An added token that is spelt like one of the vocabulary has its id, any other has a free one. */
LLM_API bool llm_tokenizer_json_agree(const llm_tokenizer *t, llm_error *error) {
    for (size_t i = 0; i < llm_added_tokens_count(&t->added); i++) {
        const char *text;
        const llm_added_tokens_one *one = llm_added_tokens_get(&t->added, i, &text);
        llm_buffer bytes = {NULL, 0, 0};
        size_t bad, size = 0;
        int same = -1;
        const bool spelt = llm_byte_level_read(&bytes, &bad, text, one->size);
        if (spelt) same = llm_vocab_table_find(&t->bpe.token, bytes.data, bytes.size);
        llm_buffer_free(&bytes);
        if (!spelt && bad == one->size) return llm_fail(error, "added_tokens: out of memory");
        if (same < 0 && (size_t)one->id < t->bpe.token.count)
            llm_vocab_table_bytes(&t->bpe.token, (size_t)one->id, &size);
        if (size > 0 || (same >= 0 && same != one->id))
            return llm_fail(error, "added_tokens, %zu: id %d is not that of the vocabulary", i,
                            one->id);
    }
    return true;
}

/* The rule that cuts words: ByteLevel with GPT-2's pattern, or a Split with one of @pre_tokenize
 * and behind it a ByteLevel that does not cut. */
LLM_API bool llm_tokenizer_json_pattern(llm_tokenizer *t, const llm_json *j,
                                        const llm_json_node *pre, llm_error *error) {
    const llm_json_node *split = NULL, *bytes = pre;
    if (strcmp(llm_tokenizer_json_text(j, pre, "type"), "Sequence") == 0) {
        const llm_json_node *parts = llm_json_get(j, pre, "pretokenizers");
        split = parts && parts->count == 2 ? llm_json_first(j, parts) : NULL;
        bytes = split ? llm_json_next(j, split) : NULL;
        if (!bytes || strcmp(llm_tokenizer_json_text(j, split, "type"), "Split") != 0)
            return llm_fail(error, "pre_tokenizer: expected Split and ByteLevel in the Sequence");
    }
    const char *type = llm_tokenizer_json_text(j, bytes, "type");
    if (strcmp(type, "ByteLevel") != 0)
        return llm_fail(error, "pre_tokenizer: found \"%.60s\", expected ByteLevel", type);
    if (llm_tokenizer_json_flag(j, bytes, "use_regex", true) != !split)
        return llm_fail(error, "pre_tokenizer: expected either Split or use_regex");
    t->prefix_space = llm_tokenizer_json_flag(j, bytes, "add_prefix_space", true);
    if (!split) return true;
    if (t->prefix_space) /* it would stand in front of every word */
        return llm_fail(error, "pre_tokenizer: add_prefix_space is not supported behind Split");
    const char *behavior = llm_tokenizer_json_text(j, split, "behavior");
    const bool invert = llm_tokenizer_json_flag(j, split, "invert", false);
    if (strcmp(behavior, invert ? "Removed" : "Isolated") != 0) /* the two that keep all the text */
        return llm_fail(error, "pre_tokenizer, Split: behavior \"%.60s\" is not supported",
                        behavior);
    const char *text = llm_tokenizer_json_text(j, llm_json_get(j, split, "pattern"), "Regex");
    for (int kind = 0; kind <= LLM_PRE_TOKENIZE_QWEN2; kind++) {
        t->pattern = (llm_pre_tokenize_kind)kind;
        if (strcmp(text, llm_pre_tokenize_pattern(t->pattern)) == 0) return true;
    }
    return llm_fail(error, "pre_tokenizer, Split: pattern \"%.150s\" is not supported", text);
}

/* Fills t, which holds an empty BPE and zeros. On failure it holds a part, and is to be freed. */
LLM_API bool llm_tokenizer_json_read(llm_tokenizer *t, const llm_json *j, llm_error *error) {
    static const char *const none[2] = {"continuing_subword_prefix", "end_of_word_suffix"};
    const llm_json_node *root = j->node, *model = llm_json_get(j, root, "model");
    const llm_json_node *normalizer = llm_json_get(j, root, "normalizer");
    const llm_json_node *decoder = llm_json_get(j, root, "decoder");
    const char *type = llm_tokenizer_json_text(j, model, "type"); /* old files have none */
    if (!model || (strcmp(type, "BPE") != 0 && (*type || !llm_json_get(j, model, "merges"))))
        return llm_fail(error, "model: found type \"%.60s\", expected BPE", type);
    for (size_t i = 0; i < 2; i++)
        if (llm_tokenizer_json_text(j, model, none[i])[0])
            return llm_fail(error, "model: %s is not supported", none[i]);
    const llm_json_node *dropout = llm_json_get(j, model, "dropout");
    if (dropout && dropout->kind != LLM_JSON_NULL && dropout->number != 0.0)
        return llm_fail(error, "model: dropout is not supported");
    if (llm_tokenizer_json_flag(j, model, "byte_fallback", false))
        return llm_fail(error, "model: byte_fallback is not supported");
    if (normalizer && normalizer->kind != LLM_JSON_NULL)
        return llm_fail(error, "normalizer: \"%.60s\" is not supported",
                        llm_tokenizer_json_text(j, normalizer, "type"));
    type = llm_tokenizer_json_text(j, decoder, "type");
    if (strcmp(type, "ByteLevel") != 0)
        return llm_fail(error, "decoder: found \"%.60s\", expected ByteLevel", type);
    t->ignore_merges = llm_tokenizer_json_flag(j, model, "ignore_merges", false);

    const llm_json_node *vocab = llm_json_get(j, model, "vocab");
    const llm_json_node *added = llm_json_get(j, root, "added_tokens");
    const size_t limit = 2 * ((vocab ? vocab->count : 0) + (added ? added->count : 0)) + 1024;
    return llm_tokenizer_json_pattern(t, j, llm_json_get(j, root, "pre_tokenizer"), error) &&
           llm_tokenizer_json_added(t, j, added, limit, error) &&
           llm_tokenizer_vocab_read(t, j, vocab, error) && llm_tokenizer_json_agree(t, error) &&
           llm_tokenizer_vocab_merges(t, j, llm_json_get(j, model, "merges"), error);
}

/* @tokenizer_save ------------------------------------------- Write a tokenizer.json
 *
 *     {"added_tokens": [...], "pre_tokenizer": {...}, "decoder": {...},
 *      "model": {"vocab": {spelling: id, ...}, "merges": [[spelling, spelling], ...]}}
 *
 * The form that Hugging Face's tokenizers and transformers load, so that what is trained here can
 * be used there with equal ids. Ids of gaps are left out; an added token without a spelling of
 * bytes keeps its id only if it stands in the vocabulary, as its text.
 *
 * source  Hugging Face tokenizers, the file format
 * needs   error buffer file json_put pre_tokenize vocab_table byte_level added_tokens
 *         tokenizer_text
 * see     @tokenizer_json (the way back), @tokenizer
 * topics  -
 */

/* Appends {"spelling":id,...}. Gaps are left out, but for those that belong to an added token. */
LLM_API bool llm_tokenizer_save_vocab(const llm_tokenizer *t, llm_buffer *out) {
    llm_buffer spelling = {NULL, 0, 0};
    bool ok = llm_buffer_print(out, "{");
    for (size_t id = 0; id < t->bpe.token.count && ok; id++) {
        size_t size;
        const char *bytes = llm_vocab_table_bytes(&t->bpe.token, id, &size);
        spelling.size = 0;
        ok = llm_byte_level_spell(&spelling, bytes, size);
        for (size_t i = 0; i < llm_added_tokens_count(&t->added) && size == 0 && ok; i++) {
            const llm_added_tokens_one *one = llm_added_tokens_get(&t->added, i, &bytes);
            if (one->id == (int)id) ok = llm_buffer_put(&spelling, bytes, one->size);
        }
        if (spelling.size == 0) continue;
        ok = ok && llm_buffer_print(out, id > 0 ? ",\n" : "\n") &&
             llm_json_put_string(out, spelling.data, spelling.size) &&
             llm_buffer_print(out, ":%zu", id);
    }
    llm_buffer_free(&spelling);
    return ok && llm_buffer_print(out, "}");
}

/* Appends [["left","right"],...]. */
LLM_API bool llm_tokenizer_save_merges(const llm_tokenizer *t, llm_buffer *out) {
    llm_buffer spelling = {NULL, 0, 0};
    bool ok = llm_buffer_print(out, "[");
    for (size_t r = 0; r < t->bpe.merges && ok; r++) {
        const int id[2] = {t->bpe.merge[r].left, t->bpe.merge[r].right};
        for (size_t i = 0; i < 2 && ok; i++) {
            size_t size;
            const char *bytes = llm_vocab_table_bytes(&t->bpe.token, (size_t)id[i], &size);
            spelling.size = 0;
            ok = llm_byte_level_spell(&spelling, bytes, size) &&
                 llm_buffer_print(out, i == 1  ? ","
                                       : r > 0 ? ",\n["
                                               : "\n[") &&
                 llm_json_put_string(out, spelling.data, spelling.size);
        }
        ok = ok && llm_buffer_print(out, "]");
    }
    llm_buffer_free(&spelling);
    return ok && llm_buffer_print(out, "]");
}

/* Appends the list of added tokens and the pre-tokenizer. */
LLM_API bool llm_tokenizer_save_parts(const llm_tokenizer *t, llm_buffer *out) {
    bool ok = llm_buffer_print(out, "\"added_tokens\":[");
    for (size_t i = 0; i < llm_added_tokens_count(&t->added) && ok; i++) {
        const char *text;
        const llm_added_tokens_one *one = llm_added_tokens_get(&t->added, i, &text);
        ok = llm_buffer_print(out, "%s{\"id\":%d,\"content\":", i > 0 ? ",\n" : "\n", one->id) &&
             llm_json_put_string(out, text, one->size) &&
             llm_buffer_print(out,
                              ",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,"
                              "\"normalized\":%s,\"special\":%s}",
                              one->normalized ? "true" : "false", one->special ? "true" : "false");
    }
    ok = ok && llm_buffer_print(out, "],\n\"normalizer\":null,\n\"pre_tokenizer\":");
    const bool split = t->pattern != LLM_PRE_TOKENIZE_GPT2; /* ByteLevel's own */
    const char *pattern = llm_pre_tokenize_pattern(t->pattern);
    if (split)
        ok =
            ok &&
            llm_buffer_print(out, "{\"type\":\"Sequence\",\"pretokenizers\":[\n{\"type\":\"Split\","
                                  "\"pattern\":{\"Regex\":") &&
            llm_json_put_string(out, pattern, strlen(pattern)) &&
            llm_buffer_print(out, "},\"behavior\":\"Isolated\",\"invert\":false},\n");
    return ok && llm_buffer_print(out,
                                  "{\"type\":\"ByteLevel\",\"add_prefix_space\":%s,"
                                  "\"trim_offsets\":true,\"use_regex\":%s}%s",
                                  t->prefix_space ? "true" : "false", split ? "false" : "true",
                                  split ? "]}" : "");
}

/* Writes t as a tokenizer.json. */
LLM_API bool llm_tokenizer_save_json(const llm_tokenizer *t, const char *path, llm_error *error) {
    llm_buffer out = {NULL, 0, 0};
    bool ok =
        llm_buffer_print(&out,
                         "{\"version\":\"1.0\",\n\"truncation\":null,\n\"padding\":null,\n") &&
        llm_tokenizer_save_parts(t, &out) &&
        llm_buffer_print(&out,
                         ",\n\"post_processor\":null,\n\"decoder\":{\"type\":\"ByteLevel\","
                         "\"add_prefix_space\":true,\"trim_offsets\":true,\"use_regex\":true},"
                         "\n\"model\":{\"type\":\"BPE\",\"dropout\":null,\"unk_token\":null,"
                         "\"continuing_subword_prefix\":null,\"end_of_word_suffix\":null,"
                         "\"fuse_unk\":false,\"byte_fallback\":false,\"ignore_merges\":%s,"
                         "\n\"vocab\":",
                         t->ignore_merges ? "true" : "false") &&
        llm_tokenizer_save_vocab(t, &out) && llm_buffer_print(&out, ",\n\"merges\":") &&
        llm_tokenizer_save_merges(t, &out) && llm_buffer_print(&out, "}}\n");
    const bool spaced = t->prefix_space && t->pattern != LLM_PRE_TOKENIZE_GPT2;
    if (!ok) llm_fail(error, "tokenizer %.100s: out of memory", path);
    if (spaced) ok = llm_fail(error, "tokenizer %.100s: only GPT-2's pattern takes a space", path);
    ok = ok && llm_file_write(path, out.data, out.size, error);
    llm_buffer_free(&out);
    return ok;
}

/* @tokenizer ------------------------------------------------ Tokenizer
 *
 *     encode: bytes -> ids        decode: ids -> bytes        decode(encode(x)) = x
 *
 * What a program uses. A tokenizer comes from a trained BPE or from files: Hugging Face's
 * tokenizer.json, which holds everything, or GPT-2's vocab.json and merges.txt, which hold ids and
 * merges while the rest is known. llm_tokenizer_encode takes text from outside, in which the name
 * of a control token is only text; llm_tokenizer_encode_special reads control tokens, for text that
 * the program has put together itself. Neither adds any in front or behind (@bos, @eos).
 *
 * source  Radford et al. 2019, "Language models are unsupervised multitask learners" (its files);
 *         Hugging Face tokenizers
 * needs   error buffer file json unicode pre_tokenize vocab_table bpe added_tokens tokenizer_text
 *         tokenizer_vocab tokenizer_json
 * see     @tokenizer_save (llm_tokenizer_save_json), @bpe_train
 * topics  Tokenizer
 */

LLM_API void llm_tokenizer_free(llm_tokenizer *t) {
    llm_bpe_free(&t->bpe);
    llm_added_tokens_free(&t->added);
    t->vocab = 0;
}

/* A tokenizer of a trained BPE, which becomes empty: its memory now belongs to t. */
LLM_API void llm_tokenizer_from_bpe(llm_tokenizer *t, llm_bpe *bpe, llm_pre_tokenize_kind pattern) {
    memset(t, 0, sizeof *t);
    t->bpe = *bpe;
    t->pattern = pattern;
    t->vocab = bpe->token.count;
    *bpe = llm_bpe_empty();
}

/* The id of an added token, or -1. */
LLM_API int llm_tokenizer_id(const llm_tokenizer *t, const char *text) {
    return llm_added_tokens_find(&t->added, text, strlen(text));
}

/* Adds a control token. It takes the id of a token with the same bytes, if there is one, or else
 * t->vocab. */
LLM_API bool llm_tokenizer_add_special(llm_tokenizer *t, const char *text, llm_error *error) {
    const size_t size = strlen(text);
    if (size == 0 || !llm_unicode_valid(text, size))
        return llm_fail(error, "control token \"%.60s\": expected UTF-8, not empty", text);
    if (llm_tokenizer_id(t, text) >= 0)
        return llm_fail(error, "control token \"%.60s\": is there already", text);
    int id = llm_vocab_table_find(&t->bpe.token, text, size);
    if (id < 0 && t->vocab < INT_MAX) id = (int)t->vocab;
    if (id < 0 || !llm_added_tokens_put(&t->added, id, text, size, true, false))
        return llm_fail(error, "control token \"%.60s\": out of memory", text);
    if ((size_t)id == t->vocab) t->vocab++;
    return true;
}

/* Reads the parsed text of a tokenizer.json, or of a vocab.json when there are merges (else
 * NULL). */
LLM_API bool llm_tokenizer_parse(llm_tokenizer *t, const llm_file *text, const llm_file *merges,
                                 llm_error *error) {
    static const char end[] = "<|endoftext|>";
    llm_json j;
    if (!llm_json_parse(&j, (const char *)text->data, text->size, error)) return false;
    bool ok;
    if (merges) {
        ok = llm_tokenizer_vocab_read(t, &j, j.node, error) &&
             llm_tokenizer_vocab_lines(t, (const char *)merges->data, merges->size, error);
        if (ok && llm_vocab_table_find(&t->bpe.token, end, strlen(end)) >= 0)
            ok = llm_tokenizer_add_special(t, end, error);
    } else {
        ok = llm_tokenizer_json_read(t, &j, error);
    }
    llm_json_free(&j);
    return ok;
}

/* Loads a tokenizer.json, or from a directory its tokenizer.json, or if it has none its vocab.json
 * and merges.txt: with GPT-2's pattern, and <|endoftext|> as control token if the vocabulary has
 * it. */
LLM_API bool llm_tokenizer_load(llm_tokenizer *t, const char *path, llm_error *error) {
    static const char *const name[3] = {"/tokenizer.json", "/vocab.json", ""};
    llm_bpe none = llm_bpe_empty();
    llm_tokenizer_from_bpe(t, &none, LLM_PRE_TOKENIZE_GPT2);
    llm_buffer full = {NULL, 0, 0}, list = {NULL, 0, 0};
    llm_file text, merges;
    memset(&text, 0, sizeof text);
    memset(&merges, 0, sizeof merges);
    llm_error inner;
    inner.message[0] = 0;
    size_t form = 0;
    bool ok = true;
    for (FILE *stream = NULL; form < 3 && ok && !stream; form += !stream) {
        full.size = 0;
        ok = llm_buffer_print(&full, "%s%s", path, name[form]);
        stream = ok ? fopen(full.data, "rb") : NULL;
        if (stream) fclose(stream);
    }
    ok = ok && llm_buffer_print(&list, "%s/merges.txt", path);
    if (!ok) llm_fail(&inner, "out of memory");
    ok = ok && llm_file_read(&text, full.data, &inner) &&
         (form != 1 || llm_file_read(&merges, list.data, &inner)) &&
         llm_tokenizer_parse(t, &text, form == 1 ? &merges : NULL, &inner);
    llm_file_free(&text);
    llm_file_free(&merges);
    llm_buffer_free(&full);
    llm_buffer_free(&list);
    if (!ok) llm_tokenizer_free(t);
    return ok || llm_fail(error, "tokenizer %.100s: %s", path, inner.message);
}

/* *ids (*count, from malloc) <- text from anywhere: control tokens in it are read as text. */
LLM_API bool llm_tokenizer_encode(const llm_tokenizer *t, int **ids, size_t *count,
                                  const char *text, size_t size, llm_error *error) {
    return llm_tokenizer_text_encode(t, ids, count, text, size, false, error);
}

/* The same for text of the program's own: control tokens become their ids. */
LLM_API bool llm_tokenizer_encode_special(const llm_tokenizer *t, int **ids, size_t *count,
                                          const char *text, size_t size, llm_error *error) {
    return llm_tokenizer_text_encode(t, ids, count, text, size, true, error);
}

/* Appends the bytes of the ids, control tokens by their names. The bytes of one id need not be
 * whole characters. */
LLM_API bool llm_tokenizer_decode(const llm_tokenizer *t, llm_buffer *out, const int *ids,
                                  size_t count, llm_error *error) {
    for (size_t i = 0; i < count; i++) {
        const char *bytes = "";
        size_t size = 0;
        if (ids[i] >= 0 && (size_t)ids[i] < t->bpe.token.count)
            bytes = llm_vocab_table_bytes(&t->bpe.token, (size_t)ids[i], &size);
        for (size_t k = 0; k < llm_added_tokens_count(&t->added) && size == 0; k++) {
            const llm_added_tokens_one *one = llm_added_tokens_get(&t->added, k, &bytes);
            if (one->id == ids[i]) size = one->size;
        }
        if (size == 0)
            return llm_fail(error, "token %zu of %zu: found id %d, expected one of the vocabulary",
                            i, count, ids[i]);
        if (!llm_buffer_put(out, bytes, size)) return llm_fail(error, "decoding: out of memory");
    }
    return true;
}

/* @12-attn ================================================== ATTENTION AND POSITION */

/* @qkv ------------------------------------------------------ Query, key and value projections
 *
 *     q = x W_Q^T    k = x W_K^T    v = x W_V^T           one matmul: W = [W_Q; W_K; W_V]
 *
 * Attention looks at its input in three ways: what a position asks for (q), under what it can be
 * found (k), and what it hands over (v). They must be different maps: with W_Q = W_K scores would
 * be symmetric, and j would matter to i exactly as much as i to j. The three weights stand in one
 * matrix, so that x is read once; the rows of the product are then split into heads, (B,H,T,D), the
 * order in which attention reads them. Queries may have more heads than keys and values (@gqa).
 *
 * Files arrange these weights in three ways, all of the same size:
 *     rows [Q heads | K heads | V heads]      this section, Phi-3; Llama's three matrices in a row
 *     the transpose of that                   GPT-2, whose Conv1D stores (in, out)
 *     rows head by head, q k v of each        GPT-NeoX, BLOOM
 * Models that normalise q and k (Qwen 3, Gemma 3) do it head by head: llm_rmsnorm_forward over the
 * B H T rows of D, before any rotation.
 *
 * source  Vaswani et al. 2017, "Attention Is All You Need", section 3.2.2
 * needs   matmul
 * see     @causal_attn (reads the fused rows), @gqa, @mha, @rope, @rmsnorm
 * topics  Query, Key, Value (QKV)
 */

/* B texts of T positions and C channels; H query heads and Hkv key/value heads of D dimensions. */
typedef struct {
    size_t B, T, C, H, Hkv, D;
} llm_qkv_config;

/* Hkv = H and D = C / H. */
LLM_API llm_qkv_config llm_qkv_defaults(size_t B, size_t T, size_t C, size_t H) {
    LLM_ASSERT(H > 0 && C % H == 0);
    llm_qkv_config c;
    c.B = B, c.T = T, c.C = C, c.H = c.Hkv = H, c.D = C / H;
    return c;
}

/* q (B,H,T,D), k, v (B,Hkv,T,D) <- qkv (B,T,(H+2Hkv)D). */
LLM_API void llm_qkv_split(float *q, float *k, float *v, const float *qkv,
                           const llm_qkv_config *c) {
    const size_t D = c->D;
    LLM_PARALLEL_FOR
    for (size_t bt = 0; bt < c->B * c->T; bt++) {
        float *const part[3] = {q, k, v};
        const float *from = qkv + bt * (c->H + 2 * c->Hkv) * D;
        for (size_t n = 0; n < 3; n++) {
            const size_t H = n == 0 ? c->H : c->Hkv;
            for (size_t h = 0; h < H; h++, from += D) {
                float *to = part[n] + ((bt / c->T * H + h) * c->T + bt % c->T) * D;
                memcpy(to, from, D * sizeof(float));
            }
        }
    }
}

/* qkv <- q, k, v: the inverse, and with gradients in all four places the backward pass. */
LLM_API void llm_qkv_merge(float *qkv, const float *q, const float *k, const float *v,
                           const llm_qkv_config *c) {
    const size_t D = c->D;
    LLM_PARALLEL_FOR
    for (size_t bt = 0; bt < c->B * c->T; bt++) {
        const float *const part[3] = {q, k, v};
        float *to = qkv + bt * (c->H + 2 * c->Hkv) * D;
        for (size_t n = 0; n < 3; n++) {
            const size_t H = n == 0 ? c->H : c->Hkv;
            for (size_t h = 0; h < H; h++, to += D) {
                const float *from = part[n] + ((bt / c->T * H + h) * c->T + bt % c->T) * D;
                memcpy(to, from, D * sizeof(float));
            }
        }
    }
}

/* q (B,H,T,D), k, v (B,Hkv,T,D) <- x (B,T,C), w ((H+2Hkv)D,C), b ((H+2Hkv)D) or NULL. GPT-2 and
 * Qwen 2 have a bias here, Llama has none. Scratch: B T (H+2Hkv) D floats, given back. */
LLM_API void llm_qkv_forward(float *q, float *k, float *v, const float *x, const float *w,
                             const float *b, const llm_qkv_config *c, llm_arena *arena) {
    const size_t mark = arena->used, O = (c->H + 2 * c->Hkv) * c->D;
    float *qkv = llm_arena_floats(arena, c->B * c->T * O);
    llm_matmul_forward(qkv, x, w, b, c->B * c->T, c->C, O);
    llm_qkv_split(q, k, v, qkv, c);
    arena->used = mark;
}

/* dx (B,T,C) += , dw ((H+2Hkv)D,C) += , db ((H+2Hkv)D) += <- dq, dk, dv and forward's x, w. Any of
 * the three may be NULL. x reaches the loss by three paths, and the one product sums them.
 * Scratch as above. */
LLM_API void llm_qkv_backward(float *dx, float *dw, float *db, const float *dq, const float *dk,
                              const float *dv, const float *x, const float *w,
                              const llm_qkv_config *c, llm_arena *arena) {
    const size_t mark = arena->used, O = (c->H + 2 * c->Hkv) * c->D;
    float *dqkv = llm_arena_floats(arena, c->B * c->T * O);
    llm_qkv_merge(dqkv, dq, dk, dv, c);
    llm_matmul_backward(dx, dw, db, dqkv, x, w, c->B * c->T, c->C, O);
    arena->used = mark;
}

/* to (M,L,n) <- from (L,M,n): swaps the two outer axes, which is all that converting takes.
 *     GPT-2:            w     <- swap(c_attn, C, (H+2Hkv) D, 1)     and back with L, M exchanged
 *     GPT-NeoX, BLOOM:  w     <- swap(query_key_value, H, 3, D C)   (bias: n = D)
 *     heads:            (B,T) <- swap of each b, (H,T,D) to (T,H,D)
 * to may not be from. */
LLM_API void llm_qkv_swap(float *to, const float *from, size_t L, size_t M, size_t n) {
    for (size_t l = 0; l < L; l++)
        for (size_t m = 0; m < M; m++)
            memcpy(to + (m * L + l) * n, from + (l * M + m) * n, n * sizeof(float));
}

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
 * Speed: away from the diagonal all products are done by @gemm's kernel, keys in tiles of 64; only
 * the triangles on the diagonal are left to plain loops.
 *
 * source  Vaswani et al. 2017, "Attention Is All You Need", eq. 1; Radford et al. 2019, "Language
 *         Models are Unsupervised Multitask Learners" (GPT-2)
 * needs   exp gemm logsumexp
 * see     @mha (any mask, cross-attention), @gqa (shared keys), @flash (no T x T), @kv_cache
 * topics  Causal (Masked) Self-Attention
 */

enum { LLM_CAUSAL_ATTN_TILE = 64 };

/* The next tile's size when so many positions or dimensions are left. */
LLM_API size_t llm_causal_attn_tile(size_t left) {
    return left > LLM_CAUSAL_ATTN_TILE ? (size_t)LLM_CAUSAL_ATTN_TILE : left;
}

/* Of R rows against the keys n0 .. n0+keys-1, row r seeing keys 0 .. r + ahead: the first row that
 * sees one of them, and the first that sees them all. */
LLM_API size_t llm_causal_attn_first(size_t n0, size_t ahead, size_t R) {
    return n0 <= ahead ? 0 : llm_gemm_least(n0 - ahead, R);
}
LLM_API size_t llm_causal_attn_whole(size_t n0, size_t keys, size_t ahead, size_t R) {
    return llm_causal_attn_first(n0 + keys - 1, ahead, R);
}

/* w_rn = scale x_r.z_n <- x (R,D), z (N,D), for n <= r + ahead: query r comes ahead positions after
 * the first key. The other entries of w are not written. ws, xs, zs are the strides of rows. */
LLM_API void llm_causal_attn_scores(float *w, size_t ws, const float *x, size_t xs, const float *z,
                                    size_t zs, float scale, size_t ahead, size_t R, size_t N,
                                    size_t D) {
    enum { TILE = LLM_CAUSAL_ATTN_TILE };
    float s[TILE * TILE];
    for (size_t n0 = 0; n0 < N && n0 < R + ahead; n0 += TILE) {
        const size_t keys = llm_causal_attn_tile(N - n0);
        const size_t first = llm_causal_attn_first(n0, ahead, R);
        const size_t whole = llm_causal_attn_whole(n0, keys, ahead, R);
        float *wn = w + n0;
        for (size_t i = 0; i < (whole - first) * keys; i++) s[i] = 0.0f;
        for (size_t r = whole; r < R; r++)
            for (size_t n = 0; n < keys; n++) wn[r * ws + n] = 0.0f;
        for (size_t d = 0; d < D; d += LLM_GEMM_DEPTH) {
            const size_t depth = llm_gemm_least(D - d, LLM_GEMM_DEPTH);
            const float *zd = z + n0 * zs + d, *xd = x + d;
            llm_gemm_block(s, keys, xd + first * xs, xs, false, zd, zs, true, whole - first, keys,
                           depth);
            llm_gemm_block(wn + whole * ws, ws, xd + whole * xs, xs, false, zd, zs, true, R - whole,
                           keys, depth);
        }
        for (size_t r = first; r < whole; r++)
            for (size_t n = 0; n <= r + ahead - n0; n++)
                wn[r * ws + n] = scale * s[(r - first) * keys + n];
        for (size_t r = whole; r < R; r++)
            for (size_t n = 0; n < keys; n++) wn[r * ws + n] *= scale;
    }
}

/* y_r += sum_n w_rn x_n over n <= r + ahead: each query collects from its past. On the diagonal
 * keys are taken 16 at a time, so that little is left to the plain loop. */
LLM_API void llm_causal_attn_gather(float *y, size_t ys, const float *w, size_t ws, const float *x,
                                    size_t xs, size_t ahead, size_t R, size_t N, size_t D) {
    for (size_t n0 = 0; n0 < N && n0 < R + ahead; n0 += LLM_CAUSAL_ATTN_TILE) {
        const size_t keys = llm_causal_attn_tile(N - n0);
        const size_t whole = llm_causal_attn_whole(n0, keys, ahead, R);
        for (size_t n = n0; n < n0 + keys; n += 16) {
            const size_t some = llm_gemm_least(n0 + keys - n, 16);
            const size_t below = llm_causal_attn_whole(n, some, ahead, R);
            for (size_t r = llm_causal_attn_first(n, ahead, R); r < below; r++)
                for (size_t j = n; j <= r + ahead; j++)
                    for (size_t d = 0; d < D; d++) y[r * ys + d] += w[r * ws + j] * x[j * xs + d];
            llm_gemm_block(y + below * ys, ys, w + below * ws + n, ws, false, x + n * xs, xs, false,
                           whole - below, D, some);
        }
        llm_gemm_block(y + whole * ys, ys, w + whole * ws + n0, ws, false, x + n0 * xs, xs, false,
                       R - whole, D, keys);
    }
}

/* y_n += sum_r w_rn x_r over r >= n - ahead: each key collects from its future, the transpose. */
LLM_API void llm_causal_attn_scatter(float *y, size_t ys, const float *w, size_t ws, const float *x,
                                     size_t xs, size_t ahead, size_t R, size_t N, size_t D) {
    for (size_t r0 = 0; r0 < R; r0 += LLM_CAUSAL_ATTN_TILE) {
        const size_t rows = llm_causal_attn_tile(R - r0);
        const size_t full = llm_gemm_least(r0 + ahead, N); /* keys that all these rows see */
        for (size_t n = 0; n < full; n += LLM_GEMM_BLOCK)
            llm_gemm_block(y + n * ys, ys, w + r0 * ws + n, ws, true, x + r0 * xs, xs, false,
                           llm_gemm_least(full - n, LLM_GEMM_BLOCK), D, rows);
        for (size_t r = r0; r < r0 + rows; r += 16) {
            const size_t some = llm_gemm_least(r0 + rows - r, 16);
            const size_t seen = llm_gemm_least(r + ahead, N);
            llm_gemm_block(y + full * ys, ys, w + r * ws + full, ws, true, x + r * xs, xs, false,
                           seen - full, D, some);
            for (size_t n = seen; n < N && n < r + some + ahead; n++)
                for (size_t i = n - ahead; i < r + some;
                     i++) /* from the first that sees key n on */
                    for (size_t d = 0; d < D; d++) y[n * ys + d] += w[i * ws + n] * x[i * xs + d];
        }
    }
}

/* out (B,T,C), att (B,H,T,T) <- qkv (B,T,3C): the queries, keys and values of all heads side by
 * side, as GPT-2 projects them. att gets the weights p; above the diagonal it is not written. */
LLM_API void llm_causal_attn_forward(float *out, float *att, const float *qkv, size_t B, size_t T,
                                     size_t C, size_t H) {
    LLM_ASSERT(H > 0 && C % H == 0);
    enum { QUERIES = 2 * LLM_CAUSAL_ATTN_TILE }; /* at a time: their weights stay in the cache */
    const size_t D = C / H, S = 3 * C;
    const float scale = 1.0f / sqrtf((float)D);
    LLM_PARALLEL_FOR
    for (size_t bh = 0; bh < B * H; bh++) {
        const float *q = qkv + bh / H * T * S + bh % H * D, *k = q + C, *v = k + C;
        float *p = att + bh * T * T, *o = out + bh / H * T * C + bh % H * D;
        for (size_t i = 0; i < T; i += QUERIES) {
            const size_t R = llm_gemm_least(T - i, QUERIES), N = i + R;
            llm_causal_attn_scores(p + i * T, T, q + i * S, S, k, S, scale, i, R, N, D);
            for (size_t r = i; r < N; r++) {
                float *pr = p + r * T, sum = 0.0f;
                const float max = llm_logsumexp_max(pr, r + 1);
                for (size_t j = 0; j <= r; j++) pr[j] = llm_expf(pr[j] - max);
                LLM_SIMD_SUM(sum)
                for (size_t j = 0; j <= r; j++) sum += pr[j];
                const float gain = 1.0f / sum;
                for (size_t j = 0; j <= r; j++) pr[j] *= gain;
                for (size_t d = 0; d < D; d++) o[r * C + d] = 0.0f;
            }
            llm_causal_attn_gather(o + i * C, C, p + i * T, T, v, S, i, R, N, D);
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
            const size_t R = llm_causal_attn_tile(T - i), N = i + R;
            const float *g = dout + (bh / H * T + i) * C + bh % H * D, *p = att + (bh * T + i) * T;
            llm_causal_attn_scores(ds, T, g, C, v, S, 1.0f, i, R, N, D);
            for (size_t r = 0; r < R; r++) {
                const float *pr = p + r * T;
                float *dsr = ds + r * T, along = 0.0f;
                LLM_SIMD_SUM(along)
                for (size_t j = 0; j <= i + r; j++) along += pr[j] * dsr[j];
                for (size_t j = 0; j <= i + r; j++) dsr[j] = scale * pr[j] * (dsr[j] - along);
            }
            llm_causal_attn_gather(dq + i * S, S, ds, T, k, S, i, R, N, D);
            llm_causal_attn_scatter(dk, S, ds, T, q + i * S, S, i, R, N, D);
            llm_causal_attn_scatter(dv, S, p, T, g, C, i, R, N, D);
        }
    }
    arena->used = mark;
}

/* @mha ------------------------------------------------------ Multi-head attention
 *
 *     head_h = softmax(Q_h K_h^T / sqrt(D) + mask) V_h      Q_h = x W_Q,h^T, K_h = key W_K,h^T, ..
 *     y      = [head_1 ... head_H] W_O^T + b_O
 *
 * One softmax can look at one place, or blur several into an average. H heads of D = C/H dimensions
 * look at H places for the price of one head of C dimensions, and W_O lets their findings meet.
 * This is the general layer, torch.nn.MultiheadAttention: queries, keys and values from different
 * sources and widths, masks of two kinds, dropout on the weights. All weights are kept for the
 * backward pass and for looking at them; @gqa and @flash keep none. A query for which everything is
 * masked has no weights, and its y is b_O; torch returns NaN.
 *
 * source  Vaswani et al. 2017, "Attention Is All You Need", section 3.2.2; Michel, Levy & Neubig
 *         2019, "Are Sixteen Heads Really Better than One?" (pruning)
 * needs   exp matmul logsumexp dropout qkv causal_attn
 * see     @attn_projection, @cross_attn, @attn_head
 * topics  Multi-Head Attention
 */

/* B texts: T queries of C channels against S keys of Ck and values of Cv; H heads of D
 * dimensions. dropout 0 is none; the mask of a call is numbers offset .. offset + B H T S - 1 of
 * seed's stream. */
typedef struct {
    size_t B, T, S, C, Ck, Cv, H, D;
    float dropout;
    uint64_t seed, offset;
} llm_mha_config;

/* Self-attention without dropout. */
LLM_API llm_mha_config llm_mha_defaults(size_t B, size_t T, size_t C, size_t H) {
    LLM_ASSERT(H > 0 && C % H == 0);
    llm_mha_config c;
    c.B = B, c.T = c.S = T, c.C = c.Ck = c.Cv = C, c.H = H, c.D = C / H;
    c.dropout = 0.0f;
    c.seed = c.offset = 0;
    return c;
}

/* wq (H D,C), wk (H D,Ck), wv (H D,Cv), wo (C,H D), biases (H D) and bo (C) or NULL; or all their
 * gradients, each of which may be NULL. torch's in_proj_weight is wq, wk, wv in a row. */
typedef struct {
    float *wq, *wk, *wv, *wo, *bq, *bk, *bv, *bo;
} llm_mha_params;

/* What the backward pass needs: the inputs and q, out (B,H,T,D), k, v (B,H,S,D), att (B,H,T,S),
 * merged (B,T,H D). att is the softmax, before dropout. */
typedef struct {
    const float *x, *key, *value;
    float *q, *k, *v, *att, *merged;
} llm_mha_saved;

/* The buffers of a, taken from the arena. */
LLM_API llm_mha_saved llm_mha_take(const llm_mha_config *c, llm_arena *arena) {
    llm_mha_saved s;
    s.x = s.key = s.value = NULL;
    s.q = llm_arena_floats(arena, c->B * c->H * c->T * c->D);
    s.k = llm_arena_floats(arena, c->B * c->H * c->S * c->D);
    s.v = llm_arena_floats(arena, c->B * c->H * c->S * c->D);
    s.att = llm_arena_floats(arena, c->B * c->H * c->T * c->S);
    s.merged = llm_arena_floats(arena, c->B * c->T * c->H * c->D);
    return s;
}

/* heads (B,H,N,D) <- x (B,N,C) through w (H D,C), b. Scratch: B N H D floats. */
LLM_API void llm_mha_project(float *heads, const float *x, const float *w, const float *b, size_t B,
                             size_t N, size_t C, size_t H, size_t D, llm_arena *arena) {
    const size_t mark = arena->used;
    float *rows = llm_arena_floats(arena, B * N * H * D);
    llm_matmul_forward(rows, x, w, b, B * N, C, H * D);
    for (size_t i = 0; i < B; i++)
        llm_qkv_swap(heads + i * N * H * D, rows + i * N * H * D, N, H, D);
    arena->used = mark;
}

/* dx, dw, db += <- dheads. Scratch as above. */
LLM_API void llm_mha_project_backward(float *dx, float *dw, float *db, const float *dheads,
                                      const float *x, const float *w, const llm_mha_config *c,
                                      size_t N, size_t C, llm_arena *arena) {
    const size_t mark = arena->used, HD = c->H * c->D;
    float *drows = llm_arena_floats(arena, c->B * N * HD);
    for (size_t i = 0; i < c->B; i++)
        llm_qkv_swap(drows + i * N * HD, dheads + i * N * HD, c->H, N, c->D);
    llm_matmul_backward(dx, dw, db, drows, x, w, c->B * N, C, HD);
    arena->used = mark;
}

/* y (B,T,C), *s <- x (B,T,C), key (B,S,Ck), value (B,S,Cv), p. hidden (B,S): keys that no query
 * sees (padding); blocked (T,S): pairs of query and key; true is masked, as in torch; NULL: none.
 * Masked inputs must still be finite. Scratch: B H max(T,S) D floats, or B H T D and with dropout B
 * H T S. */
LLM_API void llm_mha_forward(float *y, llm_mha_saved *s, const float *x, const float *key,
                             const float *value, const llm_mha_params *p, const bool *hidden,
                             const bool *blocked, const llm_mha_config *c, llm_arena *arena) {
    const size_t B = c->B, T = c->T, S = c->S, H = c->H, D = c->D, mark = arena->used;
    const float scale = 1.0f / sqrtf((float)D);
    s->x = x, s->key = key, s->value = value;
    llm_mha_project(s->q, x, p->wq, p->bq, B, T, c->C, H, D, arena);
    llm_mha_project(s->k, key, p->wk, p->bk, B, S, c->Ck, H, D, arena);
    llm_mha_project(s->v, value, p->wv, p->bv, B, S, c->Cv, H, D, arena);
    float *out = llm_arena_floats(arena, B * H * T * D);
    float *dropped = c->dropout > 0.0f ? llm_arena_floats(arena, B * H * T * S) : s->att;
    LLM_PARALLEL_FOR
    for (size_t bh = 0; bh < B * H; bh++) {
        const float *q = s->q + bh * T * D, *k = s->k + bh * S * D, *v = s->v + bh * S * D;
        float *att = s->att + bh * T * S, *w = dropped + bh * T * S, *o = out + bh * T * D;
        llm_causal_attn_scores(att, S, q, D, k, D, scale, S, T, S, D);
        for (size_t i = 0; i < T; i++) {
            float *a = att + i * S, sum = 0.0f;
            for (size_t j = 0; j < S; j++)
                if ((hidden && hidden[bh / H * S + j]) || (blocked && blocked[i * S + j]))
                    a[j] = -INFINITY;
            const float max = llm_logsumexp_max(a, S), shift = max == -INFINITY ? 0.0f : max;
            for (size_t j = 0; j < S; j++) a[j] = llm_expf(a[j] - shift);
            LLM_SIMD_SUM(sum)
            for (size_t j = 0; j < S; j++) sum += a[j];
            const float gain = max == -INFINITY ? 0.0f : 1.0f / sum;
            for (size_t j = 0; j < S; j++) a[j] *= gain;
        }
        if (w != att)
            llm_dropout_forward(w, att, T * S, c->dropout, c->seed, c->offset + bh * T * S);
        for (size_t i = 0; i < T * D; i++) o[i] = 0.0f;
        llm_causal_attn_gather(o, D, w, S, v, D, S, T, S, D);
    }
    for (size_t b = 0; b < B; b++)
        llm_qkv_swap(s->merged + b * T * H * D, out + b * T * H * D, H, T, D);
    llm_matmul_forward(y, s->merged, p->wo, p->bo, B * T, H * D, c->C);
    arena->used = mark;
}

/* dx (B,T,C), dkey (B,S,Ck), dvalue (B,S,Cv) and g's arrays += <- dy (B,T,C) and forward's s, p, c.
 * Any of them may be NULL, and the three may be one array (self-attention). Scratch: B H (3 T D +
 * 2 S D + T S + max(T,S) D) floats, with dropout B H T S more. */
LLM_API void llm_mha_backward(float *dx, float *dkey, float *dvalue, const llm_mha_params *g,
                              const float *dy, const llm_mha_saved *s, const llm_mha_params *p,
                              const llm_mha_config *c, llm_arena *arena) {
    const size_t B = c->B, T = c->T, S = c->S, H = c->H, D = c->D, mark = arena->used;
    const float scale = 1.0f / sqrtf((float)D);
    const size_t nq = B * H * T * D, nk = B * H * S * D;
    float *dmerged = llm_arena_floats(arena, 3 * nq + 2 * nk), *dout = dmerged + nq;
    float *dq = dout + nq, *dk = dq + nq, *dv = dk + nk;
    float *dscore = llm_arena_floats(arena, B * H * T * S);
    float *dropped = c->dropout > 0.0f ? llm_arena_floats(arena, B * H * T * S) : s->att;
    for (size_t i = 0; i < 3 * nq + 2 * nk; i++) dmerged[i] = 0.0f;
    llm_matmul_backward(dmerged, g->wo, g->bo, dy, s->merged, p->wo, B * T, H * D, c->C);
    for (size_t b = 0; b < B; b++)
        llm_qkv_swap(dout + b * T * H * D, dmerged + b * T * H * D, T, H, D);
    LLM_PARALLEL_FOR
    for (size_t bh = 0; bh < B * H; bh++) {
        const float *q = s->q + bh * T * D, *k = s->k + bh * S * D, *v = s->v + bh * S * D;
        const float *att = s->att + bh * T * S, *go = dout + bh * T * D;
        float *w = dropped + bh * T * S, *ds = dscore + bh * T * S;
        llm_causal_attn_scores(ds, S, go, D, v, D, 1.0f, S, T, S, D);
        if (w != att) { /* the same entries are dropped again, from the weights and the gradient */
            llm_dropout_forward(w, att, T * S, c->dropout, c->seed, c->offset + bh * T * S);
            llm_dropout_forward(ds, ds, T * S, c->dropout, c->seed, c->offset + bh * T * S);
        }
        for (size_t i = 0; i < T; i++) {
            const float *a = att + i * S;
            float *dsi = ds + i * S, along = 0.0f;
            LLM_SIMD_SUM(along)
            for (size_t j = 0; j < S; j++) along += a[j] * dsi[j];
            for (size_t j = 0; j < S; j++) dsi[j] = scale * a[j] * (dsi[j] - along);
        }
        llm_causal_attn_gather(dq + bh * T * D, D, ds, S, k, D, S, T, S, D);
        llm_causal_attn_scatter(dk + bh * S * D, D, ds, S, q, D, S, T, S, D);
        llm_causal_attn_scatter(dv + bh * S * D, D, w, S, go, D, S, T, S, D);
    }
    llm_mha_project_backward(dx, g->wq, g->bq, dq, s->x, p->wq, c, T, c->C, arena);
    llm_mha_project_backward(dkey, g->wk, g->bk, dk, s->key, p->wk, c, S, c->Ck, arena);
    llm_mha_project_backward(dvalue, g->wv, g->bv, dv, s->value, p->wv, c, S, c->Cv, arena);
    arena->used = mark;
}

/* Copies what belongs to the heads with keep (H) into to's arrays: rows of wq, wk, wv, their biases
 * and columns of wo. Returns their number, the H of the smaller layer. to may be from. */
LLM_API size_t llm_mha_prune(const llm_mha_params *to, const llm_mha_params *from, const bool *keep,
                             const llm_mha_config *c) {
    const size_t H = c->H, D = c->D, inputs[3] = {c->C, c->Ck, c->Cv};
    float *const w_to[3] = {to->wq, to->wk, to->wv}, *const b_to[3] = {to->bq, to->bk, to->bv};
    const float *const w[3] = {from->wq, from->wk, from->wv};
    const float *const b[3] = {from->bq, from->bk, from->bv};
    size_t kept = 0, column = 0;
    for (size_t h = 0; h < H; h++) {
        for (size_t m = 0; keep[h] && m < 3; m++) {
            const size_t n = D * inputs[m];
            memmove(w_to[m] + kept * n, w[m] + h * n, n * sizeof(float));
            if (b[m]) memmove(b_to[m] + kept * D, b[m] + h * D, D * sizeof(float));
        }
        kept += keep[h];
    }
    for (size_t i = 0; i < c->C * H * D; i++) /* wo (C,H D), read in order, never overtaken */
        if (keep[i / D % H]) to->wo[column++] = from->wo[i];
    return kept;
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

/* dx (B,H,T,D) += <- dy (B,H,T,D): the inverse of a rotation is its transpose, so the gradient
 * turns back by the same angle. dx may not be dy. */
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

/* @gqa ------------------------------------------------------ Grouped-query attention
 *
 *     o_h = softmax(q_h K_g^T / sqrt(D)) V_g            g = h / (H / Hkv)
 *
 * H query heads share Hkv heads of keys and values, each H / Hkv neighbours one. Generating a token
 * reads the whole cache, and the cache has Hkv heads: with Hkv = H / 8 it is 8 times smaller and
 * that much faster to read, for a small loss in quality. Hkv = H is multi-head attention, Hkv = 1
 * multi-query. The heads of a group are neighbours: head h takes h / (H/Hkv), not h % Hkv.
 *
 * The backward pass computes the weights again from lse, so memory grows with T and not with T^2;
 * the gradients of a shared head are the sums over its group, and nothing is copied per query head.
 *
 * source  Ainslie et al. 2023, "GQA: Training Generalized Multi-Query Transformer Models from
 *         Multi-Head Checkpoints"; Shazeer 2019, "Fast Transformer Decoding: One Write-Head is All
 *         You Need"
 * needs   exp logsumexp causal_attn
 * see     @mha, @flash (the same without whole rows of scores), @kv_cache, @mla
 * topics  Grouped-Query Attention (GQA)
 */

/* T queries against S keys. causal: query i sees the keys j <= i + S - T, so that the last query
 * sees everything (with S > T the queries are the newest positions); T > S leaves the first T - S
 * queries nothing to see. scale is 1 / sqrt(D) as a rule. */
typedef struct {
    size_t B, H, Hkv, T, S, D;
    bool causal;
    float scale;
} llm_gqa_config;

/* Causal self-attention: S = T. */
LLM_API llm_gqa_config llm_gqa_defaults(size_t B, size_t H, size_t Hkv, size_t T, size_t D) {
    llm_gqa_config c;
    c.B = B, c.H = H, c.Hkv = Hkv, c.T = c.S = T, c.D = D;
    c.causal = true;
    c.scale = 1.0f / sqrtf((float)D);
    return c;
}

/* out (B,H,T,D), lse (B,H,T) or NULL <- q (B,H,T,D), k, v (B,Hkv,S,D). lse_i is the logarithm of
 * query i's softmax denominator. A query that sees nothing gets 0 and lse = -inf. Scratch: 64 B H S
 * floats, given back. */
LLM_API void llm_gqa_forward(float *out, float *lse, const float *q, const float *k, const float *v,
                             const llm_gqa_config *c, llm_arena *arena) {
    LLM_ASSERT(c->Hkv > 0 && c->H % c->Hkv == 0);
    enum { TILE = LLM_CAUSAL_ATTN_TILE };
    const size_t T = c->T, S = c->S, D = c->D, group = c->H / c->Hkv, mark = arena->used;
    const size_t blind = c->causal && T > S ? T - S : 0;
    float *scratch = llm_arena_floats(arena, c->B * c->H * TILE * S);
    LLM_PARALLEL_FOR
    for (size_t bh = 0; bh < c->B * c->H; bh++) {
        const float *kg = k + bh / group * S * D, *vg = v + bh / group * S * D;
        float *w = scratch + bh * TILE * S, *o = out + bh * T * D;
        for (size_t i = 0; i < T * D; i++) o[i] = 0.0f;
        for (size_t i = 0; lse && i < blind; i++) lse[bh * T + i] = -INFINITY;
        for (size_t i = blind; i < T; i += TILE) { /* row r of the block sees keys 0 .. last + r */
            const size_t R = llm_causal_attn_tile(T - i), last = c->causal ? i + S - T : S;
            const float *qi = q + (bh * T + i) * D;
            llm_causal_attn_scores(w, S, qi, D, kg, D, c->scale, last, R, S, D);
            for (size_t r = 0; r < R; r++) {
                const size_t seen = last + r < S ? last + r + 1 : S;
                float *wr = w + r * S, sum = 0.0f;
                const float max = llm_logsumexp_max(wr, seen);
                for (size_t j = 0; j < seen; j++) wr[j] = llm_expf(wr[j] - max);
                LLM_SIMD_SUM(sum)
                for (size_t j = 0; j < seen; j++) sum += wr[j];
                const float gain = 1.0f / sum;
                for (size_t j = 0; j < seen; j++) wr[j] *= gain;
                if (lse) lse[bh * T + i + r] = max + logf(sum);
            }
            llm_causal_attn_gather(o + i * D, D, w, S, vg, D, last, R, S, D);
        }
    }
    arena->used = mark;
}

/* dq (B,H,T,D) += , dk, dv (B,Hkv,S,D) += <- dout (B,H,T,D), forward's out, lse and its inputs.
 *
 *     p_ij = exp(s_ij - lse_i)      ds_ij = p_ij (do_i.v_j - do_i.o_i)
 *
 * as in @causal_attn, where sum_l p_il dp_il is do_i.o_i because o_i is the mean of the v_l. Any of
 * the three gradients may be NULL. */
LLM_API void llm_gqa_backward(float *dq, float *dk, float *dv, const float *dout, const float *out,
                              const float *lse, const float *q, const float *k, const float *v,
                              const llm_gqa_config *c) {
    LLM_ASSERT(c->Hkv > 0 && c->H % c->Hkv == 0);
    enum { TILE = LLM_CAUSAL_ATTN_TILE };
    const size_t T = c->T, S = c->S, D = c->D, group = c->H / c->Hkv;
    const size_t blind = c->causal && T > S ? T - S : 0;
    LLM_PARALLEL_FOR
    for (size_t bg = 0; bg < c->B * c->Hkv; bg++) { /* the heads of a group write the same dk, dv */
        for (size_t bh = bg * group; bh < (bg + 1) * group; bh++) {
            for (size_t i = blind; i < T; i += TILE) {
                const size_t R = llm_causal_attn_tile(T - i), last = c->causal ? i + S - T : S;
                float p[TILE * TILE], ds[TILE * TILE], along[TILE];
                for (size_t r = 0; r < R; r++) {
                    const size_t at = (bh * T + i + r) * D;
                    along[r] = 0.0f;
                    for (size_t d = 0; d < D; d++) along[r] += dout[at + d] * out[at + d];
                }
                for (size_t j = 0; j < S && j < last + R; j += TILE) {
                    const size_t N = llm_causal_attn_tile(S - j);
                    const size_t skip = j > last ? j - last : 0, ahead = j > last ? 0 : last - j;
                    const size_t rows = R - skip, at_q = (bh * T + i + skip) * D;
                    const size_t at_k = (bg * S + j) * D;
                    const float *qi = q + at_q, *kj = k + at_k, *gi = dout + at_q;
                    llm_causal_attn_scores(p, N, qi, D, kj, D, c->scale, ahead, rows, N, D);
                    llm_causal_attn_scores(ds, N, gi, D, v + at_k, D, 1.0f, ahead, rows, N, D);
                    for (size_t r = 0; r < rows; r++) {
                        const float lse_r = lse[bh * T + i + skip + r];
                        for (size_t n = 0; n < N && n <= r + ahead; n++) {
                            p[r * N + n] = llm_expf(p[r * N + n] - lse_r);
                            ds[r * N + n] -= along[skip + r];
                            ds[r * N + n] *= c->scale * p[r * N + n];
                        }
                    }
                    if (dq) llm_causal_attn_gather(dq + at_q, D, ds, N, kj, D, ahead, rows, N, D);
                    if (dk) llm_causal_attn_scatter(dk + at_k, D, ds, N, qi, D, ahead, rows, N, D);
                    if (dv) llm_causal_attn_scatter(dv + at_k, D, p, N, gi, D, ahead, rows, N, D);
                }
            }
        }
    }
}

/* a.b over n entries: 16 sums run side by side, in an order that no compiler needs leave to
 * change. */
LLM_API float llm_gqa_dot(const float *a, const float *b, size_t n) {
    float lane[16], sum = 0.0f;
    for (size_t k = 0; k < 16; k++) lane[k] = 0.0f;
    size_t i = 0;
    for (; i + 16 <= n; i += 16)
        for (size_t k = 0; k < 16; k++) lane[k] += a[i + k] * b[i + k];
    for (; i < n; i++) sum += a[i] * b[i];
    for (size_t k = 0; k < 16; k++) sum += lane[k];
    return sum;
}

/* out (G,D), w (G,S) <- q (G,D), k, v (S,D): one new token, the G query heads of a group against
 * their keys and values in a cache. Each key and each value is read once for the whole group. w
 * gets the weights. S > 0. */
LLM_API void llm_gqa_decode(float *out, float *w, const float *q, const float *k, const float *v,
                            size_t G, size_t S, size_t D, float scale) {
    for (size_t j = 0; j < S; j++)
        for (size_t g = 0; g < G; g++) w[g * S + j] = scale * llm_gqa_dot(q + g * D, k + j * D, D);
    for (size_t g = 0; g < G; g++) {
        float *wg = w + g * S, sum = 0.0f;
        const float max = llm_logsumexp_max(wg, S);
        for (size_t j = 0; j < S; j++) wg[j] = llm_expf(wg[j] - max);
        LLM_SIMD_SUM(sum)
        for (size_t j = 0; j < S; j++) sum += wg[j];
        for (size_t j = 0; j < S; j++) wg[j] /= sum;
        for (size_t d = 0; d < D; d++) out[g * D + d] = 0.0f;
    }
    for (size_t j = 0; j < S; j++)
        for (size_t g = 0; g < G; g++)
            for (size_t d = 0; d < D; d++) out[g * D + d] += w[g * S + j] * v[j * D + d];
}

/* w (Hkv D,C) <- from (H D,C): the key or value projection of a multi-head model made grouped, each
 * shared head the mean of its group. A few percent of the original training then heal the rest. */
LLM_API void llm_gqa_uptrain_meanpool(float *w, const float *from, size_t H, size_t Hkv, size_t D,
                                      size_t C) {
    LLM_ASSERT(Hkv > 0 && H % Hkv == 0);
    const size_t group = H / Hkv;
    for (size_t g = 0; g < Hkv; g++) {
        for (size_t i = 0; i < D * C; i++) {
            float sum = 0.0f;
            for (size_t h = g * group; h < (g + 1) * group; h++) sum += from[h * D * C + i];
            w[g * D * C + i] = sum / (float)group;
        }
    }
}

/* Bytes of a cache for T tokens of one text: keys and values of L layers. */
LLM_API size_t llm_gqa_cache_bytes(size_t L, size_t Hkv, size_t D, size_t T, size_t bytes) {
    return 2 * L * Hkv * D * T * bytes;
}

/* @flash ---------------------------------------------------- FlashAttention
 *
 *     for each tile j of keys and values, for each tile i of queries:
 *         S = scale Q_i K_j^T     m' = max(m, rowmax S)     P = exp(S - m')
 *         l' = e^(m - m') l + rowsum P      O_i = (e^(m - m') l O_i + P V_j) / l'
 *
 * Exact attention that never holds a row of the T x S weights, let alone all of them. A softmax can
 * be taken piece by piece: the maximum m and the sum l of what was seen so far are enough to bring
 * old and new terms to one scale. So each pair of tiles is loaded into fast memory, worked off and
 * forgotten, and slow memory sees O(T^2 D^2 / M) words (M: size of the fast one) in place of T^2.
 * Backward computes the weights again from lse = m + log l; more arithmetic, less time. What is
 * easily got wrong is the row that has seen nothing yet: m = m' = -inf, and -inf - -inf is NaN.
 *
 * This is the first algorithm, K/V outside and O rescaled and normalised at every visit. @flash23
 * turns the loops around and divides once.
 *
 * source  Dao, Fu, Ermon, Rudra & Re 2022, "FlashAttention: Fast and Memory-Efficient Exact
 *         Attention with IO-Awareness", algorithms 1, 2 and 4, theorem 2
 * needs   exp logsumexp dropout causal_attn
 * see     @gqa (whole rows), @flash23, @memory_efficient_attn
 * topics  FlashAttention
 */

/* T queries against S keys, H heads on Hkv. causal: query i sees the keys j <= i + S - T. hidden
 * (B,S): keys that nobody sees (padding; they must still be finite), or NULL. Tiles of Br queries
 * and Bc keys, 1 to 64. dropout 0 is none; weight (b,h,i,j) is number offset + ((b H + h) T + i) S
 * + j of seed's stream, as in @mha, whatever the tiles. */
typedef struct {
    size_t B, H, Hkv, T, S, D, Br, Bc;
    bool causal;
    float scale, dropout;
    const bool *hidden;
    uint64_t seed, offset;
} llm_flash_config;

/* The settings that change nothing. */
LLM_API llm_flash_config llm_flash_defaults(size_t B, size_t H, size_t Hkv, size_t T, size_t D) {
    llm_flash_config c;
    c.B = B, c.H = H, c.Hkv = Hkv, c.T = c.S = T, c.D = D, c.Br = c.Bc = LLM_CAUSAL_ATTN_TILE;
    c.causal = true;
    c.scale = 1.0f / sqrtf((float)D), c.dropout = 0.0f;
    c.hidden = NULL;
    c.seed = c.offset = 0;
    return c;
}

/* The tile of queries i .. i+rows-1 and keys j .. : its first *skip rows see none of its keys, row
 * skip + r sees the first r + *ahead + 1. Returns how many rows see something. */
LLM_API size_t llm_flash_tile(size_t *skip, size_t *ahead, size_t i, size_t j, size_t rows,
                              const llm_flash_config *c) {
    const size_t query = i + c->S, key = j + c->T;
    *skip = c->causal && key > query ? key - query : 0;
    *ahead = !c->causal ? c->S : query > key ? query - key : 0;
    return *skip < rows ? rows - *skip : 0;
}

/* Drops row i of a tile of n keys from j on: w in place; -inf for the scores of hidden keys. */
LLM_API void llm_flash_drop(float *w, size_t bh, size_t i, size_t j, size_t n,
                            const llm_flash_config *c) {
    const uint64_t at = c->offset + (bh * c->T + i) * c->S + j;
    if (c->dropout > 0.0f) llm_dropout_forward(w, w, n, c->dropout, c->seed, at);
}
LLM_API void llm_flash_hide(float *s, size_t bh, size_t j, size_t n, const llm_flash_config *c) {
    const bool *hidden = c->hidden ? c->hidden + bh / c->H * c->S + j : NULL;
    for (size_t k = 0; hidden && k < n; k++) s[k] = hidden[k] ? -INFINITY : s[k];
}

/* out (B,H,T,D), lse (B,H,T) <- q (B,H,T,D), k, v (B,Hkv,S,D). A query that sees nothing: 0, -inf.
 * Scratch: B H T floats for m, given back; l grows in lse's place. */
LLM_API void llm_flash_forward(float *out, float *lse, const float *q, const float *k,
                               const float *v, const llm_flash_config *c, llm_arena *arena) {
    LLM_ASSERT(c->Hkv > 0 && c->H % c->Hkv == 0 && c->Br > 0 && c->Bc > 0);
    LLM_ASSERT(c->Br <= LLM_CAUSAL_ATTN_TILE && c->Bc <= LLM_CAUSAL_ATTN_TILE);
    const size_t T = c->T, S = c->S, D = c->D, mark = arena->used;
    float *m = llm_arena_floats(arena, c->B * c->H * T), *l = lse;
    LLM_PARALLEL_FOR
    for (size_t bh = 0; bh < c->B * c->H; bh++) {
        const size_t kv = bh / (c->H / c->Hkv) * S * D;
        float *o = out + bh * T * D, s[LLM_CAUSAL_ATTN_TILE * LLM_CAUSAL_ATTN_TILE];
        for (size_t i = 0; i < T * D; i++) o[i] = 0.0f;
        for (size_t i = bh * T; i < (bh + 1) * T; i++) m[i] = -INFINITY, l[i] = 0.0f;
        for (size_t j = 0; j < S; j += c->Bc) {
            const size_t N = S - j < c->Bc ? S - j : c->Bc;
            for (size_t i0 = 0; i0 < T; i0 += c->Br) {
                size_t skip, ahead;
                const size_t R =
                    llm_flash_tile(&skip, &ahead, i0, j, T - i0 < c->Br ? T - i0 : c->Br, c);
                if (R == 0) continue;
                const size_t i = i0 + skip;
                llm_causal_attn_scores(s, N, q + (bh * T + i) * D, D, k + kv + j * D, D, c->scale,
                                       ahead, R, N, D);
                for (size_t r = 0; r < R; r++) {
                    const size_t seen = r + ahead < N ? r + ahead + 1 : N, at = bh * T + i + r;
                    float *p = s + r * N, sum = 0.0f;
                    llm_flash_hide(p, bh, j, seen, c);
                    const float max = fmaxf(m[at], llm_logsumexp_max(p, seen));
                    const float shift = max == -INFINITY ? 0.0f : max;
                    for (size_t n = 0; n < seen; n++) p[n] = llm_expf(p[n] - shift);
                    LLM_SIMD_SUM(sum)
                    for (size_t n = 0; n < seen; n++) sum += p[n];
                    const float old = llm_expf(m[at] - shift) * l[at], total = old + sum;
                    const float gain = total > 0.0f ? 1.0f / total : 0.0f;
                    for (size_t n = 0; n < seen; n++) p[n] *= gain;
                    for (size_t d = 0; d < D; d++) o[(i + r) * D + d] *= old * gain;
                    llm_flash_drop(p, bh, i + r, j, seen, c);
                    m[at] = max, l[at] = total;
                }
                llm_causal_attn_gather(o + i * D, D, s, N, v + kv + j * D, D, ahead, R, N, D);
            }
        }
        for (size_t i = bh * T; i < (bh + 1) * T; i++) lse[i] = m[i] + logf(l[i]);
    }
    arena->used = mark;
}

/* dq (B,H,T,D) += , dk, dv (B,Hkv,S,D) += <- dout (B,H,T,D), forward's out, lse and inputs. Any
 * gradient may be NULL.
 *
 *     P = exp(S - lse)     dS = P * (drop(dO V^T) - rowsum(dO * O)) * scale
 *     dV += drop(P)^T dO   dK += dS^T Q   dQ += dS K */
LLM_API void llm_flash_backward(float *dq, float *dk, float *dv, const float *dout,
                                const float *out, const float *lse, const float *q, const float *k,
                                const float *v, const llm_flash_config *c) {
    LLM_ASSERT(c->Hkv > 0 && c->H % c->Hkv == 0 && c->Br > 0 && c->Bc > 0);
    LLM_ASSERT(c->Br <= LLM_CAUSAL_ATTN_TILE && c->Bc <= LLM_CAUSAL_ATTN_TILE);
    const size_t T = c->T, S = c->S, D = c->D, group = c->H / c->Hkv;
    LLM_PARALLEL_FOR
    for (size_t bg = 0; bg < c->B * c->Hkv; bg++) { /* the heads of a group share dk and dv */
        enum { TILE = LLM_CAUSAL_ATTN_TILE };
        float p[TILE * TILE], ds[TILE * TILE];
        for (size_t bh = bg * group; bh < (bg + 1) * group; bh++) {
            for (size_t j = 0; j < S; j += c->Bc) {
                const size_t N = S - j < c->Bc ? S - j : c->Bc;
                const size_t at_k = (bg * S + j) * D;
                const float *kj = k + at_k, *vj = v + at_k;
                for (size_t i0 = 0; i0 < T; i0 += c->Br) {
                    size_t skip, ahead;
                    const size_t R =
                        llm_flash_tile(&skip, &ahead, i0, j, T - i0 < c->Br ? T - i0 : c->Br, c);
                    if (R == 0) continue;
                    const size_t i = i0 + skip, at = (bh * T + i) * D;
                    llm_causal_attn_scores(p, N, q + at, D, kj, D, c->scale, ahead, R, N, D);
                    llm_causal_attn_scores(ds, N, dout + at, D, vj, D, 1.0f, ahead, R, N, D);
                    for (size_t r = 0; r < R; r++) {
                        const size_t seen = r + ahead < N ? r + ahead + 1 : N;
                        const float lse_r = lse[bh * T + i + r];
                        float *pr = p + r * N, *dsr = ds + r * N, along = 0.0f;
                        for (size_t d = 0; d < D; d++)
                            along += dout[at + r * D + d] * out[at + r * D + d];
                        llm_flash_hide(pr, bh, j, seen, c);
                        llm_flash_drop(dsr, bh, i + r, j, seen, c);
                        for (size_t n = 0; n < seen; n++) {
                            pr[n] = lse_r == -INFINITY ? 0.0f : llm_expf(pr[n] - lse_r);
                            dsr[n] = c->scale * pr[n] * (dsr[n] - along);
                        }
                        llm_flash_drop(pr, bh, i + r, j, seen, c);
                    }
                    const float *qi = q + at, *gi = dout + at;
                    if (dq) llm_causal_attn_gather(dq + at, D, ds, N, kj, D, ahead, R, N, D);
                    if (dk) llm_causal_attn_scatter(dk + at_k, D, ds, N, qi, D, ahead, R, N, D);
                    if (dv) llm_causal_attn_scatter(dv + at_k, D, p, N, gi, D, ahead, R, N, D);
                }
            }
        }
    }
}

/* Words that cross between slow and a fast memory of M words when one head is computed by the
 * loops above without a mask, with the paper's tiles: Bc = ceil(M / 4D), Br = min(Bc, D). */
LLM_API size_t llm_flash_io(size_t T, size_t D, size_t M) {
    const size_t Bc = (M + 4 * D - 1) / (4 * D), Br = Bc < D ? Bc : D;
    size_t words = 0;
    for (size_t j = 0; j < T; j += Bc) {
        words += 2 * (T - j < Bc ? T - j : Bc) * D;
        for (size_t i = 0; i < T; i += Br) {
            const size_t rows = T - i < Br ? T - i : Br;
            words += 3 * rows * D + 4 * rows; /* read Q, O, l, m; write O, l, m */
        }
    }
    return words;
}

/* The same for three separate steps: S = Q K^T, P = softmax(S), O = P V. */
LLM_API size_t llm_flash_io_naive(size_t T, size_t D) { return 4 * T * D + 4 * T * T; }

/* @13-transformer =========================================== TRANSFORMERS AND LANGUAGE MODELS */

/* @ffn ------------------------------------------------------ Position-wise MLP
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

/* @prenorm -------------------------------------------------- Where the norm stands
 *
 *     post      y = N(x + f(x))               2017, BERT, GPT-1
 *     pre       y = x + f(N(x))               GPT-2, Llama
 *     sandwich  y = x + N_out(f(N(x)))        Gemma 2
 *     deepnorm  y = N(alpha x + f(x))         alpha = (2 L)^(1/4)
 *
 * f is any sublayer. Post-norm puts a norm on the residual path itself: every layer rescales what
 * came before it, the gradient of the last layers is large whatever the depth, and without warmup a
 * deep stack does not start to train. Pre-norm leaves the path alone: x is a sum of L outputs, its
 * variance grows with L, and the gradient of a layer falls like 1 / sqrt(L); the sum then needs one
 * more norm before the head. The price is that late layers change x little.
 *
 * A sublayer stands between two calls: in gives it its input, out adds its output.
 *
 * source  Xiong et al. 2020, "On Layer Normalization in the Transformer Architecture", figure 1 and
 *         theorem 1; Wang et al. 2022, "DeepNet", eq. 1; Gemma Team 2024, "Gemma 2"
 * needs   arena layernorm
 * see     @layernorm @rmsnorm @residual @decoder_block
 * topics  Pre-Norm vs. Post-Norm Architecture
 */
typedef enum {
    LLM_PRENORM_POST,
    LLM_PRENORM_PRE,
    LLM_PRENORM_SANDWICH,
    LLM_PRENORM_DEEPNORM
} llm_prenorm_kind;

/* Gain and bias (C) of the norm before f and of the one behind it, or their gradients. Only those
 * that the kind has are read: in for pre and sandwich, out for all but pre. */
typedef struct {
    float *in_w, *in_b, *out_w, *out_b;
} llm_prenorm_weights;

/* What backward needs: (N) means and inverse deviations, sum (N,C) what the norm behind f reads. */
typedef struct {
    float *in_mean, *in_rstd, *out_mean, *out_rstd, *sum;
} llm_prenorm_acts;

/* alpha of a stack of L layers: 1 but for deepnorm. */
LLM_API float llm_prenorm_alpha(llm_prenorm_kind kind, size_t L) {
    return kind == LLM_PRENORM_DEEPNORM ? powf(2.0f * (float)L, 0.25f) : 1.0f;
}

/* h (N,C), a <- x (N,C): what f is to read. h may not be x. */
LLM_API void llm_prenorm_in_forward(float *h, const llm_prenorm_acts *a, const float *x,
                                    const llm_prenorm_weights *w, size_t N, size_t C,
                                    llm_prenorm_kind kind, float eps) {
    if (kind == LLM_PRENORM_PRE || kind == LLM_PRENORM_SANDWICH)
        llm_layernorm_forward(h, a->in_mean, a->in_rstd, x, w->in_w, w->in_b, N, C, eps);
    else
        memcpy(h, x, N * C * sizeof(float));
}

/* dx (N,C) += , dw += <- dh (N,C) and forward's a, x, w. */
LLM_API void llm_prenorm_in_backward(float *dx, const llm_prenorm_weights *dw, const float *dh,
                                     const llm_prenorm_acts *a, const float *x,
                                     const llm_prenorm_weights *w, size_t N, size_t C,
                                     llm_prenorm_kind kind) {
    if (kind == LLM_PRENORM_PRE || kind == LLM_PRENORM_SANDWICH) {
        llm_layernorm_backward(dx, dw->in_w, dw->in_b, dh, x, w->in_w, a->in_mean, a->in_rstd, N,
                               C);
        return;
    }
    for (size_t i = 0; i < N * C; i++) dx[i] += dh[i];
}

/* y (N,C), a <- x (N,C), f (N,C) the sublayer's output. y may be neither. */
LLM_API void llm_prenorm_out_forward(float *y, const llm_prenorm_acts *a, const float *x,
                                     const float *f, const llm_prenorm_weights *w, size_t N,
                                     size_t C, llm_prenorm_kind kind, float alpha, float eps) {
    if (kind == LLM_PRENORM_PRE) {
        for (size_t i = 0; i < N * C; i++) y[i] = x[i] + f[i];
        return;
    }
    const bool sandwich = kind == LLM_PRENORM_SANDWICH;
    for (size_t i = 0; i < N * C; i++) a->sum[i] = sandwich ? f[i] : alpha * x[i] + f[i];
    llm_layernorm_forward(y, a->out_mean, a->out_rstd, a->sum, w->out_w, w->out_b, N, C, eps);
    for (size_t i = 0; sandwich && i < N * C; i++) y[i] += x[i];
}

/* dx, df (N,C) += , dw += <- dy (N,C) and forward's a, w. Scratch: N C floats, given back. */
LLM_API void llm_prenorm_out_backward(float *dx, float *df, const llm_prenorm_weights *dw,
                                      const float *dy, const llm_prenorm_acts *a,
                                      const llm_prenorm_weights *w, size_t N, size_t C,
                                      llm_prenorm_kind kind, float alpha, llm_arena *arena) {
    const size_t mark = arena->used;
    if (kind == LLM_PRENORM_PRE) {
        for (size_t i = 0; i < N * C; i++) dx[i] += dy[i], df[i] += dy[i];
        return;
    }
    float *dsum = llm_arena_floats(arena, N * C);
    memset(dsum, 0, N * C * sizeof(float));
    llm_layernorm_backward(dsum, dw->out_w, dw->out_b, dy, a->sum, w->out_w, a->out_mean,
                           a->out_rstd, N, C);
    const bool sandwich = kind == LLM_PRENORM_SANDWICH;
    for (size_t i = 0; i < N * C; i++) {
        df[i] += dsum[i];
        dx[i] += sandwich ? dy[i] : alpha * dsum[i];
    }
    arena->used = mark;
}

/* @decoder_block -------------------------------------------- Decoder block
 *
 *     m = x + Attention(LayerNorm1(x)) W_out^T + b_out
 *     y = m + FFN(LayerNorm2(m))                       GPT-2
 *     y = m + FFN(LayerNorm1(x))                       parallel: GPT-J, PaLM
 *
 * The unit that a language model repeats: attention moves information between tokens, the MLP works
 * on each alone, and both only add to the residual stream x, which nothing else touches from the
 * embedding to the head. With the two output projections 0 a block is the identity. The parallel
 * form computes both from one norm, which saves a step of latency and costs little quality.
 *
 * Forward leaves (7 C + 2 F + H T + 4) floats for each token, most of them the MLP's; backward can
 * do without: keep x alone and run the block's forward a second time (checkpointing), a third more
 * work for a tenth of the memory.
 *
 * source  Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", 2.3; Wang &
 *         Komatsuzaki 2021, GPT-J (parallel); Chen et al. 2016, "Training Deep Nets with Sublinear
 *         Memory Cost"
 * needs   arena matmul layernorm causal_attn ffn
 * see     @prenorm @gpt2 @decoder_only (the form of Llama)
 * topics  Decoder Block
 */

/* norm_w is the gain. Weights, or their gradients. In the parallel form norm2_w, norm2_b are
 * NULL. */
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
    const size_t ffn = B * T * 2 * c->hidden, attn = B * T * 4 * (c->width + 16 * c->heads);
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

/* The same without forward's activations: they are computed again. Scratch: acts_size + B T C
 * floats and scratch_size, given back. */
LLM_API void llm_decoder_block_backward_ckpt(float *d, const llm_decoder_block_weights *dw,
                                             const float *x, const llm_decoder_block_weights *w,
                                             size_t B, size_t T, const llm_decoder_block_config *c,
                                             llm_arena *arena) {
    const size_t mark = arena->used;
    llm_decoder_block_acts a;
    llm_decoder_block_bind(&a, llm_arena_floats(arena, llm_decoder_block_acts_size(c, B, T)), c, B,
                           T);
    llm_decoder_block_forward(llm_arena_floats(arena, B * T * c->width), &a, x, w, B, T, c);
    llm_decoder_block_backward(d, dw, &a, x, w, B, T, c, arena);
    arena->used = mark;
}

/* @softmax_head --------------------------------------------- Softmax head: logits, loss, gradient
 *
 *     z    = h W^T                                 or cap tanh(h W^T / cap)
 *     L_n  = lse_n - (1-s) z_target - s mean_v(z_v) + zeta lse_n^2          lse = log sum_v e^z_v
 *     dz_v = p_v (1 + 2 zeta lse) - (1-s) [v = target] - s / V              p = e^(z - lse)
 *
 * The last layer of a language model and its loss, in one section because neither needs the other's
 * results in memory twice: the (N,V) logits are the largest array of a training step, and backward
 * turns them into their own gradient in place. s is label smoothing, zeta the z-loss that keeps lse
 * near 0 (PaLM: 1e-4), cap the soft cap of Gemma 2: 30. Rows of W behind the vocabulary, padding
 * for the sake of a matrix unit, get probability 0 and no gradient.
 *
 * The chunked form never holds (N,V): it walks over blocks of the vocabulary with a running maximum
 * and computes each block's logits a second time for the gradient, a fifth more work for a buffer
 * that does not grow with V.
 *
 * source  Press & Wolf 2017; Chowdhery et al. 2022, "PaLM", 5; Gemma Team 2024, "Gemma 2", 2;
 *         Wijmans et al. 2025, "Cut Your Losses in Large-Vocabulary Language Models"
 * needs   exp matmul logsumexp cross_entropy
 * see     @cross_entropy @label_smoothing @weight_tying
 * topics  Softmax Head
 */

/* The problem. soft_cap = 0: none. V <= rows. */
typedef struct {
    const float *h, *w; /* (N,C), (rows,C) */
    const int *target;  /* (N), LLM_CROSS_ENTROPY_IGNORE: does not count */
    size_t N, C, V, rows;
    float smoothing, z_loss, soft_cap;
} llm_softmax_head;

/* Without options and without padding. */
LLM_API llm_softmax_head llm_softmax_head_defaults(const float *h, const float *w,
                                                   const int *target, size_t N, size_t C,
                                                   size_t V) {
    llm_softmax_head p;
    p.h = h, p.w = w, p.target = target;
    p.N = N, p.C = C, p.V = p.rows = V;
    p.smoothing = p.z_loss = p.soft_cap = 0.0f;
    return p;
}

/* Targets that count. */
LLM_API size_t llm_softmax_head_kept(const int *target, size_t N) {
    size_t kept = 0;
    for (size_t n = 0; n < N; n++) kept += target[n] != LLM_CROSS_ENTROPY_IGNORE;
    return kept;
}

/* z (n) in place: capped. */
LLM_API void llm_softmax_head_cap(float *z, size_t n, float cap) {
    for (size_t i = 0; cap > 0.0f && i < n; i++) z[i] = cap * tanhf(z[i] / cap);
}

/* The loss of a row from its lse, its target's logit and the mean of all V. */
LLM_API float llm_softmax_head_loss(const llm_softmax_head *p, float lse, float at_target,
                                    float mean) {
    return lse - (1.0f - p->smoothing) * at_target - p->smoothing * mean + p->z_loss * lse * lse;
}

/* z (n) in place, columns first .. first + n of a row: logits become scale times their gradient. */
LLM_API void llm_softmax_head_row(float *z, size_t first, size_t n, const llm_softmax_head *p,
                                  int target, float lse, float scale) {
    const float all = scale * (1.0f + 2.0f * p->z_loss * lse), cap = p->soft_cap;
    const float each = scale * p->smoothing / (float)p->V, one = scale * (1.0f - p->smoothing);
    const size_t hit = (size_t)target - first; /* beyond n where the target is in another block */
    float at_target = hit < n ? z[hit] : 0.0f;
    if (cap > 0.0f) {
        for (size_t i = 0; i < n; i++) {
            const float t = z[i] / cap;
            z[i] = (all * llm_expf(z[i] - lse) - each) * (1.0f - t * t);
        }
        at_target /= cap;
        at_target = 1.0f - at_target * at_target;
    } else {
        for (size_t i = 0; i < n; i++) z[i] = all * llm_expf(z[i] - lse) - each;
        at_target = 1.0f;
    }
    if (hit < n) z[hit] -= one * at_target;
}

/* loss (N), lse (N), logits (N,rows) <- p. loss is 0 where the target is ignored. Returns the
 * number of rows that are not. */
LLM_API size_t llm_softmax_head_forward(float *loss, float *lse, float *logits,
                                        const llm_softmax_head *p) {
    llm_matmul_forward(logits, p->h, p->w, NULL, p->N, p->C, p->rows);
    LLM_PARALLEL_FOR
    for (size_t n = 0; n < p->N; n++) {
        float *z = logits + n * p->rows;
        const int target = p->target[n];
        double mean = 0.0;
        llm_softmax_head_cap(z, p->V, p->soft_cap);
        for (size_t i = p->V; i < p->rows; i++) z[i] = -INFINITY;
        lse[n] = llm_logsumexp(z, p->V);
        for (size_t i = 0; p->smoothing > 0.0f && i < p->V; i++) mean += (double)z[i];
        LLM_ASSERT(target == LLM_CROSS_ENTROPY_IGNORE || (target >= 0 && (size_t)target < p->V));
        loss[n] = target == LLM_CROSS_ENTROPY_IGNORE
                      ? 0.0f
                      : llm_softmax_head_loss(p, lse[n], z[target], (float)(mean / (double)p->V));
    }
    return llm_softmax_head_kept(p->target, p->N);
}

/* dh (N,C) += , dw (rows,C) += scale times the gradient of the summed loss; any may be NULL. logits
 * and lse are forward's; logits end as their own gradient. scale is 1 / kept for the mean. */
LLM_API void llm_softmax_head_backward(float *dh, float *dw, float *logits, const float *lse,
                                       const llm_softmax_head *p, float scale) {
    LLM_PARALLEL_FOR
    for (size_t n = 0; n < p->N; n++) {
        float *z = logits + n * p->rows;
        const bool ignored = p->target[n] == LLM_CROSS_ENTROPY_IGNORE;
        if (!ignored) llm_softmax_head_row(z, 0, p->V, p, p->target[n], lse[n], scale);
        for (size_t i = ignored ? 0 : p->V; i < p->rows; i++) z[i] = 0.0f;
    }
    llm_matmul_backward(dh, dw, NULL, logits, p->h, p->w, p->N, p->C, p->rows);
}

/* Both at once without (N,rows): loss (N) <- p, dh (N,C) += , dw (rows,C) += as above, NULL: the
 * loss only. block columns at a time. Returns the rows that count. Scratch: N (block + 4) floats,
 * given back. */
LLM_API size_t llm_softmax_head_chunked(float *loss, float *dh, float *dw,
                                        const llm_softmax_head *p, float scale, size_t block,
                                        llm_arena *arena) {
    const size_t mark = arena->used, N = p->N;
    float *z = llm_arena_floats(arena, N * block), *max = llm_arena_floats(arena, 4 * N);
    float *sum = max + N, *at_target = sum + N, *mean = at_target + N;
    LLM_ASSERT(block > 0);
    for (size_t n = 0; n < N; n++) max[n] = -INFINITY, sum[n] = mean[n] = at_target[n] = 0.0f;
    for (size_t first = 0; first < p->V; first += block) {
        const size_t size = p->V - first < block ? p->V - first : block;
        llm_matmul_forward(z, p->h, p->w + first * p->C, NULL, N, p->C, size);
        LLM_PARALLEL_FOR
        for (size_t n = 0; n < N; n++) {
            float *zn = z + n * size;
            const size_t hit = (size_t)p->target[n] - first;
            llm_softmax_head_cap(zn, size, p->soft_cap);
            const float lse = llm_logsumexp(zn, size), top = lse > max[n] ? lse : max[n];
            sum[n] = sum[n] * expf(max[n] - top) + expf(lse - top);
            max[n] = top;
            for (size_t i = 0; i < size; i++) mean[n] += zn[i] / (float)p->V;
            if (hit < size) at_target[n] = zn[hit];
        }
    }
    for (size_t n = 0; n < N; n++) {
        max[n] += logf(sum[n]); /* lse from here on */
        const bool ignored = p->target[n] == LLM_CROSS_ENTROPY_IGNORE;
        loss[n] = ignored ? 0.0f : llm_softmax_head_loss(p, max[n], at_target[n], mean[n]);
    }
    for (size_t first = 0; (dh || dw) && first < p->V; first += block) {
        const size_t size = p->V - first < block ? p->V - first : block;
        const float *w = p->w + first * p->C;
        llm_matmul_forward(z, p->h, w, NULL, N, p->C, size);
        LLM_PARALLEL_FOR
        for (size_t n = 0; n < N; n++) {
            float *zn = z + n * size;
            llm_softmax_head_cap(zn, size, p->soft_cap);
            if (p->target[n] == LLM_CROSS_ENTROPY_IGNORE)
                memset(zn, 0, size * sizeof(float));
            else
                llm_softmax_head_row(zn, first, size, p, p->target[n], max[n], scale);
        }
        llm_matmul_backward(dh, dw ? dw + first * p->C : NULL, NULL, z, p->h, w, N, p->C, size);
    }
    arena->used = mark;
    return llm_softmax_head_kept(p->target, N);
}

/* @weight_tying --------------------------------------------- Weight tying
 *
 *     h = s_in E[id]     z = s_out h E^T        one matrix E (V,C) for both ends of a model
 *     dE = (gradient of the lookup) + (gradient of the head)
 *
 * The embedding answers "what does this token mean", the head "which token means this": sharing the
 * matrix makes every token's vector learn from each place where it could have stood, and saves V C
 * weights, a third of GPT-2's smallest model. The two uses want different scales: the head's rows
 * near 0.02 to start with flat probabilities, the embeddings near 1 to be heard in the residual
 * stream. The 2017 Transformer and Gemma multiply the lookup by sqrt(C), T5 the logits by
 * 1/sqrt(C), GPT-2 does neither. With nothing between the two ends the logits E E^T are symmetric:
 * a then b gets the score of b then a, which no layer-free model can unlearn.
 *
 * In a file the matrix stands once: safetensors refuses two names for the same bytes, and a loader
 * has to restore the alias (or detect that a head was stored and differs).
 *
 * source  Press & Wolf 2017, "Using the Output Embedding to Improve Language Models"; Inan,
 *         Khosravi & Socher 2017, "Tying Word Vectors and Word Classifiers"; Vaswani et al. 2017,
 *         3.4
 * needs   arena logsumexp matmul embedding
 * see     @embedding @softmax_head @gpt2_file
 * topics  Weight Tying
 */

/* The two ends of a model. When tied, head is embed, and dhead is dembed. */
typedef struct {
    float *embed, *head, *dembed, *dhead; /* (V,C); the gradients may be NULL */
    float scale_in, scale_out;            /* of the lookup, of the logits */
} llm_weight_tying;

/* One matrix for both. */
LLM_API void llm_weight_tying_bind(llm_weight_tying *t, float *embed, float *dembed) {
    t->embed = t->head = embed;
    t->dembed = t->dhead = dembed;
    t->scale_in = t->scale_out = 1.0f;
}

/* A head of its own, which starts as a copy: head (V,C), dhead (V,C) or NULL. */
LLM_API void llm_weight_tying_untie(llm_weight_tying *t, float *head, float *dhead, size_t V,
                                    size_t C) {
    memcpy(head, t->embed, V * C * sizeof(float));
    t->head = head;
    t->dhead = dhead;
}

/* Weights at both ends. */
LLM_API size_t llm_weight_tying_count(const llm_weight_tying *t, size_t V, size_t C) {
    return t->head == t->embed ? V * C : 2 * V * C;
}

/* x (N,C) <- ids (N). */
LLM_API void llm_weight_tying_embed(float *x, const llm_weight_tying *t, const int *ids, size_t N,
                                    size_t V, size_t C) {
    llm_embedding_forward(x, ids, t->embed, N, V, C);
    for (size_t i = 0; i < N * C; i++) x[i] *= t->scale_in;
}

/* t->dembed += <- dx (N,C), which is overwritten by scale_in dx. */
LLM_API void llm_weight_tying_embed_backward(const llm_weight_tying *t, float *dx, const int *ids,
                                             size_t N, size_t V, size_t C) {
    for (size_t i = 0; i < N * C; i++) dx[i] *= t->scale_in;
    llm_embedding_backward(t->dembed, dx, ids, N, V, C);
}

/* logits (N,V) <- h (N,C). */
LLM_API void llm_weight_tying_logits(float *logits, const llm_weight_tying *t, const float *h,
                                     size_t N, size_t V, size_t C) {
    llm_matmul_forward(logits, h, t->head, NULL, N, C, V);
    for (size_t i = 0; i < N * V; i++) logits[i] *= t->scale_out;
}

/* dh (N,C) += , t->dhead += <- dlogits (N,V), which is overwritten by scale_out dlogits, and h. dh
 * may be NULL. */
LLM_API void llm_weight_tying_logits_backward(float *dh, const llm_weight_tying *t, float *dlogits,
                                              const float *h, size_t N, size_t V, size_t C) {
    for (size_t i = 0; i < N * V; i++) dlogits[i] *= t->scale_out;
    llm_matmul_backward(dh, t->dhead, NULL, dlogits, h, t->head, N, C, V);
}

/* One step of gradient descent on the model without layers, logits of the next token from this one
 * alone, on a table of how often b follows a: count (V,V), row a. Returns the mean loss before the
 * step. t's gradients are overwritten. Scratch: V (2 C + V + 2) floats, given back. */
LLM_API double llm_weight_tying_bigram_step(const llm_weight_tying *t, const float *count, size_t V,
                                            size_t C, float lr, llm_arena *arena) {
    const size_t mark = arena->used;
    float *x = llm_arena_floats(arena, V * C), *dx = llm_arena_floats(arena, V * C);
    float *z = llm_arena_floats(arena, V * V);
    int *ids = (int *)llm_arena_take(arena, V, sizeof(int));
    double loss = 0.0, total = 0.0;
    for (size_t i = 0; i < V; i++) ids[i] = (int)i;
    for (size_t i = 0; i < V * V; i++) total += (double)count[i];
    llm_weight_tying_embed(x, t, ids, V, V, C);
    llm_weight_tying_logits(z, t, x, V, V, C);
    for (size_t a = 0; a < V; a++) {
        float *za = z + a * V, row = 0.0f;
        const float lse = llm_logsumexp(za, V);
        for (size_t b = 0; b < V; b++) row += count[a * V + b];
        for (size_t b = 0; b < V; b++) {
            loss += (double)count[a * V + b] * (double)(lse - za[b]) / total;
            za[b] = (row * expf(za[b] - lse) - count[a * V + b]) / (float)total;
        }
    }
    memset(t->dembed, 0, V * C * sizeof(float));
    memset(t->dhead, 0, V * C * sizeof(float));
    memset(dx, 0, V * C * sizeof(float));
    llm_weight_tying_logits_backward(dx, t, z, x, V, V, C);
    llm_weight_tying_embed_backward(t, dx, ids, V, V, C);
    for (size_t i = 0; i < V * C; i++) t->embed[i] -= lr * t->dembed[i];
    for (size_t i = 0; t->head != t->embed && i < V * C; i++) t->head[i] -= lr * t->dhead[i];
    arena->used = mark;
    return loss;
}

/* @next_token ----------------------------------------------- Next-token prediction
 *
 *     loss = 1/n sum over counted t of -log p(ids[t+1] | ids[0..t])
 *
 * The objective of every GPT: each place of a text is a question whose answer stands one further,
 * so a row of T tokens gives T - 1 of them for one pass. Three details decide whether a training is
 * right. The shift belongs in one place, or it is made twice. The mean is over the tokens that
 * count, of all micro-batches of a step together: the mean of their means weighs a token in a short
 * one more (a bug that stood in most libraries until 2024). And packed rows, several texts one
 * behind the other, should not let a text attend to the one before it, nor be asked for the first
 * token of the next.
 *
 * source  Bengio et al. 2003; Radford et al. 2018, eq. 1; Krell et al. 2021, "Efficient Sequence
 *         Packing without Cross-contamination"; Ding et al. 2024, "Fewer Truncations Improve
 *         Language Modeling" (best fit)
 * needs   arena argsort cross_entropy
 * see     @softmax_head @grad_accum @perplexity @attn_mask
 * topics  Next-Token Prediction Objective (Causal Language Modeling)
 */

/* target (B,T) <- ids (B,T): the id one further in the row, LLM_CROSS_ENTROPY_IGNORE at its end and
 * where mask (B,T), which may be NULL, is false for the id asked for (a prompt, padding). Returns
 * how many count. */
LLM_API size_t llm_next_token_targets(int *target, const int *ids, const bool *mask, size_t B,
                                      size_t T) {
    size_t count = 0;
    for (size_t i = 0; i < B * T; i++) {
        const bool asked = i % T + 1 < T && (!mask || mask[i + 1]);
        target[i] = asked ? ids[i + 1] : LLM_CROSS_ENTROPY_IGNORE;
        count += asked;
    }
    return count;
}

/* Mean loss of logits (B,T,V) against the next ids (B,T), as transformers' models compute it from
 * labels; 0 where nothing counts. dlogits (B,T,V) += , unless NULL, scale times the gradient of the
 * summed loss (1 / count gives the mean's). Scratch: 3 B T numbers, given back. */
LLM_API float llm_next_token_loss(float *dlogits, const float *logits, const int *ids,
                                  const bool *mask, size_t B, size_t T, size_t V, float scale,
                                  llm_arena *arena) {
    const size_t mark = arena->used, N = B * T;
    int *target = (int *)llm_arena_take(arena, N, sizeof(int));
    float *loss = llm_arena_floats(arena, N), *lse = llm_arena_floats(arena, N);
    const size_t count = llm_next_token_targets(target, ids, mask, B, T);
    double sum = 0.0;
    llm_cross_entropy_forward(loss, lse, logits, target, N, V);
    for (size_t i = 0; i < N; i++) sum += (double)loss[i];
    if (dlogits) llm_cross_entropy_backward(dlogits, logits, lse, target, N, V, scale);
    arena->used = mark;
    return count > 0 ? (float)(sum / (double)count) : 0.0f;
}

/* A step in pieces: sum of losses and of counted tokens over micro-batches. */
typedef struct {
    double nats;
    size_t tokens;
} llm_next_token_sum;

/* Adds a micro-batch of `tokens` counted tokens with that mean loss. Its gradient is to be weighted
 * by llm_next_token_weight, not by 1 / (number of micro-batches). */
LLM_API void llm_next_token_accumulate(llm_next_token_sum *s, float mean, size_t tokens) {
    s->nats += (double)mean * (double)tokens;
    s->tokens += tokens;
}
LLM_API float llm_next_token_mean(const llm_next_token_sum *s) {
    return s->tokens > 0 ? (float)(s->nats / (double)s->tokens) : 0.0f;
}

/* The share of a micro-batch in the gradient of the whole step: its tokens over all tokens. */
LLM_API float llm_next_token_weight(size_t tokens, size_t all_tokens) {
    return all_tokens > 0 ? (float)tokens / (float)all_tokens : 0.0f;
}

/* Packs texts ids[start[i] .. start[i+1]) (i < n) into rows (R,T) of tokens, each text followed by
 * eos. best_fit: no text is cut (one of T tokens or more is cut to its first T - 1), the longest is
 * placed first, each into the fullest row that still has room, and what is left of a row is pad;
 * else the texts follow each other through all rows, cut at their ends, and only the last is
 * padded. doc (R,T) gets the number of the text, or -1 for padding, pos (R,T) the place in its
 * text, counted anew in each row. Returns the number of rows; tokens, doc and pos have room for
 * most of them. Scratch: n floats, n indices and most sizes, given back. */
LLM_API size_t llm_next_token_pack(int *tokens, int *doc, int *pos, const int *ids,
                                   const size_t *start, size_t n, size_t T, int eos, int pad,
                                   bool best_fit, size_t most, llm_arena *arena) {
    const size_t mark = arena->used;
    float *size = llm_arena_floats(arena, n);
    size_t *order = (size_t *)llm_arena_take(arena, n, sizeof(size_t));
    size_t *used = (size_t *)llm_arena_take(arena, most, sizeof(size_t)), rows = 0;
    for (size_t i = 0; i < most * T; i++) tokens[i] = pad, doc[i] = -1, pos[i] = 0;
    for (size_t i = 0; i < n; i++) size[i] = -(float)(start[i + 1] - start[i]);
    llm_argsort(order, size, n); /* the longest first, equals in their order */

    for (size_t k = 0; k < n; k++) {
        const size_t i = best_fit ? order[k] : k, all = start[i + 1] - start[i];
        const size_t length = best_fit && all > T - 1 ? T - 1 : all;
        size_t row = rows;
        for (size_t r = 0; best_fit && r < rows; r++) {
            const bool fits = used[r] + length + 1 <= T;
            if (fits && (row == rows || used[r] > used[row])) row = r;
        }
        if (!best_fit && rows > 0 && used[rows - 1] < T) row = rows - 1;
        for (size_t t = 0, in_row = 0; t <= length; t++, in_row++) {
            if (row < rows && used[row] == T) row = rows;
            if (row == rows) {
                LLM_ASSERT(rows < most);
                used[rows++] = 0;
                in_row = 0;
            }
            const size_t at = row * T + used[row]++;
            tokens[at] = t < length ? ids[start[i] + t] : eos;
            doc[at] = (int)i;
            pos[at] = (int)in_row;
        }
    }
    arena->used = mark;
    return rows;
}

/* mask (R,T,T): query t may see key u of its own text, at or before it. target_mask (R,T): what
 * llm_next_token_loss may ask for: tokens that are not the first of their text. Padding sees
 * itself, so that no softmax is empty. */
LLM_API void llm_next_token_pack_mask(bool *mask, bool *target_mask, const int *doc, size_t R,
                                      size_t T) {
    for (size_t i = 0; i < R * T; i++) {
        const int *row = doc + i / T * T;
        const size_t t = i % T;
        target_mask[i] = row[t] >= 0 && t > 0 && row[t - 1] == row[t];
        for (size_t u = 0; u < T; u++)
            mask[i * T + u] = u <= t && (row[u] == row[t]) && (row[t] >= 0 || u == t);
    }
}

/* @safetensors_dtype ---------------------------------------- Weight files: element types
 *
 *     value = (-1)^sign 2^(e - bias) (1 + f / 2^M)          bias = 2^(E-1) - 1
 *     value = (-1)^sign 2^(1 - bias) (f / 2^M)              where e = 0: below the normal range
 *
 * Weights are stored in 16 or 8 bits: a sign, E bits of exponent e, M bits of fraction f. F16 has
 * E = 5, M = 10; BF16 is the upper half of a float, 8 and 7; F8_E5M2 and F8_E4M3 say it in their
 * names. All of them fit into float, so the conversion is exact. An exponent of all ones is
 * infinity or NaN, except in E4M3, which has no infinity and gives up only the two codes of all
 * ones to NaN: its largest number is 448.
 *
 * source  IEEE 754-2019, 3.4; Micikevicius et al. 2022, "FP8 Formats for Deep Learning", table 1
 * needs   -
 * see     @safetensors
 * topics  -
 */
typedef enum {
    /* in the order of the format's own library, in which it writes the data, last dtype first */
    LLM_SAFETENSORS_BOOL,
    LLM_SAFETENSORS_U8,
    LLM_SAFETENSORS_I8,
    LLM_SAFETENSORS_F8_E5M2,
    LLM_SAFETENSORS_F8_E4M3,
    LLM_SAFETENSORS_F8_E8M0,
    LLM_SAFETENSORS_I16,
    LLM_SAFETENSORS_U16,
    LLM_SAFETENSORS_F16,
    LLM_SAFETENSORS_BF16,
    LLM_SAFETENSORS_I32,
    LLM_SAFETENSORS_U32,
    LLM_SAFETENSORS_F32,
    LLM_SAFETENSORS_C64,
    LLM_SAFETENSORS_F64,
    LLM_SAFETENSORS_I64,
    LLM_SAFETENSORS_U64,
    LLM_SAFETENSORS_DTYPES
} llm_safetensors_dtype;

/* The name of a dtype in a file; *size gets the bytes of an element. */
LLM_API const char *llm_safetensors_dtype_name(size_t *size, llm_safetensors_dtype dtype) {
    static const char *const name[LLM_SAFETENSORS_DTYPES] = {
        "BOOL", "U8",  "I8",  "F8_E5M2", "F8_E4M3", "F8_E8M0", "I16", "U16", "F16",
        "BF16", "I32", "U32", "F32",     "C64",     "F64",     "I64", "U64"};
    static const size_t bytes[LLM_SAFETENSORS_DTYPES] = {1, 1, 1, 1, 1, 1, 2, 2, 2,
                                                         2, 4, 4, 4, 8, 8, 8, 8};
    *size = bytes[dtype];
    return name[dtype];
}

/* The float of a code with E bits of exponent and M of fraction; `finite`: without infinity. */
LLM_API float llm_safetensors_dtype_short(uint32_t code, int E, int M, bool finite) {
    const uint32_t top = ((uint32_t)1 << E) - 1, ones = ((uint32_t)1 << M) - 1;
    const uint32_t e = code >> M & top, f = code & ones, bias = top >> 1;
    uint32_t bits = (e + 127 - bias) << 23 | f << (23 - M);
    if (e == top && (!finite || f == ones)) bits = (uint32_t)255 << 23 | f << (23 - M);
    float value = (float)f * ldexpf(1.0f, 1 - (int)bias - M);
    if (e > 0) memcpy(&value, &bits, sizeof bits);
    return code >> (E + M) & 1 ? -value : value;
}

/* out (count) <- data (count), little-endian and at any address. False where the dtype is none of
 * F32, F16, BF16, F8_E5M2, F8_E4M3. */
LLM_API bool llm_safetensors_dtype_floats(float *out, const unsigned char *data, size_t count,
                                          llm_safetensors_dtype dtype) {
    const unsigned char *p = data;
    if (dtype == LLM_SAFETENSORS_F32) {
        for (size_t i = 0; i < count; i++, p += 4) {
            const uint32_t low = p[0] | (uint32_t)p[1] << 8;
            const uint32_t bits = low | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
            memcpy(&out[i], &bits, sizeof bits);
        }
    } else if (dtype == LLM_SAFETENSORS_F16) {
        for (size_t i = 0; i < count; i++, p += 2)
            out[i] = llm_safetensors_dtype_short(p[0] | (uint32_t)p[1] << 8, 5, 10, false);
    } else if (dtype == LLM_SAFETENSORS_BF16) {
        for (size_t i = 0; i < count; i++, p += 2)
            out[i] = llm_safetensors_dtype_short(p[0] | (uint32_t)p[1] << 8, 8, 7, false);
    } else if (dtype == LLM_SAFETENSORS_F8_E5M2) {
        for (size_t i = 0; i < count; i++) out[i] = llm_safetensors_dtype_short(p[i], 5, 2, false);
    } else if (dtype == LLM_SAFETENSORS_F8_E4M3) {
        for (size_t i = 0; i < count; i++) out[i] = llm_safetensors_dtype_short(p[i], 4, 3, true);
    } else {
        return false;
    }
    return true;
}

/* @llama_block ---------------------------------------------- Decoder block, the form of Llama
 *
 *     m = x + GQA(rope(q), rope(k), v) W_out^T            q, k, v = RMSNorm1(x) W_qkv^T
 *     y = m + (silu(n W_gate^T) * (n W_up^T)) W_down^T    n = RMSNorm2(m)
 *
 * What became of GPT-2's block in five years: RMSNorm for LayerNorm, rotations instead of a table
 * of positions, several query heads on one head of keys, a gated MLP, and no bias anywhere.
 * Attention is computed head by head from (B,H,T,D) and its weights are not stored: backward finds
 * them again from one number a row (@gqa), so memory grows with T and not with its square.
 *
 * source  Touvron et al. 2023, "LLaMA" and "Llama 2"; transformers, models/llama
 * needs   arena matmul rmsnorm qkv rope gqa ffn
 * see     @decoder_block (GPT-2's form), @decoder_only
 * topics  -
 */
typedef struct {
    size_t width, heads, kv_heads, head_size, hidden; /* C, H, Hkv, D, F */
    float eps;
    llm_rope_pairing pairing;
} llm_llama_block_config;

/* Weights, or their gradients. */
typedef struct {
    float *norm1, *norm2; /* (C) */
    float *qkv;           /* ((H+2Hkv)D,C): query heads, key heads, value heads */
    float *out;           /* (C,H D) */
    llm_ffn_weights ffn;  /* gate, up (F,C), down (C,F) */
} llm_llama_block_weights;

/* All that forward leaves for backward, N = B T. */
typedef struct {
    float *norm1, *norm2, *mid; /* (N,C) */
    float *q, *k, *v, *heads;   /* (B,H,T,D), (B,Hkv,T,D) twice, (B,H,T,D): rotated q and k */
    float *mixed;               /* (N,H D): heads side by side */
    float *rstd1, *rstd2, *lse; /* (N), (N), (B,H,T) */
    llm_ffn_acts ffn;           /* gate, up, hidden (N,F) */
} llm_llama_block_acts;

/* Floats of the activations of a block, and of the scratch of forward and backward. */
LLM_API size_t llm_llama_block_acts_size(const llm_llama_block_config *c, size_t B, size_t T) {
    const size_t heads = (3 * c->heads + 2 * c->kv_heads) * c->head_size;
    return B * T * (3 * c->width + heads + 3 * c->hidden + c->heads + 2);
}
LLM_API size_t llm_llama_block_scratch_size(const llm_llama_block_config *c, size_t B, size_t T) {
    const size_t qkv = (c->heads + 2 * c->kv_heads) * c->head_size;
    const size_t attn = 2 * c->heads * c->head_size + 3 * qkv + 64 * c->heads;
    const size_t ffn = 3 * c->hidden;
    return B * T * (c->width + (attn > ffn ? attn : ffn)) + 16 * 16; /* the arena rounds up to 16 */
}

/* Points a into acts_size floats. */
LLM_API void llm_llama_block_bind(llm_llama_block_acts *a, float *p,
                                  const llm_llama_block_config *c, size_t B, size_t T) {
    const size_t N = B * T, C = c->width, F = c->hidden;
    const size_t Q = N * c->heads * c->head_size, K = N * c->kv_heads * c->head_size;
    a->norm1 = p, p += N * C;
    a->norm2 = p, p += N * C;
    a->mid = p, p += N * C;
    a->q = p, p += Q;
    a->k = p, p += K;
    a->v = p, p += K;
    a->heads = p, p += Q;
    a->mixed = p, p += Q;
    a->ffn.gate = p, p += N * F;
    a->ffn.up = p, p += N * F;
    a->ffn.hidden = p, p += N * F;
    a->lse = p, p += N * c->heads;
    a->rstd1 = p, p += N;
    a->rstd2 = p;
}

/* The shapes of its two parts. */
LLM_API void llm_llama_block_shapes(llm_qkv_config *qkv, llm_gqa_config *gqa,
                                    const llm_llama_block_config *c, size_t B, size_t T) {
    qkv->B = B, qkv->T = T, qkv->C = c->width;
    qkv->H = c->heads, qkv->Hkv = c->kv_heads, qkv->D = c->head_size;
    *gqa = llm_gqa_defaults(B, c->heads, c->kv_heads, T, c->head_size);
}

/* y (B,T,C), a <- x (B,T,C), cosine, sine (T,D/2) of llm_rope_table. y may not be x. */
LLM_API void llm_llama_block_forward(float *y, const llm_llama_block_acts *a, const float *x,
                                     const llm_llama_block_weights *w, const float *cosine,
                                     const float *sine, size_t B, size_t T,
                                     const llm_llama_block_config *c, llm_arena *arena) {
    const size_t N = B * T, C = c->width, H = c->heads, D = c->head_size;
    llm_qkv_config qkv;
    llm_gqa_config gqa;
    llm_llama_block_shapes(&qkv, &gqa, c, B, T);
    llm_rmsnorm_forward(a->norm1, a->rstd1, x, w->norm1, N, C, c->eps);
    llm_qkv_forward(a->q, a->k, a->v, a->norm1, w->qkv, NULL, &qkv, arena);
    llm_rope_forward(a->q, a->q, cosine, sine, 1, B * H, T, D, D, c->pairing);
    llm_rope_forward(a->k, a->k, cosine, sine, 1, B * c->kv_heads, T, D, D, c->pairing);
    llm_gqa_forward(a->heads, a->lse, a->q, a->k, a->v, &gqa, arena);
    for (size_t b = 0; b < B; b++)
        llm_qkv_swap(a->mixed + b * T * H * D, a->heads + b * T * H * D, H, T, D);
    llm_matmul_forward(a->mid, a->mixed, w->out, NULL, N, H * D, C);
    for (size_t i = 0; i < N * C; i++) a->mid[i] += x[i];

    llm_rmsnorm_forward(a->norm2, a->rstd2, a->mid, w->norm2, N, C, c->eps);
    llm_ffn_forward(y, &a->ffn, a->norm2, &w->ffn, N, C, c->hidden, LLM_ACTIVATION_SILU);
    for (size_t i = 0; i < N * C; i++) y[i] += a->mid[i];
}

/* d (B,T,C) in place: the gradient of y becomes the gradient of x; dw += . The rest as in
 * forward. */
LLM_API void llm_llama_block_backward(float *d, const llm_llama_block_weights *dw,
                                      const llm_llama_block_acts *a, const float *x,
                                      const llm_llama_block_weights *w, const float *cosine,
                                      const float *sine, size_t B, size_t T,
                                      const llm_llama_block_config *c, llm_arena *arena) {
    const size_t mark = arena->used, N = B * T, C = c->width, H = c->heads, D = c->head_size;
    const size_t Q = N * H * D, K = N * c->kv_heads * D;
    llm_qkv_config qkv;
    llm_gqa_config gqa;
    llm_llama_block_shapes(&qkv, &gqa, c, B, T);
    float *dnorm = llm_arena_floats(arena, N * C);
    memset(dnorm, 0, N * C * sizeof(float));
    llm_ffn_backward(dnorm, &dw->ffn, d, &a->ffn, a->norm2, &w->ffn, N, C, c->hidden,
                     LLM_ACTIVATION_SILU, false, arena);
    llm_rmsnorm_backward(d, dw->norm2, dnorm, a->mid, w->norm2, a->rstd2, N, C);

    float *dmixed = llm_arena_floats(arena, Q), *dheads = llm_arena_floats(arena, Q);
    float *turned = llm_arena_floats(arena, Q + 2 * K), *flat = llm_arena_floats(arena, Q + K);
    memset(dmixed, 0, Q * sizeof(float));
    llm_matmul_backward(dmixed, dw->out, NULL, d, a->mixed, w->out, N, H * D, C);
    for (size_t b = 0; b < B; b++)
        llm_qkv_swap(dheads + b * T * H * D, dmixed + b * T * H * D, T, H, D);
    memset(turned, 0, (Q + 2 * K) * sizeof(float));
    memset(flat, 0, (Q + K) * sizeof(float));
    float *dq = turned, *dk = dq + Q, *dv = dk + K;
    llm_gqa_backward(dq, dk, dv, dheads, a->heads, a->lse, a->q, a->k, a->v, &gqa);
    llm_rope_backward(flat, dq, cosine, sine, 1, B * H, T, D, D, c->pairing);
    llm_rope_backward(flat + Q, dk, cosine, sine, 1, B * c->kv_heads, T, D, D, c->pairing);
    memset(dnorm, 0, N * C * sizeof(float));
    llm_qkv_backward(dnorm, dw->qkv, NULL, flat, flat + Q, dv, a->norm1, w->qkv, &qkv, arena);
    llm_rmsnorm_backward(d, dw->norm1, dnorm, x, w->norm1, a->rstd1, N, C);
    arena->used = mark;
}

/* @decoder_only --------------------------------------------- Decoder-only Transformer, Llama style
 *
 *     x = E[id]        x = block_l(x), l = 1..L        logits = RMSNorm(x) W_head^T
 *
 * The model that most released language models are. No table of positions: the rotation inside the
 * blocks does that, and the context is a matter of training, not of a shape. Small ones tie the
 * head to the embedding, large ones do not. Weights, gradients and moments stand in flat vectors as
 * in @gpt2_weights, matrices first, because only they decay.
 *
 * source  Touvron et al. 2023, "Llama 2"; transformers, models/llama
 * needs   arena rng error matmul adamw embedding rmsnorm rope llama_block softmax_head
 * see     @gpt2 @llama_block @weight_tying
 * topics  Decoder-only Transformer
 */
typedef struct {
    size_t vocab, context, layers;
    bool tied;
    float theta; /* of the rotations: 10000, Llama 3: 500000 */
    llm_llama_block_config block;
} llm_decoder_only_config;

/* The named parts of one flat vector. */
typedef struct {
    float *embed, *head, *norm; /* (V,C), (V,C) or embed, (C) */
    llm_llama_block_weights *block;
} llm_decoder_only_weights;

typedef struct {
    llm_decoder_only_config config;
    size_t count, matrices; /* all weights; the first of them, which decay */
    float *w, *g, *m, *v;   /* (count) weights, gradients, AdamW's moments */
    llm_decoder_only_weights weights, grads;
    llm_arena memory;
    size_t mark; /* where the activations start */

    size_t B, T, kept; /* of the last forward */
    int *ids, *targets;
    float *x;                    /* (L+1,B,T,C) */
    float *cosine, *sine;        /* (T,D/2) */
    llm_llama_block_acts *block; /* (L) */
    float *rstd, *norm, *logits; /* (B,T), (B,T,C), (B,T,V) */
    float *loss, *lse;           /* (B,T) */
} llm_decoder_only;

/* Points t into flat. Returns the number of weights. */
LLM_API size_t llm_decoder_only_bind(llm_decoder_only_weights *t, float *flat, size_t *matrices,
                                     const llm_decoder_only_config *c) {
    const size_t C = c->block.width, F = c->block.hidden, D = c->block.head_size;
    const size_t H = c->block.heads, Hkv = c->block.kv_heads;
    float *p = flat;
    t->embed = t->head = p, p += c->vocab * C;
    if (!c->tied) t->head = p, p += c->vocab * C;
    for (size_t l = 0; l < c->layers; l++) {
        llm_llama_block_weights *b = &t->block[l];
        b->qkv = p, p += (H + 2 * Hkv) * D * C;
        b->out = p, p += C * H * D;
        b->ffn.gate = p, p += F * C;
        b->ffn.up = p, p += F * C;
        b->ffn.down = p, p += C * F;
        b->ffn.up_bias = b->ffn.down_bias = NULL;
    }
    *matrices = (size_t)(p - flat);
    for (size_t l = 0; l < c->layers; l++) {
        t->block[l].norm1 = p, p += C;
        t->block[l].norm2 = p, p += C;
    }
    t->norm = p, p += C;
    return (size_t)(p - flat);
}
LLM_API size_t llm_decoder_only_count(const llm_decoder_only_config *c) {
    const llm_llama_block_config *b = &c->block;
    const size_t attn = (2 * b->heads + 2 * b->kv_heads) * b->head_size, C = b->width;
    return c->vocab * C * (c->tied ? 1 : 2) + c->layers * C * (attn + 3 * b->hidden + 2) + C;
}

/* Allocates a model for batches of up to B rows of T tokens. */
LLM_API bool llm_decoder_only_create(llm_decoder_only *g, const llm_decoder_only_config *c,
                                     size_t B, size_t T, llm_error *e) {
    const size_t N = B * T, C = c->block.width, L = c->layers, count = llm_decoder_only_count(c);
    const size_t parts = 2 * sizeof(llm_llama_block_weights) + sizeof(llm_llama_block_acts);
    const size_t size = 4 * count + N * ((L + 3) * C + c->vocab + 5) + T * c->block.head_size +
                        L * (llm_llama_block_acts_size(&c->block, B, T) + 16) +
                        llm_llama_block_scratch_size(&c->block, B, T) + 16 * 32;
    LLM_ASSERT(T <= c->context && c->block.heads % c->block.kv_heads == 0);
    llm_arena *a = &g->memory;
    if (!llm_arena_create(a, size * sizeof(float) + L * parts + 256))
        return llm_fail(e, "no memory for a model of %zu weights", count);
    g->config = *c;
    g->weights.block =
        (llm_llama_block_weights *)llm_arena_take(a, L, sizeof(llm_llama_block_weights));
    g->grads.block =
        (llm_llama_block_weights *)llm_arena_take(a, L, sizeof(llm_llama_block_weights));
    g->block = (llm_llama_block_acts *)llm_arena_take(a, L, sizeof(llm_llama_block_acts));
    float **const vector[4] = {&g->w, &g->g, &g->m, &g->v};
    for (size_t i = 0; i < 4; i++) {
        *vector[i] = llm_arena_floats(a, count);
        memset(*vector[i], 0, count * sizeof(float));
    }
    g->count = llm_decoder_only_bind(&g->weights, g->w, &g->matrices, c);
    llm_decoder_only_bind(&g->grads, g->g, &g->matrices, c);
    g->mark = a->used;
    g->B = g->T = g->kept = 0;
    return true;
}
LLM_API void llm_decoder_only_destroy(llm_decoder_only *g) { llm_arena_destroy(&g->memory); }

/* Matrices N(0, 0.02), gains 1. */
LLM_API void llm_decoder_only_init(llm_decoder_only *g, llm_rng *rng) {
    llm_rng_normal_fill(rng, g->w, g->matrices);
    for (size_t i = 0; i < g->matrices; i++) g->w[i] *= 0.02f;
    for (size_t i = g->matrices; i < g->count; i++) g->w[i] = 1.0f;
}

/* Logits for ids (B,T). Returns the mean loss over the targets (B,T) that count, 0 when targets is
 * NULL. */
LLM_API float llm_decoder_only_forward(llm_decoder_only *g, const int *ids, const int *targets,
                                       size_t B, size_t T) {
    const llm_decoder_only_config *c = &g->config;
    const size_t N = B * T, C = c->block.width, L = c->layers, D = c->block.head_size;
    llm_arena *a = &g->memory;
    LLM_ASSERT(T <= c->context);
    a->used = g->mark;
    g->B = B, g->T = T, g->kept = 0;
    g->ids = (int *)llm_arena_take(a, N, sizeof(int));
    g->targets = (int *)llm_arena_take(a, N, sizeof(int));
    memcpy(g->ids, ids, N * sizeof(int));
    g->x = llm_arena_floats(a, (L + 1) * N * C);
    g->cosine = llm_arena_floats(a, T * D / 2);
    g->sine = llm_arena_floats(a, T * D / 2);
    float *inv_freq = llm_arena_floats(a, D / 2);
    llm_rope_inv_freq(inv_freq, D, c->theta);
    llm_rope_table(g->cosine, g->sine, NULL, inv_freq, T, D);
    llm_embedding_forward(g->x, g->ids, g->weights.embed, N, c->vocab, C);
    for (size_t l = 0; l < L; l++) {
        float *acts = llm_arena_floats(a, llm_llama_block_acts_size(&c->block, B, T));
        llm_llama_block_bind(&g->block[l], acts, &c->block, B, T);
        llm_llama_block_forward(g->x + (l + 1) * N * C, &g->block[l], g->x + l * N * C,
                                &g->weights.block[l], g->cosine, g->sine, B, T, &c->block, a);
    }
    g->rstd = llm_arena_floats(a, N);
    g->norm = llm_arena_floats(a, N * C);
    g->logits = llm_arena_floats(a, N * c->vocab);
    llm_rmsnorm_forward(g->norm, g->rstd, g->x + L * N * C, g->weights.norm, N, C, c->block.eps);
    if (!targets) {
        llm_matmul_forward(g->logits, g->norm, g->weights.head, NULL, N, C, c->vocab);
        return 0.0f;
    }
    g->loss = llm_arena_floats(a, N);
    g->lse = llm_arena_floats(a, N);
    memcpy(g->targets, targets, N * sizeof(int));
    const llm_softmax_head head =
        llm_softmax_head_defaults(g->norm, g->weights.head, g->targets, N, C, c->vocab);
    g->kept = llm_softmax_head_forward(g->loss, g->lse, g->logits, &head);
    double sum = 0.0;
    for (size_t n = 0; n < N; n++) sum += (double)g->loss[n];
    return g->kept ? (float)(sum / (double)g->kept) : 0.0f;
}

/* g->g += gradient of the mean loss of the last forward, once: g->logits end as their gradient. */
LLM_API void llm_decoder_only_backward(llm_decoder_only *g) {
    const llm_decoder_only_config *c = &g->config;
    const size_t N = g->B * g->T, C = c->block.width, L = c->layers;
    llm_arena *a = &g->memory;
    const size_t mark = a->used;
    if (!g->kept) return;
    float *d = llm_arena_floats(a, N * C), *dnorm = llm_arena_floats(a, N * C);
    const llm_softmax_head head =
        llm_softmax_head_defaults(g->norm, g->weights.head, g->targets, N, C, c->vocab);
    memset(dnorm, 0, N * C * sizeof(float));
    llm_softmax_head_backward(dnorm, g->grads.head, g->logits, g->lse, &head,
                              1.0f / (float)g->kept);
    memset(d, 0, N * C * sizeof(float));
    llm_rmsnorm_backward(d, g->grads.norm, dnorm, g->x + L * N * C, g->weights.norm, g->rstd, N, C);
    for (size_t l = L; l-- > 0;)
        llm_llama_block_backward(d, &g->grads.block[l], &g->block[l], g->x + l * N * C,
                                 &g->weights.block[l], g->cosine, g->sine, g->B, g->T, &c->block,
                                 a);
    llm_embedding_backward(g->grads.embed, d, g->ids, N, c->vocab, C);
    a->used = mark;
}

/* One AdamW step, t counts from 1; gains do not decay. Clears the gradients. */
LLM_API void llm_decoder_only_step(llm_decoder_only *g, const llm_adamw_config *adamw, size_t t) {
    llm_adamw_config rest = *adamw;
    rest.weight_decay = 0.0f;
    const size_t n = g->matrices;
    llm_adamw_step(g->w, g->m, g->v, g->g, n, adamw, t);
    llm_adamw_step(g->w + n, g->m + n, g->v + n, g->g + n, g->count - n, &rest, t);
    memset(g->g, 0, g->count * sizeof(float));
}

/* @safetensors ---------------------------------------------- Weight files: safetensors, reading
 *
 *     8 bytes: length n of the header | n bytes of JSON | the data of all tensors, without a gap
 *     header = {"wte": {"dtype": "F32", "shape": [50257, 768], "data_offsets": [0, 154389504]}, ..}
 *
 * Released weights come in this form because the older one, a Python pickle, is a program that
 * runs when it is loaded. This is a table of contents and numbers. The file is mapped, so opening
 * it takes no time and tensors are read when they are looked at. A download is not to be believed:
 * offsets can overlap, leave holes to hide things in, or point outside, and a shape's product can
 * wrap to a size that fits. All that is checked at opening; afterwards every tensor lies inside.
 * Numbers are little-endian and may stand at odd addresses.
 *
 * source  Hugging Face, "Safetensors", format description in the README, 2022; the rules for shapes
 *         and offsets are those of its Rust library, 0.8
 * needs   error size file json safetensors_dtype
 * see     @safetensors_write @gpt2
 * topics  -
 */
enum { LLM_SAFETENSORS_RANK = 8, LLM_SAFETENSORS_HEADER = 100000000 };
typedef struct {
    const char *name;
    llm_safetensors_dtype dtype;
    size_t rank, shape[LLM_SAFETENSORS_RANK]; /* row-major; rank 0 is one number */
    const unsigned char *data;
    size_t size; /* in bytes */
} llm_safetensors_tensor;

typedef struct {
    llm_safetensors_tensor *tensor; /* sorted by name */
    size_t count;
    llm_file file;
    llm_json header; /* node[0], whose "__metadata__", if it is there, maps strings to strings */
} llm_safetensors;

/* Frees what llm_safetensors_open has taken. */
LLM_API void llm_safetensors_close(llm_safetensors *s) {
    free(s->tensor);
    llm_json_free(&s->header);
    llm_file_free(&s->file);
    s->tensor = NULL;
    s->count = 0;
}

/* *bytes = product of the shape times the size of an element; false where it does not fit. */
LLM_API bool llm_safetensors_bytes(size_t *bytes, const llm_safetensors_tensor *t) {
    size_t element;
    bool fits = true;
    *bytes = 1;
    for (size_t i = 0; i < t->rank; i++) fits = llm_size_mul(bytes, *bytes, t->shape[i]) && fits;
    llm_safetensors_dtype_name(&element, t->dtype);
    return llm_size_mul(bytes, *bytes, element) && fits;
}

/* Two orders for qsort: names; places, where an empty tensor comes before what begins there. */
LLM_API int llm_safetensors_by_name(const void *a, const void *b) {
    return strcmp(((const llm_safetensors_tensor *)a)->name,
                  ((const llm_safetensors_tensor *)b)->name);
}
LLM_API int llm_safetensors_by_place(const void *a, const void *b) {
    const llm_safetensors_tensor *x = (const llm_safetensors_tensor *)a;
    const llm_safetensors_tensor *y = (const llm_safetensors_tensor *)b;
    if (x->data != y->data) return x->data < y->data ? -1 : 1;
    return (x->size > y->size) - (x->size < y->size);
}

/* The member of that name if there is exactly one and it is of that kind: a reader that takes the
 * first of two and a reader that takes the last would see different files. */
LLM_API const llm_json_node *llm_safetensors_field(const llm_json *j, const llm_json_node *object,
                                                   const char *key, llm_json_kind kind) {
    const llm_json_node *found = NULL;
    for (const llm_json_node *v = llm_json_first(j, object); v; v = llm_json_next(j, v)) {
        if (v->key_size != strlen(key) || memcmp(v->key, key, v->key_size) != 0) continue;
        if (found || v->kind != kind) return NULL;
        found = v;
    }
    return found;
}

/* Whether v is an object whose members are all strings. */
LLM_API bool llm_safetensors_metadata(const llm_json *j, const llm_json_node *v) {
    bool strings = v->kind == LLM_JSON_OBJECT;
    for (v = llm_json_first(j, v); v; v = llm_json_next(j, v))
        strings = strings && v->kind == LLM_JSON_STRING;
    return strings;
}

/* t (zeros) <- a member of the header; there are `room` bytes of data. */
LLM_API bool llm_safetensors_member(llm_safetensors_tensor *t, const llm_json *j,
                                    const llm_json_node *member, const unsigned char *data,
                                    size_t room, llm_error *error) {
    const llm_json_node *dtype = llm_safetensors_field(j, member, "dtype", LLM_JSON_STRING);
    const llm_json_node *shape = llm_safetensors_field(j, member, "shape", LLM_JSON_ARRAY);
    const llm_json_node *place = llm_safetensors_field(j, member, "data_offsets", LLM_JSON_ARRAY);
    const char *name = t->name = member->key;
    if (strlen(name) != member->key_size)
        return llm_fail(error, "safetensors: the name of tensor '%s' holds a 0", name);
    if (!dtype || !shape || !place || place->count != 2)
        return llm_fail(error, "safetensors: '%s' has no dtype, shape and two data_offsets", name);

    size_t begin = 0, end = 0, bytes;
    int kind = LLM_SAFETENSORS_DTYPES;
    while (kind-- > 0) {
        const char *known = llm_safetensors_dtype_name(&bytes, (llm_safetensors_dtype)kind);
        if (strlen(known) == dtype->text_size && strcmp(known, dtype->text) == 0) break;
    }
    if (kind < 0)
        return llm_fail(error, "safetensors: '%s' has dtype %s, not known here", name, dtype->text);
    t->dtype = (llm_safetensors_dtype)kind;
    if (shape->count > LLM_SAFETENSORS_RANK)
        return llm_fail(error, "safetensors: '%s' has more than 8 dimensions", name);
    for (const llm_json_node *v = llm_json_first(j, shape); v; v = llm_json_next(j, v))
        if (!llm_json_size(&t->shape[t->rank++], v))
            return llm_fail(error, "safetensors: the shape of '%s' holds what is no size", name);

    const llm_json_node *first = llm_json_first(j, place);
    if (!llm_json_size(&begin, first) || !llm_json_size(&end, llm_json_next(j, first)) ||
        begin > end || end > room)
        return llm_fail(error, "safetensors: '%s' lies outside the %zu bytes of data", name, room);
    if (!llm_safetensors_bytes(&bytes, t) || bytes != end - begin)
        return llm_fail(error, "safetensors: '%s' has %zu bytes, its shape and dtype want %zu",
                        name, end - begin, bytes);
    t->data = data + begin;
    t->size = bytes;
    return true;
}

/* The file's table of contents, believed in nothing. */
LLM_API bool llm_safetensors_check(llm_safetensors *s, llm_error *error) {
    const unsigned char *const bytes = s->file.data;
    const size_t size = s->file.size;
    uint64_t length = 0;
    if (size < 8)
        return llm_fail(error, "safetensors: a file of %zu bytes, expected 8 or more", size);
    for (size_t i = 0; i < 8; i++) length |= (uint64_t)bytes[i] << (8 * i);
    if (length > LLM_SAFETENSORS_HEADER || length > size - 8)
        return llm_fail(error, "safetensors: a header of %llu bytes in a file of %zu",
                        (unsigned long long)length, size);
    if (length == 0 || bytes[8] != '{')
        return llm_fail(error, "safetensors: the header does not begin with {");
    llm_json *const j = &s->header;
    if (!llm_json_parse(j, (const char *)bytes + 8, (size_t)length, error)) return false;
    s->tensor = (llm_safetensors_tensor *)calloc(j->node->count + 1, sizeof *s->tensor);
    if (!s->tensor) return llm_fail(error, "safetensors: out of memory");

    const unsigned char *const data = bytes + 8 + length, *end = data;
    const size_t room = size - 8 - (size_t)length;
    for (const llm_json_node *v = llm_json_first(j, j->node); v; v = llm_json_next(j, v)) {
        if (strcmp(v->key, "__metadata__") != 0) {
            if (!llm_safetensors_member(&s->tensor[s->count++], j, v, data, room, error))
                return false;
        } else if (!llm_safetensors_metadata(j, v) ||
                   !llm_safetensors_field(j, j->node, v->key, LLM_JSON_OBJECT)) {
            return llm_fail(error, "safetensors: __metadata__ is not one object of strings");
        }
    }
    qsort(s->tensor, s->count, sizeof *s->tensor, llm_safetensors_by_place);
    for (size_t i = 0; i < s->count; end += s->tensor[i++].size)
        if (s->tensor[i].data != end)
            return llm_fail(error, "safetensors: a gap or an overlap before '%s'",
                            s->tensor[i].name);
    if (end != data + room) return llm_fail(error, "safetensors: bytes behind the last tensor");
    qsort(s->tensor, s->count, sizeof *s->tensor, llm_safetensors_by_name);
    for (size_t i = 1; i < s->count; i++)
        if (strcmp(s->tensor[i - 1].name, s->tensor[i].name) == 0)
            return llm_fail(error, "safetensors: two tensors are called '%s'", s->tensor[i].name);
    return true;
}

/* False, and nothing to close, where the file cannot be read or breaks a rule. */
LLM_API bool llm_safetensors_open(llm_safetensors *s, const char *path, llm_error *error) {
    memset(s, 0, sizeof *s);
    const bool ok = llm_file_map(&s->file, path, error) && llm_safetensors_check(s, error);
    if (!ok) llm_safetensors_close(s);
    return ok;
}

/* NULL when there is no tensor of that name. */
LLM_API const llm_safetensors_tensor *llm_safetensors_find(const llm_safetensors *s,
                                                           const char *name) {
    llm_safetensors_tensor t;
    t.name = name;
    return (const llm_safetensors_tensor *)bsearch(&t, s->tensor, s->count, sizeof t,
                                                   llm_safetensors_by_name);
}

/* out (count) <- t. False where t has not count entries, or is not of floats. */
LLM_API bool llm_safetensors_floats(float *out, const llm_safetensors_tensor *t, size_t count,
                                    llm_error *error) {
    size_t element;
    const char *dtype = llm_safetensors_dtype_name(&element, t->dtype);
    if (t->size / element != count)
        return llm_fail(error, "safetensors: '%s' has %zu entries, not %zu", t->name,
                        t->size / element, count);
    return llm_safetensors_dtype_floats(out, t->data, count, t->dtype) ||
           llm_fail(error, "safetensors: '%s' is %s, expected floats", t->name, dtype);
}

/* @safetensors_write ---------------------------------------- Weight files: safetensors, writing
 *
 * The same tensors always make the same bytes, those that the format's own library writes: names
 * sorted within each dtype, dtypes from wide to narrow, so that every tensor stands at a multiple
 * of its element's size, the header padded with spaces to a multiple of 8. Then two files can be
 * compared by their hash. The data go straight from memory to the file, under a temporary name
 * until the last byte is out.
 *
 * source  Hugging Face, "Safetensors", README, 2022; the order is that of its Rust library, 0.8
 * needs   error size buffer file json json_put safetensors_dtype safetensors
 * see     -
 * topics  -
 */

/* Dtypes from wide to narrow, then by name. */
LLM_API int llm_safetensors_write_order(const void *a, const void *b) {
    const llm_safetensors_tensor *x = (const llm_safetensors_tensor *)a;
    const llm_safetensors_tensor *y = (const llm_safetensors_tensor *)b;
    return x->dtype != y->dtype ? (x->dtype < y->dtype ? 1 : -1) : strcmp(x->name, y->name);
}

/* b <- the header of t (count), in this order, with its padding; sets each size. False where memory
 * is out, a name is no UTF-8, or sizes do not fit. */
LLM_API bool llm_safetensors_write_header(llm_buffer *b, llm_safetensors_tensor *t, size_t count,
                                          const char *metadata) {
    bool ok = llm_buffer_put(b, "{", 1);
    if (metadata) ok = ok && llm_buffer_print(b, "\"__metadata__\":%s", metadata);
    size_t begin = 0, end, element;
    for (size_t i = 0; i < count && ok; i++, begin = end) {
        ok = llm_safetensors_bytes(&t[i].size, &t[i]) && llm_size_add(&end, begin, t[i].size) &&
             (b->size == 1 || llm_buffer_put(b, ",", 1)) &&
             llm_json_put_string(b, t[i].name, strlen(t[i].name)) &&
             llm_buffer_print(b, ":{\"dtype\":\"%s\",\"shape\":[",
                              llm_safetensors_dtype_name(&element, t[i].dtype));
        for (size_t k = 0; k < t[i].rank && ok; k++)
            ok = llm_buffer_print(b, k > 0 ? ",%zu" : "%zu", t[i].shape[k]);
        ok = ok && llm_buffer_print(b, "],\"data_offsets\":[%zu,%zu]}", begin, end);
    }
    ok = ok && llm_buffer_put(b, "}", 1);
    while (ok && b->size % 8 != 0) ok = llm_buffer_put(b, " ", 1);
    return ok;
}

/* path <- tensor (count), whose shapes say how long their data are (size is not read). metadata is
 * a JSON object of strings, or NULL. Names must differ; "__metadata__" is none. */
LLM_API bool llm_safetensors_write(const char *path, const llm_safetensors_tensor *tensor,
                                   size_t count, const char *metadata, llm_error *error) {
    llm_json j;
    if (metadata) {
        if (!llm_json_parse(&j, metadata, strlen(metadata), error)) return false;
        const bool strings = llm_safetensors_metadata(&j, j.node);
        llm_json_free(&j);
        if (!strings) return llm_fail(error, "safetensors: metadata is not an object of strings");
    }
    size_t bytes;
    llm_safetensors_tensor *t = NULL;
    if (llm_size_add(&bytes, count, 1) && llm_size_mul(&bytes, bytes, sizeof *t))
        t = (llm_safetensors_tensor *)malloc(bytes);
    if (!t) return llm_fail(error, "safetensors: out of memory");
    if (count > 0) memcpy(t, tensor, count * sizeof *t);

    qsort(t, count, sizeof *t, llm_safetensors_by_name);
    bool ok = true;
    for (size_t i = 0; i < count; i++) {
        LLM_ASSERT(t[i].rank <= LLM_SAFETENSORS_RANK);
        if (strcmp(t[i].name, "__metadata__") == 0 ||
            (i > 0 && strcmp(t[i - 1].name, t[i].name) == 0))
            ok = llm_fail(error, "safetensors: no tensor, or no second one, may be called '%s'",
                          t[i].name);
    }
    qsort(t, count, sizeof *t, llm_safetensors_write_order);
    llm_buffer header = {NULL, 0, 0};
    if (ok && (!llm_safetensors_write_header(&header, t, count, metadata) ||
               header.size > LLM_SAFETENSORS_HEADER))
        ok = llm_fail(error, "safetensors: the header is too large, or a name is no UTF-8");

    llm_file_writer w;
    unsigned char length[8];
    for (size_t i = 0; i < 8; i++) length[i] = (unsigned char)((uint64_t)header.size >> (8 * i));
    ok = ok && llm_file_begin(&w, path, error) && llm_file_put(&w, length, 8, error) &&
         llm_file_put(&w, header.data, header.size, error);
    for (size_t i = 0; i < count && ok; i++) ok = llm_file_put(&w, t[i].data, t[i].size, error);
    ok = ok && llm_file_commit(&w, error);
    llm_buffer_free(&header);
    free(t);
    return ok;
}

/* @gpt2_weights --------------------------------------------- GPT-2's weights in one vector
 *
 *     count = (V + Tmax) C + L (4 C^2 + 2 C F + 9 C + F) + 2 C      124,439,808 for the 124M model
 *
 * All weights of a model stand in one flat vector, its gradients and the two moments of AdamW in
 * three more of the same length, so that an optimizer, a norm or a file is one loop. Named pointers
 * into the vector say which part is what. The matrices come first: weight decay is a prefix. The
 * embedding serves as the head too, and stands there once.
 *
 * Weights start as N(0, 0.02). Each block adds two outputs to the residual stream; the matrices
 * that write them start smaller by 1 / sqrt(2 L), or the stream would grow with depth.
 *
 * source  Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", 2.3
 * needs   arena rng error decoder_block
 * see     @gpt2 @gpt2_file @weight_init
 * topics  -
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

/* The 124M model. */
LLM_API llm_gpt2_config llm_gpt2_defaults(void) {
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

/* One of its blocks. */
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

/* The formula of the banner. */
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
    size += N * (6 + (L + 4) * C + c->vocab) + llm_decoder_block_scratch_size(&bc, B, T) +
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

/* Frees all that belongs to the model. */
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

/* @gpt2 ----------------------------------------------------- GPT-2
 *
 *     x = wte[id] + wpe[t]
 *     x = block_l(x)                                        l = 1..L
 *     logits = LayerNorm(x) wte^T                           the head is the embedding
 *     loss = mean over targets of -log softmax(logits)[target]
 *
 * A language model whole: vectors of tokens and places, a stack of blocks that add to them, a norm,
 * and a head that is the embedding again. Trained on enough text it does tasks that nobody trained
 * it for, because the text holds them: what follows "in French:" is French. Forward leaves all that
 * backward reads in one arena; the logits, the largest part of it, end as their own gradient. wte
 * gets its gradient from both ends, by rows that were read and by all rows that were scored.
 *
 * source  Radford et al. 2019, "Language Models are Unsupervised Multitask Learners"
 * needs   arena matmul layernorm adamw embedding cross_entropy decoder_block softmax_head
 *         gpt2_weights
 * see     @gpt2_file @gpt2_decode
 * topics  GPT-2 & Zero-Shot Task Transfer
 */

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
    if (!targets) {
        llm_matmul_forward(g->logits, g->norm, g->weights.wte, NULL, N, C, c->vocab);
        return 0.0f;
    }

    g->loss = llm_arena_floats(a, N);
    g->lse = llm_arena_floats(a, N);
    memcpy(g->targets, targets, N * sizeof(int));
    const llm_softmax_head head =
        llm_softmax_head_defaults(g->norm, g->weights.wte, g->targets, N, C, c->vocab);
    g->kept = llm_softmax_head_forward(g->loss, g->lse, g->logits, &head);
    double sum = 0.0;
    for (size_t n = 0; n < N; n++) sum += (double)g->loss[n];
    return g->kept ? (float)(sum / (double)g->kept) : 0.0f;
}

/* g->g += gradient of the mean loss of the last forward, once: g->logits end as their gradient. */
LLM_API void llm_gpt2_backward(llm_gpt2 *g) {
    const llm_gpt2_config *c = &g->config;
    const llm_decoder_block_config bc = llm_gpt2_block_config(c);
    const size_t N = g->B * g->T, C = c->width, L = c->layers;
    LLM_ASSERT(g->g && N);
    if (!g->kept) return;
    llm_arena *a = &g->memory;
    const size_t mark = a->used;
    float *d = llm_arena_floats(a, N * C), *dnorm = llm_arena_floats(a, N * C);
    const llm_softmax_head head =
        llm_softmax_head_defaults(g->norm, g->weights.wte, g->targets, N, C, c->vocab);
    memset(dnorm, 0, N * C * sizeof(float));
    llm_softmax_head_backward(dnorm, g->grads.wte, g->logits, g->lse, &head, 1.0f / (float)g->kept);
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

/* Nats of a text, summed over all its tokens ids (n) but the first, each predicted once: windows of
 * T tokens, B at a time, begin every stride <= T tokens, and all but the first count their last
 * stride predictions, which have T - stride tokens or more before them. stride = T is the fastest,
 * and the hardest on the model. */
LLM_API double llm_gpt2_evaluate(llm_gpt2 *g, const int *ids, size_t n, size_t B, size_t T,
                                 size_t stride) {
    int *x = (int *)malloc(B * T * sizeof(int)), *y = (int *)malloc(B * T * sizeof(int));
    double nats = 0.0;
    LLM_ASSERT(x && y && stride > 0 && stride <= T);
    for (size_t done = 1, window = 0;
         done < n;) { /* tokens that were predicted, or are the first */
        for (size_t i = 0; i < B * T; i++) {
            const size_t row = window + i / T, at = row * stride + i % T;
            const bool counts = at + 1 < n && (row == 0 || i % T >= T - stride);
            x[i] = at < n ? ids[at] : 0;
            y[i] = counts ? ids[at + 1] : LLM_CROSS_ENTROPY_IGNORE;
            done += counts;
        }
        window += B;
        llm_gpt2_forward(g, x, y, B, T);
        for (size_t i = 0; i < B * T; i++) nats += (double)g->loss[i];
    }
    free(x), free(y);
    return nats;
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

/* @gpt2_config ---------------------------------------------- GPT-2's config.json
 *
 * The sizes of a model, under the names that transformers gives them. What the forward pass here
 * does not compute (another activation, scores scaled by layer, an untied head) is refused by name:
 * a model that runs with the wrong formula is worse than one that does not load. Every size has a
 * most, so small that no product of them overflows.
 *
 * source  transformers, models/gpt2/configuration_gpt2.py
 * needs   error json buffer gpt2_weights
 * see     @gpt2_file
 * topics  -
 */

/* *value <- the size called key, from 1 to most. */
LLM_API bool llm_gpt2_config_size(size_t *value, const llm_json *j, const char *key, size_t most,
                                  llm_error *e) {
    const llm_json_node *node = llm_json_get(j, j->node, key);
    if (!node) return llm_fail(e, "config.json: no %s", key);
    if (!llm_json_size(value, node) || *value < 1 || *value > most)
        return llm_fail(e, "config.json: %s is %s, expected 1 to %zu", key,
                        node->text ? node->text : "no number", most);
    return true;
}

/* c <- a parsed config.json. What this section does not compute is refused. */
LLM_API bool llm_gpt2_config_read(llm_gpt2_config *c, const llm_json *j, llm_error *e) {
    static const struct {
        const char *key, *value;
    } fixed[] = {{"model_type", "gpt2"}, {"activation_function", "gelu_new"}};
    static const struct {
        const char *key;
        llm_json_kind kind;
    } flags[] = {{"scale_attn_weights", LLM_JSON_TRUE},
                 {"scale_attn_by_inverse_layer_idx", LLM_JSON_FALSE},
                 {"add_cross_attention", LLM_JSON_FALSE},
                 {"tie_word_embeddings", LLM_JSON_TRUE}};
    if (j->node->kind != LLM_JSON_OBJECT) return llm_fail(e, "config.json: not an object");
    for (size_t i = 0; i < 2; i++) {
        const llm_json_node *node = llm_json_get(j, j->node, fixed[i].key);
        if (!node && i > 0) continue;
        if (!node || node->kind != LLM_JSON_STRING || strcmp(node->text, fixed[i].value) != 0)
            return llm_fail(e, "config.json: %s is not \"%s\"", fixed[i].key, fixed[i].value);
    }
    for (size_t i = 0; i < 4; i++) {
        const llm_json_node *node = llm_json_get(j, j->node, flags[i].key);
        if (node && node->kind != flags[i].kind)
            return llm_fail(e, "config.json: %s is not %s", flags[i].key,
                            flags[i].kind == LLM_JSON_TRUE ? "true" : "false");
    }
    /* so small that no product of them overflows 64 bits */
    if (!llm_gpt2_config_size(&c->vocab, j, "vocab_size", 1 << 24, e) ||
        !llm_gpt2_config_size(&c->context, j, "n_positions", 1 << 24, e) ||
        !llm_gpt2_config_size(&c->width, j, "n_embd", 1 << 16, e) ||
        !llm_gpt2_config_size(&c->layers, j, "n_layer", 1 << 12, e) ||
        !llm_gpt2_config_size(&c->heads, j, "n_head", 1 << 16, e))
        return false;
    const llm_json_node *inner = llm_json_get(j, j->node, "n_inner");
    const llm_json_node *eps = llm_json_get(j, j->node, "layer_norm_epsilon");
    c->hidden = 4 * c->width;
    if (inner && inner->kind != LLM_JSON_NULL &&
        !llm_gpt2_config_size(&c->hidden, j, "n_inner", 1 << 20, e))
        return false;
    c->eps = eps && eps->kind == LLM_JSON_NUMBER ? (float)eps->number : 1e-5f;
    if (c->width % c->heads != 0)
        return llm_fail(e, "config.json: n_embd %zu is not a multiple of n_head %zu", c->width,
                        c->heads);
    return true;
}

/* Appends the config.json that transformers' GPT2LMHeadModel reads; false when memory is out. */
LLM_API bool llm_gpt2_config_put(llm_buffer *b, const llm_gpt2_config *c) {
    return llm_buffer_print(b,
                            "{\n  \"architectures\": [\"GPT2LMHeadModel\"],\n"
                            "  \"model_type\": \"gpt2\",\n  \"vocab_size\": %zu,\n"
                            "  \"n_positions\": %zu,\n  \"n_embd\": %zu,\n"
                            "  \"n_layer\": %zu,\n  \"n_head\": %zu,\n  \"n_inner\": %zu,\n"
                            "  \"layer_norm_epsilon\": %.7g,\n"
                            "  \"activation_function\": \"gelu_new\",\n"
                            "  \"tie_word_embeddings\": true,\n  \"bos_token_id\": null,\n"
                            "  \"eos_token_id\": null,\n  \"torch_dtype\": \"float32\"\n}\n",
                            c->vocab, c->context, c->width, c->layers, c->heads, c->hidden,
                            (double)c->eps);
}

/* @gpt2_file ------------------------------------------------ GPT-2's weight files
 *
 * A directory as transformers' GPT2LMHeadModel saves and loads it: config.json names the sizes,
 * model.safetensors holds 4 + 12 L tensors. Two traps. GPT-2's linear layers are "Conv1D": their
 * matrices are [in, out] and have to be transposed. The head is the embedding: lm_head.weight is
 * not stored, or is a second copy of wte. The files of the first release leave out the prefix
 * "transformer." and carry the causal mask as h.N.attn.bias; both are accepted.
 *
 * Nothing in a file is believed: every tensor is held against config.json, and only then is memory
 * taken.
 *
 * source  transformers, models/gpt2 (modeling_gpt2.py, configuration_gpt2.py)
 * needs   error buffer file json safetensors safetensors_write gpt2_weights gpt2_config
 * see     @safetensors @weight_tying
 * topics  -
 */

/* One tensor of a directory: its name behind the prefix, shape, whether it is stored transposed,
 * and where it stands in a model. */
typedef struct {
    char name[40];
    size_t rows, columns; /* as stored; columns = 0: a vector of rows */
    bool conv1d;
    float *weights;
} llm_gpt2_file_tensor;

/* Tensor i < 4 + 12 L. w may be NULL. */
LLM_API void llm_gpt2_file_entry(llm_gpt2_file_tensor *t, const llm_gpt2_config *c,
                                 const llm_gpt2_weights *w, size_t i) {
    static const char *const outer[4] = {"wte.weight", "wpe.weight", "ln_f.weight", "ln_f.bias"};
    static const char *const inner[12] = {
        "ln_1.weight",        "ln_1.bias",        "attn.c_attn.weight", "attn.c_attn.bias",
        "attn.c_proj.weight", "attn.c_proj.bias", "ln_2.weight",        "ln_2.bias",
        "mlp.c_fc.weight",    "mlp.c_fc.bias",    "mlp.c_proj.weight",  "mlp.c_proj.bias"};
    const size_t C = c->width, F = c->hidden;
    t->conv1d = false;
    t->weights = NULL;
    if (i < 4) {
        const size_t rows[4] = {c->vocab, c->context, C, C}, columns[4] = {C, C, 0, 0};
        if (w) t->weights = i == 0 ? w->wte : i == 1 ? w->wpe : i == 2 ? w->norm_w : w->norm_b;
        t->rows = rows[i], t->columns = columns[i];
        snprintf(t->name, sizeof t->name, "%s", outer[i]);
        return;
    }
    const size_t l = (i - 4) / 12, k = (i - 4) % 12;
    const size_t rows[12] = {C, C, C, 3 * C, C, C, C, C, C, F, F, C};
    const size_t columns[12] = {0, 0, 3 * C, 0, C, 0, 0, 0, F, 0, C, 0};
    t->rows = rows[k], t->columns = columns[k];
    t->conv1d = columns[k] > 0;
    snprintf(t->name, sizeof t->name, "h.%zu.%s", l, inner[k]);
    if (!w) return;
    const llm_decoder_block_weights *b = &w->block[l];
    float *const part[12] = {b->norm1_w, b->norm1_b,     b->qkv_w,    b->qkv_b,
                             b->out_w,   b->out_b,       b->norm2_w,  b->norm2_b,
                             b->ffn.up,  b->ffn.up_bias, b->ffn.down, b->ffn.down_bias};
    t->weights = part[k];
}

/* out (columns,rows) <- in (rows,columns). */
LLM_API void llm_gpt2_file_transpose(float *out, const float *in, size_t rows, size_t columns) {
    LLM_PARALLEL_FOR
    for (size_t j = 0; j < columns; j++)
        for (size_t i = 0; i < rows; i++) out[j * rows + i] = in[i * columns + j];
}

/* Every tensor of the config stands in s with its shape, and no other one does but masks and a copy
 * of the embedding. */
LLM_API bool llm_gpt2_file_check(const llm_safetensors *s, const llm_gpt2_config *c,
                                 const char *prefix, llm_error *e) {
    const size_t count = 4 + 12 * c->layers;
    llm_gpt2_file_tensor t;
    char name[64];
    size_t surplus = s->count;
    for (size_t i = 0; i < count; i++) {
        llm_gpt2_file_entry(&t, c, NULL, i);
        snprintf(name, sizeof name, "%s%s", prefix, t.name);
        const llm_safetensors_tensor *in = llm_safetensors_find(s, name);
        if (!in) return llm_fail(e, "model.safetensors: no tensor %s", name);
        const size_t rank = t.columns ? 2 : 1, rows = in->rank > 0 ? in->shape[0] : 0;
        const size_t columns = in->rank > 1 ? in->shape[1] : 0;
        if (in->rank != rank || rows != t.rows || columns != t.columns)
            return llm_fail(e, "model.safetensors: %s is (%zu, %zu), config.json says (%zu, %zu)",
                            name, rows, columns, t.rows, t.columns);
        surplus--;
    }
    snprintf(name, sizeof name, "%swte.weight", prefix);
    const llm_safetensors_tensor *wte = llm_safetensors_find(s, name);
    for (size_t i = 0; i < s->count; i++) {
        const llm_safetensors_tensor *in = &s->tensor[i];
        const bool mask = strstr(in->name, ".attn.bias") || strstr(in->name, ".attn.masked_bias");
        const bool head = strcmp(in->name, "lm_head.weight") == 0;
        if (head && (in->size != wte->size || memcmp(in->data, wte->data, in->size) != 0))
            return llm_fail(e, "model.safetensors: lm_head.weight is not the embedding");
        if (mask || head) surplus--;
    }
    if (surplus > 0)
        return llm_fail(e, "model.safetensors: %zu tensors more than config.json's %zu layers have",
                        surplus, c->layers);
    return true;
}

/* The weights of g <- s, which llm_gpt2_file_check has accepted. */
LLM_API bool llm_gpt2_file_weights(llm_gpt2 *g, const llm_safetensors *s, const char *prefix,
                                   llm_error *e) {
    const llm_gpt2_config *c = &g->config;
    size_t most = c->width * (3 * c->width > c->hidden ? 3 * c->width : c->hidden);
    float *stored = (float *)malloc(most * sizeof(float));
    bool ok = stored || llm_fail(e, "model.safetensors: out of memory");
    for (size_t i = 0; ok && i < 4 + 12 * c->layers; i++) {
        llm_gpt2_file_tensor t;
        char name[64];
        llm_gpt2_file_entry(&t, c, &g->weights, i);
        snprintf(name, sizeof name, "%s%s", prefix, t.name);
        const size_t n = t.rows * (t.columns ? t.columns : 1);
        ok = llm_safetensors_floats(t.conv1d ? stored : t.weights, llm_safetensors_find(s, name), n,
                                    e);
        if (ok && t.conv1d) llm_gpt2_file_transpose(t.weights, stored, t.rows, t.columns);
    }
    free(stored);
    return ok;
}

/* g <- the model in directory dir, created for batches of up to B rows of T tokens
 * (llm_gpt2_create); T = 0: of the whole context. g is not to be destroyed when this fails. */
LLM_API bool llm_gpt2_load(llm_gpt2 *g, const char *dir, size_t B, size_t T, llm_error *e) {
    llm_buffer path = {NULL, 0, 0};
    llm_file file;
    llm_json json;
    llm_safetensors s;
    llm_gpt2_config c;
    memset(&file, 0, sizeof file);
    memset(&json, 0, sizeof json);
    memset(&s, 0, sizeof s);
    bool ok = llm_buffer_print(&path, "%s/config.json", dir) || llm_fail(e, "out of memory");
    ok = ok && llm_file_read(&file, path.data, e) &&
         llm_json_parse(&json, (const char *)file.data, file.size, e) &&
         llm_gpt2_config_read(&c, &json, e);
    path.size = 0;
    ok = ok &&
         (llm_buffer_print(&path, "%s/model.safetensors", dir) || llm_fail(e, "out of memory"));
    ok = ok && llm_safetensors_open(&s, path.data, e);
    const char *prefix = ok && llm_safetensors_find(&s, "wte.weight") ? "" : "transformer.";
    ok = ok && llm_gpt2_file_check(&s, &c, prefix, e);
    if (ok && llm_gpt2_create(g, &c, B, T ? T : c.context, e)) {
        ok = llm_gpt2_file_weights(g, &s, prefix, e);
        if (!ok) llm_gpt2_destroy(g);
    }
    llm_safetensors_close(&s);
    llm_json_free(&json);
    llm_file_free(&file);
    llm_buffer_free(&path);
    return ok;
}

/* Writes config.json and model.safetensors into the directory dir, which has to exist. Each file is
 * written whole or not at all. Memory for one copy of the weights. */
LLM_API bool llm_gpt2_save(const llm_gpt2 *g, const char *dir, llm_error *e) {
    const llm_gpt2_config *c = &g->config;
    const size_t count = 4 + 12 * c->layers;
    llm_safetensors_tensor *out = (llm_safetensors_tensor *)calloc(count, sizeof *out);
    llm_gpt2_file_tensor *t = (llm_gpt2_file_tensor *)malloc(count * sizeof *t);
    float *turned = (float *)malloc(g->count * sizeof(float));
    char(*name)[64] = (char(*)[64])malloc(count * sizeof *name);
    llm_buffer path = {NULL, 0, 0}, config = {NULL, 0, 0};
    bool ok = out && t && turned && name;
    size_t used = 0;
    for (size_t i = 0; ok && i < count; i++) {
        llm_gpt2_file_entry(&t[i], c, &g->weights, i);
        snprintf(name[i], sizeof name[i], "transformer.%s", t[i].name);
        out[i].name = name[i];
        out[i].dtype = LLM_SAFETENSORS_F32;
        out[i].rank = t[i].columns ? 2 : 1;
        out[i].shape[0] = t[i].rows, out[i].shape[1] = t[i].columns;
        out[i].data = (const unsigned char *)t[i].weights;
        if (!t[i].conv1d) continue;
        llm_gpt2_file_transpose(turned + used, t[i].weights, t[i].columns, t[i].rows);
        out[i].data = (const unsigned char *)(turned + used);
        used += t[i].rows * t[i].columns;
    }
    ok = ok && llm_buffer_print(&path, "%s/model.safetensors", dir);
    ok = ok && llm_gpt2_config_put(&config, c);
    if (!ok) llm_fail(e, "%s: out of memory", dir);
    ok = ok && llm_safetensors_write(path.data, out, count, "{\"format\":\"pt\"}", e);
    path.size = 0;
    ok = ok && (llm_buffer_print(&path, "%s/config.json", dir) || llm_fail(e, "out of memory"));
    ok = ok && llm_file_write(path.data, config.data, config.size, e);
    llm_buffer_free(&path);
    llm_buffer_free(&config);
    free(name), free(turned), free(t), free(out);
    return ok;
}

/* @gpt2_run ------------------------------------------------- A training that can be interrupted
 *
 *     batch: B windows of T + 1 tokens, at random places of the text
 *     loss, gradient, clipped to length 1, AdamW at the rate of a cosine schedule with warmup
 *
 * Everything that decides how a training goes on stands in one struct: weights and both moments,
 * the step, the schedule, the random numbers that choose the next batch, and the text itself as
 * tokens. Saved and loaded it goes on to the same losses, bit by bit, as if it had never stopped;
 * what is forgotten (the moments, or the place in the stream of random numbers) shows as a bump in
 * the curve, if anybody looks. One file holds all of it, so that no crash leaves two halves of
 * different age.
 *
 * source  Radford et al. 2019; the settings are those of small GPTs: beta2 0.99, decay 0.1, clip 1
 * needs   error buffer rng adamw cosine_lr grad_clip safetensors safetensors_write gpt2_weights
 *         gpt2 gpt2_file
 * see     @gpt2_file (the model alone, for others), @cosine_lr
 * topics  -
 */

/* Plain numbers, written as they stand. */
typedef struct {
    uint64_t step, steps, batch;
    double lr; /* at the peak */
    llm_rng rng;
} llm_gpt2_run_state;

typedef struct {
    llm_gpt2 model;
    llm_gpt2_run_state state;
    llm_buffer train, held; /* of int: the text to learn, and one to measure on (or none) */
    llm_buffer loss;        /* of float: of each step, nats per token */
    llm_buffer batch;       /* of int: inputs (B,T), targets (B,T) */
} llm_gpt2_run;

/* Frees all that belongs to the training. */
LLM_API void llm_gpt2_run_free(llm_gpt2_run *r) {
    llm_gpt2_destroy(&r->model);
    llm_buffer_free(&r->train);
    llm_buffer_free(&r->held);
    llm_buffer_free(&r->loss);
    llm_buffer_free(&r->batch);
}

/* A new training: random weights from seed, which also chooses the batches. r->train and r->held
 * are empty. */
LLM_API bool llm_gpt2_run_create(llm_gpt2_run *r, const llm_gpt2_config *c, size_t batch,
                                 size_t steps, double lr, uint64_t seed, llm_error *e) {
    memset(r, 0, sizeof *r);
    r->state.steps = steps, r->state.batch = batch, r->state.lr = lr;
    r->state.rng = llm_rng_seed(seed);
    if (!llm_gpt2_create(&r->model, c, batch, c->context, e)) return false;
    llm_gpt2_init(&r->model, &r->state.rng);
    return true;
}

/* *loss of a step on a random batch of r->train; *norm, or NULL, gets the length of the gradient
 * before clipping. False, and no step, where the text has no window of T + 1 tokens, the loss is
 * not finite, or memory is out. */
LLM_API bool llm_gpt2_run_step(llm_gpt2_run *r, float *loss, float *norm, llm_error *e) {
    llm_gpt2_run_state *s = &r->state;
    llm_gpt2 *g = &r->model;
    const size_t T = g->config.context, B = (size_t)s->batch, count = r->train.size / sizeof(int);
    if (count <= T)
        return llm_fail(e, "the text has %zu tokens, a context of %zu needs one more", count, T);
    r->batch.size = 0;
    if (!llm_buffer_reserve(&r->batch, 2 * B * T * sizeof(int)) ||
        !llm_buffer_reserve(&r->loss, sizeof *loss))
        return llm_fail(e, "step %zu: out of memory", (size_t)s->step);
    int *x = (int *)(void *)r->batch.data, *y = x + B * T;
    for (size_t b = 0; b < B; b++) {
        const char *from = r->train.data + llm_rng_below(&s->rng, count - T) * sizeof(int);
        memcpy(x + b * T, from, T * sizeof(int));
        memcpy(y + b * T, from + sizeof(int), T * sizeof(int));
    }
    *loss = llm_gpt2_forward(g, x, y, B, T);
    if (!isfinite(*loss))
        return llm_fail(e, "step %zu: the loss is no longer finite, try a smaller learning rate",
                        (size_t)s->step);
    llm_gpt2_backward(g);
    const float length = llm_grad_clip_norm(g->g, g->count, 1.0f), lr = (float)s->lr;
    if (norm) *norm = length;

    llm_adamw_config adamw = llm_adamw_defaults();
    adamw.beta2 = 0.99f, adamw.weight_decay = 0.1f;
    adamw.lr =
        llm_cosine_lr((size_t)s->step, (size_t)s->steps / 20, (size_t)s->steps, lr, 0.1f * lr);
    s->step++;
    llm_gpt2_step(g, &adamw, (size_t)s->step);
    return llm_buffer_put(&r->loss, loss, sizeof *loss);
}

/* Tensors of the file. */
enum { LLM_GPT2_RUN_PARTS = 7 };

/* t <- those of r. */
LLM_API void llm_gpt2_run_parts(llm_safetensors_tensor t[LLM_GPT2_RUN_PARTS],
                                const llm_gpt2_run *r) {
    static const char *const name[] = {"state", "w", "m", "v", "train", "held", "loss"};
    const void *const data[] = {&r->state,     r->model.w,   r->model.m,  r->model.v,
                                r->train.data, r->held.data, r->loss.data};
    const size_t n = r->model.count;
    const size_t count[] = {sizeof r->state / 8, n, n, n, r->train.size / 4, r->held.size / 4,
                            r->loss.size / 4};
    memset(t, 0, LLM_GPT2_RUN_PARTS * sizeof *t);
    for (size_t i = 0; i < LLM_GPT2_RUN_PARTS; i++) {
        t[i].name = name[i];
        t[i].dtype = i == 0             ? LLM_SAFETENSORS_U64
                     : i == 4 || i == 5 ? LLM_SAFETENSORS_I32
                                        : LLM_SAFETENSORS_F32;
        t[i].rank = 1, t[i].shape[0] = count[i];
        t[i].data = (const unsigned char *)data[i];
    }
}

/* Writes dir/run.safetensors, and what llm_gpt2_save writes. The directory has to exist. */
LLM_API bool llm_gpt2_run_save(const llm_gpt2_run *r, const char *dir, llm_error *e) {
    llm_safetensors_tensor t[LLM_GPT2_RUN_PARTS];
    llm_buffer path = {NULL, 0, 0};
    llm_gpt2_run_parts(t, r);
    bool ok = llm_buffer_print(&path, "%s/run.safetensors", dir) || llm_fail(e, "out of memory");
    ok = ok && llm_safetensors_write(path.data, t, LLM_GPT2_RUN_PARTS, NULL, e) &&
         llm_gpt2_save(&r->model, dir, e);
    llm_buffer_free(&path);
    return ok;
}

/* r <- the parts of f, whose weights and states fit. */
LLM_API bool llm_gpt2_run_read(llm_gpt2_run *r, const llm_safetensors *f, llm_error *e) {
    llm_safetensors_tensor t[LLM_GPT2_RUN_PARTS];
    float *const to[4] = {NULL, r->model.w, r->model.m, r->model.v};
    llm_buffer *const text[LLM_GPT2_RUN_PARTS] = {NULL,      NULL,     NULL,    NULL,
                                                  &r->train, &r->held, &r->loss};
    llm_gpt2_run_parts(t, r);
    for (size_t i = 1; i < LLM_GPT2_RUN_PARTS; i++) {
        const llm_safetensors_tensor *in = llm_safetensors_find(f, t[i].name);
        if (!in || in->dtype != t[i].dtype || in->rank != 1 ||
            (i < 4 && in->shape[0] != t[i].shape[0]))
            return llm_fail(e, "run.safetensors: no '%s' that fits config.json", t[i].name);
        if (i < 4) memcpy(to[i], in->data, in->size);
        if (i >= 4 && !llm_buffer_put(text[i], in->data, in->size))
            return llm_fail(e, "run.safetensors: out of memory");
        for (size_t k = 0; (i == 4 || i == 5) && k < in->shape[0]; k++) {
            int id;
            memcpy(&id, in->data + 4 * k, 4);
            if (id < 0 || (size_t)id >= r->model.config.vocab)
                return llm_fail(e, "run.safetensors: '%s' has the token %d", t[i].name, id);
        }
    }
    if (r->loss.size / 4 != r->state.step)
        return llm_fail(e, "run.safetensors: %zu losses of %zu steps", r->loss.size / 4,
                        (size_t)r->state.step);
    return true;
}

/* r <- a saved training. r is not to be freed when this fails. */
LLM_API bool llm_gpt2_run_load(llm_gpt2_run *r, const char *dir, llm_error *e) {
    llm_buffer path = {NULL, 0, 0};
    llm_safetensors f;
    memset(r, 0, sizeof *r);
    bool ok = llm_buffer_print(&path, "%s/run.safetensors", dir) || llm_fail(e, "out of memory");
    ok = ok && llm_safetensors_open(&f, path.data, e);
    llm_buffer_free(&path);
    if (!ok) return false;
    const llm_safetensors_tensor *state = llm_safetensors_find(&f, "state");
    const llm_gpt2_run_state *s = &r->state;
    if (state && state->size == sizeof *s) memcpy(&r->state, state->data, sizeof *s);
    if (s->batch < 1 || s->batch > 1 << 20 || s->step > s->steps || s->rng.used < 0 ||
        s->rng.used > 4)
        ok = llm_fail(e, "run.safetensors: no state of a training");
    ok = ok && llm_gpt2_load(&r->model, dir, (size_t)s->batch, 0, e);
    if (ok && !llm_gpt2_run_read(r, &f, e)) {
        llm_gpt2_run_free(r);
        ok = false;
    }
    llm_safetensors_close(&f);
    return ok;
}

/* @14-arch ================================================== BEYOND THE DENSE TRANSFORMER */

/* @15-decode ================================================ DECODING */

/* @kv_cache ------------------------------------------------- Key-value cache
 *
 *     o_t = softmax(q_t K_{0..t}^T / sqrt(D)) V_{0..t}          K, V grow by one row a token
 *
 * In a causal model the keys and values of earlier positions do not change when a token is added,
 * so they are kept: a new token costs O(t) and not a pass over the whole text, and the price is
 * memory, 2 L H T D numbers a text. Keys are stored as attention uses them, after any rotation, so
 * nothing here knows about positions, and rows of a batch may be of different lengths. A row is a
 * prefix: dropping its end (@speculative), copying it (@beam_search) or keeping chosen positions of
 * it (tree verification in @medusa) is a change of one length or a copy.
 *
 * What is easily got wrong: the length must not grow before every layer has appended, or the second
 * layer writes one position too far. Appending and growing are therefore two calls.
 *
 * source  Vaswani et al. 2017, "Attention Is All You Need"; Pope et al. 2022, "Efficiently Scaling
 *         Transformer Inference", section 2.1
 * needs   arena exp logsumexp causal_attn gqa
 * see     @decoding (the loop), @rope, @flash (the running softmax), @paged_attention
 * topics  Key-Value (KV) Caching
 */

/* Keys and values of L layers, B rows, H key/value heads, T positions (the capacity), D dimensions:
 * memory (L,2,B,H,T,D). The first length[b] positions of row b are filled. */
typedef struct {
    float *memory;
    size_t *length; /* (B) */
    size_t L, B, H, T, D;
} llm_kv_cache;

/* What llm_kv_cache_create takes from an arena: 2 L B H T D floats and B sizes, rounded up to
 * 64. */
LLM_API size_t llm_kv_cache_bytes(size_t L, size_t B, size_t H, size_t T, size_t D) {
    const size_t floats = 2 * L * B * H * T * D * sizeof(float), sizes = B * sizeof(size_t);
    return (floats + 63) / 64 * 64 + (sizes + 63) / 64 * 64;
}

/* All rows are empty. */
LLM_API void llm_kv_cache_create(llm_kv_cache *cache, size_t L, size_t B, size_t H, size_t T,
                                 size_t D, llm_arena *arena) {
    cache->L = L, cache->B = B, cache->H = H, cache->T = T, cache->D = D;
    cache->memory = llm_arena_floats(arena, 2 * L * B * H * T * D);
    cache->length = (size_t *)llm_arena_take(arena, B, sizeof(size_t));
    for (size_t b = 0; b < B; b++) cache->length[b] = 0;
}

/* The keys (T,D) of a head; its values stand B H T D floats further on. */
LLM_API float *llm_kv_cache_keys(const llm_kv_cache *cache, size_t l, size_t b, size_t h) {
    LLM_ASSERT(l < cache->L && b < cache->B && h < cache->H);
    return cache->memory + ((2 * l * cache->B + b) * cache->H + h) * cache->T * cache->D;
}
LLM_API float *llm_kv_cache_values(const llm_kv_cache *cache, size_t l, size_t b, size_t h) {
    return llm_kv_cache_keys(cache, l, b, h) + cache->B * cache->H * cache->T * cache->D;
}

/* Layer l <- k, v (B,H,n,D): the n positions behind length[b] of each row; n = 1 for a token,
 * more for a prompt. The rows grow by llm_kv_cache_advance, when every layer has appended and
 * attended. */
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

/* o (R,D) <- q (R,D), R <= 64 queries in a row of which the first sees keys 0 .. first: tiles of 64
 * keys with the running maximum m and sum of @flash, divided by the sum once, at the end. */
LLM_API void llm_kv_cache_block(float *o, const float *q, const float *k, const float *v, size_t R,
                                size_t first, size_t D) {
    enum { TILE = LLM_CAUSAL_ATTN_TILE };
    const float scale = 1.0f / sqrtf((float)D);
    float w[TILE * TILE], m[TILE], sum[TILE];
    for (size_t r = 0; r < R; r++) m[r] = -INFINITY, sum[r] = 0.0f;
    for (size_t i = 0; i < R * D; i++) o[i] = 0.0f;
    for (size_t j = 0; j < first + R; j += TILE) { /* rows before skip see none of these keys */
        const size_t N = llm_causal_attn_tile(first + R - j);
        const size_t skip = j > first ? j - first : 0, ahead = j > first ? 0 : first - j;
        llm_causal_attn_scores(w, N, q + skip * D, D, k + j * D, D, scale, ahead, R - skip, N, D);
        for (size_t r = skip; r < R; r++) {
            float *wr = w + (r - skip) * N;
            const size_t seen = r - skip + ahead < N ? r - skip + ahead + 1 : N;
            const float max = fmaxf(m[r], llm_logsumexp_max(wr, seen)), old = llm_expf(m[r] - max);
            for (size_t n = 0; n < seen; n++) wr[n] = llm_expf(wr[n] - max);
            sum[r] *= old;
            for (size_t n = 0; n < seen; n++) sum[r] += wr[n];
            for (size_t d = 0; d < D; d++) o[r * D + d] *= old;
            m[r] = max;
        }
        llm_causal_attn_gather(o + skip * D, D, w, N, v + j * D, D, ahead, R - skip, N, D);
    }
    for (size_t i = 0; i < R * D; i++) o[i] /= sum[i / D];
}

/* out (B,Hq,n,D) <- q (B,Hq,n,D), the queries of the n positions that layer l has just appended:
 * query i of row b sees positions 0 .. length[b] + i, head h reads key head h / (Hq/H). One token
 * reads each key and value once for all heads of a group. Scores are scaled by 1/sqrt(D); for
 * another factor scale q. Scratch: B Hq T floats, given back. */
LLM_API void llm_kv_cache_attend(float *out, const llm_kv_cache *cache, size_t l, const float *q,
                                 size_t Hq, size_t n, llm_arena *arena) {
    LLM_ASSERT(cache->H > 0 && Hq % cache->H == 0);
    const size_t H = cache->H, D = cache->D, group = Hq / H, mark = arena->used;
    float *scratch = llm_arena_floats(arena, cache->B * Hq * cache->T);
    LLM_PARALLEL_FOR
    for (size_t bh = 0; bh < cache->B * H; bh++) {
        const float *k = llm_kv_cache_keys(cache, l, bh / H, bh % H);
        const float *v = llm_kv_cache_values(cache, l, bh / H, bh % H),
                    *qg = q + bh * group * n * D;
        const size_t length = cache->length[bh / H];
        float *o = out + bh * group * n * D, *w = scratch + bh * group * cache->T;
        if (n == 1) {
            llm_gqa_decode(o, w, qg, k, v, group, length + 1, D, 1.0f / sqrtf((float)D));
            continue;
        }
        for (size_t g = 0; g < group; g++)
            for (size_t i = 0; i < n; i += LLM_CAUSAL_ATTN_TILE)
                llm_kv_cache_block(o + (g * n + i) * D, qg + (g * n + i) * D, k, v,
                                   llm_causal_attn_tile(n - i), length + i, D);
    }
    arena->used = mark;
}

/* Row b becomes count[b] positions longer, or n with count NULL. Rows of a batch whose prompts
 * are padded on the right to one length grow by their own: what was appended behind it is
 * overwritten. */
LLM_API void llm_kv_cache_advance(llm_kv_cache *cache, const size_t *count, size_t n) {
    for (size_t b = 0; b < cache->B; b++) {
        const size_t more = count ? count[b] : n;
        LLM_ASSERT(more <= cache->T - cache->length[b]);
        cache->length[b] += more;
    }
}

/* Row b forgets its last n positions. */
LLM_API void llm_kv_cache_rollback(llm_kv_cache *cache, size_t b, size_t n) {
    LLM_ASSERT(b < cache->B && n <= cache->length[b]);
    cache->length[b] -= n;
}

/* Row b keeps the positions slot (n), ascending, and closes the gaps: of a tree of drafts, the path
 * that was accepted. Its keys keep the rotation they were stored with. */
LLM_API void llm_kv_cache_keep(llm_kv_cache *cache, size_t b, const size_t *slot, size_t n) {
    const size_t D = cache->D;
    for (size_t lh = 0; lh < cache->L * cache->H; lh++) {
        float *k = llm_kv_cache_keys(cache, lh / cache->H, b, lh % cache->H);
        float *v = llm_kv_cache_values(cache, lh / cache->H, b, lh % cache->H);
        for (size_t i = 0; i < n; i++) { /* slot[i] >= i: nothing is overwritten before it moves */
            LLM_ASSERT(slot[i] < cache->length[b] && (i == 0 || slot[i] > slot[i - 1]));
            memmove(k + i * D, k + slot[i] * D, D * sizeof(float));
            memmove(v + i * D, v + slot[i] * D, D * sizeof(float));
        }
    }
    cache->length[b] = n;
}

/* Row b <- what row parent[b] was, for all rows at once: beams that follow other beams, or with
 * parent = (0, 0, ...) copies of one prompt. Scratch: B T D floats and B sizes, given back. */
LLM_API void llm_kv_cache_reorder(llm_kv_cache *cache, const size_t *parent, llm_arena *arena) {
    const size_t B = cache->B, row = cache->T * cache->D, mark = arena->used;
    float *old = llm_arena_floats(arena, B * row);
    size_t *length = (size_t *)llm_arena_take(arena, B, sizeof(size_t));
    memcpy(length, cache->length, B * sizeof(size_t));
    for (size_t i = 0; i < 2 * cache->L * cache->H; i++) { /* one head of all rows at a time */
        float *head = cache->memory + (i / cache->H * B * cache->H + i % cache->H) * row;
        for (size_t b = 0; b < B; b++)
            memcpy(old + b * row, head + b * cache->H * row, length[b] * cache->D * sizeof(float));
        for (size_t b = 0; b < B; b++) {
            LLM_ASSERT(parent[b] < B);
            cache->length[b] = length[parent[b]];
            memcpy(head + b * cache->H * row, old + parent[b] * row,
                   cache->length[b] * cache->D * sizeof(float));
        }
    }
    arena->used = mark;
}

/* @decoding ------------------------------------------------- The generation loop
 *
 *     repeat:  logits = model(what is new)    y ~ pick(logits)    text = text + y    until an end
 *
 * A language model gives a distribution of the next token; writing is a loop around it that knows
 * neither how the logits come about nor how one is chosen. Both are callbacks here, because they
 * are the user's: any model, any chain of transforms (@sampling). What is left is bookkeeping that
 * is easily got wrong: rows of different lengths, rows that end early and must not be computed any
 * more, ends of several kinds, and chance. Every choice draws from a stream of its own, named by
 * (seed, row, step), so a text depends neither on its neighbours in the batch nor on interruptions.
 *
 * A prompt is what the model has not seen yet, like the last token in the middle of a run: the
 * first turn feeds many tokens and all others one. Going on after an end, or from a saved text with
 * an empty model, is therefore just another call.
 *
 * source  Radford et al. 2019, "Language Models are Unsupervised Multitask Learners"; transformers
 *         (generation/utils.py): ends and their order
 * needs   arena rng logsumexp
 * see     @kv_cache (a model's state), @greedy @sampling (pickers), @beam_search, @gpt2_decode
 * topics  Decoding
 */

/* A model of V tokens whose state holds up to capacity tokens for each row. step appends the first
 * count[i] of ids (rows,n) to the state of row[i], for all i < rows, and writes logits (rows,V):
 * the next token behind the last one of each. Every count is at least 1; ids behind it are pad. */
typedef struct {
    size_t V, capacity;
    void *context;
    void (*step)(void *context, float *logits, const int *ids, const size_t *count,
                 const size_t *row, size_t rows, size_t n);
} llm_decoding_model;

/* pick returns the next token behind the text ids (n), or a negative number when there is none. It
 * may change logits (V), and draw from rng. */
typedef struct {
    void *context;
    int (*pick)(void *context, float *logits, size_t V, const int *ids, size_t n, llm_rng *rng);
} llm_decoding_picker;

typedef enum {
    LLM_DECODING_RUNNING,
    LLM_DECODING_STOP,   /* a stop token; it is the last of the text */
    LLM_DECODING_BUDGET, /* max_new tokens were written */
    LLM_DECODING_FULL,   /* the text has the length of the model's capacity */
    LLM_DECODING_HEARD,  /* the listener had enough */
    LLM_DECODING_FAILED  /* an empty prompt, or the picker found no token */
} llm_decoding_end;

/* One text: ids has room for the model's capacity. The first prompt of length tokens were given,
 * the first seen are in the model's state. stream names the row's random numbers. logprob: room for
 * capacity numbers or NULL; entry t gets the log-probability of ids[t], prompt <= t < length. */
typedef struct {
    int *ids;
    size_t prompt, length, seen;
    uint64_t stream;
    float *logprob;
    llm_decoding_end end;
} llm_decoding_row;

/* A new row: a prompt of n tokens in ids. */
LLM_API llm_decoding_row llm_decoding_begin(int *ids, size_t n, uint64_t stream) {
    llm_decoding_row r;
    r.ids = ids, r.logprob = NULL;
    r.prompt = r.length = n, r.seen = 0;
    r.stream = stream;
    r.end = LLM_DECODING_RUNNING;
    return r;
}

/* max_new counts from the prompt on; before min_new tokens stop tokens cannot be chosen. processed:
 * log-probabilities of the logits as pick left them, not as the model gave them. listener, if not
 * NULL, hears every token with its row's index and ends the row by returning false: stop strings, a
 * client that went away, a deadline. */
typedef struct {
    size_t max_new, min_new;
    const int *stop;
    size_t stops;
    int pad;
    uint64_t seed;
    bool processed;
    bool (*listener)(void *context, size_t row, int token);
    void *listener_context;
} llm_decoding_config;

/* One token after the other, without a limit of its own. */
LLM_API llm_decoding_config llm_decoding_defaults(size_t max_new) {
    llm_decoding_config c;
    c.max_new = max_new, c.min_new = 0;
    c.stop = NULL, c.stops = 0, c.pad = 0;
    c.seed = 0, c.processed = false;
    c.listener = NULL, c.listener_context = NULL;
    return c;
}

/* The generator for one choice: a key made of the three numbers by Philox. */
LLM_API llm_rng llm_decoding_rng(uint64_t seed, uint64_t stream, uint64_t step) {
    const uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    const uint32_t counter[4] = {(uint32_t)stream, (uint32_t)(stream >> 32), (uint32_t)step,
                                 (uint32_t)(step >> 32)};
    uint32_t word[4];
    llm_rng_philox(word, counter, key);
    return llm_rng_seed((uint64_t)word[1] << 32 | word[0]);
}

/* One turn of row number `index` with its logits (V): a token is appended, or the end is set, or
 * both. raw (V) is scratch. */
LLM_API void llm_decoding_choose(llm_decoding_row *r, size_t index, float *logits, float *raw,
                                 size_t V, const llm_decoding_picker *picker,
                                 const llm_decoding_config *c) {
    const size_t step = r->length - r->prompt;
    const float *z = logits;
    if (r->logprob && !c->processed) z = (const float *)memcpy(raw, logits, V * sizeof(float));
    for (size_t s = 0; s < c->stops && step < c->min_new; s++) logits[c->stop[s]] = -INFINITY;
    llm_rng rng = llm_decoding_rng(c->seed, r->stream, step);
    const int token = picker->pick(picker->context, logits, V, r->ids, r->length, &rng);
    if (token < 0) {
        r->end = LLM_DECODING_FAILED;
        return;
    }
    LLM_ASSERT((size_t)token < V);
    if (r->logprob) r->logprob[r->length] = z[token] - llm_logsumexp(z, V);
    r->ids[r->length++] = token;
    if (c->listener && !c->listener(c->listener_context, index, token)) r->end = LLM_DECODING_HEARD;
    for (size_t s = 0; s < c->stops; s++)
        if (token == c->stop[s]) r->end = LLM_DECODING_STOP;
}

/* Does the row go on? If not, its end is set. */
LLM_API bool llm_decoding_open(llm_decoding_row *r, size_t capacity, const llm_decoding_config *c) {
    if (r->end != LLM_DECODING_RUNNING) return false;
    if (r->length == 0)
        r->end = LLM_DECODING_FAILED;
    else if (r->length - r->prompt >= c->max_new)
        r->end = LLM_DECODING_BUDGET;
    else if (r->length >= capacity)
        r->end = LLM_DECODING_FULL;
    return r->end == LLM_DECODING_RUNNING;
}

/* Writes rows (B) until each has its end; returns the number of tokens. Rows that have ended are
 * not computed any more. To go on with a row, set end to RUNNING; with a model that lost its state,
 * set seen to 0 too. The last token of a row has not been seen by the model. Scratch: 2 B sizes, B
 * V + V floats and B n ints for a longest prompt of n tokens, given back. */
LLM_API size_t llm_decoding_run(llm_decoding_row *rows, size_t B, const llm_decoding_model *model,
                                const llm_decoding_picker *picker, const llm_decoding_config *c,
                                llm_arena *arena) {
    const size_t V = model->V, mark = arena->used;
    size_t longest = 0, written = 0;
    for (size_t b = 0; b < B; b++) {
        LLM_ASSERT(rows[b].prompt <= rows[b].length && rows[b].seen <= rows[b].length);
        const size_t left = rows[b].length - rows[b].seen;
        longest = left > longest ? left : longest;
    }
    size_t *row = (size_t *)llm_arena_take(arena, B, sizeof(size_t));
    size_t *count = (size_t *)llm_arena_take(arena, B, sizeof(size_t));
    float *logits = llm_arena_floats(arena, B * V), *raw = llm_arena_floats(arena, V);
    int *ids = (int *)llm_arena_take(arena, B * longest, sizeof(int));

    for (;;) {
        size_t open = 0, n = 0;
        for (size_t b = 0; b < B; b++) {
            if (!llm_decoding_open(&rows[b], model->capacity, c)) continue;
            count[open] = rows[b].length - rows[b].seen;
            LLM_ASSERT(count[open] > 0);
            n = count[open] > n ? count[open] : n;
            row[open++] = b;
        }
        if (open == 0) break;
        for (size_t i = 0; i < open; i++) {
            const llm_decoding_row *r = &rows[row[i]];
            for (size_t t = 0; t < n; t++)
                ids[i * n + t] = t < count[i] ? r->ids[r->seen + t] : c->pad;
        }
        model->step(model->context, logits, ids, count, row, open, n);
        for (size_t i = 0; i < open; i++) {
            llm_decoding_row *r = &rows[row[i]];
            r->seen = r->length;
            llm_decoding_choose(r, row[i], logits + i * V, raw, V, picker, c);
            written += r->length - r->seen;
        }
    }
    arena->used = mark;
    return written;
}

/* The n most probable tokens of logits (V), best first, ties to the lower one: ids (n), logprob
 * (n). For records of what else might have been said; n is small. */
LLM_API void llm_decoding_top(int *ids, float *logprob, const float *logits, size_t V, size_t n) {
    LLM_ASSERT(n <= V);
    const float lse = llm_logsumexp(logits, V);
    size_t found = 0;
    for (size_t v = 0; v < V; v++) { /* an insertion sort that keeps n */
        size_t at = found;
        while (at > 0 && logits[v] > logits[ids[at - 1]]) at--;
        if (at == n) continue;
        for (size_t i = found < n ? found++ : n - 1; i > at; i--) ids[i] = ids[i - 1];
        ids[at] = (int)v;
    }
    for (size_t i = 0; i < n; i++) logprob[i] = logits[ids[i]] - lse;
}

/* @greedy --------------------------------------------------- Greedy decoding
 *
 *     y_t = argmax_v p(v | y_<t)
 *
 * Take the most probable token, every time. It needs no random numbers and gives the same text
 * twice, and it has two flaws that no better model removes. It is short-sighted: the most probable
 * first word need not begin the most probable sentence. And it loops: the next token is a function
 * of the state, so once a state comes back everything behind it comes back too; a model that sees n
 * tokens has at most V^n states. A Transformer sees all tokens but its attention copies what it
 * finds, and loops all the same. Contrastive search breaks the loop by charging each candidate for
 * its likeness to what is already there.
 *
 * source  Su et al. 2022, "A Contrastive Framework for Neural Text Generation", eq. 2; Brent 1980,
 *         "An improved Monte Carlo factorization algorithm", section 2
 * needs   -
 * see     @temperature @top_p @sampling @decoding
 * topics  Greedy Decoding
 */

/* The lowest index of the largest of logits (V); -1 when one of them is NaN: no token is right. */
LLM_API int llm_greedy_pick(const float *logits, size_t V) {
    LLM_ASSERT(V > 0);
    size_t best = 0;
    for (size_t i = 0; i < V; i++) {
        if (isnan(logits[i])) return -1;
        if (logits[i] > logits[best]) best = i;
    }
    return (int)best;
}

/* Follows next (S), each state's successor, from start until states repeat. Returns the length of
 * the loop; *tail gets the number of states before it. Brent: the hare runs ahead while the
 * tortoise waits at every power of two, so no state but the two has to be kept. */
LLM_API size_t llm_greedy_cycle(size_t *tail, const size_t *next, size_t start) {
    size_t tortoise = start, hare = next[start], power = 1, length = 1;
    while (tortoise != hare) {
        if (power == length) {
            tortoise = hare;
            power *= 2;
            length = 0;
        }
        hare = next[hare];
        length++;
    }
    tortoise = hare = start; /* one length apart they meet where the loop begins */
    for (size_t i = 0; i < length; i++) hare = next[hare];
    for (*tail = 0; tortoise != hare; (*tail)++) {
        tortoise = next[tortoise];
        hare = next[hare];
    }
    return length;
}

/* log-probability of the greedy text of T tokens, ids (T), under the chain first (V), next (V,V):
 * log-probabilities of the first token and of each token behind another. */
LLM_API float llm_greedy_text(int *ids, const float *first, const float *next, size_t T, size_t V) {
    double sum = 0.0;
    const float *row = first;
    for (size_t t = 0; t < T; t++) {
        ids[t] = llm_greedy_pick(row, V);
        LLM_ASSERT(ids[t] >= 0);
        sum += (double)row[ids[t]];
        row = next + (size_t)ids[t] * V;
    }
    return (float)sum;
}

/* The same of the most probable text: all V^T of them are tried, as an odometer counts. Scratch: T
 * ints, given back. */
LLM_API float llm_greedy_best_text(int *ids, const float *first, const float *next, size_t T,
                                   size_t V, llm_arena *arena) {
    const size_t mark = arena->used;
    int *text = (int *)llm_arena_take(arena, T, sizeof(int));
    double best = (double)-INFINITY;
    for (size_t t = 0; t < T; t++) text[t] = 0;
    for (size_t wheel = 0; wheel < T;) {
        double sum = 0.0;
        for (size_t t = 0; t < T; t++)
            sum +=
                (double)(t > 0 ? next[(size_t)text[t - 1] * V + (size_t)text[t]] : first[text[t]]);
        if (sum > best) {
            best = sum;
            memcpy(ids, text, T * sizeof(int));
        }
        for (wheel = 0; wheel < T && (size_t)text[wheel] == V - 1; wheel++) text[wheel] = 0;
        if (wheel < T) text[wheel]++;
    }
    arena->used = mark;
    return (float)best;
}

/* Contrastive search. Which of k candidates <- their probabilities p (k), the hidden states h (k,D)
 * the model has after reading each of them, and those of the text so far, past (T,D):
 *
 *     argmax_v (1 - alpha) p(v) - alpha max_t cos(h_v, past_t)
 *
 * Ties go to the first. alpha = 0 is greedy; 0.6 with k = 4 to 8 is usual. */
LLM_API size_t llm_greedy_contrastive(const float *p, const float *h, const float *past, size_t k,
                                      size_t T, size_t D, float alpha) {
    LLM_ASSERT(k > 0);
    size_t best = 0;
    double best_score = (double)-INFINITY;
    for (size_t v = 0; v < k; v++) {
        double closest = -1.0; /* without a past all candidates keep this, and p decides */
        for (size_t t = 0; t < T; t++) {
            double dot = 0.0, a = 0.0, b = 0.0;
            for (size_t i = 0; i < D; i++) {
                const double x = (double)h[v * D + i], y = (double)past[t * D + i];
                dot += x * y;
                a += x * x;
                b += y * y;
            }
            const double likeness = a * b > 0.0 ? dot / sqrt(a * b) : 0.0;
            closest = likeness > closest ? likeness : closest;
        }
        const double score = (1.0 - (double)alpha) * (double)p[v] - (double)alpha * closest;
        if (score > best_score) {
            best_score = score;
            best = v;
        }
    }
    return best;
}

/* @temperature ---------------------------------------------- Softmax temperature
 *
 *     p_i = exp(z_i / tau) / sum_j exp(z_j / tau)          dH/dtau = Var_p(z) / tau^3
 *
 * One number between the most probable token (tau = 0) and a fair die (tau = infinity). Dividing
 * the logits by tau raises every probability to the power 1/tau, so it never changes an order, and
 * the entropy H grows with tau wherever two logits differ. tau = 0 is argmax by definition, not by
 * a division. Adding Gumbel noise -log(-log u) to z / tau and taking the largest draws from p
 * without ever computing p: a kernel can do it in the pass that finds the maximum.
 *
 * source  Ackley, Hinton & Sejnowski 1985, "A Learning Algorithm for Boltzmann Machines", eq. 5;
 *         Gumbel 1954, "Statistical Theory of Extreme Values"; llama.cpp (dynamic temperature)
 * needs   greedy
 * see     @softmax (the temperature's backward), @top_p, @sampling
 * topics  Softmax Temperature
 */

/* logits (V) in place: divided by temp; temp = 0 leaves the largest alone, the others become
 * -inf. */
LLM_API void llm_temperature_apply(float *logits, size_t V, float temp) {
    LLM_ASSERT(temp >= 0.0f);
    if (temp > 0.0f) {
        for (size_t i = 0; i < V; i++) logits[i] /= temp;
        return;
    }
    const int best = llm_greedy_pick(logits, V);
    for (size_t i = 0; i < V; i++) logits[i] = (int)i == best ? logits[i] : -INFINITY;
}

/* H in nats of softmax(z / temp), z (V), temp > 0. *derivative gets dH/dtemp, NULL skips it. With
 * x = (z - max) / temp, H = log sum e^x - E x and Var(z) = temp^2 Var(x): no division by a tiny
 * temp^3 before the variance has become small too. */
LLM_API double llm_temperature_entropy(double *derivative, const float *logits, size_t V,
                                       double temp) {
    LLM_ASSERT(temp > 0.0);
    const int best = llm_greedy_pick(logits, V);
    LLM_ASSERT(best >= 0 && fabsf(logits[best]) < INFINITY);
    double sum = 0.0, mean = 0.0, square = 0.0;
    for (size_t i = 0; i < V; i++) {
        if (logits[i] == -INFINITY) continue;
        const double x = ((double)logits[i] - (double)logits[best]) / temp, e = exp(x);
        sum += e;
        mean += e * x;
        square += e * x * x;
    }
    mean /= sum;
    if (derivative) *derivative = (square / sum - mean * mean) / temp;
    return log(sum) - mean;
}

/* The temperature at which softmax(z / temp) has the entropy asked for, in nats: bisection of its
 * logarithm between 1e-6 and 1e6, whose ends are returned for what no temperature reaches. */
LLM_API double llm_temperature_match(const float *logits, size_t V, double entropy) {
    double low = 1e-6, high = 1e6;
    for (int halving = 0; halving < 60; halving++) {
        const double temp = sqrt(low * high);
        if (llm_temperature_entropy(NULL, logits, V, temp) > entropy)
            high = temp;
        else
            low = temp;
    }
    return sqrt(low * high);
}

/* A token drawn from softmax(z / temp): the largest of z_i / temp + g_i, where g_i is made from
 * word i of the counter's stream, so that any order of evaluation draws the same. temp > 0. */
LLM_API int llm_temperature_gumbel(const float *logits, size_t V, float temp, llm_rng *rng) {
    LLM_ASSERT(temp > 0.0f && V > 0);
    size_t best = 0;
    float highest = -INFINITY;
    for (size_t i = 0; i < V; i++) {
        const float u = ((float)(llm_rng_u32(rng) >> 9) + 0.5f) * (1.0f / 8388608.0f);
        const float score = logits[i] / temp - logf(-logf(u));
        if (score > highest) {
            highest = score;
            best = i;
        }
    }
    return (int)best;
}

/* Dynamic temperature: low + (high - low) (H / log n)^exponent, where H is the entropy at
 * temperature 1 and n the number of logits that are not -inf. A sure model stays sharp. */
LLM_API float llm_temperature_dynamic(const float *logits, size_t V, float low, float high,
                                      float exponent) {
    size_t n = 0;
    for (size_t i = 0; i < V; i++) n += logits[i] > -INFINITY;
    if (n < 2) return low;
    const double share = llm_temperature_entropy(NULL, logits, V, 1.0) / log((double)n);
    return low + (high - low) * powf((float)share, exponent);
}

/* @top_k ---------------------------------------------------- Top-k sampling
 *
 *     keep v  where  #{u : z_u > z_v} < k
 *
 * Draw among the k most probable tokens only. The long tail of a vocabulary is wrong token by token
 * and still adds up: 50000 tokens of probability 1e-6 are 5% of all draws, and one of them spoils a
 * sentence. What is cut off raises the rest by 1 / kept mass. k does not know how sure the model
 * is: 40 is far too many after "the United" and too few after "my name is". Ties at the k-th place:
 * transformers keeps all of them, llama.cpp keeps exactly k. Sorting is not needed: four counts
 * over the bytes of the logits find the k-th largest.
 *
 * source  Fan, Lewis & Dauphin 2018, "Hierarchical Neural Story Generation", section 5.2
 * needs   -
 * see     @top_p @min_p @sampling
 * topics  Top-k Sampling
 */

/* The bits of x as an integer of the same order: negative numbers are turned round. */
LLM_API uint32_t llm_top_k_key(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    if (bits == 0x80000000u) bits = 0; /* -0 equals 0 */
    return bits >> 31 ? ~bits : bits | 0x80000000u;
}

/* The k-th largest of x (n), 1 <= k <= n, no NaN: radix select. Each pass counts one byte, highest
 * first, among the keys that agree with the bytes found so far. */
LLM_API float llm_top_k_threshold(const float *x, size_t n, size_t k) {
    LLM_ASSERT(k > 0 && k <= n);
    uint32_t found = 0, known = 0; /* the bits of the answer, and which of them are settled */
    for (unsigned shift = 32; shift > 0;) {
        shift -= 8;
        size_t count[256];
        memset(count, 0, sizeof count);
        for (size_t i = 0; i < n; i++) {
            const uint32_t key = llm_top_k_key(x[i]);
            if ((key & known) == found) count[key >> shift & 255]++;
        }
        uint32_t byte = 255;
        for (; count[byte] < k; byte--) k -= count[byte];
        found |= byte << shift;
        known |= (uint32_t)255 << shift;
    }
    found = found >> 31 ? found & 0x7fffffffu : ~found;
    float threshold;
    memcpy(&threshold, &found, sizeof threshold);
    return threshold;
}

/* logits (V) in place: all below the k-th largest become -inf; ties with it stay. k >= V and k = 0
 * change nothing. */
LLM_API void llm_top_k_filter(float *logits, size_t V, size_t k) {
    if (k == 0 || k >= V) return;
    const float least = llm_top_k_threshold(logits, V, k);
    for (size_t i = 0; i < V; i++) logits[i] = logits[i] < least ? -INFINITY : logits[i];
}

/* index (k) <- the k largest of x (n), largest first, ties to the lower index: exactly k <= n of
 * them. A heap of the k best so far with the worst on top: most entries cost one comparison. */
LLM_API void llm_top_k_select(size_t *index, const float *x, size_t n, size_t k) {
    LLM_ASSERT(k <= n);
    if (k == 0) return;
    for (size_t i = 0, size = 0; i < n + k; i++) {
        size_t moved, hole = 0; /* entries from the front, then the heap is taken apart */
        if (i < k) {
            for (hole = size++; hole > 0; hole = (hole - 1) / 2) {
                const size_t up = index[(hole - 1) / 2];
                if (x[up] < x[i]) break; /* an equal one that comes later is worse */
                index[hole] = up;
            }
            index[hole] = i;
            continue;
        }
        if (i < n) {
            if (!(x[i] > x[index[0]])) continue;
            moved = i;
        } else {
            moved = index[--size];
            index[size] = index[0];
        }
        for (size_t child = 1; child < size; child = 2 * hole + 1) {
            if (child + 1 < size) {
                const size_t a = index[child], b = index[child + 1];
                if (x[b] < x[a] || (x[b] == x[a] && b > a)) child++;
            }
            const size_t worst = index[child];
            if (x[moved] < x[worst] || (x[moved] == x[worst] && moved > worst)) break;
            index[hole] = worst;
            hole = child;
        }
        if (hole < size) index[hole] = moved;
    }
}

/* The probability that the k largest of logits (V), ties included, have together: 1 - this is what
 * top-k throws away, and -log of this is KL(kept, renormalised || all). */
LLM_API double llm_top_k_mass(const float *logits, size_t V, size_t k) {
    const float least = llm_top_k_threshold(logits, V, k), max = llm_top_k_threshold(logits, V, 1);
    double kept = 0.0, all = 0.0;
    for (size_t i = 0; i < V; i++) {
        const double e = exp((double)logits[i] - (double)max);
        all += e;
        if (logits[i] >= least) kept += e;
    }
    return kept / all;
}

/* @top_p ---------------------------------------------------- Top-p (nucleus) sampling
 *
 *     keep the most probable tokens, the smallest set whose probabilities sum to at least p
 *
 * A set as large as the model is unsure: two tokens after "the United", a thousand after "my name
 * is". The token that crosses p belongs to it, so something is always kept. Applied to logits that
 * a temperature has already flattened it keeps more: the order of the two matters. Textbooks sort;
 * the set is decided by one number, the least probability in it, and that can be found by
 * bisection over the 2^32 floats in at most 32 sums.
 *
 * source  Holtzman et al. 2020, "The Curious Case of Neural Text Degeneration", eq. 2 and 3
 * needs   softmax top_k argsort
 * see     @min_p (thresholds on each token), @top_k, @sampling
 * topics  Top-p Sampling (Nucleus Sampling)
 */

/* logits (V) in place: all outside the nucleus become -inf. At least min_keep tokens stay. Of equal
 * ones at the edge the later stay; transformers leaves that to its sort. This is the definition, by
 * sorting. Scratch: V indices and V floats, given back. */
LLM_API void llm_top_p_sorted(float *logits, size_t V, float p, size_t min_keep, llm_arena *arena) {
    LLM_ASSERT(p >= 0.0f && p <= 1.0f && min_keep > 0);
    const size_t mark = arena->used;
    size_t *order = (size_t *)llm_arena_take(arena, V, sizeof(size_t));
    float *prob = llm_arena_floats(arena, V);
    llm_argsort(order, logits, V);
    llm_softmax_forward(prob, logits, 1, V, 1.0f);
    double below = 0.0; /* mass of the tokens up to this one, from the least probable on */
    for (size_t i = 0; i + min_keep < V; i++) {
        below += (double)prob[order[i]];
        if (below > 1.0 - (double)p) break;
        logits[order[i]] = -INFINITY;
    }
    arena->used = mark;
}

/* The same set without sorting. The edge is the smallest key for which the mass of the tokens up to
 * it exceeds 1 - p; above it all stay, and of those on it as many as needed. Scratch: V floats,
 * given back. */
LLM_API void llm_top_p_filter(float *logits, size_t V, float p, size_t min_keep, llm_arena *arena) {
    LLM_ASSERT(p >= 0.0f && p <= 1.0f && min_keep > 0);
    if (min_keep >= V) return;
    const size_t mark = arena->used;
    float *prob = llm_arena_floats(arena, V);
    llm_softmax_forward(prob, logits, 1, V, 1.0f);
    const double cut = 1.0 - (double)p;
    uint32_t low = 0, high = llm_top_k_key(llm_top_k_threshold(logits, V, min_keep));
    double below = 0.0; /* mass below the key low */
    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        double sum = 0.0;
        for (size_t i = 0; i < V; i++) {
            if (llm_top_k_key(logits[i]) <= middle) sum += (double)prob[i];
        }
        if (sum > cut) {
            high = middle;
        } else {
            low = middle + 1;
            below = sum;
        }
    }
    size_t above = 0; /* tokens that stay because they are beyond the edge or on it, from behind */
    for (size_t i = 0; i < V; i++) above += llm_top_k_key(logits[i]) >= low;
    for (size_t i = 0; i < V; i++) {
        const uint32_t key = llm_top_k_key(logits[i]);
        if (key > low) continue;
        if (key == low) {
            below += (double)prob[i];
            if (below > cut || above <= min_keep) {
                below = 2.0; /* the rest of the edge stays too */
                continue;
            }
            above--;
        }
        logits[i] = -INFINITY;
    }
    arena->used = mark;
}

/* @min_p ---------------------------------------------------- Min-p, typical, epsilon, eta, n-sigma
 *
 *     min-p    keep p_v >= a max p                 epsilon  keep p_v >= e
 *     eta      keep p_v >= min(e, sqrt(e) exp(-H))
 *     n-sigma  keep z_v >= max z - n std(z)
 *     typical  the smallest set of tokens with |-log p_v - H| least whose mass reaches p
 *
 * Rules that look at each token alone, and one that does not take the most probable ones. Min-p
 * scales with the model's confidence and stays sane at high temperatures. Epsilon removes what is
 * improbable absolutely, eta more carefully where everything is (H is the entropy in nats).
 * Top-n-sigma works on logits, so the kept set does not depend on the temperature. Typical sampling
 * prefers tokens as surprising as the model expects to be surprised, and may drop the most probable
 * one. All keep at least min_keep tokens, the most probable, typical: the most typical.
 *
 * source  Nguyen et al. 2024, "Turning Up the Heat: Min-p Sampling"; Hewitt, Manning & Liang 2022,
 *         "Truncation Sampling as Language Model Desmoothing", eq. 4 and 7; Meister et al. 2023,
 *         "Locally Typical Sampling", eq. 10; Tang et al. 2024, "Top-n-sigma"
 * needs   softmax top_k argsort
 * see     @top_p @sampling
 * topics  -
 */

/* logits (V) in place: those of probability below `least` become -inf, but the min_keep > 0
 * largest and their ties stay. prob (V) are the probabilities. */
LLM_API void llm_min_p_cut(float *logits, const float *prob, size_t V, double least,
                           size_t min_keep) {
    const float kept = llm_top_k_threshold(logits, V, min_keep < V ? min_keep : V);
    for (size_t i = 0; i < V; i++) {
        if ((double)prob[i] < least && logits[i] < kept) logits[i] = -INFINITY;
    }
}

/* Min-p: least is ratio times the largest probability. Scratch of this and the next three: V floats
 * (typical: 3 V and V indices), given back. */
LLM_API void llm_min_p_filter(float *logits, size_t V, float ratio, size_t min_keep,
                              llm_arena *arena) {
    const size_t mark = arena->used;
    float *prob = llm_arena_floats(arena, V), max = 0.0f;
    llm_softmax_forward(prob, logits, 1, V, 1.0f);
    for (size_t i = 0; i < V; i++) max = prob[i] > max ? prob[i] : max;
    llm_min_p_cut(logits, prob, V, (double)ratio * (double)max, min_keep);
    arena->used = mark;
}

/* Epsilon: least is epsilon itself. */
LLM_API void llm_min_p_epsilon(float *logits, size_t V, float epsilon, size_t min_keep,
                               llm_arena *arena) {
    const size_t mark = arena->used;
    float *prob = llm_arena_floats(arena, V);
    llm_softmax_forward(prob, logits, 1, V, 1.0f);
    llm_min_p_cut(logits, prob, V, (double)epsilon, min_keep);
    arena->used = mark;
}

/* Entropy in nats of prob (V). */
LLM_API double llm_min_p_entropy(const float *prob, size_t V) {
    double entropy = 0.0;
    for (size_t i = 0; i < V; i++) {
        if (prob[i] > 0.0f) entropy -= (double)prob[i] * log((double)prob[i]);
    }
    return entropy;
}

/* Eta: least is epsilon, or sqrt(epsilon) exp(-H) where the distribution is flat. */
LLM_API void llm_min_p_eta(float *logits, size_t V, float epsilon, size_t min_keep,
                           llm_arena *arena) {
    const size_t mark = arena->used;
    float *prob = llm_arena_floats(arena, V);
    llm_softmax_forward(prob, logits, 1, V, 1.0f);
    const double scaled = sqrt((double)epsilon) * exp(-llm_min_p_entropy(prob, V));
    llm_min_p_cut(logits, prob, V, fmin((double)epsilon, scaled), min_keep);
    arena->used = mark;
}

/* Top-n-sigma. The deviation is over the logits that are not -inf, with their number as divisor. */
LLM_API void llm_min_p_top_n_sigma(float *logits, size_t V, float n) {
    double sum = 0.0, square = 0.0;
    size_t count = 0;
    float max = -INFINITY;
    for (size_t i = 0; i < V; i++) {
        max = logits[i] > max ? logits[i] : max;
        if (logits[i] == -INFINITY) continue;
        sum += (double)logits[i];
        count++;
    }
    const double mean = count ? sum / (double)count : 0.0;
    for (size_t i = 0; i < V; i++) {
        const double d = (double)logits[i] - mean;
        if (logits[i] > -INFINITY) square += d * d;
    }
    const double least = (double)max - (double)n * sqrt(square / (double)(count ? count : 1));
    for (size_t i = 0; i < V; i++)
        if ((double)logits[i] < least) logits[i] = -INFINITY;
}

/* Typical: the tokens nearest to the entropy until they sum to mass, ties with the last
 * included. */
LLM_API void llm_min_p_typical(float *logits, size_t V, float mass, size_t min_keep,
                               llm_arena *arena) {
    LLM_ASSERT(min_keep > 0);
    const size_t mark = arena->used;
    size_t *order = (size_t *)llm_arena_take(arena, V, sizeof(size_t));
    float *prob = llm_arena_floats(arena, V), *shift = llm_arena_floats(arena, V);
    llm_softmax_forward(prob, logits, 1, V, 1.0f);
    const double entropy = llm_min_p_entropy(prob, V);
    for (size_t i = 0; i < V; i++)
        shift[i] = prob[i] > 0.0f ? (float)fabs(-log((double)prob[i]) - entropy) : INFINITY;
    llm_argsort(order, shift, V);
    double sum = 0.0;
    size_t last = 0;
    for (; last + 1 < V; last++) {
        sum += (double)prob[order[last]];
        if (sum >= (double)mass && last + 1 >= min_keep) break;
    }
    const float edge = shift[order[last]]; /* of the token that reaches mass; ties with it stay */
    for (size_t i = 0; i < V; i++) logits[i] = shift[i] > edge ? -INFINITY : logits[i];
    arena->used = mark;
}

/* @sampling ------------------------------------------------- The sampler chain
 *
 *     logits -> transform -> transform -> ... -> draw
 *
 * What a model says depends on the transforms and on their order as much as on its weights.
 * transformers applies the temperature first and truncates what it flattened; llama.cpp truncates
 * first and applies the temperature last, so the same settings keep fewer tokens. The chain is a
 * list, and the two presets below are lists. Three ways to draw from what is left: the inverse of
 * the cumulated sum (one number, one walk), Gumbel noise (@temperature), and the alias table: after
 * O(V) preparation a draw costs O(1), whatever V is.
 *
 * source  Vose 1991, "A linear algorithm for generating random numbers with a given distribution";
 *         transformers (generation/logits_process.py), llama.cpp (common/sampling): the orders
 * needs   rng greedy temperature top_k top_p min_p
 * see     @sampling_control @decoding
 * topics  Sampling (in Language Models)
 */

typedef enum {
    LLM_SAMPLING_TEMPERATURE,
    LLM_SAMPLING_TOP_K,
    LLM_SAMPLING_TOP_P,
    LLM_SAMPLING_MIN_P,
    LLM_SAMPLING_TYPICAL,
    LLM_SAMPLING_EPSILON,
    LLM_SAMPLING_ETA,
    LLM_SAMPLING_TOP_N_SIGMA
} llm_sampling_kind;

typedef struct {
    llm_sampling_kind kind;
    float value; /* k as a float, p, ... */
} llm_sampling_step;

/* Settings of the presets; the value that switches a step off: temperature 1, top_k 0, top_p 1,
 * min_p 0, typical 1, epsilon 0, eta 0, top_n_sigma 0. */
typedef struct {
    float temperature, top_k, top_p, min_p, typical, epsilon, eta, top_n_sigma;
} llm_sampling_config;

/* Everything off. */
LLM_API llm_sampling_config llm_sampling_defaults(void) {
    llm_sampling_config c;
    c.temperature = c.top_p = c.typical = 1.0f;
    c.top_k = c.min_p = c.epsilon = c.eta = c.top_n_sigma = 0.0f;
    return c;
}

/* chain (8) <- the steps that c switches on, in the order of transformers, or of llama.cpp. Returns
 * their number. */
LLM_API size_t llm_sampling_preset(llm_sampling_step *chain, const llm_sampling_config *c,
                                   bool llama_cpp) {
    static const llm_sampling_kind order[2][8] = {
        {LLM_SAMPLING_TEMPERATURE, LLM_SAMPLING_TOP_K, LLM_SAMPLING_TOP_P, LLM_SAMPLING_MIN_P,
         LLM_SAMPLING_TYPICAL, LLM_SAMPLING_EPSILON, LLM_SAMPLING_ETA, LLM_SAMPLING_TOP_N_SIGMA},
        {LLM_SAMPLING_TOP_N_SIGMA, LLM_SAMPLING_TOP_K, LLM_SAMPLING_TYPICAL, LLM_SAMPLING_TOP_P,
         LLM_SAMPLING_MIN_P, LLM_SAMPLING_EPSILON, LLM_SAMPLING_ETA, LLM_SAMPLING_TEMPERATURE}};
    const float value[8] = {c->temperature, c->top_k,   c->top_p, c->min_p,
                            c->typical,     c->epsilon, c->eta,   c->top_n_sigma};
    const llm_sampling_config off = llm_sampling_defaults();
    const float unused[8] = {off.temperature, off.top_k,   off.top_p, off.min_p,
                             off.typical,     off.epsilon, off.eta,   off.top_n_sigma};
    size_t n = 0;
    for (size_t i = 0; i < 8; i++) {
        const llm_sampling_kind kind = order[llama_cpp][i];
        if (value[kind] == unused[kind]) continue;
        chain[n].kind = kind;
        chain[n++].value = value[kind];
    }
    return n;
}

/* logits (V) in place, step after step; each leaves at least one token. Scratch: V indices and 3 V
 * floats, given back. */
LLM_API void llm_sampling_chain(float *logits, size_t V, const llm_sampling_step *chain, size_t n,
                                llm_arena *arena) {
    for (size_t i = 0; i < n; i++) {
        const float value = chain[i].value;
        switch (chain[i].kind) {
        case LLM_SAMPLING_TEMPERATURE:
            llm_temperature_apply(logits, V, value);
            break;
        case LLM_SAMPLING_TOP_K:
            llm_top_k_filter(logits, V, (size_t)value);
            break;
        case LLM_SAMPLING_TOP_P:
            llm_top_p_filter(logits, V, value, 1, arena);
            break;
        case LLM_SAMPLING_MIN_P:
            llm_min_p_filter(logits, V, value, 1, arena);
            break;
        case LLM_SAMPLING_TYPICAL:
            llm_min_p_typical(logits, V, value, 1, arena);
            break;
        case LLM_SAMPLING_EPSILON:
            llm_min_p_epsilon(logits, V, value, 1, arena);
            break;
        case LLM_SAMPLING_ETA:
            llm_min_p_eta(logits, V, value, 1, arena);
            break;
        case LLM_SAMPLING_TOP_N_SIGMA:
            llm_min_p_top_n_sigma(logits, V, value);
            break;
        }
    }
}

/* A token with probability softmax(logits (V)): the first whose cumulated sum exceeds u. -1 when
 * nothing can be drawn: all are -inf, or one is NaN. */
LLM_API int llm_sampling_draw(const float *logits, size_t V, llm_rng *rng) {
    const int best = llm_greedy_pick(logits, V);
    if (best < 0 || logits[best] == -INFINITY) return -1;
    const double max = (double)logits[best];
    double total = 0.0, below = 0.0;
    for (size_t i = 0; i < V; i++) total += exp((double)logits[i] - max);
    const double u = (double)llm_rng_uniform(rng) * total;
    for (size_t i = 0; i < V; i++) {
        below += exp((double)logits[i] - max);
        if (u < below) return (int)i;
    }
    return best; /* u * total may round up to the sum */
}

/* The alias table of prob (V), which sums to 1: cell i is i with probability keep[i], else
 * other[i]; every cell is as likely as every other. Scratch: V indices, given back. */
LLM_API void llm_sampling_alias(float *keep, size_t *other, const float *prob, size_t V,
                                llm_arena *arena) {
    const size_t mark = arena->used;
    size_t *stack = (size_t *)llm_arena_take(arena, V, sizeof(size_t));
    size_t small = 0, large = V; /* two stacks that grow towards each other */
    for (size_t i = 0; i < V; i++) {
        keep[i] = prob[i] * (float)V;
        other[i] = i;
        stack[keep[i] < 1.0f ? small++ : --large] = i;
    }
    while (small > 0 && large < V) { /* what a poor cell lacks, a rich one gives */
        const size_t poor = stack[--small], rich = stack[large];
        other[poor] = rich;
        keep[rich] -= 1.0f - keep[poor];
        if (keep[rich] < 1.0f) {
            large++;
            stack[small++] = rich;
        }
    }
    arena->used = mark;
}

/* A token, from the table of llm_sampling_alias. */
LLM_API size_t llm_sampling_alias_draw(const float *keep, const size_t *other, size_t V,
                                       llm_rng *rng) {
    const size_t i = llm_rng_below(rng, V);
    return llm_rng_uniform(rng) < keep[i] ? i : other[i];
}

/* @sampling_control ----------------------------------------- XTC, Mirostat, without replacement
 *
 *     XTC       with chance c: of the tokens with p >= threshold only the least probable stays
 *     Mirostat  keep -log2 p_v <= mu, draw x, then mu -= eta (-log2 p_x - tau)
 *
 * Three draws that are not a fixed distribution. XTC cuts the head instead of the tail: when
 * several tokens would do, it takes the most expected ones away. Mirostat is a thermostat: mu is
 * what it lets through, tau the surprise a token should have on average, in bits. Gumbel noise on
 * the logits, and then the k largest instead of the largest, draws k different tokens as if one
 * after the other without putting any back.
 *
 * source  llama.cpp (XTC); Basu et al. 2021, "Mirostat", algorithm 2; Kool, van Hoof & Welling
 *         2019, "Stochastic Beams and Where to Find Them", section 2
 * needs   rng softmax greedy top_k sampling
 * see     @temperature (Gumbel), @sampling
 * topics  -
 */

/* logits (V) in place. Nothing happens when fewer than two tokens reach the threshold. Scratch: V
 * floats, given back. */
LLM_API void llm_sampling_control_xtc(float *logits, size_t V, float threshold, float chance,
                                      llm_rng *rng, llm_arena *arena) {
    if (llm_rng_uniform(rng) >= chance) return;
    const size_t mark = arena->used;
    float *prob = llm_arena_floats(arena, V);
    llm_softmax_forward(prob, logits, 1, V, 1.0f);
    size_t least = V;
    for (size_t i = 0; i < V; i++) {
        if (prob[i] >= threshold && (least == V || prob[i] < prob[least])) least = i;
    }
    for (size_t i = 0; i < V; i++) {
        if (prob[i] >= threshold && i != least) logits[i] = -INFINITY;
    }
    arena->used = mark;
}

/* A token, and *mu after it; mu starts at 2 tau. logits (V) are truncated in place; the most
 * probable token always stays. The surprise that is fed back is that of the renormalised
 * probability, as in llama.cpp. -1 and no change of mu when nothing can be drawn. Scratch: V
 * floats, given back. */
LLM_API int llm_sampling_control_mirostat(float *mu, float *logits, size_t V, float tau, float eta,
                                          llm_rng *rng, llm_arena *arena) {
    const size_t mark = arena->used;
    float *prob = llm_arena_floats(arena, V);
    llm_softmax_forward(prob, logits, 1, V, 1.0f);
    const int best = llm_greedy_pick(logits, V);
    for (size_t i = 0; i < V; i++) {
        if (-log2f(prob[i]) > *mu && (int)i != best) logits[i] = -INFINITY;
    }
    const int token = llm_sampling_draw(logits, V, rng);
    if (token >= 0) {
        llm_softmax_forward(prob, logits, 1, V, 1.0f);
        *mu -= eta * (-log2f(prob[token]) - tau);
    }
    arena->used = mark;
    return token;
}

/* index (k) <- k different tokens in the order in which they are drawn; at least k logits are not
 * -inf. Scratch: V floats, given back. */
LLM_API void llm_sampling_control_distinct(size_t *index, const float *logits, size_t V, size_t k,
                                           llm_rng *rng, llm_arena *arena) {
    const size_t mark = arena->used;
    float *score = llm_arena_floats(arena, V);
    for (size_t i = 0; i < V; i++) {
        const float u = ((float)(llm_rng_u32(rng) >> 9) + 0.5f) * (1.0f / 8388608.0f);
        score[i] = logits[i] - logf(-logf(u));
    }
    llm_top_k_select(index, score, V, k);
    arena->used = mark;
}

/* @gpt2_decode ---------------------------------------------- GPT-2, one token at a time
 *
 *     logits_t = GPT2(id_1 .. id_t)        reading only id_t and the cached keys and values
 *
 * Generation asks for one more row of logits at a time. Earlier rows do not change when a token is
 * appended (the attention is causal), so their keys and values are kept and everything else of them
 * is forgotten: a step reads every weight once and the cache once, and is limited by memory. A
 * prompt goes through the same code with n tokens at a time, which is what makes it fast: each
 * weight is read once for n tokens. When the context is full the oldest tokens have to go;
 * positions are learned and absolute, so the rest is computed anew.
 *
 * source  Radford et al. 2019, "Language Models are Unsupervised Multitask Learners"
 * needs   arena error matmul activation layernorm embedding gpt2_weights kv_cache temperature top_k
 *         top_p sampling
 * see     @decoding @sampling @gpt2
 * topics  -
 */

typedef struct {
    const llm_gpt2 *model;
    llm_kv_cache cache; /* of one row */
    float *logits;      /* (V) after the last token */
    size_t chunk;       /* tokens in one pass, at most */
    size_t seen;        /* tokens of the text of llm_gpt2_decode_next that were decoded */
    llm_arena memory;
} llm_gpt2_decode_state;

/* Allocates a cache for the model's whole context and scratch for passes of up to chunk tokens. */
LLM_API bool llm_gpt2_decode_create(llm_gpt2_decode_state *d, const llm_gpt2 *model, size_t chunk,
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
    d->seen = 0;
    d->logits = llm_arena_floats(&d->memory, c->vocab);
    llm_kv_cache_create(&d->cache, c->layers, 1, c->heads, c->context, c->width / c->heads,
                        &d->memory);
    return true;
}
LLM_API void llm_gpt2_decode_destroy(llm_gpt2_decode_state *d) { llm_arena_destroy(&d->memory); }

/* part (H,n,D) <- rows: n of them, stride floats apart, the heads side by side. */
LLM_API void llm_gpt2_decode_heads(float *part, const float *rows, size_t stride, size_t n,
                                   size_t H, size_t D) {
    for (size_t h = 0; h < H; h++)
        for (size_t i = 0; i < n; i++)
            memcpy(part + (h * n + i) * D, rows + i * stride + h * D, D * sizeof(float));
}

/* d->logits <- ids (n), which are appended to what d has seen. */
LLM_API void llm_gpt2_decode(llm_gpt2_decode_state *d, const int *ids, size_t n) {
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
LLM_API int llm_gpt2_decode_pick(llm_gpt2_decode_state *d, float temp, size_t k, float p,
                                 llm_rng *rng) {
    const size_t V = d->model->config.vocab, mark = d->memory.used;
    float *logits = llm_arena_floats(&d->memory, V);
    memcpy(logits, d->logits, V * sizeof(float));
    llm_temperature_apply(logits, V, temp);
    if (k > 0) llm_top_k_filter(logits, V, k);
    if (p < 1.0f) llm_top_p_filter(logits, V, p, 1, &d->memory);
    const int id = llm_sampling_draw(logits, V, rng);
    d->memory.used = mark;
    return id;
}

/* The token behind ids (n), of which d has seen the first d->seen. A full context forgets all but
 * its newer half. */
LLM_API int llm_gpt2_decode_next(llm_gpt2_decode_state *d, const int *ids, size_t n, float temp,
                                 size_t k, float p, llm_rng *rng) {
    const size_t context = d->model->config.context;
    LLM_ASSERT(n > 0 && n >= d->seen);
    if (n - d->seen > context - d->cache.length[0]) {
        d->cache.length[0] = 0;
        d->seen = n - (context + 1) / 2;
    }
    if (n > d->seen) llm_gpt2_decode(d, ids + d->seen, n - d->seen);
    d->seen = n;
    return llm_gpt2_decode_pick(d, temp, k, p, rng);
}

/* ids (n + count) in place: up to count tokens behind a prompt of n > 0. Ends early behind the
 * token stop (-1: never). Returns how many were written. */
LLM_API size_t llm_gpt2_decode_text(llm_gpt2_decode_state *d, int *ids, size_t n, size_t count,
                                    int stop, float temp, size_t k, float p, llm_rng *rng) {
    d->cache.length[0] = d->seen = 0;
    for (size_t i = 0; i < count; i++) {
        ids[n + i] = llm_gpt2_decode_next(d, ids, n + i, temp, k, p, rng);
        if (ids[n + i] == stop) return i + 1;
    }
    return count;
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
 * DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
 * OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
 */
#endif

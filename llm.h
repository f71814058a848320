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
    }
    return false;
}

/* @arena ---------------------------------------------------- Scratch memory
 *
 * source  -
 * needs   base
 * topics  -
 */

/* A stack of scratch memory. llm_arena_floats returns uninitialised floats; going back to a mark
 * (arena->used) frees everything taken since. */
typedef struct {
    unsigned char *memory;
    size_t size, used;
} llm_arena;

LLM_API void *llm_arena_take(llm_arena *arena, size_t count, size_t size) {
    LLM_ASSERT(size == 0 || count <= ((size_t)-1 - 63) / size);
    const size_t bytes = (count * size + 63) / 64 * 64;
    LLM_ASSERT(bytes <= arena->size - arena->used);
    void *p = arena->memory + arena->used;
    arena->used += bytes;
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

/* @08-recurrent =============================== RECURRENT, MEMORY, GRAPH AND CONTINUOUS NETWORKS */

/* @09-theory ================================================ LEARNING THEORY */

/* @10-text ================================================== TEXT, COUNTS AND EMBEDDINGS */

/* @11-token ================================================= TOKENIZATION */

/* @12-attn ================================================== ATTENTION AND POSITION */

/* @13-transformer =========================================== TRANSFORMERS AND LANGUAGE MODELS */

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

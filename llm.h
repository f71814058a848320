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

/* @11-token ================================================= TOKENIZATION */

/* @12-attn ================================================== ATTENTION AND POSITION */

/* @causal_attn ---------------------------------------------- Causal self-attention
 *
 *     s_ij = q_i.k_j / sqrt(D)        j <= i
 *     o_i  = sum_j softmax_j(s_ij) v_j
 *
 * source  -
 * needs   -
 * topics  -
 */

/* out (B,T,C), att (B,H,T,T) <- qkv (B,T,3C): queries, keys and values of H heads of C/H dimensions
 * side by side, as GPT-2 projects them. att keeps the weights; above the diagonal it is not written. */
LLM_API void llm_causal_attn_forward(float *out, float *att, const float *qkv, size_t B, size_t T,
                                     size_t C, size_t H) {
    LLM_ASSERT(H > 0 && C % H == 0);
    const size_t D = C / H;
    const float scale = 1.0f / sqrtf((float)D);
    LLM_PARALLEL_FOR
    for (size_t bh = 0; bh < B * H; bh++) {
        const float *q = qkv + bh / H * T * 3 * C + bh % H * D, *k = q + C, *v = k + C;
        for (size_t i = 0; i < T; i++) {
            float *p = att + (bh * T + i) * T, *o = out + (bh / H * T + i) * C + bh % H * D;
            float max = -INFINITY, sum = 0.0f;
            for (size_t j = 0; j <= i; j++) {
                float s = 0.0f;
                for (size_t d = 0; d < D; d++) s += q[i * 3 * C + d] * k[j * 3 * C + d];
                p[j] = s * scale;
                max = p[j] > max ? p[j] : max;
            }
            for (size_t j = 0; j <= i; j++) {
                p[j] = expf(p[j] - max);
                sum += p[j];
            }
            for (size_t d = 0; d < D; d++) o[d] = 0.0f;
            for (size_t j = 0; j <= i; j++) {
                p[j] /= sum;
                for (size_t d = 0; d < D; d++) o[d] += p[j] * v[j * 3 * C + d];
            }
        }
    }
}

/* dqkv (B,T,3C) += <- dout (B,T,C) and forward's att, qkv. Scratch: B H T floats, given back. */
LLM_API void llm_causal_attn_backward(float *dqkv, const float *dout, const float *att,
                                      const float *qkv, size_t B, size_t T, size_t C, size_t H,
                                      llm_arena *arena) {
    LLM_ASSERT(H > 0 && C % H == 0);
    const size_t D = C / H, mark = arena->used;
    const float scale = 1.0f / sqrtf((float)D);
    float *scratch = llm_arena_floats(arena, B * H * T);
    LLM_PARALLEL_FOR
    for (size_t bh = 0; bh < B * H; bh++) {
        const size_t at = bh / H * T * 3 * C + bh % H * D;
        const float *q = qkv + at, *k = q + C, *v = k + C;
        float *dq = dqkv + at, *dk = dq + C, *dv = dk + C, *ds = scratch + bh * T;
        for (size_t i = 0; i < T; i++) {
            const float *p = att + (bh * T + i) * T;
            const float *g = dout + (bh / H * T + i) * C + bh % H * D;
            float along = 0.0f;
            for (size_t j = 0; j <= i; j++) {
                ds[j] = 0.0f;
                for (size_t d = 0; d < D; d++) {
                    ds[j] += g[d] * v[j * 3 * C + d];
                    dv[j * 3 * C + d] += p[j] * g[d];
                }
                along += p[j] * ds[j];
            }
            for (size_t j = 0; j <= i; j++) {
                const float d_score = p[j] * (ds[j] - along) * scale;
                for (size_t d = 0; d < D; d++) {
                    dq[i * 3 * C + d] += d_score * k[j * 3 * C + d];
                    dk[j * 3 * C + d] += d_score * q[i * 3 * C + d];
                }
            }
        }
    }
    arena->used = mark;
}

/* @rope ----------------------------------------------------- Rotary position embedding
 *
 *     (y_a, y_b) = (x_a cos - x_b sin, x_b cos + x_a sin)     angle = pos * inv_freq_i
 *
 * source  -
 * needs   -
 * topics  -
 */

/* Which two dimensions form pair i: halves (i, i + rot/2), as NeoX and transformers' Llama, or
 * neighbours (2i, 2i + 1), as the paper, GPT-J and Meta's Llama. */
typedef enum { LLM_ROPE_HALVES, LLM_ROPE_NEIGHBOURS } llm_rope_pairing;

/* inv_freq (rot/2) = theta^(-2i/rot). */
LLM_API void llm_rope_inv_freq(float *inv_freq, size_t rot, float theta) {
    LLM_ASSERT(rot % 2 == 0);
    for (size_t i = 0; i < rot / 2; i++) {
        inv_freq[i] = (float)pow((double)theta, -2.0 * (double)i / (double)rot);
    }
}

/* y (B,H,T,D) <- x (B,H,T,D), pos (B,T) or NULL for 0..T-1 in every row, inv_freq (rot/2): rotates
 * the first rot of the D dimensions, the others pass. y may be x. An array (B,T,H,D) is one with
 * B T rows of T = 1. */
LLM_API void llm_rope_forward(float *y, const float *x, const int *pos, const float *inv_freq,
                              size_t B, size_t H, size_t T, size_t D, size_t rot,
                              llm_rope_pairing pairing) {
    LLM_ASSERT(rot % 2 == 0 && rot <= D);
    const size_t far = pairing == LLM_ROPE_HALVES ? rot / 2 : 1;
    const size_t step = pairing == LLM_ROPE_HALVES ? 1 : 2;
    for (size_t bt = 0; bt < B * T; bt++) {
        const double position = pos ? (double)pos[bt] : (double)(bt % T);
        for (size_t i = 0; i < rot / 2; i++) {
            const float c = (float)cos(position * (double)inv_freq[i]);
            const float s = (float)sin(position * (double)inv_freq[i]);
            for (size_t h = 0; h < H; h++) {
                const size_t a = ((bt / T * H + h) * T + bt % T) * D + step * i, b = a + far;
                const float xa = x[a], xb = x[b];
                y[a] = xa * c - xb * s;
                y[b] = xb * c + xa * s;
            }
        }
        for (size_t h = 0; h < H; h++) {
            for (size_t d = rot; d < D; d++) {
                const size_t a = ((bt / T * H + h) * T + bt % T) * D + d;
                y[a] = x[a];
            }
        }
    }
}

/* dx (B,H,T,D) += <- dy (B,H,T,D): the rotation by -angle. dx may not be dy. */
LLM_API void llm_rope_backward(float *dx, const float *dy, const int *pos, const float *inv_freq,
                               size_t B, size_t H, size_t T, size_t D, size_t rot,
                               llm_rope_pairing pairing) {
    LLM_ASSERT(rot % 2 == 0 && rot <= D);
    const size_t far = pairing == LLM_ROPE_HALVES ? rot / 2 : 1;
    const size_t step = pairing == LLM_ROPE_HALVES ? 1 : 2;
    for (size_t bt = 0; bt < B * T; bt++) {
        const double position = pos ? (double)pos[bt] : (double)(bt % T);
        for (size_t i = 0; i < rot / 2; i++) {
            const float c = (float)cos(position * (double)inv_freq[i]);
            const float s = (float)sin(position * (double)inv_freq[i]);
            for (size_t h = 0; h < H; h++) {
                const size_t a = ((bt / T * H + h) * T + bt % T) * D + step * i, b = a + far;
                dx[a] += dy[a] * c + dy[b] * s;
                dx[b] += dy[b] * c - dy[a] * s;
            }
        }
        for (size_t h = 0; h < H; h++) {
            for (size_t d = rot; d < D; d++) {
                const size_t a = ((bt / T * H + h) * T + bt % T) * D + d;
                dx[a] += dy[a];
            }
        }
    }
}

/* @13-transformer =========================================== TRANSFORMERS AND LANGUAGE MODELS */

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

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
    const float two_a = llm_exp_float((half - 1) << 23), two_b = llm_exp_float((n - half - 1) << 23);
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
        w[i] = (1.0f - c->lr * c->weight_decay) * w[i] - step * m[i] / (sqrtf(v[i]) * scale + c->eps);
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

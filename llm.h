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

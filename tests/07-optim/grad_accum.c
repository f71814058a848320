/* @grad_accum */
#include "../test.h"

#include "../../llm.h"

/* Mean loss and its gradient dw (V,C) of rows [from, to) of a linear softmax model; NaN, as torch
 * gives it, when no row is kept. *kept gets their number. With p > 0 the inputs are dropped out, by
 * their place in the whole batch. */
static float accum_micro(float *dw, size_t *kept, const float *x, const float *w, const int *y,
                         size_t from, size_t to, size_t C, size_t V, float p) {
    const size_t N = to - from;
    float *in = floats(N * C), *z = floats(N * V), *loss = floats(N), *lse = floats(N);
    float *dz = zeros(N * V), sum = 0.0f;
    llm_dropout_forward(in, x + from * C, N * C, p, 5, from * C);
    llm_matmul_forward(z, in, w, NULL, N, C, V);
    *kept = llm_cross_entropy_forward(loss, lse, z, y + from, N, V);
    for (size_t n = 0; n < N; n++) sum += loss[n];
    for (size_t i = 0; i < V * C; i++) dw[i] = *kept ? 0.0f : NAN;
    if (*kept == 0) return NAN;
    llm_cross_entropy_backward(dz, z, lse, y + from, N, V, 1.0f / (float)*kept);
    llm_matmul_backward(NULL, dw, NULL, dz, in, w, N, C, V);
    return sum / (float)*kept;
}

/* The gradient in sum (V,C) by micro-batches of `rows`; by_targets false weighs each with 1. */
static float accum_all(float *sum, const float *x, const float *w, const int *y, size_t N, size_t C,
                       size_t V, size_t rows, float p, bool by_targets) {
    llm_grad_accum a;
    float *dw = floats(V * C);
    llm_grad_accum_begin(&a, sum, V * C);
    for (size_t from = 0; from < N; from += rows) {
        size_t kept = 0;
        const size_t to = from + rows < N ? from + rows : N; /* the last one may be shorter */
        const float loss = accum_micro(dw, &kept, x, w, y, from, to, C, V, p);
        llm_grad_accum_add(&a, dw, loss, by_targets || kept == 0 ? kept : 1);
    }
    return llm_grad_accum_finish(&a);
}

TEST(grad_accum, "micro-batches of every size give torch's gradient of the whole batch") {
    const size_t shapes[3][3] = {{6, 3, 5}, {12, 4, 7}, {9, 1, 2}}; /* (N, C, V) */
    for (size_t s = 0; s < 3; s++) {
        const size_t N = shapes[s][0], C = shapes[s][1], V = shapes[s][2];
        const float *x = golden("%zu/x", N), *w = golden("%zu/w", N);
        const int *y = as_ints(golden("%zu/y", N), N);
        for (size_t rows = 1; rows <= N; rows++) {
            float *dw = floats(V * C), loss[1];
            loss[0] = accum_all(dw, x, w, y, N, C, V, rows, 0.0f, true);
            CHECK_GOLDEN(loss, 1, 1e-6f, "%zu/loss", N);
            CHECK_GOLDEN(dw, V * C, 1e-6f, "%zu/dw", N);
        }
    }
}

TEST(grad_accum, "the mean of the means is another gradient when rows are padded") {
    const float *x = golden("12/x"), *w = golden("12/w"), *want = golden("12/dw");
    const int *y = as_ints(golden("12/y"), 12);
    float dw[28];
    accum_all(dw, x, w, y, 12, 4, 7, 5, 0.0f, false);
    double off = 0.0;
    for (size_t i = 0; i < 28; i++) off += fabs((double)dw[i] - (double)want[i]);
    for (size_t i = 0; i < 28; i++) off -= 0.01 * fabs((double)want[i]);
    CHECK(off > 0.0); /* by more than 1% */
}

TEST(grad_accum, "with masks keyed to the place in the batch, dropout does not notice the cut") {
    const float *x = golden("12/x"), *w = golden("12/w");
    const int *y = as_ints(golden("12/y"), 12);
    float whole[28], parts[28], none[28];
    accum_all(whole, x, w, y, 12, 4, 7, 12, 0.4f, true);
    accum_all(parts, x, w, y, 12, 4, 7, 3, 0.4f, true);
    accum_all(none, x, w, y, 12, 4, 7, 12, 0.0f, true);
    CHECK_ALL_NEAR(parts, whole, 28, 1e-6f);
    double off = 0.0;
    for (size_t i = 0; i < 28; i++) off += fabs((double)none[i] - (double)whole[i]);
    CHECK(off > 1e-2);
}

TEST(grad_accum, "nothing kept is a gradient of zero; an empty micro-batch is not read") {
    llm_grad_accum a;
    float sum[2] = {NAN, NAN};
    const float nan[2] = {NAN, NAN}, g[2] = {1.0f, -2.0f};
    llm_grad_accum_begin(&a, sum, 2);
    llm_grad_accum_add(&a, nan, NAN, 0);
    CHECK(llm_grad_accum_finish(&a) == 0.0f && sum[0] == 0.0f && sum[1] == 0.0f);
    llm_grad_accum_begin(&a, sum, 2);
    llm_grad_accum_add(&a, g, 3.0f, 4);
    llm_grad_accum_add(&a, nan, NAN, 0);
    llm_grad_accum_add(&a, g, 1.0f, 4);
    CHECK(llm_grad_accum_finish(&a) == 2.0f && sum[0] == 1.0f && sum[1] == -2.0f);
    CHECK(a.weight == 8.0);
}

/* The bf16 nearest to x, ties to even. */
static float accum_bf16(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    bits = (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000u;
    memcpy(&x, &bits, 4);
    return x;
}

TEST(grad_accum, "512 equal gradients: exact in float, a sum kept in bf16 stops at 256") {
    llm_grad_accum a;
    float sum[1], in_bf16 = 0.0f;
    const float g[1] = {1.0f / 1024.0f};
    llm_grad_accum_begin(&a, sum, 1);
    for (size_t k = 0; k < 512; k++) {
        llm_grad_accum_add(&a, g, 0.0f, 1);
        in_bf16 = accum_bf16(in_bf16 + g[0]);
    }
    CHECK(a.sum[0] == 0.5f && in_bf16 == 0.25f);
}

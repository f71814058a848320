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

TEST(grad_accum, "two machines that meet once a step have torch's gradient of the whole batch") {
    const float *x = golden("12/x"), *w = golden("12/w");
    const int *y = as_ints(golden("12/y"), 12);
    llm_grad_accum a[2];
    float sum[2][28], dw[28], loss[1];
    size_t steps = 0;
    for (size_t m = 0; m < 2; m++) llm_grad_accum_begin(a + m, sum[m], 28);
    for (size_t k = 0; k < 3; k++) { /* one has 3 rows of each 4, the other one row */
        size_t kept = 0;
        float part = accum_micro(dw, &kept, x, w, y, 4 * k, 4 * k + 3, 4, 7, 0.0f);
        llm_grad_accum_add(a, dw, part, kept);
        part = accum_micro(dw, &kept, x, w, y, 4 * k + 3, 4 * k + 4, 4, 7, 0.0f);
        llm_grad_accum_add(a + 1, dw, part, kept);
        if (!llm_grad_accum_boundary(k, 5, 3)) continue;
        llm_grad_accum_merge(a, a + 1);
        loss[0] = llm_grad_accum_finish(a);
        steps++;
    }
    CHECK(steps == 1);
    CHECK_GOLDEN(loss, 1, 1e-6f, "12/loss");
    CHECK_GOLDEN(sum[0], 28, 1e-6f, "12/dw");
    a[1].n = 27;
    CHECK_ASSERTS(llm_grad_accum_merge(a, a + 1));
}

TEST(grad_accum, "a step after every full batch, and one after the rest") {
    for (size_t every = 1; every <= 5; every++)
        for (size_t count = 1; count <= 11; count++) {
            size_t steps = 0, waiting = 0;
            for (size_t k = 0; k < count; k++) {
                waiting++;
                if (!llm_grad_accum_boundary(k, every, count)) continue;
                CHECK(waiting == every || (k + 1 == count && waiting < every));
                steps++, waiting = 0;
            }
            CHECK(waiting == 0 && steps == (count + every - 1) / every);
        }
    CHECK_ASSERTS(llm_grad_accum_boundary(0, 0, 1));
    CHECK_ASSERTS(llm_grad_accum_boundary(1, 1, 1));
}

/* dw (V,C), the gradient of sum_n <t_n, norm(x_n w^T)> / N by micro-batches of `rows`: the norm
 * over the batch, or over each row. */
static void accum_norm(float *dw, const float *x, const float *w, const float *t, size_t N,
                       size_t C, size_t V, size_t rows, bool over_batch) {
    float *z = floats(N * V), *y = floats(N * V), *mean = floats(N + V), *rstd = floats(N + V);
    float *part = floats(V * C), *dz = floats(N * V), *running = zeros(2 * V);
    llm_batchnorm layer = {NULL, NULL, running, running + V, V, 0.1f, 1e-5f};
    llm_arena arena;
    memset(&arena, 0, sizeof arena);
    arena.size = 4096, arena.memory = (unsigned char *)test_memory(4096, 1);
    llm_grad_accum a;
    llm_grad_accum_begin(&a, dw, V * C);
    for (size_t from = 0; from < N; from += rows) {
        llm_matmul_forward(z, x + from * C, w, NULL, rows, C, V);
        memset(dz, 0, rows * V * sizeof(float)), memset(part, 0, V * C * sizeof(float));
        if (over_batch) {
            llm_batchnorm_forward_train(y, mean, rstd, z, &layer, rows, 1);
            llm_batchnorm_backward(dz, NULL, NULL, t + from * V, z, mean, rstd, &layer, rows, 1,
                                   true, &arena);
        } else {
            llm_layernorm_forward(y, mean, rstd, z, NULL, NULL, rows, V, 1e-5f);
            llm_layernorm_backward(dz, NULL, NULL, t + from * V, z, NULL, mean, rstd, rows, V);
        }
        for (size_t i = 0; i < rows * V; i++) dz[i] /= (float)rows;
        llm_matmul_backward(NULL, part, NULL, dz, x + from * C, w, rows, C, V);
        llm_grad_accum_add(&a, part, 0.0f, rows);
    }
    llm_grad_accum_finish(&a);
}

TEST(grad_accum, "what normalizes each row survives the cut, what looks at the batch does not") {
    enum { N = 12, C = 4, V = 5 };
    float x[N * C], w[V * C], t[N * V], whole[V * C], cut[V * C];
    double least = 1e9;
    for (uint64_t seed = 1; seed <= 8; seed++) {
        llm_rng rng = llm_rng_seed(seed);
        llm_rng_normal_fill(&rng, x, N * C);
        llm_rng_normal_fill(&rng, w, V * C);
        llm_rng_normal_fill(&rng, t, N * V);
        accum_norm(whole, x, w, t, N, C, V, N, false);
        accum_norm(cut, x, w, t, N, C, V, 3, false);
        CHECK_ALL_NEAR(cut, whole, V * C, 2e-6f);
        accum_norm(whole, x, w, t, N, C, V, N, true);
        accum_norm(cut, x, w, t, N, C, V, 3, true);
        double off = 0.0, size = 0.0;
        for (size_t i = 0; i < V * C; i++) {
            off += pow((double)cut[i] - (double)whole[i], 2.0);
            size += (double)whole[i] * (double)whole[i];
        }
        least = fmin(least, sqrt(off / size));
    }
    CHECK(least > 0.16); /* the least of eight; over 8 further sets 0.32 to 0.91 */
}

/* @qkv */
#include "../test.h"

#include "../../llm_cuda.cuh"

static float *qkv_normal(uint64_t seed, size_t n) {
    float *x = floats(n);
    llm_rng rng = llm_rng_seed(seed);
    llm_rng_normal_fill(&rng, x, n);
    return x;
}
static llm_qkv_config qkv_shape(size_t B, size_t T, size_t C, size_t H, size_t Hkv, size_t D) {
    llm_qkv_config c = llm_qkv_defaults(B, T, H, H);
    c.C = C, c.Hkv = Hkv, c.D = D;
    return c;
}

template <typename T> static void check_qkv(const llm_qkv_config *c, bool bias) {
    const size_t rows = c->B * c->T, C = c->C, D = c->D, O = (c->H + 2 * c->Hkv) * D;
    const size_t nq = rows * c->H * D, nk = rows * c->Hkv * D, n = rows * O;
    float *x = qkv_normal(1, rows * C), *w = qkv_normal(2, O * C), *b = qkv_normal(3, O);
    float *q_norm = qkv_normal(4, D), *k_norm = qkv_normal(5, D), *got = floats(n + O * C);
    float *part[3] = {floats(nq), floats(nk), floats(nk)}, *normed = floats(nq);
    T *d_part[3] = {to_device<T>(NULL, nq), to_device<T>(NULL, nk), to_device<T>(NULL, nk)};
    const T *d_x = to_device_as<T>(x, rows * C), *d_w = to_device_as<T>(w, O * C);
    const T *d_b = to_device_as<T>(b, O), *d_q_norm = to_device_as<T>(q_norm, D);
    const T *d_k_norm = to_device_as<T>(k_norm, D);
    const size_t size[3] = {nq, nk, nk};
    llm_arena arena;
    CHECK(llm_arena_create(&arena, n * sizeof(float) + 64));
    llm_qkv_forward(part[0], part[1], part[2], x, w, bias ? b : NULL, c, &arena);
    CHECK_CUDA(
        llm_cuda_qkv_forward(d_part[0], d_part[1], d_part[2], d_x, d_w, bias ? d_b : NULL, c, 0));
    for (size_t p = 0; p < 3; p++) /* sums of C products, in another order */
        CHECK_STORED(T, from_device_as(got, d_part[p], size[p]), part[p], size[p], 2e-5f);
    if (D > 1) { /* the norm of one number is its sign */
        CHECK_CUDA(llm_cuda_qkv_norm(d_part[0], d_part[1], d_part[2], d_x, d_w, bias ? d_b : NULL,
                                     d_q_norm, d_k_norm, 1e-6f, c, 0));
        for (size_t p = 0; p < 3; p++) {
            const float *want = part[p], *norm = p == 0 ? q_norm : k_norm;
            from_device_as(got, d_part[p], size[p]);
            if (p < 2) llm_rmsnorm_forward(normed, NULL, part[p], norm, size[p] / D, D, 1e-6f);
            if (p < 2) want = normed;
            /* not fused, bfloat16 rounds twice: before and after the norm */
            for (size_t i = 0; i < size[p]; i++)
                CHECK_NEAR(got[i], want[i],
                           2e-5f + 2.0f * unit_of<T>() * (2.0f * fabsf(want[i]) + 0.02f));
        }
    }

    /* backward, gradients where q, k and v stood */
    float *dx = qkv_normal(6, rows * C), *dw = qkv_normal(7, O * C), *db = qkv_normal(8, O);
    for (size_t p = 0; p < 3; p++) {
        part[p] = qkv_normal(9 + p, size[p]);
        d_part[p] = to_device_as<T>(part[p], size[p]);
    }
    T *d_dx = to_device_as<T>(dx, rows * C), *d_rows = to_device<T>(NULL, n);
    float *d_dw = to_device(dw, O * C), *d_db = to_device(db, O);
    llm_qkv_backward(dx, dw, db, part[0], part[1], part[2], x, w, c, &arena);
    llm_arena_destroy(&arena);
    CHECK(llm_cuda_dense_slices(rows, C, O) == 1);
    CHECK_CUDA(llm_cuda_qkv_backward(d_dx, d_dw, d_db, d_part[0], d_part[1], d_part[2], d_x, d_w, c,
                                     d_rows, (float *)NULL, 0));
    CHECK_STORED(T, from_device_as(got, d_dx, rows * C), dx, rows * C, 4e-5f);
    CHECK_ALL_NEAR(from_device(got, d_dw, O * C), dw, O * C, 2e-5f);
    CHECK_ALL_NEAR(from_device(got, d_db, O), db, O, 2e-5f);
}

TEST(qkv,
     "products, split and norm equal llm_qkv and llm_rmsnorm; every head size, both storages") {
    const size_t shapes[8][6] = {/* B, T, C, H, Hkv, D */
                                 {1, 1, 1, 1, 1, 1},   {2, 3, 8, 3, 1, 8},   {1, 5, 24, 2, 2, 12},
                                 {2, 2, 16, 3, 2, 16}, {1, 3, 40, 2, 1, 64}, {1, 7, 16, 2, 1, 128},
                                 {1, 2, 8, 9, 3, 32},  {2, 2, 20, 2, 1, 20}};
    for (size_t s = 0; s < (TEST_SLOW ? 3 : 8); s++) {
        const size_t *z = shapes[s];
        const llm_qkv_config c = qkv_shape(z[0], z[1], z[2], z[3], z[4], z[5]);
        check_qkv<float>(&c, s % 2);
        check_qkv<llm_bf16>(&c, s % 2 == 0);
    }
}

TEST(qkv, "where the epilogue normalises; heads alone; nothing to do") {
    const llm_bf16 *p = (const llm_bf16 *)(uintptr_t)0x1000;
    const float *f = (const float *)(uintptr_t)0x1000;
    llm_qkv_config c = qkv_shape(1, 1, 16, 2, 1, 64);
    CHECK(llm_cuda_qkv_fused(p, p, &c) && !llm_cuda_qkv_fused(f, f, &c));
    CHECK(!llm_cuda_qkv_fused(p + 1, p, &c) && !llm_cuda_qkv_fused(p, p + 1, &c));
    c.D = 96;
    CHECK(!llm_cuda_qkv_fused(p, p, &c)); /* heads would lie across two tiles */
    c = qkv_shape(2, 3, 1, 2, 0, 4);
    float *q = qkv_normal(1, 48), *rows = floats(48);
    float *d_rows = to_device<float>(NULL, 48), *none = NULL;
    CHECK_CUDA(llm_cuda_qkv_merge(d_rows, to_device(q, 48), none, none, &c, 0));
    from_device(rows, d_rows, 48);
    for (size_t i = 0; i < 48; i++) { /* (b,t,h,d) <- (b,h,t,d) */
        const size_t d = i % 4, h = i / 4 % 2, t = i / 8 % 3, b = i / 24;
        CHECK(rows[i] == q[((b * 2 + h) * 3 + t) * 4 + d]);
    }
    c.B = 0;
    CHECK_CUDA(llm_cuda_qkv_merge(d_rows, d_rows, none, none, &c, 0));
    CHECK_CUDA(llm_cuda_qkv_forward(d_rows, d_rows, d_rows, d_rows, d_rows, none, &c, 0));
}

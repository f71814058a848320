/* @flash_mask */
#include "../test.h"

#include "../../llm_cuda.cuh"
#include "../tiny_mask.h"

static float *flash_mask_normal(uint64_t seed, size_t n) {
    float *x = floats(n);
    llm_rng rng = llm_rng_seed(seed);
    llm_rng_normal_fill(&rng, x, n);
    return x;
}

/* Masked attention in doubles, and its gradients added to dq, dk, dv. */
static void flash_mask_plain(double *out, double *lse, double *dq, double *dk, double *dv,
                             const float *q, const float *k, const float *v, const float *g,
                             const llm_attn_mask *m, const llm_flash_config *c) {
    double *p = doubles(c->S);
    const size_t D = c->D;
    for (size_t row = 0; row < c->B * c->H * c->T; row++) {
        const size_t kv = row / c->T / (c->H / c->Hkv) * c->S * D, i = row % c->T;
        double sum = 0.0, along = 0.0;
        for (size_t j = 0; j < c->S; j++) {
            double s = 0.0;
            for (size_t d = 0; d < D; d++) s += (double)q[row * D + d] * (double)k[kv + j * D + d];
            p[j] = llm_attn_mask_allowed(m, i, j) ? exp((double)c->scale * s) : 0.0;
            sum += p[j];
        }
        lse[row] = log(sum);
        for (size_t d = 0; d < D; d++) out[row * D + d] = 0.0;
        for (size_t n = 0; n < c->S * D && sum > 0.0; n++) {
            const double w = p[n / D] / sum;
            out[row * D + n % D] += w * (double)v[kv + n];
            dv[kv + n] += w * (double)g[row * D + n % D];
        }
        for (size_t d = 0; d < D; d++) along += (double)g[row * D + d] * out[row * D + d];
        for (size_t j = 0; j < c->S && sum > 0.0; j++) {
            double dp = 0.0;
            for (size_t d = 0; d < D; d++) dp += (double)g[row * D + d] * (double)v[kv + j * D + d];
            const double ds = (double)c->scale * p[j] / sum * (dp - along);
            for (size_t d = 0; d < D; d++) {
                dq[row * D + d] += ds * (double)k[kv + j * D + d];
                dk[kv + j * D + d] += ds * (double)q[row * D + d];
            }
        }
    }
}

template <typename T>
static void check_flash_mask(size_t which, const llm_flash_config *c, size_t first, bool count) {
    const size_t n = c->S + c->T + first, rows = (c->T + 63) / 64, columns = (c->S + 63) / 64;
    const size_t nq = c->B * c->H * c->T * c->D, nk = c->B * c->Hkv * c->S * c->D;
    const size_t heads = c->B * c->H * c->T, lines = rows > columns ? rows : columns;
    size_t *document = (size_t *)test_memory(n, sizeof(size_t));
    bool *present = bools(n);
    tiny_mask_arrays(document, present, n);
    llm_attn_mask host_part[TINY_MASK_PARTS], device_part[TINY_MASK_PARTS];
    const llm_attn_mask host = tiny_mask(host_part, which, first, document, present);
    const llm_attn_mask device =
        tiny_mask(device_part, which, first, to_device(document, n), to_device(present, n));
    llm_cuda_attn_mask_list list[2];
    for (int turned = 0; turned < 2; turned++) {
        list[turned].first = to_device<size_t>(NULL, lines + 1);
        list[turned].column = to_device<size_t>(NULL, rows * columns);
        list[turned].full = to_device<bool>(NULL, rows * columns);
    }
    CHECK_CUDA(llm_cuda_attn_mask_blocks(&list[0], &list[1], &device, c->T, c->S,
                                         to_device<uint8_t>(NULL, rows * columns),
                                         to_device<size_t>(NULL, lines), 0));
    llm_cuda_flash_mask_rule rule;
    CHECK(llm_cuda_flash_mask_make(&rule, &device, &list[0], &list[1], c));

    float *q = flash_mask_normal(1, nq), *k = flash_mask_normal(2, nk), *got = floats(nq + nk);
    float *v = flash_mask_normal(3, nk), *g = flash_mask_normal(4, nq), *stored = floats(nq);
    const T *d_q = to_device_as<T>(q, nq), *d_k = to_device_as<T>(k, nk);
    const T *d_v = to_device_as<T>(v, nk), *d_g = to_device_as<T>(g, nq);
    T *d_out = to_device<T>(NULL, nq);
    float *d_lse = to_device<float>(NULL, heads);
    double *want = doubles(2 * nq + 2 * nk), *lse = doubles(heads), *dq = want + nq;
    for (size_t i = 0; i < 2 * nq + 2 * nk; i++) want[i] = 0.0;
    flash_mask_plain(want, lse, dq, dq + nq, dq + nq + nk, q, k, v, g, &host, c);
#ifndef __CUDACC__
    emulate_count();
#endif
    CHECK_CUDA(llm_cuda_flash_mask_forward(d_out, d_lse, d_q, d_k, d_v, &rule, 0));
#ifndef __CUDACC__
    if (count) { /* keys and values of the listed tiles, none of the others */
        size_t *ends = (size_t *)test_memory(rows + 1, sizeof(size_t)), keys = 0;
        llm_attn_mask_blocks(ends, NULL, NULL, &host, c->T, c->S, 64, 64);
        size_t *column = (size_t *)test_memory(ends[rows], sizeof(size_t));
        llm_attn_mask_blocks(ends, column, NULL, &host, c->T, c->S, 64, 64);
        for (size_t t = 0; t < ends[rows]; t++)
            keys += c->S - column[t] * 64 < 64 ? c->S - column[t] * 64 : 64;
        CHECK(emulate_counted.read == (nq + 2 * keys * c->B * c->H * c->D) * sizeof(T));
    }
#endif
    (void)count;
    for (size_t i = 0; i < nq; i++) stored[i] = (float)want[i];
    CHECK_STORED(T, from_device_as(got, d_out, nq), stored, nq, 3e-6f);
    from_device(got, d_lse, heads);
    for (size_t i = 0; i < heads; i++) {
        if (isinf(lse[i]))
            CHECK(got[i] == -INFINITY);
        else
            CHECK_NEAR(got[i], lse[i], 4e-6);
    }
    T *d_dq = to_device_as<T>(zeros(nq), nq), *d_dk = to_device_as<T>(zeros(nk), nk);
    T *d_dv = to_device_as<T>(zeros(nk), nk);
    const T *d_stored = d_out;
    CHECK_CUDA(llm_cuda_flash_mask_backward(d_dq, d_dk, d_dv, d_g, d_stored, d_lse, d_q, d_k, d_v,
                                            &rule, to_device<float>(NULL, heads), 0));
    /* bfloat16: out was rounded before rowsum(dO * O) was taken. Seen: 0.0006 */
    const float tol = sizeof(T) == 2 ? 0.002f : 0.0f;
    for (size_t part = 0; part < 3; part++) {
        const size_t size = part == 0 ? nq : nk;
        const double *w = part == 0 ? dq : part == 1 ? dq + nq : dq + nq + nk;
        const T *d = part == 0 ? d_dq : part == 1 ? d_dk : d_dv;
        float *exact = floats(size);
        for (size_t i = 0; i < size; i++) exact[i] = (float)w[i];
        CHECK_STORED(T, from_device_as(got, d, size), exact, size, 1e-5f + tol);
    }
}

TEST(flash_mask, "attention under every rule equals the definition, only listed tiles are read") {
    llm_flash_config c = llm_flash_defaults(1, 2, 1, 150, 3);
    for (size_t which = 0; which < TINY_MASKS; which += 2) {
        if (TEST_SLOW && which != 8) continue;
        check_flash_mask<float>(which, &c, 0, true);
    }
    if (TEST_SLOW) return;
    c = llm_flash_defaults(2, 1, 1, 65, 5), c.S = 200;
    for (size_t which = 7; which < TINY_MASKS; which++)
        check_flash_mask<float>(which, &c, 135, true);
    check_flash_mask<llm_bf16>(8, &c, 135, true);
    c = llm_flash_defaults(1, 1, 1, 67, 66), c.S = 130; /* heads of more than 64 */
    check_flash_mask<float>(3, &c, 63, true);
}

TEST(flash_mask, "a rule of more than 16 parts is refused, nothing to do is nothing") {
    llm_attn_mask part[20];
    part[0] = llm_attn_mask_make(LLM_ATTN_MASK_CAUSAL, 0, 0);
    for (size_t n = 1; n < 20; n++)
        part[n] = llm_attn_mask_join(LLM_ATTN_MASK_OR, &part[n - 1], &part[0]);
    const llm_cuda_attn_mask_list none = {NULL, NULL, NULL};
    llm_flash_config c = llm_flash_defaults(0, 1, 1, 3, 4);
    llm_cuda_flash_mask_rule rule;
    CHECK(!llm_cuda_flash_mask_make(&rule, &part[19], &none, &none, &c));
    CHECK(llm_cuda_flash_mask_make(&rule, &part[0], &none, &none, &c));
    float *d = to_device<float>(NULL, 1);
    CHECK_CUDA(llm_cuda_flash_mask_forward(d, d, d, d, d, &rule, 0));
    CHECK_CUDA(llm_cuda_flash_mask_backward(d, d, d, d, d, d, d, d, d, &rule, d, 0));
}

/* @sam */
#include "../test.h"

#include "../../llm_cuda.cuh"

enum { SAM_TENSORS = 50 }; /* more than one launch takes */

static size_t sam_size(size_t i) {
    const size_t sizes[6] = {67, 0, 4099, 1, 3, 64};
    return i < 6 ? sizes[i] : 1 + i % 5;
}

/* Up and back on `count` tensors, which are one vector to the reference. */
static void check_sam(size_t count, bool adaptive, size_t offset, float scale) {
    llm_cuda_sam_tensor tensor[SAM_TENSORS];
    llm_rng rng = llm_rng_seed(count);
    llm_sam_config c = llm_sam_defaults();
    c.adaptive = adaptive, c.rho = 0.3f, c.eta = 0.05f;
    size_t n = 0, at = 0;
    for (size_t i = 0; i < count; i++) n += sam_size(i);
    float *w = floats(n), *g = floats(n), *saved = floats(n), *got = floats(n), norm_scale[2];
    llm_rng_normal_fill(&rng, w, n);
    llm_rng_normal_fill(&rng, g, n);
    for (size_t i = 0; i < n; i++) g[i] *= scale;
    for (size_t i = 0; i < count; at += sam_size(i++)) {
        const size_t size = sam_size(i);
        tensor[i].w = to_device<float>(NULL, size + offset) + offset;
        if (size)
            CHECK_CUDA(
                cudaMemcpy(tensor[i].w, w + at, size * sizeof(float), cudaMemcpyHostToDevice));
        tensor[i].saved = to_device<float>(NULL, size), tensor[i].g = to_device(g + at, size);
        tensor[i].n = size;
    }
    float *d_norm = to_device<float>(NULL, 2);
    double *scratch = to_device<double>(NULL, LLM_CUDA_SAM_BLOCKS);
    CHECK_CUDA(llm_cuda_sam_perturb(tensor, count, &c, d_norm, scratch, 0));
    const double norm = llm_sam_perturb(w, saved, g, n, &c);
    from_device(norm_scale, d_norm, 2);
    CHECK_NEAR(norm_scale[0], norm, 1e-6 * norm);
    CHECK_NEAR(norm_scale[1], 0.3 / norm, 1e-6 * 0.3 / norm);
    at = 0;
    for (size_t i = 0; i < count; at += sam_size(i++)) {
        const size_t size = sam_size(i);
        CHECK_ALL_NEAR(from_device(got, tensor[i].w, size), w + at, size, 1e-6f);
        CHECK_ALL_NEAR(from_device(got, tensor[i].saved, size), saved + at, size, 0.0f);
    }
    CHECK_CUDA(llm_cuda_sam_restore(tensor, count, 0));
    at = 0;
    for (size_t i = 0; i < count; at += sam_size(i++))
        CHECK_ALL_NEAR(from_device(got, tensor[i].w, sam_size(i)), saved + at, sam_size(i), 0.0f);
}

TEST(sam, "fifty tensors walk up as one vector of the reference, and come back to the bit") {
    check_sam(4, false, 0, 1.0f);
    if (TEST_SLOW) return;
    check_sam(SAM_TENSORS, false, 0, 1.0f);
    check_sam(SAM_TENSORS, true, 0, 1.0f);
    check_sam(5, true, 1, 1.0f);   /* off the alignment of vectors */
    check_sam(3, false, 0, 1e25f); /* a square that is no float */
}

TEST(sam, "no gradient, no walk; a NaN is undone; no tensors") {
    float w[3] = {1.0f, 2.0f, 3.0f}, g[3] = {0.0f, 0.0f, 0.0f}, got[3], norm_scale[2];
    const llm_sam_config c = llm_sam_defaults();
    llm_cuda_sam_tensor t = {to_device(w, 3), to_device<float>(NULL, 3), to_device(g, 3), 3};
    float *d_norm = to_device<float>(NULL, 2);
    double *scratch = to_device<double>(NULL, LLM_CUDA_SAM_BLOCKS);
    CHECK_CUDA(llm_cuda_sam_perturb(&t, (size_t)1, &c, d_norm, scratch, 0));
    CHECK_ALL_NEAR(from_device(got, t.w, 3), w, 3, 0.0f);
    CHECK(from_device(norm_scale, d_norm, 2)[0] == 0.0f);
    CHECK_NEAR(norm_scale[1], 5e10f, 1e4f); /* rho / 1e-12, and not below 0 */
    g[1] = NAN;
    t.g = to_device(g, 3);
    CHECK_CUDA(llm_cuda_sam_perturb(&t, (size_t)1, &c, d_norm, scratch, 0));
    CHECK(isnan(from_device(norm_scale, d_norm, 2)[0]));
    CHECK(isnan(from_device(got, t.w, 3)[0]));
    CHECK_CUDA(llm_cuda_sam_restore(&t, (size_t)1, 0));
    CHECK_ALL_NEAR(from_device(got, t.w, 3), w, 3, 0.0f);
    CHECK_CUDA(llm_cuda_sam_perturb(&t, (size_t)0, &c, d_norm, scratch, 0));
    CHECK_CUDA(llm_cuda_sam_restore(&t, (size_t)0, 0));
}

TEST(sam, "traffic: 20 bytes a weight up, adaptive 24, and 8 back") {
    enum { N = 8192 };
    float *x = zeros(N);
    for (size_t i = 0; i < N; i++) x[i] = 1.0f;
    llm_cuda_sam_tensor t = {to_device(x, N), to_device(x, N), to_device(x, N), N};
    float *d_norm = to_device<float>(NULL, 2);
    double *scratch = to_device<double>(NULL, LLM_CUDA_SAM_BLOCKS);
    for (int adaptive = 0; adaptive < 2; adaptive++) {
        llm_sam_config c = llm_sam_defaults();
        c.adaptive = adaptive;
#ifndef __CUDACC__
        emulate_count();
#endif
        CHECK_CUDA(llm_cuda_sam_perturb(&t, (size_t)1, &c, d_norm, scratch, 0));
#ifndef __CUDACC__
        const size_t moved = emulate_counted.read + emulate_counted.written;
        CHECK(moved / N == (adaptive ? 24 : 20));
        emulate_count();
#endif
        CHECK_CUDA(llm_cuda_sam_restore(&t, (size_t)1, 0));
#ifndef __CUDACC__
        CHECK((emulate_counted.read + emulate_counted.written) / N == 8);
#endif
    }
}

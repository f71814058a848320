/* @grad_clip */
#include "../test.h"

#include "../../llm_cuda.cuh"

enum { TENSORS = 150 }; /* more than one launch holds */

/* norm and factor of tensors of awkward sizes, filled with x * scale, max_norm beside the norm */
static void check_norm(size_t count, float scale, float share) {
    const float *d_g[TENSORS];
    size_t n[TENSORS], all = 0;
    double sum = 0.0;
    llm_rng rng = llm_rng_seed(count);
    for (size_t i = 0; i < count; i++) {
        n[i] = i == 2 ? 0 : i % 7 == 3 ? 5000 + i : 1 + 3 * i, all += n[i];
        float *g = floats(n[i]);
        for (size_t k = 0; k < n[i]; k++) {
            g[k] = scale * llm_rng_normal(&rng);
            sum += (double)g[k] * (double)g[k];
        }
        d_g[i] = to_device(g, n[i]);
    }
    const float norm = (float)sqrt(sum), max_norm = share * norm;
    float got[2], *d = to_device<float>(NULL, 2);
    double *scratch = to_device<double>(NULL, LLM_CUDA_GRAD_CLIP_BLOCKS);
#ifndef __CUDACC__
    emulate_count();
#endif
    CHECK_CUDA(llm_cuda_grad_clip_norm(d, d_g, n, count, max_norm, scratch, 0));
#ifndef __CUDACC__
    CHECK(emulate_counted.read == all * sizeof(float)); /* every gradient once */
#endif
    from_device(got, d, 2);
    CHECK_NEAR(got[0], norm, 1e-6 * norm); /* sums in double, one rounding */
    CHECK_NEAR(got[1], fmin(1.0, (double)max_norm / ((double)norm + 1e-6)), 2e-6);
}

TEST(grad_clip, "one norm over all tensors, and the factor min(1, max / (norm + 1e-6))") {
    check_norm(3, 1.0f, 0.5f);
    if (TEST_SLOW) return;
    check_norm(1, 1.0f, 2.0f);
    check_norm(TENSORS, 0.1f, 0.25f);
    check_norm(4, 1e25f, 1e-3f); /* the squares are no floats */
    check_norm(4, 1e-30f, 2.0f);
    check_norm(4, 0.0f, 1.0f);
    float got[2], *d = to_device<float>(NULL, 2);
    double *scratch = to_device<double>(NULL, LLM_CUDA_GRAD_CLIP_BLOCKS);
    CHECK_CUDA(llm_cuda_grad_clip_norm(d, NULL, NULL, 0, 1.0f, scratch, 0)); /* none at all */
    from_device(got, d, 2);
    CHECK(got[0] == 0.0f && got[1] == 1.0f);
}

TEST(grad_clip, "as many blocks as the largest tensor needs: sums of 1024 numbers, 1024 at most") {
    const size_t n[5] = {0, 1024, 1025, 5000, (size_t)1 << 30};
    const unsigned want[6] = {1, 1, 1, 2, 5, 1024};
    for (size_t i = 0; i < 6; i++) CHECK(llm_cuda_grad_clip_blocks(n, i) == want[i]);
    const size_t down[2] = {5000, 3};
    CHECK(llm_cuda_grad_clip_blocks(down, 2) == 5);
    if (TEST_SLOW) return;
    /* what lies behind the sums of the blocks, NaN, is not read; two runs agree */
    float *g = floats(40000), got[2][2];
    const size_t all = 40000; /* 40 blocks: more than a warp of them */
    double sum = 0.0;
    llm_rng rng = llm_rng_seed(9);
    for (size_t i = 0; i < all; i++) {
        g[i] = llm_rng_normal(&rng);
        sum += (double)g[i] * (double)g[i];
    }
    const float *d_g = to_device(g, all);
    for (size_t i = 0; i < 2; i++) {
        float *d = to_device<float>(NULL, 2);
        CHECK_CUDA(llm_cuda_grad_clip_norm(d, &d_g, &all, 1, 1.0f,
                                           to_device<double>(NULL, LLM_CUDA_GRAD_CLIP_BLOCKS), 0));
        from_device(got[i], d, 2);
    }
    CHECK_NEAR(got[0][0], sqrt(sum), 1e-6 * sqrt(sum));
    CHECK(got[0][0] == got[1][0] && got[0][1] == got[1][1]);
}

TEST(grad_clip, "a gradient that is not finite gives a factor that is not") {
    const float bad[2] = {NAN, INFINITY};
    for (size_t i = 0; i < 2; i++) {
        float g[40], got[2], *d = to_device<float>(NULL, 2);
        for (size_t k = 0; k < 40; k++) g[k] = 1.0f;
        g[37] = bad[i];
        const float *d_g = to_device(g, 40);
        const size_t n = 40;
        CHECK_CUDA(llm_cuda_grad_clip_norm(d, &d_g, &n, 1, 1.0f,
                                           to_device<double>(NULL, LLM_CUDA_GRAD_CLIP_BLOCKS), 0));
        from_device(got, d, 2);
        CHECK(!(got[0] < INFINITY) && isnan(got[1]));
    }
}

TEST(grad_clip, "scaled by the factor on the device, gradients are those of llm_grad_clip_norm") {
    const size_t n = 5003;
    float *g = floats(n), *got = floats(n), *d_norm = to_device<float>(NULL, 2);
    llm_rng rng = llm_rng_seed(5);
    llm_rng_normal_fill(&rng, g, n);
    float *d_g = to_device(g, n);
    const float *list = d_g;
    CHECK_CUDA(llm_cuda_grad_clip_norm(d_norm, &list, &n, 1, 1.0f,
                                       to_device<double>(NULL, LLM_CUDA_GRAD_CLIP_BLOCKS), 0));
    CHECK_CUDA(llm_cuda_grad_clip_scale(d_g, n, d_norm + 1, 0));
    const float norm = llm_grad_clip_norm(g, n, 1.0f);
    CHECK_ALL_CLOSE(from_device(got, d_g, n), g, n, 1e-6f);
    CHECK_NEAR(*from_device(got, d_norm, 1), norm, 1e-5);
    CHECK_CUDA(llm_cuda_grad_clip_scale(d_g, 0, d_norm + 1, 0));
}

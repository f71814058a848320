/* @mse */
#include "../test.h"

#include "../../llm_cuda.cuh"

/* many: more entries than threads, and run once only: a quarter of a million fibers take a
 * second */
static void check_mse(size_t n, bool weighted, bool masked, bool many) {
    llm_rng rng = llm_rng_seed(n + 1);
    float *p = floats(n), *t = floats(n), *w = floats(n), *before = floats(n), *want = floats(n);
    bool *mask = (bool *)test_memory(n, sizeof(bool));
    llm_rng_normal_fill(&rng, p, n);
    llm_rng_normal_fill(&rng, t, n);
    llm_rng_normal_fill(&rng, before, n);
    for (size_t i = 0; i < n; i++) {
        w[i] = 2.0f * llm_rng_uniform(&rng) + 0.1f;
        mask[i] = !masked || i % 3 != 1;
        if (!mask[i]) p[i] = t[i] = w[i] = NAN; /* must not be read */
    }
    const float scale = 1.5f, *weight = weighted ? w : NULL;
    const bool *rows = masked ? mask : NULL;
    double sum;
    const double kept = llm_mse_forward(&sum, want, p, t, weight, rows, n);
    float *dp = floats(n), *loss = floats(n), *got = floats(n), mean[2] = {0, 0};
    memcpy(dp, before, n * sizeof *dp);
    llm_mse_backward(dp, p, t, weight, rows, n, scale / (float)kept);

    float *d_p = to_device(p, n), *d_t = to_device(t, n), *d_dp = to_device(before, n);
    float *d_w = weighted ? to_device(w, n) : NULL, *d_loss = to_device<float>(NULL, n);
    float *d_mean = to_device<float>(NULL, 1), *none = NULL;
    bool *d_mask = masked ? to_device(mask, n) : NULL;
    double *scratch = to_device<double>(NULL, 2 * LLM_CUDA_MSE_BLOCKS);
    CHECK_CUDA(llm_cuda_mse(d_mean, d_loss, d_dp, d_p, d_t, d_w, d_mask, n, scale, scratch, 0));
    from_device(mean, d_mean, 1);
    /* three roundings in a term, up to 60 large; of the mean one in each residual and a last one */
    CHECK_ALL_NEAR(from_device(loss, d_loss, n), want, n, 1e-5f);
    CHECK_ALL_NEAR(from_device(got, d_dp, n), dp, n, 4e-6f);
    CHECK_NEAR(mean[0], sum / kept, 1e-6 * (1.0 + sum / kept));
    if (many) return;
    CHECK_CUDA(llm_cuda_mse(d_mean, none, none, d_p, d_t, d_w, d_mask, n, scale, scratch, 0));
    from_device(mean + 1, d_mean, 1);
    CHECK(mean[0] == mean[1]); /* the same bits again */
}

TEST(mse, "mean, terms and gradient equal the reference, with and without weights and mask") {
    const size_t sizes[5] = {1, 2, 3, 257, 1031};
    for (size_t s = 0; s < (TEST_SLOW ? 4 : 5); s++)
        for (int k = 0; k < 4; k++) check_mse(sizes[s], k % 2 == 1, k / 2 == 1, false);
}

TEST(mse, "more entries than threads") {
    if (!TEST_SLOW) check_mse(LLM_CUDA_MSE_BLOCKS * 256 + 77, true, true, true);
}

TEST(mse, "a mean of nothing is NaN and has no gradient") {
    const float p[3] = {1, 2, 3}, w[3] = {0, 0, 0};
    const bool mask[3] = {false, false, false};
    float *d_p = to_device(p, 3), *d_w = to_device(w, 3), *d_dp = to_device(p, 3), got[3];
    float *d_loss = to_device(p, 3), *d_mean = to_device(p, 1), *none = NULL;
    bool *d_mask = to_device(mask, 3), *no_mask = NULL;
    double *scratch = to_device<double>(NULL, 2 * LLM_CUDA_MSE_BLOCKS);
    for (int k = 0; k < 3; k++) {
        if (k < 2)
            CHECK_CUDA(llm_cuda_mse(d_mean, d_loss, d_dp, d_p, d_w, k ? d_w : none,
                                    k ? no_mask : d_mask, 3, 1.0f, scratch, 0));
        else
            CHECK_CUDA(
                llm_cuda_mse(d_mean, none, none, none, none, none, no_mask, 0, 1.0f, scratch, 0));
        CHECK(isnan(*from_device(got, d_mean, 1)));
        CHECK_ALL_NEAR(from_device(got, d_dp, 3), p, 3, 0.0f);
        CHECK_ALL_NEAR(from_device(got, d_loss, 3), w, 3, 0.0f); /* zeros */
    }
}

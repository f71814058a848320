/* @loss_function */
#include "../test.h"

#include "../../llm_cuda.cuh"

/* many: more entries than threads, and run once only: a quarter of a million fibers take a
 * second */
static void check_loss_function(llm_loss_function kind, float c, size_t n, bool weighted,
                                bool many) {
    llm_rng rng = llm_rng_seed(n + (size_t)kind);
    float *z = floats(n), *t = floats(n), *w = floats(n), *before = floats(n), *loss = floats(n);
    llm_rng_normal_fill(&rng, z, n);
    llm_rng_normal_fill(&rng, t, n);
    llm_rng_normal_fill(&rng, w, n);
    llm_rng_normal_fill(&rng, before, n);
    for (size_t i = 0; i < n; i++) {
        z[i] *= 2.0f;
        if (kind == LLM_LOSS_FUNCTION_POISSON) t[i] = floorf(fabsf(4.0f * t[i]));
        if (kind > LLM_LOSS_FUNCTION_POISSON) t[i] = t[i] > 0.0f ? 1.0f : -1.0f;
        if (i % 7 == 3) z[i] = kind > LLM_LOSS_FUNCTION_POISSON ? t[i] : 0.0f; /* on the kink */
        if (i % 7 == 3 && kind < LLM_LOSS_FUNCTION_POISSON) t[i] = 0.0f;
    }
    const float scale = -0.75f;
    float *want = floats(n), *dz = floats(n), *got = floats(n);
    memcpy(dz, before, n * sizeof *dz);
    const double sum = llm_loss_function_forward(want, z, t, weighted ? w : NULL, n, kind, c);
    llm_loss_function_backward(dz, z, t, weighted ? w : NULL, n, kind, c, scale);

    float *d_z = to_device(z, n), *d_t = to_device(t, n), *d_dz = to_device(before, n);
    float *d_w = weighted ? to_device(w, n) : NULL, *d_loss = to_device<float>(NULL, n);
    double *d_total = to_device<double>(NULL, 1), total[2] = {0, 0};
    double *scratch = to_device<double>(NULL, LLM_CUDA_LOSS_FUNCTION_BLOCKS);
    CHECK_CUDA(llm_cuda_loss_function(d_total, d_loss, d_dz, d_z, d_t, d_w, n, kind, c, scale,
                                      scratch, 0));
    /* a few roundings of float in each entry, of a size up to e^z; the sum adds them in double */
    from_device(loss, d_loss, n);
    from_device(got, d_dz, n);
    double size = 0.0;
    for (size_t i = 0; i < n; i++) {
        const double unit = 2e-6 * (1.0 + fabs((double)want[i]));
        CHECK_NEAR(loss[i], want[i], unit);
        CHECK_NEAR(got[i], dz[i], 2e-6 * (1.0 + fabs((double)dz[i])));
        size += unit;
    }
    from_device(total, d_total, 1);
    CHECK_NEAR(total[0], sum, size);
    float *none = NULL;
    if (many) return;
    CHECK_CUDA(
        llm_cuda_loss_function(d_total, none, none, d_z, d_t, d_w, n, kind, c, scale, scratch, 0));
    from_device(total + 1, d_total, 1);
    CHECK(total[0] == total[1]); /* the same bits again */
}

TEST(loss_function, "every loss, its gradient and the sum equal the reference") {
    const size_t sizes[3] = {1, 3, 1031};
    for (int kind = LLM_LOSS_FUNCTION_SQUARED; kind <= LLM_LOSS_FUNCTION_RAMP; kind++)
        for (size_t s = 0; s < (TEST_SLOW ? 2 : 3); s++)
            check_loss_function((llm_loss_function)kind, 0.7f, sizes[s], (s + (size_t)kind) % 2,
                                false);
}

TEST(loss_function, "more entries than threads") {
    if (TEST_SLOW) return;
    check_loss_function(LLM_LOSS_FUNCTION_HUBER, 1.0f, LLM_CUDA_LOSS_FUNCTION_BLOCKS * 256 + 77,
                        true, true);
}

TEST(loss_function, "huge, NaN, nothing, and a loss that is not there") {
    const float z[4] = {-1e4f, 1e4f, NAN, INFINITY}, t[4] = {1, 1, 1, 1};
    float *d_z = to_device(z, 4), *d_t = to_device(t, 4), *d_loss = to_device(z, 4), *none = NULL;
    float *d_dz = to_device(zeros(4), 4), got[4], slope[4];
    double *d_total = to_device<double>(NULL, 1), total = 1.0;
    double *scratch = to_device<double>(NULL, LLM_CUDA_LOSS_FUNCTION_BLOCKS);
    for (int kind = LLM_LOSS_FUNCTION_SQUARED; kind <= LLM_LOSS_FUNCTION_RAMP; kind++) {
        CHECK_CUDA(cudaMemset(d_dz, 0, 4 * sizeof(float)));
        CHECK_CUDA(llm_cuda_loss_function(d_total, d_loss, d_dz, d_z, d_t, none, 4,
                                          (llm_loss_function)kind, 0.5f, 1.0f, scratch, 0));
        from_device(got, d_loss, 4);
        from_device(slope, d_dz, 4);
        CHECK(isnan(got[2]) && isnan(slope[2]));
        if (kind == LLM_LOSS_FUNCTION_LOGISTIC) {
            CHECK(got[0] == 1e4f && slope[0] == -1.0f); /* no overflow */
            CHECK(got[1] == 0.0f && slope[1] == 0.0f && got[3] == 0.0f && slope[3] == 0.0f);
        }
        if (kind == LLM_LOSS_FUNCTION_LOG_COSH) {
            CHECK_NEAR(got[0], 10001.0 - log(2.0), 1e-3);
            CHECK(slope[0] == -1.0f && slope[3] == 1.0f);
        }
    }
    CHECK_CUDA(llm_cuda_loss_function(d_total, none, none, none, none, none, 0,
                                      LLM_LOSS_FUNCTION_HUBER, 1.0f, 1.0f, scratch, 0));
    CHECK(*from_device(&total, d_total, 1) == 0.0);
    CHECK(llm_cuda_loss_function(d_total, none, none, d_z, d_t, none, 4, (llm_loss_function)13,
                                 1.0f, 1.0f, scratch, 0) == cudaErrorInvalidValue);
}

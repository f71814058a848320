/* @gradient_descent */
#include "../test.h"

#include "../../llm_cuda.cuh"

#include "../tiny_optim_cuda.h"

TEST(gradient_descent, "51 tensors in two launches step as llm_gradient_descent_step") {
    const auto step = [](const auto *tensor, size_t count, size_t t, const float *factor) {
        return llm_cuda_gradient_descent_step(tensor, count, 0.1f, t, factor, 7, 0);
    };
    optim_check_all<float>((size_t)OPTIM_TENSORS, false, false, 1e-6f, step,
                           [](float *w, float *, float *, const float *g, size_t n, bool, size_t) {
                               llm_gradient_descent_step(w, g, n, 0.1f);
                           });
    CHECK_BYTES(optim_bytes<float>(false, false, step), 12);
}

TEST(gradient_descent, "random rounding takes the neighbours, and is right in the mean") {
    enum { N = 20000 };
    float *w = floats(N), *g = floats(N), *got = floats(N);
    for (size_t i = 0; i < N; i++) w[i] = 1.0f, g[i] = -1.0f / 512.0f; /* 1/4 of the next step up */
    llm_cuda_gradient_descent_tensor<llm_bf16> t;
    t.w = to_device_as<llm_bf16>(w, N), t.master = t.m = t.v = NULL, t.g = to_device(g, N);
    t.n = N, t.decay = false;
    for (size_t k = 0; k < 2; k++) {
        CHECK_CUDA(llm_cuda_gradient_descent_step(&t, (size_t)1, 1.0f, (size_t)1,
                                                  (const float *)NULL, 9 + k, 0));
        from_device_as(got, t.w, N);
        double mean = 0.0;
        for (size_t i = 0; i < N; i++) {
            CHECK(got[i] >= 1.0f && fmodf(got[i] * 128.0f, 1.0f) == 0.0f);
            mean += (double)got[i] / N;
        }
        CHECK_NEAR(mean, 1.0 + (double)(k + 1) / 512.0, 4.0 * 0.5 / 128.0 * sqrt(2.0 / N));
    }
    CHECK(llm_cuda_gradient_descent_round(INFINITY, 0xffffffffu) == INFINITY);
    CHECK(isnan(llm_cuda_gradient_descent_round(NAN, 0xffffffffu)));
}

TEST(gradient_descent, "a factor that is not finite leaves everything; no tensor is no launch") {
    float w[3] = {1.0f, 2.0f, 3.0f}, g[3] = {NAN, 1.0f, 1.0f}, got[3];
    const float bad = NAN;
    llm_cuda_gradient_descent_tensor<float> t;
    t.w = to_device(w, 3), t.master = t.m = t.v = NULL, t.g = to_device(g, 3), t.n = 3;
    t.decay = true;
    CHECK_CUDA(
        llm_cuda_gradient_descent_step(&t, (size_t)1, 0.1f, (size_t)1, to_device(&bad, 1), 0, 0));
    CHECK_ALL_NEAR(from_device(got, t.w, 3), w, 3, 0.0f);
    CHECK_CUDA(
        llm_cuda_gradient_descent_step(&t, (size_t)0, 0.1f, (size_t)1, (const float *)NULL, 0, 0));
}

/* @adam */
#include "../test.h"

#include "../../llm_cuda.cuh"

#include "../tiny_optim_cuda.h"

TEST(adam, "five tensors step as Adam, Adamax, NAdam and RAdam of the reference") {
    for (int k = 0; k < (TEST_SLOW ? 1 : 6); k++) {
        const int kind = k < 4 ? k : k == 4 ? LLM_CUDA_ADAM : LLM_CUDA_ADAM_RECTIFIED;
        llm_adam_config c = llm_adam_defaults();
        c.lr = 0.01f, c.weight_decay = 0.3f, c.maximize = k == 2,
        c.eps_root = k == 4 ? 1e-3f : 0.0f;
        c.beta2 = 0.95f;
        const size_t late = k == 5 ? 20 : 0; /* RAdam's trust begins at step 6 */
        double product = 1.0, *const device = &product;
        const auto step = [c, kind, late, device](const auto *tensor, size_t count, size_t t,
                                                  const float *factor) {
            if (t == 1) *device = 1.0;
            return llm_cuda_adam_step(tensor, count, kind, &c, t + late, device, factor, 7, 0);
        };
        optim_check_all<float>(5, true, true, 5e-6f, step,
                               [c, kind, late](float *w, float *m, float *v, const float *g,
                                               size_t n, bool decay, size_t t) {
                                   llm_adam_config own = c;
                                   double before = 1.0;
                                   if (!decay) own.weight_decay = 0.0f;
                                   if (kind == LLM_CUDA_ADAM)
                                       llm_adam_step(w, m, v, NULL, g, n, &own, t);
                                   if (kind == LLM_CUDA_ADAM_MAX)
                                       llm_adam_max_step(w, m, v, g, n, &own, t);
                                   if (kind == LLM_CUDA_ADAM_RECTIFIED)
                                       llm_adam_rectified_step(w, m, v, g, n, &own, t + late);
                                   if (kind != LLM_CUDA_ADAM_NESTEROV) return;
                                   /* one product a step, not a tensor: computed anew each time */
                                   for (size_t s = 1; s < t; s++)
                                       before *= 0.9f * (1.0 - 0.5 * pow(0.96, (double)s * 0.004f));
                                   llm_adam_nesterov_step(w, m, v, g, n, &own, t, &before);
                               });
        CHECK_BYTES(optim_bytes<float>(true, true, step), 28);
    }
    const llm_adam_config c = llm_adam_defaults();
    const llm_cuda_gradient_descent_tensor<float> *none = NULL;
    CHECK(llm_cuda_adam_step(none, (size_t)0, LLM_CUDA_ADAM_NESTEROV, &c, (size_t)1, NULL,
                             (const float *)NULL, 0, 0) == cudaErrorInvalidValue);
    CHECK(llm_cuda_adam_step(none, (size_t)0, LLM_CUDA_ADAM, &c, (size_t)0, NULL,
                             (const float *)NULL, 0, 0) == cudaErrorInvalidValue);
}

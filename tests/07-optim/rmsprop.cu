/* @rmsprop */
#include "../test.h"

#include "../../llm_cuda.cuh"

#include "../tiny_optim_cuda.h"

TEST(rmsprop, "five tensors step as llm_rmsprop_step, with each option") {
    for (int k = 0; k < (TEST_SLOW ? 1 : 4); k++) {
        llm_rmsprop_config c = llm_rmsprop_defaults();
        c.lr = 0.01f, c.alpha = 0.9f, c.weight_decay = 0.3f, c.eps = 1e-3f, c.centered = k == 1;
        c.momentum = k == 2 ? 0.7f : 0.0f, c.eps_inside = k == 3, c.maximize = k == 3;
        const bool has_m = k == 1 || k == 2;
        const auto step = [c](const auto *tensor, size_t count, size_t t, const float *factor) {
            return llm_cuda_rmsprop_step(tensor, count, &c, t, factor, 7, 0);
        };
        optim_check_all<float>(
            5, has_m, true, 1e-5f, step,
            [c](float *w, float *m, float *v, const float *g, size_t n, bool decay, size_t) {
                llm_rmsprop_config own = c;
                if (!decay) own.weight_decay = 0.0f;
                llm_rmsprop_step(w, v, m, m, g, n, &own);
            });
        CHECK_BYTES(optim_bytes<float>(has_m, true, step), has_m ? (size_t)28 : (size_t)20);
    }
    llm_rmsprop_config both = llm_rmsprop_defaults();
    both.centered = true, both.momentum = 0.5f;
    CHECK(llm_cuda_rmsprop_step((const llm_cuda_gradient_descent_tensor<float> *)NULL, (size_t)0,
                                &both, (size_t)1, (const float *)NULL, 0,
                                0) == cudaErrorInvalidValue);
}

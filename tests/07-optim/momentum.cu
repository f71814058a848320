/* @momentum */
#include "../test.h"

#include "../../llm_cuda.cuh"

#include "../tiny_optim_cuda.h"

TEST(momentum, "five tensors step as llm_momentum_step, with each option") {
    for (int k = 0; k < (TEST_SLOW ? 1 : 3); k++) {
        llm_momentum_config c = llm_momentum_defaults();
        c.lr = 0.1f, c.weight_decay = 0.3f, c.nesterov = k == 1, c.maximize = k == 2;
        c.dampening = k == 2 ? 0.4f : 0.0f;
        const auto step = [c](const auto *tensor, size_t count, size_t t, const float *factor) {
            return llm_cuda_momentum_step(tensor, count, &c, t, factor, 7, 0);
        };
        optim_check_all<float>(
            5, true, false, 2e-6f, step,
            [c](float *w, float *m, float *, const float *g, size_t n, bool decay, size_t t) {
                llm_momentum_config own = c;
                if (!decay) own.weight_decay = 0.0f;
                llm_momentum_step(w, m, g, n, &own, t);
            });
        CHECK_BYTES(optim_bytes<float>(true, false, step), 20);
    }
}

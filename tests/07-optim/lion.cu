/* @lion */
#include "../test.h"

#include "../../llm_cuda.cuh"

#include "../tiny_optim_cuda.h"

TEST(lion, "five tensors step as llm_lion_step, momentum in float and in bfloat16") {
    llm_lion_config c = llm_lion_defaults();
    c.lr = 0.01f, c.weight_decay = 0.3f;
    const auto step = [c](const auto *tensor, size_t count, size_t t, const float *factor) {
        return llm_cuda_lion_step(tensor, count, &c, t, factor, 7, 0);
    };
    const auto own = [c](float *w, float *m, float *, const float *g, size_t n, bool decay,
                         size_t) {
        llm_lion_config mine = c;
        if (!decay) mine.weight_decay = 0.0f;
        llm_lion_step(w, m, g, n, &mine);
    };
    optim_check_all<float>(5, true, false, 1e-6f, step, own);
    optim_check_all<llm_bf16>(5, true, false, 1e-6f, step, own);
    CHECK_BYTES(optim_bytes<float>(true, false, step), 20);
    CHECK_BYTES(optim_bytes<llm_bf16>(true, false, step), 16);
    c.cautious = true;
    CHECK(llm_cuda_lion_step((const llm_cuda_gradient_descent_tensor<float> *)NULL, (size_t)0, &c,
                             (size_t)1, (const float *)NULL, 0, 0) == cudaErrorInvalidValue);
}
